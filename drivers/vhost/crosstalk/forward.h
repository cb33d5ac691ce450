/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _CROSSTALK_FORWARD_H
#define _CROSSTALK_FORWARD_H

#include <linux/types.h>

struct crosstalk_chain;
struct crosstalk_endpoint;
struct crosstalk_txbatch;
struct socket;
struct vhost_net;
struct vhost_net_virtqueue;

/* One run of the TX loop. */
struct crosstalk_run {
	struct crosstalk_endpoint *ep;
	struct vhost_net *net;
	struct vhost_net_virtqueue *nvq;
	struct socket *sock;
	struct crosstalk_txbatch *batch;
	bool can_batch;		/* the socket takes batches */
	bool can_push;		/* frames may go the direct path */
	size_t bytes;
	int frames;
};

/* What the loop does after a frame was looked at. */
enum crosstalk_next {
	CROSSTALK_NEXT,		/* done with it: go on */
	CROSSTALK_STOP,		/* put it back, wait for a kick */
	CROSSTALK_SLOW,		/* send it to the backend socket */
};

void crosstalk_forward(struct crosstalk_endpoint *ep);
void crosstalk_forward_flush(struct crosstalk_run *run);

bool crosstalk_fast_wanted(struct crosstalk_run *run);
enum crosstalk_next crosstalk_fast_frame(struct crosstalk_run *run,
					 const struct crosstalk_chain *chain);

#endif /* _CROSSTALK_FORWARD_H */
