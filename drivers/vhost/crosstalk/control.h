/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _CROSSTALK_CONTROL_H
#define _CROSSTALK_CONTROL_H

#include <linux/compiler.h>
#include <linux/limits.h>
#include <linux/types.h>

struct attribute_group;

/* Values of the tunable remap that are not a number of pages. */
#define CROSSTALK_REMAP_OFF 0
#define CROSSTALK_REMAP_ADAPTIVE UINT_MAX

/*
 * Tunables of the whole module (control.c).  Each is one word that is read
 * without a lock wherever it is used.
 */
struct crosstalk_tunables {
	unsigned int enable;		/* run the module's own loops */
	unsigned int direct;		/* let frames go the direct path */
	unsigned int batch;		/* frames handed on at a time */
	unsigned int backpressure_us;	/* wait for a receiver's buffers */
	unsigned int revalidate_ms;	/* how long a verdict holds */
	unsigned int busy_poll_us;	/* look for frames before a kick is asked for */
	unsigned int remap;		/* whole pages from which on, or how */
};

extern struct crosstalk_tunables crosstalk_tunables;
extern const struct attribute_group crosstalk_tunable_group;

static inline bool crosstalk_enabled(void)
{
	return READ_ONCE(crosstalk_tunables.enable);
}

static inline bool crosstalk_direct(void)
{
	return READ_ONCE(crosstalk_tunables.direct);
}

static inline unsigned int crosstalk_batch(void)
{
	return READ_ONCE(crosstalk_tunables.batch);
}

static inline unsigned int crosstalk_backpressure_us(void)
{
	return READ_ONCE(crosstalk_tunables.backpressure_us);
}

static inline unsigned int crosstalk_revalidate_ms(void)
{
	return READ_ONCE(crosstalk_tunables.revalidate_ms);
}

static inline unsigned int crosstalk_busy_poll_us(void)
{
	return READ_ONCE(crosstalk_tunables.busy_poll_us);
}

static inline unsigned int crosstalk_remap_mode(void)
{
	return READ_ONCE(crosstalk_tunables.remap);
}

#endif /* _CROSSTALK_CONTROL_H */
