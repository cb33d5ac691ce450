// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

void bench_die(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what,
		strerror(errno));
	exit(1);
}

void bench_mark_begin(void)
{
	__asm__ volatile("nopl 0x76634231(%%rax)" : : : "memory");
}

void bench_mark_end(void)
{
	__asm__ volatile("nopl 0x76634232(%%rax)" : : : "memory");
}

/* A CPU tells when it switches tasks. */
u64 bench_busy_ns(void)
{
	u64 sum = 0, ns;
	char line[256];
	FILE *f;

	vp_sleep_ms(1);
	f = fopen("/proc/schedstat", "r");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "cpu%*u %*u %*u %*u %*u %*u %*u %llu",
			   &ns) == 1)
			sum += ns;
	if (f)
		fclose(f);
	return sum;
}

void bench_blocking(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
}

void bench_sleep_on(int fd)
{
	u64 n;

	if (read(fd, &n, sizeof(n)) < 0 && errno != EINTR)
		bench_die("read");
}

void bench_wake(int fd)
{
	u64 one = 1;

	if (write(fd, &one, sizeof(one)) < 0)
		bench_die("write");
}

void bench_credit_received(struct bench_credit *c, int fd, u64 rcvd)
{
	__atomic_store_n(&c->rcvd, rcvd, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&c->waiting, __ATOMIC_SEQ_CST) &&
	    rcvd >= READ_ONCE(c->wake_at)) {
		WRITE_ONCE(c->waiting, false);
		bench_wake(fd);
	}
}

void bench_credit_wait(struct bench_credit *c, int fd, u64 rcvd)
{
	WRITE_ONCE(c->wake_at, rcvd);
	__atomic_store_n(&c->waiting, true, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&c->rcvd, __ATOMIC_SEQ_CST) < rcvd)
		bench_sleep_on(fd);
}

void bench_credit_stream(struct bench_credit *c, int fd, u64 target,
			 u32 window, void (*send)(unsigned int n))
{
	while (c->sent < target) {
		u64 can = window - (c->sent - READ_ONCE(c->rcvd));

		can = vp_min(can, target - c->sent);
		if (can) {
			WRITE_ONCE(c->sent, c->sent + can);
			send(can);
			continue;
		}
		bench_credit_wait(c, fd, c->sent - window / 2);
	}
	while (READ_ONCE(c->rcvd) < target)
		bench_credit_wait(c, fd, target);
}
