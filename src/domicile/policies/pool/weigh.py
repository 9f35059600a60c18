"""Compiled: the best set of a host for a guest, a bound for a whole range of sizes, and putting a guest there.

Objectives are compared as whole numbers of `GRAIN`, so that what is left of rounding decides nothing.
"""

from __future__ import annotations

import math

from domicile.local.compiled import part
from domicile.policies.pool.arrays import Constants, Hosts, Kinds, Shapes, Work
from domicile.policies.pool.costs import cpu_cost, crowding, least_rate, look, memory_cost, sharing

__all__ = ["GRAIN", "NEVER", "at_least", "best_set", "own_slowdown", "put", "room_in"]

GRAIN = 1e-9
NEVER = 1 << 62
"""The objective of what cannot be."""


@part
def _grains(objective: float) -> int:
    return math.floor(objective / GRAIN + 0.5)


@part
def room_in(kinds: Kinds, hosts: Hosts, h: int, s: int) -> tuple[int, int]:
    """Free memory of the set's nodes: of all, and of the one that has least."""
    at = hosts.node_at[h]
    total, least = 0, NEVER
    for i in range(kinds.member_at[s], kinds.member_at[s + 1]):
        free = hosts.free[at + kinds.member[i]]
        total += free
        least = min(least, free)
    return total, least


@part
def _spread(kinds: Kinds, hosts: Hosts, h: int, s: int, need: int, work: Work) -> None:
    """Shares of memory on the set's nodes: even, but for nodes that have less (`placement.memory.spread`)."""
    first, last = kinds.member_at[s], kinds.member_at[s + 1]
    size, at = last - first, hosts.node_at[h]
    left, open_nodes = float(need), size
    for i in range(size):
        work.full[i] = False
    some = True
    while some and open_nodes > 0:
        some = False
        each = left / open_nodes
        for i in range(size):
            free = hosts.free[at + kinds.member[first + i]]
            if not work.full[i] and free < each:
                work.full[i], some = True, True
                work.memory[i] = free / need
                left -= free
                open_nodes -= 1
    for i in range(size):
        if not work.full[i]:
            work.memory[i] = left / open_nodes / need


@part
def _even(size: int, work: Work) -> None:
    for i in range(size):
        work.memory[i] = 1.0 / size


@part
def _least_memory_cost(
    kinds: Kinds, hosts: Hosts, c: Constants, h: int, s: int, demand: float, low: int, high: int, work: Work
) -> float:
    """No more than `memory_cost` for any size from `low` to `high`. With its size, a node's share of a guest grows
    until the node is full, and shrinks from there: it is never less than at one of the ends. These least shares cost
    what they cost, and what they lack of the whole at least `least_rate`."""
    size = kinds.member_at[s + 1] - kinds.member_at[s]
    _spread(kinds, hosts, h, s, low, work)
    for i in range(size):
        work.spare[i] = work.memory[i]
    _spread(kinds, hosts, h, s, high, work)
    lacking = 1.0
    for i in range(size):
        work.memory[i] = min(work.memory[i], work.spare[i])
        lacking -= work.memory[i]
    least = memory_cost(kinds, hosts, c, h, s, demand, work)
    return least + c.memory_bound * max(lacking, 0.0) * least_rate(kinds, hosts, c, h, s, work)


@part
def best_set(
    kinds: Kinds, hosts: Hosts, c: Constants, h: int, demand: float, need: int, alone: float, work: Work
) -> tuple[int, int]:
    """The objective (in grains) and the set: of equal ones that of fewer nodes, then of more free memory, then the
    first; (`NEVER`, -1) if none has room."""
    k = hosts.kind[h]
    fullness, everywhere = look(kinds, hosts, c, h, demand, work)
    best, chosen, chosen_size, chosen_room = NEVER, -1, 0, 0
    for s in range(kinds.set_at[k], kinds.set_at[k + 1]):
        room, least = room_in(kinds, hosts, h, s)
        if room < need:
            continue
        size = kinds.member_at[s + 1] - kinds.member_at[s]
        if size * least >= need:
            _even(size, work)
        else:
            _spread(kinds, hosts, h, s, need, work)
        cost = everywhere + cpu_cost(kinds, hosts, c, h, s, demand, fullness, work)
        cost += memory_cost(kinds, hosts, c, h, s, demand, work) - c.memory_bound * alone
        grains = _grains(cost)
        if grains < best or (grains == best and size == chosen_size and room > chosen_room):
            best, chosen, chosen_size, chosen_room = grains, s, size, room
    return best, chosen


@part
def at_least(kinds: Kinds, hosts: Hosts, c: Constants, h: int, shapes: Shapes, shape: int, work: Work) -> int:
    """The best objective on a host for a guest of a shape, in grains; no more than it where the shape is a range."""
    k = hosts.kind[h]
    demand, low, high, alone = shapes.demand[shape], shapes.low[shape], shapes.high[shape], shapes.alone[shape, k]
    if low == high:
        best, _ = best_set(kinds, hosts, c, h, demand, low, alone, work)
        return best
    fullness, everywhere = look(kinds, hosts, c, h, demand, work)
    best = NEVER
    for s in range(kinds.set_at[k], kinds.set_at[k + 1]):
        room, least = room_in(kinds, hosts, h, s)
        if room < low:
            continue
        size = kinds.member_at[s + 1] - kinds.member_at[s]
        cost = everywhere + cpu_cost(kinds, hosts, c, h, s, demand, fullness, work) - c.memory_bound * alone
        # one node, or room for an even spread whatever the size: then the cost is the same for the whole range
        if size == 1 or size * least >= high:
            _even(size, work)
            grains = _grains(cost + memory_cost(kinds, hosts, c, h, s, demand, work))
        else:
            grains = _grains(cost + _least_memory_cost(kinds, hosts, c, h, s, demand, low, min(high, room), work)) - 1
        best = min(best, grains)
    return best


@part
def _parts(kinds: Kinds, hosts: Hosts, h: int, s: int, need: int, work: Work) -> None:
    """The spread in whole MiB (`placement.memory.spread_whole`): what cannot be divided goes to the first nodes."""
    first, last = kinds.member_at[s], kinds.member_at[s + 1]
    size, at = last - first, hosts.node_at[h]
    left, open_nodes = need, size
    for i in range(size):
        work.full[i] = False
    some = True
    while some and open_nodes > 0:
        some = False
        each = left // open_nodes
        for i in range(size):
            free = hosts.free[at + kinds.member[first + i]]
            if not work.full[i] and free <= each:
                work.full[i], some = True, True
                work.part[i] = free
                left -= free
                open_nodes -= 1
    extra = left - left // max(open_nodes, 1) * open_nodes
    for i in range(size):
        if not work.full[i]:
            work.part[i] = left // open_nodes + (1 if extra > 0 else 0)
            extra -= 1


@part
def put(kinds: Kinds, hosts: Hosts, c: Constants, h: int, s: int, demand: float, need: int, work: Work) -> None:
    """Put a guest on the nodes of set s; `work.part` is then its memory on each."""
    k = hosts.kind[h]
    nodes, at, pairs, by_kind = kinds.nodes[k], hosts.node_at[h], hosts.pair_at[h], kinds.pair_at[k]
    first, last = kinds.member_at[s], kinds.member_at[s + 1]
    _parts(kinds, hosts, h, s, need, work)
    for i in range(first, last):
        n, share = kinds.member[i], kinds.share[i]
        hosts.free[at + n] -= work.part[i - first]
        hosts.demand[at + n] += demand * share
        hosts.weight[at + n] += share
        for j in range(first, last):
            m, held = kinds.member[j], work.part[j - first] / need
            hosts.traffic[pairs + n * nodes + m] += c.traffic_gbs * demand * share * held
            hosts.felt[pairs + n * nodes + m] += c.memory_bound * share * held * kinds.relative[by_kind + n * nodes + m]


@part
def own_slowdown(
    kinds: Kinds, hosts: Hosts, c: Constants, h: int, s: int, demand: float, alone: float, work: Work
) -> float:
    """Slowdown of a guest that is on set s of a host as it is now, with `work.memory` there."""
    k = hosts.kind[h]
    nodes, at, pairs = kinds.nodes[k], hosts.node_at[h], hosts.pair_at[h]
    by_node, by_pair = kinds.node_at[k], kinds.pair_at[k]
    first, last = kinds.member_at[s], kinds.member_at[s + 1]
    # a guest that wants nothing sees the host as it is
    fullness, _ = look(kinds, hosts, c, h, 0.0, work)
    slower, own = 0.0, 0.0
    for i in range(first, last):
        n, share = kinds.member[i], kinds.share[i]
        wants, pcpus = hosts.demand[at + n], kinds.pcpus[by_node + n]
        slower += share * (sharing(wants, kinds.cores[by_node + n], pcpus, fullness, c) - 1.0)
        slower += share * c.company / max(pcpus, 1.0) * (wants - demand * share)
        for j in range(first, last):
            m, held = kinds.member[j], work.memory[j - first]
            loaded = work.controller[m]
            if n != m:
                pair = n * nodes + m
                loaded += crowding(hosts.traffic[pairs + pair] / kinds.peak[by_pair + pair], c)
            own += share * held * kinds.relative[by_pair + n * nodes + m] * (1.0 + loaded)
    return 1.0 + slower + c.memory_bound * (own - 1.0 - alone)
