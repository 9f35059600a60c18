"""From where vCPUs ran and where their memory is to how fast they get on: the simulator's way to the performance model.

The scheduler already gives CPU time and knows which SMT siblings were busy; of the model this takes what memory,
devices and messages do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from domicile.performance.assumptions import DEFAULT, Assumptions
from domicile.performance.machine import Machine
from domicile.performance.predict import predict
from domicile.performance.tenants import Tenants
from domicile.simulator.workloads import Workload
from domicile.topology.model import Topology

__all__ = ["Pace", "ProgressModel"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Pace:
    """How D domains get on: `stretch` (D, time that a unit of work takes over what it takes at best, while running),
    `bandwidth_gbs` of each domain (D), and `controller` (N, utilisation of each node's memory)."""

    stretch: Floats
    bandwidth_gbs: Floats
    controller: Floats


class ProgressModel:
    """The performance model for the domains of one simulation, whose workloads do not change."""

    def __init__(
        self,
        topology: Topology,
        workloads: Sequence[Workload],
        devices: Floats,
        assumptions: Assumptions = DEFAULT,
    ) -> None:
        """`devices` is D x N: the share of each domain's devices on each node, 0 for none."""
        self._machine = Machine.of(topology, (), assumptions)
        self._assumptions = assumptions
        self._bound = np.array([workload.memory_bound for workload in workloads]) / assumptions.memory_bound
        self._traffic = np.array([workload.traffic_gbs for workload in workloads])
        self._devices = devices

    def lost(self, accesses: Floats) -> Floats:
        """The share of its work that each domain loses by idle latency where it runs wholly on one node (D x N)."""
        relative = self._machine.latency_ns / self._machine.best_latency_ns - 1.0
        longer = self._bound[:, None] * self._assumptions.memory_bound * np.maximum(accesses @ relative.T, 0.0)
        return np.asarray(longer / (1.0 + longer), dtype=np.float64)

    def pace(self, busy: Floats, accesses: Floats) -> Pace:
        """`busy`: vCPUs' worth of time that each domain ran on each node; `accesses`: where its memory accesses go (D x
        N each, rows of the latter add up to 1, or are 0)."""
        ran = busy.sum(axis=1)
        share = busy / np.where(ran > 0, ran, 1.0)[:, None]
        wanted_gbs = ran * self._traffic
        count = len(ran)
        tenants = Tenants(
            names=("",) * count,
            demand=wanted_gbs / self._assumptions.traffic_gbs,
            vcpu_share=share,
            memory_share=accesses,
            device_share=self._devices,
            pool=np.zeros(count, dtype=np.intp),
            confined=np.zeros(count),
        )
        terms = predict(self._machine, tenants, self._assumptions)
        stretch = np.maximum(1.0 + self._bound * (terms.latency + terms.bandwidth) + terms.devices, 1e-3)
        bandwidth = wanted_gbs / stretch
        peak = self._machine.bandwidth_gbs.diagonal()
        return Pace(
            stretch=np.where(ran > 0, stretch, 1.0),
            bandwidth_gbs=np.asarray(bandwidth, dtype=np.float64),
            controller=np.asarray(bandwidth @ accesses / peak, dtype=np.float64),
        )
