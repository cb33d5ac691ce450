// SPDX-License-Identifier: GPL-2.0
/*
 * The direct path: a sender's worker places frames in a receiver's buffers.
 *
 * The receiver's device is foreign.  It is touched only between a successful
 * crosstalk_push_open() and crosstalk_push_close():
 *
 *  - RCU is held all the time, mutex_unlock() included.  vhost-net frees a
 *    device after synchronize_rcu(), and our ->release sets ep->dead before it
 *    calls vhost-net's: who saw the endpoint alive under RCU can take its mutex.
 *    Who sees it alive with the mutex held keeps unhooking waiting, and with it
 *    the endpoint and its mirror.
 *  - Its rx->mutex is taken by trylock, never by waiting: a vhost device locks
 *    its own RX before its own TX, so that a sender which waits for another
 *    device's RX with its own TX held would close a circle over two devices.
 *  - Its memory is reached through its mirror, locked for reading.
 *  - Nothing sleeps, allocates or faults.  The sender's own memory is read with
 *    page faults disabled; if that fails, nothing is consumed, and the queue is
 *    closed before the memory is faulted in.
 */

#include <linux/mm.h>
#include <linux/ptr_ring.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include "detect.h"
#include "endpoint.h"
#include "frame.h"
#include "push.h"
#include "vring.h"

#include <trace/events/vhost_crosstalk.h>

/* How often a receiver's mutex is tried: its holder, if it runs, is quick. */
#define OPEN_TRIES 100

/* The guest sees new frames at least this often, before it is interrupted. */
#define PUBLISH_FRAMES 16

/* Bytes that one request fills at most, and those of one buffer. */
#define FILL_BYTES (16 << 20)
#define FILL_CHAIN (128 << 10)

/* Where the next byte of a frame goes. */
struct sink {
	const struct crosstalk_rx_piece *piece;
	u32 off;
};

static void sink_write(struct sink *sink, const void *from, size_t len)
{
	while (len) {
		size_t size = min_t(size_t, len, sink->piece->len - sink->off);

		memcpy(sink->piece->addr + sink->off, from, size);
		from += size;
		len -= size;
		sink->off += size;
		if (sink->off == sink->piece->len) {
			sink->piece++;
			sink->off = 0;
		}
	}
}

/*
 * Not copy_from_user(): its check of the destination knows kernel objects, and
 * takes a stretch of a guest's pages for the overrun of one of them.
 */
static __always_inline bool copy_user(void *to, const void __user *from,
				      size_t len)
{
	return likely(access_ok(from, len)) &&
	       likely(!raw_copy_from_user(to, from, len));
}

/* What is short is copied word by word: a string instruction takes time. */
#define COPY_WORDS (8 * sizeof(u64))

static __always_inline bool copy_short(void *to, const void __user *from,
				       size_t len)
{
	const size_t last = len - sizeof(u64);
	u64 word;
	size_t i;

	if (unlikely(!user_read_access_begin(from, len)))
		return false;
	for (i = 0; i < last; i += sizeof(u64)) {
		unsafe_get_user(word, (const u64 __user *)(from + i), fault);
		memcpy(to + i, &word, sizeof(word));
	}
	/* The rest, and perhaps some bytes once more. */
	unsafe_get_user(word, (const u64 __user *)(from + last), fault);
	memcpy(to + last, &word, sizeof(word));
	user_read_access_end();
	return true;

fault:
	user_read_access_end();
	return false;
}

static bool sink_write_user(struct sink *sink, const struct iovec *iov,
			    unsigned int nr, size_t skip, size_t len)
{
	for (; nr && skip >= iov->iov_len; nr--, iov++)
		skip -= iov->iov_len;

	while (nr && len) {
		size_t size = min3(len, iov->iov_len - skip,
				   (size_t)(sink->piece->len - sink->off));

		if (unlikely(!copy_user(sink->piece->addr + sink->off,
					iov->iov_base + skip, size)))
			return false;
		len -= size;
		skip += size;
		if (skip == iov->iov_len) {
			iov++;
			nr--;
			skip = 0;
		}
		sink->off += size;
		if (sink->off == sink->piece->len) {
			sink->piece++;
			sink->off = 0;
		}
	}
	return !len;
}

static bool lock_peer(struct vhost_virtqueue *vq)
{
	unsigned int i;

	for (i = 0; i < OPEN_TRIES; i++) {
		if (mutex_trylock(&vq->mutex))
			return true;
		cpu_relax();
	}
	return false;
}

/* Frames of the slow path that the receiver has not yet taken. */
static bool has_backlog(const struct vhost_net_virtqueue *nvq)
{
	return nvq->rxq.tail != nvq->rxq.head ||
	       (nvq->rx_ring && !ptr_ring_empty_bh(nvq->rx_ring));
}

/**
 * crosstalk_push_backlog() - whether the slow path holds frames for a receiver
 * @push: open
 *
 * Context: between open and close.
 * Return: true while the tap's ring, or vhost's own batch, has frames.
 */
bool crosstalk_push_backlog(const struct crosstalk_push *push)
{
	return has_backlog(push->rx.nvq);
}

/* Whether a device may be pushed to as it is now; rx->mutex held. */
static bool may_receive(const struct crosstalk_endpoint *peer,
			const struct socket *sock)
{
	const struct vhost_net_virtqueue *nvq;
	const struct vhost_virtqueue *vq;

	nvq = &peer->net->vqs[VHOST_NET_VQ_RX];
	vq = &nvq->vq;
	/* Dead: it was unhooked before the mutex was ours. */
	return !READ_ONCE(peer->dead) &&
	       vq->private_data == sock && READ_ONCE(peer->enable) &&
	       READ_ONCE(peer->reason) == CROSSTALK_REASON_NONE &&
	       !vq->iotlb && !vq->log_used && !nvq->vhost_hlen &&
	       (nvq->sock_hlen == sizeof(struct virtio_net_hdr) ||
		nvq->sock_hlen == sizeof(struct virtio_net_hdr_mrg_rxbuf)) &&
	       !(vq->acked_features & (BIT_ULL(VHOST_F_LOG_ALL) |
				       ~CROSSTALK_FEATURES)) &&
	       !vq->busyloop_timeout;
}

/*
 * Asks the receiver's worker to fill its mirror; it runs our work function.
 * Allowed because its mutex is held and its backend is live.
 */
static void ask_to_fill(struct crosstalk_endpoint *peer, unsigned long addr)
{
	WRITE_ONCE(peer->fill_addr, addr);
	WRITE_ONCE(peer->want_fill, true);
	vhost_poll_queue(&peer->net->vqs[VHOST_NET_VQ_RX].vq.poll);
}

static enum crosstalk_push_result wait_for_fill(struct crosstalk_endpoint *ep,
						struct crosstalk_endpoint *peer,
						unsigned long addr)
{
	if (!crosstalk_park(ep, peer, "fill"))
		return CROSSTALK_PUSH_SLOW;

	ask_to_fill(peer, addr);
	return CROSSTALK_PUSH_WAIT;
}

/* A mirror of the address space that the device's addresses belong to. */
static bool has_mirror(const struct crosstalk_endpoint *peer)
{
	return peer->mirror && peer->mirror->mni.mm == peer->net->dev.mm;
}

/**
 * crosstalk_push_open() - get hold of a receiver's RX queue
 * @ep: sender, with no queue open
 * @route: to the receiver
 *
 * Context: the sender's worker, tx->mutex held, under RCU.  On success the
 * context is atomic until crosstalk_push_close(), which also ends the caller's
 * RCU section, and page faults are disabled.
 * Return: CROSSTALK_PUSH_OK, or why not.
 */
enum crosstalk_push_result
crosstalk_push_open(struct crosstalk_endpoint *ep,
		    const struct crosstalk_route *route)
{
	struct crosstalk_endpoint *peer = route->peer;
	enum crosstalk_push_result ret = CROSSTALK_PUSH_SLOW;
	struct crosstalk_push *push = &ep->push;
	struct vhost_net_virtqueue *nvq;

	if (READ_ONCE(peer->dead))
		return ret;

	nvq = &peer->net->vqs[VHOST_NET_VQ_RX];
	if (!lock_peer(&nvq->vq))
		return CROSSTALK_PUSH_BUSY;
	if (!may_receive(peer, route->sock))
		goto unlock_peer;
	if (!has_mirror(peer)) {
		ret = wait_for_fill(ep, peer, 0);
		goto unlock_peer;
	}

	read_lock(&peer->mirror->lock);
	switch (crosstalk_rx_open(&push->rx, &peer->ring, nvq,
				  peer->mirror)) {
	case CROSSTALK_RX_OK:
		break;
	case CROSSTALK_RX_MISSING:
		ret = wait_for_fill(ep, peer, push->rx.missing);
		fallthrough;
	default:
		goto unlock_mirror;
	}

	pagefault_disable();
	push->peer = peer;
	push->route = route;
	push->bytes = 0;
	push->frames = 0;
	push->unseen = 0;
	/* For sparse: the locks go on to crosstalk_push_close(). */
	__release(&peer->mirror->lock);
	return CROSSTALK_PUSH_OK;

unlock_mirror:
	read_unlock(&peer->mirror->lock);
unlock_peer:
	mutex_unlock(&nvq->vq.mutex);
	return ret;
}

/**
 * __crosstalk_push_close() - crosstalk_push_close() of an open queue
 * @ep: sender with an open queue
 *
 * Context: the sender's worker, tx->mutex held.
 */
void __crosstalk_push_close(struct crosstalk_endpoint *ep)
{
	struct crosstalk_push *push = &ep->push;
	struct crosstalk_endpoint *peer = push->peer;
	struct vhost_virtqueue *vq;
	bool signal;

	/* For sparse: they come from crosstalk_push_open(). */
	__acquire(RCU);
	__acquire(&peer->mirror->lock);
	vq = &push->rx.nvq->vq;
	crosstalk_rx_publish(&push->rx);
	/* As vhost: without a ctx, what the guest wants is left for later. */
	signal = vq->call_ctx.ctx && crosstalk_rx_want_signal(&push->rx);
	if (push->frames) {
		crosstalk_account(push->route, push->frames, push->bytes);
		peer->stats.rx_fast_packets += push->frames;
		peer->stats.rx_fast_bytes += push->bytes;
		ep->stats.tx_fast_packets += push->frames;
		ep->stats.tx_fast_bytes += push->bytes;
		trace_crosstalk_push(ep, peer, signal);
	}
	push->peer = NULL;
	pagefault_enable();
	read_unlock(&peer->mirror->lock);

	if (signal) {
		crosstalk_eventfd_signal(vq->call_ctx.ctx);
		peer->stats.rx_fast_notify++;
	}
	mutex_unlock(&vq->mutex);
	rcu_read_unlock();
}

/* No buffers: ask for a kick, unless some come while we do. */
static enum crosstalk_push_result
wait_for_buffers(struct crosstalk_endpoint *ep, bool *again)
{
	struct crosstalk_push *push = &ep->push;

	/* What is there is shown first: the guest may wait for it to refill. */
	crosstalk_rx_publish(&push->rx);
	if (!crosstalk_park(ep, push->peer, "buffers"))
		return CROSSTALK_PUSH_SLOW;

	*again = crosstalk_rx_enable_notify(&push->rx);
	return CROSSTALK_PUSH_WAIT;
}

static enum crosstalk_push_result reserve(struct crosstalk_endpoint *ep,
					  size_t len)
{
	struct crosstalk_push *push = &ep->push;
	enum crosstalk_push_result ret;
	bool again = false;

	do {
		switch (crosstalk_rx_reserve(&push->rx, len)) {
		case CROSSTALK_RX_OK:
			return CROSSTALK_PUSH_OK;
		case CROSSTALK_RX_EMPTY:
			ret = wait_for_buffers(ep, &again);
			break;
		case CROSSTALK_RX_MISSING:
			return wait_for_fill(ep, push->peer, push->rx.missing);
		case CROSSTALK_RX_TOO_LARGE:
			return CROSSTALK_PUSH_UNFIT;
		default:
			return CROSSTALK_PUSH_SLOW;
		}
	} while (again && ret == CROSSTALK_PUSH_WAIT);

	return ret;
}

/*
 * One stretch takes the frame, whose rest is in the sender's first buffer: what
 * most frames need.
 */
static bool place_flat(void *to, size_t hlen,
		       const struct virtio_net_hdr_mrg_rxbuf *vnet,
		       const struct crosstalk_frame *frame,
		       const void __user *rest)
{
	size_t len = frame->len - frame->head_len;

	if (likely(hlen == sizeof(*vnet)))
		memcpy(to, vnet, sizeof(*vnet));
	else
		memcpy(to, &vnet->hdr, sizeof(vnet->hdr));
	to += hlen;

	if (likely(frame->head_len == CROSSTALK_FRAME_PEEK))
		memcpy(to, frame->head, CROSSTALK_FRAME_PEEK);
	else
		memcpy(to, frame->head, frame->head_len);
	to += frame->head_len;
	if (len >= sizeof(u64) && len <= COPY_WORDS)
		return likely(copy_short(to, rest, len));
	return copy_user(to, rest, len);
}

static bool place_pieces(const struct crosstalk_rx *rx, size_t hlen,
			 const struct virtio_net_hdr_mrg_rxbuf *vnet,
			 const struct crosstalk_frame *frame,
			 const struct crosstalk_chain *chain,
			 const struct vhost_net_virtqueue *tx)
{
	struct sink sink = { .piece = rx->pieces };

	sink_write(&sink, vnet, hlen);
	sink_write(&sink, frame->head, frame->head_len);
	return frame->len <= frame->head_len ||
	       likely(sink_write_user(&sink, tx->vq.iov, chain->out,
				      tx->sock_hlen + frame->head_len,
				      frame->len - frame->head_len));
}

static bool place_frame(struct crosstalk_rx *rx, size_t hlen,
			const struct crosstalk_frame *frame,
			const struct crosstalk_chain *chain,
			const struct vhost_net_virtqueue *tx)
{
	size_t done = tx->sock_hlen + frame->head_len;
	struct virtio_net_hdr_mrg_rxbuf vnet;

	crosstalk_frame_vnet(frame, &vnet);
	vnet.num_buffers = cpu_to_vq16(&rx->nvq->vq, rx->nr_chains);
	if (likely(rx->nr_pieces == 1 && chain->out == 1 &&
		   frame->len > frame->head_len))
		return place_flat(rx->pieces[0].addr, hlen, &vnet, frame,
				  tx->vq.iov[0].iov_base + done);
	return place_pieces(rx, hlen, &vnet, frame, chain, tx);
}

/**
 * crosstalk_push_frame() - place a frame in the open queue's buffers
 * @ep: sender
 * @frame: parsed beginning of the frame
 * @chain: its chain, in the sender's vq->iov
 *
 * Context: between open and close.
 * Return: CROSSTALK_PUSH_OK, or what is in the way; then nothing was consumed.
 */
enum crosstalk_push_result
crosstalk_push_frame(struct crosstalk_endpoint *ep,
		     const struct crosstalk_frame *frame,
		     const struct crosstalk_chain *chain)
{
	struct vhost_net_virtqueue *tx = &ep->net->vqs[VHOST_NET_VQ_TX];
	struct crosstalk_push *push = &ep->push;
	struct crosstalk_rx *rx = &push->rx;
	size_t hlen = rx->nvq->sock_hlen;
	enum crosstalk_push_result ret;

	ret = reserve(ep, hlen + frame->len);
	if (unlikely(ret))
		return ret;

	/* The last buffers belong to frames that came before, by the tap. */
	if (unlikely(crosstalk_rx_room(rx) < rx->nr_chains + VHOST_NET_BATCH) &&
	    has_backlog(rx->nvq))
		return CROSSTALK_PUSH_SLOW;

	if (unlikely(!place_frame(rx, hlen, frame, chain, tx)))
		return CROSSTALK_PUSH_FAULT;

	crosstalk_rx_commit(rx);
	push->bytes += frame->len;
	push->frames++;
	if (++push->unseen >= PUBLISH_FRAMES) {
		crosstalk_rx_publish(rx);
		push->unseen = 0;
	}
	ep->park.since = 0;
	return CROSSTALK_PUSH_OK;
}

static int fill(struct crosstalk_endpoint *ep, const void __user *addr,
		size_t len)
{
	return crosstalk_mirror_fill(ep->mirror, (unsigned long)addr, len);
}

static int fill_ring(struct crosstalk_endpoint *ep, struct vhost_virtqueue *vq)
{
	int ret;

	/* The event indices lie behind the rings' last entries. */
	ret = fill(ep, vq->desc, vq->num * sizeof(*vq->desc));
	if (!ret)
		ret = fill(ep, vq->avail,
			   offsetof(struct vring_avail, ring[vq->num + 1]));
	if (!ret)
		ret = fill(ep, vq->used,
			   offsetof(struct vring_used, ring[vq->num]) +
			   sizeof(__virtio16));
	return ret;
}

/* Mirrors a chain's buffers, and takes what that cost off *@left. */
static int fill_chain(struct crosstalk_endpoint *ep,
		      const struct vhost_virtqueue *vq,
		      const struct crosstalk_chain *chain, size_t *left)
{
	unsigned int i;
	int ret = 0;

	/* Nothing to receive into: vhost refuses it, and rests there. */
	if (chain->out || !chain->in)
		return -EINVAL;

	for (i = 0; i < chain->in && *left && !ret; i++) {
		size_t size = min3(vq->iov[i].iov_len, *left,
				   (size_t)FILL_CHAIN);

		ret = fill(ep, vq->iov[i].iov_base, size);
		/* The smallest of buffers costs a page. */
		*left -= min(*left, max_t(size_t, size, PAGE_SIZE));
		cond_resched();
	}
	return ret;
}

/*
 * Mirrors the buffers that are posted; the ring stays as it is.  A guest can
 * post the same memory over and over, and while this runs: there is an end to
 * what is done for it, a ring at most.
 */
static void fill_buffers(struct crosstalk_endpoint *ep,
			 struct vhost_virtqueue *vq)
{
	u16 last_avail_idx = vq->last_avail_idx;
	struct crosstalk_chain chain = {};
	unsigned int chains = vq->num;
	size_t left = FILL_BYTES;

	do {
		if (crosstalk_vring_fetch(vq, &chain) <= 0 ||
		    fill_chain(ep, vq, &chain, &left))
			break;
		cond_resched();
	} while (left && --chains && !READ_ONCE(ep->dead) &&
		 !fatal_signal_pending(current));

	vq->last_avail_idx = last_avail_idx;
}

static bool refresh_mirror(struct crosstalk_endpoint *ep)
{
	struct crosstalk_mirror *mirror;

	if (ep->mirror && ep->mirror->mni.mm == current->mm)
		return true;

	mirror = crosstalk_mirror_get();
	if (IS_ERR(mirror))
		return false;

	swap(mirror, ep->mirror);
	ep->ring.mirror = NULL;
	if (mirror)
		crosstalk_mirror_put(mirror);
	return true;
}

/**
 * crosstalk_push_prepare() - make a receiver's queue ready for senders
 * @ep: receiver
 *
 * Fills the mirror with the ring and the posted buffers if a sender asked for
 * it.  Whoever waits is then woken by the caller.
 *
 * Context: the receiver's worker, rx->mutex held; may fault and sleep.
 */
void crosstalk_push_prepare(struct crosstalk_endpoint *ep)
{
	struct vhost_virtqueue *vq = &ep->net->vqs[VHOST_NET_VQ_RX].vq;

	if (!READ_ONCE(ep->want_fill))
		return;
	WRITE_ONCE(ep->want_fill, false);
	if (!vq->private_data || vq->iotlb || !refresh_mirror(ep))
		return;

	/* What a sender missed may be a page of an indirect table. */
	if (ep->fill_addr)
		crosstalk_mirror_fill(ep->mirror, ep->fill_addr, 1);
	if (!fill_ring(ep, vq))
		fill_buffers(ep, vq);
	ep->stats.rx_fills++;
}
