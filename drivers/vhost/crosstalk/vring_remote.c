// SPDX-License-Identifier: GPL-2.0
/*
 * A receiver's RX ring, read and written by another guest's worker.
 *
 * Every access goes through the receiver's mirror: no helper of vhost may be
 * called here, because they use current->mm.  State is kept in vhost's own
 * fields under rx->mutex, as in vring.c: the next who holds the mutex may be
 * vhost-net's own loop.
 *
 * Nothing is consumed before crosstalk_rx_commit(): a frame for which there is
 * no room, or that cannot be read, leaves the ring as it was.
 */

#include <linux/export.h>
#include <linux/overflow.h>

#include "vring.h"
#include "vring_remote.h"

static void *at(struct crosstalk_rx *rx, struct crosstalk_mirror_cursor *cursor,
		const void __user *addr)
{
	void *kaddr = crosstalk_mirror_at(rx->mirror, cursor,
					  (unsigned long)addr);

	if (unlikely(!kaddr))
		rx->missing = (unsigned long)addr;
	return kaddr;
}

static bool is_known(const struct crosstalk_rx_ring *ring,
		     const struct vhost_virtqueue *vq,
		     const struct crosstalk_mirror *mirror)
{
	return ring->mirror == mirror && ring->changes == mirror->changes &&
	       ring->desc_addr == vq->desc && ring->avail_addr == vq->avail &&
	       ring->used_addr == vq->used && ring->num == vq->num;
}

/* Where a table of the ring is.  Returns false if a page of it is missing. */
static bool find_table(struct crosstalk_rx *rx, const void __user *user,
		       size_t len, struct crosstalk_rx_table *table)
{
	unsigned long addr = (unsigned long)user;
	enum crosstalk_rx_layout layout;
	unsigned int nr;
	void *kaddr;

	layout = CROSSTALK_RX_FLAT;
	table->skip = offset_in_page(addr);
	len += table->skip;
	addr -= table->skip;
	for (nr = 0; nr * PAGE_SIZE < len; nr++, addr += PAGE_SIZE) {
		kaddr = crosstalk_mirror_lookup(rx->mirror, addr);
		if (unlikely(!kaddr)) {
			rx->missing = addr;
			return false;
		}
		if (nr == CROSSTALK_RX_TABLE_PAGES) {
			layout = CROSSTALK_RX_FAR;
			break;
		}
		table->page[nr] = kaddr;
		if (nr && kaddr != table->page[nr - 1] + PAGE_SIZE)
			layout = CROSSTALK_RX_PAGED;
	}
	rx->ring->layout = min(rx->ring->layout, layout);
	return true;
}

static __always_inline void *table_at(const struct crosstalk_rx_table *table,
				      unsigned int offset)
{
	offset += table->skip;
	return table->page[offset >> PAGE_SHIFT] + offset_in_page(offset);
}

/* Apart from who asks for it each time, and finds what it has found before. */
static noinline enum crosstalk_rx_result find_ring(struct crosstalk_rx *rx)
{
	struct vhost_virtqueue *vq = &rx->nvq->vq;
	struct crosstalk_rx_ring *ring = rx->ring;

	ring->mirror = NULL;
	crosstalk_mirror_cursor_init(&ring->desc);
	crosstalk_mirror_cursor_init(&ring->avail);
	crosstalk_mirror_cursor_init(&ring->used);
	crosstalk_mirror_area_init(&ring->data);

	/* vhost checks the alignment of the other two. */
	if (unlikely(!IS_ALIGNED((unsigned long)vq->desc,
				 sizeof(struct vring_desc))))
		return CROSSTALK_RX_BAD;

	/* The far ends first: the cursors then rest where work begins. */
	ring->used_event = at(rx, &ring->avail, &vq->avail->ring[vq->num]);
	ring->avail_flags = at(rx, &ring->avail, &vq->avail->flags);
	ring->avail_idx = at(rx, &ring->avail, &vq->avail->idx);
	ring->avail_event = at(rx, &ring->used, &vq->used->ring[vq->num]);
	ring->used_flags = at(rx, &ring->used, &vq->used->flags);
	ring->used_idx = at(rx, &ring->used, &vq->used->idx);
	if (unlikely(!ring->used_event || !ring->avail_flags ||
		     !ring->avail_idx || !ring->avail_event ||
		     !ring->used_flags || !ring->used_idx))
		return CROSSTALK_RX_MISSING;

	ring->layout = CROSSTALK_RX_FLAT;
	if (unlikely(!find_table(rx, vq->desc, vq->num * sizeof(*vq->desc),
				 &ring->desc_table) ||
		     !find_table(rx, vq->avail->ring,
				 vq->num * sizeof(*vq->avail->ring),
				 &ring->head_table) ||
		     !find_table(rx, vq->used->ring,
				 vq->num * sizeof(*vq->used->ring),
				 &ring->elem_table)))
		return CROSSTALK_RX_MISSING;
	ring->descs = table_at(&ring->desc_table, 0);
	ring->heads = table_at(&ring->head_table, 0);
	ring->elems = table_at(&ring->elem_table, 0);

	ring->mirror = rx->mirror;
	ring->changes = rx->mirror->changes;
	ring->desc_addr = vq->desc;
	ring->avail_addr = vq->avail;
	ring->used_addr = vq->used;
	ring->num = vq->num;
	return CROSSTALK_RX_OK;
}

/**
 * crosstalk_rx_open() - begin to use a receiver's ring
 * @rx: filled in
 * @ring: the receiver's, what was known of the ring the last time
 * @nvq: RX queue with a live backend and no IOTLB
 * @mirror: mirror of the receiver's address space, locked for reading
 *
 * Context: nvq->vq.mutex held, atomic.
 * Return: CROSSTALK_RX_OK, _MISSING or _BAD.
 */
enum crosstalk_rx_result crosstalk_rx_open(struct crosstalk_rx *rx,
					   struct crosstalk_rx_ring *ring,
					   struct vhost_net_virtqueue *nvq,
					   struct crosstalk_mirror *mirror)
{
	rx->nvq = nvq;
	rx->mirror = mirror;
	rx->ring = ring;
	rx->map = NULL;
	rx->unpublished = false;
	rx->unsignalled = false;
	if (likely(is_known(ring, &nvq->vq, mirror)))
		return CROSSTALK_RX_OK;
	return find_ring(rx);
}

static enum crosstalk_rx_result refresh_avail_idx(struct crosstalk_rx *rx)
{
	struct vhost_virtqueue *vq = &rx->nvq->vq;
	u16 idx = vq16_to_cpu(vq, READ_ONCE(*rx->ring->avail_idx));

	/* A jump by more than the ring holds is no announcement. */
	if (unlikely((u16)(idx - vq->last_avail_idx) > vq->num))
		return CROSSTALK_RX_BAD;
	if (idx == vq->avail_idx)
		return CROSSTALK_RX_EMPTY;

	vq->avail_idx = idx;
	/* Ring entries are read after the index that announces them. */
	smp_rmb();
	return CROSSTALK_RX_OK;
}

static bool is_next_to_last(const struct crosstalk_rx *rx, const void *kaddr)
{
	const struct crosstalk_rx_piece *last = &rx->pieces[rx->nr_pieces] - 1;

	return rx->nr_pieces && last->addr + last->len == kaddr;
}

/* There is room for it. */
static void append_piece(struct crosstalk_rx *rx, void *kaddr, u32 size)
{
	struct crosstalk_rx_piece *piece = &rx->pieces[rx->nr_pieces];

	if (is_next_to_last(rx, kaddr)) {
		piece[-1].len += size;
		return;
	}
	piece->addr = kaddr;
	piece->len = size;
	rx->nr_pieces++;
}

static bool add_piece(struct crosstalk_rx *rx, void *kaddr, u32 size)
{
	if (unlikely(rx->nr_pieces == CROSSTALK_RX_PIECES &&
		     !is_next_to_last(rx, kaddr)))
		return false;

	append_piece(rx, kaddr, size);
	return true;
}

/* Where it is in the mirror does not matter: a piece is in one page. */
static bool add_user_piece(struct crosstalk_rx *rx, unsigned long addr, u32 size)
{
	struct crosstalk_rx_piece *piece = &rx->pieces[rx->nr_pieces];

	if (unlikely(rx->nr_pieces == CROSSTALK_RX_PIECES))
		return false;

	piece->addr = (void *)addr;
	piece->len = size;
	rx->nr_pieces++;
	return true;
}

/* Adds user memory to the frame's pieces, one for each run of pages. */
static enum crosstalk_rx_result add_user_pages(struct crosstalk_rx *rx,
					       unsigned long addr, u64 len)
{
	void *kaddr;
	u32 size;

	for (; len; addr += size, len -= size) {
		size = min_t(u64, len, PAGE_SIZE - offset_in_page(addr));
		if (rx->unmirrored) {
			if (!add_user_piece(rx, addr, size))
				return CROSSTALK_RX_TOO_LARGE;
			continue;
		}
		kaddr = crosstalk_mirror_lookup(rx->mirror, addr);
		if (unlikely(!kaddr)) {
			rx->missing = addr;
			return CROSSTALK_RX_MISSING;
		}
		if (unlikely(!add_piece(rx, kaddr, size)))
			return CROSSTALK_RX_TOO_LARGE;
	}
	return CROSSTALK_RX_OK;
}

static enum crosstalk_rx_result find_region(struct crosstalk_rx *rx, u64 addr)
{
	const struct vhost_iotlb_map *map = rx->map;

	if (likely(map && addr >= map->start && addr <= map->last))
		return CROSSTALK_RX_OK;

	map = vhost_iotlb_itree_first(rx->nvq->vq.umem, addr, addr);
	if (unlikely(!map))
		return CROSSTALK_RX_BAD;

	rx->map = map;
	return CROSSTALK_RX_OK;
}

/*
 * Adds at most *@want bytes of a guest-physical range, and takes them off
 * *@want.
 */
static enum crosstalk_rx_result add_buffer(struct crosstalk_rx *rx, u64 addr,
					   u32 len, size_t *want)
{
	enum crosstalk_rx_result ret;
	u64 last;
	u64 size;

	if (unlikely(!len))
		return CROSSTALK_RX_OK;
	if (unlikely(check_add_overflow(addr, (u64)len - 1, &last)))
		return CROSSTALK_RX_BAD;

	while (len && *want) {
		ret = find_region(rx, addr);
		if (unlikely(ret))
			return ret;
		if (unlikely(!(rx->map->perm & VHOST_ACCESS_WO)))
			return CROSSTALK_RX_BAD;

		size = min3((u64)len, (u64)*want, rx->map->last - addr + 1);
		ret = add_user_pages(rx,
				     rx->map->addr + addr - rx->map->start,
				     size);
		if (unlikely(ret))
			return ret;
		addr += size;
		len -= size;
		*want -= size;
	}
	return CROSSTALK_RX_OK;
}

static __always_inline void load_desc(struct crosstalk_desc *to,
				      const void *from)
{
	const u64 *word = from;

	/* The guest may be writing it: each word is read once. */
	to->word0 = READ_ONCE(word[0]);
	to->word1 = READ_ONCE(word[1]);
}

static enum crosstalk_rx_result add_desc(struct crosstalk_rx *rx,
					 const struct crosstalk_desc *desc,
					 size_t *want)
{
	const struct vhost_virtqueue *vq = &rx->nvq->vq;

	if (unlikely(!rx->left))
		return CROSSTALK_RX_TOO_LARGE;
	rx->left--;

	/* A receive buffer has nothing for us to read. */
	if (unlikely(!(desc->flags & cpu_to_vq16(vq, VRING_DESC_F_WRITE))))
		return CROSSTALK_RX_BAD;
	return add_buffer(rx, vq64_to_cpu(vq, desc->addr),
			  vq32_to_cpu(vq, desc->len), want);
}

/* Read in order, as vhost and vring.c do. */
static enum crosstalk_rx_result add_indirect(struct crosstalk_rx *rx,
					     const struct crosstalk_desc *table,
					     size_t *want)
{
	const struct vhost_virtqueue *vq = &rx->nvq->vq;
	u64 addr = vq64_to_cpu(vq, table->addr);
	u32 len = vq32_to_cpu(vq, table->len);
	unsigned int count = len / sizeof(struct vring_desc);
	struct crosstalk_mirror_cursor cursor;
	const struct vring_desc *from;
	enum crosstalk_rx_result ret;
	struct crosstalk_desc desc;
	u64 last;

	if (unlikely(!len || len % sizeof(desc) || count > USHRT_MAX + 1 ||
		     check_add_overflow(addr, (u64)len - 1, &last)))
		return CROSSTALK_RX_BAD;
	/* A table that straddles pages within a descriptor is nobody's. */
	if (unlikely(!IS_ALIGNED(addr, sizeof(desc))))
		return CROSSTALK_RX_TOO_LARGE;

	crosstalk_mirror_cursor_init(&cursor);
	for (; count && *want; count--, addr += sizeof(desc)) {
		ret = find_region(rx, addr);
		if (unlikely(ret))
			return ret;
		if (unlikely(rx->map->last - addr < sizeof(desc) - 1 ||
			     !(rx->map->perm & VHOST_ACCESS_RO)))
			return CROSSTALK_RX_BAD;
		from = at(rx, &cursor, u64_to_user_ptr(rx->map->addr + addr -
						       rx->map->start));
		if (unlikely(!from))
			return CROSSTALK_RX_MISSING;
		/* Regions of user memory need not be aligned as the guest's. */
		if (unlikely(!IS_ALIGNED((unsigned long)from, sizeof(desc))))
			return CROSSTALK_RX_TOO_LARGE;

		load_desc(&desc, from);
		if (unlikely(desc.flags &
			     cpu_to_vq16(vq, VRING_DESC_F_INDIRECT)))
			return CROSSTALK_RX_BAD;
		ret = add_desc(rx, &desc, want);
		if (unlikely(ret))
			return ret;
		if (!(desc.flags & cpu_to_vq16(vq, VRING_DESC_F_NEXT)))
			return CROSSTALK_RX_OK;
	}
	return *want ? CROSSTALK_RX_BAD : CROSSTALK_RX_OK;
}

/* Adds at most *@want bytes of the chain at @head. */
static enum crosstalk_rx_result add_chain(struct crosstalk_rx *rx, u16 head,
					  size_t *want)
{
	struct vhost_virtqueue *vq = &rx->nvq->vq;
	const struct vring_desc *from;
	enum crosstalk_rx_result ret;
	struct crosstalk_desc desc;
	unsigned int found = 0;
	unsigned int i = head;

	do {
		if (unlikely(i >= vq->num || ++found > vq->num))
			return CROSSTALK_RX_BAD;

		from = at(rx, &rx->ring->desc, vq->desc + i);
		if (unlikely(!from))
			return CROSSTALK_RX_MISSING;

		load_desc(&desc, from);
		if (desc.flags & cpu_to_vq16(vq, VRING_DESC_F_INDIRECT))
			ret = add_indirect(rx, &desc, want);
		else
			ret = add_desc(rx, &desc, want);
		if (unlikely(ret))
			return ret;
		i = vq16_to_cpu(vq, desc.next);
	} while (*want &&
		 (desc.flags & cpu_to_vq16(vq, VRING_DESC_F_NEXT)));

	return CROSSTALK_RX_OK;
}

/* Where the used element of the next chain goes; it may lie on two pages. */
static enum crosstalk_rx_result find_used(struct crosstalk_rx *rx,
					  struct crosstalk_rx_chain *chain)
{
	struct vhost_virtqueue *vq = &rx->nvq->vq;
	vring_used_elem_t __user *elem;

	elem = &vq->used->ring[(vq->last_used_idx + rx->nr_chains) &
			       (vq->num - 1)];
	chain->used_id = at(rx, &rx->ring->used, &elem->id);
	chain->used_len = at(rx, &rx->ring->used, &elem->len);
	if (unlikely(!chain->used_id || !chain->used_len))
		return CROSSTALK_RX_MISSING;
	return CROSSTALK_RX_OK;
}

/* Which chain entry @idx of the available ring has, and where its element goes. */
static enum crosstalk_rx_result find_head(struct crosstalk_rx *rx,
					  struct crosstalk_rx_chain *chain,
					  u16 idx)
{
	struct vhost_virtqueue *vq = &rx->nvq->vq;
	enum crosstalk_rx_result ret;
	const __virtio16 *entry;

	ret = find_used(rx, chain);
	if (unlikely(ret))
		return ret;

	entry = at(rx, &rx->ring->avail, &vq->avail->ring[idx & (vq->num - 1)]);
	if (unlikely(!entry))
		return CROSSTALK_RX_MISSING;

	chain->head = vq16_to_cpu(vq, READ_ONCE(*entry));
	return CROSSTALK_RX_OK;
}

/* Adds the next chain, whatever it looks like. */
static noinline enum crosstalk_rx_result take_chain(struct crosstalk_rx *rx,
						    size_t *want)
{
	struct crosstalk_rx_chain *chain = &rx->chains[rx->nr_chains];
	struct vhost_virtqueue *vq = &rx->nvq->vq;
	u16 idx = vq->last_avail_idx + rx->nr_chains;
	enum crosstalk_rx_result ret;
	size_t before = *want;

	if (idx == vq->avail_idx) {
		ret = refresh_avail_idx(rx);
		if (unlikely(ret))
			return ret;
	}

	ret = find_head(rx, chain, idx);
	if (unlikely(ret))
		return ret;

	ret = add_chain(rx, chain->head, want);
	if (unlikely(ret))
		return ret;
	chain->len = before - *want;
	if (unlikely(!chain->len))
		return CROSSTALK_RX_BAD;
	rx->nr_chains++;
	return CROSSTALK_RX_OK;
}

/* Entries of the tables; @flat is mostly known when this is compiled. */
static __always_inline __virtio16
head_of(const struct crosstalk_rx_ring *ring, unsigned int i, bool flat)
{
	const __virtio16 *heads = flat ? &ring->heads[i] :
		table_at(&ring->head_table, i * sizeof(*heads));

	return READ_ONCE(*heads);
}

static __always_inline const struct vring_desc *
desc_of(const struct crosstalk_rx_ring *ring, unsigned int i, bool flat)
{
	return flat ? &ring->descs[i] :
		      table_at(&ring->desc_table, i * sizeof(struct vring_desc));
}

/* The table begins at any multiple of 4: an element may be on two pages. */
static __always_inline void
find_elem(const struct crosstalk_rx_ring *ring, unsigned int i, bool flat,
	  struct crosstalk_rx_chain *chain)
{
	const size_t size = sizeof(struct vring_used_elem);

	if (flat) {
		chain->used_id = &ring->elems[i].id;
		chain->used_len = &ring->elems[i].len;
	} else {
		chain->used_id = table_at(&ring->elem_table, i * size);
		chain->used_len =
			table_at(&ring->elem_table,
				 i * size +
				 offsetof(struct vring_used_elem, len));
	}
}

/* The first descriptor of entry @idx; false if that has no head of a chain. */
static __always_inline bool
load_raw(const struct crosstalk_rx *rx, const struct crosstalk_rx_ring *ring,
	 u16 idx, unsigned int mask, bool flat, u16 *head, struct crosstalk_desc *raw)
{
	*head = vq16_to_cpu(&rx->nvq->vq, head_of(ring, idx & mask, flat));
	if (unlikely(*head > mask))
		return false;

	/* Within the table also where the check is mispredicted. */
	load_desc(raw, desc_of(ring, *head & mask, flat));
	return true;
}

/*
 * Adds the next chain if it is what most are: one buffer in one region, and
 * everything at hand.  Returns how much of the frame it takes, or 0 for
 * take_chain() to look at it from the start.
 */
static __always_inline u32 take_plain(struct crosstalk_rx *rx,
				      struct crosstalk_rx_ring *ring,
				      unsigned int mask, size_t want, bool flat)
{
	struct crosstalk_rx_chain *chain = &rx->chains[rx->nr_chains];
	struct vhost_virtqueue *vq = &rx->nvq->vq;
	u16 idx = vq->last_avail_idx + rx->nr_chains;
	const struct vhost_iotlb_map *map;
	struct crosstalk_desc raw;
	unsigned long addr;
	void *kaddr;
	void *next;
	u32 size;
	u32 len;
	u16 head;

	if (unlikely(idx == vq->avail_idx && refresh_avail_idx(rx)))
		return 0;

	if (unlikely(!load_raw(rx, ring, idx, mask, flat, &head, &raw)))
		return 0;

	addr = vq64_to_cpu(vq, raw.addr);
	len = min_t(size_t, vq32_to_cpu(vq, raw.len), want);
	if (raw.flags != cpu_to_vq16(vq, VRING_DESC_F_WRITE) ||
	    unlikely(!len) || unlikely(find_region(rx, addr)))
		return 0;
	map = rx->map;
	if (unlikely(len - 1 > map->last - addr ||
		     !(map->perm & VHOST_ACCESS_WO)))
		return 0;

	/* On one page, or on two. */
	addr += map->addr - map->start;
	size = PAGE_SIZE - offset_in_page(addr);
	kaddr = crosstalk_mirror_near(rx->mirror, &ring->data, addr);
	if (unlikely(!kaddr || rx->nr_pieces > CROSSTALK_RX_PIECES - 2))
		return 0;
	if (len <= size) {
		append_piece(rx, kaddr, len);
	} else {
		next = crosstalk_mirror_near(rx->mirror, &ring->data,
					     addr + size);
		if (unlikely(!next || len - size > PAGE_SIZE))
			return 0;
		append_piece(rx, kaddr, size);
		append_piece(rx, next, len - size);
	}

	find_elem(ring, (vq->last_used_idx + rx->nr_chains) & mask, flat,
		  chain);
	chain->head = head;
	chain->len = len;
	rx->nr_chains++;
	return len;
}

/* The same where the tables are not in one stretch each. */
static noinline u32 take_paged(struct crosstalk_rx *rx,
			       struct crosstalk_rx_ring *ring,
			       unsigned int mask, size_t want)
{
	if (unlikely(ring->layout != CROSSTALK_RX_PAGED))
		return 0;
	return take_plain(rx, ring, mask, want, false);
}

/**
 * crosstalk_rx_reserve() - find room for a frame
 * @rx: opened ring
 * @len: bytes, virtio-net header included
 *
 * Afterwards rx->pieces has exactly @len bytes, which is not 0.  Nothing is
 * consumed.
 *
 * Context: as between open and close.
 * Return: CROSSTALK_RX_OK or what is in the way.
 */
enum crosstalk_rx_result crosstalk_rx_reserve(struct crosstalk_rx *rx,
					      size_t len)
{
	const struct vhost_virtqueue *vq = &rx->nvq->vq;
	struct crosstalk_rx_ring *ring = rx->ring;
	unsigned int mask = vq->num - 1;
	enum crosstalk_rx_result ret;
	u32 taken;

	rx->left = CROSSTALK_RX_DESCS;
	rx->nr_chains = 0;
	rx->nr_pieces = 0;
	for (;;) {
		if (likely(ring->layout == CROSSTALK_RX_FLAT))
			taken = take_plain(rx, ring, mask, len, true);
		else
			taken = take_paged(rx, ring, mask, len);
		len -= taken;
		if (unlikely(!taken)) {
			rx->want = len;
			ret = take_chain(rx, &rx->want);
			if (unlikely(ret))
				return ret;
			len = rx->want;
		}
		if (!len)
			return CROSSTALK_RX_OK;
		if (unlikely(rx->nr_chains == CROSSTALK_RX_CHAINS ||
			     !vhost_vq_has(vq, VIRTIO_NET_F_MRG_RXBUF)))
			return CROSSTALK_RX_TOO_LARGE;
	}
}

static unsigned int max_chains(const struct crosstalk_rx *rx)
{
	return vhost_vq_has(&rx->nvq->vq, VIRTIO_NET_F_MRG_RXBUF) ?
	       CROSSTALK_RX_CHAINS : 1;
}

/**
 * crosstalk_rx_begin() - begin to reserve room for a frame in several steps
 * @rx: opened ring
 *
 * The pieces then have user addresses, each in one page, until crosstalk_rx_end().
 *
 * Context: as between open and close.
 */
void crosstalk_rx_begin(struct crosstalk_rx *rx)
{
	rx->unmirrored = true;
	rx->left = CROSSTALK_RX_DESCS;
	rx->nr_chains = 0;
	rx->nr_pieces = 0;
}

/**
 * crosstalk_rx_end() - that was all, or it failed
 * @rx: opened ring
 *
 * Context: as between open and close.
 */
void crosstalk_rx_end(struct crosstalk_rx *rx)
{
	rx->unmirrored = false;
}

/**
 * crosstalk_rx_more() - find more room for the frame, in chains of its own
 * @rx: opened ring
 * @len: bytes, not 0; the last chain is used as far as needed
 *
 * Context: as between open and close.
 * Return: CROSSTALK_RX_OK or what is in the way.
 */
enum crosstalk_rx_result crosstalk_rx_more(struct crosstalk_rx *rx, size_t len)
{
	unsigned int max = max_chains(rx);
	enum crosstalk_rx_result ret;

	for (rx->want = len; rx->want;) {
		if (unlikely(rx->nr_chains == max))
			return CROSSTALK_RX_TOO_LARGE;
		ret = take_chain(rx, &rx->want);
		if (unlikely(ret))
			return ret;
	}
	return CROSSTALK_RX_OK;
}

/* The user address of a buffer, if that begins with a page and has all of it. */
static __always_inline enum crosstalk_rx_result
find_page(struct crosstalk_rx *rx, const struct crosstalk_desc *desc,
	  unsigned long *addr)
{
	const struct vhost_virtqueue *vq = &rx->nvq->vq;
	u64 gpa = vq64_to_cpu(vq, desc->addr);
	const struct vhost_iotlb_map *map;

	if (desc->flags != cpu_to_vq16(vq, VRING_DESC_F_WRITE) ||
	    vq32_to_cpu(vq, desc->len) < PAGE_SIZE || find_region(rx, gpa))
		return CROSSTALK_RX_TOO_LARGE;

	map = rx->map;
	*addr = gpa - map->start + map->addr;
	if (map->last - gpa < PAGE_SIZE - 1 ||
	    !(map->perm & VHOST_ACCESS_WO) || offset_in_page(*addr))
		return CROSSTALK_RX_TOO_LARGE;
	return CROSSTALK_RX_OK;
}

/* The next chain's first descriptor, where the ring may lie on any pages. */
static enum crosstalk_rx_result find_desc(struct crosstalk_rx *rx,
					  struct crosstalk_rx_chain *chain,
					  u16 idx, struct crosstalk_desc *desc)
{
	struct vhost_virtqueue *vq = &rx->nvq->vq;
	const struct vring_desc *from;
	enum crosstalk_rx_result ret;

	ret = find_head(rx, chain, idx);
	if (ret)
		return ret;
	if (chain->head >= vq->num)
		return CROSSTALK_RX_BAD;
	from = at(rx, &rx->ring->desc, vq->desc + chain->head);
	if (!from)
		return CROSSTALK_RX_MISSING;
	load_desc(desc, from);
	return CROSSTALK_RX_OK;
}

/* The same with everything at hand; see take_plain(). */
static __always_inline enum crosstalk_rx_result
find_plain_desc(struct crosstalk_rx *rx, struct crosstalk_rx_chain *chain,
		u16 idx, struct crosstalk_desc *raw)
{
	const struct crosstalk_rx_ring *ring = rx->ring;
	bool flat = ring->layout == CROSSTALK_RX_FLAT;
	struct vhost_virtqueue *vq = &rx->nvq->vq;
	unsigned int mask = vq->num - 1;

	if (unlikely(!load_raw(rx, ring, idx, mask, flat, &chain->head, raw)))
		return CROSSTALK_RX_BAD;
	find_elem(ring, (vq->last_used_idx + rx->nr_chains) & mask, flat,
		  chain);
	return CROSSTALK_RX_OK;
}

/* The next chain, for a whole page. */
static __always_inline enum crosstalk_rx_result take_page(struct crosstalk_rx *rx,
							  unsigned long *addr)
{
	struct crosstalk_rx_chain *chain = &rx->chains[rx->nr_chains];
	struct vhost_virtqueue *vq = &rx->nvq->vq;
	u16 idx = vq->last_avail_idx + rx->nr_chains;
	enum crosstalk_rx_result ret;
	struct crosstalk_desc raw;

	if (unlikely(idx == vq->avail_idx)) {
		ret = refresh_avail_idx(rx);
		if (ret)
			return ret;
	}

	ret = likely(rx->ring->layout != CROSSTALK_RX_FAR) ?
	      find_plain_desc(rx, chain, idx, &raw) :
	      find_desc(rx, chain, idx, &raw);
	if (unlikely(ret))
		return ret;
	ret = find_page(rx, &raw, addr);
	if (unlikely(ret))
		return ret;
	chain->len = PAGE_SIZE;
	rx->nr_chains++;
	return CROSSTALK_RX_OK;
}

/**
 * crosstalk_rx_pages() - the next chains, each for a whole page of the frame
 * @rx: opened ring
 * @addr: user addresses of the pages, which need not be mirrored
 * @nr: how many
 *
 * Context: as between open and close.
 * Return: CROSSTALK_RX_OK; CROSSTALK_RX_TOO_LARGE if a chain is anything but
 * one buffer that begins with a page; or what is in the way.
 */
enum crosstalk_rx_result crosstalk_rx_pages(struct crosstalk_rx *rx,
					    unsigned long *addr,
					    unsigned int nr)
{
	enum crosstalk_rx_result ret;

	if (unlikely(nr > max_chains(rx) - rx->nr_chains))
		return CROSSTALK_RX_TOO_LARGE;

	for (; nr; nr--) {
		ret = take_page(rx, addr++);
		if (unlikely(ret))
			return ret;
	}
	return CROSSTALK_RX_OK;
}

/**
 * crosstalk_rx_want_signal() - whether the guest is to be interrupted
 * @rx: opened ring, published
 *
 * Context: as between open and close.
 * Return: whether its call eventfd must be signalled.
 */
bool crosstalk_rx_want_signal(struct crosstalk_rx *rx)
{
	struct vhost_virtqueue *vq = &rx->nvq->vq;
	bool valid;
	u16 old;

	if (!rx->unsignalled)
		return false;
	rx->unsignalled = false;

	/* As in vring.c: the index is visible before the wish is read. */
	smp_mb();

	if (vhost_vq_has(vq, VIRTIO_F_NOTIFY_ON_EMPTY) &&
	    unlikely(vq->avail_idx == vq->last_avail_idx))
		return true;

	if (!vhost_vq_has(vq, VIRTIO_RING_F_EVENT_IDX))
		return !(READ_ONCE(*rx->ring->avail_flags) &
			 cpu_to_vq16(vq, VRING_AVAIL_F_NO_INTERRUPT));

	old = vq->signalled_used;
	valid = vq->signalled_used_valid;
	vq->signalled_used = vq->last_used_idx;
	vq->signalled_used_valid = true;
	if (unlikely(!valid))
		return true;
	return vring_need_event(vq16_to_cpu(vq, READ_ONCE(*rx->ring->used_event)),
				vq->last_used_idx, old);
}

/**
 * crosstalk_rx_enable_notify() - ask the guest for a kick when it refills
 * @rx: opened ring, found empty
 *
 * Context: as between open and close.
 * Return: true if buffers have come meanwhile: look again.
 */
bool crosstalk_rx_enable_notify(struct crosstalk_rx *rx)
{
	struct vhost_virtqueue *vq = &rx->nvq->vq;

	vq->used_flags &= ~VRING_USED_F_NO_NOTIFY;
	if (vhost_vq_has(vq, VIRTIO_RING_F_EVENT_IDX))
		WRITE_ONCE(*rx->ring->avail_event, cpu_to_vq16(vq, vq->avail_idx));
	else
		WRITE_ONCE(*rx->ring->used_flags, cpu_to_vq16(vq, vq->used_flags));

	/* The wish is visible before the index is read again. */
	smp_mb();
	return refresh_avail_idx(rx) == CROSSTALK_RX_OK;
}
