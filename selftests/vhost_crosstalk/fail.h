/* SPDX-License-Identifier: GPL-2.0 */
/* Allocations of the calling task that fail. */
#ifndef FAIL_H
#define FAIL_H

#include <stdbool.h>

#define FAIL_SLAB	"failslab"
#define FAIL_PAGES	"fail_page_alloc"

const char *fail_lacks(void);		/* what the kernel lacks, or NULL */
void fail_setup(const char *kind);	/* all of this kind may fail */
void fail_open(void);			/* this task's are meant from now on */
void fail_nth(unsigned int nth);	/* the @nth from now on; 0: none */
bool failed_nth(void);			/* has it come to that?  None, then */

#endif
