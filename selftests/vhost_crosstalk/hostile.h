/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Guests that break the rules: single attacks on a ring, and random mutation
 * of rings, descriptors, indirect tables and headers.
 */
#ifndef HOSTILE_H
#define HOSTILE_H

#include "vpeer.h"

#define HOSTILE_LEN	100	/* of its right frames */
#define HOSTILE_PAGES	16

struct hostile {
	struct vp_peer *p;	/* one descriptor a chain, one queue pair */
	struct vp_ring *r;	/* the ring that is attacked */
	unsigned int dst;	/* peer that gets the frames */
	u64 seq;
	struct vp_rand rnd;
	u64 mutations;
	/* A region of its own, with pages that nothing may be written to. */
	u64 arena_gpa;
	u8 *arena;
	int witness;		/* memfd behind these pages */
};

/* A right chain with head @i; not published. */
void hostile_good(struct hostile *h, u16 i);
void hostile_publish(struct hostile *h);

struct hostile_attack {
	const char *name;
	void (*craft)(struct hostile *h);
	/*
	 * vhost-net tries such a frame again for ever and sends nothing else;
	 * the module may drop it and go on.
	 */
	bool may_drop;
};

extern const struct hostile_attack hostile_attacks[];
extern const unsigned int hostile_nr_attacks;

/*
 * Give a running peer the arena: memory in its table of which some pages are
 * not mapped, and some may only be read.
 */
void hostile_arena(struct hostile *h);

/* Change something at random; does not notify the device. */
void hostile_mutate(struct hostile *h);

/* All right again, and everything posted, as far as a guest can do that. */
void hostile_heal(struct hostile *h);

/* The case fails when a page was written to that must not be. */
void hostile_check(struct hostile *h);

#endif
