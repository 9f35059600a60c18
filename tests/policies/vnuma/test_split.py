"""Sums are exact, parts as even as they can be, distances what Linux and libxl take."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from domicile.policies.vnuma.distances import virtual_distances
from domicile.policies.vnuma.split import divided_memory, divided_vcpus, numbered, roomy_vcpus
from domicile.topology.check import checked
from domicile.topology.model import Cpu, Node, Topology

ROOMS = st.lists(st.integers(0, 5000), min_size=1, max_size=8)


@given(st.integers(1, 30_000), ROOMS)
def test_memory_fits_or_there_is_not_enough(total: int, room: list[int]) -> None:
    parts = divided_memory(total, room)
    if sum(room) < total:
        assert parts is None
        return
    assert parts is not None
    assert sum(parts) == total
    assert all(0 <= part <= most for part, most in zip(parts, room, strict=True))


@given(st.integers(1, 30_000), st.integers(1, 8))
def test_memory_is_even_and_in_whole_superpages(total: int, count: int) -> None:
    parts = divided_memory(total, [total] * count)
    assert parts is not None
    assert sum(part % 2 for part in parts) == total % 2
    assert max(parts) - min(parts) <= 3


@given(st.integers(1, 200), st.lists(st.integers(1, 64), min_size=1, max_size=8))
def test_vcpus_are_all_there_and_no_more_than_pcpus_where_that_can_be(total: int, pcpus: list[int]) -> None:
    parts = divided_vcpus(total, pcpus)
    assert sum(parts) == total
    if sum(pcpus) >= total:
        assert all(part <= most for part, most in zip(parts, pcpus, strict=True))
    ids = numbered(parts)
    assert sorted(vcpu for part in ids for vcpu in part) == list(range(total))
    assert [len(part) for part in ids] == parts


def test_odd_numbers_go_to_the_first() -> None:
    assert roomy_vcpus(7, 3) == [3, 2, 2]
    assert divided_vcpus(6, [2, 8]) == [2, 4]
    assert divided_vcpus(20, [2, 8]) == [4, 16]


def machine(
    distances: list[list[int]] | None, latency: Sequence[Sequence[float | None]] | None = None, nodes: int = 3
) -> Topology:
    return checked(
        source="test",
        nodes=[Node(node, 4096) for node in range(nodes)],
        cpus=[Cpu(node, 0, node, node) for node in range(nodes)],
        distances=distances,
        latency_ns=None if latency is None else tuple(map(tuple, latency)),
    )


def test_distances_by_hand() -> None:
    slit = machine([[10, 16, 22], [16, 10, 16], [22, 16, 10]])
    assert virtual_distances(slit, [2, 0]) == ((10, 22), (22, 10))
    assert virtual_distances(slit, [1, 1, 2]) == ((10, 11, 16), (11, 10, 16), (16, 16, 10))
    assert virtual_distances(machine(None), [0, 1]) == ((10, 20), (20, 10))
    measured = machine(None, [[80.0, 132.0, None], [132.0, 82.0, 150.0], [140.0, 150.0, 80.0]])
    assert virtual_distances(measured, [0, 1]) == ((10, 16), (16, 10))
    # not all of these were measured: the SLIT, and there is none
    assert virtual_distances(measured, [0, 2]) == ((10, 20), (20, 10))


@given(st.data())
def test_distances_are_valid_and_as_symmetric_as_the_machine(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 5))
    symmetric = data.draw(st.booleans())
    ways = [[data.draw(st.floats(60, 2000)) for _ in range(count)] for _ in range(count)]
    for a in range(count):
        ways[a][a] = data.draw(st.floats(60, 70))
        for b in range(a):
            ways[a][b] = ways[b][a] if symmetric else ways[a][b]
    topology = machine(None, ways, count)
    pnodes = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=6))
    found = virtual_distances(topology, pnodes)
    for i, row in enumerate(found):
        assert len(row) == len(pnodes)
        for j, distance in enumerate(row):
            assert distance == 10 if i == j else 10 < distance < 255
            assert not symmetric or distance == found[j][i]
