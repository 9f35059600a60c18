"""Migrations and balloons in a running simulation: how long they take, who does not run meanwhile, where it ends."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from sim_scheduling import numa_machine

from domicile.simulator.engine import Epoch, Simulation
from domicile.simulator.guests import GuestSpec
from domicile.simulator.memory.balloon import Manners
from domicile.simulator.migrations import MigrationRecord
from domicile.simulator.scheduler.stepper import SchedulerKind
from domicile.simulator.workloads import WORKLOADS
from domicile.state.model import DomainType

MACHINE = numa_machine(4, 2)
DOM0 = GuestSpec("Domain-0", 2, 512, WORKLOADS["idle"], soft=frozenset({0, 1}))
LIGHT = replace(WORKLOADS["busy"], dirty_mib_s=20.0, working_set=1.0)
GUEST = GuestSpec("g", 2, 1024, LIGHT, hard=frozenset(MACHINE.cpus_by_node[1]), memory_nodes=(2,), type=DomainType.PVH)
MIB = 1 << 20


def migrated(
    guest: GuestSpec, *nodes: int, at_s: float = 2.0, until_s: float = 30.0, rate_gbs: float = 0.5
) -> tuple[Simulation, MigrationRecord, list[Epoch]]:
    made = Simulation(MACHINE, [DOM0, guest], seed=1)
    epochs: list[Epoch] = []
    made.at(at_s, lambda: made.migrate(guest.name, nodes, rate_gbs))
    made.run(until_s, epochs.append)
    return made, made.memory.migrations[0], epochs


@pytest.mark.parametrize("at_s", [2.0, 2.37])
@pytest.mark.parametrize("rate_gbs", [0.25, 1.0])
def test_a_live_migration_is_a_geometric_row(at_s: float, rate_gbs: float) -> None:
    _, found, _ = migrated(GUEST, 1, at_s=at_s, rate_gbs=rate_gbs)
    first_s = 1024 * MIB / (rate_gbs * 1e9)
    ratio = 2 * 20.0 * MIB / (rate_gbs * 1e9)
    assert found.duration_s == pytest.approx(first_s / (1 - ratio), rel=0.02)
    assert found.sent_mib * MIB / (rate_gbs * 1e9) == pytest.approx(found.duration_s)
    # round by round, a page that is written twice being copied once
    left, pages_s = 1024.0 * 256, rate_gbs * 1e9 / 4096
    for _ in range(found.rounds):
        left = 262144 * (1 - math.exp(-2 * 20.0 * 256 * (left / pages_s) / 262144))
    assert found.pause_s == pytest.approx(left / pages_s, rel=1e-6)
    assert left < 50 or found.rounds == 5
    assert found.outcome == "done"


def test_a_migrated_guest_is_at_home_where_its_memory_is() -> None:
    soft = frozenset(MACHINE.cpus_by_node[1])
    made = Simulation(MACHINE, [DOM0, replace(GUEST, hard=None, soft=soft)], SchedulerKind.CREDIT, seed=1)
    epochs: list[Epoch] = []
    made.at(2.0, lambda: made.migrate("g", [3]))
    made.run(10.0, epochs.append)
    assert made.memory.by_node("g") == {3: 1024 * 256}
    assert (epochs[1].remote[1], epochs[1].home[1]) == (1.0, 1.0)
    home = next(domain for domain in made.snapshot().domains if domain.name == "g").vcpus[0].soft_affinity
    assert home == frozenset(MACHINE.cpus_by_node[3])
    assert (epochs[-1].remote[1], epochs[-1].home[1]) == (0.0, 1.0)


@pytest.mark.parametrize("kind", [DomainType.PV, DomainType.PVH])
def test_it_does_not_run_while_it_is_paused(kind: DomainType) -> None:
    heavy = replace(GUEST, type=kind, workload=replace(LIGHT, dirty_mib_s=2000.0))
    _, found, epochs = migrated(heavy, 1)
    ran_s = sum(float(epoch.ran_s[1].sum()) for epoch in epochs)
    assert 2 * 30.0 - ran_s == pytest.approx(2 * found.pause_s, abs=0.05)
    assert found.pause_s > 0.5
    waited_s = sum(float(epoch.waited_s[1]) for epoch in epochs)
    assert waited_s == pytest.approx(2 * found.pause_s, abs=0.3)


def test_work_that_arrives_meanwhile_is_done_later() -> None:
    workload = replace(LIGHT, demand=replace(LIGHT.demand, level=0.3, closed=False))
    guest = replace(GUEST, type=DomainType.PV, workload=workload, memory_nodes=(1,))
    _, found, epochs = migrated(guest, 1, rate_gbs=2.0)
    assert found.pause_s == pytest.approx(2 * 1024 * MIB / 2e9)
    done_s = sum(float(epoch.work_s[1]) for epoch in epochs)
    assert done_s == pytest.approx(30.0 * 2 * 0.3, rel=0.02)


def test_pv_is_saved_and_restored_without_a_second_copy() -> None:
    tight = replace(GUEST, type=DomainType.PV, memory_mib=20000, memory_nodes=(2, 3))
    _, found, _ = migrated(tight, 1, rate_gbs=20.0)
    assert (found.how, found.outcome, found.rounds) == ("save-restore", "done", 0)
    assert found.duration_s == pytest.approx(found.pause_s)
    assert found.duration_s == pytest.approx(2 * 20000 * MIB / 20e9)


@pytest.mark.parametrize(
    ("guest", "why"),
    [
        (replace(GUEST, memory_mib=20000), "needs 20000 MiB"),
        (replace(GUEST, hard=None, memory_nodes=(2, 3), sees_nodes=True), "vNUMA"),
    ],
)
def test_what_cannot_be_migrated_runs_on_where_it_is(guest: GuestSpec, why: str) -> None:
    made, found, epochs = migrated(guest, 1, until_s=6.0)
    before = made.memory.free_mib.sum()
    assert found.outcome.startswith("refused: ")
    assert why in found.outcome
    assert found.duration_s is None
    assert epochs[-1].ran_s[1].sum() == pytest.approx(2.0, rel=0.01)
    assert before == pytest.approx(migrated(guest, 1, at_s=5.9, until_s=1.0 + 5.0)[0].memory.free_mib.sum())


def test_a_second_one_meanwhile_is_refused_and_an_end_cleans_up() -> None:
    made = Simulation(MACHINE, [DOM0, replace(GUEST, end_s=4.0)], seed=1)
    made.at(2.0, lambda: made.migrate("g", [1], 0.1))
    made.at(3.0, lambda: made.migrate("g", [0], 0.1))
    made.run(6.0, lambda _: None)
    outcomes = [record.outcome for record in made.memory.migrations]
    assert outcomes == ["ended with the domain", "refused: g is being migrated already"]
    alone = Simulation(MACHINE, [DOM0], seed=1)
    alone.run(1.0, lambda _: None)
    assert made.memory.free_mib.sum() == alone.memory.free_mib.sum()


def test_copying_is_charged_to_the_machine() -> None:
    _, _, epochs = migrated(replace(GUEST, workload=WORKLOADS["idle"]), 1, rate_gbs=0.5)
    quiet, copying = epochs[1].controller, epochs[3].controller
    # Dom0 copies on node 0: through its pipe there, from node 2 and to node 1
    assert all(copying[node] > quiet[node] + 0.01 for node in (0, 1, 2))
    assert copying[3] == pytest.approx(quiet[3], abs=1e-3)


def test_a_balloon_answers_late_and_not_fully() -> None:
    manners = Manners(delay_s=3.0, pages_per_s=50 * 256, least_pages=600 * 256, kept_share=0.25)
    made = Simulation(MACHINE, [DOM0, replace(GUEST, balloon=manners), replace(GUEST, name="prompt")], seed=1)
    for name in ("g", "prompt"):
        made.at(1.5, lambda name=name: made.set_balloon(name, 512))  # type: ignore[misc]
    made.at(30.0, lambda: made.set_balloon("g", 100))
    made.run(40.0, lambda _: None)
    late, prompt, again = made.memory.balloons
    assert (late.had_mib, late.asked_mib, late.has_mib) == (1024, 512, 640)
    assert late.settled_s == pytest.approx(3.0 + 384 / 50)
    assert prompt.has_mib == 512
    assert prompt.settled_s == pytest.approx(0.6, abs=1e-4)
    assert (again.had_mib, again.has_mib) == (640, 600)


def test_a_guest_that_is_migrated_does_not_hear_its_balloon() -> None:
    made = Simulation(MACHINE, [DOM0, GUEST], seed=1)
    made.at(1.0, lambda: made.migrate("g", [1], 0.1))
    made.at(2.0, lambda: made.set_balloon("g", 512))
    made.run(20.0, lambda _: None)
    assert made.memory.size_mib("g") == 1024
    assert made.memory.balloons[0].settled_s is None
