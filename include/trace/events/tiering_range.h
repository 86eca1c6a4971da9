/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM tiering_range

#if !defined(_TRACE_TIERING_RANGE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_TIERING_RANGE_H

#include <linux/tracepoint.h>

struct hpl_epoch;

/*
 * One epoch of HPlacement: what was known, decided and spent. The interval is
 * that of accessed bits, the period that of counted events; the other one is 0.
 */
TRACE_EVENT(hpl_epoch,

	TP_PROTO(unsigned int nr_mms, unsigned int nr_ranges,
		 const struct hpl_epoch *epoch, unsigned long nr_promote,
		 unsigned long nr_promoted, unsigned long nr_demoted,
		 u64 sample_ns, u64 classify_ns),

	TP_ARGS(nr_mms, nr_ranges, epoch, nr_promote, nr_promoted, nr_demoted,
		sample_ns, classify_ns),

	TP_STRUCT__entry(
		__field(unsigned int, nr_mms)
		__field(unsigned int, nr_ranges)
		__field(unsigned int, nr_samples)
		__field(unsigned int, interval_us)
		__field(unsigned int, period)
		__field(unsigned long, nr_promote)
		__field(unsigned long, nr_promoted)
		__field(unsigned long, nr_demoted)
		__field(u64, sample_ns)
		__field(u64, classify_ns)
	),

	TP_fast_assign(
		__entry->nr_mms = nr_mms;
		__entry->nr_ranges = nr_ranges;
		__entry->nr_samples = epoch->nr_samples;
		__entry->interval_us = epoch->interval_us;
		__entry->period = epoch->period;
		__entry->nr_promote = nr_promote;
		__entry->nr_promoted = nr_promoted;
		__entry->nr_demoted = nr_demoted;
		__entry->sample_ns = sample_ns;
		__entry->classify_ns = classify_ns;
	),

	TP_printk("mms=%u ranges=%u samples=%u interval_us=%u period=%u promote=%lu promoted=%lu demoted=%lu sample_ns=%llu classify_ns=%llu",
		  __entry->nr_mms, __entry->nr_ranges, __entry->nr_samples,
		  __entry->interval_us, __entry->period, __entry->nr_promote,
		  __entry->nr_promoted, __entry->nr_demoted,
		  __entry->sample_ns, __entry->classify_ns)
);

/* Two ranges of a process side by side, which have been or will be one. */
DECLARE_EVENT_CLASS(hpl_border,

	TP_PROTO(pid_t pid, unsigned long start, unsigned long border,
		 unsigned long end),

	TP_ARGS(pid, start, border, end),

	TP_STRUCT__entry(
		__field(pid_t, pid)
		__field(unsigned long, start)
		__field(unsigned long, border)
		__field(unsigned long, end)
	),

	TP_fast_assign(
		__entry->pid = pid;
		__entry->start = start;
		__entry->border = border;
		__entry->end = end;
	),

	TP_printk("pid=%d range=[%lx,%lx) border=%lx", __entry->pid,
		  __entry->start, __entry->end, __entry->border)
);

DEFINE_EVENT(hpl_border, hpl_split,

	TP_PROTO(pid_t pid, unsigned long start, unsigned long border,
		 unsigned long end),

	TP_ARGS(pid, start, border, end)
);

DEFINE_EVENT(hpl_border, hpl_merge,

	TP_PROTO(pid_t pid, unsigned long start, unsigned long border,
		 unsigned long end),

	TP_ARGS(pid, start, border, end)
);

/*
 * Random pages of a process looked at: how many, of these found resident, and
 * of these accessed since their accessed bit was cleared.
 */
DECLARE_EVENT_CLASS(hpl_visit,

	TP_PROTO(pid_t pid, unsigned int nr, unsigned long nr_resident,
		 unsigned long nr_accessed),

	TP_ARGS(pid, nr, nr_resident, nr_accessed),

	TP_STRUCT__entry(
		__field(pid_t, pid)
		__field(unsigned int, nr)
		__field(unsigned long, nr_resident)
		__field(unsigned long, nr_accessed)
	),

	TP_fast_assign(
		__entry->pid = pid;
		__entry->nr = nr;
		__entry->nr_resident = nr_resident;
		__entry->nr_accessed = nr_accessed;
	),

	TP_printk("pid=%d pages=%u resident=%lu accessed=%lu", __entry->pid,
		  __entry->nr, __entry->nr_resident, __entry->nr_accessed)
);

/* Samples by accessed bits. */
DEFINE_EVENT(hpl_visit, hpl_sample_abit,

	TP_PROTO(pid_t pid, unsigned int nr, unsigned long nr_resident,
		 unsigned long nr_accessed),

	TP_ARGS(pid, nr, nr_resident, nr_accessed)
);

/* For a source that sees no pages: how many are there. None is accessed. */
DEFINE_EVENT(hpl_visit, hpl_look,

	TP_PROTO(pid_t pid, unsigned int nr, unsigned long nr_resident,
		 unsigned long nr_accessed),

	TP_ARGS(pid, nr, nr_resident, nr_accessed)
);

/*
 * Samples of a CPU taken out of its ring, of these counted in a range, and how long
 * that took, interrupts included.
 */
TRACE_EVENT(hpl_sample_pebs,

	TP_PROTO(unsigned int cpu, unsigned int nr, unsigned int nr_counted,
		 u64 ns),

	TP_ARGS(cpu, nr, nr_counted, ns),

	TP_STRUCT__entry(
		__field(unsigned int, cpu)
		__field(unsigned int, nr)
		__field(unsigned int, nr_counted)
		__field(u64, ns)
	),

	TP_fast_assign(
		__entry->cpu = cpu;
		__entry->nr = nr;
		__entry->nr_counted = nr_counted;
		__entry->ns = ns;
	),

	TP_printk("cpu=%u samples=%u counted=%u ns=%llu", __entry->cpu,
		  __entry->nr, __entry->nr_counted, __entry->ns)
);

/* Pages of one range moved from one node. */
TRACE_EVENT(hpl_move,

	TP_PROTO(pid_t pid, unsigned long start, unsigned long end, int nid,
		 int target, unsigned long nr_tried, unsigned long nr_done),

	TP_ARGS(pid, start, end, nid, target, nr_tried, nr_done),

	TP_STRUCT__entry(
		__field(pid_t, pid)
		__field(unsigned long, start)
		__field(unsigned long, end)
		__field(int, nid)
		__field(int, target)
		__field(unsigned long, nr_tried)
		__field(unsigned long, nr_done)
	),

	TP_fast_assign(
		__entry->pid = pid;
		__entry->start = start;
		__entry->end = end;
		__entry->nid = nid;
		__entry->target = target;
		__entry->nr_tried = nr_tried;
		__entry->nr_done = nr_done;
	),

	TP_printk("pid=%d range=[%lx,%lx) nid=%d target=%d tried=%lu done=%lu",
		  __entry->pid, __entry->start, __entry->end, __entry->nid,
		  __entry->target, __entry->nr_tried, __entry->nr_done)
);

/* The coldest pages of a node demoted, as somebody asked for it. */
TRACE_EVENT(hpl_demote_node,

	TP_PROTO(int nid, unsigned long nr_wanted, unsigned long nr_done),

	TP_ARGS(nid, nr_wanted, nr_done),

	TP_STRUCT__entry(
		__field(int, nid)
		__field(unsigned long, nr_wanted)
		__field(unsigned long, nr_done)
	),

	TP_fast_assign(
		__entry->nid = nid;
		__entry->nr_wanted = nr_wanted;
		__entry->nr_done = nr_done;
	),

	TP_printk("nid=%d wanted=%lu done=%lu", __entry->nid,
		  __entry->nr_wanted, __entry->nr_done)
);

#endif /* _TRACE_TIERING_RANGE_H */

#include <trace/define_trace.h>
