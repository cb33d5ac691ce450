// SPDX-License-Identifier: GPL-2.0
/*
 * Finding vhost-net devices in tasks' file tables: those that ran before the
 * module was loaded, and all of them on kernels without kretprobes.
 */

#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

#include "attach.h"
#include "vhost_private.h"

/* Devices for which a scan has room at first. */
#define SCAN_SIZE 64

/* Devices that were found, carried out of the file tables' locks. */
struct scan {
	struct task_struct *task;	/* the one being looked at */
	unsigned int size;		/* entries that fit */
	unsigned int nr;		/* entries that are used */
	struct {
		struct file *file;
		pid_t pid;
	} found[];
};

/* Called with the file table's spinlock held. */
static int scan_one(const void *data, struct file *file, unsigned int fd)
{
	struct scan *scan = (struct scan *)data;
	const struct vhost_net *net;
	const struct mm_struct *mm;

	if (!crosstalk_attach_is_unhooked(file))
		return 0;
	if (scan->nr == scan->size)
		return 1;

	/* The fd may have been passed on: its owner is who set the mm. */
	net = file->private_data;
	mm = READ_ONCE(net->dev.mm);
	scan->found[scan->nr].pid = mm && mm == scan->task->mm ?
				    task_tgid_nr(scan->task) : 0;
	scan->found[scan->nr].file = get_file(file);
	scan->nr++;
	return 0;
}

/* Returns whether all fit into @scan. */
static bool scan_tasks(struct scan *scan)
{
	struct task_struct *leader;
	struct task_struct *task;
	bool fit = true;

	rcu_read_lock();
	for_each_process_thread(leader, task) {
		/* Threads share their leader's table, as a rule. */
		if (task != leader && task->files == leader->files)
			continue;

		task_lock(task);
		scan->task = task;
		if (task->files && iterate_fd(task->files, 0, scan_one, scan))
			fit = false;
		task_unlock(task);
		if (!fit)
			break;
	}
	rcu_read_unlock();
	return fit;
}

static void free_scan(struct scan *scan)
{
	unsigned int i;

	for (i = 0; i < scan->nr; i++)
		fput(scan->found[i].file);
	kvfree(scan);
}

/* All devices that are not hooked, or NULL when there is no memory for them. */
static struct scan *scan_devices(void)
{
	unsigned int size = SCAN_SIZE;
	struct scan *scan;

	for (;; size *= 2) {
		scan = kvzalloc(struct_size(scan, found, size), GFP_KERNEL);
		if (!scan)
			return NULL;

		scan->size = size;
		if (scan_tasks(scan))
			return scan;
		free_scan(scan);
	}
}

/**
 * crosstalk_attach_scan() - hook all devices in all tasks' file tables
 *
 * A device whose file is in no table (in flight over a socket) is not found.
 *
 * Context: process context, may sleep; not under attach_mutex.
 * Return: 0, or -ENOMEM when some may have been left out.
 */
int crosstalk_attach_scan(void)
{
	struct scan *scan = scan_devices();
	unsigned int i;
	int ret = 0;
	int err;

	if (!scan)
		return -ENOMEM;

	for (i = 0; i < scan->nr; i++) {
		err = crosstalk_attach_file(scan->found[i].file,
					    scan->found[i].pid);
		if (err == -ENOMEM)
			ret = err;
		/* If it was closed meanwhile it lives on until now, not longer. */
		fput(scan->found[i].file);
	}

	kvfree(scan);
	return ret;
}
