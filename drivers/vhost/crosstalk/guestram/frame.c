// SPDX-License-Identifier: GPL-2.0
/*
 * Frames: the pages of guest RAM, and the slots of files that hold them.
 *
 * Ownership, lifetime and lock order are in Documentation/guestram.rst.  In
 * short: a slot holds one reference on its frame, and changes only with the
 * frame's lock held; a frame is on no LRU list and in no page cache, so that
 * its reference count says who uses it.
 */

#include <linux/err.h>
#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/memcontrol.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/pseudo_fs.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>

#include "guestram.h"

/*
 * Guest RAM is not worth the OOM killer: who asks for it gets an error, or
 * SIGBUS.  It does not move, so it is not from a movable zone.
 */
#define FRAME_GFP (GFP_HIGHUSER | __GFP_ACCOUNT | __GFP_RETRY_MAYFAIL | \
		   __GFP_NOWARN)

/* The same for what holds the slots, which is no guest RAM. */
#define SLOT_GFP (GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)

#define FRAME_BLOCKS (PAGE_SIZE / 512)	/* of i_blocks */

/* Slots that guestram_fill() has filled and may have to empty again. */
#define MARK_FRESH XA_MARK_0

/*
 * Frames have the mapping of one inode that nobody can open: GUP-fast does not
 * take pages without, and no file's own would outlive all its frames.  They are
 * dirty for ever, or what drops clean pages from the page cache would take them
 * for some.
 */
static struct vfsmount *neutral_mnt;
static struct inode *neutral;

static int neutral_init_fs_context(struct fs_context *fc)
{
	return init_pseudo(fc, GUESTRAM_MAGIC) ? 0 : -ENOMEM;
}

/* Without owner: its only mount is the module's, which would never go. */
static struct file_system_type neutral_type = {
	.name = "guestram_frames",
	.init_fs_context = neutral_init_fs_context,
	.kill_sb = kill_anon_super,
};

int guestram_frames_init(void)
{
	neutral_mnt = kern_mount(&neutral_type);
	if (IS_ERR(neutral_mnt))
		return PTR_ERR(neutral_mnt);

	neutral = alloc_anon_inode(neutral_mnt->mnt_sb);
	if (IS_ERR(neutral)) {
		kern_unmount(neutral_mnt);
		return PTR_ERR(neutral);
	}
	neutral->i_mapping->a_ops = &guestram_aops;
	return 0;
}

void guestram_frames_exit(void)
{
	iput(neutral);
	kern_unmount(neutral_mnt);
}

static bool reserve(struct guestram_sb *gs)
{
	long used = atomic_long_read(&gs->used);

	do {
		if (used >= READ_ONCE(gs->limit))
			return false;
	} while (!atomic_long_try_cmpxchg(&gs->used, &used, used + 1));
	return true;
}

static bool is_full(const struct guestram_sb *gs)
{
	return atomic_long_read(&gs->used) >= READ_ONCE(gs->limit);
}

static void unreserve(struct guestram_sb *gs)
{
	atomic_long_dec(&gs->used);
}

/* By the policy of @vma at @addr, or the task's without a @vma. */
static struct folio *alloc_frame(struct vm_area_struct *vma, unsigned long addr)
{
	struct page *page;

	if (vma)
		return vma_alloc_folio(FRAME_GFP | __GFP_ZERO, 0, vma, addr,
				       false);

	page = alloc_page(FRAME_GFP | __GFP_ZERO);
	return page ? page_folio(page) : NULL;
}

/*
 * The limit counts slots, and is asked with the slot in hand: two who are after
 * the same page need no more than one.
 */
static int store(struct inode *inode, pgoff_t index, struct folio *folio)
{
	struct xarray *frames = &guestram_i(inode)->frames;
	bool full = false;
	void *old;

	xa_lock(frames);
	old = __xa_cmpxchg(frames, index, NULL, folio, SLOT_GFP);
	if (!old) {
		full = !reserve(guestram_s(inode->i_sb));
		if (full)
			__xa_erase(frames, index);
		else
			inode->i_blocks += FRAME_BLOCKS;
	}
	xa_unlock(frames);
	if (xa_is_err(old))
		return xa_err(old);
	if (old)
		return -EEXIST;
	return full ? -ENOSPC : 0;
}

static struct folio *add_frame(struct inode *inode, pgoff_t index,
			       struct vm_area_struct *vma, unsigned long addr)
{
	struct folio *folio;
	int err;

	folio = alloc_frame(vma, addr);
	if (!folio)
		return ERR_PTR(-ENOMEM);

	__folio_set_locked(folio);
	folio_set_dirty(folio);
	folio->mapping = neutral->i_mapping;
	/* Only a futex asks for it: the key must be no other frame's. */
	folio->index = folio_pfn(folio);
	folio_get(folio);	/* the slot's */
	err = store(inode, index, folio);
	if (!err)
		return folio;

	folio->mapping = NULL;
	folio_unlock(folio);
	folio_put(folio);
	folio_put(folio);
	return ERR_PTR(err);
}

/*
 * Fills an empty slot; invalidate_lock held.  Returns the frame, locked and
 * with a reference; ERR_PTR(-EEXIST) if somebody else was faster.
 *
 * The owner of the address space is charged, not the task that runs: a vhost
 * worker may be a kernel thread.
 */
static struct folio *add(struct inode *inode, pgoff_t index,
			 struct vm_area_struct *vma, unsigned long addr)
{
	struct guestram_sb *gs = guestram_s(inode->i_sb);
	struct mem_cgroup *memcg;
	struct mem_cgroup *old;
	struct folio *folio;

	/* For nothing, if there is no room; store() counts. */
	if (is_full(gs))
		return ERR_PTR(-ENOSPC);

	memcg = get_mem_cgroup_from_mm(vma ? vma->vm_mm : current->mm);
	old = set_active_memcg(memcg);
	folio = add_frame(inode, index, vma, addr);
	set_active_memcg(old);
	mem_cgroup_put(memcg);
	return folio;
}

/**
 * guestram_find() - the frame in a slot
 * @inode: file
 * @index: of the page in the file
 *
 * The frame may leave its slot at any time, but nobody else gets its memory
 * before the reference is put.
 *
 * Return: the frame with a reference for the caller, or NULL.
 */
struct folio *guestram_find(struct inode *inode, pgoff_t index)
{
	struct xarray *frames = &guestram_i(inode)->frames;
	struct folio *folio;

	xa_lock(frames);
	folio = xa_load(frames, index);
	if (folio)
		folio_get(folio);
	xa_unlock(frames);
	return folio;
}

static struct folio *find_lock(struct inode *inode, pgoff_t index,
			       bool killable)
{
	struct folio *folio;

	for (;;) {
		folio = guestram_find(inode, index);
		if (!folio)
			return NULL;

		if (!killable) {
			folio_lock(folio);
		} else if (folio_lock_killable(folio)) {
			folio_put(folio);
			return ERR_PTR(-EINTR);
		}
		if (xa_load(&guestram_i(inode)->frames, index) == folio)
			return folio;

		folio_unlock(folio);
		folio_put(folio);
	}
}

/**
 * guestram_find_lock() - the frame in a slot, which stays there
 * @inode: file
 * @index: of the page in the file
 *
 * Context: process context, may sleep for the frame's lock.
 * Return: the frame, locked and with a reference for the caller, or NULL.
 */
struct folio *guestram_find_lock(struct inode *inode, pgoff_t index)
{
	return find_lock(inode, index, false);
}

/**
 * guestram_find_lock_killable() - the same for those who can be killed meanwhile
 * @inode: file
 * @index: of the page in the file
 *
 * fallocate() has locked its frames until it is through.
 *
 * Context: process context, may sleep for the frame's lock.
 * Return: as above, or ERR_PTR(-EINTR) for a fatal signal.
 */
struct folio *guestram_find_lock_killable(struct inode *inode, pgoff_t index)
{
	return find_lock(inode, index, true);
}

/**
 * guestram_get() - the frame in a slot, a new one if there is none
 * @inode: file
 * @index: of the page in the file
 * @vma: mapping that is touched, or NULL: where the memory is to come from
 * @addr: place in @vma
 *
 * Context: process context, may sleep; takes invalidate_lock, for as long as a
 * fallocate() lasts.
 * Return: the frame, locked and with a reference for the caller; an ERR_PTR:
 * -ENOSPC at the mount's limit, -ENOMEM, -EINTR for a fatal signal, -EFAULT for
 * a mapping beyond the end of the file.
 */
struct folio *guestram_get(struct inode *inode, pgoff_t index,
			   struct vm_area_struct *vma, unsigned long addr)
{
	struct rw_semaphore *lock = &inode->i_mapping->invalidate_lock;
	struct folio *folio;
	struct folio *last;

	if (down_read_killable(lock))
		return ERR_PTR(-EINTR);

	/* The file does not get shorter under this lock. */
	if (vma && guestram_beyond_end(inode, index)) {
		up_read(lock);
		return ERR_PTR(-EFAULT);
	}
	do {
		folio = find_lock(inode, index, true);
		if (!folio)
			folio = add(inode, index, vma, addr);
	} while (folio == ERR_PTR(-EEXIST));

	/* The last one may be this page's: somebody else was faster. */
	if (folio == ERR_PTR(-ENOSPC)) {
		last = find_lock(inode, index, true);
		folio = last ? last : folio;
	}
	up_read(lock);
	return folio;
}

/* Empties the slot of a frame that is locked; the caller has a reference. */
static void remove_frame(struct inode *inode, pgoff_t index, struct folio *folio)
{
	struct xarray *frames = &guestram_i(inode)->frames;

	if (folio_mapped(folio))
		unmap_mapping_pages(inode->i_mapping, index, 1, false);

	xa_lock(frames);
	__xa_erase(frames, index);
	inode->i_blocks -= FRAME_BLOCKS;
	xa_unlock(frames);
	folio->mapping = NULL;
	folio_put(folio);	/* the slot's */
	unreserve(guestram_s(inode->i_sb));
}

/**
 * guestram_empty() - give memory back
 * @inode: file; its invalidate_lock is held, or it has no users any more
 * @first: first page
 * @last: last page
 *
 * Context: process context, may sleep.
 */
void guestram_empty(struct inode *inode, pgoff_t first, pgoff_t last)
{
	struct folio *folio;
	unsigned long index;
	void *entry;

	xa_for_each_range(&guestram_i(inode)->frames, index, entry, first,
			  last) {
		folio = guestram_find_lock(inode, index);
		if (!folio)
			continue;
		remove_frame(inode, index, folio);
		folio_unlock(folio);
		folio_put(folio);
		cond_resched();
	}
}

/* Ends guestram_fill(): what it has added stays, or goes on an error. */
static void end_fill(struct inode *inode, pgoff_t first, pgoff_t last, int err)
{
	struct xarray *frames = &guestram_i(inode)->frames;
	unsigned long index = first;
	struct folio *folio;

	/* Nobody else can take them out: they are locked. */
	while ((folio = xa_find(frames, &index, last, MARK_FRESH))) {
		folio_get(folio);
		xa_clear_mark(frames, index, MARK_FRESH);
		if (err)
			remove_frame(inode, index, folio);
		folio_unlock(folio);
		folio_put(folio);
		cond_resched();
	}
}

/**
 * guestram_fill() - allocate memory for a range
 * @inode: file, with its invalidate_lock held exclusively
 * @first: first page
 * @last: last page
 *
 * New frames stay locked until all are there, so that nobody has used one that
 * must go because there is no memory for the others.
 *
 * Context: process context, may sleep.
 * Return: 0, or with nothing changed -ENOSPC, -ENOMEM, or -EINTR for a fatal
 * signal.
 */
int guestram_fill(struct inode *inode, pgoff_t first, pgoff_t last)
{
	struct xarray *frames = &guestram_i(inode)->frames;
	struct folio *folio;
	pgoff_t index;
	int err = 0;

	/* What can never fit shall not drain the machine first. */
	if (last - first >= READ_ONCE(guestram_s(inode->i_sb)->limit))
		return -ENOSPC;

	for (index = first; index <= last && !err; index++) {
		if (xa_load(frames, index))
			continue;

		folio = add(inode, index, NULL, 0);
		if (IS_ERR(folio)) {
			err = PTR_ERR(folio);
			break;
		}
		xa_set_mark(frames, index, MARK_FRESH);
		folio_put(folio);
		if (fatal_signal_pending(current))
			err = -EINTR;
		cond_resched();
	}
	end_fill(inode, first, last, err);
	return err;
}

/**
 * guestram_zero() - zero a part of a page
 * @inode: file, with its invalidate_lock held exclusively
 * @from: first byte
 * @to: end, in the same page or at its end
 *
 * Context: process context, may sleep.
 */
void guestram_zero(struct inode *inode, loff_t from, loff_t to)
{
	struct folio *folio;

	if (from >= to)
		return;

	folio = guestram_find_lock(inode, from >> PAGE_SHIFT);
	if (!folio)
		return;

	memzero_page(folio_page(folio, 0), offset_in_page(from), to - from);
	folio_unlock(folio);
	folio_put(folio);
}
