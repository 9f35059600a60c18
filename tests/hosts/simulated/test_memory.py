"""Where a simulated domain's memory goes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sim_machines import machine

from domicile.hosts.simulated.memory import even_shares, node_affinity, take_pages
from domicile.state.model import Vcpu

ALL = frozenset(range(8))


def vcpu(hard: set[int] | frozenset[int] = ALL, soft: set[int] | frozenset[int] = ALL) -> Vcpu:
    return Vcpu(0, None, frozenset(hard), frozenset(soft))


@pytest.mark.parametrize(
    ("vcpus", "pool", "nodes"),
    [
        ([vcpu()], ALL, {0, 1, 2, 3}),
        ([vcpu(soft={4, 5})], ALL, {2}),
        ([vcpu(hard={2, 3})], ALL, {1}),
        ([vcpu(soft={0}), vcpu(soft={6})], ALL, {0, 3}),
        ([vcpu(hard={0, 1}, soft={6, 7})], ALL, {0}),
        ([vcpu(soft={6, 7})], frozenset({0, 1}), {0}),
    ],
    ids=["none", "soft", "hard", "two vCPUs", "soft outside hard", "soft outside the pool"],
)
def test_node_affinity_is_the_narrowest_that_can_be_had(
    vcpus: list[Vcpu], pool: frozenset[int], nodes: set[int]
) -> None:
    assert node_affinity(vcpus, pool, machine()) == nodes


def test_evenly_over_the_preferred_nodes() -> None:
    assert take_pages(101, {0: 500, 1: 500, 2: 500}, [1, 2]) == {1: 51, 2: 50}


def test_a_short_node_gives_what_it_has_and_its_fellows_the_rest() -> None:
    assert take_pages(100, {0: 500, 1: 10, 2: 500}, [1, 2]) == {1: 10, 2: 90}


def test_falls_back_to_other_nodes_from_the_first_on() -> None:
    assert take_pages(100, {0: 30, 1: 20, 2: 50, 3: 500}, [2]) == {2: 50, 0: 30, 1: 20}


def test_more_than_the_host_has_is_the_callers_fault() -> None:
    with pytest.raises(ValueError, match="50 pages too many"):
        take_pages(100, {0: 50}, [0])


limits = st.dictionaries(st.integers(0, 7), st.integers(0, 1000), max_size=8)


@given(limits, st.integers(0, 4000), st.sets(st.integers(0, 7)))
def test_takes_all_of_it_within_the_limits_and_the_preferred_first(
    free: dict[int, int], pages: int, preferred: set[int]
) -> None:
    pages = min(pages, sum(free.values()))
    taken = take_pages(pages, free, preferred)
    assert sum(taken.values()) == pages
    assert all(0 < part <= free[node] for node, part in taken.items())
    elsewhere = sum(part for node, part in taken.items() if node not in preferred)
    preferred_free = sum(free[node] for node in preferred & free.keys())
    assert elsewhere == max(pages - preferred_free, 0)


@given(limits, st.integers(0, 4000))
def test_shares_differ_only_where_a_limit_is_reached(free: dict[int, int], pages: int) -> None:
    shares = even_shares(pages, free)
    largest = max(shares.values(), default=0)
    assert all(shares.get(node, 0) == limit for node, limit in free.items() if shares.get(node, 0) < largest - 1)
