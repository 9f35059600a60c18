"""How a host stands, as arrays that a move can be tried on: whose vCPUs and memory are where, and what is free.

Demand is what was measured. On a host that is hardly used it is no less than what domains are held ready for: one whose
domains are idle at the moment would otherwise be content with all of them on one node, and be too late when they wake.
On one that is busy enough what is measured decides: to keep room for those that idle would crowd those that do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from dataclasses import field as default
from functools import cached_property

import numpy as np
import numpy.typing as npt

from domicile.performance.assumptions import Assumptions
from domicile.performance.character import leaning, scheduled
from domicile.performance.curves import Floats
from domicile.performance.field import Field
from domicile.performance.machine import Machine
from domicile.performance.newcomer import Newcomer
from domicile.performance.remembered import remembered_machine
from domicile.performance.tenants import Tenants, device_shares, residents
from domicile.performance.ties import backend_pull, device_pull
from domicile.policies.counting import counted
from domicile.policies.migration.felt import Ground
from domicile.policies.migration.refusals import BEING_MOVED
from domicile.policies.rebalancing.records import History, Rules
from domicile.state.load import capped
from domicile.state.model import Domain, Reservation, Snapshot

__all__ = ["Standing"]

HARDLY_USED = 0.25
"""Domains are held ready for as long as all together want no more than this share of a pool's pCPUs by it: fewer than
there are cores, however many threads these have."""

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Standing:
    """A host of D domains (`snapshot.domains` first, as its tenants' rows) and N nodes.

    `tenants.demand` (D) is what is reckoned with; `pull` (D x N) what each whole node costs a domain by its devices and
    backends; `free_mib` (N) what is free and promised to nobody once all that is under way has ended. `snapshot` has
    the promises of what was decided this round.
    """

    snapshot: Snapshot
    machine: Machine
    tenants: Tenants
    field: Field
    pull: Floats
    free_mib: Floats
    copier: Floats
    rules: Rules
    assumptions: Assumptions
    _anywhere: dict[int, bool] = default(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls, snapshot: Snapshot, load: Mapping[str, float], history: History, rules: Rules, assumptions: Assumptions
    ) -> Standing:
        """The host as it is, with moves under way taken as done."""
        snapshot = _not_held(snapshot)
        machine = remembered_machine(snapshot.topology, snapshot.cpupools, assumptions)
        tenants = leaning(
            scheduled(residents(machine, snapshot, load, assumptions), snapshot), rules.characters, assumptions
        )
        tenants = counted(replace(tenants, demand=_reckoned(machine, snapshot, tenants, rules)))
        free = np.array([snapshot.available_mib(node) for node in machine.topology.node_ids], dtype=np.float64)
        _as_if_done(machine, snapshot, tenants, free, history)
        dom0 = [row for row, domain in enumerate(snapshot.domains) if domain.id == 0]
        copier = tenants.vcpu_share[dom0[0]] if dom0 else machine.pcpus.sum(axis=0) / max(machine.pcpus.sum(), 1.0)
        return cls(
            snapshot=snapshot,
            machine=machine,
            tenants=tenants,
            field=Field.of(machine, tenants, assumptions),
            pull=_pull(machine, snapshot, tenants, copier, assumptions),
            free_mib=free,
            copier=copier,
            rules=rules,
            assumptions=assumptions,
        )

    @cached_property
    def ground(self) -> Ground:
        """What copying is felt by."""
        return Ground(self.field, self.copier)

    def domain(self, row: int) -> Domain:
        """The domain of this row."""
        return self.snapshot.domains[row]

    def newcomer(self, row: int) -> Newcomer:
        """A domain as one to be tried."""
        free = Newcomer.of(self.tenants, row, self.pull[row])
        allowed = self._allowed(row)
        return replace(free, allowed_pcpus=allowed[0], allowed_cores=allowed[1]) if allowed else free

    def without(self, row: int) -> Field:
        """The field of all others."""
        return self.field.with_domain(
            self.newcomer(row), self.tenants.vcpu_share[row], self.tenants.memory_share[row], -1
        )

    def vcpus_on(self, row: int, nodes: tuple[int, ...]) -> Floats:
        """How its vCPUs spread over these nodes (indices) within their hard affinity; N. All 0 where some of them may
        run on none of these."""
        machine, pool = self.machine, int(self.tenants.pool[row])
        inside = np.zeros(machine.nodes)
        inside[list(nodes)] = 1.0
        hard = {vcpu.hard_affinity for vcpu in self.domain(row).vcpus if vcpu.online}
        each = (
            [machine.pcpus[pool]] if self.may_run_anywhere(row) else [machine.count_pcpus(cpus, pool) for cpus in hard]
        )
        shares = [pcpus * inside for pcpus in each]
        if not shares or any(not share.any() for share in shares):
            return np.zeros(machine.nodes)
        return np.asarray(np.mean([share / share.sum() for share in shares], axis=0), dtype=np.float64)

    def indices(self, nodes: Mapping[int, int] | tuple[int, ...]) -> tuple[int, ...]:
        """Node ids to rows and columns."""
        return tuple(self.machine.topology.node_index[node] for node in nodes)

    def memory_share(self, by_node: Mapping[int, int]) -> Floats:
        """MiB by node id as shares; N."""
        found = np.zeros(self.machine.nodes)
        found[list(self.indices(by_node))] = list(by_node.values())
        return np.asarray(found / max(found.sum(), 1.0), dtype=np.float64)

    def shortness(self, free_mib: Floats) -> Floats:
        """What each node (... x N) costs that has little memory left for what grows or comes, in slowdown."""
        keep = self.rules.keep_free * self.machine.memory_mib
        missing = np.clip((keep - free_mib) / np.where(keep > 0, keep, 1.0), 0.0, 1.0) * (keep > 0)
        return np.asarray(self.rules.memory_weight * missing * missing, dtype=np.float64)

    def short_of_memory(self, free_mib: Floats) -> float:
        """The same of all nodes (N) together."""
        return float(self.shortness(free_mib).sum())

    def freed(self, row: int, by_node: Mapping[int, int]) -> Floats:
        """Free memory once a domain's is as said; N."""
        free = self.free_mib.copy()
        for node, mib in (self.domain(row).memory_by_node_mib or {}).items():
            if node in self.machine.topology.node_index:
                free[self.machine.topology.node_index[node]] += mib
        for node, mib in by_node.items():
            free[self.machine.topology.node_index[node]] -= mib
        return free

    def moved(self, row: int, nodes: tuple[int, ...], by_node: Mapping[int, int], twice: Mapping[int, int]) -> Standing:
        """With a move of this round: promised, reckoned with as done."""
        domain = self.domain(row)
        vcpus, memory = self.vcpus_on(row, self.indices(nodes)), self.memory_share(by_node)
        tenants = replace(
            self.tenants, vcpu_share=self.tenants.vcpu_share.copy(), memory_share=self.tenants.memory_share.copy()
        )
        tenants.vcpu_share[row], tenants.memory_share[row] = vcpus, memory
        promise = Reservation(
            f"move {domain.uuid}", domain.name + BEING_MOVED[0], twice, 0, "rebalancing", self.snapshot.taken_at
        )
        return replace(
            self,
            snapshot=replace(self.snapshot, reservations=(*self.snapshot.reservations, promise)),
            tenants=tenants,
            field=self.without(row).with_domain(self.newcomer(row), vcpus, memory),
            free_mib=self.freed(row, by_node),
        )

    def may_run_anywhere(self, row: int) -> bool:
        """Whether hard affinity leaves it all of its cpupool."""
        if row not in self._anywhere:
            machine, pool = self.machine, int(self.tenants.pool[row])
            sets = {id(vcpu.hard_affinity): vcpu.hard_affinity for vcpu in self.domain(row).vcpus if vcpu.online}
            self._anywhere[row] = all(
                len(hard) >= machine.pcpus.sum() or machine.count_pcpus(hard, pool).sum() >= machine.pcpus[pool].sum()
                for hard in sets.values()
            )
        return self._anywhere[row]

    def _allowed(self, row: int) -> tuple[Floats, Floats] | None:
        """The pCPUs and cores that hard affinity allows; None where it allows all."""
        if self.may_run_anywhere(row):
            return None
        hard: frozenset[int] = frozenset().union(*(vcpu.hard_affinity for vcpu in self.domain(row).vcpus))
        return self.machine.count(hard, int(self.tenants.pool[row]))


def _not_held(snapshot: Snapshot) -> Snapshot:
    """With the hard affinity that the administrator set, where a manager holds vCPUs for the moment."""
    if not snapshot.holds:
        return snapshot
    before = {(held.uuid, held.vcpu): held.before for held in snapshot.holds}
    held = {uuid for uuid, _ in before}

    def freed(domain: Domain) -> Domain:
        vcpus = (
            replace(vcpu, hard_affinity=before.get((domain.uuid, vcpu.id), vcpu.hard_affinity)) for vcpu in domain.vcpus
        )
        return replace(domain, vcpus=tuple(vcpus))

    domains = tuple(freed(domain) if domain.uuid in held else domain for domain in snapshot.domains)
    return replace(snapshot, domains=domains, holds=())


def _reckoned(machine: Machine, snapshot: Snapshot, tenants: Tenants, rules: Rules) -> Floats:
    """Demand, D: measured, on a host that is hardly used no less than what it is held ready for; none of what is being
    received or is paused."""
    demand = tenants.demand.copy()
    online = np.zeros(len(demand))
    for row, domain in enumerate(snapshot.domains):
        if domain.paused or domain.name.endswith(BEING_MOVED):
            demand[row] = 0.0
        elif domain.id != 0:
            online[row] = capped(float(sum(vcpu.online for vcpu in domain.vcpus)), domain.cap_percent)
    for row, name in enumerate(tenants.names[len(snapshot.domains) :], start=len(snapshot.domains)):
        if name.endswith(BEING_MOVED):
            demand[row] = 0.0
    wanted = np.bincount(tenants.pool, weights=online, minlength=len(machine.pools))
    used = np.bincount(tenants.pool, weights=demand, minlength=len(machine.pools))
    left = np.maximum(HARDLY_USED * machine.pcpus.sum(axis=1) - used, 0.0)
    ready = np.minimum(rules.ready, left / np.maximum(wanted, 1.0))
    return np.asarray(np.maximum(demand, online * ready[tenants.pool]), dtype=np.float64)


def _as_if_done(machine: Machine, snapshot: Snapshot, tenants: Tenants, free: Floats, history: History) -> None:
    """Put what is under way where it will be."""
    rows = {domain.uuid: row for row, domain in enumerate(snapshot.domains) if not domain.name.endswith(BEING_MOVED)}
    index = machine.topology.node_index
    for each in history.under_way:
        row = rows.get(each.uuid)
        if row is None or not set(each.targets) | set(each.memory_mib) <= index.keys():
            continue
        memory = np.zeros(machine.nodes)
        memory[[index[node] for node in each.memory_mib]] = list(each.memory_mib.values())
        inside = np.zeros(machine.nodes)
        inside[[index[node] for node in each.targets]] = 1.0
        vcpus = machine.pcpus[tenants.pool[row]] * inside
        tenants.memory_share[row] = memory / max(memory.sum(), 1.0)
        tenants.vcpu_share[row] = vcpus / max(vcpus.sum(), 1.0)
        # what it takes is promised or taken already: only what it will give back is missing
        after = each.memory_mib
        for node, mib in (snapshot.domains[row].memory_by_node_mib or {}).items():
            free[index[node]] += max(mib - after.get(node, 0), 0)


def _pull(machine: Machine, snapshot: Snapshot, tenants: Tenants, copier: Floats, assumptions: Assumptions) -> Floats:
    """What each whole node costs a domain by its devices and the backends that Dom0 serves it by, D x N."""
    pull = np.zeros_like(tenants.device_share)
    attached = np.flatnonzero(tenants.device_share.any(axis=1))
    if attached.size:
        pull[attached] = device_pull(machine.remoteness, tenants.device_share[attached], assumptions)
    by_backends: dict[tuple[str, ...], Floats] = {}
    for row, domain in enumerate(snapshot.domains):
        if not domain.backends:
            continue
        if domain.backends not in by_backends:
            found = [snapshot.backing_device(backend) for backend in domain.backends]
            shares = [device_shares(machine, [address] if address else []) for address in found]
            by_backends[domain.backends] = backend_pull(machine.remoteness, copier, shares, assumptions)
        pull[row] += by_backends[domain.backends]
    return pull
