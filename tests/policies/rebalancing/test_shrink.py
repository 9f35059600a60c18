"""Idle guests that make room, and get their memory again."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from moving_hosts import at_home, cpus_of, domain, free_left, host, loaded

from domicile.policies.migration.records import Permits
from domicile.policies.rebalancing.records import Rules
from domicile.policies.rebalancing.shrink import LEAST_MIB, Ask, Shrunk, give_back, make_room, shrunk_by
from domicile.state.model import PAGES_PER_MIB, Domain, Reservation, Snapshot

RULES = Rules(permits={name: Permits(minimum_mib=512) for name in ("a", "b", "c")})
IDLE = {"a": 0.0, "b": 0.0, "c": 0.0}


def answered(snapshot: Snapshot, asks: tuple[Ask, ...]) -> Snapshot:
    """The host once all have done as they were asked."""

    def changed(each: Domain) -> Domain:
        ask = next((one for one in asks if one.uuid == each.uuid), None)
        if ask is None:
            return each
        own = dict(each.memory_by_node_mib or {})
        sign = 1 if ask.target_mib > ask.from_mib else -1
        for node, mib in ask.by_node.items():
            own[node] = own.get(node, 0) + sign * mib
        pages = {node: mib * PAGES_PER_MIB for node, mib in own.items()}
        return replace(each, pages_by_node=pages, memory_mib=ask.target_mib, target_mib=ask.target_mib)

    return free_left(replace(snapshot, domains=tuple(map(changed, snapshot.domains))))


class TestMakingRoom:
    def test_an_idle_guest_gives_what_is_missing_and_no_more(self) -> None:
        snapshot = host(at_home("a", 1, mib=4096), at_home("busy", 1, mib=3584))
        room = make_room(snapshot, loaded(snapshot, IDLE), {1: 2000}, RULES)
        [ask] = room.asks
        assert (ask.domain, ask.from_mib, ask.target_mib) == ("a", 4096, 4096 - 1488)
        assert ask.by_node == {1: 1488}
        assert answered(snapshot, room.asks).available_mib(1) >= 2000

    def test_where_there_is_room_nobody_is_asked(self) -> None:
        snapshot = host(at_home("a", 1))
        assert make_room(snapshot, loaded(snapshot, IDLE), {1: 2000}, RULES).asks == ()

    def test_who_has_its_memory_where_it_is_wanted_is_asked_first(self) -> None:
        spread = domain("a", {0: 2000, 1: 2000, 2: 2000}, soft=cpus_of([1]))
        snapshot = host(spread, at_home("b", 1, mib=6000))
        room = make_room(snapshot, loaded(snapshot, IDLE), {1: 1000}, RULES)
        assert [ask.domain for ask in room.asks] == ["b"]

    def test_several_where_one_is_not_enough(self) -> None:
        snapshot = host(at_home("a", 1, mib=3000), at_home("b", 1, mib=2500), at_home("c", 1, mib=2600))
        room = make_room(snapshot, loaded(snapshot, IDLE), {1: 5000}, RULES)
        assert {ask.domain for ask in room.asks} == {"a", "b", "c"}
        assert all(ask.target_mib >= 512 for ask in room.asks)
        assert answered(snapshot, room.asks).available_mib(1) >= 5000

    def test_nobody_is_asked_for_what_helps_nobody(self) -> None:
        snapshot = host(at_home("a", 1, mib=3000), at_home("busy", 1, mib=5000))
        room = make_room(snapshot, loaded(snapshot, IDLE), {1: 5000}, RULES)
        assert room.asks == ()
        assert room.missing_mib == {1: 5000 - 192 - 2488}

    def test_why_others_are_not_asked(self) -> None:
        guests = [at_home(name, 1, mib=1000) for name in ("a", "b", "c", "d")]
        stuck = replace(guests[1], target_mib=600)
        snapshot = host(guests[0], stuck, replace(guests[2], paused=True), guests[3])
        room = make_room(snapshot, loaded(snapshot, {"b": 0.0, "a": 1.5}), {1: 6000}, RULES)
        reasons = {each.domain: each.reason for each in room.considered}
        assert "busy" in reasons["a"]
        assert "asked already" in reasons["b"]
        assert "paused" in reasons["c"]
        assert "nobody says" in reasons["d"]

    def test_promises_are_counted(self) -> None:
        promised = Reservation("t", "new", {1: 4000}, 2, "pid 1", 0.0)
        snapshot = replace(host(at_home("a", 1, mib=4096)), reservations=(promised,))
        [ask] = make_room(snapshot, loaded(snapshot, IDLE), {1: 1000}, RULES).asks
        assert ask.from_mib - ask.target_mib == 1000 - 96


class TestGivingBack:
    def test_what_was_given_is_given_back_when_there_is_room(self) -> None:
        snapshot = host(at_home("a", 1, mib=4096), at_home("busy", 1, mib=3584))
        room = make_room(snapshot, loaded(snapshot, IDLE), {1: 2000}, RULES)
        shrunk = shrunk_by(room.asks, {})
        assert shrunk == {"uuid-a": Shrunk("uuid-a", 4096)}
        then = answered(snapshot, room.asks)
        alone = free_left(replace(then, domains=then.domains[:1]))
        alone = replace(alone, domains=(replace(alone.domains[0], max_memory_mib=4096),))
        [ask] = give_back(alone, shrunk, RULES)
        assert ask.target_mib == 4096
        assert shrunk_by((ask,), shrunk) == {}

    def test_a_part_where_there_is_room_for_a_part(self) -> None:
        small = replace(at_home("a", 1, mib=1000), max_memory_mib=4000)
        snapshot = host(small, at_home("b", 1, mib=6000))
        [ask] = give_back(snapshot, {"uuid-a": Shrunk("uuid-a", 4000)}, RULES)
        kept = round(0.05 * 8192)
        assert ask.target_mib - 1000 == 1192 - kept
        assert shrunk_by((ask,), {"uuid-a": Shrunk("uuid-a", 4000)})
        assert give_back(answered(snapshot, (ask,)), {"uuid-a": Shrunk("uuid-a", 4000)}, RULES) == ()

    def test_it_is_not_given_where_another_was_just_shrunk_for_it(self) -> None:
        small = replace(at_home("a", 1, mib=1000), max_memory_mib=4000)
        snapshot = host(small, at_home("b", 1, mib=7000))
        assert give_back(snapshot, {"uuid-a": Shrunk("uuid-a", 4000)}, RULES) == ()


@settings(max_examples=100)
@given(
    st.lists(st.dictionaries(st.integers(0, 3), st.integers(1, 2500), min_size=1), min_size=1, max_size=3),
    st.dictionaries(st.integers(0, 3), st.integers(1, 9000), min_size=1, max_size=2),
    st.integers(0, 2000),
)
def test_limits_are_kept_and_promises_of_room_too(
    memories: list[dict[int, int]], wanted: dict[int, int], minimum: int
) -> None:
    guests = [domain(name, memory) for name, memory in zip("abc", memories, strict=False)]
    snapshot = host(*guests)
    rules = Rules(usual=Permits(minimum_mib=minimum))
    room = make_room(snapshot, loaded(snapshot, IDLE), wanted, rules)
    assert all(ask.target_mib >= minimum for ask in room.asks)
    assert all(sum(ask.by_node.values()) <= ask.from_mib - ask.target_mib for ask in room.asks)
    if room.missing_mib:
        assert not room.asks
        # even if all gave all that they have to spare: but for those who have too little to be asked
        most = {node: float(snapshot.available_mib(node) - 3 * LEAST_MIB) for node in wanted}
        for guest in guests:
            share = max(guest.memory_mib - minimum, 0) / guest.memory_mib
            for node, mib in (guest.memory_by_node_mib or {}).items():
                if node in most:
                    most[node] += share * mib
        assert any(most[node] < mib for node, mib in wanted.items())
    else:
        then = answered(snapshot, room.asks)
        assert all(then.available_mib(node) >= mib for node, mib in wanted.items())
