"""Where accesses go: against one access at a time, and on guests that can be judged by eye."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from domicile.simulator.memory.flow import apportion
from domicile.simulator.memory.pages import DomainPages

NODES = 3
counts = arrays.arrays(np.int64, st.tuples(st.integers(1, 3), st.just(NODES)), elements=st.integers(0, 50))
shares = st.floats(0.0, 1.0)


def touch(pages: DomainPages, traffic: np.ndarray, cpu: int, which: list[int], weight: float) -> None:
    """Accesses of one CPU's node to the pages of some parts."""
    h = sum(int(pages.hot[part].sum()) for part in which)
    c = sum(int(pages.cold[part].sum()) for part in which)
    to_hot = 1.0 if not c else 0.0 if not h else float(pages.hot_access[pages.domain[which[0]]])
    for part in which:
        for node in range(NODES):
            if h:
                traffic[cpu, node] += weight * to_hot * int(pages.hot[part, node]) / h
            if c:
                traffic[cpu, node] += weight * (1 - to_hot) * int(pages.cold[part, node]) / c


def brute_traffic(pages: DomainPages, domain: int, vcpus: np.ndarray) -> np.ndarray:
    """One page and one vCPU after the other."""
    parts = pages.parts_of(domain)
    hot = sum(int(pages.hot[part].sum()) for part in parts)
    cold = sum(int(pages.cold[part].sum()) for part in parts)
    traffic = np.zeros((NODES, NODES))

    total = float(vcpus[parts].sum())
    if not hot + cold or total <= 0:
        return traffic
    for part in parts:
        own = float(pages.own_share[domain]) if pages.sees_nodes[domain] else 0.0
        if not (pages.hot[part] + pages.cold[part]).any():
            own = 0.0
        for cpu in range(NODES):
            weight = float(vcpus[part, cpu]) / total
            if own:
                touch(pages, traffic, cpu, [part], weight * own)
            touch(pages, traffic, cpu, parts, weight * (1 - own))
    return traffic


@given(
    domains=st.lists(st.tuples(counts, shares, shares, st.booleans(), shares), min_size=1, max_size=3), data=st.data()
)
def test_traffic_is_what_single_accesses_add_up_to(
    domains: list[tuple[np.ndarray, float, float, bool, float]], data: st.DataObject
) -> None:
    pages = DomainPages.empty(NODES)
    for domain in domains:
        pages.add(*domain)
    rows = len(pages.domain)
    vcpus = data.draw(arrays.arrays(np.float64, (rows, NODES), elements=st.integers(0, 5)))
    traffic = pages.traffic_share(vcpus)
    for index in range(len(domains)):
        assert traffic[index] == pytest.approx(brute_traffic(pages, index, vcpus), abs=1e-9)
    assert pages.local_share(vcpus) == pytest.approx(np.trace(traffic, axis1=1, axis2=2))


def test_a_guest_that_does_not_see_its_nodes_spreads_its_accesses() -> None:
    half = np.array([[1000, 0], [0, 1000]])
    vcpus = np.array([[2.0, 0.0], [0.0, 2.0]])
    blind, seeing = DomainPages.empty(2), DomainPages.empty(2)
    blind.add(half, 0.5, 0.9)
    seeing.add(half, 0.5, 0.9, sees_nodes=True, own_share=0.8)
    assert blind.local_share(vcpus)[0] == pytest.approx(0.5)
    assert seeing.local_share(vcpus)[0] == pytest.approx(0.8 + 0.2 / 2)


def test_moving_the_hot_pages_moves_most_accesses() -> None:
    pages = DomainPages.empty(2)
    pages.add(np.array([[1000, 0]]), 0.1, 0.9)
    assert pages.move(0, 0, 1, 100) == 100
    assert pages.memory_share() == pytest.approx(np.array([[0.1, 0.9]]))


@given(
    start=counts,
    ops=st.lists(st.tuples(st.sampled_from("htpfm"), st.integers(0, 2), st.integers(0, 2), st.integers(0, 80))),
)
def test_pages_are_conserved(start: np.ndarray, ops: list[tuple[str, int, int, int]]) -> None:
    pages = DomainPages.empty(NODES)
    pages.add(start, 0.3, 0.9)
    total = int(start.sum())
    before = pages.copy()
    for kind, node, target, amount in ops:
        if kind == "h":
            pages.set_hot(0, amount)
        elif kind == "t":
            total -= int(pages.take(0, amount).sum())
        elif kind == "p":
            pages.put(0, np.array([amount, 0, 0]))
            total += amount
        elif kind == "f":
            total -= pages.take_from(0, node, amount)
        else:
            pages.move(0, node, target, amount, hot_first=amount % 2 == 0)
        assert pages.by_node().sum() == total
        assert pages.hot.min() >= 0
        assert pages.cold.min() >= 0
    assert before.by_node().sum() == start.sum()


@given(weights=st.lists(st.integers(0, 1000), min_size=1, max_size=9), total=st.integers(0, 3000))
def test_apportion_gives_everything_and_follows_the_weights(weights: list[int], total: int) -> None:
    parts = apportion(total, weights)
    if not sum(weights):
        assert not parts.any()
        return
    assert parts.sum() == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - total * weight / sum(weights)) < 1
        assert total > sum(weights) or part <= weight
