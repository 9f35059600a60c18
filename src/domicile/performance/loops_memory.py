"""Compiled loops of `evaluate`: latency under load and bandwidth, which depend on each other."""

from __future__ import annotations

import numpy as np

from domicile.local.compiled import maker, part, swift
from domicile.performance.arrays import Domains, Outcome, Place, System, Work
from domicile.performance.curves import Floats
from domicile.performance.loops_before import LEAST, charge, clear, clear_rows
from domicile.performance.waiting import Flows, queue_up

__all__ = ["agree", "alone", "overfull", "wait_where_full"]

MOST_ROUNDS = 40
CLOSE_ENOUGH = 5e-4
NEWTON_STEPS = 4
"""Within one piece of a curve, whose rise changes little there: each step doubles the digits."""
LONGEST_STEP = 0.4
"""Of utilisation."""
LEAST_STRETCH = 0.05
"""Work cannot get faster than to take this share of its time, whatever the parameters say."""


@part
def _added(table: Floats, u: float) -> float:
    """A curve at a utilisation."""
    cells = len(table) - 1
    x = min(max(u, 0.0), 1.0) * cells
    i = min(int(x), cells - 1)
    return float(table[i] + (table[i + 1] - table[i]) * (x - i))


@part
def _slope(table: Floats, u: float) -> float:
    """How fast a curve rises there; not at all at its end."""
    cells = len(table) - 1
    i = int(u * cells)
    return 0.0 if i >= cells else float((table[i + 1] - table[i]) * cells)


@part
def _stretch(bound: float, latency_ratio: float) -> float:
    """What work stretches by when memory latency is this many times the best."""
    return max(1.0 + bound * (latency_ratio - 1.0), LEAST_STRETCH)


@part
def alone(system: System, domains: Domains, work: Work) -> None:
    """What work stretches by that is alone on the reference node: its own traffic makes memory slower."""
    n = system.reference
    table, local = system.added[n], system.latency[n, n] / system.best_ns
    cores = 0.0
    for q in range(len(system.cores)):
        cores += system.cores[q, n]
    for d in range(len(domains.demand)):
        use = domains.read[d] * system.read_use[n, n, 0] + (1.0 - domains.read[d]) * system.write_use[n, n, 0]
        most = min(domains.demand[d], cores) * domains.traffic[d] * use / system.peak[n]
        bound = domains.bound[d]
        u = _alone(table, bound, local, most)
        work.alone[d] = max(_stretch(bound, (1.0 + _added(table, u)) * local), most)


@part
def _alone(table: Floats, bound: float, local: float, most: float) -> float:
    """The utilisation at which a domain alone, which would need `most` if nothing slowed it, has u * stretch(u) = most.

    The curve is made of straight pieces: find the one by halving; on it that is a quadratic equation, whose left side
    rises and bends upwards, so that Newton's steps from its end come down to the root.
    """
    cells = len(table) - 1
    if most >= _stretch(bound, (1.0 + table[cells]) * local):
        return 1.0
    low, high = 0, cells
    while high - low > 1:
        middle = (low + high) // 2
        if most > middle / cells * _stretch(bound, (1.0 + table[middle]) * local):
            low = middle
        else:
            high = middle
    stretch = _stretch(bound, (1.0 + table[low]) * local)
    rise = _stretch(bound, (1.0 + table[high]) * local) - stretch
    x, wanted = 1.0, most * cells
    for _ in range(NEWTON_STEPS):
        x -= ((low + x) * (stretch + rise * x) - wanted) / (stretch + rise * (low + 2.0 * x))
    return (low + x) / cells


@part
def agree(system: System, domains: Domains, place: Place, work: Work, flows: int) -> None:
    """Find the utilisations at which latency and traffic agree.

    Newton's step for each, taken as if all moved together; shorter for one that has gone back and forth. Where even the
    peak's latency leaves too much traffic, utilisation stays at 1, and the rest is for `wait_where_full`.
    """
    for r in range(len(work.u)):
        work.u[r], work.gain[r], work.last[r] = 0.0, 0.8, 0.0
    for _ in range(MOST_ROUNDS):
        _latencies(system, work)
        _traffic(system, domains, place, work, flows)
        _as_devices_do(work)
        charge(system, work, work.load)
        _giving_way(system, work)
        if _step(system, work) < CLOSE_ENOUGH:
            break


@part
def _as_devices_do(work: Work) -> None:
    """The load of devices: what domains come on top of."""
    for r in range(len(work.load)):
        work.load[r] = work.dma[r]


@part
def _latencies(system: System, work: Work) -> None:
    """Latency from n to m under load: idle, plus the controller's, plus that of the busiest link on the way."""
    nodes, _, hops = system.step.shape
    for m in range(nodes):
        controller = system.near[m] * _added(system.added[m], work.u[m])
        work.steep[m] = system.near[m] * _slope(system.added[m], work.u[m])
        for n in range(nodes):
            most, busiest = 0.0, -1
            for h in range(1, hops):
                r = system.step[n, m, h]
                if r < 0:
                    break
                grown = _added(system.added[r], work.u[r])
                if grown > most:
                    most, busiest = grown, r
            work.busiest[n, m] = busiest
            work.way[n, m] = system.latency[n, m] * (1.0 + most) + controller


@swift
def _traffic(system: System, domains: Domains, place: Place, work: Work, flows: int) -> None:
    """Traffic between nodes at the latencies that there are now. Over all nodes, memory there or not: plain loops over
    neighbouring figures are faster than lists of those that are not 0."""
    nodes = len(work.way)
    per_best = 1.0 / system.best_ns
    clear_rows(work.reads)
    clear_rows(work.writes)
    clear_rows(work.gives)
    for f in range(flows):
        d, n = work.flow[f]
        memory, way = place.memory[d], work.way[n]
        mean = 0.0
        for m in range(nodes):
            mean += memory[m] * way[m]
        work.mean_ns[f] = mean
        misses = work.misses[d, n]
        bound = domains.bound[d] if mean > 0.0 else 0.0
        stretch = _stretch(bound, misses * mean * per_best) + work.devices[d] + work.messages[d]
        work.stretch[f] = stretch
        speed = 1.0 / stretch
        total = work.amount[f] * speed
        read, written = total * domains.read[d], total * (1.0 - domains.read[d])
        yields = total * bound * misses * speed * per_best  # as if all of its latency rose by as much
        reads, writes, gives = work.reads[n], work.writes[n], work.gives[n]
        for m in range(nodes):
            reads[m] += read * memory[m]
            writes[m] += written * memory[m]
            gives[m] += yields * memory[m]


@part
def _giving_way(system: System, work: Work) -> None:
    """How much of each resource's traffic gives way when its own utilisation rises."""
    nodes = len(work.steep)
    clear(work.give)
    for n in range(nodes):
        for m in range(nodes):
            if work.gives[n, m] > 0.0:
                work.give[m] += work.gives[n, m] * work.steep[m]
                r = work.busiest[n, m]
                if r >= 0:
                    work.give[r] += work.gives[n, m] * system.latency[n, m] * _slope(system.added[r], work.u[r])


@part
def _step(system: System, work: Work) -> float:
    """Move every utilisation towards agreement; returns how far off the furthest was."""
    furthest = 0.0
    for r in range(len(work.u)):
        wanted = work.load[r] / system.peak[r]
        off = min(wanted, 1.0) - work.u[r]
        furthest = max(furthest, abs(off))
        if off * work.last[r] < 0.0:
            work.gain[r] *= 0.5
        else:
            work.gain[r] = min(work.gain[r] * 1.25, 1.5)
        work.last[r] = off
        step = work.gain[r] * (wanted - work.u[r]) / (1.0 + work.give[r] / system.peak[r])
        work.u[r] = min(max(work.u[r] + min(max(step, -LONGEST_STEP), LONGEST_STEP), 0.0), 1.0)
    return furthest


@part
def overfull(system: System, work: Work) -> bool:
    """Whether more is wanted than can be carried."""
    for r in range(len(system.peak)):  # noqa: SIM110 (Numba compiles no generators)
        if work.load[r] > system.peak[r] * 1.001:
            return True
    return False


@maker
def wait_where_full(system: System, domains: Domains, place: Place, out: Outcome, work: Work, flows: int) -> None:
    """Where more is wanted than can be carried, whoever uses that waits for it."""
    hops = system.step.shape[2]
    size = 0
    for f in range(flows):
        d = work.flow[f, 0]
        size += (work.first[d + 1] - work.first[d]) * hops
    wish = Flows(
        np.zeros(flows + 1, dtype=np.int64),
        np.zeros(size, dtype=np.int64),
        np.zeros(size),
        np.zeros(flows),
        np.zeros(flows),
    )
    got = np.zeros(flows)
    size = 0
    for f in range(flows):
        d, n = work.flow[f]
        for i in range(work.first[d], work.first[d + 1]):
            size = _entries(system, domains, place, work, wish, f, work.at[i], size)
        wish.start[f + 1] = size
        wish.weight[f] = out.running[d, n]
        if work.first[d + 1] > work.first[d]:
            wish.demand[f] = work.amount[f] / work.stretch[f]
    queue_up(wish, np.maximum(system.peak - work.dma, 0.05 * system.peak), got)
    _as_devices_do(work)
    for f in range(flows):
        if wish.demand[f] > 0.0:
            work.stretch[f] *= wish.demand[f] / max(got[f], LEAST)
            for i in range(wish.start[f], wish.start[f + 1]):
                work.load[wish.resource[i]] += got[f] * wish.use[i]


@part
def _entries(system: System, domains: Domains, place: Place, work: Work, wish: Flows, f: int, m: int, size: int) -> int:
    """What a flow takes of the resources on the way to one node's memory; returns where the next entry goes."""
    d, n = work.flow[f]
    for h in range(system.step.shape[2]):
        r = system.step[n, m, h]
        if r < 0:
            break
        use = domains.read[d] * system.read_use[n, m, h] + (1.0 - domains.read[d]) * system.write_use[n, m, h]
        wish.resource[size] = r
        wish.use[size] = place.memory[d, m] * use
        size += 1
    return size
