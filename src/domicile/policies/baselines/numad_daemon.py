"""numad as a daemon: every 5 to 15 seconds one process at most gets new nodes, and its memory is moved there at once.

Source: numad.c 20150602 (numad 0.5, Bill Gray, Red Hat): `manage_loads`, `pick_numa_nodes` for a process that runs,
`bind_process_and_migrate_memory`. The nodes are chosen as for `numad -w` (`numad.advise`), after what the process has
already was added to what is free: memory 17/16 of it while it has no home, 5/4 of it once it has; CPUs by where its
memory is, or the average of its nodes.

- Candidates use half a CPU and 300 MB at least. Those without a home come first, the largest (CPUs x memory) ahead;
  then the others, the largest ahead, those within 20 % of each other by how long ago they were bound.
- One that was bound, or found where it should be, less than five minutes ago is left alone, unless it is on the node
  with the least CPUs or memory free and both would be more even with it on the node with the most.
- It asks for what it uses, over a utilisation of 85 %, CPUs for no more than its vCPUs. It is where it should be with
  nine tenths of its memory on the nodes chosen.
- Then its threads may run on the nodes' CPUs alone. After a move the next look is 5 s later, else 15 s.

What differs: CPU use is what the caller has seen, memory used is all that a domain has; threads of a machine's cores
are taken to be equally many everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from domicile.policies.baselines.numad import ONE_CPU, NumadNode, advise, cpus_free, cpus_total
from domicile.policies.baselines.rehoming import Rehoming, home_nodes, memory_mib, movable
from domicile.state.model import Domain, Snapshot

__all__ = ["MAX_INTERVAL_S", "MIN_INTERVAL_S", "Round", "manage"]

MIN_INTERVAL_S = 5.0
MAX_INTERVAL_S = 15.0
CPU_THRESHOLD = 50
MEMORY_THRESHOLD_MB = 300
UTILIZATION_PERCENT = 85
LOCALITY_PERCENT = 90
REEVALUATE_S = 300.0


@dataclass(frozen=True, slots=True)
class Round:
    """What a look comes to: the move, if any; when each domain (UUID) was bound last or found in its place; how long
    until the next look."""

    move: Rehoming | None
    bound_at: Mapping[str, float]
    next_s: float


@dataclass(frozen=True, slots=True)
class _Process:
    domain: Domain
    cpus_used: int
    mbs_used: int
    home: tuple[int, ...]
    held_mb: Mapping[int, int]

    @property
    def magnitude(self) -> int:
        return self.cpus_used * self.mbs_used

    @property
    def cpu_request(self) -> int:
        return min(self.cpus_used * 100 // UTILIZATION_PERCENT, len(self.domain.vcpus) * ONE_CPU)

    @property
    def mb_request(self) -> int:
        return self.mbs_used * 100 // UTILIZATION_PERCENT


def manage(snapshot: Snapshot, demand: Mapping[str, float], bound_at: Mapping[str, float]) -> Round:
    """One look. `demand`: CPU time that each domain (UUID) uses, in pCPUs' worth."""
    running = {domain.uuid for domain in snapshot.domains}
    bound = {uuid: time_s for uuid, time_s in bound_at.items() if uuid in running}
    nodes = _nodes(snapshot, demand)
    processes = _candidates(snapshot, demand)
    enough = sum(each.cpus_used for each in processes) <= sum(node.cpus_total for node in nodes.values())
    for each in _in_order(processes, bound):
        uuid, now = each.domain.uuid, snapshot.taken_at
        if uuid in bound and bound[uuid] + REEVALUATE_S > now and not _can_do_better(each, nodes):
            continue
        chosen = _pick(each, nodes, enough)
        away = sum(mb for node, mb in each.held_mb.items() if node not in chosen)
        bound[uuid] = now
        there = chosen == (each.home or tuple(nodes)) and 100 * away // each.mbs_used <= 100 - LOCALITY_PERCENT
        if not there or uuid not in bound_at:
            move = Rehoming(each.domain.name, uuid, chosen, each.home, f"numad advises nodes {chosen}")
            return Round(move, bound, MIN_INTERVAL_S)
    return Round(None, bound, MAX_INTERVAL_S)


def _nodes(snapshot: Snapshot, demand: Mapping[str, float]) -> dict[int, NumadNode]:
    """The nodes with CPUs as numad sees them; load is taken to be where domains are at home, else everywhere."""
    topology = snapshot.topology
    pcpus = {node: len(cpus) for node, cpus in topology.cpus_by_node.items() if cpus}
    cores = len({cpu.siblings for cpu in topology.cpus})
    threads = max(round(len(topology.cpus) / cores), 1)
    load = dict.fromkeys(pcpus, 0.0)
    for domain in snapshot.domains:
        on = home_nodes(snapshot, domain) or tuple(pcpus)
        for node in on:
            load[node] += demand.get(domain.uuid, 0.0) * pcpus[node] / sum(pcpus[each] for each in on)
    return {
        node: NumadNode(
            total_mb=topology.node(node).memory_mib,
            free_mb=snapshot.available_mib(node),
            cpus_total=cpus_total(count, threads),
            cpus_free=cpus_free(max(count - load[node], 0.0), count, threads),
            distance=tuple(topology.distance(node, other) for other in pcpus),
        )
        for node, count in pcpus.items()
    }


def _candidates(snapshot: Snapshot, demand: Mapping[str, float]) -> list[_Process]:
    found = [
        _Process(
            domain,
            int(demand.get(domain.uuid, 0.0) * ONE_CPU),
            domain.memory_mib,
            home_nodes(snapshot, domain),
            memory_mib(domain),
        )
        for domain in movable(snapshot)
    ]
    return [each for each in found if each.cpus_used > CPU_THRESHOLD and each.mbs_used > MEMORY_THRESHOLD_MB]


def _in_order(processes: Sequence[_Process], bound: Mapping[str, float]) -> list[_Process]:
    """Those without a home, the largest first; then the others, in numad's selection sort by size and age."""
    unbound = sorted((each for each in processes if each.domain.uuid not in bound), key=lambda each: -each.magnitude)
    rest = [each for each in processes if each.domain.uuid in bound]
    for first in range(len(rest)):
        best = first
        for other in range(first + 1, len(rest)):
            if _comes_before(rest[other], rest[best], bound):
                best = other
        rest[first], rest[best] = rest[best], rest[first]
    return unbound + rest


def _comes_before(other: _Process, best: _Process, bound: Mapping[str, float]) -> bool:
    # the difference is of unsigned numbers there, and so never below 0: a larger one counts as a large difference
    difference = best.magnitude - other.magnitude
    if difference < 0 or (difference > 0 and other.magnitude // difference < 5):
        return other.magnitude > best.magnitude
    return bound[other.domain.uuid] <= bound[best.domain.uuid]


def _can_do_better(process: _Process, nodes: Mapping[int, NumadNode]) -> bool:
    """Whether the wait is cut short: it is on the busiest or the fullest node, and both would be more even."""
    cpus = {node: each.cpus_free for node, each in nodes.items()}
    mbs = {node: each.free_mb for node, each in nodes.items()}
    home = process.home or tuple(nodes)
    if min(cpus, key=lambda node: cpus[node]) not in home and min(mbs, key=lambda node: mbs[node]) not in home:
        return False
    first = next(iter(nodes.values()))
    if process.cpu_request >= first.cpus_total or process.mb_request >= first.total_mb:
        return False
    return _evens(list(cpus.values()), process.cpus_used, CPU_THRESHOLD) and _evens(
        list(mbs.values()), process.mbs_used, 0
    )


def _evens(free: Sequence[int], used: int, slop: int) -> bool:
    least, most, mean = min(free), max(free), sum(free) // len(free)
    return abs(least + used - mean) + abs(most - used - mean) < most - least - slop


def _pick(process: _Process, nodes: Mapping[int, NumadNode], enough: bool) -> tuple[int, ...]:
    """The nodes for a process that runs, by id."""
    home = process.home
    average = 0
    if home:
        average = (process.cpus_used + sum(nodes[node].cpus_free for node in home)) // len(home)
    seen = []
    free_cpus = 0
    for node, each in nodes.items():
        held = process.held_mb.get(node, 0)
        if home:
            free_mb = each.free_mb + held * 5 // 4
            cpus = average if node in home else each.cpus_free
        else:
            free_mb = each.free_mb + held * 17 // 16
            cpus = each.cpus_free + process.cpus_used * held // process.mbs_used
        free_cpus += cpus
        seen.append(replace(each, free_mb=min(free_mb, each.total_mb), cpus_free=min(cpus, each.cpus_total)))
    flex = (100 - UTILIZATION_PERCENT) * seen[0].cpus_total // 200
    enough = enough or process.cpu_request > free_cpus
    advice = advise(seen, process.cpu_request, process.mb_request, flex=flex, enough=enough)
    ids = tuple(nodes)
    return tuple(sorted(ids[node] for node in advice.nodes))
