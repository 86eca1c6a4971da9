// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: tests of range trees
 */
#include <math.h>

#include "test.h"

#define KPAGES(n)	((unsigned long)(n) << PAGE_SHIFT)

static struct hpl_tree tree;

static struct hpl_range *one_range(unsigned long start, unsigned long end)
{
	const struct hpl_span span = { start, end };

	hpl_tree_init(&tree, 64, HPL_BITS);
	EXPECT_EQ(hpl_tree_sync(&tree, &span, 1), 0);
	EXPECT_EQ(tree.nr, 1);
	return hpl_tree_first(&tree);
}

/* @nr samples of resident pages evenly over [from, to), @hit percent found accessed. */
static void feed(unsigned long from, unsigned long to, unsigned int nr,
		 unsigned int hit, bool fast)
{
	unsigned long pages = (to - from) >> PAGE_SHIFT;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		unsigned long addr = from + KPAGES(pages * i / nr);

		hpl_range_count(hpl_tree_find(&tree, addr), addr, true,
				i % 100 < hit, fast);
	}
}

static void tree_sync_covers_cuts_and_grows(void)
{
	const struct hpl_span two[] = {
		{ 0x10000, 0x90000 }, { 0xa0000, 0xc0000 },
	};
	const struct hpl_span holes[] = {
		{ 0x10000, 0x20000 }, { 0x30000, 0x40000 }, { 0xb0000, 0xe0000 },
	};

	hpl_tree_init(&tree, 16, HPL_BITS);
	EXPECT_EQ(hpl_tree_sync(&tree, two, 2), 0);
	EXPECT_EQ(tree.nr, 2);
	EXPECT(!hpl_tree_find(&tree, 0xffff));
	EXPECT(hpl_tree_find(&tree, 0x10000));
	EXPECT(hpl_tree_find(&tree, 0x8ffff));
	EXPECT(!hpl_tree_find(&tree, 0x90000));
	EXPECT_EQ(hpl_tree_sync(&tree, holes, 3), 0);
	EXPECT(hpl_tree_find(&tree, 0x1ffff));
	EXPECT(!hpl_tree_find(&tree, 0x20000));
	EXPECT(hpl_tree_find(&tree, 0x30000));
	EXPECT(!hpl_tree_find(&tree, 0xaf000));
	EXPECT(hpl_tree_find(&tree, 0xdffff));
	EXPECT_EQ(hpl_tree_sync(&tree, NULL, 0), 0);
	EXPECT_EQ(tree.nr, 0);
	hpl_tree_destroy(&tree);
}

static void tree_sync_keeps_evidence(void)
{
	const struct hpl_span hole[] = { { 0, KPAGES(256) },
					 { KPAGES(768), KPAGES(1024) } };
	struct hpl_counts sum;

	one_range(0, KPAGES(1024));
	feed(0, KPAGES(1024), 400, 50, true);
	EXPECT_EQ(hpl_tree_sync(&tree, hole, 2), 0);
	EXPECT_EQ(tree.nr, 2);
	sum = hpl_range_sum(hpl_tree_find(&tree, 0));
	EXPECT_EQ(sum.tried, 100 * HPL_SAMPLE_ONE);
	EXPECT_EQ(sum.seen, 100 * HPL_SAMPLE_ONE);
	EXPECT_EQ(sum.hit, 50 * HPL_SAMPLE_ONE);
	EXPECT_EQ(sum.fast, 100 * HPL_SAMPLE_ONE);
	hpl_tree_destroy(&tree);
}

static void tree_sync_survives_want_of_memory(void)
{
	const struct hpl_span spans[] = { { 0, KPAGES(64) },
					  { KPAGES(128), KPAGES(192) } };
	struct hpl_range *r = one_range(0, KPAGES(192));

	alloc_fail_share = 1;
	EXPECT_EQ(hpl_tree_sync(&tree, spans, 2), -ENOMEM);
	EXPECT_EQ(hpl_tree_split(&tree), 0);
	r = hpl_tree_first(&tree);
	EXPECT(r && r->start == 0);
	alloc_fail_share = 0;
	EXPECT_EQ(hpl_tree_sync(&tree, spans, 2), 0);
	EXPECT(!hpl_tree_find(&tree, KPAGES(64)));
	EXPECT(hpl_tree_find(&tree, KPAGES(128)));
	hpl_tree_destroy(&tree);
}

/* Samples land in the quarter that holds their address, whatever the size. */
static void tree_count_finds_the_quarter(void)
{
	unsigned long pages, page;

	for (pages = 1; pages < 70; pages++) {
		struct hpl_range *r = one_range(KPAGES(7), KPAGES(7 + pages));
		struct hpl_counts sum;
		unsigned int i;

		for (page = 0; page < pages; page++)
			hpl_range_count(r, KPAGES(7 + page), true, true, false);
		sum = hpl_range_sum(r);
		EXPECT_EQ(sum.tried, pages * HPL_SAMPLE_ONE);
		EXPECT_EQ(sum.hit, pages * HPL_SAMPLE_ONE);
		EXPECT_EQ(sum.fast, 0);
		for (i = 0; i < HPL_NR_SUBS; i++) {
			long here = r->sub[i].tried / HPL_SAMPLE_ONE;

			EXPECT(here >= (long)(pages / 4) &&
			       here <= (long)((pages + 3) / 4));
		}
		EXPECT_EQ(hpl_range_resident(r), pages);
		EXPECT_EQ(hpl_range_fast(r), 0);
		hpl_tree_destroy(&tree);
	}
}

static void tree_splits_where_heat_changes(void)
{
	unsigned int quarter;

	for (quarter = 1; quarter < 4; quarter++) {
		unsigned long mid = KPAGES(quarter * 256UL), end = KPAGES(1024);
		struct hpl_range *r = one_range(0, end);

		feed(0, mid, 256 * quarter, 90, false);
		feed(mid, end, 256 * (4 - quarter), 5, false);
		EXPECT_EQ(hpl_tree_split(&tree), 1);
		EXPECT_EQ(tree.nr, 2);
		EXPECT(r->end == mid);
		EXPECT_EQ(hpl_range_next(r)->end, end);
		EXPECT_EQ(r->age, 0);
		EXPECT_EQ(hpl_range_next(r)->age, 0);
		EXPECT_EQ(hpl_range_sum(r).seen, 256 * quarter * HPL_SAMPLE_ONE);
		hpl_tree_destroy(&tree);
	}
}

static void tree_does_not_split(void)
{
	/* Even heat. */
	one_range(0, KPAGES(512));
	feed(0, KPAGES(512), 1000, 30, false);
	EXPECT_EQ(hpl_tree_split(&tree), 0);
	hpl_tree_destroy(&tree);

	/* No place for two. */
	one_range(0, KPAGES(2 * HPL_MIN_RANGE_PAGES - 1));
	feed(0, KPAGES(HPL_MIN_RANGE_PAGES), 1000, 100, false);
	feed(KPAGES(HPL_MIN_RANGE_PAGES), KPAGES(2 * HPL_MIN_RANGE_PAGES - 1),
	     1000, 0, false);
	EXPECT_EQ(hpl_tree_split(&tree), 0);
	hpl_tree_destroy(&tree);

	/* Number of ranges bounded; want of memory. */
	one_range(0, KPAGES(1024));
	feed(0, KPAGES(512), 1000, 100, false);
	feed(KPAGES(512), KPAGES(1024), 1000, 0, false);
	tree.max = 1;
	EXPECT_EQ(hpl_tree_split(&tree), 0);
	tree.max = 2;
	alloc_fail_share = 1;
	EXPECT_EQ(hpl_tree_split(&tree), 0);
	EXPECT_EQ(hpl_range_sum(hpl_tree_first(&tree)).seen,
		  2000 * HPL_SAMPLE_ONE);
	alloc_fail_share = 0;
	EXPECT_EQ(hpl_tree_split(&tree), 1);
	hpl_tree_destroy(&tree);
}

/*
 * However even the heat looks, no range holds more than a 64th of what is
 * resident, and merging does not undo it. What holds no pages is left whole.
 */
static void tree_splits_what_is_coarse(void)
{
	unsigned int i;

	one_range(0, 2 * TIB);
	tree.max = 1024;
	for (i = 0; i < 40; i++) {
		unsigned long at;

		for (at = 0; at < 2 * TIB; at += GIB / 2) {
			bool seen = at < TIB / 16;

			hpl_range_count(hpl_tree_find(&tree, at), at, seen,
					seen && (i & 1), false);
		}
		hpl_tree_merge(&tree);
		hpl_tree_split(&tree);
	}
	EXPECT_IN((double)tree.nr, 64, 110);
	EXPECT(hpl_tree_find(&tree, 0)->end <= TIB / 1024);
	EXPECT(hpl_tree_find(&tree, TIB + TIB / 2)->end == 2 * TIB);
	hpl_tree_destroy(&tree);
}

/* Two neighbours: [0, 256) and [256 + gap, 512). */
static void two_ranges(unsigned long gap)
{
	const struct hpl_span spans[] = { { 0, KPAGES(256) },
					  { KPAGES(256 + gap), KPAGES(512) } };

	hpl_tree_init(&tree, 64, HPL_BITS);
	EXPECT_EQ(hpl_tree_sync(&tree, spans, 1), 0);
	EXPECT_EQ(hpl_tree_sync(&tree, spans, 2), 0);
	EXPECT_EQ(tree.nr, 2);
}

static void tree_merges_neighbours_of_the_same_heat(void)
{
	struct hpl_counts sum;

	two_ranges(0);
	feed(0, KPAGES(256), 200, 30, false);
	feed(KPAGES(256), KPAGES(512), 200, 30, true);
	EXPECT_EQ(hpl_tree_merge(&tree), 1);
	EXPECT_EQ(tree.nr, 1);
	sum = hpl_range_sum(hpl_tree_first(&tree));
	EXPECT_EQ(sum.tried, 400 * HPL_SAMPLE_ONE);
	EXPECT_EQ(sum.seen, 400 * HPL_SAMPLE_ONE);
	EXPECT_EQ(sum.hit, 120 * HPL_SAMPLE_ONE);
	EXPECT_EQ(sum.fast, 200 * HPL_SAMPLE_ONE);
	EXPECT_EQ(hpl_tree_first(&tree)->end, KPAGES(512));
	hpl_tree_destroy(&tree);
}

static void tree_does_not_merge(void)
{
	/* Different heat. */
	two_ranges(0);
	feed(0, KPAGES(256), 200, 50, false);
	feed(KPAGES(256), KPAGES(512), 200, 20, false);
	EXPECT_EQ(hpl_tree_merge(&tree), 0);
	hpl_tree_destroy(&tree);

	/* Too few samples. */
	two_ranges(0);
	feed(0, KPAGES(256), 15, 30, false);
	feed(KPAGES(256), KPAGES(512), 200, 30, false);
	EXPECT_EQ(hpl_tree_merge(&tree), 0);
	hpl_tree_destroy(&tree);

	/* A gap. */
	two_ranges(1);
	feed(0, KPAGES(256), 200, 30, false);
	feed(KPAGES(257), KPAGES(512), 200, 30, false);
	EXPECT_EQ(hpl_tree_merge(&tree), 0);
	hpl_tree_destroy(&tree);

	/* Resident pages on one side only. */
	two_ranges(0);
	feed(0, KPAGES(256), 200, 0, false);
	for (int i = 0; i < 200; i++)
		hpl_range_count(hpl_tree_find(&tree, KPAGES(300)), KPAGES(300),
				false, false, false);
	EXPECT_EQ(hpl_tree_merge(&tree), 0);
	hpl_tree_destroy(&tree);
}

static void tree_merges_what_holds_no_pages(void)
{
	two_ranges(0);
	for (unsigned long i = 0; i < 64; i++)
		hpl_range_count(hpl_tree_find(&tree, KPAGES(i * 8)),
				KPAGES(i * 8), false, false, false);
	EXPECT_EQ(hpl_tree_merge(&tree), 1);
	EXPECT_EQ(hpl_range_resident(hpl_tree_first(&tree)), 0);
	hpl_tree_destroy(&tree);
}

static void tree_keeps_account_of_moves(void)
{
	struct hpl_range *r = one_range(0, KPAGES(1000));

	hpl_range_moved(r, 10, true);
	EXPECT_EQ(hpl_range_fast(r), 0);
	feed(0, KPAGES(1000), 1000, 10, false);
	EXPECT_EQ(hpl_range_resident(r), 1000);
	hpl_range_moved(r, 250, true);
	EXPECT_IN((double)hpl_range_fast(r), 248, 250);
	hpl_range_moved(r, 100, false);
	EXPECT_IN((double)hpl_range_fast(r), 148, 151);
	/* More than there are. */
	hpl_range_moved(r, ULONG_MAX, true);
	EXPECT_EQ(hpl_range_fast(r), 1000);
	hpl_range_moved(r, ULONG_MAX, false);
	EXPECT_EQ(hpl_range_fast(r), 0);
	EXPECT_EQ(hpl_range_resident(r), 1000);
	hpl_tree_destroy(&tree);
}

static double left_after(unsigned int total_ms, unsigned int epoch_ms)
{
	unsigned int t;
	double left;

	one_range(0, KPAGES(1024));
	feed(0, KPAGES(1024), 4000, 50, true);
	for (t = 0; t < total_ms; t += epoch_ms)
		hpl_tree_decay(&tree, epoch_ms);
	left = hpl_range_sum(hpl_tree_first(&tree)).hit / (2000. * HPL_SAMPLE_ONE);
	hpl_tree_destroy(&tree);
	return left;
}

/* What remains of evidence depends on time, not on how it is cut into epochs. */
static void tree_decays_by_time(void)
{
	EXPECT_IN(left_after(3000, 10), 0.35, 0.40);
	EXPECT_IN(left_after(3000, 100), 0.35, 0.40);
	EXPECT_IN(left_after(3000, 500), 0.35, 0.41);
	EXPECT_IN(left_after(30000, 100), 0, 0.001);
	EXPECT_IN(left_after(60000, 60000), 0, 0.05);
}

/* Rate of a range that had @before events in 10 s and then @now in 100 ms each. */
static double rate_after(unsigned int before, const unsigned int now[3])
{
	struct hpl_range *r;
	unsigned int i, n;
	double rate;

	hpl_tree_init(&tree, 1, HPL_EVENTS);
	EXPECT_EQ(hpl_tree_sync(&tree, &(struct hpl_span){ 0, KPAGES(1024) }, 1),
		  0);
	r = hpl_tree_first(&tree);
	while (before--)
		hpl_range_event(r, 0, true);
	hpl_tree_expose(&tree, 10000 * HPL_SAMPLE_ONE);
	for (i = 0; i < HPL_NR_NEWS; i++)
		hpl_tree_hasten(&tree);
	for (i = 0; i < 3; i++) {
		for (n = 0; n < now[i]; n++)
			hpl_range_event(r, 0, true);
		hpl_tree_expose(&tree, 100 * HPL_SAMPLE_ONE);
		hpl_tree_hasten(&tree);
	}
	rate = hpl_range_sum(r).hit * 1000. / r->exposed;
	hpl_tree_destroy(&tree);
	return rate;
}

#define EPOCHS(...) ((const unsigned int[]){ __VA_ARGS__ })

/* Heat is believed soon where it cannot be chance, and a lull is not. */
static void tree_believes_in_sudden_heat(void)
{
	EXPECT_IN(rate_after(10, EPOCHS(10, 10, 10)), 99, 101);
	EXPECT_IN(rate_after(0, EPOCHS(10, 10, 10)), 99, 101);
	EXPECT_IN(rate_after(10, EPOCHS(1, 1, 1)), 1.1, 1.4);
	EXPECT_IN(rate_after(1000, EPOCHS(10, 10, 10)), 99, 101);
	EXPECT_IN(rate_after(1000, EPOCHS(60, 60, 60)), 599, 601);
	EXPECT_IN(rate_after(1000, EPOCHS(0, 0, 0)), 96, 100);
}

/* What a scan does to a range that it passes is not heat. */
static void tree_disbelieves_a_burst(void)
{
	EXPECT_IN(rate_after(10, EPOCHS(0, 30, 0)), 3.8, 4);
	EXPECT_IN(rate_after(10, EPOCHS(15, 15, 0)), 3.8, 4);
	EXPECT_IN(rate_after(10, EPOCHS(0, 15, 15)), 3.8, 4);
	EXPECT_IN(rate_after(0, EPOCHS(1, 30, 9)), 3.8, 4);
}

/* Parts of a range that is split have what was new in them. */
static void tree_splits_news(void)
{
	struct hpl_range *r;
	unsigned int i, n;

	hpl_tree_init(&tree, 64, HPL_EVENTS);
	EXPECT_EQ(hpl_tree_sync(&tree, &(struct hpl_span){ 0, KPAGES(512) }, 1),
		  0);
	r = hpl_tree_first(&tree);
	for (i = 0; i < 3; i++) {
		for (n = 0; n < 20; n++)
			hpl_range_event(r, 0, true);
		hpl_tree_expose(&tree, 100 * HPL_SAMPLE_ONE);
		hpl_tree_hasten(&tree);
	}
	EXPECT_EQ(hpl_tree_split(&tree), 1);
	EXPECT_EQ(r->news[1], 20 * HPL_SAMPLE_ONE);
	EXPECT_EQ(hpl_range_next(r)->news[1], 0);
	hpl_tree_destroy(&tree);
}

static void tree_age_saturates(void)
{
	struct hpl_range *r = one_range(0, KPAGES(1024));

	hpl_tree_decay(&tree, 1);
	EXPECT_EQ(r->age, 1);
	r->age = UINT_MAX;
	hpl_tree_decay(&tree, UINT_MAX);
	EXPECT_EQ(r->age, UINT_MAX);
	hpl_tree_destroy(&tree);
}

static double z2_bits(struct hpl_heat a, struct hpl_heat b)
{
	double n1 = a.looks / 256. + 2, h1 = a.hits / 256. + 1;
	double n2 = b.looks / 256. + 2, h2 = b.hits / 256. + 1;
	double p = (h1 + h2) / (n1 + n2), d = h1 / n1 - h2 / n2;

	return d * d / (p * (1 - p) * (1 / n1 + 1 / n2));
}

static double z2_events(struct hpl_heat a, struct hpl_heat b)
{
	double k1 = a.hits / 256., k2 = b.hits / 256., n = k1 + k2;
	double f = (double)a.looks / (a.looks + b.looks), d = k1 - n * f;
	double s = sqrt((k1 + .375) * (1 - f)) - sqrt((k2 + .375) * f);

	return fmin(d * d / (n * f * (1 - f)), 4 * s * s);
}

/* Whether both orders of @a and @b are told apart as by @truth; -1: too near. */
static int agrees(enum hpl_evidence evidence, struct hpl_heat a,
		  struct hpl_heat b, double truth, unsigned int square)
{
	if (fabs(truth - square) < 0.1 * square)
		return -1;
	return hpl_heat_differs(evidence, a, b, square) == (truth > square) &&
	       hpl_heat_differs(evidence, b, a, square) == (truth > square);
}

/*
 * The test of significance agrees with the textbook's formula in double
 * precision, for all sizes of samples and very unequal ones too.
 */
static void tree_significance_is_right(void)
{
	unsigned int i, wrong = 0, compared = 0;

	for (i = 0; i < 200000; i++) {
		unsigned int square = 1 + rnd_below(32);
		double p = rnd_unit(), q = i & 1 ? p : rnd_unit();
		struct hpl_heat a, b;
		int right;

		a.looks = (1UL << (4 + rnd_below(22))) * (1 + rnd_unit()) - 1;
		b.looks = (1UL << (4 + rnd_below(22))) * (1 + rnd_unit()) - 1;
		a.hits = a.looks * p;
		b.hits = b.looks * (i & 2 ? q : q * p * p * p);
		right = agrees(HPL_BITS, a, b, z2_bits(a, b), square);
		if (right < 0)
			continue;
		compared++;
		if (right || ++wrong >= 5)
			continue;
		printf("# hits/looks %lu/%lu and %lu/%lu: z^2 %.3f against %u\n",
		       a.hits, a.looks, b.hits, b.looks, z2_bits(a, b), square);
	}
	EXPECT(compared > 100000);
	EXPECT_EQ(wrong, 0);
}

/* So does that of events, for exposures up to a thousand times apart. */
static void tree_significance_of_events_is_right(void)
{
	unsigned int i, wrong = 0, compared = 0;

	for (i = 0; i < 200000; i++) {
		/* Pages from 16 to 4 TiB, exposed for up to 3 s. */
		double pages = exp2(4 + 26 * rnd_unit());
		double ratio = exp2(20 * rnd_unit() - 10);
		double events = exp2(18 * rnd_unit()), other = exp2(8 * rnd_unit());
		unsigned int square = 1 + rnd_below(32);
		struct hpl_heat a, b;
		int right;

		a.looks = 1 + pages * 3000 * 256;
		b.looks = 1 + pages * 3000 * 256 * ratio;
		a.hits = 256 * events;
		b.hits = 256 * events * ratio * (i & 1 ? 1 : other);
		/* Parts of an event, as fading leaves them, are rounded. */
		if (b.hits > 1UL << 28 || a.hits < 1024 || b.hits < 1024)
			continue;
		right = agrees(HPL_EVENTS, a, b, z2_events(a, b), square);
		if (right < 0)
			continue;
		compared++;
		if (right || ++wrong >= 5)
			continue;
		printf("# hits/looks %lu/%lu and %lu/%lu: z^2 %.3f against %u\n",
		       a.hits, a.looks, b.hits, b.looks, z2_events(a, b), square);
	}
	EXPECT(compared > 100000);
	EXPECT_EQ(wrong, 0);
	EXPECT(!hpl_heat_differs(HPL_EVENTS, (struct hpl_heat){},
				 (struct hpl_heat){}, 1));
}

/*
 * What chance alone does: of pairs of equal rate, about as many are taken to
 * differ as a normal distribution would have, or fewer, however few events and
 * however unequal the exposures.
 */
static double told_apart(double events, double share, double times)
{
	unsigned int i, n = 200000, differ = 0;

	for (i = 0; i < n; i++) {
		struct hpl_heat a = { 256 * rnd_poisson(events * share * times),
				      256000 * share };
		struct hpl_heat b = { 256 * rnd_poisson(events * (1 - share)),
				      256000 * (1 - share) };

		differ += hpl_heat_differs(HPL_EVENTS, a, b, 9);
	}
	return (double)differ / n;
}

static void tree_chance_makes_no_difference(void)
{
	/* 0.27% are beyond 3 sigma. */
	EXPECT_IN(told_apart(4, .5, 1), 0, 0.003);
	EXPECT_IN(told_apart(20, .25, 1), 0, 0.004);
	EXPECT_IN(told_apart(20, .02, 1), 0, 0.004);
	EXPECT_IN(told_apart(200, .5, 1), 0.001, 0.004);
	EXPECT_IN(told_apart(200, .25, 1), 0.001, 0.004);
	EXPECT_IN(told_apart(200, .02, 1), 0, 0.004);
	EXPECT_IN(told_apart(5000, .1, 1), 0.001, 0.004);
	/* And what is nine times as hot is found. */
	EXPECT_IN(told_apart(20, .5, 9), 0.99, 1);
	EXPECT_IN(told_apart(200, .1, 9), 0.99, 1);
}

static void tree_huge_counts_do_not_overflow(void)
{
	struct hpl_range *r = one_range(0, 128 * TIB - PAGE_SIZE);
	unsigned int i;

	for (i = 0; i < 1000000; i++) {
		unsigned long addr = KPAGES(rnd_below((128 * TIB >> PAGE_SHIFT) - 1));

		hpl_range_count(r, addr, true, addr < 64 * TIB, true);
	}
	EXPECT(hpl_range_resident(r) > 127 * (TIB >> PAGE_SHIFT));
	EXPECT(hpl_range_resident(r) <= 128 * (TIB >> PAGE_SHIFT));
	hpl_range_moved(r, 32 * (TIB >> PAGE_SHIFT), false);
	EXPECT_IN(hpl_range_fast(r) / (double)(TIB >> PAGE_SHIFT), 95.9, 96.1);
	EXPECT_EQ(hpl_tree_split(&tree), 1);
	EXPECT_IN((double)r->end / TIB, 63.9, 64.1);
	EXPECT(hpl_range_fast(r) <= hpl_range_resident(r));
	hpl_tree_destroy(&tree);
}

/* @nr events evenly over [from, to). */
static void feed_events(unsigned long from, unsigned long to, unsigned int nr)
{
	unsigned long pages = (to - from) >> PAGE_SHIFT;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		unsigned long addr = from + KPAGES(pages * i / nr);

		hpl_range_event(hpl_tree_find(&tree, addr), addr, true);
	}
}

/* One range of 1024 resident pages, in a tree of events, exposed for @ms. */
static struct hpl_range *one_range_of_events(unsigned int ms)
{
	struct hpl_range *r = one_range(0, KPAGES(1024));

	tree.evidence = HPL_EVENTS;
	feed(0, KPAGES(1024), 64, 0, false);
	hpl_tree_expose(&tree, ms * HPL_SAMPLE_ONE);
	return r;
}

static void tree_splits_where_events_are_denser(void)
{
	unsigned int quarter;

	for (quarter = 1; quarter < 4; quarter++) {
		unsigned long mid = KPAGES(quarter * 256UL), end = KPAGES(1024);
		struct hpl_range *r = one_range_of_events(1000);

		feed_events(0, mid, 10 * quarter);
		feed_events(mid, end, 90 * (4 - quarter));
		EXPECT_EQ(hpl_tree_split(&tree), 1);
		EXPECT(r->end == mid);
		EXPECT_EQ(r->exposed, 1000 * HPL_SAMPLE_ONE);
		EXPECT_EQ(hpl_range_next(r)->exposed, 1000 * HPL_SAMPLE_ONE);
		EXPECT_EQ(hpl_range_sum(r).hit, 10 * quarter * HPL_SAMPLE_ONE);
		hpl_tree_destroy(&tree);
	}
	/* As many everywhere. */
	one_range_of_events(1000);
	tree.max = 1024;
	feed_events(0, KPAGES(1024), 4000);
	EXPECT_EQ(hpl_tree_split(&tree), 1);	/* It is coarse. */
	EXPECT_EQ(hpl_tree_split(&tree), 0);
	hpl_tree_destroy(&tree);
}

static void tree_merges_equal_events(void)
{
	two_ranges(0);
	tree.evidence = HPL_EVENTS;
	feed(0, KPAGES(512), 128, 0, true);
	feed_events(0, KPAGES(512), 400);
	hpl_tree_expose(&tree, 999 * HPL_SAMPLE_ONE);
	EXPECT_EQ(hpl_tree_merge(&tree), 0);
	hpl_tree_expose(&tree, HPL_SAMPLE_ONE);
	EXPECT_EQ(hpl_tree_merge(&tree), 1);
	EXPECT_EQ(hpl_tree_first(&tree)->exposed, 1000 * HPL_SAMPLE_ONE);
	EXPECT_EQ(hpl_range_sum(hpl_tree_first(&tree)).hit, 400 * HPL_SAMPLE_ONE);
	hpl_tree_destroy(&tree);

	two_ranges(0);
	tree.evidence = HPL_EVENTS;
	feed(0, KPAGES(512), 128, 0, true);
	feed_events(0, KPAGES(256), 200);
	feed_events(KPAGES(256), KPAGES(512), 100);
	hpl_tree_expose(&tree, 1000 * HPL_SAMPLE_ONE);
	EXPECT_EQ(hpl_tree_merge(&tree), 0);
	hpl_tree_destroy(&tree);
}

/* The rate does not depend on when one looks, nor on what was mapped later. */
static void tree_exposure_fades_with_events(void)
{
	struct hpl_range *r = one_range(0, KPAGES(1024));
	const struct hpl_span more = { 0, KPAGES(2048) };
	unsigned int i;

	tree.evidence = HPL_EVENTS;
	for (i = 0; i < 300; i++) {
		feed_events(0, KPAGES(1024), 50);
		hpl_tree_expose(&tree, 100 * HPL_SAMPLE_ONE);
		hpl_tree_decay(&tree, 100);
		if (i % 50)
			continue;
		EXPECT_IN(hpl_range_sum(r).hit / (double)r->exposed, 0.49, 0.51);
	}
	EXPECT_IN((double)r->exposed / HPL_SAMPLE_ONE, 2900, 3100);
	EXPECT_EQ(hpl_tree_sync(&tree, &more, 1), 0);
	EXPECT_EQ(hpl_tree_find(&tree, KPAGES(1500))->exposed, 0);
	hpl_tree_expose(&tree, U32_MAX);
	hpl_tree_expose(&tree, U32_MAX);
	EXPECT_EQ(r->exposed, U32_MAX);
	for (i = 0; i < 300000; i++)
		hpl_range_event(r, 0, true);
	EXPECT_IN(r->sub[0].hit / 256., 262144, 262145);
	hpl_tree_destroy(&tree);
}

static void tree_coalesce(void)
{
	struct hpl_span spans[] = {
		{ KPAGES(0), KPAGES(10) }, { KPAGES(11), KPAGES(20) },
		{ KPAGES(1000), KPAGES(1010) }, { KPAGES(1010), KPAGES(1020) },
		{ KPAGES(900000), KPAGES(900001) },
	};
	struct hpl_span many[1000];
	unsigned int nr, i;

	/* Adjacent ones always, the nearest next. */
	EXPECT_EQ(hpl_spans_coalesce(spans, 5, 5), 4);
	EXPECT(spans[2].start == KPAGES(1000) && spans[2].end == KPAGES(1020));
	EXPECT_EQ(hpl_spans_coalesce(spans, 4, 3), 3);
	EXPECT(spans[0].start == 0 && spans[0].end == KPAGES(20));
	EXPECT_EQ(hpl_spans_coalesce(spans, 3, 1), 1);
	EXPECT(spans[0].start == 0 && spans[0].end == KPAGES(900001));
	EXPECT_EQ(hpl_spans_coalesce(spans, 0, 1), 0);

	/* The largest address space of a process there is, 2^56 bytes. */
	spans[0] = (struct hpl_span){ 0, PAGE_SIZE };
	spans[1] = (struct hpl_span){ BIT(56) - PAGE_SIZE, BIT(56) };
	EXPECT_EQ(hpl_spans_coalesce(spans, 2, 1), 1);
	EXPECT_EQ(spans[0].end, BIT(56));

	for (i = 0; i < 1000; i++)
		many[i] = (struct hpl_span){ KPAGES(i * i * 4UL),
					     KPAGES(i * i * 4UL + 2) };
	nr = hpl_spans_coalesce(many, 1000, 100);
	EXPECT(nr && nr <= 100);
	for (i = 1; i < nr; i++)
		EXPECT(many[i].start > many[i - 1].end);
	EXPECT(many[0].start == 0 && many[nr - 1].end == KPAGES(999 * 999 * 4UL + 2));
}

const struct test tree_tests[] = {
	TEST(tree_sync_covers_cuts_and_grows),
	TEST(tree_sync_keeps_evidence),
	TEST(tree_sync_survives_want_of_memory),
	TEST(tree_count_finds_the_quarter),
	TEST(tree_splits_where_heat_changes),
	TEST(tree_does_not_split),
	TEST(tree_splits_what_is_coarse),
	TEST(tree_merges_neighbours_of_the_same_heat),
	TEST(tree_does_not_merge),
	TEST(tree_merges_what_holds_no_pages),
	TEST(tree_keeps_account_of_moves),
	TEST(tree_decays_by_time),
	TEST(tree_believes_in_sudden_heat),
	TEST(tree_disbelieves_a_burst),
	TEST(tree_splits_news),
	TEST(tree_age_saturates),
	TEST(tree_significance_is_right),
	TEST(tree_significance_of_events_is_right),
	TEST(tree_chance_makes_no_difference),
	TEST(tree_splits_where_events_are_denser),
	TEST(tree_merges_equal_events),
	TEST(tree_exposure_fades_with_events),
	TEST(tree_huge_counts_do_not_overflow),
	TEST(tree_coalesce),
	{}
};
