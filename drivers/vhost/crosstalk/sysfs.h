/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _CROSSTALK_SYSFS_H
#define _CROSSTALK_SYSFS_H

struct crosstalk_endpoint;

int crosstalk_sysfs_create(void);
int crosstalk_sysfs_publish(void);
void crosstalk_sysfs_retract(void);
void crosstalk_sysfs_destroy(void);

void crosstalk_sysfs_init(struct crosstalk_endpoint *ep);
int crosstalk_sysfs_add(struct crosstalk_endpoint *ep);
void crosstalk_sysfs_remove(struct crosstalk_endpoint *ep);

#endif /* _CROSSTALK_SYSFS_H */
