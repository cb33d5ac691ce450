// SPDX-License-Identifier: GPL-2.0
/*
 * What a frame is, by its headers: a pure function of bytes that were copied
 * from the sender before.
 *
 * The rule is the tap's: what tun_get_user() and virtio_net_hdr_to_skb() would
 * refuse, and what GSO would drop later, is not forwarded here.  Nor is
 * anything that they accept and this does not understand: all of it goes the
 * slow path, which knows best.
 *
 * Supported kernels have CPUs of the rings' byte order (Kconfig); the
 * virtio-net header of a tap is little-endian as well (policy checks it).
 */

#include <linux/export.h>
#include <linux/if_ether.h>
#include <linux/if_vlan.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/netdev_features.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <net/mpls.h>

#include "compat.h"
#include "frame.h"

/* Below this, the stack raises the segment size (TCP_MIN_GSO_SIZE). */
#define MIN_GSO_SIZE 8

/* The most segments that UDP segmentation makes of one frame. */
#define MAX_UDP_SEGMENTS 128

/* The L3 header's place and length, and what it carries. */
struct l3 {
	unsigned int start;
	unsigned int end;
	u8 proto;
};

static unsigned int le16(__virtio16 val)
{
	return __virtio16_to_cpu(true, val);
}

/* Protocols that a bridge may take for itself, whatever the destination. */
static bool is_bridge_protocol(__be16 proto)
{
	return proto == htons(ETH_P_CFM) || proto == htons(ETH_P_MRP);
}

/* Finds EtherType and VLAN tag; at most one tag is understood. */
static bool parse_ethernet(struct crosstalk_frame *frame, __be16 *proto,
			   unsigned int *l3_start)
{
	const struct vlan_ethhdr *vlan = (const void *)frame->head;
	const struct ethhdr *eth = (const void *)frame->head;
	u16 tci;

	if (frame->head_len < ETH_HLEN || is_multicast_ether_addr(eth->h_dest))
		return false;

	*proto = eth->h_proto;
	*l3_start = ETH_HLEN;
	if (likely(!eth_type_vlan(*proto))) {
		crosstalk_flow_key_set(&frame->key, frame->head, 0, 0);
		frame->has_key = true;
		return !is_bridge_protocol(*proto);
	}

	/* With less than two bytes behind it, a tag is not taken off. */
	if (frame->head_len < VLAN_ETH_HLEN + sizeof(__be16))
		return false;

	/*
	 * A priority tag (VLAN 0) is the bridge's to interpret, and so are two
	 * tags.  Their flow is that of the frames which they must not be
	 * overtaken by: those of the same VLAN.
	 */
	tci = ntohs(vlan->h_vlan_TCI);
	if (!(tci & VLAN_VID_MASK)) {
		crosstalk_flow_key_set(&frame->key, frame->head, 0, 0);
		frame->has_key = true;
		return false;
	}

	crosstalk_flow_key_set(&frame->key, frame->head, vlan->h_vlan_proto,
			       tci & VLAN_VID_MASK);
	frame->has_key = true;
	*proto = vlan->h_vlan_encapsulated_proto;
	*l3_start = VLAN_ETH_HLEN;
	return !eth_type_vlan(*proto) && !is_bridge_protocol(*proto);
}

static bool parse_l3(const struct crosstalk_frame *frame, __be16 proto,
		     struct l3 *l3)
{
	const struct ipv6hdr *ip6 = (const void *)frame->head + l3->start;
	const struct iphdr *ip = (const void *)frame->head + l3->start;

	if (proto == htons(ETH_P_IP)) {
		if (frame->head_len < l3->start + sizeof(*ip) ||
		    ip->version != 4 || ip->ihl < 5)
			return false;
		l3->end = l3->start + ip->ihl * 4;
		l3->proto = ip->protocol;
		return true;
	}
	if (proto == htons(ETH_P_IPV6)) {
		if (frame->head_len < l3->start + sizeof(*ip6) ||
		    ip6->version != 6)
			return false;
		/* Extension headers leave a protocol that GSO has not. */
		l3->end = l3->start + sizeof(*ip6);
		l3->proto = ip6->nexthdr;
		return true;
	}
	return false;
}

static bool parse_tcp_gso(struct crosstalk_frame *frame, const struct l3 *l3,
			  unsigned int *payload)
{
	const struct virtio_net_hdr *hdr = &frame->vnet.hdr;
	const struct tcphdr *tcp;

	if (l3->proto != IPPROTO_TCP ||
	    frame->head_len < l3->end + sizeof(*tcp) ||
	    le16(hdr->csum_offset) != offsetof(struct tcphdr, check))
		return false;

	tcp = (const void *)frame->head + l3->end;
	*payload = l3->end + tcp->doff * 4;
	if (tcp->doff < 5)
		return false;

	if (hdr->gso_type & VIRTIO_NET_HDR_GSO_ECN)
		frame->needs |= NETIF_F_TSO_ECN;
	return true;
}

static bool parse_udp_gso(struct crosstalk_frame *frame, const struct l3 *l3,
			  unsigned int *payload)
{
	const struct virtio_net_hdr *hdr = &frame->vnet.hdr;

	if (l3->proto != IPPROTO_UDP ||
	    le16(hdr->csum_offset) != offsetof(struct udphdr, check))
		return false;

	*payload = l3->end + sizeof(struct udphdr);
	frame->needs |= NETIF_F_GSO_UDP_L4;
	return frame->len <= *payload + le16(hdr->gso_size) * MAX_UDP_SEGMENTS;
}

/* Not inlined: what it has on the stack costs other frames nothing then. */
static noinline bool parse_gso(struct crosstalk_frame *frame, __be16 proto,
			       unsigned int l3_start)
{
	const struct virtio_net_hdr *hdr = &frame->vnet.hdr;
	struct l3 l3 = { .start = l3_start };
	unsigned int payload;
	bool ok;

	/* Without a checksum to complete, the stack probes; we do not. */
	if (!(hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) ||
	    !parse_l3(frame, proto, &l3) || le16(hdr->csum_start) != l3.end)
		return false;

	switch (hdr->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		frame->needs |= NETIF_F_TSO;
		ok = proto == htons(ETH_P_IP) &&
		     parse_tcp_gso(frame, &l3, &payload);
		break;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		frame->needs |= NETIF_F_TSO6;
		ok = proto == htons(ETH_P_IPV6) &&
		     parse_tcp_gso(frame, &l3, &payload);
		break;
	case VIRTIO_NET_HDR_GSO_UDP_L4:
		ok = !(hdr->gso_type & VIRTIO_NET_HDR_GSO_ECN) &&
		     parse_udp_gso(frame, &l3, &payload);
		break;
	default:
		ok = false;
	}
	if (!ok)
		return false;

	frame->gso = true;
	frame->payload = payload;
	/* A frame of one segment is, for the stack, no GSO frame at all. */
	return le16(hdr->gso_size) >= MIN_GSO_SIZE &&
	       le16(hdr->gso_size) != U16_MAX && frame->head_len >= payload &&
	       frame->len - payload > le16(hdr->gso_size);
}

static bool check_csum(struct crosstalk_frame *frame, __be16 proto)
{
	const struct virtio_net_hdr *hdr = &frame->vnet.hdr;
	unsigned int start = le16(hdr->csum_start);

	if (!(hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
		return true;

	/* What an interface can do behind labels is told elsewhere: little. */
	if (eth_p_mpls(proto))
		return false;

	frame->needs |= NETIF_F_HW_CSUM;
	return start >= sizeof(struct iphdr) &&
	       start + le16(hdr->csum_offset) + sizeof(__sum16) <= frame->len;
}

/**
 * crosstalk_frame_parse() - check a frame's headers
 * @frame: with @vnet, @head, @len and @head_len set; the rest is filled in
 *
 * Return: whether the frame is understood; if not, it goes the slow path.
 */
bool crosstalk_frame_parse(struct crosstalk_frame *frame)
{
	const struct virtio_net_hdr *hdr = &frame->vnet.hdr;
	unsigned int l3_start;
	__be16 proto;

	frame->has_key = false;
	frame->gso = false;
	frame->needs = 0;
	if (!parse_ethernet(frame, &proto, &l3_start))
		return false;

	/* The tap wants a length of headers that makes sense. */
	if (le16(hdr->hdr_len) > frame->len ||
	    (hdr->hdr_len && le16(hdr->hdr_len) < ETH_HLEN))
		return false;

	if (!check_csum(frame, proto))
		return false;
	if (hdr->gso_type == VIRTIO_NET_HDR_GSO_NONE)
		return true;
	return parse_gso(frame, proto, l3_start);
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_frame_parse);
