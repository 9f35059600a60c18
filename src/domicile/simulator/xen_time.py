"""What Xen's own memory costs, by where it is (roadmap 2b): its share of remote accesses, and the time they take.

`memory.boot` says which of Xen's accesses go to which of its memory under each policy; the sum is what was measured on
a real 4.17. Xen works where vCPUs run, in proportion to the time that they run there.

Assumed: Xen has `TIME` of the time that vCPUs run (scheduler, interrupts, hypercalls of a load without much I/O), and
its own time depends on memory latency as a usual guest's does (`performance.assumptions`, memory_bound).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from domicile.performance.assumptions import DEFAULT
from domicile.performance.machine import Machine
from domicile.simulator.memory.boot import XenPolicy, xen_accesses
from domicile.topology.model import Topology

__all__ = ["TIME", "XenCost", "XenRecord"]

TIME = 0.03
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class XenRecord:
    """Where Xen has its own memory; the share of its own data accesses that were remote, and the share of the vCPUs'
    time that this cost."""

    policy: str
    remote_share: float
    time_share: float


class XenCost:
    """What a policy costs on a machine of N nodes, and sums of it over epochs."""

    def __init__(self, topology: Topology, policy: XenPolicy) -> None:
        machine = Machine.of(topology)
        nodes = machine.nodes
        has_cpus = machine.pcpus.sum(axis=0) > 0
        boot_node = int(np.argmax(has_cpus))
        self._policy = policy
        # by the node of the CPU: the share of remote accesses, and how much longer than local ones all of them take
        shares = np.array([xen_accesses(np.eye(nodes)[node], policy, boot_node)[node] for node in range(nodes)])
        self._remote = 1.0 - shares.diagonal()
        own = machine.latency_ns.diagonal()
        longer = (shares * machine.latency_ns).sum(axis=1) / own - 1.0
        self.longer: Floats = TIME * DEFAULT.memory_bound * np.maximum(longer, 0.0)
        """By node (N): how much longer everything takes for who runs there, as a share."""
        self._ran_s = np.zeros(nodes)

    def count(self, ran_s: Floats) -> None:
        """Add an epoch: the time that domains' vCPUs ran on each node (D x N)."""
        self._ran_s += ran_s.sum(axis=0)

    def clear(self) -> None:
        """Begin to count anew."""
        self._ran_s[:] = 0.0

    @property
    def record(self) -> XenRecord:
        """What it has come to."""
        share = self._ran_s / max(float(self._ran_s.sum()), 1e-9)
        return XenRecord(str(self._policy), float((share * self._remote).sum()), float((share * self.longer).sum()))
