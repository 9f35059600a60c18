"""A problem as the arrays of the compiled search: every guest's candidates, and what they cost by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb

import numpy as np
import numpy.typing as npt

from domicile.performance.assumptions import Assumptions
from domicile.performance.curves import LEAST_BOUND, Floats
from domicile.performance.field import Field
from domicile.performance.newcomer import Newcomer
from domicile.policies.placement.afresh.core.arrays import APART, LOW, TOGETHER, Given, Integers
from domicile.policies.placement.layout import Problem, Seat
from domicile.policies.placement.subject import Subject
from domicile.policies.placement.ties import Membership, ties_of
from domicile.state.request import GroupKind

__all__ = ["Built", "Candidate", "build", "seats_of", "settled_field"]

EVERY_SET_OF = 8
"""All sets of so many nodes are candidates: 255."""

FEW_GUESTS = 16
"""For more guests than this, sets of three and more nodes are each node's nearest there too: faster, and what
wide sets could gain is lost among many guests."""

PAIRS_OF = 16
"""All pairs of so many nodes; of more, each node's nearest."""

MOVED = 0.005
"""What it counts, in slowdown, to move all memory of a domain that is on the host already: of equally good layouts, the
one that moves least, and nothing for a gain that nobody would notice."""

NEAREST = 4
"""Nodes that each is paired with where not all pairs are candidates."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A place of a guest: node indices ascending, share of vCPUs on each; `mib` on each where memory does not fall but
    lies there, and whether it lies there already."""

    nodes: tuple[int, ...]
    share: Floats
    mib: tuple[int, ...] | None = None
    there: bool = False


Candidates = Sequence[Candidate]


@dataclass(frozen=True, eq=False)
class Built:
    """The arrays, and each candidate that they stand for, in their order."""

    given: Given
    candidates: tuple[Candidate, ...]


def build(problem: Problem, homes: Mapping[int, Seat] | None = None) -> Built:
    """The arrays of a problem. `homes`: guests (indices) that are on the host already, and where: they may stay there
    as they are, and moving their memory counts a little (`MOVED`). Memory falls in the order of the guests.

    A guest without candidates has none in the arrays; see `Given.first`.
    """
    field = settled_field(problem)
    problem = replace(problem, subjects=tuple(replace(one, newcomer=_settled(one)) for one in problem.subjects))
    known: dict[bytes, _Sets] = {}
    by_guest = []
    for guest, subject in enumerate(problem.subjects):
        # most guests of a host may go to the same sets
        key = (
            b""
            if subject.fixed
            else b"/".join(map(bytes, (subject.eligible, subject.spread_weights, subject.spread_pcpus)))
        )
        if not key or key not in known:
            known[key] = _Sets.of(_candidates(problem, guest), field)
        parts = [known[key]]
        home = homes.get(guest) if homes else None
        if home is not None:
            parts.append(_Sets.of(_home(home), field))
        by_guest.append(_weighed(problem, field, guest, parts, home))
    return _packed(problem, field, by_guest)


def settled_field(problem: Problem) -> Field:
    """The load of the residents, with the accesses of guests that keep them to virtual nodes. The compiled search knows
    only accesses that are spread over all memory; but the place of these guests is fixed, memory too, so that their
    accesses are as settled as a resident's."""
    field = Field.of(problem.machine, problem.residents, problem.assumptions)
    for subject in problem.subjects:
        fixed, settled = subject.fixed, _settled(subject)
        if settled is not subject.newcomer and fixed and fixed.reserve_mib:
            memory = np.array(fixed.reserve_mib, dtype=np.float64) / max(subject.need_mib, 1)
            field = field.with_domain(subject.newcomer, fixed.vcpu_share, memory)
            field = field.with_domain(settled, fixed.vcpu_share, memory, -1)
    return field


def _settled(subject: Subject) -> Newcomer:
    """A guest as the compiled search takes it: without accesses, where they are in `settled_field`."""
    newcomer = subject.newcomer
    return replace(newcomer, memory_bound=0.0, traffic_gbs=0.0, own_share=0.0) if newcomer.own_share else newcomer


def seats_of(problem: Problem, built: Built, chosen: Integers, mib: Integers) -> tuple[Seat, ...]:
    """The seats of these choices, with memory as it falls (M x N, MiB)."""
    seats = []
    for guest, candidate in enumerate(built.candidates[c] for c in chosen):
        share = np.zeros(problem.machine.nodes)
        share[list(candidate.nodes)] = candidate.share
        seats.append(Seat(candidate.nodes, share, tuple(mib[guest].tolist())))
    return tuple(seats)


@dataclass(frozen=True, eq=False)
class _Sets:
    """K candidates of up to k nodes: `nodes`, `vcpus`, `member` (which of a row are in the set): K x k; `away`: latency
    over the best with all memory on one of them, K x k; `size`: K."""

    candidates: list[Candidate]
    nodes: Integers
    vcpus: Floats
    member: npt.NDArray[np.bool_]
    size: Integers
    away: Floats

    @classmethod
    def of(cls, candidates: list[Candidate], field: Field) -> _Sets:
        size = np.array([len(one.nodes) for one in candidates], dtype=np.int64)
        member = np.arange(max(size, default=0)) < size[:, None]
        nodes, vcpus = np.zeros(member.shape, dtype=np.int64), np.zeros(member.shape)
        nodes[member] = [node for one in candidates for node in one.nodes]
        vcpus[member] = [share for one in candidates for share in one.share]
        away = np.einsum("kn,knm->km", vcpus, field.relative[nodes[:, :, None], nodes[:, None, :]])
        return cls(candidates, nodes, vcpus, member, size, away)


def _home(seat: Seat) -> list[Candidate]:
    nodes = list(seat.nodes)
    return [Candidate(seat.nodes, seat.vcpu_share[nodes], tuple(seat.reserve_mib[node] for node in nodes), there=True)]


def _candidates(problem: Problem, guest: int) -> list[Candidate]:
    """Where a guest may go."""
    subject = problem.subjects[guest]
    if subject.fixed:
        nodes = subject.fixed.nodes
        reserve = subject.fixed.reserve_mib
        mib = tuple(reserve[node] for node in nodes) if reserve else None
        return [Candidate(tuple(nodes.tolist()), subject.fixed.vcpu_share[nodes], mib)]
    if not len(subject.eligible):
        return []
    found: list[Candidate] = []
    for nodes in _sets(subject.eligible, problem):
        shares = subject.vcpu_shares(nodes, np.ones(nodes.shape, dtype=np.bool_))
        found += [
            Candidate(tuple(row), share)
            for row, share in zip(nodes.tolist(), shares, strict=True)
            if np.isfinite(share).all()
        ]
    return found


def _sets(eligible: Integers, problem: Problem) -> Iterator[Integers]:
    """Sets of nodes, ascending in each, by size."""
    count = len(eligible)
    if count <= EVERY_SET_OF and len(problem.subjects) <= FEW_GUESTS:
        for size in range(1, count + 1):
            yield np.array(list(combinations(eligible.tolist(), size)), dtype=np.int64).reshape(comb(count, size), size)
        return
    yield eligible[:, None]
    # the nearest to each node, itself first
    order = eligible[np.argsort(problem.remote[np.ix_(eligible, eligible)], axis=1, kind="stable")]
    if count <= PAIRS_OF:
        yield np.array(list(combinations(eligible.tolist(), 2)), dtype=np.int64)
    else:
        pairs = np.array([(row[0], other) for row in order for other in row[1 : NEAREST + 1]], dtype=np.int64)
        yield np.unique(np.sort(pairs, axis=1), axis=0)
    for size in range(3, count + 1):
        yield np.unique(np.sort(order[:, :size], axis=1), axis=0)


def _weighed(
    problem: Problem, field: Field, guest: int, parts: Sequence[_Sets], home: Seat | None
) -> list[tuple[Candidate, Floats]]:
    """The candidates with `FREE`, `EVEN` and `LOW` of each, ascending by the last."""
    found = [one for sets in parts for one in sets.candidates]
    if not found:
        return []
    costs = np.concatenate([_costs(problem, field, guest, sets, home) for sets in parts if sets.candidates])
    return [(found[row], costs[row]) for row in np.argsort(costs[:, LOW], kind="stable")]


def _costs(problem: Problem, field: Field, guest: int, sets: _Sets, home: Seat | None) -> Floats:
    """`FREE`, `EVEN` and `LOW` of each candidate, K x 3."""
    subject, a = problem.subjects[guest], problem.assumptions
    newcomer, need = subject.newcomer, subject.need_mib
    nodes, vcpus, member = sets.nodes, sets.vcpus, sets.member
    fixed = np.array([one.mib is not None for one in sets.candidates])
    each, extra = need // sets.size[:, None], need % sets.size[:, None]
    memory = np.where(member, each + (np.arange(member.shape[1]) < extra), 0).astype(np.float64)
    for row in np.flatnonzero(fixed):
        memory[row, : sets.size[row]] = sets.candidates[row].mib
    memory /= np.maximum(memory.sum(axis=1, keepdims=True), 1.0)
    ties = ties_of(problem.groups[guest], problem.resident_shares, problem.remote, a)
    pull = newcomer.device_pull[nodes]
    alone = newcomer.bound(a) * (1.0 + newcomer.own_pressure(problem.machine, a))
    linear = (vcpus * pull).sum(axis=1) / 2.0 + 2.0 * ties.own(nodes, vcpus) - alone
    linear = linear + subject.divided(vcpus)
    if newcomer.allowed_pcpus is not None:
        free = field.try_sets(replace(newcomer, allowed_pcpus=None), nodes, vcpus, memory)
        linear = linear + field.try_sets(newcomer, nodes, vcpus, memory).cpu - free.cpu
    if ties.wishes:
        everywhere = np.broadcast_to(np.arange(problem.machine.nodes), (len(nodes), problem.machine.nodes))
        shares = np.zeros(everywhere.shape)
        np.add.at(shares, (np.arange(len(nodes))[:, None], nodes), vcpus)
        linear = linear + ties.missed(everywhere, shares)
    if home is not None:
        had = np.array(home.reserve_mib)[nodes] / max(need, 1)
        linear = linear + MOVED * np.where(member, np.maximum(memory - had, 0.0), 0.0).sum(axis=1)
    there = newcomer.bound(a) * sets.away + pull / 2.0
    even = linear + (there * memory).sum(axis=1)
    low = np.where(fixed, even, linear + np.where(member, there, np.inf).min(axis=1))
    return np.stack([linear, even, low], axis=1)


def _own(newcomer: Newcomer, a: Assumptions) -> tuple[float, ...]:
    """A column of `Given.own`."""
    weight, sends = newcomer.weight, newcomer.traffic(a) * newcomer.demand
    return newcomer.demand, weight, 1.0 / weight, newcomer.bound(a), sends


def _packed(problem: Problem, field: Field, by_guest: list[list[tuple[Candidate, Floats]]]) -> Built:
    machine, a = problem.machine, problem.assumptions
    subjects = problem.subjects
    candidates = [one for weighed in by_guest for one, _ in weighed]
    costs = np.array([costs for weighed in by_guest for _, costs in weighed]).reshape(len(candidates), 3)
    owner = np.repeat(np.arange(len(by_guest)), [len(weighed) for weighed in by_guest])
    numbers: dict[tuple[int, ...], int] = {}
    sets = [numbers.setdefault(one.nodes, len(numbers)) for one in candidates]
    same = np.full((len(subjects), max(len(numbers), 1)), -1, dtype=np.int64)
    fixed: list[int] = []
    rows: list[Integers] = []
    for index, one in enumerate(candidates):
        if not one.there:
            same[owner[index], sets[index]] = index
        fixed.append(len(rows) if one.mib is not None else -1)
        if one.mib is not None:
            row = np.zeros(machine.nodes, dtype=np.int64)
            row[list(one.nodes)] = one.mib
            rows.append(row)
    demand = field.demand.copy()
    for subject in subjects:
        demand[subject.newcomer.pool, 0] += subject.newcomer.demand
    full = np.broadcast_to(machine.fullness(demand), demand.shape)
    begins, pair, ties = _pairs(problem)
    gather, members = _gathered(problem)

    def floats(values: object) -> Floats:
        return np.ascontiguousarray(values, dtype=np.float64)

    def integers(values: object) -> Integers:
        return np.ascontiguousarray(values, dtype=np.int64)

    return Built(
        Given(
            figures=floats(
                [
                    a.smt_yield,
                    a.displaced,
                    a.company,
                    a.pressure_linear,
                    max(a.memory_bound, LEAST_BOUND),
                    field.constant,
                ]
            ),
            ways=floats([field.relative, machine.bandwidth_gbs, problem.remote, field.traffic, field.felt]),
            pools=floats(
                [
                    machine.cores,
                    machine.pcpus,
                    field.demand,
                    field.weight,
                    field.alone,
                    field.heavy,
                    field.light,
                    full,
                ]
            ),
            available=integers(problem.available_mib),
            own=floats([_own(subject.newcomer, a) for subject in subjects]).T.copy(),
            guest=integers(
                [
                    [*(subject.newcomer.pool for subject in subjects), 0],
                    [*(subject.need_mib for subject in subjects), 0],
                    [*range(len(subjects)), 0],
                    np.cumsum([0, *(len(weighed) for weighed in by_guest)]),
                    begins,
                ]
            ),
            pull=floats([subject.newcomer.device_pull for subject in subjects]).reshape(len(subjects), machine.nodes),
            candidate=integers(
                [
                    np.cumsum([0, *(len(one.nodes) for one in candidates)]),
                    [*fixed, -1],
                    [*(one.there for one in candidates), 0],
                    [*sets, -1],
                ]
            ),
            costs=floats(costs.T),
            node=integers([node for one in candidates for node in one.nodes]),
            share=floats([share for one in candidates for share in one.share]),
            pair=pair,
            ties=ties,
            same=same,
            memory=integers(rows).reshape(len(rows), machine.nodes),
            gather=gather,
            members=members,
        ),
        tuple(candidates),
    )


def _memberships(problem: Problem) -> Iterator[tuple[int, int, Membership]]:
    """Each guest's pairs with other guests, by group."""
    number = {subject.request.name: guest for guest, subject in enumerate(problem.subjects)}
    for guest, memberships in enumerate(problem.groups):
        for membership in memberships:
            yield from ((guest, number[peer], membership) for peer in membership.peers if peer in number)


def _pairs(problem: Problem) -> tuple[Integers, Integers, Floats]:
    """Where each guest's pairs begin, `Given.pair` and `Given.ties`; both sides of a pair are counted in either's."""
    a = problem.assumptions
    found = list(_memberships(problem))
    begins = np.searchsorted([guest for guest, _, _ in found], np.arange(len(problem.subjects) + 1))
    kinds = {GroupKind.NEAR: 0, GroupKind.TOGETHER: TOGETHER, GroupKind.APART: APART}
    pair = [(peer, kinds[one.group.kind]) for _, peer, one in found]
    each = [one.group.weight / len(one.peers) for _, _, one in found]
    ties = [
        (0.0 if kind == APART else 2.0 * a.near_weight * part, 2.0 * a.wish_weight * part)
        for (_, kind), part in zip(pair, each, strict=True)
    ]
    return (
        begins.astype(np.int64),
        np.ascontiguousarray(np.array(pair, dtype=np.int64).reshape(-1, 2).T),
        np.ascontiguousarray(np.array(ties, dtype=np.float64).reshape(-1, 2).T),
    )


def _gathered(problem: Problem) -> tuple[Integers, Integers]:
    """Guests that may want to move together: the groups that are not apart."""
    groups: dict[str, set[int]] = {}
    for guest, peer, membership in _memberships(problem):
        if membership.group.kind is not GroupKind.APART:
            groups.setdefault(membership.group.name, set()).update((guest, peer))
    lists = [sorted(groups[name]) for name in sorted(groups)]
    begins = np.cumsum([0, *map(len, lists)]).astype(np.int64)
    return begins, np.array([guest for members in lists for guest in members], dtype=np.int64)
