"""The machine as arrays: what the model needs of a topology, derived once.

Arrays over nodes follow `Topology.nodes`: row = the node of the CPU, column = the node of the memory. CPU capacity is
by cpupool as well, since domains of different pools never compete for a pCPU even on one node.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from domicile.performance.assumptions import DEFAULT, Assumptions
from domicile.performance.curves import Floats
from domicile.state.model import Cpupool
from domicile.topology.machine_file import MachineFile
from domicile.topology.model import MeasuredMatrix, SharedCore, Topology

if TYPE_CHECKING:
    from domicile.performance.arrays import System

__all__ = ["Machine"]


@dataclass(frozen=True, eq=False)
class Machine:
    """A machine of N nodes and Q cpupools.

    `latency_ns` and `bandwidth_gbs`: N x N, complete. `cores`, `pcpus`: Q x N. `memory_mib`: N. `node_of_cpu` and
    `pool_of_cpu`: by CPU id, -1 where there is none. `core_of_cpu`: by CPU id, a number of its own for every core.
    `latency_measured`: whether the latencies are measured or worked out from distances. `measured`: what else was
    measured on it. `memory_systems`: by assumptions, what `evaluate` worked out of it all. `spreads`: by hard affinity,
    soft affinity and cpupool, what `tenants` worked out of them; `cpu_sets`: the sets in these, each to itself.
    """

    topology: Topology
    pools: tuple[str, ...]
    latency_ns: Floats
    bandwidth_gbs: Floats
    cores: Floats
    pcpus: Floats
    memory_mib: Floats
    node_of_cpu: npt.NDArray[np.intp]
    pool_of_cpu: npt.NDArray[np.intp]
    core_of_cpu: npt.NDArray[np.intp]
    latency_measured: bool
    measured: MachineFile | None = None
    memory_systems: dict[Assumptions, tuple[System, tuple[str, ...]]] = field(default_factory=dict, repr=False)
    spreads: dict[tuple[frozenset[int], frozenset[int], int], tuple[Floats, bool]] = field(
        default_factory=dict, repr=False
    )
    cpu_sets: dict[frozenset[int], frozenset[int]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        topology: Topology,
        cpupools: Sequence[Cpupool] = (),
        assumptions: Assumptions = DEFAULT,
        measured: MachineFile | None = None,
    ) -> Machine:
        """The machine of a topology. Without cpupools all CPUs are in `Pool-0`; `measured` is the file that the
        topology comes from, where it comes from one."""
        pools = cpupools or (Cpupool("Pool-0", frozenset(cpu.id for cpu in topology.cpus), ""),)
        node_of_cpu, core_of_cpu = _cpu_tables(topology)
        pool_of_cpu = np.full_like(node_of_cpu, -1)
        for index, pool in enumerate(pools):
            pool_of_cpu[[cpu for cpu in pool.cpus if cpu < len(pool_of_cpu)]] = index
        pool_of_cpu[node_of_cpu < 0] = -1
        cores, pcpus = _capacity(len(pools), len(topology.nodes), node_of_cpu, pool_of_cpu, core_of_cpu)
        has_cpus = np.bincount(node_of_cpu[node_of_cpu >= 0], minlength=len(topology.nodes)) > 0
        all_cores = np.array([topology.cores_by_node[node] for node in topology.node_ids], dtype=np.float64)
        return cls(
            topology=topology,
            pools=tuple(pool.name for pool in pools),
            latency_ns=_latency(topology, has_cpus, assumptions),
            bandwidth_gbs=_bandwidth(topology, all_cores, assumptions),
            cores=cores,
            pcpus=pcpus,
            memory_mib=np.array([node.memory_mib for node in topology.nodes], dtype=np.float64),
            node_of_cpu=node_of_cpu,
            pool_of_cpu=pool_of_cpu,
            core_of_cpu=core_of_cpu,
            latency_measured=topology.latency_ns is not None,
            measured=measured,
        )

    @property
    def nodes(self) -> int:
        """How many nodes there are."""
        return len(self.memory_mib)

    @cached_property
    def best_latency_ns(self) -> float:
        """The shortest latency from a node with CPUs to a node with memory."""
        usable = self.latency_ns[np.ix_(self.pcpus.sum(axis=0) > 0, self.memory_mib > 0)]
        return float(usable.min() if usable.size else self.latency_ns.min())

    @cached_property
    def relative(self) -> Floats:
        """Latency over the best one, N x N; not to be written to."""
        return _fixed(self.latency_ns / self.best_latency_ns)

    @cached_property
    def remoteness(self) -> Floats:
        """How much longer than local the way between two nodes is, both directions taken together, in units of the
        local latency: N x N, symmetric, never negative, 0 on the diagonal; not to be written to."""
        both = np.maximum((self.latency_ns + self.latency_ns.T) / 2.0 / self.best_latency_ns - 1.0, 0.0)
        np.fill_diagonal(both, 0.0)
        return _fixed(both)

    @cached_property
    def own_memory(self) -> tuple[Floats, Floats]:
        """Of the nodes that have cores: how many, and the bandwidth of each node's own memory; not to be written to."""
        cores = self.cores.sum(axis=0)
        usable = np.flatnonzero(cores > 0)
        return _fixed(cores[usable]), _fixed(self.bandwidth_gbs[usable, usable])

    @cached_property
    def cpus_of_pools(self) -> tuple[frozenset[int], ...]:
        """The ids of the CPUs of each cpupool."""
        return tuple(frozenset(np.flatnonzero(self.pool_of_cpu == pool).tolist()) for pool in range(len(self.pools)))

    def fullness(self, demand: Floats) -> Floats:
        """How much of each pool's pCPUs a demand (... x Q x N) takes, from 0 to 1; ... x Q x 1."""
        total = self.pcpus.sum(axis=1)
        return np.asarray(np.minimum(demand.sum(axis=-1) / np.maximum(total, 1.0), 1.0)[..., None], dtype=np.float64)

    def pool_index(self, name: str) -> int | None:
        """The row of a cpupool in `cores` and `pcpus`, None if there is none of this name."""
        return self.pools.index(name) if name in self.pools else None

    def count_pcpus(self, cpus: Collection[int], pool: int) -> Floats:
        """How many pCPUs of each node are among these CPUs and in this cpupool."""
        ids = np.fromiter(cpus, dtype=np.intp, count=len(cpus))
        ids = ids[ids < len(self.node_of_cpu)]
        inside = self.node_of_cpu[ids[self.pool_of_cpu[ids] == pool]]
        return np.bincount(inside, minlength=self.nodes).astype(np.float64)

    def count(self, cpus: Collection[int], pool: int) -> tuple[Floats, Floats]:
        """How many pCPUs and how many cores of each node are among these CPUs and in this cpupool."""
        ids = np.fromiter(cpus, dtype=np.intp, count=len(cpus))
        ids = ids[ids < len(self.node_of_cpu)]
        ids = ids[self.pool_of_cpu[ids] == pool]
        pcpus = np.bincount(self.node_of_cpu[ids], minlength=self.nodes).astype(np.float64)
        _, first = np.unique(self.core_of_cpu[ids], return_index=True)
        cores = np.bincount(self.node_of_cpu[ids[first]], minlength=self.nodes).astype(np.float64)
        return pcpus, cores


def _fixed(array: Floats) -> Floats:
    array.flags.writeable = False
    return array


def _cpu_tables(topology: Topology) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """By CPU id: the index of its node, and a number that its core alone has; -1 where there is no such CPU."""
    size = 1 + max((cpu.id for cpu in topology.cpus), default=-1)
    node_of_cpu = np.full(size, -1, dtype=np.intp)
    core_of_cpu = np.full(size, -1, dtype=np.intp)
    numbers: dict[SharedCore, int] = {}
    for cpu in topology.cpus:
        if cpu.node is None:
            continue
        node_of_cpu[cpu.id] = topology.node_index[cpu.node]
        core_of_cpu[cpu.id] = numbers.setdefault(cpu.siblings, len(numbers))
    return node_of_cpu, core_of_cpu


def _capacity(
    pools: int,
    nodes: int,
    node_of_cpu: npt.NDArray[np.intp],
    pool_of_cpu: npt.NDArray[np.intp],
    core_of_cpu: npt.NDArray[np.intp],
) -> tuple[Floats, Floats]:
    """Cores and pCPUs, pools x nodes."""
    cores = np.zeros((pools, nodes))
    pcpus = np.zeros((pools, nodes))
    for pool in range(pools):
        ids = np.flatnonzero(pool_of_cpu == pool)
        pcpus[pool] = np.bincount(node_of_cpu[ids], minlength=nodes)
        _, first = np.unique(core_of_cpu[ids], return_index=True)
        cores[pool] = np.bincount(node_of_cpu[ids[first]], minlength=nodes)
    return cores, pcpus


def _distances(topology: Topology) -> Floats:
    if topology.distances is not None:
        return np.array(topology.distances, dtype=np.float64)
    nodes = len(topology.nodes)
    return np.where(np.eye(nodes, dtype=bool), 10.0, 20.0)


def _measured(matrix: MeasuredMatrix | None, nodes: int) -> Floats:
    """A measured matrix with nan where nobody measured."""
    if matrix is None:
        return np.full((nodes, nodes), np.nan)
    return np.array([[np.nan if figure is None else figure for figure in row] for row in matrix], dtype=np.float64)


def _latency(topology: Topology, has_cpus: npt.NDArray[np.bool_], assumptions: Assumptions) -> Floats:
    """Latency from every node to every node: measured, else in proportion to distance."""
    measured = _measured(topology.latency_ns, len(topology.nodes))
    local = measured.diagonal()[~np.isnan(measured.diagonal())]
    unit_ns = float(local.mean()) if local.size else assumptions.local_latency_ns
    latency = np.where(np.isnan(measured), unit_ns * _distances(topology) / 10.0, measured)
    # nothing runs on a node without CPUs, and firmware fills its row with 255: the way to it stands for the way from it
    for row in np.flatnonzero(~has_cpus):
        others = np.flatnonzero(has_cpus)
        latency[row, others] = latency[others, row]
    return latency


def _bandwidth(topology: Topology, cores: Floats, assumptions: Assumptions) -> Floats:
    """Bandwidth from the CPUs of every node to the memory of every node: measured, else by cores and distance."""
    measured = _measured(topology.bandwidth_gbs, len(topology.nodes))
    typical = float(np.median(cores[cores > 0])) if (cores > 0).any() else 1.0
    own = np.where(cores > 0, cores, typical) * assumptions.core_bandwidth_gbs
    own = np.where(np.isnan(measured.diagonal()), own, measured.diagonal())
    assumed = np.minimum(own[:, None], own[None, :]) * 10.0 / _distances(topology)
    return np.where(np.isnan(measured), assumed, measured)
