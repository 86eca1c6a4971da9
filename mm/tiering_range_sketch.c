// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: pages that are hot alone
 *
 * Where a few hot pages lie scattered among many idle ones, no range is hot,
 * however it is split. A table of fixed size counts samples by page. How hot pages
 * are that have so many samples is told by how many pages have one more: so no
 * assumption is made about how heat is spread.
 *
 * Samples are forgotten one by one, each with the same chance. So the counts of
 * equal pages stay Poisson distributed, as they would not if they were halved.
 *
 * Pure: no mm types, no locks, no I/O. The same file is built in userspace by
 * tools/testing/tiering_range/.
 */
#include "tiering_range_internal.h"
#include "tiering_range.h"

/*
 * Pages of memory per page in the table, which takes 0.006% of memory. Of 1 GiB,
 * 32768: some five times the samples of one CPU that are remembered at the default
 * period. To go through more costs cache misses.
 */
#define HPL_SKETCH_PAGES	8
#define HPL_SKETCH_NR_MIN	4096UL

/*
 * A page in the table: 11 bits of a hash of its address and owner, which together
 * with its place leave one of a thousand to be mistaken; the number of samples; and
 * a state. All 0: none.
 */
#define HPL_SPOT_TAG_SHIFT	5
#define HPL_SPOT_TAG		GENMASK(15, HPL_SPOT_TAG_SHIFT)
#define HPL_SPOT_COUNT_SHIFT	2
#define HPL_SPOT_COUNT		GENMASK(4, HPL_SPOT_COUNT_SHIFT)
#define HPL_SPOT_ONE		BIT(HPL_SPOT_COUNT_SHIFT)
#define HPL_SPOT_STATE		GENMASK(1, 0)

/* In a pass, one sample of so many is forgotten: a power of 2. */
#define HPL_FORGET		8
/* And one of so many tried pages may be tried again: others may have moved it. */
#define HPL_RETRY		16

/* Numbers of pages are trusted as far as they exceed this many sigma. */
#define HPL_FOUND_SIGMA		3

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

	*sk = (struct hpl_sketch){
		.nr = nr / HPL_BUCKET_SPOTS,
		.least = HPL_SPOT_NEVER,
		/* Any number but 0 will do. */
		.random = 1,
	};
	sk->buckets = kvcalloc(sk->nr, sizeof(*sk->buckets), HPL_GFP);
	return sk->buckets ? 0 : -ENOMEM;
}

/**
 * hpl_sketch_destroy - free a table
 * @sk: the table; may not have been made
 */
void hpl_sketch_destroy(struct hpl_sketch *sk)
{
	kvfree(sk->buckets);
	sk->buckets = NULL;
}

/*
 * Multiplicative hashing; the constant is 2^64 over the golden ratio. Its upper
 * half tells the bucket, the bits below that the tag.
 */
static u64 hash(unsigned int owner, unsigned long addr)
{
	return ((u64)addr >> PAGE_SHIFT ^ (u64)owner << 44) *
	       0x9e3779b97f4a7c15ULL;
}

static union hpl_bucket *bucket(const struct hpl_sketch *sk, u64 hash)
{
	return &sk->buckets[(hash >> 32) * sk->nr >> 32];
}

/* What tells a page from others of its bucket: not 0, which is no page. */
static u16 tag_of(u64 hash)
{
	return hash >> 16 & HPL_SPOT_TAG ?: BIT(HPL_SPOT_TAG_SHIFT);
}

/*
 * Which of four pages has the tag, by the place of the lowest bit set; 0 for none.
 * What a borrow makes of those above is not looked at.
 */
static u64 which_has(u64 spots, u16 tag)
{
	const u64 each = 0x0001000100010001ULL;

	spots = (spots ^ tag * each) & HPL_SPOT_TAG * each;
	return (spots - each) & ~spots & each << 15;
}

/*
 * A page in the bucket @b, or NULL. Samples are of x86, which has the first of four at
 * the lowest bits.
 */
static u16 *find(union hpl_bucket *b, u64 hash)
{
	u16 tag = tag_of(hash), *s = b->spots;
	u64 which = which_has(b->words[0], tag);

	if (!which) {
		which = which_has(b->words[1], tag);
		s += 4;
	}
	return which ? &s[__ffs64(which) / 16] : NULL;
}

/* The page in the bucket @b of which least is known. */
static u16 *lightest(u16 *b)
{
	unsigned int i;
	u16 *s = b;

	for (i = 1; i < HPL_BUCKET_SPOTS && *s & ~HPL_SPOT_TAG; i++)
		if ((b[i] & ~HPL_SPOT_TAG) < (*s & ~HPL_SPOT_TAG))
			s = &b[i];
	return s;
}

static unsigned int samples(u16 spot)
{
	return (spot & HPL_SPOT_COUNT) >> HPL_SPOT_COUNT_SHIFT;
}

static bool on_probation(u16 spot)
{
	return (spot & HPL_SPOT_STATE) >= HPL_SPOT_PROMOTED;
}

/**
 * hpl_sketch_count - count a sample
 * @sk: the table
 * @owner: whose, below HPL_OWNERS
 * @addr: the address
 *
 * Return: HPL_SPOT_FRESH if the page has not been sampled lately, and HPL_SPOT_HOT
 * if it has enough samples to be promoted, and that has not been tried.
 */
unsigned int hpl_sketch_count(struct hpl_sketch *sk, unsigned int owner,
			      unsigned long addr)
{
	u64 h = hash(owner, addr);
	union hpl_bucket *b = bucket(sk, h);
	u16 *s = find(b, h);

	if (!s) {
		s = lightest(b->spots);
		sk->nr_promoted -= on_probation(*s);
		sk->nr_lost += !!samples(*s);
		*s = tag_of(h) | HPL_SPOT_ONE;
		return sk->least <= 1 ? HPL_SPOT_FRESH | HPL_SPOT_HOT :
					HPL_SPOT_FRESH;
	}
	if (samples(*s) < HPL_SPOT_COUNTS - 1)
		*s += HPL_SPOT_ONE;
	if (*s & HPL_SPOT_STATE) {
		sk->promoted_hits += on_probation(*s);
		return 0;
	}
	return samples(*s) >= sk->least ? HPL_SPOT_HOT : 0;
}

/**
 * hpl_sketch_seen - whether a page has been sampled lately
 * @sk: the table
 * @owner: whose
 * @addr: the address
 *
 * Changes nothing: any number of threads may ask.
 *
 * Return: true if there is a sample that has not been forgotten.
 */
bool hpl_sketch_seen(const struct hpl_sketch *sk, unsigned int owner,
		     unsigned long addr)
{
	u64 h = hash(owner, addr);

	return find(bucket(sk, h), h);
}

/**
 * hpl_sketch_mark - note what has been tried with a page
 * @sk: the table
 * @owner: whose
 * @addr: the address
 * @from: nothing is noted unless this is what was noted last
 * @to: what is
 *
 * Return: false if nothing is, or if the page is not there any more.
 */
bool hpl_sketch_mark(struct hpl_sketch *sk, unsigned int owner,
		     unsigned long addr, enum hpl_spot_state from,
		     enum hpl_spot_state to)
{
	u64 h = hash(owner, addr);
	u16 *s = find(bucket(sk, h), h);

	if (!s || (*s & HPL_SPOT_STATE) != from)
		return false;
	sk->nr_promoted -= on_probation(*s);
	*s = (*s & ~HPL_SPOT_STATE) | to;
	sk->nr_promoted += on_probation(*s);
	return true;
}

/**
 * hpl_sketch_expose - time has passed
 * @sk: the table
 * @exposed: for how long accesses have been sampled, see struct hpl_range
 */
void hpl_sketch_expose(struct hpl_sketch *sk, u32 exposed)
{
	sk->exposed = min((u64)sk->exposed + exposed, (u64)U32_MAX);
	sk->promoted_exposed += (u64)sk->nr_promoted * exposed;
}

/* Marsaglia's xorshift. */
static u64 next_random(struct hpl_sketch *sk)
{
	sk->random ^= sk->random << 13;
	sk->random ^= sk->random >> 7;
	sk->random ^= sk->random << 17;
	return sk->random;
}

/*
 * How many samples are kept before the next one is forgotten. To draw that instead of
 * the fate of each sample takes fewer random numbers.
 */
static unsigned int next_keep(struct hpl_sketch *sk)
{
	unsigned int keep;
	u64 random = 0;

	for (keep = 0; ; keep++) {
		random /= HPL_FORGET;
		if (!random)
			random = next_random(sk);
		if (!(random % HPL_FORGET))
			return keep;
	}
}

/* What is left of a page after a pass. */
static u16 faded(struct hpl_sketch *sk, u16 spot)
{
	unsigned int n = samples(spot), state = spot & HPL_SPOT_STATE, left;

	for (left = n; sk->keep < left; sk->keep = next_keep(sk)) {
		left -= sk->keep + 1;
		n--;
	}
	sk->keep -= left;
	switch (state) {
	case HPL_SPOT_PROMOTED:
		state = HPL_SPOT_PROMOTED_BEFORE;
		break;
	case HPL_SPOT_PROMOTED_BEFORE:
		state = HPL_SPOT_TRIED;
		sk->nr_promoted--;
		break;
	case HPL_SPOT_TRIED:
		if (!(++sk->nr_tried % HPL_RETRY))
			state = HPL_SPOT_NEW;
		break;
	}
	/* What is on probation stays, or only those that were sampled would. */
	if (!n && state < HPL_SPOT_PROMOTED)
		return 0;
	return (spot & HPL_SPOT_TAG) | n << HPL_SPOT_COUNT_SHIFT | state;
}

/* Count four pages; what is left of them. */
static u64 pass_four(struct hpl_sketch *sk, u64 spots)
{
	u64 todo = spots;

	while (todo) {
		unsigned int at = __ffs64(todo) & ~15U;
		u16 spot = spots >> at;

		todo &= ~(0xffffULL << at);
		sk->found[samples(spot)]++;
		spots ^= (u64)(spot ^ faded(sk, spot)) << at;
	}
	return spots;
}

/**
 * hpl_sketch_pass - go through the table, bit by bit
 * @sk: the table
 * @nr: how many buckets, at most
 *
 * Pages are counted by their samples, some of which are then forgotten. All pages
 * have been through the same when their turn comes.
 *
 * Return: true at the end, with the counts in @sk; a new pass is to be begun by
 * hpl_sketch_begin().
 */
bool hpl_sketch_pass(struct hpl_sketch *sk, unsigned long nr)
{
	for (; nr && sk->cursor < sk->nr; nr--, sk->cursor++) {
		u64 *words = sk->buckets[sk->cursor].words;

		/* Most buckets are empty. */
		if (!(words[0] | words[1]))
			continue;
		words[0] = pass_four(sk, words[0]);
		words[1] = pass_four(sk, words[1]);
	}
	return sk->cursor == sk->nr;
}

/**
 * hpl_sketch_begin - begin with a new pass
 * @sk: the table
 */
void hpl_sketch_begin(struct hpl_sketch *sk)
{
	sk->cursor = 0;
	memset(sk->found, 0, sizeof(sk->found));
	sk->nr_lost = 0;
	sk->exposed -= sk->exposed / HPL_FORGET;
	sk->promoted_hits -= sk->promoted_hits / HPL_FORGET;
	sk->promoted_exposed -= sk->promoted_exposed / HPL_FORGET;
}

/**
 * hpl_sketch_heat - how hot pages are that have so many samples
 * @sk: the table, at the end of a pass
 * @k: number of samples, at most HPL_SPOT_JUDGED
 *
 * If a page has its samples by a Poisson process of any rate, and rates are spread in
 * any way, the mean rate of those with k samples is k + 1 times the number of pages
 * with k + 1 samples over that with k (Robbins, "An empirical Bayes approach to
 * statistics", 1956). Where all pages are alike, that is the same for each k.
 *
 * Return: the least that it is, for all that is known.
 */
struct hpl_heat hpl_sketch_heat(const struct hpl_sketch *sk, unsigned int k)
{
	u64 more = sk->found[k + 1];
	/* Each may have had this number of samples, and would still have it. */
	u64 lost = (u64)HPL_FORGET * sk->nr_lost;

	more -= min(more, (u64)HPL_FOUND_SIGMA * int_sqrt64(more));
	return (struct hpl_heat){
		.hits = (k + 1) * more * HPL_SAMPLE_ONE,
		.looks = (sk->found[k] + lost) * sk->exposed,
	};
}

/**
 * hpl_sketch_heat_promoted - how hot pages were found after they were promoted
 * @sk: the table, at the end of a pass
 *
 * Return: the most that it is, for all that is known.
 */
struct hpl_heat hpl_sketch_heat_promoted(const struct hpl_sketch *sk)
{
	u64 hits = sk->promoted_hits;

	/* The upper bound at 2 sigma; 4 for none is that at 98%. */
	hits += 2 * int_sqrt64(hits) + 4;
	return (struct hpl_heat){
		.hits = hits * HPL_SAMPLE_ONE,
		.looks = sk->promoted_exposed,
	};
}
