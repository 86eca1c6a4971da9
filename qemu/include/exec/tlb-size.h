/*
 * Fixed size of the software TLB: -accel tcg,tlb-size=N
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef EXEC_TLB_SIZE_H
#define EXEC_TLB_SIZE_H

#include "qom/object.h"

/**
 * tlb_size_fixed: entries of each mmu index's software TLB
 *
 * Returns: the fixed number of entries, a power of two, or 0 where the size
 * follows use, as it does by default.
 */
size_t tlb_size_fixed(void);

/**
 * tlb_size_set_default: fix the size where the user has not chosen one
 * @entries: number of entries, a power of two within the supported range
 *
 * To be called before the first CPU is realized.
 */
void tlb_size_set_default(size_t entries);

/**
 * tlb_size_class_init: add property "tlb-size" to the TCG accelerator
 * @oc: class of the accelerator
 */
void tlb_size_class_init(ObjectClass *oc);

#endif /* EXEC_TLB_SIZE_H */
