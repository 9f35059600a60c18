"""What each domain's slowdown counts."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.performance.tenants import Tenants
from domicile.policies.counting import counted


def counts_of(demand: list[float]) -> list[float]:
    tenants = replace(Tenants.none(2), demand=np.array(demand))
    found = counted(tenants).counts
    assert found is not None
    return [float(each) for each in found]


@given(demand=st.lists(st.floats(0.01, 64.0), min_size=1, max_size=20))
def test_those_that_run_count_1_on_average_the_wider_the_more(demand: list[float]) -> None:
    counts = counts_of(demand)
    assert sum(counts) == pytest.approx(len(demand))
    assert [counts[row] for row in np.argsort(demand, kind="stable")] == sorted(counts)


def test_a_part_goes_by_domains_and_a_part_by_work() -> None:
    small, wide = counts_of([1.0, 15.0])
    assert (wide - small) / (small + wide) == pytest.approx(0.35 * 14 / 16)


def test_who_sleeps_counts_nothing_and_changes_nothing() -> None:
    assert counts_of([0.0, 0.0]) == [0.0, 0.0]
    assert counts_of([0.0, 2.0, 2.0]) == [0.0, 1.0, 1.0]
