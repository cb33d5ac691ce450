// SPDX-License-Identifier: GPL-2.0
/*
 * Peers as processes with flow-controlled traffic.
 *
 * A sender has at most a window of frames of a flow under way, which its
 * receiver acknowledges in shared memory: no queue on the way can overflow,
 * so every lost frame is somebody's fault.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ktap.h"
#include "vpeer.h"

#define CALM_MS		200
#define SLEEP_MS	200	/* looks for lost calls that often */
#define CALL_GRACE_MS	2000
#define CALL_LOOKS	10
#define STALL_MS	15000
#define FORGET_MS	1000	/* a third of what a tap does */
#define STOP_MS		2000	/* the rest of it */
#define FORGIVE_MS	50	/* lossy flows: then the window is open again */
#define FORGIVE_MAX	4	/* windows; a tap holds 1,000 frames of all flows */
#define PAUSE_MS	40	/* times vp_slowness(); see is_pause() */
#define PAUSE_EVERY_MS	240
#define UNLOAD_MS	500
#define RX_BUDGET	64
#define MAX_DUMPS	2	/* of one peer's rings, in the log */

/*
 * The other direction of a flow: what was seen of it, when, what is wanted; and
 * what was sent before that came.
 */
struct reverse {
	u64 next, ms, from, blind;
};

struct runner {
	struct vp_world *w;
	struct vp_peer p;
	unsigned int self, dumped, dumps;
	u64 base[VP_MAX_PEERS][VP_MAX_SUB];	/* forgiven up to here */
	u64 born[VP_MAX_PEERS][VP_MAX_SUB];	/* sent by earlier processes */
	u64 seen[VP_MAX_PEERS][VP_MAX_SUB];
	u64 seen_ms[VP_MAX_PEERS][VP_MAX_SUB];
	struct reverse reverse[VP_MAX_PEERS][VP_MAX_SUB];
	u64 tick_ms;				/* of the last look */
	u64 early[VP_MAX_PEERS][VP_MAX_SUB];	/* sent before a stop ended */
	u64 event_ms, events;
	unsigned int complaints;
};

static u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

u64 vp_now_ns(void)
{
	return now_ns();
}

u64 vp_now_ms(void)
{
	return now_ns() / 1000000;
}

u64 vp_tick_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return ts.tv_sec * 1000ULL + ts.tv_nsec / 1000000;
}

void vp_sleep_ms(unsigned int ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&ts, NULL);
}

/* Slow machines (emulation, debug kernels) multiply all time limits. */
unsigned int vp_slowness(void)
{
	const char *s = getenv("CROSSTALK_SLOWNESS");
	int n = s ? atoi(s) : 0;

	return n > 0 ? n : 1;
}

void vp_rand_init(struct vp_rand *r, u64 salt)
{
	const char *s = getenv("CROSSTALK_SEED");

	r->s = ((s ? strtoull(s, NULL, 0) : 1) + 1) * 0x9e3779b97f4a7c15ULL ^
	       (salt + 1) * 0xff51afd7ed558ccdULL;
	vp_rand(r);
}

static void wake(struct vp_world *w, unsigned int i)
{
	u64 one = 1;

	if (write(w->wake[i], &one, sizeof(one)) < 0 && errno != EAGAIN)
		ktap_msg("wake: %s", strerror(errno));
}

static u32 kinds_of(const struct vp_world *w)
{
	return w->traffic.kinds ?: VP_BIT(VP_RAW);
}

/* What remains for each kind. */
static u32 window_of(const struct vp_world *w)
{
	u32 window = w->traffic.window / __builtin_popcount(kinds_of(w));

	return vp_max(window, 1U);
}

/* ---- receiving ---- */

static void complain(struct runner *r, const char *what)
{
	if (r->complaints++ < 5)
		ktap_msg("%s: %s", r->p.tap, what);
}

static void flow_advance(struct vp_flow *f, u64 seq)
{
	u64 k;

	for (k = f->next; k < seq; k++)
		f->seen[k % VP_SEEN / 64] &= ~VP_BIT(k % 64);
	f->seen[seq % VP_SEEN / 64] |= VP_BIT(seq % 64);
	f->next = seq + 1;
}

/* How far it is, for those who wait for that. */
static u64 flow_acked(const struct vp_flow *f)
{
	u64 acked = __atomic_load_n(&f->acked, __ATOMIC_ACQUIRE);

	return vp_max(acked, READ_ONCE(f->forgiven));
}

/*
 * When the machine stands still for 3 s, a multi-queue tap forgets all flows
 * (see is_queue_known()) while frames are under way: those that come after it go
 * to other queues, and may overtake.  That is the tap's, with any module.
 */
static void watch_time(struct runner *r)
{
	u64 now = vp_tick_ms(), before = r->tick_ms;
	unsigned int src, sub;

	r->tick_ms = now;
	if (r->p.cfg.queues < 2 || !before || now - before < STOP_MS)
		return;
	for (src = 0; src < r->w->n; src++)
		for (sub = 0; sub < VP_MAX_SUB; sub++)
			r->early[src][sub] =
				READ_ONCE(r->w->flow[src][r->self][sub].sent);
}

/* Account for a whole frame; frames before @early may come in any order. */
static void flow_accept(struct vp_flow *f, u64 seq, u64 early)
{
	u64 *word = &f->seen[seq % VP_SEEN / 64];

	f->part = 0;
	if (seq >= f->next) {
		u64 from = vp_max(f->next, READ_ONCE(f->forgiven));

		f->lost += seq > from ? seq - from : 0;
		f->rcvd++;
		flow_advance(f, seq);
	} else if (*word & VP_BIT(seq % 64)) {
		f->dup++;
	} else {
		*word |= VP_BIT(seq % 64);
		f->reordered += seq >= early;
		f->lost--;
		f->rcvd++;
	}
}

/* Whether one of the hostile peers may have made it up. */
static bool is_doubtful(const struct vp_world *w, const u8 *frame, u32 len)
{
	unsigned int i;
	u8 mac[6];

	if (!w->hostile)
		return false;
	for (i = 0; len >= 12 && i < w->n; i++) {
		vp_mac(mac, i);
		if (!(w->hostile & VP_BIT(i)) && !memcmp(frame + 6, mac, 6))
			return false;
	}
	return true;
}

static void on_frame(struct vp_peer *p, unsigned int q, const u8 *frame,
		     u32 len, const struct virtio_net_hdr_v1 *h, void *arg)
{
	struct runner *r = arg;
	struct vp_world *w = r->w;
	struct vp_peer_shm *shm = &w->peer[r->self];
	struct vp_frame fr;
	struct vp_flow *f;
	char why[160];
	u64 seq;

	(void)q;
	if (is_doubtful(w, frame, len)) {
		shm->foreign++;
		return;
	}
	switch (vp_frame_check(frame, len, h,
			       !(p->cfg.features & VP_F_VHOST_HDR), r->self,
			       &fr, why, sizeof(why))) {
	case VP_FRAME_FOREIGN:
		shm->foreign++;
		return;
	case VP_FRAME_CORRUPT:
		shm->corrupt++;
		complain(r, why);
		return;
	default:
		break;
	}
	if (fr.id.src >= w->n || fr.id.sub >= VP_MAX_SUB) {
		shm->corrupt++;
		return;
	}
	shm->rx_frames++;
	shm->rx_bytes += len;
	f = &w->flow[fr.id.src][r->self][fr.id.sub];
	f->bytes += len;
	seq = fr.seq;
	if (fr.kind >= VP_TCP4) {
		seq |= f->next & ~0xffffffffULL;
		if (fr.len < fr.total && seq >= f->next) {
			if (fr.off != f->part && fr.off) {
				shm->corrupt++;
				complain(r, "segment of a frame is missing");
				return;
			}
			f->part = fr.off + fr.len;
			if (f->part < fr.total)
				return;
		}
	}
	if (seq != f->next)
		watch_time(r);
	flow_accept(f, seq, r->early[fr.id.src][fr.id.sub]);
	__atomic_store_n(&f->acked, f->next, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&w->peer[fr.id.src].waiting, __ATOMIC_SEQ_CST) &&
	    READ_ONCE(f->sent) - flow_acked(f) <= window_of(w) / 2) {
		WRITE_ONCE(w->peer[fr.id.src].waiting, false);
		wake(w, fr.id.src);
	}
}

/* ---- sending ---- */

/*
 * A multi-queue tap learns a flow's queue from the other direction, and forgets
 * it when that has not moved for 3 s by jiffies, as after a stop of the machine.
 * Known is what was learned from a frame that was sent after such a rest.  Those
 * that went to another queue before are to have arrived.
 */
static bool is_queue_known(struct runner *r, unsigned int dst, unsigned int sub,
			   u64 arrived)
{
	const struct vp_flow *f = &r->w->flow[dst][r->self][sub];
	struct reverse *v = &r->reverse[dst][sub];
	u64 now = vp_tick_ms(), next = READ_ONCE(f->next);

	if (now - v->ms > FORGET_MS)
		v->from = READ_ONCE(f->sent) + 2;
	if (next != v->next || now - v->ms > FORGET_MS) {
		v->next = next;
		v->ms = now;
	}
	if (next < v->from)	/* and the one that is sent now */
		v->blind = r->w->flow[r->self][dst][sub].sent + 1;
	return next >= v->from && arrived >= v->blind;
}

static u32 credit(struct runner *r, unsigned int dst, unsigned int sub)
{
	struct vp_world *w = r->w;
	struct vp_flow *f = &w->flow[r->self][dst][sub];
	u64 from = vp_max(flow_acked(f), r->base[dst][sub]);
	u32 window = window_of(w);

	/* The move to another queue may reorder frames: one at a time. */
	if (r->p.cfg.queues > 1 && w->send[dst][r->self] &&
	    !is_queue_known(r, dst, sub, from))
		window = 1;
	if (f->sent - from >= window)
		return 0;
	return window - (f->sent - from);
}

static u32 frame_len(struct runner *r, enum vp_kind kind)
{
	const struct vp_traffic *t = &r->w->traffic;

	if (t->big && kind >= VP_TCP4 &&
	    vp_rand_in(&r->p.rnd, 1, t->big_one_in) == 1)
		/* More than fits without GSO. */
		return vp_rand_in(&r->p.rnd, t->max + 100, t->big);
	if (t->small_half && vp_rand(&r->p.rnd) & 1)
		return vp_rand_in(&r->p.rnd, t->min, 255);
	return vp_rand_in(&r->p.rnd, t->min, t->max);
}

static unsigned int send_flow(struct runner *r, unsigned int dst,
			      unsigned int q, enum vp_kind kind)
{
	unsigned int sub = q * VP_KINDS + kind, n = 0;
	struct vp_world *w = r->w;
	struct vp_flow *f = &w->flow[r->self][dst][sub];
	struct vp_peer_shm *shm = &w->peer[r->self];
	struct vp_flow_id id = { r->self, dst, sub, 0 };
	u32 can = vp_min(credit(r, dst, sub), 64U);

	while (n < can && r->p.qp[q].tx.nfree) {
		u32 len = frame_len(r, kind);
		u64 seq = f->sent;
		int ret;

		/* First, so that a SIGKILL in between loses a number. */
		WRITE_ONCE(f->sent, seq + 1);
		ret = vp_tx(&r->p, q, kind, id, seq, len, w->traffic.vlan);
		shm->tx_frames++;
		shm->tx_bytes += ret;
		n++;
	}
	return n;
}

/*
 * A fully preemptible kernel on a slow machine: workers that always have frames
 * never sleep, and taps are never empty, which flows wait for that are to go by
 * the direct path.  All peers stop sending at the same time, for a while.  rmmod
 * waits until each task has slept once, see synchronize_rcu_tasks(): when that
 * takes long nobody sends until it is over.
 */
static bool is_pause(const struct vp_world *w)
{
	unsigned int slowness = vp_slowness();
	u64 since, now;

	if (slowness <= 4)
		return false;
	since = READ_ONCE(w->unload_ms);
	now = vp_now_ms();
	return (since && now - since > UNLOAD_MS) ||
	       now % (PAUSE_EVERY_MS * slowness) < PAUSE_MS * slowness;
}

static bool can_send(struct runner *r)
{
	u32 kinds = kinds_of(r->w);
	unsigned int sub, dst;

	if (READ_ONCE(r->w->quiet) || is_pause(r->w))
		return false;
	for (sub = 0; sub < r->p.cfg.queues * VP_KINDS; sub++) {
		if (!(kinds & VP_BIT(sub % VP_KINDS)) ||
		    !r->p.qp[sub / VP_KINDS].tx.nfree)
			continue;
		for (dst = 0; dst < r->w->n; dst++)
			if (r->w->send[r->self][dst] && credit(r, dst, sub))
				return true;
	}
	return false;
}

static unsigned int send_all(struct runner *r)
{
	unsigned int q, dst, kind, n = 0;
	u32 kinds = kinds_of(r->w);

	for (q = 0; q < r->p.cfg.queues; q++) {
		struct vp_ring *tx = &r->p.qp[q].tx;

		if (tx->nfree <= tx->nslots / 2)
			vp_tx_reclaim(&r->p, q);
		if (READ_ONCE(r->w->quiet) || is_pause(r->w))
			continue;
		for (dst = 0; dst < r->w->n; dst++)
			for (kind = 0; kind < VP_KINDS; kind++)
				if (r->w->send[r->self][dst] &&
				    kinds & VP_BIT(kind))
					n += send_flow(r, dst, q, kind);
	}
	for (q = 0; r->p.running && q < r->p.cfg.queues; q++)
		vp_ring_kick(&r->p.qp[q].tx);
	return n;
}

/* ---- watching for what got lost ---- */

static void dump(struct runner *r, const char *why)
{
	if (r->dumps++ >= MAX_DUMPS)
		return;
	__atomic_add_fetch(&r->w->dump, 1, __ATOMIC_RELAXED);
	r->dumped = READ_ONCE(r->w->dump);
	vp_dump(&r->p, why);
}

static bool is_loose(const struct vp_world *w, unsigned int sub)
{
	return w->loose & VP_BIT(sub / VP_KINDS);
}

/*
 * Whether frames that were sent are believed to be lost, and others sent instead.
 * Only where they take no room that flows need in which nothing may get lost: in
 * the tap of who is slow, and in all of them if the bridge does not know the
 * receiver because it is dead.
 */
static bool may_forgive(const struct runner *r, unsigned int dst,
			unsigned int sub, u64 still_ms)
{
	const struct vp_flow *f = &r->w->flow[r->self][dst][sub];
	const struct vp_world *w = r->w;

	if (still_ms < FORGIVE_MS || READ_ONCE(w->peer[dst].dead))
		return false;
	if (w->lossy[dst] || w->crowded[dst] || is_loose(w, sub))
		return true;
	if (still_ms >= STALL_MS * vp_slowness())
		return true;
	return f->sent - vp_max(flow_acked(f), r->born[dst][sub]) <
	       FORGIVE_MAX * window_of(w);
}

/* Flows that make no progress: forgiven when lossy, else a stall. */
static void watch_flows(struct runner *r)
{
	struct vp_world *w = r->w;
	u64 now = vp_now_ms(), still_ms;
	unsigned int dst, q;

	if (READ_ONCE(w->dump) != r->dumped) {
		r->dumped = READ_ONCE(w->dump);
		if (r->dumps++ < MAX_DUMPS)
			vp_dump(&r->p, "another peer has stalled");
	}
	for (dst = 0; dst < w->n; dst++) {
		for (q = 0; w->send[r->self][dst] &&
		     q < r->p.cfg.queues * VP_KINDS; q++) {
			struct vp_flow *f = &w->flow[r->self][dst][q];
			u64 acked = flow_acked(f);
			bool lossy = w->lossy[r->self] || w->lossy[dst] ||
				     w->crowded[dst] || is_loose(w, q);

			if (acked != r->seen[dst][q] || f->sent == acked ||
			    !r->seen_ms[dst][q]) {
				r->seen[dst][q] = acked;
				r->seen_ms[dst][q] = now;
				continue;
			}
			still_ms = now - r->seen_ms[dst][q];
			if (lossy) {
				if (!may_forgive(r, dst, q, still_ms))
					continue;
				r->base[dst][q] = f->sent;
				r->seen_ms[dst][q] = now;
			} else if (still_ms >= STALL_MS * vp_slowness()) {
				w->peer[r->self].stalls++;
				ktap_msg("stall: flow %u->%u.%u sent %llu, arrived %llu, window %u",
					 r->self, dst, q, f->sent, acked,
					 w->traffic.window);
				dump(r, "stall");
				r->seen_ms[dst][q] = now;
			}
		}
	}
}

/* After a time-out: is there something that we should have been told? */
static void watch_call(struct runner *r, struct vp_ring *ring, u16 ahead)
{
	struct pollfd pfd = { .fd = ring->call, .events = POLLIN };
	unsigned int i;

	if (!ring->cb_on || !r->p.running ||
	    (u16)(READ_ONCE(ring->used->idx) - ring->used_idx) <= ahead)
		return;
	/* Many looks: while we do not get to run, others may not either. */
	for (i = 0; i < CALL_LOOKS; i++)
		if (poll(&pfd, 1, CALL_GRACE_MS * vp_slowness() / CALL_LOOKS) > 0)
			return;
	r->w->peer[r->self].missed_calls++;
	dump(r, ring->is_rx ? "RX call was lost" : "TX call was lost");
}

static void nap(struct runner *r)
{
	struct vp_peer_shm *shm = &r->w->peer[r->self];
	struct vp_peer *p = &r->p;
	struct pollfd pfd[2 * VP_MAX_QP + 1];
	u16 ahead[VP_MAX_QP] = {};
	bool pending = false, quiet = READ_ONCE(r->w->quiet), empty = true;
	unsigned int q, n = 0;
	int timeout = SLEEP_MS, ret;
	u64 v;

	for (q = 0; q < p->cfg.queues; q++) {
		struct vp_ring *tx = &p->qp[q].tx;

		vp_tx_reclaim(p, q);
		if (vp_ring_inflight(tx) && (quiet || !tx->nfree)) {
			ahead[q] = quiet ? vp_ring_inflight(tx) - 1 :
					   vp_ring_inflight(tx) * 3 / 4;
			pending |= vp_ring_cb_enable(tx, ahead[q]);
		}
		empty &= !vp_ring_inflight(tx);
		pending |= vp_ring_cb_enable(&p->qp[q].rx, 0);
		pfd[n++] = (struct pollfd) { p->qp[q].rx.call, POLLIN, 0 };
		pfd[n++] = (struct pollfd) { tx->call, POLLIN, 0 };
	}
	pfd[n++] = (struct pollfd) { r->w->wake[r->self], POLLIN, 0 };
	WRITE_ONCE(shm->quieted, quiet && empty);
	__atomic_store_n(&shm->waiting, true, __ATOMIC_SEQ_CST);
	if (r->w->event && r->w->event_ms)
		timeout = vp_min(timeout, (int)r->w->event_ms);
	for (q = 0; q < r->w->n; q++)
		if (r->w->lossy[q] || r->w->crowded[q] || r->w->loose)
			timeout = vp_min(timeout, FORGIVE_MS);
	if (!pending && !can_send(r) && quiet == READ_ONCE(r->w->quiet)) {
		ret = poll(pfd, n, timeout);
		if (!ret) {
			for (q = 0; q < p->cfg.queues; q++) {
				watch_call(r, &p->qp[q].rx, 0);
				watch_call(r, &p->qp[q].tx, ahead[q]);
			}
		}
	}
	WRITE_ONCE(shm->waiting, false);
	if (read(r->w->wake[r->self], &v, sizeof(v)) < 0 && errno != EAGAIN)
		ktap_fail("wake: %s", strerror(errno));
	for (q = 0; q < p->cfg.queues; q++) {
		vp_ring_call_clear(&p->qp[q].rx);
		vp_ring_call_clear(&p->qp[q].tx);
		vp_ring_cb_disable(&p->qp[q].rx);
		vp_ring_cb_disable(&p->qp[q].tx);
	}
}

static void run_event(struct runner *r)
{
	struct vp_world *w = r->w;
	vp_event_fn *event = READ_ONCE(w->event);
	u64 now;

	if (!event || !(w->event_peers & VP_BIT(r->self)) ||
	    READ_ONCE(w->quiet))
		return;
	now = vp_now_ms();
	if (r->event_ms && now - r->event_ms < w->event_ms)
		return;
	__atomic_store_n(&w->peer[r->self].in_event, true, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&w->event_peers, __ATOMIC_SEQ_CST) &
	    VP_BIT(r->self))
		event(&r->p, r->events++);
	__atomic_store_n(&w->peer[r->self].in_event, false, __ATOMIC_SEQ_CST);
	w->peer[r->self].events = r->events;
	r->event_ms = vp_now_ms();
}

static struct runner run;

void vp_drain(struct vp_peer *p)
{
	unsigned int q;

	for (q = 0; q < p->cfg.queues; q++) {
		while (vp_rx(p, q, RX_BUDGET, on_frame, &run))
			;
		vp_tx_reclaim(p, q);
	}
}

static bool is_calm(const struct vp_world *w)
{
	return READ_ONCE(w->calm) && !READ_ONCE(w->waiting) &&
	       !READ_ONCE(w->quiet);
}

/* Frames wait; the parent does not. */
static void rest(const struct runner *r)
{
	struct pollfd pfd = { r->w->wake[r->self], POLLIN, 0 };

	poll(&pfd, 1, CALM_MS);
}

void vp_run_peer(struct vp_world *w, unsigned int i, const struct vp_cfg *cfg)
{
	struct vp_peer_shm *shm = &w->peer[i];
	struct runner *r = &run;
	unsigned int q, n, loops = 0;
	int ret;

	memset(r, 0, sizeof(*r));
	r->w = w;
	r->self = i;
	ret = vp_open(&r->p, cfg, i);
	if (ret == -EOPNOTSUPP)
		_exit(KTAP_SKIP);
	ret = ret ?: vp_start(&r->p);
	if (ret)
		ktap_fail("peer %u does not start: %s", i, strerror(-ret));
	vp_rand_init(&r->p.rnd, i + 100 * w->peer[i].tx_frames);
	for (n = 0; n < w->n; n++) {
		for (q = 0; q < VP_MAX_SUB; q++) {
			r->born[n][q] = w->flow[i][n][q].sent;
			if (w->lossy[i] || w->lossy[n])
				r->base[n][q] = r->born[n][q];
		}
	}
	strcpy(shm->tap, r->p.tap);
	WRITE_ONCE(shm->state, VP_S_READY);
	while (!READ_ONCE(w->stop)) {
		n = 0;
		watch_time(r);
		for (q = 0; q < cfg->queues; q++) {
			n += vp_rx(&r->p, q, RX_BUDGET, on_frame, r);
			if (r->p.running)
				vp_ring_kick(&r->p.qp[q].rx);
		}
		n += send_all(r);
		if (!n || !(++loops % 32))
			run_event(r);
		if (n && is_calm(w)) {
			rest(r);
			run_event(r);
		}
		if (!n) {
			watch_flows(r);
			if (r->p.cfg.spin && !READ_ONCE(w->quiet))
				sched_yield();
			else
				nap(r);
		}
	}
	shm->bad_used += vp_bad_used(&r->p);
	shm->errors += vp_ring_errors(&r->p);
	shm->dropped = vp_link_dropped(shm->tap);
	WRITE_ONCE(shm->state, VP_S_ENDED);
	vp_close(&r->p);
	_exit(0);
}

/* ---- the parent ---- */

static struct vp_world *newest;

struct vp_world *vp_world_new(unsigned int n, const char *bridge,
			      unsigned int mtu)
{
	struct vp_world *w;
	unsigned int i;

	w = mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (w == MAP_FAILED)
		ktap_fail("mmap: %s", strerror(errno));
	newest = w;
	w->n = n;
	w->quiet = true;
	w->traffic = (struct vp_traffic) {
		.min = VP_FRAME_MIN, .max = 1514, .window = 64,
	};
	for (i = 0; i < n; i++)
		w->wake[i] = eventfd(0, EFD_NONBLOCK);
	if (bridge)
		vp_bridge_add(bridge, mtu);
	return w;
}

void vp_world_calm(struct vp_world *w, bool calm)
{
	const char *s = getenv("CROSSTALK_CALM");

	WRITE_ONCE(w->calm, calm && s && *s);
}

void vp_world_mesh(struct vp_world *w)
{
	unsigned int i, j;

	for (i = 0; i < w->n; i++)
		for (j = 0; j < w->n; j++)
			w->send[i][j] = i != j;
}

void vp_spawn(struct vp_world *w, unsigned int i, const struct vp_cfg *cfg)
{
	struct vp_peer_shm *shm = &w->peer[i];
	pid_t pid;

	w->queues = vp_max(w->queues, cfg->queues);
	shm->state = VP_S_STARTING;
	shm->waiting = false;
	shm->quieted = false;
	shm->in_event = false;
	pid = fork();
	if (pid < 0)
		ktap_fail("fork: %s", strerror(errno));
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		(w->run[i] ?: vp_run_peer)(w, i, cfg);
	}
	shm->pid = pid;
}

void vp_alive(struct vp_world *w)
{
	unsigned int i;
	int status;

	for (i = 0; i < w->n; i++) {
		pid_t pid = w->peer[i].pid;

		if (!pid || waitpid(pid, &status, WNOHANG) != pid)
			continue;
		w->peer[i].pid = 0;
		if (WIFEXITED(status) && WEXITSTATUS(status) == KTAP_SKIP)
			ktap_skip("the machine has no such memory");
		if (WIFSIGNALED(status))
			ktap_fail("peer %u was killed by signal %d", i,
				  WTERMSIG(status));
		ktap_fail("peer %u ended (%d)", i, WEXITSTATUS(status));
	}
}

static void wake_all(struct vp_world *w)
{
	unsigned int i;

	for (i = 0; i < w->n; i++)
		if (w->peer[i].pid)
			wake(w, i);
}

void vp_unloading(bool on)
{
	if (!newest)
		return;

	WRITE_ONCE(newest->unload_ms, on ? vp_now_ms() : 0);
	if (!on)
		wake_all(newest);
}

void vp_wait_ready(struct vp_world *w)
{
	u64 end = vp_now_ms() + 20000 * vp_slowness();
	unsigned int i;

	for (i = 0; i < w->n; i++) {
		while (w->peer[i].pid &&
		       READ_ONCE(w->peer[i].state) != VP_S_READY) {
			vp_alive(w);
			if (vp_now_ms() > end)
				ktap_fail("peer %u does not get ready", i);
			vp_sleep_ms(1);
		}
		if (w->peer[i].pid)
			WRITE_ONCE(w->peer[i].dead, false);
	}
}

void vp_go(struct vp_world *w)
{
	unsigned int i;

	for (i = 0; i < w->n; i++)
		w->peer[i].quieted = false;
	WRITE_ONCE(w->quiet, false);
	wake_all(w);
}

void vp_resume(struct vp_world *w)
{
	vp_go(w);
}

u64 vp_total(struct vp_world *w)
{
	unsigned int i;
	u64 n = 0;

	for (i = 0; i < w->n; i++)
		n += READ_ONCE(w->peer[i].rx_frames);
	return n;
}

static bool strict(struct vp_world *w, unsigned int i, unsigned int j)
{
	return w->send[i][j] && !w->lossy[i] && !w->lossy[j];
}

static bool exact(struct vp_world *w, unsigned int i, unsigned int j)
{
	return strict(w, i, j) && !w->crowded[j];
}

static u64 flow_total(struct vp_world *w, unsigned int i, unsigned int j)
{
	unsigned int q;
	u64 n = 0;

	for (q = 0; q < VP_MAX_SUB; q++)
		n += flow_acked(&w->flow[i][j][q]);
	return n;
}

/* Give the peers the time to say what they see, then fail. */
static void stuck(struct vp_world *w, const char *what, unsigned int i,
		  unsigned int j, u64 is)
{
	__atomic_add_fetch(&w->dump, 1, __ATOMIC_RELAXED);
	wake_all(w);
	vp_sleep_ms(500);
	ktap_fail("%s: flow %u->%u stands at %llu (taps dropped %llu and %llu)",
		  what, i, j, is, vp_link_dropped(w->peer[i].tap),
		  vp_link_dropped(w->peer[j].tap));
}

void vp_wait_frames(struct vp_world *w, u64 frames)
{
	static u64 start[VP_MAX_PEERS][VP_MAX_PEERS];
	u64 limit = 2 * STALL_MS * vp_slowness();
	unsigned int i, j;

	w->waiting++;
	wake_all(w);
	for (i = 0; i < w->n; i++)
		for (j = 0; j < w->n; j++)
			start[i][j] = flow_total(w, i, j);
	for (i = 0; i < w->n; i++) {
		for (j = 0; j < w->n; j++) {
			u64 end = vp_now_ms() + limit, last = 0, is;

			while (strict(w, i, j)) {
				is = flow_total(w, i, j);
				if (is - start[i][j] >= frames)
					break;
				if (is != last)
					end = vp_now_ms() + limit;
				last = is;
				if (vp_now_ms() > end)
					stuck(w, "no progress", i, j, is);
				vp_alive(w);
				vp_sleep_ms(2);
			}
		}
	}
	w->waiting--;
}

void vp_wait_events(struct vp_world *w, u64 events)
{
	u64 end = vp_now_ms() + 60000 * vp_slowness(), from[VP_MAX_PEERS];
	unsigned int i;

	w->waiting++;
	wake_all(w);
	for (i = 0; i < w->n; i++)
		from[i] = READ_ONCE(w->peer[i].events);
	for (i = 0; i < w->n; i++) {
		while (w->event_peers & VP_BIT(i) &&
		       READ_ONCE(w->peer[i].events) - from[i] < events) {
			vp_alive(w);
			if (vp_now_ms() > end)
				ktap_fail("peer %u: only %llu of %llu events",
					  i, w->peer[i].events - from[i],
					  events);
			vp_sleep_ms(2);
		}
	}
	w->waiting--;
}

void vp_stop_events(struct vp_world *w, unsigned int i)
{
	__atomic_and_fetch(&w->event_peers, ~(u32)VP_BIT(i), __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&w->peer[i].in_event, __ATOMIC_SEQ_CST)) {
		vp_alive(w);
		vp_sleep_ms(1);
	}
}

void vp_quiesce(struct vp_world *w)
{
	u64 end = vp_now_ms() + 2 * STALL_MS * vp_slowness();
	unsigned int i, j, q;

	WRITE_ONCE(w->quiet, true);
	wake_all(w);
	for (i = 0; i < w->n; i++) {
		while (w->peer[i].pid && !READ_ONCE(w->peer[i].quieted)) {
			vp_alive(w);
			if (vp_now_ms() > end)
				stuck(w, "frames sent are never completed", i,
				      i, 0);
			vp_sleep_ms(1);
		}
	}
	for (i = 0; i < w->n; i++) {
		for (j = 0; j < w->n; j++) {
			for (q = 0; exact(w, i, j) && q < VP_MAX_SUB; q++) {
				struct vp_flow *f = &w->flow[i][j][q];

				while (!is_loose(w, q) &&
				       flow_acked(f) != f->sent) {
					vp_alive(w);
					if (vp_now_ms() > end)
						stuck(w, "lost at the end", i,
						      j, flow_acked(f));
					vp_sleep_ms(1);
				}
			}
		}
	}
}

void vp_forgive(struct vp_world *w)
{
	unsigned int i, j, q;
	u64 before;

	/* What is still on its way may come as late as it likes. */
	do {
		before = vp_total(w);
		vp_sleep_ms(FORGIVE_MS);
	} while (vp_total(w) != before);
	for (i = 0; i < w->n; i++) {
		w->lossy[i] = false;
		for (j = 0; j < w->n; j++) {
			for (q = 0; q < VP_MAX_SUB; q++) {
				struct vp_flow *f = &w->flow[i][j][q];

				WRITE_ONCE(f->forgiven, f->sent);
				f->lost = 0;
			}
		}
	}
}

void vp_check(struct vp_world *w)
{
	unsigned int i, j, q, bad = 0;

	for (i = 0; i < w->n; i++) {
		struct vp_peer_shm *s = &w->peer[i];

		if (s->corrupt || s->missed_calls || s->stalls || s->bad_used ||
		    s->errors) {
			bad++;
			ktap_msg("peer %u: corrupt %llu, lost calls %llu, stalls %llu, bad used elements %llu, device errors %llu",
				 i, s->corrupt, s->missed_calls, s->stalls,
				 s->bad_used, s->errors);
		}
		for (j = 0; j < w->n; j++) {
			for (q = 0; q < VP_MAX_SUB; q++) {
				struct vp_flow *f = &w->flow[i][j][q];
				bool loose = is_loose(w, q);
				bool whole = exact(w, i, j) && !loose;

				if (!(f->dup || (f->reordered && !loose) ||
				      (whole && f->lost)))
					continue;
				bad++;
				ktap_msg("flow %u->%u.%u: sent %llu, received %llu, lost %llu, twice %llu, out of order %llu; taps dropped %llu and %llu",
					 i, j, q, f->sent, f->rcvd, f->lost,
					 f->dup, f->reordered, s->dropped,
					 w->peer[j].dropped);
			}
		}
	}
	if (bad)
		ktap_fail("frames or notifications are wrong");
}

/*
 * A tap with several queues has 256 queueing disciplines, and a kernel with
 * lockdep waits for RCU before it destroys each of them: 7 s a tap.
 */
static void hurry(const struct vp_world *w, bool on)
{
	if (w->queues > 1)
		vp_write_file("/sys/kernel/rcu_expedited", on ? "1" : "0");
}

void vp_finish(struct vp_world *w)
{
	unsigned int i;
	int status;

	vp_quiesce(w);
	hurry(w, true);
	WRITE_ONCE(w->stop, true);
	wake_all(w);
	for (i = 0; i < w->n; i++) {
		if (!w->peer[i].pid)
			continue;
		if (waitpid(w->peer[i].pid, &status, 0) < 0 || status)
			ktap_fail("peer %u ended with status %x", i, status);
		w->peer[i].pid = 0;
	}
	hurry(w, false);
	vp_check(w);
}

void vp_kill(struct vp_world *w, unsigned int i)
{
	int status;

	WRITE_ONCE(w->peer[i].dead, true);
	kill(w->peer[i].pid, SIGKILL);
	waitpid(w->peer[i].pid, &status, 0);
	w->peer[i].pid = 0;
	w->peer[i].state = VP_S_NONE;
	if (!WIFSIGNALED(status))
		ktap_fail("peer %u had ended before (%d)", i,
			  WEXITSTATUS(status));
}
