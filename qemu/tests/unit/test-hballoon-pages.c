/*
 * Unit test of the set of pages that an HBalloon guest has given
 *
 * This work is licensed under the terms of the GNU GPL, version 2 or later.
 * See the COPYING file in the top-level directory.
 */

#include "qemu/osdep.h"
#include "hw/virtio/virtio-hballoon-pages.h"

#define PAGE VIRTIO_HBALLOON_PAGE_SIZE
/* More than two words of the bitmap, and not a multiple of one. */
#define NR 200

static struct virtio_hballoon_range range(uint64_t page, uint64_t nr)
{
    return (struct virtio_hballoon_range) { page * PAGE, nr * PAGE };
}

/* The set is as @model says: by its count, page by page and run by run. */
static void assert_is(const HBalloonPages *p, const bool *model)
{
    struct virtio_hballoon_range run;
    uint64_t held = 0, at = 0;
    unsigned i, start = 0, state, stop;

    for (i = 0; i < NR; i++) {
        g_assert_true(hballoon_pages_all(p, i * PAGE, PAGE, model[i]));
        g_assert_false(hballoon_pages_all(p, i * PAGE, PAGE, !model[i]));
        held += model[i] ? PAGE : 0;
    }
    g_assert_cmpuint(p->held, ==, held);
    for (state = 0; state < 2; state++) {
        for (at = 0, start = 0; ; start = stop, at = stop * (uint64_t)PAGE) {
            while (start < NR && model[start] != state) {
                start++;
            }
            for (stop = start; stop < NR && model[stop] == state; stop++) {
                continue;
            }
            if (start == NR) {
                g_assert_false(hballoon_pages_next(p, at, NR * PAGE, state,
                                                   &run));
                break;
            }
            g_assert_true(hballoon_pages_next(p, at, NR * PAGE, state, &run));
            g_assert_cmpuint(run.addr, ==, start * PAGE);
            g_assert_cmpuint(run.len, ==, (stop - start) * PAGE);
        }
    }
}

static void test_random(void)
{
    bool model[NR] = {}, want[NR];
    struct virtio_hballoon_range r[4];
    HBalloonPages p;
    unsigned i, j, k, nr, nr_done = 0, nr_refused = 0;

    g_assert_true(hballoon_pages_init(&p, NR * PAGE));
    for (i = 0; i < 20000; i++) {
        bool held = g_test_rand_bit();
        bool valid = true;

        memcpy(want, model, sizeof(want));
        nr = g_test_rand_int_range(1, G_N_ELEMENTS(r) + 1);
        for (j = 0; j < nr; j++) {
            unsigned start = g_test_rand_int_range(0, NR);
            unsigned len = g_test_rand_int_range(1, MIN(NR - start, 3) + 1);

            r[j] = range(start, len);
            for (k = start; k < start + len; k++) {
                valid &= want[k] != held;
                want[k] = held;
            }
        }
        g_assert_true(hballoon_pages_mark_all(&p, r, nr, held) == valid);
        if (valid) {
            memcpy(model, want, sizeof(model));
            nr_done++;
        } else {
            nr_refused++;
        }
        assert_is(&p, model);
    }
    g_assert_cmpuint(nr_done, >, 500);
    g_assert_cmpuint(nr_refused, >, 500);

    p.held = 0;
    hballoon_pages_recount(&p);
    assert_is(&p, model);
    hballoon_pages_destroy(&p);
}

/* A run is cut at the end that is asked for. */
static void test_next_in_part(void)
{
    struct virtio_hballoon_range r = range(10, 20);
    HBalloonPages p;

    g_assert_true(hballoon_pages_init(&p, NR * PAGE));
    hballoon_pages_mark(&p, &r, true);
    g_assert_true(hballoon_pages_next(&p, 15 * PAGE, 25 * PAGE, true, &r));
    g_assert_cmpuint(r.addr, ==, 15 * PAGE);
    g_assert_cmpuint(r.len, ==, 10 * PAGE);
    g_assert_false(hballoon_pages_next(&p, 15 * PAGE, 25 * PAGE, false, &r));
    g_assert_false(hballoon_pages_next(&p, 30 * PAGE, NR * PAGE, true, &r));
    g_assert_false(hballoon_pages_next(&p, NR * PAGE, NR * PAGE, false, &r));
    hballoon_pages_destroy(&p);
}

static void test_join(void)
{
    struct virtio_hballoon_range r[] = {
        range(10, 2), range(12, 1),             /* up */
        range(40, 4), range(36, 4), range(35, 1),   /* down */
        range(50, 1), range(52, 1),             /* apart */
    };

    g_assert_cmpuint(hballoon_ranges_join(r, G_N_ELEMENTS(r)), ==, 4);
    g_assert_cmpuint(r[0].addr, ==, 10 * PAGE);
    g_assert_cmpuint(r[0].len, ==, 3 * PAGE);
    g_assert_cmpuint(r[1].addr, ==, 35 * PAGE);
    g_assert_cmpuint(r[1].len, ==, 9 * PAGE);
    g_assert_cmpuint(r[3].addr, ==, 52 * PAGE);
    g_assert_cmpuint(hballoon_ranges_join(r, 1), ==, 1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hballoon-pages/random", test_random);
    g_test_add_func("/hballoon-pages/next-in-part", test_next_in_part);
    g_test_add_func("/hballoon-pages/join", test_join);
    return g_test_run();
}
