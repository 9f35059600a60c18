"""Why a guest goes where it does: the terms add up to the total that decided, and nobody works them out unasked."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.performance.field import Field
from domicile.policies.placement import place, problem_of
from domicile.policies.placement.layout import Layout
from domicile.policies.placement.search import choices
from domicile.policies.plan import Alternative, Explanation, Placement, Term
from domicile.state.model import Domain, DomainType, Snapshot, Vcpu
from domicile.state.request import Group, GroupKind, GuestRequest, Intent
from domicile.topology.model import Device
from domicile.topology.presets import load_preset, preset_names

ADDRESS = "0000:41:00.0"


def drawn(seed: int) -> tuple[Snapshot, GuestRequest, Intent]:
    """A preset with some domains on it, and a guest with a device and peers, or without."""
    chance = np.random.default_rng(seed)
    machine = load_preset(preset_names()[int(chance.integers(len(preset_names())))]).topology
    with_cpus = [node for node, cpus in machine.cpus_by_node.items() if cpus]
    machine = replace(
        machine,
        nodes=tuple(replace(node, free_mib=min(node.memory_mib, 20_000)) for node in machine.nodes),
        devices=(Device(ADDRESS, int(chance.choice(with_cpus))),),
    )
    everywhere = frozenset(cpu.id for cpu in machine.cpus)
    domains = []
    for number in range(int(chance.integers(0, 7))):
        node = int(chance.choice(with_cpus))
        vcpus = tuple(
            Vcpu(v, None, everywhere, frozenset(machine.cpus_by_node[node])) for v in range(int(chance.integers(1, 20)))
        )
        weight = int(chance.choice([256, 256, 1024]))
        domains.append(
            Domain(number + 1, f"r{number}", f"{number}", vcpus, 64, 64, weight=weight, pages_by_node={node: 64 * 256})
        )
    vcpu_count = int(chance.choice([1, 4, 16, 40]))
    # small, uneven over three nodes, or more than a node has
    room = sum(node.free_mib or 0 for node in machine.nodes if node.id in with_cpus)
    memory_mib = int(chance.choice([512, 1001, room // 2 + 1]))
    request = GuestRequest(
        "new",
        DomainType.PVH,
        vcpu_count,
        vcpu_count,
        memory_mib,
        memory_mib,
        devices=(ADDRESS,) if chance.random() < 0.5 else (),
    )
    groups = tuple(
        Group(kind.value, kind, ("new", "r0", "r1"), float(chance.uniform(0.5, 2.0)))
        for kind in GroupKind
        if chance.random() < 0.4
    )
    return Snapshot(machine, tuple(domains), 0.0), request, Intent(groups)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_terms_add_up_to_the_total_that_decided(seed: int) -> None:
    snapshot, request, intent = drawn(seed)
    plan = place(snapshot, [request], intent)
    (one,) = plan.placements
    empty = Layout.empty(problem_of(snapshot, [request], intent))
    weighed = choices(empty, 0, 4)
    of_plan: tuple[Placement | Alternative, ...] = (one, *one.alternatives)
    for choice in of_plan:
        assert choice.objective == pytest.approx(sum(term.cost + term.penalty for term in choice.terms), abs=1e-8)
        assert choice.predicted_slowdown == pytest.approx(1.0 + sum(term.cost for term in choice.terms), abs=1e-12)
    # the search weighs memory in parts of a MiB, a plan has whole ones
    found = [one.objective, *(other.objective for other in one.alternatives)]
    assert found == pytest.approx([choice.objective for choice in weighed], rel=5e-3, abs=5e-3)
    assert len(one.alternatives) == len(weighed) - 1
    ids = snapshot.topology.node_ids
    seat = empty.seat_for(0, [ids.index(node) for node in one.nodes])
    assert seat is not None
    assert plan.mean_slowdown == pytest.approx(empty.seated(0, seat).mean_slowdown, abs=1e-9)


def test_beside_what_the_configuration_says_is_shown_what_would_be_best() -> None:
    machine = load_preset("haswell-ex-4n").topology
    machine = replace(machine, nodes=tuple(replace(node, free_mib=20_000) for node in machine.nodes))
    snapshot = Snapshot(machine, (), 0.0)
    open_ = GuestRequest("new", DomainType.PVH, 4, 4, 512, 512)
    fixed = replace(open_, soft_affinity=(machine.cpus_of([1, 2]),) * 4)
    (free,), (said,) = (place(snapshot, [request]).placements for request in (open_, fixed))
    assert said.nodes == (1, 2)
    assert said.alternatives[0].nodes == free.nodes
    assert said.alternatives[0].objective == pytest.approx(free.objective)
    assert said.alternatives[0].objective < said.objective
    assert len(said.alternatives) == 3


def test_of_a_plan_that_nobody_asks_nothing_is_worked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither reasons nor other sets, nor the load with the guest there."""
    snapshot, request, intent = drawn(3)
    plan = place(snapshot, [request], intent)
    assert plan.placements[0].reasons

    def never(*_: object) -> None:
        pytest.fail("worked out without being asked for")

    monkeypatch.setattr("domicile.policies.placement.explain.terms", never)
    monkeypatch.setattr(Field, "with_domain", never)
    again = place(snapshot, [request], intent)
    monkeypatch.undo()
    assert again == plan


def test_an_explanation_is_worked_out_once_and_travels() -> None:
    asked = []

    def work_out() -> tuple[list[Term], list[Alternative]]:
        asked.append(1)
        return [Term("latency", 0.5, "far")], []

    found = Explanation(work_out)
    more = found.and_then(Term("second", 0.0, "and so on"))
    assert not asked
    assert [term.name for term in more.terms] == ["latency", "second"]
    assert found.terms == (Term("latency", 0.5, "far"),)
    assert found.alternatives == ()
    assert len(asked) == 1
    assert pickle.loads(pickle.dumps(more)) == more != found
    assert hash(Explanation.of(found.terms)) == hash(found)
