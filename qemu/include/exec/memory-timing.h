/*
 * Memory timing model: guest virtual time that depends on where memory lies
 *
 * One hook follows every guest load and store.  The model itself is its first
 * consumer.  The performance monitoring unit is the second: while it counts
 * accesses, its own helper is tcg_ctx->mem_hook, which calls
 * memory_timing_access() and looks at the result.
 *
 * Under icount all vCPUs run in one thread, and all but the first function are
 * to be called from it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef EXEC_MEMORY_TIMING_H
#define EXEC_MEMORY_TIMING_H

#include "exec/memopidx.h"
#include "hw/core/cpu.h"

#define TYPE_MEMORY_TIMING "memory-timing"

/**
 * MemoryTimingAccess: what became of one access
 * @node: NUMA node of the memory, -1 where the model does not see it (MMIO,
 *        ROM, video memory)
 * @missed: it missed the last-level cache
 * @repeat: a further element of a cache line within a string instruction,
 *          which hardware moves, and the model counts, by the line
 * @latency_ns: what the miss costs, in ns of guest virtual time, 0 for a hit
 */
typedef struct MemoryTimingAccess {
    int node;
    bool missed;
    bool repeat;
    uint32_t latency_ns;
} MemoryTimingAccess;

#ifndef CONFIG_USER_ONLY

/* Is there a model, i.e. must code be translated with the hook? */
bool memory_timing_enabled(void);

/**
 * memory_timing_access: run an access that has just completed through the
 * cache, count it and charge its miss
 * @cpu: the running vCPU
 * @addr: virtual address
 * @arg: MemOpIdx of the access, with MEM_HOOK_STORE and MEM_HOOK_STRING
 */
MemoryTimingAccess memory_timing_access(CPUState *cpu, vaddr addr,
                                        uint32_t arg);

/* Charge a page walk: @mmu_idx of the software TLB is being filled. */
void memory_timing_walk(CPUState *cpu, int mmu_idx);

/* Charge the entry to an exception, or to an external interrupt (@is_hw). */
void memory_timing_interrupt(CPUState *cpu, bool is_hw);

/* Charge a PAUSE instruction. */
void memory_timing_pause(CPUState *cpu);

/* All stalls so far, as instructions taken from budgets; 0 without a model. */
uint64_t memory_timing_charged(void);

/* Charge the writing of one hardware sample record. */
void memory_timing_sample(CPUState *cpu);

#else

static inline bool memory_timing_enabled(void)
{
    return false;
}

static inline void memory_timing_interrupt(CPUState *cpu, bool is_hw)
{
}

static inline void memory_timing_pause(CPUState *cpu)
{
}

#endif /* CONFIG_USER_ONLY */

#endif /* EXEC_MEMORY_TIMING_H */
