"""`place` for one newcomer, by the number of nodes and of domains that are there, beside libxl's own algorithm.

libxl's is the policy `libxl` (the same steps in Python), which gives up above 16 nodes. Its cost is the number of node
combinations, not what it weighs; the ratio says what weighing latency, bandwidth, load and devices costs.
"""

from __future__ import annotations

import random
from functools import partial

from rich.table import Table

from benchmarks.timing import Found, best_each_s, best_s
from domicile.policies.registry import policy
from domicile.state.model import PAGES_PER_MIB, Domain, DomainType, Snapshot, Vcpu
from domicile.state.request import GuestRequest
from domicile.topology.check import checked
from domicile.topology.model import Cpu, Node, Topology

__all__ = ["TITLE", "host", "machine", "measure"]

TITLE = "placing one newcomer of 4 vCPUs"

CASES = ((4, 8), (8, 64), (16, 128), (64, 1000))
CORES_PER_NODE = 8
NODE_MIB = 131072
RUNS = 15


def measure() -> Found:
    """Place a newcomer on hosts of several sizes."""
    table = Table("nodes", "pCPUs", "domains", "place, ms", "libxl's, ms", "ratio", title=TITLE)
    for nodes, domains in CASES:
        snapshot = host(nodes, domains)
        newcomer = GuestRequest("new", DomainType.PVH, 4, 4, 4096, 4096, overhead_mib=32)
        ours = partial(policy("domicile"), snapshot, [newcomer])
        theirs = partial(policy("libxl"), snapshot, [newcomer])
        if nodes > 16:
            ours_ms, shown = 1e3 * best_s(ours, RUNS), ("-", "-")
        else:
            ours_ms, theirs_ms = (1e3 * time_s for time_s in best_each_s([ours, theirs], RUNS))
            shown = (f"{theirs_ms:.2f}", f"{ours_ms / theirs_ms:.1f}")
        table.add_row(str(nodes), str(len(snapshot.topology.cpus)), str(domains), f"{ours_ms:.2f}", *shown)
    return Found(tables=[table])


def machine(nodes: int) -> Topology:
    """Nodes in pairs of near ones, with SMT."""
    threads = CORES_PER_NODE * 2
    return checked(
        source="benchmark",
        nodes=[Node(node, NODE_MIB, NODE_MIB) for node in range(nodes)],
        cpus=[
            Cpu(node * threads + thread, thread // 2, node, node) for node in range(nodes) for thread in range(threads)
        ],
        distances=[[10 if a == b else 16 if a // 2 == b // 2 else 22 for b in range(nodes)] for a in range(nodes)],
    )


def host(nodes: int, domains: int) -> Snapshot:
    """A host with as many domains, each on a node, drawn with a fixed seed."""
    chance = random.Random(nodes * 1000 + domains)
    empty = machine(nodes)
    everywhere = frozenset(cpu.id for cpu in empty.cpus)
    free = dict.fromkeys(empty.node_ids, NODE_MIB)
    residents = []
    for number in range(domains):
        node = chance.randrange(nodes)
        memory_mib = chance.choice([1024, 2048, 4096])
        if free[node] < memory_mib:
            continue
        free[node] -= memory_mib
        cpus = frozenset(empty.cpus_by_node[node])
        residents.append(
            Domain(
                id=number + 1,
                name=f"guest{number}",
                uuid=f"{number:032x}",
                vcpus=tuple(Vcpu(v, None, everywhere, cpus) for v in range(chance.choice([1, 2, 4, 8]))),
                memory_mib=memory_mib,
                max_memory_mib=memory_mib,
                type=DomainType.PVH,
                node_affinity=frozenset([node]),
                pages_by_node={node: memory_mib * PAGES_PER_MIB},
            )
        )
    topology = checked(
        source="benchmark",
        nodes=[Node(node, NODE_MIB, free[node]) for node in empty.node_ids],
        cpus=empty.cpus,
        distances=empty.distances,
    )
    return Snapshot(topology=topology, domains=tuple(residents), taken_at=0.0)
