/* SPDX-License-Identifier: GPL-2.0 */
/* The module under test: loading it, its sysfs files. */
#ifndef CTL_H
#define CTL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <linux/types.h>

#define CTL_ROOT	"/sys/kernel/vhost_crosstalk"
#define CTL_MAX_EP	64

bool ctl_loaded(void);
int ctl_load(const char *params);	/* 0 or -errno */
int ctl_unload(void);
/* The same; the case fails when that fails.  Nothing to do is fine. */
void ctl_need_loaded(void);
void ctl_need_unloaded(void);

int ctl_write(const char *file, const char *text);	/* below CTL_ROOT */
int ctl_read(const char *file, char *buf, size_t size);
void ctl_scan(void);

/* Endpoints (their numbers) of a network device; returns how many. */
unsigned int ctl_find(const char *dev, unsigned int *ep, unsigned int max);
unsigned int ctl_find_pid(pid_t pid, unsigned int *ep, unsigned int max);
unsigned int ctl_count(void);
/* Wait until a device has @n endpoints; scans where probes are missing. */
void ctl_wait(const char *dev, unsigned int n, unsigned int *ep);
/* Every vhost worker of a process; @state as in /proc/PID/stat. */
typedef void ctl_worker_fn(void *arg, pid_t worker, char state);
void ctl_for_workers(pid_t owner, ctl_worker_fn *fn, void *arg);
struct vp_world;
/* Wait until all peers of a world have endpoints, and are hooked. */
void ctl_wait_world(struct vp_world *w, unsigned int queues);
/* After vp_quiesce(): the module's counters are what the peers sent. */
void ctl_check_counters(struct vp_world *w);
void ctl_wait_gone(const char *dev);
/* All devices were closed.  Who has found one then may let it go last. */
void ctl_wait_none(void);
void ctl_wait_state(unsigned int ep, const char *state, const char *reason);

int ctl_ep_read(unsigned int ep, const char *attr, char *buf, size_t size);
__u64 ctl_ep_num(unsigned int ep, const char *attr);
int ctl_ep_write(unsigned int ep, const char *attr, const char *text);

/* "BUG", "WARNING" and so on in the kernel log since ctl_log_mark()? */
void ctl_log_mark(void);
bool ctl_log_has(const char *text);

#endif
