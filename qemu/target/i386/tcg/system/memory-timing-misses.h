/*
 * Exact cache misses of each virtual page
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMORY_TIMING_MISSES_H
#define MEMORY_TIMING_MISSES_H

#include "hw/core/cpu.h"

typedef struct MissTable MissTable;

MissTable *miss_table_new(void);

void miss_table_free(MissTable *table);

/**
 * miss_table_count: count a miss; those of the upper half of the address
 * space, the kernel's own memory, are left out
 * @space: address space, as page frame number of its page table
 * @addr: virtual address
 * @node: NUMA node of the memory
 */
void miss_table_count(MissTable *table, uint64_t space, vaddr addr, int node);

/* Write the first line of a CSV file, whose rows are @dated or not. */
void miss_table_write_header(FILE *file, bool dated);

/**
 * miss_table_write: write the table as rows of CSV, in order of address space,
 * page and node, and empty it
 * @date: what each row begins with, its comma included
 */
void miss_table_write(MissTable *table, FILE *file, const char *date);

#endif /* MEMORY_TIMING_MISSES_H */
