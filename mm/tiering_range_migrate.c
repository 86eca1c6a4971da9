// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: moving pages between tiers
 *
 * Each node has a worker thread that moves pages away from it. The main thread
 * has all fast nodes demote first, which makes room, and then all slow nodes
 * promote, so that the two never wait for each other.
 */
#include <linux/cpuset.h>
#include <linux/kthread.h>
#include <linux/memory-tiers.h>
#include <linux/mempolicy.h>
#include <linux/migrate.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/nodemask.h>
#include <linux/pagewalk.h>
#include <linux/pid.h>
#include <linux/random.h>
#include <linux/sched/cputime.h>
#include <linux/sched/mm.h>
#include <linux/swap.h>
#include <linux/vmstat.h>

#include <trace/events/tiering_range.h>

#include "internal.h"
#include "tiering_range_internal.h"
#include "tiering_range.h"

/*
 * Pages isolated at a time: shares a TLB flush among many, while hardly
 * anything is off the LRU that reclaim could miss.
 */
#define HPL_BATCH_PAGES	256

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

static struct hpl_node nodes[MAX_NUMNODES];

/**
 * struct hpl_batch - state of isolating pages of one move
 * @folios: isolated
 * @nr: number of @folios
 * @max: stop there
 * @nid: take only pages of this node
 * @target: where they are to go
 * @allowed: nodes that the process may use
 * @promote: direction, for the counters
 * @next: where the walk stopped
 */
struct hpl_batch {
	struct list_head folios;
	unsigned int nr;
	unsigned int max;
	int nid;
	int target;
	nodemask_t allowed;
	bool promote;
	unsigned long next;
};

/* Count an event of promotion, or its counterpart of demotion. */
static void count_events(const struct hpl_batch *b, enum vm_event_item item,
			 long nr)
{
	const int offset = HPL_DEMOTE_SCANNED_ANON - HPL_PROMOTE_SCANNED_ANON;

	BUILD_BUG_ON(HPL_PROMOTE_FAILED_OTHER + offset !=
		     HPL_DEMOTE_FAILED_OTHER);
	if (nr)
		count_vm_events(b->promote ? item : item + offset, nr);
}

/* Nodes that a policy permits. */
static void policy_nodes(struct mempolicy *pol, nodemask_t *allowed)
{
	if (!pol)
		return;
	switch (pol->mode) {
	case MPOL_BIND:
	case MPOL_PREFERRED:
	case MPOL_PREFERRED_MANY:
	case MPOL_INTERLEAVE:
	case MPOL_WEIGHTED_INTERLEAVE:
		nodes_and(*allowed, *allowed, pol->nodes);
		break;
	}
}

/*
 * Nodes that cpuset and memory policy of a process permit. None if its task
 * cannot be found: rather move nothing than break the law.
 */
static nodemask_t allowed_nodes(struct hpl_mm *hm)
{
	nodemask_t allowed = NODE_MASK_NONE;
	struct task_struct *task = get_pid_task(hm->pid, PIDTYPE_TGID);

	if (!task)
		return allowed;
	if (READ_ONCE(task->mm) == hm->mm) {
		allowed = cpuset_mems_allowed(task);
		task_lock(task);
		policy_nodes(task->mempolicy, &allowed);
		task_unlock(task);
	}
	put_task_struct(task);
	return allowed;
}

/* Return 1 to leave out a VMA. */
static int isolate_test(unsigned long start, unsigned long end,
			struct mm_walk *walk)
{
	struct vm_area_struct *vma = walk->vma;
	struct hpl_batch *b = walk->private;
	nodemask_t allowed = b->allowed;

	if (!vma_is_anonymous(vma) || vma->vm_flags & (VM_IO | VM_PFNMAP))
		return 1;
	/* A VMA's own policy takes the place of that of its task. */
	if (vma->vm_policy) {
		allowed = node_states[N_MEMORY];
		policy_nodes(vma->vm_policy, &allowed);
	}
	if (node_isset(b->target, allowed))
		return 0;
	count_events(b, HPL_PROMOTE_FAILED_POLICY, 1);
	return 1;
}

static void isolate_folio(struct hpl_batch *b, struct folio *folio)
{
	if (folio_test_large(folio) || folio_test_ksm(folio) ||
	    folio_test_mlocked(folio) || folio_test_swapcache(folio) ||
	    folio_test_writeback(folio)) {
		count_events(b, HPL_PROMOTE_FAILED_OTHER, 1);
	} else if (folio_maybe_dma_pinned(folio)) {
		count_events(b, HPL_PROMOTE_FAILED_PINNED, 1);
	} else if (!folio_isolate_lru(folio)) {
		count_events(b, HPL_PROMOTE_FAILED_ISOLATE, 1);
	} else {
		node_stat_add_folio(folio, NR_ISOLATED_ANON);
		list_add_tail(&folio->lru, &b->folios);
		b->nr++;
	}
}

static int isolate_pmd(pmd_t *pmd, unsigned long addr, unsigned long end,
		       struct mm_walk *walk)
{
	struct hpl_batch *b = walk->private;
	unsigned long scanned = 0;
	pte_t *start, *pte;
	spinlock_t *ptl; /* of the page table, protects its entries */

	start = pte_offset_map_lock(walk->mm, pmd, addr, &ptl);
	if (!start)
		return 0;
	pte = start;
	for (; addr < end && b->nr < b->max; pte++, addr += PAGE_SIZE) {
		pte_t ent = ptep_get(pte);
		struct folio *folio;

		if (!pte_present(ent))
			continue;
		folio = vm_normal_folio(walk->vma, addr, ent);
		if (!folio || !folio_test_anon(folio))
			continue;
		scanned++;
		if (folio_nid(folio) == b->nid)
			isolate_folio(b, folio);
	}
	pte_unmap_unlock(start, ptl);
	count_events(b, HPL_PROMOTE_SCANNED_ANON, scanned);
	b->next = addr;
	cond_resched();
	return b->nr >= b->max;
}

static const struct mm_walk_ops isolate_ops = {
	.test_walk = isolate_test,
	.pmd_entry = isolate_pmd,
	.walk_lock = PGWALK_RDLOCK,
};

/*
 * Isolate pages of [start, end). Returns true if all of it was walked; false
 * if the batch is full, or the process is dying or changing its mappings.
 */
static bool isolate(struct hpl_batch *b, struct mm_struct *mm,
		    unsigned long start, unsigned long end)
{
	bool walked = false;

	b->next = end;
	if (!mmget_not_zero(mm))
		return false;
	if (mmap_read_trylock(mm)) {
		walked = !walk_page_range(mm, start, end, &isolate_ops, b);
		mmap_read_unlock(mm);
	}
	mmput_async(mm);
	return walked;
}

/* Migrate what has been isolated; returns 0, or -ENOMEM if the target is full. */
static int migrate_batch(struct hpl_batch *b, struct hpl_move *move)
{
	struct migration_target_control mtc = {
		.nid = b->target,
		/* Memory is moved where it is free: no reclaim, no other node. */
		.gfp_mask = (GFP_HIGHUSER_MOVABLE & ~__GFP_RECLAIM) |
			    __GFP_THISNODE | __GFP_NOMEMALLOC | __GFP_NOWARN,
		.reason = b->promote ? MR_NUMA_MISPLACED : MR_DEMOTION,
	};
	unsigned int done = 0, pinned = 0, busy = 0;
	struct folio *folio;
	int err;

	if (!b->nr)
		return 0;
	count_events(b, HPL_PROMOTE_TRIED_ANON, b->nr);
	err = migrate_pages(&b->folios, alloc_migration_target, NULL,
			    (unsigned long)&mtc, MIGRATE_ASYNC, mtc.reason,
			    &done);
	list_for_each_entry(folio, &b->folios, lru) {
		if (folio_maybe_dma_pinned(folio))
			pinned++;
		else
			busy++;
	}
	count_events(b, HPL_PROMOTE_DONE_ANON, done);
	count_events(b, HPL_PROMOTE_FAILED_PINNED, pinned);
	count_events(b, err == -ENOMEM ? HPL_PROMOTE_FAILED_NOMEM :
		     HPL_PROMOTE_FAILED_BUSY, busy);
	putback_movable_pages(&b->folios);
	trace_hpl_move(pid_nr(move->hm->pid), move->start, move->end, b->nid,
		       b->target, b->nr, done);

	atomic_long_add(done, &move->nr_done);
	atomic_long_add((long)b->nr - done, &move->nr_left);
	b->nr = 0;
	return err == -ENOMEM ? err : 0;
}

/* Take up to a batch from what is left of @move. */
static unsigned int claim(struct hpl_move *move)
{
	long left = atomic_long_read(&move->nr_left), n;

	do {
		n = clamp(left, 0L, (long)HPL_BATCH_PAGES);
	} while (n && !atomic_long_try_cmpxchg(&move->nr_left, &left, left - n));
	return n;
}

/* Returns true if [start, end) was looked at to its end. */
static bool move_part(struct hpl_batch *b, struct hpl_move *move,
		      unsigned long start, unsigned long end)
{
	bool walked = start >= end;

	while (!walked && start < end) {
		int err;

		b->max = claim(move);
		if (!b->max)
			return false;
		walked = isolate(b, move->hm->mm, start, end);
		atomic_long_add(b->max - b->nr, &move->nr_left);
		start = b->next;
		err = migrate_batch(b, move);
		if (err)
			return false;
		cond_resched();
	}
	return walked;
}

static int nearest_fast_node(int nid)
{
	int n, best = NUMA_NO_NODE;

	for_each_node_state(n, N_MEMORY)
		if (node_is_toptier(n) &&
		    (best == NUMA_NO_NODE ||
		     node_distance(nid, n) < node_distance(nid, best)))
			best = n;
	return best;
}

static void move_range(struct hpl_node *node, struct hpl_move *move)
{
	struct hpl_batch b = {
		.folios = LIST_HEAD_INIT(b.folios),
		.nid = node->nid,
		.target = move->promote ? nearest_fast_node(node->nid) :
					  next_demotion_node(node->nid),
		.promote = move->promote,
	};
	u64 pages = (move->end - move->start) >> PAGE_SHIFT;
	unsigned long from;
	bool walked;

	if (b.target == NUMA_NO_NODE)
		return;
	b.allowed = allowed_nodes(move->hm);

	/* A random start, or the same few pages would be tried every time. */
	from = move->start + (mul_u64_u32_shr(pages, get_random_u32(), 32)
			      << PAGE_SHIFT);
	walked = move_part(&b, move, from, move->end);
	if (move_part(&b, move, move->start, from) && walked)
		WRITE_ONCE(move->exhausted, true);
}

static void node_work(struct kthread_work *work)
{
	struct hpl_node *node = container_of(work, struct hpl_node, work);
	u64 begin = task_sched_runtime(current);
	unsigned int i;

	lru_add_drain();
	for (i = 0; i < node->nr_moves; i++)
		if (node->moves[i].promote != node_is_toptier(node->nid))
			move_range(node, &node->moves[i]);
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
	if (!nr)
		return 0;
	return migrate_tier(moves, nr, true) + migrate_tier(moves, nr, false);
}

/**
 * hpl_migrate_stop - end all workers
 *
 * Context: after the main thread has ended.
 */
void hpl_migrate_stop(void)
{
	int nid;

	for (nid = 0; nid < MAX_NUMNODES; nid++) {
		if (nodes[nid].worker)
			kthread_destroy_worker(nodes[nid].worker);
		nodes[nid].worker = NULL;
	}
}

/**
 * hpl_fast_free - free memory on fast nodes that promotion may use
 *
 * Return: pages above the high watermarks, so that kswapd stays asleep.
 */
unsigned long hpl_fast_free(void)
{
	unsigned long sum = 0;
	struct zone *zone;

	for_each_populated_zone(zone) {
		unsigned long free, keep;

		if (!node_is_toptier(zone_to_nid(zone)))
			continue;
		free = zone_page_state(zone, NR_FREE_PAGES);
		keep = high_wmark_pages(zone) +
		       zone->lowmem_reserve[ZONE_MOVABLE];
		sum += free > keep ? free - keep : 0;
	}
	return sum;
}

/**
 * hpl_have_tiers - whether there is anything to place
 *
 * Return: true if there are nodes with memory in the top tier and below it.
 */
bool hpl_have_tiers(void)
{
	bool fast = false, slow = false;
	int nid;

	for_each_node_state(nid, N_MEMORY) {
		if (node_is_toptier(nid))
			fast = true;
		else
			slow = true;
	}
	return fast && slow;
}
