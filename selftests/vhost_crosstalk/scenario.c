// SPDX-License-Identifier: GPL-2.0
#include <stdio.h>

#include "ctl.h"
#include "direct.h"
#include "ktap.h"
#include "scenario.h"

static void setup(const struct scenario *s, const struct vp_world *w)
{
	char cmd[512];

	if (!s->setup)
		return;
	snprintf(cmd, sizeof(cmd), s->setup, w->peer[0].tap, w->peer[1].tap);
	ktap_assert(!vp_cmd("%s", cmd), "%s", cmd);
}

/* The slow path alone, and nobody has asked for another one. */
static void check_slow(const struct vp_world *w)
{
	unsigned int ep[CTL_MAX_EP], i, k, n;
	char verdicts[256];

	ktap_assert(!direct_sum(w, "tx_fast_packets") &&
		    !direct_sum(w, "rx_fast_packets"), "frames are direct");
	ktap_assert(direct_sum(w, "tx_slow_packets") ==
		    direct_sum(w, "tx_packets"), "frames are not counted");
	for (i = 0; i < w->n; i++) {
		n = ctl_find(w->peer[i].tap, ep, CTL_MAX_EP);
		for (k = 0; k < n; k++) {
			verdicts[0] = 0;
			ctl_ep_read(ep[k], "verdicts", verdicts,
				    sizeof(verdicts));
			ktap_assert(!verdicts[0], "a verdict: %s", verdicts);
		}
	}
}

/* Nothing lost, the module's counters exact, nothing left behind. */
void scenario_unequal(struct vp_cfg *a, struct vp_cfg *b)
{
	vp_cfg_default(a);
	*b = *a;
	a->features = VP_F_EVENT;
	a->tx_num = 1024;
	a->rx_chain = 2;
	a->rx_layout = VP_LAYOUT_HDR;
	b->mem = VP_MEM_MEMFD;
	b->rx_num = 64;
	b->rx_buf = 256;
	b->tx_num = 32;
	b->tx_layout = VP_LAYOUT_MANY;
	b->tx_chain = 8;
}

void scenario_run(const struct scenario *s)
{
	unsigned int i, n = s->peers ?: 2;
	struct vp_world *w;

	if (s->plain)
		ctl_need_unloaded();
	else
		ctl_need_loaded();
	if (s->slow)
		ktap_assert(!ctl_write("direct", "0"), "direct");
	w = vp_world_new(n, s->cfg->bridge, s->cfg->mtu);
	vp_world_mesh(w);
	if (s->traffic.max)
		w->traffic = s->traffic;
	for (i = 0; i < n; i++)
		vp_spawn(w, i, i && s->other ? s->other : s->cfg);
	vp_wait_ready(w);
	if (!s->plain)
		ctl_wait_world(w, s->cfg->queues);
	setup(s, w);
	vp_go(w);
	vp_wait_frames(w, s->frames);
	vp_quiesce(w);
	if (!s->plain)
		ctl_check_counters(w);
	if (s->slow)
		check_slow(w);
	vp_finish(w);
	if (!s->plain)
		ctl_wait_none();
}
