"""The JSON of `domicile show`: a snapshot, its load, and what follows from them."""

from __future__ import annotations

from typing import Any

from domicile.state.load import Load
from domicile.state.locality import home_nodes, remote_share, vcpu_share_by_node
from domicile.state.model import Domain, Snapshot

__all__ = ["host_json"]


def host_json(uri: str, snapshot: Snapshot, load: Load | None) -> dict[str, Any]:
    """A snapshot as JSON: nodes, domains with their vCPUs, reservations. Figures that are not known are null."""
    node_load = load.nodes if load else {}
    return {
        "uri": uri,
        "xen_version": snapshot.xen_version,
        "scheduler": snapshot.scheduler,
        "taken_at": snapshot.taken_at,
        "nodes": [
            {
                "id": node.id,
                "cpus": list(snapshot.topology.cpus_by_node[node.id]),
                "memory_mib": node.memory_mib,
                "free_mib": node.free_mib,
                "reserved_mib": snapshot.outstanding_mib[node.id],
                "available_mib": snapshot.available_mib(node.id),
                "load": round(node_load[node.id], 3) if node.id in node_load else None,
            }
            for node in snapshot.topology.nodes
        ],
        "claimed_mib": sum(domain.claimed_mib for domain in snapshot.domains),
        "domains": [_domain(domain, snapshot, load) for domain in snapshot.domains],
        "reservations": [
            {
                "domain": reservation.domain,
                "memory_mib": {str(node): mib for node, mib in reservation.memory_mib.items()},
                "vcpus": reservation.vcpus,
                "owner": reservation.owner,
            }
            for reservation in snapshot.reservations
        ],
        "cpupools": [
            {"name": pool.name, "cpus": sorted(pool.cpus), "scheduler": pool.scheduler} for pool in snapshot.cpupools
        ],
        "moves": [
            {
                "domain": move.order.domain,
                "uuid": move.order.uuid,
                "way": move.order.way.value,
                "nodes": list(move.order.nodes),
                "stage": move.stage,
                "done_mib": move.done_mib,
                "memory_mib": move.order.memory_mib,
                "end": move.end.value if move.end else None,
                "why": move.why,
            }
            for move in snapshot.moves
        ],
        "saved": list(snapshot.saved),
        "manager": snapshot.manager or None,
        "halted": snapshot.halted or None,
        "memory_map_age_s": snapshot.memory_map_age_s,
        "load_window_s": load.window_s if load else None,
        "notes": list(snapshot.notes),
    }


def _domain(domain: Domain, snapshot: Snapshot, load: Load | None) -> dict[str, Any]:
    """One domain."""
    remote = remote_share(domain, vcpu_share_by_node(domain, snapshot.topology))
    used = load.domains.get(domain.name) if load else None
    slowdown = load.slowdowns.get(domain.name) if load else None
    traffic_gbs = load.traffic_gbs.get(domain.name) if load else None
    return {
        "id": domain.id,
        "name": domain.name,
        "uuid": domain.uuid,
        "type": domain.type,
        "paused": domain.paused,
        "cpupool": domain.cpupool,
        "memory_mib": domain.memory_mib,
        "max_memory_mib": domain.max_memory_mib,
        "target_mib": domain.target_mib,
        "claimed_mib": domain.claimed_mib,
        "home_nodes": list(home_nodes(domain, snapshot.topology)),
        "node_affinity": None if domain.node_affinity is None else sorted(domain.node_affinity),
        "memory_pages": None
        if domain.pages_by_node is None
        else {str(node): pages for node, pages in sorted(domain.pages_by_node.items())},
        "remote_share": None if remote is None else round(remote, 4),
        "load": None if used is None else round(used, 3),
        "slowdown": None if slowdown is None else round(slowdown, 4),
        "traffic_gbs": None if traffic_gbs is None else round(traffic_gbs, 3),
        "devices": list(domain.devices),
        "vcpus": [
            {
                "id": vcpu.id,
                "pcpu": vcpu.pcpu,
                "online": vcpu.online,
                "running": vcpu.running,
                "waiting": vcpu.waiting,
                "hard_affinity": sorted(vcpu.hard_affinity),
                "soft_affinity": sorted(vcpu.soft_affinity),
                "held": any((held.uuid, held.vcpu) == (domain.uuid, vcpu.id) for held in snapshot.holds),
                "time_ns": vcpu.time_ns,
            }
            for vcpu in domain.vcpus
        ],
    }
