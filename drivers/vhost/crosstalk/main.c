// SPDX-License-Identifier: GPL-2.0
/*
 * vhost_crosstalk: a direct path between the virtual machines of one host.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/printk.h>

#include "attach.h"
#include "detect.h"
#include "layout.h"
#include "remap.h"
#include "sysfs.h"

static int netdev_event(struct notifier_block *nb, unsigned long event,
			void *ptr)
{
	struct net_device *dev = netdev_notifier_info_to_dev(ptr);

	if (event == NETDEV_CHANGENAME)
		crosstalk_attach_renamed(dev);
	crosstalk_detect_netdev_event(event, dev);
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

	ret = crosstalk_detect_init();
	if (ret)
		goto err_sysfs;

	ret = crosstalk_attach_init();
	if (ret)
		goto err_detect;

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
err_detect:
	crosstalk_detect_exit();
	crosstalk_remap_exit();
err_sysfs:
	crosstalk_sysfs_destroy();
	return ret;
}
module_init(crosstalk_init);

static void __exit crosstalk_exit(void)
{
	crosstalk_probe_exit();
	crosstalk_sysfs_retract();
	/* Routes know interfaces for as long as the notifier tells their end. */
	crosstalk_attach_exit();
	unregister_netdevice_notifier(&netdev_nb);
	crosstalk_detect_exit();
	crosstalk_remap_exit();
	crosstalk_sysfs_destroy();
}
module_exit(crosstalk_exit);

MODULE_DESCRIPTION("Direct path between vhost-net virtual machines of one host");
MODULE_AUTHOR("The vhost-crosstalk engineers");
MODULE_LICENSE("GPL");
MODULE_SOFTDEP("pre: vhost_net");
