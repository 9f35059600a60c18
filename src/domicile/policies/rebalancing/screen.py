"""What each domain would gain on each node alone, all of it there: for all domains and nodes at once.

Most rounds of most hosts end here. The sums are those of `performance.field` (a test holds the two together), written
out for D x N candidates instead of those of one domain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from domicile.performance.accesses import Accesses
from domicile.performance.curves import Floats, crowding, sharing_parts
from domicile.performance.field import Field
from domicile.performance.predict import own_pressure
from domicile.policies.rebalancing.standing import Standing

__all__ = ["Screened", "screen"]

REMOTE = 0.01
"""A domain with more of its accesses remote loads the links between nodes."""


@dataclass(frozen=True, eq=False)
class Screened:
    """`now` (D): what each domain adds to the sum of all slowdowns where it is; `there` (D x N): what it would, all on
    one node, infinite where its pool has no pCPU. Both but for what is the same wherever it is."""

    now: Floats
    there: Floats

    @property
    def gain(self) -> Floats:
        """D x N."""
        return np.asarray(self.now[:, None] - self.there, dtype=np.float64)


def screen(standing: Standing) -> Screened:
    """What every domain costs, and would on each node."""
    cpu = _Cpu.of(standing)
    tenants, machine, field = standing.tenants, standing.machine, standing.field
    a = standing.assumptions
    d = len(tenants.names)
    v, m = tenants.vcpu_share, tenants.memory_share
    ones = np.ones_like(v)
    now, there = cpu.cost(v).sum(axis=1), cpu.cost(ones)

    counts = tenants.each_counts
    bound = counts * (a.memory_bound if tenants.memory_bound is None else tenants.memory_bound)
    each_gbs = np.broadcast_to(a.traffic_gbs if tenants.traffic_gbs is None else tenants.traffic_gbs, (d,))
    sends = each_gbs * tenants.demand
    relative, own_relative = field.relative, field.relative.diagonal()
    with_memory = m.any(axis=1) * v.any(axis=1)
    alone = own_pressure(machine, tenants.demand, a, each_gbs)
    accesses = Accesses.of(v, m, tenants.own_share)
    # by node of the memory: latency on the way there, with a domain's vCPUs where they are
    reached = (accesses.loose @ relative) * m
    if accesses.kept is not None:
        reached += accesses.kept * own_relative
    now += bound * (reached.sum(axis=1) - with_memory)
    there += bound[:, None] * (own_relative - 1.0)

    # the pressure on each node's memory: of all others, with this domain's own memory as it is, with all of it there
    peak = machine.bandwidth_gbs.diagonal()
    own = sends[:, None] * accesses.arriving
    others = np.maximum(field.traffic.sum(axis=0) - own, 0.0)
    before = crowding(others / peak, a)
    as_it_is = crowding((others + own) / peak, a)
    all_there = crowding((others + sends[:, None]) / peak, a)
    felt_own = bound[:, None] * reached
    felt_others = np.maximum(field.felt.sum(axis=0) - felt_own, 0.0)
    now += (felt_own * as_it_is).sum(axis=1) - bound * with_memory * alone
    now += (felt_others * (as_it_is - before)).sum(axis=1)
    there += bound[:, None] * (own_relative * all_there - alone[:, None]) + felt_others * (all_there - before)
    _add_links(standing, now, bound, sends, accesses)

    pull = counts[:, None] * standing.pull
    now += ((v + m) / 2.0 * pull).sum(axis=1)
    there += pull
    usable = machine.pcpus[tenants.pool] > 0
    return Screened(now, np.where(usable & (v.sum(axis=1, keepdims=True) > 0), there, np.inf))


def _add_links(standing: Standing, now: Floats, bound: Floats, sends: Floats, accesses: Accesses) -> None:
    """What the domains with remote memory lose, and cost others, on the ways between nodes."""
    field = standing.field
    loose, memory, kept = accesses
    rows = np.flatnonzero(loose.sum(axis=1) * memory.sum(axis=1) - (loose * memory).sum(axis=1) > REMOTE)
    if not rows.size:
        return
    spread = Accesses(loose[rows], memory[rows], None if kept is None else kept[rows]).weights
    own = sends[rows, None, None] * spread
    felt = bound[rows, None, None] * spread * field.relative
    link = _link(field.traffic, field)
    without = _link(np.maximum(field.traffic - own, 0.0), field)
    others = np.maximum(field.felt - felt, 0.0)
    now[rows] += (felt * link + others * (link - without)).sum(axis=(1, 2))


def _link(traffic: Floats, field: Field) -> Floats:
    found = crowding(traffic / field.machine.bandwidth_gbs, field.assumptions)
    nodes = np.arange(field.machine.nodes)
    found[..., nodes, nodes] = 0.0
    return found


@dataclass(frozen=True, eq=False)
class _Cpu:
    """What CPU load costs: of each domain's pool and without it (D x N each) `before` (demand), `weight`, `heavy`,
    `light` (as in `Field`) and `lost` (what the others lose then); `demand`, `xen` (Xen's weight) and `counts`
    (what its slowdown counts) D x 1."""

    standing: Standing
    demand: Floats
    xen: Floats
    before: Floats
    weight: Floats
    heavy: Floats
    light: Floats
    counts: Floats
    cores: Floats
    pcpus: Floats
    crowd: Floats
    fullness: Floats
    lost: Floats

    @classmethod
    def of(cls, standing: Standing) -> _Cpu:
        tenants, machine, field, a = standing.tenants, standing.machine, standing.field, standing.assumptions
        v, pool = tenants.vcpu_share, tenants.pool
        demand = tenants.demand[:, None]
        xen = np.ones_like(demand) if tenants.weight is None else tenants.weight[:, None]
        busy = demand * v
        before = np.maximum(field.demand[pool] - busy, 0.0)
        counts = tenants.each_counts[:, None]
        counted = counts * v
        weight = np.maximum(field.weight[pool] - counted, 0.0)
        heavy = np.maximum(field.heavy[pool] - busy * xen, 0.0)
        light = np.maximum(field.light[pool] - counted / xen, 0.0)
        cores, pcpus = machine.cores[pool], machine.pcpus[pool]
        room = np.maximum(pcpus.sum(axis=1, keepdims=True), 1.0)
        fullness = np.minimum((before.sum(axis=1, keepdims=True) + demand) / room, 1.0)
        paired, short = sharing_parts(before, cores, pcpus, fullness, a)
        lost = weight * (paired - 1.0) + light * _mean(heavy, before) * short
        crowd = a.company / np.maximum(pcpus, 1.0)
        return cls(standing, demand, xen, before, weight, heavy, light, counts, cores, pcpus, crowd, fullness, lost)

    def cost(self, share: Floats) -> Floats:
        """What each domain with this share of its vCPUs on each node costs there, itself and the others; D x N."""
        added = self.demand * share
        wanted = self.before + added
        paired, short = sharing_parts(wanted, self.cores, self.pcpus, self.fullness, self.standing.assumptions)
        short = short * _mean(self.heavy + self.xen * added, wanted)
        own = self.counts * share * (paired - 1.0 + short / self.xen + self.crowd * self.before)
        others = self.weight * (paired - 1.0) + self.light * short - self.lost + self.weight * self.crowd * added
        return np.asarray(own + others, dtype=np.float64)


def _mean(heavy: Floats, demand: Floats) -> Floats:
    """Mean weight of what wants to run; of no account where nothing does."""
    return np.asarray(heavy / np.where(demand > 0, demand, 1.0), dtype=np.float64)
