/*
 * HBalloon: the set of pages that a guest has given
 *
 * This work is licensed under the terms of the GNU GPL, version 2 or later.
 * See the COPYING file in the top-level directory.
 */

#include "qemu/osdep.h"
#include "qemu/bitmap.h"
#include "hw/virtio/virtio-hballoon-pages.h"

#define PAGE VIRTIO_HBALLOON_PAGE_SIZE

bool hballoon_pages_init(HBalloonPages *p, uint64_t size)
{
    p->nr = size / PAGE;
    p->held = 0;
    p->bitmap = bitmap_try_new(p->nr);
    return p->bitmap;
}

void hballoon_pages_destroy(HBalloonPages *p)
{
    g_free(p->bitmap);
    p->bitmap = NULL;
}

void hballoon_pages_recount(HBalloonPages *p)
{
    p->held = (uint64_t)slow_bitmap_count_one(p->bitmap, p->nr) * PAGE;
}

bool hballoon_pages_all(const HBalloonPages *p, uint64_t offset, uint64_t len,
                        bool held)
{
    unsigned long start = offset / PAGE;
    unsigned long end = start + len / PAGE;

    return held ? find_next_zero_bit(p->bitmap, end, start) >= end
                : find_next_bit(p->bitmap, end, start) >= end;
}

void hballoon_pages_mark(HBalloonPages *p,
                         const struct virtio_hballoon_range *r, bool held)
{
    if (held) {
        bitmap_set(p->bitmap, r->addr / PAGE, r->len / PAGE);
        p->held += r->len;
    } else {
        bitmap_clear(p->bitmap, r->addr / PAGE, r->len / PAGE);
        p->held -= r->len;
    }
}

bool hballoon_pages_mark_all(HBalloonPages *p,
                             const struct virtio_hballoon_range *r,
                             uint32_t nr, bool held)
{
    uint32_t i;

    for (i = 0; i < nr; i++) {
        if (!hballoon_pages_all(p, r[i].addr, r[i].len, !held)) {
            while (i-- > 0) {
                hballoon_pages_mark(p, &r[i], !held);
            }
            return false;
        }
        hballoon_pages_mark(p, &r[i], held);
    }
    return true;
}

bool hballoon_pages_next(const HBalloonPages *p, uint64_t offset, uint64_t end,
                         bool held, struct virtio_hballoon_range *run)
{
    unsigned long size = end / PAGE, start, stop;

    if (held) {
        start = find_next_bit(p->bitmap, size, offset / PAGE);
        stop = find_next_zero_bit(p->bitmap, size, start);
    } else {
        start = find_next_zero_bit(p->bitmap, size, offset / PAGE);
        stop = find_next_bit(p->bitmap, size, start);
    }
    if (start >= size) {
        return false;
    }
    run->addr = (uint64_t)start * PAGE;
    run->len = (uint64_t)(stop - start) * PAGE;
    return true;
}

uint32_t hballoon_ranges_join(struct virtio_hballoon_range *r, uint32_t nr)
{
    uint32_t last = 0, i;

    for (i = 1; i < nr; i++) {
        if (r[last].addr + r[last].len == r[i].addr) {
            r[last].len += r[i].len;
        } else if (r[i].addr + r[i].len == r[last].addr) {
            r[last].addr = r[i].addr;
            r[last].len += r[i].len;
        } else {
            r[++last] = r[i];
        }
    }
    return last + 1;
}
