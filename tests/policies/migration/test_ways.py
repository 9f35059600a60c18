"""Which ways a domain can be moved, what they cost, and why one cannot be gone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moving_hosts import at_home, cpus_of, domain, host

from domicile.policies.migration.copying import ROUNDS, SWITCH_S, live
from domicile.policies.migration.landing import overhead_mib
from domicile.policies.migration.ways import Option, Permits, Way, options
from domicile.simulator.memory.precopy import Dirtying, forecast
from domicile.state.model import Cpupool, Domain, DomainType, HeldVcpu, Reservation, Snapshot, Vnode

ALL_WAYS = Permits(pause_s=60.0, minimum_mib=256)


def way(snapshot: Snapshot, each: Domain, nodes: tuple[int, ...], which: Way, permits: Permits = ALL_WAYS) -> Option:
    found = options(snapshot, each, nodes, permits)
    assert sorted(option.way for option in found) == sorted(Way)
    return next(option for option in found if option.way is which)


class TestWays:
    def test_all_are_told_those_that_can_be_gone_first(self) -> None:
        a = domain("a", 0)
        found = options(host(a), a, (2,), ALL_WAYS)
        assert [option.way for option in found] == [Way.LIVE, Way.SAVE, Way.BALLOON, Way.VCPUS]
        assert [bool(option.refused) for option in found] == [False, False, False, True]
        assert found[0].memory_mib == {2: 1024}

    def test_live_needs_the_memory_twice_and_pauses_shortly(self) -> None:
        a = domain("a", 0)
        cost = way(host(a), a, (1, 2), Way.LIVE).cost
        assert cost is not None
        assert sum(cost.twice_mib.values()) == 1024 + overhead_mib(a)
        assert cost.twice_mib.keys() == {1, 2}
        assert cost.moved_mib == 1024.0
        assert SWITCH_S < cost.pause_s < 1.0 < cost.time_s
        assert cost.copied_mib > 1024.0
        assert cost.slowdown_s > cost.pause_s

    def test_saving_stands_still_for_all_of_it_and_needs_disk_but_not_memory_twice(self) -> None:
        a = domain("a", {0: 512, 1: 512}, kind=DomainType.PV)
        cost = way(host(a), a, (1,), Way.SAVE).cost
        assert cost is not None
        assert cost.pause_s == cost.time_s > 2.0
        assert cost.disk_mib == 1024.0
        # half of it is there already, and given back before it is built anew
        assert cost.twice_mib == {1: 512 + overhead_mib(a)}
        assert cost.moved_mib == 512.0

    def test_a_balloon_moves_what_the_guest_can_free(self) -> None:
        a = domain("a", {0: 768, 1: 256})
        option = way(host(a), a, (1,), Way.BALLOON)
        assert option.memory_mib == {0: 192, 1: 64 + 768}
        assert option.cost is not None
        assert option.cost.twice_mib == {1: 576}
        assert option.cost.moved_mib == 576.0
        assert option.cost.pause_s == 0.0

    def test_a_balloon_that_brings_nearly_all_home_is_preferred_to_a_pause(self) -> None:
        a = domain("a", 0)
        found = options(host(a), a, (2,), Permits(minimum_mib=64))
        assert [option.way for option in found if not option.refused] == [Way.BALLOON, Way.LIVE]

    def test_vcpus_alone_where_the_memory_is_there(self) -> None:
        a = domain("a", 2, soft=cpus_of([0]))
        first = options(host(a), a, (2,), ALL_WAYS)[0]
        assert (first.way, first.refused) == (Way.VCPUS, "")
        assert first.cost is not None
        assert first.cost.slowdown_s == 0.0
        assert "already" in way(host(a), a, (2,), Way.LIVE).refused

    def test_what_brings_all_home_comes_before_what_brings_a_part(self) -> None:
        a = domain("a", {0: 400, 2: 624})
        assert [option.way for option in options(host(a), a, (2,), Permits())][:2] == [Way.LIVE, Way.VCPUS]

    def test_a_busy_host_loses_more_by_the_copying(self) -> None:
        a = domain("a", 0)
        quiet = way(host(a), a, (2,), Way.LIVE).cost
        others = [at_home(f"g{n}", node, vcpus=4) for n, node in enumerate([0, 1, 2, 3])]
        busy = way(host(a, *others), a, (2,), Way.LIVE).cost
        assert quiet is not None
        assert busy is not None
        assert busy.slowdown_s > quiet.slowdown_s + 1.0

    @pytest.mark.parametrize("which", [Way.LIVE, Way.SAVE, Way.BALLOON])
    def test_what_a_guest_loses_counts_as_its_slowdown_does(self, which: Way) -> None:
        a = domain("a", 0, vcpus=4)
        never, once, twice = (
            way(host(a), a, (2,), which, replace(ALL_WAYS, counts=counts)).cost for counts in (0.0, 1.0, 2.0)
        )
        assert never is not None
        assert once is not None
        assert twice is not None
        assert twice.slowdown_s - never.slowdown_s == pytest.approx(2 * (once.slowdown_s - never.slowdown_s))
        assert once.slowdown_s > never.slowdown_s + once.pause_s * 0.99
        assert once.time_s == twice.time_s


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"id": 0}, "domicile dom0"),
            ({"paused": True}, "paused"),
            ({"vnodes": (Vnode(0, 1024, frozenset({0, 1})),)}, "vnuma"),
            ({"name": "a--incoming"}, "migrated already"),
        ],
    )
    def test_in_all_ways(self, changes: dict[str, object], reason: str) -> None:
        a = replace(domain("a", 0), **changes)  # type: ignore[arg-type]
        for option in options(host(a), a, (2,), ALL_WAYS):
            assert reason in option.refused

    def test_one_that_is_left_alone(self) -> None:
        a = domain("a", 0)
        found = options(host(a), a, (2,), Permits(may_move=False))
        assert {option.refused for option in found} == {"domicile.toml says that it is left alone"}

    def test_one_that_is_being_moved_or_started(self) -> None:
        a = domain("a", 0)
        moving = host(a, domain("a--incoming", 1))
        assert all("migrated already" in option.refused for option in options(moving, a, (2,), ALL_WAYS))
        promised = replace(host(a), reservations=(Reservation("t", "a", {2: 1024}, 2, "pid 1", 0.0),))
        assert all("reserved" in option.refused for option in options(promised, a, (2,), ALL_WAYS))

    def test_devices_stay_and_memory_that_the_guest_frees_does_not_have_to(self) -> None:
        a = replace(domain("a", 0), devices=("0000:41:00.0",))
        assert "0000:41:00.0" in way(host(a), a, (2,), Way.LIVE).refused
        assert "0000:41:00.0" in way(host(a), a, (2,), Way.SAVE).refused
        assert way(host(a), a, (2,), Way.BALLOON).refused == ""

    @pytest.mark.parametrize(("kind", "reason"), [(DomainType.PV, "PV"), (None, "type")])
    def test_no_live_migration_of_pv(self, kind: DomainType | None, reason: str) -> None:
        a = domain("a", 0, kind=kind)
        assert reason in way(host(a), a, (2,), Way.LIVE).refused
        assert way(host(a), a, (2,), Way.SAVE).refused == ""

    def test_no_saving_without_a_permitted_pause(self) -> None:
        a = domain("a", 0)
        assert "may for 0 s" in way(host(a), a, (2,), Way.SAVE, Permits()).refused
        assert "may for 1.5 s" in way(host(a), a, (2,), Way.SAVE, Permits(pause_s=1.5)).refused
        assert "file" in way(host(a), a, (2,), Way.SAVE, Permits(pause_s=60.0, disk_mib=1000.0)).refused

    def test_no_live_migration_that_would_not_be_live(self) -> None:
        a = domain("a", 0, mib=4096)
        busy = Permits(dirty_mib_s=5000.0)
        assert "stand still" in way(host(a), a, (2,), Way.LIVE, busy).refused
        assert way(host(a), a, (2,), Way.LIVE, replace(busy, pause_s=30.0)).refused == ""

    def test_memory_that_is_not_free_twice(self) -> None:
        a, b = domain("a", 0), at_home("b", 2, mib=7200)
        assert "node 2 has 992 MiB free" in way(host(a, b), a, (2,), Way.LIVE).refused
        assert "node 2 has 992 MiB free" in way(host(a, b), a, (2,), Way.SAVE).refused
        assert way(host(a, b), a, (2,), Way.BALLOON).refused == ""
        promised = replace(host(a), reservations=(Reservation("t", "new", {2: 7500}, 2, "pid 1", 0.0),))
        assert "node 2 has 692 MiB free" in way(promised, a, (2,), Way.LIVE).refused
        assert "node 2" in way(promised, a, (2,), Way.BALLOON).refused

    def test_memory_that_another_domain_claimed(self) -> None:
        a, b = domain("a", 0), replace(domain("b", {}), claimed_mib=7500, node_affinity=frozenset({2}))
        assert "free" in way(host(a, b), a, (2,), Way.LIVE).refused

    def test_a_balloon_needs_room_a_map_and_a_guest_that_follows(self) -> None:
        a = domain("a", 0)
        assert "nobody says" in way(host(a), a, (2,), Way.BALLOON, Permits()).refused
        assert "at least" in way(host(a), a, (2,), Way.BALLOON, Permits(minimum_mib=1024)).refused
        unmapped = replace(a, pages_by_node=None)
        assert "memory map" in way(host(unmapped), unmapped, (2,), Way.BALLOON).refused
        assert "memory map" in way(host(unmapped), unmapped, (2,), Way.VCPUS).refused
        stuck = replace(a, target_mib=512)
        assert "target" in way(host(stuck), stuck, (2,), Way.BALLOON).refused

    def test_nodes_that_are_not_there_or_not_its_pool(self) -> None:
        pools = (Cpupool("Pool-0", frozenset(range(6)), "credit2"), Cpupool("other", frozenset({6, 7}), "credit2"))
        a = domain("a", 0)
        here = host(a, pools=pools)
        assert "no node 9" in way(here, a, (9,), Way.LIVE).refused
        assert "no node is named" in way(here, a, (), Way.LIVE).refused
        assert "Pool-0 has no pCPU on node 3" in way(here, a, (2, 3), Way.LIVE).refused

    def test_hard_affinity_of_the_administrator_and_not_a_hold_of_ours(self) -> None:
        a = domain("a", 0, hard=cpus_of([0, 1]))
        assert "hard affinity" in way(host(a), a, (2,), Way.VCPUS).refused
        assert "hard affinity" in way(host(a), a, (1, 2), Way.LIVE).refused
        assert way(host(a), a, (1,), Way.LIVE).refused == ""
        everywhere = frozenset(range(8))
        holds = tuple(HeldVcpu("uuid-a", vcpu, cpus_of([0, 1]), everywhere) for vcpu in (0, 1))
        assert way(replace(host(a), holds=holds), a, (2,), Way.LIVE).refused == ""


@given(
    st.integers(1, 65536),
    st.floats(1.0, 10_000.0),
    st.one_of(st.just(0.0), st.floats(0.1, 20_000.0)),
)
def test_rounds_are_those_of_the_simulated_migration(memory_mib: int, rate_mib_s: float, dirty_mib_s: float) -> None:
    """The simulator copies pages by the same rounds; only what is fixed for each move comes on top here."""
    pages = memory_mib * 256
    there = forecast(pages, rate_mib_s * 2**20 / 1e9, Dirtying(dirty_mib_s * 256.0, pages))
    here = live(memory_mib, rate_mib_s, dirty_mib_s)
    assert here.rounds == there.rounds <= ROUNDS
    assert here.copied_mib == pytest.approx(there.sent_pages / 256.0)
    assert here.pause_s - SWITCH_S == pytest.approx(there.pause_s, abs=1e-9)
    assert here.time_s == pytest.approx(there.total_s + SWITCH_S + 2.0)


@given(
    st.dictionaries(st.integers(0, 3), st.integers(1, 3000), min_size=1),
    st.sets(st.integers(0, 3), min_size=1),
    st.integers(0, 8192),
    st.integers(1, 4096),
)
def test_memory_is_neither_lost_nor_made_nor_taken_where_there_is_none(
    memory: dict[int, int], nodes: set[int], other: int, minimum: int
) -> None:
    a = domain("a", memory)
    room = 8192 - max(memory.values())
    snapshot = host(a, domain("b", {node: min(other, room) for node in range(4)}))
    for option in options(snapshot, a, tuple(nodes), Permits(pause_s=600.0, minimum_mib=minimum)):
        assert sum(option.memory_mib.values()) == a.memory_mib
        if option.refused:
            continue
        assert option.cost is not None
        for node, mib in option.cost.twice_mib.items():
            assert mib <= snapshot.available_mib(node)
        grown = {
            node: mib - memory.get(node, 0) for node, mib in option.memory_mib.items() if mib > memory.get(node, 0)
        }
        assert all(grown[node] <= option.cost.twice_mib[node] for node in grown)
        assert option.cost.moved_mib == pytest.approx(sum(grown.values()))
