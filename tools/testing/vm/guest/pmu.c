// SPDX-License-Identifier: GPL-2.0
/*
 * pmu: performance counters against accesses that are known exactly
 *
 * pmu count KIND N [RINGS]          what counting N operations counts
 * pmu sum EVENT EVENT               user and kernel against both at once
 * pmu sum EVENT...                  each for user, kernel and both at once
 * pmu miss EVENT NODE PASSES        cache misses of passes over a buffer
 * pmu sample KIND PATTERN PERIOD SAMPLES [NODE]
 *                                   sampled addresses against all addresses
 * pmu latency NODE THRESHOLD COUNT  weight and source of sampled misses
 * pmu pair PERIOD SAMPLES           two processes share a CPU
 * pmu storm PERIOD SECONDS          all CPUs sampled while processes fork
 * pmu clock EVENT PERIOD SAMPLES    samples of instructions or cycles
 * pmu update COUNT [EVENT PERIOD]   random updates, sampled or not
 * pmu msr                           what registers take and refuse
 * pmu records                       what PEBS writes, word by word
 * pmu unmapped                      PEBS without a debug store area
 * pmu dirty                         registers that a reset must clear
 * pmu hold SECONDS                  registers before and after a pause
 * pmu seize                         all counters of memory events, until killed
 *
 * Exits with status 1 and says why if something cannot be set up.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "pmu.h"

#define always_inline	inline __attribute__((always_inline))

#define BINS		16

void die(const char *what)
{
	fprintf(stderr, "pmu: %s: %s\n", what, strerror(errno));
	exit(1);
}

void *memory(size_t bytes, int node)
{
	unsigned long mask = 1ul << node;
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	if (syscall(SYS_mbind, p, bytes, MPOL_BIND, &mask, 64, 0))
		die("mbind");
	madvise(p, bytes, MADV_NOHUGEPAGE);
	memset(p, 1, bytes);
	return p;
}

/* Events */

struct ring {
	int fd;
	struct perf_event_mmap_page *control;
	uint8_t *data;
	size_t bytes;
};

static int leader = -1;		/* of the group that further events join */

/* @rings: letters of "uk", for user and kernel. @period: 0 to count only. */
static struct ring open_event(uint64_t config, uint64_t latency, const char *rings,
			      uint64_t period, uint64_t samples, int pid, int cpu)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_RAW,
		.size = sizeof(attr),
		.config = config,
		.config1 = latency,
		.sample_period = period,
		.precise_ip = period ? 2 : 0,
		.sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_TID |
			       PERF_SAMPLE_TIME | PERF_SAMPLE_ADDR |
			       PERF_SAMPLE_WEIGHT | PERF_SAMPLE_DATA_SRC,
		.read_format = PERF_FORMAT_LOST,
		.disabled = leader < 0,
		.exclude_user = !strchr(rings, 'u'),
		.exclude_kernel = !strchr(rings, 'k'),
		.exclude_hv = 1,
	};
	struct ring ring = { .bytes = PAGE_BYTES };

	if (config == INSTRUCTIONS || config == CYCLES)
		attr.precise_ip = 0;
	ring.fd = syscall(SYS_perf_event_open, &attr, pid, cpu, leader, 0);
	if (ring.fd < 0)
		die("perf_event_open");
	if (!period)
		return ring;
	while (ring.bytes < (samples + 1000) * 64)
		ring.bytes *= 2;
	ring.control = mmap(NULL, ring.bytes + PAGE_BYTES,
			    PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd, 0);
	if (ring.control == MAP_FAILED)
		die("mmap of the ring");
	ring.data = (uint8_t *)ring.control + PAGE_BYTES;
	return ring;
}

static void enable(struct ring *ring)
{
	if (ioctl(ring->fd, PERF_EVENT_IOC_ENABLE, 0))
		die("PERF_EVENT_IOC_ENABLE");
}

struct counted {
	uint64_t count, lost;		/* as PERF_FORMAT_LOST has it */
};

static struct counted disable(struct ring *ring)
{
	struct counted counted;

	if (ioctl(ring->fd, PERF_EVENT_IOC_DISABLE, 0) ||
	    read(ring->fd, &counted, sizeof(counted)) != sizeof(counted))
		die("disabling the event");
	return counted;
}

struct sample {
	uint64_t ip;
	uint32_t pid, tid;
	uint64_t time, addr, weight, source;
};

struct tally {
	uint64_t samples, throttled;
};

/* Hand each sample to @use, with @arg. */
static struct tally drain(struct ring *ring,
			  void (*use)(const struct sample *, void *), void *arg)
{
	uint64_t head = __atomic_load_n(&ring->control->data_head,
					__ATOMIC_ACQUIRE);
	uint64_t at = ring->control->data_tail;
	struct tally tally = {};

	while (at < head) {
		uint64_t words[32];
		struct perf_event_header *h = (void *)words;
		size_t i;

		for (i = 0; i < sizeof(*h) || i < h->size; i++)
			((uint8_t *)words)[i] = ring->data[(at + i) % ring->bytes];
		if (h->type == PERF_RECORD_SAMPLE) {
			tally.samples++;
			use((void *)(words + 1), arg);
		} else if (h->type == PERF_RECORD_THROTTLE) {
			tally.throttled++;
		}
		at += h->size;
	}
	ring->control->data_tail = at;
	return tally;
}

static void print_tally(uint64_t period, const struct counted *counted,
			const struct tally *tally)
{
	printf("count=%lu expected=%lu samples=%lu lost=%lu throttled=%lu\n",
	       counted->count, counted->count / period, tally->samples,
	       counted->lost, tally->throttled);
}

/* pmu count */

void loop_loads(uint64_t *p, uint64_t n)
{
	uint64_t x;

	asm volatile("1: mov (%1), %0; dec %2; jnz 1b"
		     : "=&r" (x), "+r" (p), "+r" (n) : : "memory", "cc");
}

static void loop_stores(uint64_t *p, uint64_t n)
{
	asm volatile("1: mov %1, (%0); dec %1; jnz 1b"
		     : "+r" (p), "+r" (n) : : "memory", "cc");
}

static void loop_atomics(uint64_t *p, uint64_t n)
{
	asm volatile("1: lock addq $1, (%0); dec %1; jnz 1b"
		     : "+r" (p), "+r" (n) : : "memory", "cc");
}

static void loop_exchanges(uint64_t *p, uint64_t n)
{
	asm volatile("1: lock cmpxchg %1, (%0); dec %1; jnz 1b"
		     : "+r" (p), "+r" (n) : : "rax", "memory", "cc");
}

/* One instruction that reads and writes @n cache lines */
static void copy_string(uint64_t *p, uint64_t n)
{
	void *from = p, *to = p + n * LINE_BYTES / sizeof(*p);
	uint64_t bytes = n * LINE_BYTES;

	asm volatile("rep movsb" : "+S" (from), "+D" (to), "+c" (bytes)
		     : : "memory");
}

static void loop_nothing(uint64_t *p, uint64_t n)
{
	asm volatile("1: nop; dec %1; jnz 1b" : "+r" (p), "+r" (n) : : "cc");
}

static const struct kind {
	const char *name;
	uint64_t config;
	void (*run)(uint64_t *p, uint64_t n);
} kinds[] = {
	{ "load", ALL_LOADS, loop_loads },
	{ "store", ALL_STORES, loop_stores },
	{ "atomic-load", ALL_LOADS, loop_atomics },
	{ "atomic-store", ALL_STORES, loop_atomics },
	{ "exchange-load", ALL_LOADS, loop_exchanges },
	{ "exchange-store", ALL_STORES, loop_exchanges },
	{ "string-load", ALL_LOADS, copy_string },
	{ "string-store", ALL_STORES, copy_string },
	{ "instruction", INSTRUCTIONS, loop_nothing },
	{ "cycle", CYCLES, loop_nothing },
};

static const struct kind *find_kind(const char *name)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (!strcmp(kinds[i].name, name))
			return &kinds[i];
	errno = EINVAL;
	die(name);
	return NULL;
}

static void count(const char *name, uint64_t n, const char *rings)
{
	const struct kind *kind = find_kind(name);
	uint64_t *p = memory(2 << 20, 0);
	struct ring ring = open_event(kind->config, 0, rings, 0, 0, 0, -1);

	enable(&ring);
	kind->run(p, n);
	printf("count=%lu\n", disable(&ring).count);
}

/* pmu sum */

#define MAX_SUMMED	12

/* What makes user and kernel touch memory, many times */
static void mixed_work(void)
{
	const size_t bytes = 8 << 20;
	uint8_t *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = open("/dev/zero", O_RDONLY);

	if (p == MAP_FAILED || fd < 0)
		die("mixed work");
	for (size_t i = 0; i < bytes; i += 1000) {
		if (read(fd, p + i, 100) != 100)
			die("/dev/zero");
		p[i] += p[bytes / 2 + i / 2];
	}
}

static void sum(int nr_events, char **events)
{
	static const char *const rings[] = { "u", "k", "uk" };
	struct ring ring[MAX_SUMMED];
	uint64_t count[MAX_SUMMED];
	int n = 0;

	for (int i = 0; i < nr_events && n + 3 <= MAX_SUMMED; i++)
		for (int k = 0; k < 3; k++, n++) {
			ring[n] = open_event(strtoull(events[i], NULL, 0), 1,
					     rings[k], 0, 0, 0, -1);
			leader = ring[0].fd;
		}
	enable(&ring[0]);
	mixed_work();
	count[0] = disable(&ring[0]).count;
	for (int i = 1; i < n; i++) {
		struct counted counted;

		if (read(ring[i].fd, &counted, sizeof(counted)) != sizeof(counted))
			die("reading a counter");
		count[i] = counted.count;
	}
	for (int i = 0; i < n; i += 3)
		printf("event=%s user=%lu kernel=%lu both=%lu\n", events[i / 3],
		       count[i], count[i + 1], count[i + 2]);
}

/* pmu miss: least recently used first out, so each line misses each time */

static void miss(uint64_t config, int node, uint64_t passes)
{
	const size_t bytes = 4 << 20;		/* four times the cache */
	uint8_t *p = memory(bytes, node), *end = p + bytes;
	struct ring ring = open_event(config, 1, "u", 0, 0, 0, -1);

	enable(&ring);
	for (uint64_t i = 0; i < passes; i++) {
		uint8_t *at = p;

		asm volatile("1: movb (%0), %%al; add $64, %0; cmp %1, %0; jb 1b"
			     : "+r" (at) : "r" (end) : "rax", "memory", "cc");
	}
	printf("count=%lu lines=%zu\n", disable(&ring).count, bytes / LINE_BYTES);
}

/* pmu sample */

/* Marsaglia's xorshift64; state in a register, so that it is no access itself */
static always_inline
uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Each gives the index of access @i among @words, a power of two. */

static always_inline
uint64_t uniform(uint64_t *state, uint64_t i, uint64_t words)
{
	(void)i;
	return next_random(state) & (words - 1);
}

static always_inline
uint64_t hot_eighth(uint64_t *state, uint64_t i, uint64_t words)
{
	uint64_t r = next_random(state) >> 20;

	(void)i;
	return r % 10 < 8 ? r / 10 % (words / 8) : r / 10 % words;
}

static always_inline
uint64_t sequential(uint64_t *state, uint64_t i, uint64_t words)
{
	(void)state;
	return i & (words - 1);
}

static always_inline
uint64_t slope(uint64_t *state, uint64_t i, uint64_t words)
{
	uint64_t a = uniform(state, i, words), b = uniform(state, i, words);

	return a < b ? a : b;
}

static always_inline
uint64_t phases(uint64_t *state, uint64_t i, uint64_t words)
{
	return (i >> 16) % 3 * (words / 4) + uniform(state, i, words / 4);
}

enum what { TALLY, LOADS, STORES };

/* Tally @n accesses of a pattern into @all, or make them to @p. */
static always_inline
void follow(uint64_t (*index)(uint64_t *, uint64_t, uint64_t), enum what what,
	    volatile uint64_t *p, uint64_t words, uint64_t n, uint64_t *all)
{
	uint64_t state = 88172645463325252;

	if (what == TALLY)
		for (uint64_t i = 0; i < n; i++)
			all[index(&state, i, words) / (words / BINS)]++;
	else if (what == STORES)
		for (uint64_t i = 0; i < n; i++)
			p[index(&state, i, words)] = i;
	else
		for (uint64_t i = 0; i < n; i++)
			(void)p[index(&state, i, words)];
}

static void run_pattern(const char *name, enum what what, volatile uint64_t *p,
			uint64_t words, uint64_t n, uint64_t *all)
{
	if (!strcmp(name, "uniform"))
		follow(uniform, what, p, words, n, all);
	else if (!strcmp(name, "hot-eighth"))
		follow(hot_eighth, what, p, words, n, all);
	else if (!strcmp(name, "sequential"))
		follow(sequential, what, p, words, n, all);
	else if (!strcmp(name, "slope"))
		follow(slope, what, p, words, n, all);
	else if (!strcmp(name, "phases"))
		follow(phases, what, p, words, n, all);
	else {
		errno = EINVAL;
		die(name);
	}
}

struct histogram {
	uint64_t base, bytes;
	uint64_t bins[BINS], elsewhere, wrong_pid, backwards, last_time, digest;
};

static void add_to_histogram(const struct sample *s, void *arg)
{
	struct histogram *h = arg;
	uint64_t offset = s->addr - h->base;

	if (offset < h->bytes)
		h->bins[offset / (h->bytes / BINS)]++;
	else
		h->elsewhere++;
	h->wrong_pid += s->pid != (uint32_t)getpid();
	h->backwards += s->time < h->last_time;
	h->last_time = s->time;
	h->digest = (h->digest ^ s->addr ^ s->ip << 20 ^ s->time) *
		    0x9e3779b97f4a7c15;
}

static void print_bins(const char *name, const uint64_t *bins)
{
	printf("%s", name);
	for (int i = 0; i < BINS; i++)
		printf(" %lu", bins[i]);
	printf("\n");
}

static void sample(const char *kind_name, const char *pattern, uint64_t period,
		   uint64_t samples, int node)
{
	const size_t bytes = 16 << 20;
	const uint64_t words = bytes / sizeof(uint64_t), n = period * samples;
	const struct kind *kind = find_kind(kind_name);
	struct ring ring = open_event(kind->config, 0, "u", period, samples, 0, -1);
	volatile uint64_t *p = memory(bytes, node);
	struct histogram h = { .base = (uint64_t)p, .bytes = bytes };
	enum what what = kind->config == ALL_STORES ? STORES : LOADS;
	uint64_t all[BINS] = {};
	struct timespec start, end;
	struct counted counted;
	struct tally tally;

	run_pattern(pattern, TALLY, p, words, n, all);
	clock_gettime(CLOCK_MONOTONIC, &start);
	enable(&ring);
	run_pattern(pattern, what, p, words, n, all);
	counted = disable(&ring);
	clock_gettime(CLOCK_MONOTONIC, &end);
	tally = drain(&ring, add_to_histogram, &h);
	print_bins("accesses", all);
	print_bins("sampled", h.bins);
	print_tally(period, &counted, &tally);
	printf("elsewhere=%lu wrong_pid=%lu backwards=%lu digest=%lx ns=%ld\n",
	       h.elsewhere, h.wrong_pid, h.backwards, h.digest,
	       (end.tv_sec - start.tv_sec) * 1000000000 + end.tv_nsec - start.tv_nsec);
}

/* pmu latency */

struct latencies {
	uint64_t base, bytes, weight, source, others;
};

static void add_to_latencies(const struct sample *s, void *arg)
{
	struct latencies *l = arg;

	if (s->addr - l->base >= l->bytes)
		return;
	if (!l->source) {
		l->source = s->source;
		l->weight = s->weight;
	}
	l->others += s->source != l->source || s->weight != l->weight;
}

static void latency(int node, uint64_t threshold, uint64_t n)
{
	const size_t bytes = 16 << 20;
	volatile uint64_t *p = memory(bytes, node);
	struct ring ring = open_event(LOAD_LATENCY, threshold, "u", 101,
				      n / 101, 0, -1);
	struct latencies l = { .base = (uint64_t)p, .bytes = bytes };
	struct tally tally;

	enable(&ring);
	for (uint64_t i = 0; i < n; i++)
		(void)p[i * LINE_BYTES / sizeof(*p) % (bytes / sizeof(*p))];
	disable(&ring);
	tally = drain(&ring, add_to_latencies, &l);
	printf("samples=%lu weight=%lu others=%lu op=%lu level=%lu hops=%lu remote=%lu\n",
	       tally.samples, l.weight, l.others, l.source & 0x1f,
	       l.source >> 33 & 0xf, l.source >> 43 & 7, l.source >> 37 & 1);
}

/* pmu pair */

struct owners {
	pid_t pid[2];
	uint64_t right, wrong, elsewhere;
};

#define PAIR_BASE(i)	(0x100000000000ul * ((i) + 1))

static void check_owner(const struct sample *s, void *arg)
{
	struct owners *owners = arg;
	uint64_t i = s->addr >> 44;

	if (i != 1 && i != 2)
		owners->elsewhere++;
	else if (s->pid == (uint32_t)owners->pid[i - 1])
		owners->right++;
	else if (s->pid != (uint32_t)-1)	/* -1: it is exiting */
		owners->wrong++;
}

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
}

static pid_t start_busy(int i, uint64_t n)
{
	const size_t bytes = 4 << 20;
	uint64_t state = 1 + i;
	pid_t pid = fork();
	volatile uint64_t *p;

	if (pid)
		return pid;
	p = mmap((void *)PAIR_BASE(i), bytes, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (p == MAP_FAILED)
		die("mmap of the busy process");
	for (uint64_t k = 0; k < n; k++) {
		p[uniform(&state, k, bytes / sizeof(*p))] += k;
		if (k % 5000 == 0)
			sched_yield();
	}
	_exit(0);
}

static void pair(uint64_t period, uint64_t samples)
{
	struct ring rings[2];
	struct owners owners = {};
	struct tally tally;
	uint64_t n = period * samples / 4;	/* loads and stores, two processes */

	run_on(0);
	for (int e = 0; e < 2; e++) {
		rings[e] = open_event(e ? ALL_STORES : ALL_LOADS, 0, "u",
				      period, samples, -1, 0);
		enable(&rings[e]);
	}
	for (int i = 0; i < 2; i++)
		owners.pid[i] = start_busy(i, n);
	for (int i = 0; i < 2; i++)
		waitpid(owners.pid[i], NULL, 0);
	for (int e = 0; e < 2; e++) {
		struct counted counted = disable(&rings[e]);

		tally = drain(&rings[e], check_owner, &owners);
		print_tally(period, &counted, &tally);
	}
	printf("right=%lu wrong=%lu elsewhere=%lu\n", owners.right, owners.wrong,
	       owners.elsewhere);
}

/* pmu storm */

static void ignore(const struct sample *s, void *arg)
{
	(void)s;
	(void)arg;
}

static volatile sig_atomic_t ended;

static void on_signal(int unused)
{
	(void)unused;
	ended = 1;
}

/* Fork children one after the other that touch fresh memory and end. */
static pid_t start_forking(int cpu)
{
	const size_t bytes = 1 << 20;
	pid_t pid = fork();

	if (pid)
		return pid;
	run_on(cpu);
	for (;;) {
		pid_t child = fork();

		if (child < 0)
			die("fork");
		if (!child) {
			memset(memory(bytes, 0), 2, bytes);
			_exit(0);
		}
		if (waitpid(child, NULL, 0) != child)
			die("waitpid");
	}
}

#define MAX_CPUS	64

static void storm(uint64_t period, unsigned int seconds)
{
	int cpus = sysconf(_SC_NPROCESSORS_ONLN);
	struct ring ring[MAX_CPUS][2];
	uint64_t samples[MAX_CPUS] = {};
	pid_t pid[MAX_CPUS];

	if (cpus > MAX_CPUS) {
		errno = E2BIG;
		die("CPUs");
	}
	for (int i = 0; i < cpus; i++) {
		for (int e = 0; e < 2; e++) {
			ring[i][e] = open_event(e ? ALL_STORES : ALL_LOADS, 0,
						"uk", period, 10000, -1, i);
			enable(&ring[i][e]);
		}
		pid[i] = start_forking(i);
	}
	signal(SIGALRM, on_signal);
	alarm(seconds);
	while (!ended) {
		for (int i = 0; i < cpus; i++)
			for (int e = 0; e < 2; e++)
				samples[i] += drain(&ring[i][e], ignore, NULL).samples;
		usleep(10000);
	}
	for (int i = 0; i < cpus; i++) {
		uint64_t count = 0;

		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
		for (int e = 0; e < 2; e++)
			count += disable(&ring[i][e]).count;
		printf("cpu=%d count=%lu samples=%lu\n", i, count, samples[i]);
	}
}

/* pmu clock */

static void clock_samples(const char *name, uint64_t period, uint64_t samples)
{
	const struct kind *kind = find_kind(name);
	struct ring ring = open_event(kind->config, 0, "uk", period, samples, 0, -1);
	struct counted counted;
	struct tally tally;

	enable(&ring);
	loop_nothing(NULL, period * samples / 3);	/* 3 instructions each */
	counted = disable(&ring);
	tally = drain(&ring, ignore, NULL);
	print_tally(period, &counted, &tally);
}

/* pmu update: what sampling costs */

static void update(uint64_t n, uint64_t config, uint64_t period)
{
	const size_t bytes = 64 << 20;
	volatile uint64_t *p = memory(bytes, 0);
	uint64_t state = 1;
	struct ring ring;

	if (period) {
		ring = open_event(config, 0, "u", period, n / period, 0, -1);
		enable(&ring);
	}
	for (uint64_t i = 0; i < n; i++)
		p[uniform(&state, i, bytes / sizeof(*p))] += i;
	if (period) {
		struct counted counted = disable(&ring);
		struct tally tally = drain(&ring, ignore, NULL);

		print_tally(period, &counted, &tally);
	}
}

/* Pinned events, on all CPUs, for each counter that can count memory events. */
static void seize(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_RAW,
		.size = sizeof(attr),
		.config = ALL_LOADS,
		.pinned = 1,
		.exclude_kernel = 1,
	};
	long cpu, i;

	for (cpu = 0; cpu < sysconf(_SC_NPROCESSORS_ONLN); cpu++)
		for (i = 0; i < 4; i++)
			if (syscall(SYS_perf_event_open, &attr, -1, cpu, -1, 0) < 0)
				die("perf_event_open");
	puts("seized");
	fflush(stdout);
	for (;;)
		pause();
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t value = strtoull(text, &end, 0);

	if (*end || end == text) {
		errno = EINVAL;
		die(text);
	}
	return value;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";

	if (!strcmp(verb, "count") && argc >= 4)
		count(argv[2], number(argv[3]), argc > 4 ? argv[4] : "u");
	else if (!strcmp(verb, "sum") && argc > 2)
		sum(argc - 2, argv + 2);
	else if (!strcmp(verb, "miss") && argc == 5)
		miss(number(argv[2]), number(argv[3]), number(argv[4]));
	else if (!strcmp(verb, "sample") && argc >= 6)
		sample(argv[2], argv[3], number(argv[4]), number(argv[5]),
		       argc > 6 ? number(argv[6]) : 0);
	else if (!strcmp(verb, "latency") && argc == 5)
		latency(number(argv[2]), number(argv[3]), number(argv[4]));
	else if (!strcmp(verb, "pair") && argc == 4)
		pair(number(argv[2]), number(argv[3]));
	else if (!strcmp(verb, "storm") && argc == 4)
		storm(number(argv[2]), number(argv[3]));
	else if (!strcmp(verb, "clock") && argc == 5)
		clock_samples(argv[2], number(argv[3]), number(argv[4]));
	else if (!strcmp(verb, "update") && (argc == 3 || argc == 5))
		update(number(argv[2]), argc > 3 ? number(argv[3]) : 0,
		       argc > 3 ? number(argv[4]) : 0);
	else if (!strcmp(verb, "msr"))
		return registers() != 0;
	else if (!strcmp(verb, "records"))
		return records() != 0;
	else if (!strcmp(verb, "unmapped"))
		unmapped();
	else if (!strcmp(verb, "dirty"))
		dirty();
	else if (!strcmp(verb, "hold") && argc == 3)
		hold(number(argv[2]));
	else if (!strcmp(verb, "seize"))
		seize();
	else {
		fprintf(stderr, "pmu: bad arguments: see the top of pmu.c\n");
		return 2;
	}
	return 0;
}
