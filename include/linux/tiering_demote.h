/* SPDX-License-Identifier: GPL-2.0 */
/*
 * HPlacement: making room on a node before it shrinks
 */
#ifndef _LINUX_TIERING_DEMOTE_H
#define _LINUX_TIERING_DEMOTE_H

/**
 * hpl_demote_node() - move the coldest memory of a node to a slower one
 * @nid: which node
 * @nr_pages: how many pages the caller would like to find free
 *
 * HPlacement does not offer this yet, so nothing is ever moved.
 *
 * Context: Process context. May sleep.
 * Return: pages that have become free.
 */
static inline unsigned long hpl_demote_node(int nid, unsigned long nr_pages)
{
	return 0;
}

#endif /* _LINUX_TIERING_DEMOTE_H */
