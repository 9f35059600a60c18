"""What a host's domains lose while memory is copied: by its traffic, and by the pCPU that the copying takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from domicile.performance.assumptions import DEFAULT, Assumptions
from domicile.performance.curves import Floats, crowding
from domicile.performance.field import Field
from domicile.performance.remembered import remembered_machine
from domicile.performance.tenants import residents
from domicile.state.model import Snapshot

__all__ = ["COPIER_CPUS", "MIB_GB", "Ground"]

COPIER_CPUS = 1.0
"""Busy pCPUs for as long as memory is copied: one process reads, one writes, each waiting for the other half of the
time. An assumption."""

MIB_GB = 2**20 / 1e9


@dataclass(frozen=True, eq=False)
class Ground:
    """The load of a host; `copier` (N) is where Dom0, which does the copying, runs."""

    field: Field
    copier: Floats

    @classmethod
    def of(
        cls, snapshot: Snapshot, load: Mapping[str, float] | None = None, assumptions: Assumptions = DEFAULT
    ) -> Ground:
        """The host as it is; `load` is measured demand by domain name."""
        machine = remembered_machine(snapshot.topology, snapshot.cpupools, assumptions)
        tenants = residents(machine, snapshot, load, assumptions)
        dom0 = [row for row, domain in enumerate(snapshot.domains) if domain.id == 0]
        copier = tenants.vcpu_share[dom0[0]] if dom0 else machine.pcpus.sum(axis=0) / max(machine.pcpus.sum(), 1.0)
        return cls(Field.of(machine, tenants, assumptions), copier)

    def lost_per_s(self, mib_s: Mapping[int, float], cpus: float = COPIER_CPUS) -> float:
        """What all domains lose in a second, in domain-seconds, while so many MiB a second go to or from the memory of
        these nodes (ids), and so many pCPUs are busy with it."""
        field = self.field
        index = field.machine.topology.node_index
        rates = np.zeros(field.machine.nodes)
        for node, rate in mib_s.items():
            if node in index:
                rates[index[node]] += rate * MIB_GB
        lost = 0.0
        if rates.any():
            more = self._pressure(field.traffic + np.outer(self.copier, rates)) - self._now
            lost = max(float((field.felt * more).sum()), 0.0)
        short = float(field.demand.sum() + cpus - field.machine.pcpus.sum())
        return lost + min(max(short, 0.0), cpus)

    @cached_property
    def _now(self) -> Floats:
        return self._pressure(self.field.traffic)

    def _pressure(self, traffic: Floats) -> Floats:
        """By node of the vCPU and of the memory, as `Field` has it."""
        peak, a = self.field.machine.bandwidth_gbs, self.field.assumptions
        link = crowding(traffic / peak, a)
        np.fill_diagonal(link, 0.0)
        return np.asarray(link + crowding(traffic.sum(axis=0) / peak.diagonal(), a), dtype=np.float64)
