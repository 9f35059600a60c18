"""Compiled: guests one after the other, each to the best host of the pool.

For each shape of guests there is a tournament: a binary tree over the hosts with the least objective of those below,
brought up to date, when a guest of the shape comes, for the hosts that have changed since the last one. Where all
guests of a shape have the same size, its root is the answer. Where a shape is a range of sizes, the tree holds bounds:
hosts are weighed in full from the most promising one on, until no bound is better than what was found. Of hosts that
are equally good the first is taken.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from domicile.local.compiled import entrance, part
from domicile.performance.curves import Floats
from domicile.policies.pool.arrays import Constants, Hosts, Integers, Kinds, Shapes, Work
from domicile.policies.pool.weigh import GRAIN, NEVER, at_least, best_set, own_slowdown, put

__all__ = ["Found", "Trees", "begin", "place_some", "settle"]


class Trees(NamedTuple):
    """`best`: C x 2P, for P hosts (a power of two): the root is at 1, host h at P + h. `changed`: G, the hosts that
    guests came to, in order; `seen`: C, how many of these a tree knows of. `counted`: how many hosts `changed` has, and
    how many were weighed in full. `stack`: nodes of a tree that are still to be looked at."""

    best: Integers
    changed: Integers
    seen: Integers
    counted: Integers
    stack: Integers

    @classmethod
    def of(cls, shapes: int, hosts: int, guests: int) -> Trees:
        """Nothing known yet."""
        size = 1 << max(hosts - 1, 0).bit_length()
        integers = [np.zeros(length, dtype=np.int64) for length in (guests, shapes, 2, 128)]
        return cls(np.full((shapes, 2 * size), NEVER, dtype=np.int64), *integers)


class Found(NamedTuple):
    """By guest: the `host` and `chosen` set (-1: none), `part`: memory on the set's nodes (MiB), the `objective`; what
    is free at most on one host where there was none (`most`, MiB), and on which."""

    host: Integers
    chosen: Integers
    part: Integers
    objective: Floats
    most: Integers
    most_at: Integers

    @classmethod
    def room(cls, guests: int, nodes: int) -> Found:
        """For so many guests, and hosts of up to so many nodes."""
        nowhere = [np.full(guests, -1, dtype=np.int64) for _ in range(4)]
        parts = np.zeros((guests, nodes), dtype=np.int64)
        return cls(nowhere[0], nowhere[1], parts, np.full(guests, np.nan), nowhere[2], nowhere[3])


@entrance
def begin(kinds: Kinds, hosts: Hosts, c: Constants, shapes: Shapes, shape: int, trees: Trees, work: Work) -> None:
    """Fill the tree of one shape. Hosts that begin alike are weighed once."""
    tree = trees.best[shape]
    size = len(tree) // 2
    for h in range(len(hosts.kind)):
        if hosts.like[h] < h:
            tree[size + h] = tree[size + hosts.like[h]]
        else:
            tree[size + h] = at_least(kinds, hosts, c, h, shapes, shape, work)
    for at in range(size - 1, 0, -1):
        tree[at] = min(tree[2 * at], tree[2 * at + 1])


@part
def _catch_up(kinds: Kinds, hosts: Hosts, c: Constants, shapes: Shapes, shape: int, trees: Trees, work: Work) -> None:
    """Weigh again the hosts that have changed."""
    tree = trees.best[shape]
    size = len(tree) // 2
    for i in range(trees.seen[shape], trees.counted[0]):
        h = trees.changed[i]
        at = size + h
        tree[at] = at_least(kinds, hosts, c, h, shapes, shape, work)
        while at > 1:
            at //= 2
            best = min(tree[2 * at], tree[2 * at + 1])
            if tree[at] == best:
                break
            tree[at] = best
    trees.seen[shape] = trees.counted[0]


@part
def _first_best(tree: Integers) -> int:
    """The first host that has the least of all."""
    at, size = 1, len(tree) // 2
    while at < size:
        at = 2 * at if tree[2 * at] == tree[1] else 2 * at + 1
    return at - size


@part
def _first_below(at: int, size: int) -> int:
    """The first host below a node of a tree."""
    while at < size:
        at *= 2
    return at - size


@part
def _bounded(
    kinds: Kinds,
    hosts: Hosts,
    c: Constants,
    shapes: Shapes,
    shape: int,
    need: int,
    trees: Trees,
    work: Work,
) -> int:
    """The best host where the tree holds bounds; -1 if none has room."""
    tree, stack = trees.best[shape], trees.stack
    size = len(tree) // 2
    best, host = NEVER, -1
    stack[0] = 1
    waiting = 1
    while waiting > 0:
        waiting -= 1
        at = stack[waiting]
        if tree[at] > best or tree[at] == NEVER or (tree[at] == best and _first_below(at, size) > host):
            continue
        if at >= size:
            h = at - size
            alone = shapes.alone[shape, hosts.kind[h]]
            grains, _ = best_set(kinds, hosts, c, h, shapes.demand[shape], need, alone, work)
            trees.counted[1] += 1
            if grains < best or (grains == best and grains < NEVER and h < host):
                best, host = grains, h
            continue
        # the more promising half is looked at first
        left, right = 2 * at, 2 * at + 1
        first, second = (left, right) if tree[left] <= tree[right] else (right, left)
        stack[waiting], stack[waiting + 1] = second, first
        waiting += 2
    return host


@part
def _most_free(kinds: Kinds, hosts: Hosts, found: Found, g: int) -> None:
    """What is free at most on one host, on nodes with CPUs."""
    found.most[g] = -1
    for h in range(len(hosts.kind)):
        k = hosts.kind[h]
        free = 0
        for n in range(kinds.nodes[k]):
            if kinds.pcpus[kinds.node_at[k] + n] > 0.0:
                free += hosts.free[hosts.node_at[h] + n]
        if free > found.most[g]:
            found.most[g], found.most_at[g] = free, h


@entrance
def place_some(
    kinds: Kinds,
    hosts: Hosts,
    c: Constants,
    shapes: Shapes,
    shape_of: Integers,
    needs: Integers,
    span: tuple[int, int],
    trees: Trees,
    found: Found,
    work: Work,
) -> None:
    """Place the guests from the first number of `span` to before the second; the trees and hosts change."""
    last_refused = -1
    for g in range(span[0], span[1]):
        shape, need = shape_of[g], needs[g]
        demand = shapes.demand[shape]
        _catch_up(kinds, hosts, c, shapes, shape, trees, work)
        h = -1
        if shapes.low[shape] < shapes.high[shape]:
            h = _bounded(kinds, hosts, c, shapes, shape, need, trees, work)
        elif trees.best[shape, 1] < NEVER:
            h = _first_best(trees.best[shape])
        if h < 0:
            if last_refused >= 0:
                found.most[g], found.most_at[g] = found.most[last_refused], found.most_at[last_refused]
            else:
                _most_free(kinds, hosts, found, g)
                last_refused = g
            continue
        best, s = best_set(kinds, hosts, c, h, demand, need, shapes.alone[shape, hosts.kind[h]], work)
        put(kinds, hosts, c, h, s, demand, need, work)
        found.host[g], found.chosen[g], found.objective[g] = h, s, best * GRAIN
        for i in range(kinds.member_at[s + 1] - kinds.member_at[s]):
            found.part[g, i] = work.part[i]
        trees.changed[trees.counted[0]] = h
        trees.counted[0] += 1
        last_refused = -1


@entrance
def settle(
    kinds: Kinds,
    hosts: Hosts,
    c: Constants,
    shapes: Shapes,
    shape_of: Integers,
    needs: Integers,
    found: Found,
    work: Work,
) -> Floats:
    """Every guest's own slowdown now that all are there; nan where it is nowhere."""
    slowdown = np.full(len(shape_of), np.nan)
    for g in range(len(shape_of)):
        h, s = found.host[g], found.chosen[g]
        if h < 0:
            continue
        for i in range(kinds.member_at[s + 1] - kinds.member_at[s]):
            work.memory[i] = found.part[g, i] / needs[g]
        shape = shape_of[g]
        alone = shapes.alone[shape, hosts.kind[h]]
        slowdown[g] = own_slowdown(kinds, hosts, c, h, s, shapes.demand[shape], alone, work)
    return slowdown
