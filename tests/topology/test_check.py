"""The gate that readers' results pass."""

import pytest

from domicile.errors import BadInput
from domicile.topology.check import checked, slit_problem
from domicile.topology.model import Cpu, Device, Node


def test_sorts_and_indexes() -> None:
    machine = checked(
        source="made",
        nodes=[Node(3, 1024), Node(0, 2048)],
        cpus=[Cpu(5, 0, 1, 3), Cpu(1, 0, 0, 0), Cpu(0, 0, 0, 0)],
        distances=[[10, 21], [21, 10]],
    )
    assert machine.node_ids == (0, 3)
    assert machine.cpus_by_node == {0: (0, 1), 3: (5,)}
    assert machine.cores_by_node == {0: 1, 3: 1}
    assert machine.distance(0, 3) == 21
    assert machine.cpus_of([0, 3]) == {0, 1, 5}


@pytest.mark.parametrize(
    ("matrix", "problem"),
    [
        ([[10, 20]], "not 2 x 2"),
        ([[10, 10], [10, 10]], "as near as the node itself"),
        ([[0, 20], [20, 0]], "0 is no distance"),
        ([[20, 10], [10, 20]], "from itself"),
        ([[10, 300], [20, 10]], "300 is no distance"),
    ],
)
def test_bogus_slit_is_dropped_with_a_note(matrix: list[list[int]], problem: str) -> None:
    assert problem in (slit_problem(matrix, 2) or "")
    machine = checked(source="x", nodes=[Node(0, 1), Node(1, 1)], cpus=[Cpu(0, 0, 0, 0)], distances=matrix)
    assert machine.distances is None
    assert problem in machine.notes[0]


@pytest.mark.parametrize(
    ("nodes", "cpus", "devices", "says"),
    [
        ([], [Cpu(0, 0, 0, None)], [], "no NUMA nodes"),
        ([Node(0, 1)], [], [], "no CPUs"),
        ([Node(0, 1), Node(0, 1)], [Cpu(0, 0, 0, 0)], [], "node 0: is there twice"),
        ([Node(0, 1)], [Cpu(0, 0, 0, 7)], [], "CPU 0: is on node 7"),
        ([Node(0, 1)], [Cpu(0, 0, 0, 0)], [Device("0000:00:00.0", 9)], "is on node 9"),
        ([Node(0, -1)], [Cpu(0, 0, 0, 0)], [], "negative memory"),
        ([Node(5000, 1)], [Cpu(0, 0, 0, 5000)], [], "no such id"),
    ],
)
def test_contradictions_are_refused(nodes: list[Node], cpus: list[Cpu], devices: list[Device], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        checked(source="x", nodes=nodes, cpus=cpus, devices=devices)
