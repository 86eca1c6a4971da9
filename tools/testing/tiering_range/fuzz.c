// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: random operations on a tree, held against a naive model
 *
 * The model is one flag per page: covered or not. After each operation the
 * tree must cover just these pages, without overlap, and its counts must be
 * consistent. Memory allocation fails now and then.
 */
#include "test.h"

#define NR_PAGES	4096UL
#define MAX_SPANS	24

static bool covered[NR_PAGES];

static struct hpl_counts total(struct hpl_tree *tree)
{
	struct hpl_counts sum = {};
	struct hpl_range *r;

	for (r = hpl_tree_first(tree); r; r = hpl_range_next(r)) {
		struct hpl_counts c = hpl_range_sum(r);

		sum.tried += c.tried;
		sum.seen += c.seen;
		sum.hit += c.hit;
		sum.fast += c.fast;
	}
	return sum;
}

/* What holds of each tree at all times. */
static void check_valid(struct hpl_tree *tree)
{
	unsigned long before = 0;
	unsigned int nr = 0, i;
	struct hpl_range *r;

	for (r = hpl_tree_first(tree); r; r = hpl_range_next(r)) {
		EXPECT(r->start < r->end && r->start >= before);
		EXPECT(!(r->start & ~PAGE_MASK) && !(r->end & ~PAGE_MASK));
		for (i = 0; i < HPL_NR_SUBS; i++) {
			const struct hpl_counts *c = &r->sub[i];

			EXPECT(c->fast <= c->seen && c->seen <= c->tried);
			EXPECT(tree->evidence == HPL_EVENTS || c->hit <= c->seen);
		}
		EXPECT(hpl_range_fast(r) <= hpl_range_resident(r));
		EXPECT(hpl_range_resident(r) <= (r->end - r->start) >> PAGE_SHIFT);
		EXPECT(hpl_tree_find(tree, r->start) == r);
		EXPECT(hpl_tree_find(tree, r->end - 1) == r);
		before = r->end;
		nr++;
	}
	EXPECT_EQ(tree->nr, nr);
	EXPECT_EQ(alloc_nr_live, nr);
}

static void check_cover(struct hpl_tree *tree)
{
	unsigned long page;

	for (page = 0; page < NR_PAGES; page++)
		if (!EXPECT_EQ(!!hpl_tree_find(tree, page << PAGE_SHIFT),
			       covered[page]))
			return;
}

static unsigned int random_spans(struct hpl_span *spans)
{
	unsigned long at = 0;
	unsigned int nr = 0;

	while (nr < MAX_SPANS) {
		unsigned long from = at + rnd_below(NR_PAGES / 8);
		unsigned long to = from + 1 + rnd_below(1 + rnd_below(NR_PAGES / 4));

		if (to > NR_PAGES)
			break;
		spans[nr++] = (struct hpl_span){ from << PAGE_SHIFT,
						 to << PAGE_SHIFT };
		at = to;
	}
	return nr;
}

static void do_sync(struct hpl_tree *tree)
{
	struct hpl_span spans[MAX_SPANS];
	unsigned int nr = random_spans(spans), i;
	unsigned long page;

	if (hpl_tree_sync(tree, spans, nr)) {
		EXPECT(alloc_fail_share > 0);
		/* Valid still, and nothing is lost for good. */
		check_valid(tree);
		alloc_fail_share = 0;
		EXPECT_EQ(hpl_tree_sync(tree, spans, nr), 0);
	}
	memset(covered, 0, sizeof(covered));
	for (i = 0; i < nr; i++)
		for (page = spans[i].start; page < spans[i].end; page += PAGE_SIZE)
			covered[page >> PAGE_SHIFT] = true;
}

static void do_coalesce(void)
{
	struct hpl_span spans[MAX_SPANS], before[MAX_SPANS];
	unsigned int nr = random_spans(spans), max, i, j, n;

	max = 1 + rnd_below(MAX_SPANS);
	memcpy(before, spans, sizeof(spans));
	n = hpl_spans_coalesce(spans, nr, max);
	EXPECT(n <= max && n <= nr && !n == !nr);
	for (i = 1; i < n; i++)
		EXPECT(spans[i].start > spans[i - 1].end);
	for (i = 0, j = 0; i < nr; i++) {
		while (j < n && spans[j].end < before[i].end)
			j++;
		EXPECT(j < n && spans[j].start <= before[i].start);
	}
}

/* Hot and cold alternate, now in narrow, now in wide stripes. */
static void do_count(struct hpl_tree *tree, unsigned int nr)
{
	static unsigned int stripe = 5;

	if (!rnd_below(100))
		stripe = 4 + rnd_below(7);
	while (nr--) {
		unsigned long page = rnd_below(NR_PAGES);
		struct hpl_range *r = hpl_tree_find(tree, page << PAGE_SHIFT);
		bool seen = rnd_below(8);
		bool hit = seen && !rnd_below(page >> stripe & 1 ? 16 : 1);
		bool event = tree->evidence == HPL_EVENTS;

		EXPECT_EQ(!!r, covered[page]);
		if (!r)
			continue;
		hpl_range_count(r, page << PAGE_SHIFT, seen, hit && !event,
				seen && rnd_below(2));
		if (hit && event)
			hpl_range_event(r, page << PAGE_SHIFT, true);
	}
	hpl_tree_expose(tree, rnd_below(100) * HPL_SAMPLE_ONE);
}

/* Like @before, save for rounding down at @nr places. */
static void check_sums(struct hpl_tree *tree, struct hpl_counts before,
		       unsigned int nr)
{
	struct hpl_counts after = total(tree);
	/* Each of four quarters is cut into at most two. */
	u32 slack = 16 * nr;

	EXPECT(after.tried <= before.tried && after.tried + slack >= before.tried);
	EXPECT(after.seen <= before.seen && after.seen + slack >= before.seen);
	EXPECT(after.hit <= before.hit && after.hit + slack >= before.hit);
	EXPECT(after.fast <= before.fast && after.fast + slack >= before.fast);
}

static void step(struct hpl_tree *tree)
{
	unsigned int nr = tree->nr, n;
	struct hpl_counts before = total(tree), after;
	struct hpl_range *r;

	alloc_fail_share = rnd_below(4) ? 0 : 0.3;
	switch (rnd_below(12)) {
	case 0:
		if (!rnd_below(8))
			do_sync(tree);
		break;
	case 1:
		n = hpl_tree_split(tree);
		EXPECT_EQ(tree->nr, nr + n);
		EXPECT(!n || tree->nr <= tree->max);
		check_sums(tree, before, n);
		break;
	case 2:
		n = hpl_tree_merge(tree);
		EXPECT_EQ(tree->nr, nr - n);
		check_sums(tree, before, 2 * n);
		break;
	case 3:
		hpl_tree_hasten(tree);
		hpl_tree_decay(tree, rnd_below(200));
		after = total(tree);
		EXPECT(after.tried <= before.tried && after.hit <= before.hit);
		break;
	case 4:
		r = hpl_tree_find(tree, rnd_below(NR_PAGES) << PAGE_SHIFT);
		if (r) {
			hpl_range_moved(r, rnd_below(4) ? rnd_below(100) : ULONG_MAX,
					rnd_below(2));
			after = total(tree);
			EXPECT_EQ(after.seen, before.seen);
			EXPECT_EQ(after.hit, before.hit);
		}
		break;
	case 5:
		tree->max = 1 + rnd_below(400);
		break;
	case 6:
		do_coalesce();
		break;
	case 7:
		if (!rnd_below(200)) {
			hpl_tree_destroy(tree);
			memset(covered, 0, sizeof(covered));
		}
		break;
	default:
		do_count(tree, 500);
	}
	alloc_fail_share = 0;
}

static void fuzz(enum hpl_evidence evidence)
{
	struct hpl_tree tree;
	unsigned long i, most = 0;

	hpl_tree_init(&tree, 100, evidence);
	memset(covered, 0, sizeof(covered));
	for (i = 0; i < test_steps; i++) {
		step(&tree);
		check_valid(&tree);
		if (i % 16 == 0)
			check_cover(&tree);
		most = max(most, (unsigned long)tree.nr);
	}
	printf("# seed %lu, %lu steps, up to %lu ranges\n", test_seed, test_steps,
	       most);
	/* The run must have got somewhere. */
	EXPECT(test_steps < 1000 || most > MAX_SPANS);
	hpl_tree_destroy(&tree);
}

static void fuzz_tree_against_model(void)
{
	fuzz(HPL_BITS);
}

static void fuzz_tree_of_events_against_model(void)
{
	fuzz(HPL_EVENTS);
}

const struct test fuzz_tests[] = {
	TEST(fuzz_tree_against_model),
	TEST(fuzz_tree_of_events_against_model),
	{}
};
