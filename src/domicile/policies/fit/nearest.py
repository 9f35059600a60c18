"""The set of host nodes, nearest to each other, on which all virtual nodes fit: branch and bound over sets.

What virtual nodes are to each other is not known, so that the sum of all distances depends on the set of host nodes
alone, not on who gets which. Sets that can be matched are the independent sets of a transversal matroid: a set that
cannot be matched is in none that can, so that the search grows sets node by node. It starts from the best of as many
greedy choices as there are nodes, and leaves out what cannot become better: what the nodes chosen are apart, plus for
the rest, node by node, the distance to the chosen ones and half of that to as many others as are still to come.
"""

from __future__ import annotations

from collections.abc import Sequence

from domicile.policies.fit.matching import augment, columns
from domicile.policies.fit.model import Fit, Requirement

__all__ = ["MOST_STEPS", "nearest"]

MOST_STEPS = 20_000
"""Sets looked at; what is found by then is given, marked as not proven. A set that will do at all is always found."""

CLOSE = 1e-9


class _Search:
    """One search; `best` is the least sum so far, `holds` the host node that each virtual node has then."""

    def __init__(
        self,
        rows: Sequence[int],
        distances: Sequence[Sequence[float]],
        requirements: Sequence[Requirement],
        *,
        first_will_do: bool,
    ) -> None:
        self.size = len(rows)
        count = len(distances)
        self.column = columns(rows, count)
        self.usable = [node for node in range(count) if self.column[node]]
        self.both = [[float(distances[a][b]) + float(distances[b][a]) for b in range(count)] for a in range(count)]
        self.requirements = requirements
        self.first_will_do = first_will_do
        self.best = float("inf")
        self.holds: dict[int, int] = {}
        self.steps = 0
        # half of what a node is apart from the k - 1 nearest to it, for each k
        self.half: dict[int, list[float]] = {}
        for node in self.usable:
            sums = [0.0, 0.0]
            for distance in sorted(self.both[node][other] for other in self.usable if other != node):
                sums.append(sums[-1] + distance / 2.0)
            self.half[node] = sums

    def enough(self, chosen: Sequence[int], left: Sequence[int]) -> bool:
        """Whether the requirements can be met with the nodes chosen and the best of those left."""
        more = self.size - len(chosen)
        for requirement in self.requirements:
            have = sum(requirement.by_node[node] for node in chosen)
            most = sorted((requirement.by_node[node] for node in left), reverse=True)[:more]
            if have + sum(most) < requirement.count:
                return False
        return True

    def greedy(self) -> None:
        """From each node, add the one that is nearest to those chosen."""
        for start in self.usable:
            holds: dict[int, int] = {}
            chosen: list[int] = []
            apart = 0.0
            link = dict.fromkeys(self.usable, 0.0)
            left = {*self.usable}
            node: int | None = start
            while node is not None:
                left.discard(node)
                if augment(self.column, node, holds, [0]):
                    apart += link[node]
                    chosen.append(node)
                    for other in left:
                        link[other] += self.both[node][other]
                node = min(left, key=lambda n: (link[n], n)) if left and len(chosen) < self.size else None
            if len(chosen) == self.size and self.enough(chosen, ()) and apart < self.best - CLOSE:
                self.best, self.holds = apart, holds

    def extend(self, chosen: list[int], holds: dict[int, int], apart: float, left: list[tuple[float, int]]) -> None:
        """Try all sets that have these nodes and others of `left` (distance to those chosen, node)."""
        more = self.size - len(chosen)
        if not more:
            if apart < self.best - CLOSE and self.enough(chosen, ()):
                self.best, self.holds = apart, dict(holds)
            return
        for position, (link, node) in enumerate(left):
            self.steps += 1
            if self.ended() or not self.promising(chosen, apart, left[position:], more):
                return
            with_it = dict(holds)
            if augment(self.column, node, with_it, [0]):
                away = self.both[node]
                rest = [(other_link + away[other], other) for other_link, other in left[position + 1 :]]
                self.extend([*chosen, node], with_it, apart + link, rest)

    def promising(self, chosen: Sequence[int], apart: float, left: Sequence[tuple[float, int]], more: int) -> bool:
        """Whether a set of the chosen nodes and `more` of those left may be better than the best."""
        if len(left) < more:
            return False
        if self.holds:
            least = sorted(link + self.half[node][more] for link, node in left)[:more]
            if apart + sum(least) >= self.best - CLOSE:
                return False
        return not self.requirements or self.enough(chosen, [node for _, node in left])

    def ended(self) -> bool:
        """Whether what was found has to do."""
        return bool(self.holds) and (self.first_will_do or self.steps > MOST_STEPS)


def nearest(
    rows: Sequence[int],
    distances: Sequence[Sequence[float]],
    requirements: Sequence[Requirement] = (),
    *,
    first_will_do: bool = False,
) -> Fit | None:
    """The best assignment, None if there is none. Bit h of `rows[v]`: host node h can bear virtual node v."""
    if not rows:
        return Fit((), 0.0, proven=True)
    search = _Search(rows, distances, requirements, first_will_do=first_will_do)
    if len(search.usable) < search.size:
        return None
    search.greedy()
    search.extend([], {}, 0.0, [(0.0, node) for node in search.usable])
    if not search.holds:
        return None
    proven = search.steps <= MOST_STEPS and not first_will_do
    return Fit(tuple(search.holds[virtual] for virtual in range(search.size)), search.best, proven)
