/*
 * QTest of HBalloon: every error, and a hostile guest
 *
 * This work is licensed under the terms of the GNU GPL, version 2 or later.
 * See the COPYING file in the top-level directory.
 */

#include "qemu/osdep.h"
#include "virtio-hballoon-test.h"

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

void add_hostile_tests(void)
{
    qtest_add_func("/hballoon/bad-status", test_bad_status);
    qtest_add_func("/hballoon/bad-request", test_bad_request);
    qtest_add_func("/hballoon/overlap", test_overlap);
    qtest_add_func("/hballoon/random", test_random);
    qtest_add_func("/hballoon/hostile-rings", test_hostile_rings);
    qtest_add_func("/hballoon/fuzz", test_fuzz);
}
