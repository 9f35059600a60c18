"""Credit keeps soft affinity where credit2 does not, gives credit by weight, and steals work whatever the distance."""

from __future__ import annotations

import numpy as np
import pytest
from sim_scheduling import cpu_s, numa_machine, scheduler

from domicile.simulator.scheduler.stepper import SchedulerKind

FOUR_NODES = numa_machine(4, 2)


def test_soft_affinity_holds() -> None:
    """Two busy vCPUs with soft affinity for one node of two pCPUs: they stay, unlike under credit2."""
    soft = np.zeros((2, 8), dtype=np.bool_)
    soft[:, 2:4] = True
    made = scheduler(FOUR_NODES, SchedulerKind.CREDIT, [2], soft=soft)
    made.step(1000)
    assert made.ran_ns[:, 1].sum() == made.ran_ns.sum()


def test_idle_pcpus_take_work_from_far_away() -> None:
    soft = np.zeros((8, 8), dtype=np.bool_)
    soft[:, 0:2] = True
    made = scheduler(FOUR_NODES, SchedulerKind.CREDIT, [8], soft=soft)
    made.step(300)
    assert cpu_s(made)[0] == pytest.approx(24.0, rel=0.01)
    assert (made.ran_ns.sum(axis=0) > 0).all()


def test_heavier_ones_get_more() -> None:
    made = scheduler(numa_machine(1, 2), SchedulerKind.CREDIT, [2] * 4, weights=[256.0, 256.0, 512.0, 2048.0])
    made.step(6000)
    given_s = cpu_s(made)
    assert given_s[0] == pytest.approx(given_s[1], rel=0.05)
    assert given_s[1] < given_s[2] < given_s[3]


def test_running_vcpus_leave_a_shared_core() -> None:
    made = scheduler(numa_machine(1, 4, threads=2), SchedulerKind.CREDIT, [1] * 4)
    made.step(100)
    made.clear_counts()
    made.step(100)
    assert made.work_ns.sum() / 1e9 == pytest.approx(4.0)
