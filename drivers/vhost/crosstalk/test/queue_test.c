// SPDX-License-Identifier: GPL-2.0
/* Which queue a frame goes to: hash, table of flows, what is not foretold. */

#include <kunit/test.h>
#include <linux/etherdevice.h>
#include <linux/if_vlan.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/module.h>
#include <linux/skbuff.h>
#include <linux/udp.h>

#include "frame.h"
#include "queue.h"
#include "vhost_private.h"

#define LEN 1000

struct packet {
	u8 data[LEN] __aligned(4);
	unsigned int l3;
	struct crosstalk_frame frame;
	struct sk_buff skb;
};

static int packet_init(struct kunit *test)
{
	test->priv = kunit_kzalloc(test, sizeof(struct packet), GFP_KERNEL);
	return test->priv ? 0 : -ENOMEM;
}

/* An Ethernet header, tagged or not; returns what follows it. */
static void *put_eth(struct packet *p, __be16 proto, bool tagged)
{
	static const u8 addr[2 * ETH_ALEN] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2 };
	__be16 *type = (__be16 *)(p->data + sizeof(addr));
	unsigned int i;

	for (i = 0; i < LEN; i++)
		p->data[i] = i * 37;
	memcpy(p->data, addr, sizeof(addr));
	if (tagged) {
		*type++ = htons(ETH_P_8021Q);
		*type++ = htons(7);
	}
	*type++ = proto;
	p->l3 = (u8 *)type - p->data;
	return type;
}

static void put_ip4(struct packet *p, u8 proto, unsigned int ihl, u16 frag,
		    bool tagged)
{
	struct iphdr *ip = put_eth(p, htons(ETH_P_IP), tagged);

	ip->version = 4;
	ip->ihl = ihl;
	ip->protocol = proto;
	ip->frag_off = htons(frag);
}

static void put_ip6(struct packet *p, u8 proto)
{
	struct ipv6hdr *ip = put_eth(p, htons(ETH_P_IPV6), false);

	ip->version = 6;
	ip->nexthdr = proto;
}

/* What the TX loop has of a packet of so many bytes. */
static void read_packet(struct kunit *test, struct packet *p, unsigned int len)
{
	struct crosstalk_frame *frame = &p->frame;

	memset(frame, 0, sizeof(*frame));
	frame->len = len;
	frame->head_len = min_t(unsigned int, len, CROSSTALK_FRAME_FLOW);
	memcpy(frame->head, p->data, frame->head_len);
	KUNIT_ASSERT_TRUE(test, crosstalk_frame_parse(frame));
}

/* The hash of an skb with the same packet, as a bridge gives it to a tap. */
static u32 real_hash(struct kunit *test, struct packet *p, unsigned int len)
{
	bool tagged = p->l3 == VLAN_ETH_HLEN;
	struct sk_buff *skb = alloc_skb(LEN, GFP_KERNEL);
	u32 hash;

	KUNIT_ASSERT_NOT_NULL(test, skb);
	skb_put_data(skb, p->data, 2 * ETH_ALEN);
	skb_put_data(skb, p->data + p->l3 - 2, len - p->l3 + 2);
	skb->dev = init_net.loopback_dev;
	skb->protocol = *(__be16 *)(p->data + p->l3 - 2);
	if (tagged)
		__vlan_hwaccel_put_tag(skb, htons(ETH_P_8021Q), 7);
	skb_reset_mac_header(skb);
	skb_set_network_header(skb, ETH_HLEN);
	hash = __skb_get_hash_symmetric(skb);
	kfree_skb(skb);
	return hash;
}

static void expect_same(struct kunit *test, unsigned int len)
{
	struct packet *p = test->priv;
	u32 hash;

	read_packet(test, p, len);
	KUNIT_ASSERT_TRUE(test, crosstalk_queue_is_hashable(&p->frame));
	rcu_read_lock();
	hash = crosstalk_queue_hash(&p->skb, &p->frame, init_net.loopback_dev);
	rcu_read_unlock();
	KUNIT_EXPECT_EQ(test, hash, real_hash(test, p, len));
}

static void expect_unknown(struct kunit *test, unsigned int len)
{
	struct packet *p = test->priv;

	read_packet(test, p, len);
	KUNIT_EXPECT_FALSE(test, crosstalk_queue_is_hashable(&p->frame));
}

static void hashes_are_the_tap_s(struct kunit *test)
{
	static const u8 protos[] = {
		IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, IPPROTO_SCTP,
		IPPROTO_DCCP, IPPROTO_ESP, IPPROTO_AH, IPPROTO_ICMP,
		IPPROTO_ICMPV6, IPPROTO_IGMP,
	};
	struct packet *p = test->priv;
	unsigned int ihl;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(protos); i++) {
		for (ihl = 5; ihl <= 15; ihl += 5) {
			put_ip4(p, protos[i], ihl, 0, false);
			expect_same(test, LEN);
			put_ip4(p, protos[i], ihl, 0, true);
			expect_same(test, LEN);
		}
		put_ip6(p, protos[i]);
		expect_same(test, LEN);
	}
	put_eth(p, htons(ETH_P_ARP), false);
	expect_same(test, LEN);
	put_eth(p, htons(ETH_P_ARP), false);
	expect_same(test, 60);
}

/* The ports of a fragment are not its flow's, whatever it carries. */
static void fragments_have_hashes(struct kunit *test)
{
	struct packet *p = test->priv;

	put_ip4(p, IPPROTO_UDP, 5, IP_MF, false);
	expect_same(test, LEN);
	put_ip4(p, IPPROTO_GRE, 5, IP_MF | 100, false);
	expect_same(test, LEN);
	put_ip4(p, IPPROTO_UDP, 15, 100, true);
	expect_same(test, LEN);
}

/* A frame that was read as a whole has no secrets. */
static void short_frames_have_hashes(struct kunit *test)
{
	struct packet *p = test->priv;
	unsigned int len;

	for (len = ETH_HLEN; len <= CROSSTALK_FRAME_FLOW; len++) {
		put_ip4(p, IPPROTO_UDP, 5, 0, false);
		expect_same(test, len);
		put_ip4(p, IPPROTO_IPIP, 5, 0, false);
		expect_same(test, len);
		put_ip6(p, IPPROTO_DSTOPTS);
		expect_same(test, len);
		put_eth(p, htons(ETH_P_MPLS_UC), false);
		expect_same(test, len);
	}
}

static void deep_headers_have_none(struct kunit *test)
{
	static const u8 protos[] = {
		IPPROTO_GRE, IPPROTO_IPIP, IPPROTO_IPV6, IPPROTO_MPLS,
		IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_DSTOPTS,
		IPPROTO_FRAGMENT,
	};
	struct packet *p = test->priv;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(protos); i++) {
		put_ip4(p, protos[i], 5, 0, false);
		expect_unknown(test, LEN);
		put_ip6(p, protos[i]);
		expect_unknown(test, LEN);
	}
	put_eth(p, htons(ETH_P_MPLS_UC), true);
	expect_unknown(test, LEN);
	put_eth(p, htons(100), false);
	expect_unknown(test, 60);
}

/* tun's table of flows goes before the hash. */
static void table_before_hash(struct kunit *test)
{
	struct tun_flow_entry *e;
	struct tun_struct *tun;
	u32 hash = 0xc0000123;
	u32 size;

	tun = kunit_kzalloc(test, sizeof(*tun), GFP_KERNEL);
	e = kunit_kzalloc(test, sizeof(*e), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, tun);
	KUNIT_ASSERT_NOT_NULL(test, e);
	size = ARRAY_SIZE(tun->flows);

	rcu_read_lock();
	tun->numqueues = 4;
	KUNIT_EXPECT_EQ(test, crosstalk_queue_of_hash(tun, hash), 3);
	KUNIT_EXPECT_EQ(test, crosstalk_queue_of_hash(tun, 0x123), 0);
	tun->numqueues = 3;
	KUNIT_EXPECT_EQ(test, crosstalk_queue_of_hash(tun, hash), 2);

	e->rxhash = hash;
	e->queue_index = 1;
	hlist_add_head_rcu(&e->hash_link, &tun->flows[hash % size]);
	KUNIT_EXPECT_EQ(test, crosstalk_queue_of_hash(tun, hash), 1);
	/* Another flow in the same place. */
	KUNIT_EXPECT_EQ(test, crosstalk_queue_of_hash(tun, hash ^ size), 2);
	rcu_read_unlock();
}

static void no_gc(struct timer_list *timer)
{
}

/* What a guest sends teaches its tap, and the tap keeps what is in use. */
static void taps_learn(struct kunit *test)
{
	struct tun_flow_entry *e;
	struct hlist_head *head;
	struct tun_struct *tun;
	unsigned long before;
	u32 hash = 0xc0000123;

	tun = kunit_kzalloc(test, sizeof(*tun), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, tun);
	spin_lock_init(&tun->lock);
	timer_setup(&tun->flow_gc_timer, no_gc, 0);
	tun->ageing_time = 600 * HZ;
	tun->numqueues = 4;
	head = &tun->flows[hash % ARRAY_SIZE(tun->flows)];

	rcu_read_lock();
	crosstalk_queue_learn(tun, hash, 2);
	KUNIT_EXPECT_EQ(test, crosstalk_queue_of_hash(tun, hash), 2);
	KUNIT_EXPECT_EQ(test, tun->flow_count, 1);
	KUNIT_EXPECT_TRUE(test, timer_pending(&tun->flow_gc_timer));

	e = hlist_entry_safe(head->first, struct tun_flow_entry, hash_link);
	KUNIT_EXPECT_NOT_NULL(test, e);
	before = jiffies;
	if (e)
		e->updated = before - HZ;
	crosstalk_queue_learn(tun, hash, 1);
	KUNIT_EXPECT_EQ(test, crosstalk_queue_of_hash(tun, hash), 1);
	KUNIT_EXPECT_EQ(test, tun->flow_count, 1);
	if (e)
		KUNIT_EXPECT_TRUE(test, time_after_eq(e->updated, before));

	/* A full table learns no more. */
	tun->flow_count = 4096;
	crosstalk_queue_learn(tun, ~hash, 3);
	KUNIT_EXPECT_EQ(test, tun->flow_count, 4096);
	rcu_read_unlock();

	del_timer_sync(&tun->flow_gc_timer);
	kfree(e);
}

static struct kunit_case queue_cases[] = {
	KUNIT_CASE(hashes_are_the_tap_s),
	KUNIT_CASE(fragments_have_hashes),
	KUNIT_CASE(short_frames_have_hashes),
	KUNIT_CASE(deep_headers_have_none),
	KUNIT_CASE(table_before_hash),
	KUNIT_CASE(taps_learn),
	{}
};

static struct kunit_suite queue_suite = {
	.name = "vhost_crosstalk_queue",
	.init = packet_init,
	.test_cases = queue_cases,
};
kunit_test_suite(queue_suite);
