/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _CROSSTALK_VRING_REMOTE_H
#define _CROSSTALK_VRING_REMOTE_H

#include "mirror.h"
#include "vhost_private.h"

/*
 * A frame of 64 KiB in buffers of 1,536 bytes takes 43 chains, each of which
 * may lie on two pages.  A receiver whose buffers are smaller than that gets
 * its large frames by the slow path.
 */
#define CROSSTALK_RX_CHAINS 64
#define CROSSTALK_RX_PIECES 160

/*
 * Descriptors that are read for one frame, with preemption off: a guest can post
 * chains of empty ones without end.
 */
#define CROSSTALK_RX_DESCS 1024

/* What became of an access to a receiver's ring. */
enum crosstalk_rx_result {
	CROSSTALK_RX_OK,
	CROSSTALK_RX_EMPTY,	/* not enough buffers for the frame */
	CROSSTALK_RX_MISSING,	/* a page is not mirrored: its owner must fill */
	CROSSTALK_RX_TOO_LARGE,	/* the frame fits no buffer of this receiver */
	CROSSTALK_RX_BAD,	/* the ring is broken: vhost will say so */
};

/* A stretch of a receive buffer in the kernel's direct map. */
struct crosstalk_rx_piece {
	void *addr;
	u32 len;
};

/* A chain that was reserved, and where its used element goes. */
struct crosstalk_rx_chain {
	__virtio32 *used_id;
	__virtio32 *used_len;
	u16 head;
	u32 len;
};

/* Pages of the largest table of a ring of 1,024, wherever it begins. */
#define CROSSTALK_RX_TABLE_PAGES 5

/* Where a ring's tables are in the direct map. */
enum crosstalk_rx_layout {
	CROSSTALK_RX_FAR,	/* in more pages than are kept */
	CROSSTALK_RX_PAGED,	/* in known pages */
	CROSSTALK_RX_FLAT,	/* each in one stretch */
};

/* A table of the ring, in pages that need not follow one another. */
struct crosstalk_rx_table {
	void *page[CROSSTALK_RX_TABLE_PAGES];
	unsigned int skip;	/* bytes before it in the first one */
};

/**
 * struct crosstalk_rx_ring - where a receiver's RX ring is in the direct map
 *
 * Part of the receiver's endpoint (its rx->mutex).  Holds from one opening to
 * the next as long as the ring has not moved and its mirror has lost no page.
 */
struct crosstalk_rx_ring {
	const struct crosstalk_mirror *mirror;	/* NULL: nothing is known */
	unsigned long changes;			/* the mirror's, at that time */
	const void __user *desc_addr;
	const void __user *avail_addr;
	const void __user *used_addr;
	unsigned int num;

	struct crosstalk_mirror_cursor desc;
	struct crosstalk_mirror_cursor avail;
	struct crosstalk_mirror_cursor used;
	struct crosstalk_mirror_area data;

	/* The tables, if they are CROSSTALK_RX_FLAT. */
	enum crosstalk_rx_layout layout;
	const struct vring_desc *descs;
	const __virtio16 *heads;
	struct vring_used_elem *elems;

	__virtio16 *avail_flags;
	__virtio16 *avail_idx;
	__virtio16 *used_event;
	__virtio16 *used_flags;
	__virtio16 *used_idx;
	__virtio16 *avail_event;

	/* The same if they are CROSSTALK_RX_PAGED. */
	struct crosstalk_rx_table desc_table;
	struct crosstalk_rx_table head_table;
	struct crosstalk_rx_table elem_table;
};

/**
 * struct crosstalk_rx - a receiver's RX ring in the hands of a sender
 *
 * Lives in the sender's endpoint (its tx->mutex).  From crosstalk_rx_open() on,
 * until its owner (push.c) closes it, the receiver's rx->mutex is held, its
 * mirror is locked for reading, and nothing sleeps or faults.
 */
struct crosstalk_rx {
	struct vhost_net_virtqueue *nvq;
	struct crosstalk_mirror *mirror;
	const struct vhost_iotlb_map *map;
	struct crosstalk_rx_ring *ring;
	unsigned long missing;	/* user address that was not mirrored */
	bool unpublished;	/* used elements that used->idx does not tell */
	bool unsignalled;	/* ... that the guest was not interrupted for */

	/* The frame that is being placed. */
	unsigned int left;	/* descriptors that may still be read for it */
	size_t want;		/* bytes that still need room */
	unsigned int nr_chains;
	unsigned int nr_pieces;
	bool unmirrored;	/* pieces have user addresses */
	struct crosstalk_rx_chain chains[CROSSTALK_RX_CHAINS];
	struct crosstalk_rx_piece pieces[CROSSTALK_RX_PIECES];
};

enum crosstalk_rx_result crosstalk_rx_open(struct crosstalk_rx *rx,
					   struct crosstalk_rx_ring *ring,
					   struct vhost_net_virtqueue *nvq,
					   struct crosstalk_mirror *mirror);
enum crosstalk_rx_result crosstalk_rx_reserve(struct crosstalk_rx *rx,
					      size_t len);
void crosstalk_rx_begin(struct crosstalk_rx *rx);
void crosstalk_rx_end(struct crosstalk_rx *rx);
enum crosstalk_rx_result crosstalk_rx_more(struct crosstalk_rx *rx, size_t len);
enum crosstalk_rx_result crosstalk_rx_pages(struct crosstalk_rx *rx,
					    unsigned long *addr,
					    unsigned int nr);
bool crosstalk_rx_want_signal(struct crosstalk_rx *rx);
bool crosstalk_rx_enable_notify(struct crosstalk_rx *rx);

/**
 * crosstalk_rx_room() - chains that are known to be available
 * @rx: opened ring
 *
 * Context: as between open and close.
 * Return: how many, by the index that was read last.
 */
static inline unsigned int crosstalk_rx_room(const struct crosstalk_rx *rx)
{
	const struct vhost_virtqueue *vq = &rx->nvq->vq;

	return (u16)(vq->avail_idx - vq->last_avail_idx);
}

/**
 * crosstalk_rx_commit() - the reserved chains hold the frame
 * @rx: opened ring with a reservation
 *
 * The guest sees them with the next crosstalk_rx_publish().
 *
 * Context: as between open and close.
 */
static inline void crosstalk_rx_commit(struct crosstalk_rx *rx)
{
	struct vhost_virtqueue *vq = &rx->nvq->vq;
	u16 old = vq->last_used_idx;
	unsigned int i;

	for (i = 0; i < rx->nr_chains; i++) {
		const struct crosstalk_rx_chain *chain = &rx->chains[i];

		WRITE_ONCE(*chain->used_id, cpu_to_vq32(vq, chain->head));
		WRITE_ONCE(*chain->used_len, cpu_to_vq32(vq, chain->len));
	}

	vq->last_avail_idx += rx->nr_chains;
	vq->last_used_idx += rx->nr_chains;
	if (unlikely((u16)(vq->last_used_idx - vq->signalled_used) <
		     (u16)(vq->last_used_idx - old)))
		vq->signalled_used_valid = false;
	rx->unpublished = true;
	rx->unsignalled = true;
}

/**
 * crosstalk_rx_publish() - show the guest what was committed
 * @rx: opened ring
 *
 * Context: as between open and close.
 */
static inline void crosstalk_rx_publish(struct crosstalk_rx *rx)
{
	struct vhost_virtqueue *vq = &rx->nvq->vq;

	if (!rx->unpublished)
		return;

	/* Data and elements are there before the index says so. */
	smp_wmb();
	WRITE_ONCE(*rx->ring->used_idx, cpu_to_vq16(vq, vq->last_used_idx));
	rx->unpublished = false;
}

#endif /* _CROSSTALK_VRING_REMOTE_H */
