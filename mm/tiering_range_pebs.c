// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: samples from hardware
 *
 * pebs: loads that miss the last-level cache. Each CPU has a counter that has
 * the CPU itself write each 4093rd such load of user programs to memory, by
 * precise event-based sampling. Records are drained many at a time: when their
 * buffer is full, when the CPU changes to another task, and once per epoch. The
 * handler of the counter passes them through a ring to the main thread.
 *
 * Stores are not sampled. There is no precise event for those that miss, and
 * all stores are mostly to cached memory: stacks would look hottest. A store
 * also waits in the store buffer rather than have the program wait. Memory that
 * is written and never read is therefore not found hot.
 *
 * Nor is latency used, though records have it: it is defined for another event
 * only, and which tier a page is on the page tables tell better.
 */
#include <linux/cpu.h>
#include <linux/cpuhotplug.h>
#include <linux/kernel_stat.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/perf_event.h>
#include <linux/processor.h>
#include <linux/sched.h>
#include <linux/sched/clock.h>
#include <linux/sched/cputime.h>
#include <linux/slab.h>
#include <linux/vmstat.h>

#include "tiering_range_internal.h"
#include "tiering_range.h"
#include "tiering_range_ring.h"

/* MEM_LOAD_RETIRED.L3_MISS, of Haswell and later cores. */
#define HPL_PEBS_EVENT		0x20d1

/* A little less than a power of 2, and odd, lest it beat with loops. */
#define HPL_PEBS_PERIOD(shift)						\
	((HPL_PERIOD << ((shift) - HPL_PERIOD_SHIFT_DENSE) >>		\
	  -HPL_PERIOD_SHIFT_DENSE) - 3)

/* Rings are emptied so often, however long an epoch is. */
#define HPL_DRAIN_US_MAX	100000U

/*
 * Records that reach the handler within this time of each other are taken for
 * those of one drain, and the time between them for what they cost. To begin a
 * drain costs about as much as stopping and starting a PMU.
 */
#define HPL_DRAIN_GAP_NS	2000
#define HPL_DRAIN_NS		1000

/* Of a longer time, such as one asleep, next to nothing would be left. */
#define HPL_EXPOSED_NS_MAX	(60ULL * NSEC_PER_SEC)

/* A counter that has not run for so long, while it should, is lost. */
#define HPL_LOST_NS		NSEC_PER_SEC

/*
 * If no counter has counted anything while user programs have run for so long,
 * this machine does not know the event.
 */
#define HPL_SILENT_NS		(100 * NSEC_PER_MSEC)

/**
 * struct hpl_cpu - a CPU's counter and its ring
 * @event: NULL if there is none; changes with the hotplug lock held for writing
 * @err: why there is none
 * @ring: from the handler to the main thread
 * @nr_discarded: records that cannot be used; the handler's, as those below
 * @nr_pmi: records drained by an interrupt
 * @nr_switch: records drained otherwise
 * @spent_ns: CPU time of the handler, estimated, without the drain under way
 * @drain_ns: that of the last drain
 * @last_ns: when it was called last
 * @seen: what the main thread has accounted for of the above
 * @enabled_ns: how long the counter has been there
 * @running_ns: of that, how long it has counted
 * @ran_ns: @enabled_ns when @running_ns was last seen to grow
 */
struct hpl_cpu {
	struct perf_event *event;
	int err;
	struct hpl_ring ring;
	unsigned long nr_discarded;
	unsigned long nr_pmi;
	unsigned long nr_switch;
	u64 spent_ns;
	u64 drain_ns;
	u64 last_ns;
	struct {
		unsigned long nr_dropped;
		unsigned long nr_discarded;
		unsigned long nr_pmi;
		unsigned long nr_switch;
		u64 spent_ns;
	} seen;
	u64 enabled_ns;
	u64 running_ns;
	u64 ran_ns;
};

static DEFINE_PER_CPU(struct hpl_cpu, hpl_cpus);

/*
 * A counter that never counts. The first one of its kind has perf core patch the
 * scheduler, which it cannot do while CPUs come up: so this is the first one.
 */
static struct perf_event *anchor;

/* All of the following belongs to the thread that uses the source. */
static enum cpuhp_state hotplug_state;
static int period_shift;
static u64 collected_ns;
static bool has_counted;
static u64 user_ns_at_start;

/*
 * Called for each record. The records of a task are drained before its CPU
 * changes to another task, so they are of the current one; but it may have
 * changed its mm since, see hpl_mm.fresh.
 *
 * Context: NMI, or interrupts off.
 */
static void pebs_record(struct perf_event *event, struct perf_sample_data *data,
			struct pt_regs *regs)
{
	struct hpl_cpu *c = this_cpu_ptr(&hpl_cpus);
	struct mm_struct *mm = current->mm;
	u64 now = local_clock(), since = now - c->last_ns;

	c->last_ns = now;
	if (since < HPL_DRAIN_GAP_NS) {
		c->drain_ns += since;
	} else {
		WRITE_ONCE(c->spent_ns, c->spent_ns + c->drain_ns);
		c->drain_ns = HPL_DRAIN_NS;
	}
	if (in_nmi())
		WRITE_ONCE(c->nr_pmi, c->nr_pmi + 1);
	else
		WRITE_ONCE(c->nr_switch, c->nr_switch + 1);
	/* A task that is exiting has none; a kernel thread only borrows one. */
	if (mm && !(current->flags & PF_KTHREAD) &&
	    data->sample_flags & PERF_SAMPLE_ADDR)
		hpl_ring_push(&c->ring, (unsigned long)mm, data->addr);
	else
		WRITE_ONCE(c->nr_discarded, c->nr_discarded + 1);
}

static struct perf_event *counter_create(unsigned int cpu, bool disabled)
{
	/*
	 * Nothing else may be asked for, or perf would interrupt for each
	 * record. Not pinned: it shares the PMU with other users.
	 */
	struct perf_event_attr attr = {
		.type = PERF_TYPE_RAW,
		.size = sizeof(attr),
		.config = HPL_PEBS_EVENT,
		.sample_period = HPL_PEBS_PERIOD(period_shift),
		.sample_type = PERF_SAMPLE_ADDR,
		.precise_ip = 2,
		.disabled = disabled,
		.exclude_kernel = 1,
		.exclude_hv = 1,
	};
	struct perf_event *event;

	event = perf_event_create_kernel_counter(&attr, cpu, NULL, pebs_record,
						 NULL);
	/* Only then are records with addresses drained when tasks change. */
	if (!IS_ERR(event) && !(event->attach_state & PERF_ATTACH_SCHED_CB)) {
		perf_event_release_kernel(event);
		return ERR_PTR(-EOPNOTSUPP);
	}
	return event;
}

/* A CPU comes up. It may do so without a counter; the main thread will notice. */
static int counter_up(unsigned int cpu)
{
	struct hpl_cpu *c = per_cpu_ptr(&hpl_cpus, cpu);
	struct perf_event *event;

	c->err = 0;
	if (!c->ring.samples) {
		struct hpl_sample *samples;

		samples = kvmalloc_node(array_size(HPL_RING_SAMPLES,
						   sizeof(*samples)),
					GFP_KERNEL, cpu_to_node(cpu));
		if (!samples) {
			c->err = -ENOMEM;
			return 0;
		}
		c->ring.samples = samples;
	}
	c->enabled_ns = 0;
	c->running_ns = 0;
	c->ran_ns = 0;
	event = counter_create(cpu, false);
	if (IS_ERR(event))
		c->err = PTR_ERR(event);
	else
		c->event = event;
	return 0;
}

static int counter_down(unsigned int cpu)
{
	struct hpl_cpu *c = per_cpu_ptr(&hpl_cpus, cpu);

	if (c->event)
		perf_event_release_kernel(c->event);
	c->event = NULL;
	return 0;
}

/* CPU time of user programs. */
static u64 user_ns(void)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += kcpustat_cpu(cpu).cpustat[CPUTIME_USER] +
		       kcpustat_cpu(cpu).cpustat[CPUTIME_NICE];
	return sum;
}

static void pebs_stop(void)
{
	int cpu;

	cpuhp_remove_state(hotplug_state);
	perf_event_release_kernel(anchor);
	for_each_possible_cpu(cpu) {
		struct hpl_cpu *c = per_cpu_ptr(&hpl_cpus, cpu);

		kvfree(c->ring.samples);
		memset(c, 0, sizeof(*c));
	}
}

/* Whether each CPU has a counter that counts. */
static int counters_check(void)
{
	int cpu, err = 0;

	cpus_read_lock();
	for_each_online_cpu(cpu) {
		struct hpl_cpu *c = per_cpu_ptr(&hpl_cpus, cpu);

		if (!c->event)
			err = c->err;
		else if (READ_ONCE(c->event->state) != PERF_EVENT_STATE_ACTIVE)
			err = -EBUSY;
		if (err)
			break;
	}
	cpus_read_unlock();
	return err;
}

static int pebs_start(void)
{
	int err;

	/* The number of the event means something else to other vendors. */
	if (boot_cpu_data.x86_vendor != X86_VENDOR_INTEL)
		return -ENODEV;
	period_shift = 0;
	has_counted = false;
	user_ns_at_start = user_ns();
	collected_ns = ktime_get_ns();
	anchor = counter_create(raw_smp_processor_id(), true);
	if (IS_ERR(anchor))
		return PTR_ERR(anchor);
	err = cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "mm/hplacement:online",
				counter_up, counter_down);
	if (err < 0) {
		perf_event_release_kernel(anchor);
		return err;
	}
	hotplug_state = err;
	err = counters_check();
	if (err)
		pebs_stop();
	return err;
}

/* Account for what the handler on a CPU has done; returns the CPU time it took. */
static u64 handler_account(struct hpl_cpu *c)
{
	typeof(c->seen) now = {
		.nr_dropped = READ_ONCE(c->ring.nr_dropped),
		.nr_discarded = READ_ONCE(c->nr_discarded),
		.nr_pmi = READ_ONCE(c->nr_pmi),
		.nr_switch = READ_ONCE(c->nr_switch),
		.spent_ns = READ_ONCE(c->spent_ns),
	};
	u64 spent_ns = now.spent_ns - c->seen.spent_ns;

	count_vm_events(HPL_SAMPLE_DROPPED,
			now.nr_dropped - c->seen.nr_dropped);
	count_vm_events(HPL_SAMPLE_DISCARDED,
			now.nr_discarded - c->seen.nr_discarded);
	count_vm_events(HPL_SAMPLE_DRAIN_PMI, now.nr_pmi - c->seen.nr_pmi);
	count_vm_events(HPL_SAMPLE_DRAIN_SWITCH,
			now.nr_switch - c->seen.nr_switch);
	c->seen = now;
	return spent_ns;
}

/* Whether any page of a range was found on a slow node. */
static bool has_slow(const struct hpl_range *r)
{
	unsigned int i;

	for (i = 0; i < HPL_NR_SUBS; i++)
		if (r->sub[i].fast < r->sub[i].seen)
			return true;
	return false;
}

/* Take out what is in the ring of a CPU; returns how many counted in a tree. */
static unsigned int ring_empty(int cpu, struct hpl_ring *ring)
{
	unsigned int nr = hpl_ring_count(ring), used = 0, i;
	struct hpl_mm *hm = NULL;
	u64 begin = local_clock();
	unsigned long mm = 0;

	for (i = 0; i < nr; i++) {
		struct hpl_sample s = hpl_ring_peek(ring, i);
		struct hpl_range *r;
		unsigned int news;

		/* A CPU has many samples of a task in turn. */
		if (s.mm != mm) {
			mm = s.mm;
			hm = hpl_mm_find(mm);
			if (hm && hm->fresh)
				hm = NULL;
		}
		r = hm ? hpl_tree_find(&hm->tree, s.addr) : NULL;
		if (!r)
			continue;
		news = HPL_SPOT_FRESH;
		if (hm->owner < HPL_OWNERS)
			news = hpl_sketch_count(&hpl_sketch, hm->owner, s.addr);
		/* To look a page up costs more than all else that is done here. */
		if (news & HPL_SPOT_HOT && has_slow(r))
			hpl_plan_spot(hm->owner, s.addr);
		hpl_range_event(r, s.addr, news & HPL_SPOT_FRESH);
		used++;
	}
	hpl_ring_drop(ring, nr);
	count_vm_events(HPL_SAMPLE_PEBS, used);
	count_vm_events(HPL_SAMPLE_DISCARDED, nr - used);
	if (nr)
		trace_hpl_sample_pebs(cpu, nr, used, local_clock() - begin);
	return used;
}

/**
 * struct hpl_time - how long counters have counted
 * @enabled_ns: how long they have been there, summed over CPUs
 * @running_ns: of that, how long they have counted
 * @drain_ns: CPU time of drains in the main thread
 */
struct hpl_time {
	u64 enabled_ns;
	u64 running_ns;
	u64 drain_ns;
};

/*
 * Read the counter of a CPU, which drains its records. It is added to @sum how
 * long it has counted since it was read last. Returns 0, or -EBUSY if it has
 * not counted for long.
 */
static int counter_read(struct hpl_cpu *c, struct hpl_time *sum)
{
	u64 enabled, running, count;

	if (!c->event)
		return -EBUSY;
	count = perf_event_read_value(c->event, &enabled, &running);
	if (count)
		has_counted = true;
	sum->enabled_ns += enabled - c->enabled_ns;
	sum->running_ns += running - c->running_ns;
	if (running != c->running_ns)
		c->ran_ns = enabled;
	c->enabled_ns = enabled;
	c->running_ns = running;
	return enabled - c->ran_ns > HPL_LOST_NS ||
	       READ_ONCE(c->event->state) <= PERF_EVENT_STATE_OFF ? -EBUSY : 0;
}

/*
 * Have all records that exist drained into the rings. An idle CPU has none: it
 * left its last task. But the moment in which it does so is not seen sharply,
 * hence also idle ones are looked at if @all.
 */
static int counters_read(bool all, struct hpl_time *sum)
{
	int cpu, err = 0;

	cpus_read_lock();
	for_each_online_cpu(cpu)
		if (all || !idle_cpu(cpu))
			err = counter_read(per_cpu_ptr(&hpl_cpus, cpu), sum) ?:
			      err;
	cpus_read_unlock();
	/*
	 * The drain when this thread came in has been charged to it by the
	 * scheduler, as has the one just made.
	 */
	sum->drain_ns = this_cpu_xchg(hpl_cpus.drain_ns, 0);
	if (!err && !has_counted && user_ns() - user_ns_at_start > HPL_SILENT_NS)
		err = -ENODATA;
	return err;
}

/*
 * How long accesses have been sampled since last asked, in the unit of struct
 * hpl_range: less where the period is longer or the PMU has been shared.
 */
static u32 exposure(const struct hpl_time *t, u64 us)
{
	if (t->running_ns < t->enabled_ns)
		us = div64_u64(us * (t->running_ns >> 10),
			       max(t->enabled_ns >> 10, 1ULL));
	us = div_u64(us << (HPL_SAMPLE_SHIFT - HPL_PERIOD_SHIFT_DENSE),
		     USEC_PER_MSEC);
	return min_t(u64, us >> (period_shift - HPL_PERIOD_SHIFT_DENSE),
		     U32_MAX);
}

/* Take what samples there are into the trees; returns 0 or an error. */
static int drain(struct list_head *mms, struct hpl_epoch *epoch)
{
	struct hpl_time counted = {};
	bool fresh = false;
	struct hpl_mm *hm;
	u64 now, us, begin, spent_ns = 0;
	u32 exposed;
	int cpu, err;

	list_for_each_entry(hm, mms, list)
		fresh |= hm->fresh;
	err = counters_read(fresh, &counted);
	now = ktime_get_ns();
	us = div_u64(min(now - collected_ns, HPL_EXPOSED_NS_MAX), NSEC_PER_USEC);
	collected_ns = now;
	exposed = exposure(&counted, us);
	begin = task_sched_runtime(current);
	for_each_possible_cpu(cpu) {
		struct hpl_cpu *c = per_cpu_ptr(&hpl_cpus, cpu);

		if (!READ_ONCE(c->ring.samples))
			continue;
		epoch->nr_samples += ring_empty(cpu, &c->ring);
		spent_ns += handler_account(c);
		cond_resched();
	}
	epoch->spent_ns += spent_ns;
	epoch->record_ns += counted.drain_ns + spent_ns +
			    task_sched_runtime(current) - begin;
	/*
	 * All that might be of another mm has been taken out by now, as it was
	 * drained after these were registered.
	 */
	list_for_each_entry(hm, mms, list) {
		if (!hm->fresh)
			hpl_tree_expose(&hm->tree, exposed);
		hm->fresh = false;
	}
	hpl_sketch_expose(&hpl_sketch, exposed);
	return err;
}

static int pebs_collect(struct list_head *mms, struct hpl_epoch *epoch)
{
	unsigned int left_us = epoch->length_us, us;
	int err;

	epoch->period = HPL_PEBS_PERIOD(period_shift);
	do {
		us = min(left_us, HPL_DRAIN_US_MAX);
		left_us -= us;
		hpl_sleep(us);
		err = drain(mms, epoch);
	} while (!err && left_us && !kthread_should_stop());
	hpl_look(mms, epoch);
	return err;
}

static void pebs_adapt(const struct hpl_epoch *epoch, u64 spent_ns,
		       u64 budget_ns)
{
	int old = period_shift;
	int cpu;

	period_shift = hpl_policy_period(old,
					 hpl_spots_rich() ?
						 HPL_PERIOD_SHIFT_DENSE : 0,
					 epoch->record_ns, spent_ns,
					 budget_ns);
	if (period_shift == old)
		return;
	cpus_read_lock();
	for_each_online_cpu(cpu) {
		struct hpl_cpu *c = per_cpu_ptr(&hpl_cpus, cpu);

		if (c->event)
			perf_event_period(c->event,
					  HPL_PEBS_PERIOD(period_shift));
	}
	cpus_read_unlock();
}

static void pebs_pause(bool pause)
{
	int cpu;

	cpus_read_lock();
	for_each_online_cpu(cpu) {
		struct hpl_cpu *c = per_cpu_ptr(&hpl_cpus, cpu);

		if (c->event && pause)
			perf_event_disable(c->event);
		else if (c->event)
			perf_event_enable(c->event);
	}
	cpus_read_unlock();
	/* Accesses meanwhile have been nobody's: time begins anew. */
	if (!pause)
		collected_ns = ktime_get_ns();
}

const struct hpl_source hpl_source_pebs = {
	.name = "pebs",
	.evidence = HPL_EVENTS,
	.start = pebs_start,
	.stop = pebs_stop,
	.collect = pebs_collect,
	.adapt = pebs_adapt,
	.pause = pebs_pause,
};
