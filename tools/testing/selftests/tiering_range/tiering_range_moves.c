// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: tests of what it moves and what it leaves
 *
 * Needs root, a node with CPUs (the fast tier) and one without (the slow one).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/param.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
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

#define RANGES_MAX	1024

/*
 * Whether RANGES says what is known to be so of a buffer of @bytes: that all of
 * it is in a range, and that HOT_BYTES of it at @hot are hotter than the rest
 * on average, and fast.
 */
static bool ranges_tell(char *mem, size_t bytes, char *hot, bool complain)
{
	static struct range ranges[RANGES_MAX];
	unsigned long covered = 0, inside, in_hot, out_hot;
	double hot_heat = 0, cold_heat = 0, fast = 0;
	int i, nr = read_ranges(getpid(), ranges, RANGES_MAX);

	for (i = 0; i < nr; i++) {
		const struct range *r = &ranges[i];
		unsigned long from = MAX(r->start, (unsigned long)mem);
		unsigned long to = MIN(r->end, (unsigned long)(mem + bytes));

		if (from >= to || r->heat < 0 || r->fast_permille < 0)
			continue;
		inside = to - from;
		covered += inside;
		from = MAX(from, (unsigned long)hot);
		to = MIN(to, (unsigned long)(hot + HOT_BYTES));
		in_hot = from < to ? to - from : 0;
		out_hot = inside - in_hot;
		hot_heat += (double)r->heat * in_hot / HOT_BYTES;
		fast += (double)r->fast_permille * in_hot / HOT_BYTES;
		cold_heat += (double)r->heat * out_hot / (bytes - HOT_BYTES);
	}
	if (covered == bytes && hot_heat > 2 * cold_heat && fast > 700)
		return true;
	if (complain)
		ksft_print_msg("%d ranges, %lu bytes, heat %.1f and %.1f, %.0f fast\n",
			       nr, covered, hot_heat, cold_heat, fast);
	return false;
}

TEST_F_TIMEOUT(tiers, ranges_tell_hot_from_cold, TEST_S)
{
	char *mem = buffer_on(self->slow, 64 * MIB);
	char *hot = mem + 40 * MIB;
	double end = now() + DEADLINE_S;
	bool told, late;

	ASSERT_NE(mem, NULL);
	if (access(RANGES, F_OK))
		SKIP(return, "no " RANGES);
	EXPECT_TRUE(touch_until(hot, HOT_BYTES, self->fast, 0.95));
	/* What is cold is looked at, too, but less often. */
	do {
		touch_until_counted(hot, HOT_BYTES, "hpl_epochs", 10);
		late = now() > end;
		told = ranges_tell(mem, 64 * MIB, hot, late);
	} while (!told && !late);
	EXPECT_TRUE(told);
}

TEST_F_TIMEOUT(tiers, cold_memory_makes_room, TEST_S)
{
	long long before = vmstat("hpl_demote_done_anon");
	const size_t bytes = LARGE_BYTES;
	char *mem = large_buffer(MADV_NOHUGEPAGE), *hot;

	ASSERT_EQ(set_knob("migrate_method", "migrate"), 0);
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

	mem = large_buffer(MADV_HUGEPAGE);
	ASSERT_NE(mem, NULL);
	hot = mem + LARGE_BYTES - 2 * HOT_BYTES;
	if (share_on(0, hot, 2 * HOT_BYTES, self->slow, 1) < 0.9)
		SKIP(return, "fast node too large to be filled");
	EXPECT_TRUE(touch_until(hot, 2 * HOT_BYTES, self->fast, 1));
	EXPECT_EQ(wrong_words(mem, LARGE_BYTES), 0);
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

/* A group speaks for those below it, and may think better of it. */
TEST_F_TIMEOUT(tiers, group_that_opts_out_is_left_alone, TEST_S)
{
	static const char * const nonsense[] = { "2", "-1", "x", "0 1" };
	const char *group = CGROUP "/hpl-leave", *below = CGROUP "/hpl-leave/below";
	const char *file = CGROUP "/hpl-leave/memory.hplacement";
	char *theirs, *mine, buf[16];
	double end;
	pid_t pid;
	size_t i;
	int err;

	err = make_group(group, "memory.max", "max");
	if (err)
		SKIP(return, "no memory cgroup: %s", strerror(-err));
	EXPECT_NE(access(CGROUP "/memory.hplacement", F_OK), 0);
	ASSERT_EQ(read_file(file, buf, sizeof(buf)), 0);
	EXPECT_STREQ(buf, "1");
	ASSERT_EQ(write_file(file, "0"), 0);
	for (i = 0; i < ARRAY_SIZE(nonsense); i++)
		EXPECT_EQ(write_file(file, nonsense[i]), -EINVAL)
			TH_LOG("'%s'", nonsense[i]);
	ASSERT_EQ(read_file(file, buf, sizeof(buf)), 0);
	EXPECT_STREQ(buf, "0");

	ASSERT_EQ(write_file(CGROUP "/hpl-leave/cgroup.subtree_control",
			     "+memory"), 0);
	ASSERT_EQ(mkdir(below, 0755), 0);
	ASSERT_EQ(read_file(CGROUP "/hpl-leave/below/memory.hplacement", buf,
			    sizeof(buf)), 0);
	EXPECT_STREQ(buf, "1");
	pid = hot_child(below, self->slow, &theirs);
	EXPECT_NE(theirs, NULL);
	mine = buffer_on(self->slow, HOT_BYTES);
	EXPECT_TRUE(touch_until(mine, HOT_BYTES, self->fast, 0.95));
	EXPECT_EQ(share_on(pid, theirs, HOT_BYTES, self->slow, 1), 1);

	EXPECT_EQ(write_file(file, "1"), 0);
	for (end = now() + DEADLINE_S; now() < end; sched_yield())
		if (share_on(pid, theirs, HOT_BYTES, self->fast, 1) >= 0.95)
			break;
	EXPECT_GE(share_on(pid, theirs, HOT_BYTES, self->fast, 1), 0.95);

	/* Even one that is known already. */
	EXPECT_EQ(write_file(file, "0"), 0);
	ASSERT_TRUE(touch_until_counted(mine, HOT_BYTES, "hpl_epochs", 2));
	for (end = now() + DEADLINE_S; now() < end; sched_yield())
		if (!put_on(pid, theirs, HOT_BYTES, self->slow))
			break;
	EXPECT_TRUE(touch_until_counted(mine, HOT_BYTES, "hpl_epochs", 40));
	EXPECT_EQ(share_on(pid, theirs, HOT_BYTES, self->slow, 1), 1);
	EXPECT_EQ(end_child(pid), 0);
	for (end = now() + DEADLINE_S; rmdir(below) && now() < end; )
		sched_yield();
	EXPECT_EQ(rmdir(group), 0);
}

TEST_HARNESS_MAIN
