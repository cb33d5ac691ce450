// SPDX-License-Identifier: GPL-2.0
/*
 * crosstalk_copy_from_segments(): bytes of a frame, gathered from guest memory.
 */

#include <linux/module.h>
#include <linux/uaccess.h>
#include <linux/uio.h>

#include "backend.h"
#include "guest.h"

#define MAX_SEGMENTS 4
/* Segments lie apart, so that one that is too long brings wrong bytes. */
#define STRIDE 256
#define IN_GONE 0x10000

struct copy_case {
	const char *name;
	unsigned int nr;
	size_t segments[MAX_SEGMENTS];	/* lengths; IN_GONE: not mapped */
	size_t skip;
	size_t len;
	int ret;
};

static const struct copy_case copy_cases[] = {
	{ "all of one", 1, { 60 }, 0, 60, 0 },
	{ "head of one", 1, { 60 }, 0, 14, 0 },
	{ "tail of one", 1, { 60 }, 12, 48, 0 },
	{ "middle of one", 1, { 60 }, 12, 14, 0 },
	{ "one byte", 1, { 60 }, 59, 1, 0 },
	{ "all of several", 3, { 12, 14, 100 }, 0, 126, 0 },
	{ "skip whole segments", 3, { 12, 14, 100 }, 26, 100, 0 },
	{ "skip to the end of a segment", 3, { 12, 14, 100 }, 12, 114, 0 },
	{ "skip into a segment", 3, { 12, 14, 100 }, 20, 50, 0 },
	{ "end at the end of a segment", 3, { 12, 14, 100 }, 4, 22, 0 },
	{ "one byte from each", 4, { 1, 1, 1, 1 }, 0, 4, 0 },
	{ "empty segments between", 4, { 0, 12, 0, 60 }, 6, 40, 0 },
	{ "empty segments before", 4, { 0, 0, 12, 60 }, 0, 72, 0 },
	{ "nothing", 2, { 12, 60 }, 0, 0, 0 },
	{ "nothing of no segments", 0, {}, 0, 0, 0 },
	{ "something of no segments", 0, {}, 0, 1, -EFAULT },
	{ "one byte too many", 2, { 12, 60 }, 0, 73, -EFAULT },
	{ "one byte too many after skipping", 2, { 12, 60 }, 13, 60, -EFAULT },
	{ "skip everything", 2, { 12, 60 }, 72, 1, -EFAULT },
	{ "skip more than there is", 2, { 12, 60 }, 100, 1, -EFAULT },
	{ "not mapped", 1, { IN_GONE + 60 }, 0, 60, -EFAULT },
	{ "second is not mapped", 2, { 12, IN_GONE + 60 }, 0, 72, -EFAULT },
	{ "not mapped, but not needed", 2, { 12, IN_GONE + 60 }, 0, 12, 0 },
	{ "not mapped, but skipped", 2, { IN_GONE + 60, 12 }, 60, 12, 0 },
};

KUNIT_ARRAY_PARAM_DESC(copy, copy_cases, name);

/* Fills @iov, and @bytes with what the segments hold one after the other. */
static void make_segments(struct kunit *test, const struct copy_case *param,
			  struct iovec *iov, u8 *bytes)
{
	struct guest *g = test->priv;
	u8 next = 1;
	unsigned int i;

	for (i = 0; i < param->nr; i++) {
		size_t len = param->segments[i] % IN_GONE;
		size_t j;

		for (j = 0; j < len; j++)
			bytes[j] = next++;

		iov[i].iov_len = len;
		iov[i].iov_base = g->gone;
		if (param->segments[i] < IN_GONE) {
			iov[i].iov_base = g->mem + i * STRIDE;
			KUNIT_ASSERT_EQ(test, 0, copy_to_user(iov[i].iov_base,
							      bytes, len));
		}
		bytes += len;
	}
}

static void copy_segments(struct kunit *test)
{
	const struct copy_case *param = test->param_value;
	struct iovec iov[MAX_SEGMENTS];
	u8 bytes[MAX_SEGMENTS * STRIDE];
	u8 *to;

	make_segments(test, param, iov, bytes);
	/* KASAN tells of a byte too many. */
	to = kunit_kzalloc(test, param->len, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, to);

	KUNIT_ASSERT_EQ(test, param->ret,
			crosstalk_copy_from_segments(to, iov, param->nr,
						     param->skip, param->len));
	if (!param->ret)
		KUNIT_EXPECT_MEMEQ(test, to, bytes + param->skip, param->len);
}

static struct kunit_case backend_cases[] = {
	KUNIT_CASE_PARAM(copy_segments, copy_gen_params),
	{}
};

static struct kunit_suite backend_suite = {
	.name = "crosstalk_backend",
	.init = guest_init,
	.test_cases = backend_cases,
};

kunit_test_suite(backend_suite);
