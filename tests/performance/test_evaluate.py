"""The model: what must hold whatever the figures, and that `predict` is its first order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.performance.assumptions import Assumptions
from domicile.performance.curves import Floats
from domicile.performance.evaluate import evaluate
from domicile.performance.machine import Machine
from domicile.performance.machine_load import MachineLoad
from domicile.performance.predict import predict
from domicile.performance.tenants import Tenants
from domicile.topology.model import Cpu, Node, Topology


def machine_of(nodes: int = 2, cores: int = 8, smt: int = 1, distance: int = 20) -> Machine:
    cpus = tuple(Cpu(c, c // smt % cores, c // (cores * smt), c // (cores * smt)) for c in range(nodes * cores * smt))
    distances = tuple(tuple(10 if a == b else distance for b in range(nodes)) for a in range(nodes))
    return Machine.of(Topology(tuple(Node(node, 4096) for node in range(nodes)), cpus, distances))


def on(*rows: list[float]) -> Floats:
    return np.array(rows, dtype=np.float64)


def test_alone_on_the_best_node_is_one() -> None:
    for traffic in (0.0, 1.0, 20.0):
        result = evaluate(machine_of(), MachineLoad.of(on([4.0, 0.0]), on([1.0, 0.0]), traffic_gbs=traffic))
        assert result.slowdown == pytest.approx([1.0], abs=2e-3)
        assert result.bandwidth_gbs[0] <= 32.0 + 1e-6


def test_the_terms_add_up() -> None:
    machine = machine_of(smt=2)
    random = np.random.default_rng(5)
    cpu, memory = random.random((6, 2)) * 6, random.dirichlet([1, 1], 6)
    load = MachineLoad.of(
        cpu,
        memory,
        cache_mib=20.0,
        traffic_gbs=3.0,
        dma_gbs=random.random((6, 2)),
        peers=np.array([[0, 1], [2, 5]]),
        messages_per_s=np.array([2e4, 5e4]),
    )
    e = evaluate(machine, load)
    assert e.slowdown == pytest.approx(1 + e.cpu + e.smt + e.distance + e.cache + e.load + e.devices + e.peers)
    alone = evaluate(machine, MachineLoad.of(cpu[:1] * 0 + [[1.0, 0.0]], on([1.0, 0.0])))
    assert e.rate_vcpus.sum() < cpu.sum() * alone.rate_vcpus[0]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), domains=st.integers(1, 6), nodes=st.integers(2, 4))
def test_predict_is_its_first_order(seed: int, domains: int, nodes: int) -> None:
    """Where every effect is small, products of effects do not matter."""
    random = np.random.default_rng(seed)
    assumptions = Assumptions(memory_bound=0.1, traffic_gbs=0.3, company=0.0, read_fraction=1.0)
    machine = machine_of(nodes, distance=13)
    demand = random.uniform(0.2, 1.0, domains)
    vcpus, memory = random.dirichlet(np.ones(nodes), domains), random.dirichlet(np.ones(nodes), domains)
    tenants = Tenants(
        tuple("abcdef"[:domains]), demand, vcpus, memory, memory * 0, np.zeros(domains, dtype=np.intp), demand * 0
    )
    first = predict(machine, tenants, assumptions)
    full = evaluate(machine, MachineLoad.of(vcpus * demand[:, None], memory, assumptions=assumptions), assumptions)
    assert full.distance == pytest.approx(first.latency, rel=0.05, abs=1e-4)
    assert full.slowdown == pytest.approx(first.slowdown, abs=0.003)


def test_bandwidth_is_shared_by_those_who_run() -> None:
    """Two domains that stream from one controller of 32 GB/s, one with thrice the vCPUs."""
    load = MachineLoad.of(
        on([1.0, 0.0], [3.0, 0.0]), on([1.0, 0.0], [1.0, 0.0]), traffic_gbs=40.0, read_fraction=1.0, memory_bound=0.0
    )
    result = evaluate(machine_of(), load)
    assert result.bandwidth_gbs == pytest.approx([8.0, 24.0], rel=1e-3)
    assert result.node_utilisation == pytest.approx([1.0, 0.0], abs=1e-3)


def test_time_is_shared_by_weight_and_cap() -> None:
    machine = machine_of(nodes=2, cores=2)
    cpu, memory = on([2.0, 0.0], [2.0, 0.0]), on([1.0, 0.0], [1.0, 0.0])
    equal = evaluate(machine, MachineLoad.of(cpu, memory))
    assert equal.running[:, 0] == pytest.approx([1.0, 1.0])
    assert equal.cpu == pytest.approx([1.0, 1.0])
    weighted = evaluate(machine, MachineLoad.of(cpu, memory, weight=np.array([256.0, 768.0])))
    assert weighted.running[:, 0] == pytest.approx([0.5, 1.5])
    capped = evaluate(machine, MachineLoad.of(cpu, memory, cap=np.array([0.3, np.inf])))
    assert capped.running[:, 0] == pytest.approx([0.3, 1.7])


def test_many_candidates_are_one_call() -> None:
    random = np.random.default_rng(7)
    machine = machine_of(3, smt=2)
    cpu, memory = random.random((4, 5, 6, 3)) * 3, random.dirichlet(np.ones(3), (4, 5, 6))
    demand = np.full(6, 4.0)
    together = evaluate(machine, MachineLoad.of(cpu, memory, traffic_gbs=4.0, demand_vcpus=demand))
    assert together.slowdown.shape == (4, 5, 6)
    assert together.utilisation.shape[:2] == (4, 5)
    for index in np.ndindex(4, 5):
        one = evaluate(machine, MachineLoad.of(cpu[index], memory[index], traffic_gbs=4.0, demand_vcpus=demand))
        assert one.slowdown == pytest.approx(together.slowdown[index])
