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

/* Rest at most so long, lest a burst of work elsewhere put us to sleep. */
#define HPL_REST_US_MAX		(10ULL * USEC_PER_SEC)

/* No more time than this counts at once, such as one asleep. */
#define HPL_FILL_NS_MAX		(60ULL * NSEC_PER_SEC)

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

struct hpl_knobs hpl_knobs = {
	.epoch_ms = 100,
	.overhead_permille = 10,
	.migrate_mbps = 256,
	.max_ranges = 1024,
	.exchange = true,
};

/*
 * Protects hpl_task and hpl_choice: enabling, disabling and the choice of a
 * source exclude each other. The choice stands while the thread runs.
 */
static DEFINE_MUTEX(hpl_lock);
static struct task_struct *hpl_task;
static enum hpl_choice hpl_choice;

/*
 * Protects hpl_mms and all there is in it. The main thread alone changes the
 * list, its index and the ranges, and lets go of the lock only in hpl_sleep().
 */
DEFINE_MUTEX(hpl_mms_lock);
static LIST_HEAD(hpl_mms);
/* By the address of their mm_struct. */
DEFINE_XARRAY(hpl_mm_index);
/* Nothing is promoted before this time; protected by hpl_mms_lock, too. */
static u64 hpl_quiet_until;

/* All of the following belongs to the main thread. */
static u64 hpl_decayed_ns;
static u64 hpl_filled_ns;
static s64 hpl_tokens_ns;
static DEFINE_XARRAY_ALLOC(hpl_mm_owners);
static u32 hpl_mm_next;
static unsigned int hpl_nr_mms;

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
 * Return: false if it has no user any more, or its owner or a group of its owner's
 * has opted out.
 */
bool hpl_mm_managed(const struct mm_struct *mm)
{
	return atomic_read(&mm->mm_users) &&
	       !test_bit(MMF_HPL_LEAVE, &mm->flags) &&
	       (!IS_ENABLED(CONFIG_MEMCG) || hpl_memcg_managed(mm));
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

/**
 * hpl_mm_of - the address space that a number stands for
 * @owner: the number
 *
 * Context: the main thread.
 *
 * Return: NULL if there is none any more.
 */
struct hpl_mm *hpl_mm_of(unsigned int owner)
{
	return xa_load(&hpl_mm_owners, owner);
}

static void mm_forget(struct hpl_mm *hm)
{
	xa_erase(&hpl_mm_index, (unsigned long)hm->mm);
	if (hm->owner < HPL_OWNERS)
		xa_erase(&hpl_mm_owners, hm->owner);
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
	/* Pages of processes beyond the last number are not counted apart. */
	if (xa_alloc_cyclic(&hpl_mm_owners, &hm->owner, hm,
			    XA_LIMIT(0, HPL_OWNERS - 1), &hpl_mm_next,
			    HPL_GFP) < 0)
		hm->owner = HPL_OWNERS;
	hm->pid = pid;
	hm->fresh = true;
	hpl_tree_init(&hm->tree, READ_ONCE(hpl_knobs.max_ranges),
		      hpl_source->evidence);
	hm->tree.pid = pid_nr(pid);
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
	hm->tree.pid = pid_nr(hm->pid);
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
		hpl_tree_hasten(&hm->tree);
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

/*
 * What an epoch may take so that no second takes more than its share, whenever
 * that begins: the epochs that its ends cut may both count whole, one by what it
 * took, one by what it took beyond its own share. Half is left in any case, as an
 * epoch that exceeds a second's share cannot be had within one.
 */
static u64 within_seconds(u64 budget_ns, u64 spent_ns, unsigned int epoch_us)
{
	u64 ends_ns = spent_ns + (spent_ns > budget_ns ? spent_ns - budget_ns :
						       0);

	return budget_ns - min(mul_u64_u64_div_u64(ends_ns, epoch_us,
						   USEC_PER_SEC),
			       budget_ns / 2);
}

/*
 * CPU time that sampling and classification may take, as a bucket of tokens: it
 * fills with time, but not beyond what the epoch took, so nothing is saved up.
 * When it is empty, rest until it is not any more: even the fewest samples may
 * cost more than there is.
 */
static void pay(u64 spent_ns, u64 budget_ns, unsigned int epoch_us)
{
	u64 now = ktime_get_ns(), us = 0;
	u64 earned_ns = mul_u64_u64_div_u64(min(now - hpl_filled_ns,
						HPL_FILL_NS_MAX), budget_ns,
					    (u64)epoch_us * NSEC_PER_USEC);

	hpl_filled_ns = now;
	hpl_tokens_ns = min(hpl_tokens_ns + (s64)earned_ns - (s64)spent_ns,
			    0LL);
	if (hpl_tokens_ns < 0)
		us = div64_u64(-hpl_tokens_ns * epoch_us, budget_ns);
	if (!us || !hpl_source->pause) {
		hpl_sleep(min(us, HPL_REST_US_MAX));
		return;
	}
	hpl_source->pause(true);
	hpl_sleep(min(us, HPL_REST_US_MAX));
	hpl_source->pause(false);
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
 * Return: pages that have become free. More than @nr_pages where the node has less
 * free than its watermarks ask for, and up to a huge page with the last of them.
 */
unsigned long hpl_demote_node(int nid, unsigned long nr_pages)
{
	unsigned long done;

	if (!hpl_enabled() || nid < 0 || !node_state(nid, N_MEMORY) ||
	    next_demotion_node(nid) == NUMA_NO_NODE)
		return 0;
	mutex_lock(&hpl_mms_lock);
	/* What fills a zone up to its watermarks cannot be allocated. */
	done = hpl_plan_demote(&hpl_mms, nid, nr_pages + hpl_node_short(nid));
	if (done)
		hpl_quiet_until = get_jiffies_64() + HPL_QUIET_JIFFIES;
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

static void epoch(void)
{
	unsigned int epoch_ms = READ_ONCE(hpl_knobs.epoch_ms);
	u64 budget_ns = (u64)epoch_ms * NSEC_PER_USEC *
			READ_ONCE(hpl_knobs.overhead_permille) *
			num_online_cpus();
	u64 t0 = task_sched_runtime(current), t1, t2, sample_ns, spent_ns;
	unsigned long nr_promoted, nr_demoted;
	struct hpl_epoch e = {
		.length_us = epoch_ms * USEC_PER_MSEC,
		.page_ns = hpl_page_ns(),
	};
	struct hpl_plan plan;
	unsigned int nr;
	int err;

	mms_update();
	err = hpl_source->collect(&hpl_mms, &e);
	t1 = task_sched_runtime(current);
	sample_ns = t1 - t0 + e.spent_ns;
	count_vm_events(HPL_SAMPLE_NS, sample_ns);
	if (kthread_should_stop())
		return;
	nr = trees_update();
	hpl_plan(&plan, &hpl_mms, nr, &e, hpl_source->evidence,
		 time_before64(get_jiffies_64(), hpl_quiet_until));
	t2 = task_sched_runtime(current);
	spent_ns = t2 - t0 + e.spent_ns;
	count_vm_events(HPL_CLASSIFY_NS, t2 - t1);
	count_vm_event(HPL_EPOCHS);
	hpl_plan_carry_out(&plan, &nr_promoted, &nr_demoted);
	trace_hpl_epoch(hpl_nr_mms, nr, &e, plan.nr_promote, nr_promoted,
			nr_demoted, sample_ns, t2 - t1);

	e.page_ns = hpl_page_ns();
	budget_ns = within_seconds(budget_ns, spent_ns, e.length_us);
	hpl_source->adapt(&e, spent_ns, budget_ns);
	pay(spent_ns, budget_ns, e.length_us);
	if (err ? hpl_source_ended(hpl_choice, err) : hpl_source_retry())
		mms_forget();
}

static int source_start(void)
{
	/* There may be other nodes than before. */
	hpl_read_gap();
	return hpl_source_start(hpl_choice);
}

static int hpl_main(void *data)
{
	set_freezable();
	mutex_lock(&hpl_mms_lock);
	hpl_decayed_ns = ktime_get_ns();
	hpl_filled_ns = hpl_decayed_ns;
	hpl_tokens_ns = 0;
	while (!kthread_should_stop()) {
		/* Nodes come and go; with one tier there is nothing to do. */
		if (!hpl_have_tiers()) {
			mms_forget();
			hpl_source_stop();
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

static int hpl_start(void)
{
	struct task_struct *task;
	int err = hpl_looks_start();

	if (err)
		return err;
	err = hpl_plan_start();
	if (err)
		goto err_looks;
	err = source_start();
	if (err)
		goto err_plan;
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
	hpl_source_stop();
err_plan:
	hpl_plan_stop();
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
	hpl_source_stop();
	hpl_plan_stop();
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
		err = hpl_source_try(choice);
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
