/*
 * QTest of HBalloon: every request, every error, and a hostile guest
 *
 * This work is licensed under the terms of the GNU GPL, version 2 or later.
 * See the COPYING file in the top-level directory.
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "libqos/libqos-pc.h"
#include "libqos/virtio-pci.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_hballoon.h"

#define PAGE VIRTIO_HBALLOON_PAGE_SIZE
#define TIMEOUT_US (30 * 1000 * 1000)

/* Node 0 lies at 0, node 1 behind it. */
#define SIZE0 (128 * MiB)
#define SIZE1 (64 * MiB)
#define FLOOR0 (32 * MiB)
/* Memory of node 0 that the test does not use for itself. */
#define FREE0 (64 * MiB)

typedef struct Test {
    QOSState *qs;
    QTestState *qts;
    QVirtioPCIDevice *pci;
    QVirtioDevice *dev;
    QVirtQueue *request;
    QVirtQueue *status;
    QVirtQueue *reporting;      /* NULL without the feature */
} Test;

/* What a test sends: right by default, then bent. */
typedef struct Message {
    uint16_t type;
    uint16_t flags;
    uint32_t node;
    uint32_t nr_ranges;         /* as claimed */
    uint32_t nr_sent;           /* as sent */
    struct virtio_hballoon_range range[4];
    uint32_t in_size;
} Message;

static Message message(uint16_t type, uint32_t node, uint64_t addr,
                       uint64_t len)
{
    return (Message) {
        .type = type, .node = node, .nr_ranges = 1, .nr_sent = 1,
        .range = { { addr, len } },
        .in_size = sizeof(struct virtio_hballoon_resp),
    };
}

/* As a driver does after it was bound. */
static void start_driver(Test *t)
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

static void stop_driver(Test *t)
{
    qvirtqueue_cleanup(t->dev->bus, t->request, &t->qs->alloc);
    qvirtqueue_cleanup(t->dev->bus, t->status, &t->qs->alloc);
    if (t->reporting) {
        qvirtqueue_cleanup(t->dev->bus, t->reporting, &t->qs->alloc);
    }
}

/* What a broken device wants. */
static void restart_driver(Test *t)
{
    qvirtio_reset(t->dev);
    stop_driver(t);
    start_driver(t);
}

/* @properties: of the device, or "" */
static void setup(Test *t, const char *properties)
{
    QPCIAddress addr = { .devfn = QPCI_DEVFN(4, 0) };

    t->qs = qtest_pc_boot("-nodefaults -machine q35 -m 192M"
        " -object memory-backend-ram,id=m0,size=128M"
        " -object memory-backend-ram,id=m1,size=64M"
        " -numa node,memdev=m0 -numa node,memdev=m1"
        /* Without an eventfd a kick has been handled when it returns. */
        " -device virtio-hballoon-pci,id=hb0,addr=04.0,ioeventfd=off,"
        "floors=32M%s", properties);
    t->qts = t->qs->qts;
    t->pci = virtio_pci_new(t->qs->pcibus, &addr);
    g_assert_nonnull(t->pci);
    qvirtio_pci_device_enable(t->pci);
    t->dev = &t->pci->vdev;
    start_driver(t);
}

static void teardown(Test *t)
{
    stop_driver(t);
    qvirtio_pci_device_disable(t->pci);
    qos_object_destroy((QOSGraphObject *)t->pci);
    qtest_shutdown(t->qs);
}

static bool broken(Test *t)
{
    return t->dev->bus->get_status(t->dev) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

/* Send a message; the answer's status, or -1 if the device is broken. */
static int submit(Test *t, const Message *m)
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

static void send_status(Test *t, uint16_t type, uint32_t node,
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
static QDict *query_node(Test *t, int node)
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

static uint64_t query(Test *t, int node, const char *member)
{
    QDict *n = query_node(t, node);
    uint64_t value = qdict_get_int(n, member);

    qobject_unref(n);
    return value;
}

static void set_target(Test *t, int node, uint64_t size)
{
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'hballoon-set',"
                             " 'arguments': { 'id': 'hb0', 'node': %d,"
                             " 'size': %" PRIu64 " } }", node, size);
}

static void assert_ok(Test *t, uint16_t type, uint32_t node, uint64_t addr,
                      uint64_t len)
{
    Message m = message(type, node, addr, len);

    g_assert_cmpint(submit(t, &m), ==, VIRTIO_HBALLOON_RESP_OK);
}

static void test_config(void)
{
    Test t;
    size_t at = sizeof(struct virtio_hballoon_config);

    setup(&t, "");
    g_assert_cmpuint(qvirtio_config_readl(t.dev, 0), ==, 2);
    g_assert_cmpuint(qvirtio_config_readl(t.dev, 4), ==,
                     VIRTIO_HBALLOON_MAX_RANGES);
#define NODE(index, field) \
    (at + (index) * sizeof(struct virtio_hballoon_node) + \
     offsetof(struct virtio_hballoon_node, field))
    g_assert_cmpuint(qvirtio_config_readq(t.dev, NODE(0, size)), ==, SIZE0);
    g_assert_cmpuint(qvirtio_config_readq(t.dev, NODE(0, floor)), ==, FLOOR0);
    g_assert_cmpuint(qvirtio_config_readq(t.dev, NODE(0, target)), ==, SIZE0);
    g_assert_cmpuint(qvirtio_config_readl(t.dev, NODE(1, id)), ==, 1);
    g_assert_cmpuint(qvirtio_config_readl(t.dev, NODE(1, nr_extents)), ==, 1);
    g_assert_cmpuint(qvirtio_config_readq(t.dev, NODE(1, extent)), ==, SIZE0);
    set_target(&t, 1, 48 * MiB);
    g_assert_cmpuint(qvirtio_config_readq(t.dev, NODE(1, target)), ==,
                     48 * MiB);
    g_assert_cmpuint(qvirtio_config_readq(t.dev, NODE(1, generation)), ==, 1);
    g_assert_cmpuint(qvirtio_config_readq(t.dev, NODE(0, generation)), ==, 0);
    teardown(&t);
}

static void test_inflate_deflate(void)
{
    Test t;

    setup(&t, "");
    set_target(&t, 0, 96 * MiB);
    qtest_memset(t.qts, FREE0, 0xaa, PAGE);
    assert_ok(&t, VIRTIO_HBALLOON_REQ_INFLATE, 0, FREE0, 2 * MiB);
    g_assert_cmpuint(query(&t, 0, "actual"), ==, SIZE0 - 2 * MiB);
    g_assert_cmpuint(query(&t, 1, "actual"), ==, SIZE1);
    /* The content is gone. */
    g_assert_cmphex(qtest_readb(t.qts, FREE0), ==, 0);
    assert_ok(&t, VIRTIO_HBALLOON_REQ_INFLATE, 0, FREE0 + 4 * MiB, PAGE);
    g_assert_cmpuint(query(&t, 0, "actual"), ==, SIZE0 - 2 * MiB - PAGE);
    set_target(&t, 0, SIZE0);
    /* In other pieces than it was given. */
    assert_ok(&t, VIRTIO_HBALLOON_REQ_DEFLATE, 0, FREE0 + PAGE, MiB);
    assert_ok(&t, VIRTIO_HBALLOON_REQ_DEFLATE, 0, FREE0, PAGE);
    g_assert_cmpuint(query(&t, 0, "actual"), ==, SIZE0 - MiB);
    g_assert_false(broken(&t));
    teardown(&t);
}

static void test_target_is_enforced(void)
{
    Message m;
    Test t;

    setup(&t, "");
    set_target(&t, 0, 124 * MiB);
    m = message(VIRTIO_HBALLOON_REQ_INFLATE, 0, FREE0, 4 * MiB + PAGE);
    g_assert_cmpint(submit(&t, &m), ==, VIRTIO_HBALLOON_RESP_REFUSED);
    g_assert_cmpuint(query(&t, 0, "actual"), ==, SIZE0);
    assert_ok(&t, VIRTIO_HBALLOON_REQ_INFLATE, 0, FREE0, 4 * MiB);
    m = message(VIRTIO_HBALLOON_REQ_DEFLATE, 0, FREE0, PAGE);
    g_assert_cmpint(submit(&t, &m), ==, VIRTIO_HBALLOON_RESP_REFUSED);
    g_assert_cmpuint(query(&t, 0, "actual"), ==, SIZE0 - 4 * MiB);
    /* Refusal is no offence. */
    g_assert_false(broken(&t));
    teardown(&t);
}

static void test_oom(void)
{
    Message m;
    Test t;

    setup(&t, ",deflate-on-oom=on");
    set_target(&t, 0, 124 * MiB);
    assert_ok(&t, VIRTIO_HBALLOON_REQ_INFLATE, 0, FREE0, 4 * MiB);
    m = message(VIRTIO_HBALLOON_REQ_DEFLATE, 0, FREE0, PAGE);
    m.flags = VIRTIO_HBALLOON_REQ_FLAG_OOM;
    g_assert_cmpint(submit(&t, &m), ==, VIRTIO_HBALLOON_RESP_OK);
    g_assert_cmpuint(query(&t, 0, "actual"), ==, SIZE0 - 4 * MiB + PAGE);
    teardown(&t);
}

static void test_exchange(void)
{
    Message m;
    Test t;

    setup(&t, "");
    set_target(&t, 0, SIZE0 - PAGE);
    assert_ok(&t, VIRTIO_HBALLOON_REQ_INFLATE, 0, FREE0, PAGE);
    m = message(VIRTIO_HBALLOON_REQ_EXCHANGE, 0, FREE0 + PAGE, PAGE);
    m.nr_ranges = m.nr_sent = 2;
    m.range[1] = (struct virtio_hballoon_range) { FREE0, PAGE };
    g_assert_cmpint(submit(&t, &m), ==, VIRTIO_HBALLOON_RESP_OK);
    g_assert_cmpuint(query(&t, 0, "actual"), ==, SIZE0 - PAGE);
    /* The old page is the guest's again, so this breaks the device. */
    g_assert_cmpint(submit(&t, &m), ==, -1);
    teardown(&t);
}

static void test_reset(void)
{
    Test t;

    setup(&t, "");
    set_target(&t, 0, 96 * MiB);
    assert_ok(&t, VIRTIO_HBALLOON_REQ_INFLATE, 0, FREE0, 8 * MiB);
    restart_driver(&t);
    g_assert_cmpuint(query(&t, 0, "actual"), ==, SIZE0);
    g_assert_cmpuint(query(&t, 0, "target"), ==, 96 * MiB);
    /* The same pages may be given again. */
    assert_ok(&t, VIRTIO_HBALLOON_REQ_INFLATE, 0, FREE0, 8 * MiB);
    teardown(&t);
}

static void test_done(void)
{
    QDict *event, *data;
    Test t;

    setup(&t, "");
    set_target(&t, 0, SIZE0 - PAGE);
    send_status(&t, VIRTIO_HBALLOON_STATUS_DONE, 0, 1,
                VIRTIO_HBALLOON_REASON_NO_MEMORY,
                sizeof(struct virtio_hballoon_status));
    event = qtest_qmp_eventwait_ref(t.qts, "HBALLOON_DONE");
    data = qdict_get_qdict(event, "data");
    g_assert_cmpstr(qdict_get_str(data, "reason"), ==, "no-memory");
    g_assert_cmpstr(qdict_get_str(data, "id"), ==, "hb0");
    g_assert_cmpint(qdict_get_int(data, "generation"), ==, 1);
    qobject_unref(event);
    assert_ok(&t, VIRTIO_HBALLOON_REQ_INFLATE, 0, FREE0, PAGE);
    send_status(&t, VIRTIO_HBALLOON_STATUS_DONE, 0, 1,
                VIRTIO_HBALLOON_REASON_REACHED,
                sizeof(struct virtio_hballoon_status));
    event = qtest_qmp_eventwait_ref(t.qts, "HBALLOON_DONE");
    data = qdict_get_qdict(event, "data");
    g_assert_cmpstr(qdict_get_str(data, "reason"), ==, "reached");
    g_assert_cmpint(qdict_get_int(data, "actual"), ==, SIZE0 - PAGE);
    qobject_unref(event);
    data = query_node(&t, 0);
    g_assert_cmpint(qdict_get_int(qdict_get_qdict(data, "stats"), "free"), ==,
                    4711);
    qobject_unref(data);
    teardown(&t);
}

static void test_bad_status(void)
{
    const size_t size = sizeof(struct virtio_hballoon_status);
    const struct {
        uint16_t type;
        uint32_t node;
        uint64_t generation;
        uint16_t reason;
        size_t size;
    } bad[] = {
        { 0, 0, 0, 0, size },
        { VIRTIO_HBALLOON_STATUS_STATS + 1, 0, 0, 0, size },
        { VIRTIO_HBALLOON_STATUS_DONE, 2, 0, 0, size },
        { VIRTIO_HBALLOON_STATUS_DONE, UINT32_MAX, 0, 0, size },
        { VIRTIO_HBALLOON_STATUS_DONE, 0, UINT64_MAX, 1, size },
        { VIRTIO_HBALLOON_STATUS_DONE, 0, 1, VIRTIO_HBALLOON_NR_REASONS,
          size },
        /* Not reached. */
        { VIRTIO_HBALLOON_STATUS_DONE, 0, 1, VIRTIO_HBALLOON_REASON_REACHED,
          size },
        { VIRTIO_HBALLOON_STATUS_DONE, 0, 0, 1, size - 1 },
    };
    unsigned i;
    Test t;

    setup(&t, "");
    set_target(&t, 0, SIZE0 - PAGE);
    for (i = 0; i < ARRAY_SIZE(bad); i++) {
        send_status(&t, bad[i].type, bad[i].node, bad[i].generation,
                    bad[i].reason, bad[i].size);
        g_assert_true(broken(&t));
        restart_driver(&t);
    }
    teardown(&t);
}

/* Each of these breaks the device, changes nothing, and reset mends it. */
static void test_bad_request(void)
{
    const Message good = message(VIRTIO_HBALLOON_REQ_INFLATE, 0, FREE0, PAGE);
    Message bad[32];
    unsigned nr = 0, i;
    Test t;

#define BAD(change) do { bad[nr] = good; bad[nr].change; nr++; } while (0)
    BAD(type = 0);
    BAD(type = VIRTIO_HBALLOON_REQ_EXCHANGE + 1);
    BAD(type = VIRTIO_HBALLOON_REQ_EXCHANGE);
    BAD(type = VIRTIO_HBALLOON_REQ_DEFLATE);            /* not held */
    BAD(flags = VIRTIO_HBALLOON_REQ_FLAG_OOM);
    BAD(flags = 0x8000);
    BAD(node = 2);
    BAD(node = UINT32_MAX);
    BAD(node = 1);                                      /* of node 0 */
    BAD(nr_ranges = 0);
    BAD(nr_ranges = 2);                                 /* one sent */
    BAD(nr_ranges = UINT32_MAX);
    BAD(nr_ranges = 0x10000001);                        /* times 16: 16 */
    BAD(nr_ranges = VIRTIO_HBALLOON_MAX_RANGES + 1);
    BAD(nr_sent = 2);                                   /* one claimed */
    BAD(nr_sent = 0);
    BAD(in_size = 0);
    BAD(in_size = sizeof(struct virtio_hballoon_resp) - 1);
    BAD(range[0].addr = FREE0 + 1);
    BAD(range[0].len = PAGE - 1);
    BAD(range[0].len = 0);
    BAD(range[0].addr = SIZE0);                         /* of node 1 */
    BAD(range[0].addr = SIZE0 - PAGE; bad[nr].range[0].len = 2 * PAGE);
    BAD(range[0].addr = SIZE0 + SIZE1);                 /* nothing there */
    BAD(range[0].addr = 0xfee00000);                    /* a device's */
    BAD(range[0].addr = 0xf0000);                       /* firmware */
    BAD(range[0].addr = -(uint64_t)PAGE);
    BAD(range[0].addr = -(uint64_t)PAGE; bad[nr].range[0].len = 2 * PAGE);
    BAD(range[0].len = -(uint64_t)PAGE);
    g_assert_cmpuint(nr, <, ARRAY_SIZE(bad));

    setup(&t, "");
    set_target(&t, 0, 64 * MiB);
    set_target(&t, 1, 32 * MiB);
    for (i = 0; i < nr; i++) {
        g_test_message("bad request %u", i);
        g_assert_cmpint(submit(&t, &bad[i]), ==, -1);
        g_assert_cmpuint(query(&t, 0, "actual"), ==, SIZE0);
        g_assert_cmpuint(query(&t, 1, "actual"), ==, SIZE1);
        restart_driver(&t);
        assert_ok(&t, VIRTIO_HBALLOON_REQ_INFLATE, 0, FREE0, PAGE);
        restart_driver(&t);
    }
    teardown(&t);
}

/* Ranges that overlap each other, or what is held. */
static void test_overlap(void)
{
    const struct virtio_hballoon_range second[] = {
        { FREE0, PAGE },
        { FREE0 + PAGE, PAGE },
        { FREE0 - PAGE, 2 * PAGE },
        { FREE0 - PAGE, 8 * PAGE },
    };
    Message m;
    unsigned i;
    Test t;

    setup(&t, "");
    set_target(&t, 0, 64 * MiB);
    for (i = 0; i < ARRAY_SIZE(second); i++) {
        /* In one request... */
        m = message(VIRTIO_HBALLOON_REQ_INFLATE, 0, FREE0, 2 * PAGE);
        m.nr_ranges = m.nr_sent = 2;
        m.range[1] = second[i];
        g_assert_cmpint(submit(&t, &m), ==, -1);
        g_assert_cmpuint(query(&t, 0, "actual"), ==, SIZE0);
        restart_driver(&t);
        /* ... and in two. */
        assert_ok(&t, VIRTIO_HBALLOON_REQ_INFLATE, 0, FREE0, 2 * PAGE);
        m = message(VIRTIO_HBALLOON_REQ_INFLATE, 0, second[i].addr,
                    second[i].len);
        g_assert_cmpint(submit(&t, &m), ==, -1);
        g_assert_cmpuint(query(&t, 0, "actual"), ==, SIZE0 - 2 * PAGE);
        restart_driver(&t);
    }
    /* A page that is exchanged for itself. */
    m = message(VIRTIO_HBALLOON_REQ_EXCHANGE, 0, FREE0, PAGE);
    m.nr_ranges = m.nr_sent = 2;
    m.range[1] = m.range[0];
    g_assert_cmpint(submit(&t, &m), ==, -1);
    teardown(&t);
}

static void test_most_ranges(void)
{
    struct virtio_hballoon_req req = {
        .type = cpu_to_le16(VIRTIO_HBALLOON_REQ_INFLATE),
        .nr_ranges = cpu_to_le32(VIRTIO_HBALLOON_MAX_RANGES),
    };
    struct virtio_hballoon_range r = { .len = cpu_to_le64(PAGE) };
    size_t size = sizeof(req) + VIRTIO_HBALLOON_MAX_RANGES * sizeof(r);
    uint64_t out, in;
    uint32_t head, i;
    Test t;

    setup(&t, "");
    set_target(&t, 0, 96 * MiB);
    out = guest_alloc(&t.qs->alloc, size);
    in = guest_alloc(&t.qs->alloc, sizeof(struct virtio_hballoon_resp));
    qtest_memwrite(t.qts, out, &req, sizeof(req));
    for (i = 0; i < VIRTIO_HBALLOON_MAX_RANGES; i++) {
        r.addr = cpu_to_le64(FREE0 + i * 2 * PAGE);
        qtest_memwrite(t.qts, out + sizeof(req) + i * sizeof(r), &r,
                       sizeof(r));
    }
    /* In two descriptors, cut within a range. */
    head = qvirtqueue_add(t.qts, t.request, out, 1000, false, true);
    qvirtqueue_add(t.qts, t.request, out + 1000, size - 1000, false, true);
    qvirtqueue_add(t.qts, t.request, in, sizeof(struct virtio_hballoon_resp),
                   true, false);
    qvirtqueue_kick(t.qts, t.dev, t.request, head);
    qvirtio_wait_used_elem(t.qts, t.dev, t.request, head, NULL, TIMEOUT_US);
    g_assert_cmpuint(query(&t, 0, "actual"), ==,
                     SIZE0 - VIRTIO_HBALLOON_MAX_RANGES * PAGE);
    teardown(&t);
}

/*
 * Requests and status messages at random, some right and most wrong, with a
 * seed that is the same every time. The device survives, and its sum is ours.
 */
static void test_random(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(20240101);
    unsigned i, nr_ok = 0, nr_broken = 0;
    Test t;

    setup(&t, ",deflate-on-oom=on");
    for (i = 0; i < 1000; i++) {
        Message m = message(g_rand_int_range(rand, 1, 4),
                            g_rand_int_range(rand, 0, 2),
                            FREE0 + g_rand_int_range(rand, 0, 64) * PAGE,
                            g_rand_int_range(rand, 1, 16) * PAGE);
        uint64_t before, after;
        int status;

        if (m.node) {
            m.range[0].addr += SIZE0 - FREE0;
        }
        switch (g_rand_int_range(rand, 0, 12)) {
        case 0:
            m.range[0].addr = (uint64_t)g_rand_int(rand) << 32 |
                              g_rand_int(rand);
            break;
        case 1:
            m.range[0].len = (uint64_t)g_rand_int(rand) << 32 |
                             g_rand_int(rand);
            break;
        case 2:
            m.nr_ranges = g_rand_int(rand);
            break;
        case 3:
            m.type = g_rand_int(rand);
            m.node = g_rand_int(rand);
            break;
        case 4:
            m.nr_ranges = m.nr_sent = g_rand_int_range(rand, 1, 5);
            m.range[1] = m.range[0];
            m.range[1].addr += m.range[0].len;
            break;
        case 5:
            m.in_size = g_rand_int_range(rand, 0, 32);
            break;
        case 6:
            set_target(&t, m.node & 1, 32 * MiB +
                       g_rand_int_range(rand, 0, 4096) * PAGE);
            break;
        case 7:
            send_status(&t, g_rand_int_range(rand, 0, 4), m.node & 1,
                        g_rand_int_range(rand, 0, 16),
                        g_rand_int_range(rand, 0, 9),
                        g_rand_int_range(rand, 1,
                            sizeof(struct virtio_hballoon_status) + 1));
            break;
        }
        before = query(&t, 0, "actual") + query(&t, 1, "actual");
        status = broken(&t) ? -1 : submit(&t, &m);
        after = query(&t, 0, "actual") + query(&t, 1, "actual");
        if (status != VIRTIO_HBALLOON_RESP_OK ||
            m.type == VIRTIO_HBALLOON_REQ_EXCHANGE) {
            g_assert_cmpuint(before, ==, after);
        } else {
            g_assert_cmpuint(before, !=, after);
            nr_ok++;
        }
        if (status == -1) {
            nr_broken++;
            restart_driver(&t);
            g_assert_cmpuint(query(&t, 0, "actual"), ==, SIZE0);
        }
    }
    g_test_message("%u done, %u broken", nr_ok, nr_broken);
    g_assert_cmpuint(nr_ok, >, 50);
    g_assert_cmpuint(nr_broken, >, 50);
    teardown(&t);
}

/* What a guest may write where the device reads: anything. */
static void write_descriptor(Test *t, QVirtQueue *vq, uint16_t index,
                             uint64_t addr, uint32_t len, uint16_t flags,
                             uint16_t next)
{
    struct vring_desc desc = {
        .addr = cpu_to_le64(addr),
        .len = cpu_to_le32(len),
        .flags = cpu_to_le16(flags),
        .next = cpu_to_le16(next),
    };

    qtest_memwrite(t->qts, vq->desc + index * sizeof(desc), &desc,
                   sizeof(desc));
}

/* Make @head available @count times, and tell the device. */
static void offer(Test *t, QVirtQueue *vq, uint16_t head, uint16_t count)
{
    uint16_t index = qtest_readw(t->qts, vq->avail + 2);

    qtest_writew(t->qts, vq->avail + 4 + 2 * (index % vq->size), head);
    qtest_writew(t->qts, vq->avail + 2, index + count);
    t->dev->bus->virtqueue_kick(t->dev, vq);
}

/*
 * Rings that no driver would make: each breaks the device or does nothing, a
 * reset mends it, and nothing has become held.
 */
static void test_hostile_rings(void)
{
    const uint16_t next = VRING_DESC_F_NEXT, in = VRING_DESC_F_WRITE;
    const struct {
        struct {
            uint64_t addr;
            uint32_t len;
            uint16_t flags, next;
        } desc[3];
        uint16_t head, count;
    } bad[] = {
        /* Chains without end: of one, of two, and of empty ones. */
        { { { FREE0, 16, next, 0 } }, 0, 1 },
        { { { FREE0, 16, next, 1 }, { FREE0, 16, next, 0 } }, 0, 1 },
        { { { FREE0, 0, next, 1 }, { FREE0, 0, next, 0 } }, 0, 1 },
        /* On to what is no descriptor. */
        { { { FREE0, 16, next, 0xffff } }, 0, 1 },
        { { { FREE0, 16, next, 256 } }, 0, 1 },
        { { { FREE0, 16, 0, 0 } }, 0xffff, 1 },
        { { { FREE0, 16, 0, 0 } }, 256, 1 },
        /* What is read comes after what is written. */
        { { { FREE0, 16, next | in, 1 }, { FREE0, 16, 0, 0 } }, 0, 1 },
        /* No memory, or more than there is. */
        { { { -(uint64_t)PAGE, PAGE, 0, 0 } }, 0, 1 },
        { { { 0xfee00000, PAGE, in, 0 } }, 0, 1 },
        { { { SIZE0 + SIZE1, PAGE, in, 0 } }, 0, 1 },
        { { { FREE0, UINT32_MAX, 0, 0 } }, 0, 1 },
        { { { FREE0, UINT32_MAX, in, 0 } }, 0, 1 },
        { { { FREE0, UINT32_MAX, next, 1 }, { FREE0, UINT32_MAX, next, 2 },
            { FREE0, UINT32_MAX, in, 0 } }, 0, 1 },
        /* A table of descriptors, which was not negotiated, in itself. */
        { { { 0, 4096, VRING_DESC_F_INDIRECT, 0 } }, 0, 1 },
        /* More than the ring holds. */
        { { { FREE0, 16, 0, 0 } }, 0, 257 },
        { { { FREE0, 16, 0, 0 } }, 0, 0x8000 },
        /* Nothing at all. */
        { { { 0, 0, 0, 0 } }, 0, 1 },
        { { { FREE0, 0, in, 0 } }, 0, 1 },
    };
    unsigned i, j, k, nr_broken = 0;
    Test t;

    setup(&t, ",reporting=on");
    set_target(&t, 0, 64 * MiB);
    for (i = 0; i < ARRAY_SIZE(bad); i++) {
        for (j = 0; j < 3; j++) {
            QVirtQueue *vq = j == 0 ? t.request : j == 1 ? t.status
                                                         : t.reporting;

            g_test_message("bad ring %u, queue %u", i, j);
            for (k = 0; k < ARRAY_SIZE(bad[i].desc); k++) {
                write_descriptor(&t, vq, k, bad[i].desc[k].addr,
                                 bad[i].desc[k].len, bad[i].desc[k].flags,
                                 bad[i].desc[k].next);
            }
            offer(&t, vq, bad[i].head, bad[i].count);
            /* What is no request at all breaks the request queue for sure. */
            g_assert_true(j || broken(&t));
            nr_broken += broken(&t);
            g_assert_cmpuint(query(&t, 0, "actual"), ==, SIZE0);
            restart_driver(&t);
            assert_ok(&t, VIRTIO_HBALLOON_REQ_INFLATE, 0, FREE0, PAGE);
            restart_driver(&t);
        }
    }
    g_assert_cmpuint(nr_broken, >=, 2 * ARRAY_SIZE(bad));
    teardown(&t);
}

/*
 * Random rings and random content, from a seed that is the same every time:
 * a part of it looks like requests, so that it gets beyond the first check.
 * FUZZ=N in the environment: as many steps.
 */
static void test_fuzz(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(20240102);
    const char *steps = g_getenv("FUZZ");
    unsigned nr = steps ? atoi(steps) : 500;
    unsigned i, j, nr_broken = 0, nr_held = 0;
    Test t;

    setup(&t, ",reporting=on,deflate-on-oom=on");
    set_target(&t, 0, 64 * MiB);
    set_target(&t, 1, 32 * MiB);
    for (i = 0; i < nr; i++) {
        QVirtQueue *vqs[] = { t.request, t.request, t.status, t.reporting };
        QVirtQueue *vq = vqs[g_rand_int_range(rand, 0, ARRAY_SIZE(vqs))];
        uint32_t words[32], nr_ranges;
        uint64_t actual;

        for (j = 0; j < ARRAY_SIZE(words); j++) {
            words[j] = g_rand_int(rand) >> g_rand_int_range(rand, 0, 32);
        }
        nr_ranges = g_rand_int_range(rand, 1, 8);
        if (g_rand_boolean(rand)) {
            /* type and flags, node, ranges, 0; and these ranges of node 0 */
            words[0] = g_rand_int_range(rand, 0, 5);
            words[1] = g_rand_int_range(rand, 0, 8) ? 0 : 1;
            words[2] = nr_ranges;
            words[3] = 0;
            for (j = 4; j < ARRAY_SIZE(words); j += 4) {
                words[j] = FREE0 + g_rand_int_range(rand, 0, 60 * MiB / PAGE) *
                           PAGE;
                words[j + 1] = 0;
                words[j + 2] = g_rand_int_range(rand, 0, 16) ?
                               g_rand_int_range(rand, 1, 8) * PAGE :
                               g_rand_int(rand);
                words[j + 3] = 0;
            }
        }
        qtest_memwrite(t.qts, FREE0 - PAGE, words, sizeof(words));
        for (j = 0; j < 4; j++) {
            bool wild = !g_rand_int_range(rand, 0, 16);

            write_descriptor(&t, vq, j,
                             wild ? (uint64_t)g_rand_int(rand) <<
                                    g_rand_int_range(rand, 0, 33)
                                  : FREE0 - PAGE,
                             wild ? g_rand_int(rand)
                                  : 16 * (j ? 1 : 1 + nr_ranges),
                             (j == 0 ? VRING_DESC_F_NEXT :
                              j == 1 ? VRING_DESC_F_WRITE : 0) ^
                             (wild ? g_rand_int_range(rand, 0, 8) : 0),
                             wild ? g_rand_int(rand) : j + 1);
        }
        offer(&t, vq, g_rand_int_range(rand, 0, 8) ? 0 :
              g_rand_int_range(rand, 0, 300),
              g_rand_int_range(rand, 0, 16) ? 1 : g_rand_int(rand));
        actual = query(&t, 0, "actual");
        g_assert_cmpuint(actual, >=, 64 * MiB);
        g_assert_cmpuint(actual, <=, SIZE0);
        nr_held += actual != SIZE0;
        if (broken(&t)) {
            nr_broken++;
            restart_driver(&t);
        }
    }
    g_test_message("%u steps: broken %u times, %u with something held", nr,
                   nr_broken, nr_held);
    g_assert_cmpuint(nr_broken, >, nr / 10);
    g_assert_cmpuint(nr_held, >, nr / 100);
    restart_driver(&t);
    assert_ok(&t, VIRTIO_HBALLOON_REQ_INFLATE, 0, FREE0, PAGE);
    g_assert_cmpuint(query(&t, 0, "actual"), ==, SIZE0 - PAGE);
    teardown(&t);
}

/* What is reported loses its content, what is held or no memory does not. */
static void test_reporting(void)
{
    uint32_t head;
    Test t;

    setup(&t, ",reporting=on");
    set_target(&t, 0, 64 * MiB);
    qtest_memset(t.qts, FREE0, 0xaa, 4 * PAGE);
    head = qvirtqueue_add(t.qts, t.reporting, FREE0, PAGE, true, true);
    qvirtqueue_add(t.qts, t.reporting, FREE0 + 2 * PAGE + 8, PAGE, true, false);
    qvirtqueue_kick(t.qts, t.dev, t.reporting, head);
    qvirtio_wait_used_elem(t.qts, t.dev, t.reporting, head, NULL, TIMEOUT_US);
    g_assert_cmphex(qtest_readb(t.qts, FREE0), ==, 0);
    g_assert_cmphex(qtest_readb(t.qts, FREE0 + PAGE), ==, 0xaa);
    /* Not whole pages: left alone. */
    g_assert_cmphex(qtest_readb(t.qts, FREE0 + 2 * PAGE + 8), ==, 0xaa);
    g_assert_cmphex(qtest_readb(t.qts, FREE0 + 3 * PAGE), ==, 0xaa);
    g_assert_cmpuint(query(&t, 0, "actual"), ==, SIZE0);
    teardown(&t);
}

/*
 * With deflation on OOM a request may overtake the message that a target is
 * reached; without it such a message is a lie (see test_bad_status()).
 */
static void test_overtaken_status(void)
{
    Message m;
    Test t;

    setup(&t, ",deflate-on-oom=on");
    set_target(&t, 0, SIZE0 - 2 * PAGE);
    assert_ok(&t, VIRTIO_HBALLOON_REQ_INFLATE, 0, FREE0, 2 * PAGE);
    m = message(VIRTIO_HBALLOON_REQ_DEFLATE, 0, FREE0, PAGE);
    m.flags = VIRTIO_HBALLOON_REQ_FLAG_OOM;
    g_assert_cmpint(submit(&t, &m), ==, VIRTIO_HBALLOON_RESP_OK);
    send_status(&t, VIRTIO_HBALLOON_STATUS_DONE, 0, 1,
                VIRTIO_HBALLOON_REASON_REACHED,
                sizeof(struct virtio_hballoon_status));
    g_assert_false(broken(&t));
    teardown(&t);
}

static void assert_refused(Test *t, const char *desc, QDict *arguments)
{
    QDict *resp = qtest_qmp(t->qts, "{ 'execute': 'hballoon-set',"
                            " 'arguments': %p }", arguments);

    g_assert_nonnull(strstr(qdict_get_str(qdict_get_qdict(resp, "error"),
                                          "desc"), desc));
    qobject_unref(resp);
    g_assert_cmpuint(query(t, 0, "generation"), ==, 0);
    g_assert_cmpuint(query(t, 0, "target"), ==, SIZE0);
}

static void test_bad_target(void)
{
    Test t;

    setup(&t, "");
    assert_refused(&t, "'hb1'", qdict_from_jsonf_nofail(
        "{ 'id': 'hb1', 'node': 0, 'size': 67108864 }"));
    assert_refused(&t, "node 2", qdict_from_jsonf_nofail(
        "{ 'id': 'hb0', 'node': 2, 'size': 67108864 }"));
    assert_refused(&t, "67108865", qdict_from_jsonf_nofail(
        "{ 'id': 'hb0', 'node': 0, 'size': 67108865 }"));
    assert_refused(&t, "33550336", qdict_from_jsonf_nofail(
        "{ 'id': 'hb0', 'node': 0, 'size': 33550336 }"));
    assert_refused(&t, "134221824", qdict_from_jsonf_nofail(
        "{ 'id': 'hb0', 'node': 0, 'size': 134221824 }"));
    assert_refused(&t, "either", qdict_from_jsonf_nofail(
        "{ 'id': 'hb0', 'node': 0 }"));
    assert_refused(&t, "empty", qdict_from_jsonf_nofail(
        "{ 'id': 'hb0', 'targets': [] }"));
    /* All or nothing. */
    assert_refused(&t, "twice", qdict_from_jsonf_nofail(
        "{ 'id': 'hb0', 'targets': [ { 'node': 0, 'size': 67108864 },"
        " { 'node': 0, 'size': 67108864 } ] }"));
    assert_refused(&t, "node 3", qdict_from_jsonf_nofail(
        "{ 'id': 'hb0', 'targets': [ { 'node': 0, 'size': 67108864 },"
        " { 'node': 3, 'size': 67108864 } ] }"));
    teardown(&t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/hballoon/config", test_config);
    qtest_add_func("/hballoon/inflate-deflate", test_inflate_deflate);
    qtest_add_func("/hballoon/target-is-enforced", test_target_is_enforced);
    qtest_add_func("/hballoon/oom", test_oom);
    qtest_add_func("/hballoon/exchange", test_exchange);
    qtest_add_func("/hballoon/reset", test_reset);
    qtest_add_func("/hballoon/done", test_done);
    qtest_add_func("/hballoon/bad-status", test_bad_status);
    qtest_add_func("/hballoon/bad-request", test_bad_request);
    qtest_add_func("/hballoon/overlap", test_overlap);
    qtest_add_func("/hballoon/most-ranges", test_most_ranges);
    qtest_add_func("/hballoon/random", test_random);
    qtest_add_func("/hballoon/bad-target", test_bad_target);
    qtest_add_func("/hballoon/reporting", test_reporting);
    qtest_add_func("/hballoon/overtaken-status", test_overtaken_status);
    qtest_add_func("/hballoon/hostile-rings", test_hostile_rings);
    qtest_add_func("/hballoon/fuzz", test_fuzz);
    return g_test_run();
}
