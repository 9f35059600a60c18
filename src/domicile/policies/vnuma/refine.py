"""The pnodes of a topology, new or kept, bettered by the whole objective.

`assign` chooses them by costs that can be cut up by virtual node and by pair. What cannot be is left out there: how
full memory controllers and links get, and what that costs others. From its answer, one virtual node is moved to a free
pnode or two change places, the best of all such changes each time, as long as the placement's objective gets less.
Nothing is random, and so many assignments are tried at most that it takes milliseconds for 8 virtual nodes on 16
pnodes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from domicile.performance.curves import Floats
from domicile.policies.vnuma.assign import AssignmentProblem
from domicile.policies.vnuma.costs import Ground, shares
from domicile.state.model import Vnode

__all__ = ["refined"]

Indices = npt.NDArray[np.intp]

CELLS = 400_000
"""Pairs of virtual nodes in all assignments tried, together: tens of milliseconds. A round for 8 virtual nodes on 16
pnodes has 6,000."""

MARGIN = 1e-6
"""A smaller gain is what whole MiB make of shares."""


def refined(
    ground: Ground, vnodes: Sequence[Vnode], pnodes: Sequence[int], problem: AssignmentProblem
) -> tuple[int, ...]:
    """The pnodes (indices) of these virtual nodes, from these on; as they are where some share one. `problem` says
    where each may be. What a guest was told to be near counts beside the objective, which does not know it."""
    chosen = np.array(pnodes, dtype=np.intp)
    if len(set(pnodes)) < len(pnodes):
        return tuple(pnodes)
    (vcpus, memory), told = shares(vnodes), ground.told(vnodes)

    def costs(tried: Indices) -> Floats:
        found = ground.objectives(tried, vcpus, memory)
        if told.any():
            found += (told * problem.way[tried[:, :, None], tried[:, None, :]]).sum(axis=(1, 2))
        return found

    best = float(costs(chosen[None])[0])
    left = CELLS // len(vnodes) ** 2
    while left > 0:
        tried = _changes(problem, chosen)
        if len(tried) > left:
            # those that are cheapest by themselves
            alone = problem.linear[np.arange(len(vnodes)), tried].sum(axis=1)
            tried = tried[np.argsort(alone, kind="stable")[:left]]
        left -= len(tried)
        found = costs(tried) if len(tried) else np.array([np.inf])
        row = int(np.argmin(found))
        if found[row] >= best - MARGIN:
            break
        chosen, best = tried[row], float(found[row])
    return tuple(chosen.tolist())


def _changes(problem: AssignmentProblem, chosen: Indices) -> Indices:
    """All assignments with one virtual node on a free pnode, then all with two in each other's place: K x V."""
    free = problem.possible.copy()
    free[:, chosen] = False
    vnode, pnode = np.nonzero(free)
    moved = np.repeat(chosen[None], len(vnode), axis=0)
    moved[np.arange(len(vnode)), vnode] = pnode
    can = problem.possible[:, chosen]
    one, other = np.nonzero(np.triu(can & can.T, 1))
    swapped = np.repeat(chosen[None], len(one), axis=0)
    rows = np.arange(len(one))
    swapped[rows, one], swapped[rows, other] = chosen[other], chosen[one]
    return np.concatenate([moved, swapped])
