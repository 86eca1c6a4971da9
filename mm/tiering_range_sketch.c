// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: pages that are hot alone
 *
 * Where a few hot pages lie scattered among many idle ones, no range is hot,
 * however it is split. A table of fixed size counts samples by page. Pages that
 * were sampled more often than chance would have it, among as many pages with as
 * many samples, are hot whatever their range is.
 *
 * Time passes in windows. A page has a count of the current window and one of
 * that before, so counts are Poisson distributed, as they would not be if they
 * faded. Little known pages give way to new ones.
 *
 * Pure: no mm types, no locks, no I/O. The same file is built in userspace by
 * tools/testing/tiering_range/.
 */
#include "tiering_range_internal.h"
#include "tiering_range.h"

/* A cache line. */
#define HPL_SKETCH_WAYS		8

/*
 * Pages of memory per page in the table: 0.012% of memory. Of 1 GiB, 16384, twice
 * as many as two windows have samples of one CPU at the default period.
 */
#define HPL_SKETCH_PAGES	16
#define HPL_SKETCH_NR_MIN	1024UL

/*
 * A count is trusted if twice as many pages have it as by chance would: if the
 * others are all alike, at most every second of them is hot by chance only. And
 * if there are as many pages more as chance alone makes of a few.
 */
#define HPL_SPOT_ODDS		2
#define HPL_SPOTS_MIN		8

/**
 * hpl_sketch_init - make an empty table
 * @sk: to be initialised
 * @nr_pages: of the machine's memory
 *
 * Return: 0 or -ENOMEM.
 */
int hpl_sketch_init(struct hpl_sketch *sk, unsigned long nr_pages)
{
	unsigned long nr = max(nr_pages / HPL_SKETCH_PAGES, HPL_SKETCH_NR_MIN);
	unsigned int order = ilog2(nr / HPL_SKETCH_WAYS);

	*sk = (struct hpl_sketch){
		.shift = 64 - order,
		.nr = (unsigned long)HPL_SKETCH_WAYS << order,
		.least = HPL_SPOT_NEVER,
	};
	sk->spots = kvcalloc(sk->nr, sizeof(*sk->spots), HPL_GFP);
	sk->windows = kvcalloc(1UL << order, sizeof(*sk->windows), HPL_GFP);
	if (sk->spots && sk->windows)
		return 0;
	hpl_sketch_destroy(sk);
	return -ENOMEM;
}

/**
 * hpl_sketch_destroy - free a table
 * @sk: the table; may not have been made
 */
void hpl_sketch_destroy(struct hpl_sketch *sk)
{
	kvfree(sk->spots);
	kvfree(sk->windows);
	sk->spots = NULL;
	sk->windows = NULL;
}

/* The number of the bucket in which the spot of @addr is. */
static unsigned long bucket_of(const struct hpl_sketch *sk, unsigned int owner,
			       unsigned long addr)
{
	/* Multiplicative hashing; the constant is 2^64 over the golden ratio. */
	u64 hash = ((u64)addr >> PAGE_SHIFT ^ (u64)owner << 44) *
		   0x9e3779b97f4a7c15ULL;

	return hash >> sk->shift;
}

/* Windows that have begun since a bucket was brought up to date. */
static unsigned int bucket_age(const struct hpl_sketch *sk, unsigned long nr)
{
	return (u8)(sk->window - sk->windows[nr]);
}

/* The spots of a bucket, brought up to date. */
static struct hpl_spot *bucket(struct hpl_sketch *sk, unsigned long nr)
{
	struct hpl_spot *b = &sk->spots[nr * HPL_SKETCH_WAYS];
	unsigned int age = bucket_age(sk, nr), kept = 0, i;

	if (!age)
		return b;
	if (age == 1)
		kept = HPL_SPOT_NOW << HPL_SPOT_BEFORE_SHIFT;
	for (i = 0; i < HPL_SKETCH_WAYS; i++)
		b[i].counts = b[i].counts << HPL_SPOT_BEFORE_SHIFT & kept;
	sk->windows[nr] = sk->window;
	return b;
}

static bool is_at(const struct hpl_spot *spot, unsigned int owner,
		  unsigned long addr)
{
	return spot->page == addr >> PAGE_SHIFT && spot->owner == owner;
}

/**
 * hpl_sketch_count - count a sample
 * @sk: the table
 * @owner: whose, below HPL_OWNERS
 * @addr: the address
 */
void hpl_sketch_count(struct hpl_sketch *sk, unsigned int owner,
		      unsigned long addr)
{
	struct hpl_spot *b = bucket(sk, bucket_of(sk, owner, addr)), *s;
	unsigned int i, weight, lightest = UINT_MAX;

	for (i = 0; i < HPL_SKETCH_WAYS; i++) {
		if (!is_at(&b[i], owner, addr))
			continue;
		if (hpl_spot_now(&b[i]) < HPL_SPOT_NOW)
			b[i].counts++;
		return;
	}
	/* Older samples weigh less; one of those is as good as none. */
	for (i = 0; i < HPL_SKETCH_WAYS && lightest > 1; i++) {
		weight = 2 * hpl_spot_now(&b[i]) + hpl_spot_before(&b[i]);
		if (weight < lightest) {
			lightest = weight;
			s = &b[i];
		}
	}
	*s = (struct hpl_spot){
		.owner = owner,
		.page = addr >> PAGE_SHIFT,
		.counts = 1,
	};
}

/**
 * hpl_sketch_seen - whether a page has been sampled lately
 * @sk: the table
 * @owner: whose
 * @addr: the address
 *
 * Changes nothing: any number of threads may ask.
 *
 * Return: true if there is a sample of this window or the one before.
 */
bool hpl_sketch_seen(const struct hpl_sketch *sk, unsigned int owner,
		     unsigned long addr)
{
	unsigned long nr = bucket_of(sk, owner, addr);
	const struct hpl_spot *b = &sk->spots[nr * HPL_SKETCH_WAYS];
	unsigned int age = bucket_age(sk, nr), i;

	for (i = 0; age < 2 && i < HPL_SKETCH_WAYS; i++)
		if (is_at(&b[i], owner, addr))
			return hpl_spot_now(&b[i]) ||
			       (!age && hpl_spot_before(&b[i]));
	return false;
}

/**
 * hpl_sketch_expose - time has passed
 * @sk: the table
 * @exposed: for how long accesses have been sampled, see struct hpl_range
 * @dt_ms: milliseconds
 */
void hpl_sketch_expose(struct hpl_sketch *sk, u32 exposed, unsigned int dt_ms)
{
	sk->exposed += exposed;
	sk->age_ms += dt_ms;
	if (sk->age_ms < HPL_SPOT_WINDOW_MS)
		return;
	sk->exposed_before = sk->exposed;
	sk->exposed = 0;
	sk->age_ms = 0;
	sk->window++;
}

/**
 * hpl_sketch_next - go through the table, bit by bit
 * @sk: the table
 * @spot: the next page in it, on return
 *
 * Return: number of samples of the page in this window and the last, 0 if there
 * is no page at that place.
 */
unsigned int hpl_sketch_next(struct hpl_sketch *sk, struct hpl_spot **spot)
{
	unsigned long i = sk->cursor++;
	struct hpl_spot *b = bucket(sk, i / HPL_SKETCH_WAYS);

	if (sk->cursor == sk->nr)
		sk->cursor = 0;
	*spot = &b[i % HPL_SKETCH_WAYS];
	return hpl_spot_now(*spot) + hpl_spot_before(*spot);
}

/**
 * hpl_sketch_expect - how many pages of a range have many samples by chance
 * @sk: the table
 * @r: the range
 * @expected: numbers of pages with at least 0, 1, ... samples, to which those of
 *	this range are added, in 1/65536
 *
 * If all pages of the range are alike, the samples of a page are Poisson
 * distributed with mean m, and as many as k with a probability of less than
 * m^k / k!. That is close where it is small.
 */
void hpl_sketch_expect(const struct hpl_sketch *sk, const struct hpl_range *r,
		       u64 *expected)
{
	u64 nr = hpl_range_resident(r), hits = hpl_range_sum(r).hit, mean;
	u64 exposed = (u64)sk->exposed + sk->exposed_before, share = BIT(16);
	unsigned int k;

	if (!nr || !r->exposed)
		return;
	/* Samples of the range per page, of as long as the table knows. */
	mean = min_t(u64, div64_u64((hits << 8) * exposed, nr * r->exposed),
		     BIT(20));
	for (k = 1; k < HPL_SPOT_COUNTS; k++) {
		share = min_t(u64, div64_u64(share * mean, (u64)k << 16),
			      BIT(16));
		expected[k] += nr * share;
	}
}

/**
 * hpl_sketch_judge - how many samples make a page hot
 * @sk: the table
 * @found: numbers of pages found with at least 0, 1, ... samples
 * @expected: numbers to be expected by chance, see hpl_sketch_expect()
 *
 * One sample says nothing. The verdict stands until the next one.
 */
void hpl_sketch_judge(struct hpl_sketch *sk, const unsigned long *found,
		      const u64 *expected)
{
	unsigned int k;

	for (k = 2; k < HPL_SPOT_COUNTS; k++)
		if (found[k] >= HPL_SPOTS_MIN +
				(HPL_SPOT_ODDS * expected[k] >> 16))
			break;
	sk->least = k < HPL_SPOT_COUNTS ? k : HPL_SPOT_NEVER;
}
