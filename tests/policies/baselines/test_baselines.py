"""What holds for every baseline, on any host: its limits are kept, and a guest is refused only where nothing fits."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, combinations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_hosts import DEVICE, guest, guests, host, hosts

from domicile.errors import BadInput, NotEnoughMemory, Refused
from domicile.policies.placement import problem_of
from domicile.policies.placement.layout import Layout
from domicile.policies.registry import DEFAULT_POLICY, POLICIES, policy
from domicile.state.model import Snapshot, Vnode
from domicile.state.request import DevicePolicy, GuestRequest, Intent

BASELINES = [name for name in POLICIES if name not in (DEFAULT_POLICY, "libxl")]

Case = tuple[Snapshot, list[GuestRequest], Intent]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    on = draw(hosts())
    requests = [draw(guests(on, f"g{number}")) for number in range(draw(st.integers(1, 3)))]
    return on, requests, Intent(devices=draw(st.sampled_from(list(DevicePolicy))))


@pytest.mark.parametrize("name", BASELINES)
@settings(max_examples=25, deadline=None)
@given(case=cases())
def test_limits_are_kept(name: str, case: Case) -> None:
    on, requests, intent = case
    try:
        plan = policy(name)(on, requests, intent)
    except Refused:
        assume(False)
    taken = dict.fromkeys(on.topology.node_ids, 0)
    assert plan.policy == name
    for request, placement in zip(requests, plan.placements, strict=True):
        assert placement.domain == request.name
        assert placement.reasons[0].startswith(f"{name}: ")
        assert sum(placement.memory_mib.values()) == request.memory_mib
        assert sum(placement.reserve_mib.values()) == request.need_mib
        assert set(placement.memory_mib) <= set(placement.reserve_mib) <= set(placement.nodes)
        assert all(on.topology.cpus_by_node[node] for node in placement.nodes)
        pool = next((p.cpus for p in on.cpupools if p.name == request.cpupool), on.topology.cpus_of(placement.nodes))
        assert placement.soft_affinity is not None
        assert len(placement.soft_affinity) == request.max_vcpus
        for vcpu, soft in enumerate(placement.soft_affinity):
            assert soft == on.topology.cpus_of(placement.nodes) & pool
            assert not request.hard_affinity or soft & request.hard_affinity[vcpu]
        if request.devices and intent.devices is DevicePolicy.REQUIRED:
            (device,) = on.topology.devices
            if device.node is not None and on.topology.cpus_by_node[device.node] and not on.cpupools:
                assert placement.nodes == (device.node,)
        for node, mib in placement.reserve_mib.items():
            taken[node] += mib
            assert taken[node] <= on.available_mib(node)


@pytest.mark.parametrize("name", BASELINES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_guest_is_refused_only_where_no_set_of_nodes_fits(name: str, data: st.DataObject) -> None:
    on = data.draw(hosts())
    request = data.draw(guests(on))
    try:
        layout = Layout.empty(problem_of(on, [request], Intent()))
    except Refused:  # no CPU that it may run on: said before any policy
        assume(False)
    eligible = layout.problem.subjects[0].eligible.tolist()
    sets = chain.from_iterable(combinations(eligible, size) for size in range(1, len(eligible) + 1))
    if any(layout.seat_for(0, nodes) for nodes in sets):
        assert policy(name)(on, [request]).placements[0].nodes
    else:
        with pytest.raises(Refused):
            policy(name)(on, [request])


@pytest.mark.parametrize("name", BASELINES)
@settings(max_examples=15, deadline=None)
@given(case=cases())
def test_the_same_again(name: str, case: Case) -> None:
    def outcome() -> object:
        try:
            return policy(name)(*case)
        except Refused as refused:
            return str(refused)

    assert outcome() == outcome()


@pytest.mark.parametrize("name", BASELINES)
def test_guests_of_one_call_go_where_they_would_one_by_one(name: str) -> None:
    on = host(4000, 4000, 4000)
    requests = [guest(2, 1500, f"g{number}") for number in range(5)]
    plan = policy(name)(on, requests)
    assert sum(sum(placement.reserve_mib.values()) for placement in plan.placements) == 5 * 1500
    assert plan.placements[0].nodes == policy(name)(on, requests[:1]).placements[0].nodes
    with pytest.raises(NotEnoughMemory, match=r"g8: needs 1500 MiB"):
        policy(name)(on, [guest(2, 1500, f"g{number}") for number in range(9)])


@pytest.mark.parametrize("name", BASELINES)
def test_what_the_configuration_sets_stays(name: str) -> None:
    on = host(1000, 1000)
    cpus = frozenset({4, 5})
    (soft,) = policy(name)(on, [guest(soft_affinity=(cpus, cpus))]).placements
    assert soft.nodes == (1,)
    assert soft.soft_affinity == (cpus, cpus)
    vnodes = (Vnode(1, 200, frozenset({0})), Vnode(0, 56, frozenset({1})))
    (virtual,) = policy(name)(on, [guest(vnodes=vnodes)]).placements
    assert virtual.memory_mib == {0: 56, 1: 200}
    with pytest.raises(NotEnoughMemory):
        policy(name)(on, [guest(memory_mib=1100, vnodes=(Vnode(1, 1100, frozenset({0, 1})),))])


@pytest.mark.parametrize("name", BASELINES)
def test_there_is_nothing_to_prove(name: str) -> None:
    with pytest.raises(BadInput, match=rf"--exact: there is nothing to prove about policy '{name}'; leave it out"):
        policy(name)(host(1000, 1000), [guest()], exact=True)


@pytest.mark.parametrize("name", BASELINES)
def test_on_64_nodes(name: str) -> None:
    """A wide guest that needs memory and CPUs of many nodes, each vCPU kept on nodes of its own: still at once."""
    on = host(*[1000 + node for node in range(64)], cpus_per_node=2)
    hard = tuple(frozenset({4 * vcpu, 4 * vcpu + 2}) for vcpu in range(32))
    plan = policy(name)(on, [guest(48, 30_000, "wide"), guest(32, 5000, "held", hard_affinity=hard), guest()])
    wide, held, small = plan.placements
    assert len(wide.nodes) >= 24
    assert all(soft & own for soft, own in zip(held.soft_affinity or (), hard, strict=True))
    assert len(small.nodes) <= 2


@pytest.mark.parametrize("name", BASELINES)
def test_no_node_is_used_without_cpus(name: str) -> None:
    on = host(1000, 1000, 8000, cpus_per_node=2)
    bare = replace(on.topology, cpus=on.topology.cpus[:4])
    everywhere = frozenset(range(4))
    dom0 = replace(on.domains[0], vcpus=tuple(replace(v, hard_affinity=everywhere) for v in on.domains[0].vcpus))
    on = replace(on, topology=bare, domains=(dom0,))
    assert 2 not in policy(name)(on, [guest(2, 1500)]).placements[0].nodes
    with pytest.raises(NotEnoughMemory):
        policy(name)(on, [guest(2, 2500)])


def test_a_device_that_is_not_there_is_said() -> None:
    on = host(1000, 1000)
    asked = guest(devices=(DEVICE,))
    with pytest.raises(Refused, match="does not say which node"):
        policy("spread")(on, [asked], Intent(devices=DevicePolicy.REQUIRED))
