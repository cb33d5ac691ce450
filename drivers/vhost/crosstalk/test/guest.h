/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest's memory and one ring in it, as a vhost worker sees them: user memory
 * in the address space of the test's thread, a memory table, a virtqueue.
 */
#ifndef _CROSSTALK_TEST_GUEST_H
#define _CROSSTALK_TEST_GUEST_H

#include <kunit/test.h>
#include <linux/sizes.h>
#include <linux/types.h>

#include "vhost_private.h"
#include "vring.h"

/* Entries of the ring, unless a test asks for another size. */
#define GUEST_RING_NUM 8
#define GUEST_RING_MAX 256

/*
 * Guest-physical regions.  LOW, HIGH and WO follow each other in the guest and
 * lie apart in user memory.
 */
#define GUEST_ZERO	0ULL
#define GUEST_LOW	0x10000ULL
#define GUEST_HIGH	0x14000ULL
#define GUEST_WO	0x18000ULL		/* the host may only write */
#define GUEST_RO	0x20000ULL		/* the host may only read */
#define GUEST_BIG	0x100000ULL
#define GUEST_GONE	0x300000ULL		/* in the table, but not mapped */
#define GUEST_TINY	0x400000ULL		/* see guest_add_tiny() */
#define GUEST_TOP	0xfffffffffffff000ULL	/* the last of 64 bits */

#define GUEST_LOW_SIZE	SZ_16K
#define GUEST_HIGH_SIZE	SZ_16K
#define GUEST_BIG_SIZE	(SZ_1M + SZ_64K)
#define GUEST_TINY_SIZE	16
#define GUEST_NR_TINY	(UIO_MAXIOV + 1)

/* A descriptor in CPU byte order. */
struct guest_desc {
	u64 addr;
	u32 len;
	u16 flags;
	u16 next;
};

/* What ring access changes in a virtqueue. */
struct guest_vq_state {
	u16 last_avail_idx;
	u16 avail_idx;
	u16 last_used_idx;
	u16 signalled_used;
	bool signalled_used_valid;
};

/**
 * struct guest - the fixture
 * @test: test that it belongs to
 * @mem: user memory that holds the regions and the rings
 * @gone: one page in it that cannot be accessed; memory lies on both sides
 * @log: a page for a dirty log
 * @indirect: what vhost translates indirect tables into
 * @theirs: where vhost may put the segments of a chain
 * @dev: as much of a device as vhost's ring functions need
 * @vq: a ring of GUEST_RING_NUM entries, empty, notifications off
 */
struct guest {
	struct kunit *test;
	u8 __user *mem;
	u8 __user *gone;
	u8 __user *log;
	struct iovec indirect[UIO_MAXIOV];
	struct iovec theirs[UIO_MAXIOV];
	struct vhost_dev dev;
	struct vhost_virtqueue vq;
};

/* Exported by vhost.ko; what the module's own functions are compared with. */
int vhost_get_vq_desc(struct vhost_virtqueue *vq, struct iovec *iov,
		      unsigned int iov_size, unsigned int *out_num,
		      unsigned int *in_num, struct vhost_log *log,
		      unsigned int *log_num);
void vhost_signal(struct vhost_dev *dev, struct vhost_virtqueue *vq);

int guest_init(struct kunit *test);
void guest_add_tiny(struct guest *g);

void guest_write(struct guest *g, u64 addr, const void *from, size_t len);
void __user *guest_user_ptr(struct guest *g, u64 addr);

void guest_put_desc(struct guest *g, unsigned int i,
		    const struct guest_desc *desc);
void guest_put_table(struct guest *g, u64 addr, const struct guest_desc *desc,
		     unsigned int nr);
void guest_put_avail(struct guest *g, u16 idx, u16 head);
void guest_put_avail_idx(struct guest *g, u16 idx);

struct guest_vq_state guest_save(const struct guest *g);
void guest_restore(struct guest *g, const struct guest_vq_state *state);
void guest_expect_state(struct guest *g, const struct guest_vq_state *want);

#endif /* _CROSSTALK_TEST_GUEST_H */
