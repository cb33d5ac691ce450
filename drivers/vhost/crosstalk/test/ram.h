/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of guestram work with: a mount with three files of two pages,
 * which are mapped.
 */
#ifndef _CROSSTALK_TEST_RAM_H
#define _CROSSTALK_TEST_RAM_H

#include <kunit/test.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/types.h>

#include "guestram/guestram.h"

#define RAM_FILES 3
#define RAM_PAGES 2	/* of a file */

/* Slots: the pages of all files. */
enum ram_slot { A0, A1, B0, B1, C0, C1, RAM_SLOTS };

/**
 * struct ram - the fixture
 * @test: test that it belongs to
 * @type: guestram
 * @mnt: a mount of it
 * @file: files on it
 * @mem: where they are mapped
 * @page: a page in memory to write from
 * @foreign: a frame that the test has a reference to, as direct I/O would
 * @pairs: of the next call of share()
 * @nr_pairs: how many
 * @frames: that other mounts have
 */
struct ram {
	struct kunit *test;
	struct file_system_type *type;
	struct vfsmount *mnt;
	struct file *file[RAM_FILES];
	u8 __user *mem[RAM_FILES];
	u8 *page;
	struct folio *foreign;
	struct guestram_pair pairs[GUESTRAM_SHARE_MAX];
	unsigned int nr_pairs;
	long frames;
};

int ram_init(struct kunit *test);
void ram_exit(struct kunit *test);

struct inode *ram_inode(const struct ram *r, enum ram_slot slot);
struct folio *ram_frame(const struct ram *r, enum ram_slot slot);
struct guestram_sb *ram_sb(const struct ram *r);
char ram_letter(const struct folio *folio);
void ram_check(struct ram *r);
void ram_expect(struct ram *r, const char *want);

ssize_t ram_write(struct ram *r, enum ram_slot slot, char letter);
void ram_put(struct ram *r, enum ram_slot slot, char letter);
void ram_look(struct ram *r, enum ram_slot slot);
void ram_unmap(struct ram *r, enum ram_slot slot);
int ram_punch(struct ram *r, enum ram_slot slot);
int ram_fill(struct ram *r, enum ram_slot slot, unsigned int pages);
int ram_resize(struct ram *r, unsigned int file, loff_t size);
void ram_close(struct ram *r, unsigned int file);
void ram_grab(struct ram *r, enum ram_slot slot);
void ram_let_go(struct ram *r);

void ram_pair(struct ram *r, enum ram_slot from, enum ram_slot to);
int ram_share_pairs(struct ram *r);
int ram_share(struct ram *r, enum ram_slot from, enum ram_slot to);

#endif /* _CROSSTALK_TEST_RAM_H */
