"""Balloon drivers of a simulated host's guests: what they are told, and what they make of it as time passes.

A guest gives of each node what it has there, for it knows none, and takes from its node-affinity's nodes, as in Xen.
"""

from __future__ import annotations

from dataclasses import replace

from domicile.errors import Refused
from domicile.hosts.simulated.memory import even_shares, take_pages
from domicile.hosts.simulated.state import Resident, SimulatedState
from domicile.state.model import PAGES_PER_MIB

__all__ = ["ballooned", "ballooning", "grown", "pages_of", "set_memory", "shrunk"]


def set_memory(state: SimulatedState, name: str, uuid: str, target_mib: int) -> SimulatedState:
    """The host with a domain told to come to so much memory. Raises `Refused`."""
    resident = state.resident(name)
    if resident is None or resident.domain.uuid != uuid:
        raise Refused(f"{name}: no domain of this name and UUID {uuid} is there")
    if not 0 < target_mib <= resident.domain.max_memory_mib:
        raise Refused(f"{name}: cannot be set to {target_mib} MiB (1 to {resident.domain.max_memory_mib} can be)")
    return state.with_resident(replace(resident, domain=replace(resident.domain, target_mib=target_mib)))


def ballooning(state: SimulatedState) -> bool:
    """Whether a guest is on its way to another size."""
    return any(_due_mib(state, resident) for resident in state.residents)


def ballooned(state: SimulatedState, seconds: float) -> SimulatedState:
    """The host with its guests so much nearer to what they were told."""
    for resident in state.residents:
        due = _due_mib(state, resident)
        step = min(abs(due) * PAGES_PER_MIB, round(resident.balloon.rate_mib_s * seconds * PAGES_PER_MIB))
        if due < 0:
            state = state.with_resident(shrunk(resident, step))
        elif due > 0:
            room = sum(max(free, 0) for free in state.free_pages.values())
            state = state.with_resident(grown(state, resident, min(step, room)))
    return state


def _due_mib(state: SimulatedState, resident: Resident) -> int:
    """What a guest can do of what it was told and has not done. A move has its own ways with a balloon."""
    domain = resident.domain
    moving = any(move.end is None and move.order.uuid == domain.uuid for move in state.moves)
    if domain.target_mib is None or domain.paused or moving or not resident.balloon.rate_mib_s:
        return 0
    least = round(domain.max_memory_mib * resident.balloon.keeps)
    due = domain.target_mib - domain.memory_mib
    return max(due, least - domain.memory_mib) if due < 0 <= domain.memory_mib - least else max(due, 0)


def pages_of(resident: Resident) -> int:
    """How many pages it has."""
    return sum((resident.domain.pages_by_node or {}).values())


def grown(state: SimulatedState, resident: Resident, pages: int) -> Resident:
    """With so many pages more, from where Xen takes them."""
    free = {node: max(left, 0) for node, left in state.free_pages.items()}
    taken = take_pages(pages, free, resident.domain.node_affinity or state.machine.topology.node_ids)
    have = resident.domain.pages_by_node or {}
    return _with_pages(resident, {node: have.get(node, 0) + taken.get(node, 0) for node in {*have, *taken}})


def shrunk(resident: Resident, pages: int) -> Resident:
    """With so many pages less: a guest that knows no nodes frees of each what it has there."""
    have = resident.domain.pages_by_node or {}
    total = sum(have.values())
    gone = {node: there * pages // total for node, there in have.items()} if total else {}
    rest = even_shares(pages - sum(gone.values()), {node: have[node] - gone[node] for node in have})
    return _with_pages(resident, {node: have[node] - gone[node] - rest.get(node, 0) for node in have})


def _with_pages(resident: Resident, pages: dict[int, int]) -> Resident:
    kept = {node: count for node, count in sorted(pages.items()) if count}
    memory_mib = sum(kept.values()) // PAGES_PER_MIB
    return replace(resident, domain=replace(resident.domain, pages_by_node=kept, memory_mib=memory_mib))
