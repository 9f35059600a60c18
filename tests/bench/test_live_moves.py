"""Memory that the manager moves in a simulation that runs: as on a host, and nobody is doubled or lost by it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from domicile.bench.live_host import LiveHost
from domicile.bench.loads import DOM0
from domicile.errors import Refused, ReservationConflict
from domicile.hosts.actions import EndMove, Release, Reserve, StartMove
from domicile.manager.intents import MoveStatus
from domicile.manager.journal import Journal
from domicile.manager.migrate import migrate, ordered
from domicile.policies.migration.records import Permits, Way
from domicile.policies.migration.ways import options
from domicile.simulator.engine import Simulation
from domicile.simulator.guests import GuestSpec
from domicile.simulator.workloads import WORKLOADS
from domicile.state.model import DomainType, Reservation
from domicile.state.moves import MoveEnd, MoveOrder
from domicile.topology.presets import load_preset

TOPOLOGY = load_preset("ivybridge-2n").topology


@pytest.fixture
def live() -> LiveHost:
    """A busy guest of 2 vCPUs on node 0, and one that ends after 20 s."""
    guest = GuestSpec("a", 2, 2048, WORKLOADS["busy"], memory_nodes=(0,))
    found = LiveHost(Simulation(TOPOLOGY, [DOM0, guest, replace(guest, name="b", end_s=20.0)]))
    found.wait(2.0)
    return found


def order_of(live: LiveHost, name: str, node: int, rate_mib_s: float = 1024.0) -> MoveOrder:
    snapshot, permits = live.snapshot(), Permits(rate_mib_s=rate_mib_s)
    domain = snapshot.domain(name)
    assert domain is not None
    found = next(each for each in options(snapshot, domain, (node,), permits) if each.way is Way.LIVE)
    return ordered(snapshot, domain, found, permits)


def pages(live: LiveHost, name: str) -> dict[int, int]:
    domain = live.snapshot().domain(name)
    assert domain is not None
    assert domain.pages_by_node is not None
    return dict(domain.pages_by_node)


def free_mib(live: LiveHost) -> list[int]:
    return [node.free_mib or 0 for node in live.snapshot().topology.nodes]


def test_memory_moves_as_on_a_host(live: LiveHost, tmp_path: Path) -> None:
    free = free_mib(live)
    with Journal(tmp_path / "journal.sqlite", "simulation") as journal:
        done = migrate(live, journal, order_of(live, "a", 1), "for a test")
    assert done.move.status is MoveStatus.MOVED
    assert not done.failed
    assert set(pages(live, "a")) == {1}
    assert live.snapshot().moves == ()
    assert live.moved_bytes == pytest.approx(2048 * 2**20, rel=0.02)
    live.wait(5.0)
    after = live.snapshot()
    assert {domain.name for domain in after.domains} == {DOM0.name, "a", "b"}
    domain = after.domain("a")
    assert domain is not None
    assert {TOPOLOGY.cpus[vcpu.pcpu].node for vcpu in domain.vcpus if vcpu.pcpu is not None} == {1}
    came, went = free_mib(live)[1], free_mib(live)[0]
    assert free[1] - came == pytest.approx(went - free[0], abs=8)


def test_one_that_goes_on_is_listed_and_promised_its_memory_once(live: LiveHost) -> None:
    order = order_of(live, "a", 1, rate_mib_s=384.0)
    live.perform(StartMove(order))
    live.wait(3.0)
    snapshot = live.snapshot()
    (state,) = snapshot.moves
    assert (state.order, state.end) == (order, None)
    assert 0 < state.done_mib < order.memory_mib
    assert snapshot.outstanding_mib[1] == pytest.approx(0, abs=order.after_mib[1] - order.memory_mib)
    with pytest.raises(Refused, match="moved already"):
        live.perform(StartMove(replace(order, token="another")))
    with pytest.raises(Refused, match="not called off"):
        live.perform(EndMove(order.token))


def test_a_domain_that_ends_under_way_is_lost(live: LiveHost) -> None:
    live.wait(16.0)
    order = order_of(live, "b", 1, rate_mib_s=384.0)
    live.perform(StartMove(order))
    live.wait(19.0)
    (state,) = live.snapshot().moves
    assert state.end is MoveEnd.LOST
    live.perform(EndMove(order.token))
    assert live.snapshot().moves == ()


def test_what_cannot_be_moved_is_refused(live: LiveHost) -> None:
    with pytest.raises(Refused, match="no domain"):
        live.perform(StartMove(replace(order_of(live, "a", 1), domain="nobody")))
    pv = GuestSpec("pv", 1, 512, WORKLOADS["busy"], type=DomainType.PV)
    other = LiveHost(Simulation(TOPOLOGY, [DOM0, pv]))
    other.wait(2.0)
    with pytest.raises(Refused, match="live migration alone"):
        other.perform(StartMove(replace(order_of(live, "a", 1), domain="pv", uuid="pv")))


def test_promises_count_until_they_end(live: LiveHost) -> None:
    before = live.snapshot()
    promise = Reservation("token", "new", {1: 1000}, 1, "a test", before.taken_at)
    live.perform(Reserve(promise, before.reservations_generation))
    assert live.snapshot().available_mib(1) == before.available_mib(1) - 1000
    with pytest.raises(ReservationConflict):
        live.perform(Reserve(replace(promise, token="late"), before.reservations_generation))
    live.perform(Release("token"))
    assert live.snapshot().available_mib(1) == before.available_mib(1)
