/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A test program is a table of cases.  Each case runs in a process of its
 * own, in network and mount name spaces of its own and under a time limit,
 * so that one that crashes or hangs is a failure and leaves nothing behind.
 */
#ifndef KTAP_H
#define KTAP_H

#include <stdbool.h>
#include <stdio.h>

enum ktap_rc {
	KTAP_PASS = 0,
	KTAP_FAIL = 1,
	KTAP_SKIP = 4,
};

/*
 * A test that the running kernel has no use for, because it lacks what is
 * tested, is left out of the plan; a skip is for what a machine lacks.
 */
struct ktap_case {
	const char *name;
	void (*run)(void);
	unsigned int seconds;		/* time limit; 0: the default, 60 */
	bool slow;			/* quick runs leave it out, unless
					 * CROSSTALK_SLOW is set
					 */
	const char *(*lacks)(void);	/* what the kernel lacks, or NULL */
};

/* Runs all cases, or those that are named in argv; returns the exit status. */
int ktap_main(int argc, char **argv, const struct ktap_case *cases,
	      unsigned int n);

/* A line of diagnostics ("# ..."), from any process of the case. */
void ktap_msg(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* End the case (the calling process) with a verdict. */
void ktap_fail(const char *fmt, ...)
	__attribute__((format(printf, 1, 2), noreturn));
void ktap_skip(const char *fmt, ...)
	__attribute__((format(printf, 1, 2), noreturn));

/* Whoever waits for the results has no time for more: skip with this reason. */
#define KTAP_LATE	"no time was left"
bool ktap_is_late(void);

/* True when CROSSTALK_QUICK asks for the short form of long tests. */
bool ktap_quick(void);

/* A count from the environment, or its default (full, quick). */
unsigned int ktap_count(const char *env, unsigned int full, unsigned int quick);

#define ktap_assert(cond, fmt, ...)					\
	do {								\
		if (!(cond))						\
			ktap_fail("%s:%d: %s: " fmt, __FILE__, __LINE__, \
				  #cond, ##__VA_ARGS__);		\
	} while (0)

#endif
