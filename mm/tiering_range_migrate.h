/* SPDX-License-Identifier: GPL-2.0 */
/*
 * HPlacement: what the methods of moving pages share
 */
#ifndef _MM_TIERING_RANGE_MIGRATE_H
#define _MM_TIERING_RANGE_MIGRATE_H

#include <linux/list.h>
#include <linux/nodemask.h>
#include <linux/vm_event_item.h>

struct folio;
struct hpl_mm;
struct hpl_move;

/**
 * struct hpl_batch - state of isolating pages of one move
 * @folios: isolated
 * @last: the folio looked at last under the page table lock that is held
 * @nr: pages of @folios
 * @nr_file: of these, pages of files
 * @max: stop there
 * @nid: take only pages of this node
 * @target: where they are to go
 * @cpuset: nodes that the process may use at all
 * @policy: nodes that its memory policy permits where a VMA has none
 * @promote: direction
 * @exchange: anonymous base pages are wanted, and no free memory
 * @nr_unfit: for @exchange, pages seen of another kind, or of another group
 * @alone: base pages are wanted
 * @owner: pages of this number that have been sampled lately are not; or
 *	HPL_OWNERS
 * @full: the target had no page to spare
 * @pmds: page tables still to be walked before a rest
 * @next: where the walk stopped
 */
struct hpl_batch {
	struct list_head folios;
	struct folio *last;
	unsigned int nr;
	unsigned int nr_file;
	unsigned int nr_unfit;
	unsigned int max;
	int nid;
	int target;
	nodemask_t cpuset;
	nodemask_t policy;
	bool promote;
	bool exchange;
	bool alone;
	bool full;
	unsigned int owner;
	unsigned int pmds;
	unsigned long next;
};

void hpl_count_events(const struct hpl_batch *b, enum vm_event_item item,
		      long nr);
void hpl_count_pages(const struct hpl_batch *b, enum vm_event_item item,
		     long nr, long nr_file);
void hpl_read_law(struct hpl_batch *b, struct hpl_mm *hm);
void hpl_isolate(struct hpl_batch *b, const struct hpl_move *move,
		 unsigned long start, unsigned long end);
unsigned long hpl_random_page(unsigned long start, unsigned long end);
bool hpl_cancelled(void);
bool hpl_span_tiers(const nodemask_t *nodes);

unsigned long hpl_exchange(struct hpl_move *moves, unsigned int nr);

#endif /* _MM_TIERING_RANGE_MIGRATE_H */
