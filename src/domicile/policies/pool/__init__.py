"""Placement over a pool: many guests, one after the other, each to the host and the nodes where it costs least.

The objective is that of placement on one host: what the newcomer adds to the sum of the predicted slowdowns of all
domains (`performance.field`), here over all hosts of the pool. What is simpler than on one host: guests have no
devices, groups, affinities, cpupools or vNUMA of their own; who is there is known by node, not by domain; on hosts of
more than four nodes not every set of nodes is weighed (`candidates`); and no guest is moved for a later one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from domicile.performance.assumptions import DEFAULT, Assumptions
from domicile.policies.pool.arrays import Kinds, Work, constants_of, pool_arrays, shapes_of
from domicile.policies.pool.model import Integers, PoolGuest, PoolHost, PoolPlan, Refusal

__all__ = ["PoolGuest", "PoolHost", "PoolPlan", "Refusal", "place_in_pool"]

AT_ONCE = 500
"""Guests placed between two reports."""


def place_in_pool(
    hosts: Sequence[PoolHost],
    guests: Sequence[PoolGuest],
    *,
    tell: Callable[[int], None] = lambda _: None,
    assumptions: Assumptions = DEFAULT,
) -> PoolPlan:
    """Place all guests in their order; `tell` is told now and then how many are placed. Neither may be empty."""
    # imported here: Numba takes a second to import
    from domicile.policies.pool.tournament import Found, Trees, begin, place_some, settle  # noqa: PLC0415

    constants = constants_of(assumptions)
    machines, kinds, state = pool_arrays(hosts, assumptions)
    shapes, shape_of = shapes_of(guests, machines, assumptions)
    needs = np.array([guest.need_mib for guest in guests], dtype=np.int64)
    most_nodes = int(kinds.nodes.max())
    trees = Trees.of(len(shapes.demand), len(hosts), len(guests))
    found, work = Found.room(len(guests), most_nodes), Work.room(most_nodes)
    for shape in range(len(shapes.demand)):
        begin(kinds, state, constants, shapes, shape, trees, work)
        tell(0)
    for first in range(0, len(guests), AT_ONCE):
        span = (first, min(first + AT_ONCE, len(guests)))
        place_some(kinds, state, constants, shapes, shape_of, needs, span, trees, found, work)
        tell(span[1])
    slowdown = settle(kinds, state, constants, shapes, shape_of, needs, found, work)
    member, memory = _by_node(kinds, found.chosen, found.part)
    refusals = tuple(Refusal(int(g), int(found.most[g]), int(found.most_at[g])) for g in np.flatnonzero(found.host < 0))
    return PoolPlan(found.host, member, memory, found.objective, slowdown, refusals, int(trees.counted[1]))


def _by_node(kinds: Kinds, chosen: Integers, part: Integers) -> tuple[npt.NDArray[np.bool_], Integers]:
    """Membership and memory by node index instead of by position in the set."""
    member = np.zeros(part.shape, dtype=np.bool_)
    memory = np.zeros_like(part)
    first = kinds.member_at[np.maximum(chosen, 0)]
    sizes = np.where(chosen >= 0, kinds.member_at[np.maximum(chosen, 0) + 1] - first, 0)
    for position in range(part.shape[1]):
        rows = np.flatnonzero(sizes > position)
        nodes = kinds.member[first[rows] + position]
        member[rows, nodes] = True
        memory[rows, nodes] = part[rows, position]
    return member, memory
