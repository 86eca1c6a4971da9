// SPDX-License-Identifier: GPL-2.0
/*
 * gups: random updates of a large buffer, and where its pages lie
 *
 * Each update xors a random word of the buffer with a random number, as in
 * RandomAccess of the HPC Challenge benchmark. The buffer is touched from its
 * start to its end first, so that its head fills the fast tier and its tail
 * lies on the slow one. Reports, one line each, "kind key=value ...":
 *
 *   config     what is run
 *   buffer     where it lies
 *   placement  share of pages on the fast tier: of a 64 MiB slice, of the hot
 *              set (hot=) and of the whole buffer (all=); from move_pages(2).
 *              Between rounds also moved=, the pages that the kernel has moved
 *   start      of the rounds
 *   round      updates per second of one round, in 1e9/s and 1e6/s
 *   verify     words that differ from what the updates should have left
 *
 * tsc= is the CPU's time stamp counter; under QEMU's timing model that is the
 * machine's time in ns, by which its tables are dated.
 *
 * The fast tier is the set of NUMA nodes that have CPUs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <linux/mempolicy.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "random.h"

#define PAGE_BYTES	4096UL
#define WORDS_PER_PAGE	(PAGE_BYTES / sizeof(uint64_t))
#define WORDS_PER_LINE	(64 / sizeof(uint64_t))
#define SLICE_BYTES	(64UL << 20)
#define QUERY_PAGES	4096UL	/* pages asked for in one move_pages call */
#define SAMPLE_STRIDE	16	/* pages: a look between rounds asks for every 16th */
#define UPDATES_PER_DRAW 4	/* of a page of ZIPF_SCATTERED, as a draw takes longer than a miss */
#define MAX_NODES	64
#define MAX_SIZE_MIB	32768	/* a word's index must fit 32 bits */

enum pattern { RANDOM, HOTSET, ZIPF, MIX, SCATTERED, ZIPF_SCATTERED };

static const char * const pattern_names[] = {
	"random", "hotset", "zipf", "mix", "scattered", "zipf-scattered"
};

struct options {
	enum pattern pattern;
	uint64_t size_mib;
	double hot_share;	/* of the buffer */
	double hot_prob;	/* of the updates */
	double exponent;	/* of zipf */
	bool reverse;
	uint64_t move_at;	/* round before which the hot set moves; 0: never */
	uint64_t move_every;	/* rounds between moves; 0: never */
	double move_by;		/* share of the buffer */
	long preferred;		/* node, -1: none */
	bool interleave;
	bool place_best;
	uint64_t rounds;
	uint64_t updates;	/* per round */
	uint64_t seed;
	uint64_t look_every;	/* rounds between looks at placement; 0: never */
	bool thp;
	bool verify;
	const char *after_fill;
	const char *after_rounds;
};

struct gups {
	struct options opt;
	uint64_t *words;
	uint64_t nr_words;
	uint64_t nr_hot;	/* words */
	uint64_t hot_limit;	/* a 32-bit draw below this hits the hot set */
	uint64_t first;		/* word that logical index 0 stands for */
	uint64_t scan;		/* word that MIX's scan has come to */
	uint64_t random;	/* state of the generator */
	uint64_t fast_nodes;	/* bit masks */
	uint64_t slow_nodes;
	struct zipf zipf;
	double query_s;		/* spent in asking for placement between rounds */
};

static __attribute__((noreturn, format(printf, 1, 2))) void die(const char *fmt, ...)
{
	va_list args;

	fprintf(stderr, "gups: ");
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

/* Guest time in seconds. */
static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec * 1e-9;
}

/* Uniform in [0, range), from 32 random bits. */
static inline uint64_t scale(uint32_t bits, uint64_t range)
{
	return (bits * range) >> 32;
}

/* Index of logical word @logical: mirrored by reverse, rotated by a move. */
static inline uint64_t place(const struct gups *g, uint64_t logical)
{
	uint64_t index = g->first + (g->opt.reverse ? g->nr_words - 1 - logical : logical);

	return index < g->nr_words ? index : index - g->nr_words;
}

/* Page at which page @page of SCATTERED lies: the hot ones, which come first, equally far apart. */
static inline uint64_t stride(const struct gups *g, uint64_t page)
{
	uint64_t nr_hot = g->nr_hot / WORDS_PER_PAGE;
	uint64_t gap = g->nr_words / g->nr_hot;

	return page < nr_hot * gap ? page % nr_hot * gap + page / nr_hot : page;
}

static void update_random(struct gups *g)
{
	for (uint64_t i = 0; i < g->opt.updates; i++) {
		uint64_t r = random_next(&g->random);

		g->words[scale(r >> 32, g->nr_words)] ^= r;
	}
}

static inline uint64_t hotset_word(const struct gups *g, uint64_t r)
{
	if ((uint32_t)r < g->hot_limit)
		return scale(r >> 32, g->nr_hot);
	return g->nr_hot + scale(r >> 32, g->nr_words - g->nr_hot);
}

static void update_hotset(struct gups *g)
{
	for (uint64_t i = 0; i < g->opt.updates; i++) {
		uint64_t r = random_next(&g->random);

		g->words[place(g, hotset_word(g, r))] ^= r;
	}
}

static void update_scattered(struct gups *g)
{
	for (uint64_t i = 0; i < g->opt.updates; i++) {
		uint64_t r = random_next(&g->random);
		uint64_t logical = hotset_word(g, r);
		uint64_t page = stride(g, logical / WORDS_PER_PAGE);

		g->words[place(g, page * WORDS_PER_PAGE + logical % WORDS_PER_PAGE)] ^= r;
	}
}

/* What does not hit the hot set goes through the buffer from start to end, by lines. */
static void update_mix(struct gups *g)
{
	for (uint64_t i = 0; i < g->opt.updates; i++) {
		uint64_t r = random_next(&g->random);

		if ((uint32_t)r < g->hot_limit) {
			g->words[place(g, scale(r >> 32, g->nr_hot))] ^= r;
			continue;
		}
		g->words[g->scan] ^= r;
		g->scan += WORDS_PER_LINE;
		if (g->scan >= g->nr_words)
			g->scan = 0;
	}
}

/* Ranks are pages, words within a page are alike. */
static void update_zipf(struct gups *g)
{
	for (uint64_t i = 0; i < g->opt.updates; i++) {
		uint64_t page = zipf_rank(&g->zipf, &g->random);
		uint64_t r = random_next(&g->random);

		g->words[place(g, page * WORDS_PER_PAGE + scale(r >> 32, WORDS_PER_PAGE))] ^= r;
	}
}

static void update_zipf_scattered(struct gups *g)
{
	uint64_t page = 0;

	for (uint64_t i = 0; i < g->opt.updates; i++) {
		uint64_t r = random_next(&g->random);

		if (i % UPDATES_PER_DRAW == 0)
			page = zipf_item(&g->zipf, zipf_rank(&g->zipf, &g->random));
		g->words[place(g, page * WORDS_PER_PAGE + scale(r >> 32, WORDS_PER_PAGE))] ^= r;
	}
}

static void update(struct gups *g, uint64_t round)
{
	uint64_t every = g->opt.move_every;

	if (round == g->opt.move_at || (every && round > 1 && (round - 1) % every == 0)) {
		g->first += (uint64_t)(g->nr_words * g->opt.move_by) / WORDS_PER_PAGE * WORDS_PER_PAGE;
		g->first %= g->nr_words;
	}
	switch (g->opt.pattern) {
	case RANDOM:
		update_random(g);
		break;
	case HOTSET:
		update_hotset(g);
		break;
	case ZIPF:
		update_zipf(g);
		break;
	case MIX:
		update_mix(g);
		break;
	case SCATTERED:
		update_scattered(g);
		break;
	case ZIPF_SCATTERED:
		update_zipf_scattered(g);
		break;
	}
}

/* The nodes in a file of sysfs, from a list such as "0-1,4". */
static uint64_t read_nodes(const char *path)
{
	char line[256], *p = line;
	uint64_t mask = 0;
	FILE *f = fopen(path, "r");

	if (!f || !fgets(line, sizeof(line), f))
		die("cannot read %s: %s; the kernel needs CONFIG_NUMA", path, strerror(errno));
	fclose(f);
	while (*p && *p != '\n') {
		unsigned long from = strtoul(p, &p, 10), to = from;

		if (*p == '-')
			to = strtoul(p + 1, &p, 10);
		if (to >= MAX_NODES || from > to)
			die("%s: cannot understand '%s'", path, line);
		for (; from <= to; from++)
			mask |= 1ULL << from;
		if (*p == ',')
			p++;
	}
	return mask;
}

/* Page of the buffer that comes @index-th in a set of pages. */
typedef uint64_t page_set(const struct gups *g, uint64_t index);

static uint64_t buffer_page(const struct gups *g, uint64_t index)
{
	(void)g;
	return index;
}

static uint64_t hot_page(const struct gups *g, uint64_t index)
{
	if (g->opt.pattern == SCATTERED)
		index = stride(g, index);
	else if (g->opt.pattern == ZIPF_SCATTERED)
		index = zipf_item(&g->zipf, index);
	return place(g, index * WORDS_PER_PAGE) / WORDS_PER_PAGE;
}

/* Share of pages [@index, @end) of a set on fast nodes, asking for every @step-th. */
static double fast_share(struct gups *g, page_set *set, uint64_t index, uint64_t end, uint64_t step)
{
	static void *pages[QUERY_PAGES];
	static int status[QUERY_PAGES];
	uint64_t fast = 0, total = 0;

	while (index < end) {
		uint64_t count = 0;

		for (; index < end && count < QUERY_PAGES; index += step)
			pages[count++] = (char *)g->words + set(g, index) * PAGE_BYTES;
		if (syscall(SYS_move_pages, 0, count, pages, NULL, status, 0))
			die("move_pages: %s; the kernel needs CONFIG_MIGRATION", strerror(errno));
		for (uint64_t i = 0; i < count; i++)
			fast += status[i] >= 0 && (g->fast_nodes >> status[i]) & 1;
		total += count;
	}
	return (double)fast / total;
}

static double hot_share_fast(struct gups *g, uint64_t step)
{
	return fast_share(g, hot_page, 0, g->nr_hot / WORDS_PER_PAGE, step);
}

static void report_placement(struct gups *g, const char *when)
{
	uint64_t slice = SLICE_BYTES / PAGE_BYTES, pages = g->nr_words / WORDS_PER_PAGE;

	for (uint64_t start = 0; start < pages; start += slice) {
		uint64_t end = start + slice < pages ? start + slice : pages;

		printf("placement when=%s slice=%lu fast=%.4f\n", when, start / slice,
		       fast_share(g, buffer_page, start, end, 1));
	}
	printf("placement when=%s hot=%.4f all=%.4f\n", when, hot_share_fast(g, 1),
	       fast_share(g, buffer_page, 0, pages, 1));
}

/* Pages that the kernel has moved since it booted. */
static uint64_t read_moved(void)
{
	static const char path[] = "/proc/vmstat";
	uint64_t value, moved = 0;
	char name[64];
	FILE *f = fopen(path, "r");

	if (!f)
		die("cannot read %s: %s", path, strerror(errno));
	while (fscanf(f, "%63s %lu", name, &value) == 2) {
		if (!strcmp(name, "pgmigrate_success"))
			moved += value;
		else if (!strcmp(name, "hpl_exchanged"))	/* two pages each */
			moved += 2 * value;
	}
	fclose(f);
	return moved;
}

/*
 * Of the pages [@index, @end) of hot_page()'s order, move @count at most that are
 * @fast or not to a node. Returns the index after the last one, and their number.
 */
static uint64_t move_some(struct gups *g, uint64_t index, uint64_t end, bool fast, int node,
			  uint64_t *count)
{
	static void *pages[QUERY_PAGES];
	static int status[QUERY_PAGES], nodes[QUERY_PAGES];
	uint64_t n = 0, limit = *count;

	for (; index < end && n < limit; index++) {
		pages[n] = (char *)g->words + hot_page(g, index) * PAGE_BYTES;
		if (syscall(SYS_move_pages, 0, 1UL, &pages[n], NULL, status, 0) || status[0] < 0)
			die("--place-best: move_pages: %s", strerror(errno));
		if (((g->fast_nodes >> status[0]) & 1) == fast)
			nodes[n++] = node;
	}
	if (n && syscall(SYS_move_pages, 0, n, pages, nodes, status, 0) < 0)
		die("--place-best: move_pages: %s", strerror(errno));
	*count = n;
	return index;
}

/*
 * The pages that the pattern hits most on the fast tier: as many as it has now.
 * What is cold goes first, to make room, and as many hot ones follow.
 */
static void place_best(struct gups *g)
{
	uint64_t pages = g->nr_words / WORDS_PER_PAGE;
	uint64_t nr_fast = fast_share(g, buffer_page, 0, pages, 1) * pages + 0.5;
	uint64_t cold = nr_fast, hot = 0, count;

	if (!g->slow_nodes)
		return;
	do {
		count = QUERY_PAGES;
		cold = move_some(g, cold, pages, true, __builtin_ctzl(g->slow_nodes), &count);
		if (count)
			hot = move_some(g, hot, nr_fast, false, __builtin_ctzl(g->fast_nodes), &count);
	} while (count);
}

/* A cheap look between rounds, its time kept out of the rounds' figures. */
static void look(struct gups *g, uint64_t round)
{
	double start = now();
	double hot = hot_share_fast(g, SAMPLE_STRIDE);
	double all = fast_share(g, buffer_page, 0, g->nr_words / WORDS_PER_PAGE, SAMPLE_STRIDE);
	uint64_t moved = read_moved();

	g->query_s += now() - start;
	printf("placement when=%lu hot=%.4f all=%.4f moved=%lu query_s=%.6f\n", round, hot, all,
	       moved, g->query_s);
}

static void run_rounds(struct gups *g)
{
	double start = now();

	printf("start tsc=%llu\n", __builtin_ia32_rdtsc());
	for (uint64_t round = 1; round <= g->opt.rounds; round++) {
		double from = now(), seconds;

		update(g, round);
		seconds = now() - from;
		printf("round n=%lu elapsed_s=%.6f seconds=%.6f gups=%.9f mups=%.4f tsc=%llu\n", round,
		       now() - start, seconds, g->opt.updates / seconds * 1e-9,
		       g->opt.updates / seconds * 1e-6, __builtin_ia32_rdtsc());
		if (g->opt.look_every && round % g->opt.look_every == 0)
			look(g, round);
	}
}

static void begin(struct gups *g)
{
	g->random = g->opt.seed;
	g->first = 0;
	g->scan = 0;
}

/* Xor is its own inverse: all updates again must give back the first contents. */
static uint64_t verify(struct gups *g)
{
	uint64_t errors = 0;

	begin(g);
	for (uint64_t round = 1; round <= g->opt.rounds; round++)
		update(g, round);
	for (uint64_t i = 0; i < g->nr_words; i++)
		errors += g->words[i] != i;
	printf("verify errors=%lu words=%lu\n", errors, g->nr_words);
	return errors;
}

static void prefer(long node)
{
	uint64_t mask = 1ULL << node;

	if (syscall(SYS_set_mempolicy, MPOL_PREFERRED, &mask, MAX_NODES + 1))
		die("--preferred %ld: set_mempolicy: %s", node, strerror(errno));
}

static void interleave(struct gups *g, size_t bytes)
{
	uint64_t mask = g->fast_nodes | g->slow_nodes;

	if (syscall(SYS_mbind, g->words, bytes, MPOL_INTERLEAVE, &mask, MAX_NODES + 1, 0))
		die("--interleave: mbind: %s", strerror(errno));
}

static void fill(struct gups *g)
{
	size_t bytes = g->opt.size_mib << 20;

	if (g->opt.preferred >= 0)
		prefer(g->opt.preferred);
	g->words = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (g->words == MAP_FAILED)
		die("--size %lu: mmap: %s", g->opt.size_mib, strerror(errno));
	if (!g->opt.thp && madvise(g->words, bytes, MADV_NOHUGEPAGE) && errno != EINVAL)
		die("madvise: %s", strerror(errno));
	if (g->opt.interleave)
		interleave(g, bytes);
	for (uint64_t i = 0; i < g->nr_words; i++)
		g->words[i] = i;
	printf("buffer address=%#lx pages=%lu\n", (unsigned long)g->words,
	       g->nr_words / WORDS_PER_PAGE);
}

static void setup(struct gups *g)
{
	struct options *o = &g->opt;

	g->nr_words = (o->size_mib << 20) / sizeof(uint64_t);
	g->nr_hot = (uint64_t)(g->nr_words * o->hot_share) / WORDS_PER_PAGE * WORDS_PER_PAGE;
	if (!g->nr_hot)
		die("--hot-share %g of %lu MiB is less than a page", o->hot_share, o->size_mib);
	g->hot_limit = o->hot_prob * 0x1p32;
	g->fast_nodes = read_nodes("/sys/devices/system/node/has_cpu");
	g->slow_nodes = read_nodes("/sys/devices/system/node/has_memory") & ~g->fast_nodes;
	zipf_init(&g->zipf, o->exponent, g->nr_words / WORDS_PER_PAGE);
}

static uint64_t parse_number(const char *name, const char *text, uint64_t min, uint64_t max)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || value < min || value > max)
		die("--%s %s: give a number from %lu to %lu", name, text, min, max);
	return value;
}

/* In (@min, @max). */
static double parse_real(const char *name, const char *text, double min, double max)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !(value > min && value < max))
		die("--%s %s: give a number between %g and %g", name, text, min, max);
	return value;
}

static enum pattern parse_pattern(const char *text)
{
	for (int i = RANDOM; i <= ZIPF_SCATTERED; i++)
		if (!strcmp(text, pattern_names[i]))
			return i;
	die("--pattern %s: choose random, hotset, zipf, mix, scattered or zipf-scattered", text);
}

static const char usage[] =
"Usage: gups [OPTION]...\n"
"Update random words of a buffer; report speed and placement.\n\n"
"  --pattern P      default hotset\n"
"                   random: all of the buffer alike\n"
"                   hotset: most updates hit one part of it\n"
"                   mix: a hot set, the other updates scan the buffer by cache lines\n"
"                   scattered: a hot set of pages equally far apart\n"
"                   zipf: over pages, the hottest first\n"
"                   zipf-scattered: over pages, the hottest anywhere\n"
"  --size MIB       buffer (default 384)\n"
"  --hot-share X    hot set's share of the buffer (default 0.1); with random and\n"
"                   both zipf only for the report\n"
"  --hot-prob X     share of updates that hit the hot set (default 0.9)\n"
"  --exponent X     of both zipf (default 0.99)\n"
"  --reverse        hot set at the buffer's end, so that it starts on the slow tier\n"
"  --move-at N      before round N the hot set moves\n"
"  --move-every N   it moves after every N rounds\n"
"  --move-by X      by this share of the buffer (default 0.5)\n"
"  --preferred N    prefer node N for all memory\n"
"  --interleave     the buffer's pages take turns among all nodes\n"
"  --place-best     before the first round, as many of the pages that will be hit\n"
"                   most are moved to the fast tier as the buffer has there\n"
"  --rounds N       (default 20)\n"
"  --updates N      per round (default 1000000)\n"
"  --seed N         (default 1)\n"
"  --look-every N   after every N rounds look at every 16th page's placement;\n"
"                   no round's figure includes that time, elapsed_s does\n"
"  --thp            allow transparent huge pages\n"
"  --after-fill CMD run CMD once the buffer is filled, before the first round\n"
"  --after-rounds CMD\n"
"                   run CMD right after the last round\n"
"  --verify         at the end redo all updates and count words that are wrong\n"
"  --help\n";

enum { OPT_PATTERN = 256, OPT_SIZE, OPT_HOT_SHARE, OPT_HOT_PROB, OPT_EXPONENT, OPT_REVERSE,
       OPT_MOVE_AT, OPT_MOVE_EVERY, OPT_MOVE_BY, OPT_PREFERRED, OPT_INTERLEAVE, OPT_PLACE_BEST,
       OPT_ROUNDS, OPT_UPDATES,
       OPT_SEED, OPT_LOOK_EVERY, OPT_THP, OPT_AFTER_FILL, OPT_AFTER_ROUNDS, OPT_VERIFY, OPT_HELP };

static const struct option long_options[] = {
	{ "pattern", required_argument, NULL, OPT_PATTERN },
	{ "size", required_argument, NULL, OPT_SIZE },
	{ "hot-share", required_argument, NULL, OPT_HOT_SHARE },
	{ "hot-prob", required_argument, NULL, OPT_HOT_PROB },
	{ "exponent", required_argument, NULL, OPT_EXPONENT },
	{ "reverse", no_argument, NULL, OPT_REVERSE },
	{ "move-at", required_argument, NULL, OPT_MOVE_AT },
	{ "move-every", required_argument, NULL, OPT_MOVE_EVERY },
	{ "move-by", required_argument, NULL, OPT_MOVE_BY },
	{ "preferred", required_argument, NULL, OPT_PREFERRED },
	{ "interleave", no_argument, NULL, OPT_INTERLEAVE },
	{ "place-best", no_argument, NULL, OPT_PLACE_BEST },
	{ "rounds", required_argument, NULL, OPT_ROUNDS },
	{ "updates", required_argument, NULL, OPT_UPDATES },
	{ "seed", required_argument, NULL, OPT_SEED },
	{ "look-every", required_argument, NULL, OPT_LOOK_EVERY },
	{ "thp", no_argument, NULL, OPT_THP },
	{ "after-fill", required_argument, NULL, OPT_AFTER_FILL },
	{ "after-rounds", required_argument, NULL, OPT_AFTER_ROUNDS },
	{ "verify", no_argument, NULL, OPT_VERIFY },
	{ "help", no_argument, NULL, OPT_HELP },
	{ }
};

static void set_option(struct options *o, int opt, const char *name)
{
	switch (opt) {
	case OPT_PATTERN:
		o->pattern = parse_pattern(optarg);
		break;
	case OPT_SIZE:
		o->size_mib = parse_number(name, optarg, 1, MAX_SIZE_MIB);
		break;
	case OPT_HOT_SHARE:
		o->hot_share = parse_real(name, optarg, 0, 1);
		break;
	case OPT_HOT_PROB:
		o->hot_prob = parse_real(name, optarg, 0, 1);
		break;
	case OPT_EXPONENT:
		o->exponent = parse_real(name, optarg, 0, 10);
		break;
	case OPT_REVERSE:
		o->reverse = true;
		break;
	case OPT_MOVE_AT:
		o->move_at = parse_number(name, optarg, 1, UINT32_MAX);
		break;
	case OPT_MOVE_EVERY:
		o->move_every = parse_number(name, optarg, 1, UINT32_MAX);
		break;
	case OPT_MOVE_BY:
		o->move_by = parse_real(name, optarg, 0, 1);
		break;
	case OPT_PREFERRED:
		o->preferred = parse_number(name, optarg, 0, MAX_NODES - 1);
		break;
	case OPT_INTERLEAVE:
		o->interleave = true;
		break;
	case OPT_PLACE_BEST:
		o->place_best = true;
		break;
	case OPT_ROUNDS:
		o->rounds = parse_number(name, optarg, 1, UINT32_MAX);
		break;
	case OPT_UPDATES:
		o->updates = parse_number(name, optarg, 1, UINT64_MAX);
		break;
	case OPT_SEED:
		o->seed = parse_number(name, optarg, 0, UINT64_MAX);
		break;
	case OPT_LOOK_EVERY:
		o->look_every = parse_number(name, optarg, 1, UINT32_MAX);
		break;
	case OPT_THP:
		o->thp = true;
		break;
	case OPT_AFTER_FILL:
		o->after_fill = optarg;
		break;
	case OPT_AFTER_ROUNDS:
		o->after_rounds = optarg;
		break;
	case OPT_VERIFY:
		o->verify = true;
		break;
	case OPT_HELP:
		fputs(usage, stdout);
		exit(0);
	default:
		fputs("gups: see --help\n", stderr);
		exit(1);
	}
}

static void parse_options(struct options *o, int argc, char **argv)
{
	int opt, index = 0;

	while ((opt = getopt_long(argc, argv, "", long_options, &index)) != -1)
		set_option(o, opt, long_options[index].name);
	if (optind < argc)
		die("%s: no such argument; see --help", argv[optind]);
	if (o->move_at > o->rounds)
		die("--move-at %lu: there are only %lu rounds", o->move_at, o->rounds);
	if ((o->move_at || o->move_every) &&
	    (o->hot_share > o->move_by || o->hot_share > 1 - o->move_by))
		die("--move-by %g: a hot set of --hot-share %g would overlap its old place",
		    o->move_by, o->hot_share);
}

static void print_config(const struct gups *g)
{
	const struct options *o = &g->opt;

	printf("config pattern=%s size_mib=%lu hot_share=%g hot_prob=%g exponent=%g reverse=%d move_at=%lu move_every=%lu move_by=%g rounds=%lu updates=%lu seed=%lu fast_nodes=%#lx\n",
	       pattern_names[o->pattern], o->size_mib, o->hot_share, o->hot_prob, o->exponent,
	       o->reverse, o->move_at, o->move_every, o->move_by, o->rounds, o->updates, o->seed, g->fast_nodes);
}

static void run_command(const char *option, const char *command)
{
	int status = command ? system(command) : 0;

	if (status)
		die("--%s '%s' failed with status %d", option, command, status);
}

int main(int argc, char **argv)
{
	struct gups g = {
		.opt = {
			.pattern = HOTSET, .size_mib = 384, .hot_share = 0.1, .hot_prob = 0.9,
			.exponent = 0.99, .preferred = -1, .rounds = 20, .updates = 1000000,
			.seed = 1, .move_by = 0.5,
		},
	};

	setvbuf(stdout, NULL, _IOLBF, 0);
	parse_options(&g.opt, argc, argv);
	setup(&g);
	print_config(&g);
	fill(&g);
	begin(&g);
	if (g.opt.place_best)
		place_best(&g);
	report_placement(&g, "before");
	run_command("after-fill", g.opt.after_fill);
	run_rounds(&g);
	run_command("after-rounds", g.opt.after_rounds);
	report_placement(&g, "after");
	return g.opt.verify && verify(&g) ? 1 : 0;
}
