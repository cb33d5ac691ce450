// SPDX-License-Identifier: GPL-2.0
/*
 * A hunt for races on the direct path: guests in a full mesh at full load,
 * while their owners issue every ioctl there is, close and die, and somebody
 * else plays with sysfs, kprobes, interfaces and the module itself.  Frames may
 * get lost by that, but what arrives is right and in order, and in the end
 * everything works as on the first day.
 *
 * What is done follows from CROSSTALK_SEED; when it is done, from the machine.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl.h"
#include "direct.h"
#include "ktap.h"
#include "vpeer.h"

#define KPROBES		"/sys/kernel/debug/kprobes/enabled"
#define STUCK_MS	20000

/* Since 6.5, for the devices that have them: vhost-net has not, yet. */
#define NEW_WORKER	_IOR(VHOST_VIRTIO, 0x8, __u32)
#define ATTACH_WORKER	_IOW(VHOST_VIRTIO, 0x15, __u64)

/* ---- owners: in each guest's process ---- */

static struct vp_rand ops;
static bool logging;

static void must(struct vp_peer *p, const char *what, int ret)
{
	if (ret)
		ktap_fail("%s: %s: %s", p->tap, what, strerror(-ret));
}

static void log_off(struct vp_peer *p)
{
	if (logging)
		must(p, "log off", vp_log_off(p));
	logging = false;
}

static void o_memory(struct vp_peer *p)
{
	/* The log has no room for the extra region. */
	must(p, "memory", vp_set_mem(p, !logging && vp_rand(&ops) & 1));
}

static void o_address(struct vp_peer *p)
{
	must(p, "address", vp_set_addr(p, 0, VP_VQ_RX));
	must(p, "address", vp_set_addr(p, 0, VP_VQ_TX));
}

/* Not while there is a backend. */
static void o_refused(struct vp_peer *p)
{
	struct vhost_vring_state s = { vp_rand(&ops) & 1, 128 };

	ktap_assert(ioctl(p->qp[0].vhost, VHOST_SET_VRING_NUM, &s) &&
		    errno == EBUSY, "SET_VRING_NUM");
	s.num = 0;
	ktap_assert(ioctl(p->qp[0].vhost, VHOST_SET_VRING_BASE, &s) &&
		    errno == EBUSY, "SET_VRING_BASE");
}

static void o_restart(struct vp_peer *p)
{
	must(p, "stop", vp_stop(p));
	vp_drain(p);
	must(p, "start", vp_start(p));
}

static void o_move(struct vp_peer *p)
{
	must(p, "stop", vp_stop(p));
	vp_drain(p);
	must(p, "move", vp_move_rings(p));
	must(p, "start", vp_start(p));
}

static void o_reset(struct vp_peer *p)
{
	log_off(p);
	must(p, "reset", vp_reset_owner(p));
	must(p, "start", vp_start(p));
}

static void swap_fd(struct vp_peer *p, unsigned int vq, unsigned long req,
		    int *fd)
{
	struct vhost_vring_file f = {
		vq, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
	};

	ktap_assert(!ioctl(p->qp[0].vhost, req, &f), "swap: %s",
		    strerror(errno));
	close(*fd);
	*fd = f.fd;
}

static void o_eventfds(struct vp_peer *p)
{
	unsigned int vq = vp_rand(&ops) & 1;
	struct vp_ring *r = vq == VP_VQ_RX ? &p->qp[0].rx : &p->qp[0].tx;

	switch (vp_rand_in(&ops, 0, 2)) {
	case 0:
		swap_fd(p, vq, VHOST_SET_VRING_KICK, &r->kick);
		break;
	case 1:
		swap_fd(p, vq, VHOST_SET_VRING_CALL, &r->call);
		break;
	default:
		swap_fd(p, vq, VHOST_SET_VRING_ERR, &r->err);
	}
}

/* A live migration begins, or is called off. */
static void o_log(struct vp_peer *p)
{
	if (logging) {
		log_off(p);
		return;
	}
	must(p, "memory", vp_set_mem(p, false));
	must(p, "log", vp_log_on(p));
	logging = true;
}

/* write() takes all of a device's mutexes, even to say no. */
static void o_write(struct vp_peer *p)
{
	struct vhost_msg msg = {
		.type = VHOST_IOTLB_MSG,
		.iotlb = {
			.iova = p->mem.region[0].gpa, .size = 4096,
			.uaddr = (u64)p->mem.region[0].hva,
			.perm = VHOST_ACCESS_RW, .type = VHOST_IOTLB_UPDATE,
		},
	};

	ktap_assert(write(p->qp[0].vhost, &msg, sizeof(msg)) < 0,
		    "it has no IOMMU");
}

static void o_worker(struct vp_peer *p)
{
	u32 worker[2] = {};

	if (ioctl(p->qp[0].vhost, NEW_WORKER, worker))
		return;
	worker[1] = worker[0];
	worker[0] = vp_rand(&ops) & 1;
	ioctl(p->qp[0].vhost, ATTACH_WORKER, worker);
}

/*
 * What is the owner's becomes copy-on-write for a moment.  Not on User Mode
 * Linux: an owner that is killed in the middle of it leaves a copy that is not
 * complete, and arch/um, flush_tlb_mm(), takes the mark of its end for a mapping.
 */
static void o_fork(struct vp_peer *p)
{
	pid_t pid;

	(void)p;
	if (vp_on_uml())
		return;
	pid = fork();
	if (!pid)
		_exit(0);
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

static void o_madvise(struct vp_peer *p)
{
	static const int advices[] = {
		MADV_COLD, MADV_PAGEOUT, MADV_MERGEABLE, MADV_UNMERGEABLE,
		MADV_HUGEPAGE, MADV_NOHUGEPAGE,
	};
	struct vp_region *r = &p->mem.region[0];

	/* Some kernels lack some; it is only advice. */
	madvise(r->hva, r->size,
		advices[vp_rand_in(&ops, 0, VP_ARRAY_SIZE(advices) - 1)]);
}

static void o_reopen(struct vp_peer *p)
{
	struct vp_cfg c = p->cfg;
	u64 end = vp_now_ms() + STUCK_MS * vp_slowness();
	unsigned int index = p->index;
	int ret;

	ktap_assert(!vp_bad_used(p), "bad used elements");
	c.features &= ~VP_F_LOG;
	logging = false;
	vp_close(p);
	/* A scan can have the old one for a moment longer, and it the tap. */
	while ((ret = vp_open(p, &c, index)) == -EBUSY) {
		ktap_assert(vp_now_ms() < end, "the tap stays busy");
		vp_close(p);
		vp_sleep_ms(20);
	}
	must(p, "open", ret);
	must(p, "start", vp_start(p));
}

static void (*const owner_ops[])(struct vp_peer *p) = {
	o_memory, o_address, o_refused, o_restart, o_move, o_reset, o_eventfds,
	o_log, o_write, o_worker, o_fork, o_madvise, o_reopen,
};

static void owner(struct vp_peer *p, u64 n)
{
	if (!n) {
		vp_rand_init(&ops, 2000 + p->index);
		logging = false;
	}
	owner_ops[vp_rand_in(&ops, 0, VP_ARRAY_SIZE(owner_ops) - 1)](p);
}

static void calm(struct vp_peer *p, u64 n)
{
	(void)n;
	log_off(p);
	must(p, "memory", vp_set_mem(p, false));
}

/* ---- everybody else: in the parent ---- */

static struct vp_rand rnd;
static struct vp_cfg cfg;

static unsigned int any(const struct vp_world *w)
{
	return vp_rand_in(&rnd, 0, w->n - 1);
}

/* Mostly on: frames shall take the direct path. */
static const char *on_off(void)
{
	return vp_rand(&rnd) & 3 ? "1" : "0";
}

static void respawn(struct vp_world *w, unsigned int i)
{
	u64 end = vp_now_ms() + STUCK_MS * vp_slowness();

	vp_kill(w, i);
	/* A child that it forked has its files for a moment longer. */
	while (vp_link_exists(w->peer[i].tap)) {
		ktap_assert(vp_now_ms() < end, "%s does not go away",
			    w->peer[i].tap);
		vp_sleep_ms(1);
	}
	vp_spawn(w, i, &cfg);
	vp_wait_ready(w);
}

static void p_kill(struct vp_world *w)
{
	respawn(w, any(w));
}

static void p_delete(struct vp_world *w)
{
	unsigned int i = any(w);

	vp_stop_events(w, i);
	ktap_assert(!vp_cmd("ip link del %s", w->peer[i].tap), "ip link del");
	respawn(w, i);
	w->event_peers |= VP_BIT(i);
}

static void p_rename(struct vp_world *w)
{
	unsigned int i = any(w);
	const char *tap = w->peer[i].tap;

	/* It shall not be opened again under another's name. */
	vp_stop_events(w, i);
	ktap_assert(!vp_cmd("ip link set %s down && ip link set %s name renamed && ip link set renamed name %s && ip link set %s up",
			    tap, tap, tap, tap), "ip link set name");
	w->event_peers |= VP_BIT(i);
}

static void p_switch(struct vp_world *w)
{
	static const char * const files[] = { "enable", "direct" };

	(void)w;
	ctl_write(files[vp_rand(&rnd) & 1], on_off());
}

static void p_endpoint(struct vp_world *w)
{
	unsigned int ep;

	if (ctl_find(w->peer[any(w)].tap, &ep, 1) == 1)
		ctl_ep_write(ep, "enable", on_off());
}

static void p_tunable(struct vp_world *w)
{
	static const char * const values[][2] = {
		{ "batch", "1" }, { "batch", "64" },
		{ "busy_poll_us", "50" }, { "busy_poll_us", "0" },
		{ "backpressure_us", "0" }, { "backpressure_us", "20000" },
		{ "revalidate_ms", "10" }, { "revalidate_ms", "60" },
	};
	unsigned int i = vp_rand_in(&rnd, 0, VP_ARRAY_SIZE(values) - 1);

	(void)w;
	ctl_write(values[i][0], values[i][1]);
}

static void p_scan(struct vp_world *w)
{
	(void)w;
	ctl_write("scan", "1");
}

static void p_read(struct vp_world *w)
{
	unsigned int ep[CTL_MAX_EP], i, n;
	char buf[4096];

	n = ctl_find(w->peer[any(w)].tap, ep, CTL_MAX_EP);
	for (i = 0; i < n && i < CTL_MAX_EP; i++) {
		ctl_ep_read(ep[i], "verdicts", buf, sizeof(buf));
		ctl_ep_read(ep[i], "macs", buf, sizeof(buf));
	}
}

static void p_kprobes(struct vp_world *w)
{
	(void)w;
	vp_write_file(KPROBES, on_off());
}

static void p_compact(struct vp_world *w)
{
	(void)w;
	vp_write_file("/proc/sys/vm/compact_memory", "1");
}

static void p_reload(struct vp_world *w)
{
	(void)w;
	ctl_need_unloaded();
	vp_sleep_ms(vp_rand_in(&rnd, 0, 20));
	direct_on();
	ctl_scan();
}

static const struct {
	void (*op)(struct vp_world *w);
	unsigned int weight;
} parent_ops[] = {
	{ p_kill, 3 },
	{ p_delete, 1 },
	{ p_rename, 1 },
	{ p_switch, 6 },
	{ p_endpoint, 6 },
	{ p_tunable, 3 },
	{ p_scan, 8 },
	{ p_read, 4 },
	{ p_kprobes, 2 },
	{ p_compact, 1 },
	{ p_reload, 1 },
};

/* By endpoints that may be gone in the next moment. */
static u64 count_fast(const struct vp_world *w)
{
	unsigned int ep[CTL_MAX_EP], i, k, n;
	char buf[32];
	u64 sum = 0;

	for (i = 0; i < w->n; i++) {
		n = ctl_find(w->peer[i].tap, ep, CTL_MAX_EP);
		for (k = 0; k < n && k < CTL_MAX_EP; k++)
			if (ctl_ep_read(ep[k], "tx_fast_packets", buf,
					sizeof(buf)) > 0)
				sum += strtoull(buf, NULL, 10);
	}
	return sum;
}

static void disturb(struct vp_world *w)
{
	unsigned int i, all = 0, which;

	for (i = 0; i < VP_ARRAY_SIZE(parent_ops); i++)
		all += parent_ops[i].weight;
	which = vp_rand_in(&rnd, 0, all - 1);
	for (i = 0; which >= parent_ops[i].weight; i++)
		which -= parent_ops[i].weight;
	parent_ops[i].op(w);
}

/* Everything as it should be, and nothing may get lost any more. */
static void recover(struct vp_world *w)
{
	unsigned int i;

	WRITE_ONCE(w->event, calm);
	vp_wait_events(w, 2);
	WRITE_ONCE(w->event, NULL);
	vp_write_file(KPROBES, "1");
	ctl_need_unloaded();
	direct_on();
	direct_patience();
	for (i = 0; i < w->n; i++)
		vp_link_up(w->peer[i].tap, 0);
	vp_quiesce(w);
	ctl_wait_world(w, 1);
	vp_forgive(w);
	vp_go(w);
}

static void mesh(unsigned int peers, unsigned int rounds)
{
	struct vp_traffic t = { .min = 60, .max = 1514, .window = 16 };
	u64 seen_ms = vp_now_ms(), total = 0, calls = 0, fast = 0;
	const char *seed = getenv("CROSSTALK_SEED");
	struct vp_world *w;
	unsigned int i;

	ktap_msg("CROSSTALK_SEED=%s", seed ?: "1");
	vp_rand_init(&rnd, 3000);
	vp_cfg_default(&cfg);
	cfg.rx_num = 128;
	cfg.tx_num = 128;
	ctl_need_unloaded();
	direct_on();
	direct_patience();
	w = vp_world_new(peers, cfg.bridge, 0);
	vp_world_mesh(w);
	w->traffic = t;
	w->event_ms = 6 * peers;
	w->event_peers = VP_BIT(peers) - 1;
	for (i = 0; i < peers; i++) {
		w->lossy[i] = true;
		vp_spawn(w, i, &cfg);
	}
	vp_wait_ready(w);
	ctl_wait_world(w, 1);
	vp_go(w);
	direct_wait(w);
	WRITE_ONCE(w->event, owner);
	for (i = 0; i < rounds; i++) {
		u64 was = count_fast(w), is;

		disturb(w);
		vp_sleep_ms(vp_rand_in(&rnd, 1, 50));
		vp_alive(w);
		/* Counters go with the endpoint. */
		is = count_fast(w);
		fast += vp_max(is, was) - was;
		if (vp_total(w) != total)
			seen_ms = vp_now_ms();
		total = vp_total(w);
		ktap_assert(vp_now_ms() - seen_ms < STUCK_MS * vp_slowness(),
			    "nothing moves any more");
	}
	for (i = 0; i < peers; i++)
		calls += w->peer[i].events;
	ktap_msg("%u disturbances, %llu and more calls by owners, %llu frames, %llu direct",
		 rounds, calls, total, fast);
	recover(w);
	direct_wait(w);
	vp_wait_frames(w, 20);
	vp_finish(w);
	ctl_need_unloaded();
}

static void eight(void)
{
	mesh(8, ktap_count("CROSSTALK_ROUNDS", 150, 6));
}

static void three(void)
{
	mesh(3, ktap_count("CROSSTALK_ROUNDS", 200, 4));
}

/*
 * Eventfds that are replaced while senders rest or wait.  Nobody kicks because
 * of that, and nothing may get lost.
 */
static void swap_kick(struct vp_peer *p, u64 n)
{
	if (!n)
		vp_rand_init(&ops, 4000 + p->index);
	o_eventfds(p);
}

static void eventfds(void)
{
	struct vp_traffic t = { .min = 60, .max = 1514, .window = 32 };
	unsigned int i, n = ktap_count("CROSSTALK_CYCLES", 500, 40);
	struct vp_world *w;

	vp_cfg_default(&cfg);
	ctl_need_unloaded();
	w = direct_start(2, &cfg, &t, false);
	w->event_ms = 1;
	w->event_peers = 3;
	WRITE_ONCE(w->event, swap_kick);
	for (i = 0; i < n; i++) {
		ctl_write("direct", i & 1 ? "1" : "0");
		vp_sleep_ms(3 + i % 5);
		vp_alive(w);
	}
	ctl_write("direct", "1");
	vp_wait_frames(w, 100);
	direct_wait(w);
	direct_end(w);
	ctl_need_unloaded();
}

static const struct ktap_case cases[] = {
	{ "eventfds", eventfds, 120 },
	{ "three", three, 200 },
	{ "eight", eight, 400, .slow = true },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
