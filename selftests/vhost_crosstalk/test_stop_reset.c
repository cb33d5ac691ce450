// SPDX-License-Identifier: GPL-2.0
/*
 * What QEMU does to a running device: stop and start, reset, other rings,
 * other memory, other features, dirty logging; all of it under traffic, with
 * nothing lost.
 */
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"
#include "direct.h"
#include "ktap.h"
#include "vpeer.h"

static void must(int ret, const char *what)
{
	if (ret)
		ktap_fail("%s: %s", what, ret < 0 ? strerror(-ret) :
			  "the rings do not agree");
}

static void stop(struct vp_peer *p)
{
	must(vp_stop(p), "stop");
	vp_drain(p);
}

static void ev_stop(struct vp_peer *p, u64 n)
{
	(void)n;
	stop(p);
	must(vp_start(p), "start");
}

/* One ring only, as after a queue reset. */
static void ev_one_ring(struct vp_peer *p, u64 n)
{
	unsigned int vq = n & 1;

	must(vp_set_backend(p, 0, vq, -1), "backend");
	vp_drain(p);
	must(vp_set_backend(p, 0, vq, p->qp[0].tap), "backend");
	vp_ring_kick_anyway(vq ? &p->qp[0].tx : &p->qp[0].rx);
}

static void ev_move(struct vp_peer *p, u64 n)
{
	(void)n;
	stop(p);
	must(vp_move_rings(p), "move");
	must(vp_start(p), "start");
}

static void ev_reset(struct vp_peer *p, u64 n)
{
	(void)n;
	must(vp_reset_owner(p), "RESET_OWNER");
	must(vp_start(p), "start");
}

static void ev_memory(struct vp_peer *p, u64 n)
{
	must(vp_set_mem(p, !(n & 1)), "SET_MEM_TABLE");
}

static void ev_log(struct vp_peer *p, u64 n)
{
	if (n & 1)
		must(vp_log_off(p), "log off");
	else
		must(vp_log_on(p), "log on");
}

/* The guest reboots into a driver that wants other features. */
static void ev_features(struct vp_peer *p, u64 n)
{
	static const u64 f[] = {
		0, VP_F_MRG, VP_F_DEFAULT, VP_F_MODERN | VP_F_EVENT,
		VP_F_MRG | VP_F_INDIRECT,
	};
	unsigned int i;

	for (i = 0; vp_ring_inflight(&p->qp[0].tx); i++) {
		if (i > 2000 * vp_slowness())
			ktap_fail("frames are never completed");
		vp_sleep_ms(1);
		vp_drain(p);
	}
	stop(p);
	must(vp_reconfigure(p, f[n % VP_ARRAY_SIZE(f)]), "features");
	must(vp_start(p), "start");
}

static void ev_any(struct vp_peer *p, u64 n)
{
	static vp_event_fn * const ev[] = {
		ev_stop, ev_one_ring, ev_move, ev_reset, ev_memory, ev_log,
		ev_features,
	};

	ev[vp_rand_in(&p->rnd, 0, VP_ARRAY_SIZE(ev) - 1)](p, n);
}

static void under_traffic(vp_event_fn *event, unsigned int n)
{
	struct vp_traffic t = {
		.kinds = VP_BIT(VP_RAW) | VP_BIT(VP_TCP4),
		.min = 60, .max = 1514, .window = 32,
	};
	unsigned int i, ep;
	struct vp_world *w;
	struct vp_cfg c;

	ctl_need_loaded();
	vp_cfg_default(&c);
	c.indirect = 30;
	c.tx_chain = 3;
	c.tx_layout = VP_LAYOUT_RANDOM;
	w = vp_world_new(3, c.bridge, 0);
	vp_world_mesh(w);
	w->traffic = t;
	w->event = event;
	w->event_ms = 5;
	w->event_peers = 3;		/* the third one is only disturbed */
	for (i = 0; i < 3; i++)
		vp_spawn(w, i, &c);
	vp_wait_ready(w);
	ctl_wait_world(w, 1);
	vp_go(w);
	vp_wait_events(w, n);
	vp_quiesce(w);
	/* The same endpoints are still there, and work. */
	ctl_wait_world(w, 1);
	w->event = NULL;
	vp_resume(w);
	vp_wait_frames(w, 100);
	vp_quiesce(w);
	for (i = 0; i < 3; i++) {
		ctl_wait(w->peer[i].tap, 1, &ep);
		ctl_wait_state(ep, "hooked", "none");
		ktap_assert(ctl_ep_num(ep, "tx_packets"), "no packets");
	}
	ctl_check_counters(w);
	vp_finish(w);
	ctl_wait_none();
}

#define EVENTS	ktap_count("CROSSTALK_EVENTS", 60, 4)

static void stop_start(void)
{
	under_traffic(ev_stop, EVENTS);
}

static void one_ring(void)
{
	under_traffic(ev_one_ring, EVENTS);
}

static void move_rings(void)
{
	under_traffic(ev_move, EVENTS);
}

static void reset_owner(void)
{
	under_traffic(ev_reset, EVENTS);
}

static void set_mem_table(void)
{
	under_traffic(ev_memory, EVENTS);
}

static void dirty_log(void)
{
	under_traffic(ev_log, EVENTS);
}

/* ---- the dirty log has all that was written to a guest ---- */

#define LOG_FRAMES	100
#define LOG_MS		10000
#define LOG_PAGE	4096

enum { SENDER, RECEIVER };

struct logged {
	struct vp_peer p[2];
	unsigned int sender_ep;
	u64 seq;
	unsigned int n;
	struct vp_seg got[LOG_FRAMES];	/* where frames came to lie, and headers */
};

static void log_frame(struct vp_peer *p, unsigned int q, const u8 *frame,
		      u32 len, const struct virtio_net_hdr_v1 *h, void *arg)
{
	const struct vp_region *r = &p->mem.region[0];
	struct logged *l = arg;
	struct vp_frame fr;
	char why[160];

	(void)q;
	/* The host's own frames, to groups, are written as well. */
	if (l->n < LOG_FRAMES)
		l->got[l->n++] = (struct vp_seg) {
			r->gpa + (frame - r->hva) - p->hlen, len + p->hlen,
		};
	if (vp_frame_check(frame, len, h, true, p->index, &fr, why,
			   sizeof(why)) == VP_FRAME_OK)
		l->seq = fr.seq;
}

/* Returns whether the frame took the direct path. */
static bool log_send(struct logged *l, unsigned int from)
{
	u64 fast = ctl_ep_num(l->sender_ep, "tx_fast_packets");
	u64 end = vp_now_ms() + LOG_MS * vp_slowness();
	struct vp_flow_id id = { from, !from, 0, 0 };
	struct vp_ring *tx = &l->p[from].qp[0].tx;
	u64 seq = l->seq + 1;

	ktap_assert(vp_tx(&l->p[from], 0, VP_RAW, id, seq, 1000, 0) > 0, "tx");
	vp_ring_kick(tx);
	while (l->seq != seq || vp_ring_inflight(tx)) {
		ktap_assert(vp_now_ms() < end, "frame %llu is lost", seq);
		vp_rx(&l->p[!from], 0, LOG_FRAMES, log_frame, l);
		vp_ring_kick(&l->p[!from].qp[0].rx);
		vp_tx_reclaim(&l->p[from], 0);
		sched_yield();
	}
	return ctl_ep_num(l->sender_ep, "tx_fast_packets") != fast;
}

static void log_until_fast(struct logged *l)
{
	u64 end = vp_now_ms() + LOG_MS * vp_slowness();

	while (!log_send(l, SENDER))
		ktap_assert(vp_now_ms() < end, "no direct path");
}

static bool is_logged(const struct vp_peer *p, u64 gpa)
{
	return ((const u8 *)p->log)[gpa / LOG_PAGE / 8] &
	       VP_BIT(gpa / LOG_PAGE % 8);
}

static void log_has(const struct vp_peer *p, u64 gpa, u32 len, const char *what)
{
	u64 at;

	for (at = gpa & ~(LOG_PAGE - 1ULL); at < gpa + len; at += LOG_PAGE)
		ktap_assert(is_logged(p, at),
			    "%s at %llx was written, and page %llx is not in the log",
			    what, gpa, at);
}

static void log_pages(void)
{
	unsigned int i, k, fast = 0;
	struct vp_ring *rx;
	struct vp_cfg c;
	struct logged l = {};

	direct_on();
	vp_cfg_default(&c);
	vp_world_new(1, c.bridge, 0);
	for (i = 0; i < 2; i++)
		ktap_assert(!vp_open(&l.p[i], &c, i) && !vp_start(&l.p[i]),
			    "peer");
	ctl_wait(l.p[SENDER].tap, 1, &l.sender_ep);
	ctl_wait(l.p[RECEIVER].tap, 1, NULL);
	log_send(&l, RECEIVER);
	rx = &l.p[RECEIVER].qp[0].rx;
	for (k = 0; k < 3; k++) {
		log_until_fast(&l);
		must(vp_log_on(&l.p[RECEIVER]), "log on");
		l.n = 0;
		while (l.n < LOG_FRAMES)
			fast += log_send(&l, SENDER);
		/* Whoever writes to the log has finished after that. */
		must(vp_log_off(&l.p[RECEIVER]), "log off");
		for (i = 0; i < l.n; i++)
			log_has(&l.p[RECEIVER], l.got[i].gpa, l.got[i].len,
				"a frame");
		log_has(&l.p[RECEIVER], rx->used_gpa, 4, "the used index");
	}
	ktap_assert(!fast, "%u frames were direct", fast);
	vp_close(&l.p[SENDER]);
	vp_close(&l.p[RECEIVER]);
}

static void new_features(void)
{
	under_traffic(ev_features, EVENTS);
}

static void everything(void)
{
	under_traffic(ev_any, 2 * EVENTS);
}

/* All of that while the module comes and goes. */
static void everything_reload(void)
{
	struct vp_world *w;
	struct vp_cfg c;
	unsigned int i;

	ctl_need_loaded();
	vp_cfg_default(&c);
	w = vp_world_new(2, c.bridge, 0);
	vp_world_mesh(w);
	w->event = ev_any;
	w->event_ms = 3;
	w->event_peers = 3;
	for (i = 0; i < 2; i++)
		vp_spawn(w, i, &c);
	vp_wait_ready(w);
	vp_go(w);
	for (i = 0; i < ktap_count("CROSSTALK_CYCLES", 20, 1); i++) {
		ctl_need_unloaded();
		vp_wait_events(w, 3);
		ctl_need_loaded();
		vp_wait_events(w, 3);
	}
	vp_finish(w);
	ctl_wait_none();
}

static const struct ktap_case cases[] = {
	{ "stop_start", stop_start },
	{ "one_ring", one_ring },
	{ "move_rings", move_rings },
	{ "reset_owner", reset_owner },
	{ "set_mem_table", set_mem_table },
	{ "dirty_log", dirty_log },
	{ "log_pages", log_pages },
	{ "new_features", new_features },
	{ "everything", everything },
	{ "everything_reload", everything_reload, 120, .slow = true },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
