"""The simulator: simulated seconds per second by size of host and number of domains, and a rival beside it.

The rival is SimPy, twice. With the least that a scheduler's wake-ups need: a process for each vCPU that sleeps from
quantum to quantum (`timeout`) and decides nothing. And with the least that sharing pCPUs needs: each asks for one of
them (`Resource`), keeps it for half a quantum, and sleeps.

Counted are vCPU-quanta: a guest's vCPU brought up to date in one quantum of 10 ms. In SimPy that is one wake-up of
the vCPU's process, 100 in a simulated second. Ours steps every vCPU in every quantum as well, and leaves none out
because nothing has changed: what it wants is worked out (94 % want to run), whether and where it runs is decided (89 %
do), and its credit and its average of load are brought up to date. So both do the same number for the same span,
guests x vCPUs x 100 x seconds. Ours does Dom0's four vCPUs besides, which do not count, and its time includes all that
the engine does: scheduling, demand, and the performance model once a simulated second. Compared is how many vCPU-quanta
each gets done in a second of CPU time; they take turns in one process, and the best of several runs counts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from typing import Any

from rich.table import Table

from benchmarks.placement import machine
from benchmarks.timing import Found, best_each_s
from domicile.simulator.engine import Simulation
from domicile.simulator.guests import GuestSpec
from domicile.simulator.scheduler.stepper import SchedulerKind
from domicile.simulator.workloads import WORKLOADS
from domicile.topology.model import Topology

__all__ = ["TITLE", "guests", "measure"]

TITLE = "the simulator, simulated seconds per second"
MIX = ("specjbb", "key-value", "web", "database", "kernel-build", "office-hours", "idle", "sysbench-memory")
VCPUS = 4
QUANTA_PER_S = 100
ASKED = (8, 64)
CASES = ((2, 16), ASKED, (64, 512))
GROWTH = (16, 32, 64, 128, 256)
RUNS = 12
TURNS = 20
"""Of ours and SimPy: a computer that others use as well has its quiet moments, which the best of few runs may miss."""
SPAN_S = 5.0
"""Simulated seconds of a run: short, so that the best of some is likely to be one that nobody disturbed, and so long
that it does not count that SimPy, whose turn came before, has left nothing of ours in the CPU's caches (with 2 s that
takes a tenth of our time)."""
SPAN_QUANTA = round(SPAN_S * QUANTA_PER_S)


def measure() -> Found:
    """Hosts of several sizes, numbers of domains, and SimPy."""
    found = Found(tables=[_by_size()])
    nodes, domains = ASKED
    topology = machine(nodes)
    ours, vcpus = len(topology.cpus), domains * VCPUS
    ours_s, waking_s, sharing_s = best_each_s(
        [passing(topology, domains), simpy_waking(vcpus), simpy_sharing(vcpus, ours)], TURNS
    )
    quanta = domains * VCPUS * SPAN_QUANTA
    what = f"simulated seconds per second, {nodes} nodes, {ours} pCPUs, {domains} domains, {domains * VCPUS} vCPUs"
    found.rows.append((what, f"{SPAN_S / ours_s:,.0f}", "300 or more"))
    for rival, rival_s in (("SimPy's wake-ups", waking_s), ("SimPy's with pCPUs to share", sharing_s)):
        what = f"vCPU-quanta a second, {quanta / ours_s:,.0f}, over {rival}, {quanta / rival_s:,.0f}"
        found.rows.append((what, f"{rival_s / ours_s:.1f} times", "20 times or more"))
    growth, more = _by_domains()
    found.tables.append(growth)
    times = GROWTH[-1] // GROWTH[0]
    what = f"CPU time of {GROWTH[-1]} domains on {nodes} nodes over that of {GROWTH[0]}"
    found.rows.append((what, f"{more:.1f} times", f"{times} times or less"))
    return found


def _by_size() -> Table:
    table = Table("nodes", "pCPUs", "domains", "vCPUs", *SchedulerKind, title=TITLE)
    for nodes, domains in CASES:
        topology = machine(nodes)
        costs_s = best_each_s([passing(topology, domains, kind) for kind in SchedulerKind], RUNS)
        cells = (nodes, len(topology.cpus), domains, domains * VCPUS)
        table.add_row(*map(str, cells), *(f"{SPAN_S / cost_s:,.0f}" for cost_s in costs_s))
    return table


def _by_domains() -> tuple[Table, float]:
    """The table, and how many times the first number of domains the last one costs."""
    table = Table("domains", "CPU of a simulated s, us", "a domain", title="8 nodes, credit2: growth with domains")
    costs_us = [1e6 * cost_s / SPAN_S for cost_s in best_each_s([passing(machine(8), each) for each in GROWTH], RUNS)]
    for domains, cost_us in zip(GROWTH, costs_us, strict=True):
        table.add_row(str(domains), f"{cost_us:,.0f}", f"{cost_us / domains:.1f}")
    return table, costs_us[-1] / costs_us[0]


def passing(topology: Topology, domains: int, kind: SchedulerKind = SchedulerKind.CREDIT2) -> Callable[[], None]:
    """What lets a span of time pass on a host on which all has started."""
    ready = simulation(topology, domains, kind)
    return lambda: ready.run(ready.now_s + SPAN_S, lambda _: None)


def simpy_waking(vcpus: int) -> Callable[[], None]:
    """The same span in SimPy: every vCPU wakes up in every quantum, which is its unit of time: whole numbers, so that
    no wake-up slips into the next span."""
    import simpy  # noqa: PLC0415 - needed for this alone

    environment = simpy.Environment()

    def vcpu() -> Generator[Any, Any, None]:
        while True:
            yield environment.timeout(1)

    for _ in range(vcpus):
        environment.process(vcpu())
    return lambda: environment.run(until=environment.now + SPAN_QUANTA)


def simpy_sharing(vcpus: int, cpus: int) -> Callable[[], None]:
    """The same, and every vCPU has a pCPU for half of the quantum, which it may have to wait for."""
    import simpy  # noqa: PLC0415 - needed for this alone

    environment = simpy.Environment()
    pool = simpy.Resource(environment, capacity=cpus)

    def vcpu() -> Generator[Any, Any, None]:
        begin = 0.0
        while True:
            with pool.request() as turn:
                yield turn
                yield environment.timeout(0.5)
            begin += 1.0
            yield environment.timeout(max(begin - environment.now, 0.0))

    for _ in range(vcpus):
        environment.process(vcpu())
    return lambda: environment.run(until=environment.now + SPAN_QUANTA)


def guests(domains: int) -> list[GuestSpec]:
    """Dom0 and domains of mixed workloads, each with soft affinity as libxl would set it."""
    chance = random.Random(domains)
    made = [GuestSpec("Domain-0", 4, 1024, WORKLOADS["dom0"])]
    made += [
        GuestSpec(f"guest{number}", VCPUS, chance.choice([1024, 2048, 4096]), WORKLOADS[MIX[number % len(MIX)]])
        for number in range(domains)
    ]
    return made


def simulation(topology: Topology, domains: int, kind: SchedulerKind) -> Simulation:
    """A host with as many domains, spread over the nodes in turn; all of them have started."""
    made = []
    for number, guest in enumerate(guests(domains)):
        node = topology.node_ids[number % len(topology.nodes)]
        soft = frozenset(topology.cpus_by_node[node]) if number else None
        made.append(
            GuestSpec(guest.name, guest.vcpus, guest.memory_mib, guest.workload, soft=soft, memory_nodes=(node,))
        )
    found = Simulation(topology, made, kind, seed=1)
    found.run(2.0, lambda _: None)
    return found
