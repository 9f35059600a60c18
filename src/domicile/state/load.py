"""Load: what ran between two snapshots of one host.

A pCPU's load is the share of the time between them that it was not idle; a domain's is the CPU time that its vCPUs used
in that time, in CPUs' worth. Counting vCPUs, as libxl does, takes an idle guest for a busy one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from domicile.state.model import Domain, Snapshot

__all__ = ["Load", "busy_traffic", "capped", "load_between", "moved_between", "used_between", "wanted"]

BUSY = 0.02
"""vCPUs' worth of CPU time below which a domain's traffic says nothing of what it would be while it is busy."""


@dataclass(frozen=True, slots=True)
class Load:
    """Load over `window_s` seconds, in pCPUs' worth: 1.5 is one and a half pCPUs busy all the time.

    `nodes` is empty where the host does not tell its pCPUs' idle time; a domain is missing from `domains` if it was not
    there throughout, or the host does not tell its CPU time. `slowdowns`: (time run + time waited) / work done, 1.0 at
    best, of the domains that worked, where the host tells. `traffic_gbs`: memory traffic of domains, all vCPUs of
    each, where the host counts it.
    """

    window_s: float
    nodes: Mapping[int, float]
    domains: Mapping[str, float]
    slowdowns: Mapping[str, float] = field(default_factory=dict)
    traffic_gbs: Mapping[str, float] = field(default_factory=dict)


def load_between(earlier: Snapshot, later: Snapshot) -> Load:
    """What ran between two snapshots of the same host. Raises ValueError if they are not in order."""
    window_s = later.taken_at - earlier.taken_at
    if window_s <= 0:
        raise ValueError("the second snapshot is not later than the first")
    return Load(
        window_s,
        _node_load(earlier, later, window_s),
        _domain_load(earlier, later, window_s),
        _slowdowns(earlier, later),
        {
            domain.name: moved / 1e9 / window_s
            for same, domain in _in_both(earlier, later)
            if (moved := moved_between(same, domain)) is not None
        },
    )


def _node_load(earlier: Snapshot, later: Snapshot, window_s: float) -> dict[int, float]:
    """Busy pCPUs per node; empty unless both snapshots tell the idle time of every pCPU."""
    loads = {}
    for node, cpus in later.topology.cpus_by_node.items():
        busy = 0.0
        for cpu in cpus:
            if cpu not in earlier.pcpu_idle_ns or cpu not in later.pcpu_idle_ns:
                return {}
            idle_s = (later.pcpu_idle_ns[cpu] - earlier.pcpu_idle_ns[cpu]) / 1e9
            busy += 1.0 - min(max(idle_s / window_s, 0.0), 1.0)
        loads[node] = busy
    return loads


def _domain_load(earlier: Snapshot, later: Snapshot, window_s: float) -> dict[str, float]:
    """CPUs' worth of time used by each domain that both snapshots have."""
    loads = {}
    for same, domain in _in_both(earlier, later):
        used = used_between(same, domain, window_s)
        if used is not None:
            loads[domain.name] = used
    return loads


def used_between(earlier: Domain, later: Domain, window_s: float) -> float | None:
    """CPUs' worth of time that a domain used, as two snapshots have it; None where the host does not tell."""
    before_ns, now_ns = earlier.time_ns, later.time_ns
    if before_ns is None or now_ns is None:
        return None
    return min(max(now_ns - before_ns, 0) / 1e9 / window_s, float(len(later.vcpus)))


def moved_between(earlier: Domain, later: Domain) -> int | None:
    """Bytes of memory traffic between two looks at one domain; None where the host does not tell, or began anew."""
    if earlier.id != later.id or earlier.traffic_bytes is None or later.traffic_bytes is None:
        return None
    moved = later.traffic_bytes - earlier.traffic_bytes
    return moved if moved >= 0 else None


def busy_traffic(traffic_gbs: Mapping[str, float], used: Mapping[str, float]) -> dict[str, float]:
    """Memory traffic of one vCPU of each domain while it is busy, in GB/s, where that can be told: of domains with so
    much traffic in all that use so many vCPUs' worth of time."""
    return {which: gbs / used[which] for which, gbs in traffic_gbs.items() if used.get(which, 0.0) >= BUSY}


def wanted(domain: Domain, used: float, waiting: float) -> float:
    """vCPUs that want to run at once, of a domain that uses so much CPU time and has so many waiting: no more than are
    online, and of those that wait none that its cap keeps waiting, whom no pCPU would help."""
    online = float(sum(vcpu.online for vcpu in domain.vcpus))
    return max(min(used, online), capped(min(used + waiting, online), domain.cap_percent))


def capped(demand: float, cap_percent: int) -> float:
    """Demand within a cap in per cent of a pCPU; 0 is none."""
    return min(demand, cap_percent / 100.0) if cap_percent > 0 else demand


def _slowdowns(earlier: Snapshot, later: Snapshot) -> dict[str, float]:
    """The slowdown of each domain that both snapshots have and that worked between them."""
    found = {}
    for same, domain in _in_both(earlier, later):
        if domain.waited_ns is None or domain.work_ns is None or domain.time_ns is None:
            continue
        work_ns = domain.work_ns - (same.work_ns or 0)
        spent_ns = domain.time_ns - (same.time_ns or 0) + domain.waited_ns - (same.waited_ns or 0)
        if work_ns > 0:
            found[domain.name] = spent_ns / work_ns
    return found


def _in_both(earlier: Snapshot, later: Snapshot) -> Iterator[tuple[Domain, Domain]]:
    """Each domain that both snapshots have, as it was and as it is."""
    before = {(domain.id, domain.uuid): domain for domain in earlier.domains}
    for domain in later.domains:
        same = before.get((domain.id, domain.uuid))
        if same is not None:
            yield same, domain
