/*
 * Intel performance monitoring unit under TCG: what its files share
 *
 * pmu.c has the registers, pmu-count.c the counters, pmu-pebs.c the records.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef I386_TCG_PMU_INTERNAL_H
#define I386_TCG_PMU_INTERNAL_H

#include "qemu/timer.h"
#include "cpu.h"
#include "exec/memory-timing.h"
#include "system/numa.h"

/* Ice Lake's: a version 5 PMU with counters of 48 bits. */
#define NR_GP           8
#define NR_FIXED        4
#define NR_COUNTERS     (NR_GP + NR_FIXED)
#define COUNTER_WIDTH   48
#define COUNTER_MASK    MAKE_64BIT_MASK(0, COUNTER_WIDTH)

/* Events that are counted. */
typedef enum Event {
    EVENT_NONE,                 /* unknown: counts nothing */
    EVENT_INSTRUCTIONS,
    EVENT_CYCLES,
    EVENT_LOADS,
    EVENT_STORES,
    EVENT_LLC_MISSES,           /* loads and stores */
    EVENT_L3_MISS_LOADS,
    EVENT_L3_MISS_LOCAL,
    EVENT_L3_MISS_REMOTE,
    EVENT_L3_MISS_PMEM,
    EVENT_LOAD_LATENCY,
} Event;

/* Rings, as counters tell them apart; also indices of countdowns. */
enum { KERNEL, USER, NR_RINGS };

/* Kinds of access; also indices of countdowns. */
enum { LOAD, STORE, NR_KINDS };

/* Data sources of a PEBS record, in Ice Lake's encoding. */
enum {
    SOURCE_UNKNOWN      = 0x0,
    SOURCE_L3_HIT       = 0x4,
    SOURCE_PMEM         = 0x8,
    SOURCE_LOCAL_DRAM   = 0xa,
    SOURCE_REMOTE_DRAM  = 0xb,
    SOURCE_UNCACHED     = 0xf,
};
#define SOURCE_STORE_HIT  0x1   /* the one bit that a store has */

/* Architectural state, all that migrates. */
typedef struct PMURegisters {
    uint64_t counter[NR_COUNTERS];      /* general ones, then fixed ones */
    uint64_t evtsel[NR_GP];
    uint64_t fixed_ctrl, global_ctrl, global_status;
    uint64_t pebs_enable, pebs_data_cfg, pebs_frontend, ld_lat, ds_area;
    uint64_t offcore_rsp[2];
    bool pmi_held;                      /* came while LVTPC was masked */
} PMURegisters;

/*
 * X86PMU: the PMU of one CPU, touched by its own thread alone
 * @left: accesses of each ring and kind until one of the counters that count
 *        them may overflow; the access hook counts it down
 * @armed: what @left was when the counters were last brought up to date
 * @countdown_counters: the counters that count these, as bits
 * @miss_counters: counters of what missed the cache
 * @time_counters: counters of instructions and cycles
 * @active: of each counter, the event and whether each ring counts
 * @running: the vCPU executes; @time_base and @charged_base are valid
 * @time_base: position in time up to which counters are up to date
 * @charged_base: stalls charged until then
 * @timer: next overflow of a time counter, without icount
 * @node_source: data source of each NUMA node's memory
 */
typedef struct X86PMU {
    uint64_t left[NR_RINGS][NR_KINDS];
    uint64_t armed[NR_RINGS][NR_KINDS];
    uint32_t countdown_counters[NR_RINGS][NR_KINDS];
    uint32_t miss_counters, time_counters;
    struct {
        Event event;
        bool ring[NR_RINGS];
        bool pmi, adaptive;
    } active[NR_COUNTERS];

    bool running, pmi_queued, ds_fault_logged;
    int64_t time_base;
    uint64_t charged_base;
    QEMUTimer *timer;

    PMURegisters regs;
    uint8_t node_source[MAX_NODES];
} X86PMU;

/* An access that counters overflow on; without one: time has overflown. */
typedef struct PMUAccess {
    uint64_t addr;
    bool store, modelled;
    MemoryTimingAccess result;          /* where @modelled */
    uintptr_t retaddr;                  /* in translated code */
} PMUAccess;

/* Bit of a counter in GLOBAL_STATUS, GLOBAL_CTRL and PEBS_ENABLE. */
static inline uint64_t counter_bit(int counter)
{
    return counter < NR_GP ? 1ull << counter : 1ull << (32 + counter - NR_GP);
}

#define ALL_COUNTERS    (MAKE_64BIT_MASK(0, NR_GP) | \
                         MAKE_64BIT_MASK(32, NR_FIXED))
#define STATUS_OVF_BUF  (1ull << 62)    /* PEBS buffer reached its threshold */

/* Bring all counters up to date. */
void pmu_sync(CPUX86State *env);

/* Registers changed: work out what counts, after pmu_sync(). */
void pmu_update(CPUX86State *env);

/* Counters alone changed: work out the next overflow, after pmu_sync(). */
void pmu_arm(CPUX86State *env);

/* Set bits of GLOBAL_STATUS and interrupt. */
void pmu_interrupt(CPUX86State *env, uint64_t status);

/**
 * pebs_record: write a PEBS record and reload the counter
 * @env: CPU
 * @counter: that overflowed, and is enabled for PEBS
 * @access: on which it did, or NULL
 */
void pebs_record(CPUX86State *env, int counter, const PMUAccess *access);

#endif /* I386_TCG_PMU_INTERNAL_H */
