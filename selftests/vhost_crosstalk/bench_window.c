// SPDX-License-Identifier: GPL-2.0
/*
 * How far counters get in some time: for what runs on its own, as real guests
 * do. Prints that time in nanoseconds, and by how much the number in each of the
 * files has grown.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

#define FILES	16

static u64 number(const char *path)
{
	FILE *f = fopen(path, "r");
	u64 n;

	if (!f || fscanf(f, "%llu", &n) != 1)
		bench_die(path);
	fclose(f);
	return n;
}

int main(int argc, char **argv)
{
	struct sched_param first = { .sched_priority = 1 };
	u64 before[FILES], after[FILES], from, ns;
	unsigned int i, n = argc - 2;

	if (argc < 3 || n > FILES || atoi(argv[1]) <= 0) {
		fprintf(stderr, "Usage: bench_window MILLISECONDS FILE...\n");
		return 2;
	}
	/* Nothing else runs between the marks and the counters. */
	if (sched_setscheduler(0, SCHED_FIFO, &first))
		bench_die("SCHED_FIFO");
	for (i = 0; i < n; i++)
		before[i] = number(argv[i + 2]);
	from = vp_now_ns();
	bench_mark_begin();
	vp_sleep_ms(atoi(argv[1]));
	bench_mark_end();
	ns = vp_now_ns() - from;
	for (i = 0; i < n; i++)
		after[i] = number(argv[i + 2]);
	printf("%llu", ns);
	for (i = 0; i < n; i++)
		printf(" %llu", after[i] - before[i]);
	printf("\n");
	return 0;
}
