/*
 * HBalloon: monitor commands
 *
 * This work is licensed under the terms of the GNU GPL, version 2 or later.
 * See the COPYING file in the top-level directory.
 */

#include "qemu/osdep.h"
#include "qemu/timer.h"
#include "hw/virtio/virtio-hballoon.h"
#include "monitor/hmp.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-hballoon.h"
#include "qobject/qdict.h"

/* A statistic, unless the guest does not know it. */
#define SET_STAT(stats, member, value) do {             \
        uint64_t known_ = (value);                      \
        (stats)->has_ ## member = known_ != UINT64_MAX; \
        (stats)->member = known_;                       \
    } while (0)

static HBalloonStats *stats_of(const VirtIOHBalloonNode *n)
{
    HBalloonStats *s = g_new0(HBalloonStats, 1);

    SET_STAT(s, free, n->stat[VIRTIO_HBALLOON_S_FREE]);
    SET_STAT(s, available, n->stat[VIRTIO_HBALLOON_S_AVAILABLE]);
    SET_STAT(s, reclaimable, n->stat[VIRTIO_HBALLOON_S_RECLAIMABLE]);
    SET_STAT(s, promoted, n->stat[VIRTIO_HBALLOON_S_PROMOTED]);
    SET_STAT(s, demoted, n->stat[VIRTIO_HBALLOON_S_DEMOTED]);
    SET_STAT(s, refaults, n->stat[VIRTIO_HBALLOON_S_REFAULTS]);
    SET_STAT(s, pressure_us, n->stat[VIRTIO_HBALLOON_S_PRESSURE]);
    return s;
}

static HBalloonNode *node_info(const VirtIOHBalloonNode *n, bool retaken,
                               Error **errp)
{
    HBalloonNode *info = g_new0(HBalloonNode, 1);
    int64_t bytes;

    info->node = n->id;
    info->size = n->size;
    info->floor = n->floor;
    info->target = n->target;
    info->actual = virtio_hballoon_actual(n);
    info->generation = n->generation;
    if (retaken) {
        bytes = virtio_hballoon_retaken(n);
        if (bytes < 0) {
            error_setg_errno(errp, -bytes, "node %u: memory in use cannot be"
                             " counted", n->id);
        } else {
            info->has_retaken = true;
            info->retaken = bytes;
        }
    }
    if (n->has_done) {
        info->last = g_new0(HBalloonCompletion, 1);
        info->last->generation = n->done_generation;
        info->last->actual = n->done_actual;
        info->last->reason = n->done_reason;
    }
    if (n->has_stats) {
        info->stats = stats_of(n);
        info->has_stats_age_ms = true;
        info->stats_age_ms = qemu_clock_get_ms(QEMU_CLOCK_REALTIME) -
                             n->stats_ms;
    }
    return info;
}

static HBalloonInfo *device_info(VirtIOHBalloon *hb, bool retaken,
                                 Error **errp)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(hb);
    HBalloonInfo *info = g_new0(HBalloonInfo, 1);
    uint32_t i;

    info->id = g_strdup(virtio_hballoon_id(hb));
    info->qom_path = virtio_hballoon_path(hb);
    info->driver = vdev->status & VIRTIO_CONFIG_S_DRIVER_OK;
    info->broken = vdev->broken;
    for (i = hb->nr_nodes; i-- > 0; ) {
        HBalloonNode *n = node_info(&hb->node[i], retaken && !*errp, errp);

        QAPI_LIST_PREPEND(info->nodes, n);
    }
    return info;
}

HBalloonInfoList *qmp_query_hballoon(bool has_retaken, bool retaken,
                                     Error **errp)
{
    ERRP_GUARD();
    HBalloonInfoList *list = NULL;
    VirtIOHBalloon *hb = NULL;

    while ((hb = virtio_hballoon_next(hb))) {
        HBalloonInfo *info = device_info(hb, has_retaken && retaken, errp);

        QAPI_LIST_PREPEND(list, info);
    }
    if (*errp) {
        qapi_free_HBalloonInfoList(list);
        return NULL;
    }
    return list;
}

static VirtIOHBalloon *find_device(const char *id, Error **errp)
{
    VirtIOHBalloon *hb = NULL;

    while ((hb = virtio_hballoon_next(hb))) {
        if (g_str_equal(id, virtio_hballoon_id(hb) ?: "")) {
            return hb;
        }
    }
    error_setg(errp, "no HBalloon device has the id '%s'", id);
    return NULL;
}

/* The node that may have @size bytes, or NULL. */
static VirtIOHBalloonNode *find_node(VirtIOHBalloon *hb, uint32_t id,
                                     uint64_t size, Error **errp)
{
    VirtIOHBalloonNode *n;
    uint32_t i;

    for (i = 0; i < hb->nr_nodes && hb->node[i].id != id; i++) {
        continue;
    }
    if (i == hb->nr_nodes) {
        error_setg(errp, "node %u does not exist or has no memory", id);
        return NULL;
    }
    n = &hb->node[i];
    if (!QEMU_IS_ALIGNED(size, VIRTIO_HBALLOON_PAGE_SIZE)) {
        error_setg(errp, "size %" PRIu64 " of node %u is not a multiple of %u",
                   size, id, VIRTIO_HBALLOON_PAGE_SIZE);
        return NULL;
    }
    if (size < n->floor) {
        error_setg(errp, "size %" PRIu64 " of node %u is below its floor,"
                   " %" PRIu64, size, id, n->floor);
        return NULL;
    }
    if (size > n->size) {
        error_setg(errp, "size %" PRIu64 " of node %u is above its memory,"
                   " %" PRIu64, size, id, n->size);
        return NULL;
    }
    return n;
}

static uint64_t set_targets(VirtIOHBalloon *hb, HBalloonTargetList *targets,
                            Error **errp)
{
    VirtIOHBalloonNode *nodes[VIRTIO_HBALLOON_MAX_NODES];
    uint64_t sizes[VIRTIO_HBALLOON_MAX_NODES];
    unsigned nr = 0, i;

    for (; targets; targets = targets->next) {
        uint32_t id = targets->value->node;
        VirtIOHBalloonNode *n = find_node(hb, id, targets->value->size, errp);

        if (!n) {
            return 0;
        }
        /* No node comes twice, so there are no more than there is room for. */
        for (i = 0; i < nr; i++) {
            if (nodes[i] == n) {
                error_setg(errp, "node %u is named twice", id);
                return 0;
            }
        }
        nodes[nr] = n;
        sizes[nr++] = targets->value->size;
    }
    if (!nr) {
        error_setg(errp, "targets is empty");
        return 0;
    }
    return virtio_hballoon_set(hb, nodes, sizes, nr);
}

HBalloonGeneration *qmp_hballoon_set(const char *id, bool has_node,
                                     uint32_t node, bool has_size,
                                     uint64_t size, bool has_targets,
                                     HBalloonTargetList *targets, Error **errp)
{
    HBalloonTarget target = { .node = node, .size = size };
    HBalloonTargetList one = { .value = &target };
    VirtIOHBalloon *hb = find_device(id, errp);
    HBalloonGeneration *ret;
    uint64_t generation;

    if (!hb) {
        return NULL;
    }
    if (has_node != has_size || has_targets == has_node) {
        error_setg(errp, "give either node and size, or targets");
        return NULL;
    }
    if (virtio_hballoon_busy()) {
        error_setg(errp, "'%s' cannot be resized while a migration is running",
                   id);
        return NULL;
    }
    generation = set_targets(hb, has_targets ? targets : &one, errp);
    if (!generation) {
        return NULL;
    }
    ret = g_new0(HBalloonGeneration, 1);
    ret->generation = generation;
    return ret;
}

void hmp_hballoon(Monitor *mon, const QDict *qdict)
{
    Error *err = NULL;
    HBalloonGeneration *ret;

    ret = qmp_hballoon_set(qdict_get_str(qdict, "id"),
                           true, qdict_get_int(qdict, "node"),
                           true, qdict_get_int(qdict, "size"),
                           false, NULL, &err);
    if (ret) {
        monitor_printf(mon, "generation %" PRIu64 "\n", ret->generation);
    }
    qapi_free_HBalloonGeneration(ret);
    hmp_handle_error(mon, err);
}

void hmp_info_hballoon(Monitor *mon, const QDict *qdict)
{
    Error *err = NULL;
    HBalloonInfoList *list = qmp_query_hballoon(true, true, &err), *l;
    HBalloonNodeList *n;

    for (l = list; l; l = l->next) {
        monitor_printf(mon, "%s: %s\n", l->value->id ?: l->value->qom_path,
                       l->value->broken ? "broken" :
                       l->value->driver ? "driver at work" : "no driver");
        for (n = l->value->nodes; n; n = n->next) {
            HBalloonNode *v = n->value;

            monitor_printf(mon, "  node %u: actual=%" PRIu64 " target=%" PRIu64
                           " floor=%" PRIu64 " size=%" PRIu64
                           " retaken=%" PRIu64 " generation=%" PRIu64 "\n",
                           v->node, v->actual, v->target, v->floor, v->size,
                           v->retaken, v->generation);
            if (v->last) {
                monitor_printf(mon, "    last: generation=%" PRIu64
                               " actual=%" PRIu64 " %s\n",
                               v->last->generation, v->last->actual,
                               HBalloonReason_str(v->last->reason));
            }
        }
    }
    qapi_free_HBalloonInfoList(list);
    hmp_handle_error(mon, err);
}
