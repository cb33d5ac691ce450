/* SPDX-License-Identifier: GPL-2.0 */
/* What most tests do: peers on a bridge exchange frames, then all is checked. */
#ifndef SCENARIO_H
#define SCENARIO_H

#include "vpeer.h"

struct scenario {
	unsigned int peers;		/* 0: two */
	const struct vp_cfg *cfg;	/* of all peers ... */
	const struct vp_cfg *other;	/* ... but the first one, if set */
	struct vp_traffic traffic;	/* max 0: 60 to 1514 bytes, 64 a window */
	u64 frames;			/* that each flow must move */
	bool plain;			/* without the module */
	bool slow;			/* "direct" is 0: no frame is direct */
	const char *setup;		/* command, before traffic; %s: taps */
};

/* Two guests whose rings, buffers, memory and features differ. */
void scenario_unequal(struct vp_cfg *a, struct vp_cfg *b);
void scenario_run(const struct scenario *s);

#endif
