"""Nodes that have memory and no CPUs (CXL) as second choice: for a guest that has no room on nodes with CPUs.

Xen cannot be told to use such a node: node-affinity follows from the CPUs of a guest's affinity, and `vnuma=`, which
could name the node, is for HVM and exact. But when the nodes of the node-affinity are full Xen takes the rest from the
other nodes in ascending order, each until it is full (`get_free_buddy`, xen/common/page_alloc.c, 4.17). So a guest gets
the rest of its memory from a node without CPUs if the nodes that it is given, and those with CPUs that Xen would come
to first, have no more. That is what is looked for here. Memory that is promised to others counts as there, for Xen
would take it; so nothing may be promised on the nodes in question.

Of several guests that do not all have room beside CPUs as few as possible get memory of nodes without: those that lose
the least by it. They have to start when the others are there (`starting_order`), one after the other in the order of
the requests, so that each finds what those before have left.

Turns are chunks of up to 1 GiB: of a node with less in one piece a little may be left over, and as much more be taken
from the node without CPUs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from domicile.performance.machine import Machine
from domicile.policies.effort import Effort
from domicile.policies.placement.candidates import EXHAUSTIVE_NODES, every_set
from domicile.policies.placement.layout import Layout, Problem
from domicile.policies.placement.many import laid_out
from domicile.policies.placement.memory import in_proportion
from domicile.policies.placement.search import NoRoom, as_it_falls
from domicile.policies.placement.subject import Fixed
from domicile.policies.plan import Placement, Term
from domicile.state.model import Snapshot
from domicile.topology.ids import format_ids

__all__ = ["overflowing", "why_without_cpus"]


ONES_TRIED = 8
"""Guests that are tried, each alone, as the one with memory on nodes without CPUs."""


def overflowing(snapshot: Snapshot, problem: Problem, effort: Effort | None = None) -> Layout | None:
    """The best layout found in which guests take memory of nodes without CPUs as well, None if none was found.

    Its problem is the one given, with the places of these guests as `fixed`.
    """
    if not any(problem.available_mib[node] for node in _without_cpus(problem.machine)):
        return None
    ready = _by_loss(problem)
    if not ready:
        return None
    each = [_with_rest(snapshot, problem, (guest,), effort) for guest in ready[:ONES_TRIED]]
    found = [layout for layout in each if layout is not None]
    if found:
        return min(found, key=lambda layout: round(layout.objective, 9))
    several = (_with_rest(snapshot, problem, ready[:count], effort) for count in range(2, len(ready) + 1))
    return next(filter(None, several), None)


def _without_cpus(machine: Machine) -> list[int]:
    """The nodes (indices) that have no CPUs."""
    return [node for node in range(machine.nodes) if not machine.pcpus[:, node].any()]


def _by_loss(problem: Problem) -> list[int]:
    """The guests whose place is open, those first that lose the least by memory that is further away: of the same loss
    the one with the most memory, so that they are few."""

    def loss(guest: int) -> tuple[float, int, int]:
        subject = problem.subjects[guest]
        return subject.newcomer.bound(problem.assumptions), -subject.need_mib, guest

    return sorted((guest for guest, subject in enumerate(problem.subjects) if not subject.fixed), key=loss)


def _with_rest(snapshot: Snapshot, problem: Problem, last: Sequence[int], effort: Effort | None) -> Layout | None:
    """All guests but `last` beside CPUs, then these, in the order of the requests."""
    rest = [guest for guest in range(len(problem.subjects)) if guest not in last]
    layout = _beside_cpus(problem, rest, effort)
    for guest in sorted(last):
        layout = layout and _overflowing(snapshot, layout, guest)
    return layout


def _beside_cpus(problem: Problem, guests: Sequence[int], effort: Effort | None) -> Layout | None:
    """The layout of these guests as if they were alone, as one of all; None where they have no room."""
    layout = Layout.empty(problem)
    if not guests:
        return layout
    some = replace(
        problem,
        subjects=tuple(problem.subjects[guest] for guest in guests),
        groups=tuple(problem.groups[guest] for guest in guests),
    )
    near_mib = sum(problem.available_mib) - sum(problem.available_mib[node] for node in _without_cpus(problem.machine))
    if sum(subject.need_mib for subject in some.subjects if not subject.fixed) > near_mib:
        return None  # no search could find them room
    try:
        found = laid_out(some, effort)
    except NoRoom:
        return None
    for guest, seat in zip(guests, (as_it_falls(found) or found).seats, strict=True):
        if seat is not None:
            layout = layout.seated(guest, seat)
    return layout


def _overflowing(snapshot: Snapshot, layout: Layout, guest: int) -> Layout | None:
    """The layout with one guest more that takes memory of nodes without CPUs."""
    best: Layout | None = None
    for fixed, nodes in _places(snapshot, layout, guest):
        tried = layout.prepared(guest, replace(layout.problem.subjects[guest], fixed=fixed))
        seat = tried.seat_for(guest, nodes)
        seated = tried.seated(guest, seat) if seat else None
        if seated is not None and (best is None or seated.objective < best.objective - 1e-9):
            best = seated
    return best


def _places(snapshot: Snapshot, layout: Layout, guest: int) -> Iterator[tuple[Fixed, list[int]]]:
    """Where Xen would put the guest for each set of nodes with CPUs that leads to nodes without."""
    subject, machine = layout.problem.subjects[guest], layout.problem.machine
    eligible = subject.eligible
    if not len(eligible):
        return
    member = np.ones((1, len(eligible)), dtype=bool)
    if len(eligible) <= EXHAUSTIVE_NODES:
        _, member = every_set(eligible)
    ids = machine.topology.node_ids
    outstanding = [snapshot.outstanding_mib.get(node, 0) for node in ids]
    far = set(_without_cpus(machine))
    for row in member.astype(bool):
        inside = eligible[row]
        reserve = _taken(
            layout.free_mib, subject.need_mib, inside.tolist(), sorted(range(len(ids)), key=ids.__getitem__)
        )
        used = [node for node, mib in enumerate(reserve) if mib]
        outside = set(used) - set(inside.tolist())
        passed = [node for node in range(len(ids)) if outside and ids[node] <= max(ids[far] for far in outside)]
        if sum(reserve) < subject.need_mib or not outside or not outside <= far:
            continue
        if any(outstanding[node] for node in {*inside.tolist(), *passed}):
            continue
        share = np.zeros(machine.nodes)
        share[inside] = subject.vcpu_shares(inside[None], np.ones((1, len(inside)), dtype=bool))[0]
        if np.isnan(share).any():
            continue
        memory = in_proportion(subject.request.memory_mib, reserve)
        soft = subject.soft_affinity(machine, inside.tolist())
        yield Fixed(share, soft, tuple(reserve), tuple(memory)), sorted({*inside.tolist(), *used})


def _taken(free_mib: tuple[int, ...], need_mib: int, inside: list[int], ascending: list[int]) -> list[int]:
    """MiB by node index: all of the nodes of the set, then the others one after the other."""
    taken, left = [0] * len(free_mib), need_mib
    for node in [*inside, *(node for node in ascending if node not in inside)]:
        taken[node] = min(left, free_mib[node])
        left -= taken[node]
    return taken


def why_without_cpus(problem: Problem, placement: Placement) -> Placement:
    """The placement, with a word on the memory that is on nodes without CPUs."""
    topology = problem.machine.topology
    far = [node for node in placement.nodes if not topology.cpus_by_node[node]]
    near = [node for node in placement.nodes if topology.cpus_by_node[node]]
    mib = sum(placement.memory_mib.get(node, 0) for node in far)
    reason = (
        f"second choice: {mib} of {sum(placement.memory_mib.values())} MiB on node {format_ids(far)}, which has no "
        f"CPUs; Xen goes there once node{'s' if len(near) > 1 else ''} {format_ids(near)} and all before are full"
        + ("; so it has to start after the others" if len(problem.subjects) > 1 else "")
    )
    return replace(placement, explanation=placement.explanation.and_then(Term("free memory", 0.0, reason)))
