"""Expected values of sharing against all ways in which copies can lie, and against the simulator's frames."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domicile.policies.sharing.equal import Scanner, Shared, shared
from domicile.simulator.memory.heap import Heap, Request
from domicile.simulator.memory.layout import lay_out
from domicile.simulator.memory.sharing import Sharing, SharingPolicy
from domicile.state.request import SharingMode

OFF, SAME, ANY = SharingMode.OFF, SharingMode.SAME_NODE, SharingMode.ANY_NODE
FAST = Scanner(scan_mib_s=1e9, written_mib_s=0.0)


def nodes_left(where: tuple[int, ...], modes: list[SharingMode]) -> list[int]:
    """The nodes where a copy of a unit is left, one entry each, if its copies lie so: one by one."""
    first = next((node for node, mode in zip(where, modes, strict=True) if mode is ANY), None)
    kept = [] if first is None else [first]
    for node, mode in zip(where, modes, strict=True):
        if mode is OFF or (mode is SAME and node not in kept):
            kept.append(node)
    return kept


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, list[SharingMode]]:
    domains, nodes = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    parts = st.lists(st.integers(0, 3), min_size=nodes, max_size=nodes).filter(any)
    pages = np.array([draw(parts) for _ in range(domains)], dtype=np.float64)
    return pages / pages.sum(axis=1, keepdims=True), [draw(st.sampled_from([OFF, SAME, ANY])) for _ in range(domains)]


@given(cases(), st.integers(0, 5))
def test_all_ways_in_which_copies_can_lie(case: tuple[np.ndarray, list[SharingMode]], length: int) -> None:
    pages, modes = case
    domains, nodes = pages.shape
    found = shared(pages, np.full(domains, float(length)), ["image"] * domains, modes, FAST)
    freed = np.zeros(nodes)
    for where in product(range(nodes), repeat=domains):
        chance = float(np.prod([pages[row, node] for row, node in enumerate(where)]))
        for node in where:
            freed[node] += chance * length
        # who does not share keeps its own copy, and is no part of what others share
        with_others = [(node, mode) for node, mode in zip(where, modes, strict=True) if mode is not OFF]
        alone = [node for node, mode in zip(where, modes, strict=True) if mode is OFF]
        left = nodes_left(tuple(node for node, _ in with_others), [mode for _, mode in with_others])
        for node in [*left, *alone]:
            freed[node] -= chance * length
    assert found.freed == pytest.approx(freed, abs=1e-9)


@st.composite
def hosts(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[str], list[SharingMode], Scanner]:
    pages, modes = draw(cases())
    equal = np.array([draw(st.floats(0, 1000)) for _ in modes])
    content = [draw(st.sampled_from("ab")) for _ in modes]
    after_s = draw(st.sampled_from([None, 0.0, 3.0, 100.0]))
    return pages, equal, content, modes, Scanner(draw(st.floats(0, 500)), draw(st.floats(0, 20)), after_s)


@given(hosts())
def test_what_can_never_be(case: tuple[np.ndarray, np.ndarray, list[str], list[SharingMode], Scanner]) -> None:
    pages, equal, content, modes, scanner = case
    found = shared(pages, equal, content, modes, scanner)
    again = shared(pages, equal, content, modes, scanner)
    assert np.array_equal(found.freed, again.freed)
    assert np.array_equal(found.reads, again.reads)
    # never more than all copies but one of each content, and never more on a node than is there
    on = np.array([mode is not OFF for mode in modes])
    there = {name: [row for row in np.flatnonzero(on) if content[row] == name] for name in set(content)}
    most = sum(equal[rows].sum() - equal[rows].max() for rows in there.values() if rows)
    assert found.freed.sum() <= most + 1e-6
    assert (found.freed >= -1e-9).all()
    assert (found.freed <= (pages * (equal * on)[:, None]).sum(axis=0) + 1e-6).all()
    assert found.reads.sum(axis=1) == pytest.approx(np.zeros(len(modes)), abs=1e-6)
    assert (pages * equal[:, None] + found.reads >= -1e-6).all()
    for row, mode in enumerate(modes):
        if mode is not ANY:
            assert not found.reads[row].any()
        if mode is OFF:
            assert found.shares[row] == 0.0


SLOW = Scanner(scan_mib_s=2.3e-313, written_mib_s=0.0)


@given(hosts())
@example((np.ones((2, 1)), np.ones(2), ["a", "a"], [OFF, OFF], SLOW))
def test_a_wider_mode_frees_no_less(case: tuple[np.ndarray, np.ndarray, list[str], list[SharingMode], Scanner]) -> None:
    pages, equal, content, _, scanner = case
    quiet = Scanner(scanner.scan_mib_s, 0.0, scanner.after_s)
    freed = [shared(pages, equal, content, [mode] * len(equal), quiet).freed.sum() for mode in (OFF, SAME, ANY)]
    assert freed[0] == 0.0
    assert freed[1] <= freed[2] + 1e-6


def simulated(pages: np.ndarray, units: list[int], modes: list[SharingMode], seed: int) -> Shared:
    """The same by frames, a page a MiB."""
    random = np.random.default_rng(seed)
    heap = Heap.of(lay_out([8000] * pages.shape[1]), keep_for_dma=False)
    sharing = Sharing.on(heap, SharingPolicy.ANY_NODE, 1e9, 0.0, 1)
    free = heap.free_pages.copy()
    reads = np.zeros_like(pages)
    group = None
    for row, mode in enumerate(modes):
        where = random.choice(pages.shape[1], size=units[row], p=pages[row])
        heap.add(str(row))
        for node, count in enumerate(np.bincount(where, minlength=pages.shape[1]).tolist()):
            heap.alloc_many(str(row), count, Request(node=node, exact=True))
            free[node] -= count
        if mode is OFF:
            continue
        sharing.policies[str(row)] = SharingPolicy(mode)
        if group is None:
            group = sharing.add_group({str(row): where.astype(np.int16)})
        else:
            group.join(str(row), where.astype(np.int16))
    step = sharing.step(0.0, 1.0, heap)
    for name, change in step.reads.items():
        reads[int(name)] = change
    return Shared((heap.free_pages - free).astype(np.float64), reads, np.zeros(len(modes)), 0.0)


@pytest.mark.parametrize(
    "modes", [[ANY] * 4, [SAME] * 4, [SAME, ANY, SAME, ANY], [ANY, SAME, OFF, ANY], [OFF, OFF, SAME, SAME]]
)
def test_the_simulators_frames(modes: list[SharingMode]) -> None:
    pages = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5], [0.0, 0.0, 1.0]])
    units = [400, 1200, 1000, 700]
    expected = shared(pages, np.array(units, dtype=np.float64), ["image"] * 4, modes, FAST)
    found = simulated(pages, units, modes, seed=1)
    # a binomial count of 1200 has a standard deviation of 17
    assert found.freed == pytest.approx(expected.freed, abs=80)
    assert found.reads == pytest.approx(expected.reads, abs=80)
    assert found.freed.sum() == pytest.approx(expected.freed.sum(), abs=80)


def test_the_scanner_goes_through_one_content_after_the_other() -> None:
    pages, equal = np.ones((4, 1)), np.array([100.0, 100.0, 60.0, 60.0])
    freed = [
        shared(pages, equal, ["a", "a", "b", "b"], [SAME] * 4, Scanner(10.0, 0.0, after_s)).freed[0]
        for after_s in (0.0, 5.0, 12.0, 20.0, None)
    ]
    assert freed == [0.0, 50.0, 120.0, 160.0, 160.0]


def test_writes_end_it() -> None:
    pages, equal = np.ones((2, 1)), np.array([100.0, 100.0])
    found = shared(pages, equal, ["a", "a"], [ANY] * 2, Scanner(1000.0, 1.0, 20.0))
    assert found.freed[0] == pytest.approx(60.0)
    assert shared(pages, equal, ["a", "a"], [ANY] * 2, Scanner(1000.0, 1.0, 1e6)).freed[0] == 0.0
