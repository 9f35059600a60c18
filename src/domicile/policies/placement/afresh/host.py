"""The whole host laid out again: residents that can move, together with newcomers, if any.

What stays where it is, and why: Dom0, domains with hard affinity (the administrator's, never overridden), with devices
passed through (their memory is mapped for DMA), with a virtual topology, under construction, and those of whose memory
no map was taken. All others may stay as they are or go to any set of nodes. A plan only: in which order domains are
moved, and through which room, is the manager's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from domicile.errors import BadInput
from domicile.performance.assumptions import DEFAULT, Assumptions
from domicile.performance.curves import Floats
from domicile.performance.field import Field
from domicile.performance.machine import Machine
from domicile.performance.newcomer import Newcomer
from domicile.performance.predict import predict
from domicile.performance.remembered import remembered_machine
from domicile.performance.tenants import Tenants
from domicile.performance.ties import group_pull
from domicile.policies.effort import Effort
from domicile.policies.known import known_tenants
from domicile.policies.placement.afresh.build import Built, build
from domicile.policies.placement.afresh.core.arrays import FIRST, Integers
from domicile.policies.placement.afresh.few import FEW, rearranged
from domicile.policies.placement.layout import Layout, Problem, Seat
from domicile.policies.placement.subject import Subject, prepare
from domicile.policies.placement.ties import memberships
from domicile.state.model import PAGES_PER_MIB, Domain, DomainType, Snapshot
from domicile.state.request import DevicePolicy, Group, GroupKind, GuestRequest, Intent

__all__ = ["AfreshPlan", "Place", "afresh_problem", "lay_out_afresh", "why_it_stays"]


@dataclass(frozen=True, slots=True)
class Place:
    """A domain in the plan. `before` is None for a newcomer; nodes are those of its vCPUs or its memory.

    `soft_affinity` is what it should get, None where nothing changes; `memory_mib` by node, as it should be; `move_mib`
    how much of it is elsewhere now. `stays` says why it may not move, "" where it may.
    """

    domain: str
    before: tuple[int, ...] | None
    after: tuple[int, ...]
    soft_affinity: frozenset[int] | None
    memory_mib: Mapping[int, int]
    move_mib: int
    slowdown_before: float | None
    slowdown_after: float
    stays: str = ""

    @property
    def moves(self) -> bool:
        """Whether it is there already and is to be elsewhere."""
        return self.soft_affinity is not None and self.before is not None


@dataclass(frozen=True, slots=True)
class AfreshPlan:
    """All domains of the host and newcomers. The means and the worst are over residents before, over all after;
    objectives are the sum of slowdowns above 1, with wishes not met."""

    places: tuple[Place, ...]
    objective_before: float
    objective_after: float
    starts: int

    @property
    def move_mib(self) -> int:
        """Memory that would have to move."""
        return sum(place.move_mib for place in self.places)

    @property
    def gain(self) -> float | None:
        """By what share the slowdowns of all who are there already fall in sum (below 0: newcomers cost them more than
        moving gains); None where nobody is there."""
        pairs = [(one.slowdown_before, one.slowdown_after) for one in self.places if one.slowdown_before is not None]
        return 1.0 - sum(after for _, after in pairs) / sum(before for before, _ in pairs) if pairs else None

    @property
    def before(self) -> tuple[float, ...]:
        """Predicted slowdowns now."""
        return tuple(place.slowdown_before for place in self.places if place.slowdown_before is not None)

    @property
    def after(self) -> tuple[float, ...]:
        """Predicted slowdowns then."""
        return tuple(place.slowdown_after for place in self.places)


def why_it_stays(snapshot: Snapshot, domain: Domain, pool_cpus: frozenset[int]) -> str:
    """Why a domain cannot be moved, "" if it can."""
    reasons = {
        "Dom0": domain.id == 0,
        "is being created": any(reservation.domain == domain.name for reservation in snapshot.reservations),
        "virtual topology": bool(domain.vnodes),
        "devices passed through": bool(domain.devices),
        "hard affinity": any(vcpu.online and not pool_cpus <= vcpu.hard_affinity for vcpu in domain.vcpus),
        "no memory map": not domain.pages_by_node,
        "no vCPU online": not any(vcpu.online for vcpu in domain.vcpus),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def lay_out_afresh(
    snapshot: Snapshot,
    requests: Sequence[GuestRequest] = (),
    intent: Intent = Intent(),  # noqa: B008 - immutable
    *,
    load: Mapping[str, float] | None = None,
    effort: Effort = Effort(),  # noqa: B008 - immutable
    assumptions: Assumptions = DEFAULT,
) -> AfreshPlan:
    """Lay the host out again, with these newcomers. The snapshot needs a memory map.

    Raises `BadInput` as `place` does and where nothing can move, `NoWay` where the newcomers find no room however the
    others move.
    """
    problem, homes, stays = afresh_problem(snapshot, requests, intent, load=load, assumptions=assumptions)
    if not problem.subjects:
        raise BadInput("arrange", "no domain of this host can move, and there is no newcomer")
    if effort.usual and len(problem.subjects) <= FEW:
        layout, starts = rearranged(problem, homes), 2
    else:
        layout, starts = _searched(problem, homes, effort)
    everybody = known_tenants(problem.machine, snapshot, intent, load or {}, assumptions)
    return AfreshPlan(
        places=_places(snapshot, layout, homes, stays, everybody, intent.groups),
        objective_before=_before(problem, homes),
        objective_after=layout.objective,
        starts=starts,
    )


def afresh_problem(
    snapshot: Snapshot,
    requests: Sequence[GuestRequest],
    intent: Intent,
    *,
    load: Mapping[str, float] | None = None,
    assumptions: Assumptions = DEFAULT,
) -> tuple[Problem, dict[int, Seat], dict[str, str]]:
    """The problem of all that can move and of the newcomers, in this order; where the former are now, by index; and
    why others stay, by name."""
    machine = remembered_machine(snapshot.topology, snapshot.cpupools, assumptions)
    there = known_tenants(machine, snapshot, intent, load or {}, assumptions)
    stated = {character.domain: character for character in intent.domains}
    cpus = {
        name: frozenset(np.flatnonzero(machine.pool_of_cpu == row).tolist()) for row, name in enumerate(machine.pools)
    }
    stays = {one.name: why_it_stays(snapshot, one, cpus.get(one.cpupool, frozenset())) for one in snapshot.domains}
    movable = [row for row, one in enumerate(snapshot.domains) if not stays[one.name]]
    names = [there.names[row] for row in movable] + [request.name for request in requests]
    _require_different(requests, there)
    subjects: list[Subject] = []
    homes: dict[int, Seat] = {}
    available = [snapshot.available_mib(node) for node in snapshot.topology.node_ids]
    for row in movable:
        domain = snapshot.domains[row]
        seat = _seat(machine, domain, there.vcpu_share[row])
        request, character = _as_request(domain), stated.get(domain.name)
        subject = prepare(machine, snapshot, request, DevicePolicy.IGNORED, load or {}, assumptions, character)
        newcomer = replace(subject.newcomer, demand=float(there.demand[row]))
        homes[len(subjects)] = seat
        subjects.append(replace(subject, newcomer=newcomer))
        available = [have + mib for have, mib in zip(available, seat.reserve_mib, strict=True)]
    subjects += [
        prepare(machine, snapshot, one, intent.devices, load or {}, assumptions, stated.get(one.name))
        for one in requests
    ]
    known = frozenset(there.names) | frozenset(names)
    problem = Problem(
        machine=machine,
        assumptions=assumptions,
        residents=_rows(there, [row for row in range(len(there.names)) if row not in set(movable)]),
        subjects=tuple(subjects),
        groups=tuple(memberships(name, intent.groups, known) for name in names),
        available_mib=tuple(available),
    )
    return problem, homes, {name: reason for name, reason in stays.items() if reason}


def _require_different(requests: Sequence[GuestRequest], there: Tenants) -> None:
    for position, request in enumerate(requests):
        if request.name in there.names or request.name in [other.name for other in requests[:position]]:
            raise BadInput(request.source or request.name, f"more than one domain is called {request.name!r}")


def _seat(machine: Machine, domain: Domain, vcpu_share: Floats) -> Seat:
    """Where a domain is now, its memory in whole MiB of each node."""
    index = machine.topology.node_index
    mib = np.zeros(machine.nodes, dtype=np.int64)
    for node, pages in (domain.pages_by_node or {}).items():
        if node in index:
            mib[index[node]] = pages // PAGES_PER_MIB
    nodes = np.flatnonzero((vcpu_share > 0) | (mib > 0))
    return Seat(tuple(nodes.tolist()), vcpu_share, tuple(mib.tolist()))


def _as_request(domain: Domain) -> GuestRequest:
    """A resident as if it came anew. What is left of pages beyond whole MiB needs one MiB more on each node."""
    pages = domain.pages_by_node or {}
    whole = sum(count // PAGES_PER_MIB for count in pages.values())
    rest = sum(count % PAGES_PER_MIB > 0 for count in pages.values())
    online = sum(vcpu.online for vcpu in domain.vcpus)
    return GuestRequest(
        name=domain.name,
        type=domain.type or DomainType.PVH,
        vcpus=online,
        max_vcpus=len(domain.vcpus),
        memory_mib=whole,
        max_memory_mib=max(domain.max_memory_mib, whole),
        overhead_mib=rest,
        cpupool=domain.cpupool,
        weight=domain.weight,
        cap_percent=domain.cap_percent,
        uuid=domain.uuid,
    )


def _rows(tenants: Tenants, rows: Sequence[int]) -> Tenants:
    """Some of them."""
    chosen = np.array(rows, dtype=np.intp)
    return Tenants(
        tuple(tenants.names[row] for row in rows),
        tenants.demand[chosen],
        tenants.vcpu_share[chosen],
        tenants.memory_share[chosen],
        tenants.device_share[chosen],
        tenants.pool[chosen],
        tenants.confined[chosen],
        *(
            None if each is None else each[chosen]
            for each in (tenants.weight, tenants.memory_bound, tenants.traffic_gbs, tenants.own_share)
        ),
    )


def _searched(problem: Problem, homes: Mapping[int, Seat], effort: Effort) -> tuple[Layout, int]:
    """The layout of the compiled search, which is imported when it is used, and how many starts it took."""
    from domicile.policies.placement.afresh.search import layout_of, searched  # noqa: PLC0415

    built = build(problem, homes)
    found = searched(problem, built, effort, _at_home(built, homes, len(problem.subjects)))
    return layout_of(problem, built, found), found.starts


def _at_home(built: Built, homes: Mapping[int, Seat], guests: int) -> Integers:
    """The choices in which everybody stays; -1 for newcomers."""
    known = np.full(guests, -1, dtype=np.int64)
    first = built.given.guest[FIRST]
    for guest in homes:
        known[guest] = next(c for c in range(first[guest], first[guest + 1]) if built.candidates[c].there)
    return known


def _before(problem: Problem, homes: Mapping[int, Seat]) -> float:
    layout = Layout.empty(problem)
    for guest, seat in homes.items():
        layout = layout.seated(guest, seat)
    return layout.objective


def _places(
    snapshot: Snapshot,
    layout: Layout,
    homes: Mapping[int, Seat],
    stays: Mapping[str, str],
    everybody: Tenants,
    groups: Sequence[Group],
) -> tuple[Place, ...]:
    problem, assumptions = layout.problem, layout.problem.assumptions
    machine, ids = problem.machine, problem.machine.topology.node_ids
    number = {subject.request.name: guest for guest, subject in enumerate(problem.subjects)}
    before = predict(machine, everybody, assumptions).slowdown
    slowdown_before = _with_distance(problem, groups, everybody, before)
    after = _slowdowns(layout, groups)
    domains = {domain.name: domain for domain in snapshot.domains}
    places = []
    for name in (*everybody.names, *(name for name in number if name not in everybody.names)):
        row = everybody.names.index(name) if name in everybody.names else None
        home = None
        if row is not None:
            home = np.flatnonzero((everybody.vcpu_share[row] > 0) | (everybody.memory_share[row] > 0))
        guest = number.get(name)
        seat = layout.seats[guest] if guest is not None else None
        if guest is None or seat is None or _is_home(seat, homes.get(guest)):
            nodes = tuple(ids[node] for node in home) if home is not None else ()
            mib = domains[name].memory_by_node_mib if name in domains else None
            places.append(
                Place(
                    name, nodes, nodes, None, mib or {}, 0, slowdown_before.get(name), after[name], stays.get(name, "")
                )
            )
            continue
        old = homes[guest].reserve_mib if guest in homes else None
        moved = sum(max(new - had, 0) for new, had in zip(seat.reserve_mib, old, strict=True)) if old else 0
        affinity = problem.subjects[guest].soft_affinity(machine, seat.nodes)
        places.append(
            Place(
                domain=name,
                before=tuple(ids[node] for node in home) if home is not None else None,
                after=tuple(ids[node] for node in seat.nodes),
                soft_affinity=frozenset().union(*affinity),
                memory_mib={ids[node]: mib for node, mib in enumerate(seat.reserve_mib) if mib},
                move_mib=moved,
                slowdown_before=slowdown_before.get(name),
                slowdown_after=after[name],
            )
        )
    return tuple(places)


def _is_home(seat: Seat, home: Seat | None) -> bool:
    """Whether nothing changes for a domain."""
    return (
        home is not None and seat.reserve_mib == home.reserve_mib and bool((seat.vcpu_share == home.vcpu_share).all())
    )


def _slowdowns(layout: Layout, groups: Sequence[Group]) -> dict[str, float]:
    """What is predicted of everybody, by the definition and not by the search's sums."""
    problem, there, a = layout.problem, layout.problem.residents, layout.problem.assumptions
    seats = [seat for seat in layout.seats if seat is not None]
    newcomers = [subject.newcomer for subject in problem.subjects]
    tenants = Tenants(
        (*there.names, *(subject.request.name for subject in problem.subjects)),
        np.concatenate([there.demand, [one.demand for one in newcomers]]),
        np.concatenate([there.vcpu_share, [seat.vcpu_share for seat in seats]]),
        np.concatenate([there.memory_share, [seat.memory_share for seat in seats]]),
        np.concatenate([there.device_share, np.zeros((len(seats), problem.machine.nodes))]),
        np.concatenate([there.pool, [one.pool for one in newcomers]]).astype(np.intp),
        np.concatenate([there.confined, np.zeros(len(seats))]),
        _both(there.weight, 1.0, there, [one.weight for one in newcomers]),
        _both(there.memory_bound, a.memory_bound, there, [one.bound(a) for one in newcomers]),
        _both(there.traffic_gbs, a.traffic_gbs, there, [one.traffic(a) for one in newcomers]),
        _both(there.own_share, 0.0, there, [one.own_share for one in newcomers]),
    )
    own = [_own(problem, one, seat) for one, seat in zip(newcomers, seats, strict=True)]
    slowdown = predict(problem.machine, tenants, problem.assumptions).slowdown
    return _with_distance(problem, groups, tenants, slowdown + np.array([0.0] * len(there.names) + own))


def _both(known: Floats | None, usual: float, there: Tenants, newcomers: list[float]) -> Floats:
    """A figure of those who are there (the usual one for all, where none is known) and of the guests."""
    return np.concatenate([np.full(len(there.names), usual) if known is None else known, newcomers])


def _with_distance(problem: Problem, groups: Sequence[Group], tenants: Tenants, slowdown: Floats) -> dict[str, float]:
    """Slowdowns by name, with what each domain loses by distance to the members of its groups."""
    row = {name: index for index, name in enumerate(tenants.names)}
    found = {}
    for name, index in row.items():
        lost = 0.0
        for one in memberships(name, groups, frozenset(row)):
            if one.group.kind is not GroupKind.APART:
                peers = tenants.vcpu_share[[row[peer] for peer in one.peers]]
                pull = group_pull(problem.remote, peers, one.group.weight, len(peers), problem.assumptions)
                lost += float(pull @ tenants.vcpu_share[index])
        found[name] = float(slowdown[index]) + lost
    return found


def _own(problem: Problem, newcomer: Newcomer, seat: Seat) -> float:
    """What a guest loses by its devices and its hard affinity."""
    devices = float(((seat.vcpu_share + seat.memory_share) / 2.0 * newcomer.device_pull).sum())
    if newcomer.allowed_pcpus is None:
        return devices
    empty = Field.of(problem.machine, Tenants.none(problem.machine.nodes), problem.assumptions)
    everywhere = np.arange(problem.machine.nodes)[None]
    place = (everywhere, seat.vcpu_share[None], seat.memory_share[None])
    free = empty.try_sets(replace(newcomer, allowed_pcpus=None), *place)
    return devices + float((empty.try_sets(newcomer, *place).cpu - free.cpu)[0])
