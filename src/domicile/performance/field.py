"""The load on a machine, summed up so that one more domain can be tried in many places at once.

The terms of `predict` need, of all the domains that stay where they are, only sums by node and by pair of nodes. A
`Field` holds these: the cost of a newcomer's candidate set of k nodes, and what it costs everybody else, then take
O(k * k), however many domains there are. `predict` is the definition; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from domicile.performance.accesses import Accesses
from domicile.performance.assumptions import DEFAULT, Assumptions
from domicile.performance.curves import Floats, crowding, sharing, sharing_parts
from domicile.performance.machine import Machine
from domicile.performance.newcomer import Newcomer
from domicile.performance.predict import own_pressure
from domicile.performance.tenants import Tenants
from domicile.performance.ties import device_pull, remoteness

__all__ = ["Costs", "Field", "Trial"]

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Costs:
    """For each of K candidates: what each term adds to the newcomer's slowdown, and to the sum of everybody else's, as
    far as these count."""

    latency: Floats
    cpu: Floats
    bandwidth: Floats
    devices: Floats
    neighbours: Floats

    @property
    def own(self) -> Floats:
        """What the candidate adds to the newcomer's own slowdown, as far as that counts."""
        return self.latency + self.cpu + self.bandwidth + self.devices

    @property
    def total(self) -> Floats:
        """What it adds to the sum over all domains."""
        return self.own + self.neighbours


@dataclass(frozen=True, eq=False)
class Field:
    """Sums over the domains that stay, of slowdown as far as each counts: `demand`, `weight` (of slowdown by CPU) and
    `alone` (the part of `company` that is the domain itself), `heavy` (demand times Xen's weight) and `light` (`weight`
    over Xen's weight): Q x N; `traffic` (GB/s) and `felt` (weight of slowdown by pressure): N x N; `constant`: what
    does not depend on the others; `domains`: how many there are; `uneven`: whether Xen's weights may differ; else
    `heavy` is `demand` and `light` is `weight`.
    """

    machine: Machine
    assumptions: Assumptions
    relative: Floats
    demand: Floats
    weight: Floats
    alone: Floats
    heavy: Floats
    light: Floats
    traffic: Floats
    felt: Floats
    constant: float
    domains: int
    uneven: bool
    _controller: Floats = field(repr=False)
    _link: Floats = field(repr=False)

    @classmethod
    def of(cls, machine: Machine, tenants: Tenants, assumptions: Assumptions = DEFAULT) -> Field:
        """The field of these domains."""
        relative = machine.relative
        vcpus, memory = tenants.vcpu_share, tenants.memory_share
        busy = tenants.demand[:, None] * vcpus
        bound = assumptions.memory_bound if tenants.memory_bound is None else tenants.memory_bound
        traffic_gbs = assumptions.traffic_gbs if tenants.traffic_gbs is None else tenants.traffic_gbs
        with_memory = memory.any(axis=1)
        present = vcpus.sum(axis=1) * with_memory
        accesses = Accesses.of(vcpus, memory, tenants.own_share)
        counts = tenants.each_counts
        felt = _by_pair(accesses.scaled(bound * counts)) * relative
        own = own_pressure(machine, tenants.demand, assumptions, traffic_gbs)
        constant = float(felt.sum()) + float((counts * (tenants.confined - bound * present * (1.0 + own))).sum())
        attached = np.flatnonzero(tenants.device_share.any(axis=1))
        if attached.size:
            pull = device_pull(remoteness(machine), tenants.device_share[attached], assumptions)
            there = counts[attached, None] * (vcpus[attached] + memory[attached]) / 2.0
            constant += float((there * pull).sum())
        traffic = _by_pair(accesses.scaled(tenants.demand).scaled(traffic_gbs))
        controller, link = _pressures(machine, traffic, assumptions)
        counted = counts[:, None] * vcpus
        each = [busy, counted, busy * counted]
        if tenants.weight is not None:
            each += [tenants.weight[:, None] * busy, counted / tenants.weight[:, None]]
        by_pool = [_by_node(tenants.pool, len(machine.pools), sums) for sums in each]
        return cls(
            machine=machine,
            assumptions=assumptions,
            relative=relative,
            demand=by_pool[0],
            weight=by_pool[1],
            alone=by_pool[2],
            heavy=by_pool[0] if tenants.weight is None else by_pool[3],
            light=by_pool[1] if tenants.weight is None else by_pool[4],
            traffic=traffic,
            felt=felt,
            constant=constant,
            domains=len(tenants.names),
            uneven=tenants.weight is not None,
            _controller=controller,
            _link=link,
        )

    @property
    def total(self) -> float:
        """Sum over all domains of what their slowdown is above 1, as far as each counts."""
        a = self.assumptions
        crowd = (self.weight * self.demand - self.alone) / np.maximum(self.machine.pcpus, 1.0)
        cpu = float((self._lost() + a.company * crowd).sum())
        return self.constant + cpu + float((self.felt * (self._controller + self._link)).sum())

    def _lost(self) -> Floats:
        """What all together lose by sharing cores and pCPUs on every node of each pool, Q x N."""
        machine = self.machine
        fullness = machine.fullness(self.demand)
        paired, short = sharing_parts(self.demand, machine.cores, machine.pcpus, fullness, self.assumptions)
        return self.weight * (paired - 1.0) + self.light * _mean(self.heavy, self.demand) * short

    def with_domain(self, newcomer: Newcomer, vcpus: Floats, memory: Floats, sign: float = 1.0) -> Field:
        """The field with one more domain, spread as these shares (N each) say; `sign` -1 takes it out again."""
        a = self.assumptions
        busy = newcomer.demand * vcpus
        accesses = Accesses.of(vcpus, memory, newcomer.own_share)
        felt = newcomer.counts * newcomer.bound(a) * accesses.weights * self.relative
        nodes = np.flatnonzero(vcpus)
        own = newcomer.own_pressure(self.machine, a)
        constant = float(felt.sum()) + newcomer.counts * (
            float(((vcpus + memory) / 2.0 * newcomer.device_pull).sum())
            + float(_confined(self.machine, newcomer, nodes[None], vcpus[nodes][None], a)[0])
            - newcomer.bound(a) * (1.0 + own)
        )
        counted = newcomer.counts * vcpus
        demand, weight, alone = self.demand.copy(), self.weight.copy(), self.alone.copy()
        demand[newcomer.pool] += sign * busy
        weight[newcomer.pool] += sign * counted
        alone[newcomer.pool] += sign * busy * counted
        demand = np.maximum(demand, 0.0)
        uneven = self.uneven or newcomer.weight != 1.0
        heavy, light = demand, weight
        if uneven:
            heavy, light = self.heavy.copy(), self.light.copy()
            heavy[newcomer.pool] += sign * busy * newcomer.weight
            light[newcomer.pool] += sign * counted / newcomer.weight
            heavy = np.maximum(heavy, 0.0)
        sends = newcomer.traffic(a) * accesses.scaled(newcomer.demand).weights
        traffic = np.maximum(self.traffic + sign * sends, 0.0)
        controller, link = _pressures(self.machine, traffic, a)
        return replace(
            self,
            demand=demand,
            weight=weight,
            alone=alone,
            heavy=heavy,
            light=light,
            traffic=traffic,
            felt=self.felt + sign * felt,
            constant=self.constant + sign * constant,
            domains=self.domains + int(sign),
            uneven=uneven,
            _controller=controller,
            _link=link,
        )

    def try_sets(self, newcomer: Newcomer, nodes: Indices, vcpus: Floats, memory: Floats) -> Costs:
        """Costs of K candidates of k nodes each: `nodes`, `vcpus` and `memory` are K x k, shares of each row add up
        to 1. A node may stand in a row more than once, if all but once its shares are 0.
        """
        return Trial.of(self, newcomer).costs(nodes, vcpus, memory)

    def fullness_with(self, newcomer: Newcomer) -> Floats:
        """How full each pool is once a newcomer is there, Q x 1."""
        demand = self.demand.sum(axis=1, keepdims=True)
        demand[newcomer.pool] += newcomer.demand
        return self.machine.fullness(demand)


@dataclass(frozen=True, eq=False)
class Trial:
    """A newcomer about to be tried, and what its costs need of the field wherever it goes. Of its pool, by node (N):
    `cores`, `pcpus`, `before` (demand), `weight`, `heavy` and `light` (as in `Field`), `lost` (what the others lose by
    CPU load once the pool is fuller by its demand), `crowd` (cost of company for each vCPU there) and `fullness`;
    `everywhere`: what the fuller pool costs the others. `traffic`, `felt`: sums over the CPUs' nodes (N). `controller`,
    `link`: pressure now, N and N x N. `alone`: pressure that is no slowdown. `bound`: the share of the newcomer's time
    that is memory latency; `sends`: its traffic in all (GB/s). `uneven`: whether Xen's weights differ.
    """

    field: Field
    newcomer: Newcomer
    cores: Floats
    pcpus: Floats
    before: Floats
    weight: Floats
    heavy: Floats
    light: Floats
    lost: Floats
    crowd: Floats
    fullness: float
    everywhere: float
    traffic: Floats
    felt: Floats
    peak: Floats
    controller: Floats
    link: Floats
    alone: float
    bound: float
    sends: float
    uneven: bool

    @classmethod
    def of(cls, field: Field, newcomer: Newcomer) -> Trial:
        """A newcomer before this field."""
        machine, a, pool = field.machine, field.assumptions, newcomer.pool
        cores, pcpus = machine.cores[pool], machine.pcpus[pool]
        before, weight = field.demand[pool], field.weight[pool]
        # wherever the newcomer goes, it fills the pool by as much; that alone changes what a full node costs the others
        room, wanted = max(float(pcpus.sum()), 1.0), float(before.sum())
        now, then = min(wanted / room, 1.0), min((wanted + newcomer.demand) / room, 1.0)
        heavy, light, uneven = field.heavy[pool], field.light[pool], field.uneven or newcomer.weight != 1.0
        both = np.array([[now], [then]])
        if uneven:
            paired, short = sharing_parts(before, cores, pcpus, both, a)
            by_now, by_then = weight * (paired - 1.0) + light * _mean(heavy, before) * short
        else:
            by_now, by_then = weight * (sharing(before, cores, pcpus, both, a) - 1.0)
        return cls(
            field=field,
            newcomer=newcomer,
            cores=cores,
            pcpus=pcpus,
            before=before,
            weight=weight,
            heavy=heavy,
            light=light,
            lost=by_then,
            crowd=a.company / np.maximum(pcpus, 1.0),
            fullness=then,
            everywhere=float((by_then - by_now).sum()),
            traffic=field.traffic.sum(axis=0),
            felt=field.felt.sum(axis=0),
            peak=machine.bandwidth_gbs.diagonal(),
            controller=field._controller,  # noqa: SLF001 - a part of Field, in the same module
            link=field._link,  # noqa: SLF001
            alone=newcomer.own_pressure(machine, a),
            bound=newcomer.bound(a),
            sends=newcomer.traffic(a) * newcomer.demand,
            uneven=uneven,
        )

    def costs(self, nodes: Indices, vcpus: Floats, memory: Floats) -> Costs:
        """As `Field.try_sets`."""
        field, traffic = self.field, self.sends
        a = field.assumptions
        cpu, neighbours = self._cpu(nodes, vcpus)
        accesses = Accesses.of(vcpus, memory, self.newcomer.own_share)
        arriving = memory if accesses.kept is None else accesses.arriving
        controller = crowding((self.traffic[nodes] + traffic * arriving) / self.peak[nodes], a)
        # of a node that stands in a row twice, what it would cost with a share of 0 is nothing
        neighbours = neighbours + (self.felt[nodes] * (controller - self.controller[nodes])).sum(axis=1)
        if nodes.shape[1] == 1:
            relative = field.relative[nodes, nodes]
            latency = (relative * vcpus * memory).sum(axis=1)
            felt = (relative * vcpus * memory * controller).sum(axis=1)
        else:
            pair = (nodes[:, :, None], nodes[:, None, :])
            spread = accesses.weights
            remote = nodes[:, :, None] != nodes[:, None, :]
            link = np.where(
                remote, crowding((field.traffic[pair] + traffic * spread) / field.machine.bandwidth_gbs[pair], a), 0.0
            )
            neighbours = neighbours + (field.felt[pair] * (link - self.link[pair])).sum(axis=(1, 2))
            spread *= field.relative[pair]
            latency = spread.sum(axis=(1, 2))
            felt = (spread * (controller[:, None, :] + link)).sum(axis=(1, 2))
        devices = ((vcpus + memory) / 2.0 * self.newcomer.device_pull[nodes]).sum(axis=1)
        counts = self.newcomer.counts
        return Costs(
            latency=counts * self.bound * (latency - 1.0),
            cpu=counts * cpu,
            bandwidth=counts * self.bound * (felt - self.alone),
            devices=counts * devices,
            neighbours=neighbours,
        )

    def _cpu(self, nodes: Indices, vcpus: Floats) -> tuple[Floats, Floats]:
        """The newcomer's loss by CPU load, and everybody else's; K each."""
        a, before, crowd = self.field.assumptions, self.before[nodes], self.crowd[nodes]
        added = self.newcomer.demand * vcpus
        own_rate, others = self.by_load(nodes, before + added, added)
        own = (vcpus * (own_rate + crowd * before)).sum(axis=1)
        if self.newcomer.allowed_pcpus is not None:
            own = own + _confined(self.field.machine, self.newcomer, nodes, vcpus, a)
        others = others - self.lost[nodes] + self.weight[nodes] * crowd * added
        return own, others.sum(axis=1) + self.everywhere

    def by_load(self, nodes: Indices, wanted: Floats, added: Floats) -> tuple[Floats, Floats]:
        """Where `wanted` vCPUs want to run, `added` of them the newcomer's: what one of its vCPUs loses by sharing
        cores and pCPUs, and what all others there lose by it."""
        a, cores, pcpus = self.field.assumptions, self.cores[nodes], self.pcpus[nodes]
        if not self.uneven:
            rate = sharing(wanted, cores, pcpus, self.fullness, a) - 1.0
            return rate, self.weight[nodes] * rate
        paired, short = sharing_parts(wanted, cores, pcpus, self.fullness, a)
        # with a heavy newcomer the others get less of what is short, with a light one more
        own = self.newcomer.weight
        short = short * _mean(self.heavy[nodes] + own * added, wanted)
        return paired - 1.0 + short / own, self.weight[nodes] * (paired - 1.0) + self.light[nodes] * short


BLOCK = 32
"""Domains in one product of matrices. OpenBLAS divides products of more than 262,144 multiplications between threads
(interface/gemm.c, 0.3), which on a busy Dom0 wait for each other for longer than the sum takes."""


def _by_pair(accesses: Accesses) -> Floats:
    """The sum over domains (D x N), by pair of nodes (N x N)."""
    left, right = accesses.loose, accesses.memory
    found = np.zeros((left.shape[1], right.shape[1]))
    for start in range(0, len(left), BLOCK):
        found += left[start : start + BLOCK].T @ right[start : start + BLOCK]
    if accesses.kept is not None:
        found += np.diag(accesses.kept.sum(axis=0))
    return found


def _by_node(pool: Indices, pools: int, each: Floats) -> Floats:
    """Sums over the domains of each pool (Q x N) of what each has on every node (D x N)."""
    if pools == 1:
        return np.asarray(each.sum(axis=0, keepdims=True), dtype=np.float64)
    return np.array([each[pool == one].sum(axis=0) for one in range(pools)])


def _mean(heavy: Floats, demand: Floats) -> Floats:
    """Mean weight of what wants to run; of no account where nothing does."""
    return np.asarray(heavy / np.where(demand > 0, demand, 1.0), dtype=np.float64)


def _confined(machine: Machine, newcomer: Newcomer, nodes: Indices, vcpus: Floats, assumptions: Assumptions) -> Floats:
    """Loss by a hard affinity narrower than the nodes; K."""
    if newcomer.allowed_pcpus is None or newcomer.allowed_cores is None:
        return np.zeros(len(nodes))
    own = newcomer.demand * vcpus
    confined = sharing(own, newcomer.allowed_cores[nodes], newcomer.allowed_pcpus[nodes], 1.0, assumptions)
    free = sharing(own, machine.cores[newcomer.pool][nodes], machine.pcpus[newcomer.pool][nodes], 1.0, assumptions)
    return np.asarray((vcpus * np.maximum(confined - free, 0.0)).sum(axis=1), dtype=np.float64)


def _pressures(machine: Machine, traffic: Floats, assumptions: Assumptions) -> tuple[Floats, Floats]:
    """Pressure on each node's memory (N), and on the way between two nodes (N x N, 0 on the diagonal)."""
    peak = machine.bandwidth_gbs
    link = crowding(traffic / peak, assumptions)
    np.fill_diagonal(link, 0.0)
    return crowding(traffic.sum(axis=0) / peak.diagonal(), assumptions), link
