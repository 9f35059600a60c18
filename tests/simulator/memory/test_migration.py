"""Moves of memory: against closed forms, and against the heap they work on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.errors import NotEnoughMemory
from domicile.simulator.memory.heap import Heap, Request
from domicile.simulator.memory.layout import lay_out
from domicile.simulator.memory.migration import LiveMove, PageMove
from domicile.simulator.memory.populate import Part, populate
from domicile.simulator.memory.precopy import CopyLimits, Dirtying, Phase, Precopy, forecast
from domicile.state.model import PAGES_PER_MIB, DomainType

MIB = PAGES_PER_MIB
GIB = 1024 * MIB
PER_S = 1e9 / 4096


def run(copy: Precopy, steps: list[float], granted: float | None = None) -> float:
    """Step through; how long it took."""
    now = 0.0
    for index in range(1_000_000):
        dt = steps[index % len(steps)]
        done = copy.step(now, dt, granted)
        now += done.used_s
        if done.phase is Phase.DONE:
            return now
    raise AssertionError("it never ended")


@given(
    pages=st.integers(1, 10_000_000),
    rate=st.floats(0.1, 20.0),
    ratio=st.floats(0.0, 3.0),
    rounds=st.integers(0, 30),
    few=st.floats(0.0, 1000.0),
)
def test_a_constant_dirty_rate_gives_a_geometric_row(
    pages: int, rate: float, ratio: float, rounds: int, few: float
) -> None:
    found = forecast(pages, rate, Dirtying(ratio * rate * PER_S), CopyLimits(rounds, few))
    n = found.rounds
    assert n <= rounds
    factor = min(ratio, 1.0)  # more than everything cannot be dirty
    row = pages * (n + 1) if factor == 1.0 else pages * (1 - factor ** (n + 1)) / (1 - factor)
    assert found.sent_pages == pytest.approx(row, rel=1e-6)
    assert found.total_s == pytest.approx(row / (rate * PER_S), rel=1e-6)
    assert found.pause_s == pytest.approx(pages * factor**n / (rate * PER_S), rel=1e-6, abs=1e-12)
    # it stopped when it could, and not before
    assert n == rounds or pages * factor**n <= max(few, 1e-3) * (1 + 1e-6)
    assert n < 2 or pages * factor ** (n - 1) >= few * (1 - 1e-6)


@settings(max_examples=50)
@given(
    pages=st.integers(1, 1_000_000),
    rate=st.floats(0.5, 20.0),
    writes=st.floats(0.0, 1e7),
    writable=st.floats(1.0, 1e6) | st.just(math.inf),
    pause=st.floats(0.0, 0.3),
    steps=st.lists(st.floats(0.01, 0.5), min_size=1, max_size=4),
)
def test_the_length_of_the_steps_changes_nothing(
    pages: int, rate: float, writes: float, writable: float, pause: float, steps: list[float]
) -> None:
    dirtying, limits = Dirtying(writes, writable), CopyLimits(fixed_pause_s=pause)
    expected = forecast(pages, rate, dirtying, limits)
    copy = Precopy(pages, rate, dirtying, limits)
    took = run(copy, steps)
    # a round fewer or more where a hair decides whether 50 pages are few
    if copy.round == max(expected.rounds, 1):
        assert took == pytest.approx(expected.total_s, rel=1e-6, abs=1e-9)
        assert copy.sent_pages == pytest.approx(expected.sent_pages, rel=1e-6)
        assert copy.paused_s == pytest.approx(expected.pause_s, rel=1e-5, abs=1e-9)
    else:
        assert abs(expected.pause_s - copy.paused_s) <= 51 / (rate * PER_S)


def test_half_the_bandwidth_takes_twice_as_long() -> None:
    copy = Precopy(GIB, 2.0)
    assert run(copy, [0.1], granted=1.0) == pytest.approx(2 * GIB / (2 * PER_S))
    idle = Precopy(GIB, 2.0)
    assert idle.step(0.0, 5.0, 0.0).sent_pages == 0.0
    assert idle.phase is Phase.COPYING


def test_no_rounds_is_save_and_restore() -> None:
    found = forecast(GIB, 1.0, Dirtying(1e9), CopyLimits(rounds=0))
    assert found.pause_s == found.total_s == pytest.approx(GIB / PER_S)


def test_a_copy_without_a_rate_is_refused() -> None:
    for rate in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="never ends"):
            Precopy(1, rate)


def test_dirty_pages_saturate() -> None:
    writes = Dirtying(1000.0, 500.0)
    assert writes.after(0.0, 0.001) == pytest.approx(1.0, rel=0.01)
    assert writes.after(0.0, 60.0) == pytest.approx(500.0)
    # in two goes as in one
    assert writes.after(writes.after(0.0, 0.3), 0.4) == pytest.approx(writes.after(0.0, 0.7))


def host(domain_gib: int = 2) -> Heap:
    heap = Heap.of(lay_out([4 * GIB] * 3), keep_for_dma=False)
    heap.add("web", [0])
    populate(heap, "web", DomainType.PVH, [Part(domain_gib * GIB)])
    return heap


def test_a_live_move_needs_the_memory_twice_and_then_once() -> None:
    heap = host()
    total = heap.total_free
    move = LiveMove.start(heap, "web", DomainType.PVH, [Part(2 * GIB)], [1], Precopy(2 * GIB, 4.0), cpu_node=2)
    assert heap.total_free == total - 2 * GIB
    now, read, written = 0.0, 0.0, 0.0
    while True:
        step = move.step(heap, now, 0.1)
        now += 0.1
        read += sum(flow.gbs for flow in step.flows if flow.memory_node == 0) * 0.1
        written += sum(flow.gbs for flow in step.flows if flow.memory_node == 1) * 0.1
        assert all(flow.cpu_node == 2 for flow in step.flows)
        if step.phase is Phase.DONE:
            break
        assert not step.moved
    assert [(each.source, each.target, each.pages) for each in step.moved] == [(0, 1, 2 * GIB)]
    assert heap.pages_of("web").tolist() == [0, 2 * GIB, 0]
    assert heap.total_free == total
    assert read == pytest.approx(2 * GIB * 4096 / 1e9)
    assert written == pytest.approx(read)
    assert not move.step(heap, now, 0.1).moved


def test_a_live_move_that_does_not_fit_leaves_nothing() -> None:
    heap = host(3)
    heap.add("other", [1])
    populate(heap, "other", DomainType.PVH, [Part(7 * GIB)])
    free = heap.free_pages.tolist()
    with pytest.raises(NotEnoughMemory):
        LiveMove.start(heap, "web", DomainType.PVH, [Part(3 * GIB)], [1], Precopy(3 * GIB, 4.0), cpu_node=0)
    assert heap.free_pages.tolist() == free
    assert heap.owners == ("Xen", "web", "other")


def test_a_cancelled_live_move_leaves_the_domain_where_it_was() -> None:
    heap = host()
    free = heap.free_pages.tolist()
    move = LiveMove.start(heap, "web", DomainType.PVH, [Part(2 * GIB)], [1], Precopy(2 * GIB, 1.0), cpu_node=0)
    move.step(heap, 0.0, 0.5)
    move.cancel(heap)
    move.cancel(heap)
    assert heap.free_pages.tolist() == free
    assert move.step(heap, 0.5, 10.0).flows == ()
    assert heap.pages_of("web").tolist() == [2 * GIB, 0, 0]


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(300, 3000), min_size=2, max_size=2),
    filled=st.floats(0.0, 1.0),
    asked=st.integers(1, 4000),
    rate_mbs=st.floats(0.1, 20.0),
    claimed=st.integers(0, 400),
    granted=st.lists(st.none() | st.floats(0.0, 0.02), min_size=1, max_size=3),
)
def test_a_page_move_conserves_pages_and_keeps_promises(
    sizes: list[int],
    filled: float,
    asked: int,
    rate_mbs: float,
    claimed: int,
    granted: list[float | None],
) -> None:
    heap = Heap.of(lay_out(sizes), keep_for_dma=False)
    heap.add("web", [0])
    heap.add("promised", [1])
    heap.alloc_many("web", round(filled * (sizes[0] - 1)), Request(exact=True))
    claimed = min(claimed, heap.total_free)
    if claimed:
        heap.claim("promised", claimed)
    held = int(heap.pages_of("web").sum())
    total = heap.free_pages + heap.pages_of("web")
    move = PageMove("web", 0, 1, asked, rate_mbs / 1000, cpu_node=0, dirtying=Dirtying(1e5, 1e4))
    moved, now = 0, 0.0
    for index in range(200):
        step = move.step(heap, now, 0.05, granted[index % len(granted)])
        now += 0.05
        moved += sum(each.pages for each in step.moved)
        assert heap.pages_of("web").sum() == held
        assert heap.pages_of("web")[1] == moved
        assert (heap.free_pages + heap.pages_of("web") == total).all()
        assert heap.total_free >= heap.claims.outstanding
        if step.phase is Phase.DONE:
            break
    assert moved <= min(asked, held)
    assert moved * 4096 <= now * rate_mbs * 1e6 + 1
    if step.phase is Phase.DONE:
        assert moved == min(asked, held)


def test_pages_that_are_written_cost_more_to_move() -> None:
    quiet = PageMove("web", 0, 1, 10_000, 1.0, 0)
    busy = PageMove("web", 0, 1, 10_000, 1.0, 0, Dirtying(1e6, 1e4))
    batch_s = 512 / PER_S
    assert quiet.again(1.0) == 0.0
    assert busy.again(1.0) == pytest.approx(1 - math.exp(-100 * batch_s))
    heap = host()
    step = busy.step(heap, 0.0, 0.01)
    assert np.mean([flow.gbs for flow in step.flows]) == pytest.approx(1.0, rel=0.01)
    assert step.moved[0].pages == math.floor(0.01 * PER_S * math.exp(-100 * batch_s))
