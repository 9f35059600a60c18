"""One domain weighed closely: every way to every place worth a look, against the best that its vCPUs could do alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from domicile.performance.curves import Floats
from domicile.policies.migration.landing import overhead_mib
from domicile.policies.migration.records import Option, Permits, Way
from domicile.policies.migration.refusals import why_not_at_all
from domicile.policies.migration.ways import options
from domicile.policies.rebalancing.standing import Standing
from domicile.state.model import Domain
from domicile.topology.ids import format_ids

__all__ = ["WAYS", "Weighed", "permits_of", "sets_for", "weigh", "why_left"]

MEMORY_NODE = 0.1
"""A node with this share of a domain's memory is one that its vCPUs may want to be on."""

WAYS = {
    Way.LIVE: "live migration",
    Way.SAVE: "save and restore",
    Way.BALLOON: "a balloon down and up",
    Way.VCPUS: "a new soft affinity",
}


@dataclass(frozen=True, slots=True)
class Weighed:
    """The best way found for a domain (row), or none. `gain`: what all gain by it in slowdown, as far as each counts;
    `refused`: why there is none; `wanted`: the nodes (ids) that it would do best on; `short_mib`: memory missing
    there."""

    row: int
    wanted: tuple[int, ...]
    gain: float
    option: Option | None = None
    refused: str = ""
    short_mib: Mapping[int, int] = field(default_factory=dict, hash=False)


def why_left(standing: Standing, row: int) -> str:
    """Why a domain's memory is none of our business; "" if it is."""
    domain = standing.domain(row)
    if why := why_not_at_all(standing.snapshot, domain, standing.rules.permits_of(domain.name)):
        return why
    if not domain.pages_by_node:
        return "no memory map tells where its memory is"
    if _hand_made(standing, row):
        return "its soft affinity is finer than whole nodes: somebody set it by hand"
    return ""


def permits_of(standing: Standing, row: int) -> Permits:
    """What may be done to a domain, with how busy it is, and what its slowdown counts: no less than that of
    others, for who sleeps may wake while it stands still."""
    permits = standing.rules.permits_of(standing.domain(row).name)
    busy = permits.busy_vcpus
    return replace(
        permits,
        busy_vcpus=float(standing.tenants.demand[row]) if busy is None else busy,
        counts=max(float(standing.tenants.each_counts[row]), 1.0),
    )


def sets_for(standing: Standing, row: int) -> list[tuple[int, ...]]:
    """Sets of nodes (indices) that a domain fits on with all its vCPUs: each node, or each with its nearest."""
    machine, pool = standing.machine, int(standing.tenants.pool[row])
    online = sum(vcpu.online for vcpu in standing.domain(row).vcpus)
    pcpus = machine.pcpus[pool]
    usable = [int(node) for node in np.flatnonzero((pcpus > 0) & (machine.memory_mib > 0))]
    found = []
    for first in usable:
        chosen, have = list[int](), 0.0
        for node in sorted(usable, key=lambda other: (machine.relative[first, other], other != first, other)):
            chosen.append(node)
            have += pcpus[node]
            if have >= online:
                break
        found.append(tuple(sorted(chosen)))
    return sorted(set(found))


def weigh(standing: Standing, row: int, targets: Sequence[tuple[int, ...]]) -> Weighed:
    """The best of all ways to these sets of nodes (indices), `targets` in the order in which they promise most."""
    domain, ids = standing.domain(row), standing.machine.topology.node_ids
    permits, ground = permits_of(standing, row), standing.ground
    found = [
        (target, option)
        for target in targets
        for option in options(standing.snapshot, domain, tuple(ids[node] for node in target), permits, ground)
        if option.way is not Way.VCPUS
    ]
    first = tuple(ids[node] for node in targets[0])
    gains = _gains(standing, row, [(target, option.memory_mib) for target, option in found])
    best, best_net, why = Weighed(row, first, 0.0, refused="it gains nothing anywhere"), 0.0, ""
    rules = standing.rules
    for (_, option), gain in zip(found, gains, strict=True):
        if option.refused or option.cost is None:
            why = why or (option.refused if option.nodes == first else "")
            continue
        net = gain * rules.horizon_s - rules.margin * option.cost.slowdown_s
        if gain > 0 and net > best_net:
            best, best_net = Weighed(row, option.nodes, gain, option), net
        elif gain > best.gain and best.option is None:
            lost = f"{WAYS[option.way]} costs {option.cost.slowdown_s:.1f} domain-seconds"
            best = Weighed(row, option.nodes, gain, refused=f"it does not pay: {lost}, and gains {gain:.3f} a second")
    if best.option is None and why and not any(not option.refused for _, option in found):
        # were room made for it, nobody there would be short of memory
        there = _all_there(domain, first)
        ideal = _gains(standing, row, [(targets[0], there)])[0] - _reliefs(standing, row, [there])[0]
        return Weighed(row, first, ideal, refused=_told(found), short_mib=_short(standing, domain, first))
    return best


def _gains(standing: Standing, row: int, places: Sequence[tuple[tuple[int, ...], Mapping[int, int]]]) -> list[float]:
    """What all gain by a domain's vCPUs on these nodes (indices) with its memory so (MiB by id), for each place.

    What scheduling can do without moving memory is no gain of moving it.
    """
    if not places:
        return []
    machine, tenants = standing.machine, standing.tenants
    v, m = tenants.vcpu_share[row], tenants.memory_share[row]
    alone = [v, *_for_vcpus(standing, row)]
    there = [standing.vcpus_on(row, target) for target, _ in places]
    vcpus = np.array(alone + there)
    memory = np.array([m] * len(alone) + [standing.memory_share(by_node) for _, by_node in places])
    everywhere = np.broadcast_to(np.arange(machine.nodes), vcpus.shape)
    costs = standing.without(row).try_sets(standing.newcomer(row), everywhere, vcpus, memory).total
    base = float(costs[: len(alone)].min())
    relief = _reliefs(standing, row, [by_node for _, by_node in places])
    return [
        base - float(cost) + more if share.any() else -np.inf
        for cost, share, more in zip(costs[len(alone) :], there, relief, strict=True)
    ]


def _reliefs(standing: Standing, row: int, places: Sequence[Mapping[int, int]]) -> list[float]:
    """What is gained on nodes that are short of memory, with a domain's so."""
    keep = standing.rules.keep_free * standing.machine.memory_mib
    if (standing.free_mib - standing.domain(row).memory_mib >= keep).all():
        return [0.0] * len(places)
    short = standing.short_of_memory(standing.free_mib)
    return [short - standing.short_of_memory(standing.freed(row, by_node)) for by_node in places]


def _for_vcpus(standing: Standing, row: int) -> list[Floats]:
    """Where scheduling could bring its vCPUs: none for a domain that it leaves to the administrator."""
    if not standing.may_run_anywhere(row):
        return []
    pool = standing.machine.pcpus[standing.tenants.pool[row]] > 0
    memory = standing.tenants.memory_share[row]
    both = (memory >= MEMORY_NODE) & pool
    several = [both, pool] if both.sum() > 1 else [pool]
    found = [standing.vcpus_on(row, tuple(np.flatnonzero(nodes).tolist())) for nodes in several]
    return [*found, *np.eye(len(pool))[pool]]


def _all_there(domain: Domain, nodes: tuple[int, ...]) -> dict[int, int]:
    each, rest = divmod(domain.memory_mib, len(nodes))
    return {node: each + (position < rest) for position, node in enumerate(nodes)}


def _short(standing: Standing, domain: Domain, nodes: tuple[int, ...]) -> dict[int, int]:
    """By node (ids), what is missing for all of it there beside what it has, and for what is to stay free; {} if that
    is not what it lacks."""
    topology, beside = standing.machine.topology, -(-overhead_mib(domain) // len(nodes))
    need = {node: mib + beside for node, mib in _all_there(domain, nodes).items()}
    if all(mib <= standing.snapshot.available_mib(node) for node, mib in need.items()):
        return {}
    keep = {node: round(standing.rules.keep_free * topology.node(node).memory_mib) for node in nodes}
    missing = {node: mib + keep[node] - standing.snapshot.available_mib(node) for node, mib in need.items()}
    return {node: mib for node, mib in missing.items() if mib > 0}


def _told(found: Sequence[tuple[tuple[int, ...], Option]]) -> str:
    """Why none of the ways to the first place can be gone, in a line."""
    nodes = found[0][1].nodes
    reasons: dict[str, list[str]] = {}
    for _, option in found:
        if option.nodes == nodes:
            reasons.setdefault(option.refused, []).append(WAYS[option.way])
    told = "; ".join(f"{' and '.join(ways)}: {reason}" for reason, ways in reasons.items())
    return f"to node {format_ids(nodes)} there is no way ({told})"


def _hand_made(standing: Standing, row: int) -> bool:
    """Whether some vCPU's soft affinity is finer than whole nodes, as neither libxl nor domicile gives it."""
    machine, pool = standing.machine, int(standing.tenants.pool[row])
    for soft in {id(vcpu.soft_affinity): vcpu.soft_affinity for vcpu in standing.domain(row).vcpus}.values():
        part = machine.count_pcpus(soft, pool)
        if ((part > 0) & (part < machine.pcpus[pool])).any():
            return True
    return False
