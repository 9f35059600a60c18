"""Hosts whose domains have equal and cold pages, for tests of sharing and tiering: by hand, and drawn by hypothesis."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from domicile.state.model import PAGES_PER_MIB, Domain, Snapshot, Vcpu
from domicile.state.page_use import PageUse
from domicile.topology.check import checked
from domicile.topology.model import Cpu, Node, Topology

__all__ = ["TOTAL_MIB", "domain", "host", "hosts", "machine"]

TOTAL_MIB = 8192
CPUS = 4


def machine(nodes: int, far: bool = False) -> Topology:
    """So many nodes with CPUs, and one without if there is far memory."""
    count = nodes + far
    return checked(
        source="tests",
        nodes=[Node(node, TOTAL_MIB) for node in range(count)],
        cpus=[Cpu(node * CPUS + cpu, cpu, node, node) for node in range(nodes) for cpu in range(CPUS)],
        distances=[[10 if a == b else 40 if nodes in (a, b) else 20 for b in range(count)] for a in range(count)],
    )


def domain(number: int, name: str, pages_mib: Sequence[int], topology: Topology, vcpus: int = 2) -> Domain:
    """A domain with this memory on each node, its vCPUs at home on the node with most of it that has CPUs."""
    everywhere = frozenset(cpu.id for cpu in topology.cpus)
    with_cpus = [node for node in topology.node_ids if topology.cpus_by_node[node]]
    home = max(with_cpus, key=lambda node: pages_mib[node])
    soft = frozenset(topology.cpus_by_node[home])
    return Domain(
        number,
        name,
        "",
        tuple(Vcpu(vcpu, None, everywhere, soft) for vcpu in range(vcpus)),
        sum(pages_mib),
        sum(pages_mib),
        node_affinity=frozenset(node for node, mib in enumerate(pages_mib) if mib) or frozenset({home}),
        pages_by_node={node: mib * PAGES_PER_MIB for node, mib in enumerate(pages_mib)},
    )


def host(topology: Topology, domains: Sequence[Domain]) -> Snapshot:
    """A host with these domains and an idle Dom0 besides; what they do not have is free."""
    taken = [sum(each.pages_by_node[node] for each in domains if each.pages_by_node) for node in topology.node_ids]
    nodes = tuple(
        Node(node.id, node.memory_mib, node.memory_mib - taken[row] // PAGES_PER_MIB)
        for row, node in enumerate(topology.nodes)
    )
    everywhere = frozenset(cpu.id for cpu in topology.cpus)
    dom0 = Domain(0, "Domain-0", "", (Vcpu(0, None, everywhere, everywhere),), 0, 0, pages_by_node={0: 0})
    free = Topology(nodes, topology.cpus, topology.distances)
    return Snapshot(free, (dom0, *domains), 0.0)


@st.composite
def hosts(draw: st.DrawFn) -> tuple[Snapshot, list[PageUse]]:
    """Hosts of one to three nodes, with far memory or without, and what their domains do with pages."""
    topology = machine(draw(st.integers(1, 3)), draw(st.booleans()))
    count = len(topology.nodes)
    domains, uses = [], []
    for number in range(1, draw(st.integers(1, 5)) + 1):
        sizes = draw(st.lists(st.sampled_from([0, 0, 300, 1500]), min_size=count, max_size=count).filter(any))
        domains.append(domain(number, f"d{number}", sizes, topology, draw(st.integers(1, 4))))
        share = st.floats(0, 0.5)
        uses.append(
            PageUse(
                f"d{number}",
                draw(st.sampled_from(["a", "b"])),
                draw(st.floats(0, 1)),
                draw(st.floats(0, 1)),
                draw(share),
                draw(share),
                draw(st.sampled_from([0.0, 10.0, 500.0])),
                draw(st.sampled_from([0.0, 5.0])),
            )
        )
    return host(topology, domains), uses
