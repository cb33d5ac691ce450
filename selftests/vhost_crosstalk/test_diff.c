// SPDX-License-Identifier: GPL-2.0
/*
 * A13, C2, C3: with the direct path everybody sees what they see without it.
 *
 * A scenario is a kind of frames in a world: guests with certain features, a
 * bridge or macvtaps that are set up in a certain way.  Its frames are sent from
 * guest A to guest B twice, with "direct" 0 and 1, in the same boot.  All that B,
 * a third guest and the host's sockets get, header fields and bytes, in that
 * order, and the interfaces' counters, must be the same.  A column says how many
 * of the frames the direct path is expected to carry; any other number fails.
 *
 * What may differ: hdr_len of a GSO frame (the slow path says how much of its skb
 * happens to be linear; the direct path, where the headers end), and the order
 * between flows, which are told apart by addresses and VLAN.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ctl.h"
#include "ktap.h"
#include "lab.h"

/* Newer than the headers of Debian 12. */
#define F_USO4		0x20
#define F_USO6		0x40
#define GSO_UDP_L4	5

#define ETH_P_OURS	0x88b5
#define MAX_FRAMES	32
#define TRY_MS		4000	/* for a kind to take the direct path */
#define PAUSE_MAX_MS	128
#define SETTLE_MS	3	/* for frames that nobody expects */
#define ALONE_MS	5	/* for frames without the direct path */
#define ALONE_LONG_MS	250
#define RETAKES		3	/* of them, on a machine that is busy */
#define FLOW_LEN	18

enum { A, B, C };

/* ---- frames ---- */

struct frame {
	struct virtio_net_hdr_v1 h;
	u32 len;
	u8 data[VP_FRAME_MAX + 64];
};

struct burst {
	unsigned int n;
	struct frame f[MAX_FRAMES];
};

static struct lab lab;
static const u8 nobody[6] = { 0x52, 0x54, 0x00, 0x76, 0x70, 0x77 };
static const u8 everybody[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
static const u8 group[6] = { 0x33, 0x33, 0x00, 0x00, 0x00, 0x42 };
static const u8 stp_group[6] = { 0x01, 0x80, 0xc2, 0x00, 0x00, 0x00 };

static void put16(u8 *p, u16 v)
{
	p[0] = v >> 8;
	p[1] = v;
}

/* A frame from A to B with a pattern behind its Ethernet header. */
static struct frame *eth(struct burst *b, u16 type, u32 len)
{
	struct frame *f = &b->f[b->n];
	u32 i;

	ktap_assert(b->n < MAX_FRAMES, "too many frames");
	memset(&f->h, 0, sizeof(f->h));
	f->len = len;
	for (i = 14; i < len; i++)
		f->data[i] = i * 7 + b->n * 13 + (i >> 8);
	memcpy(f->data, lab.p[B].mac, 6);
	memcpy(f->data + 6, lab.p[A].mac, 6);
	put16(f->data + 12, type);
	b->n++;
	return f;
}

static struct frame *raw(struct burst *b, u32 len)
{
	return eth(b, ETH_P_OURS, len);
}

static struct frame *to(struct burst *b, const u8 *mac, u32 len)
{
	struct frame *f = raw(b, len);

	memcpy(f->data, mac, 6);
	return f;
}

static struct frame *from(struct burst *b, const u8 *mac)
{
	struct frame *f = raw(b, 60);

	memcpy(f->data + 6, mac, 6);
	return f;
}

/* TCP or UDP with a checksum to complete. */
static struct frame *l4(struct burst *b, bool v6, u8 proto, u32 len)
{
	struct frame *f = eth(b, v6 ? ETH_P_IPV6 : ETH_P_IP, len);
	u32 ip = 14, at = v6 ? 54 : 34;
	u8 *p = f->data + ip, *t = f->data + at;
	u32 sum = 0, i;

	memset(p, 0, at - ip);
	if (v6) {
		p[0] = 0x60;
		put16(p + 4, len - at);
		p[6] = proto;
		p[7] = 64;
		memcpy(p + 8, "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16);
		memcpy(p + 24, "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\2", 16);
	} else {
		p[0] = 0x45;
		put16(p + 2, len - ip);
		put16(p + 4, b->n);
		p[8] = 64;
		p[9] = proto;
		memcpy(p + 12, "\x0a\0\0\1\x0a\0\0\2", 8);
		for (i = 0; i < 20; i += 2)
			sum += p[i] << 8 | p[i + 1];
		sum = (sum & 0xffff) + (sum >> 16);
		put16(p + 10, ~(sum + (sum >> 16)));
	}
	memset(t, 0, proto == IPPROTO_TCP ? 20 : 8);
	put16(t, 1000);
	put16(t + 2, 2000);
	if (proto == IPPROTO_TCP) {
		t[7] = b->n;
		t[12] = 5 << 4;
		t[13] = 0x10;
	} else {
		put16(t + 4, len - at);
	}
	f->h.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	f->h.csum_start = at;
	f->h.csum_offset = proto == IPPROTO_TCP ? 16 : 6;
	put16(t + f->h.csum_offset, vp_sum_pseudo(p, v6, proto, len - at));
	return f;
}

static struct frame *gso(struct burst *b, bool v6, u8 proto, u32 len, u16 size)
{
	struct frame *f = l4(b, v6, proto, len);

	f->h.gso_size = size;
	f->h.hdr_len = f->h.csum_start + (proto == IPPROTO_TCP ? 20 : 8);
	f->h.gso_type = proto == IPPROTO_UDP ? GSO_UDP_L4 :
			v6 ? VIRTIO_NET_HDR_GSO_TCPV6 :
			     VIRTIO_NET_HDR_GSO_TCPV4;
	return f;
}

static struct frame *tso(struct burst *b, u32 len)
{
	return gso(b, false, IPPROTO_TCP, len, 1448);
}

/* A VLAN tag outside of all that there is. */
static struct frame *tag(struct frame *f, u16 tpid, u16 tci)
{
	memmove(f->data + 16, f->data + 12, f->len - 12);
	put16(f->data + 12, tpid);
	put16(f->data + 14, tci);
	f->len += 4;
	if (f->h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
		f->h.csum_start += 4;
	if (f->h.hdr_len)
		f->h.hdr_len += 4;
	return f;
}

static void k_plain(struct burst *b)
{
	raw(b, 60);
	raw(b, 61);
	raw(b, 777);
	raw(b, 1514);
}

static void k_shortest(struct burst *b)
{
	raw(b, 14);
	raw(b, 15);
	raw(b, 17);
	raw(b, 18);
}

static void k_runts(struct burst *b)
{
	raw(b, 0);
	raw(b, 1);
	raw(b, 13);
}

/* A bridge lets frames pass that are 4 bytes too long. */
static void k_mtu(struct burst *b)
{
	raw(b, 1515);
	raw(b, 1518);
	raw(b, 1519);
	raw(b, 2000);
	raw(b, 9014);
	raw(b, 65535);
}

static void k_lengths(struct burst *b)
{
	u32 i;

	for (i = 0; i < 24; i++)
		raw(b, 60 + i * 63);
}

static void k_csum(struct burst *b)
{
	l4(b, false, IPPROTO_UDP, 60);
	l4(b, false, IPPROTO_UDP, 1400);
	l4(b, false, IPPROTO_TCP, 701);
	l4(b, true, IPPROTO_UDP, 1001);
	l4(b, true, IPPROTO_TCP, 1514);
}

/* The stack does not look at what the checksum is of. */
static void k_csum_odd(struct burst *b)
{
	struct frame *f = raw(b, 200);

	f->h.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	f->h.csum_start = 40;
	f->h.csum_offset = 11;
	f = raw(b, 200);
	f->h.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	f->h.csum_start = 180;
	f->h.csum_offset = 18;
}

/* A tap completes checksums behind MPLS labels, if the kernel knows of those. */
static void k_csum_mpls(struct burst *b)
{
	put16(l4(b, false, IPPROTO_UDP, 300)->data + 12, ETH_P_MPLS_UC);
	put16(l4(b, true, IPPROTO_TCP, 300)->data + 12, ETH_P_MPLS_MC);
	tag(eth(b, ETH_P_MPLS_UC, 300), ETH_P_8021Q, 42);
}

static void k_tso4(struct burst *b)
{
	tso(b, 2000);
	tso(b, 8000);
	tso(b, 30001);
	gso(b, false, IPPROTO_TCP, 4000, 536);
}

static void k_tso6(struct burst *b)
{
	gso(b, true, IPPROTO_TCP, 2000, 1428);
	gso(b, true, IPPROTO_TCP, 65000, 1428);
}

static void k_tso_max(struct burst *b)
{
	tso(b, 65000);
	tso(b, 65535);
}

static void k_ecn(struct burst *b)
{
	struct frame *f = tso(b, 5000);

	f->h.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
	f->data[34 + 13] |= 0x80;	/* CWR */
}

static void k_uso(struct burst *b)
{
	gso(b, false, IPPROTO_UDP, 5000, 1400);
	gso(b, true, IPPROTO_UDP, 9000, 1200);
}

static void k_uso_too_many(struct burst *b)
{
	gso(b, false, IPPROTO_UDP, 42 + 130 * 20, 20);
}

static void k_ufo(struct burst *b)
{
	gso(b, false, IPPROTO_UDP, 4000, 1480)->h.gso_type =
		VIRTIO_NET_HDR_GSO_UDP;
}

/* The sender may say less of the headers, or more, than there is. */
static void k_gso_hdr_len(struct burst *b)
{
	tso(b, 5000)->h.hdr_len = 0;
	tso(b, 5000)->h.hdr_len = 14;
	tso(b, 5000)->h.hdr_len = 300;
	tso(b, 5000)->h.hdr_len = 5000;
}

static void k_gso_bad(struct burst *b)
{
	struct frame *f;

	tso(b, 5000)->h.gso_size = 0;
	tso(b, 5000)->h.flags = 0;
	tso(b, 5000)->h.gso_type = VIRTIO_NET_HDR_GSO_TCPV6;
	tso(b, 5000)->h.gso_type = 0x7f;
	tso(b, 5000)->h.gso_type = VIRTIO_NET_HDR_GSO_ECN;
	tso(b, 5000)->h.csum_offset = 6;
	f = tso(b, 5000);
	f->h.csum_start += 4;
	f = tso(b, 5000);
	f->data[14] = 0x44;		/* IHL */
	f = tso(b, 5000);
	f->data[34 + 12] = 4 << 4;	/* TCP's */
	tso(b, 1000)->h.gso_size = 1448;	/* one segment */
}

static void k_hdr_len_bad(struct burst *b)
{
	raw(b, 100)->h.hdr_len = 101;
	raw(b, 100)->h.hdr_len = 13;
	raw(b, 100)->h.hdr_len = 0xffff;
}

static void k_csum_bad(struct burst *b)
{
	l4(b, false, IPPROTO_UDP, 100)->h.csum_start = 100;
	l4(b, false, IPPROTO_UDP, 100)->h.csum_start = 98;
	l4(b, false, IPPROTO_UDP, 100)->h.csum_offset = 66;
	l4(b, false, IPPROTO_UDP, 100)->h.csum_start = 0xffff;
	l4(b, false, IPPROTO_UDP, 100)->h.csum_offset = 0xffff;
	l4(b, false, IPPROTO_UDP, 100)->h.csum_start = 2;
}

/* Claims and leftovers that a tap ignores. */
static void k_hdr_noise(struct burst *b)
{
	struct frame *f;

	raw(b, 100)->h.flags = VIRTIO_NET_HDR_F_DATA_VALID;
	raw(b, 100)->h.flags = VIRTIO_NET_HDR_F_RSC_INFO;
	raw(b, 100)->h.hdr_len = 100;
	f = raw(b, 100);
	f->h.gso_size = 1;
	f->h.csum_start = 0xffff;
	f->h.csum_offset = 0xffff;
	f->h.num_buffers = 0x55;
	l4(b, false, IPPROTO_UDP, 100)->h.flags |= VIRTIO_NET_HDR_F_DATA_VALID;
}

static void k_vlan(struct burst *b)
{
	tag(raw(b, 60), ETH_P_8021Q, 42);
	tag(raw(b, 1514), ETH_P_8021Q, 42 | 5 << 13);
}

static void k_vlan_l4(struct burst *b)
{
	tag(l4(b, false, IPPROTO_UDP, 300), ETH_P_8021Q, 42);
	tag(l4(b, true, IPPROTO_TCP, 300), ETH_P_8021Q, 42);
	tag(tso(b, 6000), ETH_P_8021Q, 42);
}

static void k_vlan_ad(struct burst *b)
{
	tag(raw(b, 60), ETH_P_8021AD, 42);
	tag(raw(b, 1000), ETH_P_8021AD, 42);
}

static void k_vlan_prio(struct burst *b)
{
	tag(raw(b, 60), ETH_P_8021Q, 3 << 13);
	tag(raw(b, 1500), ETH_P_8021Q, 0);
}

static void k_vlan_two(struct burst *b)
{
	tag(tag(raw(b, 60), ETH_P_8021Q, 7), ETH_P_8021AD, 42);
	tag(tag(raw(b, 60), ETH_P_8021Q, 7), ETH_P_8021Q, 42);
	tag(tag(tso(b, 4000), ETH_P_8021Q, 7), ETH_P_8021AD, 42);
}

static void k_vlan_cut(struct burst *b)
{
	struct frame *f = raw(b, 60);

	put16(f->data + 12, ETH_P_8021Q);
	f->len = 14;
	f = raw(b, 60);
	put16(f->data + 12, ETH_P_8021Q);
	f->len = 17;
}

/* A tag is taken off only if at least a protocol follows, and two bytes. */
static void k_vlan_short(struct burst *b)
{
	tag(raw(b, 14), ETH_P_8021Q, 42);
	tag(raw(b, 15), ETH_P_8021Q, 42);
	tag(raw(b, 16), ETH_P_8021Q, 42);
	tag(raw(b, 17), ETH_P_8021Q, 42);
}

static void k_groups(struct burst *b)
{
	to(b, everybody, 60);
	to(b, group, 300);
	to(b, stp_group, 60);
}

static void k_elsewhere(struct burst *b)
{
	to(b, nobody, 60);
	to(b, lab.p[C].mac, 1000);
	to(b, lab.p[A].mac, 60);
}

static void k_host(struct burst *b)
{
	u8 mac[6];

	vp_link_mac("br0", mac);
	to(b, mac, 60);
	to(b, mac, 1514);
}

static void k_sources(struct burst *b)
{
	static const u8 zero[6];

	from(b, zero);
	from(b, everybody);
	from(b, group);
}

/* The bridge's address, and then its own again. */
static void k_spoof(struct burst *b)
{
	from(b, nobody);
	from(b, lab.p[C].mac);
	memcpy(from(b, lab.p[C].mac)->data, lab.p[A].mac, 6);
}

static void k_protocols(struct burst *b)
{
	eth(b, ETH_P_ARP, 60);
	eth(b, ETH_P_LLDP, 60);
	eth(b, 46, 60);			/* IEEE 802.3, a length */
	eth(b, 0, 60);
	eth(b, ETH_P_PAE, 60);
	eth(b, ETH_P_IP, 60);		/* nonsense behind it */
	eth(b, ETH_P_IPV6, 60);
}

static void k_bridges_own(struct burst *b)
{
	eth(b, 0x8902, 60);		/* CFM */
	eth(b, 0x88e3, 60);		/* MRP */
}

/* Fast and slow in turns: none overtakes. */
static void k_turns(struct burst *b)
{
	u32 i;

	for (i = 0; i < 12; i++) {
		raw(b, 60 + i);
		tag(raw(b, 80 + i), ETH_P_8021Q, 1 << 13);
	}
}

static void k_mixed(struct burst *b)
{
	u32 i;

	for (i = 0; i < 4; i++) {
		raw(b, 60 + i);
		l4(b, i & 1, IPPROTO_UDP, 500 + i);
		tso(b, 6000 + i);
		tag(raw(b, 200 + i), ETH_P_8021Q, 42);
	}
}

/* ---- worlds ---- */

struct kind {
	const char *name;
	void (*make)(struct burst *b);
	int fast;		/* how many go the direct path */
};

/* What an operator does, for vp_script(); %a %b %c: the guests' interfaces. */
struct policy {
	const char *name, *on, *off;
};

struct world {
	struct vp_cfg a, b;
	bool macvtap;
	const char *setup;	/* before the guests are there; for vp_script() */
	const struct policy *policy;
	unsigned int policies;	/* one after the other */
	u16 look_on;		/* bits: on whose interface tcpdump is */
	bool slow;		/* plain frames do not go the direct path */
	const struct kind *kind;
	unsigned int n;
};

#define OFFLOADS (TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN)

static void defaults(struct world *w)
{
	vp_cfg_default(&w->a);
	w->a.tx_num = 64;
	w->a.tx_buf = VP_FRAME_MAX;
	w->a.offload = OFFLOADS;
	w->b = w->a;
	w->b.tx_buf = 2048;
	w->b.rx_num = 256;
}

/* ---- what was seen ---- */

struct counters {
	u64 v[LAB_GUESTS + 1][16];
};

struct record {
	unsigned int n;
	struct lab_seen seen[LAB_SEEN];
	struct counters count;
	u64 tx_packets, tx_bytes, tx_errors, fast;
};

static const char *lower;		/* bridge or macvtaps' lower device */

static void read_counters(struct counters *c)
{
	FILE *f = fopen("/proc/thread-self/net/dev", "r");
	unsigned int i, k;
	char line[512];

	memset(c, 0, sizeof(*c));
	while (f && fgets(line, sizeof(line), f)) {
		char *name = line + strspn(line, " "), *s = strchr(name, ':');

		if (!s)
			continue;
		*s++ = 0;
		for (i = 0; i <= lab.n; i++) {
			if (strcmp(name, i < lab.n ? lab.p[i].tap : lower))
				continue;
			for (k = 0; k < 16; k++)
				c->v[i][k] = strtoull(s, &s, 10);
		}
	}
	if (f)
		fclose(f);
}

static void forget(struct record *r)
{
	while (r->n)
		free(r->seen[--r->n].data);
}

static u64 ep_count(const char *what)
{
	return ctl_ep_num(lab.ep[A], what);
}

/* The last frame of a burst says that all that came before has arrived. */
#define LAST_LEN 64

static bool last_arrived(void)
{
	unsigned int i;

	for (i = 0; i < lab.nseen; i++)
		if (lab.seen[i].who == B && lab.seen[i].len == LAST_LEN &&
		    lab.seen[i].data[12] == 0x88 && lab.seen[i].data[13] == 0xb7)
			return true;
	return false;
}

/*
 * Addresses and VLAN; a priority tag is none.  The host has a socket for each
 * protocol.
 */
static void flow_of(const struct lab_seen *s, u8 *flow)
{
	u16 type = s->len >= 18 ? s->data[12] << 8 | s->data[13] : 0;
	u16 vlan = 0;

	memset(flow, 0, FLOW_LEN);
	memcpy(flow, s->data, vp_min(s->len, 12U));
	if (type == ETH_P_8021Q || type == ETH_P_8021AD)
		vlan = (s->data[14] << 8 | s->data[15]) & 0xfff;
	if (vlan) {
		put16(flow + 12, type);
		put16(flow + 14, vlan);
	}
	if (s->who == LAB_HOST)
		put16(flow + 16, type);
}

static int by_flow(const void *a, const void *b)
{
	u8 x[FLOW_LEN], y[FLOW_LEN];

	flow_of(a, x);
	flow_of(b, y);
	return memcmp(x, y, sizeof(x));
}

/* Brings flows together and keeps the order within. */
static void sort_flows(struct record *r)
{
	struct lab_seen s;
	unsigned int i, k;

	for (i = 1; i < r->n; i++) {
		s = r->seen[i];
		for (k = i; k && by_flow(&r->seen[k - 1], &s) > 0; k--)
			r->seen[k] = r->seen[k - 1];
		r->seen[k] = s;
	}
}

static void begin(struct record *r)
{
	lab_poll(&lab);
	lab_forget(&lab);
	read_counters(&r->count);
	r->tx_packets = ep_count("tx_packets");
	r->tx_bytes = ep_count("tx_bytes");
	r->tx_errors = ep_count("tx_errors");
	r->fast = ep_count("tx_fast_packets");
}

static void count_since(const struct counters *since, struct counters *c)
{
	unsigned int i, k;

	read_counters(c);
	for (i = 0; i <= lab.n; i++)
		for (k = 0; k < 16; k++)
			c->v[i][k] -= since->v[i][k];
}

static void end(struct record *r)
{
	struct counters since = r->count;

	count_since(&since, &r->count);
	r->tx_packets = ep_count("tx_packets") - r->tx_packets;
	r->tx_bytes = ep_count("tx_bytes") - r->tx_bytes;
	r->tx_errors = ep_count("tx_errors") - r->tx_errors;
	r->fast = ep_count("tx_fast_packets") - r->fast;
	r->n = lab.nseen;
	memcpy(r->seen, lab.seen, lab.nseen * sizeof(lab.seen[0]));
	sort_flows(r);
	lab.nseen = 0;
}

static void send_burst(const struct burst *b)
{
	unsigned int i;

	for (i = 0; i < b->n; i++)
		lab_send(&lab, A, &b->f[i].h, b->f[i].data, b->f[i].len);
	lab_kick(&lab, A);
	lab_wait_sent(&lab);
}

/* Without the direct path: what comes, until nothing has come for @ms. */
static void shoot_alone(const struct world *w, const struct burst *b,
			struct record *r, unsigned int ms)
{
	u64 limit = vp_now_ms() + 1000 * vp_slowness();

	begin(r);
	send_burst(b);
	/* Where the last one is dropped there is nothing but time to go by. */
	while (!w->slow && !last_arrived() && vp_now_ms() < limit) {
		sched_yield();
		lab_poll(&lab);
	}
	lab_wait_quiet(&lab, ms * vp_slowness());
	end(r);
}

static bool all_came(const struct counters *since, const struct record *was)
{
	struct counters c;

	if (lab.nseen < was->n)
		return false;
	count_since(since, &c);
	return !memcmp(&c, &was->count, sizeof(c));
}

/* With it: until all that came without has come, and no more. */
static void shoot(const struct world *w, const struct burst *b,
		  const struct record *was, struct record *r)
{
	u64 limit = vp_now_ms() + 1000 * vp_slowness();

	begin(r);
	send_burst(b);
	lab_poll(&lab);
	while (!all_came(&r->count, was) && vp_now_ms() < limit) {
		sched_yield();
		lab_poll(&lab);
	}
	lab_wait_quiet(&lab, w->slow || lab.nsock ? SETTLE_MS : 1);
	end(r);
}

/* ---- the comparison ---- */

static const char * const who_name[] = { "A", "B", "C", "D", "the host" };

static const char * const counter_name[16] = {
	"rx bytes", "rx packets", "rx errors", "rx dropped", "rx fifo",
	"rx frame", "rx compressed", "rx multicast", "tx bytes", "tx packets",
	"tx errors", "tx dropped", "tx fifo", "tx collisions", "tx carrier",
	"tx compressed",
};

static const struct lab_seen *nth(const struct record *r, unsigned int who,
				  unsigned int n)
{
	unsigned int i;

	for (i = 0; i < r->n; i++)
		if (r->seen[i].who == who && !n--)
			return &r->seen[i];
	return NULL;
}

static bool differ(const char *kind, unsigned int who, unsigned int n,
		   const char *field, u64 is, u64 was)
{
	if (is == was)
		return false;
	ktap_msg("%s: %s, frame %u: %s is %llu, without the direct path %llu",
		 kind, who_name[who], n, field, is, was);
	return true;
}

static bool frames_differ(const char *kind, unsigned int n,
			  const struct lab_seen *is, const struct lab_seen *was)
{
	const struct virtio_net_hdr_v1 *h = &is->h, *g = &was->h;
	unsigned int who = is->who;
	bool bad = false;
	u32 i;

	bad |= differ(kind, who, n, "flags", h->flags, g->flags);
	bad |= differ(kind, who, n, "gso_type", h->gso_type, g->gso_type);
	bad |= differ(kind, who, n, "gso_size", h->gso_size, g->gso_size);
	bad |= differ(kind, who, n, "csum_start", h->csum_start, g->csum_start);
	bad |= differ(kind, who, n, "csum_offset", h->csum_offset,
		      g->csum_offset);
	if (!g->gso_type)
		bad |= differ(kind, who, n, "hdr_len", h->hdr_len, g->hdr_len);
	else
		bad |= differ(kind, who, n, "headers are covered by hdr_len",
			      h->hdr_len > h->csum_start &&
			      h->hdr_len <= is->len, 1);
	if (who < lab.n && lab.p[who].cfg.features & VP_F_MRG)
		bad |= differ(kind, who, n, "num_buffers", h->num_buffers,
			      g->num_buffers);
	bad |= differ(kind, who, n, "length", is->len, was->len);
	for (i = 0; !bad && i < is->len; i++) {
		char field[32];

		snprintf(field, sizeof(field), "byte %u", i);
		bad |= differ(kind, who, n, field, is->data[i], was->data[i]);
	}
	return bad;
}

static bool records_differ(const char *kind, const struct record *is,
			   const struct record *was)
{
	unsigned int who, n, i, k;
	bool bad = false;

	for (who = 0; who <= LAB_HOST; who++) {
		const struct lab_seen *a, *b;

		for (n = 0;; n++) {
			a = nth(is, who, n);
			b = nth(was, who, n);
			if (!a || !b)
				break;
			if (frames_differ(kind, n, a, b))
				return true;
		}
		if (!a == !b)
			continue;
		ktap_msg("%s: %s gets %s frames than without the direct path, from frame %u (of %u bytes) on",
			 kind, who_name[who], a ? "more" : "fewer", n,
			 a ? a->len : b->len);
		bad = true;
	}
	for (i = 0; i <= lab.n; i++) {
		for (k = 0; k < 16; k++) {
			u64 v = is->count.v[i][k], w = was->count.v[i][k];

			if (v == w)
				continue;
			ktap_msg("%s: %s of %s: %llu, without the direct path %llu",
				 kind, counter_name[k],
				 i < lab.n ? lab.p[i].tap : lower, v, w);
			bad = true;
		}
	}
	bad |= differ(kind, A, 0, "tx_packets", is->tx_packets, was->tx_packets);
	bad |= differ(kind, A, 0, "tx_bytes", is->tx_bytes, was->tx_bytes);
	bad |= differ(kind, A, 0, "tx_errors", is->tx_errors, was->tx_errors);
	return bad;
}

/* ---- running ---- */

/* The first and the last frame: plain ones. */
static void make(const struct kind *k, struct burst *b)
{
	b->n = 0;
	eth(b, 0x88b8, LAST_LEN);
	k->make(b);
	eth(b, 0x88b7, LAST_LEN);
}

static bool unresolved(void)
{
	char buf[4096];

	return ctl_ep_read(lab.ep[A], "verdicts", buf, sizeof(buf)) >= 0 &&
	       (strstr(buf, " unresolved ") || strstr(buf, " stale "));
}

/* Tests of what ends them in time are elsewhere. */
static void long_answers(void)
{
	ktap_assert(!ctl_write("revalidate_ms", "1000"), "revalidate_ms");
}

static void introduce(void)
{
	lab_learn(&lab);
	lab_wait_quiet(&lab, vp_slowness());
}

static void direct(const char *text)
{
	ktap_assert(!ctl_write("direct", text), "direct");
}

static void direct_on_long(void)
{
	direct("1");
	/* Ends all answers, as any write to it does. */
	long_answers();
	introduce();
}

/* Whether a frame of the introduction came so late that it was counted. */
static bool is_spoiled(const struct record *r)
{
	unsigned int i;

	for (i = 0; i < r->n; i++)
		if (lab_is_learning(&r->seen[i]))
			return true;
	return false;
}

/* Whether @was lacks what takes its time on a machine that is busy. */
static bool was_cut_short(const struct world *w, const struct burst *b,
			  struct record *was)
{
	static struct record again;
	bool cut;

	/* Nor has it what the last try has still to bring. */
	lab_wait_quiet(&lab, ALONE_LONG_MS);
	direct("0");
	introduce();
	shoot_alone(w, b, &again, ALONE_LONG_MS);
	direct_on_long();
	cut = again.n != was->n ||
	      memcmp(&again.count, &was->count, sizeof(again.count));
	forget(was);
	*was = again;
	return cut;
}

/*
 * A try is compared whatever part of it took the direct path.  Flows are new to
 * the module first, a receiver can be busy for a moment, and a flow that changes
 * its path often is held for a while: a few tries may carry less than what is
 * expected, none more.
 */
static bool run_kind(const struct world *w, const struct kind *k)
{
	u64 want = w->slow ? 0 : k->fast + 2, best = 0, limit;
	static struct record was, is;
	unsigned int done = 0, pause = 1, retaken = 0;
	static struct burst b;
	bool bad = false;

	make(k, &b);
	direct("0");
	introduce();
	shoot_alone(w, &b, &was, ALONE_MS);
	if (is_spoiled(&was)) {
		forget(&was);
		shoot_alone(w, &b, &was, ALONE_LONG_MS);
	}
	direct_on_long();
	limit = vp_now_ms() + TRY_MS * vp_slowness();
	while (!bad && done < 2 && vp_now_ms() < limit) {
		shoot(w, &b, &was, &is);
		if (is_spoiled(&is)) {
			forget(&is);
			continue;
		}
		best = vp_max(best, is.fast);
		bad = records_differ(k->name, &is, &was);
		if (bad && retaken < RETAKES && was_cut_short(w, &b, &was)) {
			retaken++;
			ktap_msg("%s: the frames without the direct path came late: taken again",
				 k->name);
			bad = false;
			forget(&is);
			continue;
		}
		if (is.fast > want) {
			ktap_msg("%s: %llu frames by the direct path, %llu expected",
				 k->name, is.fast, want);
			bad = true;
		}
		if (is.fast == want && !unresolved()) {
			done++;
		} else {
			vp_sleep_ms(pause);
			pause = vp_min(2 * pause, (unsigned int)PAUSE_MAX_MS);
		}
		forget(&is);
	}
	if (!bad && !done) {
		char buf[4096] = "";

		ctl_ep_read(lab.ep[A], "verdicts", buf, sizeof(buf));
		ktap_msg("%s: at most %llu frames by the direct path, %llu expected; verdicts: %s",
			 k->name, best, want, buf);
		bad = true;
	}
	if (bad)
		ktap_msg("FAILED: scenario \"%s\"", k->name);
	forget(&was);
	return bad;
}

static void script(const char *template)
{
	char cmd[1024], *out = cmd;
	const char *s;

	for (s = template; *s && out < cmd + sizeof(cmd) - 32; s++) {
		if (*s != '%')
			*out++ = *s;
		else
			out += sprintf(out, "%s", lab.p[*++s - 'a'].tap);
	}
	*out = 0;
	vp_script(cmd);
	lab_learn_anew(&lab);
}

/*
 * "make quick" has no time for all of them, and quick runs on a machine that is
 * very slow only for half of them.
 */
static unsigned int step(void)
{
	const char *slow = getenv("CROSSTALK_SLOW");

	if (!ktap_quick())
		return 1;
	if (!slow || !*slow)
		return 3;
	return vp_slowness() >= 10 ? 2 : 1;
}

static void run_kinds(const struct world *w, unsigned int *bad,
		      unsigned int *all)
{
	unsigned int i;

	for (i = 0; i < w->n; i += step()) {
		*bad += run_kind(w, &w->kind[i]);
		++*all;
	}
}

static void run_policies(const struct world *w, unsigned int *bad,
			 unsigned int *all)
{
	unsigned int i, before;

	for (i = 0; i < w->policies; i += step()) {
		const struct policy *p = &w->policy[i];

		before = *bad;
		script(p->on);
		run_kinds(w, bad, all);
		if (p->off)
			script(p->off);
		if (*bad != before)
			ktap_msg("FAILED: policy \"%s\"", p->name);
	}
}

static void run_world(struct world *w)
{
	static const u16 protocols[] = { ETH_P_OURS, ETH_P_IP, ETH_P_IPV6 };
	struct vp_cfg cfg[3] = { w->a, w->b, w->b };
	unsigned int i, bad = 0, all = 0, guests = w->macvtap ? 2 : 3;

	/* Neither neighbours nor multicast groups are discovered meanwhile. */
	vp_write_file("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
	vp_write_file("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
	lower = w->macvtap ? "dmx" : "br0";
	if (w->macvtap)
		vp_script("ip link add dmx type dummy; ip link set dmx up");
	else
		vp_script("ip link add br0 type bridge mcast_snooping 0");
	for (i = 0; w->macvtap && i < guests; i++) {
		cfg[i].bridge = NULL;
		cfg[i].macvtap = lower;
	}
	if (w->setup)
		vp_script(w->setup);
	ctl_need_loaded();
	long_answers();
	lab_open(&lab, cfg, guests);
	for (i = 0; !w->macvtap && i < VP_ARRAY_SIZE(protocols); i++)
		lab_watch(&lab, lower, protocols[i]);
	for (i = 0; i < guests; i++)
		if (w->look_on & VP_BIT(i))
			lab_watch(&lab, lab.p[i].tap, ETH_P_ALL);
	if (w->policy)
		run_policies(w, &bad, &all);
	else
		run_kinds(w, &bad, &all);
	lab_close(&lab);
	ctl_write("direct", "0");
	ctl_write("revalidate_ms", "60");
	if (!w->macvtap)
		vp_script("ip link del br0");
	vp_script_end();
	ktap_msg("%u of %u scenarios are the same", all - bad, all);
	ktap_assert(!bad, "%u of %u scenarios differ", bad, all);
}

#define RUN(world, kinds)				\
	do {						\
		(world)->kind = kinds;			\
		(world)->n = VP_ARRAY_SIZE(kinds);	\
		run_world(world);			\
	} while (0)

/* ---- the table ---- */

/* Everything, to a receiver that takes it. */
static const struct kind all_kinds[] = {
	{ "plain", k_plain, 4 },
	{ "shortest frames", k_shortest, 4 },
	{ "runts", k_runts, 0 },
	{ "around and beyond the MTU", k_mtu, 2 },
	{ "many lengths", k_lengths, 24 },
	{ "checksums", k_csum, 5 },
	{ "checksums of something", k_csum_odd, 2 },
	{ "checksums behind labels", k_csum_mpls, 1 },
	{ "TSO, IPv4", k_tso4, 4 },
	{ "TSO, IPv6", k_tso6, 2 },
	{ "TSO, longest", k_tso_max, 2 },
	{ "TSO with ECN", k_ecn, 1 },
	{ "USO that the receiver has not", k_uso, 0 },
	{ "UFO", k_ufo, 0 },
	{ "GSO, hdr_len", k_gso_hdr_len, 4 },
	{ "GSO, malformed", k_gso_bad, 0 },
	{ "hdr_len, malformed", k_hdr_len_bad, 0 },
	{ "checksum offset, malformed", k_csum_bad, 0 },
	{ "header fields without a meaning", k_hdr_noise, 5 },
	{ "VLAN tag", k_vlan, 2 },
	{ "VLAN tag and offloads", k_vlan_l4, 3 },
	{ "802.1ad tag", k_vlan_ad, 2 },
	{ "priority tag", k_vlan_prio, 0 },
	{ "two tags", k_vlan_two, 0 },
	{ "little behind a tag", k_vlan_short, 2 },
	{ "half a tag", k_vlan_cut, 0 },
	{ "multicast and broadcast", k_groups, 0 },
	{ "to nobody, to C, to itself", k_elsewhere, 1 },
	{ "to the host", k_host, 0 },
	{ "impossible sources", k_sources, 0 },
	{ "protocols", k_protocols, 7 },
	{ "the bridge's own protocols", k_bridges_own, 0 },
	{ "fast and slow in turns", k_turns, 12 },
	{ "a mixture", k_mixed, 16 },
	{ "sources that move", k_spoof, 2 },
};

static void modern(void)
{
	struct world w = {};

	defaults(&w);
	RUN(&w, all_kinds);
}

static const struct kind some_kinds[] = {
	{ "plain", k_plain, 4 },
	{ "runts", k_runts, 0 },
	{ "many lengths", k_lengths, 24 },
	{ "checksums", k_csum, 5 },
	{ "TSO, IPv4", k_tso4, 4 },
	{ "TSO, longest", k_tso_max, 2 },
	{ "TSO with ECN", k_ecn, 1 },
	{ "VLAN tag and offloads", k_vlan_l4, 3 },
	{ "fast and slow in turns", k_turns, 12 },
	{ "a mixture", k_mixed, 16 },
};

/* Legacy drivers, no event index, buffers that hold a whole frame. */
static void legacy(void)
{
	struct world w = {};

	defaults(&w);
	w.a.features = 0;
	w.b.features = 0;
	w.b.rx_buf = VP_FRAME_MAX + 16;
	w.b.rx_num = 128;
	RUN(&w, some_kinds);
}

/* Nothing is alike: header sizes, event index, buffers, chains. */
static void unlike(void)
{
	struct world w = {};

	defaults(&w);
	w.a.features = VP_F_INDIRECT;
	w.a.indirect = 100;
	w.a.tx_layout = VP_LAYOUT_MANY;
	w.a.tx_chain = 8;
	w.b.features = VP_F_MODERN | VP_F_MRG | VP_F_EVENT;
	w.b.rx_buf = 1400;
	w.b.rx_num = 1024;	/* the last buffers are the bridge's */
	w.b.rx_chain = 3;
	w.b.rx_layout = VP_LAYOUT_MANY;
	RUN(&w, some_kinds);
}

static void legacy_mergeable(void)
{
	struct world w = {};

	defaults(&w);
	w.a.features = VP_F_MODERN | VP_F_EVENT;
	w.a.tx_layout = VP_LAYOUT_HDR;
	w.a.tx_chain = 2;
	w.b.features = VP_F_MRG | VP_F_INDIRECT;
	w.b.indirect = 100;
	w.b.rx_chain = 2;
	w.b.rx_layout = VP_LAYOUT_HDR;
	w.b.rx_num = 512;
	RUN(&w, some_kinds);
}

/* A frame in so many buffers that the direct path does not take it. */
static void tiny_buffers(void)
{
	static const struct kind kinds[] = {
		{ "plain", k_plain, 4 },
		{ "many lengths", k_lengths, 24 },
		{ "TSO, one of them too long", k_tso4, 3 },
		{ "TSO, longest", k_tso_max, 0 },
		{ "a mixture", k_mixed, 16 },
	};
	struct world w = {};

	defaults(&w);
	w.b.rx_buf = 256;
	w.b.rx_num = 1024;
	RUN(&w, kinds);
}

/* Buffers of a legacy driver that hold no GSO frame: B loses those. */
static void small_buffers(void)
{
	static const struct kind kinds[] = {
		{ "plain", k_plain, 4 },
		{ "checksums", k_csum, 5 },
		{ "TSO that does not fit", k_tso4, 1 },
		{ "fast and slow in turns", k_turns, 12 },
	};
	struct world w = {};

	defaults(&w);
	w.b.features = VP_F_MODERN | VP_F_EVENT;
	RUN(&w, kinds);
}

static void no_offloads(void)
{
	static const struct kind kinds[] = {
		{ "plain", k_plain, 4 },
		{ "checksums", k_csum, 0 },
		{ "checksums of something", k_csum_odd, 0 },
		{ "TSO, IPv4", k_tso4, 0 },
		{ "TSO, IPv6", k_tso6, 0 },
		{ "header fields without a meaning", k_hdr_noise, 4 },
		{ "VLAN tag and offloads", k_vlan_l4, 0 },
		{ "a mixture", k_mixed, 8 },
	};
	struct world w = {};

	defaults(&w);
	w.b.offload = 0;
	RUN(&w, kinds);
}

static void some_offloads(void)
{
	static const struct kind kinds[] = {
		{ "checksums", k_csum, 5 },
		{ "TSO, IPv4", k_tso4, 4 },
		{ "TSO, IPv6", k_tso6, 0 },
		{ "TSO with ECN", k_ecn, 0 },
		{ "a mixture", k_mixed, 16 },
	};
	static const struct kind csum_only[] = {
		{ "checksums", k_csum, 5 },
		{ "TSO, IPv4", k_tso4, 0 },
		{ "GSO, malformed", k_gso_bad, 0 },
		{ "a mixture", k_mixed, 12 },
	};
	struct world w = {};

	defaults(&w);
	w.b.offload = TUN_F_CSUM | TUN_F_TSO4;
	RUN(&w, kinds);
	w.b.offload = TUN_F_CSUM;
	RUN(&w, csum_only);
}

static const char *lacks_uso(void)
{
	struct vp_tap_cfg tc = {
		.vnet_hdr = true, .hdr_size = 12,
		.offload = OFFLOADS | F_USO4 | F_USO6,
	};
	int fd = vp_tap_open("vpuso", &tc);

	if (fd < 0)
		return "has no USO";
	close(fd);
	return NULL;
}

static void uso(void)
{
	static const struct kind kinds[] = {
		{ "USO", k_uso, 2 },
		{ "USO, too many segments", k_uso_too_many, 0 },
		{ "a mixture", k_mixed, 16 },
	};
	struct world w = {};

	defaults(&w);
	w.b.offload |= F_USO4 | F_USO6;
	RUN(&w, kinds);
}

static void jumbo(void)
{
	static const struct kind kinds[] = {
		{ "around and beyond the MTU", k_mtu, 5 },
		{ "many lengths", k_lengths, 24 },
		{ "a mixture", k_mixed, 16 },
	};
	struct world w = {};

	defaults(&w);
	w.a.mtu = 9000;
	w.b.mtu = 9000;
	RUN(&w, kinds);
}

static void vlan_filter(void)
{
	static const struct kind kinds[] = {
		{ "plain", k_plain, 4 },
		{ "checksums", k_csum, 5 },
		{ "member's tag", k_vlan, 2 },
		{ "member's tag and offloads", k_vlan_l4, 3 },
		{ "802.1ad tag", k_vlan_ad, 0 },
		{ "priority tag", k_vlan_prio, 0 },
		{ "two tags", k_vlan_two, 0 },
		{ "half a tag", k_vlan_cut, 0 },
		{ "multicast and broadcast", k_groups, 0 },
		{ "fast and slow in turns", k_turns, 12 },
		{ "a mixture", k_mixed, 16 },
	};
	static const struct kind stranger[] = {
		{ "no member's tag", k_vlan, 0 },
		{ "a mixture", k_mixed, 12 },
	};
	static const struct policy member = {
		"both are members",
		"bridge vlan add vid 42 dev %a; bridge vlan add vid 42 dev %b; bridge fdb add 52:54:00:76:70:00 dev %a vlan 42 master static; bridge fdb add 52:54:00:76:70:01 dev %b vlan 42 master static",
		"bridge vlan del vid 42 dev %b",
	};
	static const struct policy no_member = {
		"the sender is a member", "bridge vlan add vid 42 dev %a",
	};
	struct world w = {};

	defaults(&w);
	w.setup = "ip link set br0 type bridge vlan_filtering 1";
	w.policies = 1;
	w.policy = &member;
	RUN(&w, kinds);
	w.policy = &no_member;
	RUN(&w, stranger);
}

static const struct policy policies[] = {
	{ "isolated",
	  "bridge link set dev %a isolated on; bridge link set dev %b isolated on",
	  "bridge link set dev %a isolated off; bridge link set dev %b isolated off" },
	{ "STP state", "bridge link set dev %b state 1",
	  "bridge link set dev %b state 3" },
	{ "locked",
	  "bridge link set dev %a learning off locked on; bridge fdb del 52:54:00:76:70:00 dev %a master",
	  "bridge link set dev %a learning on locked off" },
	{ "entry at C, which is isolated",
	  "bridge fdb replace 52:54:00:76:70:01 dev %c master static sticky; bridge link set dev %c isolated on; bridge link set dev %a isolated on",
	  "bridge link set dev %c isolated off; bridge link set dev %a isolated off; bridge fdb del 52:54:00:76:70:01 dev %c master" },
	{ "host's entry",
	  "bridge fdb replace 52:54:00:76:70:01 dev br0 self permanent",
	  "bridge fdb del 52:54:00:76:70:01 dev br0 self" },
	{ "promiscuous bridge", "ip link set br0 promisc on",
	  "ip link set br0 promisc off" },
	{ "tc mirror",
	  "tc qdisc add dev %a clsact; tc filter add dev %a ingress matchall action mirred egress mirror dev %c",
	  "tc qdisc del dev %a clsact" },
	{ "qdisc", "tc qdisc add dev %b root handle 1: prio",
	  "tc qdisc del dev %b root" },
	{ "nftables",
	  "nft 'add table bridge x; add chain bridge x c { type filter hook forward priority 0; }; add rule bridge x c ether type 0x88b5 drop'",
	  "nft delete table bridge x" },
	{ "small MTU and a qdisc",
	  "ip link set %b mtu 500; tc qdisc add dev %b root pfifo",
	  "ip link set %b mtu 1500; tc qdisc del dev %b root" },
	{ "receiver gets tags",
	  "ip link set br0 type bridge vlan_filtering 1; bridge vlan add vid 1 dev %b pvid",
	  "bridge vlan add vid 1 dev %b pvid untagged" },
	{ "another PVID", "bridge vlan add vid 9 dev %a pvid untagged" },
};

/* One policy after the other, with frames of all sorts. */
static void policy(void)
{
	static const struct kind kinds[] = {
		{ "plain", k_plain, 0 },
		{ "a mixture", k_mixed, 0 },
		{ "multicast and broadcast", k_groups, 0 },
	};
	struct world w = {
		.slow = true, .policy = policies,
		.policies = VP_ARRAY_SIZE(policies),
	};

	defaults(&w);
	RUN(&w, kinds);
}

/* Who looks on sees all of it, and it is whole. */
static void tcpdump(void)
{
	static const struct kind kinds[] = {
		{ "plain", k_plain, 0 },
		{ "checksums", k_csum, 0 },
		{ "TSO, IPv4", k_tso4, 0 },
		{ "a mixture", k_mixed, 0 },
	};
	struct world w = { .slow = true };

	defaults(&w);
	w.look_on = VP_BIT(A);
	RUN(&w, kinds);
	w.look_on = VP_BIT(B);
	RUN(&w, kinds);
}

static const struct kind macvtap_kinds[] = {
	{ "plain", k_plain, 4 },
	{ "shortest frames", k_shortest, 4 },
	{ "runts", k_runts, 0 },
	{ "many lengths", k_lengths, 24 },
	{ "checksums", k_csum, 5 },
	{ "TSO, IPv4", k_tso4, 4 },
	{ "TSO, IPv6", k_tso6, 2 },
	{ "TSO, longest", k_tso_max, 2 },
	{ "GSO, malformed", k_gso_bad, 0 },
	{ "hdr_len, malformed", k_hdr_len_bad, 0 },
	{ "checksum offset, malformed", k_csum_bad, 0 },
	{ "header fields without a meaning", k_hdr_noise, 5 },
	{ "VLAN tag", k_vlan, 2 },
	{ "little behind a tag", k_vlan_short, 2 },
	{ "priority tag", k_vlan_prio, 0 },
	{ "two tags", k_vlan_two, 0 },
	{ "multicast and broadcast", k_groups, 0 },
	{ "protocols", k_protocols, 7 },
	{ "fast and slow in turns", k_turns, 12 },
};

static void macvtap(void)
{
	struct world w = { .macvtap = true };

	defaults(&w);
	RUN(&w, macvtap_kinds);
}

static void macvtap_no_offloads(void)
{
	static const struct kind kinds[] = {
		{ "plain", k_plain, 4 },
		{ "checksums", k_csum, 0 },
		{ "TSO, IPv4", k_tso4, 0 },
		{ "fast and slow in turns", k_turns, 12 },
	};
	struct world w = { .macvtap = true };

	defaults(&w);
	w.b.offload = 0;
	RUN(&w, kinds);
}

static const struct ktap_case cases[] = {
	{ "A13_C2_C3_modern", modern },
	{ "A13_legacy", legacy, .slow = true },
	{ "A13_unlike", unlike },
	{ "A13_legacy_mergeable", legacy_mergeable, .slow = true },
	{ "A13_tiny_buffers", tiny_buffers, .slow = true },
	{ "A13_small_buffers", small_buffers, .slow = true },
	{ "A13_no_offloads", no_offloads },
	{ "A13_some_offloads", some_offloads, .slow = true },
	{ "A13_uso", uso, .slow = true, .lacks = lacks_uso },
	{ "C2_jumbo", jumbo, .slow = true },
	{ "C2_vlan_filter", vlan_filter },
	{ "C2_policy", policy, .slow = true },
	{ "C3_tcpdump", tcpdump, .slow = true },
	{ "C2_macvtap", macvtap },
	{ "C2_macvtap_no_offloads", macvtap_no_offloads, .slow = true },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
