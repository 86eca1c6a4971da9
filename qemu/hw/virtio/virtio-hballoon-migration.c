/*
 * HBalloon: state that moves with the guest
 *
 * This work is licensed under the terms of the GNU GPL, version 2 or later.
 * See the COPYING file in the top-level directory.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/timer.h"
#include "exec/cpu-common.h"
#include "migration/misc.h"
#include "migration/vmstate.h"
#include "system/runstate.h"
#include "virtio-hballoon-internal.h"

/* How often to look whether postcopy has ended. */
#define POSTCOPY_LOOK_MS 100

typedef struct NodeChecks {
    VirtIOHBalloonNode *parent;
    uint32_t id;
    uint64_t size;
} NodeChecks;

static int node_checks_pre_save(void *opaque)
{
    NodeChecks *tmp = opaque;

    tmp->id = tmp->parent->id;
    tmp->size = tmp->parent->size;
    return 0;
}

static int node_checks_post_load(void *opaque, int version_id)
{
    NodeChecks *tmp = opaque;
    const VirtIOHBalloonNode *n = tmp->parent;

    if (tmp->id != n->id || tmp->size != n->size) {
        error_report("hballoon: node %u of %" PRIu64 " bytes here is node %u of"
                     " %" PRIu64 " bytes at the source", n->id, n->size,
                     tmp->id, tmp->size);
        return -EINVAL;
    }
    return 0;
}

static const VMStateDescription vmstate_node_checks = {
    .name = "virtio-hballoon-node/checks",
    .pre_save = node_checks_pre_save,
    .post_load = node_checks_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32(id, NodeChecks),
        VMSTATE_UINT64(size, NodeChecks),
        VMSTATE_END_OF_LIST()
    },
};

static int node_post_load(void *opaque, int version_id)
{
    VirtIOHBalloonNode *n = opaque;

    if (n->target < n->floor || n->target > n->size ||
        !QEMU_IS_ALIGNED(n->target, PAGE) ||
        n->done_reason >= VIRTIO_HBALLOON_NR_REASONS) {
        error_report("hballoon: node %u: target %" PRIu64 " from the source is"
                     " not within floor %" PRIu64 " and size %" PRIu64,
                     n->id, n->target, n->floor, n->size);
        return -EINVAL;
    }
    hballoon_pages_recount(&n->pages);
    return 0;
}

static const VMStateDescription vmstate_node = {
    .name = "virtio-hballoon-node",
    .version_id = 1,
    .minimum_version_id = 1,
    .post_load = node_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_WITH_TMP(VirtIOHBalloonNode, NodeChecks, vmstate_node_checks),
        VMSTATE_UINT64(target, VirtIOHBalloonNode),
        VMSTATE_UINT64(generation, VirtIOHBalloonNode),
        VMSTATE_BOOL(has_done, VirtIOHBalloonNode),
        VMSTATE_UINT64(done_generation, VirtIOHBalloonNode),
        VMSTATE_UINT64(done_actual, VirtIOHBalloonNode),
        VMSTATE_UINT16(done_reason, VirtIOHBalloonNode),
        VMSTATE_BITMAP(pages.bitmap, VirtIOHBalloonNode, 1, pages.nr),
        VMSTATE_END_OF_LIST()
    },
};

static int device_post_load(void *opaque, int version_id)
{
    VirtIOHBalloon *hb = opaque;
    uint32_t i;

    hb->arrived = true;
    for (i = 0; i < hb->nr_nodes; i++) {
        VirtIOHBalloonNode *n = &hb->node[i];
        struct virtio_hballoon_range run;
        uint64_t at = 0;

        if (n->generation > hb->generation) {
            error_report("hballoon: node %u is ahead of its device", n->id);
            return -EINVAL;
        }
        while (hballoon_pages_next(&n->pages, at, n->size, true, &run)) {
            /*
             * A snapshot that is loaded finds the memory of what ran before.
             * In postcopy there is none, nor does VFIO take part.
             */
            if (!migration_in_incoming_postcopy()) {
                virtio_hballoon_discard_held(hb, n, &run);
            }
            at = run.addr + run.len;
        }
    }
    return 0;
}

const VMStateDescription vmstate_virtio_hballoon_device = {
    .name = "virtio-hballoon-device",
    .version_id = 1,
    .minimum_version_id = 1,
    .post_load = device_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32_EQUAL(nr_nodes, VirtIOHBalloon,
                             "number of memory nodes"),
        VMSTATE_UINT64(generation, VirtIOHBalloon),
        VMSTATE_UINT64(stats_seq, VirtIOHBalloon),
        VMSTATE_STRUCT_VARRAY_POINTER_UINT32(node, VirtIOHBalloon, nr_nodes,
                                             vmstate_node,
                                             VirtIOHBalloonNode),
        VMSTATE_END_OF_LIST()
    },
};

const VMStateDescription vmstate_virtio_hballoon = {
    .name = "virtio-hballoon",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_VIRTIO_DEVICE,
        VMSTATE_END_OF_LIST()
    },
};

/*
 * The driver was told BUSY as long as memory was being copied, and waits longer
 * each time. A change of the configuration makes it look at once.
 */

static int migration_ended(NotifierWithReturn *notifier, MigrationEvent *e,
                           Error **errp)
{
    VirtIOHBalloon *hb = container_of(notifier, VirtIOHBalloon,
                                      migration_notifier);

    if (e->type != MIG_EVENT_PRECOPY_SETUP) {
        virtio_notify_config(VIRTIO_DEVICE(hb));
    }
    return 0;
}

/* The guest runs here, in postcopy before the end, of which nobody tells. */
static void look_for_end(void *opaque)
{
    VirtIOHBalloon *hb = opaque;

    if (migration_in_incoming_postcopy()) {
        timer_mod(hb->arrival_timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
                  POSTCOPY_LOOK_MS);
    } else {
        virtio_notify_config(VIRTIO_DEVICE(hb));
    }
}

/* At the destination an interrupt is lost until the guest runs. */
static void vm_changed(void *opaque, bool running, RunState state)
{
    VirtIOHBalloon *hb = opaque;

    if (running && hb->arrived) {
        hb->arrived = false;
        look_for_end(hb);
    }
}

void virtio_hballoon_watch_migration(VirtIOHBalloon *hb, bool watch)
{
    if (watch) {
        migration_add_notifier(&hb->migration_notifier, migration_ended);
        hb->vm_change_entry = qdev_add_vm_change_state_handler(DEVICE(hb),
                                                               vm_changed, hb);
        hb->arrival_timer = timer_new_ms(QEMU_CLOCK_REALTIME, look_for_end, hb);
    } else {
        timer_free(hb->arrival_timer);
        hb->arrival_timer = NULL;
        qemu_del_vm_change_state_handler(hb->vm_change_entry);
        migration_remove_notifier(&hb->migration_notifier);
    }
}
