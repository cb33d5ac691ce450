/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _CROSSTALK_POLICY_H
#define _CROSSTALK_POLICY_H

#include <linux/etherdevice.h>
#include <linux/if_ether.h>
#include <linux/if_vlan.h>
#include <linux/netdevice.h>
#include <linux/types.h>

#include "backend.h"

struct sk_buff;

/*
 * Why a frame takes the slow path.  The names (policy.c) are what an operator
 * sees; Documentation/ABI says what each of them means.
 */
enum crosstalk_slow {
	CROSSTALK_FAST,			/* it does not */
	CROSSTALK_BY_QUEUE,		/* to be asked for each queue of several */

	/* State of the verdict (detect.c) */
	CROSSTALK_SLOW_UNRESOLVED,	/* not asked yet */
	CROSSTALK_SLOW_STALE,		/* the answer is too old */
	CROSSTALK_SLOW_FULL,		/* too many flows to remember this one */
	CROSSTALK_SLOW_MEMORY,		/* no memory for the answer */

	/* Where it comes from and where it goes */
	CROSSTALK_SLOW_ADDRESS,		/* not two unicast addresses */
	CROSSTALK_SLOW_NO_PORT,		/* the source's tap is detached */
	CROSSTALK_SLOW_NO_BRIDGE,	/* the source is in no Linux bridge */
	CROSSTALK_SLOW_NO_FDB,		/* the bridge would flood it */
	CROSSTALK_SLOW_LOCAL,		/* it is for the host itself */
	CROSSTALK_SLOW_SAME_PORT,	/* back where it came from */
	CROSSTALK_SLOW_REMOTE,		/* to a port without a hooked VM */
	CROSSTALK_SLOW_NETNS,		/* to another network name space */
	CROSSTALK_SLOW_SRC_UNKNOWN,	/* the source is to be learned */
	CROSSTALK_SLOW_SRC_MOVED,	/* ... was learned at another port */
	CROSSTALK_SLOW_RECEIVER,	/* vhost-net's loops run for the receiver */
	CROSSTALK_SLOW_MIGRATION,	/* the receiver's memory is logged */
	CROSSTALK_SLOW_STALLED,		/* the receiver lets senders wait */
	CROSSTALK_SLOW_UNFIT,		/* frames that the receiver cannot have */

	/* Any interface on the way */
	CROSSTALK_SLOW_DOWN,
	CROSSTALK_SLOW_CARRIER,
	CROSSTALK_SLOW_UPPER,		/* a VLAN or other device above it */
	CROSSTALK_SLOW_XDP,
	CROSSTALK_SLOW_NFT_INGRESS,
	CROSSTALK_SLOW_NFT_EGRESS,
	CROSSTALK_SLOW_TC_INGRESS,
	CROSSTALK_SLOW_TC_EGRESS,
	CROSSTALK_SLOW_QDISC,
	CROSSTALK_SLOW_PACKET_SOCKET,	/* tcpdump */

	/* Taps and their queues */
	CROSSTALK_SLOW_TAP_HEADER,	/* virtio-net header unlike vhost's */
	CROSSTALK_SLOW_TAP_NAPI,
	CROSSTALK_SLOW_TAP_SNDBUF,
	CROSSTALK_SLOW_TAP_FILTER,
	CROSSTALK_SLOW_TAP_RING,	/* there is no room in its ring */
	CROSSTALK_SLOW_TAP_STEERING,
	CROSSTALK_SLOW_TAP_QUEUES,	/* the receiving macvtap has several */
	CROSSTALK_SLOW_TAP_HASH,	/* which of them cannot be foretold */
	CROSSTALK_SLOW_FLOW_DISSECTOR,	/* ... as BPF looks at the frame */
	CROSSTALK_SLOW_SOCKET_FILTER,

	/* Bridge */
	CROSSTALK_SLOW_BRIDGE_PROMISC,
	CROSSTALK_SLOW_BRIDGE_NETFILTER,
	CROSSTALK_SLOW_BR_NETFILTER,
	CROSSTALK_SLOW_MST,
	CROSSTALK_SLOW_MRP,
	CROSSTALK_SLOW_NEIGH_SUPPRESS,
	CROSSTALK_SLOW_PROXY_ARP,
	CROSSTALK_SLOW_BRIDGE_OPTIONS,	/* the bridge does not tell them */
	CROSSTALK_SLOW_VLAN_STATS,
	CROSSTALK_SLOW_STP,
	CROSSTALK_SLOW_ISOLATED,
	CROSSTALK_SLOW_LOCKED,
	CROSSTALK_SLOW_VLAN,		/* not a member */
	CROSSTALK_SLOW_VLAN_STATE,
	CROSSTALK_SLOW_VLAN_TAG,	/* tag added, removed or changed */
	CROSSTALK_SLOW_VLAN_TUNNEL,

	/* macvtap */
	CROSSTALK_SLOW_MACVTAP_MODE,	/* not in bridge mode */
	CROSSTALK_SLOW_MACVTAP_SOURCE,	/* a sibling sees everything */
	CROSSTALK_SLOW_MACVTAP_VLAN,	/* VLANs of the lower device */
	CROSSTALK_SLOW_IPVTAP,

	CROSSTALK_NR_SLOW,
};

const char *crosstalk_slow_name(enum crosstalk_slow slow);

/**
 * struct crosstalk_flow_key - what a bridge's decision depends on
 * @dst: destination address
 * @src: source address
 * @vlan: identifier of the VLAN in the frame's one tag, and the tag's kind
 * (CROSSTALK_VLAN_*); 0 for no tag
 * @queue: 0, or which of several queues of the receiver, counted from 1, or
 * CROSSTALK_QUEUE_UNKNOWN
 * @word: all of it, to be compared and hashed
 */
struct crosstalk_flow_key {
	union {
		struct {
			u8 dst[ETH_ALEN];
			u8 src[ETH_ALEN];
			u16 vlan;
			u16 queue;
		};
		u64 word[2];
	};
};

static_assert(sizeof(struct crosstalk_flow_key) == 16);

/* Kinds of VLAN tags, beside the identifier's 12 bits. */
#define CROSSTALK_VLAN_8021Q BIT(12)
#define CROSSTALK_VLAN_8021AD BIT(13)

/* Frames whose queue cannot be foretold. */
#define CROSSTALK_QUEUE_UNKNOWN U16_MAX

/**
 * crosstalk_flow_key_set() - fill a key
 * @key: all of it is filled in
 * @eth: Ethernet header, four-byte aligned
 * @vlan_proto: protocol of its VLAN tag, 0 for none
 * @vlan_id: identifier of its VLAN
 */
static inline void crosstalk_flow_key_set(struct crosstalk_flow_key *key,
					  const u8 *eth, __be16 vlan_proto,
					  u16 vlan_id)
{
	memcpy(key, eth, 2 * ETH_ALEN);
	key->vlan = vlan_id;
	if (vlan_proto)
		key->vlan |= vlan_proto == htons(ETH_P_8021Q) ?
			     CROSSTALK_VLAN_8021Q : CROSSTALK_VLAN_8021AD;
	key->queue = 0;
}

/* Identifier of the VLAN in a flow's tag; 0 for no tag. */
static inline u16
crosstalk_flow_key_vlan_id(const struct crosstalk_flow_key *key)
{
	return key->vlan & VLAN_VID_MASK;
}

/* Protocol of a flow's VLAN tag; 0 for no tag. */
static inline __be16
crosstalk_flow_key_vlan_proto(const struct crosstalk_flow_key *key)
{
	if (!key->vlan)
		return 0;
	return htons(key->vlan & CROSSTALK_VLAN_8021Q ? ETH_P_8021Q :
							ETH_P_8021AD);
}

static inline bool crosstalk_flow_key_equal(const struct crosstalk_flow_key *a,
					    const struct crosstalk_flow_key *b)
{
	return !((a->word[0] ^ b->word[0]) | (a->word[1] ^ b->word[1]));
}

/**
 * struct crosstalk_port - where an endpoint is attached to the network
 * @dev: its tap or macvtap; RTNL
 * @kind: which of them
 * @tx_sock: queue that it sends to; compared, never followed
 * @rx_sock: queue that it receives from; compared, never followed
 * @hdr_len: bytes of the virtio-net header that vhost exchanges with them
 * @le: whether that is little-endian
 * @logged: what is written for @rx_sock is logged
 */
struct crosstalk_port {
	struct net_device *dev;
	enum crosstalk_backend_kind kind;
	const struct socket *tx_sock;
	const struct socket *rx_sock;
	size_t hdr_len;
	bool le;
	bool logged;
};

/**
 * struct crosstalk_path - a way on which a frame is forwarded and nothing else
 * @src: the sender's interface
 * @dst: the receiver's interface
 * @mid: the bridge between them, or the device below both macvtaps
 * @features: offloads with which a frame can pass (csum, TSO, USO)
 * @max_len: longest frame that is not dropped, if it is no GSO frame; from the
 * Ethernet header on
 * @max_gso_len: longest GSO frame that is not cut into segments
 * @refresh: jiffies after which the bridge should see the source again, 0 never
 * @src_queue: which queue of its tap the sender sends to, from 0 on
 * @macvtap: kind of both ports
 * @tagged: the frame has a VLAN tag
 *
 * The interfaces are used under RTNL, or under RCU while the epoch says that
 * none of them is gone (detect.c).
 */
struct crosstalk_path {
	struct net_device *src;
	struct net_device *dst;
	struct net_device *mid;
	netdev_features_t features;
	unsigned int max_len;
	unsigned int max_gso_len;
	unsigned long refresh;
	u16 src_queue;
	bool macvtap;
	bool tagged;
};

/* Answers that are kept for as long as RTNL is not dropped. */
#define CROSSTALK_PASS_PORTS 256
#define CROSSTALK_PASS_BRIDGES 16
#define CROSSTALK_PASS_VLANS 256

/* Which way frames pass an interface. */
enum crosstalk_role {
	CROSSTALK_ROLE_SOURCE,
	CROSSTALK_ROLE_DEST,
};

struct crosstalk_port_memo {
	const struct net_device *dev;
	const struct socket *sock;
	enum crosstalk_role role;
	enum crosstalk_slow slow;
};

struct crosstalk_bridge_memo {
	const struct net_device *dev;
	enum crosstalk_slow slow;
	bool vlan_stats;
};

struct crosstalk_vlan_memo {
	const struct net_device *dev;
	u16 vid;
	u16 flags;
	enum crosstalk_slow slow;
};

/**
 * struct crosstalk_pass - one round of questions
 * @msg: for answers in the form of a netlink message
 * @br_netfilter_off: br_netfilter's switches in the initial name space are off
 * @br_netfilter_seen: its hooks were met, so its switches are of interest
 * @ports: answers by interface
 * @bridges: answers by bridge
 * @vlans: answers by interface and VLAN
 *
 * For one thread at a time.
 */
struct crosstalk_pass {
	struct sk_buff *msg;
	bool br_netfilter_off;
	bool br_netfilter_seen;
	struct crosstalk_port_memo ports[CROSSTALK_PASS_PORTS];
	struct crosstalk_bridge_memo bridges[CROSSTALK_PASS_BRIDGES];
	struct crosstalk_vlan_memo vlans[CROSSTALK_PASS_VLANS];
};

/**
 * struct crosstalk_policy - how the detector asks
 * @attached: whether a port's sockets are its interface's; the others are only
 * asked about ports of which this is true
 * @prepare: before RTNL is taken; may sleep
 * @begin: after RTNL was taken: forget what was kept
 * @egress: finds the interface that a frame leaves by
 * @queues: among how many queues a tap or macvtap chooses
 * @queue: the socket of one of them
 * @check: whether the way there is nothing but a way
 *
 * @attached, @egress, @queues, @queue and @check are called under RTNL and RCU, and do not sleep.
 */
struct crosstalk_policy {
	void (*prepare)(struct crosstalk_pass *pass);
	void (*begin)(struct crosstalk_pass *pass);
	bool (*attached)(const struct crosstalk_port *port);
	enum crosstalk_slow (*egress)(struct crosstalk_pass *pass,
				      const struct crosstalk_port *src,
				      const struct crosstalk_flow_key *key,
				      struct net_device **dev);
	unsigned int (*queues)(const struct crosstalk_port *port);
	const struct socket *(*queue)(const struct net_device *dev,
				      unsigned int nr);
	enum crosstalk_slow (*check)(struct crosstalk_pass *pass,
				     const struct crosstalk_port *src,
				     const struct crosstalk_port *dst,
				     const struct crosstalk_flow_key *key,
				     struct crosstalk_path *path);
};

extern const struct crosstalk_policy crosstalk_policy;

struct crosstalk_pass *crosstalk_pass_create(void);
void crosstalk_pass_destroy(struct crosstalk_pass *pass);

/* Inside of the policy: one rule is one reason. */

/**
 * struct crosstalk_query - what a rule is asked about
 * @pass: round of questions
 * @src: source port, or NULL
 * @dst: destination port, or NULL
 * @dev: interface in question
 * @key: flow, or NULL
 */
struct crosstalk_query {
	struct crosstalk_pass *pass;
	const struct crosstalk_port *src;
	const struct crosstalk_port *dst;
	struct net_device *dev;
	const struct crosstalk_flow_key *key;
};

struct crosstalk_rule {
	bool (*applies)(const struct crosstalk_query *query);
	enum crosstalk_slow slow;
};

enum crosstalk_slow crosstalk_rules_apply(const struct crosstalk_rule *rules,
					  unsigned int nr,
					  const struct crosstalk_query *query);
enum crosstalk_slow crosstalk_check_ingress(const struct crosstalk_query *query);
enum crosstalk_slow crosstalk_check_egress(const struct crosstalk_query *query);
unsigned int crosstalk_dev_max_len(const struct net_device *dev);
void crosstalk_dev_offloads(const struct net_device *dev,
			    struct crosstalk_path *path);

/* policy_tap.c */
bool crosstalk_port_attached(const struct crosstalk_port *port);
enum crosstalk_slow crosstalk_tap_source(const struct crosstalk_query *query);
enum crosstalk_slow crosstalk_tap_dest(const struct crosstalk_query *query);
netdev_features_t crosstalk_macvtap_features(const struct crosstalk_port *port);
unsigned int crosstalk_tap_queues(const struct crosstalk_port *port);
unsigned int crosstalk_tap_queue_nr(const struct crosstalk_port *port,
				    const struct socket *sock);
const struct socket *crosstalk_tap_queue(const struct net_device *dev,
					 unsigned int nr);

/* policy_bridge.c */
enum crosstalk_slow
crosstalk_bridge_egress(struct crosstalk_pass *pass,
			const struct crosstalk_port *src,
			const struct crosstalk_flow_key *key,
			struct net_device **dev);
enum crosstalk_slow
crosstalk_bridge_check(struct crosstalk_pass *pass,
		       const struct crosstalk_port *src,
		       const struct crosstalk_port *dst,
		       const struct crosstalk_flow_key *key,
		       struct crosstalk_path *path);
void crosstalk_bridge_prepare(struct crosstalk_pass *pass);

/* policy_vlan.c */
enum crosstalk_slow crosstalk_vlan_find(struct net_device *br,
					const struct crosstalk_port *src,
					const struct crosstalk_flow_key *key,
					u16 *vid);
enum crosstalk_slow crosstalk_vlan_check(struct crosstalk_pass *pass,
					 const struct crosstalk_port *src,
					 const struct crosstalk_port *dst,
					 const struct crosstalk_flow_key *key,
					 u16 vid);

/* policy_macvtap.c */
enum crosstalk_slow
crosstalk_macvtap_egress(const struct crosstalk_port *src,
			 const struct crosstalk_flow_key *key,
			 struct net_device **dev);
enum crosstalk_slow
crosstalk_macvtap_check(struct crosstalk_pass *pass,
			const struct crosstalk_port *src,
			const struct crosstalk_port *dst,
			const struct crosstalk_flow_key *key,
			struct crosstalk_path *path);

#endif /* _CROSSTALK_POLICY_H */
