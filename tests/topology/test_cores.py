"""Core ids that tell SMT siblings, and only them."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.topology.cores import Placed, number_cores


@st.composite
def machines(draw: st.DrawFn) -> list[Placed]:
    """CPUs with any groups, and core ids that may repeat, be missing or be right."""
    cores = draw(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2), st.none() | st.integers(0, 3)), max_size=8))
    placed: list[Placed] = []
    for group, (socket, node, core) in enumerate(cores):
        threads = draw(st.integers(1, 3))
        placed += [Placed(len(placed) + thread, socket, node, group, core) for thread in range(threads)]
    return placed


@settings(deadline=None, max_examples=50)
@given(machines())
def test_equal_ids_mean_siblings(placed: list[Placed]) -> None:
    cpus, _ = number_cores(placed)
    found = defaultdict(set)
    for cpu in cpus:
        found[cpu.socket, cpu.node, cpu.core].add(cpu.id)
    wanted = defaultdict(set)
    for one in placed:
        wanted[one.group].add(one.id)
    assert {frozenset(ids) for ids in found.values()} == {frozenset(ids) for ids in wanted.values()}


def test_good_ids_are_kept() -> None:
    cpus, notes = number_cores([Placed(0, 0, 0, "a", 7), Placed(1, 0, 0, "b", 9), Placed(2, 0, 0, "a", 7)])
    assert [cpu.core for cpu in cpus] == [7, 9, 7]
    assert notes == []


def test_ids_that_repeat_are_counted_anew_where_they_do() -> None:
    cpus, notes = number_cores(
        [Placed(0, 0, 0, "a", 5), Placed(1, 0, 0, "b", 5), Placed(2, 1, 0, "c", 5), Placed(3, 1, 0, "d", 6)]
    )
    assert [cpu.core for cpu in cpus] == [0, 1, 5, 6]
    assert "CPUs 0-1 " in notes[0]


def test_what_nobody_tells_stays_unknown() -> None:
    cpus, notes = number_cores([Placed(0, None, 0, None, None), Placed(1, None, 0, None, None)])
    assert [cpu.core for cpu in cpus] == [None, None]
    assert notes == []
