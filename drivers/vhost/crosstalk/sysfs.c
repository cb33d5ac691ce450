// SPDX-License-Identifier: GPL-2.0
/*
 * /sys/kernel/vhost_crosstalk: tunables, and a directory for each endpoint.
 * Documentation/ABI/testing/sysfs-kernel-vhost_crosstalk describes every file.
 */

#include <linux/kobject.h>
#include <linux/kstrtox.h>
#include <linux/sysfs.h>

#include "attach.h"
#include "control.h"
#include "endpoint.h"
#include "sysfs.h"

static struct kset *root_kset;
static struct kset *endpoints_kset;

struct ep_attribute {
	struct attribute attr;
	ssize_t (*show)(struct crosstalk_endpoint *ep,
			const struct ep_attribute *attr, char *buf);
	ssize_t (*store)(struct crosstalk_endpoint *ep,
			 const struct ep_attribute *attr, const char *buf,
			 size_t count);
};

#define EP_ATTR_RO(name) \
	static struct ep_attribute ep_attr_##name = __ATTR_RO(name)
#define EP_ATTR_RW(name) \
	static struct ep_attribute ep_attr_##name = __ATTR_RW(name)

/* A counter: one word of struct crosstalk_stats that one writer changes. */
struct ep_counter {
	struct ep_attribute ep_attr;
	size_t offset;
};

static ssize_t counter_show(struct crosstalk_endpoint *ep,
			    const struct ep_attribute *attr, char *buf)
{
	const struct ep_counter *counter;
	const u64 *value;

	counter = container_of(attr, struct ep_counter, ep_attr);
	value = (const void *)&ep->stats + counter->offset;
	return sysfs_emit(buf, "%llu\n", READ_ONCE(*value));
}

#define EP_COUNTER(stat)						\
	static struct ep_counter ep_counter_##stat = {			\
		.ep_attr = {						\
			.attr = { .name = #stat, .mode = 0444 },	\
			.show = counter_show,				\
		},							\
		.offset = offsetof(struct crosstalk_stats, stat),	\
	}

EP_COUNTER(tx_packets);
EP_COUNTER(tx_bytes);
EP_COUNTER(tx_slow_packets);
EP_COUNTER(tx_errors);
EP_COUNTER(tx_kicks);
EP_COUNTER(tx_batches);
EP_COUNTER(tx_notify);
EP_COUNTER(tx_fast_packets);
EP_COUNTER(tx_fast_bytes);
EP_COUNTER(tx_parks);
EP_COUNTER(tx_settles);
EP_COUNTER(tx_remap_pages);
EP_COUNTER(tx_remap_bytes);
EP_COUNTER(tx_remap_faults);
EP_COUNTER(rx_fast_packets);
EP_COUNTER(rx_fast_bytes);
EP_COUNTER(rx_fast_notify);
EP_COUNTER(rx_fills);
EP_COUNTER(rx_remap_faults);

static ssize_t rx_kicks_show(struct crosstalk_endpoint *ep,
			     const struct ep_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%lld\n",
			  (long long)atomic64_read(&ep->stats.rx_kicks));
}
EP_ATTR_RO(rx_kicks);

/* The reason as an operator sees it: a switch that is off comes first. */
static enum crosstalk_reason shown_reason(const struct crosstalk_endpoint *ep)
{
	if (!crosstalk_enabled() || !READ_ONCE(ep->enable))
		return CROSSTALK_REASON_DISABLED;
	return READ_ONCE(ep->reason);
}

static ssize_t state_show(struct crosstalk_endpoint *ep,
			  const struct ep_attribute *attr, char *buf)
{
	const char *state;

	switch (shown_reason(ep)) {
	case CROSSTALK_REASON_NONE:
		state = "hooked";
		break;
	case CROSSTALK_REASON_DISABLED:
		state = "disabled";
		break;
	case CROSSTALK_REASON_NO_BACKEND:
		state = "idle";
		break;
	default:
		state = "left-alone";
	}
	return sysfs_emit(buf, "%s\n", state);
}
EP_ATTR_RO(state);

static ssize_t reason_show(struct crosstalk_endpoint *ep,
			   const struct ep_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", crosstalk_reason_name(shown_reason(ep)));
}
EP_ATTR_RO(reason);

static ssize_t dev_show(struct crosstalk_endpoint *ep,
			const struct ep_attribute *attr, char *buf)
{
	ssize_t len;

	spin_lock(&ep->name_lock);
	len = sysfs_emit(buf, "%s\n", ep->ifname[0] ? ep->ifname : "-");
	spin_unlock(&ep->name_lock);
	return len;
}
EP_ATTR_RO(dev);

static ssize_t pid_show(struct crosstalk_endpoint *ep,
			const struct ep_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", READ_ONCE(ep->pid));
}
EP_ATTR_RO(pid);

static ssize_t features_show(struct crosstalk_endpoint *ep,
			     const struct ep_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%#llx\n", READ_ONCE(ep->features));
}
EP_ATTR_RO(features);

static ssize_t macs_show(struct crosstalk_endpoint *ep,
			 const struct ep_attribute *attr, char *buf)
{
	ssize_t len = 0;
	unsigned int i;

	spin_lock(&ep->macs_lock);
	for (i = 0; i < ep->nr_macs; i++)
		len += sysfs_emit_at(buf, len, "%pM\n", ep->macs[i]);
	spin_unlock(&ep->macs_lock);
	return len;
}
EP_ATTR_RO(macs);

static ssize_t verdicts_show(struct crosstalk_endpoint *ep,
			     const struct ep_attribute *attr, char *buf)
{
	return crosstalk_detector_show(&ep->detect, buf);
}
EP_ATTR_RO(verdicts);

static ssize_t flows_show(struct crosstalk_endpoint *ep,
			  const struct ep_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", READ_ONCE(ep->detect.nr));
}
EP_ATTR_RO(flows);

static ssize_t enable_show(struct crosstalk_endpoint *ep,
			   const struct ep_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", READ_ONCE(ep->enable));
}

/* 0 or 1 and nothing else: kstrtobool() would take "yesterday" for yes. */
static int parse_switch(const char *buf, bool *on)
{
	u8 val;
	int ret;

	ret = kstrtou8(buf, 0, &val);
	if (ret || val > 1)
		return -EINVAL;

	*on = val;
	return 0;
}

static ssize_t enable_store(struct crosstalk_endpoint *ep,
			    const struct ep_attribute *attr, const char *buf,
			    size_t count)
{
	bool enable;
	int ret;

	ret = parse_switch(buf, &enable);
	if (ret)
		return ret;

	WRITE_ONCE(ep->enable, enable);
	return count;
}
EP_ATTR_RW(enable);

static struct attribute *ep_attrs[] = {
	&ep_attr_state.attr,
	&ep_attr_reason.attr,
	&ep_attr_dev.attr,
	&ep_attr_pid.attr,
	&ep_attr_macs.attr,
	&ep_attr_features.attr,
	&ep_attr_flows.attr,
	&ep_attr_verdicts.attr,
	&ep_attr_enable.attr,
	&ep_counter_tx_packets.ep_attr.attr,
	&ep_counter_tx_bytes.ep_attr.attr,
	&ep_counter_tx_slow_packets.ep_attr.attr,
	&ep_counter_tx_errors.ep_attr.attr,
	&ep_counter_tx_kicks.ep_attr.attr,
	&ep_counter_tx_batches.ep_attr.attr,
	&ep_counter_tx_notify.ep_attr.attr,
	&ep_counter_tx_fast_packets.ep_attr.attr,
	&ep_counter_tx_fast_bytes.ep_attr.attr,
	&ep_counter_tx_parks.ep_attr.attr,
	&ep_counter_tx_settles.ep_attr.attr,
	&ep_counter_tx_remap_pages.ep_attr.attr,
	&ep_counter_tx_remap_bytes.ep_attr.attr,
	&ep_counter_tx_remap_faults.ep_attr.attr,
	&ep_counter_rx_fast_packets.ep_attr.attr,
	&ep_counter_rx_fast_bytes.ep_attr.attr,
	&ep_counter_rx_fast_notify.ep_attr.attr,
	&ep_counter_rx_fills.ep_attr.attr,
	&ep_counter_rx_remap_faults.ep_attr.attr,
	&ep_attr_rx_kicks.attr,
	NULL,
};
ATTRIBUTE_GROUPS(ep);

static ssize_t ep_attr_show(struct kobject *kobj, struct attribute *attr,
			    char *buf)
{
	struct ep_attribute *a = container_of(attr, struct ep_attribute, attr);

	return a->show(container_of(kobj, struct crosstalk_endpoint, kobj), a,
		       buf);
}

static ssize_t ep_attr_store(struct kobject *kobj, struct attribute *attr,
			     const char *buf, size_t count)
{
	struct ep_attribute *a = container_of(attr, struct ep_attribute, attr);

	if (!a->store)
		return -EIO;
	return a->store(container_of(kobj, struct crosstalk_endpoint, kobj), a,
			buf, count);
}

static const struct sysfs_ops ep_sysfs_ops = {
	.show = ep_attr_show,
	.store = ep_attr_store,
};

static void ep_release(struct kobject *kobj)
{
	crosstalk_endpoint_free(container_of(kobj, struct crosstalk_endpoint,
					     kobj));
}

static const struct kobj_type ep_ktype = {
	.release = ep_release,
	.sysfs_ops = &ep_sysfs_ops,
	.default_groups = ep_groups,
};

/**
 * crosstalk_sysfs_init() - prepare an endpoint's directory, not yet visible
 * @ep: new endpoint; from now on it is freed by crosstalk_sysfs_remove()
 */
void crosstalk_sysfs_init(struct crosstalk_endpoint *ep)
{
	kobject_init(&ep->kobj, &ep_ktype);
	ep->kobj.kset = endpoints_kset;
}

/**
 * crosstalk_sysfs_add() - make an endpoint visible
 * @ep: endpoint with its id set
 *
 * Context: process context, may sleep.
 * Return: 0 or a negative error.
 */
int crosstalk_sysfs_add(struct crosstalk_endpoint *ep)
{
	return kobject_add(&ep->kobj, NULL, "ep%u", ep->id);
}

/**
 * crosstalk_sysfs_remove() - take an endpoint's directory away and free it
 * @ep: unhooked endpoint that crosstalk_sysfs_add() made visible
 *
 * Waits for readers and writers of its files, who may thus look at the endpoint
 * without a reference.
 *
 * Context: process context, may sleep; no vq mutex held.
 */
void crosstalk_sysfs_remove(struct crosstalk_endpoint *ep)
{
	kobject_del(&ep->kobj);
	kobject_put(&ep->kobj);
}

static ssize_t scan_store(struct kobject *kobj, struct kobj_attribute *attr,
			  const char *buf, size_t count)
{
	bool scan;
	int ret;

	ret = parse_switch(buf, &scan);
	if (ret)
		return ret;
	if (!scan)
		return -EINVAL;

	ret = crosstalk_attach_scan();
	return ret ? ret : count;
}

static struct kobj_attribute scan_attr = __ATTR_WO(scan);

static struct attribute *root_attrs[] = {
	&scan_attr.attr,
	NULL,
};

static const struct attribute_group root_group = {
	.attrs = root_attrs,
};

static const struct attribute_group *root_groups[] = {
	&crosstalk_tunable_group,
	&root_group,
	NULL,
};

/**
 * crosstalk_sysfs_create() - make the directories
 *
 * Context: process context, may sleep.
 * Return: 0 or -ENOMEM.
 */
int crosstalk_sysfs_create(void)
{
	root_kset = kset_create_and_add("vhost_crosstalk", NULL, kernel_kobj);
	if (!root_kset)
		return -ENOMEM;

	endpoints_kset = kset_create_and_add("endpoints", NULL,
					     &root_kset->kobj);
	if (!endpoints_kset) {
		kset_unregister(root_kset);
		return -ENOMEM;
	}
	return 0;
}

/**
 * crosstalk_sysfs_publish() - show the module's own files
 *
 * Context: process context, may sleep; everything that they reach is ready.
 * Return: 0 or a negative error.
 */
int crosstalk_sysfs_publish(void)
{
	return sysfs_create_groups(&root_kset->kobj, root_groups);
}

/**
 * crosstalk_sysfs_retract() - take the module's own files away
 *
 * Context: process context, may sleep; waits for a scan that was written for.
 */
void crosstalk_sysfs_retract(void)
{
	sysfs_remove_groups(&root_kset->kobj, root_groups);
}

/**
 * crosstalk_sysfs_destroy() - remove the directories
 *
 * Context: process context, may sleep; no endpoint is left.
 */
void crosstalk_sysfs_destroy(void)
{
	kset_unregister(endpoints_kset);
	kset_unregister(root_kset);
}
