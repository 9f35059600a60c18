"""Taking a guest out and putting it in elsewhere, compiled: what it costs there, exactly, without looking at the rest.

Where a node fills up, memory of others falls elsewhere: then all is worked out anew. Nothing else changes on a node
that has room to spare for all that is planned on it, whoever goes first.
"""

from __future__ import annotations

import numpy as np

from domicile.local.compiled import melted, part
from domicile.policies.placement.afresh.core.arrays import (
    APART,
    AT,
    BOUND,
    COLUMN,
    COMPANY,
    CONTROLLER,
    DEMAND,
    EVEN,
    FELT,
    FELT_COLUMN,
    FIRST,
    FIXED,
    LINK,
    LOW,
    MISSED,
    MOVED,
    NEAR,
    NEED,
    PAIRS,
    PCPUS,
    PEAK,
    PEER,
    POOL,
    PULLED,
    RELATIVE,
    REMOTE,
    SHARED,
    TOGETHER,
    TRAFFIC,
    USED,
    WEIGHT,
    WISH,
    Given,
    State,
)
from domicile.policies.placement.afresh.core.terms import add, pressed, rebuilt, refreshed, sharing

__all__ = ["added_on", "best_candidate", "put_in", "take_out"]


@part
def _mib(given: Given, g: int, c: int, e: int) -> int:
    """Memory of a guest on an entry of its candidate where no node fills up."""
    guest, candidate = given.guest, given.candidate
    n = given.node[e]
    if candidate[FIXED, c] >= 0:
        return int(given.memory[candidate[FIXED, c], n])
    size, position = candidate[AT, c + 1] - candidate[AT, c], e - candidate[AT, c]
    return int(guest[NEED, g] // size + (1 if position < guest[NEED, g] % size else 0))


@part
def _spare(given: Given, state: State, g: int, c: int) -> bool:
    """Whether all nodes of a candidate would still have room to spare."""
    candidate = given.candidate
    for e in range(candidate[AT, c], candidate[AT, c + 1]):
        n, mib = given.node[e], _mib(given, g, c, e)
        if state.memory[USED, n] + mib >= given.available[n] and (mib > 0 or candidate[FIXED, c] < 0):
            return False
    return True


@part
def _pulls(given: Given, state: State, g: int) -> None:
    """What the guest would lose on each node by distance to its peers."""
    guest, pairs, ties = given.guest, given.pair, given.ties
    loads = state.nodes
    nodes = len(given.available)
    for n in range(nodes):
        loads[PULLED, n] = 0.0
    for i in range(guest[PAIRS, g], guest[PAIRS, g + 1]):
        if ties[NEAR, i] > 0.0 and state.chosen[pairs[PEER, i]] >= 0:
            for m in range(nodes):
                theirs = state.shares[pairs[PEER, i], m]
                if theirs > 0.0:
                    for n in range(nodes):
                        loads[PULLED, n] += ties[NEAR, i] * given.ways[REMOTE, n, m] * theirs


@melted
def _missed(given: Given, state: State, g: int, c: int) -> float:
    """What pairs with those that are placed cost on a candidate, once `_pulls` has been asked."""
    guest, candidate, node, split = given.guest, given.candidate, given.node, given.share
    pairs, ties = given.pair, given.ties
    cost = 0.0
    for e in range(candidate[AT, c], candidate[AT, c + 1]):
        cost += split[e] * state.nodes[PULLED, node[e]]
    for i in range(guest[PAIRS, g], guest[PAIRS, g + 1]):
        h = pairs[PEER, i]
        if pairs[WISH, i] == 0 or state.chosen[h] < 0:
            continue
        ours, others = 0.0, 0.0
        for e in range(candidate[AT, c], candidate[AT, c + 1]):
            theirs = state.shares[h, node[e]]
            if split[e] > 0.0 and theirs > 0.0:
                ours += split[e]
                others += theirs
        if pairs[WISH, i] == APART:
            cost += ties[MISSED, i] * max(ours, others)
        if pairs[WISH, i] == TOGETHER:
            cost += ties[MISSED, i] * max(1.0 - min(ours, others), 0.0)
    return cost


@melted
def _crowded(given: Given, state: State, g: int, c: int) -> float:
    """What CPU load costs the guest, and it costs the others."""
    candidate = given.candidate
    sums = state.sums
    q, busy, cost = given.guest[POOL, g], given.busy[g], 0.0
    for e in range(candidate[AT, c], candidate[AT, c + 1]):
        n, share = given.node[e], given.share[e]
        if share > 0.0:
            before, weight = sums[DEMAND, q, n], sums[WEIGHT, q, n]
            after = sharing(given, q, n, before + busy * share)
            cost += share * (after - 1.0) + weight * (after - sums[SHARED, q, n])
            crowd = given.figures[COMPANY] / max(given.pools[PCPUS, q, n], 1.0)
            cost += crowd * (weight * busy * share + share * before)
    return cost


@melted
def _loaded(given: Given, state: State, g: int, c: int) -> float:
    """What the traffic of memory costs the guest, and it costs the others."""
    figures, ways, candidate, node = given.figures, given.ways, given.candidate, given.node
    flows, loads = state.ways, state.nodes
    whole, cost = 0, 0.0
    for e in range(candidate[AT, c], candidate[AT, c + 1]):
        whole += _mib(given, g, c, e)
    whole = max(whole, 1)
    bound, traffic = figures[BOUND], figures[TRAFFIC] * given.busy[g]
    for f in range(candidate[AT, c], candidate[AT, c + 1]):
        m, share = node[f], _mib(given, g, c, f) / whole
        if share == 0.0:
            continue
        own, added = 0.0, 0.0
        for e in range(candidate[AT, c], candidate[AT, c + 1]):
            n, pair = node[e], given.share[e] * share
            if pair == 0.0:
                continue
            felt = bound * pair * ways[RELATIVE, n, m]
            own += felt
            added += traffic * pair
            if n != m:
                link = pressed(figures, max(flows[MOVED, n, m] + traffic * pair, 0.0) / ways[PEAK, n, m])
                cost += felt * link + flows[FELT, n, m] * (link - flows[LINK, n, m])
        controller = pressed(figures, max(loads[COLUMN, m] + added, 0.0) / ways[PEAK, m, m])
        cost += own * controller + loads[FELT_COLUMN, m] * (controller - loads[CONTROLLER, m])
    return cost


@part
def cost(given: Given, state: State, g: int, c: int, most: float) -> float:
    """What a guest that is out adds to the objective on a candidate; once it is more than `most`, any such figure."""
    guest = given.guest
    chosen = state.chosen
    if not _spare(given, state, g, c):
        # memory of others falls elsewhere: all anew, and back
        before = state.value[0]
        chosen[g] = c
        added = rebuilt(given, state) - before
        chosen[g] = -1
        _ = rebuilt(given, state)
        _pulls(given, state, g)
        return float(added)
    found = given.costs[EVEN, c]
    if found <= most:
        found += _crowded(given, state, g, c)
    if found <= most and guest[PAIRS, g + 1] > guest[PAIRS, g]:
        found += _missed(given, state, g, c)
    if found <= most:
        found += _loaded(given, state, g, c)
    return float(found)


@part
def take_out(given: Given, state: State, g: int) -> float:
    """Take a guest out; what it had added to the objective."""
    available, candidate = given.available, given.candidate
    chosen, mib, room, value = state.chosen, state.mib, state.memory, state.value
    c, before = chosen[g], value[0]
    spare = True
    for e in range(candidate[AT, c], candidate[AT, c + 1]):
        n = given.node[e]
        spare = spare and (room[USED, n] < available[n] or mib[g, n] == 0)
    chosen[g] = -1
    if not spare:
        return float(before - rebuilt(given, state))
    _ = add(given, state, g, c, -1.0)
    refreshed(given, state, g, c)
    for n in range(len(available)):
        room[USED, n] -= mib[g, n]
        mib[g, n] = 0
    if not _spare(given, state, g, c):
        return float(before - rebuilt(given, state))
    _pulls(given, state, g)
    added = cost(given, state, g, c, np.inf)
    value[0] -= added
    return added


@part
def put_in(given: Given, state: State, g: int, c: int, added: float) -> None:
    """Put a guest that is out on a candidate, which adds so much to the objective."""
    candidate, node = given.candidate, given.node
    mib = state.mib
    state.chosen[g] = c
    if not _spare(given, state, g, c):
        _ = rebuilt(given, state)
        return
    for n in range(len(given.available)):
        mib[g, n] = 0
    for e in range(candidate[AT, c], candidate[AT, c + 1]):
        mib[g, node[e]] = _mib(given, g, c, e)
        state.memory[USED, node[e]] += mib[g, node[e]]
    _ = add(given, state, g, c, 1.0)
    refreshed(given, state, g, c)
    state.value[0] += added


@part
def best_candidate(given: Given, state: State, g: int, known: int, least: float) -> tuple[int, float]:
    """The candidate on which a guest that is out adds least, and how much; `known` is one that adds `least`, or -1."""
    guest = given.guest
    _pulls(given, state, g)
    for c in range(guest[FIRST, g], guest[FIRST, g + 1]):
        if given.costs[LOW, c] >= least:
            break
        if c != known:
            found = cost(given, state, g, c, least)
            if found < least:
                known, least = c, found
    return known, least


@melted
def added_on(given: Given, state: State, g: int, c: int) -> float:
    """What a guest that is out adds on this candidate."""
    _pulls(given, state, g)
    return cost(given, state, g, c, np.inf)
