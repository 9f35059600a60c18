"""Compiled loops of `evaluate`: all that does not depend on how loaded the memory is. CPU time, SMT, caches, devices,
messages between domains."""

from __future__ import annotations

from domicile.local.compiled import part
from domicile.performance.arrays import Domains, Outcome, Place, System, Work
from domicile.performance.curves import Floats

__all__ = [
    "LEAST",
    "added_up",
    "caches",
    "charge",
    "clear",
    "clear_rows",
    "devices",
    "lists",
    "messages",
    "run",
    "siblings",
]

LEAST = 1e-9
"""Stands for 0 where something is divided by it."""


@part
def added_up(values: Floats) -> float:
    """The sum of a row."""
    total = 0.0
    for value in values:
        total += value
    return total


@part
def clear(values: Floats) -> None:
    """Set all of a row to 0."""
    for i in range(len(values)):
        values[i] = 0.0


@part
def clear_rows(values: Floats) -> None:
    """Set all of some rows to 0."""
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            values[i, j] = 0.0


@part
def run(system: System, domains: Domains, place: Place, out: Outcome, work: Work) -> None:
    """How much of what is wanted runs: where pCPUs are short they are shared by weight of the vCPUs."""
    count, nodes = place.want.shape
    for d in range(count):
        total = added_up(place.want[d])
        most = domains.cap[d] / total if total > domains.cap[d] else 1.0
        for n in range(nodes):
            out.running[d, n] = place.want[d, n] * most
    for q in range(len(system.pcpus)):
        for n in range(nodes):
            total = 0.0
            for d in range(count):
                if domains.pool[d] == q:
                    total += out.running[d, n]
            if total > system.pcpus[q, n]:
                _take_turns(domains, place, out, work, q, n, system.pcpus[q, n])


@part
def _take_turns(domains: Domains, place: Place, out: Outcome, work: Work, q: int, n: int, pcpus: float) -> None:
    """Share out a node's pCPUs: vCPUs get time in proportion to their weight, but no more than `running` has now."""
    count, waiting = len(domains.weight), work.waiting
    for d in range(count):
        waiting[d] = domains.pool[d] == q and out.running[d, n] > 0.0
    spare, level, content = pcpus, 0.0, True
    while content:
        total = 0.0
        for d in range(count):
            if waiting[d]:
                total += place.want[d, n] * domains.weight[d]
        level = spare / total if total > 0.0 else 0.0
        content = False
        for d in range(count):
            if waiting[d] and level * domains.weight[d] * place.want[d, n] >= out.running[d, n]:
                content = True
                waiting[d] = False
                spare -= out.running[d, n]
    for d in range(count):
        if waiting[d]:
            out.running[d, n] = place.want[d, n] * domains.weight[d] * level


@part
def siblings(system: System, domains: Domains, out: Outcome, work: Work) -> None:
    """Speed of a running vCPU: beyond a busy one for each core, a further one adds `smt_yield` of a core."""
    count, nodes = out.running.shape
    for q in range(len(system.cores)):
        for n in range(nodes):
            busy = 0.0
            for d in range(count):
                if domains.pool[d] == q:
                    busy += out.running[d, n]
            cores, speed = system.cores[q, n], 1.0
            if busy > cores:
                speed = (cores + system.smt_yield * (busy - cores)) / busy
            for d in range(count):
                if domains.pool[d] == q:
                    work.speed[d, n] = speed


@part
def caches(system: System, domains: Domains, out: Outcome, work: Work) -> None:
    """Traffic of a domain over what it would be with the cache to itself: what does not fit is fetched again.

    What a domain would keep is split over its nodes as its vCPUs are; one that hardly runs keeps less.
    """
    count, nodes = out.running.shape
    for d in range(count):
        total = max(added_up(out.running[d]), 1.0)
        for n in range(nodes):
            work.misses[d, n] = domains.cache[d] * out.running[d, n] / total
    for n in range(nodes):
        need = 0.0
        for d in range(count):
            need += work.misses[d, n]
        for d in range(count):
            own = work.misses[d, n]
            work.misses[d, n] = 1.0
            if need > system.llc[n] > 0.0 and own > 0.0:
                work.misses[d, n] = (
                    max(min(own, system.llc[n]) * need / (own * system.llc[n]), 1.0) ** system.cache_power
                )


@part
def devices(system: System, domains: Domains, place: Place, out: Outcome, work: Work) -> None:
    """What the distance of devices costs, and the load that their traffic is."""
    count, nodes = out.running.shape
    clear(work.dma)
    clear_rows(work.reads)
    clear_rows(work.writes)
    some = False
    for d in range(count):
        work.devices[d] = 0.0
        total = added_up(domains.dma[d])
        if total <= 0.0:
            continue
        some = True
        runs = max(added_up(out.running[d]), LEAST)
        for a in range(nodes):
            for n in range(nodes):
                both = 0.5 * domains.dma[d, a] * place.buffers[d, n]
                work.reads[a, n] += both
                work.writes[a, n] += both
                far = _far(system, a, n) / system.best_ns
                apart = 0.5 * (out.running[d, n] / runs + place.buffers[d, n]) * far
                work.devices[d] += domains.device_bound[d] * domains.dma[d, a] / total * apart
    if some:
        charge(system, work, work.dma)


@part
def messages(system: System, domains: Domains, out: Outcome, work: Work) -> None:
    """What talking to domains on other nodes costs, for both."""
    nodes = out.running.shape[1]
    clear(work.messages)
    for p in range(len(domains.peers)):
        one, other = domains.peers[p]
        ones, others = added_up(out.running[one]), added_up(out.running[other])
        if ones <= 0.0 or others <= 0.0:
            continue
        extra = 0.0
        for n in range(nodes):
            if out.running[one, n] > 0.0:
                for m in range(nodes):
                    extra += out.running[one, n] * out.running[other, m] * _far(system, n, m)
        lost = domains.messages[p] * system.message_lines * extra / (ones * others) * 1e-9
        work.messages[one] += lost / max(domains.demand[one], LEAST)
        work.messages[other] += lost / max(domains.demand[other], LEAST)


@part
def _far(system: System, n: int, m: int) -> float:
    """How much longer than local the way between two nodes is, both directions taken together, in ns."""
    if n == m:
        return 0.0
    return max(float(system.latency[n, m] + system.latency[m, n]) / 2.0 - system.best_ns, 0.0)


@part
def charge(system: System, work: Work, load: Floats) -> None:
    """Add the traffic between nodes to the load of the resources on its way."""
    nodes, _, hops = system.step.shape
    for n in range(nodes):
        for m in range(nodes):
            if work.reads[n, m] + work.writes[n, m] > 0.0:
                for h in range(hops):
                    r = system.step[n, m, h]
                    if r < 0:
                        break
                    load[r] += work.reads[n, m] * system.read_use[n, m, h]
                    load[r] += work.writes[n, m] * system.write_use[n, m, h]


@part
def lists(domains: Domains, place: Place, out: Outcome, work: Work) -> int:
    """Who runs where with how much traffic (the number of flows is returned), and where everybody's memory is."""
    count, nodes = place.memory.shape
    flows = 0
    for d in range(count):
        work.first[d + 1] = work.first[d]
        for n in range(nodes):
            if out.running[d, n] > 0.0:
                work.flow[flows, 0], work.flow[flows, 1] = d, n
                work.amount[flows] = out.running[d, n] * work.speed[d, n] * domains.traffic[d] * work.misses[d, n]
                flows += 1
            if place.memory[d, n] > 0.0:
                work.at[work.first[d + 1]] = n
                work.first[d + 1] += 1
    return flows
