/*
 * Intel performance monitoring unit under TCG: CPUID, registers, migration
 *
 * Architectural performance monitoring of version 5, with the counters and the
 * PEBS of Ice Lake, as Intel's Software Developer's Manual has them (volume 3,
 * chapter "Performance Monitoring"; volume 4 for the bits of each MSR).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "hw/boards.h"
#include "migration/vmstate.h"
#include "system/tcg.h"
#include "tcg/pmu.h"
#include "pmu-internal.h"

#define MSR_OFFCORE_RSP_0           0x1a6
#define MSR_PERF_GLOBAL_STATUS_SET  0x391
#define MSR_PERF_GLOBAL_INUSE       0x392
#define MSR_PEBS_ENABLE             0x3f1
#define MSR_PEBS_DATA_CFG           0x3f2
#define MSR_PEBS_LD_LAT_THRESHOLD   0x3f6
#define MSR_PEBS_FRONTEND           0x3f7
#define MSR_A_PMC0                  0x4c1   /* full-width writes */
#define MSR_DS_AREA                 0x600

/* Trap-like records with registers, of format 4; full-width writes; baseline */
#define PERF_CAPABILITIES   ((1 << 6) | (1 << 7) | (4 << 8) | (1 << 13) | \
                             (1 << 14))

/* Read-only bits of MISC_ENABLE */
#define MISC_ENABLE_PERFMON     (1ull << 7)
#define MISC_ENABLE_NO_BTS      (1ull << 11)
#define MISC_ENABLE_NO_PEBS     (1ull << 12)
#define MISC_ENABLE_PMU         (MISC_ENABLE_PERFMON | MISC_ENABLE_NO_BTS | \
                                 MISC_ENABLE_NO_PEBS)

/* Without AnyThread (bit 21), and TSX (32, 33), but with adaptive PEBS (34) */
#define EVTSEL_VALID            0x4ffdfffffull
/* Of each fixed counter: rings, PMI; adaptive PEBS in the upper half */
#define FIXED_CTRL_VALID        (0xbbbbull | (0x1111ull << 32))
#define GLOBAL_STATUS_VALID     (ALL_COUNTERS | STATUS_OVF_BUF)
/* What Linux knows to set; the register is stored and has no effect. */
#define FRONTEND_VALID          0x7fffffull
#define OFFCORE_RSP_VALID       MAKE_64BIT_MASK(0, 38)
#define LD_LAT_VALID            0xffffull
/* Memory information, general registers, XMM registers; no LBR */
#define PEBS_DATA_CFG_VALID     0x7ull

/* Architectural events of CPUID leaf 0xa that are not counted, as bits */
#define NO_LLC_REFERENCES       (1 << 3)
#define NO_LLC_MISSES           (1 << 4)
#define NO_BRANCHES             (3 << 5)
#define NR_ARCH_EVENTS          8

void x86_pmu_cpuid_1(CPUX86State *env, uint32_t *ecx, uint32_t *edx)
{
    if (env->pmu) {
        *ecx |= CPUID_EXT_PDCM | CPUID_EXT_DTES64;
        *edx |= CPUID_DTS;
    }
}

bool x86_pmu_cpuid_a(CPUX86State *env, uint32_t *eax, uint32_t *ebx,
                     uint32_t *ecx, uint32_t *edx)
{
    if (!env->pmu) {
        return false;
    }
    *eax = 5 | NR_GP << 8 | COUNTER_WIDTH << 16 | NR_ARCH_EVENTS << 24;
    *ebx = NO_LLC_REFERENCES | NO_BRANCHES |
           (memory_timing_enabled() ? 0 : NO_LLC_MISSES);
    *ecx = MAKE_64BIT_MASK(0, NR_FIXED);
    *edx = NR_FIXED | COUNTER_WIDTH << 5 | 1 << 15; /* AnyThread deprecated */
    return true;
}

/* The register behind @msr and its writable bits, NULL where there is none. */
static uint64_t *find_register(PMURegisters *regs, uint32_t msr,
                               uint64_t *valid)
{
    switch (msr) {
    case MSR_P6_PERFCTR0 ... MSR_P6_PERFCTR0 + NR_GP - 1:
        *valid = UINT64_MAX;
        return &regs->counter[msr - MSR_P6_PERFCTR0];
    case MSR_A_PMC0 ... MSR_A_PMC0 + NR_GP - 1:
        *valid = COUNTER_MASK;
        return &regs->counter[msr - MSR_A_PMC0];
    case MSR_CORE_PERF_FIXED_CTR0 ... MSR_CORE_PERF_FIXED_CTR0 + NR_FIXED - 1:
        *valid = COUNTER_MASK;
        return &regs->counter[NR_GP + msr - MSR_CORE_PERF_FIXED_CTR0];
    case MSR_P6_EVNTSEL0 ... MSR_P6_EVNTSEL0 + NR_GP - 1:
        *valid = EVTSEL_VALID;
        return &regs->evtsel[msr - MSR_P6_EVNTSEL0];
    case MSR_CORE_PERF_FIXED_CTR_CTRL:
        *valid = FIXED_CTRL_VALID;
        return &regs->fixed_ctrl;
    case MSR_CORE_PERF_GLOBAL_CTRL:
        *valid = ALL_COUNTERS;
        return &regs->global_ctrl;
    case MSR_PEBS_ENABLE:
        *valid = ALL_COUNTERS;
        return &regs->pebs_enable;
    case MSR_PEBS_DATA_CFG:
        *valid = PEBS_DATA_CFG_VALID;
        return &regs->pebs_data_cfg;
    case MSR_PEBS_LD_LAT_THRESHOLD:
        *valid = LD_LAT_VALID;
        return &regs->ld_lat;
    case MSR_PEBS_FRONTEND:
        *valid = FRONTEND_VALID;
        return &regs->pebs_frontend;
    case MSR_OFFCORE_RSP_0 ... MSR_OFFCORE_RSP_0 + 1:
        *valid = OFFCORE_RSP_VALID;
        return &regs->offcore_rsp[msr - MSR_OFFCORE_RSP_0];
    case MSR_DS_AREA:
        *valid = UINT64_MAX;
        return &regs->ds_area;
    default:
        return NULL;
    }
}

/* An address whose upper bits all equal its top implemented one */
static bool is_canonical(CPUX86State *env, uint64_t addr)
{
    int bits = env->cr[4] & CR4_LA57_MASK ? 57 : 48;

    return sextract64(addr, 0, bits) == (int64_t)addr;
}

static X86PMUAccess write_register(CPUX86State *env, uint32_t msr, uint64_t val)
{
    uint64_t valid;
    uint64_t *reg = find_register(&env->pmu->regs, msr, &valid);

    if (!reg) {
        return X86_PMU_NOT_MINE;
    }
    if (val & ~valid || (msr == MSR_DS_AREA && !is_canonical(env, val))) {
        return X86_PMU_FAULT;
    }
    if (msr >= MSR_P6_PERFCTR0 && msr < MSR_P6_PERFCTR0 + NR_GP) {
        val = sextract64(val, 0, 32) & COUNTER_MASK;
    }
    pmu_sync(env);
    *reg = val;
    pmu_update(env);
    return X86_PMU_DONE;
}

X86PMUAccess x86_pmu_wrmsr(CPUX86State *env, uint32_t msr, uint64_t val)
{
    X86PMU *pmu = env->pmu;

    if (!pmu) {
        return X86_PMU_NOT_MINE;
    }
    switch (msr) {
    case MSR_IA32_MISC_ENABLE:
        env->msr_ia32_misc_enable = (val & ~MISC_ENABLE_PMU) |
            (env->msr_ia32_misc_enable & MISC_ENABLE_PMU);
        return X86_PMU_DONE;
    case MSR_IA32_PERF_CAPABILITIES:
    case MSR_CORE_PERF_GLOBAL_STATUS:
    case MSR_PERF_GLOBAL_INUSE:
        return X86_PMU_FAULT;           /* read only */
    case MSR_CORE_PERF_GLOBAL_OVF_CTRL:
    case MSR_PERF_GLOBAL_STATUS_SET:
        if (val & ~GLOBAL_STATUS_VALID) {
            return X86_PMU_FAULT;
        }
        pmu_sync(env);
        if (msr == MSR_PERF_GLOBAL_STATUS_SET) {
            pmu->regs.global_status |= val;
        } else {
            pmu->regs.global_status &= ~val;
        }
        pmu_arm(env);
        return X86_PMU_DONE;
    default:
        return write_register(env, msr, val);
    }
}

/* Counters in use: selected, or enabled in FIXED_CTR_CTRL or PEBS_ENABLE */
static uint64_t in_use(PMURegisters *regs)
{
    uint64_t used = 0;
    bool pmi = false;

    for (int i = 0; i < NR_GP; i++) {
        if (regs->evtsel[i] & 0xff) {
            used |= counter_bit(i);
            pmi |= extract64(regs->evtsel[i], 20, 1);
        }
    }
    for (int i = 0; i < NR_FIXED; i++) {
        if (regs->fixed_ctrl >> 4 * i & 3) {
            used |= counter_bit(NR_GP + i);
            pmi |= extract64(regs->fixed_ctrl, 4 * i + 3, 1);
        }
    }
    return used | (uint64_t)(pmi || regs->pebs_enable) << 63;
}

static X86PMUAccess read_register(CPUX86State *env, uint64_t *reg,
                                  uint64_t *val)
{
    pmu_sync(env);
    pmu_arm(env);
    *val = *reg;
    return X86_PMU_DONE;
}

X86PMUAccess x86_pmu_rdmsr(CPUX86State *env, uint32_t msr, uint64_t *val)
{
    X86PMU *pmu = env->pmu;
    uint64_t valid, *reg;

    if (!pmu) {
        return X86_PMU_NOT_MINE;
    }
    switch (msr) {
    case MSR_IA32_PERF_CAPABILITIES:
        *val = PERF_CAPABILITIES;
        return X86_PMU_DONE;
    case MSR_CORE_PERF_GLOBAL_STATUS:
        return read_register(env, &pmu->regs.global_status, val);
    case MSR_PERF_GLOBAL_INUSE:
        *val = in_use(&pmu->regs);
        return X86_PMU_DONE;
    case MSR_CORE_PERF_GLOBAL_OVF_CTRL:
    case MSR_PERF_GLOBAL_STATUS_SET:
        *val = 0;
        return X86_PMU_DONE;
    default:
        reg = find_register(&pmu->regs, msr, &valid);
        return reg ? read_register(env, reg, val) : X86_PMU_NOT_MINE;
    }
}

X86PMUAccess x86_pmu_rdpmc(CPUX86State *env, uint32_t index, uint64_t *val)
{
    const uint32_t fixed = 1u << 30;
    X86PMU *pmu = env->pmu;

    if (!pmu) {
        return X86_PMU_NOT_MINE;
    }
    pmu_sync(env);
    pmu_arm(env);
    if (index < NR_GP) {
        *val = pmu->regs.counter[index];
    } else if (index >= fixed && index - fixed < NR_FIXED) {
        *val = pmu->regs.counter[NR_GP + index - fixed];
    } else {
        return X86_PMU_FAULT;
    }
    return X86_PMU_DONE;
}

void x86_pmu_reset(CPUX86State *env)
{
    X86PMU *pmu = env->pmu;

    if (!pmu) {
        return;
    }
    memset(&pmu->regs, 0, sizeof(pmu->regs));
    pmu->regs.global_ctrl = MAKE_64BIT_MASK(0, NR_GP);
    env->msr_ia32_misc_enable |= MISC_ENABLE_PERFMON | MISC_ENABLE_NO_BTS;
    pmu_update(env);
}

static bool node_has_cpus(MachineState *ms, int node)
{
    for (int i = 0; i < ms->possible_cpus->len; i++) {
        CpuInstanceProperties *props = &ms->possible_cpus->cpus[i].props;

        if (props->has_node_id && props->node_id == node) {
            return true;
        }
    }
    return false;
}

/* Memory of a node without CPUs is what a slow tier looks like: PMEM. */
static void classify_nodes(X86PMU *pmu, X86CPU *cpu)
{
    MachineState *ms = MACHINE(qdev_get_machine());
    int nodes = ms->numa_state ? ms->numa_state->num_nodes : 0;
    int own = MAX(cpu->node_id, 0);

    pmu->node_source[0] = SOURCE_LOCAL_DRAM;
    for (int i = 0; i < nodes; i++) {
        pmu->node_source[i] = i == own ? SOURCE_LOCAL_DRAM
                            : node_has_cpus(ms, i) ? SOURCE_REMOTE_DRAM
                            : SOURCE_PMEM;
    }
}

/* Without icount: a time counter overflows; x86_pmu_exec_exit() sees to it. */
static void time_is_up(void *opaque)
{
    cpu_exit(opaque);
}

void x86_pmu_realize(X86CPU *cpu)
{
    CPUX86State *env = &cpu->env;
    X86PMU *pmu;

    if (!cpu->enable_pmu || !IS_INTEL_CPU(env)) {
        return;
    }
    pmu = g_new0(X86PMU, 1);
    pmu->timer = timer_new_ns(QEMU_CLOCK_VIRTUAL, time_is_up, CPU(cpu));
    classify_nodes(pmu, cpu);
    env->pmu = pmu;
}

void x86_pmu_unrealize(X86CPU *cpu)
{
    X86PMU *pmu = cpu->env.pmu;

    if (pmu) {
        timer_free(pmu->timer);
        g_free(pmu);
        cpu->env.pmu = NULL;
    }
}

static bool pmu_needed(void *opaque)
{
    X86CPU *cpu = opaque;

    return cpu->env.pmu;
}

static int pmu_pre_save(void *opaque)
{
    X86CPU *cpu = opaque;

    pmu_sync(&cpu->env);
    pmu_arm(&cpu->env);
    return 0;
}

static int pmu_post_load(void *opaque, int version_id)
{
    X86CPU *cpu = opaque;
    PMURegisters *regs = &cpu->env.pmu->regs;

    /* The stream need not come from a PMU: keep what it upholds. */
    for (int i = 0; i < NR_COUNTERS; i++) {
        if (regs->counter[i] & ~COUNTER_MASK) {
            return -EINVAL;
        }
    }
    pmu_update(&cpu->env);
    return 0;
}

static const VMStateDescription vmstate_registers = {
    .name = "cpu/tcg_pmu/registers",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT64_ARRAY(regs.counter, X86PMU, NR_COUNTERS),
        VMSTATE_UINT64_ARRAY(regs.evtsel, X86PMU, NR_GP),
        VMSTATE_UINT64(regs.fixed_ctrl, X86PMU),
        VMSTATE_UINT64(regs.global_ctrl, X86PMU),
        VMSTATE_UINT64(regs.global_status, X86PMU),
        VMSTATE_UINT64(regs.pebs_enable, X86PMU),
        VMSTATE_UINT64(regs.pebs_data_cfg, X86PMU),
        VMSTATE_UINT64(regs.pebs_frontend, X86PMU),
        VMSTATE_UINT64(regs.ld_lat, X86PMU),
        VMSTATE_UINT64(regs.ds_area, X86PMU),
        VMSTATE_UINT64_ARRAY(regs.offcore_rsp, X86PMU, 2),
        VMSTATE_BOOL(regs.pmi_held, X86PMU),
        VMSTATE_END_OF_LIST()
    }
};

const VMStateDescription vmstate_x86_pmu = {
    .name = "cpu/tcg_pmu",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = pmu_needed,
    .pre_save = pmu_pre_save,
    .post_load = pmu_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_STRUCT_POINTER(env.pmu, X86CPU, vmstate_registers, X86PMU),
        VMSTATE_END_OF_LIST()
    }
};
