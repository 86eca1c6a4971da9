/*
 * HBalloon: the host resizes each memory node of a guest
 *
 * The device keeps, per node, a bitmap of the pages that the guest has given
 * and believes nothing else. A request is read and checked whole before any of
 * it is done; a driver that breaks the protocol loses its device until reset.
 *
 * The device manages the discarding of its nodes' memory (RamDiscardManager),
 * so that VFIO maps only what the guest uses, and migration and dumps leave
 * out the rest.
 *
 * This work is licensed under the terms of the GNU GPL, version 2 or later.
 * See the COPYING file in the top-level directory.
 */

#include "qemu/osdep.h"
#include "qemu/bitmap.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/iov.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "exec/address-spaces.h"
#include "exec/cpu-common.h"
#include "hw/boards.h"
#include "hw/qdev-properties.h"
#include "hw/virtio/virtio-hballoon.h"
#include "migration/misc.h"
#include "migration/vmstate.h"
#include "qapi/error.h"
#include "qapi/qapi-events-hballoon.h"
#include "system/hostmem.h"
#include "system/numa.h"
#include "system/system.h"
#include "trace.h"

#define PAGE VIRTIO_HBALLOON_PAGE_SIZE

/* Requests that a driver can have in flight: two descriptors each. */
#define REQUEST_QUEUE_SIZE 256
#define STATUS_QUEUE_SIZE 64
#define REPORTING_QUEUE_SIZE 32     /* Linux reports up to 32 ranges at once */

static QLIST_HEAD(, VirtIOHBalloon) devices;

/* The node's memory from byte @offset on. */
static MemoryRegionSection node_section(const VirtIOHBalloonNode *n,
                                        uint64_t offset, uint64_t len)
{
    return (MemoryRegionSection) {
        .mr = n->mr,
        .offset_within_region = offset,
        .size = int128_make64(len),
    };
}

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

static void send_changed(VirtIOHBalloon *hb)
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
 * Discarding, and those who want to know of it
 */

typedef int (*SectionFn)(MemoryRegionSection *s, void *opaque);

/* Call @fn for each run of @s that is held, or that is not. */
static int for_each_run(const VirtIOHBalloonNode *n,
                        const MemoryRegionSection *s, bool held,
                        SectionFn fn, void *opaque)
{
    unsigned long start = s->offset_within_region / PAGE;
    unsigned long end = start + int128_get64(s->size) / PAGE;
    int ret;

    while (start < end) {
        MemoryRegionSection run = *s;
        unsigned long stop;

        if (held) {
            start = find_next_bit(n->bitmap, end, start);
            stop = find_next_zero_bit(n->bitmap, end, start);
        } else {
            start = find_next_zero_bit(n->bitmap, end, start);
            stop = find_next_bit(n->bitmap, end, start);
        }
        if (start >= end) {
            break;
        }
        run.offset_within_address_space +=
            (hwaddr)start * PAGE - s->offset_within_region;
        run.offset_within_region = (hwaddr)start * PAGE;
        run.size = int128_make64((uint64_t)(stop - start) * PAGE);
        ret = fn(&run, opaque);
        if (ret) {
            return ret;
        }
        start = stop;
    }
    return 0;
}

/* The part of what @rdl listens to that is in @s; false if none is. */
static bool intersect(const RamDiscardListener *rdl,
                      const MemoryRegionSection *s, MemoryRegionSection *out)
{
    const MemoryRegionSection *own = rdl->section;
    uint64_t start = MAX(own->offset_within_region, s->offset_within_region);
    uint64_t end = MIN(own->offset_within_region + int128_get64(own->size),
                       s->offset_within_region + int128_get64(s->size));

    if (own->mr != s->mr || start >= end) {
        return false;
    }
    *out = *own;
    out->offset_within_address_space += start - own->offset_within_region;
    out->offset_within_region = start;
    out->size = int128_make64(end - start);
    return true;
}

static void notify_discard(VirtIOHBalloon *hb, const MemoryRegionSection *s)
{
    RamDiscardListener *rdl;
    MemoryRegionSection part;

    QLIST_FOREACH(rdl, &hb->listeners, next) {
        if (intersect(rdl, s, &part)) {
            rdl->notify_discard(rdl, &part);
        }
    }
}

static int notify_populate(VirtIOHBalloon *hb, const MemoryRegionSection *s)
{
    RamDiscardListener *rdl, *undo;
    MemoryRegionSection part;
    int ret;

    QLIST_FOREACH(rdl, &hb->listeners, next) {
        if (!intersect(rdl, s, &part)) {
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
            if (intersect(undo, s, &part)) {
                undo->notify_discard(undo, &part);
            }
        }
        return ret;
    }
    return 0;
}

static int populate_cb(MemoryRegionSection *s, void *opaque)
{
    return notify_populate(opaque, s);
}

static int discard_cb(MemoryRegionSection *s, void *opaque)
{
    notify_discard(opaque, s);
    return 0;
}

static int discard_memory(const VirtIOHBalloonNode *n, uint64_t offset,
                          uint64_t len)
{
    trace_virtio_hballoon_discard(n->id, offset, len);
    return ram_block_discard_range(n->mr->ram_block, offset, len);
}

/*
 * Requests
 */

/*
 * Turn the guest's range into an offset into the node's memory. False if it is
 * none: not aligned, or not all of it memory of the node that can be written.
 */
static bool resolve(const VirtIOHBalloonNode *n,
                    struct virtio_hballoon_range *r)
{
    uint64_t addr = le64_to_cpu(r->addr);
    uint64_t len = le64_to_cpu(r->len);
    MemoryRegionSection s;
    bool ok;

    if (!len || !QEMU_IS_ALIGNED(addr | len, PAGE) || len > n->size ||
        addr + len < addr) {
        return false;
    }
    s = memory_region_find(get_system_memory(), addr, len);
    ok = s.mr == n->mr && !s.readonly && !s.nonvolatile &&
         s.offset_within_address_space == addr &&
         int128_get64(s.size) == len &&
         QEMU_IS_ALIGNED(s.offset_within_region, PAGE);
    if (s.mr) {
        memory_region_unref(s.mr);
    }
    r->addr = s.offset_within_region;
    r->len = len;
    return ok;
}

/* Is all of the range held, or none of it? */
static bool all_held(const VirtIOHBalloonNode *n,
                     const struct virtio_hballoon_range *r, bool held)
{
    unsigned long start = r->addr / PAGE;
    unsigned long end = start + r->len / PAGE;

    return held ? find_next_zero_bit(n->bitmap, end, start) >= end
                : find_next_bit(n->bitmap, end, start) >= end;
}

static void mark(VirtIOHBalloonNode *n, const struct virtio_hballoon_range *r,
                 bool held)
{
    if (held) {
        bitmap_set(n->bitmap, r->addr / PAGE, r->len / PAGE);
        n->held += r->len;
    } else {
        bitmap_clear(n->bitmap, r->addr / PAGE, r->len / PAGE);
        n->held -= r->len;
    }
}

/*
 * Mark @nr ranges, each of which must be of the other state still: so one that
 * overlaps another is noticed. False if one is not, with nothing marked.
 */
static bool mark_all(VirtIOHBalloonNode *n, struct virtio_hballoon_range *r,
                     uint32_t nr, bool held)
{
    uint32_t i;

    for (i = 0; i < nr; i++) {
        if (!all_held(n, &r[i], !held)) {
            while (i-- > 0) {
                mark(n, &r[i], !held);
            }
            return false;
        }
        mark(n, &r[i], held);
    }
    return true;
}

static void unmark_all(VirtIOHBalloonNode *n, struct virtio_hballoon_range *r,
                       uint32_t nr, bool held)
{
    while (nr-- > 0) {
        mark(n, &r[nr], !held);
    }
}

/*
 * Join neighbours, in the order given or its reverse: a discard costs a system
 * call, and less per byte the larger it is. Returns how many ranges are left.
 */
static uint32_t join(struct virtio_hballoon_range *r, uint32_t nr)
{
    uint32_t last = 0, i;

    for (i = 1; i < nr; i++) {
        if (r[last].addr + r[last].len == r[i].addr) {
            r[last].len += r[i].len;
        } else if (r[i].addr + r[i].len == r[last].addr) {
            r[last].addr = r[i].addr;
            r[last].len += r[i].len;
        } else {
            r[++last] = r[i];
        }
    }
    return last + 1;
}

/* Discard ranges that are marked as held. On failure none is held. */
static uint32_t inflate(VirtIOHBalloon *hb, VirtIOHBalloonNode *n,
                        struct virtio_hballoon_range *r, uint32_t nr)
{
    MemoryRegionSection s;
    uint32_t i;

    nr = join(r, nr);
    for (i = 0; i < nr; i++) {
        if (discard_memory(n, r[i].addr, r[i].len)) {
            unmark_all(n, r, nr, true);
            return VIRTIO_HBALLOON_RESP_FAILED;
        }
    }
    for (i = 0; i < nr; i++) {
        s = node_section(n, r[i].addr, r[i].len);
        notify_discard(hb, &s);
    }
    return VIRTIO_HBALLOON_RESP_OK;
}

/* Announce ranges that are no longer held. On failure all are held. */
static uint32_t deflate(VirtIOHBalloon *hb, VirtIOHBalloonNode *n,
                        struct virtio_hballoon_range *r, uint32_t nr)
{
    MemoryRegionSection s;
    uint32_t i;

    nr = join(r, nr);
    for (i = 0; i < nr; i++) {
        s = node_section(n, r[i].addr, r[i].len);
        if (notify_populate(hb, &s)) {
            while (i-- > 0) {
                s = node_section(n, r[i].addr, r[i].len);
                notify_discard(hb, &s);
                discard_memory(n, r[i].addr, r[i].len);
            }
            unmark_all(n, r, nr, false);
            return VIRTIO_HBALLOON_RESP_FAILED;
        }
    }
    return VIRTIO_HBALLOON_RESP_OK;
}

/*
 * Execute a request whose @nr ranges are resolved. Returns what to answer, or
 * -1 if the request breaks the protocol, with nothing done.
 */
static int execute(VirtIOHBalloon *hb, VirtIOHBalloonNode *n, uint16_t type,
                   bool oom, uint32_t nr)
{
    struct virtio_hballoon_range *r = hb->range;
    bool held = type != VIRTIO_HBALLOON_REQ_DEFLATE;
    uint32_t nr_give = type == VIRTIO_HBALLOON_REQ_EXCHANGE ? 1 : nr;
    uint32_t status;

    if (type == VIRTIO_HBALLOON_REQ_EXCHANGE &&
        (r[0].len != r[1].len || !all_held(n, r + 1, true))) {
        return -1;
    }
    if (!mark_all(n, r, nr_give, held)) {
        return -1;
    }
    if (type == VIRTIO_HBALLOON_REQ_EXCHANGE) {
        mark(n, r + 1, false);
    }

    if (virtio_hballoon_busy()) {
        status = VIRTIO_HBALLOON_RESP_BUSY;
    } else if ((type == VIRTIO_HBALLOON_REQ_INFLATE &&
                virtio_hballoon_actual(n) < n->target) ||
               (type == VIRTIO_HBALLOON_REQ_DEFLATE && !oom &&
                virtio_hballoon_actual(n) > n->target)) {
        status = VIRTIO_HBALLOON_RESP_REFUSED;
    } else if (type == VIRTIO_HBALLOON_REQ_INFLATE) {
        return inflate(hb, n, r, nr);
    } else if (type == VIRTIO_HBALLOON_REQ_DEFLATE) {
        return deflate(hb, n, r, nr);
    } else {
        status = inflate(hb, n, r, 1);
        if (status != VIRTIO_HBALLOON_RESP_OK) {
            mark(n, r + 1, true);
            return status;
        }
        return deflate(hb, n, r + 1, 1);
    }

    if (type == VIRTIO_HBALLOON_REQ_EXCHANGE) {
        mark(n, r + 1, true);
    }
    unmark_all(n, r, nr_give, held);
    return status;
}

/* Execute one element. False if it breaks the protocol, and the device. */
static bool handle_request(VirtIOHBalloon *hb, VirtQueueElement *elem)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(hb);
    struct virtio_hballoon_range *r = hb->range;
    struct virtio_hballoon_req req;
    struct virtio_hballoon_resp resp = {};
    VirtIOHBalloonNode *n;
    uint16_t type, flags;
    uint32_t node, nr, i;
    uint64_t bytes = 0;
    size_t size;
    int status;

    if (iov_to_buf(elem->out_sg, elem->out_num, 0, &req, sizeof(req)) !=
        sizeof(req)) {
        virtio_error(vdev, "hballoon: request shorter than its head");
        return false;
    }
    type = le16_to_cpu(req.type);
    flags = le16_to_cpu(req.flags);
    node = le32_to_cpu(req.node);
    nr = le32_to_cpu(req.nr_ranges);
    size = (size_t)nr * sizeof(*r);
    if (type < VIRTIO_HBALLOON_REQ_INFLATE ||
        type > VIRTIO_HBALLOON_REQ_EXCHANGE || node >= hb->nr_nodes || !nr ||
        nr > VIRTIO_HBALLOON_MAX_RANGES ||
        (type == VIRTIO_HBALLOON_REQ_EXCHANGE && nr != 2) ||
        (flags && (flags != VIRTIO_HBALLOON_REQ_FLAG_OOM ||
                   type != VIRTIO_HBALLOON_REQ_DEFLATE ||
                   !virtio_vdev_has_feature(vdev,
                                    VIRTIO_HBALLOON_F_DEFLATE_ON_OOM)))) {
        virtio_error(vdev, "hballoon: bad request: type %u flags 0x%x node %u"
                     " ranges %u", type, flags, node, nr);
        return false;
    }
    if (iov_size(elem->out_sg, elem->out_num) != sizeof(req) + size ||
        iov_size(elem->in_sg, elem->in_num) < sizeof(resp)) {
        virtio_error(vdev, "hballoon: bad size of a request of %u ranges", nr);
        return false;
    }

    n = &hb->node[node];
    iov_to_buf(elem->out_sg, elem->out_num, sizeof(req), r, size);
    for (i = 0; i < nr; i++) {
        struct virtio_hballoon_range guest = r[i];

        if (!resolve(n, &r[i])) {
            virtio_error(vdev, "hballoon: 0x%" PRIx64 "+0x%" PRIx64
                         " is no memory of node %u", le64_to_cpu(guest.addr),
                         le64_to_cpu(guest.len), n->id);
            return false;
        }
        bytes += r[i].len;
    }
    trace_virtio_hballoon_request(type, n->id, nr, bytes);
    status = execute(hb, n, type, flags & VIRTIO_HBALLOON_REQ_FLAG_OOM, nr);
    if (status < 0) {
        virtio_error(vdev, "hballoon: request of type %u for memory of node %u"
                     " that is in that state already, or named twice", type,
                     n->id);
        return false;
    }
    trace_virtio_hballoon_response(n->id, status, virtio_hballoon_actual(n));
    if (status == VIRTIO_HBALLOON_RESP_OK &&
        type != VIRTIO_HBALLOON_REQ_EXCHANGE) {
        send_changed(hb);
    }
    resp.status = cpu_to_le32(status);
    resp.actual = cpu_to_le64(virtio_hballoon_actual(n));
    iov_from_buf(elem->in_sg, elem->in_num, 0, &resp, sizeof(resp));
    return true;
}

static void handle_request_vq(VirtIODevice *vdev, VirtQueue *vq)
{
    VirtIOHBalloon *hb = VIRTIO_HBALLOON(vdev);
    VirtQueueElement *elem;

    while ((elem = virtqueue_pop(vq, sizeof(*elem)))) {
        if (!handle_request(hb, elem)) {
            virtqueue_detach_element(vq, elem, 0);
            g_free(elem);
            return;
        }
        virtqueue_push(vq, elem, sizeof(struct virtio_hballoon_resp));
        virtio_notify(vdev, vq);
        g_free(elem);
    }
}

/*
 * Status
 */

static void send_done(VirtIOHBalloon *hb, const VirtIOHBalloonNode *n)
{
    g_autofree char *path = virtio_hballoon_path(hb);

    trace_virtio_hballoon_done(n->id, n->done_generation, n->done_actual,
                               n->done_reason);
    qapi_event_send_hballoon_done(virtio_hballoon_id(hb), path, n->id,
                                  n->done_generation, n->target,
                                  n->done_actual, n->done_reason);
}

/*
 * The driver has ended its work on a generation. An event follows the first
 * time, and once more if it fell short then and has reached the target now:
 * so the guest cannot flood the host with events.
 */
static bool handle_done(VirtIOHBalloon *hb, VirtIOHBalloonNode *n,
                        uint64_t generation, uint16_t reason)
{
    bool reached = reason == VIRTIO_HBALLOON_REASON_REACHED;

    if (reason >= VIRTIO_HBALLOON_NR_REASONS || generation > n->generation ||
        (reached && generation == n->generation &&
         virtio_hballoon_actual(n) != n->target)) {
        virtio_error(VIRTIO_DEVICE(hb), "hballoon: bad completion of node %u:"
                     " generation %" PRIu64 " reason %u", n->id, generation,
                     reason);
        return false;
    }
    if (n->has_done && (generation < n->done_generation ||
                        (generation == n->done_generation &&
                         (!reached || reason == n->done_reason)))) {
        return true;
    }
    n->has_done = true;
    n->done_generation = generation;
    n->done_actual = virtio_hballoon_actual(n);
    n->done_reason = reason;
    send_done(hb, n);
    return true;
}

static bool handle_status(VirtIOHBalloon *hb, VirtQueueElement *elem)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(hb);
    struct virtio_hballoon_status s;
    VirtIOHBalloonNode *n;
    uint16_t type;
    uint32_t node, i;

    if (iov_to_buf(elem->out_sg, elem->out_num, 0, &s, sizeof(s)) !=
        sizeof(s)) {
        virtio_error(vdev, "hballoon: status too short");
        return false;
    }
    type = le16_to_cpu(s.type);
    node = le32_to_cpu(s.node);
    if ((type != VIRTIO_HBALLOON_STATUS_DONE &&
         type != VIRTIO_HBALLOON_STATUS_STATS) || node >= hb->nr_nodes) {
        virtio_error(vdev, "hballoon: bad status: type %u node %u", type,
                     node);
        return false;
    }
    n = &hb->node[node];
    if (virtio_vdev_has_feature(vdev, VIRTIO_HBALLOON_F_STATS)) {
        n->has_stats = true;
        n->stats_ms = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
        for (i = 0; i < VIRTIO_HBALLOON_NR_STATS; i++) {
            n->stat[i] = le64_to_cpu(s.stat[i]);
        }
    }
    return type == VIRTIO_HBALLOON_STATUS_STATS ||
           handle_done(hb, n, le64_to_cpu(s.generation),
                       le16_to_cpu(s.reason));
}

static void handle_status_vq(VirtIODevice *vdev, VirtQueue *vq)
{
    VirtIOHBalloon *hb = VIRTIO_HBALLOON(vdev);
    VirtQueueElement *elem;

    while ((elem = virtqueue_pop(vq, sizeof(*elem)))) {
        if (!handle_status(hb, elem)) {
            virtqueue_detach_element(vq, elem, 0);
            g_free(elem);
            return;
        }
        virtqueue_push(vq, elem, 0);
        virtio_notify(vdev, vq);
        g_free(elem);
    }
}

/*
 * Reporting: memory that the guest does not use, but still owns
 */

static void discard_reported(VirtIOHBalloon *hb, void *addr, uint64_t len)
{
    struct virtio_hballoon_range r = { .len = len };
    ram_addr_t offset;
    RAMBlock *rb = qemu_ram_block_from_host(addr, false, &offset);
    uint32_t i;

    for (i = 0; rb && i < hb->nr_nodes; i++) {
        VirtIOHBalloonNode *n = &hb->node[i];

        r.addr = offset;
        if (n->mr->ram_block == rb && QEMU_IS_ALIGNED(offset | len, PAGE) &&
            offset + len <= n->size && all_held(n, &r, false)) {
            discard_memory(n, offset, len);
        }
    }
}

static void handle_reporting_vq(VirtIODevice *vdev, VirtQueue *vq)
{
    VirtIOHBalloon *hb = VIRTIO_HBALLOON(vdev);
    VirtQueueElement *elem;
    unsigned i;

    while ((elem = virtqueue_pop(vq, sizeof(*elem)))) {
        /* Memory that is in use by a passed-through device stays. */
        if (!virtio_hballoon_busy() && !ram_block_discard_is_disabled()) {
            for (i = 0; i < elem->in_num; i++) {
                discard_reported(hb, elem->in_sg[i].iov_base,
                                 elem->in_sg[i].iov_len);
            }
        }
        virtqueue_push(vq, elem, 0);
        virtio_notify(vdev, vq);
        g_free(elem);
    }
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

static uint64_t get_features(VirtIODevice *vdev, uint64_t features,
                             Error **errp)
{
    VirtIOHBalloon *hb = VIRTIO_HBALLOON(vdev);

    virtio_add_feature(&features, VIRTIO_HBALLOON_F_STATS);
    if (MACHINE(qdev_get_machine())->numa_state &&
        MACHINE(qdev_get_machine())->numa_state->num_nodes) {
        virtio_add_feature(&features, VIRTIO_HBALLOON_F_ACPI_PXM);
    }
    if (hb->reporting) {
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

    for (i = 0; i < hb->nr_nodes; i++) {
        VirtIOHBalloonNode *n = &hb->node[i];
        MemoryRegionSection all = node_section(n, 0, n->size);

        n->has_stats = false;
        if (!n->held) {
            continue;
        }
        if (for_each_run(n, &all, true, populate_cb, hb)) {
            warn_report("hballoon: not all memory of node %u could be mapped"
                        " again for devices", n->id);
        }
        bitmap_zero(n->bitmap, n->nr_pages);
        n->held = 0;
        changed = true;
    }
    if (changed) {
        send_changed(hb);
    }
}

int64_t virtio_hballoon_retaken(const VirtIOHBalloonNode *n)
{
    const unsigned long chunk = 64 * MiB / PAGE;
    g_autofree unsigned char *resident = g_malloc(chunk);
    char *host = memory_region_get_ram_ptr(n->mr);
    unsigned long start = 0, stop, i;
    int64_t bytes = 0;

    for (;;) {
        start = find_next_bit(n->bitmap, n->nr_pages, start);
        if (start >= n->nr_pages) {
            return bytes;
        }
        stop = find_next_zero_bit(n->bitmap,
                                  MIN(start + chunk, n->nr_pages), start);
        if (mincore(host + start * PAGE, (stop - start) * PAGE,
                    (void *)resident)) {
            return -errno;
        }
        for (i = 0; i < stop - start; i++) {
            bytes += resident[i] & 1 ? PAGE : 0;
        }
        start = stop;
    }
}

/*
 * Migration
 */

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
    n->held = (uint64_t)slow_bitmap_count_one(n->bitmap, n->nr_pages) * PAGE;
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
        VMSTATE_BITMAP(bitmap, VirtIOHBalloonNode, 1, nr_pages),
        VMSTATE_END_OF_LIST()
    },
};

static int forget_cb(MemoryRegionSection *s, void *opaque)
{
    return ram_block_discard_range(s->mr->ram_block, s->offset_within_region,
                                   int128_get64(s->size));
}

static int device_post_load(void *opaque, int version_id)
{
    VirtIOHBalloon *hb = opaque;
    uint32_t i;

    for (i = 0; i < hb->nr_nodes; i++) {
        VirtIOHBalloonNode *n = &hb->node[i];
        MemoryRegionSection all = node_section(n, 0, n->size);

        if (n->generation > hb->generation) {
            error_report("hballoon: node %u is ahead of its device", n->id);
            return -EINVAL;
        }
        /* A snapshot that is loaded finds the memory of what ran before. */
        if (!migration_in_incoming_postcopy()) {
            for_each_run(n, &all, true, forget_cb, NULL);
        }
        for_each_run(n, &all, true, discard_cb, hb);
    }
    return 0;
}

static const VMStateDescription vmstate_device = {
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

static const VMStateDescription vmstate_virtio_hballoon = {
    .name = "virtio-hballoon",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_VIRTIO_DEVICE,
        VMSTATE_END_OF_LIST()
    },
};

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
    n->nr_pages = n->size / PAGE;
    n->bitmap = bitmap_try_new(n->nr_pages);
    if (!n->bitmap) {
        error_setg(errp, "no memory for a bitmap of %d pages", n->nr_pages);
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

static bool parse_properties(VirtIOHBalloon *hb, Error **errp)
{
    uint32_t i;

    if (hb->floors &&
        !parse_sizes(hb, "floors", hb->floors,
                     offsetof(VirtIOHBalloonNode, floor), errp)) {
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
        g_free(hb->node[i].bitmap);
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

    QLIST_INIT(&hb->listeners);
    set_managers(hb, RAM_DISCARD_MANAGER(hb));
    virtio_init(vdev, VIRTIO_ID_HBALLOON,
                sizeof(struct virtio_hballoon_config) +
                hb->nr_nodes * sizeof(struct virtio_hballoon_node));
    hb->request_vq = virtio_add_queue(vdev, REQUEST_QUEUE_SIZE,
                                      handle_request_vq);
    hb->status_vq = virtio_add_queue(vdev, STATUS_QUEUE_SIZE,
                                     handle_status_vq);
    if (hb->reporting) {
        hb->reporting_vq = virtio_add_queue(vdev, REPORTING_QUEUE_SIZE,
                                            handle_reporting_vq);
    }
    if (hb->stats_interval_ms) {
        hb->stats_timer = timer_new_ms(QEMU_CLOCK_VIRTUAL, ask_for_stats, hb);
        timer_mod(hb->stats_timer, qemu_clock_get_ms(QEMU_CLOCK_VIRTUAL) +
                  hb->stats_interval_ms);
    }
    QLIST_INSERT_HEAD(&devices, hb, next);
}

static void unrealize(DeviceState *dev)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(dev);
    VirtIOHBalloon *hb = VIRTIO_HBALLOON(dev);

    QLIST_REMOVE(hb, next);
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
    free_nodes(hb);
}

/*
 * RamDiscardManager
 */

static uint64_t rdm_get_min_granularity(const RamDiscardManager *rdm,
                                        const MemoryRegion *mr)
{
    return PAGE;
}

static bool rdm_is_populated(const RamDiscardManager *rdm,
                             const MemoryRegionSection *s)
{
    const VirtIOHBalloonNode *n = node_of(VIRTIO_HBALLOON(rdm), s->mr);
    struct virtio_hballoon_range r = {
        .addr = QEMU_ALIGN_DOWN(s->offset_within_region, PAGE),
    };

    r.len = ROUND_UP(s->offset_within_region + int128_get64(s->size), PAGE) -
            r.addr;
    return r.addr + r.len <= n->size && all_held(n, &r, false);
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

static int rdm_replay_populated(const RamDiscardManager *rdm,
                                MemoryRegionSection *s, ReplayRamPopulate fn,
                                void *opaque)
{
    Replay replay = { .populate = fn, .opaque = opaque };

    return for_each_run(node_of(VIRTIO_HBALLOON(rdm), s->mr), s, false,
                        replay_populate_cb, &replay);
}

static void rdm_replay_discarded(const RamDiscardManager *rdm,
                                 MemoryRegionSection *s, ReplayRamDiscard fn,
                                 void *opaque)
{
    Replay replay = { .discard = fn, .opaque = opaque };

    for_each_run(node_of(VIRTIO_HBALLOON(rdm), s->mr), s, true,
                 replay_discard_cb, &replay);
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

static void rdm_register_listener(RamDiscardManager *rdm,
                                  RamDiscardListener *rdl,
                                  MemoryRegionSection *s)
{
    VirtIOHBalloon *hb = VIRTIO_HBALLOON(rdm);

    rdl->section = memory_region_section_new_copy(s);
    QLIST_INSERT_HEAD(&hb->listeners, rdl, next);
    if (for_each_run(node_of(hb, s->mr), rdl->section, false,
                     listener_populate_cb, rdl)) {
        error_report("hballoon: memory of %s could not be mapped for a device",
                     memory_region_name(s->mr));
    }
}

static void rdm_unregister_listener(RamDiscardManager *rdm,
                                    RamDiscardListener *rdl)
{
    VirtIOHBalloon *hb = VIRTIO_HBALLOON(rdm);

    for_each_run(node_of(hb, rdl->section->mr), rdl->section, false,
                 listener_discard_cb, rdl);
    QLIST_REMOVE(rdl, next);
    memory_region_section_free_copy(rdl->section);
    rdl->section = NULL;
}

static const Property properties[] = {
    DEFINE_PROP_STRING("floors", VirtIOHBalloon, floors),
    DEFINE_PROP_STRING("initial", VirtIOHBalloon, initial),
    DEFINE_PROP_UINT32("stats-interval-ms", VirtIOHBalloon, stats_interval_ms,
                       0),
    DEFINE_PROP_BOOL("deflate-on-oom", VirtIOHBalloon, deflate_on_oom, false),
    DEFINE_PROP_BOOL("reporting", VirtIOHBalloon, reporting, false),
};

static void class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    VirtioDeviceClass *vdc = VIRTIO_DEVICE_CLASS(klass);
    RamDiscardManagerClass *rdmc = RAM_DISCARD_MANAGER_CLASS(klass);

    device_class_set_props(dc, properties);
    dc->vmsd = &vmstate_virtio_hballoon;
    /* See set_managers(). */
    dc->hotpluggable = false;
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);

    vdc->realize = realize;
    vdc->unrealize = unrealize;
    vdc->reset = reset;
    vdc->get_config = get_config;
    vdc->get_features = get_features;
    vdc->vmsd = &vmstate_device;

    rdmc->get_min_granularity = rdm_get_min_granularity;
    rdmc->is_populated = rdm_is_populated;
    rdmc->replay_populated = rdm_replay_populated;
    rdmc->replay_discarded = rdm_replay_discarded;
    rdmc->register_listener = rdm_register_listener;
    rdmc->unregister_listener = rdm_unregister_listener;
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
