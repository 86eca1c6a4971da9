/* SPDX-License-Identifier: GPL-2.0 */
/*
 * HPlacement: processes that are left alone
 */
#ifndef _LINUX_TIERING_OPTOUT_H
#define _LINUX_TIERING_OPTOUT_H

#include <linux/bits.h>
#include <linux/errno.h>

/* Of mm->flags the highest bit: those of upstream count from the lowest. */
#define MMF_HPL_LEAVE	(BITS_PER_LONG - 1)

#ifdef CONFIG_HPLACEMENT
int hpl_prctl(int option, unsigned long how, unsigned long others);

/* What a new address space has of the flags of the one that made it. */
static inline unsigned long hpl_init_flags(unsigned long flags)
{
	return flags & BIT(MMF_HPL_LEAVE);
}
#else
static inline int hpl_prctl(int option, unsigned long how, unsigned long others)
{
	return -EINVAL;
}

static inline unsigned long hpl_init_flags(unsigned long flags)
{
	return 0;
}
#endif

#endif /* _LINUX_TIERING_OPTOUT_H */
