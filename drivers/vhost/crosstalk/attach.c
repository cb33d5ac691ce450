// SPDX-License-Identifier: GPL-2.0
/*
 * Hooking and unhooking vhost-net devices; the only file that knows how.
 *
 * What is hooked
 * --------------
 * A vhost-net device has four work items: kick and socket poll, for RX and TX.
 * Each of them can run vhost-net's loops, so the function pointer of all four
 * is replaced.  A work function is called by the vhost worker without a lock.
 * The open file's operations are replaced by a copy with our ->release and
 * ->unlocked_ioctl, so that a device never goes away, and never changes, behind
 * our back: probes only find devices, nothing's lifetime depends on them.
 *
 * Lifetime
 * --------
 *  - An endpoint is in the hash table while its device is hooked.  A work
 *    function looks it up by device *after* it has taken the vq mutex.
 *    Unhooking takes the endpoint out of the table and then acquires and drops
 *    both mutexes: whoever found the endpoint has finished, whoever comes later
 *    does not find it and runs vhost-net's own function.
 *  - ep->life orders ->release against module exit: as long as the file has
 *    our operations, the device is not freed before our ->release has taken
 *    ep->life, and unhooking gives the file its own back as its last step.
 *  - Our text: every entry (work function, file operation) is an SRCU read
 *    section.  Module exit restores all pointers, then waits with
 *    synchronize_rcu_tasks() for tasks that have loaded one and not yet entered
 *    the section, with synchronize_srcu() for those inside, and with
 *    synchronize_rcu_tasks() again for those on their last instructions.
 *
 * Lock order: ep->life -> attach_mutex; ep->life -> rx->mutex; ep->life ->
 * tx->mutex, the last two one at a time.  attach_mutex -> tx->mutex by trylock.
 * A device whose worker hangs in a page fault can thus hold up its own release
 * and module exit, and nothing else.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/file.h>
#include <linux/fs.h>
#include <linux/hashtable.h>
#include <linux/kallsyms.h>
#include <linux/major.h>
#include <linux/miscdevice.h>
#include <linux/netdevice.h>
#include <linux/printk.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/workqueue.h>

#include "attach.h"
#include "control.h"
#include "endpoint.h"
#include "forward.h"
#include "sysfs.h"
#include "vhost_private.h"

#define CREATE_TRACE_POINTS
#include <trace/events/vhost_crosstalk.h>

#define VHOST_NET_PATH "/dev/vhost-net"

/* 1,024 chains: short ones for any number of VMs that a host can run. */
#define TABLE_BITS 10

/* How often devices are looked at whose workers were busy. */
#define LOOK_AGAIN (HZ / 50 ?: 1)

static DEFINE_HASHTABLE(endpoint_table, TABLE_BITS);	/* attach_mutex, RCU */
static LIST_HEAD(endpoint_list);			/* attach_mutex */
static DEFINE_MUTEX(attach_mutex);
static atomic_t next_id;

DEFINE_STATIC_SRCU(text_srcu);

/* Otherwise synchronize_rcu_tasks() does not wait for preempted tasks. */
static_assert(!IS_ENABLED(CONFIG_PREEMPTION) || IS_ENABLED(CONFIG_TASKS_RCU));

/*
 * A device of our own that is never started.  It keeps vhost_net loaded and
 * shows what a device looks like that nobody has hooked.
 */
static struct {
	struct file *file;
	const struct file_operations *fops;
	vhost_work_fn_t kick[VHOST_NET_VQ_MAX];
	vhost_work_fn_t net[VHOST_NET_VQ_MAX];
} original;

static int crosstalk_release(struct inode *inode, struct file *file);
static long crosstalk_ioctl(struct file *file, unsigned int cmd,
			    unsigned long arg);

/* RCU, or one of the device's vq mutexes and RCU for the table. */
static struct crosstalk_endpoint *find_endpoint(const struct vhost_net *net)
{
	struct crosstalk_endpoint *ep;

	hash_for_each_possible_rcu(endpoint_table, ep, hash,
				   (unsigned long)net) {
		if (ep->net == net)
			return ep;
	}
	return NULL;
}

/*
 * Runs our TX loop if it may; returns false for vhost-net's own to be run.  Not
 * without a backend: it would do nothing, but could have one when it looks, and
 * send frames by it that nobody counts.
 */
static bool try_forward(struct vhost_net *net)
{
	struct vhost_virtqueue *vq = &net->vqs[VHOST_NET_VQ_TX].vq;
	struct crosstalk_endpoint *ep;
	bool ours;

	mutex_lock_nested(&vq->mutex, VHOST_NET_VQ_TX);
	rcu_read_lock();
	ep = find_endpoint(net);
	rcu_read_unlock();
	/* Held by vq->mutex from here on: see "Lifetime". */
	ours = ep && (crosstalk_endpoint_may_run(ep) || !vq->private_data);
	if (ours && vq->private_data)
		crosstalk_forward(ep);
	else if (ep && !ours)
		ep->foreign = true;
	mutex_unlock(&vq->mutex);
	return ours;
}

static struct vhost_net *kick_to_net(struct vhost_work *work, int index)
{
	struct vhost_virtqueue *vq = container_of(work, struct vhost_virtqueue,
						  poll.work);

	return container_of(vq, struct vhost_net, vqs[index].vq);
}

static void tx_kick(struct vhost_work *work)
{
	int idx = srcu_read_lock(&text_srcu);

	if (!try_forward(kick_to_net(work, VHOST_NET_VQ_TX)))
		original.kick[VHOST_NET_VQ_TX](work);
	srcu_read_unlock(&text_srcu, idx);
}

static void tx_net(struct vhost_work *work)
{
	struct vhost_net *net = container_of(work, struct vhost_net,
					     poll[VHOST_NET_VQ_TX].work);
	int idx = srcu_read_lock(&text_srcu);

	if (!try_forward(net))
		original.net[VHOST_NET_VQ_TX](work);
	srcu_read_unlock(&text_srcu, idx);
}

/* Serves senders that wait for this receiver; then vhost-net's own runs. */
static void before_rx(struct vhost_net *net)
{
	struct vhost_virtqueue *vq = &net->vqs[VHOST_NET_VQ_RX].vq;
	struct crosstalk_endpoint *ep;
	bool fill = false;

	rcu_read_lock();
	ep = find_endpoint(net);
	if (ep) {
		atomic64_inc(&ep->stats.rx_kicks);
		fill = READ_ONCE(ep->want_fill);
		if (!fill)
			crosstalk_unpark(ep);
	}
	rcu_read_unlock();
	if (!fill)
		return;

	mutex_lock_nested(&vq->mutex, VHOST_NET_VQ_RX);
	rcu_read_lock();
	ep = find_endpoint(net);
	rcu_read_unlock();
	/* Held by vq->mutex from here on: see "Lifetime". */
	if (ep) {
		crosstalk_push_prepare(ep);
		crosstalk_unpark(ep);
	}
	mutex_unlock(&vq->mutex);
}

/*
 * vhost-net's own has switched the guest's kicks off again: a sender that asked
 * for one meanwhile looks for itself.
 */
static void after_rx(struct vhost_net *net)
{
	struct crosstalk_endpoint *ep;

	if (!crosstalk_direct())
		return;

	rcu_read_lock();
	ep = find_endpoint(net);
	if (ep)
		crosstalk_unpark(ep);
	rcu_read_unlock();
}

static void rx_kick(struct vhost_work *work)
{
	struct vhost_net *net = kick_to_net(work, VHOST_NET_VQ_RX);
	int idx = srcu_read_lock(&text_srcu);

	before_rx(net);
	original.kick[VHOST_NET_VQ_RX](work);
	after_rx(net);
	srcu_read_unlock(&text_srcu, idx);
}

static void rx_net(struct vhost_work *work)
{
	struct vhost_net *net = container_of(work, struct vhost_net,
					     poll[VHOST_NET_VQ_RX].work);
	int idx = srcu_read_lock(&text_srcu);

	before_rx(net);
	original.net[VHOST_NET_VQ_RX](work);
	after_rx(net);
	srcu_read_unlock(&text_srcu, idx);
}

static void set_work(struct vhost_net *net, int index, vhost_work_fn_t kick,
		     vhost_work_fn_t poll)
{
	/* The worker reads the pointer without a lock. */
	WRITE_ONCE(net->vqs[index].vq.poll.work.fn, kick);
	WRITE_ONCE(net->poll[index].work.fn, poll);
}

/* The device is kept by a file's reference, or by attach_mutex while listed. */
static bool try_refresh(struct crosstalk_endpoint *ep)
{
	struct vhost_virtqueue *tx = &ep->net->vqs[VHOST_NET_VQ_TX].vq;

	if (!mutex_trylock(&tx->mutex))
		return false;

	crosstalk_endpoint_refresh(ep);
	mutex_unlock(&tx->mutex);
	return true;
}

static void look_again(struct work_struct *work);
static DECLARE_DELAYED_WORK(look_again_work, look_again);

/*
 * A worker that is busy when its device is hooked looks at it at its next run.
 * If the guest has no more to send, that is late: nobody would know what the
 * endpoint is, and no other guest could send to it directly.
 */
static void look_again(struct work_struct *work)
{
	struct crosstalk_endpoint *ep;
	bool again = false;

	mutex_lock(&attach_mutex);
	list_for_each_entry(ep, &endpoint_list, list)
		again |= READ_ONCE(ep->unseen) && !try_refresh(ep);
	mutex_unlock(&attach_mutex);

	if (again)
		schedule_delayed_work(&look_again_work, LOOK_AGAIN);
}

/* The caller holds a reference to the file, which keeps the device. */
static void hook(struct crosstalk_endpoint *ep)
{
	ep->fops = *original.fops;
	ep->fops.release = crosstalk_release;
	ep->fops.unlocked_ioctl = crosstalk_ioctl;
	ep->hooked = true;
	ep->unseen = true;

	hash_add_rcu(endpoint_table, &ep->hash, (unsigned long)ep->net);
	list_add_tail(&ep->list, &endpoint_list);
	set_work(ep->net, VHOST_NET_VQ_RX, rx_kick, rx_net);
	set_work(ep->net, VHOST_NET_VQ_TX, tx_kick, tx_net);
	/* Readers of f_op see the copy filled in. */
	smp_store_release(&ep->file->f_op, &ep->fops);

	trace_crosstalk_attach(ep->id, ep->pid);

	if (!try_refresh(ep))
		schedule_delayed_work(&look_again_work, LOOK_AGAIN);
}

static void wait_for_worker(struct vhost_net *net, int index)
{
	struct vhost_virtqueue *vq = &net->vqs[index].vq;

	mutex_lock_nested(&vq->mutex, index);
	/* What our loop left (a frame that waits) is vhost-net's now. */
	if (vq->private_data)
		vhost_poll_queue(&vq->poll);
	mutex_unlock(&vq->mutex);
}

/*
 * Gives the device back to vhost-net.  Afterwards nothing but RCU readers, and
 * file operations that have begun, still know the endpoint.  Returns whether
 * the caller is the one who did it, and so who frees the endpoint.
 */
static bool unhook(struct crosstalk_endpoint *ep)
{
	struct vhost_virtqueue *tx = &ep->net->vqs[VHOST_NET_VQ_TX].vq;
	bool done = false;

	mutex_lock(&ep->life);
	if (ep->hooked) {
		done = true;
		ep->hooked = false;
		/* From here on no sender comes; those inside hold rx->mutex. */
		WRITE_ONCE(ep->dead, true);
		set_work(ep->net, VHOST_NET_VQ_RX,
			 original.kick[VHOST_NET_VQ_RX],
			 original.net[VHOST_NET_VQ_RX]);
		set_work(ep->net, VHOST_NET_VQ_TX,
			 original.kick[VHOST_NET_VQ_TX],
			 original.net[VHOST_NET_VQ_TX]);

		mutex_lock(&attach_mutex);
		hash_del_rcu(&ep->hash);
		list_del_init(&ep->list);
		mutex_unlock(&attach_mutex);

		wait_for_worker(ep->net, VHOST_NET_VQ_RX);
		wait_for_worker(ep->net, VHOST_NET_VQ_TX);
		/* Its worker comes no more; the resolver's pruning might. */
		mutex_lock_nested(&tx->mutex, VHOST_NET_VQ_TX);
		crosstalk_detector_drain(&ep->detect);
		mutex_unlock(&tx->mutex);

		/*
		 * Nobody gets as far as the mirror any more, and senders' routes
		 * can keep the endpoint for as long as they live.
		 */
		if (ep->mirror)
			crosstalk_mirror_put(ep->mirror);
		ep->mirror = NULL;

		/*
		 * Last, because whoever closes the file from now on frees the
		 * device without asking us; until now he waits for ep->life.
		 * Pairs with file_endpoint()'s acquire.
		 */
		smp_store_release(&ep->file->f_op, original.fops);
		trace_crosstalk_detach(ep->id);
	}
	mutex_unlock(&ep->life);
	return done;
}

/* The endpoint of an open file, or NULL if the file is not hooked (any more). */
static struct crosstalk_endpoint *file_endpoint(struct file *file)
{
	/* Pairs with the releases in hook() and unhook(). */
	const struct file_operations *fops = smp_load_acquire(&file->f_op);

	if (fops->release != crosstalk_release)
		return NULL;

	return container_of(fops, struct crosstalk_endpoint, fops);
}

/**
 * crosstalk_attach_is_hooked() - whether there is nothing to do for a file
 * @file: open file of a vhost-net device
 *
 * Context: any.
 * Return: true if it has our operations.
 */
bool crosstalk_attach_is_hooked(struct file *file)
{
	return file_endpoint(file);
}

/**
 * crosstalk_attach_is_unhooked() - whether a file is a device to be hooked
 * @file: any open file
 *
 * Context: any.
 * Return: true if it has vhost-net's own operations, and is not the module's.
 */
bool crosstalk_attach_is_unhooked(const struct file *file)
{
	return READ_ONCE(file->f_op) == original.fops && file != original.file;
}

static int crosstalk_release(struct inode *inode, struct file *file)
{
	int idx = srcu_read_lock(&text_srcu);
	/* Module exit may have restored the file's own by now. */
	struct crosstalk_endpoint *ep = file_endpoint(file);
	int ret;

	if (ep && unhook(ep))
		crosstalk_sysfs_remove(ep);

	ret = original.fops->release(inode, file);
	srcu_read_unlock(&text_srcu, idx);
	return ret;
}

/* What an ioctl changed is shown at once, also while there is no traffic. */
static void after_ioctl(struct crosstalk_endpoint *ep, unsigned int cmd)
{
	struct vhost_virtqueue *tx = &ep->net->vqs[VHOST_NET_VQ_TX].vq;

	switch (cmd) {
	case VHOST_SET_OWNER:
	case VHOST_NET_SET_BACKEND:
		WRITE_ONCE(ep->pid, task_tgid_nr(current));
		fallthrough;
	case VHOST_RESET_OWNER:
	case VHOST_SET_FEATURES:
	case VHOST_SET_VRING_BUSYLOOP_TIMEOUT:
		mutex_lock_nested(&tx->mutex, VHOST_NET_VQ_TX);
		crosstalk_endpoint_refresh(ep);
		mutex_unlock(&tx->mutex);
		break;
	case VHOST_SET_VRING_KICK:
		/* Who waits would be woken by the old one. */
		mutex_lock_nested(&tx->mutex, VHOST_NET_VQ_TX);
		if (tx->private_data)
			vhost_poll_queue(&tx->poll);
		mutex_unlock(&tx->mutex);
		break;
	}
}

static long crosstalk_ioctl(struct file *file, unsigned int cmd,
			    unsigned long arg)
{
	int idx = srcu_read_lock(&text_srcu);
	struct crosstalk_endpoint *ep = file_endpoint(file);
	long ret;

	ret = original.fops->unlocked_ioctl(file, cmd, arg);
	if (ep && !ret)
		after_ioctl(ep, cmd);
	srcu_read_unlock(&text_srcu, idx);
	return ret;
}

static bool looks_untouched(const struct vhost_net *net)
{
	int i;

	if (net->dev.nvqs != VHOST_NET_VQ_MAX)
		return false;

	for (i = 0; i < VHOST_NET_VQ_MAX; i++)
		if (net->dev.vqs[i] != &net->vqs[i].vq ||
		    net->vqs[i].vq.poll.work.fn != original.kick[i] ||
		    net->poll[i].work.fn != original.net[i])
			return false;
	return true;
}

/**
 * crosstalk_attach_file() - hook a vhost-net device
 * @file: its open file, to which the caller holds a reference
 * @pid: process that owns it, or 0 when that is not known
 *
 * A device that is hooked already is left as it is; one for which memory runs
 * out goes on with vhost-net alone.
 *
 * Context: process context, may sleep.
 * Return: 0 if the device is hooked now, -ENOMEM, or -EBUSY for a device that
 * other code has changed.
 */
int crosstalk_attach_file(struct file *file, pid_t pid)
{
	struct crosstalk_endpoint *ep;
	int ret = 0;

	mutex_lock(&attach_mutex);
	ep = file_endpoint(file);
	if (ep) {
		if (pid)
			WRITE_ONCE(ep->pid, pid);
		goto out;
	}

	if (file->f_op != original.fops || !looks_untouched(file->private_data)) {
		pr_warn_once("a vhost-net device (pid %d) was changed by other code and is left alone\n",
			     pid);
		ret = -EBUSY;
		goto out;
	}

	ep = crosstalk_endpoint_create(file->private_data, file, pid);
	if (!ep)
		goto nomem;

	ep->id = atomic_inc_return(&next_id) - 1;
	if (crosstalk_sysfs_add(ep))
		goto err_put;

	hook(ep);
out:
	mutex_unlock(&attach_mutex);
	return ret;

err_put:
	/* Never visible: there is nothing to take out of sysfs. */
	kobject_put(&ep->kobj);
nomem:
	mutex_unlock(&attach_mutex);
	pr_warn_ratelimited("no memory to attach to a vhost-net device (pid %d): it goes on without this module; write 1 to /sys/kernel/vhost_crosstalk/scan to try again\n",
			    pid);
	return -ENOMEM;
}

/**
 * crosstalk_attach_for_each() - visit all endpoints
 * @fn: called for each, in the order in which they were hooked
 * @data: passed to it
 *
 * Context: process context, may sleep.
 */
void crosstalk_attach_for_each(void (*fn)(struct crosstalk_endpoint *ep,
					  void *data), void *data)
{
	struct crosstalk_endpoint *ep;

	mutex_lock(&attach_mutex);
	list_for_each_entry(ep, &endpoint_list, list)
		fn(ep, data);
	mutex_unlock(&attach_mutex);
}

/**
 * crosstalk_attach_renamed() - tell endpoints that an interface has a new name
 * @dev: the interface
 *
 * Context: RTNL held, may sleep.
 */
void crosstalk_attach_renamed(const struct net_device *dev)
{
	struct crosstalk_endpoint *ep;

	mutex_lock(&attach_mutex);
	list_for_each_entry(ep, &endpoint_list, list)
		crosstalk_endpoint_renamed(ep, dev);
	mutex_unlock(&attach_mutex);
}

static int check_symbol(vhost_work_fn_t fn, const char *name)
{
	char symbol[KSYM_SYMBOL_LEN];
	size_t len = strlen(name);

	snprintf(symbol, sizeof(symbol), "%ps", fn);
	if (!strncmp(symbol, name, len) && (!symbol[len] || symbol[len] == ' '))
		return 0;

	pr_err("vhost_net runs %s where %s is expected: it was changed by other code\n",
	       symbol, name);
	return -EBUSY;
}

static int learn_original(void)
{
	struct vhost_net *net = original.file->private_data;
	int i;
	int ret;

	for (i = 0; i < VHOST_NET_VQ_MAX; i++) {
		original.kick[i] = net->vqs[i].vq.poll.work.fn;
		original.net[i] = net->poll[i].work.fn;
	}

	ret = check_symbol(original.kick[VHOST_NET_VQ_RX], "handle_rx_kick");
	if (!ret)
		ret = check_symbol(original.kick[VHOST_NET_VQ_TX],
				   "handle_tx_kick");
	if (!ret)
		ret = check_symbol(original.net[VHOST_NET_VQ_RX],
				   "handle_rx_net");
	if (!ret)
		ret = check_symbol(original.net[VHOST_NET_VQ_TX],
				   "handle_tx_net");
	return ret;
}

/**
 * crosstalk_attach_init() - learn what an unhooked device looks like
 *
 * Context: process context, may sleep; the layout was checked.
 * Return: 0, or a negative error with its reason in the log.
 */
int crosstalk_attach_init(void)
{
	int ret;

	original.file = filp_open(VHOST_NET_PATH, O_RDWR | O_CLOEXEC, 0);
	if (IS_ERR(original.file)) {
		ret = PTR_ERR(original.file);
		pr_err("cannot open " VHOST_NET_PATH " (%d): is vhost_net loaded?\n",
		       ret);
		return ret;
	}
	original.fops = original.file->f_op;

	if (file_inode(original.file)->i_rdev !=
	    MKDEV(MISC_MAJOR, VHOST_NET_MINOR)) {
		pr_err(VHOST_NET_PATH " is not vhost_net's device\n");
		ret = -ENODEV;
	} else {
		ret = learn_original();
	}
	if (ret)
		filp_close(original.file, NULL);
	return ret;
}

/**
 * crosstalk_attach_exit() - unhook everything and wait until our text is unused
 *
 * Context: process context, may sleep; nothing attaches any more.
 */
void crosstalk_attach_exit(void)
{
	struct crosstalk_endpoint *ep;
	struct crosstalk_endpoint *tmp;
	LIST_HEAD(unhooked);

	for (;;) {
		mutex_lock(&attach_mutex);
		ep = list_first_entry_or_null(&endpoint_list,
					      struct crosstalk_endpoint, list);
		if (ep)
			kobject_get(&ep->kobj);
		mutex_unlock(&attach_mutex);
		if (!ep)
			break;

		if (unhook(ep))
			list_add(&ep->list, &unhooked);
		kobject_put(&ep->kobj);
	}

	cancel_delayed_work_sync(&look_again_work);

	/* See "Lifetime" for what each of the three waits for. */
	synchronize_rcu_tasks();
	synchronize_srcu(&text_srcu);
	synchronize_rcu_tasks();

	list_for_each_entry_safe(ep, tmp, &unhooked, list)
		crosstalk_sysfs_remove(ep);

	filp_close(original.file, NULL);
}
