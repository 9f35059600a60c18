"""From where vCPUs ran and where their memory is to how fast they get on: the way to the performance model.

The scheduler already gives CPU time and knows which SMT siblings were busy; of the model this takes what memory, caches
and messages do. A row is a domain, or a vnode of one that sees its nodes: then its vCPUs and its accesses go
together, as the model takes the vCPUs of a row to use all of its memory alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from domicile.performance.assumptions import DEFAULT, Assumptions
from domicile.performance.evaluate import evaluate
from domicile.performance.machine import Machine
from domicile.performance.machine_load import MachineLoad
from domicile.simulator.workloads import Workload
from domicile.topology.model import Topology

__all__ = ["Pace", "ProgressModel"]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Pace:
    """How R rows get on: `stretch` (R, time that a unit of work takes over what it takes at best, while running),
    `latency_ns` and `bandwidth_gbs` of each (R), and `controller` (N, utilisation of each node's memory)."""

    stretch: Floats
    latency_ns: Floats
    bandwidth_gbs: Floats
    controller: Floats


class ProgressModel:
    """The performance model for the rows of one simulation, whose workloads do not change."""

    def __init__(
        self,
        topology: Topology,
        workloads: Sequence[Workload],
        peers: Sequence[tuple[int, int]] = (),
        assumptions: Assumptions = DEFAULT,
    ) -> None:
        """`peers` are pairs of rows that talk; the first one's workload says how often."""
        self._machine = Machine.of(topology, (), assumptions)
        self._assumptions = assumptions
        self._bound = np.array([workload.memory_bound for workload in workloads])
        self._peers = np.array(peers, dtype=np.intp).reshape(-1, 2)
        self._messages = np.array([workloads[first].messages_per_s for first, _ in peers])
        nobody = np.zeros((len(workloads), len(topology.nodes)))
        self._at_rest = MachineLoad.of(
            nobody,
            nobody,
            traffic_gbs=np.array([workload.traffic_gbs for workload in workloads]),
            read_fraction=np.array([workload.read_fraction for workload in workloads]),
            memory_bound=self._bound,
            cache_mib=np.array([workload.cache_mib for workload in workloads]),
            device_bound=0.0,
            peers=self._peers,
            messages_per_s=self._messages,
            assumptions=assumptions,
        )

    def lost(self, accesses: Floats) -> Floats:
        """The share of its work that each row loses by idle latency where it runs wholly on one node (R x N)."""
        relative = self._machine.latency_ns / self._machine.best_latency_ns - 1.0
        longer = self._bound[:, None] * np.maximum(accesses @ relative.T, 0.0)
        return np.asarray(longer / (1.0 + longer), dtype=np.float64)

    def pace(self, busy: Floats, accesses: Floats, copied_gbs: Floats | None = None) -> Pace:
        """`busy`: vCPUs' worth of time that each row ran on each node; `accesses`: where its memory accesses go (rows
        add up to 1, or are 0); `copied_gbs`: traffic of copying its memory, by the node that does it (R x N each)."""
        ran = busy.sum(axis=1)
        load = replace(
            self._at_rest,
            cpu_share=busy,
            memory_share=accesses,
            dma_share=accesses,
            demand_vcpus=ran,
            dma_gbs=self._at_rest.dma_gbs if copied_gbs is None else copied_gbs,
            messages_per_s=self._messages * ran[self._peers[:, 0]],
        )
        found = evaluate(self._machine, load, self._assumptions)
        stretch = 1.0 + found.distance + found.cache + found.load + found.peers
        # spread over many nodes a domain can be faster than on one; never without bound
        return Pace(
            stretch=np.where(ran > 0, np.maximum(stretch, 0.1), 1.0),
            latency_ns=found.latency_ns,
            bandwidth_gbs=found.bandwidth_gbs,
            controller=found.node_utilisation,
        )
