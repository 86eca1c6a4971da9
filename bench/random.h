/* SPDX-License-Identifier: GPL-2.0 */
/* Random numbers of workloads: they depend on a seed alone. */
#ifndef _BENCH_RANDOM_H
#define _BENCH_RANDOM_H

#include <math.h>
#include <stdint.h>

/* splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014 */
static inline uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

/* Uniform in [0, 1). */
static inline double random_unit(uint64_t *state)
{
	return (random_next(state) >> 11) * 0x1p-53;
}

/* Hoermann and Derflinger's constants for one (exponent, number of items) */
struct zipf {
	double exponent;
	uint64_t nr_items;
	unsigned int bits;	/* of the smallest power of two that is not below nr_items */
	double area_first;
	double area_last;
	double cut;
};

/* Integral of x^-exponent from 1 to x, and its inverse. */
static inline double zipf_area(const struct zipf *z, double x)
{
	double e = 1.0 - z->exponent;

	return e ? (pow(x, e) - 1.0) / e : log(x);
}

static inline double zipf_area_inverse(const struct zipf *z, double area)
{
	double e = 1.0 - z->exponent;

	return e ? pow(1.0 + area * e, 1.0 / e) : exp(area);
}

static inline void zipf_init(struct zipf *z, double exponent, uint64_t nr_items)
{
	z->exponent = exponent;
	z->nr_items = nr_items;
	for (z->bits = 0; 1UL << z->bits < nr_items; z->bits++)
		;
	z->area_first = zipf_area(z, 1.5) - 1.0;
	z->area_last = zipf_area(z, nr_items + 0.5);
	z->cut = 2.0 - zipf_area_inverse(z, zipf_area(z, 2.5) - pow(2.0, -exponent));
}

/*
 * A rank in [0, nr_items), rank k with probability ~ (k + 1)^-exponent, by
 * rejection-inversion: Hoermann and Derflinger, "Rejection-inversion to
 * generate variates from monotone discrete distributions", ACM TOMACS 6(3),
 * 1996. It needs no table, which would compete with the data for the cache.
 */
static inline uint64_t zipf_rank(const struct zipf *z, uint64_t *state)
{
	for (;;) {
		double uniform = random_unit(state);
		double area = z->area_last + uniform * (z->area_first - z->area_last);
		double x = zipf_area_inverse(z, area);
		double rank = floor(x + 0.5);

		if (rank < 1.0)
			rank = 1.0;
		else if (rank > z->nr_items)
			rank = z->nr_items;
		if (rank - x <= z->cut ||
		    area >= zipf_area(z, rank + 0.5) - pow(rank, -z->exponent))
			return rank - 1.0;
	}
}

/*
 * The item that has rank @rank: anywhere, but no two at the same. Each step is a
 * bijection of @bits bits, repeated until it gives an item; a table would compete
 * with the data for the cache.
 */
static inline uint64_t zipf_item(const struct zipf *z, uint64_t rank)
{
	uint64_t mask = (1UL << z->bits) - 1;
	unsigned int half = (z->bits + 1) / 2;

	do {
		rank = (rank + 1) * 0x9e3779b97f4a7c15 & mask;
		rank ^= rank >> half;
		rank = rank * 0xbf58476d1ce4e5b9 & mask;
		rank ^= rank >> half;
	} while (rank >= z->nr_items);
	return rank;
}

#endif /* _BENCH_RANDOM_H */
