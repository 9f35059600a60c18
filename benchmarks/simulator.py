"""The simulator: simulated seconds per second by size of host and number of domains, and a rival in the same run.

The rival is SimPy with the least that a scheduler's wake-ups need: one process for each vCPU, which sleeps from quantum
to quantum. It decides nothing. Both are counted in vCPU-quanta per second of CPU time.
"""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Generator
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.placement import machine
from domicile.simulator.engine import Simulation
from domicile.simulator.guests import GuestSpec
from domicile.simulator.run import simulate
from domicile.simulator.scenario import Scenario, ScenarioDomain
from domicile.simulator.scheduler.stepper import SchedulerKind
from domicile.simulator.workloads import WORKLOADS
from domicile.topology.model import Topology

__all__ = ["main"]

MIX = ("specjbb", "key-value", "web", "database", "kernel-build", "office-hours", "idle", "sysbench-memory")
VCPUS = 4
QUANTA_PER_S = 100
CASES = ((2, 16), (8, 64), (64, 512))
GROWTH = (16, 32, 64, 128, 256)
SPAN_S = 20.0
DAY_S = 86400.0


def main() -> None:
    """Print the tables."""
    console = Console()
    table = Table("nodes", "pCPUs", "domains", "vCPUs", "scheduler", "simulated s per s", title="the simulator")
    for nodes, domains in CASES:
        for kind in SchedulerKind:
            topology = machine(nodes)
            speed = simulated_per_s(topology, domains, kind)
            cells = (nodes, len(topology.cpus), domains, domains * VCPUS, kind)
            table.add_row(*map(str, cells), f"{speed:,.0f}")
    console.print(table)

    growth = Table("domains", "us of CPU a simulated s", "a domain", title="8 nodes, credit2: growth with domains")
    for domains in GROWTH:
        cost_us = 1e6 / simulated_per_s(machine(8), domains, SchedulerKind.CREDIT2)
        growth.add_row(str(domains), f"{cost_us:,.0f}", f"{cost_us / domains:.1f}")
    console.print(growth)

    ours = simulated_per_s(machine(8), 64, SchedulerKind.CREDIT2) * 64 * VCPUS * QUANTA_PER_S
    theirs = simpy_quanta_per_s(64 * VCPUS, 2.0)
    console.print(
        f"vCPU-quanta per second: {ours:,.0f}; SimPy with the same wake-ups: {theirs:,.0f}; {ours / theirs:.1f} times"
    )
    peak_mib, seconds = memory_of_a_day()
    console.print(
        f"a day on 2 nodes with 8 domains: {seconds:.0f} s of CPU, {peak_mib:.1f} MiB more at its peak than an hour"
    )


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


def simulated_per_s(topology: Topology, domains: int, kind: SchedulerKind) -> float:
    """Simulated seconds per second of CPU time, the best of three spans: others use this machine too."""
    ready = simulation(topology, domains, kind)
    best = float("inf")
    for turn in range(3):
        begin = time.process_time()
        ready.run(2.0 + SPAN_S * (turn + 1), lambda _: None)
        best = min(best, time.process_time() - begin)
    return SPAN_S / best


def simpy_quanta_per_s(vcpus: int, span_s: float) -> float:
    """vCPU-quanta per second of CPU time that SimPy drives."""
    import simpy  # noqa: PLC0415 - needed for this alone

    environment = simpy.Environment()

    def vcpu() -> Generator[Any, Any, None]:
        while True:
            yield environment.timeout(1.0 / QUANTA_PER_S)

    for _ in range(vcpus):
        environment.process(vcpu())
    begin = time.process_time()
    environment.run(until=span_s)
    return vcpus * span_s * QUANTA_PER_S / (time.process_time() - begin)


class Counting:
    """A sink that keeps nothing but the size of what it got, as a file would."""

    bytes = 0

    def write(self, sample: Any) -> None:
        """Count a point."""
        self.bytes += len(msgspec.json.encode(sample.time_s))


def memory_of_a_day() -> tuple[float, float]:
    """MiB by which the process grew at its peak, and seconds of CPU, for a simulated day of a small host.

    A first hour shows what everything takes that is there once, so that what is told is what grows with time.
    """
    topology = machine(2)

    def pass_time(duration_s: float) -> None:
        scenario = Scenario(domains=(ScenarioDomain("guest"),), duration_s=duration_s, epoch_s=5.0)
        simulate(scenario, topology, guests(8), None, sinks=[Counting()], every_s=60.0)

    pass_time(3600.0)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.process_time()
    pass_time(DAY_S)
    after_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (after_kib - before_kib) / 1024, time.process_time() - begin


if __name__ == "__main__":
    main()
