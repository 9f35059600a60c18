"""The load on a machine, summed up so that one more domain can be tried in many places at once.

The terms of `predict` need, of all the domains that stay where they are, only sums by node and by pair of nodes. A
`Field` holds these: the cost of a newcomer's candidate set of k nodes, and what it costs everybody else, then take
O(k * k), however many domains there are. `predict` is the definition; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from domicile.performance.assumptions import DEFAULT, Assumptions
from domicile.performance.curves import Floats, pressure, sharing, sharing_parts
from domicile.performance.machine import Machine
from domicile.performance.predict import own_pressure
from domicile.performance.tenants import Tenants
from domicile.performance.ties import device_pull, remoteness

__all__ = ["Costs", "Field", "Newcomer"]

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Newcomer:
    """A domain to be tried: its demand in vCPUs, its pool, what each whole node costs it by its devices (N), and the
    pCPUs and cores that its hard affinity allows on each node (N each; None: all of its pool's). Its weight (256 is
    1.0), and how hard it leans on memory (None: as `Assumptions` has it)."""

    demand: float
    pool: int
    device_pull: Floats
    allowed_pcpus: Floats | None = None
    allowed_cores: Floats | None = None
    weight: float = 1.0
    memory_bound: float | None = None
    traffic_gbs: float | None = None

    def bound(self, assumptions: Assumptions) -> float:
        """The share of its time that is memory latency."""
        return assumptions.memory_bound if self.memory_bound is None else self.memory_bound

    def traffic(self, assumptions: Assumptions) -> float:
        """GB/s of one busy vCPU."""
        return assumptions.traffic_gbs if self.traffic_gbs is None else self.traffic_gbs

    def own_pressure(self, machine: Machine, assumptions: Assumptions) -> float:
        """See `predict.own_pressure`."""
        return float(own_pressure(machine, np.asarray(self.demand), assumptions, self.traffic(assumptions)))


@dataclass(frozen=True, eq=False)
class Costs:
    """For each of K candidates: what each term adds to the newcomer's slowdown, and to the sum of everybody else's."""

    latency: Floats
    cpu: Floats
    bandwidth: Floats
    devices: Floats
    neighbours: Floats

    @property
    def own(self) -> Floats:
        """What the candidate adds to the newcomer's own slowdown."""
        return self.latency + self.cpu + self.bandwidth + self.devices

    @property
    def total(self) -> Floats:
        """What it adds to the sum over all domains."""
        return self.own + self.neighbours


@dataclass(frozen=True, eq=False)
class Field:
    """Sums over the domains that stay: `demand`, `weight` (of slowdown by CPU) and `alone` (the part of `company`
    that is the domain itself), `heavy` (demand times Xen's weight) and `light` (`weight` over Xen's weight): Q x N;
    `traffic` (GB/s) and `felt` (weight of slowdown by pressure): N x N;
    `constant`: what does not depend on the others; `domains`: how many there are.
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
    _controller: Floats = field(repr=False)
    _link: Floats = field(repr=False)

    @classmethod
    def of(cls, machine: Machine, tenants: Tenants, assumptions: Assumptions = DEFAULT) -> Field:
        """The field of these domains."""
        relative = machine.latency_ns / machine.best_latency_ns
        vcpus, memory = tenants.vcpu_share, tenants.memory_share
        busy = tenants.demand[:, None] * vcpus
        member = np.eye(len(machine.pools))[tenants.pool].T
        bound: Floats | float = assumptions.memory_bound if tenants.memory_bound is None else tenants.memory_bound
        traffic_gbs = assumptions.traffic_gbs if tenants.traffic_gbs is None else tenants.traffic_gbs
        leans = np.broadcast_to(bound, tenants.demand.shape)[:, None]
        sends = np.broadcast_to(traffic_gbs, tenants.demand.shape)[:, None]
        with_memory = memory.any(axis=1)
        present = vcpus.sum(axis=1) * with_memory
        # einsum, not matmul: on a busy Dom0 BLAS's threads wait for each other for longer than the sum takes
        felt = np.einsum("dn,dm->nm", leans * vcpus, memory) * relative
        pull = device_pull(remoteness(machine), tenants.device_share, assumptions)
        constant = (
            float(felt.sum() - (bound * present).sum())
            - float((bound * own_pressure(machine, tenants.demand, assumptions, traffic_gbs) * present).sum())
            + float(((vcpus + memory) / 2.0 * pull).sum())
            + float(tenants.confined.sum())
        )
        traffic = np.einsum("dn,dm->nm", sends * busy, memory)
        demand, weight = np.einsum("qd,dn->qn", member, busy), np.einsum("qd,dn->qn", member, vcpus)
        heavy, light = demand, weight
        if tenants.weight is not None:
            heavy = np.einsum("qd,dn->qn", member, tenants.weight[:, None] * busy)
            light = np.einsum("qd,dn->qn", member, vcpus / tenants.weight[:, None])
        controller, link = _pressures(machine, traffic, assumptions)
        return cls(
            machine=machine,
            assumptions=assumptions,
            relative=relative,
            demand=demand,
            weight=weight,
            alone=np.einsum("qd,dn->qn", member, busy * vcpus),
            heavy=heavy,
            light=light,
            traffic=traffic,
            felt=felt,
            constant=constant,
            domains=len(tenants.names),
            _controller=controller,
            _link=link,
        )

    @property
    def total(self) -> float:
        """Sum over all domains of what their slowdown is above 1."""
        a = self.assumptions
        crowd = (self.weight * self.demand - self.alone) / np.maximum(self.machine.pcpus, 1.0)
        cpu = float((self._lost(self.machine.fullness(self.demand)) + a.company * crowd).sum())
        return self.constant + cpu + float((self.felt * (self._controller + self._link)).sum())

    def _lost(self, fullness: Floats) -> Floats:
        """What all together lose by sharing cores and pCPUs on every node of each pool, Q x N."""
        machine = self.machine
        paired, short = sharing_parts(self.demand, machine.cores, machine.pcpus, fullness, self.assumptions)
        return self.weight * (paired - 1.0) + self.light * _mean(self.heavy, self.demand) * short

    def with_domain(self, newcomer: Newcomer, vcpus: Floats, memory: Floats, sign: float = 1.0) -> Field:
        """The field with one more domain, spread as these shares (N each) say; `sign` -1 takes it out again."""
        a = self.assumptions
        busy = newcomer.demand * vcpus
        felt = newcomer.bound(a) * np.outer(vcpus, memory) * self.relative
        nodes = np.flatnonzero(vcpus)
        own = newcomer.own_pressure(self.machine, a)
        constant = (
            float(felt.sum())
            - newcomer.bound(a) * (1.0 + own)
            + float(((vcpus + memory) / 2.0 * newcomer.device_pull).sum())
            + float(_confined(self.machine, newcomer, nodes[None], vcpus[nodes][None], a)[0])
        )
        demand, weight, alone = self.demand.copy(), self.weight.copy(), self.alone.copy()
        heavy, light = self.heavy.copy(), self.light.copy()
        heavy[newcomer.pool] += sign * busy * newcomer.weight
        light[newcomer.pool] += sign * vcpus / newcomer.weight
        demand[newcomer.pool] += sign * busy
        weight[newcomer.pool] += sign * vcpus
        alone[newcomer.pool] += sign * busy * vcpus
        traffic = np.maximum(self.traffic + sign * newcomer.traffic(a) * np.outer(busy, memory), 0.0)
        controller, link = _pressures(self.machine, traffic, a)
        return replace(
            self,
            demand=np.maximum(demand, 0.0),
            weight=weight,
            alone=alone,
            heavy=np.maximum(heavy, 0.0),
            light=light,
            traffic=traffic,
            felt=self.felt + sign * felt,
            constant=self.constant + sign * constant,
            domains=self.domains + int(sign),
            _controller=controller,
            _link=link,
        )

    def try_sets(self, newcomer: Newcomer, nodes: Indices, vcpus: Floats, memory: Floats) -> Costs:
        """Costs of K candidates of k nodes each: `nodes`, `vcpus` and `memory` are K x k, shares of each row add up
        to 1.
        """
        a = self.assumptions
        pair = (nodes[:, :, None], nodes[:, None, :])
        spread = vcpus[:, :, None] * memory[:, None, :]
        added = newcomer.traffic(a) * newcomer.demand * spread
        spread = spread * self.relative[pair]
        latency = newcomer.bound(a) * (spread.sum(axis=(1, 2)) - 1.0)
        cpu, neighbours = self._cpu(newcomer, nodes, vcpus)

        peak = self.machine.bandwidth_gbs
        controller = pressure((self.traffic.sum(axis=0)[nodes] + added.sum(axis=1)) / peak.diagonal()[nodes], a)
        felt = (spread * controller[:, None, :]).sum(axis=(1, 2))
        neighbours = neighbours + (self.felt.sum(axis=0)[nodes] * (controller - self._controller[nodes])).sum(axis=1)
        if nodes.shape[1] > 1:
            remote = nodes[:, :, None] != nodes[:, None, :]
            link = np.where(remote, pressure((self.traffic[pair] + added) / peak[pair], a), 0.0)
            felt = felt + (spread * link).sum(axis=(1, 2))
            neighbours = neighbours + (self.felt[pair] * (link - self._link[pair])).sum(axis=(1, 2))
        bandwidth = newcomer.bound(a) * (felt - newcomer.own_pressure(self.machine, a))
        devices = ((vcpus + memory) / 2.0 * newcomer.device_pull[nodes]).sum(axis=1)
        return Costs(latency, cpu, bandwidth, devices, neighbours)

    def _cpu(self, newcomer: Newcomer, nodes: Indices, vcpus: Floats) -> tuple[Floats, Floats]:
        """The newcomer's loss by CPU load, and everybody else's; K each."""
        a, pool = self.assumptions, newcomer.pool
        cores, pcpus = self.machine.cores[pool][nodes], self.machine.pcpus[pool][nodes]
        before, weight = self.demand[pool][nodes], self.weight[pool][nodes]
        added = newcomer.demand * vcpus
        # wherever the newcomer goes, it fills the pool by as much; that alone changes what a full node costs the others
        now, then = self.machine.fullness(self.demand), self.fullness_with(newcomer)
        by_then = self._lost(then)
        everywhere = float((by_then - self._lost(now)).sum())
        paired, short = sharing_parts(before + added, cores, pcpus, then[pool], a)
        # with a heavy newcomer the others get less of what is short, with a light one more
        short = short * _mean(self.heavy[pool][nodes] + newcomer.weight * added, before + added)
        crowd = a.company / np.maximum(pcpus, 1.0)
        own = (vcpus * (paired - 1.0 + short / newcomer.weight + crowd * before)).sum(axis=1)
        own = own + _confined(self.machine, newcomer, nodes, vcpus, a)
        after = weight * (paired - 1.0) + self.light[pool][nodes] * short
        others = after - by_then[pool][nodes] + weight * crowd * added
        return own, others.sum(axis=1) + everywhere

    def fullness_with(self, newcomer: Newcomer) -> Floats:
        """How full each pool is once a newcomer is there, Q x 1."""
        demand = self.demand.sum(axis=1, keepdims=True)
        demand[newcomer.pool] += newcomer.demand
        return self.machine.fullness(demand)


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
    link = pressure(traffic / peak, assumptions)
    np.fill_diagonal(link, 0.0)
    return pressure(traffic.sum(axis=0) / peak.diagonal(), assumptions), link
