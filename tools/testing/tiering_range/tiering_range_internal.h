/* SPDX-License-Identifier: GPL-2.0 */
/*
 * HPlacement: userspace counterparts of what tree and policy see of the kernel
 *
 * Included before each source file by the compiler's -include. It has the guard
 * of mm/tiering_range_internal.h, whose contents are then left out, so that the
 * kernel's files are compiled as they are.
 */
#ifndef _MM_TIERING_RANGE_INTERNAL_H
#define _MM_TIERING_RANGE_INTERNAL_H

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <linux/bits.h>
#include <linux/compiler.h>
#include <linux/gfp.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/log2.h>
#include <linux/math64.h>
#include <linux/rbtree.h>
#include <linux/types.h>

#define HPL_GFP		GFP_KERNEL

#define PAGE_SHIFT	12
#define PAGE_SIZE	(1UL << PAGE_SHIFT)
#define PAGE_MASK	(~(PAGE_SIZE - 1))

#define min3(x, y, z)	min((typeof(x))min(x, y), z)
#define clamp_t(type, val, lo, hi)					\
	min_t(type, max_t(type, val, lo), hi)

static inline unsigned int __ffs64(u64 word)
{
	return __builtin_ctzll(word);
}

static inline u64 div64_u64(u64 dividend, u64 divisor)
{
	return dividend / divisor;
}

static inline u64 div_u64(u64 dividend, u32 divisor)
{
	return dividend / divisor;
}

/* The largest integer whose square is at most @x. */
static inline u32 int_sqrt64(u64 x)
{
	u64 root = 0, bit;

	for (bit = 1ULL << 31; bit; bit >>= 1)
		if ((root + bit) * (root + bit) <= x)
			root += bit;
	return root;
}

#ifndef U64_MAX
#define U64_MAX	((u64)~0ULL)
#endif

#ifndef U32_MAX
#define U32_MAX	((u32)~0U)
#endif

#define rb_entry_safe(ptr, type, member)				\
	({								\
		typeof(ptr) ____ptr = (ptr);				\
		____ptr ? rb_entry(____ptr, type, member) : NULL;	\
	})

/* What the kernel traces is seen here by looking at the tree. */
static inline void trace_hpl_split(int pid, unsigned long start,
				   unsigned long border, unsigned long end)
{
	(void)pid, (void)start, (void)border, (void)end;
}

static inline void trace_hpl_merge(int pid, unsigned long start,
				   unsigned long border, unsigned long end)
{
	(void)pid, (void)start, (void)border, (void)end;
}

/* The tests' own allocator counts what is live and fails on demand. */
void *kzalloc(size_t size, gfp_t gfp);
void kfree(void *p);

static inline void *kvcalloc(size_t n, size_t size, gfp_t gfp)
{
	return kzalloc(n * size, gfp);
}

static inline void kvfree(const void *p)
{
	kfree((void *)p);
}

/* Unlike qsort(), the kernel's sort() may be given a function for swapping. */
static inline void sort(void *base, size_t num, size_t size,
			int (*cmp)(const void *a, const void *b), void *swap)
{
	(void)swap;
	if (num)
		qsort(base, num, size, cmp);
}

#endif /* _MM_TIERING_RANGE_INTERNAL_H */
