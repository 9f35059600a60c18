"""How much work may be at home on a node: what holding a vCPU there costs, beside what letting it go costs.

A vCPU that is held waits where its node has no pCPU for it. Let go it waits as long if the other nodes are as full, and
is away from its memory besides; so the fuller the others are, the more may be held, up to what the way to memory
costs. Where a host tells how long a domain ran and not that it waits, those that are held on a node together never
seem to want more than its pCPUs. So where others have room, and a node is at home to more vCPUs than it has pCPUs,
it counts as full a little below that.
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
"""Share of the other nodes' pCPU time in use from which on they count as filling up; at 1.0 they are full."""

HIDDEN = 0.97
"""Held vCPUs, more than there are pCPUs, that use so much of their node may want more than it has."""
AGAIN = 0.95
"""Those let go are not held again before they want less than this."""


@dataclass(frozen=True, slots=True)
class Room:
    """Of a node: `crowded`, 0 to 1, how full all others are; `worth`: what a vCPU loses, as a share of its work, by
    running on another node than its memory is on."""

    crowded: float = 0.0
    worth: float = 0.0

    def share(self, full: float, *, may_hide: bool, held: bool) -> float:
        """So much of its pCPUs may be wanted by those at home there. `may_hide`: they have more vCPUs than it pCPUs,
        and nobody tells whether these wait."""
        alone = (HIDDEN if held else AGAIN) if may_hide else full
        return (1.0 - self.crowded) * alone + self.crowded * (full + self.worth)


def rooms(snapshot: Snapshot, watch: Watch, assumptions: Assumptions) -> Mapping[int, Room]:
    """By node id, of those with CPUs."""
    machine = remembered_machine(snapshot.topology, snapshot.cpupools, assumptions)
    pcpus = machine.pcpus.sum(axis=0)
    used = _used(snapshot, watch)
    found = {}
    for row, node in enumerate(machine.topology.node_ids):
        others = (pcpus > 0) & (np.arange(machine.nodes) != row)
        if pcpus[row] and others.any():
            busy = float(used[others].sum() / pcpus[others].sum())
            away = float((machine.relative[others, row] * pcpus[others]).sum() / pcpus[others].sum())
            worth = assumptions.memory_bound * max(away - float(machine.relative[row, row]), 0.0)
            found[node] = Room(min(max((busy - CROWDED_FROM) / (1.0 - CROWDED_FROM), 0.0), 1.0), worth)
    return found


def _used(snapshot: Snapshot, watch: Watch) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """pCPUs' worth of time used on each node of late (N): all that was used, by where it was."""
    row_of = snapshot.topology.node_index
    ran = np.zeros(len(snapshot.topology.nodes))
    for times in watch.ran.values():
        for node, time_s in times.items():
            if node in row_of:
                ran[row_of[node]] += time_s
    return ran / max(float(ran.sum()), 1e-9) * sum(watch.used.values())
