// SPDX-License-Identifier: GPL-2.0
/* A program of the system, run by a driver; see child.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "workload.h"

struct child child_start(const char *path, const char *package, char *const argv[])
{
	struct child child;
	int in[2], out[2];

	if (access(path, X_OK))
		workload_die("%s: %s: install the package %s", path, strerror(errno), package);
	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		workload_die("no pipe: %s", strerror(errno));
	fflush(stdout);
	child.pid = fork();
	if (child.pid < 0)
		workload_die("no process: %s", strerror(errno));
	if (!child.pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		execv(path, argv);
		workload_die("%s: %s", path, strerror(errno));
	}
	close(in[0]);
	close(out[1]);
	child.in = in[1];
	child.out = out[0];
	signal(SIGPIPE, SIG_IGN);
	return child;
}

void child_write(int fd, const void *data, size_t bytes)
{
	while (bytes) {
		ssize_t done = write(fd, data, bytes);

		if (done < 0)
			workload_die("the program takes no more requests: %s", strerror(errno));
		data = (const char *)data + done;
		bytes -= done;
	}
}

static size_t read_some(int fd, void *data, size_t bytes)
{
	ssize_t done = read(fd, data, bytes);

	if (done <= 0)
		workload_die("the program answers no more: %s",
			     done ? strerror(errno) : "it has ended");
	return done;
}

void child_read(int fd, void *data, size_t bytes)
{
	while (bytes) {
		size_t done = read_some(fd, data, bytes);

		data = (char *)data + done;
		bytes -= done;
	}
}

/* At once, as a wrong answer may be shorter, and the rest would never come. */
void child_expect(int fd, const void *right, size_t bytes)
{
	char got[16384];

	while (bytes) {
		size_t done = read_some(fd, got, bytes < sizeof(got) ? bytes : sizeof(got));

		if (memcmp(got, right, done))
			workload_die("the program answers '%.*s' instead of '%.*s'",
				     (int)(done < 60 ? done : 60), got,
				     (int)(done < 60 ? done : 60), (const char *)right);
		right = (const char *)right + done;
		bytes -= done;
	}
}

void child_read_line(int fd, char *line, size_t size)
{
	size_t length = 0;
	char c;

	for (;;) {
		child_read(fd, &c, 1);
		if (c == '\n')
			break;
		if (length + 1 < size)
			line[length++] = c;
	}
	line[length] = '\0';
}

void child_stop(const struct child *child)
{
	int status;

	if (kill(child->pid, SIGSTOP) || waitpid(child->pid, &status, WUNTRACED) != child->pid ||
	    !WIFSTOPPED(status))
		workload_die("the program has ended before its time");
}

size_t child_bytes(const struct child *child)
{
	char path[64], line[256];
	size_t kib = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", child->pid);
	file = fopen(path, "r");
	if (!file)
		workload_die("%s: %s", path, strerror(errno));
	while (!kib && fgets(line, sizeof(line), file))
		sscanf(line, "RssAnon: %zu", &kib);
	fclose(file);
	return kib << 10;
}
