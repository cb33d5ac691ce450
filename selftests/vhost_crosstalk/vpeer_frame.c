// SPDX-License-Identifier: GPL-2.0
/*
 * Self-describing frames.
 *
 * Every byte of a frame follows from its kind, flow and sequence number, and
 * is checked.  Flow and sequence number are in a header of our own; in TCP
 * segments they are in header fields that segmentation copies to every
 * segment, so that a GSO frame can be checked in one piece or in many:
 *
 *	ports		source and destination peer, and queue: symmetric, so
 *			that both directions have the same flow hash
 *	seq		generation (8 bits), offset in the payload (24)
 *	ack		sequence number of the frame
 *	window		bytes of payload in the whole frame
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <linux/if_ether.h>

#include "vpeer.h"

#define ETH_P_OURS	0x88b5	/* IEEE: local experimental */
#define VP_MAGIC	0x76706565
#define PORT_BASE	0x4000

const char * const vp_kind_name[VP_KINDS] = {
	"raw", "vlan", "udp4", "tcp4", "tcp6",
};

struct vp_hdr {
	u32 magic;
	struct vp_flow_id id;
	u64 seq;
	u32 len;
} __attribute__((packed));

static void put16(u8 *p, u16 v)
{
	p[0] = v >> 8;
	p[1] = v;
}

static void put32(u8 *p, u32 v)
{
	put16(p, v >> 16);
	put16(p + 2, v);
}

static u16 get16(const u8 *p)
{
	return p[0] << 8 | p[1];
}

static u32 get32(const u8 *p)
{
	return (u32)get16(p) << 16 | get16(p + 2);
}

void vp_mac(u8 *mac, unsigned int peer)
{
	static const u8 base[6] = { 0x52, 0x54, 0x00, 0x76, 0x70, 0x00 };

	memcpy(mac, base, 6);
	mac[5] = peer;
}

static u64 pattern_key(struct vp_flow_id id, u64 seq)
{
	u64 k = (u64)id.src << 56 | (u64)id.dst << 48 | (u64)id.sub << 40 |
		(u64)id.gen << 32;

	k = (k ^ seq) * 0x9e3779b97f4a7c15ULL;
	return k ^ k >> 29;
}

static u64 pattern_word(u64 key, u64 i)
{
	return (key ^ i * 0x9e3779b97f4a7c15ULL) * 0xff51afd7ed558ccdULL;
}

static void pattern_fill(u8 *p, u32 len, u64 key)
{
	u64 w, i;

	for (i = 0; len >= 8; i++, p += 8, len -= 8) {
		w = pattern_word(key, i);
		memcpy(p, &w, 8);
	}
	if (len) {
		w = pattern_word(key, i);
		memcpy(p, &w, len);
	}
}

/* Offset of the first wrong byte, or -1.  @off: where @p is in the pattern. */
static int pattern_check(const u8 *p, u32 len, u64 key, u32 off)
{
	u32 done = 0;

	while (done < len) {
		u64 w = pattern_word(key, (off + done) / 8);
		u32 in = (off + done) % 8;
		u32 n = vp_min(8 - in, len - done), i;

		if (n == 8) {
			u64 v;

			memcpy(&v, p + done, 8);
			if (v == w) {
				done += 8;
				continue;
			}
		}
		for (i = 0; i < n; i++)
			if (p[done + i] != ((u8 *)&w)[in + i])
				return done + i;
		done += n;
	}
	return -1;
}

static u32 sum16(const u8 *p, u32 len, u32 sum)
{
	u64 s = sum;

	for (; len >= 2; p += 2, len -= 2)
		s += get16(p);
	if (len)
		s += p[0] << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return s;
}

/* Of a TCP or UDP pseudo header. */
u32 vp_sum_pseudo(const u8 *ip, bool v6, u8 proto, u32 len)
{
	u32 sum = v6 ? sum16(ip + 8, 32, 0) : sum16(ip + 12, 8, 0);

	sum += proto + (len >> 16) + (len & 0xffff);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static u32 headers(enum vp_kind kind)
{
	switch (kind) {
	case VP_VLAN:
		return 18;
	case VP_UDP4:
		return 14 + 20 + 8;
	case VP_TCP4:
		return 14 + 20 + 20;
	case VP_TCP6:
		return 14 + 40 + 20;
	default:
		return 14;
	}
}

/* The shortest frame of a kind. */
u32 vp_kind_min(enum vp_kind kind)
{
	return headers(kind) + (kind >= VP_TCP4 ? 1 : sizeof(struct vp_hdr));
}

static void build_ip(u8 *ip, enum vp_kind kind, struct vp_flow_id id, u64 seq,
		     u32 len)
{
	u8 proto = kind == VP_UDP4 ? 17 : 6;

	if (kind == VP_TCP6) {
		memset(ip, 0, 40);
		ip[0] = 0x60;
		put16(ip + 4, len - 40);
		ip[6] = proto;
		ip[7] = 64;
		ip[8] = 0xfd;
		ip[22] = id.src;
		ip[23] = id.sub + 1;
		ip[24] = 0xfd;
		ip[38] = id.dst;
		ip[39] = id.sub + 1;
		return;
	}
	memset(ip, 0, 20);
	ip[0] = 0x45;
	put16(ip + 2, len);
	put16(ip + 4, seq);
	ip[8] = 64;
	ip[9] = proto;
	ip[12] = 10;
	ip[14] = id.src;
	ip[15] = id.sub + 1;
	ip[16] = 10;
	ip[18] = id.dst;
	ip[19] = id.sub + 1;
	put16(ip + 10, ~sum16(ip, 20, 0));
}

/*
 * Build a frame of @len bytes (at least vp_kind_min()) and its virtio-net
 * header.  Returns the length.
 */
u32 vp_frame_build(u8 *frame, struct virtio_net_hdr_v1 *h, enum vp_kind kind,
		   struct vp_flow_id id, u64 seq, u32 len, const u8 *dmac,
		   u16 vlan)
{
	u32 hlen = headers(kind), ip = 14, l4 = kind == VP_TCP6 ? 54 : 34;
	u8 *p = frame;
	struct vp_hdr our = {
		.magic = VP_MAGIC, .id = id, .seq = seq,
	};

	memset(h, 0, sizeof(*h));
	if (len < vp_kind_min(kind))
		len = vp_kind_min(kind);
	memcpy(p, dmac, 6);
	vp_mac(p + 6, id.src);

	switch (kind) {
	case VP_VLAN:
		put16(p + 12, ETH_P_8021Q);
		put16(p + 14, vlan);
		put16(p + 16, ETH_P_OURS);
		break;
	case VP_RAW:
	default:
		put16(p + 12, ETH_P_OURS);
		break;
	case VP_UDP4:
	case VP_TCP4:
	case VP_TCP6:
		put16(p + 12, kind == VP_TCP6 ? ETH_P_IPV6 : ETH_P_IP);
		build_ip(p + ip, kind, id, seq, len - 14);
		put16(p + l4, PORT_BASE + (id.src << 8 | id.sub));
		put16(p + l4 + 2, PORT_BASE + (id.dst << 8 | id.sub));
		h->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		h->csum_start = l4;
		h->csum_offset = kind == VP_UDP4 ? 6 : 16;
		if (kind == VP_UDP4) {
			put16(p + l4 + 4, len - l4);
		} else {
			put32(p + l4 + 4, id.gen << 24);
			put32(p + l4 + 8, seq);
			p[l4 + 12] = 5 << 4;
			p[l4 + 13] = 0x10;	/* ACK */
			put16(p + l4 + 14, len - hlen);
			put16(p + l4 + 18, 0);
		}
		put16(p + l4 + h->csum_offset,
		      vp_sum_pseudo(p + ip, kind == VP_TCP6,
				 kind == VP_UDP4 ? 17 : 6, len - l4));
		break;
	}
	if (kind >= VP_TCP4 && len - hlen > VP_GSO_SIZE) {
		h->gso_type = kind == VP_TCP6 ? VIRTIO_NET_HDR_GSO_TCPV6 :
						VIRTIO_NET_HDR_GSO_TCPV4;
		h->gso_size = VP_GSO_SIZE;
		h->hdr_len = hlen;
	}
	if (kind < VP_TCP4) {
		our.len = len;
		memcpy(p + hlen, &our, sizeof(our));
		hlen += sizeof(our);
	}
	pattern_fill(p + hlen, len - hlen, pattern_key(id, seq));
	return len;
}

#define BAD(fmt, ...)						\
	do {							\
		snprintf(why, size, fmt, ##__VA_ARGS__);	\
		return VP_FRAME_CORRUPT;			\
	} while (0)

/* The checksum of a TCP or UDP packet, and what the header says of it. */
static enum vp_verdict check_l4(const u8 *p, u32 len, u32 l4, bool v6, u8 proto,
				const struct virtio_net_hdr_v1 *h, bool has_hdr,
				char *why, size_t size)
{
	u32 at = proto == 17 ? 6 : 16;
	u32 pseudo = vp_sum_pseudo(p + 14, v6, proto, len - l4);
	u8 want = v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;

	if (has_hdr && h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		if (h->csum_start != l4 || h->csum_offset != at)
			BAD("csum_start %u, offset %u", h->csum_start,
			    h->csum_offset);
		if (get16(p + l4 + at) != pseudo)
			BAD("pseudo header sum %x, not %x", get16(p + l4 + at),
			    pseudo);
	} else if (sum16(p + l4, len - l4, pseudo) != 0xffff) {
		BAD("checksum of %u bytes is wrong", len);
	}
	if (!has_hdr || h->gso_type == VIRTIO_NET_HDR_GSO_NONE)
		return VP_FRAME_OK;
	if (h->gso_type != want || h->gso_size != VP_GSO_SIZE)
		BAD("gso_type %u, gso_size %u", h->gso_type, h->gso_size);
	return VP_FRAME_OK;
}

static enum vp_verdict check_tcp(const u8 *p, u32 len, bool v6,
				 const struct virtio_net_hdr_v1 *h,
				 bool has_hdr, struct vp_frame *out, char *why,
				 size_t size)
{
	u32 l4 = v6 ? 54 : 34, hlen = l4 + 20, seq = get32(p + l4 + 4);
	u16 from = get16(p + l4) - PORT_BASE, to = get16(p + l4 + 2) - PORT_BASE;
	enum vp_verdict v;

	if (len < hlen)
		BAD("TCP frame of %u bytes", len);
	out->id = (struct vp_flow_id) { from >> 8, to >> 8, from, seq >> 24 };
	out->seq = get32(p + l4 + 8);
	out->off = seq & 0xffffff;
	out->len = len - hlen;
	out->total = get16(p + l4 + 14);
	if (out->off + out->len > out->total)
		BAD("segment %u+%u of %u bytes", out->off, out->len,
		    out->total);
	v = check_l4(p, len, l4, v6, 6, h, has_hdr, why, size);
	if (v != VP_FRAME_OK)
		return v;
	if (has_hdr && h->gso_type == VIRTIO_NET_HDR_GSO_NONE &&
	    out->len > VP_GSO_SIZE)
		BAD("%u bytes without GSO", out->len);
	return VP_FRAME_OK;
}

/*
 * Check a frame that peer @self received; @h in front of it, if @has_hdr says
 * that the device gave offload information.
 */
enum vp_verdict vp_frame_check(const u8 *p, u32 len,
			       const struct virtio_net_hdr_v1 *h, bool has_hdr,
			       unsigned int self, struct vp_frame *out,
			       char *why, size_t size)
{
	u32 at = 14, body;
	enum vp_verdict v;
	struct vp_hdr our;
	u8 mac[6];
	u16 type;
	int bad;

	if (len < 14)
		BAD("%u bytes", len);
	vp_mac(mac, self);
	if (memcmp(p, mac, 6))
		return VP_FRAME_FOREIGN;
	out->kind = VP_RAW;
	type = get16(p + 12);
	if (type == ETH_P_8021Q && len >= 18) {
		out->kind = VP_VLAN;
		type = get16(p + 16);
		at = 18;
	}
	if (type == ETH_P_IP && len >= 42 && p[23] == 17) {
		out->kind = VP_UDP4;
		at = 42;
	} else if (type == ETH_P_IP && len >= 54 && p[23] == 6) {
		out->kind = VP_TCP4;
	} else if (type == ETH_P_IPV6 && len >= 74 && p[20] == 6) {
		out->kind = VP_TCP6;
	} else if (type != ETH_P_OURS) {
		return VP_FRAME_FOREIGN;
	}

	if (out->kind >= VP_TCP4) {
		v = check_tcp(p, len, out->kind == VP_TCP6, h, has_hdr, out,
			      why, size);
		if (v != VP_FRAME_OK)
			return v;
		body = len - out->len;
	} else {
		body = at + sizeof(our);
		if (len < body)
			BAD("%u bytes", len);
		memcpy(&our, p + at, sizeof(our));
		if (our.magic != VP_MAGIC || our.len != len)
			BAD("magic %x, length %u in a frame of %u", our.magic,
			    our.len, len);
		out->id = our.id;
		out->seq = our.seq;
		out->off = 0;
		out->len = len - body;
		out->total = out->len;
		if (has_hdr && h->gso_type != VIRTIO_NET_HDR_GSO_NONE)
			BAD("gso_type %u", h->gso_type);
		if (out->kind == VP_UDP4) {
			v = check_l4(p, len, 34, false, 17, h, has_hdr, why,
				     size);
			if (v != VP_FRAME_OK)
				return v;
		}
	}
	if (out->id.dst != self)
		BAD("frame of flow %u->%u", out->id.src, out->id.dst);
	vp_mac(mac, out->id.src);
	if (memcmp(p + 6, mac, 6))
		BAD("source address of another peer than %u", out->id.src);
	bad = pattern_check(p + body, out->len, pattern_key(out->id, out->seq),
			    out->off);
	if (bad >= 0)
		BAD("flow %u->%u frame %llu: payload byte %u of %u is wrong",
		    out->id.src, out->id.dst, out->seq, out->off + bad,
		    out->total);
	return VP_FRAME_OK;
}
