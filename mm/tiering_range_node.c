// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: what the nodes of the tiers have to spare, and what they lack
 */
#include <linux/math.h>
#include <linux/memory-tiers.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/node.h>
#include <linux/nodemask.h>

#include "tiering_range_internal.h"
#include "tiering_range.h"
#include "tiering_range_migrate.h"

/* See hpl_gap_ns(). Of the main thread, and of who starts it. */
static unsigned int gap_ns = HPL_GAP_NS;

/*
 * Free pages of a zone above its high watermark, so that kswapd sleeps on, and
 * above the headroom; less than none if there are too few.
 */
static long zone_spare(struct zone *zone)
{
	long free = zone_page_state(zone, NR_FREE_PAGES);
	unsigned long headroom = 0;

	if (node_is_toptier(zone_to_nid(zone)))
		headroom = mult_frac(zone_managed_pages(zone),
				     READ_ONCE(hpl_knobs.headroom_permille),
				     1000);
	return free - (long)(high_wmark_pages(zone) + headroom +
			     zone->lowmem_reserve[ZONE_MOVABLE]);
}

/**
 * hpl_node_spare - what promotion may use of a node
 * @nid: the node
 *
 * Return: free pages above the high watermarks and the headroom, of all its zones.
 */
unsigned long hpl_node_spare(int nid)
{
	struct pglist_data *pgdat = NODE_DATA(nid);
	unsigned long sum = 0;
	int i;

	for (i = 0; i < MAX_NR_ZONES; i++)
		if (managed_zone(&pgdat->node_zones[i]))
			sum += max(zone_spare(&pgdat->node_zones[i]), 0L);
	return sum;
}

/**
 * hpl_node_short - what a node lacks before it has a page to spare
 * @nid: the node
 *
 * Return: pages that the largest of its zones has below the high watermark and the
 * headroom; 0 if any zone has more than that.
 */
unsigned long hpl_node_short(int nid)
{
	struct pglist_data *pgdat = NODE_DATA(nid);
	struct zone *zone, *largest = NULL;
	int i;

	for (i = 0; i < MAX_NR_ZONES; i++) {
		zone = &pgdat->node_zones[i];
		if (!managed_zone(zone))
			continue;
		if (zone_spare(zone) > 0)
			return 0;
		if (!largest ||
		    zone_managed_pages(zone) > zone_managed_pages(largest))
			largest = zone;
	}
	return largest ? -zone_spare(largest) : 0;
}

/* What the fast nodes have of something, all together. */
static unsigned long fast_sum(unsigned long (*of_node)(int nid))
{
	unsigned long sum = 0;
	int nid;

	for_each_node_state(nid, N_MEMORY)
		if (node_is_toptier(nid))
			sum += of_node(nid);
	return sum;
}

/**
 * hpl_fast_free - free memory on fast nodes that promotion may use
 *
 * Return: pages above the high watermarks and the headroom.
 */
unsigned long hpl_fast_free(void)
{
	return fast_sum(hpl_node_spare);
}

/**
 * hpl_fast_short - how much fast nodes lack before promotion may use any
 *
 * Return: pages below the high watermark and the headroom, of the nodes that have
 * none above.
 */
unsigned long hpl_fast_short(void)
{
	return fast_sum(hpl_node_short);
}

/**
 * hpl_span_tiers - whether nodes are of more than one tier
 * @nodes: the nodes
 *
 * Return: true if some of them are in the top tier and some below it.
 */
bool hpl_span_tiers(const nodemask_t *nodes)
{
	bool fast = false, slow = false;
	int nid;

	for_each_node_mask(nid, *nodes) {
		if (node_is_toptier(nid))
			fast = true;
		else
			slow = true;
	}
	return fast && slow;
}

/**
 * hpl_have_tiers - whether there is anything to place
 *
 * Return: true if there are nodes with memory in the top tier and below it.
 */
bool hpl_have_tiers(void)
{
	return hpl_span_tiers(&node_states[N_MEMORY]);
}

/*
 * How long a read of a node takes from the nearest CPUs, in ns; 0 if that is not
 * known.
 */
static unsigned int read_ns(int nid)
{
	struct access_coordinate c;

	if (node_get_perf_attrs(nid, &c, ACCESS_COORDINATE_CPU))
		return 0;
	return c.read_latency;
}

/**
 * hpl_read_gap - learn what an access to a slow page takes longer
 *
 * By what firmware says of the nodes: the least there is between any slow one and
 * any fast one, as each of them may be what is moved between. If it says nothing of
 * one of them, HPL_GAP_NS.
 *
 * Context: sleeps while memory is added or taken away.
 */
void hpl_read_gap(void)
{
	unsigned int fast = 0, slow = UINT_MAX, ns;
	int nid;

	get_online_mems();
	for_each_node_state(nid, N_MEMORY) {
		ns = read_ns(nid);
		if (node_is_toptier(nid))
			fast = max(fast, ns ?: UINT_MAX);
		else
			slow = min(slow, ns);
	}
	put_online_mems();
	gap_ns = slow > fast ? min(slow - fast, HPL_GAP_NS_MAX) : HPL_GAP_NS;
}

/**
 * hpl_gap_ns - what an access to a slow page takes longer than one to a fast page
 *
 * Return: ns.
 */
unsigned int hpl_gap_ns(void)
{
	return gap_ns;
}
