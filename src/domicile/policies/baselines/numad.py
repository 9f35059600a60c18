"""numad's advice before a start, `numad -w NCPUS:MB`, which libvirt asks for with `placement='auto'`.

Source: numad.c 20150602 (numad 0.5, Bill Gray, Red Hat): `pick_numa_nodes` for no process (pid -1),
`combined_value_of_weighted_resources`, and how `update_nodes` counts CPUs. CPUs are in hundredths; a core's second
thread counts as `HTT_PERCENT` of one. Integer division and the order of its unstable sort are kept.

1. A node's magnitude: (10 x memory needed + 4 x memory beyond that) x (6 x CPUs needed + CPUs beyond that).
2. From each node: the others by SLIT distance, then by magnitude; the magnitudes of as many as it takes at least (by
   the first node's size), each over its distance squared, are added up. The node with the largest sum is begun from.
3. In the order of distance from there, nodes are taken until memory (with 100 MB to spare on each) and CPUs are had.

What differs: CPUs free are measured by numad over 2 s, here they are the pCPUs less the load that the policy is told,
or assumes (`performance.tenants`); inactive file cache, which numad counts as free, is not there on a Xen host; and
only nodes that the guest may use are shown to it. Where its advice has no room after all, the next nodes of the order
in step 3 are added.
libvirt then pins vCPUs to the advised nodes and takes memory from nowhere else; the plan has soft affinity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from domicile.policies.baselines.turns import Pick, Turn, in_turn
from domicile.topology.ids import format_ids

__all__ = ["Advice", "NumadNode", "advise", "cpus_free", "cpus_total", "place"]

HTT_PERCENT = 20
MARGIN_MB = 100
ONE_CPU = 100


@dataclass(frozen=True, slots=True)
class NumadNode:
    """A node as numad sees it; CPUs in hundredths, `distance` to every node."""

    total_mb: int
    free_mb: int
    cpus_total: int
    cpus_free: int
    distance: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Advice:
    """All nodes in the order in which numad would take them, and how many it takes."""

    order: tuple[int, ...]
    count: int

    @property
    def nodes(self) -> tuple[int, ...]:
        """The nodes advised."""
        return self.order[: self.count]


def advise(nodes: Sequence[NumadNode], cpus: int, mbs: int, *, flex: int = 0, enough: bool = False) -> Advice:
    """What `numad -w` prints for so many hundredths of CPUs and MB. For a process that runs, `flex` hundredths may be
    missing, and where there are `enough` for all on the host, nodes are not added for want of CPUs.

    Where the first node has no memory or no CPUs numad divides by 0, and what then happens is C's undefined behaviour;
    here all nodes are taken to be needed.
    """
    free_cpus = [max(node.cpus_free, 1) for node in nodes]
    magnitude = [_magnitude(node.free_mb, mbs, cpu, cpus) for node, cpu in zip(nodes, free_cpus, strict=True)]
    needed = min(
        max(_quotient(mbs, nodes[0].total_mb), _quotient(max(cpus - flex, 0), nodes[0].cpus_total)), len(nodes)
    )
    sums = []
    for start in range(len(nodes)):
        order = _by_distance(nodes, magnitude, start)
        sums.append(sum(magnitude[node] // nodes[node].distance[start] ** 2 for node in order[:needed]))
    order = _by_distance(nodes, magnitude, sums.index(max(sums)))
    taken = 0
    while needed > 0 or mbs > 0 or (cpus > flex and not enough):
        node = order[taken]
        taken, needed = taken + 1, needed - 1
        if taken == len(nodes):
            break
        free = nodes[node].free_mb
        mbs = 0 if free >= mbs + MARGIN_MB else mbs - (free - MARGIN_MB)
        cpus = max(cpus - free_cpus[node], 0)
    return Advice(order, taken) if taken else Advice((0, *(node for node in order if node)), 1)


def cpus_total(pcpus: int, threads_per_core: int) -> int:
    """A node's CPUs, in hundredths."""
    cores = pcpus // threads_per_core
    return cores * ONE_CPU + cores * (threads_per_core - 1) * HTT_PERCENT


def cpus_free(idle: float, pcpus: int, threads_per_core: int) -> int:
    """A node's free CPUs, in hundredths, of which `idle` CPUs' worth of time was not used: what second threads count
    less is taken from it first."""
    discount = (pcpus - pcpus // threads_per_core) * (ONE_CPU - HTT_PERCENT)
    return min(max(int(idle * ONE_CPU) - discount, 0), cpus_total(pcpus, threads_per_core))


def _magnitude(free_mb: int, mbs: int, free_cpus: int, cpus: int) -> int:
    memory = min(free_mb, mbs) * 10 + max(free_mb - mbs, 0) * 4
    return memory * (min(free_cpus, cpus) * 6 + max(free_cpus - cpus, 0))


def _quotient(need: int, have: int) -> int:
    """How many it takes, rounded up."""
    return -(-need // have) if have else 2**31 - 1


def _by_distance(nodes: Sequence[NumadNode], magnitude: Sequence[int], start: int) -> tuple[int, ...]:
    """Its selection sort: it exchanges, so that equal nodes need not stay in order."""
    order = list(range(len(nodes)))
    for place_ in range(len(order)):
        best = min(range(place_, len(order)), key=lambda at: (nodes[order[at]].distance[start], -magnitude[order[at]]))
        order[place_], order[best] = order[best], order[place_]
    return tuple(order)


def _advised(turn: Turn) -> Pick | None:
    topology, eligible = turn.snapshot.topology, turn.eligible
    ids = turn.ids
    load = turn.layout.load.demand.sum(axis=0)
    machine = turn.layout.problem.machine
    pcpus = machine.pcpus.sum(axis=0)
    # numad asks CPU 0 for its siblings; here the machine as a whole
    threads = max(round(float(pcpus.sum() / max(machine.cores.sum(), 1.0))), 1)
    seen = [
        NumadNode(
            total_mb=topology.nodes[node].memory_mib,
            free_mb=turn.free_mib[node],
            cpus_total=cpus_total(int(turn.pcpus[node]), threads),
            cpus_free=cpus_free(
                min(max(float(pcpus[node] - load[node]), 0.0), float(turn.pcpus[node])), int(turn.pcpus[node]), threads
            ),
            distance=tuple(topology.distance(ids[node], ids[other]) for other in eligible),
        )
        for node in eligible
    ]
    advice = advise(seen, turn.request.vcpus * ONE_CPU, turn.subject.need_mib)
    order = [eligible[node] for node in advice.order]
    advised = format_ids(ids[node] for node in order[: advice.count])
    for count in range(advice.count, len(order) + 1):
        if turn.fits(order[:count]):
            return Pick(tuple(order[:count]), f"advises nodes {advised}")
    return None


place = in_turn("numad", _advised)
"""Where numad's advice puts these guests, one after the other."""
