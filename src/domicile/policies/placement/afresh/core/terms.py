"""The objective of a whole layout, compiled: `performance.field` and `Layout.group_costs` over again, from the choices
alone. Tests hold them together."""

from __future__ import annotations

import numpy as np

from domicile.local.compiled import part
from domicile.policies.placement.afresh.core.arrays import (
    ALONE,
    ALONE_THERE,
    APART,
    BOUND,
    BUSY,
    COLUMN,
    COMPANY,
    CONSTANT,
    CONTROLLER,
    CORES,
    DEMAND,
    DEMAND_THERE,
    DISPLACED,
    FELT,
    FELT_COLUMN,
    FELT_THERE,
    FIXED,
    FREE,
    FULL,
    HEAVY,
    HEAVY_THERE,
    LIGHT,
    LIGHT_THERE,
    LINEAR,
    LINK,
    LOST,
    MISSED,
    MOVED,
    NEAR,
    NEED,
    PAIRS,
    PCPUS,
    PEAK,
    PEER,
    POOL,
    RELATIVE,
    REMOTE,
    ROOM,
    SENDS,
    SHORTAGE,
    SMT,
    SUM_HEAVY,
    SUM_LIGHT,
    THERE,
    TOGETHER,
    TRAFFIC_THERE,
    TURN,
    USED,
    WAITS,
    WEIGHT,
    WEIGHT_THERE,
    WISH,
    Search,
)

__all__ = ["add", "lost", "pressed", "rebuilt", "refreshed", "wish_missed"]

NO_CPU = 1e-6
"""As in `performance.curves`."""


@part
def lost(s: Search, k: int, demand: float, weight: float, heavy: float, light: float) -> float:
    """What domains lose together by sharing a node's cores and pCPUs, of these sums: `Field._lost`."""
    f = s.f
    cores, room = max(f[s.at_pools + CORES * s.qn + k], NO_CPU), max(f[s.at_pools + PCPUS * s.qn + k], NO_CPU)
    running = min(demand, room)
    threads = running - cores
    paired = 1.0
    if threads > 0.0:
        paired = running / max(running - (1.0 - f[s.at_figures + SMT]) * threads, NO_CPU)
    if demand <= room:
        return float(weight * (paired - 1.0))
    turns, full = demand / room, f[s.at_pools + FULL * s.qn + k]
    short = full * paired * (turns - 1.0) + (1.0 - full) * f[s.at_figures + DISPLACED] * (1.0 - 1.0 / turns)
    return float(weight * (paired - 1.0) + light * (heavy / demand) * short)


@part
def _lost_now(s: Search, k: int) -> float:
    """The same of the sums as they are."""
    f, at, step = s.f, s.at_sums + k, s.qn
    heavy, light = f[at + SUM_HEAVY * step], f[at + SUM_LIGHT * step]
    return lost(s, k, f[at + DEMAND * step], f[at + WEIGHT * step], heavy, light)


@part
def pressed(s: Search, traffic: float, peak: float) -> float:
    """`performance.curves.crowding` of so much traffic."""
    wanted, bound = max(traffic, 0.0) / peak, s.f[s.at_figures + WAITS]
    slowed = 1.0 + bound * s.f[s.at_figures + LINEAR] * wanted
    slowed *= slowed
    slowed *= slowed
    slowed *= slowed
    full = wanted * wanted
    full *= full
    full *= full
    return float((np.sqrt(np.sqrt(np.sqrt(full + slowed))) - 1.0) / bound)


@part
def _falls(s: Search, g: int, c: int) -> int:
    """Let the memory of a guest fall on its set, as `memory.spread_whole`: MiB that find no room."""
    i = s.i
    mib, room = s.at_mib + g * s.nodes, s.at_room + ROOM * s.nodes
    begin, end = s.at_node + i[s.at_candidate + c], s.at_node + i[s.at_candidate + c + 1]
    left, still = i[s.at_guest + NEED * s.rows + g], end - begin
    for e in range(begin, end):
        i[mib + i[e]] = -1
    while still > 0:
        each, extra = left // still, left % still
        full, position = 0, 0
        for e in range(begin, end):
            n = i[e]
            if i[mib + n] < 0 and i[room + n] <= each:
                i[mib + n] = i[room + n]
                left -= i[room + n]
                full += 1
        still -= full
        if full == 0:
            for e in range(begin, end):
                n = i[e]
                if i[mib + n] < 0:
                    i[mib + n] = each + (1 if position < extra else 0)
                    position += 1
            left, still = 0, 0
    for e in range(begin, end):
        i[room + i[e]] -= i[mib + i[e]]
    return int(left)


@part
def _lies(s: Search, g: int, row: int) -> int:
    """Memory that is where it is: MiB that find no room there."""
    i = s.i
    mib, room, wanted = s.at_mib + g * s.nodes, s.at_room + ROOM * s.nodes, s.at_memory + row * s.nodes
    short = 0
    for n in range(s.nodes):
        i[mib + n] = min(i[wanted + n], i[room + n])
        i[room + n] -= i[mib + n]
        short += i[wanted + n] - i[mib + n]
    return short


@part
def _settled(s: Search) -> int:
    """The memory of all guests: of those that stay first, then as it falls in turn. MiB that find no room."""
    i = s.i
    used, room = s.at_room + USED * s.nodes, s.at_room + ROOM * s.nodes
    short = 0
    for n in range(s.nodes):
        i[room + n] = i[s.at_available + n]
    for later in range(2):
        for turn in range(s.guests):
            g = i[s.at_guest + TURN * s.rows + turn]
            c = i[s.at_chosen + g]
            if c < 0 or i[s.at_candidate + THERE * s.marks + c] == later:
                continue
            for n in range(s.nodes):
                i[s.at_mib + g * s.nodes + n] = 0
            row = i[s.at_candidate + FIXED * s.marks + c]
            short += _lies(s, g, row) if row >= 0 else _falls(s, g, c)
    for n in range(s.nodes):
        i[used + n] = i[s.at_available + n] - i[room + n]
    return short


@part
def add(s: Search, g: int, c: int, sign: float) -> float:
    """Add a guest, with its memory as `State.mib` says, to the sums, or take it out. What it costs wherever the others
    are."""
    f, i, nodes = s.f, s.i, s.nodes
    begin, end = i[s.at_candidate + c], i[s.at_candidate + c + 1]
    mib = s.at_mib + g * nodes
    whole = 0
    for e in range(begin, end):
        whole += i[mib + i[s.at_node + e]]
    whole = max(whole, 1)
    bound, traffic = f[s.at_own + BOUND * s.guests + g], f[s.at_own + SENDS * s.guests + g]
    own = f[s.at_costs + FREE * s.candidates + c]
    for there in range(begin, end):
        m = i[s.at_node + there]
        part = i[mib + m] / whole
        own += part / 2.0 * f[s.at_pull + g * nodes + m]
        for e in range(begin, end):
            way = i[s.at_node + e] * nodes + m
            pair = f[s.at_share + e] * part
            felt = bound * pair * f[s.at_ways + RELATIVE * s.nn + way]
            own += felt
            f[s.at_flows + FELT * s.nn + way] += sign * felt
            f[s.at_loads + FELT_COLUMN * nodes + m] += sign * felt
            f[s.at_flows + MOVED * s.nn + way] += sign * traffic * pair
            f[s.at_loads + COLUMN * nodes + m] += sign * traffic * pair
    busy, pool = f[s.at_own + BUSY * s.guests + g], i[s.at_guest + POOL * s.rows + g] * nodes
    for e in range(begin, end):
        n, share = i[s.at_node + e], f[s.at_share + e]
        at = s.at_sums + pool + n
        f[at + DEMAND * s.qn] += sign * busy * share
        f[at + WEIGHT * s.qn] += sign * share
        f[at + ALONE * s.qn] += sign * busy * share * share
        f[at + SUM_HEAVY * s.qn] += sign * f[s.at_own + HEAVY * s.guests + g] * busy * share
        f[at + SUM_LIGHT * s.qn] += sign * f[s.at_own + LIGHT * s.guests + g] * share
        f[s.at_shares + g * nodes + n] = share if sign > 0.0 else 0.0
    return float(own)


@part
def refreshed(s: Search, g: int, c: int) -> None:
    """Work out anew what follows from the sums, on the nodes of a candidate of a guest."""
    f, i, nodes = s.f, s.i, s.nodes
    begin, end = s.at_node + i[s.at_candidate + c], s.at_node + i[s.at_candidate + c + 1]
    pool, peak = i[s.at_guest + POOL * s.rows + g] * nodes, s.at_ways + PEAK * s.nn
    for there in range(begin, end):
        m = i[there]
        f[s.at_sums + LOST * s.qn + pool + m] = _lost_now(s, pool + m)
        for e in range(begin, end):
            way = i[e] * nodes + m
            if e == there:
                pressure = pressed(s, f[s.at_loads + COLUMN * nodes + m], f[peak + way])
                f[s.at_loads + CONTROLLER * nodes + m] = pressure
            else:
                pressure = pressed(s, f[s.at_flows + MOVED * s.nn + way], f[peak + way])
                f[s.at_flows + LINK * s.nn + way] = pressure


@part
def wish_missed(s: Search, pair: int, ours: float, others: float) -> float:
    """What a pair of guests costs by a wish, with the shares of either's vCPUs where the other has some."""
    wish, missed = s.i[s.at_pair + WISH * s.pairs + pair], s.f[s.at_ties + MISSED * s.pairs + pair]
    if wish == APART:
        return float(missed * max(ours, others))
    if wish == TOGETHER:
        return float(missed * max(1.0 - min(ours, others), 0.0))
    return 0.0


@part
def _pair_cost(s: Search, pair: int, g: int, h: int) -> float:
    """What a pair of guests costs by its group."""
    f, nodes = s.f, s.nodes
    mine, theirs = s.at_shares + g * nodes, s.at_shares + h * nodes
    cost, ours, others = 0.0, 0.0, 0.0
    for n in range(nodes):
        if f[mine + n] > 0.0:
            far = 0.0
            for m in range(nodes):
                far += f[s.at_ways + REMOTE * s.nn + n * nodes + m] * f[theirs + m]
            cost += f[s.at_ties + NEAR * s.pairs + pair] * f[mine + n] * far
            if f[theirs + n] > 0.0:
                ours += f[mine + n]
                others += f[theirs + n]
    return cost + wish_missed(s, pair, ours, others)


@part
def _ties(s: Search) -> float:
    """What all pairs of guests cost by their groups."""
    i = s.i
    begins = s.at_guest + PAIRS * s.rows
    cost = 0.0
    for g in range(s.guests):
        for pair in range(i[begins + g], i[begins + g + 1]):
            h = i[s.at_pair + PEER * s.pairs + pair]
            if g < h and i[s.at_chosen + g] >= 0 and i[s.at_chosen + h] >= 0:
                cost += _pair_cost(s, pair, g, h)
    return cost


@part
def _cleared(s: Search) -> None:
    """Only those that do not move."""
    f = s.f
    for k in range(s.qn):
        f[s.at_sums + DEMAND * s.qn + k] = f[s.at_pools + DEMAND_THERE * s.qn + k]
        f[s.at_sums + WEIGHT * s.qn + k] = f[s.at_pools + WEIGHT_THERE * s.qn + k]
        f[s.at_sums + ALONE * s.qn + k] = f[s.at_pools + ALONE_THERE * s.qn + k]
        f[s.at_sums + SUM_HEAVY * s.qn + k] = f[s.at_pools + HEAVY_THERE * s.qn + k]
        f[s.at_sums + SUM_LIGHT * s.qn + k] = f[s.at_pools + LIGHT_THERE * s.qn + k]
    for m in range(s.nodes):
        moved, felt = 0.0, 0.0
        for way in range(m, s.nn, s.nodes):
            f[s.at_flows + MOVED * s.nn + way] = f[s.at_ways + TRAFFIC_THERE * s.nn + way]
            f[s.at_flows + FELT * s.nn + way] = f[s.at_ways + FELT_THERE * s.nn + way]
            moved += f[s.at_ways + TRAFFIC_THERE * s.nn + way]
            felt += f[s.at_ways + FELT_THERE * s.nn + way]
        f[s.at_loads + COLUMN * s.nodes + m] = moved
        f[s.at_loads + FELT_COLUMN * s.nodes + m] = felt
    for k in range(s.guests * s.nodes):
        f[s.at_shares + k] = 0.0


@part
def rebuilt(s: Search) -> float:
    """Work out everything from the choices: the objective, with what is short."""
    f, nodes = s.f, s.nodes
    _cleared(s)
    short = _settled(s)
    value = f[s.at_figures + CONSTANT]
    for g in range(s.guests):
        c = s.i[s.at_chosen + g]
        if c >= 0:
            value += add(s, g, c, 1.0)
    for k in range(s.qn):
        at = s.at_sums + k
        f[at + LOST * s.qn] = _lost_now(s, k)
        crowd = f[at + WEIGHT * s.qn] * f[at + DEMAND * s.qn] - f[at + ALONE * s.qn]
        crowd /= max(f[s.at_pools + PCPUS * s.qn + k], 1.0)
        value += f[at + LOST * s.qn] + f[s.at_figures + COMPANY] * crowd
    for m in range(nodes):
        for n in range(nodes):
            way = n * nodes + m
            peak = f[s.at_ways + PEAK * s.nn + way]
            if n == m:
                pressure = pressed(s, f[s.at_loads + COLUMN * nodes + m], peak)
                f[s.at_loads + CONTROLLER * nodes + m] = pressure
                value += f[s.at_loads + FELT_COLUMN * nodes + m] * pressure
            else:
                pressure = pressed(s, f[s.at_flows + MOVED * s.nn + way], peak)
                f[s.at_flows + LINK * s.nn + way] = pressure
                value += f[s.at_flows + FELT * s.nn + way] * pressure
    f[s.at_value] = value + _ties(s) + SHORTAGE * short
    f[s.at_value + 1] = short
    return float(f[s.at_value])
