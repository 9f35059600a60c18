"""Max-min fair sharing against a linear program, and against what can be worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog  # type: ignore[import-untyped]

from domicile.performance.curves import Floats
from domicile.performance.fair import max_min


def by_linear_programs(use: Floats, capacity: Floats, demand: Floats, weight: Floats) -> Floats:
    """The lexicographically greatest rates per weight: raise the least as far as it goes, fix the flows that cannot
    have more while all others have that much, go on with the rest."""
    flows = len(demand)
    fixed: dict[int, float] = {}
    while len(fixed) < flows:
        free = [f for f in range(flows) if f not in fixed]
        limits = [(fixed.get(f, 0.0), fixed.get(f, float(demand[f]))) for f in range(flows)]
        # one more variable, the level: rate of a free flow >= level x weight
        above = [[-1.0 if g == f else 0.0 for g in range(flows)] + [float(weight[f])] for f in free]
        shared = np.hstack([use.T, np.zeros((use.shape[1], 1))])
        found = linprog(
            [0.0] * flows + [-1.0],
            A_ub=np.vstack([shared, *above]),
            b_ub=np.concatenate([capacity, np.zeros(len(free))]),
            bounds=[*limits, (0.0, None)],
        )
        level = float(found.x[-1])
        least = [(min(level * weight[f], high) * (1 - 1e-9) if f in free else low, high)
                 for f, (low, high) in enumerate(limits)]  # fmt: skip
        for f in free:
            most = linprog([-1.0 if g == f else 0.0 for g in range(flows)], A_ub=use.T, b_ub=capacity, bounds=least)
            if -most.fun <= level * weight[f] * (1 + 1e-6) + 1e-9:
                fixed[f] = level * float(weight[f])
    return np.array([fixed[f] for f in range(flows)])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), flows=st.integers(1, 6), resources=st.integers(1, 4))
def test_it_is_what_linear_programs_find(seed: int, flows: int, resources: int) -> None:
    random = np.random.default_rng(seed)
    use = random.uniform(0.2, 2.0, (flows, resources)) * (random.random((flows, resources)) < 0.6)
    capacity = random.uniform(0.5, 5.0, resources)
    demand = random.choice([0.1, 0.5, 1.0, 2.0, 8.0], flows) * random.uniform(0.9, 1.1, flows)
    weight = random.choice([0.5, 1.0, 3.0], flows)
    rates = max_min(use, capacity, demand, weight)
    assert rates == pytest.approx(by_linear_programs(use, capacity, demand, weight), rel=1e-4, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), flows=st.integers(1, 40), resources=st.integers(1, 12))
def test_every_flow_is_content_or_held_back_by_a_full_resource_where_nobody_has_more(
    seed: int, flows: int, resources: int
) -> None:
    """The defining property of max-min fairness, at sizes that linear programs are too slow for."""
    random = np.random.default_rng(seed)
    use = random.uniform(0.2, 2.0, (flows, resources)) * (random.random((flows, resources)) < 0.4)
    capacity = random.choice([0.0, 1.0, 5.0, 50.0], resources)
    demand = random.choice([0.0, 0.5, 1.0, 20.0], flows)
    weight = random.choice([1.0, 2.0], flows)
    rates = max_min(use, capacity, demand, weight)
    load = rates @ use
    assert (load <= capacity + 1e-9).all()
    assert (rates <= demand + 1e-12).all()
    for f in np.flatnonzero(rates < demand - 1e-9):
        full = [r for r in np.flatnonzero(use[f]) if load[r] >= capacity[r] - 1e-9]
        level = rates[f] / weight[f]
        assert any(level >= (rates / weight)[use[:, r] > 0].max() - 1e-9 for r in full)


def test_two_flows_on_one_link_and_one_beside_it() -> None:
    use = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    assert max_min(use, np.array([2.0, 10.0]), np.full(3, 100.0)).tolist() == [1.0, 1.0, 9.0]


def test_many_assignments_are_one_call() -> None:
    random = np.random.default_rng(3)
    use, capacity = random.random((7, 5, 3)), random.uniform(1, 2, 3)
    demand = random.random((7, 5))
    together = max_min(use, capacity, demand)
    assert together.shape == (7, 5)
    for number in range(7):
        assert together[number].tolist() == max_min(use[number], capacity, demand[number]).tolist()
