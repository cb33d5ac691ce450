// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fail.h"
#include "ktap.h"
#include "vpeer.h"

#define DEBUG	"/sys/kernel/debug/"

static int nth_fd = -1;

const char *fail_lacks(void)
{
	if (access(DEBUG FAIL_SLAB "/probability", W_OK) ||
	    access(DEBUG FAIL_PAGES "/probability", W_OK) ||
	    access("/proc/thread-self/fail-nth", W_OK))
		return "has no fault injection (CONFIG_FAILSLAB, CONFIG_FAIL_PAGE_ALLOC)";
	return NULL;
}

static void set(const char *kind, const char *file, const char *text)
{
	char path[128];
	int ret;

	snprintf(path, sizeof(path), DEBUG "%s/%s", kind, file);
	ret = vp_write_file(path, text);
	ktap_assert(!ret, "%s: %s", path, strerror(-ret));
}

void fail_setup(const char *kind)
{
	set(kind, "verbose", "0");
	set(kind, "ignore-gfp-wait", "N");
	if (strcmp(kind, FAIL_PAGES))
		return;
	set(kind, "ignore-gfp-highmem", "N");
	set(kind, "min-order", "0");
}

void fail_open(void)
{
	/* Before it is used, because that takes memory, too. */
	nth_fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	ktap_assert(nth_fd >= 0, "fail-nth: %s", strerror(errno));
}

void fail_nth(unsigned int nth)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", nth);
	/* That this write can fail in the same way is part of it. */
	while (pwrite(nth_fd, text, strlen(text), 0) <= 0)
		ktap_assert(errno == EFAULT || errno == ENOMEM, "fail-nth: %s",
			    strerror(errno));
}

bool failed_nth(void)
{
	char text[16] = "";

	while (pread(nth_fd, text, sizeof(text) - 1, 0) <= 0)
		ktap_assert(errno == EFAULT || errno == ENOMEM, "fail-nth: %s",
			    strerror(errno));
	fail_nth(0);
	return strtoul(text, NULL, 10) == 0;
}
