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

#include "backend.h"
#include "control.h"
#include "endpoint.h"
#include "forward.h"
#include "vring.h"

/* One run of the loop. */
struct tx_run {
	struct crosstalk_endpoint *ep;
	struct vhost_net *net;
	struct vhost_net_virtqueue *nvq;
	struct socket *sock;
	struct crosstalk_txbatch *batch;
	bool can_batch;
	size_t bytes;
	int frames;
};

/* What the loop does after a frame. */
enum tx_next {
	TX_NEXT,	/* done with it: go on */
	TX_STOP,	/* leave until something kicks the queue again */
};

static void ring_error(struct tx_run *run)
{
	run->ep->stats.tx_errors++;
	crosstalk_vring_error(&run->nvq->vq);
}

/* Sends what is batched, completes all chains so far, interrupts the guest. */
static void flush(struct tx_run *run)
{
	struct crosstalk_txbatch *batch = run->batch;
	struct vhost_virtqueue *vq = &run->nvq->vq;
	struct crosstalk_stats *stats = &run->ep->stats;

	if (batch->nr_xdp) {
		stats->tx_batches++;
		stats->tx_errors += crosstalk_backend_send_batch(batch,
								 run->sock);
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

static void complete_chain(struct tx_run *run,
			   const struct crosstalk_chain *chain)
{
	struct crosstalk_txbatch *batch = run->batch;

	batch->heads[batch->nr_heads].id = cpu_to_vq32(&run->nvq->vq,
						       chain->head);
	batch->heads[batch->nr_heads].len = 0;
	batch->nr_heads++;
}

/* Puts the chain back, to be taken again when the socket is writable. */
static enum tx_next retry_later(struct tx_run *run)
{
	struct vhost_poll *poll = &run->net->poll[VHOST_NET_VQ_TX];

	vhost_discard_vq_desc(&run->nvq->vq, 1);
	vhost_poll_start(poll, run->sock->file);
	return TX_STOP;
}

/* Notes the source address of a frame that was not copied for the batch. */
static void peek_source(struct tx_run *run, const struct crosstalk_chain *chain)
{
	const struct vhost_net_virtqueue *nvq = run->nvq;
	u8 source[ETH_ALEN] __aligned(2);

	if (!crosstalk_copy_from_segments(source, nvq->vq.iov, chain->out,
					  nvq->vhost_hlen + nvq->sock_hlen +
					  ETH_ALEN, ETH_ALEN))
		crosstalk_endpoint_saw(run->ep, source);
}

static bool more_follow(struct tx_run *run)
{
	return run->bytes < VHOST_NET_WEIGHT &&
	       !vhost_vq_avail_empty(&run->net->dev, &run->nvq->vq);
}

static enum tx_next send_one(struct tx_run *run,
			     const struct crosstalk_chain *chain)
{
	bool more = false;
	int ret;

	/* Frames that were taken before go first. */
	if (run->can_batch)
		flush(run);
	else
		more = more_follow(run);

	peek_source(run, chain);
	ret = crosstalk_backend_send(run->sock, run->nvq, chain, more);
	if (unlikely(ret == -EAGAIN || ret == -ENOMEM || ret == -ENOBUFS))
		return retry_later(run);
	if (unlikely(ret < 0))
		run->ep->stats.tx_errors++;
	return TX_NEXT;
}

static enum tx_next send_slow(struct tx_run *run,
			      const struct crosstalk_chain *chain)
{
	const u8 *eth;
	int ret;

	/* A tap with a limited send buffer counts skbs: one at a time. */
	if (!run->can_batch)
		return send_one(run, chain);

	ret = crosstalk_backend_build(run->batch, run->sock, run->nvq, chain);
	if (likely(!ret)) {
		eth = crosstalk_backend_built_frame(run->batch);
		if (likely(eth))
			crosstalk_endpoint_saw(run->ep, eth + ETH_ALEN);
		return TX_NEXT;
	}
	if (ret == -ENOSPC)
		return send_one(run, chain);

	flush(run);
	if (ret == -ENOMEM)
		return retry_later(run);

	/* Malformed, or its memory is gone: the frame is lost, as in a tap. */
	run->ep->stats.tx_errors++;
	return TX_NEXT;
}

/* Returns whether there is a chain; if not, the loop ends. */
static bool next_chain(struct tx_run *run, struct crosstalk_chain *chain)
{
	struct vhost_virtqueue *vq = &run->nvq->vq;
	int ret;

	for (;;) {
		ret = crosstalk_vring_fetch(vq, chain);
		if (likely(ret))
			break;
		/* Empty; look again after asking to be told. */
		if (likely(!vhost_enable_notify(&run->net->dev, vq)))
			return false;
		vhost_disable_notify(&run->net->dev, vq);
	}

	/* A bad ring or frame: the queue rests until the next kick. */
	if (unlikely(ret < 0 || chain->in ||
		     chain->out_len <= run->nvq->vhost_hlen)) {
		ring_error(run);
		return false;
	}
	return true;
}

static void tx_loop(struct tx_run *run)
{
	struct crosstalk_stats *stats = &run->ep->stats;
	struct vhost_net_virtqueue *nvq = run->nvq;
	struct crosstalk_chain chain;
	unsigned int limit;

	/* A guest that refills a small ring meanwhile must not overrun it. */
	limit = min(crosstalk_batch(), nvq->vq.num);

	do {
		if (run->batch->nr_heads >= limit)
			flush(run);

		if (!next_chain(run, &chain))
			break;

		run->bytes += chain.out_len - nvq->vhost_hlen;
		if (send_slow(run, &chain) == TX_STOP)
			break;

		stats->tx_packets++;
		stats->tx_slow_packets++;
		stats->tx_bytes += chain.out_len - nvq->vhost_hlen -
				   min(nvq->sock_hlen,
				       chain.out_len - nvq->vhost_hlen);
		complete_chain(run, &chain);
	} while (likely(!vhost_exceeds_weight(&nvq->vq, ++run->frames,
					      min_t(size_t, run->bytes,
						    INT_MAX))));

	flush(run);
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
	struct tx_run run = {
		.ep = ep,
		.net = net,
		.nvq = &net->vqs[VHOST_NET_VQ_TX],
		.sock = ep->backend.sock,
		.batch = &ep->batch,
		.can_batch = ep->backend.sock->sk->sk_sndbuf == INT_MAX,
	};

	if (unlikely(!vq_meta_prefetch(&run.nvq->vq)))
		return;

	vhost_disable_notify(&net->dev, &run.nvq->vq);
	/* The socket's writability is of no interest while frames are sent. */
	vhost_poll_stop(&net->poll[VHOST_NET_VQ_TX]);

	ep->stats.tx_kicks++;
	tx_loop(&run);
}
