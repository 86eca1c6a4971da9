// SPDX-License-Identifier: GPL-2.0
/*
 * bfs: breadth-first searches of an R-MAT graph, each from a vertex chosen at
 * random; an operation is an edge that was followed
 */
#include <string.h>

#include "graph.h"
#include "workload.h"

static uint32_t *parent, *queue;	/* parents plus one; 0: not seen */
static uint64_t nr_seen;

static void fill(void)
{
	graph_make();
	parent = workload_alloc(NR_VERTICES * sizeof(*parent));
	queue = workload_alloc(NR_VERTICES * sizeof(*queue));
}

static uint64_t search(void)
{
	uint32_t head = 0, tail = 0, root, e;
	uint64_t followed = 0;

	do {
		root = workload_random() % NR_VERTICES;
	} while (first[root] == first[root + 1]);
	memset(parent, 0, NR_VERTICES * sizeof(*parent));
	parent[root] = root + 1;
	queue[tail++] = root;
	while (head < tail) {
		uint32_t v = queue[head++];

		for (e = first[v]; e < first[v + 1]; e++) {
			uint32_t next = edges[e];

			if (!parent[next]) {
				parent[next] = v + 1;
				queue[tail++] = next;
			}
		}
		followed += first[v + 1] - first[v];
	}
	nr_seen += tail;
	return followed;
}

static double seen(void)
{
	return nr_seen;
}

int main(int argc, char **argv)
{
	const struct workload w = {
		.name = "bfs", .fill = fill, .round = search, .check = seen,
	};

	return workload_main(&w, argc, argv);
}
