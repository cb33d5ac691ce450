// SPDX-License-Identifier: GPL-2.0
/*
 * Input that makes no sense is refused and changes nothing; devices that the
 * module does not understand are left alone, with the reason, and work.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl.h"
#include "ktap.h"
#include "vpeer.h"

static void parameters(void)
{
	static const char * const bad[] = {
		"batch=0", "batch=65", "batch=-1", "batch=x", "batch=",
		"batch=4294967296", "batch=99999999999999999999999",
		"enable=2", "enable=x", "batch=64 enable=maybe",
	};
	unsigned int i;
	char buf[16];
	int ret;

	for (i = 0; i < VP_ARRAY_SIZE(bad); i += ktap_quick() ? 3 : 1) {
		ctl_need_unloaded();
		ret = ctl_load(bad[i]);
		ktap_assert(ret == -EINVAL, "\"%s\": %s", bad[i],
			    strerror(-ret));
		ktap_assert(!ctl_loaded(), "\"%s\" loaded it", bad[i]);
	}
	ktap_assert(!ctl_load("batch=3 enable=0"), "good parameters");
	ctl_read("batch", buf, sizeof(buf));
	ktap_assert(!strcmp(buf, "3"), "batch %s", buf);
	ctl_read("enable", buf, sizeof(buf));
	ktap_assert(!strcmp(buf, "0"), "enable %s", buf);
	ctl_need_unloaded();
}

static void refuse(const char *file, const char *text)
{
	char before[64] = "", after[64] = "";
	int ret;

	ctl_read(file, before, sizeof(before));
	ret = ctl_write(file, text);
	ktap_assert(ret == -EINVAL, "\"%s\" to %s: %s", text, file,
		    strerror(-ret));
	ctl_read(file, after, sizeof(after));
	ktap_assert(!strcmp(before, after), "\"%s\" changed %s from %s to %s",
		    text, file, before, after);
}

static void sysfs(void)
{
	static const char * const bools[] = { "2", "-1", "x", "\n", " ", "" };
	static const char * const batches[] = {
		"0", "65", "-1", "x", "1x", "1 2", "4294967297", "\n",
		"99999999999999999999999", "0x", "1.5",
	};
	static const char * const scans[] = { "0", "2", "x", "-1", "\n" };
	static const char * const ro[] = {
		"state", "reason", "dev", "pid", "macs", "features",
		"tx_packets", "tx_bytes", "tx_slow_packets", "tx_errors",
		"tx_kicks", "rx_kicks", "tx_batches", "tx_notify",
	};
	struct vp_peer p;
	struct vp_cfg c;
	unsigned int i, ep;
	char file[128], buf[16];
	int ret;

	ctl_need_loaded();
	vp_cfg_default(&c);
	vp_bridge_add(c.bridge, 0);
	ktap_assert(!vp_open(&p, &c, 0) && !vp_start(&p), "peer");
	ctl_wait(p.tap, 1, &ep);
	snprintf(file, sizeof(file), "endpoints/ep%u/enable", ep);
	for (i = 0; i < VP_ARRAY_SIZE(bools) - 1; i++) {
		refuse("enable", bools[i]);
		refuse(file, bools[i]);
	}
	for (i = 0; i < VP_ARRAY_SIZE(batches); i++)
		refuse("batch", batches[i]);
	for (i = 0; i < VP_ARRAY_SIZE(scans); i++)
		refuse("scan", scans[i]);
	ret = ctl_read("scan", buf, sizeof(buf));
	ktap_assert(ret < 0, "scan can be read");
	for (i = 0; i < VP_ARRAY_SIZE(ro); i++) {
		ret = ctl_ep_write(ep, ro[i], "1");
		ktap_assert(ret < 0, "%s can be written", ro[i]);
	}
	vp_close(&p);
}

/* A peer that the module leaves alone, and one that it hooks. */
static void left_alone(struct vp_cfg *odd, const char *reason)
{
	struct vp_traffic t = { .min = 60, .max = 1000, .window = 16 };
	struct vp_world *w;
	struct vp_cfg c;
	unsigned int ep;

	ctl_need_loaded();
	ctl_log_mark();
	vp_cfg_default(&c);
	w = vp_world_new(2, c.bridge, 0);
	vp_world_mesh(w);
	vp_world_calm(w, true);
	w->traffic = t;
	vp_spawn(w, 0, odd);
	vp_spawn(w, 1, &c);
	vp_wait_ready(w);
	ctl_scan();
	ktap_assert(ctl_find_pid(w->peer[0].pid, &ep, 1) == 1, "endpoint");
	ctl_wait_state(ep, "left-alone", reason);
	ctl_wait(w->peer[1].tap, 1, NULL);
	vp_go(w);
	vp_wait_frames(w, odd->busyloop_us ? 20 : 200);
	ctl_wait_state(ep, "left-alone", reason);
	ktap_assert(!ctl_ep_num(ep, "tx_packets"), "tx_packets counts");
	/* It stays like that through a new start of the module. */
	ctl_need_unloaded();
	vp_wait_frames(w, 20);
	ctl_need_loaded();
	ktap_assert(ctl_find_pid(w->peer[0].pid, &ep, 1) == 1, "endpoint");
	vp_wait_frames(w, 20);
	ctl_wait_state(ep, "left-alone", reason);
	vp_finish(w);
	ktap_assert(ctl_log_has("vhost_crosstalk"), "nothing in the log");
}

static void viommu(void)
{
	struct vp_cfg c;

	vp_cfg_default(&c);
	c.features |= VP_F_IOMMU;
	left_alone(&c, "viommu");
}

static void busyloop(void)
{
	struct vp_cfg c;

	vp_cfg_default(&c);
	c.busyloop_us = 50;
	left_alone(&c, "busyloop");
}

static void packet_socket(void)
{
	struct vp_cfg c;

	vp_cfg_default(&c);
	c.features |= VP_F_VHOST_HDR;
	c.packet_dev = "vpv0";
	/* The bridge is made again by left_alone(), which is fine. */
	vp_bridge_add(c.bridge, 0);
	ktap_assert(!vp_cmd("ip link add vpv0 type veth peer name vpv1"),
		    "veth");
	vp_link_up("vpv0", 0);
	vp_link_up("vpv1", 0);
	vp_bridge_port(c.bridge, "vpv1");
	left_alone(&c, "backend");
}

static const char *no_vhost_module(void)
{
	return access("/sys/module/vhost_net/refcnt", F_OK) ?
	       "has vhost_net built in" : NULL;
}

static void zerocopy(void)
{
	struct vp_cfg c;

	ctl_need_unloaded();
	if (vp_cmd("modprobe -r vhost_net 2>/dev/null"))
		ktap_skip("vhost_net is in use: its experimental_zcopytx cannot be changed");
	ktap_assert(!vp_cmd("modprobe vhost_net experimental_zcopytx=1"),
		    "modprobe");
	vp_cfg_default(&c);
	/* Both have it then. */
	if (fork() == 0) {
		struct vp_world *w = vp_world_new(2, c.bridge, 0);
		unsigned int i, ep;

		ctl_need_loaded();
		vp_world_mesh(w);
		vp_world_calm(w, true);
		vp_spawn(w, 0, &c);
		vp_spawn(w, 1, &c);
		vp_wait_ready(w);
		for (i = 0; i < 2; i++) {
			ctl_wait(w->peer[i].tap, 1, &ep);
			ctl_wait_state(ep, "left-alone", "zerocopy");
		}
		vp_go(w);
		vp_wait_frames(w, 200);
		vp_finish(w);
		_exit(0);
	} else {
		int status = 0;

		ktap_assert(wait(&status) > 0, "wait");
		ctl_need_unloaded();
		vp_cmd("modprobe -r vhost_net && modprobe vhost_net");
		ktap_assert(!status, "see above");
	}
}

/* Busy polling that is switched on while the device runs. */
static void becomes_odd(void)
{
	struct vhost_vring_state on = { VP_VQ_RX, 50 }, off = { VP_VQ_RX, 0 };
	struct vp_peer p;
	struct vp_cfg c;
	unsigned int ep, i;

	ctl_need_loaded();
	vp_cfg_default(&c);
	vp_bridge_add(c.bridge, 0);
	ktap_assert(!vp_open(&p, &c, 0) && !vp_start(&p), "peer");
	ctl_wait(p.tap, 1, &ep);
	for (i = 0; i < 5; i++) {
		ctl_wait_state(ep, "hooked", "none");
		ktap_assert(!ioctl(p.qp[0].vhost,
				   VHOST_SET_VRING_BUSYLOOP_TIMEOUT, &on),
			    "busyloop");
		ctl_wait_state(ep, "left-alone", "busyloop");
		ktap_assert(!ioctl(p.qp[0].vhost,
				   VHOST_SET_VRING_BUSYLOOP_TIMEOUT, &off),
			    "busyloop");
	}
	ctl_wait_state(ep, "hooked", "none");
	vp_close(&p);
}

static const struct ktap_case cases[] = {
	{ "parameters", parameters },
	{ "sysfs", sysfs },
	{ "viommu", viommu },
	{ "busyloop", busyloop, 100, true },
	{ "packet_socket", packet_socket },
	{ "zerocopy", zerocopy, .lacks = no_vhost_module, .slow = true },
	{ "becomes_odd", becomes_odd },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
