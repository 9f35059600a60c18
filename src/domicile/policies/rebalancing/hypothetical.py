"""A host as it is once a move is done, by what was predicted of it."""

from __future__ import annotations

from dataclasses import replace

from domicile.policies.migration.landing import overhead_mib
from domicile.policies.migration.records import Option, Way
from domicile.policies.migration.refusals import pool_cpus
from domicile.state.model import PAGES_PER_MIB, Domain, Snapshot

__all__ = ["after_move"]


def after_move(snapshot: Snapshot, domain: Domain, option: Option) -> Snapshot:
    """The host with this domain moved: its memory, its vCPUs' soft affinity, its node-affinity, and what is free.

    What is promised stays promised. KeyError if the domain is not there.
    """
    topology = snapshot.topology
    free = {node.id: node.free_mib or 0 for node in topology.nodes}
    before = domain.memory_by_node_mib or {}
    if option.way is not Way.VCPUS:
        for node, mib in before.items():
            free[node] += mib
        for node, mib in option.memory_mib.items():
            free[node] -= mib
        # what Xen needs beside its memory is in no map: rather too little is free here than too much
        if option.way is not Way.BALLOON and option.nodes:
            room = max(option.nodes, key=lambda node: (free[node], -node))
            free[room] -= min(overhead_mib(domain), max(free[room], 0))
    nodes = tuple(replace(node, free_mib=free[node.id]) for node in topology.nodes)
    soft = topology.cpus_of(option.nodes) & pool_cpus(snapshot, domain)
    moved = replace(
        domain,
        pages_by_node={node: mib * PAGES_PER_MIB for node, mib in option.memory_mib.items()},
        node_affinity=frozenset(option.nodes),
        vcpus=tuple(replace(vcpu, soft_affinity=soft) for vcpu in domain.vcpus),
    )
    row = next(
        index for index, each in enumerate(snapshot.domains) if each.uuid == domain.uuid and each.id == domain.id
    )
    domains = (*snapshot.domains[:row], moved, *snapshot.domains[row + 1 :])
    return replace(snapshot, topology=replace(topology, nodes=nodes), domains=domains)
