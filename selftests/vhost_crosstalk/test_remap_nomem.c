// SPDX-License-Identifier: GPL-2.0
/*
 * Remapping without memory: each allocation, and each access to a guest's, fails
 * once, in a guest that touches its pages and in a worker that shares them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fail.h"
#include "guestram.h"
#include "ktap.h"
#include "remap_lab.h"

/* No memory for who touches a shared page: SIGBUS, and nothing else happens. */
static void B1_remap_no_memory(void)
{
	struct vp_slot *s;
	unsigned int i, n = 6, hit = 0;
	struct rl_got got;
	int status;
	pid_t pid;

	fail_setup(FAIL_PAGES);
	rl_open(2, VP_MEM_GUESTRAM);
	for (i = 0; i < n; i++) {
		s = rl_send_pages(A, B, 2);
		rl_receive(B, &got, rl_last_seq);
		rl_wait_sent(A);
		pid = fork();
		if (!pid) {
			fail_open();
			fail_nth(i % 3 + 1);
			(void)READ_ONCE(*rl_page_of(got.slot[got.n - 1]));
			fail_nth(0);
			_exit(0);
		}
		waitpid(pid, &status, 0);
		hit += WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS;
		rl_check(&got, A, B);
		ktap_assert(rl_is_all(rl_payload_of(s), 2 * PAGE, TAG_DATA),
			    "the sender's is another");
		rl_give(B, &got);
	}
	ktap_msg("%u of %u had no memory", hit, n);
	rl_close();
}

static int zero_fd = -1;
static u8 zeroes[PAGE];

/* A page, and its place in the file. */
struct place {
	int fd;
	off_t pos;
	void *page;
};

/* By page faults in the kernel, which makes errors of them. */
static int read_it(const struct place *p)
{
	return epoll_ctl(-1, EPOLL_CTL_ADD, -1, p->page) && errno == EBADF ?
	       0 : -1;
}

static int write_it(const struct place *p)
{
	return read(zero_fd, p->page, PAGE) == PAGE ? 0 : -1;
}

static int pwrite_it(const struct place *p)
{
	return pwrite(p->fd, zeroes, PAGE, p->pos) == PAGE ? 0 : -1;
}

static int punch(const struct place *p, off_t skip, size_t size)
{
	return fallocate(p->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 p->pos + skip, size);
}

static int punch_it(const struct place *p)
{
	return punch(p, 0, PAGE);
}

/* A page of which a part is left is zeroed there. */
static int zero_it(const struct place *p)
{
	return punch(p, 0, PAGE / 2) ?: punch(p, PAGE / 2, PAGE / 2);
}

static int fill_it(const struct place *p)
{
	return fallocate(p->fd, 0, p->pos, PAGE);
}

static const struct touch {
	const char *name;
	int (*touch)(const struct place *p);
	bool zeroes;		/* the page is full of zeroes then */
	int frames;		/* how many more there are */
	bool allocates;
} touches[] = {
	{ "page fault to read", read_it, false, 1, true },
	{ "page fault to write", write_it, true, 1, true },
	{ "write", pwrite_it, true, 1, true },
	{ "zeroing of a part", zero_it, true, 1, true },
	{ "hole", punch_it, true, 0, false },
	{ "fallocate", fill_it, false, 0, false },
};

/* Until a frame has arrived whose two pages are shared. */
static struct vp_slot *share_two(struct rl_got *got)
{
	u64 end = rl_deadline();

	for (;;) {
		u64 pages = rl_stat(A, "tx_remap_pages");
		struct vp_slot *s = rl_send_pages(A, B, 2);

		rl_receive(B, got, rl_last_seq);
		rl_wait_sent(A);
		if (rl_stat(A, "tx_remap_pages") == pages + 2)
			return s;
		rl_give(B, got);
		ktap_assert(!rl_is_late(end), "it is not remapped");
	}
}

/* The @nth allocation, or access to the caller, fails; false if there is none. */
static bool touch_without(const struct touch *t, int fd, unsigned int nth)
{
	const struct vp_mem *m = &rl_guest[B].p.mem;
	struct place p = { .fd = fd };
	struct vp_slot *s;
	long frames, more;
	struct rl_got got;
	bool failed;
	int ret, err;

	s = share_two(&got);
	p.page = rl_page_of(got.slot[got.n - 1]);
	p.pos = p.page - m->map;
	/* Its worker touches what it likes. */
	ktap_assert(!vp_stop(&rl_guest[B].p), "stop");
	frames = guestram_frames();
	fail_nth(nth);
	ret = t->touch(&p);
	err = errno;
	failed = failed_nth();
	ktap_assert(!ret || (failed && (err == ENOMEM || err == EFAULT)),
		    "%s: %s", t->name, strerror(err));
	more = guestram_frames() - frames;
	/* Copying from the caller can fail, too: then it has its page already. */
	ktap_assert(more == (ret ? 0 : t->frames) ||
		    (ret && err == EFAULT && more == t->frames),
		    "%s, failure %u: %ld frames more after %s", t->name, nth,
		    more, ret ? strerror(err) : "success");
	if (!ret && t->zeroes)
		ktap_assert(rl_is_all(p.page, PAGE, 0), "%s: nothing happened",
			    t->name);
	else
		rl_check(&got, A, B);
	ktap_assert(rl_is_all(rl_payload_of(s), 2 * PAGE, TAG_DATA),
		    "%s: the sender's is another", t->name);
	ktap_assert(!vp_start(&rl_guest[B].p), "start");
	rl_give(B, &got);
	return failed;
}

static void check_frames(void)
{
	long all = rl_touch_all(A) + rl_touch_all(B);

	ktap_assert(guestram_frames() == all, "%ld frames for %ld pages",
		    guestram_frames(), all);
}

/* Each allocation of all that touches a shared page is not to be had. */
static void B1_remap_nomem_touch(void)
{
	unsigned int i, nth;
	int fd;

	fail_setup(FAIL_SLAB);
	fail_setup(FAIL_PAGES);
	fail_open();
	zero_fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	ktap_assert(zero_fd >= 0, "/dev/zero");
	memset(zeroes, 0, sizeof(zeroes));	/* they need memory, too */
	rl_open(2, VP_MEM_GUESTRAM);
	check_frames();
	fd = rl_ram_fd(B);
	for (i = 0; i < VP_ARRAY_SIZE(touches); i++) {
		for (nth = 1; nth < 50; nth++)
			if (!touch_without(&touches[i], fd, nth))
				break;
		ktap_msg("%s: %u failures", touches[i].name, nth - 1);
		ktap_assert(nth < 50, "%s: no end of failures",
			    touches[i].name);
		ktap_assert(nth > 1 || !touches[i].allocates,
			    "%s: nothing has failed", touches[i].name);
	}
	check_frames();
	close(fd);
	rl_close();
}

static int worker_fail_fd(unsigned int g)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/fail-nth",
		 rl_guest[g].worker);
	fd = open(path, O_RDWR | O_CLOEXEC);
	ktap_assert(fd >= 0, "%s: %s", path, strerror(errno));
	return fd;
}

static void set_nth(int fd, unsigned int nth)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", nth);
	ktap_assert(pwrite(fd, text, strlen(text), 0) > 0, "fail-nth: %s",
		    strerror(errno));
}

static bool was_reached(int fd)
{
	char text[16] = "";

	ktap_assert(pread(fd, text, sizeof(text) - 1, 0) > 0, "fail-nth: %s",
		    strerror(errno));
	set_nth(fd, 0);
	return !strtoul(text, NULL, 10);
}

/* All that is there up to a frame, which must come; returns how many. */
static unsigned int receive_up_to(u64 seq)
{
	unsigned int n = 0;
	u64 end = rl_deadline();
	struct rl_got got;

	do {
		while (!rl_take(B, &got))
			if (rl_is_late(end))
				rl_not_there(seq);
		if (got.pages || got.seq == seq) {
			/* Nothing was made to fail any more. */
			rl_by_tap &= got.seq != seq;
			rl_check(&got, A, B);
			n++;
		}
		rl_give(B, &got);
	} while (got.seq != seq);
	return n;
}

/* What a worker has to allocate for one frame after the other; how much. */
static unsigned int send_without(int fd)
{
	unsigned int nth, quiet = 0, hits = 0, lost = 0;
	u64 slow;

	for (nth = 1; quiet < 8 && nth < 200; nth++) {
		rl_transfer(A, B, MAX_PAGES);
		slow = rl_stat(A, "tx_slow_packets");
		set_nth(fd, nth);
		/* The small one lies in a page that was shared before. */
		rl_send_pages(A, B, MAX_PAGES);
		rl_send_pages(A, B, 0);
		rl_send_pages(A, B, MAX_PAGES);
		rl_wait_sent(A);
		quiet = was_reached(fd) ? 0 : quiet + 1;
		hits += !quiet;
		/*
		 * A tap does not look whether it could write to the guest:
		 * tun_put_user() says that it has.
		 */
		rl_by_tap = rl_stat(A, "tx_slow_packets") != slow;
		/* What came before has come now, or not at all. */
		rl_send_pages(A, B, 1);
		lost += 3 - receive_up_to(rl_last_seq);
		rl_wait_sent(A);
	}
	ktap_assert(nth < 200, "no end of allocations");
	ktap_msg("%u times no memory, %u frames of %u less", hits, lost,
		 (nth - 1) * 3);
	return hits;
}

/*
 * The same of what the two workers do.  vhost itself drops a frame that it has
 * no memory for; what arrives is right.
 */
static void B1_remap_nomem_worker(void)
{
	unsigned int g;
	int fd;

	fail_setup(FAIL_SLAB);
	fail_setup(FAIL_PAGES);
	rl_open(2, VP_MEM_GUESTRAM);
	rl_failing = true;
	for (g = A; g <= B; g++) {
		fd = worker_fail_fd(g);
		send_without(fd);
		close(fd);
	}
	rl_failing = false;
	ktap_msg("%u errors of vhost-net, %u frames that a tap has not written",
		 rl_broken, rl_damaged);
	check_frames();
	rl_close();
}

static const struct ktap_case cases[] = {
	{ "B1_remap_no_memory", B1_remap_no_memory, .slow = true,
	  .lacks = fail_lacks },
	{ "B1_remap_nomem_touch", B1_remap_nomem_touch, .slow = true,
	  .lacks = fail_lacks },
	{ "B1_remap_nomem_worker", B1_remap_nomem_worker, .slow = true,
	  .lacks = fail_lacks },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
