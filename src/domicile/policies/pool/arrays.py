"""What the compiled loops pass around: the pool as flat arrays, since hosts differ in their number of nodes.

H hosts of K kinds of machines. Arrays by node or by pair of nodes lie one host (kind) behind the other: node n of host
h is at `node_at[h] + n`, the pair (n, m) at `pair_at[h] + n * N + m`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from domicile.performance.assumptions import Assumptions
from domicile.performance.curves import LEAST_BOUND, Floats
from domicile.performance.machine import Machine
from domicile.performance.predict import own_pressure
from domicile.policies.pool.candidates import candidate_sets
from domicile.policies.pool.model import PoolGuest, PoolHost

__all__ = ["Constants", "Hosts", "Integers", "Kinds", "Shapes", "Work", "constants_of", "pool_arrays", "shapes_of"]

Integers = npt.NDArray[np.int64]

MOST_DEMANDS = 64
"""Different demands up to which each counts as it is; of more, neighbours count as their mean. Each has a tree."""

LIGHT = 0.1
"""Demands are told apart by ratio, but for those of less vCPUs than this."""

MOST_SHAPES = 64
"""Shapes of guests that have a tournament of their own."""


class Constants(NamedTuple):
    """The assumptions that the costs need; `bound` is what `curves.crowding` takes for `memory_bound`."""

    memory_bound: float
    smt_yield: float
    displaced: float
    company: float
    traffic_gbs: float
    linear: float
    bound: float


class Kinds(NamedTuple):
    """K machines. `nodes`, `node_at`, `pair_at`: K; `cores`, `pcpus`: by node; `relative` (latency over the best) and
    `peak` (GB/s): by pair. The sets of kind k are those from `set_at[k]` to `set_at[k + 1]`; set s has the nodes
    `member[member_at[s]:member_at[s + 1]]` and gives them `share` of a guest's vCPUs."""

    nodes: Integers
    node_at: Integers
    pair_at: Integers
    cores: Floats
    pcpus: Floats
    relative: Floats
    peak: Floats
    set_at: Integers
    member_at: Integers
    member: Integers
    share: Floats


class Hosts(NamedTuple):
    """H hosts as they are now. `kind`, `node_at`, `pair_at`, `like` (the first host that began in the same state): H;
    `free` (MiB), `demand`, `weight`: by node; `traffic`, `felt`: by pair, as in `performance.field.Field`."""

    kind: Integers
    node_at: Integers
    pair_at: Integers
    like: Integers
    free: Integers
    demand: Floats
    weight: Floats
    traffic: Floats
    felt: Floats


class Shapes(NamedTuple):
    """C shapes of guests: `demand` and the least and most memory (`low`, `high`, MiB), C; `alone`: C x K, the pressure
    that such a guest puts on its own memory where it is alone."""

    demand: Floats
    low: Integers
    high: Integers
    alone: Floats


class Work(NamedTuple):
    """Room for one host's figures: by node, how slow vCPUs are there once the guest has come (`then`), traffic and felt
    weight towards its memory, the pressure on it; `memory`: shares of the guest's memory in the order of a set's
    members, `spare`: room for others; `part`: the same in MiB; `full`: whether a node is full."""

    then: Floats
    traffic_to: Floats
    felt_to: Floats
    controller: Floats
    memory: Floats
    spare: Floats
    part: Integers
    full: npt.NDArray[np.bool_]

    @classmethod
    def room(cls, nodes: int) -> Work:
        """For hosts of up to so many nodes."""
        then, traffic, felt, controller, memory, spare = np.zeros((6, nodes))
        part, full = np.zeros(nodes, dtype=np.int64), np.zeros(nodes, dtype=np.bool_)
        return cls(then, traffic, felt, controller, memory, spare, part, full)


def constants_of(a: Assumptions) -> Constants:
    """The assumptions as the loops want them."""
    return Constants(
        a.memory_bound,
        a.smt_yield,
        a.displaced,
        a.company,
        a.traffic_gbs,
        a.pressure_linear,
        max(a.memory_bound, LEAST_BOUND),
    )


def pool_arrays(hosts: Sequence[PoolHost], assumptions: Assumptions) -> tuple[list[Machine], Kinds, Hosts]:
    """The machines there are, and the pool as arrays."""
    numbers: dict[int, int] = {}
    machines: list[Machine] = []
    for host in hosts:
        if id(host.machine) not in numbers:
            numbers[id(host.machine)] = len(machines)
            machines.append(host.machine)
    kinds = _kinds(machines)
    kind = np.array([numbers[id(host.machine)] for host in hosts], dtype=np.int64)
    first: dict[tuple[object, ...], int] = {}
    like = [
        first.setdefault((id(host.machine), host.free_mib, host.load_vcpus, host.domains), number)
        for number, host in enumerate(hosts)
    ]
    nodes = kinds.nodes[kind]
    node_at, pair_at = _starts(nodes), _starts(nodes * nodes)
    demand = np.array([load for host in hosts for load in host.load_vcpus], dtype=np.float64)
    weight = np.array([domains for host in hosts for domains in host.domains], dtype=np.float64)
    traffic, felt = np.zeros(int(pair_at[-1])), np.zeros(int(pair_at[-1]))
    owner = np.repeat(np.arange(len(hosts)), nodes)
    node = np.arange(len(demand)) - node_at[owner]
    diagonal = pair_at[owner] + node * (nodes[owner] + 1)
    traffic[diagonal] = assumptions.traffic_gbs * demand
    own = kinds.relative[kinds.pair_at[kind[owner]] + node * (nodes[owner] + 1)]
    felt[diagonal] = assumptions.memory_bound * weight * own
    free = np.array([mib for host in hosts for mib in host.free_mib], dtype=np.int64)
    state = Hosts(kind, node_at[:-1], pair_at[:-1], np.array(like), free, demand, weight, traffic, felt)
    return machines, kinds, state


def shapes_of(guests: Sequence[PoolGuest], machines: Sequence[Machine], a: Assumptions) -> tuple[Shapes, Integers]:
    """The guests' shapes, and each guest's. Guests of one shape have the same demand; up to `MOST_SHAPES` different
    ones have a shape each; of more, those of each demand are divided by size into ranges."""
    counts_as = levelled({guest.demand_vcpus for guest in guests})
    pairs = sorted({(counts_as[guest.demand_vcpus], guest.need_mib) for guest in guests})
    demands = {demand for demand, _ in pairs}
    by_demand: dict[float, list[int]] = {}
    for demand, need in pairs:
        by_demand.setdefault(demand, []).append(need)
    ranges: list[tuple[float, int, int]] = []
    number: dict[tuple[float, int], int] = {}
    for demand, needs in by_demand.items():
        most = len(needs) if len(pairs) <= MOST_SHAPES else max(1, MOST_SHAPES // len(demands))
        parts = min(len(needs), most)
        for some in np.array_split(np.array(needs, dtype=np.int64), parts):
            number |= {(demand, int(need)): len(ranges) for need in some}
            ranges.append((demand, int(some[0]), int(some[-1])))
    each = np.array([demand for demand, _, _ in ranges])
    alone = np.stack([own_pressure(machine, each, a) for machine in machines], axis=1)
    shapes = Shapes(
        each,
        np.array([low for _, low, _ in ranges], dtype=np.int64),
        np.array([high for _, _, high in ranges], dtype=np.int64),
        np.ascontiguousarray(alone),
    )
    own = [number[counts_as[guest.demand_vcpus], guest.need_mib] for guest in guests]
    return shapes, np.array(own, dtype=np.int64)


def levelled(demands: Collection[float]) -> dict[float, float]:
    """What each of these demands counts as: itself, where there are no more than `MOST_DEMANDS`; else the mean of those
    that are of about its size, at most `MOST_DEMANDS` means."""
    if len(demands) <= MOST_DEMANDS:
        return {demand: demand for demand in demands}
    ordered = np.sort(np.array(list(demands), dtype=np.float64))
    sizes = np.log(ordered + LIGHT)
    levels = np.round((sizes - sizes[0]) / (sizes[-1] - sizes[0]) * (MOST_DEMANDS - 1)).astype(np.int64)
    found: dict[float, float] = {}
    for level in np.unique(levels):
        alike = ordered[levels == level]
        found |= dict.fromkeys(alike.tolist(), float(alike.mean()))
    return found


def _kinds(machines: Sequence[Machine]) -> Kinds:
    nodes = np.array([machine.nodes for machine in machines], dtype=np.int64)
    sets = [candidate_sets(machine) for machine in machines]
    pcpus = [machine.pcpus[0] for machine in machines]
    members = [list(one) for some in sets for one in some]
    shares = [own[list(one)] / own[list(one)].sum() for own, some in zip(pcpus, sets, strict=True) for one in some]
    return Kinds(
        nodes=nodes,
        node_at=_starts(nodes),
        pair_at=_starts(nodes * nodes),
        cores=np.concatenate([machine.cores[0] for machine in machines]),
        pcpus=np.concatenate(pcpus),
        relative=np.concatenate([(machine.latency_ns / machine.best_latency_ns).ravel() for machine in machines]),
        peak=np.concatenate([machine.bandwidth_gbs.ravel() for machine in machines]),
        set_at=_starts(np.array([len(some) for some in sets], dtype=np.int64)),
        member_at=_starts(np.array([len(one) for one in members], dtype=np.int64)),
        member=np.array([node for one in members for node in one], dtype=np.int64),
        share=np.concatenate([np.zeros(0), *shares]),
    )


def _starts(sizes: Integers) -> Integers:
    """Where each begins that lies behind the others, and where the last ends."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])
