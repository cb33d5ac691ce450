// SPDX-License-Identifier: GPL-2.0
/*
 * crosstalk_vring_signal(): when the guest is interrupted, and that vhost's own
 * vhost_signal() would have done so, too.
 */

#include <linux/kernel_read_file.h>
#include <linux/kref.h>
#include <linux/module.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <linux/wait.h>

#include "guest.h"
#include "layout.h"

#define EVENT_IDX BIT_ULL(VIRTIO_RING_F_EVENT_IDX)
#define ON_EMPTY BIT_ULL(VIRTIO_F_NOTIFY_ON_EMPTY)
#define NO_INTERRUPT VRING_AVAIL_F_NO_INTERRUPT

/*
 * An eventfd comes from a system call only, and its struct is private: this is
 * a stand-in, whose layout is compared with the running kernel's first.
 */
struct stand_in {
	struct kref kref;
	wait_queue_head_t wqh;
	__u64 count;
	unsigned int flags;
	int id;
};

static const struct crosstalk_member stand_in_members[] = {
	{ "wqh", offsetof(struct stand_in, wqh) },
	{ "count", offsetof(struct stand_in, count) },
};

static const struct crosstalk_struct stand_in_struct = {
	.name = "eventfd_ctx",
	.size = sizeof(struct stand_in),
	.nr_members = ARRAY_SIZE(stand_in_members),
	.members = stand_in_members,
};

static int check_stand_in(struct kunit_suite *suite)
{
	struct crosstalk_btf btf;
	void *data = NULL;
	ssize_t size;
	int ret;

	size = kernel_read_file_from_path("/sys/kernel/btf/vmlinux", 0, &data,
					  SZ_64M, NULL, READING_UNKNOWN);
	if (size < 0)
		return size;

	ret = crosstalk_btf_open(&btf, data, size, NULL);
	if (!ret)
		ret = crosstalk_btf_check(&btf, &stand_in_struct);
	vfree(data);
	return ret;
}

struct signal_case {
	const char *name;
	u64 features;
	u16 flags;		/* of the available ring */
	bool empty;		/* the guest has offered nothing more */
	bool first;		/* nothing was signalled before */
	u16 signalled;
	u16 last_used;
	u16 used_event;
	bool want;
};

static const struct signal_case signal_cases[] = {
	/* without event index: the flag decides */
	{ .name = "flags: none", .last_used = 1, .want = true },
	{
		.name = "flags: no interrupt",
		.flags = NO_INTERRUPT, .last_used = 1,
	}, {
		.name = "flags: others are ignored",
		.flags = (u16)~NO_INTERRUPT, .last_used = 1, .want = true,
	}, {
		.name = "flags: first signal is no exception",
		.flags = NO_INTERRUPT, .first = true, .last_used = 1,
	}, {
		.name = "flags: event index is not looked at",
		.last_used = 1, .used_event = 100, .want = true,
	},

	/* with event index: it alone decides */
	{
		.name = "event: first signal",
		.features = EVENT_IDX, .first = true,
		.signalled = 5, .last_used = 6, .used_event = 100, .want = true,
	}, {
		.name = "event: reached",
		.features = EVENT_IDX,
		.signalled = 5, .last_used = 6, .used_event = 5, .want = true,
	}, {
		.name = "event: not reached",
		.features = EVENT_IDX,
		.signalled = 5, .last_used = 6, .used_event = 6,
	}, {
		.name = "event: reached in a batch",
		.features = EVENT_IDX,
		.signalled = 5, .last_used = 15, .used_event = 9, .want = true,
	}, {
		.name = "event: reached by the first of a batch",
		.features = EVENT_IDX,
		.signalled = 5, .last_used = 15, .used_event = 5, .want = true,
	}, {
		.name = "event: reached by the last of a batch",
		.features = EVENT_IDX,
		.signalled = 5, .last_used = 15, .used_event = 14, .want = true,
	}, {
		.name = "event: just behind a batch",
		.features = EVENT_IDX,
		.signalled = 5, .last_used = 15, .used_event = 15,
	}, {
		.name = "event: signalled before",
		.features = EVENT_IDX,
		.signalled = 5, .last_used = 15, .used_event = 4,
	}, {
		.name = "event: nothing used",
		.features = EVENT_IDX,
		.signalled = 5, .last_used = 5, .used_event = 4,
	}, {
		.name = "event: reached around the wrap",
		.features = EVENT_IDX, .signalled = U16_MAX - 1,
		.last_used = 2, .used_event = 0, .want = true,
	}, {
		.name = "event: reached before the wrap",
		.features = EVENT_IDX, .signalled = U16_MAX - 1,
		.last_used = 2, .used_event = U16_MAX, .want = true,
	}, {
		.name = "event: not reached around the wrap",
		.features = EVENT_IDX, .signalled = U16_MAX - 1,
		.last_used = 2, .used_event = 2,
	}, {
		.name = "event: flags are not looked at",
		.features = EVENT_IDX, .flags = NO_INTERRUPT,
		.signalled = 5, .last_used = 6, .used_event = 5, .want = true,
	},

	/* an empty ring wins over both */
	{
		.name = "on empty: empty",
		.features = ON_EMPTY, .flags = NO_INTERRUPT, .empty = true,
		.last_used = 1, .want = true,
	}, {
		.name = "on empty: not empty",
		.features = ON_EMPTY, .flags = NO_INTERRUPT, .last_used = 1,
	}, {
		.name = "on empty: not asked for",
		.flags = NO_INTERRUPT, .empty = true, .last_used = 1,
	}, {
		.name = "on empty: event not reached",
		.features = ON_EMPTY | EVENT_IDX, .empty = true,
		.signalled = 5, .last_used = 6, .used_event = 6, .want = true,
	}, {
		.name = "on empty: not empty, event not reached",
		.features = ON_EMPTY | EVENT_IDX,
		.signalled = 5, .last_used = 6, .used_event = 6,
	}, {
		.name = "on empty: event not reached, not asked for",
		.features = EVENT_IDX, .empty = true,
		.signalled = 5, .last_used = 6, .used_event = 6,
	},
};

KUNIT_ARRAY_PARAM_DESC(signal, signal_cases, name);

static struct stand_in *make_eventfd(struct kunit *test)
{
	struct stand_in *eventfd;
	struct guest *g = test->priv;

	eventfd = kunit_kzalloc(test, sizeof(*eventfd), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, eventfd);
	kref_init(&eventfd->kref);
	init_waitqueue_head(&eventfd->wqh);
	g->vq.call_ctx.ctx = (struct eventfd_ctx *)eventfd;
	return eventfd;
}

/* Lets vhost signal, then the module; returns whether the latter did. */
static bool signal_both(struct kunit *test, struct stand_in *eventfd)
{
	struct guest *g = test->priv;
	struct guest_vq_state before = guest_save(g);
	struct guest_vq_state after;
	bool theirs;
	bool ours;

	eventfd->count = 0;
	vhost_signal(&g->dev, &g->vq);
	theirs = eventfd->count;
	after = guest_save(g);
	guest_restore(g, &before);

	eventfd->count = 0;
	ours = crosstalk_vring_signal(&g->vq);
	KUNIT_EXPECT_EQ(test, eventfd->count, ours);
	KUNIT_EXPECT_EQ(test, ours, theirs);
	guest_expect_state(g, &after);
	return ours;
}

static void signal_wanted(struct kunit *test)
{
	const struct signal_case *param = test->param_value;
	struct stand_in *eventfd = make_eventfd(test);
	struct guest *g = test->priv;
	struct vhost_virtqueue *vq = &g->vq;
	__virtio16 __user *event =
		(__virtio16 __user *)&vq->avail->ring[vq->num];
	bool event_idx = param->features & EVENT_IDX;

	KUNIT_ASSERT_EQ(test, 0, put_user(cpu_to_vq16(vq, param->flags),
					  &vq->avail->flags));
	KUNIT_ASSERT_EQ(test, 0, put_user(cpu_to_vq16(vq, param->used_event),
					  event));
	vq->acked_features |= param->features;
	vq->last_avail_idx = 1;
	vq->avail_idx = param->empty ? 1 : 2;
	vq->last_used_idx = param->last_used;
	vq->signalled_used = param->signalled;
	vq->signalled_used_valid = !param->first;

	KUNIT_EXPECT_EQ(test, signal_both(test, eventfd), param->want);

	/* What was decided by the event index starts from here next time. */
	if (event_idx && !(param->features & ON_EMPTY && param->empty)) {
		KUNIT_EXPECT_EQ(test, vq->signalled_used, param->last_used);
		KUNIT_EXPECT_TRUE(test, vq->signalled_used_valid);
	} else {
		KUNIT_EXPECT_EQ(test, vq->signalled_used, param->signalled);
		KUNIT_EXPECT_EQ(test, vq->signalled_used_valid, !param->first);
	}
}

/* A guest without an interrupt (it polls), and no wish is read either. */
static void signal_without_eventfd(struct kunit *test)
{
	struct guest *g = test->priv;
	struct guest_vq_state before;

	g->vq.acked_features |= EVENT_IDX;
	g->vq.last_used_idx = 5;
	before = guest_save(g);
	KUNIT_EXPECT_FALSE(test, crosstalk_vring_signal(&g->vq));
	guest_expect_state(g, &before);
}

/* Rather an interrupt too many than a guest that waits for ever. */
static void signal_unmapped(struct kunit *test)
{
	struct stand_in *eventfd = make_eventfd(test);
	struct guest *g = test->priv;
	struct vhost_virtqueue *vq = &g->vq;

	vq->avail = (vring_avail_t __user *)g->gone;
	vq->last_used_idx = 1;
	KUNIT_EXPECT_TRUE(test, signal_both(test, eventfd));

	vq->acked_features |= EVENT_IDX;
	vq->signalled_used_valid = true;
	KUNIT_EXPECT_TRUE(test, signal_both(test, eventfd));
	KUNIT_EXPECT_EQ(test, vq->signalled_used, 1);
}

static struct kunit_case vring_signal_cases[] = {
	KUNIT_CASE_PARAM(signal_wanted, signal_gen_params),
	KUNIT_CASE(signal_without_eventfd),
	KUNIT_CASE(signal_unmapped),
	{}
};

static struct kunit_suite vring_signal_suite = {
	.name = "crosstalk_vring_signal",
	.suite_init = check_stand_in,
	.init = guest_init,
	.test_cases = vring_signal_cases,
};

kunit_test_suite(vring_signal_suite);
