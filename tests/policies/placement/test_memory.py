"""How memory falls on nodes: in turn, until one is full."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.policies.placement.memory import in_proportion, spread, spread_whole

rooms = st.lists(st.integers(0, 5000), min_size=1, max_size=8)


def test_even_until_one_is_full() -> None:
    assert spread_whole(300, [1000, 1000, 1000]) == [100, 100, 100]
    assert spread_whole(300, [50, 1000, 1000]) == [50, 125, 125]
    assert spread_whole(300, [50, 0, 250]) == [50, 0, 250]
    assert spread_whole(301, [50, 0, 250]) is None


@given(room=rooms, need=st.integers(1, 20000))
def test_what_fits_falls_page_by_page(room: list[int], need: int) -> None:
    taken = spread_whole(need, room)
    if sum(room) < need:
        assert taken is None
        return
    # one MiB after the other, to each node with room in turn
    expected = [0] * len(room)
    left, turn = need, 0
    while left:
        if expected[turn % len(room)] < room[turn % len(room)]:
            expected[turn % len(room)] += 1
            left -= 1
        turn += 1
    assert taken is not None
    assert sum(taken) == need
    assert max(abs(one - other) for one, other in zip(taken, expected, strict=True)) <= 1


@given(room=rooms, need=st.integers(1, 20000))
def test_many_sets_at_once_agree_with_one(room: list[int], need: int) -> None:
    both = spread(need, np.array([room, room[::-1]], dtype=np.float64))
    one = spread_whole(need, room)
    if one is None:
        assert np.isnan(both).all()
    else:
        assert both[0] == pytest.approx(one, abs=1)
        assert both[1] == pytest.approx(both[0][::-1])
        assert both.sum(axis=1) == pytest.approx(need)


@given(limits=rooms, part=st.floats(0, 1))
def test_proportions_add_up_within_their_limits(limits: list[int], part: float) -> None:
    total = int(sum(limits) * part)
    parts = in_proportion(total, limits)
    assert sum(parts) == total
    assert all(0 <= one <= limit for one, limit in zip(parts, limits, strict=True))
