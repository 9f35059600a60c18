"""What counts in placement, noun by noun: each guest ends where a person would put it, and the text says why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from domicile.errors import NotEnoughMemory, Refused
from domicile.performance.assumptions import DEFAULT
from domicile.performance.evaluate import evaluate
from domicile.performance.machine import Machine
from domicile.performance.machine_load import MachineLoad
from domicile.policies.known import TAKEN_ON_TRUST, expected_vcpu_demand
from domicile.policies.placement import place
from domicile.policies.plan import Placement
from domicile.policies.starting_order import starting_order
from domicile.state.model import Domain, DomainType, Reservation, Snapshot, Vcpu
from domicile.state.request import Character, DevicePolicy, Group, GroupKind, GuestRequest, Intent
from domicile.topology.model import Cpu, Device, Node, Topology
from domicile.topology.presets import load_preset
from domicile.xlcfg.guest import place_into

OPTERON = load_preset("opteron-8n48c").topology
GENOA = load_preset("genoa-9224-nps2-cxl").topology


def plain(nodes: int = 2, cores: int = 4, free_mib: int = 8000) -> Topology:
    """Equal nodes at distance 20, a card on the last one."""
    distances = tuple(tuple(10 if a == b else 20 for b in range(nodes)) for a in range(nodes))
    return Topology(
        tuple(Node(node, 16384, free_mib) for node in range(nodes)),
        tuple(Cpu(cpu, cpu % cores, cpu // cores, cpu // cores) for cpu in range(cores * nodes)),
        distances,
        (Device("0000:41:00.0", nodes - 1),),
    )


def free(topology: Topology, free_mib: dict[int, int]) -> Topology:
    """The machine with this much free memory, none on nodes that are not named."""
    return replace(topology, nodes=tuple(replace(node, free_mib=free_mib.get(node.id, 0)) for node in topology.nodes))


def host(topology: Topology, *domains: Domain, **more: Any) -> Snapshot:
    return Snapshot(topology, tuple(replace(one, id=number + 1) for number, one in enumerate(domains)), 0.0, **more)


def on(topology: Topology, name: str, node: int, vcpus: int, **more: Any) -> Domain:
    """A resident with its soft affinity and memory on a node."""
    everywhere = frozenset(cpu.id for cpu in topology.cpus)
    soft = topology.cpus_of([node])
    ran = tuple(Vcpu(v, None, everywhere, soft) for v in range(vcpus))
    return Domain(0, name, f"uuid-{name}", ran, 256, 256, node_affinity=frozenset({node}), **more)


def guest(name: str = "web", vcpus: int = 2, memory_mib: int = 256, **more: Any) -> GuestRequest:
    values: dict[str, Any] = {"max_vcpus": vcpus, "source": f"{name}.cfg"} | more
    return GuestRequest(
        name=name, type=DomainType.PVH, vcpus=vcpus, memory_mib=memory_mib, max_memory_mib=memory_mib, **values
    )


def only(
    snapshot: Snapshot, request: GuestRequest, intent: Intent | None = None, load: dict[str, float] | None = None
) -> Placement:
    (one,) = place(snapshot, [request], intent or Intent(), load=load).placements
    return one


class TestOpteron:
    """Eight nodes whose distances fall into three classes, while bandwidth within a class differs by two and more."""

    BLIND = replace(OPTERON, latency_ns=None, bandwidth_gbs=None)

    def chosen(self, machine: Topology, nodes: tuple[int, ...], like: Character) -> Placement:
        """Where a guest of two nodes' vCPUs goes that may run on these nodes alone."""
        free_mib = free(machine, dict.fromkeys(nodes, 8000))
        bound = (frozenset(machine.cpus_of(nodes)),) * 12
        return only(host(free_mib), guest("stream", 12, 4096, hard_affinity=bound), Intent(domains=(like,)))

    def outcome(self, nodes: tuple[int, ...], like: Character) -> float:
        """Slowdown by the whole model, alone on these nodes of the real machine."""
        assert like.memory_bound is not None
        share = np.zeros((1, 8))
        share[0, list(nodes)] = 1 / len(nodes)
        load = MachineLoad.of(12 * share, share, memory_bound=like.memory_bound, traffic_gbs=like.traffic_gbs)
        return float(evaluate(Machine.of(OPTERON), load).slowdown[0])

    def test_slit_alone_picks_the_narrow_way(self) -> None:
        """Room on nodes 1, 4 and 7. 1 and 7 are at distance 16 with 2.7 GB/s between them, 1 and 4 at 22 with 3.7; a
        stream of 2 GB/s a vCPU does best on all three (1.07 by the whole model) and worst where SLIT puts it (1.42)."""
        assert [OPTERON.distance(1, 7), OPTERON.distance(1, 4)] == [16, 22]
        assert OPTERON.bandwidth_gbs is not None
        assert (OPTERON.bandwidth_gbs[1][7], OPTERON.bandwidth_gbs[1][4]) == (2.67, 3.75)
        like = Character("stream", memory_bound=0.1, traffic_gbs=2.0)
        blind, seeing = (self.chosen(machine, (1, 4, 7), like) for machine in (self.BLIND, OPTERON))
        assert (blind.nodes, seeing.nodes) == ((1, 7), (1, 4, 7))
        assert self.outcome(seeing.nodes, like) < 0.8 * self.outcome(blind.nodes, like)
        assert self.outcome((1, 4), like) < self.outcome((1, 7), like)

    def test_the_further_pair_is_the_better_one(self) -> None:
        like = Character("stream", memory_bound=0.1, traffic_gbs=1.5)
        blind, seeing = (self.chosen(machine, (1, 4, 7), like) for machine in (self.BLIND, OPTERON))
        assert blind.nodes == (1, 7)
        assert [other.nodes for other in seeing.alternatives[:2]] == [(1, 4), (1, 7)]
        further, nearer = (
            next(term for term in other.terms if term.name == "memory bandwidth") for other in seeing.alternatives[:2]
        )
        assert further.cost < nearer.cost
        assert self.outcome((1, 4), like) < self.outcome((1, 7), like)

    def test_of_equal_distances_the_wider_way_is_taken(self) -> None:
        """6 and 7 share a package, 0 and 6 do not: all at distance 16, with 5.3 and 2.9 GB/s. Bandwidth alone tells."""
        like = Character("stream", memory_bound=0.4, traffic_gbs=1.0)
        by_bandwidth = replace(OPTERON, latency_ns=None)
        machines = (self.BLIND, by_bandwidth, OPTERON)
        assert [self.chosen(each, (0, 6, 7), like).nodes for each in machines] == [(0, 6), (6, 7), (6, 7)]
        assert self.outcome((6, 7), like) < self.outcome((0, 6), like)

    def test_a_device_on_node_3_draws_its_guest(self) -> None:
        machine = replace(free(OPTERON, dict.fromkeys(range(8), 8000)), devices=(Device("0000:41:00.0", 3),))
        one = only(host(machine), guest(devices=("0000:41:00.0",)))
        assert one.nodes == (3,)
        assert "device 0000:41:00.0 is on node 3: distance 10" in one.reasons
        busy = host(machine, on(machine, "db", 3, 12))
        beside = only(busy, guest(devices=("0000:41:00.0",)))
        assert beside.nodes == (2,), "the other die of the package"
        assert "device 0000:41:00.0 is on node 3: distance 16" in beside.reasons

    def test_two_talkative_guests_share_a_package(self) -> None:
        near = Intent((Group("pair", GroupKind.NEAR, ("a", "b")),))
        snapshot = host(free(OPTERON, dict.fromkeys(range(8), 8000)))
        first, second = place(snapshot, [guest("a", 6), guest("b", 6)], near).placements
        assert {first.nodes[0] // 2} == {second.nodes[0] // 2}
        assert first.nodes != second.nodes
        assert any(reason.startswith("group pair (near): not with b") for reason in first.reasons)


class TestHotAndCold:
    """Nodes of 8 cores: on node 0 the memory is busy, on node 1 the CPUs are."""

    MACHINE = plain(2, 8)
    THERE = (on(MACHINE, "stream", 0, 4), on(MACHINE, "compute", 1, 6))
    KNOWN = (Character("stream", 0.8, 6.0), Character("compute", 0.0, 0.0))

    def test_a_hot_guest_goes_where_memory_is_idle_and_a_cold_one_where_cpus_are(self) -> None:
        intent = Intent(domains=(*self.KNOWN, Character("hot", 0.8, 6.0), Character("cold", 0.0, 0.0)))
        snapshot = host(self.MACHINE, *self.THERE)
        hot, cold = only(snapshot, guest("hot"), intent), only(snapshot, guest("cold"), intent)
        assert (hot.nodes, cold.nodes) == ((1,), (0,))
        assert "memory bandwidth: node 1 would give 12 of 32 GB/s assumed, 12 of it to this domain as stated" in (
            hot.reasons
        )
        assert "CPU load: node 0 has 4 of 8 pCPUs busy, would be 6" in cold.reasons
        together = place(snapshot, [guest("hot"), guest("cold")], intent).placements
        assert [one.nodes for one in together] == [(1,), (0,)]

    def test_the_hot_one_gets_the_near_memory(self) -> None:
        """There is room for one of the two where the CPUs are; the other's memory is remote."""
        machine = free(self.MACHINE, {0: 300, 1: 8000})
        bound = (frozenset(range(8)),) * 2
        intent = Intent(domains=(Character("hot", 0.9, 2.0), Character("cold", 0.01, 0.0)))
        requests = [guest("cold"), guest("hot", hard_affinity=bound)]
        cold, hot = place(host(machine), requests, intent).placements
        assert (cold.nodes, hot.nodes) == ((1,), (0,))

    def test_who_is_said_to_be_idle_leaves_room_until_measured(self) -> None:
        machine = plain(2, 4)
        there = (on(machine, "batch", 0, 4), on(machine, "small", 1, 2))
        idle = Intent(domains=(Character("batch", busy_vcpus=0.1),))
        snapshot = host(machine, *there)
        assert only(snapshot, guest()).nodes == (1,)
        assert only(snapshot, guest(), idle).nodes == (0,)
        assert only(snapshot, guest(), idle, {"batch": 4.0, "small": 0.5}).nodes == (1,)


class TestNewcomersLoad:
    """What a guest will need that has not run yet."""

    MACHINE = replace(
        plain(cores=8, free_mib=60000),
        cpus=tuple(Cpu(cpu, cpu // 2 % 8, cpu // 16, cpu // 16) for cpu in range(32)),
    )

    def _resident(self, busy: float) -> tuple[Snapshot, dict[str, float]]:
        there = [on(self.MACHINE, f"r{number}", number % 2, 4) for number in range(2)]
        return host(self.MACHINE, *there), {one.name: busy * 4 for one in there}

    def test_a_wide_one_is_split_for_free_cores_beside_busy_ones_only(self) -> None:
        wide = guest("wide", 12, 4096)
        snapshot, load = self._resident(1.0)
        assert only(snapshot, wide, None, load).nodes == (0, 1)
        snapshot, load = self._resident(0.1)
        assert len(only(snapshot, wide, None, load).nodes) == 1

    @pytest.mark.parametrize("busy", [1.0, 0.25, 0.0])
    def test_it_is_what_the_others_need_on_average_and_the_assumption_counts_as_some(self, busy: float) -> None:
        snapshot, load = self._resident(busy)
        found = expected_vcpu_demand(snapshot, load, DEFAULT)
        share = TAKEN_ON_TRUST / (TAKEN_ON_TRUST + 8)
        assert found == pytest.approx(share + (1 - share) * busy)

    def test_dom0_and_those_that_nobody_measured_are_no_example(self) -> None:
        snapshot, load = self._resident(0.1)
        dom0 = replace(on(self.MACHINE, "Domain-0", 0, 16), id=0)
        more = replace(snapshot, domains=(dom0, *snapshot.domains, on(self.MACHINE, "new", 1, 8)))
        assert expected_vcpu_demand(more, load | {"Domain-0": 0.1}, DEFAULT) == expected_vcpu_demand(
            snapshot, load, DEFAULT
        )
        assert expected_vcpu_demand(more, {}, DEFAULT) == DEFAULT.vcpu_demand

    def test_what_was_measured_or_stated_goes_before_it(self) -> None:
        snapshot, load = self._resident(0.0)
        wide = guest("wide", 12, 4096)
        stated = Intent(domains=(Character("wide", busy_vcpus=12.0),))
        assert only(snapshot, wide, stated, load).nodes == (0, 1)
        assert only(snapshot, wide, None, load | {"wide": 12.0}).nodes == (0, 1)


class TestCapsAndWeights:
    """Who gets CPU time where it is short."""

    MACHINE = plain(2, 4)

    def test_a_cap_bounds_what_a_domain_takes(self) -> None:
        busy = on(self.MACHINE, "capped", 0, 4), on(self.MACHINE, "small", 1, 2)
        assert only(host(self.MACHINE, *busy), guest()).nodes == (1,)
        capped = replace(busy[0], cap_percent=50), busy[1]
        one = only(host(self.MACHINE, *capped), guest())
        assert one.nodes == (0,)
        assert "CPU load: node 0 has 0.5 of 4 pCPUs busy, would be 2.5" in one.reasons

    def test_a_cap_bounds_what_a_newcomer_takes(self) -> None:
        one = only(host(self.MACHINE), guest(vcpus=4, cap_percent=150))
        assert "CPU load: node 0 has 0 of 4 pCPUs busy, would be 1.5; capped at 1.5 pCPUs" in one.reasons

    def test_a_guest_goes_where_it_weighs_more(self) -> None:
        """Both nodes are full. Beside heavy domains a newcomer would hardly run, and they lose little by it; it is the
        one that loses more."""
        heavy, light = on(self.MACHINE, "heavy", 0, 4, weight=2048), on(self.MACHINE, "light", 1, 4, weight=256)
        one = only(host(self.MACHINE, heavy, light), guest())
        assert one.nodes == (1,)
        there = only(host(self.MACHINE, heavy), guest(vcpus=4, hard_affinity=(frozenset(range(4)),) * 4))
        line = next(reason for reason in there.reasons if reason.startswith("CPU load"))
        assert line.endswith("its weight is 256, that of others there 2048 on average")

    def test_weights_change_nothing_where_there_is_room(self) -> None:
        heavy, light = on(self.MACHINE, "heavy", 0, 1, weight=4096), on(self.MACHINE, "light", 1, 2, weight=16)
        assert only(host(self.MACHINE, heavy, light), guest()).nodes == (0,)


class TestMemory:
    """What is free now and not for us, and what is not beside a CPU."""

    def test_what_a_balloon_is_about_to_take_is_not_free(self) -> None:
        machine = free(plain(), {0: 1000, 1: 900})
        grows = on(machine, "grows", 0, 1, target_mib=1056)
        assert only(host(machine, grows), guest(memory_mib=500), load={"grows": 0.0}).nodes == (1,)
        with pytest.raises(NotEnoughMemory, match="node 0: 200 MiB and 800 MiB promised to others"):
            only(host(machine, grows), guest(memory_mib=1200))

    def test_memory_without_cpus_is_the_second_choice(self) -> None:
        """80 GiB beside CPUs, 100 wanted: the rest is on the CXL node, which Xen comes to when the others are full."""
        machine = free(GENOA, {0: 20480, 1: 20480, 2: 20480, 3: 20480, 4: 131072})
        request = guest(vcpus=24, memory_mib=102400)
        one = only(host(machine), request)
        assert one.nodes == (0, 1, 2, 3, 4)
        assert one.memory_mib == {0: 20480, 1: 20480, 2: 20480, 3: 20480, 4: 20480}
        assert one.soft_affinity == (GENOA.cpus_of(range(4)),) * 24
        assert one.reasons[-1].startswith("second choice: 20480 of 102400 MiB on node 4, which has no CPUs; Xen goes")
        latency = next(reason for reason in one.reasons if reason.startswith("memory latency"))
        assert "80% of accesses remote" in latency
        text = 'name = "web"\ntype = "pvh"\nvcpus = 24\nmemory = 102400\n'
        assert "cpus_soft" in place_into(text, one, request, machine)
        smaller = only(host(machine), guest(vcpus=24, memory_mib=60000))
        assert 4 not in smaller.nodes

    def test_of_several_who_loses_least_gets_memory_without_cpus(self) -> None:
        """80 GiB beside CPUs, 90 wanted: the guest that hardly touches its memory has the rest of its on the CXL node,
        and starts last, whatever the order of the requests."""
        machine = free(GENOA, {0: 20480, 1: 20480, 2: 20480, 3: 20480, 4: 131072})
        hot = [guest(name, vcpus=12, memory_mib=30720) for name in ("hot1", "hot2")]
        cold = guest("cold", vcpus=12, memory_mib=30720)
        stated = Intent(domains=(Character("cold", memory_bound=0.05),))
        for requests in ([cold, *hot], [*hot, cold]):
            placements = place(host(machine), requests, stated).placements
            assert [each.domain for each in placements] == [request.name for request in requests]
            of = {each.domain: each for each in placements}
            assert 4 not in of["hot1"].nodes + of["hot2"].nodes
            assert of["cold"].memory_mib[4] == 3 * 30720 - 4 * 20480
            assert of["cold"].reasons[-1].startswith("second choice: 10240 of 30720 MiB on node 4")
            for node in range(5):
                assert sum(each.reserve_mib.get(node, 0) for each in placements) <= (machine.node(node).free_mib or 0)
            order = list(starting_order(host(machine), placements))
            assert requests[order[-1][0]] is cold
            text = 'name = "x"\ntype = "pvh"\nvcpus = 12\nmemory = 30720\n'
            for index, as_found in order:
                assert "cpus_soft" in place_into(text, placements[index], requests[index], as_found)
            with pytest.raises(Refused, match="would not bring its memory to"):
                place_into(text, of["cold"], cold, machine)

    def test_several_have_memory_without_cpus_one_after_the_other(self) -> None:
        """Only 20 GiB beside CPUs for three guests of 16: two have to take some of the CXL node's."""
        machine = free(GENOA, {0: 10240, 1: 10240, 4: 131072})
        requests = [guest(name, vcpus=4, memory_mib=16384) for name in ("a", "b", "c")]
        placements = place(host(machine), requests).placements
        far = [each.memory_mib.get(4, 0) for each in placements]
        assert sum(far) == 3 * 16384 - 20480
        for node in range(5):
            assert sum(each.reserve_mib.get(node, 0) for each in placements) <= (machine.node(node).free_mib or 0)
        for index, as_found in starting_order(host(machine), placements):
            text = 'name = "x"\ntype = "pvh"\nvcpus = 4\nmemory = 16384\n'
            assert "cpus_soft" in place_into(text, placements[index], requests[index], as_found)

    def test_a_node_without_cpus_that_xen_does_not_come_to_is_not_used(self) -> None:
        machine = free(GENOA, {0: 20480, 1: 20480, 2: 20480, 3: 20480, 4: 131072})
        bound = (frozenset(GENOA.cpus_of([0])),) * 4
        with pytest.raises(NotEnoughMemory, match="node 0 has 20480 MiB"):
            only(host(machine), guest(vcpus=4, memory_mib=30000, hard_affinity=bound))
        # Xen would take what is promised to others before it went there
        promised = (Reservation("t", "other", {1: 1024}, 1, "pid 1", 0.0),)
        with pytest.raises(NotEnoughMemory):
            only(host(machine, reservations=promised), guest(vcpus=24, memory_mib=102400))

    def test_a_configuration_is_not_written_for_nodes_that_are_not_full(self) -> None:
        machine = free(GENOA, {0: 20480, 4: 131072})
        request = guest(memory_mib=30720)
        one = only(host(machine), request)
        assert one.memory_mib == {0: 20480, 4: 10240}
        freed = free(GENOA, {0: 40960, 4: 131072})
        with pytest.raises(Refused, match="would not bring its memory to"):
            place_into('name = "web"\ntype = "pvh"\nvcpus = 2\nmemory = 30720\n', one, request, freed)


class TestDom0:
    """Dom0 is a resident, and what it serves a guest has a place."""

    def dom0(self, topology: Topology, node: int, vcpus: int = 2) -> Domain:
        return on(topology, "Domain-0", node, vcpus)

    def with_dom0(self, topology: Topology, node: int, **more: Any) -> Snapshot:
        return Snapshot(topology, (self.dom0(topology, node),), 0.0, **more)

    def test_its_load_and_its_place_count(self) -> None:
        machine = plain(2, 4)
        snapshot = self.with_dom0(machine, 0)
        assert only(snapshot, guest(), load={"Domain-0": 1.5}).nodes == (1,)

    def test_backends_draw_a_little(self) -> None:
        """Four equal nodes; Dom0 idles on node 2, the card behind its bridge is on node 3."""
        machine = plain(4, 4)
        snapshot = self.with_dom0(machine, 2, backing={"xenbr0": "0000:41:00.0"})
        idle = {"Domain-0": 0.0}
        assert only(snapshot, guest(), load=idle).nodes == (0,)
        one = only(snapshot, guest(backends=("xenbr0",)), load=idle)
        assert one.nodes == (3,), "at the card; beside Dom0 is as near, but takes from Dom0"
        assert "through Dom0: xenbr0 (0000:41:00.0 on node 3); Dom0 runs on node 2" in one.reasons
        disk = only(snapshot, guest(backends=("/dev/vg/web",)), load=idle)
        assert disk.nodes == (2,), "the disk's device is not known: Dom0's place counts for it"
        assert "through Dom0: /dev/vg/web; Dom0 runs on node 2" in disk.reasons
        assert only(snapshot, guest(backends=("xenbr0",)), Intent(devices=DevicePolicy.IGNORED), idle).nodes == (0,)

    def test_a_busy_node_is_worse_than_a_far_backend(self) -> None:
        machine = plain(2, 4)
        dom0, db = self.dom0(machine, 1), replace(on(machine, "db", 1, 4), id=1)
        snapshot = Snapshot(machine, (dom0, db), 0.0)
        assert only(snapshot, guest(backends=("xenbr0",)), load={"Domain-0": 0.0, "db": 4.0}).nodes == (0,)


def test_of_two_groups_the_weightier_wins() -> None:
    machine = plain(4, 4)
    there = host(machine, on(machine, "db", 1, 1), on(machine, "cache", 2, 1))
    for weights, node in (((1.0, 4.0), 2), ((4.0, 1.0), 1)):
        groups = (
            Group("data", GroupKind.NEAR, ("web", "db"), weights[0]),
            Group("fast", GroupKind.NEAR, ("web", "cache"), weights[1]),
        )
        assert only(there, guest(), Intent(groups)).nodes == (node,)
