// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: looks at page tables
 *
 * abit: accessed bits of randomly chosen pages. In each of a few passes per
 * epoch the accessed bits of a random set of pages are cleared, and looked at
 * again after the sampling interval. This needs no PMU and no walk over all
 * that is mapped.
 *
 * Other sources see accesses, not pages: for them, a few random pages of each
 * range are looked at to learn how many are resident, and how many of them fast.
 */
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/memory-tiers.h>
#include <linux/mmu_notifier.h>
#include <linux/page_idle.h>
#include <linux/pagewalk.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/vmstat.h>

#include <asm/tlbflush.h>

#include "tiering_range_internal.h"
#include "tiering_range.h"

/* Passes per epoch: spreads the samples over time at eight wake-ups. */
#define HPL_PASSES	4
#define HPL_PICKS_MAX	(HPL_SAMPLES_PER_EPOCH_MAX / HPL_PASSES)

/* Start values; both adapt at once. */
#define HPL_SAMPLES_INITIAL	1024
#define HPL_INTERVAL_US_INITIAL	5000

/*
 * Looks that tell enough of a range's residency: a share of a half is known to
 * a tenth, at the cost of about one look a range and epoch, as they fade.
 */
#define HPL_LOOKS_KNOWN		32

/*
 * Looks at all ranges in an epoch, and at one if there are many. The policy
 * wants 16, so that a new range waits for them no longer than for its age.
 */
#define HPL_LOOKS_MAX		1024U
#define HPL_LOOKS_PER_RANGE	12U

/* The least overhead_permille that has room for HPL_LOOKS_MAX. */
#define HPL_LOOKS_PERMILLE	4

/**
 * enum hpl_pick_state - how far a sample has come
 * @HPL_PICK_NEW: not looked at
 * @HPL_PICK_ABSENT: no page that could be moved is there
 * @HPL_PICK_ARMED: its accessed bit has been cleared
 */
enum hpl_pick_state {
	HPL_PICK_NEW,
	HPL_PICK_ABSENT,
	HPL_PICK_ARMED,
};

/**
 * struct hpl_pick - a page being sampled
 * @hm: whose; picks of one process are consecutive
 * @addr: where, page aligned
 * @state: how far it has come
 */
struct hpl_pick {
	struct hpl_mm *hm;
	unsigned long addr;
	enum hpl_pick_state state;
};

/**
 * enum hpl_visit - what to do with picked pages
 * @HPL_VISIT_ARM: clear their accessed bits
 * @HPL_VISIT_CHECK: see whether they have been accessed since
 * @HPL_VISIT_LOOK: see whether and where they are resident
 */
enum hpl_visit {
	HPL_VISIT_ARM,
	HPL_VISIT_CHECK,
	HPL_VISIT_LOOK,
};

static struct hpl_pick *picks;

/* What abit does in the next epoch. */
static unsigned int abit_nr_samples;
static unsigned int abit_interval_us;

/**
 * hpl_looks_start - get ready to look at page tables
 *
 * Return: 0 or -ENOMEM.
 */
int hpl_looks_start(void)
{
	picks = kvmalloc_array(HPL_PICKS_MAX, sizeof(*picks), GFP_KERNEL);
	return picks ? 0 : -ENOMEM;
}

/**
 * hpl_looks_stop - undo hpl_looks_start()
 */
void hpl_looks_stop(void)
{
	kvfree(picks);
	picks = NULL;
}

static int abit_start(void)
{
	abit_nr_samples = HPL_SAMPLES_INITIAL;
	abit_interval_us = HPL_INTERVAL_US_INITIAL;
	return 0;
}

static void abit_stop(void)
{
}

/*
 * A large range deserves more samples than a small one, but not in proportion:
 * what a sample teaches is worth the more the fewer there are.
 */
static unsigned int range_weight(const struct hpl_range *r)
{
	return ilog2((r->end - r->start) >> PAGE_SHIFT) + 1;
}

static unsigned long random_addr(const struct hpl_range *r)
{
	u64 pages = (r->end - r->start) >> PAGE_SHIFT;

	return r->start + (mul_u64_u32_shr(pages, get_random_u32(), 32)
			   << PAGE_SHIFT);
}

/* Choose @nr pages of @hm; returns how many, 0 if it has no ranges. */
static unsigned int pick_pages(struct hpl_mm *hm, struct hpl_pick *to,
			       unsigned int nr)
{
	unsigned long total = 0, share;
	struct hpl_range *r;
	unsigned int n = 0;

	for (r = hpl_tree_first(&hm->tree); r; r = hpl_range_next(r))
		total += range_weight(r);
	if (!total)
		return 0;

	/* A random start makes each range's number of picks fair on average. */
	share = get_random_u32_below(total);
	for (r = hpl_tree_first(&hm->tree); r; r = hpl_range_next(r)) {
		share += (unsigned long)range_weight(r) * nr;
		for (; share >= total && n < nr; share -= total)
			to[n++] = (struct hpl_pick){
				.hm = hm,
				.addr = random_addr(r),
			};
	}
	return n;
}

/* Choose @nr pages, processes by their resident memory; returns how many. */
static unsigned int pick_all(struct list_head *mms, unsigned int nr)
{
	unsigned long total = 0, share;
	struct hpl_mm *hm;
	unsigned int n = 0;

	list_for_each_entry(hm, mms, list)
		total += hm->rss;
	if (!total)
		return 0;

	/* As above: else the small ones would come to nothing each time. */
	share = get_random_u64() % total;
	list_for_each_entry(hm, mms, list) {
		share += hm->rss * nr;
		n += pick_pages(hm, picks + n, min(share / total,
						   (unsigned long)nr - n));
		share %= total;
	}
	return n;
}

/*
 * The page at @addr, if it is one that could be moved: only these count, or hot
 * pages that cannot move would be taken for work to do. On success, the page
 * table is locked until folio_walk_end().
 */
static struct folio *walk_start(struct folio_walk *fw, struct mm_struct *mm,
				unsigned long addr, struct vm_area_struct **vma)
{
	struct folio *folio;

	*vma = vma_lookup(mm, addr);
	if (!*vma || !hpl_vma_movable(*vma))
		return NULL;
	folio = folio_walk_start(fw, *vma, addr, 0);
	if (folio && (fw->level == FW_LEVEL_PUD || !hpl_folio_movable(folio))) {
		folio_walk_end(fw, *vma);
		folio = NULL;
	}
	return folio;
}

static bool clear_young(struct vm_area_struct *vma, unsigned long addr,
			struct folio_walk *fw)
{
	/* A huge page has one accessed bit. */
	if (IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE) && fw->level == FW_LEVEL_PMD)
		return pmdp_clear_young_notify(vma, addr & PMD_MASK, fw->pmdp);
	return ptep_clear_young_notify(vma, addr, fw->ptep);
}

static bool is_young(const struct folio_walk *fw)
{
	return fw->level == FW_LEVEL_PMD ? pmd_young(fw->pmd) :
					   pte_young(fw->pte);
}

/* Clear the accessed bit of @p. */
static void arm(struct hpl_pick *p)
{
	struct vm_area_struct *vma;
	struct folio_walk fw;
	struct folio *folio = walk_start(&fw, p->hm->mm, p->addr, &vma);

	p->state = HPL_PICK_ABSENT;
	if (!folio)
		return;
	/* Idle page tracking must not miss an access because of us. */
	if (clear_young(vma, p->addr, &fw)) {
		folio_clear_idle(folio);
		folio_set_young(folio);
	}
	folio_walk_end(&fw, vma);
	p->state = HPL_PICK_ARMED;
}

/* Count what is at @p, and whether it has been accessed since it was armed. */
static void check(struct hpl_pick *p, struct hpl_epoch *epoch)
{
	struct hpl_range *r = hpl_tree_find(&p->hm->tree, p->addr);
	bool hit = false, fast = false;
	struct vm_area_struct *vma;
	struct folio *folio = NULL;
	struct folio_walk fw;

	if (p->state != HPL_PICK_ABSENT)
		folio = walk_start(&fw, p->hm->mm, p->addr, &vma);
	if (folio) {
		if (p->state == HPL_PICK_ARMED)
			hit = is_young(&fw) ||
			      mmu_notifier_test_young(p->hm->mm, p->addr);
		fast = node_is_toptier(folio_nid(folio));
		folio_walk_end(&fw, vma);
		epoch->seen++;
		epoch->hit += hit;
	}
	if (r)
		hpl_range_count(r, p->addr, folio, hit, fast);
}

/*
 * Visit the @nr picks from @p on, all of one process. They are given up if its
 * mmap lock is contended: it is about to change what is mapped, and must not
 * wait for us.
 */
static void visit(struct hpl_pick *p, unsigned int nr, enum hpl_visit what,
		  struct hpl_epoch *epoch)
{
	unsigned long seen = epoch->seen, hit = epoch->hit;
	struct mm_struct *mm = p->hm->mm;
	unsigned int i;

	/* All of them are in the same state. */
	if (what == HPL_VISIT_CHECK && p->state == HPL_PICK_NEW)
		return;
	if (!hpl_mm_trylock(mm)) {
		if (what != HPL_VISIT_LOOK && hpl_mm_managed(mm))
			count_vm_events(HPL_SAMPLE_DISCARDED, nr);
		return;
	}
	for (i = 0; i < nr; i++) {
		if (what == HPL_VISIT_ARM)
			arm(&p[i]);
		else
			check(&p[i], epoch);
		cond_resched();
	}
	/*
	 * Without a flush, pages whose translation stays cached would look idle:
	 * a hot set that fits the TLB would never be found.
	 */
	if (what == HPL_VISIT_ARM)
		flush_tlb_mm(mm);
	mmap_read_unlock(mm);
	seen = epoch->seen - seen;
	hit = epoch->hit - hit;
	if (what == HPL_VISIT_CHECK) {
		count_vm_events(HPL_SAMPLE_ABIT, nr);
		trace_hpl_sample_abit(p->hm->tree.pid, nr, seen, hit);
	} else if (what == HPL_VISIT_LOOK) {
		trace_hpl_look(p->hm->tree.pid, nr, seen, hit);
	}
}

static void visit_all(unsigned int nr, enum hpl_visit what,
		      struct hpl_epoch *epoch)
{
	unsigned int i, n;

	for (i = 0; i < nr; i += n) {
		for (n = 1; i + n < nr && picks[i + n].hm == picks[i].hm; n++)
			;
		visit(&picks[i], n, what, epoch);
	}
}

/* Looks that the budget has room for at once. */
static unsigned int looks_max(void)
{
	return min(HPL_LOOKS_MAX * READ_ONCE(hpl_knobs.overhead_permille) /
		   HPL_LOOKS_PERMILLE, HPL_LOOKS_MAX);
}

/*
 * Choose at most @nr_max pages of ranges whose residency is little known; returns how
 * many.
 */
static unsigned int pick_unknown(struct list_head *mms, unsigned int nr_max)
{
	const u32 enough = HPL_LOOKS_KNOWN * HPL_SAMPLE_ONE;
	unsigned int n, nr = 0, nr_ranges = 0, most;
	struct hpl_range *r;
	struct hpl_mm *hm;

	list_for_each_entry(hm, mms, list)
		nr_ranges += hm->tree.nr;
	most = max(nr_max / max(nr_ranges, 1U), HPL_LOOKS_PER_RANGE);
	list_for_each_entry(hm, mms, list) {
		for (r = hpl_tree_first(&hm->tree); r; r = hpl_range_next(r)) {
			u32 tried = hpl_range_sum(r).tried;

			if (tried >= enough)
				continue;
			n = min((enough - tried) >> HPL_SAMPLE_SHIFT, most);
			for (; n && nr < nr_max; n--)
				picks[nr++] = (struct hpl_pick){
					.hm = hm,
					.addr = random_addr(r),
				};
		}
	}
	return nr;
}

/**
 * hpl_page_is_slow - whether a base page lies on a slow node
 * @hm: whose
 * @addr: its address
 *
 * Return: false also if it could not be moved, or is not there, or if that cannot
 * be known without waiting.
 */
bool hpl_page_is_slow(struct hpl_mm *hm, unsigned long addr)
{
	struct vm_area_struct *vma;
	struct folio_walk fw;
	struct folio *folio;
	bool slow = false;

	if (!hpl_mm_trylock(hm->mm))
		return false;
	folio = walk_start(&fw, hm->mm, addr, &vma);
	if (folio) {
		slow = !folio_test_large(folio) &&
		       !node_is_toptier(folio_nid(folio));
		folio_walk_end(&fw, vma);
	}
	mmap_read_unlock(hm->mm);
	return slow;
}

/**
 * hpl_look - learn how many pages of each range are resident, and fast
 * @mms: the address spaces
 * @epoch: where looks are counted
 *
 * Looks at a few pages of those ranges only of which too little is known.
 */
void hpl_look(struct list_head *mms, struct hpl_epoch *epoch)
{
	unsigned int nr_max = looks_max();
	unsigned int nr = pick_unknown(mms, nr_max);

	visit_all(nr, HPL_VISIT_LOOK, epoch);
	/* If there was not room for all, others come first next time. */
	if (nr == nr_max)
		list_rotate_left(mms);
}

static int abit_collect(struct list_head *mms, struct hpl_epoch *epoch)
{
	unsigned int per_pass = min_t(unsigned int, HPL_PICKS_MAX,
				      abit_nr_samples / HPL_PASSES);
	unsigned int rest_us = epoch->length_us / HPL_PASSES;
	unsigned int pass;
	u64 between_ns = 0;

	epoch->nr_samples = abit_nr_samples;
	epoch->interval_us = abit_interval_us;
	rest_us -= min(rest_us, epoch->interval_us);
	for (pass = 0; pass < HPL_PASSES && !kthread_should_stop(); pass++) {
		unsigned int nr = pick_all(mms, per_pass);
		u64 armed_ns;

		visit_all(nr, HPL_VISIT_ARM, epoch);
		armed_ns = ktime_get_ns();
		hpl_sleep(epoch->interval_us);
		between_ns += ktime_get_ns() - armed_ns;
		visit_all(nr, HPL_VISIT_CHECK, epoch);
		hpl_sleep(rest_us);
	}
	epoch->measured_us = max_t(u64, epoch->interval_us,
				   div_u64(between_ns, HPL_PASSES *
						       NSEC_PER_USEC));
	return 0;
}

/* Take as many samples as the budget has room for. */
static void abit_adapt(const struct hpl_epoch *e, u64 spent_ns, u64 budget_ns)
{
	abit_nr_samples = min_t(unsigned int, HPL_SAMPLES_PER_EPOCH_MAX,
				hpl_policy_nr_samples(e->nr_samples, spent_ns,
						      budget_ns));
	abit_interval_us = hpl_policy_interval(e->interval_us, e->seen, e->hit,
					       e->length_us / 4, e->page_ns);
}

const struct hpl_source hpl_source_abit = {
	.name = "abit",
	.evidence = HPL_BITS,
	.start = abit_start,
	.stop = abit_stop,
	.collect = abit_collect,
	.adapt = abit_adapt,
};
