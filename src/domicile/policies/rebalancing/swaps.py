"""Two domains that change places, where one alone cannot go or gains nothing by it.

Pairs that are worth a look: a domain that a full node has no memory for, with one that is at home there; and where the
busiest nodes have more to do than they have cores, a domain of one with one of the idlest nodes, so that the load moved
comes nearest to what evens the two out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np

from domicile.performance.curves import Floats
from domicile.policies.migration.records import Cost, Option, Way
from domicile.policies.migration.ways import AT_HOME, options
from domicile.policies.rebalancing.hypothetical import after_move
from domicile.policies.rebalancing.remembering import Memory
from domicile.policies.rebalancing.screen import Screened
from domicile.policies.rebalancing.single import permits_of
from domicile.policies.rebalancing.standing import Standing

__all__ = ["Places", "WeighedSwap", "find_swaps"]

PAIRS = 12
"""New pairs that are tried in a round."""

PARTNERS = 3
"""Domains that are tried with one that lacks room, and pairs of two nodes."""

ENDS = 2
"""Of the busiest nodes, and of the idlest, so many are looked at."""

WAITED_FOR = 3
"""Swaps that go on to be waited for in a round."""


@dataclass(frozen=True, eq=False)
class Places:
    """What every domain would gain on every node, as it was found at the beginning of a round."""

    standing: Standing
    screened: Screened

    @cached_property
    def available_mib(self) -> Floats:
        """Memory that is free now and promised to nobody, by node (N)."""
        snapshot = self.standing.snapshot
        return np.array([snapshot.available_mib(node) for node in snapshot.topology.node_ids], dtype=np.float64)

    @cached_property
    def values(self) -> Floats:
        """Gain of each domain on each node by what is measured and held ready for, and by memory that nodes are short
        of; D x N, without what is not there yet."""
        standing = self.standing
        count = len(standing.snapshot.domains)
        values = self.screened.gain[:count]
        short = standing.short_of_memory(standing.free_mib)
        if short:
            size = np.array([domain.memory_mib for domain in standing.snapshot.domains], dtype=np.float64)[:, None]
            left = standing.free_mib + standing.tenants.memory_share[:count] * size
            without, with_all = standing.shortness(left), standing.shortness(left - size)
            values = values + short - (without.sum(axis=1, keepdims=True) - without + with_all)
        return np.asarray(values, dtype=np.float64)

    def home(self, row: int) -> int | None:
        """The node (index) that a domain is at home on with vCPUs and memory, None where it is not on one."""
        tenants = self.standing.tenants
        node = int(np.argmax(tenants.memory_share[row]))
        there = min(tenants.memory_share[row, node], tenants.vcpu_share[row, node])
        return node if there >= AT_HOME else None


@dataclass(frozen=True, slots=True)
class WeighedSwap:
    """Two rows with their ways, in the order in which they are to be done. `gain`: of all, `cost`: of both, one after
    the other."""

    rows: tuple[int, int]
    ways: tuple[Option, Option]
    gain: float
    cost: Cost


def find_swaps(
    places: Places,
    memory: Memory,
    due: Sequence[tuple[str, ...]],
    no_room: Sequence[tuple[int, int]],
    left: Callable[[int], str],
) -> list[WeighedSwap]:
    """The swaps that pay, the best first, with no domain in two of them nor in one that is waited for and not `due`
    (UUIDs) to be weighed anew. `no_room`: domains (rows) that a node has no memory for. New ones are looked for once
    in a while.
    """
    rows = {domain.uuid: row for row, domain in enumerate(places.standing.snapshot.domains)}
    pairs = [(rows[one], rows[other]) for one, other in due]
    if memory.now_s - memory.swaps_looked_s >= places.standing.rules.look_again_s:
        others = _without_room(places, no_room) + _by_load(places)
        if others:
            memory.swaps_looked_s = memory.now_s
        pairs += others[:PAIRS]
    taken = {rows[uuid] for key in memory.waiting if len(key) > 1 for uuid in key}
    found: list[WeighedSwap] = []
    for pair in dict.fromkeys((min(pair), max(pair)) for pair in pairs):
        if taken.isdisjoint(pair) and not any(map(left, pair)):
            swap = weigh_swap(places, *pair)
            if swap is not None:
                found.append(swap)
    apart: list[WeighedSwap] = []
    for swap in sorted(found, key=lambda each: (-each.gain, each.rows)):
        if taken.isdisjoint(swap.rows):
            taken.update(swap.rows)
            apart.append(swap)
    return apart[:WAITED_FOR]


def weigh_swap(places: Places, one: int, other: int) -> WeighedSwap | None:
    """What two domains that are at home on a node each gain by changing places; None if it pays in no order."""
    standing, rules = places.standing, places.standing.rules
    a, b = places.home(one), places.home(other)
    if a is None or b is None or a == b:
        return None
    if _gain(standing, (one, other), (b, a), None) < rules.stop:
        return None
    ids = standing.machine.topology.node_ids
    best = None
    for first, second, to, back in ((one, other, b, a), (other, one, a, b)):
        option = _way(standing, standing, first, ids[to])
        if option is None or option.cost is None:
            continue
        then = _hypothetical(standing, first, option)
        answer = _way(then, standing, second, ids[back])
        if answer is None or answer.cost is None:
            continue
        gain = _gain(standing, (first, second), (to, back), (option, answer))
        cost = _both(option.cost, answer.cost)
        if gain < rules.stop or gain * rules.horizon_s < rules.margin * cost.slowdown_s:
            continue
        if best is None or cost.slowdown_s < best.cost.slowdown_s:
            best = WeighedSwap((first, second), (option, answer), gain, cost)
    return best


def _without_room(places: Places, no_room: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Domains that a node has no memory for, with those at home there that lose least by going."""
    found = []
    for row, node in no_room[:2]:
        home = places.home(row)
        if home is None:
            continue
        gain = places.screened.gain[:, home]
        partners = [other for other in _at_home(places, node) if other != row]
        partners.sort(key=lambda other: (-round(float(gain[other]), 9), other))
        found += [(row, other) for other in partners[:PARTNERS]]
    return found


def _by_load(places: Places) -> list[tuple[int, int]]:
    """Domains of the busiest nodes with such of the idlest as even the two out."""
    machine, demand = places.standing.machine, places.standing.field.demand
    found: list[tuple[int, int]] = []
    for pool, cores in enumerate(machine.cores):
        usable = [int(node) for node in np.flatnonzero(machine.pcpus[pool] > 0)]
        heat = demand[pool] / np.maximum(cores, 1.0)
        order = sorted(usable, key=lambda node: (-heat[node], node))
        for hot, cold in product(order[:ENDS], order[: -ENDS - 1 : -1]):
            if heat[hot] > max(heat[cold], 1.0):
                found += _evening(places, pool, hot, cold)
    return found


def _evening(places: Places, pool: int, hot: int, cold: int) -> list[tuple[int, int]]:
    """Those of two nodes (indices) that even out their loads, if they change places."""
    standing = places.standing
    cores, demand = standing.machine.cores[pool, [hot, cold]], standing.field.demand[pool, [hot, cold]]
    # so much load is to go from the one to the other
    surplus = float(demand[0] - cores[0] * demand.sum() / cores.sum())
    wants, pools = standing.tenants.demand, standing.tenants.pool
    pairs = [
        (abs(wants[one] - wants[other] - surplus), one, other)
        for one, other in product(_at_home(places, hot), _at_home(places, cold))
        if pools[one] == pools[other] == pool and 0.0 < wants[one] - wants[other] < 2.0 * surplus
    ]
    return [(one, other) for _, one, other in sorted(pairs)[:PARTNERS]]


def _at_home(places: Places, node: int) -> list[int]:
    tenants = places.standing.tenants
    there = np.minimum(tenants.memory_share[:, node], tenants.vcpu_share[:, node]) >= AT_HOME
    count = len(places.standing.snapshot.domains)
    return [int(row) for row in np.flatnonzero(there[:count]) if places.standing.domain(int(row)).id != 0]


def _gain(
    standing: Standing, rows: tuple[int, int], nodes: tuple[int, int], ways: tuple[Option, Option] | None
) -> float:
    """What all gain with these on each other's nodes (indices); with their memory as `ways` says, all there if None."""
    field, free = standing.field, standing.free_mib
    for row in rows:
        field = field.with_domain(
            standing.newcomer(row), standing.tenants.vcpu_share[row], standing.tenants.memory_share[row], -1
        )
    for position, (row, node) in enumerate(zip(rows, nodes, strict=True)):
        vcpus = standing.vcpus_on(row, (node,))
        if not vcpus.any():
            return -np.inf
        mib = {standing.machine.topology.node_ids[node]: standing.domain(row).memory_mib}
        after = mib if ways is None else ways[position].memory_mib
        field = field.with_domain(standing.newcomer(row), vcpus, standing.memory_share(after))
        free = free + standing.freed(row, after) - standing.free_mib
    short = standing.short_of_memory(standing.free_mib) - standing.short_of_memory(free)
    return float(standing.field.total - field.total) + short


def _way(then: Standing, now: Standing, row: int, node: int) -> Option | None:
    """The way that brings all of a domain's memory to a node (id), None if there is none."""
    for option in options(then.snapshot, then.domain(row), (node,), permits_of(now, row), now.ground):
        there = option.memory_mib.get(node, 0) >= AT_HOME * then.domain(row).memory_mib
        if not option.refused and option.way is not Way.VCPUS and there:
            return option
    return None


def _hypothetical(standing: Standing, row: int, option: Option) -> Standing:
    """The host with one of the two moved, for the other's way: memory counts, load does not."""
    return replace(standing, snapshot=after_move(standing.snapshot, standing.domain(row), option))


def _both(first: Cost, second: Cost) -> Cost:
    return Cost(
        moved_mib=first.moved_mib + second.moved_mib,
        time_s=first.time_s + second.time_s,
        pause_s=first.pause_s + second.pause_s,
        slowdown_s=first.slowdown_s + second.slowdown_s,
        copied_mib=first.copied_mib + second.copied_mib,
        disk_mib=first.disk_mib + second.disk_mib,
    )
