"""What else was weighed beside the topology that a guest gets: other widths, and other pnodes, each with virtual nodes
of its own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from domicile.policies.plan import Alternative, Placement
from domicile.policies.vnuma.costs import Ground, shares
from domicile.policies.vnuma.design import topology_on
from domicile.policies.vnuma.keep import on_pnodes
from domicile.state.model import Vnode
from domicile.state.request import GuestRequest

__all__ = ["alternative", "kept_beside", "other_sets", "plain_ones", "topologies_beside"]

SETS = 5_000
"""Sets of pnodes that are weighed at most."""

Alone = Callable[[GuestRequest], Placement]
"""Where the policy puts a guest by itself; raises `Refused`."""


def alternative(placement: Placement) -> Alternative:
    """A placement as one that was not taken."""
    return Alternative(placement.nodes, placement.predicted_slowdown, placement.terms, placement.objective)


def plain_ones(usual: Placement) -> list[Alternative]:
    """The places of a guest that has no virtual nodes, best first."""
    return [alternative(usual), *usual.alternatives]


def topologies_beside(
    ground: Ground,
    vnodes: Sequence[Vnode],
    widths: Sequence[Alternative],
    plain: Sequence[Alternative],
    alone: Alone,
    count: int,
) -> list[Alternative]:
    """What comes next to these virtual nodes of the ground's guest, `count` at most and unsorted: all other widths that
    were weighed, then other pnodes for as many virtual nodes, then sets of nodes that would be taken without any
    (`plain`). On each set of nodes, a topology is worked out for it; only where none can be had, it has none."""
    chosen = tuple(sorted({vnode.pnode for vnode in vnodes if vnode.pnode is not None}))
    found = {other.nodes: other for other in reversed(widths) if other.nodes != chosen}
    known = {other.nodes: other for other in plain}
    for nodes in _sets(ground, vnodes, count, plain):
        if len(found) >= count:
            break
        if nodes in found or nodes == chosen:
            continue
        indices = [ground.node_ids.index(node) for node in nodes]
        its = topology_on(ground, indices) if len(nodes) > 1 else None
        if its is not None:
            found[nodes] = alternative(alone(replace(ground.request, vnodes=its)))
        elif nodes in known:
            found[nodes] = known[nodes]
    return list(found.values())


def kept_beside(
    ground: Ground, vnodes: Sequence[Vnode], chosen: Sequence[int], alone: Alone, count: int
) -> list[Alternative]:
    """What comes next to these pnodes (ids) for virtual nodes that are to be kept as they are, and name no pnode or
    some: the same ones on other pnodes, `count` at most, unsorted."""
    found = []
    for indices in other_sets(ground, vnodes, 2 * count):
        elsewhere = on_pnodes(vnodes, ground.within(indices))
        if elsewhere is None or {vnode.pnode for vnode in elsewhere} == set(chosen):
            continue
        found.append(alternative(alone(replace(ground.request, vnodes=elsewhere))))
        if len(found) == count:
            break
    return found


def _sets(
    ground: Ground, vnodes: Sequence[Vnode], count: int, plain: Sequence[Alternative]
) -> Iterator[tuple[int, ...]]:
    """Sets of nodes (ids, ascending) worth a look."""
    for indices in other_sets(ground, vnodes, 2 * count):
        yield tuple(sorted(ground.node_ids[index] for index in indices))
    yield from (other.nodes for other in plain)


def other_sets(ground: Ground, vnodes: Sequence[Vnode], count: int) -> list[tuple[int, ...]]:
    """The `count` best sets of pnodes (indices, ascending) for as many virtual nodes, each taken to be as large as
    these are: a guide to what else is worth a look. Of many nodes, only those with the most room are looked at."""
    room = ground.memory_room_mib
    nodes = sorted(np.flatnonzero((room > 0) & (ground.pcpus > 0)).tolist(), key=lambda node: (-int(room[node]), node))
    while math.comb(len(nodes), len(vnodes)) > SETS:
        nodes.pop()
    sets = np.array(list(itertools.combinations(sorted(nodes), len(vnodes))), dtype=np.intp)
    if not len(sets):
        return []
    objectives = ground.objectives(sets, *shares(vnodes))
    return [tuple(sets[row].tolist()) for row in np.argsort(objectives, kind="stable")[:count]]
