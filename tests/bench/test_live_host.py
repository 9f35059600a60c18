"""A simulation as a host: what it shows, what can be done to it, and how its time passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from domicile.bench.daemons import Esxi, Nobody, managed_by
from domicile.bench.live_host import LiveHost
from domicile.bench.loads import DOM0
from domicile.errors import Refused
from domicile.hosts.actions import Hold, LetGo, Manage, SetAffinity, Unpause
from domicile.hosts.protocol import Host
from domicile.simulator.engine import Simulation
from domicile.simulator.epoch import Epoch
from domicile.simulator.guests import GuestSpec
from domicile.simulator.workloads import WORKLOADS, Demand, Workload
from domicile.state.load import load_between
from domicile.state.model import Snapshot
from domicile.topology.presets import load_preset

TOPOLOGY = load_preset("ivybridge-2n").topology
NEAR, FAR = (TOPOLOGY.cpus_of([node]) for node in (0, 1))
ALL = NEAR | FAR


def host(*guests: GuestSpec, seed: int = 0) -> LiveHost:
    return LiveHost(Simulation(TOPOLOGY, [DOM0, *guests], seed=seed))


def busy(name: str = "a", vcpus: int = 2, **more: object) -> GuestSpec:
    return GuestSpec(name, vcpus, 2048, WORKLOADS["busy"], **({"memory_nodes": (0,)} | more))  # type: ignore[arg-type]


def test_looks_find_as_many_waiting_as_wait() -> None:
    """Of two vCPUs on one pCPU one wants 3 ms of every 10, and is through with them before a quantum ends; the other
    waits for it until then."""
    some = Workload("some", "made for this", Demand(level=0.3, closed=False))
    guests = [replace(busy(name, 1), workload=work) for name, work in (("busy", WORKLOADS["busy"]), ("some", some))]
    live = host(*guests)
    live.wait(1.0)
    for guest in guests:
        live.perform(SetAffinity(guest.name, 0, hard=frozenset([min(NEAR)])))
    live.wait(4.0)
    found, looks, first = 0, 200, live.snapshot()
    for _ in range(looks):
        live.wait(0.25)
        (vcpu,) = live.snapshot().domains[1].vcpus
        assert not (vcpu.waiting and vcpu.running)
        found += vcpu.waiting is True
    used = load_between(first, live.snapshot()).domains["busy"]
    assert used < 0.8
    assert found / looks == pytest.approx(1.0 - used, abs=0.05)


def test_memory_traffic_is_counted_where_processors_can() -> None:
    """That of two vCPUs that stream: what the workload says, as nothing is in their way."""
    guest = GuestSpec("a", 2, 2048, WORKLOADS["stream"], memory_nodes=(0,))
    live = LiveHost(Simulation(TOPOLOGY, [DOM0, guest]), counts_traffic=True)
    live.wait(1.0)
    first = live.snapshot()
    live.wait(4.0)
    load = load_between(first, live.snapshot())
    assert load.traffic_gbs["a"] == pytest.approx(2 * WORKLOADS["stream"].traffic_gbs, rel=0.2)
    others = host(guest)
    others.wait(1.0)
    assert {domain.traffic_bytes for domain in others.snapshot().domains} == {None}


def nodes_of(snapshot: Snapshot, name: str) -> set[int | None]:
    domain = snapshot.domain(name)
    assert domain is not None
    return {TOPOLOGY.cpus[vcpu.pcpu].node for vcpu in domain.vcpus if vcpu.pcpu is not None}


def test_it_is_a_host() -> None:
    assert isinstance(host(), Host)


def test_time_and_what_ran_in_it() -> None:
    """Two busy vCPUs use two pCPUs, in whatever pieces time passes; the rest is idle but for Dom0."""
    live = host(busy())
    live.wait(1.3)
    before = live.snapshot()
    live.wait(2.45)
    live.wait(0.25)
    after = live.snapshot()
    assert after.taken_at - before.taken_at == pytest.approx(2.7)
    load = load_between(before, after)
    assert load.domains["a"] == pytest.approx(2.0, abs=0.02)
    assert sum(load.nodes.values()) == pytest.approx(2.0 + load.domains[DOM0.name], abs=0.02)


def test_who_waits_for_a_pcpu_is_told() -> None:
    """Three busy vCPUs that may run on two pCPUs: one of them waits, at any moment."""
    live = host(busy(vcpus=3, hard=frozenset(sorted(NEAR)[:2])))
    for _ in range(5):
        live.wait(1.37)
        domain = live.snapshot().domain("a")
        assert domain is not None
        assert sorted(vcpu.waiting is True for vcpu in domain.vcpus) == [False, False, True]
        assert not any(vcpu.running and vcpu.waiting for vcpu in domain.vcpus)


def test_pieces_of_time_come_to_the_same_as_all_of_it() -> None:
    whole, pieces = host(busy()), host(busy())
    whole.wait(6.0)
    for seconds in (0.5, 2.5, 0.01, 2.99):
        pieces.wait(seconds)
    assert whole.snapshot() == pieces.snapshot()


def test_a_hold_holds_and_gives_back_what_was_before() -> None:
    live = host(busy())
    live.wait(0.1)
    for vcpu in (0, 1):
        live.perform(Hold("a", "a", vcpu, FAR, ALL))
    live.wait(3.0)
    snapshot = live.snapshot()
    assert nodes_of(snapshot, "a") == {1}
    assert [(each.vcpu, each.cpus, each.before) for each in snapshot.holds] == [(0, FAR, ALL), (1, FAR, ALL)]
    live.perform(Hold("a", "a", 0, NEAR, FAR))
    live.perform(LetGo("a", 0))
    domain = live.snapshot().domain("a")
    assert domain is not None
    assert [vcpu.hard_affinity for vcpu in domain.vcpus] == [ALL, FAR]
    live.perform(LetGo("a", 0))


def test_soft_affinity_of_one_vcpu() -> None:
    live = host(busy())
    live.wait(0.1)
    live.perform(SetAffinity("a", 1, soft=NEAR))
    domain = live.snapshot().domain("a")
    assert domain is not None
    assert [vcpu.soft_affinity for vcpu in domain.vcpus] == [ALL, NEAR]
    assert [vcpu.hard_affinity for vcpu in domain.vcpus] == [ALL, ALL]


def test_what_nobody_is_there_for_is_refused() -> None:
    live = host(busy(end_s=1.0))
    live.wait(2.0)
    with pytest.raises(Refused, match="a: no domain"):
        live.perform(SetAffinity("a", 0, soft=NEAR))
    with pytest.raises(Refused, match="Unpause"):
        live.perform(Unpause("a"))
    live.perform(Manage("me"))


def test_who_ended_while_held_is_let_go_without_a_word() -> None:
    live = host(busy(end_s=1.0))
    live.wait(0.5)
    live.perform(Hold("a", "a", 0, FAR, ALL))
    live.wait(1.0)
    live.perform(LetGo("a", 0))
    assert live.snapshot().holds == ()


def test_memory_follows_a_new_home_page_by_page_and_is_counted() -> None:
    live = host(busy())
    live.wait(0.1)
    assert live.rehome_by_page("a", [1])
    assert live.moving == {"a"}
    live.wait(10.0)
    snapshot = live.snapshot()
    domain = snapshot.domain("a")
    assert domain is not None
    assert (domain.memory_by_node_mib, live.moving) == ({1: 2048}, frozenset())
    assert live.moved_bytes == 2048 * 2**20
    assert nodes_of(snapshot, "a") == {1}


def test_the_manager_brings_home_whom_credit2_took_away() -> None:
    """Two busy guests on a node with room for both: credit2 pushes vCPUs away, the manager holds them there."""
    guests = [busy(name, 8, soft=NEAR) for name in ("a", "b")]
    shares = {}
    for managed in (False, True):
        epochs: list[Epoch] = []
        live = LiveHost(Simulation(TOPOLOGY, [DOM0, *guests]), epochs.append)
        with managed_by(live, managed) as daemon:
            for _ in range(6):
                daemon.round()
        shares[managed] = float(np.mean([each.remote[1:].mean() for each in epochs[-10:]]))
        assert isinstance(daemon, Nobody) == (not managed)
    assert shares[False] > 0.2
    assert shares[True] < 0.02


def test_a_new_home_by_live_migration_is_one_once_it_has_arrived() -> None:
    """As on Xen: it runs where it was, has its memory twice meanwhile, and is kept on the new node afterwards."""
    live = host(busy(hard=NEAR))
    live.wait(0.1)
    assert live.rehome("a", [1])
    assert not live.rehome("a", [1])
    assert live.moving == {"a"}
    seen = live.with_homes_to_come(live.snapshot()).domain("a")
    assert seen is not None
    assert {vcpu.hard_affinity for vcpu in seen.vcpus} == {FAR}
    live.wait(0.5)
    assert nodes_of(live.snapshot(), "a") == {0}
    live.wait(15.0)
    snapshot = live.snapshot()
    domain = snapshot.domain("a")
    assert domain is not None
    assert (domain.memory_by_node_mib, live.moving) == ({1: 2048}, frozenset())
    assert live.with_homes_to_come(snapshot) is snapshot
    assert {vcpu.hard_affinity for vcpu in domain.vcpus} == {FAR}
    assert live.moved_bytes == 2048 * 2**20
    assert nodes_of(snapshot, "a") == {1}


def test_who_cannot_be_migrated_keeps_its_home() -> None:
    """Its memory does not fit twice, it is gone, or it ends on the way. Who has its memory there is only kept there."""
    most_mib = TOPOLOGY.nodes[0].memory_mib * 2 // 3
    there = replace(busy("there", memory_nodes=(1,)), memory_mib=most_mib)
    live = host(replace(busy("big"), memory_mib=most_mib), there, busy("short", end_s=2.0))
    live.wait(0.1)
    assert live.rehome("there", [1])
    assert live.moving == frozenset()
    live.wait(0.1)
    assert nodes_of(live.snapshot(), "there") == {1}
    assert not live.rehome("big", [1])
    assert not live.rehome("gone", [1])
    assert live.rehome("short", [1])
    assert live.moving == {"short"}
    live.wait(3.0)
    assert live.moving == frozenset()
    assert live.moved_bytes == 0


@pytest.mark.parametrize("by_page", [False, True])
def test_an_esxi_moves_a_guest_off_a_busy_node_and_its_memory_with_it(by_page: bool) -> None:
    live = host(*(busy(name, 8) for name in ("a", "b")))
    daemon = Esxi(live, live.rehome_by_page if by_page else live.rehome)
    for _ in range(15):
        daemon.round()
    homes = [nodes_of(live.snapshot(), name) for name in ("a", "b")]
    assert sorted(min(home) for home in homes if None not in home) == [0, 1]  # type: ignore[type-var]
    assert (daemon.moves, live.moved_bytes) == (1, 2048 * 2**20)
