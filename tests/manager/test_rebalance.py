"""Moves that the manager makes of its own accord, on a simulated host whose time passes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sim_machines import machine, read_guest
from sim_time import start, the

from domicile.hosts.actions import Destroy
from domicile.hosts.simulated import SimulatedHost, create_simulated
from domicile.local.supervisor import Supervisor
from domicile.manager.balance import Balancer
from domicile.manager.daemon import Daemon
from domicile.manager.events import LOGGER
from domicile.manager.intents import ActStatus, MemoryAct, MoveStatus
from domicile.manager.journal import Journal
from domicile.manager.rebalance import remembered, rules_of, tell_balloon, undo_memory
from domicile.manager.signals import Told
from domicile.state.mandate import DomainMandate, Mandate
from domicile.state.model import DomainType
from domicile.state.request import Intent

QUICK = Mandate(interval_s=5.0, horizon_s=600.0, hold_off_s=60.0, moves_per_minute=4)


pytestmark = pytest.mark.usefixtures("state")


@pytest.fixture
def host() -> Iterator[SimulatedHost]:
    with create_simulated("box", machine(), read_guest=read_guest) as opened:
        yield opened


@pytest.mark.parametrize(("asked", "nodes", "found"), [(None, 1, 2), (None, 4, 4), (3.0, 4, 3), (0.0, 4, 0)])
def test_moves_a_minute_are_as_many_as_nodes_with_cpus(
    host: SimulatedHost, asked: float | None, nodes: int, found: int
) -> None:
    snapshot = host.snapshot()
    cpus = tuple(cpu for cpu in snapshot.topology.cpus if cpu.node in range(nodes))
    snapshot = replace(snapshot, topology=replace(snapshot.topology, cpus=cpus))
    assert rules_of(Mandate(moves_per_minute=asked), snapshot).per_minute == found


def crowd(host: SimulatedHost, guests: int, kind: DomainType = DomainType.PVH) -> None:
    """Busy guests of 2 vCPUs, all with their memory on node 1, which has 2 pCPUs."""
    for number in range(guests):
        start(host, f"web{number}", memory=128, vcpus=2, cpus_soft=[[2, 3], [2, 3]])
        host.alter(f"web{number}", lambda domain: replace(domain, type=kind))


def homes(host: SimulatedHost) -> list[int]:
    """The node with most of each guest's memory."""
    found = []
    for domain in host.snapshot().domains:
        if domain.id:
            memory = domain.memory_by_node_mib or {}
            found.append(max(memory, key=lambda node: memory[node]))
    return found


def run(host: SimulatedHost, journal: Journal, rounds: int, mandate: Mandate = QUICK) -> None:
    Daemon(
        Balancer(host, journal, Intent(mandate=mandate)),
        "the daemon",
        lambda: Intent(mandate=mandate),
        Told(),
        Supervisor(),
    ).run(rounds)


def test_a_crowded_node_is_relieved_and_then_it_is_quiet(
    host: SimulatedHost, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    crowd(host, 3)
    run(host, journal, 60)
    assert len(set(homes(host))) == 3
    moves = journal.moves()
    assert {move.status for move in moves} == {MoveStatus.MOVED}
    assert 2 <= len(moves) <= 3
    assert all(move.gain > 0 for move in moves)
    assert not host.snapshot().moves
    assert any("being moved to node" in message for message in caplog.messages)
    run(host, journal, 30)
    assert len(journal.moves()) == len(moves)
    held_off = remembered(host.snapshot(), journal)
    assert {each.uuid for each in held_off.moves} == {move.order.uuid for move in moves}
    assert not held_off.under_way


def test_what_may_not_be_moved_stays(host: SimulatedHost, journal: Journal) -> None:
    crowd(host, 2)
    mandate = replace(QUICK, deny=("web0",), domains=(DomainMandate("web1", may_move=False),))
    run(host, journal, 30, mandate)
    assert homes(host) == [1, 1]
    assert not journal.moves()


def test_a_guest_that_may_not_pause_stays_where_only_saving_moves_it(host: SimulatedHost, journal: Journal) -> None:
    crowd(host, 2, DomainType.PV)
    run(host, journal, 30)
    assert homes(host) == [1, 1]
    allowed = replace(QUICK, domains=tuple(DomainMandate(f"web{n}", pause_s=30.0) for n in range(2)))
    run(host, journal, 60, allowed)
    assert len(set(homes(host))) == 2


def test_who_takes_over_attends_to_what_was_begun(host: SimulatedHost, journal: Journal) -> None:
    crowd(host, 3)
    rounds = 0
    while not journal.moves():
        run(host, journal, 20)
        rounds += 1
        assert rounds < 10
    # the one before has gone in the middle of it, or just after
    run(host, journal, 20)
    assert all(not move.pending for move in journal.moves()) or host.snapshot().moves
    assert the(host.snapshot(), "web0").memory_mib == 128


def test_idle_guests_make_room_and_get_it_back(host: SimulatedHost, journal: Journal) -> None:
    crowd(host, 2)
    for node in (0, 2, 3):
        cpus = sorted(host.snapshot().topology.cpus_of((node,)))
        free = host.snapshot().available_mib(node)
        start(host, f"idle{node}", does="busy=0", memory=free - 70, vcpus=1, cpus_soft=[cpus])
    before = {domain.name: domain.memory_mib for domain in host.snapshot().domains}
    mandate = replace(
        QUICK, hold_off_s=10.0, domains=tuple(DomainMandate(f"idle{node}", min_mib=300) for node in (0, 2, 3))
    )
    run(host, journal, 40, mandate)
    assert len(set(homes(host)[:2])) == 2
    asked = journal.memory_acts()
    assert any(act.wanted_mib < act.before_mib for act in asked)
    for name in ("web0", "web1"):
        host.perform(Destroy(name))
    run(host, journal, 40, mandate)
    after = {domain.name: domain.memory_mib for domain in host.snapshot().domains}
    assert after == {name: mib for name, mib in before.items() if not name.startswith("web")}
    # no trading back and forth
    assert len(journal.memory_acts()) <= 6


def test_room_that_was_made_can_be_undone(host: SimulatedHost, journal: Journal) -> None:
    start(host, "web0", memory=512, vcpus=1)
    domain = the(host.snapshot(), "web0")
    [act] = journal.begin_memory("balance", "domicile", [MemoryAct("web0", domain.uuid, 512, 300, "for a test")])
    failed: list[str] = []
    tell_balloon(host, journal, act, failed)
    host.wait(5)
    assert the(host.snapshot(), "web0").memory_mib == 300
    [back] = undo_memory(host, journal, act.plan)
    assert back.status is ActStatus.UNDONE
    host.wait(5)
    assert the(host.snapshot(), "web0").memory_mib == 512
    assert not undo_memory(host, journal, act.plan)
