"""What a simulated Xen does with a domain that has no affinity: libxl's automatic placement, in short.

Source: tools/libs/light/libxl_numa.c, Xen 4.17: fewest nodes that fit, then the fewest vCPUs counted on them, then the
most free memory. Left out: that every combination is tried when one node is not enough; here the nodes are taken one by
one, the least used first. Who needs libxl's exact choice passes another function to `open_simulated`.
"""

from __future__ import annotations

from collections.abc import Callable

from domicile.state.model import Snapshot
from domicile.state.request import GuestRequest

__all__ = ["ChooseNodes", "least_used_nodes"]

ChooseNodes = Callable[[Snapshot, GuestRequest], frozenset[int] | None]
"""From the host and a guest without affinity to the nodes that it is given; None: it stays unplaced."""

MOST_NODES = 16


def least_used_nodes(snapshot: Snapshot, request: GuestRequest) -> frozenset[int] | None:
    """The least used nodes that hold the guest; None on one node, on more than 16, or where nothing fits."""
    topology = snapshot.topology
    if not 1 < len(topology.nodes) <= MOST_NODES:
        return None
    used = {node: _vcpus_counted(snapshot, node) for node in topology.node_ids}
    free = {node.id: node.free_mib or 0 for node in topology.nodes}
    candidates = sorted(
        (node for node in topology.node_ids if topology.cpus_by_node[node] and free[node]),
        key=lambda node: (used[node], -free[node], node),
    )
    alone = [node for node in candidates if _fits(snapshot, request, frozenset({node}))]
    if alone:
        return frozenset(alone[:1])
    for count in range(2, len(candidates) + 1):
        nodes = frozenset(candidates[:count])
        if _fits(snapshot, request, nodes):
            return nodes
    return None


def _fits(snapshot: Snapshot, request: GuestRequest, nodes: frozenset[int]) -> bool:
    free = sum(snapshot.topology.node(node).free_mib or 0 for node in nodes)
    return free >= request.need_mib and len(snapshot.topology.cpus_of(nodes)) >= request.max_vcpus


def _vcpus_counted(snapshot: Snapshot, node: int) -> int:
    """libxl's count: a vCPU counts on every node in its hard affinity and its domain's node-affinity."""
    cpus = frozenset(snapshot.topology.cpus_by_node[node])
    return sum(
        bool(vcpu.hard_affinity & cpus)
        for domain in snapshot.domains
        if domain.node_affinity is None or node in domain.node_affinity
        for vcpu in domain.vcpus
    )
