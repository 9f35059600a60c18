"""Page sharing in a running simulation: what it saves is (k - 1) copies, and what it costs is the way to the one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sim_scheduling import numa_machine

from domicile.simulator.engine import Epoch, Simulation
from domicile.simulator.guests import GuestSpec
from domicile.simulator.host_memory import HostMemory, HostOptions
from domicile.simulator.memory.sharing import SharingPolicy
from domicile.simulator.page_sharing import SharingOptions, SharingRecord
from domicile.simulator.workloads import WORKLOADS
from domicile.state.request import SharingMode

MACHINE = numa_machine(4, 2)
DOM0 = GuestSpec("Domain-0", 2, 512, WORKLOADS["idle"], soft=frozenset({0, 1}))
LOAD = replace(WORKLOADS["busy"], working_set=1.0)


def guest(name: str, node: int, memory_mib: int = 400, equal: float = 0.5) -> GuestSpec:
    cpus = frozenset(MACHINE.cpus_by_node[node])
    return GuestSpec(name, 1, memory_mib, LOAD, hard=cpus, memory_nodes=(node,), equal_pages=equal)


def run(
    policy: SharingPolicy | None, *guests: GuestSpec, written_mib_s: float = 0.0, seconds: float = 10.0
) -> tuple[Simulation, SharingRecord, Epoch]:
    options = HostOptions(sharing=SharingOptions(policy, 1000.0, written_mib_s))
    made = Simulation(MACHINE, [DOM0, *guests], seed=1, memory=HostMemory(MACHINE, options))
    epochs: list[Epoch] = []
    made.run(seconds, epochs.append)
    assert made.memory.sharing is not None
    return made, made.memory.sharing, epochs[-1]


GUESTS = (guest("a", 1), guest("b", 1), guest("c", 2), guest("d", 2, 200), guest("e", 3, equal=0.0))


@pytest.mark.parametrize(
    ("policy", "saved", "remote"),
    [(SharingPolicy.ANY_NODE, 200 * 2 + 100, [0, 0, 0.5, 0.5, 0]), (SharingPolicy.SAME_NODE, 200 + 100, [0] * 5)],
)
def test_all_copies_but_one_are_saved(policy: SharingPolicy, saved: int, remote: list[float]) -> None:
    made, found, last = run(policy, *GUESTS)
    assert found.saved_mib == saved
    plain = Simulation(MACHINE, [DOM0, *GUESTS], seed=1)
    plain.run(1.0, lambda _: None)
    assert made.memory.free_mib.sum() - plain.memory.free_mib.sum() == saved
    assert last.remote[1:].tolist() == pytest.approx(remote)
    assert sum(each.elsewhere_mib for each in found.domains) == (300 if policy is SharingPolicy.ANY_NODE else 0)


@pytest.mark.parametrize(
    ("host", "own", "saved", "remote"),
    [
        # d has half as much of the content as the others
        (SharingPolicy.ANY_NODE, {"c": SharingMode.OFF}, 200 + 100, [0, 0, 0, 0.5]),
        (SharingPolicy.ANY_NODE, {"c": SharingMode.SAME_NODE}, 200 + 100, [0, 0, 0, 0.5]),
        # b shares the frame of a, which is on its node; d is left alone on the other
        (
            SharingPolicy.SAME_NODE,
            {"a": SharingMode.ANY_NODE, "c": SharingMode.ANY_NODE},
            200 * 2,
            [0, 0, 0.5, 0],
        ),
        (None, {"a": SharingMode.SAME_NODE, "b": SharingMode.ANY_NODE}, 200, [0, 0, 0, 0]),
        (None, {}, 0, [0, 0, 0, 0]),
    ],
)
def test_a_domain_has_a_mode_of_its_own(
    host: SharingPolicy | None, own: dict[str, SharingMode], saved: int, remote: list[float]
) -> None:
    guests = [replace(each, sharing=own.get(each.name)) for each in GUESTS]
    _, found, last = run(host, *guests)
    assert found.saved_mib == saved
    assert last.remote[1:5].tolist() == pytest.approx(remote)
    assert {each.domain for each in found.domains}.isdisjoint(n for n, mode in own.items() if mode is SharingMode.OFF)


def test_sharing_elsewhere_slows_its_readers_down() -> None:
    _, _, anywhere = run(SharingPolicy.ANY_NODE, *GUESTS)
    _, _, near = run(SharingPolicy.SAME_NODE, *GUESTS)
    assert anywhere.work_s[3] < near.work_s[3] * 0.95
    assert anywhere.work_s[1] == pytest.approx(near.work_s[1], rel=0.03)


def test_who_comes_later_shares_what_is_shared() -> None:
    _, found, _ = run(SharingPolicy.ANY_NODE, *GUESTS[:2], replace(GUESTS[2], start_s=5.0))
    assert found.saved_mib == 2 * 200
    _, found, _ = run(SharingPolicy.ANY_NODE, *GUESTS[:2], replace(GUESTS[2], start_s=5.0, end_s=8.0))
    assert found.saved_mib == 200


def test_writes_take_pages_again() -> None:
    _, found, last = run(SharingPolicy.ANY_NODE, guest("a", 1), guest("c", 2), written_mib_s=10.0)
    # a unit has two readers: the first of them who writes to it has the other left alone
    assert found.taken_mib == pytest.approx(200, abs=20)
    assert found.saved_mib == 200 - found.taken_mib
    # what c wrote to is at home now; what a wrote to is c's alone, where a had it
    assert last.remote[2] == pytest.approx(0.25, abs=0.06)


def test_a_migrated_guest_shares_again_where_it_is() -> None:
    options = HostOptions(sharing=SharingOptions(SharingPolicy.SAME_NODE, 1000.0, 0.0))
    made = Simulation(MACHINE, [DOM0, *GUESTS[:3]], seed=1, memory=HostMemory(MACHINE, options))
    saved: list[int] = []
    made.at(3.0, lambda: made.migrate("a", [2]))
    made.at(3.5, lambda: saved.append(made.memory.sharing.saved_mib if made.memory.sharing else -1))
    made.run(20.0, lambda _: None)
    assert made.memory.migrations[0].outcome == "done"
    assert saved == [0]
    assert made.memory.sharing is not None
    assert made.memory.sharing.saved_mib == 200


def test_a_balloon_counts_what_its_guest_shares() -> None:
    options = HostOptions(sharing=SharingOptions(SharingPolicy.ANY_NODE, 1000.0, 0.0))
    made = Simulation(MACHINE, [DOM0, *GUESTS[:3]], seed=1, memory=HostMemory(MACHINE, options))
    made.at(5.0, lambda: made.set_balloon("a", 300))
    made.run(10.0, lambda _: None)
    assert (made.memory.balloons[0].had_mib, made.memory.balloons[0].has_mib) == (400, 300)
