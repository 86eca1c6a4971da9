// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of the parts of HBalloon that need no device
 */
#include <kunit/test.h>
#include <linux/mm.h>

#include "../virtio_hballoon.h"

static struct hb_request *hb_test_request(struct kunit *test)
{
	struct hb_request *req = kunit_kzalloc(test, sizeof(*req), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, req);
	req->wire = kunit_kzalloc(test, sizeof(*req->wire), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, req->wire);
	return req;
}

static void hb_expect_range(struct kunit *test, struct hb_request *req,
			    unsigned int i, unsigned long pfn, unsigned long nr)
{
	KUNIT_EXPECT_EQ(test, le64_to_cpu(req->wire->range[i].addr),
			PFN_PHYS(pfn));
	KUNIT_EXPECT_EQ(test, le64_to_cpu(req->wire->range[i].len),
			(u64)nr << PAGE_SHIFT);
}

static void hb_test_ranges_join(struct kunit *test)
{
	struct hb_request *req = hb_test_request(test);

	KUNIT_EXPECT_TRUE(test, hb_add_range(req, 2, 512, 512));
	/* Above, below, and apart. */
	KUNIT_EXPECT_TRUE(test, hb_add_range(req, 2, 1024, 1));
	KUNIT_EXPECT_TRUE(test, hb_add_range(req, 2, 511, 1));
	KUNIT_EXPECT_TRUE(test, hb_add_range(req, 2, 4096, 1));
	KUNIT_EXPECT_EQ(test, req->nr_ranges, 2);
	KUNIT_EXPECT_EQ(test, req->nr_pages, 515);
	hb_expect_range(test, req, 0, 511, 514);
	hb_expect_range(test, req, 1, 4096, 1);
}

static void hb_test_ranges_full(struct kunit *test)
{
	struct hb_request *req = hb_test_request(test);

	KUNIT_EXPECT_TRUE(test, hb_add_range(req, 2, 10, 1));
	KUNIT_EXPECT_TRUE(test, hb_add_range(req, 2, 20, 1));
	/* No room for another one, but for more of the last one. */
	KUNIT_EXPECT_FALSE(test, hb_add_range(req, 2, 30, 1));
	KUNIT_EXPECT_TRUE(test, hb_add_range(req, 2, 21, 3));
	KUNIT_EXPECT_EQ(test, req->nr_ranges, 2);
	KUNIT_EXPECT_EQ(test, req->nr_pages, 5);
	hb_expect_range(test, req, 1, 20, 4);
}

/* Addresses beyond 4 GiB and lengths beyond 32 bits stay what they are. */
static void hb_test_ranges_large(struct kunit *test)
{
	struct hb_request *req = hb_test_request(test);
	unsigned long pfn = 1UL << 36, nr = 1UL << 22;

	KUNIT_EXPECT_TRUE(test, hb_add_range(req, 1, pfn, nr));
	KUNIT_EXPECT_TRUE(test, hb_add_range(req, 1, pfn + nr, nr));
	hb_expect_range(test, req, 0, pfn, 2 * nr);
}

static void hb_test_order(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, hb_fit_order(9, 1), 0);
	KUNIT_EXPECT_EQ(test, hb_fit_order(9, 511), 8);
	KUNIT_EXPECT_EQ(test, hb_fit_order(9, 512), 9);
	KUNIT_EXPECT_EQ(test, hb_fit_order(9, 1UL << 30), 9);
	KUNIT_EXPECT_EQ(test, hb_fit_order(4, 512), 4);
	KUNIT_EXPECT_EQ(test, hb_fit_order(0, 512), 0);
}

static void hb_test_backoff(struct kunit *test)
{
	unsigned int ms = 0, sum = 0, i;

	ms = hb_next_backoff(ms, false);
	KUNIT_EXPECT_EQ(test, ms, HB_BACKOFF_MIN_MS);
	for (i = 0; i < 100; i++) {
		unsigned int next = hb_next_backoff(ms, false);

		KUNIT_EXPECT_GE(test, next, ms);
		KUNIT_EXPECT_LE(test, next, HB_BACKOFF_MAX_MS);
		sum += ms;
		ms = next;
	}
	KUNIT_EXPECT_EQ(test, ms, HB_BACKOFF_MAX_MS);
	KUNIT_EXPECT_GT(test, sum, HB_PATIENCE_MS);
	for (i = 0; i < 10; i++)
		ms = hb_next_backoff(ms, true);
	KUNIT_EXPECT_EQ(test, ms, HB_BACKOFF_IDLE_MS);
}

static void hb_test_owns(struct kunit *test)
{
	struct hb_node *n = kunit_kzalloc(test, sizeof(*n), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, n);
	KUNIT_EXPECT_FALSE(test, hb_owns(n, 0, 1));
	n->nr_extents = 2;
	n->extent[0].start_pfn = 16;
	n->extent[0].end_pfn = 32;
	n->extent[1].start_pfn = 32;
	n->extent[1].end_pfn = 40;
	KUNIT_EXPECT_TRUE(test, hb_owns(n, 16, 16));
	KUNIT_EXPECT_FALSE(test, hb_owns(n, 15, 1));
	KUNIT_EXPECT_FALSE(test, hb_owns(n, 15, 2));
	KUNIT_EXPECT_TRUE(test, hb_owns(n, 39, 1));
	KUNIT_EXPECT_FALSE(test, hb_owns(n, 39, 2));
	/* A range lies within one extent. */
	KUNIT_EXPECT_FALSE(test, hb_owns(n, 31, 2));
}

static struct kunit_case hb_test_cases[] = {
	KUNIT_CASE(hb_test_ranges_join),
	KUNIT_CASE(hb_test_ranges_full),
	KUNIT_CASE(hb_test_ranges_large),
	KUNIT_CASE(hb_test_order),
	KUNIT_CASE(hb_test_backoff),
	KUNIT_CASE(hb_test_owns),
	{}
};

static struct kunit_suite hb_test_suite = {
	.name = "hballoon",
	.test_cases = hb_test_cases,
};

kunit_test_suite(hb_test_suite);
