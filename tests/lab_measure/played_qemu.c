/*
 * A QEMU that is played, for test_plugin.py: loads the plug-in, lets it see one block of two instructions, and makes the
 * accesses that it reads from its standard input, a line each:
 *
 *   CPU INSTRUCTION(0 or 1) PAGE(-1: device, -2: unknown) STORE(0 or 1) TIMES
 *
 * Arguments: the plug-in, the number of CPUs, the two instructions' addresses, then the plug-in's own arguments.
 */
#include "qemu_plugin.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct qemu_plugin_insn {
    uint64_t address;
    qemu_plugin_vcpu_mem_cb_t callback;
    void *userdata;
};

struct qemu_plugin_tb {
    struct qemu_plugin_insn instructions[2];
};

struct qemu_plugin_hwaddr {
    long page;
};

static struct qemu_plugin_tb block;
static struct qemu_plugin_hwaddr target;

EXPORTED void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, qemu_plugin_vcpu_tb_trans_cb_t callback)
{
    callback(id, &block);
}

EXPORTED size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb)
{
    return sizeof tb->instructions / sizeof *tb->instructions;
}

EXPORTED struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index)
{
    return (struct qemu_plugin_insn *)&tb->instructions[index];
}

EXPORTED uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *instruction)
{
    return instruction->address;
}

EXPORTED void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *instruction, qemu_plugin_vcpu_mem_cb_t callback,
                                               enum qemu_plugin_cb_flags flags, enum qemu_plugin_mem_rw rw,
                                               void *userdata)
{
    if (flags != QEMU_PLUGIN_CB_NO_REGS || rw != QEMU_PLUGIN_MEM_RW)
        abort();
    instruction->callback = callback;
    instruction->userdata = userdata;
}

EXPORTED bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t info)
{
    return info == 1;
}

EXPORTED struct qemu_plugin_hwaddr *qemu_plugin_get_hwaddr(qemu_plugin_meminfo_t info, uint64_t vaddr)
{
    (void)info;
    (void)vaddr;
    return target.page == -2 ? NULL : &target;
}

EXPORTED bool qemu_plugin_hwaddr_is_io(const struct qemu_plugin_hwaddr *address)
{
    return address->page == -1;
}

EXPORTED uint64_t qemu_plugin_hwaddr_phys_addr(const struct qemu_plugin_hwaddr *address)
{
    return ((uint64_t)address->page << 12) + 8;
}

int main(int argc, char **argv)
{
    qemu_info_t info = { .target_name = "x86_64", .version = { 0, INTERFACE_VERSION }, .system_emulation = true };
    int (*install)(qemu_plugin_id_t, const qemu_info_t *, int, char **);
    unsigned int cpu, instruction, store;
    unsigned long times;
    void *plugin;

    if (argc < 5 || !(plugin = dlopen(argv[1], RTLD_NOW))) {
        fprintf(stderr, "%s\n", argc < 5 ? "wrong usage" : dlerror());
        return 99;
    }
    info.system.smp_vcpus = info.system.max_vcpus = atoi(argv[2]);
    block.instructions[0].address = strtoul(argv[3], NULL, 0);
    block.instructions[1].address = strtoul(argv[4], NULL, 0);
    *(void **)&install = dlsym(plugin, "qemu_plugin_install");
    if (install(1, &info, argc - 5, argv + 5) != 0)
        return 1;
    while (scanf("%u %u %ld %u %lu", &cpu, &instruction, &target.page, &store, &times) == 5)
        for (; times; times--)
            block.instructions[instruction].callback(cpu, store, 0, block.instructions[instruction].userdata);
    return 0;
}
