// SPDX-License-Identifier: GPL-2.0
/*
 * vhost_crosstalk: a direct path between the virtual machines of one host.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/netdevice.h>
#include <linux/printk.h>

#include "attach.h"
#include "control.h"
#include "layout.h"
#include "sysfs.h"

struct crosstalk_tunables crosstalk_tunables = {
	.enable = true,
	.batch = VHOST_NET_BATCH,
};

module_param_named(enable, crosstalk_tunables.enable, bool, 0444);
MODULE_PARM_DESC(enable, "Run this module's loops on hooked devices (default: on); later in /sys/kernel/vhost_crosstalk/enable");

static int set_batch(const char *val, const struct kernel_param *kp)
{
	unsigned int batch;
	int ret;

	ret = kstrtouint(val, 0, &batch);
	if (ret || !crosstalk_batch_valid(batch))
		return -EINVAL;

	return param_set_uint(val, kp);
}

static const struct kernel_param_ops batch_ops = {
	.set = set_batch,
	.get = param_get_uint,
};

module_param_cb(batch, &batch_ops, &crosstalk_tunables.batch, 0444);
MODULE_PARM_DESC(batch, "Frames handed to the backend at a time, 1 to 64 (default: 64); later in /sys/kernel/vhost_crosstalk/batch");

static int netdev_event(struct notifier_block *nb, unsigned long event,
			void *ptr)
{
	if (event == NETDEV_CHANGENAME)
		crosstalk_attach_renamed(netdev_notifier_info_to_dev(ptr));
	return NOTIFY_DONE;
}

static struct notifier_block netdev_nb = {
	.notifier_call = netdev_event,
};

static int __init crosstalk_init(void)
{
	int ret;

	/* Layout and symbols are looked up in it; harmless if it is built in. */
	request_module("vhost_net");

	ret = crosstalk_layout_check();
	if (ret)
		return ret;

	ret = crosstalk_sysfs_create();
	if (ret)
		return ret;

	ret = crosstalk_attach_init();
	if (ret)
		goto err_sysfs;

	ret = register_netdevice_notifier(&netdev_nb);
	if (ret)
		goto err_attach;

	ret = crosstalk_sysfs_publish();
	if (ret)
		goto err_notifier;

	if (crosstalk_probe_init())
		pr_info("no probe on vhost_net_ioctl: write 1 to /sys/kernel/vhost_crosstalk/scan after starting a VM\n");

	/* After the probe: a device that starts now is seen by one of them. */
	crosstalk_attach_scan();
	return 0;

err_notifier:
	unregister_netdevice_notifier(&netdev_nb);
err_attach:
	crosstalk_attach_exit();
err_sysfs:
	crosstalk_sysfs_destroy();
	return ret;
}
module_init(crosstalk_init);

static void __exit crosstalk_exit(void)
{
	crosstalk_probe_exit();
	crosstalk_sysfs_retract();
	unregister_netdevice_notifier(&netdev_nb);
	crosstalk_attach_exit();
	crosstalk_sysfs_destroy();
}
module_exit(crosstalk_exit);

MODULE_DESCRIPTION("Direct path between vhost-net virtual machines of one host");
MODULE_AUTHOR("The vhost-crosstalk engineers");
MODULE_LICENSE("GPL");
MODULE_SOFTDEP("pre: vhost_net");
