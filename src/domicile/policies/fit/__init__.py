"""Does a guest with virtual nodes fit on a host, each virtual node on a host node of its own; and if so, where best?

The answer is exact either way. Which virtual node a host node can bear is looked at once for each pair; whether all
can be had together is a bipartite matching (`matching`); and of all sets of host nodes that will do, the one whose
nodes are nearest to each other is found by branch and bound (`nearest`).
"""

from __future__ import annotations

from collections.abc import Sequence

from domicile.policies.fit.matching import hall_violator, match
from domicile.policies.fit.model import Fit, HostNode, NoFit, Requirement, VirtualNode
from domicile.policies.fit.nearest import nearest

__all__ = ["Fit", "HostNode", "NoFit", "Requirement", "VirtualNode", "assign", "bears", "fit"]


def fit(
    guest: Sequence[VirtualNode],
    host: Sequence[HostNode],
    distances: Sequence[Sequence[float]],
    requirements: Sequence[Requirement] = (),
    *,
    oversubscription: float = 1.0,
) -> Fit | NoFit:
    """Assign each virtual node to a host node of its own. `distances` is host nodes x host nodes; shared vCPUs of a
    node may be up to `oversubscription` times its pCPUs."""
    rows = [
        sum(1 << number for number, node in enumerate(host) if bears(node, virtual, oversubscription))
        for virtual in guest
    ]
    return assign(rows, distances, requirements)


def bears(node: HostNode, virtual: VirtualNode, oversubscription: float = 1.0) -> bool:
    """Whether a host node can bear a virtual node: its memory in pages of one size, and its vCPUs on pCPUs of their
    own (dedicated) or among others (shared; never more than there are pCPUs, whatever the oversubscription)."""
    if virtual.memory_mib * 1024 > node.free_pages.get(virtual.page_kib, 0) * virtual.page_kib:
        return False
    if virtual.memory_mib * 1024 % virtual.page_kib:
        return False
    if virtual.dedicated:
        return virtual.vcpus <= node.free_pcpus
    return virtual.vcpus <= node.pcpus and node.shared_vcpus + virtual.vcpus <= node.pcpus * oversubscription


def assign(
    rows: Sequence[int],
    distances: Sequence[Sequence[float]],
    requirements: Sequence[Requirement] = (),
    *,
    best: bool = True,
) -> Fit | NoFit:
    """Assign by what fits: bit h of `rows[v]` says that host node h can bear virtual node v.

    `best` looks for the nearest nodes; without, any assignment will do.
    """
    anywhere = match(rows)
    if None in anywhere:
        virtual, nodes = hall_violator(rows, anywhere)
        return NoFit(virtual, nodes)
    found = tuple(node for node in anywhere if node is not None)
    if not best and not requirements:
        return Fit(found, _apart(found, distances), proven=False)
    nearer = nearest(rows, distances, requirements, first_will_do=not best)
    return nearer or NoFit((), ())


def _apart(nodes: Sequence[int], distances: Sequence[Sequence[float]]) -> float:
    return sum(distances[one][other] for one in nodes for other in nodes if one != other)
