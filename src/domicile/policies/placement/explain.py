"""Why: the terms of the objective for a guest's nodes and for the next best, in figures that a person reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from domicile.performance.character import USUAL_WEIGHT
from domicile.policies.placement.candidates import Batch, weigh
from domicile.policies.placement.layout import Layout, Seat
from domicile.policies.placement.memory import in_proportion
from domicile.policies.placement.search import choices
from domicile.policies.placement.subject import Indices
from domicile.policies.plan import Alternative, Placement, Term
from domicile.state.model import Snapshot
from domicile.state.request import GroupKind
from domicile.topology.ids import format_ids

__all__ = ["alternative", "explained", "terms"]

ALTERNATIVES = 3
SINGLY = 4
"""Sets of up to this many nodes are described node by node, wider ones in one line."""


def explained(snapshot: Snapshot, rest: Layout, guest: int, seat: Seat) -> Placement:
    """The placement of a guest, with its reasons and the next best sets, given all others: it has no seat in `rest`."""
    problem = rest.problem
    subject = problem.subjects[guest]
    found = terms(snapshot, rest, guest, seat)
    ids = problem.machine.topology.node_ids
    nearest = [] if subject.fixed else choices(rest, guest, count=ALTERNATIVES + 1)
    other_sets = [choice.nodes for choice in nearest if choice.nodes != seat.nodes][:ALTERNATIVES]
    if subject.fixed and subject.fixed.memory_mib:
        memory = subject.fixed.memory_mib
    else:
        memory = tuple(in_proportion(subject.request.memory_mib, seat.reserve_mib))
    return Placement(
        domain=subject.request.name,
        nodes=tuple(ids[node] for node in seat.nodes),
        soft_affinity=subject.soft_affinity(problem.machine, seat.nodes),
        memory_mib={ids[node]: mib for node, mib in enumerate(memory) if mib},
        reserve_mib={ids[node]: mib for node, mib in enumerate(seat.reserve_mib) if mib},
        predicted_slowdown=1.0 + sum(term.cost for term in found),
        terms=found,
        alternatives=tuple(
            alternative(snapshot, rest, guest, other) for nodes in other_sets if (other := rest.seat_for(guest, nodes))
        ),
        objective=sum(term.cost + term.penalty for term in found),
    )


def alternative(snapshot: Snapshot, rest: Layout, guest: int, seat: Seat) -> Alternative:
    """What another seat would mean, for a guest that has none in `rest`."""
    found = terms(snapshot, rest, guest, seat)
    ids = rest.problem.machine.topology.node_ids
    return Alternative(
        nodes=tuple(ids[node] for node in seat.nodes),
        predicted_slowdown=1.0 + sum(term.cost for term in found),
        terms=found,
        objective=sum(term.cost + term.penalty for term in found),
    )


def terms(snapshot: Snapshot, rest: Layout, guest: int, seat: Seat) -> tuple[Term, ...]:
    """The terms of a seat for a guest that has none in `rest`."""
    batch = _weighed(rest, guest, seat)
    found = [
        _latency(rest, seat, float(batch.costs.latency[0])),
        _cpu(rest, guest, seat, float(batch.costs.cpu[0])),
        _bandwidth(rest, guest, seat, float(batch.costs.bandwidth[0])),
        _memory(snapshot, rest, guest, seat),
        *_devices(snapshot, rest, guest, seat, float(batch.costs.devices[0])),
        *_groups(rest, guest, seat, float(batch.ties[0]), float(batch.ties[0] + batch.wishes[0])),
        *_neighbours(rest, guest, seat, float(batch.costs.neighbours[0])),
    ]
    return tuple(found)


def _weighed(rest: Layout, guest: int, seat: Seat) -> Batch:
    """The costs of exactly this seat, with its memory in whole MiB."""
    subject = rest.problem.subjects[guest]
    nodes = np.flatnonzero((seat.vcpu_share > 0) | (np.array(seat.reserve_mib) > 0) | _among(seat, rest))
    room = np.where(np.array(seat.reserve_mib) > 0, np.array(seat.reserve_mib, dtype=np.float64), 0.0)
    return weigh(subject, rest.load, rest.ties(guest), room, nodes[None])


def _among(seat: Seat, rest: Layout) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    inside = np.zeros(rest.problem.machine.nodes, dtype=bool)
    inside[list(seat.nodes)] = True
    return inside


def _ids(rest: Layout, nodes: Sequence[int]) -> str:
    ids = rest.problem.machine.topology.node_ids
    return f"node{'s' if len(nodes) > 1 else ''} {format_ids(ids[node] for node in nodes)}"


def _figure(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _latency(rest: Layout, seat: Seat, cost: float) -> Term:
    machine = rest.problem.machine
    memory = seat.memory_share
    expected_ns = float(seat.vcpu_share @ machine.latency_ns @ memory)
    remote = 1.0 - float((seat.vcpu_share * memory).sum())
    where = "all local" if remote < 0.005 else f"{remote:.0%} of accesses remote"
    source = "" if machine.latency_measured else ", by distance"
    reason = f"memory latency: {expected_ns:.0f} ns{source}, {where} (best possible {machine.best_latency_ns:.0f} ns)"
    return Term("memory latency", cost, reason)


def _cpu(rest: Layout, guest: int, seat: Seat, cost: float) -> Term:
    machine, newcomer = rest.problem.machine, rest.problem.subjects[guest].newcomer
    nodes = np.flatnonzero(seat.vcpu_share)
    before = rest.load.demand[newcomer.pool][nodes]
    after = before + newcomer.demand * seat.vcpu_share[nodes]
    pcpus, cores = machine.pcpus[newcomer.pool][nodes], machine.cores[newcomer.pool][nodes]

    def line(where: str, b: float, a: float, p: float, c: float) -> str:
        smt = f" ({c:.0f} cores)" if c < p else ""
        return f"{where} {_figure(b)} of {p:.0f} pCPUs{smt} busy, would be {_figure(a)}"

    if len(nodes) <= SINGLY:
        parts = [
            line(f"{_ids(rest, [node])} has", *figures)
            for node, *figures in zip(nodes.tolist(), before, after, pcpus, cores, strict=True)
        ]
    else:
        parts = [line(f"{_ids(rest, nodes.tolist())} have", before.sum(), after.sum(), pcpus.sum(), cores.sum())]
    return Term("CPU load", cost, f"CPU load: {'; '.join([*parts, *_weights(rest, guest, nodes)])}")


def _weights(rest: Layout, guest: int, nodes: Indices) -> list[str]:
    """Xen's weights, where they differ: who has more of it loses less when pCPUs are short."""
    subject = rest.problem.subjects[guest]
    busy = rest.load.demand[subject.newcomer.pool][nodes].sum()
    mean = USUAL_WEIGHT * rest.load.heavy[subject.newcomer.pool][nodes].sum() / busy if busy > 0 else USUAL_WEIGHT
    cap = [f"capped at {_figure(subject.request.cap_percent / 100)} pCPUs"] if subject.request.cap_percent else []
    if round(mean) == subject.request.weight or (busy <= 0 and subject.request.weight == USUAL_WEIGHT):
        return cap
    return [f"its weight is {subject.request.weight}, that of others there {mean:.0f} on average", *cap]


def _bandwidth(rest: Layout, guest: int, seat: Seat, cost: float) -> Term:
    machine, newcomer = rest.problem.machine, rest.problem.subjects[guest].newcomer
    nodes = np.flatnonzero(seat.memory_share)
    own_gbs = newcomer.traffic(rest.problem.assumptions) * newcomer.demand
    traffic = rest.load.traffic.sum(axis=0) + own_gbs * seat.memory_share
    used, peak = float(traffic[nodes].sum()), float(machine.bandwidth_gbs.diagonal()[nodes].sum())
    measured = "" if machine.topology.bandwidth_gbs is not None else " assumed"
    stated = f", {_figure(own_gbs)} of it to this domain as stated" if newcomer.traffic_gbs is not None else ""
    given = f"{_ids(rest, nodes.tolist())} would give {_figure(used)} of {peak:.0f} GB/s"
    reason = f"memory bandwidth: {given}{measured}{stated}"
    return Term("memory bandwidth", cost, reason)


def _memory(snapshot: Snapshot, rest: Layout, guest: int, seat: Seat) -> Term:
    """Not a cost, since what is free and not used costs nobody anything; but it says what could be had."""
    request = rest.problem.subjects[guest].request
    ids = rest.problem.machine.topology.node_ids
    nodes = [node for node, mib in enumerate(seat.reserve_mib) if mib]
    if len(nodes) > SINGLY:
        free, need = sum(rest.free_mib[node] for node in nodes), sum(seat.reserve_mib)
        return Term("free memory", 0.0, f"free memory: {_ids(rest, nodes)} have {free} MiB, {need} needed")
    memory = in_proportion(request.memory_mib, seat.reserve_mib)
    parts = []
    for node in nodes:
        promised = snapshot.outstanding_mib.get(ids[node], 0)
        others = f" ({promised} more promised to others)" if promised else ""
        extra = seat.reserve_mib[node] - memory[node]
        needed = f"{memory[node]} + {extra}" if extra > 0 else f"{seat.reserve_mib[node]}"
        parts.append(f"{_ids(rest, [node])} has {max(rest.free_mib[node], 0)} MiB{others}, {needed} needed")
    return Term("free memory", 0.0, f"free memory: {'; '.join(parts)}")


def _devices(snapshot: Snapshot, rest: Layout, guest: int, seat: Seat, cost: float) -> list[Term]:
    topology = rest.problem.machine.topology
    ids, node_of = topology.node_ids, {device.address: device.node for device in topology.devices}
    found = []
    for address in rest.problem.subjects[guest].request.devices:
        node = node_of.get(address.lower())
        if node is None:
            found.append(f"device {address}: the host does not say which node it is on")
            continue
        distances = sorted({topology.distance(ids[own], node) for own in seat.nodes})
        away = f"{distances[0]}" if len(distances) == 1 else f"{distances[0]} to {distances[-1]}"
        found.append(f"device {address} is on node {node}: distance {away}")
    if rest.problem.subjects[guest].request.backends:
        found.append(_backends(snapshot, rest, guest))
    # the cost is that of all devices together: with the first
    return [Term("devices", cost if position == 0 else 0.0, reason) for position, reason in enumerate(found)]


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


def _groups(rest: Layout, guest: int, seat: Seat, cost: float, penalty: float) -> list[Term]:
    problem = rest.problem
    where = dict(problem.resident_shares)
    for subject, other in zip(problem.subjects, rest.seats, strict=True):
        if other is not None:
            where[subject.request.name] = other.vcpu_share
    lines = []
    for membership in problem.groups[guest]:
        placed = [peer for peer in membership.peers if peer in where]
        shared = [peer for peer in placed if ((where[peer] > 0) & (seat.vcpu_share > 0)).any()]
        group = membership.group
        lines.append(f"group {group.name} ({group.kind.value}): {_company(group.kind, placed, shared)}")
    # as for devices: one cost for all groups
    return [
        Term("groups", cost if position == 0 else 0.0, line, penalty if position == 0 else 0.0)
        for position, line in enumerate(lines)
    ]


def _company(kind: GroupKind, placed: Sequence[str], shared: Sequence[str]) -> str:
    if not placed:
        return "the first of its group here"
    if kind is GroupKind.APART:
        return f"shares a node with {', '.join(shared)}" if shared else f"no node shared with {', '.join(placed)}"
    apart = [peer for peer in placed if peer not in shared]
    met = f"shares a node with {', '.join(shared)}" if shared else ""
    missed = f"not with {', '.join(apart)}" if apart else ""
    return ", ".join(part for part in (met, missed) if part)


def _neighbours(rest: Layout, guest: int, seat: Seat, cost: float) -> list[Term]:
    """What the others lose; nothing to say where nobody else is."""
    there = seat.vcpu_share > 0
    problem = rest.problem
    with_residents = problem.residents.vcpu_share[:, there].sum(axis=1) > 0
    newcomers = sum(bool((other.vcpu_share[there] > 0).any()) for other in rest.seats if other is not None)
    count = int(with_residents.sum()) + newcomers
    del guest
    if not count:
        return []
    who = "1 other domain" if count == 1 else f"{count} other domains"
    reason = f"neighbours: {who} on {_ids(rest, seat.nodes)}, slowdown {cost / count:+.3f} each on average"
    return [Term("neighbours", 0.0, reason, cost)]
