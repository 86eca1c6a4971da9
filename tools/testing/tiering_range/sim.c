// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: simulation of whole machines, up to terabytes
 *
 * Accesses to each page are a Poisson process of a rate that depends on its
 * address. Sampling, trees, policy and moves go on as in mm/tiering_range.c, by
 * the same functions; only what a kernel is needed for is simulated. Memory is
 * kept track of in blocks of one or more pages that move together.
 */
#include <math.h>
#include <time.h>

#include "sim.h"

#define MAX_BLOCKS	BIT(20)
/* As mm/tiering_range.c and mm/tiering_range_sample.c have them. */
#define MAX_RANGES	1024
/* 1% of a CPU at half a microsecond a sample. */
#define NR_SAMPLES	2000
/* CPU time to move a page, as the emulated machine measures it. */
#define PAGE_NS		10000
/* As mm/tiering_range_sample.c has them, for events. */
#define LOOKS_KNOWN	32
#define LOOKS_PER_RANGE	12U
#define LOOKS_MAX	1024
/* Events an epoch: 1% of a CPU at 200 ns each is 5000 of them, times the CPUs. */
#define NR_EVENTS	20000

/* By what kind of samples the machines below find heat. */
enum hpl_evidence evidence;

struct world w;

static u64 now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

void proc_add(unsigned long nr_blocks, float rate)
{
	struct proc *p = &w.procs[w.nr_procs++];
	struct hpl_span span;
	unsigned long i;

	p->base = w.nr_procs * 256 * TIB / 16;
	p->nr_blocks = nr_blocks;
	p->rate = malloc(nr_blocks * sizeof(*p->rate));
	p->fast = calloc(nr_blocks, sizeof(*p->fast));
	p->hot = calloc(nr_blocks, sizeof(*p->hot));
	p->sum = malloc((nr_blocks + 1) * sizeof(*p->sum));
	w.stale = true;
	for (i = 0; i < nr_blocks; i++)
		p->rate[i] = rate;
	/* First touch: the head of the memory fills the fast tier. */
	for (i = 0; i < nr_blocks && w.used < w.capacity; i++, w.used++)
		p->fast[i] = true;
	span.start = p->base;
	span.end = p->base + (nr_blocks * w.block_pages << PAGE_SHIFT);
	hpl_tree_init(&p->tree, MAX_RANGES, evidence);
	EXPECT_EQ(hpl_tree_sync(&p->tree, &span, 1), 0);
}

void world_exit(void)
{
	unsigned int i;

	for (i = 0; i < w.nr_procs; i++) {
		free(w.procs[i].rate);
		free(w.procs[i].fast);
		free(w.procs[i].hot);
		free(w.procs[i].sum);
		hpl_tree_destroy(&w.procs[i].tree);
	}
	hpl_sketch_destroy(&w.sketch);
}

/* Blocks [@from, @to) of @p, in 1/1000 of its memory, are hot. */
void heat_up(struct proc *p, unsigned int from, unsigned int to,
		    float rate)
{
	unsigned long i;

	for (i = p->nr_blocks * from / 1000; i < p->nr_blocks * to / 1000; i++) {
		p->rate[i] = rate;
		p->hot[i] = true;
	}
	w.stale = true;
}

void cool_down(struct proc *p, float rate)
{
	unsigned long i;

	for (i = 0; i < p->nr_blocks; i++) {
		p->rate[i] = rate;
		p->hot[i] = false;
	}
	w.stale = true;
}

static unsigned int weight(const struct hpl_range *r)
{
	return ilog2((r->end - r->start) >> PAGE_SHIFT) + 1;
}

unsigned long block_of(const struct proc *p, unsigned long addr)
{
	return ((addr - p->base) >> PAGE_SHIFT) / w.block_pages;
}

static void sample_bits(struct proc *p, u64 *seen, u64 *hit)
{
	unsigned int nr = NR_SAMPLES / w.nr_procs;
	u64 total = 0, share;
	struct hpl_range *r;

	for (r = hpl_tree_first(&p->tree); r; r = hpl_range_next(r))
		total += weight(r);
	share = rnd_below(total);
	for (r = hpl_tree_first(&p->tree); r; r = hpl_range_next(r)) {
		u64 pages = (r->end - r->start) >> PAGE_SHIFT;

		share += (u64)weight(r) * nr;
		for (; share >= total; share -= total) {
			unsigned long addr = r->start +
					     (rnd_below(pages) << PAGE_SHIFT);
			unsigned long b = block_of(p, addr);
			bool young = rnd_unit() < -expm1(-p->rate[b] *
							 w.interval_us / 1e6);

			hpl_range_count(r, addr, true, young, p->fast[b]);
			*seen += 1;
			*hit += young;
		}
	}
}

/* Sum up the rates, and choose the period that they allow. */
static void sum_up(void)
{
	double all = 0;
	unsigned int i;

	for (i = 0; i < w.nr_procs; i++) {
		struct proc *p = &w.procs[i];
		unsigned long b;

		p->sum[0] = 0;
		for (b = 0; b < p->nr_blocks; b++)
			p->sum[b + 1] = p->sum[b] + p->rate[b] * w.block_pages;
		all += p->sum[p->nr_blocks];
	}
	all *= EPOCH_MS / 1000. / (HPL_PERIOD >> w.dense);
	for (w.shift = 0; all > (double)NR_EVENTS * (1 << w.shift) &&
	     w.shift < HPL_PERIOD_SHIFT_MAX; w.shift++)
		;
	w.stale = false;
}

/* The block of @p before which there are @at accesses per second. */
static unsigned long block_of_sum(const struct proc *p, double at)
{
	unsigned long low = 0, high = p->nr_blocks;

	while (high - low > 1) {
		unsigned long mid = (low + high) / 2;

		if (p->sum[mid] <= at)
			low = mid;
		else
			high = mid;
	}
	return low;
}

static void look(struct proc *p)
{
	unsigned int most = max(LOOKS_MAX / p->tree.nr, LOOKS_PER_RANGE);
	unsigned int left = LOOKS_MAX;
	struct hpl_range *r;

	for (r = hpl_tree_first(&p->tree); r; r = hpl_range_next(r)) {
		u64 pages = (r->end - r->start) >> PAGE_SHIFT;
		u32 tried = hpl_range_sum(r).tried / HPL_SAMPLE_ONE, n;

		n = tried < LOOKS_KNOWN ? min(LOOKS_KNOWN - tried, most) : 0;
		for (; n && left; n--, left--) {
			unsigned long addr = r->start +
					     (rnd_below(pages) << PAGE_SHIFT);

			hpl_range_count(r, addr, true, false,
					p->fast[block_of(p, addr)]);
		}
	}
}

/**
 * draw_events - how many accesses to a process are sampled in an epoch
 * @p: the process; where one of them goes to, draw_address() tells
 *
 * Return: their number.
 */
u64 draw_events(struct proc *p)
{
	double mean;

	if (w.stale)
		sum_up();
	mean = p->sum[p->nr_blocks] * EPOCH_MS / 1000 /
	       (HPL_PERIOD >> w.dense << w.shift);
	return mean > 0 ? rnd_poisson(mean) : 0;
}

unsigned long draw_address(const struct proc *p)
{
	unsigned long b = block_of_sum(p, rnd_unit() * p->sum[p->nr_blocks]);

	return p->base + ((b * w.block_pages + rnd_below(w.block_pages)) << PAGE_SHIFT);
}

/* What the table of single pages says of a sample. */
static bool is_fresh(const struct proc *p, unsigned long addr)
{
	unsigned int owner = p - w.procs;
	unsigned int news = hpl_sketch_count(&w.sketch, owner, addr);

	if (news & HPL_SPOT_HOT && w.nr_spots < MAX_SPOTS)
		w.spots[w.nr_spots++] = (struct hpl_spot){ addr, owner };
	return news & HPL_SPOT_FRESH;
}

static void sample_events(struct proc *p)
{
	u32 exposed;
	u64 n;

	for (n = draw_events(p); n; n--) {
		unsigned long addr = draw_address(p);
		struct hpl_range *r = hpl_tree_find(&p->tree, addr);

		if (r)
			hpl_range_event(r, addr, !w.alone || is_fresh(p, addr));
	}
	exposed = EPOCH_MS * HPL_SAMPLE_ONE << w.dense >> w.shift;
	if (w.alone && p == w.procs)
		hpl_sketch_expose(&w.sketch, exposed);
	hpl_tree_expose(&p->tree, exposed);
	look(p);
}

static void sample(struct proc *p, u64 *seen, u64 *hit)
{
	if (evidence == HPL_EVENTS)
		sample_events(p);
	else
		sample_bits(p, seen, hit);
}

static unsigned int candidates(struct hpl_candidate *c)
{
	unsigned int i, n, nr = 0;
	struct hpl_range *r;

	for (i = 0; i < w.nr_procs; i++) {
		struct hpl_tree *tree = &w.procs[i].tree;

		hpl_tree_hasten(tree);
		hpl_tree_decay(tree, EPOCH_MS);
		hpl_tree_merge(tree);
		for (n = 0; n < 8 && hpl_tree_split(tree); n++)
			;
		EXPECT(tree->nr <= tree->max);
		w.max_ranges = max(w.max_ranges, tree->nr);
		for (r = hpl_tree_first(tree); r; r = hpl_range_next(r))
			if (hpl_policy_ready(r))
				hpl_policy_candidate(&c[nr++], r, i);
	}
	return nr;
}

static void account(const struct hpl_candidate *c, unsigned long done,
		    unsigned long pages, bool promote)
{
	struct hpl_range *r = hpl_tree_find(&w.procs[c->owner].tree, c->start);

	hpl_range_moved(r, done, promote);
	if (!promote && done < pages)
		hpl_range_moved(r, ULONG_MAX, promote);
	r->failures = done ? 0 : r->failures + 1;
	r->age = done ? r->age : 0;
}

static const struct finder trees = {
	.sample = sample,
	.candidates = candidates,
	.account = account,
};

/* A machine of @bytes, a quarter of them fast; its tenth moves in four seconds. */
void world_init(unsigned long bytes)
{
	unsigned long pages = bytes >> PAGE_SHIFT;

	w = (struct world){ .block_pages = max(pages / MAX_BLOCKS, 1UL) };
	w.capacity = pages / w.block_pages / 4;
	w.budget = pages / 40 * EPOCH_MS / 1000;
	w.interval_us = 5000;
	w.finder = &trees;
	EXPECT_EQ(hpl_sketch_init(&w.sketch, pages), 0);
}

/* Move @pages of [start, end) from a random place on, as far as there is room. */
static void move(const struct hpl_candidate *c, unsigned long pages, bool promote)
{
	struct proc *p = &w.procs[c->owner];
	unsigned long first = block_of(p, c->start), done = 0, i;
	unsigned long nr = block_of(p, c->end - 1) + 1 - first;
	unsigned long from = rnd_below(nr);

	for (i = 0; i < nr && done < pages; i++) {
		unsigned long b = first + (from + i) % nr;

		if (p->fast[b] == promote || (promote && w.used == w.capacity))
			continue;
		/* Blocks are pages then. */
		if (w.alone && !promote &&
		    hpl_sketch_seen(&w.sketch, c->owner,
				    p->base + (b << PAGE_SHIFT)))
			continue;
		p->fast[b] = promote;
		done += w.block_pages;
		w.used += promote ? 1 : -1;
		w.nr_promoted += promote;
		w.nr_promoted_hot += promote && p->hot[b];
		w.nr_demoted += !promote;
	}
	w.finder->account(c, done, pages, promote);
}

/* Of the pages that may be hot alone, leave those that are slow. */
static void look_at_spots(void)
{
	unsigned int i, n = 0;

	for (i = 0; i < w.nr_spots; i++) {
		struct hpl_spot s = w.spots[i];
		struct proc *p = &w.procs[s.owner];

		if (hpl_sketch_mark(&w.sketch, s.owner, s.addr, HPL_SPOT_NEW,
				    HPL_SPOT_TRIED) && !p->fast[block_of(p, s.addr)])
			w.spots[n++] = s;
	}
	w.nr_spots = n;
}

/* Promote @nr of them, for which there is room now, and go on with the table. */
static void promote_spots(unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < w.nr_spots; i++) {
		struct hpl_spot s = w.spots[i];
		struct proc *p = &w.procs[s.owner];

		hpl_sketch_mark(&w.sketch, s.owner, s.addr, HPL_SPOT_TRIED,
				i < nr ? HPL_SPOT_PROMOTED : HPL_SPOT_NEW);
		if (i >= nr || w.used == w.capacity)
			continue;
		p->fast[block_of(p, s.addr)] = true;
		w.used++;
		w.nr_alone++;
		w.nr_promoted_hot += p->hot[block_of(p, s.addr)];
		hpl_range_moved(hpl_tree_find(&p->tree, s.addr), 1, true);
	}
	w.nr_promoted += min(nr, w.nr_spots);
	w.nr_spots = 0;
}

static void epoch(void)
{
	static struct hpl_candidate c[MAX_PROCS * MAX_RANGES];
	struct hpl_costs costs = {
		.nr_free = (w.capacity - w.used) * w.block_pages,
		.nr_budget = w.budget,
		.evidence = evidence,
		.interval_us = w.interval_us,
		.page_ns = PAGE_NS,
		.gap_ns = HPL_GAP_NS,
	};
	struct hpl_candidate alone = { .heat = w.sketch.heat };
	u64 seen = 0, hit = 0, begin;
	unsigned int i, nr;

	for (i = 0; i < w.nr_procs; i++)
		w.finder->sample(&w.procs[i], &seen, &hit);
	begin = now_ns();
	nr = w.finder->candidates(c);
	if (w.alone) {
		look_at_spots();
		alone.nr_slow = w.nr_spots;
		alone.exposed = w.sketch.exposed;
	}
	hpl_policy_plan(c, nr, &alone, &costs);
	w.classify_ns = now_ns() - begin;
	for (i = nr; i-- > 0; )
		if (c[i].nr_demote)
			move(&c[i], c[i].nr_demote, false);
	if (w.alone)
		promote_spots(alone.nr_promote);
	for (i = 0; i < nr; i++)
		if (c[i].nr_promote)
			move(&c[i], c[i].nr_promote, true);
	if (w.alone && hpl_sketch_pass(&w.sketch, w.sketch.nr * EPOCH_MS /
				       HPL_SPOT_PASS_MS + 1)) {
		hpl_policy_judge(&w.sketch, c, nr, &costs);
		hpl_sketch_begin(&w.sketch);
	}
	w.interval_us = hpl_policy_interval(w.interval_us, seen, hit,
					    EPOCH_MS * 1000 / 4, PAGE_NS);
}

/* Share of the hot blocks that are on the fast tier. */
double recall(void)
{
	unsigned long hot = 0, fast = 0, b;
	unsigned int i;

	for (i = 0; i < w.nr_procs; i++) {
		struct proc *p = &w.procs[i];

		for (b = 0; b < p->nr_blocks; b++) {
			hot += p->hot[b];
			fast += p->hot[b] && p->fast[b];
		}
	}
	return (double)fast / hot;
}

static double total_blocks(void)
{
	double sum = 0;
	unsigned int i;

	for (i = 0; i < w.nr_procs; i++)
		sum += w.procs[i].nr_blocks;
	return sum;
}

/* Epochs until @goal of the hot set is fast, at most @max + 1. */
unsigned int epochs_until(double goal, unsigned int max)
{
	unsigned int n;

	for (n = 0; n <= max && recall() < goal; n++)
		epoch();
	return n;
}

void run(unsigned int epochs)
{
	while (epochs--)
		epoch();
}

/* Blocks moved as a share of all. */
double moved(void)
{
	return (w.nr_promoted + w.nr_demoted) / total_blocks();
}

double precision(void)
{
	return w.nr_promoted ? (double)w.nr_promoted_hot / w.nr_promoted : 0;
}

/*
 * A tenth of the memory takes nine tenths of the accesses. It lies slow, and in
 * @nr_pieces, the first at @at in 1/1000 of the memory.
 */
static void find_tenth(unsigned long bytes, unsigned int at,
		       unsigned int nr_pieces, float rate, unsigned int max_epochs)
{
	unsigned int i, piece = 100 / nr_pieces;
	unsigned int apart = nr_pieces > 1 ? (1000 - at - piece) / (nr_pieces - 1) : 0;

	world_init(bytes);
	proc_add(bytes / w.block_pages >> PAGE_SHIFT, rate / 81);
	for (i = 0; i < nr_pieces; i++)
		heat_up(&w.procs[0], at + i * apart, at + i * apart + piece, rate);
	printf("# %g GiB, %u hot pieces from %.1f%% on, %g accesses a second:\n",
	       (double)bytes / GIB, nr_pieces, at / 10., rate);
	/* With the whole budget, copying alone takes 40 epochs. */
	EXPECT_IN(epochs_until(0.95, max_epochs), 0, max_epochs);
	run(20);
	EXPECT_IN(recall(), 0.95, 1);
	EXPECT_IN(precision(), 0.9, 1);
	EXPECT_IN(w.max_ranges, 2, 400);
	world_exit();
}

static void sim_finds_the_hot_set_1_gib(void)
{
	find_tenth(GIB, 900, 1, 450, 90);
	find_tenth(GIB, 333, 1, 450, 90);
	find_tenth(GIB, 251, 4, 450, 150);
}

static void sim_finds_the_hot_set_64_gib(void)
{
	find_tenth(64 * GIB, 900, 1, 200, 90);
	find_tenth(64 * GIB, 777, 1, 200, 90);
	find_tenth(64 * GIB, 251, 4, 200, 150);
}

static void sim_finds_the_hot_set_1_tib(void)
{
	find_tenth(TIB, 900, 1, 200, 90);
	find_tenth(TIB, 517, 1, 200, 90);
	find_tenth(TIB, 251, 20, 200, 250);
}

static void sim_finds_the_hot_set_4_tib(void)
{
	find_tenth(4 * TIB, 900, 1, 200, 90);
	find_tenth(4 * TIB, 611, 1, 200, 90);
	find_tenth(4 * TIB, 251, 20, 200, 250);
}

/* 200 MB among 160 GB: an eighth of a percent. */
static void sim_finds_a_needle(void)
{
	world_init(160 * GIB);
	proc_add(w.capacity * 4, 0.5);
	heat_up(&w.procs[0], 600, 601, 450);
	EXPECT_IN(epochs_until(0.9, 60), 0, 60);
	EXPECT_IN(w.max_ranges, 2, 300);
	world_exit();
}

static void sim_uniform_access_moves_nothing(void)
{
	world_init(GIB);
	proc_add(w.capacity * 4, 50);
	run(300);
	EXPECT_IN(moved(), 0, 0.01);
	EXPECT_IN(w.max_ranges, 64, 80);
	world_exit();
}

static void sim_idle_moves_nothing(void)
{
	world_init(64 * GIB);
	proc_add(w.capacity * 4, 0);
	run(300);
	EXPECT_EQ(w.nr_promoted + w.nr_demoted, 0);
	EXPECT_IN(w.max_ranges, 64, 80);
	world_exit();
}

static void sim_hot_set_already_fast_stays(void)
{
	world_init(GIB);
	proc_add(w.capacity * 4, 5);
	heat_up(&w.procs[0], 50, 150, 450);
	run(300);
	EXPECT_IN(recall(), 0.99, 1);
	EXPECT_IN(moved(), 0, 0.01);
	world_exit();
}

static void sim_follows_a_hot_set_that_moves(void)
{
	world_init(GIB);
	proc_add(w.capacity * 4, 5);
	heat_up(&w.procs[0], 900, 1000, 450);
	EXPECT_IN(epochs_until(0.95, 90), 0, 90);
	run(100);
	cool_down(&w.procs[0], 5);
	heat_up(&w.procs[0], 400, 500, 450);
	EXPECT_IN(epochs_until(0.95, 120), 0, 120);
	run(20);
	EXPECT_IN(recall(), 0.95, 1);
	world_exit();
}

/*
 * The fast tier is full of pages that are touched again and again too. A policy
 * with coarse classes finds all of them warm and demotes none.
 */
static void sim_demotes_the_warm(void)
{
	world_init(GIB);
	proc_add(w.capacity * 4, 100);
	heat_up(&w.procs[0], 900, 1000, 450);
	EXPECT_IN(epochs_until(0.95, 120), 0, 120);
	EXPECT_IN((double)w.nr_demoted / w.procs[0].nr_blocks, 0.09, 0.2);
	world_exit();
}

/* Free fast memory is used before anything is demoted. */
static void sim_uses_free_memory(void)
{
	world_init(GIB);
	w.used = w.capacity;
	proc_add(w.capacity * 4, 5);
	w.used = 0;
	heat_up(&w.procs[0], 900, 1000, 450);
	EXPECT_IN(epochs_until(0.95, 90), 0, 90);
	EXPECT_EQ(w.nr_demoted, 0);
	world_exit();
}

/* A busy process gets the fast memory that an idle one holds. */
static void sim_two_processes(void)
{
	world_init(GIB);
	proc_add(w.capacity, 0.1);
	proc_add(w.capacity, 0.1);
	heat_up(&w.procs[1], 0, 1000, 450);
	EXPECT_EQ(recall(), 0);
	EXPECT_IN(epochs_until(0.95, 200), 0, 200);
	world_exit();
}

/*
 * Every tenth page is hot: no range can tell them apart, and moving at random
 * is useless. Then nothing must move rather than everything.
 */
static void sim_scattered_pages_are_left(void)
{
	unsigned long i;

	world_init(GIB);
	proc_add(w.capacity * 4, 5);
	for (i = 0; i < w.procs[0].nr_blocks; i += 10) {
		w.procs[0].rate[i] = 450;
		w.procs[0].hot[i] = true;
	}
	w.stale = true;
	run(300);
	EXPECT_IN(moved(), 0, 0.02);
	world_exit();
}

/* Many small hot and cold mappings: the bound of ranges is kept. */
static void sim_many_mappings(void)
{
	static struct hpl_span spans[4000];
	unsigned int i, n;
	struct proc *p;

	world_init(GIB);
	proc_add(w.capacity * 4, 5);
	p = &w.procs[0];
	for (i = 0; i < ARRAY_SIZE(spans); i++) {
		spans[i].start = p->base + ((i * 65UL) << PAGE_SHIFT);
		spans[i].end = spans[i].start + (64UL << PAGE_SHIFT);
	}
	n = hpl_spans_coalesce(spans, ARRAY_SIZE(spans), MAX_RANGES / 2);
	EXPECT(n <= MAX_RANGES / 2);
	EXPECT_EQ(hpl_tree_sync(&p->tree, spans, n), 0);
	heat_up(p, 900, 1000, 450);
	run(200);
	EXPECT_IN(recall(), 0.9, 1);
	EXPECT(w.max_ranges <= MAX_RANGES);
	world_exit();
}

/*
 * Rates fall with the rank of a page: of the accesses to pages that are worth an
 * exchange, how many become fast.
 */
static void sim_zipf(void)
{
	/* As the policy reckons: 53 ns a time for 10 s against four times a move. */
	const double worth = 4. * PAGE_NS / 53 / 10;
	struct proc *p;
	unsigned long b;
	double had = 0, best = 0;

	world_init(GIB);
	proc_add(w.capacity * 4, 0);
	p = &w.procs[0];
	/* Hottest at the end, which is slow at first; 10 M accesses a second. */
	for (b = 0; b < p->nr_blocks; b++)
		p->rate[p->nr_blocks - 1 - b] = 7.7e5 / (b + 1);
	w.stale = true;
	run(100);
	for (b = 0; b < p->nr_blocks; b++) {
		if (p->rate[b] < 2 * worth)
			continue;
		had += p->fast[b] ? p->rate[b] : 0;
		best += p->rate[b];
	}
	EXPECT_IN(had / best, 0.95, 1);
	world_exit();
}

/* Share of all accesses that go to fast memory. */
static double fast_share(void)
{
	const struct proc *p = &w.procs[0];
	double fast = 0, all = 0;
	unsigned long b;

	for (b = 0; b < p->nr_blocks; b++) {
		fast += p->fast[b] ? p->rate[b] : 0;
		all += p->rate[b];
	}
	return fast / all;
}

static int by_rate(const void *pa, const void *pb)
{
	const float *a = pa, *b = pb;

	return *a > *b ? -1 : *a < *b;
}

/* What that would be, were the hottest pages fast. */
static double best_share(void)
{
	const struct proc *p = &w.procs[0];
	float *rate = malloc(p->nr_blocks * sizeof(*rate));
	double fast = 0, all = 0;
	unsigned long b;

	memcpy(rate, p->rate, p->nr_blocks * sizeof(*rate));
	qsort(rate, p->nr_blocks, sizeof(*rate), by_rate);
	for (b = 0; b < p->nr_blocks; b++) {
		fast += b < w.capacity ? rate[b] : 0;
		all += rate[b];
	}
	free(rate);
	return fast / all;
}

/* 384 MiB of a GiB, half of which are fast, by counted events. */
static void alone_init(unsigned int dense)
{
	evidence = HPL_EVENTS;
	world_init(GIB);
	w.alone = true;
	w.capacity = 49152;
	proc_add(98304, 0);
	w.dense = dense;
}

static void alone_exit(void)
{
	world_exit();
	evidence = HPL_BITS;
}

/*
 * Rates fall with the rank of a page, and ranks are anywhere: as in the emulated
 * machine, with three million misses a second, of which pages of the first ranks have
 * less than their share, as some of these are cached.
 */
static void alone_zipf(void)
{
	struct proc *p;
	unsigned long b, to;
	float rate;

	alone_init(3);
	p = &w.procs[0];
	for (b = 0; b < p->nr_blocks; b++) {
		double accesses = 3.7e5 / (b + 1);

		p->rate[b] = accesses * exp(-accesses / 12800);
	}
	for (b = p->nr_blocks - 1; b > 0; b--) {
		to = rnd_below(b + 1);
		rate = p->rate[b];
		p->rate[b] = p->rate[to];
		p->rate[to] = rate;
	}
	w.stale = true;
	for (b = 0; b < 4; b++) {
		run(20);
		printf("# after %lu s: %.3f of %.3f, %lu moved alone, %u samples are enough\n",
		       2 * b + 2, fast_share(), best_share(), w.nr_alone, w.sketch.least);
	}
	EXPECT_IN(fast_share() / best_share(), 0.8, 1);
	run(170);
	EXPECT_IN(fast_share() / best_share(), 0.85, 1);
	alone_exit();
}

/* Where pages are alike, none is promoted alone, whatever chance does to them. */
static void alone_uniform(void)
{
	alone_init(3);
	heat_up(&w.procs[0], 0, 1000, 40);
	run(300);
	EXPECT_EQ(w.nr_alone, 0);
	EXPECT_IN(moved(), 0, 0.01);
	alone_exit();
}

/*
 * A tenth is hot, and found as a range. Of the others, those with a sample look as
 * hot as the tenth's with one do, until it turns out that they are not.
 */
static void alone_hotset(void)
{
	alone_init(0);
	heat_up(&w.procs[0], 0, 1000, 35);
	heat_up(&w.procs[0], 900, 1000, 350);
	run(100);
	EXPECT_IN(fast_share() / best_share(), 0.98, 1);
	w.nr_alone = 0;
	run(300);
	/* At 30 us each, 0.3% of a CPU. */
	EXPECT_IN(w.nr_alone, 0, 3000);
	EXPECT_IN(fast_share() / best_share(), 0.98, 1);
	alone_exit();
}

/* The same by counted events: sooner, and no less sure. */
static void by_events(void (*test)(void))
{
	evidence = HPL_EVENTS;
	test();
	evidence = HPL_BITS;
}

#define EVENTS_TEST(name) \
	static void events_##name(void) { by_events(sim_##name); }

EVENTS_TEST(finds_the_hot_set_1_gib)
EVENTS_TEST(finds_the_hot_set_64_gib)
EVENTS_TEST(finds_the_hot_set_1_tib)
EVENTS_TEST(finds_the_hot_set_4_tib)
EVENTS_TEST(finds_a_needle)
EVENTS_TEST(uniform_access_moves_nothing)
EVENTS_TEST(idle_moves_nothing)
EVENTS_TEST(hot_set_already_fast_stays)
EVENTS_TEST(follows_a_hot_set_that_moves)
EVENTS_TEST(demotes_the_warm)
EVENTS_TEST(uses_free_memory)
EVENTS_TEST(two_processes)
EVENTS_TEST(scattered_pages_are_left)
EVENTS_TEST(many_mappings)
EVENTS_TEST(zipf)

static int by_value(const void *pa, const void *pb)
{
	const u64 *a = pa, *b = pb;

	return *a < *b ? -1 : *a > *b;
}

/*
 * What classification costs an epoch: a line for each size of memory, of which one
 * tenth is hot, in one piece. The clock's time, so of use only where that does not
 * depend on what else runs, as under QEMU with a fixed instruction count.
 */
void sim_costs(void)
{
	static const unsigned long sizes[] = { GIB, 64 * GIB, TIB, 4 * TIB };
	static u64 ns[200];
	size_t i, n;

	evidence = HPL_EVENTS;
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		rnd_seed(test_seed);
		world_init(sizes[i]);
		proc_add(sizes[i] / w.block_pages >> PAGE_SHIFT, 2.5);
		heat_up(&w.procs[0], 777, 877, 200);
		for (n = 0; n < ARRAY_SIZE(ns); n++) {
			epoch();
			ns[n] = w.classify_ns;
		}
		qsort(ns, ARRAY_SIZE(ns), sizeof(*ns), by_value);
		printf("classify gib=%g ranges=%u recall=%.3f median_ns=%llu worst_ns=%llu\n",
		       (double)sizes[i] / GIB, w.procs[0].tree.nr, recall(),
		       (unsigned long long)ns[ARRAY_SIZE(ns) / 2],
		       (unsigned long long)ns[ARRAY_SIZE(ns) - 1]);
		fflush(stdout);
		world_exit();
	}
}

const struct test sim_tests[] = {
	TEST(sim_finds_the_hot_set_1_gib),
	TEST(sim_finds_the_hot_set_64_gib),
	TEST(sim_finds_the_hot_set_1_tib),
	TEST(sim_finds_the_hot_set_4_tib),
	TEST(sim_finds_a_needle),
	TEST(sim_uniform_access_moves_nothing),
	TEST(sim_idle_moves_nothing),
	TEST(sim_hot_set_already_fast_stays),
	TEST(sim_follows_a_hot_set_that_moves),
	TEST(sim_demotes_the_warm),
	TEST(sim_uses_free_memory),
	TEST(sim_two_processes),
	TEST(sim_scattered_pages_are_left),
	TEST(sim_many_mappings),
	TEST(sim_zipf),
	TEST(events_finds_the_hot_set_1_gib),
	TEST(events_finds_the_hot_set_64_gib),
	TEST(events_finds_the_hot_set_1_tib),
	TEST(events_finds_the_hot_set_4_tib),
	TEST(events_finds_a_needle),
	TEST(events_uniform_access_moves_nothing),
	TEST(events_idle_moves_nothing),
	TEST(events_hot_set_already_fast_stays),
	TEST(events_follows_a_hot_set_that_moves),
	TEST(events_demotes_the_warm),
	TEST(events_uses_free_memory),
	TEST(events_two_processes),
	TEST(events_scattered_pages_are_left),
	TEST(events_many_mappings),
	TEST(events_zipf),
	TEST(alone_zipf),
	TEST(alone_uniform),
	TEST(alone_hotset),
	{}
};
