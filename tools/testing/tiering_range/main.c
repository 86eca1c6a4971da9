// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: host tests of mm/tiering_range_{tree,policy,sketch}.c, in KTAP
 */
#include <getopt.h>
#include <math.h>
#include <stdarg.h>

#include "test.h"

unsigned long test_seed = 1, test_steps = 20000;
double alloc_fail_share;
long alloc_nr_live;

static unsigned int nr_failures;
static u64 rnd_state;

void rnd_seed(u64 seed)
{
	rnd_state = seed;
}

/* splitmix64: Steele, Lea and Flood, OOPSLA 2014 */
u64 rnd(void)
{
	u64 z = rnd_state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

u64 rnd_below(u64 limit)
{
	return ((unsigned __int128)rnd() * limit) >> 64;
}

double rnd_unit(void)
{
	return (rnd() >> 11) * 0x1p-53;
}

/* Counts unit intervals of exponential length; normal where that takes long. */
u64 rnd_poisson(double mean)
{
	double sum = 0;
	u64 n = 0;

	if (mean > 1000)
		return fmax(0, mean + sqrt(mean) *
			    sqrt(-2 * log(1 - rnd_unit())) *
			    cos(2 * M_PI * rnd_unit()));
	while ((sum -= log(1 - rnd_unit())) < mean)
		n++;
	return n;
}

void *kzalloc(size_t size, gfp_t gfp)
{
	void *p;

	(void)gfp;
	if (alloc_fail_share && rnd_unit() < alloc_fail_share)
		return NULL;
	p = calloc(1, size);
	if (!p)
		abort();
	alloc_nr_live++;
	return p;
}

void kfree(void *p)
{
	alloc_nr_live -= p ? 1 : 0;
	free(p);
}

bool expect(bool ok, const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	if (ok)
		return true;
	/* The first few say it all. */
	if (nr_failures++ < 10) {
		printf("# %s:%d: ", file, line);
		va_start(ap, fmt);
		vprintf(fmt, ap);
		va_end(ap);
		printf("\n");
	}
	return false;
}

static bool run(const struct test *t, unsigned int number)
{
	nr_failures = 0;
	rnd_seed(test_seed);
	t->run();
	alloc_fail_share = 0;
	EXPECT_EQ(alloc_nr_live, 0);
	alloc_nr_live = 0;
	printf("%sok %u %s\n", nr_failures ? "not " : "", number, t->name);
	fflush(stdout);
	return !nr_failures;
}

static unsigned long number(const char *text)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 0);
	if (errno || *end || end == text) {
		fprintf(stderr, "%s: not a number\n", text);
		exit(2);
	}
	return value;
}

int main(int argc, char **argv)
{
	const struct test *const all[] = {
		tree_tests, policy_tests, sketch_tests, fuzz_tests,
		sim_tests,
	};
	unsigned int nr = 0, nr_failed = 0;
	const struct test *t;
	size_t i;
	int opt;

	while ((opt = getopt(argc, argv, "acs:n:")) != -1) {
		if (opt == 'a') {
			ablation();
			return 0;
		} else if (opt == 'c') {
			sim_costs();
			return 0;
		} else if (opt == 's') {
			test_seed = number(optarg);
		} else if (opt == 'n') {
			test_steps = number(optarg);
		} else {
			fprintf(stderr, "usage: %s [-s SEED] [-n FUZZ_STEPS] [PREFIX] | -a | -c\n",
				argv[0]);
			return 2;
		}
	}
	for (i = 0; i < ARRAY_SIZE(all); i++)
		for (t = all[i]; t->name; t++)
			nr += !argv[optind] || strstr(t->name, argv[optind]) == t->name;
	if (!nr) {
		fprintf(stderr, "%s: no test has this prefix\n", argv[optind]);
		return 2;
	}
	printf("KTAP version 1\n1..%u\n", nr);
	for (nr = 0, i = 0; i < ARRAY_SIZE(all); i++)
		for (t = all[i]; t->name; t++)
			if (!argv[optind] || strstr(t->name, argv[optind]) == t->name)
				nr_failed += !run(t, ++nr);
	return nr_failed ? 1 : 0;
}
