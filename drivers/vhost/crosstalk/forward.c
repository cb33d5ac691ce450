// SPDX-License-Identifier: GPL-2.0
/*
 * The TX loop: takes frames off a guest's TX ring and forwards them.
 *
 * It stands in for vhost-net's handle_tx() and follows it step by step where
 * the frame goes to the backend socket; it differs in that
 *
 *  - a frame that the socket refuses for good, one at a time or in a batch, is
 *    completed and counted in tx_errors.  vhost-net forgets the chains of a
 *    refused batch and tries a malformed single frame again for ever;
 *  - no more chains are held back for one completion than the ring has entries.
 */

#include <linux/if_ether.h>
#include <linux/ktime.h>
#include <linux/sched/signal.h>

#include "backend.h"
#include "control.h"
#include "endpoint.h"
#include "forward.h"
#include "vring.h"

#include <trace/events/vhost_crosstalk.h>

static void ring_error(struct crosstalk_run *run)
{
	run->ep->stats.tx_errors++;
	trace_crosstalk_drop(run->ep, "bad-ring", 0, 0);
	crosstalk_vring_error(&run->nvq->vq);
}

/* Lost; they are completed all the same, as if a tap had dropped them. */
static void count_lost(struct crosstalk_run *run, const char *why,
		       unsigned int frames, size_t len)
{
	run->ep->stats.tx_errors += frames;
	trace_crosstalk_drop(run->ep, why, frames, len);
}

/**
 * crosstalk_forward_flush() - bring everything that was taken to its end
 * @run: the loop's
 *
 * Closes the receiver's queue, sends what is batched, completes all chains so
 * far and interrupts the guest if it wants that.
 *
 * Context: the TX worker, tx->mutex held; may fault and sleep.
 */
void crosstalk_forward_flush(struct crosstalk_run *run)
{
	struct crosstalk_txbatch *batch = run->batch;
	struct vhost_virtqueue *vq = &run->nvq->vq;
	struct crosstalk_stats *stats = &run->ep->stats;
	int lost;

	/* The receiver first: its data is there before the sender is told. */
	crosstalk_push_close(run->ep);
	if (batch->nr_xdp) {
		stats->tx_batches++;
		lost = crosstalk_backend_send_batch(batch, run->sock);
		if (unlikely(lost))
			count_lost(run, "refused", lost, 0);
		run->ep->last_slow = ktime_get_ns();
	}
	if (!batch->nr_heads)
		return;

	if (unlikely(crosstalk_vring_add_used(vq, batch->heads,
					      batch->nr_heads)))
		ring_error(run);
	batch->nr_heads = 0;
	if (crosstalk_vring_signal(vq))
		stats->tx_notify++;
}

static void complete_chain(struct crosstalk_run *run,
			   const struct crosstalk_chain *chain)
{
	struct crosstalk_txbatch *batch = run->batch;

	batch->heads[batch->nr_heads].id = cpu_to_vq32(&run->nvq->vq,
						       chain->head);
	batch->heads[batch->nr_heads].len = 0;
	batch->nr_heads++;
}

/* Puts the chain back, to be taken again when the socket is writable. */
static enum crosstalk_next retry_later(struct crosstalk_run *run)
{
	struct vhost_poll *poll = &run->net->poll[VHOST_NET_VQ_TX];

	vhost_discard_vq_desc(&run->nvq->vq, 1);
	vhost_poll_start(poll, run->sock->file);
	return CROSSTALK_STOP;
}

/* Notes the source address of a frame that was not copied for the batch. */
static void peek_source(struct crosstalk_run *run,
			const struct crosstalk_chain *chain)
{
	const struct vhost_net_virtqueue *nvq = run->nvq;
	u8 source[ETH_ALEN] __aligned(2);

	if (!crosstalk_copy_from_segments(source, nvq->vq.iov, chain->out,
					  nvq->vhost_hlen + nvq->sock_hlen +
					  ETH_ALEN, ETH_ALEN))
		crosstalk_endpoint_saw(run->ep, source);
}

static bool more_follow(struct crosstalk_run *run)
{
	return run->bytes < VHOST_NET_WEIGHT &&
	       !vhost_vq_avail_empty(&run->net->dev, &run->nvq->vq);
}

static enum crosstalk_next send_one(struct crosstalk_run *run,
				    const struct crosstalk_chain *chain)
{
	bool more = false;
	int ret;

	/* Frames that were taken before go first. */
	if (run->can_batch)
		crosstalk_forward_flush(run);
	else
		more = more_follow(run);

	peek_source(run, chain);
	ret = crosstalk_backend_send(run->sock, run->nvq, chain, more);
	run->ep->last_slow = ktime_get_ns();
	if (unlikely(ret == -EAGAIN || ret == -ENOMEM || ret == -ENOBUFS))
		return retry_later(run);
	if (unlikely(ret < 0))
		count_lost(run, "refused", 1, chain->out_len);
	return CROSSTALK_NEXT;
}

/* What is done with a frame that crosstalk_backend_build() did not take. */
static enum crosstalk_next send_unbuilt(struct crosstalk_run *run,
					const struct crosstalk_chain *chain,
					int err)
{
	if (err == -ENOSPC)
		return send_one(run, chain);

	crosstalk_forward_flush(run);
	if (err == -ENOMEM)
		return retry_later(run);

	/* Malformed, or its memory is gone: the frame is lost, as in a tap. */
	count_lost(run, "malformed", 1, chain->out_len);
	return CROSSTALK_NEXT;
}

static enum crosstalk_next send_slow(struct crosstalk_run *run,
				     const struct crosstalk_chain *chain)
{
	const struct virtio_net_hdr *gso;
	unsigned int len;
	const u8 *eth;
	int err;

	/* A tap with a limited send buffer counts skbs: one at a time. */
	if (!run->can_batch)
		return send_one(run, chain);

	err = crosstalk_backend_build(run->batch, run->sock, run->nvq, chain);
	if (unlikely(err))
		return send_unbuilt(run, chain, err);

	eth = crosstalk_backend_built(run->batch, &gso, &len);
	if (likely(len >= ETH_HLEN))
		crosstalk_endpoint_saw(run->ep, eth + ETH_ALEN);
	return CROSSTALK_NEXT;
}

/*
 * A frame that follows a slow one: it is copied for the batch first, and looked
 * at there, so that traffic which leaves the host is read once.
 */
static enum crosstalk_next forward_expected(struct crosstalk_run *run,
					    const struct crosstalk_chain *chain)
{
	int err = crosstalk_backend_build(run->batch, run->sock, run->nvq,
					  chain);

	if (likely(!err) && likely(!crosstalk_fast_wanted(run)))
		return CROSSTALK_NEXT;
	if (unlikely(err) && err != -ENOSPC)
		return send_unbuilt(run, chain, err);

	/* It need not go slow after all, or is too large for the batch. */
	if (!err)
		crosstalk_backend_unbuild(run->batch);
	return CROSSTALK_SLOW;
}

/* A bad frame: the queue rests until the next kick. */
static bool check_chain(struct crosstalk_run *run,
			const struct crosstalk_chain *chain)
{
	if (likely(!chain->in && chain->out_len > run->nvq->vhost_hlen))
		return true;

	ring_error(run);
	return false;
}

/*
 * Watches the empty ring for a while.  Only tx->mutex is held, unlike in vhost's
 * own busy polling, so that other guests can go on sending to this one.
 */
static noinline bool poll_ring(struct crosstalk_run *run, unsigned int budget)
{
	struct vhost_virtqueue *vq = &run->nvq->vq;
	u64 end;

	crosstalk_forward_flush(run);
	end = ktime_get_ns() + budget * NSEC_PER_USEC;
	do {
		if (crosstalk_vring_poll(vq))
			return true;
		cpu_relax();
	} while (!need_resched() && !signal_pending(current) &&
		 !READ_ONCE(run->ep->dead) &&
		 !crosstalk_has_work(&run->net->dev, vq) &&
		 ktime_get_ns() < end);
	return false;
}

static bool busy_poll(struct crosstalk_run *run)
{
	unsigned int budget = crosstalk_busy_poll_us();

	return unlikely(budget) && poll_ring(run, budget);
}

/*
 * All that was known of is taken.  Asks for a kick and looks for more in one
 * go, with the receiver's queue still open; returns false if that cannot be.
 */
static bool is_last(struct crosstalk_run *run)
{
	struct vhost_virtqueue *vq = &run->nvq->vq;

	return run->frames && vq->avail_idx == vq->last_avail_idx &&
	       vhost_vq_has(vq, VIRTIO_RING_F_EVENT_IDX) &&
	       likely(!vq->log_used && !crosstalk_busy_poll_us()) &&
	       !crosstalk_vring_ask(vq);
}

/* Event indices need no word to the guest; what is not a flag is vhost's. */
static void disable_notify(struct crosstalk_run *run)
{
	struct vhost_virtqueue *vq = &run->nvq->vq;

	if (likely(vhost_vq_has(vq, VIRTIO_RING_F_EVENT_IDX)))
		vq->used_flags |= VRING_USED_F_NO_NOTIFY;
	else
		vhost_disable_notify(&run->net->dev, vq);
}

/* Returns whether there is a chain; if not, the loop ends. */
static bool next_chain(struct crosstalk_run *run, struct crosstalk_chain *chain)
{
	struct vhost_virtqueue *vq = &run->nvq->vq;
	int ret;

	if (is_last(run)) {
		crosstalk_push_close(run->ep);
		return false;
	}
	for (;;) {
		ret = crosstalk_vring_fetch(vq, chain);
		if (likely(ret > 0))
			return check_chain(run, chain);
		if (unlikely(ret < 0)) {
			/* With a receiver's queue open, a fault is no error. */
			if (run->ep->push.peer) {
				crosstalk_push_close(run->ep);
				continue;
			}
			ring_error(run);
			return false;
		}
		/* Empty; look again after asking to be told. */
		crosstalk_push_close(run->ep);
		if (busy_poll(run))
			continue;
		if (likely(!crosstalk_vring_enable_notify(&run->net->dev, vq)))
			return false;
		disable_notify(run);
	}
}

static enum crosstalk_next forward_frame(struct crosstalk_run *run,
					 const struct crosstalk_chain *chain)
{
	struct crosstalk_endpoint *ep = run->ep;
	enum crosstalk_next next = CROSSTALK_SLOW;

	/* An empty frame, or more than any frame has: the tap knows what to do. */
	if (unlikely(!run->can_push || chain->out_len <= run->nvq->sock_hlen ||
		     chain->out_len > run->nvq->sock_hlen + U16_MAX)) {
		crosstalk_push_close(ep);
		ep->blind++;
		goto slow;
	}

	if (ep->expect_slow && run->can_batch) {
		next = forward_expected(run, chain);
		if (likely(next != CROSSTALK_SLOW))
			goto was_slow;
	}

	next = crosstalk_fast_frame(run, chain);
	ep->expect_slow = next == CROSSTALK_SLOW;
	if (unlikely(next == CROSSTALK_STOP))
		vhost_discard_vq_desc(&run->nvq->vq, 1);
	if (likely(next != CROSSTALK_SLOW))
		return next;
slow:
	next = send_slow(run, chain);
was_slow:
	if (likely(next == CROSSTALK_NEXT))
		ep->stats.tx_slow_packets++;
	return next;
}

/* vhost_exceeds_weight() queues the work again; it is called when it will. */
static bool exceeds_weight(const struct crosstalk_run *run)
{
	const struct vhost_dev *dev = &run->net->dev;

	if (likely(run->frames < dev->weight &&
		   run->bytes < (size_t)dev->byte_weight))
		return false;
	return vhost_exceeds_weight(&run->nvq->vq, run->frames,
				    min_t(size_t, run->bytes, INT_MAX));
}

static void tx_loop(struct crosstalk_run *run)
{
	struct crosstalk_stats *stats = &run->ep->stats;
	struct vhost_net_virtqueue *nvq = run->nvq;
	struct crosstalk_chain chain = {};
	unsigned int limit;
	size_t len;

	/* A guest that refills a small ring meanwhile must not overrun it. */
	limit = min(crosstalk_batch(), nvq->vq.num);

	do {
		if (run->batch->nr_heads >= limit)
			crosstalk_forward_flush(run);

		if (!next_chain(run, &chain))
			break;

		len = chain.out_len - nvq->vhost_hlen;
		run->bytes += len;
		if (forward_frame(run, &chain) == CROSSTALK_STOP)
			break;

		stats->tx_packets++;
		stats->tx_bytes += len - min(nvq->sock_hlen, len);
		complete_chain(run, &chain);
		run->frames++;
	} while (likely(!exceeds_weight(run)));

	crosstalk_forward_flush(run);
}

/**
 * crosstalk_forward() - forward what is in an endpoint's TX ring
 * @ep: endpoint for which crosstalk_endpoint_may_run() said yes
 *
 * Context: the TX queue's own worker, tx->mutex held; may fault and sleep.
 */
void crosstalk_forward(struct crosstalk_endpoint *ep)
{
	struct vhost_net *net = ep->net;
	struct crosstalk_run run = {
		.ep = ep,
		.net = net,
		.nvq = &net->vqs[VHOST_NET_VQ_TX],
		.sock = ep->backend.sock,
		.batch = &ep->batch,
		.can_batch = ep->backend.sock->sk->sk_sndbuf == INT_MAX,
	};

	run.can_push = crosstalk_direct() && !run.nvq->vhost_hlen &&
		       (run.nvq->sock_hlen == sizeof(struct virtio_net_hdr) ||
			run.nvq->sock_hlen ==
			sizeof(struct virtio_net_hdr_mrg_rxbuf)) &&
		       crosstalk_park_prepare(&ep->park, run.nvq->vq.kick);

	/* What vhost-net sent meanwhile may still be on its way. */
	if (unlikely(ep->foreign)) {
		ep->foreign = false;
		ep->blind++;
		ep->last_slow = ktime_get_ns();
	}

	disable_notify(&run);
	/* The socket's writability is of no interest while frames are sent. */
	if (unlikely(net->poll[VHOST_NET_VQ_TX].wqh))
		vhost_poll_stop(&net->poll[VHOST_NET_VQ_TX]);

	ep->stats.tx_kicks++;
	tx_loop(&run);
}
