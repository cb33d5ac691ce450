// SPDX-License-Identifier: GPL-2.0
/*
 * The policy of the Linux bridge between two taps, but for its VLAN filter.
 *
 * Answers come from what the bridge tells everybody: its exported functions and
 * its netlink operations.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/fs.h>
#include <linux/if_bridge.h>
#include <linux/if_vlan.h>
#include <linux/neighbour.h>
#include <linux/netdevice.h>
#include <linux/netfilter_bridge.h>
#include <linux/printk.h>
#include <linux/rtnetlink.h>
#include <net/net_namespace.h>
#include <net/netlink.h>
#include <net/rtnetlink.h>

#include "policy.h"

#define BR_NETFILTER_DIR "/proc/sys/net/bridge/"

static struct net_device *bridge_of(struct net_device *port)
{
	return netif_is_bridge_port(port) ?
	       netdev_master_upper_dev_get_rcu(port) : NULL;
}

/* One switch of br_netfilter, in the initial name space. */
static bool switch_is_off(const char *path)
{
	char text[4] = { 0 };
	struct file *file;
	loff_t pos = 0;
	ssize_t len;

	file = filp_open(path, O_RDONLY, 0);
	if (IS_ERR(file))
		return false;

	len = kernel_read(file, text, sizeof(text) - 1, &pos);
	filp_close(file, NULL);
	return len >= 1 && text[0] == '0';
}

/**
 * crosstalk_bridge_prepare() - read br_netfilter's switches if they matter
 * @pass: round of questions
 *
 * Its hooks stay when all its switches are off, and are harmless then.  The
 * switches have no symbol; this reads them as an operator would.
 *
 * Context: process context, may sleep; in the initial network name space.
 */
void crosstalk_bridge_prepare(struct crosstalk_pass *pass)
{
	pass->br_netfilter_off = pass->br_netfilter_seen &&
		switch_is_off(BR_NETFILTER_DIR "bridge-nf-call-iptables") &&
		switch_is_off(BR_NETFILTER_DIR "bridge-nf-call-ip6tables") &&
		switch_is_off(BR_NETFILTER_DIR "bridge-nf-call-arptables");
	pass->br_netfilter_seen = false;
}

/* Whether a hook is one of br_netfilter's own. */
static bool is_br_netfilter(const struct nf_hook_entry *entry)
{
	char symbol[KSYM_SYMBOL_LEN];

	snprintf(symbol, sizeof(symbol), "%ps", entry->hook);
	return str_has_prefix(symbol, "br_nf_") &&
	       (!strchr(symbol, '[') || strstr(symbol, "[br_netfilter]"));
}

/* Hooks on the way of a forwarded frame; those for the host are elsewhere. */
static const unsigned int bridge_hooks[] = {
	NF_BR_PRE_ROUTING, NF_BR_FORWARD, NF_BR_POST_ROUTING,
};

/* ebtables, nftables in family bridge, conntrack of bridges */
static bool has_netfilter(const struct crosstalk_query *query)
{
	unsigned int i;
	unsigned int j;

	for (i = 0; i < ARRAY_SIZE(bridge_hooks); i++) {
		const struct nf_hook_entries *e;

		e = crosstalk_bridge_hooks(dev_net(query->dev),
					   bridge_hooks[i]);
		for (j = 0; e && j < e->num_hook_entries; j++) {
			if (!is_br_netfilter(&e->hooks[j]))
				return true;
			query->pass->br_netfilter_seen = true;
		}
	}
	return false;
}

/* Sets @query's pass->msg to what the bridge says of itself. */
static bool fill_options(const struct crosstalk_query *query)
{
	const struct rtnl_link_ops *ops = query->dev->rtnl_link_ops;
	struct sk_buff *msg = query->pass->msg;

	skb_trim(msg, 0);
	return ops && ops->fill_info && !ops->fill_info(msg, query->dev);
}

static bool option_is_on(const struct crosstalk_query *query, int type)
{
	const struct sk_buff *msg = query->pass->msg;
	const struct nlattr *attr;

	attr = nla_find((const struct nlattr *)msg->data, msg->len, type);
	return attr && nla_get_u8(attr);
}

static bool options_are_unknown(const struct crosstalk_query *query)
{
	return !fill_options(query);
}

/*
 * Docker and Kubernetes hosts load br_netfilter, and so give up the direct path
 * for their VMs, too: this is worth a line in the log.
 */
static bool has_br_netfilter(const struct crosstalk_query *query)
{
	if (!query->pass->br_netfilter_seen)
		return false;

	if (query->pass->br_netfilter_off &&
	    net_eq(dev_net(query->dev), &init_net) &&
	    !option_is_on(query, IFLA_BR_NF_CALL_IPTABLES) &&
	    !option_is_on(query, IFLA_BR_NF_CALL_IP6TABLES) &&
	    !option_is_on(query, IFLA_BR_NF_CALL_ARPTABLES))
		return false;

	pr_notice_once("br_netfilter takes the frames of bridge %s to iptables: VMs there have no direct path unless sysctl net.bridge.bridge-nf-call-{ip,ip6,arp}tables are 0\n",
		       query->dev->name);
	return true;
}

static bool is_bridge_down(const struct crosstalk_query *query)
{
	return !netif_running(query->dev) ||
	       query->dev->reg_state != NETREG_REGISTERED;
}

/* The host gets a copy of all frames. */
static bool is_promisc(const struct crosstalk_query *query)
{
	return query->dev->flags & IFF_PROMISC;
}

/* Port states are those of VLANs then. */
static bool has_mst(const struct crosstalk_query *query)
{
	return br_mst_enabled(query->dev);
}

/* The bridge answers ARP and ND for others, whichever port they are behind. */
static bool any_port_has(const struct crosstalk_query *query,
			 unsigned long flags)
{
	struct net_device *port;
	struct list_head *iter;

	netdev_for_each_lower_dev(query->dev, port, iter)
		if (br_port_flag_is_set(port, flags))
			return true;
	return false;
}

static bool has_neigh_suppress(const struct crosstalk_query *query)
{
	return any_port_has(query, BR_NEIGH_SUPPRESS |
				   CROSSTALK_BR_NEIGH_VLAN_SUPPRESS);
}

static bool has_proxy_arp(const struct crosstalk_query *query)
{
	return any_port_has(query, BR_PROXYARP | BR_PROXYARP_WIFI);
}

/* Frames of that ring protocol are the bridge's own. */
static bool has_mrp(const struct crosstalk_query *query)
{
	return any_port_has(query, BR_MRP_AWARE | BR_MRP_LOST_CONT |
				   BR_MRP_LOST_IN_CONT);
}

static const struct crosstalk_rule bridge_rules[] = {
	{ is_bridge_down, CROSSTALK_SLOW_DOWN },
	{ is_promisc, CROSSTALK_SLOW_BRIDGE_PROMISC },
	{ has_netfilter, CROSSTALK_SLOW_BRIDGE_NETFILTER },
	{ options_are_unknown, CROSSTALK_SLOW_BRIDGE_OPTIONS },
	{ has_br_netfilter, CROSSTALK_SLOW_BR_NETFILTER },
	{ has_mst, CROSSTALK_SLOW_MST },
	{ has_mrp, CROSSTALK_SLOW_MRP },
	{ has_neigh_suppress, CROSSTALK_SLOW_NEIGH_SUPPRESS },
	{ has_proxy_arp, CROSSTALK_SLOW_PROXY_ARP },
};

static const struct crosstalk_bridge_memo *
ask_bridge(struct crosstalk_pass *pass, struct net_device *br)
{
	const struct crosstalk_query query = { .pass = pass, .dev = br };
	struct crosstalk_bridge_memo *memo;

	memo = &pass->bridges[br->ifindex % CROSSTALK_PASS_BRIDGES];
	if (memo->dev == br)
		return memo;

	memo->dev = br;
	memo->slow = crosstalk_rules_apply(bridge_rules,
					   ARRAY_SIZE(bridge_rules), &query);
	memo->vlan_stats = fill_options(&query) &&
			   option_is_on(&query, IFLA_BR_VLAN_STATS_ENABLED);
	return memo;
}

static bool is_not_forwarding(const struct crosstalk_query *query)
{
	return br_port_get_stp_state(query->dev) != BR_STATE_FORWARDING;
}

static bool has_vlan_tunnel(const struct crosstalk_query *query)
{
	return br_port_flag_is_set(query->dev, BR_VLAN_TUNNEL);
}

/* A VLAN device takes its frames before the bridge sees them. */
static bool has_upper(const struct crosstalk_query *query)
{
	struct net_device *br = bridge_of(query->dev);
	struct net_device *upper;
	struct list_head *iter;

	netdev_for_each_upper_dev_rcu(query->dev, upper, iter)
		if (upper != br)
			return true;
	return false;
}

static const struct crosstalk_rule port_rules[] = {
	{ is_not_forwarding, CROSSTALK_SLOW_STP },
	{ has_vlan_tunnel, CROSSTALK_SLOW_VLAN_TUNNEL },
	{ has_upper, CROSSTALK_SLOW_UPPER },
};

static enum crosstalk_slow judge_port(const struct crosstalk_query *query,
				      enum crosstalk_role role)
{
	bool source = role == CROSSTALK_ROLE_SOURCE;
	enum crosstalk_slow slow;

	slow = source ? crosstalk_check_ingress(query) :
			crosstalk_check_egress(query);
	if (!slow)
		slow = crosstalk_rules_apply(port_rules, ARRAY_SIZE(port_rules),
					     query);
	if (!slow)
		slow = source ? crosstalk_tap_source(query) :
				crosstalk_tap_dest(query);
	return slow;
}

static enum crosstalk_slow ask_port(struct crosstalk_pass *pass,
				    const struct crosstalk_port *port,
				    enum crosstalk_role role)
{
	const struct crosstalk_query query = {
		.pass = pass, .src = port, .dst = port, .dev = port->dev,
	};
	const struct socket *sock = role == CROSSTALK_ROLE_SOURCE ?
				    port->tx_sock : port->rx_sock;
	struct crosstalk_port_memo *memo;

	memo = &pass->ports[(port->dev->ifindex * 2 + role) %
			    CROSSTALK_PASS_PORTS];
	if (memo->dev == port->dev && memo->sock == sock && memo->role == role)
		return memo->slow;

	memo->dev = port->dev;
	memo->sock = sock;
	memo->role = role;
	memo->slow = judge_port(&query, role);
	return memo->slow;
}

/* What a forwarding table says of an address. */
struct fdb_answer {
	int ifindex;
	u16 state;
	bool locked;
};

static bool ask_fdb(struct crosstalk_pass *pass, struct net_device *br,
		    const u8 *addr, u16 vid, struct fdb_answer *answer)
{
	const struct net_device_ops *ops = br->netdev_ops;
	struct sk_buff *msg = pass->msg;
	const struct nlmsghdr *nlh;
	const struct nlattr *attr;
	const struct ndmsg *ndm;

	skb_trim(msg, 0);
	if (!ops->ndo_fdb_get ||
	    ops->ndo_fdb_get(msg, NULL, br, addr, vid, 0, 0, NULL))
		return false;

	nlh = nlmsg_hdr(msg);
	ndm = nlmsg_data(nlh);
	answer->ifindex = ndm->ndm_ifindex;
	answer->state = ndm->ndm_state;
	attr = nlmsg_find_attr(nlh, sizeof(*ndm), NDA_FLAGS_EXT);
	answer->locked = attr && (nla_get_u32(attr) & CROSSTALK_NTF_EXT_LOCKED);
	return true;
}

/**
 * crosstalk_bridge_egress() - the port that a bridge sends a frame to
 * @pass: round of questions
 * @src: attached tap
 * @key: flow
 * @dev: filled in
 *
 * Context: RTNL and RCU held.
 * Return: a reason, or CROSSTALK_FAST.
 */
enum crosstalk_slow
crosstalk_bridge_egress(struct crosstalk_pass *pass,
			const struct crosstalk_port *src,
			const struct crosstalk_flow_key *key,
			struct net_device **dev)
{
	struct net_device *br = bridge_of(src->dev);
	struct fdb_answer answer;
	enum crosstalk_slow slow;
	u16 vid;

	if (!br)
		return CROSSTALK_SLOW_NO_BRIDGE;

	slow = crosstalk_vlan_find(br, src, key, &vid);
	if (slow)
		return slow;

	if (!ask_fdb(pass, br, key->dst, vid, &answer))
		return CROSSTALK_SLOW_NO_FDB;
	if (answer.state == NUD_PERMANENT || answer.ifindex == br->ifindex)
		return CROSSTALK_SLOW_LOCAL;
	/* An entry that is about to go, or a bridge that always floods. */
	if (answer.state == NUD_STALE)
		return CROSSTALK_SLOW_NO_FDB;

	*dev = __dev_get_by_index(dev_net(br), answer.ifindex);
	return *dev ? CROSSTALK_FAST : CROSSTALK_SLOW_NO_FDB;
}

/*
 * The source is where the bridge has learned it, so that learning it again
 * changes nothing, and a locked port lets it pass.
 */
static enum crosstalk_slow check_source(struct crosstalk_pass *pass,
					struct net_device *br,
					const struct crosstalk_port *src,
					const struct crosstalk_flow_key *key,
					u16 vid)
{
	bool locked = br_port_flag_is_set(src->dev, BR_PORT_LOCKED);
	struct fdb_answer answer;

	if (!locked && !br_port_flag_is_set(src->dev, BR_LEARNING))
		return CROSSTALK_FAST;

	if (!ask_fdb(pass, br, key->src, vid, &answer) ||
	    answer.state == NUD_STALE)
		return locked ? CROSSTALK_SLOW_LOCKED :
				CROSSTALK_SLOW_SRC_UNKNOWN;
	/* Its own address, from outside: the bridge warns and drops nothing. */
	if (answer.state == NUD_PERMANENT ||
	    answer.ifindex != src->dev->ifindex)
		return locked ? CROSSTALK_SLOW_LOCKED :
				CROSSTALK_SLOW_SRC_MOVED;
	return answer.locked ? CROSSTALK_SLOW_LOCKED : CROSSTALK_FAST;
}

/**
 * crosstalk_bridge_check() - whether a bridge does nothing but forward
 * @pass: round of questions
 * @src: attached tap
 * @dst: attached tap to which crosstalk_bridge_egress() has led
 * @key: flow
 * @path: filled in, but for @src, @dst and @tagged
 *
 * Context: RTNL and RCU held.
 * Return: a reason, or CROSSTALK_FAST.
 */
enum crosstalk_slow
crosstalk_bridge_check(struct crosstalk_pass *pass,
		       const struct crosstalk_port *src,
		       const struct crosstalk_port *dst,
		       const struct crosstalk_flow_key *key,
		       struct crosstalk_path *path)
{
	struct net_device *br = bridge_of(src->dev);
	const struct crosstalk_bridge_memo *memo;
	enum crosstalk_slow slow;
	u16 vid;

	if (!br || bridge_of(dst->dev) != br)
		return CROSSTALK_SLOW_NO_BRIDGE;

	memo = ask_bridge(pass, br);
	slow = memo->slow;
	if (!slow)
		slow = ask_port(pass, src, CROSSTALK_ROLE_SOURCE);
	if (!slow)
		slow = ask_port(pass, dst, CROSSTALK_ROLE_DEST);
	if (!slow && br_port_flag_is_set(src->dev, BR_ISOLATED) &&
	    br_port_flag_is_set(dst->dev, BR_ISOLATED))
		slow = CROSSTALK_SLOW_ISOLATED;
	if (!slow)
		slow = crosstalk_vlan_find(br, src, key, &vid);
	if (!slow && vid)
		slow = memo->vlan_stats ? CROSSTALK_SLOW_VLAN_STATS :
					  crosstalk_vlan_check(pass, src, dst,
							       key, vid);
	if (!slow)
		slow = check_source(pass, br, src, key, vid);
	if (slow)
		return slow;

	path->mid = br;
	path->refresh = clock_t_to_jiffies(br_get_ageing_time(br)) / 2;
	/* The bridge keeps a tag beside the frame when it asks for its length. */
	path->max_len = crosstalk_dev_max_len(dst->dev) +
			(path->tagged ? VLAN_HLEN : 0);
	crosstalk_dev_offloads(dst->dev, path);
	return CROSSTALK_FAST;
}
