/*
 * domicile-guest: what the lab's tiny guests do beyond busybox. Freestanding (no libc), Linux on x86-64.
 *
 *   domicile-guest load CPU MIB VERIFY PAUSE_MS FILE
 *                                            run on one CPU for ever, loading and storing one word of every cache line
 *                                            of MIB MiB; each finished sweep rewrites FILE with the number of sweeps,
 *                                            and is followed by so long a pause;
 *                                            VERIFY 1 checks that each word is what the sweep before left there
 *   domicile-guest read PATH                 print a xenstore value
 *   domicile-guest write PATH VALUE          set one
 *   domicile-guest follow PATH               print the value, a line each time it is written, for ever; an empty line
 *                                            stands for a value that is not there (also after a migration)
 *
 * Exit status: 0 done, 1 xenstore said no (no such path), 2 wrong usage, 3 a system call failed, 4 a word was not what
 * it should be.
 *
 * Xenstore is reached through /dev/xen/xenbus in the wire format of Xen's docs/misc/xenstore.txt and
 * xen/include/public/io/xs_wire.h (4.17).
 */

typedef unsigned long u64;
typedef unsigned int u32;

enum { SYS_read = 0, SYS_write = 1, SYS_open = 2, SYS_close = 3, SYS_mmap = 9, SYS_pwrite64 = 18, SYS_nanosleep = 35,
       SYS_exit = 60, SYS_sched_setaffinity = 203 };
enum { XS_READ = 2, XS_WATCH = 4, XS_WRITE = 11, XS_WATCH_EVENT = 15, XS_ERROR = 16, XS_PAYLOAD_MAX = 4096 };
enum { STDOUT = 1, STDERR = 2, O_RDWR = 2, O_CREAT = 0100, O_WRONLY = 1 };

static long syscall6(long number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    long result;
    register u64 r10 __asm__("r10") = d;
    register u64 r8 __asm__("r8") = e;
    register u64 r9 __asm__("r9") = f;

    __asm__ volatile("syscall" : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

static long syscall3(long number, u64 a, u64 b, u64 c)
{
    return syscall6(number, a, b, c, 0, 0, 0);
}

static void leave(int status)
{
    for (;;)
        syscall3(SYS_exit, (u64)status, 0, 0);
}

static u64 length(const char *text)
{
    u64 n = 0;
    while (text[n])
        n++;
    return n;
}

static void say(const char *text)
{
    syscall3(SYS_write, STDERR, (u64)text, length(text));
}

static void fail(const char *what)
{
    say("domicile-guest: ");
    say(what);
    say("\n");
    leave(3);
}

static int same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static u64 number(const char *text)
{
    u64 value = 0;

    if (!*text)
        leave(2);
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            leave(2);
        value = value * 10 + (u64)(*text - '0');
    }
    return value;
}

/* Memory and CPU ------------------------------------------------------------------------------------------------- */

static void run_on(u64 cpu)
{
    u64 mask[16] = { 0 };

    if (cpu >= sizeof mask * 8)
        leave(2);
    mask[cpu / 64] = 1UL << (cpu % 64);
    if (syscall3(SYS_sched_setaffinity, 0, sizeof mask, (u64)mask) < 0)
        fail("no such CPU");
}

static void note_sweeps(int file, u64 sweeps)
{
    char text[21];
    int at = 20;

    text[at] = '\n';
    do {
        text[--at] = (char)('0' + sweeps % 10);
        sweeps /= 10;
    } while (sweeps);
    syscall6(SYS_pwrite64, (u64)file, (u64)(text + at), (u64)(21 - at), 0, 0, 0);
}

static void rest(u64 ms)
{
    u64 span[2] = { ms / 1000, ms % 1000 * 1000000 };

    if (ms)
        syscall3(SYS_nanosleep, (u64)span, 0, 0);
}

static void load(u64 cpu, u64 mib, int verify, u64 pause_ms, const char *path)
{
    const u64 step = 64 / sizeof(u64);
    u64 words = (mib << 20) / sizeof(u64), sweeps = 0, i;
    volatile u64 *memory;
    long mapped;
    int file = (int)syscall3(SYS_open, (u64)path, O_CREAT | O_WRONLY, 0644);

    if (file < 0)
        fail("cannot write the file for the number of sweeps");
    run_on(cpu);
    /* PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS: pages come from the node of this CPU at the first touch */
    mapped = syscall6(SYS_mmap, 0, mib << 20, 3, 0x22, (u64)-1, 0);
    if (mapped < 0)
        fail("not enough memory");
    memory = (volatile u64 *)mapped;
    for (;;) {
        for (i = 0; i < words; i += step) {
            u64 word = memory[i];
            if (verify && word != (sweeps ? i ^ sweeps : 0)) {
                say("domicile-guest: memory is not what was stored there\n");
                leave(4);
            }
            memory[i] = verify ? i ^ (sweeps + 1) : word + 1;
        }
        note_sweeps(file, ++sweeps);
        rest(pause_ms);
    }
}

/* Xenstore ------------------------------------------------------------------------------------------------------- */

struct message {
    u32 type, request, transaction, length;
    char payload[XS_PAYLOAD_MAX];
};

static struct message message;

static void read_all(int bus, void *into, u64 size)
{
    char *at = into;

    while (size) {
        long got = syscall3(SYS_read, (u64)bus, (u64)at, size);
        if (got <= 0)
            fail("cannot read from xenstore");
        at += got;
        size -= (u64)got;
    }
}

static int open_bus(void)
{
    int bus = (int)syscall3(SYS_open, (u64) "/dev/xen/xenbus", O_RDWR, 0);
    if (bus < 0)
        fail("no /dev/xen/xenbus here");
    return bus;
}

static void put(const char *text, u64 size)
{
    u64 i;

    if (message.length + size > XS_PAYLOAD_MAX)
        leave(2);
    for (i = 0; i < size; i++)
        message.payload[message.length++] = text[i];
}

static void receive(int bus)
{
    read_all(bus, &message, 16);
    if (message.length > XS_PAYLOAD_MAX)
        fail("xenstore sent more than a message holds");
    read_all(bus, message.payload, message.length);
}

/* One request (its payload has been put) and its answer; 0 if xenstore refused it. */
static int ask(int bus, u32 type)
{
    message.type = type;
    message.request = message.transaction = 0;
    if (syscall3(SYS_write, (u64)bus, (u64)&message, 16 + message.length) < 0)
        fail("cannot write to xenstore");
    do
        receive(bus);
    while (message.type != type && message.type != XS_ERROR);
    return message.type == type;
}

static int store_read(const char *path)
{
    int bus = open_bus(), found;

    message.length = 0;
    put(path, length(path) + 1);
    found = ask(bus, XS_READ);
    if (found)
        syscall3(SYS_write, STDOUT, (u64)message.payload, message.length);
    syscall3(SYS_write, STDOUT, (u64) "\n", 1);
    syscall3(SYS_close, (u64)bus, 0, 0);
    return found ? 0 : 1;
}

static int store_write(const char *path, const char *value)
{
    message.length = 0;
    put(path, length(path) + 1);
    put(value, length(value));
    return ask(open_bus(), XS_WRITE) ? 0 : 1;
}

static int store_follow(const char *path)
{
    int bus = open_bus();

    message.length = 0;
    put(path, length(path) + 1);
    put("follow", 7);
    /* xenstore fires a watch once when it is set, so the value at the start is printed too */
    if (!ask(bus, XS_WATCH))
        return 1;
    for (;;) {
        receive(bus);
        if (message.type == XS_WATCH_EVENT)
            store_read(path);
    }
}

static int run(long argc, char **argv)
{
    if (argc == 7 && same(argv[1], "load"))
        load(number(argv[2]), number(argv[3]), (int)number(argv[4]), number(argv[5]), argv[6]);
    if (argc == 3 && same(argv[1], "read"))
        return store_read(argv[2]);
    if (argc == 4 && same(argv[1], "write"))
        return store_write(argv[2], argv[3]);
    if (argc == 3 && same(argv[1], "follow"))
        return store_follow(argv[2]);
    return 2;
}

__attribute__((used)) static void start(long *stack)
{
    leave(run(stack[0], (char **)(stack + 1)));
}

/* The kernel enters with argc at the stack pointer; C wants it as an argument and the stack aligned. */
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall start\n");
