"""Memory that idle guests give back, to make room on a node for a move or for a newcomer; and get again later.

What can be given back is what the administrator allows: a domain is never asked to go below its limit, and only idle
ones are asked. A guest knows no nodes: what it frees comes from all nodes that it has memory on, in proportion, so that
a MiB on the wanted node costs more from a domain that is spread. Guests answer late, partly or never: the amounts here
are asked for, and what has come of them is seen in the next snapshot.

A guest that gets memory again takes it from its node-affinity's nodes, evenly, and gets no more than these have left
beside what is kept free: otherwise it would be asked for it again at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from domicile.policies.migration.records import Permits
from domicile.policies.migration.refusals import why_not_at_all
from domicile.policies.rebalancing.records import Considered, Rules
from domicile.policies.scheduling.watch import Watch
from domicile.state.ballooning import taken_by_node
from domicile.state.model import Domain, DomainType, Snapshot

__all__ = ["IDLE", "Ask", "Room", "Shrunk", "give_back", "make_room", "shrunk_by"]

IDLE = 0.05
"""A domain whose vCPUs each want less than this is idle: what it does not use now is cache. An assumption."""

LEAST_MIB = 16
"""Less is not worth asking for."""


@dataclass(frozen=True, slots=True)
class Shrunk:
    """A domain that was asked for memory: it had `had_mib`, and is to have that again."""

    uuid: str
    had_mib: int


@dataclass(frozen=True, slots=True)
class Ask:
    """Set a domain's memory target. `from_mib` is what it has now; `by_node`: what is expected to become free (or, when
    it grows, to be taken) on each node; `reason` for a person."""

    domain: str
    uuid: str
    from_mib: int
    target_mib: int
    by_node: Mapping[int, int] = field(hash=False)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Room:
    """`asks`, in the order in which they are to be made; `missing_mib`: by node, what is wanted beyond what all of them
    give; then none are made. `considered`: who was not asked, and why."""

    asks: tuple[Ask, ...]
    missing_mib: Mapping[int, int] = field(default_factory=dict, hash=False)
    considered: tuple[Considered, ...] = ()


def make_room(snapshot: Snapshot, watch: Watch, wanted_mib: Mapping[int, int], rules: Rules) -> Room:
    """Whom to ask for how much, so that so much is free on these nodes (MiB by id), beside what is promised.

    As few domains as it takes, those first that give most of what they free where it is wanted. Nobody is asked where
    all together cannot give enough: memory that helps nobody is left where it is.
    """
    missing = {node: mib - snapshot.available_mib(node) for node, mib in sorted(wanted_mib.items())}
    missing = {node: mib for node, mib in missing.items() if mib > 0}
    if not missing:
        return Room(())
    givers, considered = list[tuple[Domain, int]](), list[Considered]()
    for domain in snapshot.domains:
        spare, why = _spare(snapshot, domain, watch, rules)
        if why and any((domain.memory_by_node_mib or {}).get(node) for node in missing):
            considered.append(Considered(domain.name, domain.uuid, tuple(missing), 0.0, why))
        elif not why:
            givers.append((domain, spare))
    asks: list[Ask] = []
    while missing and givers:
        domain, spare = max(givers, key=lambda one: (_useful(one[0], one[1], missing), one[0].uuid))
        if _useful(domain, spare, missing) <= 0.0:
            break
        givers.remove((domain, spare))
        ask = _ask(domain, spare, missing)
        asks.append(ask)
        missing = {node: mib - ask.by_node.get(node, 0) for node, mib in missing.items()}
        missing = {node: mib for node, mib in missing.items() if mib > 0}
    return Room((), missing, tuple(considered)) if missing else Room(tuple(asks), {}, tuple(considered))


def give_back(snapshot: Snapshot, shrunk: Mapping[str, Shrunk], rules: Rules) -> tuple[Ask, ...]:
    """Who gets memory again (`shrunk` by UUID), as far as its nodes have some beside what is to stay free there."""
    free = {
        node.id: max(snapshot.available_mib(node.id) - round(rules.keep_free * node.memory_mib), 0)
        for node in snapshot.topology.nodes
    }
    asks = []
    for domain in sorted(snapshot.domains, key=lambda one: one.uuid):
        was = shrunk.get(domain.uuid)
        if was is None or domain.paused:
            continue
        now = max(domain.memory_mib, domain.target_mib or 0)
        homes = {node: free[node] for node in sorted(domain.node_affinity or free) if node in free}
        taken = taken_by_node(min(was.had_mib, domain.max_memory_mib) - now, homes, None)
        mib = sum(taken.values())
        if mib <= 0 or (mib < LEAST_MIB and now + mib < was.had_mib):
            continue
        for node, part in taken.items():
            free[node] -= part
        reason = f"it gave {was.had_mib - now} MiB, and its nodes have room again"
        asks.append(Ask(domain.name, domain.uuid, domain.memory_mib, now + mib, taken, reason))
    return tuple(asks)


def shrunk_by(asks: tuple[Ask, ...], before: Mapping[str, Shrunk]) -> dict[str, Shrunk]:
    """Who is to get memory again, with these asks made: each what it had before it was first asked."""
    found = dict(before)
    for ask in asks:
        was = found.get(ask.uuid)
        if ask.target_mib < ask.from_mib:
            found[ask.uuid] = was or Shrunk(ask.uuid, ask.from_mib)
        elif was is not None and ask.target_mib >= was.had_mib:
            del found[ask.uuid]
    return found


def _spare(snapshot: Snapshot, domain: Domain, watch: Watch, rules: Rules) -> tuple[int, str]:
    """What a domain can be asked for (MiB), or why for nothing."""
    permits: Permits = rules.permits_of(domain.name)
    demand = watch.demand.get(domain.uuid)
    why = why_not_at_all(snapshot, domain, permits)
    if not why and permits.minimum_mib is None:
        why = "nobody says how far it can be ballooned down"
    if not why and domain.pages_by_node is None:
        why = "no memory map tells where its memory is"
    if not why and (demand is None or demand > IDLE * max(sum(vcpu.online for vcpu in domain.vcpus), 1)):
        why = "it has not been seen to run for long enough" if demand is None else f"it is busy: {demand:.2f} vCPUs"
    if not why and domain.target_mib is not None and domain.target_mib < domain.memory_mib - _slack_mib(domain):
        why = f"it was asked already, and has {domain.memory_mib} MiB for a target of {domain.target_mib} MiB"
    if why:
        return 0, why
    spare = domain.memory_mib - max(permits.minimum_mib or 0, 0)
    if spare < LEAST_MIB:
        return 0, f"it has {domain.memory_mib} MiB, and needs {permits.minimum_mib} MiB at least"
    return spare, ""


def _slack_mib(domain: Domain) -> int:
    """As in `migration.refusals`: video memory is not in the target."""
    return 128 if domain.type is DomainType.HVM else 4


def _useful(domain: Domain, spare: int, missing: Mapping[int, int]) -> float:
    """How much of what is missing it gives, for each MiB that it loses, and a little for giving all of it alone."""
    ask = _ask(domain, spare, missing)
    lost = ask.from_mib - ask.target_mib
    gives = sum(min(ask.by_node.get(node, 0), mib) for node, mib in missing.items())
    return gives / lost + 0.1 * gives / sum(missing.values()) if lost > 0 else 0.0


def _ask(domain: Domain, spare: int, missing: Mapping[int, int]) -> Ask:
    """As much as it takes from this domain, or all that it has to spare."""
    own = domain.memory_by_node_mib or {}
    total = sum(own.values())
    # each MiB that it frees is on a node with the share of its memory that is there
    needs = [-(-mib * total // own[node]) for node, mib in missing.items() if own.get(node)]
    lost = min(spare, max(needs, default=0))
    by_node = {node: lost * mib // total for node, mib in own.items()} if total else {}
    reason = f"it is idle and can do with {domain.memory_mib - spare} MiB"
    return Ask(domain.name, domain.uuid, domain.memory_mib, domain.memory_mib - lost, by_node, reason)
