"""`xl info -n`: what Xen prints, what can be wrong with it, and what is never made of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.errors import BadInput
from domicile.topology.model import Cpu, Device, Node, Topology
from domicile.topology.xl_info import looks_like_xl_info, parse_xl_info, read_xl_info

SHARED = Path(os.environ.get("DOMICILE_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
CAPTURES = SHARED.parent / "xen" / "captures"
needs_captures = pytest.mark.skipif(not CAPTURES.is_dir(), reason="the captures of the shared data are not there")

CpuLine = tuple[int, int, int, int]
NodeLine = tuple[int, int, int, str]

SMT: tuple[CpuLine, ...] = ((0, 0, 0, 0), (1, 0, 0, 0), (4, 0, 1, 2), (5, 0, 1, 2))
GAP: tuple[NodeLine, ...] = ((0, 2048, 100, "10,20,21"), (2, 4096, 4000, "21,20,10"))


def xl_text(
    cpus: Sequence[CpuLine] = SMT,
    nodes: Sequence[NodeLine] = GAP,
    devices: Sequence[str] = ("0000:41:00.0      2",),
    nr_cpus: int | None = None,
    nr_nodes: int | None = None,
    max_cpu_id: int = 5,
    machine: str = "x86_64",
) -> str:
    """A made output, in the formats of tools/xl/xl_info.c."""
    head = {
        "host": "xenhost",
        "machine": machine,
        "nr_cpus": len(cpus) if nr_cpus is None else nr_cpus,
        "max_cpu_id": max_cpu_id,
        "nr_nodes": len(nodes) if nr_nodes is None else nr_nodes,
        "threads_per_core": 2,
        "virt_caps": "pv hvm hap",
        "total_memory": 6100,
        "free_memory": 4000,
        "outstanding_claims": 64,
    }
    tail = {
        "xen_major": 4,
        "xen_version": "4.17.7",
        "xen_scheduler": "credit2",
        "xen_commandline": "dom0_mem=1G a : b ",
    }
    lines = [f"{key:<23}: {value}" for key, value in head.items()]
    lines += ["cpu_topology           :", "cpu:    core    socket     node"]
    lines += ["%3d:    %4d     %4d     %4d" % row for row in cpus]  # noqa: UP031 - Xen's own format
    lines += ["device topology        :", "device           node", *(devices or ["No device topology data available"])]
    lines += ["numa_info              :", "node:    memsize    memfree    distances"]
    lines += ["%4d:    %6d     %6d      %s" % row for row in nodes]  # noqa: UP031
    lines += [f"{key:<23}: {value}" for key, value in tail.items()]
    return "\n".join([*lines, "xend_config_format     : 4", ""])


def without_notes(topology: Topology) -> Topology:
    return replace(topology, notes=())


def test_gaps_in_ids_and_siblings() -> None:
    machine = read_xl_info(xl_text(), "saved")
    assert machine.nodes == (Node(0, 2048, 100), Node(2, 4096, 4000))
    assert machine.cpus == (Cpu(0, 0, 0, 0), Cpu(1, 0, 0, 0), Cpu(4, 0, 1, 2), Cpu(5, 0, 1, 2))
    assert machine.cores_by_node == {0: 1, 2: 1}
    # the column of node 1, which is not there, is left out
    assert machine.distances == ((10, 21), (21, 10))
    assert machine.devices == (Device("0000:41:00.0", 2),)
    assert machine.offline_cpus == (2, 3)
    assert machine.name == "xenhost"
    assert machine.notes == ()


def test_the_other_facts() -> None:
    info = parse_xl_info(xl_text(), "saved")
    assert (info.xen_version, info.scheduler, info.virt_caps) == ("4.17.7", "credit2", ("pv", "hvm", "hap"))
    assert (info.total_memory_mib, info.free_memory_mib, info.outstanding_claims_mib) == (6100, 4000, 64)
    assert (info.nr_cpus, info.nr_nodes, info.max_cpu_id, info.threads_per_core) == (4, 2, 5, 2)
    assert info.commandline == "dom0_mem=1G a : b"
    assert info.cores_per_socket is None


@pytest.mark.parametrize("below_zero_mib", [1, 176, 900_000, 30_000_000])
def test_more_claimed_than_free(below_zero_mib: int) -> None:
    """xl divides the 64-bit difference of page counts by 256 without a sign."""
    printed = (2**64 - below_zero_mib * 256) // 256
    info = parse_xl_info(xl_text().replace(": 4000\n", f": {printed}\n"), "saved")
    assert info.free_memory_mib == 0


@needs_captures
@pytest.mark.parametrize(("file", "devices"), [("xl-info-n.4node-ionuma.txt", 4), ("xl-info-n.4node-nopci.txt", 0)])
def test_captured(file: str, devices: int) -> None:
    info = parse_xl_info((CAPTURES / file).read_text(), file)
    machine = info.topology
    assert machine.cpus_by_node == {0: (0, 1), 1: (2, 3), 2: (4, 5), 3: (6, 7)}
    assert [node.memory_mib for node in machine.nodes] == [2048] * 4
    assert machine.distances == ((10, 16, 22, 22), (16, 10, 22, 22), (22, 22, 10, 16), (22, 22, 16, 10))
    assert len(machine.devices) == devices
    assert {device.node for device in machine.devices} <= {1, 3}
    assert (info.xen_version, info.scheduler) == ("4.17.7", "credit2")
    assert machine.notes == ()


def test_memoryless_and_cpuless_nodes_are_kept() -> None:
    nodes = ((0, 2048, 100, "10,20,20"), (1, 0, 0, "20,10,20"), (2, 512, 512, "20,20,10"))
    machine = read_xl_info(xl_text(cpus=((0, 0, 0, 0), (1, 0, 1, 1)), nodes=nodes, max_cpu_id=1), "saved")
    assert [node.memory_mib for node in machine.nodes] == [2048, 0, 512]
    assert machine.cpus_by_node == {0: (0,), 1: (1,), 2: ()}
    assert machine.distances is not None


def test_absent_nodes_of_old_xen_are_left_out() -> None:
    """Before 4.6 they had rows: no memory, and no distance to anybody."""
    nodes = ((0, 2048, 100, "10,-1,21"), (1, 0, 0, "-1,-1,-1"), (2, 4096, 4000, "21,-1,10"))
    machine = read_xl_info(xl_text(nodes=nodes, nr_nodes=2), "saved")
    assert machine.node_ids == (0, 2)
    assert machine.distances == ((10, 21), (21, 10))
    assert "absent: 1" in machine.notes[0]


@pytest.mark.parametrize("invalid", ["-1", "4294967295", "-"])
def test_unreachable_is_255(invalid: str) -> None:
    nodes = ((0, 2048, 100, f"10,{invalid}"), (1, 4096, 4000, "21,10"))
    cpus = ((0, 0, 0, 0), (1, 0, 1, 1))
    machine = read_xl_info(xl_text(cpus=cpus, nodes=nodes, devices=(), max_cpu_id=1), "saved")
    assert machine.distances == ((10, 255), (21, 10))
    assert "unreachable" in machine.notes[0]


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ("10,20", "20,10", "distances dropped"),  # too few for the ids
        ("10,20,30,40", "20,10,20,10", "distances dropped"),
        ("0,0,0", "0,0,0", "distances dropped"),
        ("20,20,20", "20,20,20", "distances dropped"),
        ("", "", "no distances"),
    ],
)
def test_bogus_distances_are_dropped(first: str, second: str, says: str) -> None:
    machine = read_xl_info(xl_text(nodes=((0, 2048, 100, first), (2, 4096, 4000, second))), "saved")
    assert machine.distances is None
    assert says in machine.notes[0]


def test_xen_on_arm_has_no_cores() -> None:
    cpus = tuple((cpu, 0, 0, 0) for cpu in range(4))
    text = xl_text(cpus=cpus, nodes=((0, 6144, 10, "10"),), devices=(), max_cpu_id=3, machine="aarch64")
    machine = read_xl_info(text, "saved")
    assert {cpu.core for cpu in machine.cpus} == {None}
    assert machine.cores_by_node == {0: 4}


def test_crowded_core_is_no_core() -> None:
    cpus = tuple((cpu, 0, 0, 0) for cpu in range(16))
    machine = read_xl_info(xl_text(cpus=cpus, nodes=((0, 6144, 10, "10"),), devices=(), max_cpu_id=15), "saved")
    assert machine.cores_by_node == {0: 16}
    assert "cannot share one core" in machine.notes[0]


def test_invalid_entries() -> None:
    cpus = ((0, 0, -1, 0), (1, 1, 0, -1), (2, 2, 0, 255))
    machine = read_xl_info(xl_text(cpus=cpus, devices=("0000:01:00.0      7",), max_cpu_id=2), "saved")
    assert machine.cpus == (Cpu(0, 0, None, 0), Cpu(1, 1, 0, None), Cpu(2, 2, 0, None))
    assert machine.devices == (Device("0000:01:00.0", None),)
    assert len(machine.notes) == 2


def test_before_4_6_there_was_no_device_table() -> None:
    text = xl_text()
    begin, end = text.index("device topology"), text.index("numa_info")
    assert read_xl_info(text[:begin] + text[end:], "saved").devices == ()


def test_messages_of_the_tools_and_a_shells_prompt() -> None:
    text = xl_text(devices=())
    text = text.replace(
        "numa_info", "libxl: error: libxl_pci.c:1: no PCI: nothing\nlibxl_get_pci_topology failed.\nnuma_info"
    )
    machine = read_xl_info(f"root@dom0:~# xl info -n\r\n{text}root@dom0:~#", "saved")
    assert machine.distances == ((10, 21), (21, 10))
    assert "libxl: error" in machine.notes[0]


def test_carriage_returns() -> None:
    assert read_xl_info(xl_text().replace("\n", "\r\n"), "saved") == read_xl_info(xl_text(), "saved")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not the output"),
        ("nothing of the kind\n", "not the output"),
        (xl_text(nr_cpus=5), "line 11: has 4 CPUs where nr_cpus says 5"),
        (xl_text(nr_cpus=3), "has 4 CPUs where nr_cpus says 3"),
        (xl_text(nr_nodes=3), "has 2 nodes where nr_nodes says 3"),
        (xl_text(max_cpu_id=4), "line 16: CPU 5 is above max_cpu_id"),
        (xl_text(cpus=((0, 0, 0, 0), (0, 0, 0, 0))), "line 14: CPU 0 comes after CPU 0"),
        (xl_text(cpus=((0, 0, 0, 1),)), "CPU 0 is on node 1, which the node table lacks"),
        (xl_text(nodes=((0, 1, 2, "10"),), cpus=((0, 0, 0, 0),)), "more memory free than it has"),
        (xl_text(nodes=((9999, 1, 1, "10"),)), "no node can be 9999"),
        (xl_text(nodes=((0, 1, 1, "1x0"),)), "not a row of the node table"),
        (xl_text(nodes=((0, 1, 1, "10,,10"),)), "no distances"),
        (xl_text(devices=("0000:41:00.9      1",)), "not a row of the device table"),
        (xl_text().replace("nr_cpus                : 4", "nr_cpus                : four"), "line 3: nr_cpus is 'four'"),
        (xl_text().replace("nr_nodes", "nr_knots"), "no nr_nodes line"),
        (xl_text().replace("cpu:    core", "cpu:    cor"), "line 12: not the heading of cpu_topology"),
        (xl_text() + xl_text(), "there twice"),
        (xl_text().replace("xen_major", "?"), "no line of|not a row"),
        ("host : a\nnr_cpus : 4\nnr_nodes : 1\nxen_major : 4\n", "give the output of `xl info -n`"),
        ("host : a\nnr_cpus : 4\nnr_nodes : 1\n", "no cpu_topology section"),
        (
            xl_text().replace("numa_info              :\n", "numa_info              : none\n"),
            "numa_info is 'none'|no line",
        ),
    ],
)
def test_refused(text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        read_xl_info(text, "saved")
    assert str(caught.value).startswith("saved: ")
    assert "\n" not in str(caught.value)


def test_looks_like() -> None:
    assert looks_like_xl_info(xl_text())
    assert not looks_like_xl_info("nodes = 4\n")


def test_cut_anywhere_is_refused_or_the_same_machine() -> None:
    """Cut at each byte: never a smaller machine, never a wrong distance."""
    text = xl_text(nodes=((0, 2048, 100, "10,100,21"), (2, 4096, 4000, "21,100,10")))
    whole = without_notes(read_xl_info(text, "saved"))
    taken = 0
    for end in range(len(text)):
        try:
            cut = read_xl_info(text[:end], "saved")
        except BadInput:
            continue
        assert without_notes(cut) == whole, f"cut at {end}"
        if end < text.index("xend_config_format"):
            assert any("the end is missing" in note for note in cut.notes)
        taken += 1
    assert taken > 0


def test_a_value_cut_short_is_not_believed() -> None:
    text = xl_text()
    info = parse_xl_info(text[: text.index("credit2") + len("credit")], "saved")
    assert info.scheduler == ""


@settings(max_examples=200, deadline=2000)
@given(st.data())
def test_garbled_is_refused_or_consistent(data: st.DataObject) -> None:
    text = xl_text()
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        length = data.draw(st.sampled_from([0, 1, 1, 1, 7, 40]))
        text = (
            text[:at]
            + data.draw(st.text(max_size=3) | st.sampled_from(["\n", "-1", "9" * 30, ":"]))
            + text[at + length :]
        )
    try:
        machine = read_xl_info(text, "saved")
    except BadInput as error:
        assert "\n" not in str(error)  # noqa: PT017 - one line, whatever is in the input
    else:
        assert {cpu.node for cpu in machine.cpus} <= {*machine.node_ids, None}


@settings(max_examples=100, deadline=2000)
@given(st.text())
def test_any_text(text: str) -> None:
    with pytest.raises(BadInput):
        read_xl_info(text, "saved")
