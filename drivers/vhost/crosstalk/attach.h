/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _CROSSTALK_ATTACH_H
#define _CROSSTALK_ATTACH_H

#include <linux/errno.h>
#include <linux/types.h>

#include "compat.h"

struct crosstalk_endpoint;
struct file;
struct net_device;

int crosstalk_attach_init(void);
void crosstalk_attach_exit(void);
int crosstalk_attach_file(struct file *file, pid_t pid);
bool crosstalk_attach_is_hooked(struct file *file);
bool crosstalk_attach_is_unhooked(const struct file *file);
int crosstalk_attach_scan(void);
void crosstalk_attach_for_each(void (*fn)(struct crosstalk_endpoint *ep,
					  void *data), void *data);
void crosstalk_attach_renamed(const struct net_device *dev);

#if CROSSTALK_HAVE_KRETPROBES
int crosstalk_probe_init(void);
void crosstalk_probe_exit(void);
#else
static inline int crosstalk_probe_init(void)
{
	return -EOPNOTSUPP;
}

static inline void crosstalk_probe_exit(void)
{
}
#endif

#endif /* _CROSSTALK_ATTACH_H */
