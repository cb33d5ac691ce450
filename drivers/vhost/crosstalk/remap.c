// SPDX-License-Identifier: GPL-2.0
/*
 * Remapping: whole pages of a frame go to the receiver without being copied.
 *
 * Only memory of guestram can be remapped, which does the work; here is what
 * finds a frame's pages, and their places in the files behind both guests' RAM.
 * guestram's symbols are looked up when its memory is met for the first time:
 * neither module needs the other to be loaded.
 */

#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/module.h>
#include <linux/rwsem.h>

#include "control.h"
#include "endpoint.h"
#include "frame.h"
#include "remap.h"
#include "vhost_private.h"
#include "vring.h"

/* Of mode "adaptive": fewer pages are copied. */
#define ADAPTIVE_PAGES 8

/*
 * Pages after which a pair is judged, and what part of them may cost: a page
 * that is touched again costs as much as a dozen of others save.
 */
#define JUDGE_PAGES 256
#define JUDGE_COSTS (JUDGE_PAGES / 16)

/* Frames that are copied then; twice as many each time in a row. */
#define REST_FRAMES 1024
#define REST_BACKOFF_MAX 6

/* The same where there is nothing to be remapped. */
#define REST_NO_GUESTRAM 256

/*
 * While there is one, guestram stays loaded, as under a mount of its own: for
 * reading it is used, for writing it is given back.
 */
static const struct guestram_share_ops *share_ops;
static DECLARE_RWSEM(share_ops_sem);

/* Another one each time that the mode is set. */
static u16 epoch;

/* share_ops_sem held for reading. */
static const struct guestram_share_ops *get_ops(void)
{
	const struct guestram_share_ops *ops = READ_ONCE(share_ops);

	if (likely(ops))
		return ops;

	ops = symbol_get(guestram_share_ops);
	if (!ops)
		return NULL;
	if (ops->version != GUESTRAM_SHARE_VERSION) {
		symbol_put(guestram_share_ops);
		return NULL;
	}
	if (cmpxchg(&share_ops, NULL, ops))
		symbol_put(guestram_share_ops);
	return ops;
}

/**
 * crosstalk_remap_changed() - the mode of remapping has changed
 *
 * All pairs are judged anew.  Lets go of guestram if the mode is off.
 *
 * Context: process context, may sleep; also at module exit.
 */
void crosstalk_remap_changed(void)
{
	WRITE_ONCE(epoch, epoch + 1);
	if (crosstalk_remap_mode())
		return;

	/* Who uses it now is waited for; who comes later sees the mode. */
	down_write(&share_ops_sem);
	if (share_ops)
		symbol_put(guestram_share_ops);
	WRITE_ONCE(share_ops, NULL);
	up_write(&share_ops_sem);
}

/**
 * crosstalk_remap_exit() - let go of guestram for good
 *
 * Context: module exit; no worker runs the module's loops any more.
 */
void crosstalk_remap_exit(void)
{
	crosstalk_tunables.remap = CROSSTALK_REMAP_OFF;
	crosstalk_remap_changed();
}

static bool add_part(struct crosstalk_remap *remap, size_t skip, size_t len,
		     bool whole)
{
	struct crosstalk_remap_part *part = &remap->part[remap->nr_parts];

	if (remap->nr_parts && part[-1].whole == whole) {
		part[-1].len += len;
		return true;
	}
	if (remap->nr_parts == CROSSTALK_REMAP_PARTS)
		return false;

	part->skip = skip;
	part->len = len;
	part->whole = whole;
	remap->nr_parts++;
	return true;
}

/* Whole pages at @addr that there is room for. */
static unsigned int whole_pages(const struct crosstalk_remap *remap,
				unsigned long addr, size_t len)
{
	if (offset_in_page(addr))
		return 0;
	return min_t(size_t, len / PAGE_SIZE,
		     GUESTRAM_SHARE_MAX - remap->nr_pages);
}

/* Bytes up to the next page that lies in the segment as a whole, or to its end. */
static size_t copy_len(const struct crosstalk_remap *remap, unsigned long addr,
		       size_t len)
{
	size_t gap = PAGE_ALIGN(addr) - addr;

	return remap->nr_pages < GUESTRAM_SHARE_MAX && len >= gap + PAGE_SIZE ?
	       gap : len;
}

static bool add_segment(struct crosstalk_remap *remap, unsigned long addr,
			size_t len, size_t skip)
{
	unsigned int pages;
	size_t size;

	while (len) {
		pages = whole_pages(remap, addr, len);
		size = pages ? pages * PAGE_SIZE : copy_len(remap, addr, len);
		if (!add_part(remap, skip, size, pages))
			return false;
		skip += size;
		len -= size;
		if (!pages)
			addr += size;
		for (; pages; pages--, addr += PAGE_SIZE)
			remap->from[remap->nr_pages++] = addr;
	}
	return true;
}

static unsigned int min_pages(unsigned int mode)
{
	return mode == CROSSTALK_REMAP_ADAPTIVE ? ADAPTIVE_PAGES : mode;
}

/*
 * Whether this pair's frames are to be remapped at present.  What was found out
 * before the mode was set holds no longer.
 */
static bool may_try(struct crosstalk_remap_pair *pair)
{
	u16 now = READ_ONCE(epoch);

	if (unlikely(pair->epoch != now))
		*pair = (struct crosstalk_remap_pair) { .epoch = now };
	if (!pair->rest)
		return true;

	pair->rest--;
	return false;
}

/**
 * crosstalk_remap_scan() - look for whole pages in a frame
 * @ep: sender
 * @frame: parsed beginning of the frame
 * @chain: its chain, in the sender's vq->iov
 * @pair: what is known of this sender and the receiver
 *
 * Fills in ep->remap.  The frame's parsed beginning is never part of a page
 * that is remapped: what was checked is what is delivered.
 *
 * Context: the TX worker, tx->mutex held; any.
 * Return: whether remapping is to be tried.
 */
bool crosstalk_remap_scan(struct crosstalk_endpoint *ep,
			  const struct crosstalk_frame *frame,
			  const struct crosstalk_chain *chain,
			  struct crosstalk_remap_pair *pair)
{
	struct vhost_net_virtqueue *tx = &ep->net->vqs[VHOST_NET_VQ_TX];
	unsigned int min = min_pages(crosstalk_remap_mode());
	struct crosstalk_remap *remap = &ep->remap;
	const struct iovec *iov = tx->vq.iov;
	unsigned int i;
	size_t skip;
	size_t pos;

	if (!min || frame->len < min * PAGE_SIZE || remap->copy_next ||
	    !may_try(pair))
		return false;

	/* Behind a GSO frame's headers nothing was looked at. */
	remap->head = frame->gso ? min(frame->payload, frame->head_len) :
				   frame->head_len;
	remap->nr_pages = 0;
	remap->nr_parts = 0;
	skip = tx->sock_hlen + remap->head;
	add_part(remap, skip, 0, false);
	for (i = 0, pos = 0; i < chain->out; pos += iov[i].iov_len, i++) {
		size_t off = max(skip, pos) - pos;

		if (off < iov[i].iov_len &&
		    !add_segment(remap,
				 (unsigned long)iov[i].iov_base + off,
				 iov[i].iov_len - off, pos + off))
			return false;
	}
	return remap->nr_pages >= min;
}

static struct inode *hold(const struct vm_area_struct *vma)
{
	const struct guestram_share_ops *ops;

	if (!vma->vm_file ||
	    file_inode(vma->vm_file)->i_sb->s_magic != GUESTRAM_MAGIC)
		return NULL;

	ops = get_ops();
	return ops ? ops->hold(vma) : NULL;
}

/* Where a page of user memory is, and which file is held for it. */
struct place {
	struct mm_struct *mm;
	struct vm_area_struct *vma;
	struct inode *inode;
	pgoff_t index;
};

static bool is_in(const struct vm_area_struct *vma, unsigned long addr)
{
	return vma && addr >= vma->vm_start && addr < vma->vm_end;
}

/*
 * Goes on to another page.  The file of a mapping is held once, for all pages of
 * it that follow.  Returns false if the page is in other memory.
 */
static bool go_to(struct crosstalk_remap *remap, struct place *place,
		  unsigned long addr)
{
	if (!is_in(place->vma, addr)) {
		place->vma = vma_lookup(place->mm, addr);
		place->inode = place->vma ? hold(place->vma) : NULL;
		if (place->inode)
			remap->held[remap->nr_held++] = place->inode;
	}
	if (!place->inode)
		return false;

	place->index = place->vma->vm_pgoff +
		       ((addr - place->vma->vm_start) >> PAGE_SHIFT);
	return true;
}

/*
 * Finds the places in files of guestram of the sender's pages.  Never waits for
 * mmap_lock, nor below: somebody who holds it may sleep for long.  Returns
 * false if one is in other memory, which @elsewhere says, or cannot be asked for.
 */
static bool find_from(struct crosstalk_remap *remap, bool *elsewhere)
{
	struct place place = { .mm = current->mm };
	unsigned int i;

	if (!mmap_read_trylock(place.mm))
		return false;

	for (i = 0; i < remap->nr_pages &&
	     go_to(remap, &place, remap->from[i]); i++) {
		remap->pairs[i].from = place.inode;
		remap->pairs[i].from_index = place.index;
	}
	mmap_read_unlock(place.mm);
	*elsewhere |= !place.inode;
	return place.inode;
}

/* The same of the receiver's pages, and of those that bytes are copied to. */
static bool find_to(struct crosstalk_remap *remap, struct mm_struct *mm,
		    bool *elsewhere)
{
	struct place place = { .mm = mm };
	unsigned int i;

	if (!mmap_read_trylock(mm))
		return false;

	for (i = 0; i < remap->nr_pages &&
	     go_to(remap, &place, remap->to[i]); i++) {
		remap->pairs[i].to = place.inode;
		remap->pairs[i].to_index = place.index;
	}
	for (i = 0; place.inode && i < remap->nr_pieces &&
	     go_to(remap, &place, remap->pieces[i].addr); i++) {
		remap->pieces[i].inode = place.inode;
		remap->pieces[i].index = place.index;
	}
	mmap_read_unlock(mm);
	*elsewhere |= !place.inode;
	return place.inode;
}

static void let_places_go(struct crosstalk_remap *remap)
{
	while (remap->nr_held)
		share_ops->release(remap->held[--remap->nr_held]);
}

/* The receiver's pages that bytes are copied to, shared with nobody. */
static bool own_pieces(struct crosstalk_remap *remap, struct mm_struct *mm,
		       struct crosstalk_remap_pair *pair)
{
	struct crosstalk_remap_piece *piece;
	bool shared;

	while (remap->nr_owned < remap->nr_pieces) {
		piece = &remap->pieces[remap->nr_owned];
		piece->page = share_ops->own(piece->inode, piece->index, mm,
					     &shared);
		if (!piece->page)
			return false;
		pair->costs += shared;
		remap->nr_owned++;
	}
	return true;
}

/**
 * crosstalk_remap_disown() - the bytes beside the pages have been copied, or not
 * @ep: sender, after crosstalk_remap_share()
 *
 * Context: the TX worker, tx->mutex held; any.
 */
void crosstalk_remap_disown(struct crosstalk_endpoint *ep)
{
	struct crosstalk_remap *remap = &ep->remap;

	while (remap->nr_owned)
		put_page(remap->pieces[--remap->nr_owned].page);
}

static void judge(struct crosstalk_remap_pair *pair)
{
	if (pair->pages < JUDGE_PAGES)
		return;

	if (pair->costs <= JUDGE_COSTS) {
		pair->backoff = 0;
	} else {
		pair->rest = REST_FRAMES << pair->backoff;
		if (pair->backoff < REST_BACKOFF_MAX)
			pair->backoff++;
	}
	pair->pages = 0;
	pair->costs = 0;
}

static void count(struct crosstalk_endpoint *ep,
		  struct crosstalk_endpoint *peer,
		  struct crosstalk_remap_pair *pair)
{
	struct crosstalk_remap *remap = &ep->remap;
	unsigned int from = 0;
	unsigned int to = 0;
	unsigned int i;

	remap->shared = 0;
	for (i = 0; i < remap->nr_pages; i++) {
		remap->shared += remap->pairs[i].shared;
		from += remap->pairs[i].from_touched;
		to += remap->pairs[i].to_touched;
	}
	ep->stats.tx_remap_faults += from;
	peer->stats.rx_remap_faults += to;

	if (crosstalk_remap_mode() != CROSSTALK_REMAP_ADAPTIVE)
		return;
	pair->pages += remap->nr_pages;
	pair->costs += from + to + remap->nr_pages - remap->shared;
	judge(pair);
}

/**
 * crosstalk_remap_share() - give the receiver's pages the sender's contents
 * @ep: sender, whose frame crosstalk_remap_scan() has looked at
 * @peer: receiver; its buffers' addresses are in ep->remap.to, and those for
 * what is no whole page in ep->remap.pieces
 * @pair: what is known of the two
 *
 * The receiver does not know of the frame yet: pages that have changed when
 * this fails are buffers that it has given away.  The pieces' pages have
 * references until crosstalk_remap_disown(), which keep them from being shared.
 *
 * Context: the TX worker, tx->mutex and the receiver's rx->mutex held, and
 * nothing else; may sleep.
 * Return: whether all pages have their contents, and all pieces a page.
 */
bool crosstalk_remap_share(struct crosstalk_endpoint *ep,
			   struct crosstalk_endpoint *peer,
			   struct crosstalk_remap_pair *pair)
{
	struct crosstalk_remap *remap = &ep->remap;
	struct mm_struct *mm = peer->net->dev.mm;
	bool elsewhere = false;
	bool done = false;

	if (!down_read_trylock(&share_ops_sem))
		return false;
	if (!crosstalk_remap_mode()) {
		up_read(&share_ops_sem);
		return false;
	}
	if (find_from(remap, &elsewhere) && find_to(remap, mm, &elsewhere))
		done = own_pieces(remap, mm, pair) &&
		       !share_ops->share(remap->pairs, remap->nr_pages);
	if (elsewhere)
		pair->rest = REST_NO_GUESTRAM;
	let_places_go(remap);
	up_read(&share_ops_sem);
	if (done)
		count(ep, peer, pair);
	return done;
}
