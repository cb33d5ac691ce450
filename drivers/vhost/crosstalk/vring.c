// SPDX-License-Identifier: GPL-2.0
/*
 * Split rings, read and written by the worker of the guest that owns them.
 *
 * All of it runs in that worker (whose mm is the guest's) with vq->mutex held,
 * and keeps its state in vhost's own fields (last_avail_idx, avail_idx,
 * last_used_idx, signalled_used): the next work item may be vhost-net's again.
 *
 * The guest writes its ring while it is read.  Every field is read once, then
 * checked, then used.  What is an error here is an error in vhost: the queue
 * stops until its next kick.
 */

#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/uaccess.h>

#include "vhost_private.h"
#include "vring.h"

/* A descriptor in CPU byte order. */
struct desc {
	u64 addr;
	u32 len;
	u16 flags;
	u16 next;
};

/* What a walk over one chain carries along. */
struct walk {
	struct vhost_virtqueue *vq;
	struct crosstalk_chain *chain;
	/* Descriptors that the chain may still have. */
	unsigned int left;
};

static int find_region(const struct vhost_virtqueue *vq,
		       struct crosstalk_chain *chain, u64 addr, u64 last)
{
	const struct vhost_iotlb_map *map = chain->map;

	if (likely(map && addr >= map->start && addr <= map->last))
		return 0;

	map = vhost_iotlb_itree_first(vq->umem, addr, last);
	if (unlikely(!map || map->start > addr))
		return -EFAULT;

	chain->map = map;
	return 0;
}

/* Appends the guest-physical range to vq->iov, a segment for each region. */
static int translate(struct walk *walk, u64 addr, u32 len, bool write)
{
	struct crosstalk_chain *chain = walk->chain;
	struct vhost_virtqueue *vq = walk->vq;
	u8 access = write ? VHOST_ACCESS_WO : VHOST_ACCESS_RO;
	u64 last;
	int ret;

	if (unlikely(!len))
		return 0;
	if (unlikely(check_add_overflow(addr, (u64)len - 1, &last)))
		return -EFAULT;

	while (len) {
		const struct vhost_iotlb_map *map;
		struct iovec *iov;
		u64 size;

		if (unlikely(chain->out + chain->in >= ARRAY_SIZE(vq->iov)))
			return -ENOBUFS;

		ret = find_region(walk->vq, walk->chain, addr, last);
		if (unlikely(ret))
			return ret;

		map = walk->chain->map;
		if (unlikely(!(map->perm & access)))
			return -EPERM;

		size = min_t(u64, len, map->last - addr + 1);
		iov = &vq->iov[chain->out + chain->in];
		iov->iov_base = u64_to_user_ptr(map->addr + addr - map->start);
		iov->iov_len = size;
		if (write)
			chain->in++;
		else
			chain->out++;

		addr += size;
		len -= size;
	}
	return 0;
}

static void decode_desc(struct vhost_virtqueue *vq, struct desc *desc,
			const struct crosstalk_desc *raw)
{
	desc->addr = vq64_to_cpu(vq, raw->addr);
	desc->len = vq32_to_cpu(vq, raw->len);
	desc->flags = vq16_to_cpu(vq, raw->flags);
	desc->next = vq16_to_cpu(vq, raw->next);
}

static int read_desc(struct vhost_virtqueue *vq, struct desc *desc,
		     const struct vring_desc __user *from)
{
	const u64 __user *word = (const u64 __user *)from;
	struct crosstalk_desc raw;

	if (unlikely(!user_read_access_begin(from, sizeof(*from))))
		return -EFAULT;
	unsafe_get_user(raw.word0, &word[0], fault);
	unsafe_get_user(raw.word1, &word[1], fault);
	user_read_access_end();

	decode_desc(vq, desc, &raw);
	return 0;

fault:
	user_read_access_end();
	return -EFAULT;
}

/* The head of the next chain and its first descriptor, in one go. */
static int read_head(struct vhost_virtqueue *vq, struct crosstalk_chain *chain,
		     struct desc *desc)
{
	const u64 __user *word;
	struct crosstalk_desc raw;
	__virtio16 head;

	/* vhost checked the rings' addresses when it got them. */
	if (unlikely(!user_read_access_begin(vq->desc,
					     vq->num * sizeof(*vq->desc))))
		return -EFAULT;
	unsafe_get_user(head, &vq->avail->ring[vq->last_avail_idx &
					       (vq->num - 1)], fault);
	chain->head = vq16_to_cpu(vq, head);
	if (unlikely(chain->head >= vq->num)) {
		user_read_access_end();
		return -EINVAL;
	}
	word = (const u64 __user *)(vq->desc + chain->head);
	unsafe_get_user(raw.word0, &word[0], fault);
	unsafe_get_user(raw.word1, &word[1], fault);
	user_read_access_end();

	decode_desc(vq, desc, &raw);
	return 0;

fault:
	user_read_access_end();
	return -EFAULT;
}

/* A descriptor of an indirect table, which may lie across two regions. */
static int read_indirect_desc(struct walk *walk, struct desc *desc, u64 addr)
{
	struct vhost_virtqueue *vq = walk->vq;
	struct crosstalk_desc raw;
	size_t done = 0;
	int ret;

	while (done < sizeof(raw)) {
		const struct vhost_iotlb_map *map;
		size_t size;

		ret = find_region(walk->vq, walk->chain, addr, addr);
		if (unlikely(ret))
			return ret;

		map = walk->chain->map;
		if (unlikely(!(map->perm & VHOST_ACCESS_RO)))
			return -EPERM;

		size = min_t(u64, sizeof(raw) - done, map->last - addr + 1);
		if (unlikely(__copy_from_user((void *)&raw + done,
					      u64_to_user_ptr(map->addr + addr -
							      map->start),
					      size)))
			return -EFAULT;
		addr += size;
		done += size;
	}

	decode_desc(vq, desc, &raw);
	return 0;
}

static int add_buffer(struct walk *walk, const struct desc *desc)
{
	struct crosstalk_chain *chain = walk->chain;
	bool write = desc->flags & VRING_DESC_F_WRITE;

	/* Empty buffers in many tables would keep the worker for minutes. */
	if (unlikely(!walk->left--))
		return -EINVAL;

	if (!write) {
		/* Readable descriptors come before writable ones. */
		if (unlikely(chain->in))
			return -EINVAL;
		chain->out_len += desc->len;
	}
	return translate(walk, desc->addr, desc->len, write);
}

/* vhost refuses a table that is not readable as a whole; so does this. */
static int check_table(struct walk *walk, u64 addr, u32 len)
{
	unsigned int regions = 0;
	u64 last;
	int ret;

	if (unlikely(check_add_overflow(addr, (u64)len - 1, &last)))
		return -EFAULT;

	for (;;) {
		if (unlikely(++regions > UIO_MAXIOV))
			return -ENOBUFS;
		ret = find_region(walk->vq, walk->chain, addr, last);
		if (unlikely(ret))
			return ret;
		if (unlikely(!(walk->chain->map->perm & VHOST_ACCESS_RO)))
			return -EPERM;
		if (likely(walk->chain->map->last >= last))
			return 0;
		addr = walk->chain->map->last + 1;
	}
}

/*
 * vhost reads an indirect table in order, whatever its next fields say, and so
 * does this: both paths must see the same frame.
 */
static int add_indirect(struct walk *walk, const struct desc *table)
{
	unsigned int count = table->len / sizeof(struct vring_desc);
	struct desc desc;
	unsigned int i;
	int ret;

	if (unlikely(!table->len || table->len % sizeof(struct vring_desc)))
		return -EINVAL;
	if (unlikely(count > USHRT_MAX + 1))
		return -E2BIG;
	ret = check_table(walk, table->addr, table->len);
	if (unlikely(ret))
		return ret;

	for (i = 0; i < count; i++) {
		ret = read_indirect_desc(walk, &desc,
					 table->addr + i * sizeof(struct vring_desc));
		if (unlikely(ret))
			return ret;
		if (unlikely(desc.flags & VRING_DESC_F_INDIRECT))
			return -EINVAL;

		ret = add_buffer(walk, &desc);
		if (unlikely(ret))
			return ret;

		if (!(desc.flags & VRING_DESC_F_NEXT))
			return 0;
	}

	/* The last one said that another follows. */
	return -EINVAL;
}

/* vhost checked the address when it got it. */
static __always_inline int put_index(__virtio16 __user *to, __virtio16 index)
{
	if (unlikely(!user_write_access_begin(to, sizeof(*to))))
		return -EFAULT;
	unsafe_put_user(index, to, fault);
	user_write_access_end();
	return 0;

fault:
	user_write_access_end();
	return -EFAULT;
}

static __always_inline int get_index(const struct vhost_virtqueue *vq,
				     u16 *index, const __virtio16 __user *from)
{
	__virtio16 raw;

	if (unlikely(!user_read_access_begin(from, sizeof(*from))))
		return -EFAULT;
	unsafe_get_user(raw, from, fault);
	user_read_access_end();
	*index = vq16_to_cpu(vq, raw);
	return 0;

fault:
	user_read_access_end();
	return -EFAULT;
}

static __always_inline int refresh_avail_idx(struct vhost_virtqueue *vq)
{
	u16 idx;

	if (unlikely(get_index(vq, &idx, &vq->avail->idx)))
		return -EFAULT;

	/* A jump by more than the ring holds is no announcement. */
	if (unlikely((u16)(idx - vq->last_avail_idx) > vq->num))
		return -EINVAL;
	if (idx == vq->avail_idx)
		return 0;

	vq->avail_idx = idx;
	/* Ring entries are read after the index that announces them. */
	smp_rmb();
	return 1;
}

/*
 * The rest of a chain that is more than one plain buffer.  @desc goes by value,
 * so that the caller has it in registers.
 */
static noinline int fetch_chain(struct vhost_virtqueue *vq,
				struct crosstalk_chain *chain, struct desc desc)
{
	struct walk walk = {
		.vq = vq,
		.chain = chain,
		.left = vq->num + USHRT_MAX + 1,
	};
	unsigned int found = 1;
	int ret;

	for (;;) {
		if (desc.flags & VRING_DESC_F_INDIRECT)
			ret = add_indirect(&walk, &desc);
		else
			ret = add_buffer(&walk, &desc);
		if (unlikely(ret))
			return ret;
		if (!(desc.flags & VRING_DESC_F_NEXT))
			return 0;

		if (unlikely(desc.next >= vq->num))
			return -EINVAL;
		/* A chain longer than the ring is a loop. */
		if (unlikely(++found > vq->num))
			return -EINVAL;

		ret = read_desc(vq, &desc, vq->desc + desc.next);
		if (unlikely(ret))
			return ret;
	}
}

/* One buffer in one region: what most chains are. */
static bool fetch_plain(struct vhost_virtqueue *vq,
			struct crosstalk_chain *chain, const struct desc *desc)
{
	const struct vhost_iotlb_map *map;

	if (desc->flags || unlikely(!desc->len) ||
	    unlikely(find_region(vq, chain, desc->addr, desc->addr)))
		return false;

	map = chain->map;
	if (unlikely(desc->len - 1 > map->last - desc->addr ||
		     !(map->perm & VHOST_ACCESS_RO)))
		return false;

	vq->iov[0].iov_base = u64_to_user_ptr(map->addr + desc->addr -
					      map->start);
	vq->iov[0].iov_len = desc->len;
	chain->out = 1;
	chain->out_len = desc->len;
	return true;
}

/**
 * crosstalk_vring_fetch() - take the next available chain off a ring
 * @vq: virtqueue with notifications switched off
 * @chain: filled in, but for @map; the segments themselves go to vq->iov
 *
 * Context: the queue's own worker, vq->mutex held; may fault and sleep.
 * Return: 1 for a chain, 0 for an empty ring, or a negative error, where the
 * queue must be left alone until the guest kicks again.
 */
int crosstalk_vring_fetch(struct vhost_virtqueue *vq,
			  struct crosstalk_chain *chain)
{
	struct desc desc;
	int ret;

	if (vq->avail_idx == vq->last_avail_idx) {
		ret = refresh_avail_idx(vq);
		if (ret <= 0)
			return ret;
	}

	chain->in = 0;
	ret = read_head(vq, chain, &desc);
	if (unlikely(ret))
		return ret;

	if (unlikely(!fetch_plain(vq, chain, &desc))) {
		chain->out = 0;
		chain->out_len = 0;
		ret = fetch_chain(vq, chain, desc);
		if (unlikely(ret))
			return ret;
	}

	vq->last_avail_idx++;
	return 1;
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_vring_fetch);

static int put_elems(vring_used_elem_t __user *to,
		     const struct vring_used_elem *from, unsigned int count)
{
	if (unlikely(!user_write_access_begin(to, count * sizeof(*to))))
		return -EFAULT;
	for (; count; count--, to++, from++) {
		unsafe_put_user(from->id, &to->id, fault);
		unsafe_put_user(from->len, &to->len, fault);
	}
	user_write_access_end();
	return 0;

fault:
	user_write_access_end();
	return -EFAULT;
}

static __always_inline void advance_used(struct vhost_virtqueue *vq,
					 unsigned int count)
{
	u16 old = vq->last_used_idx;

	vq->last_used_idx += count;
	/* 2^16 entries without a signal: the stored index says nothing now. */
	if (unlikely((u16)(vq->last_used_idx - vq->signalled_used) <
		     (u16)(vq->last_used_idx - old)))
		vq->signalled_used_valid = false;
}

/* The last of the elements, and the index that tells of all of them. */
static int put_last_elems(struct vhost_virtqueue *vq,
			  const struct vring_used_elem *from,
			  unsigned int count)
{
	vring_used_elem_t __user *to = vq->used->ring +
				       (vq->last_used_idx & (vq->num - 1));
	unsigned int i;

	/* vhost checked the address when it got it. */
	if (unlikely(!user_write_access_begin(vq->used, sizeof(*vq->used) +
					      vq->num * sizeof(*to))))
		return -EFAULT;
	for (i = 0; i < count; i++) {
		unsafe_put_user(from[i].id, &to[i].id, fault);
		unsafe_put_user(from[i].len, &to[i].len, fault);
	}
	advance_used(vq, count);
	/* The elements are there before the index says so. */
	smp_wmb();
	unsafe_put_user(cpu_to_vq16(vq, vq->last_used_idx), &vq->used->idx,
			fault);
	user_write_access_end();
	return 0;

fault:
	user_write_access_end();
	return -EFAULT;
}

/**
 * crosstalk_vring_add_used() - hand chains back to the guest
 * @vq: virtqueue
 * @heads: their used elements, in ring byte order
 * @count: how many, at most vq->num
 *
 * Context: the queue's own worker, vq->mutex held; may fault and sleep.
 * Return: 0, or -EFAULT when the guest's memory is gone.
 */
int crosstalk_vring_add_used(struct vhost_virtqueue *vq,
			     struct vring_used_elem *heads, unsigned int count)
{
	unsigned int start = vq->last_used_idx & (vq->num - 1);
	unsigned int room = vq->num - start;

	/* Writes to a logged ring are vhost's business: it knows the log. */
	if (unlikely(vq->log_used))
		return vhost_add_used_n(vq, heads, count) ? -EFAULT : 0;

	if (unlikely(count > room)) {
		if (unlikely(put_elems(vq->used->ring + start, heads, room)))
			return -EFAULT;
		advance_used(vq, room);
		heads += room;
		count -= room;
	}
	return put_last_elems(vq, heads, count);
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_vring_add_used);

static bool want_signal(struct vhost_virtqueue *vq)
{
	u16 event;
	u16 flags;
	bool valid;
	u16 old;

	/*
	 * The used index is visible before the guest's wish is read; pairs with
	 * the barrier of a guest that switches its interrupts on.
	 */
	smp_mb();

	if (vhost_vq_has(vq, VIRTIO_F_NOTIFY_ON_EMPTY) &&
	    unlikely(vq->avail_idx == vq->last_avail_idx))
		return true;

	if (!vhost_vq_has(vq, VIRTIO_RING_F_EVENT_IDX)) {
		if (unlikely(get_index(vq, &flags, &vq->avail->flags)))
			return true;
		return !(flags & VRING_AVAIL_F_NO_INTERRUPT);
	}

	old = vq->signalled_used;
	valid = vq->signalled_used_valid;
	vq->signalled_used = vq->last_used_idx;
	vq->signalled_used_valid = true;
	if (unlikely(!valid))
		return true;

	/* used_event lies behind the last entry of the available ring. */
	if (unlikely(get_index(vq, &event, &vq->avail->ring[vq->num])))
		return true;
	return vring_need_event(event, vq->last_used_idx, old);
}

/**
 * crosstalk_vring_signal() - interrupt the guest if it asked for it
 * @vq: virtqueue whose used ring was written
 *
 * Context: the queue's own worker, vq->mutex held; may fault and sleep.
 * Return: whether the call eventfd was signalled.
 */
bool crosstalk_vring_signal(struct vhost_virtqueue *vq)
{
	if (!vq->call_ctx.ctx || !want_signal(vq))
		return false;

	crosstalk_eventfd_signal(vq->call_ctx.ctx);
	return true;
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_vring_signal);

/**
 * crosstalk_vring_poll() - look for chains in a ring that was found empty
 * @vq: virtqueue with notifications switched off
 *
 * Context: the queue's own worker, vq->mutex held; may fault and sleep.
 * Return: 0 if there are none; else crosstalk_vring_fetch() knows more.
 */
int crosstalk_vring_poll(struct vhost_virtqueue *vq)
{
	return refresh_avail_idx(vq);
}

/* By the event index: a kick at the next chain, or chains that have come. */
static __always_inline int ask_by_event(struct vhost_virtqueue *vq)
{
	/* avail_event lies behind the last entry of the used ring. */
	if (unlikely(put_index((__virtio16 __user *)&vq->used->ring[vq->num],
			       cpu_to_vq16(vq, vq->avail_idx))))
		return -EFAULT;

	/* The wish is visible before the index is read again. */
	smp_mb();
	return refresh_avail_idx(vq);
}

/**
 * crosstalk_vring_enable_notify() - ask the guest for a kick at its next chain
 * @dev: device of @vq
 * @vq: virtqueue, found empty
 *
 * Context: the queue's own worker, vq->mutex held; may fault and sleep.
 * Return: true if chains have come meanwhile: switch off, and look again.
 */
bool crosstalk_vring_enable_notify(struct vhost_dev *dev,
				   struct vhost_virtqueue *vq)
{
	/* vhost knows the log, and how to do it by the flag. */
	if (unlikely(vq->log_used) ||
	    unlikely(!vhost_vq_has(vq, VIRTIO_RING_F_EVENT_IDX)))
		return vhost_enable_notify(dev, vq);

	vq->used_flags &= ~VRING_USED_F_NO_NOTIFY;
	/* As in vhost, an error counts as empty until the next kick. */
	return ask_by_event(vq) > 0;
}

/**
 * crosstalk_vring_ask() - look for chains, and ask for a kick if there are none
 * @vq: virtqueue with event indices, and one that is not logged
 *
 * crosstalk_vring_enable_notify() for who may have page faults disabled.
 *
 * Context: the queue's own worker, vq->mutex held.
 * Return: 0 for a kick at the next chain; 1 if chains have come, and then
 * notifications are off; a negative error if nothing is known.
 */
int crosstalk_vring_ask(struct vhost_virtqueue *vq)
{
	int ret;

	ret = ask_by_event(vq);
	if (!ret)
		vq->used_flags &= ~VRING_USED_F_NO_NOTIFY;
	return ret;
}

/**
 * crosstalk_vring_error() - tell the device's owner that its ring is broken
 * @vq: virtqueue
 *
 * Context: vq->mutex held.
 */
void crosstalk_vring_error(struct vhost_virtqueue *vq)
{
	if (vq->error_ctx)
		crosstalk_eventfd_signal(vq->error_ctx);
}
