"""Which nodes Dom0 is best on.

Dom0 sees no nodes of its own machine, so over several nodes its memory and its vCPUs are remote from each other at
random: it gets the fewest nodes that hold it, one on all but the smallest machines. Of those:

1. the least mean latency (measured, else in proportion to SLIT) between the nodes and the devices that Dom0 serves:
   devices do not move, guests do;
2. of equals, or where no such device's node is known, of the eight that have the fewest vCPUs of others for their pCPUs
   (and the room now), the least sum of the predicted slowdowns of all domains that are
   there now, with Dom0 among them (the performance model's objective), to a thousandth: less is no reason to choose;
   nodes whose memory is full now come last;
3. the first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from domicile.errors import Refused
from domicile.performance.machine import Machine
from domicile.policies.dom0.served import ServedDevice
from domicile.policies.placement import place
from domicile.state.model import PAGES_PER_MIB, Domain, DomainType, Snapshot
from domicile.state.request import GuestRequest, Intent

__all__ = ["DIGITS", "Candidate", "Room", "Site", "best_nodes", "candidates"]

DOM0_DEMAND = 1.0
"""vCPUs of Dom0 busy at once, for the prediction: an assumption, for it has not run there yet."""

MOST_COMPARED = 8
"""Equals that are compared by the prediction, which takes tens of milliseconds for each on the largest hosts."""
EQUAL = 1e-9
DIGITS = 3
"""After the point, of the objective."""


@dataclass(frozen=True, slots=True)
class Room:
    """What Dom0 needs of its nodes together."""

    cpus: int
    memory_mib: int


@dataclass(frozen=True)
class Site:
    """The host as Dom0's place: the nodes that it could be on, with the pCPUs of its cpupool and the memory of each."""

    snapshot: Snapshot
    dom0: Domain
    machine: Machine
    cpus: dict[int, frozenset[int]]
    memory_mib: dict[int, int]

    @classmethod
    def of(cls, snapshot: Snapshot, dom0: Domain) -> Site:
        """The nodes that have memory, and pCPUs in Dom0's cpupool."""
        pool = next((pool.cpus for pool in snapshot.cpupools if pool.name == dom0.cpupool), None)
        cpus, memory = {}, {}
        for node in snapshot.topology.nodes:
            usable = snapshot.topology.cpus_of([node.id])
            usable = usable if pool is None else usable & pool
            if usable and node.memory_mib:
                cpus[node.id], memory[node.id] = usable, node.memory_mib
        return cls(snapshot, dom0, Machine.of(snapshot.topology, snapshot.cpupools), cpus, memory)

    @cached_property
    def without_dom0(self) -> Snapshot:
        """The host with Dom0's memory free: where it is, or where Xen took it from if that is not known."""
        return _without(self.snapshot, self.dom0)

    @property
    def host_mib(self) -> int:
        """All memory of the host."""
        return sum(node.memory_mib for node in self.snapshot.topology.nodes)

    def cpus_of(self, nodes: Sequence[int]) -> frozenset[int]:
        """All pCPUs of these nodes that Dom0 may use."""
        return frozenset(cpu for node in nodes for cpu in self.cpus[node])

    def memory_of(self, nodes: Sequence[int]) -> int:
        """All memory of these nodes, in MiB."""
        return sum(self.memory_mib[node] for node in nodes)

    def holds(self, nodes: Sequence[int], room: Room) -> bool:
        """Whether these nodes together have the room."""
        return len(self.cpus_of(nodes)) >= room.cpus and self.memory_of(nodes) >= room.memory_mib

    def latency_ns(self, one: int, other: int) -> float:
        """The mean of both ways."""
        index = self.snapshot.topology.node_index
        there, back = index[one], index[other]
        return float(self.machine.latency_ns[there, back] + self.machine.latency_ns[back, there]) / 2


@dataclass(frozen=True, slots=True)
class Candidate:
    """A set of nodes: mean latency to the devices (None without any), and what Dom0 there adds to the sum of all
    predicted slowdowns (None where it was not asked, infinite where the memory is full now)."""

    nodes: tuple[int, ...]
    device_latency_ns: float | None = None
    objective: float | None = None


def candidates(site: Site, room: Room) -> list[tuple[int, ...]]:
    """The smallest sets of nodes that hold the room: from each node, with the nearest to those already in it."""
    grown = [found for seed in site.cpus if (found := _grown(site, seed, room))]
    fewest = min(map(len, grown), default=0)
    return sorted({tuple(sorted(nodes)) for nodes in grown if len(nodes) == fewest})


def best_nodes(
    site: Site, sets: Sequence[tuple[int, ...]], devices: Sequence[ServedDevice], size: Room
) -> list[Candidate]:
    """The sets, best first; `size` is Dom0's own. The prediction is asked only where the devices leave a choice."""
    found = [Candidate(nodes, _device_latency(site, nodes, devices)) for nodes in sets]
    nearest = min((one.device_latency_ns or 0.0 for one in found), default=0.0)
    tied = [one for one in found if (one.device_latency_ns or 0.0) <= nearest * (1 + EQUAL)]
    if len(tied) > 1:
        compared = _least_loaded(site, tied, size)
        found = [replace(one, objective=_objective(site, one.nodes, size)) if one in compared else one for one in found]
    return sorted(found, key=_rank)


def _rank(candidate: Candidate) -> tuple[float, float, tuple[int, ...]]:
    objective = math.inf if candidate.objective is None else candidate.objective
    # the last digits come from the order of sums, and must not decide
    return round(candidate.device_latency_ns or 0.0, 6), round(objective, DIGITS), candidate.nodes


def _least_loaded(site: Site, tied: Sequence[Candidate], size: Room) -> list[Candidate]:
    """Those worth a prediction: with room now, then by others' vCPUs, each spread over its domain's nodes."""
    load = dict.fromkeys(site.cpus, 0.0)
    free = {
        node.id: node.memory_mib if node.free_mib is None else node.free_mib
        for node in site.without_dom0.topology.nodes
    }
    for domain in site.without_dom0.domains:
        there = [node for node in domain.node_affinity or load if node in load]
        for node in there:
            load[node] += len(domain.vcpus) / len(there)

    def rank(one: Candidate) -> tuple[bool, float, tuple[int, ...]]:
        full = sum(free[node] for node in one.nodes) < size.memory_mib
        return full, round(sum(load[node] for node in one.nodes) / len(site.cpus_of(one.nodes)), 6), one.nodes

    return sorted(tied, key=rank)[:MOST_COMPARED]


def _grown(site: Site, seed: int, room: Room) -> list[int] | None:
    nodes = [seed]
    left = set(site.cpus) - {seed}
    while not site.holds(nodes, room):
        if not left:
            return None
        near = min(left, key=lambda node: (sum(site.latency_ns(node, there) for there in nodes), node))
        nodes.append(near)
        left.remove(near)
    return nodes


def _device_latency(site: Site, nodes: Sequence[int], devices: Sequence[ServedDevice]) -> float | None:
    if not devices:
        return None
    return float(np.mean([[site.latency_ns(node, device.node) for node in nodes] for device in devices]))


def _objective(site: Site, nodes: Sequence[int], size: Room) -> float:
    """What Dom0 on these nodes adds to the sum of all slowdowns, as if it were started now."""
    cpus = site.cpus_of(nodes)
    vcpus = min(size.cpus, len(cpus))
    request = GuestRequest(
        name=site.dom0.name,
        type=site.dom0.type or DomainType.PV,
        vcpus=vcpus,
        max_vcpus=vcpus,
        memory_mib=size.memory_mib,
        max_memory_mib=size.memory_mib,
        hard_affinity=(cpus,) * vcpus,
        soft_affinity=(cpus,) * vcpus,
        cpupool=site.dom0.cpupool,
        weight=site.dom0.weight,
    )
    try:
        plan = place(site.without_dom0, [request], Intent(), load={site.dom0.name: DOM0_DEMAND})
    except Refused:
        return math.inf
    return plan.placements[0].objective


def _without(snapshot: Snapshot, dom0: Domain) -> Snapshot:
    pages = dom0.pages_by_node
    if pages is None:
        nodes = sorted(dom0.node_affinity or snapshot.topology.node_ids)
        pages = {node: dom0.memory_mib * PAGES_PER_MIB // len(nodes) for node in nodes}
    nodes_now = tuple(
        node
        if node.free_mib is None
        else replace(node, free_mib=min(node.free_mib + pages.get(node.id, 0) // PAGES_PER_MIB, node.memory_mib))
        for node in snapshot.topology.nodes
    )
    others = tuple(domain for domain in snapshot.domains if domain.id != dom0.id)
    return replace(snapshot, topology=replace(snapshot.topology, nodes=nodes_now), domains=others)
