"""Stepping a scheduler through quanta: arrivals, budgets, balancing, running, accounting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from domicile.local.compiled import entrance, inlined, part
from domicile.performance.assumptions import DEFAULT
from domicile.simulator.scheduler import credit, credit2
from domicile.simulator.scheduler.common import begin, end, smt_loss_of
from domicile.simulator.scheduler.credit2 import run_queue, settle
from domicile.simulator.scheduler.demand import STEP, new_demands
from domicile.simulator.scheduler.load import STARTING_LOAD, balance, pick_queue, put
from domicile.simulator.scheduler.numa_aware import EVERY_QUANTA, balance_near, pick_near
from domicile.simulator.scheduler.state import (
    CPU,
    DOMAIN,
    LINE,
    QUANTUM_NS,
    QUEUE,
    Bools,
    Floats,
    Ints,
    Table,
    affinities,
    empty_table,
    new_vcpus,
)
from domicile.topology.model import SharedCore, Topology
from domicile.topology.run_queues import Arrangement, RunqueuePer, arrange

__all__ = ["Scheduler", "SchedulerKind"]

GOLDEN = (5.0**0.5 - 1.0) / 2.0
"""Its multiples, less their whole parts, are spread as evenly over 0 to 1 as can be, however many of them."""


class SchedulerKind(StrEnum):
    """Which scheduler; the names of `sched=` on Xen's command line, and `numa` for the one that Xen does not have."""

    CREDIT2 = "credit2"
    CREDIT = "credit"
    NUMA = "numa"


@dataclass(eq=False)
class Scheduler:
    """A scheduler with its vCPUs, at a quantum. Between two calls all tables may be read and written.

    `hard` and `soft` (V x Q) are affinity as masks, `ran_ns` (V x N) is where vCPUs ran since last asked, `steps` the
    traces that `demands` point into; `lost` (V x Q) is what a vCPU loses on a run queue by the way to its memory, as a
    share of its work: only the NUMA-aware scheduler looks at it; `keys` is room for a run queue's vCPUs.
    `waited_last_ns` (V) is how long each waited in the last quantum, None before there was one.
    """

    kind: SchedulerKind
    cpus: Table
    vcpus: Table
    doms: Table
    queues: Table
    lines: Table
    keys: Ints
    demands: Table
    steps: Table
    hard: Ints
    soft: Ints
    lost: Floats
    ran_ns: Floats
    arrangement: Arrangement
    smt_loss: float
    quantum: int = 0
    waited_last_ns: Floats | None = None

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
        hard_masks, soft_masks, has_soft = affinities(hard, soft, arrangement)
        cpus = _cpus(topology, arrangement)
        vcpus = new_vcpus(domain_of_vcpu, [weights[domain] for domain in domain_of_vcpu], has_soft)
        vcpus["capped"] = [caps[domain] > 0.0 for domain in domain_of_vcpu]
        doms = np.zeros(len(weights), dtype=DOMAIN)
        doms["weight"], doms["cap"] = weights, caps
        return cls(
            kind=kind,
            cpus=cpus,
            vcpus=vcpus,
            doms=doms,
            queues=_queues(arrangement, cpus),
            lines=np.zeros(2 * len(domain_of_vcpu), dtype=LINE),
            keys=np.zeros(len(domain_of_vcpu) + credit2.RANKED_AT_ONCE, dtype=np.int64),
            demands=new_demands(len(domain_of_vcpu), seed),
            steps=np.zeros(1, dtype=STEP),
            hard=hard_masks,
            soft=soft_masks,
            lost=np.zeros((len(domain_of_vcpu), arrangement.count)),
            ran_ns=np.zeros((len(domain_of_vcpu), len(topology.nodes))),
            arrangement=arrangement,
            smt_loss=smt_loss_of(smt_yield),
        )

    def start(self, vcpu: int) -> None:
        """A vCPU comes: it gets a run queue, and may run from now on."""
        self.vcpus["credit"][vcpu] = 0.0 if self.kind is SchedulerKind.CREDIT else credit2.CREDIT_INIT
        self.vcpus["load"][vcpu] = STARTING_LOAD
        self.vcpus["priority"][vcpu] = credit.UNDER
        self._assign(vcpu)
        self.vcpus["active"][vcpu] = True
        self.vcpus["since"][vcpu] = self.quantum
        self.vcpus["owed_ns"][vcpu], self.vcpus["due_ns"][vcpu] = vcpu * GOLDEN % 1.0 * QUANTUM_NS, QUANTUM_NS

    def stop(self, vcpu: int) -> None:
        """A vCPU goes."""
        queue = self.vcpus["queue"][vcpu]
        if queue >= 0:
            self.queues["listed"][queue] = False
            self.queues["load"][queue] = max(self.queues["load"][queue] - self.vcpus["load"][vcpu], 0.0)
        for field in ("load", "pending_ns", "slice_ns", "active", "running", "accounted", "parked"):
            self.vcpus[field][vcpu] = 0
        self.vcpus["queue"][vcpu] = -1

    def pin(self, vcpu: int, hard: Bools, soft: Bools) -> None:
        """Change a vCPU's affinity (P each); it looks for a new place at once, as after `xl vcpu-pin`."""
        hard_masks, soft_masks, has_soft = affinities(hard[None], soft[None], self.arrangement)
        self.hard[vcpu], self.soft[vcpu], self.vcpus["has_soft"][vcpu] = hard_masks[0], soft_masks[0], has_soft[0]
        if self.vcpus["active"][vcpu]:
            self._assign(vcpu)

    def _assign(self, vcpu: int) -> None:
        """Give a vCPU a run queue and a pCPU there."""
        tables = (self.vcpus, self.cpus, self.queues, self.hard, self.soft, self.lost)
        _assign(*tables, self.kind is SchedulerKind.CREDIT, self.kind is SchedulerKind.NUMA, vcpu)

    def step(self, quanta: int) -> None:
        """Let this many quanta pass."""
        if quanta > 1:
            self._advance(quanta - 1)
        if quanta > 0:
            before = self.vcpus["waited_ns"].copy()
            self._advance(1)
            self.waited_last_ns = self.vcpus["waited_ns"] - before

    def _advance(self, quanta: int) -> None:
        tables = (self.vcpus, self.doms, self.queues, self.cpus, self.lines, self.demands, self.steps)
        span = (self.ran_ns, self.quantum, quanta, self.smt_loss)
        if self.kind is SchedulerKind.CREDIT:
            _advance_credit(*tables, self.hard, self.soft, *span)
        else:
            near = self.kind is SchedulerKind.NUMA
            _advance_credit2(*tables, self.keys, self.hard, self.soft, self.lost, near, *span)
        self.quantum += quanta

    @property
    def work_ns(self) -> Floats:
        """Work that vCPUs have done since last asked, in ns that it would take at best (V)."""
        done: Floats = self.vcpus["core_ns"] / self.vcpus["stretch"]
        return done

    @property
    def waiting(self) -> Bools:
        """vCPUs that want to run at this moment, and have no pCPU (V).

        Within a quantum many take turns, and at its end those are through that wanted little: the moment of a look is
        some moment of the last quantum, another one with every look.
        """
        vcpus = self.vcpus
        if self.waited_last_ns is None:
            found: Bools = vcpus["active"] & ~vcpus["running"] & (vcpus["pending_ns"] > 0.0)
            return found
        moment_ns = self.quantum * GOLDEN % 1.0 * QUANTUM_NS
        return np.asarray(vcpus["active"] & (self.waited_last_ns > moment_ns), dtype=np.bool_)

    @property
    def running(self) -> Bools:
        """vCPUs that run at this moment (V)."""
        return np.asarray(self.vcpus["running"] & ~self.waiting, dtype=np.bool_)

    def clear_counts(self) -> None:
        """Start counting again what vCPUs and pCPUs did."""
        for field in ("core_ns", "waited_ns", "wanted_ns", "moves", "node_moves"):
            self.vcpus[field] = 0
        self.cpus["busy_ns"] = 0.0
        self.ran_ns[:] = 0.0


def _cpus(topology: Topology, arrangement: Arrangement) -> Table:
    """The pCPUs of a machine. A CPU whose node is not known counts as one of the first node."""
    cores: dict[SharedCore, int] = {}
    sockets: dict[int | None, int] = {}
    cpus = empty_table(len(topology.cpus), CPU)
    for index, cpu in enumerate(topology.cpus):
        cpus[index]["node"] = 0 if cpu.node is None else topology.node_index[cpu.node]
        cpus[index]["core"] = cores.setdefault(cpu.siblings, len(cores))
        cpus[index]["socket"] = sockets.setdefault(cpu.socket, len(sockets))
    cpus["threads"] = np.bincount(cpus["core"])[cpus["core"]]
    cpus["queue"] = arrangement.queue
    cpus[:] = cpus[arrangement.listed]
    _, first, number = np.unique(cpus["core"], return_index=True, return_inverse=True)
    cpus["core"] = first[number]
    cpus["place"] = np.unique(cpus["node"], return_inverse=True)[1]
    for index in range(len(cpus)):
        mine = cpus["queue"] == cpus["queue"][index]
        alike = np.flatnonzero(mine & (cpus["core"] == cpus["core"][index])) - int(np.argmax(mine))
        cpus[index]["siblings"] = sum(1 << int(place) for place in alike)
    return cpus


def _queues(arrangement: Arrangement, cpus: Table) -> Table:
    queues = np.zeros(arrangement.count, dtype=QUEUE)
    ends = np.cumsum(np.bincount(arrangement.queue, minlength=arrangement.count))
    queues["end_cpu"], queues["first_cpu"] = ends, ends - np.bincount(arrangement.queue, minlength=arrangement.count)
    queues["bias"] = -1
    queues["cores"] = [len(np.unique(cpus["core"][cpus["queue"] == queue])) for queue in range(arrangement.count)]
    return queues


@part
def _list_members(vcpus: Table, queues: Table, lines: Table) -> None:
    """List the active vCPUs run queue by run queue, as they joined, if any has come or gone."""
    listed = True
    for queue in range(len(queues)):
        listed = listed and queues[queue].listed
    if listed:
        return
    half, newcomers, first = len(vcpus), 0, 0
    for index in range(queues[len(queues) - 1].end):
        lines[half + index].member = lines[index].member
    for vcpu in range(half):
        if vcpus[vcpu].active and vcpus[vcpu].joined > queues[vcpus[vcpu].queue].known:
            lines[half + newcomers].vcpu = vcpu
            newcomers += 1
    for queue in range(len(queues)):
        end = _list_who_stayed(vcpus, queues, lines, queue, first)
        for index in range(half, half + newcomers):
            vcpu = lines[index].vcpu
            if vcpus[vcpu].queue == queue:
                _join(vcpus, lines, first, end, vcpu)
                end += 1
        queues[queue].first, queues[queue].end, first = first, end, end
        queues[queue].known = queues[queue].joins
        queues[queue].listed = True


@inlined
def _list_who_stayed(vcpus: Table, queues: Table, lines: Table, queue: int, first: int) -> int:
    """List the vCPUs of a run queue that were listed and are still there, from `first` on; before which line they
    end."""
    half = len(vcpus)
    end = first
    for index in range(half + queues[queue].first, half + queues[queue].end):
        if _stayed(vcpus, queues, lines[index].member, queue):
            lines[end].member = lines[index].member
            end += 1
    return end


@inlined
def _stayed(vcpus: Table, queues: Table, vcpu: int, queue: int) -> bool:
    """Whether a vCPU that was listed is still there, and not there again."""
    there = vcpus[vcpu].active and vcpus[vcpu].queue == queue
    return bool(there and vcpus[vcpu].joined <= queues[queue].known)


@inlined
def _join(vcpus: Table, lines: Table, first: int, end: int, vcpu: int) -> None:
    """Add a vCPU to those listed from `first` to before `end`, at the place at which it joined."""
    at = end
    while at > first and vcpus[lines[at - 1].member].joined > vcpus[vcpu].joined:
        lines[at].member = lines[at - 1].member
        at -= 1
    lines[at].member = vcpu


@inlined
def _apart(doms: Table, cpus: Table) -> bool:
    """Whether what run queues do in a quantum makes no difference to the others: no domain has a budget that it can
    spend on several, no core has threads on several."""
    for domain in range(len(doms)):
        if doms[domain].cap > 0.0:
            return False
    for cpu in range(len(cpus)):  # noqa: SIM110 (Numba compiles no generators)
        if cpus[cpus[cpu].core].queue != cpus[cpu].queue:
            return False
    return True


@inlined
def _give_budgets(doms: Table) -> None:
    """Give domains what their caps leave them in a quantum."""
    for domain in range(len(doms)):
        doms[domain].budget_ns = doms[domain].cap * QUANTUM_NS


@entrance
def _advance_credit2(  # noqa: PLR0913, PLR0917 - Numba knows arrays, not records of arrays
    vcpus: Table,
    doms: Table,
    queues: Table,
    cpus: Table,
    lines: Table,
    demands: Table,
    steps: Table,
    keys: Ints,
    hard: Ints,
    soft: Ints,
    lost: Floats,
    near: bool,
    ran_ns: Floats,
    quantum: int,
    quanta: int,
    smt_loss: float,
) -> None:
    """Credit2 for some quanta from this one on, with Xen's balancer or the one that knows where memory is.

    Where they are apart, each run queue is settled at once: what it has looked at is still in the nearest cache.
    """
    apart = _apart(doms, cpus)
    begin(vcpus, cpus, ran_ns)
    for now in range(quantum, quantum + quanta):
        _list_members(vcpus, queues, lines)
        if now == quantum or not apart:  # where they are apart, no domain has a budget that it spends
            _give_budgets(doms)
        for queue in range(len(queues)):
            run_queue(vcpus, doms, queues, cpus, lines, keys, demands, steps, ran_ns, queue, now)
            if apart:
                settle(vcpus, doms, queues, cpus, lines, queue, smt_loss, now)
        for queue in range(0 if apart else len(queues)):
            settle(vcpus, doms, queues, cpus, lines, queue, smt_loss, now)
        for queue in range(len(queues)):
            if near:
                if (now + queue) % EVERY_QUANTA == 0:
                    balance_near(vcpus, queues, hard, soft, lost, queue)
            elif queues[queue].due:
                balance(vcpus, queues, lines, hard, soft, queue)
    end(vcpus, cpus, ran_ns)


@entrance
def _advance_credit(  # noqa: PLR0913, PLR0917
    vcpus: Table,
    doms: Table,
    queues: Table,
    cpus: Table,
    lines: Table,
    demands: Table,
    steps: Table,
    hard: Ints,
    soft: Ints,
    ran_ns: Floats,
    quantum: int,
    quanta: int,
    smt_loss: float,
) -> None:
    """Credit for some quanta from this one on."""
    begin(vcpus, cpus, ran_ns)
    for now in range(quantum, quantum + quanta):
        credit.quantum(vcpus, doms, cpus, queues, lines, demands, steps, hard, soft, ran_ns, now, smt_loss)
    end(vcpus, cpus, ran_ns)


@entrance
def _assign(
    vcpus: Table,
    cpus: Table,
    queues: Table,
    hard: Ints,
    soft: Ints,
    lost: Floats,
    by_credit: bool,
    near: bool,
    vcpu: int,
) -> None:
    """Give a vCPU a pCPU under credit, a run queue and a pCPU there under the others."""
    if by_credit:
        credit.home(vcpus, cpus, queues, hard, soft, vcpu)
    elif near:
        queue = pick_near(vcpus, queues, hard, lost, vcpu)
        put(vcpus, queues, hard, soft, vcpu, queue, hard[vcpu, queue])
    else:
        queue, allowed = pick_queue(vcpus, queues, hard, soft, vcpu)
        put(vcpus, queues, hard, soft, vcpu, queue, allowed)
