"""Virtual nodes on the real Xen: an HVM guest sees those that `create` gave it, and their memory is on their pnodes; PV
and PVH guests get a soft affinity for each vCPU."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from domicile.hosts.xen.xl_vcpu_list import parse_vcpu_table
from domicile.lab import Lab
from domicile.lab.guests.config import guest_config
from domicile.lab.guests.control import output, running_guest

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]


class Commands:
    """`domicile` on a lab, with a journal of its own."""

    def __init__(self, xen: Lab, folder: Path) -> None:
        self.xen = xen
        self.folder = folder

    def run(self, command: str, text: str = "", *options: str, expect: int = 0) -> str:
        """What a command prints, for a config of this text if given."""
        argv = [sys.executable, "-m", "domicile", command, *options, "-c", f"lab:///{self.xen.name}"]
        if text:
            config = self.folder / "guest.cfg"
            config.write_text(text)
            argv.append(str(config))
        done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == expect, f"{argv}: status {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout or done.stderr

    def placement(self, command: str, text: str, *options: str) -> Any:
        (placement,) = json.loads(self.run(command, text, "--json", *options))["placements"]
        return placement


@pytest.fixture
def domicile(xen: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    monkeypatch.setenv("DOMICILE_STATE", str(tmp_path / "state"))
    yield Commands(xen, tmp_path)
    for line in xen.run(["xl", "list"]).stdout.splitlines()[2:]:
        xen.run(["xl", "destroy", line[:40].split()[0]])


def dump(xen: Lab, number: int) -> list[str]:
    """What debug key `u` says of a domain, read here and not by domicile: from its heading to the next one."""
    output(xen, ["xl", "debug-keys", "u"])
    lines = output(xen, ["xl", "dmesg"]).splitlines()
    start = max(n for n, line in enumerate(lines) if f"Domain {number} (total" in line)
    end = next((n for n in range(start + 1, len(lines)) if "(total" in lines[n]), len(lines))
    return lines[start + 1 : end]


def test_an_hvm_guest_sees_its_virtual_nodes(domicile: Commands) -> None:
    """4 vCPUs on nodes of 2 pCPUs. It boots in minutes: it unpacks its kernel under emulation."""
    text = guest_config("wide", "hvm", 4, 256)
    planned = domicile.placement("place", text, "--vnuma", "2")["vnuma"]
    # asked for: with a Dom0 that has just been busy, four of one vCPU each can be better
    created = domicile.placement("create", text, "--vnuma", "2")["vnuma"]
    assert [(v["size_mib"], v["vcpus"]) for v in created] == [(v["size_mib"], v["vcpus"]) for v in planned]
    assert [(v["size_mib"], v["vcpus"], v["vdistances"]) for v in created] == [
        (128, [0, 1], [10, 16]),
        (128, [2, 3], [16, 10]),
    ]
    pnodes = [v["pnode"] for v in created]
    assert pnodes in ([0, 1], [2, 3])

    guest = running_guest(domicile.xen, "wide")
    told = "\n".join(dump(domicile.xen, guest.id))
    pages = {node: int(told.split(f"Node {node}:")[1].split()[0]) for node in range(4)}
    # video memory there is none; 640 KiB and the guest's special pages come from any of the two
    assert all(pages[pnode] >= 0.98 * 128 * 256 for pnode in pnodes), pages
    assert "2 vnodes, 4 vcpus" in told
    rows = parse_vcpu_table(output(domicile.xen, ["xl", "vcpu-list", "wide"]))
    assert [row.soft for row in rows] == [f"{2 * pnode}-{2 * pnode + 1}" for pnode in pnodes for _ in range(2)]

    kernel, first, second = guest.wait_until_ready().splitlines()
    assert ", 4 vCPUs, " in kernel
    assert first.startswith("node 0: cpus 0-1, ")
    assert first.endswith("distances 10 16")
    assert second.startswith("node 1: cpus 2-3, ")
    assert second.endswith("distances 16 10")
    for line in (first, second):
        assert 60 <= int(line.split(", ")[1].split()[0]) <= 128
    assert "all as intended" in domicile.run("verify")


@pytest.mark.parametrize("kind", ["pv", "pvh"])
def test_the_next_best_is_a_soft_affinity_for_each_vcpu(domicile: Commands, kind: str) -> None:
    """Asked for, as with a Dom0 that has just been busy three nodes can be better than any division over two."""
    text = guest_config("wide", kind, 4, 256)
    created = domicile.placement("create", text, "--vnuma", "2")
    assert created["vnuma"] is None
    assert "instead a soft affinity for each vCPU" in created["reasons"][-1]
    rows = parse_vcpu_table(output(domicile.xen, ["xl", "vcpu-list", "wide"]))
    assert [row.soft for row in rows] == [f"{2 * node}-{2 * node + 1}" for node in created["nodes"] for _ in range(2)]
    pages = [line for line in dump(domicile.xen, int(output(domicile.xen, ["xl", "domid", "wide"]))) if "Node" in line]
    on = {int(line.split("Node")[1].split(":")[0]): int(line.split(":")[1]) for line in pages}
    assert sum(on[node] for node in created["nodes"]) >= 0.98 * sum(on.values())
    assert "all as intended" in domicile.run("verify")


def test_pnodes_left_open_are_found_and_the_topology_is_kept(domicile: Commands) -> None:
    """The configuration's own virtual nodes, of unequal size; started, destroyed, and started again."""
    vnuma = [["size=192", "vcpus=0,3", "vdistances=10,30"], ["size=64", "vcpus=1-2", "vdistances=30,10"]]
    text = guest_config("own", "hvm", 4, 256, keys={"vnuma": vnuma})
    for _ in range(2):
        created = domicile.placement("create", text)
        assert [(v["size_mib"], v["vcpus"], v["vdistances"]) for v in created["vnuma"]] == [
            (192, [0, 3], [10, 30]),
            (64, [1, 2], [30, 10]),
        ]
        number = int(output(domicile.xen, ["xl", "domid", "own"]))
        told = "\n".join(dump(domicile.xen, number))
        for vnode in created["vnuma"]:
            assert int(told.split(f"Node {vnode['pnode']}:")[1].split()[0]) >= 0.97 * vnode["size_mib"] * 256
        output(domicile.xen, ["xl", "destroy", "own"])


def test_what_xen_refuses_is_refused_early(domicile: Commands) -> None:
    ballooning = guest_config("wide", "hvm", 4, 256, keys={"maxmem": 512})
    error = domicile.run("create", ballooning, "--vnuma", "2", expect=1)
    assert "populate on demand and virtual nodes exclude each other" in error
    assert len(error.strip().splitlines()) == 1
    assert domicile.run("vnuma", guest_config("wide", "pv", 4, 256), expect=1).startswith("# wide: no virtual nodes")
    assert len(output(domicile.xen, ["xl", "list"]).splitlines()) == 2
