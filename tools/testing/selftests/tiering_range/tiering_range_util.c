// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: what its tests have in common
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../kselftest.h"
#include "tiering_range_util.h"

const char * const counters[NR_COUNTERS] = {
	HPL_VM_EVENTS(HPL_VM_EVENT_TEXT)
};

double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* Returns 0 or a negative error. */
int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);
	return err;
}

int read_file(const char *path, char *buf, size_t size)
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

int set_knob(const char *name, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), KNOBS "%s", name);
	return write_file(path, value);
}

const char *get_knob(const char *name)
{
	static char value[64];
	char path[128];

	snprintf(path, sizeof(path), KNOBS "%s", name);
	return read_file(path, value, sizeof(value)) ? "" : value;
}

/* A counter of /proc/vmstat, -1 if there is none of this name. */
long long vmstat(const char *name)
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
double share_on(int pid, char *mem, size_t bytes, int node,
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

/* Move pages of @pid to @node; returns how many are not there then. */
size_t put_on(int pid, char *mem, size_t bytes, int node)
{
	size_t nr = bytes / PAGE, i, elsewhere = 0;
	void **pages = calloc(nr, sizeof(*pages));
	int *status = calloc(nr, sizeof(*status));
	int *nodes = calloc(nr, sizeof(*nodes));

	for (i = 0; i < nr; i++) {
		pages[i] = mem + i * PAGE;
		nodes[i] = node;
		status[i] = -1;
	}
	syscall(SYS_move_pages, pid, nr, pages, nodes, status, MPOL_MF_MOVE);
	for (i = 0; i < nr; i++)
		elsewhere += status[i] != node;
	free(pages);
	free(status);
	free(nodes);
	return elsewhere;
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
size_t wrong_in(const char *mem, size_t from, size_t to, size_t bytes)
{
	const uint64_t *word = (const uint64_t *)mem;
	size_t i, wrong = 0;

	for (i = from / sizeof(*word); i < to / sizeof(*word); i++)
		wrong += word[i] != (i * 0x9e3779b97f4a7c15 ^ bytes);
	return wrong;
}

size_t wrong_words(const char *mem, size_t bytes)
{
	return wrong_in(mem, 0, bytes, bytes);
}

/* Fill @mem, of which no page is there yet, with pages of @node. */
char *fill_on(int node, char *mem, size_t bytes)
{
	if (mem == MAP_FAILED)
		return NULL;
	policy(MPOL_BIND, node);
	fill(mem, bytes);
	policy(MPOL_DEFAULT, -1);
	return mem;
}

/* Move what is at @mem to @node, and bind it to nothing. */
int mbind_to(char *mem, size_t bytes, int node)
{
	unsigned long mask = 1UL << node;
	int err = syscall(SYS_mbind, mem, bytes, MPOL_BIND, &mask, 64,
			  MPOL_MF_MOVE | MPOL_MF_STRICT);

	return err ?: syscall(SYS_mbind, mem, bytes, MPOL_DEFAULT, NULL, 0, 0);
}

/* A filled buffer on @node, bound to nothing. */
char *buffer_on(int node, size_t bytes)
{
	char *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem != MAP_FAILED)
		madvise(mem, bytes, MADV_NOHUGEPAGE);
	return fill_on(node, mem, bytes);
}

/* A mapping of a new file in memory. */
char *map_memfd(size_t bytes)
{
	int fd = memfd_create("hpl", 0);
	char *mem = MAP_FAILED;

	if (fd >= 0 && !ftruncate(fd, bytes))
		mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return mem;
}

/* A filled buffer of LARGE_BYTES, of huge pages or none. */
char *large_buffer(int advice)
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

/* A huge page on @node. */
char *huge_on(int node)
{
	char *mem = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		return NULL;
	mem = (char *)(((uintptr_t)mem + 2 * MIB - 1) & ~(2 * MIB - 1));
	madvise(mem, 2 * MIB, MADV_HUGEPAGE);
	return fill_on(node, mem, 2 * MIB);
}

/* AnonHugePages of all of this process, in kB. */
long huge_kb(void)
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

/* Read each page of a buffer a few times: keeps it hot, changes nothing. */
void touch(const char *mem, size_t bytes)
{
	size_t pass, at;

	for (pass = 0; pass < 20; pass++)
		for (at = 0; at < bytes; at += PAGE)
			(void)*(const volatile char *)(mem + at +
						       pass * 64 % PAGE);
}

/* Keep a buffer hot until @goal of it is on @node; false if that never comes. */
bool touch_until(char *mem, size_t bytes, int node, double goal)
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
bool touch_until_counted(char *mem, size_t bytes, const char *name,
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

/* Pin a buffer as io_uring does for registered ones; returns its fd. */
int pin(char *mem, size_t bytes)
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

/* A child that has a filled hot buffer on the slow node; tells where by a pipe. */
pid_t hot_child(const char *group, int slow, char **where)
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
int end_child(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? 0 : status;
}

/* The id of the first task whose name starts with @name, 0 for none. */
int find_task(const char *name, int after)
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
bool threads_end(void)
{
	double end = now() + DEADLINE_S;

	while (find_task("khpl", 0) && now() < end)
		sched_yield();
	return !find_task("khpl", 0);
}

void defaults(void)
{
	set_knob("enabled", "0");
	set_knob("epoch_ms", "100");
	set_knob("overhead_permille", "10");
	set_knob("migrate_mbps", "256");
	set_knob("headroom_permille", "0");
	set_knob("max_ranges", "1024");
	set_knob("migrate_method", "exchange");
	set_knob("sample_source", "auto");
}

static long number(const char *word)
{
	return strcmp(word, "-") ? atol(word) : -1;
}

/*
 * All ranges of @pid, in the order of RANGES, at most @max. Returns how many, -1
 * if there is no such file, -2 if it says something that makes no sense.
 */
int read_ranges(int pid, struct range *ranges, int max)
{
	static const char header[] =
		"pid start end age_epochs moves_failed looks hits exposed_ms resident_kib fast_permille accessed_permille accesses_per_page_s\n";
	char line[512], fast[32], share[32], rate[32], more;
	FILE *f = fopen(RANGES, "r");
	unsigned long last = 0;
	int nr = 0;

	if (!f)
		return -1;
	if (!fgets(line, sizeof(line), f) || strcmp(line, header))
		nr = -2;
	while (nr >= 0 && nr < max && fgets(line, sizeof(line), f)) {
		struct range *r = &ranges[nr];

		if (sscanf(line, "%d %lx %lx %*u %*u %*u %*u %*u %lu %31s %31s %31s %c",
			   &r->pid, &r->start, &r->end, &r->resident_kib, fast,
			   share, rate, &more) != 7)
			nr = -2;
		if (nr < 0 || r->pid != pid)
			continue;
		r->fast_permille = number(fast);
		r->heat = number(share) < 0 ? number(rate) : number(share);
		if (r->start >= r->end || r->start < last ||
		    r->fast_permille > 1000)
			nr = -2;
		else
			nr++;
		last = r->end;
	}
	fclose(f);
	return nr;
}

/* Why no test can run, NULL if tests can. */
const char *cannot_run(void)
{
	if (access(KNOBS, F_OK))
		return "no " KNOBS ": a kernel without HPLACEMENT";
	if (geteuid())
		return "must be run as root";
	return NULL;
}

/*
 * Enable HPlacement on a fast and a slow node, with quick decisions and a
 * budget that gives samples enough on an emulated CPU too, which may be a
 * hundred times slower. Returns NULL, or why that is not possible.
 */
const char *tiers_enable(int *fast, int *slow)
{
	const char *why = cannot_run();

	if (why)
		return why;
	*fast = fast_node();
	*slow = slow_node();
	if (*fast < 0 || *slow < 0)
		return "no node without CPUs: one memory tier only";
	defaults();
	set_knob("epoch_ms", "50");
	set_knob("overhead_permille", "300");
	set_knob("enabled", "1");
	return NULL;
}
