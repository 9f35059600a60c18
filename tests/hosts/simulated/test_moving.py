"""Memory that moves between a simulated host's nodes: nothing is lost, whatever comes in between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim_machines import machine, read_guest
from sim_time import start, the

from domicile.errors import Refused
from domicile.hosts.actions import Destroy, EndMove, StartMove
from domicile.hosts.simulated import SimulatedHost, create_simulated, open_simulated
from domicile.local.paths import STATE_VARIABLE
from domicile.state.model import PAGES_PER_MIB, Domain, DomainType, Snapshot
from domicile.state.moves import MoveEnd, MoveOrder, MoveWay

pytestmark = pytest.mark.usefixtures("state")


@pytest.fixture
def host() -> Iterator[SimulatedHost]:
    with create_simulated("box", machine(), read_guest=read_guest) as opened:
        start(opened, "web1", memory=512, vcpus=2)
        yield opened


def order(host: SimulatedHost, way: MoveWay, node: int = 2, **changes: object) -> MoveOrder:
    domain = the(host.snapshot(), "web1")
    cpus = host.snapshot().topology.cpus_of((node,))
    found = MoveOrder(
        token=f"move-{way}-{node}",
        domain="web1",
        uuid=domain.uuid,
        way=way,
        nodes=(node,),
        memory_mib=domain.memory_mib,
        after_mib={node: domain.memory_mib + 4},
        soft=(cpus,) * len(domain.vcpus),
        least_mib=128,
        rate_mib_s=100.0,
        limit_s=5.0,
    )
    return replace(found, **changes)  # type: ignore[arg-type]


def whole(snapshot: Snapshot) -> dict[int, int]:
    """Pages of each node: free and the domains' own."""
    return {
        node.id: sum((domain.pages_by_node or {}).get(node.id, 0) for domain in snapshot.domains)
        for node in snapshot.topology.nodes
    }


def finish(host: SimulatedHost, seconds: int = 60) -> MoveEnd | None:
    for _ in range(seconds):
        host.wait(1)
        [move] = host.snapshot().moves
        if move.end:
            return move.end
    return None


def own(domain: Domain) -> dict[int, int]:
    return dict(domain.memory_by_node_mib or {})


@pytest.mark.parametrize("way", [MoveWay.LIVE, MoveWay.SAVE])
def test_all_of_it_moves_and_the_domain_stays_the_same(host: SimulatedHost, way: MoveWay) -> None:
    before = the(host.snapshot(), "web1")
    host.perform(StartMove(order(host, way)))
    assert finish(host) is MoveEnd.MOVED
    after = the(host.snapshot(), "web1")
    assert own(after) == {2: 512}
    assert (after.name, after.uuid, after.memory_mib, after.paused) == (before.name, before.uuid, 512, False)
    assert after.id != before.id
    assert after.vcpus[0].soft_affinity == host.snapshot().topology.cpus_of((2,))
    assert host.snapshot().outstanding_mib == dict.fromkeys(range(4), 0)
    host.perform(EndMove(f"move-{way}-2"))
    assert not host.snapshot().moves
    # time goes on with it, and it runs where it is now
    host.wait(3)
    assert the(host.snapshot(), "web1").time_ns


def test_a_live_move_holds_memory_twice_and_a_saved_one_does_not_run(host: SimulatedHost) -> None:
    free = host.snapshot().topology.node(2).free_mib or 0
    host.perform(StartMove(order(host, MoveWay.LIVE)))
    assert host.snapshot().available_mib(2) == free - 516
    host.wait(2)
    snapshot = host.snapshot()
    assert [domain.name for domain in snapshot.domains] == ["Domain-0", "web1"]
    assert (snapshot.topology.node(2).free_mib or 0) <= free - 200
    # what it has taken is not promised to it once more
    assert snapshot.available_mib(2) == pytest.approx(free - 516, abs=6)
    assert own(the(snapshot, "web1")) == own(the(snapshot, "web1"))
    assert finish(host) is MoveEnd.MOVED
    host.perform(EndMove("move-live-2"))
    host.perform(StartMove(order(host, MoveWay.SAVE, 3)))
    host.wait(1)
    assert the(host.snapshot(), "web1").paused
    host.wait(6)
    assert host.snapshot().domain("web1") is None
    assert host.snapshot().saved == (order_uuid(host),)
    assert finish(host) is MoveEnd.MOVED
    assert not host.snapshot().saved


def order_uuid(host: SimulatedHost) -> str:
    [move] = host.snapshot().moves
    return move.order.uuid


def test_a_balloon_moves_what_the_guest_can_free(host: SimulatedHost) -> None:
    was = the(host.snapshot(), "web1")
    host.perform(StartMove(order(host, MoveWay.BALLOON, 3, after_mib={3: 300})))
    assert host.snapshot().outstanding_mib[3] == 300, "promised from the beginning"
    host.wait(1)
    snapshot = host.snapshot()
    [move] = snapshot.moves
    assert move.stage == "giving back"
    assert snapshot.outstanding_mib[3] == 300
    assert finish(host) is MoveEnd.MOVED
    after = the(host.snapshot(), "web1")
    assert after.id == was.id
    assert after.memory_mib == 512
    assert own(after)[3] == 256
    assert after.node_affinity == frozenset({3})


def test_a_guest_that_does_not_answer_keeps_its_memory(host: SimulatedHost) -> None:
    was = own(the(host.snapshot(), "web1"))
    silence(host)
    host.perform(StartMove(order(host, MoveWay.BALLOON, 3)))
    assert finish(host) is MoveEnd.FAILED
    after = the(host.snapshot(), "web1")
    assert own(after) == was
    assert (after.memory_mib, after.target_mib) == (512, 512)
    assert "gave nothing back" in host.snapshot().moves[0].why


def silence(host: SimulatedHost) -> None:
    with host._store.changing() as transaction:
        resident = transaction.state.resident("web1")
        assert resident is not None
        transaction.state = transaction.state.with_resident(
            replace(resident, balloon=replace(resident.balloon, rate_mib_s=0.0))
        )


def test_what_xen_cannot_migrate_stays(host: SimulatedHost) -> None:
    was = own(the(host.snapshot(), "web1"))
    host.alter("web1", lambda domain: replace(domain, type=DomainType.PV))
    host.perform(StartMove(order(host, MoveWay.LIVE)))
    assert finish(host) is MoveEnd.FAILED
    assert own(the(host.snapshot(), "web1")) == was


def test_refusals(host: SimulatedHost) -> None:
    with pytest.raises(Refused, match="no domain of this name"):
        host.perform(StartMove(order(host, MoveWay.LIVE, uuid="0")))
    with pytest.raises(Refused, match="not there"):
        host.perform(StartMove(order(host, MoveWay.LIVE, nodes=(9,))))
    host.perform(StartMove(order(host, MoveWay.LIVE)))
    with pytest.raises(Refused, match="being moved already"):
        host.perform(StartMove(order(host, MoveWay.BALLOON)))
    host.perform(EndMove("no such move"))


@pytest.mark.parametrize("way", list(MoveWay))
def test_it_goes_on_when_the_connection_ends(host: SimulatedHost, way: MoveWay) -> None:
    host.perform(StartMove(order(host, way)))
    host.wait(2)
    with open_simulated("sim:///box", read_guest=read_guest, presets={}) as other:
        host.close()
        assert finish(other) is MoveEnd.MOVED


@settings(deadline=None, max_examples=40)
@given(
    way=st.sampled_from(list(MoveWay)),
    node=st.integers(0, 3),
    memory=st.integers(64, 900),
    events=st.lists(st.sampled_from(["wait", "wait", "off", "destroy", "forget", "again"]), max_size=8),
)
def test_nothing_is_lost_whatever_comes_between(
    tmp_path_factory: pytest.TempPathFactory, way: MoveWay, node: int, memory: int, events: list[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(STATE_VARIABLE, str(tmp_path_factory.mktemp("sim")))
        with create_simulated("box", machine(), read_guest=read_guest) as host:
            start(host, "web1", memory=memory, vcpus=1)
            ordered = order(host, way, node)
            host.perform(StartMove(ordered))
            gone = False
            for event in events:
                if event == "wait":
                    host.wait(2)
                elif event == "destroy":
                    host.perform(Destroy("web1"))
                    gone = gone or (host.snapshot().domain("web1") is None and not host.snapshot().saved)
                elif event in ("off", "forget"):
                    host.perform(EndMove(ordered.token))
                else:
                    host.wait(0.5)
                snapshot = host.snapshot()
                assert all((each.free_mib or 0) >= 0 for each in snapshot.topology.nodes)
                assert sum(each.name == "web1" for each in snapshot.domains) + len(snapshot.saved) <= 1
            host.wait(60)
            snapshot = host.snapshot()
            assert all(move.end for move in snapshot.moves)
            domain = snapshot.domain("web1")
            assert (domain is None) == gone or snapshot.moves[0].end is MoveEnd.LOST
            if domain:
                assert domain.memory_mib == memory
                assert sum((domain.pages_by_node or {}).values()) == memory * PAGES_PER_MIB
                assert not domain.paused
            assert {each.name for each in snapshot.domains} <= {"Domain-0", "web1"}


@pytest.mark.parametrize("way", list(MoveWay))
def test_a_domain_that_is_renamed_meanwhile_is_still_the_one(host: SimulatedHost, way: MoveWay) -> None:
    host.perform(StartMove(order(host, way)))
    host.wait(2)
    host.alter("web1", lambda domain: replace(domain, name="other"))
    assert not host.snapshot().saved
    assert finish(host) is MoveEnd.MOVED
    [domain] = [domain for domain in host.snapshot().domains if domain.id]
    assert domain.memory_mib == 512
    assert not domain.paused
    assert domain.name == ("web1" if way is MoveWay.SAVE else "other"), "a file keeps the name of the beginning"


def test_a_guest_that_gives_memory_back_while_it_is_copied_keeps_what_is_left(host: SimulatedHost) -> None:
    host.perform(StartMove(order(host, MoveWay.LIVE)))
    host.wait(4)
    host.alter("web1", lambda domain: replace(domain, memory_mib=200, pages_by_node={0: 200 * PAGES_PER_MIB}))
    assert finish(host) is MoveEnd.MOVED
    assert own(the(host.snapshot(), "web1")) == {2: 200}
