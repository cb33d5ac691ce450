// SPDX-License-Identifier: GPL-2.0
/*
 * Routes: what the verdicts of one endpoint share of a direct path.
 *
 * The last reference is dropped in all kinds of places, with a vq mutex held or
 * inside RCU, while the end of the receiver's endpoint, to which a route holds
 * a reference, may sleep.  So it is left to a work item.
 */

#include <linux/llist.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/workqueue.h>

#include "detect.h"
#include "endpoint.h"

static LLIST_HEAD(unused);

static void free_routes(struct work_struct *work)
{
	struct llist_node *list = llist_del_all(&unused);
	struct crosstalk_route *route;
	struct crosstalk_route *tmp;

	llist_for_each_entry_safe(route, tmp, list, node) {
		if (route->peer)
			kobject_put(&route->peer->kobj);
		kfree_rcu(route, rcu);
	}
}

static DECLARE_WORK(free_work, free_routes);

/**
 * crosstalk_route_put() - drop a reference to a route
 * @route: route, or NULL
 *
 * Context: any.
 */
void crosstalk_route_put(struct crosstalk_route *route)
{
	if (!route || !refcount_dec_and_test(&route->ref))
		return;

	if (llist_add(&route->node, &unused))
		schedule_work(&free_work);
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_route_put);

/**
 * crosstalk_routes_exit() - wait until unused routes are freed
 *
 * Context: process context, may sleep; no reference is dropped any more.
 */
void crosstalk_routes_exit(void)
{
	flush_work(&free_work);
}

static bool is_same(const struct crosstalk_route *route,
		    const struct crosstalk_endpoint *peer,
		    const struct crosstalk_path *path, unsigned int gone)
{
	return route && route->peer == peer && route->gone == gone &&
	       route->sock == peer->detect.port.rx_sock &&
	       !memcmp(&route->path, path, sizeof(*path));
}

static struct crosstalk_route *new_route(struct crosstalk_endpoint *peer,
					 const struct crosstalk_path *path,
					 unsigned int gone)
{
	struct crosstalk_route *route;

	route = kzalloc(sizeof(*route), GFP_NOWAIT | __GFP_NOWARN);
	if (!route)
		return NULL;

	kobject_get(&peer->kobj);
	refcount_set(&route->ref, 1);
	route->peer = peer;
	route->sock = peer->detect.port.rx_sock;
	route->path = *path;
	route->gone = gone;
	return route;
}

/**
 * crosstalk_route_get() - make a route, or find one that is the same
 * @detector: of the sender
 * @peer: receiver, with its port set
 * @path: way there; its padding is zero
 * @gone: crosstalk_detect_gone as it was when @path was found
 *
 * Context: the resolver; RTNL held; does not sleep.
 * Return: a reference, or NULL when there is no memory.
 */
struct crosstalk_route *crosstalk_route_get(struct crosstalk_detector *detector,
					    struct crosstalk_endpoint *peer,
					    const struct crosstalk_path *path,
					    unsigned int gone)
{
	struct crosstalk_route **slot;
	struct crosstalk_route *route;
	struct crosstalk_route *old;

	slot = &detector->recent[(peer->id * 2 + path->tagged) %
				 CROSSTALK_RECENT_ROUTES];

	spin_lock(&detector->lock);
	route = *slot;
	if (is_same(route, peer, path, gone)) {
		refcount_inc(&route->ref);
		spin_unlock(&detector->lock);
		return route;
	}
	spin_unlock(&detector->lock);

	route = new_route(peer, path, gone);
	if (!route)
		return NULL;

	old = NULL;
	spin_lock(&detector->lock);
	if (!detector->drained) {
		old = *slot;
		*slot = route;
		refcount_inc(&route->ref);
	}
	spin_unlock(&detector->lock);
	crosstalk_route_put(old);
	return route;
}

/**
 * crosstalk_routes_forget() - give up routes that are kept to be shared
 * @detector: table
 * @all: all of them, and keep none from now on; else those to the dead
 *
 * Context: any but interrupts.
 */
void crosstalk_routes_forget(struct crosstalk_detector *detector, bool all)
{
	struct crosstalk_route *drop[CROSSTALK_RECENT_ROUTES];
	unsigned int i;

	spin_lock(&detector->lock);
	for (i = 0; i < CROSSTALK_RECENT_ROUTES; i++) {
		drop[i] = NULL;
		if (!detector->recent[i] ||
		    !(all || READ_ONCE(detector->recent[i]->peer->dead)))
			continue;
		swap(drop[i], detector->recent[i]);
	}
	detector->drained |= all;
	spin_unlock(&detector->lock);

	for (i = 0; i < CROSSTALK_RECENT_ROUTES; i++)
		crosstalk_route_put(drop[i]);
}
