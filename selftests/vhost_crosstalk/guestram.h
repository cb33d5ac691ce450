/* SPDX-License-Identifier: GPL-2.0 */
/* The file system for guest RAM: loading it, mounts and files of it. */
#ifndef GUESTRAM_H
#define GUESTRAM_H

#include <stdbool.h>
#include <linux/types.h>

bool guestram_loaded(void);
int guestram_load(void);		/* 0 or -errno; nothing to do is fine */
int guestram_unload(void);
long guestram_frames(void);		/* of all files; -1 if not loaded */
int guestram_mount(const char *dir, const char *options);	/* 0 or -errno */

/*
 * A file without a name, on a mount of its own that has room for @size bytes
 * and goes with the file: its descriptor, or -errno.
 */
int guestram_file(__u64 size);

#endif
