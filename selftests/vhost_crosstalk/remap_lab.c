// SPDX-License-Identifier: GPL-2.0
/* Guests for the tests of remapping. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ctl.h"
#include "direct.h"
#include "guestram.h"
#include "ktap.h"
#include "remap_lab.h"

#define BRIDGE		"br0"
#define MTU		65500
#define TYPE		0x88b5
#define WAIT_MS		10000

struct rl_guest rl_guest[GUESTS];
unsigned int rl_guests;
bool rl_apart;
u64 rl_last_seq;
bool rl_failing;
unsigned int rl_broken;
bool rl_by_tap;
unsigned int rl_damaged;
u8 rl_expected[HEAD + MAX_PAGES * PAGE];

u64 rl_stat(unsigned int g, const char *counter)
{
	return ctl_ep_num(rl_guest[g].ep, counter);
}

void rl_fill(void *mem, size_t size, u64 tag, u64 seq)
{
	u64 *word = mem;
	size_t i;

	for (i = 0; i < size / sizeof(*word); i++)
		word[i] = tag << 48 | (seq & 0xffffff) << 24 | i;
}

bool rl_is_all(const void *mem, size_t size, u64 tag)
{
	const u64 *word = mem;
	size_t i;

	for (i = 0; i < size / sizeof(*word); i++)
		if (word[i] >> 48 != tag)
			return false;
	return true;
}

static void post(unsigned int g, struct vp_slot *s)
{
	struct vp_seg seg = { rl_page_gpa(s), PAGE };

	vp_ring_post(rl_rx(g), s, &seg, 1, false);
}

/* What it touches from now on, or with @mem in its RAM, is of its own node. */
static void bind_node(unsigned int g, const struct vp_mem *mem)
{
	unsigned long nodes = 1UL << g;

	if (!mem)
		ktap_assert(!syscall(SYS_set_mempolicy, MPOL_BIND, &nodes, 64),
			    "no policy for node %u", g);
	else
		ktap_assert(!syscall(SYS_mbind, mem->map, mem->map_len,
				     MPOL_BIND, &nodes, 64, 0) &&
			    !syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0),
			    "guest %u is not bound to its node", g);
}

static void note_youngest(void *youngest, pid_t worker, char state)
{
	pid_t *tid = youngest;

	(void)state;
	if (worker > *tid)
		*tid = worker;
}

void rl_start(unsigned int g, enum vp_mem_kind mem)
{
	struct vp_peer *p = &rl_guest[g].p;
	struct vp_slot *s;
	struct vp_cfg c;
	int ret;

	vp_cfg_default(&c);
	c.mem = mem;
	c.mtu = MTU;
	c.rx_num = 128;
	c.rx_buf = 2 * PAGE - VP_HDR_ROOM;
	c.tx_num = 128;
	c.tx_chain = VP_MAX_CHAIN;
	c.tx_buf = (MAX_PAGES + 2) * PAGE;
	if (rl_apart)
		bind_node(g, NULL);
	ret = vp_open(p, &c, g);
	if (ret == -EOPNOTSUPP)
		ktap_skip("no guestram here");
	ktap_assert(!ret, "guest %u: %s", g, strerror(-ret));
	if (rl_apart)
		bind_node(g, &p->mem);
	/* Their buffers are posted here, and not by vp_start(). */
	while ((s = vp_ring_get_slot(rl_rx(g)))) {
		rl_fill(rl_page_of(s), PAGE, TAG_CANARY + g, 0);
		post(g, s);
	}
	ktap_assert(!vp_start(p), "guest %u does not run", g);
	ctl_wait(p->tap, 1, &rl_guest[g].ep);
	ctl_wait_state(rl_guest[g].ep, "hooked", "none");
	/* The youngest one of this process is no other guest's. */
	rl_guest[g].worker = 0;
	ctl_for_workers(getpid(), note_youngest, &rl_guest[g].worker);
	ktap_assert(rl_guest[g].worker, "guest %u has no worker", g);
}

bool rl_take(unsigned int g, struct rl_got *got)
{
	struct virtio_net_hdr_v1 h;
	struct vp_ring *r = rl_rx(g);
	unsigned int i;
	const u8 *head;

	memset(got, 0, sizeof(*got));
	got->slot[0] = vp_ring_pop(r, &got->len[0]);
	if (!got->slot[0])
		return false;

	head = rl_page_of(got->slot[0]);
	memcpy(&h, head, sizeof(h));
	got->n = h.num_buffers;
	ktap_assert(got->n && got->n <= VP_MAX_CHAIN, "%u buffers", got->n);
	for (i = 1; i < got->n; i++) {
		got->slot[i] = vp_ring_pop(r, &got->len[i]);
		ktap_assert(got->slot[i], "%u buffers of %u", i, got->n);
	}
	head += sizeof(h);
	if (head[12] == TYPE >> 8 && head[13] == (TYPE & 0xff)) {
		memcpy(&got->seq, head + 16, sizeof(got->seq));
		got->pages = head[24];
	}
	return true;
}

void rl_give(unsigned int g, const struct rl_got *got)
{
	unsigned int i;

	for (i = 0; i < got->n; i++)
		post(g, got->slot[i]);
	vp_ring_kick(rl_rx(g));
}

/*
 * Each nth failure can also be that of a copy to the guest.  After such an error
 * vhost-net leaves a queue alone until the next kick, for which a guest that has
 * posted all its buffers has no reason.
 */
static void kick_broken(void)
{
	unsigned int i;

	for (i = 0; i < rl_guests; i++) {
		if (!vp_ring_errors(&rl_guest[i].p))
			continue;
		rl_broken++;
		vp_ring_kick_anyway(rl_rx(i));
		vp_ring_kick_anyway(rl_tx(i));
	}
}

bool rl_is_late(u64 end)
{
	if (rl_failing)
		kick_broken();
	sched_yield();
	return vp_now_ms() > end;
}

u64 rl_deadline(void)
{
	return vp_now_ms() + WAIT_MS * vp_slowness();
}

bool rl_more(unsigned int extra, bool shown)
{
	static u64 end;

	if (!extra)
		end = rl_deadline();
	ktap_assert(shown || !rl_is_late(end), "nothing was remapped");
	return !shown;
}

/* A frame does not come: who has it? */
void rl_not_there(u64 seq)
{
	char verdicts[512];
	unsigned int i;

	for (i = 0; i < rl_guests; i++) {
		ctl_ep_read(rl_guest[i].ep, "verdicts", verdicts,
			    sizeof(verdicts));
		ktap_msg("guest %u: TX: %llu fast, %llu slow, %llu kicks; verdicts %s",
			 i, rl_stat(i, "tx_fast_packets"),
			 rl_stat(i, "tx_slow_packets"), rl_stat(i, "tx_kicks"),
			 verdicts);
		ktap_msg("guest %u: RX: %llu fast, %llu kicks, %llu fills; avail %u, used %u, %llu errors",
			 i, rl_stat(i, "rx_fast_packets"), rl_stat(i, "rx_kicks"),
			 rl_stat(i, "rx_fills"), rl_rx(i)->avail_idx,
			 rl_rx(i)->used->idx, vp_ring_errors(&rl_guest[i].p));
	}
	ktap_fail("frame %llu is lost", seq);
}

void rl_receive(unsigned int g, struct rl_got *got, u64 seq)
{
	u64 end = rl_deadline();

	for (;;) {
		if (rl_take(g, got)) {
			if (got->seq == seq)
				return;
			ktap_assert(got->seq < seq, "frame %llu before %llu",
				    got->seq, seq);
			rl_give(g, got);
			continue;
		}
		if (rl_is_late(end))
			rl_not_there(seq);
	}
}

void rl_build_head(u8 *at, unsigned int from, unsigned int to, u64 seq,
		   unsigned int pages)
{
	memset(at, 0, HEAD);
	memset(at, 0xff, 6);
	if (to != GUESTS)
		memcpy(at, rl_guest[to].p.mac, 6);
	memcpy(at + 6, rl_guest[from].p.mac, 6);
	at[12] = TYPE >> 8;
	at[13] = TYPE & 0xff;
	memcpy(at + 16, &seq, sizeof(seq));
	at[24] = pages;
}

struct vp_slot *rl_get_tx(unsigned int g)
{
	struct vp_slot *s = vp_ring_get_slot(rl_tx(g));
	u64 end = rl_deadline();

	while (!s) {
		vp_tx_reclaim(&rl_guest[g].p, 0);
		s = vp_ring_get_slot(rl_tx(g));
		ktap_assert(s || !rl_is_late(end), "guest %u: its TX ring stays full",
			    g);
	}
	return s;
}

/* Sends @pages pages of this slot as they are. */
u64 rl_send_slot(unsigned int from, unsigned int to, struct vp_slot *s,
		 unsigned int pages)
{
	struct vp_seg seg[2] = {
		{ s->gpa, sizeof(struct virtio_net_hdr_v1) + HEAD },
		{ rl_payload_gpa(s), pages * PAGE },
	};

	memset(s->buf, 0, sizeof(struct virtio_net_hdr_v1));
	rl_build_head(s->buf + sizeof(struct virtio_net_hdr_v1), from, to,
		      ++rl_last_seq, pages);
	vp_ring_post(rl_tx(from), s, seg, pages ? 2 : 1, false);
	vp_ring_kick(rl_tx(from));
	return rl_last_seq;
}

struct vp_slot *rl_send_pages(unsigned int from, unsigned int to,
			      unsigned int pages)
{
	struct vp_slot *s = rl_get_tx(from);

	rl_fill(rl_payload_of(s), pages * PAGE, TAG_DATA, rl_last_seq + 1);
	rl_send_slot(from, to, s, pages);
	return s;
}

void rl_wait_sent(unsigned int g)
{
	u64 end = rl_deadline();

	while (vp_ring_inflight(rl_tx(g))) {
		vp_tx_reclaim(&rl_guest[g].p, 0);
		ktap_assert(!rl_is_late(end), "guest %u: frames are never completed",
			    g);
	}
}

/* Where a frame lies in the buffers does not matter. */
void rl_check(const struct rl_got *got, unsigned int from, unsigned int to)
{
	u32 skip = sizeof(struct virtio_net_hdr_v1), done = 0;
	u32 len = HEAD + got->pages * PAGE;
	unsigned int i;

	rl_build_head(rl_expected, from, to, got->seq, got->pages);
	rl_fill(rl_expected + HEAD, got->pages * PAGE, TAG_DATA, got->seq);
	for (i = 0; i < got->n; i++) {
		u32 part = got->len[i] - skip;

		ktap_assert(done + part <= len, "%u bytes too many",
			    done + part - len);
		if (memcmp(rl_page_of(got->slot[i]) + skip, rl_expected + done,
			   part)) {
			ktap_assert(rl_by_tap, "frame %llu: other bytes from %u on",
				    got->seq, done);
			rl_damaged++;
			return;
		}
		done += part;
		skip = 0;
	}
	ktap_assert(done == len, "%u bytes of %u", done, len);
}

/* A frame that was copied has as many buffers, and its rest in the last one. */
bool rl_lies_in_pages(const struct rl_got *got, unsigned int pages)
{
	return got->n == pages + 1 && got->len[pages] == PAGE;
}

/* Everybody is known to the bridge. */
void rl_learn(void)
{
	unsigned int i, k;
	struct rl_got got;

	for (i = 0; i < rl_guests; i++) {
		u64 seq = rl_send_slot(i, GUESTS, rl_get_tx(i), 0);

		for (k = 0; k < rl_guests; k++) {
			if (k == i)
				continue;
			rl_receive(k, &got, seq);
			rl_give(k, &got);
		}
		rl_wait_sent(i);
	}
}

void rl_transfer(unsigned int from, unsigned int to, unsigned int pages)
{
	struct rl_got got;

	rl_send_pages(from, to, pages);
	rl_receive(to, &got, rl_last_seq);
	rl_check(&got, from, to);
	rl_give(to, &got);
	rl_wait_sent(from);
}

/* Until frames go the direct path. */
void rl_wait_direct(unsigned int from, unsigned int to)
{
	u64 fast = rl_stat(from, "tx_fast_packets");
	u64 end = rl_deadline();

	while (rl_stat(from, "tx_fast_packets") < fast + 3) {
		rl_transfer(from, to, 0);
		ktap_assert(!rl_is_late(end), "no direct path");
	}
}

void rl_set_mode(const char *mode)
{
	ktap_assert(!ctl_write("remap", mode), "remap = %s", mode);
}

void rl_open(unsigned int n, enum vp_mem_kind last)
{
	unsigned int i;

	direct_on();
	rl_set_mode("1");
	vp_bridge_add(BRIDGE, MTU);
	for (rl_guests = 0; rl_guests < n; rl_guests++)
		rl_start(rl_guests, rl_guests + 1 < n ? VP_MEM_GUESTRAM : last);
	rl_learn();
	for (i = 0; i + 1 < n; i++) {
		rl_wait_direct(i, i + 1);
		rl_wait_direct(i + 1, i);
	}
}

/* The last of them can go by a worker that ends. */
static void wait_no_frames(void)
{
	u64 end = rl_deadline();

	while (guestram_frames())
		ktap_assert(!rl_is_late(end), "%ld frames are left",
			    guestram_frames());
}

void rl_close(void)
{
	unsigned int i;
	u64 bad = 0;

	for (i = 0; i < rl_guests; i++) {
		rl_wait_sent(i);
		bad += vp_bad_used(&rl_guest[i].p) + vp_ring_errors(&rl_guest[i].p);
		vp_close(&rl_guest[i].p);
	}
	rl_guests = 0;
	rl_set_mode("off");
	wait_no_frames();
	ktap_assert(!bad, "%llu bad used elements or device errors", bad);
}

u64 rl_direct_pages(unsigned int g)
{
	return rl_stat(g, "tx_fast_bytes") / PAGE;
}

bool rl_is_most(u64 part, u64 pages)
{
	return part && part <= pages && part >= pages * 8 / 10;
}

size_t rl_touch_all(unsigned int g)
{
	const struct vp_mem *m = &rl_guest[g].p.mem;
	const u8 *at = m->map;
	size_t i;

	for (i = 0; i < m->map_len; i += PAGE)
		(void)READ_ONCE(at[i]);
	return m->map_len / PAGE;
}

int rl_ram_fd(unsigned int g)
{
	const struct vp_mem *m = &rl_guest[g].p.mem;
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx",
		 (unsigned long)m->map, (unsigned long)m->map + m->map_len);
	fd = open(path, O_RDWR | O_CLOEXEC);
	ktap_assert(fd >= 0, "%s: %s", path, strerror(errno));
	return fd;
}

/*
 * User Mode Linux walks the mappings of a process that exits, or of one that has
 * pages taken out by two at a time, without its lock (arch/um, flush_tlb_mm()).
 */
const char *rl_lacks_flush(void)
{
	return vp_on_uml() ? "takes pages out of a process without its lock" :
			     NULL;
}
