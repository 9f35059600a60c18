"""How many virtual nodes: the fewest that can hold the guest, unless more are worth it.

The prediction sees what is gained by more: a core to each vCPU where hardware threads would be shared, the bandwidth of
more memories. It sees neither how long the load lasts for which that is so, nor the guest's own scheduler, which does
worse with many small nodes. A topology is for life: the guest reads it once, and is neither saved nor migrated with it.
So each virtual node beyond the fewest has to gain more than `WIDER`.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["WIDER", "best_width", "faster_but"]

WIDER = 0.4
"""How much smaller the objective has to be for each virtual node beyond the fewest, in slowdown. An assumption. Other
neighbours, a little more bandwidth or shared cores are less: a guest that is always busy on all hardware threads of the
fewest nodes loses 0.6 by sharing cores, of which each node more gives back a part."""

SAME = 1e-9


def best_width(objectives: Mapping[int, float]) -> int:
    """The number of virtual nodes to take, of these with what each adds to the objective; of equally good ones the
    smallest."""
    fewest = min(objectives)
    return min(objectives, key=lambda count: (round((objectives[count] + WIDER * (count - fewest)) / SAME), count))


def faster_but(objectives: Mapping[int, float], chosen: int) -> str:
    """Which wider topology is predicted to be better than the chosen one, but not by enough; empty if none is."""
    better = {count: objectives[chosen] - objective for count, objective in objectives.items() if count > chosen}
    best = max(better, key=lambda count: (better[count], -count), default=None)
    if best is None or better[best] < 0.005:
        return ""
    return (
        f"{best} are predicted to gain {better[best]:.2f} in slowdown over all domains, and more than "
        f"{WIDER * (best - chosen):.2f} is asked for, since a topology is for life"
    )
