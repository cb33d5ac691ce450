/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A few guests in one process, that send single frames and take down all that
 * anybody gets: for tests that want to know of each frame what became of it.
 */
#ifndef LAB_H
#define LAB_H

#include <stdbool.h>

#include "vpeer.h"

#define LAB_GUESTS	4
#define LAB_HOST	LAB_GUESTS	/* the host's sockets, all of them */
#define LAB_SOCKETS	4
#define LAB_SEEN	256

/* A frame that a guest, or a socket of the host, has got. */
struct lab_seen {
	unsigned int who;
	struct virtio_net_hdr_v1 h;	/* none from a socket */
	u32 len;
	u8 *data;
};

struct lab {
	unsigned int n;
	struct vp_peer p[LAB_GUESTS];
	unsigned int ep[LAB_GUESTS];
	unsigned int nsock;
	int sock[LAB_SOCKETS];
	unsigned int nseen;
	struct lab_seen seen[LAB_SEEN];
	u8 round;		/* of lab_learn() */
	unsigned int pupils;	/* how many got a frame of an earlier one */
};

/* Guests on their devices, hooked, with the direct path on. */
void lab_open(struct lab *l, const struct vp_cfg *cfg, unsigned int n);
void lab_close(struct lab *l);

/*
 * A packet socket of the host.  With a protocol (host byte order) it is asked
 * for what the host itself gets; with ETH_P_ALL it looks on, as tcpdump does.
 */
void lab_watch(struct lab *l, const char *dev, u16 proto);
void lab_unwatch(struct lab *l);		/* closes all of them */

/* Takes down what has arrived, everywhere. */
void lab_poll(struct lab *l);
void lab_forget(struct lab *l);

void lab_send(struct lab *l, unsigned int from,
	      const struct virtio_net_hdr_v1 *h, const void *frame, u32 len);
void lab_kick(struct lab *l, unsigned int from);
/* Until the device has taken all frames of all guests. */
void lab_wait_sent(struct lab *l);
/* Until nothing has arrived for some milliseconds. */
void lab_wait_quiet(struct lab *l, unsigned int ms);

/*
 * All guests say who they are, so that a bridge knows.  It waits for as many to
 * hear of it as have before.
 */
void lab_learn(struct lab *l);
/* Fewer may hear of it than before: something is blocked now. */
void lab_learn_anew(struct lab *l);
/* Whether it is a frame of lab_learn(), late perhaps. */
bool lab_is_learning(const struct lab_seen *s);

/* The word in "verdicts" for a flow of a guest: "ep7", or why not. */
void lab_verdict(struct lab *l, unsigned int from, const u8 *dst,
		 unsigned int vlan, char *word, size_t size);

/*
 * While RTNL is held, nobody configures interfaces.  What holds it is an ioctl
 * of a tap, which takes RTNL and then waits for its argument: a page whose
 * faults this process serves when it likes (userfaultfd).
 */
void rtnl_hold(void);
void rtnl_release(void);

#endif
