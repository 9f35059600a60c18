"""Dom0 on the real Xen: booted with the plan it is where the plan says, and booted otherwise that is found.

The machine's proximity domains are not Xen's node ids: node 3, where the network card is, has proximity domain 1, and
proximity domain 3 is node 2's. Low memory, which Xen and Dom0's kernel are loaded into, is node 1's.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from domicile.lab import Lab
from domicile.lab.machine import Dom0Settings, Machine, XenSettings, load_machine, read_machine

pytestmark = pytest.mark.lab

PXM = {0: 2, 1: 0, 2: 3, 3: 1}
NEAR = 3
"""The node with the card."""
LOW_MIB = 128
"""What may be in low memory: initial RAM disk and DMA buffers."""

MACHINE = (
    "".join(f"[[node]]\ncpus = 2\nmemory_mib = 2048\nproximity_domain = {pxm}\n" for pxm in PXM.values())
    + f"""
[[device]]
kind = "network"
node = {NEAR}

[[device]]
kind = "rng"
node = 0

[dom0]
memory_mib = 768
"""
)

Boot = Callable[[Machine], Lab]


@pytest.fixture(scope="module")
def base() -> Machine:
    shifted = read_machine(MACHINE.encode(), "test_dom0")
    return msgspec.structs.replace(shifted, distances=load_machine("4node-pci").distances)


@pytest.fixture(scope="module")
def before(base: Machine, lab_possible: None) -> Iterator[Lab]:
    """Booted as nobody planned it."""
    with Lab.start(base, boot=True) as lab:
        yield lab


@pytest.fixture
def boot(lab_possible: None) -> Iterator[Boot]:
    """Boots labs that end with the test."""
    started: list[Lab] = []

    def start(machine: Machine) -> Lab:
        started.append(Lab.start(machine, boot=True))
        return started[-1]

    yield start
    for lab in started:
        lab.stop()


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal for each test: all labs are of one image, so they have one host id."""
    monkeypatch.setenv("DOMICILE_STATE", str(tmp_path / "state"))


def dom0(xen: Lab, *arguments: str, expect: int = 0) -> Any:
    """`domicile dom0` as an administrator types it, with --json."""
    argv = [sys.executable, "-m", "domicile", "dom0", *arguments, "--json", "-c", f"lab:///{xen.name}"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == expect, f"{arguments}: status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


def booted_with(base: Machine, plan: dict[str, Any], nodes: str) -> Machine:
    """The machine with the plan's options on Xen's command line. The lab writes dom0_mem and dom0_max_vcpus itself."""
    line = nodes + (" dom0_vcpus_pin" if plan["pin"] else "")
    settings = Dom0Settings(memory_mib=plan["memory_mib"], vcpus=plan["vcpus"])
    return msgspec.structs.replace(base, dom0=settings, xen=XenSettings(line))


def kinds(found: dict[str, Any]) -> set[str]:
    return {one["kind"] for one in found["differences"]}


# -- Xen's own word, read here and not by domicile -------------------------------------------------------------------


def printed(xen: Lab, *argv: str) -> str:
    done = xen.run(list(argv))
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def proximity_domains(xen: Lab) -> dict[int, int]:
    return {int(n): int(pxm) for n, pxm in re.findall(r"SRAT: Node (\d+) PXM (\d+) \[", printed(xen, "xl", "dmesg"))}


def dom0_pages(xen: Lab) -> dict[int, int]:
    """The last dump of debug key `u`."""
    xen.run(["xl", "debug-keys", "u"])
    lines = printed(xen, "xl", "dmesg").splitlines()
    start = max(n for n, line in enumerate(lines) if "Domain 0 (total" in line)
    rows = [line.split("Node")[1].split(":") for line in lines[start + 1 : start + 5]]
    return {int(node): int(pages) for node, pages in rows}


def dom0_affinities(xen: Lab) -> list[str]:
    """`hard / soft` of each vCPU."""
    rows = printed(xen, "xl", "vcpu-list", "Domain-0").splitlines()[1:]
    return [" / ".join(part.strip() for part in re.split(r"\s{2,}", row)[-1].split(" / ")) for row in rows]


def require_on(xen: Lab, node: int) -> None:
    """Dom0's memory is there, but for what is in low memory."""
    pages = dom0_pages(xen)
    away = sum(count for other, count in pages.items() if other != node)
    assert away <= LOW_MIB * 256 + 0.01 * sum(pages.values()), pages


# -- the tests -------------------------------------------------------------------------------------------------------


def test_the_plan_translates_and_names_what_must_change(before: Lab) -> None:
    assert proximity_domains(before) == PXM
    plan = dom0(before, "plan")
    assert plan["nodes"] == [NEAR], plan["reasons"]
    assert plan["proximity_domains"] == {str(NEAR): PXM[NEAR]}
    assert plan["options"] == [f"dom0_nodes={PXM[NEAR]},relaxed", "dom0_max_vcpus=2", "dom0_mem=768M,max:768M"]
    assert [one["node"] for one in plan["devices"]] == [NEAR]
    now = re.search(r"Command line: (.*)", printed(before, "xl", "dmesg"))
    assert now is not None
    kept = [word for word in now[1].split() if not word.startswith("dom0_")]
    assert plan["command_line"]["then"].split() == [*kept, *plan["options"]]


def test_the_affinity_for_now(before: Lab) -> None:
    assert dom0(before, "plan", "--apply")["applied"]
    try:
        assert all(affinity.endswith("/ 6-7") for affinity in dom0_affinities(before)), dom0_affinities(before)
        found = kinds(dom0(before, "verify", expect=1))
        assert "soft affinity" not in found
        assert found >= {"command line", "vCPUs", "memory elsewhere"}
    finally:
        before.run(["xl", "vcpu-pin", "Domain-0", "all", "all", "all"])


@pytest.mark.parametrize(
    "strict", [pytest.param(False, marks=pytest.mark.soak, id="relaxed"), pytest.param(True, id="strict")]
)
def test_booted_with_the_plan(base: Machine, before: Lab, boot: Boot, tmp_path: Path, *, strict: bool) -> None:
    plan = dom0(before, "plan", *(["--strict"] if strict else []))
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan))
    xen = boot(booted_with(base, plan, plan["options"][0]))
    require_on(xen, NEAR)
    affinities = dom0_affinities(xen)
    assert affinities == ["6-7 / all" if strict else "all / 6-7"] * 2
    for arguments in (("verify", "--plan", str(path)), ("verify",)):
        found = dom0(xen, *arguments)
        assert found["differences"] == [], found
    again = dom0(xen, "plan", *(["--strict"] if strict else []))
    assert again["options"] == plan["options"]
    assert again["affinity"] == []


@pytest.mark.soak
def test_booted_with_node_ids(base: Machine, before: Lab, boot: Boot, tmp_path: Path) -> None:
    """3 is the node's id; as a proximity domain it is node 2's."""
    plan = dom0(before, "plan")
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan))
    xen = boot(booted_with(base, plan, f"dom0_nodes={NEAR},relaxed"))
    require_on(xen, 2)
    found = dom0(xen, "verify", "--plan", str(path), expect=1)
    assert kinds(found) == {"command line", "memory elsewhere", "node affinity", "soft affinity"}, found
    (option,) = [one for one in found["differences"] if one["kind"] == "command line"]
    assert option["intended"] == f"dom0_nodes={PXM[NEAR]},relaxed"
    assert "the node id; that proximity domain is node 2" in option["seen"]


@pytest.mark.soak
def test_booted_with_a_proximity_domain_that_is_none(base: Machine, before: Lab, boot: Boot) -> None:
    """Xen passes over it and takes all nodes."""
    plan = dom0(before, "plan")
    xen = boot(booted_with(base, plan, "dom0_nodes=7"))
    pages = dom0_pages(xen)
    assert max(pages.values()) < 0.95 * sum(pages.values()), pages
    found = dom0(xen, "verify", expect=1)
    assert "command line" in kinds(found)
    assert any("proximity domain 7, which is no node's" in one["seen"] for one in found["differences"])
