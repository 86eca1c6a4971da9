/*
 * Intel performance monitoring unit under TCG: counting and interrupts
 *
 * Loads and stores are counted down by a helper that translated code calls
 * after each access, where flags of the translation block say that a counter
 * counts them; cache misses are told by the memory timing model.  Time is the
 * budget of instructions that a vCPU has used up: instructions and stalls under
 * icount, host time without.  It is brought up to date when somebody looks,
 * and when the privilege level changes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "accel/tcg/getpc.h"
#include "cpu.h"
#include "exec/helper-proto.h"
#include "hw/i386/apic.h"
#include "system/cpu-timers.h"
#include "tcg/pmu.h"
#include "tcg/tcg.h"
#include "pmu-internal.h"

#define EVTSEL_USR          (1 << 16)
#define EVTSEL_OS           (1 << 17)
#define EVTSEL_EDGE         (1 << 18)
#define EVTSEL_INT          (1 << 20)
#define EVTSEL_EN           (1 << 22)
#define EVTSEL_INV          (1 << 23)
#define EVTSEL_CMASK        (0xffu << 24)
#define EVTSEL_ADAPTIVE     (1ull << 34)

#define LINE_BYTES          64

static int ring_of(CPUX86State *env)
{
    return env->hflags & HF_CPL_MASK ? USER : KERNEL;
}

/* The event of a general counter; umask and event number as in evtsel. */
static Event event_of(uint64_t evtsel)
{
    if (evtsel & (EVTSEL_EDGE | EVTSEL_INV | EVTSEL_CMASK)) {
        return EVENT_NONE;              /* of cycles, not of occurrences */
    }
    switch (evtsel & 0xffff) {
    case 0x00c0:        /* INST_RETIRED.ANY_P */
    case 0x01c0:        /* INST_RETIRED.PREC_DIST */
        return EVENT_INSTRUCTIONS;
    case 0x003c:        /* CPU_CLK_UNHALTED.THREAD_P */
    case 0x013c:        /* CPU_CLK_UNHALTED.REF_XCLK */
    case 0x01a4:        /* TOPDOWN.SLOTS_P */
        return EVENT_CYCLES;
    case 0x412e:        /* LONGEST_LAT_CACHE.MISS */
        return EVENT_LLC_MISSES;
    case 0x81d0:        /* MEM_INST_RETIRED.ALL_LOADS */
        return EVENT_LOADS;
    case 0x82d0:        /* MEM_INST_RETIRED.ALL_STORES */
        return EVENT_STORES;
    case 0x20d1:        /* MEM_LOAD_RETIRED.L3_MISS */
        return EVENT_L3_MISS_LOADS;
    case 0x80d1:        /* MEM_LOAD_RETIRED.LOCAL_PMM */
        return EVENT_L3_MISS_PMEM;
    case 0x01d3:        /* MEM_LOAD_L3_MISS_RETIRED.LOCAL_DRAM */
        return EVENT_L3_MISS_LOCAL;
    case 0x02d3:        /* MEM_LOAD_L3_MISS_RETIRED.REMOTE_DRAM */
        return EVENT_L3_MISS_REMOTE;
    case 0x01cd:        /* MEM_TRANS_RETIRED.LOAD_LATENCY_GT_n */
        return EVENT_LOAD_LATENCY;
    default:
        return EVENT_NONE;
    }
}

/* Where the budget of instructions stands: grows with time while running. */
static int64_t time_position(CPUState *cs)
{
    if (icount_enabled()) {
        return -(cs->icount_extra + cs->neg.icount_decr.u16.low);
    }
    return qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
}

static void overflow(CPUX86State *env, int counter, const PMUAccess *access)
{
    X86PMU *pmu = env->pmu;
    uint64_t bit = counter_bit(counter);

    pmu->regs.counter[counter] &= COUNTER_MASK;
    if (pmu->regs.pebs_enable & bit) {
        pebs_record(env, counter, access);
    } else if (pmu->active[counter].pmi) {
        pmu_interrupt(env, bit);
    } else {
        pmu->regs.global_status |= bit;
    }
}

static void sync_accesses(X86PMU *pmu)
{
    for (int ring = 0; ring < NR_RINGS; ring++) {
        for (int kind = 0; kind < NR_KINDS; kind++) {
            uint64_t n = pmu->armed[ring][kind] - pmu->left[ring][kind];
            uint32_t counters = pmu->countdown_counters[ring][kind];

            for (; n && counters; counters &= counters - 1) {
                pmu->regs.counter[ctz32(counters)] += n;
            }
            pmu->armed[ring][kind] = pmu->left[ring][kind];
        }
    }
}

static void sync_time(CPUX86State *env)
{
    X86PMU *pmu = env->pmu;
    int ring = ring_of(env);
    int64_t now, cycles;
    uint64_t charged, instructions;

    if (!pmu->running) {
        return;
    }
    now = time_position(env_cpu(env));
    charged = memory_timing_charged();
    cycles = now - pmu->time_base;
    instructions = cycles - (charged - pmu->charged_base);
    pmu->time_base = now;
    pmu->charged_base = charged;
    for (uint32_t m = pmu->time_counters; m; m &= m - 1) {
        int i = ctz32(m);

        if (pmu->active[i].ring[ring]) {
            pmu->regs.counter[i] +=
                pmu->active[i].event == EVENT_CYCLES ? cycles : instructions;
        }
    }
}

void pmu_sync(CPUX86State *env)
{
    X86PMU *pmu = env->pmu;

    sync_accesses(pmu);
    sync_time(env);
    for (uint32_t m = pmu->time_counters; m; m &= m - 1) {
        if (pmu->regs.counter[ctz32(m)] > COUNTER_MASK) {
            overflow(env, ctz32(m), NULL);
        }
    }
}

static uint64_t until_overflow(X86PMU *pmu, int counter)
{
    return COUNTER_MASK + 1 - pmu->regs.counter[counter];
}

/*
 * A counter may be fed by several countdowns.  They share what it has left, so
 * that they cannot exceed it together; the last of it is dealt out one by one.
 */
static uint64_t share_of_countdown(X86PMU *pmu, int counter)
{
    int sharers = pmu->active[counter].ring[USER] +
                  pmu->active[counter].ring[KERNEL];

    return DIV_ROUND_UP(until_overflow(pmu, counter), sharers);
}

static void arm_accesses(X86PMU *pmu)
{
    for (int ring = 0; ring < NR_RINGS; ring++) {
        for (int kind = 0; kind < NR_KINDS; kind++) {
            uint64_t left = UINT64_MAX;

            for (uint32_t m = pmu->countdown_counters[ring][kind]; m;
                 m &= m - 1) {
                left = MIN(left, share_of_countdown(pmu, ctz32(m)));
            }
            pmu->armed[ring][kind] = pmu->left[ring][kind] = left;
        }
    }
}

/*
 * Have the vCPU stop where a time counter may overflow, after sync_time().
 * Under icount cut the budget that it may execute: where stalls make
 * instructions arrive later than cycles, the next turn goes for the rest.
 */
static void arm_time(CPUX86State *env)
{
    X86PMU *pmu = env->pmu;
    CPUState *cs = env_cpu(env);
    int64_t left = INT64_MAX, budget;

    if (!pmu->running || !pmu->time_counters) {
        return;
    }
    for (uint32_t m = pmu->time_counters; m; m &= m - 1) {
        left = MIN(left, until_overflow(pmu, ctz32(m)));
    }
    if (!icount_enabled()) {
        timer_mod_anticipate_ns(pmu->timer, pmu->time_base + left);
        return;
    }
    budget = cs->icount_extra + cs->neg.icount_decr.u16.low;
    if (left < budget) {
        cs->icount_budget -= budget - left;
        cs->neg.icount_decr.u16.low = MIN(left, cs->neg.icount_decr.u16.low);
        cs->icount_extra = left - cs->neg.icount_decr.u16.low;
        pmu->time_base = time_position(cs);
    }
}

void pmu_arm(CPUX86State *env)
{
    arm_accesses(env->pmu);
    arm_time(env);
}

/* Decode the control registers of @counter; is it on? */
static bool decode(X86PMU *pmu, int counter)
{
    PMURegisters *regs = &pmu->regs;
    bool user, kernel;

    if (counter < NR_GP) {
        uint64_t sel = regs->evtsel[counter];

        user = sel & EVTSEL_EN && sel & EVTSEL_USR;
        kernel = sel & EVTSEL_EN && sel & EVTSEL_OS;
        pmu->active[counter].event = event_of(sel);
        pmu->active[counter].pmi = sel & EVTSEL_INT;
        pmu->active[counter].adaptive = sel & EVTSEL_ADAPTIVE;
    } else {
        int shift = 4 * (counter - NR_GP);

        kernel = extract64(regs->fixed_ctrl, shift, 1);
        user = extract64(regs->fixed_ctrl, shift + 1, 1);
        pmu->active[counter].event = counter == NR_GP ? EVENT_INSTRUCTIONS
                                                      : EVENT_CYCLES;
        pmu->active[counter].pmi = extract64(regs->fixed_ctrl, shift + 3, 1);
        pmu->active[counter].adaptive =
            extract64(regs->fixed_ctrl, 32 + shift, 1);
    }
    pmu->active[counter].ring[USER] = user;
    pmu->active[counter].ring[KERNEL] = kernel;
    return (user || kernel) && regs->global_ctrl & counter_bit(counter) &&
           pmu->active[counter].event != EVENT_NONE;
}

void pmu_update(CPUX86State *env)
{
    static const uint32_t flag[NR_RINGS][NR_KINDS] = {
        [KERNEL] = { HF_PMU_LOAD_KERNEL_MASK, HF_PMU_STORE_KERNEL_MASK },
        [USER] = { HF_PMU_LOAD_USER_MASK, HF_PMU_STORE_USER_MASK },
    };
    X86PMU *pmu = env->pmu;

    memset(pmu->countdown_counters, 0, sizeof(pmu->countdown_counters));
    pmu->miss_counters = pmu->time_counters = 0;
    env->hflags &= ~HF_PMU_MASK;
    for (int i = 0; i < NR_COUNTERS; i++) {
        Event event;

        if (!decode(pmu, i)) {
            continue;
        }
        event = pmu->active[i].event;
        if (event == EVENT_INSTRUCTIONS || event == EVENT_CYCLES) {
            pmu->time_counters |= 1 << i;
            continue;
        }
        if (event != EVENT_LOADS && event != EVENT_STORES) {
            pmu->miss_counters |= 1 << i;
        }
        for (int ring = 0; ring < NR_RINGS; ring++) {
            if (!pmu->active[i].ring[ring]) {
                continue;
            }
            if (event != EVENT_STORES) {
                env->hflags |= flag[ring][LOAD];
            }
            if (event == EVENT_STORES || event == EVENT_LLC_MISSES) {
                env->hflags |= flag[ring][STORE];
            }
            if (event == EVENT_LOADS || event == EVENT_STORES) {
                pmu->countdown_counters[ring][event == EVENT_STORES] |= 1 << i;
            }
        }
    }
    pmu_arm(env);
}

/* Accesses */

/* A countdown has expired: counters that are full overflow on this access. */
static __attribute__((noinline))
void countdown_expired(CPUX86State *env, int ring, const PMUAccess *access)
{
    X86PMU *pmu = env->pmu;

    sync_accesses(pmu);
    for (uint32_t m = pmu->countdown_counters[ring][access->store]; m;
         m &= m - 1) {
        if (pmu->regs.counter[ctz32(m)] > COUNTER_MASK) {
            overflow(env, ctz32(m), access);
        }
    }
    arm_accesses(pmu);
}

static bool counts_miss(X86PMU *pmu, Event event, const PMUAccess *access)
{
    uint8_t source = pmu->node_source[access->result.node];

    if (event == EVENT_LLC_MISSES) {
        return true;
    }
    if (access->store) {
        return false;
    }
    switch (event) {
    case EVENT_L3_MISS_LOADS:
        return true;
    case EVENT_L3_MISS_LOCAL:
        return source == SOURCE_LOCAL_DRAM;
    case EVENT_L3_MISS_REMOTE:
        return source != SOURCE_LOCAL_DRAM;
    case EVENT_L3_MISS_PMEM:
        return source == SOURCE_PMEM;
    case EVENT_LOAD_LATENCY:
        return access->result.latency_ns > pmu->regs.ld_lat;
    default:
        g_assert_not_reached();
    }
}

static __attribute__((noinline))
void count_miss(CPUX86State *env, int ring, const PMUAccess *access)
{
    X86PMU *pmu = env->pmu;

    for (uint32_t m = pmu->miss_counters; m; m &= m - 1) {
        int i = ctz32(m);

        if (pmu->active[i].ring[ring] &&
            counts_miss(pmu, pmu->active[i].event, access) &&
            ++pmu->regs.counter[i] > COUNTER_MASK) {
            overflow(env, i, access);
        }
    }
}

/* The hook where there is no memory timing model */
void helper_pmu_access(CPUX86State *env, uint64_t addr, uint32_t arg)
{
    int ring = ring_of(env);
    bool store = arg & MEM_HOOK_STORE;
    PMUAccess access;

    /* Hardware moves strings by the cache line. */
    if (arg & MEM_HOOK_STRING &&
        addr % LINE_BYTES >= memop_size(get_memop(arg))) {
        return;
    }
    if (likely(--env->pmu->left[ring][store])) {
        return;
    }
    access = (PMUAccess) { .addr = addr, .store = store, .retaddr = GETPC() };
    countdown_expired(env, ring, &access);
}

/* The hook where there is one, which it stands in for */
void helper_pmu_timed_access(CPUX86State *env, uint64_t addr, uint32_t arg)
{
    X86PMU *pmu = env->pmu;
    MemoryTimingAccess result = memory_timing_access(env_cpu(env), addr, arg);
    int ring = ring_of(env);
    bool store = arg & MEM_HOOK_STORE;
    bool expired = !result.repeat && !--pmu->left[ring][store];
    PMUAccess access;

    if (likely(!expired && !(result.missed && pmu->miss_counters))) {
        return;
    }
    access = (PMUAccess) {
        .addr = addr, .store = store, .retaddr = GETPC(),
        .modelled = true, .result = result,
    };
    if (result.missed) {
        count_miss(env, ring, &access);
    }
    if (expired) {
        countdown_expired(env, ring, &access);
    }
}

/* Time */

void x86_pmu_cpl_changes(CPUX86State *env)
{
    if (env->pmu->time_counters) {
        pmu_sync(env);
        arm_time(env);
    }
}

void x86_pmu_exec_enter(CPUX86State *env)
{
    X86PMU *pmu = env->pmu;

    if (pmu) {
        pmu->running = true;
        pmu->time_base = time_position(env_cpu(env));
        pmu->charged_base = memory_timing_charged();
        arm_time(env);
    }
}

void x86_pmu_exec_exit(CPUX86State *env)
{
    X86PMU *pmu = env->pmu;

    if (pmu) {
        if (pmu->time_counters) {
            pmu_sync(env);
            arm_accesses(pmu);
            timer_del(pmu->timer);
        }
        pmu->running = false;
    }
}

/* Interrupts */

static void deliver_pmi(CPUState *cs, run_on_cpu_data unused)
{
    CPUX86State *env = cpu_env(cs);
    X86PMU *pmu = env->pmu;
    DeviceState *apic = env_archcpu(env)->apic_state;

    pmu->pmi_queued = false;
    pmu->regs.pmi_held = pmu->regs.global_status && apic &&
                         !apic_deliver_pmi(apic);
}

/*
 * Not at once: this may be in the midst of a translation block and without the
 * BQL, and the local APIC wants neither.
 */
static void queue_pmi(CPUX86State *env)
{
    X86PMU *pmu = env->pmu;

    if (!pmu->pmi_queued) {
        pmu->pmi_queued = true;
        async_run_on_cpu(env_cpu(env), deliver_pmi, RUN_ON_CPU_NULL);
    }
}

void pmu_interrupt(CPUX86State *env, uint64_t status)
{
    env->pmu->regs.global_status |= status;
    queue_pmi(env);
}

/*
 * A PMI that comes while the LVT entry is masked is delivered once it is not,
 * if its cause still stands.
 */
void x86_pmu_lvtpc_written(CPUX86State *env)
{
    if (env->pmu && env->pmu->regs.pmi_held) {
        queue_pmi(env);
    }
}
