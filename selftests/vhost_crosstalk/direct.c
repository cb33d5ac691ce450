// SPDX-License-Identifier: GPL-2.0
#include <string.h>

#include "ctl.h"
#include "direct.h"
#include "ktap.h"

#define WAIT_MS 10000

void direct_on(void)
{
	ctl_need_loaded();
	ktap_assert(!ctl_write("direct", "1"), "cannot switch it on");
}

void direct_patience(void)
{
	if (vp_slowness() > 1)
		ktap_assert(!ctl_write("backpressure_us", "1000000"),
			    "cannot be patient");
}

u64 direct_sum(const struct vp_world *w, const char *counter)
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

struct vp_world *direct_start(unsigned int peers, const struct vp_cfg *c,
			      const struct vp_traffic *t, bool victim)
{
	struct vp_world *w;
	unsigned int i;

	direct_on();
	w = vp_world_new(peers, c->bridge, c->mtu);
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

static void tell_endpoint(const char *tap, unsigned int ep)
{
	char text[4096] = "", *line;

	ktap_msg("%s, ep%u: of %llu frames %llu fast, settled %llu times, waited %llu times",
		 tap, ep, ctl_ep_num(ep, "tx_packets"),
		 ctl_ep_num(ep, "tx_fast_packets"),
		 ctl_ep_num(ep, "tx_settles"), ctl_ep_num(ep, "tx_parks"));
	ctl_ep_read(ep, "verdicts", text, sizeof(text));
	for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		ktap_msg("%s", line);
}

void direct_tell(const struct vp_world *w)
{
	unsigned int ep[CTL_MAX_EP];
	unsigned int i, k, n;

	for (i = 0; i < w->n; i++) {
		n = ctl_find(w->peer[i].tap, ep, CTL_MAX_EP);
		for (k = 0; k < n; k++)
			tell_endpoint(w->peer[i].tap, ep[k]);
	}
}

void direct_wait(const struct vp_world *w)
{
	u64 end = vp_now_ms() + WAIT_MS * vp_slowness();
	u64 before = direct_sum(w, "tx_fast_packets");

	while (direct_sum(w, "tx_fast_packets") == before) {
		if (vp_now_ms() >= end) {
			direct_tell(w);
			ktap_fail("nothing goes the direct path");
		}
		vp_sleep_ms(10);
	}
}

void direct_wait_frames(struct vp_world *w, u64 frames)
{
	u64 end = vp_now_ms() + 2 * WAIT_MS * vp_slowness();
	u64 fast;

	while (fast = direct_sum(w, "tx_fast_packets"), fast <= frames) {
		vp_alive(w);
		ktap_assert(vp_now_ms() < end, "only %llu by the direct path",
			    fast);
		vp_sleep_ms(10);
	}
}

u64 direct_end(struct vp_world *w)
{
	u64 fast, all;

	vp_quiesce(w);
	fast = direct_sum(w, "tx_fast_packets");
	all = direct_sum(w, "tx_packets");
	ktap_assert(fast + direct_sum(w, "tx_slow_packets") == all,
		    "frames are counted once");
	ktap_assert(fast == direct_sum(w, "rx_fast_packets"),
		    "sent and received differ");
	vp_finish(w);
	ktap_msg("%llu of %llu frames by the direct path", fast, all);
	return fast;
}

u64 direct_finish(struct vp_world *w)
{
	vp_quiesce(w);
	ctl_check_counters(w);
	return direct_end(w);
}
