// SPDX-License-Identifier: GPL-2.0
/*
 * The backend socket of a TX queue: what it is, and how frames reach it.
 *
 * Frames are handed over as vhost-net's handle_tx_copy() of 6.12 does (it
 * follows the page_frag_cache conversion of vhost_net_build_xdp() and the
 * header checks after it): small ones are copied into buffers that the tap
 * turns into skbs without another copy, a batch at a time; large ones go one by
 * one.
 */

#include <linux/align.h>
#include <linux/if_tap.h>
#include <linux/if_tun.h>
#include <linux/rcupdate.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "backend.h"
#include "vring.h"

/* Head room that tun leaves in front of a frame. */
#define CROSSTALK_RX_PAD (NET_IP_ALIGN + NET_SKB_PAD)

/**
 * crosstalk_txbatch_init() - allocate what a batch needs
 * @batch: zeroed
 *
 * Context: process context, may sleep.
 * Return: 0 or -ENOMEM.
 */
int crosstalk_txbatch_init(struct crosstalk_txbatch *batch)
{
	batch->xdp = kcalloc(VHOST_NET_BATCH, sizeof(*batch->xdp), GFP_KERNEL);
	return batch->xdp ? 0 : -ENOMEM;
}

/**
 * crosstalk_txbatch_destroy() - free an empty batch
 * @batch: one that nobody uses any more
 *
 * Context: any but hard interrupt.
 */
void crosstalk_txbatch_destroy(struct crosstalk_txbatch *batch)
{
	crosstalk_page_frag_drain(&batch->frag);
	kfree(batch->xdp);
}

/**
 * crosstalk_backend_probe() - find out what a socket is
 * @backend: filled in
 * @sock: the queue's private_data, or NULL
 *
 * Context: the queue's mutex held, which keeps the socket's file open.
 */
void crosstalk_backend_probe(struct crosstalk_backend *backend,
			     struct socket *sock)
{
	struct file *file = sock ? sock->file : NULL;

	backend->sock = sock;
	if (!sock)
		backend->kind = CROSSTALK_BACKEND_NONE;
	else if (file && tun_get_socket(file) == sock)
		backend->kind = CROSSTALK_BACKEND_TUN;
	else if (file && tap_get_socket(file) == sock)
		backend->kind = CROSSTALK_BACKEND_TAP;
	else
		backend->kind = CROSSTALK_BACKEND_FOREIGN;
}

static struct net_device *backend_dev(const struct crosstalk_backend *backend)
{
	struct tun_struct *tun;
	struct tap_dev *tap;

	switch (backend->kind) {
	case CROSSTALK_BACKEND_TUN:
		tun = rcu_dereference(container_of(backend->sock,
						   struct tun_file,
						   socket)->tun);
		return tun ? tun->dev : NULL;
	case CROSSTALK_BACKEND_TAP:
		tap = rcu_dereference(container_of(backend->sock,
						   struct tap_queue,
						   sock)->tap);
		return tap ? tap->dev : NULL;
	default:
		return NULL;
	}
}

/**
 * crosstalk_backend_dev_get() - the network interface behind a socket
 * @backend: probed
 * @ifname: IFNAMSIZ bytes, filled in
 * @ifindex: filled in
 * @netns: filled in, to be compared and never followed
 *
 * Context: the queue's mutex held; does not sleep.
 * Return: whether there is one (a tap can be detached from its interface).
 */
bool crosstalk_backend_dev_get(const struct crosstalk_backend *backend,
			       char *ifname, int *ifindex,
			       const struct net **netns)
{
	struct net_device *dev;

	rcu_read_lock();
	dev = backend_dev(backend);
	if (dev) {
		strscpy(ifname, dev->name, IFNAMSIZ);
		*ifindex = dev->ifindex;
		*netns = dev_net(dev);
	}
	rcu_read_unlock();
	return dev;
}

/**
 * crosstalk_copy_from_segments() - gather bytes of a chain
 * @to: kernel buffer
 * @iov: segments, in the guest owner's address space
 * @nr: how many
 * @skip: bytes to leave out first
 * @len: bytes to copy
 *
 * Context: the queue's own worker, may fault and sleep.
 * Return: 0, or -EFAULT for memory that is gone or a chain that is too short.
 */
int crosstalk_copy_from_segments(void *to, const struct iovec *iov,
				 unsigned int nr, size_t skip, size_t len)
{
	for (; nr && skip >= iov->iov_len; nr--, iov++)
		skip -= iov->iov_len;

	for (; nr && len; nr--, iov++) {
		size_t size = min(len, iov->iov_len - skip);

		/* vhost checked the addresses when it got the memory table. */
		if (unlikely(__copy_from_user(to, iov->iov_base + skip, size)))
			return -EFAULT;
		skip = 0;
		to += size;
		len -= size;
	}
	return len ? -EFAULT : 0;
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_copy_from_segments);

/*
 * Some guests leave hdr_len too small for the checksum that they ask for; the
 * tap would refuse the frame.
 */
static int fix_hdr_len(const struct vhost_virtqueue *vq,
		       struct virtio_net_hdr *gso, size_t len)
{
	unsigned int csum_end;

	if (!(gso->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
		return 0;

	csum_end = vq16_to_cpu(vq, gso->csum_start) +
		   vq16_to_cpu(vq, gso->csum_offset) + 2;
	if (csum_end <= vq16_to_cpu(vq, gso->hdr_len))
		return 0;

	gso->hdr_len = cpu_to_vq16(vq, csum_end);
	return vq16_to_cpu(vq, gso->hdr_len) > len ? -EINVAL : 0;
}

/* Large pages if they come without effort, as the stack does it. */
static void *alloc_frag(struct page_frag_cache *cache, unsigned int size)
{
	void *buf;

	buf = page_frag_alloc(cache, size, (GFP_KERNEL | __GFP_NOWARN) &
					   ~__GFP_DIRECT_RECLAIM);
	return likely(buf) ? buf : page_frag_alloc(cache, size, GFP_KERNEL);
}

/**
 * crosstalk_backend_build() - copy a frame into the batch
 * @batch: with room for another frame
 * @sock: the backend
 * @nvq: TX queue whose vq.iov holds the frame
 * @chain: the frame's chain, longer than nvq->vhost_hlen
 *
 * Context: the queue's own worker, tx->mutex held; may fault and sleep.
 * Return: 0; -ENOSPC for a frame that is too large for a page and must be sent
 * by crosstalk_backend_send(); -ENOMEM; -EFAULT or -EINVAL for a bad frame.
 */
int crosstalk_backend_build(struct crosstalk_txbatch *batch,
			    struct socket *sock,
			    const struct vhost_net_virtqueue *nvq,
			    const struct crosstalk_chain *chain)
{
	int headroom = sock_flag(sock->sk, SOCK_XDP) ? XDP_PACKET_HEADROOM : 0;
	int pad = SKB_DATA_ALIGN(CROSSTALK_RX_PAD + headroom + nvq->sock_hlen);
	const struct vhost_virtqueue *vq = &nvq->vq;
	size_t len = chain->out_len - nvq->vhost_hlen;
	struct xdp_buff *xdp = &batch->xdp[batch->nr_xdp];
	struct tun_xdp_hdr *hdr;
	int buflen;
	void *buf;
	int ret;

	if (unlikely(len < nvq->sock_hlen))
		return -EINVAL;
	if (len > PAGE_SIZE)
		return -ENOSPC;

	buflen = SKB_DATA_ALIGN(len + pad) +
		 SKB_DATA_ALIGN(sizeof(struct skb_shared_info));
	if (buflen > PAGE_SIZE)
		return -ENOSPC;

	/* All sizes are multiples of the cache line, and so all addresses. */
	buf = alloc_frag(&batch->frag, buflen);
	if (unlikely(!buf))
		return -ENOMEM;

	hdr = buf;
	if (likely(nvq->sock_hlen)) {
		ret = crosstalk_copy_from_segments(&hdr->gso, vq->iov,
						   chain->out, nvq->vhost_hlen,
						   nvq->sock_hlen);
		if (unlikely(ret))
			goto err;
	} else {
		memset(buf, 0, pad);
	}

	ret = fix_hdr_len(vq, &hdr->gso, len);
	if (unlikely(ret))
		goto err;

	len -= nvq->sock_hlen;
	ret = crosstalk_copy_from_segments(buf + pad, vq->iov, chain->out,
					   nvq->vhost_hlen + nvq->sock_hlen,
					   len);
	if (unlikely(ret))
		goto err;

	xdp_init_buff(xdp, buflen, NULL);
	xdp_prepare_buff(xdp, buf, pad, len, true);
	hdr->buflen = buflen;
	batch->nr_xdp++;
	return 0;

err:
	page_frag_free(buf);
	return ret;
}

/**
 * crosstalk_backend_built() - the frame that was put in a batch last
 * @batch: one to which crosstalk_backend_build() has just added a frame
 * @gso: filled in: its virtio-net header
 * @len: filled in: its length from the Ethernet header on
 *
 * Return: its Ethernet header.
 */
const u8 *crosstalk_backend_built(const struct crosstalk_txbatch *batch,
				  const struct virtio_net_hdr **gso,
				  unsigned int *len)
{
	const struct xdp_buff *xdp = &batch->xdp[batch->nr_xdp - 1];
	const struct tun_xdp_hdr *hdr = xdp->data_hard_start;

	*gso = &hdr->gso;
	*len = xdp->data_end - xdp->data;
	return xdp->data;
}

/**
 * crosstalk_backend_unbuild() - take the last frame out of a batch again
 * @batch: one to which crosstalk_backend_build() has just added a frame
 */
void crosstalk_backend_unbuild(struct crosstalk_txbatch *batch)
{
	batch->nr_xdp--;
	page_frag_free(batch->xdp[batch->nr_xdp].data_hard_start);
}

/**
 * crosstalk_backend_send_batch() - hand the frames of a batch to the tap
 * @batch: may be empty; has no frames afterwards
 * @sock: the backend
 *
 * Context: tx->mutex held; may sleep.
 * Return: frames that were lost because the socket took none of them (a tap
 * that was detached from its interface), usually 0.
 */
int crosstalk_backend_send_batch(struct crosstalk_txbatch *batch,
				 struct socket *sock)
{
	struct tun_msg_ctl ctl = {
		.type = TUN_MSG_PTR,
		.num = batch->nr_xdp,
		.ptr = batch->xdp,
	};
	struct msghdr msg = {
		.msg_control = &ctl,
		.msg_controllen = sizeof(ctl),
		.msg_flags = MSG_DONTWAIT,
	};
	int lost = 0;
	int i;

	if (!batch->nr_xdp)
		return 0;

	if (unlikely(sock->ops->sendmsg(sock, &msg, 0) < 0)) {
		lost = batch->nr_xdp;
		for (i = 0; i < lost; i++)
			page_frag_free(batch->xdp[i].data_hard_start);
	}
	batch->nr_xdp = 0;
	return lost;
}

/**
 * crosstalk_backend_send() - hand one frame to the tap
 * @sock: the backend
 * @nvq: TX queue whose vq.iov holds the frame
 * @chain: the frame's chain
 * @more: whether another frame follows at once
 *
 * Context: the queue's own worker, tx->mutex held; may fault and sleep.
 * Return: bytes taken, or a negative error; -EAGAIN, -ENOMEM and -ENOBUFS mean
 * that the frame should be tried again when the socket is writable.
 */
int crosstalk_backend_send(struct socket *sock,
			   const struct vhost_net_virtqueue *nvq,
			   const struct crosstalk_chain *chain, bool more)
{
	struct msghdr msg = {
		.msg_flags = MSG_DONTWAIT | (more ? MSG_MORE : 0),
	};

	iov_iter_init(&msg.msg_iter, ITER_SOURCE, nvq->vq.iov, chain->out,
		      chain->out_len);
	iov_iter_advance(&msg.msg_iter, nvq->vhost_hlen);
	return sock->ops->sendmsg(sock, &msg, iov_iter_count(&msg.msg_iter));
}
