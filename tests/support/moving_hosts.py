"""Hosts whose domains may be moved: four nodes with two pCPUs each, unless said otherwise; free memory is what is left.

`free` is worked out from what the domains have, so that a changed domain is a changed host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from domicile.policies.scheduling.watch import Watch
from domicile.state.model import PAGES_PER_MIB, Cpupool, Domain, DomainType, Snapshot, Vcpu
from domicile.topology.model import Cpu, Device, Node, Topology

__all__ = ["at_home", "cpus_of", "domain", "free_left", "host", "loaded"]


def cpus_of(nodes: Sequence[int], cpus_per_node: int = 2) -> frozenset[int]:
    """The CPUs of these nodes."""
    return frozenset(cpu for node in nodes for cpu in range(node * cpus_per_node, (node + 1) * cpus_per_node))


def domain(
    name: str,
    memory: int | Mapping[int, int] = 0,
    vcpus: int = 2,
    soft: frozenset[int] | None = None,
    hard: frozenset[int] | None = None,
    count: int = 8,
    kind: DomainType | None = DomainType.PVH,
    number: int | None = None,
    mib: int = 1024,
) -> Domain:
    """A domain; `memory`: the node of its `mib`, or MiB by node. `count`: CPUs of the host."""
    everywhere = frozenset(range(count))
    by_node = {memory: mib} if isinstance(memory, int) else dict(memory)
    each = [Vcpu(n, None, hard or everywhere, soft or everywhere, time_ns=0) for n in range(vcpus)]
    return Domain(
        id=sum(map(ord, name)) if number is None else number,
        name=name,
        uuid=f"uuid-{name}",
        vcpus=tuple(each),
        memory_mib=sum(by_node.values()),
        max_memory_mib=sum(by_node.values()),
        type=kind,
        node_affinity=frozenset(by_node),
        pages_by_node={node: size * PAGES_PER_MIB for node, size in by_node.items()},
    )


def at_home(name: str, node: int, vcpus: int = 2, mib: int = 1024, cpus_per_node: int = 2, count: int = 8) -> Domain:
    """A domain with its memory on a node, and its vCPUs by soft affinity."""
    return domain(name, node, vcpus, soft=cpus_of([node], cpus_per_node), mib=mib, count=count)


def host(
    *domains: Domain,
    nodes: int = 4,
    cpus_per_node: int = 2,
    node_mib: int = 8192,
    devices: Mapping[str, int] = {},
    pools: Sequence[Cpupool] = (),
    at: float = 0.0,
) -> Snapshot:
    """The host at a moment."""
    topology = Topology(
        nodes=tuple(Node(node, node_mib, node_mib) for node in range(nodes)),
        cpus=tuple(Cpu(cpu, cpu, cpu // cpus_per_node, cpu // cpus_per_node) for cpu in range(nodes * cpus_per_node)),
        distances=tuple(tuple(10 if a == b else 20 for b in range(nodes)) for a in range(nodes)),
        devices=tuple(Device(address, node) for address, node in devices.items()),
    )
    return free_left(Snapshot(topology, domains, 1000.0 + at, cpupools=tuple(pools)))


def free_left(snapshot: Snapshot) -> Snapshot:
    """With what its domains leave of its memory. AssertionError where they have more than there is."""
    used = dict.fromkeys(snapshot.topology.node_ids, 0)
    for each in snapshot.domains:
        for node, pages in (each.pages_by_node or {}).items():
            used[node] += -(-pages // PAGES_PER_MIB)
    nodes = tuple(replace(node, free_mib=node.memory_mib - used[node.id]) for node in snapshot.topology.nodes)
    assert all(node.free_mib is None or node.free_mib >= 0 for node in nodes), "memory is overcommitted"
    return replace(snapshot, topology=replace(snapshot.topology, nodes=nodes))


def loaded(snapshot: Snapshot, demand: Mapping[str, float], seconds: float = 60.0) -> Watch:
    """What was seen of a host whose domains (by name) use so much, the others all of their vCPUs."""
    return Watch(
        used={each.uuid: demand.get(each.name, float(len(each.vcpus))) for each in snapshot.domains},
        last=snapshot,
        seen_s=seconds,
    )
