"""Every sensible set of nodes for one guest, in the order of what it costs at least, until none can be among the best.

Up to `EXHAUSTIVE_NODES` nodes all sets have their bounds in one array. Beyond, sizes are gone through in the order of
the least that any set of a size costs, and of each size only the sets are listed whose bound is below the best found.
Where even these are too many (guests many times wider than a node on machines of dozens of nodes), the sets of that
size are grown and bettered instead (`widest`): good, not proven.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np

from domicile.performance.curves import Floats
from domicile.performance.field import Field, Trial
from domicile.policies.placement.bounds import Bounds, bounds_of, sets_below
from domicile.policies.placement.candidates import EXHAUSTIVE_NODES, Batch, Members, every_set, weigh
from domicile.policies.placement.subject import Indices, Subject
from domicile.policies.placement.ties import Ties
from domicile.policies.placement.widest import better_sets, grown_sets

__all__ = ["MARGIN", "bounded_sets"]

MARGIN = 1e-9
"""Objectives closer than this are equal: what is left of rounding."""

FIRST = 6
"""Sets weighed at first for each that is wanted, up to four; the best of them cut most of the others."""

MOST_LISTED = 20_000
"""Sets of a size that are listed at most: tens of milliseconds."""

CELLS = 400_000
"""Sets weighed in one call times the square of their size, at most: a few MiB in each array."""


class _Best:
    """The objective of the `count`-th best set so far. A set that is weighed again, with others of its size, say, is
    still one: counted twice it would cut a better one off."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.found: dict[tuple[int, ...], float] = {}
        self.limit = np.inf

    def add(self, batch: Batch) -> Batch:
        objective = batch.objective
        rows = np.flatnonzero(objective < self.limit)
        if len(rows) > self.count:
            rows = rows[np.argpartition(objective[rows], self.count - 1)[: self.count]]
        if len(rows):
            found = self.found | {batch.sets(row): float(objective[row]) for row in rows.tolist()}
            best = sorted(found.items(), key=lambda pair: pair[1])[: self.count]
            self.found = dict(best)
            self.limit = best[-1][1] if len(best) == self.count else np.inf
        return batch


def bounded_sets(subject: Subject, trial: Trial, ties: Ties, room_mib: Floats, count: int) -> Iterator[Batch]:
    """Weigh sets of the subject's eligible nodes until the `count` best are among those weighed, with all sets that are
    as good as they (of more than `EXHAUSTIVE_NODES` nodes: as some that are as good). `trial` is of its newcomer."""
    bounds = bounds_of(subject, trial, ties, room_mib)
    best = _Best(count)

    def weighed(nodes: Indices, member: Members | None = None) -> Batch:
        return best.add(weigh(subject, trial, ties, room_mib, nodes, member))

    eligible = subject.eligible
    if len(eligible) <= EXHAUSTIVE_NODES:
        nodes, member = every_set(eligible)
        row, position = _members(len(eligible))
        size = member.sum(axis=1) - 1
        lower = bounds.base[size] + np.bincount(row, bounds.least[size[row], position])
        yield from _in_order(nodes, member, lower, best, weighed)
        return
    yield from _by_size(subject, trial.field, ties, room_mib, bounds, best, weighed)


def _in_order(
    nodes: Indices,
    member: Members | None,
    lower: Floats,
    best: _Best,
    weighed: Callable[[Indices, Members | None], Batch],
) -> Iterator[Batch]:
    """Weigh these sets, those that cost least at least first, more at a time as they go on."""
    order = np.argsort(lower, kind="stable")
    start, step = 0, FIRST * min(best.count, 4)
    most = max(CELLS // nodes.shape[1] ** 2, 1)
    while start < len(order) and lower[order[start]] <= best.limit + MARGIN:
        rows = order[start : start + min(step, most)]
        rows = rows[lower[rows] <= best.limit + MARGIN]
        yield weighed(*_narrowed(nodes[rows], None if member is None else member[rows]))
        start, step = start + len(rows), step * 3


def _narrowed(nodes: Indices, member: Members | None) -> tuple[Indices, Members | None]:
    """The same sets in as few columns as the largest needs."""
    if member is None:
        return nodes, None
    widest = int(member.sum(axis=1).max())
    if widest == nodes.shape[1]:
        return nodes, member
    first = np.argsort(~member, axis=1, kind="stable")[:, :widest]
    return np.take_along_axis(nodes, first, axis=1), np.take_along_axis(member, first, axis=1)


def _by_size(
    subject: Subject,
    field: Field,
    ties: Ties,
    room_mib: Floats,
    bounds: Bounds,
    best: _Best,
    weighed: Callable[..., Batch],
) -> Iterator[Batch]:
    eligible = subject.eligible
    yield weighed(eligible[:, None])
    enough = np.cumsum(np.sort(room_mib[eligible])[::-1]) >= subject.need_mib
    lower = bounds.by_size()
    grown = False
    for size in (int(index) + 1 for index in np.argsort(lower, kind="stable")):
        if lower[size - 1] > best.limit + MARGIN:
            return
        if size == 1 or not enough[size - 1]:
            continue
        yield weighed(eligible[np.argsort(bounds.least[size - 1], kind="stable")[None, :size]])
        listed = _listed(bounds, size, best)
        if listed is None and not grown:
            grown = True
            yield from _grown(subject, field, ties, room_mib, weighed)
            listed = _listed(bounds, size, best)
        if listed is not None:
            sets, sums = listed
            yield from _in_order(eligible[sets], None, sums, best, weighed)


def _listed(bounds: Bounds, size: int, best: _Best) -> tuple[Indices, Floats] | None:
    """The sets of a size that could be among the best, None if there are too many."""
    base = float(bounds.base[size - 1])
    for margin in (MARGIN, -MARGIN):
        found = sets_below(bounds.least[size - 1], size, best.limit + margin - base, MOST_LISTED)
        if found is not None:
            return found[0], found[1] + base
    return None


def _grown(
    subject: Subject, field: Field, ties: Ties, room_mib: Floats, weighed: Callable[[Indices], Batch]
) -> Iterator[Batch]:
    """Sets grown from every node, and the best of them bettered."""
    found: tuple[float, tuple[int, ...]] | None = None
    for batch in grown_sets(subject, field, ties, room_mib, weighed, 2):
        yield batch
        row = int(np.argmin(batch.objective))
        value = float(batch.objective[row])
        if np.isfinite(value) and (found is None or value < found[0] - MARGIN):
            found = value, batch.sets(row)
    if found is not None:
        yield from better_sets(subject, field, ties, room_mib, weighed, found[1], found[0])


@lru_cache(maxsize=32)
def _members(size: int) -> tuple[Indices, Indices]:
    """Row and position of every member in `every_set`."""
    _, member = every_set(np.arange(size))
    row, position = np.nonzero(member)
    return row, position
