"""A guest's virtual nodes on distinct host nodes, held against trying every permutation."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.policies.fit import Fit, HostNode, NoFit, Requirement, VirtualNode, assign, bears, fit

MOST_HOST_NODES = 6


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[int], list[list[float]], list[Requirement]]:
    nodes = draw(st.integers(1, MOST_HOST_NODES))
    virtual = draw(st.integers(1, min(nodes + 1, 4)))
    rows = draw(st.lists(st.integers(0, 2**nodes - 1), min_size=virtual, max_size=virtual))
    figure = st.integers(10, 40).map(float)
    distances = draw(st.lists(st.lists(figure, min_size=nodes, max_size=nodes), min_size=nodes, max_size=nodes))
    by_node = st.lists(st.integers(0, 3), min_size=nodes, max_size=nodes).map(tuple)
    requirements = draw(st.lists(st.builds(Requirement, st.integers(0, 5), by_node), max_size=2))
    return rows, distances, requirements


def by_permutation(
    rows: list[int], distances: list[list[float]], requirements: list[Requirement]
) -> tuple[float, set[tuple[int, ...]]] | None:
    """The least sum of distances, and all assignments that have it."""
    found: dict[tuple[int, ...], float] = {}
    for nodes in permutations(range(len(distances)), len(rows)):
        if all(row >> node & 1 for row, node in zip(rows, nodes, strict=True)) and all(
            sum(one.by_node[node] for node in nodes) >= one.count for one in requirements
        ):
            found[nodes] = sum(distances[a][b] for a in nodes for b in nodes if a != b)
    if not found:
        return None
    least = min(found.values())
    return least, {nodes for nodes, apart in found.items() if apart <= least + 1e-6}


@given(problem=problems())
@settings(max_examples=400)
def test_the_same_answer_as_trying_every_permutation(
    problem: tuple[list[int], list[list[float]], list[Requirement]],
) -> None:
    rows, distances, requirements = problem
    expected = by_permutation(*problem)
    found = assign(rows, distances, requirements)
    quick = assign(rows, distances, requirements, best=False)
    if expected is None:
        assert isinstance(found, NoFit)
        assert isinstance(quick, NoFit)
        return
    assert isinstance(found, Fit)
    assert found.proven
    assert found.nodes in expected[1]
    assert abs(found.apart - expected[0]) < 1e-6
    assert isinstance(quick, Fit)
    assert len(set(quick.nodes)) == len(rows)
    assert all(row >> node & 1 for row, node in zip(rows, quick.nodes, strict=True))
    assert all(sum(one.by_node[node] for node in quick.nodes) >= one.count for one in requirements)


@given(problem=problems())
def test_where_there_is_none_the_reason_is_one(
    problem: tuple[list[int], list[list[float]], list[Requirement]],
) -> None:
    rows, distances, _ = problem
    found = assign(rows, distances)
    if isinstance(found, NoFit):
        reached = 0
        for virtual in found.virtual:
            reached |= rows[virtual]
        assert tuple(n for n in range(len(distances)) if reached >> n & 1) == found.nodes
        assert len(found.nodes) < len(found.virtual)


def test_eight_virtual_nodes_of_which_seven_fit() -> None:
    ring = [[10.0 + min(abs(a - b), 16 - abs(a - b)) for b in range(16)] for a in range(16)]
    assert assign([0x7F] * 8, ring) == NoFit(tuple(range(8)), tuple(range(7)))


def test_neighbours_are_taken_on_a_large_machine() -> None:
    pairs = [[10.0 if a == b else 12.0 if a // 8 == b // 8 else 32.0 for b in range(64)] for a in range(64)]
    found = fit([VirtualNode(4, 1024)] * 8, [HostNode(8, free_pages={4: 1 << 20})] * 64, pairs)
    assert isinstance(found, Fit)
    assert len({node // 8 for node in found.nodes}) == 1
    assert found.proven


def test_what_a_node_bears() -> None:
    node = HostNode(pcpus=8, free_pcpus=3, shared_vcpus=6, free_pages={4: 1024 * 256, 2048: 10})
    assert bears(node, VirtualNode(2, 1024))
    assert not bears(node, VirtualNode(3, 1024))
    assert bears(node, VirtualNode(3, 1024), oversubscription=2.0)
    assert not bears(node, VirtualNode(9, 1024), oversubscription=4.0)
    assert bears(node, VirtualNode(3, 1024, dedicated=True))
    assert not bears(node, VirtualNode(4, 1024, dedicated=True))
    assert not bears(node, VirtualNode(1, 1025))
    assert bears(node, VirtualNode(1, 20, page_kib=2048))
    assert not bears(node, VirtualNode(1, 22, page_kib=2048))
    assert not bears(node, VirtualNode(1, 19, page_kib=2048))
    assert not bears(node, VirtualNode(1, 1, page_kib=1048576))
