// SPDX-License-Identifier: GPL-2.0
/*
 * A receiver's memory management against the mirror of its memory: what it
 * takes away is not written to from the moment that its system call returns,
 * and what the kernel does with its pages (copy-on-write, KSM, huge pages,
 * reclaim, migration) changes nothing in what it receives.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl.h"
#include "direct.h"
#include "guestram.h"
#include "ktap.h"
#include "vpeer.h"

#define SENDER		0
#define RECEIVER	1
#define PAGES		16	/* a buffer each */
#define ALL_PAGES	32	/* the others are nobody's buffers */
#define SIZE		(ALL_PAGES * 4096)
#define VICTIM		3	/* the page that is taken away */
#define GONE_MS		20
#define HUGE		(2ULL << 20)

#define KSM		"/sys/kernel/mm/ksm/"
#define THP		"/sys/kernel/mm/transparent_hugepage/enabled"
#define COLLAPSE	25	/* MADV_COLLAPSE, since 6.1 */

enum memory { PRIVATE, SHARED, GUESTRAM };

static struct vp_world *w;
static struct vp_peer peer;
static unsigned int ep;
static u8 *mem;
static int file;		/* behind mem, or -1 */
static u64 frames, last_seq;
static bool gone;		/* nothing may come to the victim's page ... */
static unsigned int late;	/* ... but what was placed there before */
static bool wiped[PAGES];	/* emptied while it was posted */
static int faults = -1;		/* who needs an emptied page waits for us */

/* ---- the receiver, by hand ---- */

static void post(u16 id)
{
	struct vp_ring *r = &peer.qp[0].rx;

	r->avail->ring[r->avail_idx++ % r->num] = id;
	__atomic_store_n(&r->avail->idx, r->avail_idx, __ATOMIC_RELEASE);
}

static void check(u16 id, u32 len)
{
	const u8 *at = mem + 4096 * id;
	struct virtio_net_hdr_v1 h = {};
	struct vp_frame fr;
	char why[160];

	ktap_assert(len >= peer.hlen && len <= 4096, "%u bytes", len);
	if (gone && id == VICTIM) {
		ktap_assert(!late++, "a frame in memory that is gone");
		return;
	}
	if (wiped[id])
		return;
	memcpy(&h, at, peer.hlen);
	switch (vp_frame_check(at + peer.hlen, len - peer.hlen, &h, true,
			       RECEIVER, &fr, why, sizeof(why))) {
	case VP_FRAME_CORRUPT:
		ktap_fail("page %u: %s", id, why);
	case VP_FRAME_OK:
		ktap_assert(!frames || fr.seq > last_seq,
			    "frame %llu after %llu", fr.seq, last_seq);
		last_seq = fr.seq;
		frames++;
		break;
	default:
		break;
	}
}

/* Take what there is, and post it again. */
static void take(void)
{
	struct vp_flow *f = &w->flow[SENDER][RECEIVER][0];
	struct vp_ring *r = &peer.qp[0].rx;

	while (vp_ring_used_pending(r)) {
		struct vring_used_elem *e;

		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		e = &r->used->ring[r->used_idx++ % r->num];
		ktap_assert(e->id < PAGES, "used element %u", e->id);
		check(e->id, e->len);
		wiped[e->id] = false;
		post(e->id);
	}
	vp_ring_kick(r);
	/* What is lost with a page is forgiven in time. */
	if (frames)
		WRITE_ONCE(f->acked, last_seq + 1);
}

static void serve_faults(void)
{
	struct uffd_msg msg;

	while (faults >= 0 && read(faults, &msg, sizeof(msg)) == sizeof(msg))
		vp_fault_end(faults,
			     (void *)(msg.arg.pagefault.address & -4096ULL),
			     4096);
}

static void serve(unsigned int ms)
{
	u64 end = vp_now_ms() + ms;

	do {
		serve_faults();
		take();
		vp_alive(w);
		usleep(100);
	} while (vp_now_ms() < end);
}

/* Until frames arrive, by the direct path. */
static void flows(void)
{
	u64 end = vp_now_ms() + 10000 * vp_slowness();
	u64 seen = frames, fast = ctl_ep_num(ep, "rx_fast_packets");

	while (frames < seen + 3 * PAGES ||
	       ctl_ep_num(ep, "rx_fast_packets") < fast + 3 * PAGES) {
		serve(3);
		if (vp_now_ms() < end)
			continue;
		direct_tell(w);
		ktap_fail("%llu frames arrive, %llu by the direct path",
			  frames - seen,
			  ctl_ep_num(ep, "rx_fast_packets") - fast);
	}
}

static void map(int flags, int fd)
{
	ktap_assert(mmap(mem, SIZE, PROT_READ | PROT_WRITE, flags | MAP_FIXED,
			 fd, 0) == mem, "mmap: %s", strerror(errno));
}

/* Memory of a file (which shows what is written), or private memory. */
static void start(enum memory kind)
{
	/* Frames wait for buffers, but not for long in front of the slow path. */
	struct vp_traffic t = { .min = 60, .max = 1514, .window = 2 * PAGES };
	struct vp_region *r;
	struct vp_cfg c;
	unsigned int i;

	direct_on();
	vp_cfg_default(&c);
	w = vp_world_new(2, c.bridge, 0);
	w->traffic = t;
	w->send[SENDER][RECEIVER] = true;
	w->lossy[RECEIVER] = true;
	vp_spawn(w, SENDER, &c);
	vp_wait_ready(w);

	c.rx_num = PAGES;
	ktap_assert(!vp_open(&peer, &c, RECEIVER), "open");
	strcpy(w->peer[RECEIVER].tap, peer.tap);
	file = kind == GUESTRAM ? guestram_file(SIZE) :
				  memfd_create("memory", MFD_CLOEXEC);
	ktap_assert(file >= 0 && !ftruncate(file, SIZE), "memory: %d", file);
	/* Room for a huge page around it. */
	mem = mmap(NULL, 3 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		   0);
	ktap_assert(mem != MAP_FAILED, "mmap");
	mem = (u8 *)(((u64)mem + HUGE - 1) & -HUGE);
	map(kind == PRIVATE ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED,
	    kind == PRIVATE ? -1 : file);
	r = &peer.mem.region[peer.mem.n];
	*r = (struct vp_region) { vp_mem_end(&peer.mem) + HUGE, SIZE, mem };
	peer.mem.n++;
	for (i = 0; i < PAGES; i++) {
		peer.qp[0].rx.desc[i] = (struct vring_desc) {
			r->gpa + 4096 * i, 4096, VRING_DESC_F_WRITE, 0,
		};
		post(i);
	}
	/* vp_start() finds all of its own slots in use. */
	peer.qp[0].rx.nfree = 0;
	ktap_assert(!vp_set_mem(&peer, false) && !vp_start(&peer), "start");
	vp_bridge_keep(peer.tap, RECEIVER);
	ctl_wait(peer.tap, 1, &ep);
	vp_go(w);
	flows();
}

static void finish(void)
{
	flows();
	vp_close(&peer);
	vp_finish(w);
	ctl_need_unloaded();
}

/* ---- what is taken away ---- */

static u8 before[SIZE], after[SIZE];

static void read_file(u8 *to)
{
	ktap_assert(pread(file, to, SIZE, 0) == SIZE, "pread");
}

/* The victim's page has gone; the file still has it. */
static void unchanged(const char *what)
{
	gone = true;
	late = 0;
	read_file(before);
	/* Not at all, then with the device's help. */
	usleep(GONE_MS * 1000);
	serve(GONE_MS);
	read_file(after);
	gone = false;
	ktap_assert(!memcmp(before + 4096 * VICTIM, after + 4096 * VICTIM,
			    4096), "%s: the page was written to afterwards",
		    what);
}

static void revoke_all(enum memory kind)
{
	unsigned int i, n = ktap_count("CROSSTALK_CYCLES", 10, 1);
	u8 *page;

	start(kind);
	page = mem + 4096 * VICTIM;
	for (i = 0; i < n; i++) {
		mprotect(page, 4096, PROT_READ);
		unchanged("read-only");
		mprotect(page, 4096, PROT_READ | PROT_WRITE);
		flows();

		mprotect(page, 4096, PROT_NONE);
		unchanged("no access");
		mprotect(page, 4096, PROT_READ | PROT_WRITE);
		flows();

		munmap(page, 4096);
		unchanged("unmapped");
		map(MAP_SHARED, file);
		flows();

		/*
		 * Something else is there: it gets the frames.  What has come
		 * and was not taken yet goes with the memory.
		 */
		wiped[VICTIM] = true;
		ktap_assert(mmap(page, 4096, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
				 0) == page, "mmap");
		read_file(before);
		flows();
		read_file(after);
		ktap_assert(!memcmp(before + 4096 * VICTIM,
				    after + 4096 * VICTIM, 4096),
			    "replaced: the old page was written to");
		wiped[VICTIM] = true;
		map(MAP_SHARED, file);
		flows();
	}
	finish();
}

static void revoked(void)
{
	revoke_all(SHARED);
}

static void guestram_revoked(void)
{
	revoke_all(GUESTRAM);
}

/* A page that moves to another address takes its contents with it. */
static void moved(void)
{
	unsigned int i, n = ktap_count("CROSSTALK_CYCLES", 20, 3);
	u8 *page, *to;

	start(PRIVATE);
	page = mem + 4096 * VICTIM;
	for (i = 0; i < n; i++) {
		to = mremap(page, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED,
			    mem + HUGE);
		ktap_assert(to != MAP_FAILED, "mremap: %s", strerror(errno));
		memcpy(before, to, 4096);
		gone = true;
		late = 0;
		usleep(GONE_MS * 1000);
		serve(GONE_MS);
		gone = false;
		ktap_assert(!memcmp(before, to, 4096),
			    "the page was written to afterwards");
		ktap_assert(mmap(page, 4096, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
				 0) == page, "mmap");
		flows();
	}
	finish();
}

/* Neither a table without the memory nor a stopped device writes to it. */
static void stopped(void)
{
	unsigned int i, n = ktap_count("CROSSTALK_CYCLES", 10, 2);
	struct vp_ring *r;

	start(SHARED);
	r = &peer.qp[0].rx;
	for (i = 0; i < n; i++) {
		peer.mem.n--;
		ktap_assert(!vp_set_mem(&peer, false), "SET_MEM_TABLE");
		read_file(before);
		usleep(GONE_MS * 1000);
		read_file(after);
		ktap_assert(!memcmp(before, after, SIZE),
			    "memory that is not in the table was written to");
		peer.mem.n++;
		ktap_assert(!vp_set_mem(&peer, false), "SET_MEM_TABLE");
		vp_ring_kick_anyway(r);
		flows();

		ktap_assert(!vp_stop(&peer), "stop");
		read_file(before);
		usleep(GONE_MS * 1000);
		read_file(after);
		ktap_assert(!memcmp(before, after, SIZE),
			    "a stopped device writes");
		take();
		ktap_assert(!vp_start(&peer), "start");
		flows();
	}
	finish();
}

/* As a balloon does, also with buffers that are posted. */
static void wipe(enum memory kind)
{
	unsigned int i, n = ktap_count("CROSSTALK_CYCLES", 2000, 200);
	struct vp_rand rnd;
	u16 id;

	vp_rand_init(&rnd, 1);
	start(kind);
	for (i = 0; i < n; i++) {
		id = vp_rand_in(&rnd, 0, PAGES - 1);
		/* What it has now is lost; the next frame is not. */
		wiped[id] = true;
		ktap_assert(!madvise(mem + 4096 * id, 4096,
				     kind == PRIVATE ? MADV_DONTNEED :
						       MADV_REMOVE),
			    "madvise: %s", strerror(errno));
		take();
		usleep(vp_rand_in(&rnd, 0, 300));
	}
	finish();
}

static void wiped_pages(void)
{
	wipe(PRIVATE);
}

static void guestram_wiped(void)
{
	wipe(GUESTRAM);
}

/*
 * The memory of a machine that has been moved here, and whose pages come when
 * they are missed (postcopy).
 */
static void postcopy(void)
{
	unsigned int i, n = ktap_count("CROSSTALK_CYCLES", 500, 50), late = 0;
	u64 end;

	start(PRIVATE);
	faults = vp_fault_fd(mem, SIZE);
	for (i = 0; i < n; i++) {
		u32 id = i % PAGES;

		wiped[id] = true;
		ktap_assert(!madvise(mem + 4096 * id, 4096, MADV_DONTNEED),
			    "madvise: %s", strerror(errno));
		/* Nobody comes to help, for a while. */
		if (i % 5 == 0)
			usleep(2000);
		serve(0);
		late += wiped[id];
	}
	/* A worker that waits for a page could not be stopped. */
	end = vp_now_ms() + 10000 * vp_slowness();
	for (i = 0; i < PAGES; i++) {
		while (wiped[i]) {
			serve(1);
			ktap_assert(vp_now_ms() < end,
				    "page %u is not used again", i);
		}
	}
	ktap_assert(late, "no page was missed");
	flows();
	close(faults);
	faults = -1;
	finish();
}

/* ---- what the kernel does with pages ---- */

static u64 sum(const u8 *at, size_t size)
{
	u64 n = 0;

	while (size--)
		n = n * 31 + *at++;
	return n;
}

/* A child has the memory as it was, its parent goes on to receive. */
static void forked(void)
{
	unsigned int i, n = ktap_count("CROSSTALK_CYCLES", 40, 5);
	int status;
	pid_t pid;
	u64 was;

	start(PRIVATE);
	for (i = 0; i < n; i++) {
		pid = fork();
		ktap_assert(pid >= 0, "fork");
		if (!pid) {
			was = sum(mem, SIZE);
			usleep(GONE_MS * 1000);
			_exit(was != sum(mem, SIZE));
		}
		while (!waitpid(pid, &status, WNOHANG))
			serve(1);
		ktap_assert(!status, "the child's memory changed");
	}
	finish();
}

static long ksm(const char *name)
{
	char path[64], buf[32];

	snprintf(path, sizeof(path), KSM "%s", name);
	return vp_read_file(path, buf, sizeof(buf)) < 0 ? -1 : atol(buf);
}

/* Buffers that have become one page with memory that is none. */
static void merged(void)
{
	unsigned int i, n = ktap_count("CROSSTALK_CYCLES", 3, 1);
	u64 end;
	u32 k;

	if (vp_write_file(KSM "run", "1"))
		ktap_skip("no KSM");
	vp_write_file(KSM "sleep_millisecs", "1");
	vp_write_file(KSM "pages_to_scan", "1000");
	start(PRIVATE);
	for (i = 0; i < n; i++) {
		ktap_assert(!vp_stop(&peer), "stop");
		take();
		memset(mem, 0x5a + i, SIZE);
		ktap_assert(!madvise(mem, SIZE, MADV_MERGEABLE), "madvise: %s",
			    strerror(errno));
		end = vp_now_ms() + 10000 * vp_slowness();
		while (ksm("pages_sharing") < ALL_PAGES - 1) {
			ktap_assert(vp_now_ms() < end, "%ld pages are merged",
				    ksm("pages_sharing"));
			vp_sleep_ms(5);
		}
		ktap_assert(!vp_start(&peer), "start");
		flows();
		for (k = PAGES * 4096; k < SIZE; k++)
			ktap_assert(mem[k] == 0x5a + i,
				    "byte %u of merged memory changed", k);
		madvise(mem, SIZE, MADV_UNMERGEABLE);
	}
	vp_write_file(KSM "run", "0");
	finish();
}

static const char *lacks_huge(void)
{
	return access(THP, F_OK) ? "has no transparent huge pages" : NULL;
}

/* A huge page that is split and put together again. */
static void huge(void)
{
	unsigned int i, n = ktap_count("CROSSTALK_CYCLES", 20, 3), ok = 0;
	int rw = PROT_READ | PROT_WRITE;

	start(PRIVATE);
	ktap_assert(mmap(mem, HUGE, rw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
			 -1, 0) == mem, "mmap");
	madvise(mem, HUGE, MADV_HUGEPAGE);
	flows();
	for (i = 0; i < n; i++) {
		ok += !madvise(mem, HUGE, COLLAPSE);
		flows();
		switch (i % 3) {
		case 0:
			mprotect(mem + 4096 * VICTIM, 4096, PROT_READ);
			mprotect(mem + 4096 * VICTIM, 4096, rw);
			break;
		case 1:
			madvise(mem + 4096 * PAGES, 4096, MADV_DONTNEED);
			break;
		default:
			madvise(mem, 4096 * ALL_PAGES, MADV_PAGEOUT);
		}
		flows();
	}
	ktap_msg("put together %u times of %u", ok, n);
	finish();
}

/* How many pages of ours are on the disk. */
static unsigned int swapped_out(void)
{
	u64 entry[ALL_PAGES];
	unsigned int i, n = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	ktap_assert(fd >= 0 && pread(fd, entry, sizeof(entry),
				     (u64)mem / 4096 * 8) == sizeof(entry),
		    "pagemap: %s", strerror(errno));
	close(fd);
	for (i = 0; i < ALL_PAGES; i++)
		n += entry[i] >> 62 & 1;
	return n;
}

/* Reclaim (to a swap device: pages really go) and migration. */
static void pressure(void)
{
	unsigned int i, k, n = ktap_count("CROSSTALK_CYCLES", 50, 10), out = 0;

	ktap_assert(!vp_cmd("mkswap " VP_RAMDISK " >/dev/null") &&
		    !swapon(VP_RAMDISK, 0), "swap on " VP_RAMDISK ": %s",
		    strerror(errno));
	start(PRIVATE);
	memset(mem + PAGES * 4096, 0xa5, SIZE - PAGES * 4096);
	for (i = 0; i < n; i++) {
		madvise(mem, SIZE, i & 1 ? MADV_PAGEOUT : MADV_COLD);
		out += swapped_out();
		serve(2);
		if (i % 5 == 0)
			vp_write_file("/proc/sys/vm/compact_memory", "1");
		serve(2);
		for (k = PAGES * 4096; i % 4 == 3 && k < SIZE; k++)
			ktap_assert(mem[k] == 0xa5, "byte %u changed", k);
	}
	ktap_msg("%u pages came back from the disk", out);
	ktap_assert(out > ALL_PAGES, "only %u pages went to the disk", out);
	flows();
	ktap_assert(!swapoff(VP_RAMDISK), "swapoff: %s", strerror(errno));
	finish();
}

static const struct ktap_case cases[] = {
	{ "revoked", revoked },
	{ "moved", moved, .slow = true },
	{ "stopped", stopped, .slow = true },
	{ "wiped_pages", wiped_pages },
	{ "guestram_revoked", guestram_revoked, .slow = true },
	{ "guestram_wiped", guestram_wiped, .slow = true },
	{ "postcopy", postcopy, .slow = true },
	{ "forked", forked },
	{ "merged", merged },
	{ "huge", huge, .lacks = lacks_huge },
	{ "pressure", pressure, .slow = true, .lacks = vp_lacks_ramdisk },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
