"""Taking a guest out and putting it in elsewhere, compiled: what it costs there, exactly, without looking at the rest.

Where a node fills up, memory of others falls elsewhere: then all is worked out anew. Nothing else changes on a node
that has room to spare for all that is planned on it, whoever goes first.
"""

from __future__ import annotations

import numpy as np

from domicile.local.compiled import part
from domicile.policies.placement.afresh.core.arrays import (
    BOUND,
    BUSY,
    COLUMN,
    COMPANY,
    CONTROLLER,
    DEMAND,
    EVEN,
    FELT,
    FELT_COLUMN,
    FIRST,
    FIXED,
    HEAVY,
    LIGHT,
    LINK,
    LOST,
    LOW,
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
    SENDS,
    SUM_HEAVY,
    SUM_LIGHT,
    USED,
    WEIGHT,
    WISH,
    Search,
)
from domicile.policies.placement.afresh.core.terms import add, lost, pressed, rebuilt, refreshed, wish_missed

__all__ = ["added_on", "best_candidate", "put_in", "take_out"]


@part
def _mib(s: Search, g: int, c: int, e: int) -> int:
    """Memory of a guest on an entry of its candidate where no node fills up."""
    i = s.i
    row = i[s.at_candidate + FIXED * s.marks + c]
    if row >= 0:
        return int(i[s.at_memory + row * s.nodes + i[s.at_node + e]])
    begin, need = i[s.at_candidate + c], i[s.at_guest + NEED * s.rows + g]
    size = i[s.at_candidate + c + 1] - begin
    return int(need // size + (1 if e - begin < need % size else 0))


@part
def _spare(s: Search, g: int, c: int) -> bool:
    """Whether all nodes of a candidate would still have room to spare."""
    i = s.i
    fixed = i[s.at_candidate + FIXED * s.marks + c] >= 0
    for e in range(i[s.at_candidate + c], i[s.at_candidate + c + 1]):
        n, mib = i[s.at_node + e], _mib(s, g, c, e)
        used = i[s.at_room + USED * s.nodes + n] + mib
        if used >= i[s.at_available + n] and (mib > 0 or not fixed):
            return False
    return True


@part
def _pulls(s: Search, g: int) -> None:
    """What the guest would lose on each node by distance to its peers."""
    f, i, nodes = s.f, s.i, s.nodes
    pull, begins = s.at_loads + PULLED * nodes, s.at_guest + PAIRS * s.rows + g
    for n in range(nodes):
        f[pull + n] = 0.0
    for pair in range(i[begins], i[begins + 1]):
        near, h = f[s.at_ties + NEAR * s.pairs + pair], i[s.at_pair + PEER * s.pairs + pair]
        if near > 0.0 and i[s.at_chosen + h] >= 0:
            for m in range(nodes):
                theirs = f[s.at_shares + h * nodes + m]
                if theirs > 0.0:
                    for n in range(nodes):
                        f[pull + n] += near * f[s.at_ways + REMOTE * s.nn + n * nodes + m] * theirs


@part
def _missed(s: Search, g: int, c: int) -> float:
    """What pairs with those that are placed cost on a candidate, once `_pulls` has been asked."""
    f, i, nodes = s.f, s.i, s.nodes
    begin, end = i[s.at_candidate + c], i[s.at_candidate + c + 1]
    begins = s.at_guest + PAIRS * s.rows + g
    cost = 0.0
    for e in range(begin, end):
        cost += f[s.at_share + e] * f[s.at_loads + PULLED * nodes + i[s.at_node + e]]
    for pair in range(i[begins], i[begins + 1]):
        h = i[s.at_pair + PEER * s.pairs + pair]
        if i[s.at_pair + WISH * s.pairs + pair] == 0 or i[s.at_chosen + h] < 0:
            continue
        ours, others = 0.0, 0.0
        for e in range(begin, end):
            mine, theirs = f[s.at_share + e], f[s.at_shares + h * nodes + i[s.at_node + e]]
            if mine > 0.0 and theirs > 0.0:
                ours += mine
                others += theirs
        cost += wish_missed(s, pair, ours, others)
    return cost


@part
def _crowded(s: Search, g: int, c: int) -> float:
    """What CPU load costs the guest, and it costs the others."""
    f, i = s.f, s.i
    pool = i[s.at_guest + POOL * s.rows + g] * s.nodes
    busy, light = f[s.at_own + BUSY * s.guests + g], f[s.at_own + LIGHT * s.guests + g]
    heavy = f[s.at_own + HEAVY * s.guests + g] * busy
    cost = 0.0
    for e in range(i[s.at_candidate + c], i[s.at_candidate + c + 1]):
        k, share = pool + i[s.at_node + e], f[s.at_share + e]
        if share > 0.0:
            at = s.at_sums + k
            before, weight = f[at + DEMAND * s.qn], f[at + WEIGHT * s.qn]
            heavier, lighter = f[at + SUM_HEAVY * s.qn] + heavy * share, f[at + SUM_LIGHT * s.qn] + light * share
            cost += lost(s, k, before + busy * share, weight + share, heavier, lighter) - f[at + LOST * s.qn]
            crowd = f[s.at_figures + COMPANY] / max(f[s.at_pools + PCPUS * s.qn + k], 1.0)
            cost += crowd * (weight * busy * share + share * before)
    return cost


@part
def _loaded(s: Search, g: int, c: int) -> float:
    """What the traffic of memory costs the guest, and it costs the others."""
    f, i, nodes = s.f, s.i, s.nodes
    begin, end = i[s.at_candidate + c], i[s.at_candidate + c + 1]
    whole, cost = 0, 0.0
    for e in range(begin, end):
        whole += _mib(s, g, c, e)
    whole = max(whole, 1)
    bound, traffic = f[s.at_own + BOUND * s.guests + g], f[s.at_own + SENDS * s.guests + g]
    for there in range(begin, end):
        m, share = i[s.at_node + there], _mib(s, g, c, there) / whole
        if share == 0.0:
            continue
        own, added = 0.0, 0.0
        for e in range(begin, end):
            way, pair = i[s.at_node + e] * nodes + m, f[s.at_share + e] * share
            felt = bound * pair * f[s.at_ways + RELATIVE * s.nn + way]
            own += felt
            added += traffic * pair
            if e != there:
                at = s.at_flows + way
                link = pressed(s, f[at + MOVED * s.nn] + traffic * pair, f[s.at_ways + PEAK * s.nn + way])
                cost += felt * link + f[at + FELT * s.nn] * (link - f[at + LINK * s.nn])
        at = s.at_loads + m
        controller = pressed(s, f[at + COLUMN * nodes] + added, f[s.at_ways + PEAK * s.nn + m * nodes + m])
        cost += own * controller + f[at + FELT_COLUMN * nodes] * (controller - f[at + CONTROLLER * nodes])
    return cost


@part
def _cost(s: Search, g: int, c: int, most: float) -> float:
    """What a guest that is out adds to the objective on a candidate, `_pulls` asked before; once it is more than
    `most`, any such figure."""
    i = s.i
    if not _spare(s, g, c):
        # memory of others falls elsewhere: all anew, and back
        before = s.f[s.at_value]
        i[s.at_chosen + g] = c
        added = rebuilt(s) - before
        i[s.at_chosen + g] = -1
        _ = rebuilt(s)
        return float(added)
    found = s.f[s.at_costs + EVEN * s.candidates + c]
    if found <= most:
        found += _crowded(s, g, c)
    if found <= most and i[s.at_guest + PAIRS * s.rows + g + 1] > i[s.at_guest + PAIRS * s.rows + g]:
        found += _missed(s, g, c)
    if found <= most:
        found += _loaded(s, g, c)
    return float(found)


@part
def added_on(s: Search, g: int, c: int) -> float:
    """What a guest that is out adds on this candidate."""
    _pulls(s, g)
    return _cost(s, g, c, np.inf)


@part
def take_out(s: Search, g: int) -> float:
    """Take a guest out; what it had added to the objective."""
    f, i, nodes = s.f, s.i, s.nodes
    c, before = i[s.at_chosen + g], f[s.at_value]
    used, mib = s.at_room + USED * nodes, s.at_mib + g * nodes
    spare = True
    for e in range(i[s.at_candidate + c], i[s.at_candidate + c + 1]):
        n = i[s.at_node + e]
        spare = spare and (i[used + n] < i[s.at_available + n] or i[mib + n] == 0)
    i[s.at_chosen + g] = -1
    if spare:
        _ = add(s, g, c, -1.0)
        refreshed(s, g, c)
        for n in range(nodes):
            i[used + n] -= i[mib + n]
            i[mib + n] = 0
        if _spare(s, g, c):
            added = added_on(s, g, c)
            f[s.at_value] -= added
            return added
    return float(before - rebuilt(s))


@part
def put_in(s: Search, g: int, c: int, added: float) -> None:
    """Put a guest that is out on a candidate, which adds so much to the objective."""
    i, nodes = s.i, s.nodes
    i[s.at_chosen + g] = c
    if not _spare(s, g, c):
        _ = rebuilt(s)
        return
    for n in range(nodes):
        i[s.at_mib + g * nodes + n] = 0
    for e in range(i[s.at_candidate + c], i[s.at_candidate + c + 1]):
        n, mib = i[s.at_node + e], _mib(s, g, c, e)
        i[s.at_mib + g * nodes + n] = mib
        i[s.at_room + USED * nodes + n] += mib
    _ = add(s, g, c, 1.0)
    refreshed(s, g, c)
    s.f[s.at_value] += added


@part
def best_candidate(s: Search, g: int, known: int, least: float) -> tuple[int, float]:
    """The candidate on which a guest that is out adds least, and how much; `known` is one that adds `least`, or -1."""
    first = s.at_guest + FIRST * s.rows + g
    _pulls(s, g)
    for c in range(s.i[first], s.i[first + 1]):
        if s.f[s.at_costs + LOW * s.candidates + c] >= least:
            break
        if c != known:
            found = _cost(s, g, c, least)
            if found < least:
                known, least = c, found
    return known, least
