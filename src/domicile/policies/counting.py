"""What a manager makes as small as it can while guests run: their slowdown, over domains and over the work they do.

Placement takes all domains alike: of a newcomer nobody knows yet what it will do. Of those that run it is known, and
domains alike would have a few wide ones crowd a node so that many small ones have the other to themselves, for hours;
work alone would have small ones count nothing. So a part of what counts goes by domains, and the rest by work.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from domicile.performance.tenants import Tenants

__all__ = ["counted"]

BY_WORK = 0.35
"""The part of what counts that goes by work, measured in simulation with guests that come and go (docs/gain.md): with
less the slowest are slower, with more the mean gets worse."""

WAKES = 0.01
"""vCPUs' worth of work from which on a domain counts in full: who does less is not there to be slowed down."""


def counted(tenants: Tenants) -> Tenants:
    """Tenants with what each one's slowdown counts: 1 on average, of those that run."""
    demand = tenants.demand
    there = np.minimum(demand / WAKES, 1.0)
    # where nobody wants anything, no share of it is one
    mean = float(demand.sum()) / max(float(there.sum()), 1.0) or 1.0
    return replace(tenants, counts=there * (1.0 - BY_WORK) + BY_WORK * demand / mean)
