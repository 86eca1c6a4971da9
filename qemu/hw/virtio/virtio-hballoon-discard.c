/*
 * HBalloon: discarding of memory, and those who want to know of it
 *
 * This work is licensed under the terms of the GNU GPL, version 2 or later.
 * See the COPYING file in the top-level directory.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/units.h"
#include "exec/cpu-common.h"
#include "hw/core/cpu.h"
#include "qapi/error.h"
#include "virtio-hballoon-internal.h"
#include "trace.h"

/* What is discarded, or populated, at once. A reset waits for that, some ms. */
#define PIECE (32 * MiB)

/*
 * What listeners map and unmap. VFIO has room for 65,535 mappings and splits
 * none: in pieces of 4 KiB that would be 256 MiB of memory, so it is 128 GiB.
 */
#define CHUNK (2 * MiB)

/* The node that @mr is the memory of; there is one. */
static VirtIOHBalloonNode *node_of(const VirtIOHBalloon *hb,
                                   const MemoryRegion *mr)
{
    uint32_t i;

    for (i = 0; i < hb->nr_nodes; i++) {
        if (hb->node[i].mr == mr) {
            return &hb->node[i];
        }
    }
    g_assert_not_reached();
}

/* The part of @s that is @r, of which all lies in it. */
static MemoryRegionSection part_of(const MemoryRegionSection *s,
                                   const struct virtio_hballoon_range *r)
{
    MemoryRegionSection part = *s;

    part.offset_within_address_space += r->addr - s->offset_within_region;
    part.offset_within_region = r->addr;
    part.size = int128_make64(r->len);
    return part;
}

/* The part of @r that @rdl listens to; false if it is none. */
static bool heard(const RamDiscardListener *rdl, const VirtIOHBalloonNode *n,
                  const struct virtio_hballoon_range *r,
                  MemoryRegionSection *part)
{
    const MemoryRegionSection *own = rdl->section;
    uint64_t start = MAX(own->offset_within_region, r->addr);
    uint64_t end = MIN(own->offset_within_region + int128_get64(own->size),
                       r->addr + r->len);
    struct virtio_hballoon_range both = { start, end - start };

    if (own->mr != n->mr || start >= end) {
        return false;
    }
    *part = part_of(own, &both);
    return true;
}

int virtio_hballoon_discard(const VirtIOHBalloonNode *n,
                            const struct virtio_hballoon_range *r)
{
    trace_virtio_hballoon_discard(n->id, r->addr, r->len);
    return ram_block_discard_range(n->mr->ram_block, r->addr, r->len);
}

void virtio_hballoon_stop_discarding(VirtIOHBalloon *hb)
{
    qatomic_set(&hb->dropped, true);
    qemu_mutex_lock(&hb->discard_lock);
    qemu_mutex_unlock(&hb->discard_lock);
}

/* Has the host provide memory, whose content stays. Returns 0 or -errno. */
static int populate(const VirtIOHBalloonNode *n,
                    const struct virtio_hballoon_range *r)
{
    char *host = memory_region_get_ram_ptr(n->mr);
    Error *err = NULL;

    trace_virtio_hballoon_populate(n->id, r->addr, r->len);
    if (qemu_prealloc_mem(memory_region_get_fd(n->mr), host + r->addr, r->len,
                          1, NULL, false, &err)) {
        return 0;
    }
    /* The guest tries again and again; each end of it is an event. */
    warn_report_once("hballoon: the host has no memory to give back to node %u:"
                     " %s", n->id, error_get_pretty(err));
    error_free(err);
    return -ENOMEM;
}

typedef int (*PieceFn)(const VirtIOHBalloonNode *n,
                       const struct virtio_hballoon_range *r);

/* Calls @fn for @r piecemeal. Returns 0, -errno, or -ECANCELED if dropped. */
static int in_pieces(VirtIOHBalloon *hb, const VirtIOHBalloonNode *n,
                     struct virtio_hballoon_range r, PieceFn fn)
{
    while (r.len) {
        struct virtio_hballoon_range piece = { r.addr, MIN(r.len, PIECE) };
        int ret;

        if (qatomic_read(&hb->dropped)) {
            return -ECANCELED;
        }
        ret = fn(n, &piece);
        if (ret) {
            return ret;
        }
        r.addr += piece.len;
        r.len -= piece.len;
    }
    return 0;
}

/* Calls @fn for @nr ranges, see virtio_hballoon_discard_unlocked(). */
static int unlocked(VirtIOHBalloon *hb, const VirtIOHBalloonNode *n,
                    const struct virtio_hballoon_range *r, uint32_t nr,
                    PieceFn fn)
{
    /* Without an eventfd a processor is here, in the middle of an access. */
    bool unlock = !current_cpu;
    int ret = 0;
    uint32_t i;

    qemu_mutex_lock(&hb->discard_lock);
    if (unlock) {
        bql_unlock();
    }
    for (i = 0; i < nr && !ret; i++) {
        ret = in_pieces(hb, n, r[i], fn);
    }
    qemu_mutex_unlock(&hb->discard_lock);
    if (unlock) {
        bql_lock();
    }
    return hb->elem ? ret : -ECANCELED;
}

int virtio_hballoon_discard_unlocked(VirtIOHBalloon *hb,
                                     const VirtIOHBalloonNode *n,
                                     const struct virtio_hballoon_range *r,
                                     uint32_t nr)
{
    return unlocked(hb, n, r, nr, virtio_hballoon_discard);
}

/*
 * While anybody listens, a chunk is mapped as long as a page of it is in use.
 * All of it stays pinned then, so to discard a held page would not free it, but
 * once the guest had it back, devices and processors would use different ones.
 */
static bool is_mapped(const VirtIOHBalloon *hb)
{
    return !QLIST_EMPTY(&hb->listeners);
}

/*
 * The chunks that @r, which is held, has a part of and that are held as a
 * whole: they lie side by side. False if there are none.
 */
static bool held_chunks(const VirtIOHBalloonNode *n,
                        const struct virtio_hballoon_range *r,
                        struct virtio_hballoon_range *run)
{
    uint64_t r_end = r->addr + r->len;
    uint64_t start = QEMU_ALIGN_DOWN(r->addr, CHUNK);
    uint64_t end = MIN(ROUND_UP(r_end, CHUNK), n->size);

    if (!hballoon_pages_all(&n->pages, start, r->addr - start, true)) {
        start += CHUNK;
    }
    if (!hballoon_pages_all(&n->pages, r_end, end - r_end, true)) {
        end = QEMU_ALIGN_DOWN(r_end, CHUNK);
    }
    run->addr = start;
    run->len = end - start;
    return start < end;
}

static void tell_discarded(VirtIOHBalloon *hb, const VirtIOHBalloonNode *n,
                           const struct virtio_hballoon_range *r)
{
    RamDiscardListener *rdl;
    MemoryRegionSection part;

    QLIST_FOREACH(rdl, &hb->listeners, next) {
        if (heard(rdl, n, r, &part)) {
            rdl->notify_discard(rdl, &part);
        }
    }
}

/* Returns 0 or -errno, and then nobody has been told. */
static int tell_populated(VirtIOHBalloon *hb, const VirtIOHBalloonNode *n,
                          const struct virtio_hballoon_range *r)
{
    RamDiscardListener *rdl, *undo;
    MemoryRegionSection part;
    int ret;

    QLIST_FOREACH(rdl, &hb->listeners, next) {
        if (!heard(rdl, n, r, &part)) {
            continue;
        }
        ret = rdl->notify_populate(rdl, &part);
        if (!ret) {
            continue;
        }
        QLIST_FOREACH(undo, &hb->listeners, next) {
            if (undo == rdl) {
                break;
            }
            if (heard(undo, n, r, &part)) {
                undo->notify_discard(undo, &part);
            }
        }
        return ret;
    }
    return 0;
}

int virtio_hballoon_discard_held(VirtIOHBalloon *hb,
                                 const VirtIOHBalloonNode *n,
                                 const struct virtio_hballoon_range *r)
{
    struct virtio_hballoon_range run = *r;

    if (is_mapped(hb)) {
        if (!held_chunks(n, r, &run)) {
            return 0;
        }
        tell_discarded(hb, n, &run);
    }
    return virtio_hballoon_discard(n, &run);
}

int virtio_hballoon_populate_unlocked(VirtIOHBalloon *hb,
                                      const VirtIOHBalloonNode *n,
                                      const struct virtio_hballoon_range *r,
                                      uint32_t nr)
{
    int ret = unlocked(hb, n, r, nr, populate);
    uint32_t i;

    /* Once dropped, it is the guest's, or there is no node any more. */
    for (i = 0; ret && hb->elem && i < nr; i++) {
        struct virtio_hballoon_range run = r[i];

        if (!is_mapped(hb) || held_chunks(n, &r[i], &run)) {
            virtio_hballoon_discard(n, &run);
        }
    }
    return ret;
}

int virtio_hballoon_hold(VirtIOHBalloon *hb, VirtIOHBalloonNode *n,
                         const struct virtio_hballoon_range *r)
{
    int ret = 0;

    hballoon_pages_mark(&n->pages, r, true);
    if (is_mapped(hb)) {
        ret = virtio_hballoon_discard_held(hb, n, r);
    }
    if (ret) {
        virtio_hballoon_give_back(hb, n, r);
    }
    return ret;
}

int virtio_hballoon_release(VirtIOHBalloon *hb, VirtIOHBalloonNode *n,
                            const struct virtio_hballoon_range *r)
{
    struct virtio_hballoon_range run;
    int ret = 0;

    if (is_mapped(hb) && held_chunks(n, r, &run)) {
        ret = tell_populated(hb, n, &run);
    }
    if (!ret) {
        hballoon_pages_mark(&n->pages, r, false);
    }
    return ret;
}

void virtio_hballoon_give_back(VirtIOHBalloon *hb, VirtIOHBalloonNode *n,
                               const struct virtio_hballoon_range *r)
{
    if (virtio_hballoon_release(hb, n, r)) {
        warn_report("hballoon: 0x%" PRIx64 " bytes of node %u could not be"
                    " mapped again for devices", r->len, n->id);
        hballoon_pages_mark(&n->pages, r, false);
    }
}

/*
 * RamDiscardManager
 */

typedef int (*SectionFn)(MemoryRegionSection *s, void *opaque);

/* The end of the chunk that @at is in, and whether it is held as a whole. */
static uint64_t chunk_end(const VirtIOHBalloonNode *n, uint64_t at, bool *held)
{
    uint64_t start = QEMU_ALIGN_DOWN(at, CHUNK);
    uint64_t end = MIN(start + CHUNK, n->size);

    *held = hballoon_pages_all(&n->pages, start, end - start, true);
    return end;
}

/*
 * The first run in [@at, @end) that others must take for discarded, or that
 * they may use: what is held, or, as listeners have it, the chunks that are.
 * False if there is none.
 */
static bool next_part(const VirtIOHBalloon *hb, const VirtIOHBalloonNode *n,
                      uint64_t at, uint64_t end, bool discarded,
                      struct virtio_hballoon_range *run)
{
    uint64_t next;
    bool held;

    if (!is_mapped(hb)) {
        return hballoon_pages_next(&n->pages, at, end, discarded, run);
    }
    run->len = 0;
    for (; at < end; at = next) {
        next = MIN(chunk_end(n, at, &held), end);
        if (held == discarded) {
            run->addr = run->len ? run->addr : at;
            run->len = next - run->addr;
        } else if (run->len) {
            break;
        }
    }
    return run->len;
}

/* Call @fn for each part of @s that is discarded, or that is not. */
static int for_each_part(const RamDiscardManager *rdm,
                         const MemoryRegionSection *s, bool discarded,
                         SectionFn fn, void *opaque)
{
    const VirtIOHBalloon *hb = VIRTIO_HBALLOON(rdm);
    const VirtIOHBalloonNode *n = node_of(hb, s->mr);
    uint64_t at = s->offset_within_region;
    uint64_t end = at + int128_get64(s->size);
    struct virtio_hballoon_range run;
    int ret;

    while (next_part(hb, n, at, end, discarded, &run)) {
        MemoryRegionSection part = part_of(s, &run);

        ret = fn(&part, opaque);
        if (ret) {
            return ret;
        }
        at = run.addr + run.len;
    }
    return 0;
}

static uint64_t get_min_granularity(const RamDiscardManager *rdm,
                                    const MemoryRegion *mr)
{
    return CHUNK;
}

static bool is_populated(const RamDiscardManager *rdm,
                         const MemoryRegionSection *s)
{
    const VirtIOHBalloon *hb = VIRTIO_HBALLOON(rdm);
    const VirtIOHBalloonNode *n = node_of(hb, s->mr);
    uint64_t start = QEMU_ALIGN_DOWN(s->offset_within_region, PAGE);
    uint64_t end = ROUND_UP(s->offset_within_region + int128_get64(s->size),
                            PAGE);
    struct virtio_hballoon_range run;

    return end <= n->size && !next_part(hb, n, start, end, true, &run);
}

typedef struct Replay {
    ReplayRamPopulate populate;
    ReplayRamDiscard discard;
    void *opaque;
} Replay;

static int replay_populate_cb(MemoryRegionSection *s, void *opaque)
{
    Replay *replay = opaque;

    return replay->populate(s, replay->opaque);
}

static int replay_discard_cb(MemoryRegionSection *s, void *opaque)
{
    Replay *replay = opaque;

    replay->discard(s, replay->opaque);
    return 0;
}

static int replay_populated(const RamDiscardManager *rdm,
                            MemoryRegionSection *s, ReplayRamPopulate fn,
                            void *opaque)
{
    Replay replay = { .populate = fn, .opaque = opaque };

    return for_each_part(rdm, s, false, replay_populate_cb, &replay);
}

static void replay_discarded(const RamDiscardManager *rdm,
                             MemoryRegionSection *s, ReplayRamDiscard fn,
                             void *opaque)
{
    Replay replay = { .discard = fn, .opaque = opaque };

    for_each_part(rdm, s, true, replay_discard_cb, &replay);
}

static int listener_populate_cb(MemoryRegionSection *s, void *opaque)
{
    RamDiscardListener *rdl = opaque;

    return rdl->notify_populate(rdl, s);
}

static int listener_discard_cb(MemoryRegionSection *s, void *opaque)
{
    RamDiscardListener *rdl = opaque;

    rdl->notify_discard(rdl, s);
    return 0;
}

static void register_listener(RamDiscardManager *rdm, RamDiscardListener *rdl,
                              MemoryRegionSection *s)
{
    VirtIOHBalloon *hb = VIRTIO_HBALLOON(rdm);

    /* What is mapped below must not be discarded after it. */
    virtio_hballoon_stop_discarding(hb);
    rdl->section = memory_region_section_new_copy(s);
    QLIST_INSERT_HEAD(&hb->listeners, rdl, next);
    if (for_each_part(rdm, rdl->section, false, listener_populate_cb, rdl)) {
        error_report("hballoon: memory of %s could not be mapped for a device",
                     memory_region_name(s->mr));
    }
}

static void unregister_listener(RamDiscardManager *rdm, RamDiscardListener *rdl)
{
    for_each_part(rdm, rdl->section, false, listener_discard_cb, rdl);
    QLIST_REMOVE(rdl, next);
    memory_region_section_free_copy(rdl->section);
    rdl->section = NULL;
}

void virtio_hballoon_init_discard_class(ObjectClass *klass)
{
    RamDiscardManagerClass *rdmc = RAM_DISCARD_MANAGER_CLASS(klass);

    rdmc->get_min_granularity = get_min_granularity;
    rdmc->is_populated = is_populated;
    rdmc->replay_populated = replay_populated;
    rdmc->replay_discarded = replay_discarded;
    rdmc->register_listener = register_listener;
    rdmc->unregister_listener = unregister_listener;
}
