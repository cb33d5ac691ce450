// SPDX-License-Identifier: GPL-2.0
/*
 * The cache of verdicts: look-up, mailbox, end of answers, eviction.
 *
 * The tables are the tests' own; answers are posted as the resolver would.
 */

#include <kunit/test.h>
#include <linux/delay.h>
#include <linux/etherdevice.h>
#include <linux/module.h>

#include "detect.h"

/* Longer than a test takes on any machine. */
#define LONG (600 * HZ)

static int detector_init(struct kunit *test)
{
	struct crosstalk_detector *detector;

	detector = kunit_kzalloc(test, sizeof(*detector), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, detector);
	KUNIT_ASSERT_EQ(test, crosstalk_detector_init(detector), 0);
	test->priv = detector;
	return 0;
}

static void detector_exit(struct kunit *test)
{
	crosstalk_detector_drain(test->priv);
	crosstalk_detector_destroy(test->priv);
}

static struct crosstalk_flow_key make_key(u32 nr, u16 vid)
{
	const u8 eth[2 * ETH_ALEN] __aligned(4) = {
		2, 0, nr >> 24, nr >> 16, nr >> 8, nr, 2, 1, 0, 0, 0, 1,
	};
	struct crosstalk_flow_key key;

	crosstalk_flow_key_set(&key, eth, vid ? htons(ETH_P_8021Q) : 0, vid);
	return key;
}

static enum crosstalk_slow detect(struct crosstalk_detector *detector, u32 nr,
				  u16 vid, struct crosstalk_verdict **verdict)
{
	struct crosstalk_flow_key key = make_key(nr, vid);

	return crosstalk_detect(detector, &key, verdict);
}

static struct crosstalk_route *make_route(struct kunit *test)
{
	struct crosstalk_route *route = kzalloc(sizeof(*route), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, route);
	refcount_set(&route->ref, 1);
	route->path.refresh = LONG;
	return route;
}

static void post(struct crosstalk_detector *detector,
		 struct crosstalk_verdict *verdict, enum crosstalk_slow slow,
		 struct crosstalk_route *route, unsigned long lifetime)
{
	const struct crosstalk_answer answer = {
		.route = route,
		.slow = slow,
		.epoch = atomic_read(&crosstalk_detect_epoch),
		.expires = jiffies + lifetime,
	};

	crosstalk_verdict_post(detector, verdict, &answer);
}

static void unresolved_first(struct kunit *test)
{
	struct crosstalk_detector *detector = test->priv;
	struct crosstalk_verdict *verdict;
	struct crosstalk_verdict *again;

	KUNIT_EXPECT_EQ(test, detect(detector, 1, 0, &verdict),
			CROSSTALK_SLOW_UNRESOLVED);
	KUNIT_EXPECT_EQ(test, detect(detector, 1, 0, &again),
			CROSSTALK_SLOW_UNRESOLVED);
	KUNIT_EXPECT_PTR_EQ(test, verdict, again);
	KUNIT_EXPECT_EQ(test, detector->nr, 1);
}

static void keys_differ(struct kunit *test)
{
	struct crosstalk_detector *detector = test->priv;
	struct crosstalk_verdict *verdict[3];
	struct crosstalk_verdict *again;
	unsigned int i;

	detect(detector, 1, 0, &verdict[0]);
	detect(detector, 1, 1, &verdict[1]);
	detect(detector, 2, 0, &verdict[2]);
	KUNIT_EXPECT_PTR_NE(test, verdict[0], verdict[1]);
	KUNIT_EXPECT_PTR_NE(test, verdict[0], verdict[2]);
	KUNIT_EXPECT_EQ(test, detector->nr, 3);

	for (i = 0; i < 3; i++) {
		detect(detector, i == 2 ? 2 : 1, i == 1 ? 1 : 0, &again);
		KUNIT_EXPECT_PTR_EQ(test, again, verdict[i]);
	}
}

/* Each queue of a receiver has an answer and a memory of its own. */
static void queues_differ(struct kunit *test)
{
	struct crosstalk_detector *detector = test->priv;
	struct crosstalk_flow_key key = make_key(1, 7);
	struct crosstalk_verdict *queue[3];
	struct crosstalk_verdict *verdict;
	unsigned int i;

	detect(detector, 1, 7, &verdict);
	post(detector, verdict, CROSSTALK_BY_QUEUE, make_route(test), LONG);
	KUNIT_EXPECT_EQ(test, detect(detector, 1, 7, &verdict),
			CROSSTALK_BY_QUEUE);
	for (i = 0; i < 3; i++) {
		key.queue = i < 2 ? i + 1 : CROSSTALK_QUEUE_UNKNOWN;
		KUNIT_EXPECT_EQ(test, crosstalk_detect_queue(detector, &key,
							     &queue[i]),
				CROSSTALK_SLOW_UNRESOLVED);
		KUNIT_EXPECT_PTR_NE(test, queue[i], verdict);
		if (i)
			KUNIT_EXPECT_PTR_NE(test, queue[i], queue[i - 1]);
		KUNIT_EXPECT_EQ(test,
				crosstalk_flow_key_vlan_id(&queue[i]->key), 7);
		KUNIT_EXPECT_TRUE(test,
				  crosstalk_flow_key_vlan_proto(&queue[i]->key) ==
				  htons(ETH_P_8021Q));
	}
	KUNIT_EXPECT_EQ(test, detector->nr, 4);
	KUNIT_EXPECT_PTR_EQ(test, detector->last, verdict);

	atomic_inc(&crosstalk_detect_epoch);
	KUNIT_EXPECT_EQ(test, detect(detector, 1, 7, &verdict),
			CROSSTALK_SLOW_STALE);
}

/* An answer that was seen to be wrong is not used again. */
static void answer_is_ended(struct kunit *test)
{
	struct crosstalk_detector *detector = test->priv;
	struct crosstalk_verdict *verdict;

	detect(detector, 1, 0, &verdict);
	post(detector, verdict, CROSSTALK_FAST, make_route(test), LONG);
	KUNIT_EXPECT_EQ(test, detect(detector, 1, 0, &verdict), CROSSTALK_FAST);
	crosstalk_verdict_end(detector, verdict);
	KUNIT_EXPECT_EQ(test, detect(detector, 1, 0, &verdict),
			CROSSTALK_SLOW_STALE);
}

static void answer_is_taken(struct kunit *test)
{
	struct crosstalk_detector *detector = test->priv;
	struct crosstalk_route *route = make_route(test);
	struct crosstalk_verdict *verdict;

	detect(detector, 1, 0, &verdict);
	post(detector, verdict, CROSSTALK_FAST, route, LONG);
	KUNIT_EXPECT_EQ(test, detect(detector, 1, 0, &verdict), CROSSTALK_FAST);
	KUNIT_EXPECT_PTR_EQ(test, verdict->now.route, route);
	KUNIT_EXPECT_EQ(test, refcount_read(&route->ref), 1);
	KUNIT_EXPECT_FALSE(test, crosstalk_verdict_refresh_due(verdict));

	post(detector, verdict, CROSSTALK_SLOW_QDISC, NULL, LONG);
	KUNIT_EXPECT_EQ(test, detect(detector, 1, 0, &verdict),
			CROSSTALK_SLOW_QDISC);
	KUNIT_EXPECT_NULL(test, verdict->now.route);
}

static void answer_is_replaced(struct kunit *test)
{
	struct crosstalk_detector *detector = test->priv;
	struct crosstalk_route *route = make_route(test);
	struct crosstalk_verdict *verdict;

	detect(detector, 1, 0, &verdict);
	refcount_inc(&route->ref);
	post(detector, verdict, CROSSTALK_FAST, route, LONG);
	post(detector, verdict, CROSSTALK_SLOW_XDP, NULL, LONG);
	KUNIT_EXPECT_EQ(test, refcount_read(&route->ref), 1);
	KUNIT_EXPECT_EQ(test, detect(detector, 1, 0, &verdict),
			CROSSTALK_SLOW_XDP);
	crosstalk_route_put(route);
}

static void keep_answer(struct kunit *test, struct crosstalk_verdict *verdict,
			enum crosstalk_slow slow, struct crosstalk_route *route)
{
	unsigned long expires = verdict->now.expires;

	post(test->priv, verdict, slow, route, LONG);
	crosstalk_verdict_renew(test->priv, verdict);
	KUNIT_EXPECT_EQ(test, verdict->now.slow, CROSSTALK_FAST);
	KUNIT_EXPECT_EQ(test, verdict->now.expires, expires);
	KUNIT_EXPECT_TRUE(test, verdict->posted);
}

/* What a frame in the middle of its way may take, and what not. */
static void answer_is_renewed(struct kunit *test)
{
	struct crosstalk_detector *detector = test->priv;
	struct crosstalk_route *route = make_route(test);
	struct crosstalk_verdict *verdict;

	detect(detector, 1, 0, &verdict);
	post(detector, verdict, CROSSTALK_FAST, route, 0);
	detect(detector, 1, 0, &verdict);
	crosstalk_verdict_renew(detector, verdict);
	KUNIT_EXPECT_TRUE(test, crosstalk_verdict_is_over(verdict, jiffies));

	keep_answer(test, verdict, CROSSTALK_SLOW_QDISC, NULL);
	keep_answer(test, verdict, CROSSTALK_FAST, make_route(test));
	refcount_inc(&route->ref);
	keep_answer(test, verdict, CROSSTALK_BY_QUEUE, route);
	KUNIT_EXPECT_PTR_EQ(test, verdict->now.route, route);

	refcount_inc(&route->ref);
	post(detector, verdict, CROSSTALK_FAST, route, LONG);
	crosstalk_verdict_renew(detector, verdict);
	KUNIT_EXPECT_FALSE(test, crosstalk_verdict_is_over(verdict, jiffies));
	KUNIT_EXPECT_FALSE(test, verdict->posted);
	KUNIT_EXPECT_PTR_EQ(test, verdict->now.route, route);
	KUNIT_EXPECT_EQ(test, refcount_read(&route->ref), 1);
}

static void answer_ends(struct kunit *test)
{
	struct crosstalk_detector *detector = test->priv;
	struct crosstalk_verdict *verdict;

	detect(detector, 1, 0, &verdict);
	post(detector, verdict, CROSSTALK_FAST, make_route(test), 2);
	detect(detector, 1, 0, &verdict);
	msleep(jiffies_to_msecs(3));
	KUNIT_EXPECT_EQ(test, detect(detector, 1, 0, &verdict),
			CROSSTALK_SLOW_STALE);
	/* The route stays: the TX loop may still account for it. */
	KUNIT_EXPECT_NOT_NULL(test, verdict->now.route);
}

static void old_answer_is_not_in_force(struct kunit *test)
{
	struct crosstalk_detector *detector = test->priv;
	struct crosstalk_verdict *verdict;

	detect(detector, 1, 0, &verdict);
	post(detector, verdict, CROSSTALK_FAST, make_route(test), 0);
	KUNIT_EXPECT_EQ(test, detect(detector, 1, 0, &verdict),
			CROSSTALK_SLOW_STALE);
}

static void epoch_ends_all(struct kunit *test)
{
	struct crosstalk_detector *detector = test->priv;
	struct crosstalk_verdict *verdict;

	detect(detector, 1, 0, &verdict);
	post(detector, verdict, CROSSTALK_FAST, make_route(test), LONG);
	KUNIT_EXPECT_EQ(test, detect(detector, 1, 0, &verdict), CROSSTALK_FAST);
	atomic_inc(&crosstalk_detect_epoch);
	KUNIT_EXPECT_EQ(test, detect(detector, 1, 0, &verdict),
			CROSSTALK_SLOW_STALE);
}

/* As if each flow's last frame had come at @used. */
static void set_used(struct crosstalk_detector *detector, unsigned long used)
{
	struct crosstalk_verdict *verdict;
	unsigned int i;

	for (i = 0; i < BIT(CROSSTALK_VERDICT_BITS); i++)
		hlist_for_each_entry(verdict, &detector->buckets[i], node)
			verdict->used = used;
}

static void table_is_bounded(struct kunit *test)
{
	struct crosstalk_detector *detector = test->priv;
	struct crosstalk_verdict *verdict;
	unsigned int i;

	for (i = 1; i <= CROSSTALK_MAX_VERDICTS; i++)
		KUNIT_ASSERT_EQ(test, detect(detector, i, 0, &verdict),
				CROSSTALK_SLOW_UNRESOLVED);

	/* All of them are in use: who comes now is not remembered. */
	set_used(detector, jiffies + LONG);
	for (i = 0; i < 100; i++)
		KUNIT_EXPECT_EQ(test, detect(detector, 1U << 20 | i, 0,
					     &verdict), CROSSTALK_SLOW_FULL);
	KUNIT_EXPECT_EQ(test, detector->nr, CROSSTALK_MAX_VERDICTS);
	KUNIT_EXPECT_EQ(test, detect(detector, 5, 0, &verdict),
			CROSSTALK_SLOW_UNRESOLVED);
}

static void idle_are_evicted(struct kunit *test)
{
	struct crosstalk_detector *detector = test->priv;
	struct crosstalk_verdict *verdict;
	struct crosstalk_verdict *busy;
	unsigned int evicted = 0;
	unsigned int i;

	for (i = 1; i <= CROSSTALK_MAX_VERDICTS; i++)
		detect(detector, i, 0, &verdict);
	set_used(detector, jiffies - HZ);
	detect(detector, 7, 0, &busy);
	busy->used = jiffies + LONG;
	busy->fast_packets = 4711;

	for (i = 0; i < CROSSTALK_MAX_VERDICTS / 2; i++)
		if (detect(detector, 1U << 20 | i, 0, &verdict) ==
		    CROSSTALK_SLOW_UNRESOLVED)
			evicted++;
	/* A few buckets are looked at each time: nearly always one is idle. */
	KUNIT_EXPECT_GT(test, evicted, CROSSTALK_MAX_VERDICTS / 3);
	KUNIT_EXPECT_LE(test, detector->nr, CROSSTALK_MAX_VERDICTS);

	detect(detector, 7, 0, &verdict);
	KUNIT_EXPECT_PTR_EQ(test, verdict, busy);
	KUNIT_EXPECT_EQ(test, verdict->fast_packets, 4711);
}

/* The flow's own verdict is looked at again after that of its queue is found. */
static void asked_last_is_kept(struct kunit *test)
{
	struct crosstalk_detector *detector = test->priv;
	struct crosstalk_flow_key key = make_key(7, 0);
	struct crosstalk_verdict *verdict;
	struct crosstalk_verdict *flow;
	unsigned int i;

	for (i = 1; i <= CROSSTALK_MAX_VERDICTS; i++)
		detect(detector, i, 0, &verdict);
	detect(detector, 7, 0, &flow);

	/* All buckets come by, twice, and nothing in them was used lately. */
	for (i = 1; i <= CROSSTALK_MAX_VERDICTS / 4; i++) {
		set_used(detector, jiffies - HZ);
		flow->used = jiffies - 2 * HZ;
		key.queue = i;
		crosstalk_detect_queue(detector, &key, &verdict);
		KUNIT_ASSERT_PTR_EQ(test, detector->last, flow);
	}
	KUNIT_EXPECT_LE(test, detector->nr, CROSSTALK_MAX_VERDICTS);

	detect(detector, 1, 0, &verdict);
	detect(detector, 7, 0, &verdict);
	KUNIT_EXPECT_PTR_EQ(test, verdict, flow);
}

static void prune_forgets(struct kunit *test)
{
	struct crosstalk_detector *detector = test->priv;
	struct crosstalk_route *route = make_route(test);
	struct crosstalk_verdict *verdict;

	refcount_set(&route->ref, 3);
	detect(detector, 1, 0, &verdict);
	post(detector, verdict, CROSSTALK_FAST, route, LONG);
	detect(detector, 1, 0, &verdict);
	post(detector, verdict, CROSSTALK_FAST, route, LONG);

	crosstalk_detector_prune(detector, LONG);
	KUNIT_EXPECT_EQ(test, detector->nr, 1);
	crosstalk_detector_prune(detector, 0);
	KUNIT_EXPECT_EQ(test, detector->nr, 0);
	/* In force and in the mailbox. */
	KUNIT_EXPECT_EQ(test, refcount_read(&route->ref), 1);
	crosstalk_route_put(route);
}

static void posting_to_the_gone(struct kunit *test)
{
	struct crosstalk_detector *detector = test->priv;
	struct crosstalk_route *route = make_route(test);
	struct crosstalk_verdict *verdict;

	refcount_inc(&route->ref);
	detect(detector, 1, 0, &verdict);
	rcu_read_lock();
	crosstalk_detector_prune(detector, 0);
	post(detector, verdict, CROSSTALK_FAST, route, LONG);
	rcu_read_unlock();
	KUNIT_EXPECT_EQ(test, refcount_read(&route->ref), 1);
	crosstalk_route_put(route);
}

static void chains_are_short(struct kunit *test)
{
	struct crosstalk_detector *detector = test->priv;
	struct crosstalk_verdict *verdict;
	unsigned int longest = 0;
	unsigned int i;

	for (i = 0; i < CROSSTALK_MAX_VERDICTS; i++)
		detect(detector, i * 256, i & 1, &verdict);
	for (i = 0; i < BIT(CROSSTALK_VERDICT_BITS); i++) {
		unsigned int len = 0;

		hlist_for_each_entry(verdict, &detector->buckets[i], node)
			len++;
		longest = max(longest, len);
	}
	KUNIT_EXPECT_LE(test, longest, 10);
}

static bool is_shown(struct crosstalk_detector *detector, char *page,
		     const char *text)
{
	ssize_t len = crosstalk_detector_show(detector, page);

	page[len] = 0;
	return strstr(page, text);
}

/* What an operator sees is what frames meet. */
static void shown_as_it_is(struct kunit *test)
{
	char *page = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	struct crosstalk_detector *detector = test->priv;
	struct crosstalk_verdict *verdict;

	KUNIT_ASSERT_NOT_NULL(test, page);
	detect(detector, 1, 0, &verdict);
	KUNIT_EXPECT_TRUE(test, is_shown(detector, page, " unresolved 0 0\n"));

	/* As the resolver does it. */
	verdict->asked = jiffies;
	verdict->peer_id = 7;
	verdict->shown = CROSSTALK_FAST;
	post(detector, verdict, CROSSTALK_FAST, make_route(test), 2);
	KUNIT_EXPECT_TRUE(test, is_shown(detector, page, " ep7 0 0\n"));

	/* It ends, but only a frame that comes then is told so. */
	msleep(jiffies_to_msecs(4));
	KUNIT_EXPECT_TRUE(test, is_shown(detector, page, " ep7 0 0\n"));
	detect(detector, 1, 0, &verdict);
	KUNIT_EXPECT_TRUE(test, is_shown(detector, page, " stale 0 0\n"));

	verdict->asked = jiffies;
	post(detector, verdict, CROSSTALK_FAST, make_route(test), LONG);
	KUNIT_EXPECT_TRUE(test, is_shown(detector, page, " ep7 0 0\n"));
	atomic_inc(&crosstalk_detect_epoch);
	KUNIT_EXPECT_TRUE(test, is_shown(detector, page, " ep7 0 0\n"));
	msleep(jiffies_to_msecs(2));
	detect(detector, 1, 0, &verdict);
	KUNIT_EXPECT_TRUE(test, is_shown(detector, page, " stale 0 0\n"));
}

static void shown_without_room(struct kunit *test)
{
	char *page = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	struct crosstalk_detector *detector = test->priv;
	struct crosstalk_verdict *verdict;
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, page);
	for (i = 1; i <= CROSSTALK_MAX_VERDICTS; i++)
		detect(detector, i, 0, &verdict);
	set_used(detector, jiffies + LONG);
	KUNIT_EXPECT_FALSE(test, is_shown(detector, page, "table-full"));
	KUNIT_EXPECT_GT(test, strlen(page), PAGE_SIZE - 256);

	detect(detector, 1U << 20, 0, &verdict);
	verdict->slow_packets++;
	KUNIT_EXPECT_TRUE(test, is_shown(detector, page, " table-full 0 1\n"));
	/* What does not fit is left out by the line. */
	KUNIT_EXPECT_EQ(test, page[strlen(page) - 1], '\n');
}

static void names_are_there(struct kunit *test)
{
	unsigned int i;

	for (i = 0; i < CROSSTALK_NR_SLOW; i++) {
		KUNIT_ASSERT_NOT_NULL(test, crosstalk_slow_name(i));
		KUNIT_EXPECT_GT(test, strlen(crosstalk_slow_name(i)), 0);
	}
	KUNIT_EXPECT_STREQ(test, crosstalk_slow_name(i), "unknown");
}

static struct kunit_case detect_cases[] = {
	KUNIT_CASE(unresolved_first),
	KUNIT_CASE(keys_differ),
	KUNIT_CASE(queues_differ),
	KUNIT_CASE(answer_is_ended),
	KUNIT_CASE(answer_is_taken),
	KUNIT_CASE(answer_is_replaced),
	KUNIT_CASE(answer_is_renewed),
	KUNIT_CASE(answer_ends),
	KUNIT_CASE(old_answer_is_not_in_force),
	KUNIT_CASE(epoch_ends_all),
	KUNIT_CASE(table_is_bounded),
	KUNIT_CASE(idle_are_evicted),
	KUNIT_CASE(asked_last_is_kept),
	KUNIT_CASE(prune_forgets),
	KUNIT_CASE(posting_to_the_gone),
	KUNIT_CASE(chains_are_short),
	KUNIT_CASE(shown_as_it_is),
	KUNIT_CASE(shown_without_room),
	KUNIT_CASE(names_are_there),
	{}
};

static struct kunit_suite detect_suite = {
	.name = "vhost_crosstalk_detect",
	.init = detector_init,
	.exit = detector_exit,
	.test_cases = detect_cases,
};
kunit_test_suite(detect_suite);
