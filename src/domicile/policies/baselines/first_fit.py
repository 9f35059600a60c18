"""First fit: the first node, by id, that has the memory; where none has, the first set of fewest nodes that has it.

Source: D. S. Johnson, "Near-Optimal Bin Packing Algorithms", MIT, 1973 (and Johnson et al., SIAM Journal on Computing
3(4), 1974): each item goes into the first bin, by index, that it fits. Bins are nodes, size is memory; guests are not
sorted by it, so this is first fit, not first fit decreasing. An item that fits no bin is an error there, a guest of
several nodes here. CPUs are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from domicile.policies.baselines.sets import first_set
from domicile.policies.baselines.turns import Pick, Turn, place_in_turn
from domicile.policies.plan import PlacementPlan
from domicile.state.model import Snapshot
from domicile.state.request import GuestRequest, Intent

__all__ = ["place"]


def place(
    snapshot: Snapshot,
    requests: Sequence[GuestRequest],
    intent: Intent = Intent(),  # noqa: B008 - immutable
    *,
    exact: bool = False,
    load: Mapping[str, float] | None = None,
) -> PlacementPlan:
    """Where first fit puts these guests, one after the other. Raises as `turns.place_in_turn`."""
    return place_in_turn("first-fit", _first, snapshot, requests, intent, exact=exact, load=load)


def _first(turn: Turn) -> Pick | None:
    nodes = first_set(turn, turn.eligible)
    return Pick(nodes, "the first nodes by id with the memory") if nodes else None
