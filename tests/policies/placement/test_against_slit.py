"""Placement by bandwidth and latency against placement by SLIT distances alone, both judged by the whole model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from domicile.performance.evaluate import evaluate
from domicile.performance.machine import Machine
from domicile.performance.machine_load import MachineLoad
from domicile.policies.placement import place
from domicile.state.model import Domain, DomainType, Snapshot, Vcpu
from domicile.state.request import Character, GuestRequest, Intent
from domicile.topology.machine_file import MachineFile
from domicile.topology.presets import load_preset

LOADS = 40
"""Random loads on each preset."""

EQUAL = 1e-3


def drawn(preset: MachineFile, seed: int) -> tuple[Snapshot, GuestRequest, Intent]:
    """Residents of a node each and a newcomer of half a node to two, all at 1 to 4 GB/s a vCPU."""
    chance = np.random.default_rng(seed)
    machine = preset.topology
    machine = replace(machine, nodes=tuple(replace(node, free_mib=node.memory_mib) for node in machine.nodes))
    with_cpus = [node for node, cpus in machine.cpus_by_node.items() if cpus]
    pcpus = min(len(machine.cpus_by_node[node]) for node in with_cpus)
    everywhere = frozenset(cpu.id for cpu in machine.cpus)
    traffic_gbs = float(chance.choice([1.0, 1.5, 2.0, 3.0, 4.0]))
    vcpus = int(chance.choice([max(pcpus // 2, 1), pcpus, pcpus * 3 // 2, min(2 * pcpus, len(everywhere))]))
    known, there = [Character("new", traffic_gbs=traffic_gbs)], []
    for number in range(int(chance.integers(0, len(with_cpus) + 2))):
        node, count = int(chance.choice(with_cpus)), int(chance.integers(1, max(pcpus // 2, 2) + 1))
        ran = tuple(Vcpu(v, None, everywhere, frozenset(machine.cpus_by_node[node])) for v in range(count))
        known.append(Character(f"r{number}", traffic_gbs=traffic_gbs * float(chance.uniform(0.5, 1.5))))
        there.append(Domain(number + 1, f"r{number}", f"{number}", ran, 256, 256, pages_by_node={node: 65536}))
    request = GuestRequest("new", DomainType.PVH, vcpus, vcpus, 1024, 1024)
    return Snapshot(machine, tuple(there), 0.0), request, Intent(domains=tuple(known))


def mean_slowdown(
    preset: MachineFile, snapshot: Snapshot, request: GuestRequest, intent: Intent, nodes: tuple[int, ...]
) -> float:
    """By the whole model, over all domains, with the newcomer on these nodes."""
    machine = Machine.of(snapshot.topology, measured=preset)
    index = snapshot.topology.node_index
    domains = len(snapshot.domains) + 1
    cpu, memory = np.zeros((domains, machine.nodes)), np.zeros((domains, machine.nodes))
    for row, domain in enumerate(snapshot.domains):
        (node,) = domain.pages_by_node or {}
        cpu[row, index[node]], memory[row, index[node]] = len(domain.vcpus), 1.0
    inside = [index[node] for node in nodes]
    pcpus = machine.pcpus[0, inside]
    cpu[-1, inside], memory[-1, inside] = request.vcpus * pcpus / pcpus.sum(), 1.0 / len(inside)
    traffic = {each.domain: each.traffic_gbs for each in intent.domains}
    names = [*(domain.name for domain in snapshot.domains), "new"]
    load = MachineLoad.of(
        cpu,
        memory,
        demand_vcpus=np.round(cpu.sum(axis=1)),
        traffic_gbs=np.array([traffic[name] for name in names], dtype=np.float64),
    )
    return float(evaluate(machine, load).slowdown.mean())


def outcomes(name: str) -> tuple[int, int]:
    """How many of the loads are better placed than by SLIT alone, and how many worse."""
    preset = load_preset(name)
    better = worse = 0
    for seed in range(LOADS):
        snapshot, request, intent = drawn(preset, seed)
        blind = replace(snapshot, topology=replace(snapshot.topology, latency_ns=None, bandwidth_gbs=None))
        ours, by_slit = (place(each, [request], intent).placements[0].nodes for each in (snapshot, blind))
        if ours == by_slit:
            continue
        with_us, with_slit = (mean_slowdown(preset, snapshot, request, intent, each) for each in (ours, by_slit))
        better += with_us < with_slit * (1 - EQUAL)
        worse += with_us > with_slit * (1 + EQUAL)
    return better, worse


def test_it_is_clearly_more_often_better_than_worse() -> None:
    """On the machines where it makes the most difference (45 to 16; with pressure open-loop 45 to 33)."""
    found = {name: outcomes(name) for name in ("opteron-8n48c", "genoa-9224-nps2-cxl", "haswell-ex-4n", "default")}
    better, worse = (sum(each) for each in zip(*found.values(), strict=True))
    assert better >= 2 * worse, found
    assert found["opteron-8n48c"][0] > found["opteron-8n48c"][1]
