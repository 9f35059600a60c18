"""What was seen of a host over the last snapshots, folded together so that older ones count less and less.

A snapshot tells where each vCPU ran last and what CPU time it has used; two of them tell how much it ran in between.
Where it ran then is taken to be where the later one finds it, which over many snapshots is true on average.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from domicile.state.load import busy_traffic, moved_between, used_between, wanted
from domicile.state.model import Domain, Snapshot

__all__ = ["HALF_LIFE_S", "Vcpu", "Watch", "observe"]

HALF_LIFE_S = 10.0
"""What was seen so long ago counts half. Xen's credit2 moves a vCPU off its node within some 10 s."""

STEADY = 0.98
"""A vCPU that ran for this share of the time between two looks, or more, did not sleep."""

HEAVIEST = 1e100
"""Figures are made small again long before they leave what a float holds."""

Vcpu = tuple[str, int]
"""A domain's UUID and a vCPU."""


@dataclass(frozen=True)
class Watch:
    """`used`: vCPUs' worth of CPU time that each domain (UUID) uses; `waiting`: how many of its vCPUs want to run and
    have no pCPU, as the looks found them, of domains whose host tells; `ran` (by vCPU and node): CPU time, the older
    the less it counts. `steady`: vCPUs that ran all the time between the last two looks, which both found them on the
    same pCPU; `starved`: those that both found waiting, and that did not run in between. `traffic`: memory traffic of
    each domain (UUID) whose host counts it, in GB/s. `last` is the snapshot that was folded in last, `seen_s` how much
    time this covers.

    In `ran` what is seen now counts `weight` times its seconds: that grows instead of all that is older being made
    less, which would touch every vCPU at every look. Only shares of it mean anything.
    """

    used: Mapping[str, float] = field(default_factory=dict)
    ran: Mapping[Vcpu, Mapping[int, float]] = field(default_factory=dict)
    last: Snapshot | None = None
    seen_s: float = 0.0
    weight: float = 1.0
    waiting: Mapping[str, float] = field(default_factory=dict)
    steady: frozenset[Vcpu] = frozenset()
    starved: frozenset[Vcpu] = frozenset()
    traffic: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def demand(self) -> Mapping[str, float]:
        """vCPUs' worth of CPU time that each domain (UUID) would use if nobody were in its way."""
        return {uuid: used + self.waiting.get(uuid, 0.0) for uuid, used in self.used.items()}

    def by_name(self, snapshot: Snapshot) -> dict[str, float]:
        """Demand by domain name, of those that were seen to run."""
        return {each.name: self.demand[each.uuid] for each in snapshot.domains if each.uuid in self.demand}

    def traffic_gbs(self, snapshot: Snapshot) -> dict[str, float]:
        """By domain name: memory traffic of one of its vCPUs while it is busy, of those whose host counts it."""
        busy = busy_traffic(self.traffic, self.used)
        return {each.name: busy[each.uuid] for each in snapshot.domains if each.uuid in busy}

    def away(self, uuid: str, vcpu: int, home: Collection[int]) -> float:
        """The share of its time that a vCPU ran on nodes other than these; 0 if it has not run."""
        ran = self.ran.get((uuid, vcpu))
        if not ran:
            return 0.0
        off = total = 0.0
        for node, time_s in ran.items():
            total += time_s
            if node not in home:
                off += time_s
        return off / total if total > 0 else 0.0


def observe(watch: Watch, snapshot: Snapshot, half_life_s: float = HALF_LIFE_S) -> Watch:
    """Fold one more snapshot of the same host in. One that is not later than the last replaces nothing."""
    if watch.last is None:
        return Watch(last=snapshot)
    passed_s = snapshot.taken_at - watch.last.taken_at
    if passed_s <= 0:
        return watch
    kept = 0.5 ** (passed_s / half_life_s)
    weight, ran_before = _aged(watch, kept)
    before = {domain.uuid: domain for domain in watch.last.domains}
    node_of = {cpu.id: cpu.node for cpu in snapshot.topology.cpus}
    used_of, waiting, ran = dict[str, float](), dict[str, float](), dict[Vcpu, Mapping[int, float]]()
    steady, starved, traffic = set[Vcpu](), set[Vcpu](), dict[str, float]()
    for domain in snapshot.domains:
        was = before.get(domain.uuid)
        used = used_between(was, domain, passed_s) if was is not None and was.id == domain.id else None
        if used is not None:
            # its vCPUs can want no more than a pCPU each, whatever the rounding of times and a short wait make of it
            used = wanted(domain, used, 0.0)
            used_of[domain.uuid] = _folded(watch.used.get(domain.uuid), used, kept)
            if domain.vcpus and domain.vcpus[0].waiting is not None:
                now = wanted(domain, used, domain.waiting_vcpus) - used
                waiting[domain.uuid] = _folded(watch.waiting.get(domain.uuid), now, kept)
        if was is not None:
            _fold(ran, ran_before, was, domain, node_of, weight / 1e9)
            steady.update(_steady(was, domain, passed_s))
            starved.update(_starved(was, domain))
            moved = moved_between(was, domain)
            if moved is not None:
                traffic[domain.uuid] = _folded(watch.traffic.get(domain.uuid), moved / 1e9 / passed_s, kept)
    seen_s = watch.seen_s + passed_s
    return Watch(used_of, ran, snapshot, seen_s, weight, waiting, frozenset(steady), frozenset(starved), traffic)


def _steady(before: Domain, now: Domain, passed_s: float) -> Iterator[Vcpu]:
    """Which vCPUs of a domain ran all the time, as far as one can tell where."""
    least_ns = STEADY * passed_s * 1e9
    for was, vcpu in zip(before.vcpus, now.vcpus, strict=False):
        same = was.id == vcpu.id and was.running and vcpu.running and was.pcpu == vcpu.pcpu
        if same and vcpu.time_ns is not None and was.time_ns is not None and vcpu.time_ns - was.time_ns >= least_ns:
            yield now.uuid, vcpu.id


def _starved(before: Domain, now: Domain) -> Iterator[Vcpu]:
    """Which vCPUs of a domain waited all the time."""
    for was, vcpu in zip(before.vcpus, now.vcpus, strict=False):
        waits = was.id == vcpu.id and was.waiting and vcpu.waiting
        if waits and vcpu.time_ns is not None and vcpu.time_ns == was.time_ns:
            yield now.uuid, vcpu.id


def _folded(old: float | None, now: float, kept: float) -> float:
    return now if old is None else kept * old + (1.0 - kept) * now


def _aged(watch: Watch, kept: float) -> tuple[float, Mapping[Vcpu, Mapping[int, float]]]:
    """What a second seen from now on weighs, and what was seen before: made small again once in a while."""
    if watch.weight < HEAVIEST * kept:
        return watch.weight / kept, watch.ran
    # after a long silence `kept` is 0, and so is all that was seen
    scale = kept / watch.weight
    return 1.0, {key: {node: time * scale for node, time in times.items()} for key, times in watch.ran.items()}


def _fold(
    into: dict[Vcpu, Mapping[int, float]],
    ran: Mapping[Vcpu, Mapping[int, float]],
    before: Domain,
    now: Domain,
    node_of: Mapping[int, int | None],
    weight_per_ns: float,
) -> None:
    """Add where each vCPU is that has a place, and how long it ran since."""
    times = {vcpu.id: vcpu.time_ns for vcpu in before.vcpus}
    for vcpu in now.vcpus:
        time_ns, was_ns = vcpu.time_ns, times.get(vcpu.id)
        node = node_of.get(vcpu.pcpu) if vcpu.online and vcpu.pcpu is not None else None
        if node is None or time_ns is None or was_ns is None:
            continue
        key = now.uuid, vcpu.id
        old = ran.get(key)
        if time_ns <= was_ns and old is not None:
            into[key] = old
            continue
        new = dict(old) if old else {}
        new[node] = new.get(node, 0.0) + max(time_ns - was_ns, 0) * weight_per_ns
        into[key] = new
