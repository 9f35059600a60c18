"""Where a person would put Dom0, how Xen is told, and refusals that say why."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dom0_boot import machine

from domicile.errors import BadInput, Refused
from domicile.policies.dom0.plan import Dom0Plan, Dom0Wish, VcpuAffinity, plan_dom0
from domicile.state.model import Domain, Snapshot, Vcpu
from domicile.topology.model import Device, Node

SAME = {node: node for node in range(8)}
SHIFTED = {0: 4, 1: 2, 2: 7, 3: 1}
"""Proximity domains that are not the node ids, and two of which are other nodes' ids."""

CARD = Device("0000:41:00.0", 1, "network")
CARD_PORT = Device("0000:41:00.1", 1, "network")
DISK = Device("0000:81:00.0", 3, "storage")
GPU = Device("0000:c1:00.0", 2, "display")


def planned(snapshot: Snapshot, pxm: dict[int, int] = SAME, **wish: object) -> Dom0Plan:
    return plan_dom0(snapshot, Dom0Wish(**wish), pxm)  # type: ignore[arg-type]


def guest(snapshot: Snapshot, node: int, *devices: str, vcpus: int = 2) -> Snapshot:
    """With a busy guest on a node that has these devices."""
    cpus = snapshot.topology.cpus_of([node])
    number = len(snapshot.domains)
    made = Domain(
        number, f"guest{number}", "1", tuple(Vcpu(n, None, cpus, cpus) for n in range(vcpus)), 1024, 1024,
        node_affinity=frozenset({node}), pages_by_node={node: 1024 * 256}, devices=devices,
    )  # fmt: skip
    return replace(snapshot, domains=(*snapshot.domains, made))


class TestNodes:
    def test_near_the_devices_that_dom0_serves(self) -> None:
        for device in (CARD, DISK):
            plan = planned(machine(8192, 8192, 8192, 8192, devices=(device, GPU)))
            assert plan.target.nodes == (device.node,)
            assert [one.address for one in plan.served.devices] == [device.address]
            assert device.address in plan.reasons[0]

    def test_functions_of_one_card_count_once(self) -> None:
        plan = planned(machine(8192, 8192, 8192, 8192, devices=(CARD, CARD_PORT, DISK)))
        assert [one.node for one in plan.served.devices] == [1, 3]

    def test_what_guests_have_does_not_count(self) -> None:
        host = machine(8192, 8192, 8192, 8192, devices=(CARD, DISK))
        assert planned(guest(host, 1, CARD.address)).target.nodes == (3,)
        plan = planned(replace(host, assignable_devices=(DISK.address,)))
        assert plan.target.nodes == (1,)
        assert any("guests'" in reason and DISK.address in reason for reason in plan.reasons)

    def test_devices_can_be_named(self) -> None:
        host = machine(8192, 8192, 8192, 8192, devices=(CARD, GPU))
        assert planned(host, devices=(GPU.address,)).target.nodes == (2,)
        with pytest.raises(BadInput, match=r"--device: 0000:99:00\.0 is not there; devices of this host: 0000:41"):
            planned(host, devices=("0000:99:00.0",))

    def test_without_devices_where_the_guests_are_not(self) -> None:
        host = machine(8192, 8192, 8192, 8192)
        plan = planned(guest(guest(guest(host, 0), 1), 3))
        assert plan.target.nodes == (2,)
        assert any("predicted slowdowns" in reason for reason in plan.reasons)

    def test_on_a_large_host_only_the_least_loaded_are_predicted(self) -> None:
        host = machine(*[8192] * 12)
        for node in range(10):
            host = guest(host, node)
        plan = planned(host, dict.fromkeys(range(12), 0))
        assert plan.target.nodes == (10,)
        assert sum(one.objective is not None for one in (plan.chosen, *plan.alternatives)) == 8
        assert "nodes 0-5,10-11 and 4 more, no less busy or full" in " ".join(plan.reasons)

    def test_why_devices_did_not_decide_is_told(self) -> None:
        nameless = machine(8192, 8192, devices=(Device("0000:41:00.0", 1),))
        assert "does not tell what kind" in planned(nameless).reasons[0]
        nowhere = machine(8192, 8192, devices=(replace(CARD, node=None),))
        assert "does not tell their node: 0000:41:00.0" in planned(nowhere).reasons[0]

    def test_never_on_memory_alone(self) -> None:
        host = machine(8192, 8192, devices=(Device("0000:41:00.0", 2, "network"),))
        topology = replace(host.topology, nodes=(*host.topology.nodes, Node(2, 65536, 65536)))
        assert planned(replace(host, topology=topology)).target.nodes in ((0,), (1,))

    def test_several_where_one_does_not_hold_it(self) -> None:
        """Memory of two nodes: the pair that is near."""
        plan = planned(machine(1024, 1024, 1024, 1024, devices=(DISK,)))
        assert plan.target.nodes == (2, 3)
        assert planned(machine(2048, 2048, 2048, 2048, devices=(DISK,)), vcpus=3).target.nodes == (2, 3)

    def test_as_asked_or_refused(self) -> None:
        host = machine(2048, 2048, 2048, 2048, devices=(CARD,))
        assert planned(host, nodes=(3, 2)).target.nodes == (2, 3)
        with pytest.raises(BadInput, match="--nodes: node 5 cannot hold Dom0; nodes with memory and pCPUs: 0-3"):
            planned(host, nodes=(1, 5))
        with pytest.raises(Refused, match="3 vCPUs are wanted, node 2 has 2 pCPUs"):
            planned(host, nodes=(2,), vcpus=3)
        with pytest.raises(Refused, match="needs 2048 MiB, node 2 has 2032 MiB"):
            planned(host, nodes=(2,), memory_mib=2048)
        with pytest.raises(Refused, match="no domain 0"):
            planned(replace(host, domains=()))


class TestSize:
    @pytest.mark.parametrize(
        ("node_mib", "cpus", "memory_mib", "vcpus"),
        [
            # by hand from xcp/dom0.py: 1024 + (mib + 256) // 20, down to a multiple of 16, at most 8192
            (4096, 2, 1232, 2),
            (16384, 16, 1024 + 1648, 8),
            (65536, 8, 1024 + 6560, 8),
            (262144, 32, 8192, 16),
        ],
    )
    def test_by_rule(self, node_mib: int, cpus: int, memory_mib: int, vcpus: int) -> None:
        nodes = (node_mib, node_mib) if node_mib > 4096 else (node_mib,)
        target = planned(machine(*nodes, cpus=cpus)).target
        assert (target.memory_mib, target.vcpus) == (memory_mib, vcpus)

    def test_at_most_half_of_its_nodes(self) -> None:
        assert planned(machine(2048, 65536, devices=(Device("0000:41:00.0", 0, "storage"),))).target.memory_mib == 1024

    def test_what_is_on_the_command_line_stays(self) -> None:
        host = machine(8192, 8192, commandline="dom0_mem=768M,max:2G dom0_max_vcpus=1 console=com1")
        plan = planned(host)
        assert str(plan.new) == "console=com1 dom0_nodes=0,relaxed dom0_max_vcpus=1 dom0_mem=768M,max:2G"
        assert "768 MiB: as on the command line now" in " ".join(plan.reasons)
        assert planned(host, by_rule=True).target.memory_mib == 1024 + 832
        assert planned(host, memory_mib=3000, vcpus=2).new.dom0.words[1:] == (
            "dom0_max_vcpus=2",
            "dom0_mem=3000M,max:3000M",
        )

    def test_more_vcpus_than_its_nodes_have_pcpus_are_cut(self) -> None:
        plan = planned(machine(8192, 8192, commandline="dom0_max_vcpus=4"))
        assert plan.target.vcpus == 2
        assert "as many as there are pCPUs (4 as on the command line now); node 0 has 2 pCPUs" in " ".join(plan.reasons)

    @pytest.mark.parametrize("option", ["10%", "-1G", "min:1G", "64G"])
    def test_what_is_no_number_that_can_be_goes_by_rule(self, option: str) -> None:
        host = replace(machine(8192, 8192), commandline=f"dom0_mem={option}")
        assert planned(host).new.dom0.words[-1] == "dom0_mem=1856M,max:1856M"


class TestCommandLine:
    def test_proximity_domains_not_node_ids(self) -> None:
        plan = planned(machine(8192, 8192, 8192, 8192, devices=(CARD,)), SHIFTED)
        assert plan.target.nodes == (1,)
        assert plan.proximity_domains == {1: 2}
        assert plan.new.dom0.words[0] == "dom0_nodes=2,relaxed"
        both = planned(machine(1024, 1024, 1024, 1024, devices=(DISK,)), SHIFTED, strict=True)
        assert both.new.dom0.words[0] == "dom0_nodes=7,1"

    def test_an_unknown_one_is_not_guessed(self) -> None:
        host = machine(8192, 8192, 8192, 8192, devices=(CARD,))
        plan = planned(host, {0: 0, 2: 2})
        assert plan.new.dom0.words[0].startswith("dom0_max_vcpus")
        (told,) = [warning for warning in plan.warnings if "dom0_nodes" in warning]
        assert "loglvl=info" in told
        assert "--pxm 1=PXM" in told
        before = planned(replace(host, commandline="dom0_nodes=7,relaxed"), {})
        assert before.new.dom0.words[0] == "dom0_nodes=7,relaxed"
        assert "what is there stays" in before.warnings[0]

    def test_nodes_that_xen_makes_up_have_none(self) -> None:
        plan = planned(replace(machine(8192, 8192), commandline="numa=fake=2"))
        assert "dom0_nodes" not in str(plan.new)
        assert any("numa=fake=2 makes up" in warning for warning in plan.warnings)

    def test_one_node_needs_no_name(self) -> None:
        plan = planned(machine(8192))
        assert "dom0_nodes" not in str(plan.new)
        assert plan.affinity == ()

    def test_what_xen_refuses_is_told_and_left_out(self) -> None:
        plan = planned(replace(machine(8192, 8192), commandline="vga=keep dom0_mem=1024MB sched=credit"))
        assert str(plan.new).startswith("vga=keep sched=credit dom0_nodes=")
        assert "dom0_mem=1024MB" in plan.warnings[0]

    def test_pin_only_if_asked(self) -> None:
        host = machine(8192, 8192, commandline="dom0_vcpus_pin")
        assert "dom0_vcpus_pin" not in str(planned(host).new)
        assert str(planned(host, pin=True).new).endswith(" dom0_vcpus_pin")


class TestAffinityForNow:
    def test_soft_or_hard(self) -> None:
        host = machine(8192, 8192, devices=(CARD,))
        cpus = frozenset({2, 3})
        assert planned(host).affinity == tuple(VcpuAffinity(vcpu, soft=cpus) for vcpu in range(4))
        assert planned(host, strict=True).affinity == tuple(VcpuAffinity(vcpu, hard=cpus) for vcpu in range(4))

    def test_the_administrators_hard_affinity_is_left_alone(self) -> None:
        host = machine(8192, 8192, devices=(CARD,))
        (dom0,) = host.domains
        held = (replace(dom0.vcpus[0], hard_affinity=frozenset({0})), *dom0.vcpus[1:])
        plan = planned(replace(host, domains=(replace(dom0, vcpus=held),)))
        assert [change.vcpu for change in plan.affinity] == [1, 2, 3]
        assert any("vCPU 0 of Domain-0: hard affinity excludes node 1" in warning for warning in plan.warnings)

    def test_credit2_does_not_keep_to_it(self) -> None:
        host = machine(8192, 8192)
        credit2 = replace(host, cpupools=(replace(host.cpupools[0], scheduler="credit2"),))
        assert any("credit2" in warning for warning in planned(credit2).warnings)
        assert not any("credit2" in warning for warning in planned(credit2, strict=True).warnings)
        assert not any("credit2" in warning for warning in planned(host).warnings)
