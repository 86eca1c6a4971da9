/*
 * HBalloon: what the driver sends
 *
 * This work is licensed under the terms of the GNU GPL, version 2 or later.
 * See the COPYING file in the top-level directory.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/iov.h"
#include "qemu/timer.h"
#include "exec/address-spaces.h"
#include "exec/cpu-common.h"
#include "qapi/qapi-events-hballoon.h"
#include "virtio-hballoon-internal.h"
#include "trace.h"

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

static void mark_all(VirtIOHBalloonNode *n,
                     const struct virtio_hballoon_range *r, uint32_t nr,
                     bool held)
{
    while (nr-- > 0) {
        hballoon_pages_mark(&n->pages, &r[nr], held);
    }
}

/*
 * Ranges of which nothing is held become held. On failure, or if the request
 * was dropped meanwhile, nothing is held: as it may take long to discard them,
 * that is done before, without the big lock.
 */
static uint32_t inflate(VirtIOHBalloon *hb, VirtIOHBalloonNode *n,
                        struct virtio_hballoon_range *r, uint32_t nr)
{
    uint32_t i;

    nr = hballoon_ranges_join(r, nr);
    if (QLIST_EMPTY(&hb->listeners) &&
        virtio_hballoon_discard_unlocked(hb, n, r, nr)) {
        return VIRTIO_HBALLOON_RESP_FAILED;
    }
    for (i = 0; i < nr; i++) {
        if (virtio_hballoon_hold(hb, n, &r[i])) {
            while (i-- > 0) {
                virtio_hballoon_give_back(hb, n, &r[i]);
            }
            return VIRTIO_HBALLOON_RESP_FAILED;
        }
    }
    return VIRTIO_HBALLOON_RESP_OK;
}

/*
 * Ranges cease to be held. On failure all are held, unless the request was
 * dropped meanwhile.
 */
static uint32_t deflate(VirtIOHBalloon *hb, VirtIOHBalloonNode *n,
                        struct virtio_hballoon_range *r, uint32_t nr)
{
    uint32_t i;

    nr = hballoon_ranges_join(r, nr);
    if (hb->prealloc && virtio_hballoon_populate_unlocked(hb, n, r, nr)) {
        return VIRTIO_HBALLOON_RESP_FAILED;
    }
    for (i = 0; i < nr; i++) {
        if (virtio_hballoon_release(hb, n, &r[i])) {
            while (i-- > 0) {
                hballoon_pages_mark(&n->pages, &r[i], true);
                virtio_hballoon_discard_held(hb, n, &r[i]);
            }
            return VIRTIO_HBALLOON_RESP_FAILED;
        }
    }
    return VIRTIO_HBALLOON_RESP_OK;
}

/* The first range becomes held, the second ceases to be. */
static uint32_t exchange(VirtIOHBalloon *hb, VirtIOHBalloonNode *n,
                         struct virtio_hballoon_range *r)
{
    if (inflate(hb, n, r, 1) != VIRTIO_HBALLOON_RESP_OK) {
        return VIRTIO_HBALLOON_RESP_FAILED;
    }
    if (deflate(hb, n, r + 1, 1) != VIRTIO_HBALLOON_RESP_OK) {
        if (hb->elem) {
            virtio_hballoon_give_back(hb, n, r);
        }
        return VIRTIO_HBALLOON_RESP_FAILED;
    }
    return VIRTIO_HBALLOON_RESP_OK;
}

/* May the ranges become held, or cease to be: each page, and only once? */
static bool may_mark(VirtIOHBalloonNode *n,
                     const struct virtio_hballoon_range *r, uint32_t nr,
                     bool held)
{
    if (!hballoon_pages_mark_all(&n->pages, r, nr, held)) {
        return false;
    }
    mark_all(n, r, nr, !held);
    return true;
}

/*
 * Execute a request for @bytes whose @nr ranges are resolved. Returns what to
 * answer, or -1 if the request breaks the protocol, with nothing done.
 */
static int execute(VirtIOHBalloon *hb, VirtIOHBalloonNode *n, uint16_t type,
                   bool oom, uint32_t nr, uint64_t bytes)
{
    struct virtio_hballoon_range *r = hb->range;
    uint64_t actual = virtio_hballoon_actual(n);

    if (type == VIRTIO_HBALLOON_REQ_EXCHANGE) {
        if (r[0].len != r[1].len || !may_mark(n, r, 1, true) ||
            !may_mark(n, r + 1, 1, false)) {
            return -1;
        }
    } else if (!may_mark(n, r, nr, type == VIRTIO_HBALLOON_REQ_INFLATE)) {
        return -1;
    }

    if (virtio_hballoon_busy()) {
        return VIRTIO_HBALLOON_RESP_BUSY;
    }
    switch (type) {
    case VIRTIO_HBALLOON_REQ_INFLATE:
        return actual < n->target + bytes ? VIRTIO_HBALLOON_RESP_REFUSED
                                          : inflate(hb, n, r, nr);
    case VIRTIO_HBALLOON_REQ_DEFLATE:
        return actual + bytes > n->target && !oom
               ? VIRTIO_HBALLOON_RESP_REFUSED : deflate(hb, n, r, nr);
    default:
        return exchange(hb, n, r);
    }
}

/*
 * Execute one element, unless it is dropped meanwhile. False if it breaks the
 * protocol, and the device.
 */
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
    status = execute(hb, n, type, flags & VIRTIO_HBALLOON_REQ_FLAG_OOM, nr,
                     bytes);
    if (!hb->elem) {
        return true;
    }
    if (status < 0) {
        virtio_error(vdev, "hballoon: request of type %u for memory of node %u"
                     " that is in that state already, or named twice", type,
                     n->id);
        return false;
    }
    trace_virtio_hballoon_response(n->id, status, virtio_hballoon_actual(n));
    if (status == VIRTIO_HBALLOON_RESP_OK &&
        type != VIRTIO_HBALLOON_REQ_EXCHANGE) {
        virtio_hballoon_send_changed(hb);
    }
    resp.status = cpu_to_le32(status);
    resp.actual = cpu_to_le64(virtio_hballoon_actual(n));
    iov_from_buf(elem->in_sg, elem->in_num, 0, &resp, sizeof(resp));
    return true;
}

/*
 * The next element of a queue whose elements are executed in part without the
 * big lock; NULL if there is none. It is @hb->elem until it has been answered,
 * or dropped: by a reset, or because a processor has unplugged the device, of
 * which only the memory of @hb is left then.
 */
static VirtQueueElement *pop(VirtIOHBalloon *hb, VirtQueue *vq)
{
    hb->elem = virtqueue_pop(vq, sizeof(*hb->elem));
    hb->elem_vq = vq;
    qatomic_set(&hb->dropped, false);
    return hb->elem;
}

/* The element has been executed. False if it was dropped, and the queue with it. */
static bool finish(VirtIOHBalloon *hb, VirtQueueElement *elem, bool ok,
                   unsigned len)
{
    bool there = hb->elem;

    if (there && ok) {
        virtqueue_push(hb->elem_vq, elem, len);
        virtio_notify(VIRTIO_DEVICE(hb), hb->elem_vq);
    } else if (there) {
        virtqueue_detach_element(hb->elem_vq, elem, 0);
    }
    hb->elem = NULL;
    g_free(elem);
    return there && ok;
}

void virtio_hballoon_drop_element(VirtIOHBalloon *hb)
{
    if (!hb->elem) {
        return;
    }
    /* Then the guest may use the memory. */
    virtio_hballoon_stop_discarding(hb);
    virtqueue_detach_element(hb->elem_vq, hb->elem, 0);
    hb->elem = NULL;
}

void virtio_hballoon_handle_request(VirtIODevice *vdev, VirtQueue *vq)
{
    VirtIOHBalloon *hb = VIRTIO_HBALLOON(vdev);
    VirtQueueElement *elem;

    /* A processor that stops the device gets here, too: one at a time. */
    if (hb->elem) {
        return;
    }
    object_ref(OBJECT(hb));
    do {
        elem = pop(hb, vq);
    } while (elem && finish(hb, elem, handle_request(hb, elem),
                            sizeof(struct virtio_hballoon_resp)));
    object_unref(OBJECT(hb));
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
    VirtIODevice *vdev = VIRTIO_DEVICE(hb);
    bool reached = reason == VIRTIO_HBALLOON_REASON_REACHED;
    bool untrue = reached && generation == n->generation &&
                  virtio_hballoon_actual(n) != n->target;

    /* A request to relieve the guest may have overtaken the message. */
    if (untrue && virtio_vdev_has_feature(vdev,
                                          VIRTIO_HBALLOON_F_DEFLATE_ON_OOM)) {
        return true;
    }
    if (reason >= VIRTIO_HBALLOON_NR_REASONS || generation > n->generation ||
        untrue) {
        virtio_error(vdev, "hballoon: bad completion of node %u:"
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

void virtio_hballoon_handle_status(VirtIODevice *vdev, VirtQueue *vq)
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

/* The part of a node's memory that lies at @addr here: wanted, and not held. */
static VirtIOHBalloonNode *find_reported(VirtIOHBalloon *hb, void *addr,
                                         struct virtio_hballoon_range *r)
{
    ram_addr_t offset;
    RAMBlock *rb = qemu_ram_block_from_host(addr, false, &offset);
    uint32_t i;

    r->addr = offset;
    for (i = 0; rb && i < hb->nr_nodes; i++) {
        VirtIOHBalloonNode *n = &hb->node[i];

        if (n->reporting && n->mr->ram_block == rb &&
            QEMU_IS_ALIGNED(offset | r->len, PAGE) &&
            offset + r->len <= n->size &&
            hballoon_pages_all(&n->pages, offset, r->len, false)) {
            return n;
        }
    }
    return NULL;
}

void virtio_hballoon_handle_reporting(VirtIODevice *vdev, VirtQueue *vq)
{
    VirtIOHBalloon *hb = VIRTIO_HBALLOON(vdev);
    VirtQueueElement *elem;
    unsigned i;

    if (hb->elem) {
        return;
    }
    object_ref(OBJECT(hb));
    do {
        elem = pop(hb, vq);
        for (i = 0; hb->elem && i < elem->in_num; i++) {
            struct virtio_hballoon_range r = { .len = elem->in_sg[i].iov_len };
            VirtIOHBalloonNode *n = find_reported(hb, elem->in_sg[i].iov_base,
                                                  &r);

            /* Memory that is in use by a passed-through device stays. */
            if (n && !virtio_hballoon_busy() &&
                !ram_block_discard_is_disabled()) {
                virtio_hballoon_discard_unlocked(hb, n, &r, 1);
            }
        }
    } while (elem && finish(hb, elem, true, 0));
    object_unref(OBJECT(hb));
}
