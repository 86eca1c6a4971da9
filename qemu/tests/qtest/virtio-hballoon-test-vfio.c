/*
 * QTest of HBalloon: memory that a passed-through device uses
 *
 * VFIO pins what it maps, and the kernel counts that. The device is QEMU's edu,
 * of the machine that this runs in; its DMA goes where VFIO says, the test's
 * own reads and writes where the page tables of QEMU do.
 *
 * This work is licensed under the terms of the GNU GPL, version 2 or later.
 * See the COPYING file in the top-level directory.
 */

#include "qemu/osdep.h"
#include "virtio-hballoon-test.h"

/* With node 1 more than VFIO could map in pieces of 4 KiB. */
#define BIG0 288
#define CHUNK (2 * MiB)

/* Registers of edu, docs/specs/edu.rst */
#define EDU_DMA_SRC 0x80
#define EDU_DMA_DST 0x88
#define EDU_DMA_COUNT 0x90
#define EDU_DMA_CMD 0x98
#define EDU_DMA_RUN 0x1
#define EDU_DMA_TO_RAM 0x2
#define EDU_BUFFER 0x40000

/* Bytes that VFIO has pinned. */
static uint64_t pinned(Test *t)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status",
                                            qtest_pid(t->qts));
    g_autofree char *text = NULL;
    const char *line;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    line = strstr(text, "VmLck:");
    g_assert_nonnull(line);
    return g_ascii_strtoull(line + strlen("VmLck:"), NULL, 10) * KiB;
}

static void edu_copy(QPCIDevice *edu, QPCIBar bar, uint64_t from, uint64_t to,
                     uint32_t cmd)
{
    qpci_io_writel(edu, bar, EDU_DMA_SRC, from);
    qpci_io_writel(edu, bar, EDU_DMA_DST, to);
    qpci_io_writel(edu, bar, EDU_DMA_COUNT, 8);
    qpci_io_writel(edu, bar, EDU_DMA_CMD, cmd | EDU_DMA_RUN);
    while (qpci_io_readl(edu, bar, EDU_DMA_CMD) & EDU_DMA_RUN) {
        g_usleep(1000);
    }
}

/* What the device finds at @addr is what a processor has written there. */
static void assert_same_page(Test *t, QPCIDevice *edu, QPCIBar bar,
                             uint64_t addr)
{
    static uint64_t value = 0x0123456789abcdef;
    const uint64_t copy = FREE0 - PAGE;

    qtest_writeq(t->qts, addr, ++value);
    qtest_writeq(t->qts, copy, 0);
    edu_copy(edu, bar, addr, EDU_BUFFER, 0);
    edu_copy(edu, bar, EDU_BUFFER, copy, EDU_DMA_TO_RAM);
    g_assert_cmphex(qtest_readq(t->qts, copy), ==, value);
}

/* @opaque: where VFIO's device comes, "before" ours or "after" */
static void test_vfio(const void *opaque)
{
    bool before = g_str_equal(opaque, "before");
    g_autofree char *arg = g_strdup_printf("-device vfio-pci,addr=05.0,host=%s",
                                           g_getenv("VFIO_HOST"));
    QPCIDevice *edu;
    QPCIBar bar;
    uint64_t all;
    Test t;

    setup_machine(&t, "", BIG0, before ? arg : "", before ? "" : arg);
    edu = qpci_device_find(t.qs->pcibus, QPCI_DEVFN(5, 0));
    g_assert_nonnull(edu);
    qpci_device_enable(edu);
    bar = qpci_iomap(edu, 0, NULL);
    all = pinned(&t);
    g_assert_cmpuint(all, >, (BIG0 + 64 - 1) * MiB);
    assert_same_page(&t, edu, bar, FREE0);

    /* A chunk is let go, and comes back as soon as a page of it does. */
    set_target(&t, 0, 200 * MiB);
    assert_ok(&t, VIRTIO_HBALLOON_REQ_INFLATE, 0, FREE0, 3 * CHUNK);
    g_assert_cmpuint(pinned(&t), ==, all - 3 * CHUNK);
    set_target(&t, 0, BIG0 * MiB);
    assert_ok(&t, VIRTIO_HBALLOON_REQ_DEFLATE, 0, FREE0 + CHUNK, PAGE);
    g_assert_cmpuint(pinned(&t), ==, all - 2 * CHUNK);
    assert_same_page(&t, edu, bar, FREE0 + CHUNK);
    assert_ok(&t, VIRTIO_HBALLOON_REQ_DEFLATE, 0, FREE0 + CHUNK + PAGE,
              CHUNK - PAGE);
    assert_ok(&t, VIRTIO_HBALLOON_REQ_DEFLATE, 0, FREE0, CHUNK);
    assert_ok(&t, VIRTIO_HBALLOON_REQ_DEFLATE, 0, FREE0 + 2 * CHUNK, CHUNK);
    g_assert_cmpuint(pinned(&t), ==, all);
    assert_same_page(&t, edu, bar, FREE0 + CHUNK + PAGE);

    /* Less than a chunk stays as it is, until the last page of it is held. */
    set_target(&t, 0, 200 * MiB);
    assert_ok(&t, VIRTIO_HBALLOON_REQ_INFLATE, 0, FREE0 + PAGE, CHUNK);
    g_assert_cmpuint(pinned(&t), ==, all);
    assert_ok(&t, VIRTIO_HBALLOON_REQ_INFLATE, 0, FREE0, PAGE);
    g_assert_cmpuint(pinned(&t), ==, all - CHUNK);
    g_assert_cmpuint(query(&t, 0, "actual"), ==, BIG0 * MiB - CHUNK - PAGE);
    set_target(&t, 0, BIG0 * MiB);
    assert_ok(&t, VIRTIO_HBALLOON_REQ_DEFLATE, 0, FREE0 + CHUNK, PAGE);
    g_assert_cmpuint(pinned(&t), ==, all - CHUNK);
    assert_same_page(&t, edu, bar, FREE0 + CHUNK);

    /* A reset gives all back. */
    restart_driver(&t);
    g_assert_cmpuint(pinned(&t), ==, all);
    assert_same_page(&t, edu, bar, FREE0);
    g_assert_false(broken(&t));

    qpci_iounmap(edu, bar);
    g_free(edu);
    teardown(&t);
}

void add_vfio_tests(void)
{
    if (g_getenv("VFIO_HOST")) {
        qtest_add_data_func("/hballoon/vfio/before", "before", test_vfio);
        qtest_add_data_func("/hballoon/vfio/after", "after", test_vfio);
    }
}
