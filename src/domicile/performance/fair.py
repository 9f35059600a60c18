"""Max-min fair sharing of resources by flows with demands: progressive filling.

All flows grow together, each in proportion to its weight, until it has what it wants or a resource that it uses is
full; then it stays and the others grow on. The result is the allocation in which no flow can get more without taking
from one that has no more per weight (Bertsekas and Gallager, "Data Networks", 2nd edition, section 6.5.2). A flow takes
a fixed amount of each resource per unit of its rate, so that one flow can use several ways at once, in step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from domicile.local.compiled import entrance, maker, part
from domicile.performance.curves import Floats

__all__ = ["Flows", "fill", "max_min"]

Integers = npt.NDArray[np.int64]

CLOSE = 1e-12


def max_min(use: Floats, capacity: Floats, demand: Floats, weight: Floats | None = None) -> Floats:
    """Rates of F flows over R resources; all arguments may have leading dimensions, which are broadcast.

    `use`: ... x F x R, what a unit of each flow's rate takes of each resource. `capacity`: ... x R. `demand`: ... x F,
    the most that each flow wants. `weight`: ... x F, all 1 unless given; a flow of weight 0 gets nothing. The result is
    ... x F. Nothing may be negative.
    """
    flows, resources = use.shape[-2:]
    weights = np.ones(flows) if weight is None else weight
    lead = np.broadcast_shapes(use.shape[:-2], capacity.shape[:-1], demand.shape[:-1], weights.shape[:-1])
    uses = _flat(use, lead, (flows, resources))
    capacities = _flat(capacity, lead, (resources,))
    demands, shares = _flat(demand, lead, (flows,)), _flat(weights, lead, (flows,))
    rates = np.zeros_like(demands)
    _fill_all(uses, capacities, demands, shares, rates)
    return rates.reshape((*lead, flows))


def _flat(array: Floats, lead: tuple[int, ...], shape: tuple[int, ...]) -> Floats:
    """The array with its leading dimensions broadcast and made one."""
    return np.ascontiguousarray(np.broadcast_to(array, lead + shape).reshape((-1, *shape)), dtype=np.float64)


class Flows(NamedTuple):
    """F flows: flow f takes `use[i]` of `resource[i]` for i from `start[f]` to `start[f + 1]`; a resource may come
    several times."""

    start: Integers
    resource: Integers
    use: Floats
    demand: Floats
    weight: Floats


class _State(NamedTuple):
    """`spare`: what is left of each resource. `growing`: what all active flows take of it for a unit of rate per
    weight. `users`: how many they are; counted, since what is left of a sum after subtracting is never quite 0."""

    spare: Floats
    growing: Floats
    users: Integers
    active: npt.NDArray[np.bool_]
    done: npt.NDArray[np.bool_]


@maker
def fill(flows: Flows, capacity: Floats, rate: Floats) -> None:
    """Rates of the flows into `rate`."""
    count, resources = len(flows.demand), len(capacity)
    state = _State(
        capacity.copy(),
        np.zeros(resources),
        np.zeros(resources, dtype=np.int64),
        np.zeros(count, dtype=np.bool_),
        np.zeros(count, dtype=np.bool_),
    )
    left = 0
    for f in range(count):
        rate[f] = 0.0
        if flows.demand[f] > 0.0 and flows.weight[f] > 0.0:
            state.active[f] = True
            left += 1
            for i in range(flows.start[f], flows.start[f + 1]):
                state.growing[flows.resource[i]] += flows.weight[f] * flows.use[i]
                state.users[flows.resource[i]] += flows.use[i] > 0.0
    while left:
        level = _level(state)
        # who is content before the first resource is full stays there; if nobody is, those who use that resource do
        content = False
        for f in range(count):
            state.done[f] = state.active[f] and flows.demand[f] <= level * flows.weight[f]
            content = content or state.done[f]
        if not content:
            _held_back(flows, state, level)
        before = left
        for f in range(count):
            if state.done[f]:
                rate[f] = flows.demand[f] if content else level * flows.weight[f]
                _settle(flows, state, f, rate[f])
                left -= 1
        if left == before:  # only where something is not a number: no reason to wait for ever
            break


@part
def _level(state: _State) -> float:
    """The rate per weight at which the first resource is full."""
    level = np.inf
    for r in range(len(state.spare)):
        if state.users[r]:
            level = min(level, max(state.spare[r], 0.0) / state.growing[r])
    return float(level)


@part
def _held_back(flows: Flows, state: _State, level: float) -> None:
    """Mark the active flows that use a resource which is full at this level."""
    for f in range(len(state.active)):
        if state.active[f]:
            for i in range(flows.start[f], flows.start[f + 1]):
                r = flows.resource[i]
                if flows.use[i] > 0.0 and max(state.spare[r], 0.0) <= level * state.growing[r] * (1.0 + CLOSE):
                    state.done[f] = True


@part
def _settle(flows: Flows, state: _State, f: int, rate: float) -> None:
    """A flow stays at its rate."""
    state.active[f] = False
    for i in range(flows.start[f], flows.start[f + 1]):
        r = flows.resource[i]
        state.growing[r] -= flows.weight[f] * flows.use[i]
        state.spare[r] -= rate * flows.use[i]
        state.users[r] -= flows.use[i] > 0.0


@entrance
def _fill_all(use: Floats, capacity: Floats, demand: Floats, weight: Floats, rate: Floats) -> None:
    flows, resources = use.shape[1], use.shape[2]
    start = np.arange(flows + 1) * resources
    resource = np.arange(flows * resources) % resources
    for b in range(len(use)):
        fill(Flows(start, resource, use[b].reshape(-1), demand[b], weight[b]), capacity[b], rate[b])
