"""Machine files, the presets made of them, and topologies as JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.errors import BadInput
from domicile.topology.as_json import topology_from_json, topology_json
from domicile.topology.check import checked
from domicile.topology.machine_file import MachineFile, read_machine_file
from domicile.topology.model import Cpu, Device, MemoryKind, Node, Topology
from domicile.topology.presets import load_preset, preset_names

SHARED = Path(os.environ.get("DOMICILE_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
MEASURED = sorted((SHARED / "machines").glob("*.json"))
needs_shared = pytest.mark.skipif(not MEASURED, reason="the measured machines of the shared data are not there")


def read(values: dict[str, Any]) -> MachineFile:
    return read_machine_file(json.dumps(values).encode(), "machine")


def test_toml_and_numbering() -> None:
    toml = b"""
        name = "two"
        nodes = 3
        cpu_nodes = [0, 2]
        sockets = 1
        cores_per_node = 2
        threads_per_core = 2
        memory_mib = [1024, 4096, 1024]
        memory_kinds = ["dram", "hbm", "dram"]
        slit = [[10, 20, 30], [20, 10, 20], [30, 20, 10]]
        devices = [{ address = "0000:C1:00.0", node = 1, name = "card" }]
    """
    machine = read_machine_file(toml, "machine").topology
    assert machine.cpus_by_node == {0: (0, 1, 2, 3), 1: (), 2: (4, 5, 6, 7)}
    assert machine.cores_by_node == {0: 2, 1: 0, 2: 2}
    assert [cpu.core for cpu in machine.cpus] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert {cpu.socket for cpu in machine.cpus} == {0}
    assert machine.nodes[1] == Node(1, 4096, kind=MemoryKind.HBM)
    assert machine.devices == (Device("0000:c1:00.0", 1, "card"),)
    assert machine.distances == ((10, 20, 30), (20, 10, 20), (30, 20, 10))
    assert machine.notes == ()


def test_what_is_missing_is_assumed_and_said() -> None:
    machine = read({"nodes": 2}).topology
    assert len(machine.cpus) == 8
    assert machine.distances is None
    assert machine.latency_ns is None
    assert len([note for note in machine.notes if note.startswith("assumed: ")]) == 3


def test_cycles_become_ns() -> None:
    rows = [[210, 420], [420, 210]]
    machine = read({"nodes": 2, "latency": rows, "latency_unit": "cycles, idle", "clock_ghz_inferred": 2.1}).topology
    assert machine.latency_ns == ((100.0, 200.0), (200.0, 100.0))
    assert any("clock of 2.1 GHz" in note for note in machine.notes)


ROWS = [[90, 100, 110], [91, 101, None]]


def test_rows_of_cpu_nodes_only() -> None:
    machine = read({"nodes": 3, "latency": ROWS, "latency_unit": "ns, random"}).topology
    assert json.dumps(machine.latency_ns) == json.dumps([[90.0, 100.0, 110.0], [91.0, 101.0, None], [None] * 3])
    assert machine.cpus_by_node[2] == ()
    assert any("nodes 2 have no CPUs" in note for note in machine.notes)


def test_rows_of_the_cpu_nodes_named_beside_the_unit() -> None:
    machine = read({"nodes": 3, "latency": ROWS, "latency_unit": "ns; rows are the CPU nodes 1-2"}).topology
    assert json.dumps(machine.latency_ns) == json.dumps([[None] * 3, [90.0, 100.0, 110.0], [91.0, 101.0, None]])
    assert machine.cpus_by_node[0] == ()


def test_figures_for_the_performance_model() -> None:
    machine = read(
        {
            "nodes": 1,
            "write_bandwidth": [[20000]],
            "one_core_read_bandwidth": [[9000]],
            "one_core_write_bandwidth": [[5000]],
            "read_bandwidth_unit": "MB/s",
            "loaded_latency": [[1.5, 90], [80, 200]],
            "peak_gbs": {"reads": 100},
            "core_to_core_ns": {"near": 50},
            "thread_scan_gbs": {"threads": [1, 2], "local": [10, 20]},
            "source": "somebody",
            "something_else": 1,
        }
    )
    assert machine.write_bandwidth_gbs == ((20.0,),)
    assert machine.one_core_read_bandwidth_gbs == ((9.0,),)
    assert machine.one_core_write_bandwidth_gbs == ((5.0,),)
    assert machine.topology.bandwidth_gbs is None
    assert machine.loaded_latency == ((1.5, 90.0), (80.0, 200.0))
    assert (machine.peak_gbs, machine.core_to_core_ns) == ({"reads": 100}, {"near": 50})
    assert machine.thread_scan_gbs["local"] == [10, 20]
    assert machine.provenance == "somebody"
    assert machine.extra == {"something_else": 1}
    assert "not used: something_else" in machine.topology.notes


@needs_shared
@pytest.mark.parametrize("path", MEASURED, ids=lambda path: str(path.stem))
def test_measured_machine_and_its_preset_have_the_same_figures(path: Path) -> None:
    told = json.loads(path.read_text())
    from_file, preset = read_machine_file(path.read_bytes(), path.name), load_preset(path.stem)
    assert preset.topology.name == told["name"]
    assert (preset.provenance, preset.cpu) == (told["source"], told["cpu"])
    assert len(from_file.topology.nodes) == len(preset.topology.nodes) == told["nodes"]
    for figure in (
        "write_bandwidth_gbs",
        "one_core_read_bandwidth_gbs",
        "one_core_write_bandwidth_gbs",
        "loaded_latency",
        "peak_gbs",
        "core_to_core_ns",
        "thread_scan_gbs",
        "extra",
    ):
        assert getattr(from_file, figure) == getattr(preset, figure)
    assert from_file.topology.latency_ns == preset.topology.latency_ns
    assert from_file.topology.bandwidth_gbs == preset.topology.bandwidth_gbs
    clock = told.get("clock_ghz_inferred", 1.0)
    assert preset.topology.latency_ns is not None
    for told_row, row in zip(told["latency"], preset.topology.latency_ns, strict=False):
        assert row == pytest.approx([figure / clock for figure in told_row], abs=0.001)
    if "slit" in told:
        assert preset.topology.distances == tuple(tuple(row) for row in told["slit"])
    if "cpus" in told:
        assert len(preset.topology.cpus) == told["cpus"]


@pytest.mark.parametrize("name", preset_names())
def test_presets(name: str) -> None:
    preset = load_preset(name)
    machine = preset.topology
    assert machine.name == name
    assert preset.provenance
    assert all(node.memory_mib > 0 for node in machine.nodes)
    # nothing is left to the reader's own assumptions: what is assumed stands in the file
    assert not any("the file not telling" in note for note in machine.notes)


def test_the_preset_of_the_lab_and_the_default_one() -> None:
    assert preset_names()[:2] == ("default", "4node")
    lab = load_preset("4node").topology
    assert [(node.memory_mib, len(lab.cpus_by_node[node.id])) for node in lab.nodes] == [(2048, 2)] * 4
    default = load_preset("default").topology
    assert len(default.nodes) == 4
    assert len(default.cpus) == 2 * sum(default.cores_by_node.values())
    assert len(default.devices) == 2
    assert default.distance(3, 0) != default.distance(0, 3)
    genoa = load_preset("genoa-9224-nps2-cxl").topology
    assert genoa.node(4).kind is MemoryKind.CXL
    assert genoa.cpus_by_node[4] == ()


def test_no_such_preset() -> None:
    with pytest.raises(BadInput, match="there are default, 4node"):
        load_preset("../default")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "no `nodes`"),
        ({"nodes": "2"}, r"Expected `int`, got `str` - at `\$.nodes`"),
        ({"nodes": True}, "Expected `int`, got `bool`"),
        ({"nodes": 0}, "nodes: 0: 1 to 4096"),
        ({"nodes": 10**9}, "1 to 4096"),
        ({"nodes": 2, "cpu_nodes": [0, 2]}, "cpu_nodes: the nodes are 0 to 1"),
        ({"nodes": 2, "cpu_nodes": [1, 0]}, "each node once, ascending"),
        ({"nodes": 2, "cpus": 9}, "cpus: 9 is not 2 nodes x 4 cores x 1 threads"),
        ({"nodes": 2, "cores_per_node": 0}, "cores_per_node: 0 cannot be"),
        ({"nodes": 2, "cores_per_node": 40000}, "80000 CPUs"),
        ({"nodes": 2, "sockets": 3}, "shared out evenly over 3 sockets"),
        ({"nodes": 2, "memory_mib": [1]}, "memory_mib: has 1 entries for 2 nodes"),
        ({"nodes": 2, "memory_mib": -1}, ">= 0"),
        ({"nodes": 1, "memory_mib": 10**30}, "<="),
        ({"nodes": 2, "memory_kinds": ["dram"]}, "memory_kinds: has 1"),
        ({"nodes": 1, "memory_kinds": ["butter"]}, "butter"),
        ({"nodes": 2, "latency": [[1, 2], [2, 1]]}, "latency_unit: ''; give"),
        ({"nodes": 2, "latency": [[1, 2], [2, 1]], "latency_unit": "furlongs"}, "furlongs"),
        ({"nodes": 2, "latency": [[1, 2], [2, 1]], "latency_unit": "cycles"}, "give clock_ghz"),
        ({"nodes": 2, "latency": [[1, 2], [2]], "latency_unit": "ns"}, "latency, row 2: has 1 columns"),
        ({"nodes": 2, "latency": [[1, 2], [2, 0]], "latency_unit": "ns"}, "latency, row 2: 0"),
        ({"nodes": 2, "latency": [[1, 2], [2, 1], [1, 1]], "latency_unit": "ns"}, "has 3 rows"),
        ({"nodes": 2, "latency": [], "latency_unit": "ns"}, "latency: has 0 rows"),
        ({"nodes": 1, "read_bandwidth": [[1]], "read_bandwidth_unit": "bushels/s"}, "bushels"),
        ({"nodes": 1, "loaded_latency": [[1, -2]]}, "loaded_latency: -2"),
        ({"nodes": 1, "peak_gbs": {"reads": 0}}, "peak_gbs.reads: 0"),
        ({"nodes": 1, "devices": [{"address": "eth0"}]}, "'eth0' is no PCI address"),
        ({"nodes": 1, "devices": [{"address": "0000:00:01.0", "nod": 1}]}, "nod"),
        ({"nodes": 1, "devices": [{"address": "0000:00:01.0", "node": 1}]}, "is on node 1, which is not there"),
        ({"nodes": []}, "missing required field `cpus`"),
    ],
)
def test_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        read(values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"\xff\xfe", "neither JSON nor TOML"),
        (b'{"nodes": 2', "neither JSON nor TOML"),
        (b"nodes = ", "neither JSON nor TOML"),
        (b"nodes = 2\nnodes = 3", "neither JSON nor TOML"),
        (b"[" * 100_000, "too deeply|neither"),
        (b'{"a":' * 100_000, "too deeply|neither"),
        (b"a = " + b"[" * 100_000, "too deeply|neither"),
        (b"a = " + b"9" * 5000, "neither|no `nodes`"),
        (b"{}" + b" " * (17 << 20), "larger than 16 MiB"),
        (b"a=1\n" * (1 << 19), "as JSON"),
        (b"nodes = 1\na" + b".a" * 100_000 + b" = 1", "too deeply"),
        (b"nodes = 1\n['a'" + b' . "a"' * 20_000 + b"]", "too deeply"),
        (b"nodes = 1\nloaded_latency = [[nan, 1.0]]", "loaded_latency: nan"),
    ],
)
def test_garbage(data: bytes, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        read_machine_file(data, "machine")
    assert "\n" not in str(caught.value)


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    ids = draw(st.lists(st.integers(0, 60), min_size=1, max_size=5, unique=True))
    some = st.none() | st.integers(0, 9)
    nodes = [
        Node(
            node, draw(st.integers(0, 1 << 20)), draw(st.none() | st.integers(0, 9)), draw(st.sampled_from(MemoryKind))
        )
        for node in ids
    ]
    cpus = [
        Cpu(cpu, draw(some), draw(some), draw(st.sampled_from([*ids, None])))
        for cpu in draw(st.lists(st.integers(0, 99), min_size=1, max_size=8, unique=True))
    ]
    size = len(ids)
    slit = [[10 if a == b else draw(st.integers(11, 255)) for b in range(size)] for a in range(size)]
    figures = st.none() | st.floats(0.5, 1e4)
    measured = tuple(tuple(draw(figures) for _ in range(size)) for _ in range(size))
    return checked(
        source="made",
        nodes=nodes,
        cpus=cpus,
        distances=draw(st.sampled_from([slit, None])),
        devices=[Device("0000:0a:00.1", draw(st.sampled_from([*ids, None])), draw(st.text(max_size=5)))],
        latency_ns=draw(st.sampled_from([measured, None])),
        bandwidth_gbs=draw(st.sampled_from([measured, None])),
        offline_cpus=draw(st.lists(st.integers(100, 120))),
        name=draw(st.text(max_size=5)),
        notes=draw(st.lists(st.text(max_size=5), max_size=2)),
    )


@settings(max_examples=100, deadline=2000)
@given(topologies())
def test_json_there_and_back(machine: Topology) -> None:
    values = json.loads(json.dumps(topology_json(machine)))
    assert topology_from_json(values, "made") == machine
    assert read_machine_file(json.dumps(values).encode(), "made").topology == machine


def test_json_has_the_contracts_keys() -> None:
    machine = checked(
        source="made",
        nodes=[Node(0, 2048, 1781), Node(1, 2048, None)],
        cpus=[Cpu(0, 0, 0, 0), Cpu(1, None, None, None)],
        devices=[Device("0000:41:00.0", 1)],
    )
    values = topology_json(machine)
    assert values["distances"] is None
    assert "latency_ns" not in values
    assert "bandwidth_gbs" not in values
    assert values["nodes"][0] | {"id": 0, "cpus": [0], "memory_mib": 2048, "free_mib": 1781} == values["nodes"][0]
    assert values["nodes"][1]["free_mib"] is None
    assert values["cpus"][0] == {"id": 0, "core": 0, "socket": 0, "node": 0}
    assert values["devices"][0] | {"address": "0000:41:00.0", "node": 1} == values["devices"][0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"nodes": [{"id": 0, "memory_mib": 1, "cpus": [1]}]}, "node 0: has CPU 1"),
        ({"cpus": [{"id": 0, "node": 5}], "nodes": [{"id": 0, "memory_mib": 1}]}, "CPU 0: is on node 5"),
        ({"nodes": [{"id": 0, "memory_mib": "much"}]}, r"\$.nodes\[0\].memory_mib"),
        ({"latency_ns": [[1, 2]]}, "latency matrix"),
        ({"bandwidth_gbs": [[-1]]}, "bandwidth matrix"),
        ({"devices": [{"address": "nowhere"}]}, "no PCI address"),
    ],
)
def test_json_refused(change: dict[str, Any], says: str) -> None:
    values = {"nodes": [{"id": 0, "memory_mib": 1, "cpus": [0]}], "cpus": [{"id": 0, "node": 0}]} | change
    with pytest.raises(BadInput, match=says):
        read(values)


@settings(max_examples=200, deadline=2000)
@given(st.data())
def test_garbled_is_refused_or_a_machine(data: st.DataObject) -> None:
    content = json.dumps(
        {"nodes": 2, "cpus": 8, "memory_mib": [1, 2], "latency": [[1, 2], [2, 1]], "latency_unit": "ns", "slit": [[10]]}
    ).encode()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        put = data.draw(
            st.binary(max_size=3) | st.sampled_from([b"9", b"null", b"1e999", b"99999999999999999999", b"-1"])
        )
        content = content[:at] + put + content[at + data.draw(st.sampled_from([0, 1, 1, 9])) :]
    try:
        machine = read_machine_file(content, "machine").topology
    except BadInput as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert machine.cpus


@settings(max_examples=100, deadline=2000)
@given(st.binary())
def test_any_bytes(data: bytes) -> None:
    with pytest.raises(BadInput):
        read_machine_file(data, "machine")
