// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A plugin of QEMU that counts the instructions of an emulated machine by the
 * place where they are: one counter for user space, and one for each block of
 * the kernel. bench_pair says when to begin and to end, by instructions that do
 * nothing on a processor (bench_mark_begin()).
 *
 * "-plugin file=bench-count.so,out=DIR" writes DIR/0, DIR/1, ... one file each
 * time: a line "user N", a line "guests N", and a line "ADDRESS N" for each block
 * of the kernel, where N is a number of instructions.
 *
 * Guests of the emulated machine (nested SVM) have the same addresses as their
 * host. A processor is in a guest from VMRUN until it executes what follows VMRUN
 * in memory. That is known for a machine with one processor only.
 */
#include <stdbool.h>
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
static u64 guests, guests_before;
static u64 guests_at_vmrun;
static bool in_guest;
static const u8 *after_vmrun;	/* in the emulated machine's memory */
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

static void enter_guest(unsigned int cpu, void *data)
{
	(void)cpu;
	(void)data;
	in_guest = true;
	guests_at_vmrun = guests;
}

/*
 * QEMU's helper_vmrun() delivers the interrupt that a host injects, and leaves
 * its number in exception_index. If the processor's time slice ends before the
 * guest does, as it often does with -icount, it is delivered once more, with
 * interrupts off, and the guest hangs at a lock that it holds already. This
 * clears it, and begins with the block again, which has not been counted yet.
 */
static void first_block(unsigned int cpu, void *data)
{
	(void)data;
	if (guests != guests_at_vmrun)
		return;
	guests_at_vmrun = ~0ULL;
	cpu_loop_exit_noexc(qemu_get_cpu(cpu));
}

static void leave_guest(unsigned int cpu, void *data)
{
	(void)cpu;
	(void)data;
	in_guest = false;
}

static void begin(unsigned int cpu, void *data)
{
	struct block *b;
	unsigned int i;

	(void)cpu;
	(void)data;
	user_before = user;
	guests_before = guests;
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
	fprintf(f, "guests %llu\n", guests - guests_before);
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

static bool is_vmrun(const struct qemu_plugin_insn *insn)
{
	return qemu_plugin_insn_size(insn) == 3 &&
	       !memcmp(qemu_plugin_insn_data(insn), "\x0f\x01\xd8", 3);
}

/* Returns whether the block is a guest's: QEMU has others for the host. */
static bool is_guests(struct qemu_plugin_tb *tb)
{
	struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, 0);

	if (!after_vmrun || qemu_plugin_insn_haddr(insn) != after_vmrun) {
		/* All interrupts come with VMRUN, also a handler's first one. */
		if (in_guest && guests == guests_at_vmrun)
			qemu_plugin_register_vcpu_tb_exec_cb(tb, first_block,
							     CB_NO_REGS, NULL);
		return in_guest;
	}
	qemu_plugin_register_vcpu_insn_exec_cb(insn, leave_guest, CB_NO_REGS,
					       NULL);
	return false;
}

static void translated(u64 id, struct qemu_plugin_tb *tb)
{
	u64 vaddr = qemu_plugin_tb_vaddr(tb);
	size_t n = qemu_plugin_tb_n_insns(tb), i;
	bool guest = is_guests(tb);

	(void)id;
	qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64,
						 guest ? &guests : counter(vaddr),
						 n);
	for (i = 0; i < n && !guest; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		u32 value = vaddr & KERNEL ? 0 : mark(insn);

		if (value == MARK_BEGIN)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, begin,
							       CB_NO_REGS, NULL);
		if (value == MARK_END)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, end,
							       CB_NO_REGS, NULL);
		if (vaddr & KERNEL && is_vmrun(insn)) {
			after_vmrun = (u8 *)qemu_plugin_insn_haddr(insn) + 3;
			qemu_plugin_register_vcpu_insn_exec_cb(insn, enter_guest,
							       CB_NO_REGS, NULL);
		}
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
