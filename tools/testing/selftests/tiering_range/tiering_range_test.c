// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: tests in a running kernel
 *
 * Needs root, a node with CPUs (the fast tier) and one without (the slow one).
 * Where a test waits, it goes on accessing memory until what it waits for is
 * seen in /proc/vmstat or by move_pages(2), or a deadline has passed.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../kselftest_harness.h"

/* The names of the counters are those of the kernel's own list. */
#define CONFIG_HPLACEMENT
#include "../../../../include/linux/tiering_range.h"
#include "../../../../include/uapi/linux/tiering_range.h"

#define KNOBS		"/sys/kernel/mm/hplacement/"
#define CGROUP		"/sys/fs/cgroup"
#define DEBUGFS		"/sys/kernel/debug/"
#define PAGE		4096UL
#define MIB		(1UL << 20)
#define WORDS		(PAGE / sizeof(uint64_t))

/* Small enough to stay hot on an emulated CPU of a kernel full of checks. */
#define HOT_BYTES	(2 * MIB)
#define HOT_PAGES	(HOT_BYTES / PAGE)

/* Guest time after which what was waited for will not come. */
#define DEADLINE_S	120
#define TEST_S		400

static const char * const counters[] = {
	HPL_VM_EVENTS(HPL_VM_EVENT_TEXT)
};

#define NR_COUNTERS	ARRAY_SIZE(counters)

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* Returns 0 or a negative error. */
static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);
	return err;
}

static int read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, buf, size - 1);
	close(fd);
	if (n < 0)
		return -errno;
	buf[n] = 0;
	buf[strcspn(buf, "\n")] = 0;
	return 0;
}

static int set_knob(const char *name, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), KNOBS "%s", name);
	return write_file(path, value);
}

static const char *get_knob(const char *name)
{
	static char value[64];
	char path[128];

	snprintf(path, sizeof(path), KNOBS "%s", name);
	return read_file(path, value, sizeof(value)) ? "" : value;
}

/* A counter of /proc/vmstat, -1 if there is none of this name. */
static long long vmstat(const char *name)
{
	long long value, found = -1;
	FILE *f = fopen("/proc/vmstat", "r");
	char word[64];

	while (f && fscanf(f, "%63s %lld", word, &value) == 2)
		if (!strcmp(word, name))
			found = value;
	if (f)
		fclose(f);
	return found;
}

static int first_node(const char *file)
{
	char buf[64], path[128];

	snprintf(path, sizeof(path), "/sys/devices/system/node/%s", file);
	if (read_file(path, buf, sizeof(buf)) || !*buf)
		return -1;
	return atoi(buf);
}

static int fast_node(void)
{
	return first_node("has_cpu");
}

/* A node with memory and no CPUs, -1 for none. */
static int slow_node(void)
{
	char path[64], buf[64];
	int n;

	for (n = 0; n < 64; n++) {
		snprintf(path, sizeof(path),
			 "/sys/devices/system/node/node%d/cpulist", n);
		if (!read_file(path, buf, sizeof(buf)) && !*buf)
			return n;
	}
	return -1;
}

static void policy(int mode, int node)
{
	unsigned long mask = node < 0 ? 0 : 1UL << node;

	syscall(SYS_set_mempolicy, mode, node < 0 ? NULL : &mask, 64);
}

/* Share of the pages of @pid on @node, every @stride-th looked at. */
static double share_on(int pid, char *mem, size_t bytes, int node,
		       size_t stride)
{
	size_t nr = bytes / PAGE / stride, i, there = 0;
	void **pages = calloc(nr, sizeof(*pages));
	int *status = calloc(nr, sizeof(*status));

	for (i = 0; i < nr; i++)
		pages[i] = mem + i * stride * PAGE;
	if (!syscall(SYS_move_pages, pid, nr, pages, NULL, status, 0))
		for (i = 0; i < nr; i++)
			there += status[i] == node;
	free(pages);
	free(status);
	return (double)there / nr;
}

/* Each word of a buffer knows its place. */
static void fill(char *mem, size_t bytes)
{
	uint64_t *word = (uint64_t *)mem;
	size_t i;

	for (i = 0; i < bytes / sizeof(*word); i++)
		word[i] = i * 0x9e3779b97f4a7c15 ^ bytes;
}

/* In [from, to) of a buffer of @bytes. */
static size_t wrong_in(const char *mem, size_t from, size_t to, size_t bytes)
{
	const uint64_t *word = (const uint64_t *)mem;
	size_t i, wrong = 0;

	for (i = from / sizeof(*word); i < to / sizeof(*word); i++)
		wrong += word[i] != (i * 0x9e3779b97f4a7c15 ^ bytes);
	return wrong;
}

static size_t wrong_words(const char *mem, size_t bytes)
{
	return wrong_in(mem, 0, bytes, bytes);
}

/* Fill @mem, of which no page is there yet, with pages of @node. */
static char *fill_on(int node, char *mem, size_t bytes)
{
	if (mem == MAP_FAILED)
		return NULL;
	policy(MPOL_BIND, node);
	fill(mem, bytes);
	policy(MPOL_DEFAULT, -1);
	return mem;
}

/* Move what is at @mem to @node, and bind it to nothing. */
static int mbind_to(char *mem, size_t bytes, int node)
{
	unsigned long mask = 1UL << node;
	int err = syscall(SYS_mbind, mem, bytes, MPOL_BIND, &mask, 64,
			  MPOL_MF_MOVE | MPOL_MF_STRICT);

	return err ?: syscall(SYS_mbind, mem, bytes, MPOL_DEFAULT, NULL, 0, 0);
}

/* A filled buffer on @node, bound to nothing. */
static char *buffer_on(int node, size_t bytes)
{
	char *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem != MAP_FAILED)
		madvise(mem, bytes, MADV_NOHUGEPAGE);
	return fill_on(node, mem, bytes);
}

/* A mapping of a new file in memory. */
static char *map_memfd(size_t bytes)
{
	int fd = memfd_create("hpl", 0);
	char *mem = MAP_FAILED;

	if (fd >= 0 && !ftruncate(fd, bytes))
		mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return mem;
}

/* Read each page of a buffer a few times: keeps it hot, changes nothing. */
static void touch(const char *mem, size_t bytes)
{
	size_t pass, at;

	for (pass = 0; pass < 20; pass++)
		for (at = 0; at < bytes; at += PAGE)
			(void)*(const volatile char *)(mem + at +
						       pass * 64 % PAGE);
}

/* Keep a buffer hot until @goal of it is on @node; false if that never comes. */
static bool touch_until(char *mem, size_t bytes, int node, double goal)
{
	double end = now() + DEADLINE_S, share = 0;

	while (now() < end) {
		touch(mem, bytes);
		share = share_on(0, mem, bytes, node, 1);
		if (share >= goal)
			return true;
	}
	ksft_print_msg("share on node %d: %.3f after %d s, goal %.3f\n", node,
		       share, DEADLINE_S, goal);
	return false;
}

/* Keep a buffer hot until a counter has grown by @by. */
static bool touch_until_counted(char *mem, size_t bytes, const char *name,
				long long by)
{
	long long goal = vmstat(name) + by;
	double end = now() + DEADLINE_S;

	while (now() < end) {
		touch(mem, bytes);
		if (vmstat(name) >= goal)
			return true;
	}
	ksft_print_msg("%s: %lld after %d s, goal %lld\n", name, vmstat(name),
		       DEADLINE_S, goal);
	return false;
}

/* The id of the first task whose name starts with @name, 0 for none. */
static int find_task(const char *name, int after)
{
	DIR *dir = opendir("/proc");
	struct dirent *d;
	int found = 0;

	while (dir && (d = readdir(dir))) {
		char path[300], comm[64];
		int pid = atoi(d->d_name);

		if (pid <= after || (found && pid > found))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/comm", pid);
		if (!read_file(path, comm, sizeof(comm)) &&
		    !strncmp(comm, name, strlen(name)))
			found = pid;
	}
	if (dir)
		closedir(dir);
	return found;
}

/* A thread that has ended is in /proc until it has been reaped. */
static bool threads_end(void)
{
	double end = now() + DEADLINE_S;

	while (find_task("khpl", 0) && now() < end)
		sched_yield();
	return !find_task("khpl", 0);
}

static void defaults(void)
{
	set_knob("enabled", "0");
	set_knob("epoch_ms", "100");
	set_knob("overhead_permille", "10");
	set_knob("migrate_mbps", "256");
	set_knob("max_ranges", "1024");
	set_knob("migrate_method", "migrate");
	set_knob("sample_source", "auto");
}

/* Tests of the files, which need no tiers. */
FIXTURE(files) {
	int unused;
};

FIXTURE_SETUP(files)
{
	(void)self;
	if (access(KNOBS, F_OK))
		SKIP(return, "no " KNOBS ": a kernel without HPLACEMENT");
	if (geteuid())
		SKIP(return, "must be run as root");
	defaults();
}

FIXTURE_TEARDOWN(files)
{
	(void)self;
	defaults();
}

TEST_F(files, belong_to_root_alone)
{
	static const struct {
		const char *name;
		unsigned int mode;
	} files[] = {
		{ "enabled", 0600 }, { "sample_source", 0600 },
		{ "sample_source_in_use", 0400 }, { "epoch_ms", 0600 },
		{ "overhead_permille", 0600 }, { "migrate_mbps", 0600 },
		{ "max_ranges", 0600 }, { "migrate_method", 0600 },
	};
	struct dirent *d;
	unsigned int nr = 0;
	DIR *dir;
	size_t i;
	pid_t pid;
	int status;

	for (i = 0; i < ARRAY_SIZE(files); i++) {
		char path[128];
		struct stat st;

		snprintf(path, sizeof(path), KNOBS "%s", files[i].name);
		ASSERT_EQ(stat(path, &st), 0) TH_LOG("%s", path);
		EXPECT_EQ(st.st_mode & 07777, files[i].mode) TH_LOG("%s", path);
		EXPECT_EQ(st.st_uid, 0);
	}
	dir = opendir(KNOBS);
	ASSERT_NE(dir, NULL);
	while ((d = readdir(dir)))
		nr += d->d_name[0] != '.';
	closedir(dir);
	EXPECT_EQ(nr, ARRAY_SIZE(files));

	pid = fork();
	if (!pid) {
		if (setuid(65534))
			_exit(2);
		_exit(set_knob("enabled", "1") == -EACCES ? 0 : 1);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_STREQ(get_knob("enabled"), "0");
}

TEST_F(files, accept_their_bounds_only)
{
	static const struct {
		const char *name, *low, *high, *below, *above;
	} knobs[] = {
		{ "epoch_ms", "10", "60000", "9", "60001" },
		{ "overhead_permille", "1", "1000", "0", "1001" },
		{ "migrate_mbps", "1", "1048576", "0", "1048577" },
		{ "max_ranges", "16", "65536", "15", "65537" },
	};
	static const char * const nonsense[] = { "abc", " ", "-1", "1 2", "1.5",
						 "10x" };
	size_t i, j;

	for (i = 0; i < ARRAY_SIZE(knobs); i++) {
		const char *name = knobs[i].name;

		EXPECT_EQ(set_knob(name, knobs[i].low), 0) TH_LOG("%s", name);
		EXPECT_STREQ(get_knob(name), knobs[i].low);
		EXPECT_EQ(set_knob(name, knobs[i].below), -ERANGE);
		EXPECT_EQ(set_knob(name, knobs[i].high), 0);
		EXPECT_STREQ(get_knob(name), knobs[i].high);
		EXPECT_EQ(set_knob(name, knobs[i].above), -ERANGE);
		EXPECT_EQ(set_knob(name, "4294967296"), -ERANGE);
		EXPECT_EQ(set_knob(name, "99999999999999999999"), -ERANGE);
		for (j = 0; j < ARRAY_SIZE(nonsense); j++)
			EXPECT_EQ(set_knob(name, nonsense[j]), -EINVAL)
				TH_LOG("%s '%s'", name, nonsense[j]);
		EXPECT_STREQ(get_knob(name), knobs[i].high);
	}
}

TEST_F(files, enabled_is_a_switch)
{
	EXPECT_EQ(set_knob("enabled", "2"), -EINVAL);
	EXPECT_EQ(set_knob("enabled", "x"), -EINVAL);
	EXPECT_STREQ(get_knob("enabled"), "0");
	EXPECT_EQ(find_task("khplaced", 0), 0);
	EXPECT_EQ(set_knob("enabled", "1"), 0);
	EXPECT_EQ(set_knob("enabled", "1"), 0);
	EXPECT_STREQ(get_knob("enabled"), "1");
	EXPECT_GT(find_task("khplaced", 0), 0);
	EXPECT_EQ(set_knob("enabled", "0"), 0);
	EXPECT_EQ(set_knob("enabled", "0"), 0);
	EXPECT_STREQ(get_knob("enabled"), "0");
	EXPECT_TRUE(threads_end());
}

TEST_F(files, sample_source_is_one_of_the_known)
{
	static const char * const nonsense[] = { "[abit]", "ibs", "abit pebs" };
	size_t i;

	EXPECT_STREQ(get_knob("sample_source"), "[auto] pebs abit");
	EXPECT_EQ(set_knob("sample_source", "abit"), 0);
	EXPECT_STREQ(get_knob("sample_source"), "auto pebs [abit]");
	EXPECT_STREQ(get_knob("sample_source_in_use"), "none");
	for (i = 0; i < ARRAY_SIZE(nonsense); i++)
		EXPECT_EQ(set_knob("sample_source", nonsense[i]), -EINVAL)
			TH_LOG("'%s'", nonsense[i]);
	EXPECT_STREQ(get_knob("sample_source"), "auto pebs [abit]");
}

TEST_F(files, migrate_method_is_one_of_two)
{
	EXPECT_STREQ(get_knob("migrate_method"), "[migrate] exchange");
	EXPECT_EQ(set_knob("migrate_method", "exchange"), 0);
	EXPECT_STREQ(get_knob("migrate_method"), "migrate [exchange]");
	EXPECT_EQ(set_knob("migrate_method", "copy"), -EINVAL);
	EXPECT_EQ(set_knob("migrate_method", "[migrate]"), -EINVAL);
	EXPECT_STREQ(get_knob("migrate_method"), "migrate [exchange]");
}

/* How a process is treated whose program was executed by one that has set it. */
static int executed(unsigned long how)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_HPLACEMENT, how, 0, 0, 0);
		setenv("HPL_TELL", "1", 1);
		execl("/proc/self/exe", "tell", NULL);
		_exit(100);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

static __attribute__((constructor)) void tell(void)
{
	if (getenv("HPL_TELL"))
		_exit(prctl(PR_GET_HPLACEMENT, 0, 0, 0, 0));
}

TEST_F(files, a_process_may_opt_out)
{
	EXPECT_EQ(prctl(PR_GET_HPLACEMENT, 0, 0, 0, 0), PR_HPLACEMENT_MANAGE);
	EXPECT_EQ(prctl(PR_SET_HPLACEMENT, 2, 0, 0, 0), -1);
	EXPECT_EQ(prctl(PR_SET_HPLACEMENT, PR_HPLACEMENT_LEAVE, 1, 0, 0), -1);
	EXPECT_EQ(prctl(PR_SET_HPLACEMENT, PR_HPLACEMENT_LEAVE, 0, 0, 1), -1);
	EXPECT_EQ(prctl(PR_GET_HPLACEMENT, 1, 0, 0, 0), -1);
	EXPECT_EQ(prctl(PR_GET_HPLACEMENT + 1, 0, 0, 0, 0), -1);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_EQ(prctl(PR_GET_HPLACEMENT, 0, 0, 0, 0), PR_HPLACEMENT_MANAGE);
	EXPECT_EQ(prctl(PR_SET_HPLACEMENT, PR_HPLACEMENT_LEAVE, 0, 0, 0), 0);
	EXPECT_EQ(prctl(PR_GET_HPLACEMENT, 0, 0, 0, 0), PR_HPLACEMENT_LEAVE);
	EXPECT_EQ(executed(PR_HPLACEMENT_LEAVE), PR_HPLACEMENT_LEAVE);
	EXPECT_EQ(executed(PR_HPLACEMENT_MANAGE), PR_HPLACEMENT_MANAGE);
	EXPECT_EQ(prctl(PR_SET_HPLACEMENT, PR_HPLACEMENT_MANAGE, 0, 0, 0), 0);
	EXPECT_EQ(prctl(PR_GET_HPLACEMENT, 0, 0, 0, 0), PR_HPLACEMENT_MANAGE);
}

TEST_F(files, vmstat_has_just_the_counters_of_the_header)
{
	FILE *f = fopen("/proc/vmstat", "r");
	unsigned int nr = 0;
	long long value;
	char word[64];
	size_t i;

	ASSERT_NE(f, NULL);
	while (fscanf(f, "%63s %lld", word, &value) == 2)
		nr += !strncmp(word, "hpl_", 4);
	fclose(f);
	EXPECT_EQ(nr, NR_COUNTERS);
	for (i = 0; i < NR_COUNTERS; i++)
		EXPECT_GE(vmstat(counters[i]), 0) TH_LOG("%s", counters[i]);
}

/* Tests of placement, which need a fast and a slow node. */
FIXTURE(tiers) {
	int fast;
	int slow;
};

FIXTURE_SETUP(tiers)
{
	if (access(KNOBS, F_OK))
		SKIP(return, "no " KNOBS ": a kernel without HPLACEMENT");
	if (geteuid())
		SKIP(return, "must be run as root");
	self->fast = fast_node();
	self->slow = slow_node();
	if (self->fast < 0 || self->slow < 0)
		SKIP(return, "no node without CPUs: one memory tier only");
	defaults();
	/*
	 * Quick decisions, and a budget that gives samples enough on an
	 * emulated CPU too, which may be a hundred times slower.
	 */
	set_knob("epoch_ms", "50");
	set_knob("overhead_permille", "300");
	ASSERT_EQ(set_knob("enabled", "1"), 0);
}

FIXTURE_TEARDOWN(tiers)
{
	(void)self;
	defaults();
}

TEST_F_TIMEOUT(tiers, hot_memory_is_promoted_unharmed, TEST_S)
{
	long long before = vmstat("hpl_promote_done_anon");
	char *mem = buffer_on(self->slow, 64 * MIB);
	char *hot = mem + 40 * MIB;

	ASSERT_NE(mem, NULL);
	ASSERT_EQ(share_on(0, mem, 64 * MIB, self->slow, 1), 1);
	EXPECT_TRUE(touch_until(hot, HOT_BYTES, self->fast, 0.95));
	EXPECT_GE(vmstat("hpl_promote_done_anon") - before,
		  (long long)(HOT_PAGES * 9 / 10));
	/* Most of what was not touched has stayed. */
	EXPECT_GT(share_on(0, mem, 64 * MIB, self->slow, 1), 0.5);
	EXPECT_EQ(wrong_words(mem, 64 * MIB), 0);
}

/* More than the fast node has, so that the end of it lies on the slow one. */
#define LARGE_BYTES	(384 * MIB)

/* A filled buffer of LARGE_BYTES, of huge pages or none. */
static char *large_buffer(int advice)
{
	char *mem = mmap(NULL, LARGE_BYTES + 2 * MIB, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		return NULL;
	mem = (char *)(((uintptr_t)mem + 2 * MIB - 1) & ~(2 * MIB - 1));
	madvise(mem, LARGE_BYTES, advice);
	fill(mem, LARGE_BYTES);
	return mem;
}

TEST_F_TIMEOUT(tiers, cold_memory_makes_room, TEST_S)
{
	long long before = vmstat("hpl_demote_done_anon");
	const size_t bytes = LARGE_BYTES;
	char *mem = large_buffer(MADV_NOHUGEPAGE), *hot;

	ASSERT_NE(mem, NULL);
	hot = mem + bytes - HOT_BYTES;
	if (share_on(0, hot, HOT_BYTES, self->slow, 1) < 0.9)
		SKIP(return, "fast node too large to be filled");
	EXPECT_TRUE(touch_until(hot, HOT_BYTES, self->fast, 0.95));
	EXPECT_GT(vmstat("hpl_demote_done_anon"), before);
	EXPECT_EQ(wrong_words(mem, bytes), 0);
}

TEST_F_TIMEOUT(tiers, hot_and_cold_change_places, TEST_S)
{
	long long before = vmstat("hpl_exchanged");
	char *mem, *hot;

	ASSERT_EQ(set_knob("migrate_method", "exchange"), 0);
	mem = large_buffer(MADV_NOHUGEPAGE);
	ASSERT_NE(mem, NULL);
	hot = mem + LARGE_BYTES - HOT_BYTES;
	if (share_on(0, hot, HOT_BYTES, self->slow, 1) < 0.9)
		SKIP(return, "fast node too large to be filled");
	EXPECT_TRUE(touch_until(hot, HOT_BYTES, self->fast, 0.95));
	EXPECT_GT(vmstat("hpl_exchanged") - before, HOT_PAGES / 4);
	EXPECT_EQ(wrong_words(mem, LARGE_BYTES), 0);
}

/* They are not exchanged, but migrated all the same. */
TEST_F_TIMEOUT(tiers, huge_pages_move_instead_of_exchange, TEST_S)
{
	char *mem, *hot;

	ASSERT_EQ(set_knob("migrate_method", "exchange"), 0);
	mem = large_buffer(MADV_HUGEPAGE);
	ASSERT_NE(mem, NULL);
	hot = mem + LARGE_BYTES - 2 * HOT_BYTES;
	if (share_on(0, hot, 2 * HOT_BYTES, self->slow, 1) < 0.9)
		SKIP(return, "fast node too large to be filled");
	EXPECT_TRUE(touch_until(hot, 2 * HOT_BYTES, self->fast, 1));
	EXPECT_EQ(wrong_words(mem, LARGE_BYTES), 0);
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

/* Pin a buffer as io_uring does for registered ones; returns its fd. */
static int pin(char *mem, size_t bytes)
{
	struct io_uring_params params = {};
	struct iovec iov = { mem, bytes };
	int fd = syscall(SYS_io_uring_setup, 1, &params);

	if (fd >= 0 && syscall(SYS_io_uring_register, fd,
			       IORING_REGISTER_BUFFERS, &iov, 1)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* AnonHugePages of all of this process, in kB. */
static long huge_kb(void)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "r");
	char line[256];
	long kb = -1;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "AnonHugePages: %ld", &kb) == 1)
			break;
	if (f)
		fclose(f);
	return kb;
}

/* A huge page on @node. */
static char *huge_on(int node)
{
	char *mem = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		return NULL;
	mem = (char *)(((uintptr_t)mem + 2 * MIB - 1) & ~(2 * MIB - 1));
	madvise(mem, 2 * MIB, MADV_HUGEPAGE);
	return fill_on(node, mem, 2 * MIB);
}

TEST_F_TIMEOUT(tiers, huge_page_moves_whole, TEST_S)
{
	long long before = vmstat("hpl_promote_done_anon");
	char *mem = huge_on(self->slow);

	ASSERT_NE(mem, NULL);
	if (huge_kb() < 2048)
		SKIP(return, "no huge page");
	ASSERT_EQ(share_on(0, mem, 2 * MIB, self->slow, 1), 1);
	EXPECT_TRUE(touch_until(mem, 2 * MIB, self->fast, 1));
	EXPECT_GE(huge_kb(), 2048);
	EXPECT_GE(vmstat("hpl_promote_done_anon") - before, 512);
	EXPECT_EQ(wrong_words(mem, 2 * MIB), 0);
}

/* A memfd's pages lie on the LRU lists of anonymous memory. */
TEST_F_TIMEOUT(tiers, shared_memory_of_one_process_moves, TEST_S)
{
	long long before = vmstat("hpl_promote_done_file");
	char *mem = fill_on(self->slow, map_memfd(HOT_BYTES), HOT_BYTES);

	ASSERT_NE(mem, NULL);
	ASSERT_EQ(share_on(0, mem, HOT_BYTES, self->slow, 1), 1);
	EXPECT_TRUE(touch_until(mem, HOT_BYTES, self->fast, 0.95));
	EXPECT_GE(vmstat("hpl_promote_done_file") - before, HOT_PAGES * 95 / 100);
	EXPECT_EQ(wrong_words(mem, HOT_BYTES), 0);
}

/* A disk's pages, some of them dirty, lie on the LRU lists of files. */
TEST_F_TIMEOUT(tiers, page_cache_moves, TEST_S)
{
	long long before = vmstat("hpl_promote_done_file");
	int fd = open("/dev/vda", O_RDWR);
	char *mem;

	if (fd < 0)
		SKIP(return, "no disk /dev/vda");
	mem = fill_on(self->slow, mmap(NULL, HOT_BYTES, PROT_READ | PROT_WRITE,
				       MAP_SHARED, fd, 0), HOT_BYTES);
	ASSERT_NE(mem, NULL);
	ASSERT_GE(share_on(0, mem, HOT_BYTES, self->slow, 1), 0.95);
	EXPECT_TRUE(touch_until(mem, HOT_BYTES, self->fast, 0.95));
	EXPECT_GT(vmstat("hpl_promote_done_file"), before);
	EXPECT_EQ(wrong_words(mem, HOT_BYTES), 0);
	close(fd);
}

/*
 * As hot as a buffer that is promoted meanwhile, and yet left alone: what its
 * owner has bound, locked or pinned, and what is mapped twice.
 */
TEST_F_TIMEOUT(tiers, what_must_stay_stays, TEST_S)
{
	unsigned long slow = 1UL << self->slow, both = slow | 1UL << self->fast;
	enum { FREE, BOUND, PREFERRED, SPREAD, LOCKED, PINNED, HUGE, FILE_BOUND,
	       TWICE, NR };
	static const char * const kinds[] = {
		"free", "bound", "preferred", "interleaved", "locked", "pinned",
		"pinned huge page", "bound file", "mapped twice",
	};
	const size_t bytes = 1 * MIB;
	char *mem[NR], *twin;
	int i, fd, fd_huge;
	double end;

	for (i = 0; i < NR; i++) {
		if (i == HUGE)
			mem[i] = huge_on(self->slow);
		else if (i < HUGE)
			mem[i] = buffer_on(self->slow, bytes);
		else
			mem[i] = fill_on(self->slow, map_memfd(bytes), bytes);
		ASSERT_NE(mem[i], NULL);
	}
	twin = mremap(mem[TWICE], 0, bytes, MREMAP_MAYMOVE);
	ASSERT_NE(twin, MAP_FAILED);
	touch(twin, bytes);
	/* By another mapping, and half of it: a policy of the file's pages only. */
	twin = mremap(mem[FILE_BOUND], 0, bytes, MREMAP_MAYMOVE);
	ASSERT_NE(twin, MAP_FAILED);
	ASSERT_EQ(syscall(SYS_mbind, twin + bytes / 2, bytes / 2, MPOL_BIND,
			  &slow, 64, 0), 0);
	ASSERT_EQ(munmap(twin, bytes), 0);
	ASSERT_EQ(syscall(SYS_mbind, mem[BOUND], bytes, MPOL_BIND, &slow, 64, 0), 0);
	ASSERT_EQ(syscall(SYS_mbind, mem[PREFERRED], bytes, MPOL_PREFERRED,
			  &slow, 64, 0), 0);
	ASSERT_EQ(syscall(SYS_mbind, mem[SPREAD], bytes, MPOL_INTERLEAVE, &both,
			  64, 0), 0);
	ASSERT_EQ(mlock(mem[LOCKED], bytes), 0);
	fd = pin(mem[PINNED], bytes);
	ASSERT_GE(fd, 0) TH_LOG("io_uring: %s", strerror(errno));
	fd_huge = pin(mem[HUGE], 2 * MIB);
	ASSERT_GE(fd_huge, 0);
	for (i = 0; i < NR; i++)
		ASSERT_EQ(share_on(0, mem[i], bytes, self->slow, 1), 1)
			TH_LOG("%s", kinds[i]);

	for (end = now() + DEADLINE_S; now() < end; ) {
		for (i = 0; i < NR; i++)
			touch(mem[i], bytes);
		if (share_on(0, mem[FREE], bytes, self->fast, 1) > 0.95 &&
		    vmstat("hpl_promote_failed_pinned") > 0)
			break;
	}
	EXPECT_GT(share_on(0, mem[FREE], bytes, self->fast, 1), 0.95);
	EXPECT_GT(vmstat("hpl_promote_failed_pinned"), 0);
	for (i = BOUND; i < NR; i++) {
		size_t from = i == FILE_BOUND ? bytes / 2 : 0;

		EXPECT_EQ(share_on(0, mem[i] + from, bytes - from, self->slow, 1), 1)
			TH_LOG("%s", kinds[i]);
		EXPECT_EQ(wrong_words(mem[i], i == HUGE ? 2 * MIB : bytes), 0);
	}
	EXPECT_GE(huge_kb(), 2048);
	close(fd_huge);
	close(fd);
}

/* A preference that its owner has declared to be for a start. */
TEST_F_TIMEOUT(tiers, preference_may_yield, TEST_S)
{
	const int yields = MPOL_PREFERRED | MPOL_F_NUMA_BALANCING;
	char *mem = buffer_on(self->slow, HOT_BYTES);
	unsigned long slow = 1UL << self->slow, none = 0;

	ASSERT_NE(mem, NULL);
	EXPECT_NE(syscall(SYS_mbind, mem, HOT_BYTES, yields, &none, 64, 0), 0);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_NE(syscall(SYS_set_mempolicy,
			  MPOL_LOCAL | MPOL_F_NUMA_BALANCING, NULL, 0), 0);
	EXPECT_EQ(errno, EINVAL);
	ASSERT_EQ(syscall(SYS_mbind, mem, HOT_BYTES, yields, &slow, 64, 0), 0);
	EXPECT_TRUE(touch_until(mem, HOT_BYTES, self->fast, 0.95));
	EXPECT_EQ(wrong_words(mem, HOT_BYTES), 0);
}

/* So it does to NUMA balancing, which leaves what does not yield. */
TEST_F_TIMEOUT(tiers, preference_may_yield_to_numa_balancing, TEST_S)
{
	const int yields = MPOL_PREFERRED | MPOL_F_NUMA_BALANCING;
	const char *knob = "/proc/sys/kernel/numa_balancing";
	char *mem = buffer_on(self->slow, HOT_BYTES);
	char *stays = buffer_on(self->slow, HOT_BYTES), was[16];
	unsigned long slow = 1UL << self->slow;
	double end = now() + DEADLINE_S;

	ASSERT_NE(mem, NULL);
	ASSERT_NE(stays, NULL);
	set_knob("enabled", "0");
	if (read_file(knob, was, sizeof(was)) || write_file(knob, "2"))
		SKIP(return, "no NUMA balancing");
	EXPECT_EQ(syscall(SYS_mbind, mem, HOT_BYTES, yields, &slow, 64, 0), 0);
	EXPECT_EQ(syscall(SYS_mbind, stays, HOT_BYTES, MPOL_PREFERRED, &slow, 64,
			  0), 0);
	while (share_on(0, mem, HOT_BYTES, self->fast, 1) < 0.5 && now() < end) {
		touch(mem, HOT_BYTES);
		touch(stays, HOT_BYTES);
	}
	EXPECT_GE(share_on(0, mem, HOT_BYTES, self->fast, 1), 0.5);
	EXPECT_EQ(share_on(0, stays, HOT_BYTES, self->slow, 1), 1);
	write_file(knob, was);
}

TEST_F_TIMEOUT(tiers, merged_pages_stay, TEST_S)
{
	char *free_mem = buffer_on(self->slow, HOT_BYTES);
	char *mem = buffer_on(self->slow, HOT_BYTES), buf[32];
	double end = now() + DEADLINE_S;

	ASSERT_NE(mem, NULL);
	if (access("/sys/kernel/mm/ksm/run", W_OK))
		SKIP(return, "no KSM");
	memset(mem, 0x5a, HOT_BYTES);
	ASSERT_EQ(madvise(mem, HOT_BYTES, MADV_MERGEABLE), 0);
	write_file("/sys/kernel/mm/ksm/pages_to_scan", "20000");
	set_knob("enabled", "0");
	ASSERT_EQ(write_file("/sys/kernel/mm/ksm/run", "1"), 0);
	do {
		touch(mem, HOT_BYTES);
		read_file("/sys/kernel/mm/ksm/pages_sharing", buf, sizeof(buf));
	} while (strtoul(buf, NULL, 10) < HOT_PAGES / 2 && now() < end);
	EXPECT_GE(strtoul(buf, NULL, 10), HOT_PAGES / 2);
	set_knob("enabled", "1");
	for (end = now() + DEADLINE_S; now() < end; ) {
		touch(mem, HOT_BYTES);
		touch(free_mem, HOT_BYTES);
		if (share_on(0, free_mem, HOT_BYTES, self->fast, 1) > 0.95)
			break;
	}
	EXPECT_GT(share_on(0, free_mem, HOT_BYTES, self->fast, 1), 0.95);
	EXPECT_EQ(share_on(0, mem, HOT_BYTES, self->slow, 1), 1);
	EXPECT_EQ(mem[12345], 0x5a);
	write_file("/sys/kernel/mm/ksm/run", "2");
}

/* A child that has a filled hot buffer on the slow node; tells where by a pipe. */
static pid_t hot_child(const char *group, int slow, char **where)
{
	int pipes[2];
	pid_t pid;

	if (pipe(pipes))
		return -1;
	pid = fork();
	if (!pid) {
		char path[256], *mem = NULL;

		snprintf(path, sizeof(path), "%s/cgroup.procs", group);
		if (!group || !write_file(path, "0"))
			mem = buffer_on(slow, HOT_BYTES);
		if (write(pipes[1], &mem, sizeof(mem)) != sizeof(mem) || !mem)
			_exit(1);
		while (getppid() != 1) {
			touch(mem, HOT_BYTES);
			if (wrong_words(mem, HOT_BYTES))
				_exit(2);
		}
		_exit(0);
	}
	close(pipes[1]);
	if (read(pipes[0], where, sizeof(*where)) != sizeof(*where))
		*where = NULL;
	close(pipes[0]);
	return pid;
}

/* Ends a child of hot_child(); 0 if it found no fault in its memory. */
static int end_child(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? 0 : status;
}

static int make_group(const char *path, const char *file, const char *value)
{
	char full[256];
	int err;

	write_file(CGROUP "/cgroup.subtree_control", "+cpuset +memory");
	rmdir(path);
	if (mkdir(path, 0755))
		return -errno;
	snprintf(full, sizeof(full), "%s/%s", path, file);
	err = write_file(full, value);
	if (err)
		rmdir(path);
	return err;
}

TEST_F_TIMEOUT(tiers, cpuset_is_respected, TEST_S)
{
	const char *group = CGROUP "/hpl-cpuset";
	char mems[16], *theirs, *mine;
	pid_t pid;
	int err;

	snprintf(mems, sizeof(mems), "%d", self->slow);
	err = make_group(group, "cpuset.mems", mems);
	if (err)
		SKIP(return, "no cpuset: %s", strerror(-err));
	pid = hot_child(group, self->slow, &theirs);
	EXPECT_NE(theirs, NULL);
	/* After the fork: what two processes share is not moved. */
	mine = buffer_on(self->slow, HOT_BYTES);
	EXPECT_TRUE(touch_until(mine, HOT_BYTES, self->fast, 0.95));
	EXPECT_EQ(share_on(pid, theirs, HOT_BYTES, self->slow, 1), 1);
	EXPECT_EQ(end_child(pid), 0);
	EXPECT_EQ(rmdir(group), 0);
}

/* A child that inherits the choice, and may think better of it. */
TEST_F_TIMEOUT(tiers, who_opts_out_is_left_alone, TEST_S)
{
	char *theirs, *mine;
	pid_t pid;

	ASSERT_EQ(prctl(PR_SET_HPLACEMENT, PR_HPLACEMENT_LEAVE, 0, 0, 0), 0);
	pid = hot_child(NULL, self->slow, &theirs);
	ASSERT_NE(theirs, NULL);
	ASSERT_EQ(prctl(PR_SET_HPLACEMENT, PR_HPLACEMENT_MANAGE, 0, 0, 0), 0);
	mine = buffer_on(self->slow, HOT_BYTES);
	ASSERT_NE(mine, NULL);
	EXPECT_TRUE(touch_until(mine, HOT_BYTES, self->fast, 0.95));
	EXPECT_EQ(share_on(pid, theirs, HOT_BYTES, self->slow, 1), 1);
	EXPECT_EQ(end_child(pid), 0);

	/* Even one that is known already. */
	ASSERT_EQ(prctl(PR_SET_HPLACEMENT, PR_HPLACEMENT_LEAVE, 0, 0, 0), 0);
	ASSERT_TRUE(touch_until_counted(mine, HOT_BYTES, "hpl_epochs", 2));
	ASSERT_EQ(mbind_to(mine, HOT_BYTES, self->slow), 0);
	EXPECT_TRUE(touch_until_counted(mine, HOT_BYTES, "hpl_epochs", 40));
	EXPECT_EQ(share_on(0, mine, HOT_BYTES, self->slow, 1), 1);
	ASSERT_EQ(prctl(PR_SET_HPLACEMENT, PR_HPLACEMENT_MANAGE, 0, 0, 0), 0);
	EXPECT_TRUE(touch_until(mine, HOT_BYTES, self->fast, 0.95));
}

TEST_F_TIMEOUT(tiers, memory_group_keeps_its_charge, TEST_S)
{
	const char *group = CGROUP "/hpl-memory";
	double end = now() + DEADLINE_S;
	char *theirs, buf[64];
	pid_t pid;
	int err;

	err = make_group(group, "memory.max", "8388608");
	if (err)
		SKIP(return, "no memory cgroup: %s", strerror(-err));
	pid = hot_child(group, self->slow, &theirs);
	EXPECT_NE(theirs, NULL);
	while (now() < end &&
	       share_on(pid, theirs, HOT_BYTES, self->fast, 1) < 0.95)
		sched_yield();
	EXPECT_GE(share_on(pid, theirs, HOT_BYTES, self->fast, 1), 0.95);
	ASSERT_EQ(read_file(CGROUP "/hpl-memory/memory.current", buf, sizeof(buf)), 0);
	EXPECT_GE(atol(buf), (long)HOT_BYTES);
	EXPECT_LE(atol(buf), (long)(8 * MIB));
	EXPECT_EQ(end_child(pid), 0);
	/* All is given back. */
	for (end = now() + DEADLINE_S; rmdir(group) && now() < end; )
		sched_yield();
	EXPECT_NE(access(group, F_OK), 0);
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

TEST_F_TIMEOUT(tiers, processes_come_and_go, TEST_S)
{
	long long epochs = vmstat("hpl_epochs");
	double end = now() + DEADLINE_S;
	unsigned int nr = 0;

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
}

/* Pages change places while they are forked, locked, pinned, moved and freed. */
TEST_F_TIMEOUT(tiers, places_change_amid_unrest, TEST_S)
{
	const size_t cold = LARGE_BYTES - 2 * HOT_BYTES;
	long long before = vmstat("hpl_exchanged");
	double end = now() + DEADLINE_S;
	unsigned int i, nr = 0;
	char *mem;

	ASSERT_EQ(set_knob("migrate_method", "exchange"), 0);
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
