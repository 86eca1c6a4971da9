// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: lifecycle, registration of address spaces, the epoch
 *
 * One kernel thread, khplaced, owns all range trees. Once per epoch it looks
 * for new and dead processes, takes samples, adapts the trees, decides what to
 * move and has the workers of the nodes move it. It holds a lock all the while,
 * but not in its sleep; then others may ask for a node's coldest memory to be
 * demoted. Processes need no hook, as an address space is found by walking the
 * task list and let go when its last user has gone.
 */
#define pr_fmt(fmt) "hplacement: " fmt

#include <linux/export.h>
#include <linux/freezer.h>
#include <linux/init.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/memory-tiers.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/oom.h>
#include <linux/pid.h>
#include <linux/sched/cputime.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/swap.h>
#include <linux/tiering_demote.h>
#include <linux/tiering_optout.h>
#include <linux/vmstat.h>
#include <linux/xarray.h>

#include <uapi/linux/tiering_range.h>

#include "tiering_range_internal.h"
#include "tiering_range.h"

#define CREATE_TRACE_POINTS
#include <trace/events/tiering_range.h>

/* Below 1 MiB resident, a process costs more to track than it can gain. */
#define HPL_MIN_RSS_PAGES	(SZ_1M >> PAGE_SHIFT)

/* VMAs smaller than the smallest range are not worth one. */
#define HPL_MIN_SPAN_PAGES	HPL_MIN_RANGE_PAGES

/* New address spaces taken on per epoch: bounds what a fork storm costs. */
#define HPL_NEW_MMS_MAX		64

/* Epochs after which VMAs are looked at even if their number and size agree. */
#define HPL_SYNC_EPOCHS		16

/*
 * A range is moved only when it has lasted this many epochs; twice as many
 * after each move in a row that moved nothing, up to 64 times.
 */
#define HPL_MIN_AGE		2
#define HPL_MAX_FAILURES	6U

/* An epoch's budget of pages to move is for this time at most. */
#define HPL_MIGRATE_MS_MAX	1000U

/*
 * CPU time to move a page until there is a measurement: an exchange of two was
 * measured to take 50 us.
 */
#define HPL_PAGE_NS		25000U
#define HPL_PAGE_NS_MAX		(16 * HPL_PAGE_NS)

/* Rest at most so long, lest a burst of work elsewhere put us to sleep. */
#define HPL_REST_US_MAX		(10ULL * USEC_PER_SEC)

/*
 * Memory that was demoted for somebody is left to him that long: a balloon takes
 * it away within that.
 */
#define HPL_QUIET_JIFFIES	HZ

/*
 * Rounds of splitting in one epoch: each halves what is coarse, and a new tree
 * should not take an epoch for each of the six until nothing is.
 */
#define HPL_SPLIT_ROUNDS	8

/* Until a PMU that was taken by others is tried again. */
#define HPL_RETRY_NS		(10 * NSEC_PER_SEC)

struct hpl_knobs hpl_knobs = {
	.epoch_ms = 100,
	.overhead_permille = 10,
	.migrate_mbps = 256,
	.max_ranges = 1024,
};

/*
 * Protects hpl_task and hpl_choice: enabling, disabling and the choice of a
 * source exclude each other. The choice stands while the thread runs.
 */
static DEFINE_MUTEX(hpl_lock);
static struct task_struct *hpl_task;
static enum hpl_choice hpl_choice;

/*
 * In use; NULL while disabled or without tiers. Changed by the main thread, and
 * while that does not run.
 */
static const struct hpl_source *hpl_source;

/* When to try pebs again, 0 for never. */
static u64 hpl_retry_ns;

/*
 * Protects hpl_mms and all there is in it. The main thread alone changes the
 * list and the ranges, and lets go of the lock only in hpl_sleep().
 */
static DEFINE_MUTEX(hpl_mms_lock);
static LIST_HEAD(hpl_mms);
/* Nothing is promoted before this time; protected by hpl_mms_lock, too. */
static u64 hpl_quiet_until;

/* All of the following belongs to the main thread. */
static u64 hpl_decayed_ns;
static DEFINE_XARRAY(hpl_mm_index);
static unsigned int hpl_nr_mms;
static unsigned int hpl_page_ns;

/**
 * hpl_sleep - sleep in the main thread
 * @us: microseconds
 *
 * Wakes up early to stop or to freeze. Pages may have been demoted meanwhile;
 * ranges and address spaces are the same as before.
 */
void hpl_sleep(unsigned int us)
{
	ktime_t timeout = ns_to_ktime((u64)us * NSEC_PER_USEC);

	mutex_unlock(&hpl_mms_lock);
	if (us) {
		set_current_state(TASK_IDLE);
		if (!kthread_should_stop())
			schedule_hrtimeout_range(&timeout,
						 us * (NSEC_PER_USEC / 16),
						 HRTIMER_MODE_REL);
		__set_current_state(TASK_RUNNING);
	}
	try_to_freeze();
	mutex_lock(&hpl_mms_lock);
}

/**
 * hpl_prctl - have the calling process left alone, or not, or tell which
 * @option: of prctl(2)
 * @how: its second argument
 * @others: its further arguments, 0 if all of them are
 *
 * Return: 0 or 1, or -EINVAL if @option is none of ours or an argument is wrong.
 */
int hpl_prctl(int option, unsigned long how, unsigned long others)
{
	unsigned long *flags = &current->mm->flags;

	if (option == PR_GET_HPLACEMENT && !how && !others)
		return test_bit(MMF_HPL_LEAVE, flags) ? PR_HPLACEMENT_LEAVE :
							PR_HPLACEMENT_MANAGE;
	if (option != PR_SET_HPLACEMENT || others)
		return -EINVAL;
	switch (how) {
	case PR_HPLACEMENT_LEAVE:
		set_bit(MMF_HPL_LEAVE, flags);
		return 0;
	case PR_HPLACEMENT_MANAGE:
		clear_bit(MMF_HPL_LEAVE, flags);
		return 0;
	default:
		return -EINVAL;
	}
}

/**
 * hpl_mm_managed - whether memory of an address space may be moved
 * @mm: the address space
 *
 * Return: false if it has no user any more or its owner has opted out.
 */
bool hpl_mm_managed(const struct mm_struct *mm)
{
	return atomic_read(&mm->mm_users) &&
	       !test_bit(MMF_HPL_LEAVE, &mm->flags);
}

/**
 * hpl_mm_trylock - take the mmap lock of an address space, to read
 * @mm: the address space, kept by mmgrab() alone
 *
 * Deliberately without a reference that would make the caller its last user. A
 * process that is killed to free memory has to free it before it is seen to
 * end: if it were left to the caller, or to a work item, others would be killed
 * meanwhile. exit_mmap() waits for the lock before it frees page tables.
 *
 * Context: does not sleep. Undone by mmap_read_unlock().
 *
 * Return: false if it is contended or @mm has no user any more.
 */
bool hpl_mm_trylock(struct mm_struct *mm)
{
	if (!mmap_read_trylock(mm))
		return false;
	if (atomic_read(&mm->mm_users))
		return true;
	mmap_read_unlock(mm);
	return false;
}

/**
 * hpl_mm_find - the management of an address space
 * @mm: the address of its mm_struct, which may be gone
 *
 * Context: the main thread.
 *
 * Return: NULL if it is not managed.
 */
struct hpl_mm *hpl_mm_find(unsigned long mm)
{
	return xa_load(&hpl_mm_index, mm);
}

static void mm_forget(struct hpl_mm *hm)
{
	xa_erase(&hpl_mm_index, (unsigned long)hm->mm);
	list_del(&hm->list);
	hpl_tree_destroy(&hm->tree);
	put_pid(hm->pid);
	mmdrop(hm->mm);
	kfree(hm);
	hpl_nr_mms--;
}

/* Takes over the references to @mm and @pid. */
static void mm_register(struct mm_struct *mm, struct pid *pid)
{
	struct hpl_mm *hm = kzalloc(sizeof(*hm), HPL_GFP);

	if (!hm || xa_insert(&hpl_mm_index, (unsigned long)mm, hm, HPL_GFP)) {
		kfree(hm);
		put_pid(pid);
		mmdrop(mm);
		return;
	}
	hm->mm = mm;
	hm->pid = pid;
	hm->fresh = true;
	hpl_tree_init(&hm->tree, READ_ONCE(hpl_knobs.max_ranges),
		      hpl_source->evidence);
	list_add_tail(&hm->list, &hpl_mms);
	hpl_nr_mms++;
}

/*
 * The process by which we knew a shared mm may have ended or executed another
 * program while others use it on.
 */
static void mm_adopt(struct hpl_mm *hm, struct task_struct *p)
{
	struct task_struct *known = pid_task(hm->pid, PIDTYPE_TGID);

	if (hm->pid == task_tgid(p) || (known && READ_ONCE(known->mm) == hm->mm))
		return;
	put_pid(hm->pid);
	hm->pid = get_pid(task_tgid(p));
}

/* Find processes that are not managed yet, and take them on. */
static void mms_discover(void)
{
	struct mm_struct *new[HPL_NEW_MMS_MAX];
	struct pid *pid[HPL_NEW_MMS_MAX];
	struct task_struct *p;
	unsigned int i, nr = 0;

	rcu_read_lock();
	for_each_process(p) {
		struct task_struct *t;
		struct hpl_mm *hm;

		if (p->flags & PF_KTHREAD)
			continue;
		/* The leader may have exited before its other threads. */
		t = find_lock_task_mm(p);
		if (!t)
			continue;
		hm = xa_load(&hpl_mm_index, (unsigned long)t->mm);
		if (hm) {
			mm_adopt(hm, t);
		} else if (nr < HPL_NEW_MMS_MAX && hpl_mm_managed(t->mm) &&
			   get_mm_rss(t->mm) >= HPL_MIN_RSS_PAGES) {
			mmgrab(t->mm);
			new[nr] = t->mm;
			pid[nr++] = get_pid(task_tgid(t));
		}
		task_unlock(t);
	}
	rcu_read_unlock();
	for (i = 0; i < nr; i++)
		mm_register(new[i], pid[i]);
}

/*
 * The addresses to manage of @mm; returns the number of spans, at most @max.
 * VMAs side by side are one, so that many small ones are not overlooked.
 */
static unsigned int mm_spans(struct mm_struct *mm, struct hpl_span *spans,
			     unsigned int max)
{
	VMA_ITERATOR(vmi, mm, 0);
	struct vm_area_struct *vma;
	unsigned int i, nr = 0, kept = 0;

	for_each_vma(vmi, vma) {
		if (!hpl_vma_movable(vma))
			continue;
		if (nr && spans[nr - 1].end == vma->vm_start)
			spans[nr - 1].end = vma->vm_end;
		else if (nr < max)
			spans[nr++] = (struct hpl_span){ vma->vm_start,
							 vma->vm_end };
	}
	for (i = 0; i < nr; i++)
		if (spans[i].end - spans[i].start >=
		    HPL_MIN_SPAN_PAGES << PAGE_SHIFT)
			spans[kept++] = spans[i];
	return kept;
}

/* Make the tree of @hm cover its VMAs. Best effort: tried again later. */
static void mm_sync(struct hpl_mm *hm)
{
	/* Room for VMAs that appear while no lock is held. */
	unsigned int nr, max = READ_ONCE(hm->mm->map_count) + 16;
	struct mm_struct *mm = hm->mm;
	struct hpl_span *spans;

	spans = kvmalloc_array(max, sizeof(*spans), HPL_GFP);
	if (!spans || !hpl_mm_trylock(mm))
		goto out;
	nr = mm_spans(mm, spans, max);
	hm->total_vm = mm->total_vm;
	hm->map_count = mm->map_count;
	hm->sync_age = 0;
	mmap_read_unlock(mm);

	/* Half of the ranges are for what samples find. */
	nr = hpl_spans_coalesce(spans, nr, max(hm->tree.max / 2, 1U));
	if (hpl_tree_sync(&hm->tree, spans, nr))
		hm->sync_age = HPL_SYNC_EPOCHS;
out:
	kvfree(spans);
}

/* Learn of new, changed and dead processes. */
static void mms_update(void)
{
	struct hpl_mm *hm, *next;

	mms_discover();
	list_for_each_entry_safe(hm, next, &hpl_mms, list) {
		if (!hpl_mm_managed(hm->mm)) {
			mm_forget(hm);
			continue;
		}
		hm->rss = get_mm_rss(hm->mm);
		hm->tree.max = READ_ONCE(hpl_knobs.max_ranges);
		if (hm->total_vm != READ_ONCE(hm->mm->total_vm) ||
		    hm->map_count != READ_ONCE(hm->mm->map_count) ||
		    hm->sync_age++ >= HPL_SYNC_EPOCHS)
			mm_sync(hm);
		cond_resched();
	}
}

/* Adapt all trees to the evidence; returns the number of ranges. */
static unsigned int trees_update(void)
{
	unsigned int nr = 0, split = 0, merged = 0, i, n;
	u64 now = ktime_get_ns();
	unsigned int dt_ms = div_u64(now - hpl_decayed_ns, NSEC_PER_MSEC);
	struct hpl_mm *hm;

	hpl_decayed_ns += (u64)dt_ms * NSEC_PER_MSEC;
	list_for_each_entry(hm, &hpl_mms, list) {
		hpl_tree_decay(&hm->tree, dt_ms);
		merged += hpl_tree_merge(&hm->tree);
		for (n = 1, i = 0; n && i < HPL_SPLIT_ROUNDS; i++) {
			n = hpl_tree_split(&hm->tree);
			split += n;
		}
		nr += hm->tree.nr;
		cond_resched();
	}
	count_vm_events(HPL_RANGE_SPLIT, split);
	count_vm_events(HPL_RANGE_MERGED, merged);
	return nr;
}

/* Whether a range has lasted long enough to be moved. */
static bool range_ready(const struct hpl_range *r)
{
	return r->age >= HPL_MIN_AGE << min(r->failures, HPL_MAX_FAILURES);
}

/* All ranges, or those that are @ready to be moved; returns how many. */
static unsigned int candidates(struct hpl_candidate *c, bool ready)
{
	unsigned int owner = 0, nr = 0;
	struct hpl_range *r;
	struct hpl_mm *hm;

	list_for_each_entry(hm, &hpl_mms, list) {
		for (r = hpl_tree_first(&hm->tree); r; r = hpl_range_next(r)) {
			unsigned long fast = hpl_range_fast(r);

			if (ready && !range_ready(r))
				continue;
			c[nr++] = (struct hpl_candidate){
				.owner = owner,
				.start = r->start,
				.end = r->end,
				.counts = hpl_range_sum(r),
				.exposed = r->exposed,
				.nr_fast = fast,
				.nr_slow = hpl_range_resident(r) - fast,
			};
		}
		owner++;
	}
	return nr;
}

/* The address spaces by the number that candidates() gave them. */
static struct hpl_mm **mms_by_number(void)
{
	struct hpl_mm **mms = kvmalloc_array(hpl_nr_mms, sizeof(*mms), HPL_GFP);
	struct hpl_mm *hm;
	unsigned int n = 0;

	if (mms)
		list_for_each_entry(hm, &hpl_mms, list)
			mms[n++] = hm;
	return mms;
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

/*
 * Turn verdicts into moves: hottest promoted and coldest demoted first. None
 * if memory is short: the next epoch tries again.
 */
static struct hpl_move *plan_moves(const struct hpl_candidate *c,
				   unsigned int nr, unsigned int *nr_moves)
{
	struct hpl_move *moves = NULL;
	struct hpl_mm **mms = NULL;
	unsigned int i, n = 0;

	for (i = 0; i < nr; i++)
		n += !!c[i].nr_promote + !!c[i].nr_demote;
	if (n)
		mms = mms_by_number();
	if (mms)
		moves = kvcalloc(n, sizeof(*moves), HPL_GFP);
	n = 0;
	for (i = 0; moves && i < nr; i++)
		if (c[i].nr_promote)
			add_move(&moves[n++], mms[c[i].owner], &c[i], true);
	for (i = nr; moves && i-- > 0; )
		if (c[i].nr_demote)
			add_move(&moves[n++], mms[c[i].owner], &c[i], false);
	kvfree(mms);
	*nr_moves = n;
	return moves;
}

/* Rank all ranges and decide; returns pages to promote. */
static unsigned long classify(unsigned int nr, const struct hpl_epoch *e,
			      struct hpl_move **moves, unsigned int *nr_moves)
{
	unsigned int ms = min(e->length_us / USEC_PER_MSEC, HPL_MIGRATE_MS_MAX);
	struct hpl_costs costs = {
		.nr_free = hpl_fast_free(),
		.nr_budget = (unsigned long)READ_ONCE(hpl_knobs.migrate_mbps) *
			     (SZ_1M >> PAGE_SHIFT) * ms / MSEC_PER_SEC,
		.evidence = hpl_source->evidence,
		.interval_us = e->measured_us,
		.page_ns = hpl_page_ns,
	};
	unsigned long nr_promote = 0;
	struct hpl_candidate *c;

	if (time_before64(get_jiffies_64(), hpl_quiet_until))
		costs.nr_budget = 0;
	*moves = NULL;
	*nr_moves = 0;
	c = nr ? kvmalloc_array(nr, sizeof(*c), HPL_GFP) : NULL;
	if (c) {
		nr = candidates(c, true);
		nr_promote = hpl_policy_plan(c, nr, &costs);
		*moves = plan_moves(c, nr, nr_moves);
	}
	kvfree(c);
	return nr_promote;
}

/* Keep account of what @m has moved; returns how many pages. */
static unsigned long settle(struct hpl_move *m)
{
	struct hpl_range *r = hpl_tree_find(&m->hm->tree, m->start);
	unsigned long done = atomic_long_read(&m->nr_done);

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
	u64 now = min(hpl_page_ns, HPL_PAGE_NS);

	if (nr_done)
		now = min_t(u64, div64_u64(spent_ns, nr_done), HPL_PAGE_NS_MAX);
	hpl_page_ns = (3 * hpl_page_ns + now) / 4;
}

/* Carry out and free @moves. */
static void migrate(struct hpl_move *moves, unsigned int nr,
		    unsigned long *nr_promoted, unsigned long *nr_demoted)
{
	u64 spent_ns = hpl_migrate(moves, nr);
	unsigned int i;

	*nr_promoted = 0;
	*nr_demoted = 0;
	for (i = 0; i < nr; i++)
		*(moves[i].promote ? nr_promoted : nr_demoted) +=
			settle(&moves[i]);
	learn_page_ns(spent_ns, *nr_promoted + *nr_demoted);
	kvfree(moves);
}

/*
 * Even the fewest samples may cost more than an epoch's budget. Then keep to it
 * by resting after the epoch for as long as it takes.
 */
static void rest(u64 spent_ns, u64 budget_ns, unsigned int epoch_us)
{
	u64 us = 0;

	if (spent_ns > budget_ns)
		us = div64_u64((spent_ns - budget_ns) * epoch_us, budget_ns);
	hpl_sleep(min(us, HPL_REST_US_MAX));
}

/* Demote up to @nr_pages of @c, which is sorted; returns pages demoted. */
static unsigned long demote_in_order(int nid, unsigned long nr_pages,
				     const struct hpl_candidate *c,
				     unsigned int nr)
{
	struct hpl_mm **mms = mms_by_number();
	unsigned long done = 0;
	unsigned int i;
	int err = 0;

	for (i = 0; mms && !err && i < nr && done < nr_pages; i++) {
		struct hpl_mm *hm = mms[c[i].owner];
		struct hpl_move move;
		struct hpl_range *r;

		if (!hpl_policy_has_fast(&c[i]))
			continue;
		add_move(&move, hm, &c[i], false);
		atomic_long_set(&move.nr_left, nr_pages - done);
		err = hpl_move_range(nid, &move);
		done += atomic_long_read(&move.nr_done);
		r = hpl_tree_find(&hm->tree, c[i].start);
		if (r)
			hpl_range_moved(r, atomic_long_read(&move.nr_done),
					false);
	}
	kvfree(mms);
	return done;
}

static unsigned long demote_coldest(int nid, unsigned long nr_pages)
{
	struct hpl_candidate *c = NULL;
	unsigned long done = 0;
	struct hpl_mm *hm;
	unsigned int nr = 0;

	lockdep_assert_held(&hpl_mms_lock);
	list_for_each_entry(hm, &hpl_mms, list)
		nr += hm->tree.nr;
	if (nr)
		c = kvmalloc_array(nr, sizeof(*c), HPL_GFP);
	if (c) {
		u64 begin = task_sched_runtime(current);

		nr = candidates(c, false);
		hpl_policy_rank_coldest(c, nr);
		lru_add_drain();
		done = demote_in_order(nid, nr_pages, c, nr);
		if (done)
			hpl_quiet_until = get_jiffies_64() + HPL_QUIET_JIFFIES;
		count_vm_events(HPL_MIGRATE_NS,
				task_sched_runtime(current) - begin);
	}
	kvfree(c);
	return done;
}

/**
 * hpl_demote_node() - move the coldest memory of a node to a slower one
 * @nid: which node
 * @nr_pages: how many pages the caller would like to find free
 *
 * For a caller that is about to take the node's memory away. The ranges of all
 * processes give what they have there, coldest first, until there is enough;
 * then nothing is promoted for a second. Nothing is moved if HPlacement is not
 * enabled, as then no heat is known, or if there is no slower node; or if memory
 * is too short to find out.
 *
 * Context: Process context. May sleep, and wait for an epoch's moves.
 * Return: pages that have become free; with the last of them, up to a huge page
 * more than @nr_pages.
 */
unsigned long hpl_demote_node(int nid, unsigned long nr_pages)
{
	unsigned long done = 0;

	if (!hpl_enabled() || nid < 0 || !node_state(nid, N_MEMORY) ||
	    next_demotion_node(nid) == NUMA_NO_NODE)
		return 0;
	mutex_lock(&hpl_mms_lock);
	done = demote_coldest(nid, nr_pages);
	mutex_unlock(&hpl_mms_lock);
	trace_hpl_demote_node(nid, nr_pages, done);
	return done;
}
EXPORT_SYMBOL_GPL(hpl_demote_node);

static void mms_forget(void)
{
	struct hpl_mm *hm, *next;

	list_for_each_entry_safe(hm, next, &hpl_mms, list)
		mm_forget(hm);
}

/*
 * Start the source that was asked for; with "auto", the best that works. A PMU
 * that others have taken may be free later.
 */
static int source_start(void)
{
	const struct hpl_source *source = &hpl_source_abit;
	int err;

	hpl_retry_ns = 0;
	if (hpl_choice == HPL_CHOICE_PEBS)
		source = IS_ENABLED(CONFIG_HPLACEMENT_PEBS) ?
			 &hpl_source_pebs : NULL;
	if (IS_ENABLED(CONFIG_HPLACEMENT_PEBS) &&
	    hpl_choice == HPL_CHOICE_AUTO) {
		err = hpl_source_pebs.start();
		if (!err) {
			WRITE_ONCE(hpl_source, &hpl_source_pebs);
			return 0;
		}
		pr_info_once("no samples by PEBS (error %d), using accessed bits\n",
			     err);
		if (err == -EBUSY)
			hpl_retry_ns = ktime_get_ns() + HPL_RETRY_NS;
	}
	err = source ? source->start() : -EOPNOTSUPP;
	if (!err)
		WRITE_ONCE(hpl_source, source);
	return err;
}

static void source_stop(void)
{
	if (hpl_source)
		hpl_source->stop();
	WRITE_ONCE(hpl_source, NULL);
}

/*
 * Go on with another source, which has been started or needs no start. What the
 * old one found cannot be compared with what the new one will.
 */
static void source_switch(const struct hpl_source *to)
{
	hpl_source->stop();
	mms_forget();
	WRITE_ONCE(hpl_source, to);
}

/* The source has come to an end with @err. */
static void source_ended(int err)
{
	if (hpl_choice != HPL_CHOICE_AUTO || hpl_source == &hpl_source_abit)
		return;
	pr_info_once("no more samples by PEBS (error %d), using accessed bits\n",
		     err);
	if (!hpl_source_abit.start())
		source_switch(&hpl_source_abit);
	if (err == -EBUSY)
		hpl_retry_ns = ktime_get_ns() + HPL_RETRY_NS;
}

/* Return to pebs, if that is time and it works again. */
static void source_retry(void)
{
	u64 now = ktime_get_ns();

	if (!IS_ENABLED(CONFIG_HPLACEMENT_PEBS) || !hpl_retry_ns ||
	    now < hpl_retry_ns)
		return;
	hpl_retry_ns = now + HPL_RETRY_NS;
	if (!hpl_source_pebs.start()) {
		hpl_retry_ns = 0;
		source_switch(&hpl_source_pebs);
	}
}

static void epoch(void)
{
	unsigned int epoch_ms = READ_ONCE(hpl_knobs.epoch_ms);
	u64 budget_ns = (u64)epoch_ms * NSEC_PER_USEC *
			READ_ONCE(hpl_knobs.overhead_permille) *
			num_online_cpus();
	u64 t0 = task_sched_runtime(current), t1, t2, sample_ns, spent_ns;
	unsigned long nr_promote, nr_promoted, nr_demoted;
	unsigned int nr, nr_moves;
	struct hpl_move *moves;
	struct hpl_epoch e = {
		.length_us = epoch_ms * USEC_PER_MSEC,
		.page_ns = hpl_page_ns,
	};
	int err;

	mms_update();
	err = hpl_source->collect(&hpl_mms, &e);
	t1 = task_sched_runtime(current);
	sample_ns = t1 - t0 + e.spent_ns;
	count_vm_events(HPL_SAMPLE_NS, sample_ns);
	if (kthread_should_stop())
		return;
	nr = trees_update();
	nr_promote = classify(nr, &e, &moves, &nr_moves);
	t2 = task_sched_runtime(current);
	spent_ns = t2 - t0 + e.spent_ns;
	count_vm_events(HPL_CLASSIFY_NS, t2 - t1);
	count_vm_event(HPL_EPOCHS);
	migrate(moves, nr_moves, &nr_promoted, &nr_demoted);
	trace_hpl_epoch(hpl_nr_mms, nr, &e, nr_promote, nr_promoted, nr_demoted,
			sample_ns, t2 - t1);

	e.page_ns = hpl_page_ns;
	if (!hpl_source->adapt(&e, spent_ns, budget_ns))
		rest(spent_ns, budget_ns, e.length_us);
	if (err)
		source_ended(err);
	else
		source_retry();
}

static int hpl_main(void *data)
{
	set_freezable();
	mutex_lock(&hpl_mms_lock);
	hpl_decayed_ns = ktime_get_ns();
	hpl_page_ns = HPL_PAGE_NS;
	while (!kthread_should_stop()) {
		/* Nodes come and go; with one tier there is nothing to do. */
		if (!hpl_have_tiers()) {
			mms_forget();
			source_stop();
		} else if (hpl_source || !source_start()) {
			epoch();
			continue;
		}
		hpl_sleep(READ_ONCE(hpl_knobs.epoch_ms) * USEC_PER_MSEC);
	}
	mms_forget();
	mutex_unlock(&hpl_mms_lock);
	return 0;
}

/* Whether a source can be used, while none is in use. */
static int source_try(enum hpl_choice choice)
{
	int err;

	if (choice != HPL_CHOICE_PEBS)
		return 0;
	if (!IS_ENABLED(CONFIG_HPLACEMENT_PEBS))
		return -EOPNOTSUPP;
	err = hpl_source_pebs.start();
	if (!err)
		hpl_source_pebs.stop();
	return err;
}

static int hpl_start(void)
{
	struct task_struct *task;
	int err = hpl_looks_start();

	if (err)
		return err;
	err = source_start();
	if (err)
		goto err_looks;
	err = hpl_migrate_start();
	if (err)
		goto err_source;
	task = kthread_run(hpl_main, NULL, "khplaced");
	if (IS_ERR(task)) {
		err = PTR_ERR(task);
		goto err_migrate;
	}
	WRITE_ONCE(hpl_task, task);
	return 0;

err_migrate:
	hpl_migrate_stop();
err_source:
	source_stop();
err_looks:
	hpl_looks_stop();
	return err;
}

static void hpl_stop(void)
{
	hpl_migrate_cancel();
	kthread_stop(hpl_task);
	WRITE_ONCE(hpl_task, NULL);
	hpl_migrate_stop();
	source_stop();
	hpl_looks_stop();
}

/**
 * hpl_source_choice - the source of samples that was asked for
 *
 * Return: the choice.
 */
enum hpl_choice hpl_source_choice(void)
{
	return READ_ONCE(hpl_choice);
}

/**
 * hpl_source_in_use - the name of the source of samples in use
 *
 * Return: a name as in sysfs, "none" while HPlacement is not at work.
 */
const char *hpl_source_in_use(void)
{
	const struct hpl_source *source = READ_ONCE(hpl_source);

	return source ? source->name : "none";
}

/**
 * hpl_source_choose - choose a source of samples
 * @choice: which; tried out even while HPlacement is not at work
 *
 * If it is, it starts anew. Context: sleeps.
 *
 * Return: 0, or an error if the source cannot be used; the old choice stays.
 */
int hpl_source_choose(enum hpl_choice choice)
{
	enum hpl_choice old;
	int err = 0;

	mutex_lock(&hpl_lock);
	old = hpl_choice;
	if (choice == old)
		goto out;
	if (hpl_task) {
		hpl_stop();
		WRITE_ONCE(hpl_choice, choice);
		err = hpl_start();
		if (err) {
			WRITE_ONCE(hpl_choice, old);
			if (hpl_start())
				pr_err("stopped for want of memory\n");
		}
	} else {
		err = source_try(choice);
		if (!err)
			WRITE_ONCE(hpl_choice, choice);
	}
out:
	mutex_unlock(&hpl_lock);
	return err;
}

/**
 * hpl_enabled - whether HPlacement is at work
 *
 * Return: true between hpl_enable(true) and hpl_enable(false).
 */
bool hpl_enabled(void)
{
	return READ_ONCE(hpl_task);
}

/**
 * hpl_enable - start or stop HPlacement
 * @on: which of the two; no effect if it is so already
 *
 * Stopping forgets all that was learnt. Context: sleeps.
 *
 * Return: 0, or -ENOMEM or another error of kthread_create().
 */
int hpl_enable(bool on)
{
	int err = 0;

	mutex_lock(&hpl_lock);
	if (on && !hpl_task)
		err = hpl_start();
	else if (!on && hpl_task)
		hpl_stop();
	mutex_unlock(&hpl_lock);
	return err;
}

static int __init hpl_init(void)
{
	return hpl_sysfs_init();
}
late_initcall(hpl_init);
