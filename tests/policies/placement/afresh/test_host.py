"""A host laid out again: what stays, what it gains, what would have to move."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from domicile.errors import BadInput
from domicile.policies.effort import Effort
from domicile.policies.placement.afresh.host import AfreshPlan, lay_out_afresh, why_it_stays
from domicile.policies.placement.afresh.no_way import NoWay
from domicile.state.model import PAGES_PER_MIB, Domain, DomainType, Snapshot, Vcpu, Vnode
from domicile.state.request import Character, Group, GroupKind, GuestRequest, Intent
from domicile.topology.model import Cpu, Device, Node, Topology

EFFORT = Effort(starts=2, rounds=50)
CPUS = frozenset(range(16))


def topology(*free_mib: int) -> Topology:
    """Four nodes of four CPUs, in pairs."""
    return Topology(
        tuple(Node(node, 8192, mib) for node, mib in enumerate(free_mib)),
        tuple(Cpu(cpu, cpu, 0, cpu // 4) for cpu in range(16)),
        ((10, 16, 22, 22), (16, 10, 22, 22), (22, 22, 10, 16), (22, 22, 16, 10)),
        (Device("0000:41:00.0", 1),),
    )


def domain(number: int, node: int, memory_on: int, *, vcpus: int = 4, mib: int = 1024) -> Domain:
    """A domain whose vCPUs are on one node and whose memory is on another (or the same)."""
    soft = frozenset(range(4 * node, 4 * node + 4))
    return Domain(
        number,
        f"d{number}",
        f"{number}",
        tuple(Vcpu(v, None, CPUS, soft) for v in range(vcpus)),
        mib,
        mib,
        DomainType.PVH,
        pages_by_node={memory_on: mib * PAGES_PER_MIB},
    )


def host(*domains: Domain, free_mib: tuple[int, ...] = (2000, 2000, 2000, 2000)) -> Snapshot:
    return Snapshot(topology(*free_mib), domains, 0.0)


def after(plan: AfreshPlan, name: str) -> tuple[int, ...]:
    return next(place.after for place in plan.places if place.domain == name)


def test_domains_heaped_on_a_node_are_spread_and_remote_memory_comes_home() -> None:
    plan = lay_out_afresh(host(domain(1, 0, 0), domain(2, 0, 1), domain(3, 0, 3)), effort=EFFORT)
    homes = [after(plan, f"d{number}") for number in (1, 2, 3)]
    assert len(set(homes)) == 3
    assert all(len(nodes) == 1 for nodes in homes)
    assert plan.objective_after < plan.objective_before - 1.0
    assert max(plan.after) < max(plan.before)
    # each can live where its memory is, so that nothing has to move but vCPUs
    assert plan.move_mib == 0
    assert homes == [(0,), (1,), (3,)]


def test_a_good_layout_stays() -> None:
    plan = lay_out_afresh(host(*(domain(number, number - 1, number - 1) for number in (1, 2, 3, 4))), effort=EFFORT)
    assert not any(place.moves for place in plan.places)
    assert plan.objective_after == pytest.approx(plan.objective_before)
    assert plan.before == pytest.approx(plan.after)


def test_who_cannot_move_stays_where_it_is() -> None:
    pinned = replace(domain(1, 0, 3), vcpus=tuple(Vcpu(v, None, frozenset({0, 1}), CPUS) for v in range(4)))
    passed = replace(domain(2, 0, 3), devices=("0000:41:00.0",))
    virtual = replace(domain(3, 0, 3), vnodes=(Vnode(0, 1024, frozenset(range(4))),))
    unknown = replace(domain(4, 0, 3), pages_by_node=None)
    snapshot = host(replace(domain(0, 0, 3), id=0), pinned, passed, virtual, unknown, domain(5, 0, 0))
    plan = lay_out_afresh(snapshot, effort=EFFORT)
    reasons = {place.domain: place.stays for place in plan.places}
    assert reasons == {
        "d0": "Dom0",
        "d1": "hard affinity",
        "d2": "devices passed through",
        "d3": "virtual topology",
        "d4": "no memory map",
        "d5": "",
    }
    assert {place.domain for place in plan.places if place.moves} == {"d5"}
    assert why_it_stays(snapshot, domain(6, 1, 1), CPUS) == ""


@pytest.mark.parametrize("others", [2, 8])
def test_who_has_virtual_nodes_is_predicted_with_them(others: int) -> None:
    """A resident and a newcomer, by NumPy's search and the compiled one: slowdowns add up to the objective."""
    near, far = frozenset(range(4)), frozenset(range(4, 8))
    vnodes = (Vnode(0, 512, frozenset({0, 1})), Vnode(1, 512, frozenset({2, 3})))
    made = replace(domain(1, 0, 0), pages_by_node={0: 512 * PAGES_PER_MIB, 1: 512 * PAGES_PER_MIB})
    soft = (near, near, far, far)
    vcpus = tuple(replace(vcpu, soft_affinity=cpus) for vcpu, cpus in zip(made.vcpus, soft, strict=True))
    newcomer = GuestRequest("new", DomainType.HVM, 4, 4, 800, 800, vnodes=tuple(
        replace(vnode, pnode=2 + number, memory_mib=400) for number, vnode in enumerate(vnodes)
    ))  # fmt: skip
    rest = [domain(2 + number, number % 4, 3 - number % 4, vcpus=1, mib=200) for number in range(others)]
    seeing, blind = (
        lay_out_afresh(host(replace(made, vcpus=vcpus, vnodes=its), *rest), [newcomer], effort=EFFORT)
        for its in (vnodes, ())
    )
    for plan in (seeing, blind):
        assert sum(plan.after) - len(plan.after) == pytest.approx(plan.objective_after)
    (resident,) = (place for place in seeing.places if place.domain == "d1")
    assert resident.stays == "virtual topology"
    # the others come to rest, and it is counted after as before
    assert resident.slowdown_before is not None
    assert resident.slowdown_after <= resident.slowdown_before + 0.05


def test_residents_make_room_for_a_newcomer() -> None:
    """2 x 900 MiB are free, and it is only by moving a resident that a node has 1800."""
    small = [replace(domain(number, number % 4, number % 4, vcpus=1, mib=900), id=number) for number in (1, 2, 3, 4)]
    hard = (frozenset(range(4)),) * 4
    guest = GuestRequest("new", DomainType.PVH, 4, 4, 1700, 1700, hard_affinity=hard)
    plan = lay_out_afresh(host(*small, free_mib=(900, 900, 0, 0)), [guest], effort=EFFORT)
    (new,) = [place for place in plan.places if place.before is None]
    assert new.memory_mib == {0: 1700}
    used = dict.fromkeys(range(4), 0)
    for place in plan.places:
        for node, mib in place.memory_mib.items():
            used[node] += mib
    assert all(used[node] <= mib for node, mib in enumerate((1800, 1800, 900, 900)))
    with pytest.raises(NoWay):
        lay_out_afresh(host(*small, free_mib=(800, 0, 0, 0)), [guest], effort=EFFORT)


def test_nobody_to_move_is_told() -> None:
    with pytest.raises(BadInput, match="can move"):
        lay_out_afresh(host(replace(domain(0, 0, 0), id=0)), effort=EFFORT)


def test_slowdowns_have_the_distance_in_a_group_and_add_up_to_the_objective() -> None:
    near = Intent((Group("talk", GroupKind.NEAR, ("d1", "d3"), 1.0),))
    snapshot = host(domain(1, 0, 0), domain(2, 1, 1), domain(3, 2, 2))
    plan = lay_out_afresh(snapshot, [GuestRequest("new", DomainType.PVH, 2, 2, 500, 500)], near, effort=EFFORT)
    apart = lay_out_afresh(snapshot, effort=EFFORT)
    assert plan.objective_before > apart.objective_before + 0.01
    assert sum(plan.before) - 3.0 == pytest.approx(plan.objective_before)
    assert sum(plan.after) - 4.0 == pytest.approx(plan.objective_after, abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_a_few_are_laid_out_without_compiled_code_and_as_well(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(seed)
    domains = [
        domain(n, int(random.integers(4)), int(random.integers(4)), vcpus=int(random.integers(1, 6)))
        for n in (1, 2, 3, 4)
    ]
    new = [GuestRequest("new", DomainType.PVH, 6, 6, 2500, 2500)]
    near = Intent((Group("talk", GroupKind.NEAR, ("d1", "new"), 1.0),))
    compiled = lay_out_afresh(host(*domains), new, near, effort=EFFORT)
    monkeypatch.setattr("domicile.policies.placement.afresh.host._searched", None)
    plain = lay_out_afresh(host(*domains), new, near)
    assert plain.objective_after <= compiled.objective_after + 0.02 * len(plain.places)
    used = dict.fromkeys(range(4), 0)
    for place in plain.places:
        for node, mib in place.memory_mib.items():
            used[node] += mib
    there = [sum(1024 for one in domains if one.pages_by_node and node in one.pages_by_node) for node in range(4)]
    assert all(used[node] <= 2000 + mib for node, mib in enumerate(there))


def test_weights_caps_and_characters_count_for_who_is_there() -> None:
    """Of two that are heaped on a node with a busy one, the heavier is better off; a cap takes load away."""
    busy = domain(1, 0, 0, vcpus=4)
    plain = lay_out_afresh(host(busy, domain(2, 0, 0)), effort=EFFORT)
    heavy = lay_out_afresh(host(busy, replace(domain(2, 0, 0), weight=1024)), effort=EFFORT)
    capped = lay_out_afresh(host(busy, replace(domain(2, 0, 0), cap_percent=50)), effort=EFFORT)
    leaning = Intent(domains=(Character("d2", memory_bound=0.9, traffic_gbs=6.0),))
    bound = lay_out_afresh(host(busy, domain(2, 0, 1)), intent=leaning, effort=EFFORT)
    usual = lay_out_afresh(host(busy, domain(2, 0, 1)), effort=EFFORT)
    slowdown = {
        name: {place.domain: place.slowdown_before or 0.0 for place in plan.places}
        for name, plan in {"plain": plain, "heavy": heavy, "capped": capped, "bound": bound, "usual": usual}.items()
    }
    assert slowdown["heavy"]["d2"] < slowdown["plain"]["d2"] < slowdown["heavy"]["d1"]
    assert slowdown["capped"]["d1"] < slowdown["plain"]["d1"]
    assert slowdown["bound"]["d2"] > slowdown["usual"]["d2"]
    for plan in (plain, heavy, capped, bound):
        assert sum(plan.before) - 2.0 == pytest.approx(plan.objective_before, abs=1e-6)
        assert sum(plan.after) - 2.0 == pytest.approx(plan.objective_after, abs=1e-6)
