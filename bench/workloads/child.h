/* SPDX-License-Identifier: GPL-2.0 */
/* A program of the system whose memory is placed, run by a driver that asks it. */
#ifndef _BENCH_CHILD_H
#define _BENCH_CHILD_H

#include <stddef.h>
#include <sys/types.h>

/**
 * struct child - a running program; it ends with its driver
 * @pid: of the process
 * @in: its standard input, to be written to
 * @out: its standard output, to be read from
 */
struct child {
	pid_t pid;
	int in;
	int out;
};

/*
 * Run the file @path with @argv. What is missing or fails ends the driver, here
 * and below; @package: of Debian, has the file.
 */
struct child child_start(const char *path, const char *package, char *const argv[]);

/* Write or read all of it; the other side is @path's. */
void child_write(int fd, const void *data, size_t bytes);
void child_read(int fd, void *data, size_t bytes);

/* Read what has to be @right. */
void child_expect(int fd, const void *right, size_t bytes);

/* Read one line, without its end; what does not fit @line is left out. */
void child_read_line(int fd, char *line, size_t size);

/* Stop it, until it is sent SIGCONT. */
void child_stop(const struct child *child);

/* Its anonymous memory. */
size_t child_bytes(const struct child *child);

#endif /* _BENCH_CHILD_H */
