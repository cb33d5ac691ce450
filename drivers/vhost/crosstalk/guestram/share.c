// SPDX-License-Identifier: GPL-2.0
/*
 * Sharing: a receiver's slot gets the frame of a sender's.
 *
 * A shared frame is mapped nowhere and written by nobody.  All of what touches
 * guest RAM comes through guestram_own(), under the frame's lock, and finds it
 * shared; read(2) reads it, which does no harm.
 *
 * All frames of a call are locked at once, by trylock, so that who waits for
 * one of them while holding another waits for nobody here; and who is in the
 * way is not waited for: the contents are copied, or the caller has to.
 */

#include <linux/atomic.h>
#include <linux/bits.h>
#include <linux/export.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/wait_bit.h>

#include "guestram.h"
#include "share.h"

/* Slots of one frame: each is a reference, and those are an int. */
#define SLOTS_MAX BIT(20)

/*
 * A slot of a pair, and the frame in it, which is locked and has a reference of
 * the call; another side's if it is @borrowed.
 */
struct side {
	struct inode *inode;
	pgoff_t index;
	struct folio *folio;
	bool borrowed;
	bool mapped;
	bool touched;
	bool used;		/* by somebody else, or not to be shared */
};

/*
 * All pairs of a call.  @twice: a frame is there twice, so order matters.
 * @mapped: there is something to unmap.
 */
struct swaps {
	unsigned int nr;
	bool twice;
	bool mapped;
	struct side from[GUESTRAM_SHARE_MAX];
	struct side to[GUESTRAM_SHARE_MAX];
};

static struct inode *hold(const struct vm_area_struct *vma)
{
	struct inode *inode;

	/*
	 * A private mapping may have other pages than the file's, and the pages
	 * of a locked one are to stay where they are, without faults.
	 */
	if (vma->vm_ops != &guestram_vm_ops ||
	    (vma->vm_flags & (VM_SHARED | VM_READ | VM_WRITE | VM_LOCKED)) !=
	    (VM_SHARED | VM_READ | VM_WRITE))
		return NULL;

	/* The mapping has the file, so that its end has not begun. */
	inode = file_inode(vma->vm_file);
	atomic_inc(&guestram_i(inode)->held);
	return inode;
}

static void release(struct inode *inode)
{
	atomic_t *held = &guestram_i(inode)->held;

	/* The inode may be gone after that: only the address is used. */
	if (atomic_dec_and_test(held))
		wake_up_var(held);
}

/**
 * guestram_wait_unheld() - wait for those who share pages of a file
 * @inode: file that is nobody's any more
 *
 * Context: process context, may sleep.
 */
void guestram_wait_unheld(struct inode *inode)
{
	atomic_t *held = &guestram_i(inode)->held;

	wait_var_event(held, !atomic_read(held));
}

static bool is_there(const struct side *side)
{
	return xa_load(&guestram_i(side->inode)->frames, side->index) ==
	       side->folio;
}

/* How many sides from this one on are one page of a file after the other. */
static unsigned int run_len(const struct side *side, unsigned int nr)
{
	unsigned int len = 1;

	while (len < nr && side[len].inode == side->inode &&
	       side[len].index == side->index + len)
		len++;
	return len;
}

/* Whether one of the other sides has locked the frame: a page can come twice. */
static bool is_ours(const struct swaps *swaps, const struct folio *folio)
{
	unsigned int i;

	for (i = 0; i < swaps->nr; i++)
		if (swaps->from[i].folio == folio ||
		    swaps->to[i].folio == folio)
			return true;
	return false;
}

/* A guess that saves the invalidation: is anybody but page tables using it? */
static bool looks_used(const struct folio *folio)
{
	return folio_ref_count(folio) !=
	       2 + atomic_read(&folio->_mapcount) + 1;
}

/* @folio is in its slot as long as the xarray's lock is held. */
static bool get_side(struct swaps *swaps, struct side *side,
		     struct folio *folio)
{
	/* Memory with an error stays with the one machine that has it. */
	if (!folio || unlikely(PageHWPoison(folio_page(folio, 0))))
		return false;

	if (likely(folio_trylock(folio))) {
		folio_get(folio);
	} else {
		side->borrowed = is_ours(swaps, folio);
		if (!side->borrowed)
			return false;
		swaps->twice = true;
	}
	side->folio = folio;
	return true;
}

/* What a frame has to do with that is not shared: it is mapped nowhere. */
static void look_at(struct swaps *swaps, struct side *side,
		    const struct xa_state *xas)
{
	side->touched = xas_get_mark(xas, GUESTRAM_MARK_TOUCHED);
	side->used = looks_used(side->folio);
	side->mapped = folio_mapped(side->folio);
	swaps->mapped |= side->mapped;
}

static bool get_run(struct swaps *swaps, struct side *side, unsigned int len)
{
	XA_STATE(xas, &guestram_i(side->inode)->frames, side->index);
	const struct side *end = side + len;
	struct folio *folio;

	xas_lock(&xas);
	for (folio = xas_load(&xas); get_side(swaps, side, folio);
	     folio = xas_next(&xas)) {
		if (!guestram_shared(folio))
			look_at(swaps, side, &xas);
		if (++side == end)
			break;
	}
	xas_unlock(&xas);
	return side == end;
}

static bool get_sides(struct swaps *swaps, struct side *sides)
{
	unsigned int len;
	unsigned int i;

	for (i = 0; i < swaps->nr; i += len) {
		len = run_len(&sides[i], swaps->nr - i);
		if (!get_run(swaps, &sides[i], len))
			return false;
	}
	return true;
}

static void put_sides(struct side *sides, unsigned int nr)
{
	const struct side *side;

	for (side = sides; side < sides + nr; side++) {
		if (!side->folio || side->borrowed)
			continue;
		folio_unlock(side->folio);
		folio_put(side->folio);
	}
}

/* A slot keeps the node that its mapping's policy has chosen. */
static bool is_same_node(const struct side *from, const struct side *to)
{
	return folio_nid(from->folio) == folio_nid(to->folio);
}

/* Pairs that are copied for other reasons than that somebody uses a frame. */
static void refuse_some(struct swaps *swaps)
{
	unsigned int i;

	for (i = 0; i < swaps->nr; i++)
		if (!is_same_node(&swaps->from[i], &swaps->to[i]) ||
		    guestram_shared(swaps->from[i].folio) >= SLOTS_MAX)
			swaps->from[i].used = true;
}

/* One invalidation for a run of pages. */
static void unmap_run(const struct side *first, unsigned int nr)
{
	unmap_mapping_pages(first->inode->i_mapping, first->index, nr, false);
}

static void unmap_sides(const struct swaps *swaps, const struct side *sides)
{
	const struct side *first = NULL;
	unsigned int len = 0;
	unsigned int i;

	if (!swaps->mapped)
		return;

	for (i = 0; i < swaps->nr; i++) {
		const struct side *side = &sides[i];

		if (!side->mapped || swaps->from[i].used || swaps->to[i].used)
			continue;
		if (first && side->inode == first->inode &&
		    side->index == first->index + len) {
			len++;
			continue;
		}
		if (first)
			unmap_run(first, len);
		first = side;
		len = 1;
	}
	if (first)
		unmap_run(first, len);
}

static bool is_free(const struct folio *folio)
{
	return guestram_shared(folio) || guestram_is_idle(folio);
}

/* Whether a pair's frame is to be shared, or is already. */
static bool can_share(const struct side *from, const struct side *to)
{
	if (from->folio == to->folio)
		return true;
	return !from->used && !to->used && is_free(from->folio) &&
	       is_free(to->folio);
}

/* What cannot be shared is copied. */
static bool share_or_copy(const struct side *from, const struct side *to,
			  bool *shared)
{
	*shared = can_share(from, to);
	if (*shared)
		return true;

	/* As any sender writes to any receiver, unless others read it, too. */
	if (guestram_shared(to->folio))
		return false;
	return !guestram_copy(to->folio, from->folio);
}

/*
 * xas_store() of a frame in place of another one, without all that has to be done
 * for entries that come or go: marks and counters stay as they are.
 */
static void replace(struct xa_state *xas, struct folio *folio)
{
	struct xa_node *node = xas->xa_node;

	if (likely(node))
		rcu_assign_pointer(node->slots[xas->xa_offset], folio);
	else
		xas_store(xas, folio);
}

/*
 * The exchange itself, for a run of slots.  Nobody maps the frames, and nobody
 * can before they are unlocked; nobody else has a reference, but for readers.
 */
static void exchange(const struct side *from, const struct side *to,
		     const struct guestram_pair *pairs, unsigned int len)
{
	XA_STATE(xas, &guestram_i(to->inode)->frames, to->index);
	unsigned long slots;
	struct folio *folio;
	unsigned int i;

	xas_lock(&xas);
	folio = xas_load(&xas);
	for (i = 0; i < len; i++, folio = xas_next(&xas)) {
		if (!pairs[i].shared || from[i].folio == to[i].folio ||
		    WARN_ON_ONCE(folio != to[i].folio))
			continue;
		slots = guestram_shared(from[i].folio);
		guestram_set_shared(from[i].folio, (slots ? slots : 1) + 1);
		folio_get(from[i].folio);	/* the receiver's slot's */
		replace(&xas, from[i].folio);
	}
	xas_unlock(&xas);

	for (i = 0; i < len; i++)
		if (pairs[i].shared && from[i].folio != to[i].folio)
			guestram_leave(to[i].folio);
}

static bool finish(const struct side *from, const struct side *to,
		   struct guestram_pair *pairs, unsigned int len)
{
	unsigned int i;

	for (i = 0; i < len; i++)
		if (!share_or_copy(&from[i], &to[i], &pairs[i].shared))
			return false;
	exchange(from, to, pairs, len);
	return true;
}

static bool was_touched(const struct side *side)
{
	if (side->touched)
		xa_clear_mark(&guestram_i(side->inode)->frames, side->index,
			      GUESTRAM_MARK_TOUCHED);
	return side->touched;
}

static bool finish_all(const struct swaps *swaps, struct guestram_pair *pairs)
{
	const struct side *from = swaps->from;
	const struct side *to = swaps->to;
	unsigned int len;
	unsigned int i;

	for (i = 0; i < swaps->nr; i++) {
		pairs[i].from_touched = was_touched(&from[i]);
		pairs[i].to_touched = was_touched(&to[i]);
	}
	for (i = 0; i < swaps->nr; i += len) {
		len = swaps->twice ? 1 : run_len(&to[i], swaps->nr - i);
		/* A pair before may have changed a slot of this one. */
		if (swaps->twice && !(is_there(&from[i]) && is_there(&to[i])))
			return false;
		if (!finish(&from[i], &to[i], &pairs[i], len))
			return false;
	}
	return true;
}

static int share(struct guestram_pair *pairs, unsigned int nr)
{
	struct swaps swaps;
	unsigned int i;
	int ret = -EAGAIN;

	if (WARN_ON_ONCE(nr > GUESTRAM_SHARE_MAX))
		return -EAGAIN;

	swaps.nr = nr;
	swaps.twice = false;
	swaps.mapped = false;
	for (i = 0; i < nr; i++) {
		swaps.from[i] = (struct side) {
			.inode = pairs[i].from,
			.index = pairs[i].from_index,
		};
		swaps.to[i] = (struct side) {
			.inode = pairs[i].to,
			.index = pairs[i].to_index,
		};
	}

	if (get_sides(&swaps, swaps.from) && get_sides(&swaps, swaps.to)) {
		refuse_some(&swaps);
		unmap_sides(&swaps, swaps.from);
		unmap_sides(&swaps, swaps.to);
		if (finish_all(&swaps, pairs))
			ret = 0;
	}
	put_sides(swaps.from, nr);
	put_sides(swaps.to, nr);
	return ret;
}

static struct page *own(struct inode *inode, pgoff_t index,
			struct mm_struct *mm, bool *shared)
{
	struct folio *folio = guestram_try_own(inode, index, mm, shared);

	return folio ? folio_page(folio, 0) : NULL;
}

const struct guestram_share_ops guestram_share_ops = {
	.version = GUESTRAM_SHARE_VERSION,
	.hold = hold,
	.release = release,
	.share = share,
	.own = own,
};
EXPORT_SYMBOL_GPL(guestram_share_ops);
