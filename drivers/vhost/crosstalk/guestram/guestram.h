/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _CROSSTALK_GUESTRAM_H
#define _CROSSTALK_GUESTRAM_H

#include <linux/atomic.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/types.h>
#include <linux/uidgid.h>
#include <linux/xarray.h>

#define GUESTRAM_MAGIC 0x4752414d	/* "GRAM" */

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
 * reference; the rules are in Documentation/guestram.rst.
 */
struct guestram_inode {
	struct xarray frames;
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

/* frame.c */
int guestram_frames_init(void);
void guestram_frames_exit(void);
struct folio *guestram_find(struct inode *inode, pgoff_t index);
struct folio *guestram_find_lock(struct inode *inode, pgoff_t index);
struct folio *guestram_find_lock_killable(struct inode *inode, pgoff_t index);
struct folio *guestram_get(struct inode *inode, pgoff_t index,
			   struct vm_area_struct *vma, unsigned long addr);
int guestram_fill(struct inode *inode, pgoff_t first, pgoff_t last);
void guestram_empty(struct inode *inode, pgoff_t first, pgoff_t last);
void guestram_zero(struct inode *inode, loff_t from, loff_t to);

/* file.c */
extern const struct file_operations guestram_file_ops;

/* inode.c */
extern const struct address_space_operations guestram_aops;
struct inode *guestram_new_inode(struct super_block *sb, struct inode *dir,
				 umode_t mode);

#endif /* _CROSSTALK_GUESTRAM_H */
