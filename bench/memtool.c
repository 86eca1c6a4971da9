// SPDX-License-Identifier: GPL-2.0
/*
 * memtool: uses memory of one node, for measurements of resizing.
 *
 *   memtool touch MIB NODE           writes to each page once, prints the
 *                                    seconds that took, ends
 *   memtool fragment MIB NODE KIB    writes to each page, then frees KIB of each
 *                                    2 * KIB, and holds the rest until killed
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define MPOL_BIND 2

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1000000000.0;
}

static char *map(size_t size, int node)
{
	unsigned long mask = 1UL << node;
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		fail("mmap");
	if (syscall(SYS_mbind, p, size, MPOL_BIND, &mask, 64UL, 0))
		fail("mbind");
	return p;
}

int main(int argc, char **argv)
{
	size_t size, hole, i;
	double start;
	char *p;

	if (argc < 4) {
		fprintf(stderr, "usage: memtool touch MIB NODE | fragment MIB NODE KIB\n");
		return 2;
	}
	size = strtoul(argv[2], NULL, 0) << 20;
	p = map(size, atoi(argv[3]));
	hole = argc > 4 ? strtoul(argv[4], NULL, 0) << 10 : 0;
	if (hole && madvise(p, size, MADV_NOHUGEPAGE))
		fail("madvise");
	start = now();
	for (i = 0; i < size; i += PAGE)
		p[i] = 1;
	printf("%.6f\n", now() - start);
	if (!hole)
		return 0;
	for (i = 0; i + hole <= size; i += 2 * hole)
		if (madvise(p + i, hole, MADV_DONTNEED))
			fail("madvise");
	fflush(stdout);
	pause();
	return 0;
}
