// SPDX-License-Identifier: GPL-2.0
/*
 * Senders that wait: for a receiver's buffers, or for its pages.
 *
 * A waiting sender is woken through its own kick eventfd, as its guest would:
 * whoever wakes it touches no foreign device, and a wake-up too many is
 * harmless.  A wait ends by the receiver's work function, by the receiver's
 * end, or by a timer.
 *
 * park_lock protects the lists of waiters of all endpoints.  It is taken when a
 * sender parks and when a receiver with waiters runs, not for each frame.
 * Nothing else is taken under it but the eventfd's own lock.
 */

#include <linux/eventfd.h>
#include <linux/hrtimer.h>
#include <linux/list.h>
#include <linux/spinlock.h>

#include "control.h"
#include "endpoint.h"
#include "push.h"

#include <trace/events/vhost_crosstalk.h>

static DEFINE_SPINLOCK(park_lock);

static enum hrtimer_restart park_timeout(struct hrtimer *timer)
{
	struct crosstalk_park *park = container_of(timer, struct crosstalk_park,
						   timer);

	/* Its worker finds out by itself for how long it has waited. */
	crosstalk_eventfd_signal(park->kick);
	return HRTIMER_NORESTART;
}

/**
 * crosstalk_park_init() - prepare an endpoint for waiting and being waited for
 * @ep: new endpoint
 */
void crosstalk_park_init(struct crosstalk_endpoint *ep)
{
	INIT_LIST_HEAD(&ep->park.entry);
	INIT_LIST_HEAD(&ep->waiters);
	hrtimer_init(&ep->park.timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_SOFT);
	ep->park.timer.function = park_timeout;
}

static void leave_list(struct crosstalk_park *park)
{
	spin_lock(&park_lock);
	list_del_init(&park->entry);
	spin_unlock(&park_lock);
}

static void drop_kick(struct crosstalk_park *park)
{
	if (!park->kick)
		return;

	/* Neither the timer nor a receiver may still know it. */
	hrtimer_cancel(&park->timer);
	leave_list(park);
	eventfd_ctx_put(park->kick);
	park->kick = NULL;
}

static void wake_all(struct crosstalk_endpoint *peer)
{
	struct crosstalk_park *park;
	struct crosstalk_park *tmp;

	spin_lock(&park_lock);
	list_for_each_entry_safe(park, tmp, &peer->waiters, entry) {
		list_del_init(&park->entry);
		crosstalk_eventfd_signal(park->kick);
	}
	spin_unlock(&park_lock);
}

/**
 * crosstalk_park_destroy() - end an endpoint's waits, its own and others' for it
 * @ep: dead endpoint whose workers are done with it
 *
 * Who parks checks ep->dead under park_lock, and it was set before: nobody
 * comes after this.
 *
 * Context: process context, may sleep.
 */
void crosstalk_park_destroy(struct crosstalk_endpoint *ep)
{
	wake_all(ep);
	drop_kick(&ep->park);
}

/* The slow part of crosstalk_park_prepare(): another kick eventfd, or none. */
bool __crosstalk_park_prepare(struct crosstalk_park *park, struct file *file)
{
	struct eventfd_ctx *kick;

	drop_kick(park);
	if (!file)
		return false;
	kick = eventfd_ctx_fileget(file);
	if (IS_ERR(kick))
		return false;

	park->kick = kick;
	return true;
}

/**
 * crosstalk_park() - let a sender wait for a receiver
 * @ep: sender, prepared
 * @peer: receiver
 * @why: a word for the trace
 *
 * To be called before the receiver is asked for what the sender waits for, so
 * that the answer finds it waiting.
 *
 * Context: the sender's worker, tx->mutex held, under RCU; does not sleep.
 * Return: whether it waits; if not, its time is over.
 */
bool crosstalk_park(struct crosstalk_endpoint *ep,
		    struct crosstalk_endpoint *peer, const char *why)
{
	u64 limit = (u64)crosstalk_backpressure_us() * NSEC_PER_USEC;
	struct crosstalk_park *park = &ep->park;
	bool parked = false;
	u64 waited;

	if (!park->kick || crosstalk_park_expired(ep))
		return false;

	spin_lock(&park_lock);
	if (!READ_ONCE(peer->dead)) {
		list_move_tail(&park->entry, &peer->waiters);
		parked = true;
	}
	spin_unlock(&park_lock);
	if (!parked)
		return false;

	waited = min(ktime_get_ns() - park->since, limit);
	trace_crosstalk_park(ep, peer, why, limit - waited);
	return crosstalk_park_for(ep, limit - waited);
}

/**
 * crosstalk_park_for() - let a sender wait for nothing but time
 * @ep: sender, prepared
 * @ns: how long
 *
 * Context: the sender's worker, tx->mutex held; does not sleep.
 * Return: whether it waits.
 */
bool crosstalk_park_for(struct crosstalk_endpoint *ep, u64 ns)
{
	if (!ep->park.kick)
		return false;

	hrtimer_start(&ep->park.timer, ns_to_ktime(ns), HRTIMER_MODE_REL_SOFT);
	return true;
}

/**
 * crosstalk_park_expired() - whether a sender has tried for long enough
 * @ep: sender that will try again by itself
 *
 * Context: the sender's worker, tx->mutex held.
 * Return: true once backpressure_us have passed since the first try.
 */
bool crosstalk_park_expired(struct crosstalk_endpoint *ep)
{
	u64 limit = (u64)crosstalk_backpressure_us() * NSEC_PER_USEC;
	struct crosstalk_park *park = &ep->park;
	u64 now = ktime_get_ns();

	if (!park->since)
		park->since = now;
	if (now - park->since < limit)
		return false;

	park->since = 0;
	return true;
}

/**
 * crosstalk_unpark() - wake whoever waits for a receiver
 * @peer: the receiver
 *
 * Context: any but interrupt.
 */
void crosstalk_unpark(struct crosstalk_endpoint *peer)
{
	/*
	 * Without the lock: who parks now has not yet asked for anything, and
	 * will look at the ring after that.
	 */
	if (!list_empty_careful(&peer->waiters))
		wake_all(peer);
}
