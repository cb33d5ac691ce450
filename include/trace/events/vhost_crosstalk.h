/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM vhost_crosstalk

#if !defined(_TRACE_VHOST_CROSSTALK_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_VHOST_CROSSTALK_H

#include <linux/etherdevice.h>
#include <linux/if.h>
#include <linux/tracepoint.h>

/*
 * Arguments are what the caller has at hand; what must be looked up is looked
 * up in TP_fast_assign, which runs only while the event is on.  The structs are
 * known to the one file that defines the trace points.
 */
struct crosstalk_answer;
struct crosstalk_endpoint;
struct crosstalk_flow_key;

/* A vhost-net device was hooked: endpoint number and owner. */
TRACE_EVENT(crosstalk_attach,
	TP_PROTO(unsigned int id, pid_t pid),
	TP_ARGS(id, pid),
	TP_STRUCT__entry(
		__field(unsigned int, id)
		__field(pid_t, pid)
	),
	TP_fast_assign(
		__entry->id = id;
		__entry->pid = pid;
	),
	TP_printk("ep%u pid=%d", __entry->id, __entry->pid)
);

/* A device was given back to vhost-net. */
TRACE_EVENT(crosstalk_detach,
	TP_PROTO(unsigned int id),
	TP_ARGS(id),
	TP_STRUCT__entry(
		__field(unsigned int, id)
	),
	TP_fast_assign(
		__entry->id = id;
	),
	TP_printk("ep%u", __entry->id)
);

/* Why an endpoint runs vhost-net's own loops, or "none", has changed. */
TRACE_EVENT(crosstalk_reason,
	TP_PROTO(unsigned int id, const char *dev, const char *reason),
	TP_ARGS(id, dev, reason),
	TP_STRUCT__entry(
		__field(unsigned int, id)
		__array(char, dev, IFNAMSIZ)
		__array(char, reason, 16)
	),
	TP_fast_assign(
		__entry->id = id;
		strscpy(__entry->dev, dev, IFNAMSIZ);
		strscpy(__entry->reason, reason, 16);
	),
	TP_printk("ep%u dev=%s reason=%s", __entry->id, __entry->dev,
		  __entry->reason)
);

/* The policy's answer for a flow is another than before; no peer is -1. */
TRACE_EVENT(crosstalk_verdict,
	TP_PROTO(const struct crosstalk_endpoint *ep,
		 const struct crosstalk_flow_key *key,
		 const struct crosstalk_answer *answer),
	TP_ARGS(ep, key, answer),
	TP_STRUCT__entry(
		__field(unsigned int, id)
		__array(u8, src, ETH_ALEN)
		__array(u8, dst, ETH_ALEN)
		__field(u16, vlan)
		__field(int, peer)
		__array(char, reason, 20)
	),
	TP_fast_assign(
		__entry->id = ep->id;
		ether_addr_copy(__entry->src, key->src);
		ether_addr_copy(__entry->dst, key->dst);
		__entry->vlan = crosstalk_flow_key_vlan_id(key);
		__entry->peer = answer->route ? answer->route->peer->id : -1;
		strscpy(__entry->reason, crosstalk_slow_name(answer->slow), 20);
	),
	TP_printk("ep%u %pM %pM vlan=%u peer=%d reason=%s", __entry->id,
		  __entry->src, __entry->dst, __entry->vlan, __entry->peer,
		  __entry->reason)
);

/* A sender lets go of a receiver's queue, in which it has placed frames. */
TRACE_EVENT(crosstalk_push,
	TP_PROTO(const struct crosstalk_endpoint *ep,
		 const struct crosstalk_endpoint *peer, bool signal),
	TP_ARGS(ep, peer, signal),
	TP_STRUCT__entry(
		__field(unsigned int, id)
		__field(unsigned int, peer)
		__field(unsigned int, frames)
		__field(size_t, bytes)
		__field(bool, signal)
	),
	TP_fast_assign(
		__entry->id = ep->id;
		__entry->peer = peer->id;
		__entry->frames = ep->push.frames;
		__entry->bytes = ep->push.bytes;
		__entry->signal = signal;
	),
	TP_printk("ep%u peer=%u frames=%u bytes=%zu signal=%d", __entry->id,
		  __entry->peer, __entry->frames, __entry->bytes,
		  __entry->signal)
);

/*
 * A sender stops for at most so many nanoseconds, because of a receiver: its
 * "buffers", its pages ("fill"), what its tap still holds ("backlog"), or that
 * a flow must "settle" before it changes to the direct path.
 */
TRACE_EVENT(crosstalk_park,
	TP_PROTO(const struct crosstalk_endpoint *ep,
		 const struct crosstalk_endpoint *peer, const char *why,
		 u64 ns),
	TP_ARGS(ep, peer, why, ns),
	TP_STRUCT__entry(
		__field(unsigned int, id)
		__field(unsigned int, peer)
		__array(char, why, 12)
		__field(u64, ns)
	),
	TP_fast_assign(
		__entry->id = ep->id;
		__entry->peer = peer->id;
		strscpy(__entry->why, why, 12);
		__entry->ns = ns;
	),
	TP_printk("ep%u peer=%u why=%s ns=%llu", __entry->id, __entry->peer,
		  __entry->why, __entry->ns)
);

/*
 * Frames are lost: "malformed", or "refused" by the interface; or the queue
 * rests because of a "bad-ring", with what is in it.  Lengths are with the
 * virtio-net header; 0 is not known.
 */
TRACE_EVENT(crosstalk_drop,
	TP_PROTO(const struct crosstalk_endpoint *ep, const char *reason,
		 unsigned int frames, size_t len),
	TP_ARGS(ep, reason, frames, len),
	TP_STRUCT__entry(
		__field(unsigned int, id)
		__array(char, reason, 12)
		__field(unsigned int, frames)
		__field(size_t, len)
	),
	TP_fast_assign(
		__entry->id = ep->id;
		strscpy(__entry->reason, reason, 12);
		__entry->frames = frames;
		__entry->len = len;
	),
	TP_printk("ep%u reason=%s frames=%u len=%zu", __entry->id,
		  __entry->reason, __entry->frames, __entry->len)
);

#endif /* _TRACE_VHOST_CROSSTALK_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
