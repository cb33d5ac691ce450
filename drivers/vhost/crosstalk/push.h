/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _CROSSTALK_PUSH_H
#define _CROSSTALK_PUSH_H

#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/list.h>
#include <linux/types.h>

#include "vring_remote.h"

struct crosstalk_chain;
struct crosstalk_endpoint;
struct crosstalk_frame;
struct crosstalk_route;
struct crosstalk_verdict;
struct eventfd_ctx;

/* After this much is placed the queue is closed: preemption was off. */
#define CROSSTALK_PUSH_BYTES (128 << 10)

/* What became of a frame that was to be placed in a receiver's buffers. */
enum crosstalk_push_result {
	CROSSTALK_PUSH_OK,	/* it is there, and seen at the latest by close */
	CROSSTALK_PUSH_WAIT,	/* no buffers, or pages to fill: park */
	CROSSTALK_PUSH_BUSY,	/* others hold the receiver's queue */
	CROSSTALK_PUSH_SLOW,	/* this receiver cannot have frames now */
	CROSSTALK_PUSH_UNFIT,	/* this receiver cannot have this frame */
	CROSSTALK_PUSH_HELD,	/* its flow has just been put on the slow path */
	CROSSTALK_PUSH_FAULT,	/* the sender's memory must be faulted in */
	CROSSTALK_PUSH_COPY,	/* not to be remapped (inside push.c) */
};

/**
 * struct crosstalk_push - the sending side of the direct path
 * @peer: receiver whose queue is open, or NULL; between open and close RCU is
 * held, its rx->mutex is held, its mirror is locked, page faults are disabled
 * @route: by which it was opened; kept by RCU, and by its verdict while a frame
 * of it is placed
 * @bytes: placed since the queue was opened
 * @frames: the same in frames
 * @unseen: frames placed since the used index was published
 * @rx: the open queue
 *
 * Part of the sender's endpoint; protected by its tx->mutex.
 */
struct crosstalk_push {
	struct crosstalk_endpoint *peer;
	const struct crosstalk_route *route;
	size_t bytes;
	unsigned int frames;
	unsigned int unseen;
	struct crosstalk_rx rx;
};

/**
 * struct crosstalk_park - a sender that waits for a receiver
 * @entry: in the receiver's list of waiters; park.c's lock
 * @kick: the sender's own kick eventfd: signalling it runs the sender's queue,
 * and needs no access to the sender's device (tx->mutex; a reference)
 * @timer: ends the wait
 * @since: when the wait for the frame at the head began, 0 for no wait; ns
 */
struct crosstalk_park {
	struct list_head entry;
	struct eventfd_ctx *kick;
	struct hrtimer timer;
	u64 since;
};

enum crosstalk_push_result
crosstalk_push_open(struct crosstalk_endpoint *ep,
		    const struct crosstalk_route *route);
enum crosstalk_push_result
crosstalk_push_frame(struct crosstalk_endpoint *ep,
		     const struct crosstalk_frame *frame,
		     const struct crosstalk_chain *chain,
		     struct crosstalk_verdict *v);
void __crosstalk_push_close(struct crosstalk_endpoint *ep);
bool crosstalk_push_backlog(const struct crosstalk_push *push);
void crosstalk_push_prepare(struct crosstalk_endpoint *ep);

void crosstalk_park_init(struct crosstalk_endpoint *ep);
void crosstalk_park_destroy(struct crosstalk_endpoint *ep);
bool __crosstalk_park_prepare(struct crosstalk_park *park, struct file *file);
bool crosstalk_park(struct crosstalk_endpoint *ep,
		    struct crosstalk_endpoint *peer, const char *why);
bool crosstalk_park_for(struct crosstalk_endpoint *ep, u64 ns);
bool crosstalk_park_expired(struct crosstalk_endpoint *ep);
void crosstalk_unpark(struct crosstalk_endpoint *peer);

/**
 * crosstalk_park_prepare() - see to it that a sender can be woken
 * @park: the sender's
 * @file: its kick eventfd, or NULL
 *
 * Context: the sender's worker, tx->mutex held, no queue open; may sleep.
 * Return: whether it can; if not it must never park.
 */
static inline bool crosstalk_park_prepare(struct crosstalk_park *park,
					  struct file *file)
{
	/* By the context, to which we hold a reference: files are used again. */
	if (likely(park->kick && file && file->private_data == park->kick))
		return true;
	return __crosstalk_park_prepare(park, file);
}

/**
 * crosstalk_push_full() - whether an open queue should be closed for a moment
 * @push: open
 *
 * Return: true after so many bytes that others want to run.
 */
static inline bool crosstalk_push_full(const struct crosstalk_push *push)
{
	return push->bytes >= CROSSTALK_PUSH_BYTES;
}

#endif /* _CROSSTALK_PUSH_H */
