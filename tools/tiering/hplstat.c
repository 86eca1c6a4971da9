// SPDX-License-Identifier: GPL-2.0
/*
 * hplstat: what memory tiering does, as rates per second
 *
 * Reads /proc/vmstat twice, an interval apart, and tells how much of the CPUs
 * sampling, classification and migration took; of HPlacement, and, where the
 * kernel has CONFIG_TIERING_STAT, of what stock Linux does. See hplstat(8).
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifdef HAVE_CURSES
#include <curses.h>
#endif

#define VMSTAT		"/proc/vmstat"
#define NODES		"/sys/devices/system/node/"
#define TIERS		"/sys/devices/virtual/memory_tiering/"
#define KNOBS		"/sys/kernel/mm/hplacement/"
#define RANGES		"/sys/kernel/debug/hplacement/ranges"

/* A kernel that has more of them has them left out. */
#define COUNTERS_MAX	256
#define NODES_MAX	1024
#define RANGES_SHOWN	10

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* The counters of a moment. */
struct sample {
	double time_s;
	size_t nr;
	struct counter {
		char name[64];
		unsigned long long value;
	} counters[COUNTERS_MAX];
};

/* A memory node; numbers of tiers are the smaller the faster. */
struct node {
	int nid;
	int tier;
	bool fast;
	unsigned long long total_kib;
	unsigned long long free_kib;
};

/* A range of the kernel's; -1: not known. */
struct range {
	long pid;
	char comm[32];
	unsigned long long start;
	unsigned long long end;
	long long resident_kib;
	long long fast_permille;
	long long accessed_permille;
	long long accesses_per_page_s;
	long long age_epochs;
};

/* All that is shown at a time. */
struct report {
	const struct sample *old, *new;
	struct node nodes[NODES_MAX];
	size_t nr_nodes;
	struct range ranges[RANGES_SHOWN];
	size_t nr_ranges;
	size_t nr_ranges_all;
	bool ranges_readable;
	char source[32];
	int enabled;			/* -1: not known */
	long budget_permille;		/* -1: not known */
	long nr_cpus;
};

/* What CPU time is spent on, and the counters that say so, in ns. */
static const struct stage {
	const char *name;
	const char *hplacement[2];
	const char *stock[6];
} stages[] = {
	{ "sampling", { "hpl_sample_ns" },
	  { "tier_hint_scan_ns", "tier_hint_fault_ns", "tier_rmap_walk_ns",
	    "tier_accessed_scan_ns" } },
	{ "classification", { "hpl_classify_ns" }, { "tier_lru_scan_ns" } },
	{ "migration", { "hpl_migrate_ns" }, { "tier_migrate_ns" } },
};

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* The first line of a file without its end; false if there is none. */
static bool read_line(const char *path, char *line, int size)
{
	FILE *f = fopen(path, "r");
	bool ok = f && fgets(line, size, f);

	if (f)
		fclose(f);
	if (ok)
		line[strcspn(line, "\n")] = 0;
	else
		line[0] = 0;
	return ok;
}

/* A number in a file, -1 if there is none. */
static long read_number(const char *path)
{
	char line[64], *end;
	long value;

	if (!read_line(path, line, sizeof(line)))
		return -1;
	value = strtol(line, &end, 10);
	return end == line || *end ? -1 : value;
}

static bool sample_take(struct sample *s)
{
	FILE *f = fopen(VMSTAT, "r");
	char line[128];

	s->nr = 0;
	if (!f)
		return false;
	s->time_s = now_s();
	while (s->nr < COUNTERS_MAX && fgets(line, sizeof(line), f)) {
		struct counter *c = &s->counters[s->nr];

		if (sscanf(line, "%63s %llu", c->name, &c->value) == 2 &&
		    (!strncmp(c->name, "hpl_", 4) ||
		     !strncmp(c->name, "tier_", 5)))
			s->nr++;
	}
	fclose(f);
	return true;
}

/* A counter's value, 0 if the kernel does not have it. */
static unsigned long long value(const struct sample *s, const char *name)
{
	size_t i;

	for (i = 0; i < s->nr; i++)
		if (!strcmp(s->counters[i].name, name))
			return s->counters[i].value;
	return 0;
}

/* The growth of a counter per second. */
static double rate(const struct report *r, const char *name)
{
	double elapsed = r->new->time_s - r->old->time_s;

	return elapsed <= 0 ? 0 :
	       (value(r->new, name) - value(r->old, name)) / elapsed;
}

static bool has(const struct sample *s, const char *prefix)
{
	size_t i;

	for (i = 0; i < s->nr; i++)
		if (!strncmp(s->counters[i].name, prefix, strlen(prefix)))
			return true;
	return false;
}

/* Per cent of all CPUs that some counters in ns account for. */
static double cpu_percent(const struct report *r, const char * const *names,
			  size_t nr)
{
	double ns_per_s = 0;
	size_t i;

	for (i = 0; i < nr && names[i]; i++)
		ns_per_s += rate(r, names[i]);
	return ns_per_s / 1e7 / r->nr_cpus;
}

/* Whether @nid is in a list like "0-2,5". */
static bool in_list(const char *list, int nid)
{
	while (*list) {
		char *end;
		long from = strtol(list, &end, 10), to = from;

		if (end == list)
			return false;
		if (*end == '-')
			to = strtol(end + 1, &end, 10);
		if (nid >= from && nid <= to)
			return true;
		list = *end == ',' ? end + 1 : end;
		if (list == end && *end)
			return false;
	}
	return false;
}

/* The number of a node's memory tier, -1 if it has none. */
static int tier_of(int nid)
{
	char path[128], list[1024];
	DIR *dir = opendir(TIERS);
	struct dirent *d;
	int tier, found = -1;

	while (dir && found < 0 && (d = readdir(dir))) {
		if (sscanf(d->d_name, "memory_tier%d", &tier) != 1)
			continue;
		snprintf(path, sizeof(path), TIERS "memory_tier%d/nodelist", tier);
		if (read_line(path, list, sizeof(list)) && in_list(list, nid))
			found = tier;
	}
	if (dir)
		closedir(dir);
	return found;
}

static bool node_read(struct node *n, int nid)
{
	char path[128], line[128];
	FILE *f;

	snprintf(path, sizeof(path), NODES "node%d/meminfo", nid);
	f = fopen(path, "r");
	if (!f)
		return false;
	*n = (struct node){ .nid = nid, .tier = tier_of(nid) };
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "Node %*d MemTotal: %llu", &n->total_kib) != 1 &&
		    sscanf(line, "Node %*d MemFree: %llu", &n->free_kib) == 1)
			break;
	fclose(f);
	return true;
}

/* As the kernel has it: no slower than the slowest tier with a CPU is fast. */
static void nodes_read(struct report *r)
{
	char with_cpu[1024], with_memory[1024];
	int nid, slowest_cpu = -1;
	size_t i;

	r->nr_nodes = 0;
	read_line(NODES "has_cpu", with_cpu, sizeof(with_cpu));
	read_line(NODES "has_memory", with_memory, sizeof(with_memory));
	for (nid = 0; nid < NODES_MAX; nid++)
		if (in_list(with_memory, nid) &&
		    node_read(&r->nodes[r->nr_nodes], nid))
			r->nr_nodes++;
	for (i = 0; i < r->nr_nodes; i++)
		if (in_list(with_cpu, r->nodes[i].nid) &&
		    r->nodes[i].tier > slowest_cpu)
			slowest_cpu = r->nodes[i].tier;
	for (i = 0; i < r->nr_nodes; i++)
		r->nodes[i].fast = r->nodes[i].tier <= slowest_cpu;
}

static void range_set(struct range *r, const char *column, const char *text)
{
	long long number = strcmp(text, "-") ? atoll(text) : -1;

	if (!strcmp(column, "pid"))
		r->pid = number;
	else if (!strcmp(column, "start"))
		r->start = strtoull(text, NULL, 16);
	else if (!strcmp(column, "end"))
		r->end = strtoull(text, NULL, 16);
	else if (!strcmp(column, "age_epochs"))
		r->age_epochs = number;
	else if (!strcmp(column, "resident_kib"))
		r->resident_kib = number;
	else if (!strcmp(column, "fast_permille"))
		r->fast_permille = number;
	else if (!strcmp(column, "accessed_permille"))
		r->accessed_permille = number;
	else if (!strcmp(column, "accesses_per_page_s"))
		r->accesses_per_page_s = number;
}

/* One source of samples is in use at a time, so either is comparable. */
static long long heat(const struct range *r)
{
	return r->accesses_per_page_s >= 0 ? r->accesses_per_page_s :
					     r->accessed_permille;
}

/* Keep @r if it is among the hottest so far. */
static void range_keep(struct report *rep, const struct range *r)
{
	size_t at;

	rep->nr_ranges_all++;
	if (heat(r) < 0)
		return;
	for (at = rep->nr_ranges; at && heat(&rep->ranges[at - 1]) < heat(r); at--)
		if (at < RANGES_SHOWN)
			rep->ranges[at] = rep->ranges[at - 1];
	if (at < RANGES_SHOWN) {
		rep->ranges[at] = *r;
		if (rep->nr_ranges < RANGES_SHOWN)
			rep->nr_ranges++;
	}
}

/* Columns are known by their names: a newer kernel may have more. */
static void ranges_read(struct report *rep)
{
	char header[1024], line[1024], path[64], *columns[64], *word, *save;
	FILE *f = fopen(RANGES, "r");
	size_t nr = 0, i;

	rep->nr_ranges = 0;
	rep->nr_ranges_all = 0;
	rep->ranges_readable = f && fgets(header, sizeof(header), f);
	if (rep->ranges_readable)
		for (word = strtok_r(header, " \n", &save);
		     word && nr < ARRAY_SIZE(columns);
		     word = strtok_r(NULL, " \n", &save))
			columns[nr++] = word;
	while (nr && fgets(line, sizeof(line), f)) {
		struct range r = { .pid = -1, .accessed_permille = -1,
				   .accesses_per_page_s = -1 };

		for (word = strtok_r(line, " \n", &save), i = 0; word && i < nr;
		     word = strtok_r(NULL, " \n", &save), i++)
			range_set(&r, columns[i], word);
		range_keep(rep, &r);
	}
	if (f)
		fclose(f);
	for (i = 0; i < rep->nr_ranges; i++) {
		snprintf(path, sizeof(path), "/proc/%ld/comm", rep->ranges[i].pid);
		read_line(path, rep->ranges[i].comm, sizeof(rep->ranges[i].comm));
	}
}

static void report_take(struct report *r)
{
	r->nr_cpus = sysconf(_SC_NPROCESSORS_ONLN);
	if (r->nr_cpus < 1)
		r->nr_cpus = 1;
	r->enabled = read_number(KNOBS "enabled");
	r->budget_permille = read_number(KNOBS "overhead_permille");
	read_line(KNOBS "sample_source_in_use", r->source, sizeof(r->source));
	nodes_read(r);
	ranges_read(r);
}

static void json_string(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text; text++) {
		unsigned char c = *text;

		/* Names of programs are bytes of no known encoding. */
		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			fprintf(out, "\\u%04x", c);
		else
			fputc(c, out);
	}
	fputc('"', out);
}

/* A number that is not known is null. */
static void json_number(FILE *out, const char *name, long long number)
{
	if (number < 0)
		fprintf(out, ", \"%s\": null", name);
	else
		fprintf(out, ", \"%s\": %lld", name, number);
}

static void json_nodes(FILE *out, const struct report *r)
{
	size_t i;

	fputs(", \"nodes\": [", out);
	for (i = 0; i < r->nr_nodes; i++) {
		const struct node *n = &r->nodes[i];

		fprintf(out, "%s{\"node\": %d, \"fast\": %s, \"total_kib\": %llu, \"free_kib\": %llu",
			i ? ", " : "", n->nid, n->fast ? "true" : "false",
			n->total_kib, n->free_kib);
		json_number(out, "tier", n->tier);
		fputc('}', out);
	}
	fputc(']', out);
}

static void json_counters(FILE *out, const struct report *r)
{
	size_t i;

	fputs(", \"counters\": {", out);
	for (i = 0; i < r->new->nr; i++)
		fprintf(out, "%s\"%s\": %llu", i ? ", " : "",
			r->new->counters[i].name, r->new->counters[i].value);
	fputs("}, \"rates_per_s\": {", out);
	for (i = 0; i < r->new->nr; i++)
		fprintf(out, "%s\"%s\": %.3f", i ? ", " : "",
			r->new->counters[i].name,
			rate(r, r->new->counters[i].name));
	fputc('}', out);
}

static void json_cpu(FILE *out, const struct report *r)
{
	size_t i;

	fprintf(out, ", \"cpus\": %ld", r->nr_cpus);
	json_number(out, "budget_permille", r->budget_permille);
	fputs(", \"cpu_percent\": {\"hplacement\": {", out);
	for (i = 0; i < ARRAY_SIZE(stages); i++)
		fprintf(out, "%s\"%s\": %.4f", i ? ", " : "", stages[i].name,
			cpu_percent(r, stages[i].hplacement,
				    ARRAY_SIZE(stages[i].hplacement)));
	fputs("}, \"stock\": ", out);
	if (!has(r->new, "tier_"))
		fputs("null}", out);
	for (i = 0; has(r->new, "tier_") && i < ARRAY_SIZE(stages); i++)
		fprintf(out, "%s\"%s\": %.4f%s", i ? ", " : "{", stages[i].name,
			cpu_percent(r, stages[i].stock,
				    ARRAY_SIZE(stages[i].stock)),
			i + 1 < ARRAY_SIZE(stages) ? "" : "}}");
}

static void json_ranges(FILE *out, const struct report *r)
{
	size_t i;

	if (!r->ranges_readable) {
		fputs(", \"ranges\": null, \"hottest\": null", out);
		return;
	}
	fprintf(out, ", \"ranges\": %zu, \"hottest\": [", r->nr_ranges_all);
	for (i = 0; i < r->nr_ranges; i++) {
		const struct range *g = &r->ranges[i];

		fprintf(out, "%s{\"pid\": %ld, \"comm\": ", i ? ", " : "", g->pid);
		json_string(out, g->comm);
		fprintf(out, ", \"start\": \"%llx\", \"end\": \"%llx\"", g->start,
			g->end);
		json_number(out, "resident_kib", g->resident_kib);
		json_number(out, "fast_permille", g->fast_permille);
		json_number(out, "accessed_permille", g->accessed_permille);
		json_number(out, "accesses_per_page_s", g->accesses_per_page_s);
		json_number(out, "age_epochs", g->age_epochs);
		fputc('}', out);
	}
	fputc(']', out);
}

/* An object in a line of its own. */
static void json_print(FILE *out, const struct report *r)
{
	fprintf(out, "{\"interval_s\": %.3f", r->new->time_s - r->old->time_s);
	json_number(out, "enabled", r->enabled);
	fputs(", \"source\": ", out);
	json_string(out, *r->source ? r->source : "unknown");
	json_nodes(out, r);
	json_cpu(out, r);
	json_counters(out, r);
	json_ranges(out, r);
	fputs("}\n", out);
}

static void text_nodes(FILE *out, const struct report *r)
{
	size_t i;

	fprintf(out, "%-6s %-5s %-6s %12s %12s\n", "node", "tier", "speed",
		"total MiB", "free MiB");
	for (i = 0; i < r->nr_nodes; i++) {
		const struct node *n = &r->nodes[i];
		char tier[16] = "-";

		if (n->tier >= 0)
			snprintf(tier, sizeof(tier), "%d", n->tier);
		fprintf(out, "%-6d %-5s %-6s %12llu %12llu\n", n->nid, tier,
			n->fast ? "fast" : "slow", n->total_kib >> 10,
			n->free_kib >> 10);
	}
}

static void text_cpu(FILE *out, const struct report *r)
{
	bool stock = has(r->new, "tier_");
	double tracking = 0;
	size_t i;

	fprintf(out, "\n%-16s %10s", "% of CPU time", "HPlacement");
	fprintf(out, stock ? " %10s\n" : "\n", "stock");
	for (i = 0; i < ARRAY_SIZE(stages); i++) {
		const struct stage *s = &stages[i];
		double own = cpu_percent(r, s->hplacement,
					 ARRAY_SIZE(s->hplacement));

		/* The last stage is not within the budget. */
		if (i + 1 < ARRAY_SIZE(stages))
			tracking += own;
		fprintf(out, "%-16s %10.3f", s->name, own);
		if (stock)
			fprintf(out, " %10.3f",
				cpu_percent(r, s->stock, ARRAY_SIZE(s->stock)));
		fputc('\n', out);
	}
	if (r->budget_permille >= 0)
		fprintf(out, "sampling and classification: %.3f%% of a budget of %.1f%%\n",
			tracking, r->budget_permille / 10.0);
}

/* What has grown; times are shown as shares of the CPUs. */
static void text_rates(FILE *out, const struct report *r)
{
	size_t i, shown = 0;

	fprintf(out, "\n%-30s %14s\n", "counter", "per second");
	for (i = 0; i < r->new->nr; i++) {
		const char *name = r->new->counters[i].name;
		size_t length = strlen(name);
		double growth = rate(r, name);

		if (growth <= 0 || (length > 3 && !strcmp(name + length - 3, "_ns")))
			continue;
		fprintf(out, "%-30s %14.1f\n", name, growth);
		shown++;
	}
	if (!shown)
		fputs("(none has grown)\n", out);
}

static void text_number(FILE *out, int width, long long number)
{
	if (number < 0)
		fprintf(out, " %*s", width, "-");
	else
		fprintf(out, " %*lld", width, number);
}

static void text_ranges(FILE *out, const struct report *r)
{
	size_t i;

	if (!r->ranges_readable) {
		fputs("\nranges: " RANGES " cannot be read\n", out);
		return;
	}
	fprintf(out, "\nhottest of %zu ranges\n%7s %-15s %12s %12s %9s %6s %9s %11s\n",
		r->nr_ranges_all, "pid", "command", "start", "end", "resident",
		"fast", "accessed", "accesses");
	fprintf(out, "%7s %-15s %12s %12s %9s %6s %9s %11s\n", "", "", "", "",
		"KiB", "1/1000", "1/1000", "1/(page s)");
	for (i = 0; i < r->nr_ranges; i++) {
		const struct range *g = &r->ranges[i];
		const char *c;

		fprintf(out, "%7ld ", g->pid);
		/* What a program calls itself is not to move the cursor. */
		for (c = g->comm; *c; c++)
			fputc(*c >= 0x20 && *c < 0x7f ? *c : '?', out);
		fprintf(out, "%*s %12llx %12llx", (int)(15 - strlen(g->comm)), "",
			g->start, g->end);
		text_number(out, 9, g->resident_kib);
		text_number(out, 6, g->fast_permille);
		text_number(out, 9, g->accessed_permille);
		text_number(out, 11, g->accesses_per_page_s);
		fputc('\n', out);
	}
}

static void text_print(FILE *out, const struct report *r)
{
	static const char * const states[] = { "unknown (are you root?)", "off",
					       "on" };

	fprintf(out, "HPlacement: %s, samples by: %s, %.1f s\n\n",
		has(r->new, "hpl_") ? states[r->enabled < 0 ? 0 : 1 + !!r->enabled] :
				      "not in this kernel",
		*r->source ? r->source : "-", r->new->time_s - r->old->time_s);
	text_nodes(out, r);
	text_cpu(out, r);
	text_rates(out, r);
	text_ranges(out, r);
}

/* Wait until @until; woken up early by a signal. */
static void wait_until(double until)
{
	struct timespec t = { .tv_sec = until,
			      .tv_nsec = (until - (time_t)until) * 1e9 };

	while (!stopped && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t,
					   NULL) == EINTR)
		;
}

#ifdef HAVE_CURSES
static bool screen_begin(void)
{
	if (!isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO) ||
	    !newterm(NULL, stdout, stdin))
		return false;
	cbreak();
	noecho();
	curs_set(0);
	return true;
}

/* As many lines as there is room for. */
static void screen_show(const char *text)
{
	int y;

	erase();
	for (y = 0; y < LINES && *text; y++) {
		int length = strcspn(text, "\n");

		mvaddnstr(y, 0, text, length < COLS ? length : COLS);
		text += length + (text[length] == '\n');
	}
	refresh();
}

/* Wait until @until; q ends it. */
static void screen_wait(double until)
{
	double left;

	while (!stopped && (left = until - now_s()) > 0) {
		int key;

		timeout(left < 1 ? (int)(left * 1000) + 1 : 1000);
		key = getch();
		if (key == 'q')
			stopped = 1;
	}
}

static void screen_end(void)
{
	endwin();
}
#else
static bool screen_begin(void)
{
	return false;
}

static void screen_show(const char *text)
{
	(void)text;
}

static void screen_wait(double until)
{
	(void)until;
}

static void screen_end(void)
{
}
#endif

static void usage(FILE *out)
{
	fputs("usage: hplstat [--json] [--once] [--interval SECONDS]\n"
	      "\n"
	      "Show what memory tiering does, and what it costs.\n"
	      "\n"
	      "  --json              an object in a line of its own for each interval\n"
	      "  --once              one interval, then end\n"
	      "  --interval SECONDS  how long it is (1)\n"
	      "  --help              this text\n"
	      "\n"
	      "On a terminal, q ends it. Ranges are shown to root only.\n", out);
}

/* Show a report in the way asked for; false if it cannot be written. */
static bool report_show(const struct report *r, bool json, bool screen)
{
	char *text = NULL;
	size_t size;
	FILE *out;

	if (json) {
		json_print(stdout, r);
	} else if (!screen) {
		text_print(stdout, r);
		fputc('\n', stdout);
	} else {
		out = open_memstream(&text, &size);
		if (!out)
			return false;
		text_print(out, r);
		if (!fclose(out))
			screen_show(text);
		free(text);
		return true;
	}
	return !fflush(stdout);
}

static int run(double interval_s, bool once, bool json)
{
	static struct sample samples[2];
	static struct report report;
	bool screen = !json && !once && screen_begin(), ok = true;
	unsigned int turn;

	ok = sample_take(&samples[0]);
	for (turn = 1; ok && !stopped; turn++) {
		double until = samples[(turn - 1) % 2].time_s + interval_s;

		if (screen)
			screen_wait(until);
		else
			wait_until(until);
		if (stopped)
			break;
		ok = sample_take(&samples[turn % 2]);
		report.old = &samples[(turn - 1) % 2];
		report.new = &samples[turn % 2];
		report_take(&report);
		ok = ok && report_show(&report, json, screen);
		if (once)
			break;
	}
	if (screen)
		screen_end();
	if (!ok)
		fprintf(stderr, "hplstat: %s\n", strerror(errno));
	return ok ? 0 : 1;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "once", no_argument, NULL, 'o' },
		{ "interval", required_argument, NULL, 'i' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	const struct sigaction action = { .sa_handler = stop };
	bool once = false, json = false;
	double interval_s = 1;
	char *end;
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (c) {
		case 'j':
			json = true;
			break;
		case 'o':
			once = true;
			break;
		case 'i':
			interval_s = strtod(optarg, &end);
			if (end == optarg || *end || !(interval_s >= 0.01) ||
			    interval_s > 86400) {
				fprintf(stderr, "hplstat: --interval %s: give seconds from 0.01 to 86400\n",
					optarg);
				return 2;
			}
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (optind < argc) {
		usage(stderr);
		return 2;
	}
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	return run(interval_s, once, json);
}
