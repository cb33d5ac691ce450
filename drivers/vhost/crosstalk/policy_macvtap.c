// SPDX-License-Identifier: GPL-2.0
/*
 * The policy of macvtaps in bridge mode above one lower device.
 *
 * macvlan sends a frame for a sibling to the lower device's receive side, "for
 * its network taps", from where it comes up to the sibling: whatever sees what
 * the lower device receives sees this frame.
 */

#include <linux/etherdevice.h>
#include <linux/if_macvlan.h>
#include <linux/if_vlan.h>
#include <linux/netdevice.h>

#include "policy.h"

static bool is_bridge_mode(const struct net_device *dev)
{
	const struct macvlan_dev *vlan = netdev_priv(dev);

	return vlan->mode == MACVLAN_MODE_BRIDGE;
}

/**
 * crosstalk_macvtap_egress() - the macvlan that a macvtap sends a frame to
 * @src: attached macvtap or ipvtap
 * @key: flow
 * @dev: filled in
 *
 * Context: RTNL and RCU held.
 * Return: a reason, or CROSSTALK_FAST.
 */
enum crosstalk_slow
crosstalk_macvtap_egress(const struct crosstalk_port *src,
			 const struct crosstalk_flow_key *key,
			 struct net_device **dev)
{
	struct net_device *upper;
	struct list_head *iter;

	if (!netif_is_macvlan(src->dev))
		return CROSSTALK_SLOW_IPVTAP;
	if (!is_bridge_mode(src->dev))
		return CROSSTALK_SLOW_MACVTAP_MODE;

	netdev_for_each_upper_dev_rcu(macvlan_dev_real_dev(src->dev), upper,
				      iter) {
		if (!netif_is_macvlan(upper) ||
		    !ether_addr_equal(upper->dev_addr, key->dst))
			continue;
		*dev = upper;
		return CROSSTALK_FAST;
	}
	return CROSSTALK_SLOW_REMOTE;
}

static bool dst_is_not_bridge_mode(const struct crosstalk_query *query)
{
	return !is_bridge_mode(query->dst->dev);
}

/* A VLAN device above it takes its frames before the socket sees them. */
static bool has_upper(const struct crosstalk_query *query)
{
	struct net_device *upper;
	struct list_head *iter;

	netdev_for_each_upper_dev_rcu(query->dev, upper, iter)
		return true;
	return false;
}

/* A macvlan that gets copies, or everything. */
static bool lower_has_source_mode(const struct crosstalk_query *query)
{
	const struct macvlan_dev *vlan;
	struct net_device *upper;
	struct list_head *iter;

	netdev_for_each_upper_dev_rcu(query->dev, upper, iter) {
		if (!netif_is_macvlan(upper))
			continue;
		vlan = netdev_priv(upper);
		if (vlan->mode == MACVLAN_MODE_SOURCE ||
		    vlan->mode == MACVLAN_MODE_PASSTHRU)
			return true;
	}
	return false;
}

/* Takes tagged frames before macvlan sees them. */
static bool lower_has_vlan(const struct crosstalk_query *query)
{
	struct net_device *upper;
	struct list_head *iter;

	if (!query->key->vlan)
		return false;

	netdev_for_each_upper_dev_rcu(query->dev, upper, iter)
		if (is_vlan_dev(upper))
			return true;
	return false;
}

static bool lower_has_other(const struct crosstalk_query *query)
{
	struct net_device *upper;
	struct list_head *iter;

	if (!netif_is_macvlan_port(query->dev))
		return true;

	netdev_for_each_upper_dev_rcu(query->dev, upper, iter)
		if (!netif_is_macvlan(upper) && !is_vlan_dev(upper))
			return true;
	return false;
}

static const struct crosstalk_rule source_rules[] = {
	{ has_upper, CROSSTALK_SLOW_UPPER },
};

static const struct crosstalk_rule lower_rules[] = {
	{ lower_has_source_mode, CROSSTALK_SLOW_MACVTAP_SOURCE },
	{ lower_has_vlan, CROSSTALK_SLOW_MACVTAP_VLAN },
	{ lower_has_other, CROSSTALK_SLOW_UPPER },
};

static const struct crosstalk_rule dest_rules[] = {
	{ dst_is_not_bridge_mode, CROSSTALK_SLOW_MACVTAP_MODE },
	{ has_upper, CROSSTALK_SLOW_UPPER },
};

static enum crosstalk_slow check_source(struct crosstalk_query *query)
{
	enum crosstalk_slow slow;

	query->dev = query->src->dev;
	slow = crosstalk_check_egress(query);
	if (!slow)
		slow = crosstalk_rules_apply(source_rules,
					     ARRAY_SIZE(source_rules), query);
	return slow ? slow : crosstalk_tap_source(query);
}

static enum crosstalk_slow check_lower(struct crosstalk_query *query,
				       struct net_device *lower)
{
	enum crosstalk_slow slow;

	query->dev = lower;
	slow = crosstalk_check_ingress(query);
	return slow ? slow : crosstalk_rules_apply(lower_rules,
						   ARRAY_SIZE(lower_rules),
						   query);
}

static enum crosstalk_slow check_dest(struct crosstalk_query *query)
{
	enum crosstalk_slow slow;

	query->dev = query->dst->dev;
	slow = crosstalk_check_ingress(query);
	if (!slow)
		slow = crosstalk_rules_apply(dest_rules, ARRAY_SIZE(dest_rules),
					     query);
	return slow ? slow : crosstalk_tap_dest(query);
}

/**
 * crosstalk_macvtap_check() - whether macvlan does nothing but forward
 * @pass: round of questions
 * @src: attached macvtap
 * @dst: attached macvtap to which crosstalk_macvtap_egress() has led
 * @key: flow
 * @path: filled in, but for @src, @dst and @tagged
 *
 * Context: RTNL and RCU held.
 * Return: a reason, or CROSSTALK_FAST.
 */
enum crosstalk_slow
crosstalk_macvtap_check(struct crosstalk_pass *pass,
			const struct crosstalk_port *src,
			const struct crosstalk_port *dst,
			const struct crosstalk_flow_key *key,
			struct crosstalk_path *path)
{
	struct net_device *lower = macvlan_dev_real_dev(src->dev);
	struct crosstalk_query query = {
		.pass = pass, .src = src, .dst = dst, .key = key,
	};
	enum crosstalk_slow slow;

	if (!net_eq(dev_net(lower), dev_net(src->dev)))
		return CROSSTALK_SLOW_NETNS;

	slow = check_source(&query);
	if (!slow)
		slow = check_lower(&query, lower);
	if (!slow)
		slow = check_dest(&query);
	if (slow)
		return slow;

	path->mid = lower;
	path->macvtap = true;
	path->max_len = crosstalk_dev_max_len(lower);
	/* GSO frames pass the sender's qdisc, then the receiver's tap. */
	crosstalk_dev_offloads(src->dev, path);
	path->features &= crosstalk_macvtap_features(dst);
	return CROSSTALK_FAST;
}
