/*
 * Memory timing model: what its files share
 *
 * memory-timing.c is the model, memory-timing-object.c its QOM object and
 * memory-timing-report.c what is told of its counters.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMORY_TIMING_INTERNAL_H
#define MEMORY_TIMING_INTERNAL_H

#include "qemu/notify.h"
#include "qemu/units.h"
#include "qapi/qapi-types-memory-timing.h"
#include "exec/memory-timing.h"
#include "exec/ramlist.h"
#include "qom/object.h"
#include "memory-timing-misses.h"

#define LINE_BITS           6           /* 64 bytes, as all x86 of today */
#define LINE_MASK           ((vaddr)(1 << LINE_BITS) - 1)
#define DEFAULT_CACHE_WAYS  8

enum { WALK, EXCEPTION, INTERRUPT, PAUSE, SAMPLE, NR_EVENTS };

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

    /* The line of the last access: see in_last_line(). */
    uint64_t last_place;
    CPUX86State *last_env;  /* NULL: none */
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
    uint32_t csv_ms, truth_ms;
    int64_t csv_next_ns, truth_next_ns;
    uint64_t csv_instructions;
    QEMUTimer *csv_timer, *truth_timer;
    MissTable *misses;

    RAMBlockNotifier ram_notifier;
    Notifier machine_done;
    bool fixed;             /* properties may not change any more */
};

OBJECT_DECLARE_SIMPLE_TYPE(MemoryTiming, MEMORY_TIMING)

extern MemoryTiming *memory_timing;

extern const char *const memory_timing_event_name[NR_EVENTS];

/* Forget memory that is unplugged. */
void memory_timing_ram_removed(RAMBlockNotifier *n, void *host, size_t size,
                               size_t max_size);

/* Open the files of properties csv and truth, and begin to write. */
void memory_timing_report_start(MemoryTiming *mt);

/* Write the totals and close the files. */
void memory_timing_report_end(MemoryTiming *mt);

/* Getter of property stats. */
void memory_timing_get_stats(Object *obj, Visitor *v, const char *name,
                             void *opaque, Error **errp);

#endif /* MEMORY_TIMING_INTERNAL_H */
