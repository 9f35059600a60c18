"""The NUMA-aware balancer keeps vCPUs near their memory, and yet lets none of them wait for it."""

from __future__ import annotations

import numpy as np
import pytest
from sim_scheduling import cpu_s, numa_machine, scheduler

from domicile.simulator.scheduler.stepper import Scheduler, SchedulerKind

FOUR_NODES = numa_machine(4, 2)


def with_memory_on(node: int, vcpus: int) -> Scheduler:
    made = scheduler(FOUR_NODES, SchedulerKind.NUMA, [vcpus])
    made.lost[:] = 0.3
    made.lost[:, node] = 0.0
    made.step(300)
    made.clear_counts()
    made.step(300)
    return made


def test_vcpus_come_to_their_memory() -> None:
    made = with_memory_on(2, 2)
    assert made.ran_ns[:, 2].sum() == made.ran_ns.sum() == 2 * 3e9


def test_no_vcpu_waits_for_a_near_pcpu() -> None:
    made = with_memory_on(2, 6)
    assert cpu_s(made)[0] == pytest.approx(6 * 3.0)
    assert made.ran_ns[:, 2].sum() == pytest.approx(2 * 3e9)


def test_hard_affinity_holds() -> None:
    hard = np.zeros((2, 8), dtype=np.bool_)
    hard[:, 0:2] = True
    made = scheduler(FOUR_NODES, SchedulerKind.NUMA, [2], hard=hard)
    made.lost[:] = 0.5
    made.lost[:, 3] = 0.0
    made.step(500)
    assert made.ran_ns[:, 0].sum() == made.ran_ns.sum()
