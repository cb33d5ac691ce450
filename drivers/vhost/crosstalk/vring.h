/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _CROSSTALK_VRING_H
#define _CROSSTALK_VRING_H

#include <linux/types.h>

struct vhost_iotlb_map;
struct vhost_dev;
struct vhost_virtqueue;
struct vring_used_elem;

/**
 * struct crosstalk_chain - a descriptor chain that was fetched from a ring
 * @head: index of its first descriptor, to be handed back in the used ring
 * @out: segments of vq->iov that the guest wrote for the host
 * @in: segments of vq->iov, after those, that the host may write
 * @out_len: bytes in the @out segments
 * @map: region that was hit last, NULL at first.  Chains rarely leave it.
 * vq->umem is replaced under vq->mutex, so it holds from fetch to fetch until
 * the mutex is dropped.
 */
struct crosstalk_chain {
	u16 head;
	unsigned int out;
	unsigned int in;
	size_t out_len;
	const struct vhost_iotlb_map *map;
};

int crosstalk_vring_fetch(struct vhost_virtqueue *vq,
			  struct crosstalk_chain *chain);
int crosstalk_vring_add_used(struct vhost_virtqueue *vq,
			     struct vring_used_elem *heads, unsigned int count);
void crosstalk_vring_error(struct vhost_virtqueue *vq);
int crosstalk_vring_poll(struct vhost_virtqueue *vq);
bool crosstalk_vring_enable_notify(struct vhost_dev *dev,
				   struct vhost_virtqueue *vq);
int crosstalk_vring_ask(struct vhost_virtqueue *vq);
bool crosstalk_vring_signal(struct vhost_virtqueue *vq);

#endif /* _CROSSTALK_VRING_H */
