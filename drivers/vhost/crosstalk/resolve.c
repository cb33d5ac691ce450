// SPDX-License-Identifier: GPL-2.0
/*
 * The resolver: asks the policy and posts its answers to verdicts.
 *
 * It runs as often as it takes to renew answers before they end, as long as
 * there are flows in use, and at once when a flow is new.  It never waits for
 * RTNL: while somebody else holds it, no answer is renewed, and all of them end
 * in time.  What a pass has found out is kept only for as long as RTNL is held,
 * and that is not long.
 *
 * Locks: RTNL (by trylock) -> RCU -> a detector's lock.  attach_mutex is taken
 * alone, before; a tx->mutex by trylock, alone, after.
 */

#include <linux/bitmap.h>
#include <linux/hash.h>
#include <linux/ktime.h>
#include <linux/netdevice.h>
#include <linux/rculist.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/workqueue.h>
#include <net/net_namespace.h>

#include "attach.h"
#include "control.h"
#include "detect.h"
#include "endpoint.h"
#include "vhost_private.h"

#include <trace/events/vhost_crosstalk.h>

/* How long RTNL is held at a time. */
#define HOLD_NS NSEC_PER_MSEC

/* Passes are no closer than that, however many new flows there are. */
#define MIN_GAP msecs_to_jiffies(5)

/*
 * Flows that rest for no longer than that are kept answered, so many of an
 * endpoint: where more workers than processors send in turns, a flow's turn
 * comes long after an answer has ended, and would begin on the slow path.
 */
#define REST (HZ / 2)
#define RESTING_MAX 64

/* Buckets of the table of endpoints by interface, and bits of the filter. */
#define PEER_BITS 8
#define WATCH_BITS 12

static struct {
	struct workqueue_struct *wq;
	struct delayed_work work;
	struct crosstalk_pass *pass;
	const struct crosstalk_policy *policy;
	bool want;		/* a worker waits for an answer */
	unsigned long ended;	/* jiffies of the last pass's end */
	unsigned long pruned;	/* jiffies when flows were forgotten last */
} resolver;

/* One pass, for as long as RTNL is held. */
struct round {
	struct list_head endpoints;
	bool busy;		/* flows were in use */
	int epoch;
	unsigned int gone;
	unsigned long lifetime;
	unsigned long expires;	/* of all answers */
};

static struct hlist_head peers[1 << PEER_BITS];

/* Interfaces of routes, by a hash: one too many does no harm.  RTNL */
static DECLARE_BITMAP(watched, 1 << WATCH_BITS);

unsigned int crosstalk_detect_gone __read_mostly;
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_detect_gone);

static void watch(const struct net_device *dev)
{
	__set_bit(hash_ptr(dev, WATCH_BITS), watched);
}

static bool is_watched(const struct net_device *dev)
{
	return test_bit(hash_ptr(dev, WATCH_BITS), watched);
}

static struct net *find_net(const struct net *wanted)
{
	struct net *net;

	if (wanted == &init_net)
		return &init_net;

	for_each_net_rcu(net)
		if (net == wanted)
			return net;
	return NULL;
}

static struct net_device *find_dev(struct crosstalk_endpoint *ep)
{
	const struct net *wanted;
	struct net *net;
	int ifindex;

	spin_lock(&ep->name_lock);
	ifindex = ep->ifindex;
	wanted = ep->netns;
	spin_unlock(&ep->name_lock);

	net = ifindex ? find_net(wanted) : NULL;
	return net ? __dev_get_by_index(net, ifindex) : NULL;
}

/*
 * Finds out where an endpoint is attached.  Its device is foreign: RCU keeps it
 * while it is not dead, and all that is read are words that are compared later.
 */
static void find_port(struct crosstalk_endpoint *ep)
{
	struct crosstalk_port *port = &ep->detect.port;
	const struct vhost_net_virtqueue *rx;
	const struct vhost_net_virtqueue *tx;

	port->dev = NULL;
	if (READ_ONCE(ep->dead))
		return;

	rx = &ep->net->vqs[VHOST_NET_VQ_RX];
	tx = &ep->net->vqs[VHOST_NET_VQ_TX];
	port->kind = READ_ONCE(ep->backend.kind);
	port->tx_sock = READ_ONCE(tx->vq.private_data);
	port->rx_sock = READ_ONCE(rx->vq.private_data);
	if (!port->tx_sock || !port->rx_sock)
		return;

	/* A header that no tap has, if vhost itself does something with it. */
	port->hdr_len = READ_ONCE(tx->sock_hlen);
	if (READ_ONCE(tx->vhost_hlen) || READ_ONCE(rx->vhost_hlen) ||
	    READ_ONCE(rx->sock_hlen) != port->hdr_len)
		port->hdr_len = SIZE_MAX;
	port->logged = READ_ONCE(rx->vq.log_used) ||
		       READ_ONCE(rx->vq.acked_features) &
		       BIT_ULL(VHOST_F_LOG_ALL);
	port->le = vhost_vq_is_le(&tx->vq);
	if (vhost_vq_is_le(&rx->vq) != port->le)
		port->hdr_len = SIZE_MAX;
	port->dev = find_dev(ep);
}

/* RTNL was taken: what is known from before may be wrong. */
static void begin_round(struct round *round)
{
	struct crosstalk_endpoint *ep;
	struct net_device *dev;

	round->epoch = atomic_read(&crosstalk_detect_epoch);
	round->gone = READ_ONCE(crosstalk_detect_gone);
	/*
	 * Before anything is looked at: what is kept from one question to the
	 * next, and changes without RTNL, is not older than an answer claims,
	 * whoever interrupts us in between.
	 */
	round->expires = jiffies + round->lifetime;
	resolver.policy->begin(resolver.pass);

	memset(peers, 0, sizeof(peers));
	rcu_read_lock();
	list_for_each_entry(ep, &round->endpoints, detect.pass) {
		find_port(ep);
		dev = ep->detect.port.dev;
		if (dev && !resolver.policy->attached(&ep->detect.port))
			dev = NULL;
		ep->detect.port.dev = dev;
		if (dev)
			hlist_add_head(&ep->detect.peer,
				       &peers[hash_ptr(dev, PEER_BITS)]);
	}
	rcu_read_unlock();
}

/*
 * The endpoint behind an interface.  Of an interface with several queues there
 * are several: any of them, or that of a socket.
 */
static struct crosstalk_endpoint *find_peer(const struct net_device *dev,
					    const struct socket *sock)
{
	struct hlist_head *bucket = &peers[hash_ptr(dev, PEER_BITS)];
	struct crosstalk_endpoint *ep;

	hlist_for_each_entry(ep, bucket, detect.peer)
		if (ep->detect.port.dev == dev &&
		    (!sock || ep->detect.port.rx_sock == sock))
			return ep;
	return NULL;
}

static bool is_queue_known(const struct crosstalk_flow_key *key)
{
	return key->queue && key->queue != CROSSTALK_QUEUE_UNKNOWN;
}

/*
 * Whether a queue has to be chosen before a receiver is known.  A sender that
 * has several teaches its own tap with each frame, for the other direction.
 */
static bool is_any_queue(const struct crosstalk_flow_key *key,
			 const struct crosstalk_port *src,
			 const struct crosstalk_endpoint *peer)
{
	return !is_queue_known(key) &&
	       (resolver.policy->queues(&peer->detect.port) > 1 ||
		resolver.policy->queues(src) > 1);
}

/* The endpoint that a flow goes to, or one of those that it can go to. */
static struct crosstalk_endpoint *
find_receiver(const struct net_device *dev,
	      const struct crosstalk_flow_key *key)
{
	struct crosstalk_endpoint *ep = find_peer(dev, NULL);
	const struct socket *sock;

	if (!ep || ep->detect.port.kind != CROSSTALK_BACKEND_TUN ||
	    !is_queue_known(key))
		return ep;

	sock = resolver.policy->queue(dev, key->queue - 1);
	return sock ? find_peer(dev, sock) : NULL;
}

/*
 * What the TX loop finds out by itself, and at once, is answered here, too: so
 * that an operator sees it, and that the loop need not try for each batch.
 */
static enum crosstalk_slow check_peer(const struct crosstalk_endpoint *peer)
{
	if (!READ_ONCE(peer->enable) ||
	    READ_ONCE(peer->reason) != CROSSTALK_REASON_NONE)
		return CROSSTALK_SLOW_RECEIVER;
	if (peer->detect.port.logged)
		return CROSSTALK_SLOW_MIGRATION;
	return CROSSTALK_FAST;
}

static enum crosstalk_slow ask(struct round *round,
			       struct crosstalk_endpoint *ep,
			       struct crosstalk_verdict *verdict,
			       struct crosstalk_route **route)
{
	const struct crosstalk_port *src = &ep->detect.port;
	struct crosstalk_endpoint *peer;
	struct crosstalk_path path;
	struct net_device *dev;
	enum crosstalk_slow slow;
	bool any;

	if (!src->dev)
		return CROSSTALK_SLOW_NO_PORT;

	slow = resolver.policy->egress(resolver.pass, src, &verdict->key, &dev);
	if (slow)
		return slow;

	peer = find_receiver(dev, &verdict->key);
	if (!peer)
		return CROSSTALK_SLOW_REMOTE;

	any = is_any_queue(&verdict->key, src, peer);
	slow = any ? CROSSTALK_FAST : check_peer(peer);
	if (slow)
		return slow;

	slow = resolver.policy->check(resolver.pass, src, &peer->detect.port,
				      &verdict->key, &path);
	if (slow)
		return slow;
	if (crosstalk_path_tapped(&path))
		return CROSSTALK_SLOW_PACKET_SOCKET;
	if (verdict->key.queue == CROSSTALK_QUEUE_UNKNOWN)
		return CROSSTALK_SLOW_TAP_HASH;

	*route = crosstalk_route_get(&ep->detect, peer, &path, round->gone);
	if (!*route)
		return CROSSTALK_SLOW_MEMORY;

	watch(path.src);
	watch(path.dst);
	watch(path.mid);
	return any ? CROSSTALK_BY_QUEUE : CROSSTALK_FAST;
}

/* What an operator sees of an answer. */
static void show_answer(const struct crosstalk_endpoint *ep,
			struct crosstalk_verdict *verdict,
			const struct crosstalk_answer *answer)
{
	unsigned int peer_id = answer->route ? answer->route->peer->id : 0;

	if (answer->slow == verdict->shown && peer_id == verdict->peer_id)
		return;

	WRITE_ONCE(verdict->shown, answer->slow);
	WRITE_ONCE(verdict->peer_id, peer_id);
	trace_crosstalk_verdict(ep, &verdict->key, answer);
}

static void resolve_verdict(struct round *round, struct crosstalk_endpoint *ep,
			    struct crosstalk_verdict *verdict)
{
	struct crosstalk_answer answer = {
		.epoch = round->epoch,
		.expires = round->expires,
	};

	verdict->fresh = false;
	WRITE_ONCE(verdict->asked, jiffies);
	answer.slow = ask(round, ep, verdict, &answer.route);
	show_answer(ep, verdict, &answer);
	/* The endpoint may have been attached elsewhere behind our back. */
	if (answer.slow == CROSSTALK_SLOW_NO_PORT)
		WRITE_ONCE(ep->moved, true);
	crosstalk_verdict_post(&ep->detect, verdict, &answer);
}

/* Whether a flow gets another answer; a flow that is used always does. */
static bool is_due(const struct crosstalk_verdict *verdict,
		   unsigned int *resting)
{
	unsigned long used = READ_ONCE(verdict->used);

	if (verdict->fresh || time_after_eq(used, verdict->asked))
		return true;
	if (time_after(jiffies, used + REST) || *resting >= RESTING_MAX)
		return false;
	++*resting;
	return true;
}

static void resolve_endpoint(struct round *round, struct crosstalk_endpoint *ep)
{
	struct crosstalk_detector *detector = &ep->detect;
	struct crosstalk_verdict *verdict;
	unsigned int resting = 0;
	unsigned int i;

	if (!READ_ONCE(detector->nr))
		return;

	rcu_read_lock();
	for (i = 0; i < BIT(CROSSTALK_VERDICT_BITS); i++) {
		hlist_for_each_entry_rcu(verdict, &detector->buckets[i], node) {
			if (!is_due(verdict, &resting))
				continue;
			resolve_verdict(round, ep, verdict);
			round->busy = true;
		}
	}
	rcu_read_unlock();
}

static void collect(struct crosstalk_endpoint *ep, void *data)
{
	struct round *round = data;

	kobject_get(&ep->kobj);
	list_add_tail(&ep->detect.pass, &round->endpoints);
}

/* Returns whether all were asked about. */
static bool resolve_all(struct round *round)
{
	struct crosstalk_endpoint *ep;
	bool held = false;
	u64 since = 0;

	list_for_each_entry(ep, &round->endpoints, detect.pass) {
		if (!held) {
			if (!rtnl_trylock())
				return false;
			held = true;
			since = ktime_get_ns();
			begin_round(round);
		}
		resolve_endpoint(round, ep);
		if (ktime_get_ns() - since > HOLD_NS) {
			rtnl_unlock();
			held = false;
			cond_resched();
		}
	}
	if (held)
		rtnl_unlock();
	return true;
}

/* RCU is held to the end: the device may go as soon as the mutex is free. */
static void prune(struct crosstalk_endpoint *ep)
{
	struct vhost_virtqueue *tx;

	crosstalk_routes_forget(&ep->detect, false);
	rcu_read_lock();
	if (!READ_ONCE(ep->dead)) {
		tx = &ep->net->vqs[VHOST_NET_VQ_TX].vq;
		if (mutex_trylock(&tx->mutex)) {
			/* Unhooking drains it under the mutex. */
			if (!READ_ONCE(ep->dead))
				crosstalk_detector_prune(&ep->detect,
							 CROSSTALK_VERDICT_IDLE);
			mutex_unlock(&tx->mutex);
		}
	}
	rcu_read_unlock();
}

/* Returns whether any flow is remembered. */
static bool release(struct round *round)
{
	bool forget = time_after_eq(jiffies, resolver.pruned + HZ);
	struct crosstalk_endpoint *ep;
	struct crosstalk_endpoint *tmp;
	bool any = false;

	list_for_each_entry_safe(ep, tmp, &round->endpoints, detect.pass) {
		if (READ_ONCE(ep->detect.nr)) {
			any = true;
			if (forget)
				prune(ep);
		}
		list_del_init(&ep->detect.pass);
		kobject_put(&ep->kobj);
	}
	if (forget)
		resolver.pruned = jiffies;
	return any;
}

static void requeue(unsigned long delay)
{
	mod_delayed_work(resolver.wq, &resolver.work, delay);
}

static void resolve(struct work_struct *work)
{
	unsigned long lifetime = msecs_to_jiffies(crosstalk_revalidate_ms());
	unsigned long begin = jiffies;
	struct round round = { .lifetime = lifetime };
	unsigned long spent;
	bool done;

	if (time_before(begin, resolver.ended + MIN_GAP)) {
		requeue(resolver.ended + MIN_GAP - begin);
		return;
	}

	WRITE_ONCE(resolver.want, false);
	/* Before the flows are looked at: who comes later asks again. */
	smp_mb();

	INIT_LIST_HEAD(&round.endpoints);
	resolver.policy->prepare(resolver.pass);
	crosstalk_attach_for_each(collect, &round);
	done = resolve_all(&round);
	if (release(&round) && !round.busy && done)
		requeue(HZ);

	resolver.ended = jiffies;
	spent = resolver.ended - begin;
	if (!done)
		requeue(1);
	else if (round.busy)
		requeue(lifetime / 2 > spent ? lifetime / 2 - spent : 1);
	else if (READ_ONCE(resolver.want))
		requeue(0);
}

/**
 * crosstalk_detect_want() - have the resolver run soon
 *
 * Context: any; cheap when it was called a short while ago.
 */
void crosstalk_detect_want(void)
{
	if (READ_ONCE(resolver.want))
		return;

	WRITE_ONCE(resolver.want, true);
	requeue(0);
}

/**
 * crosstalk_detect_kick() - end all answers
 *
 * Context: any.
 */
void crosstalk_detect_kick(void)
{
	atomic_inc(&crosstalk_detect_epoch);
	crosstalk_detect_want();
}

/**
 * crosstalk_detect_netdev_event() - an interface has changed
 * @event: NETDEV_*
 * @dev: the interface
 *
 * Only shortens: what it does not know of ends by itself.
 *
 * Context: RTNL held.
 */
void crosstalk_detect_netdev_event(unsigned long event, struct net_device *dev)
{
	if (!is_watched(dev))
		return;

	switch (event) {
	case NETDEV_UNREGISTER:
		/* The kernel waits for RCU between this and the end of @dev. */
		WRITE_ONCE(crosstalk_detect_gone, crosstalk_detect_gone + 1);
		bitmap_zero(watched, 1 << WATCH_BITS);
		fallthrough;
	case NETDEV_GOING_DOWN:
	case NETDEV_DOWN:
	case NETDEV_CHANGE:
	case NETDEV_CHANGEADDR:
	case NETDEV_CHANGEMTU:
	case NETDEV_CHANGEUPPER:
	case NETDEV_FEAT_CHANGE:
		crosstalk_detect_kick();
		break;
	}
}

/**
 * crosstalk_detect_init() - start the resolver
 *
 * Context: process context, may sleep; nothing is hooked yet.
 * Return: 0 or -ENOMEM.
 */
int crosstalk_detect_init(void)
{
	crosstalk_detector_seed();
	resolver.policy = &crosstalk_policy;
	INIT_DELAYED_WORK(&resolver.work, resolve);
	resolver.ended = jiffies - HZ;
	resolver.pruned = jiffies;

	resolver.pass = crosstalk_pass_create();
	if (!resolver.pass)
		return -ENOMEM;

	/* Answers that come late are answers that have ended. */
	resolver.wq = alloc_workqueue("vhost_crosstalk",
				      WQ_UNBOUND | WQ_HIGHPRI, 1);
	if (!resolver.wq) {
		crosstalk_pass_destroy(resolver.pass);
		return -ENOMEM;
	}
	return 0;
}

/**
 * crosstalk_detect_exit() - end the resolver
 *
 * Context: process context, may sleep; nothing is hooked any more.
 */
void crosstalk_detect_exit(void)
{
	cancel_delayed_work_sync(&resolver.work);
	destroy_workqueue(resolver.wq);
	crosstalk_routes_exit();
	crosstalk_pass_destroy(resolver.pass);
}
