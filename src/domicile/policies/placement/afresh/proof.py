"""How good a layout is at best: a mixed-integer program whose optimum no layout is below.

The objective with its curves replaced by pieces of lines that are nowhere above them:
- slowdown by CPU load on each node, by chords between its corners and points between (between corners it is concave),
  of which one piece is chosen by binary variables;
- where Xen's weights differ, what is lost because pCPUs are short goes by the least weight there can be on the node;
- pressure on memory and links, by tangents (it is convex).
Each guest has one set of nodes. Where a node of it fills up, memory falls unevenly: the set may then be taken with less
than an even part on full nodes and no less on others, with the latency of that but without its traffic. So the
program's optimum is a **lower bound for every layout**, in whatever order memory falls. Where no node fills up, and all
tangents and chords touch at what its solution loads, it is the objective itself; what is left, its deviation, is told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import inf

import numpy as np

from domicile.performance.curves import LEAST_BOUND, Floats, crowding, sharing_parts
from domicile.policies.placement.afresh.build import Built, settled_field
from domicile.policies.placement.afresh.core.arrays import (
    ALONE_THERE,
    APART,
    BOUND,
    BUSY,
    DEMAND_THERE,
    EVEN,
    FELT_THERE,
    FIRST,
    FREE,
    FULL,
    HEAVY,
    HEAVY_THERE,
    LIGHT,
    LIGHT_THERE,
    MISSED,
    NEAR,
    NEED,
    PAIRS,
    PEER,
    POOL,
    SENDS,
    TOGETHER,
    TRAFFIC_THERE,
    WEIGHT_THERE,
    WISH,
    Integers,
)
from domicile.policies.placement.afresh.program import Program
from domicile.policies.placement.afresh.search import Found, worked_out
from domicile.policies.placement.layout import Problem

__all__ = ["Proof", "prove"]

POINTS = 6
"""Points between the corners of slowdown by CPU load."""

TOUCHING = (0.0, 0.25, 0.45, 0.6, 0.7, 0.78, 0.85, 0.91, 0.97, 1.03, 1.1, 1.18, 1.28, 1.4, 1.6, 2.0, 3.0)
"""Where tangents touch, beside where it begins and ends: wanted traffic, as a share of the peak. `crowding` bends most
where it comes to the peak."""


@dataclass(frozen=True, eq=False)
class Proof:
    """`best`: the better of the layout that was known and the program's (None: there is none). `bound`: no layout's
    objective is below. `deviation`: what the program's solution comes to above what the program says, None where it
    found none or that has no room as memory falls. `optimal`: whether the program was solved to its end."""

    best: Found | None
    bound: float
    deviation: float | None
    optimal: bool

    def gap(self, domains: int) -> float:
        """How much better a layout could be at most, as a share of the sum of all domains' slowdowns."""
        if self.best is None:
            return 0.0 if self.optimal else inf
        return max(self.best.objective - self.bound, 0.0) / (domains + self.best.objective)


def prove(
    problem: Problem,
    built: Built,
    known: Found | None,
    limit_s: float = inf,
    going_on: Callable[[float], bool] | None = None,
) -> Proof:
    """Bound what any layout can be, and look for a better one than is known, in so many seconds.
    `going_on` as in `Program.solved`.

    Raises `Refused` where HiGHS is not installed.
    """
    model = _Model(problem, built)
    solution = model.program.solved(limit_s, going_on)
    done = solution.status in {"Optimal", "Infeasible"}
    if solution.values is None:
        return Proof(known, solution.bound, None, done)
    found = worked_out(built, model.chosen(solution.values))
    deviation = None if found.short_mib else found.objective - solution.objective
    better = not found.short_mib and (known is None or found.objective < known.objective)
    return Proof(found if better else known, solution.bound, deviation, done)


class _Model:
    """The program of a problem; `even` and `uneven`: its variables for each candidate (-1: none)."""

    def __init__(self, problem: Problem, built: Built) -> None:
        self.problem, self.given = problem, built.given
        self.field = settled_field(problem)
        self.built = built
        self.program = Program()
        given = self.given
        self.guests = given.own.shape[1]
        self.unequal = self.field.uneven or bool((given.own[HEAVY] != 1.0).any())
        self.even = [self.program.choice() for _ in built.candidates]
        self.owner = np.repeat(np.arange(self.guests), np.diff(given.guest[FIRST]))
        self.parts = [self._parts(c) for c in range(len(built.candidates))]
        self.uneven = [self.program.choice() if self._may_fill(c) else -1 for c in range(len(built.candidates))]
        self.crowding = self._crowding()
        self.pressures = self._pressures()
        self._one_each()
        self._memory()
        self._costs()
        self._ties()
        self._constant()

    def chosen(self, values: Floats) -> Integers:
        """The choices of a solution."""
        chosen = np.zeros(self.guests, dtype=np.int64)
        for c, (even, uneven) in enumerate(zip(self.even, self.uneven, strict=True)):
            if values[even] > 0.5 or (uneven >= 0 and values[uneven] > 0.5):
                chosen[self.owner[c]] = c
        return chosen

    def _parts(self, c: int) -> tuple[int, ...]:
        """Memory on each node of a candidate where none fills up."""
        one = self.built.candidates[c]
        if one.mib is not None:
            return one.mib
        need, size = int(self.given.guest[NEED, self.owner[c]]), len(one.nodes)
        return tuple(need // size + (position < need % size) for position in range(size))

    def _may_fill(self, c: int) -> bool:
        """Whether memory may fall unevenly on a candidate, whoever else comes."""
        one, given = self.built.candidates[c], self.given
        if one.mib is not None or len(one.nodes) == 1:
            return False
        others = int(given.guest[NEED, :-1].sum() - given.guest[NEED, self.owner[c]])
        return any(given.available[n] <= others + part for n, part in zip(one.nodes, self.parts[c], strict=True))

    def _pairs(self, c: int) -> list[tuple[int, int, float]]:
        """Node of vCPUs, node of memory, share of accesses."""
        one, parts = self.built.candidates[c], self.parts[c]
        whole = max(sum(parts), 1)
        return [
            (n, m, float(share) * part / whole)
            for n, share in zip(one.nodes, one.share, strict=True)
            for m, part in zip(one.nodes, parts, strict=True)
            if share > 0 and part > 0
        ]

    def _shared(self, q: int, n: int, demand: Floats) -> list[Floats]:
        """Slowdown above 1 by CPU load and company, of a vCPU on a node with these demands: where weights differ in
        two, what all feel alike and what goes by weight."""
        machine, a = self.problem.machine, self.problem.assumptions
        full = float(self.given.pools[FULL, q, 0])
        cores, pcpus = machine.cores[q, n], machine.pcpus[q, n]
        paired, short = sharing_parts(demand, np.full_like(demand, cores), np.full_like(demand, pcpus), full, a)
        alike = paired - 1.0 + a.company * demand / max(pcpus, 1.0)
        return [alike, short] if self.unequal else [alike + short]

    def _least_weight(self, q: int, n: int) -> float:
        """No less than this is the mean weight on a node, of those there and any guests."""
        given = self.given
        mine = given.own[HEAVY, given.guest[POOL, :-1] == q]
        there = float(given.pools[DEMAND_THERE, q, n])
        known = [float(given.pools[HEAVY_THERE, q, n]) / there] if there > 0 else []
        return min([*known, *mine.tolist()], default=0.0)

    def _pressed(self, utilisation: float) -> float:
        return float(crowding(np.array([utilisation]), self.problem.assumptions)[0])

    def _slope(self, utilisation: float) -> float:
        """The derivative of the same."""
        a = self.problem.assumptions
        bound = max(a.memory_bound, LEAST_BOUND)
        slowed = 1.0 + bound * a.pressure_linear * utilisation
        time = 1.0 + bound * self._pressed(utilisation)
        return float(a.pressure_linear * (slowed / time) ** 7 + (utilisation / time) ** 7 / bound)

    def _crowding(self) -> dict[tuple[int, int], list[tuple[int, float]]]:
        """By pool and node that guests may use: the variables of `_shared`, and the most they can be."""
        given, program = self.given, self.program
        added: dict[tuple[int, int], dict[int, float]] = defaultdict(dict)
        for c, one in enumerate(self.built.candidates):
            guest = self.owner[c]
            for n, share in zip(one.nodes, one.share, strict=True):
                for column in (self.even[c], self.uneven[c]):
                    if column >= 0 and share > 0:
                        added[int(given.guest[POOL, guest]), n][column] = float(given.own[BUSY, guest] * share)
        found: dict[tuple[int, int], list[tuple[int, float]]] = {}
        for (q, n), terms in sorted(added.items()):
            base = float(given.pools[DEMAND_THERE, q, n])
            most = base + float(given.own[BUSY, given.guest[POOL, :-1] == q].sum())
            corners = sorted({base, most, *(x for x in self._corners(q, n) if base < x < most)})
            between = [np.linspace(left, right, POINTS) for left, right in pairwise(corners)]
            points = np.unique(np.concatenate([[base], *between]))
            weights = [program.variable(upper=1.0) for _ in points]
            pieces = [program.choice() for _ in points[1:]]
            program.row(dict.fromkeys(weights, 1.0), 1.0, 1.0)
            program.row({**terms, **{w: -float(p) for w, p in zip(weights, points, strict=True)}}, -base, -base)
            by_weight = float(given.pools[LIGHT_THERE, q, n]) * self._least_weight(q, n)
            costs = (float(given.pools[WEIGHT_THERE, q, n]), by_weight)
            found[q, n] = []
            for heights, cost in zip(self._shared(q, n, points), costs, strict=False):
                shared = program.variable(cost)
                program.row({shared: 1.0, **{w: -float(h) for w, h in zip(weights, heights, strict=True)}}, 0.0)
                found[q, n].append((shared, float(heights.max())))
            if pieces:
                program.row(dict.fromkeys(pieces, 1.0), 1.0, 1.0)
                for index, weight in enumerate(weights):
                    near = [pieces[i] for i in (index - 1, index) if 0 <= i < len(pieces)]
                    program.row({weight: 1.0, **dict.fromkeys(near, -1.0)}, most=0.0)
        return found

    def _corners(self, q: int, n: int) -> tuple[float, float]:
        return float(self.problem.machine.cores[q, n]), float(self.problem.machine.pcpus[q, n])

    def _pressures(self) -> dict[tuple[int, int], tuple[int, float, float]]:
        """By nodes of vCPUs and memory (-1: all, the memory's controller): the variable, what it is without guests, the
        most it can be."""
        given, program = self.given, self.program
        added: dict[tuple[int, int], dict[int, float]] = defaultdict(lambda: defaultdict(float))
        for c in range(len(self.even)):
            for n, m, share in self._pairs(c):
                traffic = float(given.own[SENDS, self.owner[c]]) * share
                added[-1, m][self.even[c]] += traffic
                if n != m:
                    added[n, m][self.even[c]] += traffic
        found = {}
        for (n, m), terms in sorted(added.items()):
            peak = self._peak(n, m)
            base = self._traffic_there(n, m) / peak
            most = base + float(given.own[SENDS].sum()) / peak
            least, highest = self._pressed(base), self._pressed(most)
            loaded = program.variable()
            program.lower[loaded] = least
            for u in sorted({base, most, *(u for u in TOUCHING if base < u < most)}):
                slope = self._slope(u)
                line = {column: -slope * traffic / peak for column, traffic in terms.items()}
                # lowered by what rounding may raise it
                program.row({loaded: 1.0, **line}, self._pressed(u) - 1e-9 + slope * (base - u))
            felt = given.ways[FELT_THERE]
            program.costs[loaded] += float(felt[:, m].sum() if n < 0 else felt[n, m])
            found[n, m] = loaded, least, highest
        return found

    def _peak(self, n: int, m: int) -> float:
        return float(self.problem.machine.bandwidth_gbs[m if n < 0 else n, m])

    def _traffic_there(self, n: int, m: int) -> float:
        traffic = self.given.ways[TRAFFIC_THERE]
        return float(traffic[:, m].sum() if n < 0 else traffic[n, m])

    def _one_each(self) -> None:
        """Each guest has one candidate."""
        first = self.given.guest[FIRST]
        for guest in range(self.guests):
            mine = range(first[guest], first[guest + 1])
            columns = [column for c in mine for column in (self.even[c], self.uneven[c]) if column >= 0]
            self.program.row(dict.fromkeys(columns, 1.0), 1.0, 1.0)

    def _memory(self) -> None:
        """Free memory; and memory is uneven only on a set of which a node is full."""
        program, given = self.program, self.given
        used: dict[int, dict[int, float]] = defaultdict(dict)
        for c, one in enumerate(self.built.candidates):
            for n, part in zip(one.nodes, self.parts[c], strict=True):
                used[n][self.even[c]] = float(part)
        parts = self._uneven_parts(used)
        full: dict[int, int] = {}
        for n, terms in used.items():
            program.row(terms, most=float(given.available[n]))
            if any(n == node for _, node in parts):
                full[n] = program.choice()
                program.row({**terms, full[n]: -float(given.available[n])}, 0.0)
        for c, column in enumerate(self.uneven):
            if column >= 0:
                program.row({column: 1.0, **{full[n]: -1.0 for n in self.built.candidates[c].nodes}}, most=0.0)
        for (c, n), mib in parts.items():
            # a node that is not full has no less than an even part
            need, even = float(given.guest[NEED, self.owner[c]]), float(min(self.parts[c]))
            program.row({mib: 1.0, self.uneven[c]: -even, full[n]: need}, 0.0)

    def _uneven_parts(self, used: dict[int, dict[int, float]]) -> dict[tuple[int, int], int]:
        """Memory that falls unevenly, by candidate and node: the variable in MiB, which costs the latency of being
        there; added to `used`."""
        program, given = self.program, self.given
        found = {}
        for c, column in enumerate(self.uneven):
            if column < 0:
                continue
            one, guest = self.built.candidates[c], self.owner[c]
            need, nodes = float(given.guest[NEED, guest]), list(one.nodes)
            each = given.own[BOUND, guest] * np.einsum("n,nm->m", one.share, self.field.relative[np.ix_(nodes, nodes)])
            each = each + given.pull[guest, nodes] / 2.0
            for n, cost in zip(nodes, each.tolist(), strict=True):
                found[c, n] = program.variable(cost / max(need, 1.0), need)
                used[n][found[c, n]] = 1.0
            program.row({**{found[c, n]: 1.0 for n in nodes}, column: -need}, 0.0, 0.0)
        return found

    def _costs(self) -> None:
        """What each guest loses on its candidate: with the residents alone, and `more` by other guests."""
        program, given = self.program, self.given
        first = given.guest[FIRST]
        for guest in range(self.guests):
            more = program.variable(1.0)
            for c in range(first[guest], first[guest + 1]):
                crowded = self._crowded(c)
                loaded = self._loaded(c)
                self._chosen_costs(self.even[c], more, float(given.costs[EVEN, c]), [*crowded, *loaded], c)
                if self.uneven[c] >= 0:
                    self._chosen_costs(self.uneven[c], more, float(given.costs[FREE, c]), crowded, c)

    def _chosen_costs(
        self, column: int, more: int, free: float, terms: list[tuple[int, float, float, float]], c: int
    ) -> None:
        """`terms`: variable, factor, the least that it is with this candidate, the most that it can be."""
        least = sum(factor * low for _, factor, low, _ in terms)
        most = sum(factor * high for _, factor, _, high in terms)
        self.program.costs[column] += free + least - self._own_company(c)
        row: dict[int, float] = defaultdict(float)
        row[more] = 1.0
        for variable, factor, _, _ in terms:
            row[variable] -= factor
        row[column] = -(most - least)
        self.program.row(row, -most)

    def _crowded(self, c: int) -> list[tuple[int, float, float, float]]:
        one, guest = self.built.candidates[c], self.owner[c]
        q = int(self.given.guest[POOL, guest])
        found = []
        for n, share in zip(one.nodes, one.share, strict=True):
            if share > 0:
                own = np.array([self.given.pools[DEMAND_THERE, q, n] + self.given.own[BUSY, guest] * share])
                by_weight = self._least_weight(q, n) * float(self.given.own[LIGHT, guest])
                # the chord at what it is alone may be a little lower than the curve
                for (variable, most), least, factor in zip(
                    self.crowding[q, n], self._chord(q, n, own), (1.0, by_weight), strict=False
                ):
                    found.append((variable, factor * float(share), min(least, most), most))
        return found

    def _chord(self, q: int, n: int, demand: Floats) -> list[float]:
        base = float(self.given.pools[DEMAND_THERE, q, n])
        corners = [x for x in self._corners(q, n) if x >= base]
        # never above the program's own chords: it grows with demand, so the curve at the last corner is below
        reached = [x for x in (base, *corners) if x <= float(demand[0])]
        return [float(part[0]) for part in self._shared(q, n, np.array([max(reached)]))]

    def _loaded(self, c: int) -> list[tuple[int, float, float, float]]:
        bound = float(self.given.own[BOUND, self.owner[c]])
        found = []
        for n, m, share in self._pairs(c):
            felt = bound * share * float(self.field.relative[n, m])
            for key in ((-1, m), *(((n, m),) if n != m else ())):
                variable, least, most = self.pressures[key]
                found.append((variable, felt, least, most))
        return found

    def _own_company(self, c: int) -> float:
        """The part of company that is the guest itself."""
        one, guest = self.built.candidates[c], self.owner[c]
        pcpus = np.maximum(self.problem.machine.pcpus[self.given.guest[POOL, guest], list(one.nodes)], 1.0)
        return float((self.problem.assumptions.company * self.given.own[BUSY, guest] * one.share**2 / pcpus).sum())

    def _ties(self) -> None:
        """What pairs of guests cost by their groups."""
        given, program = self.given, self.program
        first, nodes = given.guest[FIRST], len(given.available)
        shares = np.zeros((len(self.even), nodes))
        for c, one in enumerate(self.built.candidates):
            shares[c, list(one.nodes)] = one.share
        for g in range(self.guests):
            for i in range(given.guest[PAIRS, g], given.guest[PAIRS, g + 1]):
                h = int(given.pair[PEER, i])
                if h < g:
                    continue
                theirs = range(first[h], first[h + 1])
                cost = program.variable(1.0)
                for c in range(first[g], first[g + 1]):
                    each = self._pair_costs(i, shares[c], shares[first[h] : first[h + 1]])
                    most = float(each.max())
                    row = {cost: 1.0, self.even[c]: -most}
                    if self.uneven[c] >= 0:
                        row[self.uneven[c]] = -most
                    for other, figure in zip(theirs, each.tolist(), strict=True):
                        for column in (self.even[other], self.uneven[other]):
                            if column >= 0:
                                row[column] = -figure
                    program.row(row, -most)

    def _pair_costs(self, i: int, mine: Floats, theirs: Floats) -> Floats:
        """Costs of a pair for one candidate beside each of the other's."""
        given = self.given
        cost = given.ties[NEAR, i] * np.einsum("n,nm,km->k", mine, self.problem.remote, theirs)
        ours = np.einsum("n,kn->k", mine, (theirs > 0).astype(np.float64))
        others = np.einsum("n,kn->k", (mine > 0).astype(np.float64), theirs)
        if given.pair[WISH, i] == APART:
            cost = cost + given.ties[MISSED, i] * np.maximum(ours, others)
        if given.pair[WISH, i] == TOGETHER:
            cost = cost + given.ties[MISSED, i] * np.maximum(1.0 - np.minimum(ours, others), 0.0)
        return np.asarray(cost, dtype=np.float64)

    def _constant(self) -> None:
        """What does not depend on the guests; of nodes and ways that they cannot reach, all."""
        given, field = self.given, self.field
        total = field.constant
        pools, nodes = field.demand.shape
        company = self.problem.assumptions.company
        for q in range(pools):
            for n in range(nodes):
                total -= company * float(given.pools[ALONE_THERE, q, n] / max(self.problem.machine.pcpus[q, n], 1.0))
                if (q, n) not in self.crowding:
                    demand = np.array([given.pools[DEMAND_THERE, q, n]])
                    by_weight = float(given.pools[LIGHT_THERE, q, n]) * self._least_weight(q, n)
                    factors = (float(given.pools[WEIGHT_THERE, q, n]), by_weight)
                    parts = self._shared(q, n, demand)
                    total += sum(factor * float(part[0]) for factor, part in zip(factors, parts, strict=False))
        felt = given.ways[FELT_THERE]
        for m in range(nodes):
            for n in (-1, *(n for n in range(nodes) if n != m)):
                if (n, m) not in self.pressures:
                    weight = float(felt[:, m].sum() if n < 0 else felt[n, m])
                    total += weight * self._pressed(self._traffic_there(n, m) / self._peak(n, m))
        self.program.offset = total
