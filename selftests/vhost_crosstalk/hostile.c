// SPDX-License-Identifier: GPL-2.0
/* Rings, descriptors and headers that no sane guest has. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hostile.h"
#include "ktap.h"

/* ---- a ring, written by hand ---- */

/* What is out for a TX ring is in for an RX ring, and the other way round. */
static u16 direction(const struct hostile *h, u16 flags)
{
	return h->r->is_rx ? flags ^ VRING_DESC_F_WRITE : flags;
}

static void desc(struct hostile *h, u16 i, u64 addr, u32 len, u16 flags,
		 u16 next)
{
	h->r->desc[i] = (struct vring_desc) {
		addr, len, direction(h, flags), next
	};
}

static void avail(struct hostile *h, u16 head)
{
	struct vp_ring *r = h->r;

	r->avail->ring[r->avail_idx++ % r->num] = head;
}

void hostile_publish(struct hostile *h)
{
	struct vp_ring *r = h->r;

	__atomic_store_n(&r->avail->idx, r->avail_idx, __ATOMIC_RELEASE);
	vp_ring_kick_anyway(r);
}

static struct vp_slot *slot(struct hostile *h, u16 i)
{
	return &h->r->slot[i % h->r->nslots];
}

/*
 * Slot @i's buffer gets a right frame, if it is for one; returns its length
 * with the header.
 */
static u32 frame(struct hostile *h, u16 i, u32 len)
{
	struct vp_flow_id id = { h->p->index, h->dst, 0, 0 };
	struct vp_slot *s = slot(h, i);
	struct virtio_net_hdr_v1 vnet;
	u8 dmac[6];

	if (h->r->is_rx)
		return h->r->buf_size + h->p->hlen;
	vp_mac(dmac, h->dst);
	len = vp_frame_build(s->buf + VP_HDR_ROOM, &vnet, VP_RAW, id, h->seq++,
			     len, dmac, 0);
	memcpy(s->buf + VP_HDR_ROOM - h->p->hlen, &vnet, h->p->hlen);
	return len + h->p->hlen;
}

static u64 at(struct hostile *h, u16 i)
{
	return slot(h, i)->gpa + VP_HDR_ROOM - h->p->hlen;
}

static u8 *ptr(struct hostile *h, u16 i)
{
	return slot(h, i)->buf + VP_HDR_ROOM - h->p->hlen;
}

void hostile_good(struct hostile *h, u16 i)
{
	desc(h, i, at(h, i), frame(h, i, HOSTILE_LEN), 0, 0);
	avail(h, i);
}

/* One entry of slot @i's indirect table. */
static void entry(struct hostile *h, u16 i, unsigned int k, u64 addr, u32 len,
		  u16 flags, u16 next)
{
	slot(h, i)->indirect[k] = (struct vring_desc) {
		addr, len, direction(h, flags), next
	};
}

static void table(struct hostile *h, u16 i, u32 bytes, u16 flags)
{
	h->r->desc[i] = (struct vring_desc) {
		slot(h, i)->indirect_gpa, bytes, VRING_DESC_F_INDIRECT | flags,
	};
}

static void indirect(struct hostile *h, u16 i, u32 bytes, u16 flags)
{
	table(h, i, bytes, flags);
	avail(h, i);
}

/* ---- single attacks; their descriptors: from B on ---- */

#define B 4

static void a_none(struct hostile *h)
{
	hostile_good(h, B);
}

static void a_index_jump(struct hostile *h)
{
	h->r->avail_idx += h->r->num + 1;
}

static void a_index_back(struct hostile *h)
{
	h->r->avail_idx -= 7;
}

static void a_head_too_big(struct hostile *h)
{
	avail(h, h->r->num);
}

static void a_head_huge(struct hostile *h)
{
	avail(h, 0xffff);
}

static void a_next_too_big(struct hostile *h)
{
	desc(h, B, at(h, B), frame(h, B, HOSTILE_LEN), VRING_DESC_F_NEXT, h->r->num);
	avail(h, B);
}

static void a_loop_self(struct hostile *h)
{
	desc(h, B, at(h, B), frame(h, B, HOSTILE_LEN), VRING_DESC_F_NEXT, B);
	avail(h, B);
}

static void a_loop_two(struct hostile *h)
{
	desc(h, B, at(h, B), 64, VRING_DESC_F_NEXT, B + 1);
	desc(h, B + 1, at(h, B), 64, VRING_DESC_F_NEXT, B);
	avail(h, B);
}

static void a_zero_length(struct hostile *h)
{
	desc(h, B, at(h, B), 0, 0, 0);
	avail(h, B);
}

static void a_zero_in_chain(struct hostile *h)
{
	u32 len = frame(h, B, HOSTILE_LEN);

	desc(h, B, at(h, B), 0, VRING_DESC_F_NEXT, B + 1);
	desc(h, B + 1, at(h, B), len, VRING_DESC_F_NEXT, B + 2);
	desc(h, B + 2, at(h, B), 0, 0, 0);
	avail(h, B);
}

static void a_header_only(struct hostile *h)
{
	desc(h, B, at(h, B), h->p->hlen, 0, 0);
	avail(h, B);
}

static void a_half_header(struct hostile *h)
{
	desc(h, B, at(h, B), 5, 0, 0);
	avail(h, B);
}

static void a_short_frame(struct hostile *h)
{
	frame(h, B, HOSTILE_LEN);
	desc(h, B, at(h, B), h->p->hlen + 13, 0, 0);
	avail(h, B);
}

static void a_ethernet_only(struct hostile *h)
{
	frame(h, B, HOSTILE_LEN);
	desc(h, B, at(h, B), h->p->hlen + 14, 0, 0);
	avail(h, B);
}

static void a_in_descriptor(struct hostile *h)
{
	desc(h, B, at(h, B), frame(h, B, HOSTILE_LEN), VRING_DESC_F_WRITE, 0);
	avail(h, B);
}

static void a_out_then_in(struct hostile *h)
{
	desc(h, B, at(h, B), frame(h, B, HOSTILE_LEN), VRING_DESC_F_NEXT, B + 1);
	desc(h, B + 1, at(h, B + 1), 64, VRING_DESC_F_WRITE, 0);
	avail(h, B);
}

static void a_in_then_out(struct hostile *h)
{
	desc(h, B, at(h, B + 1), 64, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, B + 1);
	desc(h, B + 1, at(h, B), frame(h, B, HOSTILE_LEN), 0, 0);
	avail(h, B);
}

static void a_address_outside(struct hostile *h)
{
	desc(h, B, 0x1000, 200, 0, 0);
	avail(h, B);
}

static void a_address_beyond(struct hostile *h)
{
	desc(h, B, vp_mem_end(&h->p->mem) - 100, 200, 0, 0);
	avail(h, B);
}

static void a_address_hole(struct hostile *h)
{
	struct vp_region *r = &h->p->mem.region[0];

	desc(h, B, r->gpa + r->size - 100, 200, 0, 0);
	avail(h, B);
}

static void a_address_wraps(struct hostile *h)
{
	desc(h, B, ~0ULL - 50, 200, 0, 0);
	avail(h, B);
}

static void a_length_max(struct hostile *h)
{
	desc(h, B, at(h, B), ~0U, 0, 0);
	avail(h, B);
}

static void a_length_sum(struct hostile *h)
{
	unsigned int i;

	/* 4 GiB and a bit, by the same bytes again and again. */
	for (i = 0; i < 20; i++)
		desc(h, B + i, h->p->mem.region[0].gpa,
		     h->p->mem.region[0].size, VRING_DESC_F_NEXT, B + i + 1);
	desc(h, B + i, at(h, B), 64, 0, 0);
	avail(h, B);
}

static void a_frame_80k(struct hostile *h)
{
	unsigned int i;

	frame(h, B, HOSTILE_LEN);
	desc(h, B, at(h, B), h->p->hlen + 14, VRING_DESC_F_NEXT, B + 1);
	for (i = 1; i < 40; i++)
		desc(h, B + i, at(h, B), 2000, VRING_DESC_F_NEXT, B + i + 1);
	desc(h, B + i, at(h, B), 2000, 0, 0);
	avail(h, B);
}

static void a_frame_64k(struct hostile *h)
{
	unsigned int i;

	frame(h, B, HOSTILE_LEN);
	desc(h, B, at(h, B), h->p->hlen + 14, VRING_DESC_F_NEXT, B + 1);
	for (i = 1; i < 32; i++)
		desc(h, B + i, at(h, B), 2000, VRING_DESC_F_NEXT, B + i + 1);
	desc(h, B + i, at(h, B), 1000, 0, 0);
	avail(h, B);
}

static void a_overlap(struct hostile *h)
{
	u32 len = frame(h, B, HOSTILE_LEN);

	desc(h, B, at(h, B), h->p->hlen, VRING_DESC_F_NEXT, B + 1);
	desc(h, B + 1, at(h, B) + h->p->hlen, len - h->p->hlen - 10,
	     VRING_DESC_F_NEXT, B + 2);
	desc(h, B + 2, at(h, B) + len - 10, 10, VRING_DESC_F_NEXT, B + 3);
	desc(h, B + 3, at(h, B), 40, 0, 0);
	avail(h, B);
}

static void a_same_head_twice(struct hostile *h)
{
	desc(h, B, at(h, B), frame(h, B, HOSTILE_LEN), 0, 0);
	avail(h, B);
	avail(h, B);
}

static void a_indirect_good(struct hostile *h)
{
	u32 len = frame(h, B, HOSTILE_LEN);

	entry(h, B, 0, at(h, B), 50, VRING_DESC_F_NEXT, 1);
	entry(h, B, 1, at(h, B) + 50, len - 50, 0, 0);
	indirect(h, B, 32, 0);
}

static void a_indirect_in_indirect(struct hostile *h)
{
	entry(h, B, 0, h->r->slot[B].indirect_gpa, 16, VRING_DESC_F_INDIRECT, 0);
	indirect(h, B, 16, 0);
}

static void a_indirect_and_next(struct hostile *h)
{
	entry(h, B, 0, at(h, B), frame(h, B, 100), 0, 0);
	indirect(h, B, 16, VRING_DESC_F_NEXT);
}

static void a_indirect_odd_length(struct hostile *h)
{
	entry(h, B, 0, at(h, B), frame(h, B, 100), 0, 0);
	indirect(h, B, 17, 0);
}

static void a_indirect_empty(struct hostile *h)
{
	indirect(h, B, 0, 0);
}

static void a_indirect_outside(struct hostile *h)
{
	desc(h, B, 0x1000, 32, VRING_DESC_F_INDIRECT, 0);
	avail(h, B);
}

static void a_indirect_at_the_end(struct hostile *h)
{
	desc(h, B, vp_mem_end(&h->p->mem) - 16, 32, VRING_DESC_F_INDIRECT, 0);
	avail(h, B);
}

static void a_indirect_loop(struct hostile *h)
{
	entry(h, B, 0, at(h, B), 50, VRING_DESC_F_NEXT, 1);
	entry(h, B, 1, at(h, B), 50, VRING_DESC_F_NEXT, 0);
	indirect(h, B, 32, 0);
}

static void a_indirect_next_outside(struct hostile *h)
{
	entry(h, B, 0, at(h, B), 50, VRING_DESC_F_NEXT, 9);
	indirect(h, B, 32, 0);
}

static void a_indirect_write(struct hostile *h)
{
	entry(h, B, 0, at(h, B), frame(h, B, 100), VRING_DESC_F_WRITE, 0);
	indirect(h, B, 16, 0);
}

/* More segments than vhost has I/O vectors. */
static void a_indirect_long(struct hostile *h)
{
	u64 gpa = h->p->mem.region[1].gpa;
	struct vring_desc *t = vp_mem_ptr(&h->p->mem, gpa);
	unsigned int i, n = 1100;

	/* The first region's counterpart, which has nothing in it. */
	if (!t)
		ktap_fail("no second region");
	for (i = 0; i < n; i++)
		t[i] = (struct vring_desc) {
			at(h, B), 16,
			direction(h, i + 1 < n ? VRING_DESC_F_NEXT : 0), i + 1
		};
	desc(h, B, gpa, n * 16, VRING_DESC_F_INDIRECT, 0);
	avail(h, B);
}

static void a_indirect_too_long(struct hostile *h)
{
	desc(h, B, h->p->mem.region[1].gpa, 0x20000 * 16,
	     VRING_DESC_F_INDIRECT, 0);
	avail(h, B);
}

static void header(struct hostile *h, u8 flags, u8 gso, u16 hdr_len,
		   u16 gso_size, u16 start, u16 offset)
{
	u32 len = frame(h, B, HOSTILE_LEN);
	struct virtio_net_hdr_v1 vnet = {
		.flags = flags, .gso_type = gso, .hdr_len = hdr_len,
		.gso_size = gso_size, .csum_start = start,
		.csum_offset = offset, .num_buffers = 0xffff,
	};

	memcpy(ptr(h, B), &vnet, h->p->hlen);
	desc(h, B, at(h, B), len, 0, 0);
	avail(h, B);
}

static void a_csum_outside(struct hostile *h)
{
	header(h, VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0, 0, 5000, 16);
}

static void a_csum_wraps(struct hostile *h)
{
	header(h, VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0, 0, 0xfffe, 0xfffe);
}

static void a_csum_at_end(struct hostile *h)
{
	header(h, VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0, 0, HOSTILE_LEN - 1, 0);
}

static void a_hdr_len_huge(struct hostile *h)
{
	header(h, VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0xffff, 0, 34, 6);
}

static void a_gso_unknown(struct hostile *h)
{
	header(h, 0, 0x55, 54, 100, 0, 0);
}

static void a_gso_size_zero(struct hostile *h)
{
	header(h, VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4, 54, 0,
	       34, 16);
}

static void a_gso_not_tcp(struct hostile *h)
{
	header(h, VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4, 54, 20,
	       34, 16);
}

static void a_gso_no_csum(struct hostile *h)
{
	header(h, 0, VIRTIO_NET_HDR_GSO_TCPV6, 54, 20, 34, 16);
}

static void a_flags_all(struct hostile *h)
{
	header(h, 0xff, 0, 0, 0, 34, 6);
}

/* Memory that is in the table and not mapped (any more). */
static void a_unmapped_data(struct hostile *h)
{
	struct vp_region *r = &h->p->mem.region[1];

	munmap(r->hva + 8192, 4096);
	desc(h, B, r->gpa + 8192, 200, 0, 0);
	avail(h, B);
}

static void a_unmapped_half(struct hostile *h)
{
	struct vp_region *r = &h->p->mem.region[1];
	u32 len = frame(h, B, HOSTILE_LEN);

	munmap(r->hva + 8192, 4096);
	memcpy(r->hva + 8192 - 50, ptr(h, B), 50);
	desc(h, B, r->gpa + 8192 - 50, len, 0, 0);
	avail(h, B);
}

static void a_unmapped_indirect(struct hostile *h)
{
	struct vp_region *r = &h->p->mem.region[1];

	munmap(r->hva + 8192, 4096);
	desc(h, B, r->gpa + 8192, 32, VRING_DESC_F_INDIRECT, 0);
	avail(h, B);
}

const struct hostile_attack hostile_attacks[] = {
#define A(x) { #x, a_ ## x, false }
#define D(x) { #x, a_ ## x, true }
	A(none), A(index_jump), A(index_back), A(head_too_big), A(head_huge),
	A(next_too_big), A(loop_self), A(loop_two), A(zero_length),
	A(zero_in_chain), A(header_only), D(half_header), A(short_frame),
	A(ethernet_only), A(in_descriptor), A(out_then_in), A(in_then_out),
	A(address_outside), A(address_beyond), A(address_hole),
	A(address_wraps), A(length_max), A(length_sum), A(frame_80k),
	A(frame_64k), A(overlap), A(same_head_twice), A(indirect_good),
	A(indirect_in_indirect), A(indirect_and_next), A(indirect_odd_length),
	A(indirect_empty), A(indirect_outside), A(indirect_at_the_end),
	A(indirect_loop), A(indirect_next_outside), A(indirect_write),
	A(indirect_long), A(indirect_too_long), D(csum_outside), D(csum_wraps),
	D(csum_at_end), D(hdr_len_huge), A(gso_unknown), A(gso_size_zero),
	A(gso_not_tcp), A(gso_no_csum), A(flags_all), D(unmapped_data),
	D(unmapped_half), A(unmapped_indirect),
#undef A
#undef D
};

const unsigned int hostile_nr_attacks = VP_ARRAY_SIZE(hostile_attacks);

/* ---- random mutation ---- */

/* Pages of the arena. */
#define P_GONE		2	/* not mapped any more; the memfd still has it */
#define P_READ_ONLY	4
#define P_NONE		6	/* mapped without any access */

static const u8 witness_byte = 0xa5;

void hostile_arena(struct hostile *h)
{
	struct vp_mem *m = &h->p->mem;
	struct vp_region *r = &m->region[m->n];
	size_t size = HOSTILE_PAGES * 4096;
	u8 *mem;

	h->witness = memfd_create("witness", MFD_CLOEXEC);
	ktap_assert(h->witness >= 0 && !ftruncate(h->witness, size), "memfd");
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, h->witness,
		   0);
	ktap_assert(mem != MAP_FAILED, "mmap: %s", strerror(errno));
	memset(mem, witness_byte, size);
	munmap(mem + P_GONE * 4096, 4096);
	mprotect(mem + P_READ_ONLY * 4096, 4096, PROT_READ);
	mprotect(mem + P_NONE * 4096, 4096, PROT_NONE);
	h->arena = mem;
	h->arena_gpa = vp_mem_end(m) + (1 << 28);
	*r = (struct vp_region) { h->arena_gpa, size, mem };
	m->n++;
	ktap_assert(!vp_set_mem(h->p, false), "SET_MEM_TABLE");
}

void hostile_check(struct hostile *h)
{
	static const unsigned int pages[] = { P_GONE, P_READ_ONLY, P_NONE };
	unsigned int i, k;
	u8 buf[4096];

	for (i = 0; i < VP_ARRAY_SIZE(pages); i++) {
		ktap_assert(pread(h->witness, buf, 4096, pages[i] * 4096) ==
			    4096, "pread");
		for (k = 0; k < 4096; k++)
			ktap_assert(buf[k] == witness_byte,
				    "page %u was written to, at %u", pages[i],
				    k);
	}
}

static u32 in(struct hostile *h, u32 lo, u32 hi)
{
	return vp_rand_in(&h->rnd, lo, hi);
}

static u64 some_page(struct hostile *h)
{
	static const unsigned int pages[] = {
		0, 1, P_GONE, P_READ_ONLY, P_NONE, HOSTILE_PAGES - 1,
	};

	return h->arena_gpa + 4096 * pages[in(h, 0, VP_ARRAY_SIZE(pages) - 1)];
}

static u64 some_address(struct hostile *h)
{
	struct vp_region *last = &h->p->mem.region[h->p->mem.n - 1];

	switch (in(h, 0, 11)) {
	case 0:
		return last->gpa + last->size - in(h, 0, 64);
	case 1:
		return some_page(h);
	case 2:		/* across two pages */
		return some_page(h) - in(h, 1, 200);
	case 3:
		return h->r->desc_gpa + in(h, 0, 64);
	case 4:
		return h->r->avail_gpa + in(h, 0, 16);
	case 5:
		return h->r->used_gpa + in(h, 0, 16);
	case 6:
		return in(h, 0, 4096);
	case 7:
		return ~0ULL - in(h, 0, 3000);
	case 8:
		return slot(h, in(h, 0, h->r->num - 1))->indirect_gpa;
	case 9:		/* the same bytes for everybody */
		return at(h, 0);
	default:
		return at(h, in(h, 0, h->r->num - 1)) + in(h, 0, 1) *
		       in(h, 0, 4096);
	}
}

static u32 some_length(struct hostile *h)
{
	static const u32 lengths[] = {
		0, 1, 9, 10, 11, 12, 13, 25, 26, 60, 1514, 1526, 2048, 4095,
		4096, 4097, 65535, 65550, 1 << 20, 1 << 31, ~0U,
	};

	if (in(h, 0, 1))
		return in(h, 0, 3000);
	return lengths[in(h, 0, VP_ARRAY_SIZE(lengths) - 1)];
}

static u16 some_flags(struct hostile *h)
{
	return in(h, 0, 3) ? in(h, 0, 7) : in(h, 0, 0xffff);
}

static u16 some_index(struct hostile *h)
{
	u16 num = h->r->num;

	switch (in(h, 0, 7)) {
	case 0:
		return num;
	case 1:
		return in(h, 0, 0xffff);
	default:
		return in(h, 0, num - 1);
	}
}

static struct vring_desc some_desc(struct hostile *h)
{
	return (struct vring_desc) {
		some_address(h), some_length(h), some_flags(h), some_index(h),
	};
}

static void right(struct hostile *h, u16 i)
{
	desc(h, i, at(h, i), frame(h, i, in(h, 60, 1500)), 0, 0);
}

static void mutate_desc(struct hostile *h, u16 i)
{
	struct vring_desc *d = &h->r->desc[i];

	switch (in(h, 0, 5)) {
	case 0:
		d->addr = some_address(h);
		break;
	case 1:
		d->len = some_length(h);
		break;
	case 2:
		d->flags = some_flags(h);
		break;
	case 3:
		d->next = some_index(h);
		d->flags |= VRING_DESC_F_NEXT;
		break;
	case 4:
		*d = some_desc(h);
		break;
	default:	/* one bit of it */
		((u8 *)d)[in(h, 0, 15)] ^= 1 << in(h, 0, 7);
	}
}

/* A table that slot @i has room for one entry of; the rest is what follows. */
static void mutate_indirect(struct hostile *h, u16 i)
{
	struct vring_desc *d = &h->r->desc[i];
	struct vring_desc *t;
	u64 gpa = h->arena_gpa + in(h, 0, 1) * (4096 - 16 * in(h, 1, 4));
	unsigned int k, n = in(h, 1, 8);

	t = vp_mem_ptr(&h->p->mem, gpa);
	for (k = 0; k < n; k++) {
		u16 flags = k + 1 < n ? VRING_DESC_F_NEXT : 0;

		t[k] = (struct vring_desc) {
			at(h, i), in(h, 0, 400), direction(h, flags), k + 1,
		};
	}
	if (in(h, 0, 1))
		t[in(h, 0, n - 1)] = some_desc(h);
	*d = (struct vring_desc) { gpa, n * 16, VRING_DESC_F_INDIRECT, 0 };
	switch (in(h, 0, 9)) {
	case 0:
		d->len = some_length(h);
		break;
	case 1:
		d->addr += in(h, 1, 15);
		break;
	case 2:
		d->addr = some_address(h);
		break;
	case 3:
		d->flags |= VRING_DESC_F_NEXT;
		break;
	}
}

static void mutate_avail(struct hostile *h)
{
	struct vp_ring *r = h->r;

	switch (in(h, 0, 15)) {
	case 0:		/* a jump */
		WRITE_ONCE(r->avail->idx, in(h, 0, 0xffff));
		break;
	case 1:
		WRITE_ONCE(r->avail->idx, r->avail_idx - in(h, 1, 7));
		break;
	case 2:
		WRITE_ONCE(r->avail->flags, in(h, 0, 0xffff));
		break;
	case 3:
		r->avail->ring[r->num] = in(h, 0, 0xffff);
		break;
	default:
		r->avail->ring[in(h, 0, r->num - 1)] = some_index(h);
	}
}

/* The device's own part, which it must not believe. */
static void mutate_used(struct hostile *h)
{
	struct vp_ring *r = h->r;

	switch (in(h, 0, 3)) {
	case 0:
		WRITE_ONCE(r->used->idx, in(h, 0, 0xffff));
		break;
	case 1:
		WRITE_ONCE(r->used->flags, in(h, 0, 0xffff));
		break;
	case 2:
		*(u16 *)&r->used->ring[r->num] = in(h, 0, 0xffff);
		break;
	default:
		memset(&r->used->ring[in(h, 0, r->num - 1)], in(h, 0, 255), 8);
	}
}

/* virtio-net header, Ethernet header, and what follows. */
static void mutate_frame(struct hostile *h, u16 i)
{
	static const u16 types[] = {
		0x0800, 0x0806, 0x86dd, 0x8100, 0x88a8, 0x8808, 0x8809, 0x88cc,
		0x888e, 0x8902, 0x88e3, 0x8847, 0x9000, 0, 46, 1500,
	};
	u8 *v = ptr(h, i), *eth = v + h->p->hlen;
	u16 type = types[in(h, 0, VP_ARRAY_SIZE(types) - 1)];

	if (h->r->is_rx)
		return;
	switch (in(h, 0, 8)) {
	case 0:
		v[0] = in(h, 0, 255);
		break;
	case 1:
		v[0] = 1;
		v[1] = in(h, 0, 1) ? in(h, 0, 5) : in(h, 0, 255);
		break;
	case 2:		/* GSO of all sizes */
		v[0] = 1;
		v[1] = in(h, 0, 1) ? 1 : 4;
		*(u16 *)(v + 2) = in(h, 0, 100);
		*(u16 *)(v + 4) = in(h, 0, 2000);
		*(u16 *)(v + 6) = 34;
		*(u16 *)(v + 8) = 16;
		break;
	case 3:
		*(u16 *)(v + 2 + 2 * in(h, 0, 4)) = in(h, 0, 0xffff);
		break;
	case 4:
		eth[in(h, 0, 5)] = in(h, 0, 255);
		break;
	case 5:
		memset(eth, 0xff, 6);
		break;
	case 6:		/* to everybody of the world, itself included */
		vp_mac(eth, in(h, 0, 5));
		break;
	case 7:
		eth[12] = type >> 8;
		eth[13] = type;
		break;
	default:
		eth[in(h, 14, 100)] = in(h, 0, 255);
	}
}

void hostile_mutate(struct hostile *h)
{
	struct vp_ring *r = h->r;
	u16 i = in(h, 0, r->num - 1);

	h->mutations++;
	switch (in(h, 0, 9)) {
	case 0:
	case 1:
		mutate_desc(h, i);
		break;
	case 2:
		mutate_indirect(h, i);
		break;
	case 3:
		mutate_avail(h);
		break;
	case 4:
		mutate_used(h);
		break;
	case 5:
	case 6:
		right(h, i);
		mutate_frame(h, i);
		break;
	default:
		right(h, i);
	}
}

void hostile_heal(struct hostile *h)
{
	struct vp_ring *r = h->r;
	struct vhost_vring_state base = {
		r->is_rx ? VP_VQ_RX : VP_VQ_TX, 0
	};
	u16 i;

	for (i = 0; i < r->num; i++) {
		right(h, i);
		r->avail->ring[i] = i;
	}
	WRITE_ONCE(r->avail->flags, 0);
	ktap_assert(!ioctl(h->p->qp[0].vhost, VHOST_GET_VRING_BASE, &base),
		    "GET_VRING_BASE: %s", strerror(errno));
	/* Half of the ring: there is room for more. */
	r->avail_idx = base.num + r->num / 2;
}
