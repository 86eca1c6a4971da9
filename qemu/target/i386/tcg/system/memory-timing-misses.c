/*
 * Exact cache misses of each virtual page: what placement is judged against
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/units.h"
#include "cpu.h"
#include "memory-timing-misses.h"

/* Of about 100 bytes each: more would cost gigabytes of host memory. */
#define MAX_ROWS    (4 * MiB)

/* All but the last member are the key, and compare in this order. */
typedef struct Row {
    uint64_t space, page, node;
    uint64_t misses;
} Row;

struct MissTable {
    GHashTable *rows;
    uint64_t lost;              /* misses of pages beyond MAX_ROWS */
};

static guint row_hash(gconstpointer p)
{
    const Row *row = p;
    const uint64_t golden = 0x9e3779b97f4a7c15;     /* 2^64 / golden ratio */
    uint64_t h = (row->space * golden) ^ row->page ^ (row->node << 52);

    return (h * golden) >> 32;
}

static int row_compare(const Row *x, const Row *y)
{
    if (x->space != y->space) {
        return x->space < y->space ? -1 : 1;
    }
    if (x->page != y->page) {
        return x->page < y->page ? -1 : 1;
    }
    return (x->node > y->node) - (x->node < y->node);
}

static gboolean row_equal(gconstpointer a, gconstpointer b)
{
    return row_compare(a, b) == 0;
}

static int row_compare_indirect(const void *a, const void *b)
{
    return row_compare(*(void *const *)a, *(void *const *)b);
}

MissTable *miss_table_new(void)
{
    MissTable *table = g_new0(MissTable, 1);

    table->rows = g_hash_table_new_full(row_hash, row_equal, g_free, NULL);
    return table;
}

void miss_table_free(MissTable *table)
{
    g_hash_table_destroy(table->rows);
    g_free(table);
}

void miss_table_count(MissTable *table, uint64_t space, vaddr addr, int node)
{
    Row key = {
        .space = space,
        .page = addr >> TARGET_PAGE_BITS,
        .node = node,
    };
    Row *row;

    if (addr >> 63) {
        return;
    }
    row = g_hash_table_lookup(table->rows, &key);
    if (!row) {
        if (g_hash_table_size(table->rows) >= MAX_ROWS) {
            table->lost++;
            return;
        }
        row = g_memdup2(&key, sizeof(key));
        g_hash_table_add(table->rows, row);
    }
    row->misses++;
}

void miss_table_write_header(FILE *file, bool dated)
{
    fprintf(file, "%saddress_space,virtual_page,node,misses\n",
            dated ? "time_ns," : "");
}

void miss_table_write(MissTable *table, FILE *file, const char *date)
{
    g_autofree gpointer *rows = NULL;
    guint n;

    rows = g_hash_table_get_keys_as_array(table->rows, &n);
    qsort(rows, n, sizeof(*rows), row_compare_indirect);
    for (guint i = 0; i < n; i++) {
        Row *row = rows[i];

        fprintf(file, "%s0x%" PRIx64 ",0x%" PRIx64 ",%" PRIu64 ",%" PRIu64 "\n",
                date, row->space, row->page, row->node, row->misses);
    }
    if (table->lost) {
        warn_report("memory-timing: truth lacks %" PRIu64 " misses, of pages "
                    "beyond its limit of %" PRIu64 " rows", table->lost,
                    (uint64_t)MAX_ROWS);
        table->lost = 0;
    }
    g_hash_table_remove_all(table->rows);
}
