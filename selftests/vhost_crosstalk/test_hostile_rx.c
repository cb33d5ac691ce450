// SPDX-License-Identifier: GPL-2.0
/*
 * Hostile guests on the direct path: a receiver whose ring, descriptors and
 * memory change while others push into them, and a sender of whatever it
 * likes.  Beside them a guest sends to a victim.  All its frames arrive, and in
 * the victim's whole memory nothing changes but what it has posted; nothing is
 * written to memory of the hostile guest either that it may not write to.
 *
 * CROSSTALK_MUTATIONS is the number of mutations of fuzz_rx and fuzz_tx each.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/userfaultfd.h>

#include "ctl.h"
#include "direct.h"
#include "hostile.h"
#include "ktap.h"
#include "vpeer.h"

#define SENDER	0
#define VICTIM	1
#define HOSTILE	2
#define PEERS	3

#define FULL	600000
#define QUICK	4000
#define HEAL	8	/* batches of mutations until all is right again */

/* ---- the victim, which watches its memory ---- */

static u8 *copies[VP_MAX_REGIONS], *open_bytes[VP_MAX_REGIONS];

/* The device may be writing there right now. */
static void may_change(struct vp_peer *p, void *from, size_t len)
{
	unsigned int i;
	u8 *at = from;

	for (i = 0; i < p->mem.n; i++) {
		struct vp_region *r = &p->mem.region[i];

		if (at < r->hva || at >= r->hva + r->size)
			continue;
		memcpy(copies[i] + (at - r->hva), at, len);
		memset(open_bytes[i] + (at - r->hva), 1, len);
	}
}

static void compare(struct vp_region *r, const u8 *copy, const u8 *open)
{
	unsigned int k;

	if (!memcmp(r->hva, copy, r->size))
		return;
	for (k = 0; k < r->size; k++)
		ktap_assert(open[k] || r->hva[k] == copy[k],
			    "the victim's memory changed at %u", k);
}

static void check_ring(struct vp_peer *p, struct vp_ring *r)
{
	unsigned int i;

	ktap_assert(r->avail->idx == r->avail_idx, "available index");
	for (i = 0; i < r->num && i < r->avail_idx; i++)
		ktap_assert(r->avail->ring[i] == r->slot[r->order[i]].idx[0],
			    "available ring");
	may_change(p, r->avail, 6 + 2 * r->num);
	may_change(p, r->used, 6 + 8 * r->num);
	for (i = 0; r->is_rx && i < r->nslots; i++)
		may_change(p, r->slot[i].buf + VP_HDR_ROOM - p->hlen,
			   r->buf_size + p->hlen);
}

static void guard(struct vp_peer *p, u64 n)
{
	unsigned int i;

	for (i = 0; !n && i < p->mem.n; i++) {
		struct vp_region *r = &p->mem.region[i];

		copies[i] = malloc(r->size);
		memcpy(copies[i], r->hva, r->size);
		open_bytes[i] = calloc(1, r->size);
	}
	check_ring(p, &p->qp[0].rx);
	check_ring(p, &p->qp[0].tx);
	for (i = 0; i < p->mem.n; i++)
		compare(&p->mem.region[i], copies[i], open_bytes[i]);
}

/* ---- the hostile guest ---- */

static void forgive(struct vp_world *w)
{
	unsigned int sub;

	/* Whoever sends to it may always send more. */
	for (sub = 0; sub < VP_MAX_SUB; sub++) {
		struct vp_flow *f = &w->flow[SENDER][HOSTILE][sub];

		WRITE_ONCE(f->acked, READ_ONCE(f->sent));
	}
}

static struct vp_peer peer;

static void begin(struct vp_world *w, unsigned int i, const struct vp_cfg *cfg,
		  struct hostile *h)
{
	ktap_assert(!vp_open(&peer, cfg, i) && !vp_start(&peer), "hostile");
	h->p = &peer;
	vp_rand_init(&h->rnd, 500);
	hostile_arena(h);
	strcpy(w->peer[i].tap, peer.tap);
	WRITE_ONCE(w->peer[i].state, VP_S_READY);
}

/* Returns whether to go on. */
static bool on(struct vp_world *w)
{
	while (READ_ONCE(w->quiet) && !READ_ONCE(w->stop)) {
		WRITE_ONCE(w->peer[HOSTILE].quieted, true);
		vp_sleep_ms(1);
	}
	return !READ_ONCE(w->stop);
}

/* Memory that comes and goes while it is in use; pages 8 to 13. */
static void change_memory(struct hostile *h)
{
	u8 *page = h->arena + 4096 * vp_rand_in(&h->rnd, 8, 13);
	int rw = PROT_READ | PROT_WRITE;

	switch (vp_rand_in(&h->rnd, 0, 7)) {
	case 0:
		mprotect(page, 4096, PROT_READ);
		break;
	case 1:
		mprotect(page, 4096, PROT_NONE);
		break;
	case 2:
		munmap(page, 4096);
		break;
	case 3:
		madvise(page, 4096, MADV_DONTNEED);
		break;
	case 4:
		mmap(page, 4096, rw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		     -1, 0);
		break;
	case 5:		/* to where another one is */
		mremap(page, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED,
		       h->arena + 4096 * (page == h->arena + 8 * 4096 ? 9 : 8));
		break;
	case 6:
		vp_set_mem(h->p, vp_rand(&h->rnd) & 1);
		break;
	default:
		mprotect(page, 4096, rw);
	}
}

static void attack(struct hostile *h)
{
	const struct hostile_attack *a;

	do {
		a = &hostile_attacks[vp_rand_in(&h->rnd, 0,
						hostile_nr_attacks - 1)];
		/* Those take their own memory away. */
	} while (!strncmp(a->name, "unmapped", 8));
	a->craft(h);
	h->mutations++;
}

static void mutate(struct vp_world *w, struct hostile *h)
{
	unsigned int i, n, batch = 0;

	while (on(w)) {
		if (batch++ % HEAL == 0)
			hostile_heal(h);
		n = vp_rand_in(&h->rnd, 1, 15);
		h->r->avail_idx += n;
		hostile_publish(h);
		/* Most of it after the device was told that there is some. */
		for (i = 0; i < n; i++)
			hostile_mutate(h);
		if (batch % 7 == 0)
			attack(h);
		if (batch % 16 == 0)
			change_memory(h);
		forgive(w);
		WRITE_ONCE(w->peer[HOSTILE].events, h->mutations);
		if (batch % 4)
			sched_yield();
		else
			usleep(50);
	}
	hostile_check(h);
	_exit(0);
}

static void run_receiver(struct vp_world *w, unsigned int i,
			 const struct vp_cfg *cfg)
{
	struct hostile h = { .r = &peer.qp[0].rx };

	begin(w, i, cfg, &h);
	mutate(w, &h);
}

static void run_sender(struct vp_world *w, unsigned int i,
		       const struct vp_cfg *cfg)
{
	struct hostile h = { .r = &peer.qp[0].tx, .dst = VICTIM };

	begin(w, i, cfg, &h);
	mutate(w, &h);
}

/* ---- the parent ---- */

static struct vp_world *start(vp_run_fn *run, const struct vp_cfg *c)
{
	struct vp_traffic t = { .min = 60, .max = 1514, .window = 32 };
	struct vp_world *w;
	unsigned int i;

	direct_on();
	w = vp_world_new(PEERS, c->bridge, 0);
	w->traffic = t;
	w->send[SENDER][VICTIM] = true;
	w->send[SENDER][HOSTILE] = true;
	w->lossy[HOSTILE] = true;
	w->hostile = VP_BIT(HOSTILE);
	w->run[HOSTILE] = run;
	w->event = guard;
	w->event_ms = 2;
	w->event_peers = VP_BIT(VICTIM);
	for (i = 0; i < PEERS; i++)
		vp_spawn(w, i, c);
	vp_wait_ready(w);
	ctl_wait_world(w, 1);
	/* On a slow machine it takes long, and they only listen. */
	for (i = 0; i < PEERS; i++)
		vp_bridge_keep(w->peer[i].tap, i);
	return w;
}

static u64 counter(struct vp_world *w, unsigned int peer, const char *name)
{
	unsigned int ep;

	ctl_wait(w->peer[peer].tap, 1, &ep);
	return ctl_ep_num(ep, name);
}

static void fuzz_more(struct vp_world *w)
{
	vp_alive(w);
	vp_wait_frames(w, 1);
	vp_sleep_ms(5);
}

static void fuzz(struct vp_world *w, const char *fast, u64 mutations)
{
	u64 min = mutations / 1000, n, end;

	vp_go(w);
	vp_wait_events(w, 3);
	while (READ_ONCE(w->peer[HOSTILE].events) < mutations)
		fuzz_more(w);
	/* Who is hostile is not often asked: until enough went that way. */
	end = vp_now_ms() + 30000 * vp_slowness();
	while (counter(w, HOSTILE, fast) <= min && vp_now_ms() < end)
		fuzz_more(w);
	vp_wait_frames(w, 50);
	n = counter(w, HOSTILE, fast);
	ktap_msg("%llu mutations, %s %llu, %llu to the victim beside it",
		 w->peer[HOSTILE].events, fast, n,
		 counter(w, VICTIM, "rx_fast_packets"));
	if (n <= min)
		direct_tell(w);
	ktap_assert(n > min, "that is too few to mean anything");
	vp_finish(w);
	ctl_need_unloaded();
}

static void hostile_cfg(struct vp_cfg *c)
{
	vp_cfg_default(c);
	c->regions = 2;
}

static void fuzz_rx(void)
{
	struct vp_cfg c;

	hostile_cfg(&c);
	fuzz(start(run_receiver, &c), "rx_fast_packets",
	     ktap_count("CROSSTALK_MUTATIONS", FULL, QUICK));
}

static void fuzz_tx(void)
{
	struct vp_world *w;
	struct vp_cfg c;

	hostile_cfg(&c);
	w = start(run_sender, &c);
	w->send[SENDER][HOSTILE] = false;
	/* What is hostile and takes the slow path fills the victim's tap. */
	w->crowded[VICTIM] = true;
	direct_patience();
	/* The bridge shall not believe that it is somebody else. */
	ktap_assert(!vp_cmd("bridge link set dev %s learning off",
			    w->peer[HOSTILE].tap), "bridge");
	fuzz(w, "tx_fast_packets",
	     ktap_count("CROSSTALK_MUTATIONS", FULL, QUICK));
}

/* Without mergeable buffers and event index. */
static void fuzz_rx_simple(void)
{
	struct vp_cfg c;

	hostile_cfg(&c);
	c.features = 0;
	fuzz(start(run_receiver, &c), "rx_fast_packets",
	     ktap_count("CROSSTALK_MUTATIONS", FULL / 5, QUICK / 2));
}

/* ---- receivers that stand still ---- */

static void run_idle(struct vp_world *w, unsigned int i,
		     const struct vp_cfg *cfg)
{
	struct hostile h = { .r = &peer.qp[0].rx };

	begin(w, i, cfg, &h);
	while (on(w)) {
		if (!READ_ONCE(w->phase)) {
			h.r->avail_idx = READ_ONCE(h.r->used->idx) +
					 h.r->num / 2;
			hostile_publish(&h);
		}
		forgive(w);
		usleep(500);
	}
	_exit(0);
}

/* A receiver that stops to post buffers. */
static void never_refilled(void)
{
	u64 end = vp_now_ms() + 20000 * vp_slowness();
	struct vp_world *w;
	struct vp_cfg c;

	hostile_cfg(&c);
	w = start(run_idle, &c);
	vp_go(w);
	vp_wait_events(w, 3);
	while (counter(w, HOSTILE, "rx_fast_packets") < 100) {
		vp_alive(w);
		ktap_assert(vp_now_ms() < end, "nothing goes the direct path");
		vp_sleep_ms(5);
	}
	WRITE_ONCE(w->phase, 1);
	/* Its buffers are used up, and then some. */
	vp_wait_frames(w, ktap_count("CROSSTALK_FRAMES", 1000, 150));
	vp_finish(w);
	ctl_need_unloaded();
}

/*
 * All RX buffers are taken away, and who touches them waits: for a while, and
 * at last for ever.  The first event counts stalls that have begun, the stall
 * ends with the next phase.
 */
static void run_stalled(struct vp_world *w, unsigned int i,
			const struct vp_cfg *cfg)
{
	struct hostile h = { .r = &peer.qp[0].rx };
	struct vp_peer_shm *shm = &w->peer[i];
	unsigned int phase = 0, k;
	struct uffd_msg msg;
	u8 *mem;
	int fd;

	begin(w, i, cfg, &h);
	mem = mmap(h.arena, HOSTILE_PAGES * 4096, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	ktap_assert(mem == h.arena, "mmap");
	fd = vp_fault_fd(mem, HOSTILE_PAGES * 4096);
	for (k = 0; k < h.r->num; k++)
		h.r->desc[k].addr = h.arena_gpa + 4096 * (k % HOSTILE_PAGES);
	while (on(w)) {
		/* No ioctl: the stalled worker has the queue's mutex. */
		h.r->avail_idx = READ_ONCE(h.r->used->idx) + h.r->num / 2;
		hostile_publish(&h);
		forgive(w);
		if (read(fd, &msg, sizeof(msg)) == sizeof(msg)) {
			WRITE_ONCE(shm->events, shm->events + 1);
			while (on(w) && READ_ONCE(w->phase) == phase) {
				forgive(w);
				usleep(500);
			}
			phase = READ_ONCE(w->phase);
			vp_fault_end(fd, mem, HOSTILE_PAGES * 4096);
			usleep(20000);
			madvise(mem, HOSTILE_PAGES * 4096, MADV_DONTNEED);
		}
		usleep(500);
	}
	_exit(0);
}

static void wait_stall(struct vp_world *w, u64 n)
{
	u64 end = vp_now_ms() + 10000 * vp_slowness();

	while (READ_ONCE(w->peer[HOSTILE].events) < n) {
		vp_alive(w);
		ktap_assert(vp_now_ms() < end,
			    "no stall %llu; %llu frames by the direct path", n,
			    counter(w, HOSTILE, "rx_fast_packets"));
		vp_sleep_ms(2);
	}
}

static void stalled(void)
{
	unsigned int i, n = ktap_count("CROSSTALK_CYCLES", 10, 3);
	struct vp_world *w;
	struct vp_cfg c;

	hostile_cfg(&c);
	w = start(run_stalled, &c);
	vp_go(w);
	vp_wait_events(w, 3);
	for (i = 1; i <= n; i++) {
		wait_stall(w, i);
		/* It stands, and the others go on. */
		vp_wait_frames(w, 30);
		WRITE_ONCE(w->phase, i);
	}
	/* It dies in the middle of a stall. */
	wait_stall(w, n + 1);
	vp_kill(w, HOSTILE);
	ctl_wait_gone(w->peer[HOSTILE].tap);
	vp_wait_frames(w, 100);
	vp_finish(w);
	ctl_need_unloaded();
}

static const struct ktap_case cases[] = {
	{ "fuzz_rx", fuzz_rx, 300 },
	{ "fuzz_rx_simple", fuzz_rx_simple, 200, .slow = true },
	{ "fuzz_tx", fuzz_tx, 300 },
	{ "never_refilled", never_refilled, .slow = true },
	{ "stalled", stalled, .slow = true },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
