"""First fit: the first node, by id, that has the memory; where none has, the first set of fewest nodes that has it.

Source: D. S. Johnson, "Near-Optimal Bin Packing Algorithms", MIT, 1973 (and Johnson et al., SIAM Journal on Computing
3(4), 1974): each item goes into the first bin, by index, that it fits. Bins are nodes, size is memory; guests are not
sorted by it, so this is first fit, not first fit decreasing. An item that fits no bin is an error there, a guest of
several nodes here. CPUs are not looked at.
"""

from __future__ import annotations

from domicile.policies.baselines.sets import first_set
from domicile.policies.baselines.turns import Pick, Turn, in_turn

__all__ = ["place"]


def _first(turn: Turn) -> Pick | None:
    nodes = first_set(turn, turn.eligible)
    return Pick(nodes, "the first nodes by id with the memory") if nodes else None


place = in_turn("first-fit", _first)
"""Where first fit puts these guests, one after the other."""
