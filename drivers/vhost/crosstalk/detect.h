/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _CROSSTALK_DETECT_H
#define _CROSSTALK_DETECT_H

#include <linux/atomic.h>
#include <linux/jiffies.h>
#include <linux/list.h>
#include <linux/llist.h>
#include <linux/refcount.h>
#include <linux/spinlock.h>
#include <linux/types.h>

#include "policy.h"
#include "remap.h"

struct crosstalk_endpoint;

/*
 * Flows that one endpoint remembers.  A table costs 8 KiB, a verdict less than
 * 200 bytes and only while the flow is in use.
 */
#define CROSSTALK_VERDICT_BITS 10
#define CROSSTALK_MAX_VERDICTS 1024

/* Flows that have not been used for so long are forgotten. */
#define CROSSTALK_VERDICT_IDLE (10 * HZ)

/* Routes that one endpoint shares between its flows. */
#define CROSSTALK_RECENT_ROUTES 16

/* Tunable revalidate_ms: how long an answer holds. */
#define CROSSTALK_REVALIDATE_MIN 10
#define CROSSTALK_REVALIDATE_MAX 1000
#define CROSSTALK_REVALIDATE_DEFAULT 60

/**
 * struct crosstalk_route - the direct path from one endpoint to another
 * @ref: one for each verdict, mailbox or cache that has it
 * @node: in the list of those to be freed
 * @rcu: frees it
 * @peer: receiver, a reference to its memory: it can be dead
 * @sock: socket that the receiver must have; compared, never followed
 * @path: the way that the frames would have taken
 * @gone: count of interfaces that were gone when the route was made
 *
 * Never changes.
 */
struct crosstalk_route {
	refcount_t ref;
	struct llist_node node;
	struct rcu_head rcu;
	struct crosstalk_endpoint *peer;
	const struct socket *sock;
	struct crosstalk_path path;
	unsigned int gone;
};

/* What the policy says of a flow, and for how long. */
struct crosstalk_answer {
	struct crosstalk_route *route;	/* a reference, or NULL */
	unsigned long expires;		/* jiffies */
	int epoch;
	enum crosstalk_slow slow;
};

/**
 * struct crosstalk_verdict - what is known of a flow
 * @node: in its detector's table
 * @key: flow, and queue if the receiver has several; never changes
 * @now: the answer in force (tx->mutex)
 * @used: jiffies of the last frame (tx->mutex; the resolver reads it)
 * @slow: the last frame went by the slow path (tx->mutex; the TX loop's)
 * @blind: the endpoint's count of the same name when it was seen last (as @slow)
 * @stamp: of a flow to several queues: changes with each run of frames that went
 * slow before their queue was known; of one such queue: the flow's, when it was
 * seen last (as @slow)
 * @noted: @slow_packets when @stamp was changed (as @slow)
 * @refresh_at: jiffies when the bridge should see a frame of the source again
 * @fast_packets: frames by the direct path (tx->mutex; the TX loop's)
 * @fast_bytes: their bytes (tx->mutex; the TX loop's)
 * @slow_packets: frames by the slow path (tx->mutex; the TX loop's)
 * @held: why the flow stays on the slow path whatever the answer is, or
 * CROSSTALK_FAST (tx->mutex; the TX loop's)
 * @held_until: jiffies when that ends (as @held)
 * @backoff: how often its receiver stalled in a row (as @held)
 * @flaps: how often it changed its path too often in a row (as @held)
 * @changes: changes to the direct path since @window (as @held)
 * @window: jiffies (as @held)
 * @remap: how remapping does (as @slow)
 * @next: the answer to come (the detector's lock)
 * @posted: there is one (the detector's lock; read without)
 * @gone: out of the table (the detector's lock)
 * @asked: jiffies when the resolver asked last (the resolver)
 * @fresh: the resolver has never asked (the resolver)
 * @shown: its last answer, for an operator (the resolver writes it)
 * @peer_id: receiver's number, for an operator (the resolver writes it)
 * @rcu: frees it
 *
 * Belongs to the worker of its endpoint: while tx->mutex is held, @now does not
 * change but by crosstalk_detect(), and the verdict that crosstalk_detect() has
 * returned last is not freed.
 */
struct crosstalk_verdict {
	struct hlist_node node;
	struct crosstalk_flow_key key;

	struct crosstalk_answer now;
	unsigned long used;
	unsigned long refresh_at;
	bool slow;
	u32 blind;
	u32 stamp;
	u64 noted;
	u64 fast_packets;
	u64 fast_bytes;
	u64 slow_packets;
	unsigned long held_until;
	unsigned long window;
	u8 held;
	u8 backoff;
	u8 flaps;
	u8 changes;
	struct crosstalk_remap_pair remap;

	struct crosstalk_answer next;
	unsigned long asked;
	unsigned int peer_id;
	u8 shown;
	bool posted;
	bool gone;
	bool fresh;
	struct rcu_head rcu;
};

/**
 * struct crosstalk_detector - an endpoint's verdicts
 * @last: the one that was asked for last (tx->mutex)
 * @last_queue: the same among those for one of several queues (tx->mutex)
 * @stamps: stamps that were given to verdicts (tx->mutex)
 * @buckets: table (tx->mutex to change it, RCU to read it)
 * @nr: verdicts in it (tx->mutex)
 * @hand: bucket at which the next eviction begins to look (tx->mutex)
 * @lock: mailboxes of all verdicts, and @recent
 * @full: stands in for flows that there is no room for
 * @port: where the endpoint is attached (the resolver, under RTNL)
 * @recent: routes that verdicts may share (@lock)
 * @drained: no verdict comes any more (@lock)
 * @pass: in the list of endpoints of the resolver's pass
 * @peer: in the pass's table of endpoints by interface
 */
struct crosstalk_detector {
	struct crosstalk_verdict *last;
	struct crosstalk_verdict *last_queue;
	u32 stamps;
	struct hlist_head *buckets;
	unsigned int nr;
	unsigned int hand;
	spinlock_t lock; /* see above */
	struct crosstalk_verdict full;

	struct crosstalk_port port;
	struct crosstalk_route *recent[CROSSTALK_RECENT_ROUTES];
	bool drained;
	struct list_head pass;
	struct hlist_node peer;
};

/* Answers of an older epoch do not hold any more. */
extern atomic_t crosstalk_detect_epoch;

/* Interfaces of routes that are gone (resolve.c). */
extern unsigned int crosstalk_detect_gone;

void crosstalk_detector_seed(void);
int crosstalk_detector_init(struct crosstalk_detector *detector);
void crosstalk_detector_drain(struct crosstalk_detector *detector);
void crosstalk_detector_destroy(struct crosstalk_detector *detector);
void crosstalk_detector_prune(struct crosstalk_detector *detector,
			      unsigned long idle);
ssize_t crosstalk_detector_show(struct crosstalk_detector *detector, char *buf);

struct crosstalk_verdict *
__crosstalk_detect_find(struct crosstalk_detector *detector,
			struct crosstalk_verdict **last,
			const struct crosstalk_flow_key *key);
void __crosstalk_detect_take(struct crosstalk_detector *detector,
			     struct crosstalk_verdict *verdict);
enum crosstalk_slow
__crosstalk_detect_stale(const struct crosstalk_verdict *verdict);
void crosstalk_verdict_renew(struct crosstalk_detector *detector,
			     struct crosstalk_verdict *verdict);
void crosstalk_verdict_end(struct crosstalk_detector *detector,
			   struct crosstalk_verdict *verdict);
void crosstalk_verdict_post(struct crosstalk_detector *detector,
			    struct crosstalk_verdict *verdict,
			    const struct crosstalk_answer *answer);

/**
 * crosstalk_verdict_is_over() - whether the answer in force has ended
 * @verdict: verdict
 * @now: jiffies
 *
 * Context: tx->mutex held.
 */
static inline bool
crosstalk_verdict_is_over(const struct crosstalk_verdict *verdict,
			  unsigned long now)
{
	return time_after_eq(now, verdict->now.expires) ||
	       verdict->now.epoch != atomic_read(&crosstalk_detect_epoch);
}

static inline enum crosstalk_slow
__crosstalk_detect(struct crosstalk_detector *detector,
		   struct crosstalk_verdict **last,
		   const struct crosstalk_flow_key *key,
		   struct crosstalk_verdict **verdict)
{
	struct crosstalk_verdict *v = *last;
	unsigned long now = jiffies;

	if (unlikely(!crosstalk_flow_key_equal(&v->key, key)))
		v = __crosstalk_detect_find(detector, last, key);
	*verdict = v;
	if (unlikely(READ_ONCE(v->posted)))
		__crosstalk_detect_take(detector, v);
	if (v->used != now)
		WRITE_ONCE(v->used, now);
	if (unlikely(crosstalk_verdict_is_over(v, now)))
		return __crosstalk_detect_stale(v);
	return v->now.slow;
}

/**
 * crosstalk_detect() - whether a frame may go straight to another VM
 * @detector: of the endpoint that sends it
 * @key: its flow
 * @verdict: what is known of the flow, never NULL; with CROSSTALK_FAST and
 * CROSSTALK_BY_QUEUE it has a route
 *
 * Context: the endpoint's TX worker, tx->mutex held.
 * Return: CROSSTALK_FAST; CROSSTALK_BY_QUEUE, if its queue is to be found out,
 * and then asked for; or why not.
 */
static inline enum crosstalk_slow
crosstalk_detect(struct crosstalk_detector *detector,
		 const struct crosstalk_flow_key *key,
		 struct crosstalk_verdict **verdict)
{
	return __crosstalk_detect(detector, &detector->last, key, verdict);
}

/**
 * crosstalk_detect_queue() - the same for one of several queues
 * @detector: of the endpoint that sends the frame
 * @key: its flow, with a queue
 * @verdict: as above
 *
 * Context: the endpoint's TX worker, tx->mutex held.
 * Return: CROSSTALK_FAST, or why not.
 */
static inline enum crosstalk_slow
crosstalk_detect_queue(struct crosstalk_detector *detector,
		       const struct crosstalk_flow_key *key,
		       struct crosstalk_verdict **verdict)
{
	return __crosstalk_detect(detector, &detector->last_queue, key,
				  verdict);
}

/**
 * crosstalk_verdict_refresh_due() - whether the bridge should see a frame again
 * @verdict: one with a route
 *
 * A bridge forgets a source that it does not see.  When this says so, one frame
 * goes by the slow path, and crosstalk_verdict_refreshed() is called.
 *
 * Context: tx->mutex held.
 */
static inline bool
crosstalk_verdict_refresh_due(const struct crosstalk_verdict *verdict)
{
	return verdict->now.route->path.refresh &&
	       time_after_eq(jiffies, verdict->refresh_at);
}

/**
 * crosstalk_verdict_refreshed() - a frame of this flow went by the slow path
 * @verdict: one with a route
 *
 * Context: tx->mutex held.
 */
static inline void crosstalk_verdict_refreshed(struct crosstalk_verdict *verdict)
{
	verdict->refresh_at = jiffies + verdict->now.route->path.refresh;
}

/**
 * crosstalk_route_is_there() - whether a route's interfaces may be used
 * @route: route
 *
 * Context: RCU held; until it is not, if the answer is yes.
 */
static inline bool crosstalk_route_is_there(const struct crosstalk_route *route)
{
	return route->gone == READ_ONCE(crosstalk_detect_gone);
}

/* account.c */
bool crosstalk_path_tapped(const struct crosstalk_path *path);
enum crosstalk_slow
crosstalk_verdict_tapped(const struct crosstalk_verdict *verdict);
bool crosstalk_route_queued(const struct crosstalk_route *route);
void crosstalk_account(const struct crosstalk_route *route,
		       unsigned int packets, size_t bytes);

/* route.c */
struct crosstalk_route *crosstalk_route_get(struct crosstalk_detector *detector,
					    struct crosstalk_endpoint *peer,
					    const struct crosstalk_path *path,
					    unsigned int gone);
void crosstalk_route_put(struct crosstalk_route *route);
void crosstalk_routes_forget(struct crosstalk_detector *detector, bool all);
void crosstalk_routes_exit(void);

/* resolve.c */
int crosstalk_detect_init(void);
void crosstalk_detect_exit(void);
void crosstalk_detect_want(void);
void crosstalk_detect_kick(void);
void crosstalk_detect_netdev_event(unsigned long event, struct net_device *dev);

#endif /* _CROSSTALK_DETECT_H */
