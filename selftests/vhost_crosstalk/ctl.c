// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ctl.h"
#include "ktap.h"
#include "vpeer.h"

#define NAME		"vhost_crosstalk"
#define PROBE_MS	200	/* after that: look without probes */
#define WAIT_MS		5000

bool ctl_loaded(void)
{
	return !access("/sys/module/" NAME "/refcnt", F_OK) ||
	       !access(CTL_ROOT, F_OK);
}

int ctl_load(const char *params)
{
	const char *ko = getenv("CROSSTALK_KO");
	int fd, ret;

	if (!ko || !*ko)
		return vp_cmd("modprobe " NAME " %s", params) ? -ENOENT : 0;
	fd = open(ko, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = syscall(SYS_finit_module, fd, params, 0) ? -errno : 0;
	close(fd);
	return ret;
}

int ctl_unload(void)
{
	int ret;

	vp_unloading(true);
	ret = syscall(SYS_delete_module, NAME, O_NONBLOCK) ? -errno : 0;
	vp_unloading(false);
	return ret;
}

void ctl_need_loaded(void)
{
	int ret;

	if (ctl_loaded())
		return;
	ret = ctl_load("");
	if (ret)
		ktap_fail("loading the module: %s (set CROSSTALK_KO to the path of " NAME ".ko, or install it)",
			  strerror(-ret));
}

void ctl_need_unloaded(void)
{
	int ret;

	if (!ctl_loaded())
		return;
	ret = ctl_unload();
	if (ret)
		ktap_fail("unloading the module: %s", strerror(-ret));
}

int ctl_write(const char *file, const char *text)
{
	char path[256];

	snprintf(path, sizeof(path), CTL_ROOT "/%s", file);
	return vp_write_file(path, text);
}

int ctl_read(const char *file, char *buf, size_t size)
{
	char path[256];

	snprintf(path, sizeof(path), CTL_ROOT "/%s", file);
	return vp_read_file(path, buf, size);
}

void ctl_scan(void)
{
	int ret = ctl_write("scan", "1");

	if (ret)
		ktap_fail("scan: %s", strerror(-ret));
}

static bool has(unsigned int ep, const char *attr, const char *value)
{
	char buf[64];

	return ctl_ep_read(ep, attr, buf, sizeof(buf)) >= 0 &&
	       !strcmp(buf, value);
}

static unsigned int find(const char *attr, const char *value, unsigned int *ep,
			 unsigned int max)
{
	DIR *d = opendir(CTL_ROOT "/endpoints");
	unsigned int n = 0, id;
	struct dirent *e;

	if (!d)
		return 0;
	while ((e = readdir(d))) {
		if (sscanf(e->d_name, "ep%u", &id) != 1)
			continue;
		if (attr && !has(id, attr, value))
			continue;
		if (ep && n < max)
			ep[n] = id;
		n++;
	}
	closedir(d);
	return n;
}

unsigned int ctl_find(const char *dev, unsigned int *ep, unsigned int max)
{
	return find("dev", dev, ep, max);
}

unsigned int ctl_find_pid(pid_t pid, unsigned int *ep, unsigned int max)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", pid);
	return find("pid", text, ep, max);
}

unsigned int ctl_count(void)
{
	return find(NULL, NULL, NULL, 0);
}

void ctl_wait(const char *dev, unsigned int n, unsigned int *ep)
{
	u64 start = vp_now_ms(), waited;
	unsigned int got;
	bool scanned = false;
	bool probes = !access("/sys/kernel/debug/kprobes", F_OK);

	for (;;) {
		got = ctl_find(dev, ep, ep ? n : 0);
		if (got == n)
			return;
		waited = vp_now_ms() - start;
		if (got > n || waited > WAIT_MS * vp_slowness())
			ktap_fail("%s has %u endpoints, not %u", dev, got, n);
		if ((waited > PROBE_MS || !probes) && !scanned) {
			ctl_scan();
			scanned = true;
			continue;
		}
		vp_sleep_ms(5);
	}
}

static void for_workers_in(const char *dir, pid_t owner, ctl_worker_fn *fn,
			   void *arg)
{
	char path[300], stat[64], name[32];
	struct dirent *d;
	const char *at;
	DIR *tasks;

	tasks = opendir(dir);
	if (!tasks)
		return;
	snprintf(name, sizeof(name), "(vhost-%d) ", owner);
	while ((d = readdir(tasks))) {
		snprintf(path, sizeof(path), "%s/%s/stat", dir, d->d_name);
		if (vp_read_file(path, stat, sizeof(stat)) <= 0)
			continue;
		at = strstr(stat, name);
		if (at)
			fn(arg, atoi(d->d_name), at[strlen(name)]);
	}
	closedir(tasks);
}

void ctl_for_workers(pid_t owner, ctl_worker_fn *fn, void *arg)
{
	char dir[32];

	/* Threads of their owner, or of the kernel. */
	snprintf(dir, sizeof(dir), "/proc/%d/task", owner);
	for_workers_in(dir, owner, fn, arg);
	for_workers_in("/proc", owner, fn, arg);
}

static void note_awake(void *awake, pid_t worker, char state)
{
	(void)worker;
	*(bool *)awake |= state != 'S';
}

/*
 * When its device is hooked a worker may be on its way into vhost-net's own loop,
 * which counts not.
 */
static void wait_for_workers(pid_t owner)
{
	u64 end = vp_now_ms() + WAIT_MS * vp_slowness();

	for (;;) {
		bool awake = false;

		ctl_for_workers(owner, note_awake, &awake);
		if (!awake)
			return;
		if (vp_now_ms() > end)
			ktap_fail("a worker of process %d never rests", owner);
		vp_sleep_ms(2);
	}
}

void ctl_wait_world(struct vp_world *w, unsigned int queues)
{
	unsigned int i, q, ep[VP_MAX_QP];

	for (i = 0; i < w->n; i++) {
		if (!w->peer[i].pid)
			continue;
		ctl_wait(w->peer[i].tap, queues, ep);
		for (q = 0; q < queues; q++)
			ctl_wait_state(ep[q], "hooked", "none");
	}
	/* In a world that is at work they have no rest. */
	if (!READ_ONCE(w->quiet)) {
		vp_sleep_ms(10 * vp_slowness());
		return;
	}
	for (i = 0; i < w->n; i++)
		if (w->peer[i].pid)
			wait_for_workers(w->peer[i].pid);
}

static void sum_counters(const char *dev, u64 *packets, u64 *bytes,
			 u64 *errors)
{
	unsigned int ep[VP_MAX_QP], n = ctl_find(dev, ep, VP_MAX_QP);

	*packets = 0;
	*bytes = 0;
	*errors = 0;
	while (n--) {
		*packets += ctl_ep_num(ep[n], "tx_packets");
		*bytes += ctl_ep_num(ep[n], "tx_bytes");
		*errors += ctl_ep_num(ep[n], "tx_errors");
	}
}

void ctl_check_counters(struct vp_world *w)
{
	u64 packets, bytes, errors, end = vp_now_ms() + WAIT_MS * vp_slowness();
	unsigned int i;

	for (i = 0; i < w->n; i++) {
		struct vp_peer_shm *s = &w->peer[i];

		if (!s->pid)
			continue;
		for (;;) {
			sum_counters(s->tap, &packets, &bytes, &errors);
			if (packets == s->tx_frames && bytes == s->tx_bytes &&
			    !errors)
				break;
			if (vp_now_ms() > end)
				ktap_fail("%s: tx_packets %llu, tx_bytes %llu, tx_errors %llu; it sent %llu frames of %llu bytes",
					  s->tap, packets, bytes, errors,
					  s->tx_frames, s->tx_bytes);
			vp_sleep_ms(2);
		}
	}
}

void ctl_wait_gone(const char *dev)
{
	u64 end = vp_now_ms() + WAIT_MS * vp_slowness();

	while (ctl_find(dev, NULL, 0)) {
		if (vp_now_ms() > end)
			ktap_fail("the endpoint of %s is still there", dev);
		vp_sleep_ms(5);
	}
}

void ctl_wait_none(void)
{
	u64 end = vp_now_ms() + WAIT_MS * vp_slowness();

	while (ctl_count()) {
		if (vp_now_ms() > end)
			ktap_fail("%u endpoints are left", ctl_count());
		vp_sleep_ms(5);
	}
}

void ctl_wait_state(unsigned int ep, const char *state, const char *reason)
{
	u64 end = vp_now_ms() + WAIT_MS * vp_slowness();
	char s[64] = "", r[64] = "";

	for (;;) {
		ctl_ep_read(ep, "state", s, sizeof(s));
		ctl_ep_read(ep, "reason", r, sizeof(r));
		if (!strcmp(s, state) && (!reason || !strcmp(r, reason)))
			return;
		if (vp_now_ms() > end)
			ktap_fail("ep%u is \"%s\" (%s), not \"%s\" (%s)", ep,
				  s, r, state, reason ?: "any reason");
		vp_sleep_ms(5);
	}
}

int ctl_ep_read(unsigned int ep, const char *attr, char *buf, size_t size)
{
	char file[128];

	snprintf(file, sizeof(file), "endpoints/ep%u/%s", ep, attr);
	return ctl_read(file, buf, size);
}

__u64 ctl_ep_num(unsigned int ep, const char *attr)
{
	char buf[64];

	if (ctl_ep_read(ep, attr, buf, sizeof(buf)) < 0)
		ktap_fail("ep%u has no %s", ep, attr);
	return strtoull(buf, NULL, 0);
}

int ctl_ep_write(unsigned int ep, const char *attr, const char *text)
{
	char file[128];

	snprintf(file, sizeof(file), "endpoints/ep%u/%s", ep, attr);
	return ctl_write(file, text);
}

static int log_fd = -1;

void ctl_log_mark(void)
{
	if (log_fd >= 0)
		close(log_fd);
	log_fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (log_fd >= 0)
		lseek(log_fd, 0, SEEK_END);
}

bool ctl_log_has(const char *text)
{
	char buf[8192];
	ssize_t n;

	for (;;) {
		n = read(log_fd, buf, sizeof(buf) - 1);
		if (n < 0 && errno == EPIPE)
			continue;
		if (n <= 0)
			return false;
		buf[n] = 0;
		if (strstr(buf, text))
			return true;
	}
}
