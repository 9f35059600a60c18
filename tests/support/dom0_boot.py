"""What Xen makes of its command line at boot, as far as Dom0's place goes: written for tests from Xen's source
(4.17.5: `dom0_max_vcpus`, `dom0_compute_nr_pages`, `alloc_chunk`, `sched_init_vcpu`), not from domicile's reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from domicile.state.model import Cpupool, Domain, DomainType, Snapshot, Vcpu
from domicile.topology.model import Cpu, Device, Node, Topology

PAIRS = ((10, 16, 22, 22), (16, 10, 22, 22), (22, 22, 10, 16), (22, 22, 16, 10))
BOUNCE_PAGES = 64 * 256


def machine(
    *memory_mib: int, cpus: int = 2, devices: tuple[Device, ...] = (), commandline: str = "console=com1", **more: object
) -> Snapshot:
    """A host with so much memory on each node, all of it free but for Dom0's."""
    topology = Topology(
        tuple(Node(node, mib, mib) for node, mib in enumerate(memory_mib)),
        tuple(Cpu(cpu, cpu, cpu // cpus, cpu // cpus) for cpu in range(cpus * len(memory_mib))),
        PAIRS if len(memory_mib) == len(PAIRS) else None,
        devices=devices,
    )
    pool = Cpupool("Pool-0", frozenset(cpu.id for cpu in topology.cpus), "credit")
    bare = Snapshot(topology, (), 0.0, cpupools=(pool,), commandline=commandline)
    return replace(boot(bare, commandline, {node: node for node in range(len(memory_mib))}), **more)  # type: ignore[arg-type]


def boot(snapshot: Snapshot, commandline: str, pxm: Mapping[int, int], *, bounce_node: int = 0) -> Snapshot:
    """The host after a boot with this command line: Dom0 alone. `pxm` is each node's proximity domain."""
    words = dict(word.partition("=")[::2] for word in commandline.split())
    said = words.get("dom0_nodes", "").split(",")
    listed = [int(part) for part in said if part.isdecimal()]
    every = list(snapshot.topology.node_ids)
    nodes = [node for node in every if pxm[node] in listed] or every
    cpus, everywhere = snapshot.topology.cpus_of(nodes), snapshot.topology.cpus_of(every)
    count = int(words.get("dom0_max_vcpus", len(cpus)))
    hard, soft = (everywhere, cpus) if "relaxed" in said else (cpus, everywhere)
    if "dom0_vcpus_pin" in words:
        hard, soft = cpus, everywhere
    vcpus = tuple(
        Vcpu(n, n, frozenset({sorted(hard)[n % len(hard)]}) if "dom0_vcpus_pin" in words else hard, soft)
        for n in range(count)
    )
    sizes = {node.id: node.memory_mib * 256 * 127 // 128 for node in snapshot.topology.nodes}
    amount = words.get("dom0_mem", "512M").partition(",")[0]
    unit = {"M": 256, "G": 262144}[amount[-1]]
    pages = _taken(min(int(amount[:-1]) * unit, sum(sizes[node] for node in nodes)), nodes, sizes)
    if bounce_node not in pages:
        moved = min(BOUNCE_PAGES, sum(pages.values()) // 4)
        pages = {**pages, nodes[0]: pages[nodes[0]] - moved, bounce_node: moved}
    dom0 = Domain(
        0, "Domain-0", "0", vcpus, sum(pages.values()) // 256, sum(pages.values()) // 256, DomainType.PV,
        node_affinity=frozenset(nodes), pages_by_node=pages,
    )  # fmt: skip
    after = tuple(
        replace(node, free_mib=node.memory_mib - pages.get(node.id, 0) // 256) for node in snapshot.topology.nodes
    )
    topology = replace(snapshot.topology, nodes=after)
    return replace(snapshot, topology=topology, domains=(dom0,), commandline=commandline)


def _taken(wanted: int, nodes: list[int], sizes: Mapping[int, int]) -> dict[int, int]:
    """Evenly, as the allocator's turns over the nodes come out."""
    pages: dict[int, int] = {}
    for place, node in enumerate(sorted(nodes, key=sizes.__getitem__)):
        pages[node] = min((wanted - sum(pages.values())) // (len(nodes) - place), sizes[node])
    return pages
