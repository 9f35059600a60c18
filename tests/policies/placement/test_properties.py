"""What must hold on any host: limits kept, the best found, ids without meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain, combinations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from domicile.errors import NotEnoughMemory, Refused
from domicile.performance.assumptions import DEFAULT
from domicile.performance.machine import Machine
from domicile.performance.predict import predict
from domicile.performance.tenants import Tenants, device_shares, residents
from domicile.policies.placement import place, problem_of
from domicile.policies.placement.candidates import EXHAUSTIVE_NODES
from domicile.policies.placement.exact import search_exactly
from domicile.policies.placement.layout import Layout
from domicile.policies.placement.search import NoRoom, as_it_falls, search
from domicile.policies.plan import PlacementPlan
from domicile.policies.starting_order import starting_order
from domicile.state.model import Cpupool, Domain, DomainType, Reservation, Snapshot, Vcpu
from domicile.state.request import DevicePolicy, Group, GroupKind, GuestRequest, Intent
from domicile.topology.model import Cpu, Device, Node, Topology

DEVICE = "0000:41:00.0"


@st.composite
def hosts(draw: st.DrawFn, most_nodes: int = 5, residents_: int = 5) -> Snapshot:
    """Small uneven hosts: nodes without memory or CPUs, SMT, residents bound and not, promises."""
    count = draw(st.integers(1, most_nodes))
    smt = draw(st.sampled_from([1, 2]))
    cores = draw(st.lists(st.sampled_from([0, 1, 2, 4]), min_size=count, max_size=count))
    assume(sum(cores))
    cpus: list[Cpu] = []
    for node, many in enumerate(cores):
        cpus += [Cpu(len(cpus) + index, index // smt, node, node) for index in range(many * smt)]
    distance = st.sampled_from([11, 16, 20, 21, 31])
    above = {pair: draw(distance) for pair in combinations(range(count), 2)}
    distances = tuple(tuple(10 if a == b else above[min(a, b), max(a, b)] for b in range(count)) for a in range(count))
    nodes = tuple(Node(node, 8192, draw(st.sampled_from([0, 300, 1000, 2500, 6000]))) for node in range(count))
    topology = Topology(nodes, tuple(cpus), distances, (Device(DEVICE, draw(st.integers(0, count - 1))),))
    everywhere = frozenset(cpu.id for cpu in cpus)
    some = st.frozensets(st.sampled_from(sorted(everywhere)), min_size=1)
    soft = st.one_of(st.just(everywhere), some)
    domains = []
    for number in range(draw(st.integers(0, residents_))):
        vcpus = tuple(Vcpu(v, None, everywhere, draw(soft)) for v in range(draw(st.sampled_from([1, 2, 4]))))
        domains.append(Domain(number, f"r{number}", "", vcpus, 256, 256))
    promised = draw(st.sampled_from([0, 0, 500]))
    reservations = (Reservation("t", "coming", {draw(st.integers(0, count - 1)): promised}, 1, "pid 1", 0.0),)
    return Snapshot(topology, tuple(domains), 0.0, reservations=reservations if promised else ())


@st.composite
def guests(draw: st.DrawFn, host: Snapshot, name: str = "g", *, free: bool = False) -> GuestRequest:
    """A guest for this host; `free` leaves out what could tell nodes apart (affinity, devices)."""
    vcpus = draw(st.sampled_from([1, 2, 4, 8]))
    memory_mib = draw(st.sampled_from([100, 250, 700, 2000, 4000]))
    everywhere = sorted(cpu.id for cpu in host.topology.cpus)
    hard = draw(st.frozensets(st.sampled_from(everywhere), min_size=1)) if draw(st.integers(0, 4)) == 0 else None
    devices = (DEVICE,) if draw(st.integers(0, 3)) == 0 else ()
    return GuestRequest(
        name,
        DomainType.PVH,
        vcpus,
        vcpus,
        memory_mib,
        memory_mib,
        draw(st.sampled_from([0, 4, 17])),
        hard_affinity=(hard,) * vcpus if hard and not free else None,
        devices=() if free else devices,
    )


@st.composite
def cases(draw: st.DrawFn, most: int = 4, most_nodes: int = 5) -> tuple[Snapshot, list[GuestRequest], Intent]:
    host = draw(hosts(most_nodes))
    requests = [draw(guests(host, f"g{number}")) for number in range(draw(st.integers(1, most)))]
    names = [request.name for request in requests] + [domain.name for domain in host.domains]
    groups = (
        (Group("x", draw(st.sampled_from(list(GroupKind))), tuple(draw(st.permutations(names))[:3])),)
        if draw(st.booleans())
        else ()
    )
    return host, requests, Intent(groups, draw(st.sampled_from(list(DevicePolicy))))


def planned(host: Snapshot, requests: list[GuestRequest], intent: Intent) -> PlacementPlan:
    """The plan; cases in which nothing fits are left out, and have tests of their own."""
    try:
        return place(host, requests, intent)
    except Refused:
        assume(False)
        raise


@settings(max_examples=50, deadline=None)
@given(case=cases())
def test_limits_are_kept(case: tuple[Snapshot, list[GuestRequest], Intent]) -> None:
    host, requests, intent = case
    plan = planned(host, requests, intent)
    taken = dict.fromkeys(host.topology.node_ids, 0)
    assert [placement.domain for placement in plan.placements] == [request.name for request in requests]
    for index, _ in starting_order(host, plan.placements):
        request, placement = requests[index], plan.placements[index]
        assert sum(placement.memory_mib.values()) == request.memory_mib
        assert sum(placement.reserve_mib.values()) == request.need_mib
        assert set(placement.memory_mib) <= set(placement.reserve_mib) <= set(placement.nodes)
        assert placement.soft_affinity is not None
        assert len(placement.soft_affinity) == request.max_vcpus
        near = [node for node in placement.nodes if host.topology.cpus_by_node[node]]
        if near != list(placement.nodes):
            # memory without CPUs is what is left when nodes with CPUs have no more
            left = {node: host.available_mib(node) - taken[node] for node in near}
            assert all(placement.reserve_mib.get(node, 0) == left[node] for node in near)
        for vcpu, soft in enumerate(placement.soft_affinity):
            assert soft == host.topology.cpus_of(placement.nodes)
            assert not request.hard_affinity or soft & request.hard_affinity[vcpu]
        for node, mib in placement.reserve_mib.items():
            assert mib <= host.available_mib(node) - taken[node] or len(requests) > 1
            taken[node] += mib
        assert placement.predicted_slowdown == pytest.approx(1 + sum(term.cost for term in placement.terms))
        assert placement.predicted_slowdown > 0.9
    assert all(taken[node] <= host.available_mib(node) for node in taken)


@settings(max_examples=30, deadline=None)
@given(case=cases())
def test_memory_falls_as_planned_when_guests_start_in_order(case: tuple[Snapshot, list[GuestRequest], Intent]) -> None:
    host, requests, intent = case
    plan = planned(host, requests, intent)
    free = {node: host.available_mib(node) for node in host.topology.node_ids}
    for index, _ in starting_order(host, plan.placements):
        placement = plan.placements[index]
        near = [node for node in placement.nodes if host.topology.cpus_by_node[node]]
        level = [placement.reserve_mib.get(node, 0) for node in near]
        for node, mib in zip(near, level, strict=True):
            # a node has less than another only because it is full (or by what cannot be divided)
            assert mib >= max(level) - 1 or mib == free[node]
        for node, mib in placement.reserve_mib.items():
            free[node] -= mib


def brute_force(host: Snapshot, request: GuestRequest, intent: Intent) -> Mapping[tuple[int, ...], float]:
    """What each set of nodes adds to the sum of all domains' slowdowns, by the plain prediction of everybody."""
    machine = Machine.of(host.topology, host.cpupools)
    there = residents(machine, host)
    before = float(predict(machine, there).slowdown.sum())
    with_cpus = [node for node, cpus in host.topology.cpus_by_node.items() if cpus]
    costs = {}
    for nodes in chain.from_iterable(combinations(with_cpus, size) for size in range(1, len(with_cpus) + 1)):
        vcpus, memory = np.zeros(machine.nodes), np.zeros(machine.nodes)
        for node in nodes:
            vcpus[host.topology.node_index[node]] = len(host.topology.cpus_by_node[node])
        left = float(request.need_mib)
        room = {node: float(host.available_mib(node)) for node in nodes}
        if sum(room.values()) < left:
            continue
        while left > 1e-9:  # pour evenly into what is not full
            open_nodes = [node for node in room if room[node] > 1e-9]
            part = min(left / len(open_nodes), *(room[node] for node in open_nodes))
            for node in open_nodes:
                memory[host.topology.node_index[node]] += part
                room[node] -= part
                left -= part
        devices = device_shares(machine, request.devices)
        if intent.devices is DevicePolicy.IGNORED:
            devices = devices * 0
        everybody = Tenants(
            (*there.names, request.name),
            np.append(there.demand, request.vcpus),
            np.vstack([there.vcpu_share, vcpus / vcpus.sum()]),
            np.vstack([there.memory_share, memory / memory.sum()]),
            np.vstack([there.device_share, devices]),
            np.append(there.pool, 0),
            np.append(there.confined, 0),
        )
        costs[nodes] = float(predict(machine, everybody).slowdown.sum()) - before - 1
        if len(nodes) > 1 and any(_has_cores_for(host, node, request) for node in with_cpus):
            costs[nodes] += DEFAULT.split_weight
    return costs


def _has_cores_for(host: Snapshot, node: int, request: GuestRequest) -> bool:
    """Whether a node, were it empty, would have a core for each vCPU of the guest, and its memory."""
    cores = {(cpu.socket, cpu.core) for cpu in host.topology.cpus if cpu.node == node}
    return len(cores) >= request.vcpus and host.topology.node(node).memory_mib >= request.need_mib


@settings(max_examples=50, deadline=None)
@given(data=st.data(), host=hosts())
def test_one_newcomer_gets_the_best_of_all_sets(data: st.DataObject, host: Snapshot) -> None:
    request = replace(data.draw(guests(host)), hard_affinity=None)
    intent = Intent(devices=data.draw(st.sampled_from([DevicePolicy.PREFERRED, DevicePolicy.IGNORED])))
    costs = brute_force(host, request, intent)
    if not costs:
        try:
            (placement,) = place(host, [request], intent).placements
        except NotEnoughMemory:
            return
        assert any(not host.topology.cpus_by_node[node] for node in placement.reserve_mib), "there was room beside CPUs"
        return
    (placement,) = place(host, [request], intent).placements
    best = min(costs.values())
    assert costs[placement.nodes] == pytest.approx(best, abs=1e-6)
    # in whole MiB it is a little off
    assert placement.objective == pytest.approx(best, rel=0.02, abs=0.05)
    for other in placement.alternatives:
        assert other.objective == pytest.approx(costs[other.nodes], rel=0.02, abs=0.05)


def renumbered(host: Snapshot, order: list[int], ids: list[int]) -> Snapshot:
    """The same host with its nodes in another order and other ids (old index -> position in `order` -> id)."""
    old = host.topology
    new_id = {old_index: ids[position] for position, old_index in enumerate(order)}
    assert old.distances is not None
    topology = Topology(
        tuple(replace(old.nodes[index], id=new_id[index]) for index in order),
        tuple(replace(cpu, node=new_id[cpu.node]) for cpu in old.cpus if cpu.node is not None),
        tuple(tuple(old.distances[a][b] for b in order) for a in order),
        tuple(replace(device, node=new_id[device.node]) for device in old.devices if device.node is not None),
    )
    reservations = tuple(
        replace(one, memory_mib={new_id[node]: mib for node, mib in one.memory_mib.items()})
        for one in host.reservations
    )
    return replace(host, topology=topology, reservations=reservations)


@settings(max_examples=50, deadline=None)
@given(data=st.data(), case=cases(most=1))
def test_renumbering_nodes_changes_ids_only(
    data: st.DataObject, case: tuple[Snapshot, list[GuestRequest], Intent]
) -> None:
    host, requests, intent = case
    count = len(host.topology.nodes)
    order = data.draw(st.permutations(range(count)))
    ids = sorted(data.draw(st.sets(st.integers(0, 60), min_size=count, max_size=count)))
    (here,) = planned(host, requests, intent).placements
    # which nodes Xen comes to when these are full goes by their ids
    assume(all(host.topology.cpus_by_node[node] for node in here.nodes))
    (there,) = place(renumbered(host, list(order), ids), requests, intent).placements
    # in whole MiB, which node takes the odd one is a matter of order
    assert there.objective == pytest.approx(here.objective, rel=0.02, abs=0.05)
    back = {ids[position]: old for position, old in enumerate(order)}
    same = tuple(sorted(back[node] for node in there.nodes))
    ties = [other for other in here.alternatives if other.objective < here.objective + 0.05]
    assert same == here.nodes or len(ties) > 0


@settings(max_examples=30, deadline=None)
@given(case=cases(most=3, most_nodes=4))
def test_a_far_node_without_free_memory_changes_nothing(case: tuple[Snapshot, list[GuestRequest], Intent]) -> None:
    host, requests, intent = case
    plan = planned(host, requests, replace(intent, devices=DevicePolicy.IGNORED))
    old, new = host.topology, len(host.topology.nodes)
    assert old.distances is not None
    topology = replace(
        old,
        nodes=(*old.nodes, Node(new, 8192, 0)),
        distances=(*((*row, 255) for row in old.distances), (*[255] * new, 10)),
    )
    # without CPUs, it is no place for anybody
    wider = place(replace(host, topology=topology), requests, replace(intent, devices=DevicePolicy.IGNORED))
    assert [one.nodes for one in wider.placements] == [one.nodes for one in plan.placements]
    assert [one.reserve_mib for one in wider.placements] == [one.reserve_mib for one in plan.placements]
    # with CPUs of its own, too far for a guest that has room here
    cpus = (*old.cpus, *(Cpu(1000 + number, number, new, new) for number in range(2)))
    everybody = frozenset(cpu.id for cpu in old.cpus)
    pools = (Cpupool("Pool-0", everybody | {1000, 1001}, ""),)
    idle = replace(host, topology=replace(topology, cpus=cpus), cpupools=pools, domains=())
    one = requests[0]
    small = replace(one, vcpus=1, max_vcpus=1, hard_affinity=one.hard_affinity and one.hard_affinity[:1])
    (placement,) = place(idle, [small], replace(intent, devices=DevicePolicy.IGNORED)).placements
    assert new not in placement.nodes


@settings(max_examples=20, deadline=None)
@given(data=st.data(), case=cases(most=4, most_nodes=4))
def test_plans_do_not_depend_on_the_order_where_nothing_fills_up(
    data: st.DataObject, case: tuple[Snapshot, list[GuestRequest], Intent]
) -> None:
    host, requests, intent = case
    roomy = replace(
        host,
        topology=replace(host.topology, nodes=tuple(replace(node, free_mib=20000) for node in host.topology.nodes)),
    )
    shuffled = data.draw(st.permutations(requests))
    plan, other = planned(roomy, requests, intent), planned(roomy, list(shuffled), intent)
    assert other.mean_slowdown == pytest.approx(plan.mean_slowdown, rel=0.01)


@settings(max_examples=12, deadline=None)
@given(case=cases(most=3, most_nodes=4))
def test_exact_is_never_worse_and_finds_a_way_where_the_search_does(
    case: tuple[Snapshot, list[GuestRequest], Intent],
) -> None:
    host, requests, intent = case
    plan = planned(host, requests, intent)
    exact = place(host, requests, intent, exact=True)
    # where memory would not fall as any assignment wants it (as with nodes without CPUs), nothing is proven
    assert exact.proven or exact.placements == plan.placements
    assert total(exact) <= total(plan) + 1e-6 or exact.mean_slowdown <= plan.mean_slowdown + 1e-6


def total(plan: PlacementPlan) -> float:
    return sum(placement.objective for placement in plan.placements)


def drawn_case(seed: int) -> tuple[Snapshot, list[GuestRequest]]:
    """A host of 2 to 4 nodes with some residents, and 2 to 4 guests that it mostly has room for."""
    random = np.random.default_rng(seed)
    count, cores, smt = int(random.integers(2, 5)), int(random.choice([2, 4, 8])), int(random.choice([1, 2]))
    cpus = tuple(Cpu(cpu, cpu % (cores * smt) // smt, None, cpu // (cores * smt)) for cpu in range(count * cores * smt))
    distances = [[10] * count for _ in range(count)]
    for a, b in combinations(range(count), 2):
        distances[a][b] = distances[b][a] = int(random.choice([11, 16, 21, 31]))
    nodes = tuple(Node(node, 8192, int(random.integers(200, 6000))) for node in range(count))
    topology = Topology(nodes, cpus, tuple(map(tuple, distances)))
    everywhere = frozenset(range(len(cpus)))
    domains = tuple(
        Domain(
            number,
            f"r{number}",
            "",
            tuple(Vcpu(v, None, everywhere, topology.cpus_of([home])) for v in range(int(random.integers(1, 5)))),
            256,
            256,
        )
        for number, home in enumerate(random.integers(count, size=int(random.integers(0, 6))).tolist())
    )
    requests = []
    for number in range(int(random.integers(2, 5))):
        vcpus, memory_mib = int(random.choice([1, 2, 4, 6])), int(random.choice([100, 500, 1000, 1500]))
        requests.append(GuestRequest(f"g{number}", DomainType.PVH, vcpus, vcpus, memory_mib, memory_mib, 4))
    return Snapshot(topology, domains, 0.0), requests


@pytest.mark.slow
def test_the_search_comes_close_to_the_proven_best(capsys: pytest.CaptureFixture[str]) -> None:
    """Gap of the search, without the enumeration that `place` adds where there are few sets, to the proven optimum."""
    gaps = []
    for seed in range(30):
        host, requests = drawn_case(seed)
        problem = problem_of(host, requests, Intent())
        try:
            found: Layout | None = search(problem)
        except NoRoom:
            found = None
        try:
            best = search_exactly(problem, found)
        except Refused:
            continue
        if found is None:
            assert best is None
            continue
        assert best is not None
        assert as_it_falls(found) is not None
        domains = best.load.domains
        gaps.append((found.objective - best.objective) / (domains + best.objective))
    assert len(gaps) >= 15
    with capsys.disabled():
        shares = ", ".join(
            f"{name} {np.percentile(gaps, q):.2%}" for name, q in (("median", 50), ("95 %", 95), ("worst", 100))
        )
        print(f"\ngap of the search to the proven best, {len(gaps)} cases: {shares}")
    assert min(gaps) > -1e-6
    assert np.median(gaps) < 1e-6
    assert np.percentile(gaps, 95) < 0.02
    assert max(gaps) < 0.10


@pytest.mark.parametrize("seed", range(4))
def test_beyond_exhaustive_search_it_still_finds_the_best(seed: int) -> None:
    """On 10 nodes, where wide sets are grown and bettered instead of all tried."""
    random = np.random.default_rng(seed)
    count = EXHAUSTIVE_NODES + 2
    distances = [[10] * count for _ in range(count)]
    for a, b in combinations(range(count), 2):
        distances[a][b] = distances[b][a] = int(random.choice([12, 16, 21, 31]))
    nodes = tuple(Node(node, 8192, int(random.integers(500, 3000))) for node in range(count))
    topology = Topology(
        nodes, tuple(Cpu(c, c % 4, None, c // 4) for c in range(4 * count)), tuple(map(tuple, distances))
    )
    host = Snapshot(topology, (), 0.0)
    for vcpus, memory_mib in ((2, 500), (8, 1000), (14, 4000), (24, 9000)):
        request = GuestRequest("wide", DomainType.PVH, vcpus, vcpus, memory_mib, memory_mib)
        costs = brute_force(host, request, Intent())
        (placement,) = place(host, [request]).placements
        best = min(costs.values())
        assert costs[placement.nodes] <= best + 0.02 * (1 + best)
