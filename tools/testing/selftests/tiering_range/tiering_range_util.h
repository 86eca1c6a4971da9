/* SPDX-License-Identifier: GPL-2.0 */
/*
 * HPlacement: what its tests have in common
 *
 * Where a test waits, it goes on accessing memory until what it waits for is
 * seen in /proc/vmstat or by move_pages(2), or a deadline has passed.
 */
#ifndef _TIERING_RANGE_UTIL_H
#define _TIERING_RANGE_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The names of the counters are those of the kernel's own list. */
#define CONFIG_HPLACEMENT
#include "../../../../include/linux/tiering_range.h"
#include "../../../../include/uapi/linux/tiering_range.h"

#define KNOBS		"/sys/kernel/mm/hplacement/"
#define CGROUP		"/sys/fs/cgroup"
#define DEBUGFS		"/sys/kernel/debug/"
#define RANGES		DEBUGFS "hplacement/ranges"
#define TRACING		"/sys/kernel/tracing/"
#define PAGE		4096UL
#define MIB		(1UL << 20)

/* Small enough to stay hot on an emulated CPU of a kernel full of checks. */
#define HOT_BYTES	(2 * MIB)
#define HOT_PAGES	(HOT_BYTES / PAGE)

/* More than the fast node has, so that the end of it lies on the slow one. */
#define LARGE_BYTES	(384 * MIB)

/* Guest time after which what was waited for will not come. */
#define DEADLINE_S	120
#define TEST_S		400

#define NR_COUNTERS	(sizeof((const char * const []){		\
				HPL_VM_EVENTS(HPL_VM_EVENT_TEXT)	\
			}) / sizeof(const char *))

extern const char * const counters[];

double now(void);
int write_file(const char *path, const char *text);
int read_file(const char *path, char *buf, size_t size);
int set_knob(const char *name, const char *value);
const char *get_knob(const char *name);
long long vmstat(const char *name);
double share_on(int pid, char *mem, size_t bytes, int node,
		size_t stride);
size_t put_on(int pid, char *mem, size_t bytes, int node);
size_t wrong_in(const char *mem, size_t from, size_t to, size_t bytes);
size_t wrong_words(const char *mem, size_t bytes);
char *fill_on(int node, char *mem, size_t bytes);
int mbind_to(char *mem, size_t bytes, int node);
char *buffer_on(int node, size_t bytes);
char *map_memfd(size_t bytes);
char *large_buffer(int advice);
char *huge_on(int node);
long huge_kb(void);
void touch(const char *mem, size_t bytes);
bool touch_until(char *mem, size_t bytes, int node, double goal);
bool touch_until_counted(char *mem, size_t bytes, const char *name,
			 long long by);
int pin(char *mem, size_t bytes);
pid_t hot_child(const char *group, int slow, char **where);
int end_child(pid_t pid);
int find_task(const char *name, int after);
bool threads_end(void);
void defaults(void);

/* A line of the file RANGES. What is not known is -1. */
struct range {
	int pid;
	unsigned long start;
	unsigned long end;
	unsigned long resident_kib;
	long fast_permille;
	long heat;
};

int read_ranges(int pid, struct range *ranges, int max);

const char *cannot_run(void);
const char *tiers_enable(int *fast, int *slow);

#endif /* _TIERING_RANGE_UTIL_H */
