// SPDX-License-Identifier: GPL-2.0
/*
 * sqlite: queries of a table in the memory of sqlite3's shell; an operation is a row
 *
 * A request is a query for some rows by their keys, each of which the shell looks
 * up in the table's B-tree. Keys are drawn by Zipf's law, and those that are much
 * asked for lie all over the tree. Its inner pages are few, and hot.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "child.h"
#include "workload.h"

#define NR_KEYS		104000
#define EXPONENT	0.99
#define VALUE_BYTES	1000	/* four rows fill a page */
#define KEY_DIGITS	6
#define NR_ROWS		8	/* of a request */
#define NR_REQUESTS	1000	/* of a round */

static struct child shell;
static struct zipf zipf;
static uint64_t nr_rows;

static void fill(void)
{
	static char * const argv[] = { "sqlite3", "-batch", "-bail", ":memory:", NULL };
	char text[512 + VALUE_BYTES], rest[VALUE_BYTES - KEY_DIGITS + 1] = "", line[256];

	memset(rest, 'v', sizeof(rest) - 1);
	shell = child_start("/usr/bin/sqlite3", "sqlite3", argv);
	child_write(shell.in, text, sprintf(text,
		"CREATE TABLE t(k INTEGER PRIMARY KEY, v TEXT);\n"
		"WITH RECURSIVE n(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM n WHERE k < %u)\n"
		"INSERT INTO t SELECT k, printf('%%0*d', %u, k) || '%s' FROM n;\n"
		"SELECT 'filled';\n", NR_KEYS - 1, KEY_DIGITS, rest));
	child_read_line(shell.out, line, sizeof(line));
	if (strcmp(line, "filled"))
		workload_die("sqlite3 says '%s' instead of 'filled'", line);
	workload_holds(child_bytes(&shell));
	zipf_init(&zipf, EXPONENT, NR_KEYS);
}

/* Rows come in the order of their keys, and each of them once. */
static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static unsigned int draw_keys(uint32_t *keys)
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < NR_ROWS; i++)
		keys[i] = zipf_item(&zipf, zipf_rank(&zipf, &workload_seed));
	qsort(keys, NR_ROWS, sizeof(*keys), compare);
	for (unsigned int i = 0; i < NR_ROWS; i++) {
		if (!nr || keys[i] != keys[nr - 1])
			keys[nr++] = keys[i];
	}
	return nr;
}

static size_t put_query(char *to, const uint32_t *keys, unsigned int nr)
{
	size_t length = sprintf(to, "SELECT v FROM t WHERE k IN (");

	for (unsigned int i = 0; i < nr; i++)
		length += sprintf(to + length, "%u,", keys[i]);
	return length - 1 + sprintf(to + length - 1, ");\n");
}

/* A row begins with its key. */
static uint32_t key_of(const char *row)
{
	uint32_t key = 0;

	for (unsigned int i = 0; i < KEY_DIGITS; i++)
		key = key * 10 + row[i] - '0';
	return key;
}

static uint64_t queries(void)
{
	uint64_t before = nr_rows;

	for (unsigned int n = 0; n < NR_REQUESTS; n++) {
		char query[64 + 11 * NR_ROWS], rows[NR_ROWS * (VALUE_BYTES + 1)];
		uint32_t keys[NR_ROWS];
		unsigned int nr = draw_keys(keys);
		size_t length = put_query(query, keys, nr);
		double start = workload_now();

		child_write(shell.in, query, length);
		child_read(shell.out, rows, nr * (VALUE_BYTES + 1));
		workload_request(workload_now() - start);
		for (unsigned int i = 0; i < nr; i++) {
			if (key_of(&rows[i * (VALUE_BYTES + 1)]) != keys[i])
				workload_die("sqlite3 has no right answer to %s", query);
		}
		nr_rows += nr;
	}
	return nr_rows - before;
}

static double rows(void)
{
	return nr_rows;
}

int main(int argc, char **argv)
{
	const struct workload w = {
		.name = "sqlite", .fill = fill, .round = queries, .check = rows,
	};

	return workload_main(&w, argc, argv);
}
