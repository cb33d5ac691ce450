/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What guestram offers to who remaps guests' pages: vhost_crosstalk.ko, which
 * gets it by symbol_get() when it meets guest RAM of this kind.
 */
#ifndef _CROSSTALK_GUESTRAM_SHARE_H
#define _CROSSTALK_GUESTRAM_SHARE_H

#include <linux/types.h>

#define GUESTRAM_MAGIC 0x4752414d	/* "GRAM" */

struct inode;
struct mm_struct;
struct page;
struct vm_area_struct;

/* Pages that are shared at a time: those of the largest frame. */
#define GUESTRAM_SHARE_MAX 16

/**
 * struct guestram_pair - a page whose contents go to another page
 * @from: file of the sender's page, held
 * @to: file of the receiver's page, held
 * @from_index: its place there
 * @to_index: its place there
 * @shared: on return, whether both have the same frame; otherwise it was copied
 * @from_touched: on return, whether the sender has touched its page since that
 * was last shared
 * @to_touched: the same of the receiver
 */
struct guestram_pair {
	struct inode *from;
	struct inode *to;
	pgoff_t from_index;
	pgoff_t to_index;
	bool shared;
	bool from_touched;
	bool to_touched;
};

/*
 * Changes with everything here.  symbol_get() compares no versions, and guestram
 * stays loaded under running machines while vhost_crosstalk.ko is replaced.
 */
#define GUESTRAM_SHARE_VERSION 2

/**
 * struct guestram_share_ops - sharing of pages
 * @version: GUESTRAM_SHARE_VERSION; first, and looked at first
 * @hold: the file behind a mapping, to be used until @release; NULL if it is
 * no shared one of guestram, or locked.  Its mmap_lock is held.
 * @release: of what @hold has returned
 * @share: gives pages @to the contents of pages @from.  Returns 0 when all are
 * done; -EAGAIN if some were in use, then any of @to may have its new contents
 * or its old.  Process context, may sleep.
 * @own: the page of a slot, to write to it; with a reference, which keeps it
 * from being shared.  @shared: whether that was another one before.  Memory is
 * charged to @mm.  NULL if there is none, or somebody is in the way.  Process
 * context, may sleep.
 */
struct guestram_share_ops {
	unsigned int version;
	struct inode *(*hold)(const struct vm_area_struct *vma);
	void (*release)(struct inode *inode);
	int (*share)(struct guestram_pair *pairs, unsigned int nr);
	struct page *(*own)(struct inode *inode, pgoff_t index,
			    struct mm_struct *mm, bool *shared);
};

extern const struct guestram_share_ops guestram_share_ops;

#endif /* _CROSSTALK_GUESTRAM_SHARE_H */
