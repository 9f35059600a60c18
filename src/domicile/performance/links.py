"""The links between nodes where they are known: who is joined to whom, how wide, by which way traffic goes.

Known is one machine, the 8-node Opteron (4 packages of Socket G34, each of two dies, each die a node; "Magny-Cours").
A die has HyperTransport links to its sibling in the package and to one die of every other package; a way to the
remaining three dies has two steps. Which dies are joined follows from the latencies (one step 246 to 267 cycles, two
336 to 348) and agrees with AMD's own drawing of a 4-socket system (Conway et al., "Cache Hierarchy and Memory Subsystem
of the AMD Opteron Processor", IEEE Micro 30(2), 2010). Links between packages are 8 bits wide, with room for more on
some: Lepers et al. (USENIX ATC 2015) found on the next generation that links differ in width, even by direction. Which
directions are the wide ones here, and which of two possible ways is taken, no document says: both were worked out from
the pattern (fast or slow) of what was measured, and are part of the graph below; `SYMMETRIC` is the graph without that.

What a link carries is limited for each of HyperTransport's virtual channels by itself (responses: read data; posted
requests: written data; other requests), since every channel has buffers of its own and these, not the wires, seem to be
what is short: 2.8 GB/s on a link whose wires could carry 6.4. Six constants (`LinkConstants`) turn the graph into 64
read and 64 write bandwidths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from domicile.performance.curves import Floats

__all__ = ["OPTERON", "SYMMETRIC", "LinkConstants", "LinkGraph", "Ways", "bandwidth_matrices", "known_links", "ways"]

SAME_PACKAGE, NARROW, WIDE = "in the package", "8 bit", "16 bit"
CHANNELS = ("data", "writes", "requests")


@dataclass(frozen=True, slots=True)
class LinkConstants:
    """The fitted constants of a link graph, all of them.

    `memory_gbs`: what a memory controller delivers to its own node's cores. `write_use`: what a written byte takes of
    that, beside the read that fills the cache line first. `package_gbs`, `narrow_gbs`, `wide_gbs`: what one channel
    of a link carries: within a package, of 8 bits, of 16. `handed_on`: the share of it that is left for data which is
    handed on by another node, and for written data; both for data that is both.
    """

    memory_gbs: float = 11.1
    write_use: float = 0.74
    package_gbs: float = 4.89
    narrow_gbs: float = 2.81
    wide_gbs: float = 4.66
    handed_on: float = 0.706


@dataclass(frozen=True)
class LinkGraph:
    """Directed links between nodes. `kind`: (from, to) to what the link is in that direction. `through`: (from, to) of
    nodes that are not joined to the node in between."""

    nodes: int
    kind: Mapping[tuple[int, int], str]
    through: Mapping[tuple[int, int], int]
    constants: LinkConstants = field(default_factory=LinkConstants)

    def way(self, start: int, end: int) -> tuple[tuple[int, int], ...]:
        """The directed links that data from a node to another takes."""
        if start == end:
            return ()
        middle = self.through.get((start, end))
        return ((start, end),) if middle is None else ((start, middle), (middle, end))

    def carries_gbs(self, link: tuple[int, int]) -> float:
        """What each channel of a link carries in that direction."""
        c = self.constants
        return {SAME_PACKAGE: c.package_gbs, NARROW: c.narrow_gbs, WIDE: c.wide_gbs}[self.kind[link]]


@dataclass(frozen=True, eq=False)
class Ways:
    """A graph's resources and what accesses take of them, as in `MemorySystem`: memory controllers first."""

    peak_gbs: Floats
    step: npt.NDArray[np.int64]
    read_use: Floats
    write_use: Floats
    names: tuple[str, ...]


def ways(graph: LinkGraph) -> Ways:
    """What a read and a written byte of node m, by node n, take of each resource on their way.

    A read: a request from n to m, data back. A written byte (the line was read before, which counts as a read): data
    from n to m.
    """
    nodes, constants = graph.nodes, graph.constants
    resource = {
        (link, channel): nodes + index * len(CHANNELS) + place
        for index, link in enumerate(graph.kind)
        for place, channel in enumerate(CHANNELS)
    }
    peak = np.array([constants.memory_gbs] * nodes + [graph.carries_gbs(link) for link, _ in resource])
    step = np.full((nodes, nodes, 7), -1, dtype=np.int64)
    read_use, write_use = np.zeros(step.shape), np.zeros(step.shape)
    for n in range(nodes):
        for m in range(nodes):
            entries: list[tuple[int, float, float]] = [(m, 1.0, constants.write_use)]
            back, forth = graph.way(m, n), graph.way(n, m)
            handed = constants.handed_on ** (len(back) - 1)
            entries += [(resource[link, "data"], 1.0 / handed, 0.0) for link in back]
            entries += [(resource[link, "requests"], 1.0, 0.0) for link in forth]
            entries += [(resource[link, "writes"], 0.0, 1.0 / (handed * _written(graph, link))) for link in forth]
            for place, (at, read, write) in enumerate(entries):
                step[n, m, place], read_use[n, m, place], write_use[n, m, place] = at, read, write
    names = [f"memory of node {node}" for node in range(nodes)]
    names += [f"{channel} from node {a} to node {b}" for (a, b), channel in resource]
    return Ways(peak, step, read_use, write_use, tuple(names))


def _written(graph: LinkGraph, link: tuple[int, int]) -> float:
    """The share of a link's data rate at which it takes written data; a package's inner link takes all."""
    return 1.0 if graph.kind[link] == SAME_PACKAGE else graph.constants.handed_on


def bandwidth_matrices(graph: LinkGraph) -> tuple[Floats, Floats]:
    """Read and write bandwidth in GB/s of all cores of a node (row) on the memory of a node (column), nobody else being
    there; a written byte counts once, though its line is read first."""
    found = ways(graph)
    share = np.where(found.step >= 0, found.peak_gbs[found.step], np.inf)
    with np.errstate(divide="ignore"):
        reads = (share / found.read_use).min(axis=-1)
        writes = (share / (found.read_use + found.write_use)).min(axis=-1)
    return reads, writes


def known_links(machine_name: str) -> LinkGraph | None:
    """The link graph of a machine of this name, None where nobody knows it."""
    return OPTERON if machine_name == "opteron-8n48c" else None


def _four_packages(wide: frozenset[tuple[int, int]], out_of_way: frozenset[tuple[int, int]]) -> LinkGraph:
    """Nodes 2p and 2p + 1 are the dies of package p; even dies are joined to even ones, odd to odd ones.

    Data for a die that is not joined crosses over at once and then changes dies, but for the pairs of packages
    `out_of_way` (from, to), where it changes dies first.
    """
    kind, through = {}, {}
    for a in range(8):
        for b in range(8):
            if a // 2 == b // 2 and a != b:
                kind[a, b] = SAME_PACKAGE
            elif a != b and a % 2 == b % 2:
                kind[a, b] = WIDE if (a, b) in wide else NARROW
            elif a != b:
                through[a, b] = a ^ 1 if (a // 2, b // 2) in out_of_way else b ^ 1
    return LinkGraph(8, kind, through)


SYMMETRIC = _four_packages(frozenset(), frozenset())
"""What documents and latencies say of the 8-node Opteron: all links between packages alike."""

OPTERON = _four_packages(
    frozenset({(0, 2), (2, 4), (4, 0), (0, 6), (7, 3), (5, 7), (1, 5), (5, 1)}), frozenset({(2, 0)})
)
"""The 8-node Opteron with its wide directions: one each from package 0 to 1, 1 to 2, 2 to 0, 0 to 3, 3 to 1 and 2 to 3,
and a link that is wide both ways between packages 0 and 2."""
