/*
 * Memory timing model: guest virtual time that depends on where memory lies
 *
 * Every data access of the guest goes through a last-level cache.  A miss
 * stalls the vCPU for the latency of the NUMA node that the memory belongs to;
 * page walks, exceptions, interrupts and hardware samples have a cost as well.
 * Stalls are paid in instructions taken from the running icount budget, so that
 * all of the guest's clocks and timers see them.  docs/system/memory-timing.rst
 * says what is modelled, from which sources, and what is left out.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "qapi/qapi-commands-machine.h"
#include "cpu.h"
#include "exec/helper-proto.h"
#include "exec/ramblock.h"
#include "hw/boards.h"
#include "hw/mem/memory-device.h"
#include "system/hostmem.h"
#include "system/numa.h"
#include "tcg/tcg.h"
#include "memory-timing-internal.h"

/* The one model: helpers have no other way to find it. */
MemoryTiming *memory_timing;

bool memory_timing_enabled(void)
{
    return memory_timing;
}

/*
 * Take @ns from the budget of instructions that the vCPU may still execute
 * before the next timer.  What exceeds the budget is taken from the next one,
 * so that no timer is late.
 */
static inline QEMU_ALWAYS_INLINE
void charge(MemoryTiming *mt, CPUState *cpu, uint32_t ns)
{
    uint64_t want, take;

    mt->debt_ns += ns;
    want = mt->debt_ns >> mt->shift;
    take = MIN(want, (uint64_t)cpu->icount_extra);
    cpu->icount_extra -= take;
    if (unlikely(take < want)) {
        uint64_t low = MIN(want - take, cpu->neg.icount_decr.u16.low);

        cpu->neg.icount_decr.u16.low -= low;
        take += low;
    }
    mt->debt_ns -= take << mt->shift;
    mt->charged += take;
}

static void charge_event(CPUState *cpu, int event)
{
    if (memory_timing) {
        memory_timing->event[event].count++;
        charge(memory_timing, cpu, memory_timing->event[event].ns);
    }
}

uint64_t memory_timing_charged(void)
{
    return memory_timing ? memory_timing->charged : 0;
}

void memory_timing_walk(CPUState *cpu, int mmu_idx)
{
    if (memory_timing) {
        memory_timing->last_env = NULL;         /* see in_last_line() */
    }
    /* Page tables themselves are cached by TLBs that hardware has not. */
    if (mmu_idx != MMU_PHYS_IDX && mmu_idx != MMU_NESTED_IDX &&
        cpu_env(cpu)->cr[0] & CR0_PG_MASK) {
        charge_event(cpu, WALK);
    }
}

void memory_timing_interrupt(CPUState *cpu, bool is_hw)
{
    charge_event(cpu, is_hw ? INTERRUPT : EXCEPTION);
}

void memory_timing_pause(CPUState *cpu)
{
    charge_event(cpu, PAUSE);
}

void memory_timing_sample(CPUState *cpu)
{
    charge_event(cpu, SAMPLE);
}

/* NUMA node of plugged memory, -1 where it is not the memory of a node. */
static int plugged_node(RAMBlock *rb)
{
    g_autoptr(MemoryDeviceInfoList) list = qmp_memory_device_list();

    for (MemoryDeviceInfoList *l = list; l; l = l->next) {
        const char *memdev;
        Object *backend;
        int node;

        switch (l->value->type) {
        case MEMORY_DEVICE_INFO_KIND_DIMM:
            memdev = l->value->u.dimm.data->memdev;
            node = l->value->u.dimm.data->node;
            break;
        case MEMORY_DEVICE_INFO_KIND_NVDIMM:
            memdev = l->value->u.nvdimm.data->memdev;
            node = l->value->u.nvdimm.data->node;
            break;
        case MEMORY_DEVICE_INFO_KIND_VIRTIO_MEM:
            memdev = l->value->u.virtio_mem.data->memdev;
            node = l->value->u.virtio_mem.data->node;
            break;
        default:
            continue;
        }
        backend = object_resolve_path_type(memdev, TYPE_MEMORY_BACKEND, NULL);
        if (backend && MEMORY_BACKEND(backend)->mr.ram_block == rb) {
            return node;
        }
    }
    return -1;
}

static int block_node(MemoryTiming *mt, RAMBlock *rb)
{
    MachineState *ms = MACHINE(qdev_get_machine());
    int node;

    for (int i = 0; ms->numa_state && i < ms->numa_state->num_nodes; i++) {
        HostMemoryBackend *memdev = ms->numa_state->nodes[i].node_memdev;

        if (memdev && memdev->mr.ram_block == rb) {
            return i;
        }
    }
    if (mt->nr_nodes == 1 && ms->ram && ms->ram->ram_block == rb) {
        return 0;
    }
    node = plugged_node(rb);
    return node < mt->nr_nodes ? node : -1;
}

/* First access to a RAM block: learn of it. */
static Block *add_block(MemoryTiming *mt, uintptr_t host)
{
    RAMBlock *rb;
    ram_addr_t offset;
    Block *b = NULL;

    BQL_LOCK_GUARD();
    RCU_READ_LOCK_GUARD();
    rb = qemu_ram_block_from_host((void *)host, false, &offset);
    if (!rb) {
        return NULL;
    }
    for (uint32_t i = 0; i < mt->nr_blocks && !b; i++) {
        b = mt->blocks[i].size ? NULL : &mt->blocks[i];
    }
    if (!b) {
        mt->blocks = g_renew(Block, mt->blocks, mt->nr_blocks + 1);
        b = &mt->blocks[mt->nr_blocks++];
    }
    *b = (Block) {
        .host = (uintptr_t)rb->host,
        .size = rb->max_length,
        .offset = rb->offset,
        .node = block_node(mt, rb),
    };
    return b;
}

void memory_timing_ram_removed(RAMBlockNotifier *n, void *host, size_t size,
                               size_t max_size)
{
    MemoryTiming *mt = container_of(n, MemoryTiming, ram_notifier);

    for (uint32_t i = 0; i < mt->nr_blocks; i++) {
        if (mt->blocks[i].host == (uintptr_t)host) {
            qatomic_set(&mt->blocks[i].size, 0);
        }
    }
}

static Block *find_block(MemoryTiming *mt, uintptr_t host)
{
    Block *b = NULL;

    for (uint32_t i = 0; i < mt->nr_blocks; i++) {
        if (host - mt->blocks[i].host < qatomic_read(&mt->blocks[i].size)) {
            b = &mt->blocks[i];
            break;
        }
    }
    if (!b) {
        b = add_block(mt, host);
    }
    if (b) {
        mt->last_block = b - mt->blocks;
    }
    return b;
}

/*
 * The functions below run for each access.  A guest that misses the host's
 * caches as well is as quick as the host can look ahead to its next access:
 * each instruction counts, also those that save and clear registers.
 */
#define QUICK __attribute__((noinline, zero_call_used_regs("skip")))

/* Is @line cached?  It is the most recent of its set afterwards. */
static inline QEMU_ALWAYS_INLINE
bool cache_lookup(MemoryTiming *mt, uint64_t line)
{
    const uint32_t ways = mt->ways;
    uint64_t *set = mt->lines + (line & mt->set_mask) * ways;
    const uint64_t tag = line + 1;
    uint64_t previous = set[0];

    if (previous == tag) {
        return true;
    }
    if (ways == 8 && set[1] != tag && set[2] != tag && set[3] != tag &&
        set[4] != tag && set[5] != tag && set[6] != tag && set[7] != tag) {
        struct { uint64_t way[4]; } low, high;

        /* What the loop below would do, and memmove() with a call. */
        memcpy(&low, set, sizeof(low));
        memcpy(&high, set + 3, sizeof(high));
        memcpy(set + 1, &low, sizeof(low));
        memcpy(set + 4, &high, sizeof(high));
        set[0] = tag;
        return false;
    }
    set[0] = tag;
    for (uint32_t way = 1; way < ways; way++) {
        uint64_t current = set[way];

        set[way] = previous;
        if (current == tag) {
            return true;
        }
        previous = current;
    }
    return false;
}

static inline bool straddles(vaddr addr, uint32_t arg)
{
    return (addr & LINE_MASK) + memop_size(get_memop(arg)) > LINE_MASK + 1;
}

/*
 * The line of an access and its software TLB, in one number: canonical
 * addresses have no use for their upper four bits.
 */
static inline uint64_t place(vaddr addr, uint32_t arg)
{
    return addr + ((uint64_t)arg << 60);
}

/*
 * Is this within the line of the last access of all, which is the most recent
 * of its set?  The page is where it was, or else memory_timing_walk() would
 * have been called.
 */
static inline bool in_last_line(MemoryTiming *mt, CPUX86State *env, vaddr addr,
                                uint32_t arg)
{
    return place(addr, arg) - mt->last_place <=
               LINE_MASK + 1 - memop_size(get_memop(arg)) &&
           mt->last_env == env;
}

/* Host address of an access, 0 if it was served by a device. */
static inline QEMU_ALWAYS_INLINE
uintptr_t host_address(CPUState *cpu, vaddr addr, uint32_t arg)
{
    CPUTLBDescFast *tlb = &cpu->neg.tlb.f[get_mmuidx(arg)];
    CPUTLBEntry *e = (void *)tlb->table +
        ((addr >> (TARGET_PAGE_BITS - CPU_TLB_ENTRY_BITS)) & tlb->mask);
    uintptr_t tag = arg & MEM_HOOK_STORE ? e->addr_write : e->addr_read;

    if (unlikely((tag & (TARGET_PAGE_MASK | TLB_INVALID_MASK | TLB_MMIO)) !=
                 (addr & TARGET_PAGE_MASK))) {
        return 0;
    }
    return addr + e->addend;
}

/* Look up the line that @host lies in, and charge a miss: was it one? */
static inline QEMU_ALWAYS_INLINE
bool access_line(MemoryTiming *mt, CPUX86State *env, Block *b, uintptr_t host,
                 vaddr addr, uint32_t arg)
{
    Node *node = &mt->nodes[b->node];

    mt->last_place = place(addr & ~LINE_MASK, arg);
    mt->last_env = env;
    mt->last_node = b->node;
    if (cache_lookup(mt, (host - b->host + b->offset) >> LINE_BITS)) {
        return false;
    }
    node->misses++;
    charge(mt, env_cpu(env), node->latency_ns);
    return true;
}

static void count_truth(MemoryTiming *mt, CPUX86State *env, vaddr addr)
{
    miss_table_count(mt->misses, env->cr[3] >> TARGET_PAGE_BITS, addr,
                     mt->last_node);
}

/* Any access, or its part within the first of its two lines */
static MemoryTimingAccess access_first_line(MemoryTiming *mt, CPUX86State *env,
                                            vaddr addr, uint32_t arg)
{
    MemoryTimingAccess a = { .node = -1 };
    uintptr_t host = host_address(env_cpu(env), addr, arg);
    Block *b = host ? find_block(mt, host) : NULL;

    if (!b || b->node < 0) {
        return a;
    }
    a.node = b->node;
    a.missed = access_line(mt, env, b, host, addr, arg);
    a.repeat = arg & MEM_HOOK_STRING && !a.missed &&
        (addr & LINE_MASK) >= memop_size(get_memop(arg));
    if (!a.repeat) {
        mt->nodes[a.node].accesses++;
    }
    if (a.missed) {
        a.latency_ns = mt->nodes[a.node].latency_ns;
        if (mt->misses) {
            count_truth(mt, env, addr);
        }
    }
    return a;
}

static __attribute__((noinline))
MemoryTimingAccess access_lines(MemoryTiming *mt, CPUX86State *env, vaddr addr,
                                uint32_t arg)
{
    MemoryTimingAccess a = access_first_line(mt, env, addr, arg);

    if (unlikely(straddles(addr, arg))) {
        MemoryTimingAccess second =
            access_first_line(mt, env, (addr | LINE_MASK) + 1, arg);

        a.missed |= second.missed;
        a.latency_ns += second.latency_ns;
    }
    return a;
}

/* The common case of access_lines(), in a line other than the last one */
static QUICK
void access_other_line(CPUX86State *env, vaddr addr, uint32_t arg)
{
    MemoryTiming *mt = memory_timing;
    uintptr_t host = host_address(env_cpu(env), addr, arg);
    Block *b = &mt->blocks[mt->last_block];

    if (unlikely(host - b->host >= qatomic_read(&b->size) || b->node < 0 ||
                 arg & MEM_HOOK_STRING || straddles(addr, arg))) {
        access_lines(mt, env, addr, arg);
        return;
    }
    mt->nodes[b->node].accesses++;
    if (access_line(mt, env, b, host, addr, arg) && unlikely(mt->misses)) {
        count_truth(mt, env, addr);
    }
}

MemoryTimingAccess memory_timing_access(CPUState *cpu, vaddr addr,
                                        uint32_t arg)
{
    return access_lines(memory_timing, cpu_env(cpu), addr, arg);
}

QUICK
void helper_mem_access(CPUX86State *env, uint64_t addr, uint32_t arg)
{
    MemoryTiming *mt = memory_timing;

    if (in_last_line(mt, env, addr, arg) && !(arg & MEM_HOOK_STRING)) {
        mt->nodes[mt->last_node].accesses++;
    } else {
        access_other_line(env, addr, arg);
    }
}
