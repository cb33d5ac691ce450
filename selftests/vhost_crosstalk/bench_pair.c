// SPDX-License-Identifier: GPL-2.0
/*
 * How fast two guests exchange frames, or one sends to the host.
 *
 * They are connected by a bridge, by macvtaps of one lower device, or by a
 * switch that somebody else has set up and that a command adds their taps to.
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

#include "bench.h"
#include "ctl.h"
#include "ktap.h"
#include "vpeer.h"

#define RING		256
#define MAX_RING	1024
#define WARM_UP		1024
#define MAX_PAIRS	32
#define TRIES		20
#define LOWER		"bench0"	/* what the macvtaps are on */

struct bench {
	const char *name, *title;
	enum { STREAM, PING, HOST, COPY, EVENTFD } mode;
	enum vp_kind kind;
	u32 size, window, rx_buf;
	u64 frames;		/* of all pairs */
	unsigned int ring, macs, pairs;	/* 0: RING, 1, 1 */
};

static const struct bench benches[] = {
	{ "60", "60 B", STREAM, VP_RAW, 60, 128, 2048, 40000 },
	{ "128", "128 B", STREAM, VP_RAW, 128, 128, 2048, 40000 },
	{ "256", "256 B", STREAM, VP_RAW, 256, 128, 2048, 40000 },
	{ "512", "512 B", STREAM, VP_RAW, 512, 128, 2048, 40000 },
	{ "1024", "1024 B", STREAM, VP_RAW, 1024, 128, 2048, 40000 },
	{ "1500", "1500 B", STREAM, VP_RAW, 1500, 128, 2048, 40000 },
	{ "9000", "9000 B", STREAM, VP_RAW, 9000, 32, 2048, 20000 },
	{ "gso", "64000 B GSO", STREAM, VP_TCP4, 64000, 8, 4096, 4000 },
	{ "rtt", "round trip, 60 B", PING, VP_RAW, 60, 1, 2048, 20000 },
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
	{ "pairs2", "60 B, window of 24, 4 machines", STREAM, VP_RAW, 60, 24,
	  2048, 80000, RING, 1, 2 },
	{ "pairs4", "60 B, window of 24, 8 machines", STREAM, VP_RAW, 60, 24,
	  2048, 80000, RING, 1, 4 },
	{ "pairs8", "60 B, window of 24, 16 machines", STREAM, VP_RAW, 60, 24,
	  2048, 80000, RING, 1, 8 },
	{ "pairs", "60 B, window of 24, 64 machines", STREAM, VP_RAW, 60, 24,
	  2048, 640000, RING, 1, MAX_PAIRS },
	/* What nobody can beat */
	{ "memcpy", "64000 B memcpy()", COPY, VP_RAW, 64000, 1, 0, 4000 },
	{ "eventfd", "round trip, eventfd", EVENTFD, VP_RAW, 0, 1, 0, 20000 },
};

/* One for each pair. */
struct shared {
	struct bench_credit credit;
	u64 from_ns;
	u64 end_ns;
	bool ready, ended, done;
	unsigned int met;
	char tap[16];
};

/* Of the first pair, if it is the only one. */
struct details {
	u64 busy_ns;		/* of all CPUs */
	u64 round_trip[];	/* ns */
};

static struct shared *pairs;
static struct details *details;
static struct shared *sh;	/* this pair's */
static unsigned int *go;	/* phase that all pairs may begin */
static int credit_fd;
static struct vp_peer peer;
static u8 mac[6];
static const struct bench *b;
static u64 frames;		/* a pair's */
static unsigned int ring, macs, npairs;
static bool macvtap;
static const char *attach;	/* command: the taps' names are appended */

static void open_peer(unsigned int index)
{
	struct vp_cfg c;

	vp_mac(mac, index);
	vp_cfg_default(&c);
	c.rx_num = ring;
	c.tx_num = ring;
	c.rx_buf = b->rx_buf;
	c.tx_buf = 65535;
	/* A larger frame than any MTU is for segmentation. */
	c.mtu = b->size > 1500 && b->kind == VP_RAW ? 9000 : 0;
	c.macvtap = macvtap ? LOWER : NULL;
	if (attach)
		c.bridge = NULL;
	if (vp_open(&peer, &c, index))
		bench_die("peer");
	if (attach && vp_cmd("%s %s", attach, peer.tap)) {
		fprintf(stderr, "bench_pair: failed: %s %s\n", attach,
			peer.tap);
		exit(1);
	}
	if (vp_start(&peer))
		bench_die("peer");
	bench_blocking(peer.qp[0].rx.call);
	bench_blocking(peer.qp[0].tx.call);
}

static void prepare_slot(unsigned int i, u32 size, const u8 *dmac,
			 unsigned int from, unsigned int at)
{
	struct vp_flow_id id = { from, from ^ 1, 0, 0 };
	struct vp_ring *r = &peer.qp[0].tx;
	struct vp_slot *s = &r->slot[i];
	struct virtio_net_hdr_v1 h;
	u32 len;

	len = vp_frame_build(s->buf + VP_HDR_ROOM, &h, b->kind, id, i, size,
			     dmac, 0);
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

/* The same frame in every slot; avail entries that never change. */
static void prepare_tx(const u8 *dmac, unsigned int from, unsigned int at)
{
	unsigned int i;

	for (i = 0; i < ring; i++)
		prepare_slot(i, b->size, dmac, from, at);
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
			bench_sleep_on(r->call);
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

static u64 crowd_warm_up(void)
{
	return npairs > 1 ? frames / 4 : 0;
}

static void receiver(unsigned int index)
{
	u64 left = 1 + WARM_UP + crowd_warm_up() + frames, got = 0, n;
	u8 dmac[6];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	open_peer(index);
	vp_mac(dmac, index - 1);
	prepare_tx(dmac, index, 6);
	introduce();
	strcpy(sh->tap, peer.tap);
	__atomic_store_n(&sh->ready, true, __ATOMIC_RELEASE);
	/* Until it is killed */
	while (b->mode == PING)
		send_some(wait_frames());
	while (got < left) {
		n = wait_frames();
		got += n;
		if (got >= left)
			sh->end_ns = vp_now_ns();
		bench_credit_received(&sh->credit, credit_fd, got);
	}
	while (!READ_ONCE(sh->done))
		vp_sleep_ms(5);
	vp_close(&peer);
	exit(0);
}

static void ping(u64 n, u64 *ns)
{
	u64 from = vp_now_ns(), to;

	while (n--) {
		send_some(1);
		wait_frames();
		to = vp_now_ns();
		*ns++ = to - from;
		from = to;
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
			bench_sleep_on(r->call);
	}
}

static void stream(u64 target)
{
	bench_credit_stream(&sh->credit, credit_fd, target, b->window,
			    send_some);
}

/* All pairs begin the next phase at once. */
static void meet(unsigned int phase)
{
	__atomic_store_n(&sh->met, phase, __ATOMIC_RELEASE);
	while (__atomic_load_n(go, __ATOMIC_ACQUIRE) < phase)
		vp_sleep_ms(1);
}

static void run_stream(void)
{
	u64 busy;

	stream(1 + WARM_UP);
	meet(1);
	/* With all of them there, each has its turns at another pace. */
	stream(1 + WARM_UP + crowd_warm_up());
	meet(2);
	busy = bench_busy_ns();
	bench_mark_begin();
	sh->from_ns = vp_now_ns();
	stream(1 + WARM_UP + crowd_warm_up() + frames);
	bench_mark_end();
	details->busy_ns = bench_busy_ns() - busy;
}

static void run_ping(void)
{
	u64 busy;

	ping(WARM_UP, details->round_trip);
	busy = bench_busy_ns();
	bench_mark_begin();
	sh->from_ns = vp_now_ns();
	ping(frames, details->round_trip);
	sh->end_ns = vp_now_ns();
	bench_mark_end();
	details->busy_ns = bench_busy_ns() - busy;
}

static void run_host(void)
{
	u64 busy;

	to_host(WARM_UP);
	busy = bench_busy_ns();
	bench_mark_begin();
	sh->from_ns = vp_now_ns();
	to_host(frames);
	sh->end_ns = vp_now_ns();
	bench_mark_end();
	details->busy_ns = bench_busy_ns() - busy;
}

/* Has it arrived, or come back? Not within half a second: it is lost. */
static bool first_arrives(void)
{
	unsigned int ms;

	for (ms = 0; ms < 500; ms++) {
		if (b->mode == PING ? take() : READ_ONCE(sh->credit.rcvd))
			return true;
		vp_sleep_ms(1);
	}
	return false;
}

/*
 * One frame, and a short one: a switch may ask a program what to do with the
 * first of a flow, and drop what it cannot queue meanwhile, or that one, too.
 */
static void first_frame(const u8 *dmac, unsigned int from)
{
	unsigned int n;

	for (n = 0; n < TRIES; n++) {
		prepare_slot(n, vp_min(b->size, 128U), dmac, from, 0);
		if (b->mode == HOST) {
			to_host(1);
			break;
		}
		send_some(1);
		if (first_arrives())
			break;
	}
	if (n == TRIES) {
		fprintf(stderr, "bench_pair: nothing arrives\n");
		exit(1);
	}
	vp_sleep_ms(20);
	take();
	/* As many are left as if none had been lost. */
	sh->credit.sent = READ_ONCE(sh->credit.rcvd);
	do {
		prepare_slot(n, b->size, dmac, from, 0);
	} while (n--);
}

/* Guests 2 * pair and, unless it is the host, 2 * pair + 1. */
static void run_pair(unsigned int pair)
{
	bool wait_ep = ctl_loaded();
	unsigned int index = 2 * pair, i;
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
	prepare_tx(dmac, index, 0);
	while (pid && !__atomic_load_n(&sh->ready, __ATOMIC_ACQUIRE))
		vp_sleep_ms(1);
	if (wait_ep) {
		ctl_wait(peer.tap, 1, NULL);
		if (pid)
			ctl_wait(sh->tap, 1, NULL);
	}
	vp_sleep_ms(20);
	take();
	first_frame(dmac, index);

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
	/* Machines that go disturb those that are still measured. */
	WRITE_ONCE(sh->ended, true);
	for (i = 0; i < npairs; i++)
		while (!READ_ONCE(pairs[i].ended))
			vp_sleep_ms(5);
	WRITE_ONCE(sh->done, true);
	if (b->mode == PING)
		kill(pid, SIGKILL);
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
		bench_die("malloc");
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

/* Two tasks that wake each other up, and do nothing else. */
static void run_eventfd(void)
{
	int to = eventfd(0, EFD_CLOEXEC), back = eventfd(0, EFD_CLOEXEC);
	u64 one = 1, n, busy, *ns = details->round_trip, from, now;
	pid_t pid = fork();

	if (to < 0 || back < 0 || pid < 0)
		bench_die("eventfd");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;) {
			bench_sleep_on(to);
			if (write(back, &one, sizeof(one)) < 0)
				bench_die("write");
		}
	}
	busy = bench_busy_ns();
	from = vp_now_ns();
	pairs[0].from_ns = from;
	for (n = 0; n < frames; n++) {
		if (write(to, &one, sizeof(one)) < 0)
			bench_die("write");
		bench_sleep_on(back);
		now = vp_now_ns();
		*ns++ = now - from;
		from = now;
	}
	pairs[0].end_ns = from;
	details->busy_ns = bench_busy_ns() - busy;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(to);
	close(back);
}

static void set_up_network(void)
{
	/* Only our own frames: no neighbour or multicast chatter. */
	vp_write_file("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
	if (macvtap) {
		vp_script("ip link add " LOWER " mtu 9000 type dummy; ip link set " LOWER " up");
		vp_script_end();
	} else if (!attach) {
		vp_bridge_add("br0", 0);
	}
}

/* Macvtaps stay when they are closed, unlike taps. */
static void remove_network(void)
{
	if (macvtap)
		vp_cmd("ip link del " LOWER);
}

static void run_pairs(void)
{
	unsigned int phase, i;
	int status;

	set_up_network();
	for (i = 0; i < npairs; i++) {
		sh = &pairs[i];
		if (!fork())
			run_pair(i);
	}
	for (phase = 1; b->mode == STREAM && phase <= 2; phase++) {
		for (i = 0; i < npairs; i++)
			while (__atomic_load_n(&pairs[i].met,
					       __ATOMIC_ACQUIRE) < phase &&
			       !waitpid(-1, &status, WNOHANG))
				vp_sleep_ms(1);
		__atomic_store_n(go, phase, __ATOMIC_RELEASE);
	}
	for (i = 0; i < npairs; i++)
		if (waitpid(-1, &status, 0) < 0 || status)
			bench_die("a pair has failed");
	remove_network();
}

static int compare(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

/* One line of JSON a metric. */
static void print(const char *metric, const char *unit, bool higher,
		  double value)
{
	printf("{\"case\": \"%s\", \"metric\": \"%s\", \"unit\": \"%s\", ",
	       b->title, metric, unit);
	printf("\"better\": \"%s\", \"size\": %u, \"pairs\": %u, ",
	       higher ? "higher" : "lower", b->size, npairs);
	printf("\"frames\": %llu, \"value\": %.3f}\n", npairs * frames, value);
}

/* The value that one in so many per mille does not exceed. */
static double quantile(unsigned int per_mille)
{
	return details->round_trip[vp_min(frames * per_mille / 1000,
					  frames - 1)] / 1e3;
}

static void print_round_trips(void)
{
	static const struct {
		const char *name;
		unsigned int per_mille;
	} q[] = {
		{ "p1", 10 }, { "p10", 100 }, { "p25", 250 }, { "p50", 500 },
		{ "p75", 750 }, { "p90", 900 }, { "p95", 950 }, { "p99", 990 },
		{ "p99.5", 995 }, { "p99.9", 999 },
	};
	unsigned int i;

	qsort(details->round_trip, frames, sizeof(u64), compare);
	for (i = 0; i < VP_ARRAY_SIZE(q); i++)
		print(q[i].name, "us", false, quantile(q[i].per_mille));
}

static void measure(void)
{
	u64 from = ~0ULL, end = 0;
	unsigned int i;

	memset(pairs, 0, MAX_PAIRS * sizeof(*pairs));
	*go = 0;
	details = mmap(NULL, sizeof(*details) +
		       vp_max(frames, (u64)WARM_UP) * sizeof(u64),
		       PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS |
		       MAP_POPULATE, -1, 0);
	if (details == MAP_FAILED)
		bench_die("mmap");
	if (b->mode == COPY)
		run_copy();
	else if (b->mode == EVENTFD)
		run_eventfd();
	else
		run_pairs();
	for (i = 0; i < npairs; i++) {
		from = vp_min(from, pairs[i].from_ns);
		end = vp_max(end, pairs[i].end_ns);
	}
	if (b->mode == PING || b->mode == EVENTFD) {
		print("round trip", "us", false, (end - from) / 1e3 / frames);
		print_round_trips();
	} else {
		print("rate", "frames/s", true,
		      npairs * frames * 1e9 / (end - from));
	}
	if (npairs == 1 && details->busy_ns)
		print("CPU time", "ns", false,
		      (double)details->busy_ns / frames);
	fflush(stdout);
	munmap(details, sizeof(*details) +
	       vp_max(frames, (u64)WARM_UP) * sizeof(u64));
}

static void usage(FILE *f)
{
	unsigned int i;

	fprintf(f, "Usage: bench_pair [-f FRAMES] [-s PERCENT] [-m | -a COMMAND] [CASE...]\n"
		"Prints one line of JSON a metric.\n"
		"-f: frames to send; -s: that much of the default\n"
		"-m: macvtaps in bridge mode, not taps on a bridge\n"
		"-a: in this network name space, \"COMMAND TAP\" connects a tap\n"
		"Cases:");
	for (i = 0; i < VP_ARRAY_SIZE(benches); i++)
		fprintf(f, " %s", benches[i].name);
	fprintf(f, " (default: all)\n");
}

int main(int argc, char **argv)
{
	unsigned int i, done = 0;
	u64 fixed = 0, percent = 100;
	int opt, k;

	while ((opt = getopt(argc, argv, "f:s:ma:h")) != -1) {
		switch (opt) {
		case 'f':
			fixed = strtoull(optarg, NULL, 0);
			break;
		case 's':
			percent = strtoull(optarg, NULL, 0);
			break;
		case 'm':
			macvtap = true;
			break;
		case 'a':
			attach = optarg;
			break;
		default:
			usage(opt == 'h' ? stdout : stderr);
			return opt == 'h' ? 0 : 2;
		}
	}
	setpgid(0, 0);
	if (!attach && unshare(CLONE_NEWNET))
		bench_die("unshare (are you root?)");
	pairs = mmap(NULL, (MAX_PAIRS + 1) * sizeof(*pairs),
		     PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (pairs == MAP_FAILED)
		bench_die("mmap");
	go = (unsigned int *)(pairs + MAX_PAIRS);
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
