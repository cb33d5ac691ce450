// SPDX-License-Identifier: GPL-2.0
/*
 * crosstalk_vring_fetch(): chains that a guest may offer, and those that it may
 * not.  Each is also given to vhost's own vhost_get_vq_desc(), and both must
 * say the same: the two take turns on one ring.
 */

#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/uaccess.h>

#include "guest.h"

#define F_NEXT VRING_DESC_F_NEXT
#define F_WRITE VRING_DESC_F_WRITE
#define F_INDIRECT VRING_DESC_F_INDIRECT

/* Places of tables and buffers, well apart. */
#define TABLE GUEST_LOW
#define TABLE2 (GUEST_LOW + 0x800)
#define BUF (GUEST_LOW + 0x1000)
#define BUF2 (GUEST_LOW + 0x2000)
#define LOW_END GUEST_HIGH
#define HIGH_END GUEST_WO
#define RO_END (GUEST_RO + PAGE_SIZE)
#define DESC_SIZE sizeof(struct vring_desc)

struct segment {
	u64 addr;
	u32 len;
};

struct fetch_case {
	const char *name;
	u16 head;
	struct guest_desc ring[GUEST_RING_NUM];
	u64 table_at;
	struct guest_desc table[4];
	int ret;
	/* of @segments, how many are to be read and to be written */
	unsigned int out;
	unsigned int in;
	struct segment segments[GUEST_RING_NUM];
};

static const struct fetch_case fetch_cases[] = {
	/* chains in the ring */
	{
		.name = "one buffer to read",
		.ring = { { BUF, 60 } },
		.ret = 1, .out = 1, .segments = { { BUF, 60 } },
	}, {
		.name = "one buffer to write",
		.ring = { { BUF, 60, F_WRITE } },
		.ret = 1, .in = 1, .segments = { { BUF, 60 } },
	}, {
		.name = "chain in the order of its links",
		.head = 3,
		.ring = {
			[3] = { BUF, 12, F_NEXT, 7 },
			[7] = { BUF2, 14, F_NEXT, 0 },
			[0] = { GUEST_HIGH, 1000, 0, 3 },
		},
		.ret = 1, .out = 3,
		.segments = { { BUF, 12 }, { BUF2, 14 }, { GUEST_HIGH, 1000 } },
	}, {
		.name = "buffers to read, then to write",
		.ring = {
			{ BUF, 12, F_NEXT, 1 },
			{ BUF2, 14, F_NEXT | F_WRITE, 2 },
			{ GUEST_HIGH, 16, F_WRITE },
		},
		.ret = 1, .out = 1, .in = 2,
		.segments = { { BUF, 12 }, { BUF2, 14 }, { GUEST_HIGH, 16 } },
	}, {
		.name = "buffer to read after one to write",
		.ring = { { BUF, 12, F_NEXT | F_WRITE, 1 }, { BUF2, 14 } },
		.ret = -EINVAL,
	}, {
		.name = "chain as long as the ring",
		.ring = {
			{ BUF, 1, F_NEXT, 1 }, { BUF, 2, F_NEXT, 2 },
			{ BUF, 3, F_NEXT, 3 }, { BUF, 4, F_NEXT, 4 },
			{ BUF, 5, F_NEXT, 5 }, { BUF, 6, F_NEXT, 6 },
			{ BUF, 7, F_NEXT, 7 }, { BUF, 8 },
		},
		.ret = 1, .out = 8,
		.segments = {
			{ BUF, 1 }, { BUF, 2 }, { BUF, 3 }, { BUF, 4 },
			{ BUF, 5 }, { BUF, 6 }, { BUF, 7 }, { BUF, 8 },
		},
	}, {
		.name = "link of the last descriptor is ignored",
		.ring = { { BUF, 60, 0, U16_MAX } },
		.ret = 1, .out = 1, .segments = { { BUF, 60 } },
	}, {
		.name = "unknown flags are ignored",
		.ring = { { BUF, 60, 0xfff8 } },
		.ret = 1, .out = 1, .segments = { { BUF, 60 } },
	},

	/* links that lead nowhere */
	{
		.name = "head is the ring's size",
		.head = GUEST_RING_NUM,
		.ret = -EINVAL,
	}, {
		.name = "head is far outside",
		.head = U16_MAX,
		.ret = -EINVAL,
	}, {
		.name = "link to the ring's size",
		.ring = { { BUF, 60, F_NEXT, GUEST_RING_NUM } },
		.ret = -EINVAL,
	}, {
		.name = "link to far outside",
		.ring = { { BUF, 60, F_NEXT, U16_MAX } },
		.ret = -EINVAL,
	}, {
		.name = "loop of one",
		.ring = { { BUF, 60, F_NEXT, 0 } },
		.ret = -EINVAL,
	}, {
		.name = "loop of two",
		.ring = { { BUF, 60, F_NEXT, 1 }, { BUF, 60, F_NEXT, 0 } },
		.ret = -EINVAL,
	}, {
		.name = "loop that does not come back to the head",
		.ring = {
			{ BUF, 60, F_NEXT, 1 },
			{ BUF, 60, F_NEXT, 2 },
			{ BUF, 60, F_NEXT, 1 },
		},
		.ret = -EINVAL,
	}, {
		.name = "loop of empty buffers",
		.ring = { { BUF, 0, F_NEXT, 1 }, { BUF, 0, F_NEXT, 0 } },
		.ret = -EINVAL,
	}, {
		.name = "loop of indirect tables",
		.ring = { { TABLE, DESC_SIZE, F_NEXT | F_INDIRECT, 0 } },
		.table_at = TABLE, .table = { { BUF, 0 } },
		.ret = -EINVAL,
	},

	/* lengths and addresses */
	{
		.name = "empty buffer",
		.ring = { { BUF, 0 } },
		.ret = 1,
	}, {
		.name = "empty buffer outside of memory",
		.ring = { { 0x1000, 0, F_NEXT, 1 }, { BUF, 60 } },
		.ret = 1, .out = 1, .segments = { { BUF, 60 } },
	}, {
		.name = "empty buffer to write before one to read",
		.ring = { { BUF, 0, F_NEXT | F_WRITE, 1 }, { BUF2, 60 } },
		.ret = 1, .out = 1, .segments = { { BUF2, 60 } },
	}, {
		.name = "empty buffer to read after one to write",
		.ring = { { BUF, 60, F_NEXT | F_WRITE, 1 }, { BUF2, 0 } },
		.ret = -EINVAL,
	}, {
		.name = "buffer across two regions",
		.ring = { { LOW_END - 20, 60 } },
		.ret = 1, .out = 2,
		.segments = { { LOW_END - 20, 20 }, { GUEST_HIGH, 40 } },
	}, {
		.name = "buffers to read and to write across regions",
		.ring = {
			{ LOW_END - 20, 60, F_NEXT, 1 },
			{ HIGH_END - 1, 2, F_WRITE },
		},
		.ret = 1, .out = 2, .in = 2,
		.segments = {
			{ LOW_END - 20, 20 }, { GUEST_HIGH, 40 },
			{ HIGH_END - 1, 1 }, { GUEST_WO, 1 },
		},
	}, {
		.name = "buffer of a whole region",
		.ring = { { GUEST_LOW, GUEST_LOW_SIZE } },
		.ret = 1, .out = 1,
		.segments = { { GUEST_LOW, GUEST_LOW_SIZE } },
	}, {
		.name = "buffer up to the end of a region",
		.ring = { { RO_END - 60, 60 } },
		.ret = 1, .out = 1, .segments = { { RO_END - 60, 60 } },
	}, {
		.name = "buffer past the end of memory",
		.ring = { { RO_END - 60, 61 } },
		.ret = -EFAULT,
	}, {
		.name = "buffer before the begin of memory",
		.ring = { { GUEST_LOW - 1, 60 } },
		.ret = -EFAULT,
	}, {
		.name = "buffer outside of memory",
		.ring = { { 0x1000, 60 } },
		.ret = -EFAULT,
	}, {
		.name = "second buffer outside of memory",
		.ring = { { BUF, 60, F_NEXT, 1 }, { RO_END, 60 } },
		.ret = -EFAULT,
	}, {
		.name = "buffer of 4 GiB",
		.ring = { { GUEST_BIG, U32_MAX } },
		.ret = -EFAULT,
	}, {
		.name = "buffer up to the last address",
		.ring = { { U64_MAX - 15, 16 } },
		.ret = 1, .out = 1, .segments = { { U64_MAX - 15, 16 } },
	}, {
		.name = "buffer that wraps around",
		.ring = { { U64_MAX - 15, 17 } },
		.ret = -EFAULT,
	}, {
		.name = "buffer that wraps around after one that does not",
		.ring = {
			{ U64_MAX - 31, 16, F_NEXT, 1 }, { U64_MAX - 15, 17 },
		},
		.ret = -EFAULT,
	}, {
		.name = "buffer from the last address on",
		.ring = { { U64_MAX, U32_MAX } },
		.ret = -EFAULT,
	}, {
		.name = "buffer in memory that is not mapped",
		/* found out by whoever reads it */
		.ring = { { GUEST_GONE, 60 } },
		.ret = 1, .out = 1, .segments = { { GUEST_GONE, 60 } },
	},

	/* permissions */
	{
		.name = "read what may be read only",
		.ring = { { GUEST_RO, 60 } },
		.ret = 1, .out = 1, .segments = { { GUEST_RO, 60 } },
	}, {
		.name = "write what may be read only",
		.ring = { { GUEST_RO, 60, F_WRITE } },
		.ret = -EPERM,
	}, {
		.name = "write what may be written only",
		.ring = { { GUEST_WO, 60, F_WRITE } },
		.ret = 1, .in = 1, .segments = { { GUEST_WO, 60 } },
	}, {
		.name = "read what may be written only",
		.ring = { { GUEST_WO, 60 } },
		.ret = -EPERM,
	}, {
		.name = "read into what may be written only",
		.ring = { { HIGH_END - 20, 60 } },
		.ret = -EPERM,
	}, {
		.name = "write and read of one region",
		.ring = {
			{ GUEST_RO, 60, F_NEXT, 1 },
			{ GUEST_RO + 60, 60, F_WRITE },
		},
		.ret = -EPERM,
	},

	/* indirect tables */
	{
		.name = "table of two",
		.ring = { { TABLE, 2 * DESC_SIZE, F_INDIRECT } },
		.table_at = TABLE,
		.table = { { BUF, 12, F_NEXT, 1 }, { BUF2, 60 } },
		.ret = 1, .out = 2, .segments = { { BUF, 12 }, { BUF2, 60 } },
	}, {
		.name = "table is read in order",
		.ring = { { TABLE, 3 * DESC_SIZE, F_INDIRECT } },
		.table_at = TABLE,
		.table = {
			{ BUF, 12, F_NEXT, 2 },
			{ BUF2, 60, F_NEXT, 0 },
			{ GUEST_HIGH, 14, 0, 1 },
		},
		.ret = 1, .out = 3,
		.segments = { { BUF, 12 }, { BUF2, 60 }, { GUEST_HIGH, 14 } },
	}, {
		.name = "table ends before its length",
		.ring = { { TABLE, 3 * DESC_SIZE, F_INDIRECT } },
		.table_at = TABLE,
		.table = { { BUF, 12 }, { 0x1000, 60, F_INDIRECT | F_NEXT } },
		.ret = 1, .out = 1, .segments = { { BUF, 12 } },
	}, {
		.name = "table with buffers to read and to write",
		.ring = { { TABLE, 2 * DESC_SIZE, F_INDIRECT } },
		.table_at = TABLE,
		.table = { { BUF, 12, F_NEXT, 1 }, { BUF2, 60, F_WRITE } },
		.ret = 1, .out = 1, .in = 1,
		.segments = { { BUF, 12 }, { BUF2, 60 } },
	}, {
		.name = "table with a buffer to read after one to write",
		.ring = { { TABLE, 2 * DESC_SIZE, F_INDIRECT } },
		.table_at = TABLE,
		.table = { { BUF, 12, F_NEXT | F_WRITE, 1 }, { BUF2, 60 } },
		.ret = -EINVAL,
	}, {
		.name = "table after a buffer",
		.ring = {
			{ BUF2, 12, F_NEXT, 1 },
			{ TABLE, 2 * DESC_SIZE, F_INDIRECT },
		},
		.table_at = TABLE,
		.table = { { BUF, 14, F_NEXT, 1 }, { GUEST_HIGH, 60 } },
		.ret = 1, .out = 3,
		.segments = { { BUF2, 12 }, { BUF, 14 }, { GUEST_HIGH, 60 } },
	}, {
		.name = "table to read after a buffer to write",
		.ring = {
			{ BUF2, 12, F_NEXT | F_WRITE, 1 },
			{ TABLE, DESC_SIZE, F_INDIRECT },
		},
		.table_at = TABLE, .table = { { BUF, 14 } },
		.ret = -EINVAL,
	}, {
		.name = "table before a buffer",
		.ring = {
			{ TABLE, 2 * DESC_SIZE, F_INDIRECT | F_NEXT, 5 },
			[5] = { BUF2, 12 },
		},
		.table_at = TABLE,
		.table = { { BUF, 14, F_NEXT, 1 }, { GUEST_HIGH, 60 } },
		.ret = 1, .out = 3,
		.segments = { { BUF, 14 }, { GUEST_HIGH, 60 }, { BUF2, 12 } },
	}, {
		.name = "two tables in a chain",
		.ring = {
			{ TABLE, DESC_SIZE, F_INDIRECT | F_NEXT, 1 },
			{ TABLE + DESC_SIZE, DESC_SIZE, F_INDIRECT },
		},
		.table_at = TABLE,
		.table = { { BUF, 14 }, { BUF2, 60 } },
		.ret = 1, .out = 2, .segments = { { BUF, 14 }, { BUF2, 60 } },
	}, {
		.name = "write flag of a table is ignored",
		.ring = { { TABLE, DESC_SIZE, F_INDIRECT | F_WRITE } },
		.table_at = TABLE, .table = { { BUF, 14 } },
		.ret = 1, .out = 1, .segments = { { BUF, 14 } },
	}, {
		.name = "table across two regions",
		.ring = { { LOW_END - DESC_SIZE, 2 * DESC_SIZE, F_INDIRECT } },
		.table_at = LOW_END - DESC_SIZE,
		.table = { { BUF, 14, F_NEXT, 1 }, { BUF2, 60 } },
		.ret = 1, .out = 2, .segments = { { BUF, 14 }, { BUF2, 60 } },
	}, {
		.name = "table with a descriptor across two regions",
		.ring = {
			{ LOW_END - DESC_SIZE / 2, 2 * DESC_SIZE, F_INDIRECT },
		},
		.table_at = LOW_END - DESC_SIZE / 2,
		.table = { { BUF, 14, F_NEXT, 1 }, { BUF2, 60 } },
		.ret = 1, .out = 2, .segments = { { BUF, 14 }, { BUF2, 60 } },
	}, {
		.name = "table that may be read only",
		.ring = { { GUEST_RO, DESC_SIZE, F_INDIRECT } },
		.table_at = GUEST_RO, .table = { { BUF, 14 } },
		.ret = 1, .out = 1, .segments = { { BUF, 14 } },
	}, {
		.name = "table that may be written only",
		.ring = { { GUEST_WO, DESC_SIZE, F_INDIRECT } },
		.table_at = GUEST_WO, .table = { { BUF, 14 } },
		.ret = -EPERM,
	}, {
		.name = "table of no length",
		.ring = { { TABLE, 0, F_INDIRECT } },
		.table_at = TABLE, .table = { { BUF, 14 } },
		.ret = -EINVAL,
	}, {
		.name = "table of half a descriptor",
		.ring = { { TABLE, DESC_SIZE / 2, F_INDIRECT } },
		.table_at = TABLE, .table = { { BUF, 14 } },
		.ret = -EINVAL,
	}, {
		.name = "table with a byte too many",
		.ring = { { TABLE, DESC_SIZE + 1, F_INDIRECT } },
		.table_at = TABLE, .table = { { BUF, 14 } },
		.ret = -EINVAL,
	}, {
		.name = "table without an end",
		.ring = { { TABLE, 2 * DESC_SIZE, F_INDIRECT } },
		.table_at = TABLE,
		.table = { { BUF, 14, F_NEXT, 1 }, { BUF2, 60, F_NEXT, 0 } },
		.ret = -EINVAL,
	}, {
		.name = "table in a table",
		.ring = { { TABLE, DESC_SIZE, F_INDIRECT } },
		.table_at = TABLE,
		.table = { { TABLE2, DESC_SIZE, F_INDIRECT } },
		.ret = -EINVAL,
	}, {
		.name = "table in the middle of a table",
		.ring = { { TABLE, 3 * DESC_SIZE, F_INDIRECT } },
		.table_at = TABLE,
		.table = {
			{ BUF, 14, F_NEXT, 1 },
			{ TABLE2, DESC_SIZE, F_INDIRECT | F_NEXT, 2 },
			{ BUF2, 60 },
		},
		.ret = -EINVAL,
	}, {
		.name = "table outside of memory",
		.ring = { { 0x1000, DESC_SIZE, F_INDIRECT } },
		.ret = -EFAULT,
	}, {
		.name = "table that wraps around",
		.ring = { { U64_MAX - 15, 2 * DESC_SIZE, F_INDIRECT } },
		.table_at = U64_MAX - 15, .table = { { BUF, 14 } },
		.ret = -EFAULT,
	}, {
		.name = "table that wraps around after a buffer",
		.ring = {
			{ U64_MAX - 31, 16, F_NEXT, 1 },
			{ U64_MAX - 15, 2 * DESC_SIZE, F_INDIRECT },
		},
		.table_at = U64_MAX - 15, .table = { { BUF, 14, F_NEXT, 1 } },
		.ret = -EFAULT,
	}, {
		.name = "table in memory that is not mapped",
		.ring = { { GUEST_GONE, DESC_SIZE, F_INDIRECT } },
		.ret = -EFAULT,
	}, {
		.name = "buffer of a table outside of memory",
		.ring = { { TABLE, DESC_SIZE, F_INDIRECT } },
		.table_at = TABLE, .table = { { 0x1000, 14 } },
		.ret = -EFAULT,
	}, {
		/* vhost asks for all of a table, also for what it never reads */
		.name = "table past the end of memory",
		.ring = { { RO_END - DESC_SIZE, 2 * DESC_SIZE, F_INDIRECT } },
		.table_at = RO_END - DESC_SIZE, .table = { { BUF, 14 } },
		.ret = -EFAULT,
	}, {
		.name = "table that may be read in part",
		.ring = { { HIGH_END - DESC_SIZE, 2 * DESC_SIZE, F_INDIRECT } },
		.table_at = HIGH_END - DESC_SIZE, .table = { { BUF, 14 } },
		.ret = -EPERM,
	},
};

KUNIT_ARRAY_PARAM_DESC(fetch, fetch_cases, name);

/*
 * Lets vhost fetch, then the module from the same state; compares what they
 * say and returns that.
 */
static int fetch_both(struct kunit *test, struct crosstalk_chain *chain)
{
	struct guest *g = test->priv;
	struct vhost_virtqueue *vq = &g->vq;
	struct guest_vq_state before = guest_save(g);
	struct guest_vq_state after;
	unsigned int out = 0;
	unsigned int in = 0;
	int theirs;
	int ret;

	theirs = vhost_get_vq_desc(vq, g->theirs, ARRAY_SIZE(g->theirs), &out,
				   &in, NULL, NULL);
	after = guest_save(g);
	guest_restore(g, &before);

	ret = crosstalk_vring_fetch(vq, chain);
	guest_expect_state(g, &after);

	if (theirs < 0) {
		KUNIT_EXPECT_LT(test, ret, 0);
		KUNIT_EXPECT_EQ(test, vq->last_avail_idx,
				before.last_avail_idx);
		return ret;
	}
	if (theirs == vq->num) {
		KUNIT_EXPECT_EQ(test, ret, 0);
		return ret;
	}

	KUNIT_EXPECT_EQ(test, ret, 1);
	if (ret != 1)
		return ret;
	KUNIT_EXPECT_EQ(test, chain->head, theirs);
	KUNIT_EXPECT_EQ(test, chain->out, out);
	KUNIT_EXPECT_EQ(test, chain->in, in);
	KUNIT_EXPECT_EQ(test, chain->out_len, iov_length(vq->iov, chain->out));
	KUNIT_EXPECT_MEMEQ(test, vq->iov, g->theirs,
			   (out + in) * sizeof(*vq->iov));
	return ret;
}

static void expect_segments(struct kunit *test,
			    const struct crosstalk_chain *chain,
			    const struct fetch_case *want)
{
	struct guest *g = test->priv;
	size_t out_len = 0;
	unsigned int i;

	KUNIT_ASSERT_EQ(test, chain->out, want->out);
	KUNIT_ASSERT_EQ(test, chain->in, want->in);
	for (i = 0; i < want->out + want->in; i++) {
		const struct segment *segment = &want->segments[i];
		const struct iovec *iov = &g->vq.iov[i];

		KUNIT_EXPECT_PTR_EQ(test, (__force void *)iov->iov_base,
				    (__force void *)
				    guest_user_ptr(g, segment->addr));
		KUNIT_EXPECT_EQ(test, iov->iov_len, segment->len);
		if (i < want->out)
			out_len += segment->len;
	}
	KUNIT_EXPECT_EQ(test, chain->out_len, out_len);
}

static void fetch_chain(struct kunit *test)
{
	const struct fetch_case *param = test->param_value;
	struct guest *g = test->priv;
	struct crosstalk_chain chain = {};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(param->ring); i++)
		guest_put_desc(g, i, &param->ring[i]);
	for (i = 0; i < ARRAY_SIZE(param->table) && param->table[i].addr; i++)
		guest_put_table(g, param->table_at + i * DESC_SIZE,
				&param->table[i], 1);
	guest_put_avail(g, 0, param->head);

	KUNIT_ASSERT_EQ(test, fetch_both(test, &chain), param->ret);
	if (param->ret != 1)
		return;

	KUNIT_EXPECT_EQ(test, chain.head, param->head);
	expect_segments(test, &chain, param);
}

/* Tables that are too large to be written down. */
struct table_case {
	const char *name;
	u64 at;
	unsigned int nr;		/* descriptors, all alike */
	struct guest_desc desc;
	bool endless;			/* the last one has a successor, too */
	int ret;
	unsigned int segments;
};

static const struct table_case table_cases[] = {
	{
		.name = "as many segments as fit",
		.at = GUEST_BIG, .nr = UIO_MAXIOV, .desc = { BUF, 60, F_NEXT },
		.ret = 1, .segments = UIO_MAXIOV,
	}, {
		.name = "one segment too many",
		.at = GUEST_BIG, .nr = UIO_MAXIOV + 1,
		.desc = { BUF, 60, F_NEXT },
		.ret = -ENOBUFS,
	}, {
		.name = "one segment to write too many",
		.at = GUEST_BIG, .nr = UIO_MAXIOV + 1,
		.desc = { BUF, 60, F_NEXT | F_WRITE },
		.ret = -ENOBUFS,
	}, {
		.name = "one buffer in as many regions as fit",
		.at = GUEST_BIG, .nr = 1,
		.desc = { GUEST_TINY, UIO_MAXIOV * GUEST_TINY_SIZE },
		.ret = 1, .segments = UIO_MAXIOV,
	}, {
		.name = "one buffer in too many regions",
		.at = GUEST_BIG, .nr = 1,
		.desc = { GUEST_TINY, GUEST_NR_TINY * GUEST_TINY_SIZE },
		.ret = -ENOBUFS,
	}, {
		.name = "buffers in too many regions",
		.at = GUEST_BIG, .nr = 2,
		.desc = {
			GUEST_TINY, (UIO_MAXIOV / 2 + 1) * GUEST_TINY_SIZE,
			F_NEXT,
		},
		.ret = -ENOBUFS,
	}, {
		.name = "longest table",
		.at = GUEST_BIG, .nr = USHRT_MAX + 1, .desc = { BUF, 0, F_NEXT },
		.ret = 1,
	}, {
		.name = "longest table without an end",
		.at = GUEST_BIG, .nr = USHRT_MAX + 1, .desc = { BUF, 0, F_NEXT },
		.endless = true,
		.ret = -EINVAL,
	}, {
		.name = "table that is too long",
		.at = GUEST_BIG, .nr = USHRT_MAX + 2, .desc = { BUF, 0, F_NEXT },
		.ret = -E2BIG,
	}, {
		.name = "table in as many regions as fit",
		.at = GUEST_TINY, .nr = UIO_MAXIOV, .desc = { BUF, 0, F_NEXT },
		.ret = 1,
	}, {
		.name = "table in too many regions",
		.at = GUEST_TINY, .nr = GUEST_NR_TINY, .desc = { BUF, 0, F_NEXT },
		.ret = -ENOBUFS,
	},
};

KUNIT_ARRAY_PARAM_DESC(table, table_cases, name);

static void fetch_large_table(struct kunit *test)
{
	const struct table_case *param = test->param_value;
	struct guest_desc head = {
		.addr = param->at,
		.len = param->nr * DESC_SIZE,
		.flags = F_INDIRECT,
	};
	struct guest_desc desc = param->desc;
	struct guest *g = test->priv;
	struct crosstalk_chain chain = {};
	unsigned int i;

	guest_add_tiny(g);
	for (i = 0; i < param->nr; i++) {
		if (i == param->nr - 1 && !param->endless)
			desc.flags &= ~F_NEXT;
		guest_put_table(g, param->at + i * DESC_SIZE, &desc, 1);
	}
	guest_put_desc(g, 0, &head);
	guest_put_avail(g, 0, 0);

	KUNIT_ASSERT_EQ(test, fetch_both(test, &chain), param->ret);
	if (param->ret == 1)
		KUNIT_EXPECT_EQ(test, chain.out + chain.in, param->segments);

	/* vq->iov is not written past its end. */
	KUNIT_EXPECT_EQ(test, g->vq.iotlb_iov[0].iov_len, 0);
}

/*
 * Many tables of empty buffers would keep the worker for minutes.  Here the
 * module is stricter than vhost, on purpose.
 */
static void fetch_endless_empty(struct kunit *test)
{
	/* The longest table, and its end again: all that a chain may have. */
	struct guest_desc tables[] = {
		{
			GUEST_BIG, (USHRT_MAX + 1) * DESC_SIZE,
			F_INDIRECT | F_NEXT, 1,
		}, {
			GUEST_BIG + (USHRT_MAX + 1 - GUEST_RING_NUM) * DESC_SIZE,
			GUEST_RING_NUM * DESC_SIZE, F_INDIRECT,
		},
	};
	struct guest_desc desc = { BUF, 0, F_NEXT };
	struct guest *g = test->priv;
	struct crosstalk_chain chain = {};
	unsigned int i;

	for (i = 0; i < USHRT_MAX + 1; i++)
		guest_put_table(g, GUEST_BIG + i * DESC_SIZE, &desc, 1);
	desc.flags = 0;
	guest_put_table(g, GUEST_BIG + USHRT_MAX * DESC_SIZE, &desc, 1);
	guest_put_desc(g, 0, &tables[0]);
	guest_put_desc(g, 1, &tables[1]);
	guest_put_avail(g, 0, 0);
	KUNIT_EXPECT_EQ(test, fetch_both(test, &chain), 1);

	tables[1].addr -= DESC_SIZE;
	tables[1].len += DESC_SIZE;
	guest_put_desc(g, 1, &tables[1]);
	guest_put_avail(g, 1, 0);
	KUNIT_EXPECT_EQ(test, crosstalk_vring_fetch(&g->vq, &chain), -EINVAL);
	KUNIT_EXPECT_EQ(test, g->vq.last_avail_idx, 1);
}

struct avail_case {
	const char *name;
	u16 last;	/* how far the ring was read */
	u16 cached;	/* how far it is known to be filled */
	u16 idx;	/* how far the guest says that it is filled */
	int ret;
	u16 want_cached;
};

static const struct avail_case avail_cases[] = {
	{ "empty", 5, 5, 5, 0, 5 },
	{ "one chain", 5, 5, 6, 1, 6 },
	{ "index is not read again", 5, 7, 500, 1, 7 },
	{ "full ring", 5, 5, 5 + GUEST_RING_NUM, 1, 5 + GUEST_RING_NUM },
	{ "more than the ring holds", 5, 5, 6 + GUEST_RING_NUM, -EINVAL, 5 },
	{ "index goes back", 5, 5, 4, -EINVAL, 5 },
	{ "index jumps by half", 5, 5, 5 + 0x8000, -EINVAL, 5 },
	{ "index wraps around", U16_MAX, U16_MAX, 0, 1, 0 },
	{ "empty at the wrap", 0, 0, 0, 0, 0 },
	{ "full ring around the wrap", 65530, 65530, 2, 1, 2 },
	{ "jump around the wrap", 65530, 65530, 3, -EINVAL, 65530 },
};

KUNIT_ARRAY_PARAM_DESC(avail, avail_cases, name);

static void fetch_avail_index(struct kunit *test)
{
	const struct avail_case *param = test->param_value;
	static const struct guest_desc desc = { BUF, 60 };
	struct guest *g = test->priv;
	struct crosstalk_chain chain = {};

	g->vq.last_avail_idx = param->last;
	g->vq.avail_idx = param->cached;
	guest_put_desc(g, 0, &desc);
	guest_put_avail(g, param->last, 0);
	guest_put_avail_idx(g, param->idx);

	KUNIT_EXPECT_EQ(test, fetch_both(test, &chain), param->ret);
	KUNIT_EXPECT_EQ(test, g->vq.avail_idx, param->want_cached);
	KUNIT_EXPECT_EQ(test, g->vq.last_avail_idx,
			(u16)(param->last + (param->ret == 1)));
}

/* Every slot in turn, and the index around its wrap. */
static void fetch_stream(struct kunit *test)
{
	struct guest *g = test->priv;
	struct crosstalk_chain chain = {};
	struct guest_desc desc = {};
	unsigned int i;
	u16 idx;

	for (i = 0; i < GUEST_RING_NUM; i++) {
		desc.addr = BUF;
		desc.len = 100 + i;
		guest_put_desc(g, i, &desc);
	}

	idx = -2 * GUEST_RING_NUM;
	g->vq.last_avail_idx = idx;
	g->vq.avail_idx = idx;
	for (i = 0; i < 4 * GUEST_RING_NUM; i++, idx++) {
		u16 head = 3 * i % GUEST_RING_NUM;

		guest_put_avail(g, idx, head);
		KUNIT_ASSERT_EQ(test, fetch_both(test, &chain), 1);
		KUNIT_EXPECT_EQ(test, chain.head, head);
		KUNIT_EXPECT_EQ(test, chain.out_len, 100 + head);
		KUNIT_ASSERT_EQ(test, fetch_both(test, &chain), 0);
	}
}

struct fault_case {
	const char *name;
	/* where they begin, from the page that cannot be accessed; 0: not */
	int avail;
	int desc;
	u16 want_cached;
};

static const struct fault_case fault_cases[] = {
	{ .name = "available index", .avail = PAGE_SIZE - 4 },
	{
		.name = "available ring",
		.avail = -(int)offsetof(struct vring_avail, ring),
		.want_cached = 1,
	},
	{ .name = "first descriptor", .desc = 64, .want_cached = 1 },
	{
		.name = "second descriptor",
		.desc = -(int)DESC_SIZE,
		.want_cached = 1,
	},
};

KUNIT_ARRAY_PARAM_DESC(fault, fault_cases, name);

/* The ring's own memory is gone: nothing is lost when it comes back. */
static void fetch_unmapped_ring(struct kunit *test)
{
	static const struct guest_desc chain_of_two[] = {
		{ BUF, 12, F_NEXT, 1 },
		{ BUF2, 60 },
	};
	const struct fault_case *param = test->param_value;
	struct guest *g = test->priv;
	struct vhost_virtqueue *vq = &g->vq;
	vring_avail_t __user *avail = vq->avail;
	vring_desc_t __user *desc = vq->desc;
	struct crosstalk_chain chain = {};

	guest_put_desc(g, 0, &chain_of_two[0]);
	guest_put_desc(g, 1, &chain_of_two[1]);
	guest_put_avail(g, 0, 0);

	if (param->avail) {
		vq->avail = (vring_avail_t __user *)(g->gone + param->avail);
		if (param->avail < 0)
			guest_put_avail_idx(g, 1);
	}
	if (param->desc) {
		vq->desc = (vring_desc_t __user *)(g->gone + param->desc);
		if (param->desc < 0)
			guest_put_desc(g, 0, &chain_of_two[0]);
	}
	KUNIT_EXPECT_EQ(test, fetch_both(test, &chain), -EFAULT);
	KUNIT_EXPECT_EQ(test, vq->last_avail_idx, 0);
	KUNIT_EXPECT_EQ(test, vq->avail_idx, param->want_cached);

	vq->avail = avail;
	vq->desc = desc;
	KUNIT_EXPECT_EQ(test, fetch_both(test, &chain), 1);
	KUNIT_EXPECT_EQ(test, chain.out, 2);
	KUNIT_EXPECT_EQ(test, vq->last_avail_idx, 1);
}

#define RANDOM_ROUNDS 4000
#define RANDOM_TABLE 8

static u32 random_below(struct rnd_state *rnd, u32 limit)
{
	return prandom_u32_state(rnd) % limit;
}

/* True once in @n. */
static bool random_once_in(struct rnd_state *rnd, u32 n)
{
	return !random_below(rnd, n);
}

static struct guest_desc random_desc(struct rnd_state *rnd, u16 num)
{
	static const u64 addrs[] = {
		BUF, BUF2, GUEST_HIGH, LOW_END, HIGH_END, GUEST_WO, GUEST_RO,
		GUEST_BIG, GUEST_TINY, GUEST_GONE, RO_END, U64_MAX, 0,
	};
	static const u32 lens[] = {
		0, 1, 12, 16, 60, 1514, PAGE_SIZE, SZ_16K, SZ_64K, U32_MAX,
	};
	struct guest_desc desc = {
		/* the first ones of each are good, and more likely */
		.addr = addrs[random_below(rnd, 1 + random_below(rnd,
						ARRAY_SIZE(addrs)))],
		.len = lens[random_below(rnd, 1 + random_below(rnd,
						ARRAY_SIZE(lens)))],
		.next = random_below(rnd, num),
	};

	if (random_once_in(rnd, 2))
		desc.flags |= F_NEXT;
	if (random_once_in(rnd, 4))
		desc.flags |= F_WRITE;
	if (random_once_in(rnd, 4))
		desc.addr -= random_below(rnd, 64);
	if (random_once_in(rnd, 64))
		desc.next = num;
	if (random_once_in(rnd, 16))
		desc.flags |= prandom_u32_state(rnd) & ~F_INDIRECT;
	return desc;
}

/* A table at @addr, and the descriptor that points at it. */
static struct guest_desc random_table(struct guest *g, struct rnd_state *rnd,
				      u64 addr)
{
	unsigned int nr = random_below(rnd, RANDOM_TABLE + 1);
	struct guest_desc head = random_desc(rnd, g->vq.num);
	struct guest_desc desc;
	unsigned int i;

	for (i = 0; i < RANDOM_TABLE; i++) {
		desc = random_desc(rnd, g->vq.num);
		if (random_once_in(rnd, 64))
			desc.flags |= F_INDIRECT;
		guest_put_table(g, addr + i * DESC_SIZE, &desc, 1);
	}

	head.flags |= F_INDIRECT;
	if (!random_once_in(rnd, 16))
		head.addr = addr;
	if (!random_once_in(rnd, 16))
		head.len = nr * DESC_SIZE;
	return head;
}

/* What nobody thought of. */
static void fetch_random(struct kunit *test)
{
	struct guest *g = test->priv;
	struct vhost_virtqueue *vq = &g->vq;
	unsigned int chains = 0;
	struct rnd_state rnd;
	unsigned int round;

	guest_add_tiny(g);
	prandom_seed_state(&rnd, 20260101);
	for (round = 0; round < RANDOM_ROUNDS; round++) {
		struct crosstalk_chain chain = {};
		struct guest_desc desc;
		unsigned int i;
		u16 idx;

		vq->num = 1 << random_below(&rnd, 5);
		for (i = 0; i < vq->num; i++) {
			desc = random_desc(&rnd, vq->num);
			if (random_once_in(&rnd, 4))
				desc = random_table(g, &rnd, LOW_END -
						    (i + 1) * DESC_SIZE);
			guest_put_desc(g, i, &desc);
		}

		idx = prandom_u32_state(&rnd);
		vq->last_avail_idx = idx;
		vq->avail_idx = idx;
		guest_put_avail(g, idx, random_below(&rnd, vq->num));
		if (fetch_both(test, &chain) == 1)
			chains++;
		if (READ_ONCE(test->status) == KUNIT_FAILURE) {
			kunit_err(test, "in round %u", round);
			return;
		}
	}

	/* Neither nonsense only nor good chains only. */
	KUNIT_EXPECT_GT(test, chains, RANDOM_ROUNDS / 8);
	KUNIT_EXPECT_LT(test, chains, RANDOM_ROUNDS / 8 * 7);
}

static struct kunit_case vring_fetch_cases[] = {
	KUNIT_CASE_PARAM(fetch_chain, fetch_gen_params),
	KUNIT_CASE_PARAM(fetch_large_table, table_gen_params),
	KUNIT_CASE(fetch_endless_empty),
	KUNIT_CASE_PARAM(fetch_avail_index, avail_gen_params),
	KUNIT_CASE(fetch_stream),
	KUNIT_CASE_PARAM(fetch_unmapped_ring, fault_gen_params),
	KUNIT_CASE(fetch_random),
	{}
};

static struct kunit_suite vring_fetch_suite = {
	.name = "crosstalk_vring_fetch",
	.init = guest_init,
	.test_cases = vring_fetch_cases,
};

kunit_test_suite(vring_fetch_suite);
