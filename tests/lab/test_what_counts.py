"""What counts in placement, on the real Xen: a device's node, talkative guests, and load that was measured."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from domicile.lab import Lab
from domicile.lab.guests.config import Load, guest_config
from domicile.lab.guests.control import running_guest

pytestmark = pytest.mark.lab

SETTLED_S = 30.0
"""Guests that boot are busy whatever they do later."""


class Commands:
    """`domicile` on a lab, with a state folder of its own."""

    def __init__(self, xen: Lab, folder: Path) -> None:
        self.xen = xen
        self.folder = folder

    def file(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "domicile", *arguments, "-c", f"lab:///{self.xen.name}", "--json"]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)

    def placement(self, *arguments: str) -> Any:
        done = self.run(*arguments)
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        (placement,) = json.loads(done.stdout)["placements"]
        return placement


@pytest.fixture(scope="module")
def pci_xen(lab_factory: Callable[..., Lab]) -> Lab:
    return lab_factory("4node-pci")


@pytest.fixture
def domicile(pci_xen: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    monkeypatch.setenv("DOMICILE_STATE", str(tmp_path / "state"))
    yield Commands(pci_xen, tmp_path)
    for line in pci_xen.run(["xl", "list"]).stdout.splitlines()[2:]:
        pci_xen.run(["xl", "destroy", line[:40].split()[0]])


def share_on(xen: Lab, name: str, *nodes: int) -> float:
    """The share of a domain's pages on some nodes by Xen's own count, read here and not by domicile."""
    number = xen.run(["xl", "domid", name]).stdout.strip()
    xen.run(["xl", "debug-keys", "u"])
    dump = xen.run(["xl", "dmesg"]).stdout.rpartition("Memory location of each domain")[2]
    rows = re.split(rf"(?:Domain |d){number} \(total: \d+\)", dump)[1].splitlines()[1:5]
    pages = [int(re.findall(r"Node +\d+: (\d+)", row)[0]) for row in rows]
    return sum(pages[node] for node in nodes) / sum(pages)


def test_a_guest_goes_to_its_device_on_node_3(domicile: Commands) -> None:
    done = domicile.run("topology")
    devices = [device["address"] for device in json.loads(done.stdout)["devices"] if device["node"] == 3]
    # the card is behind a port, and that behind the node's host bridge
    card = devices[-1]
    domicile.xen.run(["modprobe", "xen-pciback"])
    assert domicile.xen.run(["xl", "pci-assignable-add", card]).returncode == 0
    config = domicile.file("web.cfg", guest_config("web", "pv", 1, 128, keys={"pci": [card]}))
    placed = domicile.placement("place", config)
    assert placed["nodes"] == [3]
    assert f"device {card} is on node 3: distance 10" in placed["reasons"]
    intent = domicile.file("ignored.toml", '[devices]\npolicy = "ignored"\n')
    busy = domicile.file("busy.cfg", guest_config("busy", "pv", 2, 128, load=Load(busy=2), keys={"cpus_soft": "6-7"}))
    domicile.placement("create", busy)
    assert domicile.placement("place", config)["nodes"] in ([2], [3]), "at the device, or next to it"
    assert domicile.placement("place", "--config", intent, config)["nodes"] != [3]
    started = domicile.placement("create", config)
    assert share_on(domicile.xen, "web", started["nodes"][0]) >= 0.99
    assert card.removeprefix("0000:") in domicile.xen.run(["xl", "pci-list", "web"]).stdout


def test_two_talkative_guests_are_near_each_other(domicile: Commands) -> None:
    """The emptiest node is drawn by nobody: the second goes beside the first, or next to it, or onto both nodes where
    Dom0 is busy on one of them."""
    intent = domicile.file("near.toml", '[groups.pair]\nkind = "near"\ndomains = ["a", "b"]\nweight = 4.0\n')
    first = domicile.file("a.cfg", guest_config("a", "pvh", 2, 128, load=Load(busy=2), keys={"cpus_soft": "6-7"}))
    second = domicile.file("b.cfg", guest_config("b", "pvh", 2, 128, load=Load(busy=2)))
    assert domicile.placement("create", "--config", intent, first)["nodes"] == [3]
    created = domicile.placement("create", "--config", intent, second)
    assert set(created["nodes"]) <= {2, 3}, created["reasons"]
    assert any(reason.startswith("group pair (near):") for reason in created["reasons"])
    assert share_on(domicile.xen, "b", *created["nodes"]) >= 0.99


@pytest.mark.soak
def test_the_next_goes_beside_the_idle_guest(domicile: Commands) -> None:
    """By their vCPUs the guest on node 1 takes half of what the one on node 2 does; by what they do, all of it."""
    busy = guest_config("busy", "pvh", 1, 128, load=Load(busy=1), keys={"cpus_soft": "2-3"})
    idle = guest_config("idle", "pvh", 2, 128, keys={"cpus_soft": "4-5"})
    for name, text in (("busy", busy), ("idle", idle)):
        domicile.placement("create", domicile.file(f"{name}.cfg", text))
        running_guest(domicile.xen, name).wait_until_ready()
    # the choice is between these two nodes
    config = domicile.file("new.cfg", guest_config("new", "pvh", 1, 128, keys={"cpus": "2-5"}))
    time.sleep(SETTLED_S)
    domicile.placement("place", config)
    time.sleep(SETTLED_S)
    for window in ((), ("--window", "10")):
        placed = domicile.placement("place", *window, config)
        assert placed["nodes"] == [2], placed["reasons"]
        load = next(reason for reason in placed["reasons"] if reason.startswith("CPU load: node 2 has"))
        assert float(load.split()[5]) < 0.7, load
    started = domicile.placement("create", config)
    assert started["nodes"] == [2]
    assert share_on(domicile.xen, "new", 2) >= 0.99
