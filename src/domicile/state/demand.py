"""Demand: how many vCPUs of each domain want to run at once, from what the host measured so far.

A host's counters only grow: what ran between two looks at them is known exactly, and nothing in between is. So what
was seen is kept as one figure for each domain, the mean over all that was seen of it, in which a second counts half as
much for every `HALF_LIFE_S` that it lies back. With u_i busy vCPUs from t_(i-1) to t_i, and now = t_n,

    mean = sum of w_i * u_i / sum of w_i        w_i = 2 ** -((now - t_i) / half) - 2 ** -((now - t_(i-1)) / half)

where w_i is the interval's share of all weight there is. Cutting an interval in two changes nothing but what is known,
so it does not matter how often somebody looked.

- A vCPU that waits wants to run: time waited counts as time run does, where the host tells it. A real Xen does not;
  it tells which vCPUs are runnable without a pCPU at a look, and these are taken to have waited since the look before.
  One look says little of one domain, and much of a node: without it, one with twice as many busy vCPUs as pCPUs would
  look no fuller than one with as many.
- Of a domain that was never seen before, its whole life is the first interval, where the host knows when it began.
- A domain that has not run yet (it is paused, and used no time) or was seen for less than `LEAST_SEEN_S` says nothing:
  its vCPUs are counted.

Where the idle times of pCPUs and the times of vCPUs do not agree, vCPUs win: they say whose the time was, and it is
domains that are placed. Idle times differ by what ended or began in between (the one is not there any more, the other
is counted by its own rule), by Xen's own work, and by rounding. They serve for domains whose time the host does not
tell: these share what pCPUs were busy beyond all times that are known, by their vCPUs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from domicile.state.load import wanted
from domicile.state.model import Domain, Snapshot

__all__ = ["HALF_LIFE_S", "LEAST_SEEN_S", "Seen", "Used", "demand_between", "demand_of", "seen_now"]

HALF_LIFE_S = 60.0
"""A load of a minute ago says half as much as that of now. An assumption: guests' loads change within minutes, and
Linux's load averages, which people are used to, forget at 1, 5 and 15 minutes."""

LEAST_SEEN_S = 1.0
"""Less than this is too little to tell a domain's load by: `xl vcpu-list` tells times in tenths of a second."""

Key = tuple[int, str]
"""A domain's id and UUID: a guest that was started again is another."""


@dataclass(frozen=True, slots=True)
class Used:
    """What was seen of a domain: its counter at the last look, how long it was seen (of the time that still counts:
    1 - 2 ** -(seconds / half-life)), and the mean of vCPUs that wanted to run over that time."""

    spent_ns: int
    weight: float = 0.0
    mean: float = 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a host up to `taken_at`, its clock. `idle_ns` is all its pCPUs' idle time together."""

    taken_at: float
    idle_ns: int
    domains: Mapping[Key, Used] = field(default_factory=dict)


def seen_now(snapshot: Snapshot, before: Seen | None = None, half_life_s: float = HALF_LIFE_S) -> Seen:
    """What was seen of a host with this snapshot, the newest of it.

    What was seen before is dropped where the host has been booted since (its counters are lower) or its clock was set
    back. A look at the same moment, or at one before it, changes nothing.
    """
    idle_ns = sum(snapshot.pcpu_idle_ns.values())
    earlier = before if before is not None and _same_boot(before, snapshot, idle_ns) else None
    if earlier is not None and snapshot.taken_at == earlier.taken_at:
        return earlier
    domains = {}
    for domain in snapshot.domains:
        spent_ns = _spent_ns(domain)
        if spent_ns is None or _not_run_yet(domain):
            continue
        used = earlier.domains.get(_key(domain)) if earlier else None
        if used is not None and earlier is not None and used.spent_ns <= spent_ns:
            domains[_key(domain)] = _later(used, domain, snapshot.taken_at - earlier.taken_at, half_life_s)
        else:
            age_s = _age_s(domain, snapshot)
            domains[_key(domain)] = _later(Used(0), domain, age_s, half_life_s) if age_s else Used(spent_ns)
    return Seen(snapshot.taken_at, idle_ns, domains)


def demand_of(snapshot: Snapshot, seen: Seen, half_life_s: float = HALF_LIFE_S) -> dict[str, float]:
    """Domain name to vCPUs that want to run at once; domains that nothing is known of are left out.

    `seen` is what was seen up to this snapshot. Never more than a domain has vCPUs online.
    """
    least = 1.0 - 0.5 ** (LEAST_SEEN_S / half_life_s)
    found = {}
    for domain in snapshot.domains:
        used = seen.domains.get(_key(domain))
        if used is not None and used.weight >= least * (1 - 1e-9):
            found[domain.name] = min(used.mean, float(sum(vcpu.online for vcpu in domain.vcpus)))
    return found


def demand_between(earlier: Snapshot, later: Snapshot) -> dict[str, float]:
    """Demand by a window alone, for the domains that were there throughout and the host tells time of, or idle times.

    Raises ValueError if the snapshots are not in order.
    """
    window_s = later.taken_at - earlier.taken_at
    if window_s <= 0:
        raise ValueError("the second snapshot is not later than the first")
    before = {_key(domain): domain for domain in earlier.domains}
    found: dict[str, float] = {}
    untold: list[Domain] = []
    for domain in later.domains:
        same = before.get(_key(domain))
        if same is None or _not_run_yet(domain):
            continue
        now_ns, then_ns = _spent_ns(domain), _spent_ns(same)
        if now_ns is None or then_ns is None:
            untold.append(domain)
        else:
            waiting = (_waiting(same) + _waiting(domain)) / 2.0
            found[domain.name] = wanted(domain, max(now_ns - then_ns, 0) / 1e9 / window_s, waiting)
    if untold and later.pcpu_idle_ns and earlier.pcpu_idle_ns.keys() == later.pcpu_idle_ns.keys():
        found |= _shared_out(untold, _busy(earlier, later, window_s) - sum(found.values()))
    return found


def _busy(earlier: Snapshot, later: Snapshot, window_s: float) -> float:
    """pCPUs busy at once over a window."""
    idle_s = (sum(later.pcpu_idle_ns.values()) - sum(earlier.pcpu_idle_ns.values())) / 1e9
    return max(len(later.pcpu_idle_ns) - idle_s / window_s, 0.0)


def _shared_out(domains: list[Domain], busy: float) -> dict[str, float]:
    """Busy pCPUs that no domain's time explains, over the domains whose time is not told, by their vCPUs."""
    vcpus = sum(_online(domain) for domain in domains)
    each = min(max(busy, 0.0) / vcpus, 1.0) if vcpus else 0.0
    return {domain.name: each * _online(domain) for domain in domains}


def _later(used: Used, domain: Domain, passed_s: float, half_life_s: float) -> Used:
    """What is known of a domain once so much more time has passed."""
    kept, spent_ns = 0.5 ** (passed_s / half_life_s), _spent_ns(domain) or 0
    old, new = used.weight * kept, 1.0 - kept
    now = wanted(domain, (spent_ns - used.spent_ns) / 1e9 / passed_s, _waiting(domain))
    return replace(used, spent_ns=spent_ns, weight=old + new, mean=(old * used.mean + new * now) / (old + new))


def _key(domain: Domain) -> Key:
    return (domain.id, domain.uuid)


def _online(domain: Domain) -> float:
    return float(sum(vcpu.online for vcpu in domain.vcpus))


def _not_run_yet(domain: Domain) -> bool:
    return domain.paused and not domain.time_ns


def _spent_ns(domain: Domain) -> int | None:
    """Time that its vCPUs ran or waited to run."""
    return None if domain.time_ns is None else domain.time_ns + (domain.waited_ns or 0)


def _waiting(domain: Domain) -> float:
    """vCPUs that wait for a pCPU at this look, where that is all that is told of waiting."""
    return float(domain.waiting_vcpus) if domain.waited_ns is None else 0.0


def _same_boot(before: Seen, snapshot: Snapshot, idle_ns: int) -> bool:
    """Whether the host has not been booted since; its clock was not set back either."""
    dom0 = next((domain for domain in snapshot.domains if domain.id == 0), None)
    used = before.domains.get(_key(dom0)) if dom0 else None
    went_back = used is not None and dom0 is not None and (_spent_ns(dom0) or 0) < used.spent_ns
    return snapshot.taken_at >= before.taken_at and idle_ns >= before.idle_ns and not went_back


def _age_s(domain: Domain, snapshot: Snapshot) -> float:
    """How long a domain has been there; 0.0 where the host does not tell. Dom0 is as old as the host."""
    if domain.started_at is not None:
        return max(snapshot.taken_at - domain.started_at, 0.0)
    idle_ns = snapshot.pcpu_idle_ns
    if domain.id != 0 or not any(idle_ns.values()):
        return 0.0
    # no pCPU was idle for longer, and idle and used time together are no more than the age for each pCPU
    used_ns = sum(other.time_ns or 0 for other in snapshot.domains)
    return max(*idle_ns.values(), (sum(idle_ns.values()) + used_ns) / len(idle_ns)) / 1e9
