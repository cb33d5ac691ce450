// SPDX-License-Identifier: GPL-2.0
/*
 * The policy of a Linux bridge's VLAN filter.
 *
 * A port's VLANs are told by exported functions, all but their state (STP by
 * VLAN): that is read from the bridge's structs as BTF describes them (layout.c
 * has compared them with the running kernel's).
 */

#include <linux/if_bridge.h>
#include <linux/if_vlan.h>
#include <linux/netdevice.h>
#include <linux/rculist.h>

#include "policy.h"
#include "vhost_private.h"

/**
 * crosstalk_vlan_find() - the VLAN in which a bridge looks a flow's addresses up
 * @br: bridge
 * @src: port
 * @key: flow
 * @vid: filled in; 0 without VLAN filter
 *
 * Context: RTNL and RCU held.
 * Return: a reason, or CROSSTALK_FAST.
 */
enum crosstalk_slow crosstalk_vlan_find(struct net_device *br,
					const struct crosstalk_port *src,
					const struct crosstalk_flow_key *key,
					u16 *vid)
{
	u16 proto;

	*vid = 0;
	if (!br_vlan_enabled(br))
		return CROSSTALK_FAST;

	if (!key->vlan)
		return br_vlan_get_pvid_rcu(src->dev, vid) || !*vid ?
		       CROSSTALK_SLOW_VLAN : CROSSTALK_FAST;

	/* Another kind of tag is payload, and gets one more tag. */
	if (br_vlan_get_proto(br, &proto) ||
	    htons(proto) != crosstalk_flow_key_vlan_proto(key))
		return CROSSTALK_SLOW_VLAN_TAG;

	*vid = crosstalk_flow_key_vlan_id(key);
	return CROSSTALK_FAST;
}

/* State of a port's VLAN; -1 if there is none. */
static int vlan_state(const struct net_device *dev, u16 vid)
{
	const void *port = rcu_dereference(dev->rx_handler_data);
	const struct list_head *head;
	const struct list_head *pos;
	const void *group;

	group = READ_ONCE(*(void **)(port + LAYOUT_net_bridge_port_vlgrp));
	if (!group)
		return -1;

	head = group + LAYOUT_net_bridge_vlan_group_vlan_list;
	for (pos = rcu_dereference_raw(list_next_rcu(head)); pos != head;
	     pos = rcu_dereference_raw(list_next_rcu(pos))) {
		const void *vlan = (const void *)pos -
				   LAYOUT_net_bridge_vlan_vlist;

		if (*(const u16 *)(vlan + LAYOUT_net_bridge_vlan_vid) == vid)
			return READ_ONCE(*(const u8 *)(vlan +
					LAYOUT_net_bridge_vlan_state));
	}
	return -1;
}

static enum crosstalk_slow judge_vlan(const struct net_device *dev, u16 vid,
				      u16 *flags)
{
	struct bridge_vlan_info info;

	if (br_vlan_get_info_rcu(dev, vid, &info))
		return CROSSTALK_SLOW_VLAN;

	*flags = info.flags;
	return vlan_state(dev, vid) == BR_STATE_FORWARDING ?
	       CROSSTALK_FAST : CROSSTALK_SLOW_VLAN_STATE;
}

static enum crosstalk_slow ask_vlan(struct crosstalk_pass *pass,
				    const struct net_device *dev, u16 vid,
				    u16 *flags)
{
	struct crosstalk_vlan_memo *memo;

	memo = &pass->vlans[(dev->ifindex * 31 + vid) % CROSSTALK_PASS_VLANS];
	if (memo->dev != dev || memo->vid != vid) {
		memo->dev = dev;
		memo->vid = vid;
		memo->slow = judge_vlan(dev, vid, &memo->flags);
	}
	*flags = memo->flags;
	return memo->slow;
}

/**
 * crosstalk_vlan_check() - whether a VLAN filter lets a flow pass unchanged
 * @pass: round of questions
 * @src: port
 * @dst: port
 * @key: flow
 * @vid: its VLAN
 *
 * Both ports are members that forward, and the frame leaves with the tag that
 * it came with, or without, if it came without.
 *
 * Context: RTNL and RCU held.
 * Return: a reason, or CROSSTALK_FAST.
 */
enum crosstalk_slow crosstalk_vlan_check(struct crosstalk_pass *pass,
					 const struct crosstalk_port *src,
					 const struct crosstalk_port *dst,
					 const struct crosstalk_flow_key *key,
					 u16 vid)
{
	enum crosstalk_slow slow;
	u16 flags = 0;

	slow = ask_vlan(pass, src->dev, vid, &flags);
	if (!slow)
		slow = ask_vlan(pass, dst->dev, vid, &flags);
	if (slow)
		return slow;

	if (!!key->vlan == !!(flags & BRIDGE_VLAN_INFO_UNTAGGED))
		return CROSSTALK_SLOW_VLAN_TAG;
	return CROSSTALK_FAST;
}
