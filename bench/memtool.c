// SPDX-License-Identifier: GPL-2.0
/*
 * memtool: uses memory of one node, for measurements of resizing.
 *
 *   memtool touch MIB NODE [huge]    writes to each page once, prints the
 *                                    seconds that took, ends; huge: has the
 *                                    kernel use pages of 2 MiB
 *   memtool keep MIB NODE SECONDS    writes to each page once, prints how many
 *                                    have lost that after so long
 *   memtool hold MIB NODE            writes to each page once, says so, and holds
 *                                    them until killed
 *   memtool fragment MIB NODE KIB    writes to each page, then frees KIB of each
 *                                    2 * KIB of physical addresses, prints how
 *                                    many MiB that were, and holds the rest until
 *                                    killed; as root
 *   memtool stream MIB NODE SECONDS  a[i] = b[i] + 3 * c[i], again and again;
 *                                    prints the time (s, CLOCK_MONOTONIC) and the
 *                                    GiB/s of each 100 ms
 *   memtool ftq SECONDS              computes, and prints for each 10 ms how many
 *                                    pieces of work were done
 *   memtool sizes                    prints the time (s, CLOCK_MONOTONIC) and the
 *                                    KiB that nodes 0 and 1 have in all, whenever
 *                                    that has changed, until killed
 *   memtool discard MIB KIB WRITTEN  gives pieces of KIB of a memfd back, as QEMU
 *                                    does, and prints the seconds; WRITTEN: 1 if
 *                                    there shall be something in them, else 0
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define MPOL_BIND 2
#define WINDOW_S 0.1
#define QUANTUM_S 0.01
/* Steps of computing between two looks at the clock: some microseconds. */
#define WORK 2000
/* Of each array, between two looks at the clock: about a millisecond. */
#define PIECE (256UL << 10)
/*
 * Between arrays, in addition: QEMU's TLB, small while little is flushed, has one
 * place for all pages whose numbers agree in the lower bits.
 */
#define SKEW (5UL * PAGE)

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

static void touch(char *p, size_t size)
{
	size_t i;

	for (i = 0; i < size; i += PAGE)
		p[i] = 1;
}

static size_t lost(const char *p, size_t size)
{
	size_t i, nr = 0;

	for (i = 0; i < size; i += PAGE)
		nr += p[i] != 1;
	return nr;
}

/* Where pages lie: the low 55 bits of each entry of pagemap. */
static unsigned long frame(int pagemap, const char *p)
{
	unsigned long entry;

	if (pread(pagemap, &entry, sizeof(entry),
		  (unsigned long)p / PAGE * sizeof(entry)) != sizeof(entry))
		fail("pagemap");
	return entry & ((1UL << 55) - 1);
}

static void fragment(char *p, size_t size, size_t hole)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY);
	size_t i, freed = 0;

	if (pagemap < 0 || madvise(p, size, MADV_NOHUGEPAGE))
		fail("fragment");
	touch(p, size);
	for (i = 0; i < size; i += PAGE) {
		if (frame(pagemap, p + i) * PAGE / hole % 2)
			continue;
		if (madvise(p + i, PAGE, MADV_DONTNEED))
			fail("madvise");
		freed += PAGE;
	}
	printf("%zu\n", freed >> 20);
	fflush(stdout);
	pause();
}

static void stream(char *p, size_t size, double seconds)
{
	size_t third = (size - 2 * SKEW) / 3 / PIECE * PIECE;
	size_t at = 0, bytes = 0, i;
	double start, window;

	touch(p, size);
	start = now();
	window = start;
	while (window - start < seconds) {
		unsigned long *a = (unsigned long *)(p + at);
		unsigned long *b = (unsigned long *)(p + third + SKEW + at);
		unsigned long *c = (unsigned long *)(p + 2 * (third + SKEW) + at);
		double t;

		for (i = 0; i < PIECE / sizeof(*a); i++)
			a[i] = b[i] + 3 * c[i];
		bytes += 3 * PIECE;
		at = (at + PIECE) % third;
		t = now();
		if (t - window < WINDOW_S)
			continue;
		printf("%.3f %.4f\n", t,
		       bytes / (t - window) / (double)(1UL << 30));
		fflush(stdout);
		bytes = 0;
		window = now();
	}
}

/*
 * Fixed time quanta (Sottile and Minnich, "Analysis of microbenchmarks for
 * performance tuning of clusters", 2004): what is done in each of them.
 */
static void ftq(double seconds)
{
	size_t nr = seconds / QUANTUM_S, i;
	unsigned int *done = calloc(nr + 1, sizeof(*done));
	volatile unsigned int sink = 1;
	double start = now();

	if (!done)
		fail("calloc");
	while ((i = (now() - start) / QUANTUM_S) < nr) {
		unsigned int x = sink, n;

		for (n = 0; n < WORK; n++)
			x = x * 1664525 + 1013904223;
		sink = x;
		done[i]++;
	}
	for (i = 0; i < nr; i++)
		printf("%.2f %u\n", i * QUANTUM_S, done[i]);
}

static long total_kib(int node)
{
	char path[64], line[128];
	long kib = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/meminfo", node);
	f = fopen(path, "r");
	if (!f)
		fail(path);
	while (kib < 0 && fgets(line, sizeof(line), f))
		sscanf(line, "Node %*d MemTotal: %ld", &kib);
	fclose(f);
	return kib;
}

static void sizes(void)
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	long last[2] = { -1, -1 };
	double before = 0;

	for (;;) {
		long kib[2] = { total_kib(0), total_kib(1) };
		double t = now();

		if (kib[0] != last[0] || kib[1] != last[1]) {
			/* Until when it was as it had been. */
			if (last[0] >= 0)
				printf("%.4f %ld %ld\n", before, last[0], last[1]);
			printf("%.4f %ld %ld\n", t, kib[0], kib[1]);
			fflush(stdout);
		}
		memcpy(last, kib, sizeof(last));
		before = t;
		nanosleep(&pause, NULL);
	}
}

static void discard(size_t size, size_t piece, int written)
{
	int fd = memfd_create("memtool", 0);
	double start;
	size_t i;
	char *p;

	if (fd < 0 || ftruncate(fd, size))
		fail("memfd");
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		fail("mmap");
	if (written)
		touch(p, size);
	start = now();
	for (i = 0; i < size; i += piece) {
		if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, i,
			      piece))
			fail("fallocate");
		if (madvise(p + i, piece, MADV_DONTNEED))
			fail("madvise");
	}
	printf("%.6f\n", now() - start);
}

int main(int argc, char **argv)
{
	const char *verb = argc > 3 ? argv[1] : "";
	size_t size = argc > 3 ? strtoul(argv[2], NULL, 0) << 20 : 0;
	double start;
	char *p;

	if (argc == 3 && !strcmp(argv[1], "ftq")) {
		ftq(atof(argv[2]));
	} else if (argc == 2 && !strcmp(argv[1], "sizes")) {
		sizes();
	} else if (!strcmp(verb, "touch")) {
		p = map(size, atoi(argv[3]));
		if (argc > 4 && madvise(p, size, MADV_HUGEPAGE))
			fail("madvise");
		start = now();
		touch(p, size);
		printf("%.6f\n", now() - start);
	} else if (!strcmp(verb, "keep") && argc > 4) {
		p = map(size, atoi(argv[3]));
		touch(p, size);
		sleep(atoi(argv[4]));
		printf("%zu\n", lost(p, size));
	} else if (!strcmp(verb, "hold")) {
		touch(map(size, atoi(argv[3])), size);
		printf("held\n");
		fflush(stdout);
		pause();
	} else if (!strcmp(verb, "fragment") && argc > 4) {
		fragment(map(size, atoi(argv[3])), size,
			 strtoul(argv[4], NULL, 0) << 10);
	} else if (!strcmp(verb, "stream") && argc > 4) {
		stream(map(size, atoi(argv[3])), size, atof(argv[4]));
	} else if (!strcmp(verb, "discard") && argc > 4) {
		discard(size, strtoul(argv[3], NULL, 0) << 10, atoi(argv[4]));
	} else {
		fprintf(stderr, "usage: memtool touch MIB NODE [huge] | keep MIB NODE SECONDS | hold MIB NODE | fragment MIB NODE KIB | stream MIB NODE SECONDS | ftq SECONDS | sizes | discard MIB KIB WRITTEN\n");
		return 2;
	}
	return 0;
}
