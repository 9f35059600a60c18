"""What was seen of a host over the last snapshots, folded together so that older ones count less and less.

A snapshot tells where each vCPU ran last and what CPU time it has used; two of them tell how much it ran in between.
Where it ran then is taken to be where the later one finds it, which over many snapshots is true on average.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from domicile.state.load import load_between
from domicile.state.model import Domain, Snapshot

__all__ = ["HALF_LIFE_S", "Watch", "observe"]

HALF_LIFE_S = 10.0
"""What was seen so long ago counts half. Xen's credit2 moves a vCPU off its node within some 10 s."""

Vcpu = tuple[str, int]
"""A domain's UUID and a vCPU."""


@dataclass(frozen=True)
class Watch:
    """`demand`: vCPUs' worth of CPU time that each domain (UUID) uses; `ran` (by vCPU and node): CPU time in seconds,
    the older the less it counts. `last` is the snapshot that was folded in last, `seen_s` how much time this covers.
    """

    demand: Mapping[str, float] = field(default_factory=dict)
    ran: Mapping[Vcpu, Mapping[int, float]] = field(default_factory=dict)
    last: Snapshot | None = None
    seen_s: float = 0.0

    def by_name(self, snapshot: Snapshot) -> dict[str, float]:
        """Demand by domain name, of those that were seen to run."""
        return {each.name: self.demand[each.uuid] for each in snapshot.domains if each.uuid in self.demand}

    def away(self, uuid: str, vcpu: int, home: frozenset[int]) -> float:
        """The share of its time that a vCPU ran on nodes other than these; 0 if it has not run."""
        ran = self.ran.get((uuid, vcpu), {})
        total = sum(ran.values())
        return sum(time_s for node, time_s in ran.items() if node not in home) / total if total > 0 else 0.0


def observe(watch: Watch, snapshot: Snapshot, half_life_s: float = HALF_LIFE_S) -> Watch:
    """Fold one more snapshot of the same host in. One that is not later than the last replaces nothing."""
    if watch.last is None:
        return Watch(last=snapshot)
    passed_s = snapshot.taken_at - watch.last.taken_at
    if passed_s <= 0:
        return watch
    kept = 0.5 ** (passed_s / half_life_s)
    load = load_between(watch.last, snapshot).domains
    before = {domain.uuid: domain for domain in watch.last.domains}
    node_of = {cpu.id: cpu.node for cpu in snapshot.topology.cpus}
    demand, ran = {}, {}
    for domain in snapshot.domains:
        if domain.name in load:
            old = watch.demand.get(domain.uuid)
            demand[domain.uuid] = load[domain.name] if old is None else kept * old + (1.0 - kept) * load[domain.name]
        for (uuid, number), (node, time_s) in _ran(before.get(domain.uuid), domain, node_of).items():
            times = {where: kept * old_s for where, old_s in watch.ran.get((uuid, number), {}).items()}
            times[node] = times.get(node, 0.0) + time_s
            ran[uuid, number] = times
    return Watch(demand, ran, snapshot, watch.seen_s + passed_s)


def _ran(before: Domain | None, now: Domain, node_of: Mapping[int, int | None]) -> dict[Vcpu, tuple[int, float]]:
    """Where each vCPU is that has a place, and how long it ran since."""
    times = {vcpu.id: vcpu.time_ns for vcpu in before.vcpus} if before else {}
    found = {}
    for vcpu in now.vcpus:
        node = node_of.get(vcpu.pcpu) if vcpu.online and vcpu.pcpu is not None else None
        was = times.get(vcpu.id)
        if node is not None and was is not None and vcpu.time_ns is not None:
            found[now.uuid, vcpu.id] = node, max(vcpu.time_ns - was, 0) / 1e9
    return found
