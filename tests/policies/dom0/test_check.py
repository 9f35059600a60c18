"""Dom0 after a boot, as a model of Xen's boot makes it, against its command line and the plan."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import pytest
from dom0_boot import boot, machine
from hypothesis import given
from hypothesis import strategies as st

from domicile.errors import Refused
from domicile.policies.dom0.check import DifferenceKind, check_dom0
from domicile.policies.dom0.plan import Dom0Plan, Dom0Wish, plan_dom0
from domicile.state.model import Snapshot
from domicile.topology.model import Device

SHIFTED = {0: 4, 1: 2, 2: 7, 3: 1}
CARD = Device("0000:41:00.0", 1, "network")
HOST = machine(4096, 4096, 4096, 4096, devices=(CARD,))


def plan_for(host: Snapshot, pxm: Mapping[int, int] = SHIFTED, **wish: object) -> Dom0Plan:
    return plan_dom0(host, Dom0Wish(**wish), pxm)  # type: ignore[arg-type]


def kinds(host: Snapshot, plan: Dom0Plan | None = None, pxm: Mapping[int, int] = SHIFTED) -> dict[DifferenceKind, str]:
    found = check_dom0(host, pxm, plan.target if plan else None).differences
    return {one.kind: f"{one.seen} / {one.intended}" for one in found}


@given(
    st.permutations(range(4)),
    st.lists(st.integers(0, 300), min_size=4, max_size=4, unique=True),
    st.lists(st.sampled_from([1024, 2048, 4096, 8192]), min_size=4, max_size=4),
    st.integers(0, 3),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_a_boot_with_the_plan_agrees_with_it(
    order: list[int], domains: list[int], sizes: list[int], node: int, strict: bool, pin: bool, by_line: bool
) -> None:
    """Whatever the proximity domains: what Xen makes of the plan's command line is the plan, and is it by itself."""
    pxm = dict(zip(order, domains, strict=True))
    host = machine(*sizes, devices=(replace(CARD, node=node),))
    plan = plan_for(host, pxm, strict=strict, pin=pin)
    after = boot(host, str(plan.new), pxm)
    assert kinds(after, None if by_line else plan, pxm) == {}
    assert plan_for(after, pxm, strict=strict, pin=pin).new == plan.new


def test_node_ids_where_proximity_domains_belong() -> None:
    """Node 1's proximity domain is 2, and 1 is that of node 3."""
    plan = plan_for(HOST)
    line = str(plan.new).replace("dom0_nodes=2", "dom0_nodes=1")
    found = kinds(boot(HOST, line, SHIFTED), plan)
    assert found[DifferenceKind.OPTION] == (
        "dom0_nodes=1,relaxed (the node id; that proximity domain is node 3) / dom0_nodes=2,relaxed"
    )
    assert "node 3" in found[DifferenceKind.ELSEWHERE]
    assert "CPUs 6-7" in found[DifferenceKind.SOFT_AFFINITY]
    assert found[DifferenceKind.NODE_AFFINITY] == "new memory comes from node 3 / from node 1"


def test_a_proximity_domain_that_is_no_nodes_is_seen_without_a_plan() -> None:
    after = boot(HOST, "dom0_nodes=0", SHIFTED)
    found = kinds(after)
    assert list(found) == [DifferenceKind.OPTION]
    assert (
        "proximity domain 0, which is no node's: Xen passed over it, and gave Dom0 every node"
        in found[DifferenceKind.OPTION]
    )
    assert "if node 0 is meant, write dom0_nodes=4" in found[DifferenceKind.OPTION]
    some = kinds(boot(HOST, "dom0_nodes=2,9,relaxed", SHIFTED))
    assert list(some) == [DifferenceKind.OPTION]
    assert "proximity domain 9" in some[DifferenceKind.OPTION]


def test_proximity_domains_that_are_not_told_are_not_judged() -> None:
    after = boot(HOST, "dom0_nodes=2,relaxed dom0_mem=1G", SHIFTED)
    check = check_dom0(after, {}, None)
    assert check.differences == ()
    assert any("tells no node of it" in note and "--pxm" in note for note in check.notes)


def test_options_that_are_not_there() -> None:
    plan = plan_for(HOST)
    after = boot(HOST, "console=com1", SHIFTED)
    found = check_dom0(after, SHIFTED, plan.target).differences
    options = [one for one in found if one.kind is DifferenceKind.OPTION]
    assert [one.seen for one in options] == [
        "dom0_nodes is not there",
        "dom0_max_vcpus is not there",
        "dom0_mem is not there",
    ]
    assert [one.intended for one in options] == list(plan.target.options)
    assert {one.kind for one in found} >= {DifferenceKind.VCPUS, DifferenceKind.MEMORY, DifferenceKind.ELSEWHERE}


def test_nothing_to_check_against_is_no_agreement() -> None:
    with pytest.raises(Refused, match="nothing says where it should live"):
        check_dom0(boot(HOST, "console=com1", SHIFTED), SHIFTED, None)
    check = check_dom0(boot(HOST, "dom0_mem=1G", SHIFTED), SHIFTED, None)
    assert check.differences == ()
    assert any("nothing says on which nodes" in note for note in check.notes)


def test_vcpus() -> None:
    plan = plan_for(HOST)
    after = boot(HOST, str(plan.new), SHIFTED)
    (dom0,) = after.domains
    more = replace(dom0, vcpus=(*dom0.vcpus, replace(dom0.vcpus[0], id=2)))
    assert kinds(replace(after, domains=(more,))) == {DifferenceKind.VCPUS: "3 vCPUs / 2 vCPUs (dom0_max_vcpus=2)"}
    one_off = replace(dom0, vcpus=(dom0.vcpus[0], replace(dom0.vcpus[1], online=False)))
    assert kinds(replace(after, domains=(one_off,)), plan) == {
        DifferenceKind.VCPUS: "2 vCPUs, 1 of them online / 2 vCPUs"
    }
    bare = replace(boot(HOST, "dom0_nodes=2,relaxed", SHIFTED), domains=(more,))
    assert kinds(bare)[DifferenceKind.VCPUS] == "3 vCPUs / 2 vCPUs (one for each pCPU of node 1)"


def test_memory() -> None:
    line = "dom0_nodes=2 dom0_mem=5G"
    assert re.match(r"40\d\d MiB \(Xen gives no more", kinds(boot(HOST, line, SHIFTED))[DifferenceKind.MEMORY])
    check = check_dom0(boot(HOST, "dom0_nodes=2 dom0_mem=1G", SHIFTED), SHIFTED, None)
    assert check.differences == ()
    assert any("64 MiB are not on node 1 (64 MiB on node 0, 960 MiB on node 1)" in note for note in check.notes)
    share = replace(boot(HOST, "dom0_nodes=2", SHIFTED), commandline="dom0_nodes=2 dom0_mem=10%")
    assert any("depends on what was free" in note for note in check_dom0(share, SHIFTED, None).notes)


@pytest.mark.parametrize("word", ["", ",relaxed"])
def test_memory_elsewhere_relaxed_or_strict(word: str) -> None:
    """Relaxed is about vCPUs: memory is to be there all the same, but for what is exchanged for DMA."""
    after = boot(HOST, f"dom0_nodes=2{word} dom0_mem=1G", SHIFTED)
    (dom0,) = after.domains
    moved = replace(dom0, pages_by_node={0: 16384, 1: 180000, 3: 65760})
    found = kinds(replace(after, domains=(moved,)))
    assert found == {
        DifferenceKind.ELSEWHERE: "64 MiB on node 0, 703 MiB on node 1, 257 MiB on node 3: 31% elsewhere"
        " / all on node 1"
    }
    without = check_dom0(replace(after, domains=(replace(dom0, pages_by_node=None),)), SHIFTED, None)
    assert any("no memory map" in note for note in without.notes)


def test_affinity() -> None:
    strict = boot(HOST, "dom0_nodes=2", SHIFTED)
    relaxed = boot(HOST, "dom0_nodes=2,relaxed", SHIFTED)
    for line, as_booted in (("dom0_nodes=2", relaxed), ("dom0_nodes=2,relaxed", strict)):
        assert set(kinds(replace(as_booted, commandline=line))) & {
            DifferenceKind.HARD_AFFINITY,
            DifferenceKind.SOFT_AFFINITY,
        }
    assert set(kinds(replace(strict, commandline="dom0_nodes=2 dom0_vcpus_pin"))) == {DifferenceKind.HARD_AFFINITY}
    pinned = boot(HOST, "dom0_nodes=2 dom0_vcpus_pin", SHIFTED)
    assert kinds(pinned) == {}
    assert kinds(replace(pinned, commandline="dom0_nodes=2 cpufreq=dom0-kernel")) == {}
    (dom0,) = relaxed.domains
    narrow = replace(dom0, vcpus=tuple(replace(v, hard_affinity=frozenset({2})) for v in dom0.vcpus))
    assert kinds(replace(relaxed, domains=(narrow,))) == {
        DifferenceKind.HARD_AFFINITY: "vCPU 0-1: CPUs 2 / none (relaxed)"
    }


def test_what_xen_refused_and_what_is_gone() -> None:
    after = boot(HOST, "dom0_mem=1G", SHIFTED)
    assert "Xen refuses dom0_mem=1024MB" in kinds(replace(after, commandline="dom0_mem=1024MB"))[DifferenceKind.OPTION]
    target = replace(plan_for(HOST).target, nodes=(1, 9))
    found = check_dom0(boot(HOST, str(plan_for(HOST).new), SHIFTED), SHIFTED, target).differences
    assert [one.seen for one in found] == ["the host has no node 9"]


def test_a_host_that_does_not_tell_its_command_line() -> None:
    plan = plan_for(HOST)
    after = replace(boot(HOST, str(plan.new), SHIFTED), commandline="")
    check = check_dom0(after, SHIFTED, plan.target)
    assert check.differences == ()
    assert any("options were not checked" in note for note in check.notes)
