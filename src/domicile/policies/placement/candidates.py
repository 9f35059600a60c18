"""Sets of nodes for a guest, and what each costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from domicile.performance.curves import Floats
from domicile.performance.field import Costs, Field, Trial
from domicile.policies.placement.memory import spread
from domicile.policies.placement.subject import Indices, Subject
from domicile.policies.placement.ties import Ties

__all__ = ["EXHAUSTIVE_NODES", "Batch", "SeatCosts", "Weighed", "every_set", "weigh"]

Members = npt.NDArray[np.bool_]
"""Which nodes of a row are in the set."""

EXHAUSTIVE_NODES = 8
"""All 255 sets of 8 nodes have their bounds in one array; from 9 nodes on sets are gone through by size (`bounded`)."""


@dataclass(frozen=True, slots=True)
class SeatCosts:
    """What a seat adds to the guest's slowdown, by term (`groups` is its own loss by distance to its peers); to the sum
    of everybody else's (`neighbours`); the wishes that are `missed`; and what it counts that it is `split`."""

    latency: float
    cpu: float
    bandwidth: float
    devices: float
    neighbours: float
    groups: float
    missed: float
    split: float

    @property
    def slowdown(self) -> float:
        """The guest's predicted slowdown."""
        return 1.0 + self.latency + self.cpu + self.bandwidth + self.devices + self.groups

    @property
    def of_all(self) -> float:
        """What it adds to the sum of all domains' slowdowns above 1: what a guest loses by distance to its peers, they
        lose too."""
        return self.slowdown - 1.0 + self.groups + self.neighbours

    @property
    def objective(self) -> float:
        """What it adds to what the search minimises."""
        return self.of_all + self.missed + self.split


@dataclass(frozen=True, slots=True)
class Weighed:
    """One candidate of a batch: MiB by node index (those with some), and its costs."""

    memory_mib: Mapping[int, float]
    costs: SeatCosts


@dataclass(frozen=True, eq=False)
class Batch:
    """K candidates of up to k nodes, weighed. `nodes`, `vcpus`, `memory` (MiB): K x k; `member`: which nodes of a row
    are in the set. `costs`, `ties` (own loss by groups), `wishes`, `split`: K; `objective`: K, inf where the set will
    not do.
    """

    nodes: Indices
    member: Members
    vcpus: Floats
    memory: Floats
    costs: Costs
    ties: Floats
    wishes: Floats
    split: Floats
    objective: Floats

    def sets(self, row: int) -> tuple[int, ...]:
        """The node indices of a candidate, ascending."""
        return tuple(sorted(self.nodes[row][self.member[row]].tolist()))

    def at(self, row: int) -> Weighed:
        """One candidate."""
        costs = self.costs
        found = (costs.latency, costs.cpu, costs.bandwidth, costs.devices, costs.neighbours)
        terms = (*found, self.ties, self.wishes, self.split)
        mib = zip(self.nodes[row].tolist(), self.memory[row].tolist(), strict=True)
        return Weighed({node: part for node, part in mib if part}, SeatCosts(*(float(term[row]) for term in terms)))


def weigh(
    subject: Subject,
    load: Field | Trial,
    ties: Ties,
    room_mib: Floats,
    nodes: Indices,
    member: Members | None = None,
) -> Batch:
    """Weigh K sets: `nodes` is K x k; `member` says which of a row count, all where it is None. `load` is a trial of
    the subject's newcomer, where it is at hand."""
    vcpus = subject.fixed.vcpu_share[nodes] if subject.fixed else subject.vcpu_shares(nodes, member)
    room = room_mib[nodes] if member is None else np.where(member, room_mib[nodes], 0.0)
    if subject.fixed and subject.fixed.reserve_mib:
        memory = np.broadcast_to(np.array(subject.fixed.reserve_mib, dtype=np.float64)[nodes], room.shape)
        memory = np.where((memory <= room).all(axis=1, keepdims=True), memory, np.nan)
    else:
        memory = spread(subject.need_mib, room)
    possible: Members = np.asarray(np.isfinite(vcpus + memory).all(axis=1), dtype=np.bool_)
    vcpus = np.where(possible[:, None], vcpus, 0.0)
    memory = np.where(possible[:, None], memory, 0.0)
    trial = load if isinstance(load, Trial) else Trial.of(load, subject.newcomer)
    costs = trial.costs(nodes, vcpus, memory / max(subject.need_mib, 1))
    own = ties.own(nodes, vcpus)
    wishes = ties.missed(nodes, vcpus)
    # what a guest loses by distance to its peers, they lose too
    split = subject.divided(vcpus)
    objective = np.where(possible, costs.total + 2.0 * own + wishes + split, np.inf)
    return Batch(
        nodes,
        np.ones(nodes.shape, dtype=bool) if member is None else member,
        vcpus,
        memory,
        costs,
        own,
        wishes,
        split,
        objective,
    )


def every_set(eligible: Indices) -> tuple[Indices, Members]:
    """All sets of these nodes but the empty one: nodes and membership for `weigh`."""
    member = _subsets(len(eligible))
    return np.broadcast_to(eligible, member.shape), member


@lru_cache(maxsize=32)
def _subsets(size: int) -> Members:
    numbers = np.arange(1, 2**size)
    return np.asarray((numbers[:, None] >> np.arange(size)) & 1, dtype=np.bool_)
