/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _CROSSTALK_BACKEND_H
#define _CROSSTALK_BACKEND_H

#include <linux/mm_types.h>
#include <linux/netdevice.h>
#include <linux/types.h>

#include "vhost_private.h"

struct crosstalk_chain;
struct iovec;

/* What kind of socket a TX queue sends to. */
enum crosstalk_backend_kind {
	CROSSTALK_BACKEND_NONE,
	CROSSTALK_BACKEND_TUN,
	CROSSTALK_BACKEND_TAP,		/* macvtap, ipvtap */
	CROSSTALK_BACKEND_FOREIGN,	/* packet socket */
};

/**
 * struct crosstalk_backend - the socket of a TX queue, looked at once
 * @sock: the socket, or NULL; compared with the queue's to see a change
 * @kind: what it is
 */
struct crosstalk_backend {
	struct socket *sock;
	enum crosstalk_backend_kind kind;
};

/**
 * struct crosstalk_txbatch - frames on their way to the backend socket
 * @xdp: frames copied for the tap, VHOST_NET_BATCH of them fit
 * @nr_xdp: how many are in @xdp
 * @heads: used elements of all chains that were taken and not yet completed
 * @nr_heads: how many are in @heads
 * @frag: where frames are copied to
 *
 * Protected by tx->mutex; empty whenever that is released.
 */
struct crosstalk_txbatch {
	struct xdp_buff *xdp;
	unsigned int nr_xdp;
	unsigned int nr_heads;
	struct page_frag_cache frag;
	struct vring_used_elem heads[VHOST_NET_BATCH];
};

int crosstalk_txbatch_init(struct crosstalk_txbatch *batch);
void crosstalk_txbatch_destroy(struct crosstalk_txbatch *batch);

void crosstalk_backend_probe(struct crosstalk_backend *backend,
			     struct socket *sock);
bool crosstalk_backend_dev_get(const struct crosstalk_backend *backend,
			       char *ifname, int *ifindex,
			       const struct net **netns);

int crosstalk_backend_build(struct crosstalk_txbatch *batch,
			    struct socket *sock,
			    const struct vhost_net_virtqueue *nvq,
			    const struct crosstalk_chain *chain);
int crosstalk_backend_send_batch(struct crosstalk_txbatch *batch,
				 struct socket *sock);
int crosstalk_backend_send(struct socket *sock,
			   const struct vhost_net_virtqueue *nvq,
			   const struct crosstalk_chain *chain, bool more);
const u8 *crosstalk_backend_built(const struct crosstalk_txbatch *batch,
				  const struct virtio_net_hdr **gso,
				  unsigned int *len);
void crosstalk_backend_unbuild(struct crosstalk_txbatch *batch);
int crosstalk_copy_from_segments(void *to, const struct iovec *iov,
				 unsigned int nr, size_t skip, size_t len);

#endif /* _CROSSTALK_BACKEND_H */
