"""Compiled: what a guest adds to the sum of the slowdowns on a host, for one set of nodes.

The same sums as `performance.field.Field.try_sets` takes, for one candidate at a time; tests hold the two together.
"""

from __future__ import annotations

import math

from domicile.local.compiled import inlined, part
from domicile.policies.pool.arrays import Constants, Hosts, Kinds, Work

__all__ = ["cpu_cost", "crowding", "least_rate", "look", "memory_cost", "sharing"]

NO_CPU = 1e-6


@inlined
def sharing(demand: float, cores: float, pcpus: float, fullness: float, c: Constants) -> float:
    """`performance.curves.sharing` of one node."""
    have, room = max(cores, NO_CPU), max(pcpus, NO_CPU)
    running = min(demand, room)
    threads = max(running - have, 0.0)
    paired = 1.0
    if threads > 0.0:
        paired = running / max(running - (1.0 - c.smt_yield) * threads, NO_CPU)
    turns = max(demand / room, 1.0)
    return fullness * paired * turns + (1.0 - fullness) * (paired + c.displaced * (1.0 - 1.0 / turns))


@inlined
def crowding(wanted: float, c: Constants) -> float:
    """`performance.curves.crowding` of one controller or link."""
    slowed = 1.0 + c.bound * c.linear * wanted
    slowed *= slowed
    slowed *= slowed
    slowed *= slowed
    full = wanted * wanted
    full *= full
    full *= full
    return (math.sqrt(math.sqrt(math.sqrt(slowed + full))) - 1.0) / c.bound


@part
def look(kinds: Kinds, hosts: Hosts, c: Constants, h: int, demand: float, work: Work) -> tuple[float, float]:
    """Work out what all sets of this host have in common. Returns how full its pCPUs are once the guest has come, and
    what that alone costs everybody who is there."""
    k = hosts.kind[h]
    nodes, at, by_kind, pairs = kinds.nodes[k], hosts.node_at[h], kinds.node_at[k], hosts.pair_at[h]
    busy = pcpus = 0.0
    for n in range(nodes):
        busy += hosts.demand[at + n]
        pcpus += kinds.pcpus[by_kind + n]
    before, after = min(busy / max(pcpus, 1.0), 1.0), min((busy + demand) / max(pcpus, 1.0), 1.0)
    everywhere = 0.0
    for n in range(nodes):
        cores, threads, wants = kinds.cores[by_kind + n], kinds.pcpus[by_kind + n], hosts.demand[at + n]
        work.then[n] = sharing(wants, cores, threads, after, c)
        if hosts.weight[at + n] > 0.0:
            everywhere += hosts.weight[at + n] * (work.then[n] - sharing(wants, cores, threads, before, c))
        work.traffic_to[n] = 0.0
        work.felt_to[n] = 0.0
    for n in range(nodes):
        for m in range(nodes):
            work.traffic_to[m] += hosts.traffic[pairs + n * nodes + m]
            work.felt_to[m] += hosts.felt[pairs + n * nodes + m]
    for m in range(nodes):
        work.controller[m] = crowding(work.traffic_to[m] / kinds.peak[kinds.pair_at[k] + m * nodes + m], c)
    return after, everywhere


@part
def cpu_cost(
    kinds: Kinds, hosts: Hosts, c: Constants, h: int, s: int, demand: float, fullness: float, work: Work
) -> float:
    """What CPU load costs the guest and those on the nodes of set s."""
    at, by_kind = hosts.node_at[h], kinds.node_at[hosts.kind[h]]
    total = 0.0
    for i in range(kinds.member_at[s], kinds.member_at[s + 1]):
        n, share = kinds.member[i], kinds.share[i]
        before, pcpus = hosts.demand[at + n], kinds.pcpus[by_kind + n]
        after = sharing(before + demand * share, kinds.cores[by_kind + n], pcpus, fullness, c)
        crowd = c.company / max(pcpus, 1.0)
        total += share * (after - 1.0 + crowd * before)
        total += hosts.weight[at + n] * (after - work.then[n] + crowd * demand * share)
    return total


@part
def memory_cost(kinds: Kinds, hosts: Hosts, c: Constants, h: int, s: int, demand: float, work: Work) -> float:
    """What latency and bandwidth cost the guest and everybody, with memory as `work.memory` says; the pressure that it
    would cause alone is not taken off yet."""
    k = hosts.kind[h]
    nodes, pairs, by_kind = kinds.nodes[k], hosts.pair_at[h], kinds.pair_at[k]
    first, last = kinds.member_at[s], kinds.member_at[s + 1]
    own = others = 0.0
    for j in range(first, last):
        m, held = kinds.member[j], work.memory[j - first]
        if held <= 0.0:
            continue
        added = c.traffic_gbs * demand * held
        controller = crowding((work.traffic_to[m] + added) / kinds.peak[by_kind + m * nodes + m], c)
        others += work.felt_to[m] * (controller - work.controller[m])
        for i in range(first, last):
            n, share = kinds.member[i], kinds.share[i]
            slower = controller
            pair = n * nodes + m
            if n != m:
                traffic, peak = hosts.traffic[pairs + pair], kinds.peak[by_kind + pair]
                link = crowding((traffic + added * share) / peak, c)
                slower += link
                if hosts.felt[pairs + pair] > 0.0:
                    others += hosts.felt[pairs + pair] * (link - crowding(traffic / peak, c))
            own += share * held * kinds.relative[by_kind + pair] * (1.0 + slower)
    return c.memory_bound * (own - 1.0) + others


@part
def least_rate(kinds: Kinds, hosts: Hosts, c: Constants, h: int, s: int, work: Work) -> float:
    """What a share of memory adds to the guest's latency (over the best) at least, wherever on the nodes of set s:
    that of the best of them, under the load that there is before the guest has come."""
    k = hosts.kind[h]
    nodes, pairs, by_kind = kinds.nodes[k], hosts.pair_at[h], kinds.pair_at[k]
    first, last = kinds.member_at[s], kinds.member_at[s + 1]
    least = 1e300
    for j in range(first, last):
        m = kinds.member[j]
        own = 0.0
        for i in range(first, last):
            n = kinds.member[i]
            pair = n * nodes + m
            slower = work.controller[m]
            if n != m:
                slower += crowding(hosts.traffic[pairs + pair] / kinds.peak[by_kind + pair], c)
            own += kinds.share[i] * kinds.relative[by_kind + pair] * (1.0 + slower)
        least = min(least, own)
    return least
