"""In which order the guests of a plan have to start, and what each finds.

Where there is room beside CPUs for all, any order will do. A guest that takes memory of a node without CPUs gets it
only because the other nodes are full (`placement.second`): so it starts after those that fill them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from domicile.policies.plan import Placement
from domicile.topology.model import Topology

__all__ = ["starting_order"]


def starting_order(topology: Topology, placements: Sequence[Placement]) -> Iterator[tuple[int, Topology]]:
    """The placements' indices in the order of their start, each with the machine as it is then: with the free memory
    that those before have left."""
    far = {node.id for node in topology.nodes if not topology.cpus_by_node[node.id]}
    for index in sorted(range(len(placements)), key=lambda each: bool(far.intersection(placements[each].nodes))):
        yield index, topology
        taken = placements[index].reserve_mib
        nodes = tuple(replace(node, free_mib=_less(node.free_mib, taken.get(node.id, 0))) for node in topology.nodes)
        topology = replace(topology, nodes=nodes)


def _less(free_mib: int | None, mib: int) -> int | None:
    return None if free_mib is None else max(free_mib - mib, 0)
