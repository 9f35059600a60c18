"""What every scheduler has to keep: shares by weight, work conservation, affinity, caps, determinism."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim_scheduling import cpu_s, numa_machine, scheduler, shares

from domicile.simulator.scheduler.demand import CONSTANT, DIURNAL, ON_OFF, STEP, TRACE
from domicile.simulator.scheduler.stepper import Scheduler, SchedulerKind

KINDS = list(SchedulerKind)
ONE_NODE = numa_machine(1, 2)
FOUR_NODES = numa_machine(4, 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weights", [(256, 256), (256, 512), (128, 256, 1024), (100, 900)])
def test_shares_follow_weights(kind: SchedulerKind, weights: tuple[int, ...]) -> None:
    # as many vCPUs in every domain as pCPUs: each could use them all
    made = scheduler(ONE_NODE, kind, [2] * len(weights), weights=[float(weight) for weight in weights])
    made.step(200)
    made.clear_counts()
    made.step(6000)
    assert shares(made) == pytest.approx(np.array(weights) / sum(weights), abs=0.03)
    assert cpu_s(made).sum() == pytest.approx(2 * 60.0)


def test_shares_of_very_unlike_weights() -> None:
    """Credit2 keeps them. Credit runs all that are OVER in turns of 30 ms: it keeps their order, and no more."""
    weights = [256.0, 256.0, 512.0, 2048.0]
    found = {}
    for kind in (SchedulerKind.CREDIT2, SchedulerKind.CREDIT):
        made = scheduler(ONE_NODE, kind, [2] * 4, weights=weights)
        made.step(200)
        made.clear_counts()
        made.step(6000)
        found[kind] = shares(made)
    assert found[SchedulerKind.CREDIT2] == pytest.approx(np.array(weights) / sum(weights), abs=0.03)
    light, same, middle, heavy = found[SchedulerKind.CREDIT]
    assert light == pytest.approx(same, abs=0.03)
    assert same < middle < heavy


@pytest.mark.parametrize("kind", KINDS)
def test_what_one_leaves_the_others_get(kind: SchedulerKind) -> None:
    made = scheduler(ONE_NODE, kind, [2, 2, 2], levels=[0.1, 1.0, 1.0])
    made.step(3000)
    assert cpu_s(made) == pytest.approx([6.0, 27.0, 27.0], rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(st.data())
def test_no_pcpu_idles_while_somebody_could_use_it(kind: SchedulerKind, data: st.DataObject) -> None:
    """Any hard affinity: no vCPU waits beside an idle pCPU of its run queue that it may use."""
    cpus = 2 * len(FOUR_NODES.nodes)
    count = data.draw(st.integers(1, 12))
    hard = np.zeros((count, cpus), dtype=np.bool_)
    for vcpu in range(count):
        hard[vcpu, data.draw(st.lists(st.integers(0, cpus - 1), min_size=1))] = True
    made = scheduler(FOUR_NODES, kind, [1] * count, hard=hard)
    for _ in range(30):
        made.clear_counts()
        queue_of = made.vcpus["queue"].copy()
        made.step(1)
        waiting = np.flatnonzero(made.vcpus["waited_ns"] > 0)
        idle = np.flatnonzero(made.cpus["busy_ns"] == 0)
        for vcpu in waiting.tolist():
            within = made.cpus["queue"][idle] == queue_of[vcpu]
            assert not hard[vcpu, idle[within]].any()
        ran = made.ran_ns.sum(axis=1)
        assert (ran <= 1e7 + 1e-3).all()
        assert (made.cpus["busy_ns"] <= 1e7 + 1e-3).all()
        assert hard[np.flatnonzero(ran), made.vcpus["cpu"][ran > 0]].all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cap", [0.25, 0.5, 1.5])
def test_caps_hold_and_nobody_else_pays(kind: SchedulerKind, cap: float) -> None:
    made = scheduler(ONE_NODE, kind, [2, 2], caps=[cap, 0.0])
    made.step(300)
    made.clear_counts()
    made.step(3000)
    given_s = cpu_s(made)
    assert given_s[0] <= 30.0 * cap * 1.02
    assert given_s[0] == pytest.approx(30.0 * min(cap, 1.0), rel=0.05)
    assert given_s.sum() == pytest.approx(60.0)


def _drawn(kind: SchedulerKind, seed: int) -> Scheduler:
    made = scheduler(FOUR_NODES, kind, [2] * 8, seed=seed)
    made.demands["kind"], made.demands["on_s"], made.demands["off_s"] = ON_OFF, 0.1, 0.1
    made.step(1000)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_decides_everything(kind: SchedulerKind) -> None:
    first, again, other = _drawn(kind, 3), _drawn(kind, 3), _drawn(kind, 4)
    assert (first.ran_ns == again.ran_ns).all()
    assert (first.vcpus == again.vcpus).all()
    assert (first.ran_ns != other.ran_ns).any()


@pytest.mark.parametrize("kind", KINDS)
def test_looking_at_demand_in_every_quantum_changes_nothing(kind: SchedulerKind) -> None:
    """It is looked at where a step begins, and else only when it can have changed."""
    found = []
    for quanta in (1, 7, 700):
        made = scheduler(FOUR_NODES, kind, [2] * 8, seed=5, levels=[0.8, 0.3] * 4)
        made.demands["kind"] = np.array([CONSTANT, ON_OFF, DIURNAL, TRACE])[np.arange(16) % 4]
        made.demands["closed"] = np.arange(16) % 3 > 0
        made.demands["on_s"], made.demands["off_s"] = 0.3, 0.15
        made.steps = np.array([(0.1, 1.0), (0.105, 0.2), (0.5, 0.7), (1.29, 0.0)], dtype=STEP)
        made.demands["end"] = len(made.steps)
        for _ in range(700 // quanta):
            made.step(quanta)
        fields = ("wanted_ns", "pending_ns", "credit", "core_ns", "waited_ns", "processor", "moves", "node_moves")
        found.append([made.vcpus[field].tolist() for field in fields] + [made.ran_ns.tolist()])
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("kind", [SchedulerKind.CREDIT2, SchedulerKind.CREDIT])
def test_a_queue_with_room_keeps_soft_affinity(kind: SchedulerKind) -> None:
    """One node of soft affinity, vCPUs that leave it half empty: they stay."""
    soft = np.zeros((4, 8), dtype=np.bool_)
    for vcpu in range(4):
        soft[vcpu, 2 * vcpu : 2 * vcpu + 2] = True
    made = scheduler(FOUR_NODES, kind, [1] * 4, soft=soft)
    made.step(1000)
    assert (made.ran_ns[np.arange(4), np.arange(4)] == made.ran_ns.sum(axis=1)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_goes_frees_its_share(kind: SchedulerKind) -> None:
    made = scheduler(ONE_NODE, kind, [2, 2])
    made.step(100)
    for vcpu in (0, 1):
        made.stop(vcpu)
    made.clear_counts()
    made.step(100)
    assert cpu_s(made) == pytest.approx([0.0, 2.0])
