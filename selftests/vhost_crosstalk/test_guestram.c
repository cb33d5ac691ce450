// SPDX-License-Identifier: GPL-2.0
/*
 * The file system for guest RAM: its limit, memory that comes zeroed and goes
 * back, mappings, and the kernel's other ways to this memory.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <linux/falloc.h>
#include <linux/futex.h>
#include <linux/if_xdp.h>
#include <linux/io_uring.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl.h"
#include "direct.h"
#include "fail.h"
#include "guestram.h"
#include "ktap.h"
#include "vpeer.h"

#define PAGE	4096UL
#define PAGES	64		/* of the mount under test */
#define SIZE	(PAGES * PAGE)
#define MAGIC	0x4752414d
#define CGROUP	"/sys/fs/cgroup/"
#define USERS	12

#define PUNCH	(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

static char dir[32];

/* ---- a mount with PAGES pages ---- */

static void begin(const char *options)
{
	int err = guestram_load();

	ktap_assert(!err, "loading it: %s (set CROSSTALK_GUESTRAM_KO)",
		    strerror(-err));
	strcpy(dir, "/tmp/guestram-XXXXXX");
	ktap_assert(mkdtemp(dir), "mkdtemp");
	err = guestram_mount(dir, options);
	ktap_assert(!err, "mount: %s", strerror(-err));
}

static unsigned long in_use(void)
{
	struct statfs s;

	ktap_assert(!statfs(dir, &s), "statfs");
	ktap_assert(s.f_bfree == s.f_bavail && s.f_bfree <= s.f_blocks,
		    "%lu of %lu blocks are free", s.f_bfree, s.f_blocks);
	return s.f_blocks - s.f_bfree;
}

static void used(unsigned long pages)
{
	ktap_assert(in_use() == pages, "%lu pages are in use, not %lu",
		    in_use(), pages);
}

static void end(void)
{
	used(0);
	ktap_assert(!umount(dir), "umount: %s", strerror(errno));
	rmdir(dir);
}

/* The module, too: it takes a while. */
static void unload(void)
{
	int err = guestram_unload();

	ktap_assert(!err, "unloading it: %s", strerror(-err));
}

static int file(unsigned long pages)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	ktap_assert(fd >= 0, "O_TMPFILE: %s", strerror(errno));
	ktap_assert(!ftruncate(fd, pages * PAGE), "ftruncate");
	return fd;
}

static u8 *map(int fd, unsigned long pages, int flags)
{
	void *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, flags, fd,
		       0);

	ktap_assert(p != MAP_FAILED, "mmap: %s", strerror(errno));
	return p;
}

static unsigned long blocks(int fd)
{
	struct stat st;

	ktap_assert(!fstat(fd, &st), "fstat");
	return st.st_blocks / (PAGE / 512);
}

static void is_all(const u8 *p, u8 value, size_t size, const char *what)
{
	size_t i;

	for (i = 0; i < size; i++)
		ktap_assert(p[i] == value, "%s: byte %zu is %#x", what, i,
			    p[i]);
}

/* The signal that one access ends a process with, or 0. */
static int touch(u8 *p, bool write)
{
	int status;
	pid_t pid;

	pid = fork();
	ktap_assert(pid >= 0, "fork");
	if (!pid) {
		struct rlimit no_core = {};

		setrlimit(RLIMIT_CORE, &no_core);
		if (write)
			WRITE_ONCE(*p, 1);
		else
			(void)READ_ONCE(*p);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* ---- mounting ---- */

static void options(void)
{
	static const char * const bad[] = {
		"size=0", "size=", "size", "size=x", "size=4kx", "size=101%",
		"size=%", "size=-1", "mode=8", "mode=10000", "uid=x",
		"uid=-1", "gid=4294967295", "nonsense", "nonsense=1",
	};
	char text[4096];
	struct statfs s;
	struct stat st;
	unsigned int i;
	int fd;

	begin("size=100000,mode=750,uid=12,gid=34");
	ktap_assert(!stat(dir, &st), "stat");
	ktap_assert(st.st_mode == (S_IFDIR | 0750) && st.st_uid == 12 &&
		    st.st_gid == 34, "mode %o, uid %u, gid %u", st.st_mode,
		    st.st_uid, st.st_gid);
	ktap_assert(!statfs(dir, &s), "statfs");
	ktap_assert(s.f_type == MAGIC && s.f_bsize == (long)PAGE &&
		    s.f_blocks == 25, "%lu blocks of %lu, type %#lx",
		    s.f_blocks, s.f_bsize, (long)s.f_type);
	ktap_assert(vp_read_file("/proc/mounts", text, sizeof(text)) > 0 &&
		    strstr(text, "size=100k,mode=750,uid=12,gid=34"),
		    "/proc/mounts: %s", text);
	fd = file(1);
	ktap_assert(mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd,
			 0) == MAP_FAILED && errno == EPERM, "can be run");
	close(fd);
	ktap_assert(!umount(dir), "umount");

	for (i = 0; i < VP_ARRAY_SIZE(bad); i++)
		ktap_assert(guestram_mount(dir, bad[i]) == -EINVAL, "%s",
			    bad[i]);

	ktap_assert(!guestram_mount(dir, ""), "no options");
	ktap_assert(!statfs(dir, &s) && s.f_blocks, "no limit");
	ktap_assert(!stat(dir, &st) && st.st_mode == (S_IFDIR | 01777),
		    "mode %o", st.st_mode);
	ktap_assert(!umount(dir), "umount");
	ktap_assert(!guestram_mount(dir, "size=10%"), "per cent");
	end();
}

static int remount(const char *options)
{
	return mount(NULL, dir, NULL, MS_REMOUNT, options) ? -errno : 0;
}

static void remounted(void)
{
	u8 *p;
	int fd;

	begin("size=256k,mode=700");
	fd = file(PAGES);
	p = map(fd, PAGES, MAP_SHARED);
	memset(p, 1, 8 * PAGE);
	ktap_assert(remount("size=28k") == -EINVAL, "smaller than its use");
	ktap_assert(remount("mode=755") == -EINVAL, "mode");
	ktap_assert(remount("uid=1") == -EINVAL, "uid");
	ktap_assert(remount("size=0") == -EINVAL, "no size");
	ktap_assert(touch(p + 8 * PAGE, true) == 0, "the limit has changed");
	ktap_assert(!remount("size=36k,mode=700,uid=0"), "smaller");
	ktap_assert(touch(p + 9 * PAGE, true) == SIGBUS, "no limit");
	ktap_assert(!remount("size=40k"), "larger");
	ktap_assert(touch(p + 9 * PAGE, true) == 0, "the old limit");
	munmap(p, SIZE);
	close(fd);
	ktap_assert(!remount("ro"), "read-only");
	ktap_assert(open(dir, O_TMPFILE | O_RDWR, 0600) < 0 && errno == EROFS,
		    "not read-only");
	end();
}

/* Neither the mount nor the module goes while somebody uses it. */
static void busy(void)
{
	int fd, err;
	u8 *p;

	begin("size=256k");
	fd = file(1);
	p = map(fd, 1, MAP_SHARED);
	close(fd);
	*p = 1;
	ktap_assert(umount(dir) && errno == EBUSY, "umount of a busy one");
	err = guestram_unload();
	ktap_assert(err == -EWOULDBLOCK || err == -EBUSY, "unload: %d", err);
	munmap(p, PAGE);
	err = guestram_unload();
	ktap_assert(err == -EWOULDBLOCK || err == -EBUSY, "unload: %d", err);
	end();
	unload();
}

/* What QEMU and libvirt do with names. */
static void names(void)
{
	char a[64], b[64], c[64];
	int fd;

	begin("size=256k");
	snprintf(a, sizeof(a), "%s/vm", dir);
	snprintf(b, sizeof(b), "%s/vm/ram", dir);
	snprintf(c, sizeof(c), "%s/vm/ram2", dir);
	ktap_assert(!mkdir(a, 0700), "mkdir");
	fd = open(b, O_RDWR | O_CREAT | O_EXCL, 0600);
	ktap_assert(fd >= 0 && write(fd, "x", 1) == 1, "create");
	ktap_assert(open(b, O_RDWR | O_CREAT | O_EXCL, 0600) < 0, "twice");
	ktap_assert(rmdir(a) && errno == ENOTEMPTY, "rmdir");
	ktap_assert(!chown(b, 1, 2) && !chmod(b, 0640), "chown, chmod");
	ktap_assert(!rename(b, c) && access(b, F_OK) && !access(c, F_OK),
		    "rename");
	close(fd);
	used(1);
	fd = open(c, O_RDWR | O_TRUNC);
	used(0);
	ktap_assert(write(fd, "x", 1) == 1 && !unlink(c), "unlink");
	used(1);
	close(fd);
	ktap_assert(!rmdir(a), "rmdir");
	ktap_assert(symlink("x", a) && mknod(b, 0600 | S_IFCHR, 0),
		    "links or devices");
	end();
}

/* ---- the limit, and memory that goes back ---- */

static void limit(void)
{
	static u8 buf[SIZE];
	unsigned long i;
	int fd, other;
	u8 *p;

	begin("size=256k");
	fd = file(0);
	memset(buf, 1, SIZE);
	ktap_assert(write(fd, buf, SIZE) == SIZE, "write");
	used(PAGES);
	ktap_assert(write(fd, buf, 1) < 0 && errno == ENOSPC, "write: more");
	ktap_assert(!ftruncate(fd, SIZE - 3 * PAGE), "ftruncate");
	used(PAGES - 3);
	ktap_assert(pwrite(fd, buf, SIZE, 3 * PAGE) == SIZE - 3 * PAGE,
		    "not as much as there is room for");
	close(fd);
	used(0);

	/* Two files have one limit. */
	fd = file(2 * PAGES);
	other = file(PAGES);
	p = map(fd, 2 * PAGES, MAP_SHARED);
	for (i = 0; i < PAGES - 1; i++)
		p[i * PAGE] = 1;
	ktap_assert(write(other, buf, 1) == 1, "the last one");
	used(PAGES);
	ktap_assert(touch(p + i * PAGE, true) == SIGBUS, "write: no SIGBUS");
	ktap_assert(touch(p + i * PAGE, false) == SIGBUS, "read: no SIGBUS");
	ktap_assert(touch(p, true) == 0, "memory that was there");
	/* The kernel gets errors. */
	ktap_assert(pread(other, p + i * PAGE, 1, 0) < 0 && errno == EFAULT,
		    "read to where no memory is");
	ktap_assert(fallocate(fd, 0, i * PAGE, PAGE) && errno == ENOSPC,
		    "fallocate: more");
	close(other);
	ktap_assert(touch(p + i * PAGE, true) == 0, "memory that is free");

	/* All of it or nothing. */
	ktap_assert(!fallocate(fd, PUNCH, 0, SIZE), "punch");
	used(0);
	p[5 * PAGE] = 5;
	ktap_assert(fallocate(fd, 0, 0, SIZE + PAGE) && errno == ENOSPC,
		    "fallocate: too much");
	used(1);
	p[PAGES * PAGE] = 1;
	ktap_assert(fallocate(fd, 0, 0, SIZE) && errno == ENOSPC,
		    "fallocate: too much with what there is");
	used(2);
	ktap_assert(!fallocate(fd, 0, 0, SIZE - PAGE), "fallocate");
	used(PAGES);
	ktap_assert(p[5 * PAGE] == 5, "fallocate took a page away");
	ktap_assert(fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, PAGE) &&
		    errno == EOPNOTSUPP, "zero range");
	munmap(p, 2 * SIZE);
	close(fd);
	end();
}

static void gives_back(void)
{
	u8 buf[PAGE], *p, *q;
	int fd;

	begin("size=256k");
	fd = file(16);
	p = map(fd, 16, MAP_SHARED);
	q = map(fd, 16, MAP_PRIVATE);
	memset(p, 7, 16 * PAGE);
	used(16);
	ktap_assert(blocks(fd) == 16, "%lu blocks", blocks(fd));

	/* Bytes that are in no whole page are zeroed. */
	ktap_assert(!fallocate(fd, PUNCH, PAGE + 100, 2 * PAGE), "punch");
	used(15);
	is_all(p, 7, PAGE + 100, "before the hole");
	is_all(p + PAGE + 100, 0, 2 * PAGE, "the hole");
	is_all(p + 3 * PAGE + 100, 7, 13 * PAGE - 100, "behind the hole");
	used(16);
	ktap_assert(!fallocate(fd, PUNCH, 5 * PAGE + 10, 20), "punch");
	is_all(p + 5 * PAGE, 7, 10, "before the small hole");
	is_all(p + 5 * PAGE + 10, 0, 20, "the small hole");
	is_all(p + 5 * PAGE + 30, 7, PAGE - 30, "behind the small hole");

	/* As balloons do it. */
	ktap_assert(!madvise(p + 8 * PAGE, 2 * PAGE, MADV_REMOVE),
		    "MADV_REMOVE: %s", strerror(errno));
	used(14);
	ktap_assert(pread(fd, buf, PAGE, 9 * PAGE) == PAGE, "pread");
	is_all(buf, 0, PAGE, "a hole that is read");
	used(14);
	ktap_assert(!madvise(p, PAGE, MADV_DONTNEED) && p[0] == 7,
		    "MADV_DONTNEED takes more than the mapping");

	/* Private copies stay with a hole, and go with the end. */
	q[10 * PAGE] = 9;
	ktap_assert(!fallocate(fd, PUNCH, 10 * PAGE, PAGE), "punch");
	ktap_assert(q[10 * PAGE] == 9 && q[10 * PAGE + 1] == 7,
		    "a private page is gone");
	used(13);
	ktap_assert(!ftruncate(fd, 2 * PAGE + 50), "ftruncate");
	used(3);
	ktap_assert(blocks(fd) == 3, "%lu blocks", blocks(fd));
	ktap_assert(touch(p + 3 * PAGE, true) == SIGBUS, "behind the end");
	ktap_assert(touch(q + 10 * PAGE, false) == SIGBUS,
		    "a private page behind the end");
	ktap_assert(!ftruncate(fd, 16 * PAGE), "ftruncate");
	is_all(p + 2 * PAGE + 50, 0, 14 * PAGE - 50, "behind the old end");

	/* Without a name, but mapped. */
	close(fd);
	munmap(q, 16 * PAGE);
	used(16);
	munmap(p, 16 * PAGE);
	end();
}

/* Memory that others have had comes zeroed, by all ways. */
/* Two who touch a page at once need room for one. */
static void last_page(void)
{
	unsigned int i, k, n = ktap_count("CROSSTALK_CYCLES", 300, 30);
	bool *go = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	u8 *p, *last;
	int fd, status;

	ktap_assert(go != MAP_FAILED, "mmap");
	begin("size=256k");
	fd = file(PAGES);
	p = map(fd, PAGES, MAP_SHARED);
	last = p + (PAGES - 1) * PAGE;
	ktap_assert(!fallocate(fd, 0, 0, SIZE - PAGE), "fallocate");
	for (i = 0; i < n; i++) {
		WRITE_ONCE(*go, false);
		for (k = 0; k < 2; k++) {
			if (fork())
				continue;
			while (!READ_ONCE(*go))
				sched_yield();
			WRITE_ONCE(last[k], 1);
			_exit(0);
		}
		WRITE_ONCE(*go, true);
		for (k = 0; k < 2; k++) {
			ktap_assert(wait(&status) > 0, "wait");
			ktap_assert(!status, "round %u: status %x", i, status);
		}
		used(PAGES);
		ktap_assert(!fallocate(fd, PUNCH, SIZE - PAGE, PAGE), "punch");
	}
	munmap(p, SIZE);
	close(fd);
	end();
}

static long futex(u32 *p, int op, u32 val, const struct timespec *limit)
{
	return syscall(SYS_futex, p, op, val, limit, NULL, 0);
}

/* The same place in two files is not the same futex. */
static void futexes(void)
{
	struct timespec limit = { 20 * vp_slowness(), 0 };
	int fd[2], status;
	u32 *p[2];
	pid_t pid;

	begin("size=256k");
	fd[0] = file(1);
	fd[1] = file(1);
	p[0] = (u32 *)map(fd[0], 1, MAP_SHARED);
	p[1] = (u32 *)map(fd[1], 1, MAP_SHARED);
	pid = fork();
	ktap_assert(pid >= 0, "fork");
	if (!pid)
		_exit(futex(p[0], FUTEX_WAIT, 0, &limit) ? 1 : 0);
	do {
		vp_sleep_ms(1);
		ktap_assert(!futex(p[1], FUTEX_WAKE, 1, NULL),
			    "somebody else was woken up");
		ktap_assert(!waitpid(pid, &status, WNOHANG),
			    "nobody woke it up (%x)", status);
	} while (futex(p[0], FUTEX_WAKE, 1, NULL) != 1);
	ktap_assert(waitpid(pid, &status, 0) == pid && !status,
		    "waiting ends with %x", status);
	munmap(p[0], PAGE);
	munmap(p[1], PAGE);
	close(fd[0]);
	close(fd[1]);
	end();
}

static void zeroed(void)
{
	unsigned int i, n = ktap_count("CROSSTALK_CYCLES", 20, 3);
	u8 buf[PAGE], *p;
	int fd;

	begin("size=256k");
	for (i = 0; i < n; i++) {
		fd = file(PAGES);
		p = map(fd, PAGES, MAP_SHARED);
		memset(p, 0x5a, SIZE);
		munmap(p, SIZE);
		close(fd);

		fd = file(PAGES);
		p = map(fd, PAGES, MAP_SHARED);
		switch (i % 3) {
		case 0:
			break;
		case 1:
			ktap_assert(!fallocate(fd, 0, 0, SIZE), "fallocate");
			break;
		default:
			ktap_assert(pwrite(fd, "", 1, 3 * PAGE + 5) == 1,
				    "pwrite");
		}
		ktap_assert(pread(fd, buf, PAGE, 3 * PAGE) == PAGE, "pread");
		is_all(buf, 0, PAGE, "read");
		is_all(p, 0, SIZE, "mapped");
		munmap(p, SIZE);
		close(fd);
	}
	end();
}

/* ---- who sees what ---- */

/* What is read in between comes through another mapping. */
static void put(u8 *at, const char *text)
{
	do {
		WRITE_ONCE(*at++, *text);
	} while (*text++);
}

static void shared(void)
{
	u8 buf[2 * PAGE], *p, *q, *c;
	int fd, status;
	pid_t pid;

	begin("size=256k");
	fd = file(8);
	p = map(fd, 8, MAP_SHARED);
	q = map(fd, 8, MAP_SHARED);
	c = map(fd, 8, MAP_PRIVATE);
	put(p, "one");
	ktap_assert(!strcmp((char *)q, "one") && !strcmp((char *)c, "one"),
		    "mappings");
	ktap_assert(pread(fd, buf, 2 * PAGE, 0) == 2 * PAGE &&
		    !strcmp((char *)buf, "one"), "pread");
	memset(buf, 3, sizeof(buf));
	ktap_assert(pwrite(fd, buf, 1000, 2 * PAGE - 500) == 1000, "pwrite");
	is_all(p + 2 * PAGE - 500, 3, 1000, "written across pages");
	is_all(p + 2 * PAGE + 500, 0, PAGE - 500, "behind it");
	/* From itself to itself. */
	ktap_assert(pwrite(fd, p + PAGE, 2 * PAGE, PAGE + 100) == 2 * PAGE,
		    "pwrite of itself");

	pid = fork();
	ktap_assert(pid >= 0, "fork");
	if (!pid) {
		put(p + 4 * PAGE, "child");
		c[5 * PAGE] = 5;
		_exit(strcmp((char *)q, "one") || p[5 * PAGE]);
	}
	ktap_assert(waitpid(pid, &status, 0) == pid && !status, "child");
	ktap_assert(!strcmp((char *)p + 4 * PAGE, "child") &&
		    !strcmp((char *)c + 4 * PAGE, "child"),
		    "what the child wrote");
	ktap_assert(!c[5 * PAGE] && !p[5 * PAGE], "the child's private page");

	/* A copy on write is no memory of the file's. */
	put(p + 6 * PAGE, "old");
	put(c + 6 * PAGE + 100, "mine");
	put(p + 6 * PAGE, "new");
	ktap_assert(!strcmp((char *)c + 6 * PAGE, "old") &&
		    !p[6 * PAGE + 100], "a private page");
	/* What was only read is still the file's. */
	put(q, "two");
	ktap_assert(!strcmp((char *)c, "two"), "a page that was only read");
	munmap(p, 8 * PAGE);
	munmap(q, 8 * PAGE);
	munmap(c, 8 * PAGE);
	close(fd);
	end();
}

/*
 * Files that get shorter, longer and holes while others use them: what is in
 * one of them is its own, or nothing.
 */
static void user(unsigned int id, int fd, u64 until, unsigned int *ended)
{
	u8 tag = 0x10 + id % 4, buf[3 * PAGE], *p = map(fd, 32, MAP_SHARED);
	struct vp_rand r;
	int i;

	vp_rand_init(&r, id);
	while (vp_now_ms() < until) {
		u64 at = vp_rand_in(&r, 0, 31) * PAGE;
		struct iovec there = { p + at, 100 };
		struct iovec here = { buf, 100 };
		s64 n;

		switch (vp_rand_in(&r, 0, 6)) {
		case 0:
			if (ftruncate(fd, at))
				_exit(1);
			break;
		case 1:
			if (ftruncate(fd, 32 * PAGE))
				_exit(2);
			break;
		case 2:
			/* Not a failure: where it begins can be the end. */
			if (fallocate(fd, PUNCH, at + 1, 5 * PAGE))
				_exit(3);
			break;
		case 3:
			if (fallocate(fd, FALLOC_FL_KEEP_SIZE, at, 4 * PAGE) &&
			    errno != ENOSPC)
				_exit(4);
			break;
		case 4:
			memset(buf, tag, sizeof(buf));
			if (pwrite(fd, buf, sizeof(buf), at) < 0 &&
			    errno != ENOSPC)
				_exit(5);
			break;
		case 5:
			/* The kernel touches it for us: no SIGBUS. */
			memset(buf, tag, 100);
			process_vm_writev(getpid(), &here, 1, &there, 1, 0);
			break;
		default:
			there.iov_len = PAGE;
			here.iov_len = PAGE;
			n = vp_rand(&r) & 1 ?
				process_vm_readv(getpid(), &here, 1, &there, 1,
						 0) :
				pread(fd, buf, sizeof(buf), at);
			for (i = 0; i < n; i++)
				if (buf[i] && buf[i] != tag)
					_exit(6);
		}
	}
	/*
	 * All of them end before one exits: User Mode Linux walks the mappings
	 * of a process that exits, without its lock, if another one takes pages
	 * out of them at that time (arch/um, flush_tlb_mm()).
	 */
	__atomic_add_fetch(ended, 1, __ATOMIC_RELEASE);
	while (__atomic_load_n(ended, __ATOMIC_ACQUIRE) < USERS)
		vp_sleep_ms(1);
	_exit(0);
}

static void race(void)
{
	u64 until = vp_now_ms() + ktap_count("CROSSTALK_MS", 1500, 250);
	unsigned int i, *ended;
	int fd[4], status;

	begin("size=256k");
	ended = (unsigned int *)map(-1, 1, MAP_SHARED | MAP_ANONYMOUS);
	for (i = 0; i < 4; i++)
		fd[i] = file(32);
	for (i = 0; i < USERS; i++)
		if (!fork())
			user(i, fd[i % 4], until, ended);
	while (wait(&status) > 0)
		ktap_assert(!status, "a user ended with %d", status >> 8);
	for (i = 0; i < 4; i++)
		close(fd[i]);
	end();
}

/* ---- dying ---- */

static void killed(void)
{
	unsigned int i, n = ktap_count("CROSSTALK_KILLS", 50, 10);
	struct vp_rand r;
	pid_t pid;

	vp_rand_init(&r, 1);
	begin("size=256k");
	for (i = 0; i < n; i++) {
		pid = fork();
		ktap_assert(pid >= 0, "fork");
		if (!pid) {
			int fd = file(PAGES);
			u8 *p = map(fd, PAGES, MAP_SHARED);

			for (;;) {
				memset(p, i, SIZE);
				if (fallocate(fd, PUNCH, 0, SIZE) ||
				    fallocate(fd, 0, 0, SIZE))
					_exit(1);
			}
		}
		usleep(vp_rand_in(&r, 0, 3000));
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		used(0);
	}
	end();
}

/* One allocation after the other fails; returns how often that was an error. */
static unsigned int fail_each(int fd)
{
	unsigned int n, failed = 0;
	int ret;

	for (n = 1; ; n++) {
		fail_nth(n);
		ret = fallocate(fd, 0, 0, 16 * PAGE);
		/* The kernel tries some in another way. */
		ktap_assert(!ret || errno == ENOMEM, "allocation %u: %s", n,
			    strerror(errno));
		if (!failed_nth())
			break;
		used(ret ? 0 : 16);
		failed += !!ret;
		ktap_assert(!fallocate(fd, PUNCH, 0, 16 * PAGE), "punch");
	}
	ktap_assert(!ret, "it fails without a failure");
	ktap_assert(!fallocate(fd, PUNCH, 0, 16 * PAGE), "punch");
	ktap_msg("%u of %u failures", failed, n);
	return failed;
}

/* Without memory: an error, or SIGBUS, and nothing is left. */
static void nomem(void)
{
	unsigned int n, again = 0;
	int fd, ret;
	u8 *p;

	begin("size=256k");
	fail_setup(FAIL_SLAB);
	fail_setup(FAIL_PAGES);
	fail_open();
	fd = file(PAGES);
	p = map(fd, PAGES, MAP_SHARED);
	/*
	 * Each of the pages is the one that is not to be had.  A run in which the
	 * kernel does not allocate the same each time (its caches are refilled)
	 * can pass one by, and is none.
	 */
	while (fail_each(fd) < 16)
		ktap_assert(++again < 5, "not all pages' failures are errors");

	for (n = 1; n < 10; n++) {
		fail_nth(n);
		ret = pwrite(fd, "x", 1, 0);
		/* Looking at the page can fail, too. */
		ktap_assert(ret < 0 ? errno == ENOMEM || errno == EFAULT :
				      ret == 1, "pwrite: %s", strerror(errno));
		if (!failed_nth())
			break;
		ktap_assert(!fallocate(fd, PUNCH, 0, PAGE), "punch");
		used(0);
	}
	ktap_assert(n > 1 && n < 10, "pwrite: %u allocations", n);
	munmap(p, SIZE);
	close(fd);
	end();
}

/* ---- the kernel's other ways to this memory ---- */

static void direct_io(void)
{
	unsigned long i;
	int fd, disk;
	u8 *p;

	begin("size=256k");
	fd = file(32);
	p = map(fd, 32, MAP_SHARED);
	disk = open(VP_RAMDISK, O_RDWR | O_DIRECT | O_CLOEXEC);
	ktap_assert(disk >= 0, VP_RAMDISK ": %s", strerror(errno));
	for (i = 0; i < 16 * PAGE; i++)
		p[i] = i * 31 >> 3;
	ktap_assert(pwrite(disk, p, 16 * PAGE, 0) == 16 * PAGE, "write: %s",
		    strerror(errno));
	/* To pages that are not there yet. */
	ktap_assert(pread(disk, p + 16 * PAGE, 16 * PAGE, 0) == 16 * PAGE,
		    "read: %s", strerror(errno));
	ktap_assert(!memcmp(p, p + 16 * PAGE, 16 * PAGE), "other data");
	ktap_assert(pread(fd, p, 16 * PAGE, 16 * PAGE) == 16 * PAGE, "pread");
	used(32);
	close(disk);
	munmap(p, 32 * PAGE);
	close(fd);
	end();
}

/* Pages that the kernel uses outlive their place in the file. */
static void pinned(void)
{
	struct xdp_umem_reg umem = { .len = 8 * PAGE, .chunk_size = PAGE };
	struct io_uring_params params = {};
	int fd, ring, xsk, pipes[2];
	u8 buf[PAGE], *p;
	loff_t from = 0;
	struct iovec v;

	begin("size=256k");
	fd = file(8);
	p = map(fd, 8, MAP_SHARED);
	memset(p, 0x77, PAGE);
	v = (struct iovec){ p, PAGE };
	ktap_assert(!pipe(pipes), "pipe");
	ktap_assert(vmsplice(pipes[1], &v, 1, 0) == PAGE, "vmsplice: %s",
		    strerror(errno));
	ktap_assert(!fallocate(fd, PUNCH, 0, PAGE), "punch");
	used(0);
	ktap_assert(!fallocate(fd, 0, 0, 8 * PAGE), "fallocate");
	memset(p, 0x11, 8 * PAGE);
	ktap_assert(read(pipes[0], buf, PAGE) == PAGE, "read");
	is_all(buf, 0x77, PAGE, "in the pipe");

	/* sendfile() gives a pipe copies, not the pages. */
	memset(p, 0x33, PAGE);
	ktap_assert(splice(fd, &from, pipes[1], NULL, PAGE, SPLICE_F_MOVE) ==
		    PAGE, "splice: %s", strerror(errno));
	memset(p, 0x44, PAGE);
	ktap_assert(read(pipes[0], buf, PAGE) == PAGE, "read");
	is_all(buf, 0x33, PAGE, "spliced");

	/* For long, as VFIO does it. */
	xsk = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (xsk < 0) {
		ktap_msg("no AF_XDP: %s", strerror(errno));
	} else {
		umem.addr = (u64)p;
		ktap_assert(!setsockopt(xsk, SOL_XDP, XDP_UMEM_REG, &umem,
					sizeof(umem)), "AF_XDP: %s",
			    strerror(errno));
	}
	ring = syscall(SYS_io_uring_setup, 4, &params);
	v = (struct iovec){ p, 8 * PAGE };
	/* 6.1's wants no memory of files, but for tmpfs and hugetlbfs. */
	if (ring < 0 || syscall(SYS_io_uring_register, ring,
				IORING_REGISTER_BUFFERS, &v, 1))
		ktap_assert(ring < 0 || errno == EOPNOTSUPP, "io_uring: %s",
			    strerror(errno));
	ktap_assert(!ftruncate(fd, 0), "ftruncate");
	used(0);
	if (ring >= 0)
		close(ring);
	if (xsk >= 0)
		close(xsk);
	munmap(p, 8 * PAGE);
	close(fd);
	close(pipes[0]);
	close(pipes[1]);
	end();
}

static unsigned long smaps(const void *addr, const char *field)
{
	unsigned long kb = ~0UL, start, end;
	bool here = false;
	char line[256];
	FILE *f;

	f = fopen("/proc/self/smaps", "r");
	ktap_assert(f, "smaps");
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = start == (unsigned long)addr;
		if (here && !strncmp(line, field, strlen(field)))
			sscanf(line + strlen(field), ": %lu", &kb);
	}
	fclose(f);
	return kb;
}

static void core_dump(u8 *p)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	char old[256], path[64];
	struct stat st = {};
	int fd, status;
	pid_t pid;
	u8 *core;

	snprintf(path, sizeof(path), "/tmp/guestram-core-%d", getpid());
	ktap_assert(vp_read_file("/proc/sys/kernel/core_pattern", old,
				 sizeof(old)) >= 0, "core_pattern");
	vp_write_file("/proc/sys/kernel/core_pattern", path);
	vp_write_file("/proc/sys/kernel/core_uses_pid", "0");
	pid = fork();
	if (!pid) {
		setrlimit(RLIMIT_CORE, &all);
		signal(SIGABRT, SIG_DFL);
		abort();
	}
	waitpid(pid, &status, 0);
	vp_write_file("/proc/sys/kernel/core_pattern", old);
	fd = open(path, O_RDWR);
	unlink(path);
	ktap_assert(WCOREDUMP(status) && fd >= 0 && !fstat(fd, &st) &&
		    st.st_size, "no core dump");
	core = map(fd, st.st_size / PAGE, MAP_SHARED);
	ktap_assert(memmem(core, st.st_size / PAGE * PAGE, p, PAGE),
		    "it is not in the core dump");
	munmap(core, st.st_size / PAGE * PAGE);
	close(fd);
}

static void looked_at(void)
{
	unsigned long i;
	u8 *p, buf[PAGE];
	int fd;

	begin("size=256k");
	fd = file(8);
	p = map(fd, 8, MAP_SHARED);
	for (i = 0; i < 3 * PAGE; i++)
		p[i] = i * 7 + (i >> 8) * 13;
	ktap_assert(smaps(p, "Size") == 32 && smaps(p, "Rss") == 12 &&
		    smaps(p, "Pss") == 12, "smaps: %lu, %lu, %lu kB",
		    smaps(p, "Size"), smaps(p, "Rss"), smaps(p, "Pss"));
	ktap_assert(process_vm_readv(getpid(), &(struct iovec){ buf, PAGE }, 1,
				     &(struct iovec){ p + PAGE, PAGE }, 1,
				     0) == PAGE && !memcmp(buf, p + PAGE, PAGE),
		    "process_vm_readv");
	ktap_assert(!mlock(p, 8 * PAGE), "mlock: %s", strerror(errno));
	used(8);
	ktap_assert(!munlock(p, 8 * PAGE), "munlock");
	ktap_assert(!madvise(p, 8 * PAGE, MADV_COLD), "MADV_COLD");
	madvise(p, 8 * PAGE, MADV_PAGEOUT);
	ktap_assert(msync(p, 8 * PAGE, MS_SYNC) == 0 && !fsync(fd), "sync");
	core_dump(p);
	/* Memory that is locked goes, too. */
	ktap_assert(!mlock(p, 8 * PAGE), "mlock: %s", strerror(errno));
	ktap_assert(!fallocate(fd, PUNCH, PAGE, 4 * PAGE), "punch");
	used(4);
	munmap(p, 8 * PAGE);
	close(fd);
	end();
}

static const char *no_memcg(void)
{
	char text[256] = "";

	vp_read_file(CGROUP "cgroup.controllers", text, sizeof(text));
	return strstr(text, "memory") ? NULL : "has no memory cgroups here";
}

static unsigned long memcg(const char *group, const char *name,
			   const char *field)
{
	char path[128], text[4096] = "", *at = text;

	snprintf(path, sizeof(path), "%s/%s", group, name);
	ktap_assert(vp_read_file(path, text, sizeof(text)) >= 0, "%s", path);
	if (field) {
		at = strstr(text, field);
		ktap_assert(at, "%s has no %s", path, field);
		at += strlen(field);
	}
	return strtoul(at, NULL, 10);
}

/* It is charged, and a group's limit is an error and no OOM killer. */
static void charged(void)
{
	char group[64], path[96], text[16];
	unsigned long before, after, i;
	int status, done[2], go[2];
	pid_t pid;
	u8 *p;
	int fd;

	begin("size=16m");
	snprintf(group, sizeof(group), CGROUP "guestram-%d", getpid());
	vp_write_file(CGROUP "cgroup.subtree_control", "+memory");
	ktap_assert(!mkdir(group, 0700), "%s", group);
	snprintf(path, sizeof(path), "%s/memory.max", group);
	ktap_assert(!vp_write_file(path, "8M"), "%s", path);
	fd = file(4096);
	p = map(fd, 4096, MAP_SHARED);
	ktap_assert(!pipe(done) && !pipe(go), "pipe");
	pid = fork();
	if (!pid) {
		snprintf(path, sizeof(path), "%s/cgroup.procs", group);
		snprintf(text, sizeof(text), "%d", getpid());
		ktap_assert(!vp_write_file(path, text), "%s", path);
		memset(p, 1, PAGE);
		ktap_assert(write(done[1], "1", 1) == 1 &&
			    read(go[0], text, 1) == 1, "pipe");
		for (i = 0; i < 1024; i++)
			p[i * PAGE] = 1;
		ktap_assert(write(done[1], "2", 1) == 1 &&
			    read(go[0], text, 1) == 1, "pipe");
		ktap_assert(fallocate(fd, 0, 0, 4096 * PAGE) &&
			    errno == ENOMEM, "fallocate at the limit: %s",
			    strerror(errno));
		ktap_assert(write(done[1], "3", 1) == 1 &&
			    read(go[0], text, 1) == 1, "pipe");
		for (i = 0; i < 4096; i++)
			p[i * PAGE] = 1;
		_exit(0);
	}
	ktap_assert(read(done[0], text, 1) == 1, "child");
	before = memcg(group, "memory.current", NULL);
	ktap_assert(write(go[1], "1", 1) == 1 && read(done[0], text, 1) == 1,
		    "child");
	after = memcg(group, "memory.current", NULL);
	/* The group's own caches of charges are a few dozen pages a CPU. */
	ktap_assert(after >= before + 3 * (1 << 20), "%lu, then %lu bytes",
		    before, after);
	used(1024);
	ktap_assert(write(go[1], "2", 1) == 1 && read(done[0], text, 1) == 1,
		    "child");
	used(1024);
	ktap_assert(write(go[1], "3", 1) == 1, "child");
	waitpid(pid, &status, 0);
	ktap_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS,
		    "at the limit: %#x", status);
	ktap_assert(!memcg(group, "memory.events", "oom_kill "), "OOM killer");
	i = in_use();
	ktap_assert(i > 1024 && i < 2048, "%lu pages of 2048", i);
	munmap(p, 4096 * PAGE);
	close(fd);
	used(0);
	after = memcg(group, "memory.current", NULL);
	ktap_assert(after < before + (1 << 20), "%lu bytes are left charged",
		    after);
	rmdir(group);
	end();
}

static const char *no_numa(void)
{
	return syscall(SYS_get_mempolicy, NULL, NULL, 0, NULL, 0) ?
	       "has no NUMA policies" : NULL;
}

/* One node is all that a VM here has. */
static void policy(void)
{
	unsigned long nodes = 1;
	int node = -1, fd;
	u8 *p;

	begin("size=256k");
	fd = file(8);
	p = map(fd, 8, MAP_SHARED);
	ktap_assert(!syscall(SYS_mbind, p, 8 * PAGE, MPOL_BIND, &nodes, 64,
			     MPOL_MF_STRICT | MPOL_MF_MOVE), "mbind: %s",
		    strerror(errno));
	memset(p, 1, 8 * PAGE);
	ktap_assert(!syscall(SYS_get_mempolicy, &node, NULL, 0, p,
			     MPOL_F_NODE | MPOL_F_ADDR) && !node,
		    "it is on node %d", node);
	munmap(p, 8 * PAGE);
	close(fd);
	end();
}

/* ---- guests on it ---- */

static void guests(void)
{
	struct vp_world *w;
	struct vp_cfg c;

	vp_cfg_default(&c);
	c.mem = VP_MEM_GUESTRAM;
	c.regions = 3;
	c.indirect = 50;
	w = direct_start(3, &c, NULL, false);
	direct_wait(w);
	vp_wait_frames(w, ktap_count("CROSSTALK_FRAMES", 5000, 500));
	ktap_assert(direct_finish(w), "no frame by the direct path");
	ctl_need_unloaded();
	/* Their memory has gone with them. */
	unload();
}

static const struct ktap_case cases[] = {
	{ "options", options },
	{ "remounted", remounted },
	{ "busy", busy },
	{ "names", names },
	{ "limit", limit },
	{ "gives_back", gives_back },
	{ "last_page", last_page },
	{ "futexes", futexes },
	{ "zeroed", zeroed },
	{ "shared", shared },
	{ "race", race },
	{ "killed", killed },
	{ "nomem", nomem, .lacks = fail_lacks },
	{ "direct_io", direct_io, .lacks = vp_lacks_ramdisk },
	{ "pinned", pinned },
	{ "looked_at", looked_at },
	{ "charged", charged, .lacks = no_memcg },
	{ "policy", policy, .lacks = no_numa },
	{ "guests", guests },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
