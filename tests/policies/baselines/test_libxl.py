"""libxl's own placement against a second model of it, written another way, and against what a real Xen 4.17 printed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from domicile.errors import BadInput, NotEnoughMemory, Refused
from domicile.policies.baselines.libxl import Candidate, candidate, default_need_kib, skip_reason, vcpus_on_node
from domicile.policies.baselines.libxl_plan import place
from domicile.state.model import Cpupool, Domain, DomainType, Snapshot, Vcpu, Vnode
from domicile.state.request import DevicePolicy, GuestRequest, Intent
from domicile.topology.model import Cpu, Device, Node, Topology

EIGHT = frozenset(range(8))


def lab(*free_mib: int, cpus_per_node: int = 2, domains: tuple[Domain, ...] | None = None) -> Snapshot:
    """The lab's machine: some nodes of 2 pCPUs, and a Dom0 that may run anywhere."""
    count = len(free_mib) * cpus_per_node
    topology = Topology(
        tuple(Node(node, max(free, 2048), free) for node, free in enumerate(free_mib)),
        tuple(Cpu(cpu, cpu % cpus_per_node, cpu // cpus_per_node, cpu // cpus_per_node) for cpu in range(count)),
    )
    everywhere = frozenset(range(count))
    dom0 = Domain(0, "Domain-0", "", tuple(Vcpu(v, v, everywhere, everywhere) for v in range(8)), 1024, 1024)
    return Snapshot(topology, (dom0,) if domains is None else domains, 0.0)


def guest(vcpus: int = 2, memory_mib: int = 256, name: str = "web", **more: object) -> GuestRequest:
    return GuestRequest(name, DomainType.PVH, vcpus, vcpus, memory_mib, memory_mib, 1, **more)  # type: ignore[arg-type]


def running(name: str, vcpus: int, nodes: set[int], hard: frozenset[int] = EIGHT) -> Domain:
    soft = frozenset(cpu for node in nodes for cpu in (2 * node, 2 * node + 1))
    return Domain(7, name, "", tuple(Vcpu(v, None, hard, soft) for v in range(vcpus)), 1, 1, None, frozenset(nodes))


def test_the_candidate_that_a_real_xen_printed() -> None:
    """Captured: `1 nodes, 2 cpus and 2025 KB free selected`, on 4 nodes with 1780, 1978, 2025 and 1298 MiB free."""
    assert candidate(lab(1780, 1978, 2025, 1298), guest()) == Candidate((2,), 2, 8 + 2, 2025 * 1024)


def test_a_node_with_fewer_vcpus_beats_one_with_more_memory() -> None:
    host = lab(1780, 1978, 2025, 1298)
    busy = replace(host, domains=(*host.domains, running("db", 2, {2})))
    assert candidate(busy, guest()) == Candidate((1,), 2, 10, 1978 * 1024)


def test_no_more_nodes_than_it_takes() -> None:
    found = candidate(lab(100, 200, 300, 400), guest(vcpus=3, memory_mib=100))
    assert found is not None
    assert found.nodes == (2, 3)
    found = candidate(lab(100, 200, 300, 400), guest(vcpus=1, memory_mib=850))
    assert found is not None
    assert found.nodes == (1, 2, 3)


def test_nothing_where_the_host_has_too_few_cpus_or_too_little_memory() -> None:
    assert candidate(lab(1000, 1000), guest(vcpus=5)) is None
    assert candidate(lab(1000, 1000), guest(memory_mib=2100)) is None


def test_nothing_on_one_node_and_above_16() -> None:
    assert candidate(lab(1000), guest()) is None
    assert candidate(lab(*[1000] * 16), guest()) is not None
    assert candidate(lab(*[1000] * 17), guest()) is None


def test_a_gap_in_the_ids_counts_as_a_node() -> None:
    host = lab(1000, 1000)
    nodes = (host.topology.nodes[0], replace(host.topology.nodes[1], id=16))
    cpus = tuple(replace(cpu, node=0 if cpu.node == 0 else 16) for cpu in host.topology.cpus)
    assert candidate(replace(host, topology=Topology(nodes, cpus)), guest()) is None


def test_hard_affinity_is_left_out_of_the_choice() -> None:
    """`cpus="0-1"` does not keep the candidate on node 0 (since 4.12)."""
    found = candidate(lab(500, 1000), guest(hard_affinity=(frozenset({0, 1}),) * 2))
    assert found is not None
    assert found.nodes == (1,)


def test_four_tib_and_more_wrap_and_two_tib_change_the_sign() -> None:
    tib = 1024 * 1024
    found = candidate(lab(4 * tib + 100, 5000), guest(memory_mib=200))
    assert found == Candidate((1,), 2, 10, 5000 * 1024)
    # 3 TiB more is taken for less
    found = candidate(lab(3 * tib + 500, 500), guest(memory_mib=200))
    assert found is not None
    assert found.nodes == (1,)


def test_only_the_cpupools_cpus_count() -> None:
    host = replace(
        lab(1000, 2000, 500, 400),
        cpupools=(
            Cpupool("Pool-0", frozenset({0, 1, 2, 3}), "credit2"),
            Cpupool("db", frozenset({4, 5, 6, 7}), "null"),
        ),
    )
    assert candidate(host, guest(cpupool="db")) == Candidate((2,), 2, 2, 500 * 1024)
    with pytest.raises(BadInput, match=r"cpupool 'x' is not on this host"):
        candidate(host, guest(cpupool="x"))
    with pytest.raises(Refused, match="wholly outside"):
        candidate(host, guest(cpupool="db", hard_affinity=(frozenset({0}),) * 2))


def test_need_is_in_whole_2_mib() -> None:
    assert default_need_kib(guest(memory_mib=256)) == 258 * 1024


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({}, None),
        ({"soft_affinity": (EIGHT, EIGHT)}, "soft affinity"),
        ({"hard_affinity": (EIGHT, EIGHT)}, None),
        ({"hard_affinity": (EIGHT, frozenset({1}))}, "list of affinities"),
        ({"hard_affinity": (EIGHT, EIGHT), "numa_placement": False}, "list of affinities"),
        ({"vnodes": (Vnode(1, 256, frozenset({0, 1})),)}, "vnodes"),
    ],
)
def test_what_switches_it_off(more: dict[str, object], says: str | None) -> None:
    reason = skip_reason(guest(**more))  # type: ignore[arg-type]
    assert reason is None if says is None else says in (reason or "")


# --- a second model: bit masks, all sets of all sizes in one list, C's integers by NumPy


def pools_of(snapshot: Snapshot) -> dict[str, frozenset[int]]:
    everything = {"Pool-0": frozenset(cpu.id for cpu in snapshot.topology.cpus)}
    return {pool.name: pool.cpus for pool in snapshot.cpupools} or everything


def count_vcpus(snapshot: Snapshot, request: GuestRequest) -> dict[int, int]:
    """vCPUs that may run on each node; the guest itself is one more domain with no affinity yet."""
    cpus, pools = snapshot.topology.cpus, pools_of(snapshot)
    mine = pools[request.cpupool]
    own = tuple(Vcpu(v, None, mine, mine) for v in range(request.max_vcpus))
    count = dict.fromkeys(snapshot.topology.node_ids, 0)
    for domain in (*snapshot.domains, Domain(99, "new", "", own, 0, 0, cpupool=request.cpupool)):
        where = pools[domain.cpupool] & mine
        hard = {c for v in domain.vcpus for c in v.hard_affinity} & where
        soft = {c for v in domain.vcpus for c in v.soft_affinity} & hard
        automatic = {c.node for c in cpus if c.id in (soft or hard)}
        affine = automatic if domain.node_affinity is None else domain.node_affinity
        for node in count:
            here = {c.id for c in cpus if c.node == node} & where
            if node in affine:
                count[node] += sum(bool(here & vcpu.hard_affinity) for vcpu in domain.vcpus)
    return count


def free_as_c_has_it(snapshot: Snapshot, nodes: list[int]) -> int:
    with np.errstate(over="ignore"):
        free = np.uint32(0)
        for node in nodes:
            free = free + np.uint32((snapshot.topology.node(node).free_mib or 0) * 1024 % 2**32)
    return int(free)


def beats(new: Candidate, old: Candidate) -> bool:
    if new.nr_vcpus != old.nr_vcpus:
        return new.nr_vcpus < old.nr_vcpus
    with np.errstate(over="ignore"):
        return bool((np.uint64(old.free_memkb) - np.uint64(new.free_memkb)).astype(np.int32) < 0)


def brute_force(snapshot: Snapshot, request: GuestRequest, need_kib: int) -> Candidate | None:
    if not 0 < max(snapshot.topology.node_ids) <= 15:
        return None
    mine, load = pools_of(snapshot)[request.cpupool], count_vcpus(snapshot, request)
    cpus = {node: sum(c.node == node and c.id in mine for c in snapshot.topology.cpus) for node in load}
    usable = [node for node in sorted(cpus) if cpus[node]]
    sets = [[node for bit, node in enumerate(usable) if mask >> bit & 1] for mask in range(1, 2 ** len(usable))]
    found = [
        Candidate(tuple(nodes), count, sum(load[node] for node in nodes), free)
        for nodes in sorted(sets, key=lambda nodes: (len(nodes), nodes))
        if (free := free_as_c_has_it(snapshot, nodes)) >= need_kib
        and (count := sum(cpus[node] for node in nodes)) >= request.max_vcpus
    ]
    best: Candidate | None = None
    for one in found:
        if len(one.nodes) == len(found[0].nodes) and (best is None or beats(one, best)):
            best = one
    return best


@st.composite
def hosts(draw: st.DrawFn) -> Snapshot:
    ids = draw(st.lists(st.integers(0, 17), min_size=1, max_size=5, unique=True).map(sorted))
    per_node = draw(st.lists(st.integers(0, 3), min_size=len(ids), max_size=len(ids)))
    assume(sum(per_node))
    cpus = tuple(
        Cpu(number, None, None, node)
        for number, node in enumerate(node for node, count in zip(ids, per_node, strict=True) for _ in range(count))
    )
    free = st.one_of(st.integers(0, 4000), st.sampled_from([0, 500, 1000]), st.integers(0, 6 * 1024 * 1024))
    topology = Topology(tuple(Node(node, 4096, draw(free)) for node in ids), cpus)
    all_cpus = st.frozensets(st.sampled_from([cpu.id for cpu in cpus]), min_size=1)
    split = draw(st.integers(0, len(cpus) - 1))
    everything = [cpu.id for cpu in cpus]
    pools = (
        (Cpupool("Pool-0", frozenset(everything[split:]), ""), Cpupool("b", frozenset(everything[:split]), ""))
        if split
        else draw(st.sampled_from([(), (Cpupool("Pool-0", frozenset(everything), ""),)]))
    )
    names = [pool.name for pool in pools] or ["Pool-0"]
    members = {pool.name: pool.cpus for pool in pools} or {"Pool-0": frozenset(everything)}
    domains = []
    for number in range(draw(st.integers(0, 4))):
        name = draw(st.sampled_from(names))
        hard = draw(st.one_of(st.just(frozenset(everything)), all_cpus)) | draw(
            st.just(frozenset([min(members[name])]))
        )
        vcpus = tuple(
            Vcpu(v, None, hard, draw(st.one_of(st.just(frozenset(everything)), all_cpus)))
            for v in range(draw(st.integers(1, 4)))
        )
        affinity = draw(st.one_of(st.none(), st.frozensets(st.sampled_from(ids), min_size=1)))
        domains.append(Domain(number, f"d{number}", "", vcpus, 1, 1, node_affinity=affinity, cpupool=name))
    return Snapshot(topology, tuple(domains), 0.0, cpupools=pools)


@settings(max_examples=300, deadline=None)
@given(
    host=hosts(),
    vcpus=st.integers(1, 8),
    need_mib=st.one_of(st.integers(0, 5000), st.integers(0, 2**22)),
    data=st.data(),
)
def test_it_agrees_with_a_second_model(host: Snapshot, vcpus: int, need_mib: int, data: st.DataObject) -> None:
    pool = data.draw(st.sampled_from([pool.name for pool in host.cpupools] or ["Pool-0"]))
    request = guest(vcpus=vcpus, cpupool=pool)
    assert candidate(host, request, need_mib * 1024) == brute_force(host, request, need_mib * 1024)


# --- the plan


def test_the_plan_sets_what_libxl_sets() -> None:
    plan = place(lab(1780, 1978, 2025, 1298), [guest()])
    (one,) = plan.placements
    assert plan.policy == "libxl"
    assert one.nodes == (2,)
    assert one.soft_affinity == (frozenset({4, 5}),) * 2
    assert one.memory_mib == {2: 256}
    assert one.reserve_mib == {2: 257}
    assert "1 nodes, 2 CPUs and 2025 MiB free" in one.reasons[0]
    assert one.predicted_slowdown == pytest.approx(1 + sum(term.cost for term in one.terms))


def test_guests_of_one_plan_see_each_other() -> None:
    plan = place(lab(1780, 1978, 2025, 1298), [guest(name="a"), guest(name="b"), guest(name="c")])
    assert [one.nodes for one in plan.placements] == [(2,), (1,), (0,)]


def test_a_guest_that_finds_no_candidate_may_be_anywhere() -> None:
    (one,) = place(lab(1000, 1000), [guest(vcpus=5, memory_mib=300)]).placements
    assert one.nodes == (0, 1)
    assert one.soft_affinity is None
    assert one.memory_mib == {0: 150, 1: 150}


def test_memory_falls_where_placement_put_it_even_if_hard_affinity_is_elsewhere() -> None:
    (one,) = place(lab(500, 1000), [guest(hard_affinity=(frozenset({0, 1}),) * 2)]).placements
    assert one.memory_mib == {1: 256}
    latency = next(term for term in one.terms if term.name == "memory latency")
    assert "100% of accesses remote" in latency.reason


def test_a_soft_affinity_in_the_configuration_is_kept() -> None:
    soft = (frozenset({6, 7}), frozenset({6, 7}))
    (one,) = place(lab(1780, 1978, 2025, 1298), [guest(soft_affinity=soft)]).placements
    assert one.nodes == (3,)
    assert one.soft_affinity == soft
    assert one.memory_mib == {3: 256}


def test_memory_goes_on_elsewhere_where_the_affinity_is_full() -> None:
    soft = (frozenset({0, 1}),) * 2
    (one,) = place(lab(100, 1000), [guest(soft_affinity=soft)]).placements
    assert one.nodes == (0,)
    assert one.reserve_mib == {0: 100, 1: 157}


def test_vnodes_are_strict() -> None:
    vnodes = (Vnode(0, 128, frozenset({0})), Vnode(1, 128, frozenset({1})))
    (one,) = place(lab(500, 1000), [guest(vnodes=vnodes)]).placements
    assert one.memory_mib == {0: 128, 1: 128}
    assert one.soft_affinity == (frozenset({0, 1}), frozenset({2, 3}))
    with pytest.raises(NotEnoughMemory, match="node 0 has 100 MiB"):
        place(lab(100, 1000), [guest(vnodes=vnodes)])


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(NotEnoughMemory, match="the host has 300 MiB"):
        place(lab(100, 200), [guest(memory_mib=400)])
    with pytest.raises(BadInput, match="--exact"):
        place(lab(1000, 1000), [guest()], exact=True)


def test_a_required_device_does_not_bind_libxl() -> None:
    host = lab(1000, 2000)
    topology = replace(host.topology, devices=(Device("0000:41:00.0", 0),))
    request = guest(devices=("0000:41:00.0",))
    plan = place(replace(host, topology=topology), [request], Intent(devices=DevicePolicy.REQUIRED))
    assert plan.placements[0].nodes == (1,)


def test_vcpus_count_on_nodes_of_hard_affinity_and_node_affinity_both() -> None:
    host = lab(1000, 1000, 1000, 1000, domains=(running("a", 3, {1, 2}, hard=frozenset({2, 3, 7})),))
    assert vcpus_on_node(host, guest(vcpus=1), EIGHT) == {0: 1, 1: 4, 2: 1, 3: 1}
