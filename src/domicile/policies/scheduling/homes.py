"""Soft affinity that follows memory: the nodes where a domain's vCPUs do best, its memory being where it is.

What the administrator set is left alone: hard affinity, and soft affinity finer than whole nodes. Whole nodes are what
libxl and domicile give when they place a domain; these are changed when enough is gained by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from domicile.performance.accesses import Accesses
from domicile.performance.assumptions import Assumptions
from domicile.performance.curves import Floats
from domicile.performance.field import Field
from domicile.performance.machine import Machine
from domicile.performance.newcomer import Newcomer
from domicile.performance.remembered import remembered_machine
from domicile.performance.tenants import Tenants
from domicile.policies.counting import counted
from domicile.policies.known import io_pull, known_tenants
from domicile.policies.scheduling.plan import SoftChange
from domicile.state.model import Domain, Snapshot
from domicile.state.request import Intent
from domicile.topology.ids import format_ids

__all__ = ["Movable", "follow_memory", "sorted_out"]

MEMORY_NODE = 0.1
"""A node with this share of a domain's memory is one that its vCPUs may want to be on."""


@dataclass(frozen=True, slots=True)
class Movable:
    """A domain whose vCPUs may be given homes: its row in the tenants, and the CPUs of its cpupool."""

    domain: Domain
    row: int
    pool_cpus: frozenset[int]


def _why_not(domain: Domain, pool: frozenset[int], held: Mapping[tuple[str, int], frozenset[int]]) -> str:
    """Why a domain's vCPUs are none of our business; "" if they are. `held`: hard affinity that we gave."""
    if domain.id == 0:
        return "Dom0's place is that of `domicile dom0`"
    if domain.paused:
        return "it is paused"
    for vcpu in domain.vcpus:
        if vcpu.online and not vcpu.hard_affinity >= pool and held.get((domain.uuid, vcpu.id)) != vcpu.hard_affinity:
            return f"the administrator set the hard affinity of vCPU {vcpu.id}: CPUs {format_ids(vcpu.hard_affinity)}"
    return ""


def sorted_out(
    snapshot: Snapshot, held: Mapping[tuple[str, int], frozenset[int]]
) -> tuple[list[Movable], list[tuple[str, str]]]:
    """The domains whose vCPUs may be moved, and those that are left alone (by name) with the reason."""
    everywhere = frozenset(cpu.id for cpu in snapshot.topology.cpus)
    pools = {pool.name: (pool.cpus & everywhere) or everywhere for pool in snapshot.cpupools}
    found, left = list[Movable](), list[tuple[str, str]]()
    for row, domain in enumerate(snapshot.domains):
        pool = pools.get(domain.cpupool, everywhere)
        why = _why_not(domain, pool, held)
        if why:
            left.append((domain.name, why))
        else:
            found.append(Movable(domain, row, pool))
    return found, left


def follow_memory(
    snapshot: Snapshot,
    candidates: list[Movable],
    load: Mapping[str, float],
    start: float,
    assumptions: Assumptions,
    intent: Intent = Intent(),  # noqa: B008 - immutable
) -> list[SoftChange]:
    """Changes of soft affinity that gain at least `start` each, those of the busiest domains first.

    No domain is sent further away from its memory than it is. By the model that can pay, where its neighbours get the
    cores that it leaves; under credit2 it does not come about, since its balancer knows neither which cores are idle
    nor whom it does a favour, while the way to memory is paid for all the time. Who has no room is let go (`holds`).

    `intent` says how hard domains lean on memory and what devices count.
    """
    machine = remembered_machine(snapshot.topology, snapshot.cpupools, assumptions)
    tenants = counted(known_tenants(machine, snapshot, intent, load, assumptions))
    # of most domains nothing is known to be attached, which is nothing to work out for each of them
    nothing = np.zeros(machine.nodes)
    attached = set(np.flatnonzero(tenants.device_share.any(axis=1)).tolist())
    pulls = {
        each.row: io_pull(
            machine, snapshot, tenants.device_share[each.row], each.domain.backends, intent.devices, assumptions
        )
        for each in candidates
        if each.row in attached or each.domain.backends
    }
    drawn = {row for row, pull in pulls.items() if pull.any()}
    field = Field.of(machine, tenants, assumptions)
    settled = _settled(machine, tenants, field, start, assumptions)
    unsettled = [each for each in candidates if each.row in drawn or not settled[each.row]]
    found = []
    for each in sorted(unsettled, key=lambda one: (-tenants.demand[one.row], one.domain.name)):
        if each.domain.vnodes or _hand_made(snapshot, each):
            continue
        newcomer = Newcomer.of(tenants, each.row, pulls.get(each.row, nothing))
        vcpus, memory = tenants.vcpu_share[each.row], tenants.memory_share[each.row]
        without = field.with_domain(newcomer, vcpus, memory, -1)
        sets = _sets(machine, newcomer.pool, vcpus, memory)
        if not len(sets):
            continue
        pcpus = machine.pcpus[newcomer.pool]
        shares = np.vstack([vcpus, sets * pcpus / (sets * pcpus).sum(axis=1, keepdims=True)])
        everywhere = np.broadcast_to(np.arange(machine.nodes), shares.shape)
        tried = without.try_sets(newcomer, everywhere, shares, np.broadcast_to(memory, shares.shape))
        costs = np.where(tried.latency <= tried.latency[0] + 1e-9, tried.total, np.inf)
        best = int(np.argmin(costs[1:])) + 1
        gain = float(costs[0] - costs[best])
        if gain < start:
            continue
        nodes = tuple(machine.topology.node_ids[node] for node in np.flatnonzero(sets[best - 1]))
        change = _change(snapshot, each, nodes, memory, gain)
        # a hold can keep a domain off where its soft affinity is already: that is for `holds` to end
        if any(before != change.cpus for _, before in change.before):
            found.append(change)
        field = without.with_domain(newcomer, shares[best], memory)
    return found


def _settled(
    machine: Machine, tenants: Tenants, field: Field, start: float, assumptions: Assumptions
) -> npt.NDArray[np.bool_]:
    """Which domains can be left as they are without weighing anything: memory as near as it can be, a core to each vCPU
    on all of their nodes. Most of a host's, most of the time.
    """
    usable = machine.pcpus.sum(axis=0) > 0
    away = np.einsum("dm,nm->dn", tenants.memory_share, field.relative)
    now = Accesses.of(tenants.vcpu_share, tenants.memory_share, tenants.own_share).mean(field.relative)
    best = np.where(usable, away, np.inf).min(axis=1)
    bound = assumptions.memory_bound if tenants.memory_bound is None else tenants.memory_bound
    near = bound * (now - best) < start / 2
    crowded = field.demand.sum(axis=0) > machine.cores.sum(axis=0)
    lonely = ~((tenants.vcpu_share > 0) & crowded).any(axis=1)
    return np.asarray(near & lonely)


def _sets(machine: Machine, pool: int, vcpus: Floats, memory: Floats) -> Floats:
    """Sets of nodes worth a look, K x N of 0 and 1, smaller ones first: each node, those with memory, all."""
    usable = machine.pcpus[pool] > 0
    rows = [np.eye(machine.nodes)[node] for node in np.flatnonzero(usable)]
    for members in (memory >= MEMORY_NODE, (memory >= MEMORY_NODE) | (vcpus > 0), np.ones(machine.nodes, dtype=bool)):
        both = np.where(members & usable, 1.0, 0.0)
        if both.any():
            rows.append(both)
    return np.array(rows).reshape(len(rows), machine.nodes)


def _hand_made(snapshot: Snapshot, each: Movable) -> bool:
    """Whether some vCPU's soft affinity is finer than whole nodes."""
    for soft in {vcpu.soft_affinity for vcpu in each.domain.vcpus}:
        for cpus in snapshot.topology.cpus_by_node.values():
            part = soft.intersection(cpus) & each.pool_cpus
            if part and part != each.pool_cpus.intersection(cpus):
                return True
    return False


def _change(snapshot: Snapshot, each: Movable, nodes: tuple[int, ...], memory: Floats, gain: float) -> SoftChange:
    topology = snapshot.topology
    on = ", ".join(
        f"{share:.0%} on node {topology.node_ids[index]}" for index, share in enumerate(memory) if share >= 0.01
    )
    names = f"node{'s' if len(nodes) > 1 else ''} {format_ids(nodes)}"
    return SoftChange(
        domain=each.domain.name,
        uuid=each.domain.uuid,
        nodes=nodes,
        cpus=topology.cpus_of(nodes) & each.pool_cpus,
        before=tuple((vcpu.id, vcpu.soft_affinity) for vcpu in each.domain.vcpus),
        gain=gain,
        reason=f"its memory is {on}: on {names} all domains together gain {gain:.3f} in slowdown",
    )
