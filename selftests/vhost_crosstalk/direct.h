/* SPDX-License-Identifier: GPL-2.0 */
/* Peers whose frames take the direct path. */
#ifndef DIRECT_H
#define DIRECT_H

#include <stdbool.h>

#include "vpeer.h"

/* Load the module and switch the direct path on; the case fails otherwise. */
void direct_on(void);
/*
 * A slow machine's receivers cannot empty their taps in the time for which a flow
 * waits for that: it would stay on the slow path, and take part in filling them.
 */
void direct_patience(void);

/* A counter of all endpoints of the world's taps. */
u64 direct_sum(const struct vp_world *w, const char *counter);

/*
 * @peers peers, everyone sending to everyone; @t may be NULL.  With @victim,
 * frames to and from the last one may get lost.
 */
struct vp_world *direct_start(unsigned int peers, const struct vp_cfg *c,
			      const struct vp_traffic *t, bool victim);

/* Says which way frames go, and why. */
void direct_tell(const struct vp_world *w);

/* Until frames go the direct path; the case fails when they never do. */
void direct_wait(const struct vp_world *w);

/* Until more than so many frames went the direct path in all. */
void direct_wait_frames(struct vp_world *w, u64 frames);

/*
 * Stop, check every frame and the module's counters, and end.  Returns how
 * many frames took the direct path.
 */
u64 direct_finish(struct vp_world *w);

/* The same, when not all frames have passed the module. */
u64 direct_end(struct vp_world *w);

#endif
