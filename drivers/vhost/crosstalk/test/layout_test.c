// SPDX-License-Identifier: GPL-2.0
/*
 * crosstalk_btf_open() and crosstalk_btf_check(), on BTF that is put together
 * here.  It comes from the kernel itself and is right; what is not must still
 * never make the module read past its end.
 */

#include <kunit/test.h>
#include <linux/btf.h>
#include <linux/module.h>
#include <linux/string.h>

#include "layout.h"

#define MAX_WORDS 256
#define MAX_STRS 256

/* The struct that all tests look for. */
struct sample {
	u64 first;
	u64 second;
	u64 third;
};

static const struct crosstalk_member sample_members[] = {
	{ "first", 0 }, { "second", 8 }, { "third", 16 },
};

static const struct crosstalk_struct sample_struct = {
	.name = "sample",
	.size = sizeof(struct sample),
	.nr_members = ARRAY_SIZE(sample_members),
	.members = sample_members,
};

/* BTF in the making. */
struct blob {
	struct kunit *test;
	u32 types[MAX_WORDS];
	unsigned int nr_types;		/* words */
	char strs[MAX_STRS];
	u32 strs_len;
	u32 strs_base;			/* bytes of strings in the base */
};

/* ... and when it is done. */
struct sealed {
	void *data;
	size_t size;
};

static struct blob *new_blob(struct kunit *test, u32 strs_base)
{
	struct blob *b = kunit_kzalloc(test, sizeof(*b), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, b);
	b->test = test;
	b->strs_base = strs_base;
	b->strs_len = 1;
	return b;
}

static u32 put_str(struct blob *b, const char *str)
{
	u32 off = b->strs_len;

	KUNIT_ASSERT_LE(b->test, off + strlen(str) + 1, MAX_STRS);
	strscpy(b->strs + off, str, MAX_STRS - off);
	b->strs_len += strlen(str) + 1;
	return b->strs_base + off;
}

static void put_word(struct blob *b, u32 word)
{
	KUNIT_ASSERT_LT(b->test, b->nr_types, MAX_WORDS);
	b->types[b->nr_types++] = word;
}

static void put_type(struct blob *b, u32 name, u32 info, u32 size)
{
	put_word(b, name);
	put_word(b, info);
	put_word(b, size);
}

static u32 info(u32 kind, bool kflag, u32 vlen)
{
	return (u32)kflag << 31 | kind << 24 | vlen;
}

static void put_member(struct blob *b, u32 name, u32 bits)
{
	put_word(b, name);
	put_word(b, 0);
	put_word(b, bits);
}

/* struct sample, or a union or another struct with its members. */
static void put_sample(struct blob *b, const char *name, u32 kind, bool kflag)
{
	unsigned int i;

	put_type(b, put_str(b, name),
		 info(kind, kflag, ARRAY_SIZE(sample_members)),
		 sizeof(struct sample));
	for (i = 0; i < ARRAY_SIZE(sample_members); i++)
		put_member(b, put_str(b, sample_members[i].name),
			   8 * sample_members[i].offset);
}

/* One type of each kind, with as much behind it as belongs there. */
static void put_all_kinds(struct blob *b)
{
	static const struct {
		u32 kind;
		u32 vlen;
		unsigned int extra;	/* words */
	} kinds[] = {
		{ BTF_KIND_INT, 0, 1 },
		{ BTF_KIND_PTR, 0, 0 },
		{ BTF_KIND_ARRAY, 0, 3 },
		{ BTF_KIND_STRUCT, 0, 0 },
		{ BTF_KIND_STRUCT, 2, 6 },
		{ BTF_KIND_UNION, 3, 9 },
		{ BTF_KIND_ENUM, 2, 4 },
		{ BTF_KIND_FWD, 0, 0 },
		{ BTF_KIND_TYPEDEF, 0, 0 },
		{ BTF_KIND_VOLATILE, 0, 0 },
		{ BTF_KIND_CONST, 0, 0 },
		{ BTF_KIND_RESTRICT, 0, 0 },
		/* its vlen says how it is linked, nothing follows */
		{ BTF_KIND_FUNC, 1, 0 },
		{ BTF_KIND_FUNC_PROTO, 3, 6 },
		{ BTF_KIND_VAR, 0, 1 },
		{ BTF_KIND_DATASEC, 2, 6 },
		{ BTF_KIND_FLOAT, 0, 0 },
		{ BTF_KIND_DECL_TAG, 0, 1 },
		{ BTF_KIND_TYPE_TAG, 0, 0 },
		{ BTF_KIND_ENUM64, 2, 6 },
	};
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		put_type(b, 0, info(kinds[i].kind, false, kinds[i].vlen), 0);
		/* Read as a type, this would be of no known kind. */
		for (j = 0; j < kinds[i].extra; j++)
			put_word(b, U32_MAX);
	}
}

/* Exactly as large as it is, so that KASAN sees a byte too far. */
static struct sealed seal(const struct blob *b, bool strs_last)
{
	u32 types_len = b->nr_types * sizeof(b->types[0]);
	struct btf_header hdr = {
		.magic = BTF_MAGIC,
		.version = 1,
		.hdr_len = sizeof(hdr),
		.type_off = strs_last ? 0 : ALIGN(b->strs_len, 4),
		.type_len = types_len,
		.str_off = strs_last ? types_len : 0,
		.str_len = b->strs_len,
	};
	struct sealed s;

	s.size = sizeof(hdr) + max(hdr.type_off + hdr.type_len,
				   hdr.str_off + hdr.str_len);
	s.data = kunit_kzalloc(b->test, s.size, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(b->test, s.data);
	memcpy(s.data, &hdr, sizeof(hdr));
	memcpy(s.data + sizeof(hdr) + hdr.type_off, b->types, hdr.type_len);
	memcpy(s.data + sizeof(hdr) + hdr.str_off, b->strs, hdr.str_len);
	return s;
}

static struct crosstalk_btf open_blob(const struct blob *b,
				      const struct crosstalk_btf *base)
{
	struct sealed s = seal(b, false);
	struct crosstalk_btf btf;

	KUNIT_ASSERT_EQ(b->test, 0,
			crosstalk_btf_open(&btf, s.data, s.size, base));
	return btf;
}

struct check_case {
	const char *name;
	const char *struct_name;
	u32 size;
	struct crosstalk_member members[3];
	int ret;
};

static const struct check_case check_cases[] = {
	{
		"as built", "sample", 24,
		{ { "first", 0 }, { "second", 8 }, { "third", 16 } }, 0,
	}, {
		"some members", "sample", 24, { { "third", 16 } }, 0,
	}, {
		"members in another order", "sample", 24,
		{ { "third", 16 }, { "first", 0 } }, 0,
	}, {
		"no members", "sample", 24, {}, 0,
	}, {
		"larger", "sample", 32, { { "first", 0 } }, -EBADMSG,
	}, {
		"smaller", "sample", 16, { { "first", 0 } }, -EBADMSG,
	}, {
		"first member moved", "sample", 24,
		{ { "first", 8 }, { "second", 8 } }, -EBADMSG,
	}, {
		"last member moved", "sample", 24,
		{ { "first", 0 }, { "second", 8 }, { "third", 17 } }, -EBADMSG,
	}, {
		"no such member", "sample", 24,
		{ { "first", 0 }, { "fourth", 8 } }, -ENOENT,
	}, {
		"member whose name goes on", "sample", 24,
		{ { "firs", 0 } }, -ENOENT,
	}, {
		"no such struct", "example", 24, { { "first", 0 } }, -ENOENT,
	}, {
		"struct whose name goes on", "samp", 24, {}, -ENOENT,
	}, {
		"union of that name", "united", 24, {}, -ENOENT,
	},
};

KUNIT_ARRAY_PARAM_DESC(check, check_cases, name);

static void check_struct(struct kunit *test)
{
	const struct check_case *param = test->param_value;
	struct crosstalk_struct want = {
		.name = param->struct_name,
		.size = param->size,
		.members = param->members,
	};
	unsigned int kflag;

	while (want.nr_members < ARRAY_SIZE(param->members) &&
	       param->members[want.nr_members].name)
		want.nr_members++;

	for (kflag = 0; kflag < 2; kflag++) {
		struct blob *b = new_blob(test, 0);
		struct crosstalk_btf btf;

		put_all_kinds(b);
		put_sample(b, "united", BTF_KIND_UNION, kflag);
		put_sample(b, "sample", BTF_KIND_STRUCT, kflag);
		btf = open_blob(b, NULL);
		KUNIT_EXPECT_EQ(test, crosstalk_btf_check(&btf, &want),
				param->ret);
	}
}

struct place_case {
	const char *name;
	bool kflag;
	u32 bits;	/* as BTF has them */
	u32 offset;	/* as the module was built */
	int ret;
};

static const struct place_case place_cases[] = {
	{ "plain", false, 64, 8, 0 },
	{ "plain, between bytes", false, 68, 8, -EBADMSG },
	{ "plain, beyond 24 bits", false, 0x3000000, 0x600000, 0 },
	{ "plain, moved beyond 24 bits", false, 0x3000040, 8, -EBADMSG },
	{ "no bit field", true, 64, 8, 0 },
	{ "bit field", true, 3 << 24 | 64, 8, 0 },
	{ "bit field between bytes", true, 3 << 24 | 66, 8, -EBADMSG },
	{ "bit field, moved", true, 3 << 24 | 72, 8, -EBADMSG },
};

KUNIT_ARRAY_PARAM_DESC(place, place_cases, name);

static void check_place(struct kunit *test)
{
	const struct place_case *param = test->param_value;
	const struct crosstalk_member member = { "member", param->offset };
	const struct crosstalk_struct want = {
		.name = "placed",
		.size = 0x1000000,
		.nr_members = 1,
		.members = &member,
	};
	struct blob *b = new_blob(test, 0);
	struct crosstalk_btf btf;

	put_type(b, put_str(b, want.name),
		 info(BTF_KIND_STRUCT, param->kflag, 1), want.size);
	put_member(b, put_str(b, member.name), param->bits);
	btf = open_blob(b, NULL);
	KUNIT_EXPECT_EQ(test, crosstalk_btf_check(&btf, &want), param->ret);
}

/* What follows cannot be found: its begin is not known. */
static void check_unknown_kind(struct kunit *test)
{
	struct blob *after = new_blob(test, 0);
	struct blob *before = new_blob(test, 0);
	struct crosstalk_btf btf;

	put_sample(after, "sample", BTF_KIND_STRUCT, false);
	put_type(after, 0, info(0x1f, false, 0), 0);
	btf = open_blob(after, NULL);
	KUNIT_EXPECT_EQ(test, crosstalk_btf_check(&btf, &sample_struct), 0);

	put_type(before, 0, info(0x1f, false, 0), 0);
	put_sample(before, "sample", BTF_KIND_STRUCT, false);
	btf = open_blob(before, NULL);
	KUNIT_EXPECT_EQ(test, crosstalk_btf_check(&btf, &sample_struct),
			-ENOENT);
}

static void check_split_found_in_module(struct kunit *test)
{
	struct blob *base = new_blob(test, 0);
	struct crosstalk_btf base_btf, btf;
	struct blob *module;

	/* vmlinux knows another struct of this name: the module's counts. */
	put_type(base, put_str(base, "sample"), info(BTF_KIND_STRUCT, false, 0),
		 4);
	base_btf = open_blob(base, NULL);

	module = new_blob(test, base->strs_len);
	put_all_kinds(module);
	put_sample(module, "sample", BTF_KIND_STRUCT, true);
	btf = open_blob(module, &base_btf);
	KUNIT_EXPECT_EQ(test, crosstalk_btf_check(&btf, &sample_struct), 0);
}

static void check_split_names_in_base(struct kunit *test)
{
	struct blob *base = new_blob(test, 0);
	struct crosstalk_btf base_btf, btf;
	struct blob *module;
	u32 names[4];
	unsigned int i;

	names[0] = put_str(base, "sample");
	for (i = 0; i < ARRAY_SIZE(sample_members); i++)
		names[i + 1] = put_str(base, sample_members[i].name);
	base_btf = open_blob(base, NULL);

	module = new_blob(test, base->strs_len);
	put_str(module, "something else");
	put_type(module, names[0],
		 info(BTF_KIND_STRUCT, false, ARRAY_SIZE(sample_members)),
		 sizeof(struct sample));
	for (i = 0; i < ARRAY_SIZE(sample_members); i++)
		put_member(module, names[i + 1], 8 * sample_members[i].offset);
	btf = open_blob(module, &base_btf);
	KUNIT_EXPECT_EQ(test, crosstalk_btf_check(&btf, &sample_struct), 0);
}

static void check_split_found_in_base(struct kunit *test)
{
	struct blob *base = new_blob(test, 0);
	struct crosstalk_btf base_btf, btf;
	struct blob *module;

	put_sample(base, "sample", BTF_KIND_STRUCT, false);
	base_btf = open_blob(base, NULL);

	module = new_blob(test, base->strs_len);
	put_sample(module, "example", BTF_KIND_STRUCT, false);
	btf = open_blob(module, &base_btf);
	KUNIT_EXPECT_EQ(test, crosstalk_btf_check(&btf, &sample_struct), 0);
}

/* Names that lie behind all strings are no names. */
static void check_split_names_nowhere(struct kunit *test)
{
	static const u32 beyond[] = { 0, 1, 1000, U32_MAX / 2 };
	struct blob *base = new_blob(test, 0);
	struct crosstalk_btf base_btf, btf;
	unsigned int i;

	put_str(base, "sampl");
	base_btf = open_blob(base, NULL);

	for (i = 0; i < ARRAY_SIZE(beyond); i++) {
		struct blob *module = new_blob(test, base->strs_len);

		put_type(module, base->strs_len + module->strs_len + beyond[i],
			 info(BTF_KIND_STRUCT, false, 0),
			 sizeof(struct sample));
		btf = open_blob(module, &base_btf);
		KUNIT_EXPECT_EQ(test, crosstalk_btf_check(&btf, &sample_struct),
				-ENOENT);
	}
}

/* Small: each damage to it is a line in the log. */
static struct blob *small_blob(struct kunit *test)
{
	struct blob *b = new_blob(test, 0);

	put_type(b, 0, info(BTF_KIND_INT, false, 0), 8);
	put_word(b, 64);
	put_sample(b, "sample", BTF_KIND_STRUCT, false);
	return b;
}

#define HDR(member) offsetof(struct btf_header, member)

struct header_case {
	const char *name;
	u32 offset;
	u32 value;
};

static const struct header_case header_cases[] = {
	{ "no magic", HDR(magic), 0 },
	{ "magic of the other byte order", HDR(magic), 0x9feb },
	{ "no header length", HDR(hdr_len), 0 },
	{ "header too short", HDR(hdr_len), sizeof(struct btf_header) - 1 },
	{ "header past the end", HDR(hdr_len), 0x10000 },
	{ "header of 4 GiB", HDR(hdr_len), U32_MAX },
	{ "types past the end", HDR(type_off), 0x10000 },
	{ "types not aligned", HDR(type_off), 2 },
	{ "types at 4 GiB", HDR(type_off), 0xfffffffc },
	{ "more types than there are", HDR(type_len), 0x10000 },
	{ "types of 4 GiB", HDR(type_len), U32_MAX },
	{ "strings past the end", HDR(str_off), 0x10000 },
	{ "strings at 4 GiB", HDR(str_off), U32_MAX },
	{ "more strings than there are", HDR(str_len), 0x10000 },
	{ "strings of 4 GiB", HDR(str_len), U32_MAX },
	{ "last string has no end", HDR(str_len), 3 },
};

KUNIT_ARRAY_PARAM_DESC(header, header_cases, name);

static void open_bad_header(struct kunit *test)
{
	const struct header_case *param = test->param_value;
	struct blob *b = small_blob(test);
	struct crosstalk_btf btf;
	struct sealed s;
	unsigned int i;

	/* Empty strings: with a header too short, still one is the last. */
	for (i = 0; i < sizeof(struct btf_header); i++)
		put_str(b, "");
	s = seal(b, false);
	KUNIT_ASSERT_EQ(test, 0,
			crosstalk_btf_open(&btf, s.data, s.size, NULL));
	memcpy(s.data + param->offset, &param->value, sizeof(param->value));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			crosstalk_btf_open(&btf, s.data, s.size, NULL));
}

/* Opens and checks a copy of exactly @size bytes, which may be nonsense. */
static int try_nonsense(struct kunit *test, const void *data, size_t size)
{
	struct crosstalk_btf btf;
	void *copy;
	int ret;

	copy = kunit_kmalloc(test, size, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, copy);
	memcpy(copy, data, size);

	ret = crosstalk_btf_open(&btf, copy, size, NULL);
	if (!ret)
		ret = crosstalk_btf_check(&btf, &sample_struct);
	kunit_kfree(test, copy);
	return ret;
}

/* The end of the data is missing. */
static void open_truncated(struct kunit *test)
{
	struct sealed s = seal(small_blob(test), false);
	size_t size;

	for (size = 0; size < s.size; size++)
		KUNIT_EXPECT_EQ(test, -EINVAL, try_nonsense(test, s.data, size));
	KUNIT_EXPECT_EQ(test, 0, try_nonsense(test, s.data, s.size));
}

/* The end of the types is missing, and the header says so. */
static void check_truncated_types(struct kunit *test)
{
	struct sealed s = seal(small_blob(test), false);
	struct btf_header *hdr = s.data;
	size_t size = s.size;

	while (hdr->type_len) {
		hdr->type_len--;
		size--;
		KUNIT_EXPECT_EQ(test, -ENOENT, try_nonsense(test, s.data, size));
	}
}

/* The end of the strings is missing: "third" is the last of them. */
static void check_truncated_strings(struct kunit *test)
{
	struct sealed s = seal(small_blob(test), true);
	struct btf_header *hdr = s.data;
	size_t size = s.size;

	while (hdr->str_len > 1) {
		char *last;

		hdr->str_len--;
		size--;
		last = s.data + size - 1;
		if (*last) {
			KUNIT_EXPECT_EQ(test, -EINVAL,
					try_nonsense(test, s.data, size));
			*last = '\0';
		}
		KUNIT_EXPECT_EQ(test, -ENOENT, try_nonsense(test, s.data, size));
	}

	/* No strings at all */
	hdr->str_len = 0;
	KUNIT_EXPECT_EQ(test, -ENOENT, try_nonsense(test, s.data, size - 1));
}

/* Whatever a byte is: an answer, and nothing read past the end (KASAN). */
static void check_damaged(struct kunit *test)
{
	struct sealed s = seal(small_blob(test), false);
	u8 *data = s.data;
	size_t i;

	for (i = 0; i < s.size; i++) {
		u8 byte = data[i];
		int ret;

		data[i] = ~byte;
		ret = try_nonsense(test, data, s.size);
		KUNIT_EXPECT_TRUE(test, !ret || ret == -EINVAL ||
				  ret == -ENOENT || ret == -EBADMSG);
		data[i] = byte;
	}
}

static struct kunit_case layout_cases[] = {
	KUNIT_CASE_PARAM(check_struct, check_gen_params),
	KUNIT_CASE_PARAM(check_place, place_gen_params),
	KUNIT_CASE(check_unknown_kind),
	KUNIT_CASE(check_split_found_in_module),
	KUNIT_CASE(check_split_names_in_base),
	KUNIT_CASE(check_split_found_in_base),
	KUNIT_CASE(check_split_names_nowhere),
	KUNIT_CASE_PARAM(open_bad_header, header_gen_params),
	KUNIT_CASE(open_truncated),
	KUNIT_CASE(check_truncated_types),
	KUNIT_CASE(check_truncated_strings),
	KUNIT_CASE(check_damaged),
	{}
};

static struct kunit_suite layout_suite = {
	.name = "crosstalk_layout",
	.test_cases = layout_cases,
};

kunit_test_suite(layout_suite);
