"""What the compiled search passes around: named tuples of arrays, which Numba can take apart.

M guests, N nodes, Q cpupools, C candidates: sets of nodes, those of a guest one after the other. E entries: the nodes
of the candidates, one after the other. Letters in the loops: g (guest), h (another), c (candidate), e (entry), n (node
of the vCPUs), m (node of the memory), q (cpupool).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from domicile.performance.curves import Floats

__all__ = [
    "ALONE",
    "ALONE_THERE",
    "APART",
    "AT",
    "BEND",
    "BOUND",
    "COLUMN",
    "COMPANY",
    "CONSTANT",
    "CONTROLLER",
    "CORES",
    "DEMAND",
    "DEMAND_THERE",
    "DISPLACED",
    "EVEN",
    "FELT",
    "FELT_COLUMN",
    "FELT_THERE",
    "FIRST",
    "FIXED",
    "FREE",
    "FULL",
    "LINEAR",
    "LINK",
    "LOW",
    "MISSED",
    "MOVED",
    "NEAR",
    "NEED",
    "PAIRS",
    "PCPUS",
    "PEAK",
    "PEER",
    "POOL",
    "PULLED",
    "QUEUE",
    "RELATIVE",
    "REMOTE",
    "ROOM",
    "SET",
    "SHARED",
    "SHORTAGE",
    "SMT",
    "THERE",
    "TOGETHER",
    "TRAFFIC",
    "TRAFFIC_THERE",
    "TURN",
    "USED",
    "WEIGHT",
    "WEIGHT_THERE",
    "WISH",
    "Given",
    "Integers",
    "State",
    "new_state",
]

Integers = npt.NDArray[np.int64]

BOUND, SMT, DISPLACED, COMPANY, TRAFFIC, LINEAR, BEND, QUEUE, CONSTANT = range(9)
"""`Given.figures`: those of `Assumptions` that the objective has in it, and `Field.constant`."""

RELATIVE, PEAK, REMOTE, TRAFFIC_THERE, FELT_THERE = range(5)
"""`Given.ways`, each N x N: latency over the best, GB/s, remoteness; of those who do not move: GB/s, what they feel."""

CORES, PCPUS, DEMAND_THERE, WEIGHT_THERE, ALONE_THERE, FULL = range(6)
"""`Given.pools`, each Q x N: of those who do not move: sums as in `Field`; how full the pool is with all guests."""

POOL, NEED, TURN, FIRST, PAIRS = range(5)
"""`Given.guest`, each M + 1: cpupool, MiB, guests in the order in which their memory falls, where the candidates and
where the pairs of each begin."""

AT, FIXED, THERE, SET = range(4)
"""`Given.candidate`, each C + 1: where the entries begin, the row of `Given.memory` where memory does not fall but lies
there (else -1), whether it lies there already, a number for each set of nodes."""

FREE, EVEN, LOW = range(3)
"""`Given.costs`, each C: what a candidate costs wherever the others are, without memory; with memory divided evenly, or
as it is fixed; no less than this whoever else is there (candidates of a guest ascend by it)."""

PEER, WISH = range(2)
NEAR, MISSED = range(2)
"""`Given.pair` and `Given.ties`, a column for each pair of a guest with another: the other guest and the kind of the
wish; the cost of a whole remoteness between them and of a wish not met at all."""

TOGETHER, APART = 1, 2
"""Kinds of wishes; 0: none."""

DEMAND, WEIGHT, ALONE, SHARED = range(4)
"""`State.sums`, each Q x N: as in `Field`, and the slowdown by CPU load."""

MOVED, FELT, LINK = range(3)
"""`State.ways`, each N x N: GB/s, what is felt, pressure."""

COLUMN, FELT_COLUMN, CONTROLLER, PULLED = range(4)
"""`State.nodes`, each N: sums of `ways` over the nodes of vCPUs, pressure, and what a whole guest loses there by
distance to its peers: the one that is looked at."""

USED, ROOM = range(2)
"""`State.memory`, each N, in MiB: taken by guests; what is left while memory falls."""

SHORTAGE = 1e4
"""What a MiB that finds no room counts, beside slowdowns: a layout that has room is better than any that has not."""


class Given(NamedTuple):
    """What does not change during a search. Arrays are stacked, since every one more takes longer to compile.

    Besides those above: `available` (N, MiB), `busy` (M, vCPUs), `pull` (M x N: devices), `node`, `share` (E: node,
    share of the vCPUs), `same` (M x sets: a guest's candidate that is this set, -1 if none), `memory` (rows x N, MiB),
    `gather` and `members`: groups that move together, as where each begins, and its guests.
    """

    figures: Floats
    ways: Floats
    pools: Floats
    available: Integers
    busy: Floats
    guest: Integers
    pull: Floats
    candidate: Integers
    costs: Floats
    node: Integers
    share: Floats
    pair: Integers
    ties: Floats
    same: Integers
    memory: Integers
    gather: Integers
    members: Integers


class State(NamedTuple):
    """Who is where, and the sums that follow from it, besides those above: `chosen` (M: candidate, -1 while a guest is
    out), `mib` (M x N), `shares` (M x N: of the vCPUs), `value`: the objective, and MiB that found no room."""

    chosen: Integers
    mib: Integers
    shares: Floats
    sums: Floats
    ways: Floats
    nodes: Floats
    memory: Integers
    value: Floats


def new_state(given: Given) -> State:
    """Room for a state; nobody is placed, and nothing worked out. NumPy makes it: to compile that takes seconds."""
    guests, (_, pools, nodes) = len(given.busy), given.pools.shape
    return State(
        np.full(guests, -1, dtype=np.int64),
        np.zeros((guests, nodes), dtype=np.int64),
        np.zeros((guests, nodes)),
        np.zeros((4, pools, nodes)),
        np.zeros((3, nodes, nodes)),
        np.zeros((4, nodes)),
        np.zeros((2, nodes), dtype=np.int64),
        np.zeros(2),
    )
