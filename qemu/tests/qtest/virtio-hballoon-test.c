/*
 * QTest of HBalloon: every request, and the monitor
 *
 * This work is licensed under the terms of the GNU GPL, version 2 or later.
 * See the COPYING file in the top-level directory.
 */

#include "qemu/osdep.h"
#include "qobject/qjson.h"
#include "virtio-hballoon-test.h"

/* Where a field of a node is in the configuration. */
#define NODE(index, field) \
    (sizeof(struct virtio_hballoon_config) + \
     (index) * sizeof(struct virtio_hballoon_node) + \
     offsetof(struct virtio_hballoon_node, field))

static void test_config(void)
{
    Test t;

    setup(&t, "");
    g_assert_cmpuint(qvirtio_config_readl(t.dev, 0), ==, 2);
    g_assert_cmpuint(qvirtio_config_readl(t.dev, 4), ==,
                     VIRTIO_HBALLOON_MAX_RANGES);
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

/* Only what is wanted: the node's flag says so, and the device minds it. */
static void test_reporting_of_one_node(void)
{
    const uint64_t page1 = SIZE0 + 32 * MiB;
    const char *list[] = { ",reporting=off:on", ",reporting=:on" };
    uint32_t head;
    unsigned i;
    Test t;

    for (i = 0; i < ARRAY_SIZE(list); i++) {
        setup(&t, list[i]);
        g_assert_cmpuint(qvirtio_config_readl(t.dev, NODE(0, flags)), ==, 0);
        g_assert_cmpuint(qvirtio_config_readl(t.dev, NODE(1, flags)), ==,
                         VIRTIO_HBALLOON_NODE_REPORTING);
        qtest_memset(t.qts, FREE0, 0xaa, PAGE);
        qtest_memset(t.qts, page1, 0xaa, PAGE);
        head = qvirtqueue_add(t.qts, t.reporting, FREE0, PAGE, true, true);
        qvirtqueue_add(t.qts, t.reporting, page1, PAGE, true, false);
        qvirtqueue_kick(t.qts, t.dev, t.reporting, head);
        qvirtio_wait_used_elem(t.qts, t.dev, t.reporting, head, NULL,
                               TIMEOUT_US);
        g_assert_cmphex(qtest_readb(t.qts, FREE0), ==, 0xaa);
        g_assert_cmphex(qtest_readb(t.qts, page1), ==, 0);
        teardown(&t);
    }
    setup(&t, ",reporting=off");
    g_assert_null(t.reporting);
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

/*
 * A third node, whose memory is a file of ours: of it the host has what stands
 * in st_blocks, and beyond its end it has none to give.
 */
#define NODE2 (SIZE0 + SIZE1)
#define SIZE2 (16 * MiB)

static int setup_file(Test *t, const char *properties)
{
    int fd = memfd_create("hballoon-test", 0);
    g_autofree char *node = NULL;

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, SIZE2), ==, 0);
    node = g_strdup_printf("-m %uM -object memory-backend-file,id=m2,share=on,"
                           "size=%uM,mem-path=/proc/%d/fd/%d"
                           " -numa node,memdev=m2",
                           (unsigned)((NODE2 + SIZE2) / MiB),
                           (unsigned)(SIZE2 / MiB), getpid(), fd);
    setup_machine(t, properties, SIZE0 / MiB, node, "");
    set_target(t, 2, 0);
    assert_ok(t, VIRTIO_HBALLOON_REQ_INFLATE, 2, NODE2, SIZE2);
    return fd;
}

static uint64_t occupied(int fd)
{
    struct stat st;

    g_assert_cmpint(fstat(fd, &st), ==, 0);
    return st.st_blocks * 512ull;
}

static void test_prealloc(void)
{
    Message m;
    Test t;
    int fd;

    fd = setup_file(&t, "");
    set_target(&t, 2, SIZE2);
    assert_ok(&t, VIRTIO_HBALLOON_REQ_DEFLATE, 2, NODE2, 4 * MiB);
    g_assert_cmpuint(occupied(fd), ==, 0);
    teardown(&t);
    close(fd);

    fd = setup_file(&t, ",prealloc=on");
    set_target(&t, 2, 6 * MiB);
    m = message(VIRTIO_HBALLOON_REQ_DEFLATE, 2, NODE2, 4 * MiB);
    m.nr_ranges = m.nr_sent = 2;
    m.range[1] = (struct virtio_hballoon_range) { NODE2 + 8 * MiB, PAGE };
    g_assert_cmpint(submit(&t, &m), ==, VIRTIO_HBALLOON_RESP_OK);
    g_assert_cmpuint(occupied(fd), ==, 4 * MiB + PAGE);
    /* No more than the target allows, whatever the guest asks for. */
    m = message(VIRTIO_HBALLOON_REQ_DEFLATE, 2, NODE2 + 4 * MiB, 4 * MiB);
    g_assert_cmpint(submit(&t, &m), ==, VIRTIO_HBALLOON_RESP_REFUSED);
    g_assert_cmpuint(occupied(fd), ==, 4 * MiB + PAGE);
    /* One page for another. */
    m = message(VIRTIO_HBALLOON_REQ_EXCHANGE, 2, NODE2, PAGE);
    m.nr_ranges = m.nr_sent = 2;
    m.range[1] = (struct virtio_hballoon_range) { NODE2 + 9 * MiB, PAGE };
    g_assert_cmpint(submit(&t, &m), ==, VIRTIO_HBALLOON_RESP_OK);
    g_assert_cmpuint(occupied(fd), ==, 4 * MiB + PAGE);
    /* What is given again is the host's again. */
    set_target(&t, 2, 0);
    assert_ok(&t, VIRTIO_HBALLOON_REQ_INFLATE, 2, NODE2 + PAGE, MiB);
    g_assert_cmpuint(occupied(fd), ==, 3 * MiB + PAGE);
    teardown(&t);
    close(fd);
}

/* A host without memory to give back says so, and QEMU lives on. */
static void test_prealloc_fails(void)
{
    Message m;
    Test t;
    int fd = setup_file(&t, ",prealloc=on");

    set_target(&t, 2, SIZE2);
    g_assert_cmpint(ftruncate(fd, 4 * MiB), ==, 0);
    m = message(VIRTIO_HBALLOON_REQ_DEFLATE, 2, NODE2, MiB);
    m.nr_ranges = m.nr_sent = 2;
    m.range[1] = (struct virtio_hballoon_range) { NODE2 + 3 * MiB, 2 * MiB };
    g_assert_cmpint(submit(&t, &m), ==, VIRTIO_HBALLOON_RESP_FAILED);
    g_assert_cmpuint(query(&t, 2, "actual"), ==, 0);
    g_assert_cmpuint(occupied(fd), ==, 0);
    restart_driver(&t);
    /* A reset gives all back, populated or not. */
    g_assert_cmpuint(query(&t, 2, "actual"), ==, SIZE2);

    g_assert_cmpint(ftruncate(fd, SIZE2), ==, 0);
    set_target(&t, 2, SIZE2 - PAGE);
    assert_ok(&t, VIRTIO_HBALLOON_REQ_INFLATE, 2, NODE2 + 8 * MiB, PAGE);
    g_assert_cmpint(ftruncate(fd, 4 * MiB), ==, 0);
    m = message(VIRTIO_HBALLOON_REQ_EXCHANGE, 2, NODE2, PAGE);
    m.nr_ranges = m.nr_sent = 2;
    m.range[1] = (struct virtio_hballoon_range) { NODE2 + 8 * MiB, PAGE };
    g_assert_cmpint(submit(&t, &m), ==, VIRTIO_HBALLOON_RESP_FAILED);
    g_assert_cmpuint(query(&t, 2, "actual"), ==, SIZE2 - PAGE);
    /* The host has memory again. */
    g_assert_cmpint(ftruncate(fd, SIZE2), ==, 0);
    g_assert_cmpint(submit(&t, &m), ==, VIRTIO_HBALLOON_RESP_OK);
    g_assert_cmpuint(occupied(fd), ==, PAGE);
    g_assert_false(broken(&t));
    teardown(&t);
    close(fd);
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
    qtest_add_func("/hballoon/prealloc", test_prealloc);
    qtest_add_func("/hballoon/prealloc-fails", test_prealloc_fails);
    qtest_add_func("/hballoon/done", test_done);
    qtest_add_func("/hballoon/most-ranges", test_most_ranges);
    qtest_add_func("/hballoon/bad-target", test_bad_target);
    qtest_add_func("/hballoon/reporting", test_reporting);
    qtest_add_func("/hballoon/reporting-of-one-node",
                   test_reporting_of_one_node);
    qtest_add_func("/hballoon/overtaken-status", test_overtaken_status);
    add_hostile_tests();
    add_vfio_tests();
    return g_test_run();
}
