"""What the performance model found, handed to vCPUs, against the same in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from sim_scheduling import numa_machine, scheduler

from domicile.simulator.scheduler.paces import go_on
from domicile.simulator.scheduler.stepper import SchedulerKind


@pytest.mark.parametrize("nodes", [2, 8, 12])
def test_vcpus_go_on_as_numpy_says_to_the_last_bit(nodes: int) -> None:
    random = np.random.default_rng(nodes)
    made = scheduler(numa_machine(nodes, 2), SchedulerKind.CREDIT2, [2, 4, 1])
    row_of, domain_of_row = np.array([0, 0, 1, 1, 2, 2, 3]), np.array([0, 1, 1, 2])  # the second has two vnodes
    row_s = random.random((4, nodes)) * (random.random((4, nodes)) < 0.7)
    row_s[3] = 0.0  # the last has not run
    terms, gbs = random.random((5, 4)) - 0.3, random.random(4)
    longer, burden = random.random(nodes), 1.0 + random.random(4)
    ran_s = np.bincount(domain_of_row, weights=row_s.sum(axis=1)).astype(np.float64)
    made.step(3)
    made.vcpus["stretch"] = 1.3

    traffic, mean = go_on(made, row_of, domain_of_row, row_s, ran_s, terms, gbs, longer, burden)

    busy_s = row_s.sum(axis=1)
    stretch = 1.0 + terms[0] + terms[1] + terms[2] + terms[3] + terms[4]
    stretch = np.maximum(stretch, 0.1)
    paces = stretch * burden * (1.0 + (row_s * longer).sum(axis=1) / np.maximum(busy_s, 1e-9))
    paces[busy_s == 0.0] = 1.3  # as fast as when it ran
    assert made.vcpus["stretch"].tolist() == paces[row_of].tolist()
    assert traffic.tolist() == np.bincount(domain_of_row, weights=gbs).tolist()
    weighted = np.bincount(domain_of_row, weights=stretch * busy_s)
    assert mean.tolist() == [weighted[0] / ran_s[0], weighted[1] / ran_s[1], 1.0]
    for field in ("core_ns", "waited_ns", "wanted_ns", "moves", "node_moves"):
        assert not made.vcpus[field].any()
    assert not made.cpus["busy_ns"].any()
    assert not made.ran_ns.any()
