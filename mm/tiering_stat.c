// SPDX-License-Identifier: GPL-2.0
/*
 * What memory tiering of stock Linux costs
 *
 * Sections of NUMA balancing, reclaim and DAMON count the CPU time that they
 * take. Sections lie within each other, as a walk of the reverse map does in a
 * scan of LRU lists; so that no time counts twice, each task adds up all that it
 * has counted, and a section leaves out what sections inside of it have.
 *
 * Documentation/admin-guide/mm/tiering_range.rst tells what the counters mean.
 */
#include <linux/sched.h>
#include <linux/sched/clock.h>
#include <linux/sched/cputime.h>
#include <linux/tiering_stat.h>

/*
 * Sections of a microsecond or so, too short for the runtime of the task to be
 * worth the locks that it takes.
 */
static bool is_short(enum vm_event_item item)
{
	return item == TIER_HINT_FAULT_NS || item == TIER_RMAP_WALK_NS;
}

static u64 section_clock(enum vm_event_item item)
{
	return is_short(item) ? local_clock() : task_sched_runtime(current);
}

static unsigned long nr_switches(void)
{
	return current->nvcsw + current->nivcsw;
}

/**
 * tier_section_begin - a section begins; see tier_stat_time()
 * @item: the counter of its CPU time
 *
 * Context: process context, without a lock of the scheduler.
 *
 * Return: what tier_section_end() needs to know.
 */
struct tier_section tier_section_begin(enum vm_event_item item)
{
	return (struct tier_section){
		.item = item,
		.counted = current->tier_stat_ns,
		.nr_switches = nr_switches(),
		.begin = section_clock(item),
	};
}

/**
 * tier_section_end - a section ends: count its time
 * @s: the section
 *
 * The time of a short one is not known if the task left the CPU meanwhile. As
 * that is rare, such a section is left out.
 */
void tier_section_end(struct tier_section *s)
{
	u64 spent = section_clock(s->item) - s->begin;
	u64 inside = current->tier_stat_ns - s->counted;

	if (is_short(s->item) && s->nr_switches != nr_switches())
		return;
	/* The two clocks differ by interrupts. */
	if (spent <= inside)
		return;
	count_vm_events(s->item, spent - inside);
	current->tier_stat_ns += spent - inside;
}
