// SPDX-License-Identifier: GPL-2.0
/*
 * crosstalk_vring_add_used(): what it leaves in guest memory and in the
 * virtqueue.  vhost's own vhost_add_used_n() does the same work first, from the
 * same state, and must leave the same.
 */

#include <linux/module.h>
#include <linux/uaccess.h>

#include "guest.h"

#define ELEM_SIZE sizeof(struct vring_used_elem)
#define USED_SIZE (offsetof(struct vring_used, ring) + GUEST_RING_NUM * ELEM_SIZE)
#define UNTOUCHED 0xee

typedef int (*add_used_fn)(struct vhost_virtqueue *vq,
			   struct vring_used_elem *heads, unsigned int count);

/* Everything that handing chains back can change. */
struct outcome {
	int ret;
	struct guest_vq_state state;
	u8 used[USED_SIZE] __aligned(VRING_USED_ALIGN_SIZE);
};

struct used_case {
	const char *name;
	u16 last_used;
	u16 signalled;
	unsigned int count;
	bool valid;		/* @signalled still says something afterwards */
};

static const struct used_case used_cases[] = {
	{ "one", 2, 2, 1, true },
	{ "none", 2, 2, 0, true },
	{ "several", 2, 2, 4, true },
	{ "up to the ring's end", 2, 2, GUEST_RING_NUM - 2, true },
	{ "around the ring's end", 6, 6, 4, true },
	{ "whole ring", 0, 0, GUEST_RING_NUM, true },
	{ "whole ring from the middle", 3, 3, GUEST_RING_NUM, true },
	{ "up to the index's wrap", U16_MAX, U16_MAX, 1, true },
	{ "around the index's wrap", U16_MAX - 1, U16_MAX - 1, 4, true },

	/* 2^16 chains without a signal */
	{ "far from the last signal", 2, 9, 4, true },
	{ "just before the last signal", 2, 7, 4, true },
	{ "on the last signal", 2, 6, 4, false },
	{ "past the last signal", 2, 5, 4, false },
	{ "just past the last signal", 2, 3, 4, false },
	{ "past the last signal, before the ring's end", 6, 7, 4, false },
	{ "past the last signal, after the ring's end", 6, 9, 4, false },
	{ "past the last signal around the wrap", U16_MAX, 1, 4, false },
};

KUNIT_ARRAY_PARAM_DESC(used, used_cases, name);

static struct vring_used_elem used_elem(const struct vhost_virtqueue *vq,
					unsigned int i)
{
	return (struct vring_used_elem) {
		.id = cpu_to_vq32(vq, 100 + i),
		.len = cpu_to_vq32(vq, 1000 + i),
	};
}

/* Runs @add on an untouched ring and puts the virtqueue back. */
static void run(struct kunit *test, add_used_fn add, unsigned int count,
		struct outcome *outcome)
{
	struct vring_used_elem heads[GUEST_RING_NUM];
	struct guest *g = test->priv;
	struct vhost_virtqueue *vq = &g->vq;
	struct guest_vq_state before = guest_save(g);
	u8 __user *used = (u8 __user *)vq->used;
	unsigned int i;
	u8 byte;

	for (i = 0; i < count; i++)
		heads[i] = used_elem(vq, i);
	/* Parts of it may not be there. */
	for (i = 0; i < USED_SIZE; i++)
		if (put_user(UNTOUCHED, &used[i]))
			continue;

	memset(outcome, 0, sizeof(*outcome));
	outcome->ret = add(vq, heads, count);
	outcome->state = guest_save(g);
	for (i = 0; i < USED_SIZE; i++)
		if (!get_user(byte, &used[i]))
			outcome->used[i] = byte;

	guest_restore(g, &before);
}

static void expect_same(struct kunit *test, const struct outcome *ours,
			const struct outcome *theirs)
{
	struct guest *g = test->priv;

	KUNIT_EXPECT_EQ(test, ours->ret, theirs->ret);
	guest_restore(g, &ours->state);
	guest_expect_state(g, &theirs->state);
	KUNIT_EXPECT_MEMEQ(test, ours->used, theirs->used, USED_SIZE);
}

static void add_used(struct kunit *test)
{
	const struct used_case *param = test->param_value;
	struct guest *g = test->priv;
	struct vhost_virtqueue *vq = &g->vq;
	struct outcome ours, theirs, want;
	struct vring_used *want_used = (struct vring_used *)want.used;
	unsigned int i;

	vq->last_used_idx = param->last_used;
	vq->signalled_used = param->signalled;
	vq->signalled_used_valid = true;

	memset(&want, 0, sizeof(want));
	want.state = guest_save(g);
	want.state.last_used_idx += param->count;
	want.state.signalled_used_valid = param->valid;
	memset(want.used, UNTOUCHED, USED_SIZE);
	want_used->idx = cpu_to_vq16(vq, want.state.last_used_idx);
	for (i = 0; i < param->count; i++)
		want_used->ring[(param->last_used + i) % GUEST_RING_NUM] =
			used_elem(vq, i);

	run(test, vhost_add_used_n, param->count, &theirs);
	run(test, crosstalk_vring_add_used, param->count, &ours);
	expect_same(test, &ours, &theirs);
	expect_same(test, &ours, &want);
}

struct fault_case {
	const char *name;
	int used;		/* from the page that cannot be accessed */
	u16 last_used;
	u16 want_last_used;
};

static const struct fault_case fault_cases[] = {
	{ "all of it", 0, 2, 2 },
	{ "ring", -(int)offsetof(struct vring_used, ring), 2, 2 },
	{
		"second half of the ring",
		-(int)(offsetof(struct vring_used, ring) + 4 * ELEM_SIZE), 2, 2,
	}, {
		/* vhost, too, keeps its first step */
		"begin of the ring, around its end",
		PAGE_SIZE - offsetof(struct vring_used, ring) - 4 * ELEM_SIZE,
		6, GUEST_RING_NUM,
	}, {
		"index",
		PAGE_SIZE - offsetof(struct vring_used, ring), 2, 6,
	},
};

KUNIT_ARRAY_PARAM_DESC(fault, fault_cases, name);

static void add_used_unmapped(struct kunit *test)
{
	const struct fault_case *param = test->param_value;
	struct guest *g = test->priv;
	struct vhost_virtqueue *vq = &g->vq;
	struct outcome ours, theirs;

	vq->used = (vring_used_t __user *)(g->gone + param->used);
	vq->last_used_idx = param->last_used;
	vq->signalled_used = param->last_used;
	vq->signalled_used_valid = true;

	run(test, vhost_add_used_n, 4, &theirs);
	run(test, crosstalk_vring_add_used, 4, &ours);
	expect_same(test, &ours, &theirs);
	KUNIT_EXPECT_EQ(test, ours.ret, -EFAULT);
	KUNIT_EXPECT_EQ(test, ours.state.last_used_idx, param->want_last_used);
}

/* While a VM migrates, the pages of its used ring are marked dirty. */
static void add_used_logged(struct kunit *test)
{
	struct guest *g = test->priv;
	struct vhost_virtqueue *vq = &g->vq;
	struct outcome ours, theirs;
	u8 dirty;

	/* The ring begins just before the end of page 3. */
	vq->log_used = true;
	vq->log_base = g->log;
	vq->log_addr = 4 * PAGE_SIZE - offsetof(struct vring_used, ring);

	run(test, vhost_add_used_n, 2, &theirs);
	KUNIT_ASSERT_EQ(test, 0, put_user(0, g->log));
	run(test, crosstalk_vring_add_used, 2, &ours);
	expect_same(test, &ours, &theirs);
	KUNIT_EXPECT_EQ(test, ours.ret, 0);

	KUNIT_ASSERT_EQ(test, 0, get_user(dirty, g->log));
	KUNIT_EXPECT_EQ(test, dirty, BIT(3) | BIT(4));
}

static struct kunit_case vring_used_cases[] = {
	KUNIT_CASE_PARAM(add_used, used_gen_params),
	KUNIT_CASE_PARAM(add_used_unmapped, fault_gen_params),
	KUNIT_CASE(add_used_logged),
	{}
};

static struct kunit_suite vring_used_suite = {
	.name = "crosstalk_vring_used",
	.init = guest_init,
	.test_cases = vring_used_cases,
};

kunit_test_suite(vring_used_suite);
