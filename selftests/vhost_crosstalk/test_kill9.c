// SPDX-License-Identifier: GPL-2.0
/* Guests that die in the middle of everything; the others go on. */
#include <string.h>

#include "ctl.h"
#include "ktap.h"
#include "vpeer.h"

#define VICTIM	2

static void victim(bool reload)
{
	unsigned int i, n = ktap_count("CROSSTALK_KILLS", 25, 2);
	struct vp_world *w;
	struct vp_cfg c;
	char tap[16];

	if (reload)
		n /= 2;
	ctl_need_loaded();
	vp_cfg_default(&c);
	w = vp_world_new(3, c.bridge, 0);
	vp_world_mesh(w);
	w->lossy[VICTIM] = true;
	vp_spawn(w, 0, &c);
	vp_spawn(w, 1, &c);
	vp_wait_ready(w);
	ctl_wait_world(w, 1);
	vp_go(w);
	for (i = 0; i < n; i++) {
		u64 before = w->peer[VICTIM].rx_frames;
		u64 end = vp_now_ms() + 10000 * vp_slowness();

		vp_world_calm(w, true);
		vp_spawn(w, VICTIM, &c);
		vp_wait_ready(w);
		strcpy(tap, w->peer[VICTIM].tap);
		if (reload && i & 1)
			ctl_need_unloaded();
		else
			ctl_need_loaded();
		if (ctl_loaded())
			ctl_wait(tap, 1, NULL);
		vp_world_calm(w, false);
		while (READ_ONCE(w->peer[VICTIM].rx_frames) < before + 50) {
			ktap_assert(vp_now_ms() < end,
				    "the victim receives nothing");
			vp_sleep_ms(1);
		}
		vp_kill(w, VICTIM);
		vp_world_calm(w, true);
		if (ctl_loaded()) {
			ctl_wait_gone(tap);
			ktap_assert(ctl_count() == 2, "%u endpoints",
				    ctl_count());
		}
		vp_wait_frames(w, 100);
	}
	vp_finish(w);
	if (ctl_loaded())
		ctl_wait_none();
}

static void under_traffic(void)
{
	victim(false);
}

static void with_reload(void)
{
	victim(true);
}

/* Killed while it stops, starts and resets its device. */
static void ev_restart(struct vp_peer *p, u64 n)
{
	if (n & 1) {
		vp_stop(p);
		vp_drain(p);
		vp_start(p);
	} else {
		vp_reset_owner(p);
		vp_start(p);
	}
}

static void in_ioctl(void)
{
	unsigned int i, n = ktap_count("CROSSTALK_KILLS", 25, 2);
	struct vp_world *w;
	struct vp_cfg c;

	ctl_need_loaded();
	vp_cfg_default(&c);
	w = vp_world_new(3, c.bridge, 0);
	vp_world_mesh(w);
	w->lossy[VICTIM] = true;
	w->event = ev_restart;
	w->event_ms = 1;
	w->event_peers = 1 << VICTIM;
	vp_spawn(w, 0, &c);
	vp_spawn(w, 1, &c);
	vp_wait_ready(w);
	ctl_wait_world(w, 1);
	vp_go(w);
	for (i = 0; i < n; i++) {
		vp_spawn(w, VICTIM, &c);
		vp_wait_ready(w);
		ctl_wait(w->peer[VICTIM].tap, 1, NULL);
		vp_sleep_ms(5 + 3 * i);
		vp_kill(w, VICTIM);
		ctl_wait_gone(w->peer[VICTIM].tap);
		vp_wait_frames(w, 20);
	}
	vp_finish(w);
	ctl_wait_none();
}

/* All at once. */
static void everybody(void)
{
	struct vp_world *w;
	unsigned int i, k;
	struct vp_cfg c;

	ctl_need_loaded();
	vp_cfg_default(&c);
	for (k = 0; k < ktap_count("CROSSTALK_KILLS", 10, 1); k++) {
		w = vp_world_new(4, c.bridge, 0);
		vp_world_mesh(w);
		for (i = 0; i < 4; i++)
			vp_spawn(w, i, &c);
		vp_wait_ready(w);
		ctl_wait_world(w, 1);
		vp_go(w);
		vp_wait_frames(w, 50);
		for (i = 0; i < 4; i++)
			vp_kill(w, i);
		for (i = 0; i < 4; i++)
			ctl_wait_gone(w->peer[i].tap);
		vp_check(w);
	}
	ctl_wait_none();
	ctl_need_unloaded();
}

static const struct ktap_case cases[] = {
	{ "under_traffic", under_traffic, 100 },
	{ "with_reload", with_reload, 100 },
	{ "in_ioctl", in_ioctl, 100 },
	{ "everybody", everybody, .slow = true },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
