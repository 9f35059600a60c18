/*
 * The only process of a Linux under the counting plug-in, for test_measure.py: binds memory to node 1, runs on the CPU
 * that the first character read says, and then makes a known number of loads and stores.
 */
typedef unsigned long u64;
enum { MIB = 16, ROUNDS = 8, STEP = 8 };

static long call(long number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    long result;
    register u64 r10 __asm__("r10") = d;
    register u64 r8 __asm__("r8") = e;
    register u64 r9 __asm__("r9") = f;

    __asm__ volatile("syscall" : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    return result;
}

static void say(const char *text)
{
    u64 n = 0;
    while (text[n])
        n++;
    call(1, 1, (u64)text, n, 0, 0, 0);
}

static char told(void)
{
    char letter = '\n';
    while (letter == '\n')
        if (call(0, 0, (u64)&letter, 1, 0, 0, 0) != 1)
            return 'q';
    return letter;
}

/* One load for every store, and as many of each as there are steps: nothing else touches memory in between. */
static void go(volatile u64 *memory)
{
    u64 round, i;
    for (round = 0; round < ROUNDS; round++)
        for (i = 0; i < (MIB << 20) / sizeof(u64); i += STEP)
            memory[i]++;
}

void _start(void)
{
    u64 node = 1UL << 1, cpu;
    volatile u64 *memory = (u64 *)call(9, 0, MIB << 20, 3, 0x22, (u64)-1, 0);

    if (call(237, (u64)memory, MIB << 20, 2, (u64)&node, 64, 0) != 0) /* mbind, MPOL_BIND */
        say("mbind failed\n");
    say("cpu?\n");
    for (;;) {
        cpu = 1UL << (told() - '0');
        if (call(203, 0, 8, (u64)&cpu, 0, 0, 0) < 0) /* sched_setaffinity */
            say("no such cpu\n");
        go(memory); /* so that every page is there */
        say("ready\n");
        told();
        go(memory);
        say("done\n");
    }
}
