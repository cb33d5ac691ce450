// SPDX-License-Identifier: GPL-2.0
/*
 * The direct path as the network stack sees it: who looks on, and what the
 * interfaces' counters say.
 *
 * A route's interfaces are used here without a reference: RCU is held, and
 * crosstalk_detect_gone has not moved since the route was made.  It moves in
 * the notifier of an interface's end, after which the kernel waits for RCU
 * before it frees the interface.
 */

#include <linux/if_macvlan.h>
#include <linux/netdevice.h>
#include <linux/rcupdate.h>
#include <linux/u64_stats_sync.h>
#include <net/sch_generic.h>

#include "detect.h"

static inline bool is_link_up(const struct net_device *dev)
{
	return netif_running(dev) && netif_carrier_ok(dev);
}

/**
 * crosstalk_path_tapped() - whether packet sockets look on
 * @path: its interfaces are there
 *
 * Return: true if frames on the way are seen by tcpdump or the like.
 */
bool crosstalk_path_tapped(const struct crosstalk_path *path)
{
	/* The first one asks for all interfaces' sockets, too. */
	return dev_nit_active(path->src) ||
	       !list_empty(&path->dst->ptype_all) ||
	       !list_empty(&path->mid->ptype_all);
}

/**
 * crosstalk_verdict_tapped() - whether somebody looks on now
 * @verdict: one with a route
 *
 * Asked once a batch: a packet socket (tcpdump), a promiscuous bridge and a
 * link that is down take effect at once and not when the answer ends.
 *
 * Context: tx->mutex held, under RCU.
 * Return: CROSSTALK_FAST, or why the batch goes the slow path.
 */
enum crosstalk_slow
crosstalk_verdict_tapped(const struct crosstalk_verdict *verdict)
{
	const struct crosstalk_route *route = verdict->now.route;
	const struct crosstalk_path *path = &route->path;

	if (unlikely(!crosstalk_route_is_there(route)))
		return CROSSTALK_SLOW_STALE;
	if (unlikely(crosstalk_path_tapped(path)))
		return CROSSTALK_SLOW_PACKET_SOCKET;
	if (!path->macvtap && unlikely(READ_ONCE(path->mid->flags) & IFF_PROMISC))
		return CROSSTALK_SLOW_BRIDGE_PROMISC;
	if (unlikely(!is_link_up(path->src) || !is_link_up(path->dst)))
		return CROSSTALK_SLOW_CARRIER;
	return CROSSTALK_FAST;
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_verdict_tapped);

/*
 * RCU held.  A CPU that has taken a frame from a qdisc is running it until the
 * frame is with the driver.  So what it holds is asked first: the other way round
 * a frame that is taken out in between is in neither answer.
 */
static bool holds_frames(const struct net_device *dev)
{
	unsigned int nr = READ_ONCE(dev->real_num_tx_queues);
	const struct Qdisc *qdisc;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		qdisc = rcu_dereference(netdev_get_tx_queue(dev, i)->qdisc);
		if (!qdisc_is_empty(qdisc))
			return true;
		/* After that; whoever empties it ran it before. */
		smp_rmb();
		if (qdisc_is_running((struct Qdisc *)qdisc))
			return true;
	}
	return false;
}

/**
 * crosstalk_route_queued() - whether qdiscs hold frames of the slow path
 * @route: asked for when a flow comes from the slow path
 *
 * A frame that is in none is in the receiver's ring, or has left it; that is to
 * be asked afterwards.
 *
 * Context: any.
 * Return: true if there are some, whoever sent them.
 */
bool crosstalk_route_queued(const struct crosstalk_route *route)
{
	const struct crosstalk_path *path = &route->path;
	bool queued = false;

	rcu_read_lock();
	if (crosstalk_route_is_there(route))
		queued = holds_frames(path->dst) ||
			 (path->macvtap && holds_frames(path->src));
	rcu_read_unlock();
	return queued;
}

/* The guest's transmission is what its tap receives. */
static void account_tap(const struct crosstalk_path *path, unsigned int packets,
			size_t bytes)
{
	struct pcpu_sw_netstats *stats;

	stats = this_cpu_ptr(path->src->tstats);
	u64_stats_update_begin(&stats->syncp);
	u64_stats_add(&stats->rx_packets, packets);
	u64_stats_add(&stats->rx_bytes, bytes);
	u64_stats_update_end(&stats->syncp);

	dev_sw_netstats_tx_add(path->dst, packets, bytes);
}

/* A macvtap counts as the host's interface that it is; by then, untagged. */
static void account_macvtap(const struct crosstalk_path *path,
			    unsigned int packets, size_t bytes)
{
	const struct macvlan_dev *src = netdev_priv(path->src);
	const struct macvlan_dev *dst = netdev_priv(path->dst);
	struct vlan_pcpu_stats *stats;

	stats = this_cpu_ptr(src->pcpu_stats);
	u64_stats_update_begin(&stats->syncp);
	u64_stats_add(&stats->tx_packets, packets);
	u64_stats_add(&stats->tx_bytes, bytes);
	u64_stats_update_end(&stats->syncp);

	if (path->tagged)
		bytes -= (size_t)packets * VLAN_HLEN;
	stats = this_cpu_ptr(dst->pcpu_stats);
	u64_stats_update_begin(&stats->syncp);
	u64_stats_add(&stats->rx_packets, packets);
	u64_stats_add(&stats->rx_bytes, bytes);
	u64_stats_update_end(&stats->syncp);
}

/**
 * crosstalk_account() - count frames as the slow path would have
 * @route: their route
 * @packets: frames; a GSO frame counts once
 * @bytes: their bytes from the Ethernet header on
 *
 * Softirqs of this CPU count in the same place.  They need not be kept away: on
 * 64-bit CPUs, which are the only ones supported, each counter is a local64_t,
 * which an interrupt may change in the middle.
 *
 * Context: under RCU, preemption off.
 */
void crosstalk_account(const struct crosstalk_route *route,
		       unsigned int packets, size_t bytes)
{
	if (unlikely(!crosstalk_route_is_there(route)))
		return;
	if (unlikely(route->path.macvtap))
		account_macvtap(&route->path, packets, bytes);
	else
		account_tap(&route->path, packets, bytes);
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_account);
