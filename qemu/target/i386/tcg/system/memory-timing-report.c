/*
 * Memory timing model: tables of counters and misses, and property stats
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-memory-timing.h"
#include "cpu.h"
#include "hw/qdev-core.h"
#include "system/cpu-timers.h"
#include "memory-timing-internal.h"

const char *const memory_timing_event_name[NR_EVENTS] = {
    "walk", "exception", "interrupt", "pause", "sample",
};

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
        const char *name = memory_timing_event_name[i];

        fprintf(mt->csv_file, ",%ss,%s_ns", name, name);
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

static void truth_rows(MemoryTiming *mt)
{
    char date[24] = "";

    if (mt->truth_ms) {
        snprintf(date, sizeof(date), "%" PRId64 ",", mt->truth_next_ns);
    }
    miss_table_write(mt->misses, mt->truth_file, date);
}

static void truth_tick(void *opaque)
{
    MemoryTiming *mt = opaque;

    truth_rows(mt);
    mt->truth_next_ns += mt->truth_ms * (int64_t)SCALE_MS;
    timer_mod_ns(mt->truth_timer, mt->truth_next_ns);
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

void memory_timing_report_start(MemoryTiming *mt)
{
    if (mt->truth) {
        mt->truth_file = create_file("truth", mt->truth);
        mt->misses = miss_table_new();
        miss_table_write_header(mt->truth_file, mt->truth_ms);
    }
    if (mt->truth && mt->truth_ms) {
        mt->truth_next_ns = mt->truth_ms * (int64_t)SCALE_MS;
        mt->truth_timer = timer_new_ns(QEMU_CLOCK_VIRTUAL, truth_tick, mt);
        timer_mod_ns(mt->truth_timer, mt->truth_next_ns);
    }
    if (mt->csv) {
        mt->csv_file = create_file("csv", mt->csv);
        csv_header(mt);
        mt->csv_next_ns = mt->csv_ms * (int64_t)SCALE_MS;
        mt->csv_timer = timer_new_ns(QEMU_CLOCK_VIRTUAL, csv_tick, mt);
        timer_mod_ns(mt->csv_timer, mt->csv_next_ns);
    }
}

/* At exit: the vCPUs have stopped by now, the totals are final. */
void memory_timing_report_end(MemoryTiming *mt)
{
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
        if (mt->truth_timer) {
            timer_free(mt->truth_timer);
        }
        truth_rows(mt);
        close_file(mt->truth_file, "truth", mt->truth);
        miss_table_free(mt->misses);
    }
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
    stats->instructions = instructions(memory_timing);
    stats->walks = stats_event(memory_timing, WALK);
    stats->exceptions = stats_event(memory_timing, EXCEPTION);
    stats->interrupts = stats_event(memory_timing, INTERRUPT);
    stats->pauses = stats_event(memory_timing, PAUSE);
    stats->samples = stats_event(memory_timing, SAMPLE);
    for (int i = 0; i < memory_timing->nr_nodes; i++) {
        MemoryTimingNode *node = g_new(MemoryTimingNode, 1);

        *node = (MemoryTimingNode) {
            .latency_ns = memory_timing->nodes[i].latency_ns,
            .accesses = memory_timing->nodes[i].accesses,
            .misses = memory_timing->nodes[i].misses,
            .stall_ns = stall_ns(&memory_timing->nodes[i]),
        };
        QAPI_LIST_APPEND(tail, node);
    }
}

void memory_timing_get_stats(Object *obj, Visitor *v, const char *name,
                             void *opaque, Error **errp)
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
