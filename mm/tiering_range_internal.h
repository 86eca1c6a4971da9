/* SPDX-License-Identifier: GPL-2.0 */
/*
 * HPlacement: the only list of headers that tree and policy see
 *
 * tools/testing/tiering_range/ has a file of the same name with the userspace
 * counterparts, so that the same source is tested and fuzzed on the host.
 */
#ifndef _MM_TIERING_RANGE_INTERNAL_H
#define _MM_TIERING_RANGE_INTERNAL_H

#include <linux/bitops.h>
#include <linux/bits.h>
#include <linux/bug.h>
#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/limits.h>
#include <linux/log2.h>
#include <linux/math.h>
#include <linux/math64.h>
#include <linux/minmax.h>
#include <linux/rbtree.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/string.h>
#include <linux/types.h>

#include <trace/events/tiering_range.h>

#include <asm/page.h>

/* HPlacement can do without: it neither kills for memory nor complains. */
#define HPL_GFP	(GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN)

#endif /* _MM_TIERING_RANGE_INTERNAL_H */
