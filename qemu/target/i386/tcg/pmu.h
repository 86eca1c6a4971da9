/*
 * Intel performance monitoring unit under TCG: what the CPU calls
 *
 * docs/system/i386/tcg-pmu.rst says what is modelled.  The PMU exists where
 * env->pmu does: Intel CPUs with property pmu=on.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef I386_TCG_PMU_H
#define I386_TCG_PMU_H

#include "cpu.h"

/* What became of an access to a model-specific register. */
typedef enum X86PMUAccess {
    X86_PMU_NOT_MINE,       /* not a register of the PMU */
    X86_PMU_DONE,
    X86_PMU_FAULT,          /* #GP(0) */
} X86PMUAccess;

#if defined(CONFIG_TCG) && !defined(CONFIG_USER_ONLY)

extern const VMStateDescription vmstate_x86_pmu;

/* Give @cpu a PMU if its properties ask for one. */
void x86_pmu_realize(X86CPU *cpu);
void x86_pmu_unrealize(X86CPU *cpu);

/* The functions below do nothing for a CPU without PMU. */

void x86_pmu_reset(CPUX86State *env);

/* Adds what CPUID leaf 1 says of the PMU. */
void x86_pmu_cpuid_1(CPUX86State *env, uint32_t *ecx, uint32_t *edx);

/* Leaf 0xa; false without PMU. */
bool x86_pmu_cpuid_a(CPUX86State *env, uint32_t *eax, uint32_t *ebx,
                     uint32_t *ecx, uint32_t *edx);

X86PMUAccess x86_pmu_wrmsr(CPUX86State *env, uint32_t msr, uint64_t val);
X86PMUAccess x86_pmu_rdmsr(CPUX86State *env, uint32_t msr, uint64_t *val);

/* RDPMC of counter @index; X86_PMU_NOT_MINE without PMU. */
X86PMUAccess x86_pmu_rdpmc(CPUX86State *env, uint32_t index, uint64_t *val);

/* The vCPU begins and ceases to execute. */
void x86_pmu_exec_enter(CPUX86State *env);
void x86_pmu_exec_exit(CPUX86State *env);

/* The guest wrote to LVTPC of the local APIC. */
void x86_pmu_lvtpc_written(CPUX86State *env);

#else

static inline void x86_pmu_unrealize(X86CPU *cpu)
{
}

static inline void x86_pmu_reset(CPUX86State *env)
{
}

static inline void x86_pmu_cpuid_1(CPUX86State *env, uint32_t *ecx,
                                   uint32_t *edx)
{
}

static inline bool x86_pmu_cpuid_a(CPUX86State *env, uint32_t *eax,
                                   uint32_t *ebx, uint32_t *ecx, uint32_t *edx)
{
    return false;
}

static inline X86PMUAccess x86_pmu_rdpmc(CPUX86State *env, uint32_t index,
                                         uint64_t *val)
{
    return X86_PMU_NOT_MINE;
}

static inline void x86_pmu_exec_enter(CPUX86State *env)
{
}

static inline void x86_pmu_exec_exit(CPUX86State *env)
{
}

static inline void x86_pmu_lvtpc_written(CPUX86State *env)
{
}

#endif

#endif /* I386_TCG_PMU_H */
