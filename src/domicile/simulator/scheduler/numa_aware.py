"""A scheduler that Xen does not have: credit2 with a balancer that knows where memory is (roadmap item 3).

Credit2's balancer evens out load and looks at hard affinity only. This one moves a vCPU only where that is worth it, by
what both cost in the same unit, the work of a vCPU:

    overload of the run queues (what waits, and what SMT siblings take from each other)
    + for each vCPU its load times what it loses by the latency from there to its memory

Every 100 ms a run queue looks for the best single move from itself to another or from another to itself. Hard affinity
holds; soft affinity plays no part, since where memory is says more. Everything else is credit2's.
"""

from __future__ import annotations

from domicile.local.compiled import inlined, part
from domicile.simulator.scheduler.load import put
from domicile.simulator.scheduler.state import Floats, Ints, Table

__all__ = ["EVERY_QUANTA", "balance_near", "pick_near"]

EVERY_QUANTA = 10
LEAST_GAIN = 0.05
"""Work of a vCPU that a move has to bring: less would have vCPUs wander with every change of load."""

SIBLING_COST = 0.75
"""What a core's second busy thread does not add: two threads do 1.25 of one's work (`smt_yield`)."""


@inlined
def _overload(queues: Table, queue: int, load: float) -> float:
    """Work lost on a run queue with this load."""
    threads = queues[queue].end_cpu - queues[queue].first_cpu
    return float(SIBLING_COST * max(min(load, threads) - queues[queue].cores, 0.0) + max(load - threads, 0.0))


@inlined
def _change(queues: Table, source: int, target: int, load: float, lost: Floats, vcpu: int) -> float:
    """What moving a vCPU of this load changes, in work lost."""
    before = _overload(queues, source, queues[source].load) + _overload(queues, target, queues[target].load)
    after = _overload(queues, source, queues[source].load - load) + _overload(
        queues, target, queues[target].load + load
    )
    return float(after - before + load * (lost[vcpu, target] - lost[vcpu, source]))


@part
def pick_near(vcpus: Table, queues: Table, hard: Ints, lost: Floats, vcpu: int) -> int:
    """The run queue for a vCPU that comes: where a whole one costs least."""
    best, least = -1, 0.0
    for queue in range(len(queues)):
        if hard[vcpu, queue] == 0:
            continue
        load = queues[queue].load - (vcpus[vcpu].load if vcpus[vcpu].queue == queue else 0.0)
        cost = _overload(queues, queue, load + 1.0) - _overload(queues, queue, load) + lost[vcpu, queue]
        # the emptier of two that cost the same
        cost += 1e-6 * load
        if best < 0 or cost < least:
            best, least = queue, cost
    return best


@part
def balance_near(vcpus: Table, queues: Table, hard: Ints, soft: Ints, lost: Floats, local: int) -> None:
    """Make the one move from or to a run queue that brings most, if any brings enough. `lost` is V x Q."""
    best, goal, least = -1, -1, -LEAST_GAIN
    for vcpu in range(len(vcpus)):
        if not vcpus[vcpu].active:
            continue
        source, load = vcpus[vcpu].queue, vcpus[vcpu].load
        for queue in range(len(queues)) if source == local else range(local, local + 1):
            if queue != source and hard[vcpu, queue] != 0:
                change = _change(queues, source, queue, load, lost, vcpu)
                if change < least:
                    best, goal, least = vcpu, queue, change
    if best >= 0:
        put(vcpus, queues, hard, soft, best, goal, hard[best, goal])
