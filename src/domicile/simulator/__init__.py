"""A model of a NUMA hypervisor: what vCPUs and memory do on a machine that nobody here owns, in simulated time.

`scenario` reads what is to be simulated, `engine` steps it, `scheduler` is Xen's credit2, credit and a NUMA-aware
variant in scheduling quanta, `guests` and `workloads` say what the domains want, `memory` where their pages are,
`progress` turns both into slowdown, `output` into summaries and series. Deterministic for a seed. See
docs/simulator.md.
"""
