"""The sets of nodes that a guest may get on a host of a pool.

All sets of up to `EVERY_SET_NODES` nodes with CPUs. On larger machines, since there are thousands of hosts to be
weighed: all single nodes, all pairs up to `PAIRS_NODES` nodes, every node with those nearest to it (by latency both
ways, then by bandwidth) in sets of 4, 8, 16, ..., and all nodes together.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from domicile.performance.machine import Machine

__all__ = ["EVERY_SET_NODES", "candidate_sets"]

EVERY_SET_NODES = 4
PAIRS_NODES = 16


def candidate_sets(machine: Machine) -> list[tuple[int, ...]]:
    """Sets of node indices, ascending by size, then by nodes."""
    usable = [int(node) for node in np.flatnonzero(machine.pcpus[0] > 0)]
    count = len(usable)
    if count <= EVERY_SET_NODES:
        return [nodes for size in range(1, count + 1) for nodes in combinations(usable, size)]
    found = {(node,) for node in usable} | {tuple(usable)}
    if count <= PAIRS_NODES:
        found |= set(combinations(usable, 2))
    for node in usable:
        near = _nearest_first(machine, node, usable)
        size = 2
        while size < count:
            found.add(tuple(sorted(near[:size])))
            size *= 2
    return sorted(found, key=lambda nodes: (len(nodes), nodes))


def _nearest_first(machine: Machine, node: int, usable: list[int]) -> list[int]:
    """All of them, the node itself first."""

    def far(other: int) -> tuple[bool, float, float, int]:
        latency = machine.latency_ns[node, other] + machine.latency_ns[other, node]
        width = machine.bandwidth_gbs[node, other] + machine.bandwidth_gbs[other, node]
        return other != node, float(latency), -float(width), other

    return sorted(usable, key=far)
