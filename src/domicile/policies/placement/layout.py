"""The state of a search: which guests are placed where, the load and the free memory that follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from domicile.performance.assumptions import Assumptions
from domicile.performance.curves import Floats
from domicile.performance.field import Field, Trial
from domicile.performance.machine import Machine
from domicile.performance.tenants import Tenants
from domicile.performance.ties import group_pull, group_wish, remoteness
from domicile.policies.placement.candidates import Weighed
from domicile.policies.placement.memory import spread_whole
from domicile.policies.placement.subject import Subject
from domicile.policies.placement.ties import Membership, Ties, ties_of

__all__ = ["Choice", "Layout", "Problem", "Seat"]


@dataclass(frozen=True, eq=False)
class Problem:
    """What does not change during a search: the machine, who is there already, the guests to be placed, their groups
    (one entry a guest) and the memory that may be used on each node (N, MiB)."""

    machine: Machine
    assumptions: Assumptions
    residents: Tenants
    subjects: tuple[Subject, ...]
    groups: tuple[tuple[Membership, ...], ...]
    available_mib: tuple[int, ...]
    remote: Floats = field(init=False)
    resident_shares: Mapping[str, Floats] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "remote", remoteness(self.machine))
        where = dict(zip(self.residents.names, self.residents.vcpu_share, strict=True))
        object.__setattr__(self, "resident_shares", where)


@dataclass(frozen=True, slots=True)
class Choice:
    """A set of node indices, and what a guest there adds to the objective; its terms where they are kept."""

    nodes: tuple[int, ...]
    objective: float
    weighed: Weighed | None = None


@dataclass(frozen=True, eq=False)
class Seat:
    """Where a guest is: node indices, vCPU shares (N), memory with overhead in MiB (N)."""

    nodes: tuple[int, ...]
    vcpu_share: Floats
    reserve_mib: tuple[int, ...]

    @property
    def memory_share(self) -> Floats:
        """Share of its memory on each node (N)."""
        reserve = np.array(self.reserve_mib, dtype=np.float64)
        return np.asarray(reserve / max(reserve.sum(), 1.0), dtype=np.float64)


Change = tuple[int, Seat, int]
"""A guest and its seat: 1 if it takes it, -1 if it gives it up."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Seats of the guests placed so far (None: not yet), with the free memory (N, MiB) that is left."""

    problem: Problem
    seats: tuple[Seat | None, ...]
    free_mib: tuple[int, ...]
    before: Field = field(repr=False)
    """The load before the last change."""
    change: Change | None = field(default=None, repr=False)
    last: Layout | None = field(default=None, repr=False)
    """The layout that this one has one guest more than: going back to it is exact, and what it worked out is kept."""
    ranked: dict[int, list[Choice]] = field(default_factory=dict, repr=False)
    """The best sets for a guest, once `search.choices` has worked them out."""
    trials: dict[int, Trial] = field(default_factory=dict, repr=False)

    @classmethod
    def empty(cls, problem: Problem) -> Layout:
        """Nobody placed yet."""
        load = Field.of(problem.machine, problem.residents, problem.assumptions)
        return cls(problem, (None,) * len(problem.subjects), problem.available_mib, load)

    @cached_property
    def load(self) -> Field:
        """The load of all who are there: worked out when it is asked for, since a last seat is only looked at."""
        if self.change is None:
            return self.before
        guest, seat, sign = self.change
        newcomer = self.problem.subjects[guest].newcomer
        return self.before.with_domain(newcomer, seat.vcpu_share, seat.memory_share, sign)

    def trial(self, guest: int) -> Trial:
        """A guest that has no seat in this layout, about to be tried."""
        if guest not in self.trials:
            self.trials[guest] = Trial.of(self.load, self.problem.subjects[guest].newcomer)
        return self.trials[guest]

    def room_mib(self) -> Floats:
        """Free memory on each node (N)."""
        return np.array(self.free_mib, dtype=np.float64)

    def ties(self, guest: int) -> Ties:
        """What the groups of a guest ask of its place, by the peers that are placed now."""
        groups = self.problem.groups[guest]
        return ties_of(groups, self._where() if groups else {}, self.problem.remote, self.problem.assumptions)

    def seat_for(self, guest: int, nodes: Sequence[int]) -> Seat | None:
        """The seat on exactly these nodes (indices), None where it has no room or no CPU there."""
        subject, size = self.problem.subjects[guest], self.problem.machine.nodes
        if subject.fixed:
            vcpus = subject.fixed.vcpu_share
        else:
            inside = np.array(nodes, dtype=np.intp)
            vcpus = np.zeros(size)
            vcpus[inside] = subject.vcpu_shares(inside[None])[0]
        if np.isnan(vcpus).any():
            return None
        reserve = self._reserve(subject, nodes)
        return Seat(tuple(sorted(nodes)), vcpus, reserve) if reserve else None

    def _reserve(self, subject: Subject, nodes: Sequence[int]) -> tuple[int, ...] | None:
        if subject.fixed and subject.fixed.reserve_mib:
            wanted = subject.fixed.reserve_mib
            return wanted if all(n <= f for n, f in zip(wanted, self.free_mib, strict=True)) else None
        parts = spread_whole(subject.need_mib, [self.free_mib[node] for node in nodes])
        if parts is None:
            return None
        reserve = [0] * self.problem.machine.nodes
        for node, part in zip(nodes, parts, strict=True):
            reserve[node] = part
        return tuple(reserve)

    def seated(self, guest: int, seat: Seat) -> Layout:
        """This layout with one more guest."""
        return self._changed(guest, seat, seat, 1)

    def prepared(self, guest: int, subject: Subject) -> Layout:
        """The same layout with a guest that has no seat prepared otherwise."""
        subjects = self.problem.subjects
        problem = replace(self.problem, subjects=(*subjects[:guest], subject, *subjects[guest + 1 :]))
        return Layout(problem, self.seats, self.free_mib, self.load)

    def without(self, guest: int) -> Layout:
        """This layout with one guest less; the same if it has no seat."""
        seat = self.seats[guest]
        if seat is None:
            return self
        if self.last is not None and self.last.seats[guest] is None:
            return self.last
        return self._changed(guest, None, seat, -1)

    def _changed(self, guest: int, now: Seat | None, seat: Seat, sign: int) -> Layout:
        seats = (*self.seats[:guest], now, *self.seats[guest + 1 :])
        free = tuple(mib - sign * part for mib, part in zip(self.free_mib, seat.reserve_mib, strict=True))
        last = self if sign > 0 else None
        return Layout(self.problem, seats, free, self.load, (guest, seat, sign), last)

    def _where(self) -> dict[str, Floats]:
        """vCPU shares by name, of residents and of the guests placed so far."""
        where = dict(self.problem.resident_shares)
        for subject, seat in zip(self.problem.subjects, self.seats, strict=True):
            if seat is not None:
                where[subject.request.name] = seat.vcpu_share
        return where

    def group_costs(self) -> tuple[float, float]:
        """Over all groups with a guest to be placed: what their members lose by distance, and the wishes not met."""
        where = self._where()
        lost = wishes = 0.0
        a = self.problem.assumptions
        names = [subject.request.name for subject in self.problem.subjects]
        for name, groups in zip(names, self.problem.groups, strict=True):
            if name not in where:
                continue
            for membership in groups:
                placed = [peer for peer in membership.peers if peer in where]
                if not placed:
                    continue
                group, peers = membership.group, len(membership.peers)
                for peer in placed:
                    # a pair of newcomers is met from both sides: half of it each time
                    part = 0.5 if peer in names else 1.0
                    shares = where[peer][None]
                    missed = float(group_wish(group.kind, where[name], shares).sum())
                    wishes += part * 2.0 * a.wish_weight * group.weight * missed / peers
                    if group.kind is not group.kind.APART:
                        pull = group_pull(self.problem.remote, shares, group.weight, peers, a)
                        lost += 2.0 * part * float(pull @ where[name])
        return lost, wishes

    @cached_property
    def objective(self) -> float:
        """What the search minimises: the sum over all domains of slowdown above 1, the wishes not met, and what it
        counts that guests are split."""
        lost, wishes = self.group_costs()
        seats = zip(self.problem.subjects, self.seats, strict=True)
        split = [subject.divided(seat.vcpu_share[None]) for subject, seat in seats if seat is not None]
        return self.load.total + lost + wishes + float(np.sum(split))

    @property
    def mean_slowdown(self) -> float:
        """Predicted slowdown, on average over all domains there are."""
        lost, _ = self.group_costs()
        return 1.0 + (self.load.total + lost) / max(self.load.domains, 1)
