// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: tests of the decisions what to move and how much to sample
 */
#include <math.h>

#include "test.h"

static const struct hpl_costs cheap = {
	.nr_budget = 1000000,
	.interval_us = 5000,
	.page_ns = 5000,
	.gap_ns = HPL_GAP_NS,
};

/* A range of 1000 resident pages with @hit accessed of @seen samples. */
static struct hpl_candidate cand(unsigned int owner, unsigned int seen,
				 unsigned int hit, unsigned long nr_fast)
{
	return (struct hpl_candidate){
		.owner = owner,
		.start = owner * GIB,
		.end = owner * GIB + (1000 << PAGE_SHIFT),
		.counts = {
			.tried = seen * HPL_SAMPLE_ONE,
			.seen = seen * HPL_SAMPLE_ONE,
			.hit = hit * HPL_SAMPLE_ONE,
		},
		.nr_fast = nr_fast,
		.nr_slow = 1000 - nr_fast,
	};
}

static struct hpl_candidate *of(struct hpl_candidate *c, unsigned int nr,
				unsigned int owner)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		if (c[i].owner == owner)
			return &c[i];
	abort();
}

static void policy_uses_free_memory_first(void)
{
	struct hpl_candidate c[] = { cand(0, 100, 0, 1000), cand(1, 100, 90, 0),
				     cand(2, 100, 50, 0) };
	struct hpl_costs costs = cheap;

	costs.nr_free = 600;
	EXPECT_EQ(hpl_policy_plan(c, 3, NULL, &costs), 1600);
	EXPECT_EQ(of(c, 3, 1)->nr_promote, 1000);
	/* Then room is made for the rest, as far as the cold range has pages. */
	EXPECT_EQ(of(c, 3, 0)->nr_demote, 1000);
	EXPECT_EQ(of(c, 3, 2)->nr_promote, 600);
}

static void policy_makes_up_for_what_is_short(void)
{
	struct hpl_candidate c[] = { cand(0, 100, 0, 1000), cand(1, 100, 90, 0) };
	struct hpl_costs costs = cheap;

	costs.nr_short = 300;
	costs.nr_unpaired = ULONG_MAX;
	costs.nr_budget = 100;
	EXPECT_EQ(hpl_policy_plan(c, 2, NULL, &costs), 100);
	EXPECT_EQ(of(c, 2, 0)->nr_demote, 400);
	/* Few pages are not worth many. */
	c[0] = cand(0, 100, 0, 1000);
	c[1] = cand(1, 100, 90, 0);
	costs.nr_budget = 10;
	EXPECT_EQ(hpl_policy_plan(c, 2, NULL, &costs), 10);
	EXPECT_EQ(of(c, 2, 0)->nr_demote, 90);
	/* Those that change places need none. */
	c[0] = cand(0, 100, 0, 1000);
	c[1] = cand(1, 100, 90, 0);
	costs.nr_budget = 100;
	costs.nr_unpaired = 2;
	EXPECT_EQ(hpl_policy_plan(c, 2, NULL, &costs), 100);
	EXPECT_EQ(of(c, 2, 0)->nr_demote, 116);
	costs.nr_unpaired = ULONG_MAX;
	costs.nr_budget = 10;
	/* Nor is there a need if nothing is promoted... */
	c[0] = cand(0, 100, 0, 1000);
	c[1] = cand(1, 100, 0, 0);
	EXPECT_EQ(hpl_policy_plan(c, 2, NULL, &costs), 0);
	EXPECT_EQ(of(c, 2, 0)->nr_demote, 0);
	/* ...but for headroom, within the budget. */
	costs.nr_wanted = 300;
	EXPECT_EQ(hpl_policy_plan(c, 2, NULL, &costs), 0);
	EXPECT_EQ(of(c, 2, 0)->nr_demote, 10);
	c[0] = cand(0, 100, 0, 1000);
	c[1] = cand(1, 100, 0, 0);
	costs.nr_budget = 1000;
	EXPECT_EQ(hpl_policy_plan(c, 2, NULL, &costs), 0);
	EXPECT_EQ(of(c, 2, 0)->nr_demote, 300);
}

/* @nr pages with @hits each, in an exposure of 3 s. */
static struct hpl_candidate alone(unsigned int nr, unsigned int hits)
{
	return (struct hpl_candidate){
		.heat = ((u64)hits << 32) / 3000,
		.exposed = 3000 * HPL_SAMPLE_ONE,
		.nr_slow = nr,
	};
}

/* Two cold ranges of 1000 pages, all of them fast, with 10 and 20 events. */
static void two_cold(struct hpl_candidate *c)
{
	c[0] = cand(0, 100, 10, 1000);
	c[1] = cand(1, 100, 20, 1000);
	c[0].exposed = 3000 * HPL_SAMPLE_ONE;
	c[1].exposed = 3000 * HPL_SAMPLE_ONE;
}

static void policy_promotes_pages_alone(void)
{
	struct hpl_candidate c[2], hot = alone(50, 2);
	struct hpl_costs costs = cheap;

	costs.evidence = HPL_EVENTS;
	two_cold(c);
	EXPECT_EQ(hpl_policy_plan(c, 2, &hot, &costs), 50);
	EXPECT_EQ(hot.nr_promote, 50);
	EXPECT_EQ(of(c, 2, 0)->nr_demote, 50);
	EXPECT_EQ(of(c, 2, 1)->nr_demote, 0);
	/* Free memory first. */
	two_cold(c);
	hot = alone(50, 2);
	costs.nr_free = 20;
	EXPECT_EQ(hpl_policy_plan(c, 2, &hot, &costs), 50);
	EXPECT_EQ(of(c, 2, 0)->nr_demote, 30);
	/* Not if moving is too dear. */
	two_cold(c);
	hot = alone(50, 2);
	costs.page_ns = 1000000;
	EXPECT_EQ(hpl_policy_plan(c, 2, &hot, &costs), 0);
	EXPECT_EQ(hot.nr_promote, 0);
}

/*
 * A range with as many samples as the promoted pages would have without: only if
 * few of its samples were fresh are the others of its pages colder.
 */
static void policy_demotes_what_was_not_sampled(void)
{
	struct hpl_costs costs = cheap;
	struct hpl_candidate c, hot;

	costs.evidence = HPL_EVENTS;
	c = cand(0, 100, 1000, 1000);
	c.exposed = 3000 * HPL_SAMPLE_ONE;
	/* Of those with one sample each, 37% have none if they are alike. */
	c.fresh = 368 * HPL_SAMPLE_ONE;
	hot = alone(50, 1);
	EXPECT_EQ(hpl_policy_plan(&c, 1, &hot, &costs), 0);
	c.fresh = 90 * HPL_SAMPLE_ONE;
	EXPECT_EQ(hpl_policy_plan(&c, 1, &hot, &costs), 50);
	EXPECT_EQ(c.nr_demote, 50);
}

/* @nr pages, of which each @stride-th has @mean samples in @ms, others @rest. */
static struct hpl_sketch sampled(unsigned int nr, unsigned int stride,
				 double mean, double rest, unsigned int ms)
{
	struct hpl_sketch sk;
	unsigned int i, n;

	/* A page in each fourth place, or in nearly all: then some are lost. */
	EXPECT_EQ(hpl_sketch_init(&sk, (mean > 2 ? 4 : 16) * nr), 0);
	for (i = 0; i < nr; i++)
		for (n = rnd_poisson(i % stride ? rest : mean); n; n--)
			hpl_sketch_count(&sk, 1, (unsigned long)i << PAGE_SHIFT);
	hpl_sketch_expose(&sk, ms * HPL_SAMPLE_ONE);
	EXPECT(hpl_sketch_pass(&sk, ULONG_MAX));
	return sk;
}

static void policy_judges_by_what_pays(void)
{
	struct hpl_candidate c = cand(0, 100, 0, 1000);
	struct hpl_costs costs = cheap;
	struct hpl_sketch sk;
	unsigned int i;

	costs.evidence = HPL_EVENTS;
	c.exposed = 3000 * HPL_SAMPLE_ONE;
	/* A tenth with 3 samples, others with a hundredth of that. */
	sk = sampled(100000, 10, 2, 0.02, 2000);
	costs.page_ns = 5000;
	hpl_policy_judge(&sk, &c, 1, &costs);
	EXPECT_EQ(sk.least, 1);
	/* Three in 3 s are 4096 accesses a second, which pays for 2.2 ms in 10 s. */
	costs.page_ns = 1000000;
	hpl_policy_judge(&sk, &c, 1, &costs);
	EXPECT_EQ(sk.least, HPL_SPOT_NEVER);
	costs.page_ns = 400000;
	costs.nr_free = 1;
	hpl_policy_judge(&sk, &c, 1, &costs);
	EXPECT_IN(sk.least, 2, 4);
	costs = cheap;
	costs.evidence = HPL_EVENTS;
	/* What was promoted with one sample had none since: then with more. */
	sk.promoted_exposed = 1000ULL * 3000 * HPL_SAMPLE_ONE;
	for (i = 0; i < HPL_SPOT_COUNTS && sk.least != HPL_SPOT_NEVER; i++) {
		sk.settling = 0;
		sk.promoted_exposed = 1000ULL * 3000 * HPL_SAMPLE_ONE;
		hpl_policy_judge(&sk, &c, 1, &costs);
		EXPECT_EQ(sk.raised, i + 1);
	}
	/* Some time later it is tried again. */
	sk.promoted_exposed = 0;
	for (i = 0; i < 1000 && sk.least == HPL_SPOT_NEVER; i++)
		hpl_policy_judge(&sk, &c, 1, &costs);
	EXPECT_IN(i, 16, 300);
	hpl_sketch_destroy(&sk);
}

/* Whatever their mean, of pages that are alike none deserves another's place. */
static void policy_judges_equals_equal(void)
{
	static const double means[] = { 0.001, 0.01, 0.1, 0.3, 1, 3, 10 };
	struct hpl_costs costs = cheap;
	unsigned int i;

	costs.evidence = HPL_EVENTS;
	costs.page_ns = 0;
	for (i = 0; i < ARRAY_SIZE(means); i++) {
		struct hpl_sketch sk = sampled(100000, 1, means[i], 0, 3000);
		struct hpl_candidate c = cand(0, 100, 0, 1000);

		c.exposed = 3000 * HPL_SAMPLE_ONE;
		c.counts.hit = 1000 * means[i] * HPL_SAMPLE_ONE;
		c.fresh = 1000 * means[i] * exp(-means[i]) * HPL_SAMPLE_ONE;
		hpl_policy_judge(&sk, &c, 1, &costs);
		EXPECT_EQ(sk.least, HPL_SPOT_NEVER);
		hpl_sketch_destroy(&sk);
	}
}

static void policy_promotes_the_hottest_into_free_memory(void)
{
	struct hpl_candidate c[] = { cand(0, 100, 20, 0), cand(1, 100, 90, 0) };
	struct hpl_costs costs = cheap;

	costs.nr_free = 1200;
	EXPECT_EQ(hpl_policy_plan(c, 2, NULL, &costs), 1200);
	EXPECT_EQ(of(c, 2, 1)->nr_promote, 1000);
	EXPECT_EQ(of(c, 2, 0)->nr_promote, 200);
}

static void policy_respects_the_budget(void)
{
	struct hpl_candidate c[] = { cand(0, 100, 0, 1000), cand(1, 100, 90, 0) };
	struct hpl_costs costs = cheap;

	costs.nr_budget = 77;
	EXPECT_EQ(hpl_policy_plan(c, 2, NULL, &costs), 77);
	EXPECT_EQ(of(c, 2, 1)->nr_promote, 77);
	EXPECT_EQ(of(c, 2, 0)->nr_demote, 77);
	costs.nr_budget = 0;
	EXPECT_EQ(hpl_policy_plan(c, 2, NULL, &costs), 0);
}

static void policy_plans_nothing_for_nothing(void)
{
	EXPECT_EQ(hpl_policy_plan(NULL, 0, NULL, &cheap), 0);
}

/* Hot and cold are both touched all the time: the coldest is found still. */
static void policy_finds_the_coldest_among_the_warm(void)
{
	struct hpl_candidate c[8];
	unsigned int i;

	for (i = 0; i < 7; i++)
		c[i] = cand(i, 400, 200 - 10 * i, 1000);
	c[7] = cand(7, 400, 320, 0);
	EXPECT_EQ(hpl_policy_plan(c, 8, NULL, &cheap), 1000);
	EXPECT_EQ(of(c, 8, 6)->nr_demote, 1000);
	for (i = 0; i < 6; i++)
		EXPECT_EQ(of(c, 8, i)->nr_demote, 0);
}

/* Nothing is gained by an exchange that evidence does not support. */
static void policy_leaves_equals_alone(void)
{
	struct hpl_candidate same[] = { cand(0, 100, 50, 1000),
					cand(1, 100, 50, 0) };
	struct hpl_candidate few[] = { cand(0, 15, 0, 1000),
				       cand(1, 15, 15, 0) };
	struct hpl_candidate noise[] = { cand(0, 40, 18, 1000),
					 cand(1, 40, 22, 0) };
	struct hpl_candidate right[] = { cand(0, 100, 90, 1000),
					 cand(1, 100, 1, 0) };

	EXPECT_EQ(hpl_policy_plan(same, 2, NULL, &cheap), 0);
	EXPECT_EQ(hpl_policy_plan(few, 2, NULL, &cheap), 0);
	EXPECT_EQ(hpl_policy_plan(noise, 2, NULL, &cheap), 0);
	EXPECT_EQ(hpl_policy_plan(right, 2, NULL, &cheap), 0);
}

/* Idle memory is not promoted, though there is room. */
static void policy_leaves_the_idle_alone(void)
{
	struct hpl_candidate c[] = { cand(0, 100, 0, 0), cand(1, 100, 0, 0) };
	struct hpl_costs costs = cheap;

	costs.nr_free = 100000;
	EXPECT_EQ(hpl_policy_plan(c, 2, NULL, &costs), 0);
}

static void policy_moves_only_what_pays(void)
{
	struct hpl_candidate c[] = { cand(0, 200, 0, 1000), cand(1, 200, 100, 0) };
	struct hpl_costs costs = cheap;

	/*
	 * Half of the pages accessed in 100 ms means 0.693 accesses a page, so
	 * 69 in 10 s, which save 53 ns each: 3673 ns. Two pages are moved for
	 * it, and the gain must be twice the cost.
	 */
	costs.interval_us = 100000;
	costs.page_ns = 3673 / 4 + 20;
	EXPECT_EQ(hpl_policy_plan(c, 2, NULL, &costs), 0);
	costs.page_ns = 3673 / 4 - 20;
	EXPECT_EQ(hpl_policy_plan(c, 2, NULL, &costs), 1000);
}

/*
 * Whatever the input: what is promoted is on the slow tier, what is demoted on
 * the fast one, no range does both, none that is demoted is hotter than one
 * that is promoted, and budget and free memory suffice.
 */
static void policy_keeps_its_promises(void)
{
	unsigned int round, i, n;

	for (round = 0; round < 3000; round++) {
		unsigned long promote = 0, demote = 0, planned;
		double coldest = 1, hottest = 0;
		struct hpl_candidate c[64];
		struct hpl_costs costs = {
			.nr_free = rnd_below(4) ? 0 : rnd_below(20000),
			.nr_budget = rnd_below(100000),
			.interval_us = 1000 + rnd_below(100000),
			.page_ns = rnd_below(400000),
			.gap_ns = 1 + rnd_below(HPL_GAP_NS_MAX),
		};

		n = 1 + rnd_below(64);
		for (i = 0; i < n; i++) {
			unsigned int seen = rnd_below(rnd_below(2) ? 50 : 60000);

			c[i] = cand(i, seen, rnd_below(seen + 1), rnd_below(1001));
		}
		planned = hpl_policy_plan(c, n, NULL, &costs);
		for (i = 0; i < n; i++) {
			double heat = (double)c[i].counts.hit /
				      (c[i].counts.seen ? c[i].counts.seen : 1);

			EXPECT(c[i].nr_promote <= c[i].nr_slow);
			EXPECT(c[i].nr_demote <= c[i].nr_fast);
			EXPECT(!c[i].nr_promote || !c[i].nr_demote);
			if (c[i].nr_promote && heat < coldest)
				coldest = heat;
			if (c[i].nr_demote && heat > hottest)
				hottest = heat;
			promote += c[i].nr_promote;
			demote += c[i].nr_demote;
		}
		EXPECT_EQ(planned, promote);
		EXPECT(promote <= costs.nr_budget);
		EXPECT(promote <= demote + costs.nr_free);
		EXPECT(demote <= promote);
		EXPECT(!demote || hottest < coldest);
	}
}

/* Evidence of one small range against a mountain of it still decides. */
static void policy_compares_unequal_evidence(void)
{
	struct hpl_candidate c[] = { cand(0, 65000, 10, 1000),
				     cand(1, 100, 100, 0) };

	EXPECT_EQ(hpl_policy_plan(c, 2, NULL, &cheap), 1000);
	EXPECT_EQ(of(c, 2, 0)->nr_demote, 1000);
}

/* Whatever is given up first, it is what is surely cold. */
static void policy_ranks_the_coldest_first(void)
{
	static const unsigned int order[] = { 3, 1, 0, 4, 2 };
	struct hpl_candidate c[] = {
		cand(0, 4, 1, 1000), cand(1, 100, 5, 1000),
		cand(2, 100, 90, 1000), cand(3, 400, 0, 1000),
		cand(4, 0, 0, 0),
	};
	unsigned int i;

	hpl_policy_rank_coldest(c, 5);
	for (i = 0; i < 5; i++)
		EXPECT_EQ(c[i].owner, order[i]);
	hpl_policy_rank_coldest(NULL, 0);
}

/* Looked at in vain is only what surely has nothing to give. */
static void policy_knows_who_has_fast_memory(void)
{
	struct hpl_candidate none = cand(0, 100, 0, 0);
	struct hpl_candidate unknown = cand(0, 3, 0, 0);
	struct hpl_candidate some = cand(0, 100, 0, 1);

	EXPECT(!hpl_policy_has_fast(&none));
	EXPECT(hpl_policy_has_fast(&unknown));
	EXPECT(hpl_policy_has_fast(&some));
}

static void policy_same_input_same_plan(void)
{
	struct hpl_candidate a[32], b[32];
	unsigned int i, j;

	for (i = 0; i < 32; i++)
		a[i] = b[31 - i] = cand(i, 100, 10 * (i % 8), i % 3 * 500);
	EXPECT_EQ(hpl_policy_plan(a, 32, NULL, &cheap), hpl_policy_plan(b, 32, NULL, &cheap));
	for (j = 0; j < 32; j++) {
		EXPECT_EQ(a[j].owner, b[j].owner);
		EXPECT_EQ(a[j].nr_promote, b[j].nr_promote);
		EXPECT_EQ(a[j].nr_demote, b[j].nr_demote);
	}
}

/* 1000 resident pages with @events sampled in a second at the default period. */
static struct hpl_candidate counted(unsigned int owner, unsigned int events,
				    unsigned long nr_fast)
{
	struct hpl_candidate c = cand(owner, 32, 0, nr_fast);

	c.counts.hit = events * HPL_SAMPLE_ONE;
	c.exposed = 1000 * HPL_SAMPLE_ONE;
	return c;
}

static const struct hpl_costs cheap_events = {
	.nr_budget = 1000000,
	.evidence = HPL_EVENTS,
	.page_ns = 5000,
	.gap_ns = HPL_GAP_NS,
};

static void policy_exchanges_by_events(void)
{
	struct hpl_candidate c[] = { counted(0, 50, 1000), counted(1, 3, 1000),
				     counted(2, 400, 0), counted(3, 1, 0) };
	struct hpl_candidate noise[] = { counted(0, 90, 1000),
					 counted(1, 110, 0) };
	struct hpl_candidate unlooked[] = { counted(0, 0, 1000),
					    counted(1, 400, 0) };
	struct hpl_costs costs = cheap_events;

	costs.nr_budget = 700;
	EXPECT_EQ(hpl_policy_plan(c, 4, NULL, &costs), 700);
	EXPECT_EQ(of(c, 4, 2)->nr_promote, 700);
	EXPECT_EQ(of(c, 4, 1)->nr_demote, 700);
	EXPECT_EQ(hpl_policy_plan(noise, 2, NULL, &cheap_events), 0);
	/* Where nobody has looked how much is resident. */
	unlooked[1].counts.seen = 15 * HPL_SAMPLE_ONE;
	EXPECT_EQ(hpl_policy_plan(unlooked, 2, NULL, &cheap_events), 0);
}

/* The same rate counts the same, however long and densely it was sampled. */
static void policy_weighs_events_by_exposure(void)
{
	struct hpl_candidate c[] = { counted(0, 200, 1000), counted(1, 200, 0) };

	EXPECT_EQ(hpl_policy_plan(c, 2, NULL, &cheap_events), 0);
	c[0].exposed *= 4;
	EXPECT_EQ(hpl_policy_plan(c, 2, NULL, &cheap_events), 1000);
	/* Or on fewer pages. */
	c[0] = counted(0, 200, 1000);
	c[1] = counted(1, 200, 0);
	c[1].nr_slow = 250;
	EXPECT_EQ(hpl_policy_plan(c, 2, NULL, &cheap_events), 250);
}

static void policy_moves_only_what_pays_by_events(void)
{
	struct hpl_candidate c[] = { counted(0, 0, 1000), counted(1, 100, 0) };
	struct hpl_costs costs = cheap_events;

	/*
	 * 100 samples a second on 1000 pages are 409.6 accesses to each, so
	 * 4096 in 10 s, which save 53 ns each: 217,088 ns.
	 */
	costs.page_ns = 217088 / 4 + 1000;
	EXPECT_EQ(hpl_policy_plan(c, 2, NULL, &costs), 0);
	costs.page_ns = 217088 / 4 - 1000;
	EXPECT_EQ(hpl_policy_plan(c, 2, NULL, &costs), 1000);
	/* Free memory needs no second page, but more than chance. */
	costs.nr_free = 1000;
	costs.page_ns = 217088 / 2 - 1000;
	c[1] = counted(1, 100, 0);
	EXPECT_EQ(hpl_policy_plan(c + 1, 1, NULL, &costs), 1000);
	c[1] = counted(1, 3, 0);
	costs.page_ns = 1;
	EXPECT_EQ(hpl_policy_plan(c + 1, 1, NULL, &costs), 0);
}

/* As policy_keeps_its_promises(), by events. */
static void policy_keeps_its_promises_by_events(void)
{
	unsigned int round, i, n;

	for (round = 0; round < 3000; round++) {
		unsigned long promote = 0, demote = 0, planned;
		double coldest = INFINITY, hottest = 0;
		struct hpl_candidate c[64];
		struct hpl_costs costs = {
			.nr_free = rnd_below(4) ? 0 : rnd_below(20000),
			.nr_budget = rnd_below(100000),
			.evidence = HPL_EVENTS,
			.page_ns = rnd_below(400000),
			.gap_ns = 1 + rnd_below(HPL_GAP_NS_MAX),
		};

		n = 1 + rnd_below(64);
		for (i = 0; i < n; i++) {
			c[i] = counted(i, rnd_below(rnd_below(2) ? 50 : 200000),
				       rnd_below(1001));
			c[i].exposed = rnd_below(4) ? rnd_below(800000) : 0;
			c[i].counts.seen = rnd_below(64 * HPL_SAMPLE_ONE);
		}
		planned = hpl_policy_plan(c, n, NULL, &costs);
		for (i = 0; i < n; i++) {
			double rate = c[i].counts.hit / fmax(c[i].exposed, 1e-9);

			EXPECT(c[i].nr_promote <= c[i].nr_slow);
			EXPECT(c[i].nr_demote <= c[i].nr_fast);
			EXPECT(!c[i].nr_promote || !c[i].nr_demote);
			if (c[i].nr_promote && rate < coldest)
				coldest = rate;
			if (c[i].nr_demote && rate > hottest)
				hottest = rate;
			promote += c[i].nr_promote;
			demote += c[i].nr_demote;
		}
		EXPECT_EQ(planned, promote);
		EXPECT(promote <= costs.nr_budget);
		EXPECT(promote <= demote + costs.nr_free);
		EXPECT(demote <= promote);
		EXPECT(!demote || hottest < coldest);
	}
}

static void policy_period_follows_the_budget(void)
{
	unsigned int i;
	int shift = 0;

	/* Twice the budget, three quarters of it by records. */
	EXPECT_EQ(hpl_policy_period(0, 0, 1500000, 2000000, 1000000), 1);
	/* By other things: a longer period would not help. */
	EXPECT_EQ(hpl_policy_period(0, 0, 900000, 2000000, 1000000), 0);
	/* Within it; with room for twice as many records, and as many again. */
	EXPECT_EQ(hpl_policy_period(3, 0, 900000, 1000000, 1000000), 3);
	EXPECT_EQ(hpl_policy_period(3, 0, 200000, 600000, 1000000), 3);
	EXPECT_EQ(hpl_policy_period(3, 0, 200000, 599999, 1000000), 2);
	/* Other things fill the budget nearly: records are not what costs. */
	EXPECT_EQ(hpl_policy_period(3, 0, 5000, 980000, 1000000), 2);
	EXPECT_EQ(hpl_policy_period(0, 0, 0, 0, 1000000), 0);
	EXPECT_EQ(hpl_policy_period(8, 0, 1000, 1000, 10), 8);
	/* A shorter one is wanted, and then no longer. */
	EXPECT_EQ(hpl_policy_period(0, -2, 200000, 600000, 1000000), 0);
	EXPECT_EQ(hpl_policy_period(0, -2, 200000, 599999, 1000000), -1);
	EXPECT_EQ(hpl_policy_period(-2, -2, 0, 0, 1000000), -2);
	EXPECT_EQ(hpl_policy_period(-2, 0, 0, 0, 1000000), -1);
	EXPECT_EQ(hpl_policy_period(-1, -2, 1500000, 2000000, 1000000), 0);
	/* 100 times too dear at first: it settles, and does not swing. */
	for (i = 0; i < 20; i++)
		shift = hpl_policy_period(shift, 0, 100000000 >> shift,
					  100000000 >> shift, 1000000);
	EXPECT_EQ(shift, 7);
}

static void policy_samples_follow_the_budget(void)
{
	unsigned int nr = 1024, i;

	/* 1000 ns a sample, 2 ms an epoch: 2000 samples, whatever the start. */
	for (i = 0; i < 10; i++)
		nr = hpl_policy_nr_samples(nr, nr * 1000ULL, 2000000);
	EXPECT_IN((double)nr, 1990, 2000);
	/* Grows at most twofold, shrinks at once, never ends. */
	EXPECT_EQ(hpl_policy_nr_samples(1000, 1, 2000000), 2000);
	EXPECT_EQ(hpl_policy_nr_samples(1000, 0, 2000000), 2000);
	EXPECT_EQ(hpl_policy_nr_samples(1000, 20000000, 2000000), 100);
	EXPECT(hpl_policy_nr_samples(1000, ~0ULL, 1000) > 0);
	EXPECT(hpl_policy_nr_samples(0, 0, 1000) > 0);
	/* The largest budget: an epoch of 60 s on 8192 CPUs. */
	EXPECT_EQ(hpl_policy_nr_samples(8192, 60000000000ULL * 8192 / 2,
					60000000000ULL * 8192), 16384);
}

static void policy_interval_adapts(void)
{
	unsigned int us = 5000, i;

	EXPECT_EQ(hpl_policy_interval(5000, 1000, 200, 25000, 1000), 5000);
	EXPECT_EQ(hpl_policy_interval(5000, 1000, 800, 25000, 1000), 2500);
	EXPECT_EQ(hpl_policy_interval(5000, 1000, 10, 25000, 1000), 10000);
	for (i = 0; i < 10; i++)
		us = hpl_policy_interval(us, 1000, 0, 25000, 1000);
	EXPECT_EQ(us, 25000);
	for (i = 0; i < 10; i++)
		us = hpl_policy_interval(us, 1000, 1000, 25000, 1000);
	EXPECT_EQ(us, 1000);
	/* Without samples nothing is learnt; the shortest epoch has a bound. */
	EXPECT_EQ(hpl_policy_interval(5000, 0, 0, 25000, 1000), 5000);
	EXPECT_EQ(hpl_policy_interval(5000, 1000, 200, 10, 1000), 1000);
	EXPECT_EQ(hpl_policy_interval(5000, 1000, 200, 25000, UINT_MAX), 1000);
	EXPECT(hpl_policy_interval(5000, 1000, 200, 25000, 0) >= 1000);
}

/* With the interval that the policy chooses, saturated pages are worth a move. */
static void policy_interval_lets_hot_pages_move(void)
{
	struct hpl_costs costs = cheap;
	unsigned int i, us;

	for (costs.page_ns = 5000; costs.page_ns <= 100000; costs.page_ns += 5000) {
		struct hpl_candidate c[] = { cand(0, 4000, 0, 1000),
					     cand(1, 4000, 4000, 0) };

		for (us = 5000, i = 0; i < 20; i++)
			us = hpl_policy_interval(us, 1000, 1, 1000000,
						 costs.page_ns);
		costs.interval_us = us;
		EXPECT_EQ(hpl_policy_plan(c, 2, NULL, &costs), 1000);
	}
}

const struct test policy_tests[] = {
	TEST(policy_uses_free_memory_first),
	TEST(policy_promotes_the_hottest_into_free_memory),
	TEST(policy_respects_the_budget),
	TEST(policy_plans_nothing_for_nothing),
	TEST(policy_finds_the_coldest_among_the_warm),
	TEST(policy_leaves_equals_alone),
	TEST(policy_leaves_the_idle_alone),
	TEST(policy_moves_only_what_pays),
	TEST(policy_makes_up_for_what_is_short),
	TEST(policy_promotes_pages_alone),
	TEST(policy_demotes_what_was_not_sampled),
	TEST(policy_judges_by_what_pays),
	TEST(policy_judges_equals_equal),
	TEST(policy_keeps_its_promises),
	TEST(policy_compares_unequal_evidence),
	TEST(policy_ranks_the_coldest_first),
	TEST(policy_knows_who_has_fast_memory),
	TEST(policy_same_input_same_plan),
	TEST(policy_exchanges_by_events),
	TEST(policy_weighs_events_by_exposure),
	TEST(policy_moves_only_what_pays_by_events),
	TEST(policy_keeps_its_promises_by_events),
	TEST(policy_period_follows_the_budget),
	TEST(policy_samples_follow_the_budget),
	TEST(policy_interval_adapts),
	TEST(policy_interval_lets_hot_pages_move),
	{}
};
