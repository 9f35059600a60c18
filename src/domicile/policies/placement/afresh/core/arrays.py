"""What the compiled search works on: a problem and the state of a search, in the loops as a pair of flat arrays.

M guests, N nodes, Q cpupools, C candidates: sets of nodes, those of a guest one after the other. E entries: the nodes
of the candidates, one after the other. Letters in the loops: g (guest), h (another), c (candidate), e (entry), n (node
of the vCPUs), m (node of the memory), k (a cpupool's node: q * N + n).

`Given` and `State` are for those who build a problem and read a result. To Numba every array that a function is given
is seven or more arguments, and one of several dimensions is three times the code: with two arrays and where each block
begins in them (`Search`) the loops compile in half the time. `s.f[s.at_ways + LINK * s.nn + n * s.nodes + m]` is the
pressure on the way from n to m.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from domicile.performance.curves import Floats

__all__ = [
    "ALONE",
    "ALONE_THERE",
    "APART",
    "AT",
    "BOUND",
    "BUSY",
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
    "HEAT",
    "HEAVY",
    "HEAVY_THERE",
    "LATEST",
    "LEAST",
    "LIGHT",
    "LIGHT_THERE",
    "LINEAR",
    "LINK",
    "LOST",
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
    "RELATIVE",
    "REMOTE",
    "ROOM",
    "SENDS",
    "SET",
    "SHORTAGE",
    "SMT",
    "SUM_HEAVY",
    "SUM_LIGHT",
    "THERE",
    "TOGETHER",
    "TRAFFIC_THERE",
    "TURN",
    "USED",
    "WAITS",
    "WEIGHT",
    "WEIGHT_THERE",
    "WISH",
    "Given",
    "Integers",
    "Search",
    "State",
    "begun",
]

Integers = npt.NDArray[np.int64]
Number = TypeVar("Number", bound=np.generic)

SMT, DISPLACED, COMPANY, LINEAR, WAITS, CONSTANT = range(6)
"""`Given.figures`: those of `Assumptions` that the objective has in it (`WAITS`: the share of time that is memory
latency, as `curves.crowding` takes it), and `Field.constant`."""

RELATIVE, PEAK, REMOTE, TRAFFIC_THERE, FELT_THERE = range(5)
"""`Given.ways`, each N x N: latency over the best, GB/s, remoteness; of those who do not move: GB/s, what they feel."""

CORES, PCPUS, DEMAND_THERE, WEIGHT_THERE, ALONE_THERE, HEAVY_THERE, LIGHT_THERE, FULL = range(8)
"""`Given.pools`, each Q x N: of those who do not move: sums as in `Field`; how full the pool is with all guests."""

BUSY, HEAVY, LIGHT, BOUND, SENDS = range(5)
"""`Given.own`, each M: demand in vCPUs, Xen's weight (256 is 1.0), 1 over it, the share of its time that is memory
latency, GB/s in all."""

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

DEMAND, WEIGHT, ALONE, SUM_HEAVY, SUM_LIGHT, LOST = range(6)
"""`State.sums`, each Q x N: as in `Field`, and what all together lose there by sharing cores and pCPUs."""

MOVED, FELT, LINK = range(3)
"""`State.ways`, each N x N: GB/s, what is felt, pressure."""

COLUMN, FELT_COLUMN, CONTROLLER, PULLED = range(4)
"""`State.nodes`, each N: sums of `ways` over the nodes of vCPUs, pressure, and what a whole guest loses there by
distance to its peers: the one that is looked at."""

LEAST, LATEST, HEAT = range(2, 5)
"""`State.value`: the objective, MiB that found no room; the least objective so far, that of the layout that the next
round begins with, and by how much it may get worse."""

USED, ROOM = range(2)
"""`State.memory`, each N, in MiB: taken by guests; what is left while memory falls."""

SHORTAGE = 1e4
"""What a MiB that finds no room counts, beside slowdowns: a layout that has room is better than any that has not."""


class Given(NamedTuple):
    """What does not change during a search.

    Besides those above: `available` (N, MiB), `pull` (M x N: devices), `node`, `share` (E: node, share of the vCPUs),
    `same` (M x sets: a guest's candidate that is this set, -1 if none), `memory` (rows x N, MiB), `gather` and
    `members`: groups that move together, as where each begins, and its guests.
    """

    figures: Floats
    ways: Floats
    pools: Floats
    own: Floats
    pull: Floats
    costs: Floats
    share: Floats
    ties: Floats
    available: Integers
    guest: Integers
    candidate: Integers
    node: Integers
    pair: Integers
    same: Integers
    memory: Integers
    gather: Integers
    members: Integers


class State(NamedTuple):
    """Who is where, and the sums that follow from it, besides those above: `chosen` (M: candidate, -1 while a guest is
    out), `mib` (M x N), `shares` (M x N: of the vCPUs). `order`:
    guests as they are first put somewhere (M); `kept` (3 x M): room for choices; `random`: the generator's state."""

    shares: Floats
    sums: Floats
    ways: Floats
    nodes: Floats
    value: Floats
    chosen: Integers
    mib: Integers
    memory: Integers
    order: Integers
    kept: Integers
    random: Integers


class Search(NamedTuple):
    """A problem and a state in flat arrays: floats `f`, whole numbers `i`. Counts: `guests`, `nodes`, `groups` (that
    move together), `sets`, `rows` (M + 1), `marks` (C + 1), `candidates`, `pairs`, `nn` (N x N), `qn` (Q x N). `at_...`
    is where an array of `Given` or (from `at_shares` and `at_chosen` on) `State` begins."""

    f: Floats
    i: Integers
    guests: int
    nodes: int
    groups: int
    sets: int
    rows: int
    marks: int
    candidates: int
    pairs: int
    nn: int
    qn: int
    at_figures: int
    at_ways: int
    at_pools: int
    at_own: int
    at_pull: int
    at_costs: int
    at_share: int
    at_ties: int
    at_shares: int
    at_sums: int
    at_flows: int
    at_loads: int
    at_value: int
    at_available: int
    at_guest: int
    at_candidate: int
    at_node: int
    at_pair: int
    at_same: int
    at_memory: int
    at_gather: int
    at_members: int
    at_chosen: int
    at_mib: int
    at_room: int
    at_order: int
    at_kept: int
    at_random: int


def begun(given: Given) -> tuple[Search, State]:
    """A search in which nobody is placed and nothing worked out; the state's arrays are parts of its flat ones."""
    (_, guests), (_, pools, nodes) = given.own.shape, given.pools.shape
    floats: tuple[Floats, ...] = (*given[:8], np.zeros((guests, nodes)), np.zeros((6, pools, nodes)))
    floats = (*floats, np.zeros((3, nodes, nodes)), np.zeros((4, nodes)), np.zeros(5))
    empty, whole = np.full(guests, -1, dtype=np.int64), np.int64
    wholes: tuple[Integers, ...] = (*given[8:], empty, np.zeros((guests, nodes), whole), np.zeros((2, nodes), whole))
    wholes = (*wholes, np.arange(guests, dtype=whole), np.zeros((3, guests), whole), np.zeros(1, whole))
    f, at_floats = _flat(floats)
    i, at_wholes = _flat(wholes)
    search = Search(
        f,
        i,
        guests,
        nodes,
        len(given.gather) - 1,
        given.same.shape[1],
        given.guest.shape[1],
        given.candidate.shape[1],
        given.costs.shape[1],
        given.pair.shape[1],
        nodes * nodes,
        pools * nodes,
        *at_floats,
        *at_wholes,
    )
    parts: list[Any] = [_part(f, at, array) for at, array in zip(at_floats[8:], floats[8:], strict=True)]
    parts += [_part(i, at, array) for at, array in zip(at_wholes[9:], wholes[9:], strict=True)]
    return search, State(*parts)


def _flat(arrays: Sequence[npt.NDArray[Number]]) -> tuple[npt.NDArray[Number], list[int]]:
    """All in one, and where each begins."""
    ends = np.cumsum([0, *(array.size for array in arrays)])
    return np.concatenate([array.ravel() for array in arrays]), ends[:-1].tolist()


def _part(flat: npt.NDArray[Number], at: int, like: npt.NDArray[Number]) -> npt.NDArray[Number]:
    return flat[at : at + like.size].reshape(like.shape)
