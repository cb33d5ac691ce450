// SPDX-License-Identifier: GPL-2.0
/*
 * Loading and unloading the module again and again under traffic in all
 * directions: nothing may be lost, corrupted, reordered or forgotten.
 */
#include <string.h>

#include "ctl.h"
#include "ktap.h"
#include "vpeer.h"

/* One in so many is under full traffic, if the machine has others to serve. */
#define CALM_CYCLES 4
#define COUNT_MS 10000

/*
 * A worker that is in vhost-net's own loop when it is hooked stays there until
 * its ring is empty, or for 256 frames, more than were waited for.
 */
static void wait_counted(struct vp_world *w, unsigned int ep, unsigned int cycle)
{
	u64 end = vp_now_ms() + COUNT_MS * vp_slowness();

	while (!ctl_ep_num(ep, "tx_packets")) {
		ktap_assert(vp_now_ms() < end, "cycle %u: nothing was counted",
			    cycle);
		vp_wait_frames(w, 10);
	}
}

static void cycles(unsigned int peers, unsigned int n, struct vp_traffic *t,
		   struct vp_cfg *c)
{
	struct vp_world *w;
	unsigned int i, k, ep;

	ctl_need_unloaded();
	w = vp_world_new(peers, c->bridge, 0);
	vp_world_mesh(w);
	if (t)
		w->traffic = *t;
	for (i = 0; i < peers; i++)
		vp_spawn(w, i, c);
	vp_wait_ready(w);
	vp_go(w);
	for (k = 0; k < n; k++) {
		/* 200 cycles may take half an hour. */
		if (ktap_is_late()) {
			vp_finish(w);
			ktap_msg("%u of %u cycles", k, n);
			ktap_skip(KTAP_LATE);
		}
		vp_world_calm(w, k % CALM_CYCLES);
		ctl_need_loaded();
		ktap_assert(ctl_count() == peers * c->queues,
			    "cycle %u: %u endpoints", k, ctl_count());
		/* More than were under way before. */
		vp_wait_frames(w, w->traffic.window + 10);
		/* Every other cycle is as short as can be. */
		if (k & 1) {
			ctl_need_unloaded();
			continue;
		}
		ctl_wait(w->peer[0].tap, c->queues, NULL);
		if (c->queues == 1) {
			ctl_wait(w->peer[0].tap, 1, &ep);
			wait_counted(w, ep, k);
		}
		ctl_need_unloaded();
		vp_wait_frames(w, 10);
	}
	vp_finish(w);
	ktap_msg("%u cycles, %llu frames", n, vp_total(w));
}

static void two(void)
{
	struct vp_cfg c;

	vp_cfg_default(&c);
	cycles(2, ktap_count("CROSSTALK_RELOADS", 200, 3), NULL, &c);
}

/* Three guests that differ, with frames of all sizes. */
static void mixed(void)
{
	struct vp_traffic t = {
		.kinds = VP_BIT(VP_RAW) | VP_BIT(VP_TCP4) | VP_BIT(VP_TCP6),
		.min = 60, .max = 1514, .window = 32,
	};
	struct vp_cfg c;

	vp_cfg_default(&c);
	c.features = VP_F_MRG | VP_F_INDIRECT;
	c.indirect = 50;
	c.tx_chain = 4;
	c.tx_layout = VP_LAYOUT_RANDOM;
	c.rx_buf = 1024;
	cycles(3, ktap_count("CROSSTALK_CYCLES", 40, 2) / 2, &t, &c);
}

static void big(void)
{
	struct vp_traffic t = {
		.kinds = VP_BIT(VP_TCP4), .min = 20000, .max = 65000,
		.window = 8,
	};
	struct vp_cfg c;

	vp_cfg_default(&c);
	c.tx_buf = 65535;
	c.tx_num = 32;
	cycles(2, ktap_count("CROSSTALK_CYCLES", 20, 2) / 2, &t, &c);
}

/* One frame at a time: every notification counts. */
static void ping_pong(void)
{
	struct vp_traffic t = { .min = 60, .max = 200, .window = 1 };
	struct vp_cfg c;

	vp_cfg_default(&c);
	cycles(2, ktap_count("CROSSTALK_CYCLES", 40, 2) / 2, &t, &c);
}

static void queues(void)
{
	struct vp_traffic t = {
		.kinds = VP_BIT(VP_UDP4), .min = 60, .max = 1514, .window = 16,
	};
	struct vp_cfg c;

	vp_cfg_default(&c);
	c.queues = 3;
	cycles(2, ktap_count("CROSSTALK_CYCLES", 20, 2) / 2, &t, &c);
}

/* Nothing of loading goes on when it has returned, so unloading works at once. */
static void at_once(void)
{
	unsigned int k, n = ktap_count("CROSSTALK_CYCLES", 20, 3);
	struct vp_world *w;
	struct vp_cfg c;
	int ret;

	ctl_need_unloaded();
	vp_cfg_default(&c);
	w = vp_world_new(1, c.bridge, 0);
	vp_spawn(w, 0, &c);
	vp_wait_ready(w);
	for (k = 0; k < n; k++) {
		ktap_assert(!ctl_load(""), "cycle %u: load", k);
		ret = ctl_unload();
		ktap_assert(!ret, "cycle %u: unload: %s", k, strerror(-ret));
	}
	vp_finish(w);
}

static const struct ktap_case cases[] = {
	{ "at_once", at_once, 100, .slow = true },
	{ "two", two, 300 },
	{ "mixed", mixed, 100, .slow = true },
	{ "big", big, 100, .slow = true },
	{ "ping_pong", ping_pong, 100, .slow = true },
	{ "queues", queues, 100, true },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
