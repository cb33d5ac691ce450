// SPDX-License-Identifier: GPL-2.0
/*
 * Commands of iproute2 without the time that it takes to start them: "ip",
 * "bridge" and "tc" run once, in their batch mode, and read line by line.  They
 * tell on stderr which lines failed, so a line that must fail, after each one,
 * tells that it has been executed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ktap.h"
#include "vpeer.h"

struct tool {
	const char *name;
	int in;
	FILE *err;
	unsigned int lines;
	pid_t pid;
};

static struct tool tools[] = { { "ip" }, { "bridge" }, { "tc" } };

static void start_tool(struct tool *t)
{
	int in[2], err[2], null;
	pid_t pid;

	if (pipe2(in, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
		ktap_fail("pipe: %s", strerror(errno));
	pid = vfork();
	if (pid < 0)
		ktap_fail("vfork: %s", strerror(errno));
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		null = open("/dev/null", O_WRONLY);
		dup2(in[0], 0);
		dup2(null, 1);
		dup2(err[1], 2);
		execlp(t->name, t->name, "-force", "-batch", "-", NULL);
		_exit(127);
	}
	close(in[0]);
	close(err[1]);
	t->pid = pid;
	t->lines = 0;
	t->in = in[1];
	t->err = fdopen(err[0], "r");
}

/* 0, or 1 when the command failed; @said: the last that it said then. */
static int tool_do(struct tool *t, const char *args, char *said, size_t size)
{
	unsigned int line;
	int failed = 0;
	char buf[1024];

	if (!t->err)
		start_tool(t);
	if (dprintf(t->in, "%s\nno-such-object\n", args) < 0)
		ktap_fail("%s: %s", t->name, strerror(errno));
	t->lines += 2;
	while (fgets(buf, sizeof(buf), t->err)) {
		if (sscanf(buf, "Command failed -:%u", &line) != 1) {
			if (!failed)
				snprintf(said, size, "%s", buf);
			continue;
		}
		if (line == t->lines)
			return failed;
		failed = 1;
	}
	ktap_fail("%s has ended (is iproute2 installed?)", t->name);
}

static int one_command(const char *cmd, char *said, size_t size)
{
	unsigned int i;

	for (i = 0; i < VP_ARRAY_SIZE(tools) && !strpbrk(cmd, "'|&>"); i++) {
		size_t n = strlen(tools[i].name);

		if (!strncmp(cmd, tools[i].name, n) && cmd[n] == ' ')
			return tool_do(&tools[i], cmd + n + 1, said, size);
	}
	return vp_cmd("%s", cmd);
}

/* The next "; " that is not quoted, or NULL. */
static char *separator(char *s)
{
	bool quoted = false;

	for (; *s; s++) {
		if (*s == '\'')
			quoted = !quoted;
		else if (!quoted && s[0] == ';' && s[1] == ' ')
			return s;
	}
	return NULL;
}

/*
 * Commands that are separated by "; ".  What is not simple enough for a tool's
 * batch mode is left to the shell, alone.  The case fails when one fails.
 */
void vp_script(const char *commands)
{
	char copy[1024], said[1024] = "", *s, *end;

	snprintf(copy, sizeof(copy), "%s", commands);
	for (s = copy; s; s = end ? end + 2 : NULL) {
		end = separator(s);
		if (end)
			*end = 0;
		if (one_command(s, said, sizeof(said)))
			ktap_fail("%s: %s", s, said);
	}
}

/* They remember interfaces by name: end them when names are used again. */
void vp_script_end(void)
{
	unsigned int i;

	for (i = 0; i < VP_ARRAY_SIZE(tools); i++) {
		if (!tools[i].err)
			continue;
		close(tools[i].in);
		fclose(tools[i].err);
		tools[i].err = NULL;
		waitpid(tools[i].pid, NULL, 0);
	}
}
