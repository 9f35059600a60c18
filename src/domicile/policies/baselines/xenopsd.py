"""The NUMA planner of XAPI's xenopsd (XenServer, XCP-ng), to the letter: `Softaffinity.plan` and `Topology.NUMA`.

Source: xapi-project/xen-api, ocaml/xenopsd/lib/softaffinity.ml and topology.ml, v26.17.0 (June to August 2026).

1. Candidates are all sets of nodes, by largest distance within the set, then by mean distance (a node's to itself
   included); single nodes only on more than 16 nodes. Nodes without a valid distance to themselves are left out.
2. Those with enough memory, CPUs and cores are kept; of these the first, and all that follow it with the same mean.
3. Of these the least used is chosen, usage being how many VMs were planned onto its nodes; then the lowest ids,
   compared from the highest of each set down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["Numbers", "XenopsdNode", "XenopsdRequest", "candidates", "plan"]

MOST_EXPANDED = 16
MAX_VALID_DISTANCE = 0xFF
SELF_DISTANCE = 10
SAME_MEAN = 1e-3

Numbers = tuple[tuple[int, ...], ...]
"""A matrix of distances, as Xen gives it: 2**32 - 1 or -1 where there is none."""

Members = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class XenopsdNode:
    """What a node has: CPUs, cores, and memory that is free and not claimed."""

    cpus: int
    cores: int
    free_mib: int


@dataclass(frozen=True, slots=True)
class XenopsdRequest:
    """What a VM needs. `cores` is 0 where the policy does not ask for a core to each vCPU."""

    memory_mib: int
    vcpus: int
    cores: int


def candidates(distances: Numbers, cpus: Sequence[int]) -> tuple[tuple[float, tuple[int, ...]], ...] | None:
    """Sets of nodes with their mean distance, in the order of preference; `cpus`: how many each node has. None where
    xenopsd leaves NUMA alone: no node with CPUs is reachable, or distances make no sense."""
    if not _usable(distances, cpus):
        return None
    member, mean = _candidates(distances)
    return tuple((float(each), tuple(np.flatnonzero(row).tolist())) for row, each in zip(member, mean, strict=True))


def plan(
    distances: Numbers, nodes: Sequence[XenopsdNode], request: XenopsdRequest, usage: Sequence[int]
) -> tuple[int, ...] | None:
    """The nodes that are chosen, None where no set will do. `usage`: by node, VMs planned there."""
    if not _usable(distances, [node.cpus for node in nodes]):
        return None
    member, mean = _candidates(distances)
    # nothing is scheduled on a node that cannot be reached
    cpus = [0 if _unreachable(distances[row][row]) else node.cpus for row, node in enumerate(nodes)]
    enough = (
        (member @ np.array([node.free_mib for node in nodes], dtype=np.int64) >= request.memory_mib)
        & (member @ np.array(cpus, dtype=np.int64) >= request.vcpus)
        & (member @ np.array([node.cores for node in nodes], dtype=np.int64) >= request.cores)
    )
    valid = np.flatnonzero(enough)
    if not valid.size:
        return None
    alike = np.abs(mean[valid] - mean[valid[0]]) < SAME_MEAN
    # only those up to the first that differs: a larger set further on can have the same mean again
    count = len(valid) if alike.all() else int(np.argmin(alike))
    sets = [tuple(np.flatnonzero(member[row]).tolist()) for row in valid[:count]]
    return min(sets, key=lambda chosen: (sum(usage[node] for node in chosen), chosen[::-1]))


def _unreachable(distance: int) -> bool:
    return not 0 <= distance <= MAX_VALID_DISTANCE


def _usable(distances: Numbers, cpus: Sequence[int]) -> bool:
    reached = any(count and not _unreachable(distances[row][row]) for row, count in enumerate(cpus))
    own = all(_unreachable(line[row]) or line[row] == SELF_DISTANCE for row, line in enumerate(distances))
    others = all(_unreachable(each) or each >= SELF_DISTANCE for line in distances for each in line)
    return reached and own and others


@lru_cache(maxsize=4)
def _candidates(distances: Numbers) -> tuple[Members, Floats]:
    """Sets (K x N) and mean distances (K), in order."""
    matrix = np.array(distances, dtype=np.int64)
    valid = np.array([row for row in range(len(distances)) if not _unreachable(distances[row][row])])
    if len(valid) > MOST_EXPANDED:
        alone = np.eye(len(distances), dtype=bool)[valid]
        own = matrix.diagonal()[valid]
        order = np.argsort(own, kind="stable")
        return alone[order], own[order].astype(np.float64)
    bits = np.arange(1, 1 << len(valid))[:, None] >> np.arange(len(valid)) & 1
    inside = matrix[np.ix_(valid, valid)]
    total = np.einsum("ki,ij,kj->k", bits, inside, bits, optimize=True)
    mean = total / bits.sum(axis=1) ** 2
    largest = np.full(len(bits), np.iinfo(np.int64).min)
    for row in range(len(valid)):
        for column in range(len(valid)):
            both = (bits[:, row] & bits[:, column]).astype(bool)
            largest[both] = np.maximum(largest[both], inside[row, column])
    order = np.lexsort((mean, largest))
    member = np.zeros((len(bits), len(distances)), dtype=bool)
    member[:, valid] = bits.astype(bool)
    return member[order], mean[order]
