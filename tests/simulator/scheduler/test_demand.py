"""What vCPUs that want a part of the time get, and how much they are in each other's way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim_scheduling import numa_machine, scheduler

from domicile.simulator.scheduler.state import QUANTUM_NS
from domicile.simulator.scheduler.stepper import Scheduler, SchedulerKind

KINDS = list(SchedulerKind)
EIGHT_CORES = numa_machine(1, 16)
EIGHT_CORES = replace(EIGHT_CORES, cpus=tuple(replace(cpu, core=cpu.id // 2) for cpu in EIGHT_CORES.cpus))


def waits(made: Scheduler, vcpus: slice) -> float:
    """Time waited for each second run, of some vCPUs."""
    return float(made.vcpus["waited_ns"][vcpus].sum() / made.ran_ns[vcpus].sum())


@settings(max_examples=40, deadline=None)
@given(levels=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=6), quanta=st.integers(1, 3000), closed=st.booleans())
def test_who_wants_a_part_gets_it_whenever_one_looks(levels: list[float], quanta: int, closed: bool) -> None:
    made = scheduler(numa_machine(1, 8), SchedulerKind.CREDIT2, [1] * len(levels), levels=levels)
    made.demands["closed"] = closed
    made.step(quanta)
    wanted = np.array(levels) * quanta * QUANTUM_NS
    assert np.abs(made.vcpus["wanted_ns"] - wanted).max() <= 1.5 * QUANTUM_NS * (1 + 1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_busy_hardly_wait_for_others_where_a_pcpu_is_idle_most_of_the_time(kind: SchedulerKind) -> None:
    """16 pCPUs, 8 vCPUs that always run and 20 that do for three tenths of it: 14 on average, and more than 16 in 12 %
    of all quanta if their moments have nothing to do with each other."""
    made = scheduler(EIGHT_CORES, kind, [1] * 28, levels=[1.0] * 8 + [0.3] * 20)
    made.step(200)
    made.clear_counts()
    made.step(3000)
    assert waits(made, slice(0, 8)) < 0.12
    assert waits(made, slice(8, 28)) < 0.12


@pytest.mark.parametrize("kind", KINDS)
def test_who_idles_does_not_keep_others_off_a_core_of_their_own(kind: SchedulerKind) -> None:
    made = scheduler(EIGHT_CORES, kind, [1] * 28, levels=[1.0] * 8 + [0.01] * 20)
    made.step(200)
    made.clear_counts()
    made.step(3000)
    busy = slice(0, 8)
    assert made.vcpus["core_ns"][busy].sum() == pytest.approx(made.ran_ns[busy].sum(), rel=0.02)


@pytest.mark.parametrize("levels", [[0.3] * 40, [0.1] * 120])
def test_alike_ones_do_not_move_in_step(levels: list[float]) -> None:
    """How many want to run at once has the spread that it has by chance, in all pieces of time."""
    made = scheduler(numa_machine(1, 16), SchedulerKind.CREDIT2, [1] * len(levels), levels=levels)
    at_once = []
    for _ in range(600):
        made.clear_counts()
        made.step(1)
        at_once.append(np.count_nonzero(made.vcpus["wanted_ns"]))
    by_chance = np.sqrt(sum(level * (1 - level) for level in levels))
    for piece in np.split(np.array(at_once[100:]), 5):
        assert np.mean(piece) == pytest.approx(sum(levels), rel=0.05)
        assert np.std(piece) < 1.3 * by_chance
