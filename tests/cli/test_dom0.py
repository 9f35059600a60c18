"""`domicile dom0` on a simulated host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from dom0_boot import machine

from domicile.cli.dom0_view import grub_line, pin_commands
from domicile.cli.main import main
from domicile.errors import BadInput, DomicileError
from domicile.local.paths import STATE_VARIABLE
from domicile.policies.dom0.plan import Dom0Wish, VcpuAffinity, plan_dom0

URI = "sim:///4node"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    return tmp_path


def domicile(*arguments: str, expect: int = 0) -> str:
    result = CliRunner().invoke(main, ["dom0", *arguments, "-c", URI], catch_exceptions=False)
    assert result.exit_code == expect, result.output
    return result.stdout


def as_json(*arguments: str, expect: int = 0) -> Any:
    return json.loads(domicile(*arguments, "--json", expect=expect))


def test_a_plan_for_people() -> None:
    text = domicile("plan")
    lines = text.splitlines()
    assert lines[0].split() == ["Domain-0", "node", "1", "2", "vCPUs", "1024", "MiB"]
    options = "dom0_nodes=1,relaxed dom0_max_vcpus=2 dom0_mem=1G,max:1G"
    assert f"  then  {options}" in lines
    assert f'  GRUB_CMDLINE_XEN_DEFAULT="{options}"' in lines
    assert "  xl vcpu-pin Domain-0 all - 2-3" in lines
    assert "a simulated host has no firmware" in " ".join(text.split())
    assert "--save keeps this plan" in text


def test_a_plan_for_machines_is_what_verify_reads(state: Path) -> None:
    plan = as_json("plan", "--nodes", "2-3", "--vcpus", "3", "--memory", "2000")
    assert (plan["nodes"], plan["vcpus"], plan["memory_mib"]) == ([2, 3], 3, 2000)
    assert plan["options"] == ["dom0_nodes=2,3,relaxed", "dom0_max_vcpus=3", "dom0_mem=2000M,max:2000M"]
    assert plan["proximity_domains"] == {"2": 2, "3": 3}
    path = state / "plan.json"
    path.write_text(json.dumps(plan))
    found = as_json("verify", "--plan", str(path), expect=1)
    assert [one["kind"] for one in found["differences"]] == [
        "vCPUs", "memory", "memory elsewhere", "node affinity", "soft affinity"
    ]  # fmt: skip
    assert found["against"] == f"the plan in {path}"


def test_kept_applied_and_verified() -> None:
    with pytest.raises(DomicileError, match="nothing says where it should live") as refused:
        domicile("verify")
    assert refused.value.exit_status == 1
    domicile("plan", "--vcpus", "2", "--save")
    kinds = {one["kind"] for one in as_json("verify", expect=1)["differences"]}
    assert "soft affinity" in kinds
    assert "(set now)" in domicile("plan", "--apply")
    text = domicile("verify", expect=1)
    assert "soft affinity" not in text
    assert "memory elsewhere: 127 MiB on node 0" in text
    assert "against the plan kept on" in text
    assert "never boots" in text
    assert "the affinity is so already" in domicile("plan")


def test_a_plan_that_is_so_agrees(state: Path) -> None:
    """A target that names what a simulated host has."""
    path = state / "plan.json"
    target = {"nodes": [0, 1, 2, 3], "vcpus": 8, "memory_mib": 508, "strict": False, "pin": False, "options": []}
    path.write_text(json.dumps(target))
    assert "all agrees" in domicile("verify", "--plan", str(path))


def test_proximity_domains_can_be_said() -> None:
    assert as_json("plan", "--pxm", "1=5")["options"][0] == "dom0_nodes=5,relaxed"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["plan", "--pxm", "1"], "--pxm: '1'; give NODE=PXM"),
        (["plan", "--pxm", "1=3"], "--pxm: two nodes have one proximity domain"),
        (["plan", "--nodes", "a"], "--nodes: 'a'; give node ids"),
        (["plan", "--nodes", "3-2"], "--nodes: is empty"),
        (["plan", "--nodes", "9"], "--nodes: node 9 cannot hold Dom0"),
        (["plan", "--device", "0000:99:00.0"], "--device: 0000:99:00.0 is not there"),
        (["verify", "--plan", "/nowhere"], "/nowhere: cannot be read"),
    ],
)
def test_bad_input(arguments: list[str], problem: str) -> None:
    with pytest.raises(BadInput) as error:
        domicile(*arguments)
    assert problem in str(error.value)


def test_a_file_that_is_no_plan(state: Path) -> None:
    path = state / "plan.json"
    path.write_text('{"nodes": 1}')
    with pytest.raises(BadInput, match="is no plan of `domicile dom0 plan --json`"):
        domicile("verify", "--plan", str(path))


def test_the_line_for_grub_is_quoted_for_the_shell() -> None:
    host = machine(8192, 8192, commandline='placeholder a="$b" c\\d dom0_mem=1G')
    plan = plan_dom0(host, Dom0Wish(), {0: 0, 1: 1})
    assert grub_line(plan) == (
        'GRUB_CMDLINE_XEN_DEFAULT="a=\\"\\$b\\" c\\\\d dom0_nodes=0,relaxed dom0_max_vcpus=2 dom0_mem=1G,max:1G"'
    )


def test_one_command_where_all_get_the_same() -> None:
    cpus = frozenset({2, 3})
    changes = [VcpuAffinity(vcpu, soft=cpus) for vcpu in range(2)]
    assert pin_commands("Domain-0", changes, 2) == ["xl vcpu-pin Domain-0 all - 2-3"]
    assert pin_commands("Domain-0", changes, 3) == [
        "xl vcpu-pin Domain-0 0 - 2-3",
        "xl vcpu-pin Domain-0 1 - 2-3",
    ]
    assert pin_commands("Domain-0", [VcpuAffinity(0, hard=cpus)], 1) == ["xl vcpu-pin Domain-0 all 2-3 -"]
