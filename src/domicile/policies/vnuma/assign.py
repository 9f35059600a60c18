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
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Assigned", "AssignmentProblem", "assign"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

STEPS = 2_000
"""Branches looked at before the best so far is taken: about a tenth of a second."""

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
    """Moves to free pnodes and swaps, the best one each time, as long as it gets cheaper. Never onto a pnode that
    another is on: who starts apart stays apart, and who has to share stays as it is."""
    chosen = np.array(start, dtype=np.intp)
    if len(set(start)) < len(start):
        return start
    cost = problem.cost(start)
    while True:
        following = _best_change(problem, chosen)
        if following is None:
            return tuple(int(pnode) for pnode in chosen)
        value = problem.cost(following.tolist())
        # the change was weighed by differences: rounding must not make it go round in circles
        if value >= cost - MARGIN:
            return tuple(int(pnode) for pnode in chosen)
        chosen, cost = following, value


def _best_change(problem: AssignmentProblem, chosen: npt.NDArray[np.intp]) -> npt.NDArray[np.intp] | None:
    """The assignment with one virtual node moved or two swapped that is cheaper by the most; None where none is."""
    rows = np.arange(problem.vnodes)
    weight = problem.weight.copy()
    np.fill_diagonal(weight, 0.0)
    way = problem.way
    # what each virtual node costs on each pnode, the others being where they are (V x N)
    there = problem.linear + weight @ way.T[chosen] + weight.T @ way[chosen]
    now = there[rows, chosen]
    moved = np.where(problem.possible, there - now[:, None], np.inf)
    moved[:, chosen] = np.inf
    # swapped (V x V): each where the other is, without what `there` takes for the other being there still
    at = there[:, chosen]
    both = weight + weight.T
    between = way[np.ix_(chosen, chosen)]
    own = np.diag(between)
    before = weight * between + weight.T * between.T
    after = weight * between.T + weight.T * between
    swapped = at + at.T - both * (own[:, None] + own[None, :]) + after - (now[:, None] + now[None, :] - before)
    can = problem.possible[:, chosen]
    swapped = np.where(can & can.T & ~np.eye(problem.vnodes, dtype=bool), swapped, np.inf)
    least_move, least_swap = float(moved.min()), float(swapped.min())
    if min(least_move, least_swap) >= -MARGIN:
        return None
    found = chosen.copy()
    if least_move <= least_swap:
        vnode, pnode = np.unravel_index(int(np.argmin(moved)), moved.shape)
        found[vnode] = pnode
    else:
        one, other = np.unravel_index(int(np.argmin(swapped)), swapped.shape)
        found[[one, other]] = chosen[[other, one]]
    return found


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
        self.both_ways = problem.way + problem.way.T
        if not problem.may_share:
            np.fill_diagonal(self.both_ways, np.inf)
        self.least_weight, self.pairs_left = self._pair_bounds()

    def _pair_bounds(self) -> tuple[list[float], list[float]]:
        """For each depth, of the virtual nodes that are not yet placed: the least weight between any two of them, and
        what their pairs cost at least by what their weights have beyond that, over the shortest way there is."""
        shortest = self._shortest_way()
        least, beyond = [], []
        for depth in range(self.problem.vnodes):
            left = self.order[depth:]
            weights = self.problem.weight[np.ix_(left, left)][~np.eye(len(left), dtype=bool)]
            least.append(float(weights.min()) if weights.size else 0.0)
            beyond.append(shortest * float((weights - least[-1]).sum()))
        return least, beyond

    def _shortest_way(self) -> float:
        way = self.problem.way.copy()
        if not self.problem.may_share and len(way) > 1:
            np.fill_diagonal(way, np.inf)
        return float(way.min())

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
        fits = self.problem.need_mib[left][:, None] <= room[None, :]
        open_table = np.where(fits, table[left], np.inf)
        if len(left) > 1:
            open_table = open_table + self._pair_costs(depth, np.flatnonzero(fits.any(axis=0)), len(left) - 1)
        cheapest = open_table.min(axis=1)
        bound = cost + float(cheapest.sum()) + self.pairs_left[depth]
        if not bound < self.best_cost - MARGIN:
            return
        vnode, row = left[0], open_table[0]
        plain = table[vnode]
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
            self._branch(depth + 1, cost + float(plain[pnode]), *self._after(table, room, vnode, pnode))
            self.chosen[vnode] = -1

    def _pair_costs(self, depth: int, open_pnodes: npt.NDArray[np.intp], others: int) -> Floats:
        """What a virtual node on each pnode (N) costs at least by its share of the pairs with all others that are left:
        these are on the nearest pnodes that are open, at best, each on another one if they may not share."""
        ways = np.sort(self.both_ways[:, open_pnodes], axis=1)
        if self.problem.may_share:
            nearest = ways[:, :1].sum(axis=1) * others
        elif ways.shape[1] < others:
            nearest = np.full(len(ways), np.inf)
        else:
            nearest = ways[:, :others].sum(axis=1)
        known = np.isfinite(nearest)
        each = 0.5 * self.least_weight[depth] * np.where(known, nearest, 0.0)
        return np.asarray(np.where(known, each, np.inf), dtype=np.float64)

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
