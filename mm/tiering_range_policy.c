// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: what to move, and how much to sample
 *
 * Pure: no mm types, no locks, no I/O. The same file is built in userspace by
 * tools/testing/tiering_range/.
 */
#include "tiering_range_internal.h"
#include "tiering_range.h"

/* Ranges with fewer looks at resident pages than this move nowhere. */
#define HPL_PLAN_MIN_SAMPLES	16

/*
 * A range is moved only when it has lasted this many epochs since it was split;
 * twice as many after each move in a row that moved nothing, up to 64 times. With
 * 2, the hot set of the demo was found 0.4 s later, and not better.
 */
#define HPL_MIN_AGE		1U
#define HPL_MAX_FAILURES	6U

/*
 * If promoted pages turn out not to have been worth it, it takes one sample more to
 * promote others for so many passes through the table of single pages: 12 s, and
 * twice as many each time, up to 3 minutes. Those promoted before are known no more
 * after two.
 */
#define HPL_SETTLING		2U
#define HPL_PATIENCE_MIN	16U
#define HPL_PATIENCE_MAX	256U

/* Nor are pages worth free memory for fewer events than this. */
#define HPL_PLAN_MIN_EVENTS	4

/*
 * Two ranges change places only if they differ by 3 sigma; more if there are
 * many, since the extremes of N equal ranges are 2 ln N sigma squared from the
 * mean each by chance alone. Three times the binary logarithm is 4 ln N.
 */
#define HPL_PLAN_SIGMA_SQUARED	9
#define HPL_PLAN_SIGMA_PER_LOG2	3

/*
 * How long a placement is expected to last. Phases of real programs are
 * seconds to minutes long; with less, moving would never pay.
 */
#define HPL_HORIZON_US		10000000ULL
#define HPL_HORIZON_MS		10000ULL

/* Gain must exceed cost by this factor, or estimates near each other thrash. */
#define HPL_MARGIN		2

/*
 * For each page to be promoted that needs a free one, demote at most so many more for
 * a watermark: a few hot pages are not worth that many cold ones at once.
 */
#define HPL_MAKE_UP_MAX		8

/* Bounds of the samples per epoch: enough to learn, not more than picked. */
#define HPL_SAMPLES_PER_EPOCH_MIN	64

/* Shares of accessed pages between which the sampling interval stays. */
#define HPL_HIT_PERCENT_MAX	40
#define HPL_HIT_PERCENT_MIN	5

/* Below this, sampling interval and wake-up latency are of one size. */
#define HPL_INTERVAL_US_MIN	1000

/* Shares and logarithms have 16 binary places. */
#define HPL_ONE			BIT(16)
#define HPL_LN_2		45426

/* Of more samples of a page than 2, few have none. */
#define HPL_REST_MAX		(2 * HPL_ONE)

/*
 * Above this share accessed bits are saturated, and how often the pages are
 * accessed is not known: taken as -ln(1/32), 3.5 times an interval.
 */
#define HPL_SATURATED		(HPL_ONE - HPL_ONE / 32)

/*
 * Events per page and ms have 32 binary places; above 256, which is a million
 * accesses to a page in a ms, they saturate.
 */
#define HPL_RATE_SHIFT		32
#define HPL_RATE_MAX		BIT_ULL(HPL_RATE_SHIFT + 8)

static struct hpl_heat heat_of(const struct hpl_candidate *c,
			       const struct hpl_costs *costs)
{
	u64 looks = c->counts.seen;

	if (costs->evidence == HPL_EVENTS)
		looks = ((u64)c->nr_slow + c->nr_fast) * c->exposed;
	return (struct hpl_heat){ .hits = c->counts.hit, .looks = looks };
}

/* Events per page and ms. */
static u64 rate(struct hpl_heat h)
{
	unsigned int excess = h.hits >> 32 ? ilog2(h.hits) - 31 : 0;

	h.hits >>= excess;
	h.looks >>= excess;
	return min(div64_u64(h.hits << HPL_RATE_SHIFT, max(h.looks, 1ULL)),
		   HPL_RATE_MAX);
}

/* HPL_BITS: share of pages found accessed; HPL_EVENTS: their rate. */
static u64 heat(const struct hpl_candidate *c, const struct hpl_costs *costs)
{
	struct hpl_heat h = heat_of(c, costs);

	if (costs->evidence == HPL_EVENTS)
		return rate(h);
	return div64_u64(h.hits << 16, max(h.looks, 1ULL));
}

/*
 * At most, the heat of those pages of a range that have not been sampled lately,
 * within @exposed. Each fresh sample was one of theirs. If all pages are alike, the
 * share exp(-m) of them is among these, where m is the mean number of samples of a
 * page; otherwise a larger one, and they are colder than this. The coldest of many
 * ranges is less cold than it looks, hence 2 sigma.
 */
static u64 rest_heat(const struct hpl_candidate *c, u32 exposed,
		     const struct hpl_costs *costs)
{
	struct hpl_heat h = heat_of(c, costs);
	u64 all, m, exp, share;

	h.hits += 2 * int_sqrt64(h.hits << HPL_SAMPLE_SHIFT);
	all = rate(h);
	m = (min(all >> 8, BIT_ULL(32)) * min_t(u32, exposed, BIT(26))) >> 16;
	if (!c->counts.hit || m >= HPL_REST_MAX)
		return all;
	exp = HPL_ONE + m + (m * m >> 17) + div_u64(m * m * m >> 32, 6);
	share = div64_u64((u64)min(c->fresh, c->counts.hit) << 16,
			  c->counts.hit) * exp >> 16;
	return share < HPL_ONE ? (all >> 8) * share >> 8 : all;
}

/* Hottest first; by address among equals, so that equal input moves equally. */
static int by_heat(const void *pa, const void *pb)
{
	const struct hpl_candidate *a = pa, *b = pb;

	if (a->heat != b->heat)
		return a->heat > b->heat ? -1 : 1;
	if (a->owner != b->owner)
		return a->owner < b->owner ? -1 : 1;
	return a->start < b->start ? -1 : a->start > b->start;
}

/*
 * Mean accesses of a page within the sampling interval. Random accesses leave
 * a page alone with probability exp(-mean), so the mean is -ln(1 - heat). The
 * binary logarithm is linear between powers of 2, which is 6% off at most.
 */
static u64 accesses(u64 heat)
{
	u64 idle = HPL_ONE - min(heat, HPL_SATURATED);
	unsigned int whole = ilog2(idle);
	u64 log2 = ((u64)whole << 16) + ((idle << 16 >> whole) - HPL_ONE);

	return (((16 << 16) - log2) * HPL_LN_2) >> 16;
}

/*
 * Expected gain of having a page of heat @h rather than one of heat @than on a
 * fast node, in ns.
 */
static u64 gain_ns(u64 h, u64 than, const struct hpl_costs *costs)
{
	if (h <= than)
		return 0;
	if (costs->evidence == HPL_EVENTS)
		return ((h - than) * HPL_HORIZON_MS >>
			(HPL_RATE_SHIFT - HPL_PERIOD_SHIFT)) * costs->gap_ns;
	return ((accesses(h) - accesses(than)) *
		div_u64(HPL_HORIZON_US, costs->interval_us) * costs->gap_ns) >> 16;
}

static bool evident(const struct hpl_candidate *c)
{
	return c->counts.seen >= HPL_PLAN_MIN_SAMPLES * HPL_SAMPLE_ONE;
}

/* Whether a page of @hot is worth a free page. */
static bool worth_promotion(const struct hpl_candidate *hot,
			    const struct hpl_costs *costs)
{
	if (costs->evidence == HPL_EVENTS &&
	    hot->counts.hit < HPL_PLAN_MIN_EVENTS * HPL_SAMPLE_ONE)
		return false;
	return gain_ns(hot->heat, 0, costs) >
	       (u64)HPL_MARGIN * costs->page_ns;
}

/* Whether a page of @hot is worth the place of a page of @cold. */
static bool worth_exchange(const struct hpl_candidate *hot,
			   const struct hpl_candidate *cold, unsigned int nr,
			   const struct hpl_costs *costs)
{
	return gain_ns(hot->heat, cold->heat, costs) >
	       2ULL * HPL_MARGIN * costs->page_ns &&
	       hpl_heat_differs(costs->evidence, heat_of(hot, costs),
				heat_of(cold, costs),
				HPL_PLAN_SIGMA_SQUARED +
				HPL_PLAN_SIGMA_PER_LOG2 * ilog2(nr));
}

/*
 * Have the coldest ranges give up to @most pages that have not been sampled lately
 * for those of @hot, as far as that pays; if it is NULL, in any case. Returns how many.
 */
static unsigned long make_room(struct hpl_candidate *c, unsigned int nr,
			       unsigned long most,
			       const struct hpl_candidate *hot,
			       const struct hpl_costs *costs)
{
	unsigned long left = most, n;
	struct hpl_candidate *l;

	for (l = c + nr; left && l-- > c; ) {
		if (hot && gain_ns(hot->heat, rest_heat(l, hot->exposed, costs),
				   costs) <=
			   2ULL * HPL_MARGIN * costs->page_ns)
			break;
		if (!evident(l))
			continue;
		n = min(left, l->nr_fast - l->nr_demote);
		l->nr_demote += n;
		left -= n;
	}
	return most - left;
}

/*
 * Pages that are hot @alone take what is free, or the place of pages of the
 * coldest ranges, which may be their own. That they are hotter has been tested.
 * At most @most; returns how many.
 */
static unsigned long plan_alone(struct hpl_candidate *c, unsigned int nr,
				struct hpl_candidate *alone,
				unsigned long *free, unsigned long most,
				const struct hpl_costs *costs)
{
	unsigned long left = alone ? min(alone->nr_slow, most) : 0;

	if (!left)
		return 0;
	if (gain_ns(alone->heat, 0, costs) > (u64)HPL_MARGIN * costs->page_ns) {
		alone->nr_promote = min(left, *free);
		*free -= alone->nr_promote;
		left -= alone->nr_promote;
	}
	alone->nr_promote += make_room(c, nr, left, alone, costs);
	return alone->nr_promote;
}

/*
 * Whether any move could pay. Mostly none does, and then there is no need to find
 * out which pays best.
 */
static bool any_pays(const struct hpl_candidate *c, unsigned int nr,
		     const struct hpl_candidate *alone,
		     const struct hpl_costs *costs)
{
	u64 hottest = 0, coldest = costs->nr_free ? 0 : U64_MAX;
	unsigned int i;

	if (alone && alone->nr_slow)
		return true;
	for (i = 0; i < nr; i++) {
		if (c[i].nr_slow)
			hottest = max(hottest, c[i].heat);
		if (c[i].nr_fast)
			coldest = min(coldest, c[i].heat);
	}
	return gain_ns(hottest, coldest, costs) >
	       (u64)HPL_MARGIN * costs->page_ns;
}

/**
 * hpl_policy_ready - whether a range has lasted long enough to be moved
 * @r: the range
 *
 * Return: false soon after it was split, or was moved in vain.
 */
bool hpl_policy_ready(const struct hpl_range *r)
{
	return r->age >= HPL_MIN_AGE << min(r->failures, HPL_MAX_FAILURES);
}

/**
 * hpl_policy_candidate - a range as the policy sees it
 * @c: the candidate, without a verdict on return
 * @r: the range
 * @owner: index of its address space
 */
void hpl_policy_candidate(struct hpl_candidate *c, const struct hpl_range *r,
			  unsigned int owner)
{
	unsigned long fast = hpl_range_fast(r);

	*c = (struct hpl_candidate){
		.owner = owner,
		.start = r->start,
		.end = r->end,
		.counts = hpl_range_sum(r),
		.exposed = r->exposed,
		.fresh = r->fresh,
		.nr_fast = fast,
		.nr_slow = hpl_range_resident(r) - fast,
	};
}

/**
 * hpl_policy_plan - decide which ranges give and which get fast memory
 * @c: all ranges; verdicts filled in, and sorted by heat on return if there are any
 * @nr: number of @c
 * @alone: pages that are hot whatever their range is, with their heat and the
 *	exposure of the table in which they were found, or NULL; verdict filled in
 * @costs: what is free and what moving costs
 *
 * Free fast memory is used first, then the hottest slow pages change places
 * with the coldest fast ones as long as that pays.
 *
 * Return: pages to promote.
 */
unsigned long hpl_policy_plan(struct hpl_candidate *c, unsigned int nr,
			      struct hpl_candidate *alone,
			      const struct hpl_costs *costs)
{
	unsigned long budget = costs->nr_budget, free = costs->nr_free;
	unsigned long unpaired, n;
	unsigned int hot = 0, cold = nr, i;

	for (i = 0; i < nr; i++)
		c[i].heat = heat(&c[i], costs);
	if (!costs->nr_wanted && !any_pays(c, nr, alone, costs))
		return 0;
	sort(c, nr, sizeof(*c), by_heat, NULL);
	budget -= plan_alone(c, nr, alone, &free, budget, costs);
	while (budget && hot < cold) {
		struct hpl_candidate *h = &c[hot], *l = &c[cold - 1];
		unsigned long slow = h->nr_slow - h->nr_promote;
		unsigned long fast = l->nr_fast - l->nr_demote;

		if (!slow || !evident(h)) {
			hot++;
		} else if (free) {
			if (!worth_promotion(h, costs)) {
				hot++;
				continue;
			}
			n = min3(slow, free, budget);
			h->nr_promote += n;
			free -= n;
			budget -= n;
		} else if (!fast || !evident(l)) {
			cold--;
		} else if (!worth_exchange(h, l, nr, costs)) {
			/* Whoever is known less may hide a better pair. */
			if (heat_of(h, costs).looks < heat_of(l, costs).looks)
				hot++;
			else
				cold--;
		} else {
			n = min3(slow, fast, budget);
			h->nr_promote += n;
			l->nr_demote += n;
			budget -= n;
		}
	}
	n = costs->nr_budget - budget;
	unpaired = min(n, costs->nr_unpaired);
	/* Without, these could not be promoted. */
	make_room(c, nr, max(min(costs->nr_short, unpaired * HPL_MAKE_UP_MAX),
			     min(costs->nr_wanted, costs->nr_budget)),
		  NULL, costs);
	return n;
}

/* The heat that a page must exceed to be promoted alone, if anything is fast. */
static u64 coldest_rest(const struct hpl_candidate *c, unsigned int nr,
			u32 exposed, const struct hpl_costs *costs)
{
	u64 coldest = HPL_RATE_MAX;
	unsigned int i;

	if (costs->nr_free)
		return 0;
	for (i = 0; i < nr; i++)
		if (c[i].nr_fast && evident(&c[i]))
			coldest = min(coldest, rest_heat(&c[i], exposed, costs));
	return coldest;
}

/*
 * If what was promoted alone was not worth it, more samples are asked for, and for how
 * long. Others have the same number of samples as these had, but these were slow: hot
 * ones may have become fast before.
 */
static void learn_from_promoted(struct hpl_sketch *sk, u64 coldest,
				const struct hpl_costs *costs)
{
	u64 heat = rate(hpl_sketch_heat_promoted(sk));

	sk->patience = clamp(sk->patience, HPL_PATIENCE_MIN, HPL_PATIENCE_MAX);
	if (sk->settling) {
		/* These were promoted with fewer samples. */
		sk->settling--;
		sk->promoted_hits = 0;
		sk->promoted_exposed = 0;
	}
	if (sk->promoted_exposed &&
	    gain_ns(heat, coldest, costs) < 2ULL * HPL_MARGIN * costs->page_ns) {
		sk->raised = min(sk->raised + 1, HPL_SPOT_COUNTS - 1U);
		sk->hold = sk->patience;
		sk->patience *= 2;
		sk->settling = HPL_SETTLING;
	} else if (sk->hold && !--sk->hold) {
		if (sk->raised) {
			sk->raised--;
			sk->hold = HPL_PATIENCE_MIN;
		} else {
			sk->patience = HPL_PATIENCE_MIN;
		}
	}
}

/**
 * hpl_policy_judge - decide how many samples make a page worth to be promoted alone
 * @sk: the table, at the end of a pass; the verdict is noted there
 * @c: all ranges
 * @nr: number of @c
 * @costs: what is free and what moving costs
 */
void hpl_policy_judge(struct hpl_sketch *sk, const struct hpl_candidate *c,
		      unsigned int nr, const struct hpl_costs *costs)
{
	u64 coldest = coldest_rest(c, nr, sk->exposed, costs);
	unsigned int k;

	learn_from_promoted(sk, coldest, costs);
	for (k = 1; k <= HPL_SPOT_JUDGED; k++)
		if (gain_ns(rate(hpl_sketch_heat(sk, k)), coldest, costs) >
		    2ULL * HPL_MARGIN * costs->page_ns)
			break;
	k += sk->raised;
	sk->least = k <= HPL_SPOT_JUDGED ? k : HPL_SPOT_NEVER;
	sk->heat = rate(hpl_sketch_heat(sk, min(k, HPL_SPOT_JUDGED)));
}

/*
 * Heat where there may be no evidence: one accessed page and one idle page are
 * added, so that what nothing is known of is neither hot nor cold.
 */
static u64 likely_heat(const struct hpl_candidate *c)
{
	return div_u64(((u64)c->counts.hit + HPL_SAMPLE_ONE) << 16,
		       c->counts.seen + 2 * HPL_SAMPLE_ONE);
}

static int by_likely_heat(const void *pa, const void *pb)
{
	const struct hpl_candidate *a = pa, *b = pb;
	u64 heat_a = likely_heat(a), heat_b = likely_heat(b);

	if (heat_a != heat_b)
		return heat_a < heat_b ? -1 : 1;
	return a->start < b->start ? -1 : a->start > b->start;
}

/**
 * hpl_policy_rank_coldest - in which order ranges give fast memory up
 * @c: all ranges; sorted on return, the coldest first
 * @nr: number of @c
 *
 * For when it has to be given up, whether that pays or not. What little is
 * known of comes between cold and hot.
 */
void hpl_policy_rank_coldest(struct hpl_candidate *c, unsigned int nr)
{
	sort(c, nr, sizeof(*c), by_likely_heat, NULL);
}

/**
 * hpl_policy_has_fast - whether a range may have pages on fast nodes
 * @c: the range
 *
 * Return: false only if that is known.
 */
bool hpl_policy_has_fast(const struct hpl_candidate *c)
{
	return c->nr_fast || !evident(c);
}

/**
 * hpl_policy_nr_samples - how many samples the next epoch may take
 * @nr: samples of the last epoch
 * @spent_ns: CPU time of sampling and classification in the last epoch
 * @budget_ns: CPU time allowed for both in an epoch
 *
 * Return: number of samples, at most twice @nr so that one lucky measurement
 * does not blow the budget. The caller applies its own upper bound.
 */
unsigned int hpl_policy_nr_samples(unsigned int nr, u64 spent_ns, u64 budget_ns)
{
	u64 next = div64_u64(nr * budget_ns, max(spent_ns, 1ULL));

	return clamp(next, (u64)HPL_SAMPLES_PER_EPOCH_MIN,
		     max_t(u64, 2ULL * nr, HPL_SAMPLES_PER_EPOCH_MIN));
}

/**
 * hpl_policy_interval - adapt the sampling interval
 * @interval_us: the interval of the last epoch
 * @seen: resident pages sampled with it
 * @hit: of these, found accessed
 * @max_us: upper bound
 * @page_ns: CPU time that moving one page costs
 *
 * Accessed bits saturate: if most pages are accessed within the interval, hot
 * and warm look alike; if hardly any is, most samples say nothing. But where
 * the interval is so long that not even a page that is always found accessed
 * would be worth an exchange, hot pages among many idle ones could not move.
 *
 * Return: the interval for the next epoch.
 */
unsigned int hpl_policy_interval(unsigned int interval_us, u64 seen, u64 hit,
				 unsigned int max_us, unsigned int page_ns)
{
	const struct hpl_costs costs = {
		.interval_us = 1,
		.gap_ns = HPL_GAP_NS,
	};
	u64 worth_us = div64_u64(gain_ns(HPL_ONE, 0, &costs),
				 4ULL * HPL_MARGIN * max(page_ns, 1U));

	max_us = min_t(u64, max_us, worth_us);
	if (hit * 100 > seen * HPL_HIT_PERCENT_MAX)
		interval_us /= 2;
	else if (hit * 100 < seen * HPL_HIT_PERCENT_MIN)
		interval_us *= 2;
	return clamp_t(unsigned int, interval_us, HPL_INTERVAL_US_MIN,
		       max_t(unsigned int, max_us, HPL_INTERVAL_US_MIN));
}

/**
 * hpl_policy_period - adapt the sampling period
 * @shift: the period of the last epoch, in binary orders above HPL_PERIOD
 * @least: no shorter one is wanted
 * @record_ns: CPU time that its records took
 * @spent_ns: CPU time of all sampling and classification in it
 * @budget_ns: CPU time allowed for both
 *
 * The period doubles when the budget is exceeded, if mainly by records; else a
 * longer one would help little and tell less. It falls back in steps when there
 * is room for twice as many records, and for as many again.
 *
 * Return: the period for the next epoch, at most HPL_PERIOD_SHIFT_MAX.
 */
int hpl_policy_period(int shift, int least, u64 record_ns, u64 spent_ns,
		      u64 budget_ns)
{
	if (spent_ns > budget_ns && 2 * record_ns >= spent_ns)
		return min(shift + 1, HPL_PERIOD_SHIFT_MAX);
	if (shift < least)
		return shift + 1;
	if (shift > least && spent_ns + 2 * record_ns < budget_ns)
		return shift - 1;
	return shift;
}
