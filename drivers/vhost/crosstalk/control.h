/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _CROSSTALK_CONTROL_H
#define _CROSSTALK_CONTROL_H

#include <linux/compiler.h>
#include <linux/types.h>

#include "vhost_private.h"

/*
 * Tunables of the whole module: module parameters at load, then sysfs.  Each is
 * one word that is read without a lock wherever it is used.
 */
struct crosstalk_tunables {
	bool enable;		/* run the module's own loops */
	unsigned int batch;	/* frames to the backend at a time */
};

extern struct crosstalk_tunables crosstalk_tunables;

static inline bool crosstalk_enabled(void)
{
	return READ_ONCE(crosstalk_tunables.enable);
}

static inline unsigned int crosstalk_batch(void)
{
	return READ_ONCE(crosstalk_tunables.batch);
}

static inline bool crosstalk_batch_valid(unsigned int batch)
{
	return batch >= 1 && batch <= VHOST_NET_BATCH;
}

#endif /* _CROSSTALK_CONTROL_H */
