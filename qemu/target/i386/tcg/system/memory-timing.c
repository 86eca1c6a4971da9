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
#include "qemu/accel.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/memalign.h"
#include "qemu/rcu.h"
#include "qemu/seqlock.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "qapi/qapi-builtin-visit.h"
#include "qapi/qapi-commands-machine.h"
#include "qapi/qapi-visit-memory-timing.h"
#include "qom/object_interfaces.h"
#include "cpu.h"
#include "exec/helper-proto.h"
#include "exec/memory-timing.h"
#include "exec/ramblock.h"
#include "exec/ramlist.h"
#include "exec/tlb-size.h"
#include "hw/boards.h"
#include "hw/mem/memory-device.h"
#include "system/cpu-timers.h"
#include "system/cpu-timers-internal.h"
#include "system/hostmem.h"
#include "system/numa.h"
#include "system/system.h"
#include "system/tcg.h"
#include "tcg/tcg.h"
#include "memory-timing-misses.h"

#define LINE_BITS           6           /* 64 bytes, as all x86 of today */
#define MAX_WAYS            64

/* Entries of Ice Lake's second-level TLB (Intel's optimization manual). */
#define DEFAULT_TLB_SIZE    2048

#define DEFAULT_CACHE_SIZE  (1 * MiB)
#define DEFAULT_CACHE_WAYS  8
#define DEFAULT_CSV_MS      10

/*
 * Walks read 1.5 page table entries on average, 4.4 with nested paging (Park
 * et al., Every Walk's a Hit, ASPLOS 2022), each a hit in the outer cache of
 * about 20 ns.
 */
static const uint32_t default_walk_ns[] = {
    [MEMORY_TIMING_PAGING_NATIVE] = 30,
    [MEMORY_TIMING_PAGING_NESTED] = 88,
};

enum { WALK, EXCEPTION, INTERRUPT, PAUSE, SAMPLE, NR_EVENTS };

static const char *const event_name[NR_EVENTS] = {
    "walk", "exception", "interrupt", "pause", "sample",
};

/*
 * A page fault on Haswell takes 715 cycles, its iretq 330: 300 ns at 3.5 GHz
 * (Torvalds, plus.google.com/+LinusTorvalds/posts/YDKRFDwHwr6, 2014); an
 * interrupt takes the same path through the IDT.  PAUSE takes 140 cycles since
 * Skylake (Intel's optimization manual): 40 ns at 3.5 GHz.  A PEBS record takes
 * 200 to 300 ns (Akiyama and Hirofuchi, Quantitative Evaluation of Intel PEBS
 * Overhead, ROSS 2017).
 */
static const uint32_t default_event_ns[NR_EVENTS] = {
    [EXCEPTION] = 300, [INTERRUPT] = 300, [PAUSE] = 40, [SAMPLE] = 250,
};

typedef struct Node {
    uint64_t accesses, misses;
    uint32_t latency_ns;
} Node;

/* Guest RAM as accesses find it: by host address. */
typedef struct Block {
    uintptr_t host;
    uint64_t size;          /* 0 once the memory is unplugged */
    ram_addr_t offset;
    int node;               /* -1: not modelled */
} Block;

struct MemoryTiming {
    Object parent_obj;

    /* The cache: nr_sets x ways of line number + 1, most recent first. */
    uint64_t *lines;
    uint64_t set_mask;
    uint32_t ways;

    uintptr_t last_line;    /* host address >> LINE_BITS of the last access */
    int last_node;
    uint32_t last_block;
    Block *blocks;          /* written under the BQL by the vCPU thread */
    uint32_t nr_blocks;
    Node *nodes;
    int nr_nodes;

    /* Stalls: ns not yet paid, and instructions taken so far. */
    int shift;
    uint64_t debt_ns;
    uint64_t charged;

    struct {
        uint64_t count;
        uint32_t ns;
        bool ns_given;
    } event[NR_EVENTS];

    uint64_t cache_size;
    uint32List *latency_list;
    MemoryTimingPaging paging;

    char *csv, *truth;
    FILE *csv_file, *truth_file;
    uint32_t csv_ms;
    int64_t csv_next_ns;
    uint64_t csv_instructions;
    QEMUTimer *csv_timer;
    MissTable *misses;

    RAMBlockNotifier ram_notifier;
    Notifier machine_done;
    bool fixed;             /* properties may not change any more */
};

OBJECT_DECLARE_SIMPLE_TYPE(MemoryTiming, MEMORY_TIMING)

/* The one model: helpers have no other way to find it. */
static MemoryTiming *model;

bool memory_timing_enabled(void)
{
    return model;
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
    if (model) {
        model->event[event].count++;
        charge(model, cpu, model->event[event].ns);
    }
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

static void ram_block_removed(RAMBlockNotifier *n, void *host, size_t size,
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
    MemoryTimingAccess second = access_line(model, cpu, addr, arg);

    a->missed |= second.missed;
    a->latency_ns += second.latency_ns;
}

static inline QEMU_ALWAYS_INLINE
MemoryTimingAccess access_memory(CPUState *cpu, vaddr addr, uint32_t arg)
{
    const vaddr in_line = (1 << LINE_BITS) - 1;
    MemoryTimingAccess a = access_line(model, cpu, addr, arg);

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

/* Reports */

static uint64_t instructions(MemoryTiming *mt)
{
    return icount_get_raw() - mt->charged;
}

static uint64_t event_ns(MemoryTiming *mt, int event)
{
    return mt->event[event].count * mt->event[event].ns;
}

static uint64_t stall_ns(Node *node)
{
    return node->misses * node->latency_ns;
}

static void csv_header(MemoryTiming *mt)
{
    fprintf(mt->csv_file, "time_ns,instructions");
    for (int i = 0; i < NR_EVENTS; i++) {
        fprintf(mt->csv_file, ",%ss,%s_ns", event_name[i], event_name[i]);
    }
    for (int i = 0; i < mt->nr_nodes; i++) {
        fprintf(mt->csv_file, ",node%d_accesses,node%d_misses,node%d_stall_ns",
                i, i, i);
    }
    fputc('\n', mt->csv_file);
}

static void csv_row(MemoryTiming *mt, int64_t now_ns)
{
    uint64_t executed = instructions(mt);

    if (executed == mt->csv_instructions) {
        return;                         /* idle since the last row */
    }
    mt->csv_instructions = executed;
    fprintf(mt->csv_file, "%" PRId64 ",%" PRIu64, now_ns, executed);
    for (int i = 0; i < NR_EVENTS; i++) {
        fprintf(mt->csv_file, ",%" PRIu64 ",%" PRIu64, mt->event[i].count,
                event_ns(mt, i));
    }
    for (int i = 0; i < mt->nr_nodes; i++) {
        fprintf(mt->csv_file, ",%" PRIu64 ",%" PRIu64 ",%" PRIu64,
                mt->nodes[i].accesses, mt->nodes[i].misses,
                stall_ns(&mt->nodes[i]));
    }
    fputc('\n', mt->csv_file);
    fflush(mt->csv_file);
}

static void csv_tick(void *opaque)
{
    MemoryTiming *mt = opaque;

    csv_row(mt, mt->csv_next_ns);
    mt->csv_next_ns += mt->csv_ms * (int64_t)SCALE_MS;
    timer_mod_ns(mt->csv_timer, mt->csv_next_ns);
}

static MemoryTimingEvent *stats_event(MemoryTiming *mt, int event)
{
    MemoryTimingEvent *e = g_new(MemoryTimingEvent, 1);

    *e = (MemoryTimingEvent) {
        .count = mt->event[event].count,
        .ns = event_ns(mt, event),
    };
    return e;
}

/* On the vCPU thread between runs, where counters and clock agree. */
static void stats_collect(CPUState *cpu, run_on_cpu_data data)
{
    MemoryTimingStats *stats = data.host_ptr;
    MemoryTimingNodeList **tail = &stats->nodes;

    stats->time_ns = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    stats->instructions = instructions(model);
    stats->walks = stats_event(model, WALK);
    stats->exceptions = stats_event(model, EXCEPTION);
    stats->interrupts = stats_event(model, INTERRUPT);
    stats->pauses = stats_event(model, PAUSE);
    stats->samples = stats_event(model, SAMPLE);
    for (int i = 0; i < model->nr_nodes; i++) {
        MemoryTimingNode *node = g_new(MemoryTimingNode, 1);

        *node = (MemoryTimingNode) {
            .latency_ns = model->nodes[i].latency_ns,
            .accesses = model->nodes[i].accesses,
            .misses = model->nodes[i].misses,
            .stall_ns = stall_ns(&model->nodes[i]),
        };
        QAPI_LIST_APPEND(tail, node);
    }
}

static void get_stats(Object *obj, Visitor *v, const char *name, void *opaque,
                      Error **errp)
{
    g_autoptr(MemoryTimingStats) stats = NULL;

    if (!phase_check(PHASE_MACHINE_READY) || !first_cpu) {
        error_setg(errp, "Property '%s' can be read once the machine is ready "
                   "and has a CPU", name);
        return;
    }
    stats = g_new0(MemoryTimingStats, 1);
    run_on_cpu(first_cpu, stats_collect, RUN_ON_CPU_HOST_PTR(stats));
    visit_type_MemoryTimingStats(v, name, &stats, errp);
}

/* Setting up */

/* Latency that HMAT declares for the memory of @node, in ns. */
static uint32_t hmat_latency(NumaState *numa, int node)
{
    HMAT_LB_Info **lb = numa->hmat_lb[HMAT_LB_MEM_MEMORY];
    HMAT_LB_Info *info = lb[HMAT_LB_DATA_ACCESS_LATENCY] ?:
                         lb[HMAT_LB_DATA_READ_LATENCY];
    HMAT_LB_Data *found = NULL;

    for (guint i = 0; info && i < info->list->len; i++) {
        HMAT_LB_Data *d = &g_array_index(info->list, HMAT_LB_Data, i);

        if (d->target != node) {
            continue;
        }
        if (found && found->data != d->data) {
            error_setg(&error_fatal, "memory-timing: HMAT gives node %d "
                       "latencies of %" PRIu64 " and %" PRIu64 " ns by "
                       "initiator, but the model has one per node: set "
                       "latency-ns", node, found->data, d->data);
        }
        found = d;
    }
    if (!found) {
        error_setg(&error_fatal, "memory-timing: node %d has no latency: give "
                   "latency-ns, or -machine hmat=on with -numa hmat-lb,"
                   "hierarchy=memory,data-type=access-latency,target=%d",
                   node, node);
    }
    if (found->data > UINT32_MAX) {
        error_setg(&error_fatal, "memory-timing: node %d has a latency of %"
                   PRIu64 " ns, more than %u", node, found->data, UINT32_MAX);
    }
    return found->data;
}

static void set_up_nodes(MemoryTiming *mt)
{
    NumaState *numa = MACHINE(qdev_get_machine())->numa_state;
    int given = 0;
    uint32List *l;

    mt->nr_nodes = numa && numa->num_nodes ? numa->num_nodes : 1;
    mt->nodes = g_new0(Node, mt->nr_nodes);
    for (l = mt->latency_list; l; l = l->next) {
        if (given < mt->nr_nodes) {
            mt->nodes[given].latency_ns = l->value;
        }
        given++;
    }
    if (given && given != mt->nr_nodes) {
        error_setg(&error_fatal, "memory-timing: latency-ns has %d value(s), "
                   "but the machine has %d NUMA node(s)", given, mt->nr_nodes);
    }
    for (int i = 0; i < mt->nr_nodes; i++) {
        if (mt->nr_nodes > 1 && numa->nodes[i].node_mem &&
            !numa->nodes[i].node_memdev) {
            error_setg(&error_fatal, "memory-timing: node %d has no memory "
                       "backend: use -numa node,nodeid=%d,memdev=ID", i, i);
        }
        if (!given) {
            mt->nodes[i].latency_ns = hmat_latency(numa, i);
        }
    }
}

static void close_file(FILE *f, const char *property, const char *path)
{
    bool bad = ferror(f);

    if (fclose(f) || bad) {
        error_report("memory-timing: %s=%s is incomplete: could not be written",
                     property, path);
    }
}

static FILE *create_file(const char *property, const char *path)
{
    FILE *f = fopen(path, "w");

    if (!f) {
        error_setg_errno(&error_fatal, errno, "memory-timing: cannot write "
                         "%s=%s", property, path);
    }
    return f;
}

/* Board, accelerator and clock are known only when the machine is complete. */
static void machine_done(Notifier *n, void *unused)
{
    MemoryTiming *mt = container_of(n, MemoryTiming, machine_done);

    if (!tcg_enabled()) {
        error_setg(&error_fatal, "memory-timing: needs the TCG accelerator "
                   "(-accel tcg), not '%s'", current_accel_name());
    }
    if (icount_enabled() != ICOUNT_PRECISE) {
        error_setg(&error_fatal, "memory-timing: needs a fixed instruction "
                   "count, not '-icount %s': use -icount shift=0,sleep=off",
                   icount_enabled() ? "shift=auto" : "off");
    }
    mt->shift = timers_state.icount_time_shift;
    set_up_nodes(mt);
    if (!tlb_size_fixed()) {
        warn_report("memory-timing: tlb-size=0 makes page walks depend on host "
                    "time: runs will differ");
    }
    if (mt->truth) {
        mt->truth_file = create_file("truth", mt->truth);
        mt->misses = miss_table_new();
    }
    if (mt->csv) {
        mt->csv_file = create_file("csv", mt->csv);
        csv_header(mt);
        mt->csv_next_ns = mt->csv_ms * (int64_t)SCALE_MS;
        mt->csv_timer = timer_new_ns(QEMU_CLOCK_VIRTUAL, csv_tick, mt);
        timer_mod_ns(mt->csv_timer, mt->csv_next_ns);
    }
    ram_block_notifier_add(&mt->ram_notifier);
}

static void complete(UserCreatable *uc, Error **errp)
{
    MemoryTiming *mt = MEMORY_TIMING(uc);
    uint64_t sets;

    if (model) {
        error_setg(errp, "there can be only one %s object", TYPE_MEMORY_TIMING);
        return;
    }
    if (phase_check(PHASE_MACHINE_READY)) {
        error_setg(errp, "%s can be created on the command line only: code "
                   "has been translated without it", TYPE_MEMORY_TIMING);
        return;
    }
    if (!mt->ways || mt->ways > MAX_WAYS) {
        error_setg(errp, "Property 'cache-ways' is %" PRIu32 ", but must be "
                   "from 1 to %d", mt->ways, MAX_WAYS);
        return;
    }
    sets = mt->cache_size / ((uint64_t)mt->ways << LINE_BITS);
    if (!is_power_of_2(sets) ||
        mt->cache_size != sets * ((uint64_t)mt->ways << LINE_BITS)) {
        error_setg(errp, "Property 'cache-size' is %" PRIu64 ", but must be a "
                   "power of two times the %" PRIu32 " ways of %d bytes",
                   mt->cache_size, mt->ways, 1 << LINE_BITS);
        return;
    }
    if (!mt->csv_ms) {
        error_setg(errp, "Property 'csv-interval-ms' is 0, but must be at "
                   "least 1");
        return;
    }
    mt->lines = qemu_try_memalign(64, mt->cache_size >> LINE_BITS << 3);
    if (!mt->lines) {
        error_setg(errp, "Property 'cache-size' is %" PRIu64 ", but there is "
                   "no memory for so many lines", mt->cache_size);
        return;
    }
    memset(mt->lines, 0, mt->cache_size >> LINE_BITS << 3);
    mt->set_mask = sets - 1;
    mt->blocks = g_new0(Block, 1);      /* so that last_block names one */
    mt->nr_blocks = 1;
    for (int i = 0; i < NR_EVENTS; i++) {
        if (!mt->event[i].ns_given) {
            mt->event[i].ns = i == WALK ? default_walk_ns[mt->paging]
                                        : default_event_ns[i];
        }
    }
    tlb_size_set_default(DEFAULT_TLB_SIZE);
    mt->fixed = true;
    model = mt;
    mt->machine_done.notify = machine_done;
    qemu_add_machine_init_done_notifier(&mt->machine_done);
}

static bool can_be_deleted(UserCreatable *uc)
{
    return false;           /* translated code calls it */
}

/* At exit the vCPUs have stopped by now: the totals are final. */
static void finalize(Object *obj)
{
    MemoryTiming *mt = MEMORY_TIMING(obj);

    if (mt->csv_file) {
        timer_free(mt->csv_timer);
        /*
         * The clock has gone on after the guest's last instruction, for a
         * stretch of host time: date the totals like any other row.
         */
        csv_row(mt, mt->csv_next_ns);
        close_file(mt->csv_file, "csv", mt->csv);
    }
    if (mt->truth_file) {
        miss_table_write(mt->misses, mt->truth_file);
        close_file(mt->truth_file, "truth", mt->truth);
        miss_table_free(mt->misses);
    }
    if (mt->nodes) {
        ram_block_notifier_remove(&mt->ram_notifier);
    }
    if (model == mt) {
        model = NULL;
    }
    qemu_vfree(mt->lines);
    g_free(mt->nodes);
    g_free(mt->blocks);
    g_free(mt->csv);
    g_free(mt->truth);
    qapi_free_uint32List(mt->latency_list);
}

/* Properties */

static bool may_set(Object *obj, const char *name, Error **errp)
{
    if (MEMORY_TIMING(obj)->fixed) {
        error_setg(errp, "Property '%s' cannot change once the object exists",
                   name);
        return false;
    }
    return true;
}

/* @opaque: offset of the member in MemoryTiming */
static void get_uint32(Object *obj, Visitor *v, const char *name, void *opaque,
                       Error **errp)
{
    visit_type_uint32(v, name, (void *)obj + (uintptr_t)opaque, errp);
}

static void set_uint32(Object *obj, Visitor *v, const char *name, void *opaque,
                       Error **errp)
{
    if (may_set(obj, name, errp)) {
        visit_type_uint32(v, name, (void *)obj + (uintptr_t)opaque, errp);
    }
}

static void set_event_ns(Object *obj, Visitor *v, const char *name,
                         void *opaque, Error **errp)
{
    int event = (uintptr_t)opaque;
    MemoryTiming *mt = MEMORY_TIMING(obj);

    if (may_set(obj, name, errp)) {
        mt->event[event].ns_given =
            visit_type_uint32(v, name, &mt->event[event].ns, errp);
    }
}

static void get_event_ns(Object *obj, Visitor *v, const char *name,
                         void *opaque, Error **errp)
{
    visit_type_uint32(v, name, &MEMORY_TIMING(obj)->event[(uintptr_t)opaque].ns,
                      errp);
}

static void get_cache_size(Object *obj, Visitor *v, const char *name,
                           void *opaque, Error **errp)
{
    visit_type_size(v, name, &MEMORY_TIMING(obj)->cache_size, errp);
}

static void set_cache_size(Object *obj, Visitor *v, const char *name,
                           void *opaque, Error **errp)
{
    if (may_set(obj, name, errp)) {
        visit_type_size(v, name, &MEMORY_TIMING(obj)->cache_size, errp);
    }
}

static void get_latency(Object *obj, Visitor *v, const char *name,
                        void *opaque, Error **errp)
{
    visit_type_uint32List(v, name, &MEMORY_TIMING(obj)->latency_list, errp);
}

static void set_latency(Object *obj, Visitor *v, const char *name,
                        void *opaque, Error **errp)
{
    if (may_set(obj, name, errp)) {
        qapi_free_uint32List(MEMORY_TIMING(obj)->latency_list);
        MEMORY_TIMING(obj)->latency_list = NULL;
        visit_type_uint32List(v, name, &MEMORY_TIMING(obj)->latency_list, errp);
    }
}

static int get_paging(Object *obj, Error **errp)
{
    return MEMORY_TIMING(obj)->paging;
}

static void set_paging(Object *obj, int value, Error **errp)
{
    if (may_set(obj, "paging", errp)) {
        MEMORY_TIMING(obj)->paging = value;
    }
}

static char *get_csv(Object *obj, Error **errp)
{
    return g_strdup(MEMORY_TIMING(obj)->csv);
}

static void set_csv(Object *obj, const char *value, Error **errp)
{
    if (may_set(obj, "csv", errp)) {
        g_free(MEMORY_TIMING(obj)->csv);
        MEMORY_TIMING(obj)->csv = g_strdup(value);
    }
}

static char *get_truth(Object *obj, Error **errp)
{
    return g_strdup(MEMORY_TIMING(obj)->truth);
}

static void set_truth(Object *obj, const char *value, Error **errp)
{
    if (may_set(obj, "truth", errp)) {
        g_free(MEMORY_TIMING(obj)->truth);
        MEMORY_TIMING(obj)->truth = g_strdup(value);
    }
}

static void memory_timing_init(Object *obj)
{
    MemoryTiming *mt = MEMORY_TIMING(obj);

    mt->cache_size = DEFAULT_CACHE_SIZE;
    mt->ways = DEFAULT_CACHE_WAYS;
    mt->csv_ms = DEFAULT_CSV_MS;
    mt->ram_notifier.ram_block_removed = ram_block_removed;
}

static void memory_timing_class_init(ObjectClass *oc, void *data)
{
    UserCreatableClass *ucc = USER_CREATABLE_CLASS(oc);

    ucc->complete = complete;
    ucc->can_be_deleted = can_be_deleted;
    object_class_property_add(oc, "cache-size", "size", get_cache_size,
                              set_cache_size, NULL, NULL);
    object_class_property_add(oc, "cache-ways", "uint32", get_uint32,
                              set_uint32, NULL,
                              (void *)offsetof(MemoryTiming, ways));
    object_class_property_add(oc, "latency-ns", "list of uint32", get_latency,
                              set_latency, NULL, NULL);
    object_class_property_add_enum(oc, "paging", "MemoryTimingPaging",
                                   &MemoryTimingPaging_lookup, get_paging,
                                   set_paging);
    for (uintptr_t i = 0; i < NR_EVENTS; i++) {
        g_autofree char *name = g_strdup_printf("%s-ns", event_name[i]);

        object_class_property_add(oc, name, "uint32", get_event_ns,
                                  set_event_ns, NULL, (void *)i);
    }
    object_class_property_add_str(oc, "csv", get_csv, set_csv);
    object_class_property_add(oc, "csv-interval-ms", "uint32", get_uint32,
                              set_uint32, NULL,
                              (void *)offsetof(MemoryTiming, csv_ms));
    object_class_property_add_str(oc, "truth", get_truth, set_truth);
    object_class_property_add(oc, "stats", "MemoryTimingStats", get_stats,
                              NULL, NULL, NULL);
}

static const TypeInfo memory_timing_info = {
    .name = TYPE_MEMORY_TIMING,
    .parent = TYPE_OBJECT,
    .instance_size = sizeof(MemoryTiming),
    .instance_init = memory_timing_init,
    .instance_finalize = finalize,
    .class_init = memory_timing_class_init,
    .interfaces = (InterfaceInfo[]) {
        { TYPE_USER_CREATABLE },
        { }
    }
};

static void register_types(void)
{
    type_register_static(&memory_timing_info);
}

type_init(register_types);
