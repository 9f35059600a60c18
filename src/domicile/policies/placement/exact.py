"""The proven best assignment, by enumeration of all sets of nodes for all guests with a bound that cuts early.

Adding a guest never makes the sum smaller by more than nothing: what is placed costs no less once others come. So a
partial assignment plus the least that each guest still to come could cost alone bounds all that it can become.
"""

from __future__ import annotations

import numpy as np

from domicile.errors import Refused
from domicile.policies.placement.candidates import every_set, weigh
from domicile.policies.placement.layout import Choice, Layout, Problem
from domicile.policies.placement.search import MARGIN
from domicile.policies.placement.subject import Subject

__all__ = ["MOST_ASSIGNMENTS", "search_exactly"]

MOST_ASSIGNMENTS = 50_000_000
"""Assignments of node sets to guests that are enumerated at most (bounds cut nearly all of them)."""

MOST_SETS = 65_535
"""Sets of one guest, all of 16 nodes."""


def search_exactly(problem: Problem, incumbent: Layout | None) -> Layout | None:
    """The best layout there is, None if there is none; `incumbent` is one already known.

    Memory is given out in the order of the guests by choice and size, as in the search. Raises `Refused` where there
    are too many assignments to go through.
    """
    sizes = [_sets(subject) for subject in problem.subjects]
    total = float(np.prod([float(size) for size in sizes]))
    if total > MOST_ASSIGNMENTS or max(sizes, default=0) > MOST_SETS:
        raise Refused(
            f"--exact would go through {total:.3g} assignments of {len(sizes)} guests to nodes, and can do "
            f"{MOST_ASSIGNMENTS:,}; leave it out, or ask for fewer guests at once"
        )
    empty = Layout.empty(problem)
    order = sorted(
        range(len(sizes)),
        key=lambda guest: (sizes[guest], -problem.subjects[guest].need_mib, problem.subjects[guest].request.name),
    )
    least = [_least(empty, guest) for guest in order]
    if any(not np.isfinite(one) for one in least):
        return None
    run = _Run(order, least, incumbent, incumbent.objective if incumbent else np.inf)
    run.descend(empty, 0, empty.objective)
    return run.best


class _Run:
    """One enumeration: the order of the guests, what each costs at least, and the best layout so far."""

    def __init__(self, order: list[int], least: list[float], best: Layout | None, objective: float) -> None:
        self.order = order
        self.to_come = [sum(least[level:]) for level in range(len(order) + 1)]
        self.best = best
        self.objective = objective

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
            if bound >= self.objective - MARGIN:
                return
            seat = layout.seat_for(guest, choice.nodes)
            if seat is not None:
                self.descend(layout.seated(guest, seat), level + 1, so_far + choice.objective)


def _sets(subject: Subject) -> int:
    return 1 if subject.fixed else 2 ** len(subject.eligible) - 1


def _all_choices(layout: Layout, guest: int) -> list[Choice]:
    """Every set that will do, best first."""
    subject = layout.problem.subjects[guest]
    ties, room = layout.ties(guest), layout.room_mib()
    if subject.fixed:
        there = subject.fixed.vcpu_share > 0
        if subject.fixed.reserve_mib:
            there = there | (np.array(subject.fixed.reserve_mib) > 0)
        batch = weigh(subject, layout.load, ties, room, np.flatnonzero(there)[None])
    else:
        nodes, member = every_set(subject.eligible)
        batch = weigh(subject, layout.load, ties, room, nodes, member)
    usable = np.flatnonzero(np.isfinite(batch.objective))
    ranked = usable[np.argsort(batch.objective[usable], kind="stable")]
    return [Choice(batch.sets(row), float(batch.objective[row])) for row in ranked]


def _least(empty: Layout, guest: int) -> float:
    """What a guest adds at least: it is the only newcomer."""
    subject = empty.problem.subjects[guest]
    if not subject.fixed and not len(subject.eligible):
        return np.inf
    found = _all_choices(empty, guest)
    return found[0].objective if found else np.inf
