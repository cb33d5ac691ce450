/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _CROSSTALK_GUESTRAM_H
#define _CROSSTALK_GUESTRAM_H

#include <linux/atomic.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/types.h>
#include <linux/uidgid.h>
#include <linux/xarray.h>

#include "share.h"

/* A mount.  Owner: its super block. */
struct guestram_sb {
	atomic_long_t used;		/* slots that are in use */
	unsigned long limit;		/* of @used; changes with a remount */
	umode_t mode;			/* of the root, when it was mounted */
	kuid_t uid;
	kgid_t gid;
};

/*
 * A file or directory.  @frames: page index -> struct folio, each with a
 * reference; the rules are in Documentation/guestram.rst.  @held: calls of
 * share.c that use it, which its end waits for.
 */
struct guestram_inode {
	struct xarray frames;
	atomic_t held;
	struct inode vfs;
};

static inline struct guestram_inode *guestram_i(struct inode *inode)
{
	return container_of(inode, struct guestram_inode, vfs);
}

static inline struct guestram_sb *guestram_s(struct super_block *sb)
{
	return sb->s_fs_info;
}

static inline bool guestram_beyond_end(struct inode *inode, pgoff_t index)
{
	return index >= DIV_ROUND_UP(i_size_read(inode), PAGE_SIZE);
}

/* Slots that were touched since they last shared their frame. */
#define GUESTRAM_MARK_TOUCHED XA_MARK_1

/*
 * How many slots share a frame that is, or was, in more than one: 0 for a frame
 * of one slot, which may be mapped and written to.  The frame is locked, and
 * says so without PG_private, which would ask for a reference.
 */
static inline unsigned long guestram_shared(const struct folio *folio)
{
	return (unsigned long)folio->private;
}

static inline void guestram_set_shared(struct folio *folio, unsigned long slots)
{
	folio->private = (void *)slots;
}

/*
 * Whether nobody uses a frame of one slot but the caller, who has locked it and
 * has one reference: no page table, no pin, no I/O.
 */
static inline bool guestram_is_idle(const struct folio *folio)
{
	/* Page tables were cleared before: pairs with GUP-fast, which gets a
	 * reference and then looks at the page table again.
	 */
	smp_mb();
	return folio_ref_count(folio) == 2;
}

/* frame.c */
int guestram_frames_init(void);
void guestram_frames_exit(void);
long guestram_nr_frames(void);
struct folio *guestram_find(struct inode *inode, pgoff_t index);
struct folio *guestram_own(struct inode *inode, pgoff_t index,
			   struct vm_area_struct *vma, unsigned long addr);
int guestram_copy(struct folio *to, struct folio *from);
struct folio *guestram_try_own(struct inode *inode, pgoff_t index,
			       struct mm_struct *mm, bool *shared);
void guestram_replace(struct inode *inode, pgoff_t index, struct folio *folio);
void guestram_leave(struct folio *folio);
int guestram_fill(struct inode *inode, pgoff_t first, pgoff_t last);
void guestram_empty(struct inode *inode, pgoff_t first, pgoff_t last);
int guestram_zero(struct inode *inode, loff_t from, loff_t to);

/* share.c */
void guestram_wait_unheld(struct inode *inode);

/* file.c */
extern const struct vm_operations_struct guestram_vm_ops;
extern const struct file_operations guestram_file_ops;

/* inode.c */
extern const struct address_space_operations guestram_aops;
struct inode *guestram_new_inode(struct super_block *sb, struct inode *dir,
				 umode_t mode);

#endif /* _CROSSTALK_GUESTRAM_H */
