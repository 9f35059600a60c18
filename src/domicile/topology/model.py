"""The machine: nodes, CPUs, distances, devices. One `Topology` comes out of every reader.

Ids are the machine's own and may have gaps; nodes without CPUs and nodes without memory are kept. A matrix has one row
and one column for each node, in the order of `Topology.nodes` (ascending id): row = the node the CPU is on, column =
the node the memory is on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

__all__ = [
    "Cpu",
    "Device",
    "DistanceMatrix",
    "MeasuredMatrix",
    "MemoryKind",
    "Node",
    "SharedCore",
    "Topology",
    "by_core",
]

DistanceMatrix = tuple[tuple[int, ...], ...]
"""SLIT distances, 10 = local, nodes x nodes."""

MeasuredMatrix = tuple[tuple[float | None, ...], ...]
"""Measured figures, nodes x nodes; None where nobody measured (the row of a node without CPUs, say)."""

SharedCore = tuple[int | None, int | None, int]
"""Node, socket and core: what names a core in a machine."""


class MemoryKind(StrEnum):
    """What a node's memory is. A tier is a node of its own, as Linux and hwloc present it."""

    DRAM = "dram"
    HBM = "hbm"
    CXL = "cxl"
    PERSISTENT = "persistent"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Node:
    """A NUMA node. `memory_mib` is 0 for a memory-less node; `free_mib` is None where the source does not tell."""

    id: int
    memory_mib: int
    free_mib: int | None = None
    kind: MemoryKind = MemoryKind.DRAM
    memory_side_cache_mib: int = 0


@dataclass(frozen=True, slots=True)
class Cpu:
    """An online pCPU (a hardware thread).

    `core` is the core's id as the source numbers it within its socket: two CPUs with the same socket, node and core are
    SMT siblings. A field is None where the source does not tell.
    """

    id: int
    core: int | None
    socket: int | None
    node: int | None

    @property
    def siblings(self) -> SharedCore:
        """What SMT siblings have in common, and no other CPU of the machine; one whose core is not known has none."""
        # ~id cannot collide with a core's id
        return self.node, self.socket, ~self.id if self.core is None else self.core


def by_core(cpus: Iterable[Cpu]) -> list[list[int]]:
    """The ids of CPUs core by core; one whose core is not known is by itself."""
    cores: dict[SharedCore, list[int]] = {}
    for cpu in cpus:
        cores.setdefault(cpu.siblings, []).append(cpu.id)
    return list(cores.values())


@dataclass(frozen=True, slots=True)
class Device:
    """A PCI device. `address` is `dddd:bb:dd.f` in lower case; `node` is None where the platform does not say."""

    address: str
    node: int | None
    name: str = ""


@dataclass(frozen=True)
class Topology:
    """A machine.

    `nodes`, `cpus` and `devices` ascend by id (address); `cpus` holds the online ones, `offline_cpus` the ids of the
    rest where the source knows them. `distances` is None where the source has none or only bogus ones; `notes` says
    in a line each what a reader dropped or mended, so that nothing wrong is passed on as right.

    Build it with a reader or with `domicile.topology.check.checked`, which enforces all of this.
    """

    nodes: tuple[Node, ...]
    cpus: tuple[Cpu, ...]
    distances: DistanceMatrix | None = None
    devices: tuple[Device, ...] = ()
    latency_ns: MeasuredMatrix | None = None
    bandwidth_gbs: MeasuredMatrix | None = None
    offline_cpus: tuple[int, ...] = ()
    name: str = ""
    source: str = ""
    notes: tuple[str, ...] = ()

    @cached_property
    def node_ids(self) -> tuple[int, ...]:
        """The nodes' ids, ascending."""
        return tuple(node.id for node in self.nodes)

    @cached_property
    def node_index(self) -> dict[int, int]:
        """Node id to its row and column in the matrices."""
        return {node.id: index for index, node in enumerate(self.nodes)}

    @cached_property
    def cpus_by_node(self) -> dict[int, tuple[int, ...]]:
        """Node id to the ids of its online CPUs, ascending; every node has an entry."""
        by_node: dict[int, list[int]] = {node.id: [] for node in self.nodes}
        for cpu in self.cpus:
            if cpu.node is not None:
                by_node[cpu.node].append(cpu.id)
        return {node: tuple(cpus) for node, cpus in by_node.items()}

    @cached_property
    def cores_by_node(self) -> dict[int, int]:
        """Node id to the number of its physical cores (SMT siblings count once)."""
        cores: dict[int, set[SharedCore]] = {node.id: set() for node in self.nodes}
        for cpu in self.cpus:
            if cpu.node is not None:
                cores[cpu.node].add(cpu.siblings)
        return {node: len(found) for node, found in cores.items()}

    def node(self, node_id: int) -> Node:
        """The node with this id; KeyError if the machine has none."""
        return self.nodes[self.node_index[node_id]]

    def distance(self, cpu_node: int, memory_node: int) -> int:
        """SLIT distance; where the machine has none, 10 for local and 20 for remote, as Linux assumes."""
        if self.distances is None:
            return 10 if cpu_node == memory_node else 20
        return self.distances[self.node_index[cpu_node]][self.node_index[memory_node]]

    def cpus_of(self, nodes: Iterable[int]) -> frozenset[int]:
        """The ids of all online CPUs of these nodes."""
        return frozenset(cpu for node in nodes for cpu in self.cpus_by_node[node])
