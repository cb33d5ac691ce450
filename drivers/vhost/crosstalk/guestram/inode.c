// SPDX-License-Identifier: GPL-2.0
/* Files and directories of guest RAM. */

#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/pagemap.h>

#include "../compat.h"
#include "guestram.h"

/* The page cache has no part in it; this is for what looks at a mapping. */
const struct address_space_operations guestram_aops = {
	.dirty_folio = noop_dirty_folio,
};

static int set_size(struct inode *inode, loff_t size)
{
	loff_t end = round_up(size, PAGE_SIZE);
	int err;

	filemap_invalidate_lock(inode->i_mapping);
	/* What may fail comes first. */
	err = guestram_zero(inode, size, end);
	if (err) {
		filemap_invalidate_unlock(inode->i_mapping);
		return err;
	}
	/* Then the new size: page faults look at it under a frame's lock. */
	truncate_setsize(inode, size);
	guestram_empty(inode, end >> PAGE_SHIFT, ULONG_MAX);
	filemap_invalidate_unlock(inode->i_mapping);
	/* Private copies of what was touched meanwhile. */
	unmap_mapping_range(inode->i_mapping, end, 0, 1);
	return 0;
}

static int guestram_setattr(struct crosstalk_idmap *idmap, struct dentry *dentry,
			    struct iattr *attr)
{
	struct inode *inode = d_inode(dentry);
	int err;

	err = setattr_prepare(idmap, dentry, attr);
	if (err)
		return err;

	if (attr->ia_valid & ATTR_SIZE) {
		err = set_size(inode, attr->ia_size);
		if (err)
			return err;
	}
	setattr_copy(idmap, inode, attr);
	return 0;
}

static const struct inode_operations guestram_file_inode_ops = {
	.setattr = guestram_setattr,
};

static int add_name(struct inode *dir, struct dentry *dentry, umode_t mode)
{
	struct inode *inode;

	inode = guestram_new_inode(dir->i_sb, dir, mode);
	if (!inode)
		return -ENOMEM;

	d_instantiate(dentry, inode);
	dget(dentry);		/* nothing else keeps it */
	crosstalk_inode_touch(dir);
	return 0;
}

static int guestram_create(struct crosstalk_idmap *idmap, struct inode *dir,
			   struct dentry *dentry, umode_t mode, bool excl)
{
	return add_name(dir, dentry, mode | S_IFREG);
}

static int guestram_mkdir(struct crosstalk_idmap *idmap, struct inode *dir,
			  struct dentry *dentry, umode_t mode)
{
	int err;

	err = add_name(dir, dentry, mode | S_IFDIR);
	if (!err)
		inc_nlink(dir);
	return err;
}

static int guestram_tmpfile(struct crosstalk_idmap *idmap, struct inode *dir,
			    struct file *file, umode_t mode)
{
	struct inode *inode;

	inode = guestram_new_inode(dir->i_sb, dir, mode);
	if (!inode)
		return -ENOMEM;

	d_tmpfile(file, inode);
	return finish_open_simple(file, 0);
}

static const struct inode_operations guestram_dir_inode_ops = {
	.create = guestram_create,
	.lookup = simple_lookup,
	.unlink = simple_unlink,
	.mkdir = guestram_mkdir,
	.rmdir = simple_rmdir,
	.rename = simple_rename,
	.tmpfile = guestram_tmpfile,
};

/* @dir: where it is created; NULL for the root.  NULL without memory. */
struct inode *guestram_new_inode(struct super_block *sb, struct inode *dir,
				 umode_t mode)
{
	struct inode *inode;

	inode = new_inode(sb);
	if (!inode)
		return NULL;

	inode->i_ino = get_next_ino();
	inode_init_owner(crosstalk_nop_idmap, inode, dir, mode);
	inode->i_mapping->a_ops = &guestram_aops;
	crosstalk_inode_init_ts(inode);
	if (S_ISDIR(mode)) {
		inode->i_op = &guestram_dir_inode_ops;
		inode->i_fop = &simple_dir_operations;
		inc_nlink(inode);	/* "." */
	} else {
		inode->i_op = &guestram_file_inode_ops;
		inode->i_fop = &guestram_file_ops;
	}
	return inode;
}
