// SPDX-License-Identifier: GPL-2.0
/*
 * The driver's side of a split ring.
 *
 * A ring has a fixed number of slots; each owns one buffer and as many
 * descriptors as its chains may get, at random places in the table, so that
 * "next" is really followed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "ktap.h"
#include "vpeer.h"

static u16 *used_event(struct vp_ring *r)
{
	return &r->avail->ring[r->num];
}

static u16 avail_event(struct vp_ring *r)
{
	return READ_ONCE(*(u16 *)&r->used->ring[r->num]);
}

static u64 slot_bytes(const struct vp_ring_cfg *cfg)
{
	return (VP_HDR_ROOM + cfg->buf_size + 63) & ~63ULL;
}

/* Guest memory that a ring takes, alignment included. */
u64 vp_ring_bytes(const struct vp_ring_cfg *cfg)
{
	unsigned int chain = vp_max(cfg->chain, 1U);
	u64 nslots = vp_max(cfg->num / chain, 1U);

	return 2 * (4096 + 256 + 26ULL * cfg->num) + 4096 +
	       nslots * (slot_bytes(cfg) + chain * 16 + 64);
}

/*
 * Give the ring's three parts a (new) place in guest memory; descriptors move
 * along.
 */
int vp_ring_place(struct vp_ring *r, struct vp_mem *m)
{
	struct vring_desc *old = r->desc;
	unsigned int i;

	for (i = 0; !old && i < 2; i++) {
		r->place[i][0] = vp_mem_alloc(m, 16 * r->num, 4096);
		r->place[i][1] = vp_mem_alloc(m, 6 + 2 * r->num, 64);
		r->place[i][2] = vp_mem_alloc(m, 6 + 8 * r->num, 64);
	}
	r->side = !r->side;
	r->desc_gpa = r->place[r->side][0];
	r->avail_gpa = r->place[r->side][1];
	r->used_gpa = r->place[r->side][2];
	r->desc = vp_mem_ptr(m, r->desc_gpa);
	r->avail = vp_mem_ptr(m, r->avail_gpa);
	r->used = vp_mem_ptr(m, r->used_gpa);
	if (!r->desc || !r->avail || !r->used)
		return -EFAULT;
	if (old)
		memmove(r->desc, old, 16 * r->num);
	else
		memset(r->desc, 0, 16 * r->num);
	memset(r->avail, 0, 6 + 2 * r->num);
	memset(r->used, 0, 6 + 8 * r->num);
	return 0;
}

static void shuffle(u16 *v, unsigned int n, struct vp_rand *rnd)
{
	while (n > 1) {
		unsigned int j = vp_rand_in(rnd, 0, n - 1);
		u16 t = v[--n];

		v[n] = v[j];
		v[j] = t;
	}
}

int vp_ring_init(struct vp_ring *r, struct vp_mem *m,
		 const struct vp_ring_cfg *cfg, struct vp_rand *rnd)
{
	unsigned int i, chain = vp_max(cfg->chain, 1U);
	u16 *perm;

	memset(r, 0, sizeof(*r));
	r->num = cfg->num;
	r->event_idx = cfg->event_idx;
	r->is_rx = cfg->is_rx;
	r->hlen = cfg->hlen;
	r->chain = vp_min(chain, (unsigned int)cfg->num);
	r->nslots = cfg->num / r->chain;
	r->buf_size = cfg->buf_size;
	if (vp_ring_place(r, m))
		return -EFAULT;

	r->slot = calloc(r->nslots, sizeof(*r->slot));
	r->owner = calloc(r->num, sizeof(u16));
	r->free = calloc(r->nslots, sizeof(u16));
	r->order = calloc(r->num, sizeof(u16));
	perm = calloc(r->num, sizeof(u16));
	if (!r->slot || !r->owner || !r->free || !r->order || !perm)
		return -ENOMEM;
	for (i = 0; i < r->num; i++)
		perm[i] = i;
	if (r->chain > 1)
		shuffle(perm, r->num, rnd);
	for (i = 0; i < r->nslots; i++) {
		struct vp_slot *s = &r->slot[i];

		s->gpa = vp_mem_alloc(m, slot_bytes(cfg), 64);
		s->buf = vp_mem_ptr(m, s->gpa);
		s->indirect_gpa = vp_mem_alloc(m, r->chain * 16, 16);
		s->indirect = vp_mem_ptr(m, s->indirect_gpa);
		s->idx = perm + i * r->chain;
		r->owner[s->idx[0]] = i;
	}
	for (i = r->nslots; i--; )
		vp_ring_put_slot(r, &r->slot[i]);

	r->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->err = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vp_ring_cb_disable(r);
	return 0;
}

void vp_ring_free(struct vp_ring *r)
{
	if (!r->slot)
		return;
	free(r->slot[0].idx);
	free(r->slot);
	free(r->owner);
	free(r->free);
	free(r->order);
	close(r->kick);
	close(r->call);
	close(r->err);
	memset(r, 0, sizeof(*r));
}

/*
 * After vp_ring_place() and GET_VRING_BASE = @base: post what the device has
 * not consumed again, in the same order, in a ring that starts at zero.
 */
void vp_ring_restart(struct vp_ring *r, u16 base)
{
	u16 *pending = calloc(r->num, sizeof(u16));
	unsigned int n = 0, i;
	u16 a;

	for (a = base; a != r->avail_idx; a++)
		pending[n++] = r->order[a % r->num];
	r->avail_idx = 0;
	r->kick_idx = 0;
	r->used_idx = 0;
	for (i = 0; i < n; i++)
		vp_ring_repost(r, &r->slot[pending[i]]);
	vp_ring_cb_disable(r);
	free(pending);
}

static void publish(struct vp_ring *r, struct vp_slot *s)
{
	u16 at = r->avail_idx % r->num;

	s->busy = true;
	r->order[at] = s - r->slot;
	r->avail->ring[at] = s->idx[0];
	__atomic_store_n(&r->avail->idx, ++r->avail_idx, __ATOMIC_RELEASE);
}

static void fill(struct vring_desc *table, const u16 *idx,
		 const struct vp_seg *seg, unsigned int n, u16 flags)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		struct vring_desc *d = &table[idx ? idx[i] : i];

		d->addr = seg[i].gpa;
		d->len = seg[i].len;
		d->flags = flags | (i + 1 < n ? VRING_DESC_F_NEXT : 0);
		d->next = i + 1 < n ? (idx ? idx[i + 1] : i + 1) : 0;
	}
}

void vp_ring_post(struct vp_ring *r, struct vp_slot *s,
		  const struct vp_seg *seg, unsigned int n, bool indirect)
{
	u16 flags = r->is_rx ? VRING_DESC_F_WRITE : 0;
	unsigned int i;

	s->len = 0;
	for (i = 0; i < n; i++)
		s->len += seg[i].len;
	if (indirect) {
		struct vp_seg table = { s->indirect_gpa, n * 16 };

		fill(s->indirect, NULL, seg, n, flags);
		fill(r->desc, s->idx, &table, 1, VRING_DESC_F_INDIRECT);
	} else {
		fill(r->desc, s->idx, seg, n, flags);
	}
	publish(r, s);
}

/* Post a slot again with the descriptors that it has. */
void vp_ring_repost(struct vp_ring *r, struct vp_slot *s)
{
	publish(r, s);
}

/*
 * Cut a slot's buffer (header and @len bytes of data) into segments.  Returns
 * their number; the virtio-net header's place is in s->hdr.
 */
unsigned int vp_ring_split(const struct vp_ring *r, struct vp_slot *s, u32 len,
			   enum vp_layout layout, unsigned int max,
			   struct vp_rand *rnd, struct vp_seg *seg)
{
	u64 data = s->gpa + VP_HDR_ROOM;
	unsigned int n = 0;

	if (layout == VP_LAYOUT_RANDOM)
		layout = vp_rand_in(rnd, VP_LAYOUT_ONE, VP_LAYOUT_MANY);
	if (max < 2)
		layout = VP_LAYOUT_ONE;
	if (layout == VP_LAYOUT_ONE) {
		s->hdr = s->buf + VP_HDR_ROOM - r->hlen;
		seg[0].gpa = data - r->hlen;
		seg[0].len = len + r->hlen;
		return 1;
	}
	s->hdr = s->buf;
	seg[n].gpa = s->gpa;
	seg[n++].len = r->hlen;
	while (len && n < max) {
		u32 part = len;

		if (layout == VP_LAYOUT_MANY && n + 1 < max)
			part = vp_rand_in(rnd, 1, len / (max - n) * 2 + 1);
		part = vp_min(part, len);
		seg[n].gpa = data;
		seg[n++].len = part;
		data += part;
		len -= part;
	}
	return n;
}

/* The next completed slot.  An element that makes no sense is counted. */
struct vp_slot *vp_ring_pop(struct vp_ring *r, u32 *len)
{
	struct vring_used_elem *e;
	struct vp_slot *s;

	for (;;) {
		if (__atomic_load_n(&r->used->idx, __ATOMIC_ACQUIRE) ==
		    r->used_idx)
			return NULL;
		e = &r->used->ring[r->used_idx++ % r->num];
		if (e->id < r->num) {
			s = &r->slot[r->owner[e->id]];
			if (s->busy && s->idx[0] == e->id &&
			    e->len <= (r->is_rx ? s->len : 0)) {
				s->busy = false;
				*len = e->len;
				return s;
			}
		}
		if (!r->bad_used++)
			ktap_msg("%s ring, used entry %u: id %u, len %u of %u",
				 r->is_rx ? "RX" : "TX", (u16)(r->used_idx - 1),
				 e->id, e->len, e->id < r->num ?
				 r->slot[r->owner[e->id]].len : 0);
	}
}

/* Tell the device of new entries, if it asked for that. */
bool vp_ring_kick(struct vp_ring *r)
{
	u16 old = r->kick_idx;
	u64 one = 1;
	bool need;

	if (old == r->avail_idx)
		return false;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	r->kick_idx = r->avail_idx;
	if (r->event_idx)
		need = (u16)(r->avail_idx - avail_event(r) - 1) <
		       (u16)(r->avail_idx - old);
	else
		need = !(READ_ONCE(r->used->flags) & VRING_USED_F_NO_NOTIFY);
	if (!need)
		return false;
	r->kicks++;
	return write(r->kick, &one, sizeof(one)) == sizeof(one);
}

/* The same, whether it asked or not. */
void vp_ring_kick_anyway(struct vp_ring *r)
{
	u64 one = 1;

	r->kick_idx = r->avail_idx;
	if (write(r->kick, &one, sizeof(one)) == sizeof(one))
		r->kicks++;
}

/*
 * Ask for a call when @ahead more entries than one are used.  True when that
 * has happened already.
 */
bool vp_ring_cb_enable(struct vp_ring *r, u16 ahead)
{
	u16 want = r->used_idx + ahead;

	r->cb_on = true;
	if (r->event_idx)
		WRITE_ONCE(*used_event(r), want);
	else
		WRITE_ONCE(r->avail->flags, 0);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return (u16)(READ_ONCE(r->used->idx) - r->used_idx) > ahead;
}

void vp_ring_cb_disable(struct vp_ring *r)
{
	r->cb_on = false;
	if (r->event_idx)
		WRITE_ONCE(*used_event(r), r->used_idx - 1);
	else
		WRITE_ONCE(r->avail->flags, VRING_AVAIL_F_NO_INTERRUPT);
}

void vp_ring_call_clear(struct vp_ring *r)
{
	u64 n;

	if (read(r->call, &n, sizeof(n)) == sizeof(n))
		r->calls += n;
}
