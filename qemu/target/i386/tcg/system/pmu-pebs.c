/*
 * Intel performance monitoring unit under TCG: precise event-based sampling
 *
 * A record of format 4 describes the access on which a counter overflows.  It
 * goes to a buffer that the guest's debug store area names.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/log.h"
#include "cpu.h"
#include "exec/cputlb.h"
#include "exec/exec-all.h"
#include "tcg/helper-tcg.h"
#include "tcg/insn-start-words.h"
#include "pmu-internal.h"

/* Groups of a record, in PEBS_DATA_CFG and in the record's first word */
#define GROUP_MEMORY        (1 << 0)
#define GROUP_GPRS          (1 << 1)
#define GROUP_XMMS          (1 << 2)

/* Words of a record: basic group, memory information, registers */
#define MAX_WORDS           (4 + 4 + 18 + 32)

/* What the debug store area says of the PEBS buffer, from this offset on */
#define DS_PEBS_OFFSET      0x20

typedef struct DebugStore {
    uint64_t base, index, maximum, threshold;
    uint64_t reset[NR_COUNTERS];
} DebugStore;

/* Copy between @buf and guest memory at @addr; false where that would fault. */
static bool guest_copy(CPUX86State *env, uint64_t addr, void *buf, size_t len,
                       MMUAccessType type)
{
    int mmu_idx = cpu_mmu_index_kernel(env);

    while (len) {
        size_t n = MIN(len, TARGET_PAGE_SIZE - (addr & ~TARGET_PAGE_MASK));
        void *host;
        int flags = probe_access_flags(env, addr, n, type, mmu_idx, true, &host,
                                       0);

        if (flags & (TLB_INVALID_MASK | TLB_MMIO | TLB_DISCARD_WRITE) ||
            !host) {
            return false;
        }
        if (type == MMU_DATA_STORE) {
            memcpy(host, buf, n);
        } else {
            memcpy(buf, host, n);
        }
        addr += n;
        buf += n;
        len -= n;
    }
    return true;
}

static void bad_debug_store(CPUX86State *env, const char *why)
{
    X86PMU *pmu = env->pmu;

    pmu->regs.pebs_enable = 0;
    if (!pmu->ds_fault_logged) {
        pmu->ds_fault_logged = true;
        qemu_log_mask(LOG_GUEST_ERROR, "CPU %d: debug store area at 0x%" PRIx64
                      " %s: PEBS disabled\n", env_cpu(env)->cpu_index,
                      pmu->regs.ds_area, why);
    }
}

/* Linear address of the instruction at hand, and its flags. */
static uint64_t precise_ip(CPUX86State *env, uintptr_t retaddr,
                           uint64_t *eflags)
{
    uint64_t base = env->hflags & HF_CS64_MASK ? 0 : env->segs[R_CS].base;
    uint64_t ip = env->eip + base;
    uint64_t data[TARGET_INSN_START_WORDS];
    uint32_t cc_op = env->cc_op;

    if (retaddr && cpu_unwind_state_data(env_cpu(env), retaddr, data)) {
        /* As x86_restore_state_to_opc() does. */
        ip = tcg_cflags_has(env_cpu(env), CF_PCREL)
             ? (ip & TARGET_PAGE_MASK) | data[0] : data[0];
        if (data[1] != CC_OP_DYNAMIC) {
            env->cc_op = data[1];
        }
    }
    *eflags = cpu_compute_eflags(env);
    env->cc_op = cc_op;
    return ip;
}

static uint64_t read_tsc(CPUX86State *env)
{
    CPUState *cs = env_cpu(env);
    bool can_do_io = cs->neg.can_do_io;
    uint64_t tsc;

    /*
     * Under icount, the clock may not be read in the midst of a translation
     * block as it counts all of the block's instructions at its beginning.
     * A record can do with that.
     */
    cs->neg.can_do_io = true;
    tsc = cpu_get_tsc(env) + env->tsc_offset;
    cs->neg.can_do_io = can_do_io;
    return tsc;
}

static uint64_t data_source(X86PMU *pmu, const PMUAccess *access)
{
    if (!access->modelled) {
        return SOURCE_UNKNOWN;
    }
    if (access->store) {
        return access->result.missed ? 0 : SOURCE_STORE_HIT;
    }
    if (access->result.node < 0) {
        return SOURCE_UNCACHED;
    }
    return access->result.missed ? pmu->node_source[access->result.node]
                                 : SOURCE_L3_HIT;
}

/* Compose a record; returns its length in words. */
static int compose(CPUX86State *env, int counter, const PMUAccess *access,
                   uint64_t *rec)
{
    static const uint8_t order[] = {
        R_EAX, R_ECX, R_EDX, R_EBX, R_ESP, R_EBP, R_ESI, R_EDI,
        R_R8, R_R9, R_R10, R_R11, R_R12, R_R13, R_R14, R_R15,
    };
    X86PMU *pmu = env->pmu;
    uint64_t groups = pmu->active[counter].adaptive ? pmu->regs.pebs_data_cfg
                                                    : 0;
    uint64_t eflags;
    int n = 1;

    rec[n++] = precise_ip(env, access ? access->retaddr : 0, &eflags);
    rec[n++] = counter_bit(counter);
    rec[n++] = read_tsc(env);
    if (groups & GROUP_MEMORY) {
        rec[n++] = access ? access->addr : 0;
        rec[n++] = access ? data_source(pmu, access) : 0;
        rec[n++] = access ? access->result.latency_ns : 0;
        rec[n++] = 0;                   /* transactions */
    }
    if (groups & GROUP_GPRS) {
        rec[n++] = eflags;
        rec[n++] = rec[1];
        for (int i = 0; i < ARRAY_SIZE(order); i++) {
            rec[n++] = env->regs[order[i]];
        }
    }
    if (groups & GROUP_XMMS) {
        for (int i = 0; i < 16; i++) {
            rec[n++] = env->xmm_regs[i].ZMM_Q(0);
            rec[n++] = env->xmm_regs[i].ZMM_Q(1);
        }
    }
    rec[0] = groups | (uint64_t)n * 8 << 48;
    return n;
}

void pebs_record(CPUX86State *env, int counter, const PMUAccess *access)
{
    X86PMU *pmu = env->pmu;
    uint64_t area = pmu->regs.ds_area + DS_PEBS_OFFSET;
    uint64_t rec[MAX_WORDS];
    DebugStore ds;
    size_t size;

    if (!guest_copy(env, area, &ds, sizeof(ds), MMU_DATA_LOAD)) {
        bad_debug_store(env, "cannot be read");
        return;
    }
    if (ds.base > ds.index || ds.index > ds.maximum) {
        bad_debug_store(env, "has its PEBS index outside of its buffer");
        return;
    }
    pmu->regs.counter[counter] = ds.reset[counter] & COUNTER_MASK;
    size = compose(env, counter, access, rec) * sizeof(*rec);
    if (ds.maximum - ds.index < size) {
        return;                         /* full: the guest was told before */
    }
    if (!guest_copy(env, ds.index, rec, size, MMU_DATA_STORE)) {
        bad_debug_store(env, "has a PEBS buffer that cannot be written");
        return;
    }
    ds.index += size;
    if (!guest_copy(env, area + offsetof(DebugStore, index), &ds.index,
                    sizeof(ds.index), MMU_DATA_STORE)) {
        bad_debug_store(env, "cannot be written");
        return;
    }
    memory_timing_sample(env_cpu(env));
    if (ds.index >= ds.threshold) {
        pmu_interrupt(env, STATUS_OVF_BUF);
    }
}
