// SPDX-License-Identifier: GPL-2.0
/*
 * TX rings that no sane guest has.  Each of them is given to plain vhost-net
 * and to the module, and both must do exactly the same: complete the same
 * chains, let the same frames pass, report the same errors.  Afterwards the
 * device must work again, as after a reset by the guest.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ctl.h"
#include "ktap.h"
#include "vpeer.h"

#define ATTACKER	0
#define SINK		1
#define GOOD_LEN	100

struct outcome {
	u16 used, base;		/* completed; consumed */
	u64 ids;		/* hash of the completed chains */
	bool error;		/* the device signalled one */
	unsigned int good;	/* right frames that arrived */
	unsigned int odd;	/* others, and ... */
	u64 odd_bytes;		/* ... their bytes */
};

static struct vp_peer attacker, sink;
static struct outcome now;
static u64 seq;

/* ---- the ring, written by hand ---- */

static struct vp_ring *tx(void)
{
	return &attacker.qp[0].tx;
}

static void desc(u16 i, u64 addr, u32 len, u16 flags, u16 next)
{
	tx()->desc[i] = (struct vring_desc) { addr, len, flags, next };
}

static void avail(u16 head)
{
	struct vp_ring *r = tx();

	r->avail->ring[r->avail_idx++ % r->num] = head;
}

static void publish(void)
{
	struct vp_ring *r = tx();

	__atomic_store_n(&r->avail->idx, r->avail_idx, __ATOMIC_RELEASE);
	vp_ring_kick_anyway(r);
}

/* A right frame in slot @i's buffer; returns its length with the header. */
static u32 frame(u16 i, u32 len)
{
	struct vp_flow_id id = { ATTACKER, SINK, 0, 0 };
	struct vp_slot *s = &tx()->slot[i];
	struct virtio_net_hdr_v1 h;
	u8 dmac[6];

	vp_mac(dmac, SINK);
	len = vp_frame_build(s->buf + VP_HDR_ROOM, &h, VP_RAW, id, seq++, len,
			     dmac, 0);
	memcpy(s->buf + VP_HDR_ROOM - attacker.hlen, &h, attacker.hlen);
	return len + attacker.hlen;
}

static u64 at(u16 i)
{
	return tx()->slot[i].gpa + VP_HDR_ROOM - attacker.hlen;
}

static u8 *ptr(u16 i)
{
	return tx()->slot[i].buf + VP_HDR_ROOM - attacker.hlen;
}

/* A chain that is right, with head @i. */
static void good(u16 i)
{
	desc(i, at(i), frame(i, GOOD_LEN), 0, 0);
	avail(i);
}

static struct vring_desc *table(u16 i)
{
	return tx()->slot[i].indirect;
}

static void indirect(u16 i, u32 bytes, u16 flags)
{
	desc(i, tx()->slot[i].indirect_gpa, bytes,
	     VRING_DESC_F_INDIRECT | flags, 0);
	avail(i);
}

/* ---- the attacks; each has good(0) in front and good(9) behind ---- */

#define B 4	/* its descriptors: from here on */

static void a_none(void)
{
	good(B);
}

static void a_index_jump(void)
{
	tx()->avail_idx += tx()->num + 1;
}

static void a_index_back(void)
{
	tx()->avail_idx -= 7;
}

static void a_head_too_big(void)
{
	avail(tx()->num);
}

static void a_head_huge(void)
{
	avail(0xffff);
}

static void a_next_too_big(void)
{
	desc(B, at(B), frame(B, GOOD_LEN), VRING_DESC_F_NEXT, tx()->num);
	avail(B);
}

static void a_loop_self(void)
{
	desc(B, at(B), frame(B, GOOD_LEN), VRING_DESC_F_NEXT, B);
	avail(B);
}

static void a_loop_two(void)
{
	desc(B, at(B), 64, VRING_DESC_F_NEXT, B + 1);
	desc(B + 1, at(B), 64, VRING_DESC_F_NEXT, B);
	avail(B);
}

static void a_zero_length(void)
{
	desc(B, at(B), 0, 0, 0);
	avail(B);
}

static void a_zero_in_chain(void)
{
	u32 len = frame(B, GOOD_LEN);

	desc(B, at(B), 0, VRING_DESC_F_NEXT, B + 1);
	desc(B + 1, at(B), len, VRING_DESC_F_NEXT, B + 2);
	desc(B + 2, at(B), 0, 0, 0);
	avail(B);
}

static void a_header_only(void)
{
	desc(B, at(B), attacker.hlen, 0, 0);
	avail(B);
}

static void a_half_header(void)
{
	desc(B, at(B), 5, 0, 0);
	avail(B);
}

static void a_short_frame(void)
{
	frame(B, GOOD_LEN);
	desc(B, at(B), attacker.hlen + 13, 0, 0);
	avail(B);
}

static void a_ethernet_only(void)
{
	frame(B, GOOD_LEN);
	desc(B, at(B), attacker.hlen + 14, 0, 0);
	avail(B);
}

static void a_in_descriptor(void)
{
	desc(B, at(B), frame(B, GOOD_LEN), VRING_DESC_F_WRITE, 0);
	avail(B);
}

static void a_out_then_in(void)
{
	desc(B, at(B), frame(B, GOOD_LEN), VRING_DESC_F_NEXT, B + 1);
	desc(B + 1, at(B + 1), 64, VRING_DESC_F_WRITE, 0);
	avail(B);
}

static void a_in_then_out(void)
{
	desc(B, at(B + 1), 64, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, B + 1);
	desc(B + 1, at(B), frame(B, GOOD_LEN), 0, 0);
	avail(B);
}

static void a_address_outside(void)
{
	desc(B, 0x1000, 200, 0, 0);
	avail(B);
}

static void a_address_beyond(void)
{
	desc(B, vp_mem_end(&attacker.mem) - 100, 200, 0, 0);
	avail(B);
}

static void a_address_hole(void)
{
	struct vp_region *r = &attacker.mem.region[0];

	desc(B, r->gpa + r->size - 100, 200, 0, 0);
	avail(B);
}

static void a_address_wraps(void)
{
	desc(B, ~0ULL - 50, 200, 0, 0);
	avail(B);
}

static void a_length_max(void)
{
	desc(B, at(B), ~0U, 0, 0);
	avail(B);
}

static void a_length_sum(void)
{
	unsigned int i;

	/* 4 GiB and a bit, by the same bytes again and again. */
	for (i = 0; i < 20; i++)
		desc(B + i, attacker.mem.region[0].gpa,
		     attacker.mem.region[0].size, VRING_DESC_F_NEXT, B + i + 1);
	desc(B + i, at(B), 64, 0, 0);
	avail(B);
}

static void a_frame_80k(void)
{
	unsigned int i;

	frame(B, GOOD_LEN);
	desc(B, at(B), attacker.hlen + 14, VRING_DESC_F_NEXT, B + 1);
	for (i = 1; i < 40; i++)
		desc(B + i, at(B), 2000, VRING_DESC_F_NEXT, B + i + 1);
	desc(B + i, at(B), 2000, 0, 0);
	avail(B);
}

static void a_frame_64k(void)
{
	unsigned int i;

	frame(B, GOOD_LEN);
	desc(B, at(B), attacker.hlen + 14, VRING_DESC_F_NEXT, B + 1);
	for (i = 1; i < 32; i++)
		desc(B + i, at(B), 2000, VRING_DESC_F_NEXT, B + i + 1);
	desc(B + i, at(B), 1000, 0, 0);
	avail(B);
}

static void a_overlap(void)
{
	u32 len = frame(B, GOOD_LEN);

	desc(B, at(B), attacker.hlen, VRING_DESC_F_NEXT, B + 1);
	desc(B + 1, at(B) + attacker.hlen, len - attacker.hlen - 10,
	     VRING_DESC_F_NEXT, B + 2);
	desc(B + 2, at(B) + len - 10, 10, VRING_DESC_F_NEXT, B + 3);
	desc(B + 3, at(B), 40, 0, 0);
	avail(B);
}

static void a_same_head_twice(void)
{
	desc(B, at(B), frame(B, GOOD_LEN), 0, 0);
	avail(B);
	avail(B);
}

static void a_indirect_good(void)
{
	u32 len = frame(B, GOOD_LEN);

	table(B)[0] = (struct vring_desc) { at(B), 50, VRING_DESC_F_NEXT, 1 };
	table(B)[1] = (struct vring_desc) { at(B) + 50, len - 50, 0, 0 };
	indirect(B, 32, 0);
}

static void a_indirect_in_indirect(void)
{
	table(B)[0] = (struct vring_desc) {
		tx()->slot[B].indirect_gpa, 16, VRING_DESC_F_INDIRECT, 0
	};
	indirect(B, 16, 0);
}

static void a_indirect_and_next(void)
{
	table(B)[0] = (struct vring_desc) { at(B), frame(B, 100), 0, 0 };
	indirect(B, 16, VRING_DESC_F_NEXT);
}

static void a_indirect_odd_length(void)
{
	table(B)[0] = (struct vring_desc) { at(B), frame(B, 100), 0, 0 };
	indirect(B, 17, 0);
}

static void a_indirect_empty(void)
{
	indirect(B, 0, 0);
}

static void a_indirect_outside(void)
{
	desc(B, 0x1000, 32, VRING_DESC_F_INDIRECT, 0);
	avail(B);
}

static void a_indirect_at_the_end(void)
{
	desc(B, vp_mem_end(&attacker.mem) - 16, 32, VRING_DESC_F_INDIRECT, 0);
	avail(B);
}

static void a_indirect_loop(void)
{
	table(B)[0] = (struct vring_desc) { at(B), 50, VRING_DESC_F_NEXT, 1 };
	table(B)[1] = (struct vring_desc) { at(B), 50, VRING_DESC_F_NEXT, 0 };
	indirect(B, 32, 0);
}

static void a_indirect_next_outside(void)
{
	table(B)[0] = (struct vring_desc) { at(B), 50, VRING_DESC_F_NEXT, 9 };
	indirect(B, 32, 0);
}

static void a_indirect_write(void)
{
	table(B)[0] = (struct vring_desc) {
		at(B), frame(B, 100), VRING_DESC_F_WRITE, 0
	};
	indirect(B, 16, 0);
}

/* More segments than vhost has I/O vectors. */
static void a_indirect_long(void)
{
	u64 gpa = attacker.mem.region[1].gpa;
	struct vring_desc *t = vp_mem_ptr(&attacker.mem, gpa);
	unsigned int i, n = 1100;

	/* The first region's counterpart, which has nothing in it. */
	if (!t)
		ktap_fail("no second region");
	for (i = 0; i < n; i++)
		t[i] = (struct vring_desc) {
			at(B), 16, i + 1 < n ? VRING_DESC_F_NEXT : 0, i + 1
		};
	desc(B, gpa, n * 16, VRING_DESC_F_INDIRECT, 0);
	avail(B);
}

static void a_indirect_too_long(void)
{
	desc(B, attacker.mem.region[1].gpa, 0x20000 * 16,
	     VRING_DESC_F_INDIRECT, 0);
	avail(B);
}

static void header(u8 flags, u8 gso, u16 hdr_len, u16 gso_size, u16 start,
		   u16 offset)
{
	u32 len = frame(B, GOOD_LEN);
	struct virtio_net_hdr_v1 h = {
		.flags = flags, .gso_type = gso, .hdr_len = hdr_len,
		.gso_size = gso_size, .csum_start = start,
		.csum_offset = offset, .num_buffers = 0xffff,
	};

	memcpy(ptr(B), &h, attacker.hlen);
	desc(B, at(B), len, 0, 0);
	avail(B);
}

static void a_csum_outside(void)
{
	header(VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0, 0, 5000, 16);
}

static void a_csum_wraps(void)
{
	header(VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0, 0, 0xfffe, 0xfffe);
}

static void a_csum_at_end(void)
{
	header(VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0, 0, GOOD_LEN - 1, 0);
}

static void a_hdr_len_huge(void)
{
	header(VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0xffff, 0, 34, 6);
}

static void a_gso_unknown(void)
{
	header(0, 0x55, 54, 100, 0, 0);
}

static void a_gso_size_zero(void)
{
	header(VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4, 54, 0,
	       34, 16);
}

static void a_gso_not_tcp(void)
{
	header(VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4, 54, 20,
	       34, 16);
}

static void a_gso_no_csum(void)
{
	header(0, VIRTIO_NET_HDR_GSO_TCPV6, 54, 20, 34, 16);
}

static void a_flags_all(void)
{
	header(0xff, 0, 0, 0, 34, 6);
}

/* Memory that is in the table and not mapped (any more). */
static void a_unmapped_data(void)
{
	struct vp_region *r = &attacker.mem.region[1];

	munmap(r->hva + 8192, 4096);
	desc(B, r->gpa + 8192, 200, 0, 0);
	avail(B);
}

static void a_unmapped_half(void)
{
	struct vp_region *r = &attacker.mem.region[1];
	u32 len = frame(B, GOOD_LEN);

	munmap(r->hva + 8192, 4096);
	memcpy(r->hva + 8192 - 50, ptr(B), 50);
	desc(B, r->gpa + 8192 - 50, len, 0, 0);
	avail(B);
}

static void a_unmapped_indirect(void)
{
	struct vp_region *r = &attacker.mem.region[1];

	munmap(r->hva + 8192, 4096);
	desc(B, r->gpa + 8192, 32, VRING_DESC_F_INDIRECT, 0);
	avail(B);
}

static const struct attack {
	const char *name;
	void (*craft)(void);
	/*
	 * vhost-net tries such a frame again for ever and sends nothing else;
	 * the module may drop it and go on.
	 */
	bool may_drop;
} attacks[] = {
#define A(x) { #x, a_ ## x, false }
#define D(x) { #x, a_ ## x, true }
	A(none), A(index_jump), A(index_back), A(head_too_big), A(head_huge),
	A(next_too_big), A(loop_self), A(loop_two), A(zero_length),
	A(zero_in_chain), A(header_only), D(half_header), A(short_frame),
	A(ethernet_only), A(in_descriptor), A(out_then_in), A(in_then_out),
	A(address_outside), A(address_beyond), A(address_hole),
	A(address_wraps), A(length_max), A(length_sum), A(frame_80k),
	A(frame_64k), A(overlap), A(same_head_twice), A(indirect_good),
	A(indirect_in_indirect), A(indirect_and_next), A(indirect_odd_length),
	A(indirect_empty), A(indirect_outside), A(indirect_at_the_end),
	A(indirect_loop), A(indirect_next_outside), A(indirect_write),
	A(indirect_long), A(indirect_too_long), D(csum_outside), D(csum_wraps),
	D(csum_at_end), D(hdr_len_huge), A(gso_unknown), A(gso_size_zero),
	A(gso_not_tcp), A(gso_no_csum), A(flags_all), D(unmapped_data),
	D(unmapped_half), A(unmapped_indirect),
#undef A
#undef D
};

/* ---- one attack, and what comes of it ---- */

static void on_frame(struct vp_peer *p, unsigned int q, const u8 *f, u32 len,
		     const struct virtio_net_hdr_v1 *h, void *arg)
{
	struct vp_frame fr;
	char why[160];

	(void)p;
	(void)q;
	(void)arg;
	if (memcmp(f, sink.mac, 6))
		return;		/* not the attacker's: the host's chatter */
	if (vp_frame_check(f, len, h, true, SINK, &fr, why, sizeof(why)) ==
	    VP_FRAME_OK) {
		now.good++;
	} else {
		now.odd++;
		now.odd_bytes += len;
	}
}

static bool take(void)
{
	bool any = vp_rx(&sink, 0, 64, on_frame, NULL);

	vp_ring_kick_anyway(&sink.qp[0].rx);
	return any;
}

/*
 * Until everything has happened that will.  A kick queues its work at once,
 * and SET_MEM_TABLE waits for the work that is queued.
 */
static void settle(void)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		ktap_assert(!vp_set_mem(&attacker, false), "flush");
		/* Frames that the host's backlog still has. */
		vp_sleep_ms(1);
		ktap_assert(!vp_set_mem(&sink, false), "flush");
		while (take())
			ktap_assert(!vp_set_mem(&sink, false), "flush");
	}
}

static struct outcome play(const struct attack *a)
{
	struct vhost_vring_state base = { VP_VQ_TX, 0 };
	struct vp_ring *r = tx();
	u16 i;

	memset(&now, 0, sizeof(now));
	seq = 0;
	good(0);
	a->craft();
	good(50);
	publish();
	settle();
	/* A second kick: is it stuck in the same way? */
	good(51);
	publish();
	settle();
	ktap_assert(!vp_set_backend(&attacker, 0, VP_VQ_TX, -1), "stop");
	ktap_assert(!ioctl(attacker.qp[0].vhost, VHOST_GET_VRING_BASE, &base),
		    "base");
	now.base = base.num;
	now.used = r->used->idx;
	for (i = 0; i < now.used && i < r->num; i++)
		now.ids = now.ids * 31 + r->used->ring[i].id * 7 +
			  r->used->ring[i].len;
	now.error = vp_ring_errors(&attacker);
	return now;
}

/* As after a reset: new rings, and good frames again. */
static void recover(void)
{
	struct vp_region *r = &attacker.mem.region[1];
	unsigned int i;

	ktap_assert(!vp_set_backend(&attacker, 0, VP_VQ_RX, -1), "stop");
	ktap_assert(mmap(r->hva + 8192, 4096, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
		    MAP_FAILED, "mmap");
	ktap_assert(!vp_reconfigure(&attacker, attacker.cfg.features), "rings");
	ktap_assert(!vp_start(&attacker), "start");
	memset(&now, 0, sizeof(now));
	for (i = 0; i < 10; i++)
		good(i);
	publish();
	settle();
	ktap_assert(now.good == 10 && !now.odd && tx()->used->idx == 10,
		    "after the reset: %u of 10 frames arrive, %u completed",
		    now.good, tx()->used->idx);
}

static void fresh(void)
{
	ktap_assert(!vp_set_backend(&attacker, 0, VP_VQ_RX, -1) &&
		    !vp_set_backend(&attacker, 0, VP_VQ_TX, -1), "stop");
	ktap_assert(!vp_reconfigure(&attacker, attacker.cfg.features), "rings");
	ktap_assert(!vp_start(&attacker), "start");
}

static void play_all(struct outcome *out, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		fresh();
		out[i] = play(&attacks[i]);
		recover();
	}
}

static bool dropped(const struct outcome *o)
{
	return o->used == 4 && o->base == 4 && o->good == 3 && !o->odd &&
	       !o->error;
}

static void compare(u64 features)
{
	static struct outcome plain[VP_ARRAY_SIZE(attacks)];
	static struct outcome hooked[VP_ARRAY_SIZE(attacks)];
	unsigned int i, n = VP_ARRAY_SIZE(attacks), bad = 0;
	struct vp_cfg c;

	vp_cfg_default(&c);
	vp_bridge_add(c.bridge, 0);
	/* The second region is spare room for the attacks. */
	c.features = features;
	c.regions = 2;
	c.tx_num = 128;
	c.rx_buf = 65535;
	c.rx_num = 16;
	ktap_assert(!vp_open(&sink, &c, SINK) && !vp_start(&sink), "sink");
	c.rx_buf = 2048;
	ktap_assert(!vp_open(&attacker, &c, ATTACKER) && !vp_start(&attacker),
		    "attacker");

	ctl_need_unloaded();
	play_all(plain, n);
	ctl_need_loaded();
	ctl_wait(attacker.tap, 1, NULL);
	play_all(hooked, n);
	for (i = 0; i < n; i++) {
		struct outcome *a = &plain[i], *b = &hooked[i];

		if (!memcmp(a, b, sizeof(*a)) ||
		    (attacks[i].may_drop && dropped(b)))
			continue;
		bad++;
		ktap_msg("%s: vhost-net: used %u base %u ids %llx error %d good %u odd %u/%llu",
			 attacks[i].name, a->used, a->base, a->ids, a->error,
			 a->good, a->odd, a->odd_bytes);
		ktap_msg("%s: module:    used %u base %u ids %llx error %d good %u odd %u/%llu",
			 attacks[i].name, b->used, b->base, b->ids, b->error,
			 b->good, b->odd, b->odd_bytes);
	}
	ktap_assert(plain[0].good == 4 && plain[0].used == 4,
		    "no attack: %u frames of 4", plain[0].good);
	vp_close(&attacker);
	vp_close(&sink);
	ktap_assert(!ctl_count(), "%u endpoints are left", ctl_count());
	ktap_assert(!bad, "%u of %u attacks end differently", bad, n);
}

static void modern(void)
{
	compare(VP_F_DEFAULT);
}

static void legacy(void)
{
	compare(0);
}

static const struct ktap_case cases[] = {
	{ "modern", modern, 120 },
	{ "legacy", legacy, 120, true },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
