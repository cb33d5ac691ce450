// SPDX-License-Identifier: GPL-2.0
/*
 * Endpoints: what is known of a hooked queue pair, and whether this module's
 * loop may run on it.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/etherdevice.h>
#include <linux/printk.h>
#include <linux/slab.h>

#include "control.h"
#include "endpoint.h"
#include "sysfs.h"

#include <trace/events/vhost_crosstalk.h>

static const char * const reason_names[CROSSTALK_NR_REASONS] = {
	[CROSSTALK_REASON_NONE] = "none",
	[CROSSTALK_REASON_DISABLED] = "disabled",
	[CROSSTALK_REASON_NO_BACKEND] = "no-backend",
	[CROSSTALK_REASON_BACKEND] = "backend",
	[CROSSTALK_REASON_VIOMMU] = "viommu",
	[CROSSTALK_REASON_ZEROCOPY] = "zerocopy",
	[CROSSTALK_REASON_FEATURES] = "features",
	[CROSSTALK_REASON_BUSYLOOP] = "busyloop",
};

/* What an operator can do about it; NULL where nothing needs to be said. */
static const char * const reason_hints[CROSSTALK_NR_REASONS] = {
	[CROSSTALK_REASON_BACKEND] =
		"its backend is no tap or macvtap",
	[CROSSTALK_REASON_VIOMMU] =
		"it has a virtual IOMMU (iommu_platform=on)",
	[CROSSTALK_REASON_ZEROCOPY] =
		"vhost_net was loaded with experimental_zcopytx=1",
	[CROSSTALK_REASON_FEATURES] =
		"it negotiated a feature that this module does not know",
	[CROSSTALK_REASON_BUSYLOOP] =
		"vhost busy-polls for it (poll-us)",
};

/**
 * crosstalk_reason_name() - the word that sysfs shows
 * @reason: any
 *
 * Return: a constant string.
 */
const char *crosstalk_reason_name(enum crosstalk_reason reason)
{
	return reason < CROSSTALK_NR_REASONS ? reason_names[reason] : "unknown";
}

/**
 * crosstalk_endpoint_create() - make an endpoint for a device
 * @net: the device, kept alive by the caller's reference to @file
 * @file: its open file
 * @pid: owner's process id, or 0
 *
 * Context: process context, may sleep.
 * Return: an endpoint whose kobject is initialized and not yet visible, or NULL.
 */
struct crosstalk_endpoint *crosstalk_endpoint_create(struct vhost_net *net,
						     struct file *file,
						     pid_t pid)
{
	struct crosstalk_endpoint *ep;

	ep = kzalloc(sizeof(*ep), GFP_KERNEL);
	if (!ep)
		return NULL;

	if (crosstalk_txbatch_init(&ep->batch))
		goto err_free;
	if (crosstalk_detector_init(&ep->detect))
		goto err_txbatch;

	ep->net = net;
	ep->file = file;
	ep->pid = pid;
	ep->enable = true;
	ep->foreign = true;
	ep->reason = CROSSTALK_REASON_NO_BACKEND;
	mutex_init(&ep->life);
	spin_lock_init(&ep->name_lock);
	spin_lock_init(&ep->macs_lock);
	crosstalk_park_init(ep);
	crosstalk_sysfs_init(ep);
	return ep;

err_txbatch:
	crosstalk_txbatch_destroy(&ep->batch);
err_free:
	kfree(ep);
	return NULL;
}

/**
 * crosstalk_endpoint_free() - last step of an endpoint's life
 * @ep: endpoint that nothing but RCU readers can reach
 *
 * Context: process context, may sleep; called by the kobject's release.
 */
void crosstalk_endpoint_free(struct crosstalk_endpoint *ep)
{
	crosstalk_park_destroy(ep);
	crosstalk_detector_destroy(&ep->detect);
	crosstalk_txbatch_destroy(&ep->batch);
	kfree_rcu(ep, rcu);
}

static __always_inline enum crosstalk_reason
judge(struct crosstalk_endpoint *ep)
{
	struct vhost_net_virtqueue *tx = &ep->net->vqs[VHOST_NET_VQ_TX];
	struct vhost_virtqueue *rxvq = &ep->net->vqs[VHOST_NET_VQ_RX].vq;

	if (!tx->vq.private_data)
		return CROSSTALK_REASON_NO_BACKEND;
	if (tx->vq.iotlb)
		return CROSSTALK_REASON_VIOMMU;
	if (tx->ubufs)
		return CROSSTALK_REASON_ZEROCOPY;
	if (ep->backend.kind != CROSSTALK_BACKEND_TUN &&
	    ep->backend.kind != CROSSTALK_BACKEND_TAP)
		return CROSSTALK_REASON_BACKEND;
	if (tx->vq.acked_features & ~CROSSTALK_FEATURES)
		return CROSSTALK_REASON_FEATURES;
	/* The RX side's is read without its mutex: it is one word. */
	if (tx->vq.busyloop_timeout || READ_ONCE(rxvq->busyloop_timeout))
		return CROSSTALK_REASON_BUSYLOOP;
	return CROSSTALK_REASON_NONE;
}

static void look_at_backend(struct crosstalk_endpoint *ep, struct socket *sock)
{
	crosstalk_backend_probe(&ep->backend, sock);
	/* A stopped device keeps the name it had: its VM comes back. */
	if (!sock)
		return;

	/* A rename comes before this, and is read, or after it, and is told. */
	spin_lock(&ep->name_lock);
	if (!crosstalk_backend_dev_get(&ep->backend, ep->ifname, &ep->ifindex,
				       &ep->netns)) {
		ep->ifname[0] = '\0';
		ep->ifindex = 0;
		ep->netns = NULL;
	}
	spin_unlock(&ep->name_lock);
}

static void log_reason(struct crosstalk_endpoint *ep)
{
	const char *hint = reason_hints[ep->reason];

	if (!hint || test_and_set_bit(ep->reason, &ep->logged))
		return;

	pr_info("ep%u (%s, pid %d) is left alone: %s\n", ep->id,
		ep->ifname[0] ? ep->ifname : "-", ep->pid, hint);
}

/**
 * crosstalk_endpoint_refresh() - look at the device again
 * @ep: endpoint
 *
 * Backend, features and busy polling change by ioctl; this brings what sysfs
 * shows up to date and decides whether the module's loop may run.
 *
 * Context: tx->mutex held; does not sleep for long.
 */
void crosstalk_endpoint_refresh(struct crosstalk_endpoint *ep)
{
	struct vhost_virtqueue *vq = &ep->net->vqs[VHOST_NET_VQ_TX].vq;
	enum crosstalk_reason reason;

	WRITE_ONCE(ep->moved, false);
	WRITE_ONCE(ep->unseen, false);
	look_at_backend(ep, vq->private_data);
	WRITE_ONCE(ep->features, vq->acked_features);

	reason = judge(ep);
	if (reason == ep->reason)
		return;

	WRITE_ONCE(ep->reason, reason);
	trace_crosstalk_reason(ep->id, ep->ifname,
			       crosstalk_reason_name(reason));
	log_reason(ep);
}

/**
 * crosstalk_endpoint_may_run() - whether the module's TX loop may run now
 * @ep: endpoint
 *
 * Asked at each run of the TX work, so that nothing depends on having seen the
 * ioctl that changed something.
 *
 * Context: tx->mutex held.
 */
bool crosstalk_endpoint_may_run(struct crosstalk_endpoint *ep)
{
	struct vhost_virtqueue *vq = &ep->net->vqs[VHOST_NET_VQ_TX].vq;

	if (unlikely(vq->private_data != ep->backend.sock ||
		     vq->acked_features != ep->features ||
		     READ_ONCE(ep->moved) ||
		     judge(ep) != ep->reason))
		crosstalk_endpoint_refresh(ep);

	return ep->reason == CROSSTALK_REASON_NONE && READ_ONCE(ep->enable) &&
	       crosstalk_enabled();
}

/**
 * crosstalk_endpoint_renamed() - follow the rename of a network interface
 * @ep: endpoint
 * @dev: interface that has a new name
 *
 * Context: RCU or attach_mutex keeps @ep; RTNL held.
 */
void crosstalk_endpoint_renamed(struct crosstalk_endpoint *ep,
				const struct net_device *dev)
{
	spin_lock(&ep->name_lock);
	if (ep->ifindex == dev->ifindex && ep->netns == dev_net(dev))
		strscpy(ep->ifname, dev->name, sizeof(ep->ifname));
	spin_unlock(&ep->name_lock);
}

/* The slow part of crosstalk_endpoint_saw(): an address unlike the last. */
void __crosstalk_endpoint_saw(struct crosstalk_endpoint *ep, const u8 *mac)
{
	unsigned int i;

	ether_addr_copy(ep->last_mac, mac);
	if (!is_valid_ether_addr(mac))
		return;

	for (i = 0; i < ep->nr_macs; i++)
		if (ether_addr_equal(ep->macs[i], ep->last_mac))
			return;

	/* A guest that makes up addresses fills the table, no more. */
	if (ep->nr_macs == CROSSTALK_NR_MACS)
		return;

	spin_lock(&ep->macs_lock);
	ether_addr_copy(ep->macs[ep->nr_macs], ep->last_mac);
	ep->nr_macs++;
	spin_unlock(&ep->macs_lock);
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(__crosstalk_endpoint_saw);
