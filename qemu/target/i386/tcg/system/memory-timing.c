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
static void charge(MemoryTiming *mt, CPUState *cpu, uint32_t ns)
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
    qatomic_set(&mt->last_line, 0);
}

static __attribute__((noinline))
Block *find_block(MemoryTiming *mt, uintptr_t host)
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

/* Is @line cached?  It is the most recent of its set afterwards. */
static inline bool lookup(MemoryTiming *mt, uint64_t line, uint32_t ways)
{
    uint64_t *set = mt->lines + (line & mt->set_mask) * ways;
    uint64_t tag = line + 1;
    uint32_t way;

    if (set[0] == tag) {
        return true;
    }
    for (way = 1; way < ways; way++) {
        if (set[way] == tag) {
            memmove(set + 1, set, way * sizeof(*set));
            set[0] = tag;
            return true;
        }
    }
    memmove(set + 1, set, (ways - 1) * sizeof(*set));
    set[0] = tag;
    return false;
}

static inline bool cache_lookup(MemoryTiming *mt, uint64_t line)
{
    /* A constant number of ways lets the compiler unroll the common case. */
    return mt->ways == DEFAULT_CACHE_WAYS
           ? lookup(mt, line, DEFAULT_CACHE_WAYS) : lookup(mt, line, mt->ways);
}

/* One access within one cache line. */
static inline QEMU_ALWAYS_INLINE
MemoryTimingAccess access_line(MemoryTiming *mt, CPUState *cpu, vaddr addr,
                               uint32_t arg)
{
    MemoryTimingAccess a = { .node = -1 };
    CPUTLBDescFast *tlb = &cpu->neg.tlb.f[get_mmuidx(arg)];
    CPUTLBEntry *e = (void *)tlb->table +
        ((addr >> (TARGET_PAGE_BITS - CPU_TLB_ENTRY_BITS)) & tlb->mask);
    uintptr_t tag = arg & MEM_HOOK_STORE ? e->addr_write : e->addr_read;
    uintptr_t host;
    Block *b;

    /* Does the entry serve this page, and not by way of a device? */
    if ((tag & (TARGET_PAGE_MASK | TLB_INVALID_MASK | TLB_MMIO)) !=
        (addr & TARGET_PAGE_MASK)) {
        return a;
    }
    host = addr + e->addend;
    if (host >> LINE_BITS == qatomic_read(&mt->last_line)) {
        a.node = mt->last_node;
    } else {
        b = &mt->blocks[mt->last_block];
        if (unlikely(host - b->host >= qatomic_read(&b->size))) {
            b = find_block(mt, host);
            if (!b) {
                return a;
            }
        }
        if (unlikely(b->node < 0)) {
            return a;
        }
        a.node = b->node;
        a.missed = !cache_lookup(mt, (host - b->host + b->offset) >> LINE_BITS);
        mt->last_node = b->node;
        qatomic_set(&mt->last_line, host >> LINE_BITS);
    }
    a.repeat = arg & MEM_HOOK_STRING && !a.missed &&
        (addr & ((1 << LINE_BITS) - 1)) >= memop_size(get_memop(arg));
    if (!a.repeat) {
        mt->nodes[a.node].accesses++;
    }
    if (a.missed) {
        a.latency_ns = mt->nodes[a.node].latency_ns;
        mt->nodes[a.node].misses++;
        charge(mt, cpu, a.latency_ns);
        if (unlikely(mt->misses)) {
            uint64_t table_frame = cpu_env(cpu)->cr[3] >> TARGET_PAGE_BITS;

            miss_table_count(mt->misses, table_frame, addr, a.node);
        }
    }
    return a;
}

/* The second line of an access that straddles two. */
static __attribute__((noinline))
void access_second_line(CPUState *cpu, vaddr addr, uint32_t arg,
                        MemoryTimingAccess *a)
{
    MemoryTimingAccess second = access_line(memory_timing, cpu, addr, arg);

    a->missed |= second.missed;
    a->latency_ns += second.latency_ns;
}

static inline QEMU_ALWAYS_INLINE
MemoryTimingAccess access_memory(CPUState *cpu, vaddr addr, uint32_t arg)
{
    const vaddr in_line = (1 << LINE_BITS) - 1;
    MemoryTimingAccess a = access_line(memory_timing, cpu, addr, arg);

    if (unlikely((addr & in_line) + memop_size(get_memop(arg)) > in_line + 1)) {
        access_second_line(cpu, (addr | in_line) + 1, arg, &a);
    }
    return a;
}

MemoryTimingAccess memory_timing_access(CPUState *cpu, vaddr addr,
                                        uint32_t arg)
{
    return access_memory(cpu, addr, arg);
}

void helper_mem_access(CPUX86State *env, uint64_t addr, uint32_t arg)
{
    access_memory(env_cpu(env), addr, arg);
}
