// SPDX-License-Identifier: GPL-2.0
/*
 * The direct path, which is off by default: frames arrive whole and in order by
 * it, and while flows change between it and the bridge; what the bridge is told
 * to do takes effect; guests come, go and die.
 */
#include "ctl.h"
#include "direct.h"
#include "ktap.h"
#include "vpeer.h"

/* By when a change of the bridge's configuration has taken effect. */
#define EFFECT_MS 100

static void finish(struct vp_world *w)
{
	direct_finish(w);
	ctl_need_unloaded();
}

static void run(unsigned int peers, const struct vp_cfg *c,
		const struct vp_traffic *t, u64 frames)
{
	struct vp_world *w = direct_start(peers, c, t, false);

	direct_wait(w);
	vp_wait_frames(w, frames);
	finish(w);
}

static void plain(void)
{
	struct vp_cfg c;

	vp_cfg_default(&c);
	run(2, &c, NULL, ktap_count("CROSSTALK_FRAMES", 20000, 500));
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
	run(3, &c, &t, ktap_count("CROSSTALK_FRAMES", 5000, 300));
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
	run(2, &c, &t, ktap_count("CROSSTALK_FRAMES", 5000, 300));
}

/* Tables of several pages, which lie anywhere. */
static void long_rings(void)
{
	struct vp_traffic t = { .min = 60, .max = 1514, .window = 900 };
	struct vp_cfg c;

	vp_cfg_default(&c);
	c.rx_num = 1024;
	c.tx_num = 1024;
	c.scatter = true;
	run(2, &c, &t, ktap_count("CROSSTALK_FRAMES", 20000, 3000));
}

/* The same with a sender that looks for more before it asks for a kick. */
static void busy_poll(void)
{
	ctl_need_loaded();
	ktap_assert(!ctl_write("busy_poll_us", "200"), "busy_poll_us");
	ping_pong();
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
	u64 fast, since;

	vp_cfg_default(&c);
	w = direct_start(2, &c, NULL, false);
	target[0] = c.bridge;
	target[1] = w->peer[1].tap;
	target[2] = c.bridge;
	for (i = 0; i < VP_ARRAY_SIZE(policies); i++) {
		direct_wait(w);
		ktap_assert(!vp_cmd(policies[i].on, target[i]), "%s",
			    policies[i].name);
		/* A verdict ends by jiffies, not by a clock on the wall. */
		since = vp_tick_ms();
		while (vp_tick_ms() - since <= EFFECT_MS)
			vp_sleep_ms(5);
		/* What was under way by then has arrived, and is counted. */
		vp_wait_frames(w, w->traffic.window + 10);
		fast = direct_sum(w, "tx_fast_packets");
		vp_wait_frames(w, 2 * w->traffic.window);
		ktap_assert(direct_sum(w, "tx_fast_packets") == fast,
			    "%s: frames still pass beside it",
			    policies[i].name);
		ktap_assert(!vp_cmd(policies[i].off, target[i]), "%s",
			    policies[i].name);
	}
	direct_wait(w);
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
	w = direct_start(3, &c, &t, false);
	for (i = 0; i < n; i++) {
		ctl_write("direct", i & 1 ? "1" : "0");
		vp_sleep_ms(5 + i % 20);
	}
	ctl_write("direct", "1");
	direct_wait(w);
	finish(w);
}

static void reload(void)
{
	unsigned int n = ktap_count("CROSSTALK_CYCLES", 20, 1);
	struct vp_world *w;
	struct vp_cfg c;
	unsigned int i;

	vp_cfg_default(&c);
	w = direct_start(2, &c, NULL, false);
	for (i = 0; i < n; i++) {
		direct_wait(w);
		ctl_need_unloaded();
		vp_wait_frames(w, w->traffic.window + 10);
		direct_on();
		ctl_wait_world(w, c.queues);
	}
	direct_wait(w);
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
		w = direct_start(3, &c, NULL, true);
		direct_wait(w);
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
	{ "long_rings", long_rings },
	{ "busy_poll", busy_poll, .slow = true },
	{ "mesh", mesh, .slow = true },
	{ "policy", policy, .slow = true },
	{ "changes", changes },
	{ "reload", reload, 100 },
	{ "killed", killed, 100, .slow = true },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
