// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: moving pages between tiers
 *
 * Each node has a worker thread that moves pages away from it. The main thread
 * has all fast nodes demote first, which makes room, and then all slow nodes
 * promote, so that the two never wait for each other.
 */
#include <linux/cpuset.h>
#include <linux/huge_mm.h>
#include <linux/kthread.h>
#include <linux/memory-tiers.h>
#include <linux/mempolicy.h>
#include <linux/migrate.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/mmap_lock.h>
#include <linux/nodemask.h>
#include <linux/pagewalk.h>
#include <linux/oom.h>
#include <linux/pid.h>
#include <linux/random.h>
#include <linux/sched/cputime.h>
#include <linux/swap.h>
#include <linux/vmstat.h>

#include <trace/events/tiering_range.h>

#include "internal.h"
#include "tiering_range_internal.h"
#include "tiering_range.h"
#include "tiering_range_migrate.h"

/*
 * Pages isolated at a time: shares a TLB flush among many, while hardly
 * anything is off the LRU that reclaim could miss. As many as migrate_pages()
 * takes at once; a huge page may come on top of them.
 */
#define HPL_BATCH_PAGES	512

/*
 * Page tables walked at a time, 64 MiB: bounds how long the mmap lock is held
 * where there is little to isolate.
 */
#define HPL_BATCH_PMDS	32

/**
 * struct hpl_node - the worker that moves pages away from a node
 * @worker: its thread, NULL until there is something to move
 * @work: queued once per call of hpl_migrate()
 * @nid: the node
 * @moves: what to do, valid while @work is queued or runs
 * @nr_moves: number of @moves
 * @spent_ns: CPU time of the last run of @work
 */
struct hpl_node {
	struct kthread_worker *worker;
	struct kthread_work work;
	int nid;
	struct hpl_move *moves;
	unsigned int nr_moves;
	u64 spent_ns;
};

/* By node id; made by hpl_migrate_start(). */
static struct hpl_node *nodes;

/*
 * Pages of the last plan that could not be promoted in exchange for others, and so
 * need free memory. Of the main thread.
 */
static unsigned long unpaired;

/* Set to have the workers drop what they have not begun. */
static bool cancelled;

/**
 * hpl_count_events - count an event of promotion, or its counterpart of demotion
 * @b: tells which
 * @item: that of promotion
 * @nr: how often
 */
void hpl_count_events(const struct hpl_batch *b, enum vm_event_item item,
		      long nr)
{
	const int offset = HPL_DEMOTE_SCANNED_ANON - HPL_PROMOTE_SCANNED_ANON;

	BUILD_BUG_ON(HPL_PROMOTE_FAILED_OTHER + offset !=
		     HPL_DEMOTE_FAILED_OTHER);
	if (nr)
		count_vm_events(b->promote ? item : item + offset, nr);
}

/**
 * hpl_count_pages - count pages apart by whether they are of files
 * @b: tells whether they are promoted
 * @item: the event of promotion for anonymous pages
 * @nr: all pages
 * @nr_file: of these, pages of files
 */
void hpl_count_pages(const struct hpl_batch *b, enum vm_event_item item,
		     long nr, long nr_file)
{
	BUILD_BUG_ON(HPL_PROMOTE_SCANNED_FILE - HPL_PROMOTE_SCANNED_ANON != 1);
	BUILD_BUG_ON(HPL_PROMOTE_TRIED_FILE - HPL_PROMOTE_TRIED_ANON != 1);
	BUILD_BUG_ON(HPL_PROMOTE_DONE_FILE - HPL_PROMOTE_DONE_ANON != 1);
	hpl_count_events(b, item, nr - nr_file);
	hpl_count_events(b, item + 1, nr_file);
}

/* Nodes to which pages under a policy may be moved. */
static nodemask_t policy_nodes(struct mempolicy *pol)
{
	if (!pol)
		return node_states[N_MEMORY];
	switch (pol->mode) {
	case MPOL_PREFERRED:
		/* Its owner may say that it is for a start only. */
		if (pol->flags & MPOL_F_NUMA_BALANCING)
			return node_states[N_MEMORY];
		return pol->nodes;
	case MPOL_BIND:
	case MPOL_PREFERRED_MANY:
		return pol->nodes;
	case MPOL_INTERLEAVE:
	case MPOL_WEIGHTED_INTERLEAVE:
		/* Any move would undo the spread that was asked for. */
		return NODE_MASK_NONE;
	default:
		return node_states[N_MEMORY];
	}
}

/*
 * Nodes to which the policy for the page at @addr permits to move it; @otherwise
 * where it has none but that of its task. A shared mapping's policy belongs to the
 * file, and may differ from page to page.
 */
static nodemask_t addr_nodes(struct vm_area_struct *vma, unsigned long addr,
			     const nodemask_t *otherwise)
{
	pgoff_t ilx;
	struct mempolicy *pol = __get_vma_policy(vma, addr, &ilx);
	nodemask_t nodes = pol ? policy_nodes(pol) : *otherwise;

	mpol_cond_put(pol);
	return nodes;
}

/**
 * hpl_read_law - learn what cpuset and memory policy of a process permit
 * @b: where to note it
 * @hm: the process
 *
 * Those of the first of its threads, as its memory has one owner only. Nothing
 * if there is no such thread: rather move nothing than break the law.
 */
void hpl_read_law(struct hpl_batch *b, struct hpl_mm *hm)
{
	struct task_struct *task, *leader;

	b->cpuset = NODE_MASK_NONE;
	leader = get_pid_task(hm->pid, PIDTYPE_TGID);
	if (!leader)
		return;
	rcu_read_lock();
	task = find_lock_task_mm(leader);
	if (task) {
		if (task->mm == hm->mm) {
			b->policy = policy_nodes(task->mempolicy);
			get_task_struct(task);
			task_unlock(task);
		} else {
			task_unlock(task);
			task = NULL;
		}
	}
	rcu_read_unlock();
	if (task) {
		b->cpuset = cpuset_mems_allowed(task);
		put_task_struct(task);
	}
	put_task_struct(leader);
}

/**
 * hpl_vma_movable - whether pages of a VMA may change tiers
 * @vma: the VMA
 *
 * Context: the mmap lock is held.
 *
 * Return: false if its kind, mlock() or its memory policy forbid it.
 */
bool hpl_vma_movable(struct vm_area_struct *vma)
{
	nodemask_t allowed;

	if ((!vma_is_anonymous(vma) && !vma->vm_file) ||
	    vma->vm_flags & (VM_HUGETLB | VM_LOCKED) || !vma_migratable(vma))
		return false;
	allowed = addr_nodes(vma, vma->vm_start, &node_states[N_MEMORY]);
	return hpl_span_tiers(&allowed);
}

/**
 * hpl_folio_movable - whether a folio may change tiers
 * @folio: mapped; the caller holds its lock, or that of the page table
 *
 * Return: true for anonymous memory and pages of files, huge or not, that one
 * process maps. A folio that several processes map has no one heat: moved after
 * one, it would be moved back after the other. A huge page of which parts have
 * been unmapped waits to be split.
 */
bool hpl_folio_movable(struct folio *folio)
{
	if (folio_test_hugetlb(folio) || folio_is_zone_device(folio) ||
	    folio_test_mlocked(folio) || folio_test_unevictable(folio) ||
	    folio_likely_mapped_shared(folio))
		return false;
	if (folio_test_large(folio) && folio_test_partially_mapped(folio))
		return false;
	if (!folio_test_anon(folio))
		return folio->mapping;
	return folio_test_swapbacked(folio) && !folio_test_ksm(folio);
}

/* Return 1 to leave out a VMA. */
static int isolate_test(unsigned long start, unsigned long end,
			struct mm_walk *walk)
{
	struct vm_area_struct *vma = walk->vma;
	struct hpl_batch *b = walk->private;

	if (!hpl_vma_movable(vma))
		return 1;
	if (node_isset(b->target, b->cpuset) &&
	    node_isset(b->target, addr_nodes(vma, start, &b->policy)))
		return 0;
	hpl_count_events(b, HPL_PROMOTE_FAILED_POLICY, 1);
	return 1;
}

/* Isolate @folio, or count why not. */
static void isolate_folio(struct hpl_batch *b, struct folio *folio)
{
	long nr = folio_nr_pages(folio);

	if (!hpl_folio_movable(folio) || folio_test_swapcache(folio) ||
	    folio_test_writeback(folio)) {
		hpl_count_events(b, HPL_PROMOTE_FAILED_OTHER, nr);
	} else if (folio_maybe_dma_pinned(folio)) {
		hpl_count_events(b, HPL_PROMOTE_FAILED_PINNED, nr);
	} else if (nr > 1 && b->promote &&
		   hpl_node_spare(b->target) < b->nr + nr) {
		/* It would be split for want of memory, not of a huge page. */
		hpl_count_events(b, HPL_PROMOTE_FAILED_NOMEM, nr);
	} else if (!folio_isolate_lru(folio)) {
		hpl_count_events(b, HPL_PROMOTE_FAILED_ISOLATE, nr);
	} else {
		node_stat_add_folio(folio, NR_ISOLATED_ANON +
					   folio_is_file_lru(folio));
		list_add_tail(&folio->lru, &b->folios);
		b->nr += nr;
		if (!folio_test_anon(folio))
			b->nr_file += nr;
	}
}

/* Look at @folio, of which @nr pages are mapped at @addr. */
static void look_at(struct hpl_batch *b, struct vm_area_struct *vma,
		    unsigned long addr, struct folio *folio, long nr)
{
	if (b->exchange &&
	    (!folio_test_anon(folio) || folio_test_large(folio))) {
		if (folio_nid(folio) == b->nid)
			b->nr_unfit += nr;
		return;
	}
	/* Heat of one page is not that of hundreds. */
	if (b->alone && folio_test_large(folio))
		return;
	hpl_count_pages(b, HPL_PROMOTE_SCANNED_ANON, nr,
			folio_test_anon(folio) ? 0 : nr);
	/* Of a large folio, many page table entries may come by. */
	if (folio_nid(folio) != b->nid || folio == b->last)
		return;
	b->last = folio;
	if (!folio_test_anon(folio) &&
	    !node_isset(b->target, addr_nodes(vma, addr, &b->policy)))
		hpl_count_events(b, HPL_PROMOTE_FAILED_POLICY, 1);
	else
		isolate_folio(b, folio);
}

/* Returns false if @pmd is no huge page and may have a page table. */
static bool isolate_huge(struct hpl_batch *b, struct vm_area_struct *vma,
			 pmd_t *pmd, unsigned long addr, unsigned long end)
{
	spinlock_t *ptl = pmd_trans_huge_lock(pmd, vma);
	struct folio *folio = NULL;

	if (!ptl)
		return false;
	if (pmd_present(*pmd))
		folio = vm_normal_folio_pmd(vma, addr, *pmd);
	if (folio)
		look_at(b, vma, addr, folio, (end - addr) >> PAGE_SHIFT);
	spin_unlock(ptl);
	return true;
}

static void isolate_ptes(struct hpl_batch *b, struct vm_area_struct *vma,
			 pmd_t *pmd, unsigned long addr, unsigned long end)
{
	pte_t *start, *pte;
	spinlock_t *ptl; /* of the page table, protects its entries */

	start = pte_offset_map_lock(vma->vm_mm, pmd, addr, &ptl);
	if (!start)
		return;
	pte = start;
	for (; addr < end && b->nr < b->max; pte++, addr += PAGE_SIZE) {
		pte_t ent = ptep_get(pte);
		struct folio *folio = NULL;

		if (pte_present(ent))
			folio = vm_normal_folio(vma, addr, ent);
		if (folio && b->owner < HPL_OWNERS &&
		    folio_nid(folio) == b->nid &&
		    hpl_sketch_seen(&hpl_sketch, b->owner, addr))
			folio = NULL;
		if (folio)
			look_at(b, vma, addr, folio, 1);
	}
	pte_unmap_unlock(start, ptl);
	b->next = addr;
}

static int isolate_pmd(pmd_t *pmd, unsigned long addr, unsigned long end,
		       struct mm_walk *walk)
{
	struct hpl_batch *b = walk->private;

	b->last = NULL;
	b->next = end;
	if (!isolate_huge(b, walk->vma, pmd, addr, end))
		isolate_ptes(b, walk->vma, pmd, addr, end);
	cond_resched();
	return b->nr >= b->max || !--b->pmds ||
	       mmap_lock_is_contended(walk->mm);
}

static const struct mm_walk_ops isolate_ops = {
	.test_walk = isolate_test,
	.pmd_entry = isolate_pmd,
	.walk_lock = PGWALK_RDLOCK,
};

/* Those pages of @move alone that are in [start, end). */
static void isolate_spots(struct hpl_batch *b, const struct hpl_move *move,
			  unsigned long start, unsigned long end)
{
	unsigned int i;

	for (i = 0; i < move->nr_spots; i++) {
		unsigned long addr = move->spots[i].addr;

		if (addr < start || addr >= end)
			continue;
		b->pmds = HPL_BATCH_PMDS;
		walk_page_range(move->hm->mm, addr, addr + PAGE_SIZE,
				&isolate_ops, b);
		if (b->nr >= b->max || mmap_lock_is_contended(move->hm->mm)) {
			b->next = addr + PAGE_SIZE;
			return;
		}
	}
	b->next = end;
}

/**
 * hpl_isolate - isolate pages of a range
 * @b: where to; its next says where to go on
 * @move: whose, and which if not all
 * @start: first byte
 * @end: first byte after it
 *
 * The walk stops early when the batch is full or the lock has been held for
 * long, and does not begin if the process is dying or changing its mappings.
 */
void hpl_isolate(struct hpl_batch *b, const struct hpl_move *move,
		 unsigned long start, unsigned long end)
{
	struct mm_struct *mm = move->hm->mm;

	b->next = end;
	b->pmds = HPL_BATCH_PMDS;
	b->alone = move->nr_spots;
	b->owner = move->promote || move->all ? HPL_OWNERS : move->hm->owner;
	if (!hpl_mm_managed(mm) || !hpl_mm_trylock(mm))
		return;
	if (move->nr_spots)
		isolate_spots(b, move, start, end);
	else if (!walk_page_range(mm, start, end, &isolate_ops, b))
		b->next = end;
	mmap_read_unlock(mm);
}

/* A page of the size of @src on the target; NULL if there is none free. */
static struct folio *alloc_target(struct folio *src, unsigned long private)
{
	struct hpl_batch *b = (struct hpl_batch *)private;
	/* Memory is moved where it is free: no reclaim, no other node. */
	const gfp_t gfp = (GFP_HIGHUSER_MOVABLE & ~__GFP_RECLAIM) |
			  __GFP_THISNODE | __GFP_NOMEMALLOC | __GFP_NOWARN;
	struct folio *dst = NULL;

	/* Allocation alone would go down to the last reserve. */
	if (!b->promote || hpl_node_spare(b->target) >= folio_nr_pages(src))
		dst = __folio_alloc_node(gfp, folio_order(src), b->target);
	if (!dst)
		b->full = true;
	return dst;
}

/*
 * Migrate what has been isolated, split if there are no free huge pages; returns
 * 0, or -ENOMEM if the target is full.
 */
static int migrate_batch(struct hpl_batch *b, struct hpl_move *move)
{
	unsigned int left = 0, left_file = 0, pinned = 0, done;
	struct folio *folio;

	if (!b->nr)
		return 0;
	hpl_count_pages(b, HPL_PROMOTE_TRIED_ANON, b->nr, b->nr_file);
	b->full = false;
	/*
	 * Not MR_DEMOTION, whose folios do not count as isolated, and not
	 * MR_NUMA_MISPLACED, whose folios are not split.
	 */
	migrate_pages(&b->folios, alloc_target, NULL, (unsigned long)b,
		      MIGRATE_ASYNC, MR_SYSCALL, NULL);
	list_for_each_entry(folio, &b->folios, lru) {
		left += folio_nr_pages(folio);
		if (!folio_test_anon(folio))
			left_file += folio_nr_pages(folio);
		if (folio_maybe_dma_pinned(folio))
			pinned += folio_nr_pages(folio);
	}
	done = b->nr - left;
	hpl_count_pages(b, HPL_PROMOTE_DONE_ANON, done, b->nr_file - left_file);
	hpl_count_events(b, HPL_PROMOTE_FAILED_PINNED, pinned);
	hpl_count_events(b, b->full ? HPL_PROMOTE_FAILED_NOMEM :
		     HPL_PROMOTE_FAILED_BUSY, left - pinned);
	putback_movable_pages(&b->folios);
	trace_hpl_move(pid_nr(move->hm->pid), move->start, move->end, b->nid,
		       b->target, b->nr, done);

	atomic_long_add(done, &move->nr_done);
	atomic_long_add(left, &move->nr_left);
	b->nr = 0;
	b->nr_file = 0;
	return b->full && left > pinned ? -ENOMEM : 0;
}

/* The nearest fast node that has memory to spare and may be used. */
static int promotion_target(int nid, const nodemask_t *cpuset)
{
	int n, best = NUMA_NO_NODE;

	for_each_node_state(n, N_MEMORY)
		if (node_is_toptier(n) && node_isset(n, *cpuset) &&
		    hpl_node_spare(n) &&
		    (best == NUMA_NO_NODE ||
		     node_distance(nid, n) < node_distance(nid, best)))
			best = n;
	return best;
}

/*
 * Take up to a batch from what is left of @move; for promotion no more than the
 * target has to spare.
 */
static unsigned int claim(struct hpl_move *move, int target)
{
	long left = atomic_long_read(&move->nr_left), n;
	long most = HPL_BATCH_PAGES;

	if (move->promote)
		most = min_t(unsigned long, most, hpl_node_spare(target));
	do {
		n = clamp(left, 0L, most);
	} while (n && !atomic_long_try_cmpxchg(&move->nr_left, &left, left - n));
	return n;
}

/* Returns 0, or an error if it is in vain to go on, with this range or others. */
static int move_part(struct hpl_batch *b, struct hpl_move *move,
		     unsigned long start, unsigned long end)
{
	int err = 0;

	while (start < end && !err) {
		if (hpl_cancelled())
			return -ECANCELED;
		b->target = move->promote ?
			    promotion_target(b->nid, &b->cpuset) :
			    next_demotion_node(b->nid);
		if (b->target == NUMA_NO_NODE)
			return -ENODEV;
		b->max = claim(move, b->target);
		if (!b->max)
			return 0;
		hpl_isolate(b, move, start, end);
		/* Less than none if the last of them was a huge page. */
		atomic_long_add((long)b->max - b->nr, &move->nr_left);
		start = b->next;
		err = migrate_batch(b, move);
		cond_resched();
	}
	return err;
}

/**
 * hpl_random_page - where to begin with a range
 * @start: its first byte
 * @end: first byte after it
 *
 * If it were always the start, the same few pages would be tried every time.
 *
 * Return: the address of one of its pages.
 */
unsigned long hpl_random_page(unsigned long start, unsigned long end)
{
	u64 pages = (end - start) >> PAGE_SHIFT;

	return start + (mul_u64_u32_shr(pages, get_random_u32(), 32)
			<< PAGE_SHIFT);
}

/**
 * hpl_cancelled - whether moves are to end early
 *
 * Return: true between hpl_migrate_cancel() and hpl_migrate_start().
 */
bool hpl_cancelled(void)
{
	return READ_ONCE(cancelled);
}

/**
 * hpl_move_range - move pages of one range away from one node
 * @nid: the node
 * @move: what to move, and where to; how it went is filled in
 *
 * Context: sleeps. Only one thread at a time moves pages away from a node.
 *
 * Return: 0, or an error if there is no use in trying other ranges.
 */
int hpl_move_range(int nid, struct hpl_move *move)
{
	struct hpl_batch b = {
		.folios = LIST_HEAD_INIT(b.folios),
		.nid = nid,
		.promote = move->promote,
	};
	unsigned long from = hpl_random_page(move->start, move->end);
	int err;

	hpl_read_law(&b, move->hm);
	err = move_part(&b, move, from, move->end);
	return err ?: move_part(&b, move, move->start, from);
}

static void node_work(struct kthread_work *work)
{
	struct hpl_node *node = container_of(work, struct hpl_node, work);
	u64 begin = task_sched_runtime(current);
	unsigned int i;

	lru_add_drain();
	for (i = 0; i < node->nr_moves; i++)
		if (node->moves[i].promote != node_is_toptier(node->nid))
			hpl_move_range(node->nid, &node->moves[i]);
	node->spent_ns = task_sched_runtime(current) - begin;
	count_vm_events(HPL_MIGRATE_NS, node->spent_ns);
}

static int node_start(int nid)
{
	struct hpl_node *node = &nodes[nid];
	struct kthread_worker *worker;

	if (node->worker)
		return 0;
	worker = kthread_create_worker(0, "khplmig/%d", nid);
	if (IS_ERR(worker))
		return PTR_ERR(worker);
	node->nid = nid;
	kthread_init_work(&node->work, node_work);
	node->worker = worker;
	return 0;
}

/* Have all fast, or all slow, nodes do their part of @moves. */
static u64 migrate_tier(struct hpl_move *moves, unsigned int nr, bool fast)
{
	nodemask_t busy = NODE_MASK_NONE;
	u64 spent = 0;
	int nid;

	for_each_node_state(nid, N_MEMORY) {
		if (node_is_toptier(nid) != fast || node_start(nid))
			continue;
		nodes[nid].moves = moves;
		nodes[nid].nr_moves = nr;
		kthread_queue_work(nodes[nid].worker, &nodes[nid].work);
		node_set(nid, busy);
	}
	for_each_node_mask(nid, busy) {
		kthread_flush_work(&nodes[nid].work);
		spent += nodes[nid].spent_ns;
	}
	return spent;
}

/**
 * hpl_migrate - carry out a plan
 * @moves: what to move; how it went is filled in
 * @nr: number of @moves
 *
 * Context: the main thread; sleeps until all is done.
 *
 * Return: CPU time spent, in ns.
 */
u64 hpl_migrate(struct hpl_move *moves, unsigned int nr)
{
	u64 begin = task_sched_runtime(current), spent;

	if (!nr)
		return 0;
	unpaired = READ_ONCE(hpl_knobs.exchange) ? hpl_exchange(moves, nr) :
						   ULONG_MAX;
	spent = task_sched_runtime(current) - begin;
	count_vm_events(HPL_MIGRATE_NS, spent);
	/* And what had no partner. */
	return spent + migrate_tier(moves, nr, true) +
	       migrate_tier(moves, nr, false);
}

/**
 * hpl_migrate_unpaired - how much is promoted other than in exchange
 *
 * Context: the main thread.
 *
 * Return: pages of the last plan that needed free memory; ULONG_MAX if all do.
 */
unsigned long hpl_migrate_unpaired(void)
{
	return unpaired;
}

/**
 * hpl_migrate_start - get ready
 *
 * Return: 0 or -ENOMEM.
 */
int hpl_migrate_start(void)
{
	nodes = kvcalloc(nr_node_ids, sizeof(*nodes), GFP_KERNEL);
	WRITE_ONCE(cancelled, false);
	unpaired = READ_ONCE(hpl_knobs.exchange) ? 0 : ULONG_MAX;
	return nodes ? 0 : -ENOMEM;
}

/**
 * hpl_migrate_cancel - have a hpl_migrate() that is under way return soon
 *
 * Holds until the next hpl_migrate_start().
 */
void hpl_migrate_cancel(void)
{
	WRITE_ONCE(cancelled, true);
}

/**
 * hpl_migrate_stop - end all workers
 *
 * Context: after the main thread has ended.
 */
void hpl_migrate_stop(void)
{
	int nid;

	for (nid = 0; nid < nr_node_ids; nid++)
		if (nodes[nid].worker)
			kthread_destroy_worker(nodes[nid].worker);
	kvfree(nodes);
	nodes = NULL;
}
