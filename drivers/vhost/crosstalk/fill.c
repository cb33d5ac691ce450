// SPDX-License-Identifier: GPL-2.0
/*
 * Filling a receiver's mirror: what senders miss, its own worker puts there.
 *
 * Only that has the receiver's address space as its own and may wait for its
 * pages.  A sender that finds something missing asks for it (push.c) and parks.
 */

#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include "endpoint.h"
#include "push.h"
#include "vring.h"

/* Bytes that one request fills at most, and those of one buffer. */
#define FILL_BYTES (16 << 20)
#define FILL_CHAIN (128 << 10)

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
 * Mirrors the buffers that are posted, as many as were asked for; the ring stays
 * as it is.  A guest can post the same memory over and over, and while this runs:
 * there is an end to what is done for it, a ring at most.
 */
static void fill_buffers(struct crosstalk_endpoint *ep,
			 struct vhost_virtqueue *vq)
{
	u16 last_avail_idx = vq->last_avail_idx;
	struct crosstalk_chain chain = {};
	unsigned int chains = vq->num;
	size_t left = min_t(size_t, ep->fill_bytes, FILL_BYTES);

	while (left && chains-- && !READ_ONCE(ep->dead) &&
	       !fatal_signal_pending(current)) {
		if (crosstalk_vring_fetch(vq, &chain) <= 0 ||
		    fill_chain(ep, vq, &chain, &left))
			break;
		cond_resched();
	}

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
