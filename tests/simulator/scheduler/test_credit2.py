"""Credit2's run queues and its balancer, which takes vCPUs off their soft affinity."""

from __future__ import annotations

import numpy as np
import pytest
from sim_scheduling import numa_machine, scheduler

from domicile.simulator.scheduler.stepper import SchedulerKind
from domicile.topology.run_queues import RunqueuePer, arrange

FOUR_NODES = numa_machine(4, 2)


def test_run_queues_are_sockets() -> None:
    # as Xen's boot messages say for this machine: CPUs 0 and 1 in run queue 0, 2 and 3 in 1, ...
    assert arrange(FOUR_NODES).queue.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("per", "queues"),
    [
        (RunqueuePer.CPU, 64),
        (RunqueuePer.CORE, 32),
        (RunqueuePer.SOCKET, 4),
        (RunqueuePer.NODE, 4),
        (RunqueuePer.ALL, 4),
    ],
)
def test_arrangements(per: RunqueuePer, queues: int) -> None:
    made = arrange(numa_machine(2, 16, threads=2), per)
    assert made.count == queues
    assert np.bincount(made.queue).max() <= 16


def test_siblings_share_a_run_queue() -> None:
    machine = numa_machine(1, 24, threads=2)
    queue = arrange(machine).queue
    assert (queue[0::2] == queue[1::2]).all()
    assert sorted(np.bincount(queue)) == [16, 16, 16]


def test_whole_cores_come_first() -> None:
    made = scheduler(numa_machine(1, 4, threads=2), SchedulerKind.CREDIT2, [1] * 4)
    made.step(100)
    assert len(set(made.cpus["core"][made.vcpus["cpu"]])) == 4
    assert (made.work_ns == 1e9).all()


def test_siblings_slow_each_other() -> None:
    made = scheduler(numa_machine(1, 1, threads=2), SchedulerKind.CREDIT2, [1, 1])
    made.step(100)
    assert made.work_ns.sum() / 1e9 == pytest.approx(1.25)


@pytest.mark.parametrize("busy", [7, 8, 11, 12, 20])
def test_who_is_held_on_a_part_of_a_run_queue_shares_it(busy: int) -> None:
    """Hard affinity for half of a run queue, where more want to run than fit, beside a half that is nearly idle: all of
    the first in line find room but those who wait there, and who has run until now makes room for them."""
    hard = np.zeros((busy + 2, 12), dtype=np.bool_)
    hard[:busy, :6] = True
    hard[busy:, 6:] = True
    made = scheduler(numa_machine(1, 12), SchedulerKind.CREDIT2, [busy, 2], hard=hard)
    made.step(1000)
    ran_s = made.ran_ns.sum(axis=1) / 1e9
    assert ran_s[:busy].sum() == pytest.approx(60.0)
    assert ran_s[:busy] == pytest.approx([60.0 / busy] * busy, rel=0.02)
    assert ran_s[busy:] == pytest.approx([10.0, 10.0])


def test_the_balancer_ignores_soft_affinity() -> None:
    """Two busy vCPUs with soft affinity for one node of two pCPUs, all else idle: balance takes one away for good."""
    soft = np.zeros((2, 8), dtype=np.bool_)
    soft[:, 2:4] = True
    made = scheduler(FOUR_NODES, SchedulerKind.CREDIT2, [2], soft=soft)
    made.step(1)
    assert made.ran_ns[:, 1].sum() == made.ran_ns.sum()
    made.step(500)
    made.clear_counts()
    made.step(500)
    assert made.ran_ns[:, 1].sum() <= made.ran_ns.sum() / 2


def test_hard_affinity_stands_against_the_balancer() -> None:
    hard = np.zeros((2, 8), dtype=np.bool_)
    hard[:, 2:4] = True
    made = scheduler(FOUR_NODES, SchedulerKind.CREDIT2, [2], hard=hard)
    made.step(1000)
    assert made.ran_ns[:, 1].sum() == made.ran_ns.sum()


def test_run_queues_that_are_settled_together_come_to_the_same_as_one_by_one() -> None:
    """They are settled together where a domain has a cap; one that nobody can come to makes no difference."""
    found = []
    for cap in (0.0, 1000.0):
        levels = [1.0, 0.3, 0.7, 0.05]
        machine = numa_machine(4, 2, threads=2)
        made = scheduler(machine, SchedulerKind.CREDIT2, [6, 9, 7, 8], caps=[cap, 0.0, cap, 0.0], levels=levels)
        made.demands["closed"] = np.arange(30) % 3 > 0
        made.step(700)
        fields = ("pending_ns", "credit", "load", "core_ns", "waited_ns", "processor", "queue", "joined", "moves")
        found.append([made.vcpus[field].tolist() for field in fields] + [made.ran_ns.tolist()])
    assert found[0] == found[1]
    assert sum(found[0][-2]) > 0
