"""What it costs to have a virtual node on a pnode, in slowdown: the terms of the placement's objective, cut up by
virtual node.

A guest that sees its nodes keeps most of its accesses within a virtual node (`Assumptions.own_share`); the rest goes
to all of its memory alike, or, where the guest was told distances, less to what it believes to be far. CPU load,
devices, groups and neighbours count as in `performance`; memory bandwidth does not: that is for the whole objective
(`refine`), by which topologies of different width are compared too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from domicile.performance.assumptions import DEFAULT, Assumptions
from domicile.performance.curves import Floats, sharing
from domicile.performance.field import Trial
from domicile.policies.placement import problem_of
from domicile.policies.placement.layout import Layout
from domicile.policies.placement.subject import Subject
from domicile.policies.vnuma.assign import AssignmentProblem
from domicile.state.model import Snapshot, Vnode
from domicile.state.request import GuestRequest, Intent

__all__ = ["Ground", "shares"]

SHARED_NODE = 1.0
"""What each virtual node costs another on the same pnode, beyond CPU load: a guest that is told of nodes which are not
there balances over them for nothing. An assumption; large, so that it happens only where it has to."""


@dataclass(frozen=True, eq=False)
class Ground:
    """A guest, and the host that it comes to, ready for virtual topologies to be tried.

    `eligible` (N): whether a node can have vCPUs and memory of it; `pcpus` (N): pCPUs there that it may use;
    `available_mib` (N): free memory promised to nobody.
    """

    request: GuestRequest
    layout: Layout
    subject: Subject
    eligible: npt.NDArray[np.bool_]
    pcpus: npt.NDArray[np.int64]
    available_mib: npt.NDArray[np.int64]
    vcpu_pcpus: npt.NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        snapshot: Snapshot,
        request: GuestRequest,
        intent: Intent,
        load: Mapping[str, float] | None = None,
        assumptions: Assumptions = DEFAULT,
    ) -> Ground:
        """The ground for this guest. Raises `BadInput` and `Refused` as placement does."""
        problem = problem_of(snapshot, [request], intent, load=load, assumptions=assumptions)
        (subject,) = problem.subjects
        machine = problem.machine
        eligible = np.zeros(machine.nodes, dtype=bool)
        eligible[subject.eligible] = True
        hard = request.hard_affinity or ()
        usable = [
            frozenset(hard[vcpu] if vcpu < len(hard) else subject.pool_cpus) & subject.pool_cpus
            for vcpu in range(request.max_vcpus)
        ]
        counted = {cpus: machine.count(cpus, subject.newcomer.pool)[0] for cpus in set(usable)}
        union, _ = machine.count(frozenset().union(*usable), subject.newcomer.pool)
        return cls(
            request=request,
            layout=Layout.empty(problem),
            subject=subject,
            eligible=eligible,
            pcpus=union.astype(np.int64) * eligible,
            available_mib=np.array(problem.available_mib, dtype=np.int64),
            vcpu_pcpus=np.array([counted[cpus] > 0 for cpus in usable]),
        )

    @property
    def node_ids(self) -> tuple[int, ...]:
        """The machine's node ids."""
        return self.layout.problem.machine.topology.node_ids

    @property
    def memory_room_mib(self) -> npt.NDArray[np.int64]:
        """MiB of the guest's own memory that each node has room for, its part of the overhead beside it (N)."""
        need = self.request.need_mib
        # the overhead is divided in proportion, in whole MiB: one may fall on either side
        room = self.available_mib * self.request.memory_mib // max(need, 1) - (self.request.overhead_mib > 0)
        return np.asarray(np.maximum(room, 0) * self.eligible, dtype=np.int64)

    def need_mib(self, memory_mib: Sequence[int]) -> npt.NDArray[np.int64]:
        """What virtual nodes of these sizes need on their pnodes, with their part of the overhead."""
        sizes = np.array(memory_mib, dtype=np.int64)
        return np.asarray(sizes - (-sizes * self.request.overhead_mib // max(sum(memory_mib), 1)), dtype=np.int64)

    def problem(
        self, vnodes: Sequence[Vnode], *, least_pcpus: Sequence[int] | None = None, may_share: bool = False
    ) -> AssignmentProblem:
        """The assignment problem of a virtual topology.

        A virtual node that names its pnode may be nowhere else. With `least_pcpus` one may be only where so many pCPUs
        are. Where the virtual nodes have distances, the guest is taken to reach less for what is further.
        """
        vcpus, memory = shares(vnodes)
        sizes = [vnode.memory_mib for vnode in vnodes]
        field = self.layout.load
        linear, crowd = self._by_node(vcpus, memory)
        weight = self._between(vcpus, memory) * _nearness(vnodes)
        return AssignmentProblem(
            linear=linear,
            weight=weight,
            way=np.maximum(field.relative - 1.0, 0.0),
            need_mib=self.need_mib(sizes),
            room_mib=self.available_mib,
            allowed=self._allowed(vnodes, least_pcpus),
            crowd=crowd,
            may_share=may_share,
        )

    def told(self, vnodes: Sequence[Vnode]) -> Floats:
        """V x V: by how much the `weight` of each pair is more, or less, than the prediction takes it to be, because
        the guest was told distances."""
        return np.asarray(self._between(*shares(vnodes)) * (_nearness(vnodes) - 1.0), dtype=np.float64)

    def _between(self, vcpus: Floats, memory: Floats) -> Floats:
        """V x V: what it costs that the vCPUs of one virtual node are one local latency away from another's memory."""
        a = self.layout.problem.assumptions
        each = self.subject.newcomer.bound(a) * (1.0 - a.own_share)
        return np.asarray(each * np.outer(vcpus, memory), dtype=np.float64)

    def within(self, nodes: Sequence[int]) -> Ground:
        """The same with only these nodes (indices) to be used."""
        inside = np.isin(np.arange(len(self.eligible)), nodes)
        return replace(self, eligible=self.eligible & inside, pcpus=self.pcpus * inside)

    def bears(self, vnodes: Sequence[Vnode], pnodes: Sequence[int]) -> bool:
        """Whether these virtual nodes may be on these pnodes (indices, no two the same), and have room there."""
        chosen = np.array(pnodes, dtype=np.intp)
        fits = self.need_mib([vnode.memory_mib for vnode in vnodes]) <= self.available_mib[chosen]
        return bool((fits & self._allowed(vnodes, None)[np.arange(len(vnodes)), chosen]).all())

    def objectives(self, pnodes: npt.NDArray[np.intp], vcpus: Floats, memory: Floats) -> Floats:
        """What the guest adds to the placement's objective with virtual nodes on these pnodes (K x V, none twice in a
        row) that have these shares of its vCPUs and memory (V or K x V each); K."""
        vcpus, memory = np.broadcast_to(vcpus, pnodes.shape), np.broadcast_to(memory, pnodes.shape)
        ties = self.layout.ties(0)
        costs = self._trial.costs(pnodes, vcpus, memory).total
        return np.asarray(costs + 2.0 * ties.own(pnodes, vcpus) + ties.missed(pnodes, vcpus), dtype=np.float64)

    def objective(self, vnodes: Sequence[Vnode]) -> float:
        """The same for virtual nodes that all have a pnode."""
        pnodes = [self.node_ids.index(vnode.pnode) for vnode in vnodes if vnode.pnode is not None]
        return float(self.objectives(np.array([pnodes], dtype=np.intp), *shares(vnodes))[0])

    @cached_property
    def _trial(self) -> Trial:
        """The guest with virtual nodes about to be tried."""
        own_share = self.layout.problem.assumptions.own_share
        return Trial.of(self.layout.load, replace(self.subject.newcomer, own_share=own_share))

    def _allowed(self, vnodes: Sequence[Vnode], least_pcpus: Sequence[int] | None) -> npt.NDArray[np.bool_]:
        index = self.layout.problem.machine.topology.node_index
        allowed = np.zeros((len(vnodes), len(self.eligible)), dtype=bool)
        for row, vnode in enumerate(vnodes):
            allowed[row] = self.vcpu_pcpus[sorted(vnode.vcpus)].all(axis=0)
            if vnode.pnode is None:
                allowed[row] &= self.eligible
            else:
                allowed[row] &= np.arange(len(self.eligible)) == index.get(vnode.pnode, -1)
            if least_pcpus is not None:
                allowed[row] &= self.pcpus >= least_pcpus[row]
        return allowed

    def _by_node(self, vcpus: Floats, memory: Floats) -> tuple[Floats, Floats]:
        """V x N: what a virtual node costs on each node by itself, and what each other one beside it adds."""
        field, newcomer = self.layout.load, self.subject.newcomer
        machine, a, pool = field.machine, field.assumptions, newcomer.pool
        cores = newcomer.allowed_cores if newcomer.allowed_cores is not None else machine.cores[pool]
        pcpus = newcomer.allowed_pcpus if newcomer.allowed_pcpus is not None else machine.pcpus[pool]
        before, weight = field.demand[pool], field.weight[pool]
        added = np.outer(vcpus, np.full(machine.nodes, newcomer.demand))
        total = field.demand.copy()
        total[pool] += newcomer.demand / machine.nodes
        fullness = float(machine.fullness(total)[pool, 0])
        slowed = sharing(before + added, cores, pcpus, fullness, a)
        alone = sharing(before, machine.cores[pool], machine.pcpus[pool], fullness, a)
        others = weight * (
            np.maximum(sharing(before + added, machine.cores[pool], machine.pcpus[pool], fullness, a) - alone, 0.0)
            + a.company * added / np.maximum(machine.pcpus[pool], 1.0)
        )
        own = vcpus[:, None] * (slowed - 1.0 + a.company * before / np.maximum(pcpus, 1.0))
        tied = newcomer.device_pull + self.layout.ties(0).by_node()
        local = a.own_share + (1.0 - a.own_share) * memory
        latency = newcomer.bound(a) * np.outer(vcpus * local, np.maximum(np.diag(field.relative) - 1.0, 0.0))
        linear = own + others + np.outer((vcpus + memory) / 2.0, tied) + latency
        together = sharing(before + 2.0 * added, cores, pcpus, fullness, a)
        crowd = SHARED_NODE + vcpus[:, None] * np.maximum(together - slowed, 0.0)
        return linear, np.asarray(crowd, dtype=np.float64)


def _nearness(vnodes: Sequence[Vnode]) -> Floats:
    """V x V: how much a guest reaches from each virtual node for each other one, 1 where it was told nothing, in
    proportion to 1 / distance (mean 1) where it was."""
    count = len(vnodes)
    if count < 2 or any(len(vnode.distances) != count for vnode in vnodes):
        return np.ones((count, count))
    distances = np.array([vnode.distances for vnode in vnodes], dtype=np.float64)
    near = 1.0 / np.maximum(distances, 1.0)
    np.fill_diagonal(near, 0.0)
    near *= count * (count - 1) / near.sum()
    np.fill_diagonal(near, 1.0)
    return near


def shares(vnodes: Sequence[Vnode]) -> tuple[Floats, Floats]:
    """The virtual nodes' shares of the guest's vCPUs and memory, V each."""
    vcpus = np.array([len(vnode.vcpus) for vnode in vnodes], dtype=np.float64)
    memory = np.array([vnode.memory_mib for vnode in vnodes], dtype=np.float64)
    return vcpus / max(vcpus.sum(), 1.0), memory / max(memory.sum(), 1.0)
