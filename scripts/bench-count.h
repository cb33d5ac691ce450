/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What bench-count.c uses of QEMU's interface for plugins: Debian has no package
 * with qemu-plugin.h. It is so in versions 0 and 1; QEMU refuses others.
 */
#ifndef BENCH_COUNT_H
#define BENCH_COUNT_H

#include <linux/types.h>
#include <stddef.h>

typedef __u64 u64;
typedef __u32 u32;
typedef __u8 u8;

#define EXPORT __attribute__((visibility("default")))

struct qemu_plugin_tb;
struct qemu_plugin_insn;

enum { INLINE_ADD_U64 };	/* of qemu_plugin_op */
enum { CB_NO_REGS };		/* of qemu_plugin_cb_flags */

typedef void (*tb_trans_cb)(u64 id, struct qemu_plugin_tb *tb);
typedef void (*exec_cb)(unsigned int cpu, void *data);

void qemu_plugin_register_vcpu_tb_trans_cb(u64 id, tb_trans_cb cb);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int op,
					      void *ptr, u64 imm);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
					    exec_cb cb, int flags, void *data);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, exec_cb cb,
					  int flags, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
u64 qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *
qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t at);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
void *qemu_plugin_insn_haddr(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);

/* QEMU's own, which its modules use; not of the interface */
void *qemu_get_cpu(int index);
void cpu_loop_exit_noexc(void *cpu);

EXPORT extern int qemu_plugin_version;
EXPORT int qemu_plugin_install(u64 id, const void *info, int argc,
			       char **argv);

#endif
