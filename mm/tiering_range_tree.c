// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: range trees
 *
 * A tree divides the mapped addresses of one process into ranges whose pages
 * are accessed alike. Samples are counted in the range, and there in the
 * quarter, where they fall; ranges split where the evidence says that one side
 * is hotter than the other, and merge with a neighbour of the same heat.
 *
 * Pure: no mm types, no locks, no I/O. The same file is built in userspace by
 * tools/testing/tiering_range/.
 */
#include "tiering_range_internal.h"
#include "tiering_range.h"

/*
 * Mean life of a sample: long enough for some hundred samples per range at the
 * default budget, short enough that a moved hot set is seen within seconds.
 */
#define HPL_DECAY_MS		3000

/*
 * And of a look, where hits are not among looks: pages change places by our doing
 * mostly, which is kept account of.
 */
#define HPL_LOOK_DECAY_MS	10000

/*
 * Samples of one quarter are halved when they reach this: sums over merged
 * ranges stay far from 32 bits, and products in tiering_range_heat.c within 64.
 */
#define HPL_SAMPLES_MAX		BIT(22)

/* Events of one quarter are no longer counted from there on, which is 262,144. */
#define HPL_EVENTS_MAX		BIT(26)

/*
 * Split at 4 sigma: with hundreds of ranges tested ten times a second, 3 sigma
 * would split some range by chance in every epoch.
 */
#define HPL_SPLIT_SIGMA_SQUARED	16

/* So few events do not reach that, even if all of them are in one quarter. */
#define HPL_SPLIT_MIN_EVENTS	5

/*
 * What is new is sudden heat if none of its epochs has less than this share. A scan
 * that passes by makes a range hot too, but hardly in three epochs.
 */
#define HPL_NEWS_SHARE		8

/* Fewer samples than this on either side say too little to merge. */
#define HPL_MERGE_MIN_SAMPLES	16

/* Nor do events of so short an exposure. */
#define HPL_MERGE_MIN_MS	1000

/* Unless both neighbours have been so little known for that many epochs. */
#define HPL_MERGE_MIN_AGE	32

/* A range grows over new addresses next to it if they are at most this share. */
#define HPL_GROW_SHARE		8

/*
 * No range holds more than this share of a process' resident pages, if it is
 * larger than a huge page: where hot and cold alternate, quarters look alike
 * from afar, and a small hot spot drowns among its neighbours.
 */
#define HPL_MIN_RANGES		64
#define HPL_COARSE_PAGES	512UL

static unsigned long range_pages(const struct hpl_range *r)
{
	return (r->end - r->start) >> PAGE_SHIFT;
}

static void counts_add(struct hpl_counts *to, struct hpl_counts c)
{
	to->tried += c.tried;
	to->seen += c.seen;
	to->hit += c.hit;
	to->fast += c.fast;
}

/* @c * @num / @den; the order of its members survives the rounding down. */
static struct hpl_counts counts_scale(struct hpl_counts c, u64 num, u64 den)
{
	return (struct hpl_counts){
		.tried = div64_u64(c.tried * num, den),
		.seen = div64_u64(c.seen * num, den),
		.hit = div64_u64(c.hit * num, den),
		.fast = div64_u64(c.fast * num, den),
	};
}

/* First address of quarter @i of @r; the end of @r for HPL_NR_SUBS. */
static unsigned long sub_start(const struct hpl_range *r, unsigned int i)
{
	unsigned long pages = range_pages(r);

	return r->start + ((pages / HPL_NR_SUBS * i +
			    pages % HPL_NR_SUBS * i / HPL_NR_SUBS) << PAGE_SHIFT);
}

/* Evidence about the part [start, end) of @r, in proportion to the overlap. */
static struct hpl_counts range_part(const struct hpl_range *r,
				    unsigned long start, unsigned long end)
{
	struct hpl_counts sum = {};
	unsigned int i;

	for (i = 0; i < HPL_NR_SUBS; i++) {
		unsigned long s = sub_start(r, i), e = sub_start(r, i + 1);
		unsigned long from = max(s, start), to = min(e, end);

		if (from < to)
			counts_add(&sum, counts_scale(r->sub[i],
						      (to - from) >> PAGE_SHIFT,
						      (e - s) >> PAGE_SHIFT));
	}
	return sum;
}

/*
 * Heat of the first @nr quarters of @r. Events are held against mapped pages: how
 * many are resident is known too roughly to split by, and a hole is as good a
 * reason to split as is cold memory.
 */
static struct hpl_heat subs_heat(const struct hpl_tree *tree,
				 const struct hpl_range *r, unsigned int nr)
{
	struct hpl_heat h = {};
	unsigned int i;

	for (i = 0; i < nr; i++) {
		h.hits += r->sub[i].hit;
		h.looks += r->sub[i].seen;
	}
	if (tree->evidence == HPL_EVENTS)
		h.looks = ((u64)(sub_start(r, nr) - r->start) >> PAGE_SHIFT) *
			  r->exposed;
	return h;
}

static struct hpl_heat range_heat(const struct hpl_tree *tree,
				  const struct hpl_range *r)
{
	return subs_heat(tree, r, HPL_NR_SUBS);
}

/* Give @to, whose bounds are set, what @from knows about these addresses. */
static void range_inherit(struct hpl_range *to, const struct hpl_range *from)
{
	unsigned int i;

	for (i = 0; i < HPL_NR_SUBS; i++)
		counts_add(&to->sub[i], range_part(from, sub_start(to, i),
						   sub_start(to, i + 1)));
}

/* Change the bounds of @r; it keeps what it knows about what stays. */
static void range_resize(struct hpl_range *r, unsigned long start,
			 unsigned long end)
{
	struct hpl_range old = *r;

	if (r->start == start && r->end == end)
		return;
	r->start = start;
	r->end = end;
	memset(r->sub, 0, sizeof(r->sub));
	range_inherit(r, &old);
}

/**
 * hpl_range_sum - evidence about a whole range
 * @r: the range
 *
 * Return: the sum over its quarters.
 */
struct hpl_counts hpl_range_sum(const struct hpl_range *r)
{
	struct hpl_counts sum = {};
	unsigned int i;

	for (i = 0; i < HPL_NR_SUBS; i++)
		counts_add(&sum, r->sub[i]);
	return sum;
}

/**
 * hpl_range_resident - resident pages of a range, estimated
 * @r: the range
 *
 * Return: number of pages; 0 as long as there is no sample.
 */
unsigned long hpl_range_resident(const struct hpl_range *r)
{
	struct hpl_counts c = hpl_range_sum(r);

	return c.tried ? div64_u64((u64)range_pages(r) * c.seen, c.tried) : 0;
}

/**
 * hpl_range_fast - resident pages of a range on fast nodes, estimated
 * @r: the range
 *
 * Return: number of pages; 0 as long as there is no sample.
 */
unsigned long hpl_range_fast(const struct hpl_range *r)
{
	struct hpl_counts c = hpl_range_sum(r);

	return c.tried ? div64_u64((u64)range_pages(r) * c.fast, c.tried) : 0;
}

/**
 * hpl_tree_init - make an empty tree
 * @tree: to be initialised
 * @max: number of ranges above which nothing is split
 * @evidence: what its hits will be
 */
void hpl_tree_init(struct hpl_tree *tree, unsigned int max,
		   enum hpl_evidence evidence)
{
	tree->root = RB_ROOT;
	tree->nr = 0;
	tree->max = max;
	memset(tree->news_exposed, 0, sizeof(tree->news_exposed));
	tree->evidence = evidence;
	tree->pid = 0;
}

struct hpl_range *hpl_tree_first(struct hpl_tree *tree)
{
	return rb_entry_safe(rb_first(&tree->root), struct hpl_range, node);
}

struct hpl_range *hpl_range_next(struct hpl_range *r)
{
	return rb_entry_safe(rb_next(&r->node), struct hpl_range, node);
}

/**
 * hpl_tree_find - the range that covers an address
 * @tree: to be searched
 * @addr: the address
 *
 * Return: the range, NULL if none covers @addr.
 */
struct hpl_range *hpl_tree_find(struct hpl_tree *tree, unsigned long addr)
{
	struct rb_node *n = tree->root.rb_node;

	while (n) {
		struct hpl_range *r = rb_entry(n, struct hpl_range, node);

		if (addr < r->start)
			n = n->rb_left;
		else if (addr >= r->end)
			n = n->rb_right;
		else
			return r;
	}
	return NULL;
}

static void tree_link(struct hpl_tree *tree, struct hpl_range *new)
{
	struct rb_node **p = &tree->root.rb_node, *parent = NULL;

	while (*p) {
		parent = *p;
		if (new->start < rb_entry(parent, struct hpl_range, node)->start)
			p = &parent->rb_left;
		else
			p = &parent->rb_right;
	}
	rb_link_node(&new->node, parent, p);
	rb_insert_color(&new->node, &tree->root);
	tree->nr++;
}

static struct hpl_range *tree_insert(struct hpl_tree *tree, unsigned long start,
				     unsigned long end)
{
	struct hpl_range *r = kzalloc(sizeof(*r), HPL_GFP);

	if (!r)
		return NULL;
	r->start = start;
	r->end = end;
	tree_link(tree, r);
	return r;
}

static void tree_remove(struct hpl_tree *tree, struct hpl_range *r)
{
	rb_erase(&r->node, &tree->root);
	tree->nr--;
	kfree(r);
}

/**
 * hpl_tree_destroy - free all ranges
 * @tree: left empty, may be used again
 */
void hpl_tree_destroy(struct hpl_tree *tree)
{
	struct hpl_range *r, *next;

	rbtree_postorder_for_each_entry_safe(r, next, &tree->root, node)
		kfree(r);
	hpl_tree_init(tree, tree->max, tree->evidence);
}

/* Cut away of all ranges what no span covers. */
static int tree_clip(struct hpl_tree *tree, const struct hpl_span *spans,
		     unsigned int nr)
{
	struct hpl_range *r, *next;
	unsigned int i = 0;

	for (r = hpl_tree_first(tree); r; r = next) {
		struct hpl_range *rest;

		next = hpl_range_next(r);
		while (i < nr && spans[i].end <= r->start)
			i++;
		if (i == nr || spans[i].start >= r->end) {
			tree_remove(tree, r);
			continue;
		}
		if (spans[i].end < r->end) {
			/* What lies behind the hole is looked at next. */
			rest = tree_insert(tree, spans[i].end, r->end);
			if (!rest)
				return -ENOMEM;
			range_inherit(rest, r);
			rest->age = r->age;
			rest->exposed = r->exposed;
			rest->fresh = r->fresh;
			next = rest;
		}
		range_resize(r, max(r->start, spans[i].start),
			     min(r->end, spans[i].end));
	}
	return 0;
}

/*
 * Have [start, end) covered: by the range before it, which grows, if it is much
 * larger or ranges are running out; otherwise by a new one.
 */
static int cover_part(struct hpl_tree *tree, struct hpl_range *prev,
		      unsigned long start, unsigned long end)
{
	unsigned long pages = (end - start) >> PAGE_SHIFT;

	if (prev && prev->end == start &&
	    (pages <= range_pages(prev) / HPL_GROW_SHARE ||
	     tree->nr >= tree->max)) {
		range_resize(prev, prev->start, end);
		return 0;
	}
	return tree_insert(tree, start, end) ? 0 : -ENOMEM;
}

/* Cover with ranges what of the spans no range covers. */
static int tree_cover(struct hpl_tree *tree, const struct hpl_span *spans,
		      unsigned int nr)
{
	struct hpl_range *r = hpl_tree_first(tree), *prev = NULL;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		unsigned long at = spans[i].start;

		while (at < spans[i].end) {
			unsigned long end = spans[i].end;

			if (r && r->start < end)
				end = r->start;
			if (at < end && cover_part(tree, prev, at, end))
				return -ENOMEM;
			if (end == spans[i].end)
				break;
			at = r->end;
			prev = r;
			r = hpl_range_next(r);
		}
	}
	return 0;
}

/**
 * hpl_tree_sync - make a tree cover just the given spans
 * @tree: the tree
 * @spans: page aligned, ascending, not empty, not overlapping
 * @nr: number of @spans
 *
 * Ranges keep their evidence as far as they stay covered. Context: allocates.
 *
 * Return: 0, or -ENOMEM: then the tree is valid but covers other addresses.
 */
int hpl_tree_sync(struct hpl_tree *tree, const struct hpl_span *spans,
		  unsigned int nr)
{
	int err = tree_clip(tree, spans, nr);

	return err ?: tree_cover(tree, spans, nr);
}

/**
 * hpl_spans_coalesce - lower the number of spans by bridging small gaps
 * @spans: ascending, not overlapping; changed in place
 * @nr: number of @spans
 * @max: to be reached; at least 1
 *
 * Addresses in a gap find no page, which costs samples but does no harm.
 *
 * Return: the new number of spans, at most @max.
 */
unsigned int hpl_spans_coalesce(struct hpl_span *spans, unsigned int nr,
				unsigned int max)
{
	unsigned long gap;
	unsigned int i, to;

	for (gap = 0; nr; gap = gap ? gap * 2 : PAGE_SIZE) {
		for (to = 0, i = 1; i < nr; i++) {
			if (spans[i].start - spans[to].end <= gap)
				spans[to].end = spans[i].end;
			else
				spans[++to] = spans[i];
		}
		nr = to + 1;
		if (nr <= max)
			break;
	}
	return nr;
}

/*
 * The quarter of @r in which @addr lies: the last one that begins, by sub_start(), at
 * its page or before.
 */
static struct hpl_counts *sub_at(struct hpl_range *r, unsigned long addr)
{
	u64 pages_to = ((addr - r->start) >> PAGE_SHIFT) + 1;

	return &r->sub[div64_u64(pages_to * HPL_NR_SUBS - 1, range_pages(r))];
}

/**
 * hpl_range_count - count one look at a page
 * @r: the range that covers @addr
 * @addr: where the look was taken
 * @seen: a page was resident there
 * @hit: it was accessed within the sampling interval; implies @seen. False if
 *	hits are HPL_EVENTS
 * @fast: it was on a fast node; implies @seen
 */
void hpl_range_count(struct hpl_range *r, unsigned long addr, bool seen,
		     bool hit, bool fast)
{
	struct hpl_counts *c = sub_at(r, addr);

	if (c->tried >= HPL_SAMPLES_MAX)
		*c = counts_scale(*c, 1, 2);
	c->tried += HPL_SAMPLE_ONE;
	c->seen += seen ? HPL_SAMPLE_ONE : 0;
	c->hit += hit ? HPL_SAMPLE_ONE : 0;
	c->fast += fast ? HPL_SAMPLE_ONE : 0;
}

/**
 * hpl_range_event - count one sampled access
 * @r: the range that covers @addr
 * @addr: what was accessed
 * @fresh: its page has not been sampled lately
 *
 * The hits of the tree are HPL_EVENTS.
 */
void hpl_range_event(struct hpl_range *r, unsigned long addr, bool fresh)
{
	struct hpl_counts *c = sub_at(r, addr);

	if (c->hit >= HPL_EVENTS_MAX)
		return;
	c->hit += HPL_SAMPLE_ONE;
	r->news[0] += HPL_SAMPLE_ONE;
	r->fresh += fresh ? HPL_SAMPLE_ONE : 0;
}

/**
 * hpl_tree_expose - all ranges have been exposed to sampling
 * @tree: its hits are HPL_EVENTS
 * @exposed: for how long, see struct hpl_range
 */
void hpl_tree_expose(struct hpl_tree *tree, u32 exposed)
{
	struct hpl_range *r;

	for (r = hpl_tree_first(tree); r; r = hpl_range_next(r))
		r->exposed = min((u64)r->exposed + exposed, (u64)U32_MAX);
	tree->news_exposed[0] = min((u64)tree->news_exposed[0] + exposed,
				    (u64)U32_MAX);
}

/**
 * hpl_range_moved - keep account of where pages of a range lie
 * @r: the range
 * @nr_pages: how many pages have moved
 * @fast: true if they went to a fast node, false if to a slow one
 */
void hpl_range_moved(struct hpl_range *r, unsigned long nr_pages, bool fast)
{
	unsigned long nr_fast = hpl_range_fast(r);
	unsigned long from = fast ? hpl_range_resident(r) - nr_fast : nr_fast;
	unsigned int i;

	if (!from)
		return;
	nr_pages = min(nr_pages, from);
	for (i = 0; i < HPL_NR_SUBS; i++) {
		struct hpl_counts *c = &r->sub[i];
		u32 there = fast ? c->seen - c->fast : c->fast;
		u32 moved = div64_u64((u64)there * nr_pages, from);

		if (fast)
			c->fast += moved;
		else
			c->fast -= moved;
	}
}

/* All of the news of @r, or 0 if they came in a burst. */
static u64 steady_news(const struct hpl_range *r)
{
	u64 sum = 0, least = U32_MAX;
	unsigned int i;

	for (i = 0; i < HPL_NR_NEWS; i++) {
		sum += r->news[i];
		least = min_t(u64, least, r->news[i]);
	}
	return least * HPL_NEWS_SHARE < sum ? 0 : sum;
}

/*
 * Whether @news, in @exposed, say that @r has become hotter, by 4 sigma as for a
 * split: there are as many ranges to be mistaken about, as often.
 */
static bool has_flared_up(const struct hpl_range *r, u64 news, u64 exposed)
{
	u64 pages = range_pages(r), hits = hpl_range_sum(r).hit;
	struct hpl_heat now = { .hits = news, .looks = pages * exposed };
	struct hpl_heat before;

	if (!news || r->exposed <= exposed)
		return false;
	/* Both have been rounded down as they faded. */
	before.hits = hits - min(hits, news);
	before.looks = pages * (r->exposed - exposed);
	return now.hits * (r->exposed - exposed) > before.hits * exposed &&
	       hpl_heat_differs(HPL_EVENTS, now, before,
				HPL_SPLIT_SIGMA_SQUARED);
}

/* Begin an epoch of news. */
static void news_advance(u32 *news)
{
	memmove(news + 1, news, (HPL_NR_NEWS - 1) * sizeof(*news));
	news[0] = 0;
}

/**
 * hpl_tree_hasten - believe in sudden heat
 * @tree: its hits are HPL_EVENTS
 *
 * A range that was cold for seconds would have to be hot for seconds to be found
 * so. If it is surely hotter since some calls than it was before, its exposure is
 * cut, so that its heat is that since then.
 */
void hpl_tree_hasten(struct hpl_tree *tree)
{
	struct hpl_range *r;
	u64 exposed = 0;
	unsigned int i;

	for (i = 0; i < HPL_NR_NEWS; i++)
		exposed += tree->news_exposed[i];
	for (r = hpl_tree_first(tree); r; r = hpl_range_next(r)) {
		u64 news = steady_news(r);

		if (has_flared_up(r, news, exposed))
			r->exposed = max(div64_u64(exposed *
						   hpl_range_sum(r).hit, news),
					 1ULL);
		news_advance(r->news);
	}
	news_advance(tree->news_exposed);
}

/* What is left of @samples @dt_ms later. */
static u32 faded(u64 samples, unsigned int dt_ms)
{
	return div64_u64(samples * HPL_DECAY_MS, (u64)HPL_DECAY_MS + dt_ms);
}

static void news_decay(u32 *news, unsigned int dt_ms)
{
	unsigned int i;

	for (i = 0; i < HPL_NR_NEWS; i++)
		news[i] = faded(news[i], dt_ms);
}

/**
 * hpl_tree_decay - let evidence fade with time
 * @tree: the tree
 * @dt_ms: milliseconds since the last call
 */
void hpl_tree_decay(struct hpl_tree *tree, unsigned int dt_ms)
{
	u64 life = tree->evidence == HPL_EVENTS ? HPL_LOOK_DECAY_MS :
						  HPL_DECAY_MS;
	struct hpl_range *r;
	unsigned int i;

	for (r = hpl_tree_first(tree); r; r = hpl_range_next(r)) {
		for (i = 0; i < HPL_NR_SUBS; i++) {
			u64 hit = r->sub[i].hit;

			r->sub[i] = counts_scale(r->sub[i], life, life + dt_ms);
			r->sub[i].hit = faded(hit, dt_ms);
		}
		r->exposed = faded(r->exposed, dt_ms);
		r->fresh = faded(r->fresh, dt_ms);
		news_decay(r->news, dt_ms);
		if (r->age < UINT_MAX)
			r->age++;
	}
	news_decay(tree->news_exposed, dt_ms);
}

/* Resident pages that a range may hold. */
static unsigned long coarsest(struct hpl_tree *tree)
{
	unsigned int nr = clamp(tree->max / 4, 1U, (unsigned int)HPL_MIN_RANGES);
	unsigned long sum = 0;
	struct hpl_range *r;

	for (r = hpl_tree_first(tree); r; r = hpl_range_next(r))
		sum += hpl_range_resident(r);
	return max(sum / nr, HPL_COARSE_PAGES);
}

/*
 * The boundary between quarters at which @r should be split, 0 for none. It
 * should be if its sides differ, or if it holds more than @coarsest pages.
 */
static unsigned int split_point(const struct hpl_tree *tree,
				const struct hpl_range *r,
				unsigned long coarsest)
{
	const struct hpl_heat all = range_heat(tree, r);
	u64 best = HPL_SPLIT_SIGMA_SQUARED - 1;
	unsigned int i, at = 0;

	if (hpl_range_resident(r) > coarsest)
		at = HPL_NR_SUBS / 2;
	if (tree->evidence == HPL_EVENTS &&
	    all.hits < HPL_SPLIT_MIN_EVENTS * HPL_SAMPLE_ONE)
		return at;
	for (i = 1; i < HPL_NR_SUBS; i++) {
		unsigned long mid = sub_start(r, i);
		struct hpl_heat left, right;
		u64 z2;

		if (mid - r->start < HPL_MIN_RANGE_PAGES << PAGE_SHIFT ||
		    r->end - mid < HPL_MIN_RANGE_PAGES << PAGE_SHIFT)
			continue;
		left = subs_heat(tree, r, i);
		right = (struct hpl_heat){ .hits = all.hits - left.hits,
					   .looks = all.looks - left.looks };
		z2 = hpl_heat_z_squared(tree->evidence, left, right,
					HPL_SPLIT_SIGMA_SQUARED);
		if (z2 > best) {
			best = z2;
			at = i;
		}
	}
	return at;
}

/* Give @right, which has inherited from @r already, its share of what is new. */
static void news_split(struct hpl_range *r, struct hpl_range *right)
{
	u64 all = max(hpl_range_sum(r).hit, 1U), own = hpl_range_sum(right).hit;
	unsigned int i;

	right->fresh = div64_u64(r->fresh * min(own, all), all);
	r->fresh -= right->fresh;
	for (i = 0; i < HPL_NR_NEWS; i++) {
		right->news[i] = div64_u64(r->news[i] * min(own, all), all);
		r->news[i] -= right->news[i];
	}
}

/**
 * hpl_tree_split - split ranges whose parts differ in heat, and coarse ones
 * @tree: the tree
 *
 * Context: allocates; a range that cannot be split for want of memory is left
 * as it is.
 *
 * Return: number of splits.
 */
unsigned int hpl_tree_split(struct hpl_tree *tree)
{
	unsigned long coarse = coarsest(tree);
	struct hpl_range *r, *next;
	unsigned int nr = 0;

	for (r = hpl_tree_first(tree); r && tree->nr < tree->max; r = next) {
		unsigned int i = split_point(tree, r, coarse);
		struct hpl_range *right;
		unsigned long mid;

		next = hpl_range_next(r);
		if (!i)
			continue;
		mid = sub_start(r, i);
		right = tree_insert(tree, mid, r->end);
		if (!right)
			break;
		range_inherit(right, r);
		right->exposed = r->exposed;
		news_split(r, right);
		range_resize(r, r->start, mid);
		r->age = 0;
		trace_hpl_split(tree->pid, r->start, mid, right->end);
		nr++;
	}
	return nr;
}

/* Whether enough is known of @r to find it like a neighbour. */
static bool known(const struct hpl_tree *tree, const struct hpl_range *r)
{
	return hpl_range_sum(r).tried >= HPL_MERGE_MIN_SAMPLES * HPL_SAMPLE_ONE &&
	       (tree->evidence != HPL_EVENTS ||
		r->exposed >= HPL_MERGE_MIN_MS * HPL_SAMPLE_ONE);
}

/*
 * If there are too many ranges, neighbours merge unless they surely differ.
 * Otherwise both together may hold at most @coarsest pages.
 */
static bool may_merge(const struct hpl_tree *tree, const struct hpl_range *a,
		      const struct hpl_range *b, unsigned long coarsest)
{
	const u32 enough = HPL_MERGE_MIN_SAMPLES * HPL_SAMPLE_ONE;
	bool too_many = tree->nr > tree->max;
	u32 seen_a, seen_b;
	u64 z2;

	if (a->end != b->start ||
	    (!too_many &&
	     hpl_range_resident(a) + hpl_range_resident(b) > coarsest))
		return false;
	z2 = hpl_heat_z_squared(tree->evidence, range_heat(tree, a),
				range_heat(tree, b), 1);
	if (too_many)
		return z2 < HPL_SPLIT_SIGMA_SQUARED;
	if (!known(tree, a) && !known(tree, b))
		return min(a->age, b->age) >= HPL_MERGE_MIN_AGE;
	if (!known(tree, a) || !known(tree, b))
		return false;
	seen_a = hpl_range_sum(a).seen;
	seen_b = hpl_range_sum(b).seen;
	if (!seen_a && !seen_b)
		return true;
	return seen_a >= enough && seen_b >= enough && !z2;
}

/* The mean exposure of @a and @b, by pages. */
static u32 exposed_together(const struct hpl_range *a, const struct hpl_range *b)
{
	u64 na = range_pages(a), nb = range_pages(b);

	return div64_u64(a->exposed * na + b->exposed * nb, na + nb);
}

/**
 * hpl_tree_merge - merge neighbours of the same heat
 * @tree: the tree
 *
 * Neighbours agree if they differ by less than one sigma on enough samples, or
 * if neither has resident pages. Those about which little has been known for
 * long merge too, and all that do not surely differ if there are too many.
 *
 * Return: number of merges.
 */
unsigned int hpl_tree_merge(struct hpl_tree *tree)
{
	struct hpl_range *r = hpl_tree_first(tree), *next;
	unsigned long coarse = coarsest(tree);
	unsigned int nr = 0, i;

	while (r && (next = hpl_range_next(r))) {
		struct hpl_range left;

		if (!may_merge(tree, r, next, coarse)) {
			r = next;
			continue;
		}
		trace_hpl_merge(tree->pid, r->start, next->start, next->end);
		left = *r;
		r->exposed = exposed_together(r, next);
		r->fresh += next->fresh;
		for (i = 0; i < HPL_NR_NEWS; i++)
			r->news[i] += next->news[i];
		r->end = next->end;
		r->age = min(r->age, next->age);
		memset(r->sub, 0, sizeof(r->sub));
		range_inherit(r, &left);
		range_inherit(r, next);
		tree_remove(tree, next);
		nr++;
	}
	return nr;
}
