"""Rounds carried out on a simulated host: written down, put back, and nothing kept from a manager that died."""

from __future__ import annotations

import pytest
from sim_faults import FaultyHost, failing
from sim_policy import fixed
from sim_world import World, connect
from watched import NODES

from domicile.errors import HostFailed, Refused
from domicile.hosts.actions import LetGo, SetAffinity
from domicile.manager.balance import Balancer, managing, settle_acts, undo
from domicile.manager.intents import ActStatus
from domicile.manager.verify import verify
from domicile.policies.scheduling.plan import Holding, SchedulingPlan


def wrong_soft(world: World, name: str = "web1", node: int = 1) -> None:
    """Somebody sets the soft affinity of a domain to another node."""
    for vcpu in (0, 1):
        world.host.perform(SetAffinity(name, vcpu, soft=NODES[node]))


def soft(world: World, name: str = "web1") -> list[frozenset[int]]:
    domain = world.host.snapshot().domain(name)
    assert domain is not None
    return [vcpu.soft_affinity for vcpu in domain.vcpus]


def round_of(balancer: Balancer) -> SchedulingPlan:
    done = balancer.carry_out(balancer.decide(balancer.watch_for(3)))
    assert not done.failed
    return done.plan


@pytest.fixture
def stray(world: World) -> World:
    """web1 has its memory on node 2 and its vCPUs on node 1."""
    world.create("web1", policy=fixed(2))
    wrong_soft(world)
    return world


def test_vcpus_come_home_and_can_be_sent_back(stray: World) -> None:
    balancer = Balancer(stray.host, stray.journal)
    plan = round_of(balancer)
    assert [change.nodes for change in plan.soft] == [(2,)]
    assert soft(stray) == [NODES[2], NODES[2]]
    assert [act.status for act in stray.journal.acts()] == [ActStatus.DONE] * 2
    assert not verify(stray.host, stray.journal).deviations
    ended = undo(stray.host, stray.journal, stray.journal.acts()[0].plan)
    assert [act.status for act in ended] == [ActStatus.UNDONE] * 2
    assert soft(stray) == [NODES[1], NODES[1]]
    assert not verify(stray.host, stray.journal).deviations
    with pytest.raises(Refused, match="no affinity that could be put back"):
        undo(stray.host, stray.journal, ended[0].plan)


def test_what_somebody_else_set_since_is_not_undone(stray: World) -> None:
    round_of(Balancer(stray.host, stray.journal))
    stray.host.perform(SetAffinity("web1", 0, soft=NODES[3]))
    ended = undo(stray.host, stray.journal, stray.journal.acts()[0].plan)
    assert {act.vcpu: act.status for act in ended} == {0: ActStatus.LEFT, 1: ActStatus.UNDONE}
    assert soft(stray) == [NODES[3], NODES[1]]


def test_holds_are_no_deviation_and_end_with_the_manager(stray: World) -> None:
    balancer = Balancer(stray.host, stray.journal)
    for _ in range(3):
        round_of(balancer)
    if not balancer.held:
        pytest.fail("credit2 took no vCPU away in all that time")
    snapshot = stray.host.snapshot()
    assert {(held.uuid, held.vcpu) for held in snapshot.holds} == set(balancer.held)
    assert not verify(stray.host, stray.journal).deviations
    balancer.let_all_go()
    web = stray.host.snapshot().domain("web1")
    assert web is not None
    assert all(vcpu.hard_affinity == frozenset(range(8)) for vcpu in web.vcpus)


def test_holds_that_ended_behind_the_managers_back_are_made_again(stray: World) -> None:
    """A move that is refused, or over at once, has ended them before."""
    balancer = Balancer(stray.host, stray.journal)
    for _ in range(3):
        round_of(balancer)
    held = set(balancer.held)
    assert held, "credit2 took no vCPU away in all that time"
    for uuid, vcpu in held:
        stray.host.perform(LetGo(uuid, vcpu))
    for _ in range(3):
        round_of(balancer)
    assert {(each.uuid, each.vcpu) for each in stray.host.snapshot().holds} == set(balancer.held) == held


@pytest.mark.parametrize("after", [False, True])
def test_a_manager_that_dies_over_a_change_is_found_out(stray: World, *, after: bool) -> None:
    """The host fails before or after it carried the second change out: the next manager sees which."""
    changes = 0

    def fault(name: str, done: bool) -> None:
        nonlocal changes
        changes += name == "SetAffinity" and not done
        if changes == 2 and done is after:
            raise HostFailed("connection lost")

    balancer = Balancer(FaultyHost(stray.host, fault), stray.journal)
    with pytest.raises(HostFailed):
        balancer.carry_out(balancer.decide(balancer.watch_for(3)))
    assert [act.status for act in stray.journal.acts()] == [ActStatus.DONE, ActStatus.PLANNED]
    assert settle_acts(stray.host.snapshot(), stray.journal, lambda plan: True) == []
    [settled] = settle_acts(stray.host.snapshot(), stray.journal, lambda plan: False)
    assert settled.status is (ActStatus.DONE if after else ActStatus.FAILED)
    undo(stray.host, stray.journal, settled.plan)
    assert soft(stray) == [NODES[1], NODES[1]]


def test_one_manager_at_a_time(stray: World) -> None:
    with connect() as other, managing(stray.host, "the first"):
        assert other.snapshot().manager == "the first"
        with pytest.raises(Refused, match="managed by the first"), managing(other, "the second"):
            pass
    assert stray.host.snapshot().manager == ""


@pytest.mark.parametrize("after", [False, True])
def test_an_undo_that_dies_over_a_change_is_found_out(stray: World, *, after: bool) -> None:
    round_of(Balancer(stray.host, stray.journal))
    plan = stray.journal.acts()[0].plan
    host = FaultyHost(stray.host, failing([("SetAffinity", after)]))
    with pytest.raises(HostFailed):
        undo(host, stray.journal, plan)
    assert {act.vcpu: act.status for act in stray.journal.acts()} == {0: ActStatus.DONE, 1: ActStatus.UNDOING}
    [settled] = settle_acts(stray.host.snapshot(), stray.journal, lambda _: True)
    assert settled.status is (ActStatus.UNDONE if after else ActStatus.DONE)
    undo(stray.host, stray.journal, plan)
    assert {act.status for act in stray.journal.acts()} == {ActStatus.UNDONE}
    assert soft(stray) == [NODES[1], NODES[1]]


def test_an_undo_goes_on_where_another_died(stray: World) -> None:
    round_of(Balancer(stray.host, stray.journal))
    plan = stray.journal.acts()[0].plan
    with pytest.raises(HostFailed):
        undo(FaultyHost(stray.host, failing([("SetAffinity", True)])), stray.journal, plan)
    assert {act.status for act in undo(stray.host, stray.journal, plan)} == {ActStatus.UNDONE}
    assert soft(stray) == [NODES[1], NODES[1]]


def test_an_undo_that_is_refused_leaves_it_done(stray: World) -> None:
    round_of(Balancer(stray.host, stray.journal))
    plan = stray.journal.acts()[0].plan
    with pytest.raises(Refused):
        undo(FaultyHost(stray.host, failing([("SetAffinity", False)], lambda: Refused("no"))), stray.journal, plan)
    assert {act.status for act in stray.journal.acts()} == {ActStatus.DONE}


def test_a_vcpu_that_somebody_pins_meanwhile_does_not_end_the_round(stray: World) -> None:
    """The host calls it a conflict: it is theirs, and the other holds are made."""
    balancer = Balancer(stray.host, stray.journal)
    web = stray.host.snapshot().domain("web1")
    assert web is not None
    everywhere = frozenset(range(8))
    holds = [Holding("web1", web.uuid, vcpu, NODES[2], everywhere, 0.5, "it strays") for vcpu in (0, 1)]
    stray.host.perform(SetAffinity("web1", 0, hard=NODES[3]))
    done = balancer.carry_out(SchedulingPlan(hold=tuple(holds)))
    assert len(done.failed) == 1
    assert "somebody else" in done.failed[0]
    assert set(balancer.held) == {(web.uuid, 1)}
