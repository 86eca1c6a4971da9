/*
 * Fixed size of the software TLB: -accel tcg,tlb-size=N
 *
 * By default the TLB grows and shrinks with use over windows of host time, so
 * the moments at which it forgets a page, and the guest's page tables are
 * walked and marked accessed again, differ from run to run.  A fixed size makes
 * them a function of the guest alone.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "exec/tlb-size.h"
#include "tb-internal.h"

static uint32_t tlb_size;
static bool tlb_size_chosen;

size_t tlb_size_fixed(void)
{
    return tlb_size;
}

void tlb_size_set_default(size_t entries)
{
    if (!tlb_size_chosen) {
        tlb_size = entries;
    }
}

static void tlb_size_get(Object *obj, Visitor *v, const char *name,
                         void *opaque, Error **errp)
{
    uint32_t value = tlb_size;

    visit_type_uint32(v, name, &value, errp);
}

static void tlb_size_set(Object *obj, Visitor *v, const char *name,
                         void *opaque, Error **errp)
{
    const uint32_t min = 1 << CPU_TLB_DYN_MIN_BITS;
    const uint32_t max = 1 << CPU_TLB_DYN_MAX_BITS;
    uint32_t value;

    if (!visit_type_uint32(v, name, &value, errp)) {
        return;
    }
    if (value && (!is_power_of_2(value) || value < min || value > max)) {
        error_setg(errp, "Property '%s' is %" PRIu32 ", but must be 0 (size "
                   "follows use) or a power of two from %" PRIu32 " to %"
                   PRIu32, name, value, min, max);
        return;
    }
    tlb_size = value;
    tlb_size_chosen = true;
}

void tlb_size_class_init(ObjectClass *oc)
{
    object_class_property_add(oc, "tlb-size", "uint32", tlb_size_get,
                              tlb_size_set, NULL, NULL);
    object_class_property_set_description(oc, "tlb-size",
        "Entries of the software TLB, a power of two (0: follows use)");
}
