"""Machines from hwloc's XML: small documents made here, in the three versions of the format."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.errors import BadInput
from domicile.topology.check import slit_problem
from domicile.topology.hwloc_xml import read_hwloc_xml
from domicile.topology.model import MemoryKind, Topology

DOCTYPE = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE topology SYSTEM "hwloc2.dtd">\n'


def pu(cpu: int) -> str:
    return f'<object type="PU" os_index="{cpu}" cpuset="0x{1 << cpu:x}"/>'


def core(*cpus: int, index: int = 0) -> str:
    return f'<object type="Core" os_index="{index}">{"".join(map(pu, cpus))}</object>'


def node(index: int, cpus: int, inside: str = "", memory: int = 1 << 30, **more: str) -> str:
    attributes = "".join(f' {name}="{value}"' for name, value in more.items())
    return (
        f'<object type="NUMANode" os_index="{index}" cpuset="0x{cpus:x}" nodeset="0x{1 << index:x}"'
        f' gp_index="{100 + index}" local_memory="{memory}"{attributes}>{inside}</object>'
    )


def package(index: int, inside: str) -> str:
    return f'<object type="Package" os_index="{index}">{inside}</object>'


def document(inside: str, *, cpus: int, version: str = "3.0", root: str = "", beside: str = "") -> bytes:
    shown = f' version="{version}"' if version else ""
    return (
        f'{DOCTYPE}<topology{shown}><object type="Machine" os_index="0" cpuset="0x{cpus:x}"{root}>{inside}</object>'
        f"{beside}</topology>"
    ).encode()


def two_nodes(version: str = "3.0", beside: str = "", root: str = "") -> bytes:
    """Two packages with a node each, two cores of two threads on each."""
    parts = []
    for index in (0, 1):
        first = 4 * index
        cores = core(first, first + 1, index=0) + core(first + 2, first + 3, index=1)
        mask = 0xF << first
        parts.append(package(index, node(index, mask) + cores) if version else node(index, mask, package(index, cores)))
    return document("".join(parts), cpus=0xFF, version=version, beside=beside, root=root)


def matrix(*rows: str, ids: str = "0 1", kind: str = "NUMANode", means: int = 5, indexing: str = "os") -> str:
    values = "".join(f'<u64values length="9">{row} </u64values>' for row in rows)
    return (
        f'<distances2 type="{kind}" nbobjs="{len(ids.split())}" kind="{means}" indexing="{indexing}">'
        f'<indexes length="3">{ids} </indexes>{values}</distances2>'
    )


def v1_matrix(*values: float, count: int = 2, depth: int = 1, base: float = 10) -> str:
    latencies = "".join(f'<latency value="{value:.6f}"/>' for value in values)
    return f'<distances nbobjs="{count}" relative_depth="{depth}" latency_base="{base:.6f}">{latencies}</distances>'


def read(data: bytes) -> Topology:
    return read_hwloc_xml(data, "some.xml")


def refused(data: bytes) -> str:
    with pytest.raises(BadInput) as caught:
        read(data)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("some.xml: ")
    return str(caught.value)


def cores(machine: Topology) -> set[frozenset[int]]:
    groups: dict[tuple[int | None, ...], set[int]] = {}
    for cpu in machine.cpus:
        groups.setdefault((cpu.socket, cpu.node, cpu.core), set()).add(cpu.id)
    return {frozenset(group) for group in groups.values()}


@pytest.mark.parametrize("version", ["", "2.0", "3.0"])
def test_a_plain_machine(version: str) -> None:
    machine = read(two_nodes(version))
    assert [(one.id, one.memory_mib, one.free_mib, one.kind) for one in machine.nodes] == [
        (0, 1024, None, MemoryKind.DRAM),
        (1, 1024, None, MemoryKind.DRAM),
    ]
    assert machine.cpus_by_node == {0: (0, 1, 2, 3), 1: (4, 5, 6, 7)}
    assert cores(machine) == {frozenset({cpu, cpu + 1}) for cpu in range(0, 8, 2)}
    assert [cpu.socket for cpu in machine.cpus] == [0] * 4 + [1] * 4
    assert (machine.distances, machine.notes, machine.offline_cpus) == (None, (), ())


def test_versions_that_are_not_known() -> None:
    assert "'4.0'" in refused(two_nodes("4.0"))
    assert "known are 1 to 3" in refused(two_nodes("x"))


def test_gaps_cpuless_and_memoryless_nodes() -> None:
    inside = package(3, node(7, 1 << 9, memory=0) + core(9)) + package(5, node(2, 1 << 4, memory=300) + core(4))
    inside += '<object type="Group" cpuset="0x0">' + node(40, 0) + "</object>"
    machine = read(document(inside, cpus=1 << 9 | 1 << 4))
    assert machine.cpus_by_node == {2: (4,), 7: (9,), 40: ()}
    assert [one.memory_mib for one in machine.nodes] == [1, 0, 1024]


def test_v1_without_nodes_has_its_memory_on_the_machine() -> None:
    data = document(package(0, core(0, 1)), cpus=3, version="", root=' local_memory="4294967296"')
    machine = read(data)
    assert [(one.id, one.memory_mib) for one in machine.nodes] == [(0, 4096)]
    assert "no NUMA nodes" in machine.notes[0]


def test_v1_root_that_is_a_node() -> None:
    data = (DOCTYPE + f"<topology>{node(0, 3, core(0, 1))}</topology>").encode()
    assert read(data).cpus_by_node == {0: (0, 1)}


def test_v1_offline_and_unseen_cpus() -> None:
    root = ' complete_cpuset="0x1ff" online_cpuset="0xdf" allowed_cpuset="0x0f"'
    machine = read(two_nodes("", root=root))
    assert machine.offline_cpus == (5, 8)
    assert [cpu.id for cpu in machine.cpus] == [0, 1, 2, 3, 4, 6, 7]
    assert any("not allowed to use CPUs 4,6-7: kept" in note for note in machine.notes)
    machine = read(two_nodes("", root=' complete_cpuset="0x3ff" online_cpuset="0x1ff"'))
    assert machine.offline_cpus == (9,)
    assert any("CPUs 8 are online, but nothing more" in note for note in machine.notes)


def test_v2_offline_cpus() -> None:
    machine = read(two_nodes("2.0", root=' complete_cpuset="0xfff" allowed_cpuset="0xf...f"'))
    assert machine.offline_cpus == (8, 9, 10, 11)
    assert "offline, or who recorded this" in machine.notes[0]
    assert read(two_nodes("2.0", root=' complete_cpuset="0xf...f"')).offline_cpus == ()


def test_cpus_belong_to_dram_where_several_memories_are_beside_them() -> None:
    nodes = node(4, 3, subtype="HBM") + node(6, 3, subtype="DRAM") + node(5, 3, subtype="CXL-DRAM")
    nodes += node(7, 3, '<info name="DAXType" value="NVM"/>') + node(8, 3, subtype="SPM") + node(9, 3, subtype="NVM")
    machine = read(document(package(0, nodes + core(0, 1)), cpus=3))
    assert machine.cpus_by_node[6] == (0, 1)
    assert [one.kind for one in machine.nodes] == [
        MemoryKind.HBM,
        MemoryKind.CXL,
        MemoryKind.DRAM,
        MemoryKind.PERSISTENT,
        MemoryKind.OTHER,
        MemoryKind.PERSISTENT,
    ]
    assert machine.notes == ()


def test_cpus_belong_to_the_nearest_node() -> None:
    near = package(0, node(3, 3) + core(0, 1)) + package(1, node(2, 12) + core(2, 3))
    machine = read(document(node(0, 0x1F) + near + core(4), cpus=0x1F))
    assert machine.cpus_by_node == {0: (4,), 2: (2, 3), 3: (0, 1)}


def test_two_ordinary_nodes_beside_the_same_cpus_are_noted() -> None:
    machine = read(document(node(1, 3) + node(0, 3) + core(0, 1), cpus=3))
    assert machine.cpus_by_node == {0: (0, 1), 1: ()}
    assert "nodes 0-1 are beside the same CPUs" in machine.notes[0]


def test_v1_mcdram_is_a_container_without_cpus() -> None:
    cluster = node(0, 3, core(0, 1)) + node(1, 0, '<info name="Type" value="MCDRAM"/>')
    machine = read(document(f'<object type="Group">{cluster}</object>', cpus=3, version=""))
    assert machine.cpus_by_node == {0: (0, 1), 1: ()}
    assert machine.node(1).kind is MemoryKind.HBM


def test_a_memory_side_cache() -> None:
    cached = f'<object type="MemCache" cpuset="0x3" cache_size="{96 << 30}">{node(0, 3)}</object>'
    machine = read(document(package(0, cached + core(0, 1)), cpus=3))
    assert machine.nodes[0].memory_side_cache_mib == 96 << 10
    assert machine.cpus_by_node == {0: (0, 1)}


def test_cores_with_the_same_id_and_without() -> None:
    inside = node(0, 0x3F) + package(0, core(0, 3) + core(1, 4) + '<object type="Core">' + pu(2) + pu(5) + "</object>")
    machine = read(document(inside, cpus=0x3F))
    assert cores(machine) == {frozenset({0, 3}), frozenset({1, 4}), frozenset({2, 5})}
    assert any("counted anew" in note for note in machine.notes)
    machine = read(document(node(0, 3) + pu(0) + pu(1), cpus=3))
    assert [(cpu.core, cpu.socket) for cpu in machine.cpus] == [(None, None)] * 2


def test_distances_in_v2() -> None:
    pieces = matrix("10 20", "30", "10", ids="1 0")
    machine = read(two_nodes(beside=pieces))
    assert machine.distances == ((10, 30), (20, 10))


def test_distances_that_are_none() -> None:
    beside = matrix("10 20 20 10", kind="Package") + matrix("10 20 20 10", indexing="gp") + matrix("9 9 9 9", means=9)
    beside += '<distances2hetero nbobjs="2" kind="5"><indexes>0</indexes><u64values>1</u64values></distances2hetero>'
    machine = read(two_nodes(beside=beside))
    assert (machine.distances, machine.notes) == (None, ())
    machine = read(two_nodes(beside=matrix("90 200 200 90") + matrix("10", ids="1")))
    assert machine.distances is None
    assert len(machine.notes) == 2
    wider = matrix("10 16 99", "16 10 99", "99 99 10", ids="0 1 5")
    machine = read(two_nodes(beside=matrix("90 200 200 90") + wider))
    assert machine.distances == ((10, 16), (16, 10))


def test_distances_in_v1() -> None:
    inside = v1_matrix(1, 1.7, 1.7, 1) + v1_matrix(1, 5, 5, 1, depth=2) + v1_matrix(1, count=1)
    data = two_nodes("").replace(b'<object type="NUMANode"', inside.encode() + b'<object type="NUMANode"', 1)
    assert read(data).distances == ((10, 17), (17, 10))
    assert read(data.replace(b"1.700000", b"1.799999")).distances == ((10, 18), (18, 10))
    machine = read(data.replace(b"1.700000", b"1.730000"))
    assert machine.distances is None
    assert "no table of distances" in machine.notes[0]


def test_measured_figures() -> None:
    def value(target: int, figure: int, cpus: str) -> str:
        where = f'initiator_cpuset="{cpus}"' if cpus.startswith("0x") else cpus
        return f'<memattr_value target_obj_type="NUMANode" target_obj_gp_index="{target}" value="{figure}" {where}/>'

    initiator = 'initiator_obj_gp_index="101" initiator_obj_type="NUMANode"'
    beside = "".join(
        [
            '<memattr name="Capacity" flags="1">' + value(100, 5, "") + "</memattr>",
            '<memattr name="Bandwidth" flags="5">' + value(100, 1000, "0xff") + value(101, 9, "0x7") + "</memattr>",
            '<memattr name="ReadLatency" flags="6">' + value(100, 80, "0xf") + value(100, 90, initiator) + "</memattr>",
            '<memattr name="WriteLatency" flags="6">' + value(100, 100, "0xf") + value(999, 1, "0xff") + "</memattr>",
        ]
    )
    machine = read(two_nodes(beside=beside))
    assert machine.latency_ns == ((90.0, None), (90.0, None))
    assert machine.bandwidth_gbs is not None
    assert [row[0] for row in machine.bandwidth_gbs] == [pytest.approx(1.048576)] * 2
    assert [row[1] for row in machine.bandwidth_gbs] == [None, None]


def test_a_much_faster_memory_is_hbm() -> None:
    figures = "".join(
        f'<memattr_value target_obj_type="NUMANode" target_obj_gp_index="{100 + index}" value="{figure}"'
        f' initiator_cpuset="0x3"/>'
        for index, figure in ((0, 100), (1, 300), (2, 150))
    )
    nodes = node(0, 3) + node(1, 3) + node(2, 3)
    data = document(nodes + core(0, 1), cpus=3, beside=f'<memattr name="Bandwidth" flags="5">{figures}</memattr>')
    assert [one.kind for one in read(data).nodes] == [MemoryKind.DRAM, MemoryKind.HBM, MemoryKind.DRAM]


def device(address: str, infos: str = "") -> str:
    return (
        f'<object type="Bridge" bridge_type="0-1"><object type="PCIDev" pci_busid="{address}"'
        f' pci_type="0200 [8086:10FB] [0000:0000] 01">{infos}</object></object>'.replace("10FB", "10fb")
    )


def test_devices() -> None:
    named = device("0000:01:00.0", '<info name="PCIVendor" value="Intel"/><info name="PCIDevice" value="X\u202e540"/>')
    first = package(0, node(0, 1) + core(0) + named)
    second = package(1, node(1, 2) + node(2, 2, subtype="HBM") + core(1) + device("10000:E1:00.0"))
    machine = read(document(first + second + device("0000:00:1f.2"), cpus=3))
    assert [(one.address, one.node, one.name) for one in machine.devices] == [
        ("0000:00:1f.2", None, "network 8086:10fb"),
        ("0000:01:00.0", 0, "Intel X540"),
        ("10000:e1:00.0", 1, "network 8086:10fb"),
    ]


def test_devices_of_a_machine_with_one_node_and_of_v1() -> None:
    machine = read(document(node(0, 1) + core(0) + device("0000:00:1f.2"), cpus=1))
    assert machine.devices[0].node == 0
    inside = node(0, 1, core(0)) + node(1, 0, device("0000:00:1f.2"))
    assert read(document(inside, cpus=1, version="")).devices[0].node == 1


def test_a_device_that_is_there_twice() -> None:
    first = package(0, node(0, 1) + core(0) + device("0000:01:00.0"))
    second = package(1, node(1, 2) + core(1) + device("0000:01:00.0"))
    machine = read(document(first + second, cpus=3))
    assert [(one.address, one.node) for one in machine.devices] == [("0000:01:00.0", None)]
    assert "there twice" in machine.notes[0]


def test_the_machines_name() -> None:
    infos = '<info name="HostName" value="green"/>'
    assert read(two_nodes(beside=infos)).name == "green"
    named = two_nodes(beside=infos).replace(
        b'cpuset="0xff">', b'cpuset="0xff"><info name="DMIProductName" value=" R740 "/>', 1
    )
    assert read(named).name == "R740"


def test_nothing_in_the_doctype_is_fetched() -> None:
    remote = two_nodes().replace(b'"hwloc2.dtd"', b'"http://127.0.0.1:9/hwloc2.dtd"')
    assert read(remote).node_ids == (0, 1)


@pytest.mark.parametrize(
    ("subset", "problem"),
    [
        (b'[<!ENTITY x "y">]', "entities"),
        (b'[<!ENTITY x SYSTEM "file:///etc/passwd">]', "entities"),
        (b'[<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;]', "entities"),
    ],
)
def test_entities_are_refused(subset: bytes, problem: str) -> None:
    assert problem in refused(two_nodes().replace(b'"hwloc2.dtd"', b'"hwloc2.dtd" ' + subset))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "line 1, column 0: no well-formed XML"),
        (b"not XML", "line 1"),
        (two_nodes()[:-30], "no well-formed XML"),
        (two_nodes()[:300], "no well-formed XML"),
        (b"<html><body/></html>", "<html> is no hwloc topology"),
        (b"<topologydiff/>", "<topologydiff> is no hwloc topology"),
        (b"<topology version='3.0'/>", "no objects"),
        (b"<?xml version='1.0' encoding='klingon'?><topology/>", "encod"),
        (two_nodes().replace(b"<topology", b"<topology>\xff<x", 1), "no well-formed XML"),
        (document(node(0, 0), cpus=0), "no CPUs"),
        (document(node(0, 1) + pu(0) + pu(0), cpus=1), "PU 0: is there twice"),
        (document(node(0, 1) + node(0, 1) + pu(0), cpus=1), "node 0: is there twice"),
        (two_nodes().replace(b'"PU" os_index="3"', b'"PU" os_index="2"'), "PU 2"),
        (two_nodes().replace(b'"PU" os_index="3"', b'"PU" os_index="77777"'), "PU 77777"),
        (two_nodes().replace(b'"PU" os_index="3"', b'"PU"'), "PU: needs an os_index"),
        (two_nodes().replace(b'"PU" os_index="3"', b'"PU" os_index="three"'), "os_index='three' is no number"),
        (two_nodes().replace(b'"PU" os_index="3" cpuset="0x8"', b'"PU" os_index="3" cpuset="0x4"'), "PU 3"),
        (two_nodes().replace(b'cpuset="0xff"', b'cpuset="0x7f"'), "not that of the PU objects"),
        (two_nodes().replace(b'cpuset="0xff"', b'cpuset="0xzz"'), "is no part of a mask"),
        (two_nodes().replace(b'cpuset="0xff"', b'cpuset="0x' + b"f" * 99999 + b'"'), "is no part of a mask"),
        (two_nodes().replace(b'os_index="1" cpuset="0xf0"', b'os_index="1" cpuset="0xe0"'), "NUMANode 1"),
        (two_nodes().replace(b'os_index="1" cpuset="0xf0"', b'os_index="9999" cpuset="0xf0"'), "NUMANode 9999"),
        (two_nodes().replace(b'nodeset="0x2"', b'nodeset="0x1"'), "NUMANode 1: its nodeset"),
        (two_nodes().replace(b'"1073741824"', b'"99999999999999999999"'), "cannot be"),
        (two_nodes().replace(b'"1073741824"', b'"-5"'), "cannot be"),
        (two_nodes().replace(b'"1073741824"', b'"1 GiB"'), "local_memory"),
        (two_nodes().replace(b"</topology>", b"<object type='Machine'/></topology>"), "more than one root"),
        (two_nodes().replace(b'"Package"', b'"Machine"'), "3 machines in it"),
        (two_nodes(beside=matrix("10 20 20")), "3 values for 2 objects"),
        (two_nodes(beside=matrix("10 20 20 10").replace('nbobjs="2"', 'nbobjs="3"')), "nbobjs"),
        (two_nodes(beside=matrix("10 x 20 10")), "'x' is no distance"),
        (two_nodes(beside=matrix("10 nan 20 10")), "is no distance"),
        (two_nodes(beside=matrix("10 20 20 10", ids="1 1")), "is there twice"),
        (two_nodes(beside=matrix("10 20 20 10").replace('kind="5"', 'kind="a"')), "kind="),
        (document(node(0, 1) + pu(0) + device("0000:00:00"), cpus=1), "no PCI address"),
        (b"<topology>" + b"<object>" * 200, "deeper than 100"),
    ],
)
def test_what_is_refused(data: bytes, problem: str) -> None:
    assert problem in refused(data)


def test_large_documents_are_short_work() -> None:
    started = time.process_time()
    assert "elements" in refused(b"<topology version='3.0'>" + b"<info/>" * 600_000 + b"</topology>")
    assert "larger than 64 MiB" in refused(bytes((64 << 20) + 1))
    inside = node(0, (1 << 4000) - 1) + "".join(map(pu, range(4000)))
    assert len(read(document(inside, cpus=(1 << 4000) - 1)).cpus) == 4000
    assert time.process_time() - started < 20


def test_objects_in_strange_places_do_not_confuse_the_tree() -> None:
    stray = b'<userdata><object type="PU" os_index="9"/></userdata><userdata/>'
    data = two_nodes().replace(b'<object type="Core"', stray + b'<object type="Core"', 1)
    assert len(read(data).cpus) == 8


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


SAMPLES = [
    two_nodes("", root=' complete_cpuset="0x1ff" online_cpuset="0xdf"').replace(
        b'<object type="NUMANode"', v1_matrix(1, 1.7, 1.7, 1).encode() + b'<object type="NUMANode"', 1
    ),
    two_nodes(beside=matrix("10 20", "30 10")),
    document(package(0, node(4, 3, subtype="HBM") + node(6, 3) + core(0, 1)) + device("0000:00:1f.2"), cpus=3),
]
PIECES = [b"", b"0", b"-1", b"0xf...f", b"<", b"&lt;", b'"', b"\n", b"\0", b"9" * 30, b"</object>", b"<object>", b" "]


@settings(deadline=None, max_examples=300)
@given(
    sample=st.sampled_from(SAMPLES),
    edits=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 12), st.sampled_from(PIECES)), max_size=4),
    cut=st.none() | st.integers(0, 2000),
)
def test_damaged_documents_are_read_soundly_or_refused(
    sample: bytes, edits: list[tuple[int, int, bytes]], cut: int | None
) -> None:
    data = bytearray(sample)
    for at, length, piece in edits:
        data[at : at + length] = piece
    with contextlib.suppress(BadInput):
        require_sound(read(bytes(data[:cut])))


attributes = st.dictionaries(
    st.sampled_from(["os_index", "cpuset", "nodeset", "local_memory", "complete_cpuset", "pci_busid", "cache_size"]),
    st.sampled_from(["0", "1", "2", "0x1", "0x3", "0x7", "0xf...f", "-1", "x", "0000:00:00.0", "4294967295"]),
    max_size=4,
)
kinds = st.sampled_from(
    ["Machine", "Group", "Package", "Core", "PU", "NUMANode", "MemCache", "PCIDev", "Bridge", "Misc"]
)
Made = tuple[str, dict[str, str], list[Any]]
objects: st.SearchStrategy[Made] = st.recursive(
    st.builds(lambda kind, more: (kind, more, []), kinds, attributes),
    lambda inner: st.builds(
        lambda kind, more, below: (kind, more, below), kinds, attributes, st.lists(inner, max_size=3)
    ),
    max_leaves=8,
)


def element(made: Made) -> str:
    kind, more, below = made
    shown = "".join(f' {name}="{value}"' for name, value in more.items())
    return f'<object type="{kind}"{shown}>{"".join(element(one) for one in below)}</object>'


@settings(deadline=None, max_examples=200)
@given(made=objects, version=st.sampled_from(["", "1.0", "2.0", "3.0"]))
def test_any_tree_is_read_soundly_or_refused(made: Made, version: str) -> None:
    with contextlib.suppress(BadInput):
        require_sound(read(f'<topology version="{version}">{element(made)}</topology>'.encode()))
