// SPDX-License-Identifier: GPL-2.0
/* An R-MAT graph; see graph.h. */
#include "graph.h"
#include "workload.h"

uint32_t *edges, *first;

/* Names of vertices have nothing to do with their degrees: a bijection of GRAPH_SCALE bits. */
static uint32_t shuffle(uint32_t v)
{
	v = (v + 1) * 0x9e3779b1U & (NR_VERTICES - 1);
	v ^= v >> GRAPH_SCALE / 2;
	v = v * 0x85ebca6bU & (NR_VERTICES - 1);
	return v ^ v >> GRAPH_SCALE / 2;
}

/*
 * Both ends of an edge, a bit of each at a time: with 57% neither is set, with 19%
 * either, with 5% both. A random number has four bits' worth of 16 bits.
 */
static void edge(uint32_t *from, uint32_t *to)
{
	uint64_t r = 0;

	*from = 0;
	*to = 0;
	for (unsigned int bit = 0; bit < GRAPH_SCALE; bit++) {
		uint32_t draw;

		if (bit % 4 == 0)
			r = workload_random();
		draw = r & 0xffff;
		r >>= 16;
		*from = *from << 1 | (draw >= 49807);			/* 76% */
		*to = *to << 1 | ((draw >= 37356 && draw < 49807) || draw >= 62259);
	}
	*from = shuffle(*from);
	*to = shuffle(*to);
}

/* By counting sort; ends are kept meanwhile, so that they are drawn once. */
void graph_make(void)
{
	uint32_t *ends, i;

	edges = workload_alloc(NR_EDGES * sizeof(*edges));
	first = workload_alloc((NR_VERTICES + 1) * sizeof(*first));
	ends = workload_alloc(2UL * NR_EDGES * sizeof(*ends));
	for (i = 0; i < NR_EDGES; i++) {
		edge(&ends[2 * i], &ends[2 * i + 1]);
		first[ends[2 * i]]++;
	}
	for (i = 1; i <= NR_VERTICES; i++)
		first[i] += first[i - 1];
	for (i = 0; i < NR_EDGES; i++)
		edges[--first[ends[2 * i]]] = ends[2 * i + 1];
	workload_free(ends, 2UL * NR_EDGES * sizeof(*ends));
}
