"""The compiled loop of `evaluate` over its candidates."""

from __future__ import annotations

import numpy as np

from domicile.local.compiled import entrance, maker, part, swift
from domicile.performance.arrays import (
    BANDWIDTH,
    CACHE,
    CPU,
    DEVICES,
    DISTANCE,
    FIGURES,
    LATENCY_NS,
    LOAD,
    PEERS,
    RATE,
    SLOWDOWN,
    SMT,
    TERMS,
    Domains,
    Given,
    Outcome,
    Outcomes,
    Place,
    System,
    Work,
)
from domicile.performance.curves import Floats
from domicile.performance.loops_before import LEAST, caches, devices, lists, messages, run, siblings
from domicile.performance.loops_memory import agree, alone, overfull, wait_where_full

__all__ = ["evaluate_all"]


@swift
def _mean(shares: Floats, values: Floats) -> float:
    """The mean of a figure by node, by share."""
    total = 0.0
    for n in range(len(shares)):
        total += shares[n] * values[n]
    return total


@part
def _by_flow(system: System, domains: Domains, place: Place, out: Outcome, work: Work, flows: int) -> None:
    """What each domain's work stretches by, term by term, its nodes weighted by the work done there."""
    for d in range(len(domains.demand)):
        for row in range(FIGURES):
            out.figures[row, d] = 0.0
    for f in range(flows):
        d, n = work.flow[f]
        # what it asked for is settled: from here on it is what it gets done
        work.amount[f] = out.running[d, n] * work.speed[d, n] / work.stretch[f]
        out.figures[RATE, d] += work.amount[f]
    per_best = 1.0 / system.best_ns
    for f in range(flows):
        d, n = work.flow[f]
        done = work.amount[f]
        part = done / max(out.figures[RATE, d], LEAST)
        distance, cached = 0.0, 0.0
        if work.first[d + 1] > work.first[d]:
            idle = _mean(place.memory[d], system.latency[n]) * per_best
            out.figures[BANDWIDTH, d] += done * domains.traffic[d] * work.misses[d, n]
            distance = domains.bound[d] * (idle - 1.0)
            cached = domains.bound[d] * (work.misses[d, n] - 1.0) * idle
        out.figures[LATENCY_NS, d] += part * work.mean_ns[f]
        out.figures[DISTANCE, d] += part * distance
        out.figures[CACHE, d] += part * cached
        rest = work.stretch[f] - 1.0 - distance - cached - work.devices[d] - work.messages[d]
        out.figures[LOAD, d] += part * rest


@part
def _by_domain(system: System, domains: Domains, out: Outcome, work: Work) -> None:
    """Terms of the slowdown: 1 and all of them multiply out to waiting x sharing a core x stretch / stretch alone."""
    for r in range(len(system.peak)):
        out.utilisation[r] = work.load[r] / system.peak[r]
    for d in range(len(domains.demand)):
        out.figures[SLOWDOWN, d] = 1.0
        if domains.demand[d] <= 0.0:
            for term in range(TERMS):
                out.figures[term, d] = 0.0
            continue
        time, worth = 0.0, 0.0
        for n in range(out.running.shape[1]):
            time += out.running[d, n]
            worth += out.running[d, n] * work.speed[d, n]
        waiting = domains.demand[d] / max(time, LEAST)
        paired = time / worth if worth > 0.0 else 1.0
        if time > 0.0:
            out.figures[LOAD, d] -= work.alone[d] - 1.0
            out.figures[DEVICES, d] = work.devices[d]
            out.figures[PEERS, d] = work.messages[d]
            for term in range(DISTANCE, TERMS):
                out.figures[term, d] *= waiting * paired / work.alone[d]
        out.figures[CPU, d] = waiting - 1.0
        out.figures[SMT, d] = waiting * (paired - 1.0)
        terms = 0.0
        for term in range(TERMS):
            terms += out.figures[term, d]
        out.figures[SLOWDOWN, d] += terms


@part
def _fine(values: Floats) -> bool:
    """Whether all are finite and not negative."""
    for value in values.flat:  # noqa: SIM110 (Numba compiles no generators)
        if not 0.0 <= value < np.inf:
            return False
    return True


@part
def _usable(system: System, given: Given, places: Place) -> bool:
    """Whether the loops can do without looking at bounds; an infinite cap is one."""
    for pool in given.pool:
        if not 0 <= pool < len(system.pcpus):
            return False
    for peer in given.peers.flat:
        if not 0 <= peer < len(given.pool):
            return False
    for cap in given.figures[7]:
        if not cap >= 0.0:
            return False
    return (
        _fine(given.figures[:7])
        and _fine(given.dma)
        and _fine(given.messages)
        and _fine(places.want)
        and _fine(places.memory)
        and _fine(places.buffers)
    )


@maker
def _room(domains: int, nodes: int, resources: int) -> Work:
    """Room for so many."""
    return Work(
        np.zeros(domains),
        np.zeros((domains, nodes)),
        np.zeros((domains, nodes)),
        np.zeros(domains),
        np.zeros(domains),
        np.zeros(resources),
        np.zeros((nodes, nodes)),
        np.zeros((nodes, nodes)),
        np.zeros((nodes, nodes)),
        np.zeros((nodes, nodes), dtype=np.int64),
        np.zeros(nodes),
        np.zeros((nodes, nodes)),
        np.zeros(resources),
        np.zeros(resources),
        np.zeros(resources),
        np.zeros(resources),
        np.zeros(resources),
        np.zeros((domains * nodes, 2), dtype=np.int64),
        np.zeros(domains * nodes),
        np.zeros(domains * nodes),
        np.zeros(domains * nodes),
        np.zeros(domains + 1, dtype=np.int64),
        np.zeros(domains * nodes, dtype=np.int64),
        np.zeros(domains, dtype=np.bool_),
    )


@entrance
def evaluate_all(system: System, given: Given, places: Place, outs: Outcomes) -> bool:
    """Evaluate B candidates. The arrays of the place have B or 1 in front. False, and nothing done, if a figure is
    negative or not finite, or an index out of range."""
    if not _usable(system, given, places):
        return False
    g = given.figures
    domains = Domains(
        g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7], given.pool, given.dma, given.peers, given.messages
    )
    work = _room(len(given.pool), len(system.latency), len(system.peak))
    alone(system, domains, work)
    for b in range(len(outs.running)):
        place = Place(
            places.want[min(b, len(places.want) - 1)],
            places.memory[min(b, len(places.memory) - 1)],
            places.buffers[min(b, len(places.buffers) - 1)],
        )
        out = Outcome(
            outs.running[b],
            outs.figures[:, b],
            outs.utilisation[b],
        )
        run(system, domains, place, out, work)
        siblings(system, domains, out, work)
        caches(system, domains, out, work)
        devices(system, domains, place, out, work)
        messages(system, domains, out, work)
        flows = lists(domains, place, out, work)
        agree(system, domains, place, work, flows)
        if overfull(system, work):
            wait_where_full(system, domains, place, out, work, flows)
        _by_flow(system, domains, place, out, work, flows)
        _by_domain(system, domains, out, work)
    return True
