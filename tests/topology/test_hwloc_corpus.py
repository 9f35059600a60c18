"""The hwloc project's own recordings (README of the shared data): /sys trees and XML of real and of fake machines.

Expected figures come from the recordings themselves, read here in other ways than the readers do, and from what hwloc's
own tests expect of them.
"""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from domicile.errors import BadInput
from domicile.topology.hwloc_xml import read_hwloc_xml
from domicile.topology.model import MemoryKind, Topology
from domicile.topology.sysfs import read_sysfs

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("DOMICILE_SHARED_DATA", ROOT.parent / "shared" / "data")) / "hwloc"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no recordings of hwloc in {DATA}")

# nodes, CPUs online, CPUs offline, cores, whether there is a SLIT, PCI devices
TREES = {
    "128ia64-17n4s2c": (17, 128, 0, 128, True, 0),
    "16amd64-8n2c": (8, 16, 0, 16, True, 0),
    "16em64t-4s2c2t-offlines": (1, 12, 4, 7, True, 0),
    "40intel64-2g2n4c+pcilocality": (4, 40, 0, 40, True, 37),
    "48amd64-4pa2n6c-sparse": (8, 48, 0, 48, True, 0),
    "64amd64-4s2n4ca2co": (8, 64, 0, 64, True, 0),
    "8em64t-2s2ca2c-buggynuma": (8, 8, 0, 8, False, 0),
    "8ia64-2n2s2c": (2, 8, 0, 8, True, 0),
    "96em64t-4no4pa3ca2co": (4, 96, 0, 96, True, 0),
    "memorysidecaches": (4, 80, 0, 40, True, 0),
}
DOCUMENTS = {
    "16amd64-4distances": (8, 16, 0, 16, True, 0),
    "192em64t-24n8c2t": (24, 384, 0, 192, True, 12),
    "24em64t-2n6c2t-pci": (2, 24, 0, 12, True, 9),
    "64intel64-heteromem": (8, 64, 0, 16, False, 0),
    "cxlmem+dax.v2": (1, 4, 0, 4, False, 7),
    "cxlmem+dax.v3": (1, 4, 0, 4, False, 7),
}


def figures(machine: Topology) -> tuple[int, int, int, int, bool, int]:
    return (
        len(machine.nodes),
        len(machine.cpus),
        len(machine.offline_cpus),
        len({(cpu.socket, cpu.node, cpu.core) for cpu in machine.cpus}),
        machine.distances is not None,
        len(machine.devices),
    )


def tree(name: str) -> Path:
    path = DATA / f"{name}.tar.bz2"
    if not path.exists():
        pytest.skip(f"no {path}")
    return path


def document(name: str) -> bytes:
    path = DATA / f"{name}.xml"
    if not path.exists():
        pytest.skip(f"no {path}")
    return path.read_bytes()


@pytest.mark.parametrize("name", sorted(TREES))
def test_trees(name: str) -> None:
    machine = read_sysfs(tree(name), name)
    assert figures(machine) == TREES[name]
    texts: dict[str, str] = {}
    with tarfile.open(tree(name)) as archive:
        for info in archive:
            match = re.search(r"/system/node/(node\d+/(?:meminfo|distance|cpumap))$", info.name)
            file = archive.extractfile(info) if match and info.isreg() else None
            if match and file:
                texts[match[1]] = file.read().decode()
    seen = 0
    for row, node in enumerate(machine.nodes):
        total = re.search(r"MemTotal:\s+(\d+)", texts[f"node{node.id}/meminfo"])
        assert total
        assert node.memory_mib == int(total[1]) // 1024
        listed = int(texts[f"node{node.id}/cpumap"].strip().replace(",", ""), 16)
        assert all(listed >> cpu & 1 for cpu in machine.cpus_by_node[node.id])
        seen += len(machine.cpus_by_node[node.id])
        if machine.distances:
            assert list(machine.distances[row]) == [int(word) for word in texts[f"node{node.id}/distance"].split()]
    assert seen == len(machine.cpus)


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_documents(name: str) -> None:
    data = document(name)
    machine = read_hwloc_xml(data, name)
    assert figures(machine) == DOCUMENTS[name]
    nodes = [one for one in ET.fromstring(data).iter("object") if one.get("type") == "NUMANode"]
    assert machine.node_ids == tuple(sorted(int(one.attrib["os_index"]) for one in nodes))
    for one in nodes:
        found = machine.node(int(one.attrib["os_index"]))
        assert found.memory_mib == int(one.attrib["local_memory"]) >> 20
        # groups that are all zeroes are written as nothing
        groups = one.attrib["cpuset"].replace("0x", "").split(",")
        cpus = int("".join(group.zfill(8) for group in groups), 16)
        assert set(machine.cpus_by_node[found.id]) <= {cpu for cpu in range(512) if cpus >> cpu & 1}


def test_sparse_node_ids() -> None:
    machine = read_sysfs(tree("48amd64-4pa2n6c-sparse"), "it")
    assert machine.node_ids == (0, 1, 2, 33, 34, 45, 72, 73)
    assert machine.cpus_by_node[73] == tuple(range(42, 48))


def test_a_node_without_cpus() -> None:
    machine = read_sysfs(tree("128ia64-17n4s2c"), "it")
    assert machine.cpus_by_node[16] == ()
    assert machine.node(16).memory_mib == 996


def test_offline_cpus() -> None:
    assert read_sysfs(tree("16em64t-4s2c2t-offlines"), "it").offline_cpus == (2, 5, 13, 14)


def test_nodes_that_all_list_all_cpus() -> None:
    machine = read_sysfs(tree("8em64t-2s2ca2c-buggynuma"), "it")
    assert machine.cpus_by_node[0] == tuple(range(8))
    assert [node.memory_mib for node in machine.nodes] == [2047, 2047, *[2048] * 6]
    assert any("listed by several nodes" in note for note in machine.notes)
    assert any("distances dropped" in note for note in machine.notes)


def test_memory_side_caches() -> None:
    machine = read_sysfs(tree("memorysidecaches"), "it")
    assert [node.memory_side_cache_mib for node in machine.nodes] == [96 << 10] * 4


def test_devices_of_a_tree() -> None:
    machine = read_sysfs(tree("40intel64-2g2n4c+pcilocality"), "it")
    assert {device.node for device in machine.devices} >= {None}
    assert machine.devices[0].name == "bridge 8086:3407"


def test_memories_beside_the_same_cpus() -> None:
    machine = read_hwloc_xml(document("64intel64-heteromem"), "it")
    assert [node.kind for node in machine.nodes] == [MemoryKind.DRAM] * 4 + [MemoryKind.HBM] * 4
    assert [len(machine.cpus_by_node[node.id]) for node in machine.nodes] == [16] * 4 + [0] * 4
    assert machine.bandwidth_gbs is not None
    assert machine.bandwidth_gbs[0][7] == pytest.approx(90000 * 1.048576 / 1000)
    assert machine.bandwidth_gbs[0][4] is None


def test_versions_agree() -> None:
    old = read_hwloc_xml(document("cxlmem+dax.v2"), "it")
    assert old == read_hwloc_xml(document("cxlmem+dax.v3"), "it")


def test_devices_of_a_document() -> None:
    machine = read_hwloc_xml(document("24em64t-2n6c2t-pci"), "it")
    assert {device.address: device.node for device in machine.devices}["0000:06:00.0"] == 0
    assert {device.node for device in machine.devices} == {0, 1}


@pytest.mark.parametrize("name", ["8ia64-2n2s2c", "48amd64-4pa2n6c-sparse"])
def test_folder_and_tar_are_the_same(tmp_path: Path, name: str) -> None:
    subprocess.run(["tar", "xf", str(tree(name)), "-C", str(tmp_path)], check=True)
    assert read_sysfs(tmp_path, "it") == read_sysfs(tree(name), "it")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_recordings_cut_short(tmp_path: Path, share: float) -> None:
    path = tmp_path / "cut.tar.bz2"
    whole = tree("8ia64-2n2s2c").read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(BadInput, match="cut short"):
        read_sysfs(path, "cut.tar.bz2")
    text = document("24em64t-2n6c2t-pci")
    with pytest.raises(BadInput, match="no well-formed XML"):
        read_hwloc_xml(text[: int(len(text) * share)], "cut.xml")
