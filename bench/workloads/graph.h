/* SPDX-License-Identifier: GPL-2.0 */
/*
 * An R-MAT graph: Chakrabarti, Zhan and Faloutsos, "R-MAT: a recursive model for
 * graph mining", SDM 2004, with the probabilities of Graph500. Few vertices have
 * most of the edges, and these are strewn among the others.
 */
#ifndef _BENCH_GRAPH_H
#define _BENCH_GRAPH_H

#include <stdint.h>

#define GRAPH_SCALE	20
#define GRAPH_DEGREE	16	/* edges of a vertex, on average */
#define NR_VERTICES	(1U << GRAPH_SCALE)
#define NR_EDGES	(NR_VERTICES * GRAPH_DEGREE)

/* Of vertex v: edges[first[v]] up to edges[first[v + 1]], exclusive; the other ends. */
extern uint32_t *edges;
extern uint32_t *first;

/* Make the graph; edges are touched before anything else. */
void graph_make(void);

#endif /* _BENCH_GRAPH_H */
