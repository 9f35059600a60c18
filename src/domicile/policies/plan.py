"""A plan: what should be where, and why. Plans are data; nothing here acts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Alternative", "Placement", "PlacementPlan", "Term"]


@dataclass(frozen=True, slots=True)
class Term:
    """One term of the objective: `cost` is what it adds to the predicted slowdown (0.0 = nothing).

    `name` is the term's kind ("memory latency", "CPU load", "devices", "groups"), `reason` a line for a person, with
    figures and units.
    """

    name: str
    cost: float
    reason: str


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another set of nodes that was considered, or why it was not."""

    nodes: tuple[int, ...]
    predicted_slowdown: float
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one domain is to live.

    `soft_affinity` has one set of pCPUs for each vCPU (all of `max_vcpus`); None leaves scheduling as Xen does it.
    `memory_mib` says how much is expected on each node. `predicted_slowdown` is 1.0 for a domain alone on its best
    node.
    `reserve_mib` is `memory_mib` with the overhead: what must be free there while it starts.
    """

    domain: str
    nodes: tuple[int, ...]
    soft_affinity: tuple[frozenset[int], ...] | None
    memory_mib: Mapping[int, int]
    reserve_mib: Mapping[int, int]
    predicted_slowdown: float
    terms: tuple[Term, ...] = ()
    alternatives: tuple[Alternative, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        """The terms' lines for a person."""
        return tuple(term.reason for term in self.terms)


@dataclass(frozen=True, slots=True)
class PlacementPlan:
    """Placements, in the order of the requests, by the policy of this name."""

    placements: tuple[Placement, ...]
    policy: str
