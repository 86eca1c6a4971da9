// SPDX-License-Identifier: GPL-2.0
/*
 * Rounds of a program whose memory is placed, told of as gups does:
 *
 *   config     what is run
 *   buffer     how much memory it has
 *   start      of the rounds
 *   round      operations per second of one round, in 1e9/s and 1e6/s
 *   latency    of a program that serves requests: how long those of the last
 *              quarter of the rounds took
 *   check      what came out
 *
 * tsc= is the CPU's time stamp counter, see gups.c.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "workload.h"

uint64_t workload_seed = 1;
static uint64_t rounds = 10, nr_bytes;
static const char *name = "workload", *after_fill, *after_rounds;

/* Of requests, in seconds; those of early rounds are forgotten. */
static double *latencies;
static size_t nr_latencies;

void workload_die(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "%s: ", name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

void *workload_alloc(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || (madvise(p, bytes, MADV_NOHUGEPAGE) && errno != EINVAL))
		workload_die("no memory of %zu bytes: %s", bytes, strerror(errno));
	nr_bytes += bytes;
	return memset(p, 0, bytes);
}

void workload_free(void *p, size_t bytes)
{
	munmap(p, bytes);
	nr_bytes -= bytes;
}

void workload_holds(size_t bytes)
{
	nr_bytes += bytes;
}

double workload_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec * 1e-9;
}

void workload_request(double seconds)
{
	if (nr_latencies % 65536 == 0) {
		latencies = realloc(latencies, (nr_latencies + 65536) * sizeof(*latencies));
		if (!latencies)
			workload_die("no memory for %zu latencies", nr_latencies + 65536);
	}
	latencies[nr_latencies++] = seconds;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The smallest that so many of a thousand requests do not exceed. */
static double percentile_us(unsigned int permille)
{
	return latencies[(nr_latencies * permille + 999) / 1000 - 1] * 1e6;
}

static void tell_latencies(void)
{
	if (!nr_latencies)
		return;
	qsort(latencies, nr_latencies, sizeof(*latencies), compare);
	printf("latency requests=%zu p50_us=%.3f p99_us=%.3f\n", nr_latencies,
	       percentile_us(500), percentile_us(990));
}

static void run_command(const char *command)
{
	int status = command ? system(command) : 0;

	if (status)
		workload_die("'%s' failed with status %d", command, status);
}

static uint64_t number(const char *text)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || !value)
		workload_die("%s: give a number of 1 or more", text);
	return value;
}

static void parse(int argc, char **argv)
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
			rounds = number(optarg);
		} else if (opt == 's') {
			workload_seed = number(optarg);
		} else if (opt == 'f') {
			after_fill = optarg;
		} else if (opt == 'a') {
			after_rounds = optarg;
		} else {
			fprintf(stderr, "usage: %s [--rounds N] [--seed N] [--after-fill CMD] [--after-rounds CMD]\n",
				name);
			exit(1);
		}
	}
}

int workload_main(const struct workload *w, int argc, char **argv)
{
	uint64_t last_quarter;	/* its first round */
	double start;

	setvbuf(stdout, NULL, _IOLBF, 0);
	name = w->name;
	parse(argc, argv);
	last_quarter = rounds - (rounds < 4 ? 1 : rounds / 4) + 1;
	printf("config program=%s rounds=%lu seed=%lu\n", name, rounds, workload_seed);
	w->fill();
	printf("buffer pages=%lu\n", nr_bytes / 4096);
	run_command(after_fill);
	start = workload_now();
	printf("start tsc=%llu\n", __builtin_ia32_rdtsc());
	for (uint64_t round = 1; round <= rounds; round++) {
		double from = workload_now(), seconds;
		uint64_t done;

		if (round == last_quarter)
			nr_latencies = 0;
		done = w->round();
		seconds = workload_now() - from;
		printf("round n=%lu elapsed_s=%.6f seconds=%.6f gups=%.9f mups=%.4f tsc=%llu\n",
		       round, workload_now() - start, seconds, done / seconds * 1e-9,
		       done / seconds * 1e-6, __builtin_ia32_rdtsc());
	}
	run_command(after_rounds);
	tell_latencies();
	printf("check value=%.9g\n", w->check());
	return 0;
}
