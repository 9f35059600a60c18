"""Stepping a scheduler through quanta: arrivals, budgets, balancing, running, accounting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from domicile.performance.assumptions import DEFAULT
from domicile.simulator.compiled import compiled
from domicile.simulator.scheduler import credit2
from domicile.simulator.scheduler.common import smt_loss_of
from domicile.simulator.scheduler.credit2 import balance, pick_queue, put, run_queue, settle
from domicile.simulator.scheduler.demand import STEP, arrive, new_demands
from domicile.simulator.scheduler.queues import Arrangement, RunqueuePer, arrange
from domicile.simulator.scheduler.state import (
    CPU,
    DOMAIN,
    QUANTUM_NS,
    QUEUE,
    Bools,
    Floats,
    Masks,
    Table,
    affinities,
    new_vcpus,
)
from domicile.topology.model import Topology

__all__ = ["Scheduler", "SchedulerKind"]


class SchedulerKind(StrEnum):
    """Which scheduler; the names of `sched=` on Xen's command line, and `numa` for the one that Xen does not have."""

    CREDIT2 = "credit2"
    CREDIT = "credit"
    NUMA = "numa"


@dataclass(eq=False)
class Scheduler:
    """A scheduler with its vCPUs, at a quantum. Between two calls all tables may be read and written.

    `may` (V x P) and `may_queue` (V x Q) are affinity, `ran_ns` (V x N) is where vCPUs ran since last asked, `steps`
    the traces that `demands` point into.
    """

    kind: SchedulerKind
    cpus: Table
    vcpus: Table
    doms: Table
    queues: Table
    demands: Table
    steps: Table
    may: Masks
    may_queue: Masks
    ran_ns: Floats
    arrangement: Arrangement
    smt_loss: float
    quantum: int = 0

    @classmethod
    def of(
        cls,
        topology: Topology,
        kind: SchedulerKind,
        domain_of_vcpu: Sequence[int],
        weights: Sequence[float],
        caps: Sequence[float],
        hard: Bools,
        soft: Bools,
        seed: np.random.Generator,
        per: RunqueuePer = RunqueuePer.SOCKET,
        smt_yield: float = DEFAULT.smt_yield,
    ) -> Scheduler:
        """A scheduler of this machine. `weights` and `caps` (pCPUs' worth, 0 for none) are by domain, `hard` and `soft`
        V x P. Nobody is active yet."""
        arrangement = arrange(topology, per)
        may, may_queue, has_soft = affinities(hard, soft, arrangement)
        doms = np.zeros(len(weights), dtype=DOMAIN)
        doms["weight"], doms["cap"] = weights, caps
        return cls(
            kind=kind,
            cpus=_cpus(topology, arrangement),
            vcpus=new_vcpus(domain_of_vcpu, [weights[domain] for domain in domain_of_vcpu], has_soft),
            doms=doms,
            queues=_queues(arrangement),
            demands=new_demands(len(domain_of_vcpu), seed),
            steps=np.zeros(1, dtype=STEP),
            may=may,
            may_queue=may_queue,
            ran_ns=np.zeros((len(domain_of_vcpu), len(topology.nodes))),
            arrangement=arrangement,
            smt_loss=smt_loss_of(smt_yield),
        )

    def start(self, vcpu: int) -> None:
        """A vCPU comes: it gets a run queue, and may run from now on."""
        self.vcpus["credit"][vcpu] = credit2.CREDIT_INIT
        self._assign(vcpu)
        self.vcpus["active"][vcpu] = True
        self.vcpus["since"][vcpu] = self.quantum

    def stop(self, vcpu: int) -> None:
        """A vCPU goes."""
        queue = self.vcpus["queue"][vcpu]
        if queue >= 0:
            self.queues["load"][queue] = max(self.queues["load"][queue] - self.vcpus["load"][vcpu], 0.0)
        for field in ("load", "pending_ns", "active", "running"):
            self.vcpus[field][vcpu] = 0
        self.vcpus["queue"][vcpu] = -1

    def pin(self, vcpu: int, hard: Bools, soft: Bools) -> None:
        """Change a vCPU's affinity (P each); it looks for a new place at once, as after `xl vcpu-pin`."""
        may, may_queue, has_soft = affinities(hard[None], soft[None], self.arrangement)
        self.may[vcpu], self.may_queue[vcpu], self.vcpus["has_soft"][vcpu] = may[0], may_queue[0], has_soft[0]
        if self.vcpus["active"][vcpu]:
            self._assign(vcpu)

    def _assign(self, vcpu: int) -> None:
        queue, least = pick_queue(self.vcpus, self.queues, self.may_queue, vcpu)
        put(self.vcpus, self.queues, self.may, vcpu, queue, least)

    def step(self, quanta: int) -> None:
        """Let this many quanta pass."""
        _advance(
            self.vcpus,
            self.doms,
            self.queues,
            self.cpus,
            self.demands,
            self.steps,
            self.may,
            self.may_queue,
            self.ran_ns,
            self.quantum,
            quanta,
            self.smt_loss,
        )
        self.quantum += quanta

    def clear_counts(self) -> None:
        """Start counting again what vCPUs and pCPUs did."""
        for field in ("work_ns", "waited_ns", "wanted_ns", "moves", "node_moves"):
            self.vcpus[field] = 0
        self.cpus["busy_ns"] = 0.0
        self.ran_ns[:] = 0.0


def _cpus(topology: Topology, arrangement: Arrangement) -> Table:
    """The pCPUs of a machine. A CPU whose node is not known counts as one of the first node."""
    cores: dict[tuple[object, ...], int] = {}
    sockets: dict[int | None, int] = {}
    cpus = np.zeros(len(topology.cpus), dtype=CPU)
    for index, cpu in enumerate(topology.cpus):
        core = (cpu.node, cpu.socket, ~cpu.id if cpu.core is None else cpu.core)
        cpus[index]["node"] = 0 if cpu.node is None else topology.node_index[cpu.node]
        cpus[index]["core"] = cores.setdefault(core, len(cores))
        cpus[index]["socket"] = sockets.setdefault(cpu.socket, len(sockets))
    cpus["threads"] = np.bincount(cpus["core"])[cpus["core"]]
    cpus["queue"] = arrangement.queue
    return cpus[arrangement.listed]


def _queues(arrangement: Arrangement) -> Table:
    queues = np.zeros(arrangement.count, dtype=QUEUE)
    ends = np.cumsum(np.bincount(arrangement.queue, minlength=arrangement.count))
    queues["end_cpu"], queues["first_cpu"] = ends, ends - np.bincount(arrangement.queue, minlength=arrangement.count)
    queues["bias"] = -1
    return queues


@compiled
def _list_members(vcpus: Table, queues: Table) -> None:
    """List the active vCPUs run queue by run queue."""
    for queue in range(len(queues)):
        queues[queue].end = 0
    for vcpu in range(len(vcpus)):
        if vcpus[vcpu].active:
            queues[vcpus[vcpu].queue].end += 1
    before = 0
    for queue in range(len(queues)):
        queues[queue].first = before
        before += queues[queue].end
        queues[queue].end = queues[queue].first
    for vcpu in range(len(vcpus)):
        if vcpus[vcpu].active:
            queue = vcpus[vcpu].queue
            vcpus[queues[queue].end].member = vcpu
            queues[queue].end += 1


@compiled
def _advance(
    vcpus: Table,
    doms: Table,
    queues: Table,
    cpus: Table,
    demands: Table,
    steps: Table,
    may: Masks,
    may_queue: Masks,
    ran_ns: Floats,
    quantum: int,
    quanta: int,
    smt_loss: float,
) -> None:
    """Credit2 for some quanta from this one on."""
    for now in range(quantum, quantum + quanta):
        arrive(vcpus, demands, steps, now)
        for domain in range(len(doms)):
            doms[domain].budget_ns = doms[domain].cap * QUANTUM_NS
        for cpu in range(len(cpus)):
            cpus[cpu].free_at = 0.0
            cpus[cpu].core_busy = 0.0
        _list_members(vcpus, queues)
        for queue in range(len(queues)):
            queues[queue].due = run_queue(vcpus, doms, queues, cpus, may, ran_ns, queue)
        for queue in range(len(queues)):
            settle(vcpus, doms, queues, cpus, queue, smt_loss)
        for queue in range(len(queues)):
            if queues[queue].due:
                balance(vcpus, queues, may, may_queue, queue)
