// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: tests of the table of pages that are hot alone
 */
#include <math.h>

#include "test.h"

#define NR_PAGES	98304UL		/* 384 MiB */
#define MM		77
#define BASE		0x7f0000000000UL

static struct hpl_sketch make(unsigned long nr_pages)
{
	struct hpl_sketch sk;

	EXPECT_EQ(hpl_sketch_init(&sk, nr_pages), 0);
	return sk;
}

static unsigned long at(unsigned long page)
{
	return BASE + (page << PAGE_SHIFT);
}

/* Number of samples of a page, by how many more make it hot. */
static unsigned int samples_of(struct hpl_sketch *sk, unsigned long page)
{
	struct hpl_sketch copy = *sk;
	unsigned int n;

	copy.buckets = malloc(sk->nr * sizeof(*sk->buckets));
	memcpy(copy.buckets, sk->buckets, sk->nr * sizeof(*sk->buckets));
	for (n = 0; n < HPL_SPOT_COUNTS; n++) {
		copy.least = HPL_SPOT_COUNTS - 1;
		if (hpl_sketch_count(&copy, MM, at(page)) & HPL_SPOT_HOT)
			break;
	}
	free(copy.buckets);
	return HPL_SPOT_COUNTS - 2 - min(n, HPL_SPOT_COUNTS - 2U);
}

static void sketch_is_a_share_of_memory(void)
{
	static const unsigned long pages[] = { 1, 262144, 4194303, 1UL << 34 };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(pages); i++) {
		struct hpl_sketch sk = make(pages[i]);

		EXPECT(sk.nr * sizeof(*sk.buckets) <=
		       max(pages[i] * 4096 / 16384, 8192UL));
		EXPECT(sk.nr + 1 > pages[i] / 64);
		hpl_sketch_count(&sk, MM, (1UL << 56) - PAGE_SIZE);
		EXPECT(hpl_sketch_seen(&sk, MM, (1UL << 56) - PAGE_SIZE));
		hpl_sketch_destroy(&sk);
	}
}

static void sketch_survives_want_of_memory(void)
{
	struct hpl_sketch sk;

	alloc_fail_share = 1;
	EXPECT_EQ(hpl_sketch_init(&sk, NR_PAGES), -ENOMEM);
	hpl_sketch_destroy(&sk);
}

static void sketch_counts_by_page_and_process(void)
{
	struct hpl_sketch sk = make(NR_PAGES);
	unsigned int i;

	EXPECT_EQ(hpl_sketch_count(&sk, MM, at(7)), HPL_SPOT_FRESH);
	for (i = 1; i < 3; i++)
		EXPECT_EQ(hpl_sketch_count(&sk, MM, at(7) + i), 0);
	EXPECT_EQ(hpl_sketch_count(&sk, MM + 1, at(8)), HPL_SPOT_FRESH);
	EXPECT_EQ(samples_of(&sk, 7), 3);
	EXPECT_EQ(samples_of(&sk, 8), 0);
	EXPECT(hpl_sketch_seen(&sk, MM, at(7)));
	EXPECT(!hpl_sketch_seen(&sk, MM, at(8)));
	EXPECT(hpl_sketch_seen(&sk, MM + 1, at(8)));
	for (i = 0; i < 100; i++)
		hpl_sketch_count(&sk, MM, at(7));
	sk.least = 7;
	EXPECT_EQ(hpl_sketch_count(&sk, MM, at(7)), HPL_SPOT_HOT);
	sk.least = 1;
	EXPECT_EQ(hpl_sketch_count(&sk, MM, at(9)), HPL_SPOT_FRESH | HPL_SPOT_HOT);
	hpl_sketch_destroy(&sk);
}

/* Of a page that is sampled no more, nothing is known in the end. */
static void sketch_forgets(void)
{
	struct hpl_sketch sk = make(8 * NR_PAGES);
	unsigned long nr[8], i, n;

	for (i = 0; i < 1000; i++)
		for (n = 0; n < 4; n++)
			hpl_sketch_count(&sk, MM, at(i));
	for (n = 0; n < 8; n++) {
		for (nr[n] = 0, i = 0; i < 1000; i++)
			nr[n] += hpl_sketch_seen(&sk, MM, at(i));
		EXPECT(hpl_sketch_pass(&sk, ULONG_MAX));
		hpl_sketch_begin(&sk);
	}
	/* 1 - (1 - (7/8)^n)^4 */
	EXPECT_IN(nr[3], 960, 1000);
	EXPECT_IN(nr[7], 820, 900);
	for (n = 0; n < 100; n++) {
		EXPECT(hpl_sketch_pass(&sk, ULONG_MAX));
		hpl_sketch_begin(&sk);
	}
	for (i = 0; i < sk.nr; i++)
		EXPECT_EQ(sk.buckets[i].words[0] | sk.buckets[i].words[1], 0);
	hpl_sketch_destroy(&sk);
}

/* A page that has many samples stays, however many others come by once. */
static void sketch_keeps_the_hot(void)
{
	struct hpl_sketch sk = make(1);
	unsigned long i;

	hpl_sketch_count(&sk, MM, at(0));
	hpl_sketch_count(&sk, MM, at(0));
	for (i = 1; i < 100 * 8 * sk.nr; i++)
		hpl_sketch_count(&sk, MM, at(i));
	/* Some are taken for it. */
	EXPECT_IN(samples_of(&sk, 0), 2, 6);
	hpl_sketch_destroy(&sk);
}

static void sketch_marks_what_was_tried(void)
{
	struct hpl_sketch sk = make(NR_PAGES);

	sk.least = 1;
	EXPECT(!hpl_sketch_mark(&sk, MM, at(7), HPL_SPOT_NEW, HPL_SPOT_TRIED));
	hpl_sketch_count(&sk, MM, at(7));
	EXPECT(!hpl_sketch_mark(&sk, MM, at(7), HPL_SPOT_TRIED, HPL_SPOT_NEW));
	EXPECT(hpl_sketch_mark(&sk, MM, at(7), HPL_SPOT_NEW, HPL_SPOT_TRIED));
	EXPECT_EQ(hpl_sketch_count(&sk, MM, at(7)), 0);
	EXPECT(hpl_sketch_mark(&sk, MM, at(7), HPL_SPOT_TRIED, HPL_SPOT_NEW));
	EXPECT_EQ(hpl_sketch_count(&sk, MM, at(7)), HPL_SPOT_HOT);
	hpl_sketch_destroy(&sk);
}

/* What promoted pages were sampled is counted for two passes, and no longer. */
static void sketch_watches_the_promoted(void)
{
	struct hpl_sketch sk = make(NR_PAGES);
	unsigned int i;

	for (i = 0; i < 100; i++) {
		hpl_sketch_count(&sk, MM, at(i));
		EXPECT(hpl_sketch_mark(&sk, MM, at(i), HPL_SPOT_NEW,
				       HPL_SPOT_PROMOTED));
	}
	EXPECT_EQ(sk.nr_promoted, 100);
	for (i = 0; i < 100; i += 2)
		hpl_sketch_count(&sk, MM, at(i));
	hpl_sketch_expose(&sk, 1000);
	EXPECT_EQ(sk.promoted_hits, 50);
	EXPECT_EQ(sk.promoted_exposed, 100000);
	EXPECT(hpl_sketch_pass(&sk, ULONG_MAX));
	hpl_sketch_begin(&sk);
	EXPECT_EQ(sk.nr_promoted, 100);
	EXPECT_EQ(sk.promoted_exposed, 87500);
	EXPECT(hpl_sketch_pass(&sk, ULONG_MAX));
	EXPECT_EQ(sk.nr_promoted, 0);
	hpl_sketch_count(&sk, MM, at(0));
	hpl_sketch_expose(&sk, 1000);
	EXPECT_EQ(sk.promoted_exposed, 87500);
	hpl_sketch_destroy(&sk);
}

/*
 * After @n passes with @mean new samples of each page, of every tenth @stride times as
 * many, what is counted is what a Poisson process would have left.
 */
static void poisson(double mean, double more)
{
	const double kept = mean * (1 - pow(7. / 8, 20)) * 8;
	struct hpl_sketch sk = make(8 * NR_PAGES);
	unsigned long page, n;
	unsigned int i, k;

	for (i = 0; i < 20; i++) {
		for (page = 0; page < NR_PAGES; page++)
			for (n = rnd_poisson(page % 10 ? mean : more); n; n--)
				hpl_sketch_count(&sk, MM, at(page));
		hpl_sketch_expose(&sk, 1000);
		if (i)
			hpl_sketch_begin(&sk);
		EXPECT(hpl_sketch_pass(&sk, ULONG_MAX));
	}
	for (k = 1; k < 4; k++) {
		struct hpl_heat h = hpl_sketch_heat(&sk, k);
		double of_one = (double)h.hits / HPL_SAMPLE_ONE / h.looks * sk.exposed;

		if (sk.found[k + 1] < 100)
			break;
		/* The least that it is: at 3 sigma. */
		EXPECT_IN(of_one + 3 * (k + 1) * sqrt(sk.found[k + 1]) / sk.found[k],
			  (mean == more ? 0.9 : 2) * kept, mean == more ? 1.1 * kept : 100);
	}
	EXPECT(k > 1);
	hpl_sketch_destroy(&sk);
}

static void sketch_knows_equals(void)
{
	poisson(0.01, 0.01);
	poisson(0.05, 0.05);
	poisson(0.15, 0.15);
}

static void sketch_knows_heat(void)
{
	poisson(0.003, 0.3);
	poisson(0.01, 0.1);
}

const struct test sketch_tests[] = {
	TEST(sketch_is_a_share_of_memory),
	TEST(sketch_survives_want_of_memory),
	TEST(sketch_counts_by_page_and_process),
	TEST(sketch_forgets),
	TEST(sketch_keeps_the_hot),
	TEST(sketch_marks_what_was_tried),
	TEST(sketch_watches_the_promoted),
	TEST(sketch_knows_equals),
	TEST(sketch_knows_heat),
	{}
};
