// SPDX-License-Identifier: GPL-2.0
/*
 * The policy: may a frame go straight from one VM to the other?
 *
 * Only where the slow path would do nothing but forward it unchanged to one
 * port.  Whatever would see, count, change or drop it on the way has a rule of
 * its own here or in policy_{tap,bridge,vlan,macvtap}.c, a reason, and a name.  A
 * rule that cannot find out says that it applies.
 *
 * The way of a frame through the kernel, and who can look at it:
 *
 *  source tap    XDP, packet sockets, tc ingress, netfilter ingress, VLAN
 *                devices and other rx handlers above it
 *  bridge        VLAN filter, learning, STP, locking, isolation, bridge
 *                netfilter, neighbour suppression; the host, if promiscuous
 *  dest. tap     size limit, netfilter egress, tc egress, qdisc, packet
 *                sockets, the tap's own filters
 *
 *  source macvtap  netfilter egress, tc egress, qdisc, packet sockets
 *  lower device    size limit, XDP, packet sockets, tc ingress, netfilter
 *                  ingress, VLAN devices, macvlans in source mode
 *  dest. macvtap   packet sockets, tc ingress, netfilter ingress
 *
 * Not on it: XDP, tc and netfilter of the bridge device (only frames for the
 * host pass it), XDP of the destination (it sees what that VM sends), RPS, XPS
 * and busy polling (they choose CPUs), time stamps of skbs, LSMs (they have no
 * hook for frames between two taps but netfilter's), group_fwd_mask and
 * multicast snooping (group addresses always go the slow path).
 */

#include <linux/export.h>
#include <linux/if_vlan.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <net/netlink.h>
#include <net/sch_generic.h>

#include "policy.h"

static const char * const slow_names[] = {
	[CROSSTALK_FAST] = "fast",
	[CROSSTALK_BY_QUEUE] = "by-queue",
	[CROSSTALK_SLOW_UNRESOLVED] = "unresolved",
	[CROSSTALK_SLOW_STALE] = "stale",
	[CROSSTALK_SLOW_FULL] = "table-full",
	[CROSSTALK_SLOW_MEMORY] = "no-memory",
	[CROSSTALK_SLOW_ADDRESS] = "address",
	[CROSSTALK_SLOW_NO_PORT] = "no-port",
	[CROSSTALK_SLOW_NO_BRIDGE] = "no-bridge",
	[CROSSTALK_SLOW_NO_FDB] = "no-fdb",
	[CROSSTALK_SLOW_LOCAL] = "local",
	[CROSSTALK_SLOW_SAME_PORT] = "same-port",
	[CROSSTALK_SLOW_REMOTE] = "remote",
	[CROSSTALK_SLOW_NETNS] = "netns",
	[CROSSTALK_SLOW_SRC_UNKNOWN] = "src-unknown",
	[CROSSTALK_SLOW_SRC_MOVED] = "src-moved",
	[CROSSTALK_SLOW_RECEIVER] = "receiver",
	[CROSSTALK_SLOW_MIGRATION] = "migration",
	[CROSSTALK_SLOW_STALLED] = "receiver-stalled",
	[CROSSTALK_SLOW_UNFIT] = "unfit-frames",
	[CROSSTALK_SLOW_DOWN] = "down",
	[CROSSTALK_SLOW_CARRIER] = "carrier",
	[CROSSTALK_SLOW_UPPER] = "upper-dev",
	[CROSSTALK_SLOW_XDP] = "xdp",
	[CROSSTALK_SLOW_NFT_INGRESS] = "nft-ingress",
	[CROSSTALK_SLOW_NFT_EGRESS] = "nft-egress",
	[CROSSTALK_SLOW_TC_INGRESS] = "tc-ingress",
	[CROSSTALK_SLOW_TC_EGRESS] = "tc-egress",
	[CROSSTALK_SLOW_QDISC] = "qdisc",
	[CROSSTALK_SLOW_PACKET_SOCKET] = "packet-socket",
	[CROSSTALK_SLOW_TAP_HEADER] = "tap-header",
	[CROSSTALK_SLOW_TAP_NAPI] = "tap-napi",
	[CROSSTALK_SLOW_TAP_SNDBUF] = "tap-sndbuf",
	[CROSSTALK_SLOW_TAP_FILTER] = "tap-filter",
	[CROSSTALK_SLOW_TAP_RING] = "tap-ring",
	[CROSSTALK_SLOW_TAP_STEERING] = "tap-steering",
	[CROSSTALK_SLOW_TAP_QUEUES] = "tap-queues",
	[CROSSTALK_SLOW_TAP_HASH] = "tap-hash",
	[CROSSTALK_SLOW_FLOW_DISSECTOR] = "flow-dissector",
	[CROSSTALK_SLOW_SOCKET_FILTER] = "socket-filter",
	[CROSSTALK_SLOW_BRIDGE_PROMISC] = "promisc-bridge",
	[CROSSTALK_SLOW_BRIDGE_NETFILTER] = "bridge-netfilter",
	[CROSSTALK_SLOW_BR_NETFILTER] = "br-netfilter",
	[CROSSTALK_SLOW_MST] = "mst",
	[CROSSTALK_SLOW_MRP] = "mrp",
	[CROSSTALK_SLOW_NEIGH_SUPPRESS] = "neigh-suppress",
	[CROSSTALK_SLOW_PROXY_ARP] = "proxy-arp",
	[CROSSTALK_SLOW_BRIDGE_OPTIONS] = "bridge-options",
	[CROSSTALK_SLOW_VLAN_STATS] = "vlan-stats",
	[CROSSTALK_SLOW_STP] = "stp",
	[CROSSTALK_SLOW_ISOLATED] = "isolated",
	[CROSSTALK_SLOW_LOCKED] = "locked",
	[CROSSTALK_SLOW_VLAN] = "vlan",
	[CROSSTALK_SLOW_VLAN_STATE] = "vlan-state",
	[CROSSTALK_SLOW_VLAN_TAG] = "vlan-tag",
	[CROSSTALK_SLOW_VLAN_TUNNEL] = "vlan-tunnel",
	[CROSSTALK_SLOW_MACVTAP_MODE] = "macvtap-mode",
	[CROSSTALK_SLOW_MACVTAP_SOURCE] = "macvtap-source",
	[CROSSTALK_SLOW_MACVTAP_VLAN] = "macvtap-vlan",
	[CROSSTALK_SLOW_IPVTAP] = "ipvtap",
};

static_assert(ARRAY_SIZE(slow_names) == CROSSTALK_NR_SLOW);

/**
 * crosstalk_slow_name() - the word that an operator sees
 * @slow: any
 *
 * Return: a constant string.
 */
const char *crosstalk_slow_name(enum crosstalk_slow slow)
{
	return slow < CROSSTALK_NR_SLOW ? slow_names[slow] : "unknown";
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_slow_name);

/**
 * crosstalk_rules_apply() - go through a table of rules
 * @rules: table, in the order in which an operator wants to know
 * @nr: its entries
 * @query: what they are asked about
 *
 * Return: the reason of the first rule that applies, or CROSSTALK_FAST.
 */
enum crosstalk_slow crosstalk_rules_apply(const struct crosstalk_rule *rules,
					  unsigned int nr,
					  const struct crosstalk_query *query)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		if (rules[i].applies(query))
			return rules[i].slow;
	return CROSSTALK_FAST;
}

/* __is_skb_forwardable(), tun_get_user() and macvlan_handle_frame() ask this. */
static bool is_down(const struct crosstalk_query *query)
{
	const struct net_device *dev = query->dev;

	return dev->reg_state != NETREG_REGISTERED || !netif_running(dev) ||
	       !(dev->flags & IFF_UP) || !netif_device_present(dev);
}

/* Without it the qdisc is taken away, and a bridge disables the port. */
static bool has_no_carrier(const struct crosstalk_query *query)
{
	return !netif_carrier_ok(query->dev);
}

/* Native and generic; either sees what the interface receives. */
static bool has_xdp(const struct crosstalk_query *query)
{
	return dev_xdp_prog_count(query->dev);
}

static bool has_nft_ingress(const struct crosstalk_query *query)
{
	return crosstalk_dev_nft_ingress(query->dev);
}

static bool has_nft_egress(const struct crosstalk_query *query)
{
	return crosstalk_dev_nft_egress(query->dev);
}

static bool has_tc_ingress(const struct crosstalk_query *query)
{
	return crosstalk_dev_tc_ingress(query->dev);
}

static bool has_tc_egress(const struct crosstalk_query *query)
{
	return crosstalk_dev_tc_egress(query->dev);
}

/*
 * The usual default qdiscs: they change nothing in an interface that is not
 * stopped.  net.core.default_qdisc can be another, that cuts GSO frames (cake),
 * or drops all (drr).
 */
static const char * const plain_qdiscs[] = {
	"pfifo_fast", "fq_codel", "fq", "mq", "noqueue",
};

/* A default qdisc has no handle; one that somebody asked for has one. */
static bool is_plain_qdisc(const struct Qdisc *qdisc)
{
	return !qdisc->handle &&
	       match_string(plain_qdiscs, ARRAY_SIZE(plain_qdiscs),
			    qdisc->ops->id) >= 0;
}

static bool has_qdisc(const struct crosstalk_query *query)
{
	const struct net_device *dev = query->dev;
	const struct netdev_queue *txq;
	unsigned int i;

	if (!is_plain_qdisc(rtnl_dereference(dev->qdisc)))
		return true;

	for (i = 0; i < dev->real_num_tx_queues; i++) {
		txq = netdev_get_tx_queue(dev, i);
		if (!is_plain_qdisc(crosstalk_txq_qdisc(txq)))
			return true;
	}
	return false;
}

static const struct crosstalk_rule ingress_rules[] = {
	{ is_down, CROSSTALK_SLOW_DOWN },
	{ has_no_carrier, CROSSTALK_SLOW_CARRIER },
	{ has_xdp, CROSSTALK_SLOW_XDP },
	{ has_tc_ingress, CROSSTALK_SLOW_TC_INGRESS },
	{ has_nft_ingress, CROSSTALK_SLOW_NFT_INGRESS },
};

static const struct crosstalk_rule egress_rules[] = {
	{ is_down, CROSSTALK_SLOW_DOWN },
	{ has_no_carrier, CROSSTALK_SLOW_CARRIER },
	{ has_nft_egress, CROSSTALK_SLOW_NFT_EGRESS },
	{ has_tc_egress, CROSSTALK_SLOW_TC_EGRESS },
	{ has_qdisc, CROSSTALK_SLOW_QDISC },
};

/**
 * crosstalk_check_ingress() - what any interface does with what it receives
 * @query: about its dev
 *
 * Context: RTNL and RCU held.
 * Return: a reason, or CROSSTALK_FAST.
 */
enum crosstalk_slow crosstalk_check_ingress(const struct crosstalk_query *query)
{
	return crosstalk_rules_apply(ingress_rules, ARRAY_SIZE(ingress_rules),
				     query);
}

/**
 * crosstalk_check_egress() - what any interface does with what it transmits
 * @query: about its dev
 *
 * Context: RTNL and RCU held.
 * Return: a reason, or CROSSTALK_FAST.
 */
enum crosstalk_slow crosstalk_check_egress(const struct crosstalk_query *query)
{
	return crosstalk_rules_apply(egress_rules, ARRAY_SIZE(egress_rules),
				     query);
}

/**
 * crosstalk_dev_max_len() - the longest frame that is forwarded to an interface
 * @dev: the interface
 *
 * Return: bytes from the Ethernet header on, as __is_skb_forwardable() has it.
 */
unsigned int crosstalk_dev_max_len(const struct net_device *dev)
{
	return READ_ONCE(dev->mtu) + dev->hard_header_len + VLAN_HLEN;
}

/**
 * crosstalk_dev_offloads() - what validate_xmit_skb() lets pass as it is
 * @dev: interface that transmits
 * @path: its @features and @max_gso_len are filled in, by its @tagged
 */
void crosstalk_dev_offloads(const struct net_device *dev,
			    struct crosstalk_path *path)
{
	path->features = dev->features;
	if (path->tagged)
		path->features = netdev_intersect_features(path->features,
							   dev->vlan_features);
	path->max_gso_len = crosstalk_dev_gso_max_size(dev) - 1;
}

static void policy_prepare(struct crosstalk_pass *pass)
{
	crosstalk_bridge_prepare(pass);
}

static void policy_begin(struct crosstalk_pass *pass)
{
	memset(pass->ports, 0, sizeof(pass->ports));
	memset(pass->bridges, 0, sizeof(pass->bridges));
	memset(pass->vlans, 0, sizeof(pass->vlans));
}

static enum crosstalk_slow policy_egress(struct crosstalk_pass *pass,
					 const struct crosstalk_port *src,
					 const struct crosstalk_flow_key *key,
					 struct net_device **dev)
{
	enum crosstalk_slow slow;

	ASSERT_RTNL();
	if (!is_valid_ether_addr(key->src) || !is_valid_ether_addr(key->dst))
		return CROSSTALK_SLOW_ADDRESS;

	if (src->kind == CROSSTALK_BACKEND_TAP)
		slow = crosstalk_macvtap_egress(src, key, dev);
	else
		slow = crosstalk_bridge_egress(pass, src, key, dev);
	if (slow)
		return slow;

	return *dev == src->dev ? CROSSTALK_SLOW_SAME_PORT : CROSSTALK_FAST;
}

static enum crosstalk_slow policy_check(struct crosstalk_pass *pass,
					const struct crosstalk_port *src,
					const struct crosstalk_port *dst,
					const struct crosstalk_flow_key *key,
					struct crosstalk_path *path)
{
	if (!net_eq(dev_net(src->dev), dev_net(dst->dev)))
		return CROSSTALK_SLOW_NETNS;
	if (dst->kind != src->kind)
		return CROSSTALK_SLOW_REMOTE;

	memset(path, 0, sizeof(*path));
	path->src = src->dev;
	path->dst = dst->dev;
	path->tagged = key->vlan;
	path->src_queue = crosstalk_tap_queue_nr(src, src->tx_sock);

	if (src->kind == CROSSTALK_BACKEND_TAP)
		return crosstalk_macvtap_check(pass, src, dst, key, path);
	return crosstalk_bridge_check(pass, src, dst, key, path);
}

const struct crosstalk_policy crosstalk_policy = {
	.prepare = policy_prepare,
	.begin = policy_begin,
	.attached = crosstalk_port_attached,
	.egress = policy_egress,
	.queues = crosstalk_tap_queues,
	.queue = crosstalk_tap_queue,
	.check = policy_check,
};
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_policy);

/**
 * crosstalk_pass_create() - make room for rounds of questions
 *
 * Context: process context, may sleep.
 * Return: the pass, or NULL.
 */
struct crosstalk_pass *crosstalk_pass_create(void)
{
	struct crosstalk_pass *pass;

	pass = kvzalloc(sizeof(*pass), GFP_KERNEL);
	if (!pass)
		return NULL;

	pass->msg = nlmsg_new(NLMSG_GOODSIZE, GFP_KERNEL);
	if (!pass->msg) {
		kvfree(pass);
		return NULL;
	}
	return pass;
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_pass_create);

/**
 * crosstalk_pass_destroy() - free a pass
 * @pass: one that nobody uses, or NULL
 */
void crosstalk_pass_destroy(struct crosstalk_pass *pass)
{
	if (!pass)
		return;

	nlmsg_free(pass->msg);
	kvfree(pass);
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_pass_destroy);
