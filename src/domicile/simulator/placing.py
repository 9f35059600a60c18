"""Who decides where a domain goes when it starts, and what Xen makes of it: affinity and the nodes of its memory.

Source: tools/libs/light/libxl_dom.c `libxl__build_pre`, Xen 4.17: affinity that the configuration sets is kept; without
any, the toolstack's placement sets soft affinity; memory comes from the nodes that both leave, all of them if that is
everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from domicile.policies.plan import PlacementPlan
from domicile.simulator.guests import GuestSpec
from domicile.state.model import Snapshot
from domicile.state.request import GuestRequest
from domicile.topology.model import Topology

__all__ = ["Place", "Seat", "seat"]


class Place(Protocol):
    """A placement policy, as in `domicile.policies.registry`."""

    def __call__(self, snapshot: Snapshot, requests: Sequence[GuestRequest]) -> PlacementPlan: ...


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a domain goes: affinity in CPU ids, one set for each vCPU; `nodes`: ids, where its memory comes from."""

    hard: tuple[frozenset[int], ...]
    soft: tuple[frozenset[int], ...]
    nodes: tuple[int, ...]


def seat(spec: GuestSpec, topology: Topology, snapshot: Snapshot, place: Place | None) -> Seat:
    """The seat of a domain; `place` is asked only where the configuration leaves the choice.

    Raises what the policy raises where it finds no place.
    """
    everywhere = frozenset(cpu.id for cpu in topology.cpus)
    hard, soft = spec.hard or everywhere, spec.soft or everywhere
    hards, softs = (hard,) * spec.vcpus, (soft,) * spec.vcpus
    nodes: tuple[int, ...] = ()
    if spec.hard is None and spec.soft is None and spec.memory_nodes is None and place is not None:
        placement = place(snapshot, [spec.request()]).placements[0]
        nodes = placement.nodes
        if placement.soft_affinity is not None:
            softs = tuple(placement.soft_affinity[: spec.vcpus])
            hards = softs if placement.hard else hards
    wanted = frozenset().union(*softs) & hard or hard
    if spec.memory_nodes is not None:
        nodes = spec.memory_nodes
    elif not nodes:
        nodes = tuple(node for node, cpus in topology.cpus_by_node.items() if wanted.intersection(cpus))
    return Seat(hards, softs, nodes)
