// SPDX-License-Identifier: GPL-2.0
/* Registers of the performance monitoring unit and raw records of PEBS. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "pmu.h"

/* pmu msr */

static const struct attempt {
	const char *name;
	uint32_t msr;
	uint64_t write, want;
	bool faults;
} attempts[] = {
	{ "PMC0 sign-extends", 0xc1, 0x80000000, 0xffff80000000, false },
	{ "PMC0 ignores its upper half", 0xc1, 0x1234500000007, 7, false },
	{ "A_PMC0 is as wide as the counter", 0x4c1, 0xfedcba987654, 0xfedcba987654, false },
	{ "A_PMC0 aliases PMC0", 0xc1, 5, 5, false },
	{ "A_PMC0 beyond its width", 0x4c1, 1ull << 48, 0, true },
	{ "PERFEVTSEL0", 0x186, 0x4ff5fffff, 0x4ff5fffff, false },
	{ "PERFEVTSEL0 AnyThread", 0x186, 1 << 21, 0, true },
	{ "PERFEVTSEL0 TSX", 0x186, 1ull << 32, 0, true },
	{ "PERFEVTSEL7 reserved bit", 0x18d, 1ull << 35, 0, true },
	{ "FIXED_CTR0", 0x309, 0xffffffffffff, 0xffffffffffff, false },
	{ "FIXED_CTR3 beyond its width", 0x30c, 1ull << 48, 0, true },
	{ "FIXED_CTR_CTRL", 0x38d, 0x11110000bbbb, 0x11110000bbbb, false },
	{ "FIXED_CTR_CTRL AnyThread", 0x38d, 4, 0, true },
	{ "FIXED_CTR_CTRL of a fifth counter", 0x38d, 1 << 16, 0, true },
	{ "GLOBAL_CTRL", 0x38f, 0xf000000ff, 0xf000000ff, false },
	{ "GLOBAL_CTRL of a ninth counter", 0x38f, 1 << 8, 0, true },
	{ "GLOBAL_CTRL of metrics", 0x38f, 1ull << 48, 0, true },
	{ "GLOBAL_STATUS is read only", 0x38e, 0, 0, true },
	{ "GLOBAL_STATUS_RESET reserved bit", 0x390, 1 << 9, 0, true },
	{ "GLOBAL_STATUS_SET reserved bit", 0x391, 1ull << 50, 0, true },
	{ "GLOBAL_INUSE is read only", 0x392, 0, 0, true },
	{ "PERF_CAPABILITIES is read only", 0x345, 0x64c0, 0, true },
	{ "PEBS_ENABLE", 0x3f1, 0xf000000ff, 0xf000000ff, false },
	{ "PEBS_ENABLE reserved bit", 0x3f1, 1 << 8, 0, true },
	{ "PEBS_DATA_CFG", 0x3f2, 7, 7, false },
	{ "PEBS_DATA_CFG of branches", 0x3f2, 8, 0, true },
	{ "LD_LAT", 0x3f6, 0xffff, 0xffff, false },
	{ "LD_LAT reserved bit", 0x3f6, 1 << 16, 0, true },
	{ "DS_AREA", 0x600, 0xffff800000001000, 0xffff800000001000, false },
	{ "DS_AREA not canonical", 0x600, 1ull << 47, 0, true },
	{ "OFFCORE_RSP_1", 0x1a7, 0x3f00000000, 0x3f00000000, false },
	{ "OFFCORE_RSP_0 reserved bit", 0x1a6, 1ull << 38, 0, true },
};

static uint64_t read_msr(int fd, uint32_t msr)
{
	uint64_t val;

	if (pread(fd, &val, sizeof(val), msr) != sizeof(val))
		die("rdmsr");
	return val;
}

static bool write_msr(int fd, uint32_t msr, uint64_t val)
{
	if (pwrite(fd, &val, sizeof(val), msr) == sizeof(val))
		return true;
	if (errno != EIO)
		die("wrmsr");
	return false;
}

static int open_msr(int flags)
{
	int fd = open("/dev/cpu/0/msr", flags);

	if (fd < 0)
		die("/dev/cpu/0/msr");
	return fd;
}

int registers(void)
{
	int fd = open_msr(O_RDWR), bad = 0;

	for (size_t i = 0; i < sizeof(attempts) / sizeof(*attempts); i++) {
		const struct attempt *a = &attempts[i];
		uint64_t old = a->faults && a->msr >= 0x390 && a->msr <= 0x392 ?
			       0 : read_msr(fd, a->msr);
		bool done = write_msr(fd, a->msr, a->write);
		uint64_t now = read_msr(fd, a->msr);
		uint64_t want = a->faults ? old : a->want;

		if (done == a->faults || now != want) {
			printf("%s: 0x%lx written %s and gives 0x%lx, not 0x%lx\n",
			       a->name, a->write, done ? "is taken" : "faults",
			       now, want);
			bad++;
		}
		if (done && !write_msr(fd, a->msr, old & 0xffffffffffff))
			write_msr(fd, a->msr, old);
	}
	/* Status bits can be set and reset; MISC_ENABLE's are fixed. */
	write_msr(fd, 0x391, 1ull << 62 | 1);
	bad += read_msr(fd, 0x38e) != (1ull << 62 | 1);
	write_msr(fd, 0x390, 1ull << 62);
	bad += read_msr(fd, 0x38e) != 1;
	write_msr(fd, 0x390, 1);
	bad += read_msr(fd, 0x38e) != 0;
	write_msr(fd, 0x1a0, read_msr(fd, 0x1a0) ^ (1 << 7 | 1 << 11 | 1 << 12));
	bad += (read_msr(fd, 0x1a0) & (1 << 7 | 1 << 11 | 1 << 12)) !=
	       (1 << 7 | 1 << 11);
	bad += read_msr(fd, 0x345) != 0x64c0;
	printf("registers=%zu bad=%d\n", sizeof(attempts) / sizeof(*attempts), bad);
	return bad;
}

/* pmu records: the CPU must see this program's memory as the kernel's: no SMAP */

#define RECORD_PERIOD	10
#define NR_LOADS	1000
#define MARK_LOW	0x1122334455667788
#define MARK_HIGH	0x99aabbccddeeff00

/* From offset 0x20 of the debug store area on */
struct debug_store {
	uint64_t bts[4];
	uint64_t base, index, maximum, threshold;
	uint64_t reset[12];
};

/* Words of a record by its groups: basic, memory, registers, XMM registers */
static size_t record_words(uint64_t groups)
{
	return 4 + (groups & 1 ? 4 : 0) + (groups & 2 ? 18 : 0) +
	       (groups & 4 ? 32 : 0);
}

/* @nr loads, 8 bytes apart: the address in rsi, what is left in rcx */
static void marked_loads(uint64_t *p, uint64_t nr, uint64_t *first_ip)
{
	uint64_t mark[2] = { MARK_LOW, MARK_HIGH };

	asm volatile("lea 1f(%%rip), %%rax; mov %%rax, %2; movups %3, %%xmm5;"
		     "1: mov (%%rsi), %%rax; add $8, %%rsi; dec %%rcx; jnz 1b"
		     : "+S" (p), "+c" (nr), "=&r" (*first_ip)
		     : "m" (mark) : "rax", "xmm5", "memory", "cc");
}

/* What is wrong with a record that marked_loads() caused, NULL if nothing. */
static const char *judge(const uint64_t *rec, uint64_t groups, uint64_t ip,
			 const uint64_t *p)
{
	const uint64_t *more = rec + 4;
	uint64_t addr = groups & 1 ? more[0] : 0;

	if (rec[0] != (groups | record_words(groups) * 8 << 48))
		return "format and size";
	if (rec[1] != ip)
		return "instruction pointer";
	if (rec[2] != 1)
		return "counters";
	if (!rec[3])
		return "time";
	if (groups & 1) {
		if (addr < (uintptr_t)p || addr >= (uintptr_t)(p + NR_LOADS) ||
		    addr % 8)
			return "address";
		more += 4;
	}
	if (groups & 2) {
		/* flags, ip, rax, rcx, rdx, rbx, rsp, rbp, rsi */
		if (more[1] != ip)
			return "instruction pointer among registers";
		if (groups & 1 && more[8] != addr)
			return "rsi";
		if (more[3] != NR_LOADS - (more[8] - (uintptr_t)p) / 8)
			return "rcx";
		more += 18;
	}
	if (groups & 4 && (more[10] != MARK_LOW || more[11] != MARK_HIGH))
		return "xmm5";
	return NULL;
}

/* Samples marked_loads() with these groups; 1 if anything is wrong. */
static int sample_groups(int fd, uint64_t groups, uint64_t *p,
			 struct debug_store *ds, uint64_t *buffer)
{
	size_t words = record_words(groups), room = 20, nr, in_loop = 0;
	const char *wrong = NULL;
	uint64_t ip;

	/* Room for fewer records than come; a threshold that is never reached. */
	*ds = (struct debug_store) {
		.base = (uintptr_t)buffer, .index = (uintptr_t)buffer,
		.maximum = (uintptr_t)(buffer + room * words) + 8,
		.threshold = UINT64_MAX, .reset = { -RECORD_PERIOD },
	};
	write_msr(fd, 0x38f, 0);
	write_msr(fd, 0x600, (uintptr_t)ds);
	write_msr(fd, 0xc1, (uint32_t)-RECORD_PERIOD);
	write_msr(fd, 0x3f2, groups);
	write_msr(fd, 0x3f1, 1);
	write_msr(fd, 0x186, ALL_LOADS | 1 << 16 | 1 << 22 | 1ull << 34);
	write_msr(fd, 0x38f, 1);
	marked_loads(p, NR_LOADS, &ip);
	write_msr(fd, 0x38f, 0);
	write_msr(fd, 0x3f1, 0);
	write_msr(fd, 0x186, 0);
	write_msr(fd, 0x600, 0);

	nr = (ds->index - ds->base) / (words * 8);
	/* The first come from on the way to the loop, a dozen loads at most. */
	for (size_t i = 0; i < nr && !wrong; i++) {
		const uint64_t *rec = buffer + i * words;

		if (!in_loop && rec[1] != ip && i < 2)
			continue;
		wrong = judge(rec, groups, ip, p);
		if (!wrong && in_loop && groups & 1 &&
		    rec[4] != rec[4 - (ptrdiff_t)words] + 8 * RECORD_PERIOD)
			wrong = "distance of addresses";
		in_loop++;
	}
	if (!wrong && (nr != room || in_loop < room - 2))
		wrong = "number of records";
	if (wrong)
		printf("groups %lu: wrong %s; %zu records, %zu of the loop\n",
		       groups, wrong, nr, in_loop);
	return wrong != NULL;
}

int records(void)
{
	static const uint64_t groups[] = { 0, 1, 2, 3, 4, 7 };
	const size_t n = sizeof(groups) / sizeof(*groups);
	uint64_t *p = memory(2 * PAGE_BYTES, 0);
	struct debug_store *ds = memory(PAGE_BYTES, 0);
	uint64_t *buffer = memory(16 * PAGE_BYTES, 0);
	int fd = open_msr(O_RDWR), bad = 0;

	if (mlockall(MCL_CURRENT))
		die("mlockall");
	for (size_t i = 0; i < n; i++)
		bad += sample_groups(fd, groups[i], p, ds, buffer);
	printf("records=%zu bad=%d\n", n, bad);
	return bad;
}

/* pmu unmapped: a debug store area where there is no memory, then a bad one */

void unmapped(void)
{
	int fd = open_msr(O_RDWR);
	uint64_t *p = memory(PAGE_BYTES, 0);

	write_msr(fd, 0x38f, 0);
	write_msr(fd, 0x600, 0xffff900000000000);	/* nothing lies here */
	write_msr(fd, 0xc1, (uint32_t)-100);
	write_msr(fd, 0x3f1, 1);
	write_msr(fd, 0x186, ALL_LOADS | 1 << 16 | 1 << 22);
	write_msr(fd, 0x38f, 1);
	loop_loads(p, 1000);
	printf("pebs_enable=%lu\n", read_msr(fd, 0x3f1));
	write_msr(fd, 0x186, 0);
}

/* pmu dirty: registers that Linux leaves alone: what they have been, then a value */

void dirty(void)
{
	static const uint32_t left_alone[] = { 0x3f6, 0x1a6, 0x1a7, 0x600, 0x3f2 };
	int fd = open_msr(O_RDWR);
	uint64_t old = 0;

	for (size_t i = 0; i < sizeof(left_alone) / sizeof(*left_alone); i++) {
		old |= read_msr(fd, left_alone[i]);
		write_msr(fd, left_alone[i], 1);
	}
	printf("old=%lu\n", old);
}

/* pmu hold: whoever moves the machine during the pause must move these */

void hold(unsigned int seconds)
{
	static const struct { uint32_t msr; uint64_t value; } kept[] = {
		{ 0x4c3, 0x123456789abc }, { 0x30c, 0xcba987654321 },
		{ 0x189, 0x4001f00c4 }, { 0x38d, 0x11110000b000 },
		{ 0x3f1, 0x10 }, { 0x3f2, 3 }, { 0x3f6, 123 },
		{ 0x3f7, 0x12 }, { 0x600, 0xffff888000001000 },
		{ 0x1a6, 0x1234 }, { 0x1a7, 0x5678 },
	};
	const size_t n = sizeof(kept) / sizeof(*kept);
	uint64_t *p = memory(PAGE_BYTES, 0);
	int fd = open_msr(O_RDWR), bad = 0;

	for (size_t i = 0; i < n; i++)
		write_msr(fd, kept[i].msr, kept[i].value);
	write_msr(fd, 0x391, 1ull << 62);
	write_msr(fd, 0xc2, 0);
	write_msr(fd, 0x187, ALL_LOADS | 1 << 16 | 1 << 22);
	write_msr(fd, 0x38f, 2);
	loop_loads(p, 1000);
	printf("ready\n");
	fflush(stdout);
	sleep(seconds);
	loop_loads(p, 1000);
	write_msr(fd, 0x38f, 0);
	for (size_t i = 0; i < n; i++)
		bad += read_msr(fd, kept[i].msr) != kept[i].value;
	bad += read_msr(fd, 0x38e) != 1ull << 62;
	printf("kept=%zu bad=%d count=%lu\n", n, bad, read_msr(fd, 0xc2));
}
