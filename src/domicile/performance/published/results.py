"""Published results that the model reproduces in sign and size: Faggioli, the SMT squeeze, AsymSched."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from domicile.performance.assumptions import DEFAULT, Assumptions
from domicile.performance.curves import Floats
from domicile.performance.evaluate import evaluate
from domicile.performance.machine import Machine
from domicile.performance.machine_load import MachineLoad
from domicile.topology.check import checked
from domicile.topology.model import Cpu, Node
from domicile.topology.presets import load_preset

__all__ = ["FAGGIOLI", "UNITS_FULL", "FaggioliRow", "Squeeze", "best_against_worst", "faggioli", "smt_squeeze"]

FAGGIOLI = {
    "SPECjbb2005": {2: (43275.0, 49594.0), 6: (29716.0, 33672.0), 10: (19193.0, 21891.0)},
    "sysbench memory": {2: (487.8, 550.9), 6: (410.0, 454.0), 10: (302.5, 321.8)},
}
"""Xen commit ebce2d836c (December 2012): VMs to throughput of each, unpinned and NUMA-placed. Host of 16 pCPUs on 2
nodes, 12 GB; VMs of 2 vCPUs and 960 MB."""

UNITS_FULL = replace(DEFAULT, smt_yield=0.0)
"""For programs that keep a core's units busy with one thread, as `openssl speed rsa4096` does, by which xen-api PR 6763
has its loss reproduced: the second adds nothing (assumed; Marr et al. measured loads that wait for memory)."""

REMOTE = 1.6
"""Remote over local latency of that host, which the source does not tell: as Broadwell's, the least of the measured
2-node Xeons."""
CACHE_MIB = {"SPECjbb2005": 4.0, "sysbench memory": 0.0}
"""What a VM would keep in the cache: 2 MiB a vCPU, a core's part of it, and nothing where memory is only scanned."""


@dataclass(frozen=True, slots=True)
class FaggioliRow:
    """A row predicted: throughput of a VM, unpinned and placed, beside what was measured."""

    load: str
    vms: int
    unpinned: float
    placed: float
    measured_unpinned: float
    measured_placed: float

    @property
    def gain(self) -> float:
        """Predicted gain of placement."""
        return self.placed / self.unpinned - 1.0

    @property
    def measured_gain(self) -> float:
        """Measured gain."""
        return self.measured_placed / self.measured_unpinned - 1.0

    @property
    def errors(self) -> tuple[float, float]:
        """Relative errors of the throughputs, unpinned and placed."""
        return self.unpinned / self.measured_unpinned - 1.0, self.placed / self.measured_placed - 1.0


def xeon(cores: int, remote: float) -> Machine:
    """Two nodes of so many cores with two threads each."""
    threads = cores * 2
    local = DEFAULT.local_latency_ns
    return Machine.of(
        checked(
            source="published",
            nodes=[Node(0, 65536), Node(1, 65536)],
            cpus=[Cpu(cpu, cpu % threads // 2, cpu // threads, cpu // threads) for cpu in range(2 * threads)],
            latency_ns=((local, local * remote), (local * remote, local)),
        )
    )


def faggioli(assumptions: Assumptions = DEFAULT) -> list[FaggioliRow]:
    """All rows, calibrated on those of 2 VMs: `memory_bound` from their ratio, and the unit of throughput."""
    machine = xeon(4, REMOTE)
    rows = []
    for load, table in FAGGIOLI.items():
        ratio = table[2][1] / table[2][0]
        low, high = 0.0, 1.0
        while high - low > 1e-4:
            bound = (low + high) / 2
            placed, unpinned = _throughputs(machine, load, 2, bound, assumptions)
            low, high = (bound, high) if placed / unpinned < ratio else (low, bound)
        unit = table[2][1] / placed
        for vms, (measured_unpinned, measured_placed) in table.items():
            placed, unpinned = _throughputs(machine, load, vms, bound, assumptions)
            rows.append(FaggioliRow(load, vms, unpinned * unit, placed * unit, measured_unpinned, measured_placed))
    return rows


def _throughputs(machine: Machine, load: str, vms: int, bound: float, assumptions: Assumptions) -> tuple[float, float]:
    """Work that a VM gets done, placed and unpinned: every other VM on the other node with its memory, or vCPUs and
    memory anywhere."""
    placed = np.zeros((vms, 2))
    placed[np.arange(vms), np.arange(vms) % 2] = 1.0
    spread = np.full((vms, 2), 0.5)
    both = np.stack([placed, spread])
    result = evaluate(
        machine,
        MachineLoad.of(2.0 * both, both, memory_bound=bound, cache_mib=CACHE_MIB[load], demand_vcpus=np.full(vms, 2.0)),
        assumptions,
    )
    mean = result.rate_vcpus.mean(axis=-1)
    return float(mean[0]), float(mean[1])


@dataclass(frozen=True, slots=True)
class Squeeze:
    """A VM on one node instead of two: by how much idle latency and CPU throughput fall, as shares."""

    latency: float
    throughput: float


def smt_squeeze(assumptions: Assumptions = DEFAULT) -> Squeeze:
    """xen-api PR 6763: a VM of 32 vCPUs, all busy, on one node of 16 cores with 2 threads, instead of two such nodes.

    The source has 20 % less idle latency and 40 to 75 % less CPU throughput with OpenSSL, POV-Ray and OpenVINO; it does
    not tell the machine. The loss is that of programs whose second thread on a core adds `assumptions.smt_yield`.
    """
    machine = xeon(16, REMOTE)
    one, two = np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]])
    shares = np.stack([one, two])
    idle = evaluate(machine, MachineLoad.of(0.01 * shares, shares, traffic_gbs=0.0), assumptions).latency_ns[:, 0]
    load = MachineLoad.of(32.0 * shares, shares, traffic_gbs=0.0, memory_bound=0.0, demand_vcpus=np.array([32.0]))
    rate = evaluate(machine, load, assumptions).rate_vcpus[:, 0]
    return Squeeze(1.0 - float(idle[0] / idle[1]), 1.0 - float(rate[0] / rate[1]))


def best_against_worst(nodes: int = 2, traffic_gbs: float = 2.5, assumptions: Assumptions = DEFAULT) -> float:
    """Time on the worst set of so many nodes of the 8-node Opteron over that on the best: a program with a thread on
    every core of them, its memory spread over them; a core of it can read 3.7 GB/s from its own node.

    AsymSched (Lepers et al., USENIX ATC 2015) found about 2 on a machine of this kind, for programs that need much
    bandwidth.
    """
    file = load_preset("opteron-8n48c")
    machine = Machine.of(file.topology, measured=file)
    sets = np.array(list(itertools.combinations(range(8), nodes)))
    shares: Floats = np.zeros((len(sets), 1, 8))
    shares[np.arange(len(sets))[:, None], 0, sets] = 1.0 / nodes
    load = MachineLoad.of(6.0 * nodes * shares, shares, traffic_gbs=traffic_gbs)
    slowdown = evaluate(machine, load, assumptions).slowdown[:, 0]
    return float(slowdown.max() / slowdown.min())
