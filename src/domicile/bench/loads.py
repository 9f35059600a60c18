"""Loads drawn at random, to compare placement policies on: guests of a kind for a machine, from a seed.

What is drawn are sizes and workloads; how much there is of it follows from the machine, so that each kind means the
same on two nodes and on eight. Nodes without CPUs are left out of the count, as policies leave them out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from domicile.simulator.guests import DeviceUse, GuestSpec
from domicile.simulator.workloads import WORKLOADS
from domicile.state.model import DomainType
from domicile.state.request import Group, GroupKind, Intent
from domicile.topology.model import Device, Topology

__all__ = ["KINDS", "Kind", "Load", "draw"]

MIX = (
    "specjbb",
    "specjbb",
    "stream",
    "sysbench-memory",
    "kernel-build",
    "key-value",
    "web",
    "database",
    "busy",
    "idle",
)
"""Workloads to draw from, one as likely as the other; SPECjbb twice."""

DOM0 = GuestSpec("Domain-0", 4, 768, WORKLOADS["dom0"], type=DomainType.PV)
LEAST_MIB = 256
EVENNESS = 4.0
"""Shape of the gamma distribution that memory is drawn from: half as wide as its mean."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of load. `vcpus`: of all guests together, over the pCPUs; `memory`: over the memory; `sizes`: vCPUs of a
    guest to draw from, as shares of a node's pCPUs (at least one vCPU). `ties`: pairs of guests that talk and want to
    be near, and guests with a device passed through."""

    line: str
    vcpus: float
    memory: float
    sizes: tuple[float, ...]
    ties: bool = False


SMALL = (0.0, 0.125, 0.25, 0.5)

KINDS: Mapping[str, Kind] = {
    "light": Kind("40 vCPUs for 100 pCPUs, 30 % of the memory", 0.4, 0.3, SMALL),
    "full": Kind("a vCPU for each pCPU, 70 % of the memory", 1.0, 0.7, SMALL),
    "crowded": Kind("two vCPUs for each pCPU, 70 % of the memory", 2.0, 0.7, SMALL),
    "tight": Kind("60 vCPUs for 100 pCPUs, 88 % of the memory", 0.6, 0.88, SMALL),
    "uneven": Kind("some guests wider than a node, 70 % of either", 0.7, 0.7, (0.0, 0.125, 0.25, 0.75, 1.25)),
    "ties": Kind("60 % of either, pairs that talk, devices passed through", 0.6, 0.6, SMALL, ties=True),
}
"""By name."""


@dataclass(frozen=True, slots=True)
class Load:
    """Guests for a machine, in the order in which they arrive, and what the administrator asks for them. `guests` are
    without Dom0; the machine has the devices that some of them use."""

    topology: Topology
    guests: tuple[GuestSpec, ...]
    intent: Intent


def draw(topology: Topology, kind: Kind, seed: int) -> Load:
    """A load of this kind, always the same for a seed."""
    chance = np.random.default_rng(seed)
    nodes = [node for node in topology.nodes if topology.cpus_by_node[node.id]]
    cpus_per_node = len(topology.cpus) / len(nodes)
    sizes = _sizes(kind, len(topology.cpus), cpus_per_node, chance)
    parts = np.array(sizes) * chance.gamma(EVENNESS, size=len(sizes))
    room_mib = (sum(node.memory_mib for node in nodes) - DOM0.memory_mib) * kind.memory
    memory_mib = np.maximum(parts / parts.sum() * room_mib, LEAST_MIB).astype(int)
    chosen = chance.choice(MIX, size=len(sizes))
    guests = tuple(
        GuestSpec(f"g{number:02}", vcpus, int(mib), WORKLOADS[workload])
        for number, (vcpus, mib, workload) in enumerate(zip(sizes, memory_mib, chosen, strict=True))
    )
    return _tied(topology, guests, chance) if kind.ties else Load(topology, guests, Intent())


def _sizes(kind: Kind, pcpus: int, cpus_per_node: float, chance: np.random.Generator) -> list[int]:
    """vCPUs of each guest; the last one that would be too much is cut to what is left."""
    left, sizes = max(round(kind.vcpus * pcpus), 1), []
    while left:
        size = min(max(round(float(chance.choice(kind.sizes)) * cpus_per_node), 1), left)
        sizes.append(size)
        left -= size
    return sizes


def _tied(topology: Topology, guests: Sequence[GuestSpec], chance: np.random.Generator) -> Load:
    """Of every four guests two talk, and want to be near; one has a device."""
    nodes = [node.id for node in topology.nodes if topology.cpus_by_node[node.id]]
    made, groups, devices = list(guests), [], []
    for first in range(0, len(guests) - 3, 4):
        web, base, disk = (made[first + offset] for offset in range(3))
        made[first] = replace(web, workload=WORKLOADS["web"], peers=(base.name,))
        made[first + 1] = replace(base, workload=WORKLOADS["database"])
        address = f"0000:{first:02x}:00.0"
        devices.append(Device(address, int(chance.choice(nodes)), "drawn"))
        made[first + 2] = replace(disk, devices=(address,), io=DeviceUse(address, 0.5))
        groups.append(Group(f"pair{first}", GroupKind.NEAR, (web.name, base.name)))
    order = chance.permutation(len(made))
    return Load(replace(topology, devices=tuple(devices)), tuple(made[at] for at in order), Intent(tuple(groups)))
