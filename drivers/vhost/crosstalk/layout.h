/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _CROSSTALK_LAYOUT_H
#define _CROSSTALK_LAYOUT_H

#include <linux/types.h>

/**
 * struct crosstalk_btf - BTF data that was checked for its outer form
 * @types: type section
 * @types_len: its bytes
 * @strs: string section
 * @strs_len: its bytes
 * @base: the vmlinux BTF below a module's, or NULL
 */
struct crosstalk_btf {
	const void *types;
	u32 types_len;
	const char *strs;
	u32 strs_len;
	const struct crosstalk_btf *base;
};

/**
 * struct crosstalk_member - a member whose place matters
 * @name: as in the struct's definition
 * @offset: bytes from its start
 */
struct crosstalk_member {
	const char *name;
	u32 offset;
};

/**
 * struct crosstalk_struct - a struct as this module was built for it
 * @name: tag
 * @size: bytes
 * @nr_members: entries of @members
 * @members: those that the module touches
 */
struct crosstalk_struct {
	const char *name;
	u32 size;
	u32 nr_members;
	const struct crosstalk_member *members;
};

int crosstalk_btf_open(struct crosstalk_btf *btf, const void *data, size_t size,
		       const struct crosstalk_btf *base);
int crosstalk_btf_check(const struct crosstalk_btf *btf,
			const struct crosstalk_struct *want);
int crosstalk_layout_check(void);

#endif /* _CROSSTALK_LAYOUT_H */
