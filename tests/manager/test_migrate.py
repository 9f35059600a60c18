"""Moves of a domain's memory: promised, written down, followed, checked, undone; nothing is lost on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from sim_machines import machine, read_guest
from sim_time import start, the

from domicile.errors import HostFailed, Refused
from domicile.hosts.actions import Action, EndMove, Reserve, SetAffinity, StartMove
from domicile.hosts.protocol import Host
from domicile.hosts.simulated import SimulatedHost, create_simulated
from domicile.manager.intents import ActStatus, MoveStatus
from domicile.manager.journal import Journal
from domicile.manager.migrate import begin, migrate, move_vcpus, ordered, settle_moves, undo_moves
from domicile.policies.migration.records import Option, Permits, Way
from domicile.policies.migration.ways import options
from domicile.state.model import Domain, DomainType, Reservation, Snapshot
from domicile.state.moves import MoveOrder, MoveState

PERMITS = Permits(pause_s=60.0, rate_mib_s=200.0, minimum_mib=128)


pytestmark = pytest.mark.usefixtures("state")


@pytest.fixture
def host() -> Iterator[SimulatedHost]:
    with create_simulated("box", machine(), read_guest=read_guest) as opened:
        start(opened, "web1", memory=512, vcpus=2)
        opened.alter("web1", lambda domain: replace(domain, type=DomainType.PVH))
        yield opened


def option(snapshot: Snapshot, domain: Domain, nodes: tuple[int, ...], way: Way) -> Option:
    return next(each for each in options(snapshot, domain, nodes, PERMITS) if each.way is way)


def order(host: Host, node: int = 2, way: Way = Way.LIVE) -> MoveOrder:
    snapshot = host.snapshot()
    domain = the(snapshot, "web1")
    return ordered(snapshot, domain, option(snapshot, domain, (node,), way), PERMITS)


def home(host: Host) -> dict[int, int]:
    return dict(the(host.snapshot(), "web1").memory_by_node_mib or {})


@pytest.mark.parametrize("way", [Way.LIVE, Way.SAVE])
def test_a_domain_moves_and_comes_back(host: SimulatedHost, journal: Journal, way: Way) -> None:
    was, told = home(host), list[MoveState]()
    done = migrate(host, journal, order(host, way=way), "for a test", told.append)
    assert done.move.status is MoveStatus.MOVED
    assert sum((done.move.seen or {}).values()) == 512 * 256
    assert home(host) == {2: 512}
    assert told
    snapshot = host.snapshot()
    assert not snapshot.moves
    assert not snapshot.reservations
    assert [move.status for move in journal.moves()] == [MoveStatus.MOVED]
    [back] = undo_moves(host, journal, done.move.plan, option, PERMITS)
    assert back.move.status is MoveStatus.MOVED
    assert home(host) == was
    assert [move.status for move in journal.moves()] == [MoveStatus.UNDONE, MoveStatus.MOVED]
    assert all(
        vcpu.soft_affinity == soft
        for vcpu, soft in zip(the(host.snapshot(), "web1").vcpus, done.move.soft, strict=True)
    )


def test_a_balloon_moves_a_part_and_its_vcpus_follow(host: SimulatedHost, journal: Journal) -> None:
    done = migrate(host, journal, order(host, way=Way.BALLOON), "for a test")
    assert done.move.status is MoveStatus.PARTLY
    assert "256 of 512 MiB moved" in done.move.why
    assert home(host)[2] == 256
    domain = the(host.snapshot(), "web1")
    assert {vcpu.soft_affinity for vcpu in domain.vcpus} == {host.snapshot().topology.cpus_of((2,))}
    assert {act.plan for act in journal.acts()} == {done.move.plan}
    undo_moves(host, journal, done.move.plan, option, PERMITS)
    assert ActStatus.DONE not in {act.status for act in journal.acts(done.move.plan)}


def test_vcpus_alone_go_to_the_memory(host: SimulatedHost, journal: Journal) -> None:
    snapshot = host.snapshot()
    [node] = home(host)
    away = snapshot.topology.cpus_of(((node + 1) % 4,))
    host.alter(
        "web1", lambda domain: replace(domain, vcpus=tuple(replace(v, soft_affinity=away) for v in domain.vcpus))
    )
    plan, failed = move_vcpus(host, journal, snapshot, the(host.snapshot(), "web1"), (node,), "for a test")
    assert plan
    assert not failed
    assert {v.soft_affinity for v in the(host.snapshot(), "web1").vcpus} == {snapshot.topology.cpus_of((node,))}
    assert move_vcpus(host, journal, snapshot, the(host.snapshot(), "web1"), (node,), "again") == (0, [])


def test_no_room_any_more_is_refused_before_anything_is_done(host: SimulatedHost, journal: Journal) -> None:
    made = order(host)
    room = host.snapshot().available_mib(2)
    start(host, "big", memory=room - 100, vcpus=1, cpus_soft=[[4, 5]])
    with pytest.raises(Refused, match="no room for it there any more"):
        migrate(host, journal, made, "for a test")
    assert not journal.moves()
    assert not host.snapshot().moves


def test_a_pv_domain_whose_live_move_fails_runs_as_it_was(host: SimulatedHost, journal: Journal) -> None:
    made, was = order(host), home(host)
    host.alter("web1", lambda domain: replace(domain, type=DomainType.PV))
    done = migrate(host, journal, made, "for a test")
    assert done.move.status is MoveStatus.FAILED
    assert "PV" in done.move.why
    assert home(host) == was
    assert not the(host.snapshot(), "web1").paused


class Broken:
    """A host whose connection breaks at one action, before or after it was carried out."""

    def __init__(self, host: Host, when: Callable[[Action], bool], *, after: bool) -> None:
        self._host, self._when, self._after = host, when, after

    def __getattr__(self, name: str) -> object:
        return getattr(self._host, name)

    def perform(self, action: Action) -> None:
        if not self._when(action):
            return self._host.perform(action)
        if self._after:
            self._host.perform(action)
        raise HostFailed("the connection broke")


@pytest.mark.parametrize("after", [False, True])
def test_a_broken_connection_is_found_out_later(host: SimulatedHost, journal: Journal, after: bool) -> None:
    broken = Broken(host, lambda action: isinstance(action, StartMove), after=after)
    with pytest.raises(HostFailed):
        migrate(broken, journal, order(host), "for a test")  # type: ignore[arg-type]
    [move] = journal.moves()
    assert move.status is MoveStatus.PLANNED
    settle_moves(host.snapshot(), host, journal)
    host.wait(10)
    settle_moves(host.snapshot(), host, journal)
    [move] = journal.moves()
    assert move.status is (MoveStatus.MOVED if after else MoveStatus.FAILED)
    assert (home(host) == {2: 512}) == after
    assert not host.snapshot().moves


def test_a_move_goes_on_without_us(host: SimulatedHost, journal: Journal) -> None:
    begin(host, journal, order(host), "for a test")
    assert not settle_moves(host.snapshot(), host, journal)
    host.wait(10)
    [done] = settle_moves(host.snapshot(), host, journal)
    assert done.move.status is MoveStatus.MOVED
    assert not settle_moves(host.snapshot(), host, journal)


def soft(host: Host) -> set[frozenset[int]]:
    return {vcpu.soft_affinity for vcpu in the(host.snapshot(), "web1").vcpus}


@pytest.mark.parametrize("after", [False, True])
def test_what_belongs_to_a_move_is_done_by_who_comes_after(host: SimulatedHost, journal: Journal, after: bool) -> None:
    """The connection breaks over the affinity that goes with a balloon, when the memory has moved already."""
    broken = Broken(host, lambda action: isinstance(action, SetAffinity), after=after)
    with pytest.raises(HostFailed):
        migrate(broken, journal, order(host, way=Way.BALLOON), "for a test")  # type: ignore[arg-type]
    [done] = settle_moves(host.snapshot(), host, journal)
    assert done.move.status is MoveStatus.PARTLY
    assert not host.snapshot().moves
    assert soft(host) == {host.snapshot().topology.cpus_of((2,))}
    statuses = [act.status for act in journal.acts()]
    done_once = [ActStatus.DONE, ActStatus.FAILED, ActStatus.DONE]
    assert statuses == (done_once if after else [ActStatus.FAILED] * 2 + [ActStatus.DONE] * 2)


def test_an_ended_move_that_nobody_took_note_of_is_forgotten_later(host: SimulatedHost, journal: Journal) -> None:
    broken = Broken(host, lambda action: isinstance(action, EndMove), after=False)
    with pytest.raises(HostFailed):
        migrate(broken, journal, order(host), "for a test")  # type: ignore[arg-type]
    assert [move.status for move in journal.moves()] == [MoveStatus.MOVED]
    assert host.snapshot().moves
    assert settle_moves(host.snapshot(), host, journal) == []
    assert not host.snapshot().moves


@pytest.mark.parametrize("way", [Way.LIVE, Way.BALLOON])
def test_what_was_put_back_is_not_put_back_again(host: SimulatedHost, journal: Journal, way: Way) -> None:
    """The undoing manager dies before the host's answer: the next one finds out that it is undone."""
    done = migrate(host, journal, order(host, way=way), "for a test")
    broken = Broken(host, lambda action: isinstance(action, StartMove), after=True)
    with pytest.raises(HostFailed):
        undo_moves(broken, journal, done.move.plan, option, PERMITS)  # type: ignore[arg-type]
    host.wait(20)
    settle_moves(host.snapshot(), host, journal)
    assert next(move.status for move in journal.moves()) is MoveStatus.UNDONE
    assert undo_moves(host, journal, done.move.plan, option, PERMITS) == []
    assert soft(host) == {*done.move.soft}


def test_a_reservation_whose_answer_was_lost_is_not_kept(host: SimulatedHost, journal: Journal) -> None:
    """A manager that stays, with its connection, would keep the memory from everybody else."""
    with pytest.raises(HostFailed):
        migrate(Broken(host, lambda action: isinstance(action, Reserve), after=True), journal, order(host), "")  # type: ignore[arg-type]
    assert host.snapshot().reservations == ()


def test_nobody_is_promised_what_a_balloon_is_about_to_take(host: SimulatedHost, journal: Journal) -> None:
    room = host.snapshot().available_mib(2)
    begin(host, journal, order(host, way=Way.BALLOON), "for a test")
    assert host.snapshot().available_mib(2) == room - 384, "512 MiB, of which the guest keeps 128"
    start(host, "big", memory=room - 384, vcpus=1, cpus_soft=[[4, 5]])
    host.wait(20)
    [done] = settle_moves(host.snapshot(), host, journal)
    assert done.move.status is MoveStatus.PARTLY
    assert {*home(host)} <= {2, *(done.move.before or {})}


@pytest.mark.parametrize("way", [Way.SAVE, Way.BALLOON])
def test_no_way_takes_what_is_promised_to_others(host: SimulatedHost, journal: Journal, way: Way) -> None:
    made = order(host, way=way)
    room = host.snapshot().available_mib(2)
    promised = Reservation("t", "other", {2: room - 100}, 1, "somebody", 0.0)
    host.perform(Reserve(promised, host.snapshot().reservations_generation))
    with pytest.raises(Refused, match="no room for it there any more"):
        migrate(host, journal, made, "for a test")
    assert not journal.moves()


@pytest.mark.parametrize("way", [Way.LIVE, Way.SAVE])
def test_memory_goes_back_although_the_vcpus_were_elsewhere(host: SimulatedHost, journal: Journal, way: Way) -> None:
    """Xen takes memory where the vCPUs are to run: their affinity can only be put back afterwards."""
    was = home(host)
    [node] = was
    away = host.snapshot().topology.cpus_of(((node + 1) % 4,))
    for vcpu in (0, 1):
        host.perform(SetAffinity("web1", vcpu, soft=away))
    done = migrate(host, journal, order(host, node=(node + 2) % 4, way=way), "for a test")
    undo_moves(host, journal, done.move.plan, option, PERMITS)
    assert home(host) == was
    assert soft(host) == {away}
