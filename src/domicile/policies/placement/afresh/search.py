"""Many guests at once: constructions in several orders, each improved by the compiled search, and restarts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from domicile.policies.effort import Effort
from domicile.policies.placement.afresh.build import Built, seats_of
from domicile.policies.placement.afresh.core.arrays import BUSY, FIRST, PCPUS, POOL, SET, Integers, begun
from domicile.policies.placement.afresh.core.loops import MARGIN, improve
from domicile.policies.placement.afresh.no_way import NoWay
from domicile.policies.placement.layout import Layout, Problem

__all__ = ["Found", "choices_of", "layout_of", "searched", "worked_out"]

ROUNDS = 100
"""Rounds of a start."""

STARTS = 3
FEW, STARTS_OF_FEW, STARTS_OF_FEWER = 16, 8, 48
"""Starts, and for no more guests than a few: of these one takes milliseconds, and the best can be a narrow valley. The
last is divided by the number of guests, and counts where that is more."""

ORDERS = 2

AT_ONCE = 10
"""Rounds between two looks at the clock."""


@dataclass(frozen=True, eq=False)
class Found:
    """The best choices (M), with what they come to: the objective, MiB that find no room, where memory falls (M x N).
    `starts`: how many there were."""

    chosen: Integers
    objective: float
    short_mib: int
    mib: Integers
    starts: int = 1


def searched(problem: Problem, built: Built, effort: Effort, known: Integers | None = None) -> Found:
    """The best choices found; `known` (M) are some to begin with. Raises `NoWay`."""
    first = built.given.guest[FIRST]
    for guest in np.flatnonzero(first[1:] == first[:-1]):
        raise NoWay(int(guest))
    guests = len(problem.subjects)
    starts = effort.starts or (max(STARTS_OF_FEW, STARTS_OF_FEWER // guests) if guests <= FEW else STARTS)
    rounds = effort.rounds or ROUNDS
    chance = np.random.default_rng(effort.seed)

    def started(start: int, chosen: Integers) -> Found:
        def going_on(part: float) -> bool:
            return effort.going_on((start + part) / starts)

        order, seed = _order(problem, start, chance), int(chance.integers(2**62))
        return _started(built, chosen, order, seed, rounds, going_on)

    nobody = np.full(guests, -1, dtype=np.int64)
    begins = [*([] if known is None else [known]), *([] if guests <= FEW else [_blocks(built)]), nobody, nobody]
    best = started(0, begins[0])
    start = 1
    while effort.going_on(start / starts) and (start < starts or effort.more()):
        found = started(start, begins[start] if start < len(begins) else _strewn(built, best, start, chance))
        if found.objective < best.objective - MARGIN:
            best = found
        start += 1
    if best.short_mib:
        raise NoWay(_without_room(problem, best))
    return Found(best.chosen, best.objective, best.short_mib, best.mib, start)


def worked_out(built: Built, chosen: Integers) -> Found:
    """What these choices come to, nothing improved."""
    return _started(built, chosen, np.arange(len(chosen)), 0, -1, lambda _: True)


def choices_of(built: Built, layout: Layout) -> Integers:
    """The candidates of a layout's seats; -1 for a guest whose set is none of its candidates."""
    first = built.given.guest[FIRST]
    chosen = np.full(len(layout.seats), -1, dtype=np.int64)
    for guest, seat in enumerate(layout.seats):
        for c in range(first[guest], first[guest + 1]):
            if seat is not None and built.candidates[c].nodes == seat.nodes:
                chosen[guest] = c
    return chosen


def layout_of(problem: Problem, built: Built, found: Found) -> Layout:
    """The layout of these choices."""
    layout = Layout.empty(problem)
    for guest, seat in enumerate(seats_of(problem, built, found.chosen, found.mib)):
        layout = layout.seated(guest, seat)
    return layout


def _started(
    built: Built, chosen: Integers, order: Integers, seed: int, rounds: int, going_on: Callable[[float], bool]
) -> Found:
    """One start. `going_on` is told what part of it is done, and says whether to do the rest."""
    search, state = begun(built.given)
    state.chosen[:], state.order[:], state.random[0] = chosen, order, seed
    step, end = 0, min(rounds, 0) + 1
    while True:
        improve(search, step, end, rounds)
        if end > rounds:
            break
        step, end = end, min(end + AT_ONCE, rounds + 1)
        if not going_on(step / (rounds + 1)):
            step = end = rounds + 1
    return Found(state.chosen.copy(), float(state.value[0]), int(state.value[1]), state.mib.copy())


def _blocks(built: Built) -> Integers:
    """Choices to begin with for many guests: like with like, each on one node; -1 where that node is none of its own.

    All guests of a node share its CPU load D, so W of them lose together in proportion to W x D. The sum of that over
    nodes is least where guests of about the same demand d are together, as many as make W x sqrt(d) the same
    everywhere (by Cauchy's inequality). Neither residents nor memory are looked at: that is for the search.
    """
    given = built.given
    chosen = np.full(given.own.shape[1], -1, dtype=np.int64)
    owner = np.repeat(np.arange(len(chosen)), np.diff(given.guest[FIRST]))
    single = {
        (int(owner[c]), one.nodes[0]): c
        for c, one in enumerate(built.candidates)
        if len(one.nodes) == 1 and not one.there
    }
    for q in range(given.pools.shape[1]):
        capacity = given.pools[PCPUS, q]
        nodes = np.flatnonzero(capacity)
        mine = np.flatnonzero(given.guest[POOL, :-1] == q)
        mine = mine[np.argsort(-given.own[BUSY, mine], kind="stable")]
        if not len(mine) or not len(nodes):
            continue
        parts = np.sqrt(np.maximum(given.own[BUSY, mine], 1e-3))
        middle = (np.cumsum(parts) - parts / 2.0) / parts.sum()
        ends = np.cumsum(capacity[nodes]) / capacity[nodes].sum()
        for guest, block in zip(mine.tolist(), np.searchsorted(ends[:-1], middle).tolist(), strict=True):
            chosen[guest] = single.get((guest, int(nodes[block])), -1)
    return chosen


def _strewn(built: Built, best: Found, start: int, chance: np.random.Generator) -> Integers:
    """Choices to begin with: drawn for all guests, or for half, the others as in the best layout. Candidates that
    are good by themselves are likelier. Every other group begins in one place: none of its members would leave the
    others for a better one."""
    given = built.given
    first = given.guest[FIRST]
    drawn = first[:-1] + (np.diff(first) * chance.random(len(first) - 1) ** 2).astype(np.int64)
    chosen = np.where(chance.random(len(drawn)) < (1.0 if start % 2 else 0.5), drawn, best.chosen).astype(np.int64)
    for begin, end in pairwise(given.gather.tolist()):
        members = given.members[begin:end]
        there = given.same[members, given.candidate[SET, drawn[members[0]]]]
        if chance.random() < 0.5:
            chosen[members] = np.where(there >= 0, there, chosen[members])
    return chosen


def _order(problem: Problem, start: int, chance: np.random.Generator) -> Integers:
    """In which order guests are first put somewhere: least choice first, then by memory, by vCPUs, or at random."""
    subjects = problem.subjects
    if start > ORDERS:
        return chance.permutation(len(subjects)).astype(np.int64)

    def key(guest: int) -> tuple[int, int, int, str]:
        subject = subjects[guest]
        sizes = (-subject.need_mib, -subject.request.vcpus)
        return (
            0 if subject.fixed else len(subject.eligible),
            *(sizes if start % 2 == 0 else sizes[::-1]),
            subject.request.name,
        )

    return np.array(sorted(range(len(subjects)), key=key), dtype=np.int64)


def _without_room(problem: Problem, found: Found) -> int:
    """The first guest that has less memory than it needs."""
    taken = found.mib.sum(axis=1)
    return next(guest for guest, subject in enumerate(problem.subjects) if taken[guest] < subject.need_mib)
