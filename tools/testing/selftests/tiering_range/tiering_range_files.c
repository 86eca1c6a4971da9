// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: tests of its files in a running kernel
 *
 * Needs root.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kselftest_harness.h"
#include "tiering_range_util.h"

/* Tests of the files, which need no tiers. */
FIXTURE(files) {
	int unused;
};

FIXTURE_SETUP(files)
{
	const char *why = cannot_run();

	(void)self;
	if (why)
		SKIP(return, "%s", why);
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
		{ "headroom_permille", 0600 },
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

TEST_F(files, ranges_are_for_root_alone)
{
	struct range r;
	struct stat st;

	if (stat(RANGES, &st))
		SKIP(return, "no " RANGES);
	EXPECT_EQ(st.st_mode & 07777, 0400);
	EXPECT_EQ(st.st_uid, 0);
	/* Nothing is known while nothing is looked at. */
	EXPECT_EQ(read_ranges(getpid(), &r, 1), 0);
}

TEST_F(files, accept_their_bounds_only)
{
	static const struct {
		const char *name, *low, *high, *below, *above;
	} knobs[] = {
		{ "epoch_ms", "10", "60000", "9", "60001" },
		{ "overhead_permille", "1", "1000", "0", "1001" },
		{ "migrate_mbps", "1", "1048576", "0", "1048577" },
		/* Nothing is below 0. */
		{ "headroom_permille", "0", "500", "501", "1000" },
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
	EXPECT_STREQ(get_knob("migrate_method"), "migrate [exchange]");
	EXPECT_EQ(set_knob("migrate_method", "migrate"), 0);
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

TEST_HARNESS_MAIN
