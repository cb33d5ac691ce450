/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Every difference between the supported kernels, decided by the presence of
 * an API (generated/kernel_api.h), never by a version number.
 */
#ifndef _CROSSTALK_COMPAT_H
#define _CROSSTALK_COMPAT_H

#include <linux/eventfd.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/if_bridge.h>
#include <linux/mm.h>
#include <linux/mm_types.h>
#include <linux/neighbour.h>
#include <linux/netdevice.h>
#include <linux/virtio_net.h>
#include <net/net_namespace.h>

#include <generated/kernel_api.h>

#ifdef HAVE_NET_DEVICE_TCX_INGRESS
#include <linux/bpf_mprog.h>
#include <net/tcx.h>
#endif

/* page_frag_cache_drain() came with vhost-net's use of page_frag_cache. */
#ifdef HAVE_PAGE_FRAG_CACHE_DRAIN
#define crosstalk_page_frag_drain(nc) page_frag_cache_drain(nc)
#else
static inline void crosstalk_page_frag_drain(struct page_frag_cache *nc)
{
	if (!nc->va)
		return;

	__page_frag_cache_drain(virt_to_head_page(nc->va), nc->pagecnt_bias);
	nc->va = NULL;
}
#endif

/* eventfd_signal() lost its count when it stopped being a function of its own. */
#ifdef HAVE_EVENTFD_SIGNAL_COUNT
#define crosstalk_eventfd_signal(ctx) ((void)eventfd_signal(ctx, 1))
#else
#define crosstalk_eventfd_signal(ctx) eventfd_signal(ctx)
#endif

struct vhost_dev;
struct vhost_virtqueue;

/* Whether other work waits for the worker that runs a queue. */
#ifdef HAVE_VHOST_VQ_HAS_WORK
bool vhost_vq_has_work(struct vhost_virtqueue *vq);
#define crosstalk_has_work(dev, vq) vhost_vq_has_work(vq)
#else
bool vhost_has_work(struct vhost_dev *dev);
#define crosstalk_has_work(dev, vq) vhost_has_work(dev)
#endif

/* UDP segmentation of virtio-net; a tap of an older kernel refuses it. */
#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

/* Locked forwarding entries and suppression by VLAN: elsewhere, there are none. */
#ifdef NTF_EXT_LOCKED
#define CROSSTALK_NTF_EXT_LOCKED NTF_EXT_LOCKED
#else
#define CROSSTALK_NTF_EXT_LOCKED 0
#endif

#ifdef BR_NEIGH_VLAN_SUPPRESS
#define CROSSTALK_BR_NEIGH_VLAN_SUPPRESS BR_NEIGH_VLAN_SUPPRESS
#else
#define CROSSTALK_BR_NEIGH_VLAN_SUPPRESS 0
#endif

/* tc: a chain of filters or programs (tcx), or filters only (miniq); RCU. */
#if defined(HAVE_NET_DEVICE_TCX_INGRESS)
static inline bool crosstalk_tcx_is_used(struct bpf_mprog_entry *entry)
{
	return entry && (bpf_mprog_total(entry) ||
			 rcu_access_pointer(tcx_entry(entry)->miniq));
}

static inline bool crosstalk_dev_tc_ingress(const struct net_device *dev)
{
	return crosstalk_tcx_is_used(rcu_dereference(dev->tcx_ingress));
}

static inline bool crosstalk_dev_tc_egress(const struct net_device *dev)
{
	return crosstalk_tcx_is_used(rcu_dereference(dev->tcx_egress));
}
#elif defined(HAVE_NET_DEVICE_MINIQ_INGRESS)
static inline bool crosstalk_dev_tc_ingress(const struct net_device *dev)
{
	return rcu_access_pointer(dev->miniq_ingress);
}

static inline bool crosstalk_dev_tc_egress(const struct net_device *dev)
{
	return rcu_access_pointer(dev->miniq_egress);
}
#else
static inline bool crosstalk_dev_tc_ingress(const struct net_device *dev)
{
	return false;
}

static inline bool crosstalk_dev_tc_egress(const struct net_device *dev)
{
	return false;
}
#endif

/* Hooks of nftables and flow tables on one interface. */
static inline bool crosstalk_dev_nft_ingress(const struct net_device *dev)
{
#ifdef HAVE_NET_DEVICE_NF_HOOKS_INGRESS
	return rcu_access_pointer(dev->nf_hooks_ingress);
#else
	return false;
#endif
}

static inline bool crosstalk_dev_nft_egress(const struct net_device *dev)
{
#ifdef HAVE_NET_DEVICE_NF_HOOKS_EGRESS
	return rcu_access_pointer(dev->nf_hooks_egress);
#else
	return false;
#endif
}

/* Hooks of a name space's bridges; under RCU. */
static inline const struct nf_hook_entries *
crosstalk_bridge_hooks(const struct net *net, unsigned int hook)
{
#ifdef HAVE_NETNS_NF_HOOKS_BRIDGE
	return rcu_dereference(net->nf.hooks_bridge[hook]);
#else
	return NULL;
#endif
}

/* What a queue gives frames to when it is up; became RCU's in some kernels. */
static inline const struct Qdisc *
crosstalk_txq_qdisc(const struct netdev_queue *txq)
{
	return (__force const struct Qdisc *)READ_ONCE(txq->qdisc_sleeping);
}

static inline unsigned int
crosstalk_dev_gso_max_size(const struct net_device *dev)
{
#ifdef HAVE_NET_DEVICE_GSO_IPV4_MAX_SIZE
	return min(READ_ONCE(dev->gso_max_size),
		   READ_ONCE(dev->gso_ipv4_max_size));
#else
	return READ_ONCE(dev->gso_max_size);
#endif
}

/* Who a file's owner is seen by: a mount, a user name space before. */
#ifdef HAVE_NOP_MNT_IDMAP
#define crosstalk_idmap mnt_idmap
#define crosstalk_nop_idmap (&nop_mnt_idmap)
#else
#define crosstalk_idmap user_namespace
#define crosstalk_nop_idmap (&init_user_ns)
#endif

/* An inode's times became accessors. */
#ifdef HAVE_SIMPLE_INODE_INIT_TS
#define crosstalk_inode_init_ts(inode) ((void)simple_inode_init_ts(inode))

static inline void crosstalk_inode_touch(struct inode *inode)
{
	inode_set_mtime_to_ts(inode, inode_set_ctime_current(inode));
}
#else
static inline void crosstalk_inode_touch(struct inode *inode)
{
	inode->i_ctime = current_time(inode);
	inode->i_mtime = inode->i_ctime;
}

static inline void crosstalk_inode_init_ts(struct inode *inode)
{
	crosstalk_inode_touch(inode);
	inode->i_atime = inode->i_mtime;
}
#endif

/* Splicing from a file by its read_iter. */
#ifdef HAVE_COPY_SPLICE_READ
#define crosstalk_splice_read copy_splice_read
#else
#define crosstalk_splice_read generic_file_splice_read
#endif

/* Code that a kernel without kretprobes (User Mode Linux) must do without. */
#ifdef CONFIG_KRETPROBES
#define CROSSTALK_HAVE_KRETPROBES 1
#else
#define CROSSTALK_HAVE_KRETPROBES 0
#endif

/* Inner functions that the KUnit module calls. */
#if IS_ENABLED(CONFIG_KUNIT)
#define EXPORT_SYMBOL_FOR_CROSSTALK_TEST(sym) \
	EXPORT_SYMBOL_NS_GPL(sym, VHOST_CROSSTALK_TEST)
#else
#define EXPORT_SYMBOL_FOR_CROSSTALK_TEST(sym) \
	static_assert(!__builtin_types_compatible_p(typeof(sym), void))
#endif

#endif /* _CROSSTALK_COMPAT_H */
