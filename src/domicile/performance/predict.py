"""The prediction: how slow every domain runs for an assignment of vCPUs and memory to nodes.

    slowdown = 1 + memory latency + CPU load + memory bandwidth + devices

1.0 is a domain with a core to each vCPU, its memory on the machine's fastest node and the bandwidth of that node to
itself. Where accesses go is `accesses`: over all memory of a domain, or with virtual nodes mostly to the vCPU's own
node. Terms add up: each is the loss that it alone causes, which is exact to first order and keeps them explainable.
This is the first order of `evaluate`, kept beside it because sums by node and by pair of nodes are what `Field` needs
to try thousands of places for a newcomer without evaluating everybody anew; tests hold the two together. What it leaves
out of the model: caches (but for `company`), links that several pairs of nodes share, messages, and that traffic falls
as latency rises, but for each controller and link by itself (`curves.crowding`, with the usual `memory_bound` for
all). Weights count to first order: what domains on a node lose because its pCPUs are short is divided
between them in inverse proportion to their weight, the same in the mean (weighted by demand) as without. Shapes: D
domains, N nodes; `vcpu_share` and `memory_share` may have leading dimensions, so that thousands of assignments are one
call.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from domicile.performance.accesses import Accesses
from domicile.performance.assumptions import DEFAULT, Assumptions
from domicile.performance.curves import Floats, crowding, sharing_parts
from domicile.performance.machine import Machine
from domicile.performance.tenants import Tenants
from domicile.performance.ties import device_pull, remoteness

__all__ = ["Prediction", "own_pressure", "predict"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What each term adds to each domain's slowdown; arrays of shape ... x D."""

    latency: Floats
    cpu: Floats
    bandwidth: Floats
    devices: Floats

    @property
    def slowdown(self) -> Floats:
        """Predicted slowdown of every domain, ... x D."""
        return np.asarray(1.0 + self.latency + self.cpu + self.bandwidth + self.devices, dtype=np.float64)


def predict(machine: Machine, tenants: Tenants, assumptions: Assumptions = DEFAULT) -> Prediction:
    """Every domain's slowdown. `tenants` may hold many assignments: shares of shape ... x D x N."""
    vcpus, memory, demand = tenants.vcpu_share, tenants.memory_share, tenants.demand
    busy = demand[:, None] * vcpus
    relative = machine.relative
    present = vcpus.sum(axis=-1)

    bound = assumptions.memory_bound if tenants.memory_bound is None else tenants.memory_bound
    traffic_gbs = assumptions.traffic_gbs if tenants.traffic_gbs is None else tenants.traffic_gbs
    accesses = Accesses.of(vcpus, memory, tenants.own_share)
    latency = bound * (accesses.mean(relative) - present)
    latency = np.where(memory.any(axis=-1), latency, 0.0)
    cpu = _cpu(machine, tenants, busy, assumptions)

    traffic = accesses.scaled(demand).scaled(traffic_gbs).together
    loaded = _pressure(machine, traffic, assumptions)
    felt = accesses.mean(relative, loaded)
    bandwidth = bound * (felt - own_pressure(machine, demand, assumptions, traffic_gbs) * present)
    bandwidth = np.where(memory.any(axis=-1), bandwidth, 0.0)

    pull = device_pull(remoteness(machine), tenants.device_share, assumptions)
    devices = ((vcpus + memory) / 2.0 * pull).sum(axis=-1)
    return Prediction(latency, cpu, bandwidth, np.asarray(devices, dtype=np.float64))


def own_pressure(
    machine: Machine, demand: Floats, assumptions: Assumptions, traffic_gbs: Floats | float | None = None
) -> Floats:
    """Pressure that domains of these demands put on the memory of their best node when alone: the part of it that is
    no slowdown, since nothing could be faster. More than a core's worth of demand for each core is not counted.
    `traffic_gbs`: of a busy vCPU of each."""
    cores, peaks = machine.own_memory
    if not peaks.size:
        return np.zeros_like(demand)
    busy = np.minimum(np.asarray(demand)[..., None], cores)
    each = assumptions.traffic_gbs if traffic_gbs is None else traffic_gbs
    return crowding(np.asarray(each * (busy / peaks).min(axis=-1), dtype=np.float64), assumptions)


def _cpu(machine: Machine, tenants: Tenants, busy: Floats, assumptions: Assumptions) -> Floats:
    member = np.eye(len(machine.pools))[tenants.pool]
    by_pool = np.einsum("dq,...dn->...qn", member, busy)
    fullness = machine.fullness(by_pool)
    paired, short = sharing_parts(by_pool, machine.cores, machine.pcpus, fullness, assumptions)
    crowd = by_pool / np.maximum(machine.pcpus, 1.0)
    felt = (paired - 1.0 + assumptions.company * crowd)[..., tenants.pool, :]
    if tenants.weight is None:
        felt = felt + short[..., tenants.pool, :]
    else:
        heavy = np.einsum("dq,...dn->...qn", member, tenants.weight[:, None] * busy)
        mean = heavy / np.where(by_pool > 0, by_pool, 1.0)
        felt = felt + (mean * short)[..., tenants.pool, :] / tenants.weight[:, None]
    alone = assumptions.company * busy / np.maximum(machine.pcpus, 1.0)[tenants.pool]
    return np.asarray((tenants.vcpu_share * (felt - alone)).sum(axis=-1) + tenants.confined, dtype=np.float64)


def _pressure(machine: Machine, traffic: Floats, assumptions: Assumptions) -> Floats:
    """Latency added on the way from each node to each node, as a share of idle latency; ... x N x N."""
    peak = machine.bandwidth_gbs
    controller = crowding(traffic.sum(axis=-2) / peak.diagonal(), assumptions)
    link = crowding(traffic / peak, assumptions) * (1.0 - np.eye(machine.nodes))
    return np.asarray(controller[..., None, :] + link, dtype=np.float64)
