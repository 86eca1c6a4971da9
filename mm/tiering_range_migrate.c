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
#include <linux/mmap_lock.h>
#include <linux/nodemask.h>
#include <linux/pagewalk.h>
#include <linux/oom.h>
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

/* Set to have the workers drop what they have not begun. */
static bool cancelled;

/**
 * struct hpl_batch - state of isolating pages of one move
 * @folios: isolated
 * @nr: number of @folios
 * @max: stop there
 * @nid: take only pages of this node
 * @target: where they are to go
 * @cpuset: nodes that the process may use at all
 * @policy: nodes that its memory policy permits where a VMA has none
 * @promote: direction, for the counters
 * @pmds: page tables still to be walked before a rest
 * @next: where the walk stopped
 */
struct hpl_batch {
	struct list_head folios;
	unsigned int nr;
	unsigned int max;
	int nid;
	int target;
	nodemask_t cpuset;
	nodemask_t policy;
	bool promote;
	unsigned int pmds;
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

/* Nodes to which pages under a policy may be moved. */
static nodemask_t policy_nodes(struct mempolicy *pol)
{
	if (!pol)
		return node_states[N_MEMORY];
	switch (pol->mode) {
	case MPOL_BIND:
	case MPOL_PREFERRED:
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
 * Learn what cpuset and memory policy of a process permit: of the first of its
 * threads, as its memory has one owner only. Nothing if there is no such
 * thread: rather move nothing than break the law.
 */
static void read_law(struct hpl_batch *b, struct hpl_mm *hm)
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
	bool fast = false, slow = false;
	nodemask_t allowed;
	int nid;

	if (!vma_is_anonymous(vma) ||
	    vma->vm_flags & (VM_IO | VM_PFNMAP | VM_HUGETLB | VM_LOCKED))
		return false;
	if (!vma->vm_policy)
		return true;
	allowed = policy_nodes(vma->vm_policy);
	for_each_node_mask(nid, allowed) {
		if (node_is_toptier(nid))
			fast = true;
		else
			slow = true;
	}
	return fast && slow;
}

/**
 * hpl_folio_movable - whether a folio may change tiers
 * @folio: mapped, and kept so by a page table lock that the caller holds
 *
 * Return: true for base pages of anonymous memory of one process. A folio that
 * several processes map has no one heat: moved after one, it would be moved
 * back after the other.
 */
bool hpl_folio_movable(struct folio *folio)
{
	return folio_test_anon(folio) && folio_test_swapbacked(folio) &&
	       !folio_test_large(folio) && !folio_test_ksm(folio) &&
	       !folio_test_mlocked(folio) && !folio_likely_mapped_shared(folio);
}

/* Return 1 to leave out a VMA. */
static int isolate_test(unsigned long start, unsigned long end,
			struct mm_walk *walk)
{
	struct vm_area_struct *vma = walk->vma;
	struct hpl_batch *b = walk->private;

	if (!hpl_vma_movable(vma))
		return 1;
	/* A VMA's own policy takes the place of that of its task. */
	if (node_isset(b->target, b->cpuset) &&
	    node_isset(b->target, vma->vm_policy ?
				  policy_nodes(vma->vm_policy) : b->policy))
		return 0;
	count_events(b, HPL_PROMOTE_FAILED_POLICY, 1);
	return 1;
}

static void isolate_folio(struct hpl_batch *b, struct folio *folio)
{
	if (!hpl_folio_movable(folio) || folio_test_swapcache(folio) ||
	    folio_test_writeback(folio)) {
		count_events(b, HPL_PROMOTE_FAILED_OTHER, 1);
	} else if (folio_maybe_dma_pinned(folio)) {
		count_events(b, HPL_PROMOTE_FAILED_PINNED, 1);
	} else if (!folio_isolate_lru(folio)) {
		count_events(b, HPL_PROMOTE_FAILED_ISOLATE, 1);
	} else {
		node_stat_add_folio(folio, NR_ISOLATED_ANON +
					   folio_is_file_lru(folio));
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
	return b->nr >= b->max || !--b->pmds ||
	       mmap_lock_is_contended(walk->mm);
}

static const struct mm_walk_ops isolate_ops = {
	.test_walk = isolate_test,
	.pmd_entry = isolate_pmd,
	.walk_lock = PGWALK_RDLOCK,
};

/*
 * Isolate pages of [start, end). The walk stops early when the batch is full or
 * the lock has been held for long, and does not begin if the process is dying
 * or changing its mappings; @b->next says where to go on.
 */
static void isolate(struct hpl_batch *b, struct mm_struct *mm,
		    unsigned long start, unsigned long end)
{
	b->next = end;
	b->pmds = HPL_BATCH_PMDS;
	if (!mmget_not_zero(mm))
		return;
	if (mmap_read_trylock(mm)) {
		if (!walk_page_range(mm, start, end, &isolate_ops, b))
			b->next = end;
		mmap_read_unlock(mm);
	}
	mmput_async(mm);
}

/* Migrate what has been isolated; returns 0, or -ENOMEM if the target is full. */
static int migrate_batch(struct hpl_batch *b, struct hpl_move *move)
{
	struct migration_target_control mtc = {
		.nid = b->target,
		/* Memory is moved where it is free: no reclaim, no other node. */
		.gfp_mask = (GFP_HIGHUSER_MOVABLE & ~__GFP_RECLAIM) |
			    __GFP_THISNODE | __GFP_NOMEMALLOC | __GFP_NOWARN,
		/* Not MR_DEMOTION: its folios do not count as isolated. */
		.reason = MR_NUMA_MISPLACED,
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

/* Free pages of a zone above its high watermark, so that kswapd sleeps on. */
static unsigned long zone_spare(struct zone *zone)
{
	unsigned long free = zone_page_state(zone, NR_FREE_PAGES);
	unsigned long keep = high_wmark_pages(zone) +
			     zone->lowmem_reserve[ZONE_MOVABLE];

	return free > keep ? free - keep : 0;
}

static unsigned long node_spare(int nid)
{
	struct pglist_data *pgdat = NODE_DATA(nid);
	unsigned long sum = 0;
	int i;

	for (i = 0; i < MAX_NR_ZONES; i++)
		if (managed_zone(&pgdat->node_zones[i]))
			sum += zone_spare(&pgdat->node_zones[i]);
	return sum;
}

/* The nearest fast node that has memory to spare and may be used. */
static int promotion_target(int nid, const nodemask_t *cpuset)
{
	int n, best = NUMA_NO_NODE;

	for_each_node_state(n, N_MEMORY)
		if (node_is_toptier(n) && node_isset(n, *cpuset) &&
		    node_spare(n) &&
		    (best == NUMA_NO_NODE ||
		     node_distance(nid, n) < node_distance(nid, best)))
			best = n;
	return best;
}

/*
 * Take up to a batch from what is left of @move; for promotion no more than the
 * target has to spare, as allocation alone would go down to the last reserve.
 */
static unsigned int claim(struct hpl_move *move, int target)
{
	long left = atomic_long_read(&move->nr_left), n;
	long most = HPL_BATCH_PAGES;

	if (move->promote)
		most = min_t(unsigned long, most, node_spare(target));
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
		if (READ_ONCE(cancelled))
			return -ECANCELED;
		b->target = move->promote ?
			    promotion_target(b->nid, &b->cpuset) :
			    next_demotion_node(b->nid);
		if (b->target == NUMA_NO_NODE)
			return -ENODEV;
		b->max = claim(move, b->target);
		if (!b->max)
			return 0;
		isolate(b, move->hm->mm, start, end);
		atomic_long_add(b->max - b->nr, &move->nr_left);
		start = b->next;
		err = migrate_batch(b, move);
		cond_resched();
	}
	return err;
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
	u64 pages = (move->end - move->start) >> PAGE_SHIFT;
	unsigned long from;
	int err;

	/* A random start, or the same few pages would be tried every time. */
	from = move->start + (mul_u64_u32_shr(pages, get_random_u32(), 32)
			      << PAGE_SHIFT);
	read_law(&b, move->hm);
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
	if (!nr)
		return 0;
	return migrate_tier(moves, nr, true) + migrate_tier(moves, nr, false);
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

/**
 * hpl_fast_free - free memory on fast nodes that promotion may use
 *
 * Return: pages above the high watermarks.
 */
unsigned long hpl_fast_free(void)
{
	unsigned long sum = 0;
	int nid;

	for_each_node_state(nid, N_MEMORY)
		if (node_is_toptier(nid))
			sum += node_spare(nid);
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
