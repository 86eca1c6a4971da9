// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: tests of how it goes on
 *
 * While processes, processors and knobs come, go and change, and memory is short.
 * Needs root, a node with CPUs (the fast tier) and one without (the slow one).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kselftest_harness.h"
#include "tiering_range_util.h"

FIXTURE(tiers) {
	int fast;
	int slow;
};

FIXTURE_SETUP(tiers)
{
	const char *why = tiers_enable(&self->fast, &self->slow);

	if (why)
		SKIP(return, "%s", why);
	ASSERT_STREQ(get_knob("enabled"), "1");
}

FIXTURE_TEARDOWN(tiers)
{
	(void)self;
	defaults();
}

TEST_F_TIMEOUT(tiers, counters_never_fall, TEST_S)
{
	long long last[NR_COUNTERS] = {}, epochs = vmstat("hpl_epochs");
	char *mem = buffer_on(self->slow, 16 * MIB);
	double end = now() + DEADLINE_S;
	size_t i;

	ASSERT_NE(mem, NULL);
	while (vmstat("hpl_epochs") < epochs + 40 && now() < end) {
		touch(mem, HOT_BYTES);
		for (i = 0; i < NR_COUNTERS; i++) {
			long long value = vmstat(counters[i]);

			ASSERT_GE(value, last[i]) TH_LOG("%s", counters[i]);
			last[i] = value;
		}
	}
	EXPECT_GE(vmstat("hpl_epochs"), epochs + 40);
	EXPECT_GT(vmstat("hpl_sample_abit"), 0);
	EXPECT_GT(vmstat("hpl_sample_ns"), 0);
	EXPECT_GT(vmstat("hpl_classify_ns"), 0);
	EXPECT_GE(vmstat("hpl_promote_tried_anon"),
		  vmstat("hpl_promote_done_anon"));
}

/* Someone reads where ranges lie, and stops midway. */
TEST_F_TIMEOUT(tiers, reader_of_ranges_keeps_nobody_waiting, TEST_S)
{
	char *mem = buffer_on(self->slow, 16 * MIB), text[512];
	struct range r[2];
	double end = now() + DEADLINE_S;
	ssize_t n;
	int fd;

	ASSERT_NE(mem, NULL);
	if (access(RANGES, F_OK))
		SKIP(return, "no " RANGES);
	while (read_ranges(getpid(), r, 2) < 2 && now() < end)
		touch(mem, HOT_BYTES);
	ASSERT_EQ(read_ranges(getpid(), r, 2), 2);
	fd = open(RANGES, O_RDONLY);
	ASSERT_GE(fd, 0);
	/* All of the header and some of what follows. */
	ASSERT_EQ(read(fd, text, 150), 150);
	EXPECT_TRUE(touch_until_counted(mem, HOT_BYTES, "hpl_epochs", 10));
	/* All that is known is forgotten, and learnt again. */
	EXPECT_EQ(set_knob("enabled", "0"), 0);
	EXPECT_TRUE(threads_end());
	EXPECT_EQ(set_knob("enabled", "1"), 0);
	EXPECT_TRUE(touch_until_counted(mem, HOT_BYTES, "hpl_epochs", 10));
	while ((n = read(fd, text, sizeof(text))) > 0)
		;
	EXPECT_EQ(n, 0);
	EXPECT_EQ(lseek(fd, 0, SEEK_SET), -1);
	close(fd);
}

static int empty_trace(void)
{
	int fd = open(TRACING "trace", O_WRONLY | O_TRUNC);

	return fd < 0 ? fd : close(fd);
}

/* Lines of the trace with the event @name; the first number after @key summed. */
static long traced(const char *name, const char *key, long *sum)
{
	FILE *f = fopen(TRACING "trace", "r");
	char line[512];
	long nr = 0;

	*sum = 0;
	while (f && fgets(line, sizeof(line), f)) {
		char *at = strstr(line, name);

		if (!at)
			continue;
		nr++;
		at = strstr(at, key);
		if (at)
			*sum += atol(at + strlen(key));
	}
	if (f)
		fclose(f);
	return nr;
}

/* Borders of the trace that lie in no range; -1 if there is no border at all. */
static int wrong_borders(void)
{
	FILE *f = fopen(TRACING "trace", "r");
	unsigned long start, end, border;
	int nr = 0, wrong = 0;
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		char *at = strstr(line, " range=[");

		if (!at || sscanf(at, " range=[%lx,%lx) border=%lx", &start,
				  &end, &border) != 3)
			continue;
		nr++;
		wrong += border <= start || border >= end || border % PAGE;
	}
	if (f)
		fclose(f);
	return nr ? wrong : -1;
}

/* Small: ranges of less than 2 MiB merge, larger ones may not. */
#define NR_SPOTS	8
#define SPOT_BYTES	(256UL << 10)

TEST_F_TIMEOUT(tiers, traces_tell_what_is_counted, TEST_S)
{
	const char *events = TRACING "events/tiering_range/enable";
	char *mem = buffer_on(self->slow, NR_SPOTS * SPOT_BYTES * 8);
	double end = now() + DEADLINE_S;
	static const char * const names[] = {
		"hpl_range_split", "hpl_range_merged", "hpl_sample_abit",
	};
	long long before[ARRAY_SIZE(names)];
	size_t i;
	long sum;

	ASSERT_NE(mem, NULL);
	if (access(events, W_OK))
		SKIP(return, "no " TRACING);
	ASSERT_EQ(set_knob("enabled", "0"), 0);
	ASSERT_EQ(set_knob("sample_source", "abit"), 0);
	ASSERT_EQ(write_file(TRACING "buffer_size_kb", "8192"), 0);
	ASSERT_EQ(empty_trace(), 0);
	for (i = 0; i < ARRAY_SIZE(names); i++)
		before[i] = vmstat(names[i]);
	ASSERT_EQ(write_file(events, "1"), 0);
	ASSERT_EQ(set_knob("enabled", "1"), 0);
	/* Ranges split at the borders of hot spots, and merge where they cool down. */
	while (vmstat(names[0]) < before[0] + 2 * NR_SPOTS && now() < end)
		for (i = 0; i < NR_SPOTS; i++)
			touch(mem + i * SPOT_BYTES * 8, SPOT_BYTES);
	EXPECT_GE(vmstat(names[0]), before[0] + 2 * NR_SPOTS);
	EXPECT_TRUE(touch_until_counted(mem, SPOT_BYTES, names[1], NR_SPOTS));
	ASSERT_EQ(set_knob("enabled", "0"), 0);
	EXPECT_EQ(write_file(events, "0"), 0);
	EXPECT_EQ(traced(" hpl_split: ", "pid=", &sum),
		  vmstat(names[0]) - before[0]);
	EXPECT_EQ(traced(" hpl_merge: ", "pid=", &sum),
		  vmstat(names[1]) - before[1]);
	EXPECT_GT(traced(" hpl_sample_abit: ", " pages=", &sum), 0);
	EXPECT_EQ(sum, vmstat(names[2]) - before[2]);
	EXPECT_EQ(wrong_borders(), 0);
	empty_trace();
}

/* What a process may do to its memory while it is looked at and moved. */
static void unrest(int slow)
{
	char *mem = buffer_on(slow, 8 * MIB), *to;
	int status;
	pid_t pid;

	if (!mem)
		_exit(1);
	touch(mem, HOT_BYTES);
	pid = fork();
	if (!pid) {
		memset(mem, 1, 4 * MIB);
		touch(mem, 8 * MIB);
		execl("/bin/true", "true", NULL);
		_exit(3);
	}
	munmap(mem + 2 * MIB, 1 * MIB);
	to = mremap(mem + 4 * MIB, 2 * MIB, 4 * MIB, MREMAP_MAYMOVE);
	if (to == MAP_FAILED)
		_exit(4);
	touch(to, 2 * MIB);
	madvise(mem, 1 * MIB, MADV_DONTNEED);
	mprotect(mem + 7 * MIB, 1 * MIB, PROT_READ);
	if (*(uint64_t *)(to + 8) != ((4 * MIB / 8 + 1) * 0x9e3779b97f4a7c15 ^ 8 * MIB))
		_exit(5);
	if (waitpid(pid, &status, 0) != pid || status)
		_exit(6);
	_exit(0);
}

/* A child that reads all ranges again and again, if there is such a file. */
static pid_t ranges_reader(void)
{
	pid_t pid = fork();
	struct range r;

	if (pid)
		return pid;
	while (getppid() != 1)
		if (read_ranges(-1, &r, 1) == -2)
			_exit(1);
	_exit(0);
}

TEST_F_TIMEOUT(tiers, processes_come_and_go, TEST_S)
{
	long long epochs = vmstat("hpl_epochs");
	double end = now() + DEADLINE_S;
	pid_t reader = ranges_reader();
	unsigned int nr = 0;

	ASSERT_GE(reader, 0);
	while ((vmstat("hpl_epochs") < epochs + 40 || nr < 10) && now() < end) {
		pid_t pid = fork();
		int status;

		ASSERT_GE(pid, 0);
		if (!pid)
			unrest(self->slow);
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		ASSERT_EQ(status, 0);
		nr++;
	}
	EXPECT_GE(nr, 10);
	EXPECT_GE(vmstat("hpl_epochs"), epochs + 40);
	EXPECT_EQ(end_child(reader), 0);
}

/* Pages change places while they are forked, locked, pinned, moved and freed. */
TEST_F_TIMEOUT(tiers, places_change_amid_unrest, TEST_S)
{
	const size_t cold = LARGE_BYTES - 2 * HOT_BYTES;
	long long before = vmstat("hpl_exchanged");
	double end = now() + DEADLINE_S;
	unsigned int i, nr = 0;
	char *mem;

	mem = large_buffer(MADV_NOHUGEPAGE);
	ASSERT_NE(mem, NULL);
	/* Forking all of it would leave no time for anything else. */
	madvise(mem, cold, MADV_DONTFORK);
	for (i = 0; nr < 2 && now() < end; i++) {
		/* Heat goes elsewhere once it has been seen. */
		char *at = mem + LARGE_BYTES - (nr + 1) * HOT_BYTES;
		int status, fd = -1;
		pid_t pid = -1;

		/* Rare enough for most samples to find the memory not shared. */
		if (i % 64 == 0)
			pid = fork();
		if (!pid)
			_exit(wrong_in(mem, cold, LARGE_BYTES, LARGE_BYTES) != 0);
		if (i % 64 == 16)
			mlock(at, HOT_BYTES / 8);
		if (i % 64 == 32)
			fd = pin(at + HOT_BYTES / 4, HOT_BYTES / 8);
		if (i % 64 == 48)
			mprotect(at, HOT_BYTES / 2, PROT_READ);
		touch(at, HOT_BYTES);
		if (i % 64 == 48)
			mprotect(at, HOT_BYTES / 2, PROT_READ | PROT_WRITE);
		if (i % 64 == 16)
			munlock(at, HOT_BYTES / 8);
		if (fd >= 0)
			close(fd);
		if (pid > 0) {
			ASSERT_EQ(waitpid(pid, &status, 0), pid);
			ASSERT_EQ(status, 0);
		}
		nr += share_on(0, at, HOT_BYTES, self->fast, 1) > 0.8;
	}
	EXPECT_EQ(nr, 2);
	EXPECT_GT(vmstat("hpl_exchanged") - before, HOT_PAGES / 2);
	EXPECT_EQ(wrong_words(mem, LARGE_BYTES), 0);
}

/* Killed at the moment when its pages are on the move. */
TEST_F_TIMEOUT(tiers, process_dies_while_it_is_moved, TEST_S)
{
	unsigned int i;

	for (i = 0; i < 5; i++) {
		long long tried = vmstat("hpl_promote_tried_anon");
		double end = now() + DEADLINE_S;
		char *theirs;
		pid_t pid = hot_child(NULL, self->slow, &theirs);

		ASSERT_NE(theirs, NULL);
		while (vmstat("hpl_promote_tried_anon") == tried && now() < end)
			sched_yield();
		EXPECT_GT(vmstat("hpl_promote_tried_anon"), tried);
		EXPECT_EQ(end_child(pid), 0);
	}
}

TEST_F_TIMEOUT(tiers, switched_on_and_off_at_random, TEST_S)
{
	char *mem = buffer_on(self->slow, 16 * MIB);
	unsigned int i;

	ASSERT_NE(mem, NULL);
	for (i = 0; i < 100; i++) {
		ASSERT_EQ(set_knob("enabled", i & 1 ? "1" : "0"), 0);
		touch(mem, HOT_BYTES * (i % 7) / 4 + PAGE);
	}
	ASSERT_EQ(set_knob("enabled", "1"), 0);
	EXPECT_TRUE(touch_until(mem, HOT_BYTES, self->fast, 0.95));
	EXPECT_EQ(wrong_words(mem, 16 * MIB), 0);
	ASSERT_EQ(set_knob("enabled", "0"), 0);
	EXPECT_TRUE(threads_end());
}

TEST_F_TIMEOUT(tiers, knobs_change_while_at_work, TEST_S)
{
	static const char * const values[][2] = {
		{ "epoch_ms", "10" }, { "max_ranges", "16" },
		{ "overhead_permille", "1000" }, { "migrate_mbps", "1" },
		{ "max_ranges", "65536" }, { "epoch_ms", "20" },
		{ "overhead_permille", "10" }, { "migrate_mbps", "1048576" },
		{ "sample_source", "abit" }, { "sample_source", "auto" },
	};
	char *mem = buffer_on(self->slow, 16 * MIB);
	unsigned int i;

	ASSERT_NE(mem, NULL);
	for (i = 0; i < 30; i++) {
		ASSERT_EQ(set_knob(values[i % 10][0], values[i % 10][1]), 0);
		ASSERT_TRUE(touch_until_counted(mem, HOT_BYTES, "hpl_epochs", 2));
	}
	EXPECT_TRUE(touch_until(mem, HOT_BYTES, self->fast, 0.95));
	EXPECT_EQ(wrong_words(mem, 16 * MIB), 0);
}

/* A source that cannot be used is refused, at work or not; and one is in use. */
TEST_F(tiers, sample_source_is_one_that_works)
{
	bool pebs;

	ASSERT_EQ(set_knob("enabled", "0"), 0);
	pebs = !set_knob("sample_source", "pebs");
	EXPECT_STREQ(get_knob("sample_source"),
		     pebs ? "auto [pebs] abit" : "[auto] pebs abit");
	EXPECT_EQ(set_knob("sample_source", "abit"), 0);
	EXPECT_EQ(set_knob("enabled", "1"), 0);
	EXPECT_STREQ(get_knob("sample_source_in_use"), "abit");
	EXPECT_EQ(!set_knob("sample_source", "pebs"), pebs);
	EXPECT_STREQ(get_knob("sample_source_in_use"), pebs ? "pebs" : "abit");
	EXPECT_STREQ(get_knob("sample_source"),
		     pebs ? "auto [pebs] abit" : "auto pebs [abit]");
	EXPECT_STREQ(get_knob("enabled"), "1");
	EXPECT_GT(find_task("khplaced", 0), 0);
	EXPECT_EQ(set_knob("sample_source", "auto"), 0);
	EXPECT_STRNE(get_knob("sample_source_in_use"), "none");
	EXPECT_EQ(set_knob("enabled", "0"), 0);
	EXPECT_STREQ(get_knob("sample_source_in_use"), "none");
	EXPECT_TRUE(threads_end());
}

TEST_F_TIMEOUT(tiers, off_means_off, TEST_S)
{
	char *mem = buffer_on(self->slow, 16 * MIB);
	long long before[NR_COUNTERS];
	double end;
	size_t i;

	ASSERT_NE(mem, NULL);
	ASSERT_TRUE(touch_until_counted(mem, HOT_BYTES, "hpl_epochs", 2));
	ASSERT_EQ(set_knob("enabled", "0"), 0);
	EXPECT_TRUE(threads_end());
	for (i = 0; i < NR_COUNTERS; i++)
		before[i] = vmstat(counters[i]);
	/* Many times an epoch, in which it would have had to show. */
	for (end = now() + 1; now() < end; )
		touch(mem, HOT_BYTES);
	for (i = 0; i < NR_COUNTERS; i++)
		EXPECT_EQ(vmstat(counters[i]), before[i])
			TH_LOG("%s", counters[i]);
}

TEST_F_TIMEOUT(tiers, processors_come_and_go, TEST_S)
{
	const char *cpu = "/sys/devices/system/cpu/cpu1/online";
	char *mem = buffer_on(self->slow, 16 * MIB);
	unsigned int i;

	ASSERT_NE(mem, NULL);
	if (access(cpu, W_OK))
		SKIP(return, "no second processor to take away");
	for (i = 0; i < 6; i++) {
		ASSERT_EQ(write_file(cpu, i & 1 ? "1" : "0"), 0);
		ASSERT_TRUE(touch_until_counted(mem, HOT_BYTES, "hpl_epochs", 4));
	}
	EXPECT_TRUE(touch_until(mem, HOT_BYTES, self->fast, 0.95));
	EXPECT_EQ(wrong_words(mem, 16 * MIB), 0);
}

/* Memory runs out: the greedy one is killed, and placement goes on after. */
TEST_F_TIMEOUT(tiers, memory_runs_out, TEST_S)
{
	char *mem = buffer_on(self->slow, 16 * MIB);
	int status;
	pid_t pid;

	ASSERT_NE(mem, NULL);
	pid = fork();
	if (!pid) {
		write_file("/proc/self/oom_score_adj", "1000");
		while (1) {
			char *more = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE,
					  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

			if (more == MAP_FAILED)
				_exit(1);
			memset(more, 1, 4 * MIB);
			touch(mem, HOT_BYTES);
		}
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	EXPECT_TRUE(touch_until(mem, HOT_BYTES, self->fast, 0.95));
	EXPECT_EQ(wrong_words(mem, 16 * MIB), 0);
}

/*
 * Have allocations of HPlacement's threads fail: so many percent, if they are of
 * 2^@min_order pages or more.
 */
static int fail_allocations(const char *percent, const char *min_order)
{
	static const char * const kinds[] = { "failslab", "fail_page_alloc" };
	const char * const settings[][2] = {
		{ "task-filter", "Y" }, { "ignore-gfp-wait", "N" },
		{ "ignore-gfp-highmem", "N" }, { "verbose", "0" },
		{ "interval", "1" }, { "times", "-1" },
		{ "min-order", min_order }, { "probability", percent },
	};
	char path[128];
	size_t i, j;
	int pid;

	for (pid = find_task("khpl", 0); pid; pid = find_task("khpl", pid)) {
		snprintf(path, sizeof(path), "/proc/%d/make-it-fail", pid);
		if (write_file(path, "1"))
			return -1;
	}
	/* Slabs know no order. */
	for (i = !!strcmp(min_order, "0"); i < 2; i++) {
		for (j = 0; j < 8; j++) {
			snprintf(path, sizeof(path), DEBUGFS "%s/%s", kinds[i],
				 settings[j][0]);
			write_file(path, settings[j][1]);
		}
	}
	return 0;
}

TEST_F_TIMEOUT(tiers, allocations_fail, TEST_S)
{
	char *mem = buffer_on(self->slow, 16 * MIB);

	ASSERT_NE(mem, NULL);
	if (access(DEBUGFS "failslab/probability", W_OK))
		SKIP(return, "no fault injection");
	ASSERT_EQ(fail_allocations("50", "0"), 0);
	EXPECT_TRUE(touch_until_counted(mem, HOT_BYTES, "hpl_epochs", 40));
	ASSERT_EQ(fail_allocations("0", "0"), 0);
	EXPECT_TRUE(touch_until(mem, HOT_BYTES, self->fast, 0.95));
	EXPECT_EQ(wrong_words(mem, 16 * MIB), 0);
}

/* Where there is no free huge page, it is split and moved in pieces. */
TEST_F_TIMEOUT(tiers, huge_page_is_split_if_need_be, TEST_S)
{
	long long before = vmstat("thp_migration_split");
	char *mem, *warm = buffer_on(self->slow, HOT_BYTES);

	ASSERT_NE(warm, NULL);
	if (access(DEBUGFS "fail_page_alloc/probability", W_OK))
		SKIP(return, "no fault injection");
	/* The thread that moves pages is there once it has moved some. */
	EXPECT_TRUE(touch_until(warm, HOT_BYTES, self->fast, 0.95));
	ASSERT_EQ(fail_allocations("100", "9"), 0);
	mem = huge_on(self->slow);
	ASSERT_NE(mem, NULL);
	if (huge_kb() < 2048)
		SKIP(return, "no huge page");
	EXPECT_TRUE(touch_until(mem, 2 * MIB, self->fast, 0.95));
	ASSERT_EQ(fail_allocations("0", "9"), 0);
	EXPECT_GT(vmstat("thp_migration_split"), before);
	EXPECT_EQ(wrong_words(mem, 2 * MIB), 0);
}

TEST_HARNESS_MAIN
