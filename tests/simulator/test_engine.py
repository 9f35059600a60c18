"""The engine: domains come and go, memory moves, time passes whatever a workload says, a seed decides everything."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from sim_scheduling import numa_machine

from domicile.simulator.engine import Epoch, Simulation
from domicile.simulator.guests import GuestSpec
from domicile.simulator.run import Sample, simulate
from domicile.simulator.scenario import Scenario, ScenarioDomain, ScenarioEvent, ScenarioWorkload
from domicile.simulator.scheduler.stepper import SchedulerKind
from domicile.simulator.totals import Summary, Totals
from domicile.simulator.workloads import WORKLOADS, Demand

MACHINE = numa_machine(4, 2)
DOM0 = GuestSpec("Domain-0", 2, 512, WORKLOADS["idle"])
BUSY = GuestSpec("busy", 2, 1024, WORKLOADS["busy"])


class Kept:
    """The points of a series."""

    def __init__(self) -> None:
        self.points: list[Sample] = []

    def write(self, sample: Sample) -> None:
        self.points.append(sample)


def run(
    *guests: GuestSpec, seconds: float = 10.0, kind: SchedulerKind = SchedulerKind.CREDIT2
) -> tuple[Simulation, Summary]:
    made = Simulation(MACHINE, [DOM0, *guests], kind, seed=1)
    totals = Totals(len(guests) + 1, 4)
    made.run(seconds, totals.add)
    return made, totals.summary(tuple(guest.name for guest in made.guests), MACHINE.node_ids, made.refused, True)


def pinned(node: int, memory: int, **changed: object) -> GuestSpec:
    cpus = frozenset(MACHINE.cpus_by_node[node])
    return replace(BUSY, hard=cpus, memory_nodes=(memory,), **changed)  # type: ignore[arg-type]


def test_local_is_faster_than_remote_by_distance() -> None:
    slow = {}
    for memory in (1, 0, 2):
        _, summary = run(pinned(1, memory))
        slow[memory] = summary.domains[1].slowdown or 0.0
        assert summary.domains[1].remote_share == (0.0 if memory == 1 else 1.0)
    assert slow[1] < 1.05
    assert slow[1] < slow[0] < slow[2]


def test_domains_come_and_go() -> None:
    made, summary = run(replace(BUSY, start_s=2.0, end_s=5.0))
    found = summary.domains[1]
    assert found.there_s == pytest.approx(3.0)
    assert found.cpus == pytest.approx(2.0, rel=0.01)
    assert made.memory.free_mib.sum() == pytest.approx(run(seconds=1.0)[0].memory.free_mib.sum())


def test_who_finds_no_memory_is_refused_and_the_rest_goes_on() -> None:
    _, summary = run(replace(BUSY, name="big", memory_mib=4 * 8192), BUSY)
    assert "needs 32768 MiB" in summary.domains[1].refused
    assert summary.domains[1].there_s == 0
    assert summary.domains[2].cpus == pytest.approx(2.0, rel=0.01)


def test_memory_that_moves_arrives_and_ends_the_remote_accesses() -> None:
    made = Simulation(MACHINE, [DOM0, pinned(1, 3)], seed=1)
    remote: list[float] = []
    made.at(2.0, lambda: made.move_memory("busy", [1]))
    made.run(10.0, lambda epoch: remote.append(float(epoch.remote[1])))
    assert remote[0] == 1.0
    assert remote[-1] == 0.0
    assert sorted(remote, reverse=True) == remote
    assert made.memory.by_node("busy") == {1: 1024 * 256}


def test_a_balloon_gives_memory_back() -> None:
    made = Simulation(MACHINE, [DOM0, pinned(1, 1)], seed=1)
    made.at(1.0, lambda: made.set_balloon("busy", 512))
    made.run(10.0, lambda _: None)
    assert made.memory.size_mib("busy") == 512


def test_what_a_domain_wants_changes() -> None:
    """It boots on one vCPU, waits, and works on both: each for two seconds."""
    events = [
        ScenarioEvent(0.0, "busy", demand="busy", busy_vcpus=1),
        ScenarioEvent(2.0, "busy", demand="none"),
        ScenarioEvent(4.0, "busy", demand="busy"),
        ScenarioEvent(1.0, "nobody", demand="busy"),
    ]
    none = ScenarioWorkload("none", level=0.0)
    asked = Scenario((ScenarioDomain("busy"),), duration_s=6.0, workloads=(none,), events=tuple(events))
    kept = Kept()
    simulate(asked, MACHINE, [DOM0, BUSY], None, [(None, None)] * len(events), sinks=[kept], every_s=2.0)
    ran = [point.summary.domains[1].cpus for point in kept.points]
    assert ran == pytest.approx([1.0, 0.0, 2.0], abs=0.05)


def test_vcpus_follow_a_pin() -> None:
    made = Simulation(MACHINE, [DOM0, BUSY], seed=1)
    made.at(2.0, lambda: made.pin("busy", frozenset(MACHINE.cpus_by_node[3]), None))
    epochs: list[Epoch] = []
    made.run(4.0, epochs.append)
    assert epochs[-1].ran_s[1, 3] == pytest.approx(2.0)


def test_a_guest_that_sees_its_nodes_keeps_its_accesses_there() -> None:
    wide = GuestSpec("wide", 4, 2048, WORKLOADS["busy"], memory_nodes=(1, 2), soft=frozenset(range(2, 6)))
    _, blind = run(wide, kind=SchedulerKind.CREDIT)
    _, seeing = run(replace(wide, sees_nodes=True), kind=SchedulerKind.CREDIT)
    assert blind.domains[1].remote_share == pytest.approx(0.5, abs=0.05)
    assert seeing.domains[1].remote_share == pytest.approx(0.05, abs=0.03)


@pytest.mark.parametrize("level", [float("nan"), float("inf"), -1.0, 1e30])
def test_no_workload_stalls_the_clock(level: float) -> None:
    wild = replace(BUSY.workload, demand=Demand(level=level, closed=False))
    made, summary = run(replace(BUSY, workload=wild), seconds=5.0)
    assert made.now_s == 5.0
    assert 0.0 <= summary.domains[1].cpus <= 2.0
    assert np.isfinite(made.scheduler.vcpus["pending_ns"]).all()


def scenario(**changed: object) -> Scenario:
    made = Scenario(domains=(ScenarioDomain("a"),), duration_s=20.0, warm_up_s=5.0)
    return msgspec.structs.replace(made, **changed)


def test_a_seed_decides_everything() -> None:
    web = replace(BUSY, workload=WORKLOADS["web"])
    first, again, other = (simulate(scenario(seed=seed), MACHINE, [DOM0, web], None) for seed in (1, 1, 2))
    assert first == again
    assert first.domains[1] != other.domains[1]


def test_what_was_simulated_before_a_stop_counts() -> None:
    seen: list[float] = []
    found = simulate(scenario(), MACHINE, [DOM0, BUSY], None, progress=seen.append, stop=lambda: seen[-1] >= 12.0)
    assert not found.complete
    assert found.seconds == pytest.approx(7.0)
    assert found.domains[1].cpus == pytest.approx(2.0, rel=0.01)


def test_the_series_adds_up_to_the_summary() -> None:
    kept = Kept()
    found = simulate(scenario(warm_up_s=0.0), MACHINE, [DOM0, BUSY], None, sinks=[kept], every_s=4.0)
    assert [point.time_s for point in kept.points] == [4.0, 8.0, 12.0, 16.0, 20.0]
    assert sum(point.summary.domains[1].work_s for point in kept.points) == pytest.approx(found.domains[1].work_s)
