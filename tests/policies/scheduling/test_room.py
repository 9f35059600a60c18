"""How much work may be at home on a node."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from watched import NODES, busy, seen

from domicile.performance.assumptions import DEFAULT
from domicile.policies.scheduling.room import Room, rooms

WORTH = 0.6


def share(wanted: float, *, may_hide: bool = False, held: bool = False) -> float:
    return Room(wanted, WORTH).share(1.02, may_hide=may_hide, held=held)


def test_with_room_elsewhere_a_node_takes_what_it_has_pcpus_for() -> None:
    assert share(0.0) == share(0.8) == 1.02
    assert share(0.0, may_hide=True) < share(0.0, may_hide=True, held=True) < 1.02


def test_where_all_others_are_full_who_is_at_home_waits_as_long_as_the_way_to_memory_costs() -> None:
    assert share(1.0) == share(1.0, may_hide=True) == pytest.approx(1.02 + WORTH)


def test_who_is_let_go_waits_elsewhere_too() -> None:
    """With twice as much to do elsewhere as there are pCPUs, a node may have more than twice as much as it has."""
    assert share(2.0) == pytest.approx(2.0 * (1.02 + WORTH))


@given(st.floats(0.0, 5.0), st.floats(0.0, 5.0), st.booleans())
def test_the_fuller_the_others_the_more(one: float, other: float, held: bool) -> None:
    low, high = sorted((one, other))
    assert share(low, may_hide=True, held=held) <= share(high, may_hide=True, held=held)


def test_what_is_wanted_elsewhere_is_what_ran_and_what_waits_there() -> None:
    """Four nodes of two pCPUs each, at distances 10 and 20."""
    snapshot, watch = seen(busy("a", [0, 1], memory=0, soft=NODES[0]), busy("b", [2, 3], memory=1, soft=NODES[1]))
    found = rooms(snapshot, watch, DEFAULT)
    assert found[0].wanted == pytest.approx(2.0 / 6.0)
    assert found[2].wanted == pytest.approx(4.0 / 6.0)
    assert found[0].worth == pytest.approx(DEFAULT.displaced)
    waits = replace(watch, waiting={"uuid-b": 1.5})
    assert rooms(snapshot, waits, DEFAULT)[0].wanted == pytest.approx(3.5 / 6.0)
    assert rooms(snapshot, waits, DEFAULT)[1].wanted == pytest.approx(2.0 / 6.0)
