"""In which order the guests of a plan have to start, and what each finds.

Xen spreads a guest's memory evenly over its nodes, but for those that are full: so who is planned to have less on a
node because another guest of the plan fills it starts after that one. A guest that takes memory of a node without CPUs
gets it only because the other nodes are full (`placement.second`): so it starts after those that fill them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from domicile.policies.placement.memory import spread_whole
from domicile.policies.plan import Placement
from domicile.state.model import Snapshot
from domicile.topology.model import Topology

__all__ = ["starting_order"]

ROUNDING_MIB = 1
"""What cannot be divided."""


def starting_order(snapshot: Snapshot, placements: Sequence[Placement]) -> Iterator[tuple[int, Topology]]:
    """The placements' indices in the order of their start, each with the machine as it is then: with the free memory
    that those before have left. Of those whose memory falls as planned it is the first that starts next."""
    left = list(range(len(placements)))
    while left:
        near = [index for index in left if not _far(snapshot.topology, placements[index])]
        open_to = near or left
        index = next((each for each in open_to if _as_planned(snapshot, placements[each])), open_to[0])
        yield index, snapshot.topology
        left.remove(index)
        snapshot = replace(snapshot, topology=_without(snapshot.topology, placements[index].reserve_mib))


def _far(topology: Topology, placement: Placement) -> bool:
    """Whether some of its memory is on nodes without CPUs."""
    return any(not topology.cpus_by_node[node] for node in placement.nodes)


def _as_planned(snapshot: Snapshot, placement: Placement) -> bool:
    """Whether its memory falls as planned with the room that there is; that of virtual nodes falls where they are."""
    if placement.vnodes:
        return True
    near = [node for node in placement.nodes if snapshot.topology.cpus_by_node[node]]
    wanted = [placement.reserve_mib.get(node, 0) for node in near]
    falls = spread_whole(sum(wanted), [snapshot.available_mib(node) for node in near])
    return falls is not None and all(abs(one - other) <= ROUNDING_MIB for one, other in zip(falls, wanted, strict=True))


def _without(topology: Topology, taken_mib: Mapping[int, int]) -> Topology:
    """With so much less free memory."""
    nodes = (replace(node, free_mib=_less(node.free_mib, taken_mib.get(node.id, 0))) for node in topology.nodes)
    return replace(topology, nodes=tuple(nodes))


def _less(free_mib: int | None, mib: int) -> int | None:
    return None if free_mib is None else max(free_mib - mib, 0)
