// SPDX-License-Identifier: GPL-2.0
/*
 * One frame on the direct path: look at it, ask for the verdict, place it.
 *
 * Order within a flow
 * -------------------
 * A verdict is also the flow's memory of the path that it took.  Fast to slow
 * needs nothing: what was placed is there before the next frame is sent.  Slow
 * to fast must not overtake: what this endpoint still batches is sent, then it
 * rests until its last slow frame, of whatever flow, is SETTLE_NS old, by when
 * that has left backlogs, until no queueing discipline on its way has frames or
 * runs, and until the tap's ring is seen empty with the receiver's mutex held.
 * Frames that go the slow path without being looked at (the direct path is
 * switched off, or vhost-net's own loop runs) count for every flow: ep->blind.
 * Of a receiver with several queues each has a verdict, and so a memory, of its
 * own; frames that go slow before their queue is known count for all of them.
 */

#include <linux/etherdevice.h>
#include <linux/if_vlan.h>
#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/pagemap.h>
#include <linux/uaccess.h>

#include "backend.h"
#include "detect.h"
#include "endpoint.h"
#include "forward.h"
#include "frame.h"
#include "push.h"
#include "queue.h"
#include "vring.h"

#include <trace/events/vhost_crosstalk.h>

/*
 * How often a flow may come back to the direct path within how long, before one
 * more frame that its receiver cannot have keeps it on the slow path, and for
 * how long; twice as long each time in a row.
 */
#define CHANGES_MAX 64
#define CHANGES_TIME (HZ / 10)
#define UNFIT_TIME (HZ / 10)
#define UNFIT_BACKOFF_MAX 5

/* The same for a receiver that stalls; twice as long each time in a row. */
#define STALL_TIME (HZ / 100 ?: 1)
#define STALL_BACKOFF_MAX 6

/* What a frame may take from a tap's write to the receiver's tap; ns. */
#define SETTLE_NS NSEC_PER_MSEC

static_assert(offsetof(struct crosstalk_frame, head) ==
	      sizeof(struct virtio_net_hdr_mrg_rxbuf));

/* What peek_words() reads. */
#define PEEK_WORDS 4

static_assert(PEEK_WORDS * sizeof(u64) ==
	      sizeof(struct virtio_net_hdr_mrg_rxbuf) + CROSSTALK_FRAME_PEEK);

/* The usual: virtio-net header and Ethernet header lie in one buffer. */
static bool peek_words(const struct iovec *iov, struct crosstalk_frame *frame)
{
	const u64 __user *from = iov->iov_base;
	u64 *to = (u64 *)&frame->vnet;

	if (!user_read_access_begin(from, PEEK_WORDS * sizeof(*from)))
		return false;
	unsafe_get_user(to[0], &from[0], fault);
	unsafe_get_user(to[1], &from[1], fault);
	unsafe_get_user(to[2], &from[2], fault);
	unsafe_get_user(to[3], &from[3], fault);
	user_read_access_end();
	frame->head_len = CROSSTALK_FRAME_PEEK;
	return true;

fault:
	user_read_access_end();
	return false;
}

/*
 * Part of the headers, for which @frame has room.  Not copy_from_user(): what it
 * finds out of the destination is known.
 */
static bool copy_head(const struct crosstalk_run *run,
		      const struct crosstalk_chain *chain, void *to,
		      size_t skip, size_t len)
{
	const struct iovec *iov = run->nvq->vq.iov;

	if (likely(iov->iov_len >= skip + len))
		return likely(access_ok(iov->iov_base, skip + len)) &&
		       !raw_copy_from_user(to, iov->iov_base + skip, len);
	return !crosstalk_copy_from_segments(to, iov, chain->out, skip, len);
}

/* Reads the frame's beginning, once, up to @want bytes from Ethernet on. */
static bool peek(const struct crosstalk_run *run,
		 const struct crosstalk_chain *chain,
		 struct crosstalk_frame *frame, unsigned int want)
{
	size_t hlen = run->nvq->sock_hlen;
	unsigned int have = frame->head_len;

	want = min3(want, frame->len, (unsigned int)sizeof(frame->head));
	if (want <= have)
		return true;

	frame->head_len = want;
	if (!have && !copy_head(run, chain, &frame->vnet, 0, hlen))
		return false;
	return copy_head(run, chain, frame->head + have, hlen + have,
			 want - have);
}

static bool read_frame(struct crosstalk_run *run,
		       const struct crosstalk_chain *chain,
		       struct crosstalk_frame *frame)
{
	const struct iovec *iov = run->nvq->vq.iov;
	size_t hlen = run->nvq->sock_hlen;

	frame->len = chain->out_len - hlen;
	frame->head_len = 0;
	if (likely(hlen == sizeof(frame->vnet) &&
		   iov->iov_len >= hlen + CROSSTALK_FRAME_PEEK)) {
		if (unlikely(!peek_words(iov, frame)))
			return false;
	} else if (!peek(run, chain, frame, CROSSTALK_FRAME_PEEK)) {
		return false;
	}
	if (frame->vnet.hdr.gso_type == VIRTIO_NET_HDR_GSO_NONE)
		return true;
	return peek(run, chain, frame, CROSSTALK_FRAME_HEAD);
}

/* With a queue open a fault is no error: close it, and read again. */
static bool read_frame_or_close(struct crosstalk_run *run,
				const struct crosstalk_chain *chain,
				struct crosstalk_frame *frame)
{
	if (likely(read_frame(run, chain, frame)))
		return true;
	if (!run->ep->push.peer)
		return false;

	crosstalk_push_close(run->ep);
	return read_frame(run, chain, frame);
}

/* Whether the way takes the frame as it is, neither cut nor dropped. */
static bool fits(const struct crosstalk_path *path,
		 const struct crosstalk_frame *frame)
{
	if (unlikely(frame->needs & ~path->features))
		return false;
	return frame->len <= (frame->gso ? path->max_gso_len : path->max_len);
}

static enum crosstalk_next go_slow(struct crosstalk_run *run,
				   struct crosstalk_verdict *v)
{
	/* Closed before the frame is sent: sending may sleep. */
	crosstalk_push_close(run->ep);
	/* If it waited, that is over; the next one has all its time. */
	run->ep->park.since = 0;
	v->slow = true;
	v->slow_packets++;
	return CROSSTALK_SLOW;
}

/*
 * Keeps a flow on the slow path for a while: to change to the direct path takes
 * time, and those who wait for it are other flows of the guest, too.
 */
static enum crosstalk_next hold(struct crosstalk_run *run,
				struct crosstalk_verdict *v,
				enum crosstalk_slow why, unsigned long time)
{
	WRITE_ONCE(v->held, why);
	WRITE_ONCE(v->held_until, jiffies + time);
	return go_slow(run, v);
}

static bool is_window_over(const struct crosstalk_verdict *v)
{
	return time_after(jiffies, v->window + CHANGES_TIME);
}

/* The flow comes back to the direct path, or one of its queues does. */
static void count_change(struct crosstalk_verdict *v)
{
	if (is_window_over(v)) {
		if (v->changes < CHANGES_MAX)
			v->flaps = 0;
		v->window = jiffies;
		v->changes = 0;
	}
	if (v->changes < U8_MAX)
		v->changes++;
}

static void note_change(struct crosstalk_verdict *v)
{
	v->slow = false;
	count_change(v);
}

static bool is_restless(const struct crosstalk_verdict *v)
{
	return unlikely(v->changes >= CHANGES_MAX) && !is_window_over(v);
}

/* A frame that the receiver cannot have: is it one of many? */
static enum crosstalk_next go_unfit(struct crosstalk_run *run,
				    struct crosstalk_verdict *v)
{
	unsigned long time = UNFIT_TIME << v->flaps;

	if (!is_restless(v))
		return go_slow(run, v);

	if (v->flaps < UNFIT_BACKOFF_MAX)
		v->flaps++;
	return hold(run, v, CROSSTALK_SLOW_UNFIT, time);
}

/* A receiver that let us wait for too long is asked ever less often. */
static enum crosstalk_next hold_stalled(struct crosstalk_run *run,
					struct crosstalk_verdict *v)
{
	unsigned long time = STALL_TIME << v->backoff;

	if (v->backoff < STALL_BACKOFF_MAX)
		v->backoff++;
	return hold(run, v, CROSSTALK_SLOW_STALLED, time);
}

static bool is_held(struct crosstalk_verdict *v)
{
	if (likely(!v->held))
		return false;
	if (time_before(jiffies, v->held_until))
		return true;

	WRITE_ONCE(v->held, CROSSTALK_FAST);
	return false;
}

/* A frame that is not understood goes slow, and its flow must know. */
static void note_slow(struct crosstalk_run *run,
		      const struct crosstalk_frame *frame)
{
	struct crosstalk_verdict *v;

	if (!frame->has_key)
		return;

	if (crosstalk_detect(&run->ep->detect, &frame->key, &v) >
	    CROSSTALK_BY_QUEUE)
		go_slow(run, v);
	else
		go_unfit(run, v);
}

/* Lets the flow rest until what it sent before has had time to arrive. */
static enum crosstalk_next settle(struct crosstalk_run *run,
				  struct crosstalk_verdict *v, u64 rest)
{
	struct crosstalk_endpoint *ep = run->ep;

	if (!crosstalk_park_for(ep, rest))
		return go_slow(run, v);

	ep->stats.tx_settles++;
	trace_crosstalk_park(ep, v->now.route->peer, "settle", rest);
	return CROSSTALK_STOP;
}

static enum crosstalk_next stop_for(struct crosstalk_run *run,
				    enum crosstalk_push_result why,
				    struct crosstalk_verdict *v)
{
	struct crosstalk_endpoint *ep = run->ep;

	crosstalk_push_close(ep);
	switch (why) {
	case CROSSTALK_PUSH_WAIT:
		ep->stats.tx_parks++;
		return CROSSTALK_STOP;
	case CROSSTALK_PUSH_BUSY:
		/* Its holder is at work: come again after other work. */
		if (!crosstalk_park_expired(ep)) {
			vhost_poll_queue(&run->nvq->vq.poll);
			return CROSSTALK_STOP;
		}
		fallthrough;
	case CROSSTALK_PUSH_SLOW:
		return hold_stalled(run, v);
	case CROSSTALK_PUSH_UNFIT:
		return go_unfit(run, v);
	case CROSSTALK_PUSH_HELD:
		return CROSSTALK_SLOW;
	default:
		return go_slow(run, v);
	}
}

/* Until crosstalk_push_close(), if the queue is open then, RCU is held. */
static enum crosstalk_push_result begin_batch(struct crosstalk_run *run,
					      struct crosstalk_verdict *v)
{
	enum crosstalk_push_result ret;
	enum crosstalk_slow why;

	rcu_read_lock();
	/* Asked for each batch: tcpdump wants to see the next one. */
	why = crosstalk_verdict_tapped(v);
	if (unlikely(why)) {
		rcu_read_unlock();
		hold(run, v, why, STALL_TIME);
		return CROSSTALK_PUSH_HELD;
	}
	ret = crosstalk_push_open(run->ep, v->now.route);
	if (unlikely(ret)) {
		rcu_read_unlock();
		return ret;
	}
	/* For sparse: it goes on to crosstalk_push_close(). */
	__release(RCU);
	return CROSSTALK_PUSH_OK;
}

/*
 * Opens the receiver's queue, if it is not open, and makes sure that the flow
 * overtakes nothing of its own.
 */
static enum crosstalk_push_result open_peer(struct crosstalk_run *run,
					    struct crosstalk_verdict *v)
{
	struct crosstalk_endpoint *ep = run->ep;
	enum crosstalk_push_result ret;

	if (!ep->push.peer || ep->push.route != v->now.route) {
		crosstalk_push_close(ep);
		ret = begin_batch(run, v);
		if (unlikely(ret))
			return ret;
	}

	if (unlikely(v->slow)) {
		/* A CPU can be taken away from a frame for longer. */
		if (crosstalk_route_queued(v->now.route))
			return CROSSTALK_PUSH_BUSY;
		if (crosstalk_push_backlog(&ep->push))
			return crosstalk_park(ep, ep->push.peer, "backlog") ?
			       CROSSTALK_PUSH_WAIT : CROSSTALK_PUSH_SLOW;
		note_change(v);
	}
	return CROSSTALK_PUSH_OK;
}

/*
 * Makes the frame's memory present; the queue is closed for that.  It can take
 * any time, and the answer may have ended by then.
 */
static bool fault_in(struct crosstalk_run *run,
		     const struct crosstalk_chain *chain,
		     struct crosstalk_verdict *v)
{
	const struct iovec *iov = run->nvq->vq.iov;
	unsigned int i;

	crosstalk_push_close(run->ep);
	for (i = 0; i < chain->out; i++)
		if (fault_in_readable(iov[i].iov_base, iov[i].iov_len))
			return false;
	crosstalk_verdict_renew(&run->ep->detect, v);
	return !crosstalk_verdict_is_over(v, jiffies);
}

static enum crosstalk_next place(struct crosstalk_run *run,
				 const struct crosstalk_chain *chain,
				 const struct crosstalk_frame *frame,
				 struct crosstalk_verdict *v)
{
	struct crosstalk_endpoint *ep = run->ep;
	enum crosstalk_push_result ret;
	bool again = false;

	do {
		ret = open_peer(run, v);
		if (likely(!ret))
			ret = crosstalk_push_frame(ep, frame, chain, v);
		/* Once: a guest can take its pages away again and again. */
		again = ret == CROSSTALK_PUSH_FAULT && !again &&
			fault_in(run, chain, v);
	} while (unlikely(again));
	if (unlikely(ret))
		return stop_for(run, ret, v);

	v->backoff = 0;
	v->fast_packets++;
	v->fast_bytes += frame->len;
	if (crosstalk_push_full(&ep->push))
		crosstalk_push_close(ep);
	return CROSSTALK_NEXT;
}

/* The headers by which the frame's queue is chosen; read once, as all of it. */
static bool read_flow(struct crosstalk_run *run,
		      const struct crosstalk_chain *chain,
		      struct crosstalk_frame *frame)
{
	unsigned int have = frame->head_len;

	if (likely(peek(run, chain, frame, CROSSTALK_FRAME_FLOW)))
		return true;

	frame->head_len = have;
	if (!run->ep->push.peer)
		return false;
	crosstalk_push_close(run->ep);
	if (peek(run, chain, frame, CROSSTALK_FRAME_FLOW))
		return true;

	frame->head_len = have;
	return false;
}

/*
 * Frames of the flow went slow and nobody knows to which queue: each of its
 * queues has to settle before it goes on.
 */
static void new_stamp(struct crosstalk_run *run, struct crosstalk_verdict *flow)
{
	flow->noted = flow->slow_packets;
	flow->stamp = ++run->ep->detect.stamps;
}

/* Its queue cannot be foretold.  Such frames have a verdict of their own. */
static struct crosstalk_verdict *
choose_none(struct crosstalk_run *run, struct crosstalk_flow_key *key,
	    struct crosstalk_verdict *flow)
{
	struct crosstalk_verdict *v;

	new_stamp(run, flow);
	if (is_restless(flow)) {
		go_unfit(run, flow);
		return NULL;
	}
	key->queue = CROSSTALK_QUEUE_UNKNOWN;
	crosstalk_detect_queue(&run->ep->detect, key, &v);
	go_slow(run, v);
	return NULL;
}

/*
 * The receiver has several queues: finds the one that its tap would choose, and
 * the verdict of the flow with that queue.  Returns NULL if the frame goes slow.
 */
static noinline struct crosstalk_verdict *
choose_queue(struct crosstalk_run *run, const struct crosstalk_chain *chain,
	     struct crosstalk_frame *frame, struct crosstalk_verdict *flow)
{
	struct crosstalk_endpoint *ep = run->ep;
	struct crosstalk_flow_key key = frame->key;
	struct crosstalk_verdict *v;
	int queue = -EFAULT;

	/* Should the receiver have one queue only from now on. */
	flow->slow = true;
	if (flow->noted != flow->slow_packets)
		new_stamp(run, flow);

	if (likely(read_flow(run, chain, frame)))
		queue = crosstalk_queue_choose(flow->now.route, run->sock,
					       &ep->skb, frame);
	if (unlikely(queue < 0))
		return choose_none(run, &key, flow);

	key.queue = queue + 1;
	if (unlikely(crosstalk_detect_queue(&ep->detect, &key, &v) ||
		     is_held(v))) {
		go_slow(run, v);
		return NULL;
	}
	/* One of the two answers can be older, and of another tap. */
	if (unlikely(v->now.route->path.dst != flow->now.route->path.dst ||
		     !crosstalk_queue_is_current(v->now.route, queue))) {
		crosstalk_verdict_end(&ep->detect, v);
		go_slow(run, v);
		return NULL;
	}
	if (unlikely(v->stamp != flow->stamp)) {
		v->stamp = flow->stamp;
		if (!v->slow)
			count_change(flow);
		v->slow = true;
	}
	return v;
}

static enum crosstalk_next forward_by(struct crosstalk_run *run,
				      const struct crosstalk_chain *chain,
				      struct crosstalk_frame *frame)
{
	struct crosstalk_verdict *v;
	enum crosstalk_slow slow;
	u64 age;

	slow = crosstalk_detect(&run->ep->detect, &frame->key, &v);
	if (unlikely(slow || is_held(v))) {
		if (slow != CROSSTALK_BY_QUEUE || is_held(v))
			return go_slow(run, v);
		v = choose_queue(run, chain, frame, v);
		if (!v)
			return CROSSTALK_SLOW;
	}
	if (unlikely(!fits(&v->now.route->path, frame)))
		return go_unfit(run, v);

	if (unlikely(v->blind != run->ep->blind)) {
		v->blind = run->ep->blind;
		v->slow = true;
	}

	/* The bridge must go on to see this address, or forgets it. */
	if (unlikely(crosstalk_verdict_refresh_due(v))) {
		crosstalk_verdict_refreshed(v);
		return go_slow(run, v);
	}

	if (unlikely(v->slow)) {
		/* What is batched is not even on its way. */
		if (run->batch->nr_xdp)
			crosstalk_forward_flush(run);
		age = ktime_get_ns() - run->ep->last_slow;
		if (age < SETTLE_NS)
			return settle(run, v, SETTLE_NS - age);
	}
	return place(run, chain, frame, v);
}

/*
 * Whether a frame's flow goes slow whatever else the frame says: asked first,
 * so that traffic which leaves the host costs little.
 */
static bool is_slow_flow(struct crosstalk_run *run, const u8 *eth,
			 unsigned int len)
{
	const struct ethhdr *header = (const void *)eth;
	struct crosstalk_flow_key key;
	struct crosstalk_verdict *v;

	if (unlikely(len < ETH_HLEN || is_multicast_ether_addr(eth) ||
		     eth_type_vlan(header->h_proto)))
		return false;

	crosstalk_flow_key_set(&key, eth, 0, 0);
	if (unlikely(crosstalk_detect(&run->ep->detect, &key, &v) <=
		     CROSSTALK_BY_QUEUE) && !is_held(v))
		return false;

	v->slow = true;
	v->slow_packets++;
	return true;
}

/* The same headers, out of a frame that was copied for the batch. */
static void read_built(const u8 *eth, const struct virtio_net_hdr *gso,
		       unsigned int len, struct crosstalk_frame *frame)
{
	frame->len = len;
	frame->vnet.hdr = *gso;
	frame->head_len = gso->gso_type == VIRTIO_NET_HDR_GSO_NONE ?
			  CROSSTALK_FRAME_FLOW : CROSSTALK_FRAME_HEAD;
	frame->head_len = min(frame->head_len, frame->len);
	memcpy(frame->head, eth, frame->head_len);
}

/**
 * crosstalk_fast_wanted() - whether the frame that was batched last may go fast
 * @run: the loop's; crosstalk_backend_build() has just added a frame
 *
 * Context: the TX worker, tx->mutex held, no receiver's queue open.
 * Return: whether crosstalk_fast_frame() should be asked for it; if not, it
 * stays in the batch.
 */
bool crosstalk_fast_wanted(struct crosstalk_run *run)
{
	struct crosstalk_frame *frame = &run->ep->frame;
	const struct virtio_net_hdr *gso;
	struct crosstalk_verdict *v;
	enum crosstalk_slow slow;
	unsigned int len;
	const u8 *eth;

	eth = crosstalk_backend_built(run->batch, &gso, &len);
	if (likely(len >= ETH_HLEN))
		crosstalk_endpoint_saw(run->ep, eth + ETH_ALEN);
	if (likely(is_slow_flow(run, eth, len)))
		return false;

	read_built(eth, gso, len, frame);
	if (!crosstalk_frame_parse(frame)) {
		note_slow(run, frame);
		return false;
	}
	slow = crosstalk_detect(&run->ep->detect, &frame->key, &v);
	if (likely(slow > CROSSTALK_BY_QUEUE) || is_held(v)) {
		go_slow(run, v);
		return false;
	}
	/* All that is looked at is there: no chain is needed. */
	return slow != CROSSTALK_BY_QUEUE || choose_queue(run, NULL, frame, v);
}

/**
 * crosstalk_fast_frame() - try to forward a frame by the direct path
 * @run: the loop's
 * @chain: the frame's chain
 *
 * Context: the TX worker, tx->mutex held, with or without a receiver's queue
 * open; on return it may be open unless the answer is CROSSTALK_SLOW.
 * Return: CROSSTALK_NEXT if it is there, CROSSTALK_STOP if the chain is to be
 * put back, CROSSTALK_SLOW if the backend socket is to have it.
 */
enum crosstalk_next crosstalk_fast_frame(struct crosstalk_run *run,
					 const struct crosstalk_chain *chain)
{
	struct crosstalk_frame *frame = &run->ep->frame;

	if (likely(read_frame_or_close(run, chain, frame))) {
		if (likely(frame->head_len >= ETH_HLEN))
			crosstalk_endpoint_saw(run->ep, frame->head + ETH_ALEN);
		if (likely(crosstalk_frame_parse(frame)))
			return forward_by(run, chain, frame);
		note_slow(run, frame);
	}
	crosstalk_push_close(run->ep);
	return CROSSTALK_SLOW;
}
