"""The assignment of virtual nodes against all there are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.policies.vnuma.assign import AssignmentProblem, assign


@st.composite
def problems(draw: st.DrawFn) -> AssignmentProblem:
    """A few virtual nodes and nodes; some alike, some that can be nowhere."""
    vnodes, nodes = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    alike = draw(st.booleans())
    seed = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    linear = seed.integers(0, 20, (vnodes, nodes)) / 4.0
    weight = seed.integers(0, 5, (vnodes, vnodes)) / 4.0
    need = seed.integers(1, 9, vnodes)
    allowed = seed.random((vnodes, nodes)) < draw(st.sampled_from([0.5, 0.8, 1.0]))
    crowd = seed.integers(0, 6, (vnodes, nodes)) / 4.0
    if alike:
        linear, weight = np.tile(linear[:1], (vnodes, 1)), np.full((vnodes, vnodes), weight[0, 0])
        need, allowed = np.full(vnodes, need[0]), np.tile(allowed[:1], (vnodes, 1))
        crowd = np.tile(crowd[:1], (vnodes, 1))
    return AssignmentProblem(
        linear=linear,
        weight=weight,
        way=seed.integers(0, 6, (nodes, nodes)) / 2.0,
        need_mib=need,
        room_mib=seed.integers(0, 20, nodes),
        allowed=allowed,
        crowd=crowd,
        may_share=draw(st.booleans()),
    )


def brute_force(problem: AssignmentProblem) -> float | None:
    """The least cost of all assignments; None if none is feasible."""
    everywhere = itertools.product(range(problem.linear.shape[1]), repeat=problem.vnodes)
    return min((problem.cost(one) for one in everywhere if problem.feasible(one)), default=None)


@given(problems())
def test_nothing_is_better_and_what_can_be_is_found(problem: AssignmentProblem) -> None:
    best, found = brute_force(problem), assign(problem)
    if best is None:
        assert found is None
        return
    assert found is not None
    assert problem.feasible(found.pnodes)
    assert found.proven
    assert found.cost == pytest.approx(best, abs=1e-9)
    assert problem.cost(found.pnodes) == pytest.approx(found.cost)


def test_the_cost_by_hand() -> None:
    problem = AssignmentProblem(
        linear=np.array([[1.0, 2.0], [4.0, 8.0]]),
        weight=np.array([[9.0, 0.5], [0.25, 9.0]]),
        way=np.array([[7.0, 2.0], [4.0, 5.0]]),
        need_mib=np.array([1, 1]),
        room_mib=np.array([2, 2]),
        allowed=np.ones((2, 2), dtype=bool),
        crowd=np.array([[0.5, 0.0], [0.125, 0.0]]),
        may_share=True,
    )
    assert problem.cost((0, 1)) == 1.0 + 8.0 + 0.5 * 2.0 + 0.25 * 4.0
    assert problem.cost((1, 0)) == 2.0 + 4.0 + 0.5 * 4.0 + 0.25 * 2.0
    assert problem.cost((0, 0)) == 1.0 + 4.0 + (0.5 + 0.25) * 7.0 + 0.5 + 0.125


@pytest.mark.parametrize("alike", [True, False])
def test_many_nodes_are_no_trouble(alike: bool) -> None:
    """8 of 16 nodes in four rings: all alike by trying every set, others by a search that may end early."""
    seed = np.random.default_rng(7)
    place = np.arange(16)
    way = 1.0 + 2.0 * (place[:, None] // 4 != place[None, :] // 4)
    np.fill_diagonal(way, 0.0)
    need = np.full(8, 100) if alike else 100 + seed.permutation(8)
    problem = AssignmentProblem(
        linear=np.tile(seed.random(16), (8, 1)) / 100.0,
        weight=np.full((8, 8), 0.1),
        way=way,
        need_mib=need,
        room_mib=np.where(place % 4 == 3, 50, 1000),
        allowed=np.ones((8, 16), dtype=bool),
        crowd=np.zeros((8, 16)),
    )
    found = assign(problem)
    assert found is not None
    assert problem.feasible(found.pnodes)
    rings = sorted(np.bincount(np.array(found.pnodes) // 4, minlength=4).tolist())
    assert rings == [0, 2, 3, 3]
    assert found.proven or not alike


def test_the_search_ends_and_says_that_it_did() -> None:
    seed = np.random.default_rng(1)
    problem = AssignmentProblem(
        linear=seed.random((32, 64)),
        weight=seed.random((32, 32)),
        way=seed.random((64, 64)),
        need_mib=seed.integers(1, 100, 32),
        room_mib=seed.integers(90, 200, 64),
        allowed=np.ones((32, 64), dtype=bool),
        crowd=np.zeros((32, 64)),
    )
    found = assign(problem, steps=200)
    assert found is not None
    assert problem.feasible(found.pnodes)
    assert not found.proven
