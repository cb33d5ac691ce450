// SPDX-License-Identifier: GPL-2.0
/*
 * Remapping: whole pages of a frame are shared between the sender's and the
 * receiver's RAM instead of copied, and nobody can tell but by the counters.
 * Guests in this process, with RAM of guestram; remapping is forced on.
 */
#define _GNU_SOURCE
#include <string.h>

#include "ctl.h"
#include "ktap.h"
#include "remap_lab.h"

/* All lengths, both ways. */
static void A4_remap_integrity(void)
{
	unsigned int i, n = ktap_count("CROSSTALK_FRAMES", 600, 90);
	u64 direct, got;

	rl_open(2, VP_MEM_GUESTRAM);
	for (i = 0; i < n || rl_more(i - n, rl_stat(A, "tx_remap_pages")); i++)
		rl_transfer(i & 1, !(i & 1), i % MAX_PAGES + 1);
	got = rl_stat(A, "tx_remap_pages") + rl_stat(B, "tx_remap_pages");
	direct = rl_direct_pages(A) + rl_direct_pages(B);
	ktap_msg("%llu of %llu pages were remapped", got, direct);
	ktap_assert(rl_is_most(got, direct), "too few, or too many");
	ktap_assert(rl_stat(A, "tx_remap_bytes") == rl_stat(A, "tx_remap_pages") *
		    PAGE, "bytes are no pages");
	rl_close();
}

/* What either side writes is never seen by the other one. */
static void A4_remap_writes(void)
{
	unsigned int i, k, n = ktap_count("CROSSTALK_FRAMES", 400, 80);
	struct vp_rand rnd;
	struct rl_got got;

	vp_rand_init(&rnd, 0);
	rl_open(2, VP_MEM_GUESTRAM);
	for (i = 0; i < n || rl_more(i - n, rl_stat(B, "rx_remap_faults")); i++) {
		unsigned int pages = vp_rand_in(&rnd, 1, MAX_PAGES);
		struct vp_slot *s = rl_send_pages(A, B, pages);
		bool sender = vp_rand_in(&rnd, 0, 1);

		rl_receive(B, &got, rl_last_seq);
		rl_wait_sent(A);
		if (sender)
			rl_fill(rl_payload_of(s), pages * PAGE, TAG_SCRIBBLE + A, 0);
		/* Half of them only in part. */
		for (k = 1; k < got.n && vp_rand_in(&rnd, 0, 1); k++)
			rl_page_of(got.slot[k])[vp_rand_in(&rnd, 0, PAGE - 1)] += 0;
		rl_check(&got, A, B);
		for (k = 1; k < got.n; k++)
			rl_fill(rl_page_of(got.slot[k]), PAGE, TAG_SCRIBBLE + B, 0);
		ktap_assert(rl_is_all(rl_payload_of(s), pages * PAGE, sender ?
				      TAG_SCRIBBLE + A : TAG_DATA),
			    "the sender sees the receiver's writes");
		rl_fill(rl_payload_of(s), pages * PAGE, TAG_SCRIBBLE + A, 0);
		for (k = 1; k < got.n; k++)
			ktap_assert(rl_is_all(rl_page_of(got.slot[k]), PAGE,
					      TAG_SCRIBBLE + B),
				    "the receiver sees the sender's writes");
		rl_give(B, &got);
	}
	rl_close();
}

/* All of a guest's RAM. */
static void scan(unsigned int g)
{
	const struct vp_mem *m = &rl_guest[g].p.mem;
	const u64 *word = m->map;
	size_t i;

	for (i = 0; i < m->map_len / sizeof(*word); i++) {
		u64 whose = (word[i] >> 48) - TAG_CANARY;

		ktap_assert(whose >= GUESTS || whose == g,
			    "guest %u has what guest %llu had, at %#zx", g,
			    whose, i * sizeof(*word));
	}
}

/* A guest writes here and there; nothing is on its way. */
static void scribble(unsigned int g, struct vp_rand *rnd)
{
	unsigned int i;

	for (i = 0; i < 16; i++) {
		struct vp_ring *r = i & 1 ? rl_rx(g) : rl_tx(g);
		struct vp_slot *s = &r->slot[vp_rand_in(rnd, 0,
							r->nslots - 1)];
		u64 *word = (u64 *)(i & 1 ? rl_page_of(s) : rl_payload_of(s));

		word[vp_rand_in(rnd, 0, WORDS - 1)] = (TAG_CANARY + g) << 48;
	}
}

/* No byte of what was in somebody's pages is ever in another one's RAM. */
static void B1_remap_canary(void)
{
	static const u8 way[][2] = {
		{ A, B }, { B, A }, { B, C }, { C, B }, { B, A }, { A, B },
	};
	unsigned int i, k, n = ktap_count("CROSSTALK_FRAMES", 400, 60);
	struct vp_rand rnd;
	struct vp_slot *s;
	struct rl_got got;

	vp_rand_init(&rnd, 0);
	rl_open(3, VP_MEM_GUESTRAM);
	for (i = 0; i < 3; i++)
		for (k = 0; k < rl_tx(i)->nslots; k++)
			rl_fill(rl_payload_of(&rl_tx(i)->slot[k]), MAX_PAGES * PAGE,
				TAG_CANARY + i, 0);
	for (i = 0; i < n || rl_more(i - n, rl_stat(A, "tx_remap_pages") &&
				     rl_stat(B, "tx_remap_pages") &&
				     rl_stat(C, "tx_remap_pages")); i++) {
		unsigned int from = way[i % VP_ARRAY_SIZE(way)][0];
		unsigned int to = way[i % VP_ARRAY_SIZE(way)][1];

		s = rl_send_pages(from, to, i % MAX_PAGES + 1);
		rl_receive(to, &got, rl_last_seq);
		rl_check(&got, from, to);
		for (k = 0; k < got.n; k++)
			rl_fill(rl_page_of(got.slot[k]), PAGE, TAG_CANARY + to, i);
		rl_give(to, &got);
		rl_wait_sent(from);
		rl_fill(rl_payload_of(s), MAX_PAGES * PAGE, TAG_CANARY + from, i);
		for (k = 0; k < 3; k++)
			scribble(k, &rnd);
		if (i % 50 == 49)
			scan(i / 50 % 3);
	}
	for (i = 0; i < 3; i++)
		scan(i);
	rl_close();
}

/* As a driver would that is not to be trusted: the buffers are anywhere. */
static void misplace(unsigned int g, u64 gpa, unsigned int every)
{
	struct vp_ring *r = rl_rx(g);
	unsigned int i;

	for (i = 0; i < r->num; i += every)
		WRITE_ONCE(r->desc[i].addr, gpa);
}

/* Frames to a guest that does not care about them; the sender's RAM is whole. */
static void shoot(unsigned int from, unsigned int to, unsigned int n)
{
	unsigned int i, pages;
	struct vp_slot *s;
	u32 len;

	for (i = 0; i < n; i++) {
		pages = i % MAX_PAGES + 1;
		s = rl_send_pages(from, to, pages);
		rl_wait_sent(from);
		rl_fill(rl_expected, pages * PAGE, TAG_DATA, rl_last_seq);
		ktap_assert(!memcmp(rl_payload_of(s), rl_expected, pages * PAGE),
			    "the sender's RAM is another");
		while ((s = vp_ring_pop(rl_rx(to), &len)))
			vp_ring_repost(rl_rx(to), s);
		vp_ring_kick(rl_rx(to));
	}
}

/* Buffers that overlap, and the ring itself as a buffer. */
static void B1_remap_hostile_rx(void)
{
	unsigned int i, n = ktap_count("CROSSTALK_FRAMES", 100, 15);
	u64 gpa;

	rl_open(1, VP_MEM_GUESTRAM);
	for (i = 0; i < 4; i++) {
		rl_start(B, VP_MEM_GUESTRAM);
		rl_guests = 2;
		rl_learn();
		rl_wait_direct(A, B);
		gpa = i < 2 ? rl_page_gpa(&rl_rx(B)->slot[7]) : rl_rx(B)->desc_gpa;
		misplace(B, gpa, i % 2 + 1);
		shoot(A, B, i < 2 ? n : 3);
		vp_close(&rl_guest[B].p);
		rl_guests = 1;
	}
	rl_close();
}

/* One page, many times in a frame, and in many frames. */
static void B1_remap_hostile_tx(void)
{
	unsigned int i, k, n = ktap_count("CROSSTALK_FRAMES", 100, 15);
	struct vp_seg seg[MAX_PAGES + 1];
	struct vp_slot *s;
	struct rl_got got;

	rl_open(2, VP_MEM_GUESTRAM);
	for (i = 0; i < n || rl_more(i - n, rl_stat(A, "tx_remap_pages")); i++) {
		s = rl_get_tx(A);
		rl_fill(rl_payload_of(s), PAGE, TAG_DATA, i);
		memset(s->buf, 0, sizeof(struct virtio_net_hdr_v1));
		rl_build_head(s->buf + sizeof(struct virtio_net_hdr_v1), A, B,
			      ++rl_last_seq, MAX_PAGES);
		seg[0] = (struct vp_seg) {
			s->gpa, sizeof(struct virtio_net_hdr_v1) + HEAD
		};
		for (k = 1; k <= MAX_PAGES; k++)
			seg[k] = (struct vp_seg) { rl_payload_gpa(s), PAGE };
		vp_ring_post(rl_tx(A), s, seg, MAX_PAGES + 1, false);
		vp_ring_kick(rl_tx(A));
		rl_receive(B, &got, rl_last_seq);
		rl_wait_sent(A);
		rl_fill(rl_payload_of(s), PAGE, TAG_SCRIBBLE + A, i);
		rl_fill(rl_expected, PAGE, TAG_DATA, i);
		if (!rl_lies_in_pages(&got, MAX_PAGES)) {
			rl_give(B, &got);
			continue;
		}
		for (k = 1; k < got.n; k++) {
			ktap_assert(!memcmp(rl_page_of(got.slot[k]), rl_expected,
					    PAGE), "page %u is another", k);
			rl_fill(rl_page_of(got.slot[k]), PAGE, TAG_SCRIBBLE + B, k);
		}
		rl_give(B, &got);
	}
	rl_close();
}

/* Hands a frame on, without a look at its payload. */
static void forward(unsigned int g, unsigned int to, struct rl_got *got)
{
	struct vp_slot *s = rl_get_tx(g);
	struct vp_seg seg[VP_MAX_CHAIN];
	u32 hlen = sizeof(struct virtio_net_hdr_v1);
	u8 *head = rl_page_of(got->slot[0]) + hlen;
	unsigned int i;

	memcpy(head, rl_guest[to].p.mac, 6);
	memcpy(head + 6, rl_guest[g].p.mac, 6);
	memset(s->buf, 0, hlen);
	seg[0] = (struct vp_seg) { s->gpa, hlen };
	seg[1] = (struct vp_seg) { rl_page_gpa(got->slot[0]) + hlen,
				   got->len[0] - hlen };
	for (i = 1; i < got->n; i++)
		seg[i + 1] = (struct vp_seg) { rl_page_gpa(got->slot[i]),
					       got->len[i] };
	vp_ring_post(rl_tx(g), s, seg, got->n + 1, false);
	vp_ring_kick(rl_tx(g));
}

/* A chain: what B does not look at is copied nowhere. */
static void A8_remap_forward(void)
{
	unsigned int i, n = ktap_count("CROSSTALK_FRAMES", 400, 50);
	u64 sent, faults, pages, to_router;
	struct rl_got got, there;

	rl_open(3, VP_MEM_GUESTRAM);
	for (i = 0; i < n || rl_more(i - n, rl_stat(A, "tx_remap_pages") &&
				     rl_stat(B, "tx_remap_pages")); i++) {
		rl_send_pages(A, B, MAX_PAGES);
		rl_receive(B, &got, rl_last_seq);
		rl_wait_sent(A);
		forward(B, C, &got);
		rl_receive(C, &there, got.seq);
		rl_check(&there, B, C);
		rl_give(C, &there);
		rl_wait_sent(B);
		rl_give(B, &got);
	}
	sent = i * MAX_PAGES;
	to_router = rl_stat(A, "tx_remap_pages");
	pages = rl_stat(B, "tx_remap_pages");
	faults = rl_stat(B, "rx_remap_faults") + rl_stat(B, "tx_remap_faults");
	ktap_msg("%llu of %llu pages remapped to the router, %llu by it",
		 to_router, sent, pages);
	ktap_msg("%llu were touched there, %llu by the receiver", faults,
		 rl_stat(C, "rx_remap_faults"));
	ktap_assert(rl_is_most(pages, rl_direct_pages(B)) &&
		    rl_is_most(to_router, rl_direct_pages(A)), "they were copied");
	/* What goes by the bridge is touched on its way in, or out. */
	ktap_assert(faults <= (2 * sent - pages - to_router) * 2 + sent / 10,
		    "the router's pages were copied");
	rl_close();
}

/* Frames that nobody looks at, until all buffers had their turn. */
static u64 pass_around(void)
{
	unsigned int i, n = 3 * rl_rx(B)->num / MAX_PAGES;
	struct rl_got got;

	for (i = 0; i < n; i++) {
		rl_send_pages(A, B, MAX_PAGES);
		rl_receive(B, &got, rl_last_seq);
		rl_give(B, &got);
		rl_wait_sent(A);
	}
	return n * MAX_PAGES;
}

/* A frame that is copied does so to its own buffers: the others stay shared. */
static void remap_copies_few(void)
{
	static const unsigned int few = 4;
	u64 sent, pages, faults, fast, end;

	rl_open(2, VP_MEM_GUESTRAM);
	rl_set_mode("8");
	pages = rl_stat(A, "tx_remap_pages");
	sent = pass_around();
	/* Some may have been touched by then, and count when they are shared. */
	faults = rl_stat(B, "rx_remap_faults");
	end = rl_deadline();
	do {
		ktap_assert(!rl_is_late(end), "it always goes by the tap");
		fast = rl_stat(A, "tx_fast_packets");
		rl_transfer(A, B, few);
		sent += few;
	} while (rl_stat(A, "tx_fast_packets") == fast);
	do {
		ktap_assert(!rl_is_late(end), "nothing was remapped");
		sent += pass_around();
	} while (rl_stat(A, "tx_remap_pages") == pages);
	faults = rl_stat(B, "rx_remap_faults") - faults;
	pages = rl_stat(A, "tx_remap_pages") - pages;
	ktap_msg("%llu of %llu pages were not remapped, %llu were touched",
		 sent - pages, sent, faults);
	/* With each of them may come a header in a page of its own. */
	ktap_assert(faults <= 2 * (sent - pages), "others were touched, too");
	rl_close();
}

/* The tunable, and what is too small for it. */
static void remap_modes(void)
{
	static const char * const bad[] = { "0", "17", "on", "-1" };
	u64 pages, end;
	char buf[32];
	unsigned int i;

	rl_open(2, VP_MEM_GUESTRAM);
	for (i = 0; i < VP_ARRAY_SIZE(bad); i++)
		ktap_assert(ctl_write("remap", bad[i]), "remap = '%s'", bad[i]);
	rl_set_mode("adaptive");
	ktap_assert(ctl_read("remap", buf, sizeof(buf)) > 0 &&
		    !strcmp(buf, "adaptive"), "it is %s", buf);
	rl_set_mode("off");
	ktap_assert(ctl_read("remap", buf, sizeof(buf)) > 0 &&
		    !strcmp(buf, "off"), "it is %s", buf);
	pages = rl_stat(A, "tx_remap_pages");
	for (i = 0; i < 10; i++)
		rl_transfer(A, B, MAX_PAGES);
	rl_set_mode("4");
	for (i = 0; i < 10; i++)
		rl_transfer(A, B, 3);
	ktap_assert(rl_stat(A, "tx_remap_pages") == pages, "it was remapped");
	end = rl_deadline();
	do {
		ktap_assert(!rl_is_late(end), "it was not remapped");
		rl_transfer(A, B, 4);
	} while (rl_stat(A, "tx_remap_pages") == pages);
	rl_close();
}

/* Other memory than guestram's is copied, on either side. */
static void remap_elsewhere(void)
{
	unsigned int i;

	rl_open(2, VP_MEM_MEMFD);
	for (i = 0; i < 30; i++)
		rl_transfer(i & 1, !(i & 1), 8);
	ktap_assert(!rl_stat(A, "tx_remap_pages") && !rl_stat(B, "tx_remap_pages"),
		    "it was remapped");
	rl_close();
}

/*
 * A receiver that touches everything is sent copies before long. What is shared
 * while the answer for its flow ends goes by the tap: then it is judged anew.
 */
static void remap_adaptive(void)
{
	unsigned int i, n = 300;
	u64 pages, end;

	rl_open(2, VP_MEM_GUESTRAM);
	end = rl_deadline();
	do {
		ktap_assert(!rl_is_late(end), "nothing was remapped");
		rl_set_mode("off");
		rl_set_mode("adaptive");
		pages = rl_stat(A, "tx_remap_pages");
		for (i = 0; i < n; i++)
			rl_transfer(A, B, MAX_PAGES);
		pages = rl_stat(A, "tx_remap_pages") - pages;
		ktap_msg("%llu of %u pages were remapped", pages, n * MAX_PAGES);
		ktap_assert(pages < n * MAX_PAGES / 4,
			    "it does not adapt: %llu pages", pages);
	} while (!pages);
	rl_close();
}

static const struct ktap_case cases[] = {
	{ "A4_remap_integrity", A4_remap_integrity },
	{ "A4_remap_writes", A4_remap_writes },
	{ "A8_remap_forward", A8_remap_forward, .slow = true },
	{ "B1_remap_canary", B1_remap_canary },
	{ "B1_remap_hostile_rx", B1_remap_hostile_rx, .slow = true },
	{ "B1_remap_hostile_tx", B1_remap_hostile_tx, .slow = true },
	{ "remap_copies_few", remap_copies_few },
	{ "remap_modes", remap_modes, .slow = true },
	{ "remap_elsewhere", remap_elsewhere, .slow = true },
	{ "remap_adaptive", remap_adaptive, .slow = true },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
