// SPDX-License-Identifier: GPL-2.0
/*
 * What an operator has: scripts/crosstalk against live guests, trace events, and
 * the documented files, which are there and are all that are there.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <utmp.h>

#include "ctl.h"
#include "direct.h"
#include "json.h"
#include "ktap.h"
#include "vpeer.h"

#define ABI	"Documentation/ABI/testing/sysfs-kernel-vhost_crosstalk"
#define MAN	"Documentation/vhost_crosstalk.7"
#define NAMES	"drivers/vhost/crosstalk/policy.c"
#define TOOL	"scripts/crosstalk"
#define TRACING	"/sys/kernel/tracing/"
#define WAIT_MS	10000
#define BURST_TRIES	40

static char out[256 << 10];	/* what the tool has printed last */

/* A file of the source, from where tests are run. */
static const char *find_source(const char *name)
{
	static const char * const up[] = { "", "../../", "../../../" };
	static char path[4][256];
	static unsigned int next;
	unsigned int i;

	next = (next + 1) % VP_ARRAY_SIZE(path);
	for (i = 0; i < VP_ARRAY_SIZE(up); i++) {
		snprintf(path[next], sizeof(path[0]), "%s%s", up[i], name);
		if (!access(path[next], R_OK))
			return path[next];
	}
	ktap_skip("%s is not there: run this in the source", name);
}

/* In a child; guests that send all the time leave little of a processor. */
static void exec_tool(char *args, int output)
{
	const char *path = find_source(TOOL);
	char *argv[16] = { TOOL };
	unsigned int n = 1;

	for (args = strtok(args, " "); args; args = strtok(NULL, " "))
		argv[n++] = args;
	setpriority(PRIO_PROCESS, 0, -19);
	dup2(open("/dev/null", O_RDONLY), 0);
	dup2(output, 1);
	dup2(output, 2);
	execv(path, argv);
	_exit(127);
}

/* Runs it, without a terminal and without a shell; its output is in @out. */
static int tool(const char *fmt, ...)
{
	size_t len = 0;
	char args[512];
	int fd[2], ret;
	va_list ap;
	ssize_t n;
	pid_t pid;

	va_start(ap, fmt);
	vsnprintf(args, sizeof(args), fmt, ap);
	va_end(ap);
	ktap_assert(!pipe2(fd, O_CLOEXEC), "pipe");
	pid = fork();
	ktap_assert(pid >= 0, "fork");
	if (!pid)
		exec_tool(args, fd[1]);
	close(fd[1]);
	while ((n = read(fd[0], out + len, sizeof(out) - 1 - len)) > 0)
		len += n;
	out[len] = 0;
	close(fd[0]);
	ktap_assert(waitpid(pid, &ret, 0) == pid, "waitpid");
	return WIFEXITED(ret) ? WEXITSTATUS(ret) : 128;
}

static void show_out(void)
{
	char *line = strtok(out, "\n");

	for (; line; line = strtok(NULL, "\n"))
		ktap_msg("%s", line);
}

#define tool_is(wanted, ...)						\
	do {								\
		int is_ = tool(__VA_ARGS__), wanted_ = (wanted);	\
									\
		if (is_ != wanted_) {					\
			show_out();					\
			ktap_fail("%s:%d: exit status %d, not %d",	\
				  __FILE__, __LINE__, is_, wanted_);	\
		}							\
	} while (0)

static void tool_says(const char *text)
{
	if (strstr(out, text))
		return;
	show_out();
	ktap_fail("it does not say \"%s\"", text);
}

/* The line of @out that begins with @word. */
static const char *line_of(const char *word)
{
	static char line[512];
	const char *p = out;
	size_t len = strlen(word);

	for (; p; p = strchr(p, '\n')) {
		p += *p == '\n';
		if (!strncmp(p, word, len) && p[len] == ' ') {
			snprintf(line, sizeof(line), "%.*s",
				 (int)strcspn(p, "\n"), p);
			return line;
		}
	}
	return "";
}

/*
 * A flow's answer is asked for while frames come, and shown when they rest:
 * they come until the answer, or the endpoint's state, has that @word.  It costs
 * more to ask the tool in vain.
 */
static void burst(struct vp_world *w, unsigned int ep, const char *word)
{
	static const char * const files[] = { "state", "verdicts" };
	unsigned int i, tries = 0;
	bool found = false;
	char buf[4096];

	vp_resume(w);
	do {
		vp_sleep_ms(5);
		for (i = 0; i < VP_ARRAY_SIZE(files) && !found; i++)
			found = ctl_ep_read(ep, files[i], buf,
					    sizeof(buf)) > 0 &&
				strstr(buf, word);
	} while (!found && ++tries < BURST_TRIES);
	vp_quiesce(w);
}

/*
 * Until "status" says in the endpoint's line what it is, which is in sysfs as
 * @word.
 */
static void wait_status(struct vp_world *w, unsigned int ep, const char *what,
			const char *word)
{
	u64 end = vp_now_ms() + WAIT_MS * vp_slowness();
	char name[16];

	snprintf(name, sizeof(name), "ep%u", ep);
	do {
		burst(w, ep, word);
		tool_is(0, "status --interval 0");
		if (strstr(line_of(name), what))
			return;
	} while (vp_now_ms() < end);
	show_out();
	ktap_fail("%s: it does not say \"%s\"", name, what);
}

/*
 * Once, with traffic: what rests for ten seconds is forgotten, and the tool can
 * take that long on a slow machine.
 */
#define tool_meanwhile(w, ...)						\
	do {								\
		struct vp_world *w_ = (w);				\
									\
		vp_resume(w_);						\
		tool_is(0, __VA_ARGS__);				\
		vp_quiesce(w_);						\
	} while (0)

static void need_json(void)
{
	const char *why = json_check(out);

	if (!why)
		return;
	show_out();
	ktap_fail("not JSON: %s", why);
}

static void mac_text(char *text, unsigned int peer)
{
	u8 m[6];

	vp_mac(m, peer);
	sprintf(text, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3],
		m[4], m[5]);
}

static struct vp_world *start(unsigned int *ep)
{
	struct vp_world *w;
	struct vp_cfg c;
	unsigned int i;

	vp_cfg_default(&c);
	w = direct_start(2, &c, NULL, false);
	for (i = 0; i < 2; i++)
		ctl_wait(w->peer[i].tap, 1, &ep[i]);
	direct_wait(w);
	return w;
}

static void finish(struct vp_world *w)
{
	vp_finish(w);
	ctl_need_unloaded();
}

/* ---- status ---- */

/* Numbers of @key in @out are added up. */
static double sum_of(const char *key)
{
	const char *p = out;
	double sum = 0;

	while ((p = strstr(p, key))) {
		p += strlen(key);
		sum += strtod(p, NULL);
	}
	return sum;
}

/* Nothing is wider than the terminal. */
static void check_width(size_t columns)
{
	size_t len;
	char *p;

	for (p = out; *p; p += len + (p[len] == '\n')) {
		len = strcspn(p, "\n");
		ktap_assert(len <= columns, "%zu columns: \"%.*s\"", len,
			    (int)len, p);
	}
}

static void check_json(const struct vp_world *w, unsigned int ep)
{
	u64 end = vp_now_ms() + WAIT_MS * vp_slowness();
	char text[64];

	/*
	 * On a slow machine an answer may be late, and a flow slow by that.  And
	 * the few frames that there were may have come when the first look had
	 * read their number, but not yet their bytes.
	 */
	do {
		tool_is(0, "status --json --interval 0.2");
		need_json();
	} while (vp_now_ms() < end && (!strstr(out, "\"path\": \"fast\"") ||
				       !sum_of("\"fast_pps\": ") ||
				       !sum_of("\"fast_gbps\": ")));
	snprintf(text, sizeof(text), "\"interface\": \"%s\"", w->peer[1].tap);
	tool_says(text);
	snprintf(text, sizeof(text), "\"name\": \"ep%u\"", ep);
	tool_says(text);
	tool_says("\"state\": \"hooked\"");
	tool_says("\"path\": \"fast\"");
	ktap_assert(sum_of("\"fast_pps\": ") > 0, "nothing was fast");
	ktap_assert(sum_of("\"fast_gbps\": ") > 0, "nothing was fast");
	tool_is(0, "top --json --interval 0.1 --count 1");
	need_json();
}

static void test_status(void)
{
	struct vp_world *w;
	unsigned int ep[2];
	char text[128];
	char from[20];
	char to[20];
	int fd;

	w = start(ep);
	wait_status(w, ep[0], " fast", " ep");
	setenv("COLUMNS", "80", 1);
	tool_meanwhile(w, "status --interval 0.1");
	check_width(80);
	tool_says("direct path: on");
	tool_says("2 endpoints: 2 hooked");
	mac_text(from, 0);
	mac_text(to, 1);
	snprintf(text, sizeof(text), "  %s > %s    - ", from, to);
	tool_says(text);
	snprintf(text, sizeof(text), "ep%u", ep[0]);
	ktap_assert(strstr(line_of(text), w->peer[0].tap), "\"%s\" has no %s",
		    line_of(text), w->peer[0].tap);
	vp_resume(w);
	check_json(w, ep[0]);
	vp_quiesce(w);

	fd = vp_packet_open(w->peer[1].tap);
	ktap_assert(fd >= 0, "no packet socket");
	wait_status(w, ep[0], "slow: packet-socket", "packet-socket");
	tool_says("tcpdump");
	tool_meanwhile(w, "status %s -i 0 -j", w->peer[0].tap);
	need_json();
	tool_says("\"answer\": \"packet-socket\"");
	tool_says("\"path\": \"slow\"");
	close(fd);

	wait_status(w, ep[0], " fast", " ep");
	tool_is(0, "disable %s", w->peer[1].tap);
	wait_status(w, ep[0], "slow: receiver", "receiver");
	wait_status(w, ep[1], " disabled", "disabled");
	tool_is(0, "enable ep%u", ep[1]);
	wait_status(w, ep[0], " fast", " ep");
	finish(w);
}

static bool is(const char *file, const char *value)
{
	char buf[32] = "";

	ctl_read(file, buf, sizeof(buf));
	return !strcmp(buf, value);
}

/* What cannot be understood is said to be so, and does nothing. */
static void check_usage(void)
{
	static const char * const bad[] = {
		"", "frobnicate", "enable --json", "status --interval -1",
		"status --interval x", "status --frobnicate", "top --count 0",
		"direct", "direct sideways", "tunables batch=x", "scan ep0",
		"status --flows some",
	};
	unsigned int i;

	for (i = 0; i < VP_ARRAY_SIZE(bad); i += ktap_quick() ? 4 : 1) {
		tool_is(2, "%s", bad[i]);
		tool_says("--help");
	}
}

/* Without machines, and without the module. */
static void test_alone(void)
{
	ctl_need_unloaded();
	tool_is(3, "status");
	tool_says("not loaded");
	tool_is(3, "enable");
	tool_is(0, "--help");
	tool_says("Usage:");

	ctl_need_loaded();
	tool_is(0, "status --interval 0");
	tool_says("no endpoints");
	tool_is(0, "status --json --interval 0");
	need_json();
	tool_is(0, "scan");

	tool_is(0, "tunables");
	tool_says("revalidate_ms ");
	tool_is(0, "tunables batch=7 revalidate_ms=100");
	ktap_assert(is("batch", "7") && is("revalidate_ms", "100"), "not set");
	tool_is(0, "tunables batch --json");
	ktap_assert(!strcmp(out, "{\"batch\": 7}\n"), "%s", out);
	tool_is(1, "tunables batch=65");
	tool_says("refuses");
	/* All or none are understood. */
	tool_is(2, "tunables batch=9 no_such=1");
	ktap_assert(is("batch", "7"), "it was changed");
	check_usage();
	ctl_need_unloaded();
}

/* ---- switches ---- */

static void test_switches(void)
{
	struct vp_world *w;
	unsigned int ep[2];

	w = start(ep);
	vp_quiesce(w);
	tool_is(0, "disable");
	ktap_assert(is("enable", "0"), "it is still on");
	wait_status(w, ep[0], " disabled", "disabled");
	tool_is(0, "enable");
	ktap_assert(is("enable", "1"), "it is still off");

	tool_is(0, "direct off");
	ktap_assert(is("direct", "0"), "it is still on");
	wait_status(w, ep[0], "direct is off", "");
	tool_is(0, "direct on");
	ktap_assert(is("direct", "1"), "it is still off");

	tool_is(0, "disable %s ep%u", w->peer[0].tap, ep[1]);
	ktap_assert(!ctl_ep_num(ep[0], "enable") &&
		    !ctl_ep_num(ep[1], "enable"), "they are still on");
	tool_is(0, "enable");
	tool_says("still switched off");
	tool_is(0, "enable %s %s", w->peer[0].tap, w->peer[1].tap);
	ctl_wait_state(ep[0], "hooked", "none");
	ctl_wait_state(ep[1], "hooked", "none");
	vp_resume(w);
	direct_wait(w);

	tool_is(1, "disable no-such");
	finish(w);
}

/* ---- top ---- */

/* What comes from a terminal, until it has @text or ends. */
static bool read_until(int fd, const char *text)
{
	static char buf[64 << 10];
	size_t have = 0;
	ssize_t n;

	while (have < sizeof(buf) - 1) {
		n = read(fd, buf + have, sizeof(buf) - 1 - have);
		if (n <= 0)
			return false;
		have += n;
		buf[have] = 0;
		if (strstr(buf, text))
			return true;
	}
	return false;
}

/* Ended by a key or by a signal, it leaves the terminal as it was. */
static void top_on_terminal(const char *key, int sig)
{
	const char *path = find_source(TOOL);
	struct winsize size = { .ws_row = 24, .ws_col = 80 };
	struct termios before, now;
	int master, slave, status;
	pid_t pid;

	ktap_assert(!openpty(&master, &slave, NULL, NULL, &size), "openpty");
	ktap_assert(!tcgetattr(slave, &before), "tcgetattr");
	pid = fork();
	ktap_assert(pid >= 0, "fork");
	if (!pid) {
		close(master);
		login_tty(dup(slave));
		setenv("TERM", "xterm", 1);
		execl(path, path, "top", "--interval", "0.2", NULL);
		_exit(127);
	}
	ktap_assert(read_until(master, "PATH"), "no screen");
	tcgetattr(slave, &now);
	ktap_assert(!(now.c_lflag & (ICANON | ECHO)), "keys are not read");
	if (sig)
		kill(pid, sig);
	else
		ktap_assert(write(master, key, 1) == 1, "write");
	/* It must not block on a terminal that nobody reads. */
	tcflush(slave, TCOFLUSH);
	ktap_assert(waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
		    !WEXITSTATUS(status), "status %#x", status);
	tcgetattr(slave, &now);
	ktap_assert(now.c_lflag == before.c_lflag &&
		    now.c_iflag == before.c_iflag &&
		    now.c_oflag == before.c_oflag, "the terminal has changed");
	close(master);
	close(slave);
}

static void test_top(void)
{
	struct vp_world *w;
	unsigned int ep[2];

	w = start(ep);
	vp_quiesce(w);
	setenv("TERM", "dumb", 1);
	tool_is(0, "top --count 1 --interval 0.2");
	tool_says(w->peer[0].tap);
	tool_says(w->peer[1].tap);
	ktap_assert(!strchr(out, '\e'), "a dumb terminal got escape sequences");
	top_on_terminal("q", 0);
	top_on_terminal("\003", 0);
	top_on_terminal(NULL, SIGTERM);
	finish(w);
}

/* ---- trace events ---- */

static const char *no_tracing(void)
{
	return access(TRACING "events", F_OK) ? "has no trace events" : NULL;
}

/* Like a frame, but its header says that its checksum lies far behind it. */
static void send_malformed(struct vp_peer *p)
{
	struct virtio_net_hdr_v1 h = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.csum_start = 60000,
	};
	struct vp_ring *r = &p->qp[0].tx;
	struct vp_slot *s = vp_ring_get_slot(r);
	struct vp_seg seg[VP_MAX_CHAIN];
	unsigned int n;

	n = vp_ring_split(r, s, VP_FRAME_MIN, VP_LAYOUT_ONE, 1, &p->rnd, seg);
	memcpy(s->hdr, &h, p->hlen);
	vp_ring_post(r, s, seg, n, false);
	vp_ring_kick_anyway(r);
}

/* What comes first is kept, however long the guests go on. */
static void clear_trace(void)
{
	int fd = open(TRACING "trace", O_WRONLY | O_TRUNC | O_CLOEXEC);

	ktap_assert(fd >= 0 && !close(fd) &&
		    !vp_write_file(TRACING "options/overwrite", "0"),
		    "cannot clear the trace");
}

/* Until the trace has the event and, in one of its lines, the @text. */
static void wait_event(const char *event, const char *text)
{
	u64 end = vp_now_ms() + WAIT_MS * vp_slowness();
	char line[512];
	bool found;
	FILE *f;

	do {
		f = fopen(TRACING "trace", "r");
		ktap_assert(f, "no trace");
		found = false;
		while (!found && fgets(line, sizeof(line), f))
			found = strstr(line, event) && strstr(line, text);
		fclose(f);
		if (found) {
			ktap_msg("%.*s", (int)strcspn(line, "\n"), line);
			return;
		}
		vp_sleep_ms(20);
	} while (vp_now_ms() < end);
	ktap_fail("no %s with \"%s\"", event, text);
}

static void test_trace(void)
{
	struct vp_world *w;
	struct vp_peer p;
	struct vp_cfg c;
	unsigned int ep;
	char text[32];

	ctl_need_loaded();
	clear_trace();
	ktap_assert(!vp_write_file(TRACING "events/vhost_crosstalk/enable", "1"),
		    "cannot switch them on");
	vp_cfg_default(&c);
	w = direct_start(2, &c, NULL, false);
	direct_wait(w);
	vp_quiesce(w);

	ctl_wait(w->peer[0].tap, 1, &ep);
	snprintf(text, sizeof(text), ": ep%u ", ep);
	wait_event("crosstalk_attach:", text);
	wait_event("crosstalk_reason:", w->peer[0].tap);
	wait_event("crosstalk_verdict:", "reason=fast");
	wait_event("crosstalk_push:", "frames=");
	/* The receiver's pages are never known at first. */
	wait_event("crosstalk_park:", "why=fill");
	clear_trace();
	vp_finish(w);
	wait_event("crosstalk_detach:", "ep");

	ktap_assert(!vp_open(&p, &c, 5) && !vp_start(&p), "peer");
	ctl_wait(p.tap, 1, &ep);
	ctl_wait_state(ep, "hooked", "none");
	send_malformed(&p);
	wait_event("crosstalk_drop:", "reason=malformed frames=1");
	vp_close(&p);
	ktap_assert(!vp_write_file(TRACING "events/vhost_crosstalk/enable", "0"),
		    "cannot switch them off");
	vp_write_file(TRACING "options/overwrite", "1");
	ctl_need_unloaded();
}

/* ---- the documented files ---- */

static char *read_source(const char *name)
{
	static char text[4][64 << 10];
	static unsigned int next;
	char *buf = text[next++ % VP_ARRAY_SIZE(text)];

	ktap_assert(vp_read_file(find_source(name), buf, sizeof(text[0])) > 0,
		    "%s", name);
	return buf;
}

static bool has_word(const char *text, const char *word)
{
	static const char letters[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
	size_t len = strlen(word);
	const char *p = text;

	for (; (p = strstr(p, word)); p += len)
		if ((p == text || !strchr(letters, p[-1])) &&
		    (!p[len] || !strchr(letters, p[len])))
			return true;
	return false;
}

/* A file of sysfs is described, with the mode that it has, and in the manual. */
static void check_file(const char *dir, const char *documented,
		       const char *name)
{
	static char *abi, *man;
	char path[512], what[512];
	struct stat st;
	const char *p;
	mode_t mode;

	abi = abi ?: read_source(ABI);
	man = man ?: read_source(MAN);
	snprintf(what, sizeof(what), "What:\t\t" CTL_ROOT "/%s%s\n", documented,
		 name);
	p = strstr(abi, what);
	ktap_assert(p, "%s%s is not in " ABI, dir, name);
	p = strstr(p, "Description:\n\t\t(");
	ktap_assert(p, "%s: no description", name);
	p = strchr(p, '(');
	mode = !strncmp(p, "(RO)", 4) ? 0444 : !strncmp(p, "(RW)", 4) ? 0644 :
	       !strncmp(p, "(WO)", 4) ? 0200 : 0;
	snprintf(path, sizeof(path), CTL_ROOT "/%s%s", dir, name);
	ktap_assert(!stat(path, &st) && (st.st_mode & 07777) == mode,
		    "%s has mode %o, and %.4s in " ABI, path,
		    st.st_mode & 07777, p);
	ktap_assert(has_word(man, name), "%s is not in " MAN, name);
}

static unsigned int check_dir(const char *dir, const char *documented)
{
	char path[256];
	unsigned int n = 0;
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), CTL_ROOT "/%s", dir);
	d = opendir(path);
	ktap_assert(d, "%s", path);
	while ((e = readdir(d))) {
		if (e->d_type != DT_REG)
			continue;
		check_file(dir, documented, e->d_name);
		n++;
	}
	closedir(d);
	return n;
}

static unsigned int count(const char *text, const char *what)
{
	unsigned int n = 0;

	while ((text = strstr(text, what))) {
		text += strlen(what);
		n++;
	}
	return n;
}

static void test_abi(void)
{
	char dir[32];
	unsigned int ep, files;
	struct vp_peer p;
	struct vp_cfg c;

	ctl_need_loaded();
	vp_cfg_default(&c);
	vp_bridge_add(c.bridge, 0);
	ktap_assert(!vp_open(&p, &c, 0) && !vp_start(&p), "peer");
	ctl_wait(p.tap, 1, &ep);
	snprintf(dir, sizeof(dir), "endpoints/ep%u/", ep);
	files = check_dir("", "") + check_dir(dir, "endpoints/ep<N>/");
	/* And two directories: nothing is described that is not there. */
	ktap_assert(count(read_source(ABI), "What:\t") == files + 2,
		    "%u files, and another number of entries in " ABI, files);
	vp_close(&p);
	ctl_need_unloaded();
}

/* Reasons that the kernel knows: all are described, and the tool has words. */
static void test_reasons(void)
{
	const char *names = read_source(NAMES);
	const char *text = read_source(ABI);
	const char *script = read_source(TOOL);
	const char *p = strstr(names, "slow_names[]");
	const char *end = p ? strstr(p, "};") : NULL;
	char name[32], line[64];
	unsigned int n = 0;

	ktap_assert(end, "no names in " NAMES);
	while ((p = strstr(p, "[CROSSTALK_SLOW_")) && p < end) {
		p = strchr(p, '"');
		ktap_assert(sscanf(p, "\"%31[^\"]\"", name) == 1, "%.32s", p);
		snprintf(line, sizeof(line), "\n\t\t%s ", name);
		ktap_assert(strstr(text, line), "%s is not in " ABI, name);
		snprintf(line, sizeof(line), "\n\t'%s' =>", name);
		ktap_assert(strstr(script, line), "%s is not in " TOOL, name);
		n++;
	}
	/* As many as there were when this was written, and those to come. */
	ktap_assert(n >= 52, "%u names", n);
}

static const struct ktap_case cases[] = {
	{ "status", test_status, .slow = true },
	{ "alone", test_alone, .slow = true },
	{ "switches", test_switches },
	{ "top", test_top, .slow = true },
	{ "trace", test_trace, .lacks = no_tracing },
	{ "abi", test_abi },
	{ "reasons", test_reasons },
};

int main(int argc, char **argv)
{
	return ktap_main(argc, argv, cases, VP_ARRAY_SIZE(cases));
}
