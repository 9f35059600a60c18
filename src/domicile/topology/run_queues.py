"""How credit2 groups pCPUs into run queues.

Source: xen/common/sched/credit2.c, 4.17, `cpu_add_to_runqueue`: by socket unless `credit2_runqueue=` says otherwise, at
most 16 pCPUs in one (`sched_credit2_max_cpus_runqueue`), SMT siblings always together, CPUs spread evenly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from domicile.topology.model import Cpu, Topology

__all__ = ["MAX_CPUS", "Arrangement", "RunqueuePer", "arrange", "numbered"]

MAX_CPUS = 16
"""`MAX_CPUS_RUNQ`."""

Ints = npt.NDArray[np.int64]


class RunqueuePer(StrEnum):
    """`credit2_runqueue=` on Xen's command line."""

    CPU = "cpu"
    CORE = "core"
    SOCKET = "socket"
    NODE = "node"
    ALL = "all"


@dataclass(frozen=True)
class Arrangement:
    """`queue` of each CPU (P, in the order of `Topology.cpus`), and how many queues there are.

    The schedulers number pCPUs queue by queue: pCPU p is the CPU `listed[p]`.
    """

    queue: Ints
    count: int

    @property
    def listed(self) -> Ints:
        """The CPUs (places in `Topology.cpus`) queue by queue."""
        return np.argsort(self.queue, kind="stable").astype(np.int64)


def arrange(topology: Topology, per: RunqueuePer = RunqueuePer.SOCKET, most: int = MAX_CPUS) -> Arrangement:
    """The run queues of a machine whose CPUs are all in one cpupool."""
    queue = numbered(topology.cpus, len(topology.cpus), per, most)
    return Arrangement(np.array(queue, dtype=np.int64), max(queue, default=0) + 1)


def numbered(
    cpus: Sequence[Cpu], online: int, per: RunqueuePer = RunqueuePer.SOCKET, most: int = MAX_CPUS
) -> list[int]:
    """The number of each CPU's run queue: those of a cpupool, added one by one as Xen does. `online`: how many CPUs the
    host has, by which Xen spreads them in smaller cpupools too."""
    room = max(online // ((online - 1) // most + 1), 1)
    cores = [cpu.siblings for cpu in cpus]
    threads = Counter(cores)
    queues: list[list[int]] = []
    queue = []
    for index, cpu in enumerate(cpus):
        found = -1
        for number, members in enumerate(queues):
            if not _match(cpus[members[0]], cpu, per):
                continue
            if any(cores[member] == cores[index] for member in members):
                found = number
                break
            taken = sum(threads[core] for core in {cores[member] for member in members})
            fits = taken + threads[cores[index]] <= room or per is RunqueuePer.ALL
            if len(members) < room and fits and (found < 0 or len(members) < len(queues[found])):
                found = number
        if found < 0:
            found = len(queues)
            queues.append([])
        queues[found].append(index)
        queue.append(found)
    return queue


def _match(first: Cpu, cpu: Cpu, per: RunqueuePer) -> bool:
    """Whether a CPU belongs into the queue of this one, by the topology."""
    match per:
        case RunqueuePer.CPU:
            return False
        case RunqueuePer.CORE:
            return first.siblings == cpu.siblings
        case RunqueuePer.SOCKET:
            return first.socket == cpu.socket
        case RunqueuePer.NODE:
            return first.node == cpu.node
        case RunqueuePer.ALL:
            return True
