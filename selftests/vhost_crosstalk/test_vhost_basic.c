// SPDX-License-Identifier: GPL-2.0
/*
 * The test environment itself: peers on plain vhost-net and a bridge, without
 * the module, in all feature combinations and kinds of memory.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl.h"
#include "ktap.h"
#include "vpeer.h"

static struct vp_world *pair(struct vp_cfg *c)
{
	struct vp_world *w;

	ctl_need_unloaded();
	vp_cfg_default(c);
	w = vp_world_new(2, c->bridge, 0);
	vp_world_mesh(w);
	return w;
}

static void run(struct vp_world *w, const struct vp_cfg *c, u64 frames)
{
	vp_spawn(w, 0, c);
	vp_spawn(w, 1, c);
	vp_wait_ready(w);
	vp_go(w);
	vp_wait_frames(w, frames);
	vp_finish(w);
}

static void duplex(void)
{
	struct vp_world *w;
	struct vp_cfg c;

	w = pair(&c);
	run(w, &c, ktap_count("CROSSTALK_FRAMES", 20000, 300));
}

/* Every combination of what a driver may negotiate. */
static void features(void)
{
	static const u64 bit[] = {
		VP_F_MODERN, VP_F_MRG, VP_F_EVENT, VP_F_INDIRECT,
	};
	unsigned int i, b;

	for (i = 0; i < 1U << VP_ARRAY_SIZE(bit); i += ktap_quick() ? 7 : 1) {
		struct vp_world *w;
		struct vp_cfg c;
		u64 f = 0;

		for (b = 0; b < VP_ARRAY_SIZE(bit); b++)
			f |= i & VP_BIT(b) ? bit[b] : 0;
		ctl_need_unloaded();
		vp_cfg_default(&c);
		c.features = f;
		c.indirect = 50;
		c.tx_chain = 4;
		c.rx_chain = 2;
		c.tx_layout = VP_LAYOUT_RANDOM;
		c.rx_layout = VP_LAYOUT_RANDOM;
		if (f & VP_F_MRG)
			c.rx_buf = 700;
		w = vp_world_new(2, c.bridge, 0);
		vp_world_mesh(w);
		ktap_msg("features %#llx", f);
		run(w, &c, ktap_count("CROSSTALK_FRAMES", 1000, 200));
	}
}

static void memory(enum vp_mem_kind kind, unsigned int regions, bool adjacent)
{
	struct vp_world *w;
	struct vp_cfg c;

	w = pair(&c);
	c.mem = kind;
	c.regions = regions;
	c.adjacent = adjacent;
	c.indirect = 50;
	run(w, &c, ktap_count("CROSSTALK_FRAMES", 3000, 200));
}

static const char *no_thp(void)
{
	return access("/sys/kernel/mm/transparent_hugepage/enabled", F_OK) ?
	       "has no transparent huge pages" : NULL;
}

static const char *no_hugetlb(void)
{
	return access(VP_NR_HUGEPAGES, F_OK) ? "has no huge pages of 2 MiB" :
	       NULL;
}

static void mem_thp(void)
{
	memory(VP_MEM_THP, 1, false);
}

static void mem_memfd(void)
{
	memory(VP_MEM_MEMFD, 1, false);
}

static void mem_hugetlb(void)
{
	char before[32];

	before[0] = 0;
	vp_read_file(VP_NR_HUGEPAGES, before, sizeof(before));
	memory(VP_MEM_HUGETLB, 1, false);
	vp_write_file(VP_NR_HUGEPAGES, before);
}

static void mem_file(void)
{
	memory(VP_MEM_FILE, 1, false);
}

static void mem_regions(void)
{
	memory(VP_MEM_ANON, 5, false);
}

/* Buffers that begin in one region of the table and end in the next. */
static void mem_adjacent(void)
{
	memory(VP_MEM_MEMFD, 12, true);
}

/* 64k frames with segmentation offload, received in one piece ... */
static void gso(void)
{
	struct vp_world *w;
	struct vp_cfg c;

	w = pair(&c);
	c.tx_buf = 65535;
	c.tx_num = 64;
	w->traffic = (struct vp_traffic) {
		.kinds = VP_BIT(VP_TCP4) | VP_BIT(VP_TCP6),
		.min = 60, .max = 65500, .window = 8,
	};
	run(w, &c, ktap_count("CROSSTALK_FRAMES", 2000, 200));
}

/* ... and by a guest that has no offloads, in many. */
static void gso_segmented(void)
{
	struct vp_world *w;
	struct vp_cfg c;

	w = pair(&c);
	c.tx_buf = 65535;
	c.tx_num = 64;
	c.offload = 0;
	w->traffic = (struct vp_traffic) {
		.kinds = VP_BIT(VP_TCP4) | VP_BIT(VP_TCP6),
		.min = 60, .max = 30000, .window = 6,
	};
	run(w, &c, ktap_count("CROSSTALK_FRAMES", 1000, 100));
}

/* The checks themselves: each of these faults must be found. */
static void checker(void)
{
	static const char * const fault[] = {
		"loss 3%", "duplicate 3%", "corrupt 3%",
		"delay 5ms reorder 5%",
	};
	unsigned int i;

	for (i = 0; i < VP_ARRAY_SIZE(fault); i++) {
		struct vp_world *w;
		struct vp_cfg c;
		int status;
		pid_t pid;

		w = pair(&c);
		pid = fork();
		if (!pid) {
			freopen("/dev/null", "w", stdout);
			vp_spawn(w, 0, &c);
			vp_spawn(w, 1, &c);
			vp_wait_ready(w);
			if (vp_cmd("tc qdisc add dev %s root netem %s",
				   w->peer[1].tap, fault[i]))
				_exit(KTAP_SKIP);
			w->send[1][0] = false;
			vp_go(w);
			vp_wait_frames(w, 600);
			/* At once: the end would wait for what was lost. */
			vp_check(w);
			vp_finish(w);
			_exit(0);
		}
		waitpid(pid, &status, 0);
		if (status == KTAP_SKIP << 8)
			ktap_fail("no netem: tc or sch_netem is missing");
		ktap_assert(status == KTAP_FAIL << 8, "netem %s: status %x",
			    fault[i], status);
	}
}

static void spinning(void)
{
	struct vp_world *w;
	struct vp_cfg c;

	w = pair(&c);
	c.spin = true;
	run(w, &c, ktap_count("CROSSTALK_FRAMES", 3000, 200));
}

/* Alternating single frames: sensitive to every lost notification. */
static void ping_pong(void)
{
	struct vp_world *w;
	struct vp_cfg c;

	w = pair(&c);
	w->traffic.window = 1;
	run(w, &c, ktap_count("CROSSTALK_FRAMES", 5000, 500));
}

static const struct ktap_case cases[] = {
	{ "duplex", duplex },
	{ "checker", checker },
	{ "features", features, 120 },
	{ "mem_thp", mem_thp, .lacks = no_thp },
	{ "mem_memfd", mem_memfd },
	{ "mem_hugetlb", mem_hugetlb, .lacks = no_hugetlb },
	{ "mem_file", mem_file },
	{ "mem_regions", mem_regions },
	{ "mem_adjacent", mem_adjacent },
	{ "gso", gso },
	{ "gso_segmented", gso_segmented },
	{ "spinning", spinning },
	{ "ping_pong", ping_pong },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
