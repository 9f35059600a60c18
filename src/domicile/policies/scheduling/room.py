"""How much work may be at home on a node: what holding a vCPU there costs, beside what letting it go costs.

A vCPU that is held waits where its node has no pCPU for it. Let go it waits as long if the other nodes are as full, and
is away from its memory besides; so as many are held as make the wait at home longer than the wait elsewhere by what
the way to memory costs.

Where a host tells how long a domain ran and not that it waits, those that are held on a node together never seem to
want more than its pCPUs. So where others have room, and a node is at home to more vCPUs than it has pCPUs, it counts as
full a little below that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from domicile.performance.assumptions import Assumptions
from domicile.performance.remembered import remembered_machine
from domicile.policies.scheduling.watch import Watch
from domicile.state.model import Snapshot

__all__ = ["Room", "rooms"]

CROWDED_FROM = 0.8
"""Work for each pCPU of the other nodes from which on they count as filling up; at 1.0 they are full."""

HIDDEN = 0.97
"""Held vCPUs, more than there are pCPUs, that use so much of their node may want more than it has."""
AGAIN = 0.95
"""Those let go are not held again before they want less than this."""


@dataclass(frozen=True, slots=True)
class Room:
    """Of a node: `wanted`, how much work all others have for each of their pCPUs, what waits there included; `worth`:
    what a vCPU loses, as a share of its work, by running on another node than its memory is on."""

    wanted: float = 0.0
    worth: float = 0.0

    def share(self, full: float, *, may_hide: bool, held: bool) -> float:
        """So much of its pCPUs may be wanted by those at home there. `may_hide`: they have more vCPUs than it pCPUs,
        and nobody tells whether these wait."""
        alone = (HIDDEN if held else AGAIN) if may_hide else full
        crowded = min(max((self.wanted - CROWDED_FROM) / (1.0 - CROWDED_FROM), 0.0), 1.0)
        return (1.0 - crowded) * alone + crowded * (full + self.worth) * max(self.wanted, 1.0)


def rooms(snapshot: Snapshot, watch: Watch, assumptions: Assumptions) -> Mapping[int, Room]:
    """By node id, of those with CPUs."""
    machine = remembered_machine(snapshot.topology, snapshot.cpupools, assumptions)
    pcpus = machine.pcpus.sum(axis=0)
    wanted = _wanted(snapshot, watch)
    found = {}
    for row, node in enumerate(machine.topology.node_ids):
        others = (pcpus > 0) & (np.arange(machine.nodes) != row)
        if pcpus[row] and others.any():
            elsewhere = float(wanted[others].sum() / pcpus[others].sum())
            away = float((machine.relative[others, row] * pcpus[others]).sum() / pcpus[others].sum())
            worth = assumptions.displaced * max(away - float(machine.relative[row, row]), 0.0)
            found[node] = Room(elsewhere, worth)
    return found


def _wanted(snapshot: Snapshot, watch: Watch) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """pCPUs' worth of time wanted on each node of late (N): each domain's, by where it ran."""
    row_of = snapshot.topology.node_index
    wanted = np.zeros(len(snapshot.topology.nodes))
    ran: dict[str, dict[int, float]] = {}
    for (uuid, _), times in watch.ran.items():
        there = ran.setdefault(uuid, {})
        for node, time_s in times.items():
            there[node] = there.get(node, 0.0) + time_s
    for uuid, there in ran.items():
        all_s = sum(there.values())
        for node, time_s in there.items():
            if node in row_of and all_s > 0.0:
                wanted[row_of[node]] += watch.demand.get(uuid, 0.0) * time_s / all_s
    return wanted
