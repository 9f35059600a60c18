"""The ways to bring a domain to other nodes of its host, each with its cost, or with the reason why it cannot be gone.

An option that is not refused leaves the domain at home on the nodes that were asked for: its memory as `memory_mib`
says, and (for the one who carries it out) its vCPUs by soft affinity. `VCPUS` therefore is one only where the memory
is on these nodes already; to move vCPUs to memory that is elsewhere, ask for the nodes where it is.

Left out: memory that a guest shares or has granted to others, superpages that come back as single pages, disk slower
than the rate, page cache that a ballooned guest has to read again.
"""

from __future__ import annotations

from collections.abc import Mapping

from domicile.policies.migration.copying import DIRTY_MIB_S, Copying, ballooned, live, saved
from domicile.policies.migration.felt import COPIER_CPUS, Ground
from domicile.policies.migration.landing import Landing, as_ballooned, as_built_anew, as_built_beside
from domicile.policies.migration.records import USUAL_PERMITS, Cost, Option, Permits, Way
from domicile.policies.migration.refusals import (
    why_no_memory,
    why_not_at_all,
    why_not_ballooned,
    why_not_live,
    why_not_saved,
    why_not_there,
)
from domicile.state.model import Domain, Snapshot
from domicile.topology.ids import format_ids

__all__ = ["AT_HOME", "Cost", "Option", "Permits", "Way", "options"]

AT_HOME = 0.9
"""A domain with this share of its memory on its nodes is at home there. An assumption."""

FAULT_S = 2e-6
"""The first write to a page in each round of a live migration traps to Xen. Some thousand cycles, an assumption."""

PAGE_BACK_S = 1e-6
"""A page is given back, or got: a hypercall for many of them, scrubbing, the guest's own book-keeping. An
assumption."""

PAGES = 256.0


def options(
    snapshot: Snapshot,
    domain: Domain,
    nodes: tuple[int, ...],
    permits: Permits = USUAL_PERMITS,
    ground: Ground | None = None,
) -> list[Option]:
    """All four ways to these nodes (ids), the preferred one first, those that are refused last.

    Preferred is what brings the domain home for the least time lost; what brings only a part of its memory there comes
    after what brings it all. `ground` is the host's load, worked out from the snapshot alone if it is not given.
    """
    nodes = tuple(sorted(set(nodes)))
    general = why_not_at_all(snapshot, domain, permits) or why_not_there(snapshot, domain, nodes)
    if general:
        now = domain.memory_by_node_mib or {}
        return [Option(way, nodes, now, None, general) for way in Way]
    ground = ground or Ground.of(snapshot)
    found = [
        _live(snapshot, domain, nodes, permits, ground),
        _saved(snapshot, domain, nodes, permits, ground),
        _ballooned(snapshot, domain, nodes, permits, ground),
        _vcpus(domain, nodes),
    ]
    return sorted(found, key=_rank)


def _rank(option: Option) -> tuple[bool, float, float]:
    total = sum(option.memory_mib.values())
    there = sum(option.memory_mib.get(node, 0) for node in option.nodes) / total if total else 0.0
    lost_s = option.cost.slowdown_s if option.cost else 0.0
    return bool(option.refused), 0.0 if there >= AT_HOME else 1.0 - there, lost_s


def _live(snapshot: Snapshot, domain: Domain, nodes: tuple[int, ...], permits: Permits, ground: Ground) -> Option:
    landing = as_built_beside(snapshot, domain, nodes)
    copying = live(domain.memory_mib, permits.rate_mib_s, _dirty_mib_s(domain, permits))
    # log-dirty is on from the first page to the last, and every page that is written in a round faults once
    own_s = permits.counts * (copying.pause_s + copying.again_mib * PAGES * FAULT_S)
    cost = _cost(domain, landing, copying, ground, permits.rate_mib_s, own_s)
    refused = why_not_live(domain) or _there_already(domain, nodes)
    longest_s = max(permits.pause_s, permits.live_pause_s)
    if not refused and landing.after_mib is None:
        refused = why_no_memory(nodes, landing.need_mib, landing.free_mib, "beside what it has")
    if not refused and copying.pause_s > longest_s:
        refused = (
            f"it writes memory as fast as it is copied: it would stand still for {copying.pause_s:.1f} s at the end, "
            f"and may for {longest_s:g} s"
        )
    return Option(Way.LIVE, nodes, _after(domain, landing), cost, refused)


def _saved(snapshot: Snapshot, domain: Domain, nodes: tuple[int, ...], permits: Permits, ground: Ground) -> Option:
    landing = as_built_anew(snapshot, domain, nodes)
    copying = saved(domain.memory_mib, permits.rate_mib_s)
    own_s = permits.counts * copying.pause_s
    cost = _cost(domain, landing, copying, ground, permits.rate_mib_s / 2.0, own_s, disk_mib=float(domain.memory_mib))
    refused = why_not_saved(domain, copying.pause_s, domain.memory_mib, permits) or _there_already(domain, nodes)
    if not refused and landing.after_mib is None:
        refused = why_no_memory(nodes, landing.need_mib, landing.free_mib, "")
    return Option(Way.SAVE, nodes, _after(domain, landing), cost, refused)


def _ballooned(snapshot: Snapshot, domain: Domain, nodes: tuple[int, ...], permits: Permits, ground: Ground) -> Option:
    refused = why_not_ballooned(domain, permits) or _there_already(domain, nodes)
    if permits.minimum_mib is None or domain.pages_by_node is None or permits.minimum_mib >= domain.memory_mib:
        return Option(Way.BALLOON, nodes, domain.memory_by_node_mib or {}, None, refused)
    landing = as_ballooned(snapshot, domain, nodes, permits.minimum_mib)
    copying = ballooned(landing.need_mib, permits.rate_mib_s)
    own_s = permits.counts * 2.0 * landing.need_mib * PAGES * PAGE_BACK_S
    cost = _cost(domain, landing, copying, ground, 0.0, own_s)
    if not refused and landing.after_mib is None:
        refused = why_no_memory(nodes, landing.need_mib, landing.free_mib, "for what it would give elsewhere")
    return Option(Way.BALLOON, nodes, _after(domain, landing), cost, refused)


def _vcpus(domain: Domain, nodes: tuple[int, ...]) -> Option:
    now = domain.memory_by_node_mib
    refused = ""
    if now is None:
        refused = "no memory map tells where its memory is"
    elif 2 * sum(now.get(node, 0) for node in nodes) < sum(now.values()):
        most = max(now, key=lambda node: (now[node], -node))
        refused = f"most of its memory is elsewhere, on node {most} above all: its vCPUs alone would be remote from it"
    return Option(Way.VCPUS, nodes, now or {}, Cost(), refused)


def _there_already(domain: Domain, nodes: tuple[int, ...]) -> str:
    now = domain.memory_by_node_mib
    if now and all(node in nodes for node, mib in now.items() if mib):
        return f"all its memory is on node {format_ids(nodes)} already"
    return ""


def _dirty_mib_s(domain: Domain, permits: Permits) -> float:
    if permits.dirty_mib_s is not None:
        return permits.dirty_mib_s
    online = float(sum(vcpu.online for vcpu in domain.vcpus))
    return DIRTY_MIB_S * (online if permits.busy_vcpus is None else min(permits.busy_vcpus, online))


def _after(domain: Domain, landing: Landing) -> Mapping[int, int]:
    return (domain.memory_by_node_mib or {}) if landing.after_mib is None else landing.after_mib


def _cost(
    domain: Domain,
    landing: Landing,
    copying: Copying,
    ground: Ground,
    mib_s: float,
    own_s: float,
    disk_mib: float = 0.0,
) -> Cost | None:
    """`mib_s`: how fast memory is read, and written; `own_s`: what the guest loses, its pause included, as far as that
    counts."""
    if landing.after_mib is None:
        return None
    now = domain.memory_by_node_mib or {}
    flows = _flows(now, mib_s)
    for node, rate in _flows(landing.after_mib, mib_s).items():
        flows[node] = flows.get(node, 0.0) + rate
    moved = sum(max(mib - now.get(node, 0), 0) for node, mib in landing.after_mib.items())
    lost_s = ground.lost_per_s(flows, COPIER_CPUS if mib_s else 0.0) * copying.time_s
    return Cost(
        moved_mib=float(moved),
        time_s=copying.time_s,
        pause_s=copying.pause_s,
        twice_mib=landing.twice_mib,
        slowdown_s=lost_s + own_s,
        copied_mib=copying.copied_mib,
        disk_mib=disk_mib,
        rounds=copying.rounds,
    )


def _flows(by_node: Mapping[int, int], mib_s: float) -> dict[int, float]:
    """So many MiB a second, by where the memory is."""
    total = sum(by_node.values())
    return {node: mib_s * mib / total for node, mib in by_node.items()} if total else {}
