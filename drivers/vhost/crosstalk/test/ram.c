// SPDX-License-Identifier: GPL-2.0
/*
 * The fixture of the tests of guestram.
 */

#include <linux/delay.h>
#include <linux/falloc.h>
#include <linux/highmem.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "ram.h"
#include "user_mm.h"

#define WAIT_MS 60000

/* The page of its file that a slot is. */
static pgoff_t index_of(enum ram_slot slot)
{
	return slot % RAM_PAGES;
}

static loff_t pos_of(enum ram_slot slot)
{
	return index_of(slot) * PAGE_SIZE;
}

static struct file *file_of(const struct ram *r, enum ram_slot slot)
{
	return r->file[slot / RAM_PAGES];
}

static u8 __user *mem_of(const struct ram *r, enum ram_slot slot)
{
	return r->mem[slot / RAM_PAGES] + pos_of(slot);
}

static void open_file(struct ram *r, unsigned int i)
{
	struct path root = { .mnt = r->mnt, .dentry = r->mnt->mnt_root };
	unsigned long addr;
	struct file *file;

	file = file_open_root(&root, ".", O_TMPFILE | O_RDWR, 0600);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(r->test, file);
	r->file[i] = file;
	KUNIT_ASSERT_EQ(r->test, 0,
			ram_resize(r, i, RAM_PAGES * PAGE_SIZE));

	addr = kunit_vm_mmap(r->test, file, 0, RAM_PAGES * PAGE_SIZE,
			     PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	KUNIT_ASSERT_NE(r->test, addr, 0);
	KUNIT_ASSERT_LT(r->test, addr, TASK_SIZE);
	r->mem[i] = (u8 __user *)addr;
}

/**
 * ram_init() - a suite's init: puts a struct ram into test->priv
 * @test: test
 *
 * Return: 0; a failure aborts the test.
 */
int ram_init(struct kunit *test)
{
	struct ram *r = kunit_kzalloc(test, sizeof(*r), GFP_KERNEL);
	struct vfsmount *mnt;
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, r);
	test->priv = r;
	r->test = test;
	r->frames = guestram_nr_frames();
	r->page = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, r->page);
	r->type = get_fs_type("guestram");
	KUNIT_ASSERT_NOT_NULL(test, r->type);
	mnt = kern_mount(r->type);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, mnt);
	r->mnt = mnt;

	for (i = 0; i < RAM_FILES; i++)
		open_file(r, i);
	drop_extra_reference(current->mm);
	return 0;
}

/**
 * ram_close() - end a file
 * @r: fixture
 * @file: which one; it must be mapped no more, or only by who is about to end
 */
void ram_close(struct ram *r, unsigned int file)
{
	unsigned int ms;

	/* Ours is the last reference, whose end is not put off. */
	for (ms = 0; file_count(r->file[file]) > 1 && ms < WAIT_MS; ms++)
		usleep_range(1000, 2000);
	KUNIT_EXPECT_EQ(r->test, file_count(r->file[file]), 1);
	__fput_sync(r->file[file]);
	r->file[file] = NULL;
}

/**
 * ram_exit() - a suite's exit: nothing may be left
 * @test: test
 */
void ram_exit(struct kunit *test)
{
	struct ram *r = test->priv;
	unsigned int i;

	if (!r)
		return;
	if (r->foreign)
		folio_put(r->foreign);
	for (i = 0; i < RAM_FILES; i++)
		if (r->file[i])
			ram_close(r, i);
	if (r->mnt) {
		KUNIT_EXPECT_EQ(test, 0, atomic_long_read(&ram_sb(r)->used));
		kern_unmount(r->mnt);
	}
	if (r->type)
		module_put(r->type->owner);
	KUNIT_EXPECT_EQ(test, guestram_nr_frames(), r->frames);
}

/**
 * ram_inode() - the file of a slot
 * @r: fixture
 * @slot: slot
 *
 * Return: its inode.
 */
struct inode *ram_inode(const struct ram *r, enum ram_slot slot)
{
	return file_inode(file_of(r, slot));
}

/**
 * ram_frame() - the frame of a slot
 * @r: fixture
 * @slot: slot
 *
 * Return: the frame, without a reference, or NULL.
 */
struct folio *ram_frame(const struct ram *r, enum ram_slot slot)
{
	return xa_load(&guestram_i(ram_inode(r, slot))->frames, index_of(slot));
}

/**
 * ram_sb() - what guestram knows of the mount
 * @r: fixture
 *
 * Return: its part of the super block.
 */
struct guestram_sb *ram_sb(const struct ram *r)
{
	return guestram_s(r->mnt->mnt_sb);
}

/**
 * ram_letter() - what is in a frame
 * @folio: frame
 *
 * Return: the letter that the page is full of, 'z' for zeroes, '?' else.
 */
char ram_letter(const struct folio *folio)
{
	const char *at = folio_address(folio);

	if (memchr_inv(at, *at, PAGE_SIZE))
		return '?';
	return *at ? *at : 'z';
}

static bool is_touched(const struct ram *r, enum ram_slot slot)
{
	return xa_get_mark(&guestram_i(ram_inode(r, slot))->frames,
			   index_of(slot), GUESTRAM_MARK_TOUCHED);
}

/* Slots that have this frame. */
static unsigned int count_slots(const struct ram *r, const struct folio *folio)
{
	enum ram_slot slot;
	unsigned int n = 0;

	for (slot = 0; slot < RAM_SLOTS; slot++)
		if (r->file[slot / RAM_PAGES])
			n += ram_frame(r, slot) == folio;
	return n;
}

static void check_frame(struct ram *r, const struct folio *folio)
{
	unsigned int slots = count_slots(r, folio);
	unsigned long shared = guestram_shared(folio);
	unsigned int mapped = folio_mapcount(folio);

	KUNIT_EXPECT_EQ(r->test, slots, shared ? shared : 1);
	if (shared)
		KUNIT_EXPECT_EQ(r->test, mapped, 0);
	KUNIT_EXPECT_EQ(r->test, folio_ref_count(folio),
			slots + mapped + (folio == r->foreign));
	KUNIT_EXPECT_FALSE(r->test, folio_test_locked(folio));
	KUNIT_EXPECT_TRUE(r->test, folio_test_dirty(folio));
	KUNIT_EXPECT_NOT_NULL(r->test, folio->mapping);
}

/**
 * ram_check() - what holds in every state
 * @r: fixture
 *
 * A frame has as many references as there are slots, page tables and the test
 * itself that have it; a shared one knows its slots and is mapped nowhere; and
 * the sums are right.
 */
void ram_check(struct ram *r)
{
	unsigned long blocks[RAM_FILES] = {};
	unsigned long used = 0;
	long frames = r->frames;
	enum ram_slot slot;
	unsigned int i;

	for (slot = 0; slot < RAM_SLOTS; slot++) {
		const struct folio *folio;
		enum ram_slot before;

		if (!r->file[slot / RAM_PAGES])
			continue;
		folio = ram_frame(r, slot);
		if (!folio)
			continue;
		used++;
		blocks[slot / RAM_PAGES] += PAGE_SIZE / 512;
		for (before = 0; before < slot; before++)
			if (r->file[before / RAM_PAGES] &&
			    ram_frame(r, before) == folio)
				break;
		if (before < slot)
			continue;
		frames++;
		check_frame(r, folio);
	}
	KUNIT_EXPECT_EQ(r->test, frames, guestram_nr_frames());
	KUNIT_EXPECT_EQ(r->test, used, atomic_long_read(&ram_sb(r)->used));
	for (i = 0; i < RAM_FILES; i++)
		if (r->file[i])
			KUNIT_EXPECT_EQ(r->test, blocks[i],
					file_inode(r->file[i])->i_blocks);
}

static char *describe(const struct ram *r, enum ram_slot slot, char *at)
{
	const struct folio *folio = NULL;

	if (r->file[slot / RAM_PAGES])
		folio = ram_frame(r, slot);
	if (!folio)
		return at + sprintf(at, "-");

	return at + sprintf(at, "%c%lu%s%s", ram_letter(folio),
			    guestram_shared(folio),
			    folio_mapcount(folio) ? "m" : "",
			    is_touched(r, slot) ? "t" : "");
}

/**
 * ram_expect() - compare the state of all slots
 * @r: fixture
 * @want: for each slot '-' if it is empty; else the letter that its page is
 * full of, how many slots share it, m if it is mapped, and t if it was touched
 * since it was shared
 */
void ram_expect(struct ram *r, const char *want)
{
	char have[RAM_SLOTS * 16];
	char *at = have;
	enum ram_slot slot;

	for (slot = 0; slot < RAM_SLOTS; slot++) {
		if (slot)
			*at++ = ' ';
		at = describe(r, slot, at);
	}
	KUNIT_EXPECT_STREQ(r->test, want, (const char *)have);
	ram_check(r);
}

/**
 * ram_write() - write(2) of a whole page
 * @r: fixture
 * @slot: slot
 * @letter: what the page is filled with
 *
 * Return: bytes written, or an error.
 */
ssize_t ram_write(struct ram *r, enum ram_slot slot, char letter)
{
	loff_t pos = pos_of(slot);

	memset(r->page, letter, PAGE_SIZE);
	return kernel_write(file_of(r, slot), r->page, PAGE_SIZE, &pos);
}

/**
 * ram_put() - write a whole page by its mapping
 * @r: fixture
 * @slot: slot
 * @letter: what the page is filled with
 */
void ram_put(struct ram *r, enum ram_slot slot, char letter)
{
	memset(r->page, letter, PAGE_SIZE);
	KUNIT_EXPECT_EQ(r->test, 0,
			copy_to_user(mem_of(r, slot), r->page, PAGE_SIZE));
}

/**
 * ram_look() - read a byte of a page by its mapping
 * @r: fixture
 * @slot: slot
 */
void ram_look(struct ram *r, enum ram_slot slot)
{
	u8 byte;

	KUNIT_EXPECT_EQ(r->test, 0,
			copy_from_user(&byte, mem_of(r, slot), 1));
}

/**
 * ram_unmap() - take a page out of page tables, as reclaim does with others
 * @r: fixture
 * @slot: slot
 */
void ram_unmap(struct ram *r, enum ram_slot slot)
{
	unmap_mapping_pages(ram_inode(r, slot)->i_mapping, index_of(slot), 1,
			    false);
}

/**
 * ram_punch() - make a hole of a page
 * @r: fixture
 * @slot: slot
 *
 * Return: 0 or an error.
 */
int ram_punch(struct ram *r, enum ram_slot slot)
{
	return vfs_fallocate(file_of(r, slot),
			     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			     pos_of(slot), PAGE_SIZE);
}

/**
 * ram_fill() - allocate pages
 * @r: fixture
 * @slot: the first
 * @pages: how many
 *
 * Return: 0 or an error.
 */
int ram_fill(struct ram *r, enum ram_slot slot, unsigned int pages)
{
	return vfs_fallocate(file_of(r, slot), 0, pos_of(slot),
			     pages * PAGE_SIZE);
}

/**
 * ram_resize() - truncate or enlarge a file
 * @r: fixture
 * @file: which one
 * @size: its new size in bytes
 *
 * Return: 0 or an error.
 */
int ram_resize(struct ram *r, unsigned int file, loff_t size)
{
	struct iattr attr = { .ia_valid = ATTR_SIZE, .ia_size = size };
	struct inode *inode = file_inode(r->file[file]);
	int err;

	inode_lock(inode);
	err = notify_change(crosstalk_nop_idmap, file_dentry(r->file[file]),
			    &attr, NULL);
	inode_unlock(inode);
	return err;
}

/**
 * ram_grab() - get a reference to a frame, as direct I/O does
 * @r: fixture, without such a reference
 * @slot: slot
 */
void ram_grab(struct ram *r, enum ram_slot slot)
{
	r->foreign = ram_frame(r, slot);
	KUNIT_ASSERT_NOT_NULL(r->test, r->foreign);
	folio_get(r->foreign);
}

/**
 * ram_let_go() - put that reference
 * @r: fixture
 */
void ram_let_go(struct ram *r)
{
	folio_put(r->foreign);
	r->foreign = NULL;
}

/**
 * ram_pair() - add a pair of pages
 * @r: fixture
 * @from: whose contents
 * @to: where they go
 */
void ram_pair(struct ram *r, enum ram_slot from, enum ram_slot to)
{
	r->pairs[r->nr_pairs++] = (struct guestram_pair) {
		.from = ram_inode(r, from),
		.from_index = index_of(from),
		.to = ram_inode(r, to),
		.to_index = index_of(to),
	};
}

/**
 * ram_share_pairs() - share the pairs of ram_pair()
 * @r: fixture
 *
 * Return: what share() returns; its other results are in r->pairs.
 */
int ram_share_pairs(struct ram *r)
{
	int ret = guestram_share_ops.share(r->pairs, r->nr_pairs);

	r->nr_pairs = 0;
	return ret;
}

/**
 * ram_share() - share one page
 * @r: fixture
 * @from: whose contents
 * @to: where they go
 *
 * Return: what share() returns; its other results are in r->pairs[0].
 */
int ram_share(struct ram *r, enum ram_slot from, enum ram_slot to)
{
	r->nr_pairs = 0;
	ram_pair(r, from, to);
	return ram_share_pairs(r);
}
