/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _CROSSTALK_MIRROR_H
#define _CROSSTALK_MIRROR_H

#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/nospec.h>
#include <linux/pfn.h>
#include <linux/spinlock.h>
#include <linux/types.h>

/*
 * Addresses below 128 TiB (47 bits) are mirrored, what user space gets unless
 * it asks for more.  Three levels: a leaf covers 16 MiB, a middle table 64 GiB.
 */
#define MIRROR_LEAF_BITS 12
#define MIRROR_MID_BITS 12
#define MIRROR_TOP_BITS (47 - PAGE_SHIFT - MIRROR_LEAF_BITS - MIRROR_MID_BITS)

#define MIRROR_LEAF_ENTRIES BIT(MIRROR_LEAF_BITS)
#define MIRROR_MID_ENTRIES BIT(MIRROR_MID_BITS)
#define MIRROR_TOP_ENTRIES BIT(MIRROR_TOP_BITS)

/* 0: not mirrored, else a page frame number + 1 (so up to 16 TiB of RAM) */
struct crosstalk_mirror_leaf {
	u32 frame[MIRROR_LEAF_ENTRIES];
};

struct crosstalk_mirror_mid {
	struct crosstalk_mirror_leaf *leaf[MIRROR_MID_ENTRIES];
};

/**
 * struct crosstalk_mirror - writable view of one address space's pages
 *
 * A secondary MMU, as KVM's is: from user address to the kernel's own mapping
 * of the page.  No page reference is held: an entry lives until the notifier
 * says that the page may go, and a user that holds @lock for reading makes the
 * notifier wait.
 *
 * Owner: the endpoints of that address space, by @ref.
 */
struct crosstalk_mirror {
	struct mmu_interval_notifier mni;
	struct kref ref;
	struct list_head list;		/* mirror.c's list */
	rwlock_t lock;			/* entries of the tables, and @changes */
	unsigned long changes;		/* entries that were taken out */
	struct mutex fill_lock;		/* tables are added under it */
	atomic_long_t nr_pages;
	atomic_long_t nr_tables;
	struct crosstalk_mirror_mid *top[MIRROR_TOP_ENTRIES];
};

/* The last translation: most of a ring's accesses are to the same page. */
struct crosstalk_mirror_cursor {
	unsigned long page;		/* address >> PAGE_SHIFT, ~0UL for none */
	void *kaddr;
};

/* The last leaf: buffers lie on one page after the other. */
struct crosstalk_mirror_area {
	unsigned long nr;		/* address >> its bits, ~0UL for none */
	const struct crosstalk_mirror_leaf *leaf;
};

struct crosstalk_mirror *crosstalk_mirror_get(void);
void crosstalk_mirror_put(struct crosstalk_mirror *mirror);
int crosstalk_mirror_fill(struct crosstalk_mirror *mirror, unsigned long addr,
			  size_t len);

static inline const struct crosstalk_mirror_leaf *
crosstalk_mirror_leaf(const struct crosstalk_mirror *mirror, unsigned long page)
{
	unsigned long top = page >> (MIRROR_LEAF_BITS + MIRROR_MID_BITS);
	struct crosstalk_mirror_mid *mid;

	if (unlikely(top >= MIRROR_TOP_ENTRIES))
		return NULL;
	/* The address is the guest's choice, also where checks mispredict. */
	top = array_index_nospec(top, MIRROR_TOP_ENTRIES);
	/* Tables are added while readers walk: pairs with make_entry(). */
	mid = smp_load_acquire(&mirror->top[top]);
	if (unlikely(!mid))
		return NULL;
	/* As above. */
	return smp_load_acquire(&mid->leaf[(page >> MIRROR_LEAF_BITS) &
					   (MIRROR_MID_ENTRIES - 1)]);
}

static inline void *
crosstalk_mirror_in_leaf(const struct crosstalk_mirror_leaf *leaf,
			 unsigned long addr)
{
	u32 frame = leaf->frame[(addr >> PAGE_SHIFT) &
				(MIRROR_LEAF_ENTRIES - 1)];

	if (unlikely(!frame))
		return NULL;
	return __va(PFN_PHYS((phys_addr_t)frame - 1)) + offset_in_page(addr);
}

/**
 * crosstalk_mirror_lookup() - the kernel's address of a user page
 * @mirror: mirror whose lock is held for reading
 * @addr: user address
 *
 * Return: where @addr is mapped, valid until the lock is dropped and up to the
 * end of the page, or NULL if it is not mirrored.
 */
static inline void *crosstalk_mirror_lookup(struct crosstalk_mirror *mirror,
					    unsigned long addr)
{
	const struct crosstalk_mirror_leaf *leaf;

	leaf = crosstalk_mirror_leaf(mirror, addr >> PAGE_SHIFT);
	return likely(leaf) ? crosstalk_mirror_in_leaf(leaf, addr) : NULL;
}

static inline void
crosstalk_mirror_area_init(struct crosstalk_mirror_area *area)
{
	area->nr = ~0UL;
}

/**
 * crosstalk_mirror_near() - crosstalk_mirror_lookup() that remembers the leaf
 * @mirror: mirror whose lock is held for reading
 * @area: initialized for this mirror; leaves stay for as long as it does
 * @addr: user address
 *
 * Return: as crosstalk_mirror_lookup().
 */
static inline void *crosstalk_mirror_near(const struct crosstalk_mirror *mirror,
					  struct crosstalk_mirror_area *area,
					  unsigned long addr)
{
	unsigned long nr = addr >> (PAGE_SHIFT + MIRROR_LEAF_BITS);

	if (unlikely(area->nr != nr)) {
		area->leaf = crosstalk_mirror_leaf(mirror, addr >> PAGE_SHIFT);
		if (unlikely(!area->leaf)) {
			crosstalk_mirror_area_init(area);
			return NULL;
		}
		area->nr = nr;
	}
	return crosstalk_mirror_in_leaf(area->leaf, addr);
}

static inline void
crosstalk_mirror_cursor_init(struct crosstalk_mirror_cursor *cursor)
{
	cursor->page = ~0UL;
}

/**
 * crosstalk_mirror_at() - crosstalk_mirror_lookup() that remembers the page
 * @mirror: mirror whose lock is held for reading
 * @cursor: initialized since the lock was taken
 * @addr: user address
 *
 * Return: as crosstalk_mirror_lookup().
 */
static inline void *crosstalk_mirror_at(struct crosstalk_mirror *mirror,
					struct crosstalk_mirror_cursor *cursor,
					unsigned long addr)
{
	void *kaddr;

	if (likely(cursor->page == addr >> PAGE_SHIFT))
		return cursor->kaddr + offset_in_page(addr);

	kaddr = crosstalk_mirror_lookup(mirror, addr);
	if (likely(kaddr)) {
		cursor->page = addr >> PAGE_SHIFT;
		cursor->kaddr = kaddr - offset_in_page(addr);
	}
	return kaddr;
}

#endif /* _CROSSTALK_MIRROR_H */
