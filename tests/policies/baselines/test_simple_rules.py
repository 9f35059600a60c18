"""First fit, random, packed, spread and greedy against what their sources say, and against models that try all."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_hosts import guest, guests, host, hosts, resident

from domicile.errors import Refused
from domicile.policies.baselines import first_fit, greedy, packed, random_set, spread
from domicile.policies.baselines.packed import sorted_nodes
from domicile.policies.baselines.sets import first_set
from domicile.policies.baselines.turns import Turn
from domicile.policies.placement import problem_of
from domicile.policies.placement.candidates import weigh
from domicile.policies.placement.layout import Layout
from domicile.policies.plan import PlacementPlan
from domicile.state.model import Snapshot
from domicile.state.request import GuestRequest, Intent


def nodes_of(plan: PlacementPlan) -> list[tuple[int, ...]]:
    return [placement.nodes for placement in plan.placements]


def turn_of(on: Snapshot, request: GuestRequest) -> Turn:
    try:
        return Turn(on, Layout.empty(problem_of(on, [request], Intent())), 0)
    except Refused:
        assume(False)
        raise


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_the_first_set_is_the_first_of_all(data: st.DataObject) -> None:
    on = data.draw(hosts())
    turn = turn_of(on, data.draw(guests(on)))
    assume(turn.eligible)
    order = data.draw(st.permutations(turn.eligible))
    pcpus = data.draw(st.sampled_from([0, 2, 5]))
    every = [sets for size in range(1, len(order) + 1) for sets in combinations(order, size)]
    expected = next((s for s in every if turn.fits(s) and sum(turn.pcpus[n] for n in s) >= pcpus), None)
    assert first_set(turn, order, pcpus) == expected


def test_first_fit_as_johnson_has_it() -> None:
    """Bins of 10, items of 6, 7, 2, 4, 3, 8, by hand: the first bin by index that each fits."""
    items = [6, 7, 2, 4, 3, 8]
    plan = first_fit.place(host(10, 10, 10, 10), [guest(1, size, f"i{at}") for at, size in enumerate(items)])
    assert nodes_of(plan) == [(0,), (1,), (0,), (2,), (1,), (3,)]


def test_first_fit_takes_several_nodes_where_one_has_not_enough() -> None:
    assert nodes_of(first_fit.place(host(100, 900, 300, 900), [guest(1, 1200)])) == [(1, 2)]
    assert nodes_of(first_fit.place(host(100, 100, 300, 900), [guest(1, 1200)])) == [(2, 3)]


def test_random_is_by_seed_and_name_and_evenly_spread() -> None:
    on = host(9000, 9000, 9000, 9000)
    requests = [guest(1, 1, f"g{number}") for number in range(400)]
    found = [random_set.place(on, [request]).placements[0].nodes for request in requests]
    counts = np.bincount([nodes[0] for nodes in found], minlength=4)
    # 400 draws of 4: 100 each, give or take four standard deviations
    assert all(abs(count - 100) <= 4 * np.sqrt(400 * 0.25 * 0.75) for count in counts)
    assert all(len(nodes) == 1 for nodes in found)
    assert nodes_of(random_set.place(on, requests[:40])) == found[:40]
    assert nodes_of(random_set.seeded(1)(on, requests[:40])) != found[:40]


def test_nova_sorts_by_vcpus_and_then_by_memory() -> None:
    """cpu-topologies.rst: the sort by memory comes first and has the least priority."""
    vcpus, free = [4.0, 2.0, 2.0, 0.0], [100, 300, 200, 50]
    assert sorted_nodes(range(4), vcpus, free, pack=False) == (3, 1, 2, 0)
    assert sorted_nodes(range(4), vcpus, free, pack=True) == (0, 2, 1, 3)
    assert sorted_nodes(range(4), [0.0] * 4, [7] * 4, pack=True) == (0, 1, 2, 3)
    assert sorted_nodes(range(4), [0.0] * 4, [7] * 4, pack=False) == (0, 1, 2, 3)


def test_packing_fills_the_most_used_node_that_fits_and_spreading_avoids_it() -> None:
    busy = (resident("a", 2, [1], count=3), resident("b", 1, [2], count=3))
    on = host(4000, 2000, 4000, domains=busy)
    small = [guest(1, 900, f"g{number}") for number in range(4)]
    assert nodes_of(packed.place(on, small)) == [(1,), (1,), (2,), (2,)]
    assert nodes_of(spread.place(on, small)) == [(0,), (2,), (0,), (2,)]


def test_neither_puts_more_vcpus_on_a_node_than_it_has_cpus_while_it_can_be_helped() -> None:
    on = host(4000, 4000, 4000)
    for place in (packed.place, spread.place):
        assert len(place(on, [guest(6, 100)]).placements[0].nodes) == 2
        assert len(place(on, [guest(13, 100)]).placements[0].nodes) == 1


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_greedy_is_best_for_the_guest_itself(data: st.DataObject) -> None:
    on = data.draw(hosts(most_nodes=4))
    request = data.draw(guests(on))
    turn = turn_of(on, request)
    losses = []
    for size in range(1, len(turn.eligible) + 1):
        for nodes in combinations(turn.eligible, size):
            if turn.fits(nodes):
                layout = turn.layout
                batch = weigh(turn.subject, layout.load, layout.ties(0), layout.room_mib(), np.array([nodes]))
                losses.append((float(batch.costs.own[0]), nodes))
    assume(losses)
    (placement,) = greedy.place(on, [request]).placements
    own = sum(term.cost for term in placement.terms)
    # memory in whole MiB may fall a little less evenly than in the search
    assert own == pytest.approx(min(losses)[0], abs=0.01)


def test_greedy_does_not_care_for_residents() -> None:
    """One node is nearest to the device-less guest's own good, the resident there notwithstanding: same cost for it,
    other cost for the neighbour; domicile tells them apart, greedy takes the one with more free memory."""
    on = host(4000, 5000, domains=(resident("db", 3, [1], count=2),))
    (placement,) = greedy.place(on, [guest(1, 100)]).placements
    assert "neighbours" in {term.name for term in placement.terms}
    alone = host(4000, 5000)
    assert nodes_of(greedy.place(alone, [guest(1, 100)])) == [(1,)]
