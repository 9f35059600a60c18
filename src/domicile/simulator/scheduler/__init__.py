"""Xen's schedulers in scheduling quanta: credit2, credit, and a NUMA-aware variant, as arrays.

A quantum is 10 ms: credit2's longest run and its cap period (`CSCHED2_MAX_TIMER`, `CSCHED2_BDGT_REPL_PERIOD`), credit's
tick. Within a quantum every vCPU runs at most once, for as long as it wants to or finds a pCPU; several can share a
pCPU one after the other. What the real schedulers do at a finer grain (credit2 changes between competing vCPUs every
millisecond) changes who waits for how many milliseconds, not who gets how much nor on which node.

`state` holds the arrays, `queues` how pCPUs form run queues, `demand` what vCPUs want, `credit2`, `credit` and
`numa_aware` the algorithms, `stepper` drives them.
"""
