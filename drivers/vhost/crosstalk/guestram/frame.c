// SPDX-License-Identifier: GPL-2.0
/*
 * Frames: the pages of guest RAM, and the slots of files that hold them.
 *
 * Ownership, lifetime and lock order are in Documentation/guestram.rst.  In
 * short: a slot holds one reference on its frame, and changes only with the
 * frame's lock held; a frame is on no LRU list and in no page cache, so that
 * its reference count says who uses it.  A frame that is shared (share.c) is
 * mapped nowhere and does not change: who touches it gets one of its own.
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

#include "../compat.h"
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

/* Frames that are in a slot, or about to be: however many slots share one. */
static atomic_long_t nr_frames;

/**
 * guestram_nr_frames() - how much memory there is in all files together
 *
 * Context: any.
 * Return: the number of frames, each of which counts once.
 */
long guestram_nr_frames(void)
{
	return atomic_long_read(&nr_frames);
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(guestram_nr_frames);

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
static struct folio *alloc_frame(struct vm_area_struct *vma, unsigned long addr,
				 gfp_t gfp)
{
	struct page *page;

	if (vma)
		return vma_alloc_folio(gfp, 0, vma, addr, false);

	page = alloc_page(gfp);
	return page ? page_folio(page) : NULL;
}

/* Who is charged for what is allocated: a vhost worker may be a kernel thread. */
struct charge {
	struct mem_cgroup *memcg;
	struct mem_cgroup *old;
};

static void charge_to(struct charge *charge, struct mm_struct *mm)
{
	charge->memcg = get_mem_cgroup_from_mm(mm);
	charge->old = set_active_memcg(charge->memcg);
}

static void charge_end(const struct charge *charge)
{
	set_active_memcg(charge->old);
	mem_cgroup_put(charge->memcg);
}

static struct folio *init_frame(struct folio *folio)
{
	if (!folio)
		return NULL;

	atomic_long_inc(&nr_frames);
	__folio_set_locked(folio);
	folio_set_dirty(folio);
	folio->mapping = neutral->i_mapping;
	/* Only a futex asks for it: the key must be no other frame's. */
	folio->index = folio_pfn(folio);
	folio->private = NULL;
	folio_get(folio);	/* the slot's */
	return folio;
}

/*
 * A frame for a slot: locked, with the slot's reference and the caller's, or
 * NULL.  With __GFP_ZERO it is zeroed; else the caller overwrites all of it
 * before it comes into a slot.
 */
static struct folio *new_frame(struct vm_area_struct *vma, unsigned long addr,
			       gfp_t gfp)
{
	struct charge charge;
	struct folio *folio;

	charge_to(&charge, vma ? vma->vm_mm : current->mm);
	folio = alloc_frame(vma, addr, gfp);
	charge_end(&charge);
	return init_frame(folio);
}

/* The same in the place of another one, where its slot's policy had that. */
static struct folio *new_frame_for(const struct folio *folio,
				   struct mm_struct *mm)
{
	struct charge charge;
	struct page *page;

	charge_to(&charge, mm);
	page = alloc_pages_node(folio_nid(folio), FRAME_GFP, 0);
	charge_end(&charge);
	return init_frame(page ? page_folio(page) : NULL);
}

/* One that has not come into a slot. */
static void discard_frame(struct folio *folio)
{
	atomic_long_dec(&nr_frames);
	folio->mapping = NULL;
	folio_unlock(folio);
	folio_put(folio);
	folio_put(folio);
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

/*
 * Fills an empty slot; invalidate_lock held.  Returns the frame, locked and
 * with a reference; ERR_PTR(-EEXIST) if somebody else was faster.
 */
static struct folio *add(struct inode *inode, pgoff_t index,
			 struct vm_area_struct *vma, unsigned long addr)
{
	struct guestram_sb *gs = guestram_s(inode->i_sb);
	struct charge charge;
	struct folio *folio;
	int err;

	/* For nothing, if there is no room; store() counts. */
	if (is_full(gs))
		return ERR_PTR(-ENOSPC);

	folio = new_frame(vma, addr, FRAME_GFP | __GFP_ZERO);
	if (!folio)
		return ERR_PTR(-ENOMEM);

	/* What holds the slot is the same owner's. */
	charge_to(&charge, vma ? vma->vm_mm : current->mm);
	err = store(inode, index, folio);
	charge_end(&charge);
	if (!err)
		return folio;

	discard_frame(folio);
	return ERR_PTR(err);
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

/*
 * The frame in a slot, which stays there: locked and with a reference, or NULL;
 * ERR_PTR(-EINTR) for a fatal signal if that may end the wait (fallocate() has
 * locked its frames until it is through).
 */
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

/*
 * The frame in a slot, a new one if there is none; takes invalidate_lock, for
 * as long as a fallocate() lasts.  Locked and with a reference for the caller.
 */
static struct folio *get(struct inode *inode, pgoff_t index,
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

/**
 * guestram_leave() - a frame has left one of its slots
 * @folio: locked, with a reference of the caller
 *
 * The slot's reference is put.
 *
 * Context: process context.
 */
void guestram_leave(struct folio *folio)
{
	unsigned long slots = guestram_shared(folio);

	if (slots > 1) {
		guestram_set_shared(folio, slots - 1);
	} else {
		guestram_set_shared(folio, 0);
		folio->mapping = NULL;
		atomic_long_dec(&nr_frames);
	}
	folio_put(folio);
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(guestram_leave);

/**
 * guestram_copy() - copy a frame's contents
 * @to: frame that nobody looks at yet, or whose reader asked for it
 * @from: frame
 *
 * An error in the memory of one machine must not end the host, as it may when
 * the kernel reads it in any other way.
 *
 * Context: any.
 * Return: 0, or -EIO for memory that cannot be read.
 */
int guestram_copy(struct folio *to, struct folio *from)
{
	return copy_mc_user_highpage(folio_page(to, 0), folio_page(from, 0), 0,
				     NULL) ? -EIO : 0;
}

/**
 * guestram_replace() - put another frame in a slot that has one
 * @inode: file
 * @index: of the page in the file; its frame is locked
 * @folio: the new one, locked, with a reference for the slot
 *
 * Context: process context.
 */
void guestram_replace(struct inode *inode, pgoff_t index, struct folio *folio)
{
	struct xarray *frames = &guestram_i(inode)->frames;

	xa_lock(frames);
	/* Nothing is allocated for a slot that is in use. */
	WARN_ON_ONCE(!__xa_store(frames, index, folio, 0));
	xa_unlock(frames);
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(guestram_replace);

/*
 * Whether a frame, which is locked, is its slot's own.  A shared one becomes
 * that of its last slot if nobody else has a reference: who got one by another
 * slot may still read what the last holder is about to change.
 */
static bool take_over(struct folio *folio)
{
	if (!guestram_shared(folio))
		return true;
	if (guestram_shared(folio) > 1 || !guestram_is_idle(folio))
		return false;

	guestram_set_shared(folio, 0);
	return true;
}

/* Somebody touches the page that a slot shares. */
static void note_touch(struct inode *inode, pgoff_t index)
{
	xa_set_mark(&guestram_i(inode)->frames, index, GUESTRAM_MARK_TOUCHED);
}

/*
 * Gives the slot of a shared frame, which is locked, that frame as its own, or
 * @copy with its contents.  Returns the one that it has then, locked and with
 * the caller's reference; the other one is let go.  ERR_PTR(-EIO) for memory that
 * cannot be read: then both are.
 */
static struct folio *settle(struct inode *inode, pgoff_t index,
			    struct folio *folio, struct folio *copy)
{
	if (take_over(folio)) {
		discard_frame(copy);
		return folio;
	}

	if (guestram_copy(copy, folio)) {
		discard_frame(copy);
		copy = ERR_PTR(-EIO);
	} else {
		guestram_replace(inode, index, copy);
		guestram_leave(folio);
	}
	folio_unlock(folio);
	folio_put(folio);
	return copy;
}

/*
 * Gives the slot of a shared frame one of its own; the quota, which counts
 * slots, has it already.  @folio is locked and with a reference, which the
 * frame that is returned has in its place.  NULL if the slot has changed.
 */
static struct folio *unshare(struct inode *inode, pgoff_t index,
			     struct vm_area_struct *vma, unsigned long addr,
			     struct folio *folio)
{
	struct folio *new;

	if (take_over(folio)) {
		note_touch(inode, index);
		return folio;
	}

	/* No memory is allocated with a frame's lock held. */
	folio_unlock(folio);
	new = new_frame(vma, addr, FRAME_GFP);
	if (!new) {
		folio_put(folio);
		return ERR_PTR(-ENOMEM);
	}
	folio_lock(folio);
	if (xa_load(&guestram_i(inode)->frames, index) != folio) {
		discard_frame(new);
		folio_unlock(folio);
		folio_put(folio);
		return NULL;
	}

	note_touch(inode, index);
	return settle(inode, index, folio, new);
}

/*
 * Locks the frame in a slot if nobody is in the way; NULL otherwise, or if it
 * has a memory error.  The reference goes with it.
 */
static struct folio *try_lock(struct inode *inode, pgoff_t index,
			      struct folio *folio)
{
	if (folio_trylock(folio)) {
		if (xa_load(&guestram_i(inode)->frames, index) == folio &&
		    !PageHWPoison(folio_page(folio, 0)))
			return folio;
		folio_unlock(folio);
	}
	folio_put(folio);
	return NULL;
}

/**
 * guestram_try_own() - guestram_own() for who may not wait for others
 * @inode: file, held
 * @index: of the page in the file
 * @mm: whose memory a new frame is
 * @shared: on return, whether there is a new one, or the old one was shared
 *
 * Not for an empty slot.  The slot's owner has not touched it: that is not noted.
 *
 * Context: process context, may sleep.
 * Return: the frame, unlocked and with a reference, which keeps it from being
 * shared; NULL if somebody has locked it, or without memory.
 */
struct folio *guestram_try_own(struct inode *inode, pgoff_t index,
			       struct mm_struct *mm, bool *shared)
{
	struct folio *folio = guestram_find(inode, index);
	struct folio *copy;

	folio = folio ? try_lock(inode, index, folio) : NULL;
	if (!folio)
		return NULL;

	*shared = guestram_shared(folio);
	if (take_over(folio)) {
		folio_unlock(folio);
		return folio;
	}

	/* No memory is allocated with a frame's lock held. */
	folio_unlock(folio);
	copy = new_frame_for(folio, mm);
	if (!copy) {
		folio_put(folio);
		return NULL;
	}
	folio = try_lock(inode, index, folio);
	if (!folio) {
		discard_frame(copy);
		return NULL;
	}
	folio = settle(inode, index, folio, copy);
	if (IS_ERR(folio))
		return NULL;
	folio_unlock(folio);
	return folio;
}

/**
 * guestram_own() - the frame in a slot, which is no other slot's
 * @inode: file
 * @index: of the page in the file
 * @vma: mapping that is touched, or NULL: where the memory is to come from
 * @addr: place in @vma
 *
 * An empty slot gets a new frame, and one that shares its frame a copy.
 *
 * Context: process context, may sleep; takes invalidate_lock for an empty slot,
 * for as long as a fallocate() lasts.
 * Return: the frame, locked and with a reference for the caller; an ERR_PTR:
 * -ENOSPC at the mount's limit, -ENOMEM, -EINTR for a fatal signal, -EIO for
 * memory that cannot be read, -EFAULT for a mapping beyond the end of the file.
 */
struct folio *guestram_own(struct inode *inode, pgoff_t index,
			   struct vm_area_struct *vma, unsigned long addr)
{
	struct folio *folio;

	do {
		folio = find_lock(inode, index, true);
		if (!folio)
			folio = get(inode, index, vma, addr);
		if (!IS_ERR(folio) && unlikely(guestram_shared(folio)))
			folio = unshare(inode, index, vma, addr, folio);
	} while (unlikely(!folio));

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
	guestram_leave(folio);
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
		folio = find_lock(inode, index, false);
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
 * Return: 0, or -ENOMEM or -EIO for a page that is shared.
 */
int guestram_zero(struct inode *inode, loff_t from, loff_t to)
{
	pgoff_t index = from >> PAGE_SHIFT;
	struct folio *folio;

	if (from >= to)
		return 0;

	do {
		folio = find_lock(inode, index, false);
		if (!folio)
			return 0;
		if (guestram_shared(folio))
			folio = unshare(inode, index, NULL, 0, folio);
	} while (!folio);
	if (IS_ERR(folio))
		return PTR_ERR(folio);

	memzero_page(folio_page(folio, 0), offset_in_page(from), to - from);
	folio_unlock(folio);
	folio_put(folio);
	return 0;
}
