/*
 * QTest of HBalloon: what the files of the test share
 *
 * This work is licensed under the terms of the GNU GPL, version 2 or later.
 * See the COPYING file in the top-level directory.
 */

#ifndef VIRTIO_HBALLOON_TEST_H
#define VIRTIO_HBALLOON_TEST_H

#include "libqtest.h"
#include "libqos/libqos-pc.h"
#include "libqos/virtio-pci.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "qobject/qdict.h"
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

Message message(uint16_t type, uint32_t node, uint64_t addr, uint64_t len);

/* As a driver does after it was bound. */
void start_driver(Test *t);
void stop_driver(Test *t);

/* What a broken device wants. */
void restart_driver(Test *t);

/* Boot with a device of these properties, or "". */
void setup(Test *t, const char *properties);

/*
 * The same with @size0 MiB on node 0, and with arguments for QEMU before and
 * after those that make the device.
 */
void setup_machine(Test *t, const char *properties, unsigned size0,
                   const char *before, const char *after);
void teardown(Test *t);

bool broken(Test *t);

/* Send a message; the answer's status, or -1 if the device is broken. */
int submit(Test *t, const Message *m);
void send_status(Test *t, uint16_t type, uint32_t node, uint64_t generation,
                 uint16_t reason, size_t size);

/* What query-hballoon says of a node, to be unreferenced; a member of that. */
QDict *query_node(Test *t, int node);
uint64_t query(Test *t, int node, const char *member);

void set_target(Test *t, int node, uint64_t size);
void assert_ok(Test *t, uint16_t type, uint32_t node, uint64_t addr,
               uint64_t len);

/* virtio-hballoon-test-hostile.c */
void add_hostile_tests(void);

/* virtio-hballoon-test-vfio.c: with VFIO_HOST=DEVICE in the environment */
void add_vfio_tests(void);

#endif
