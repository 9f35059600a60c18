"""What ties a domain to a place beside its own memory: passed-through devices, and other domains of its groups.

`remoteness` is N x N: how much longer than local the way between two nodes is, both directions taken together, in units
of the local latency; 0 on the diagonal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from domicile.performance.assumptions import Assumptions
from domicile.performance.curves import Floats
from domicile.performance.machine import Machine
from domicile.state.request import GroupKind

__all__ = ["backend_pull", "device_pull", "group_pull", "group_wish", "remoteness"]


def remoteness(machine: Machine) -> Floats:
    """N x N, symmetric, never negative, 0 on the diagonal; not to be written to."""
    return machine.remoteness


def device_pull(remote: Floats, device_share: Floats, assumptions: Assumptions) -> Floats:
    """What a whole domain on each node (N) loses by the distance to its devices.

    Half of it goes with its vCPUs (interrupts, doorbells), half with its memory (DMA).
    """
    return np.asarray(assumptions.device_weight * np.einsum("...n,nm->...m", device_share, remote), dtype=np.float64)


def backend_pull(
    remote: Floats, dom0_share: Floats, backend_nodes: Sequence[Floats], assumptions: Assumptions
) -> Floats:
    """What a whole domain on each node (N) loses by the distance to its backends.

    `dom0_share` (N) is where Dom0's vCPUs are, `backend_nodes` (N each) where the device behind each backend is, all 0
    where that is not known: then Dom0's place alone counts.
    """
    if not backend_nodes:
        return np.zeros(len(remote))
    each = [(dom0_share + device) / 2.0 if device.any() else dom0_share for device in backend_nodes]
    return np.asarray(assumptions.backend_weight * (np.mean(each, axis=0) @ remote), dtype=np.float64)


def group_pull(remote: Floats, peer_shares: Floats, weight: float, peers: int, assumptions: Assumptions) -> Floats:
    """What a whole domain on each node (N) loses by talking to its peers, whose vCPUs are spread as `peer_shares` (P
    x N).

    `peers` is how many it has, of which P are placed.
    """
    return np.asarray(assumptions.near_weight * weight * (peer_shares.sum(axis=0) @ remote) / peers, dtype=np.float64)


def group_wish(kind: GroupKind, own: Floats, peer_shares: Floats) -> Floats:
    """How far a wish is from being met between a domain and each of its peers, from 0 to 1.

    `own` is ... x N, `peer_shares` P x N, the result ... x P. Two domains are together as far as the one that is more
    elsewhere is with the other, and apart as far as the one that is more with the other is not: spreading a domain over
    more nodes brings it no nearer to either.
    """
    mine = np.einsum("...n,pn->...p", own, (peer_shares > 0).astype(np.float64))
    theirs = np.einsum("...n,pn->...p", (own > 0).astype(np.float64), peer_shares)
    if kind is GroupKind.APART:
        return np.asarray(np.maximum(mine, theirs), dtype=np.float64)
    if kind is GroupKind.TOGETHER:
        return np.asarray(np.maximum(1.0 - np.minimum(mine, theirs), 0.0), dtype=np.float64)
    return np.zeros_like(mine)
