"""Where accesses go: what a guest that sees its nodes keeps, and that the sums are those of the pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.performance.accesses import Accesses, least_ways
from domicile.performance.curves import Floats

SEEDS = st.integers(0, 2**32 - 1)


def shares(chance: np.random.Generator, *shape: int) -> Floats:
    """Rows that add up to 1, with nodes that have none."""
    drawn = chance.random(shape) * (chance.random(shape) < 0.6)
    drawn[..., 0] += 0.05 * ~drawn.any(axis=-1)
    return np.asarray(drawn / drawn.sum(axis=-1, keepdims=True), dtype=np.float64)


def pair_by_pair(vcpus: Floats, memory: Floats, own: float) -> Floats:
    """The weights of one domain, by the words of the docstring."""
    found = np.zeros((len(vcpus), len(memory)))
    for a, vcpu in enumerate(vcpus):
        keeps = own if memory[a] > 0 else 0.0
        for b, part in enumerate(memory):
            found[a, b] = (1.0 - keeps) * vcpu * part + (keeps * vcpu if a == b else 0.0)
    return found


def test_two_virtual_nodes_reach_each_other_by_what_is_spread() -> None:
    halves = np.array([0.5, 0.5])
    weights = Accesses.of(halves, halves, 0.9).weights
    assert weights == pytest.approx(np.array([[0.475, 0.025], [0.025, 0.475]]))


def test_what_has_no_memory_beside_it_is_spread() -> None:
    weights = Accesses.of(np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.0, 0.75]), 0.8).weights
    assert weights[0] == pytest.approx([0.4 + 0.1 * 0.25, 0.0, 0.1 * 0.75])
    assert weights[1] == pytest.approx([0.5 * 0.25, 0.0, 0.5 * 0.75])


@settings(max_examples=100)
@given(seed=SEEDS, domains=st.integers(0, 5), nodes=st.integers(1, 5), many=st.booleans())
def test_the_sums_are_those_of_the_pairs(seed: int, domains: int, nodes: int, *, many: bool) -> None:
    chance = np.random.default_rng(seed)
    shape = (3, domains, nodes) if many else (domains, nodes)
    vcpus, memory, own = shares(chance, *shape), shares(chance, *shape), chance.choice([0.0, 0.9, 1.0], domains)
    each, ways = chance.random(domains), chance.random((*shape[:-2], nodes, nodes))
    near = chance.random((nodes, nodes))
    accesses = Accesses.of(vcpus, memory, own)
    pairs = np.zeros((*shape, nodes))
    for row in np.ndindex(*shape[:-1]):
        pairs[row] = pair_by_pair(vcpus[row], memory[row], float(own[row[-1]]))
    assert (pairs >= 0).all()
    assert pairs.sum(axis=(-1, -2)) == pytest.approx(np.ones(shape[:-1]))
    assert accesses.weights == pytest.approx(pairs)
    assert accesses.arriving == pytest.approx(pairs.sum(axis=-2))
    assert accesses.scaled(each).weights == pytest.approx(each[:, None, None] * pairs)
    assert accesses.scaled(each).together == pytest.approx((each[:, None, None] * pairs).sum(axis=-3))
    expected = (pairs * near * ways[..., None, :, :]).sum(axis=(-1, -2))
    assert accesses.mean(near, ways) == pytest.approx(expected)


@settings(max_examples=50)
@given(seed=SEEDS, nodes=st.integers(1, 5))
def test_who_keeps_nothing_is_exactly_as_ever(seed: int, nodes: int) -> None:
    chance = np.random.default_rng(seed)
    vcpus, memory = shares(chance, 4, nodes), shares(chance, 4, nodes)
    ever = vcpus[:, :, None] * memory[:, None, :]
    for nothing in (None, 0.0, np.zeros(4)):
        accesses = Accesses.of(vcpus, memory, nothing)
        assert accesses.kept is None
        assert (accesses.weights == ever).all()
    assert (Accesses.of(vcpus, memory, np.array([0.9, 0.0, 0.0, 0.0])).weights[1:] == ever[1:]).all()


@settings(max_examples=100)
@given(seed=SEEDS, nodes=st.integers(1, 5), own=st.sampled_from([0.0, 0.5, 0.9, 1.0]))
def test_no_memory_is_reached_by_less_than_the_least_ways(seed: int, nodes: int, own: float) -> None:
    """All memory on the node that is best by these is no dearer than any memory by the ways there are."""
    chance = np.random.default_rng(seed)
    relative = chance.uniform(1, 4, (nodes, nodes))
    vcpus = shares(chance, nodes)
    least = float((vcpus @ least_ways(relative, own)).min())
    for _ in range(10):
        accesses = Accesses.of(vcpus, shares(chance, nodes), own)
        assert least <= float((accesses.weights * relative).sum()) + 1e-12
