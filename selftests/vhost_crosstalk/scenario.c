// SPDX-License-Identifier: GPL-2.0
#include <stdio.h>

#include "ctl.h"
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

/* Nothing lost, the module's counters exact, nothing left behind. */
void scenario_run(const struct scenario *s)
{
	unsigned int i, n = s->peers ?: 2;
	struct vp_world *w;

	if (s->plain)
		ctl_need_unloaded();
	else
		ctl_need_loaded();
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
	vp_finish(w);
	ktap_assert(s->plain || !ctl_count(), "%u endpoints are left",
		    ctl_count());
}
