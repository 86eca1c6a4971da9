/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What memory tiering of stock Linux costs: what other kernel code calls
 *
 * With CONFIG_TIERING_STAT=n, arguments are not evaluated and nothing is left.
 */
#ifndef _LINUX_TIERING_STAT_H
#define _LINUX_TIERING_STAT_H

#ifdef CONFIG_TIERING_STAT

#include <linux/compiler.h>
#include <linux/mm.h>
#include <linux/types.h>

/**
 * struct tier_section - a stretch of code whose CPU time is counted
 * @item: the counter
 * @begin: the clock when it was entered, in ns
 * @counted: current->tier_stat_ns then
 * @nr_switches: how often the task had left the CPU then
 */
struct tier_section {
	enum vm_event_item item;
	u64 begin;
	u64 counted;
	unsigned long nr_switches;
};

struct tier_section tier_section_begin(enum vm_event_item item);
void tier_section_end(struct tier_section *s);

/* Count the CPU time from here to the end of the block, but for sections in it. */
#define tier_stat_time(what)						\
	struct tier_section __tier_section __cleanup(tier_section_end) =	\
		tier_section_begin(TIER_##what##_NS)

#define tier_stat_count(what, nr)	count_vm_events(TIER_##what, nr)

#define tier_stat_count_if(condition, what, nr)				\
	do {								\
		if (condition)						\
			tier_stat_count(what, nr);			\
	} while (0)

#else

#define tier_stat_time(what)				do {} while (0)
#define tier_stat_count(what, nr)			do {} while (0)
#define tier_stat_count_if(condition, what, nr)		do {} while (0)

#endif /* CONFIG_TIERING_STAT */

#endif /* _LINUX_TIERING_STAT_H */
