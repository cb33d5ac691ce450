/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _CROSSTALK_ENDPOINT_H
#define _CROSSTALK_ENDPOINT_H

#include <linux/etherdevice.h>
#include <linux/fs.h>
#include <linux/if.h>
#include <linux/kobject.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/skbuff.h>
#include <linux/spinlock.h>
#include <linux/types.h>

#include "backend.h"
#include "detect.h"
#include "frame.h"
#include "push.h"
#include "remap.h"

struct net;
struct vhost_net;

/*
 * Features under which the ring and the frames are what vring.c and backend.c
 * expect.  VIRTIO_F_ACCESS_PLATFORM is the vIOMMU's; VHOST_F_LOG_ALL is fine
 * for sending, because vhost itself writes a used ring that is logged.
 */
#define CROSSTALK_FEATURES (BIT_ULL(VIRTIO_F_NOTIFY_ON_EMPTY) | \
			    BIT_ULL(VIRTIO_F_ANY_LAYOUT) | \
			    BIT_ULL(VIRTIO_F_VERSION_1) | \
			    BIT_ULL(VIRTIO_F_RING_RESET) | \
			    BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) | \
			    BIT_ULL(VIRTIO_RING_F_EVENT_IDX) | \
			    BIT_ULL(VIRTIO_NET_F_MRG_RXBUF) | \
			    BIT_ULL(VHOST_NET_F_VIRTIO_NET_HDR) | \
			    BIT_ULL(VHOST_F_LOG_ALL))

/* Source addresses that are remembered for an operator to see. */
#define CROSSTALK_NR_MACS 8

/* Why a hooked queue pair runs vhost-net's own loops. */
enum crosstalk_reason {
	CROSSTALK_REASON_NONE,
	CROSSTALK_REASON_DISABLED,	/* switched off in sysfs */
	CROSSTALK_REASON_NO_BACKEND,	/* stopped: no socket is set */
	CROSSTALK_REASON_BACKEND,	/* the socket is no tap's */
	CROSSTALK_REASON_VIOMMU,	/* guest addresses go through an IOTLB */
	CROSSTALK_REASON_ZEROCOPY,	/* experimental_zcopytx is on */
	CROSSTALK_REASON_FEATURES,	/* a feature that is not understood */
	CROSSTALK_REASON_BUSYLOOP,	/* vhost busy-polls with both mutexes */
	CROSSTALK_NR_REASONS,
};

/*
 * Counters of one endpoint.  Those of the TX side are written under tx->mutex
 * only, so that they need no atomic; rx_kicks is written by the RX side, which
 * may have a worker of its own, and has no lock.
 */
struct crosstalk_stats {
	u64 tx_packets;		/* frames taken off the TX ring and completed */
	u64 tx_bytes;		/* their bytes, virtio-net header not counted */
	u64 tx_slow_packets;	/* those that were meant for the socket */
	u64 tx_errors;		/* frames that could not be sent, and bad chains */
	u64 tx_kicks;		/* times that the TX work ran */
	u64 tx_batches;		/* batches handed to the backend socket */
	u64 tx_notify;		/* interrupts raised for the TX queue */
	u64 tx_fast_packets;	/* those that were placed in a receiver's buffers */
	u64 tx_fast_bytes;	/* their bytes */
	u64 tx_parks;		/* waits for a receiver */
	u64 tx_settles;		/* waits before a change to the direct path */
	u64 tx_remap_pages;	/* pages that receivers share */
	u64 tx_remap_bytes;	/* their bytes; part of tx_fast_bytes */
	u64 tx_remap_faults;	/* those of them that were touched here since */

	atomic64_t rx_kicks ____cacheline_aligned_in_smp; /* RX work ran */
	/* Receiver's side: rx->mutex, whoever holds it. */
	u64 rx_fast_packets;
	u64 rx_fast_bytes;
	u64 rx_fast_notify;	/* interrupts raised for the RX queue by senders */
	u64 rx_fills;		/* times that the mirror was filled on request */
	u64 rx_remap_faults;	/* shared pages that were touched here */
};

/**
 * struct crosstalk_endpoint - one hooked vhost-net device, a TX/RX queue pair
 *
 * Owner: attach.c, from crosstalk_endpoint_create() until the device is
 * unhooked.  A user holds one of the device's two vq mutexes (unhooking takes
 * both), or is inside RCU and touches nothing of @net.  sysfs readers are
 * waited for by crosstalk_sysfs_remove() before the device goes away.
 */
struct crosstalk_endpoint {
	struct hlist_node hash;		/* attach.c's table; RCU */
	struct list_head list;		/* attach.c's list; attach_mutex */
	struct kobject kobj;		/* last put frees the endpoint */
	struct rcu_head rcu;
	unsigned int id;

	struct vhost_net *net;
	struct file *file;		/* no reference: ->release unhooks */
	struct file_operations fops;	/* copy with our release and ioctl */
	struct mutex life;		/* ->release against module exit */
	bool hooked;			/* life */

	bool enable;			/* sysfs; read without a lock */
	pid_t pid;			/* owner; 0 when not known */

	/* tx->mutex; sysfs reads them without */
	enum crosstalk_reason reason;
	u64 features;
	struct crosstalk_backend backend;
	unsigned long logged;		/* a bit for each reason in the log */

	/* Name of the backend's netdev; also changed by its rename. */
	spinlock_t name_lock;
	char ifname[IFNAMSIZ];
	int ifindex;
	const struct net *netns;	/* compared, never followed */

	/* Source addresses; written under tx->mutex and macs_lock. */
	spinlock_t macs_lock;
	unsigned int nr_macs;
	u8 last_mac[ETH_ALEN];		/* tx->mutex */
	u8 macs[CROSSTALK_NR_MACS][ETH_ALEN];

	bool dead;			/* set once, before unhooking waits */
	struct list_head waiters;	/* senders that wait; park.c's lock */
	struct crosstalk_park park;	/* as a sender */
	struct crosstalk_push push;	/* as a sender; tx->mutex */
	struct crosstalk_frame frame;	/* the one at hand; tx->mutex */
	struct crosstalk_remap remap;	/* its pages; tx->mutex */
	struct sk_buff skb;		/* its headers, as a tap sees them (queue.c) */

	struct crosstalk_mirror *mirror; /* rx->mutex while hooked; a reference */
	struct crosstalk_rx_ring ring;	/* rx->mutex; where it is in @mirror */
	bool want_fill;			/* set by senders under rx->mutex */
	unsigned long fill_addr;	/* page that one of them missed; same */
	size_t fill_bytes;		/* of the next buffers; same */

	struct crosstalk_detector detect; /* as a sender, and where it is */
	u64 last_slow;			/* frames were sent slow, ns; tx->mutex */
	bool expect_slow;		/* the last frame went slow; tx->mutex */
	bool foreign;			/* vhost-net's loop ran; tx->mutex */
	u32 blind;			/* frames went slow unseen; tx->mutex */
	bool moved;			/* its interface must be found again */
	bool unseen;			/* not looked at since it was hooked */

	struct crosstalk_txbatch batch;	/* tx->mutex */
	struct crosstalk_stats stats;
};

struct crosstalk_endpoint *crosstalk_endpoint_create(struct vhost_net *net,
						     struct file *file,
						     pid_t pid);
void crosstalk_endpoint_free(struct crosstalk_endpoint *ep);
void crosstalk_endpoint_refresh(struct crosstalk_endpoint *ep);
bool crosstalk_endpoint_may_run(struct crosstalk_endpoint *ep);
void crosstalk_endpoint_renamed(struct crosstalk_endpoint *ep,
				const struct net_device *dev);
void __crosstalk_endpoint_saw(struct crosstalk_endpoint *ep, const u8 *mac);
const char *crosstalk_reason_name(enum crosstalk_reason reason);

/**
 * crosstalk_endpoint_saw() - note the source address of a transmitted frame
 * @ep: endpoint
 * @mac: six bytes
 *
 * Context: tx->mutex held.
 */
static inline void crosstalk_endpoint_saw(struct crosstalk_endpoint *ep,
					  const u8 *mac)
{
	if (unlikely(!ether_addr_equal_unaligned(ep->last_mac, mac)))
		__crosstalk_endpoint_saw(ep, mac);
}

/**
 * crosstalk_push_close() - show the receiver its frames and let go of it
 * @ep: sender, with or without an open queue
 *
 * Context: the sender's worker, tx->mutex held.
 */
static inline void crosstalk_push_close(struct crosstalk_endpoint *ep)
{
	if (ep->push.peer)
		__crosstalk_push_close(ep);
}

#endif /* _CROSSTALK_ENDPOINT_H */
