"""A machine's memory system as the arrays that `evaluate` works on: memory controllers, links, and the ways over them.

A *resource* is a memory controller (one for each node, first) or one direction of a link. What a read of node m's
memory by node n's CPUs takes of the resources on its way, and what a write takes, is a list of (resource, share of a
byte per byte read, share of a byte per byte written). Where the link graph is known (`links`) the ways are its routes;
otherwise every pair of nodes is taken to have a way of its own, as wide as measured (or assumed): read data comes over
the way from m to n, written data goes over the way from n to m.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from domicile.performance.assumptions import Assumptions
from domicile.performance.curves import Floats, pressure
from domicile.performance.links import Ways, known_links, ways
from domicile.performance.loaded import CELLS, controller_curves
from domicile.performance.machine import Machine

__all__ = ["MemorySystem", "memory_system"]


@dataclass(frozen=True, eq=False)
class MemorySystem:
    """N nodes, R resources, of which the first N are the memory controllers, ways of at most H steps.

    `latency_ns`: N x N, idle. `near_ns`: N, of each node's memory from the nearest CPUs. `best_ns`: the least of these.
    `reference`: the node that a domain alone would be on. `cache_mib`: N, last-level cache. `peak_gbs`: R. `added`:
    R x (CELLS + 1),
    latency added at utilisations 0 to 1 in equal steps, as a share of idle latency. `step`: N x N x H, resources, -1
    behind the last one; `read_use`, `write_use`: N x N x H. `names`: R, what each resource is, for people.
    """

    latency_ns: Floats
    near_ns: Floats
    best_ns: float
    reference: int
    cache_mib: Floats
    peak_gbs: Floats
    added: Floats
    step: npt.NDArray[np.int64]
    read_use: Floats
    write_use: Floats
    names: tuple[str, ...]


def memory_system(machine: Machine, assumptions: Assumptions) -> MemorySystem:
    """The machine's memory system."""
    nodes = machine.nodes
    graph = known_links(machine.topology.name)
    found = ways(graph) if graph is not None and graph.nodes == nodes else _pairs(machine, assumptions)
    cores = machine.cores.sum(axis=0)
    near = machine.latency_ns[cores > 0].min(axis=0) if cores.any() else machine.latency_ns.min(axis=0)
    links = len(found.peak_gbs) - nodes
    between = np.broadcast_to(pressure(np.linspace(0.0, 1.0, CELLS + 1), assumptions), (links, CELLS + 1))
    peak = np.maximum(found.peak_gbs, 1e-3)
    return MemorySystem(
        latency_ns=np.ascontiguousarray(machine.latency_ns),
        near_ns=near,
        best_ns=machine.best_latency_ns,
        reference=_reference(machine, cores),
        cache_mib=cores * assumptions.cache_mib_per_core,
        peak_gbs=peak,
        added=np.concatenate([controller_curves(machine, peak[:nodes], near, assumptions), between]),
        step=found.step,
        read_use=found.read_use,
        write_use=found.write_use,
        names=found.names,
    )


def _pairs(machine: Machine, assumptions: Assumptions) -> Ways:
    """Ways of a machine whose links nobody knows: one for every pair of nodes."""
    nodes = machine.nodes
    ids = machine.topology.node_ids
    pairs = [(reader, memory) for reader in range(nodes) for memory in range(nodes) if reader != memory]
    way = {pair: nodes + index for index, pair in enumerate(pairs)}
    peak = np.concatenate([machine.bandwidth_gbs.diagonal(), [machine.bandwidth_gbs[pair] for pair in pairs]])
    step = np.full((nodes, nodes, 3), -1, dtype=np.int64)
    read_use, write_use = np.zeros(step.shape), np.zeros(step.shape)
    for reader in range(nodes):
        for memory in range(nodes):
            step[reader, memory, 0] = memory
            read_use[reader, memory, 0] = 1.0
            write_use[reader, memory, 0] = 1.0 + assumptions.write_cost
            if reader != memory:
                step[reader, memory, 1:] = way[reader, memory], way[memory, reader]
                read_use[reader, memory, 1] = write_use[reader, memory, 2] = 1.0
    names = [f"memory of node {node}" for node in ids]
    names += [f"node {ids[memory]} to node {ids[reader]}" for reader, memory in pairs]
    return Ways(peak, step, read_use, write_use, tuple(names))


def _reference(machine: Machine, cores: Floats) -> int:
    """The node that a domain alone on the machine would be on: near memory of its own, and the most bandwidth."""
    local = machine.latency_ns.diagonal()
    usable = (cores > 0) & (machine.memory_mib > 0)
    if not usable.any():
        return int(np.argmin(local))
    near = usable & (local <= 1.05 * local[usable].min())
    return int(np.argmax(np.where(near, machine.bandwidth_gbs.diagonal(), -1.0)))
