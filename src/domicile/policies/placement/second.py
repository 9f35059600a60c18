"""Nodes that have memory and no CPUs (CXL) as second choice: for a guest that has no room on nodes with CPUs.

Xen cannot be told to use such a node: node-affinity follows from the CPUs of a guest's affinity, and `vnuma=`, which
could name the node, is for HVM and exact. But when the nodes of the node-affinity are full Xen takes the rest from the
other nodes in ascending order, each until it is full (`get_free_buddy`, xen/common/page_alloc.c, 4.17). So a guest gets
the rest of its memory from a node without CPUs if the nodes that it is given, and those with CPUs that Xen would come
to first, have no more. That is what is looked for here, for one guest at a time: where several start, the next one's
memory would be taken. Memory that is promised to others counts as there, for Xen would take it; so nothing may be
promised on the nodes in question.

Turns are chunks of up to 1 GiB: of a node with less in one piece a little may be left over, and as much more be taken
from the node without CPUs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from domicile.policies.placement.candidates import EXHAUSTIVE_NODES, every_set
from domicile.policies.placement.layout import Layout, Problem
from domicile.policies.placement.memory import in_proportion
from domicile.policies.placement.subject import Fixed
from domicile.policies.plan import Placement, Term
from domicile.state.model import Snapshot
from domicile.topology.ids import format_ids

__all__ = ["overflowing", "why_without_cpus"]


def overflowing(snapshot: Snapshot, problem: Problem) -> Layout | None:
    """The best layout of one guest that takes memory of nodes without CPUs as well, None if there is none."""
    if len(problem.subjects) != 1 or problem.subjects[0].fixed:
        return None
    best: Layout | None = None
    for fixed, nodes in _places(snapshot, problem):
        subject = replace(problem.subjects[0], fixed=fixed)
        layout = Layout.empty(replace(problem, subjects=(subject,)))
        seat = layout.seat_for(0, nodes)
        seated = layout.seated(0, seat) if seat else None
        if seated is not None and (best is None or seated.objective < best.objective - 1e-9):
            best = seated
    return best


def _places(snapshot: Snapshot, problem: Problem) -> Iterator[tuple[Fixed, list[int]]]:
    """Where Xen would put the guest for each set of nodes with CPUs that leads to nodes without."""
    subject, machine = problem.subjects[0], problem.machine
    eligible = subject.eligible
    if not len(eligible):
        return
    member = np.ones((1, len(eligible)), dtype=bool)
    if len(eligible) <= EXHAUSTIVE_NODES:
        _, member = every_set(eligible)
    ids = machine.topology.node_ids
    outstanding = [snapshot.outstanding_mib.get(node, 0) for node in ids]
    has_cpus = machine.pcpus.sum(axis=0) > 0
    for row in member.astype(bool):
        inside = eligible[row]
        reserve = _taken(
            problem.available_mib, subject.need_mib, inside.tolist(), sorted(range(len(ids)), key=ids.__getitem__)
        )
        used = [node for node, mib in enumerate(reserve) if mib]
        outside = set(used) - set(inside.tolist())
        passed = [node for node in range(len(ids)) if outside and ids[node] <= max(ids[far] for far in outside)]
        if sum(reserve) < subject.need_mib or not outside or any(has_cpus[node] for node in outside):
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
    )
    return replace(placement, explanation=placement.explanation.and_then(Term("free memory", 0.0, reason)))
