// SPDX-License-Identifier: GPL-2.0
/*
 * What memory tiering of stock Linux costs: KUnit tests of how time is counted
 */
#include <kunit/test.h>
#include <linux/delay.h>
#include <linux/sched.h>
#include <linux/sched/clock.h>
#include <linux/sched/cputime.h>
#include <linux/tiering_stat.h>

#define BUSY_NS		(2 * NSEC_PER_MSEC)

/* Be busy for so long, in CPU time of the test. */
static void busy(u64 ns)
{
	u64 end = task_sched_runtime(current) + ns;

	while (task_sched_runtime(current) < end)
		cpu_relax();
}

static unsigned long counted(enum vm_event_item item)
{
	static unsigned long events[NR_VM_EVENT_ITEMS];

	all_vm_events(events);
	return events[item];
}

static void inner(void)
{
	tier_stat_time(MIGRATE);
	busy(4 * BUSY_NS);
}

static void outer(void)
{
	tier_stat_time(LRU_SCAN);
	busy(BUSY_NS);
	inner();
}

/* What is counted inside is not counted outside again. */
static void tier_stat_nests(struct kunit *test)
{
	unsigned long lru = counted(TIER_LRU_SCAN_NS);
	unsigned long migrate = counted(TIER_MIGRATE_NS);
	u64 begin = task_sched_runtime(current), all;

	outer();
	all = task_sched_runtime(current) - begin;
	lru = counted(TIER_LRU_SCAN_NS) - lru;
	migrate = counted(TIER_MIGRATE_NS) - migrate;
	KUNIT_EXPECT_GE(test, migrate, 4 * BUSY_NS);
	KUNIT_EXPECT_GE(test, lru, BUSY_NS);
	KUNIT_EXPECT_LE(test, lru + migrate, all);
}

/* A task that sleeps takes no CPU time. */
static void tier_stat_leaves_sleep_out(struct kunit *test)
{
	unsigned long before = counted(TIER_MIGRATE_NS);
	u64 begin = task_sched_runtime(current), all;

	do {
		tier_stat_time(MIGRATE);
		msleep(50);
	} while (0);
	all = task_sched_runtime(current) - begin;
	KUNIT_EXPECT_LE(test, counted(TIER_MIGRATE_NS) - before, all);
}

/* Nor is that of a short section known, so what is around it counts. */
static void tier_stat_leaves_interrupted_out(struct kunit *test)
{
	unsigned long lru = counted(TIER_LRU_SCAN_NS);
	unsigned long walk = counted(TIER_RMAP_WALK_NS);

	do {
		tier_stat_time(LRU_SCAN);
		do {
			tier_stat_time(RMAP_WALK);
			busy(BUSY_NS);
			msleep(20);
		} while (0);
	} while (0);
	KUNIT_EXPECT_EQ(test, counted(TIER_RMAP_WALK_NS), walk);
	KUNIT_EXPECT_GE(test, counted(TIER_LRU_SCAN_NS) - lru, BUSY_NS);
}

/* If undisturbed, it is known. */
static void tier_stat_counts_short_sections(struct kunit *test)
{
	unsigned long walk = counted(TIER_RMAP_WALK_NS);
	u64 begin = local_clock(), all;
	unsigned int i;

	for (i = 0; i < 1000; i++) {
		tier_stat_time(RMAP_WALK);
		ndelay(1000);
	}
	all = local_clock() - begin;
	walk = counted(TIER_RMAP_WALK_NS) - walk;
	KUNIT_EXPECT_GT(test, walk, 0);
	KUNIT_EXPECT_LE(test, walk, all);
}

static struct kunit_case tier_stat_cases[] = {
	KUNIT_CASE(tier_stat_nests),
	KUNIT_CASE(tier_stat_leaves_sleep_out),
	KUNIT_CASE(tier_stat_leaves_interrupted_out),
	KUNIT_CASE(tier_stat_counts_short_sections),
	{}
};

static struct kunit_suite tier_stat_suite = {
	.name = "tier_stat",
	.test_cases = tier_stat_cases,
};

kunit_test_suite(tier_stat_suite);
