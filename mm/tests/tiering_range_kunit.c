// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: KUnit tests of range trees and policy in the kernel proper
 *
 * tools/testing/tiering_range/ tests the same files more, on the host.
 */
#include <kunit/test.h>

#include "../tiering_range_internal.h"
#include "../tiering_range.h"

static void hpl_tree_covers_spans(struct kunit *test)
{
	const struct hpl_span spans[] = {
		{ 0x10000, 0x90000 }, { 0xa0000, 0xc0000 },
	};
	struct hpl_tree tree;

	hpl_tree_init(&tree, 16);
	KUNIT_ASSERT_EQ(test, hpl_tree_sync(&tree, spans, 2), 0);
	KUNIT_EXPECT_EQ(test, tree.nr, 2);
	KUNIT_EXPECT_NULL(test, hpl_tree_find(&tree, 0xffff));
	KUNIT_EXPECT_NOT_NULL(test, hpl_tree_find(&tree, 0x10000));
	KUNIT_EXPECT_NULL(test, hpl_tree_find(&tree, 0x90000));
	KUNIT_EXPECT_NOT_NULL(test, hpl_tree_find(&tree, 0xbffff));

	/* A hole is cut and the rest stays. */
	KUNIT_ASSERT_EQ(test, hpl_tree_sync(&tree, spans + 1, 1), 0);
	KUNIT_EXPECT_EQ(test, tree.nr, 1);
	KUNIT_EXPECT_NULL(test, hpl_tree_find(&tree, 0x10000));
	hpl_tree_destroy(&tree);
	KUNIT_EXPECT_EQ(test, tree.nr, 0);
}

static struct kunit_case hpl_tree_cases[] = {
	KUNIT_CASE(hpl_tree_covers_spans),
	{}
};

static struct kunit_suite hpl_tree_suite = {
	.name = "hpl_tree",
	.test_cases = hpl_tree_cases,
};

kunit_test_suite(hpl_tree_suite);
