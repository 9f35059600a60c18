"""Many guests at once: constructions in several orders, each improved by the compiled search, and restarts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from domicile.policies.placement.afresh.build import Built, build, seats_of
from domicile.policies.placement.afresh.core.arrays import Integers
from domicile.policies.placement.afresh.core.loops import MARGIN, improve
from domicile.policies.placement.layout import Layout, Problem, Seat

__all__ = ["Effort", "Found", "NoWay", "layout_of", "search_many", "worked_out"]

ROUNDS = 4000
FEWEST_ROUNDS = 100
"""Rounds of a start: so many over the number of guests, and no fewer than these."""

STARTS = 3
ORDERS = 2


class NoWay(Exception):
    """No layout with room for all was found; `guest` (its index) is one that has none. Internal."""

    def __init__(self, guest: int) -> None:
        self.guest = guest
        super().__init__(guest)


def _no_more() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to search. `starts` are made in any case, further ones while `more` says so, which may look at a clock:
    it decides how many starts there are and nothing else. The same seed, starts and rounds give the same layout.
    `rounds` of each start; 0: as many as suits the number of guests."""

    seed: int = 0
    starts: int = STARTS
    rounds: int = 0
    more: Callable[[], bool] = _no_more


@dataclass(frozen=True, eq=False)
class Found:
    """The best choices (M), with what they come to: the objective, MiB that find no room, where memory falls (M x N).
    `starts`: how many there were."""

    chosen: Integers
    objective: float
    short_mib: int
    mib: Integers
    starts: int = 1


def search_many(
    problem: Problem,
    effort: Effort = Effort(),
    homes: Mapping[int, Seat] | None = None,
) -> Layout:
    """Seat all guests; those in `homes` are there already, and may stay. Raises `NoWay`."""
    built = build(problem, homes or {})
    found = searched(problem, built, effort)
    return layout_of(problem, built, found)


def searched(problem: Problem, built: Built, effort: Effort, known: Integers | None = None) -> Found:
    """The best choices found; `known` (M) are some to begin with. Raises `NoWay`."""
    first = built.given.guest[3]
    for guest in np.flatnonzero(first[1:] == first[:-1]):
        raise NoWay(int(guest))
    guests = len(problem.subjects)
    rounds = effort.rounds or max(ROUNDS // max(guests, 1), FEWEST_ROUNDS)
    chance = np.random.default_rng(effort.seed)
    best: Found | None = None
    start = 0
    while start < max(effort.starts, 1) or effort.more():
        chosen = np.full(guests, -1, dtype=np.int64)
        if start == 0 and known is not None:
            chosen[:] = known
        elif start > ORDERS and best is not None and start % 2:
            chosen[:] = best.chosen
        found = _started(built, chosen, _order(problem, start, chance), int(chance.integers(2**62)), rounds)
        if best is None or found.objective < best.objective - MARGIN:
            best = found
        start += 1
    assert best is not None  # there is at least one start
    if best.short_mib:
        raise NoWay(_without_room(problem, best))
    return Found(best.chosen, best.objective, best.short_mib, best.mib, start)


def worked_out(built: Built, chosen: Integers) -> Found:
    """What these choices come to, nothing improved."""
    return _started(built, chosen.copy(), np.zeros(0, dtype=np.int64), 0, -1)


def layout_of(problem: Problem, built: Built, found: Found) -> Layout:
    """The layout of these choices."""
    layout = Layout.empty(problem)
    for guest, seat in enumerate(seats_of(problem, built, found.chosen, found.mib)):
        layout = layout.seated(guest, seat)
    return layout


def _started(built: Built, chosen: Integers, order: Integers, seed: int, rounds: int) -> Found:
    mib = np.zeros((len(built.given.busy), len(built.given.available)), dtype=np.int64)
    objective, short = improve(built.given, chosen, order, np.array([seed], dtype=np.int64), rounds, mib)
    return Found(chosen, float(objective), int(short), mib)


def _order(problem: Problem, start: int, chance: np.random.Generator) -> Integers:
    """In which order guests are first put somewhere: least choice first, then by memory, by vCPUs, or at random."""
    subjects = problem.subjects
    if start >= ORDERS:
        return chance.permutation(len(subjects)).astype(np.int64)

    def key(guest: int) -> tuple[int, int, int, str]:
        subject = subjects[guest]
        sizes = (-subject.need_mib, -subject.request.vcpus)
        return (
            0 if subject.fixed else len(subject.eligible),
            *(sizes if start == 0 else sizes[::-1]),
            subject.request.name,
        )

    return np.array(sorted(range(len(subjects)), key=key), dtype=np.int64)


def _without_room(problem: Problem, found: Found) -> int:
    """The first guest that has less memory than it needs."""
    taken = found.mib.sum(axis=1)
    return next(guest for guest, subject in enumerate(problem.subjects) if taken[guest] < subject.need_mib)
