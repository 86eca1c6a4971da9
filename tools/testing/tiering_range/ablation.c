// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: what its parts are worth, beside regions as DAMON has them
 *
 * Machines of the simulation place memory by our policy, but find heat otherwise:
 * by regions that split at random and merge where they are alike, as in
 * mm/damon/core.c, either with DAMON's own checks of accessed bits or with our
 * sampled accesses.
 */
#include <math.h>

#include "sim.h"

/* DAMON's defaults: accesses are checked every 5 ms, regions change every 100. */
#define CHECKS		20
#define CHECK_US	5000
#define MIN_REGIONS	10
#define MAX_REGIONS	1000

/* As many checks as we take samples of accessed bits in an epoch. */
#define CHEAP_REGIONS	100

/* Epochs of age that count as evidence: as long as our samples live. */
#define AGE_MAX		30.0

/* As our trees let samples fade: mm/tiering_range_tree.c. */
#define FADE		(3000. / (3000 + EPOCH_MS))

/**
 * struct region - a part of a process' memory
 * @start: its first page, counted from that of the process
 * @end: first page after it
 * @heat: accesses found in this epoch, of CHECKS; or events of a page per ms
 * @last: @heat of the epoch before
 * @age: epochs since @heat changed
 * @fast: of CHECKS random pages, how many are fast
 * @events: sampled accesses
 * @exposed: how many ms these took, at one of HPL_PERIOD accesses
 */
struct region {
	unsigned long start;
	unsigned long end;
	double heat;
	double last;
	double age;
	double fast;
	double events;
	double exposed;
};

/* Of the one process that the machines here have, in the order of addresses. */
static struct region regions[2 * MAX_REGIONS];
static unsigned int nr_regions, max_regions, last_nr_regions;

static unsigned long size(const struct region *r)
{
	return r->end - r->start;
}

static unsigned long random_address(const struct proc *p, const struct region *r)
{
	return p->base + ((r->start + rnd_below(size(r))) << PAGE_SHIFT);
}

/* Where a region's pages lie is known for nothing, and at once. */
static void look(const struct proc *p, struct region *r)
{
	unsigned int i;

	for (r->fast = 0, i = 0; i < CHECKS; i++)
		r->fast += p->fast[block_of(p, random_address(p, r))];
}

static void check_bits(struct proc *p, u64 *seen, u64 *hit)
{
	unsigned int i, n;

	(void)seen, (void)hit;
	for (i = 0; i < nr_regions; i++) {
		struct region *r = &regions[i];

		look(p, r);
		for (r->heat = 0, n = 0; n < CHECKS; n++) {
			unsigned long b = block_of(p, random_address(p, r));

			r->heat += rnd_unit() <
				   -expm1(-p->rate[b] * CHECK_US / 1e6);
		}
	}
}

static struct region *region_of(const struct proc *p, unsigned long addr)
{
	unsigned long page = (addr - p->base) >> PAGE_SHIFT;
	unsigned int low = 0, high = nr_regions;

	while (high - low > 1) {
		unsigned int mid = (low + high) / 2;

		if (regions[mid].start <= page)
			low = mid;
		else
			high = mid;
	}
	return &regions[low];
}

static void count_events(struct proc *p, u64 *seen, u64 *hit)
{
	unsigned int i;
	u64 n;

	(void)seen, (void)hit;
	for (n = draw_events(p); n; n--)
		region_of(p, draw_address(p))->events++;
	for (i = 0; i < nr_regions; i++) {
		struct region *r = &regions[i];

		look(p, r);
		r->exposed += (double)EPOCH_MS / (1 << w.shift);
		r->heat = r->events / (size(r) * r->exposed);
	}
}

static void merge_two(struct region *l, const struct region *r)
{
	double share = (double)size(r) / (size(l) + size(r));

	l->heat += share * (r->heat - l->heat);
	l->last += share * (r->last - l->last);
	l->age += share * (r->age - l->age);
	l->fast += share * (r->fast - l->fast);
	l->exposed += share * (r->exposed - l->exposed);
	l->events += r->events;
	l->end = r->end;
}

/* Merge neighbours that differ by no more than @threshold. */
static void merge(double threshold, unsigned long size_max)
{
	unsigned int i, n = 0;

	for (i = 1; i < nr_regions; i++) {
		struct region *l = &regions[n];

		if (fabs(l->heat - regions[i].heat) <= threshold &&
		    size(l) + size(&regions[i]) <= size_max)
			merge_two(l, &regions[i]);
		else
			regions[++n] = regions[i];
	}
	nr_regions = n + 1;
}

/* A tenth of the largest heat is alike; more if there are too many regions. */
static void merge_regions(void)
{
	unsigned long pages = regions[nr_regions - 1].end;
	double hottest = 0, threshold;
	unsigned int i;

	for (i = 0; i < nr_regions; i++)
		hottest = fmax(hottest, regions[i].heat);
	threshold = hottest / 10;
	for (i = 0; i < nr_regions; i++) {
		struct region *r = &regions[i];

		r->age = fabs(r->heat - r->last) > threshold ? 0 : r->age + 1;
	}
	for (;; threshold *= 2) {
		merge(threshold, pages / MIN_REGIONS);
		if (nr_regions <= max_regions || threshold > hottest)
			break;
	}
}

/* Cut @parts - 1 times a random share of what is left off its end. */
static unsigned int split_one(struct region *to, struct region r, unsigned int parts)
{
	unsigned int n = 0;

	to[n++] = r;
	while (n < parts && size(&to[0]) > 2) {
		struct region *left = &to[0], *right = &to[n];
		unsigned long mid = left->start +
				    size(left) * (1 + rnd_below(9)) / 10;
		double share;

		if (mid == left->start)
			break;
		*right = *left;
		right->start = mid;
		share = (double)size(right) / size(left);
		right->events *= share;
		left->events -= right->events;
		left->end = mid;
		n++;
	}
	/* What was cut off last lies first. */
	if (n == 3) {
		struct region last = to[1];

		to[1] = to[2];
		to[2] = last;
	}
	return n;
}

static void split_regions(void)
{
	static struct region old[2 * MAX_REGIONS];
	unsigned int parts = 2, nr = nr_regions, i;

	if (nr > max_regions / 2)
		return;
	if (last_nr_regions == nr && nr < max_regions / 3)
		parts = 3;
	last_nr_regions = nr;
	memcpy(old, regions, nr * sizeof(*old));
	for (nr_regions = 0, i = 0; i < nr; i++)
		nr_regions += split_one(&regions[nr_regions], old[i], parts);
}

static struct hpl_candidate candidate(const struct proc *p, const struct region *r)
{
	double sure = fmin(r->age, AGE_MAX) + 1;
	struct hpl_candidate c = {
		.start = p->base + (r->start << PAGE_SHIFT),
		.end = p->base + (r->end << PAGE_SHIFT),
		.counts = {
			.tried = CHECKS * sure * HPL_SAMPLE_ONE,
			.seen = CHECKS * sure * HPL_SAMPLE_ONE,
			.hit = r->heat * sure * HPL_SAMPLE_ONE,
		},
		.nr_fast = size(r) * r->fast / CHECKS,
	};

	c.nr_slow = size(r) - c.nr_fast;
	if (evidence == HPL_EVENTS) {
		c.counts.hit = r->events * HPL_SAMPLE_ONE;
		c.exposed = r->exposed * HPL_SAMPLE_ONE;
	}
	return c;
}

static unsigned int region_candidates(struct hpl_candidate *c)
{
	unsigned int i, nr;

	merge_regions();
	for (nr = 0; nr < nr_regions; nr++)
		c[nr] = candidate(&w.procs[0], &regions[nr]);
	for (i = 0; i < nr_regions; i++) {
		regions[i].last = regions[i].heat;
		regions[i].events *= FADE;
		regions[i].exposed *= FADE;
	}
	split_regions();
	return nr;
}

/* Where pages lie is looked at again in each epoch. */
static void no_account(const struct hpl_candidate *c, unsigned long done,
		       unsigned long pages, bool promote)
{
	(void)c, (void)done, (void)pages, (void)promote;
}

static const struct finder damon = {
	.sample = check_bits,
	.candidates = region_candidates,
	.account = no_account,
};

static const struct finder our_samples = {
	.sample = count_events,
	.candidates = region_candidates,
	.account = no_account,
};

/**
 * struct variant - what is compared
 * @name: as printed
 * @evidence: what its hits are
 * @finder: how heat is found, NULL for the whole of ours
 * @max_regions: of others, how many regions there are at most
 */
struct variant {
	const char *name;
	enum hpl_evidence evidence;
	const struct finder *finder;
	unsigned int max_regions;
};

static const struct variant variants[] = {
	{ "whole_pebs", HPL_EVENTS, NULL, 0 },
	{ "whole_abit", HPL_BITS, NULL, 0 },
	{ "damon_regions", HPL_BITS, &damon, MAX_REGIONS },
	{ "damon_100_regions", HPL_BITS, &damon, CHEAP_REGIONS },
	{ "our_samples_regions", HPL_EVENTS, &our_samples, MAX_REGIONS },
};

/**
 * struct machine - what is to be found
 * @name: as printed
 * @bytes: memory, of which a quarter is fast
 * @at: where the first hot piece begins, in 1/1000 of the memory
 * @nr_pieces: of the hot set, equally far apart
 * @piece: of the memory, in 1/1000
 * @rate: accesses per second to a hot page
 * @cold: and to any other
 * @then: where the hot set moves to after 30 s, 0 if it stays
 */
struct machine {
	const char *name;
	unsigned long bytes;
	unsigned int at;
	unsigned int nr_pieces;
	unsigned int piece;
	float rate;
	float cold;
	unsigned int then;
};

static const struct machine machines[] = {
	{ "1 GiB, tenth", GIB, 900, 1, 100, 450, 5.5, 0 },
	{ "1 GiB, tenth in 4 pieces", GIB, 251, 4, 25, 450, 5.5, 0 },
	{ "1 GiB, tenth, moves", GIB, 900, 1, 100, 450, 5.5, 400 },
	{ "64 GiB, tenth in 4 pieces", 64 * GIB, 251, 4, 25, 200, 2.5, 0 },
	{ "1 TiB, tenth in 20 pieces", TIB, 251, 20, 5, 200, 2.5, 0 },
	{ "160 GiB, a thousandth", 160 * GIB, 600, 1, 1, 450, 0.5, 0 },
	{ "1 GiB, uniform", GIB, 0, 0, 0, 0, 50, 0 },
};

static void begin(const struct variant *v, const struct machine *m)
{
	unsigned long pages;
	unsigned int i;

	rnd_seed(test_seed);
	evidence = v->evidence;
	world_init(m->bytes);
	if (v->finder)
		w.finder = v->finder;
	proc_add(m->bytes / w.block_pages >> PAGE_SHIFT, m->cold);
	pages = w.procs[0].nr_blocks * w.block_pages;
	max_regions = v->max_regions;
	last_nr_regions = 0;
	nr_regions = MIN_REGIONS;
	for (i = 0; i < MIN_REGIONS; i++)
		regions[i] = (struct region){
			.start = pages * i / MIN_REGIONS,
			.end = pages * (i + 1) / MIN_REGIONS,
		};
}

/* Epochs until 95% of the hot set are fast, 30 s later at most; "-" if never. */
static const char *seconds(char *to)
{
	unsigned int n = epochs_until(0.95, 300);

	if (n > 300)
		return "-";
	run(300 - n);
	sprintf(to, "%.1f", n * EPOCH_MS / 1000.);
	return to;
}

static void try(const struct variant *v, const struct machine *m)
{
	unsigned int apart = m->nr_pieces > 1 ?
			     (1000 - m->at - m->piece) / (m->nr_pieces - 1) : 0;
	char first[16], again[16];
	unsigned int i;

	begin(v, m);
	for (i = 0; i < m->nr_pieces; i++)
		heat_up(&w.procs[0], m->at + i * apart,
			m->at + i * apart + m->piece, m->rate);
	printf("ablation \"%s\" %s", m->name, v->name);
	if (m->nr_pieces) {
		printf(" seconds=%s", seconds(first));
		if (m->then) {
			cool_down(&w.procs[0], m->cold);
			heat_up(&w.procs[0], m->then, m->then + m->piece, m->rate);
			printf(" again=%s", seconds(again));
		}
		printf(" recall=%.2f precision=%.2f", recall(), precision());
	} else {
		run(300);
	}
	printf(" moved=%.3f\n", moved());
	fflush(stdout);
	world_exit();
}

void ablation(void)
{
	size_t i, j;

	for (i = 0; i < ARRAY_SIZE(machines); i++)
		for (j = 0; j < ARRAY_SIZE(variants); j++)
			try(&variants[j], &machines[i]);
}
