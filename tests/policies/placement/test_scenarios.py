"""Placements that a person would agree with, and refusals that say why."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from domicile.errors import BadInput, NotEnoughMemory, Refused
from domicile.policies.placement import place, problem_of
from domicile.policies.placement.exact import search_exactly
from domicile.policies.plan import Placement
from domicile.state.model import Cpupool, Domain, DomainType, Reservation, Snapshot, Vcpu, Vnode
from domicile.state.request import DevicePolicy, Group, GroupKind, GuestRequest, Intent
from domicile.topology.model import Cpu, Device, Node, Topology

PAIRS = ((10, 16, 22, 22), (16, 10, 22, 22), (22, 22, 10, 16), (22, 22, 16, 10))


def host(
    *free_mib: int,
    cores: int = 2,
    smt: int = 1,
    distances: tuple[tuple[int, ...], ...] | None = None,
    dom0: bool = True,
) -> Snapshot:
    """Nodes with this free memory, in pairs that are nearer to each other (the lab's machine)."""
    if len(free_mib) == len(PAIRS) and distances is None:
        distances = PAIRS
    per_node = cores * smt
    topology = Topology(
        tuple(Node(node, 65536, free) for node, free in enumerate(free_mib)),
        tuple(
            Cpu(cpu, cpu % per_node // smt, cpu // per_node, cpu // per_node) for cpu in range(per_node * len(free_mib))
        ),
        distances,
        devices=(Device("0000:41:00.0", 1), Device("0000:81:00.0", 3), Device("0000:00:01.0", None)),
    )
    everywhere = frozenset(cpu.id for cpu in topology.cpus)
    domains = (Domain(0, "Domain-0", "", tuple(Vcpu(v, v, everywhere, everywhere) for v in range(2)), 512, 512),)
    return Snapshot(topology, domains if dom0 else (), 0.0)


def resident(snapshot: Snapshot, name: str, node: int, vcpus: int = 2) -> Snapshot:
    everywhere = frozenset(cpu.id for cpu in snapshot.topology.cpus)
    soft = snapshot.topology.cpus_of([node])
    domain = Domain(
        len(snapshot.domains), name, "", tuple(Vcpu(v, None, everywhere, soft) for v in range(vcpus)), 256, 256,
        node_affinity=frozenset({node}),
    )  # fmt: skip
    return replace(snapshot, domains=(*snapshot.domains, domain))


def guest(name: str = "web", vcpus: int = 2, memory_mib: int = 256, **more: object) -> GuestRequest:
    values: dict[str, object] = {"overhead_mib": 4, "source": f"{name}.cfg", "max_vcpus": vcpus} | more
    return GuestRequest(
        name=name, type=DomainType.PVH, vcpus=vcpus, memory_mib=memory_mib, max_memory_mib=memory_mib, **values  # type: ignore[arg-type]
    )  # fmt: skip


def only(snapshot: Snapshot, request: GuestRequest, intent: Intent | None = None) -> Placement:
    (one,) = place(snapshot, [request], intent or Intent()).placements
    return one


def cost(placement: Placement, name: str) -> float:
    return sum(term.cost for term in placement.terms if term.name == name)


def test_an_idle_host_gives_its_emptiest_node() -> None:
    one = only(host(1780, 1978, 2025, 1298), guest())
    assert one.nodes == (2,)
    assert one.soft_affinity == (frozenset({4, 5}),) * 2
    assert one.memory_mib == {2: 256}
    assert one.reserve_mib == {2: 260}


def test_alone_on_an_empty_host_is_slowdown_one() -> None:
    assert only(host(2000, 2000, dom0=False), guest()).predicted_slowdown == pytest.approx(1.0)


def test_max_vcpus_all_get_the_soft_affinity() -> None:
    assert only(host(2000, 1000), guest(vcpus=1, max_vcpus=4)).soft_affinity == (frozenset({0, 1}),) * 4


def test_a_busy_node_is_left_alone() -> None:
    snapshot = resident(host(1000, 1000, 4000, 1000), "db", 2)
    assert only(snapshot, guest()).nodes != (2,)


def test_load_that_was_measured_counts_instead_of_vcpus() -> None:
    snapshot = resident(resident(host(4000, 4000), "idle", 0, vcpus=4), "busy", 1, vcpus=1)
    (one,) = place(snapshot, [guest()], load={"idle": 0.0, "busy": 1.0, "Domain-0": 0.1}).placements
    assert one.nodes == (0,)
    (one,) = place(snapshot, [guest()]).placements
    assert one.nodes == (1,)


def test_two_guests_are_spread() -> None:
    plan = place(host(2000, 2000, 2000, 2000), [guest("a"), guest("b")])
    assert {one.nodes for one in plan.placements} == {(0,), (1,)}


def test_a_guest_that_fits_on_a_node_is_not_split_for_free_cores() -> None:
    """Both nodes have half of their cores busy. Divided, the guest would have a core for each vCPU; but it would stay
    divided, and on one node it can be lent the other's cores for as long as they are free."""
    snapshot = resident(resident(host(8000, 8000, cores=8, dom0=False), "a", 0, 4), "b", 1, 4)
    one = only(snapshot, guest(vcpus=8))
    assert one.nodes == (0,)
    (divided,) = (other for other in one.alternatives if len(other.nodes) > 1)
    (split,) = (term for term in divided.terms if term.name == "split")
    assert split.penalty == pytest.approx(1.0)
    assert divided.objective == pytest.approx(sum(term.cost + term.penalty for term in divided.terms))


def test_a_guest_with_a_core_for_each_vcpu_on_no_node_is_not_squeezed_onto_threads() -> None:
    """16 threads on 8 cores: a guest of 16 busy vCPUs has twice the cores on two nodes (XenServer saw it lose 40 to
    75 % on one)."""
    one = only(host(8000, 8000, cores=8, smt=2), guest(vcpus=16))
    assert one.nodes == (0, 1)
    assert not [term for term in one.terms if term.name == "split"]


def test_a_guest_wider_than_a_node_gets_two_near_ones() -> None:
    one = only(host(1780, 1978, 2025, 1298), guest(vcpus=4))
    assert one.nodes in {(0, 1), (2, 3)}
    assert set(one.soft_affinity or ()) == {frozenset({0, 1, 2, 3})} or set(one.soft_affinity or ()) == {
        frozenset({4, 5, 6, 7})
    }
    assert sorted(one.memory_mib.values()) == [128, 128]


def test_32_vcpus_are_not_squeezed_onto_the_32_threads_of_a_node() -> None:
    """xen-api PR 6763: sharing cores costs far more than half of the memory being remote saves."""
    snapshot = host(60000, 60000, cores=16, smt=2, distances=((10, 20), (20, 10)))
    assert only(snapshot, guest(vcpus=32, memory_mib=8192)).nodes == (0, 1)
    assert only(snapshot, guest(vcpus=12, memory_mib=8192)).nodes in {(0,), (1,)}


def test_more_memory_than_a_node_has_takes_near_nodes() -> None:
    one = only(host(1780, 1978, 2025, 1298), guest(vcpus=1, memory_mib=3000))
    assert one.nodes in {(2, 3), (0, 1)}
    assert sum(one.memory_mib.values()) == 3000


def test_memory_falls_evenly_until_a_node_is_full() -> None:
    one = only(host(300, 5000), guest(vcpus=4, memory_mib=1996))
    assert one.nodes == (0, 1)
    assert one.reserve_mib == {0: 300, 1: 1700}
    assert sum(one.memory_mib.values()) == 1996


def test_more_vcpus_than_the_host_has_pcpus() -> None:
    assert only(host(2000, 2000, 2000, 2000), guest(vcpus=20)).nodes == (0, 1, 2, 3)


def test_the_nearest_node_with_memory_where_it_has_to_be_shared() -> None:
    snapshot = replace(host(1000, 0, 0, 1000))
    one = only(snapshot, guest(vcpus=4, memory_mib=500))
    assert one.nodes == (0, 1)
    assert one.memory_mib == {0: 500}


def test_a_device_draws_its_guest() -> None:
    one = only(host(4000, 4000, 4000, 1000), guest(devices=("0000:81:00.0",)))
    assert one.nodes == (3,)
    assert "device 0000:81:00.0 is on node 3: distance 10" in one.reasons


def test_a_device_that_does_not_count_does_not_draw() -> None:
    intent = Intent(devices=DevicePolicy.IGNORED)
    assert only(host(1000, 1000, 4000, 1000), guest(devices=("0000:81:00.0",)), intent).nodes == (2,)


def test_a_preferred_device_gives_way_to_what_is_worse() -> None:
    snapshot = host(4000, 4000, 4000, 100)
    one = only(snapshot, guest(devices=("0000:81:00.0",)))
    assert one.memory_mib[2] > 128
    assert any(reason.startswith("device 0000:81:00.0 is on node 3: distance") for reason in one.reasons)
    with pytest.raises(NotEnoughMemory, match=r"web: needs 260 MiB, node 3 has 100 MiB.*devices are required"):
        only(snapshot, guest(devices=("0000:81:00.0",)), Intent(devices=DevicePolicy.REQUIRED))


def test_two_talkative_guests_sit_together_or_near() -> None:
    together = Intent(groups=(Group("pair", GroupKind.TOGETHER, ("a", "b")),))
    plan = place(host(2000, 2000, 2000, 2000), [guest("a", 1), guest("b", 1)], together)
    assert plan.placements[0].nodes == plan.placements[1].nodes
    near = Intent(groups=(Group("pair", GroupKind.NEAR, ("a", "b")),))
    plan = place(host(2000, 2000, 2000, 2000), [guest("a"), guest("b")], near)
    assert {plan.placements[0].nodes + plan.placements[1].nodes} & {(0, 1), (1, 0), (2, 3), (3, 2)}


def test_a_newcomer_joins_a_resident_of_its_group() -> None:
    snapshot = resident(host(2000, 2000, 2000, 2000), "db", 3, vcpus=1)
    one = only(snapshot, guest("app", 1), Intent(groups=(Group("g", GroupKind.TOGETHER, ("app", "db")),)))
    assert one.nodes == (3,)
    assert "group g (together): shares a node with db, mean distance 10" in one.reasons


def test_guests_that_want_to_be_apart_are() -> None:
    apart = Intent(groups=(Group("ha", GroupKind.APART, ("a", "b", "c")),))
    snapshot = host(9000, 500, 500, 500)
    plan = place(snapshot, [guest("a", 1), guest("b", 1), guest("c", 1)], apart)
    assert len({one.nodes for one in plan.placements}) == 3


def test_a_wish_gives_way_to_memory_and_says_so() -> None:
    snapshot = resident(host(4000, 10, 10, 10), "db", 0, vcpus=1)
    one = only(snapshot, guest("app", 1), Intent(groups=(Group("ha", GroupKind.APART, ("app", "db")),)))
    assert one.nodes == (0,)
    term = next(term for term in one.terms if term.name == "groups")
    assert term.reason == "group ha (apart): shares a node with db, mean distance 10"
    assert term.figures == {
        "peers": 1,
        "peers_with_a_node_in_common": 1,
        "distance": 10,
        "peers_slowdown": 0.0,
        "wishes_missed": 8.0,
    }
    assert term.penalty > 1


def test_hard_affinity_binds() -> None:
    one = only(host(500, 4000, 4000, 4000), guest(hard_affinity=(frozenset({0}), frozenset({1}))))
    assert one.nodes == (0,)
    with pytest.raises(NotEnoughMemory, match=r"node 0 has 500 MiB.*hard affinity and cpupool leave it node 0"):
        only(host(500, 4000, 4000, 4000), guest(memory_mib=600, hard_affinity=(frozenset({0}), frozenset({1}))))


def test_vcpus_bound_to_different_nodes_get_both() -> None:
    one = only(host(500, 4000, 4000, 4000), guest(hard_affinity=(frozenset({0}), frozenset({7}))))
    assert one.nodes == (0, 3)


def test_a_cpupool_binds() -> None:
    pools = (Cpupool("Pool-0", frozenset(range(6)), "credit2"), Cpupool("db", frozenset({6, 7}), "null"))
    snapshot = replace(host(4000, 4000, 4000, 1000), cpupools=pools)
    assert only(snapshot, guest(cpupool="db")).nodes == (3,)
    assert only(snapshot, guest()).nodes != (3,)


def test_a_soft_affinity_in_the_configuration_is_kept() -> None:
    soft = (frozenset({2, 3}), frozenset({4, 5}))
    one = only(host(4000, 4000, 4000, 1000), guest(soft_affinity=soft))
    assert (one.nodes, one.soft_affinity, one.memory_mib) == ((1, 2), soft, {1: 128, 2: 128})
    with pytest.raises(NotEnoughMemory, match="nodes 1-2"):
        only(host(4000, 100, 100, 1000), guest(soft_affinity=soft))


def test_a_virtual_topology_in_the_configuration_is_kept() -> None:
    vnodes = (Vnode(3, 100, frozenset({0})), Vnode(1, 156, frozenset({1})))
    one = only(host(4000, 4000, 4000, 1000), guest(vnodes=vnodes))
    assert one.nodes == (1, 3)
    assert one.soft_affinity == (frozenset({6, 7}), frozenset({2, 3}))
    assert one.memory_mib == {1: 156, 3: 100}
    assert sum(one.reserve_mib.values()) == 260
    with pytest.raises(NotEnoughMemory, match=r"needs \d+ MiB, node 3 has 50 MiB"):
        only(host(4000, 4000, 4000, 50), guest(vnodes=vnodes))
    with pytest.raises(BadInput, match=r"web.cfg: vnode 0: names pnode 9"):
        only(host(4000, 4000), guest(vnodes=(Vnode(9, 256, frozenset({0, 1})),)))


def test_memory_promised_to_others_is_not_used() -> None:
    snapshot = replace(host(1000, 900), reservations=(Reservation("t", "new", {0: 800}, 1, "pid 1", 0.0),))
    assert only(snapshot, guest(memory_mib=500)).nodes == (1,)
    with pytest.raises(NotEnoughMemory, match=r"the host has 1100 MiB.*node 0: 200 MiB and 800 MiB promised to others"):
        only(snapshot, guest(memory_mib=1200))
    tight = replace(
        snapshot, topology=replace(snapshot.topology, cpus=tuple(c for c in snapshot.topology.cpus if c.id < 3))
    )
    one = only(tight, guest(vcpus=1, memory_mib=150, hard_affinity=(frozenset({0}),)))
    assert any("200 MiB (800 more promised to others), 150 + 4 needed" in reason for reason in one.reasons)


def test_guests_of_one_call_do_not_share_memory() -> None:
    with pytest.raises(NotEnoughMemory, match="the other guests of this call need 804 MiB"):
        place(host(500, 500), [guest("a", memory_mib=800), guest("b", memory_mib=300)])


def test_a_bound_guest_gets_its_memory_before_one_with_a_choice() -> None:
    bound = guest("bound", memory_mib=900, hard_affinity=(frozenset({0}),) * 2)
    plan = place(host(1000, 950), [guest("free", memory_mib=900), bound])
    assert [one.nodes for one in plan.placements] == [(1,), (0,)]


def test_cpu_less_and_memory_less_nodes() -> None:
    topology = Topology(
        (Node(0, 0, 0), Node(1, 4096, 1000), Node(4, 65536, 60000)),
        tuple(Cpu(cpu, None, None, cpu // 4) for cpu in range(8)),
        ((10, 16, 50), (16, 10, 60), (255, 255, 10)),
    )
    snapshot = Snapshot(topology, (), 0.0)
    assert only(snapshot, guest(vcpus=2)).nodes == (1,)
    wide = only(snapshot, guest(vcpus=8))
    assert (wide.nodes, wide.memory_mib) == ((0, 1), {1: 256})
    # what is too much for the nodes with CPUs goes to the one without: of as few guests as possible
    large, small = place(snapshot, [guest("a", memory_mib=2000), guest("b", 1)]).placements
    assert (small.nodes, set(large.memory_mib), sum(large.memory_mib.values())) == ((1,), {1, 4}, 2000)
    assert sum(each.reserve_mib.get(1, 0) for each in (large, small)) == 1000
    with pytest.raises(NotEnoughMemory, match="nodes 0-1 has 1000 MiB"):
        place(snapshot, [guest("a", memory_mib=62000), guest("b", 1)])


def test_64_nodes() -> None:
    distances = tuple(tuple(10 if a == b else 12 if a // 8 == b // 8 else 32 for b in range(64)) for a in range(64))
    free = [20000] * 64
    free[42] = 30000
    snapshot = host(*free, cores=8, smt=2, distances=distances)
    assert only(snapshot, guest(vcpus=4)).nodes == (42,)
    wide = only(snapshot, guest(vcpus=40, memory_mib=4096))
    assert len({node // 8 for node in wide.nodes}) == 1
    assert 3 <= len(wide.nodes) <= 8
    assert only(snapshot, guest(vcpus=1024, memory_mib=100000)).nodes == tuple(range(64))


def test_the_order_of_requests_changes_the_order_of_the_plan_only() -> None:
    requests = [guest("a", 1), guest("b", 4, 1000), guest("c", 2, 700), guest("d", 2)]
    snapshot = host(2000, 1800, 1600, 1400)
    plan = place(snapshot, requests)
    other = place(snapshot, requests[::-1])
    assert {one.domain: one.nodes for one in plan.placements} == {one.domain: one.nodes for one in other.placements}
    assert [one.domain for one in other.placements] == ["d", "c", "b", "a"]


def test_reasons_are_figures_and_terms_add_up() -> None:
    snapshot = resident(host(1780, 1978, 2025, 1298), "db", 2)
    one = only(snapshot, guest(devices=("0000:41:00.0",)))
    assert one.predicted_slowdown == pytest.approx(1 + sum(term.cost for term in one.terms))
    assert one.objective == pytest.approx(sum(term.cost + term.penalty for term in one.terms))
    assert len(one.alternatives) == 3
    assert all(one.objective <= other.objective + 1e-9 for other in one.alternatives)
    assert one.reasons == (
        "memory latency: 80 ns, by distance, all local (best possible 80 ns)",
        "CPU load: node 1 has 0.05 of 2 pCPUs busy, would be 2.05",
        "memory bandwidth: node 1 would give 2.05 of 8 GB/s assumed",
        "free memory: node 1 has 1978 MiB, 256 + 4 needed",
        "device 0000:41:00.0 is on node 1: distance 10",
        *(reason for reason in one.reasons if reason.startswith("neighbours: Domain-0 on node 1, slowdown +")),
    )
    assert len(one.reasons) == 6


def test_a_device_far_away_costs() -> None:
    one = only(host(100, 100, 4000, 100), guest(devices=("0000:41:00.0",), hard_affinity=(frozenset({4, 5}),) * 2))
    assert "device 0000:41:00.0 is on node 1: distance 22" in one.reasons
    assert cost(one, "devices") == pytest.approx(0.5 * 1.2)


@pytest.mark.parametrize(
    ("request_", "error", "says"),
    [
        (guest(devices=("0000:99:00.0",)), BadInput, r"web\.cfg: device 0000:99:00\.0 is not on this host"),
        (guest(cpupool="db"), BadInput, "web.cfg: cpupool 'db' is not on this host, which has Pool-0"),
        (guest(hard_affinity=(frozenset({77}),) * 2), Refused, r"vCPU 0 \(CPUs 77\) has no CPU of cpupool"),
        (guest(memory_mib=99999), NotEnoughMemory, r"needs 100003 MiB, the host has 8000 MiB .*node 3: 2000 MiB"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(request_: GuestRequest, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        place(host(2000, 2000, 2000, 2000), [request_])


def test_a_required_device_whose_node_nobody_knows_is_refused() -> None:
    with pytest.raises(Refused, match=r"does not say which node device 0000:00:01\.0 is on"):
        only(host(2000, 2000), guest(devices=("0000:00:01.0",)), Intent(devices=DevicePolicy.REQUIRED))
    one = only(host(2000, 2000), guest(devices=("0000:00:01.0",)))
    assert "device 0000:00:01.0: the host does not say which node it is on" in one.reasons


def test_two_guests_of_one_name_are_refused() -> None:
    with pytest.raises(BadInput, match="more than one guest to be placed is called 'web'"):
        place(host(2000, 2000), [guest(), guest()])


def test_exact_says_when_it_would_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highspy", None)
    requests = [guest(f"g{number}") for number in range(9)]
    with pytest.raises(Refused, match="--exact needs HiGHS"):
        place(host(*[9000] * 8), requests, exact=True)
    with pytest.raises(Refused, match="--exact would go through"):
        search_exactly(problem_of(host(*[9000] * 8), requests, Intent()), None)
    plan = place(host(2000, 2000, 2000, 2000), [guest("a"), guest("b"), guest("c")], exact=True)
    assert plan.proven
    assert not place(host(2000, 2000, 2000, 2000), [guest("a")]).proven


def test_nothing_to_place_is_an_empty_plan() -> None:
    assert place(host(2000, 2000), []).placements == ()
