// SPDX-License-Identifier: GPL-2.0
/*
 * Tunables of the whole module: a parameter at load, a file in sysfs later, and
 * one range for both.
 */

#include <linux/kobject.h>
#include <linux/kstrtox.h>
#include <linux/moduleparam.h>
#include <linux/sysfs.h>

#include "control.h"
#include "detect.h"
#include "remap.h"
#include "vhost_private.h"

struct crosstalk_tunables crosstalk_tunables = {
	.enable = 1,
	.direct = 1,
	.batch = VHOST_NET_BATCH,
	.backpressure_us = 20000,
	.revalidate_ms = CROSSTALK_REVALIDATE_DEFAULT,
};

/* A value that has a name instead of a number. */
struct tunable_name {
	const char *name;
	unsigned int value;
};

struct tunable {
	struct kobj_attribute attr;
	unsigned int *value;
	unsigned int min;
	unsigned int max;
	void (*changed)(void);
	const struct tunable_name *names;
};

static int tunable_set(const struct tunable *tunable, const char *buf)
{
	const struct tunable_name *name;
	unsigned int value;
	int ret;

	for (name = tunable->names; name && name->name; name++) {
		if (!sysfs_streq(buf, name->name))
			continue;
		WRITE_ONCE(*tunable->value, name->value);
		return 0;
	}

	ret = kstrtouint(buf, 0, &value);
	if (ret || value < tunable->min || value > tunable->max)
		return -EINVAL;

	WRITE_ONCE(*tunable->value, value);
	return 0;
}

static ssize_t show(const struct tunable *tunable, char *buf)
{
	unsigned int value = READ_ONCE(*tunable->value);
	const struct tunable_name *name;

	for (name = tunable->names; name && name->name; name++)
		if (name->value == value)
			return sysfs_emit(buf, "%s\n", name->name);

	return sysfs_emit(buf, "%u\n", value);
}

static ssize_t tunable_show(struct kobject *kobj, struct kobj_attribute *attr,
			    char *buf)
{
	const struct tunable *tunable = container_of(attr, struct tunable,
						     attr);

	return show(tunable, buf);
}

static ssize_t tunable_store(struct kobject *kobj, struct kobj_attribute *attr,
			     const char *buf, size_t count)
{
	const struct tunable *tunable = container_of(attr, struct tunable,
						     attr);
	int ret = tunable_set(tunable, buf);

	if (ret)
		return ret;
	if (tunable->changed)
		tunable->changed();
	return count;
}

#define TUNABLE(field, _min, _max, _changed)				\
	TUNABLE_NAMES(field, _min, _max, _changed, NULL)

#define TUNABLE_NAMES(field, _min, _max, _changed, _names)		\
	static struct tunable tunable_##field = {			\
		.attr = __ATTR(field, 0644, tunable_show, tunable_store), \
		.value = &crosstalk_tunables.field,			\
		.min = (_min),						\
		.max = (_max),						\
		.changed = (_changed),					\
		.names = (_names),					\
	};								\
	module_param_cb(field, &tunable_ops, &tunable_##field, 0444)

/* Before the module is initialized: nobody is to be told of the change. */
static int tunable_param_set(const char *val, const struct kernel_param *kp)
{
	return tunable_set(kp->arg, val);
}

static int tunable_param_get(char *buf, const struct kernel_param *kp)
{
	return show(kp->arg, buf);
}

static const struct kernel_param_ops tunable_ops = {
	.set = tunable_param_set,
	.get = tunable_param_get,
};

TUNABLE(enable, 0, 1, NULL);
MODULE_PARM_DESC(enable, "Run this module's loops on hooked devices, 0 or 1 (default: 1)");

TUNABLE(direct, 0, 1, NULL);
MODULE_PARM_DESC(direct, "Place frames straight in the receiver's buffers, 0 or 1 (default: 1)");

TUNABLE(batch, 1, VHOST_NET_BATCH, NULL);
MODULE_PARM_DESC(batch, "Frames handed on at a time, 1 to 64 (default: 64)");

TUNABLE(backpressure_us, 0, USEC_PER_SEC, NULL);
MODULE_PARM_DESC(backpressure_us, "Microseconds that a sender waits for a receiver's buffers, 0 to 1000000 (default: 20000)");

/* Answers that were to hold for longer end at once. */
TUNABLE(revalidate_ms, CROSSTALK_REVALIDATE_MIN, CROSSTALK_REVALIDATE_MAX,
	crosstalk_detect_kick);
MODULE_PARM_DESC(revalidate_ms, "Milliseconds for which a verdict holds, 10 to 1000 (default: 60)");

TUNABLE(busy_poll_us, 0, USEC_PER_MSEC, NULL);
MODULE_PARM_DESC(busy_poll_us, "Microseconds for which an empty TX ring is watched before its guest must kick, 0 to 1000 (default: 0)");

static const struct tunable_name remap_names[] = {
	{ "off", CROSSTALK_REMAP_OFF },
	{ "adaptive", CROSSTALK_REMAP_ADAPTIVE },
	{}
};

TUNABLE_NAMES(remap, 1, GUESTRAM_SHARE_MAX, crosstalk_remap_changed,
	      remap_names);
MODULE_PARM_DESC(remap, "Share whole pages of guestram instead of copying them: off, adaptive, or from how many in a frame on, 1 to 16 (default: off)");

static struct attribute *tunable_attrs[] = {
	&tunable_enable.attr.attr,
	&tunable_direct.attr.attr,
	&tunable_batch.attr.attr,
	&tunable_backpressure_us.attr.attr,
	&tunable_revalidate_ms.attr.attr,
	&tunable_busy_poll_us.attr.attr,
	&tunable_remap.attr.attr,
	NULL,
};

const struct attribute_group crosstalk_tunable_group = {
	.attrs = tunable_attrs,
};
