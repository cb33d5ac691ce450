/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _CROSSTALK_REMAP_H
#define _CROSSTALK_REMAP_H

#include <linux/types.h>

#include "guestram/share.h"

struct crosstalk_chain;
struct crosstalk_endpoint;
struct crosstalk_frame;

/* Runs of bytes and runs of pages that a frame may be made of. */
#define CROSSTALK_REMAP_PARTS 8

/**
 * struct crosstalk_remap_pair - how remapping does from one VM to another
 * @pages: pages since the last judgement
 * @costs: times that one of them was touched, or had to be copied after all, and
 * pages that had to be unshared for what is copied beside
 * @rest: frames that are copied before it is tried again
 * @epoch: in which it is known; another one begins when the mode is set
 * @backoff: how often in a row it did not pay
 *
 * Part of a verdict; tx->mutex.
 */
struct crosstalk_remap_pair {
	u32 pages;
	u32 costs;
	u32 rest;
	u16 epoch;
	u8 backoff;
};

/* A stretch of a frame: bytes to be copied, or whole pages. */
struct crosstalk_remap_part {
	u32 skip;		/* where it begins in the sender's chain */
	u32 len;
	bool whole;		/* pages */
};

/* Pages that the bytes beside whole pages go to. */
#define CROSSTALK_REMAP_PIECES 16

/* Bytes of a receive buffer, in one page; @page while that has our reference. */
struct crosstalk_remap_piece {
	unsigned long addr;	/* user address */
	u32 len;
	struct inode *inode;
	pgoff_t index;
	struct page *page;
};

/**
 * struct crosstalk_remap - a frame whose pages are to be remapped
 * @part: its stretches in order; the first one has the headers
 * @nr_parts: how many
 * @nr_pages: whole pages in all of them
 * @head: bytes of the first part that are taken from the parsed beginning
 * @from: user addresses of the pages in the sender
 * @to: the same in the receiver
 * @pairs: what guestram is asked for
 * @pieces: where what is no whole page goes, in order
 * @nr_pieces: how many
 * @nr_owned: of those, how many have a page
 * @held: files that are held
 * @nr_held: how many
 * @shared: pages of the frame at hand that were not copied
 * @copy_next: the next frame is copied, because this one could not be remapped
 *
 * Part of the sender's endpoint; tx->mutex.
 */
struct crosstalk_remap {
	struct crosstalk_remap_part part[CROSSTALK_REMAP_PARTS];
	unsigned int nr_parts;
	unsigned int nr_pages;
	unsigned int head;
	unsigned long from[GUESTRAM_SHARE_MAX];
	unsigned long to[GUESTRAM_SHARE_MAX];
	struct guestram_pair pairs[GUESTRAM_SHARE_MAX];
	struct crosstalk_remap_piece pieces[CROSSTALK_REMAP_PIECES];
	unsigned int nr_pieces;
	unsigned int nr_owned;
	struct inode *held[2 * GUESTRAM_SHARE_MAX + CROSSTALK_REMAP_PIECES];
	unsigned int nr_held;
	unsigned int shared;
	bool copy_next;
};

bool crosstalk_remap_scan(struct crosstalk_endpoint *ep,
			  const struct crosstalk_frame *frame,
			  const struct crosstalk_chain *chain,
			  struct crosstalk_remap_pair *pair);
bool crosstalk_remap_share(struct crosstalk_endpoint *ep,
			   struct crosstalk_endpoint *peer,
			   struct crosstalk_remap_pair *pair);
void crosstalk_remap_disown(struct crosstalk_endpoint *ep);
void crosstalk_remap_changed(void);
void crosstalk_remap_exit(void);

#endif /* _CROSSTALK_REMAP_H */
