// SPDX-License-Identifier: GPL-2.0
/*
 * crosstalk_endpoint_saw(): the table of a guest's source addresses.
 */

#include <kunit/test.h>
#include <linux/module.h>

#include "endpoint.h"

/* The addresses of a test differ in their first and last byte. */
struct mac {
	u8 first;
	u8 last;
};

struct saw_case {
	const char *name;
	unsigned int nr;
	struct mac seen[CROSSTALK_NR_MACS + 4];
	unsigned int want_nr;
	struct mac want[CROSSTALK_NR_MACS];
};

static const struct saw_case saw_cases[] = {
	{ .name = "none" },
	{
		.name = "one",
		.nr = 1, .seen = { { 2, 1 } },
		.want_nr = 1, .want = { { 2, 1 } },
	}, {
		.name = "one, again and again",
		.nr = 3, .seen = { { 2, 1 }, { 2, 1 }, { 2, 1 } },
		.want_nr = 1, .want = { { 2, 1 } },
	}, {
		.name = "two in turn",
		.nr = 4, .seen = { { 2, 1 }, { 2, 2 }, { 2, 1 }, { 2, 2 } },
		.want_nr = 2, .want = { { 2, 1 }, { 2, 2 } },
	}, {
		.name = "differ in one byte",
		.nr = 3, .seen = { { 2, 1 }, { 6, 1 }, { 2, 0 } },
		.want_nr = 3, .want = { { 2, 1 }, { 6, 1 }, { 2, 0 } },
	}, {
		.name = "global and local",
		.nr = 2, .seen = { { 0, 1 }, { 2, 1 } },
		.want_nr = 2, .want = { { 0, 1 }, { 2, 1 } },
	}, {
		.name = "zero is ignored",
		.nr = 3, .seen = { { 0, 0 }, { 2, 1 }, { 0, 0 } },
		.want_nr = 1, .want = { { 2, 1 } },
	}, {
		.name = "multicast is ignored",
		.nr = 3, .seen = { { 1, 1 }, { 2, 1 }, { 0x33, 0xfb } },
		.want_nr = 1, .want = { { 2, 1 } },
	}, {
		.name = "broadcast is ignored",
		.nr = 2, .seen = { { 0xff, 0xff }, { 2, 1 } },
		.want_nr = 1, .want = { { 2, 1 } },
	}, {
		.name = "known again after one that is ignored",
		.nr = 3, .seen = { { 2, 1 }, { 1, 1 }, { 2, 1 } },
		.want_nr = 1, .want = { { 2, 1 } },
	}, {
		.name = "full",
		.nr = 8,
		.seen = {
			{ 2, 1 }, { 2, 2 }, { 2, 3 }, { 2, 4 },
			{ 2, 5 }, { 2, 6 }, { 2, 7 }, { 2, 8 },
		},
		.want_nr = 8,
		.want = {
			{ 2, 1 }, { 2, 2 }, { 2, 3 }, { 2, 4 },
			{ 2, 5 }, { 2, 6 }, { 2, 7 }, { 2, 8 },
		},
	}, {
		.name = "more than fit",
		.nr = 12,
		.seen = {
			{ 2, 1 }, { 2, 2 }, { 2, 3 }, { 2, 4 },
			{ 2, 5 }, { 2, 6 }, { 2, 7 }, { 2, 8 },
			{ 2, 9 }, { 2, 10 }, { 2, 8 }, { 2, 9 },
		},
		.want_nr = 8,
		.want = {
			{ 2, 1 }, { 2, 2 }, { 2, 3 }, { 2, 4 },
			{ 2, 5 }, { 2, 6 }, { 2, 7 }, { 2, 8 },
		},
	},
};

KUNIT_ARRAY_PARAM_DESC(saw, saw_cases, name);

static void make_mac(u8 *mac, struct mac from)
{
	/* Broadcast is all ones, zero all zeros. */
	u8 fill = from.first == 0xff ? 0xff : 0;

	memset(mac, fill, ETH_ALEN);
	mac[0] = from.first;
	mac[ETH_ALEN - 1] = from.last;
}

static void saw_macs(struct kunit *test)
{
	const struct saw_case *param = test->param_value;
	struct crosstalk_endpoint *ep;
	u8 mac[ETH_ALEN] __aligned(2);
	unsigned int i;

	static_assert(CROSSTALK_NR_MACS == 8);

	ep = kunit_kzalloc(test, sizeof(*ep), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ep);
	spin_lock_init(&ep->macs_lock);

	for (i = 0; i < param->nr; i++) {
		make_mac(mac, param->seen[i]);
		crosstalk_endpoint_saw(ep, mac);
	}

	KUNIT_ASSERT_EQ(test, ep->nr_macs, param->want_nr);
	for (i = 0; i < param->want_nr; i++) {
		make_mac(mac, param->want[i]);
		KUNIT_EXPECT_MEMEQ(test, ep->macs[i], mac, ETH_ALEN);
	}
}

static struct kunit_case endpoint_cases[] = {
	KUNIT_CASE_PARAM(saw_macs, saw_gen_params),
	{}
};

static struct kunit_suite endpoint_suite = {
	.name = "crosstalk_endpoint",
	.test_cases = endpoint_cases,
};

kunit_test_suite(endpoint_suite);
