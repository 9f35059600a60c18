"""Machines worked out before: placing guest after guest on one machine derives its arrays once.

What a `Machine` is depends on the CPUs, nodes, distances and measured matrices of a topology and on the cpupools, not
on what is free at the moment, which changes with every snapshot.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from domicile.performance.assumptions import DEFAULT, Assumptions
from domicile.performance.machine import Machine
from domicile.state.model import Cpupool
from domicile.topology.model import Topology

__all__ = ["forget_machines", "remembered_machine"]

KEPT = 8
"""Machines that are kept, the last used first; each is a few matrices of nodes x nodes."""


@dataclass(frozen=True, slots=True)
class _Known:
    topology: Topology
    cpupools: tuple[Cpupool, ...]
    assumptions: Assumptions
    machine: Machine


_known: tuple[_Known, ...] = ()


def remembered_machine(
    topology: Topology, cpupools: Sequence[Cpupool] = (), assumptions: Assumptions = DEFAULT
) -> Machine:
    """The same as `Machine.of`, taken from memory where an equal machine was asked for lately."""
    global _known  # noqa: PLW0603 - a tuple that is replaced at once: threads see an old or a new one
    pools = tuple(cpupools)
    found = next((one for one in _known if _equal(one, topology, pools, assumptions)), None)
    if found is None:
        found = _Known(topology, pools, assumptions, _worked_out(Machine.of(topology, pools, assumptions)))
    _known = (found, *(one for one in _known if one is not found))[:KEPT]
    if found.topology is topology:
        return found.machine
    # a copy shares what was worked out; devices, notes and free memory are those of the topology asked for
    machine = copy.copy(found.machine)
    object.__setattr__(machine, "topology", topology)
    return machine


def _worked_out(machine: Machine) -> Machine:
    """With everything that depends on the machine alone, so that the copies have it."""
    _ = machine.relative, machine.remoteness, machine.own_memory, machine.cpus_of_pools
    return machine


def forget_machines() -> None:
    """Work out every machine anew from now on, as a process does that has just begun."""
    global _known  # noqa: PLW0603
    _known = ()


def _equal(known: _Known, topology: Topology, pools: tuple[Cpupool, ...], assumptions: Assumptions) -> bool:
    there = known.topology
    return (
        len(there.nodes) == len(topology.nodes)
        and all(a.id == b.id and a.memory_mib == b.memory_mib for a, b in zip(there.nodes, topology.nodes, strict=True))
        and there.distances == topology.distances
        and there.latency_ns == topology.latency_ns
        and there.bandwidth_gbs == topology.bandwidth_gbs
        and known.assumptions == assumptions
        and known.cpupools == pools
        and there.cpus == topology.cpus
    )
