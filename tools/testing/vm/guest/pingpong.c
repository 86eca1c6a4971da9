// SPDX-License-Identifier: GPL-2.0
/*
 * pingpong: what it costs to change tasks, by the guest's clock
 *
 * pingpong COUNT
 *
 * Two processes on CPU 0 hand a byte to and fro COUNT times through pipes, for each
 * of which the CPU changes to the other one twice. Prints "pingpong ns=PER_ROUND_TRIP".
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void hand_over(int to)
{
	if (write(to, "", 1) != 1)
		die("pingpong: write");
}

/* False at the end. */
static int take_over(int from)
{
	char byte;
	ssize_t n = read(from, &byte, 1);

	if (n < 0)
		die("pingpong: read");
	return n;
}

int main(int argc, char **argv)
{
	uint64_t count = argc == 2 ? strtoull(argv[1], NULL, 0) : 0, start;
	int there[2], back[2];
	cpu_set_t set;
	pid_t pid;

	if (!count) {
		fprintf(stderr, "usage: pingpong COUNT, more than 0\n");
		return 2;
	}
	CPU_ZERO(&set);
	CPU_SET(0, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("pingpong: sched_setaffinity");
	if (pipe(there) || pipe(back))
		die("pingpong: pipe");
	pid = fork();
	if (pid < 0)
		die("pingpong: fork");
	if (!pid) {
		close(there[1]);
		while (take_over(there[0]))
			hand_over(back[1]);
		return 0;
	}
	/* Were the other one to die, this one would wait for itself. */
	close(there[0]);
	close(back[1]);
	start = now_ns();
	for (uint64_t i = 0; i < count; i++) {
		hand_over(there[1]);
		take_over(back[0]);
	}
	printf("pingpong ns=%.1f\n", (double)(now_ns() - start) / count);
	close(there[1]);
	return waitpid(pid, NULL, 0) != pid;
}
