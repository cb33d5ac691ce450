/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _CROSSTALK_QUEUE_H
#define _CROSSTALK_QUEUE_H

#include <linux/netdevice.h>
#include <linux/rcupdate.h>
#include <linux/skbuff.h>
#include <linux/types.h>
#include <net/net_namespace.h>

struct crosstalk_frame;
struct crosstalk_route;
struct socket;
struct tun_struct;

/**
 * crosstalk_has_flow_dissector() - whether a BPF program makes flows of frames
 * @net: network name space of the frames
 *
 * Context: any.
 */
static inline bool crosstalk_has_flow_dissector(const struct net *net)
{
	const int type = NETNS_BPF_FLOW_DISSECTOR;

	return rcu_access_pointer(init_net.bpf.run_array[type]) ||
	       rcu_access_pointer(net->bpf.run_array[type]);
}

bool crosstalk_queue_is_hashable(const struct crosstalk_frame *frame);
u32 crosstalk_queue_hash(struct sk_buff *skb, struct crosstalk_frame *frame,
			 struct net_device *dev);
u32 crosstalk_queue_of_hash(const struct tun_struct *tun, u32 hash);
void crosstalk_queue_learn(struct tun_struct *tun, u32 hash, unsigned int nr);
int crosstalk_queue_choose(const struct crosstalk_route *route,
			   const struct socket *sock, struct sk_buff *skb,
			   struct crosstalk_frame *frame);
bool crosstalk_queue_is_current(const struct crosstalk_route *route,
				unsigned int nr);

#endif /* _CROSSTALK_QUEUE_H */
