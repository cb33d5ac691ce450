// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guestram.h"
#include "vpeer.h"

#define NAME "vhost_crosstalk_guestram"

bool guestram_loaded(void)
{
	return !access("/sys/module/" NAME "/refcnt", F_OK);
}

int guestram_load(void)
{
	const char *ko = getenv("CROSSTALK_GUESTRAM_KO");
	int fd, ret;

	if (guestram_loaded())
		return 0;
	if (!ko || !*ko)
		return vp_cmd("modprobe -q " NAME) ? -ENOENT : 0;
	fd = open(ko, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST ? -errno :
									0;
	close(fd);
	return ret;
}

int guestram_unload(void)
{
	return syscall(SYS_delete_module, NAME, O_NONBLOCK) ? -errno : 0;
}

long guestram_frames(void)
{
	char buf[32];

	if (vp_read_file("/sys/module/" NAME "/parameters/frames", buf,
			 sizeof(buf)) <= 0)
		return -1;
	return atol(buf);
}

int guestram_mount(const char *dir, const char *options)
{
	return mount("guestram", dir, "guestram", 0, options) ? -errno : 0;
}

int guestram_file(__u64 size)
{
	int fs, mnt = -1, fd = -1, err;
	char text[32];

	err = guestram_load();
	if (err)
		return err;
	snprintf(text, sizeof(text), "%llu", size);
	fs = fsopen("guestram", FSOPEN_CLOEXEC);
	if (fs < 0)
		return -errno;
	if (!fsconfig(fs, FSCONFIG_SET_STRING, "size", text, 0) &&
	    !fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		mnt = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	if (mnt >= 0)
		fd = openat(mnt, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	err = -errno;
	close(fs);
	if (mnt >= 0)
		close(mnt);
	return fd < 0 ? err : fd;
}
