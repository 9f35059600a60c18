"""What ties a domain to a place beside its own memory: passed-through devices, and other domains of its groups.

`remoteness` is N x N: how much longer than local the way between two nodes is, both directions taken together, in units
of the local latency; 0 on the diagonal.
"""

from __future__ import annotations

import numpy as np

from domicile.performance.assumptions import Assumptions
from domicile.performance.curves import Floats
from domicile.performance.machine import Machine
from domicile.state.request import GroupKind

__all__ = ["device_pull", "group_pull", "group_wish", "remoteness"]


def remoteness(machine: Machine) -> Floats:
    """N x N, symmetric, never negative, 0 on the diagonal."""
    both = (machine.latency_ns + machine.latency_ns.T) / 2.0 / machine.best_latency_ns - 1.0
    both = np.maximum(both, 0.0)
    np.fill_diagonal(both, 0.0)
    return both


def device_pull(remote: Floats, device_share: Floats, assumptions: Assumptions) -> Floats:
    """What a whole domain on each node (N) loses by the distance to its devices.

    Half of it goes with its vCPUs (interrupts, doorbells), half with its memory (DMA).
    """
    return np.asarray(assumptions.device_weight * np.einsum("...n,nm->...m", device_share, remote), dtype=np.float64)


def group_pull(remote: Floats, peer_shares: Floats, weight: float, peers: int, assumptions: Assumptions) -> Floats:
    """What a whole domain on each node (N) loses by talking to its peers, whose vCPUs are spread as `peer_shares` (P
    x N).

    `peers` is how many it has, of which P are placed.
    """
    return np.asarray(assumptions.near_weight * weight * (peer_shares.sum(axis=0) @ remote) / peers, dtype=np.float64)


def group_wish(
    kind: GroupKind, own: Floats, peer_shares: Floats, weight: float, peers: int, assumptions: Assumptions
) -> float:
    """How far a wish is from being met, for one domain (`own`, N) against its placed peers (P x N), in slowdown.

    `together` wants each vCPU on a node where the peer is, `apart` on one where it is not; both sides are counted.
    """
    if kind is GroupKind.NEAR or not len(peer_shares):
        return 0.0
    mine = (own * (peer_shares > 0)).sum(axis=1)
    theirs = (peer_shares * (own > 0)).sum(axis=1)
    shared = float((mine + theirs).sum())
    missed = shared if kind is GroupKind.APART else 2.0 * len(peer_shares) - shared
    return assumptions.wish_weight * weight * missed / peers
