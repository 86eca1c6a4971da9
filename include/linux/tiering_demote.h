/* SPDX-License-Identifier: GPL-2.0 */
/*
 * HPlacement: making room on a node before it shrinks
 */
#ifndef _LINUX_TIERING_DEMOTE_H
#define _LINUX_TIERING_DEMOTE_H

#ifdef CONFIG_HPLACEMENT
unsigned long hpl_demote_node(int nid, unsigned long nr_pages);
#else
static inline unsigned long hpl_demote_node(int nid, unsigned long nr_pages)
{
	return 0;
}
#endif

#endif /* _LINUX_TIERING_DEMOTE_H */
