"""Which pnode each virtual node lives on: the assignment with the least cost, exact where the problem is small.

V virtual nodes, N pnodes. An assignment costs `linear[i, n]` for each virtual node i on pnode n, and for each ordered
pair of them `weight[i, j] * way[n_i, n_j]` (i's vCPUs reaching j's memory): a quadratic assignment problem. Two virtual
nodes may share a pnode only where that is allowed, and then pay `crowd[i, n]` for each other one there.

Small problems are solved by branch and bound, or by trying all sets where the virtual nodes are all alike; the first
solution is the best by the linear costs alone (Kuhn's Hungarian method, in Jonker and Volgenant's form: shortest
augmenting paths, Computing 38, 1987), improved by moves and swaps. It is what is given where the steps run out, and
then it is not proven. Nothing is random.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Assigned", "AssignmentProblem", "assign"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

STEPS = 20_000
"""Branches looked at before the best so far is taken: below a second."""

SETS = 60_000
"""Sets of pnodes tried, where virtual nodes are all alike."""

MARGIN = 1e-12


@dataclass(frozen=True, eq=False)
class AssignmentProblem:
    """`linear` and `crowd`: V x N, `weight`: V x V, `way`: N x N, none negative; `need_mib`: V, `room_mib`: N;
    `allowed`: V x N, where a virtual node may be at all; `may_share`: whether two may be on one pnode."""

    linear: Floats
    weight: Floats
    way: Floats
    need_mib: Ints
    room_mib: Ints
    allowed: npt.NDArray[np.bool_]
    crowd: Floats
    may_share: bool = False

    @property
    def vnodes(self) -> int:
        """V."""
        return len(self.need_mib)

    @property
    def possible(self) -> npt.NDArray[np.bool_]:
        """V x N: where a virtual node may be, and has room as long as it is alone there."""
        return np.asarray(self.allowed & (self.need_mib[:, None] <= self.room_mib[None, :]), dtype=np.bool_)

    def cost(self, pnodes: Sequence[int]) -> float:
        """What an assignment costs (indices of pnodes)."""
        chosen = np.asarray(pnodes, dtype=np.intp)
        rows = np.arange(self.vnodes)
        pairs = self.weight * self.way[np.ix_(chosen, chosen)]
        total = float(self.linear[rows, chosen].sum() + pairs.sum() - np.trace(pairs))
        together = (chosen[:, None] == chosen[None, :]).sum(axis=1) - 1
        return total + float((self.crowd[rows, chosen] * together).sum())

    def feasible(self, pnodes: Sequence[int]) -> bool:
        """Whether all have room, are where they may be, and share only if they may."""
        if len(set(pnodes)) < len(pnodes) and not self.may_share:
            return False
        used: dict[int, int] = {}
        for vnode, pnode in enumerate(pnodes):
            used[pnode] = used.get(pnode, 0) + int(self.need_mib[vnode])
            if not self.allowed[vnode, pnode]:
                return False
        return all(need <= int(self.room_mib[pnode]) for pnode, need in used.items())


@dataclass(frozen=True, slots=True)
class Assigned:
    """The pnode (index) of each virtual node, what it costs, and whether nothing is better."""

    pnodes: tuple[int, ...]
    cost: float
    proven: bool


def assign(problem: AssignmentProblem, steps: int = STEPS) -> Assigned | None:
    """The best assignment; None where there is none (or, with sharing, where none was found in so many steps)."""
    kinds = _kinds(problem)
    if not problem.may_share and max(kinds, default=0) == 0:
        count = int(problem.possible.any(axis=0).sum())
        if problem.vnodes and math.comb(count, problem.vnodes) <= SETS:
            return _best_set(problem)
    start = _improved(problem, first) if (first := _start(problem)) is not None else None
    if start is None and not problem.may_share:
        return None
    search = _Search(problem, kinds, start, steps)
    search.run()
    if search.best is None:
        return None
    return Assigned(search.best, search.best_cost, proven=search.steps > 0)


def _kinds(problem: AssignmentProblem) -> list[int]:
    """For each virtual node the first one that it could be exchanged with, numbered from 0."""
    firsts: list[int] = []
    kinds: list[int] = []
    for vnode in range(problem.vnodes):
        for kind, first in enumerate(firsts):
            if _alike(problem, first, vnode):
                kinds.append(kind)
                break
        else:
            kinds.append(len(firsts))
            firsts.append(vnode)
    return kinds


def _alike(problem: AssignmentProblem, one: int, other: int) -> bool:
    swapped = np.arange(problem.vnodes)
    swapped[[one, other]] = other, one
    return (
        problem.need_mib[one] == problem.need_mib[other]
        and np.array_equal(problem.allowed[one], problem.allowed[other])
        and np.array_equal(problem.linear[one], problem.linear[other])
        and np.array_equal(problem.crowd[one], problem.crowd[other])
        and np.array_equal(problem.weight[np.ix_(swapped, swapped)], problem.weight)
    )


def _best_set(problem: AssignmentProblem) -> Assigned | None:
    """All sets of pnodes at once, for virtual nodes that are all alike."""
    possible = np.flatnonzero(problem.possible[0])
    if len(possible) < problem.vnodes:
        return None
    sets = np.array(list(itertools.combinations(possible.tolist(), problem.vnodes)), dtype=np.intp)
    cost = problem.linear[0][sets].sum(axis=1)
    if problem.vnodes > 1:
        each = problem.weight[0, 1]
        for a, b in itertools.combinations(range(problem.vnodes), 2):
            cost = cost + each * (problem.way[sets[:, a], sets[:, b]] + problem.way[sets[:, b], sets[:, a]])
    best = int(np.flatnonzero(cost <= cost.min() + MARGIN)[0])
    chosen = tuple(int(node) for node in sets[best])
    return Assigned(chosen, problem.cost(chosen), proven=True)


def _start(problem: AssignmentProblem) -> tuple[int, ...] | None:
    """The best by the linear costs alone, or with sharing the largest first, each where it is cheapest."""
    alone = _hungarian(np.where(problem.possible, problem.linear, np.inf))
    if alone is not None or not problem.may_share:
        return alone
    left = problem.room_mib.copy()
    chosen = [-1] * problem.vnodes
    for vnode in sorted(range(problem.vnodes), key=lambda v: (-int(problem.need_mib[v]), v)):
        fits = problem.allowed[vnode] & (problem.need_mib[vnode] <= left)
        if not fits.any():
            return None
        pnode = int(np.argmin(np.where(fits, problem.linear[vnode], np.inf)))
        left[pnode] -= problem.need_mib[vnode]
        chosen[vnode] = pnode
    return tuple(chosen)


def _hungarian(cost: Floats) -> tuple[int, ...] | None:
    """Each row a column of its own at the least sum; infinite entries cannot be. None where that cannot be done."""
    rows, columns = cost.shape
    if rows > columns:
        return None
    finite = cost[np.isfinite(cost)]
    # an entry that cannot be costs more than any assignment without one
    barrier = float(finite.sum() if finite.size else 0.0) + 1.0
    table = np.where(np.isfinite(cost), cost, barrier * (rows + 1))
    row_price, column_price = np.zeros(rows + 1), np.zeros(columns + 1)
    row_of = np.zeros(columns + 1, dtype=np.intp)
    for row in range(1, rows + 1):
        row_of[0] = row
        least = np.full(columns + 1, np.inf)
        before = np.zeros(columns + 1, dtype=np.intp)
        seen = np.zeros(columns + 1, dtype=bool)
        column = 0
        while row_of[column]:
            seen[column] = True
            current = row_of[column]
            reduced = table[current - 1] - row_price[current] - column_price[1:]
            nearer = ~seen[1:] & (reduced < least[1:])
            least[1:][nearer] = reduced[nearer]
            before[1:][nearer] = column
            following = 1 + int(np.argmin(np.where(seen[1:], np.inf, least[1:])))
            step = least[following]
            row_price[row_of[seen]] += step
            column_price[seen] -= step
            least[~seen] -= step
            column = following
        while column:
            row_of[column] = row_of[before[column]]
            column = int(before[column])
    chosen = [-1] * rows
    for column in range(1, columns + 1):
        if row_of[column]:
            chosen[row_of[column] - 1] = column - 1
    return tuple(chosen) if np.isfinite(cost[np.arange(rows), chosen]).all() else None


def _improved(problem: AssignmentProblem, start: tuple[int, ...]) -> tuple[int, ...]:
    """Moves to other pnodes and swaps, the best one each time, as long as it gets cheaper."""
    best, cost = start, problem.cost(start)
    while True:
        found: tuple[float, tuple[int, ...]] | None = None
        for other in _neighbours(problem, best):
            value = problem.cost(other)
            if value < cost - MARGIN and (found is None or value < found[0] - MARGIN) and problem.feasible(other):
                found = value, other
        if found is None:
            return best
        cost, best = found


def _neighbours(problem: AssignmentProblem, chosen: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    pnodes = problem.linear.shape[1]
    taken = set(chosen)
    for vnode in range(len(chosen)):
        for pnode in range(pnodes):
            if pnode != chosen[vnode] and (problem.may_share or pnode not in taken):
                yield (*chosen[:vnode], pnode, *chosen[vnode + 1 :])
    for one, other in itertools.combinations(range(len(chosen)), 2):
        swapped = list(chosen)
        swapped[one], swapped[other] = chosen[other], chosen[one]
        yield tuple(swapped)


class _Search:
    """Depth first, the largest virtual node first, cheapest pnode first; a branch ends where its bound is no better."""

    def __init__(
        self, problem: AssignmentProblem, kinds: Sequence[int], start: tuple[int, ...] | None, steps: int
    ) -> None:
        self.problem = problem
        self.kinds = kinds
        self.steps = steps
        self.best = start
        self.best_cost = problem.cost(start) if start is not None else math.inf
        self.order = sorted(range(problem.vnodes), key=lambda v: (-int(problem.need_mib[v]), kinds[v], v))
        self.chosen = [-1] * problem.vnodes
        # what every pair costs at least: the shortest way there is (0 for two on one pnode)
        way = problem.way.copy()
        if not problem.may_share and len(way) > 1:
            np.fill_diagonal(way, np.inf)
        shortest = float(way.min())
        shortest = shortest if math.isfinite(shortest) else 0.0
        both = problem.weight + problem.weight.T
        self.pairs_left = [0.0] * (problem.vnodes + 1)
        for depth in range(problem.vnodes - 1, -1, -1):
            later = self.order[depth + 1 :]
            self.pairs_left[depth] = self.pairs_left[depth + 1] + shortest * float(both[self.order[depth], later].sum())

    def run(self) -> None:
        """Search until all is seen or the steps have run out."""
        possible = np.where(self.problem.allowed, self.problem.linear, np.inf)
        self._branch(0, 0.0, possible, self.problem.room_mib.copy())

    def _branch(self, depth: int, cost: float, table: Floats, room: Ints) -> None:
        """`table` (V x N): what each virtual node that is not yet placed adds on each pnode, given those that are."""
        if depth == len(self.order):
            # `cost` was added up in another order than `problem.cost` does it
            value = self.problem.cost(self.chosen)
            if value < self.best_cost - MARGIN:
                self.best, self.best_cost = tuple(self.chosen), value
            return
        left = self.order[depth:]
        open_table = np.where(self.problem.need_mib[left][:, None] <= room[None, :], table[left], np.inf)
        cheapest = open_table.min(axis=1)
        bound = cost + float(cheapest.sum()) + self.pairs_left[depth]
        if not bound < self.best_cost - MARGIN:
            return
        vnode, row = left[0], open_table[0]
        others = float(cheapest[1:].sum()) + self.pairs_left[depth]
        for pnode in np.argsort(row, kind="stable").tolist():
            if not cost + row[pnode] + others < self.best_cost - MARGIN:
                return
            if self._mirrored(depth, vnode, pnode):
                continue
            self.steps -= 1
            if self.steps <= 0:
                return
            self.chosen[vnode] = pnode
            self._branch(depth + 1, cost + float(row[pnode]), *self._after(table, room, vnode, pnode))
            self.chosen[vnode] = -1

    def _mirrored(self, depth: int, vnode: int, pnode: int) -> bool:
        """Whether this only exchanges two that are alike: those get their pnodes in ascending order."""
        if depth == 0:
            return False
        last = self.order[depth - 1]
        return self.kinds[last] == self.kinds[vnode] and pnode < self.chosen[last]

    def _after(self, table: Floats, room: Ints, vnode: int, pnode: int) -> tuple[Floats, Ints]:
        problem = self.problem
        added = np.outer(problem.weight[:, vnode], problem.way[:, pnode])
        added += np.outer(problem.weight[vnode], problem.way[pnode])
        table = table + added
        room = room.copy()
        if problem.may_share:
            room[pnode] -= problem.need_mib[vnode]
            table[:, pnode] += problem.crowd[:, pnode] + problem.crowd[vnode, pnode]
        else:
            room[pnode] = -1
        return table, room
