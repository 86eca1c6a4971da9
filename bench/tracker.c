// SPDX-License-Identifier: GPL-2.0
/*
 * tracker: which pages does a process use? Learnt in one of several ways
 *
 *   tracker none PID          in none: for comparison
 *   tracker pebs PID          each PERIODth load that misses the last-level cache,
 *                             by perf
 *   tracker abit PID CPU      accessed bits, by idle page tracking: those of some
 *                             CHUNK_PAGES are cleared, looked at INTERVAL_NS later,
 *                             and REST_NS later it is the turn of the next
 *   tracker faults PID FILE   hint faults, from a trace with the events `scan`, of a
 *                             kprobe, and `page_fault_user`
 *
 * Of the process' largest mapping, which has to be filled and stay where it is.
 * The process is bound to CPU 0, this program to CPU. On CPU 0 it has the
 * process' TLB flushed each time it clears bits, since the CPU has no PCIDs; on
 * another, what the TLB has is not seen to be accessed. As root.
 *
 * Prints "ready", goes on until SIGTERM, and prints "samples N"; then "mapping
 * ADDRESS" and, in lines "pages BASE64", of each of its pages two 32-bit numbers:
 * how often it was seen to be accessed, and the looks or microseconds in which it
 * could have been; at last "end".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE		4096UL
#define PEBS_EVENT	0x20d1		/* MEM_LOAD_RETIRED.L3_MISS */
/* Each such that it takes about a percent of the CPU. */
#define PERIOD		509
#define INTERVAL_NS	5000000
#define REST_NS		7000000
#define CHUNK_PAGES	64UL		/* of a word of idle page tracking */
#define RING_BYTES	(16UL << 20)	/* a million samples */
#define NOT_OURS	UINT32_MAX

struct page {
	uint32_t hits;
	uint32_t exposed;		/* looks, or us */
};

static uint64_t start, nr_pages;
static struct page *pages;
static uint64_t nr_samples;
static volatile sig_atomic_t ended;

static void fail(const char *what)
{
	fprintf(stderr, "tracker: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void end(int sig)
{
	(void)sig;
	ended = 1;
}

static void *zeroed(size_t nr, size_t size)
{
	void *p = calloc(nr, size);

	if (!p)
		fail("memory");
	return p;
}

static int open_of(int pid, const char *name)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		fail(path);
	return fd;
}

static void find_buffer(int pid)
{
	FILE *maps = fdopen(open_of(pid, "maps"), "r");
	uint64_t from, to;
	char line[512];

	while (maps && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx", &from, &to) == 2 && (to - from) / PAGE > nr_pages) {
			start = from;
			nr_pages = (to - from) / PAGE;
		}
	if (!nr_pages)
		fail("no mapping");
	fclose(maps);
	pages = zeroed(nr_pages, sizeof(*pages));
}

/* The page of the buffer at an address, or NULL. */
static struct page *page_at(uint64_t addr)
{
	return addr >= start && (addr - start) / PAGE < nr_pages ?
	       &pages[(addr - start) / PAGE] : NULL;
}

static void bind_to(int pid, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(pid, sizeof(set), &set))
		fail("sched_setaffinity");
}

static void ready(void)
{
	printf("ready\n");
	fflush(stdout);
}

/* tracker pebs */

static void count_ring(struct perf_event_mmap_page *ring)
{
	const char *data = (char *)ring + PAGE;
	uint64_t head = __atomic_load_n(&ring->data_head, __ATOMIC_ACQUIRE);

	if (head > RING_BYTES)
		fail("the ring is too small");
	for (uint64_t at = 0; at < head; ) {
		const struct perf_event_header *h = (const void *)(data + at);
		struct page *page = page_at(*(const uint64_t *)(h + 1));

		if (h->type == PERF_RECORD_SAMPLE) {
			nr_samples++;
			if (page)
				page->hits++;
		}
		at += h->size;
	}
}

static void pebs(int pid)
{
	/* What lets many records wait for one interrupt. */
	struct perf_event_attr attr = {
		.type = PERF_TYPE_RAW, .size = sizeof(attr), .config = PEBS_EVENT,
		.sample_period = PERIOD, .precise_ip = 2,
		.sample_type = PERF_SAMPLE_ADDR, .exclude_kernel = 1,
		.watermark = 1, .wakeup_watermark = RING_BYTES / 2,
	};
	int fd = syscall(SYS_perf_event_open, &attr, pid, -1, -1, 0);
	void *ring;

	if (fd < 0)
		fail("perf_event_open");
	ring = mmap(NULL, RING_BYTES + PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (ring == MAP_FAILED)
		fail("mmap of the ring");
	for (uint64_t i = 0; i < nr_pages; i++)
		pages[i].exposed = 1;
	ready();
	while (!ended)
		pause();
	count_ring(ring);
}

/* tracker abit */

/* Page frames by the 64, of which some are the buffer's. */
struct chunk {
	uint64_t word;			/* of the bitmap */
	uint64_t mask;
	uint32_t page[CHUNK_PAGES];
};

static struct chunk *chunks;
static size_t nr_chunks;

static struct chunk *chunk_of(uint64_t word)
{
	/* Neighbours in the buffer are most often neighbours in memory. */
	for (size_t i = nr_chunks; i-- > 0; )
		if (chunks[i].word == word)
			return &chunks[i];
	memset(chunks[nr_chunks].page, 0xff, sizeof(chunks->page));
	chunks[nr_chunks].word = word;
	return &chunks[nr_chunks++];
}

static void find_frames(int pid)
{
	int fd = open_of(pid, "pagemap");

	chunks = zeroed(nr_pages, sizeof(*chunks));
	for (uint64_t i = 0; i < nr_pages; i++) {
		uint64_t entry, frame;
		struct chunk *c;

		if (pread(fd, &entry, sizeof(entry), (start / PAGE + i) * sizeof(entry)) !=
		    sizeof(entry))
			fail("pagemap");
		if (!(entry >> 63))
			continue;
		frame = entry & ((1UL << 55) - 1);
		c = chunk_of(frame / CHUNK_PAGES);
		c->mask |= 1UL << frame % CHUNK_PAGES;
		c->page[frame % CHUNK_PAGES] = i;
	}
	close(fd);
	if (!nr_chunks)
		fail("no page is there");
}

static void look_at(int bitmap, const struct chunk *c)
{
	uint64_t idle;

	if (pread(bitmap, &idle, sizeof(idle), c->word * sizeof(idle)) != sizeof(idle))
		fail("idle page tracking");
	for (unsigned int bit = 0; bit < CHUNK_PAGES; bit++) {
		if (c->page[bit] == NOT_OURS)
			continue;
		pages[c->page[bit]].exposed++;
		pages[c->page[bit]].hits += !(idle >> bit & 1);
		nr_samples++;
	}
}

static void abit(int pid)
{
	const struct timespec interval = { .tv_nsec = INTERVAL_NS };
	const struct timespec rest = { .tv_nsec = REST_NS };
	int bitmap = open("/sys/kernel/mm/page_idle/bitmap", O_RDWR);
	size_t at = 0;

	if (bitmap < 0)
		fail("/sys/kernel/mm/page_idle/bitmap");
	find_frames(pid);
	ready();
	while (!ended) {
		struct chunk *c = &chunks[at];

		if (pwrite(bitmap, &c->mask, sizeof(c->mask), c->word * sizeof(c->mask)) !=
		    sizeof(c->mask))
			fail("idle page tracking");
		if (!nanosleep(&interval, NULL))
			look_at(bitmap, c);
		at = (at + 1) % nr_chunks;
		nanosleep(&rest, NULL);
	}
}

/* tracker faults */

/* When each page was unmapped, in us; 0 while it is mapped. */
static uint64_t *armed;

static void take_line(const char *line, uint64_t now)
{
	uint64_t from, to, addr;
	const char *args;

	if ((args = strstr(line, " start=")) &&
	    sscanf(args, " start=%lx end=%lx", &from, &to) == 2) {
		for (addr = from; addr < to; addr += PAGE)
			if (page_at(addr) && !armed[page_at(addr) - pages])
				armed[page_at(addr) - pages] = now;
	} else if ((args = strstr(line, " page_fault_user: address=")) &&
		   sscanf(args, " page_fault_user: address=%lx", &addr) == 1) {
		struct page *page = page_at(addr);

		if (!page || !armed[page - pages])
			return;
		nr_samples++;
		page->hits++;
		page->exposed += now - armed[page - pages];
		armed[page - pages] = 0;
	}
}

static void faults(const char *path)
{
	FILE *trace = fopen(path, "r");
	uint64_t now = 0;
	char line[512];

	if (!trace)
		fail(path);
	armed = zeroed(nr_pages, sizeof(*armed));
	while (fgets(line, sizeof(line), trace)) {
		char *colon = strstr(line, ": ");
		char *stamp = colon;

		if (line[0] == '#' || !colon)
			continue;
		while (stamp > line && stamp[-1] != ' ')
			stamp--;
		now = strtod(stamp, NULL) * 1e6;
		take_line(line, now);
	}
	/* They would have faulted, had they been accessed. */
	for (uint64_t i = 0; i < nr_pages; i++)
		if (armed[i])
			pages[i].exposed += now - armed[i];
}

static void print_pages(void)
{
	FILE *out;

	printf("samples %lu\nmapping %#lx\n", nr_samples, start);
	fflush(stdout);
	out = popen("gzip | base64 | sed 's/^/pages /'", "w");
	if (!out || fwrite(pages, sizeof(*pages), nr_pages, out) != nr_pages || pclose(out))
		fail("gzip and base64");
	printf("end\n");
}

int main(int argc, char **argv)
{
	const char *method = argc > 2 ? argv[1] : "";
	int pid = argc > 2 ? atoi(argv[2]) : 0;

	signal(SIGTERM, end);
	/* Not at the addresses of the process' mapping, whose misses are counted by these. */
	mallopt(M_MMAP_THRESHOLD, INT32_MAX);
	if (argc > 2) {
		find_buffer(pid);
		bind_to(pid, 0);
	}
	if (!strcmp(method, "none")) {
		ready();
		return 0;
	} else if (!strcmp(method, "pebs")) {
		pebs(pid);
	} else if (!strcmp(method, "abit") && argc > 3) {
		bind_to(0, atoi(argv[3]));
		abit(pid);
	} else if (!strcmp(method, "faults") && argc > 3) {
		faults(argv[3]);
	} else {
		fprintf(stderr, "usage: tracker none PID | pebs PID | abit PID CPU | faults PID FILE\n");
		return 2;
	}
	print_pages();
	return 0;
}
