// SPDX-License-Identifier: GPL-2.0
/*
 * The fixture of the tests that need a guest's memory.
 */

#include <linux/limits.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/uaccess.h>

#include "guest.h"
#include "user_mm.h"

/* Where everything is in the user memory. */
#define MEM_DESC	0x000000
#define MEM_AVAIL	0x001000
#define MEM_USED	0x002000
#define MEM_HIGH	0x004000
#define MEM_LOW		0x008000
#define MEM_WO		0x00c000
#define MEM_RO		0x00d000
#define MEM_TOP		0x00e000
#define MEM_ZERO	0x00f000
#define MEM_LOG		0x010000
#define MEM_TINY	0x011000
#define MEM_BIG		0x020000
#define MEM_GONE	(MEM_BIG + GUEST_BIG_SIZE)
#define MEM_SIZE	(MEM_GONE + 2 * PAGE_SIZE)

/* Tiny regions follow each other in the guest, not in user memory. */
#define TINY_STRIDE	(2 * GUEST_TINY_SIZE)

struct region {
	u64 addr;
	u64 size;
	u32 offset;
	u8 perm;
};

static const struct region regions[] = {
	{ GUEST_ZERO, PAGE_SIZE, MEM_ZERO, VHOST_ACCESS_RW },
	{ GUEST_LOW, GUEST_LOW_SIZE, MEM_LOW, VHOST_ACCESS_RW },
	{ GUEST_HIGH, GUEST_HIGH_SIZE, MEM_HIGH, VHOST_ACCESS_RW },
	{ GUEST_WO, PAGE_SIZE, MEM_WO, VHOST_ACCESS_WO },
	{ GUEST_RO, PAGE_SIZE, MEM_RO, VHOST_ACCESS_RO },
	{ GUEST_BIG, GUEST_BIG_SIZE, MEM_BIG, VHOST_ACCESS_RW },
	{ GUEST_GONE, PAGE_SIZE, MEM_GONE, VHOST_ACCESS_RW },
	{ GUEST_TOP, PAGE_SIZE, MEM_TOP, VHOST_ACCESS_RW },
};

KUNIT_DEFINE_ACTION_WRAPPER(free_umem, vhost_iotlb_free, struct vhost_iotlb *);

static void map_memory(struct guest *g)
{
	unsigned long flags = MAP_ANONYMOUS | MAP_PRIVATE;
	unsigned long base, gone;

	base = kunit_vm_mmap(g->test, NULL, 0, MEM_SIZE, PROT_READ | PROT_WRITE,
			     flags, 0);
	KUNIT_ASSERT_NE(g->test, base, 0);
	KUNIT_ASSERT_LT(g->test, base, TASK_SIZE);
	drop_extra_reference(current->mm);

	gone = vm_mmap(NULL, base + MEM_GONE, PAGE_SIZE, PROT_NONE,
		       flags | MAP_FIXED, 0);
	KUNIT_ASSERT_EQ(g->test, gone, base + MEM_GONE);

	g->mem = (u8 __user *)base;
	g->gone = g->mem + MEM_GONE;
	g->log = g->mem + MEM_LOG;
}

static void add_region(struct guest *g, const struct region *region)
{
	unsigned long addr = (unsigned long)(g->mem + region->offset);

	KUNIT_ASSERT_EQ(g->test, 0,
			vhost_iotlb_add_range(g->vq.umem, region->addr,
					      region->addr + region->size - 1,
					      addr, region->perm));
}

static void make_memory_table(struct guest *g)
{
	struct vhost_iotlb *umem;
	unsigned int i;

	umem = vhost_iotlb_alloc(ARRAY_SIZE(regions) + GUEST_NR_TINY, 0);
	KUNIT_ASSERT_NOT_NULL(g->test, umem);
	KUNIT_ASSERT_EQ(g->test, 0,
			kunit_add_action_or_reset(g->test, free_umem, umem));
	g->vq.umem = umem;
	g->dev.umem = umem;

	for (i = 0; i < ARRAY_SIZE(regions); i++)
		add_region(g, &regions[i]);
}

/**
 * guest_add_tiny() - add GUEST_NR_TINY regions in a row at GUEST_TINY
 * @g: guest
 */
void guest_add_tiny(struct guest *g)
{
	struct region tiny = {
		.addr = GUEST_TINY,
		.size = GUEST_TINY_SIZE,
		.offset = MEM_TINY,
		.perm = VHOST_ACCESS_RW,
	};
	unsigned int i;

	for (i = 0; i < GUEST_NR_TINY; i++) {
		add_region(g, &tiny);
		tiny.addr += GUEST_TINY_SIZE;
		tiny.offset += TINY_STRIDE;
	}
}

/**
 * guest_init() - a suite's init: puts a struct guest into test->priv
 * @test: test
 *
 * Return: 0; a failure aborts the test.
 */
int guest_init(struct kunit *test)
{
	struct guest *g = kunit_kzalloc(test, sizeof(*g), GFP_KERNEL);
	struct vhost_virtqueue *vq;

	KUNIT_ASSERT_NOT_NULL(test, g);
	test->priv = g;
	g->test = test;

	vq = &g->vq;
	mutex_init(&vq->mutex);
	vq->dev = &g->dev;
	vq->indirect = g->indirect;
	vq->num = GUEST_RING_NUM;
	vq->acked_features = BIT_ULL(VIRTIO_F_VERSION_1);
	vq->is_le = true;
	vq->used_flags = VRING_USED_F_NO_NOTIFY;

	map_memory(g);
	make_memory_table(g);
	vq->desc = (vring_desc_t __user *)(g->mem + MEM_DESC);
	vq->avail = (vring_avail_t __user *)(g->mem + MEM_AVAIL);
	vq->used = (vring_used_t __user *)(g->mem + MEM_USED);
	return 0;
}

/**
 * guest_user_ptr() - where a guest-physical address is in user memory
 * @g: guest
 * @addr: address in one of the guest's regions
 *
 * Return: its user address; an address outside them aborts the test.
 */
void __user *guest_user_ptr(struct guest *g, u64 addr)
{
	u64 tiny = addr - GUEST_TINY;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(regions); i++)
		if (addr - regions[i].addr < regions[i].size)
			return g->mem + regions[i].offset +
			       (addr - regions[i].addr);

	KUNIT_ASSERT_LT(g->test, tiny, GUEST_NR_TINY * GUEST_TINY_SIZE);
	return g->mem + MEM_TINY + tiny / GUEST_TINY_SIZE * TINY_STRIDE +
	       tiny % GUEST_TINY_SIZE;
}

/**
 * guest_write() - write guest memory, across regions where it must be
 * @g: guest
 * @addr: guest-physical address
 * @from: what to write
 * @len: bytes
 */
void guest_write(struct guest *g, u64 addr, const void *from, size_t len)
{
	while (len) {
		/* No region begins or ends inside such a piece. */
		size_t size = min_t(size_t, len, GUEST_TINY_SIZE -
				    addr % GUEST_TINY_SIZE);

		KUNIT_ASSERT_EQ(g->test, 0,
				copy_to_user(guest_user_ptr(g, addr), from,
					     size));
		addr += size;
		from += size;
		len -= size;
	}
}

static struct vring_desc raw_desc(const struct guest *g,
				  const struct guest_desc *desc)
{
	const struct vhost_virtqueue *vq = &g->vq;

	return (struct vring_desc) {
		.addr = __cpu_to_virtio64(vhost_vq_is_le(vq), desc->addr),
		.len = cpu_to_vq32(vq, desc->len),
		.flags = cpu_to_vq16(vq, desc->flags),
		.next = cpu_to_vq16(vq, desc->next),
	};
}

/**
 * guest_put_desc() - write a descriptor of the ring
 * @g: guest
 * @i: its index
 * @desc: descriptor
 */
void guest_put_desc(struct guest *g, unsigned int i,
		    const struct guest_desc *desc)
{
	struct vring_desc raw = raw_desc(g, desc);

	KUNIT_ASSERT_EQ(g->test, 0,
			copy_to_user(g->vq.desc + i, &raw, sizeof(raw)));
}

/**
 * guest_put_table() - write an indirect table
 * @g: guest
 * @addr: guest-physical address
 * @desc: descriptors
 * @nr: how many
 */
void guest_put_table(struct guest *g, u64 addr, const struct guest_desc *desc,
		     unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		struct vring_desc raw = raw_desc(g, &desc[i]);

		guest_write(g, addr + i * sizeof(raw), &raw, sizeof(raw));
	}
}

/**
 * guest_put_avail_idx() - announce chains up to an index
 * @g: guest
 * @idx: index after the last one
 */
void guest_put_avail_idx(struct guest *g, u16 idx)
{
	KUNIT_ASSERT_EQ(g->test, 0, put_user(cpu_to_vq16(&g->vq, idx),
					     &g->vq.avail->idx));
}

/**
 * guest_put_avail() - make a chain available and announce it
 * @g: guest
 * @idx: its place in the stream of chains
 * @head: its first descriptor
 */
void guest_put_avail(struct guest *g, u16 idx, u16 head)
{
	struct vhost_virtqueue *vq = &g->vq;

	KUNIT_ASSERT_EQ(g->test, 0,
			put_user(cpu_to_vq16(vq, head),
				 &vq->avail->ring[idx & (vq->num - 1)]));
	guest_put_avail_idx(g, idx + 1);
}

/**
 * guest_save() - what ring access may change in the virtqueue
 * @g: guest
 *
 * Return: the values now.
 */
struct guest_vq_state guest_save(const struct guest *g)
{
	const struct vhost_virtqueue *vq = &g->vq;

	return (struct guest_vq_state) {
		.last_avail_idx = vq->last_avail_idx,
		.avail_idx = vq->avail_idx,
		.last_used_idx = vq->last_used_idx,
		.signalled_used = vq->signalled_used,
		.signalled_used_valid = vq->signalled_used_valid,
	};
}

/**
 * guest_restore() - undo what ring access changed in the virtqueue
 * @g: guest
 * @state: from guest_save()
 */
void guest_restore(struct guest *g, const struct guest_vq_state *state)
{
	struct vhost_virtqueue *vq = &g->vq;

	vq->last_avail_idx = state->last_avail_idx;
	vq->avail_idx = state->avail_idx;
	vq->last_used_idx = state->last_used_idx;
	vq->signalled_used = state->signalled_used;
	vq->signalled_used_valid = state->signalled_used_valid;
}

/**
 * guest_expect_state() - compare the virtqueue's indices
 * @g: guest
 * @want: what they should be
 */
void guest_expect_state(struct guest *g, const struct guest_vq_state *want)
{
	const struct vhost_virtqueue *vq = &g->vq;

	KUNIT_EXPECT_EQ(g->test, vq->last_avail_idx, want->last_avail_idx);
	KUNIT_EXPECT_EQ(g->test, vq->avail_idx, want->avail_idx);
	KUNIT_EXPECT_EQ(g->test, vq->last_used_idx, want->last_used_idx);
	KUNIT_EXPECT_EQ(g->test, vq->signalled_used, want->signalled_used);
	KUNIT_EXPECT_EQ(g->test, vq->signalled_used_valid,
			want->signalled_used_valid);
}
