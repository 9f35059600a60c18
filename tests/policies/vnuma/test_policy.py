"""Virtual topologies that a person would agree with: who gets one, what it is, how one is kept, what is refused."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.errors import NotEnoughMemory, Refused
from domicile.policies.baselines import libxl_plan
from domicile.policies.placement import place
from domicile.policies.plan import VNODES_TERM, Placement
from domicile.policies.vnuma import keep, with_vnuma
from domicile.policies.vnuma.costs import Ground, shares
from domicile.policies.vnuma.design import topology_of, topology_on
from domicile.policies.vnuma.widths import WIDER
from domicile.policies.whatif import with_guest
from domicile.state.model import Cpupool, Domain, DomainType, Snapshot, Vcpu, Vnode
from domicile.state.request import Character, GuestRequest, Intent, VnumaMode, VnumaWish
from domicile.topology.check import checked
from domicile.topology.model import Cpu, Device, Node

PAIRS = [[10, 16, 22, 22], [16, 10, 22, 22], [22, 22, 10, 16], [22, 22, 16, 10]]
DECIDE = with_vnuma(partial(place))


def host(
    *free_mib: int, cpus: Sequence[int] | int = 4, distances: list[list[int]] | None = None, size: int = 4096
) -> Snapshot:
    """Nodes with this free memory; in pairs that are nearer to each other, where there are four."""
    count = len(free_mib)
    each = [cpus] * count if isinstance(cpus, int) else list(cpus)
    homes = [node for node, many in enumerate(each) for _ in range(many)]
    topology = checked(
        source="test",
        nodes=[Node(node, max(size, free), free) for node, free in enumerate(free_mib)],
        cpus=[Cpu(cpu, cpu, home, home) for cpu, home in enumerate(homes)],
        distances=distances or (PAIRS if count == 4 else None),
        devices=[Device("0000:41:00.0", count - 1)],
    )
    return Snapshot(topology, (), 0.0)


def guest(vcpus: int = 8, memory_mib: int = 2048, **more: Any) -> GuestRequest:
    values: dict[str, Any] = {"name": "wide", "type": DomainType.HVM, "overhead_mib": 16, "video_mib": 8} | more
    return GuestRequest(
        **{"vcpus": vcpus, "max_vcpus": vcpus, "memory_mib": memory_mib, "max_memory_mib": memory_mib} | values
    )


def asked(wish: VnumaWish) -> Intent:
    return Intent(vnuma_by_domain=(("wide", wish),))


def only(snapshot: Snapshot, request: GuestRequest, intent: Intent | None = None) -> Placement:
    (one,) = DECIDE(snapshot, [request], intent or Intent()).placements
    return one


def said(placement: Placement) -> str:
    return "; ".join(term.reason for term in placement.terms if term.name == VNODES_TERM)


def sane(placement: Placement, request: GuestRequest) -> None:
    """What has to hold of every topology."""
    vnodes = placement.vnodes
    assert sum(vnode.memory_mib for vnode in vnodes) == request.memory_mib
    assert sorted(vcpu for vnode in vnodes for vcpu in vnode.vcpus) == list(range(request.max_vcpus))
    assert all(vnode.vcpus and vnode.memory_mib for vnode in vnodes)
    assert vnodes[0].memory_mib > request.video_mib
    by_node: dict[int, int] = {}
    for number, vnode in enumerate(vnodes):
        assert vnode.pnode is not None
        by_node[vnode.pnode] = by_node.get(vnode.pnode, 0) + vnode.memory_mib
        assert len(vnode.distances) == len(vnodes)
        for other, distance in enumerate(vnode.distances):
            assert distance == 10 if other == number else 10 < distance < 255
    assert placement.memory_mib == by_node
    assert sum(placement.reserve_mib.values()) == request.need_mib


class TestWhoGetsOne:
    def test_a_guest_that_is_wider_than_a_node(self) -> None:
        one = only(host(4000, 4000, 4000, 4000), guest())
        sane(one, guest())
        assert [len(vnode.vcpus) for vnode in one.vnodes] == [4, 4]
        assert [vnode.memory_mib for vnode in one.vnodes] == [1024, 1024]
        # the near pair, and its distance
        assert {vnode.pnode for vnode in one.vnodes} in ({0, 1}, {2, 3})
        assert [vnode.distances for vnode in one.vnodes] == [(10, 16), (16, 10)]
        assert one.soft_affinity is not None
        assert [min(cpus) // 4 for cpus in one.soft_affinity] == [v.pnode for v in one.vnodes for _ in v.vcpus]
        # the other pair, and what more virtual nodes would come to
        assert sorted(len(other.nodes) for other in one.alternatives) == [2, 3, 4]
        assert "wider than a node (8 vCPUs, no node has more than 4 pCPUs for it)" in said(one)

    def test_by_memory_too(self) -> None:
        one = only(host(4000, 4000, 4000), guest(2, 6000))
        sane(one, guest(2, 6000))
        assert [vnode.memory_mib for vnode in one.vnodes] == [3000, 3000]
        assert "no node is larger than 4096 MiB" in said(one)

    def test_a_narrow_guest_gets_none(self) -> None:
        one = only(host(4000, 4000, 4000, 4000), guest(4))
        assert one.vnodes == ()
        assert said(one) == ""

    def test_one_that_is_only_spread_for_now_gets_none(self) -> None:
        one = only(host(1200, 1200, 1200, 1200), guest(4))
        assert len(one.nodes) > 1
        assert one.vnodes == ()

    def test_off_is_off(self) -> None:
        assert only(host(4000, 4000), guest(), asked(VnumaMode.OFF)) == place(host(4000, 4000), [guest()]).placements[0]

    def test_a_number_that_is_asked_for(self) -> None:
        one = only(host(4000, 4000, 4000, 4000), guest(6, 3001), asked(3))
        sane(one, guest(6, 3001))
        assert len({vnode.pnode for vnode in one.vnodes}) == len(one.vnodes) == 3

    def test_more_than_there_are_nodes_share(self) -> None:
        one = only(host(4000, 4000), guest(4), asked(4))
        sane(one, guest(4))
        assert len(one.vnodes) == 4
        assert {vnode.pnode for vnode in one.vnodes} == {0, 1}

    def test_more_vcpus_than_pcpus(self) -> None:
        one = only(host(4000, 4000), guest(12))
        sane(one, guest(12))
        assert [len(vnode.vcpus) for vnode in one.vnodes] == [6, 6]

    def test_the_libxl_policy_gives_none_by_itself(self) -> None:
        decide = with_vnuma(partial(libxl_plan.place), unasked=False)
        (one,) = decide(host(4000, 4000), [guest()], Intent()).placements
        assert one.vnodes == ()
        (one,) = decide(host(4000, 4000), [guest()], asked(2)).placements
        sane(one, guest())


class TestWidth:
    """The fewest, unless more gain enough; the others are shown with what they would really come to."""

    def test_a_little_is_not_worth_two_more(self) -> None:
        snapshot = host(4000, 4000, 4000, 4000)
        one = only(snapshot, guest())
        assert len(one.vnodes) == 2
        assert "4 are predicted to gain 0." in said(one)
        assert "more than 0.80 is asked for, since a topology is for life" in said(one)
        widest = next(other for other in one.alternatives if len(other.nodes) == 4)
        assert widest.objective < one.objective
        asked_for = only(snapshot, guest(), asked(4))
        assert asked_for.objective == pytest.approx(widest.objective)
        assert "predicted to gain" not in said(asked_for)

    def test_neither_is_a_core_to_each_vcpu(self) -> None:
        """Four vCPUs on nodes of one core with two hardware threads."""
        snapshot = host(4000, 4000, 4000, 4000, cpus=2)
        threads = [replace(cpu, core=cpu.node) for cpu in snapshot.topology.cpus]
        one = only(replace(snapshot, topology=replace(snapshot.topology, cpus=tuple(threads))), guest(4))
        assert len(one.vnodes) == 2
        assert "4 are predicted to gain" in said(one)

    def test_the_bandwidth_of_all_memories_is(self) -> None:
        streams = Intent(domains=(Character("wide", memory_bound=0.8, traffic_gbs=8.0),))
        one = only(host(4000, 4000, 4000, 4000), guest(), streams)
        assert len(one.vnodes) == 4
        assert "predicted to gain" not in said(one)
        pair = next(other for other in one.alternatives if len(other.nodes) == 2)
        assert pair.objective > one.objective + 2 * WIDER


class TestUneven:
    def test_where_memory_is(self) -> None:
        one = only(host(3000, 1000), guest(8, 3000))
        sane(one, guest(8, 3000))
        small = next(vnode for vnode in one.vnodes if vnode.pnode == 1)
        assert 950 <= small.memory_mib < 1000

    def test_where_pcpus_are(self) -> None:
        one = only(host(4000, 4000, cpus=[2, 8]), guest(10))
        sane(one, guest(10))
        assert [(vnode.pnode, len(vnode.vcpus)) for vnode in one.vnodes] == [(0, 2), (1, 8)]

    def test_a_node_that_is_full_is_left_out(self) -> None:
        one = only(host(4000, 20, 4000, 4000), guest())
        assert {vnode.pnode for vnode in one.vnodes} == {2, 3}

    def test_a_busy_pair_is_left_alone(self) -> None:
        snapshot = host(4000, 4000, 4000, 4000)
        soft = snapshot.topology.cpus_of([0, 1])
        busy = Domain(5, "busy", "", tuple(Vcpu(v, None, soft, soft) for v in range(8)), 256, 256)
        assert {vnode.pnode for vnode in only(replace(snapshot, domains=(busy,)), guest()).vnodes} == {2, 3}

    def test_it_keeps_to_its_cpupool_and_hard_affinity(self) -> None:
        snapshot = host(4000, 4000, 4000, 4000)
        pools = (
            Cpupool("Pool-0", snapshot.topology.cpus_of([0]), "credit2"),
            Cpupool("far", snapshot.topology.cpus_of([1, 2, 3]), "credit2"),
        )
        one = only(replace(snapshot, cpupools=pools), guest(cpupool="far"))
        assert {vnode.pnode for vnode in one.vnodes} == {2, 3}
        hard = snapshot.topology.cpus_of([0, 3])
        one = only(snapshot, guest(hard_affinity=(hard,) * 8))
        assert {vnode.pnode for vnode in one.vnodes} == {0, 3}

    def test_vcpus_pinned_one_by_one_go_where_they_can(self) -> None:
        snapshot = host(4000, 4000, 4000, 4000)
        far, near = snapshot.topology.cpus_of([3]), snapshot.topology.cpus_of([1])
        one = only(snapshot, guest(hard_affinity=(far,) * 4 + (near,) * 4))
        assert [(vnode.pnode, min(vnode.vcpus)) for vnode in one.vnodes] == [(3, 0), (1, 4)]


def test_a_device_is_near_a_virtual_node_and_the_guest_cannot_be_told() -> None:
    one = only(host(4000, 4000, 4000, 4000), guest(devices=("0000:41:00.0",)))
    assert {vnode.pnode for vnode in one.vnodes} == {2, 3}
    assert "device 0000:41:00.0 is on node 3, virtual node 1; Xen's guest tables (no _PXM) cannot say so" in said(one)


def test_others_of_the_same_call_have_room_too() -> None:
    requests = [guest(4, 1500, name=f"n{n}", type=DomainType.PVH) for n in range(1)] + [
        guest(8, 3000),
        guest(name="w2"),
    ]
    plan = DECIDE(host(3000, 3000, 3000, 3000), requests, Intent())
    used: dict[int, int] = {}
    for placement, request in zip(plan.placements, requests, strict=True):
        assert placement.domain == request.name
        for node, mib in placement.reserve_mib.items():
            used[node] = used.get(node, 0) + mib
        if request.max_vcpus > 4:
            sane(placement, request)
        else:
            assert placement.vnodes == ()
    assert all(mib <= 3000 for mib in used.values())


def test_a_guest_with_virtual_nodes_has_them_on_the_host_that_the_next_one_comes_to() -> None:
    snapshot = host(4000, 4000, 4000, 4000)
    one = only(snapshot, guest())
    there = with_guest(snapshot, replace(guest(), vnodes=one.vnodes), one, frozenset(one.nodes))
    assert there.domains[-1].vnodes == one.vnodes
    assert with_guest(snapshot, guest(), replace(one, vnodes=()), frozenset(one.nodes)).domains[-1].vnodes == ()


@pytest.mark.parametrize(
    ("kind", "wish"),
    [
        (DomainType.PVH, VnumaMode.AUTO),
        (DomainType.HVM, VnumaMode.AUTO),
        (DomainType.HVM, 3),
        (DomainType.HVM, 2),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_the_three_next_best_are_shown_and_cost_what_they_would(kind: DomainType, wish: VnumaWish, alone: bool) -> None:
    snapshot = host(3000, 2500, 2000, 3500)
    requests = [guest(type=kind), *(() if alone else [guest(3, 500, name="small", type=DomainType.PVH)])]
    plan = DECIDE(snapshot, requests, asked(wish))
    one = plan.placements[0]
    assert len(one.alternatives) == 3
    assert len({one.nodes, *(other.nodes for other in one.alternatives)}) == 4
    totals = [other.objective for other in one.alternatives]
    assert totals == sorted(totals)
    for other in one.alternatives:
        wider = len(other.nodes) - len(one.nodes) if kind is DomainType.HVM and wish == VnumaMode.AUTO else 0
        assert isinstance(wish, int) or one.objective <= other.objective + max(wider, 0) * WIDER + 1e-6
    there = replace(snapshot, domains=snapshot.domains)
    for placement, request in zip(plan.placements[1:], requests[1:], strict=True):
        there = with_guest(there, request, placement, frozenset(placement.nodes))
    for other in one.alternatives:
        forced = replace(requests[0], soft_affinity=(snapshot.topology.cpus_of(other.nodes),) * 8)
        if kind is DomainType.HVM and len(other.nodes) > 1:
            # virtual nodes of its own
            vnodes = topology_on(Ground.of(there, requests[0], Intent()), other.nodes)
            assert vnodes is not None
            forced = replace(requests[0], vnodes=vnodes)
        assert place(there, [forced]).placements[0].objective == pytest.approx(other.objective, abs=0.01)


class TestNextBest:
    @pytest.mark.parametrize("kind", [DomainType.PV, DomainType.PVH])
    def test_a_soft_affinity_for_each_vcpu(self, kind: DomainType) -> None:
        snapshot = host(4000, 4000, 4000, 4000)
        one = only(snapshot, guest(type=kind))
        assert one.vnodes == ()
        assert one.soft_affinity is not None
        first, second = (snapshot.topology.cpus_of([node]) for node in one.nodes)
        assert one.soft_affinity == (first,) * 4 + (second,) * 4
        usual = place(snapshot, [guest(type=kind)]).placements[0]
        assert one.objective <= usual.objective + 1e-9
        assert "instead a soft affinity for each vCPU" in said(one)
        assert ("PV guests" if kind is DomainType.PV else "xc_domain_getvnuma") in said(one)

    def test_not_where_the_administrator_set_it(self) -> None:
        snapshot = host(4000, 4000)
        soft = (snapshot.topology.cpus_of([0, 1]),) * 8
        one = only(snapshot, guest(type=DomainType.PV, soft_affinity=soft))
        assert one.soft_affinity == soft
        assert said(one) == ""

    def test_an_hvm_guest_that_can_have_none(self) -> None:
        one = only(host(4000, 4000), guest(max_memory_mib=3000))
        assert one.vnodes == ()
        assert "maxmem= (3000 MiB) is more than memory= (2048 MiB)" in said(one)
        assert "ACPI" in said(only(host(4000, 4000), guest(acpi=False)))


class TestRefused:
    @pytest.mark.parametrize(
        ("more", "wish", "problem"),
        [
            ({"max_memory_mib": 3000}, 2, "populate on demand and virtual nodes exclude each other"),
            ({"acpi": False}, 2, "acpi = 0"),
            ({"soft_affinity": (frozenset({0}),) * 8}, 2, "cpus_soft= places it already"),
            ({}, 9, "cannot have 9 virtual nodes; from 1 to 8 are possible"),
            ({"memory_mib": 8, "max_memory_mib": 8}, 2, "do not divide over node 0: 4000 MiB, 4 pCPUs"),
        ],
    )
    def test_what_is_asked_for_and_cannot_be(self, more: dict[str, Any], wish: int, problem: str) -> None:
        with pytest.raises(Refused, match=r"^wide: ") as caught:
            only(host(4000, 4000), guest(**more), asked(wish))
        assert problem in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_too_little_memory_is_told_as_ever(self) -> None:
        with pytest.raises(NotEnoughMemory):
            only(host(1000, 1000), guest())


KEPT = (
    Vnode(None, 1500, frozenset(range(4)), (10, 16)),
    Vnode(None, 548, frozenset(range(4, 8)), (16, 10)),
)


class TestKeep:
    def test_a_configuration_that_leaves_pnodes_open(self) -> None:
        one = only(host(700, 700, 700, 4000), guest(vnodes=KEPT))
        sane(one, guest())
        assert [vnode.pnode for vnode in one.vnodes] == [3, 2]
        assert [replace(vnode, pnode=None) for vnode in one.vnodes] == list(KEPT)

    def test_some_share_a_node_where_nothing_else_will_do(self) -> None:
        assert [v.pnode for v in only(host(100, 100, 100, 4000), guest(vnodes=KEPT)).vnodes] == [3, 3]

    def test_named_pnodes_stay(self) -> None:
        named = (replace(KEPT[0], pnode=0), KEPT[1])
        assert [v.pnode for v in only(host(4000, 4000, 4000, 4000), guest(vnodes=named)).vnodes] == [0, 1]
        both = (replace(KEPT[0], pnode=0), replace(KEPT[1], pnode=2))
        assert only(host(4000, 4000, 4000, 4000), guest(vnodes=both)).vnodes == both

    def test_a_named_pnode_that_is_full_is_refused(self) -> None:
        named = (replace(KEPT[0], pnode=0), KEPT[1])
        with pytest.raises(NotEnoughMemory, match=r"needs 1512 MiB, node 0 has 900 MiB .*without pnode= another could"):
            keep(named, host(900, 4000, 4000), guest())

    def test_no_node_that_could_bear_one(self) -> None:
        with pytest.raises(NotEnoughMemory, match="for virtual node 0 no node has them: the best has 1400 MiB"):
            keep(KEPT, host(1400, 1400, 1400), guest())

    def test_vcpus_that_may_run_nowhere(self) -> None:
        snapshot = host(4000, 4000)
        split = tuple(snapshot.topology.cpus_of([vcpu % 2]) for vcpu in range(8))
        with pytest.raises(Refused, match="virtual node 0 has vCPUs 0-3, which may not run on any node"):
            keep(KEPT, snapshot, guest(hard_affinity=split))

    @pytest.mark.parametrize(
        ("request_", "problem"),
        [
            (guest(memory_mib=4096), "its virtual nodes have 2048 MiB, the guest 4096"),
            (guest(vcpus=6), "its virtual nodes have vCPUs 0-7, the guest has 6"),
            (guest(max_memory_mib=4096), "maxmem= is 4096 MiB"),
            (guest(type=DomainType.PVH), "PVH guests can have none"),
        ],
    )
    def test_a_guest_that_has_changed(self, request_: GuestRequest, problem: str) -> None:
        with pytest.raises(Refused, match=f"cannot keep its virtual topology: {problem}"):
            keep(KEPT, host(4000, 4000), request_)

    def test_what_was_recorded_is_kept(self) -> None:
        recorded = tuple(replace(vnode, pnode=number) for number, vnode in enumerate(KEPT))
        one = only(host(100, 4000, 4000, 4000), guest(recorded=recorded))
        assert [replace(vnode, pnode=None) for vnode in one.vnodes] == list(KEPT)
        assert 0 not in {vnode.pnode for vnode in one.vnodes}
        assert "keeps the virtual nodes that it had" in said(one)

    def test_the_same_elsewhere_is_shown_beside_what_was_kept(self) -> None:
        snapshot = host(1300, 4000, 4000, 4000)
        one = only(snapshot, guest(recorded=KEPT))
        assert len(one.alternatives) == 3
        assert {frozenset(other.nodes) for other in one.alternatives}.isdisjoint({frozenset(one.nodes)})
        totals = [other.objective for other in one.alternatives]
        assert totals == sorted(totals)
        assert one.objective <= totals[0] + 1e-6
        for other in one.alternatives:
            ways = [
                tuple(replace(vnode, pnode=node) for vnode, node in zip(KEPT, order, strict=True))
                for order in itertools.permutations(other.nodes)
                if order[0] != 0  # too small for the first
            ]
            best = min(place(snapshot, [guest(vnodes=way)]).placements[0].objective for way in ways)
            assert other.objective == pytest.approx(best, abs=0.01)

    def test_not_where_the_guest_has_changed_or_another_is_asked_for(self) -> None:
        one = only(host(4000, 4000, 4000, 4000), guest(recorded=KEPT, memory_mib=3000, max_memory_mib=3000))
        assert [vnode.memory_mib for vnode in one.vnodes] == [1500, 1500]
        assert "not the virtual nodes that it had (its virtual nodes have 2048 MiB, the guest 3000)" in said(one)
        assert len(only(host(4000, 4000, 4000, 4000), guest(recorded=KEPT), asked(4)).vnodes) == 4
        assert only(host(4000, 4000), guest(recorded=KEPT), asked(VnumaMode.OFF)).vnodes == ()

    def test_what_was_told_near_is_near(self) -> None:
        """Three virtual nodes, the last two near: they get the near pair of a machine that has only one."""
        three = (
            Vnode(None, 1000, frozenset({0, 1}), (10, 40, 40)),
            Vnode(None, 1000, frozenset({2, 3}), (40, 10, 12)),
            Vnode(None, 1000, frozenset({4, 5}), (40, 12, 10)),
        )
        snapshot = host(4000, 4000, 4000, distances=[[10, 15, 30], [15, 10, 30], [30, 30, 10]])
        kept = keep(three, snapshot, guest(6, 3000))
        assert kept[0].pnode == 2


@settings(max_examples=40)
@given(st.data())
def test_a_topology_is_sane_and_found_where_there_is_one(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 4))
    snapshot = host(
        *(data.draw(st.integers(0, 3000)) for _ in range(count)),
        cpus=[data.draw(st.integers(1, 6)) for _ in range(count)],
        distances=[[10 if a == b else 20 + abs(a - b) for b in range(count)] for a in range(count)],
    )
    request = guest(data.draw(st.integers(1, 10)), data.draw(st.integers(64, 5000)))
    ground = Ground.of(snapshot, request, Intent())
    wanted = data.draw(st.integers(1, min(4, request.max_vcpus)))
    found = topology_of(ground, wanted)
    free = [node.free_mib or 0 for node in snapshot.topology.nodes]
    pcpus = [len(snapshot.topology.cpus_by_node[node]) for node in range(count)]
    if found is None:
        # no set of nodes has the memory with what rounding the overhead can cost, and pCPUs where there are enough
        enough = request.max_vcpus <= sum(pcpus)
        for nodes in itertools.combinations(range(count), wanted):
            room = [free[node] * request.memory_mib // request.need_mib - 3 for node in nodes]
            cpus = sum(pcpus[node] for node in nodes)
            fits = sum(room) >= request.memory_mib and min(room) > 10
            roomy = cpus >= request.max_vcpus if enough else request.max_vcpus >= 6 * wanted
            assert not (fits and roomy), nodes
        return
    placed = place(snapshot, [replace(request, vnodes=found)]).placements[0]
    sane(replace(placed, vnodes=found), request)
    assert all(placed.reserve_mib.get(node, 0) <= mib for node, mib in enumerate(free))


@settings(max_examples=40)
@given(st.data())
def test_a_topology_is_kept_wherever_there_is_a_way(data: st.DataObject) -> None:
    """Against every assignment there is."""
    count, vnodes = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    snapshot = host(*(data.draw(st.integers(0, 2000)) for _ in range(count)), distances=None if count < 4 else PAIRS)
    sizes = [data.draw(st.integers(16, 1500)) for _ in range(vnodes)]
    row = tuple(10 for _ in range(vnodes))
    pnodes = [data.draw(st.one_of(st.none(), st.integers(0, count - 1))) for _ in range(vnodes)]
    topology = [Vnode(pnodes[n], sizes[n], frozenset({n}), row) for n in range(vnodes)]
    request = guest(vnodes, sum(sizes), overhead_mib=0)
    free = [node.free_mib or 0 for node in snapshot.topology.nodes]

    def bears(chosen: Sequence[int]) -> bool:
        named = all(pnode in (None, node) for pnode, node in zip(pnodes, chosen, strict=True))
        return named and all(
            sum(size for size, node in zip(sizes, chosen, strict=True) if node == each) <= free[each]
            for each in range(count)
        )

    ways = [chosen for chosen in itertools.product(range(count), repeat=vnodes) if bears(chosen)]
    try:
        kept = keep(topology, snapshot, request)
    except Refused:
        assert not ways
        return
    chosen = [vnode.pnode for vnode in kept if vnode.pnode is not None]
    assert tuple(chosen) in ways
    apart = [way for way in ways if len(set(way)) == vnodes]
    assert len(set(chosen)) == vnodes or not apart
    if apart:
        ground = Ground.of(snapshot, request, Intent())
        best = min(apart, key=ground.problem(topology).cost)
        kept_so, best_so = ground.objectives(np.array([chosen, best]), *shares(topology))
        assert kept_so <= best_so + 1e-6
