"""Taking a guest out and putting it in elsewhere, compiled: what it costs there, exactly, without looking at the rest.

Where a node fills up, memory of others falls elsewhere: then all is worked out anew. Nothing else changes on a node
that has room to spare for all that is planned on it, whoever goes first.
"""

from __future__ import annotations

import numpy as np

from domicile.local.compiled import part
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
    n = given.node[e]
    if given.candidate[FIXED, c] >= 0:
        return int(given.memory[given.candidate[FIXED, c], n])
    size, position = given.candidate[AT, c + 1] - given.candidate[AT, c], e - given.candidate[AT, c]
    return int(given.guest[NEED, g] // size + (1 if position < given.guest[NEED, g] % size else 0))


@part
def _spare(given: Given, state: State, g: int, c: int) -> bool:
    """Whether all nodes of a candidate would still have room to spare."""
    for e in range(given.candidate[AT, c], given.candidate[AT, c + 1]):
        n, mib = given.node[e], _mib(given, g, c, e)
        if state.memory[USED, n] + mib >= given.available[n] and (mib > 0 or given.candidate[FIXED, c] < 0):
            return False
    return True


@part
def _pulls(given: Given, state: State, g: int) -> None:
    """What the guest would lose on each node by distance to its peers."""
    nodes = len(given.available)
    for n in range(nodes):
        state.nodes[PULLED, n] = 0.0
    for i in range(given.guest[PAIRS, g], given.guest[PAIRS, g + 1]):
        if given.ties[NEAR, i] > 0.0 and state.chosen[given.pair[PEER, i]] >= 0:
            for m in range(nodes):
                theirs = state.shares[given.pair[PEER, i], m]
                if theirs > 0.0:
                    for n in range(nodes):
                        state.nodes[PULLED, n] += given.ties[NEAR, i] * given.ways[REMOTE, n, m] * theirs


@part
def _missed(given: Given, state: State, g: int, c: int) -> float:
    """What pairs with those that are placed cost on a candidate, once `_pulls` has been asked."""
    cost = 0.0
    for e in range(given.candidate[AT, c], given.candidate[AT, c + 1]):
        cost += given.share[e] * state.nodes[PULLED, given.node[e]]
    for i in range(given.guest[PAIRS, g], given.guest[PAIRS, g + 1]):
        h = given.pair[PEER, i]
        if given.pair[WISH, i] == 0 or state.chosen[h] < 0:
            continue
        ours, others = 0.0, 0.0
        for e in range(given.candidate[AT, c], given.candidate[AT, c + 1]):
            theirs = state.shares[h, given.node[e]]
            if given.share[e] > 0.0 and theirs > 0.0:
                ours += given.share[e]
                others += theirs
        if given.pair[WISH, i] == APART:
            cost += given.ties[MISSED, i] * max(ours, others)
        if given.pair[WISH, i] == TOGETHER:
            cost += given.ties[MISSED, i] * max(1.0 - min(ours, others), 0.0)
    return cost


@part
def _crowded(given: Given, state: State, g: int, c: int) -> float:
    """What CPU load costs the guest, and it costs the others."""
    q, busy, cost = given.guest[POOL, g], given.busy[g], 0.0
    for e in range(given.candidate[AT, c], given.candidate[AT, c + 1]):
        n, share = given.node[e], given.share[e]
        if share > 0.0:
            before, weight = state.sums[DEMAND, q, n], state.sums[WEIGHT, q, n]
            after = sharing(given, q, n, before + busy * share)
            cost += share * (after - 1.0) + weight * (after - state.sums[SHARED, q, n])
            crowd = given.figures[COMPANY] / max(given.pools[PCPUS, q, n], 1.0)
            cost += crowd * (weight * busy * share + share * before)
    return cost


@part
def _loaded(given: Given, state: State, g: int, c: int) -> float:
    """What the traffic of memory costs the guest, and it costs the others."""
    whole, cost = 0, 0.0
    for e in range(given.candidate[AT, c], given.candidate[AT, c + 1]):
        whole += _mib(given, g, c, e)
    whole = max(whole, 1)
    bound, traffic = given.figures[BOUND], given.figures[TRAFFIC] * given.busy[g]
    for f in range(given.candidate[AT, c], given.candidate[AT, c + 1]):
        m, share = given.node[f], _mib(given, g, c, f) / whole
        if share == 0.0:
            continue
        own, added = 0.0, 0.0
        for e in range(given.candidate[AT, c], given.candidate[AT, c + 1]):
            n, pair = given.node[e], given.share[e] * share
            if pair == 0.0:
                continue
            felt = bound * pair * given.ways[RELATIVE, n, m]
            own += felt
            added += traffic * pair
            if n != m:
                link = pressed(
                    given.figures, max(state.ways[MOVED, n, m] + traffic * pair, 0.0) / given.ways[PEAK, n, m]
                )
                cost += felt * link + state.ways[FELT, n, m] * (link - state.ways[LINK, n, m])
        controller = pressed(given.figures, max(state.nodes[COLUMN, m] + added, 0.0) / given.ways[PEAK, m, m])
        cost += own * controller + state.nodes[FELT_COLUMN, m] * (controller - state.nodes[CONTROLLER, m])
    return cost


@part
def cost(given: Given, state: State, g: int, c: int, most: float) -> float:
    """What a guest that is out adds to the objective on a candidate; once it is more than `most`, any such figure."""
    if not _spare(given, state, g, c):
        # memory of others falls elsewhere: all anew, and back
        before = state.value[0]
        state.chosen[g] = c
        added = rebuilt(given, state) - before
        state.chosen[g] = -1
        _ = rebuilt(given, state)
        _pulls(given, state, g)
        return float(added)
    found = given.costs[EVEN, c]
    if found <= most:
        found += _crowded(given, state, g, c)
    if found <= most and given.guest[PAIRS, g + 1] > given.guest[PAIRS, g]:
        found += _missed(given, state, g, c)
    if found <= most:
        found += _loaded(given, state, g, c)
    return float(found)


@part
def take_out(given: Given, state: State, g: int) -> float:
    """Take a guest out; what it had added to the objective."""
    c, before = state.chosen[g], state.value[0]
    spare = True
    for e in range(given.candidate[AT, c], given.candidate[AT, c + 1]):
        n = given.node[e]
        spare = spare and (state.memory[USED, n] < given.available[n] or state.mib[g, n] == 0)
    state.chosen[g] = -1
    if not spare:
        return float(before - rebuilt(given, state))
    _ = add(given, state, g, c, -1.0)
    refreshed(given, state, g, c)
    for n in range(len(given.available)):
        state.memory[USED, n] -= state.mib[g, n]
        state.mib[g, n] = 0
    if not _spare(given, state, g, c):
        return float(before - rebuilt(given, state))
    _pulls(given, state, g)
    added = cost(given, state, g, c, np.inf)
    state.value[0] -= added
    return added


@part
def put_in(given: Given, state: State, g: int, c: int, added: float) -> None:
    """Put a guest that is out on a candidate, which adds so much to the objective."""
    state.chosen[g] = c
    if not _spare(given, state, g, c):
        _ = rebuilt(given, state)
        return
    for n in range(len(given.available)):
        state.mib[g, n] = 0
    for e in range(given.candidate[AT, c], given.candidate[AT, c + 1]):
        state.mib[g, given.node[e]] = _mib(given, g, c, e)
        state.memory[USED, given.node[e]] += state.mib[g, given.node[e]]
    _ = add(given, state, g, c, 1.0)
    refreshed(given, state, g, c)
    state.value[0] += added


@part
def best_candidate(given: Given, state: State, g: int, known: int, least: float) -> tuple[int, float]:
    """The candidate on which a guest that is out adds least, and how much; `known` is one that adds `least`."""
    _pulls(given, state, g)
    for c in range(given.guest[FIRST, g], given.guest[FIRST, g + 1]):
        if given.costs[LOW, c] >= least:
            break
        if c != known:
            found = cost(given, state, g, c, least)
            if found < least:
                known, least = c, found
    return known, least


@part
def added_on(given: Given, state: State, g: int, c: int) -> float:
    """What a guest that is out adds on this candidate."""
    _pulls(given, state, g)
    return cost(given, state, g, c, np.inf)
