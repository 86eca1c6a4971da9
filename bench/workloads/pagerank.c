// SPDX-License-Identifier: GPL-2.0
/*
 * pagerank: iterations of PageRank on an R-MAT graph; an operation is an edge
 *
 * Each vertex gathers what those have to give that have an edge to it. Edges are
 * read in order, shares all over, those of vertices with many edges most.
 */
#include "graph.h"
#include "workload.h"

#define DAMPING 0.85

static double *rank, *share;
static uint32_t *degree;	/* edges from a vertex */

static void fill(void)
{
	graph_make();
	rank = workload_alloc(NR_VERTICES * sizeof(*rank));
	share = workload_alloc(NR_VERTICES * sizeof(*share));
	degree = workload_alloc(NR_VERTICES * sizeof(*degree));
	for (uint32_t e = 0; e < NR_EDGES; e++)
		degree[edges[e]]++;
	for (uint32_t v = 0; v < NR_VERTICES; v++)
		rank[v] = 1.0 / NR_VERTICES;
}

static uint64_t iterate(void)
{
	double loose = 0;	/* of vertices without edges: shared by all */
	uint32_t v, e;

	for (v = 0; v < NR_VERTICES; v++) {
		share[v] = degree[v] ? rank[v] / degree[v] : 0;
		loose += degree[v] ? 0 : rank[v];
	}
	for (v = 0; v < NR_VERTICES; v++) {
		double got = 0;

		for (e = first[v]; e < first[v + 1]; e++)
			got += share[edges[e]];
		rank[v] = (1 - DAMPING + DAMPING * loose) / NR_VERTICES + DAMPING * got;
	}
	return NR_EDGES;
}

/* All ranks together are 1. */
static double sum(void)
{
	double all = 0;

	for (uint32_t v = 0; v < NR_VERTICES; v++)
		all += rank[v];
	return all;
}

int main(int argc, char **argv)
{
	const struct workload w = {
		.name = "pagerank", .fill = fill, .round = iterate, .check = sum,
	};

	return workload_main(&w, argc, argv);
}
