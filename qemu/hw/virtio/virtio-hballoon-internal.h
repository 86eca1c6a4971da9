/*
 * HBalloon: what the files of the device share
 *
 * This work is licensed under the terms of the GNU GPL, version 2 or later.
 * See the COPYING file in the top-level directory.
 */

#ifndef VIRTIO_HBALLOON_INTERNAL_H
#define VIRTIO_HBALLOON_INTERNAL_H

#include "hw/virtio/virtio-hballoon.h"

#define PAGE VIRTIO_HBALLOON_PAGE_SIZE

/*
 * Ranges are bytes of the node's memory, in host byte order.
 */

/* virtio-hballoon.c: emit HBALLOON_CHANGED */
void virtio_hballoon_send_changed(VirtIOHBalloon *hb);

/* virtio-hballoon-discard.c */

/* Drop the content of memory. Returns 0 or -errno. */
int virtio_hballoon_discard(const VirtIOHBalloonNode *n,
                            const struct virtio_hballoon_range *r);

/*
 * The same for @nr ranges of the request that is being executed, with the big
 * lock released for that time, so that processors can run. What it protects may
 * have changed then, save targets. -ECANCELED: the request has been dropped.
 */
int virtio_hballoon_discard_unlocked(VirtIOHBalloon *hb,
                                     const VirtIOHBalloonNode *n,
                                     const struct virtio_hballoon_range *r,
                                     uint32_t nr);

/*
 * Likewise, have the host provide memory for ranges that are held. On failure
 * it has none for them, unless the request has been dropped.
 */
int virtio_hballoon_populate_unlocked(VirtIOHBalloon *hb,
                                      const VirtIOHBalloonNode *n,
                                      const struct virtio_hballoon_range *r,
                                      uint32_t nr);

/* Have both end early: nothing is being discarded once this returns. */
void virtio_hballoon_stop_discarding(VirtIOHBalloon *hb);

/*
 * @r becomes held: those who map memory let go of it. Where they do, it is
 * discarded here; else it has been before. Returns 0 or -errno, and then it is
 * not held.
 */
int virtio_hballoon_hold(VirtIOHBalloon *hb, VirtIOHBalloonNode *n,
                         const struct virtio_hballoon_range *r);

/* @r ceases to be held. Returns 0 or -errno, and then it is held. */
int virtio_hballoon_release(VirtIOHBalloon *hb, VirtIOHBalloonNode *n,
                            const struct virtio_hballoon_range *r);

/* The same, come what may. */
void virtio_hballoon_give_back(VirtIOHBalloon *hb, VirtIOHBalloonNode *n,
                               const struct virtio_hballoon_range *r);

/* Have nobody map @r, which is held, and discard what nobody maps. */
int virtio_hballoon_discard_held(VirtIOHBalloon *hb,
                                 const VirtIOHBalloonNode *n,
                                 const struct virtio_hballoon_range *r);

/* Fill in the methods of RamDiscardManager. */
void virtio_hballoon_init_discard_class(ObjectClass *klass);

/* virtio-hballoon-request.c: the queues */
void virtio_hballoon_handle_request(VirtIODevice *vdev, VirtQueue *vq);
void virtio_hballoon_handle_status(VirtIODevice *vdev, VirtQueue *vq);
void virtio_hballoon_handle_reporting(VirtIODevice *vdev, VirtQueue *vq);

/* Nothing is discarded for the element being executed once this returns. */
void virtio_hballoon_drop_element(VirtIOHBalloon *hb);

/* virtio-hballoon-migration.c */
void virtio_hballoon_watch_migration(VirtIOHBalloon *hb, bool watch);
extern const VMStateDescription vmstate_virtio_hballoon;
extern const VMStateDescription vmstate_virtio_hballoon_device;

#endif
