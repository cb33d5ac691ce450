// SPDX-License-Identifier: GPL-2.0
/*
 * What QEMU does to a running device: stop and start, reset, other rings,
 * other memory, other features, dirty logging; all of it under traffic, with
 * nothing lost.
 */
#include <string.h>
#include <unistd.h>

#include "ctl.h"
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
	ktap_assert(!ctl_count(), "%u endpoints are left", ctl_count());
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
	ktap_assert(!ctl_count(), "%u endpoints are left", ctl_count());
}

static const struct ktap_case cases[] = {
	{ "stop_start", stop_start },
	{ "one_ring", one_ring },
	{ "move_rings", move_rings },
	{ "reset_owner", reset_owner },
	{ "set_mem_table", set_mem_table },
	{ "dirty_log", dirty_log },
	{ "new_features", new_features },
	{ "everything", everything },
	{ "everything_reload", everything_reload, 120, .slow = true },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
