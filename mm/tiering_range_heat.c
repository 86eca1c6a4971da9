// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: whether two groups of pages differ in heat
 *
 * Pure: no mm types, no locks, no I/O. The same file is built in userspace by
 * tools/testing/tiering_range/.
 */
#include "tiering_range_internal.h"
#include "tiering_range.h"

/*
 * z squared of the two-proportion test, with one success and one failure added
 * to each side, which keeps it honest for few samples (Agresti and Caffo, The
 * American Statistician 54(4), 2000).
 *
 * Proportions have 16 binary places, so their squares and products have 32.
 */
static u64 z_squared_bits(struct hpl_heat a, struct hpl_heat b)
{
	u64 n1 = a.looks + 2 * HPL_SAMPLE_ONE, h1 = a.hits + HPL_SAMPLE_ONE;
	u64 n2 = b.looks + 2 * HPL_SAMPLE_ONE, h2 = b.hits + HPL_SAMPLE_ONE;
	s64 diff = (s64)div64_u64(h1 << 16, n1) - (s64)div64_u64(h2 << 16, n2);
	u64 pooled = div64_u64((h1 + h2) << 16, n1 + n2);
	u64 variance = max(pooled * (BIT(16) - pooled), 1ULL);
	u64 weight = div64_u64(n1 * n2, n1 + n2);

	return div64_u64((u64)(diff * diff) * weight, variance) >>
	       HPL_SAMPLE_SHIFT;
}

/*
 * z squared for the rates of two Poisson processes, k1 events in exposure e1
 * and k2 in e2. With f = e1 / (e1 + e2), the smaller one of
 *
 *   (k1 - (k1 + k2) f)^2 / ((k1 + k2) f (1 - f))
 *   4 (sqrt((k1 + 3/8) (1 - f)) - sqrt((k2 + 3/8) f))^2
 *
 * The former believes too much in few events in a small exposure, the latter in
 * none where few were expected (Gu et al., Biometrical Journal 50(2), 2008,
 * compare both). Shares of exposure have 16 binary places.
 *
 * Most neighbours are alike: below @least, the square roots are spared.
 */
static u64 z_squared_events(struct hpl_heat a, struct hpl_heat b,
			    unsigned int least)
{
	const u64 anscombe = HPL_SAMPLE_ONE * 3 / 8;
	u64 n = a.hits + b.hits, all = a.looks + b.looks, f, z2;
	s64 diff;

	if (!n || !a.looks || !b.looks)
		return 0;
	/* Terabytes exposed for seconds have more than 48 binary places. */
	if (all >> 48) {
		a.looks >>= ilog2(all) - 47;
		all >>= ilog2(all) - 47;
	}
	f = clamp(div64_u64(a.looks << 16, all), 1ULL, (u64)BIT(16) - 1);
	diff = (s64)a.hits - (s64)((n * f) >> 16);
	z2 = div64_u64((u64)(diff * diff),
		       max((n * (f * (BIT(16) - f) >> 16)) >> 16, 1ULL));
	if (z2 >> HPL_SAMPLE_SHIFT < least)
		return 0;
	/* 24 binary places under the root, so 12 in it. */
	diff = (s64)int_sqrt64((a.hits + anscombe) * (BIT(16) - f)) -
	       (s64)int_sqrt64((b.hits + anscombe) * f);
	return min(z2 >> HPL_SAMPLE_SHIFT, (u64)(diff * diff) >> (24 - 2));
}

/**
 * hpl_heat_z_squared - how surely two groups of pages differ in heat
 * @evidence: what the hits are
 * @a: one group
 * @b: the other
 * @least: squares of less are of no interest
 *
 * Return: the square of a number of sigmas, or something less than @least if it
 * is.
 */
u64 hpl_heat_z_squared(enum hpl_evidence evidence, struct hpl_heat a,
		       struct hpl_heat b, unsigned int least)
{
	return evidence == HPL_EVENTS ? z_squared_events(a, b, least) :
					z_squared_bits(a, b);
}

/**
 * hpl_heat_differs - whether two groups of pages differ in heat
 * @evidence: what the hits are
 * @a: one group
 * @b: the other
 * @sigma_squared: confidence asked for, as the square of a number of sigmas
 *
 * Return: true if they differ that surely.
 */
bool hpl_heat_differs(enum hpl_evidence evidence, struct hpl_heat a,
		      struct hpl_heat b, unsigned int sigma_squared)
{
	return hpl_heat_z_squared(evidence, a, b, sigma_squared) >=
	       sigma_squared;
}
