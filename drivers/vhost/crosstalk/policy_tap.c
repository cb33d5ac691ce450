// SPDX-License-Identifier: GPL-2.0
/*
 * The policy of taps and macvtaps: what they do with frames between their
 * socket and the network.
 *
 * tun's own structs are read as its BTF says they are (layout.c has compared
 * them with the running kernel's); RTNL protects all that is read here.
 */

#include <linux/if_macvlan.h>
#include <linux/if_tap.h>
#include <linux/if_tun.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <net/rtnetlink.h>

#include "policy.h"
#include "queue.h"
#include "vhost_private.h"

/* Nobody else can register a kind of that name. */
static bool is_kind(const struct net_device *dev, const char *kind)
{
	return dev->rtnl_link_ops && !strcmp(dev->rtnl_link_ops->kind, kind);
}

static struct tun_file *tun_queue(const struct crosstalk_port *port,
				  const struct socket *sock)
{
	const struct tun_struct *tun = netdev_priv(port->dev);
	unsigned int i;

	for (i = 0; i < tun->numqueues; i++) {
		struct tun_file *tfile = rtnl_dereference(tun->tfiles[i]);

		if (tfile && &tfile->socket == sock)
			return tfile;
	}
	return NULL;
}

static struct tap_dev *macvtap_tap(const struct net_device *dev)
{
	return rtnl_dereference(dev->rx_handler_data);
}

static struct tap_queue *macvtap_queue(const struct crosstalk_port *port,
				       const struct socket *sock)
{
	const struct tap_dev *tap = macvtap_tap(port->dev);
	int i;

	for (i = 0; i < tap->numvtaps; i++) {
		struct tap_queue *q = rtnl_dereference(tap->taps[i]);

		if (q && &q->sock == sock)
			return q;
	}
	return NULL;
}

/**
 * crosstalk_port_attached() - whether a port's sockets are its interface's
 * @port: the interface that the sockets were attached to when last seen
 *
 * Context: RTNL held.
 * Return: true if both are enabled queues of it.
 */
bool crosstalk_port_attached(const struct crosstalk_port *port)
{
	switch (port->kind) {
	case CROSSTALK_BACKEND_TUN:
		return is_kind(port->dev, "tun") &&
		       tun_queue(port, port->tx_sock) &&
		       tun_queue(port, port->rx_sock);
	case CROSSTALK_BACKEND_TAP:
		/* Also an ipvtap, which is no macvlan, but has a tap_dev. */
		if (!is_kind(port->dev, "macvtap"))
			return is_kind(port->dev, "ipvtap");
		return macvtap_tap(port->dev) &&
		       macvtap_queue(port, port->tx_sock) &&
		       macvtap_queue(port, port->rx_sock);
	default:
		return false;
	}
}

/*
 * A tap's headers are of the host's byte order, or little-endian where vhost
 * says so; Kconfig keeps taps with a switch for a third way out.  The bit that
 * says so is private to tun and tap, so on big-endian hosts this says no.
 */
static bool header_is_le(void)
{
	return virtio_legacy_is_little_endian();
}

static bool tun_header_differs(const struct crosstalk_port *port)
{
	const struct tun_struct *tun = netdev_priv(port->dev);

	return (tun->flags & TUN_TYPE_MASK) != IFF_TAP ||
	       !(tun->flags & IFF_NO_PI) || !(tun->flags & IFF_VNET_HDR) ||
	       tun->vnet_hdr_sz != port->hdr_len ||
	       header_is_le() != port->le;
}

static bool macvtap_header_differs(const struct crosstalk_port *port,
				   const struct socket *sock)
{
	const struct tap_queue *q = macvtap_queue(port, sock);

	return !q || !(q->flags & IFF_VNET_HDR) ||
	       q->vnet_hdr_sz != port->hdr_len ||
	       header_is_le() != port->le;
}

/* Frames begin elsewhere than vhost thinks, or their header reads otherwise. */
static bool source_header_differs(const struct crosstalk_query *query)
{
	const struct crosstalk_port *src = query->src;

	return src->kind == CROSSTALK_BACKEND_TUN ?
	       tun_header_differs(src) :
	       macvtap_header_differs(src, src->tx_sock);
}

static bool dest_header_differs(const struct crosstalk_query *query)
{
	const struct crosstalk_port *dst = query->dst;

	return dst->kind == CROSSTALK_BACKEND_TUN ?
	       tun_header_differs(dst) :
	       macvtap_header_differs(dst, dst->rx_sock);
}

/* IFF_NAPI: frames pass GRO, which joins them. */
static bool source_has_napi(const struct crosstalk_query *query)
{
	const struct crosstalk_port *src = query->src;
	const struct tun_file *tfile;

	if (src->kind != CROSSTALK_BACKEND_TUN)
		return false;

	tfile = tun_queue(src, src->tx_sock);
	return !tfile || tfile->napi_enabled || tfile->napi_frags_enabled;
}

/*
 * TUNSETSNDBUF: the operator wants the sender to be held back.  A macvtap begins
 * with a limit, which QEMU lifts unless it is told to set another.
 */
static bool source_has_sndbuf(const struct crosstalk_query *query)
{
	const struct crosstalk_port *src = query->src;
	const struct tun_struct *tun;
	const struct tap_queue *q;

	if (src->kind == CROSSTALK_BACKEND_TUN) {
		tun = netdev_priv(src->dev);
		return tun->sndbuf != INT_MAX;
	}

	q = macvtap_queue(src, src->tx_sock);
	return !q || READ_ONCE(q->sk.sk_sndbuf) != INT_MAX;
}

/* txqueuelen 0: there is no room for a single frame, so all are dropped. */
static bool dest_has_no_ring(const struct crosstalk_query *query)
{
	return !READ_ONCE(query->dst->dev->tx_queue_len);
}

/* TUNSETTXFILTER and TUNSETFILTEREBPF */
static bool dest_has_filter(const struct crosstalk_query *query)
{
	const struct tun_struct *tun = netdev_priv(query->dst->dev);

	return query->dst->kind == CROSSTALK_BACKEND_TUN &&
	       (tun->txflt.count || rtnl_dereference(tun->filter_prog));
}

/* TUNSETSTEERINGEBPF: a program chooses the queue, and can look at frames. */
static bool dest_has_steering(const struct crosstalk_query *query)
{
	const struct tun_struct *tun = netdev_priv(query->dst->dev);

	return query->dst->kind == CROSSTALK_BACKEND_TUN &&
	       rtnl_dereference(tun->steering_prog);
}

/*
 * Which queue of several a frame goes to follows from its flow's hash, or from
 * what the guest sent before.  Frames on another one could overtake it: guests
 * serve their queues independently.  What a tap does is known (queue.c); a
 * macvtap goes by what the lower device has noted in the skb.
 */
static bool dest_has_queues(const struct crosstalk_query *query)
{
	return query->dst->kind != CROSSTALK_BACKEND_TUN &&
	       macvtap_tap(query->dst->dev)->numvtaps > 1;
}

/* The hash of a flow is then what the program makes of it. */
static bool dest_has_dissector(const struct crosstalk_query *query)
{
	return crosstalk_tap_queues(query->dst) > 1 &&
	       crosstalk_has_flow_dissector(dev_net(query->dst->dev));
}

/* TUNATTACHFILTER: any queue's, as the frame could go to any of them. */
static bool dest_has_socket_filter(const struct crosstalk_query *query)
{
	const struct tun_struct *tun = netdev_priv(query->dst->dev);
	unsigned int i;

	/* tap_handle_frame() runs none. */
	if (query->dst->kind != CROSSTALK_BACKEND_TUN)
		return false;

	if (tun->filter_attached)
		return true;
	for (i = 0; i < tun->numqueues; i++) {
		const struct tun_file *tfile = rtnl_dereference(tun->tfiles[i]);

		if (!tfile || rcu_access_pointer(tfile->socket.sk->sk_filter))
			return true;
	}
	return false;
}

static const struct crosstalk_rule source_rules[] = {
	{ source_header_differs, CROSSTALK_SLOW_TAP_HEADER },
	{ source_has_napi, CROSSTALK_SLOW_TAP_NAPI },
	{ source_has_sndbuf, CROSSTALK_SLOW_TAP_SNDBUF },
};

static const struct crosstalk_rule dest_rules[] = {
	{ dest_header_differs, CROSSTALK_SLOW_TAP_HEADER },
	{ dest_has_filter, CROSSTALK_SLOW_TAP_FILTER },
	{ dest_has_no_ring, CROSSTALK_SLOW_TAP_RING },
	{ dest_has_steering, CROSSTALK_SLOW_TAP_STEERING },
	{ dest_has_socket_filter, CROSSTALK_SLOW_SOCKET_FILTER },
	{ dest_has_queues, CROSSTALK_SLOW_TAP_QUEUES },
	{ dest_has_dissector, CROSSTALK_SLOW_FLOW_DISSECTOR },
};

/**
 * crosstalk_tap_source() - what a tap does with what its VM sends
 * @query: about its src, an attached tap or macvtap
 *
 * Context: RTNL held.
 * Return: a reason, or CROSSTALK_FAST.
 */
enum crosstalk_slow crosstalk_tap_source(const struct crosstalk_query *query)
{
	return crosstalk_rules_apply(source_rules, ARRAY_SIZE(source_rules),
				     query);
}

/**
 * crosstalk_tap_dest() - what a tap does with what its VM is to receive
 * @query: about its dst, an attached tap or macvtap
 *
 * Context: RTNL held.
 * Return: a reason, or CROSSTALK_FAST.
 */
enum crosstalk_slow crosstalk_tap_dest(const struct crosstalk_query *query)
{
	return crosstalk_rules_apply(dest_rules, ARRAY_SIZE(dest_rules), query);
}

/**
 * crosstalk_macvtap_features() - offloads that a macvtap's reader has asked for
 * @port: an attached macvtap
 *
 * Context: RTNL held.
 * Return: features with which tap_handle_frame() passes a frame on as it is.
 */
netdev_features_t crosstalk_macvtap_features(const struct crosstalk_port *port)
{
	const struct tap_queue *q = macvtap_queue(port, port->rx_sock);

	if (!q || !(q->flags & IFF_VNET_HDR))
		return 0;
	return macvtap_tap(port->dev)->tap_features;
}

/**
 * crosstalk_tap_queues() - among how many queues a tap chooses
 * @port: an attached tap or macvtap
 *
 * Context: RTNL held.
 * Return: queues in use; 1 for a macvtap, whose choice is not known.
 */
unsigned int crosstalk_tap_queues(const struct crosstalk_port *port)
{
	const struct tun_struct *tun = netdev_priv(port->dev);

	return port->kind == CROSSTALK_BACKEND_TUN ? tun->numqueues : 1;
}

/**
 * crosstalk_tap_queue_nr() - the number of a tap's queue
 * @port: an attached tap or macvtap
 * @sock: the queue's socket
 *
 * Context: RTNL held.
 * Return: number from 0 on; 0 for a macvtap.
 */
unsigned int crosstalk_tap_queue_nr(const struct crosstalk_port *port,
				    const struct socket *sock)
{
	unsigned int nr;

	if (port->kind != CROSSTALK_BACKEND_TUN)
		return 0;

	for (nr = 0; nr < crosstalk_tap_queues(port); nr++)
		if (crosstalk_tap_queue(port->dev, nr) == sock)
			return nr;
	return 0;
}

/**
 * crosstalk_tap_queue() - the socket of a tap's queue
 * @dev: a tap
 * @nr: the queue's number, from 0 on
 *
 * Context: RTNL held.
 * Return: the socket, to be compared and never followed, or NULL.
 */
const struct socket *crosstalk_tap_queue(const struct net_device *dev,
					 unsigned int nr)
{
	const struct tun_struct *tun = netdev_priv(dev);
	const struct tun_file *tfile;

	if (nr >= tun->numqueues)
		return NULL;

	tfile = rtnl_dereference(tun->tfiles[nr]);
	return tfile ? &tfile->socket : NULL;
}
