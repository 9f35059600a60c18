"""Sets for guests much wider than a node on machines of many nodes, where trying all sets is out of the question."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from domicile.performance.curves import Floats, sharing
from domicile.performance.field import Field
from domicile.policies.placement.candidates import Batch
from domicile.policies.placement.subject import Indices, Subject
from domicile.policies.placement.ties import Ties

__all__ = ["better_sets", "grown_sets"]

PATIENCE = 3
"""Sizes in a row without a better set after which growing ends."""

CELLS = 300_000
"""Exchanges tried in a round times the square of the set's size, at most: keeps a round at a few milliseconds."""

ROUNDS = 12
MARGIN = 1e-9

Weigh = Callable[[Indices], Batch]


def grown_sets(
    subject: Subject, field: Field, ties: Ties, room_mib: Floats, weigh: Weigh, start: int
) -> Iterator[Batch]:
    """Grow a set from each eligible node, a node at a time, and weigh them all at each size from `start` on.

    The next node is the one with the least of mean latency to the set and cost of its own; this guides only, the
    objective decides.
    """
    eligible = subject.eligible
    count = len(eligible)
    machine = field.machine
    least = _least_size(subject, room_mib[eligible])
    likely = max(
        least, round(subject.newcomer.demand / max(float(np.median(machine.cores[subject.newcomer.pool])), 1.0)), 1
    )
    distance = (field.relative + field.relative.T)[np.ix_(eligible, eligible)] / 2.0
    node_cost = _node_costs(subject, field, ties, room_mib, likely)
    chosen = np.eye(count, dtype=bool)
    to_set = distance.copy()
    best, waited = np.inf, 0
    for size in range(2, count + 1):
        score = subject.newcomer.bound(field.assumptions) * to_set / (size - 1) + node_cost
        added = np.argmin(np.where(chosen, np.inf, score), axis=1)
        chosen[np.arange(count), added] = True
        to_set += distance[added]
        if size < max(start, least):
            continue
        rows = chosen[sorted(dict(zip(map(bytes, np.packbits(chosen, axis=1)), range(count), strict=True)).values())]
        batch = weigh(eligible[np.nonzero(rows)[1].reshape(len(rows), size)])
        yield batch
        found = float(batch.objective.min())
        waited = 0 if found < best - MARGIN or not np.isfinite(found) else waited + 1
        best = min(best, found)
        if waited >= PATIENCE and size > likely + 1:
            return


def better_sets(
    subject: Subject,
    field: Field,
    ties: Ties,
    room_mib: Floats,
    weigh: Weigh,
    chosen: tuple[int, ...],
    objective: float,
) -> Iterator[Batch]:
    """Exchange, add and drop nodes of a set while that makes it better; every set weighed is given."""
    eligible = subject.eligible
    for _ in range(ROUNDS):
        inside = np.array(chosen, dtype=np.intp)
        outside = np.setdiff1d(eligible, inside)
        found: tuple[float, tuple[int, ...]] | None = None
        for sets in _neighbours(subject, field, ties, room_mib, inside, outside):
            batch = weigh(sets)
            yield batch
            row = int(np.argmin(batch.objective))
            value = float(batch.objective[row])
            if value < objective - MARGIN and (found is None or value < found[0]):
                found = value, batch.sets(row)
        if found is None:
            return
        objective, chosen = found


def _neighbours(
    subject: Subject, field: Field, ties: Ties, room_mib: Floats, inside: Indices, outside: Indices
) -> Iterator[Indices]:
    size = len(inside)
    if size > 1:
        yield np.array([np.delete(inside, drop) for drop in range(size)])
    if not len(outside):
        return
    wide = np.repeat(inside[None], len(outside), axis=0)
    yield np.hstack([wide, outside[:, None]])
    way = subject.newcomer.bound(field.assumptions) * field.relative[:, inside].mean(axis=1)[subject.eligible]
    cost = _node_costs(subject, field, ties, room_mib, size) + way
    by_cost = outside[np.argsort(cost[np.searchsorted(subject.eligible, outside)], kind="stable")]
    tried = by_cost[: max(CELLS // size**3, 1)]
    exchanged = np.repeat(inside[None], size * len(tried), axis=0)
    exchanged[np.arange(size * len(tried)), np.repeat(np.arange(size), len(tried))] = np.tile(tried, size)
    yield exchanged


def _least_size(subject: Subject, room_mib: Floats) -> int:
    """The fewest nodes whose memory could do."""
    filled = np.cumsum(np.sort(room_mib)[::-1])
    return int(np.searchsorted(filled, subject.need_mib)) + 1


def _node_costs(subject: Subject, field: Field, ties: Ties, room_mib: Floats, size: int) -> npt.NDArray[np.float64]:
    """What a node of a set of this size costs by itself, for each eligible node: load, ties, shortage of memory."""
    nodes, pool = subject.eligible, subject.newcomer.pool
    machine, a = field.machine, field.assumptions
    added = subject.newcomer.demand / size
    before, weight = field.demand[pool][nodes], field.weight[pool][nodes]
    cores, pcpus = machine.cores[pool][nodes], machine.pcpus[pool][nodes]
    fullness = field.fullness_with(subject.newcomer)[pool]
    after = sharing(before + added, cores, pcpus, fullness, a)
    crowd = a.company / np.maximum(pcpus, 1.0)
    load = after - 1.0 + crowd * before
    others = size * weight * (after - sharing(before, cores, pcpus, fullness, a) + crowd * added)
    part = subject.need_mib / size
    shortage = np.clip(1.0 - room_mib[nodes] / max(part, 1.0), 0.0, 1.0)
    tied = subject.newcomer.device_pull + ties.by_node()
    return np.asarray(load + others + shortage + tied[nodes], dtype=np.float64)
