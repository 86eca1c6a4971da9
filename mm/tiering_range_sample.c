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
 * struct hpl_pick - a page being sampled
 * @hm: whose; picks of one process are consecutive
 * @addr: where, page aligned
 * @armed: its accessed bit has been cleared
 */
struct hpl_pick {
	struct hpl_mm *hm;
	unsigned long addr;
	bool armed;
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
			to[n++] = (struct hpl_pick){ hm, random_addr(r), false };
	}
	return n;
}

/* Choose @nr pages, processes by their resident memory; returns how many. */
static unsigned int pick_all(struct list_head *mms, unsigned int nr)
{
	unsigned long total = 0, share = 0;
	struct hpl_mm *hm;
	unsigned int n = 0;

	list_for_each_entry(hm, mms, list)
		total += hm->rss;
	if (!total)
		return 0;
	list_for_each_entry(hm, mms, list) {
		share += hm->rss * nr;
		n += pick_pages(hm, picks + n, min(share / total,
						   (unsigned long)nr - n));
		share %= total;
	}
	return n;
}

static bool entry_young(const struct folio_walk *fw)
{
	if (fw->level == FW_LEVEL_PTE)
		return pte_young(fw->pte);
	if (fw->level == FW_LEVEL_PMD)
		return pmd_young(fw->pmd);
	return false;
}

static void entry_make_old(struct folio_walk *fw, struct folio *folio,
			   struct vm_area_struct *vma, unsigned long addr)
{
	bool young = false;

	if (fw->level == FW_LEVEL_PTE)
		young = ptep_clear_young_notify(vma, addr, fw->ptep);
	else if (fw->level == FW_LEVEL_PMD)
		young = pmdp_clear_young_notify(vma, addr & PMD_MASK, fw->pmdp);
	/* Idle page tracking must not miss an access because of us. */
	if (young)
		folio_set_young(folio);
}

static void count(struct hpl_pick *p, bool seen, bool hit, bool fast,
		  struct hpl_epoch *epoch)
{
	struct hpl_range *r = hpl_tree_find(&p->hm->tree, p->addr);

	if (r)
		hpl_range_count(r, p->addr, seen, hit, fast);
	epoch->nr_samples++;
	epoch->seen += seen;
	epoch->hit += hit;
}

static void arm(struct hpl_pick *p, struct hpl_epoch *epoch)
{
	struct mm_struct *mm = p->hm->mm;
	struct vm_area_struct *vma = vma_lookup(mm, p->addr);
	struct folio_walk fw;
	struct folio *folio;

	folio = vma ? folio_walk_start(&fw, vma, p->addr, 0) : NULL;
	if (!folio) {
		count(p, false, false, false, epoch);
		return;
	}
	entry_make_old(&fw, folio, vma, p->addr);
	folio_walk_end(&fw, vma);
	p->armed = true;
}

static void check(struct hpl_pick *p, struct hpl_epoch *epoch)
{
	struct mm_struct *mm = p->hm->mm;
	struct vm_area_struct *vma = vma_lookup(mm, p->addr);
	bool hit = false, fast = false;
	struct folio_walk fw;
	struct folio *folio;

	folio = vma ? folio_walk_start(&fw, vma, p->addr, 0) : NULL;
	if (folio) {
		hit = entry_young(&fw) || mmu_notifier_test_young(mm, p->addr);
		fast = node_is_toptier(folio_nid(folio));
		folio_walk_end(&fw, vma);
	}
	count(p, folio, hit, fast, epoch);
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

	if (!mmget_not_zero(mm))
		return;
	if (!mmap_read_trylock(mm)) {
		count_vm_events(HPL_SAMPLE_DISCARDED, nr);
		goto out;
	}
	for (i = 0; i < nr; i++) {
		if (arming)
			arm(&p[i], epoch);
		else if (p[i].armed)
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

	rest_us -= min(rest_us, epoch->interval_us);
	epoch->nr_samples = 0;
	for (pass = 0; pass < HPL_PASSES && !kthread_should_stop(); pass++) {
		unsigned int nr = pick_all(mms, per_pass);

		visit_all(nr, true, epoch);
		hpl_sleep(epoch->interval_us);
		visit_all(nr, false, epoch);
		hpl_sleep(rest_us);
	}
	count_vm_events(HPL_SAMPLE_ABIT, epoch->nr_samples);
}

const struct hpl_source hpl_source_abit = {
	.name = "abit",
	.start = abit_start,
	.stop = abit_stop,
	.collect = abit_collect,
};
