"""Which sets of nodes are worth a look, and what each costs.

All of them up to `EXHAUSTIVE_NODES` nodes. Beyond, all single nodes and all sets of a size that has few enough; wider
sets are grown from every node by the node that adds least, and the best is bettered by exchanging, adding and dropping
nodes (`widest`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np
import numpy.typing as npt

from domicile.performance.curves import Floats
from domicile.performance.field import Costs, Field
from domicile.policies.placement.memory import spread
from domicile.policies.placement.subject import Indices, Subject
from domicile.policies.placement.ties import Ties

__all__ = ["EXHAUSTIVE_NODES", "Batch", "every_set", "small_sets", "weigh"]

Members = npt.NDArray[np.bool_]
"""Which nodes of a row are in the set."""

EXHAUSTIVE_NODES = 8
"""All 255 sets of 8 nodes are one array call; from 9 nodes on sets are looked at by size."""

SETS_OF_A_SIZE = 2100
"""All sets of a size are tried if there are no more than this: all pairs of 64 nodes are 2016."""


@dataclass(frozen=True, eq=False)
class Batch:
    """K candidates of up to k nodes, weighed. `nodes`, `vcpus`, `memory` (MiB): K x k; `member`: which nodes of a row
    are in the set. `costs`, `ties` (own loss by groups), `wishes`: K; `objective`: K, inf where the set will not do.
    """

    nodes: Indices
    member: Members
    vcpus: Floats
    memory: Floats
    costs: Costs
    ties: Floats
    wishes: Floats
    objective: Floats

    def sets(self, row: int) -> tuple[int, ...]:
        """The node indices of a candidate, ascending."""
        return tuple(sorted(self.nodes[row][self.member[row]].tolist()))


def weigh(
    subject: Subject,
    field: Field,
    ties: Ties,
    room_mib: Floats,
    nodes: Indices,
    member: Members | None = None,
) -> Batch:
    """Weigh K sets: `nodes` is K x k; `member` says which of a row count, all where it is None."""
    if member is None:
        member = np.ones(nodes.shape, dtype=bool)
    vcpus = subject.fixed.vcpu_share[nodes] if subject.fixed else subject.vcpu_shares(nodes, member)
    room = np.where(member, room_mib[nodes], 0.0)
    if subject.fixed and subject.fixed.reserve_mib:
        memory = np.broadcast_to(np.array(subject.fixed.reserve_mib, dtype=np.float64)[nodes], room.shape)
        memory = np.where((memory <= room).all(axis=1, keepdims=True), memory, np.nan)
    else:
        memory = spread(subject.need_mib, room)
    possible: Members = np.asarray(np.isfinite(vcpus + memory).all(axis=1), dtype=np.bool_)
    vcpus = np.where(possible[:, None], vcpus, 0.0)
    memory = np.where(possible[:, None], memory, 0.0)
    costs = field.try_sets(subject.newcomer, nodes, vcpus, memory / max(subject.need_mib, 1))
    own = ties.own(nodes, vcpus)
    wishes = ties.missed(nodes, vcpus)
    # what a guest loses by distance to its peers, they lose too
    objective = np.where(possible, costs.total + 2.0 * own + wishes, np.inf)
    return Batch(nodes, member, vcpus, memory, costs, own, wishes, objective)


def every_set(eligible: Indices) -> tuple[Indices, Members]:
    """All sets of these nodes but the empty one: nodes and membership for `weigh`."""
    member = _subsets(len(eligible))
    return np.broadcast_to(eligible, member.shape), member


@lru_cache(maxsize=32)
def _subsets(size: int) -> Members:
    numbers = np.arange(1, 2**size)
    return np.asarray((numbers[:, None] >> np.arange(size)) & 1, dtype=np.bool_)


def small_sets(eligible: Indices) -> Iterator[Indices]:
    """All sets of one node, and of each further size that has few enough."""
    for size in range(1, len(eligible) + 1):
        if size > 1 and comb(len(eligible), size) > SETS_OF_A_SIZE:
            return
        yield eligible[_combinations(len(eligible), size)]


@lru_cache(maxsize=32)
def _combinations(nodes: int, size: int) -> Indices:
    return np.array(list(combinations(range(nodes), size)), dtype=np.intp)
