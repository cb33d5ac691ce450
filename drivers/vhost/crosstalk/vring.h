/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _CROSSTALK_VRING_H
#define _CROSSTALK_VRING_H

#include <linux/build_bug.h>
#include <linux/types.h>
#include <linux/virtio_types.h>
#include <linux/virtio_ring.h>

struct vhost_iotlb_map;
struct vhost_dev;
struct vhost_virtqueue;
struct vring_used_elem;

/**
 * struct crosstalk_desc - copy of a descriptor, in the ring's byte order
 * @addr: see struct vring_desc
 * @word0: the same, as a word that can be loaded once
 * @len: see struct vring_desc
 * @flags: likewise
 * @next: likewise
 * @word1: all three of them, as a word that can be loaded once
 *
 * For struct vring_desc, which is aligned to 16, each function that has one
 * would align its stack; so it would for an array of two words.
 */
struct crosstalk_desc {
	union {
		__virtio64 addr;
		u64 word0;
	};
	union {
		struct {
			__virtio32 len;
			__virtio16 flags;
			__virtio16 next;
		};
		u64 word1;
	};
};

static_assert(sizeof(struct crosstalk_desc) == sizeof(struct vring_desc));

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
