"""Placement: where newcomers should live so that all domains of the host are predicted to run fastest.

The objective is the sum of the predicted slowdowns of all domains, newcomers and residents (which has its least where
their mean has), what wishes of the administrator that are not met count for (`Assumptions.wish_weight`), and what it
counts to divide a guest that would fit on one node (`Assumptions.split_weight`). It is minimised over sets of nodes,
one a guest: all its vCPUs get the set's CPUs as soft affinity, and Xen then takes its memory from the set's nodes in
turn. Whether a guest is narrow or wide follows from the objective.

Kept without exception: free memory that is promised to nobody, hard affinity, cpupools, devices whose policy is
`required`, and whatever the configuration itself sets (soft affinity, vNUMA). Nodes without CPUs are a second choice
(`second`): for guests that have no room elsewhere, where Xen can be brought to use them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from domicile.errors import BadInput, NotEnoughMemory, Refused
from domicile.performance.assumptions import DEFAULT, Assumptions
from domicile.performance.remembered import remembered_machine
from domicile.policies.effort import Effort
from domicile.policies.known import known_tenants
from domicile.policies.placement.exact import can_enumerate, few_enough, search_exactly
from domicile.policies.placement.explain import placed
from domicile.policies.placement.layout import Layout, Problem
from domicile.policies.placement.many import bounded, laid_out
from domicile.policies.placement.search import NoRoom, as_it_falls
from domicile.policies.placement.seat_costs import seat_costs
from domicile.policies.placement.second import overflowing, why_without_cpus
from domicile.policies.placement.subject import Subject, prepare
from domicile.policies.placement.ties import memberships
from domicile.policies.plan import PlacementPlan
from domicile.state.model import Snapshot
from domicile.state.request import GuestRequest, Intent
from domicile.topology.ids import format_ids

__all__ = ["place", "problem_of", "shortage"]

POLICY = "domicile"

PROVEN = 1e-4
"""A gap to the bound that counts as none: a hundredth of a percent."""


def place(
    snapshot: Snapshot,
    requests: Sequence[GuestRequest],
    intent: Intent = Intent(),  # noqa: B008 - immutable
    *,
    exact: bool = False,
    load: Mapping[str, float] | None = None,
    effort: Effort | None = None,
    assumptions: Assumptions = DEFAULT,
) -> PlacementPlan:
    """Where these guests should live, in the order of the requests.

    `load` is measured demand by domain name, in vCPUs busy at once; domains that it leaves out count as
    `performance.tenants.residents` says. `exact` proves that no assignment is better by the model, or by how much one
    could be. `effort` is for several guests at once: how long to search for them.

    Raises `BadInput` for what the host does not have, `NotEnoughMemory` and `Refused` where a guest cannot be had on
    this host as it is, or `exact` would take too long.
    """
    problem = problem_of(snapshot, requests, intent, load=load, assumptions=assumptions)
    failure: NoRoom | None = None
    layout = None
    try:
        layout = laid_out(problem, effort)
    except NoRoom as no_room:
        failure = no_room
    best, tried = None, effort or Effort()
    gap = deviation = None
    if few_enough(problem) or (exact and can_enumerate(problem)):
        best = search_exactly(problem, as_it_falls(layout) if layout else None, tried.stop)
    elif exact:
        layout, gap, deviation = bounded(problem, layout, tried)
    enumerated = best is not None and not tried.stop()
    layout = best or layout or overflowing(snapshot, problem, effort)
    if layout is None:
        raise shortage(snapshot, problem, failure.guest if failure else 0)
    proven = exact and (enumerated or (gap is not None and gap <= PROVEN))
    return replace(_plan(snapshot, problem, layout), proven=proven, gap=gap, deviation=deviation)


def _plan(snapshot: Snapshot, problem: Problem, layout: Layout) -> PlacementPlan:
    """The placements of all guests, each given all others."""
    found = []
    mean = None
    for guest, seat in enumerate(layout.seats):
        if seat is None:
            continue
        rest = layout.without(guest)
        (costs,) = seat_costs(rest, guest, [seat])
        placement = placed(snapshot, rest, guest, seat, costs)
        # a second choice is a place that was fixed where the request left it open
        second = layout.problem.subjects[guest] is not problem.subjects[guest]
        found.append(why_without_cpus(problem, placement) if second else placement)
        if len(layout.seats) == 1:
            # the same as of the layout, without working out its load
            mean = 1.0 + (rest.load.total + costs.of_all) / (rest.load.domains + 1)
    return PlacementPlan(tuple(found), POLICY, layout.mean_slowdown if mean is None else mean)


def problem_of(
    snapshot: Snapshot,
    requests: Sequence[GuestRequest],
    intent: Intent,
    *,
    load: Mapping[str, float] | None = None,
    assumptions: Assumptions = DEFAULT,
) -> Problem:
    """The requests, checked and turned into arrays. Raises as `place` does."""
    machine = remembered_machine(snapshot.topology, snapshot.cpupools, assumptions)
    names = [request.name for request in requests]
    for request in requests:
        if names.count(request.name) > 1:
            raise BadInput(
                request.source or request.name, f"more than one guest to be placed is called {request.name!r}"
            )
    stated = {character.domain: character for character in intent.domains}
    subjects = tuple(
        prepare(machine, snapshot, request, intent.devices, load or {}, assumptions, stated.get(request.name))
        for request in requests
    )
    there = known_tenants(machine, snapshot, intent, load or {}, assumptions)
    known = frozenset(there.names) | frozenset(names)
    return Problem(
        machine=machine,
        assumptions=assumptions,
        residents=there,
        subjects=subjects,
        groups=tuple(memberships(name, intent.groups, known) for name in names),
        available_mib=tuple(snapshot.available_mib(node) for node in snapshot.topology.node_ids),
    )


def shortage(snapshot: Snapshot, problem: Problem, guest: int) -> Refused:
    """The error for a guest that nothing will do for, with the figures."""
    subject = problem.subjects[guest]
    ids = problem.machine.topology.node_ids
    nodes = _usable(subject)
    figures = ", ".join(_figure(snapshot, ids[node]) for node in nodes[:8]) + (", ..." if len(nodes) > 8 else "")
    if subject.fixed and subject.fixed.reserve_mib:
        for node, need in enumerate(subject.fixed.reserve_mib):
            if need > problem.available_mib[node]:
                return NotEnoughMemory(
                    subject.request.name,
                    need,
                    problem.available_mib[node],
                    ids[node],
                    detail=_figure(snapshot, ids[node]),
                )
    available = sum(problem.available_mib[node] for node in nodes)
    others = sum(other.need_mib for other in problem.subjects) - subject.need_mib
    taken = f"; the other guests of this call need {others} MiB" if others and available >= subject.need_mib else ""
    only = f"; {subject.limits}" if subject.limits else ""
    if available >= subject.need_mib and not others:
        return Refused(f"{subject.request.name}: no set of nodes has CPUs for all of its vCPUs{only}")
    whole = len(nodes) == len(ids)
    return NotEnoughMemory(
        subject.request.name,
        subject.need_mib,
        available,
        ids[nodes[0]] if len(nodes) == 1 else None,
        where="" if whole or len(nodes) == 1 else f"nodes {format_ids(ids[node] for node in nodes)}",
        detail=f"{figures}{taken}{only}",
    )


def _usable(subject: Subject) -> list[int]:
    """Indices of the nodes that its memory could be on."""
    if subject.fixed:
        return [int(node) for node in np.flatnonzero(subject.fixed.vcpu_share)]
    return [int(node) for node in subject.eligible]


def _figure(snapshot: Snapshot, node: int) -> str:
    promised = snapshot.outstanding_mib.get(node, 0)
    others = f" and {promised} MiB promised to others" if promised else ""
    return f"node {node}: {snapshot.available_mib(node)} MiB{others}"
