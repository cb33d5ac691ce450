// SPDX-License-Identifier: GPL-2.0
/*
 * The direct path, which is off by default: frames arrive whole and in order by
 * it, and while flows change between it and the bridge; what the bridge is told
 * to do takes effect; guests come, go and die.
 */
#include <stdio.h>
#include <unistd.h>

#include "ctl.h"
#include "ktap.h"
#include "vpeer.h"

/*
 * A verdict holds for 60 ms; the rest is the time that an emulated machine may
 * take to let this program run.
 */
#define EFFECT_MS 250

static void need_direct(void)
{
	ctl_need_loaded();
	ktap_assert(!ctl_write("direct", "1"), "cannot switch it on");
}

static u64 sum(const struct vp_world *w, const char *counter)
{
	unsigned int ep[CTL_MAX_EP];
	unsigned int i, k, n;
	u64 total = 0;

	for (i = 0; i < w->n; i++) {
		n = ctl_find(w->peer[i].tap, ep, CTL_MAX_EP);
		for (k = 0; k < n; k++)
			total += ctl_ep_num(ep[k], counter);
	}
	return total;
}

/* The last guest is the @victim, if there is to be one. */
static struct vp_world *start_with(unsigned int peers, const struct vp_cfg *c,
				   const struct vp_traffic *t, bool victim)
{
	struct vp_world *w;
	unsigned int i;

	need_direct();
	w = vp_world_new(peers, c->bridge, 0);
	vp_world_mesh(w);
	if (t)
		w->traffic = *t;
	w->lossy[peers - 1] = victim;
	for (i = 0; i < peers; i++)
		vp_spawn(w, i, c);
	vp_wait_ready(w);
	ctl_wait_world(w, c->queues);
	vp_go(w);
	return w;
}

static struct vp_world *start(unsigned int peers, const struct vp_cfg *c,
			      const struct vp_traffic *t)
{
	return start_with(peers, c, t, false);
}

/* Until frames go the direct path; the case fails when they never do. */
static void wait_fast(const struct vp_world *w)
{
	u64 before = sum(w, "tx_fast_packets");
	unsigned int i;

	for (i = 0; i < 1000; i++) {
		if (sum(w, "tx_fast_packets") != before)
			return;
		vp_sleep_ms(10);
	}
	ktap_assert(false, "nothing goes the direct path");
}

static void finish(struct vp_world *w)
{
	u64 fast, all;

	vp_quiesce(w);
	ctl_check_counters(w);
	fast = sum(w, "tx_fast_packets");
	all = sum(w, "tx_packets");
	ktap_assert(fast + sum(w, "tx_slow_packets") == all,
		    "frames are counted once");
	ktap_assert(fast == sum(w, "rx_fast_packets"),
		    "sent and received differ");
	vp_finish(w);
	ktap_msg("%llu of %llu frames by the direct path", fast, all);
	ctl_need_unloaded();
}

static void run(unsigned int peers, const struct vp_cfg *c,
		const struct vp_traffic *t, u64 frames)
{
	struct vp_world *w = start(peers, c, t);

	wait_fast(w);
	vp_wait_frames(w, frames);
	finish(w);
}

static void plain(void)
{
	struct vp_cfg c;

	vp_cfg_default(&c);
	run(2, &c, NULL, ktap_count("CROSSTALK_FRAMES", 20000, 2000));
}

static void layouts(void)
{
	struct vp_traffic t = {
		.kinds = VP_BIT(VP_UDP4) | VP_BIT(VP_TCP4) | VP_BIT(VP_TCP6),
		.min = 60, .max = 1514, .window = 32,
	};
	struct vp_cfg c;

	vp_cfg_default(&c);
	c.features = VP_F_MRG | VP_F_INDIRECT;
	c.indirect = 50;
	c.tx_chain = 4;
	c.tx_layout = VP_LAYOUT_RANDOM;
	c.rx_buf = 1024;
	run(3, &c, &t, ktap_count("CROSSTALK_FRAMES", 5000, 500));
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
	run(2, &c, &t, ktap_count("CROSSTALK_FRAMES", 1000, 100));
}

static void ping_pong(void)
{
	struct vp_traffic t = { .min = 60, .max = 200, .window = 1 };
	struct vp_cfg c;

	vp_cfg_default(&c);
	run(2, &c, &t, ktap_count("CROSSTALK_FRAMES", 5000, 500));
}

static void mesh(void)
{
	struct vp_traffic t = { .min = 60, .max = 1514, .window = 16 };
	struct vp_cfg c;

	vp_cfg_default(&c);
	c.rx_num = 128;
	c.tx_num = 128;
	run(ktap_quick() ? 4 : 8, &c, &t,
	    ktap_count("CROSSTALK_FRAMES", 300, 50));
}

/* What an operator does to the bridge or to the second guest's tap. */
static const struct {
	const char *name;
	const char *on;
	const char *off;
} policies[] = {
	{ "promiscuous bridge", "ip link set %s promisc on",
	  "ip link set %s promisc off" },
	{ "neighbour suppression", "bridge link set dev %s neigh_suppress on",
	  "bridge link set dev %s neigh_suppress off" },
	{ "VLAN statistics",
	  "ip link set %s type bridge vlan_filtering 1 vlan_stats_enabled 1",
	  "ip link set %s type bridge vlan_filtering 0 vlan_stats_enabled 0" },
};

static void policy(void)
{
	const char *target[VP_ARRAY_SIZE(policies)];
	struct vp_world *w;
	struct vp_cfg c;
	unsigned int i;
	u64 fast;

	vp_cfg_default(&c);
	w = start(2, &c, NULL);
	target[0] = c.bridge;
	target[1] = w->peer[1].tap;
	target[2] = c.bridge;
	for (i = 0; i < VP_ARRAY_SIZE(policies); i++) {
		wait_fast(w);
		ktap_assert(!vp_cmd(policies[i].on, target[i]), "%s",
			    policies[i].name);
		vp_sleep_ms(EFFECT_MS);
		fast = sum(w, "tx_fast_packets");
		vp_sleep_ms(EFFECT_MS);
		vp_wait_frames(w, 10);
		ktap_assert(sum(w, "tx_fast_packets") == fast,
			    "%s: frames still pass beside it",
			    policies[i].name);
		ktap_assert(!vp_cmd(policies[i].off, target[i]), "%s",
			    policies[i].name);
	}
	wait_fast(w);
	finish(w);
}

/* Flows that change the path every few milliseconds keep their order. */
static void changes(void)
{
	struct vp_traffic t = { .min = 60, .max = 1514, .window = 32 };
	unsigned int n = ktap_count("CROSSTALK_CYCLES", 100, 10);
	struct vp_world *w;
	struct vp_cfg c;
	unsigned int i;

	vp_cfg_default(&c);
	w = start(3, &c, &t);
	for (i = 0; i < n; i++) {
		ctl_write("direct", i & 1 ? "1" : "0");
		vp_sleep_ms(5 + i % 20);
	}
	ctl_write("direct", "1");
	wait_fast(w);
	finish(w);
}

static void reload(void)
{
	unsigned int n = ktap_count("CROSSTALK_CYCLES", 20, 1);
	struct vp_world *w;
	struct vp_cfg c;
	unsigned int i;

	vp_cfg_default(&c);
	w = start(2, &c, NULL);
	for (i = 0; i < n; i++) {
		wait_fast(w);
		ctl_need_unloaded();
		vp_wait_frames(w, w->traffic.window + 10);
		need_direct();
		ctl_wait_world(w, c.queues);
	}
	wait_fast(w);
	vp_finish(w);
	ctl_need_unloaded();
}

/* A receiver dies with frames on their way to it; the others go on. */
static void killed(void)
{
	unsigned int n = ktap_count("CROSSTALK_KILLS", 10, 1);
	struct vp_world *w;
	struct vp_cfg c;
	unsigned int i;

	vp_cfg_default(&c);
	for (i = 0; i < n; i++) {
		w = start_with(3, &c, NULL, true);
		wait_fast(w);
		vp_kill(w, 2);
		ctl_wait_gone(w->peer[2].tap);
		vp_wait_frames(w, 100);
		vp_finish(w);
	}
	ctl_need_unloaded();
}

static const struct ktap_case cases[] = {
	{ "plain", plain },
	{ "layouts", layouts },
	{ "big", big },
	{ "ping_pong", ping_pong },
	{ "mesh", mesh },
	{ "policy", policy },
	{ "changes", changes },
	{ "reload", reload, 100 },
	{ "killed", killed, 100 },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
