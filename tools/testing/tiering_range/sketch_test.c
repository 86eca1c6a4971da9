// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: tests of the table of pages that are hot alone
 */
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

/* Number of samples of a page, by going through all of the table. */
static unsigned int samples_of(struct hpl_sketch *sk, unsigned long page)
{
	unsigned int n, found = 0;
	unsigned long i;

	for (i = 0; i < sk->nr; i++) {
		struct hpl_spot *s;

		n = hpl_sketch_next(sk, &s);
		if (n && hpl_spot_addr(s) == at(page))
			found = n;
	}
	EXPECT_EQ(sk->cursor, 0);
	return found;
}

static void sketch_is_a_share_of_memory(void)
{
	static const unsigned long pages[] = { 1, 262144, 4194304, 1UL << 34 };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(pages); i++) {
		struct hpl_sketch sk = make(pages[i]);

		EXPECT(sk.nr * sizeof(*sk.spots) + sk.nr / 8 <=
		       max(pages[i] * 4096 / 5000, 16384UL));
		EXPECT_EQ(sk.nr & (sk.nr - 1), 0);
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

	for (i = 0; i < 3; i++)
		hpl_sketch_count(&sk, MM, at(7) + i);
	hpl_sketch_count(&sk, MM + 1, at(8));
	EXPECT_EQ(samples_of(&sk, 7), 3);
	EXPECT_EQ(samples_of(&sk, 8), 1);
	EXPECT(hpl_sketch_seen(&sk, MM, at(7)));
	EXPECT(!hpl_sketch_seen(&sk, MM, at(8)));
	EXPECT(hpl_sketch_seen(&sk, MM + 1, at(8)));
	for (i = 0; i < 100; i++)
		hpl_sketch_count(&sk, MM, at(7));
	EXPECT_EQ(samples_of(&sk, 7), 7);
	hpl_sketch_destroy(&sk);
}

static void sketch_forgets_after_two_windows(void)
{
	struct hpl_sketch sk = make(NR_PAGES);

	hpl_sketch_count(&sk, MM, at(7));
	hpl_sketch_count(&sk, MM, at(7));
	hpl_sketch_expose(&sk, 100, HPL_SPOT_WINDOW_MS - 1);
	hpl_sketch_count(&sk, MM, at(7));
	EXPECT_EQ(samples_of(&sk, 7), 3);
	hpl_sketch_expose(&sk, 11, 1);
	EXPECT_EQ(sk.exposed_before, 111);
	EXPECT_EQ(sk.exposed, 0);
	hpl_sketch_count(&sk, MM, at(7));
	EXPECT_EQ(samples_of(&sk, 7), 4);
	hpl_sketch_expose(&sk, 10, HPL_SPOT_WINDOW_MS);
	EXPECT_EQ(samples_of(&sk, 7), 1);
	EXPECT(hpl_sketch_seen(&sk, MM, at(7)));
	hpl_sketch_expose(&sk, 10, HPL_SPOT_WINDOW_MS);
	EXPECT(!hpl_sketch_seen(&sk, MM, at(7)));
	EXPECT_EQ(samples_of(&sk, 7), 0);
	hpl_sketch_destroy(&sk);
}

/* A page that has many samples stays, however many others come by once. */
static void sketch_keeps_the_hot(void)
{
	struct hpl_sketch sk = make(1);
	unsigned long i;

	hpl_sketch_count(&sk, MM, at(0));
	hpl_sketch_count(&sk, MM, at(0));
	for (i = 1; i < 100 * sk.nr; i++)
		hpl_sketch_count(&sk, MM, at(i));
	EXPECT_EQ(samples_of(&sk, 0), 2);
	hpl_sketch_destroy(&sk);
}

/*
 * Judge a range of NR_PAGES of which every @stride-th page has the share @hot of
 * @nr samples; returns how many pages are found hot, of them wrongly *@wrong.
 */
static unsigned long judge(unsigned long nr, unsigned int stride, double hot,
			   unsigned long *wrong)
{
	struct hpl_range r = {
		.start = BASE, .end = at(NR_PAGES),
		.exposed = HPL_SPOT_WINDOW_MS * HPL_SAMPLE_ONE,
		.sub[0] = { .tried = HPL_SAMPLE_ONE, .seen = HPL_SAMPLE_ONE },
	};
	unsigned long found[HPL_SPOT_COUNTS] = {}, right = 0, i;
	u64 expected[HPL_SPOT_COUNTS] = {};
	struct hpl_sketch sk = make(4 * NR_PAGES);
	struct hpl_spot *s;
	unsigned int n;

	for (i = 0; i < nr; i++) {
		unsigned long page = rnd_below(NR_PAGES);

		if (rnd_unit() < hot)
			page -= page % stride;
		hpl_sketch_count(&sk, MM, at(page));
	}
	r.sub[0].hit = nr * HPL_SAMPLE_ONE;
	sk.exposed = r.exposed;
	for (i = 0; i < sk.nr; i++)
		for (n = hpl_sketch_next(&sk, &s); n; n--)
			found[min(n, HPL_SPOT_COUNTS - 1U)]++;
	hpl_sketch_expect(&sk, &r, expected);
	hpl_sketch_judge(&sk, found, expected);
	*wrong = 0;
	for (i = 0; i < sk.nr; i++) {
		if (hpl_sketch_next(&sk, &s) < sk.least)
			continue;
		if (((hpl_spot_addr(s) - BASE) >> PAGE_SHIFT) % stride)
			(*wrong)++;
		else
			right++;
	}
	hpl_sketch_destroy(&sk);
	return right;
}

static void sketch_finds_scattered_heat(void)
{
	unsigned long wrong, right = judge(10000, 10, 0.9, &wrong);

	/* Of 9831 pages with 0.93 samples each, by chance 24% have two. */
	EXPECT_IN(right, 2000, 3000);
	EXPECT_IN(wrong, 0, 0.05 * right);
}

static void sketch_finds_no_heat_where_there_is_none(void)
{
	static const unsigned long nr[] = { 100, 1000, 10000, 100000, 400000 };
	unsigned long wrong;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(nr); i++)
		EXPECT_EQ(judge(nr[i], 1, 0, &wrong), 0);
}

const struct test sketch_tests[] = {
	TEST(sketch_is_a_share_of_memory),
	TEST(sketch_survives_want_of_memory),
	TEST(sketch_counts_by_page_and_process),
	TEST(sketch_forgets_after_two_windows),
	TEST(sketch_keeps_the_hot),
	TEST(sketch_finds_scattered_heat),
	TEST(sketch_finds_no_heat_where_there_is_none),
	{}
};
