// SPDX-License-Identifier: GPL-2.0
/*
 * guestram's frames: every way from one state to another, of those that are in
 * Documentation/guestram.rst.  What is compared each time: each slot's contents,
 * sharers, mapping and mark, each frame's references, and all sums.
 */

#include <linux/completion.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/prandom.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#include "ram.h"

#define RANDOM_STEPS 1000
#define RACE_STEPS 3000

static void limit_to(const struct ram *r, unsigned long slots)
{
	WRITE_ONCE(ram_sb(r)->limit, slots);
}

static bool unmap_file(const struct ram *r, unsigned int file)
{
	return !vm_munmap((unsigned long)r->mem[file], RAM_PAGES * PAGE_SIZE);
}

/* ---- slots of one frame each ---- */

static void filled_by_any_touch(struct kunit *test)
{
	struct ram *r = test->priv;

	ram_expect(r, "- - - - - -");
	ram_look(r, A0);
	ram_expect(r, "z0m - - - - -");
	ram_put(r, A1, 'A');
	ram_expect(r, "z0m A0m - - - -");
	KUNIT_EXPECT_EQ(test, PAGE_SIZE, ram_write(r, B0, 'B'));
	ram_expect(r, "z0m A0m B0 - - -");
	KUNIT_EXPECT_EQ(test, 0, ram_fill(r, B0, 2));
	ram_expect(r, "z0m A0m B0 z0 - -");
	ram_look(r, B0);
	ram_unmap(r, A0);
	ram_expect(r, "z0 A0m B0m z0 - -");
}

static void new_ones_are_zeroed(struct kunit *test)
{
	struct ram *r = test->priv;
	enum ram_slot slot;
	unsigned int i;

	for (i = 0; i < 8; i++) {
		for (slot = 0; slot < RAM_SLOTS; slot++)
			ram_put(r, slot, 'X');
		ram_expect(r, "X0m X0m X0m X0m X0m X0m");
		for (slot = 0; slot < RAM_SLOTS; slot++)
			KUNIT_EXPECT_EQ(test, 0, ram_punch(r, slot));
		ram_expect(r, "- - - - - -");
		KUNIT_EXPECT_EQ(test, 0, ram_fill(r, A0, 2));
		for (slot = B0; slot < RAM_SLOTS; slot++)
			ram_look(r, slot);
		ram_expect(r, "z0 z0 z0m z0m z0m z0m");
	}
}

static void emptied(struct kunit *test)
{
	struct ram *r = test->priv;

	ram_put(r, A0, 'A');
	ram_put(r, A1, 'B');
	ram_put(r, B0, 'C');
	KUNIT_EXPECT_EQ(test, 0, ram_punch(r, A0));
	ram_expect(r, "- B0m C0m - - -");
	KUNIT_EXPECT_EQ(test, 0, ram_punch(r, A0));
	KUNIT_EXPECT_EQ(test, 0, ram_resize(r, 0, PAGE_SIZE));
	ram_expect(r, "- - C0m - - -");

	/* A reference outlives it, and nothing else does. */
	ram_grab(r, B0);
	KUNIT_EXPECT_EQ(test, 0, ram_punch(r, B0));
	ram_expect(r, "- - - - - -");
	KUNIT_EXPECT_EQ(test, folio_ref_count(r->foreign), 1);
	KUNIT_EXPECT_NULL(test, r->foreign->mapping);
	KUNIT_EXPECT_EQ(test, ram_letter(r->foreign), 'C');
	ram_look(r, B0);
	KUNIT_EXPECT_PTR_NE(test, ram_frame(r, B0), r->foreign);
	ram_expect(r, "- - z0m - - -");
	ram_let_go(r);

	ram_put(r, C1, 'D');
	KUNIT_ASSERT_TRUE(test, unmap_file(r, 2));
	ram_close(r, 2);
	ram_expect(r, "- - z0m - - -");
}

static void limited(struct kunit *test)
{
	struct ram *r = test->priv;
	u8 byte;

	ram_put(r, A0, 'A');
	limit_to(r, 2);
	/* The first of the two goes again. */
	KUNIT_EXPECT_EQ(test, -ENOSPC, ram_fill(r, B0, 2));
	ram_expect(r, "A0m - - - - -");
	KUNIT_EXPECT_EQ(test, 0, ram_fill(r, B0, 1));
	ram_expect(r, "A0m - z0 - - -");
	KUNIT_EXPECT_EQ(test, -ENOSPC, ram_write(r, A1, 'X'));
	KUNIT_EXPECT_NE(test, 0, copy_from_user(&byte, r->mem[2], 1));
	ram_expect(r, "A0m - z0 - - -");
	KUNIT_EXPECT_EQ(test, -ENOSPC, ram_fill(r, A0, 2));
	ram_expect(r, "A0m - z0 - - -");
	KUNIT_EXPECT_EQ(test, 0, ram_punch(r, A0));
	KUNIT_EXPECT_EQ(test, PAGE_SIZE, ram_write(r, C0, 'C'));
	ram_expect(r, "- - z0 - C0 -");
}

/* ---- shared ---- */

static void shared_by_two(struct kunit *test)
{
	struct ram *r = test->priv;
	struct folio *frame;

	ram_put(r, A0, 'A');
	ram_put(r, B0, 'B');
	frame = ram_frame(r, A0);
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, B0));
	KUNIT_EXPECT_TRUE(test, r->pairs[0].shared);
	ram_expect(r, "A2 - A2 - - -");
	KUNIT_EXPECT_PTR_EQ(test, ram_frame(r, B0), frame);
}

static void shared_by_many(struct kunit *test)
{
	struct ram *r = test->priv;
	enum ram_slot slot;

	for (slot = 0; slot < RAM_SLOTS; slot++)
		ram_put(r, slot, 'A' + slot);
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, B0));
	ram_expect(r, "A2 B0m A2 D0m E0m F0m");
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, B0, C0));
	ram_expect(r, "A3 B0m A3 D0m A3 F0m");
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, C0, A1));
	ram_expect(r, "A4 A4 A4 D0m A4 F0m");
	/* From a frame of many to another, and what is there already */
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, C1, A0));
	ram_expect(r, "F2 A3 A3 D0m A3 F2");
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A1, B0));
	KUNIT_EXPECT_TRUE(test, r->pairs[0].shared);
	ram_expect(r, "F2 A3 A3 D0m A3 F2");
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, A1));
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, B0));
	ram_expect(r, "F4 F4 F4 D0m A1 F4");
	/* The last one gives its frame up. */
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, B1, C0));
	ram_expect(r, "F4 F4 F4 D2 D2 F4");
}

static void sent_on_by_the_last(struct kunit *test)
{
	struct ram *r = test->priv;

	ram_put(r, A0, 'A');
	ram_look(r, B0);
	ram_look(r, C0);
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, B0));
	KUNIT_EXPECT_EQ(test, 0, ram_punch(r, A0));
	ram_expect(r, "- - A1 - z0m -");
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, B0, C0));
	ram_expect(r, "- - A2 - A2 -");
}

static void copied_by_who_touches(struct kunit *test)
{
	struct ram *r = test->priv;
	struct folio *frame;

	ram_put(r, A0, 'A');
	ram_look(r, B0);
	ram_look(r, C0);
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, B0));
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, C0));
	frame = ram_frame(r, A0);
	ram_look(r, B0);
	ram_expect(r, "A2 - A0mt - A2 -");
	KUNIT_EXPECT_PTR_NE(test, ram_frame(r, B0), frame);
	KUNIT_EXPECT_EQ(test, PAGE_SIZE, ram_write(r, C0, 'C'));
	ram_expect(r, "A1 - A0mt - C0t -");
	/* The last one keeps it. */
	ram_put(r, A0, 'X');
	ram_expect(r, "X0mt - A0mt - C0t -");
	KUNIT_EXPECT_PTR_EQ(test, ram_frame(r, A0), frame);
}

static void part_is_zeroed(struct kunit *test)
{
	struct ram *r = test->priv;
	const u8 *at;

	ram_put(r, A0, 'A');
	ram_look(r, B0);
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, B0));
	KUNIT_EXPECT_EQ(test, 0, ram_resize(r, 0, PAGE_SIZE / 4));
	ram_expect(r, "?0t - A1 - - -");
	at = folio_address(ram_frame(r, A0));
	KUNIT_EXPECT_NULL(test, memchr_inv(at, 'A', PAGE_SIZE / 4));
	KUNIT_EXPECT_NULL(test, memchr_inv(at + PAGE_SIZE / 4, 0,
					   PAGE_SIZE / 4 * 3));
	KUNIT_EXPECT_EQ(test, 0, ram_resize(r, 1, 1));
	ram_expect(r, "?0t - ?0t - - -");
}

static void left_by_what_empties(struct kunit *test)
{
	struct ram *r = test->priv;

	ram_put(r, A0, 'A');
	ram_look(r, B1);
	ram_look(r, C0);
	ram_look(r, C1);
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, B1));
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, C0));
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, C1));
	ram_expect(r, "A4 - - A4 A4 A4");
	KUNIT_EXPECT_EQ(test, 0, ram_punch(r, A0));
	ram_expect(r, "- - - A3 A3 A3");
	KUNIT_EXPECT_EQ(test, 0, ram_resize(r, 1, PAGE_SIZE));
	ram_expect(r, "- - - - A2 A2");
	ram_look(r, A0);
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, C0, A0));
	ram_expect(r, "A3 - - - A3 A3");
	/* The end of a file */
	KUNIT_ASSERT_TRUE(test, unmap_file(r, 2));
	ram_close(r, 2);
	ram_expect(r, "A1 - - - - -");
	KUNIT_EXPECT_EQ(test, 0, ram_punch(r, A0));
	ram_expect(r, "- - - - - -");
}

static void fill_leaves_shared_ones(struct kunit *test)
{
	struct ram *r = test->priv;

	ram_put(r, A0, 'A');
	ram_look(r, B0);
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, B0));
	KUNIT_EXPECT_EQ(test, 0, ram_fill(r, A0, 2));
	ram_expect(r, "A2 z0 A2 - - -");
	limit_to(r, 3);
	KUNIT_EXPECT_EQ(test, -ENOSPC, ram_fill(r, B0, 2));
	ram_expect(r, "A2 z0 A2 - - -");
	/* A slot has its place in the quota: a copy needs none. */
	ram_put(r, B0, 'B');
	ram_expect(r, "A1 z0 B0mt - - -");
}

static void touched_is_told_once(struct kunit *test)
{
	struct ram *r = test->priv;

	ram_put(r, A0, 'A');
	ram_put(r, B0, 'B');
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, B0));
	KUNIT_EXPECT_FALSE(test, r->pairs[0].from_touched);
	KUNIT_EXPECT_FALSE(test, r->pairs[0].to_touched);
	ram_look(r, B0);
	ram_expect(r, "A1 - A0mt - - -");
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, B0));
	KUNIT_EXPECT_FALSE(test, r->pairs[0].from_touched);
	KUNIT_EXPECT_TRUE(test, r->pairs[0].to_touched);
	ram_expect(r, "A2 - A2 - - -");
	ram_put(r, A0, 'C');
	ram_expect(r, "C0mt - A1 - - -");
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, B0));
	KUNIT_EXPECT_TRUE(test, r->pairs[0].from_touched);
	KUNIT_EXPECT_FALSE(test, r->pairs[0].to_touched);
	ram_expect(r, "C2 - C2 - - -");
	/* It goes with the page. */
	ram_look(r, A0);
	KUNIT_EXPECT_EQ(test, 0, ram_punch(r, A0));
	ram_look(r, A0);
	ram_expect(r, "z0m - C1 - - -");
}

/* ---- refused ---- */

static void copied_if_others_have_it(struct kunit *test)
{
	struct ram *r = test->priv;
	struct folio *frame;

	ram_put(r, A0, 'A');
	ram_put(r, B0, 'B');
	ram_grab(r, A0);
	frame = ram_frame(r, B0);
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, B0));
	KUNIT_EXPECT_FALSE(test, r->pairs[0].shared);
	ram_expect(r, "A0m - A0m - - -");
	KUNIT_EXPECT_PTR_EQ(test, ram_frame(r, B0), frame);
	ram_let_go(r);

	ram_put(r, A0, 'C');
	ram_grab(r, B0);
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, B0));
	KUNIT_EXPECT_FALSE(test, r->pairs[0].shared);
	ram_expect(r, "C0m - C0m - - -");
	KUNIT_EXPECT_PTR_EQ(test, ram_frame(r, B0), frame);
	/* Who has the reference sees what comes. */
	KUNIT_EXPECT_EQ(test, ram_letter(r->foreign), 'C');
	ram_let_go(r);

	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, B0));
	KUNIT_EXPECT_TRUE(test, r->pairs[0].shared);
	ram_expect(r, "C2 - C2 - - -");
}

/* What others read as well is not written to. */
static void refused_if_it_cannot_be_copied(struct kunit *test)
{
	struct ram *r = test->priv;

	ram_put(r, A0, 'A');
	ram_put(r, B0, 'B');
	ram_look(r, C0);
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, B0, C0));
	ram_grab(r, A0);
	KUNIT_EXPECT_EQ(test, -EAGAIN, ram_share(r, A0, C0));
	ram_expect(r, "A0m - B2 - B2 -");
	ram_let_go(r);
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, C0));
	ram_expect(r, "A2 - B1 - A2 -");
}

static void readers_of_shared_ones_are_harmless(struct kunit *test)
{
	struct ram *r = test->priv;

	ram_put(r, A0, 'A');
	ram_put(r, B0, 'B');
	ram_put(r, C0, 'C');
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, B0));
	ram_grab(r, A0);
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, B0, C0));
	ram_expect(r, "A3 - A3 - A3 -");
	KUNIT_EXPECT_EQ(test, 0, ram_punch(r, A0));
	KUNIT_EXPECT_EQ(test, 0, ram_punch(r, B0));
	ram_expect(r, "- - - - A1 -");

	/* The last one may not change what is being read. */
	ram_put(r, C0, 'X');
	ram_expect(r, "- - - - X0mt -");
	KUNIT_EXPECT_PTR_NE(test, ram_frame(r, C0), r->foreign);
	KUNIT_EXPECT_EQ(test, folio_ref_count(r->foreign), 1);
	KUNIT_EXPECT_NULL(test, r->foreign->mapping);
	KUNIT_EXPECT_EQ(test, ram_letter(r->foreign), 'A');
	ram_let_go(r);
}

/* Displaced, but not freed: the last reference does that. */
static void displaced_is_left_to_readers(struct kunit *test)
{
	struct ram *r = test->priv;

	ram_put(r, A0, 'A');
	ram_put(r, B0, 'B');
	ram_look(r, C0);
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, B0, C0));
	ram_grab(r, B0);
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, B0));
	ram_expect(r, "A2 - A2 - B1 -");
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, C0));
	ram_expect(r, "A3 - A3 - A3 -");
	KUNIT_EXPECT_EQ(test, folio_ref_count(r->foreign), 1);
	KUNIT_EXPECT_EQ(test, guestram_shared(r->foreign), 0);
	KUNIT_EXPECT_NULL(test, r->foreign->mapping);
	KUNIT_EXPECT_EQ(test, ram_letter(r->foreign), 'B');
	ram_let_go(r);
}

static void refused_if_locked(struct kunit *test)
{
	struct ram *r = test->priv;
	enum ram_slot slot;

	ram_put(r, A0, 'A');
	ram_put(r, B0, 'B');
	for (slot = A0; slot <= B0; slot += B0 - A0) {
		folio_lock(ram_frame(r, slot));
		KUNIT_EXPECT_EQ(test, -EAGAIN, ram_share(r, A0, B0));
		folio_unlock(ram_frame(r, slot));
		ram_expect(r, "A0m - B0m - - -");
	}
	/* All pairs of a call, before one of them has changed */
	ram_put(r, A1, 'C');
	ram_put(r, B1, 'D');
	ram_pair(r, A0, B0);
	ram_pair(r, A1, B1);
	folio_lock(ram_frame(r, B1));
	KUNIT_EXPECT_EQ(test, -EAGAIN, ram_share_pairs(r));
	folio_unlock(ram_frame(r, B1));
	ram_expect(r, "A0m C0m B0m D0m - -");
}

static void refused_if_empty(struct kunit *test)
{
	struct ram *r = test->priv;

	ram_put(r, A0, 'A');
	KUNIT_EXPECT_EQ(test, -EAGAIN, ram_share(r, A0, B0));
	ram_expect(r, "A0m - - - - -");
	KUNIT_EXPECT_EQ(test, -EAGAIN, ram_share(r, B0, A0));
	ram_expect(r, "A0m - - - - -");
	KUNIT_EXPECT_EQ(test, -EAGAIN, ram_share(r, B0, C0));
	ram_expect(r, "A0m - - - - -");
}

/* The page of a slot, to write to.  Its reference is the foreign one. */
static bool own(struct ram *r, enum ram_slot slot, bool *shared)
{
	struct page *page;

	page = guestram_share_ops.own(ram_inode(r, slot), slot % RAM_PAGES,
				      current->mm, shared);
	r->foreign = page ? page_folio(page) : NULL;
	return page;
}

static void own_one_is_given_as_it_is(struct kunit *test)
{
	struct ram *r = test->priv;
	bool shared = true;

	ram_put(r, A0, 'A');
	KUNIT_ASSERT_TRUE(test, own(r, A0, &shared));
	KUNIT_EXPECT_FALSE(test, shared);
	KUNIT_EXPECT_PTR_EQ(test, r->foreign, ram_frame(r, A0));
	ram_expect(r, "A0m - - - - -");
	/* As long as the reference is there it is copied. */
	ram_put(r, B0, 'B');
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, B0));
	KUNIT_EXPECT_FALSE(test, r->pairs[0].shared);
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, B0, A0));
	KUNIT_EXPECT_FALSE(test, r->pairs[0].shared);
	ram_let_go(r);
	ram_expect(r, "A0m - A0m - - -");
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, B0));
	KUNIT_EXPECT_TRUE(test, r->pairs[0].shared);
}

/* No touch of its owner's: nothing is mapped or marked. */
static void own_copy_of_a_shared_one(struct kunit *test)
{
	struct ram *r = test->priv;
	struct folio *frame;
	bool shared = false;

	ram_put(r, A0, 'A');
	ram_look(r, B0);
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, B0));
	frame = ram_frame(r, A0);
	KUNIT_ASSERT_TRUE(test, own(r, B0, &shared));
	KUNIT_EXPECT_TRUE(test, shared);
	KUNIT_EXPECT_PTR_EQ(test, r->foreign, ram_frame(r, B0));
	ram_expect(r, "A1 - A0 - - -");
	memset(folio_address(r->foreign), 'X', PAGE_SIZE);
	ram_let_go(r);
	ram_expect(r, "A1 - X0 - - -");
	KUNIT_EXPECT_PTR_EQ(test, ram_frame(r, A0), frame);

	/* The last slot keeps it. */
	shared = false;
	KUNIT_ASSERT_TRUE(test, own(r, A0, &shared));
	KUNIT_EXPECT_TRUE(test, shared);
	KUNIT_EXPECT_PTR_EQ(test, r->foreign, frame);
	ram_let_go(r);
	ram_expect(r, "A0 - X0 - - -");
}

static void own_one_of_nobody(struct kunit *test)
{
	struct ram *r = test->priv;
	bool shared;

	KUNIT_EXPECT_FALSE(test, own(r, A0, &shared));
	ram_expect(r, "- - - - - -");
	ram_put(r, A0, 'A');
	folio_lock(ram_frame(r, A0));
	KUNIT_EXPECT_FALSE(test, own(r, A0, &shared));
	folio_unlock(ram_frame(r, A0));
	ram_expect(r, "A0m - - - - -");
	/* A hole takes it away from who has the reference. */
	KUNIT_ASSERT_TRUE(test, own(r, A0, &shared));
	KUNIT_EXPECT_EQ(test, 0, ram_punch(r, A0));
	KUNIT_EXPECT_NULL(test, r->foreign->mapping);
	ram_let_go(r);
	ram_expect(r, "- - - - - -");
}

static void a_page_with_itself(struct kunit *test)
{
	struct ram *r = test->priv;

	ram_put(r, A0, 'A');
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, A0));
	KUNIT_EXPECT_TRUE(test, r->pairs[0].shared);
	ram_expect(r, "A0 - - - - -");
	ram_look(r, A0);
	ram_look(r, B0);
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, B0));
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, B0, B0));
	ram_expect(r, "A2 - A2 - - -");
}

/* ---- several at a time ---- */

static void many_at_a_time(struct kunit *test)
{
	struct ram *r = test->priv;

	ram_put(r, A0, 'A');
	ram_put(r, A1, 'B');
	ram_put(r, B0, 'C');
	ram_put(r, B1, 'D');
	ram_grab(r, B1);
	ram_pair(r, A0, B0);
	ram_pair(r, A1, B1);
	KUNIT_EXPECT_EQ(test, 0, ram_share_pairs(r));
	KUNIT_EXPECT_TRUE(test, r->pairs[0].shared);
	KUNIT_EXPECT_FALSE(test, r->pairs[1].shared);
	/* One that is used keeps no other one from being shared. */
	ram_expect(r, "A2 B0m A2 B0m - -");
	ram_let_go(r);
}

static void sent_twice_at_a_time(struct kunit *test)
{
	struct ram *r = test->priv;
	unsigned int i;

	ram_put(r, A0, 'A');
	ram_put(r, B0, 'B');
	ram_put(r, C0, 'C');
	ram_pair(r, A0, B0);
	ram_pair(r, A0, C0);
	/* And where it has come by now, up to the most at a time */
	for (i = 2; i < GUESTRAM_SHARE_MAX; i++)
		ram_pair(r, A0, i & 1 ? B0 : A0);
	KUNIT_EXPECT_EQ(test, -EAGAIN, ram_share_pairs(r));
	ram_expect(r, "A3 - A3 - A3 -");

	ram_put(r, A0, 'D');
	ram_expect(r, "D0mt - A2 - A2 -");
	for (i = 0; i < GUESTRAM_SHARE_MAX; i++)
		ram_pair(r, B0, C0);
	KUNIT_EXPECT_EQ(test, 0, ram_share_pairs(r));
	ram_expect(r, "D0mt - A2 - A2 -");
}

static void received_twice_at_a_time(struct kunit *test)
{
	struct ram *r = test->priv;

	ram_put(r, A0, 'A');
	ram_put(r, B0, 'B');
	ram_put(r, C0, 'C');
	ram_pair(r, A0, C0);
	ram_pair(r, B0, C0);
	KUNIT_EXPECT_EQ(test, -EAGAIN, ram_share_pairs(r));
	ram_expect(r, "A2 - B0 - A2 -");

	/* What has been received is another frame than that which is sent. */
	ram_put(r, C0, 'C');
	ram_pair(r, C0, B0);
	ram_pair(r, B0, A0);
	KUNIT_EXPECT_EQ(test, -EAGAIN, ram_share_pairs(r));
	ram_expect(r, "A1 - C2 - C2 -");
}

/* ---- others at the same time ---- */

struct work {
	struct work_struct work;
	struct completion done;
	struct ram *r;
};

static void close_last(struct work_struct *work)
{
	struct work *w = container_of(work, struct work, work);

	ram_close(w->r, 2);
	complete(&w->done);
}

static struct inode *hold(const struct ram *r, unsigned long addr)
{
	struct vm_area_struct *vma;
	struct inode *inode = NULL;

	mmap_read_lock(current->mm);
	vma = find_vma(current->mm, addr);
	if (vma && vma->vm_start <= addr)
		inode = guestram_share_ops.hold(vma);
	mmap_read_unlock(current->mm);
	return inode;
}

static void end_waits_for_who_holds(struct kunit *test)
{
	struct ram *r = test->priv;
	struct work w = { .r = r };
	struct inode *inode;

	ram_put(r, A0, 'A');
	ram_put(r, C0, 'C');
	inode = hold(r, (unsigned long)r->mem[2]);
	KUNIT_ASSERT_PTR_EQ(test, inode, ram_inode(r, C0));
	KUNIT_EXPECT_EQ(test, atomic_read(&guestram_i(inode)->held), 1);
	ram_pair(r, A0, C0);
	KUNIT_ASSERT_TRUE(test, unmap_file(r, 2));
	INIT_WORK_ONSTACK(&w.work, close_last);
	init_completion(&w.done);
	queue_work(system_unbound_wq, &w.work);
	KUNIT_EXPECT_EQ(test, 0, wait_for_completion_timeout(&w.done, HZ / 20));
	/* It is still there, and can be shared. */
	KUNIT_EXPECT_EQ(test, 0, ram_share_pairs(r));
	KUNIT_EXPECT_TRUE(test, r->pairs[0].shared);
	KUNIT_EXPECT_EQ(test, guestram_shared(ram_frame(r, A0)), 2);
	guestram_share_ops.release(inode);
	wait_for_completion(&w.done);
	destroy_work_on_stack(&w.work);
	ram_expect(r, "A1 - - - - -");
}

static void only_some_mappings_are_held(struct kunit *test)
{
	static const struct {
		unsigned long prot;
		unsigned long flags;
		bool file;
	} maps[] = {
		{ PROT_READ | PROT_WRITE, MAP_PRIVATE, true },
		{ PROT_READ, MAP_SHARED, true },
		{ PROT_WRITE, MAP_SHARED, true },
		{ PROT_NONE, MAP_SHARED, true },
		{ PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, false },
		{ PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, false },
	};
	struct ram *r = test->priv;
	unsigned long addr;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(maps); i++) {
		addr = vm_mmap(maps[i].file ? r->file[0] : NULL, 0, PAGE_SIZE,
			       maps[i].prot, maps[i].flags, 0);
		KUNIT_ASSERT_LT(test, addr, TASK_SIZE);
		KUNIT_EXPECT_NULL(test, hold(r, addr));
		KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr, PAGE_SIZE));
	}
	KUNIT_EXPECT_EQ(test, 0,
			atomic_read(&guestram_i(ram_inode(r, A0))->held));
}

/* A thread that uses the files, too: a fixture with a page of its own. */
static int write_b0(void *data)
{
	struct ram *r = data;

	ram_write(r, B0, 'W');
	while (!kthread_should_stop())
		schedule_timeout_interruptible(1);
	return 0;
}

static struct task_struct *start(struct ram *r, struct ram *other,
				 int (*loop)(void *))
{
	struct task_struct *task;

	*other = *r;
	other->page = kunit_kzalloc(r->test, PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(r->test, other->page);
	task = kthread_run(loop, other, "guestram_test");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(r->test, task);
	return task;
}

/* Who has waited for a frame looks whether it still is that of the slot. */
static void slot_changes_meanwhile(struct kunit *test)
{
	struct ram *r = test->priv;
	struct task_struct *task;
	struct folio *frame;
	struct folio *next;
	struct ram other;

	ram_put(r, A0, 'A');
	ram_look(r, B0);
	ram_put(r, C0, 'C');
	ram_unmap(r, C0);
	KUNIT_EXPECT_EQ(test, 0, ram_share(r, A0, B0));
	frame = ram_frame(r, B0);
	next = ram_frame(r, C0);
	folio_get(frame);
	folio_lock(frame);
	folio_lock(next);
	task = start(r, &other, write_b0);
	while (!folio_test_waiters(frame))
		schedule_timeout_uninterruptible(1);

	/* By the rules: both are locked, and the new one is not mapped. */
	guestram_set_shared(next, 2);
	folio_get(next);
	guestram_replace(ram_inode(r, B0), 0, next);
	guestram_leave(frame);
	folio_unlock(next);
	folio_unlock(frame);
	folio_put(frame);
	kthread_stop(task);
	ram_expect(r, "A1 - W0t - C1 -");
}

static void any_step(struct ram *r, u32 random)
{
	enum ram_slot slot = random % RAM_SLOTS;
	enum ram_slot other = random / 8 % RAM_SLOTS;

	switch (random / 64 % 8) {
	case 0:
		ram_write(r, slot, 'a' + random / 1024 % 25);
		break;
	case 1:
		ram_punch(r, slot);
		break;
	case 2:
		ram_fill(r, slot, 1);
		break;
	default:
		ram_share(r, slot, other);
		break;
	}
}

static int any_steps(void *data)
{
	struct ram *r = data;
	struct rnd_state state;

	prandom_seed_state(&state, (uintptr_t)r);
	while (!kthread_should_stop()) {
		any_step(r, prandom_u32_state(&state));
		cond_resched();
	}
	return 0;
}

/* Nothing is lost or left by threads that get in each other's way. */
/*
 * By one task on User Mode Linux: two that take pages out of an address space at
 * a time make arch/um, flush_tlb_mm(), walk its mappings without the lock.
 */
static void all_at_the_same_time(struct kunit *test)
{
	const unsigned int others = IS_ENABLED(CONFIG_UML) ? 0 : 2;
	struct ram *r = test->priv;
	struct task_struct *task[2];
	struct rnd_state state;
	struct ram *other;
	unsigned int i;

	other = kunit_kcalloc(test, 2, sizeof(*other), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, other);
	for (i = 0; i < others; i++)
		task[i] = start(r, &other[i], any_steps);
	prandom_seed_state(&state, 5);
	for (i = 0; i < RACE_STEPS; i++) {
		u32 random = prandom_u32_state(&state);

		if (random & 1)
			ram_look(r, random / 2 % RAM_SLOTS);
		else
			any_step(r, random / 2);
		cond_resched();
	}
	for (i = 0; i < others; i++)
		kthread_stop(task[i]);
	ram_check(r);
}

/* ---- any sequence ---- */

static bool may_be_refused(const struct ram *r, enum ram_slot from,
			   enum ram_slot to)
{
	const struct folio *f = ram_frame(r, from);
	const struct folio *t = ram_frame(r, to);

	return !f || !t || (f == r->foreign && !guestram_shared(f) &&
			    guestram_shared(t));
}

static void random_share(struct ram *r, char *letter, enum ram_slot from,
			 enum ram_slot to)
{
	bool refused = may_be_refused(r, from, to);

	KUNIT_EXPECT_EQ(r->test, ram_share(r, from, to),
			refused ? -EAGAIN : 0);
	if (!refused)
		letter[to] = letter[from];
}

static void random_step(struct ram *r, u32 random, char *letter)
{
	enum ram_slot slot = random % RAM_SLOTS;
	enum ram_slot other = random / 8 % RAM_SLOTS;
	char new = 'a' + random / 1024 % 25;

	switch (random / 64 % 16) {
	case 0:
		ram_write(r, slot, new);
		letter[slot] = new;
		break;
	case 1:
	case 2:
		ram_put(r, slot, new);
		letter[slot] = new;
		break;
	case 3:
	case 4:
		ram_look(r, slot);
		letter[slot] = letter[slot] ? letter[slot] : 'z';
		break;
	case 5:
		KUNIT_EXPECT_EQ(r->test, 0, ram_punch(r, slot));
		letter[slot] = 0;
		break;
	case 6:
		ram_unmap(r, slot);
		break;
	case 7:
		if (r->foreign)
			ram_let_go(r);
		else if (ram_frame(r, slot))
			ram_grab(r, slot);
		break;
	default:
		random_share(r, letter, slot, other);
		break;
	}
}

static void any_order(struct kunit *test)
{
	char letter[RAM_SLOTS] = {};
	struct ram *r = test->priv;
	struct rnd_state state;
	enum ram_slot slot;
	unsigned int i;

	prandom_seed_state(&state, 1);
	for (i = 0; i < RANDOM_STEPS; i++) {
		random_step(r, prandom_u32_state(&state), letter);
		for (slot = 0; slot < RAM_SLOTS; slot++) {
			struct folio *folio = ram_frame(r, slot);

			KUNIT_ASSERT_EQ(test, letter[slot],
					folio ? ram_letter(folio) : 0);
		}
		ram_check(r);
	}
}

static struct kunit_case guestram_cases[] = {
	KUNIT_CASE(filled_by_any_touch),
	KUNIT_CASE(new_ones_are_zeroed),
	KUNIT_CASE(emptied),
	KUNIT_CASE(limited),
	KUNIT_CASE(shared_by_two),
	KUNIT_CASE(shared_by_many),
	KUNIT_CASE(sent_on_by_the_last),
	KUNIT_CASE(copied_by_who_touches),
	KUNIT_CASE(part_is_zeroed),
	KUNIT_CASE(left_by_what_empties),
	KUNIT_CASE(fill_leaves_shared_ones),
	KUNIT_CASE(touched_is_told_once),
	KUNIT_CASE(copied_if_others_have_it),
	KUNIT_CASE(refused_if_it_cannot_be_copied),
	KUNIT_CASE(readers_of_shared_ones_are_harmless),
	KUNIT_CASE(displaced_is_left_to_readers),
	KUNIT_CASE(refused_if_locked),
	KUNIT_CASE(refused_if_empty),
	KUNIT_CASE(own_one_is_given_as_it_is),
	KUNIT_CASE(own_copy_of_a_shared_one),
	KUNIT_CASE(own_one_of_nobody),
	KUNIT_CASE(a_page_with_itself),
	KUNIT_CASE(many_at_a_time),
	KUNIT_CASE(sent_twice_at_a_time),
	KUNIT_CASE(received_twice_at_a_time),
	KUNIT_CASE(end_waits_for_who_holds),
	KUNIT_CASE(only_some_mappings_are_held),
	KUNIT_CASE(slot_changes_meanwhile),
	KUNIT_CASE(all_at_the_same_time),
	KUNIT_CASE(any_order),
	{}
};

static struct kunit_suite guestram_suite = {
	.name = "vhost_crosstalk_guestram",
	.init = ram_init,
	.exit = ram_exit,
	.test_cases = guestram_cases,
};

kunit_test_suite(guestram_suite);

MODULE_DESCRIPTION("KUnit tests of guestram");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS(VHOST_CROSSTALK_TEST);
