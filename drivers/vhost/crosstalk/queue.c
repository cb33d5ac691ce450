// SPDX-License-Identifier: GPL-2.0
/*
 * Which queue of several a tap gives a frame to.
 *
 * The rule is tun's own (tun_select_queue()): the queue from which the guest has
 * last sent a frame of the same flow, by tun's table of flows, and if it is not
 * in there, one by the flow's hash.  The hash is the kernel's, with the kernel's
 * secret, of the same headers: it is asked for with an skb that is never given
 * to anybody, and whose only data are the bytes that were read from the sender.
 *
 * That table is filled by what the guest sends, as the tap sees it.  On the
 * direct path it does not, so a sender with several queues has its tap's table
 * filled from here, just as tun_flow_update() does it.
 *
 * All that is read of a tap may change at any time: it is read as tun does,
 * under RCU, and holds for one frame.
 */

#include <linux/build_bug.h>
#include <linux/if_ether.h>
#include <linux/if_vlan.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/rculist.h>
#include <linux/slab.h>
#include <linux/timer.h>
#include <net/ip.h>

#include "detect.h"
#include "frame.h"
#include "queue.h"
#include "vhost_private.h"

/* Flows that tun's table has at most (MAX_TAP_FLOWS). */
#define TUN_MAX_FLOWS 4096

/* Where the network header of a frame with at most one tag is, and what it is. */
static unsigned int find_l3(const struct crosstalk_frame *frame, __be16 *proto)
{
	const struct vlan_ethhdr *vlan = (const void *)frame->head;

	if (frame->key.vlan) {
		*proto = vlan->h_vlan_encapsulated_proto;
		return VLAN_ETH_HLEN;
	}
	*proto = vlan->h_vlan_proto;
	return ETH_HLEN;
}

/*
 * Behind an IP header, the flow dissector looks at no more than ports, or what
 * is in their place; into tunnels and extension headers it goes on.
 */
static bool is_flat(u8 proto)
{
	switch (proto) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
	case IPPROTO_SCTP:
	case IPPROTO_DCCP:
	case IPPROTO_ESP:
	case IPPROTO_AH:
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
	case IPPROTO_IGMP:
		return true;
	default:
		return false;
	}
}

/**
 * crosstalk_queue_is_hashable() - whether what was read tells a frame's flow
 * @frame: parsed, with CROSSTALK_FRAME_FLOW bytes or all of it in @head
 *
 * Return: false if its hash may depend on what is behind @head.
 */
bool crosstalk_queue_is_hashable(const struct crosstalk_frame *frame)
{
	const struct ipv6hdr *ip6;
	const struct iphdr *ip;
	unsigned int l3;
	__be16 proto;

	l3 = find_l3(frame, &proto);
	/* For 802.2 and for itself, a tap has a kind of its own. */
	if (!eth_proto_is_802_3(proto))
		return false;
	if (frame->head_len == frame->len)
		return true;

	ip = (const void *)frame->head + l3;
	ip6 = (const void *)frame->head + l3;
	switch (proto) {
	case htons(ETH_P_IP):
		return ip_is_fragment(ip) || ip->ihl < 5 ||
		       is_flat(ip->protocol);
	case htons(ETH_P_IPV6):
		return is_flat(ip6->nexthdr);
	case htons(ETH_P_ARP):
		return true;
	default:
		return false;
	}
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_queue_is_hashable);

/**
 * crosstalk_queue_hash() - the hash of a frame's flow
 * @skb: zeroed at first, used for nothing else
 * @frame: a hashable one
 * @dev: the tap that would transmit it
 *
 * Context: RCU held.
 * Return: what tun makes of the skb that the bridge would have given to it.
 */
u32 crosstalk_queue_hash(struct sk_buff *skb, struct crosstalk_frame *frame,
			 struct net_device *dev)
{
	/*
	 * No tail, no end: without data beyond its head, whatever is not there
	 * is not looked for.  The tag makes no difference to the hash.
	 */
	skb->head = frame->head;
	skb->data = frame->head;
	skb->len = frame->head_len;
	skb->data_len = 0;
	skb->dev = dev;
	skb->network_header = find_l3(frame, &skb->protocol);
	return __skb_get_hash_symmetric(skb);
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_queue_hash);

static struct tun_flow_entry *find_flow(const struct hlist_head *head, u32 hash)
{
	struct tun_flow_entry *e;

	hlist_for_each_entry_rcu(e, head, hash_link)
		if (e->rxhash == hash)
			return e;
	return NULL;
}

static unsigned int flow_bucket(const struct tun_struct *tun, u32 hash)
{
	BUILD_BUG_ON_NOT_POWER_OF_2(ARRAY_SIZE(tun->flows));
	return hash & (ARRAY_SIZE(tun->flows) - 1);
}

/**
 * crosstalk_queue_of_hash() - tun's choice for a flow
 * @tun: the tap
 * @hash: of the flow
 *
 * Context: RCU held.
 * Return: number of a queue, which need not exist.
 */
u32 crosstalk_queue_of_hash(const struct tun_struct *tun, u32 hash)
{
	const struct tun_flow_entry *e;

	e = find_flow(&tun->flows[flow_bucket(tun, hash)], hash);
	return e ? READ_ONCE(e->queue_index) :
		   reciprocal_scale(hash, READ_ONCE(tun->numqueues));
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_queue_of_hash);

/* tun's lock held; tun frees it. */
static void add_flow(struct tun_struct *tun, u32 hash, unsigned int nr)
{
	struct tun_flow_entry *e = kzalloc(sizeof(*e), GFP_ATOMIC);

	if (!e)
		return;

	e->updated = jiffies;
	e->rxhash = hash;
	e->queue_index = nr;
	e->tun = tun;
	hlist_add_head_rcu(&e->hash_link, &tun->flows[flow_bucket(tun, hash)]);
	tun->flow_count++;
}

/**
 * crosstalk_queue_learn() - teach a tap by which queue its guest sends a flow
 * @tun: the tap
 * @hash: of the flow
 * @nr: number of the queue
 *
 * Context: RCU held; any but interrupts.
 */
void crosstalk_queue_learn(struct tun_struct *tun, u32 hash, unsigned int nr)
{
	const struct hlist_head *head = &tun->flows[flow_bucket(tun, hash)];
	struct tun_flow_entry *e = find_flow(head, hash);

	if (likely(e)) {
		if (READ_ONCE(e->queue_index) != nr)
			WRITE_ONCE(e->queue_index, nr);
		if (time_before(READ_ONCE(e->updated), jiffies))
			WRITE_ONCE(e->updated, jiffies);
		return;
	}

	spin_lock_bh(&tun->lock);
	if (!find_flow(head, hash) && tun->flow_count < TUN_MAX_FLOWS)
		add_flow(tun, hash, nr);
	if (!timer_pending(&tun->flow_gc_timer))
		mod_timer(&tun->flow_gc_timer,
			  round_jiffies_up(jiffies + tun->ageing_time));
	spin_unlock_bh(&tun->lock);
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_queue_learn);

/* RCU held; whether queue @nr is still that of @sock. */
static bool is_queue_of(const struct tun_struct *tun, unsigned int nr,
			const struct socket *sock)
{
	const struct tun_file *tfile = rcu_dereference(tun->tfiles[nr]);

	return tfile && &tfile->socket == sock;
}

/* What the sender's tap does with a frame that it gets.  RCU held. */
static void learn(const struct crosstalk_path *path, const struct socket *sock,
		  u32 hash)
{
	struct tun_struct *tun = netdev_priv(path->src);

	if (READ_ONCE(tun->numqueues) > 1 &&
	    !rcu_access_pointer(tun->steering_prog) &&
	    is_queue_of(tun, path->src_queue, sock))
		crosstalk_queue_learn(tun, hash, path->src_queue);
}

/**
 * crosstalk_queue_choose() - the queue that a receiver's tap gives a frame to
 * @route: to any queue of the tap
 * @sock: queue of the sender's tap; compared only
 * @skb: for crosstalk_queue_hash()
 * @frame: parsed, with CROSSTALK_FRAME_FLOW bytes or all of it in @head
 *
 * Context: any but interrupts.
 * Return: the queue's number, or a negative error if it cannot be told.
 */
int crosstalk_queue_choose(const struct crosstalk_route *route,
			   const struct socket *sock, struct sk_buff *skb,
			   struct crosstalk_frame *frame)
{
	struct net_device *dev = route->path.dst;
	const struct tun_struct *tun;
	int ret = -ENODEV;
	u32 hash;
	u32 nr;

	if (!crosstalk_queue_is_hashable(frame))
		return -EOPNOTSUPP;

	rcu_read_lock();
	if (!crosstalk_route_is_there(route))
		goto unlock;

	tun = netdev_priv(dev);
	if (rcu_access_pointer(tun->steering_prog) ||
	    crosstalk_has_flow_dissector(dev_net(dev)))
		goto unlock;

	hash = crosstalk_queue_hash(skb, frame, dev);
	learn(&route->path, sock, hash);
	nr = crosstalk_queue_of_hash(tun, hash);
	/* As netdev_cap_txqueue() does it. */
	ret = nr < READ_ONCE(dev->real_num_tx_queues) ? nr : 0;
unlock:
	rcu_read_unlock();
	return ret;
}

/**
 * crosstalk_queue_is_current() - whether a queue still is its receiver's
 * @route: to the receiver
 * @nr: number of the queue
 *
 * Queues are renumbered when one is detached (TUNSETQUEUE).
 *
 * Context: any but interrupts.
 */
bool crosstalk_queue_is_current(const struct crosstalk_route *route,
				unsigned int nr)
{
	bool ret;

	rcu_read_lock();
	ret = crosstalk_route_is_there(route) &&
	      is_queue_of(netdev_priv(route->path.dst), nr, route->sock);
	rcu_read_unlock();
	return ret;
}
