"""What a placement comes to: guests placed by a policy, then simulated, or put before the performance model.

A policy is told what a host would tell it: free memory, who is where, and, guests arriving one by one, how busy those
are that run already (their workload's mean, as `--window` measures it). Of a newcomer it knows the number of vCPUs.

The simulator lets a scheduler decide where vCPUs run, whatever policy has asked for. `performance.evaluate` is the
model alone, each vCPU spread evenly over the CPUs that its policy gave it, as if no scheduler ever moved one away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from domicile.bench.daemons import managed_by
from domicile.bench.live_host import LiveHost
from domicile.bench.loads import DOM0, Load
from domicile.errors import DomicileError
from domicile.performance.evaluate import evaluate
from domicile.performance.machine import Machine
from domicile.performance.machine_load import MachineLoad
from domicile.policies.plan import Placement
from domicile.policies.registry import policy
from domicile.policies.whatif import with_guest
from domicile.simulator.engine import Simulation
from domicile.simulator.epoch import Epoch
from domicile.simulator.guests import GuestSpec
from domicile.simulator.host_memory import HostMemory
from domicile.simulator.scheduler.stepper import SchedulerKind
from domicile.simulator.totals import Totals
from domicile.simulator.workloads import Demand
from domicile.state.model import Domain, Snapshot, Vcpu

__all__ = ["Lost", "busy_share", "evaluated", "placed", "simulated"]

APART_S = 0.1
"""Between two guests' starts. Were all to start at once, each would choose its pCPU before there is any load to see,
and stay on a core's second thread beside an idle core."""
WARM_UP_S = 30.0
"""After the last one has started: six rounds of the manager, which has seen what there is to see by then."""
COUNTED_S = 30.0
MIDNIGHT_H = 24.0


class Lost(DomicileError):
    """A policy, or the simulated host, refused a guest: the comparison would be of different loads."""


@dataclass(frozen=True, slots=True)
class _Arrived:
    """The host so far, and the demand of who is there."""

    snapshot: Snapshot
    demand: dict[str, float]


def busy_share(demand: Demand) -> float:
    """Mean share of a pCPU that a vCPU of this demand wants, for a time just after midnight."""
    if demand.pattern == "on-off":
        return demand.level * demand.on_s / (demand.on_s + demand.off_s)
    if demand.pattern == "diurnal":
        return demand.level * (1.0 + demand.amplitude * math.cos(2.0 * math.pi * demand.peak_h / MIDNIGHT_H))
    return demand.level


def placed(load: Load, name: str, *, together: bool) -> tuple[Placement, ...]:
    """Where a policy puts the guests: all in one call, or each in a call of its own, on the host as it is then."""
    decide, booted = policy(name), _booted(load)
    if together:
        requests = [guest.request() for guest in load.guests]
        return decide(booted.snapshot, requests, load.intent, load=booted.demand).placements
    found: list[Placement] = []
    arrived = booted
    for guest in load.guests:
        # groups are the administrator's, and name guests that are still to come
        known = {each.name for each in load.guests[: len(found) + 1]}
        groups = tuple(group for group in load.intent.groups if known >= set(group.domains))
        plan = decide(arrived.snapshot, [guest.request()], replace(load.intent, groups=groups), load=arrived.demand)
        (placement,) = plan.placements
        found.append(placement)
        snapshot = with_guest(arrived.snapshot, guest.request(), placement, frozenset(placement.nodes))
        arrived = _Arrived(snapshot, {**arrived.demand, guest.name: guest.vcpus * busy_share(guest.workload.demand)})
    return tuple(found)


def _booted(load: Load) -> _Arrived:
    """The host with Dom0 alone."""
    memory, topology = HostMemory(load.topology), load.topology
    memory.boot_dom0(DOM0)
    everywhere = frozenset(cpu.id for cpu in topology.cpus)
    vcpus = tuple(Vcpu(vcpu, None, everywhere, everywhere) for vcpu in range(DOM0.vcpus))
    pages = memory.by_node(DOM0.name)
    dom0 = Domain(0, DOM0.name, "", vcpus, DOM0.memory_mib, DOM0.memory_mib, pages_by_node=pages)
    nodes = tuple(replace(node, free_mib=int(free)) for node, free in zip(topology.nodes, memory.free_mib, strict=True))
    demand = {DOM0.name: DOM0.vcpus * busy_share(DOM0.workload.demand)}
    return _Arrived(Snapshot(replace(topology, nodes=nodes), (dom0,), 0.0), demand)


def _seated(guest: GuestSpec, placement: Placement) -> GuestSpec:
    soft = _preferred(placement)
    return replace(guest, soft=soft, hard=soft if placement.hard else None, memory_nodes=placement.nodes)


def _preferred(placement: Placement) -> frozenset[int] | None:
    """The CPUs that its vCPUs are to run on, None for all."""
    return None if placement.soft_affinity is None else frozenset().union(*placement.soft_affinity)


def simulated(
    load: Load, placements: Sequence[Placement], scheduler: SchedulerKind, seed: int, *, managed: bool = False
) -> tuple[float, ...]:
    """Each guest's slowdown under a scheduler, over `COUNTED_S` after all have started and warmed up; with `managed`
    domicile's manager has its rounds from the beginning on.

    Raises `Lost` where a guest found no memory, or got nothing done.
    """
    seated = [_seated(guest, at) for guest, at in zip(load.guests, placements, strict=True)]
    guests = [DOM0, *(replace(guest, start_s=APART_S * number) for number, guest in enumerate(seated))]
    counted_from_s = APART_S * len(load.guests) + WARM_UP_S
    simulation = Simulation(load.topology, guests, scheduler, seed=seed)
    names, nodes = tuple(guest.name for guest in guests), load.topology.node_ids
    counted = Totals(len(names), len(nodes))

    def count(epoch: Epoch) -> None:
        if epoch.start_s >= counted_from_s:
            counted.add(epoch)

    with managed_by(LiveHost(simulation, count), managed) as daemon:
        while counted.seconds < COUNTED_S:
            daemon.round()
    if simulation.refused:
        raise Lost("; ".join(f"{name}: {why}" for name, why in simulation.refused.items()))
    found = counted.summary(names, nodes, simulation.refused, complete=True)
    slowdowns = tuple(guest.slowdown for guest in found.domains[1:] if guest.slowdown is not None)
    if len(slowdowns) < len(load.guests):
        raise Lost("a guest got nothing done")
    return slowdowns


def evaluated(load: Load, placements: Sequence[Placement]) -> tuple[float, ...]:
    """Each guest's slowdown by the performance model, vCPUs staying on the nodes of their affinity."""
    machine = Machine.of(load.topology)
    index = load.topology.node_index
    everywhere = frozenset(cpu.id for cpu in load.topology.cpus)
    shape = (len(load.guests), machine.nodes)
    share, memory, dma = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    node_of = {device.address: device.node for device in load.topology.devices}
    for row, (guest, placement) in enumerate(zip(load.guests, placements, strict=True)):
        share[row], _ = machine.count(_preferred(placement) or everywhere, 0)
        for node, mib in placement.memory_mib.items():
            memory[row, index[node]] = mib
        device = node_of.get(guest.io.device) if guest.io else None
        if guest.io and device is not None:
            dma[row, index[device]] = guest.io.gbs
    demand = np.array([guest.vcpus * busy_share(guest.workload.demand) for guest in load.guests])
    number = {guest.name: row for row, guest in enumerate(load.guests)}
    pairs = [(number[guest.name], number[peer]) for guest in load.guests for peer in guest.peers]
    works = [guest.workload for guest in load.guests]
    found = evaluate(
        machine,
        MachineLoad.of(
            demand[:, None] * share / share.sum(axis=1, keepdims=True),
            memory / memory.sum(axis=1, keepdims=True),
            traffic_gbs=np.array([work.traffic_gbs for work in works]),
            read_fraction=np.array([work.read_fraction for work in works]),
            memory_bound=np.array([work.memory_bound for work in works]),
            cache_mib=np.array([work.cache_mib for work in works]),
            dma_gbs=dma,
            device_bound=np.array([guest.io.bound if guest.io else 0.0 for guest in load.guests]),
            peers=np.array(pairs, dtype=np.intp).reshape(-1, 2),
            messages_per_s=np.array([works[first].messages_per_s * demand[first] for first, _ in pairs]),
        ),
    )
    return tuple(found.slowdown.tolist())
