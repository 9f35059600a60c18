"""A rebalancer like that of VMware's ESXi: every 2 seconds, from an imbalance of 10 % on.

Source: vSphere Resource Management 7.0, "Using NUMA Systems with ESXi": "Home Nodes and Initial Placement" (a virtual
machine runs on the processors of its home node alone, and its memory comes from there), "Dynamic Load Balancing and
Page Migration" (the loads of the nodes are looked at every two seconds; a suitable virtual machine gets the least
loaded node as its home, one that has memory there already when there is one; its memory follows page by page), and
"Advanced NUMA Attributes" (Numa.RebalancePeriod 2000 ms, Numa.MigImbalanceThreshold 10 %: the imbalance of CPU load
between nodes that it takes). The code is not published.

Assumed where that is silent: load is the CPU time used of what a node's pCPUs have; a machine is suitable if the
difference between the two nodes is smaller once it has moved, the one with most memory on the new node first, then the
one that leaves the least difference; one machine moves in a period, to a node that has room for its memory. Left out:
entitlements, swaps of two machines for locality alone, machines of several NUMA clients (wider than a node: they keep
the nodes that they were placed on), and shared pages.
"""

from __future__ import annotations

from collections.abc import Mapping

from domicile.policies.baselines.rehoming import Rehoming, home_nodes, memory_mib, movable
from domicile.state.model import Domain, Snapshot

__all__ = ["IMBALANCE", "PERIOD_S", "first_home", "rebalance"]

PERIOD_S = 2.0
IMBALANCE = 0.1


def rebalance(snapshot: Snapshot, demand: Mapping[str, float]) -> tuple[Rehoming, ...]:
    """What is to be done in this period: homes for those that have none yet, and a move at most.

    `demand`: CPU time that each domain (UUID) uses, in pCPUs' worth.
    """
    domains = movable(snapshot)
    settled = {domain.uuid: home_nodes(snapshot, domain) for domain in domains}
    found = [_settle(snapshot, domain) for domain in domains if not settled[domain.uuid]]
    homes = settled | {each.uuid: each.nodes for each in found}
    load = _loads(snapshot, homes, demand)
    most, least = max(load, key=lambda node: load[node]), min(load, key=lambda node: load[node])
    if load[most] - load[least] > IMBALANCE:
        move = _move(snapshot, [each for each in domains if settled[each.uuid] == (most,)], demand, load, most, least)
        if move:
            found.append(move)
    return tuple(found)


def first_home(snapshot: Snapshot, domain: Domain) -> tuple[int, ...]:
    """The nodes that a domain was placed on: those with CPUs that have its memory, all of them if none has."""
    held, cpus_by_node = memory_mib(domain), snapshot.topology.cpus_by_node
    total = sum(held.values())
    with_cpus = tuple(node for node, cpus in cpus_by_node.items() if cpus)
    return tuple(node for node in with_cpus if held.get(node, 0) * len(with_cpus) > total / 2) or with_cpus


def _settle(snapshot: Snapshot, domain: Domain) -> Rehoming:
    return Rehoming(domain.name, domain.uuid, first_home(snapshot, domain), (), "where it was placed")


def _loads(snapshot: Snapshot, homes: Mapping[str, tuple[int, ...]], demand: Mapping[str, float]) -> dict[int, float]:
    """The load of each node with CPUs, as a share of its pCPUs: that of the domains at home there."""
    pcpus = {node: len(cpus) for node, cpus in snapshot.topology.cpus_by_node.items() if cpus}
    load = dict.fromkeys(pcpus, 0.0)
    for uuid, nodes in homes.items():
        there = sum(pcpus[node] for node in nodes)
        for node in nodes:
            load[node] += demand.get(uuid, 0.0) / there
    return load


def _move(
    snapshot: Snapshot,
    candidates: list[Domain],
    demand: Mapping[str, float],
    load: Mapping[int, float],
    most: int,
    least: int,
) -> Rehoming | None:
    """The move that is best, None where none makes the difference smaller."""
    difference = load[most] - load[least]
    cpus_by_node = snapshot.topology.cpus_by_node
    found: list[tuple[int, float, str, Domain]] = []
    for domain in candidates:
        wants = demand.get(domain.uuid, 0.0)
        after = difference - wants / len(cpus_by_node[most]) - wants / len(cpus_by_node[least])
        there_mib = memory_mib(domain).get(least, 0)
        fits = domain.memory_mib - there_mib <= snapshot.available_mib(least)
        if wants > 0.0 and abs(after) < difference and fits and len(domain.vcpus) <= len(cpus_by_node[least]):
            found.append((-there_mib, abs(after), domain.name, domain))
    if not found:
        return None
    domain = min(found, key=lambda each: each[:3])[3]
    reason = f"node {most} is {difference:.0%} of its pCPUs busier than node {least}"
    return Rehoming(domain.name, domain.uuid, (least,), (most,), reason)
