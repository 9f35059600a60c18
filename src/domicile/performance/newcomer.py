"""A domain that is to be tried in places that it is not in, beside a `Field` of those that stay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from domicile.performance.assumptions import Assumptions
from domicile.performance.curves import Floats
from domicile.performance.machine import Machine
from domicile.performance.predict import own_pressure
from domicile.performance.tenants import Tenants

__all__ = ["Newcomer"]


@dataclass(frozen=True, eq=False)
class Newcomer:
    """A domain to be tried: its demand in vCPUs, its pool, what each whole node costs it by its devices (N), and the
    pCPUs and cores that its hard affinity allows on each node (N each; None: all of its pool's). Its weight (256 is
    1.0), how hard it leans on memory (None: as `Assumptions` has it), and what it keeps of its accesses on the vCPU's
    node (`own_share`, 0 without virtual nodes: see `accesses`). `counts`: as `Tenants` has it."""

    demand: float
    pool: int
    device_pull: Floats
    allowed_pcpus: Floats | None = None
    allowed_cores: Floats | None = None
    weight: float = 1.0
    memory_bound: float | None = None
    traffic_gbs: float | None = None
    own_share: float = 0.0
    counts: float = 1.0

    @classmethod
    def of(cls, tenants: Tenants, row: int, device_pull: Floats) -> Newcomer:
        """A domain that is there (its row) as one to be tried, wherever its hard affinity lets it run."""

        def its(each: Floats | None) -> float | None:
            return None if each is None else float(each[row])

        return cls(
            float(tenants.demand[row]),
            int(tenants.pool[row]),
            device_pull,
            weight=1.0 if tenants.weight is None else float(tenants.weight[row]),
            memory_bound=its(tenants.memory_bound),
            traffic_gbs=its(tenants.traffic_gbs),
            own_share=its(tenants.own_share) or 0.0,
            counts=1.0 if tenants.counts is None else float(tenants.counts[row]),
        )

    def bound(self, assumptions: Assumptions) -> float:
        """The share of its time that is memory latency."""
        return assumptions.memory_bound if self.memory_bound is None else self.memory_bound

    def traffic(self, assumptions: Assumptions) -> float:
        """GB/s of one busy vCPU."""
        return assumptions.traffic_gbs if self.traffic_gbs is None else self.traffic_gbs

    def own_pressure(self, machine: Machine, assumptions: Assumptions) -> float:
        """See `predict.own_pressure`."""
        return float(own_pressure(machine, np.asarray(self.demand), assumptions, self.traffic(assumptions)))
