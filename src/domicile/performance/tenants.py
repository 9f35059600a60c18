"""Who is on the machine, as arrays: how much CPU each domain wants, and how its vCPUs and memory are spread over
nodes.

A snapshot says what a vCPU may do, not what it did: a vCPU is taken to be spread evenly over the CPUs of its soft
affinity within its hard affinity and cpupool (of the hard affinity, where the two do not meet), as Xen's schedulers
aim at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from domicile.performance.assumptions import DEFAULT, Assumptions
from domicile.performance.curves import Floats, sharing
from domicile.performance.machine import Machine
from domicile.state.model import Domain, Reservation, Snapshot, Vnode

__all__ = ["Tenants", "device_shares", "keeps_to_vnodes", "residents"]


@dataclass(frozen=True, eq=False)
class Tenants:
    """D domains on a machine of N nodes.

    `demand`: D, how many vCPUs want to run at once. `vcpu_share`, `memory_share`, `device_share`: D x N, each row
    adds up to 1, or is all 0 where the domain has none. `pool`: D, rows of `Machine.cores`. `confined`: D, slowdown
    from a hard affinity narrower than the nodes it is on. D each, None where all are alike: `weight` (256 is 1.0),
    `memory_bound` and `traffic_gbs` (as `Assumptions` has them). `own_share`: D, what each keeps of its accesses on the
    vCPU's node (see `accesses`), 0 for guests without virtual nodes; None where nobody has any. `counts`: D, what each
    domain's slowdown counts in sums over all; None where all count 1.
    """

    names: tuple[str, ...]
    demand: Floats
    vcpu_share: Floats
    memory_share: Floats
    device_share: Floats
    pool: npt.NDArray[np.intp]
    confined: Floats
    weight: Floats | None = None
    memory_bound: Floats | None = None
    traffic_gbs: Floats | None = None
    own_share: Floats | None = None
    counts: Floats | None = None

    @property
    def each_counts(self) -> Floats:
        """What each one's slowdown counts; D."""
        return np.ones(len(self.names)) if self.counts is None else self.counts

    @classmethod
    def none(cls, nodes: int) -> Tenants:
        """Nobody, on a machine of this many nodes."""
        empty = np.zeros((0, nodes))
        return cls((), np.zeros(0), empty, empty, empty, np.zeros(0, dtype=np.intp), np.zeros(0))


SPREADS_KEPT = 4096
"""Affinities that a machine remembers at most; a host has a few for each node."""


@dataclass(frozen=True)
class _Affinities:
    """Node shares of CPU sets, remembered: most vCPUs of a host share a handful of sets, and the next snapshot has the
    same ones (`Machine.spreads`).

    Sets are remembered by identity first, since hashing a set of a thousand CPUs for every vCPU would cost more than
    the rest; the snapshot keeps them alive.
    """

    machine: Machine
    shares: dict[tuple[int, int, int], tuple[Floats, bool]] = field(default_factory=dict)
    pcpus: dict[tuple[frozenset[int], int], Floats] = field(default_factory=dict)
    counts: dict[tuple[frozenset[int], int], tuple[Floats, Floats]] = field(default_factory=dict)
    known: dict[int, frozenset[int]] = field(default_factory=dict)

    def count(self, cpus: frozenset[int], pool: int) -> tuple[Floats, Floats]:
        key = (cpus, pool)
        if key not in self.counts:
            self.counts[key] = self.machine.count(cpus, pool)
        return self.counts[key]

    def count_pcpus(self, cpus: frozenset[int], pool: int) -> Floats:
        key = (cpus, pool)
        if key not in self.pcpus:
            self.pcpus[key] = self.machine.count_pcpus(cpus, pool)
        return self.pcpus[key]

    def share(self, hard: frozenset[int], soft: frozenset[int], pool: int) -> tuple[Floats, bool]:
        """How one vCPU is spread over the nodes, and whether its hard affinity keeps it off some of its pool's CPUs."""
        same = (id(hard), id(soft), pool)
        found = self.shares.get(same)
        if found is None:
            known, equal = self.machine.spreads, (self._known(hard), self._known(soft), pool)
            found = known.get(equal)
            if found is None:
                if len(known) >= SPREADS_KEPT:
                    known.clear()
                    self.machine.cpu_sets.clear()
                found = known[equal] = self._share(hard, soft, pool)
            self.shares[same] = found
        return found

    def _known(self, cpus: frozenset[int]) -> frozenset[int]:
        """The equal set that was seen first: of two that are one, it takes no look at a thousand CPUs to know it."""
        found = self.known.get(id(cpus))
        if found is None:
            found = self.known[id(cpus)] = self.machine.cpu_sets.setdefault(cpus, cpus)
        return found

    def _share(self, hard: frozenset[int], soft: frozenset[int], pool: int) -> tuple[Floats, bool]:
        whole = self.machine.pcpus[pool]
        may = self.count_pcpus(hard, pool)
        likes = self.count_pcpus(hard if soft is hard else hard & soft, pool)
        chosen = next((counts for counts in (likes, may, whole) if counts.any()), whole)
        total = chosen.sum()
        return chosen / total if total else chosen, bool((may < whole).any())


def residents(
    machine: Machine,
    snapshot: Snapshot,
    load: Mapping[str, float] | None = None,
    assumptions: Assumptions = DEFAULT,
) -> Tenants:
    """The domains of a snapshot, and those that are being created: a reservation counts as the domain that it is for.

    `load` is measured demand by domain name, in vCPUs busy at once (1.5 of 4, say). Where it says nothing: Dom0's
    average since boot if the host tells idle times, else `dom0_vcpu_demand` for each of its vCPUs; for any other
    domain, paused ones too, `vcpu_demand` for each vCPU that is online.
    """
    load = load or {}
    affinities = _Affinities(machine)
    pools, index = {name: row for row, name in enumerate(machine.pools)}, machine.topology.node_index
    promised = {reservation.domain: reservation for reservation in snapshot.reservations}
    there = {domain.name for domain in snapshot.domains}
    coming = [reservation for name, reservation in promised.items() if name not in there]
    rows = len(snapshot.domains) + len(coming)
    demand: list[float] = []
    pool: list[int] = []
    shares: list[Floats] = []
    mapped: list[int] = []
    pages: list[int] = []
    reserved: dict[int, Floats] = {}
    narrow_rows: list[int] = []
    devices = np.zeros((rows, machine.nodes))

    for row, domain in enumerate(snapshot.domains):
        its_pool = pools.get(domain.cpupool, 0)
        pool.append(its_pool)
        runs = _runs(domain)
        measured = load.get(domain.name) if load else None
        if measured is None:
            measured = _usual_demand(domain, sum([count for _, _, count in runs]), snapshot, assumptions)
        demand.append(measured)
        if domain.devices:
            devices[row] = device_shares(machine, domain.devices)
        reservation = promised.get(domain.name) if promised else None
        if reservation and any(reservation.memory_mib.values()):
            # while it is built its affinity is not set yet; what was reserved says where it will be
            share, reserved[row] = _reserved_shares(machine, reservation)
            shares.append(share)
            continue
        share, narrow = _vcpu_share(runs, affinities, its_pool)
        shares.append(share)
        for node, count in (domain.pages_by_node or {}).items():
            if count and node in index:
                mapped.append(row * machine.nodes + index[node])
                pages.append(count)
        if narrow:
            narrow_rows.append(row)
    for row, reservation in enumerate(coming, start=len(snapshot.domains)):
        demand.append(load.get(reservation.domain, reservation.vcpus * assumptions.vcpu_demand))
        pool.append(0)
        share, reserved[row] = _reserved_shares(machine, reservation)
        shares.append(share)

    names = tuple([domain.name for domain in snapshot.domains] + [reservation.domain for reservation in coming])
    vcpus = np.array(shares, dtype=np.float64).reshape(rows, machine.nodes)
    memory = _memory_shares(machine, snapshot.domains, vcpus, mapped, pages, reserved)
    wanted, rows_of = np.array(demand, dtype=np.float64), np.array(pool, dtype=np.intp)
    confined = np.zeros(rows)
    if narrow_rows:
        bound = [snapshot.domains[row] for row in narrow_rows]
        confined[narrow_rows] = _confinement(
            machine, affinities, bound, rows_of[narrow_rows], wanted[narrow_rows], vcpus[narrow_rows], assumptions
        )
    own_share = _own_share(snapshot.domains, rows, assumptions)
    return Tenants(names, wanted, vcpus, memory, devices, rows_of, confined, own_share=own_share)


def keeps_to_vnodes(vnodes: Sequence[Vnode]) -> bool:
    """Whether a guest with these virtual nodes keeps most of its accesses on the nodes of its vCPUs: it sees several,
    and each is on a node that is known."""
    return len(vnodes) > 1 and all(vnode.pnode is not None for vnode in vnodes)


def _own_share(domains: Sequence[Domain], rows: int, assumptions: Assumptions) -> Floats | None:
    """What each row keeps of its accesses on the vCPU's node; None where nobody has virtual nodes."""
    seeing = [row for row, domain in enumerate(domains) if domain.vnodes and keeps_to_vnodes(domain.vnodes)]
    if not seeing:
        return None
    found = np.zeros(rows)
    found[seeing] = assumptions.own_share
    return found


def device_shares(machine: Machine, addresses: Sequence[str]) -> Floats:
    """The share of these PCI devices on each node; all 0 where none of them has a known node."""
    node_of = {device.address: device.node for device in machine.topology.devices}
    shares = np.zeros(machine.nodes)
    for address in addresses:
        node = node_of.get(address.lower())
        if node is not None:
            shares[machine.topology.node_index[node]] += 1.0
    return shares / shares.sum() if shares.any() else shares


def _usual_demand(domain: Domain, online: int, snapshot: Snapshot, assumptions: Assumptions) -> float:
    if domain.id != 0:
        return online * assumptions.vcpu_demand
    idle_ns = snapshot.pcpu_idle_ns
    used_ns = domain.time_ns
    if used_ns is None or not any(idle_ns.values()):
        return online * assumptions.dom0_vcpu_demand
    # the host's age: no pCPU was idle for longer, and idle and used time together are no more than it for each pCPU
    times = [other.time_ns or 0 for other in snapshot.domains]
    age_ns = max(*idle_ns.values(), (sum(idle_ns.values()) + sum(times)) / len(idle_ns))
    return min(used_ns / age_ns, float(online))


Run = tuple[frozenset[int], frozenset[int], int]
"""Hard and soft affinity of vCPUs, and how many have the very same sets."""


def _vcpu_share(runs: Sequence[Run], affinities: _Affinities, pool: int) -> tuple[Floats, bool]:
    if len(runs) == 1:
        ((hard, soft, _),) = runs
        return affinities.share(hard, soft, pool)
    online = sum(count for _, _, count in runs)
    share, narrow = np.zeros(affinities.machine.nodes), False
    for hard, soft, count in runs:
        spread, kept_off = affinities.share(hard, soft, pool)
        share += spread * (count / online)
        narrow = narrow or kept_off
    return share, narrow


def _runs(domain: Domain) -> list[Run]:
    """The vCPUs that are online, those in a row with the same sets together."""
    found: list[Run] = []
    hard: frozenset[int] | None = None
    soft: frozenset[int] | None = None
    count = 0
    for vcpu in domain.vcpus:
        if not vcpu.online:
            continue
        if vcpu.soft_affinity is soft and vcpu.hard_affinity is hard:
            count += 1
            continue
        if hard is not None and soft is not None:
            found.append((hard, soft, count))
        hard, soft, count = vcpu.hard_affinity, vcpu.soft_affinity, 1
    if hard is not None and soft is not None:
        found.append((hard, soft, count))
    return found


def _confinement(
    machine: Machine,
    affinities: _Affinities,
    domains: Sequence[Domain],
    pool: npt.NDArray[np.intp],
    demand: Floats,
    vcpu_share: Floats,
    assumptions: Assumptions,
) -> Floats:
    """Slowdown of each of these domains alone from the CPUs that its hard affinity keeps it off."""
    counted = [
        affinities.count(_union({id(vcpu.hard_affinity): vcpu.hard_affinity for vcpu in domain.vcpus}), int(its_pool))
        for domain, its_pool in zip(domains, pool, strict=True)
    ]
    pcpus, cores = np.array([pcpus for pcpus, _ in counted]), np.array([cores for _, cores in counted])
    own = demand[:, None] * vcpu_share
    confined = sharing(own, cores, pcpus, 1.0, assumptions)
    free = sharing(own, machine.cores[pool], machine.pcpus[pool], 1.0, assumptions)
    return np.asarray((vcpu_share * np.maximum(confined - free, 0.0)).sum(axis=1), dtype=np.float64)


def _union(sets: Mapping[int, frozenset[int]]) -> frozenset[int]:
    """All CPUs of these sets; the set itself where there is one, since its hash is known."""
    first, *others = sets.values()
    return first.union(*others) if others else first


def _memory_shares(
    machine: Machine,
    domains: Sequence[Domain],
    vcpu_share: Floats,
    mapped: Sequence[int],
    pages: Sequence[int],
    reserved: Mapping[int, Floats],
) -> Floats:
    """Where the memory of each row is (D x N): `pages` are on the `mapped` elements of this array; what is `reserved`
    goes before that."""
    rows, nodes = vcpu_share.shape
    counted = np.bincount(np.array(mapped, dtype=np.intp), weights=pages, minlength=rows * nodes)
    memory = counted.reshape(rows, nodes).astype(np.float64)
    total = memory.sum(axis=1)
    memory /= np.where(total > 0, total, 1.0)[:, None]
    for row in np.flatnonzero(total == 0).tolist():
        if row not in reserved:
            memory[row] = _memory_share(machine, domains[row], vcpu_share[row])
    for row, share in reserved.items():
        memory[row] = share
    return memory


def _memory_share(machine: Machine, domain: Domain, vcpu_share: Floats) -> Floats:
    """Where its memory is, if no map says: where Xen takes it from; else where its vCPUs are; else everywhere, by
    size.
    """
    index = machine.topology.node_index
    weights = np.zeros(machine.nodes)
    weights[[index[node] for node in domain.node_affinity or () if node in index]] = 1.0
    weights *= machine.memory_mib > 0
    if not weights.any() and (vcpu_share == 0).any():
        weights = ((machine.memory_mib > 0) & (vcpu_share > 0)).astype(np.float64)
    if not weights.any():
        weights = machine.memory_mib
    total = weights.sum()
    return np.asarray(weights / total if total else np.zeros(machine.nodes), dtype=np.float64)


def _reserved_shares(machine: Machine, reservation: Reservation) -> tuple[Floats, Floats]:
    """vCPU and memory shares of a domain to come: its vCPUs go where its memory is, if there are CPUs."""
    memory = np.zeros(machine.nodes)
    for node, mib in reservation.memory_mib.items():
        if node in machine.topology.node_index:
            memory[machine.topology.node_index[node]] = mib
    pcpus = machine.pcpus.sum(axis=0)
    vcpus = np.where(pcpus > 0, memory, 0.0) if (memory * pcpus).any() else pcpus
    return vcpus / max(float(vcpus.sum()), 1.0), memory / max(float(memory.sum()), 1.0)
