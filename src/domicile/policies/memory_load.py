"""A host's domains and their memory as arrays, and how slow they are with their accesses going elsewhere.

Slowdown is the whole performance model's (`performance.evaluate`). vCPUs are where they are known to have run, else
where their affinity says. D domains, N nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from domicile.performance.accesses import Accesses
from domicile.performance.assumptions import DEFAULT, Assumptions
from domicile.performance.character import USUAL_WEIGHT, leaning, scheduled
from domicile.performance.curves import Floats
from domicile.performance.evaluate import evaluate
from domicile.performance.machine import Machine
from domicile.performance.machine_load import MachineLoad
from domicile.performance.remembered import remembered_machine
from domicile.performance.tenants import Tenants, residents
from domicile.state.model import Snapshot
from domicile.state.request import Intent

__all__ = ["IDLE", "MemoryLoad"]

IDLE = 0.05
"""vCPUs busy at once; a domain with less is left out of means."""

Busy = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class MemoryLoad:
    """`memory_mib` (D): of each domain; `free_mib` (N): not promised to anybody; `own` (D x N): its own nodes, which
    its node-affinity names, else those where it has memory. `busy` (D): domains other than Dom0 that do something."""

    machine: Machine
    tenants: Tenants
    memory_mib: Floats
    free_mib: Floats
    own: Busy
    busy: Busy
    assumptions: Assumptions

    @classmethod
    def of(
        cls,
        snapshot: Snapshot,
        intent: Intent,
        load: Mapping[str, float] | None = None,
        ran: Mapping[str, Mapping[int, float]] | None = None,
        assumptions: Assumptions = DEFAULT,
    ) -> MemoryLoad:
        """The load of a host. `load`: vCPUs busy at once by domain; `ran`: domain name to node id to the time that its
        vCPUs ran there, in any unit. Where they say nothing: as `residents`."""
        machine = remembered_machine(snapshot.topology, snapshot.cpupools, assumptions)
        tenants = scheduled(residents(machine, snapshot, load, assumptions), snapshot)
        tenants = leaning(tenants, intent.domains, assumptions)
        index = machine.topology.node_index
        vcpus = tenants.vcpu_share.copy()
        memory = np.zeros(len(tenants.names))
        own = tenants.memory_share > 0
        dom0 = np.zeros(len(tenants.names), dtype=np.bool_)
        for row, domain in enumerate(snapshot.domains):
            memory[row], dom0[row] = domain.memory_mib, domain.id == 0
            where = {node: time for node, time in (ran or {}).get(domain.name, {}).items() if node in index}
            if (total := sum(where.values())) > 0:
                vcpus[row] = 0.0
                vcpus[row, [index[node] for node in where]] = np.array(list(where.values())) / total
            preferred = [index[node] for node in domain.node_affinity or () if node in index]
            if preferred:
                own[row] = False
                own[row, preferred] = True
        return cls(
            machine,
            replace(tenants, vcpu_share=vcpus),
            memory,
            np.array([snapshot.available_mib(node) for node in machine.topology.node_ids], dtype=np.float64),
            own,
            ~dom0 & (tenants.demand > IDLE),
            assumptions,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The domains'."""
        return self.tenants.names

    @property
    def node_ids(self) -> tuple[int, ...]:
        """The nodes'."""
        return tuple(self.machine.topology.node_ids)

    @property
    def demand(self) -> Floats:
        """vCPUs busy at once (D)."""
        return self.tenants.demand

    @property
    def pages(self) -> Floats:
        """Where each domain's memory is, as shares (D x N)."""
        return self.tenants.memory_share

    @property
    def has_cpus(self) -> Busy:
        """Which nodes have CPUs (N)."""
        return np.asarray(self.machine.pcpus.sum(axis=0) > 0)

    def far_nodes(self, named: tuple[int, ...] | None) -> Busy:
        """Which nodes are far memory (N): those that are named, else those with memory and no CPUs."""
        if named is None:
            return np.asarray(~self.has_cpus & (self.machine.memory_mib > 0))
        return np.isin(np.array(self.node_ids), named)

    def slowdowns(self, accesses: Floats) -> Floats:
        """Every domain's slowdown with its accesses going to these nodes (... x D x N); ... x D."""
        tenants, rows, share = self.tenants, self._rows, self._rows.share
        memory = accesses[..., rows.owner, :]
        if tenants.own_share is not None:
            own_share = tenants.own_share[rows.owner]
            reached = Accesses.of(rows.vcpus / share[:, None], memory, own_share).arriving
            memory = np.where(own_share[:, None] > 0, reached, memory)
        load = MachineLoad.of(
            tenants.demand[rows.owner, None] * rows.vcpus,
            memory,
            demand_vcpus=tenants.demand[rows.owner] * share,
            traffic_gbs=None if tenants.traffic_gbs is None else tenants.traffic_gbs[rows.owner],
            memory_bound=None if tenants.memory_bound is None else tenants.memory_bound[rows.owner],
            weight=USUAL_WEIGHT if tenants.weight is None else USUAL_WEIGHT * tenants.weight[rows.owner],
            pool=tenants.pool[rows.owner],
            assumptions=self.assumptions,
        )
        return rows.joined(evaluate(self.machine, load, self.assumptions).slowdown)

    def remote_share(self, accesses: Floats) -> Floats:
        """Share of each domain's accesses (D x N) that leave the node of the vCPU; D."""
        reached = Accesses.of(self.tenants.vcpu_share, accesses, self.tenants.own_share).weights
        near = reached.trace(axis1=1, axis2=2)
        return np.asarray(np.where(accesses.any(axis=1), 1.0 - near, 0.0), dtype=np.float64)

    @cached_property
    def _rows(self) -> _Rows:
        return _Rows.of(self.tenants)

    def shortage(self, free_mib: Floats, reserve: float) -> float:
        """What nodes with CPUs lack of having this share of their memory free, in MiB together."""
        lacks = np.maximum(reserve * self.machine.memory_mib - free_mib, 0.0)
        return float(lacks[self.has_cpus].sum())

    def room(self, free_mib: Floats) -> int:
        """The most that is free on one node with CPUs, in MiB."""
        return int(free_mib[self.has_cpus].max(initial=0.0))


@dataclass(frozen=True, eq=False)
class _Rows:
    """The domains as `evaluate` takes them, R rows: one for each, but for each node of its vCPUs where a guest keeps
    its accesses to virtual nodes. `owner` (R): whose a row is; `vcpus` (R x N): its vCPUs, as shares of the domain's;
    `share` (R): how many of them."""

    owner: npt.NDArray[np.intp]
    vcpus: Floats
    share: Floats

    @classmethod
    def of(cls, tenants: Tenants) -> _Rows:
        owner, vcpus, shares = list[int](), list[Floats](), list[float]()
        for row, share in enumerate(tenants.vcpu_share):
            if tenants.own_share is None or not tenants.own_share[row] or not share.any():
                parts, sizes = share[None], [1.0]
            else:
                parts, sizes = np.diag(share)[share > 0], share[share > 0].tolist()
            owner += [row] * len(sizes)
            vcpus += list(parts)
            shares += sizes
        each = np.array(vcpus).reshape(len(owner), tenants.vcpu_share.shape[1])
        return cls(np.array(owner, dtype=np.intp), each, np.array(shares))

    def joined(self, figures: Floats) -> Floats:
        """Means over the rows of each domain (... x R), by their vCPUs: ... x D."""
        if len(np.unique(self.owner)) == len(self.owner):
            return figures
        starts = np.flatnonzero(np.diff(self.owner, prepend=-1))
        weighted = np.add.reduceat(figures * self.share, starts, axis=-1)
        return np.asarray(weighted / np.add.reduceat(self.share, starts), dtype=np.float64)
