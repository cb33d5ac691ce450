// SPDX-License-Identifier: GPL-2.0
/* Mounts of guest RAM: options, limit, and the module itself. */

#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/kernel.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/pagemap.h>
#include <linux/rcupdate.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/statfs.h>
#include <linux/sysfs.h>
#include <linux/user_namespace.h>

#include "guestram.h"

static struct kmem_cache *inode_cache;

/* ---- inodes ---- */

static void init_once(void *data)
{
	struct guestram_inode *gi = data;

	inode_init_once(&gi->vfs);
}

static struct inode *guestram_alloc_inode(struct super_block *sb)
{
	struct guestram_inode *gi;

	gi = alloc_inode_sb(sb, inode_cache, GFP_KERNEL);
	if (!gi)
		return NULL;

	xa_init_flags(&gi->frames, XA_FLAGS_ACCOUNT);
	atomic_set(&gi->held, 0);
	return &gi->vfs;
}

static void guestram_free_inode(struct inode *inode)
{
	kmem_cache_free(inode_cache, guestram_i(inode));
}

static void guestram_evict_inode(struct inode *inode)
{
	guestram_wait_unheld(inode);
	truncate_inode_pages_final(inode->i_mapping);
	guestram_empty(inode, 0, ULONG_MAX);
	clear_inode(inode);
}

static int guestram_statfs(struct dentry *dentry, struct kstatfs *buf)
{
	struct guestram_sb *gs = guestram_s(dentry->d_sb);
	unsigned long used = atomic_long_read(&gs->used);
	int err;

	err = simple_statfs(dentry, buf);
	if (err)
		return err;

	buf->f_blocks = READ_ONCE(gs->limit);
	buf->f_bfree = buf->f_blocks - min_t(u64, used, buf->f_blocks);
	buf->f_bavail = buf->f_bfree;
	return 0;
}

static int guestram_show_options(struct seq_file *seq, struct dentry *root)
{
	struct guestram_sb *gs = guestram_s(root->d_sb);

	seq_printf(seq, ",size=%luk",
		   READ_ONCE(gs->limit) << (PAGE_SHIFT - 10));
	seq_printf(seq, ",mode=%03ho", gs->mode);
	if (!uid_eq(gs->uid, GLOBAL_ROOT_UID))
		seq_printf(seq, ",uid=%u",
			   from_kuid_munged(&init_user_ns, gs->uid));
	if (!gid_eq(gs->gid, GLOBAL_ROOT_GID))
		seq_printf(seq, ",gid=%u",
			   from_kgid_munged(&init_user_ns, gs->gid));
	return 0;
}

static const struct super_operations guestram_super_ops = {
	.alloc_inode = guestram_alloc_inode,
	.free_inode = guestram_free_inode,
	.drop_inode = generic_delete_inode,
	.evict_inode = guestram_evict_inode,
	.statfs = guestram_statfs,
	.show_options = guestram_show_options,
};

/* ---- mount options ---- */

enum guestram_param {
	OPT_SIZE,
	OPT_MODE,
	OPT_UID,
	OPT_GID,
};

static const struct fs_parameter_spec guestram_params[] = {
	fsparam_string("size", OPT_SIZE),
	fsparam_u32oct("mode", OPT_MODE),
	fsparam_u32("uid", OPT_UID),
	fsparam_u32("gid", OPT_GID),
	{}
};

/* What a mount or remount asks for.  Owner: its fs_context. */
struct guestram_opts {
	unsigned long limit;		/* pages; 0: not said */
	umode_t mode;
	kuid_t uid;
	kgid_t gid;
	unsigned int seen;		/* bits of enum guestram_param */
};

static int parse_size(struct fs_context *fc, const char *text,
		      unsigned long *limit)
{
	unsigned long long size;
	char *rest;

	size = memparse(text, &rest);
	if (rest != text && *rest == '%') {
		if (size > 100)
			return invalf(fc, "guestram: more than 100%% of memory");
		size = (size * totalram_pages() / 100) << PAGE_SHIFT;
		rest++;
	}
	if (rest == text || *rest || !size || size > MAX_LFS_FILESIZE)
		return invalf(fc, "guestram: bad size '%s'", text);

	*limit = DIV_ROUND_UP(size, PAGE_SIZE);
	return 0;
}

static int guestram_parse_param(struct fs_context *fc,
				struct fs_parameter *param)
{
	struct guestram_opts *opts = fc->fs_private;
	struct fs_parse_result result;
	int opt;

	opt = fs_parse(fc, guestram_params, param, &result);
	if (opt < 0)
		return opt;

	opts->seen |= BIT(opt);
	switch (opt) {
	case OPT_SIZE:
		return parse_size(fc, param->string, &opts->limit);
	case OPT_MODE:
		if (result.uint_32 & ~07777)
			return invalf(fc, "guestram: bad mode");
		opts->mode = result.uint_32;
		return 0;
	case OPT_UID:
		opts->uid = make_kuid(current_user_ns(), result.uint_32);
		return uid_valid(opts->uid) ? 0 :
					      invalf(fc, "guestram: bad uid");
	default:
		opts->gid = make_kgid(current_user_ns(), result.uint_32);
		return gid_valid(opts->gid) ? 0 :
					      invalf(fc, "guestram: bad gid");
	}
}

static int guestram_fill_super(struct super_block *sb, struct fs_context *fc)
{
	struct guestram_opts *opts = fc->fs_private;
	struct guestram_sb *gs;
	struct inode *root;

	gs = kzalloc(sizeof(*gs), GFP_KERNEL);
	if (!gs)
		return -ENOMEM;

	gs->limit = opts->limit;
	gs->mode = opts->mode;
	gs->uid = opts->uid;
	gs->gid = opts->gid;
	sb->s_fs_info = gs;	/* freed by guestram_kill_sb() */

	/* Whole pages: rounding up a size within must not overflow. */
	sb->s_maxbytes = MAX_LFS_FILESIZE & PAGE_MASK;
	sb->s_blocksize = PAGE_SIZE;
	sb->s_blocksize_bits = PAGE_SHIFT;
	sb->s_magic = GUESTRAM_MAGIC;
	sb->s_op = &guestram_super_ops;
	sb->s_time_gran = 1;
	/* Nor does anybody run a guest's memory. */
	sb->s_iflags |= SB_I_NODEV | SB_I_NOEXEC;

	root = guestram_new_inode(sb, NULL, S_IFDIR | gs->mode);
	if (root) {
		root->i_uid = gs->uid;
		root->i_gid = gs->gid;
	}
	sb->s_root = d_make_root(root);
	return sb->s_root ? 0 : -ENOMEM;
}

static int guestram_get_tree(struct fs_context *fc)
{
	return get_tree_nodev(fc, guestram_fill_super);
}

static int guestram_reconfigure(struct fs_context *fc)
{
	struct guestram_sb *gs = guestram_s(fc->root->d_sb);
	struct guestram_opts *opts = fc->fs_private;

	/* mount(8) repeats what /proc/mounts says. */
	if (((opts->seen & BIT(OPT_MODE)) && opts->mode != gs->mode) ||
	    ((opts->seen & BIT(OPT_UID)) && !uid_eq(opts->uid, gs->uid)) ||
	    ((opts->seen & BIT(OPT_GID)) && !gid_eq(opts->gid, gs->gid)))
		return invalf(fc, "guestram: a remount changes only the size");

	if (!(opts->seen & BIT(OPT_SIZE)))
		return 0;
	if (opts->limit < atomic_long_read(&gs->used))
		return invalf(fc, "guestram: more than that is in use");
	WRITE_ONCE(gs->limit, opts->limit);
	return 0;
}

static void guestram_free_fc(struct fs_context *fc)
{
	kfree(fc->fs_private);
}

static const struct fs_context_operations guestram_context_ops = {
	.free = guestram_free_fc,
	.parse_param = guestram_parse_param,
	.get_tree = guestram_get_tree,
	.reconfigure = guestram_reconfigure,
};

static int guestram_init_fs_context(struct fs_context *fc)
{
	struct guestram_opts *opts;

	opts = kzalloc(sizeof(*opts), GFP_KERNEL);
	if (!opts)
		return -ENOMEM;

	opts->limit = totalram_pages() / 2;
	opts->mode = 01777;
	opts->uid = current_fsuid();
	opts->gid = current_fsgid();
	fc->fs_private = opts;
	fc->ops = &guestram_context_ops;
	return 0;
}

static void guestram_kill_sb(struct super_block *sb)
{
	struct guestram_sb *gs = guestram_s(sb);

	kill_litter_super(sb);
	WARN_ON_ONCE(gs && atomic_long_read(&gs->used));
	kfree(gs);
}

static struct file_system_type guestram_type = {
	.owner = THIS_MODULE,
	.name = "guestram",
	.init_fs_context = guestram_init_fs_context,
	.parameters = guestram_params,
	.kill_sb = guestram_kill_sb,
};
MODULE_ALIAS_FS("guestram");

/* ---- module ---- */

static int frames_set(const char *val, const struct kernel_param *kp)
{
	return -EPERM;
}

static int frames_get(char *buf, const struct kernel_param *kp)
{
	return sysfs_emit(buf, "%ld\n", guestram_nr_frames());
}

static const struct kernel_param_ops frames_ops = {
	.set = frames_set,
	.get = frames_get,
};
module_param_cb(frames, &frames_ops, NULL, 0444);
MODULE_PARM_DESC(frames, "Pages of memory in all files together, one that is shared counts once (read only)");

static int __init guestram_init(void)
{
	int err;

	inode_cache = kmem_cache_create("guestram_inode",
					sizeof(struct guestram_inode), 0,
					SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT,
					init_once);
	if (!inode_cache)
		return -ENOMEM;

	err = guestram_frames_init();
	if (err)
		goto err_cache;

	err = register_filesystem(&guestram_type);
	if (err)
		goto err_frames;
	return 0;

err_frames:
	guestram_frames_exit();
err_cache:
	kmem_cache_destroy(inode_cache);
	return err;
}

static void __exit guestram_exit(void)
{
	unregister_filesystem(&guestram_type);
	guestram_frames_exit();
	/* Inodes are freed by RCU. */
	rcu_barrier();
	kmem_cache_destroy(inode_cache);
}

module_init(guestram_init);
module_exit(guestram_exit);

MODULE_DESCRIPTION("File system for the RAM of virtual machines");
MODULE_AUTHOR("The vhost-crosstalk engineers");
MODULE_LICENSE("GPL");
