"""The objective of a whole layout, compiled: `performance.field` and `Layout.group_costs` over again, from the choices
alone. Tests hold them together."""

from __future__ import annotations

from domicile.local.compiled import melted, part
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
    State,
)

__all__ = ["add", "pair_cost", "pressed", "rebuilt", "refreshed", "sharing"]

NO_CPU = 1e-6
"""As in `performance.curves`."""


@part
def sharing(given: Given, q: int, n: int, demand: float) -> float:
    """`performance.curves.sharing` of one demand."""
    figures, pools = given.figures, given.pools
    cores, room = max(pools[CORES, q, n], NO_CPU), max(pools[PCPUS, q, n], NO_CPU)
    running = min(demand, room)
    threads = running - cores
    paired = 1.0
    if threads > 0.0:
        paired = running / max(running - (1.0 - figures[SMT]) * threads, NO_CPU)
    turns = max(demand / room, 1.0)
    elsewhere = paired + figures[DISPLACED] * (1.0 - 1.0 / turns)
    return float(pools[FULL, q, 0] * paired * turns + (1.0 - pools[FULL, q, 0]) * elsewhere)


@part
def pressed(figures: Floats, utilisation: float) -> float:
    """`performance.curves.pressure` of one utilisation."""
    below = min(utilisation, 1.0)
    square = below * below
    sixth = square * square * square
    twelfth = sixth * sixth
    loaded = figures[LINEAR] * below + figures[BEND] * sixth + figures[QUEUE] * (twelfth * twelfth)
    return float((1.0 + loaded) * max(utilisation, 1.0) - 1.0)


@melted
def _falls(given: Given, state: State, g: int, c: int) -> int:
    """Let the memory of a guest fall on its set, as `memory.spread_whole`: MiB that find no room."""
    candidate, node = given.candidate, given.node
    mib, room = state.mib, state.memory
    begin, end = candidate[AT, c], candidate[AT, c + 1]
    left, still = given.guest[NEED, g], end - begin
    for e in range(begin, end):
        mib[g, node[e]] = -1
    while still > 0:
        each, extra = left // still, left % still
        full, position = 0, 0
        for e in range(begin, end):
            n = node[e]
            if mib[g, n] < 0 and room[ROOM, n] <= each:
                mib[g, n] = room[ROOM, n]
                left -= room[ROOM, n]
                full += 1
        still -= full
        if full == 0:
            for e in range(begin, end):
                n = node[e]
                if mib[g, n] < 0:
                    mib[g, n] = each + (1 if position < extra else 0)
                    position += 1
            left, still = 0, 0
    for e in range(begin, end):
        room[ROOM, node[e]] -= mib[g, node[e]]
    return int(left)


@melted
def _lies(given: Given, state: State, g: int, row: int) -> int:
    """Memory that is where it is: MiB that find no room there."""
    mib, room = state.mib, state.memory
    short = 0
    for n in range(len(given.available)):
        wanted = given.memory[row, n]
        mib[g, n] = min(wanted, room[ROOM, n])
        room[ROOM, n] -= mib[g, n]
        short += wanted - mib[g, n]
    return short


@melted
def _settled(given: Given, state: State) -> int:
    """The memory of all guests: of those that stay first, then as it falls in turn. MiB that find no room."""
    available, candidate = given.available, given.candidate
    room = state.memory
    short = 0
    for n in range(len(available)):
        room[ROOM, n] = available[n]
    for there in (1, 0):
        for i in range(len(given.busy)):
            g = given.guest[TURN, i]
            c = state.chosen[g]
            if c < 0 or candidate[THERE, c] != there:
                continue
            for n in range(len(available)):
                state.mib[g, n] = 0
            if candidate[FIXED, c] >= 0:
                short += _lies(given, state, g, candidate[FIXED, c])
            else:
                short += _falls(given, state, g, c)
    for n in range(len(available)):
        room[USED, n] = available[n] - room[ROOM, n]
    return short


@part
def add(given: Given, state: State, g: int, c: int, sign: float) -> float:
    """Add a guest, with its memory as `state.mib` says, to the sums, or take it out. What it costs wherever the others
    are."""
    figures, candidate, node, split = given.figures, given.candidate, given.node, given.share
    mib, sums, flows, loads = state.mib, state.sums, state.ways, state.nodes
    q, busy = given.guest[POOL, g], given.busy[g]
    whole = 0
    for e in range(candidate[AT, c], candidate[AT, c + 1]):
        whole += mib[g, node[e]]
    whole = max(whole, 1)
    bound, traffic = figures[BOUND], figures[TRAFFIC]
    own = given.costs[FREE, c]
    for f in range(candidate[AT, c], candidate[AT, c + 1]):
        m = node[f]
        part = mib[g, m] / whole
        own += part / 2.0 * given.pull[g, m]
        for e in range(candidate[AT, c], candidate[AT, c + 1]):
            n = node[e]
            pair = split[e] * part
            felt = bound * pair * given.ways[RELATIVE, n, m]
            own += felt
            flows[FELT, n, m] += sign * felt
            loads[FELT_COLUMN, m] += sign * felt
            flows[MOVED, n, m] += sign * traffic * busy * pair
            loads[COLUMN, m] += sign * traffic * busy * pair
    for e in range(candidate[AT, c], candidate[AT, c + 1]):
        n, share = node[e], split[e]
        sums[DEMAND, q, n] += sign * busy * share
        sums[WEIGHT, q, n] += sign * share
        sums[ALONE, q, n] += sign * busy * share * share
        state.shares[g, n] = share if sign > 0.0 else 0.0
    return float(own)


@part
def refreshed(given: Given, state: State, g: int, c: int) -> None:
    """Work out anew what follows from the sums, on the nodes of a candidate of a guest."""
    figures, ways, candidate, node = given.figures, given.ways, given.candidate, given.node
    sums, flows, loads = state.sums, state.ways, state.nodes
    q = given.guest[POOL, g]
    for f in range(candidate[AT, c], candidate[AT, c + 1]):
        m = node[f]
        sums[SHARED, q, m] = sharing(given, q, m, sums[DEMAND, q, m])
        loads[CONTROLLER, m] = pressed(figures, max(loads[COLUMN, m], 0.0) / ways[PEAK, m, m])
        for e in range(candidate[AT, c], candidate[AT, c + 1]):
            n = node[e]
            if n != m:
                flows[LINK, n, m] = pressed(figures, max(flows[MOVED, n, m], 0.0) / ways[PEAK, n, m])


@part
def pair_cost(given: Given, i: int, mine: Floats, theirs: Floats) -> float:
    """What a pair of guests costs by its group, with the shares of both."""
    pairs, ties = given.pair, given.ties
    cost = 0.0
    nodes = len(mine)
    if ties[NEAR, i] > 0.0:
        for n in range(nodes):
            if mine[n] > 0.0:
                for m in range(nodes):
                    cost += ties[NEAR, i] * mine[n] * given.ways[REMOTE, n, m] * theirs[m]
    if pairs[WISH, i] > 0:
        ours, others = 0.0, 0.0
        for n in range(nodes):
            if mine[n] > 0.0 and theirs[n] > 0.0:
                ours += mine[n]
                others += theirs[n]
        if pairs[WISH, i] == APART:
            cost += ties[MISSED, i] * max(ours, others)
        if pairs[WISH, i] == TOGETHER:
            cost += ties[MISSED, i] * max(1.0 - min(ours, others), 0.0)
    return cost


@melted
def _ties(given: Given, state: State) -> float:
    """What all pairs of guests cost by their groups."""
    guest = given.guest
    chosen, shares = state.chosen, state.shares
    cost = 0.0
    for g in range(len(given.busy)):
        for i in range(guest[PAIRS, g], guest[PAIRS, g + 1]):
            h = given.pair[PEER, i]
            if g < h and chosen[g] >= 0 and chosen[h] >= 0:
                cost += pair_cost(given, i, shares[g], shares[h])
    return cost


@melted
def _cleared(given: Given, state: State) -> None:
    """Only those that do not move."""
    ways, pools = given.ways, given.pools
    sums, flows, loads = state.sums, state.ways, state.nodes
    count, nodes = pools.shape[1], pools.shape[2]
    for q in range(count):
        for n in range(nodes):
            sums[DEMAND, q, n] = pools[DEMAND_THERE, q, n]
            sums[WEIGHT, q, n] = pools[WEIGHT_THERE, q, n]
            sums[ALONE, q, n] = pools[ALONE_THERE, q, n]
    for m in range(nodes):
        loads[COLUMN, m], loads[FELT_COLUMN, m] = 0.0, 0.0
        for n in range(nodes):
            flows[MOVED, n, m] = ways[TRAFFIC_THERE, n, m]
            flows[FELT, n, m] = ways[FELT_THERE, n, m]
            loads[COLUMN, m] += ways[TRAFFIC_THERE, n, m]
            loads[FELT_COLUMN, m] += ways[FELT_THERE, n, m]


@part
def rebuilt(given: Given, state: State) -> float:
    """Work out everything from the choices: the objective, with what is short."""
    figures, ways, pools = given.figures, given.ways, given.pools
    chosen, sums, flows, loads = state.chosen, state.sums, state.ways, state.nodes
    worth = state.value
    _cleared(given, state)
    short = _settled(given, state)
    value = figures[CONSTANT]
    count, nodes = pools.shape[1], pools.shape[2]
    for g in range(len(given.busy)):
        for n in range(nodes):
            state.shares[g, n] = 0.0
        if chosen[g] >= 0:
            value += add(given, state, g, chosen[g], 1.0)
    for q in range(count):
        for n in range(nodes):
            sums[SHARED, q, n] = sharing(given, q, n, sums[DEMAND, q, n])
            crowd = (sums[WEIGHT, q, n] * sums[DEMAND, q, n] - sums[ALONE, q, n]) / max(pools[PCPUS, q, n], 1.0)
            value += sums[WEIGHT, q, n] * (sums[SHARED, q, n] - 1.0) + figures[COMPANY] * crowd
    for m in range(nodes):
        loads[CONTROLLER, m] = pressed(figures, loads[COLUMN, m] / ways[PEAK, m, m])
        value += loads[FELT_COLUMN, m] * loads[CONTROLLER, m]
        for n in range(nodes):
            if n != m:
                flows[LINK, n, m] = pressed(figures, flows[MOVED, n, m] / ways[PEAK, n, m])
                value += flows[FELT, n, m] * flows[LINK, n, m]
    worth[0] = value + _ties(given, state) + SHORTAGE * short
    worth[1] = short
    return float(worth[0])
