// SPDX-License-Identifier: GPL-2.0
/*
 * Remapping, and what else is done with the same pages: they are pinned, locked,
 * bound to nodes, taken away, moved, forked and counted, and a guest is killed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl.h"
#include "guestram.h"
#include "ktap.h"
#include "remap_lab.h"

/* What its mount says is in use. */
static unsigned long pages_used(int fd)
{
	struct statfs s;

	ktap_assert(!fstatfs(fd, &s), "fstatfs");
	return s.f_blocks - s.f_bfree;
}

/* Gives all memory back while the files are still there: nothing is left. */
static void empty_guests(void)
{
	const struct vp_mem *m;
	unsigned int i;
	int fd;

	for (i = 0; i < rl_guests; i++) {
		m = &rl_guest[i].p.mem;
		ktap_assert(!vp_stop(&rl_guest[i].p), "stop");
		fd = rl_ram_fd(i);
		ktap_assert(pages_used(fd) == m->map_len / PAGE,
			    "%lu pages of %zu are in use", pages_used(fd),
			    m->map_len / PAGE);
		ktap_assert(!madvise(m->map, m->map_len, MADV_REMOVE),
			    "MADV_REMOVE");
		ktap_assert(!pages_used(fd), "%lu pages are in use",
			    pages_used(fd));
		close(fd);
	}
	ktap_assert(!guestram_frames(), "%ld frames are left",
		    guestram_frames());
}

/* Every frame that is in use is known: none is lost, however often it moves. */
static void A6_remap_account(void)
{
	unsigned int i, n = ktap_count("CROSSTALK_REMAPS", 8000, 300);
	struct rl_got got;
	u64 mapped, end;
	long all;

	rl_open(2, VP_MEM_GUESTRAM);
	all = rl_touch_all(A) + rl_touch_all(B);
	ktap_assert(guestram_frames() == all, "%ld frames for %ld pages",
		    guestram_frames(), all);
	for (i = 0; i < n || rl_more(i - n, rl_stat(A, "tx_remap_pages")); i++)
		rl_transfer(i & 1, !(i & 1), MAX_PAGES);
	mapped = rl_stat(A, "tx_remap_pages") + rl_stat(B, "tx_remap_pages");
	ktap_assert(rl_is_most(mapped, rl_direct_pages(A) + rl_direct_pages(B)),
		    "too few pages were remapped");

	/* Nobody looks at the last one, so it stays shared. */
	end = rl_deadline();
	do {
		ktap_assert(!rl_is_late(end), "nothing is shared");
		rl_send_pages(A, B, MAX_PAGES);
		rl_receive(B, &got, rl_last_seq);
		rl_give(B, &got);
		rl_wait_sent(A);
	} while (guestram_frames() >= all);
	ktap_msg("%llu pages remapped; %ld frames for %ld pages", mapped,
		 guestram_frames(), all);
	rl_touch_all(A);
	rl_touch_all(B);
	ktap_assert(guestram_frames() == all, "%ld frames for %ld pages",
		    guestram_frames(), all);
	empty_guests();
	rl_close();
	ktap_assert(!ctl_unload(), "the module is in use");
	ktap_assert(!guestram_unload(), "guestram is in use");
}

/* A page that somebody else has a reference to stays where it is. */
static void A9_remap_pinned(void)
{
	struct iovec iov = { .iov_len = PAGE };
	static u8 buf[PAGE];
	struct vp_slot *s;
	struct rl_got got;
	unsigned int k;
	int pipefd[2];
	u64 pages, end;

	rl_open(2, VP_MEM_GUESTRAM);
	ktap_assert(!pipe(pipefd), "pipe");

	/* The sender's: the pipe has the page, with what is written later. */
	s = rl_get_tx(A);
	rl_fill(rl_payload_of(s), 2 * PAGE, TAG_DATA, rl_last_seq + 1);
	iov.iov_base = rl_payload_of(s);
	ktap_assert(vmsplice(pipefd[1], &iov, 1, 0) == PAGE, "vmsplice");
	pages = rl_stat(A, "tx_remap_pages");
	rl_send_slot(A, B, s, 2);
	rl_receive(B, &got, rl_last_seq);
	rl_check(&got, A, B);
	rl_wait_sent(A);
	ktap_assert(rl_stat(A, "tx_remap_pages") <= pages + 1,
		    "a page with a reference was remapped");
	rl_fill(rl_payload_of(s), PAGE, TAG_SCRIBBLE + A, 0);
	ktap_assert(read(pipefd[0], buf, PAGE) == PAGE &&
		    rl_is_all(buf, PAGE, TAG_SCRIBBLE + A),
		    "the pipe has another page than the sender");
	rl_check(&got, A, B);
	rl_give(B, &got);

	/* The receiver's: all its buffers, as one of them will be next. */
	end = rl_deadline();
	do {
		for (k = 0; k < rl_rx(B)->nslots; k++)
			(void)READ_ONCE(*rl_page_of(&rl_rx(B)->slot[k]));
		s = &rl_rx(B)->slot[rl_rx(B)->order[(rl_rx(B)->used_idx + 1) %
						    rl_rx(B)->num]];
		iov.iov_base = rl_page_of(s);
		ktap_assert(vmsplice(pipefd[1], &iov, 1, 0) == PAGE,
			    "vmsplice");
		rl_send_pages(A, B, 1);
		rl_receive(B, &got, rl_last_seq);
		rl_check(&got, A, B);
		rl_wait_sent(A);
		ktap_assert(read(pipefd[0], buf, PAGE) == PAGE, "read");
		ktap_assert(!rl_is_late(end), "never in that page");
		rl_give(B, &got);
		/* By the tap it lies elsewhere in the same buffers. */
	} while (!rl_lies_in_pages(&got, 1) || got.slot[1] != s);
	ktap_assert(rl_is_all(buf, PAGE, TAG_DATA),
		    "the pipe has another page than the receiver");
	rl_close();
}

/* How many pages of a guest's RAM are in no page table of this process. */
static size_t unmapped(unsigned int g)
{
	const struct vp_mem *m = &rl_guest[g].p.mem;
	size_t i, n = m->map_len / PAGE, left = 0;
	u8 *in = malloc(n);

	ktap_assert(in && !mincore(m->map, m->map_len, in), "mincore");
	for (i = 0; i < n; i++)
		left += !(in[i] & 1);
	free(in);
	return left;
}

static void check_node(unsigned int g)
{
	const struct vp_mem *m = &rl_guest[g].p.mem;
	unsigned int node;
	size_t i;

	for (i = 0; i < m->map_len; i += PAGE) {
		node = GUESTS;
		syscall(SYS_get_mempolicy, &node, NULL, 0, (u8 *)m->map + i,
			MPOL_F_NODE | MPOL_F_ADDR);
		ktap_assert(node == g, "guest %u has a page of node %u", g,
			    node);
	}
}

/* Whatever is remapped, a guest has memory of the node that it is bound to. */
static void A4_remap_nodes(void)
{
	struct vp_slot *s;
	unsigned int i;
	struct rl_got got;

	rl_apart = true;
	rl_open(2, VP_MEM_GUESTRAM);
	for (i = 0; i < 20; i++) {
		s = rl_send_pages(A, B, MAX_PAGES);
		rl_receive(B, &got, rl_last_seq);
		rl_wait_sent(A);
		/* The sender leaves the pages to the receiver. */
		rl_fill(rl_payload_of(s), MAX_PAGES * PAGE, TAG_SCRIBBLE + A, 0);
		rl_check(&got, A, B);
		rl_give(B, &got);
	}
	check_node(A);
	check_node(B);
	rl_close();
}

static const char *one_node(void)
{
	return access("/sys/devices/system/node/node1", F_OK) ?
	       "has one NUMA node" : NULL;
}

/* A guest whose RAM is locked has all of it, all the time: real-time ones. */
static void A9_remap_locked(void)
{
	const struct vp_mem *m;
	unsigned int i, k;

	rl_open(2, VP_MEM_GUESTRAM);
	m = &rl_guest[A].p.mem;
	ktap_assert(!mlock(m->map, m->map_len), "mlock");
	for (i = 0; i < 20; i++) {
		rl_transfer(i & 1, !(i & 1), MAX_PAGES);
		k = unmapped(A);
		ktap_assert(!k, "%u pages of locked RAM were taken away", k);
	}
	rl_close();
}

/* Touched in other ways than by a page fault of the guest. */
static void A4_remap_touched(void)
{
	static u8 buf[PAGE];
	struct iovec local = { buf, PAGE }, remote = { .iov_len = PAGE };
	struct vp_slot *s;
	unsigned int i;
	struct rl_got got;
	int status;
	pid_t pid;

	rl_open(2, VP_MEM_GUESTRAM);
	for (i = 0; i < 12; i++) {
		u8 *page;

		s = rl_send_pages(A, B, 4);
		rl_receive(B, &got, rl_last_seq);
		rl_wait_sent(A);
		page = rl_page_of(got.slot[got.n - 1]);
		if (!rl_lies_in_pages(&got, 4)) {
			rl_give(B, &got);
			continue;
		}
		switch (i % 4) {
		case 0:		/* get_user_pages(), to read and to write */
			remote.iov_base = page;
			ktap_assert(process_vm_readv(getpid(), &local, 1,
						     &remote, 1, 0) == PAGE,
				    "process_vm_readv");
			ktap_assert(rl_is_all(buf, PAGE, TAG_DATA), "other bytes");
			rl_fill(buf, PAGE, TAG_SCRIBBLE + B, 0);
			ktap_assert(process_vm_writev(getpid(), &local, 1,
						      &remote, 1, 0) == PAGE,
				    "process_vm_writev");
			ktap_assert(rl_is_all(page, PAGE, TAG_SCRIBBLE + B),
				    "not written");
			break;
		case 1:		/* by a child, which has the same memory */
			pid = fork();
			if (!pid) {
				rl_fill(page, PAGE, TAG_SCRIBBLE + B, 0);
				_exit(0);
			}
			waitpid(pid, &status, 0);
			ktap_assert(rl_is_all(page, PAGE, TAG_SCRIBBLE + B),
				    "not the child's memory");
			break;
		case 2:		/* the sender's page is taken away */
			ktap_assert(!madvise(rl_payload_of(s), 4 * PAGE,
					     MADV_REMOVE), "MADV_REMOVE");
			rl_check(&got, A, B);
			ktap_assert(rl_is_all(rl_payload_of(s), 4 * PAGE, 0),
				    "not zero");
			break;
		case 3:		/* the receiver's */
			ktap_assert(!madvise(page, PAGE, MADV_REMOVE),
				    "MADV_REMOVE");
			ktap_assert(rl_is_all(page, PAGE, 0), "not zero");
			break;
		}
		if (i % 4 != 2)
			ktap_assert(rl_is_all(rl_payload_of(s), 4 * PAGE, TAG_DATA),
				    "the sender sees it");
		rl_give(B, &got);
	}
	rl_close();
}

/* Sends, or receives, for ever. */
static void child(unsigned int g, bool sender)
{
	struct rl_got got;

	for (;;) {
		if (sender) {
			rl_send_pages(g, A, MAX_PAGES);
			continue;
		}
		while (rl_take(g, &got))
			rl_give(g, &got);
		sched_yield();
	}
}

/* One of two is killed at any point; what the other one has is whole. */
static void B2_remap_kill9(void)
{
	unsigned int i, n = ktap_count("CROSSTALK_KILLS", 40, 2);
	struct vp_rand rnd;
	struct rl_got got;

	vp_rand_init(&rnd, 0);
	rl_open(1, VP_MEM_GUESTRAM);
	for (i = 0; i < n; i++) {
		u64 end = rl_deadline(), frames = 0, want;
		bool sender = i & 1;
		pid_t pid;

		/* Both are set up here; then one lives on in a child. */
		rl_start(B, VP_MEM_GUESTRAM);
		rl_guests = 2;
		rl_learn();
		rl_wait_direct(A, B);
		rl_wait_direct(B, A);
		want = vp_rand_in(&rnd, 1, 60);
		pid = fork();
		if (!pid)
			child(B, sender);
		while (frames < want && !rl_is_late(end)) {
			if (!sender) {
				rl_send_pages(A, B, MAX_PAGES);
				frames++;
			} else if (rl_take(A, &got)) {
				if (got.seq > rl_last_seq)
					rl_check(&got, B, A);
				rl_give(A, &got);
				frames++;
			}
		}
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		ktap_assert(frames == want, "%llu frames of %llu", frames, want);
		vp_close(&rl_guest[B].p);
		rl_guests = 1;
		while (rl_take(A, &got))
			rl_give(A, &got);
		rl_wait_sent(A);
		rl_last_seq += 1000000;
	}
	rl_close();
}

struct meddler {
	pthread_t thread;
	struct vp_rand rnd;
	unsigned int busy_with;		/* guest */
	int pipefd[2];
};

static bool meddle;

/* Another mapping of the same file, which is looked at and moved. */
static void map_twice(u8 *at, size_t len)
{
	u8 *twin = mremap(at, 0, len, MREMAP_MAYMOVE), *moved;
	size_t i;

	if (twin == MAP_FAILED)
		return;
	for (i = 0; i < len; i += PAGE)
		(void)READ_ONCE(twin[i]);
	moved = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	moved = mremap(twin, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, moved);
	for (i = 0; moved != MAP_FAILED && i < len; i += PAGE)
		(void)READ_ONCE(moved[i]);
	munmap(moved == MAP_FAILED ? twin : moved, len);
}

static void pass_pipe(struct meddler *m, u8 *at)
{
	struct iovec iov = { at, PAGE };
	u8 buf[PAGE];

	if (vmsplice(m->pipefd[1], &iov, 1, 0) == PAGE)
		while (read(m->pipefd[0], buf, PAGE) < 0 && errno == EINTR)
			;
}

static void look_from_child(u8 *at, size_t len)
{
	pid_t pid = fork();
	size_t i;

	if (!pid) {
		for (i = 0; i < len; i += PAGE)
			(void)READ_ONCE(at[i]);
		_exit(0);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

/* Nothing of this changes a byte. */
static void *meddle_thread(void *arg)
{
	struct meddler *m = arg;

	while (READ_ONCE(meddle)) {
		const struct vp_mem *mem = &rl_guest[m->busy_with].p.mem;
		size_t n = mem->map_len / PAGE;
		size_t first = vp_rand_in(&m->rnd, 0, n - 1);
		size_t len = vp_rand_in(&m->rnd, 1, vp_min(n - first, 64UL));
		u8 *at = (u8 *)mem->map + first * PAGE;
		struct iovec local = { .iov_len = PAGE };
		struct iovec remote = { at, PAGE };
		u8 buf[PAGE];

		local.iov_base = buf;
		len *= PAGE;
		switch (vp_rand_in(&m->rnd, 0, 7)) {
		case 0:
		case 1:
			madvise(at, len, MADV_DONTNEED);
			break;
		case 2:
			madvise(at, len, MADV_POPULATE_WRITE);
			break;
		case 3:
			process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
			break;
		case 4:
			pass_pipe(m, at);
			break;
		case 5:
			map_twice(at, len);
			break;
		case 6:
			mlock(at, PAGE);
			munlock(at, PAGE);
			break;
		default:
			look_from_child(at, len);
		}
		m->busy_with = !m->busy_with;
	}
	return NULL;
}

/* Two threads do what they can to the page tables, and nobody sees it. */
static void B1_remap_races(void)
{
	unsigned int i, k, n = ktap_count("CROSSTALK_FRAMES", 2000, 100);
	struct meddler m[2] = {};
	struct rl_got got;
	u64 remapped;

	rl_open(2, VP_MEM_GUESTRAM);
	meddle = true;
	for (i = 0; i < 2; i++) {
		vp_rand_init(&m[i].rnd, i);
		m[i].busy_with = i;
		ktap_assert(!pipe(m[i].pipefd) &&
			    !pthread_create(&m[i].thread, NULL, meddle_thread,
					    &m[i]), "no thread");
	}
	for (i = 0; i < n || rl_more(i - n, rl_stat(A, "tx_remap_pages")); i++) {
		struct vp_slot *s = rl_send_pages(i & 1, !(i & 1),
						  i % MAX_PAGES + 1);

		rl_receive(!(i & 1), &got, rl_last_seq);
		rl_wait_sent(i & 1);
		if (i & 2)
			rl_fill(rl_payload_of(s), MAX_PAGES * PAGE, TAG_SCRIBBLE, i);
		rl_check(&got, i & 1, !(i & 1));
		for (k = 1; k < got.n && i & 4; k++)
			rl_fill(rl_page_of(got.slot[k]), PAGE, TAG_SCRIBBLE, i);
		if (!(i & 2))
			ktap_assert(rl_is_all(rl_payload_of(s), got.pages * PAGE,
					      TAG_DATA),
				    "the sender sees the receiver's writes");
		rl_give(!(i & 1), &got);
	}
	WRITE_ONCE(meddle, false);
	for (i = 0; i < 2; i++)
		pthread_join(m[i].thread, NULL);
	remapped = rl_stat(A, "tx_remap_pages") + rl_stat(B, "tx_remap_pages");
	ktap_msg("%llu of %llu pages were remapped", remapped,
		 rl_direct_pages(A) + rl_direct_pages(B));
	rl_close();
}

static const struct ktap_case cases[] = {
	{ "A4_remap_nodes", A4_remap_nodes, .lacks = one_node },
	{ "A4_remap_touched", A4_remap_touched, .slow = true },
	{ "A6_remap_account", A6_remap_account, .slow = true,
	  .seconds = 600 },
	{ "A9_remap_locked", A9_remap_locked, .slow = true },
	{ "A9_remap_pinned", A9_remap_pinned, .slow = true },
	{ "B1_remap_races", B1_remap_races, .slow = true,
	  .lacks = rl_lacks_flush },
	{ "B2_remap_kill9", B2_remap_kill9, .seconds = 600,
	  .lacks = rl_lacks_flush },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
