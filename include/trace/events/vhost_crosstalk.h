/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM vhost_crosstalk

#if !defined(_TRACE_VHOST_CROSSTALK_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_VHOST_CROSSTALK_H

#include <linux/if.h>
#include <linux/tracepoint.h>

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

#endif /* _TRACE_VHOST_CROSSTALK_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
