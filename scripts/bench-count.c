// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A plugin of QEMU that counts the instructions of an emulated machine by the
 * place where they are: one counter for user space, and one for each block of
 * the kernel. bench_pair says when to begin and to end, by instructions that do
 * nothing on a processor (mark_begin() and mark_end() there).
 *
 * "-plugin file=bench-count.so,out=DIR" writes DIR/0, DIR/1, ... one file each
 * time: a line "user N", and a line "ADDRESS N" for each block of the kernel,
 * where N is a number of instructions.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench-count.h"

#define MARK_BEGIN	0x76634231
#define MARK_END	0x76634232
#define BUCKETS		65536
#define KERNEL		0x8000000000000000

/* Blocks may be translated again, and are counted on. */
struct block {
	struct block *next;
	u64 vaddr, count, before;
};

EXPORT int qemu_plugin_version = 1;

static struct block *blocks[BUCKETS];
static u64 user, user_before;
static const char *directory;
static unsigned int files;

static u64 *counter(u64 vaddr)
{
	struct block **head = &blocks[(vaddr ^ vaddr >> 16) % BUCKETS], *b;

	if (!(vaddr & KERNEL))
		return &user;
	for (b = *head; b; b = b->next)
		if (b->vaddr == vaddr)
			return &b->count;
	b = calloc(1, sizeof(*b));
	if (!b)
		abort();
	b->vaddr = vaddr;
	b->next = *head;
	*head = b;
	return &b->count;
}

static void begin(unsigned int cpu, void *data)
{
	struct block *b;
	unsigned int i;

	(void)cpu;
	(void)data;
	user_before = user;
	for (i = 0; i < BUCKETS; i++)
		for (b = blocks[i]; b; b = b->next)
			b->before = b->count;
}

static void end(unsigned int cpu, void *data)
{
	struct block *b;
	char path[4096];
	unsigned int i;
	FILE *f;

	(void)cpu;
	(void)data;
	snprintf(path, sizeof(path), "%s/%u", directory, files++);
	f = fopen(path, "w");
	if (!f) {
		perror(path);
		return;
	}
	fprintf(f, "user %llu\n", user - user_before);
	for (i = 0; i < BUCKETS; i++)
		for (b = blocks[i]; b; b = b->next)
			if (b->count != b->before)
				fprintf(f, "%llx %llu\n", b->vaddr,
					b->count - b->before);
	if (fclose(f))
		perror(path);
}

/* "nopl MARK(%rax)" */
static u32 mark(const struct qemu_plugin_insn *insn)
{
	const u8 *code = qemu_plugin_insn_data(insn);
	u32 value;

	if (qemu_plugin_insn_size(insn) != 7 || code[0] != 0x0f ||
	    code[1] != 0x1f || code[2] != 0x80)
		return 0;
	memcpy(&value, code + 3, sizeof(value));
	return value;
}

static void translated(u64 id, struct qemu_plugin_tb *tb)
{
	u64 vaddr = qemu_plugin_tb_vaddr(tb);
	size_t n = qemu_plugin_tb_n_insns(tb), i;

	(void)id;
	qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64,
						 counter(vaddr), n);
	for (i = 0; i < n && !(vaddr & KERNEL); i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		u32 value = mark(insn);

		if (value == MARK_BEGIN)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, begin,
							       CB_NO_REGS, NULL);
		if (value == MARK_END)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, end,
							       CB_NO_REGS, NULL);
	}
}

int qemu_plugin_install(u64 id, const void *info, int argc, char **argv)
{
	int i;

	(void)info;
	for (i = 0; i < argc; i++)
		if (!strncmp(argv[i], "out=", 4))
			directory = strdup(argv[i] + 4);
	if (!directory) {
		fprintf(stderr, "bench-count: out=DIRECTORY is missing\n");
		return -1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
