/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM hballoon

#if !defined(_TRACE_HBALLOON_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_HBALLOON_H

#include <linux/tracepoint.h>

/* The host set a target: what a node may have, and what it has. Bytes. */
TRACE_EVENT(hballoon_target,

	TP_PROTO(int nid, u64 generation, u64 target, u64 actual),

	TP_ARGS(nid, generation, target, actual),

	TP_STRUCT__entry(
		__field(int, nid)
		__field(u64, generation)
		__field(u64, target)
		__field(u64, actual)
	),

	TP_fast_assign(
		__entry->nid = nid;
		__entry->generation = generation;
		__entry->target = target;
		__entry->actual = actual;
	),

	TP_printk("nid=%d generation=%llu target=%llu actual=%llu",
		  __entry->nid, __entry->generation, __entry->target,
		  __entry->actual)
);

/* The host answered a request: VIRTIO_HBALLOON_REQ_*, VIRTIO_HBALLOON_RESP_* */
TRACE_EVENT(hballoon_request,

	TP_PROTO(int nid, unsigned int type, unsigned int nr_ranges, u64 bytes,
		 unsigned int status, u64 ns),

	TP_ARGS(nid, type, nr_ranges, bytes, status, ns),

	TP_STRUCT__entry(
		__field(int, nid)
		__field(unsigned int, type)
		__field(unsigned int, nr_ranges)
		__field(u64, bytes)
		__field(unsigned int, status)
		__field(u64, ns)
	),

	TP_fast_assign(
		__entry->nid = nid;
		__entry->type = type;
		__entry->nr_ranges = nr_ranges;
		__entry->bytes = bytes;
		__entry->status = status;
		__entry->ns = ns;
	),

	TP_printk("nid=%d type=%u ranges=%u bytes=%llu status=%u ns=%llu",
		  __entry->nid, __entry->type, __entry->nr_ranges,
		  __entry->bytes, __entry->status, __entry->ns)
);

/* Work on a generation ended: VIRTIO_HBALLOON_REASON_* */
TRACE_EVENT(hballoon_done,

	TP_PROTO(int nid, u64 generation, u64 actual, unsigned int reason),

	TP_ARGS(nid, generation, actual, reason),

	TP_STRUCT__entry(
		__field(int, nid)
		__field(u64, generation)
		__field(u64, actual)
		__field(unsigned int, reason)
	),

	TP_fast_assign(
		__entry->nid = nid;
		__entry->generation = generation;
		__entry->actual = actual;
		__entry->reason = reason;
	),

	TP_printk("nid=%d generation=%llu actual=%llu reason=%u",
		  __entry->nid, __entry->generation, __entry->actual,
		  __entry->reason)
);

#endif /* _TRACE_HBALLOON_H */

#include <trace/define_trace.h>
