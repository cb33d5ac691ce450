// SPDX-License-Identifier: GPL-2.0
/*
 * The cache of verdicts: by flow, whether frames may take the direct path.
 *
 * Who changes what
 * ----------------
 * A table belongs to its endpoint's TX worker: it looks verdicts up, adds and
 * removes them under tx->mutex, with no lock and no atomic operation when it
 * finds one.  The resolver (resolve.c) walks the table under RCU, asks the
 * policy, and posts answers: the detector's lock is held for the few words of
 * one mailbox, and the worker takes it only when there is something in the box.
 *
 * An answer is never changed in force.  It ends by itself (@expires), with the
 * epoch, or when the worker takes the next one, and an answer that has ended
 * means the slow path: whatever keeps the resolver from asking, a change takes
 * effect in time.
 *
 * References: an answer that has a route holds a reference to it, in the
 * mailbox as in force, and the route one to its receiver's endpoint.  Unhooking
 * drains the table, so that two endpoints never keep each other.
 */

#include <linux/cache.h>
#include <linux/etherdevice.h>
#include <linux/hash.h>
#include <linux/random.h>
#include <linux/rculist.h>
#include <linux/slab.h>
#include <linux/sysfs.h>

#include "detect.h"
#include "endpoint.h"

/* Buckets that are looked at for a verdict to evict. */
#define EVICT_BUCKETS 8

/* A verdict that was used as lately as that is not evicted. */
#define EVICT_IDLE (HZ / 10 + 1)

atomic_t crosstalk_detect_epoch __read_mostly = ATOMIC_INIT(0);
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_detect_epoch);

static u64 hash_seed __read_mostly;

/* A guest that knew the seed could make its own chains long, no others'. */
static unsigned int hash_key(const struct crosstalk_flow_key *key)
{
	u64 hash = (key->word[0] ^ hash_seed) * GOLDEN_RATIO_64;

	hash = ((hash ^ (hash >> 32)) + key->word[1]) * GOLDEN_RATIO_64;
	return hash >> (64 - CROSSTALK_VERDICT_BITS);
}

/**
 * crosstalk_detector_seed() - choose how flows are spread over tables
 *
 * Not get_random_once(): that holds a reference to the module until a work item
 * has run, and an rmmod that comes soon is refused.
 *
 * Context: module init, before there is a table.
 */
void crosstalk_detector_seed(void)
{
	get_random_bytes(&hash_seed, sizeof(hash_seed));
}

/**
 * crosstalk_detector_init() - prepare an endpoint's table
 * @detector: zeroed
 *
 * Context: process context, may sleep.
 * Return: 0 or -ENOMEM.
 */
int crosstalk_detector_init(struct crosstalk_detector *detector)
{
	detector->buckets = kcalloc(BIT(CROSSTALK_VERDICT_BITS),
				    sizeof(*detector->buckets), GFP_KERNEL);
	if (!detector->buckets)
		return -ENOMEM;

	spin_lock_init(&detector->lock);
	INIT_LIST_HEAD(&detector->pass);
	/* Its key is no flow's: both addresses are zero. */
	detector->full.now.slow = CROSSTALK_SLOW_FULL;
	detector->full.shown = CROSSTALK_SLOW_FULL;
	detector->full.gone = true;
	detector->last = &detector->full;
	detector->last_queue = &detector->full;
	return 0;
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_detector_init);

static void remove_verdict(struct crosstalk_detector *detector,
			   struct crosstalk_verdict *verdict)
{
	if (detector->last == verdict)
		detector->last = &detector->full;
	if (detector->last_queue == verdict)
		detector->last_queue = &detector->full;
	hlist_del_rcu(&verdict->node);
	detector->nr--;

	spin_lock(&detector->lock);
	verdict->gone = true;
	spin_unlock(&detector->lock);
	/* The resolver posts no more. */
	crosstalk_route_put(verdict->next.route);
	crosstalk_route_put(verdict->now.route);
	kfree_rcu(verdict, rcu);
}

/**
 * crosstalk_detector_prune() - forget flows that are not used
 * @detector: table
 * @idle: jiffies without a frame, 0 for all flows
 *
 * Context: tx->mutex held, or nobody sends any more.
 */
void crosstalk_detector_prune(struct crosstalk_detector *detector,
			      unsigned long idle)
{
	struct crosstalk_verdict *verdict;
	struct hlist_node *tmp;
	unsigned int i;

	for (i = 0; detector->nr && i < BIT(CROSSTALK_VERDICT_BITS); i++)
		hlist_for_each_entry_safe(verdict, tmp, &detector->buckets[i],
					  node)
			if (!idle || time_after(jiffies, verdict->used + idle))
				remove_verdict(detector, verdict);
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_detector_prune);

/**
 * crosstalk_detector_drain() - forget everything that refers to other endpoints
 * @detector: of an endpoint whose TX worker does not come any more
 *
 * Context: process context.
 */
void crosstalk_detector_drain(struct crosstalk_detector *detector)
{
	crosstalk_detector_prune(detector, 0);
	crosstalk_routes_forget(detector, true);
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_detector_drain);

/**
 * crosstalk_detector_destroy() - free an endpoint's table
 * @detector: drained; nobody knows it any more
 */
void crosstalk_detector_destroy(struct crosstalk_detector *detector)
{
	kfree(detector->buckets);
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_detector_destroy);

/* Of two that are not in use, the one that is the lesser loss goes. */
static bool is_worse(const struct crosstalk_verdict *verdict,
		     const struct crosstalk_verdict *than)
{
	if (!than || !verdict->now.route != !than->now.route)
		return !than || !verdict->now.route;
	return time_before(verdict->used, than->used);
}

/*
 * Makes room; a few buckets are looked at, so that its cost is bounded.  The
 * flow that was asked for last is in use while one of its queues is looked up,
 * however long ago that was: the frame's memory may have been faulted in since.
 */
static bool evict(struct crosstalk_detector *detector)
{
	struct crosstalk_verdict *verdict;
	struct crosstalk_verdict *worst = NULL;
	unsigned int i;

	for (i = 0; i < EVICT_BUCKETS; i++) {
		detector->hand = (detector->hand + 1) %
				 BIT(CROSSTALK_VERDICT_BITS);
		hlist_for_each_entry(verdict,
				     &detector->buckets[detector->hand], node)
			if (verdict != detector->last &&
			    time_after(jiffies, verdict->used + EVICT_IDLE) &&
			    is_worse(verdict, worst))
				worst = verdict;
	}
	if (!worst)
		return false;

	remove_verdict(detector, worst);
	return true;
}

/* Not inlined: to look a flow up that is there needs few registers. */
static noinline struct crosstalk_verdict *
add_verdict(struct crosstalk_detector *detector,
	    const struct crosstalk_flow_key *key, struct hlist_head *bucket)
{
	struct crosstalk_verdict *verdict;

	if (detector->nr >= CROSSTALK_MAX_VERDICTS && !evict(detector))
		return &detector->full;

	/* The worker of a device has better things to do than to reclaim. */
	verdict = kzalloc(sizeof(*verdict), GFP_NOWAIT | __GFP_NOWARN);
	if (!verdict)
		return &detector->full;

	verdict->key = *key;
	verdict->now.slow = CROSSTALK_SLOW_UNRESOLVED;
	verdict->now.expires = jiffies;
	verdict->shown = CROSSTALK_SLOW_UNRESOLVED;
	verdict->used = jiffies;
	verdict->fresh = true;
	verdict->slow = true;
	hlist_add_head_rcu(&verdict->node, bucket);
	detector->nr++;
	crosstalk_detect_want();
	return verdict;
}

/* The slow part of crosstalk_detect(): a flow unlike the last. */
struct crosstalk_verdict *
__crosstalk_detect_find(struct crosstalk_detector *detector,
			struct crosstalk_verdict **last,
			const struct crosstalk_flow_key *key)
{
	struct hlist_head *bucket = &detector->buckets[hash_key(key)];
	struct crosstalk_verdict *verdict;

	hlist_for_each_entry(verdict, bucket, node) {
		if (crosstalk_flow_key_equal(&verdict->key, key)) {
			*last = verdict;
			return verdict;
		}
	}

	return *last = add_verdict(detector, key, bucket);
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(__crosstalk_detect_find);

/* The answer in the mailbox is in force from now on; the lock is held. */
static void take_posted(struct crosstalk_verdict *verdict)
{
	verdict->now = verdict->next;
	verdict->next.route = NULL;
	WRITE_ONCE(verdict->posted, false);
}

/* The mailbox of a verdict has an answer. */
void __crosstalk_detect_take(struct crosstalk_detector *detector,
			     struct crosstalk_verdict *verdict)
{
	struct crosstalk_route *old = verdict->now.route;

	spin_lock(&detector->lock);
	take_posted(verdict);
	spin_unlock(&detector->lock);

	/* It came by the slow path: the bridge has seen the source. */
	if (verdict->now.route && !old)
		crosstalk_verdict_refreshed(verdict);
	crosstalk_route_put(old);
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(__crosstalk_detect_take);

/**
 * crosstalk_verdict_renew() - let a frame that took long go on as it began
 * @detector: table
 * @verdict: verdict of that table with a route, which is in use
 *
 * Takes an answer that has come meanwhile if it is the same, but for its end.
 * Another one is left for the next frame.
 *
 * Context: the endpoint's TX worker, tx->mutex held.
 */
void crosstalk_verdict_renew(struct crosstalk_detector *detector,
			     struct crosstalk_verdict *verdict)
{
	struct crosstalk_route *drop = NULL;

	spin_lock(&detector->lock);
	if (verdict->posted && verdict->next.route == verdict->now.route &&
	    verdict->next.slow == verdict->now.slow) {
		drop = verdict->now.route;
		take_posted(verdict);
	}
	spin_unlock(&detector->lock);
	crosstalk_route_put(drop);
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_verdict_renew);

/* An answer has ended: ask again, and until then do as if it were a no. */
enum crosstalk_slow
__crosstalk_detect_stale(const struct crosstalk_verdict *verdict)
{
	if (verdict->now.slow != CROSSTALK_SLOW_FULL)
		crosstalk_detect_want();
	return verdict->now.slow > CROSSTALK_BY_QUEUE ? verdict->now.slow :
							CROSSTALK_SLOW_STALE;
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(__crosstalk_detect_stale);

/**
 * crosstalk_verdict_end() - end an answer that was seen to be wrong
 * @detector: table
 * @verdict: verdict of that table
 *
 * Context: the endpoint's TX worker, tx->mutex held.
 */
void crosstalk_verdict_end(struct crosstalk_detector *detector,
			   struct crosstalk_verdict *verdict)
{
	spin_lock(&detector->lock);
	verdict->now.expires = jiffies;
	spin_unlock(&detector->lock);
	crosstalk_detect_want();
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_verdict_end);

/**
 * crosstalk_verdict_post() - put an answer in a verdict's mailbox
 * @detector: table
 * @verdict: verdict of that table, kept by RCU
 * @answer: its route's reference is passed on
 *
 * An answer that the worker has not taken yet is replaced.
 *
 * Context: the resolver.
 */
void crosstalk_verdict_post(struct crosstalk_detector *detector,
			    struct crosstalk_verdict *verdict,
			    const struct crosstalk_answer *answer)
{
	struct crosstalk_route *drop;

	spin_lock(&detector->lock);
	if (verdict->gone) {
		drop = answer->route;
	} else {
		drop = verdict->next.route;
		verdict->next = *answer;
		WRITE_ONCE(verdict->posted, true);
	}
	spin_unlock(&detector->lock);
	crosstalk_route_put(drop);
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_verdict_post);

/*
 * Whether frames come to an answer that has ended.  That of a flow which rests
 * has ended, too, and will be asked for again.
 */
static bool is_stale(struct crosstalk_detector *detector,
		     const struct crosstalk_verdict *verdict)
{
	const struct crosstalk_answer *answer;
	unsigned long expires;
	unsigned long used;
	int epoch;

	spin_lock(&detector->lock);
	answer = verdict->posted ? &verdict->next : &verdict->now;
	expires = answer->expires;
	epoch = answer->epoch;
	spin_unlock(&detector->lock);

	used = READ_ONCE(verdict->used);
	if (epoch != atomic_read(&crosstalk_detect_epoch))
		return time_after(used, READ_ONCE(verdict->asked));
	return time_after_eq(used, expires);
}

static ssize_t show_verdict(struct crosstalk_detector *detector,
			    const struct crosstalk_verdict *verdict, char *buf,
			    ssize_t len)
{
	unsigned int slow = READ_ONCE(verdict->shown);
	u16 queue = verdict->key.queue;
	char nr[8] = "";
	char to[24];

	if (slow <= CROSSTALK_BY_QUEUE && is_stale(detector, verdict))
		slow = CROSSTALK_SLOW_STALE;
	if (slow <= CROSSTALK_BY_QUEUE &&
	    time_before(jiffies, READ_ONCE(verdict->held_until)))
		slow = READ_ONCE(verdict->held);
	if (slow)
		strscpy(to, crosstalk_slow_name(slow), sizeof(to));
	else
		snprintf(to, sizeof(to), "ep%u", READ_ONCE(verdict->peer_id));

	if (queue == CROSSTALK_QUEUE_UNKNOWN)
		strscpy(nr, " -", sizeof(nr));
	else if (queue)
		snprintf(nr, sizeof(nr), " %u", queue - 1);

	return sysfs_emit_at(buf, len, "%pM %pM %u %s %llu %llu%s\n",
			     verdict->key.src, verdict->key.dst,
			     crosstalk_flow_key_vlan_id(&verdict->key), to,
			     READ_ONCE(verdict->fast_packets),
			     READ_ONCE(verdict->slow_packets), nr);
}

/* Flows that there was no room for, as one line. */
static ssize_t show_full(struct crosstalk_detector *detector, char *buf)
{
	const struct crosstalk_verdict *full = &detector->full;

	if (!READ_ONCE(full->slow_packets) ||
	    time_after(jiffies, READ_ONCE(full->used) + CROSSTALK_VERDICT_IDLE))
		return 0;
	return show_verdict(detector, full, buf, 0);
}

/**
 * crosstalk_detector_show() - print verdicts for an operator
 * @detector: table
 * @buf: a page of sysfs
 *
 * Context: the endpoint is kept alive; RCU is taken here.
 * Return: bytes; what does not fit into a page is left out.
 */
ssize_t crosstalk_detector_show(struct crosstalk_detector *detector, char *buf)
{
	struct crosstalk_verdict *verdict;
	unsigned int i;
	ssize_t len;

	len = show_full(detector, buf);
	rcu_read_lock();
	for (i = 0; i < BIT(CROSSTALK_VERDICT_BITS); i++) {
		hlist_for_each_entry_rcu(verdict, &detector->buckets[i], node) {
			/* A whole line or none. */
			if (len > (ssize_t)PAGE_SIZE - 128)
				goto out;
			len += show_verdict(detector, verdict, buf, len);
		}
	}
out:
	rcu_read_unlock();
	return len;
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_detector_show);
