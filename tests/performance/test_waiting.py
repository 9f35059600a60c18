"""Who gets how much of what is full: against the conditions that tell the optimum, and what is worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.performance.waiting import carried


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), flows=st.integers(1, 40), resources=st.integers(1, 12))
def test_waiting_times_explain_all_rates(seed: int, flows: int, resources: int) -> None:
    """Kuhn and Tucker's conditions, which only the optimum meets: nothing carries more than it can; there are waiting
    times, none where there is room, that make every flow as much slower as it is."""
    random = np.random.default_rng(seed)
    use = random.uniform(0.01, 2.0, (flows, resources)) * (random.random((flows, resources)) < 0.4)
    capacity = random.choice([1.0, 5.0, 50.0], resources)
    demand = random.choice([0.0, 0.5, 1.0, 20.0], flows)
    weight = random.choice([0.0, 0.1, 1.0, 2.0], flows)
    rates = carried(use, capacity, demand, weight)
    load = rates @ use
    assert (load <= capacity * (1 + 1e-6)).all()
    runs = (demand > 0) & (weight > 0)
    assert not rates[~runs].any()
    assert (rates[runs] > 0).all()
    longer = weight[runs] * (1 / rates[runs] - 1 / demand[runs])
    full = load > capacity * (1 - 1e-6)
    assert (longer >= -1e-9).all()
    assert longer[~use[np.ix_(runs, full)].any(axis=1)] == pytest.approx(0.0, abs=1e-6)
    if full.any():
        prices, *_ = np.linalg.lstsq(use[np.ix_(runs, full)], longer, rcond=None)
        assert use[np.ix_(runs, full)] @ prices == pytest.approx(longer, rel=1e-3, abs=1e-4)


def test_alike_ones_share_alike() -> None:
    use = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    rates = carried(use, np.array([2.0, 10.0]), np.array([100.0, 100.0, 9.0]), np.ones(3))
    assert rates == pytest.approx([1.0, 1.0, 9.0])


def test_who_has_more_vcpus_gets_more() -> None:
    rates = carried(np.ones((2, 1)), np.array([4.0]), np.array([10.0, 30.0]), np.array([1.0, 3.0]))
    assert rates == pytest.approx([1.0, 3.0])


def test_who_takes_a_hundredth_of_its_bytes_there_waits_a_hundredth_as_long() -> None:
    """Two that want the same: the wait of one byte, for which the first takes 8 times as long, counts so much less."""
    first, second = carried(np.array([[1.0], [0.01]]), np.array([1.01]), np.array([8.0, 8.0]), np.ones(2))
    assert 1 / second - 1 / 8 == pytest.approx((1 / first - 1 / 8) / 100, rel=1e-4)
    assert second > 7.4


@pytest.mark.parametrize("more", [1e-3, 0.1])
def test_there_is_no_jump_where_something_gets_full(more: float) -> None:
    use, demand, weight = np.array([[1.0], [0.05]]), np.array([4.0, 9.0]), np.ones(2)
    fits = float(demand @ use[:, 0])
    assert carried(use, np.array([fits]), demand, weight).tolist() == demand.tolist()
    assert carried(use, np.array([fits * (1 - more)]), demand, weight) == pytest.approx(demand, rel=1.2 * more)


def test_waiting_for_two_adds_up() -> None:
    use = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    one, other, both = carried(use, np.array([2.0, 1.0]), np.full(3, 1e3), np.ones(3))
    assert 1 / both - 1e-3 == pytest.approx(1 / one + 1 / other - 2e-3, rel=1e-4)
