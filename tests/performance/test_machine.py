"""The machine as arrays."""

import numpy as np
import pytest

from domicile.performance.assumptions import DEFAULT
from domicile.performance.machine import Machine
from domicile.state.model import Cpupool
from domicile.topology.model import Cpu, Node, Topology


def smt_nodes(ids: tuple[int, ...], cores: int = 2) -> tuple[Cpu, ...]:
    """Two threads a core on each of these nodes, core numbers starting anew on each socket."""
    return tuple(
        Cpu(id=(index * cores + core) * 2 + thread, core=core, socket=index, node=node)
        for index, node in enumerate(ids)
        for core in range(cores)
        for thread in range(2)
    )


def nodes(*ids: int, memory_mib: int = 1024) -> tuple[Node, ...]:
    return tuple(Node(node, memory_mib) for node in ids)


def test_capacity_counts_cores_and_threads_where_ids_have_gaps() -> None:
    machine = Machine.of(Topology(nodes(0, 4), smt_nodes((0, 4))))
    assert machine.pcpus.tolist() == [[4, 4]]
    assert machine.cores.tolist() == [[2, 2]]


def test_cpupools_have_capacity_of_their_own_on_a_node_they_share() -> None:
    pools = (Cpupool("Pool-0", frozenset({0, 2, 4, 5, 6, 7}), "credit2"), Cpupool("db", frozenset({1, 3}), "null"))
    machine = Machine.of(Topology(nodes(0, 1), smt_nodes((0, 1))), pools)
    assert machine.pcpus.tolist() == [[2, 4], [2, 0]]
    assert machine.cores.tolist() == [[2, 2], [2, 0]]
    pcpus, cores = machine.count({0, 1, 2, 99}, 0)
    assert (pcpus.tolist(), cores.tolist()) == ([2, 0], [2, 0])


def test_latency_is_in_proportion_to_distance_where_nobody_measured() -> None:
    machine = Machine.of(Topology(nodes(0, 1), smt_nodes((0, 1)), distances=((10, 16), (16, 10))))
    assert machine.latency_ns.tolist() == [[80, 128], [128, 80]]
    assert not machine.latency_measured
    without = Machine.of(Topology(nodes(0, 1), smt_nodes((0, 1))))
    assert without.latency_ns.tolist() == [[80, 160], [160, 80]]


def test_measured_latency_is_taken_and_gaps_filled_in_its_measure() -> None:
    topology = Topology(
        nodes(0, 1),
        smt_nodes((0, 1)),
        distances=((10, 20), (20, 10)),
        latency_ns=((100.0, None), (170.0, 100.0)),
        bandwidth_gbs=((60.0, 25.0), (None, 50.0)),
    )
    machine = Machine.of(topology)
    assert machine.latency_ns.tolist() == [[100, 200], [170, 100]]
    assert machine.latency_measured
    assert machine.bandwidth_gbs.tolist() == [[60, 25], [25, 50]]


def test_the_way_to_a_node_without_cpus_stands_for_the_way_from_it() -> None:
    topology = Topology(nodes(0, 1, 2), smt_nodes((0, 1)), distances=((10, 20, 30), (20, 10, 40), (255, 255, 10)))
    machine = Machine.of(topology)
    assert machine.latency_ns[2].tolist() == [240, 320, 80]
    assert machine.best_latency_ns == DEFAULT.local_latency_ns
    assert np.isfinite(machine.bandwidth_gbs).all()
    assert (machine.bandwidth_gbs > 0).all()


def test_bandwidth_is_by_cores_and_distance_where_nobody_measured() -> None:
    machine = Machine.of(Topology(nodes(0, 1), smt_nodes((0, 1)), distances=((10, 20), (20, 10))))
    local = 2 * DEFAULT.core_bandwidth_gbs
    assert machine.bandwidth_gbs.tolist() == [[local, local / 2], [local / 2, local]]


@pytest.mark.parametrize("count", [1, 64])
def test_sizes_from_1_to_64_nodes(count: int) -> None:
    cpus = tuple(Cpu(cpu, cpu % 16, None, cpu // 16) for cpu in range(16 * count))
    machine = Machine.of(Topology(nodes(*range(count)), cpus))
    assert machine.pcpus.sum() == 16 * count
    assert machine.latency_ns.shape == (count, count)
