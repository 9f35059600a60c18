"""Machines from Linux `/sys`: small trees made here, each with one thing that is odd."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domicile.errors import BadInput
from domicile.topology.bitmaps import mask_of
from domicile.topology.check import slit_problem
from domicile.topology.model import MemoryKind, Topology
from domicile.topology.sysfs import read_sysfs

CPU = "sys/devices/system/cpu"
NODE = "sys/devices/system/node"
PCI = "sys/bus/pci/devices"

Files = dict[str, str]
"""Path to content; a content that begins with `->` is a link."""


def cpu_files(cpu: int, *, package: int = 0, core: int | str = 0, siblings: int | None = None, **more: str) -> Files:
    folder = f"{CPU}/cpu{cpu}/topology"
    return {
        f"{folder}/physical_package_id": f"{package}\n",
        f"{folder}/core_id": f"{core}\n",
        f"{folder}/thread_siblings": f"{1 << cpu if siblings is None else siblings:08x}\n",
        **{f"{folder}/{name}": text for name, text in more.items()},
    }


def node_files(node: int, cpus: int, distance: str = "", total_kib: int = 2 << 20, free_kib: int = 1 << 20) -> Files:
    folder = f"{NODE}/node{node}"
    files = {
        f"{folder}/cpumap": f"{cpus:08x}\n",
        f"{folder}/meminfo": f"Node {node} MemTotal:  {total_kib} kB\nNode {node} MemFree:   {free_kib} kB\n",
    }
    return files | ({f"{folder}/distance": distance + "\n"} if distance else {})


def pci_files(address: str, node: int | None = None, cpus: str = "", at: str = "0000:00") -> Files:
    home = f"sys/devices/pci{at}/{address}"
    files = {f"{PCI}/{address}": f"->../../../devices/pci{at}/{address}", f"{home}/vendor": "0x8086\n"}
    if node is not None:
        files[f"{home}/numa_node"] = f"{node}\n"
    if cpus:
        files[f"{home}/local_cpus"] = cpus + "\n"
    return files | {f"{home}/device": "0x10fb\n", f"{home}/class": "0x020000\n"}


def two_nodes() -> Files:
    """Two nodes, two cores of two threads on each."""
    files = {f"{CPU}/online": "0-7\n", f"{NODE}/online": "0-1\n"}
    for cpu in range(8):
        core = cpu // 2
        files |= cpu_files(cpu, package=cpu // 4, core=core % 2, siblings=0b11 << 2 * core)
    return files | node_files(0, 0x0F, "10 21") | node_files(1, 0xF0, "21 10")


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("->"):
            path.symlink_to(text[2:])
        else:
            path.write_text(text)
    return root


def pack(path: Path, files: Mapping[str, str], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            if text.startswith("->"):
                info.type = tarfile.SYMTYPE
                info.linkname = text[2:]
                archive.addfile(info)
            else:
                data = text.encode()
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path


def read(root: Path, files: Mapping[str, str]) -> Topology:
    """Read the tree as a folder and as a tar; both must agree."""
    found = read_sysfs(write(root / "tree", files), "here")
    assert read_sysfs(pack(root / "tree.tar", {f"top/{name}": text for name, text in files.items()}), "here") == found
    return found


def refused(root: Path, files: Mapping[str, str]) -> str:
    with pytest.raises(BadInput) as caught:
        read_sysfs(write(root / "tree", files), "here")
    with pytest.raises(BadInput) as again:
        read_sysfs(pack(root / "tree.tar", files), "here")
    assert str(caught.value) == str(again.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def cores(machine: Topology) -> set[frozenset[int]]:
    groups: dict[tuple[int | None, ...], set[int]] = {}
    for cpu in machine.cpus:
        groups.setdefault((cpu.socket, cpu.node, cpu.core), set()).add(cpu.id)
    return {frozenset(group) for group in groups.values()}


def test_a_plain_machine(tmp_path: Path) -> None:
    machine = read(tmp_path, two_nodes() | {"sys/class/dmi/id/product_name": "Box\x1b[31m 9\n"})
    assert machine.node_ids == (0, 1)
    assert [(node.memory_mib, node.free_mib, node.kind) for node in machine.nodes] == [
        (2048, 1024, MemoryKind.DRAM)
    ] * 2
    assert machine.cpus_by_node == {0: (0, 1, 2, 3), 1: (4, 5, 6, 7)}
    assert cores(machine) == {frozenset({cpu, cpu + 1}) for cpu in range(0, 8, 2)}
    assert [cpu.socket for cpu in machine.cpus] == [0] * 4 + [1] * 4
    assert machine.distances == ((10, 21), (21, 10))
    assert (machine.name, machine.notes, machine.offline_cpus) == ("Box[31m 9", (), ())


@pytest.mark.parametrize("where", ["", "sys", "one/down", "one"])
def test_where_the_tree_may_be(tmp_path: Path, where: str) -> None:
    files = two_nodes() | {"proc/meminfo": "MemTotal: 1 kB\n"}
    if where == "":
        root = write(tmp_path / "root", files)
    elif where == "sys":
        root = write(tmp_path / "root", files) / "sys"
    elif where == "one":
        root = write(tmp_path / "root", {f"one/{name}": text for name, text in files.items()})
    else:
        root = write(tmp_path / "root", {name.replace("sys/", "copy/", 1): text for name, text in files.items()})
    assert read_sysfs(root, "here").node_ids == (0, 1)


def test_two_trees_are_ambiguous(tmp_path: Path) -> None:
    files = {f"{machine}/{name}": text for machine in ("a", "b") for name, text in two_nodes().items()}
    assert "2 /sys trees in it (a/sys, b/sys)" in refused(tmp_path, files)


def test_no_tree(tmp_path: Path) -> None:
    assert "no sys/devices/system" in refused(tmp_path, {"etc/passwd": "root\n"})
    for path in (tmp_path / "missing", tmp_path / "pipe"):
        if path.name == "pipe":
            os.mkfifo(path)
        with pytest.raises(BadInput, match=r"no such file|neither a folder nor a file"):
            read_sysfs(path, "it")


def test_links_lead_nowhere_outside(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", two_nodes())
    write(tmp_path / "tree", {"sys": f"->{outside}/sys"})
    with pytest.raises(BadInput, match="no sys/devices/system"):
        read_sysfs(tmp_path / "tree", "tree")
    stolen = two_nodes() | {f"{NODE}/node1/meminfo": f"->{outside}/{NODE}/node0/meminfo"}
    assert read(tmp_path / "x", stolen).node(1).memory_mib == 0


def test_gaps_in_ids_and_nodes_without_cpus_or_memory(tmp_path: Path) -> None:
    files = {f"{CPU}/online": "3,9\n"} | cpu_files(3) | cpu_files(9, package=1)
    files |= node_files(2, 1 << 3, "10 20 30 40") | node_files(5, 1 << 9, "20 10 40 30", total_kib=0)
    files |= node_files(7, 0, "30 40 10 50") | node_files(255, 0, "40 30 50 10", total_kib=300, free_kib=0)
    machine = read(tmp_path, files)
    assert machine.cpus_by_node == {2: (3,), 5: (9,), 7: (), 255: ()}
    assert [node.memory_mib for node in machine.nodes] == [2048, 0, 2048, 1]
    assert machine.distance(5, 7) == 40


def test_offline_cpus_by_the_list(tmp_path: Path) -> None:
    files = two_nodes() | {f"{CPU}/online": "0-1,4-7\n", f"{CPU}/possible": "0-63\n"}
    machine = read(tmp_path, files)
    assert machine.offline_cpus == (2, 3)
    assert machine.cpus_by_node[0] == (0, 1)
    assert machine.notes == ()


def test_offline_cpus_without_a_list(tmp_path: Path) -> None:
    files = {name: text for name, text in two_nodes().items() if name != f"{CPU}/online"}
    files = {name: text for name, text in files.items() if not name.startswith(f"{CPU}/cpu3/")}
    files |= {
        f"{CPU}/cpu1/online": "0\n",
        f"{CPU}/cpu3/crash_notes": "0\n",
        f"{CPU}/cpufreq/x": "",
        f"{CPU}/cpu2/online": "1\n",
    }
    assert read(tmp_path, files).offline_cpus == (1, 3)


def test_a_sibling_that_is_offline_is_no_sibling(tmp_path: Path) -> None:
    machine = read(tmp_path, two_nodes() | {f"{CPU}/online": "0,2-7\n"})
    assert frozenset({0}) in cores(machine)


def test_core_ids_that_repeat_over_dies(tmp_path: Path) -> None:
    files = node_files(0, 0xFF) | {f"{CPU}/online": "0-7\n"}
    for cpu in range(8):
        files |= cpu_files(cpu, core=cpu % 2, siblings=1 << cpu % 4 | 1 << cpu % 4 + 4, die_id=f"{cpu % 4 // 2}\n")
    machine = read(tmp_path, files)
    assert cores(machine) == {frozenset({cpu, cpu + 4}) for cpu in range(4)}
    assert any("counted anew" in note for note in machine.notes)


def test_core_ids_without_siblings(tmp_path: Path) -> None:
    files = node_files(0, 0xF) | {f"{CPU}/online": "0-3\n"}
    for cpu in range(4):
        files |= cpu_files(cpu, core=cpu // 2)
        del files[f"{CPU}/cpu{cpu}/topology/thread_siblings"]
    assert cores(read(tmp_path, files)) == {frozenset({0, 1}), frozenset({2, 3})}


def test_unknown_cores_and_packages(tmp_path: Path) -> None:
    files = node_files(0, 0x3) | {f"{CPU}/cpu0/topology/x": "", f"{CPU}/cpu1/topology/x": ""}
    machine = read(tmp_path, files)
    assert [(cpu.core, cpu.socket) for cpu in machine.cpus] == [(None, None)] * 2
    files = node_files(0, 0x3) | cpu_files(0, package=-1, core=-1) | cpu_files(1, package=-1, core=4294967295)
    machine = read(tmp_path / "x", files)
    assert [cpu.socket for cpu in machine.cpus] == [None, None]
    assert len(cores(machine)) == 2


def test_amd_compute_units_are_two_cores(tmp_path: Path) -> None:
    files = node_files(0, 0x3) | cpu_files(0, core=0, siblings=3) | cpu_files(1, core=1, siblings=3)
    assert len(cores(read(tmp_path, files))) == 1
    files["proc/cpuinfo"] = "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 21\nmodel\t\t: 1\n"
    assert len(cores(read(tmp_path / "x", files))) == 2


def test_no_numa_in_the_kernel(tmp_path: Path) -> None:
    files = {name: text for name, text in two_nodes().items() if not name.startswith(NODE)}
    machine = read(tmp_path, files | {"proc/meminfo": "MemTotal:  4194304 kB\nMemFree:  1048576 kB\n"})
    assert [(node.id, node.memory_mib, node.free_mib) for node in machine.nodes] == [(0, 4096, 1024)]
    assert machine.cpus_by_node[0] == tuple(range(8))
    assert "no NUMA nodes" in machine.notes[0]
    assert any("memory is not told" in note for note in read(tmp_path / "x", files).notes)


def test_a_linux_under_xen_says_so(tmp_path: Path) -> None:
    machine = read(tmp_path, two_nodes() | {"sys/hypervisor/type": "xen\n"})
    assert "xl info -n" in machine.notes[0]


def test_made_up_nodes_are_said_to_be(tmp_path: Path) -> None:
    machine = read(tmp_path, two_nodes() | {"proc/cmdline": "quiet numa=fake=2U\n", f"{CPU}/cpu01/x": ""})
    assert "numa=fake" in machine.notes[0]
    assert len(machine.cpus) == 8


def test_overlapping_nodes(tmp_path: Path) -> None:
    files = two_nodes() | node_files(0, 0xFF, "10 10") | node_files(1, 0xFF, "10 10")
    machine = read(tmp_path, files)
    assert machine.cpus_by_node == {0: tuple(range(8)), 1: ()}
    assert [node.memory_mib for node in machine.nodes] == [2048, 2048]
    assert machine.distances is None
    assert len(machine.notes) == 2


def test_cpus_that_are_absent_and_cpus_on_no_node(tmp_path: Path) -> None:
    machine = read(tmp_path, two_nodes() | {f"{NODE}/node0/cpumap": "f0000007\n"})
    assert machine.cpus_by_node[0] == (0, 1, 2)
    assert machine.cpus[3].node is None
    assert any("CPUs 3 are on no node" in note for note in machine.notes)
    assert any("CPUs 28-31 are listed by nodes but have no files" in note for note in machine.notes)


def test_lists_that_disagree_with_the_folders(tmp_path: Path) -> None:
    machine = read(tmp_path, two_nodes() | {f"{NODE}/online": "0,3\n", f"{CPU}/online": "0-9\n"})
    assert machine.node_ids == (0, 1)
    assert len(machine.cpus) == 8
    assert [note.partition(" are ")[0] for note in machine.notes] == ["CPUs 8-9", "nodes 3", "nodes 1 have files but"]


def test_a_node_whose_cpus_are_only_links(tmp_path: Path) -> None:
    files = two_nodes() | {f"{NODE}/node1/cpulist": "4-6\n", f"{NODE}/node0/cpu2": "->../../cpu/cpu2"}
    del files[f"{NODE}/node0/cpumap"], files[f"{NODE}/node1/cpumap"]
    assert read(tmp_path, files).cpus_by_node == {0: (2,), 1: (4, 5, 6)}


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        (("10 20 30", "20 10 30"), "3 in a line for 2 nodes"),
        (("10 21", "21 12"), "from itself"),
        (("10 0", "0 10"), "0 is no distance"),
        (("10 10", "10 10"), "as near as the node itself"),
        (("10 21", ""), "only 1 of 2 nodes"),
    ],
)
def test_bogus_distances_are_dropped(tmp_path: Path, rows: tuple[str, str], note: str) -> None:
    files = two_nodes() | {f"{NODE}/node{node}/distance": row for node, row in enumerate(rows)}
    machine = read(tmp_path, files)
    assert machine.distances is None
    assert any(note in line for line in machine.notes)


def test_no_distances_at_all(tmp_path: Path) -> None:
    files = {name: text for name, text in two_nodes().items() if not name.endswith("distance")}
    machine = read(tmp_path, files)
    assert (machine.distances, machine.notes) == (None, ())


def tiers() -> Files:
    """Two nodes with CPUs, and one memory of each other sort."""
    files = two_nodes()
    figures = {0: (100, 1000), 1: (100, 1000), 2: (120, 4000), 3: (250, 500), 4: (350, 300)}
    for node, (latency, bandwidth) in figures.items():
        files |= node_files(node, (0x0F, 0xF0, 0, 0, 0)[node])
        access = f"{NODE}/node{node}/access1/initiators"
        files |= {f"{access}/read_latency": f"{latency}\n", f"{access}/write_latency": f"{latency + 10}\n"}
        files |= {f"{access}/read_bandwidth": f"{bandwidth}\n", f"{access}/write_bandwidth": "0\n"}
        files[f"{access}/node{node % 2}"] = f"->../../../node{node % 2}"
    homes = {
        2: "platform/hmem.0/dax0.0",
        3: "platform/ACPI0017:00/root0/decoder0.0/region0/dax_region0/dax1.0",
        4: "LNXSYSTM:00/ACPI0012:00/ndbus0/region1/dax2.0",
    }
    for node, home in homes.items():
        device = home.rpartition("/")[2]
        files |= {
            f"sys/devices/{home}/target_node": f"{node}\n",
            f"sys/bus/dax/devices/{device}": f"->../../../devices/{home}",
            f"sys/bus/dax/drivers/kmem/{device}": f"->../../../../devices/{home}",
        }
    return files | {f"{NODE}/online": "0-4\n"}


def test_memory_tiers(tmp_path: Path) -> None:
    machine = read(tmp_path, tiers())
    kinds = [MemoryKind.DRAM, MemoryKind.DRAM, MemoryKind.HBM, MemoryKind.CXL, MemoryKind.PERSISTENT]
    assert [node.kind for node in machine.nodes] == kinds
    assert machine.latency_ns is not None
    assert machine.latency_ns[0] == (105.0, None, 125.0, None, 355.0)
    assert machine.latency_ns[2] == (None,) * 5
    assert machine.bandwidth_gbs is not None
    assert machine.bandwidth_gbs[1][3] == pytest.approx(500 * 1.048576 / 1000)


def test_special_memory_that_nothing_explains(tmp_path: Path) -> None:
    files = {name: text for name, text in tiers().items() if "/access1/" not in name}
    assert read(tmp_path, files).nodes[2].kind is MemoryKind.OTHER


def test_a_generic_initiator_is_no_cpu(tmp_path: Path) -> None:
    files = two_nodes() | node_files(4, 0, total_kib=0)
    for access, initiator, latency in (("access0", 4, 50), ("access1", 0, 90)):
        folder = f"{NODE}/node1/{access}/initiators"
        files |= {f"{folder}/read_latency": f"{latency}\n", f"{folder}/node{initiator}": f"->../../../node{initiator}"}
    machine = read(tmp_path, files)
    assert machine.latency_ns is not None
    assert machine.latency_ns[0][1] == 90
    assert sum(figure is not None for row in machine.latency_ns for figure in row) == 1


def test_memory_tiers_of_the_kernel(tmp_path: Path) -> None:
    files = two_nodes() | {f"{NODE}/online": "0-3\n"} | node_files(2, 0) | node_files(3, 0)
    tier = "sys/devices/virtual/memory_tiering/memory_tier"
    files |= {f"{tier}4/nodelist": "0-1\n", f"{tier}2/nodelist": "2\n", f"{tier}9/nodelist": "3\n"}
    assert [node.kind for node in read(tmp_path, files).nodes[2:]] == [MemoryKind.HBM, MemoryKind.OTHER]
    files |= {"sys/bus/cxl/devices/mem0": "->../../../devices/x"}
    assert read(tmp_path / "x", files).nodes[3].kind is MemoryKind.CXL


def test_a_gpus_memory_and_a_side_cache(tmp_path: Path) -> None:
    files = two_nodes() | {f"{NODE}/online": "0-1,255\n"} | node_files(255, 0)
    files["proc/driver/nvidia/gpus/0004:05:00.0/numa_status"] = "Node: 255\nStatus: online\n"
    files[f"{NODE}/node1/memory_side_cache/index1/size"] = f"{3 << 30}\n"
    machine = read(tmp_path, files)
    assert machine.node(255).kind is MemoryKind.OTHER
    assert machine.node(1).memory_side_cache_mib == 3072


def test_knights_landing(tmp_path: Path) -> None:
    files = two_nodes() | {f"{NODE}/online": "0-2\n"} | node_files(2, 0)
    files["proc/cpuinfo"] = "vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 87\n"
    assert read(tmp_path, files).node(2).kind is MemoryKind.HBM


def test_devices(tmp_path: Path) -> None:
    files = two_nodes() | pci_files("0000:01:00.0", 1) | pci_files("0000:02:00.1", -1, "000000f0")
    files |= pci_files("0000:03:00.0", -1, "000000ff") | pci_files("10000:00:02.0", None, "0000000c")
    files |= pci_files("0000:04:00.0", 7, "0000000f") | {f"{PCI}/power/x": ""}
    machine = read(tmp_path, files)
    assert {device.address: device.node for device in machine.devices} == {
        "0000:01:00.0": 1,
        "0000:02:00.1": 1,
        "0000:03:00.0": None,
        "10000:00:02.0": 0,
        "0000:04:00.0": 0,
    }
    assert machine.devices[0].name == "network 8086:10fb"
    assert machine.notes == ("devices are said to be on nodes 7, which are not online",)


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        (f"{CPU}/online", "0-4294967295", f"{CPU}/online"),
        (f"{CPU}/online", "zero", f"{CPU}/online"),
        (f"{CPU}/cpu99999999/topology/core_id", "0", f"{CPU}/cpu99999999"),
        (f"{CPU}/cpu0/topology/core_id", "one", f"{CPU}/cpu0/topology/core_id"),
        (f"{CPU}/cpu0/topology/thread_siblings", "0,f" * 9000, f"{CPU}/cpu0/topology/thread_siblings"),
        (f"{CPU}/cpu0/topology/thread_siblings", "q", f"{CPU}/cpu0/topology/thread_siblings"),
        (f"{NODE}/node0/cpumap", "xyz", f"{NODE}/node0/cpumap"),
        (f"{NODE}/node0/cpumap", "f" * 70000, f"{NODE}/node0/cpumap"),
        (f"{NODE}/node0/meminfo", "Node 0 MemFree: 1 kB", f"{NODE}/node0/meminfo"),
        (f"{NODE}/node0/meminfo", "Node 0 MemTotal: " + "9" * 18 + " kB", f"{NODE}/node0/meminfo"),
        (f"{NODE}/node0/distance", "10 x", f"{NODE}/node0/distance"),
        (f"{NODE}/node9999/cpumap", "0", f"{NODE}/node9999"),
        (f"{NODE}/online", "0-99999", f"{NODE}/online"),
    ],
)
def test_garbled_files_are_named(tmp_path: Path, name: str, text: str, place: str) -> None:
    assert place in refused(tmp_path, two_nodes() | {name: text})


def test_a_tree_without_cpus(tmp_path: Path) -> None:
    assert "no CPUs" in refused(tmp_path, node_files(0, 1))


def require_sound(machine: Topology) -> None:
    nodes = set(machine.node_ids)
    cpus = [cpu.id for cpu in machine.cpus]
    assert list(machine.node_ids) == sorted(nodes)
    assert cpus == sorted(set(cpus))
    assert not set(machine.offline_cpus) & set(cpus)
    assert {cpu.node for cpu in machine.cpus} <= nodes | {None}
    assert {device.node for device in machine.devices} <= nodes | {None}
    assert machine.distances is None or slit_problem(machine.distances, len(nodes)) is None
    assert not any("\n" in note for note in machine.notes)


junk = st.sampled_from(
    [
        "",
        "\n",
        "0",
        "-1",
        "0-3",
        "3-0",
        "0-99999999",
        "ffffffff,ffffffff",
        "f" * 99,
        "10 20",
        "10 x",
        "\0",
        "é",
        "Node 0",
    ]
) | st.text(alphabet="0123456789abcdef,- \n", max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=120)
@given(data=st.data())
def test_garbled_trees_are_read_soundly_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    files = tiers() | pci_files("0000:01:00.0", 1) | pci_files("0000:02:00.1", -1, "000000f0")
    names = st.sampled_from(sorted(files))
    for name in data.draw(st.lists(names, max_size=4)):
        files[name] = data.draw(junk)
    for name in data.draw(st.lists(names, max_size=6)):
        files.pop(name, None)
    for name in data.draw(st.lists(names, max_size=2)):
        if name in files:
            files[name] = "->" + data.draw(st.sampled_from([".", "..", "/", "x", "/etc/passwd", f"../../{name}", name]))
    with contextlib.suppress(BadInput):
        require_sound(read_sysfs(pack(tmp_path / "tree.tar", files, "w"), "tree.tar"))


@st.composite
def machines(draw: st.DrawFn) -> tuple[Files, dict[int, int], list[int], set[frozenset[int]]]:
    """A consistent machine: its files, each CPU's node, the offline CPUs and the cores."""
    ids = draw(st.lists(st.integers(0, 300), min_size=1, max_size=5, unique=True).map(sorted))
    cpus = draw(st.lists(st.integers(0, 200), min_size=1, max_size=16, unique=True))
    offline = draw(st.sets(st.sampled_from(cpus), max_size=len(cpus) - 1))
    files: Files = {f"{CPU}/online": ",".join(str(cpu) for cpu in cpus if cpu not in offline)}
    owner: dict[int, int] = {}
    threads: set[frozenset[int]] = set()
    while cpus:
        size = draw(st.integers(1, 2))
        core, cpus = cpus[:size], cpus[size:]
        node = draw(st.sampled_from(ids))
        core_id = draw(st.integers(0, 2))
        for cpu in core:
            files |= cpu_files(cpu, core=core_id)
            siblings = f"{mask_of(core):0256b}"
            groups = [f"{int(siblings[at : at + 32], 2):08x}" for at in range(0, 256, 32)]
            files[f"{CPU}/cpu{cpu}/topology/thread_siblings"] = ",".join(groups)
            owner[cpu] = node
        threads.add(frozenset(core) - offline)
    for node in ids:
        mine = f"{mask_of(cpu for cpu, its in owner.items() if its == node):0256b}"
        files |= node_files(node, 0, total_kib=draw(st.integers(0, 1 << 30)))
        files[f"{NODE}/node{node}/cpumap"] = ",".join(f"{int(mine[at : at + 32], 2):08x}" for at in range(0, 256, 32))
    online = {cpu: node for cpu, node in owner.items() if cpu not in offline}
    return files, online, sorted(offline), threads - {frozenset()}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(made=machines())
def test_any_machine_comes_back(
    tmp_path: Path, made: tuple[Files, dict[int, int], list[int], set[frozenset[int]]]
) -> None:
    files, owner, offline, threads = made
    machine = read_sysfs(pack(tmp_path / "tree.tar", files, "w"), "tree.tar")
    require_sound(machine)
    assert {cpu.id: cpu.node for cpu in machine.cpus} == owner
    assert list(machine.offline_cpus) == offline
    assert cores(machine) == threads
    assert set(map(str, machine.node_ids)) == {
        name.split("node")[-1].partition("/")[0] for name in files if name.startswith(f"{NODE}/node")
    }


def test_this_machine() -> None:
    root = Path("/sys")
    if not (root / "devices/system/cpu/online").exists():
        pytest.skip("no /sys with CPUs here")
    machine = read_sysfs(root, "/sys")
    require_sound(machine)
    online = (root / "devices/system/cpu/online").read_text()
    assert machine.cpus[0].id == int(online.replace("-", ",").split(",")[0])
