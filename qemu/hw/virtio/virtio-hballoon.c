/*
 * HBalloon: the host resizes each memory node of a guest
 *
 * The device keeps, per node, the set of pages that the guest has given
 * (-pages.c) and believes nothing else. A request (-request.c) is read and
 * checked whole before any of it is done; a driver that breaks the protocol
 * loses its device until reset.
 *
 * The device manages the discarding of its nodes' memory (-discard.c), so that
 * VFIO maps only what the guest uses, and migration and dumps leave out the
 * rest.
 *
 * This work is licensed under the terms of the GNU GPL, version 2 or later.
 * See the COPYING file in the top-level directory.
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "exec/address-spaces.h"
#include "exec/cpu-common.h"
#include "hw/boards.h"
#include "hw/qdev-properties.h"
#include "migration/misc.h"
#include "qapi/error.h"
#include "qapi/qapi-events-hballoon.h"
#include "qapi/util.h"
#include "system/hostmem.h"
#include "system/numa.h"
#include "system/system.h"
#include "virtio-hballoon-internal.h"
#include "trace.h"

/* Requests that a driver can have in flight: two descriptors each. */
#define REQUEST_QUEUE_SIZE 256
#define STATUS_QUEUE_SIZE 64
#define REPORTING_QUEUE_SIZE 32     /* Linux reports up to 32 ranges at once */

static QLIST_HEAD(, VirtIOHBalloon) devices;

VirtIOHBalloon *virtio_hballoon_next(VirtIOHBalloon *hb)
{
    return hb ? QLIST_NEXT(hb, next) : QLIST_FIRST(&devices);
}

/* The device that the user made: the transport's. */
static DeviceState *proxy_of(VirtIOHBalloon *hb)
{
    return qdev_get_parent_bus(DEVICE(hb))->parent;
}

const char *virtio_hballoon_id(VirtIOHBalloon *hb)
{
    return proxy_of(hb)->id;
}

char *virtio_hballoon_path(VirtIOHBalloon *hb)
{
    return object_get_canonical_path(OBJECT(proxy_of(hb)));
}

bool virtio_hballoon_busy(void)
{
    /*
     * Postcopy and background snapshots cannot deal with discards, and what
     * changes hands while it is copied might differ at the destination.
     */
    return migration_in_incoming_postcopy() || migration_is_running();
}

void virtio_hballoon_send_changed(VirtIOHBalloon *hb)
{
    g_autofree char *path = virtio_hballoon_path(hb);
    HBalloonTargetList *actual = NULL;
    uint32_t i;

    for (i = hb->nr_nodes; i-- > 0; ) {
        HBalloonTarget *t = g_new0(HBalloonTarget, 1);

        t->node = hb->node[i].id;
        t->size = virtio_hballoon_actual(&hb->node[i]);
        QAPI_LIST_PREPEND(actual, t);
    }
    qapi_event_send_hballoon_changed(virtio_hballoon_id(hb), path, actual);
    qapi_free_HBalloonTargetList(actual);
}

/*
 * Targets, and what the driver sees
 */

static void get_config(VirtIODevice *vdev, uint8_t *data)
{
    VirtIOHBalloon *hb = VIRTIO_HBALLOON(vdev);
    struct virtio_hballoon_config *config = (void *)data;
    uint32_t i, j;

    stl_le_p(&config->num_nodes, hb->nr_nodes);
    stl_le_p(&config->max_ranges, VIRTIO_HBALLOON_MAX_RANGES);
    stq_le_p(&config->generation, hb->generation);
    stq_le_p(&config->stats_seq, hb->stats_seq);
    for (i = 0; i < hb->nr_nodes; i++) {
        struct virtio_hballoon_node *to = &config->node[i];

        stl_le_p(&to->id, hb->node[i].id);
        stl_le_p(&to->nr_extents, hb->node[i].nr_extents);
        stl_le_p(&to->flags, hb->node[i].reporting ?
                             VIRTIO_HBALLOON_NODE_REPORTING : 0);
        for (j = 0; j < hb->node[i].nr_extents; j++) {
            stq_le_p(&to->extent[j].addr, hb->node[i].extent[j].addr);
            stq_le_p(&to->extent[j].len, hb->node[i].extent[j].len);
        }
        stq_le_p(&to->size, hb->node[i].size);
        stq_le_p(&to->floor, hb->node[i].floor);
        stq_le_p(&to->target, hb->node[i].target);
        stq_le_p(&to->generation, hb->node[i].generation);
    }
}

uint64_t virtio_hballoon_set(VirtIOHBalloon *hb, VirtIOHBalloonNode **nodes,
                             const uint64_t *sizes, unsigned nr)
{
    unsigned i;

    hb->generation++;
    for (i = 0; i < nr; i++) {
        trace_virtio_hballoon_target(nodes[i]->id, sizes[i], hb->generation);
        nodes[i]->target = sizes[i];
        nodes[i]->generation = hb->generation;
    }
    virtio_notify_config(VIRTIO_DEVICE(hb));
    return hb->generation;
}

static void ask_for_stats(void *opaque)
{
    VirtIOHBalloon *hb = opaque;

    hb->stats_seq++;
    virtio_notify_config(VIRTIO_DEVICE(hb));
    timer_mod(hb->stats_timer, qemu_clock_get_ms(QEMU_CLOCK_VIRTUAL) +
              hb->stats_interval_ms);
}

/* Is free memory of any node to be reported? */
static bool reports(const VirtIOHBalloon *hb)
{
    uint32_t i;

    for (i = 0; i < hb->nr_nodes; i++) {
        if (hb->node[i].reporting) {
            return true;
        }
    }
    return false;
}

static uint64_t get_features(VirtIODevice *vdev, uint64_t features,
                             Error **errp)
{
    VirtIOHBalloon *hb = VIRTIO_HBALLOON(vdev);

    virtio_add_feature(&features, VIRTIO_HBALLOON_F_STATS);
    if (MACHINE(qdev_get_machine())->numa_state &&
        MACHINE(qdev_get_machine())->numa_state->num_nodes) {
        virtio_add_feature(&features, VIRTIO_HBALLOON_F_ACPI_PXM);
    }
    if (reports(hb)) {
        virtio_add_feature(&features, VIRTIO_HBALLOON_F_REPORTING);
    }
    if (hb->deflate_on_oom) {
        virtio_add_feature(&features, VIRTIO_HBALLOON_F_DEFLATE_ON_OOM);
    }
    return features;
}

/*
 * Whatever resets the device, be it the system, a wake-up or the driver, the
 * guest may use all its memory again and will not say so first. Targets stay.
 */
static void reset(VirtIODevice *vdev)
{
    VirtIOHBalloon *hb = VIRTIO_HBALLOON(vdev);
    bool changed = false;
    uint32_t i;

    virtio_hballoon_drop_element(hb);
    for (i = 0; i < hb->nr_nodes; i++) {
        VirtIOHBalloonNode *n = &hb->node[i];
        struct virtio_hballoon_range run;
        uint64_t at = 0;

        n->has_stats = false;
        changed |= n->pages.held;
        while (hballoon_pages_next(&n->pages, at, n->size, true, &run)) {
            virtio_hballoon_give_back(hb, n, &run);
            at = run.addr + run.len;
        }
    }
    if (changed) {
        virtio_hballoon_send_changed(hb);
    }
}

/* The driver takes a queue back: no answer goes there any more. */
static void queue_reset(VirtIODevice *vdev, uint32_t index)
{
    VirtIOHBalloon *hb = VIRTIO_HBALLOON(vdev);

    if (hb->elem && hb->elem_vq == virtio_get_queue(vdev, index)) {
        virtio_hballoon_drop_element(hb);
    }
}

int64_t virtio_hballoon_retaken(const VirtIOHBalloonNode *n)
{
    const uint64_t chunk = 64 * MiB;
    g_autofree unsigned char *resident = g_malloc(chunk / PAGE);
    char *host = memory_region_get_ram_ptr(n->mr);
    struct virtio_hballoon_range run;
    uint64_t at = 0, i;
    int64_t bytes = 0;

    while (hballoon_pages_next(&n->pages, at, n->size, true, &run)) {
        run.len = MIN(run.len, chunk);
        if (mincore(host + run.addr, run.len, (void *)resident)) {
            return -errno;
        }
        for (i = 0; i < run.len / PAGE; i++) {
            bytes += resident[i] & 1 ? PAGE : 0;
        }
        at = run.addr + run.len;
    }
    return bytes;
}

/*
 * Making and unmaking
 */

static bool init_node(VirtIOHBalloonNode *n, uint32_t id, MemoryRegion *mr,
                      Error **errp)
{
    n->id = id;
    n->mr = mr;
    n->size = memory_region_size(mr);
    n->target = n->size;
    if (qemu_ram_pagesize(mr->ram_block) != PAGE) {
        error_setg(errp, "memory of node %u has pages of %zu bytes; hballoon"
                   " needs pages of %u", id, qemu_ram_pagesize(mr->ram_block),
                   PAGE);
        return false;
    }
    if (memory_region_is_rom(mr) || !QEMU_IS_ALIGNED(n->size, PAGE) ||
        n->size / PAGE > INT32_MAX) {
        error_setg(errp, "memory of node %u, %" PRIu64 " bytes, cannot be"
                   " resized", id, n->size);
        return false;
    }
    if (memory_region_has_ram_discard_manager(mr)) {
        error_setg(errp, "memory of node %u is resized by another device", id);
        return false;
    }
    if (!hballoon_pages_init(&n->pages, n->size)) {
        error_setg(errp, "no memory for a bitmap of %d pages", n->pages.nr);
        return false;
    }
    return true;
}

/* Keep the largest extents, the smallest of them last. */
static void add_extent(VirtIOHBalloonNode *n, uint64_t addr, uint64_t len)
{
    uint32_t i = n->nr_extents;

    if (i == VIRTIO_HBALLOON_MAX_EXTENTS) {
        if (len <= n->extent[--i].len) {
            return;
        }
    } else {
        n->nr_extents++;
    }
    for (; i && len > n->extent[i - 1].len; i--) {
        n->extent[i] = n->extent[i - 1];
    }
    n->extent[i] = (struct virtio_hballoon_range) { addr, len };
}

static bool find_extent_cb(Int128 start, Int128 len, const MemoryRegion *mr,
                           hwaddr offset, void *opaque)
{
    VirtIOHBalloon *hb = opaque;
    uint32_t i;

    for (i = 0; i < hb->nr_nodes; i++) {
        if (hb->node[i].mr == mr && QEMU_IS_ALIGNED(int128_get64(start) |
                                                    int128_get64(len), PAGE)) {
            add_extent(&hb->node[i], int128_get64(start), int128_get64(len));
        }
    }
    return false;
}

static void find_extents(VirtIOHBalloon *hb)
{
    RCU_READ_LOCK_GUARD();
    flatview_for_each_range(address_space_to_flatview(&address_space_memory),
                            find_extent_cb, hb);
}

/* Finds the machine's nodes. Without NUMA there is one, node 0. */
static bool init_nodes(VirtIOHBalloon *hb, Error **errp)
{
    MachineState *ms = MACHINE(qdev_get_machine());
    int nr = ms->numa_state ? ms->numa_state->num_nodes : 0;
    int i;

    if (!nr && !ms->ram) {
        error_setg(errp, "hballoon: the machine has no memory");
        return false;
    }
    hb->node = g_new0(VirtIOHBalloonNode, MAX(nr, 1));
    if (!nr) {
        return init_node(&hb->node[hb->nr_nodes++], 0, ms->ram, errp);
    }
    for (i = 0; i < nr; i++) {
        NodeInfo *info = &ms->numa_state->nodes[i];

        if (!info->node_mem) {
            continue;
        }
        if (!info->node_memdev) {
            error_setg(errp, "hballoon: node %d has no memory backend: use"
                       " -numa node,memdev=", i);
            return false;
        }
        if (hb->nr_nodes == VIRTIO_HBALLOON_MAX_NODES) {
            error_setg(errp, "hballoon: more than %d nodes have memory",
                       VIRTIO_HBALLOON_MAX_NODES);
            return false;
        }
        if (!init_node(&hb->node[hb->nr_nodes++], i,
                       host_memory_backend_get_memory(info->node_memdev),
                       errp)) {
            return false;
        }
    }
    return true;
}

/*
 * Parse sizes separated by colons, one for each node in the order of their
 * ids, into the uint64_t at @field of each node. An empty one changes nothing.
 */
static bool parse_sizes(VirtIOHBalloon *hb, const char *name, const char *list,
                        size_t field, Error **errp)
{
    g_auto(GStrv) words = g_strsplit(list, ":", -1);
    uint32_t i;

    if (g_strv_length(words) > hb->nr_nodes) {
        error_setg(errp, "%s=%s: more sizes than the %u nodes", name, list,
                   hb->nr_nodes);
        return false;
    }
    for (i = 0; words[i]; i++) {
        VirtIOHBalloonNode *n = &hb->node[i];
        uint64_t size;

        if (!*words[i]) {
            continue;
        }
        if (qemu_strtosz_MiB(words[i], NULL, &size) < 0) {
            error_setg(errp, "%s=%s: '%s' is no size", name, list, words[i]);
            return false;
        }
        if (!QEMU_IS_ALIGNED(size, PAGE) || size > n->size ||
            size < n->floor) {
            error_setg(errp, "%s=%s: %" PRIu64 " is not a multiple of %u from"
                       " %" PRIu64 " to %" PRIu64 ", the size of node %u",
                       name, list, size, PAGE, n->floor, n->size, n->id);
            return false;
        }
        *(uint64_t *)((char *)n + field) = size;
    }
    return true;
}

/* Parse one word for all nodes, or a list of them like parse_sizes(). */
static bool parse_reporting(VirtIOHBalloon *hb, Error **errp)
{
    g_auto(GStrv) words = g_strsplit(hb->reporting, ":", -1);
    unsigned nr = g_strv_length(words);
    uint32_t i;

    if (nr > hb->nr_nodes) {
        error_setg(errp, "reporting=%s: more words than the %u nodes",
                   hb->reporting, hb->nr_nodes);
        return false;
    }
    for (i = 0; i < hb->nr_nodes && (nr == 1 || i < nr); i++) {
        const char *word = words[nr == 1 ? 0 : i];

        if (*word && !qapi_bool_parse("reporting", word,
                                      &hb->node[i].reporting, errp)) {
            return false;
        }
    }
    return true;
}

static bool parse_properties(VirtIOHBalloon *hb, Error **errp)
{
    uint32_t i;

    if (hb->floors &&
        !parse_sizes(hb, "floors", hb->floors,
                     offsetof(VirtIOHBalloonNode, floor), errp)) {
        return false;
    }
    if (hb->reporting && !parse_reporting(hb, errp)) {
        return false;
    }
    if (hb->initial) {
        if (!parse_sizes(hb, "initial", hb->initial,
                         offsetof(VirtIOHBalloonNode, target), errp)) {
            return false;
        }
        hb->generation = 1;
        for (i = 0; i < hb->nr_nodes; i++) {
            hb->node[i].generation = 1;
        }
    }
    return true;
}

static void free_nodes(VirtIOHBalloon *hb)
{
    uint32_t i;

    for (i = 0; i < hb->nr_nodes; i++) {
        hballoon_pages_destroy(&hb->node[i].pages);
    }
    g_free(hb->node);
    hb->node = NULL;
    hb->nr_nodes = 0;
}

/*
 * Memory listeners look for a manager only when memory appears. All of this
 * memory has been there before the device, so let it vanish and come again;
 * the guest does not run yet.
 */
static void set_managers(VirtIOHBalloon *hb, RamDiscardManager *rdm)
{
    uint32_t i;

    for (i = 0; i < hb->nr_nodes; i++) {
        memory_region_set_enabled(hb->node[i].mr, false);
        memory_region_set_ram_discard_manager(hb->node[i].mr, rdm);
        memory_region_set_enabled(hb->node[i].mr, true);
    }
}

static void realize(DeviceState *dev, Error **errp)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(dev);
    VirtIOHBalloon *hb = VIRTIO_HBALLOON(dev);
    MachineState *ms = MACHINE(qdev_get_machine());
    int ret;

    if (should_mlock(mlock_state)) {
        error_setg(errp, "hballoon: memory is locked (-overcommit mem-lock) and"
                   " cannot be given back to the host");
        return;
    }
    if (ms->cgs) {
        error_setg(errp, "hballoon: memory of a confidential guest cannot be"
                   " discarded");
        return;
    }
    if (!init_nodes(hb, errp) || !parse_properties(hb, errp)) {
        free_nodes(hb);
        return;
    }
    find_extents(hb);
    ret = ram_block_coordinated_discard_require(true);
    if (ret) {
        error_setg_errno(errp, -ret, "hballoon: discarding of memory is"
                         " disabled, perhaps by a device of the machine");
        free_nodes(hb);
        return;
    }

    qemu_mutex_init(&hb->discard_lock);
    QLIST_INIT(&hb->listeners);
    set_managers(hb, RAM_DISCARD_MANAGER(hb));
    virtio_init(vdev, VIRTIO_ID_HBALLOON,
                sizeof(struct virtio_hballoon_config) +
                hb->nr_nodes * sizeof(struct virtio_hballoon_node));
    hb->request_vq = virtio_add_queue(vdev, REQUEST_QUEUE_SIZE,
                                      virtio_hballoon_handle_request);
    hb->status_vq = virtio_add_queue(vdev, STATUS_QUEUE_SIZE,
                                     virtio_hballoon_handle_status);
    if (reports(hb)) {
        hb->reporting_vq =
            virtio_add_queue(vdev, REPORTING_QUEUE_SIZE,
                             virtio_hballoon_handle_reporting);
    }
    if (hb->stats_interval_ms) {
        hb->stats_timer = timer_new_ms(QEMU_CLOCK_VIRTUAL, ask_for_stats, hb);
        timer_mod(hb->stats_timer, qemu_clock_get_ms(QEMU_CLOCK_VIRTUAL) +
                  hb->stats_interval_ms);
    }
    virtio_hballoon_watch_migration(hb, true);
    QLIST_INSERT_HEAD(&devices, hb, next);
}

static void unrealize(DeviceState *dev)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(dev);
    VirtIOHBalloon *hb = VIRTIO_HBALLOON(dev);

    QLIST_REMOVE(hb, next);
    virtio_hballoon_drop_element(hb);
    virtio_hballoon_watch_migration(hb, false);
    timer_free(hb->stats_timer);
    hb->stats_timer = NULL;
    virtio_delete_queue(hb->request_vq);
    virtio_delete_queue(hb->status_vq);
    if (hb->reporting_vq) {
        virtio_delete_queue(hb->reporting_vq);
    }
    virtio_cleanup(vdev);
    set_managers(hb, NULL);
    ram_block_coordinated_discard_require(false);
    qemu_mutex_destroy(&hb->discard_lock);
    free_nodes(hb);
}

static const Property properties[] = {
    DEFINE_PROP_STRING("floors", VirtIOHBalloon, floors),
    DEFINE_PROP_STRING("initial", VirtIOHBalloon, initial),
    DEFINE_PROP_UINT32("stats-interval-ms", VirtIOHBalloon, stats_interval_ms,
                       0),
    DEFINE_PROP_BOOL("deflate-on-oom", VirtIOHBalloon, deflate_on_oom, false),
    DEFINE_PROP_STRING("reporting", VirtIOHBalloon, reporting),
    DEFINE_PROP_BOOL("prealloc", VirtIOHBalloon, prealloc, false),
};

static void class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    VirtioDeviceClass *vdc = VIRTIO_DEVICE_CLASS(klass);

    device_class_set_props(dc, properties);
    dc->vmsd = &vmstate_virtio_hballoon;
    /* See set_managers(). */
    dc->hotpluggable = false;
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);

    vdc->realize = realize;
    vdc->unrealize = unrealize;
    vdc->reset = reset;
    vdc->queue_reset = queue_reset;
    vdc->get_config = get_config;
    vdc->get_features = get_features;
    vdc->vmsd = &vmstate_virtio_hballoon_device;

    virtio_hballoon_init_discard_class(klass);
}

static const TypeInfo virtio_hballoon_info = {
    .name = TYPE_VIRTIO_HBALLOON,
    .parent = TYPE_VIRTIO_DEVICE,
    .instance_size = sizeof(VirtIOHBalloon),
    .class_init = class_init,
    .interfaces = (InterfaceInfo[]) {
        { TYPE_RAM_DISCARD_MANAGER },
        { }
    },
};

static void register_types(void)
{
    type_register_static(&virtio_hballoon_info);
}

type_init(register_types)
