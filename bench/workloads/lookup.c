// SPDX-License-Identifier: GPL-2.0
/*
 * lookup: cross sections of materials at random energies, as a Monte Carlo code
 * for neutrons needs them; an operation is a lookup
 *
 * Each nuclide has a table of its own, of rising energies. One grid of all their
 * energies has for each of them where it lies in each table. A lookup searches the
 * grid, reads a row of it, and interpolates in the tables of what the material is
 * made of. The grid is large and each row of it cold; the tables are small and hot.
 */
#include <stdlib.h>

#include "workload.h"

#define NR_NUCLIDES	64
#define NR_POINTS	8192	/* of a table */
#define NR_ENERGIES	(NR_NUCLIDES * NR_POINTS)
#define NR_REACTIONS	5
#define NR_MATERIALS	12
#define NR_LOOKUPS	200000UL

struct point {
	double energy;
	double section[NR_REACTIONS];
};

struct material {
	unsigned int nr;
	unsigned int nuclide[NR_NUCLIDES];
};

static double *energies;
static uint32_t (*rows)[NR_NUCLIDES];
static struct point (*tables)[NR_POINTS];
static struct material materials[NR_MATERIALS];
static double total;

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int compare_points(const void *a, const void *b)
{
	return compare(&((const struct point *)a)->energy, &((const struct point *)b)->energy);
}

/* The first material is fuel, of half of all nuclides; the others have few. */
static void make_materials(void)
{
	for (unsigned int m = 0; m < NR_MATERIALS; m++) {
		materials[m].nr = m ? 2 + m : NR_NUCLIDES / 2;
		for (unsigned int i = 0; i < materials[m].nr; i++)
			materials[m].nuclide[i] = m ? workload_random() % NR_NUCLIDES : i;
	}
}

static void make_rows(void)
{
	uint32_t at[NR_NUCLIDES] = { 0 };

	for (unsigned int e = 0; e < NR_ENERGIES; e++) {
		for (unsigned int n = 0; n < NR_NUCLIDES; n++) {
			while (at[n] < NR_POINTS - 2 && tables[n][at[n] + 1].energy <= energies[e])
				at[n]++;
			rows[e][n] = at[n];
		}
	}
}

static void fill(void)
{
	rows = workload_alloc(NR_ENERGIES * sizeof(*rows));
	energies = workload_alloc(NR_ENERGIES * sizeof(*energies));
	tables = workload_alloc(NR_NUCLIDES * sizeof(*tables));
	for (unsigned int n = 0; n < NR_NUCLIDES; n++) {
		for (unsigned int i = 0; i < NR_POINTS; i++) {
			tables[n][i].energy = workload_random_unit();
			for (unsigned int r = 0; r < NR_REACTIONS; r++)
				tables[n][i].section[r] = workload_random_unit();
		}
		qsort(tables[n], NR_POINTS, sizeof(**tables), compare_points);
		for (unsigned int i = 0; i < NR_POINTS; i++)
			energies[n * NR_POINTS + i] = tables[n][i].energy;
	}
	qsort(energies, NR_ENERGIES, sizeof(*energies), compare);
	make_rows();
	make_materials();
}

/* The last energy that is not above @energy, or the first. */
static unsigned int find(double energy)
{
	unsigned int low = 0, high = NR_ENERGIES;

	while (high - low > 1) {
		unsigned int middle = (low + high) / 2;

		if (energies[middle] > energy)
			high = middle;
		else
			low = middle;
	}
	return low;
}

static void look_up(const struct material *m, double energy, double *sum)
{
	const uint32_t *row = rows[find(energy)];

	for (unsigned int i = 0; i < m->nr; i++) {
		const struct point *p = &tables[m->nuclide[i]][row[m->nuclide[i]]];
		double part = (energy - p[0].energy) / (p[1].energy - p[0].energy);

		for (unsigned int r = 0; r < NR_REACTIONS; r++)
			sum[r] += p[0].section[r] + part * (p[1].section[r] - p[0].section[r]);
	}
}

static uint64_t look_ups(void)
{
	for (unsigned long i = 0; i < NR_LOOKUPS; i++) {
		double sum[NR_REACTIONS] = { 0 };
		double energy = workload_random_unit();
		uint64_t r = workload_random();

		/* A third of the time in fuel. */
		look_up(&materials[r % 3 ? 1 + (r >> 32) % (NR_MATERIALS - 1) : 0], energy, sum);
		total += sum[i % NR_REACTIONS];
	}
	return NR_LOOKUPS;
}

static double result(void)
{
	return total;
}

int main(int argc, char **argv)
{
	const struct workload w = {
		.name = "lookup", .fill = fill, .round = look_ups, .check = result,
	};

	return workload_main(&w, argc, argv);
}
