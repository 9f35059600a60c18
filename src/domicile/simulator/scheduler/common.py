"""What the schedulers have in common: running a vCPU on a pCPU for a while, and keeping count of it.

Within a quantum a pCPU's time goes from 0 to `QUANTUM_NS`; `free_at` says up to where it is taken.
"""

from __future__ import annotations

from numba.cpython.unsafe.numbers import trailing_zeros

from domicile.local.compiled import inlined, part
from domicile.simulator.scheduler.state import QUANTUM_NS, Floats, Table

__all__ = ["account", "before", "begin", "end", "entitled", "in_circle", "lowest", "run", "smt_loss_of", "sort_down"]


@inlined
def entitled(vcpus: Table, doms: Table, vcpu: int) -> float:
    """How long a vCPU could run in this quantum: what it wants, as far as its domain's cap has budget left."""
    ns = min(vcpus[vcpu].pending_ns, float(QUANTUM_NS))
    if vcpus[vcpu].capped:
        ns = min(ns, doms[vcpus[vcpu].domain].budget_ns)
    return float(ns)


@inlined
def run(vcpus: Table, cpus: Table, doms: Table, ran_ns: Floats, vcpu: int, cpu: int, may_ns: float) -> None:
    """Run a vCPU on a pCPU from when it is free, for as long as it may and there is room."""
    ns = min(may_ns, QUANTUM_NS - cpus[cpu].free_at)
    if ns <= 0.0:
        return
    free_at = cpus[cpu].free_at + ns
    cpus[cpu].free_at = free_at
    cpus[cpu].busy_ns += ns
    cpus[cpus[cpu].core].core_busy += ns
    vcpus[vcpu].slice_ns = ns
    vcpus[vcpu].running = free_at >= QUANTUM_NS
    vcpus[vcpu].pending_ns = max(vcpus[vcpu].pending_ns - ns, 0.0)
    if vcpus[vcpu].capped:
        doms[vcpus[vcpu].domain].budget_ns -= ns
    vcpus[vcpu].processor = cpu
    before = vcpus[vcpu].cpu
    if before != cpu:
        _move(vcpus, cpus, ran_ns, vcpu, before, cpu)
    vcpus[vcpu].here_ns += ns


@inlined
def _move(vcpus: Table, cpus: Table, ran_ns: Floats, vcpu: int, before: int, cpu: int) -> None:
    """Have a vCPU on another pCPU than before (-1: on none)."""
    vcpus[vcpu].cpu = cpu
    vcpus[vcpu].moves += before >= 0
    node = cpus[cpu].node
    if before < 0:
        vcpus[vcpu].here_ns = ran_ns[vcpu, node]
    elif cpus[before].node != node:
        ran_ns[vcpu, cpus[before].node] = vcpus[vcpu].here_ns
        vcpus[vcpu].here_ns = ran_ns[vcpu, node]
        vcpus[vcpu].node_moves += 1


@part
def begin(vcpus: Table, cpus: Table, ran_ns: Floats) -> None:
    """Before quanta pass: let vCPUs look at their demand anew, and have at hand what they ran on the node of `cpu`."""
    for vcpu in range(len(vcpus)):
        vcpus[vcpu].until = 0
        if vcpus[vcpu].cpu >= 0:
            vcpus[vcpu].here_ns = ran_ns[vcpu, cpus[vcpus[vcpu].cpu].node]


@part
def end(vcpus: Table, cpus: Table, ran_ns: Floats) -> None:
    """After quanta have passed: put back what vCPUs ran on the node of `cpu`."""
    for vcpu in range(len(vcpus)):
        if vcpus[vcpu].cpu >= 0:
            ran_ns[vcpu, cpus[vcpus[vcpu].cpu].node] = vcpus[vcpu].here_ns


@inlined
def account(vcpus: Table, cpus: Table, vcpu: int, smt_loss: float) -> None:
    """Count the time that a vCPU ran in this quantum as what it is worth with a core of its own.

    While a sibling is busy, `smt_loss` of a core's throughput is missing; the siblings' busy time is taken to be spread
    evenly over the quantum.
    """
    cpu = vcpus[vcpu].cpu
    overlap = 0.0
    if cpus[cpu].threads > 1:
        overlap = min(cpus[cpus[cpu].core].core_busy - cpus[cpu].free_at, float(QUANTUM_NS)) * (1.0 / QUANTUM_NS)
    vcpus[vcpu].core_ns += vcpus[vcpu].slice_ns * (1.0 - smt_loss * overlap)


@inlined
def in_circle(mask: int, start: int) -> int:
    """The first bit of a mask from this one on, in a circle over all; -1 for an empty mask."""
    if mask == 0:
        return -1
    ahead = (mask >> start) << start
    return lowest(ahead if ahead != 0 else mask)


@inlined
def lowest(mask: int) -> int:
    """The lowest bit of a mask that is not empty, by the CPU's own instruction for that."""
    return int(trailing_zeros(mask))  # type: ignore[call-arg]  # Numba passes the typing context itself


@inlined
def before(key: float, vcpu: int, other_key: float, other: int) -> bool:
    """Whether a vCPU comes before another in a list: by falling key, then by number."""
    return key > other_key or (key == other_key and vcpu < other)


@inlined
def sort_down(lines: Table, count: int) -> None:
    """Sort the first `count` of `vcpu` by falling `key`, then by number: insertion, as they nearly are, of long lists
    with steps before it (Shell's, with Knuth's 1, 4, 13 ...)."""
    step = 1
    while 3 * step + 1 < count // 16:
        step = 3 * step + 1
    while step > 0:
        for index in range(step, count):
            vcpu, key = lines[index].vcpu, lines[index].key
            at = index
            while at >= step and before(key, vcpu, lines[at - step].key, lines[at - step].vcpu):
                lines[at].vcpu, lines[at].key = lines[at - step].vcpu, lines[at - step].key
                at -= step
            lines[at].vcpu, lines[at].key = vcpu, key
        step //= 3


def smt_loss_of(smt_yield: float) -> float:
    """What a thread loses of a core's throughput while its sibling is busy: two of them do `1 + smt_yield` together."""
    return 1.0 - (1.0 + smt_yield) / 2.0
