/*
 * QTest of HBalloon: a driver for tests
 *
 * This work is licensed under the terms of the GNU GPL, version 2 or later.
 * See the COPYING file in the top-level directory.
 */

#include "qemu/osdep.h"
#include "qobject/qlist.h"
#include "standard-headers/linux/virtio_config.h"
#include "virtio-hballoon-test.h"

Message message(uint16_t type, uint32_t node, uint64_t addr,
                uint64_t len)
{
    return (Message) {
        .type = type, .node = node, .nr_ranges = 1, .nr_sent = 1,
        .range = { { addr, len } },
        .in_size = sizeof(struct virtio_hballoon_resp),
    };
}

/* As a driver does after it was bound. */
void start_driver(Test *t)
{
    uint64_t features;

    qvirtio_start_device(t->dev);
    features = qvirtio_get_features(t->dev);
    features &= ~(QVIRTIO_F_BAD_FEATURE | (1ull << VIRTIO_RING_F_INDIRECT_DESC)
                  | (1ull << VIRTIO_RING_F_EVENT_IDX));
    qvirtio_set_features(t->dev, features);
    t->request = qvirtqueue_setup(t->dev, &t->qs->alloc, 0);
    t->status = qvirtqueue_setup(t->dev, &t->qs->alloc, 1);
    t->reporting = NULL;
    if (features & (1ull << VIRTIO_HBALLOON_F_REPORTING)) {
        t->reporting = qvirtqueue_setup(t->dev, &t->qs->alloc, 2);
    }
    qvirtio_set_driver_ok(t->dev);
}

void stop_driver(Test *t)
{
    qvirtqueue_cleanup(t->dev->bus, t->request, &t->qs->alloc);
    qvirtqueue_cleanup(t->dev->bus, t->status, &t->qs->alloc);
    if (t->reporting) {
        qvirtqueue_cleanup(t->dev->bus, t->reporting, &t->qs->alloc);
    }
}

/* What a broken device wants. */
void restart_driver(Test *t)
{
    qvirtio_reset(t->dev);
    stop_driver(t);
    start_driver(t);
}

void setup_machine(Test *t, const char *properties, unsigned size0,
                   const char *before, const char *after)
{
    QPCIAddress addr = { .devfn = QPCI_DEVFN(4, 0) };

    t->qs = qtest_pc_boot("-nodefaults -machine q35 -m %uM"
        " -object memory-backend-ram,id=m0,size=%uM"
        " -object memory-backend-ram,id=m1,size=64M"
        " -numa node,memdev=m0 -numa node,memdev=m1 %s"
        /* Without an eventfd a kick has been handled when it returns. */
        " -device virtio-hballoon-pci,id=hb0,addr=04.0,ioeventfd=off,"
        "floors=32M%s %s", size0 + 64, size0, before, properties, after);
    t->qts = t->qs->qts;
    t->pci = virtio_pci_new(t->qs->pcibus, &addr);
    g_assert_nonnull(t->pci);
    qvirtio_pci_device_enable(t->pci);
    t->dev = &t->pci->vdev;
    start_driver(t);
}

void setup(Test *t, const char *properties)
{
    setup_machine(t, properties, SIZE0 / MiB, "", "");
}

void teardown(Test *t)
{
    stop_driver(t);
    qvirtio_pci_device_disable(t->pci);
    qos_object_destroy((QOSGraphObject *)t->pci);
    qtest_shutdown(t->qs);
}

bool broken(Test *t)
{
    return t->dev->bus->get_status(t->dev) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

/* Send a message; the answer's status, or -1 if the device is broken. */
int submit(Test *t, const Message *m)
{
    struct virtio_hballoon_req req = {
        .type = cpu_to_le16(m->type),
        .flags = cpu_to_le16(m->flags),
        .node = cpu_to_le32(m->node),
        .nr_ranges = cpu_to_le32(m->nr_ranges),
    };
    struct virtio_hballoon_range r;
    struct virtio_hballoon_resp resp = { .status = 0xdead };
    size_t size = sizeof(req) + m->nr_sent * sizeof(r);
    uint64_t out = guest_alloc(&t->qs->alloc, size);
    uint64_t in = guest_alloc(&t->qs->alloc, sizeof(resp));
    uint32_t head, i;
    int ret = -1;

    qtest_memwrite(t->qts, out, &req, sizeof(req));
    for (i = 0; i < m->nr_sent; i++) {
        r.addr = cpu_to_le64(m->range[i % ARRAY_SIZE(m->range)].addr);
        r.len = cpu_to_le64(m->range[i % ARRAY_SIZE(m->range)].len);
        qtest_memwrite(t->qts, out + sizeof(req) + i * sizeof(r), &r,
                       sizeof(r));
    }
    head = qvirtqueue_add(t->qts, t->request, out, size, false, m->in_size);
    if (m->in_size) {
        qvirtqueue_add(t->qts, t->request, in, m->in_size, true, false);
    }
    qvirtqueue_kick(t->qts, t->dev, t->request, head);
    if (!broken(t)) {
        qvirtio_wait_used_elem(t->qts, t->dev, t->request, head, NULL,
                               TIMEOUT_US);
        qtest_memread(t->qts, in, &resp, sizeof(resp));
        ret = le32_to_cpu(resp.status);
    }
    guest_free(&t->qs->alloc, out);
    guest_free(&t->qs->alloc, in);
    return ret;
}

void send_status(Test *t, uint16_t type, uint32_t node,
                 uint64_t generation, uint16_t reason, size_t size)
{
    struct virtio_hballoon_status s = {
        .type = cpu_to_le16(type),
        .reason = cpu_to_le16(reason),
        .node = cpu_to_le32(node),
        .generation = cpu_to_le64(generation),
        .stat = { [VIRTIO_HBALLOON_S_FREE] = cpu_to_le64(4711) },
    };
    uint64_t out = guest_alloc(&t->qs->alloc, sizeof(s));
    uint32_t head;

    qtest_memwrite(t->qts, out, &s, sizeof(s));
    head = qvirtqueue_add(t->qts, t->status, out, size, false, false);
    qvirtqueue_kick(t->qts, t->dev, t->status, head);
    guest_free(&t->qs->alloc, out);
}

/* What query-hballoon says of a node, to be unreferenced. */
QDict *query_node(Test *t, int node)
{
    QDict *resp = qtest_qmp(t->qts, "{ 'execute': 'query-hballoon' }");
    QDict *info = qobject_to(QDict, qlist_peek(qdict_get_qlist(resp,
                                                               "return")));
    const QListEntry *e = qlist_first(qdict_get_qlist(info, "nodes"));
    QDict *n;

    while (node--) {
        e = qlist_next(e);
    }
    n = qobject_to(QDict, qlist_entry_obj(e));
    qobject_ref(n);
    qobject_unref(resp);
    return n;
}

uint64_t query(Test *t, int node, const char *member)
{
    QDict *n = query_node(t, node);
    uint64_t value = qdict_get_int(n, member);

    qobject_unref(n);
    return value;
}

void set_target(Test *t, int node, uint64_t size)
{
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'hballoon-set',"
                             " 'arguments': { 'id': 'hb0', 'node': %d,"
                             " 'size': %" PRIu64 " } }", node, size);
}

void assert_ok(Test *t, uint16_t type, uint32_t node, uint64_t addr,
               uint64_t len)
{
    Message m = message(type, node, addr, len);

    g_assert_cmpint(submit(t, &m), ==, VIRTIO_HBALLOON_RESP_OK);
}
