// SPDX-License-Identifier: GPL-2.0
/*
 * liblinear: logistic regression by liblinear-train; an operation is a nonzero of the
 * training set, visited
 *
 * The set is sparse, and few features are in most of its instances. To train is to go
 * through all of it again and again, and for each nonzero to some vectors that have
 * as many elements as there are features. The set is read first and is large; the
 * vectors are made afterwards, small, and hot.
 */
#include <errno.h>
#include <linux/mempolicy.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child.h"
#include "workload.h"

#define NR_INSTANCES	40000
#define NR_FEATURES	1000000
#define NR_NONZEROS	30	/* of an instance, at most */
#define NOISE		0.1	/* of the labels are wrong */

static struct child trainer;
static uint64_t nr_nonzeros;
static double loss;
static bool begun;

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* What a feature says of the label. */
static double weight(uint32_t feature)
{
	uint64_t state = feature;

	return random_unit(&state) - 0.5;
}

/* The one of rank r with a density ~ r^(-2/3), as of words: a cube is quickly drawn. */
static uint32_t draw_feature(const struct zipf *places)
{
	double u = workload_random_unit();

	return zipf_item(places, NR_FEATURES * u * u * u);
}

static void write_instance(FILE *file, const struct zipf *places)
{
	uint32_t features[NR_NONZEROS];
	double sum = 0;

	for (unsigned int i = 0; i < NR_NONZEROS; i++) {
		features[i] = draw_feature(places);
		sum += weight(features[i]);
	}
	qsort(features, NR_NONZEROS, sizeof(*features), compare);
	fputs((sum > 0) == (workload_random_unit() > NOISE) ? "1" : "2", file);
	for (unsigned int i = 0; i < NR_NONZEROS; i++) {
		if (i && features[i] == features[i - 1])
			continue;
		fprintf(file, " %u:1", features[i] + 1);
		nr_nonzeros++;
	}
	fputc('\n', file);
}

/* Where the set's file comes to lie: on the slow tier, if there is one, as it is read once. */
static void prefer(int mode, unsigned long nodes)
{
	if (!access("/sys/devices/system/node/node1", F_OK) &&
	    syscall(SYS_set_mempolicy, mode, mode == MPOL_DEFAULT ? NULL : &nodes, 64))
		workload_die("no memory policy: %s", strerror(errno));
}

static void make_set(const char *path)
{
	struct zipf places;
	FILE *file = fopen(path, "w");

	if (!file)
		workload_die("%s: %s", path, strerror(errno));
	zipf_init(&places, 1, NR_FEATURES);
	prefer(MPOL_PREFERRED, 1UL << 1);
	for (unsigned int i = 0; i < NR_INSTANCES; i++)
		write_instance(file, &places);
	if (fclose(file))
		workload_die("%s: %s", path, strerror(errno));
	prefer(MPOL_DEFAULT, 0);
}

/* The program says nothing when it has read the set, but closes the file. */
static void fill(void)
{
	char path[64];
	/* To a precision that it does not reach in the rounds. */
	char * const argv[] = {
		"liblinear-train", "-s", "0", "-e", "1e-9", path, "/dev/null", NULL
	};
	struct inotify_event event;
	int closed;

	snprintf(path, sizeof(path), "/tmp/liblinear-%d.set", getpid());
	make_set(path);
	closed = inotify_init1(IN_CLOEXEC);
	if (closed < 0 || inotify_add_watch(closed, path, IN_CLOSE_NOWRITE) < 0)
		workload_die("no inotify: %s", strerror(errno));
	trainer = child_start("/usr/bin/liblinear-train", "liblinear-tools", argv);
	child_read(closed, &event, sizeof(event));
	child_stop(&trainer);
	close(closed);
	unlink(path);
	workload_holds(child_bytes(&trainer));
}

/*
 * An iteration of Newton's method, which ends with a line. It takes some steps of
 * conjugate gradients (CG), each of which multiplies by the set and its transpose;
 * once more each for the loss and its gradient, and once for the diagonal.
 */
static uint64_t iterate(void)
{
	char line[256], *steps, *value;

	if (!begun && kill(trainer.pid, SIGCONT))
		workload_die("no liblinear-train: %s", strerror(errno));
	begun = true;
	do {
		child_read_line(trainer.out, line, sizeof(line));
		steps = strstr(line, " CG ");
		value = strstr(line, " f ");
	} while (strncmp(line, "iter ", 5) || !steps || !value);
	loss = strtod(value + 3, NULL);
	return nr_nonzeros * (2 * strtoul(steps + 4, NULL, 10) + 3);
}

static double reached(void)
{
	return loss;
}

int main(int argc, char **argv)
{
	const struct workload w = {
		.name = "liblinear", .fill = fill, .round = iterate, .check = reached,
	};

	return workload_main(&w, argc, argv);
}
