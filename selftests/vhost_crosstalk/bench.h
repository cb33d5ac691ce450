/* SPDX-License-Identifier: GPL-2.0 */
/* What the programs that measure have in common. */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>

#include "vpeer.h"

void bench_die(const char *what);	/* ends the process; says errno */

/* Of what is between these two scripts/bench-count.c counts the instructions. */
void bench_mark_begin(void);
void bench_mark_end(void);

u64 bench_busy_ns(void);	/* how long all processors were busy */

/* An eventfd that sleeps when it is read. */
void bench_blocking(int fd);
void bench_sleep_on(int fd);
void bench_wake(int fd);

/*
 * A window of frames that are under way keeps every queue from overflowing.
 * Shared by who sends and who receives.
 */
struct bench_credit {
	u64 sent, rcvd;		/* frames */
	u64 wake_at;		/* what rcvd has to reach while waiting is set */
	bool waiting;
};

void bench_credit_received(struct bench_credit *c, int fd, u64 rcvd);
void bench_credit_wait(struct bench_credit *c, int fd, u64 rcvd);
/* Calls @send until @target frames were sent, and waits for the last one. */
void bench_credit_stream(struct bench_credit *c, int fd, u64 target,
			 u32 window, void (*send)(unsigned int n));

#endif
