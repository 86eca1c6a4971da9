/*
 * HBalloon: for targets that have no virtio devices
 *
 * This work is licensed under the terms of the GNU GPL, version 2 or later.
 * See the COPYING file in the top-level directory.
 */

#include "qemu/osdep.h"
#include "hw/virtio/virtio-hballoon.h"

VirtIOHBalloon *virtio_hballoon_next(VirtIOHBalloon *hb)
{
    return NULL;
}

const char *virtio_hballoon_id(VirtIOHBalloon *hb)
{
    g_assert_not_reached();
}

char *virtio_hballoon_path(VirtIOHBalloon *hb)
{
    g_assert_not_reached();
}

bool virtio_hballoon_busy(void)
{
    g_assert_not_reached();
}

uint64_t virtio_hballoon_set(VirtIOHBalloon *hb, VirtIOHBalloonNode **nodes,
                             const uint64_t *sizes, unsigned nr)
{
    g_assert_not_reached();
}

int64_t virtio_hballoon_retaken(const VirtIOHBalloonNode *n)
{
    g_assert_not_reached();
}
