// SPDX-License-Identifier: GPL-2.0
/*
 * Order and integrity: frames of mixed sizes between 2, 3 and 8 guests, in all
 * directions, while flows are made to change between the direct path and the
 * bridge every few milliseconds.  Every byte is checked; no frame may be lost,
 * because no queue on the way can overflow (see vpeer_run.c); none may overtake
 * another one of its flow.
 *
 * CROSSTALK_ORDER_FRAMES is the number of frames of all three cases together.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "ctl.h"
#include "direct.h"
#include "ktap.h"
#include "vpeer.h"

#define FULL	9000000
#define QUICK	20000
#define STUCK_MS 20000

struct order {
	struct vp_world *w;
	const char *bridge;
	struct vp_rand rnd;
	char sys[32];		/* sysfs of this name space */
	int watcher;		/* a packet socket, or -1 */
	unsigned int isolated;	/* port that is, or VP_MAX_PEERS */
};

static void net_write(struct order *o, const char *dev, const char *attr,
		      const char *text)
{
	char path[128];
	int ret;

	snprintf(path, sizeof(path), "%s/class/net/%s/%s", o->sys, dev, attr);
	ret = vp_write_file(path, text);
	ktap_assert(!ret, "%s: %s: %s", path, text, strerror(-ret));
}

static const char *any_tap(struct order *o)
{
	return o->w->peer[vp_rand_in(&o->rnd, 0, o->w->n - 1)].tap;
}

static const char *on_off(struct order *o)
{
	return vp_rand(&o->rnd) & 1 ? "1" : "0";
}

/* ---- what changes the path, and does not break it ---- */

static void c_direct(struct order *o)
{
	ctl_write("direct", on_off(o));
}

static void c_endpoint(struct order *o)
{
	unsigned int ep;

	if (ctl_find(any_tap(o), &ep, 1) == 1)
		ctl_ep_write(ep, "enable", on_off(o));
}

/* As tcpdump does, on a guest's interface or on the bridge. */
static void c_watcher(struct order *o)
{
	if (o->watcher >= 0) {
		close(o->watcher);
		o->watcher = -1;
		return;
	}
	o->watcher = vp_packet_open(vp_rand(&o->rnd) & 1 ? o->bridge :
				    any_tap(o));
	ktap_assert(o->watcher >= 0, "packet socket: %s",
		    strerror(-o->watcher));
}

static void c_hairpin(struct order *o)
{
	net_write(o, any_tap(o), "brport/hairpin_mode", on_off(o));
}

static void c_suppress(struct order *o)
{
	net_write(o, any_tap(o), "brport/neigh_suppress", on_off(o));
}

/* One isolated port still reaches all the others. */
static void c_isolated(struct order *o)
{
	if (o->isolated < o->w->n) {
		net_write(o, o->w->peer[o->isolated].tap, "brport/isolated",
			  "0");
		o->isolated = VP_MAX_PEERS;
		return;
	}
	o->isolated = vp_rand_in(&o->rnd, 0, o->w->n - 1);
	net_write(o, o->w->peer[o->isolated].tap, "brport/isolated", "1");
}

static void c_cost(struct order *o)
{
	net_write(o, any_tap(o), "brport/path_cost",
		  vp_rand(&o->rnd) & 1 ? "10" : "20");
}

/* The bridge forgets everybody, and floods until it has learned again. */
static void c_flush(struct order *o)
{
	net_write(o, o->bridge, "bridge/flush", "1");
}

static void c_vlan(struct order *o)
{
	net_write(o, o->bridge, "bridge/vlan_filtering", on_off(o));
}

static void c_promisc(struct order *o)
{
	/* IFF_UP, IFF_BROADCAST, IFF_MULTICAST, and IFF_PROMISC or not */
	net_write(o, o->bridge, "flags",
		  vp_rand(&o->rnd) & 1 ? "0x1103" : "0x1003");
}

/* A short memory of the bridge: frames are sent that way to refresh it. */
static void c_ageing(struct order *o)
{
	net_write(o, o->bridge, "bridge/ageing_time",
		  vp_rand(&o->rnd) & 1 ? "20" : "30000");
}

static const struct {
	void (*change)(struct order *o);
	unsigned int weight;
} changes[] = {
	{ c_direct, 8 },
	{ c_endpoint, 8 },
	{ c_watcher, 4 },
	{ c_hairpin, 1 },
	{ c_suppress, 2 },
	{ c_isolated, 2 },
	{ c_cost, 1 },
	{ c_flush, 1 },
	{ c_vlan, 1 },
	{ c_promisc, 2 },
	{ c_ageing, 1 },
};

static void change(struct order *o)
{
	unsigned int i, all = 0, at;

	for (i = 0; i < VP_ARRAY_SIZE(changes); i++)
		all += changes[i].weight;
	at = vp_rand_in(&o->rnd, 0, all - 1);
	for (i = 0; at >= changes[i].weight; i++)
		at -= changes[i].weight;
	changes[i].change(o);
}

/* All back to where frames can take the direct path. */
static void settle(struct order *o)
{
	unsigned int i, ep;

	ctl_write("direct", "1");
	for (i = 0; i < o->w->n; i++) {
		const char *tap = o->w->peer[i].tap;

		if (ctl_find(tap, &ep, 1) == 1)
			ctl_ep_write(ep, "enable", "1");
		net_write(o, tap, "brport/hairpin_mode", "0");
		net_write(o, tap, "brport/neigh_suppress", "0");
		net_write(o, tap, "brport/isolated", "0");
	}
	o->isolated = VP_MAX_PEERS;
	net_write(o, o->bridge, "bridge/vlan_filtering", "0");
	net_write(o, o->bridge, "bridge/ageing_time", "30000");
	net_write(o, o->bridge, "flags", "0x1003");
	if (o->watcher >= 0)
		close(o->watcher);
	o->watcher = -1;
}

static void mount_sysfs(struct order *o)
{
	ktap_assert(mkdtemp(o->sys), "%s: %s", o->sys, strerror(errno));
	ktap_assert(!mount("sysfs", o->sys, "sysfs", 0, NULL), "sysfs: %s",
		    strerror(errno));
}

/* Where a frame that was lost is counted, if it is. */
static void show_drops(struct order *o)
{
	u64 errors = direct_sum(o->w, "tx_errors");
	unsigned int i;

	for (i = 0; i < o->w->n; i++) {
		const char *tap = o->w->peer[i].tap;

		if (vp_link_dropped(tap))
			ktap_msg("%s: %llu dropped", tap, vp_link_dropped(tap));
	}
	if (vp_link_dropped(o->bridge) || errors)
		ktap_msg("%s: %llu dropped; tx_errors %llu", o->bridge,
			 vp_link_dropped(o->bridge), errors);
}

static void order(unsigned int peers, u32 window, unsigned int share)
{
	u64 frames = ktap_count("CROSSTALK_ORDER_FRAMES", FULL, QUICK);
	struct vp_traffic t = {
		.kinds = VP_BIT(VP_RAW) | VP_BIT(VP_UDP4) | VP_BIT(VP_TCP4) |
			 VP_BIT(VP_TCP6),
		.min = 60, .max = 1514, .window = window, .small_half = true,
		.big = 30000, .big_one_in = 100,
	};
	u64 total, last = 0, seen_ms, began = vp_now_ms(), calm;
	struct order o = {
		.watcher = -1, .isolated = VP_MAX_PEERS,
		.sys = "/tmp/vpsys-XXXXXX",
	};
	unsigned int n = 0;
	struct vp_cfg c;
	u64 fast, ms;

	frames = frames * share / 100;
	vp_rand_init(&o.rnd, 1000 + peers);
	vp_cfg_default(&c);
	c.tx_buf = 32768;
	c.tx_num = 128;
	o.bridge = c.bridge;
	o.w = direct_start(peers, &c, &t, false);
	mount_sysfs(&o);
	seen_ms = vp_now_ms();
	for (;;) {
		vp_alive(o.w);
		total = vp_total(o.w);
		if (total >= frames)
			break;
		if (total != last)
			seen_ms = vp_now_ms();
		last = total;
		ktap_assert(vp_now_ms() - seen_ms < STUCK_MS * vp_slowness(),
			    "nothing moves since frame %llu", total);
		/* Mostly a few ms; now and then long enough to be fast. */
		calm = vp_rand_in(&o.rnd, 0, 7);
		vp_sleep_ms(calm ? calm : vp_rand_in(&o.rnd, 20, 150));
		change(&o);
		n++;
		if (n % 64 == 0)
			settle(&o);
	}
	settle(&o);
	direct_wait(o.w);
	/*
	 * On a machine that lets this program or the module wait, few changes
	 * are made while many frames pass, and they may all have found the
	 * direct path closed.
	 */
	direct_wait_frames(o.w, frames / 100);
	ms = vp_now_ms() - began;
	ktap_msg("%u guests: %llu frames, %u changes, %llu rests, %llu frames/s",
		 peers, vp_total(o.w), n, direct_sum(o.w, "tx_settles"),
		 vp_total(o.w) * 1000 / ms);
	/* A loaded machine's frames are old enough to need no rest. */
	ktap_assert(n < 20 || (direct_sum(o.w, "tx_fast_packets") &&
			       direct_sum(o.w, "tx_slow_packets")),
		    "all frames took the same path");
	vp_quiesce(o.w);
	show_drops(&o);
	fast = direct_end(o.w);
	ktap_assert(fast > frames / 100, "only %llu by the direct path", fast);
	umount(o.sys);
	rmdir(o.sys);
	ctl_need_unloaded();
}

static void two(void)
{
	order(2, 64, 40);
}

static void three(void)
{
	order(3, 32, 35);
}

static void eight(void)
{
	order(8, 8, 25);
}

static const struct ktap_case cases[] = {
	{ "two", two, 400 },
	{ "three", three, 400, .slow = true },
	{ "eight", eight, 400, .slow = true },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
