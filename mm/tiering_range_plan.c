// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: from what is known of ranges and pages to moves, and back
 *
 * Ranks the ranges of all processes together, has the policy decide, and keeps
 * account of what became of it. All of it belongs to the main thread, or to one
 * that holds the lock of the core while that sleeps.
 */
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/sched/cputime.h>
#include <linux/sched.h>
#include <linux/swap.h>
#include <linux/vmstat.h>

#include "tiering_range_internal.h"
#include "tiering_range.h"

/* An epoch's budget of pages to move is for this time at most. */
#define HPL_MIGRATE_MS_MAX	1000U

/*
 * CPU time to move a page until there is a measurement: for two to change places,
 * 28 us were measured.
 */
#define HPL_PAGE_NS		14000U
#define HPL_PAGE_NS_MAX		(16 * HPL_PAGE_NS)

/* Pages moved alone in an epoch: a thousand a second, by default, is some MiB. */
#define HPL_SPOTS_MAX		256U

/* The table of samples by page is gone through in that time. */
#define HPL_PASS_US		(HPL_SPOT_PASS_MS * USEC_PER_MSEC)

/* If pages promoted alone have been sampled so often since, there will be more. */
#define HPL_SPOTS_RICH		32

/* Samples by page, of all processes. */
struct hpl_sketch hpl_sketch;

/* CPU time to move a page, as measured. */
static unsigned int page_ns;

/* Pages to be moved alone in this epoch. */
static struct hpl_spot spots[HPL_SPOTS_MAX];
static unsigned int nr_spots;

/**
 * hpl_plan_start - get ready to plan
 *
 * Return: 0 or -ENOMEM.
 */
int hpl_plan_start(void)
{
	int err = hpl_sketch_init(&hpl_sketch, totalram_pages());

	page_ns = HPL_PAGE_NS;
	nr_spots = 0;
	return err;
}

/**
 * hpl_plan_stop - undo hpl_plan_start()
 */
void hpl_plan_stop(void)
{
	hpl_sketch_destroy(&hpl_sketch);
}

/**
 * hpl_page_ns - what moving a page costs
 *
 * Return: CPU time in ns, as measured.
 */
unsigned int hpl_page_ns(void)
{
	return page_ns;
}

/* All ranges, or those that are @ready to be moved; returns how many. */
static unsigned int candidates(struct hpl_candidate *c, struct list_head *mms,
			       bool ready)
{
	unsigned int owner = 0, nr = 0;
	struct hpl_range *r;
	struct hpl_mm *hm;

	list_for_each_entry(hm, mms, list) {
		for (r = hpl_tree_first(&hm->tree); r; r = hpl_range_next(r))
			if (!ready || hpl_policy_ready(r))
				hpl_policy_candidate(&c[nr++], r, owner);
		owner++;
	}
	return nr;
}

/* The address spaces by the number that candidates() gave them. */
static struct hpl_mm **mms_by_number(struct list_head *mms)
{
	struct hpl_mm **by_number;
	unsigned int n = 0;
	struct hpl_mm *hm;

	by_number = kvmalloc_array(list_count_nodes(mms), sizeof(*by_number),
				   HPL_GFP);
	if (by_number)
		list_for_each_entry(hm, mms, list)
			by_number[n++] = hm;
	return by_number;
}

static void add_move(struct hpl_move *m, struct hpl_mm *hm,
		     const struct hpl_candidate *c, bool promote)
{
	*m = (struct hpl_move){
		.hm = hm,
		.start = c->start,
		.end = c->end,
		.promote = promote,
	};
	atomic_long_set(&m->nr_left, promote ? c->nr_promote : c->nr_demote);
}

/**
 * hpl_spots_rich - whether it pays to look for single hot pages with more samples
 *
 * Return: true if those found so far turned out to be hot.
 */
bool hpl_spots_rich(void)
{
	return hpl_sketch.promoted_hits >= HPL_SPOTS_RICH;
}

/**
 * hpl_plan_spot - a page was sampled so often that it may be hot alone
 * @owner: whose
 * @addr: its address
 *
 * Nothing happens if there are too many in an epoch: hot ones will come again.
 */
void hpl_plan_spot(unsigned int owner, unsigned long addr)
{
	if (nr_spots < HPL_SPOTS_MAX)
		spots[nr_spots++] = (struct hpl_spot){
			.owner = owner,
			.addr = addr & PAGE_MASK,
		};
}

/* Whether a page is to be promoted alone; asked once, for a while. */
static bool spot_is_slow(const struct hpl_spot *s)
{
	struct hpl_mm *hm = hpl_mm_of(s->owner);

	return hpl_sketch_mark(&hpl_sketch, s->owner, s->addr, HPL_SPOT_NEW,
			       HPL_SPOT_TRIED) &&
	       hm && hpl_page_is_slow(hm, s->addr);
}

/* Leave of the pages that may be hot alone those that are slow. */
static void look_at_spots(void)
{
	unsigned int i, n = 0;

	for (i = 0; i < nr_spots; i++)
		if (spot_is_slow(&spots[i]))
			spots[n++] = spots[i];
	nr_spots = n;
}

/* Leave of these the first @nr; the others may come again. */
static void take_spots(unsigned int nr)
{
	while (nr_spots > nr) {
		nr_spots--;
		hpl_sketch_mark(&hpl_sketch, spots[nr_spots].owner,
				spots[nr_spots].addr, HPL_SPOT_TRIED,
				HPL_SPOT_NEW);
	}
}

/* Go on with the table; at its end, see what makes pages hot. */
static void pass_spots(const struct hpl_candidate *c, unsigned int nr,
		       const struct hpl_epoch *e, const struct hpl_costs *costs)
{
	u64 n = div64_u64((u64)hpl_sketch.nr * e->length_us, HPL_PASS_US) + 1;

	if (!hpl_sketch_pass(&hpl_sketch, n))
		return;
	hpl_policy_judge(&hpl_sketch, c, nr, costs);
	hpl_sketch_begin(&hpl_sketch);
}

static int by_address(const void *pa, const void *pb)
{
	const struct hpl_spot *a = pa, *b = pb;

	if (a->owner != b->owner)
		return a->owner < b->owner ? -1 : 1;
	return a->addr < b->addr ? -1 : a->addr > b->addr;
}

/* Make moves of the pages that are hot alone, one for each process. */
static unsigned int add_spots(struct hpl_move *moves)
{
	unsigned int nr = nr_spots, i, n = 0;

	for (i = 0; i < nr; i++)
		hpl_sketch_mark(&hpl_sketch, spots[i].owner, spots[i].addr,
				HPL_SPOT_TRIED, HPL_SPOT_PROMOTED);
	sort(spots, nr, sizeof(*spots), by_address, NULL);
	for (i = 0; i < nr; i++) {
		struct hpl_move *m = &moves[n];

		if (!i || spots[i].owner != spots[i - 1].owner)
			*m = (struct hpl_move){
				.hm = hpl_mm_of(spots[i].owner),
				.start = spots[i].addr,
				.promote = true,
				.spots = &spots[i],
			};
		m->end = spots[i].addr + PAGE_SIZE;
		m->nr_spots++;
		atomic_long_inc(&m->nr_left);
		if (i + 1 == nr || spots[i + 1].owner != spots[i].owner)
			n++;
	}
	return n;
}

/*
 * Turn verdicts into moves: hottest promoted and coldest demoted first. None
 * if memory is short: the next epoch tries again.
 */
static void make_moves(struct hpl_plan *plan, struct list_head *mms,
		       const struct hpl_candidate *c, unsigned int nr)
{
	unsigned int i, n = nr_spots;
	struct hpl_mm **by_number;

	for (i = 0; i < nr; i++)
		n += !!c[i].nr_promote + !!c[i].nr_demote;
	by_number = n ? mms_by_number(mms) : NULL;
	if (!by_number)
		return;
	plan->moves = kvcalloc(n, sizeof(*plan->moves), HPL_GFP);
	if (!plan->moves)
		goto out;
	n = add_spots(plan->moves);
	for (i = 0; i < nr; i++)
		if (c[i].nr_promote)
			add_move(&plan->moves[n++], by_number[c[i].owner],
				 &c[i], true);
	for (i = nr; i-- > 0; )
		if (c[i].nr_demote)
			add_move(&plan->moves[n++], by_number[c[i].owner],
				 &c[i], false);
	plan->nr_moves = n;
out:
	kvfree(by_number);
}

/**
 * hpl_plan - rank all ranges and pages, and decide
 * @plan: what to move, on return
 * @mms: the address spaces
 * @nr: number of their ranges
 * @e: the epoch
 * @evidence: what the hits of ranges are
 * @quiet: promote nothing
 *
 * Context: allocates; nothing is moved for want of memory.
 */
void hpl_plan(struct hpl_plan *plan, struct list_head *mms, unsigned int nr,
	      const struct hpl_epoch *e, enum hpl_evidence evidence, bool quiet)
{
	unsigned int ms = min(e->length_us / USEC_PER_MSEC, HPL_MIGRATE_MS_MAX);
	struct hpl_candidate *c, alone = {
		.heat = hpl_sketch.heat,
		.exposed = hpl_sketch.exposed,
	};
	unsigned long nr_short = hpl_fast_short();
	struct hpl_costs costs = {
		.nr_free = hpl_fast_free(),
		.nr_short = nr_short,
		.nr_wanted = READ_ONCE(hpl_knobs.headroom_permille) ? nr_short :
								      0,
		/* Pages that change places need no free ones. */
		.nr_unpaired = hpl_migrate_unpaired(),
		.nr_budget = quiet ? 0 :
			     (unsigned long)READ_ONCE(hpl_knobs.migrate_mbps) *
			     (SZ_1M >> PAGE_SHIFT) * ms / MSEC_PER_SEC,
		.evidence = evidence,
		.interval_us = e->measured_us,
		.page_ns = page_ns,
		.gap_ns = hpl_gap_ns(),
	};

	*plan = (struct hpl_plan){};
	look_at_spots();
	alone.nr_slow = nr_spots;
	c = nr ? kvmalloc_array(nr, sizeof(*c), HPL_GFP) : NULL;
	if (c) {
		nr = candidates(c, mms, true);
		plan->nr_promote = hpl_policy_plan(c, nr, &alone, &costs);
		take_spots(alone.nr_promote);
		make_moves(plan, mms, c, nr);
		if (evidence == HPL_EVENTS)
			pass_spots(c, nr, e, &costs);
	}
	kvfree(c);
}

/* A page here and there: what little they change is not worth a closer look. */
static unsigned long settle_spots(const struct hpl_move *m)
{
	unsigned long done = atomic_long_read(&m->nr_done), i;
	struct hpl_range *r;

	for (i = 0; i < min_t(unsigned long, done, m->nr_spots); i++) {
		r = hpl_tree_find(&m->hm->tree, m->spots[i].addr);
		if (r)
			hpl_range_moved(r, 1, true);
	}
	return done;
}

/* Keep account of what @m has moved; returns how many pages. */
static unsigned long settle(struct hpl_move *m)
{
	struct hpl_range *r = hpl_tree_find(&m->hm->tree, m->start);
	unsigned long done = atomic_long_read(&m->nr_done);

	if (m->nr_spots)
		return settle_spots(m);
	if (!r)
		return done;
	hpl_range_moved(r, done, m->promote);
	/* There were fewer than it seemed; others may have some. */
	if (!m->promote && atomic_long_read(&m->nr_left) > 0)
		hpl_range_moved(r, ULONG_MAX, false);
	if (done) {
		r->failures = 0;
	} else {
		r->failures++;
		r->age = 0;
	}
	return done;
}

/*
 * Adapt the price of a page to what was measured. A high price ends all moves,
 * hence all measurements, so without them it fades to the default.
 */
static void learn_page_ns(u64 spent_ns, unsigned long nr_done)
{
	u64 now = min(page_ns, HPL_PAGE_NS);

	if (nr_done)
		now = min_t(u64, div64_u64(spent_ns, nr_done), HPL_PAGE_NS_MAX);
	page_ns = (3 * page_ns + now) / 4;
}

/**
 * hpl_plan_carry_out - move what is planned, and keep account of it
 * @plan: freed on return
 * @nr_promoted: pages promoted, on return
 * @nr_demoted: pages demoted, on return
 *
 * Context: sleeps.
 */
void hpl_plan_carry_out(struct hpl_plan *plan, unsigned long *nr_promoted,
			unsigned long *nr_demoted)
{
	u64 spent_ns = hpl_migrate(plan->moves, plan->nr_moves);
	unsigned int i;

	*nr_promoted = 0;
	*nr_demoted = 0;
	for (i = 0; i < plan->nr_moves; i++) {
		struct hpl_move *m = &plan->moves[i];

		*(m->promote ? nr_promoted : nr_demoted) += settle(m);
	}
	learn_page_ns(spent_ns, *nr_promoted + *nr_demoted);
	kvfree(plan->moves);
	nr_spots = 0;
}

/* Demote up to @nr_pages of @c, which is sorted; returns pages demoted. */
static unsigned long demote_in_order(int nid, unsigned long nr_pages,
				     struct list_head *mms,
				     const struct hpl_candidate *c,
				     unsigned int nr)
{
	struct hpl_mm **by_number = mms_by_number(mms);
	unsigned long done = 0;
	unsigned int i;
	int err = 0;

	for (i = 0; by_number && !err && i < nr && done < nr_pages; i++) {
		struct hpl_move move;
		struct hpl_range *r;

		if (!hpl_policy_has_fast(&c[i]))
			continue;
		add_move(&move, by_number[c[i].owner], &c[i], false);
		atomic_long_set(&move.nr_left, nr_pages - done);
		/* It has to go, whatever it is. */
		move.all = true;
		err = hpl_move_range(nid, &move);
		done += atomic_long_read(&move.nr_done);
		r = hpl_tree_find(&move.hm->tree, c[i].start);
		if (r)
			hpl_range_moved(r, atomic_long_read(&move.nr_done),
					false);
	}
	kvfree(by_number);
	return done;
}

/**
 * hpl_plan_demote - move the coldest memory of a node to a slower one
 * @mms: the address spaces
 * @nid: the node
 * @nr_pages: how many, if there are so many
 *
 * Context: sleeps, allocates; nothing is moved for want of memory.
 *
 * Return: pages demoted.
 */
unsigned long hpl_plan_demote(struct list_head *mms, int nid,
			      unsigned long nr_pages)
{
	struct hpl_candidate *c = NULL;
	unsigned long done = 0;
	struct hpl_mm *hm;
	unsigned int nr = 0;

	list_for_each_entry(hm, mms, list)
		nr += hm->tree.nr;
	if (nr)
		c = kvmalloc_array(nr, sizeof(*c), HPL_GFP);
	if (c) {
		u64 begin = task_sched_runtime(current);

		nr = candidates(c, mms, false);
		hpl_policy_rank_coldest(c, nr);
		lru_add_drain();
		done = demote_in_order(nid, nr_pages, mms, c, nr);
		count_vm_events(HPL_MIGRATE_NS,
				task_sched_runtime(current) - begin);
	}
	kvfree(c);
	return done;
}
