"""The model: what must hold whatever the figures, and that `predict` is its first order."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq  # type: ignore[import-untyped]

from domicile.performance.accesses import Accesses
from domicile.performance.assumptions import DEFAULT, Assumptions
from domicile.performance.curves import Floats, pressure
from domicile.performance.evaluate import Repeated, evaluate
from domicile.performance.loaded import saturated_ratio
from domicile.performance.machine import Machine
from domicile.performance.machine_load import MachineLoad
from domicile.performance.predict import predict
from domicile.performance.tenants import Tenants
from domicile.topology.model import Cpu, Node, Topology
from domicile.topology.presets import load_preset


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


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), nodes=st.integers(2, 4))
def test_predict_is_its_first_order_with_virtual_nodes_too(seed: int, nodes: int) -> None:
    """Of two domains one sees its nodes: to the whole model, it is as many domains as it has virtual nodes."""
    random = np.random.default_rng(seed)
    assumptions = Assumptions(memory_bound=0.1, traffic_gbs=0.3, company=0.0, read_fraction=1.0)
    machine = machine_of(nodes, distance=13)
    demand, own = random.uniform(0.2, 1.0, 2), np.array([0.0, 0.9])
    vcpus, memory = random.dirichlet(np.ones(nodes), 2), random.dirichlet(np.ones(nodes), 2)
    tenants = Tenants(
        ("a", "b"), demand, vcpus, memory, memory * 0, np.zeros(2, dtype=np.intp), demand * 0, own_share=own
    )
    first = predict(machine, tenants, assumptions)
    parts = Accesses.of(vcpus[1], memory[1], 0.9).weights / vcpus[1][:, None]
    running = np.vstack([vcpus[:1] * demand[0], np.diag(vcpus[1]) * demand[1]])
    load = MachineLoad.of(running, np.vstack([memory[:1], parts]), assumptions=assumptions)
    full = evaluate(machine, load, assumptions)
    distance = [full.distance[0], vcpus[1] @ full.distance[1:]]
    assert distance == pytest.approx(first.latency, rel=0.05, abs=1e-4)
    assert [full.slowdown[0], vcpus[1] @ full.slowdown[1:]] == pytest.approx(first.slowdown, abs=0.003)


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


@settings(max_examples=40, deadline=None)
@given(bound=st.floats(0, 1), traffic=st.floats(0.01, 60), vcpus=st.floats(0.1, 8), reads=st.floats(0, 1))
def test_one_domain_is_the_closed_form(bound: float, traffic: float, vcpus: float, reads: float) -> None:
    """A closed queue: traffic falls with latency, latency rises with traffic. SciPy finds where both agree."""
    machine = machine_of()
    load = MachineLoad.of(
        on([vcpus, 0.0]), on([1.0, 0.0]), memory_bound=bound, traffic_gbs=traffic, read_fraction=reads
    )
    peak = 32.0 / (reads + (1 - reads) * (1 + DEFAULT.write_cost))
    ratio = saturated_ratio(80.0, 32.0, 8)

    def stretch(u: float) -> float:
        return 1 + bound * float(pressure(np.array([u]), DEFAULT, ratio)[0])

    wanted = vcpus * traffic / peak
    expected = wanted  # as long as it takes to carry it all
    if wanted / stretch(1.0) < 1.0:
        expected = stretch(brentq(lambda u: wanted / stretch(u) - u, 0.0, 1.0))
    result = evaluate(machine, load)
    assert vcpus / result.rate_vcpus[0] == pytest.approx(expected, rel=5e-3)
    assert result.bandwidth_gbs[0] == pytest.approx(vcpus * traffic / expected, rel=5e-3)


def test_a_full_memory_has_as_many_lines_on_the_way_as_the_cores_keep() -> None:
    """Little's law: 8 cores that stream with 17 lines each."""
    result = evaluate(machine_of(), MachineLoad.of(on([8.0, 0.0]), on([1.0, 0.0]), traffic_gbs=50.0, read_fraction=1.0))
    lines = result.bandwidth_gbs[0] * result.latency_ns[0] / 64.0
    assert lines == pytest.approx(8 * DEFAULT.lines_per_core, rel=0.01)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), domains=st.integers(1, 8), nodes=st.integers(1, 5), traffic=st.floats(0.01, 40))
def test_nothing_carries_more_than_it_can_and_work_and_traffic_agree(
    seed: int, domains: int, nodes: int, traffic: float
) -> None:
    random = np.random.default_rng(seed)
    machine = machine_of(nodes, cores=4, smt=2)
    cpu, memory = random.random((domains, nodes)) * 4, random.dirichlet(np.ones(nodes), domains)
    load = MachineLoad.of(cpu, memory, traffic_gbs=traffic, dma_gbs=random.random((domains, nodes)) * 0.5)
    result = evaluate(machine, load)
    assert (result.utilisation <= 1.0 + 2e-3).all()
    assert (result.running.sum(axis=0) <= 8 + 1e-9).all()
    assert result.bandwidth_gbs == pytest.approx(result.rate_vcpus * traffic)
    assert result.slowdown == pytest.approx(load.demand_vcpus / result.rate_vcpus / alone_of(machine, load), rel=0.02)
    assert (result.latency_ns >= 80.0 - 1e-9).all()


def alone_of(machine: Machine, load: MachineLoad) -> Floats:
    """What work of each domain takes alone on a node, over what it would take if nothing slowed it."""
    result = np.zeros(load.domains)
    for d in range(load.domains):
        busy = min(load.demand_vcpus[d], 4.0)
        single = MachineLoad.of(busy * np.eye(load.nodes)[:1], np.eye(load.nodes)[:1], traffic_gbs=load.traffic_gbs[d])
        result[d] = busy / evaluate(machine, single).rate_vcpus[0]
    return result


def test_what_others_drive_out_of_the_cache_is_fetched_again() -> None:
    machine = machine_of(nodes=1, cores=4)
    alone = evaluate(machine, MachineLoad.of(on([1.0]), on([1.0]), cache_mib=8.0, traffic_gbs=0.1))
    both = evaluate(machine, MachineLoad.of(on([1.0], [1.0]), on([1.0], [1.0]), cache_mib=8.0, traffic_gbs=0.1))
    assert alone.cache.tolist() == [0.0]
    # half the cache, 2 ** 0.5 times the misses
    assert both.cache == pytest.approx([DEFAULT.memory_bound * (2**0.5 - 1)] * 2, rel=0.02)


def test_a_device_far_away_costs_and_its_traffic_loads_the_way() -> None:
    machine = machine_of()
    far = MachineLoad.of(on([1.0, 0.0]), on([1.0, 0.0]), dma_gbs=on([0.0, 4.0]), traffic_gbs=0.0)
    near = MachineLoad.of(on([1.0, 0.0]), on([1.0, 0.0]), dma_gbs=on([4.0, 0.0]), traffic_gbs=0.0)
    result = evaluate(machine, far)
    assert result.devices == pytest.approx([DEFAULT.device_weight], rel=0.02)
    assert evaluate(machine, near).devices.tolist() == [0.0]
    assert result.link_utilisation.max() > 0.1
    assert evaluate(machine, near).link_utilisation.max() == 0.0
    bounced = MachineLoad.of(
        on([1.0, 0.0]), on([1.0, 0.0]), dma_gbs=on([0.0, 4.0]), traffic_gbs=0.0, dma_share=on([0.0, 1.0])
    )
    assert evaluate(machine, bounced).devices == pytest.approx([DEFAULT.device_weight / 2], rel=0.02)


def test_domains_that_talk_wait_for_each_others_lines() -> None:
    """ipc-bench on the Opteron under Xen: a round trip takes 4.0 us more across packages than within a die."""
    file = load_preset("opteron-8n48c")
    machine = Machine.of(file.topology, measured=file)
    trips = 10_000.0
    lost = []
    for other in range(8):
        cpu = np.zeros((2, 8))
        cpu[0, 0] = cpu[1, other] = 1.0
        load = MachineLoad.of(
            cpu, cpu, peers=np.array([[0, 1]]), messages_per_s=np.array([trips]), memory_bound=0.0, traffic_gbs=0.0
        )
        lost.append(float(evaluate(machine, load).peers[0]) / trips * 1e6)
    assert lost[0] == 0.0
    assert lost[1] < np.mean(lost[2:])
    assert np.mean(lost[2:]) == pytest.approx(4.0, rel=0.1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"memory_share": np.ones((2, 3))}, "memory_share"),
        ({"cpu_share": np.array([[1.0, np.nan], [0.0, 0.0]])}, "cpu_share"),
        ({"traffic_gbs": np.array([1.0, -1.0])}, "negative"),
        ({"demand_vcpus": np.array([np.inf, 1.0])}, "finite"),
        ({"pool": np.array([0, 1])}, "cpupools"),
        ({"peers": np.array([[0, 2]]), "messages_per_s": np.ones(1)}, "peer"),
        ({"peers": np.array([[0, 1]])}, "message rates"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Floats], said: str) -> None:
    load = MachineLoad.of(on([1.0, 0.0], [0.0, 1.0]), on([1.0, 0.0], [0.0, 1.0]))
    with pytest.raises(ValueError, match=said):
        evaluate(machine_of(), replace(load, **change))  # type: ignore[arg-type]


def test_nobody_is_no_trouble() -> None:
    assert evaluate(machine_of(), MachineLoad.of(np.zeros((0, 2)), np.zeros((0, 2)))).slowdown.shape == (0,)
    idle = evaluate(machine_of(), MachineLoad.of(np.zeros((1, 2)), on([1.0, 0.0])))
    assert idle.slowdown.tolist() == [1.0]


def test_a_load_that_is_laid_out_once_comes_to_the_same_each_time() -> None:
    machine, random = machine_of(smt=2), np.random.default_rng(9)
    peers = np.array([[0, 1], [2, 4]])
    at_rest = MachineLoad.of(
        np.zeros((5, 2)), np.zeros((5, 2)), traffic_gbs=2.0, cache_mib=8.0, peers=peers, messages_per_s=np.zeros(2)
    )
    repeated = Repeated(machine, at_rest)
    for _ in range(4):
        cpu, memory, dma = random.random((5, 2)) * 5, random.dirichlet([1, 1], 5), random.random((5, 2))
        messages = random.random(2) * 1e5
        load = replace(
            at_rest,
            cpu_share=cpu,
            memory_share=memory,
            dma_share=memory,
            demand_vcpus=cpu.sum(axis=1),
            dma_gbs=dma,
            messages_per_s=messages,
        )
        found = repeated.evaluate(cpu, memory, memory, cpu.sum(axis=1), dma, messages)
        expected = evaluate(machine, load)
        assert found.figures.tolist() == expected.figures.tolist()
        assert found.running.tolist() == expected.running.tolist()
        assert found.utilisation.tolist() == expected.utilisation.tolist()


def test_a_load_that_is_laid_out_once_takes_only_what_fits() -> None:
    rows = np.ones((2, 2))
    repeated = Repeated(machine_of(), MachineLoad.of(rows, rows))
    with pytest.raises(ValueError, match="do not fit 2 domains x 2 nodes"):
        repeated.evaluate(rows[:1], rows, rows, np.ones(2), rows, np.zeros(0))
    with pytest.raises(ValueError, match="cpu_share has figures that are negative"):
        repeated.evaluate(-rows, rows, rows, np.ones(2), rows, np.zeros(0))
