// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel around the module fails: no memory while it attaches, probes
 * that are switched off under it.  Guests go on, on plain vhost-net if need
 * be, and the module can be unloaded cleanly.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "ctl.h"
#include "fail.h"
#include "ktap.h"
#include "vpeer.h"

#define KPROBES		"/sys/kernel/debug/kprobes/enabled"

static struct vp_world *traffic(struct vp_cfg *c, unsigned int n)
{
	struct vp_world *w;
	unsigned int i;

	vp_cfg_default(c);
	w = vp_world_new(n, c->bridge, 0);
	vp_world_mesh(w);
	vp_world_calm(w, true);
	for (i = 0; i < n; i++)
		vp_spawn(w, i, c);
	vp_wait_ready(w);
	vp_go(w);
	vp_wait_frames(w, 50);
	return w;
}

/* Each allocation on the way to an endpoint fails in turn. */
static void nomem_attach(void)
{
	unsigned int nth, missed = 0, fails = 0;
	bool probes = !access(KPROBES, F_OK), failed;
	struct vp_cfg c;
	struct vp_peer p;
	int scan;

	fail_setup(FAIL_SLAB);
	ctl_need_loaded();
	fail_open();
	scan = open(CTL_ROOT "/scan", O_WRONLY);
	ktap_assert(scan >= 0, "scan");
	vp_cfg_default(&c);
	c.rx_num = 16;
	c.tx_num = 16;
	vp_bridge_add(c.bridge, 0);
	for (nth = 1; nth < 1000; nth += ktap_quick() ? 13 : 1) {
		ktap_assert(!vp_open(&p, &c, 0), "peer");
		if (!probes)
			ktap_assert(!vp_start(&p), "start");
		fail_nth(nth);
		if (probes) {
			struct vhost_vring_file rx = { VP_VQ_RX, p.qp[0].tap };
			struct vhost_vring_file tx = { VP_VQ_TX, p.qp[0].tap };

			ioctl(p.qp[0].vhost, VHOST_NET_SET_BACKEND, &rx);
			ioctl(p.qp[0].vhost, VHOST_NET_SET_BACKEND, &tx);
		}
		if (write(scan, "1", 1) != 1)
			fails++;
		failed = failed_nth();
		missed += !ctl_count();
		/* The device works, and the next look finds it. */
		if (probes)
			ktap_assert(!vp_start(&p), "start");
		ctl_scan();
		ctl_wait(p.tap, 1, NULL);
		vp_close(&p);
		ctl_wait_none();
		if (!failed)
			break;
	}
	ktap_msg("%u allocations, %u times the device was missed, %u times an error",
		 nth, missed, fails);
	ktap_assert(nth < 1000, "there is no end of allocations");
	close(scan);
	ctl_need_unloaded();
}

/* Allocations of loading the module, with devices that wait for it. */
static void nomem_load(void)
{
	unsigned int i, n = ktap_count("CROSSTALK_CYCLES", 40, 2), loaded = 0;
	struct vp_rand rnd;
	struct vp_world *w;
	struct vp_cfg c;
	bool failed;
	int ret;

	fail_setup(FAIL_SLAB);
	ctl_need_unloaded();
	fail_open();
	vp_rand_init(&rnd, 0);
	w = traffic(&c, 3);
	for (i = 0; i < n; i++) {
		fail_nth(vp_rand_in(&rnd, 1, 600));
		ret = ctl_load("");
		failed = failed_nth();
		if (ret) {
			ktap_assert(failed, "load: %s", strerror(-ret));
			ktap_assert(!ctl_loaded(), "half loaded");
		} else {
			loaded++;
			vp_wait_frames(w, 5);
			ctl_scan();
			ktap_assert(ctl_count() == 3, "%u endpoints",
				    ctl_count());
		}
		vp_wait_frames(w, 5);
		ctl_need_unloaded();
	}
	ktap_msg("loaded %u times of %u", loaded, n);
	vp_finish(w);
}

static unsigned int peer_nth;

static void ev_attach_nomem(struct vp_peer *p, u64 n)
{
	struct vhost_vring_file rx = { VP_VQ_RX, p->qp[0].tap };
	struct vhost_vring_file tx = { VP_VQ_TX, p->qp[0].tap };

	if (!n)
		fail_open();
	if (vp_stop(p))
		ktap_fail("stop");
	vp_drain(p);
	fail_nth(1 + peer_nth++ % 30);
	ioctl(p->qp[0].vhost, VHOST_NET_SET_BACKEND, &rx);
	ioctl(p->qp[0].vhost, VHOST_NET_SET_BACKEND, &tx);
	failed_nth();
	/* Both again, in case that vhost itself had no memory. */
	if (vp_start(p))
		ktap_fail("start");
}

/* Random failures in all that guests and the module do at the same time. */
static void nomem_random(void)
{
	struct vp_world *w;
	struct vp_cfg c;
	unsigned int i;

	fail_setup(FAIL_SLAB);
	ctl_need_loaded();
	vp_cfg_default(&c);
	w = vp_world_new(2, c.bridge, 0);
	vp_world_mesh(w);
	vp_world_calm(w, true);
	w->event = ev_attach_nomem;
	w->event_ms = 5;
	w->event_peers = 3;
	for (i = 0; i < 2; i++)
		vp_spawn(w, i, &c);
	vp_wait_ready(w);
	vp_go(w);
	for (i = 0; i < ktap_count("CROSSTALK_CYCLES", 10, 1); i++) {
		vp_wait_events(w, 6);
		ctl_need_unloaded();
		vp_wait_events(w, 6);
		ctl_need_loaded();
	}
	vp_finish(w);
	ctl_need_unloaded();
}

static const char *no_kprobes(void)
{
	return access(KPROBES, W_OK) ? "has no kprobes in debugfs" : NULL;
}

/* Devices come, run and go while no probe works. */
static void kprobes_off(void)
{
	unsigned int i, k;
	struct vp_world *w;
	struct vp_cfg c;

	for (k = 0; k < ktap_count("CROSSTALK_CYCLES", 6, 2); k++) {
		ctl_need_loaded();
		vp_write_file(KPROBES, "0");
		w = traffic(&c, 2);
		if (k & 1) {
			ctl_scan();
			ktap_assert(ctl_count() == 2, "%u endpoints",
				    ctl_count());
		}
		vp_wait_frames(w, 50);
		if (k & 2)
			vp_write_file(KPROBES, "1");
		vp_finish(w);
		ctl_wait_none();
		ctl_need_unloaded();
		vp_write_file(KPROBES, "1");
	}
	/* Switched off between attach and close, and at unload. */
	ctl_need_loaded();
	w = traffic(&c, 3);
	ctl_wait_world(w, 1);
	for (i = 0; i < (ktap_quick() ? 2 : 5); i++) {
		vp_write_file(KPROBES, i & 1 ? "1" : "0");
		vp_wait_frames(w, 20);
		ctl_need_unloaded();
		vp_wait_frames(w, 20);
		ctl_need_loaded();
		ktap_assert(ctl_count() == 3, "%u endpoints", ctl_count());
	}
	vp_write_file(KPROBES, "0");
	w->lossy[0] = true;
	vp_kill(w, 0);
	ctl_wait_gone(w->peer[0].tap);
	vp_write_file(KPROBES, "1");
	vp_finish(w);
	ctl_wait_none();
	ctl_need_unloaded();
}

static const struct ktap_case cases[] = {
	{ "nomem_attach", nomem_attach, 200, false, fail_lacks },
	{ "nomem_load", nomem_load, 100, false, fail_lacks },
	{ "nomem_random", nomem_random, .lacks = fail_lacks, .slow = true },
	{ "kprobes_off", kprobes_off, .lacks = no_kprobes },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
