/* SPDX-License-Identifier: GPL-2.0 */
/* What pmu.c and pmu_registers.c share. */
#ifndef PMU_H
#define PMU_H

#include <stddef.h>
#include <stdint.h>

#define ALL_LOADS	0x81d0
#define ALL_STORES	0x82d0
#define LOAD_LATENCY	0x01cd
#define INSTRUCTIONS	0x00c0
#define CYCLES		0x003c

#define LINE_BYTES	64
#define PAGE_BYTES	4096

/* Says what failed, with errno's reason, and ends the program. */
void die(const char *what);

/* Memory of a node, touched. */
void *memory(size_t bytes, int node);

/* @n loads of user mode. */
void loop_loads(uint64_t *p, uint64_t n);

/* The subcommands below: 0, or the number of what was wrong. */
int registers(void);
int records(void);
void unmapped(void);
void dirty(void);
void hold(unsigned int seconds);

#endif /* PMU_H */
