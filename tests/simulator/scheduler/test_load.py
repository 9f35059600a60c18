"""Credit2's averages of load and its balancer, beside Xen's own arithmetic and its loop over all pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import numba
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sim_scheduling import numa_machine, scheduler

from domicile.simulator.scheduler import load as loads_of
from domicile.simulator.scheduler.demand import ON_OFF
from domicile.simulator.scheduler.state import QUANTUM_NS
from domicile.simulator.scheduler.stepper import Scheduler, SchedulerKind

UNIT = 1 << 18
"""Xen's 1.0 of load."""


def _averages(average: float, load: float, of: int, quanta: int) -> list[float]:
    found = []
    for quantum in range(quanta):
        average = loads_of.averaged(average, load, of, quantum)
        found.append(average)
    return found


def _balance(vcpus: Any, queues: Any, lines: Any, hard: Any, local: int) -> None:
    loads_of.balance(vcpus, queues, lines, hard, hard, local)


# ways in from Python
averages = cast("Callable[[float, float, int, int], list[float]]", numba.njit(_averages))
balance = cast("Callable[[Any, Any, Any, Any, int], None]", numba.njit(_balance))


@given(st.integers(0, 4 * UNIT), st.sampled_from([0.0, 0.3, 1.0, 2.0, 3.0]), st.integers(0, 500))
def test_an_average_is_an_exponential_one_but_for_units(start: int, load: float, of: int) -> None:
    found = averages(start / UNIT, load, of, 400)
    for quanta, value in enumerate(found, 1):
        exact = load + (start / UNIT - load) * math.exp(-quanta * QUANTUM_NS / (1 << 30))
        assert value * UNIT == int(value * UNIT)
        # an exponential is a little faster than what Xen steps through; a unit is lost or won with each rounding
        assert abs(value - exact) <= 0.005 * abs(start / UNIT - load) + 250 / UNIT


@given(st.integers(0, UNIT), st.sampled_from([1.0, 2.0]), st.integers(0, 500))
def test_load_that_lasts_is_reached_to_the_last_unit(start: int, load: float, of: int) -> None:
    found = averages(start / UNIT, load, of, 2500)
    assert found[-1] == load
    assert max(found) == load


def members(made: Scheduler, queue: int) -> list[int]:
    """The vCPUs of a run queue as they joined it: Xen's `rqd->svc`."""
    return sorted(np.flatnonzero(made.vcpus["queue"] == queue).tolist(), key=lambda vcpu: made.vcpus["joined"][vcpu])


def exchange(made: Scheduler, local: int) -> dict[int, int]:
    """What `balance_load` of credit2.c would do, in its own order: vCPU to its new run queue."""
    loads = [round(load * UNIT) for load in made.queues["load"].tolist()]
    own = [round(load * UNIT) for load in made.vcpus["load"].tolist()]
    other, most = -1, 0
    for queue, load in enumerate(loads):
        if queue != local and abs(loads[local] - load) > most:
            other, most = queue, abs(loads[local] - load)
    cpus = (made.queues["end_cpu"] - made.queues["first_cpu"]).tolist()
    under = max(loads[local], loads[-1]) < max(cpus[local], cpus[-1]) * UNIT
    if other < 0 or most < (UNIT if under else UNIT // 8):
        return {}
    best: tuple[int | None, int | None] = (None, None)

    def consider(push: int | None, pull: int | None) -> None:
        nonlocal best, most
        moved = (0 if push is None else own[push]) - (0 if pull is None else own[pull])
        left = abs(loads[local] - moved - (loads[other] + moved))
        if left < most:
            best, most = (push, pull), left

    pushes = [vcpu for vcpu in members(made, local) if made.hard[vcpu, other]]
    pulls = [vcpu for vcpu in members(made, other) if made.hard[vcpu, local]]
    for push in pushes:
        for pull in pulls:
            consider(push, pull)
        consider(push, None)
    for pull in pulls:
        consider(None, pull)
    pushed, pulled = best
    return ({} if pushed is None else {pushed: other}) | ({} if pulled is None else {pulled: local})


Queue = Sequence[tuple[int, bool]]


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=6), min_size=2, max_size=4),
    st.lists(st.integers(-2, 2), min_size=4, max_size=4),
    st.sampled_from([UNIT // 4, UNIT // 2]),
    st.randoms(use_true_random=False),
)
def test_it_moves_whom_xen_would_move(
    queues: list[Queue], off: list[int], size: int, order: np.random.Generator
) -> None:
    """Loads of few kinds, so that many pairs are equally good; sums that are a unit or two off; some are pinned."""
    machine = numa_machine(4, 2)
    told = [(load, pinned, queue) for queue, there in enumerate(queues) for load, pinned in there]
    if not told:
        return
    hard = np.ones((len(told), 8), dtype=np.bool_)
    for vcpu, (_, pinned, queue) in enumerate(told):
        if pinned:
            hard[vcpu] = np.arange(8) // 2 == queue
    made = scheduler(machine, SchedulerKind.CREDIT2, [1] * len(told), hard=hard)
    joined = list(range(1, len(told) + 1))
    order.shuffle(joined)
    for vcpu, (load, _, queue) in enumerate(told):
        made.vcpus["queue"][vcpu], made.vcpus["joined"][vcpu] = queue, joined[vcpu]
        made.vcpus["load"][vcpu] = load * size / UNIT
    made.queues["load"] = [
        max(sum(made.vcpus["load"][made.vcpus["queue"] == queue]) + off[queue] / UNIT, 0.0) for queue in range(4)
    ]
    at = 0
    for queue in range(4):
        there = members(made, queue)
        made.queues["first"][queue], made.queues["end"][queue] = at, at + len(there)
        made.lines["member"][at : at + len(there)] = there
        at += len(there)
    for local in range(4):
        expected = made.vcpus["queue"].copy()
        for vcpu, queue in exchange(made, local).items():
            expected[vcpu] = queue
        again = made.vcpus.copy(), made.queues.copy()
        balance(*again, made.lines.copy(), made.hard, local)
        assert again[0]["queue"].tolist() == expected.tolist()


def test_busy_guests_never_come_to_rest() -> None:
    """Three guests of two busy vCPUs on four run queues of two pCPUs, and a Dom0 that hardly does anything: they change
    places for ever. A trace of Xen's scheduler (4.17, xentrace) shows it, and that a load of exactly 2 begins it."""
    made = scheduler(numa_machine(4, 2), SchedulerKind.CREDIT2, [4, 2, 2, 2])
    made.demands["closed"][:4] = False
    made.demands["kind"][:4], made.demands["on_s"][:4], made.demands["off_s"][:4] = ON_OFF, 0.02, 1.1
    made.step(6000)
    made.clear_counts()
    made.step(6000)
    assert made.vcpus["node_moves"][4:].sum() > 20
