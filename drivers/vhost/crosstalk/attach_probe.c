// SPDX-License-Identifier: GPL-2.0
/*
 * Finds vhost-net devices as they start: a return probe on vhost-net's ioctl
 * that looks for VHOST_NET_SET_BACKEND.
 *
 * Probes can be switched off or miss a call, and their handlers cannot sleep:
 * they find devices and do nothing else.  What they miss, a scan finds.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/file.h>
#include <linux/kprobes.h>
#include <linux/llist.h>
#include <linux/printk.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/vhost.h>
#include <linux/workqueue.h>

#include "attach.h"

/* Calls of the ioctl that may sleep at the same time and still be seen. */
#define MAX_ACTIVE 256

struct found {
	struct llist_node node;
	struct file *file;	/* a reference of its own */
	pid_t pid;
};

struct call {
	struct file *file;
};

static LLIST_HEAD(found_files);
/* A find for which there was no memory: look everywhere instead. */
static bool need_scan;
static bool registered;

/* After which memory may be there again. */
#define RETRY_DELAY HZ

static void attach_found(struct work_struct *work);
static DECLARE_DELAYED_WORK(attach_work, attach_found);

static void attach_found(struct work_struct *work)
{
	struct llist_node *first = llist_del_all(&found_files);
	struct found *found;
	struct found *tmp;

	llist_for_each_entry_safe(found, tmp, first, node) {
		if (crosstalk_attach_file(found->file, found->pid) == -ENOMEM)
			WRITE_ONCE(need_scan, true);
		fput(found->file);
		kfree(found);
	}

	if (xchg(&need_scan, false) && crosstalk_attach_scan()) {
		WRITE_ONCE(need_scan, true);
		schedule_delayed_work(&attach_work, RETRY_DELAY);
	}
}

static int ioctl_entry(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct call *call = (struct call *)ri->data;

	/* An unsigned int: the register's other half is anything. */
	if ((unsigned int)regs_get_kernel_argument(regs, 1) !=
	    VHOST_NET_SET_BACKEND)
		return 1;

	call->file = (struct file *)regs_get_kernel_argument(regs, 0);
	return 0;
}

static int ioctl_return(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct call *call = (struct call *)ri->data;
	struct found *found;

	/*
	 * A reference taken for nothing would let a device outlive the process
	 * that is killed meanwhile, and keep its tap busy.
	 */
	if (regs_return_value(regs) || crosstalk_attach_is_hooked(call->file))
		return 0;

	found = kmalloc(sizeof(*found), GFP_ATOMIC);
	if (found) {
		/* The caller of the ioctl holds the file open. */
		found->file = get_file(call->file);
		found->pid = task_tgid_nr(current);
		llist_add(&found->node, &found_files);
	} else {
		WRITE_ONCE(need_scan, true);
	}
	/* Soon: until then our reference keeps a device that is closed open. */
	mod_delayed_work(system_highpri_wq, &attach_work, 0);
	return 0;
}

static struct kretprobe ioctl_probe = {
	.kp.symbol_name = "vhost_net_ioctl",
	.entry_handler = ioctl_entry,
	.handler = ioctl_return,
	.data_size = sizeof(struct call),
	.maxactive = MAX_ACTIVE,
};

/**
 * crosstalk_probe_init() - begin to look for devices that start
 *
 * Context: process context, may sleep.
 * Return: 0 or a negative error.
 */
int crosstalk_probe_init(void)
{
	int ret = register_kretprobe(&ioctl_probe);

	registered = !ret;
	return ret;
}

/**
 * crosstalk_probe_exit() - stop looking
 *
 * Context: process context, may sleep.
 */
void crosstalk_probe_exit(void)
{
	if (!registered)
		return;

	unregister_kretprobe(&ioctl_probe);
	/* What was found holds references: attach it, then do not try again. */
	flush_delayed_work(&attach_work);
	cancel_delayed_work_sync(&attach_work);
	if (ioctl_probe.nmissed)
		pr_info("%d device starts were missed by the probe\n",
			ioctl_probe.nmissed);
}
