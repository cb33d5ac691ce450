// SPDX-License-Identifier: GPL-2.0
/*
 * The slow path alone: with "direct" 0 the module's TX loop gives each frame to
 * the tap, and nothing but vhost-net receives.
 */
#include "ctl.h"
#include "ktap.h"
#include "scenario.h"
#include "vpeer.h"

#define FRAMES	ktap_count("CROSSTALK_FRAMES", 2000, 150)

static void run(unsigned int peers, const struct vp_cfg *a,
		const struct vp_cfg *b, const struct vp_traffic *t, u64 frames)
{
	scenario_run(&(struct scenario) {
		.peers = peers, .cfg = a, .other = b, .traffic = *t,
		.frames = frames, .slow = true,
	});
}

/* All kinds of frames, in all kinds of chains, between three guests. */
static void kinds(void)
{
	struct vp_traffic t = {
		.kinds = VP_BIT(VP_RAW) | VP_BIT(VP_VLAN) | VP_BIT(VP_UDP4) |
			 VP_BIT(VP_TCP4) | VP_BIT(VP_TCP6),
		.min = 60, .max = 1514, .window = 40, .vlan = 42,
	};
	struct vp_cfg c;

	vp_cfg_default(&c);
	c.indirect = 50;
	c.tx_layout = VP_LAYOUT_RANDOM;
	c.tx_chain = 8;
	run(3, &c, &c, &t, FRAMES);
}

/* 64 kB at a time, to a guest that takes them and to one that does not. */
static void gso(void)
{
	struct vp_traffic t = {
		.kinds = VP_BIT(VP_TCP4) | VP_BIT(VP_TCP6),
		.min = 60, .max = 60000, .window = 6,
	};
	struct vp_cfg a, b;

	vp_cfg_default(&a);
	a.tx_buf = 65535;
	a.tx_num = 64;
	b = a;
	run(2, &a, &b, &t, FRAMES / 8);
	b.offload = 0;
	t.max = 30000;
	run(2, &a, &b, &t, FRAMES / 8);
}

/* Rings, buffers and features that differ. */
static void unequal(void)
{
	struct vp_traffic t = { .min = 60, .max = 1514, .window = 16 };
	struct vp_cfg a, b;

	scenario_unequal(&a, &b);
	b.regions = 4;
	run(2, &a, &b, &t, FRAMES);
}

static void queues(void)
{
	struct vp_traffic t = {
		.kinds = VP_BIT(VP_UDP4) | VP_BIT(VP_TCP4),
		.min = 60, .max = 1514, .window = 16,
	};
	struct vp_cfg c;

	vp_cfg_default(&c);
	c.queues = 2;
	run(2, &c, &c, &t, FRAMES);
}

static const struct ktap_case cases[] = {
	{ "kinds", kinds },
	{ "gso", gso, .slow = true },
	{ "unequal", unequal, .slow = true },
	{ "queues", queues, .slow = true },
};

int main(int argc, char **argv)
{
	int ret = ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));

	/* What it is for the programs that follow, whatever became of these. */
	if (ctl_loaded())
		ctl_write("direct", "1");
	return ret;
}
