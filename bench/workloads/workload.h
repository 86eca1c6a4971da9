/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What programs have in common whose memory is placed: options, rounds, and the
 * lines by which they tell of them, which are those of gups.
 */
#ifndef _BENCH_WORKLOAD_H
#define _BENCH_WORKLOAD_H

#include <stddef.h>
#include <stdint.h>

#include "../random.h"

/**
 * struct workload - a program
 * @name: of the program
 * @fill: make the data; what is touched first comes to lie on the fast tier
 * @round: compute once; returns how many operations that were
 * @check: what was computed, for a person to compare
 */
struct workload {
	const char *name;
	void (*fill)(void);
	uint64_t (*round)(void);
	double (*check)(void);
};

/* Run a program with the options of workload.c. */
int workload_main(const struct workload *w, int argc, char **argv);

/* Memory in pages of 4 KiB, zeroed and thereby touched. Ends the program if there is none. */
void *workload_alloc(size_t bytes);
void workload_free(void *p, size_t bytes);
/* So much memory is another program's that does the work. */
void workload_holds(size_t bytes);

/* Guest time in seconds. */
double workload_now(void);
/* Of a program that serves requests: one of this round took so long. */
void workload_request(double seconds);

/* State of the numbers that depend on --seed alone. */
extern uint64_t workload_seed;
static inline uint64_t workload_random(void)
{
	return random_next(&workload_seed);
}

static inline double workload_random_unit(void)
{
	return random_unit(&workload_seed);
}

/* Ends the program, which says why. */
void workload_die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

#endif /* _BENCH_WORKLOAD_H */
