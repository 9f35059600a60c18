"""How many virtual nodes: the fewest, unless more gain enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.policies.vnuma.widths import WIDER, best_width, faster_but


@pytest.mark.parametrize(
    ("objectives", "width"),
    [
        ({2: 0.5}, 2),
        ({2: 0.5, 3: 0.5}, 2),
        ({2: 0.5, 3: 0.5 - WIDER}, 2),
        ({2: 0.5, 3: 0.49 - WIDER}, 3),
        ({2: 1.0, 4: 1.01 - 2 * WIDER}, 2),
        ({2: 1.0, 4: 0.99 - 2 * WIDER}, 4),
        ({3: 1.0, 4: 0.9, 5: 0.99 - 2 * WIDER}, 5),
        ({2: 1.0, 3: 0.0, 4: -0.2}, 3),
        ({2: 1.0, 3: 2.0}, 2),
    ],
)
def test_the_fewest_unless_more_are_worth_it(objectives: dict[int, float], width: int) -> None:
    assert best_width(objectives) == width


@given(st.dictionaries(st.integers(2, 9), st.floats(0, 5), min_size=1))
def test_each_beyond_the_fewest_gains_what_is_asked_for(objectives: dict[int, float]) -> None:
    width, fewest = best_width(objectives), min(objectives)
    assert objectives[fewest] - objectives[width] >= WIDER * (width - fewest) - 1e-6
    for other, objective in objectives.items():
        assert objective >= objectives[width] + WIDER * (width - other) - 1e-6


def test_what_would_be_faster_is_told_with_what_is_asked_for() -> None:
    told = faster_but({2: 0.5, 3: 0.4, 4: 0.2}, 2)
    assert told.startswith("4 are predicted to gain 0.30 in slowdown over all domains, and more than 0.80 is asked for")
    assert faster_but({2: 0.5, 3: 0.6}, 2) == ""
    assert faster_but({2: 0.5, 3: 0.1}, 3) == ""
    assert faster_but({2: 0.5}, 2) == ""
