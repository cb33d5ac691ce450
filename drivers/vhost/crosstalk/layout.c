// SPDX-License-Identifier: GPL-2.0
/*
 * Compares the private structs that this module was built for with those of
 * the kernel that runs, by the BTF that the kernel carries of itself.
 *
 * The modversion CRCs of vhost's exports cover vhost's own structs, but nothing
 * covers those of vhost_net, tun and bridge: without this check a module that
 * was built against the wrong image would write into the wrong place.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/btf.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/printk.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

#include "layout.h"
#include "vhost_private.h"

#define BTF_DIR "/sys/kernel/btf/"

/* Far above any kernel's BTF (about 5 MiB): an end to what is read. */
#define MAX_BTF_SIZE (64 << 20)

#define MEMBER(type, member) { #member, offsetof(struct type, member) }

/* The same of a struct whose places gen-layout.sh has written as numbers. */
#define PLACE(type, member) { #member, LAYOUT_##type##_##member }
#define PLACES(type) \
	{ #type, LAYOUT_##type##_size, ARRAY_SIZE(type##_members), \
	  type##_members }

#define STRUCT(type) \
	{ #type, sizeof(struct type), ARRAY_SIZE(type##_members), \
	  type##_members }

static const struct crosstalk_member vhost_work_members[] = {
	MEMBER(vhost_work, fn),
};

static const struct crosstalk_member vhost_poll_members[] = {
	MEMBER(vhost_poll, work),
};

static const struct crosstalk_member vhost_virtqueue_members[] = {
	MEMBER(vhost_virtqueue, mutex),
	MEMBER(vhost_virtqueue, num),
	MEMBER(vhost_virtqueue, desc),
	MEMBER(vhost_virtqueue, avail),
	MEMBER(vhost_virtqueue, used),
	MEMBER(vhost_virtqueue, call_ctx),
	MEMBER(vhost_virtqueue, error_ctx),
	MEMBER(vhost_virtqueue, poll),
	MEMBER(vhost_virtqueue, last_avail_idx),
	MEMBER(vhost_virtqueue, avail_idx),
	MEMBER(vhost_virtqueue, last_used_idx),
	MEMBER(vhost_virtqueue, used_flags),
	MEMBER(vhost_virtqueue, signalled_used),
	MEMBER(vhost_virtqueue, signalled_used_valid),
	MEMBER(vhost_virtqueue, log_used),
	MEMBER(vhost_virtqueue, iov),
	MEMBER(vhost_virtqueue, umem),
	MEMBER(vhost_virtqueue, iotlb),
	MEMBER(vhost_virtqueue, private_data),
	MEMBER(vhost_virtqueue, acked_features),
	MEMBER(vhost_virtqueue, is_le),
	MEMBER(vhost_virtqueue, busyloop_timeout),
};

static const struct crosstalk_member vhost_dev_members[] = {
	MEMBER(vhost_dev, mm),
	MEMBER(vhost_dev, vqs),
	MEMBER(vhost_dev, nvqs),
	MEMBER(vhost_dev, weight),
	MEMBER(vhost_dev, byte_weight),
};

static const struct crosstalk_member vhost_net_virtqueue_members[] = {
	MEMBER(vhost_net_virtqueue, vq),
	MEMBER(vhost_net_virtqueue, vhost_hlen),
	MEMBER(vhost_net_virtqueue, sock_hlen),
	MEMBER(vhost_net_virtqueue, ubufs),
};

static const struct crosstalk_member vhost_net_members[] = {
	MEMBER(vhost_net, dev),
	MEMBER(vhost_net, vqs),
	MEMBER(vhost_net, poll),
};

static const struct crosstalk_member tun_file_members[] = {
	MEMBER(tun_file, socket),
	MEMBER(tun_file, tun),
	MEMBER(tun_file, napi_enabled),
	MEMBER(tun_file, napi_frags_enabled),
};

static const struct crosstalk_member tun_struct_members[] = {
	MEMBER(tun_struct, dev),
	MEMBER(tun_struct, tfiles),
	MEMBER(tun_struct, numqueues),
	MEMBER(tun_struct, flags),
	MEMBER(tun_struct, vnet_hdr_sz),
	MEMBER(tun_struct, sndbuf),
	MEMBER(tun_struct, txflt),
	MEMBER(tun_struct, filter_attached),
	MEMBER(tun_struct, lock),
	MEMBER(tun_struct, flows),
	MEMBER(tun_struct, flow_gc_timer),
	MEMBER(tun_struct, ageing_time),
	MEMBER(tun_struct, flow_count),
	MEMBER(tun_struct, steering_prog),
	MEMBER(tun_struct, filter_prog),
};

static const struct crosstalk_member tun_flow_entry_members[] = {
	MEMBER(tun_flow_entry, hash_link),
	MEMBER(tun_flow_entry, tun),
	MEMBER(tun_flow_entry, rxhash),
	MEMBER(tun_flow_entry, rps_rxhash),
	MEMBER(tun_flow_entry, queue_index),
	MEMBER(tun_flow_entry, updated),
};

static const struct crosstalk_member net_bridge_port_members[] = {
	PLACE(net_bridge_port, vlgrp),
};

static const struct crosstalk_member net_bridge_vlan_group_members[] = {
	PLACE(net_bridge_vlan_group, vlan_list),
};

static const struct crosstalk_member net_bridge_vlan_members[] = {
	PLACE(net_bridge_vlan, vid),
	PLACE(net_bridge_vlan, state),
	PLACE(net_bridge_vlan, vlist),
};

static const struct crosstalk_struct vhost_net_structs[] = {
	STRUCT(vhost_work),
	STRUCT(vhost_poll),
	STRUCT(vhost_virtqueue),
	STRUCT(vhost_dev),
	STRUCT(vhost_net_virtqueue),
	STRUCT(vhost_net),
};

static const struct crosstalk_struct tun_structs[] = {
	STRUCT(tun_file),
	STRUCT(tun_struct),
	STRUCT(tun_flow_entry),
};

static const struct crosstalk_struct bridge_structs[] = {
	PLACES(net_bridge_port),
	PLACES(net_bridge_vlan_group),
	PLACES(net_bridge_vlan),
};

/* Where things are is checked here, once: nobody looks beyond the ends. */
static bool is_header(const struct btf_header *hdr, u64 size)
{
	u64 body;

	if (size < sizeof(*hdr) || hdr->magic != BTF_MAGIC ||
	    hdr->hdr_len < sizeof(*hdr) || hdr->hdr_len > size)
		return false;

	body = size - hdr->hdr_len;
	return (u64)hdr->type_off + hdr->type_len <= body &&
	       (u64)hdr->str_off + hdr->str_len <= body &&
	       !(hdr->type_off % 4);
}

/* Every string ends inside the section. */
static bool are_strings(const char *strs, u32 len)
{
	return !len || !strs[len - 1];
}

/**
 * crosstalk_btf_open() - check the outer form of BTF data
 * @btf: filled in; points into @data
 * @data: what a file of /sys/kernel/btf holds
 * @size: its bytes
 * @base: vmlinux's BTF for a module's, NULL for vmlinux itself
 *
 * Return: 0, or -EINVAL for data that is no BTF.
 */
int crosstalk_btf_open(struct crosstalk_btf *btf, const void *data, size_t size,
		       const struct crosstalk_btf *base)
{
	const struct btf_header *hdr = data;

	if (!is_header(hdr, size))
		return -EINVAL;

	btf->types = data + hdr->hdr_len + hdr->type_off;
	btf->types_len = hdr->type_len;
	btf->strs = data + hdr->hdr_len + hdr->str_off;
	btf->strs_len = hdr->str_len;
	btf->base = base;
	return are_strings(btf->strs, btf->strs_len) ? 0 : -EINVAL;
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_btf_open);

/* A module's string offsets go on where vmlinux's end. */
static const char *btf_str(const struct crosstalk_btf *btf, u32 off)
{
	if (btf->base) {
		if (off < btf->base->strs_len)
			return btf->base->strs + off;
		off -= btf->base->strs_len;
	}
	return off < btf->strs_len ? btf->strs + off : "";
}

/* Bytes that follow a type's common part; negative for an unknown kind. */
static int btf_extra(const struct btf_type *t)
{
	u32 vlen = BTF_INFO_VLEN(t->info);

	switch (BTF_INFO_KIND(t->info)) {
	case BTF_KIND_PTR:
	case BTF_KIND_FWD:
	case BTF_KIND_TYPEDEF:
	case BTF_KIND_VOLATILE:
	case BTF_KIND_CONST:
	case BTF_KIND_RESTRICT:
	case BTF_KIND_FUNC:
	case BTF_KIND_FLOAT:
	case BTF_KIND_TYPE_TAG:
		return 0;
	case BTF_KIND_INT:
		return sizeof(u32);
	case BTF_KIND_VAR:
		return sizeof(struct btf_var);
	case BTF_KIND_DECL_TAG:
		return sizeof(struct btf_decl_tag);
	case BTF_KIND_ARRAY:
		return sizeof(struct btf_array);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return vlen * sizeof(struct btf_member);
	case BTF_KIND_ENUM:
		return vlen * sizeof(struct btf_enum);
	case BTF_KIND_ENUM64:
		return vlen * sizeof(struct btf_enum64);
	case BTF_KIND_FUNC_PROTO:
		return vlen * sizeof(struct btf_param);
	case BTF_KIND_DATASEC:
		return vlen * sizeof(struct btf_var_secinfo);
	default:
		return -EINVAL;
	}
}

static const struct btf_type *find_struct(const struct crosstalk_btf *btf,
					  const char *name)
{
	const void *end = btf->types + btf->types_len;
	const void *pos = btf->types;

	while (end - pos >= (ptrdiff_t)sizeof(struct btf_type)) {
		const struct btf_type *t = pos;
		int extra = btf_extra(t);

		if (extra < 0 || end - pos < (ptrdiff_t)sizeof(*t) + extra)
			return NULL;
		if (BTF_INFO_KIND(t->info) == BTF_KIND_STRUCT &&
		    !strcmp(btf_str(btf, t->name_off), name))
			return t;
		pos += sizeof(*t) + extra;
	}
	return NULL;
}

static const struct btf_member *find_member(const struct crosstalk_btf *btf,
					    const struct btf_type *t,
					    const char *name)
{
	const struct btf_member *m = (const void *)(t + 1);
	u32 i;

	for (i = 0; i < BTF_INFO_VLEN(t->info); i++)
		if (!strcmp(btf_str(btf, m[i].name_off), name))
			return &m[i];
	return NULL;
}

static int check_member(const struct crosstalk_btf *btf,
			const struct btf_type *t,
			const struct crosstalk_struct *want,
			const struct crosstalk_member *wm)
{
	const struct btf_member *m = find_member(btf, t, wm->name);
	u32 bits;

	if (!m) {
		pr_err("struct %s of the running kernel has no member %s\n",
		       want->name, wm->name);
		return -ENOENT;
	}

	bits = BTF_INFO_KFLAG(t->info) ? BTF_MEMBER_BIT_OFFSET(m->offset) :
					 m->offset;
	if (bits != wm->offset * 8) {
		pr_err("%s.%s is at %u in the running kernel, at %u in this build\n",
		       want->name, wm->name, bits / 8, wm->offset);
		return -EBADMSG;
	}
	return 0;
}

/**
 * crosstalk_btf_check() - compare one struct with what BTF says of it
 * @btf: opened; its base is searched when it has no such struct
 * @want: the struct as this module was built for it
 *
 * Return: 0, -ENOENT when the struct or a member is not there, -EBADMSG when
 * its size or a member's place differs; what differs is in the log.  -ENODATA
 * when the answer is among the base's types, and those are not in memory.
 */
int crosstalk_btf_check(const struct crosstalk_btf *btf,
			const struct crosstalk_struct *want)
{
	const struct btf_type *t = find_struct(btf, want->name);
	u32 i;
	int ret;

	if (!t && btf->base) {
		btf = btf->base;
		t = find_struct(btf, want->name);
	}
	if (!t && !btf->types)
		return -ENODATA;
	if (!t) {
		pr_err("the running kernel has no struct %s\n", want->name);
		return -ENOENT;
	}
	if (t->size != want->size) {
		pr_err("struct %s has %u bytes in the running kernel, %u in this build\n",
		       want->name, t->size, want->size);
		return -EBADMSG;
	}

	for (i = 0; i < want->nr_members; i++) {
		ret = check_member(btf, t, want, &want->members[i]);
		if (ret)
			return ret;
	}
	return 0;
}
EXPORT_SYMBOL_FOR_CROSSTALK_TEST(crosstalk_btf_check);

/*
 * Reads a part of a file.  kernel_read_file() wants to know what the data is
 * for, and security modules know of no BTF.
 */
static int read_part(struct file *file, loff_t from, size_t size, void *data)
{
	size_t done = 0;
	ssize_t ret;

	while (done < size) {
		ret = kernel_read(file, data + done, size - done, &from);
		if (ret <= 0)
			return ret ? ret : -EIO;
		done += ret;
	}
	return 0;
}

/* The same, into memory of its own; vfree() it. */
static void *read_new(struct file *file, loff_t from, size_t size)
{
	void *data;
	int ret;

	if (!size || size > MAX_BTF_SIZE)
		return ERR_PTR(-EINVAL);

	data = vmalloc(size);
	if (!data)
		return ERR_PTR(-ENOMEM);

	ret = read_part(file, from, size, data);
	if (ret) {
		vfree(data);
		return ERR_PTR(ret);
	}
	return data;
}

/* vmlinux's BTF: several megabytes, of which the names are read first. */
struct vmlinux {
	struct crosstalk_btf btf;
	struct btf_header hdr;
	struct file *file;
	void *strs;
	void *types;
};

static int open_vmlinux(struct vmlinux *v)
{
	struct btf_header *hdr = &v->hdr;
	struct file *file;
	void *strs;
	int ret;

	file = filp_open(BTF_DIR "vmlinux", O_RDONLY, 0);
	if (IS_ERR(file))
		return PTR_ERR(file);

	v->file = file;
	ret = read_part(file, 0, sizeof(*hdr), hdr);
	if (ret)
		return ret;
	if (!is_header(hdr, i_size_read(file_inode(file))))
		return -EINVAL;

	strs = read_new(file, (loff_t)hdr->hdr_len + hdr->str_off,
			hdr->str_len);
	if (IS_ERR(strs))
		return PTR_ERR(strs);

	v->strs = strs;
	v->btf.strs = strs;
	v->btf.strs_len = hdr->str_len;
	return are_strings(strs, hdr->str_len) ? 0 : -EINVAL;
}

static int read_types(struct vmlinux *v)
{
	const struct btf_header *hdr = &v->hdr;
	void *types;

	types = read_new(v->file, (loff_t)hdr->hdr_len + hdr->type_off,
			 hdr->type_len);
	if (IS_ERR(types))
		return PTR_ERR(types);

	v->types = types;
	v->btf.types = types;
	v->btf.types_len = hdr->type_len;
	return 0;
}

static void close_vmlinux(struct vmlinux *v)
{
	vfree(v->types);
	vfree(v->strs);
	if (v->file)
		filp_close(v->file, NULL);
}

static int read_btf(const char *path, struct crosstalk_btf *btf, void **data,
		    const struct crosstalk_btf *base)
{
	struct file *file;
	void *read;
	loff_t size;

	file = filp_open(path, O_RDONLY, 0);
	if (IS_ERR(file))
		return PTR_ERR(file);

	size = i_size_read(file_inode(file));
	read = size > MAX_BTF_SIZE ? ERR_PTR(-EINVAL) :
				     read_new(file, 0, size);
	filp_close(file, NULL);
	if (IS_ERR(read))
		return PTR_ERR(read);

	*data = read;
	return crosstalk_btf_open(btf, read, size, base);
}

/* Types of vmlinux are read when a struct is not the module's own. */
static int check_struct(const struct crosstalk_btf *btf, struct vmlinux *v,
			const struct crosstalk_struct *want)
{
	int ret = crosstalk_btf_check(btf, want);

	if (ret != -ENODATA)
		return ret;

	ret = read_types(v);
	return ret ? ret : crosstalk_btf_check(btf, want);
}

static int check_module(const char *path, struct vmlinux *vmlinux,
			const struct crosstalk_struct *want, unsigned int nr)
{
	const struct crosstalk_btf *btf = &vmlinux->btf;
	struct crosstalk_btf own;
	void *data = NULL;
	unsigned int i;
	int ret;

	/* Built into the image, its types are in vmlinux's BTF. */
	ret = read_btf(path, &own, &data, btf);
	if (!ret)
		btf = &own;
	else if (ret != -ENOENT)
		goto out;

	for (i = 0, ret = 0; i < nr && !ret; i++)
		ret = check_struct(btf, vmlinux, &want[i]);
out:
	vfree(data);
	return ret;
}

/**
 * crosstalk_layout_check() - compare all private structs with the running kernel
 *
 * Context: process context, may sleep; vhost_net and tun are loaded.
 * Return: 0, or a negative error with its reason in the log.
 */
int crosstalk_layout_check(void)
{
	struct vmlinux vmlinux = {};
	int ret;

	ret = open_vmlinux(&vmlinux);
	if (ret) {
		pr_err("cannot read " BTF_DIR "vmlinux (%d)\n", ret);
		pr_err("this needs CONFIG_DEBUG_INFO_BTF=y and sysfs on /sys\n");
		goto out;
	}

	ret = check_module(BTF_DIR "vhost_net", &vmlinux, vhost_net_structs,
			   ARRAY_SIZE(vhost_net_structs));
	if (!ret)
		ret = check_module(BTF_DIR "tun", &vmlinux, tun_structs,
				   ARRAY_SIZE(tun_structs));
	if (!ret)
		ret = check_module(BTF_DIR "bridge", &vmlinux, bridge_structs,
				   ARRAY_SIZE(bridge_structs));
	if (ret)
		pr_err("the structs of vhost_net, tun or bridge are not those that this module was built for: rebuild it for the running kernel\n");
out:
	close_vmlinux(&vmlinux);
	return ret;
}
