// SPDX-License-Identifier: GPL-2.0
/*
 * How fast two guests exchange frames, or one sends to the host.
 *
 * Everything that these peers do is part of what is measured, so they do
 * little: descriptors are written once, frames are sent and taken by moving
 * indices, and they sleep on eventfds as guests do.  A window of frames that
 * are under way keeps every queue from overflowing, so no work is done for
 * frames that are dropped.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "ctl.h"
#include "ktap.h"
#include "vpeer.h"

#define RING		256
#define MAX_RING	1024
#define WARM_UP		1024
#define MAX_PAIRS	32

struct bench {
	const char *name, *title;
	enum { STREAM, PING, HOST, COPY } mode;
	enum vp_kind kind;
	u32 size, window, rx_buf;
	u64 frames;		/* of all pairs */
	unsigned int ring, macs, pairs;	/* 0: RING, 1, 1 */
};

static const struct bench benches[] = {
	{ "60", "60 B", STREAM, VP_RAW, 60, 128, 2048, 40000 },
	{ "1500", "1500 B", STREAM, VP_RAW, 1500, 128, 2048, 40000 },
	{ "gso", "64000 B GSO", STREAM, VP_TCP4, 64000, 8, 4096, 4000 },
	{ "rtt", "round trip, 60 B", PING, VP_RAW, 60, 1, 2048, 5000 },
	{ "host", "60 B to the host", HOST, VP_UDP4, 60, 128, 2048, 40000 },
	{ "host1500", "1500 B to the host", HOST, VP_UDP4, 1500, 128, 2048,
	  40000 },
	/* What grows with the number of addresses, and of machines */
	{ "mac", "60 B, ring of 1024", STREAM, VP_RAW, 60, 128, 2048, 40000,
	  MAX_RING },
	{ "macs", "60 B, ring of 1024, 1000 addresses", STREAM, VP_RAW, 60, 128,
	  2048, 40000, MAX_RING, 1000 },
	/* The window of all together must fit a CPU's backlog. */
	{ "pair", "60 B, window of 24", STREAM, VP_RAW, 60, 24, 2048, 40000 },
	{ "pairs", "60 B, window of 24, 64 machines", STREAM, VP_RAW, 60, 24,
	  2048, 80000, RING, 1, MAX_PAIRS },
	/* What nobody can beat */
	{ "memcpy", "64000 B memcpy()", COPY, VP_RAW, 64000, 1, 0, 4000 },
};

/* One for each pair. */
struct shared {
	u64 sent, rcvd;		/* frames */
	u64 from_ns;
	u64 start_ns, end_ns;
	bool waiting, ready, warm, done;
	char tap[16];
};

static struct shared *pairs;
static struct shared *sh;	/* this pair's */
static bool *go;
static int credit_fd;
static struct vp_peer peer;
static u8 mac[6];
static const struct bench *b;
static u64 frames;		/* a pair's */
static unsigned int ring, macs, npairs;

static void die(const char *what)
{
	fprintf(stderr, "bench_pair: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void blocking(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
}

static void sleep_on(int fd)
{
	u64 n;

	if (read(fd, &n, sizeof(n)) < 0 && errno != EINTR)
		die("read");
}

static void open_peer(unsigned int index)
{
	struct vp_cfg c;

	vp_mac(mac, index);
	vp_cfg_default(&c);
	c.rx_num = ring;
	c.tx_num = ring;
	c.rx_buf = b->rx_buf;
	c.tx_buf = 65535;
	if (vp_open(&peer, &c, index) || vp_start(&peer))
		die("peer");
	blocking(peer.qp[0].rx.call);
	blocking(peer.qp[0].tx.call);
}

/* The same frame in every slot; avail entries that never change. */
static void prepare_tx(const u8 *dmac, unsigned int from, unsigned int to,
		       unsigned int at)
{
	struct vp_ring *r = &peer.qp[0].tx;
	struct vp_flow_id id = { from, to, 0, 0 };
	struct virtio_net_hdr_v1 h;
	unsigned int i;
	u32 len;

	for (i = 0; i < ring; i++) {
		struct vp_slot *s = &r->slot[i];

		len = vp_frame_build(s->buf + VP_HDR_ROOM, &h, b->kind, id, i,
				     b->size, dmac, 0);
		/* The receiver's further addresses */
		if (i % macs) {
			s->buf[VP_HDR_ROOM + at + 3] = 0xee;
			s->buf[VP_HDR_ROOM + at + 4] = i % macs >> 8;
			s->buf[VP_HDR_ROOM + at + 5] = i % macs;
		}
		s->hdr = s->buf + VP_HDR_ROOM - peer.hlen;
		memcpy(s->hdr, &h, peer.hlen);
		r->desc[i].addr = s->gpa + VP_HDR_ROOM - peer.hlen;
		r->desc[i].len = len + peer.hlen;
		r->desc[i].flags = 0;
		r->avail->ring[i] = i;
	}
}

static void send_some(unsigned int n)
{
	struct vp_ring *r = &peer.qp[0].tx;

	r->avail_idx += n;
	__atomic_store_n(&r->avail->idx, r->avail_idx, __ATOMIC_RELEASE);
	vp_ring_kick(r);
}

/*
 * Take what has arrived and post it again.  Heads are used in the order in
 * which they were posted, so the avail ring is right as it is.
 */
static u64 take(void)
{
	struct vp_ring *r = &peer.qp[0].rx;
	u16 now = __atomic_load_n(&r->used->idx, __ATOMIC_ACQUIRE);
	u16 at;
	u64 n = 0, seen;

	for (at = r->used_idx; at != now; at += seen) {
		const struct vring_used_elem *e = &r->used->ring[at % ring];
		const struct vp_slot *s = &r->slot[at % ring];

		if (e->id != r->avail->ring[at % ring]) {
			fprintf(stderr, "bench_pair: buffers out of order\n");
			exit(1);
		}
		seen = ((const struct virtio_net_hdr_v1 *)s->hdr)->num_buffers;
		/* Neither what the host says nor what is flooded is counted. */
		n += s->buf[VP_HDR_ROOM] == 0x52 &&
		     (s->buf[VP_HDR_ROOM + 5] == mac[5] || macs > 1);
	}
	if (now != r->used_idx) {
		r->avail_idx += now - r->used_idx;
		r->used_idx = now;
		__atomic_store_n(&r->avail->idx, r->avail_idx,
				 __ATOMIC_RELEASE);
		vp_ring_kick(r);
	}
	return n;
}

static u64 wait_frames(void)
{
	struct vp_ring *r = &peer.qp[0].rx;
	u64 n;

	while (!(n = take())) {
		if (!vp_ring_cb_enable(r, 0))
			sleep_on(r->call);
	}
	return n;
}

/* The receiver sends from all its addresses, so that the bridge knows them. */
static void introduce(void)
{
	unsigned int i;

	for (i = 0; i < macs; i += 64) {
		send_some(vp_min(64U, macs - i));
		vp_sleep_ms(2);
	}
}

static void receiver(unsigned int index)
{
	u64 left = WARM_UP + frames, got = 0, n;
	u8 dmac[6];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	open_peer(index);
	vp_mac(dmac, index - 1);
	prepare_tx(dmac, index, index - 1, 6);
	introduce();
	strcpy(sh->tap, peer.tap);
	__atomic_store_n(&sh->ready, true, __ATOMIC_RELEASE);
	while (got < left) {
		n = wait_frames();
		got += n;
		if (b->mode == PING) {
			send_some(n);
			continue;
		}
		if (got >= left)
			sh->end_ns = vp_now_ns();
		__atomic_store_n(&sh->rcvd, got, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&sh->waiting, __ATOMIC_SEQ_CST) &&
		    (got >= left || READ_ONCE(sh->sent) - got <= b->window / 2)) {
			u64 one = 1;

			WRITE_ONCE(sh->waiting, false);
			if (write(credit_fd, &one, sizeof(one)) < 0)
				die("write");
		}
	}
	while (!READ_ONCE(sh->done))
		vp_sleep_ms(5);
	vp_close(&peer);
	exit(0);
}

static void stream(u64 target)
{
	while (sh->sent < target) {
		u64 can = b->window - (sh->sent - READ_ONCE(sh->rcvd));

		can = vp_min(can, target - sh->sent);
		if (can) {
			WRITE_ONCE(sh->sent, sh->sent + can);
			send_some(can);
			continue;
		}
		__atomic_store_n(&sh->waiting, true, __ATOMIC_SEQ_CST);
		if (sh->sent - __atomic_load_n(&sh->rcvd, __ATOMIC_SEQ_CST) <
		    b->window)
			continue;
		sleep_on(credit_fd);
	}
	/* The rest. */
	while (__atomic_load_n(&sh->rcvd, __ATOMIC_SEQ_CST) < target) {
		__atomic_store_n(&sh->waiting, true, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&sh->rcvd, __ATOMIC_SEQ_CST) < target &&
		    sh->sent - sh->rcvd > b->window / 2)
			sleep_on(credit_fd);
		else
			sched_yield();
	}
}

static void ping(u64 n)
{
	while (n--) {
		send_some(1);
		wait_frames();
	}
}

/* The host's stack drops the frames; they count when they are completed. */
static void to_host(u64 n)
{
	struct vp_ring *r = &peer.qp[0].tx;
	u64 sent = 0;

	while (sent < n || r->used_idx != r->avail_idx) {
		u16 busy;
		u64 can;

		r->used_idx = __atomic_load_n(&r->used->idx, __ATOMIC_ACQUIRE);
		busy = r->avail_idx - r->used_idx;
		can = vp_min((u64)b->window - busy, n - sent);
		if (can) {
			send_some(can);
			sent += can;
			continue;
		}
		if (busy && !vp_ring_cb_enable(r, sent < n ? busy / 2 :
					       busy - 1))
			sleep_on(r->call);
	}
}

static void run_stream(void)
{
	stream(WARM_UP);
	/* All pairs at once */
	__atomic_store_n(&sh->warm, true, __ATOMIC_RELEASE);
	while (!__atomic_load_n(go, __ATOMIC_ACQUIRE))
		vp_sleep_ms(1);
	sh->from_ns = vp_now_ns();
	stream(WARM_UP + frames);
}

static void run_ping(void)
{
	ping(WARM_UP);
	sh->from_ns = vp_now_ns();
	ping(frames);
	sh->end_ns = vp_now_ns();
}

static void run_host(void)
{
	to_host(WARM_UP);
	sh->from_ns = vp_now_ns();
	to_host(frames);
	sh->end_ns = vp_now_ns();
}

/* Guests 2 * pair and, unless it is the host, 2 * pair + 1. */
static void run_pair(unsigned int pair)
{
	bool wait_ep = ctl_loaded();
	unsigned int index = 2 * pair;
	pid_t pid = 0;
	u8 dmac[6];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	credit_fd = eventfd(0, EFD_CLOEXEC);
	vp_mac(dmac, index + 1);
	if (b->mode == HOST) {
		vp_link_mac("br0", dmac);
	} else {
		pid = fork();
		if (!pid)
			receiver(index + 1);
	}
	open_peer(index);
	prepare_tx(dmac, index, index + 1, 0);
	while (pid && !__atomic_load_n(&sh->ready, __ATOMIC_ACQUIRE))
		vp_sleep_ms(1);
	if (wait_ep) {
		ctl_wait(peer.tap, 1, NULL);
		if (pid)
			ctl_wait(sh->tap, 1, NULL);
	}
	vp_sleep_ms(20);
	take();

	switch (b->mode) {
	case STREAM:
		run_stream();
		break;
	case PING:
		run_ping();
		break;
	default:
		run_host();
	}
	WRITE_ONCE(sh->done, true);
	if (pid)
		waitpid(pid, NULL, 0);
	vp_close(&peer);
	exit(0);
}

static void run_copy(void)
{
	u8 *from = malloc(b->size), *to = malloc(b->size);
	u64 n;

	if (!from || !to)
		die("malloc");
	memset(from, 1, b->size);
	memset(to, 2, b->size);
	pairs[0].from_ns = vp_now_ns();
	for (n = 0; n < frames; n++) {
		memcpy(to, from, b->size);
		/* Somebody could look. */
		__asm__ volatile("" : : "r" (to) : "memory");
	}
	pairs[0].end_ns = vp_now_ns();
	free(from);
	free(to);
}

static void run_pairs(void)
{
	unsigned int i;
	int status;

	vp_bridge_add("br0", 0);
	for (i = 0; i < npairs; i++) {
		sh = &pairs[i];
		if (!fork())
			run_pair(i);
	}
	for (i = 0; b->mode == STREAM && i < npairs; i++)
		while (!__atomic_load_n(&pairs[i].warm, __ATOMIC_ACQUIRE) &&
		       !waitpid(-1, &status, WNOHANG))
			vp_sleep_ms(1);
	__atomic_store_n(go, true, __ATOMIC_RELEASE);
	for (i = 0; i < npairs; i++)
		if (waitpid(-1, &status, 0) < 0 || status)
			die("a pair has failed");
}

static void measure(void)
{
	u64 from = ~0ULL, end = 0;
	unsigned int i;

	memset(pairs, 0, MAX_PAIRS * sizeof(*pairs));
	*go = false;
	if (b->mode == COPY)
		run_copy();
	else
		run_pairs();
	for (i = 0; i < npairs; i++) {
		from = vp_min(from, pairs[i].from_ns);
		end = vp_max(end, pairs[i].end_ns);
	}
	if (b->mode == PING)
		printf("{\"case\": \"%s\", \"metric\": \"round trip\", \"unit\": \"us\", \"better\": \"lower\", \"value\": %.3f}\n",
		       b->title, (end - from) / 1e3 / frames);
	else
		printf("{\"case\": \"%s\", \"metric\": \"rate\", \"unit\": \"frames/s\", \"better\": \"higher\", \"value\": %.1f}\n",
		       b->title, npairs * frames * 1e9 / (end - from));
	fflush(stdout);
}

static void usage(FILE *f)
{
	unsigned int i;

	fprintf(f, "Usage: bench_pair [-f FRAMES] [-s PERCENT] [CASE...]\n"
		"Prints one line of JSON a case.  -f: frames to send; -s: that much of the default.\nCases:");
	for (i = 0; i < VP_ARRAY_SIZE(benches); i++)
		fprintf(f, " %s", benches[i].name);
	fprintf(f, " (default: all)\n");
}

int main(int argc, char **argv)
{
	unsigned int i, done = 0;
	u64 fixed = 0, percent = 100;
	int opt, k;

	while ((opt = getopt(argc, argv, "f:s:h")) != -1) {
		switch (opt) {
		case 'f':
			fixed = strtoull(optarg, NULL, 0);
			break;
		case 's':
			percent = strtoull(optarg, NULL, 0);
			break;
		default:
			usage(opt == 'h' ? stdout : stderr);
			return opt == 'h' ? 0 : 2;
		}
	}
	setpgid(0, 0);
	if (unshare(CLONE_NEWNET))
		die("unshare (are you root?)");
	pairs = mmap(NULL, (MAX_PAIRS + 1) * sizeof(*pairs),
		     PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (pairs == MAP_FAILED)
		die("mmap");
	go = (bool *)(pairs + MAX_PAIRS);
	for (i = 0; i < VP_ARRAY_SIZE(benches); i++) {
		bool wanted = optind == argc;

		for (k = optind; k < argc; k++)
			wanted |= !strcmp(argv[k], benches[i].name);
		if (!wanted)
			continue;
		b = &benches[i];
		ring = b->ring ?: RING;
		macs = b->macs ?: 1;
		npairs = b->pairs ?: 1;
		frames = (fixed ?: b->frames * percent / 100) / npairs;
		measure();
		done++;
	}
	if (!done) {
		usage(stderr);
		return 2;
	}
	return 0;
}
