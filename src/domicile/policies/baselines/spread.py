"""Spread: the fewest nodes, and of these the least used: by vCPUs, then by memory.

Source: OpenStack Nova, `[compute] packing_host_numa_cells_allocation_strategy = false`, the default from 26.0.0 (Zed)
on; see `packed`, which it is the reverse of, and where is said what differs.
"""

from __future__ import annotations

from domicile.policies.baselines.packed import sorted_nodes
from domicile.policies.baselines.sets import first_set
from domicile.policies.baselines.turns import Pick, Turn, in_turn

__all__ = ["place"]


def _spread(turn: Turn) -> Pick | None:
    order = sorted_nodes(turn.eligible, turn.vcpus.tolist(), turn.free_mib, pack=False)
    nodes = first_set(turn, order, turn.request.vcpus) or first_set(turn, order)
    return Pick(nodes, "the fewest nodes, and of these the least used") if nodes else None


place = in_turn("spread", _spread)
"""Where spreading puts these guests, one after the other."""
