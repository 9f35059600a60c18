"""Where a domain is at home, and how much of its memory is remote from where it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from domicile.state.model import Domain
from domicile.topology.model import Topology

__all__ = ["home_nodes", "remote_share", "vcpu_share_by_node"]


def home_nodes(domain: Domain, topology: Topology) -> tuple[int, ...]:
    """The nodes that a domain is bound to, by affinity; all of them, ascending, for a domain that is bound to none.

    Soft affinity within hard affinity tells where it is wanted; where that is everywhere, its node-affinity does.
    """
    wanted: set[int] = set()
    everywhere = {cpu.id for cpu in topology.cpus}
    node_of = {cpu.id: cpu.node for cpu in topology.cpus}
    for vcpu in domain.vcpus:
        allowed = (vcpu.hard_affinity & vcpu.soft_affinity or vcpu.hard_affinity) & everywhere
        wanted |= {node for cpu in allowed if (node := node_of[cpu]) is not None}
    with_cpus = {node for node, cpus in topology.cpus_by_node.items() if cpus}
    if wanted >= with_cpus and domain.node_affinity:
        wanted = set(domain.node_affinity)
    return tuple(sorted(wanted & set(topology.node_ids)))


def vcpu_share_by_node(domain: Domain, topology: Topology) -> dict[int, float]:
    """Node id to the share of the domain's online vCPUs that ran there last; empty if none has run."""
    node_of = {cpu.id: cpu.node for cpu in topology.cpus}
    nodes = Counter(
        node
        for vcpu in domain.vcpus
        if vcpu.online and vcpu.pcpu is not None and (node := node_of.get(vcpu.pcpu)) is not None
    )
    total = nodes.total()
    return {node: count / total for node, count in nodes.items()}


def remote_share(domain: Domain, vcpu_share: Mapping[int, float]) -> float | None:
    """The share of accesses that leave the node of the vCPU that makes them, if each vCPU uses all memory alike.

    `vcpu_share` is node id to share of vCPUs there. None without a memory map, or where no vCPU has run.
    """
    if not domain.pages_by_node or not vcpu_share:
        return None
    total = sum(domain.pages_by_node.values())
    if not total:
        return None
    local = sum(share * domain.pages_by_node.get(node, 0) for node, share in vcpu_share.items())
    return max(0.0, 1.0 - local / total)
