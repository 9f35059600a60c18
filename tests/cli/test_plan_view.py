"""What `--explain` prints: figures a person can read, and costs that add up, at the width of a terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from domicile.cli.plan_json import plan_json
from domicile.cli.plan_view import plan_view
from domicile.policies.placement import place
from domicile.policies.plan import PlacementPlan
from domicile.state.model import Domain, DomainType, Snapshot, Vcpu
from domicile.state.request import Group, GroupKind, GuestRequest, Intent
from domicile.topology.model import Device
from domicile.topology.presets import load_preset, preset_names


def planned(preset: str, vcpus: int) -> PlacementPlan:
    """A guest with a device and a peer, and one that it is to keep away from."""
    machine = load_preset(preset).topology
    machine = replace(
        machine,
        nodes=tuple(replace(node, free_mib=node.memory_mib // 2) for node in machine.nodes),
        devices=(Device("0000:41:00.0", machine.node_ids[1]),),
    )
    everywhere = frozenset(cpu.id for cpu in machine.cpus)
    there = []
    for number in range(2):
        node = machine.node_ids[number]
        ran = tuple(Vcpu(v, None, everywhere, frozenset(machine.cpus_by_node[node])) for v in range(4))
        there.append(Domain(number + 1, f"r{number}", "", ran, 1024, 1024, pages_by_node={node: 1024 * 256}))
    groups = (Group("near", GroupKind.NEAR, ("web", "r1")), Group("apart", GroupKind.APART, ("web", "r0")))
    request = GuestRequest("web", DomainType.PVH, vcpus, vcpus, 512, 512, 4, devices=("0000:41:00.0",))
    return place(Snapshot(machine, tuple(there), 0.0), [request], Intent(groups))


def printed(plan: PlacementPlan, width: int) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, highlight=False).print(plan_view(plan, explain=True))
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("preset", [name for name in preset_names() if name != "4node"])
def test_the_table_has_every_term_and_its_costs_add_up(preset: str, width: int) -> None:
    plan = planned(preset, 12)
    (one,) = plan.placements
    lines = printed(plan, width)
    table = {line[2:22].strip(): line[22:].split() for line in lines[: lines.index("policy: domicile")]}
    assert any(line.startswith("cost: what is added to slowdowns") for line in lines)
    columns = 1 + len(one.alternatives)
    begin = next(row for row, line in enumerate(lines) if line.strip() == "cost of")
    end = next(row for row, line in enumerate(lines) if line.strip().startswith("total"))
    costs = [[float(figure) for figure in line.split()[-columns:]] for line in lines[begin + 1 : end]]
    labels = [" ".join(line.split()[:-columns]) for line in lines[begin + 1 : end]]
    assert labels[:4] == ["memory latency", "CPU load", "memory bandwidth", "devices"]
    assert {"groups", "neighbours"} <= set(labels)
    total = [float(figure) for figure in lines[end].split()[-columns:]]
    assert [sum(parts) for parts in zip(*costs, strict=True)] == pytest.approx(total, abs=1e-4 * len(costs))
    assert total == sorted(total)
    slowdowns = [one.predicted_slowdown, *(other.predicted_slowdown for other in one.alternatives)]
    assert table["predicted slowdown"] == [f"{slowdown:.3f}" for slowdown in slowdowns]
    for label in ("memory latency", "remote accesses", "CPU pressure", "device distance", "group distance"):
        assert any(line.strip().startswith(label) and len(line.split()) > columns for line in lines[:begin]), label


def test_the_json_has_the_same_terms() -> None:
    (one,) = plan_json(planned("opteron-8n48c", 12), explain=True)["placements"]
    for choice in (one, *one["alternatives"]):
        whole = sum(term["cost"] + term["penalty"] for term in choice["terms"])
        assert choice["objective"] == pytest.approx(whole, abs=1e-5)
    figures = {key for term in one["terms"] for key in term["figures"]}
    assert {"latency_ns", "remote_share", "pressure", "distance", "wishes_missed"} <= figures
    (short,) = plan_json(planned("opteron-8n48c", 12), explain=False)["placements"]
    assert "terms" not in short
    assert short["reasons"] == one["reasons"]
