"""Why a domain is not moved, in general and in one of the ways; "" where nothing is against it.

Seen on Xen 4.17: a PV domain's live migration fails (`Failed to enable logdirty: 95`) and it runs on where it was; a
paused one cannot be suspended. Read there: libxl refuses to save or migrate a domain with vnuma, and takes the memory
of its virtual nodes from exactly their nodes, so that a balloon brings it back to the same ones.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from domicile.policies.migration.records import Permits
from domicile.state.model import Domain, DomainType, Snapshot
from domicile.topology.ids import format_ids

__all__ = [
    "BEING_MOVED",
    "allowed_cpus",
    "pool_cpus",
    "why_no_memory",
    "why_not_at_all",
    "why_not_ballooned",
    "why_not_live",
    "why_not_saved",
    "why_not_there",
]

BEING_MOVED = ("--incoming", "--migratedaway")
"""What xl appends to the name of a domain that is received, or that was sent (tools/xl/xl_migrate.c, 4.17)."""


def why_not_at_all(snapshot: Snapshot, domain: Domain, permits: Permits) -> str:
    """What is against moving this domain anywhere, in whatever way."""
    if domain.id == 0:
        return "Dom0's place is that of `domicile dom0`"
    if not permits.may_move:
        return permits.why
    if domain.paused:
        return "it is paused"
    if domain.vnodes:
        return "it has vnuma, whose virtual nodes Xen keeps on their nodes, and which libxl neither saves nor migrates"
    return _why_busy(snapshot, domain)


def _why_busy(snapshot: Snapshot, domain: Domain) -> str:
    """Somebody is at it already."""
    both = tuple(domain.name + suffix for suffix in BEING_MOVED)
    if domain.name.endswith(BEING_MOVED) or any(other.name in both for other in snapshot.domains):
        return "it is being migrated already"
    if any(reservation.domain in (domain.name, *both) for reservation in snapshot.reservations):
        return "memory is reserved for it: it is being started or moved already"
    return ""


def why_not_there(snapshot: Snapshot, domain: Domain, nodes: tuple[int, ...]) -> str:
    """What is against its vCPUs on these nodes."""
    topology = snapshot.topology
    unknown = [node for node in nodes if node not in topology.node_index]
    if unknown or not nodes:
        return f"this host has no node {format_ids(unknown)}" if unknown else "no node is named"
    pool = pool_cpus(snapshot, domain)
    outside = [node for node in nodes if pool.isdisjoint(topology.cpus_by_node[node])]
    if outside:
        return f"its cpupool {domain.cpupool} has no pCPU on node {format_ids(outside)}"
    there = topology.cpus_of(nodes)
    allowed = allowed_cpus(snapshot, domain, pool)
    for vcpu, cpus in allowed.items():
        if cpus.isdisjoint(there):
            return f"the administrator set the hard affinity of vCPU {vcpu}: CPUs {format_ids(cpus)}"
    sets = {id(cpus): cpus for cpus in allowed.values()}
    together = frozenset().union(*sets.values()) if sets else pool
    outside = [node for node in nodes if together.isdisjoint(topology.cpus_by_node[node])]
    if outside:
        return (
            f"the administrator's hard affinity, CPUs {format_ids(together)}, keeps it off node {format_ids(outside)}"
        )
    return ""


def why_not_live(domain: Domain) -> str:
    """What is against its live migration, wherever to."""
    if domain.type is DomainType.PV:
        return "it is PV, whose live migration this Xen cannot: there is no log of the pages that it writes"
    if domain.type is None:
        return "the host does not tell its type, and PV domains cannot be migrated live"
    return _devices(domain)


def why_not_saved(domain: Domain, pause_s: float, disk_mib: float, permits: Permits) -> str:
    """What is against saving it."""
    if devices := _devices(domain):
        return devices
    if pause_s > permits.pause_s:
        return f"it would stand still for {pause_s:.1f} s, and may for {permits.pause_s:g} s"
    if permits.disk_mib is not None and disk_mib > permits.disk_mib:
        return f"its file takes {disk_mib:.0f} MiB, and there is room for {permits.disk_mib:.0f} MiB"
    return ""


def why_not_ballooned(domain: Domain, permits: Permits) -> str:
    """What is against ballooning it."""
    if permits.minimum_mib is None:
        return "nobody says how far it can be ballooned down"
    if permits.minimum_mib >= domain.memory_mib:
        return f"it has {domain.memory_mib} MiB, and needs {permits.minimum_mib} MiB at least"
    if domain.pages_by_node is None:
        return "no memory map tells where its memory is"
    if domain.target_mib is not None and domain.memory_mib - domain.target_mib > _slack_mib(domain):
        return f"it has {domain.memory_mib} MiB, and has not come down to its target of {domain.target_mib} MiB"
    return ""


def why_no_memory(nodes: tuple[int, ...], need_mib: int, free_mib: int, beside: str) -> str:
    """Not enough of it."""
    return (
        f"needs {need_mib} MiB {beside}, node {format_ids(nodes)} has {max(free_mib, 0)} MiB free and not promised to "
        f"others"
    )


def pool_cpus(snapshot: Snapshot, domain: Domain) -> frozenset[int]:
    """The CPUs of its cpupool; all, where the host does not tell."""
    everywhere = frozenset(cpu.id for cpu in snapshot.topology.cpus)
    for pool in snapshot.cpupools:
        if pool.name == domain.cpupool:
            return pool.cpus & everywhere
    return everywhere


def allowed_cpus(snapshot: Snapshot, domain: Domain, pool: Collection[int]) -> Mapping[int, frozenset[int]]:
    """What the administrator lets each vCPU that is online run on; a hold is the manager's and is not counted."""
    before = {(held.uuid, held.vcpu): held.before for held in snapshot.holds}
    hard = {vcpu.id: before.get((domain.uuid, vcpu.id), vcpu.hard_affinity) for vcpu in domain.vcpus if vcpu.online}
    # most vCPUs share one set
    within = {id(cpus): cpus.intersection(pool) for cpus in {id(each): each for each in hard.values()}.values()}
    return {vcpu: within[id(cpus)] for vcpu, cpus in hard.items()}


def _devices(domain: Domain) -> str:
    return f"it has passed-through devices ({', '.join(domain.devices)}), which stay here" if domain.devices else ""


def _slack_mib(domain: Domain) -> int:
    """By how much a domain that is at its target has more: video memory counts in the one and not in the other, up to
    128 MiB (qxl, libxl_create.c 4.17)."""
    return 128 if domain.type is DomainType.HVM else 4
