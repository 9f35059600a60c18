"""Why: the terms of the objective for a guest's nodes and for the next best, in figures that a person reads."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from domicile.performance.accesses import Accesses
from domicile.performance.character import USUAL_WEIGHT
from domicile.performance.curves import Floats
from domicile.policies.placement.candidates import SeatCosts
from domicile.policies.placement.layout import Layout, Seat
from domicile.policies.placement.memory import in_proportion
from domicile.policies.placement.search import choices
from domicile.policies.placement.seat_costs import seat_costs
from domicile.policies.plan import Alternative, Explanation, Placement, Term
from domicile.state.model import Snapshot
from domicile.state.request import GroupKind
from domicile.topology.ids import format_ids

__all__ = ["placed", "terms"]

ALTERNATIVES = 3
SINGLY = 4
"""Sets of up to this many nodes are described node by node, wider ones in one line."""

NAMED = 3
"""Up to so many neighbours are named, more are counted."""

NOTHING = 1e-9
"""A cost that is only what is left of rounding."""


def placed(snapshot: Snapshot, rest: Layout, guest: int, seat: Seat, costs: SeatCosts) -> Placement:
    """The placement of a guest that has no seat in `rest`: what it costs now, the reasons once somebody asks."""
    subject, machine = rest.problem.subjects[guest], rest.problem.machine
    ids = machine.topology.node_ids
    if subject.fixed and subject.fixed.memory_mib:
        memory: Sequence[int] = subject.fixed.memory_mib
    else:
        memory = in_proportion(subject.request.memory_mib, seat.reserve_mib)
    return Placement(
        domain=subject.request.name,
        nodes=tuple(ids[node] for node in seat.nodes),
        soft_affinity=subject.soft_affinity(machine, seat.nodes),
        memory_mib={ids[node]: mib for node, mib in enumerate(memory) if mib},
        reserve_mib={ids[node]: mib for node, mib in enumerate(seat.reserve_mib) if mib},
        predicted_slowdown=costs.slowdown,
        objective=costs.objective,
        explanation=Explanation(
            lambda: (terms(snapshot, rest, guest, seat, costs), _next_best(snapshot, rest, guest, seat))
        ),
    )


def _next_best(snapshot: Snapshot, rest: Layout, guest: int, seat: Seat) -> list[Alternative]:
    """The sets that come after the seat's; of a guest whose configuration says where, those that come first if it did
    not."""
    if (subject := rest.problem.subjects[guest]).fixed:
        rest = rest.prepared(guest, subject.opened())
    ids = rest.problem.machine.topology.node_ids
    nearest = choices(rest, guest, count=ALTERNATIVES + 1)
    others = [choice.nodes for choice in nearest if choice.nodes != seat.nodes][:ALTERNATIVES]
    seats = [other for nodes in others if (other := rest.seat_for(guest, nodes))]
    return [
        Alternative(
            nodes=tuple(ids[node] for node in other.nodes),
            predicted_slowdown=costs.slowdown,
            terms=terms(snapshot, rest, guest, other, costs),
            objective=costs.objective,
        )
        for other, costs in zip(seats, seat_costs(rest, guest, seats) if seats else (), strict=True)
    ]


def terms(snapshot: Snapshot, rest: Layout, guest: int, seat: Seat, costs: SeatCosts) -> tuple[Term, ...]:
    """The terms of a seat, which costs this, for a guest that has none in `rest`: they add up to the objective."""
    return (
        _latency(rest, guest, seat, costs.latency),
        _cpu(rest, guest, seat, costs.cpu),
        _bandwidth(rest, guest, seat, costs.bandwidth),
        _memory(snapshot, rest, guest, seat),
        *_devices(snapshot, rest, guest, seat, costs.devices),
        *_groups(rest, guest, seat, costs),
        *_split(rest, guest, seat, costs.split),
        *_neighbours(rest, seat, costs.neighbours),
    )


def _ids(rest: Layout, nodes: Sequence[int]) -> str:
    ids = rest.problem.machine.topology.node_ids
    return f"node{'s' if len(nodes) > 1 else ''} {format_ids(ids[node] for node in nodes)}"


def _figure(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _latency(rest: Layout, guest: int, seat: Seat, cost: float) -> Term:
    machine = rest.problem.machine
    own_share = rest.problem.subjects[guest].newcomer.own_share
    # not `@`: a product with a matrix may be divided between threads, see `field.BLOCK`
    weights = Accesses.of(seat.vcpu_share, seat.memory_share, own_share).weights
    inside = np.flatnonzero(seat.vcpu_share)
    expected_ns = float((weights[inside] * machine.latency_ns[inside]).sum())
    remote = 1.0 - float(weights.trace())
    where = "all local" if remote < 0.005 else f"{remote:.0%} of accesses remote"
    source = "" if machine.latency_measured else ", by distance"
    reason = f"memory latency: {expected_ns:.0f} ns{source}, {where} (best possible {machine.best_latency_ns:.0f} ns)"
    figures = {"latency_ns": expected_ns, "best_latency_ns": machine.best_latency_ns, "remote_share": max(remote, 0.0)}
    return Term("memory latency", cost, reason, figures=figures)


def _cpu(rest: Layout, guest: int, seat: Seat, cost: float) -> Term:
    machine, newcomer = rest.problem.machine, rest.problem.subjects[guest].newcomer
    nodes = np.flatnonzero(seat.vcpu_share).tolist()
    before = rest.load.demand[newcomer.pool][nodes].tolist()
    after = [was + newcomer.demand * share for was, share in zip(before, seat.vcpu_share[nodes].tolist(), strict=True)]
    pcpus, cores = machine.pcpus[newcomer.pool][nodes].tolist(), machine.cores[newcomer.pool][nodes].tolist()
    figures = {
        "busy_before": sum(before),
        "busy_after": sum(after),
        "pcpus": sum(pcpus),
        "cores": sum(cores),
        "pressure": max(busy / max(room, 1.0) for busy, room in zip(after, pcpus, strict=True)),
    }

    def line(where: str, b: float, a: float, p: float, c: float) -> str:
        smt = f" ({c:.0f} cores)" if c < p else ""
        return f"{where} {_figure(b)} of {p:.0f} pCPUs{smt} busy, would be {_figure(a)}"

    if len(nodes) <= SINGLY:
        parts = [
            line(f"{_ids(rest, [node])} has", *its)
            for node, *its in zip(nodes, before, after, pcpus, cores, strict=True)
        ]
    else:
        parts = [line(f"{_ids(rest, nodes)} have", *list(figures.values())[:4])]
    reason = f"CPU load: {'; '.join([*parts, *_weights(rest, guest, nodes)])}"
    return Term("CPU load", cost, reason, figures=figures)


def _weights(rest: Layout, guest: int, nodes: Sequence[int]) -> list[str]:
    """Xen's weights, where they differ: who has more of it loses less when pCPUs are short."""
    subject = rest.problem.subjects[guest]
    busy = float(rest.load.demand[subject.newcomer.pool][nodes].sum())
    heavy = float(rest.load.heavy[subject.newcomer.pool][nodes].sum())
    mean = USUAL_WEIGHT * heavy / busy if busy > 0 else USUAL_WEIGHT
    cap = [f"capped at {_figure(subject.request.cap_percent / 100)} pCPUs"] if subject.request.cap_percent else []
    if round(mean) == subject.request.weight or (busy <= 0 and subject.request.weight == USUAL_WEIGHT):
        return cap
    return [f"its weight is {subject.request.weight}, that of others there {mean:.0f} on average", *cap]


def _bandwidth(rest: Layout, guest: int, seat: Seat, cost: float) -> Term:
    machine, newcomer = rest.problem.machine, rest.problem.subjects[guest].newcomer
    share = seat.memory_share
    nodes = np.flatnonzero(share)
    own_gbs = newcomer.traffic(rest.problem.assumptions) * newcomer.demand
    used = float(rest.load.traffic[:, nodes].sum()) + own_gbs * float(share.sum())
    peak = float(machine.bandwidth_gbs[nodes, nodes].sum())
    measured = "" if machine.topology.bandwidth_gbs is not None else " assumed"
    stated = f", {_figure(own_gbs)} of it to this domain as stated" if newcomer.traffic_gbs is not None else ""
    given = f"{_ids(rest, nodes.tolist())} would give {_figure(used)} of {peak:.0f} GB/s"
    reason = f"memory bandwidth: {given}{measured}{stated}"
    return Term("memory bandwidth", cost, reason, figures={"used_gbs": used, "peak_gbs": peak})


def _memory(snapshot: Snapshot, rest: Layout, guest: int, seat: Seat) -> Term:
    """Not a cost, since what is free and not used costs nobody anything; but it says what could be had."""
    request = rest.problem.subjects[guest].request
    ids = rest.problem.machine.topology.node_ids
    nodes = [node for node, mib in enumerate(seat.reserve_mib) if mib]
    free, need = sum(max(rest.free_mib[node], 0) for node in nodes), sum(seat.reserve_mib)
    figures: dict[str, float] = {"free_mib": free, "needed_mib": need}
    if len(nodes) > SINGLY:
        reason = f"free memory: {_ids(rest, nodes)} have {free} MiB, {need} needed"
        return Term("free memory", 0.0, reason, figures=figures)
    memory = in_proportion(request.memory_mib, seat.reserve_mib)
    parts = []
    for node in nodes:
        promised = snapshot.outstanding_mib.get(ids[node], 0)
        others = f" ({promised} more promised to others)" if promised else ""
        extra = seat.reserve_mib[node] - memory[node]
        needed = f"{memory[node]} + {extra}" if extra > 0 else f"{seat.reserve_mib[node]}"
        parts.append(f"{_ids(rest, [node])} has {max(rest.free_mib[node], 0)} MiB{others}, {needed} needed")
    return Term("free memory", 0.0, f"free memory: {'; '.join(parts)}", figures=figures)


def _devices(snapshot: Snapshot, rest: Layout, guest: int, seat: Seat, cost: float) -> list[Term]:
    topology = rest.problem.machine.topology
    ids, node_of = topology.node_ids, {device.address: device.node for device in topology.devices}
    found: list[tuple[str, dict[str, float]]] = []
    for address in rest.problem.subjects[guest].request.devices:
        node = node_of.get(address.lower())
        if node is None:
            found.append((f"device {address}: the host does not say which node it is on", {}))
            continue
        distances = sorted({topology.distance(ids[own], node) for own in seat.nodes})
        away = f"{distances[0]}" if len(distances) == 1 else f"{distances[0]} to {distances[-1]}"
        figures: dict[str, float] = {"node": node, "distance": distances[0], "farthest_distance": distances[-1]}
        found.append((f"device {address} is on node {node}: distance {away}", figures))
    if rest.problem.subjects[guest].request.backends:
        found.append((_backends(snapshot, rest, guest), {}))
    # the cost is that of all devices together: with the first
    return [
        Term("devices", cost if position == 0 else 0.0, reason, figures=figures)
        for position, (reason, figures) in enumerate(found)
    ]


def _backends(snapshot: Snapshot, rest: Layout, guest: int) -> str:
    """What Dom0 serves it, and where Dom0 and the devices behind are."""
    node_of = {device.address: device.node for device in rest.problem.machine.topology.devices}
    parts = []
    for backend in rest.problem.subjects[guest].request.backends:
        device = snapshot.backing_device(backend)
        node = node_of.get(device) if device else None
        parts.append(backend if node is None else f"{backend} ({device} on node {node})")
    dom0 = next((domain.name for domain in snapshot.domains if domain.id == 0), "")
    share = rest.problem.resident_shares.get(dom0)
    runs = "" if share is None else f"; Dom0 runs on {_ids(rest, np.flatnonzero(share).tolist())}"
    return f"through Dom0: {', '.join(parts)}{runs}"


def _groups(rest: Layout, guest: int, seat: Seat, costs: SeatCosts) -> list[Term]:
    problem = rest.problem
    if not problem.groups[guest]:
        return []
    where = dict(problem.resident_shares)
    for subject, other in zip(problem.subjects, rest.seats, strict=True):
        if other is not None:
            where[subject.request.name] = other.vcpu_share
    lines: list[tuple[str, dict[str, float]]] = []
    for membership in problem.groups[guest]:
        placed = [peer for peer in membership.peers if peer in where]
        shared = [peer for peer in placed if ((where[peer] > 0) & (seat.vcpu_share > 0)).any()]
        group = membership.group
        line = f"group {group.name} ({group.kind.value}): {_company(group.kind, placed, shared)}"
        figures: dict[str, float] = {"peers": len(placed), "peers_with_a_node_in_common": len(shared)}
        if placed:
            figures["distance"] = _distance(rest, seat, [where[peer] for peer in placed])
            line += f", mean distance {_figure(figures['distance'])}"
        lines.append((line, figures))
    # as for devices: one cost for all groups
    (line, figures), *others = lines
    figures |= {"peers_slowdown": costs.groups, "wishes_missed": costs.missed}
    first = Term("groups", costs.groups, line, costs.groups + costs.missed, figures)
    return [first, *(Term("groups", 0.0, line, figures=figures) for line, figures in others)]


def _split(rest: Layout, guest: int, seat: Seat, cost: float) -> list[Term]:
    """Only where it counts: a guest that would fit on one node."""
    if not cost:
        return []
    vcpus = rest.problem.subjects[guest].request.vcpus
    reason = f"split: one node has cores for its {vcpus} vCPUs; memory divided over {_ids(rest, seat.nodes)} stays so"
    return [Term("split", 0.0, reason, cost, {"nodes": len(seat.nodes)})]


def _distance(rest: Layout, seat: Seat, peers: Sequence[Floats]) -> float:
    """Mean SLIT distance from its vCPUs to those of its peers."""
    topology = rest.problem.machine.topology
    ids, theirs = topology.node_ids, np.mean(peers, axis=0)
    total = float(theirs.sum())
    pairs = product(np.flatnonzero(seat.vcpu_share).tolist(), np.flatnonzero(theirs).tolist())
    weighted = sum(float(seat.vcpu_share[a] * theirs[b]) * topology.distance(ids[a], ids[b]) for a, b in pairs)
    return weighted / total if total else 0.0


def _company(kind: GroupKind, placed: Sequence[str], shared: Sequence[str]) -> str:
    if not placed:
        return "the first of its group here"
    if kind is GroupKind.APART:
        return f"shares a node with {', '.join(shared)}" if shared else f"no node shared with {', '.join(placed)}"
    apart = [peer for peer in placed if peer not in shared]
    met = f"shares a node with {', '.join(shared)}" if shared else ""
    missed = f"not with {', '.join(apart)}" if apart else ""
    return ", ".join(part for part in (met, missed) if part)


def _neighbours(rest: Layout, seat: Seat, cost: float) -> list[Term]:
    """What the others lose; nothing to say where nobody else is."""
    there = seat.vcpu_share > 0
    problem = rest.problem
    with_residents = (problem.residents.vcpu_share[:, np.flatnonzero(there)] > 0).any(axis=1)
    names = [problem.residents.names[row] for row in np.flatnonzero(with_residents)]
    for subject, other in zip(problem.subjects, rest.seats, strict=True):
        if other is not None and (other.vcpu_share[there] > 0).any():
            names.append(subject.request.name)
    count = len(names)
    if not count and abs(cost) < NOTHING:
        return []
    if not count:
        reason = f"neighbours: none on {_ids(rest, seat.nodes)}; others on this host slow down by {cost:+.3f} together"
    else:
        who = ", ".join(names) if count <= NAMED else f"{count} other domains"
        each = " each on average" if count > 1 else ""
        reason = f"neighbours: {who} on {_ids(rest, seat.nodes)}, slowdown {cost / count:+.3f}{each}"
    return [Term("neighbours", 0.0, reason, cost, {"domains": count, "slowdown_each": cost / max(count, 1)})]
