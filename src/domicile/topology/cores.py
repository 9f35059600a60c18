"""Core ids that mean something: equal socket, node and core for SMT siblings, and for nobody else.

What firmware and kernels call a core's id repeats: over the dies of a package, over the clusters of an ARM machine, or
because it is not known and everybody has 0 or -1. Readers know which CPUs share a core from elsewhere (sibling masks,
hwloc's tree). Here the ids are kept where they tell exactly that, and counted anew, node by node of a socket, where
they do not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from domicile.topology.ids import format_ids
from domicile.topology.model import Cpu

__all__ = ["Placed", "number_cores"]


@dataclass(frozen=True, slots=True)
class Placed:
    """A CPU as a source describes it.

    `group` is equal for the CPUs of one core and for no others, None where the source does not tell; `core` is the id
    that the source has for the core, None where it has none.
    """

    id: int
    socket: int | None
    node: int | None
    group: Hashable
    core: int | None


def number_cores(cpus: Iterable[Placed]) -> tuple[list[Cpu], list[str]]:
    """The CPUs with core ids that can be compared, and notes on what was counted anew."""
    places: defaultdict[tuple[int | None, int | None], list[Placed]] = defaultdict(list)
    for cpu in sorted(cpus, key=lambda cpu: cpu.id):
        places[cpu.socket, cpu.node].append(cpu)
    numbered: list[Cpu] = []
    renumbered: list[int] = []
    for (socket, node), members in places.items():
        ids, kept = _core_ids(members)
        if not kept:
            renumbered += [cpu.id for cpu in members]
        numbered += [Cpu(cpu.id, None if cpu.group is None else ids[cpu.group], socket, node) for cpu in members]
    notes = []
    if renumbered:
        notes.append(f"core ids of CPUs {format_ids(renumbered)} repeat or are missing: cores counted anew")
    return sorted(numbered, key=lambda cpu: cpu.id), notes


def _core_ids(members: list[Placed]) -> tuple[dict[Hashable, int], bool]:
    """Each group's core id among the CPUs of one node of one socket, and whether they are the source's own."""
    own: dict[Hashable, int] = {}
    groups: dict[Hashable, None] = {}
    for cpu in members:
        if cpu.group is not None:
            groups.setdefault(cpu.group)
            if cpu.core is not None:
                own.setdefault(cpu.group, cpu.core)
    if len(own) == len(groups) and len(set(own.values())) == len(groups):
        return own, True
    return {group: index for index, group in enumerate(groups)}, False
