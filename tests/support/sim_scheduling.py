"""Machines and schedulers for the tests of the simulator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from domicile.simulator.scheduler.stepper import Scheduler, SchedulerKind
from domicile.topology.check import checked
from domicile.topology.model import Cpu, Node, Topology

__all__ = ["cpu_s", "numa_machine", "scheduler", "shares"]

Bools = npt.NDArray[np.bool_]


def numa_machine(nodes: int, cores: int, threads: int = 1, memory_mib: int = 8192) -> Topology:
    """Nodes in pairs of near ones, each a socket of its own."""
    per_node = cores * threads
    return checked(
        source="test",
        nodes=[Node(node, memory_mib, memory_mib) for node in range(nodes)],
        cpus=[
            Cpu(node * per_node + thread, thread // threads, node, node)
            for node in range(nodes)
            for thread in range(per_node)
        ],
        distances=[[10 if a == b else 16 if a // 2 == b // 2 else 22 for b in range(nodes)] for a in range(nodes)],
    )


def scheduler(
    topology: Topology,
    kind: SchedulerKind,
    vcpus: Sequence[int],
    *,
    weights: Sequence[float] = (),
    caps: Sequence[float] = (),
    hard: Bools | None = None,
    soft: Bools | None = None,
    levels: Sequence[float] = (),
    seed: int = 1,
) -> Scheduler:
    """A scheduler with domains of so many vCPUs, all started; `levels` by domain (1: always busy)."""
    domain_of = [domain for domain, count in enumerate(vcpus) for _ in range(count)]
    everywhere = np.ones((len(domain_of), len(topology.cpus)), dtype=np.bool_)
    made = Scheduler.of(
        topology,
        kind,
        domain_of,
        list(weights) or [256.0] * len(vcpus),
        list(caps) or [0.0] * len(vcpus),
        everywhere if hard is None else hard,
        everywhere if soft is None else soft,
        np.random.default_rng(seed),
    )
    made.demands["closed"] = True
    made.demands["level"] = [levels[domain] if levels else 1.0 for domain in domain_of]
    for vcpu in range(len(domain_of)):
        made.start(vcpu)
    return made


def cpu_s(made: Scheduler) -> npt.NDArray[np.float64]:
    """CPU seconds of each domain since last asked."""
    return np.bincount(made.vcpus["domain"], weights=made.ran_ns.sum(axis=1) / 1e9).astype(np.float64)


def shares(made: Scheduler) -> npt.NDArray[np.float64]:
    """Each domain's share of all CPU time given."""
    given = cpu_s(made)
    return np.asarray(given / given.sum(), dtype=np.float64)
