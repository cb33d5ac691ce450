// SPDX-License-Identifier: GPL-2.0
/*
 * What whole pages of a frame cost when they are remapped, and when they are
 * copied: from one guest to another, and through a third one that hands them on.
 *
 * The guests are processes of their own, with one page in each RX buffer.
 * Frames are a short header and pages that begin with a page, so that each can
 * be remapped.  As in bench_pair they do little, and sleep as guests do; what
 * is done to the payload is part of the case.  Those with RAM of guestram are
 * there all the time, and only the tunable changes from one run to the next.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "ctl.h"
#include "vpeer.h"

#define PAGE		4096
#define MTU		65500
#define RING		256
#define UNDER_WAY	128	/* RX buffers of frames that are under way */
#define MAX_WINDOW	64
#define TX_PAGES	140		/* of payload, at most */
#define HLEN		sizeof(struct virtio_net_hdr_v1)
#define HEAD		64	/* of a frame, Ethernet header included */
#define TYPE		0x88b5
#define BYTES		(24 << 20)	/* of a run */
#define MIN_FRAMES	160
#define PATIENCE_MS	20000

/* Behind the Ethernet header. */
enum { AT_KIND = 16, AT_READ };
enum { KIND_INTRODUCTION = 1, KIND_PAYLOAD };

/* Who looks at the payload. */
enum touch { NOBODY, READ, WRITTEN, TOUCHES };

static const char * const touch_name[TOUCHES] = {
	"untouched", "read", "written and read",
};

/*
 * A frame with a page more would be longer than any may be.  With one page, and
 * with 15, it takes a power of two of buffers, so that headers always come to
 * the same ones of the ring; else they come to pages that were remapped before.
 */
static const unsigned int all_pages[] = { 1, 2, 4, 8, 14, 15 };
static const unsigned int some_pages[] = { 4, 15 };

struct run {
	unsigned int pages, window, slots, frames;
	enum touch touch;
	bool measured;
};

/* Two or three guests of one kind of memory. */
struct group {
	struct bench_credit credit;
	struct run run;
	u64 from_ns, end_ns, busy_ns, last;	/* @last: of all frames */
	bool ready[3];
	char tap[3][16];
	/* Of the parent */
	unsigned int first, ep[2];
	int credit_fd, run_fd, done_fd;
	bool there;
};

static const struct contender {
	const char *name, *mode;
	enum vp_mem_kind mem;
} contenders[] = {
	{ "copy", "off", VP_MEM_GUESTRAM },
	{ "copy, huge pages", "off", VP_MEM_HUGETLB },
	{ "remap", "1", VP_MEM_GUESTRAM },
	{ "remap, adaptive", "adaptive", VP_MEM_GUESTRAM },
};

static const enum vp_mem_kind kinds[] = { VP_MEM_GUESTRAM, VP_MEM_HUGETLB };

static struct group *groups;
static struct group *g;		/* this guest's */
static unsigned int guests;	/* of each group */
static struct vp_peer peer;
static u64 rx_area, tx_area;	/* whole pages of its memory */
static u64 sink;

static struct vp_ring *rx(void)
{
	return &peer.qp[0].rx;
}

static struct vp_ring *tx(void)
{
	return &peer.qp[0].tx;
}

static u8 *rx_page(u16 at)
{
	return vp_mem_ptr(&peer.mem, rx_area + (at % RING) * PAGE);
}

/* ---- guests ---- */

static u64 first_page(const struct vp_ring *r)
{
	return (r->slot[0].gpa + PAGE - 1) & -(u64)PAGE;
}

/* Slots are not used as such: their memory is cut into pages. */
static int open_peer(unsigned int index, enum vp_mem_kind mem)
{
	struct vhost_vring_file call = { .index = VP_VQ_TX };
	struct vp_ring *r = rx();
	struct vp_cfg c;
	unsigned int i;
	int ret;

	vp_cfg_default(&c);
	c.mem = mem;
	c.mtu = MTU;
	c.rx_num = RING;
	c.rx_buf = PAGE;
	c.tx_num = RING;
	c.tx_chain = 2;
	c.tx_buf = 2 * PAGE;
	ret = vp_open(&peer, &c, index);
	if (ret)
		return ret;

	rx_area = first_page(r);
	tx_area = first_page(tx());
	r->nfree = 0;
	r->avail_idx = RING;
	for (i = 0; i < RING; i++) {
		r->desc[i] = (struct vring_desc) {
			rx_area + i * PAGE, PAGE, VRING_DESC_F_WRITE, 0,
		};
		r->avail->ring[i] = i;
		memset(rx_page(i), 0, PAGE);
	}
	r->avail->idx = r->avail_idx;
	/* One sleep for both. */
	bench_blocking(r->call);
	call.fd = r->call;
	if (ioctl(peer.qp[0].vhost, VHOST_SET_VRING_CALL, &call) ||
	    vp_start(&peer))
		return -EIO;
	return 0;
}

static void build_head(u8 *at, const u8 *dmac, u8 kind, bool read)
{
	memset(at, 0, HLEN + HEAD);
	at += HLEN;
	memcpy(at, dmac, 6);
	memcpy(at + 6, peer.mac, 6);
	at[12] = TYPE >> 8;
	at[13] = TYPE & 0xff;
	at[AT_KIND] = kind;
	at[AT_READ] = read;
}

/* So that the bridge knows it. */
static void introduce(void)
{
	static const u8 all[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	struct vp_ring *r = tx();

	build_head(vp_mem_ptr(&peer.mem, tx_area), all, KIND_INTRODUCTION,
		   false);
	r->desc[0] = (struct vring_desc) { tx_area, HLEN + HEAD, 0, 0 };
	r->avail->ring[0] = 0;
	__atomic_store_n(&r->avail->idx, ++r->avail_idx, __ATOMIC_RELEASE);
	vp_ring_kick(r);
	while (!vp_ring_used_pending(r))
		vp_sleep_ms(1);
	r->used_idx++;
}

static void give_back(u16 buffers)
{
	struct vp_ring *r = rx();

	r->avail_idx += buffers;
	__atomic_store_n(&r->avail->idx, r->avail_idx, __ATOMIC_RELEASE);
	vp_ring_kick(r);
}

static void read_payload(const void *mem, size_t size)
{
	const u64 *word = mem;
	u64 sum = 0;
	size_t i;

	for (i = 0; i < size / sizeof(*word); i++)
		sum += word[i];
	WRITE_ONCE(sink, sum);
}

/* The payload of the frame that begins at @at, of @n buffers. */
static void read_frame(u16 at, unsigned int n)
{
	const struct vring_used *used = rx()->used;
	u32 skip = HLEN + HEAD;

	for (; n--; at++, skip = 0)
		read_payload(rx_page(at) + skip, used->ring[at % RING].len -
			     skip);
}

/*
 * The frame at @at: how many buffers it has.  The device has to use them in
 * the order in which they were posted.
 */
static unsigned int look(u16 at, bool *payload)
{
	const struct virtio_net_hdr_v1 *h = (const void *)rx_page(at);
	const u8 *eth = (const u8 *)(h + 1);

	if (rx()->used->ring[at % RING].id != at % RING) {
		fprintf(stderr, "bench_remap: buffers out of order\n");
		exit(1);
	}
	*payload = eth[AT_KIND] == KIND_PAYLOAD && eth[13] == (TYPE & 0xff) &&
		   eth[5] == peer.mac[5];
	return h->num_buffers;
}

static void sleep_for_frames(void)
{
	if (!vp_ring_cb_enable(rx(), 0))
		bench_sleep_on(rx()->call);
}

static void receiver(void)
{
	struct vp_ring *r = rx();
	bool payload;
	u64 got = 0;

	for (;;) {
		u16 now = __atomic_load_n(&r->used->idx, __ATOMIC_ACQUIRE);
		u16 before = r->used_idx;

		while (r->used_idx != now) {
			unsigned int n = look(r->used_idx, &payload);

			if (payload && rx_page(r->used_idx)[HLEN + AT_READ])
				read_frame(r->used_idx, n);
			got += payload;
			r->used_idx += n;
		}
		if (now == before) {
			sleep_for_frames();
			continue;
		}
		give_back(now - before);
		if (got >= READ_ONCE(g->last))
			g->end_ns = vp_now_ns();
		bench_credit_received(&g->credit, g->credit_fd, got);
	}
}

/* A TX descriptor is that of the same RX buffer. */
static void hand_on(u16 at, unsigned int n, const u8 *dmac)
{
	struct virtio_net_hdr_v1 *h = (void *)rx_page(at);
	u8 *eth = (u8 *)(h + 1);
	struct vp_ring *r = tx();
	unsigned int i;

	h->num_buffers = 0;
	memcpy(eth, dmac, 6);
	memcpy(eth + 6, peer.mac, 6);
	for (i = 0; i < n; i++) {
		struct vring_desc *d = &r->desc[(u16)(at + i) % RING];

		d->len = rx()->used->ring[(u16)(at + i) % RING].len;
		d->flags = i + 1 < n ? VRING_DESC_F_NEXT : 0;
	}
	r->avail->ring[r->avail_idx++ % RING] = at % RING;
}

/* The rest of its RX buffers are in frames that it has not seen to be sent. */
static bool lacks_buffers(void)
{
	return (u16)(rx()->avail_idx - rx()->used_idx) < UNDER_WAY &&
	       tx()->used_idx != tx()->avail_idx;
}

/* As a driver does, it asks for TX interrupts only if it has to. */
static void sleep_as_router(void)
{
	bool waits = lacks_buffers();

	if (!waits || !vp_ring_cb_enable(tx(), 0))
		sleep_for_frames();
	if (waits)
		vp_ring_cb_disable(tx());
}

/* Gets frames, and hands their buffers on; what was sent it posts again. */
static void router(const u8 *dmac)
{
	static u8 buffers[RING];
	struct vp_ring *r = rx(), *t = tx();
	unsigned int i;
	bool payload;

	for (i = 0; i < RING; i++)
		t->desc[i] = (struct vring_desc) {
			rx_area + i * PAGE, 0, 0, (i + 1) % RING,
		};
	for (;;) {
		u16 now = __atomic_load_n(&r->used->idx, __ATOMIC_ACQUIRE);
		u16 sent = __atomic_load_n(&t->used->idx, __ATOMIC_ACQUIRE);
		u16 free = 0;

		if (now == r->used_idx && sent == t->used_idx) {
			sleep_as_router();
			continue;
		}
		for (; t->used_idx != sent; t->used_idx++)
			free += buffers[t->used_idx % RING];
		while (r->used_idx != now) {
			unsigned int n = look(r->used_idx, &payload);

			if (payload) {
				buffers[t->avail_idx % RING] = n;
				hand_on(r->used_idx, n, dmac);
			} else {
				/* Only before anything else is under way. */
				free += n;
			}
			r->used_idx += n;
		}
		if (t->avail->idx != t->avail_idx) {
			__atomic_store_n(&t->avail->idx, t->avail_idx,
					 __ATOMIC_RELEASE);
			vp_ring_kick(t);
		}
		if (free)
			give_back(free);
	}
}

/* ---- the first guest ---- */

static u8 *tx_payload(unsigned int i)
{
	return vp_mem_ptr(&peer.mem, tx_area + i * g->run.pages * PAGE);
}

static void write_payload(void *mem, size_t size, u64 value)
{
	u64 *word = mem;
	size_t i;

	for (i = 0; i < size / sizeof(*word); i++)
		word[i] = value;
}

/* A header and a payload for each frame of the window. */
static void prepare(const u8 *dmac)
{
	const struct run *run = &g->run;
	struct vp_ring *r = tx();
	u64 heads = tx_area + TX_PAGES * PAGE;
	unsigned int i;

	for (i = 0; i < run->slots; i++) {
		u64 head = heads + i * 2 * HEAD;

		build_head(vp_mem_ptr(&peer.mem, head), dmac, KIND_PAYLOAD,
			   run->touch != NOBODY);
		r->desc[2 * i] = (struct vring_desc) {
			head, HLEN + HEAD, VRING_DESC_F_NEXT, 2 * i + 1,
		};
		r->desc[2 * i + 1] = (struct vring_desc) {
			tx_area + i * run->pages * PAGE, run->pages * PAGE,
			0, 0,
		};
	}
}

static void send_some(unsigned int n)
{
	const struct run *run = &g->run;
	struct vp_ring *r = tx();

	for (; n; n--, r->avail_idx++) {
		unsigned int i = r->avail_idx % run->slots;

		if (run->touch == WRITTEN)
			write_payload(tx_payload(i), run->pages * PAGE,
				      r->avail_idx);
		r->avail->ring[r->avail_idx % RING] = 2 * i;
	}
	__atomic_store_n(&r->avail->idx, r->avail_idx, __ATOMIC_RELEASE);
	vp_ring_kick(r);
}

static void one_run(const u8 *dmac)
{
	bool measured = g->run.measured;
	u64 busy = 0;

	prepare(dmac);
	g->last = g->credit.sent + g->run.frames;
	if (measured) {
		busy = bench_busy_ns();
		bench_mark_begin();
	}
	g->from_ns = vp_now_ns();
	bench_credit_stream(&g->credit, g->credit_fd, g->last, g->run.window,
			    send_some);
	if (measured) {
		bench_mark_end();
		g->busy_ns = bench_busy_ns() - busy;
	}
}

static void sender(const u8 *dmac)
{
	for (;;) {
		bench_sleep_on(g->run_fd);
		one_run(dmac);
		bench_wake(g->done_fd);
	}
}

/* Until it is killed */
static void guest(unsigned int which, enum vp_mem_kind mem)
{
	u8 dmac[6];
	int ret;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	ret = open_peer(g->first + which, mem);
	if (ret == -EOPNOTSUPP)
		exit(3);
	if (ret)
		bench_die("guest");
	introduce();
	strcpy(g->tap[which], peer.tap);
	__atomic_store_n(&g->ready[which], true, __ATOMIC_RELEASE);
	vp_mac(dmac, g->first + which + 1);
	if (!which)
		sender(dmac);
	else if (which == guests - 1)
		receiver();
	else
		router(dmac);
}

/* ---- runs ---- */

/* Returns whether there is memory of this kind. */
static bool start_group(enum vp_mem_kind mem)
{
	unsigned int i;
	int status;

	g->credit_fd = eventfd(0, EFD_CLOEXEC);
	g->run_fd = eventfd(0, EFD_CLOEXEC);
	g->done_fd = eventfd(0, EFD_CLOEXEC);
	if (g->credit_fd < 0 || g->run_fd < 0 || g->done_fd < 0)
		bench_die("eventfd");
	for (i = 0; i < guests; i++) {
		pid_t pid = fork();

		if (!pid)
			guest(i, mem);
		while (!__atomic_load_n(&g->ready[i], __ATOMIC_ACQUIRE)) {
			if (waitpid(pid, &status, WNOHANG) == pid) {
				if (WIFEXITED(status) &&
				    WEXITSTATUS(status) == 3)
					return false;
				exit(1);
			}
			vp_sleep_ms(1);
		}
	}
	for (i = 0; i < guests; i++)
		ctl_wait(g->tap[i], 1, i + 1 < guests ? &g->ep[i] : NULL);
	return true;
}

static unsigned int window_of(unsigned int pages)
{
	return vp_min(UNDER_WAY / (pages + 1), MAX_WINDOW);
}

/*
 * The payload that comes to an RX buffer shall be another one each time, so the
 * number of slots has nothing in common with that of the ring.
 */
static void do_run(const struct run *run)
{
	struct pollfd done = { .fd = g->done_fd, .events = POLLIN };

	g->run = *run;
	g->run.window = window_of(run->pages);
	g->run.slots = g->run.window | 1;
	bench_wake(g->run_fd);
	if (poll(&done, 1, PATIENCE_MS) != 1) {
		fprintf(stderr, "bench_remap: %u pages, %s: stands still after %llu of %llu frames\n",
			run->pages, touch_name[run->touch],
			READ_ONCE(g->credit.rcvd), READ_ONCE(g->credit.sent));
		exit(1);
	}
	bench_sleep_on(g->done_fd);
}

static u64 sum(const char *counter)
{
	unsigned int i;
	u64 all = 0;

	for (i = 0; i + 1 < guests; i++)
		all += ctl_ep_num(g->ep[i], counter);
	return all;
}

/* All frames of a run can be direct. */
static void wait_direct(void)
{
	const struct run run = { .pages = 1, .frames = 50 };
	u64 end = vp_now_ms() + PATIENCE_MS, before;

	do {
		if (vp_now_ms() > end) {
			fprintf(stderr, "bench_remap: no direct path\n");
			exit(1);
		}
		before = sum("tx_fast_packets");
		do_run(&run);
	} while (sum("tx_fast_packets") < before + run.frames * (guests - 1));
}

static void print(const struct run *run, const char *contender,
		  const char *metric, const char *unit, bool higher,
		  double value)
{
	printf("{\"case\": \"%s, %u page%s, %s\", ",
	       guests > 2 ? "chain" : "remap", run->pages,
	       run->pages > 1 ? "s" : "", touch_name[run->touch]);
	printf("\"contender\": \"%s\", \"metric\": \"%s\", \"unit\": \"%s\", ",
	       contender, metric, unit);
	printf("\"better\": \"%s\", \"size\": %u, \"pairs\": 1, ",
	       higher ? "higher" : "lower", run->pages * PAGE);
	printf("\"pages\": %u, \"touch\": \"%s\", \"frames\": %u, ", run->pages,
	       touch_name[run->touch], run->frames);
	printf("\"value\": %.6f}\n", value);
}

/* Every RX buffer was used since the last run. */
static void warm_up(struct run run)
{
	run.measured = false;
	run.frames = 2 * RING / (run.pages + 1) + window_of(run.pages);
	do_run(&run);
}

static void measure(struct run run, const struct contender *c)
{
	double bytes = (double)run.pages * PAGE * run.frames;
	double hops = guests - 1;
	u64 fast, remapped;

	if (ctl_write("remap", c->mode))
		bench_die("remap");
	warm_up(run);
	run.measured = true;
	fast = sum("tx_fast_packets");
	remapped = sum("tx_remap_bytes");
	do_run(&run);
	fast = sum("tx_fast_packets") - fast;
	remapped = sum("tx_remap_bytes") - remapped;
	print(&run, c->name, "bytes", "MB/s", true,
	      bytes * 1e3 / (g->end_ns - g->from_ns));
	print(&run, c->name, "cost", "ns/byte", false, g->busy_ns / bytes);
	print(&run, c->name, "remapped", "%", true,
	      100 * remapped / bytes / hops);
	print(&run, c->name, "direct", "%", true,
	      100 * fast / hops / run.frames);
	fflush(stdout);
}

static struct group *group_of(enum vp_mem_kind mem)
{
	unsigned int i;

	for (i = 0; kinds[i] != mem; i++)
		;
	return &groups[i];
}

static void measure_all(const struct run *run, unsigned int rounds)
{
	unsigned int n = VP_ARRAY_SIZE(contenders), round, i;

	for (round = 0; round < rounds; round++) {
		for (i = 0; i < n; i++) {
			/* Whoever came last comes first in the next round. */
			const struct contender *c =
				&contenders[round & 1 ? n - 1 - i : i];

			g = group_of(c->mem);
			if (g->there)
				measure(*run, c);
		}
	}
}

static void run_cases(unsigned int rounds, unsigned int percent, bool some)
{
	const unsigned int *pages = some ? some_pages : all_pages;
	unsigned int n = some ? VP_ARRAY_SIZE(some_pages) :
				VP_ARRAY_SIZE(all_pages);
	enum touch touch;
	unsigned int i;

	for (touch = NOBODY; touch < TOUCHES; touch++) {
		for (i = 0; i < n; i++) {
			struct run run = { .pages = pages[i], .touch = touch };

			run.frames = (u64)BYTES * percent / 100 /
				     (pages[i] * PAGE);
			run.frames = vp_max(run.frames,
					    (unsigned int)MIN_FRAMES);
			measure_all(&run, rounds);
		}
	}
}

static void run_all(bool chain, unsigned int rounds, unsigned int percent,
		    bool some)
{
	unsigned int i;

	guests = chain ? 3 : 2;
	vp_write_file("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
	vp_bridge_add("br0", MTU);
	if (ctl_write("direct", "1"))
		bench_die("direct");
	for (i = 0; i < VP_ARRAY_SIZE(kinds); i++) {
		g = &groups[i];
		g->first = i * guests;
		g->there = start_group(kinds[i]);
		if (!g->there) {
			printf("{\"missing\": \"%s\"}\n",
			       vp_mem_kind_name[kinds[i]]);
			continue;
		}
		wait_direct();
	}
	run_cases(rounds, percent, some);
}

static void usage(FILE *f)
{
	fprintf(f, "Usage: bench_remap [-r ROUNDS] [-s PERCENT] [-q] remap|chain\n"
		"Prints one line of JSON a metric, in the order of the runs.\n"
		"-s: of the bytes of a run; -q: fewer sizes\n");
}

int main(int argc, char **argv)
{
	unsigned int rounds = 1, percent = 100;
	bool some = false, chain;
	int opt;

	while ((opt = getopt(argc, argv, "r:s:qh")) != -1) {
		switch (opt) {
		case 'r':
			rounds = atoi(optarg);
			break;
		case 's':
			percent = atoi(optarg);
			break;
		case 'q':
			some = true;
			break;
		default:
			usage(opt == 'h' ? stdout : stderr);
			return opt == 'h' ? 0 : 2;
		}
	}
	if (optind != argc - 1 || (strcmp(argv[optind], "remap") &&
				   strcmp(argv[optind], "chain"))) {
		usage(stderr);
		return 2;
	}
	chain = !strcmp(argv[optind], "chain");
	setpgid(0, 0);
	if (unshare(CLONE_NEWNET))
		bench_die("unshare (are you root?)");
	groups = mmap(NULL, sizeof(*groups) * VP_ARRAY_SIZE(kinds),
		      PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (groups == MAP_FAILED)
		bench_die("mmap");
	run_all(chain, rounds, percent, some);
	return ctl_write("remap", "off") ? 1 : 0;
}
