/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The inside of vhost, as this module sees it.
 *
 * The structs come from the target kernel's BTF (gen-layout.sh).  Those of
 * vhost.ko are covered by the modversion CRCs of the functions declared below:
 * a module that was built for another layout is refused at load.  Those of
 * vhost_net.ko and tun.ko are covered by no CRC: layout.c compares them with
 * the running kernel's BTF before the module acts.
 */
#ifndef _CROSSTALK_VHOST_PRIVATE_H
#define _CROSSTALK_VHOST_PRIVATE_H

#include <linux/eventfd.h>
#include <linux/ethtool.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/irqbypass.h>
#include <linux/llist.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/ptr_ring.h>
#include <linux/uio.h>
#include <linux/vhost.h>
#include <linux/vhost_iotlb.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <net/sock.h>
#include <net/xdp.h>

#include "compat.h"

struct vhost_work;
struct vhost_worker;
struct vhost_iotlb_msg;
struct vhost_net_ubuf_ref;
struct ubuf_info_msgzc;
struct tun_prog;
typedef void (*vhost_work_fn_t)(struct vhost_work *work);

/* tun's own limits of its address filter, part of struct tun_struct */
#define FLT_EXACT_COUNT 8
struct tap_filter {
	unsigned int count;
	u32 mask[2];
	unsigned char addr[FLT_EXACT_COUNT][ETH_ALEN];
};

#include <generated/vhost_layout.h>

enum {
	VHOST_NET_VQ_RX = 0,
	VHOST_NET_VQ_TX = 1,
	VHOST_NET_VQ_MAX = 2,
};

/* Frames that vhost-net hands to the tap at a time. */
#define VHOST_NET_BATCH 64

/* Bytes after which vhost-net lets other work of the same worker run. */
#define VHOST_NET_WEIGHT 0x80000

/* Exported by vhost.ko */
int vhost_poll_start(struct vhost_poll *poll, struct file *file);
void vhost_poll_stop(struct vhost_poll *poll);
void vhost_poll_queue(struct vhost_poll *poll);
void vhost_discard_vq_desc(struct vhost_virtqueue *vq, int n);
int vhost_add_used_n(struct vhost_virtqueue *vq, struct vring_used_elem *heads,
		     unsigned int count);
void vhost_disable_notify(struct vhost_dev *dev, struct vhost_virtqueue *vq);
bool vhost_enable_notify(struct vhost_dev *dev, struct vhost_virtqueue *vq);
bool vhost_vq_avail_empty(struct vhost_dev *dev, struct vhost_virtqueue *vq);
bool vhost_exceeds_weight(struct vhost_virtqueue *vq, int pkts, int total_len);

static inline bool vhost_vq_has(const struct vhost_virtqueue *vq, int bit)
{
	return vq->acked_features & BIT_ULL(bit);
}

/* Kconfig keeps cross-endian legacy rings out. */
static inline bool vhost_vq_is_le(const struct vhost_virtqueue *vq)
{
	return virtio_legacy_is_little_endian() || vq->is_le;
}

static inline u16 vq16_to_cpu(const struct vhost_virtqueue *vq, __virtio16 val)
{
	return __virtio16_to_cpu(vhost_vq_is_le(vq), val);
}

static inline u32 vq32_to_cpu(const struct vhost_virtqueue *vq, __virtio32 val)
{
	return __virtio32_to_cpu(vhost_vq_is_le(vq), val);
}

static inline u64 vq64_to_cpu(const struct vhost_virtqueue *vq, __virtio64 val)
{
	return __virtio64_to_cpu(vhost_vq_is_le(vq), val);
}

static inline __virtio16 cpu_to_vq16(const struct vhost_virtqueue *vq, u16 val)
{
	return __cpu_to_virtio16(vhost_vq_is_le(vq), val);
}

static inline __virtio32 cpu_to_vq32(const struct vhost_virtqueue *vq, u32 val)
{
	return __cpu_to_virtio32(vhost_vq_is_le(vq), val);
}

#endif /* _CROSSTALK_VHOST_PRIVATE_H */
