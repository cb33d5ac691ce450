// SPDX-License-Identifier: GPL-2.0
/*
 * Mirrors: how one guest's worker reaches another guest's memory.
 *
 * The protocol is that of mmu_interval_notifier: read_begin, take the page,
 * lock, read_retry, install.  The interval is the whole address space, so that
 * a mirror has nothing to do with vhost's memory table: who translates a
 * guest-physical address does so by the table, under the vq mutex, and asks the
 * mirror for the result.
 *
 * Lock order: rx->mutex -> fill_lock -> (mmap_lock by GUP); rx->mutex -> lock.
 * The notifier takes only lock, and may be called from reclaim.  It spins for
 * readers, who neither sleep nor fault, and therefore never has to refuse.
 */

#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "mirror.h"

/* Pages that are taken at a time to be installed under one lock. */
#define FILL_BATCH 16

static LIST_HEAD(mirrors);
static DEFINE_MUTEX(mirrors_lock);	/* mirrors and the last put of each */

/* Clears the entries of one leaf from page @first to page @last. */
static void clear_leaf(struct crosstalk_mirror *mirror,
		       struct crosstalk_mirror_leaf *leaf, unsigned long first,
		       unsigned long last)
{
	unsigned long i;

	for (i = first & (MIRROR_LEAF_ENTRIES - 1);
	     i <= (last & (MIRROR_LEAF_ENTRIES - 1)); i++) {
		if (!leaf->frame[i])
			continue;
		leaf->frame[i] = 0;
		mirror->changes++;
		atomic_long_dec(&mirror->nr_pages);
	}
}

static void clear_pages(struct crosstalk_mirror *mirror, unsigned long first,
			unsigned long last)
{
	unsigned long end;

	for (; first <= last; first = end + 1) {
		unsigned long top = first >> (MIRROR_LEAF_BITS +
					      MIRROR_MID_BITS);
		struct crosstalk_mirror_leaf *leaf;
		struct crosstalk_mirror_mid *mid;

		if (top >= MIRROR_TOP_ENTRIES)
			return;

		mid = mirror->top[top];
		if (!mid) {
			end = first | (BIT(MIRROR_LEAF_BITS +
					   MIRROR_MID_BITS) - 1);
			continue;
		}

		end = min(first | (MIRROR_LEAF_ENTRIES - 1), last);
		leaf = mid->leaf[(first >> MIRROR_LEAF_BITS) &
				 (MIRROR_MID_ENTRIES - 1)];
		if (leaf)
			clear_leaf(mirror, leaf, first, end);
	}
}

static bool invalidate(struct mmu_interval_notifier *mni,
		       const struct mmu_notifier_range *range,
		       unsigned long cur_seq)
{
	struct crosstalk_mirror *mirror = container_of(mni,
						       struct crosstalk_mirror,
						       mni);

	write_lock(&mirror->lock);
	mmu_interval_set_seq(mni, cur_seq);
	clear_pages(mirror, range->start >> PAGE_SHIFT,
		    (range->end - 1) >> PAGE_SHIFT);
	write_unlock(&mirror->lock);
	return true;
}

static const struct mmu_interval_notifier_ops mirror_ops = {
	.invalidate = invalidate,
};

static struct crosstalk_mirror *create(void)
{
	struct crosstalk_mirror *mirror;
	int ret;

	mirror = kvzalloc(sizeof(*mirror), GFP_KERNEL_ACCOUNT);
	if (!mirror)
		return ERR_PTR(-ENOMEM);

	kref_init(&mirror->ref);
	rwlock_init(&mirror->lock);
	mutex_init(&mirror->fill_lock);
	ret = mmu_interval_notifier_insert(&mirror->mni, current->mm, 0,
					   TASK_SIZE, &mirror_ops);
	if (ret) {
		kvfree(mirror);
		return ERR_PTR(ret);
	}
	return mirror;
}

static void destroy(struct crosstalk_mirror *mirror)
{
	unsigned long i;
	unsigned long j;

	mmu_interval_notifier_remove(&mirror->mni);
	for (i = 0; i < MIRROR_TOP_ENTRIES; i++) {
		if (!mirror->top[i])
			continue;
		for (j = 0; j < MIRROR_MID_ENTRIES; j++)
			kvfree(mirror->top[i]->leaf[j]);
		kvfree(mirror->top[i]);
	}
	kvfree(mirror);
}

/* The mirror of the current address space, if there is one; mirrors_lock held. */
static struct crosstalk_mirror *find(void)
{
	struct crosstalk_mirror *mirror;

	list_for_each_entry(mirror, &mirrors, list) {
		if (mirror->mni.mm != current->mm)
			continue;
		kref_get(&mirror->ref);
		return mirror;
	}
	return NULL;
}

/**
 * crosstalk_mirror_get() - the mirror of the current address space
 *
 * A new one is made without mirrors_lock: it takes the mmap lock, which one
 * guest's page fault can hold for long, and other guests do not wait for that.
 *
 * Context: process context with an mm (a vhost worker); may sleep.
 * Return: the mirror with a reference for the caller, or an ERR_PTR.
 */
struct crosstalk_mirror *crosstalk_mirror_get(void)
{
	struct crosstalk_mirror *mirror;
	struct crosstalk_mirror *new;

	mutex_lock(&mirrors_lock);
	mirror = find();
	mutex_unlock(&mirrors_lock);
	if (mirror)
		return mirror;

	new = create();
	if (IS_ERR(new))
		return new;

	mutex_lock(&mirrors_lock);
	mirror = find();
	if (!mirror)
		list_add(&new->list, &mirrors);
	mutex_unlock(&mirrors_lock);
	if (!mirror)
		return new;

	/* Another device of this guest was faster. */
	destroy(new);
	return mirror;
}

static void last_put(struct kref *ref)
{
	struct crosstalk_mirror *mirror = container_of(ref,
						       struct crosstalk_mirror,
						       ref);

	list_del(&mirror->list);
	mutex_unlock(&mirrors_lock);
	destroy(mirror);
}

/**
 * crosstalk_mirror_put() - give a reference back
 * @mirror: mirror that the caller no longer uses
 *
 * Context: process context, may sleep; a vq mutex may be held, because the
 * notifier, whose end this waits for, takes only the mirror's own lock.
 */
void crosstalk_mirror_put(struct crosstalk_mirror *mirror)
{
	kref_put_mutex(&mirror->ref, last_put, &mirrors_lock);
}

/* The entry for a page, with its tables made; fill_lock held. */
static u32 *make_entry(struct crosstalk_mirror *mirror, unsigned long page)
{
	struct crosstalk_mirror_leaf **leafp;
	struct crosstalk_mirror_mid **midp;

	midp = &mirror->top[page >> (MIRROR_LEAF_BITS + MIRROR_MID_BITS)];
	if (!*midp) {
		struct crosstalk_mirror_mid *mid;

		mid = kvzalloc(sizeof(*mid), GFP_KERNEL_ACCOUNT);
		if (!mid)
			return NULL;
		atomic_long_inc(&mirror->nr_tables);
		/* Readers see the table empty, not as it was allocated. */
		smp_store_release(midp, mid);
	}

	leafp = &(*midp)->leaf[(page >> MIRROR_LEAF_BITS) &
			       (MIRROR_MID_ENTRIES - 1)];
	if (!*leafp) {
		struct crosstalk_mirror_leaf *leaf;

		leaf = kvzalloc(sizeof(*leaf), GFP_KERNEL_ACCOUNT);
		if (!leaf)
			return NULL;
		atomic_long_inc(&mirror->nr_tables);
		/* As above. */
		smp_store_release(leafp, leaf);
	}
	return &(*leafp)->frame[page & (MIRROR_LEAF_ENTRIES - 1)];
}

/* A page that the kernel's direct map reaches and an entry can name. */
static bool can_mirror(struct page *page)
{
	return !is_zone_device_page(page) && !PageHighMem(page) &&
	       page_to_pfn(page) < U32_MAX;
}

/*
 * Installs @nr pages from page number @first on.  Returns -EAGAIN when the
 * address space changed meanwhile.
 */
static int install(struct crosstalk_mirror *mirror, unsigned long seq,
		   unsigned long first, struct page **pages, long nr)
{
	u32 *entry[FILL_BATCH];
	int ret = 0;
	long i;

	for (i = 0; i < nr; i++) {
		if (!can_mirror(pages[i]))
			return -EOPNOTSUPP;
		entry[i] = make_entry(mirror, first + i);
		if (!entry[i])
			return -ENOMEM;
	}

	write_lock(&mirror->lock);
	if (mmu_interval_read_retry(&mirror->mni, seq)) {
		ret = -EAGAIN;
	} else {
		for (i = 0; i < nr; i++) {
			if (!*entry[i])
				atomic_long_inc(&mirror->nr_pages);
			*entry[i] = page_to_pfn(pages[i]) + 1;
		}
	}
	write_unlock(&mirror->lock);
	return ret;
}

static bool is_mirrored(struct crosstalk_mirror *mirror, unsigned long page)
{
	bool ret;

	read_lock(&mirror->lock);
	ret = crosstalk_mirror_lookup(mirror, page << PAGE_SHIFT);
	read_unlock(&mirror->lock);
	return ret;
}

static int fill_some(struct crosstalk_mirror *mirror, unsigned long first,
		     long nr)
{
	struct page *pages[FILL_BATCH];
	unsigned long seq;
	long got;
	long i;
	int ret;

	do {
		seq = mmu_interval_read_begin(&mirror->mni);
		got = get_user_pages_fast(first << PAGE_SHIFT, nr, FOLL_WRITE,
					  pages);
		if (got <= 0)
			return got ? got : -EFAULT;

		ret = install(mirror, seq, first, pages, got);
		for (i = 0; i < got; i++) {
			/*
			 * What is written through the mirror leaves no trace in
			 * the page table, and a writable entry can be clean.
			 */
			if (!ret)
				set_page_dirty_lock(pages[i]);
			put_page(pages[i]);
		}
	} while (ret == -EAGAIN && !fatal_signal_pending(current));

	return ret ? ret : got;
}

/**
 * crosstalk_mirror_fill() - mirror a range of the current address space
 * @mirror: the current address space's
 * @addr: user address
 * @len: bytes, at least one
 *
 * Pages are made present and writable, as if written to.
 *
 * Context: the guest's own worker, may fault and sleep.
 * Return: 0; -EFAULT for memory that is gone, -ENOMEM, -EOPNOTSUPP for memory
 * that is out of the kernel's reach.
 */
int crosstalk_mirror_fill(struct crosstalk_mirror *mirror, unsigned long addr,
			  size_t len)
{
	unsigned long page = addr >> PAGE_SHIFT;
	unsigned long last = (addr + len - 1) >> PAGE_SHIFT;
	long ret = 0;

	if (last < page || last >= BIT(47 - PAGE_SHIFT))
		return -EOPNOTSUPP;

	mutex_lock(&mirror->fill_lock);
	while (page <= last) {
		if (is_mirrored(mirror, page)) {
			page++;
			continue;
		}
		ret = fill_some(mirror, page,
				min_t(unsigned long, last - page + 1,
				      FILL_BATCH));
		if (ret < 0)
			break;
		page += ret;
	}
	mutex_unlock(&mirror->fill_lock);
	return ret < 0 ? ret : 0;
}
