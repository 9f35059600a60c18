"""A placement policy small enough to be seen to be right: the emptiest node that holds the guest, else the fewest."""

from __future__ import annotations

from collections.abc import Sequence

from domicile.errors import NotEnoughMemory
from domicile.manager.promise import Policy
from domicile.policies.plan import Placement, PlacementPlan
from domicile.state.model import Snapshot
from domicile.state.request import GuestRequest, Intent

__all__ = ["emptiest", "fixed"]


def emptiest(snapshot: Snapshot, requests: Sequence[GuestRequest], intent: Intent) -> PlacementPlan:
    """Each guest on the node with the most memory that nobody has or is promised."""
    free = {node: snapshot.available_mib(node) for node in snapshot.topology.node_ids}
    placements = []
    for request in requests:
        order = sorted(free, key=lambda node: (-free[node], node))
        for count in range(1, len(order) + 1):
            nodes = tuple(sorted(order[:count]))
            share = -(-request.need_mib // count)
            if all(free[node] >= share for node in nodes):
                break
        else:
            raise NotEnoughMemory(request.name, request.need_mib, sum(free.values()))
        for node in nodes:
            free[node] -= share
        placements.append(placement(snapshot, request, nodes, share))
    return PlacementPlan(tuple(placements), "emptiest")


def fixed(*nodes: int) -> Policy:
    """A policy that puts everything on these nodes, without looking."""

    def policy(snapshot: Snapshot, requests: Sequence[GuestRequest], intent: Intent) -> PlacementPlan:
        share = [-(-request.need_mib // len(nodes)) for request in requests]
        placements = [placement(snapshot, each, nodes, mib) for each, mib in zip(requests, share, strict=True)]
        return PlacementPlan(tuple(placements), "fixed")

    return policy


def placement(snapshot: Snapshot, request: GuestRequest, nodes: Sequence[int], reserve_mib: int) -> Placement:
    """On these nodes, evenly."""
    cpus = snapshot.topology.cpus_of(nodes)
    each, over = divmod(request.memory_mib, len(nodes))
    return Placement(
        domain=request.name,
        nodes=tuple(nodes),
        soft_affinity=(cpus,) * request.max_vcpus,
        memory_mib={node: each + (index < over) for index, node in enumerate(nodes)},
        reserve_mib=dict.fromkeys(nodes, reserve_mib),
        predicted_slowdown=1.0,
    )
