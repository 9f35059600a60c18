"""The objective of a whole layout, compiled: `performance.field` and `Layout.group_costs` over again, from the choices
alone. Tests hold them together."""

from __future__ import annotations

import numpy as np

from domicile.local.compiled import maker, part
from domicile.performance.curves import Floats
from domicile.policies.placement.afresh.core.arrays import (
    ALONE,
    ALONE_THERE,
    APART,
    AT,
    BEND,
    BOUND,
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
    LINEAR,
    LINK,
    MISSED,
    MOVED,
    NEAR,
    NEED,
    PAIRS,
    PCPUS,
    PEAK,
    PEER,
    POOL,
    QUEUE,
    RELATIVE,
    REMOTE,
    ROOM,
    SHARED,
    SHORTAGE,
    SMT,
    THERE,
    TOGETHER,
    TRAFFIC,
    TRAFFIC_THERE,
    TURN,
    USED,
    WEIGHT,
    WEIGHT_THERE,
    WISH,
    Given,
    Integers,
    State,
)

__all__ = ["add", "new_state", "pair_cost", "pressed", "rebuilt", "refreshed", "sharing"]

NO_CPU = 1e-6
"""As in `performance.curves`."""


@part
def sharing(given: Given, q: int, n: int, demand: float) -> float:
    """`performance.curves.sharing` of one demand."""
    cores, room = max(given.pools[CORES, q, n], NO_CPU), max(given.pools[PCPUS, q, n], NO_CPU)
    running = min(demand, room)
    threads = running - cores
    paired = 1.0
    if threads > 0.0:
        paired = running / max(running - (1.0 - given.figures[SMT]) * threads, NO_CPU)
    turns = max(demand / room, 1.0)
    elsewhere = paired + given.figures[DISPLACED] * (1.0 - 1.0 / turns)
    return float(given.pools[FULL, q, 0] * paired * turns + (1.0 - given.pools[FULL, q, 0]) * elsewhere)


@part
def pressed(figures: Floats, utilisation: float) -> float:
    """`performance.curves.pressure` of one utilisation."""
    below = min(utilisation, 1.0)
    square = below * below
    sixth = square * square * square
    twelfth = sixth * sixth
    loaded = figures[LINEAR] * below + figures[BEND] * sixth + figures[QUEUE] * (twelfth * twelfth)
    return float((1.0 + loaded) * max(utilisation, 1.0) - 1.0)


@part
def _falls(given: Given, state: State, g: int, c: int) -> int:
    """Let the memory of a guest fall on its set, as `memory.spread_whole`: MiB that find no room."""
    begin, end = given.candidate[AT, c], given.candidate[AT, c + 1]
    left, still = given.guest[NEED, g], end - begin
    for e in range(begin, end):
        state.mib[g, given.node[e]] = -1
    while still > 0:
        each, extra = left // still, left % still
        full, position = 0, 0
        for e in range(begin, end):
            n = given.node[e]
            if state.mib[g, n] < 0 and state.memory[ROOM, n] <= each:
                state.mib[g, n] = state.memory[ROOM, n]
                left -= state.memory[ROOM, n]
                full += 1
        still -= full
        if full == 0:
            for e in range(begin, end):
                n = given.node[e]
                if state.mib[g, n] < 0:
                    state.mib[g, n] = each + (1 if position < extra else 0)
                    position += 1
            left, still = 0, 0
    for e in range(begin, end):
        state.memory[ROOM, given.node[e]] -= state.mib[g, given.node[e]]
    return int(left)


@part
def _lies(given: Given, state: State, g: int, row: int) -> int:
    """Memory that is where it is: MiB that find no room there."""
    short = 0
    for n in range(len(given.available)):
        wanted = given.memory[row, n]
        state.mib[g, n] = min(wanted, state.memory[ROOM, n])
        state.memory[ROOM, n] -= state.mib[g, n]
        short += wanted - state.mib[g, n]
    return short


@part
def _settled(given: Given, state: State) -> int:
    """The memory of all guests: of those that stay first, then as it falls in turn. MiB that find no room."""
    short = 0
    for n in range(len(given.available)):
        state.memory[ROOM, n] = given.available[n]
    for there in (1, 0):
        for i in range(len(given.busy)):
            g = given.guest[TURN, i]
            c = state.chosen[g]
            if c < 0 or given.candidate[THERE, c] != there:
                continue
            for n in range(len(given.available)):
                state.mib[g, n] = 0
            if given.candidate[FIXED, c] >= 0:
                short += _lies(given, state, g, given.candidate[FIXED, c])
            else:
                short += _falls(given, state, g, c)
    for n in range(len(given.available)):
        state.memory[USED, n] = given.available[n] - state.memory[ROOM, n]
    return short


@part
def add(given: Given, state: State, g: int, c: int, sign: float) -> float:
    """Add a guest, with its memory as `state.mib` says, to the sums, or take it out. What it costs wherever the others
    are."""
    q, busy = given.guest[POOL, g], given.busy[g]
    whole = 0
    for e in range(given.candidate[AT, c], given.candidate[AT, c + 1]):
        whole += state.mib[g, given.node[e]]
    whole = max(whole, 1)
    bound, traffic = given.figures[BOUND], given.figures[TRAFFIC]
    own = given.costs[FREE, c]
    for f in range(given.candidate[AT, c], given.candidate[AT, c + 1]):
        m = given.node[f]
        part = state.mib[g, m] / whole
        own += part / 2.0 * given.pull[g, m]
        for e in range(given.candidate[AT, c], given.candidate[AT, c + 1]):
            n = given.node[e]
            pair = given.share[e] * part
            felt = bound * pair * given.ways[RELATIVE, n, m]
            own += felt
            state.ways[FELT, n, m] += sign * felt
            state.nodes[FELT_COLUMN, m] += sign * felt
            state.ways[MOVED, n, m] += sign * traffic * busy * pair
            state.nodes[COLUMN, m] += sign * traffic * busy * pair
    for e in range(given.candidate[AT, c], given.candidate[AT, c + 1]):
        n, share = given.node[e], given.share[e]
        state.sums[DEMAND, q, n] += sign * busy * share
        state.sums[WEIGHT, q, n] += sign * share
        state.sums[ALONE, q, n] += sign * busy * share * share
        state.shares[g, n] = share if sign > 0.0 else 0.0
    return float(own)


@part
def refreshed(given: Given, state: State, g: int, c: int) -> None:
    """Work out anew what follows from the sums, on the nodes of a candidate of a guest."""
    q = given.guest[POOL, g]
    for f in range(given.candidate[AT, c], given.candidate[AT, c + 1]):
        m = given.node[f]
        state.sums[SHARED, q, m] = sharing(given, q, m, state.sums[DEMAND, q, m])
        state.nodes[CONTROLLER, m] = pressed(given.figures, max(state.nodes[COLUMN, m], 0.0) / given.ways[PEAK, m, m])
        for e in range(given.candidate[AT, c], given.candidate[AT, c + 1]):
            n = given.node[e]
            if n != m:
                state.ways[LINK, n, m] = pressed(
                    given.figures, max(state.ways[MOVED, n, m], 0.0) / given.ways[PEAK, n, m]
                )


@part
def pair_cost(given: Given, i: int, mine: Floats, theirs: Floats) -> float:
    """What a pair of guests costs by its group, with the shares of both."""
    cost = 0.0
    nodes = len(mine)
    if given.ties[NEAR, i] > 0.0:
        for n in range(nodes):
            if mine[n] > 0.0:
                for m in range(nodes):
                    cost += given.ties[NEAR, i] * mine[n] * given.ways[REMOTE, n, m] * theirs[m]
    if given.pair[WISH, i] > 0:
        ours, others = 0.0, 0.0
        for n in range(nodes):
            if mine[n] > 0.0 and theirs[n] > 0.0:
                ours += mine[n]
                others += theirs[n]
        if given.pair[WISH, i] == APART:
            cost += given.ties[MISSED, i] * max(ours, others)
        if given.pair[WISH, i] == TOGETHER:
            cost += given.ties[MISSED, i] * max(1.0 - min(ours, others), 0.0)
    return cost


@part
def _ties(given: Given, state: State) -> float:
    """What all pairs of guests cost by their groups."""
    cost = 0.0
    for g in range(len(given.busy)):
        for i in range(given.guest[PAIRS, g], given.guest[PAIRS, g + 1]):
            h = given.pair[PEER, i]
            if g < h and state.chosen[g] >= 0 and state.chosen[h] >= 0:
                cost += pair_cost(given, i, state.shares[g], state.shares[h])
    return cost


@part
def _cleared(given: Given, state: State) -> None:
    """Only those that do not move."""
    pools, nodes = given.pools.shape[1], given.pools.shape[2]
    for q in range(pools):
        for n in range(nodes):
            state.sums[DEMAND, q, n] = given.pools[DEMAND_THERE, q, n]
            state.sums[WEIGHT, q, n] = given.pools[WEIGHT_THERE, q, n]
            state.sums[ALONE, q, n] = given.pools[ALONE_THERE, q, n]
    for m in range(nodes):
        state.nodes[COLUMN, m], state.nodes[FELT_COLUMN, m] = 0.0, 0.0
        for n in range(nodes):
            state.ways[MOVED, n, m] = given.ways[TRAFFIC_THERE, n, m]
            state.ways[FELT, n, m] = given.ways[FELT_THERE, n, m]
            state.nodes[COLUMN, m] += given.ways[TRAFFIC_THERE, n, m]
            state.nodes[FELT_COLUMN, m] += given.ways[FELT_THERE, n, m]


@part
def rebuilt(given: Given, state: State) -> float:
    """Work out everything from the choices: the objective, with what is short."""
    _cleared(given, state)
    short = _settled(given, state)
    value = given.figures[CONSTANT]
    pools, nodes = given.pools.shape[1], given.pools.shape[2]
    for g in range(len(given.busy)):
        for n in range(nodes):
            state.shares[g, n] = 0.0
        if state.chosen[g] >= 0:
            value += add(given, state, g, state.chosen[g], 1.0)
    for q in range(pools):
        for n in range(nodes):
            state.sums[SHARED, q, n] = sharing(given, q, n, state.sums[DEMAND, q, n])
            crowd = (state.sums[WEIGHT, q, n] * state.sums[DEMAND, q, n] - state.sums[ALONE, q, n]) / max(
                given.pools[PCPUS, q, n], 1.0
            )
            value += state.sums[WEIGHT, q, n] * (state.sums[SHARED, q, n] - 1.0) + given.figures[COMPANY] * crowd
    for m in range(nodes):
        state.nodes[CONTROLLER, m] = pressed(given.figures, state.nodes[COLUMN, m] / given.ways[PEAK, m, m])
        value += state.nodes[FELT_COLUMN, m] * state.nodes[CONTROLLER, m]
        for n in range(nodes):
            if n != m:
                state.ways[LINK, n, m] = pressed(given.figures, state.ways[MOVED, n, m] / given.ways[PEAK, n, m])
                value += state.ways[FELT, n, m] * state.ways[LINK, n, m]
    state.value[0] = value + _ties(given, state) + SHORTAGE * short
    state.value[1] = short
    return float(state.value[0])


@maker
def new_state(given: Given) -> State:
    """Room for a state; nobody is placed, and nothing worked out."""
    guests, pools, nodes = len(given.busy), given.pools.shape[1], given.pools.shape[2]
    chosen: Integers = np.full(guests, -1, dtype=np.int64)
    return State(
        chosen,
        np.zeros((guests, nodes), dtype=np.int64),
        np.zeros((guests, nodes)),
        np.zeros((4, pools, nodes)),
        np.zeros((3, nodes, nodes)),
        np.zeros((4, nodes)),
        np.zeros((2, nodes), dtype=np.int64),
        np.zeros(2),
    )
