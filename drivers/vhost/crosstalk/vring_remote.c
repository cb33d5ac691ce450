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

/*
 * Where a table of the ring is; *@plain becomes false if its pages do not follow
 * one another there.  Returns NULL if one is missing.
 */
static void *find_table(struct crosstalk_rx *rx, const void __user *table,
			size_t len, bool *plain)
{
	unsigned long addr = (unsigned long)table;
	unsigned long end = addr + len;
	void *first = NULL;
	void *next = NULL;

	while (addr < end) {
		void *kaddr = crosstalk_mirror_lookup(rx->mirror, addr);
		size_t size = PAGE_SIZE - offset_in_page(addr);

		if (unlikely(!kaddr)) {
			rx->missing = addr;
			return NULL;
		}
		if (!first)
			first = kaddr;
		else if (kaddr != next)
			*plain = false;
		next = kaddr + size;
		addr += size;
	}
	return first;
}

static enum crosstalk_rx_result find_ring(struct crosstalk_rx *rx)
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

	ring->plain = true;
	ring->descs = find_table(rx, vq->desc, vq->num * sizeof(*vq->desc),
				 &ring->plain);
	ring->heads = find_table(rx, vq->avail->ring,
				 vq->num * sizeof(*vq->avail->ring),
				 &ring->plain);
	ring->elems = find_table(rx, vq->used->ring,
				 vq->num * sizeof(*vq->used->ring),
				 &ring->plain);
	if (unlikely(!ring->descs || !ring->heads || !ring->elems))
		return CROSSTALK_RX_MISSING;

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

/* Adds user memory to the frame's pieces, one for each run of pages. */
static enum crosstalk_rx_result add_user_pages(struct crosstalk_rx *rx,
					       unsigned long addr, u64 len)
{
	void *kaddr;
	u32 size;

	for (; len; addr += size, len -= size) {
		size = min_t(u64, len, PAGE_SIZE - offset_in_page(addr));
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

static void load_desc(const struct vhost_virtqueue *vq, struct vring_desc *to,
		      const struct vring_desc *from)
{
	/* The guest may be writing it: each field is read once. */
	to->addr = READ_ONCE(from->addr);
	to->len = READ_ONCE(from->len);
	to->flags = READ_ONCE(from->flags);
	to->next = READ_ONCE(from->next);
}

static enum crosstalk_rx_result add_desc(struct crosstalk_rx *rx,
					 const struct vring_desc *desc,
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
					     const struct vring_desc *table,
					     size_t *want)
{
	const struct vhost_virtqueue *vq = &rx->nvq->vq;
	u64 addr = vq64_to_cpu(vq, table->addr);
	u32 len = vq32_to_cpu(vq, table->len);
	unsigned int count = len / sizeof(struct vring_desc);
	struct crosstalk_mirror_cursor cursor;
	const struct vring_desc *from;
	enum crosstalk_rx_result ret;
	struct vring_desc desc;
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

		load_desc(vq, &desc, from);
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
	struct vring_desc desc;
	unsigned int found = 0;
	unsigned int i = head;

	do {
		if (unlikely(i >= vq->num || ++found > vq->num))
			return CROSSTALK_RX_BAD;

		from = at(rx, &rx->ring->desc, vq->desc + i);
		if (unlikely(!from))
			return CROSSTALK_RX_MISSING;

		load_desc(vq, &desc, from);
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

/* Adds the next chain, whatever it looks like. */
static noinline enum crosstalk_rx_result take_chain(struct crosstalk_rx *rx,
						    size_t *want)
{
	struct crosstalk_rx_chain *chain = &rx->chains[rx->nr_chains];
	struct vhost_virtqueue *vq = &rx->nvq->vq;
	u16 idx = vq->last_avail_idx + rx->nr_chains;
	enum crosstalk_rx_result ret;
	const __virtio16 *entry;
	size_t before = *want;

	if (idx == vq->avail_idx) {
		ret = refresh_avail_idx(rx);
		if (unlikely(ret))
			return ret;
	}

	ret = find_used(rx, chain);
	if (unlikely(ret))
		return ret;

	entry = at(rx, &rx->ring->avail, &vq->avail->ring[idx & (vq->num - 1)]);
	if (unlikely(!entry))
		return CROSSTALK_RX_MISSING;

	chain->head = vq16_to_cpu(vq, READ_ONCE(*entry));
	ret = add_chain(rx, chain->head, want);
	if (unlikely(ret))
		return ret;
	chain->len = before - *want;
	if (unlikely(!chain->len))
		return CROSSTALK_RX_BAD;
	rx->nr_chains++;
	return CROSSTALK_RX_OK;
}

/* A descriptor as two words, each of which is loaded once. */
union raw_desc {
	struct vring_desc desc;
	u64 word[2];
};

/*
 * Adds the next chain if it is what most are: one buffer in one region, and
 * everything at hand.  Returns how much of the frame it takes, or 0 for
 * take_chain() to look at it from the start.
 */
static __always_inline u32 take_plain(struct crosstalk_rx *rx,
				      struct crosstalk_rx_ring *ring,
				      unsigned int mask, size_t want)
{
	struct crosstalk_rx_chain *chain = &rx->chains[rx->nr_chains];
	struct vhost_virtqueue *vq = &rx->nvq->vq;
	u16 idx = vq->last_avail_idx + rx->nr_chains;
	const struct vhost_iotlb_map *map;
	struct vring_used_elem *elem;
	union raw_desc raw;
	unsigned long addr;
	const u64 *from;
	void *kaddr;
	void *next;
	u32 size;
	u32 len;
	u16 head;

	if (unlikely(idx == vq->avail_idx && refresh_avail_idx(rx)))
		return 0;

	head = vq16_to_cpu(vq, READ_ONCE(ring->heads[idx & mask]));
	if (unlikely(head > mask))
		return 0;
	/* Within the table also where the check is mispredicted. */
	from = (const u64 *)&ring->descs[head & mask];
	raw.word[0] = READ_ONCE(from[0]);
	raw.word[1] = READ_ONCE(from[1]);

	addr = vq64_to_cpu(vq, raw.desc.addr);
	len = min_t(size_t, vq32_to_cpu(vq, raw.desc.len), want);
	if (raw.desc.flags != cpu_to_vq16(vq, VRING_DESC_F_WRITE) ||
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

	elem = &ring->elems[(vq->last_used_idx + rx->nr_chains) & mask];
	chain->used_id = &elem->id;
	chain->used_len = &elem->len;
	chain->head = head;
	chain->len = len;
	rx->nr_chains++;
	return len;
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
		taken = likely(ring->plain) ? take_plain(rx, ring, mask, len) : 0;
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
