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
#include <linux/uaccess.h>

#include "control.h"
#include "detect.h"
#include "endpoint.h"
#include "frame.h"
#include "push.h"
#include "remap.h"
#include "vring.h"

#include <trace/events/vhost_crosstalk.h>

/* How often a receiver's mutex is tried: its holder, if it runs, is quick. */
#define OPEN_TRIES 100

/* The guest sees new frames at least this often, before it is interrupted. */
#define PUBLISH_FRAMES 16

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
static void ask_to_fill(struct crosstalk_endpoint *peer, unsigned long addr,
			size_t bytes)
{
	if (!READ_ONCE(peer->want_fill))
		peer->fill_bytes = 0;
	peer->fill_bytes = max(peer->fill_bytes, bytes);
	WRITE_ONCE(peer->fill_addr, addr);
	WRITE_ONCE(peer->want_fill, true);
	vhost_poll_queue(&peer->net->vqs[VHOST_NET_VQ_RX].vq.poll);
}

static enum crosstalk_push_result wait_for_fill(struct crosstalk_endpoint *ep,
						struct crosstalk_endpoint *peer,
						unsigned long addr,
						size_t bytes)
{
	if (!crosstalk_park(ep, peer, "fill"))
		return CROSSTALK_PUSH_SLOW;

	ask_to_fill(peer, addr, bytes);
	return CROSSTALK_PUSH_WAIT;
}

/*
 * How much of the posted buffers is mirrored for the sake of a frame.  Where pages
 * are remapped that is no more than it takes, and nothing for what is in one page:
 * a page that is shared would be copied for its mirror.
 */
static size_t fill_bytes(size_t len)
{
	if (!crosstalk_remap_mode())
		return SIZE_MAX;
	return len < PAGE_SIZE ? 0 : len;
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
		ret = wait_for_fill(ep, peer, 0, SIZE_MAX);
		goto unlock_peer;
	}

	read_lock(&peer->mirror->lock);
	switch (crosstalk_rx_open(&push->rx, &peer->ring, nvq,
				  peer->mirror)) {
	case CROSSTALK_RX_OK:
		break;
	case CROSSTALK_RX_MISSING:
		ret = wait_for_fill(ep, peer, push->rx.missing, fill_bytes(0));
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

/* Counts what was placed since the queue was opened. */
static __always_inline void count_placed(struct crosstalk_endpoint *ep)
{
	struct crosstalk_push *push = &ep->push;
	struct crosstalk_endpoint *peer = push->peer;

	crosstalk_account(push->route, push->frames, push->bytes);
	peer->stats.rx_fast_packets += push->frames;
	peer->stats.rx_fast_bytes += push->bytes;
	ep->stats.tx_fast_packets += push->frames;
	ep->stats.tx_fast_bytes += push->bytes;
}

/* The end of it; the queue's memory is not looked at. */
static __always_inline void let_go(struct crosstalk_endpoint *ep, bool signal)
	__releases(RCU)
{
	struct crosstalk_push *push = &ep->push;
	struct crosstalk_endpoint *peer = push->peer;
	struct vhost_virtqueue *vq = &push->rx.nvq->vq;

	/* For sparse: it comes from crosstalk_push_open(). */
	__acquire(&peer->mirror->lock);
	if (push->frames) {
		count_placed(ep);
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

/**
 * __crosstalk_push_close() - crosstalk_push_close() of an open queue
 * @ep: sender with an open queue
 *
 * Context: the sender's worker, tx->mutex held.
 */
void __crosstalk_push_close(struct crosstalk_endpoint *ep)
{
	struct crosstalk_push *push = &ep->push;

	/* For sparse: it comes from the caller of crosstalk_push_open(). */
	__acquire(RCU);
	crosstalk_rx_publish(&push->rx);
	/* As vhost: without a ctx, what the guest wants is left for later. */
	let_go(ep, push->rx.nvq->vq.call_ctx.ctx &&
	       crosstalk_rx_want_signal(&push->rx));
}

/*
 * Makes the context one that may sleep.  The receiver's rx->mutex stays locked,
 * and keeps its device, backend, buffers and mirror: unhooking and vhost-net wait
 * for it.  The frame's verdict keeps the route.  RCU is only needed again to
 * unlock.
 */
static void suspend(struct crosstalk_push *push)
{
	/* For sparse: they come from crosstalk_push_open() and its caller. */
	__acquire(RCU);
	__acquire(&push->peer->mirror->lock);
	crosstalk_rx_publish(&push->rx);
	push->unseen = 0;
	pagefault_enable();
	read_unlock(&push->peer->mirror->lock);
	rcu_read_unlock();
}

/* The opposite.  If it fails, the queue is closed. */
static enum crosstalk_push_result resume(struct crosstalk_endpoint *ep)
{
	struct crosstalk_push *push = &ep->push;
	struct crosstalk_endpoint *peer = push->peer;
	bool unsignalled = push->rx.unsignalled;
	enum crosstalk_push_result ret;

	rcu_read_lock();
	read_lock(&peer->mirror->lock);
	pagefault_disable();
	/* Pages of the ring may have gone meanwhile. */
	ret = CROSSTALK_PUSH_SLOW;
	switch (crosstalk_rx_open(&push->rx, &peer->ring, push->rx.nvq,
				  peer->mirror)) {
	case CROSSTALK_RX_OK:
		push->rx.unsignalled = unsignalled;
		__release(&peer->mirror->lock);
		__release(RCU);
		return CROSSTALK_PUSH_OK;
	case CROSSTALK_RX_MISSING:
		ret = wait_for_fill(ep, peer, push->rx.missing, 0);
		fallthrough;
	default:
		__release(&peer->mirror->lock);
		/* It cannot be asked whether it wants to know. */
		let_go(ep, unsignalled && push->rx.nvq->vq.call_ctx.ctx);
		return ret;
	}
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
			return wait_for_fill(ep, push->peer, push->rx.missing,
					     fill_bytes(len));
		case CROSSTALK_RX_TOO_LARGE:
			return CROSSTALK_PUSH_UNFIT;
		default:
			return CROSSTALK_PUSH_SLOW;
		}
	} while (again && ret == CROSSTALK_PUSH_WAIT);

	return ret;
}

static __always_inline void make_vnet(struct virtio_net_hdr_mrg_rxbuf *vnet,
				      const struct crosstalk_frame *frame,
				      const struct crosstalk_rx *rx)
{
	crosstalk_frame_vnet(frame, vnet);
	vnet->num_buffers = cpu_to_vq16(&rx->nvq->vq, rx->nr_chains);
}

/*
 * One stretch takes the frame, whose rest is in the sender's first buffer: what
 * most frames need.
 */
static __always_inline bool place_flat(const struct crosstalk_rx *rx,
				       size_t hlen,
				       const struct crosstalk_frame *frame,
				       const void __user *rest)
{
	size_t len = frame->len - frame->head_len;
	struct virtio_net_hdr_mrg_rxbuf vnet;
	void *to = rx->pieces[0].addr;

	make_vnet(&vnet, frame, rx);
	if (likely(hlen == sizeof(vnet)))
		memcpy(to, &vnet, sizeof(vnet));
	else
		memcpy(to, &vnet.hdr, sizeof(vnet.hdr));
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

/* Any stretches and segments.  Not inlined: few frames need its stack. */
static noinline bool place_pieces(const struct crosstalk_rx *rx, size_t hlen,
				  const struct crosstalk_frame *frame,
				  const struct crosstalk_chain *chain,
				  const struct vhost_net_virtqueue *tx)
{
	struct sink sink = { .piece = rx->pieces };
	struct virtio_net_hdr_mrg_rxbuf vnet;

	make_vnet(&vnet, frame, rx);
	sink_write(&sink, &vnet, hlen);
	sink_write(&sink, frame->head, frame->head_len);
	return frame->len <= frame->head_len ||
	       likely(sink_write_user(&sink, tx->vq.iov, chain->out,
				      tx->sock_hlen + frame->head_len,
				      frame->len - frame->head_len));
}

static bool place_frame(const struct crosstalk_rx *rx, size_t hlen,
			const struct crosstalk_frame *frame,
			const struct crosstalk_chain *chain,
			const struct vhost_net_virtqueue *tx)
{
	size_t done = tx->sock_hlen + frame->head_len;

	if (likely(rx->nr_pieces == 1 && chain->out == 1 &&
		   frame->len > frame->head_len))
		return place_flat(rx, hlen, frame,
				  tx->vq.iov[0].iov_base + done);
	return place_pieces(rx, hlen, frame, chain, tx);
}

/* Finds buffers: each stretch of bytes in its own, each page in a whole one. */
static enum crosstalk_rx_result
plan_remap(struct crosstalk_rx *rx, const struct crosstalk_remap *remap,
	   size_t hlen, unsigned long *to)
{
	const struct crosstalk_remap_part *part = remap->part;
	enum crosstalk_rx_result ret;
	unsigned int pages;

	crosstalk_rx_begin(rx);
	ret = crosstalk_rx_more(rx, hlen + remap->head + part->len);
	while (!ret && ++part < remap->part + remap->nr_parts) {
		if (!part->whole) {
			ret = crosstalk_rx_more(rx, part->len);
			continue;
		}
		pages = part->len / PAGE_SIZE;
		ret = crosstalk_rx_pages(rx, to, pages);
		to += pages;
	}
	crosstalk_rx_end(rx);
	if (rx->nr_pieces > CROSSTALK_REMAP_PIECES)
		ret = CROSSTALK_RX_TOO_LARGE;
	return ret;
}

/* Keeps where the stretches of bytes go. */
static void keep_pieces(struct crosstalk_remap *remap,
			const struct crosstalk_rx *rx)
{
	unsigned int i;

	for (i = 0; i < rx->nr_pieces; i++) {
		remap->pieces[i].addr = (unsigned long)rx->pieces[i].addr;
		remap->pieces[i].len = rx->pieces[i].len;
	}
	remap->nr_pieces = rx->nr_pieces;
}

static bool has_pieces(const struct crosstalk_remap *remap,
		       const struct crosstalk_rx *rx)
{
	unsigned int i;

	if (rx->nr_pieces != remap->nr_pieces)
		return false;
	for (i = 0; i < rx->nr_pieces; i++)
		if (remap->pieces[i].addr != (unsigned long)rx->pieces[i].addr ||
		    remap->pieces[i].len != rx->pieces[i].len)
			return false;
	return true;
}

/* From now on they are the kernel's addresses of the pages that are held. */
static void use_pages(const struct crosstalk_remap *remap,
		      struct crosstalk_rx *rx)
{
	unsigned int i;

	for (i = 0; i < rx->nr_pieces; i++)
		rx->pieces[i].addr = page_address(remap->pieces[i].page) +
				     offset_in_page(remap->pieces[i].addr);
}

/* All but the pages. */
static bool place_remapped(struct crosstalk_rx *rx, size_t hlen,
			   const struct crosstalk_frame *frame,
			   const struct crosstalk_chain *chain,
			   const struct crosstalk_remap *remap,
			   const struct vhost_net_virtqueue *tx)
{
	struct sink sink = { .piece = rx->pieces };
	struct virtio_net_hdr_mrg_rxbuf vnet;
	unsigned int i;

	make_vnet(&vnet, frame, rx);
	sink_write(&sink, &vnet, hlen);
	sink_write(&sink, frame->head, remap->head);
	for (i = 0; i < remap->nr_parts; i++) {
		const struct crosstalk_remap_part *part = &remap->part[i];

		if (!part->whole && part->len &&
		    !sink_write_user(&sink, tx->vq.iov, chain->out, part->skip,
				     part->len))
			return false;
	}
	return true;
}

static __always_inline void finish_frame(struct crosstalk_endpoint *ep, size_t len)
{
	struct crosstalk_push *push = &ep->push;

	crosstalk_rx_commit(&push->rx);
	push->bytes += len;
	push->frames++;
	if (++push->unseen >= PUBLISH_FRAMES) {
		crosstalk_rx_publish(&push->rx);
		push->unseen = 0;
	}
	ep->park.since = 0;
	ep->remap.copy_next = false;
}

/* The last buffers belong to frames that came before, by the tap. */
static bool is_late(const struct crosstalk_rx *rx)
{
	return unlikely(crosstalk_rx_room(rx) <
			rx->nr_chains + VHOST_NET_BATCH) &&
	       has_backlog(rx->nvq);
}

/*
 * Whether the buffers that were found before the queue was suspended are still
 * theirs; rx->mutex kept the ring.  If pages have left the mirror they are looked
 * for once more: those of the ring may be among them, and have moved.
 */
static bool is_planned(struct crosstalk_rx *rx,
		       const struct crosstalk_remap *remap, size_t hlen,
		       unsigned long changes)
{
	unsigned long to[GUESTRAM_SHARE_MAX];

	if (likely(rx->mirror->changes == changes))
		return true;
	return !plan_remap(rx, remap, hlen, to) && has_pieces(remap, rx) &&
	       !memcmp(to, remap->to, remap->nr_pages * sizeof(*to));
}

/* The queue is open again, and the pages have their contents if @done. */
static enum crosstalk_push_result
finish_remapped(struct crosstalk_endpoint *ep,
		const struct crosstalk_frame *frame,
		const struct crosstalk_chain *chain,
		struct crosstalk_verdict *v, unsigned long changes, bool done)
{
	struct vhost_net_virtqueue *tx = &ep->net->vqs[VHOST_NET_VQ_TX];
	struct crosstalk_remap *remap = &ep->remap;
	struct crosstalk_rx *rx = &ep->push.rx;
	size_t hlen = rx->nvq->sock_hlen;

	/* It can take any time: the caller asks again for what may have changed. */
	if (unlikely(crosstalk_verdict_is_over(v, jiffies) ||
		     crosstalk_verdict_tapped(v)))
		return CROSSTALK_PUSH_FAULT;
	if (!done)
		return CROSSTALK_PUSH_COPY;

	if (is_late(rx))
		return CROSSTALK_PUSH_SLOW;
	if (unlikely(!is_planned(rx, remap, hlen, changes))) {
		remap->copy_next = true;
		return CROSSTALK_PUSH_COPY;
	}
	use_pages(remap, rx);
	if (unlikely(!place_remapped(rx, hlen, frame, chain, remap, tx)))
		return CROSSTALK_PUSH_FAULT;

	ep->stats.tx_remap_pages += remap->shared;
	ep->stats.tx_remap_bytes += (u64)remap->shared * PAGE_SIZE;
	finish_frame(ep, frame->len);
	return CROSSTALK_PUSH_OK;
}

/*
 * Places a frame whose pages are remapped.  What is no whole page is copied to
 * pages that guestram names, too: those that were shared before are in no
 * mirror, and the receiver's worker need not be waited for.
 */
static noinline enum crosstalk_push_result
push_remapped(struct crosstalk_endpoint *ep,
	      const struct crosstalk_frame *frame,
	      const struct crosstalk_chain *chain, struct crosstalk_verdict *v)
{
	struct crosstalk_remap *remap = &ep->remap;
	struct crosstalk_push *push = &ep->push;
	struct crosstalk_rx *rx = &push->rx;
	enum crosstalk_push_result ret;
	unsigned long changes;
	bool done;

	switch (plan_remap(rx, remap, rx->nvq->sock_hlen, remap->to)) {
	case CROSSTALK_RX_OK:
		break;
	case CROSSTALK_RX_MISSING:
		return wait_for_fill(ep, push->peer, rx->missing, 0);
	default:
		return CROSSTALK_PUSH_COPY;
	}
	/* A copy would be late, too. */
	if (is_late(rx))
		return CROSSTALK_PUSH_SLOW;

	keep_pieces(remap, rx);
	changes = rx->mirror->changes;
	suspend(push);
	done = crosstalk_remap_share(ep, push->peer, &v->remap);
	/* Pages may have left the mirror: the copy may have to wait for them. */
	remap->copy_next = !done;
	/* It waits for other processors, which can take longer than an answer holds. */
	crosstalk_verdict_renew(&ep->detect, v);
	ret = resume(ep);
	if (likely(!ret))
		ret = finish_remapped(ep, frame, chain, v, changes, done);
	crosstalk_remap_disown(ep);
	return ret;
}

/**
 * crosstalk_push_frame() - place a frame in the open queue's buffers
 * @ep: sender
 * @frame: parsed beginning of the frame
 * @chain: its chain, in the sender's vq->iov
 * @v: its verdict, which has the route that the queue was opened by
 *
 * Context: between open and close; may sleep if the frame's pages are remapped.
 * Return: CROSSTALK_PUSH_OK, or what is in the way; then nothing was consumed,
 * and the queue may have been closed.
 */
enum crosstalk_push_result
crosstalk_push_frame(struct crosstalk_endpoint *ep,
		     const struct crosstalk_frame *frame,
		     const struct crosstalk_chain *chain,
		     struct crosstalk_verdict *v)
{
	struct vhost_net_virtqueue *tx = &ep->net->vqs[VHOST_NET_VQ_TX];
	struct crosstalk_push *push = &ep->push;
	struct crosstalk_rx *rx = &push->rx;
	size_t hlen = rx->nvq->sock_hlen;
	enum crosstalk_push_result ret;

	if (unlikely(crosstalk_remap_mode()) &&
	    crosstalk_remap_scan(ep, frame, chain, &v->remap)) {
		ret = push_remapped(ep, frame, chain, v);
		if (ret != CROSSTALK_PUSH_COPY)
			return ret;
	}

	ret = reserve(ep, hlen + frame->len);
	if (unlikely(ret))
		return ret;

	if (is_late(rx))
		return CROSSTALK_PUSH_SLOW;

	if (unlikely(!place_frame(rx, hlen, frame, chain, tx)))
		return CROSSTALK_PUSH_FAULT;

	finish_frame(ep, frame->len);
	return CROSSTALK_PUSH_OK;
}
