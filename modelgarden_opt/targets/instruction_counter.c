/* QEMU plugin that counts the instructions a program executes.

   The program marks the beginning and the end of what is measured by the
   system call MARK; at each of them the count so far is written as one line to
   the file that the environment variable COUNTS_PATH names.

   Compile with -DAPI_VERSION=1 for QEMU before 9, =2 from 9 on, and
   -DMARK=<number of getppid on the guest>. QEMU's header is not needed: what
   is used of the plugin interface is declared here, as its documentation
   (docs/devel/tcg-plugins.rst) has it. */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define PUBLIC __attribute__((visibility("default")))

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
typedef void (*translated)(plugin_id, struct qemu_plugin_tb *);
typedef void (*executed)(unsigned int cpu, void *data);
typedef void (*called)(plugin_id, unsigned int cpu, int64_t number, uint64_t,
                       uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                       uint64_t, uint64_t);

/* enum qemu_plugin_cb_flags: the callback reads no registers. */
enum { NO_REGISTERS = 0 };

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, translated);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, executed,
                                          int flags, void *data);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id, called);

PUBLIC int qemu_plugin_version = API_VERSION;

static uint64_t instructions;
static FILE *counts;

static void add(unsigned int cpu, void *length) {
  (void)cpu;
  __atomic_fetch_add(&instructions, (uintptr_t)length, __ATOMIC_RELAXED);
}

static void on_block(plugin_id id, struct qemu_plugin_tb *block) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_cb(
      block, add, NO_REGISTERS, (void *)qemu_plugin_tb_n_insns(block));
}

static void on_system_call(plugin_id id, unsigned int cpu, int64_t number,
                           uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                           uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
  (void)id, (void)cpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f,
      (void)g, (void)h;
  if (number == MARK) {
    fprintf(counts, "%" PRIu64 "\n", instructions);
    fflush(counts);
  }
}

PUBLIC int qemu_plugin_install(plugin_id id, const void *info, int argc,
                               char **argv) {
  (void)info, (void)argc, (void)argv;
  const char *path = getenv("COUNTS_PATH");
  counts = path ? fopen(path, "w") : NULL;
  if (!counts) {
    fprintf(stderr, "COUNTS_PATH: cannot be written\n");
    return 1;
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_block);
  qemu_plugin_register_vcpu_syscall_cb(id, on_system_call);
  return 0;
}
