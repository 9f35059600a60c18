"""Where a domain's memory is before and after a move, and what has to be free for it.

Xen takes memory from the nodes of the node-affinity evenly, and leaves a node out once it is full
(`policies.placement.memory`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from domicile.policies.placement.memory import in_proportion, spread_whole
from domicile.state.model import Domain, DomainType, Snapshot

__all__ = ["Landing", "as_ballooned", "as_built_anew", "as_built_beside", "overhead_mib"]


@dataclass(frozen=True, slots=True)
class Landing:
    """`after_mib`: by node, what the domain has afterwards; None where the nodes have no room for it. `twice_mib`: what
    has to be free beside what it has, by node. `need_mib` and `free_mib`: in all, for a person."""

    after_mib: Mapping[int, int] | None
    twice_mib: Mapping[int, int]
    need_mib: int
    free_mib: int


def overhead_mib(domain: Domain) -> int:
    """What Xen needs beside a domain's memory while it is built: tables for its pages, and slack.

    Source: `libxl__get_required_paging_memory` (libxl_create.c) and the constants of libxl_mem.c, Xen 4.17, with HAP: 1
    MiB for each vCPU and a page for each MiB, and 2 MiB; for PV the slack of 1 MiB.
    """
    if domain.type is DomainType.PV:
        return 1
    return 2 + len(domain.vcpus) - (-max(domain.max_memory_mib, domain.memory_mib) // 256)


def as_built_beside(snapshot: Snapshot, domain: Domain, nodes: tuple[int, ...]) -> Landing:
    """All of it on these nodes, while the domain is still there."""
    room = [snapshot.available_mib(node) for node in nodes]
    return _built(domain, nodes, room, {})


def as_built_anew(snapshot: Snapshot, domain: Domain, nodes: tuple[int, ...]) -> Landing:
    """All of it on these nodes, when the domain has gone."""
    own = domain.memory_by_node_mib or {}
    room = [snapshot.available_mib(node) + own.get(node, 0) for node in nodes]
    return _built(domain, nodes, room, own)


def _built(domain: Domain, nodes: tuple[int, ...], room: list[int], own: Mapping[int, int]) -> Landing:
    memory = max(domain.memory_mib, domain.target_mib or 0)
    need = memory + overhead_mib(domain)
    taken = spread_whole(need, room)
    if taken is None:
        return Landing(None, {}, need, sum(room))
    after = dict(zip(nodes, in_proportion(memory, taken), strict=True))
    twice = {node: max(mib - own.get(node, 0), 0) for node, mib in zip(nodes, taken, strict=True)}
    return Landing(_some(after), _some(twice), need, sum(room))


def as_ballooned(snapshot: Snapshot, domain: Domain, nodes: tuple[int, ...], minimum_mib: int) -> Landing:
    """What the guest can free on these nodes, the rest where it is: the guest knows no nodes, and frees of each alike.

    Needs the domain's memory map.
    """
    own = domain.memory_by_node_mib or {}
    places = sorted(own)
    kept = dict(zip(places, in_proportion(min(minimum_mib, sum(own.values())), [own[n] for n in places]), strict=True))
    freed = sum(own.values()) - sum(kept.values())
    room = [snapshot.available_mib(node) + own.get(node, 0) - kept.get(node, 0) for node in nodes]
    taken = spread_whole(freed, room)
    if taken is None:
        return Landing(None, {}, freed, sum(room))
    after = dict(kept)
    for node, mib in zip(nodes, taken, strict=True):
        after[node] = after.get(node, 0) + mib
    twice = {node: max(mib - own.get(node, 0), 0) for node, mib in after.items()}
    return Landing(_some(after), _some(twice), freed, sum(room))


def _some(by_node: Mapping[int, int]) -> dict[int, int]:
    return {node: by_node[node] for node in sorted(by_node) if by_node[node]}
