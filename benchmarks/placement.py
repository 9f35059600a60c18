"""`place` for one newcomer, by the number of nodes and of domains that are there, beside libxl's own algorithm.

libxl's is the policy `libxl` (the same steps in Python), which gives up above 16 nodes. Its cost is the number of node
combinations, not what it weighs; the ratio says what weighing latency, bandwidth, load and devices costs.
"""

from __future__ import annotations

import random
import time
from functools import partial

from rich.table import Table

from benchmarks.timing import Found, best_each_s, best_s
from domicile.performance.remembered import forget_machines
from domicile.policies.registry import policy
from domicile.policies.vnuma import with_vnuma
from domicile.state.model import PAGES_PER_MIB, Domain, DomainType, Snapshot, Vcpu
from domicile.state.request import GuestRequest, Intent
from domicile.topology.check import checked
from domicile.topology.model import Cpu, Node, Topology

__all__ = ["TITLE", "host", "machine", "measure"]

TITLE = "placing one newcomer of 4 vCPUs"

CASES = ((4, 8), (8, 64), (16, 128), (64, 1000))
BY_NODES = ((4, 64), (8, 64), (16, 64), (32, 64), (64, 64))
BY_DOMAINS = ((8, 1), (8, 16), (8, 64), (8, 256), (8, 1000))
WANTED_MS = {(8, 64): 2.0, (64, 1000): 50.0}
CORES_PER_NODE = 8
NODE_MIB = 131072
RUNS = 15


NEWCOMER = GuestRequest("new", DomainType.PVH, 4, 4, 4096, 4096, overhead_mib=32)
WIDE = GuestRequest("wide", DomainType.HVM, 32, 32, 8192, 8192, overhead_mib=64)
"""Twice as wide as a node: it gets virtual nodes."""


def measure() -> Found:
    """Place a newcomer on hosts of several sizes, each a snapshot that was not seen before."""
    found = Found(tables=[_beside_libxl()])
    for title, cases in (("nodes", BY_NODES), ("domains", BY_DOMAINS)):
        table = Table("nodes", "domains", "first, ms", "next, ms", "growth", title=f"{TITLE}: growth with {title}")
        start_ms = None
        for nodes, domains in cases:
            first_ms, next_ms = _first_and_next_ms(nodes, domains)
            start_ms = start_ms or next_ms
            # as many as find room, of those that were asked for
            there = len(host(nodes, domains).domains)
            table.add_row(str(nodes), str(there), f"{first_ms:.2f}", f"{next_ms:.2f}", f"{next_ms / start_ms:.1f}")
        found.tables.append(table)
    for (nodes, domains), wanted_ms in WANTED_MS.items():
        first_ms, next_ms = _first_and_next_ms(nodes, domains)
        what = f"place one guest, {nodes} nodes, {domains} domains: first on this machine, next"
        found.rows.append((what, f"{first_ms:.2f} ms, {next_ms:.2f} ms", f"< {wanted_ms:.0f} ms"))
    wide_ms = 1e3 * best_s(partial(with_vnuma(policy("domicile")), host(8, 64), [WIDE], Intent()), RUNS)
    found.rows.append(("place one guest of two virtual nodes, 8 nodes, 64 domains", f"{wide_ms:.2f} ms", ""))
    return found


def _beside_libxl() -> Table:
    table = Table("nodes", "pCPUs", "domains", "place, ms", "libxl's, ms", "ratio", title=TITLE)
    for nodes, domains in CASES:
        snapshot = host(nodes, domains)
        ours = partial(policy("domicile"), snapshot, [NEWCOMER])
        theirs = partial(policy("libxl"), snapshot, [NEWCOMER])
        if nodes > 16:
            ours_ms, shown = 1e3 * best_s(ours, RUNS), ("-", "-")
        else:
            ours_ms, theirs_ms = (1e3 * time_s for time_s in best_each_s([ours, theirs], RUNS))
            shown = (f"{theirs_ms:.2f}", f"{ours_ms / theirs_ms:.1f}")
        table.add_row(str(nodes), str(len(snapshot.topology.cpus)), str(domains), f"{ours_ms:.2f}", *shown)
    return table


def _first_and_next_ms(nodes: int, domains: int) -> tuple[float, float]:
    """CPU time of the first guest that a process places on a machine, and of one more, when the machine is known but
    the snapshot is new; the best of some runs of each."""
    place = policy("domicile")
    place(host(nodes, domains), [NEWCOMER])
    times_ms: tuple[list[float], list[float]] = ([], [])
    for _ in range(RUNS):
        forget_machines()
        for kind in times_ms:
            snapshot = host(nodes, domains)
            begin = time.process_time()
            place(snapshot, [NEWCOMER])
            kind.append(1e3 * (time.process_time() - begin))
    first_ms, next_ms = (min(kind) for kind in times_ms)
    return first_ms, next_ms


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
        if free[node] < memory_mib + NEWCOMER.memory_mib + NEWCOMER.overhead_mib:
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
