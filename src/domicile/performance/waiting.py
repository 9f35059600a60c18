"""Bandwidth where more is wanted than controllers and links can carry: who uses what is full waits there.

A vCPU has a few accesses on the way at a time. Where more of them come than can be carried they queue up, and each
waits as long as it takes until no more come than go: the waiting time of a byte, `price`, is the same for all at one
resource, none where there is room. So a flow that takes a hundredth of its bytes over a full link is held up by a
hundredth of what one is that takes all of them; and a flow that asks seldom waits as long for each byte, but seldom.

That is what a closed queueing network comes to where many are in it (Schweitzer's approximation of mean value analysis
with one station at its limit), and the one allocation that makes the sum of `weight * log(rate) - weight / demand *
rate` as large as can be carried: Kelly, "Charging and rate control for elastic traffic", European Transactions on
Telecommunications 8, 1997, where the waiting times are the prices.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from domicile.local.compiled import entrance, maker, part
from domicile.performance.curves import Floats

__all__ = ["Flows", "carried", "queue_up"]

Integers = npt.NDArray[np.int64]

CLOSE = 1e-7
"""How much more than it carries may be asked of a resource, as a share."""
MOST_ROUNDS = 500


class Flows(NamedTuple):
    """F flows: flow f takes `use[i]` of `resource[i]` for i from `start[f]` to `start[f + 1]`, for a unit of its rate;
    a resource may come several times. `demand`: their rates where nobody waits. `weight`: the vCPUs that each is
    of."""

    start: Integers
    resource: Integers
    use: Floats
    demand: Floats
    weight: Floats


def carried(use: Floats, capacity: Floats, demand: Floats, weight: Floats) -> Floats:
    """Rates (F) of flows that want `demand` (F), by `weight` (F), and take `use` (F x R) of `capacity` (R, above 0)."""
    rates = np.zeros(len(demand))
    _carried(np.ascontiguousarray(use), capacity, demand, weight, rates)
    return rates


@maker
def queue_up(flows: Flows, capacity: Floats, rate: Floats) -> None:
    """Rates of the flows into `rate`.

    A price is raised to where its resource is just full, resource by resource, until all are. One over the load is a
    concave function of the price, and a line where all that use the resource are alike: so Newton's steps on it come
    up to the root from below, and are few.
    """
    count = len(flows.demand)
    asked = np.zeros(len(capacity))
    for f in range(count):
        rate[f] = flows.demand[f] if flows.weight[f] > 0.0 else 0.0
        for i in range(flows.start[f], flows.start[f + 1]):
            asked[flows.resource[i]] += rate[f] * flows.use[i]
    full = np.flatnonzero(asked > capacity)  # nowhere else it gets more, since all slow down
    column = np.full(len(capacity), -1, dtype=np.int64)
    column[full] = np.arange(len(full))
    use = np.zeros((count, len(full)))
    for f in range(count):
        for i in range(flows.start[f], flows.start[f + 1]):
            c = column[flows.resource[i]]
            if c >= 0:
                use[f, c] += flows.use[i]
    price = np.zeros(len(full))
    for _ in range(MOST_ROUNDS):
        furthest = 0.0
        for c in range(len(full)):
            furthest = max(furthest, _raise_price(flows, use, price, rate, c, capacity[full[c]]))
        if furthest <= CLOSE:
            break


@part
def _raise_price(flows: Flows, use: Floats, price: Floats, rate: Floats, c: int, capacity: float) -> float:
    """One step of the price of a full resource, and the rates with that; by what share it was off before."""
    load, falls = 0.0, 0.0
    for f in range(len(rate)):
        if use[f, c] > 0.0 and rate[f] > 0.0:
            load += use[f, c] * rate[f]
            falls += (use[f, c] * rate[f]) ** 2 / flows.weight[f]
    if falls <= 0.0:
        return 0.0
    before = price[c]
    price[c] = max(before + (load / capacity - 1.0) * load / falls, 0.0)
    for f in range(len(rate)):
        if use[f, c] > 0.0 and rate[f] > 0.0:
            rate[f] = 1.0 / (1.0 / rate[f] + (price[c] - before) * use[f, c] / flows.weight[f])
    return abs(load / capacity - 1.0) if price[c] > 0.0 else 0.0


@entrance
def _carried(use: Floats, capacity: Floats, demand: Floats, weight: Floats, rate: Floats) -> None:
    flows, resources = use.shape
    start = np.arange(flows + 1) * resources
    resource = np.arange(flows * resources) % resources
    queue_up(Flows(start, resource, use.reshape(-1), demand, weight), capacity, rate)
