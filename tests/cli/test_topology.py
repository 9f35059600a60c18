"""`domicile topology`: what is drawn, the JSON, and how it ends."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from rich.console import Console

from domicile.cli.connect import default_uri, is_dom0, named_uri
from domicile.cli.draw import TopologyView
from domicile.cli.main import main
from domicile.cli.output import plain
from domicile.errors import BadInput
from domicile.topology.as_json import topology_json
from domicile.topology.check import checked
from domicile.topology.model import Cpu, Device, MemoryKind, Node, Topology
from domicile.topology.presets import load_preset, preset_names


def drawn(topology: Topology, width: int = 80, *, colour: bool = False, encoding: str = "utf-8") -> str:
    """What is printed at a width."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    console = Console(
        file=file,
        width=width,
        force_terminal=colour,
        color_system="truecolor" if colour else None,
        highlight=False,
        emoji=False,
        markup=False,
        legacy_windows=False,
    )
    console.print(TopologyView(topology))
    file.flush()
    return raw.getvalue().decode(encoding)


def machine(nodes: int, cpus_per_node: int, threads: int = 2, nodes_per_socket: int = 4) -> Topology:
    """A large regular machine."""
    return checked(
        source="made",
        nodes=[Node(node, 262144, 262144 * (node % 5) // 4) for node in range(nodes)],
        cpus=[
            Cpu(cpu, cpu // threads, cpu // cpus_per_node // nodes_per_socket, cpu // cpus_per_node)
            for cpu in range(nodes * cpus_per_node)
        ],
        distances=[[10 if a == b else 12 if a // 4 == b // 4 else 22 for b in range(nodes)] for a in range(nodes)],
        devices=[Device(f"0000:{bus:02x}:00.0", bus % nodes) for bus in range(100)],
    )


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", [40, 80, 100, 240])
@pytest.mark.parametrize("name", preset_names())
def test_presets_fit_and_show_everything(name: str, width: int, encoding: str) -> None:
    preset = load_preset(name).topology
    text = drawn(preset, width, encoding=encoding)
    assert all(len(line) <= width for line in text.splitlines())
    for node in preset.node_ids:
        assert f"node {node} " in text
    for device in preset.devices:
        assert device.address in text
    assert ("distance" in text) == (preset.distances is not None)
    assert ("latency, ns" in text) == (preset.latency_ns is not None)


def test_siblings_are_together() -> None:
    text = drawn(load_preset("default").topology)
    assert "0·1" in text
    assert "30·31" in text
    assert "socket 0" in text
    assert "30+31" in drawn(load_preset("default").topology, encoding="ascii")


def test_node_of_several_sockets() -> None:
    one = checked(
        source="made",
        nodes=[Node(0, 4096)],
        cpus=[Cpu(0, 0, 0, 0), Cpu(1, 0, 2, 0), Cpu(4, 0, 0, 0), Cpu(5, 0, 2, 0)],
    )
    text = drawn(one)
    assert "node 0 · sockets 0,2" in text
    assert "socket 0  0·4" in text
    assert "socket 2  1·5" in text


def test_rows_that_nobody_measured_are_left_out() -> None:
    rows = [line.rsplit("│", 1)[-1].split() for line in drawn(load_preset("genoa-9224-nps2-cxl").topology).splitlines()]
    assert rows.count(["4", "-", "-", "-", "-", "-"]) == 0
    assert ["4", "255", "255", "255", "255", "10"] in rows


def test_matrix_is_beside_the_nodes_where_there_is_room() -> None:
    lab = load_preset("4node").topology
    first = drawn(lab).splitlines()[3]
    assert "node 0" in first
    assert "distance" in first
    assert not any("node 0" in line and "distance" in line for line in drawn(lab, 50).splitlines())


def test_memory_that_is_free_and_memory_that_is_not_known() -> None:
    one = checked(
        source="made",
        nodes=[Node(0, 2048, 1024), Node(1, 2048), Node(2, 0, 0), Node(3, 4096, 0, MemoryKind.CXL, 512)],
        cpus=[Cpu(0, None, None, 0)],
    )
    text = drawn(one)
    assert "████████░░░░░░░░ 1 of 2 GiB free" in drawn(one, 160)
    assert "1 of 2 GiB free" in text
    assert "no memory" in text
    assert "no CPUs" in text
    assert "0 of 4 GiB CXL free" in text
    assert "512 MiB memory-side cache" in text


def test_offline_and_homeless_and_notes() -> None:
    one = checked(
        source="made",
        nodes=[Node(0, 1024)],
        cpus=[Cpu(0, 0, 0, 0), Cpu(7, 0, 0, None)],
        offline_cpus=[1, 2, 3],
        devices=[Device("0000:00:01.0", None)],
        notes=[f"number {note}" for note in range(20)],
    )
    text = drawn(one)
    assert "offline CPUs: 1-3" in text
    assert "CPUs on no node: 7" in text
    assert "1 PCI device on no node" in text
    assert "note: number 0" in text
    assert "8 more notes in --json" in text


@pytest.mark.parametrize("width", [80, 120, 300])
def test_many_nodes_and_cpus_are_condensed(width: int) -> None:
    text = drawn(machine(64, 16), width)
    lines = text.splitlines()
    assert all(len(line) <= width for line in lines)
    assert len(lines) < 160
    assert "1008-1023" in text
    assert "1024 CPUs" in lines[1]
    # each node's row of the matrix is there: itself, its three neighbours, the rest
    assert sum(line.strip().startswith(f"{node} ") for line in lines for node in range(64)) >= 128


def test_few_nodes_with_many_cpus() -> None:
    text = drawn(machine(2, 512), 80)
    assert "CPUs 0-511" in text
    assert len(text.splitlines()) < 40


def test_too_many_nodes_for_a_matrix() -> None:
    assert "too many for this width" in drawn(machine(200, 1, threads=1), 80)


def test_colour_only_where_it_is_wanted() -> None:
    assert "\x1b[" in drawn(load_preset("default").topology, colour=True)
    assert "\x1b" not in drawn(load_preset("default").topology)


def test_hostile_names_steer_no_terminal() -> None:
    one = checked(
        source="[red]x\x1b[2J",
        nodes=[Node(0, 1024)],
        cpus=[Cpu(0, 0, 0, 0)],
        devices=[Device("0000:00:01.0", 0, "\x1b]0;owned\x07[bold]")],
        name="\x9b31m\u202ename",
        notes=["line\nbreak\x00"],
    )
    for text in (drawn(one), drawn(one, encoding="ascii")):
        assert not {"\x1b", "\x9b", "\x07", "\x00", "\u202e"} & set(text)
        assert "[bold]" in text
        assert "line\\nbreak" in text


def test_plain() -> None:
    assert plain("a\tb\x1b é") == "a\\tb\\x1b é"


@settings(max_examples=30, deadline=3000, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.data())
def test_any_machine_can_be_drawn(data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, 4095), min_size=1, max_size=20, unique=True))
    figures = st.none() | st.floats(0.01, 1e6)
    matrix = tuple(tuple(data.draw(figures) for _ in ids) for _ in ids) if len(ids) < 5 else None
    some = st.none() | st.integers(0, 99999)
    one = checked(
        source="made",
        nodes=[
            Node(node, data.draw(st.integers(0, 1 << 40)), data.draw(st.none() | st.integers(0, 1 << 40)))
            for node in ids
        ],
        cpus=[
            Cpu(cpu, data.draw(some), data.draw(some), data.draw(st.sampled_from([*ids, None])))
            for cpu in data.draw(st.lists(st.integers(0, 65535), min_size=1, max_size=9, unique=True))
        ],
        latency_ns=matrix,
        bandwidth_gbs=matrix,
    )
    for width in (20, 80, 200):
        text = drawn(one, width, colour=data.draw(st.booleans()), encoding="ascii")
        assert f"{len(ids)} node" in text.replace("\n", " ")


def test_json_is_the_contracts() -> None:
    result = CliRunner().invoke(main, ["topology", "4node", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == json.loads(json.dumps(topology_json(load_preset("4node").topology)))


def test_json_round_trip_through_a_file(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    path.write_text(CliRunner().invoke(main, ["topology", "genoa-9224-nps2-cxl", "--json"]).stdout)
    again = json.loads(CliRunner().invoke(main, ["topology", str(path), "--json"]).stdout)
    assert again | {"source": ""} == json.loads(path.read_text()) | {"source": ""}


class FakeHost:
    """Just enough of a host."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.topology = checked(source=uri, nodes=[Node(0, 1024)], cpus=[Cpu(0, 0, 0, 0)])
        self.closed = False

    def snapshot(self) -> FakeHost:
        return self

    def __enter__(self) -> FakeHost:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["sim:///there"], {}),
        (["-c", "sim:///there"], {}),
        (["--connect", "sim:///there"], {"DOMICILE_URI": "sim:///other"}),
        ([], {"DOMICILE_URI": "sim:///there"}),
    ],
)
def test_a_hosts_topology(arguments: list[str], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[FakeHost] = []

    def open_host(uri: str) -> FakeHost:
        opened.append(FakeHost(uri))
        return opened[-1]

    monkeypatch.setattr("domicile.hosts.open.open_host", open_host)
    monkeypatch.delenv("DOMICILE_URI", raising=False)
    result = CliRunner().invoke(main, ["topology", "--json", *arguments], env=environment)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["source"] == "sim:///there"
    assert opened[0].closed


def test_default_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    capabilities = tmp_path / "capabilities"
    monkeypatch.setattr("domicile.cli.connect.XEN_CAPABILITIES", capabilities)
    monkeypatch.setenv("DOMICILE_URI", "")
    assert named_uri(None) is None
    assert default_uri() == "sim:///default"
    capabilities.write_text("")
    assert not is_dom0()
    capabilities.write_text("control_d\n")
    assert is_dom0()
    assert default_uri() == "xen:///"
    monkeypatch.setenv("DOMICILE_URI", "lab:///a")
    assert default_uri() == "lab:///a"
    assert default_uri("sim:///b") == "sim:///b"


def test_dom0_shows_xens_machine_rather_than_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("domicile.hosts.open.open_host", FakeHost)
    monkeypatch.setattr("domicile.cli.topology.is_dom0", lambda: True)
    monkeypatch.delenv("DOMICILE_URI", raising=False)
    result = CliRunner().invoke(main, ["topology", "--json"])
    assert json.loads(result.stdout)["source"] == "xen:///"


def test_a_source_and_a_host_are_one_too_many() -> None:
    result = CliRunner().invoke(main, ["topology", "4node", "-c", "sim:///a"])
    assert isinstance(result.exception, BadInput)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from domicile.cli.main import run; run()", *arguments]
    env = os.environ | {"PYTHONUTF8": "1", "COLUMNS": "80"} | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)


def test_exit_statuses(tmp_path: Path) -> None:
    good = run("topology", "default")
    assert (good.returncode, good.stderr) == (0, "")
    assert "\x1b" not in good.stdout
    garbage = tmp_path / "garbage"
    garbage.write_text("nr_cpus : x\n")
    for arguments in (
        ["topology", str(garbage)],
        ["topology", "absent"],
        ["topology", "a", "b"],
        ["topology", "--what"],
    ):
        bad = run(*arguments)
        assert (bad.returncode, bad.stdout) == (2, "")
        assert "Traceback" not in bad.stderr
    assert run("topology", str(garbage)).stderr.count("\n") == 1


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_reader_that_has_seen_enough(options: tuple[str, ...], tmp_path: Path) -> None:
    big = tmp_path / "big.json"
    big.write_text(json.dumps(topology_json(machine(64, 64))))
    command = [sys.executable, "-c", "from domicile.cli.main import run; run()", "topology", str(big), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
    assert process.returncode in (0, 1)


def test_a_locale_without_unicode() -> None:
    shown = run("topology", "default", PYTHONUTF8="0", PYTHONIOENCODING="ascii", LC_ALL="C", PYTHONCOERCECLOCALE="0")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "0+1" in shown.stdout
