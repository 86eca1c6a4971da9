// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: sources of samples
 *
 * abit: accessed bits of randomly chosen pages. In each of a few passes per
 * epoch the accessed bits of a random set of pages are cleared, and looked at
 * again after the sampling interval. This needs no PMU and no walk over all
 * that is mapped.
 */
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/memory-tiers.h>
#include <linux/mmu_notifier.h>
#include <linux/page_idle.h>
#include <linux/pagewalk.h>
#include <linux/random.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/vmstat.h>

#include <asm/tlbflush.h>

#include "tiering_range_internal.h"
#include "tiering_range.h"

/* Passes per epoch: spreads the samples over time at eight wake-ups. */
#define HPL_PASSES	4
#define HPL_PICKS_MAX	(HPL_SAMPLES_PER_EPOCH_MAX / HPL_PASSES)

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

static struct hpl_pick *picks;

static int abit_start(void)
{
	picks = kvmalloc_array(HPL_PICKS_MAX, sizeof(*picks), GFP_KERNEL);
	return picks ? 0 : -ENOMEM;
}

static void abit_stop(void)
{
	kvfree(picks);
	picks = NULL;
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

static void check(struct hpl_pick *p, struct hpl_epoch *epoch)
{
	struct hpl_range *r = hpl_tree_find(&p->hm->tree, p->addr);
	bool hit = false, fast = false;
	struct vm_area_struct *vma;
	struct folio *folio = NULL;
	struct folio_walk fw;

	if (p->state == HPL_PICK_ARMED)
		folio = walk_start(&fw, p->hm->mm, p->addr, &vma);
	if (folio) {
		hit = is_young(&fw) ||
		      mmu_notifier_test_young(p->hm->mm, p->addr);
		fast = node_is_toptier(folio_nid(folio));
		folio_walk_end(&fw, vma);
		epoch->seen++;
		epoch->hit += hit;
	}
	if (r)
		hpl_range_count(r, p->addr, folio, hit, fast);
	count_vm_event(HPL_SAMPLE_ABIT);
}

/*
 * Arm, or check what has been armed, of the @nr picks from @p on, all of one
 * process. Picks are given up if its mmap lock is contended: it is about to
 * change what is mapped, and must not wait for us.
 */
static void visit(struct hpl_pick *p, unsigned int nr, bool arming,
		  struct hpl_epoch *epoch)
{
	struct mm_struct *mm = p->hm->mm;
	unsigned int i;

	/* All of them are in the same state. */
	if ((!arming && p->state == HPL_PICK_NEW) || !mmget_not_zero(mm))
		return;
	if (!mmap_read_trylock(mm)) {
		count_vm_events(HPL_SAMPLE_DISCARDED, nr);
		goto out;
	}
	for (i = 0; i < nr; i++) {
		if (arming)
			arm(&p[i]);
		else
			check(&p[i], epoch);
		cond_resched();
	}
	/*
	 * Without a flush, pages whose translation stays cached would look idle:
	 * a hot set that fits the TLB would never be found.
	 */
	if (arming)
		flush_tlb_mm(mm);
	mmap_read_unlock(mm);
out:
	mmput_async(mm);
}

static void visit_all(unsigned int nr, bool arming, struct hpl_epoch *epoch)
{
	unsigned int i, n;

	for (i = 0; i < nr; i += n) {
		for (n = 1; i + n < nr && picks[i + n].hm == picks[i].hm; n++)
			;
		visit(&picks[i], n, arming, epoch);
	}
}

static void abit_collect(struct list_head *mms, struct hpl_epoch *epoch)
{
	unsigned int per_pass = min_t(unsigned int, HPL_PICKS_MAX,
				      epoch->nr_samples / HPL_PASSES);
	unsigned int rest_us = epoch->length_us / HPL_PASSES;
	unsigned int pass;
	u64 between_ns = 0;

	rest_us -= min(rest_us, epoch->interval_us);
	for (pass = 0; pass < HPL_PASSES && !kthread_should_stop(); pass++) {
		unsigned int nr = pick_all(mms, per_pass);
		u64 armed_ns;

		visit_all(nr, true, epoch);
		armed_ns = ktime_get_ns();
		hpl_sleep(epoch->interval_us);
		between_ns += ktime_get_ns() - armed_ns;
		visit_all(nr, false, epoch);
		hpl_sleep(rest_us);
	}
	epoch->measured_us = max_t(u64, epoch->interval_us,
				   div_u64(between_ns, HPL_PASSES *
						       NSEC_PER_USEC));
}

const struct hpl_source hpl_source_abit = {
	.name = "abit",
	.start = abit_start,
	.stop = abit_stop,
	.collect = abit_collect,
};
