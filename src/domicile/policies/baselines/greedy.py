"""Greedy: each guest where its own predicted slowdown is least, whatever that costs others. Ours, as a yardstick.

It minimises, for the guest whose turn it is, what domicile's model predicts for that guest alone: latency, CPU load,
memory bandwidth, devices and the distance to its groups' members, with the load of all who are there by then. It leaves
out what residents and guests placed before lose by it (`Costs.neighbours`), wishes of groups (apart, together), which
are no slowdown, and whoever comes later; it never moves anybody again. The difference to domicile is what looking at
others is worth. Of equal sets the one with fewer nodes is taken, then more free memory, then lower ids.

All sets are tried up to `EXHAUSTIVE_NODES` nodes; beyond, those of sizes that have few enough, and
where none of these fits, the fewest nodes with the most free memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import comb

import numpy as np

from domicile.policies.baselines.sets import first_set
from domicile.policies.baselines.turns import Pick, Turn, in_turn
from domicile.policies.placement.candidates import EXHAUSTIVE_NODES, Batch, every_set, weigh
from domicile.policies.placement.subject import Indices

__all__ = ["place"]

MARGIN = 1e-9

SETS_OF_A_SIZE = 2100
"""All sets of a size are tried if there are no more than this: all pairs of 64 nodes are 2016."""


def _greedy(turn: Turn) -> Pick | None:
    best = np.inf
    equal: list[tuple[int, int, tuple[int, ...]]] = []
    for batch in _batches(turn):
        own = np.where(np.isfinite(batch.objective), batch.costs.own + batch.ties, np.inf)
        least = float(own.min())
        if not np.isfinite(least) or least > best + MARGIN:
            continue
        if least < best - MARGIN:
            best, equal = least, []
        for row in np.flatnonzero(own <= best + MARGIN):
            nodes = batch.sets(int(row))
            equal.append((len(nodes), -sum(turn.free_mib[node] for node in nodes), nodes))
    if equal:
        return Pick(min(equal)[2], f"least predicted slowdown for itself, {1.0 + best:.2f}")
    emptiest = sorted(turn.eligible, key=lambda node: (-turn.free_mib[node], node))
    nodes_ = first_set(turn, emptiest)
    return Pick(nodes_, "no small set of nodes fits: the nodes with the most free memory") if nodes_ else None


def _batches(turn: Turn) -> Iterator[Batch]:
    subject, load = turn.subject, turn.layout.load
    ties, room = turn.layout.ties(turn.guest), turn.layout.room_mib()
    if len(subject.eligible) <= EXHAUSTIVE_NODES:
        nodes, member = every_set(subject.eligible)
        yield weigh(subject, load, ties, room, nodes, member)
        return
    for nodes in _small_sets(subject.eligible):
        yield weigh(subject, load, ties, room, nodes)


def _small_sets(eligible: Indices) -> Iterator[Indices]:
    """All sets of one node, and of each further size that has few enough."""
    for size in range(1, len(eligible) + 1):
        if comb(len(eligible), size) > SETS_OF_A_SIZE:
            return
        yield np.array(list(combinations(eligible.tolist(), size)), dtype=np.intp)


place = in_turn("greedy", _greedy)
"""Where each guest does best for itself, one after the other."""
