"""The host as it will be once a guest is placed: a snapshot of a moment that has not come, for decisions one by one."""

from __future__ import annotations

from dataclasses import replace

from domicile.policies.plan import Placement
from domicile.state.model import Domain, Snapshot, Vcpu
from domicile.state.request import GuestRequest

__all__ = ["with_guest"]


def with_guest(
    snapshot: Snapshot, request: GuestRequest, placement: Placement, node_affinity: frozenset[int]
) -> Snapshot:
    """The snapshot with one more domain, its memory taken from the free memory of its nodes. One whose placement is
    `hard` may run nowhere else, unless the configuration says where it may."""
    everywhere = frozenset(cpu.id for cpu in snapshot.topology.cpus)

    def affinity(given: tuple[frozenset[int], ...] | None, vcpu: int) -> frozenset[int]:
        return given[vcpu] if given and vcpu < len(given) else everywhere

    hard = request.hard_affinity or (placement.soft_affinity if placement.hard else None)
    domain = Domain(
        id=1 + max((other.id for other in snapshot.domains), default=0),
        name=request.name,
        uuid=request.uuid,
        vcpus=tuple(
            Vcpu(
                id=vcpu,
                pcpu=None,
                hard_affinity=affinity(hard, vcpu),
                soft_affinity=affinity(placement.soft_affinity, vcpu),
                online=vcpu < request.vcpus,
            )
            for vcpu in range(request.max_vcpus)
        ),
        memory_mib=request.memory_mib,
        max_memory_mib=request.max_memory_mib,
        type=request.type,
        node_affinity=node_affinity,
        cpupool=request.cpupool,
        weight=request.weight,
        cap_percent=request.cap_percent,
        devices=request.devices,
        vnodes=placement.vnodes or request.vnodes,
    )
    nodes = tuple(
        node
        if node.free_mib is None
        else replace(node, free_mib=max(node.free_mib - placement.reserve_mib.get(node.id, 0), 0))
        for node in snapshot.topology.nodes
    )
    return replace(snapshot, topology=replace(snapshot.topology, nodes=nodes), domains=(*snapshot.domains, domain))
