// SPDX-License-Identifier: GPL-2.0
/*
 * All kinds of frames and descriptor chains through the module's TX loop:
 * every frame arrives intact, the counters are exact.
 */
#include "ktap.h"
#include "scenario.h"
#include "vpeer.h"

#define FRAMES	ktap_count("CROSSTALK_FRAMES", 2000, 120)
#define BR_MTU	65500

static void run_pair(const struct vp_cfg *a, const struct vp_cfg *b,
		     const struct vp_traffic *t, u64 frames)
{
	scenario_run(&(struct scenario) {
		.cfg = a, .other = b, .traffic = *t, .frames = frames,
	});
}

static const struct vp_traffic plain = { .min = 60, .max = 1514, .window = 64 };

static void run(const struct vp_cfg *c, const struct vp_traffic *t)
{
	run_pair(c, c, t, FRAMES);
}

static void layouts(u64 features, unsigned int indirect)
{
	static const char * const name[] = {
		"one descriptor", "header apart", "many", "random",
	};
	enum vp_layout l;
	struct vp_cfg c;

	l = ktap_quick() ? VP_LAYOUT_RANDOM : VP_LAYOUT_ONE;
	for (; l <= VP_LAYOUT_RANDOM; l++) {
		ktap_msg("%s", name[l]);
		vp_cfg_default(&c);
		c.features = features;
		c.indirect = indirect;
		c.tx_layout = l;
		c.tx_chain = l == VP_LAYOUT_ONE ? 1 : 16;
		run(&c, &plain);
	}
}

static void direct(void)
{
	layouts(VP_F_MODERN | VP_F_MRG | VP_F_EVENT, 0);
}

static void indirect(void)
{
	layouts(VP_F_DEFAULT, 100);
}

static void legacy(void)
{
	layouts(0, 0);
}

static void legacy_mrg(void)
{
	layouts(VP_F_MRG | VP_F_INDIRECT, 50);
}

/* Around the size up to which vhost-net sends in batches: one page. */
static void page_limit(void)
{
	struct vp_traffic t = { .window = 32 };
	struct vp_cfg c;
	u32 size;

	vp_cfg_default(&c);
	c.mtu = BR_MTU;
	c.tx_buf = 65535;
	c.tx_num = 64;
	c.tx_layout = VP_LAYOUT_RANDOM;
	c.tx_chain = 2;
	for (size = 3200; size < 4200; size += ktap_quick() ? 499 : 101) {
		t.min = size;
		t.max = size + 100;
		run_pair(&c, &c, &t, FRAMES / 4);
	}
	t.min = 60;
	t.max = 9000;
	run_pair(&c, &c, &t, FRAMES / 2);
}

/* Frames up to 64k that are not GSO, from a big MTU. */
static void jumbo(void)
{
	struct vp_traffic t = { .min = 60, .max = 65000, .window = 8 };
	struct vp_cfg c;

	vp_cfg_default(&c);
	c.mtu = BR_MTU;
	c.tx_buf = 65535;
	c.tx_num = 64;
	c.tx_layout = VP_LAYOUT_RANDOM;
	c.tx_chain = 16;
	c.rx_buf = 4096;
	run_pair(&c, &c, &t, FRAMES / 4);
}

static void gso(void)
{
	struct vp_traffic t = {
		.kinds = VP_BIT(VP_TCP4) | VP_BIT(VP_TCP6),
		.min = 60, .max = 65500, .window = 8,
	};
	struct vp_cfg c;

	vp_cfg_default(&c);
	c.tx_buf = 65535;
	c.tx_num = 128;
	c.tx_layout = VP_LAYOUT_RANDOM;
	c.tx_chain = 18;
	c.indirect = 50;
	run_pair(&c, &c, &t, FRAMES / 4);
}

/* To a guest that has no offloads at all. */
static void gso_to_plain(void)
{
	struct vp_traffic t = {
		.kinds = VP_BIT(VP_TCP4) | VP_BIT(VP_TCP6),
		.min = 60, .max = 30000, .window = 6,
	};
	struct vp_cfg a, b;

	vp_cfg_default(&a);
	a.tx_buf = 65535;
	a.tx_num = 64;
	b = a;
	b.offload = 0;
	b.features = 0;
	run_pair(&a, &b, &t, FRAMES / 10);
}

static void checksums_and_vlan(void)
{
	struct vp_traffic t = {
		.kinds = VP_BIT(VP_UDP4) | VP_BIT(VP_VLAN) | VP_BIT(VP_TCP4),
		.min = 64, .max = 1514, .window = 64, .vlan = 42,
	};
	struct vp_cfg a, b;

	vp_cfg_default(&a);
	b = a;
	b.offload = 0;
	run_pair(&a, &b, &t, FRAMES);
}

/* The device adds the header; the tap has none. */
static void vhost_header(void)
{
	struct vp_cfg c;

	vp_cfg_default(&c);
	c.features |= VP_F_VHOST_HDR;
	run(&c, &plain);
	c.features &= ~(VP_F_MODERN | VP_F_MRG);
	run(&c, &plain);
}

static void memory(void)
{
	struct vp_cfg c;
	unsigned int i;

	for (i = 0; i < 3; i += ktap_quick() ? 2 : 1) {
		vp_cfg_default(&c);
		c.mem = i == 2 ? VP_MEM_FILE : VP_MEM_MEMFD;
		c.regions = i == 2 ? 1 : 8;
		c.adjacent = i == 0;
		c.indirect = 50;
		c.tx_layout = VP_LAYOUT_RANDOM;
		c.tx_chain = 4;
		run(&c, &plain);
	}
}

/* Bidirectional and unequal: everything differs between the two. */
static void unequal(void)
{
	struct vp_cfg a, b;

	scenario_unequal(&a, &b);
	run_pair(&a, &b, &(struct vp_traffic){ 0, 60, 1514, 16, 0 }, FRAMES);
}

static const struct ktap_case cases[] = {
	{ "direct", direct },
	{ "indirect", indirect },
	{ "legacy", legacy },
	{ "legacy_mrg", legacy_mrg },
	{ "page_limit", page_limit, 100, .slow = true },
	{ "jumbo", jumbo },
	{ "gso", gso },
	{ "gso_to_plain", gso_to_plain },
	{ "checksums_and_vlan", checksums_and_vlan },
	{ "vhost_header", vhost_header },
	{ "memory", memory },
	{ "unequal", unequal },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
