"""Guests that come and go for hours, drawn at random for a machine, always the same for a seed.

About as many are there as at the beginning: each stays for a time that is exponentially distributed, and so are the
times between two arrivals. Half of them follow a recorded VM from a random moment of the recording on, where there is
one, with the memory behaviour of a standard workload; the others do a standard workload (`loads.MIX`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from domicile.bench.loads import DOM0, EVENNESS, LEAST_MIB, MIX, SMALL
from domicile.simulator.guests import GuestSpec
from domicile.simulator.traces import RecordedVm
from domicile.simulator.workloads import WORKLOADS
from domicile.topology.model import Topology

__all__ = ["Arrivals", "Crowd", "come_and_go"]

RECORDED = ("specjbb", "web", "database", "key-value", "kernel-build", "office-hours")
"""What those who follow a recording do to memory."""

APART_S = 1.0
"""Between the starts of two guests that are there from the beginning."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """How much there is of it. `vcpus`: of all guests together, over the pCPUs; `memory`: over the memory, of which no
    more than `most_memory` is ever given away; `stay_s`: mean time that a guest stays."""

    vcpus: float = 1.5
    memory: float = 0.6
    most_memory: float = 0.85
    stay_s: float = 1800.0


@dataclass(frozen=True, slots=True)
class Arrivals:
    """`guests` without Dom0, in the order in which they start; `traces` are the recordings that some follow."""

    guests: tuple[GuestSpec, ...]
    traces: Mapping[str, RecordedVm]


def come_and_go(
    topology: Topology,
    seed: int,
    seconds: float,
    recorded: Mapping[str, RecordedVm] | None = None,
    crowd: Crowd = Crowd(),
) -> Arrivals:
    """Guests for so long; one whose memory would be too much beside that of the others does not come."""
    chance = np.random.default_rng(seed)
    nodes = [node for node in topology.nodes if topology.cpus_by_node[node.id]]
    cpus_per_node = len(topology.cpus) / len(nodes)
    sizes = [max(round(share * cpus_per_node), 1) for share in SMALL]
    population = max(round(crowd.vcpus * len(topology.cpus) / float(np.mean(sizes))), 2)
    whole_mib = sum(node.memory_mib for node in nodes) - DOM0.memory_mib
    mib_per_vcpu = crowd.memory * whole_mib / (population * float(np.mean(sizes)))
    traces: dict[str, RecordedVm] = {}
    there: list[GuestSpec] = []
    for number, start_s in enumerate(_starts(population, seconds, crowd, chance)):
        vcpus = int(chance.choice(sizes))
        memory_mib = max(int(vcpus * mib_per_vcpu * chance.gamma(EVENNESS) / EVENNESS), LEAST_MIB)
        end_s = start_s + float(chance.exponential(crowd.stay_s))
        workload, name = WORKLOADS[str(chance.choice(MIX))], None
        if recorded and number % 2:
            workload = WORKLOADS[str(chance.choice(RECORDED))]
            vm = recorded[str(chance.choice(sorted(recorded)))]
            name = f"{vm.name} for g{number}"
            traces[name] = _from(vm, float(chance.uniform(0.0, vm.until_s[-1])))
        guest = GuestSpec(f"g{number}", vcpus, memory_mib, workload, start_s=start_s, end_s=end_s, trace=name)
        beside_mib = sum(each.memory_mib for each in there if each.end_s > start_s)
        if beside_mib + memory_mib <= crowd.most_memory * whole_mib:
            there.append(guest)
    return Arrivals(tuple(there), {guest.trace: traces[guest.trace] for guest in there if guest.trace})


def _starts(population: int, seconds: float, crowd: Crowd, chance: np.random.Generator) -> list[float]:
    """When guests start: as many as there are to be at the beginning, then as many as end."""
    found = [APART_S * number for number in range(population)]
    now_s = found[-1]
    while True:
        now_s += float(chance.exponential(crowd.stay_s / population))
        if now_s >= seconds:
            return [start_s for start_s in found if start_s < seconds]
        found.append(round(now_s, 2))


def _from(vm: RecordedVm, moment_s: float) -> RecordedVm:
    """The recording from a moment on, and what was before it behind its end."""
    at = int(np.searchsorted(vm.until_s, moment_s, side="right"))
    at = min(at, len(vm.until_s) - 1)
    begins_s = float(vm.until_s[at - 1]) if at else 0.0
    until_s = np.concatenate([vm.until_s[at:] - begins_s, vm.until_s[:at] + float(vm.until_s[-1]) - begins_s])
    return replace(vm, until_s=until_s, level=np.concatenate([vm.level[at:], vm.level[:at]]))
