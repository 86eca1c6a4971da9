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
#include "virtio-hballoon-internal.h"
#include "trace.h"

/* What is discarded at once. A reset waits for that, some milliseconds. */
#define PIECE (32 * MiB)

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

/* Discards @r piecemeal. Returns 0, -errno, or -ECANCELED if dropped. */
static int discard_in_pieces(VirtIOHBalloon *hb, const VirtIOHBalloonNode *n,
                             struct virtio_hballoon_range r)
{
    while (r.len) {
        struct virtio_hballoon_range piece = { r.addr, MIN(r.len, PIECE) };
        int ret;

        if (qatomic_read(&hb->dropped)) {
            return -ECANCELED;
        }
        ret = virtio_hballoon_discard(n, &piece);
        if (ret) {
            return ret;
        }
        r.addr += piece.len;
        r.len -= piece.len;
    }
    return 0;
}

int virtio_hballoon_discard_unlocked(VirtIOHBalloon *hb,
                                     const VirtIOHBalloonNode *n,
                                     const struct virtio_hballoon_range *r,
                                     uint32_t nr)
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
        ret = discard_in_pieces(hb, n, r[i]);
    }
    qemu_mutex_unlock(&hb->discard_lock);
    if (unlock) {
        bql_lock();
    }
    return hb->elem ? ret : -ECANCELED;
}

void virtio_hballoon_tell_discarded(VirtIOHBalloon *hb,
                                    const VirtIOHBalloonNode *n,
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

int virtio_hballoon_tell_populated(VirtIOHBalloon *hb,
                                   const VirtIOHBalloonNode *n,
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

/*
 * RamDiscardManager
 */

typedef int (*SectionFn)(MemoryRegionSection *s, void *opaque);

/* Call @fn for each part of @s that is held, or that is not. */
static int for_each_part(const RamDiscardManager *rdm,
                         const MemoryRegionSection *s, bool held,
                         SectionFn fn, void *opaque)
{
    const VirtIOHBalloonNode *n = node_of(VIRTIO_HBALLOON(rdm), s->mr);
    uint64_t at = s->offset_within_region;
    uint64_t end = at + int128_get64(s->size);
    struct virtio_hballoon_range run;
    int ret;

    while (hballoon_pages_next(&n->pages, at, end, held, &run)) {
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
    return PAGE;
}

static bool is_populated(const RamDiscardManager *rdm,
                         const MemoryRegionSection *s)
{
    const VirtIOHBalloonNode *n = node_of(VIRTIO_HBALLOON(rdm), s->mr);
    uint64_t start = QEMU_ALIGN_DOWN(s->offset_within_region, PAGE);
    uint64_t end = ROUND_UP(s->offset_within_region + int128_get64(s->size),
                            PAGE);

    return end <= n->size &&
           hballoon_pages_all(&n->pages, start, end - start, false);
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
