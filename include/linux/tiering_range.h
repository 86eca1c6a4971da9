/* SPDX-License-Identifier: GPL-2.0 */
/*
 * HPlacement: what other kernel code needs of it
 *
 * HPlacement is the feature, CONFIG_HPLACEMENT its switch, tiering_range its
 * files and hpl_ the prefix of its symbols and counters.
 *
 * This header is included by <linux/vm_event_item.h>, hence by most of the
 * kernel: it includes nothing, and with CONFIG_HPLACEMENT=n it adds nothing.
 */
#ifndef _LINUX_TIERING_RANGE_H
#define _LINUX_TIERING_RANGE_H

#ifdef CONFIG_HPLACEMENT

/*
 * The events of HPlacement in /proc/vmstat, each once: X(enumerator, name).
 * Those whose names end in _ns count nanoseconds of CPU time, all others count
 * pages or occurrences.
 */
#define HPL_VM_EVENTS(X)						\
	X(SAMPLE_PEBS, sample_pebs)					\
	X(SAMPLE_ABIT, sample_abit)					\
	X(SAMPLE_DROPPED, sample_dropped)				\
	X(SAMPLE_DISCARDED, sample_discarded)				\
	X(SAMPLE_DRAIN_SWITCH, sample_drain_switch)			\
	X(SAMPLE_DRAIN_PMI, sample_drain_pmi)				\
	X(SAMPLE_NS, sample_ns)						\
	X(EPOCHS, epochs)						\
	X(RANGE_SPLIT, range_split)					\
	X(RANGE_MERGED, range_merged)					\
	X(CLASSIFY_NS, classify_ns)					\
	X(PROMOTE_SCANNED_ANON, promote_scanned_anon)			\
	X(PROMOTE_SCANNED_FILE, promote_scanned_file)			\
	X(PROMOTE_TRIED_ANON, promote_tried_anon)			\
	X(PROMOTE_TRIED_FILE, promote_tried_file)			\
	X(PROMOTE_DONE_ANON, promote_done_anon)				\
	X(PROMOTE_DONE_FILE, promote_done_file)				\
	X(PROMOTE_FAILED_NOMEM, promote_failed_nomem)			\
	X(PROMOTE_FAILED_ISOLATE, promote_failed_isolate)		\
	X(PROMOTE_FAILED_BUSY, promote_failed_busy)			\
	X(PROMOTE_FAILED_PINNED, promote_failed_pinned)			\
	X(PROMOTE_FAILED_POLICY, promote_failed_policy)			\
	X(PROMOTE_FAILED_OTHER, promote_failed_other)			\
	X(DEMOTE_SCANNED_ANON, demote_scanned_anon)			\
	X(DEMOTE_SCANNED_FILE, demote_scanned_file)			\
	X(DEMOTE_TRIED_ANON, demote_tried_anon)				\
	X(DEMOTE_TRIED_FILE, demote_tried_file)				\
	X(DEMOTE_DONE_ANON, demote_done_anon)				\
	X(DEMOTE_DONE_FILE, demote_done_file)				\
	X(DEMOTE_FAILED_NOMEM, demote_failed_nomem)			\
	X(DEMOTE_FAILED_ISOLATE, demote_failed_isolate)			\
	X(DEMOTE_FAILED_BUSY, demote_failed_busy)			\
	X(DEMOTE_FAILED_PINNED, demote_failed_pinned)			\
	X(DEMOTE_FAILED_POLICY, demote_failed_policy)			\
	X(DEMOTE_FAILED_OTHER, demote_failed_other)			\
	X(EXCHANGED, exchanged)						\
	X(MIGRATE_NS, migrate_ns)

#else

#define HPL_VM_EVENTS(X)

#endif /* CONFIG_HPLACEMENT */

#define HPL_VM_EVENT_ITEM(item, name) HPL_##item,
#define HPL_VM_EVENT_TEXT(item, name) "hpl_" #name,

#endif /* _LINUX_TIERING_RANGE_H */
