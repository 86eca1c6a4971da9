/*
 * HBalloon: the host resizes each memory node of a guest
 *
 * The protocol: include/standard-headers/linux/virtio_hballoon.h.
 *
 * This work is licensed under the terms of the GNU GPL, version 2 or later.
 * See the COPYING file in the top-level directory.
 */

#ifndef HW_VIRTIO_HBALLOON_H
#define HW_VIRTIO_HBALLOON_H

#include "standard-headers/linux/virtio_hballoon.h"
#include "hw/virtio/virtio.h"
#include "hw/virtio/virtio-hballoon-pages.h"
#include "exec/memory.h"
#include "qapi/qapi-types-hballoon.h"
#include "qemu/notify.h"
#include "qemu/queue.h"
#include "qemu/thread.h"
#include "qom/object.h"

#define TYPE_VIRTIO_HBALLOON "virtio-hballoon"
OBJECT_DECLARE_SIMPLE_TYPE(VirtIOHBalloon, VIRTIO_HBALLOON)

typedef struct VirtIOHBalloonNode {
    uint32_t id;                /* NUMA node id, ACPI proximity domain */
    MemoryRegion *mr;           /* the node's memory, of its backend */
    uint64_t size;              /* bytes */
    /* Where the guest finds it, in host byte order: the largest pieces. */
    struct virtio_hballoon_range extent[VIRTIO_HBALLOON_MAX_EXTENTS];
    uint32_t nr_extents;
    uint64_t floor;
    uint64_t target;
    uint64_t generation;        /* of target */
    HBalloonPages pages;        /* held: the only truth of it */
    bool reporting;             /* the guest shall report free memory */

    /* The last completion that the driver sent. */
    bool has_done;
    uint64_t done_generation;
    uint64_t done_actual;
    uint16_t done_reason;

    bool has_stats;
    int64_t stats_ms;           /* on QEMU_CLOCK_REALTIME */
    uint64_t stat[VIRTIO_HBALLOON_NR_STATS];
} VirtIOHBalloonNode;

struct VirtIOHBalloon {
    VirtIODevice parent_obj;

    VirtQueue *request_vq;
    VirtQueue *status_vq;
    VirtQueue *reporting_vq;

    VirtIOHBalloonNode *node;
    uint32_t nr_nodes;
    uint64_t generation;        /* the newest of all nodes */
    uint64_t stats_seq;         /* changes when the driver shall send some */
    QEMUTimer *stats_timer;

    /*
     * What is being executed, of the queue of requests or of reporting. The
     * main loop executes it, without the big lock while it discards or
     * populates memory; a reset may come from a processor in that time, and
     * drops it.
     */
    VirtQueueElement *elem;
    VirtQueue *elem_vq;
    bool dropped;               /* atomic: discard and populate no more */
    QemuMutex discard_lock;     /* held, after the big lock, to do so */

    /* A request's ranges: checked, used and dropped before the next one. */
    struct virtio_hballoon_range range[VIRTIO_HBALLOON_MAX_RANGES];

    /* Have the driver try again what was refused during a migration. */
    NotifierWithReturn migration_notifier;
    VMChangeStateEntry *vm_change_entry;
    bool arrived;               /* by migration; the guest does not run yet */
    QEMUTimer *arrival_timer;   /* the guest runs, postcopy goes on */

    QLIST_HEAD(, RamDiscardListener) listeners;
    QLIST_ENTRY(VirtIOHBalloon) next;

    /* Properties */
    char *floors;
    char *initial;
    uint32_t stats_interval_ms;
    bool deflate_on_oom;
    char *reporting;
    bool prealloc;              /* what is given back has memory of the host */
};

/* The bytes of a node that the guest can use. */
static inline uint64_t virtio_hballoon_actual(const VirtIOHBalloonNode *n)
{
    return n->size - n->pages.held;
}

/*
 * All that follows is called with the big lock held.
 */

/* The next device after @hb, the first one after NULL; NULL at the end. */
VirtIOHBalloon *virtio_hballoon_next(VirtIOHBalloon *hb);

/* The id that the user gave, or NULL. */
const char *virtio_hballoon_id(VirtIOHBalloon *hb);

/* The path of what the user made; to be freed. */
char *virtio_hballoon_path(VirtIOHBalloon *hb);

/* May memory change hands now? Not while it is being copied elsewhere. */
bool virtio_hballoon_busy(void);

/*
 * Set @nr targets at once. Each node exists, each size is valid.
 * Returns the generation.
 */
uint64_t virtio_hballoon_set(VirtIOHBalloon *hb, VirtIOHBalloonNode **nodes,
                             const uint64_t *sizes, unsigned nr);

/* Held bytes that occupy host memory, or -errno. */
int64_t virtio_hballoon_retaken(const VirtIOHBalloonNode *n);

#endif
