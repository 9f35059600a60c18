"""Where a simulated domain's memory goes: node-affinity and the allocator, as in Xen.

Sources: xen/common/sched/core.c `domain_update_node_affinity` (narrowest of soft and hard affinity) and
xen/common/page_alloc.c `get_free_buddy` (round robin over the node-affinity; when that is exhausted, silently the
other nodes, from the first on), Xen 4.17. Left out: superpages, zones, and the order in which nodes alternate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from domicile.state.model import Vcpu
from domicile.topology.model import Topology

__all__ = ["even_shares", "node_affinity", "take_pages"]


def node_affinity(vcpus: Iterable[Vcpu], pool_cpus: frozenset[int], topology: Topology) -> frozenset[int]:
    """The nodes of the CPUs that the vCPUs prefer among those they may use; of all they may use where none is."""
    hard: frozenset[int] = frozenset()
    soft: frozenset[int] = frozenset()
    for vcpu in vcpus:
        hard |= vcpu.hard_affinity
        soft |= vcpu.soft_affinity
    allowed = hard & pool_cpus
    wanted = (soft & allowed) or allowed
    return frozenset(cpu.node for cpu in topology.cpus if cpu.id in wanted and cpu.node is not None)


def take_pages(pages: int, free: Mapping[int, int], preferred: Iterable[int]) -> dict[int, int]:
    """Node id to pages taken there: evenly from the preferred nodes, the rest from the others in ascending order.

    The caller has made sure that the host has so many; ValueError if it has not.
    """
    wanted = set(preferred)
    taken = even_shares(pages, {node: free[node] for node in sorted(free) if node in wanted})
    rest = pages - sum(taken.values())
    for node in sorted(set(free) - wanted):
        part = min(rest, free[node])
        if part > 0:
            taken[node] = part
            rest -= part
    if rest:
        raise ValueError(f"{rest} pages too many")
    return taken


def even_shares(pages: int, limits: Mapping[int, int]) -> dict[int, int]:
    """As many of the pages as the limits allow, as evenly as they allow; nodes that give none are left out."""
    shares: dict[int, int] = {}
    rest = pages
    # who can give least goes first, so that the others share what it could not; of equals, the first node gives more
    for given, node in enumerate(sorted(limits, key=lambda node: (limits[node], -node))):
        shares[node] = min(limits[node], rest // (len(limits) - given))
        rest -= shares[node]
    return {node: shares[node] for node in limits if shares[node]}
