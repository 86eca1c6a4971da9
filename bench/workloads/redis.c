// SPDX-License-Identifier: GPL-2.0
/*
 * redis: requests to a redis-server by Zipf's law; an operation is a GET or a SET
 *
 * A request is a pipeline of commands, as of a page that is put together from
 * several values. Keys that are much asked for lie all over the server's memory. A
 * SET stores a new value and frees the old one, so that hot values move about.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "child.h"
#include "workload.h"

#define NR_KEYS		112000	/* key:0 and so on */
#define EXPONENT	0.99
#define VALUE_BYTES	1018	/* with the header of a string 1024, of which four fill a page */
#define PIPELINE	8	/* commands of a request */
#define SET_PERCENT	5	/* of the commands, as in YCSB's workload B */
#define NR_REQUESTS	1500	/* of a round */

#define TEXT_OF(x)	#x
#define TEXT(x)		TEXT_OF(x)
#define POPULATE	"DEBUG POPULATE " TEXT(NR_KEYS) " key " TEXT(VALUE_BYTES) "\r\n"
#define GET		"*2\r\n$3\r\nGET\r\n$%d\r\nkey:%lu\r\n"
#define SET		"*3\r\n$3\r\nSET\r\n$%d\r\nkey:%lu\r\n$1018\r\n"
#define GOT		"$1018\r\n"
#define STORED		"+OK\r\n"
#define COMMAND_BYTES	(VALUE_BYTES + 64)	/* a command or an answer, no longer than that */

struct command {
	uint64_t key;
	bool set;
};

static struct child server;
static struct zipf zipf;
static int connection;
static uint64_t nr_answered;

/* What DEBUG POPULATE stores for a key. */
static size_t put_value(char *to, uint64_t key)
{
	memset(to, 0, VALUE_BYTES);
	sprintf(to, "value:%lu", key);
	memcpy(to + VALUE_BYTES, "\r\n", 2);
	return VALUE_BYTES + 2;
}

static size_t put_command(char *to, const struct command *c)
{
	int digits = snprintf(NULL, 0, "%lu", c->key);
	size_t length = sprintf(to, c->set ? SET : GET, 4 + digits, c->key);

	return c->set ? length + put_value(to + length, c->key) : length;
}

static size_t put_answer(char *to, const struct command *c)
{
	size_t length = strlen(c->set ? STORED : GOT);

	memcpy(to, c->set ? STORED : GOT, length);
	return c->set ? length : length + put_value(to + length, c->key);
}

/* Have the server execute all, and see that its answers are right; how long it took. */
static double request(const struct command *commands, unsigned int nr)
{
	static char asked[PIPELINE * COMMAND_BYTES], right[sizeof(asked)];
	size_t nr_asked = 0, nr_right = 0;
	double start;

	for (unsigned int i = 0; i < nr; i++) {
		nr_asked += put_command(asked + nr_asked, &commands[i]);
		nr_right += put_answer(right + nr_right, &commands[i]);
	}
	start = workload_now();
	child_write(connection, asked, nr_asked);
	child_expect(connection, right, nr_right);
	nr_answered += nr;
	return workload_now() - start;
}

static void connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	strcpy(address.sun_path, path);
	connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connection < 0 || connect(connection, (struct sockaddr *)&address, sizeof(address)))
		workload_die("no connection to %s: %s", path, strerror(errno));
}

static void fill(void)
{
	char line[256], path[64];
	/* Debian's server is the same file as the tool that checks dumps: it goes by its name. */
	char * const argv[] = {
		"redis-server", "--port", "0", "--unixsocket", path, "--save", "",
		"--dir", "/tmp", "--enable-debug-command", "local", NULL
	};

	snprintf(path, sizeof(path), "/tmp/redis-%d.sock", getpid());
	server = child_start("/usr/bin/redis-check-rdb", "redis-tools", argv);
	do
		child_read_line(server.out, line, sizeof(line));
	while (!strstr(line, "eady to accept connections"));
	connect_to(path);
	unlink(path);
	child_write(connection, POPULATE, strlen(POPULATE));
	child_expect(connection, STORED, strlen(STORED));
	workload_holds(child_bytes(&server));
	zipf_init(&zipf, EXPONENT, NR_KEYS);
}

static uint64_t requests(void)
{
	for (unsigned int n = 0; n < NR_REQUESTS; n++) {
		struct command commands[PIPELINE];

		for (unsigned int i = 0; i < PIPELINE; i++) {
			commands[i].key = zipf_item(&zipf, zipf_rank(&zipf, &workload_seed));
			commands[i].set = workload_random() % 100 < SET_PERCENT;
		}
		workload_request(request(commands, PIPELINE));
	}
	return NR_REQUESTS * PIPELINE;
}

static double answered(void)
{
	return nr_answered;
}

int main(int argc, char **argv)
{
	const struct workload w = {
		.name = "redis", .fill = fill, .round = requests, .check = answered,
	};

	return workload_main(&w, argc, argv);
}
