"""Any nodes: the nodes in an order drawn by lot, and of these as many from the front as it takes for the guest to fit.

Source: the process of one choice in Y. Azar, A. Z. Broder, A. R. Karlin and E. Upfal, "Balanced Allocations", STOC
1994: each ball into a bin chosen uniformly at random. A bin that is full is not in the paper: there the next of the
order is added. The lot depends on the seed and on the guest's name, so that a guest gets the same order in a plan of
its own and among others.
"""

from __future__ import annotations

from functools import partial
from hashlib import sha256

import numpy as np

from domicile.policies.baselines.turns import Pick, Turn, in_turn
from domicile.policies.registry import Policy

__all__ = ["place", "seeded"]


def _any(turn: Turn, seed: int) -> Pick | None:
    entropy = int.from_bytes(sha256(f"{seed} {turn.request.name}".encode()).digest())
    order = np.random.default_rng(entropy).permutation(turn.eligible).tolist()
    for count in range(1, len(order) + 1):
        if turn.fits(order[:count]):
            return Pick(tuple(order[:count]), f"drawn by lot with seed {seed}")
    return None


def seeded(seed: int) -> Policy:
    """Anywhere, by the lots of this seed."""
    return in_turn("random", partial(_any, seed=seed))


place = seeded(0)
"""Anywhere, one after the other."""
