"""How a domain's memory falls on a set of nodes.

Xen takes a domain's memory from the nodes of its node-affinity in turn and leaves a node out once it is full
(`get_free_buddy`, xen/common/page_alloc.c, 4.17): an even spread, but for nodes that have less. Turns are chunks of
up to 1 GiB for PVH and HVM, so that a small guest of these types may fall less evenly than said here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from domicile.performance.curves import Floats

__all__ = ["in_proportion", "spread", "spread_whole"]


def spread(need_mib: float, room_mib: Floats) -> Floats:
    """Memory on each node of K sets (K x k) for `room_mib` there; rows of nan where the room is not enough."""
    sets, size = room_mib.shape
    ascending = np.sort(room_mib, axis=1)
    filled = np.cumsum(ascending, axis=1)
    # the level up to which every node is filled, if the j smallest are full
    level = (need_mib - filled + ascending) / np.arange(size, 0, -1)
    fits = level <= ascending
    enough = fits[np.arange(sets), np.argmax(fits, axis=1)]
    chosen = level[np.arange(sets), np.argmax(fits, axis=1)]
    shares = np.minimum(room_mib, chosen[:, None])
    shares[~enough] = np.nan
    return np.asarray(shares, dtype=np.float64)


def spread_whole(need_mib: int, room_mib: Sequence[int]) -> list[int] | None:
    """The same for one set in whole MiB, None where it does not fit; the first nodes take what cannot be divided."""
    if sum(room_mib) < need_mib:
        return None
    taken = [0] * len(room_mib)
    left, open_nodes = need_mib, list(range(len(room_mib)))
    while open_nodes:
        each, extra = divmod(left, len(open_nodes))
        full = [node for node in open_nodes if room_mib[node] <= each]
        for position, node in enumerate(full or open_nodes):
            taken[node] = room_mib[node] if full else each + (position < extra)
            left -= taken[node]
        open_nodes = [node for node in open_nodes if node not in full] if full else []
    return taken


def in_proportion(total: int, limits: Sequence[int]) -> list[int]:
    """Divide a total that is no more than the sum of the limits in proportion to them, in whole numbers."""
    whole = sum(limits)
    if not whole:
        return [0] * len(limits)
    parts = [total * limit // whole for limit in limits]
    by_remainder = sorted(range(len(limits)), key=lambda index: (-(total * limits[index] % whole), index))
    for index in by_remainder[: total - sum(parts)]:
        parts[index] += 1
    return parts
