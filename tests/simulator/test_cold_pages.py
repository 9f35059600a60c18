"""The cold-page pool in a running simulation: where it is, what it frees, what is dropped, and what gets cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sim_scheduling import numa_machine

from domicile.errors import Refused
from domicile.simulator.cold_pages import PoolOptions, PoolRecord
from domicile.simulator.engine import Epoch, Simulation
from domicile.simulator.guests import ColdUse, GuestSpec
from domicile.simulator.host_memory import HostMemory, HostOptions
from domicile.simulator.memory.coldpool import PoolPolicy
from domicile.simulator.workloads import WORKLOADS
from domicile.state.request import TieringMode

MACHINE = numa_machine(4, 2)
DOM0 = GuestSpec("Domain-0", 2, 512, WORKLOADS["idle"], soft=frozenset({0, 1}))
USE = ColdUse(ephemeral=0.3, persistent=0.2, put_mib_s=200.0, get_mib_s=0.0)
GUEST = GuestSpec("g", 2, 1000, WORKLOADS["busy"], hard=frozenset(MACHINE.cpus_by_node[1]), memory_nodes=(1,), cold=USE)


def run(
    policy: PoolPolicy | None, *guests: GuestSpec, seconds: float = 10.0, spare_mib: int = 0
) -> tuple[Simulation, PoolRecord, list[Epoch]]:
    options = HostOptions(pool=PoolOptions(policy, (3,), spare_mib))
    made = Simulation(MACHINE, [DOM0, *guests], seed=1, memory=HostMemory(MACHINE, options))
    epochs: list[Epoch] = []
    made.run(seconds, epochs.append)
    assert made.memory.pool is not None
    return made, made.memory.pool, epochs


@pytest.mark.parametrize(
    ("policy", "nodes"), [(PoolPolicy.ANY_NODE, {0, 1, 2, 3}), (PoolPolicy.NOT_OWN, {0, 2, 3}), (PoolPolicy.FAR, {3})]
)
def test_it_is_where_the_policy_says(policy: PoolPolicy, nodes: set[int]) -> None:
    made, found, _ = run(policy, GUEST)
    assert set(found.mib_by_node) <= nodes
    assert sum(found.mib_by_node.values()) == 500
    assert (found.domains[0].ephemeral_mib, found.domains[0].persistent_mib) == (300, 200)
    assert made.memory.by_node("g") == {1: 500 * 256}


@pytest.mark.parametrize(
    ("host", "own", "nodes"),
    [
        (PoolPolicy.NOT_OWN, TieringMode.FAR_MEMORY, {3}),
        (PoolPolicy.NOT_OWN, TieringMode.OFF, set()),
        (None, TieringMode.FAR_MEMORY, {3}),
        (PoolPolicy.FAR, TieringMode.OTHER_NODES, {0, 2, 3}),
        (None, None, set()),
    ],
)
def test_a_domain_has_a_mode_of_its_own(host: PoolPolicy | None, own: TieringMode | None, nodes: set[int]) -> None:
    _, found, _ = run(host, replace(GUEST, tiering=own))
    assert set(found.mib_by_node) <= nodes
    assert sum(found.mib_by_node.values()) == (500 if nodes else 0)


def test_nothing_is_put_faster_than_the_rate() -> None:
    _, found, _ = run(PoolPolicy.FAR, replace(GUEST, cold=replace(USE, put_mib_s=30.0)), seconds=5.0)
    assert found.put_mib == 150


def test_gets_cost_time_and_more_from_further_away() -> None:
    def work(policy: PoolPolicy, get_mib_s: float) -> float:
        _, _, epochs = run(policy, replace(GUEST, cold=replace(USE, get_mib_s=get_mib_s)), seconds=20.0)
        return sum(float(epoch.work_s[1]) for epoch in epochs[10:])

    idle, far = work(PoolPolicy.FAR, 0.0), work(PoolPolicy.FAR, 100.0)
    assert far < idle * 0.98
    assert far < work(PoolPolicy.ANY_NODE, 100.0)


def test_ephemeral_pages_make_room_for_a_domain_and_are_missed() -> None:
    use = replace(USE, get_mib_s=5.0)
    late = GuestSpec("late", 2, 31_000, WORKLOADS["idle"], start_s=8.0)
    made, found, _ = run(PoolPolicy.NOT_OWN, replace(GUEST, cold=use), late, seconds=20.0)
    assert not made.refused
    assert found.dropped_mib > 0
    assert found.missed_mib > 0
    assert found.domains[0].persistent_mib > 150
    without = Simulation(MACHINE, [DOM0, replace(GUEST, cold=None), late], seed=1)
    without.run(10.0, lambda _: None)
    assert "needs 31000 MiB" in without.refused["late"]


def test_a_guest_that_ends_leaves_nothing() -> None:
    made, found, _ = run(PoolPolicy.FAR, replace(GUEST, end_s=8.0))
    assert found.mib_by_node == {}
    assert found.domains == ()
    assert made.memory.free_mib.sum() == pytest.approx(run(PoolPolicy.FAR)[0].memory.free_mib.sum())


def test_far_memory_has_to_be_named() -> None:
    made = Simulation(
        MACHINE,
        [DOM0, replace(GUEST, tiering=TieringMode.FAR_MEMORY)],
        memory=HostMemory(MACHINE, HostOptions(pool=PoolOptions(PoolPolicy.NOT_OWN))),
    )
    made.run(1.0, lambda _: None)
    assert "far memory" in made.refused["g"]
    with pytest.raises(Refused, match="far memory"):
        HostMemory(MACHINE, HostOptions(pool=PoolOptions(PoolPolicy.FAR)))
