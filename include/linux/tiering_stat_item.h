/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What memory tiering of stock Linux costs: the counters
 *
 * CONFIG_TIERING_STAT is the switch, tiering_stat the prefix of the files, and
 * tier_ that of symbols and counters.
 *
 * This header is included by <linux/vm_event_item.h>, hence by most of the
 * kernel: it includes nothing, and with CONFIG_TIERING_STAT=n it adds nothing.
 */
#ifndef _LINUX_TIERING_STAT_ITEM_H
#define _LINUX_TIERING_STAT_ITEM_H

#ifdef CONFIG_TIERING_STAT

/*
 * The events in /proc/vmstat, each once: X(enumerator, name). Those whose names
 * end in _ns count nanoseconds of CPU time.
 */
#define TIER_VM_EVENTS(X)						\
	X(HINT_SCAN_PAGES, hint_scan_pages)				\
	X(HINT_SCAN_NS, hint_scan_ns)					\
	X(HINT_FAULT_NR, hint_fault_nr)					\
	X(HINT_FAULT_NS, hint_fault_ns)					\
	X(ACCESSED_BITS_SCANNED, accessed_bits_scanned)			\
	X(ACCESSED_SCAN_NS, accessed_scan_ns)				\
	X(RMAP_WALK_NR, rmap_walk_nr)					\
	X(RMAP_WALK_NS, rmap_walk_ns)					\
	X(LRU_SCAN_PAGES, lru_scan_pages)				\
	X(LRU_SCAN_NS, lru_scan_ns)					\
	X(DEMOTE_FILTERED_WARM, demote_filtered_warm)			\
	X(MIGRATE_NS, migrate_ns)

#else

#define TIER_VM_EVENTS(X)

#endif /* CONFIG_TIERING_STAT */

#define TIER_VM_EVENT_ITEM(item, name) TIER_##item,
#define TIER_VM_EVENT_TEXT(item, name) "tier_" #name,

#endif /* _LINUX_TIERING_STAT_ITEM_H */
