"""From where vCPUs ran and where their memory is to how fast they get on: the way to the performance model.

The scheduler already gives CPU time and knows which SMT siblings were busy; of the model this takes what memory, caches
and messages do. A row is a domain, or a vnode of one that sees its nodes: then its vCPUs and its accesses go
together, as the model takes the vCPUs of a row to use all of its memory alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from domicile.performance.arrays import BANDWIDTH, DISTANCE, PEERS
from domicile.performance.assumptions import DEFAULT, Assumptions
from domicile.performance.evaluate import Repeated
from domicile.performance.machine import Machine
from domicile.performance.machine_load import MachineLoad
from domicile.simulator.device_traffic import IoLoad
from domicile.simulator.workloads import Workload
from domicile.topology.model import Topology

__all__ = ["Pace", "ProgressModel", "burden"]

MOST_LOST = 0.9
Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Pace:
    """How R rows get on: `terms` (T x R; 1 and all of them: the time that a unit of work takes over what it takes at
    best, while running), `bandwidth_gbs` of each (R), and `controller` (N, utilisation of each node's memory)."""

    terms: Floats
    bandwidth_gbs: Floats
    controller: Floats


class ProgressModel:
    """The performance model for the rows of one simulation, whose workloads do not change."""

    def __init__(
        self,
        topology: Topology,
        workloads: Sequence[Workload],
        peers: Sequence[tuple[int, int]] = (),
        device_bound: Floats | None = None,
        assumptions: Assumptions = DEFAULT,
    ) -> None:
        """`peers` are pairs of rows that talk; the first one's workload says how often. `device_bound` (R): what each
        loses when its device is as much further away as local memory's latency is long; None for nothing."""
        self._machine = Machine.of(topology, (), assumptions)
        self._bound = np.array([workload.memory_bound for workload in workloads])
        self._device_bound = np.zeros(len(workloads)) if device_bound is None else device_bound
        self._peers = np.array(peers, dtype=np.intp).reshape(-1, 2)
        self._messages = np.array([workloads[first].messages_per_s for first, _ in peers])
        nodes = len(topology.nodes)
        self._no_dma = np.zeros((len(workloads), nodes))
        # without and with the rows that stand for copying, one for each node
        self._models = tuple(
            Repeated(self._machine, self._resting(workloads, more, nodes, assumptions), assumptions)
            for more in (0, nodes)
        )

    def _resting(self, workloads: Sequence[Workload], more: int, nodes: int, assumptions: Assumptions) -> MachineLoad:
        """What does not change of the load: with so many rows more in which nothing runs."""
        nobody = np.zeros((len(workloads) + more, nodes))
        return MachineLoad.of(
            nobody,
            nobody,
            traffic_gbs=_padded([workload.traffic_gbs for workload in workloads], more),
            read_fraction=_padded([workload.read_fraction for workload in workloads], more),
            memory_bound=_padded(self._bound, more),
            cache_mib=_padded([workload.cache_mib for workload in workloads], more),
            device_bound=_padded(self._device_bound, more),
            peers=self._peers,
            messages_per_s=self._messages,
            assumptions=assumptions,
        )

    def lost(self, accesses: Floats) -> Floats:
        """The share of its work that each row loses by idle latency where it runs wholly on one node (R x N)."""
        relative = self._machine.latency_ns / self._machine.best_latency_ns - 1.0
        longer = self._bound[:, None] * np.maximum(accesses @ relative.T, 0.0)
        return np.asarray(longer / (1.0 + longer), dtype=np.float64)

    def pace(self, busy: Floats, accesses: Floats, traffic: Floats | None = None, io: IoLoad | None = None) -> Pace:
        """`busy`: vCPUs' worth of time that each row ran on each node; `accesses`: where its memory accesses go (rows
        add up to 1, or are 0; R x N each); `traffic`: of copying memory, in GB/s (N x N: the node of the CPUs, that of
        the memory); `io`: the devices'."""
        rows, nodes = busy.shape
        dma_gbs, dma_share = (self._no_dma, accesses) if io is None else (io.dma_gbs, io.dma_share)
        if io is not None:
            traffic = io.copied if traffic is None else traffic + io.copied
        if traffic is not None:
            # a row more for each node: nothing runs there, and its DMA is the traffic with the memory of that node
            none = np.zeros((nodes, nodes))
            busy, accesses = np.concatenate([busy, none]), np.concatenate([accesses, none])
            dma_gbs, dma_share = np.concatenate([dma_gbs, traffic.T]), np.concatenate([dma_share, np.eye(nodes)])
        found = self._pace(busy, accesses, dma_gbs, dma_share)
        if traffic is None:
            return found
        return Pace(np.ascontiguousarray(found.terms[:, :rows]), found.bandwidth_gbs[:rows], found.controller)

    def _pace(self, busy: Floats, accesses: Floats, dma_gbs: Floats, dma_share: Floats) -> Pace:
        ran = busy.sum(axis=1)
        messages = self._messages * ran[self._peers[:, 0]] if len(self._peers) else self._messages
        found = self._models[len(busy) > len(self._bound)].evaluate(busy, accesses, dma_share, ran, dma_gbs, messages)
        return Pace(found.figures[DISTANCE : PEERS + 1], found.figures[BANDWIDTH], found.node_utilisation)


def burden(lost_s: Floats, ran_s: Floats) -> Floats:
    """How much longer everything takes for domains that spend `lost_s` of the time that they run, `ran_s`, on what is
    not their work; no more than ten times, so that time goes on for who has hardly run."""
    share = np.minimum(lost_s / np.maximum(ran_s, 1e-9), MOST_LOST)
    return np.asarray(1.0 / (1.0 - share), dtype=np.float64)


def _padded(figures: Floats | Sequence[float], more: int) -> Floats:
    """The figures of all rows, and zeros for so many more."""
    return np.concatenate([figures, np.zeros(more)])
