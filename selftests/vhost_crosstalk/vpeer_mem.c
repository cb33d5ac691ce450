// SPDX-License-Identifier: GPL-2.0
/* A peer's "guest physical" memory: kinds, regions, allocation. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/userfaultfd.h>

#include "guestram.h"
#include "ktap.h"
#include "vpeer.h"

#define VP_GPA_BASE	0x40000000ULL
#define VP_HOLE		0x10000000ULL
#define HUGE_SIZE	(2UL << 20)

const char * const vp_mem_kind_name[VP_MEM_KINDS] = {
	"anonymous", "thp", "memfd", "hugetlb", "file", "guestram",
};

static u64 round_up(u64 v, u64 to)
{
	return (v + to - 1) / to * to;
}

/* More huge pages for the machine. */
static bool more_huge(unsigned long pages)
{
	char buf[32];
	unsigned long total;

	if (vp_read_file(VP_NR_HUGEPAGES, buf, sizeof(buf)) < 0)
		return false;
	total = strtoul(buf, NULL, 10);
	snprintf(buf, sizeof(buf), "%lu", total + pages);
	return !vp_write_file(VP_NR_HUGEPAGES, buf);
}

static int backing_file(struct vp_mem *m)
{
	const char *dir = getenv("TMPDIR");
	char path[256];
	int fd;

	switch (m->kind) {
	case VP_MEM_MEMFD:
		fd = memfd_create("vpeer", MFD_CLOEXEC);
		break;
	case VP_MEM_HUGETLB:
		fd = memfd_create("vpeer", MFD_CLOEXEC | MFD_HUGETLB);
		break;
	case VP_MEM_FILE:
		snprintf(path, sizeof(path), "%s/vpeer-XXXXXX", dir ?: "/tmp");
		fd = mkstemp(path);
		if (fd >= 0)
			unlink(path);
		break;
	case VP_MEM_GUESTRAM:
		fd = guestram_file(m->map_len);
		break;
	default:
		return -1;
	}
	if (fd < 0)
		return -EOPNOTSUPP;
	if (ftruncate(fd, m->map_len)) {
		close(fd);
		return -EOPNOTSUPP;
	}
	return fd;
}

void vp_mem_scatter(struct vp_mem *m)
{
	size_t i;

	for (i = 4096; i < m->map_len; i += 2 * 4096)
		WRITE_ONCE(((u8 *)m->map)[i], 0);
}

int vp_mem_init(struct vp_mem *m, enum vp_mem_kind kind, unsigned int n,
		u64 size, bool adjacent)
{
	bool shared = kind >= VP_MEM_MEMFD;
	unsigned int i, tries = 0;
	u8 *base;
	int fd;

	memset(m, 0, sizeof(*m));
	m->kind = kind;
	m->n = n;
	m->adjacent = adjacent;
	size = round_up(size, kind == VP_MEM_HUGETLB || kind == VP_MEM_THP ?
			HUGE_SIZE : 4096);
	m->map_len = size * n + (kind == VP_MEM_THP ? HUGE_SIZE : 0);
	fd = shared ? backing_file(m) : -1;
	if (shared && fd < 0)
		return fd;
	do {
		m->map = mmap(NULL, m->map_len, PROT_READ | PROT_WRITE,
			      shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS,
			      fd, 0);
		/* Others want some at the same time: more than one try. */
	} while (m->map == MAP_FAILED && kind == VP_MEM_HUGETLB &&
		 tries++ < 5 && more_huge(m->map_len / HUGE_SIZE));
	if (fd >= 0)
		close(fd);
	if (m->map == MAP_FAILED)
		return -EOPNOTSUPP;
	base = m->map;
	if (kind == VP_MEM_THP) {
		base = (u8 *)round_up((u64)base, HUGE_SIZE);
		if (madvise(base, size * n, MADV_HUGEPAGE)) {
			munmap(m->map, m->map_len);
			return -EOPNOTSUPP;
		}
	} else if (kind == VP_MEM_ANON) {
		madvise(base, size * n, MADV_NOHUGEPAGE);
	}
	for (i = 0; i < n; i++) {
		m->region[i].size = size;
		m->region[i].gpa = VP_GPA_BASE +
				   i * (size + (adjacent ? 0 : VP_HOLE));
		m->region[i].hva = base + (adjacent ? i : n - 1 - i) * size;
	}
	vp_mem_reset(m);
	return 0;
}

void vp_mem_free(struct vp_mem *m)
{
	if (m->map)
		munmap(m->map, m->map_len);
	m->map = NULL;
}

/* Forget all allocations. */
void vp_mem_reset(struct vp_mem *m)
{
	m->cur = 0;
	m->off = 0;
}

/*
 * Adjacent regions are one range, in guest physical memory and in the
 * process, which allocations walk through; otherwise regions take turns, so
 * that the rings and buffers of a peer are spread over all of them.
 */
u64 vp_mem_alloc(struct vp_mem *m, u64 size, u64 align)
{
	u64 all = m->region[0].size * (m->adjacent ? m->n : 1);
	u64 off = round_up(m->off, align);
	unsigned int cur = m->cur;

	if (off + size > all)
		goto full;
	m->off = off + size;
	/* An offset is used in one region only: simple, and memory is cheap. */
	m->cur = m->adjacent ? 0 : (cur + 1) % m->n;
	return m->region[cur].gpa + off;
full:
	fprintf(stderr, "vpeer: out of guest memory (%llu of %llu)\n",
		m->off + size, all);
	abort();
}

void *vp_mem_ptr(const struct vp_mem *m, u64 gpa)
{
	unsigned int i;

	for (i = 0; i < m->n; i++) {
		const struct vp_region *r = &m->region[i];

		if (gpa >= r->gpa && gpa - r->gpa < r->size)
			return r->hva + (gpa - r->gpa);
	}
	return NULL;
}

u64 vp_mem_end(const struct vp_mem *m)
{
	return m->region[m->n - 1].gpa + m->region[m->n - 1].size;
}

struct vhost_memory *vp_mem_table(const struct vp_mem *m)
{
	struct vhost_memory *t;
	unsigned int i;

	t = calloc(1, sizeof(*t) + m->n * sizeof(t->regions[0]));
	t->nregions = m->n;
	for (i = 0; i < m->n; i++) {
		t->regions[i].guest_phys_addr = m->region[i].gpa;
		t->regions[i].memory_size = m->region[i].size;
		t->regions[i].userspace_addr = (u64)m->region[i].hva;
	}
	return t;
}

int vp_fault_fd(void *mem, size_t size)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { (u64)mem, size },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		ktap_skip("userfaultfd: %s", strerror(errno));
	ktap_assert(!ioctl(fd, UFFDIO_API, &api) &&
		    !ioctl(fd, UFFDIO_REGISTER, &reg), "userfaultfd: %s",
		    strerror(errno));
	return fd;
}

void vp_fault_end(int fd, void *mem, size_t size)
{
	struct uffdio_zeropage zero = { .range = { (u64)mem, size } };

	ktap_assert(!ioctl(fd, UFFDIO_ZEROPAGE, &zero), "UFFDIO_ZEROPAGE: %s",
		    strerror(errno));
}

const char *vp_lacks_ramdisk(void)
{
	return access(VP_RAMDISK, F_OK) && vp_cmd("modprobe -q brd rd_nr=1") ?
	       "has no RAM disk" : NULL;
}
