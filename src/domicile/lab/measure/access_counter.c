/*
 * Count the memory accesses of an emulated machine: per CPU, by where they go, by whose code makes them.
 *
 * A QEMU TCG plug-in. Its one argument, counters=FILE, names the file that it shares with domicile (counters.py, which
 * makes the file and documents its layout): a header, a map with one entry for every page of memory, and the counters.
 * The map says which slot a page is counted in, so what a slot means (a node and an owner) is decided, and can be changed
 * while the machine runs, on the other side. Each CPU has counters of its own, written by its own thread only: no locks,
 * no atomics; the reader takes 64-bit words that only grow.
 *
 * Finding out where an access went costs QEMU some ten times what the access does, calling us next to nothing. So only
 * one access of `every` is looked at and stands for all of them. The steps between two are random, from 1 to
 * 2 * every - 1: a loop of regular loads and stores could otherwise keep pace with us. With `every` 1 each is counted.
 */

#include "qemu_plugin.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC 0x656c6963696d6f64UL /* the letters "domicile" read as a little-endian number */
#define LAYOUT 1
#define PAGE_SHIFT 12

/* Slots behind those of the map. */
enum { ELSEWHERE = 0, DEVICE = 1, UNKNOWN = 2, EXTRA_SLOTS = 3 };

/* The file begins with this; offsets are in bytes from its start. */
struct header {
    uint64_t magic, layout, cpus, slots, pages, map_offset, counters_offset, cpu_stride;
    uint64_t code_first, code_last; /* virtual addresses of the instructions that are counted apart */
    uint64_t every;                 /* one access of so many is looked at */
    uint64_t attached;              /* set by us */
};

/* A CPU's own, a cache line each. */
struct sampler {
    _Alignas(64) uint64_t to_go;
    uint64_t random;
};

EXPORTED int qemu_plugin_version = INTERFACE_VERSION;

static struct header *header;
static const uint16_t *map;
static uint8_t *counters;
static struct sampler *samplers;
static uint64_t cpus, slots, pages, cpu_stride, every;

/* Counters of one CPU: [code apart: 0, 1][slot][load, store]. */
static inline void count(unsigned int cpu, uintptr_t apart, uint64_t slot, bool store)
{
    uint64_t *row = (uint64_t *)(counters + cpu * cpu_stride);

    row[(apart * (slots + EXTRA_SLOTS) + slot) * 2 + store] += every;
}

/* Accesses until the one after this that is looked at: 1 to 2 * every - 1, each as likely (xorshift64, Marsaglia 2003). */
static inline uint64_t steps(struct sampler *sampler)
{
    uint64_t random = sampler->random;

    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    sampler->random = random;
    return 1 + (random >> 32) % (2 * every - 1);
}

static void on_access(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t vaddr, void *apart)
{
    struct qemu_plugin_hwaddr *address;
    uint64_t slot, page;

    if (cpu >= cpus || --samplers[cpu].to_go)
        return;
    samplers[cpu].to_go = steps(&samplers[cpu]);
    address = qemu_plugin_get_hwaddr(info, vaddr);
    if (!address) {
        slot = slots + UNKNOWN;
    } else if (qemu_plugin_hwaddr_is_io(address)) {
        slot = slots + DEVICE;
    } else {
        page = qemu_plugin_hwaddr_phys_addr(address) >> PAGE_SHIFT;
        slot = page < pages ? map[page] : slots;
        if (slot > slots)
            slot = slots + ELSEWHERE;
    }
    count(cpu, (uintptr_t)apart, slot, qemu_plugin_mem_is_store(info));
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    size_t i, n = qemu_plugin_tb_n_insns(tb);

    (void)id;
    for (i = 0; i < n; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(tb, i);
        uint64_t at = qemu_plugin_insn_vaddr(instruction);
        uintptr_t apart = at >= header->code_first && at <= header->code_last;

        qemu_plugin_register_vcpu_mem_cb(instruction, on_access, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW,
                                         (void *)apart);
    }
}

static int refuse(const char *why, const char *what)
{
    fprintf(stderr, "access_counter: %s%s%s\n", why, what ? ": " : "", what ? what : "");
    return 1;
}

static int attach(const char *path, int max_cpus)
{
    struct stat status;
    uint64_t cpu;
    void *mapped;
    int file = open(path, O_RDWR | O_CLOEXEC);

    if (file < 0 || fstat(file, &status) != 0)
        return refuse("cannot open the counters", path);
    mapped = (size_t)status.st_size < sizeof *header
                 ? MAP_FAILED
                 : mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (mapped == MAP_FAILED)
        return refuse("cannot map the counters", path);
    header = mapped;
    cpus = header->cpus;
    slots = header->slots;
    pages = header->pages;
    cpu_stride = header->cpu_stride;
    every = header->every;
    if (header->magic != MAGIC || header->layout != LAYOUT ||
        header->map_offset + pages * sizeof *map > header->counters_offset ||
        header->counters_offset + cpus * cpu_stride > (uint64_t)status.st_size ||
        2 * (slots + EXTRA_SLOTS) * 2 * sizeof(uint64_t) > cpu_stride || every < 1 || every > 1 << 20)
        return refuse("not a file of counters of this layout", path);
    if ((uint64_t)max_cpus > cpus)
        return refuse("the machine has more CPUs than there are counters for", path);
    map = (const uint16_t *)((uint8_t *)mapped + header->map_offset);
    counters = (uint8_t *)mapped + header->counters_offset;
    samplers = aligned_alloc(sizeof *samplers, cpus * sizeof *samplers);
    if (!samplers)
        return refuse("no memory", NULL);
    for (cpu = 0; cpu < cpus; cpu++)
        samplers[cpu] = (struct sampler){ .to_go = 1, .random = 0x9e3779b97f4a7c15UL * (cpu + 1) };
    return 0;
}

int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    const char *name = "counters=";

    if (!info->system_emulation || strcmp(info->target_name, "x86_64") != 0)
        return refuse("made for the emulation of a whole x86_64 machine", NULL);
    if (argc != 1 || strncmp(argv[0], name, strlen(name)) != 0)
        return refuse("wants one argument, counters=FILE", NULL);
    if (attach(argv[0] + strlen(name), info->system.max_vcpus) != 0)
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    header->attached = (uint64_t)getpid();
    return 0;
}
