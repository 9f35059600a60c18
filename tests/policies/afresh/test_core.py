"""The compiled search: its objective is the layout's, its moves are exact, and it finds what is proven to be best."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.bench.against_exact import MOST, compare, drawn
from domicile.local import compiled
from domicile.policies.effort import Effort
from domicile.policies.placement import place, problem_of
from domicile.policies.placement.afresh.build import Built, build, seats_of
from domicile.policies.placement.afresh.core.arrays import FIRST, LOW, new_state
from domicile.policies.placement.afresh.proof import prove
from domicile.policies.placement.afresh.search import NoWay, choices_of, layout_of, searched, worked_out
from domicile.policies.placement.exact import search_exactly
from domicile.policies.placement.layout import Layout, Problem

SEEDS = st.integers(0, 100_000)


def instance(seed: int) -> tuple[Problem, Built]:
    snapshot, requests, intent = drawn(seed)
    problem = problem_of(snapshot, requests, intent)
    return problem, build(problem)


def any_choices(built: Built, seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    first = built.given.guest[FIRST]
    return np.asarray(np.random.default_rng(seed).integers(first[:-1], first[1:]), dtype=np.int64)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_the_objective_is_that_of_the_layout(seed: int) -> None:
    problem, built = instance(seed)
    found = worked_out(built, any_choices(built, seed))
    layout: Layout | None = Layout.empty(problem)
    for guest, seat in enumerate(seats_of(problem, built, found.chosen, found.mib)):
        assert layout is not None
        falls = layout.seat_for(guest, seat.nodes)
        if falls is None:
            layout = None
            break
        assert falls.reserve_mib == seat.reserve_mib
        np.testing.assert_allclose(falls.vcpu_share, seat.vcpu_share)
        layout = layout.seated(guest, falls)
    assert (layout is None) == (found.short_mib > 0)
    if layout is not None:
        assert found.objective == pytest.approx(layout.objective, abs=1e-8)
        assert list(choices_of(built, layout)) == list(found.chosen)


@pytest.mark.parametrize("seed", [0, 3, 4, 8, 12, 15, 24])
def test_moves_add_up_to_what_the_whole_comes_to(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In plain Python: parts of compiled loops cannot be called from outside."""
    for mark in ("entrance", "part", "melted"):
        monkeypatch.setattr(compiled, mark, lambda function: function)
    for name in [name for name in sys.modules if "placement.afresh.core." in name]:
        monkeypatch.delitem(sys.modules, name)
    moves = importlib.import_module("domicile.policies.placement.afresh.core.moves")
    terms = importlib.import_module("domicile.policies.placement.afresh.core.terms")
    _, built = instance(seed)
    given = built.given
    state, anew = new_state(given), new_state(given)
    state.chosen[:] = any_choices(built, seed)
    terms.rebuilt(given, state)
    random = np.random.default_rng(seed)
    for _ in range(40):
        guest = int(random.integers(len(given.busy)))
        moves.take_out(given, state, guest)
        anew.chosen[:] = state.chosen
        assert state.value[0] == pytest.approx(terms.rebuilt(given, anew), rel=1e-9, abs=1e-7)
        candidate = int(random.integers(given.guest[FIRST, guest], given.guest[FIRST, guest + 1]))
        added = moves.added_on(given, state, guest, candidate)
        if not state.value[1]:
            assert added >= given.costs[LOW, candidate] - 1e-7
        moves.put_in(given, state, guest, candidate, added)
        anew.chosen[:] = state.chosen
        assert state.value[0] == pytest.approx(terms.rebuilt(given, anew), rel=1e-9, abs=1e-7)
        assert (state.mib == anew.mib).all()
        np.testing.assert_allclose(state.sums, anew.sums, atol=1e-9)
        np.testing.assert_allclose(state.ways, anew.ways, atol=1e-9)


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_the_same_seed_gives_the_same_and_more_starts_are_no_worse(seed: int) -> None:
    problem, built = instance(seed)
    try:
        once = searched(problem, built, Effort(starts=2, rounds=30))
    except NoWay:
        return
    again = searched(problem, built, Effort(starts=2, rounds=30))
    assert list(again.chosen) == list(once.chosen)
    left = iter([True, True, False])
    longer = searched(problem, built, Effort(starts=2, rounds=30, more=lambda: next(left)))
    assert longer.starts == 4
    assert longer.objective <= once.objective + 1e-9


def test_a_sample_comes_close_to_the_proven_best() -> None:
    """All thousand: `python -m domicile.bench.against_exact`."""
    results = [compare(seed, compiled=True) for seed in few_assignments(24)]
    gaps = [one.gap for one in results if one.gap is not None]
    assert len(gaps) >= 15
    assert not [one for one in results if one.missed]
    assert np.median(gaps) < 1e-6
    assert np.percentile(gaps, 95) <= 0.01
    assert max(gaps) <= 0.05


def few_assignments(count: int) -> list[int]:
    """Seeds of the first instances that enumeration is quick for."""
    found = []
    for seed in range(1000):
        snapshot, requests, _ = drawn(seed)
        if (2 ** len(snapshot.topology.nodes) - 1) ** len(requests) <= MOST // 4:
            found.append(seed)
        if len(found) == count:
            break
    return found


@pytest.mark.parametrize("seed", [0, 7, 14, 1, 8])
def test_no_layout_is_below_the_bound(seed: int) -> None:
    pytest.importorskip("highspy")
    snapshot, requests, intent = drawn(seed)
    problem = problem_of(snapshot, requests[:4], intent)
    built = build(problem)
    best = search_exactly(problem, None)
    proof = prove(problem, built, None)
    assert proof.optimal
    if best is None:
        assert proof.best is None
        return
    assert proof.bound <= best.objective + 1e-6
    assert proof.best is not None
    assert layout_of(problem, built, proof.best).objective == pytest.approx(proof.best.objective)
    assert proof.best.objective >= best.objective - 1e-6
    known = worked_out(built, choices_of(built, best))
    assert prove(problem, built, known).gap(len(problem.residents.names) + len(requests[:4])) < 0.05


def test_many_guests_are_placed_by_it_and_a_plan_is_a_promise_kept() -> None:
    snapshot, requests, intent = drawn(13)
    plan = place(snapshot, requests, intent, effort=Effort(seed=1, starts=1))
    assert [one.domain for one in plan.placements] == [request.name for request in requests]
    free = {node: snapshot.available_mib(node) for node in snapshot.topology.node_ids}
    for request, placement in zip(requests, plan.placements, strict=True):
        assert sum(placement.reserve_mib.values()) == request.need_mib
        for node, mib in placement.reserve_mib.items():
            free[node] -= mib
    assert min(free.values()) >= 0
