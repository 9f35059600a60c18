"""The PCI devices behind bridges and disks, from a tree like Linux's /sys."""

from __future__ import annotations

from pathlib import Path

import pytest

from domicile.hosts.xen.dom0.agent import devices
from domicile.state.model import Snapshot
from domicile.topology.model import Topology

CARD = "devices/pci0000:40/0000:40:01.0/0000:41:00.0"
HBA = "devices/pci0000:80/0000:80:01.0/0000:81:00.0"


@pytest.fixture
def sys_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """xenbr0 over a bond of eth0 and a guest's port; an internal bridge; two volumes on sda, one by way of a mirror."""

    def made(path: str, at: str) -> Path:
        (tmp_path / path).mkdir(parents=True, exist_ok=True)
        link = tmp_path / "class" / at
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(tmp_path / path)
        return tmp_path / path

    def inside(folder: Path, *names: str) -> None:
        for name in names:
            (folder / name).mkdir(parents=True)

    made(f"{CARD}/net/eth0", "net/eth0")
    inside(made("devices/virtual/net/bond0", "net/bond0"), "lower_eth0")
    inside(made("devices/virtual/net/xenbr0", "net/xenbr0"), "bridge", "brif/vif1.0", "brif/bond0")
    inside(made("devices/virtual/net/inner", "net/inner"), "bridge", "brif/vif1.1")
    made(f"{HBA}/ata1/host0/block/sda", "block/sda")
    made(f"{HBA}/ata1/host0/block/sda/sda1", "block/sda1")
    for number, name, below in ((0, "mirror", "sda1"), (1, "vg-web", "dm-0"), (2, "vg-a--b", "sda1")):
        folder = made(f"devices/virtual/block/dm-{number}", f"block/dm-{number}")
        inside(folder, f"slaves/{below}", "dm")
        (folder / "dm" / "name").write_text(f"{name}\n")
    made("devices/virtual/block/loop0", "block/loop0")
    monkeypatch.setattr(devices, "SYS_DIR", str(tmp_path))
    return tmp_path


def test_bridges_and_disks_lead_to_their_devices(sys_tree: Path) -> None:
    assert sys_tree.is_dir()
    hba = "0000:81:00.0"
    volumes = dict.fromkeys(("/dev/mapper/mirror", "/dev/mapper/vg-web", "/dev/mapper/vg-a--b"), hba)
    assert devices.backing() == {"xenbr0": "0000:41:00.0", "/dev/sda": hba, "/dev/sda1": hba} | volumes


def test_no_tree_no_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "SYS_DIR", str(tmp_path / "nothing"))
    assert devices.backing() == {}


def test_a_volume_is_known_by_both_names(sys_tree: Path) -> None:
    assert sys_tree.is_dir()
    snapshot = Snapshot(Topology((), (), None), (), 0.0, backing=devices.backing())
    for name in ("/dev/vg/a-b", "/dev/mapper/vg-a--b", "/dev/vg/web", "/dev/sda"):
        assert snapshot.backing_device(name) == "0000:81:00.0"
    assert snapshot.backing_device("/dev/vg/none") is None
    assert snapshot.backing_device("xenbr0") == "0000:41:00.0"
    assert snapshot.backing_device("xenbr1") is None
