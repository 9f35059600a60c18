"""A virtual topology for a guest that has none: how many virtual nodes, what is on each, where they live.

For each number the best topology is worked out: even where that fits, else as even as the nodes allow, on the pnodes
with the least objective. Which number it is to be is for the caller (`widths`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from domicile.errors import Refused
from domicile.policies.vnuma.assign import assign
from domicile.policies.vnuma.costs import Ground, shares
from domicile.policies.vnuma.distances import virtual_distances
from domicile.policies.vnuma.refine import refined
from domicile.policies.vnuma.split import divided_memory, divided_vcpus, numbered, roomy_vcpus
from domicile.state.model import DomainType, Snapshot, Vnode
from domicile.state.request import GuestRequest
from domicile.topology.ids import format_ids

__all__ = ["MOST_VNODES", "Width", "described", "most_even", "obstacle", "topology_of", "topology_on", "width_of"]

MOST_VNODES = 32
"""Xen takes distances of one page at most: 32 x 32 of 4 bytes (`vnuma_alloc`, xen/common/domctl.c, 4.17)."""

SETS = 5_000
"""Sets of nodes tried where no even split fits; of more, those of the nodes with the most free memory."""


@dataclass(frozen=True, slots=True)
class Width:
    """Why a guest is wider than every node that it may use; empty if it is not. `least_nodes`: how many could do."""

    reason: str
    least_nodes: int


def width_of(snapshot: Snapshot, request: GuestRequest) -> Width:
    """Whether a guest is wider than a node, by all its vCPUs against pCPUs that it may use, or by its memory against
    the nodes' size (not what is free now: a topology outlives the moment)."""
    topology = snapshot.topology
    pool = next((pool.cpus for pool in snapshot.cpupools if pool.name == request.cpupool), None)
    may = frozenset().union(*request.hard_affinity) if request.hard_affinity else None
    pcpus: list[int] = []
    sizes: list[int] = []
    for node in topology.nodes:
        cpus = topology.cpus_by_node[node.id]
        count = sum((pool is None or cpu in pool) and (may is None or cpu in may) for cpu in cpus)
        if count:
            pcpus.append(count)
            sizes.append(node.memory_mib)
    reasons = []
    if pcpus and request.max_vcpus > max(pcpus):
        reasons.append(f"{request.max_vcpus} vCPUs, no node has more than {max(pcpus)} pCPUs for it")
    if sizes and request.need_mib > max(sizes):
        reasons.append(f"{request.need_mib} MiB, no node is larger than {max(sizes)} MiB")
    return Width("; ".join(reasons), max(_least(request.max_vcpus, pcpus), _least(request.need_mib, sizes), 1))


def _least(need: int, sizes: Sequence[int]) -> int:
    """How many of these, largest first, hold so much; all of them where they do not."""
    held = 0
    for count, size in enumerate(sorted(sizes, reverse=True), start=1):
        held += size
        if held >= need:
            return count
    return len(sizes)


def obstacle(request: GuestRequest) -> str:
    """Why a guest can have no virtual nodes, in one line; empty if it can."""
    if request.type is DomainType.PV:
        return "libxl refuses virtual nodes for PV guests (an open problem with CPUID); HVM guests can have them"
    if request.type is DomainType.PVH:
        return (
            "PVH guests with virtual nodes do not start (libxl fails on xc_domain_getvnuma, Xen 4.17 to 4.22); HVM "
            "guests can have them"
        )
    if request.max_memory_mib != request.memory_mib:
        return (
            f"maxmem= ({request.max_memory_mib} MiB) is more than memory= ({request.memory_mib} MiB): populate on "
            f"demand and virtual nodes exclude each other in libxl; make them equal"
        )
    if not request.acpi:
        return "acpi = 0: a guest reads its virtual nodes from ACPI tables (SRAT, SLIT); leave acpi= out"
    if request.soft_affinity is not None:
        return "cpus_soft= places it already; leave cpus_soft= out"
    return ""


def topology_of(ground: Ground, count: int, *, may_share: bool = False) -> tuple[Vnode, ...] | None:
    """The best topology of so many virtual nodes: an even one, else as even as the nodes allow; None where neither can
    be had. Virtual nodes have pnodes of their own unless they may share. Raises `Refused` for a number that cannot be.
    """
    request = ground.request
    if not 1 <= count <= min(MOST_VNODES, request.max_vcpus):
        most = min(MOST_VNODES, request.max_vcpus)
        raise Refused(
            f"{request.name}: cannot have {count} virtual nodes; from 1 to {most} are possible (each needs a vCPU, and "
            f"Xen takes {MOST_VNODES} at most)"
        )
    return _even(ground, count, may_share=may_share) or (None if may_share else _uneven(ground, count))


def topology_on(ground: Ground, nodes: Sequence[int]) -> tuple[Vnode, ...] | None:
    """The best topology with a virtual node on each of these nodes (indices); None where none can be had."""
    most = min(MOST_VNODES, ground.request.max_vcpus)
    return topology_of(ground.within(nodes), len(nodes)) if len(nodes) <= most else None


def _even(ground: Ground, count: int, *, may_share: bool) -> tuple[Vnode, ...] | None:
    request = ground.request
    vcpus = roomy_vcpus(request.max_vcpus, count)
    sizes = divided_memory(request.memory_mib, [request.memory_mib] * count)
    if sizes is None or sizes[0] <= request.video_mib:
        return None
    vnodes = [Vnode(None, size, cpus) for size, cpus in zip(sizes, numbered(vcpus), strict=True)]
    # where the guest has more vCPUs than there are pCPUs, some have to wait wherever they are
    least = vcpus if request.max_vcpus <= int(ground.pcpus.sum()) and not may_share else None
    problem = ground.problem(vnodes, least_pcpus=least, may_share=may_share)
    found = assign(problem)
    if found is None:
        return None
    pnodes = refined(ground, vnodes, found.pnodes, problem)
    if len(set(request.hard_affinity or ())) <= 1 and min(sizes) > request.video_mib:
        # any vCPU will do anywhere: then virtual nodes and vCPUs go up with their pnodes, for who reads it
        order = sorted(range(count), key=lambda number: (pnodes[number], number))
        counts = [vcpus[number] for number in order]
        pnodes = tuple(pnodes[number] for number in order)
        vnodes = [Vnode(None, sizes[number], cpus) for number, cpus in zip(order, numbered(counts), strict=True)]
    return _settled(ground, vnodes, pnodes)


def _uneven(ground: Ground, count: int) -> tuple[Vnode, ...] | None:
    """As even as the nodes allow, on the set of nodes with the least objective."""
    found = [
        (vnodes, nodes)
        for nodes in _sets(ground, count)
        if (vnodes := most_even(ground, nodes)) is not None and ground.bears(vnodes, nodes)
    ]
    if not found:
        return None
    each = [shares(vnodes) for vnodes, _ in found]
    pnodes = np.array([nodes for _, nodes in found], dtype=np.intp)
    objectives = ground.objectives(pnodes, np.array([vcpus for vcpus, _ in each]), np.array([mib for _, mib in each]))
    return _settled(ground, *found[int(np.argmin(objectives))])


def _sets(ground: Ground, count: int) -> Iterator[tuple[int, ...]]:
    room = ground.memory_room_mib
    nodes = [int(node) for node in np.flatnonzero((room > 0) & (ground.pcpus > 0))]
    if math.comb(len(nodes), count) > SETS:
        largest = sorted(nodes, key=lambda node: (-int(room[node]), node))
        while math.comb(len(largest), count) > SETS:
            largest.pop()
        nodes = sorted(largest)
    yield from itertools.combinations(nodes, count)


def most_even(ground: Ground, nodes: Sequence[int]) -> list[Vnode] | None:
    """The most even topology on just these nodes (indices), None where they are too small."""
    request = ground.request
    pcpus = [int(ground.pcpus[node]) for node in nodes]
    if sum(pcpus) < request.max_vcpus <= int(ground.pcpus.sum()):
        return None
    vcpus = divided_vcpus(request.max_vcpus, pcpus)
    sizes = divided_memory(request.memory_mib, [int(ground.memory_room_mib[node]) for node in nodes])
    if sizes is None or not all(vcpus) or not all(sizes) or sizes[0] <= request.video_mib:
        return None
    return [Vnode(None, size, cpus) for size, cpus in zip(sizes, numbered(vcpus), strict=True)]


def _settled(ground: Ground, vnodes: Sequence[Vnode], pnodes: Sequence[int]) -> tuple[Vnode, ...]:
    """The virtual nodes on their pnodes (indices), with the distances that follow."""
    topology = ground.layout.problem.machine.topology
    ids = [ground.node_ids[pnode] for pnode in pnodes]
    rows = virtual_distances(topology, ids)
    return tuple(
        replace(vnode, pnode=pnode, distances=row) for vnode, pnode, row in zip(vnodes, ids, rows, strict=True)
    )


def described(vnodes: Sequence[Vnode]) -> str:
    """`2 virtual nodes: 256 MiB and vCPUs 0-1 on node 1, …` for a person."""
    parts = [f"{vnode.memory_mib} MiB and vCPUs {format_ids(vnode.vcpus)} on node {vnode.pnode}" for vnode in vnodes]
    return f"{len(vnodes)} virtual node{'s' * (len(vnodes) != 1)}: {', '.join(parts)}"
