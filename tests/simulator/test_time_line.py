"""A run over time in few points: means stay what they are, and what was not there stays away."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.simulator.run import Sample
from domicile.simulator.time_line import MOST_POINTS, TimeLine, resampled
from domicile.simulator.totals import DomainSummary, NodeSummary, Summary

SHARES = st.one_of(st.none(), st.floats(0.0, 1.0))


def sample(time_s: float, seconds: float, remote: float | None) -> Sample:
    domain = DomainSummary("a", seconds, 1.5, 1.5, 1.0, 1.0, remote, None, 0.0, 0.0, 0.0)
    return Sample(time_s, Summary(seconds, True, (domain,), (NodeSummary(7, 0.25, 0.5, 10),)))


@given(st.lists(st.tuples(st.floats(0.1, 5.0), SHARES), min_size=1, max_size=30), st.integers(1, 50))
def test_the_mean_over_all_cells_is_that_of_all_points(points: list[tuple[float, float | None]], cells: int) -> None:
    seconds = np.array([length for length, _ in points])
    values = np.array([[np.nan if value is None else value for _, value in points]])
    ends_s = 3.0 + np.cumsum(seconds)
    found = resampled(values, ends_s, seconds, cells)[0]
    assert found.shape == (cells,)
    known = ~np.isnan(values[0])
    assert np.isnan(found).all() == (not known.any())
    if known.all():
        assert found.mean() == pytest.approx(np.average(values[0], weights=seconds), abs=1e-9)
    if known.any():
        assert np.nanmin(found) >= values[0][known].min() - 1e-9
        assert np.nanmax(found) <= values[0][known].max() + 1e-9


def test_cells_show_what_was_then() -> None:
    ends_s, seconds = np.arange(1.0, 5.0), np.ones(4)
    values = np.array([[0.0, 1.0, np.nan, 0.5]])
    assert resampled(values, ends_s, seconds, 2)[0].tolist() == [0.5, 0.5]
    assert np.isnan(resampled(values, ends_s, seconds, 4)[0][2])
    assert resampled(np.zeros((1, 0)), np.zeros(0), np.zeros(0), 3).shape == (1, 3)


def test_a_long_run_stays_small() -> None:
    line = TimeLine()
    count = 5 * MOST_POINTS
    for number in range(count):
        line.write(sample(number + 1.0, 1.0, number / count))
    assert len(line.ends_s) == len(line.seconds) <= MOST_POINTS
    assert sum(line.seconds) == count
    assert line.ends_s[-1] == count
    assert line.remote.shape == (1, len(line.ends_s))
    assert np.average(line.remote[0], weights=line.seconds) == pytest.approx(0.5, abs=0.01)
    assert (np.diff(line.remote[0]) > 0).all()
    assert (line.busy == 0.25).all()
    assert (line.controller == 0.5).all()
    assert (line.slowdown == 1.5).all()
    assert (line.domains, line.nodes) == (("a",), (7,))
