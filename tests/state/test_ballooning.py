"""Memory that domains are about to take is not free for others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from domicile.state.ballooning import still_to_take, taken_by_node
from domicile.state.model import Domain, Reservation, Snapshot, Vcpu
from domicile.topology.model import Cpu, Node, Topology

ALL = frozenset(range(4))


def host(*free_mib: int, **of_domain: Any) -> Snapshot:
    """A host with one domain that has 256 MiB."""
    nodes = tuple(Node(number, 8192, free) for number, free in enumerate(free_mib))
    topology = Topology(nodes, tuple(Cpu(n, n, 0, n % len(nodes)) for n in ALL), None)
    domain = Domain(1, "web", "u", (Vcpu(0, 0, ALL, ALL),), 256, 1024, node_affinity=frozenset({1}))
    return Snapshot(topology, (replace(domain, **of_domain),), 0.0)


def available(snapshot: Snapshot) -> list[int]:
    return [snapshot.available_mib(node) for node in snapshot.topology.node_ids]


def test_what_is_missing_to_the_target_is_promised_where_it_is_taken() -> None:
    assert available(host(1000, 1000, target_mib=556)) == [1000, 700]
    assert available(host(1000, 100, target_mib=556)) == [800, 0]
    assert available(host(1000, 1000, target_mib=556, node_affinity=None)) == [850, 850]
    assert available(host(1000, 1000, target_mib=556, node_affinity=frozenset({0, 1}))) == [850, 850]


def test_what_it_may_be_set_to_and_what_it_is_to_give_are_not() -> None:
    assert available(host(1000, 1000, target_mib=256)) == [1000, 1000]
    assert available(host(1000, 1000, target_mib=None)) == [1000, 1000]
    assert available(host(1000, 1000, target_mib=100)) == [1000, 1000]


def test_a_claim_counts_and_is_not_counted_twice() -> None:
    assert available(host(1000, 1000, claimed_mib=300)) == [1000, 700]
    assert available(host(1000, 1000, claimed_mib=300, target_mib=556)) == [1000, 700]


def test_a_domain_being_built_under_a_reservation_is_counted_once() -> None:
    building = host(1000, 1000, memory_mib=100, target_mib=400, paused=True)
    promise = Reservation("t", "web", {1: 404}, 1, "pid 1", 0.0)
    assert available(replace(building, reservations=(promise,))) == [1000, 696]


@given(
    st.integers(0, 5000),
    st.dictionaries(st.integers(0, 7), st.integers(0, 1000), min_size=1),
    st.none() | st.frozensets(st.integers(0, 9)),
)
def test_all_of_it_is_found_a_place_and_no_node_gives_more_than_it_has(
    mib: int, free_mib: dict[int, int], preferred: frozenset[int] | None
) -> None:
    taken = taken_by_node(mib, free_mib, preferred)
    total = sum(free_mib.values())
    assert sum(taken.values()) == min(mib, total)
    assert all(0 < taken[node] <= free_mib[node] for node in taken)
    near = sum(free for node, free in free_mib.items() if preferred is None or node in preferred)
    there = sum(part for node, part in taken.items() if preferred is None or node in preferred)
    assert there == min(mib, near)


def test_what_is_left_of_a_promise() -> None:
    """A node that was to give less has given it before the others: its turn comes as often."""
    assert still_to_take({0: 75, 1: 90}, 0) == {0: 75, 1: 90}
    assert still_to_take({0: 75, 1: 90}, 101) == {0: 25, 1: 40}
    assert still_to_take({0: 75, 1: 90}, 150) == {0: 0, 1: 15}
    assert still_to_take({0: 75, 1: 90}, 200) == {0: 0, 1: 0}
    assert still_to_take({}, 10) == {}


@given(st.lists(st.integers(0, 300), min_size=1, max_size=6), st.integers(0, 2000))
def test_what_was_taken_and_what_is_left_are_all_of_it(mib: list[int], taken: int) -> None:
    promised = dict(enumerate(mib))
    left = still_to_take(promised, taken)
    assert all(0 <= left[node] <= promised[node] for node in promised)
    gone = sum(mib) - sum(left.values())
    assert min(taken, sum(mib)) - len(mib) < gone <= taken
    # taken in turn: as if each node had given a MiB after the other
    by_hand, rest = dict(promised), taken
    while rest > 0 and any(by_hand.values()):
        for node in sorted(by_hand):
            if by_hand[node] and rest > 0:
                by_hand[node], rest = by_hand[node] - 1, rest - 1
    assert all(abs(left[node] - by_hand[node]) <= 1 for node in promised)
