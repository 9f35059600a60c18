"""A machine that is remembered is the machine that would have been worked out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from domicile.performance.assumptions import Assumptions
from domicile.performance.machine import Machine
from domicile.performance.remembered import forget_machines, remembered_machine
from domicile.state.model import Cpupool
from domicile.topology.model import Cpu, Device, Node, Topology


@pytest.fixture(autouse=True)
def _nothing_known() -> None:
    forget_machines()


def topology(free_mib: int = 1000) -> Topology:
    nodes = tuple(Node(node, 4096, free_mib) for node in range(2))
    return Topology(nodes, tuple(Cpu(cpu, cpu, 0, cpu // 2) for cpu in range(4)), ((10, 21), (21, 10)))


def test_what_is_free_and_attached_is_that_of_the_topology_asked_for() -> None:
    before = remembered_machine(topology(1000))
    now = replace(topology(200), devices=(Device("0000:01:00.0", 1),))
    machine = remembered_machine(now)
    assert machine.topology is now
    assert before.topology.nodes[0].free_mib == 1000
    assert machine.latency_ns is before.latency_ns
    assert machine.remoteness is before.remoteness or np.array_equal(machine.remoteness, before.remoteness)


@pytest.mark.parametrize(
    "changed",
    [
        replace(topology(), distances=((10, 30), (30, 10))),
        replace(topology(), nodes=(Node(0, 4096, 1), Node(1, 2048, 1))),
        replace(topology(), nodes=(Node(0, 4096, 1), Node(7, 4096, 1)), cpus=(Cpu(0, 0, 0, 0), Cpu(1, 1, 0, 7))),
        replace(topology(), cpus=topology().cpus[:3]),
        replace(topology(), latency_ns=((70.0, 130.0), (130.0, 70.0))),
        replace(topology(), bandwidth_gbs=((30.0, 10.0), (10.0, 30.0))),
    ],
)
def test_another_machine_is_not_taken_for_it(changed: Topology) -> None:
    remembered_machine(topology())
    found, wanted = remembered_machine(changed), Machine.of(changed)
    for name in ("latency_ns", "bandwidth_gbs", "cores", "pcpus", "memory_mib", "node_of_cpu", "core_of_cpu"):
        assert np.array_equal(getattr(found, name), getattr(wanted, name)), name


def test_pools_and_assumptions_tell_machines_apart() -> None:
    remembered_machine(topology())
    pools = [Cpupool("Pool-0", frozenset({0, 2}), ""), Cpupool("other", frozenset({1, 3}), "")]
    assert remembered_machine(topology(), pools).pcpus.tolist() == [[1, 1], [1, 1]]
    assert remembered_machine(topology(), (), Assumptions(local_latency_ns=100.0)).best_latency_ns == 100.0
    assert remembered_machine(topology()).pools == ("Pool-0",)
