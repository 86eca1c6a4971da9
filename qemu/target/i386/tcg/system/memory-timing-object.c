/*
 * Memory timing model: its object, with properties and their defaults
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/accel.h"
#include "qemu/error-report.h"
#include "qemu/memalign.h"
#include "qemu/seqlock.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "qapi/qapi-builtin-visit.h"
#include "qapi/qapi-visit-memory-timing.h"
#include "qom/object_interfaces.h"
#include "cpu.h"
#include "exec/tlb-size.h"
#include "hw/boards.h"
#include "system/cpu-timers.h"
#include "system/cpu-timers-internal.h"
#include "system/numa.h"
#include "system/system.h"
#include "system/tcg.h"
#include "memory-timing-internal.h"

#define MAX_WAYS            64

/* Entries of Ice Lake's second-level TLB (Intel's optimization manual). */
#define DEFAULT_TLB_SIZE    2048

#define DEFAULT_CACHE_SIZE  (1 * MiB)
#define DEFAULT_CSV_MS      10

/*
 * Walks read 1.5 page table entries on average, 4.4 with nested paging (Park
 * et al., Every Walk's a Hit, ASPLOS 2022).  That each costs 20 ns, about a hit
 * in the L3 of a server, is our choice.
 */
static const uint32_t default_walk_ns[] = {
    [MEMORY_TIMING_PAGING_NATIVE] = 30,
    [MEMORY_TIMING_PAGING_NESTED] = 88,
};

/*
 * Measured cycles, turned into ns at 3.5 GHz, a clock of our choice.  A page
 * fault on Haswell takes 715 and its iretq 330 (Torvalds,
 * plus.google.com/+LinusTorvalds/posts/YDKRFDwHwr6, 2014): 300 ns.  No figure
 * was found for interrupts, which take the same path through the IDT: theirs is
 * our choice.  PAUSE takes up to 140 since Skylake (Intel's optimization
 * manual, "Pause Latency in Skylake Client Microarchitecture"): 40 ns.  A PEBS
 * record takes 200 to 300 ns (Akiyama and Hirofuchi, Quantitative Evaluation of
 * Intel PEBS Overhead, ROSS 2017).
 */
static const uint32_t default_event_ns[NR_EVENTS] = {
    [EXCEPTION] = 300, [INTERRUPT] = 300, [PAUSE] = 40, [SAMPLE] = 250,
};

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
    memory_timing_report_start(mt);
    ram_block_notifier_add(&mt->ram_notifier);
}

static void complete(UserCreatable *uc, Error **errp)
{
    MemoryTiming *mt = MEMORY_TIMING(uc);
    uint64_t sets;

    if (memory_timing) {
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
    memory_timing = mt;
    mt->machine_done.notify = machine_done;
    qemu_add_machine_init_done_notifier(&mt->machine_done);
}

static bool can_be_deleted(UserCreatable *uc)
{
    return false;           /* translated code calls it */
}

static void finalize(Object *obj)
{
    MemoryTiming *mt = MEMORY_TIMING(obj);

    memory_timing_report_end(mt);
    if (mt->nodes) {
        ram_block_notifier_remove(&mt->ram_notifier);
    }
    if (memory_timing == mt) {
        memory_timing = NULL;
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
    mt->ram_notifier.ram_block_removed = memory_timing_ram_removed;
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
        g_autofree char *name = g_strdup_printf("%s-ns",
                                                 memory_timing_event_name[i]);

        object_class_property_add(oc, name, "uint32", get_event_ns,
                                  set_event_ns, NULL, (void *)i);
    }
    object_class_property_add_str(oc, "csv", get_csv, set_csv);
    object_class_property_add(oc, "csv-interval-ms", "uint32", get_uint32,
                              set_uint32, NULL,
                              (void *)offsetof(MemoryTiming, csv_ms));
    object_class_property_add_str(oc, "truth", get_truth, set_truth);
    object_class_property_add(oc, "truth-interval-ms", "uint32", get_uint32,
                              set_uint32, NULL,
                              (void *)offsetof(MemoryTiming, truth_ms));
    object_class_property_add(oc, "stats", "MemoryTimingStats",
                              memory_timing_get_stats, NULL, NULL, NULL);
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
