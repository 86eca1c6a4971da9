// SPDX-License-Identifier: GPL-2.0
/*
 * Rounds of a program whose memory is placed, told of as gups does:
 *
 *   config     what is run
 *   buffer     how much memory it has
 *   start      of the rounds
 *   round      operations per second of one round, in 1e9/s and 1e6/s
 *   check      what came out
 *
 * tsc= is the CPU's time stamp counter, see gups.c.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "workload.h"

static uint64_t rounds = 10, state = 1, nr_bytes;
static const char *after_fill, *after_rounds;

/* splitmix64, as in gups.c */
uint64_t workload_random(void)
{
	uint64_t z = state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

double workload_random_unit(void)
{
	return (workload_random() >> 11) * 0x1p-53;
}

void *workload_alloc(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || (madvise(p, bytes, MADV_NOHUGEPAGE) && errno != EINVAL)) {
		perror("workload: mmap");
		exit(1);
	}
	nr_bytes += bytes;
	return memset(p, 0, bytes);
}

void workload_free(void *p, size_t bytes)
{
	munmap(p, bytes);
	nr_bytes -= bytes;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec * 1e-9;
}

static void run_command(const char *name, const char *command)
{
	int status = command ? system(command) : 0;

	if (status) {
		fprintf(stderr, "%s: '%s' failed with status %d\n", name, command, status);
		exit(1);
	}
}

static uint64_t number(const char *name, const char *text)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || !value) {
		fprintf(stderr, "%s: %s: give a number of 1 or more\n", name, text);
		exit(1);
	}
	return value;
}

static void parse(const struct workload *w, int argc, char **argv)
{
	static const struct option options[] = {
		{ "rounds", required_argument, NULL, 'r' },
		{ "seed", required_argument, NULL, 's' },
		{ "after-fill", required_argument, NULL, 'f' },
		{ "after-rounds", required_argument, NULL, 'a' },
		{ }
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 'r') {
			rounds = number(w->name, optarg);
		} else if (opt == 's') {
			state = number(w->name, optarg);
		} else if (opt == 'f') {
			after_fill = optarg;
		} else if (opt == 'a') {
			after_rounds = optarg;
		} else {
			fprintf(stderr, "usage: %s [--rounds N] [--seed N] [--after-fill CMD] [--after-rounds CMD]\n",
				w->name);
			exit(1);
		}
	}
}

int workload_main(const struct workload *w, int argc, char **argv)
{
	double start;

	setvbuf(stdout, NULL, _IOLBF, 0);
	parse(w, argc, argv);
	printf("config program=%s rounds=%lu seed=%lu\n", w->name, rounds, state);
	w->fill();
	printf("buffer pages=%lu\n", nr_bytes / 4096);
	run_command(w->name, after_fill);
	start = now();
	printf("start tsc=%llu\n", __builtin_ia32_rdtsc());
	for (uint64_t round = 1; round <= rounds; round++) {
		double from = now(), seconds;
		uint64_t done = w->round();

		seconds = now() - from;
		printf("round n=%lu elapsed_s=%.6f seconds=%.6f gups=%.9f mups=%.4f tsc=%llu\n",
		       round, now() - start, seconds, done / seconds * 1e-9,
		       done / seconds * 1e-6, __builtin_ia32_rdtsc());
	}
	run_command(w->name, after_rounds);
	printf("check value=%.9g\n", w->check());
	return 0;
}
