"""Balloons: late, at a rate, not fully; and never a page lost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.simulator.memory.balloon import Balloons, Manners
from domicile.simulator.memory.heap import XEN, Heap, Request
from domicile.simulator.memory.layout import lay_out
from domicile.simulator.memory.pages import DomainPages

QUICK = Manners()


def scene(pages: int = 1000, manners: Manners = QUICK, nodes: int = 2) -> tuple[Heap, DomainPages, Balloons]:
    """A guest on node 0 of a host with 2000 pages a node."""
    heap = Heap.of(lay_out([2000] * nodes), keep_for_dma=False)
    heap.add("web", [0])
    heap.alloc_many("web", pages, Request(exact=True))
    table = DomainPages.empty(nodes)
    table.add(heap.pages_of("web")[None, :], 0.2, 0.9)
    balloons = Balloons()
    balloons.add("web", 0, pages, manners)
    return heap, table, balloons


def run(heap: Heap, table: DomainPages, balloons: Balloons, seconds: float, dt: float, start: float = 0.0) -> list[int]:
    """The guest's pages after each step."""
    sizes = []
    for index in range(round(seconds / dt)):
        balloons.step(start + index * dt, dt, heap, table)
        sizes.append(int(heap.pages_of("web").sum()))
    return sizes


def test_it_answers_late_and_at_its_rate() -> None:
    heap, table, balloons = scene(manners=Manners(delay_s=1.0, pages_per_s=100.0))
    balloons.set_target("web", 750, 0.0, heap)
    assert balloons.due_s() == 1.0
    assert run(heap, table, balloons, 5.0, 0.5) == [1000, 1000, 950, 900, 850, 800, 750, 750, 750, 750]
    assert balloons.due_s() == math.inf


def test_it_does_not_always_give_all_and_never_its_least() -> None:
    heap, table, balloons = scene(manners=Manners(kept_share=0.25))
    balloons.set_target("web", 600, 0.0, heap)
    assert run(heap, table, balloons, 1.0, 0.5)[-1] == 700
    heap, table, balloons = scene(manners=Manners(least_pages=900))
    balloons.set_target("web", 600, 0.0, heap)
    assert run(heap, table, balloons, 1.0, 0.5)[-1] == 900


def test_down_and_up_under_a_new_affinity_moves_memory() -> None:
    heap, table, balloons = scene()
    heap.set_affinity("web", [1])
    balloons.set_target("web", 600, 0.0, heap)
    run(heap, table, balloons, 1.0, 0.5)
    balloons.set_target("web", 1000, 1.0, heap)
    run(heap, table, balloons, 1.0, 0.5, start=1.0)
    assert heap.pages_of("web").tolist() == [600, 400]
    # the cold pages went, so what is hot is where it was
    assert table.hot.tolist() == [[200, 0]]


def test_a_refusal_is_asked_again_later_and_later() -> None:
    heap, table, balloons = scene()
    heap.alloc_many(XEN, 5000)
    balloons.set_target("web", 1001, 0.0, heap)
    asked = []
    now = 0.0
    for _ in range(7):
        now = balloons.due_s()
        record = balloons.step(now, 0.0 + 1e-3, heap, table)
        assert record[0].short == 1
        asked.append(now)
    assert np.diff(asked) == pytest.approx([1.001, 2.001, 4.001, 8.001, 16.001, 32.001])
    heap.give_back(XEN, 1, 10)
    balloons.step(balloons.due_s(), 1.0, heap, table)
    assert heap.pages_of("web").tolist() == [1000, 1]


@settings(max_examples=60)
@given(
    targets=st.lists(st.tuples(st.integers(0, 3000), st.floats(0.0, 2.0)), min_size=1, max_size=5),
    manners=st.builds(
        Manners, st.floats(0, 1), st.floats(1, 5000), st.integers(0, 500), st.sampled_from([0.0, 0.3, 1.0])
    ),
    dt=st.sampled_from([0.1, 0.25, 1.0]),
    claimed=st.integers(0, 500),
)
def test_pages_are_conserved_and_promises_kept(
    targets: list[tuple[int, float]], manners: Manners, dt: float, claimed: int
) -> None:
    heap, table, balloons = scene(manners=manners)
    heap.add("promised")
    if claimed:
        heap.claim("promised", claimed)
    total = heap.free_pages + heap.pages_of("web")
    now = 0.0
    for target, wait in targets:
        balloons.set_target("web", target, now, heap)
        before = heap.pages_of("web")
        for _ in range(round(wait / dt)):
            for record in balloons.step(now, dt, heap, table):
                assert (heap.pages_of("web") == before + record.change).all()
                before = heap.pages_of("web")
            now += dt
            assert (heap.free_pages + heap.pages_of("web") == total).all()
            assert (table.by_node()[0] == heap.pages_of("web")).all()
            assert heap.total_free >= heap.claims.outstanding
            assert heap.pages_of("web").sum() >= min(manners.least_pages, 1000)


@given(cuts=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=20))
def test_the_length_of_the_steps_changes_nothing(cuts: list[float]) -> None:
    heap, table, balloons = scene(manners=Manners(delay_s=0.3, pages_per_s=37.0))
    balloons.set_target("web", 0, 0.0, heap)
    now = 0.0
    for dt in cuts:
        balloons.step(now, dt, heap, table)
        now += dt
    assert abs(1000 - heap.pages_of("web").sum() - max(now - 0.3, 0.0) * 37.0) <= 1.0
