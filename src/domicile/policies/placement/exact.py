"""The proven best assignment, by enumeration of all sets of nodes for all guests with a bound that cuts early.

What is placed costs no less once others come, so a partial assignment and the least that each guest still to come can
cost, wherever its memory falls, bound all that it can become.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from domicile.errors import Refused
from domicile.performance.accesses import least_ways
from domicile.policies.placement.candidates import EXHAUSTIVE_NODES, Members, every_set, weigh
from domicile.policies.placement.layout import Choice, Layout, Problem
from domicile.policies.placement.search import MARGIN
from domicile.policies.placement.subject import Indices, Subject

__all__ = ["MOST_ASSIGNMENTS", "can_enumerate", "few_enough", "search_exactly"]

MOST_ASSIGNMENTS = 2_000_000
"""Assignments of node sets to guests that are gone through at most: seconds, since bounds cut nearly all of them."""

EXHAUSTIVE_SETS = 2**EXHAUSTIVE_NODES - 1

WHOLE_MIB = 0.01
"""How much the objective of a set as it is weighed, with memory divided evenly, may differ from that in whole MiB."""

MOST_SETS = 65_535
"""Sets of one guest, all of 16 nodes."""


FEW = 4000
"""Assignments of all guests but the last that are gone through without being asked (those of the last are weighed at
once): four guests on four nodes, five on three. There, moves and exchanges alone were up to 23 % off the best."""


def few_enough(problem: Problem) -> bool:
    """Whether the proven best costs no more than searching for it."""
    sizes = [_sets(subject) for subject in problem.subjects]
    return len(sizes) > 1 and prod(sizes[:-1]) <= FEW and sizes[-1] <= EXHAUSTIVE_SETS


def can_enumerate(problem: Problem) -> bool:
    """Whether there are few enough assignments to go through all."""
    sizes = [_sets(subject) for subject in problem.subjects]
    return prod(sizes) <= MOST_ASSIGNMENTS and max(sizes, default=0) <= MOST_SETS


def search_exactly(
    problem: Problem,
    incumbent: Layout | None,
    stop: Callable[[], bool] | None = None,
    most: float = MOST_ASSIGNMENTS,
) -> Layout | None:
    """The best layout there is, None if there is none; `incumbent` is one already known.

    Memory is given out in the order of the guests by choice and size, as in the search. Once `stop` says so, the best
    so far is the answer. Raises `Refused` where there are more assignments than `most` to go through.
    """
    sizes = [_sets(subject) for subject in problem.subjects]
    total = prod(sizes)
    if total > most or max(sizes, default=0) > MOST_SETS:
        raise Refused(
            f"--exact would go through {total:.3g} assignments of {len(sizes)} guests to nodes, and can do "
            f"{most:,}; leave it out, or ask for fewer guests at once"
        )
    empty = Layout.empty(problem)
    order = list(range(len(sizes)))
    least = [_least(empty, guest) for guest in order]
    if any(not np.isfinite(one) for one in least):
        return None
    run = _Run(order, least, incumbent, incumbent.objective if incumbent else np.inf, stop)
    run.descend(empty, 0, empty.objective)
    return run.best


class _Run:
    """One enumeration: the order of the guests, what each costs at least, and the best layout so far."""

    def __init__(
        self,
        order: list[int],
        least: list[float],
        best: Layout | None,
        objective: float,
        stop: Callable[[], bool] | None,
    ) -> None:
        self.order = order
        self.to_come = [sum(least[level:]) for level in range(len(order) + 1)]
        self.best = best
        self.objective = objective
        self.stop = stop

    def descend(self, layout: Layout, level: int, so_far: float) -> None:
        """Go through the sets of the guest at this level, best first."""
        if level == len(self.order):
            objective = layout.objective
            if objective < self.objective - MARGIN:
                self.best, self.objective = layout, objective
            return
        guest = self.order[level]
        for choice in _all_choices(layout, guest):
            bound = so_far + choice.objective + self.to_come[level + 1]
            if bound >= self.objective + WHOLE_MIB or (self.stop is not None and self.stop()):
                return
            seat = layout.seat_for(guest, choice.nodes)
            if seat is not None:
                with_guest = layout.seated(guest, seat)
                self.descend(with_guest, level + 1, with_guest.objective)


def _sets(subject: Subject) -> int:
    return 1 if subject.fixed else 2 ** len(subject.eligible) - 1


def _all_choices(layout: Layout, guest: int) -> list[Choice]:
    """Every set that will do, best first."""
    subject = layout.problem.subjects[guest]
    nodes, member = _nodes_of(subject)
    batch = weigh(subject, layout.load, layout.ties(guest), layout.room_mib(), nodes, member)
    usable = np.flatnonzero(np.isfinite(batch.objective))
    ranked = usable[np.argsort(batch.objective[usable], kind="stable")]
    return [Choice(batch.sets(row), float(batch.objective[row])) for row in ranked]


def _nodes_of(subject: Subject) -> tuple[Indices, Members]:
    """Every set of nodes for a guest: the one that its configuration sets, or all there are."""
    if subject.fixed:
        nodes = subject.fixed.nodes[None]
        return nodes, np.ones(nodes.shape, dtype=bool)
    return every_set(subject.eligible)


def _least(empty: Layout, guest: int) -> float:
    """What a guest adds at least, whoever else comes: nothing to the others, its memory where it serves best.

    Not the best of the sets as they are weighed: memory that finds a node full falls on another, which can be better.
    """
    subject, load = empty.problem.subjects[guest], empty.load
    nodes, member = _nodes_of(subject)
    batch = weigh(subject, load, empty.ties(guest), empty.room_mib(), nodes, member)
    usable = np.isfinite(batch.objective)
    if not usable.any():
        return np.inf
    newcomer, a = subject.newcomer, load.assumptions
    ways = least_ways(load.relative, newcomer.own_share)
    away = np.einsum("ki,kij->kj", batch.vcpus, ways[nodes[:, :, None], nodes[:, None, :]])
    nearest = np.where(batch.member, away, np.inf).min(axis=1)
    latency = newcomer.bound(a) * (nearest - 1.0)
    undisturbed = newcomer.bound(a) * newcomer.own_pressure(load.machine, a)
    devices = (batch.vcpus / 2.0 * subject.newcomer.device_pull[nodes]).sum(axis=1)
    least = latency + batch.costs.cpu - undisturbed + devices + 2.0 * batch.ties + batch.wishes + batch.split
    return float(least[usable].min())
