/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Guests for the tests of remapping, in the process of the test case: buffers
 * that are pages, frames of whole pages, and one frame at a time.
 */
#ifndef REMAP_LAB_H
#define REMAP_LAB_H

#include <stdbool.h>
#include <sys/types.h>

#include "vpeer.h"

#define PAGE		4096
#define MAX_PAGES	15
#define HEAD		64	/* of the frame, Ethernet header included */
#define WORDS		(PAGE / sizeof(u64))

enum { A, B, C, GUESTS };

/* First bytes of every word of a page, which tell whose it is. */
#define TAG_CANARY	0xca00ULL	/* + guest */
#define TAG_SCRIBBLE	0x5c00		/* + guest */
#define TAG_DATA	0xda7a

struct rl_guest {
	struct vp_peer p;
	unsigned int ep;
	pid_t worker;
};

/* A frame, in the receiver's buffers. */
struct rl_got {
	struct vp_slot *slot[VP_MAX_CHAIN];
	u32 len[VP_MAX_CHAIN];
	unsigned int n;
	u64 seq;
	unsigned int pages;
};

extern struct rl_guest rl_guest[GUESTS];
extern unsigned int rl_guests;
extern bool rl_apart;		/* each on the node of its number */
extern u64 rl_last_seq;
extern bool rl_failing;		/* workers are made to fail */
extern unsigned int rl_broken;	/* errors that vhost-net told of then */
extern bool rl_by_tap;		/* a frame may have gone by a tap then, */
extern unsigned int rl_damaged;	/* and so many were not written whole */

/* Room for what a frame should look like. */
extern u8 rl_expected[HEAD + MAX_PAGES * PAGE];

static inline struct vp_ring *rl_rx(unsigned int g)
{
	return &rl_guest[g].p.qp[0].rx;
}

static inline struct vp_ring *rl_tx(unsigned int g)
{
	return &rl_guest[g].p.qp[0].tx;
}

/* The page that lies in a slot of an RX ring as a whole. */
static inline u64 rl_page_gpa(const struct vp_slot *s)
{
	return (s->gpa + PAGE - 1) & -(u64)PAGE;
}

static inline u8 *rl_page_of(const struct vp_slot *s)
{
	return s->buf + (rl_page_gpa(s) - s->gpa);
}

/* The payload of a slot of a TX ring. */
static inline u64 rl_payload_gpa(const struct vp_slot *s)
{
	return (s->gpa + 2 * HEAD + PAGE - 1) & -(u64)PAGE;
}

static inline u8 *rl_payload_of(const struct vp_slot *s)
{
	return s->buf + (rl_payload_gpa(s) - s->gpa);
}

/* A counter of a guest's endpoint. */
u64 rl_stat(unsigned int g, const char *counter);

/* Each word is of @tag and of @seq, and unlike the others. */
void rl_fill(void *mem, size_t size, u64 tag, u64 seq);
bool rl_is_all(const void *mem, size_t size, u64 tag);

/*
 * @n guests with RAM of guestram, but for the @last one's; between each and the
 * next one frames go the direct path, and their pages are remapped if they can be.
 * The end: everything has arrived, and no frame is left.
 */
void rl_open(unsigned int n, enum vp_mem_kind last);
void rl_close(void);

/* The same by parts. */
void rl_start(unsigned int g, enum vp_mem_kind mem);
void rl_learn(void);
void rl_wait_direct(unsigned int from, unsigned int to);
void rl_set_mode(const char *mode);

/* For loops that wait; with them vhost-net goes on after errors. */
u64 rl_deadline(void);
bool rl_is_late(u64 end);

/*
 * For a loop that goes on until it has @shown what it is for: whether it does.
 * @extra: how many rounds it has gone on already.  Fails if that takes long.
 */
bool rl_more(unsigned int extra, bool shown);

/* @to may be GUESTS: all of them. */
void rl_build_head(u8 *at, unsigned int from, unsigned int to, u64 seq,
		   unsigned int pages);
struct vp_slot *rl_get_tx(unsigned int g);

/* Returns the frame's number; the slot's pages are sent as they are. */
u64 rl_send_slot(unsigned int from, unsigned int to, struct vp_slot *s,
		 unsigned int pages);
struct vp_slot *rl_send_pages(unsigned int from, unsigned int to,
			      unsigned int pages);
void rl_wait_sent(unsigned int g);

/* The next frame, if there is one; its buffers belong to the test. */
bool rl_take(unsigned int g, struct rl_got *got);

/* Until the frame @seq is there; others are for nobody. */
void rl_receive(unsigned int g, struct rl_got *got, u64 seq);

/* Says who may have it, and fails. */
void rl_not_there(u64 seq);

/* The frame has the bytes that were sent. */
void rl_check(const struct rl_got *got, unsigned int from, unsigned int to);
bool rl_lies_in_pages(const struct rl_got *got, unsigned int pages);

/* The frame's buffers are posted again. */
void rl_give(unsigned int g, const struct rl_got *got);

/* All of it: a frame is sent, received, checked, and its buffers are given back. */
void rl_transfer(unsigned int from, unsigned int to, unsigned int pages);

/* Pages in frames that a guest has sent by the direct path. */
u64 rl_direct_pages(unsigned int g);

/*
 * How many take the direct path depends on who runs when; of these, most have
 * to be remapped.
 */
bool rl_is_most(u64 part, u64 pages);

/* Each page of a guest's RAM that is looked at has a frame of its own. */
size_t rl_touch_all(unsigned int g);

/* The file behind a guest's RAM. */
int rl_ram_fd(unsigned int g);

/* For cases that take pages out of processes. */
const char *rl_lacks_flush(void);

#endif
