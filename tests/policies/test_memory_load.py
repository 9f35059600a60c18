"""A host's domains to the whole model: one with virtual nodes is as many as it has of these."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from moving_hosts import cpus_of, domain, host

from domicile.performance.evaluate import evaluate
from domicile.performance.machine_load import MachineLoad
from domicile.policies.memory_load import MemoryLoad
from domicile.state.model import Domain, Snapshot, Vnode
from domicile.state.request import Character, Intent

LOAD = {"wide": 4.0, "other": 1.5, "idle": 0.0}


def wide(*, seeing: bool) -> Domain:
    """Four vCPUs and its memory on nodes 0 and 2, a quarter and three."""
    near, far = cpus_of([0]), cpus_of([2])
    made = domain("wide", {0: 1024, 2: 3072}, 4)
    soft = (near, far, far, far)
    vcpus = tuple(replace(vcpu, soft_affinity=cpus) for vcpu, cpus in zip(made.vcpus, soft, strict=True))
    vnodes = (Vnode(0, 1024, frozenset({0})), Vnode(2, 3072, frozenset({1, 2, 3})))
    return replace(made, vcpus=vcpus, vnodes=vnodes if seeing else ())


def snapshot(*, seeing: bool) -> Snapshot:
    asleep = domain("idle", 3)
    asleep = replace(asleep, vcpus=tuple(replace(vcpu, online=False) for vcpu in asleep.vcpus))
    return host(domain("other", {1: 512, 2: 512}, soft=cpus_of([1])), wide(seeing=seeing), asleep)


@pytest.mark.parametrize("stated", [False, True])
def test_each_virtual_node_is_as_a_domain_of_its_own(*, stated: bool) -> None:
    intent = Intent(domains=(Character("wide", 0.8, 3.0),)) if stated else Intent()
    load = MemoryLoad.of(snapshot(seeing=True), intent, LOAD)
    bound, traffic = (0.8, 3.0) if stated else (load.assumptions.memory_bound, load.assumptions.traffic_gbs)
    running = np.array([[0, 1.5, 0, 0], [1, 0, 0, 0], [0, 0, 3, 0], [0, 0, 0, 0]], dtype=np.float64)
    spread = np.array([0.25, 0, 0.75, 0])
    memory = np.array([[0, 0.5, 0.5, 0], 0.1 * spread, 0.1 * spread, [0, 0, 0, 1]])
    memory[1, 0] += 0.9
    memory[2, 2] += 0.9
    parts = MachineLoad.of(
        running,
        memory,
        memory_bound=np.array([load.assumptions.memory_bound, bound, bound, load.assumptions.memory_bound]),
        traffic_gbs=np.array([load.assumptions.traffic_gbs, traffic, traffic, load.assumptions.traffic_gbs]),
    )
    expected = evaluate(load.machine, parts).slowdown
    found = load.slowdowns(load.pages)
    assert found == pytest.approx([expected[0], 0.25 * expected[1] + 0.75 * expected[2], expected[3]])
    both = load.slowdowns(np.stack([load.pages, load.pages]))
    assert both == pytest.approx(np.stack([found, found]))
    assert load.remote_share(load.pages)[1] == pytest.approx(0.1 * (1 - 0.25**2 - 0.75**2))


def test_without_virtual_nodes_it_is_one_domain_with_its_accesses_spread() -> None:
    load = MemoryLoad.of(snapshot(seeing=False), Intent(), LOAD)
    plain = MachineLoad.of(
        load.demand[:, None] * load.tenants.vcpu_share, load.pages, demand_vcpus=load.demand, weight=256.0
    )
    assert (load.slowdowns(load.pages) == evaluate(load.machine, plain).slowdown).all()
    assert load.slowdowns(load.pages)[1] > MemoryLoad.of(snapshot(seeing=True), Intent(), LOAD).slowdowns(load.pages)[1]
    assert load.remote_share(load.pages)[1] == pytest.approx(1 - 0.25**2 - 0.75**2)
