// SPDX-License-Identifier: GPL-2.0
/*
 * latency: what an access to the memory of a node costs, by the guest's clock
 *
 * latency chase|update NODE MIB COUNT
 *
 * chase follows COUNT pointers along a random cycle through the cache lines of
 * MIB of memory bound to NODE, update adds to COUNT random words of it. Prints
 * "kind ns=TOTAL per=PER_ACCESS".
 */
#define _GNU_SOURCE
#include <linux/mempolicy.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WORDS_PER_LINE	8

static uint64_t random_state = 88172645463325252ull;

/* Marsaglia's xorshift64 */
static inline uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static uint64_t *bound_memory(unsigned int node, size_t bytes)
{
	unsigned long mask = 1ul << node;
	uint64_t *words = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (words == MAP_FAILED) {
		perror("latency: mmap");
		exit(1);
	}
	if (syscall(SYS_mbind, words, bytes, MPOL_BIND, &mask, 64, 0)) {
		perror("latency: mbind");
		exit(1);
	}
	madvise(words, bytes, MADV_NOHUGEPAGE);
	memset(words, 0, bytes);
	return words;
}

/* Sattolo's algorithm: one cycle through all lines. */
static void make_cycle(uint64_t *words, size_t nr_lines)
{
	for (size_t i = 0; i < nr_lines; i++)
		words[i * WORDS_PER_LINE] = i * WORDS_PER_LINE;
	for (size_t i = nr_lines - 1; i > 0; i--) {
		size_t j = next_random() % i;
		uint64_t w = words[i * WORDS_PER_LINE];

		words[i * WORDS_PER_LINE] = words[j * WORDS_PER_LINE];
		words[j * WORDS_PER_LINE] = w;
	}
}

static uint64_t chase(uint64_t *words, uint64_t count)
{
	uint64_t at = 0;

	for (uint64_t i = 0; i < count; i++)
		at = *(volatile uint64_t *)&words[at];
	return at;
}

static void update(uint64_t *words, size_t nr_words, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		words[next_random() & (nr_words - 1)] += i;
}

int main(int argc, char **argv)
{
	uint64_t count, start, end;
	uint64_t *words;
	size_t bytes;
	int is_chase;

	if (argc != 5) {
		fprintf(stderr, "usage: latency chase|update NODE MIB COUNT\n");
		return 2;
	}
	is_chase = !strcmp(argv[1], "chase");
	bytes = strtoul(argv[3], NULL, 0) << 20;
	count = strtoull(argv[4], NULL, 0);
	if (!bytes || (bytes & (bytes - 1)) || !count) {
		fprintf(stderr, "latency: MIB must be a power of two, COUNT > 0\n");
		return 2;
	}
	words = bound_memory(strtoul(argv[2], NULL, 0), bytes);
	if (is_chase)
		make_cycle(words, bytes / (WORDS_PER_LINE * sizeof(*words)));
	start = now_ns();
	if (is_chase)
		chase(words, count);
	else
		update(words, bytes / sizeof(*words), count);
	end = now_ns();
	printf("%s ns=%lu per=%.3f\n", argv[1], end - start,
	       (double)(end - start) / count);
	return 0;
}
