// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: KUnit tests of range trees, policy, rings and lifecycle
 *
 * Trees and policy are tested more thoroughly on the host, by
 * tools/testing/tiering_range/; here it is seen that they do the same with the
 * kernel's own arithmetic, sort() and allocator.
 */
#include <kunit/test.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/nodemask.h>
#include <linux/sched.h>
#include <linux/tiering_demote.h>

#include "../tiering_range_internal.h"
#include "../tiering_range.h"
#include "../tiering_range_ring.h"

#define PAGES(n)	((unsigned long)(n) << PAGE_SHIFT)

static int hpl_tree_case_init(struct kunit *test)
{
	struct hpl_tree *tree = kunit_kzalloc(test, sizeof(*tree), GFP_KERNEL);

	if (!tree)
		return -ENOMEM;
	hpl_tree_init(tree, 64, HPL_BITS);
	test->priv = tree;
	return 0;
}

static void hpl_tree_case_exit(struct kunit *test)
{
	struct hpl_tree *tree = test->priv;

	hpl_tree_destroy(tree);
	KUNIT_EXPECT_EQ(test, tree->nr, 0);
}

static struct hpl_range *one_range(struct kunit *test, unsigned long nr_pages)
{
	const struct hpl_span span = { 0, PAGES(nr_pages) };
	struct hpl_tree *tree = test->priv;

	KUNIT_ASSERT_EQ(test, hpl_tree_sync(tree, &span, 1), 0);
	KUNIT_ASSERT_EQ(test, tree->nr, 1);
	return hpl_tree_first(tree);
}

/* @nr samples of resident pages over [from, to) pages, @percent accessed. */
static void feed(struct kunit *test, unsigned long from, unsigned long to,
		 unsigned int nr, unsigned int percent)
{
	struct hpl_tree *tree = test->priv;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		unsigned long addr = PAGES(from + (to - from) * i / nr);
		struct hpl_range *r = hpl_tree_find(tree, addr);

		KUNIT_ASSERT_NOT_NULL(test, r);
		hpl_range_count(r, addr, true, i % 100 < percent, false);
	}
}

static void hpl_tree_covers_spans(struct kunit *test)
{
	const struct hpl_span spans[] = {
		{ 0x10000, 0x90000 }, { 0xa0000, 0xc0000 },
	};
	struct hpl_tree *tree = test->priv;

	KUNIT_ASSERT_EQ(test, hpl_tree_sync(tree, spans, 2), 0);
	KUNIT_EXPECT_EQ(test, tree->nr, 2);
	KUNIT_EXPECT_NULL(test, hpl_tree_find(tree, 0xffff));
	KUNIT_EXPECT_NOT_NULL(test, hpl_tree_find(tree, 0x10000));
	KUNIT_EXPECT_NULL(test, hpl_tree_find(tree, 0x90000));
	KUNIT_EXPECT_NOT_NULL(test, hpl_tree_find(tree, 0xbffff));

	/* A hole is cut and the rest stays. */
	KUNIT_ASSERT_EQ(test, hpl_tree_sync(tree, spans + 1, 1), 0);
	KUNIT_EXPECT_EQ(test, tree->nr, 1);
	KUNIT_EXPECT_NULL(test, hpl_tree_find(tree, 0x10000));
}

static void hpl_tree_splits_and_merges(struct kunit *test)
{
	struct hpl_tree *tree = test->priv;
	struct hpl_range *r = one_range(test, 512);

	feed(test, 0, 384, 384, 5);
	feed(test, 384, 512, 128, 90);
	KUNIT_ASSERT_EQ(test, hpl_tree_split(tree), 1);
	KUNIT_EXPECT_EQ(test, r->end, PAGES(384));
	KUNIT_EXPECT_EQ(test, hpl_range_sum(r).seen, 384 * HPL_SAMPLE_ONE);
	KUNIT_EXPECT_EQ(test, hpl_range_sum(hpl_range_next(r)).seen,
			128 * HPL_SAMPLE_ONE);
	KUNIT_EXPECT_EQ(test, hpl_tree_merge(tree), 0);

	/* The heat has gone, and with time the evidence of it. */
	hpl_tree_decay(tree, 60000);
	hpl_tree_decay(tree, 60000);
	feed(test, 0, 384, 300, 5);
	feed(test, 384, 512, 100, 5);
	KUNIT_EXPECT_EQ(test, hpl_tree_merge(tree), 1);
	KUNIT_EXPECT_EQ(test, tree->nr, 1);
	KUNIT_EXPECT_EQ(test, hpl_tree_first(tree)->end, PAGES(512));
}

static void hpl_tree_respects_its_bound(struct kunit *test)
{
	struct hpl_tree *tree = test->priv;

	one_range(test, 512);
	feed(test, 0, 256, 256, 90);
	feed(test, 256, 512, 256, 5);
	tree->max = 1;
	KUNIT_EXPECT_EQ(test, hpl_tree_split(tree), 0);
	tree->max = 2;
	KUNIT_EXPECT_EQ(test, hpl_tree_split(tree), 1);
}

static void hpl_tree_keeps_account_of_moves(struct kunit *test)
{
	struct hpl_range *r = one_range(test, 400);

	feed(test, 0, 400, 400, 50);
	KUNIT_EXPECT_EQ(test, hpl_range_resident(r), 400);
	KUNIT_EXPECT_EQ(test, hpl_range_fast(r), 0);
	hpl_range_moved(r, 200, true);
	KUNIT_EXPECT_EQ(test, hpl_range_fast(r), 200);
	hpl_range_moved(r, ULONG_MAX, false);
	KUNIT_EXPECT_EQ(test, hpl_range_fast(r), 0);
	KUNIT_EXPECT_EQ(test, hpl_range_resident(r), 400);
}

static void hpl_tree_splits_by_events(struct kunit *test)
{
	struct hpl_tree *tree = test->priv;
	struct hpl_range *r;
	unsigned int i;

	tree->evidence = HPL_EVENTS;
	r = one_range(test, 512);
	feed(test, 0, 512, 64, 0);
	hpl_tree_expose(tree, 500 * HPL_SAMPLE_ONE);
	for (i = 0; i < 100; i++)
		hpl_range_event(r, PAGES(i % 8 ? 384 + i : 3 * i), true);
	KUNIT_ASSERT_EQ(test, hpl_tree_split(tree), 1);
	KUNIT_EXPECT_EQ(test, r->end, PAGES(384));
	KUNIT_EXPECT_EQ(test, hpl_range_sum(r).hit, 13 * HPL_SAMPLE_ONE);
	KUNIT_EXPECT_EQ(test, hpl_range_next(r)->exposed, r->exposed);
	KUNIT_EXPECT_EQ(test, hpl_tree_merge(tree), 0);
}

static struct kunit_case hpl_tree_cases[] = {
	KUNIT_CASE(hpl_tree_covers_spans),
	KUNIT_CASE(hpl_tree_splits_and_merges),
	KUNIT_CASE(hpl_tree_respects_its_bound),
	KUNIT_CASE(hpl_tree_keeps_account_of_moves),
	KUNIT_CASE(hpl_tree_splits_by_events),
	{}
};

static struct kunit_suite hpl_tree_suite = {
	.name = "hpl_tree",
	.init = hpl_tree_case_init,
	.exit = hpl_tree_case_exit,
	.test_cases = hpl_tree_cases,
};

/* A range of 1000 resident pages with @percent accessed of 200 samples. */
static struct hpl_candidate candidate(unsigned int owner, unsigned int percent,
				      unsigned long nr_fast)
{
	return (struct hpl_candidate){
		.owner = owner,
		.end = PAGES(1000),
		.counts = {
			.tried = 200 * HPL_SAMPLE_ONE,
			.seen = 200 * HPL_SAMPLE_ONE,
			.hit = 2 * percent * HPL_SAMPLE_ONE,
		},
		.nr_fast = nr_fast,
		.nr_slow = 1000 - nr_fast,
	};
}

static void hpl_policy_exchanges_hottest_and_coldest(struct kunit *test)
{
	struct hpl_candidate c[] = {
		candidate(0, 40, 1000), candidate(1, 2, 1000),
		candidate(2, 95, 0), candidate(3, 1, 0),
	};
	const struct hpl_costs costs = {
		.nr_budget = 700, .interval_us = 5000, .page_ns = 5000,
		.gap_ns = HPL_GAP_NS,
	};

	KUNIT_EXPECT_EQ(test, hpl_policy_plan(c, 4, NULL, &costs), 700);
	KUNIT_EXPECT_EQ(test, c[0].owner, 2);
	KUNIT_EXPECT_EQ(test, c[0].nr_promote, 700);
	KUNIT_EXPECT_EQ(test, c[1].nr_demote, 0);
	KUNIT_EXPECT_EQ(test, c[2].owner, 1);
	KUNIT_EXPECT_EQ(test, c[2].nr_demote, 700);
	KUNIT_EXPECT_EQ(test, c[3].nr_promote, 0);
}

static void hpl_policy_leaves_equals_alone(struct kunit *test)
{
	struct hpl_candidate c[] = {
		candidate(0, 50, 1000), candidate(1, 52, 0),
	};
	const struct hpl_costs costs = {
		.nr_budget = 700, .interval_us = 5000, .page_ns = 5000,
		.gap_ns = HPL_GAP_NS,
	};

	KUNIT_EXPECT_EQ(test, hpl_policy_plan(c, 2, NULL, &costs), 0);
	KUNIT_EXPECT_EQ(test, c[0].nr_promote + c[1].nr_demote, 0);
}

static void hpl_policy_adapts_within_bounds(struct kunit *test)
{
	unsigned int nr = 1024, us = 5000, i;

	for (i = 0; i < 10; i++)
		nr = hpl_policy_nr_samples(nr, 1000ULL * nr, 2000000);
	KUNIT_EXPECT_EQ(test, nr, 2000);
	KUNIT_EXPECT_GT(test, hpl_policy_nr_samples(0, U64_MAX, 0), 0);
	for (i = 0; i < 10; i++)
		us = hpl_policy_interval(us, 1000, 0, 25000, 1000);
	KUNIT_EXPECT_EQ(test, us, 25000);
	for (i = 0; i < 10; i++)
		us = hpl_policy_interval(us, 1000, 1000, 25000, 1000);
	KUNIT_EXPECT_EQ(test, us, 1000);
}

static struct kunit_case hpl_policy_cases[] = {
	KUNIT_CASE(hpl_policy_exchanges_hottest_and_coldest),
	KUNIT_CASE(hpl_policy_leaves_equals_alone),
	KUNIT_CASE(hpl_policy_adapts_within_bounds),
	{}
};

static struct kunit_suite hpl_policy_suite = {
	.name = "hpl_policy",
	.test_cases = hpl_policy_cases,
};

static int hpl_ring_case_init(struct kunit *test)
{
	struct hpl_ring *ring = kunit_kzalloc(test, sizeof(*ring), GFP_KERNEL);

	if (!ring)
		return -ENOMEM;
	ring->samples = kunit_kcalloc(test, HPL_RING_SAMPLES,
				      sizeof(*ring->samples), GFP_KERNEL);
	test->priv = ring;
	return ring->samples ? 0 : -ENOMEM;
}

static void hpl_ring_keeps_the_order(struct kunit *test)
{
	struct hpl_ring *ring = test->priv;
	struct hpl_sample s;
	unsigned int i, j;

	/* So that the counters wrap around amid the test. */
	ring->head = UINT_MAX - 10;
	ring->tail = ring->head;
	for (i = 0; i < 3 * HPL_RING_SAMPLES; i += 1000) {
		for (j = i; j < i + 1000; j++)
			hpl_ring_push(ring, j, ~j);
		KUNIT_ASSERT_EQ(test, hpl_ring_count(ring), 1000);
		for (j = i; j < i + 1000; j++) {
			s = hpl_ring_peek(ring, j - i);
			KUNIT_ASSERT_EQ(test, s.mm, j);
			KUNIT_ASSERT_EQ(test, s.addr, ~j);
		}
		hpl_ring_drop(ring, 1000);
		KUNIT_ASSERT_EQ(test, hpl_ring_count(ring), 0);
	}
	KUNIT_EXPECT_EQ(test, ring->nr_dropped, 0);
}

static void hpl_ring_drops_what_is_too_much(struct kunit *test)
{
	struct hpl_ring *ring = test->priv;
	unsigned int i;

	for (i = 0; i < HPL_RING_SAMPLES + 7; i++)
		hpl_ring_push(ring, 1, i);
	KUNIT_EXPECT_EQ(test, ring->nr_dropped, 7);
	KUNIT_EXPECT_EQ(test, hpl_ring_count(ring), HPL_RING_SAMPLES);
	/* The oldest are kept; and once there is room, there is. */
	KUNIT_EXPECT_EQ(test, hpl_ring_peek(ring, 0).addr, 0);
	hpl_ring_drop(ring, 1);
	hpl_ring_push(ring, 1, 0xabc);
	KUNIT_EXPECT_EQ(test, ring->nr_dropped, 7);
	for (i = 1; i < HPL_RING_SAMPLES; i++)
		KUNIT_EXPECT_EQ(test, hpl_ring_peek(ring, i - 1).addr, i);
	KUNIT_EXPECT_EQ(test, hpl_ring_peek(ring, i - 1).addr, 0xabc);
	hpl_ring_drop(ring, HPL_RING_SAMPLES);
	KUNIT_EXPECT_EQ(test, hpl_ring_count(ring), 0);
}

static struct kunit_case hpl_ring_cases[] = {
	KUNIT_CASE(hpl_ring_keeps_the_order),
	KUNIT_CASE(hpl_ring_drops_what_is_too_much),
	{}
};

static struct kunit_suite hpl_ring_suite = {
	.name = "hpl_ring",
	.init = hpl_ring_case_init,
	.test_cases = hpl_ring_cases,
};

static void hpl_life_is_off_at_first(struct kunit *test)
{
	KUNIT_EXPECT_FALSE(test, hpl_enabled());
	KUNIT_EXPECT_EQ(test, hpl_enable(false), 0);
	KUNIT_EXPECT_FALSE(test, hpl_enabled());
}

static void hpl_life_starts_and_stops(struct kunit *test)
{
	unsigned int i;

	for (i = 0; i < 20; i++) {
		KUNIT_ASSERT_EQ(test, hpl_enable(true), 0);
		KUNIT_EXPECT_TRUE(test, hpl_enabled());
		KUNIT_EXPECT_EQ(test, hpl_enable(true), 0);
		/* Every other time before the thread has had a chance to run. */
		if (i & 1)
			schedule_timeout_uninterruptible(1);
		KUNIT_ASSERT_EQ(test, hpl_enable(false), 0);
		KUNIT_EXPECT_FALSE(test, hpl_enabled());
	}
}

/* Without heat, without processes or without a slower node: nothing. */
static void hpl_life_demotes_only_what_it_knows(struct kunit *test)
{
	int nid;

	for_each_node_state(nid, N_MEMORY)
		KUNIT_EXPECT_EQ(test, hpl_demote_node(nid, 100), 0);
	KUNIT_EXPECT_EQ(test, hpl_demote_node(NUMA_NO_NODE, 100), 0);
	KUNIT_ASSERT_EQ(test, hpl_enable(true), 0);
	for_each_node_state(nid, N_MEMORY)
		KUNIT_EXPECT_EQ(test, hpl_demote_node(nid, 100), 0);
	KUNIT_ASSERT_EQ(test, hpl_enable(false), 0);
}

/* Which source is in use depends on the machine, and on its having tiers. */
static void hpl_life_has_a_choice_of_sources(struct kunit *test)
{
	KUNIT_EXPECT_STREQ(test, hpl_source_in_use(), "none");
	KUNIT_EXPECT_EQ(test, hpl_source_choice(), HPL_CHOICE_AUTO);
	KUNIT_ASSERT_EQ(test, hpl_source_choose(HPL_CHOICE_ABIT), 0);
	KUNIT_EXPECT_STREQ(test, hpl_source_in_use(), "none");
	KUNIT_ASSERT_EQ(test, hpl_enable(true), 0);
	/* Works or is refused; HPlacement goes on either way. */
	if (hpl_source_choose(HPL_CHOICE_PEBS))
		KUNIT_EXPECT_EQ(test, hpl_source_choice(), HPL_CHOICE_ABIT);
	else
		KUNIT_EXPECT_EQ(test, hpl_source_choice(), HPL_CHOICE_PEBS);
	KUNIT_EXPECT_TRUE(test, hpl_enabled());
	KUNIT_EXPECT_EQ(test, hpl_source_choose(HPL_CHOICE_AUTO), 0);
	KUNIT_EXPECT_EQ(test, hpl_enable(false), 0);
	KUNIT_EXPECT_STREQ(test, hpl_source_in_use(), "none");
}

/* What it has no answer for is not moved. */
static void hpl_life_knows_what_may_move(struct kunit *test)
{
	struct vm_area_struct *vma;
	struct folio *folio;

	vma = kunit_kzalloc(test, sizeof(*vma), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, vma);
	KUNIT_EXPECT_TRUE(test, hpl_vma_movable(vma));
	vm_flags_init(vma, VM_LOCKED);
	KUNIT_EXPECT_FALSE(test, hpl_vma_movable(vma));
	vm_flags_init(vma, VM_PFNMAP);
	KUNIT_EXPECT_FALSE(test, hpl_vma_movable(vma));

	folio = folio_alloc(GFP_KERNEL, 0);
	KUNIT_ASSERT_NOT_NULL(test, folio);
	KUNIT_EXPECT_FALSE(test, hpl_folio_movable(folio));
	folio_put(folio);
}

static struct kunit_case hpl_life_cases[] = {
	KUNIT_CASE(hpl_life_is_off_at_first),
	KUNIT_CASE_SLOW(hpl_life_starts_and_stops),
	KUNIT_CASE(hpl_life_demotes_only_what_it_knows),
	KUNIT_CASE(hpl_life_has_a_choice_of_sources),
	KUNIT_CASE(hpl_life_knows_what_may_move),
	{}
};

static struct kunit_suite hpl_life_suite = {
	.name = "hpl_life",
	.test_cases = hpl_life_cases,
};

kunit_test_suites(&hpl_tree_suite, &hpl_policy_suite, &hpl_ring_suite,
		  &hpl_life_suite);
