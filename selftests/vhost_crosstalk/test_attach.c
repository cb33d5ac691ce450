// SPDX-License-Identifier: GPL-2.0
/* Finding devices, before and after they start, and what sysfs says of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/userfaultfd.h>

#include "ctl.h"
#include "ktap.h"
#include "vpeer.h"

#define FRAMES	ktap_count("CROSSTALK_FRAMES", 3000, 200)

/*
 * A worker goes on in the loop that it is in (vhost-net's, or the module's) until
 * its ring is empty, or for 256 frames; as many again may be in queues.
 */
#define OLD_LOOP	600

static struct vp_world *start(struct vp_cfg *c, unsigned int n)
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
	return w;
}

/* Every attribute of a working endpoint. */
static void before_start(void)
{
	static const char * const numbers[] = {
		"tx_packets", "tx_bytes", "tx_slow_packets", "tx_errors",
		"tx_kicks", "rx_kicks", "tx_batches", "tx_notify",
	};
	unsigned int i, k, ep;
	struct vp_world *w;
	struct vp_cfg c;
	char buf[256], want[64];

	ctl_need_loaded();
	w = start(&c, 2);
	ctl_wait_world(w, 1);
	vp_go(w);
	vp_wait_frames(w, FRAMES);
	vp_quiesce(w);
	ctl_check_counters(w);
	for (i = 0; i < 2; i++) {
		ctl_wait(w->peer[i].tap, 1, &ep);
		ktap_assert((pid_t)ctl_ep_num(ep, "pid") == w->peer[i].pid,
			    "pid %llu of peer %d", ctl_ep_num(ep, "pid"),
			    w->peer[i].pid);
		ktap_assert(ctl_ep_num(ep, "features") == c.features,
			    "features %#llx", ctl_ep_num(ep, "features"));
		ktap_assert(ctl_ep_num(ep, "enable") == 1, "enable");
		ctl_ep_read(ep, "macs", buf, sizeof(buf));
		snprintf(want, sizeof(want), "52:54:00:76:70:%02x", i);
		ktap_assert(!strcmp(buf, want), "macs \"%s\"", buf);
		for (k = 0; k < VP_ARRAY_SIZE(numbers); k++) {
			u64 v = ctl_ep_num(ep, numbers[k]);

			ktap_msg("%s %s %llu", w->peer[i].tap, numbers[k], v);
		}
		ktap_assert(ctl_ep_num(ep, "tx_slow_packets") +
			    ctl_ep_num(ep, "tx_fast_packets") ==
			    ctl_ep_num(ep, "tx_packets"), "slow and fast");
		ktap_assert(ctl_ep_num(ep, "tx_kicks") &&
			    ctl_ep_num(ep, "rx_kicks") &&
			    ctl_ep_num(ep, "tx_batches"), "kicks, batches");
	}
	vp_finish(w);
	for (i = 0; i < 2; i++)
		ctl_wait_gone(w->peer[i].tap);
	ctl_wait_none();
}

static void after_start(void)
{
	struct vp_world *w;
	struct vp_cfg c;
	unsigned int i, ep;

	ctl_need_unloaded();
	w = start(&c, 3);
	vp_go(w);
	vp_wait_frames(w, 100);
	ctl_need_loaded();
	/* Found by loading alone, without a scan. */
	ktap_assert(ctl_count() == 3, "%u endpoints", ctl_count());
	ctl_wait_world(w, 1);
	vp_wait_frames(w, FRAMES + OLD_LOOP);
	for (i = 0; i < 3; i++) {
		ctl_wait(w->peer[i].tap, 1, &ep);
		ktap_assert(ctl_ep_num(ep, "tx_packets") >= FRAMES,
			    "ep%u: %llu", ep, ctl_ep_num(ep, "tx_packets"));
	}
	ctl_need_unloaded();
	vp_wait_frames(w, FRAMES);
	ctl_need_loaded();
	ctl_wait_world(w, 1);
	vp_wait_frames(w, FRAMES);
	vp_finish(w);
	ctl_wait_none();
}

/* A scan finds each device once, however often it is done. */
static void scan_again(void)
{
	struct vp_world *w;
	struct vp_cfg c;
	unsigned int i;

	ctl_need_loaded();
	w = start(&c, 2);
	ctl_wait_world(w, 1);
	vp_go(w);
	for (i = 0; i < 20; i++) {
		ctl_scan();
		ktap_assert(ctl_count() == 2, "%u endpoints", ctl_count());
		vp_wait_frames(w, 10);
	}
	vp_finish(w);
}

/* The switches, under traffic. */
static void enable(void)
{
	struct vp_world *w;
	unsigned int i, ep[2];
	struct vp_cfg c;
	u64 n;

	ctl_need_loaded();
	w = start(&c, 2);
	ctl_wait_world(w, 1);
	ctl_wait(w->peer[0].tap, 1, &ep[0]);
	ctl_wait(w->peer[1].tap, 1, &ep[1]);
	vp_go(w);
	for (i = 0; i < (ktap_quick() ? 2 : 10); i++) {
		vp_wait_frames(w, 100);
		ktap_assert(!ctl_write("enable", "0"), "enable");
		vp_wait_frames(w, OLD_LOOP);
		ctl_wait_state(ep[0], "disabled", NULL);
		n = ctl_ep_num(ep[0], "tx_packets");
		vp_wait_frames(w, 200);
		ktap_assert(ctl_ep_num(ep[0], "tx_packets") == n,
			    "ep%u counts while it is disabled", ep[0]);
		ktap_assert(!ctl_write("enable", "1"), "enable");
		vp_wait_frames(w, OLD_LOOP);
		ctl_wait_state(ep[0], "hooked", "none");
		ktap_assert(ctl_ep_num(ep[0], "tx_packets") > n,
			    "ep%u does not count", ep[0]);

		ktap_assert(!ctl_ep_write(ep[0], "enable", "0"), "ep enable");
		vp_wait_frames(w, 200);
		ctl_wait_state(ep[0], "disabled", NULL);
		ctl_wait_state(ep[1], "hooked", "none");
		ktap_assert(!ctl_ep_write(ep[0], "enable", "1"), "ep enable");
	}
	vp_finish(w);
}

static void rename_dev(void)
{
	struct vp_world *w;
	struct vp_cfg c;
	unsigned int ep;
	char buf[64];

	ctl_need_loaded();
	w = start(&c, 2);
	ctl_wait_world(w, 1);
	ctl_wait(w->peer[0].tap, 1, &ep);
	ktap_assert(!vp_cmd("ip link set %s down && ip link set %s name othername && ip link set othername up",
			    w->peer[0].tap, w->peer[0].tap), "ip");
	ctl_ep_read(ep, "dev", buf, sizeof(buf));
	ktap_assert(!strcmp(buf, "othername"), "dev \"%s\"", buf);
	vp_go(w);
	vp_wait_frames(w, 100);
	vp_finish(w);
}

/* A device that is stopped and started, seen from sysfs. */
static void idle(void)
{
	struct vp_peer p;
	struct vp_cfg c;
	unsigned int ep, i;

	ctl_need_loaded();
	vp_cfg_default(&c);
	vp_bridge_add(c.bridge, 0);
	ktap_assert(!vp_open(&p, &c, 0) && !vp_start(&p), "peer");
	ctl_wait(p.tap, 1, &ep);
	for (i = 0; i < 20; i++) {
		ctl_wait_state(ep, "hooked", "none");
		ktap_assert(!vp_stop(&p), "stop");
		ctl_wait_state(ep, "idle", NULL);
		ktap_assert(!vp_start(&p), "start");
	}
	/* Only one direction of it. */
	ktap_assert(!vp_set_backend(&p, 0, VP_VQ_TX, -1), "TX");
	ctl_wait_state(ep, "idle", NULL);
	ktap_assert(!vp_set_backend(&p, 0, VP_VQ_TX, p.qp[0].tap), "TX");
	ctl_wait_state(ep, "hooked", "none");
	close(p.qp[0].vhost);
	p.qp[0].vhost = -1;
	ctl_wait_gone(p.tap);
	ctl_wait_none();
}

/* Devices that were opened and never started, or not even owned. */
static void never_started(void)
{
	struct vp_peer p;
	struct vp_cfg c;
	unsigned int i;

	ctl_need_loaded();
	vp_cfg_default(&c);
	vp_bridge_add(c.bridge, 0);
	for (i = 0; i < (ktap_quick() ? 4 : 20); i++) {
		ktap_assert(!vp_open(&p, &c, 0), "peer");
		ctl_scan();
		if (i & 1)
			ktap_assert(!vp_start(&p), "start");
		vp_close(&p);
	}
	ctl_wait_none();
}

/* A descriptor that was passed on or inherited keeps the device. */
static void dup_fd(void)
{
	struct vp_peer p;
	struct vp_cfg c;
	unsigned int ep;
	int fd;

	ctl_need_loaded();
	vp_cfg_default(&c);
	vp_bridge_add(c.bridge, 0);
	ktap_assert(!vp_open(&p, &c, 0) && !vp_start(&p), "peer");
	ctl_wait(p.tap, 1, &ep);
	fd = dup(p.qp[0].vhost);
	close(p.qp[0].vhost);
	p.qp[0].vhost = -1;
	ctl_scan();
	ctl_wait(p.tap, 1, &ep);
	ctl_wait_state(ep, "hooked", "none");
	ctl_need_unloaded();
	ctl_need_loaded();
	ctl_wait(p.tap, 1, &ep);
	close(fd);
	ctl_wait_gone(p.tap);
	vp_close(&p);
}

/*
 * A worker that is busy while its device is found, and has nothing to do
 * afterwards: it waits for a page of a frame.
 */
static void busy_worker(void)
{
	struct virtio_net_hdr_v1 h = {};
	u64 end = vp_now_ms() + 10000 * vp_slowness();
	u8 frame[6000] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	struct uffd_msg msg;
	struct vp_slot *s;
	struct vp_peer p;
	struct vp_cfg c;
	unsigned int ep;
	u8 *page;
	int fd;

	ctl_need_unloaded();
	vp_cfg_default(&c);
	c.tx_buf = 8192;
	vp_bridge_add(c.bridge, 0);
	ktap_assert(!vp_open(&p, &c, 0) && !vp_start(&p), "peer");
	/* What starting has queued is done: one kick, one run. */
	ktap_assert(!vp_set_mem(&p, false), "flush");
	s = &p.qp[0].tx.slot[p.qp[0].tx.free[p.qp[0].tx.nfree - 1]];
	ktap_assert(vp_tx_raw(&p, 0, &h, frame, sizeof(frame)) >= 0, "frame");
	/* All of this page is the frame's. */
	page = (u8 *)(((u64)s->buf + 4095) & -4096ULL);
	fd = vp_fault_fd(page, 4096);
	ktap_assert(!madvise(page, 4096, MADV_DONTNEED), "madvise");
	vp_ring_kick_anyway(&p.qp[0].tx);
	while (read(fd, &msg, sizeof(msg)) != sizeof(msg)) {
		ktap_assert(vp_now_ms() < end, "it does not wait");
		vp_sleep_ms(1);
	}
	ctl_need_loaded();
	ktap_assert(ctl_count() == 1, "%u endpoints", ctl_count());
	ktap_assert(!ctl_find(p.tap, NULL, 0), "it was not busy");
	vp_fault_end(fd, page, 4096);
	ctl_wait(p.tap, 1, &ep);
	ctl_wait_state(ep, "hooked", "none");
	vp_close(&p);
	ctl_wait_none();
}

static const struct ktap_case cases[] = {
	{ "before_start", before_start },
	{ "after_start", after_start },
	{ "scan_again", scan_again },
	{ "enable", enable },
	{ "rename_dev", rename_dev },
	{ "idle", idle },
	{ "never_started", never_started },
	{ "dup_fd", dup_fd },
	{ "busy_worker", busy_worker },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
