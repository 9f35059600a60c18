"""A better machine is never predicted worse, for all domains that are there at once.

A slowdown goes by the best that the machine itself could do, with memory on its best node to itself. A machine whose
best node gets better is the better one for everybody, and yet further away from its own best; so where bandwidth
grows, what is compared is the time that work takes. The whole model (`evaluate`) promises that to a domain that is
alone, as long as all that it wants can be carried: of several, who comes nearer to memory takes bandwidth from the
others, and on a link that is full a domain's own vCPUs take it from those on another node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from domicile.performance.assumptions import DEFAULT
from domicile.performance.curves import Floats
from domicile.performance.evaluate import evaluate
from domicile.performance.machine import Machine
from domicile.performance.machine_load import MachineLoad
from domicile.performance.predict import own_pressure, predict
from domicile.performance.tenants import Tenants
from domicile.topology.model import Cpu, Node, Topology

FULL = 0.9995
"""Utilisation from which on a controller or link is shared out; that at which latency and traffic agree is known to
half a thousandth."""

Better = Callable[[Topology, np.random.Generator], Topology]


def machine(chance: np.random.Generator, nodes: int) -> Topology:
    """Uneven nodes, latencies and bandwidths all measured; local memory is the nearest."""
    homes = [node for node in range(nodes) for _ in range(2 * int(chance.choice([2, 4, 8])))]
    cpus = tuple(Cpu(cpu, cpu // 2, home, home) for cpu, home in enumerate(homes))
    latency, bandwidth = chance.uniform(110, 200, (nodes, nodes)), chance.uniform(5, 30, (nodes, nodes))
    np.fill_diagonal(latency, chance.uniform(70, 110, nodes))
    np.fill_diagonal(bandwidth, chance.uniform(20, 50, nodes))
    there = tuple(Node(node, 4096) for node in range(nodes))
    return Topology(there, cpus, None, latency_ns=measured(latency), bandwidth_gbs=measured(bandwidth))


def measured(matrix: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, matrix.tolist()))


def nearer(topology: Topology, chance: np.random.Generator) -> Topology:
    """Some ways are shorter, none than the best that there is."""
    latency = np.array(topology.latency_ns, dtype=np.float64)
    shorter = np.where(chance.random(latency.shape) < 0.5, latency * chance.uniform(0.5, 1, latency.shape), latency)
    return replace(topology, latency_ns=measured(np.maximum(shorter, latency.min())))


def wider_ways(topology: Topology, chance: np.random.Generator) -> Topology:
    """Some pairs of nodes have more bandwidth between them."""
    bandwidth = np.array(topology.bandwidth_gbs, dtype=np.float64)
    more = np.where(chance.random(bandwidth.shape) < 0.5, chance.uniform(1, 3, bandwidth.shape), 1.0)
    np.fill_diagonal(more, 1.0)
    return replace(topology, bandwidth_gbs=measured(bandwidth * more))


def faster_memory(topology: Topology, chance: np.random.Generator) -> Topology:
    """A node's memory has more bandwidth."""
    bandwidth = np.array(topology.bandwidth_gbs, dtype=np.float64)
    node = int(chance.integers(len(bandwidth)))
    bandwidth[node, node] *= chance.uniform(1, 3)
    return replace(topology, bandwidth_gbs=measured(bandwidth))


def more_of_all(topology: Topology, chance: np.random.Generator) -> Topology:
    """All bandwidths grow."""
    bandwidth = np.array(topology.bandwidth_gbs, dtype=np.float64)
    return replace(topology, bandwidth_gbs=measured(bandwidth * chance.uniform(1, 3)))


def more_cores(topology: Topology, chance: np.random.Generator) -> Topology:
    """A node has two more cores."""
    node, first = int(chance.integers(len(topology.nodes))), len(topology.cpus)
    return replace(topology, cpus=(*topology.cpus, *(Cpu(first + n, first + n, node, node) for n in range(2))))


def more_threads(topology: Topology, chance: np.random.Generator) -> Topology:
    """A node has one more core, of two threads."""
    node, first = int(chance.integers(len(topology.nodes))), len(topology.cpus)
    return replace(topology, cpus=(*topology.cpus, *(Cpu(first + n, first, node, node) for n in range(2))))


def domains(chance: np.random.Generator, count: int, nodes: int) -> Tenants:
    """Domains that are everywhere, with weights and characters of their own, some with virtual nodes."""

    def shares() -> Floats:
        drawn = chance.random((count, nodes)) * (chance.random((count, nodes)) < 0.6)
        drawn[np.arange(count), chance.integers(nodes, size=count)] += 0.1
        return np.asarray(drawn / drawn.sum(axis=1, keepdims=True), dtype=np.float64)

    return Tenants(
        names=tuple(f"d{number}" for number in range(count)),
        demand=chance.choice([0.1, 1.0, 2.0, 4.0, 8.0], size=count),
        vcpu_share=shares(),
        memory_share=shares(),
        device_share=shares() * (chance.random((count, 1)) < 0.3),
        pool=np.zeros(count, dtype=np.intp),
        confined=np.zeros(count),
        weight=chance.choice([0.1, 1.0, 2.0, 16.0], size=count),
        memory_bound=chance.uniform(0, 1, size=count),
        traffic_gbs=chance.uniform(0, 8, size=count),
        own_share=chance.choice([0.0, 0.9], size=count) if chance.random() < 0.5 else None,
    )


def predicted(topology: Topology, tenants: Tenants) -> tuple[Floats, Floats]:
    """Slowdowns, and the time that work takes (1: on unloaded memory of the best latency)."""
    here = Machine.of(topology)
    slowdown = predict(here, tenants).slowdown
    alone = own_pressure(here, tenants.demand, DEFAULT, tenants.traffic_gbs)
    return slowdown, slowdown + np.asarray(tenants.memory_bound) * alone


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), nodes=st.integers(2, 5), count=st.integers(1, 8))
@pytest.mark.parametrize("better", [nearer, wider_ways, more_cores, more_threads])
def test_no_domain_of_several_is_predicted_slower(better: Better, seed: int, nodes: int, count: int) -> None:
    chance = np.random.default_rng(seed)
    before = machine(chance, nodes)
    tenants = domains(chance, count, nodes)
    after = better(before, chance)
    assert (predicted(after, tenants)[0] <= predicted(before, tenants)[0] * (1 + 1e-9)).all()


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), nodes=st.integers(2, 5), count=st.integers(1, 8))
@pytest.mark.parametrize("better", [faster_memory, more_of_all])
def test_with_faster_memory_no_work_takes_longer(better: Better, seed: int, nodes: int, count: int) -> None:
    chance = np.random.default_rng(seed)
    before = machine(chance, nodes)
    tenants = domains(chance, count, nodes)
    after = better(before, chance)
    assert (predicted(after, tenants)[1] <= predicted(before, tenants)[1] * (1 + 1e-9)).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), nodes=st.integers(2, 5))
@example(seed=3215712, nodes=4)  # nearer memory fills a link
@pytest.mark.parametrize("better", [nearer, wider_ways, faster_memory, more_of_all])
def test_the_whole_model_has_a_domain_alone_get_more_done(better: Better, seed: int, nodes: int) -> None:
    chance = np.random.default_rng(seed)
    before = machine(chance, nodes)
    one = domains(chance, 1, nodes)
    load = MachineLoad.of(
        one.demand[:, None] * one.vcpu_share,
        one.memory_share,
        demand_vcpus=one.demand,
        traffic_gbs=one.traffic_gbs,
        memory_bound=one.memory_bound,
    )
    was, now = (evaluate(Machine.of(each), load) for each in (before, better(before, chance)))
    assume(max(was.utilisation.max(), now.utilisation.max()) < FULL)
    # the point at which latency and traffic agree is found to so much
    assert now.rate_vcpus[0] >= was.rate_vcpus[0] * (1 - 1e-4)
