// SPDX-License-Identifier: GPL-2.0
/* KTAP output, and the process that runs one test case. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ktap.h"

#define KTAP_DEFAULT_SECONDS 60

static char skip_file[] = "/tmp/ktap-skip-XXXXXX";

static void emit(const char *prefix, const char *fmt, va_list ap)
{
	char line[1024];
	int n, m;

	n = snprintf(line, sizeof(line), "%s", prefix);
	m = vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	n += m;
	if (n > (int)sizeof(line) - 2)
		n = sizeof(line) - 2;
	if (n && line[n - 1] != '\n')
		line[n++] = '\n';
	/* One write, so that lines of different processes do not mix. */
	if (write(STDOUT_FILENO, line, n) < 0)
		_exit(KTAP_FAIL);
}

void ktap_msg(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	emit("# ", fmt, ap);
	va_end(ap);
}

void ktap_fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	emit("# FAILED: ", fmt, ap);
	va_end(ap);
	_exit(KTAP_FAIL);
}

void ktap_skip(const char *fmt, ...)
{
	va_list ap;
	FILE *f = fopen(skip_file, "w");

	va_start(ap, fmt);
	if (f) {
		vfprintf(f, fmt, ap);
		fclose(f);
	}
	va_end(ap);
	_exit(KTAP_SKIP);
}

bool ktap_quick(void)
{
	const char *s = getenv("CROSSTALK_QUICK");

	return s && *s && strcmp(s, "0");
}

/* scripts/check says until when. */
bool ktap_is_late(void)
{
	const char *s = getenv("CROSSTALK_UNTIL");

	return s && *s && time(NULL) >= strtoll(s, NULL, 0);
}

unsigned int ktap_count(const char *env, unsigned int full, unsigned int quick)
{
	const char *s = getenv(env);

	if (s && *s)
		return strtoul(s, NULL, 0);
	return ktap_quick() ? quick : full;
}

static void isolate(void)
{
	if (unshare(CLONE_NEWNET | CLONE_NEWNS))
		ktap_fail("unshare: %s (are you root?)", strerror(errno));
	mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

/*
 * Wait for the case, at most @seconds.  Its process group goes with it, so
 * peers that it left behind end here.
 */
static int wait_case(pid_t pid, unsigned int seconds, bool *timed_out)
{
	struct timespec now, end, limit = {};
	sigset_t set;
	int status = 0;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += seconds;

	*timed_out = false;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	for (;;) {
		pid_t got = waitpid(pid, &status, WNOHANG);

		if (got == pid)
			break;
		/* Orphans that end wake us, too. */
		clock_gettime(CLOCK_MONOTONIC, &now);
		limit.tv_sec = end.tv_sec - now.tv_sec;
		if (limit.tv_sec <= 0 ||
		    (sigtimedwait(&set, NULL, &limit) < 0 && errno == EAGAIN)) {
			*timed_out = true;
			kill(-pid, SIGKILL);
			waitpid(pid, &status, 0);
			break;
		}
	}
	/* We are the subreaper of what it left. */
	do {
		kill(-pid, SIGKILL);
	} while (waitpid(-1, NULL, 0) > 0);
	return status;
}

static enum ktap_rc run_case(const struct ktap_case *c, char *why, size_t size)
{
	unsigned int seconds = c->seconds ?: KTAP_DEFAULT_SECONDS;
	const char *scale = getenv("CROSSTALK_SLOWNESS");
	bool timed_out;
	pid_t pid;
	int status;

	if (scale && atoi(scale) > 0)
		seconds *= atoi(scale);
	*why = 0;
	truncate(skip_file, 0);
	fflush(stdout);
	pid = fork();
	if (pid < 0) {
		snprintf(why, size, "fork: %s", strerror(errno));
		return KTAP_FAIL;
	}
	if (!pid) {
		sigset_t none;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		isolate();
		c->run();
		_exit(KTAP_PASS);
	}
	setpgid(pid, pid);
	status = wait_case(pid, seconds, &timed_out);
	if (timed_out) {
		snprintf(why, size, "no end after %u s", seconds);
		return KTAP_FAIL;
	}
	if (WIFSIGNALED(status)) {
		snprintf(why, size, "killed by signal %d", WTERMSIG(status));
		return KTAP_FAIL;
	}
	if (WEXITSTATUS(status) == KTAP_SKIP) {
		FILE *f = fopen(skip_file, "r");

		if (f) {
			if (!fgets(why, size, f))
				*why = 0;
			fclose(f);
		}
		return KTAP_SKIP;
	}
	return WEXITSTATUS(status) ? KTAP_FAIL : KTAP_PASS;
}

static bool wanted(int argc, char **argv, const struct ktap_case *c)
{
	const char *name = c->name;
	int i;

	if (c->lacks && c->lacks())
		return false;
	if (argc < 2)
		return !c->slow || !ktap_quick() || getenv("CROSSTALK_SLOW");
	for (i = 1; i < argc; i++)
		if (!strcmp(argv[i], name))
			return true;
	return false;
}

int ktap_main(int argc, char **argv, const struct ktap_case *cases,
	      unsigned int n)
{
	unsigned int i, k = 0, total = 0, failed = 0, skipped = 0;
	sigset_t set;
	char why[200];
	int fd;

	if (argc > 1 && (!strcmp(argv[1], "--list") || argv[1][0] == '-')) {
		for (i = 0; i < n; i++)
			printf("%s\n", cases[i].name);
		return strcmp(argv[1], "--list") ? 2 : 0;
	}
	if (geteuid()) {
		printf("TAP version 13\n1..0 # SKIP needs root\n");
		return KTAP_SKIP;
	}
	fd = mkstemp(skip_file);
	if (fd >= 0)
		close(fd);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	for (i = 0; i < n; i++)
		total += wanted(argc, argv, &cases[i]);
	printf("TAP version 13\n");
	if (total)
		printf("1..%u\n", total);
	else
		printf("1..0 # SKIP nothing of it is for this kernel\n");
	for (i = 0; i < n; i++)
		if (cases[i].lacks && cases[i].lacks())
			printf("# left out: %s: this kernel %s\n",
			       cases[i].name, cases[i].lacks());
	for (i = 0; i < n; i++) {
		struct timespec a, b;
		enum ktap_rc rc;

		if (!wanted(argc, argv, &cases[i]))
			continue;
		clock_gettime(CLOCK_MONOTONIC, &a);
		if (ktap_is_late()) {
			rc = KTAP_SKIP;
			strcpy(why, KTAP_LATE);
		} else {
			rc = run_case(&cases[i], why, sizeof(why));
		}
		clock_gettime(CLOCK_MONOTONIC, &b);
		if (rc == KTAP_FAIL && *why)
			printf("# FAILED: %s\n", why);
		printf("# %s: %.1f s\n", cases[i].name,
		       (b.tv_sec - a.tv_sec) + (b.tv_nsec - a.tv_nsec) / 1e9);
		printf("%sok %u %s%s%s\n", rc == KTAP_FAIL ? "not " : "", ++k,
		       cases[i].name, rc == KTAP_SKIP ? " # SKIP " : "",
		       rc == KTAP_SKIP ? why : "");
		fflush(stdout);
		failed += rc == KTAP_FAIL;
		skipped += rc == KTAP_SKIP;
	}
	printf("# Totals: pass:%u fail:%u xfail:0 xpass:0 skip:%u error:0\n",
	       total - failed - skipped, failed, skipped);
	unlink(skip_file);
	return failed ? KTAP_FAIL : skipped == total ? KTAP_SKIP : KTAP_PASS;
}
