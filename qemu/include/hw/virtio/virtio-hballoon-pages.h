/*
 * HBalloon: the set of pages that a guest has given
 *
 * A set and nothing else: it knows no device and no memory. Offsets and
 * lengths are bytes, multiples of VIRTIO_HBALLOON_PAGE_SIZE and within the set;
 * the fields of ranges are in host byte order.
 *
 * This work is licensed under the terms of the GNU GPL, version 2 or later.
 * See the COPYING file in the top-level directory.
 */

#ifndef HW_VIRTIO_HBALLOON_PAGES_H
#define HW_VIRTIO_HBALLOON_PAGES_H

#include "standard-headers/linux/virtio_hballoon.h"

typedef struct HBalloonPages {
    unsigned long *bitmap;      /* set: the guest has given the page */
    int32_t nr;                 /* bits of bitmap */
    uint64_t held;              /* bytes that are set */
} HBalloonPages;

/* An empty set of the pages of @size bytes. False if there is no memory. */
bool hballoon_pages_init(HBalloonPages *p, uint64_t size);
void hballoon_pages_destroy(HBalloonPages *p);

/* Set @held by what @bitmap says, which others have written. */
void hballoon_pages_recount(HBalloonPages *p);

/* Are all pages of the range held? Without @held: is none of them? */
bool hballoon_pages_all(const HBalloonPages *p, uint64_t offset, uint64_t len,
                        bool held);

/* All of the range, which is of the other state, becomes held, or not held. */
void hballoon_pages_mark(HBalloonPages *p,
                         const struct virtio_hballoon_range *r, bool held);

/*
 * The same for @nr ranges, each of which must be of the other state still: so
 * one that overlaps another is noticed. False if one is not, with nothing
 * marked.
 */
bool hballoon_pages_mark_all(HBalloonPages *p,
                             const struct virtio_hballoon_range *r,
                             uint32_t nr, bool held);

/*
 * The first run of pages that are held, or that are not, in [@offset, @end).
 * False if there is none.
 */
bool hballoon_pages_next(const HBalloonPages *p, uint64_t offset, uint64_t end,
                         bool held, struct virtio_hballoon_range *run);

/*
 * Join neighbours, in the order given or its reverse: a discard costs a system
 * call, and less per byte the larger it is. Returns how many ranges are left.
 */
uint32_t hballoon_ranges_join(struct virtio_hballoon_range *r, uint32_t nr);

#endif
