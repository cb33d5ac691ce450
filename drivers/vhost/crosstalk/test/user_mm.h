/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _CROSSTALK_TEST_USER_MM_H
#define _CROSSTALK_TEST_USER_MM_H

#include <linux/atomic.h>
#include <linux/sched/mm.h>

/*
 * KUnit gives the test's thread an address space that ends with the thread, but
 * takes one reference to its mm_struct too many (kthread_use_mm()'s own).
 */
static inline void drop_extra_reference(struct mm_struct *mm)
{
	if (atomic_read(&mm->mm_count) > 1)
		mmdrop(mm);
}

#endif /* _CROSSTALK_TEST_USER_MM_H */
