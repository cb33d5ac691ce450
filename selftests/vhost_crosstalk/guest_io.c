// SPDX-License-Identifier: GPL-2.0
/*
 * Runs in the guests of test_guests.sh: known data in files, over TCP and over
 * UDP, and checks of it.  Linked statically, for the guests' initramfs.
 *
 *   fill FILE MB SEED              make a file of known data
 *   check FILE MB SEED             compare it
 *   send HOST PORT FILE            a file by TCP
 *   recv PORT FILE [GATE]          one file by TCP; with GATE, nothing is read
 *                                  from the connection before that file exists
 *   stream HOST PORT UNTIL SEED    known data by TCP
 *   verify PORT SEED               compare such a stream
 *   blast HOST PORT UNTIL PPS      numbered datagrams of several sizes
 *   sink PORT SECONDS              check them, until none come for SECONDS
 *   churn MB UNTIL SEED            write pages at random and compare them, in
 *                                  memory that is given back now and then
 *   tag MB SEED                    leave free memory behind that is full of one
 *                                  word
 *   walk MB SECONDS                visit pages at random; how many a second
 *
 * HOST is an IPv4 or IPv6 address, UNTIL a number of seconds or the name of a
 * file that somebody will make.
 */

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "vpeer.h"

#define CHUNK (256 << 10)
#define RECEIVE_BUFFER (16 << 20)
#define PAGE_SIZE 4096
#define PAGE_WORDS (PAGE_SIZE / 8)

/* How long a peer may be away: it may be rebooting, under emulation. */
#define PATIENCE_MS (300 * 1000)

static u64 buffer[CHUNK / 8];
static u64 expected[CHUNK / 8];

/* Word @i of the data with this seed: any part can be made without the rest. */
static u64 word(u64 seed, u64 i)
{
	u64 x = (i + 1) * 0x9e3779b97f4a7c15ull ^ seed << 32;

	x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9ull;
	return x ^ x >> 32;
}

/* Makes the chunk of data that begins at @offset, a multiple of 8. */
static void make(u64 *to, u64 offset, u64 seed)
{
	u64 i;

	for (i = 0; i < CHUNK / 8; i++)
		to[i] = word(seed, offset / 8 + i);
}

static void compare(const void *data, const void *wanted, size_t len,
		    u64 offset, const char *what)
{
	const u8 *a = data, *b = wanted;
	size_t i = 0;

	if (!memcmp(a, b, len))
		return;
	while (a[i] == b[i])
		i++;
	errx(1, "%s: wrong data at byte %llu: %02x instead of %02x", what,
	     (unsigned long long)(offset + i), a[i], b[i]);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static u64 number(const char *s)
{
	char *end;
	u64 n = strtoull(s, &end, 0);

	if (!*s || *end)
		errx(2, "what number is %s?", s);
	return n;
}

struct until {
	const char *path;
	double time;
};

static struct until until(const char *arg)
{
	struct until u = { 0 };

	if (*arg == '/')
		u.path = arg;
	else
		u.time = now() + number(arg);
	return u;
}

static bool is_over(const struct until *u)
{
	return u->path ? !access(u->path, F_OK) : now() >= u->time;
}

static int connected(int type, const char *host, const char *port)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
	struct sockaddr_in in = { .sin_family = AF_INET };
	bool is_6 = strchr(host, ':');
	int fd, tries;

	in.sin_port = htons(number(port));
	in6.sin6_port = in.sin_port;
	if (inet_pton(is_6 ? AF_INET6 : AF_INET, host,
		      is_6 ? (void *)&in6.sin6_addr : &in.sin_addr) != 1)
		errx(2, "not an address: %s", host);

	/* The peer's server may be about to start. */
	for (tries = 0; tries < 100; tries++) {
		fd = socket(is_6 ? AF_INET6 : AF_INET, type | SOCK_CLOEXEC, 0);
		if (fd < 0)
			err(1, "socket");
		if (!connect(fd, is_6 ? (void *)&in6 : (void *)&in,
			     is_6 ? sizeof(in6) : sizeof(in)))
			return fd;
		close(fd);
		usleep(100 * 1000);
	}
	err(1, "connect to %s", host);
}

static int bound(int type, const char *port)
{
	struct sockaddr_in6 in6 = {
		.sin6_family = AF_INET6,
		.sin6_port = htons(number(port)),
	};
	int size = RECEIVE_BUFFER, on = 1;
	int fd = socket(AF_INET6, type | SOCK_CLOEXEC, 0);

	if (fd < 0)
		err(1, "socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	if (bind(fd, (void *)&in6, sizeof(in6)))
		err(1, "bind");
	return fd;
}

static void wait_for(int fd, int ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	if (poll(&pfd, 1, ms) <= 0)
		errx(1, "nothing came within %d s", ms / 1000);
}

static int accepted(const char *port)
{
	int fd, server = bound(SOCK_STREAM, port);

	if (listen(server, 1))
		err(1, "listen");
	wait_for(server, PATIENCE_MS);
	fd = accept(server, NULL, NULL);
	if (fd < 0)
		err(1, "accept");
	close(server);
	return fd;
}

static int opened(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);

	if (fd < 0)
		err(1, "%s", path);
	return fd;
}

static void write_all(int fd, const void *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n <= 0)
			err(1, "write");
		data += n;
		len -= n;
	}
}

/* Reads until @len bytes are there or the end is reached. */
static size_t read_all(int fd, void *data, size_t len)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n = read(fd, data + have, len - have);

		if (n < 0)
			err(1, "read");
		if (!n)
			break;
		have += n;
	}
	return have;
}

static void fill(char **arg)
{
	u64 size = number(arg[1]) << 20, seed = number(arg[2]), at;
	int fd = opened(arg[0], O_WRONLY | O_CREAT | O_TRUNC);

	for (at = 0; at < size; at += CHUNK) {
		make(buffer, at, seed);
		write_all(fd, buffer, CHUNK);
	}
}

static void check(char **arg)
{
	u64 size = number(arg[1]) << 20, seed = number(arg[2]), at;
	int fd = opened(arg[0], O_RDONLY);

	for (at = 0; at < size; at += CHUNK) {
		if (read_all(fd, buffer, CHUNK) != CHUNK)
			errx(1, "%s is too short", arg[0]);
		make(expected, at, seed);
		compare(buffer, expected, CHUNK, at, arg[0]);
	}
	if (read_all(fd, buffer, 1))
		errx(1, "%s is too long", arg[0]);
}

static void send_file(char **arg)
{
	int fd = opened(arg[2], O_RDONLY);
	int sock = connected(SOCK_STREAM, arg[0], arg[1]);
	size_t len;

	while ((len = read_all(fd, buffer, CHUNK)))
		write_all(sock, buffer, len);

	/* Its end is the peer's word that it has got everything. */
	shutdown(sock, SHUT_WR);
	wait_for(sock, PATIENCE_MS);
	read_all(sock, buffer, 1);
}

static void recv_file(char **arg)
{
	int fd = opened(arg[1], O_WRONLY | O_CREAT | O_TRUNC);
	int sock = accepted(arg[0]);
	size_t len;

	while (arg[2] && access(arg[2], F_OK))
		usleep(20 * 1000);
	while ((len = read_all(sock, buffer, CHUNK)))
		write_all(fd, buffer, len);
}

static void stream(char **arg)
{
	u64 seed = number(arg[3]), at = 0;
	struct until end = until(arg[2]);
	int sock = connected(SOCK_STREAM, arg[0], arg[1]);

	do {
		make(buffer, at, seed);
		write_all(sock, buffer, CHUNK);
		at += CHUNK;
	} while (!is_over(&end));
	shutdown(sock, SHUT_WR);
	wait_for(sock, PATIENCE_MS);
	read_all(sock, buffer, 1);
	printf("%llu bytes\n", (unsigned long long)at);
}

static void verify(char **arg)
{
	u64 seed = number(arg[1]), at = 0;
	int sock = accepted(arg[0]);
	size_t len;

	while ((len = read_all(sock, buffer, CHUNK))) {
		make(expected, at, seed);
		compare(buffer, expected, len, at, "stream");
		at += len;
	}
	if (!at)
		errx(1, "stream: nothing came");
	printf("%llu bytes\n", (unsigned long long)at);
}

/* Datagram @i has @i in its first word, and data that depends on it behind. */
static size_t datagram(u64 *to, u64 i)
{
	static const size_t sizes[] = { 16, 64, 512, 1400, 1472, 4000 };
	size_t words = sizes[i % VP_ARRAY_SIZE(sizes)] / 8, n;

	to[0] = i;
	for (n = 1; n < words; n++)
		to[n] = word(i, n);
	return words * 8;
}

static void blast(char **arg)
{
	u64 pps = number(arg[3]), sent = 0, refused = 0;
	struct until end = until(arg[2]);
	double start = now();
	int sock = connected(SOCK_DGRAM, arg[0], arg[1]);

	for (; !is_over(&end); sent++) {
		size_t len = datagram(buffer, sent);

		/* The peer may be away: that is no reason to stop. */
		if (send(sock, buffer, len, 0) < 0)
			refused++;
		while (now() < start + (double)sent / pps)
			usleep(1000);
	}
	printf("%llu sent, %llu refused\n", (unsigned long long)sent,
	       (unsigned long long)refused);
}

static void sink(char **arg)
{
	u64 got = 0, late = 0, next = 0;
	int sock = bound(SOCK_DGRAM, arg[0]);
	struct pollfd pfd = { .fd = sock, .events = POLLIN };
	int ms = number(arg[1]) * 1000;

	wait_for(sock, PATIENCE_MS);
	while (poll(&pfd, 1, ms) > 0) {
		/* What poll() sees may have a wrong checksum: not for recv(). */
		ssize_t len = recv(sock, buffer, sizeof(buffer), MSG_DONTWAIT);

		if (len < 0 && errno == EAGAIN)
			continue;
		if (len < 8)
			errx(1, "a datagram of %zd bytes", len);
		if ((size_t)len != datagram(expected, buffer[0]))
			errx(1, "datagram %llu has %zd bytes",
			     (unsigned long long)buffer[0], len);
		compare(buffer, expected, len, 0, "datagram");
		if (buffer[0] < next)
			late++;
		else
			next = buffer[0] + 1;
		got++;
	}
	printf("%llu received, %llu out of order, last %llu\n",
	       (unsigned long long)got, (unsigned long long)late,
	       (unsigned long long)next - 1);
	if (late)
		exit(1);
}

static void *memory(size_t size)
{
	void *addr = mmap(NULL, size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (addr == MAP_FAILED)
		err(1, "cannot map %zu bytes", size);
	return addr;
}

/* One word of a page that has generation @gen, or that was never written. */
static u64 churned(u64 seed, size_t page, u32 gen, size_t i)
{
	return gen ? word(seed + gen, page * PAGE_WORDS + i) : 0;
}

static void churn_page(u64 *data, u64 seed, size_t page, u32 gen)
{
	size_t i;

	for (i = 0; i < PAGE_WORDS; i++) {
		u64 wanted = churned(seed, page, gen, i);

		if (data[i] != wanted)
			errx(1, "churn: page %zu, write %u, word %zu: %llx instead of %llx",
			     page, gen, i, (unsigned long long)data[i],
			     (unsigned long long)wanted);
		data[i] = churned(seed, page, gen + 1, i);
	}
}

static void churn(char **arg)
{
	size_t pages = (number(arg[0]) << 20) / PAGE_SIZE, page, i;
	u64 seed = number(arg[2]), state = seed, rounds = 0;
	struct until end = until(arg[1]);
	u32 *gen = memory(pages * sizeof(*gen));

	do {
		u64 *data = memory(pages * PAGE_SIZE);

		memset(gen, 0, pages * sizeof(*gen));
		for (i = 0; i < 4 * pages && !is_over(&end); i++) {
			state = word(seed, state);
			page = state % pages;
			churn_page(data + page * PAGE_WORDS, seed, page,
				   gen[page]);
			gen[page]++;
		}
		for (page = 0; page < pages; page++)
			churn_page(data + page * PAGE_WORDS, seed, page,
				   gen[page]);
		munmap(data, pages * PAGE_SIZE);
		rounds++;
	} while (!is_over(&end));
	printf("%llu rounds\n", (unsigned long long)rounds);
}

static void tag(char **arg)
{
	size_t size = number(arg[0]) << 20, i;
	u64 *data = memory(size), value = word(number(arg[1]), 0);

	for (i = 0; i < size / sizeof(*data); i++)
		data[i] = value;
	/* Not by the end of the program: it shall not be optimized away. */
	munmap(data, size);
}

/* Each page has the number of another one, all of them in one circle. */
static void walk(char **arg)
{
	size_t pages = (number(arg[0]) << 20) / PAGE_SIZE, page, i;
	u32 *next = memory(pages * PAGE_SIZE);
	double start = now();
	struct until end;
	u64 visits = 0;

	for (page = 0; page < pages; page++)
		next[page * (PAGE_SIZE / 4)] = page;
	/* Sattolo's shuffle */
	for (page = pages - 1; page; page--) {
		u32 *a = next + page * (PAGE_SIZE / 4), *b, old = *a;

		b = next + word(1, page) % page * (PAGE_SIZE / 4);
		*a = *b;
		*b = old;
	}
	printf("%.3f us a page at first touch and shuffle, ",
	       (now() - start) * 1e6 / pages);

	start = now();
	end = until(arg[1]);
	for (page = 0; !is_over(&end); visits += 4096)
		for (i = 0; i < 4096; i++)
			page = next[page * (PAGE_SIZE / 4)];
	printf("%.1f ns a visit%s\n", (now() - start) * 1e9 / visits,
	       page < pages ? "" : "?");
}

static const struct {
	const char *name;
	int min, max;
	void (*run)(char **arg);
} commands[] = {
	{ "fill", 3, 3, fill },
	{ "check", 3, 3, check },
	{ "send", 3, 3, send_file },
	{ "recv", 2, 3, recv_file },
	{ "stream", 4, 4, stream },
	{ "verify", 2, 2, verify },
	{ "blast", 4, 4, blast },
	{ "sink", 2, 2, sink },
	{ "churn", 3, 3, churn },
	{ "tag", 2, 2, tag },
	{ "walk", 2, 2, walk },
};

int main(int argc, char **argv)
{
	size_t i;

	for (i = 0; argc > 1 && i < VP_ARRAY_SIZE(commands); i++) {
		if (strcmp(argv[1], commands[i].name))
			continue;
		if (argc - 2 < commands[i].min || argc - 2 > commands[i].max)
			break;
		commands[i].run(argv + 2);
		return 0;
	}
	errx(2, "unknown command, or wrong number of arguments; see the source");
}
