"""Which run queue a held vCPU belongs to: credit2 shares a node's pCPUs out badly among those that may not leave it.

Its run queues have 16 pCPUs at most, so a larger node has several, or shares one with its neighbour. It balances their
loads without a look at how many pCPUs a queue has, nor how many of them a vCPU may use (`balance_load`,
xen/common/sched/credit2.c, 4.17): vCPUs wait in one queue while pCPUs of their node are idle in the next. A cell is
what a node and a run queue have in common; a vCPU that is held in one cannot be taken out of it, and within a queue
nobody waits while a pCPU is idle, nor shares a core for long while another is. So the shares of cells are for whoever
holds, and they go by cores: of two threads of a core each gets little more than half.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from domicile.state.model import Cpupool, Snapshot
from domicile.topology.model import Topology
from domicile.topology.run_queues import MAX_CPUS, RunqueuePer, numbered

__all__ = ["Guest", "cells_of", "share_out"]

Vcpu = tuple[str, int]
Cpus = frozenset[int]

CREDIT2 = "credit2"

LIGHT = 0.1
"""What a vCPU counts that uses less: it may want more at any moment."""

FULL = 0.85
"""Share of its cores in use up to which a cell is left as it is."""

MARGIN = 0.1
"""A vCPU changes its cell if the other is then less full than this one was by so much, as a share of its cores."""

CHANGES = 8
"""vCPUs that change their cells in a round."""


@dataclass(frozen=True, slots=True)
class Guest:
    """A vCPU that is to be held: on which CPUs it is at home, how many pCPUs' worth it uses, and where it is held now
    (None: nowhere)."""

    home: Cpus
    demand: float
    held: Cpus | None


def cells_of(snapshot: Snapshot) -> tuple[Cpus, ...]:
    """The cells of a host, by its topology and by what Xen was booted with, each cpupool for itself. Under another
    scheduler than credit2 each node is one."""
    topology = snapshot.topology
    everything = Cpupool("", frozenset(cpu.id for cpu in topology.cpus), snapshot.scheduler or CREDIT2)
    per = _option(snapshot.commandline, "credit2_runqueue") or RunqueuePer.SOCKET
    most = _option(snapshot.commandline, "sched_credit2_max_cpus_runqueue") or str(MAX_CPUS)
    known = per in set(RunqueuePer) and most.isdigit() and most != "0"
    found: list[Cpus] = []
    for pool in snapshot.cpupools or (everything,):
        if known and pool.scheduler == CREDIT2:
            found += _cells(_Same(topology), pool.cpus, RunqueuePer(per), int(most))
        else:
            found += [part for cpus in topology.cpus_by_node.values() if (part := pool.cpus.intersection(cpus))]
    return tuple(found)


def _option(commandline: str, name: str) -> str:
    found = re.findall(rf"(?:^|\s){name}=(\S+)", commandline)
    return found[-1] if found else ""


class _Same:
    """A topology, the same as another one if its CPUs are: free memory changes with every look."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.topology.cpus == other.topology.cpus

    def __hash__(self) -> int:
        return hash(len(self.topology.cpus))


@lru_cache(maxsize=64)
def _cells(same: _Same, pool: Cpus, per: RunqueuePer, most: int) -> tuple[Cpus, ...]:
    cpus = [cpu for cpu in same.topology.cpus if cpu.id in pool]
    found: dict[tuple[int | None, int], set[int]] = {}
    for cpu, number in zip(cpus, numbered(cpus, len(same.topology.cpus), per, most), strict=True):
        found.setdefault((cpu.node, number), set()).add(cpu.id)
    return tuple(map(frozenset, found.values()))


def share_out(guests: Mapping[Vcpu, Guest], cells: Iterable[Cpus], cores: Iterable[Iterable[int]]) -> dict[Vcpu, Cpus]:
    """Where to hold each vCPU: on the part of its home that is in one cell. `cores`: CPU ids, core by core.

    Who is held in a cell stays there, unless it is full and another has room; the others go where least is used, the
    busiest first.
    """
    return _Shares(tuple(cells), cores).of(guests)


class _Shares:
    def __init__(self, cells: tuple[Cpus, ...], cores: Iterable[Iterable[int]]) -> None:
        self._cells = cells
        self._core_of = {cpu: number for number, cpus in enumerate(cores) for cpu in cpus}
        self._sizes: dict[Cpus, int] = {}
        self._used = [0.0] * len(cells)
        self._choices: dict[Cpus, dict[int, Cpus]] = {}

    def _choices_of(self, home: Cpus) -> Mapping[int, Cpus]:
        """Cells (by number) that a home has a part in, and that part."""
        found = self._choices.get(home)
        if found is None:
            parts = ((number, cell & home) for number, cell in enumerate(self._cells))
            found = self._choices[home] = {number: part for number, part in parts if part}
        return found

    def of(self, guests: Mapping[Vcpu, Guest]) -> dict[Vcpu, Cpus]:
        """See `share_out`."""
        at: dict[Vcpu, int] = {}
        waiting: list[Vcpu] = []
        # the vCPUs of a domain, and domains with one home, share a few answers
        cell_of: dict[tuple[Cpus, Cpus | None], int | None] = {}
        for key, guest in guests.items():
            place = guest.home, guest.held
            if place not in cell_of:
                parts = self._choices_of(guest.home).items()
                cell_of[place] = next((number for number, part in parts if part == guest.held), None)
            number = cell_of[place]
            if number is None:
                waiting.append(key)
            else:
                self._put(at, key, guest, number)
        for key in sorted(waiting, key=lambda one: (-guests[one].demand, one)):
            guest = guests[key]
            choices = self._choices_of(guest.home)
            if choices:
                self._put(at, key, guest, min(choices, key=lambda number: self._after(number, choices, guest)))
        for _ in range(CHANGES):
            if not self._change(at, guests):
                break
        return {key: self._choices_of(guests[key].home)[number] for key, number in at.items()}

    def _put(self, at: dict[Vcpu, int], key: Vcpu, guest: Guest, number: int) -> None:
        if key in at:
            self._used[at[key]] -= _counts(guest)
        at[key] = number
        self._used[number] += _counts(guest)

    def _cores(self, cpus: Cpus) -> int:
        """How many cores these CPUs are on."""
        if cpus not in self._sizes:
            self._sizes[cpus] = len({self._core_of[cpu] for cpu in cpus})
        return self._sizes[cpus]

    def _after(self, number: int, choices: Mapping[int, Cpus], guest: Guest) -> float:
        """How full a cell is with this vCPU, as a share of the cores that it may use."""
        return (self._used[number] + _counts(guest)) / self._cores(choices[number])

    def _change(self, at: dict[Vcpu, int], guests: Mapping[Vcpu, Guest]) -> bool:
        """Have the vCPU change from the fullest cell that can be relieved which makes it and the other most even;
        whether there was one."""
        fullness = [used / self._cores(cell) for used, cell in zip(self._used, self._cells, strict=True)]
        for source in sorted(range(len(fullness)), key=lambda number: -fullness[number]):
            if fullness[source] <= FULL:
                return False
            best: tuple[float, Vcpu, int] | None = None
            for key, number in at.items():
                if number != source:
                    continue
                choices = self._choices_of(guests[key].home)
                left = fullness[source] - _counts(guests[key]) / self._cores(self._cells[source])
                for other in choices:
                    after = self._after(other, choices, guests[key])
                    if other != source and after + MARGIN < fullness[source]:
                        found = max(after, left), key, other
                        best = min(best or found, found)
            if best is not None:
                self._put(at, best[1], guests[best[1]], best[2])
                return True
        return False


def _counts(guest: Guest) -> float:
    return max(guest.demand, LIGHT)
