/* SPDX-License-Identifier: GPL-2.0 */
/*
 * HPlacement: what the host tests share
 */
#ifndef _TIERING_RANGE_TEST_H
#define _TIERING_RANGE_TEST_H

#include <stdio.h>

#include "../../../mm/tiering_range.h"

#define GIB		(1UL << 30)
#define TIB		(1UL << 40)

/**
 * struct test - a test case
 * @name: as reported
 * @run: calls EXPECT() for each thing that must hold
 */
struct test {
	const char *name;
	void (*run)(void);
};

#define TEST(fn) { #fn, fn }

extern const struct test tree_tests[], policy_tests[], sketch_tests[], fuzz_tests[],
	sim_tests[];

/* Prints what classification costs, as memory grows. */
void sim_costs(void);

/* Prints how soon heat is found otherwise, by our policy. */
void ablation(void);

/* Options of the command line. */
extern unsigned long test_seed, test_steps;

/* Whether @ok; if not, the running test fails and says where and why. */
bool expect(bool ok, const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#define EXPECT(cond)							\
	expect(cond, __FILE__, __LINE__, "%s", #cond)

#define EXPECT_EQ(a, b)							\
	({								\
		long long __a = (a), __b = (b);				\
		expect(__a == __b, __FILE__, __LINE__,			\
		       "%s = %lld, not %s = %lld", #a, __a, #b, __b);	\
	})

/* EXPECT_IN - a value that was measured lies in [lo, hi]; reported always */
#define EXPECT_IN(value, lo, hi)					\
	({								\
		double __v = (value);					\
		printf("# %s = %.4g (%.4g to %.4g)\n", #value, __v,	\
		       (double)(lo), (double)(hi));			\
		expect(__v >= (lo) && __v <= (hi), __FILE__, __LINE__,	\
		       "%s out of bounds", #value);			\
	})

/* A generator whose numbers depend on the seed alone. */
void rnd_seed(u64 seed);
u64 rnd(void);
u64 rnd_below(u64 limit);
double rnd_unit(void);
u64 rnd_poisson(double mean);

/* kzalloc() fails with this probability; live objects. */
extern double alloc_fail_share;
extern long alloc_nr_live;

#endif /* _TIERING_RANGE_TEST_H */
