"""`domicile vnuma`, and virtual nodes in `place`, `create` and `verify`, on a simulated host of 4 nodes with 2 CPUs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from domicile.cli.main import main
from domicile.errors import DomicileError
from domicile.hosts.actions import CreatePaused, Destroy, Unpause
from domicile.hosts.open import open_host
from domicile.topology.presets import load_preset
from domicile.xlcfg.guest import read_as_started, read_guest
from domicile.xlcfg.syntax import parse

WIDE = 'name = "wide"\ntype = "hvm"\nvcpus = 4\nmemory = 1024\n'
VNODES = [
    {"pnode": 0, "size_mib": 512, "vcpus": [0, 1], "vdistances": [10, 16]},
    {"pnode": 1, "size_mib": 512, "vcpus": [2, 3], "vdistances": [16, 10]},
]


class Commands:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, command: str, text: str = "", *options: str, expect: int = 0) -> str:
        """What a command prints (or its one line of error) for a config of this text."""
        files = []
        if text:
            config = self.folder / "wide.cfg"
            config.write_text(text)
            files = [str(config)]
        result = CliRunner().invoke(main, [command, *files, *options, "-c", "sim:///4node"])
        if isinstance(result.exception, DomicileError):
            assert result.exception.exit_status == expect, result.exception
            return str(result.exception)
        assert result.exit_code == expect, f"{result.output}\n{result.exception!r}"
        return result.output

    def json(self, *arguments: str, expect: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", expect=expect))


@pytest.fixture
def domicile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.setenv("DOMICILE_STATE", str(tmp_path / "state"))
    return Commands(tmp_path)


def test_the_lines_are_for_the_file(domicile: Commands) -> None:
    lines = domicile.run("vnuma", WIDE)
    assert lines.startswith(
        "# wide: wider than a node (4 vCPUs, no node has more than 2 pCPUs for it): 2 virtual nodes"
    )
    assert "# added by domicile: 2 virtual nodes on nodes 0-1 (vnuma)\nvnuma = [" in lines
    topology = load_preset("4node").topology
    request = read_as_started(parse(WIDE + lines, "wide.cfg"), topology)
    assert [(v.pnode, v.memory_mib, v.distances) for v in request.vnodes] == [(0, 512, (10, 16)), (1, 512, (16, 10))]
    assert request.soft_affinity == (frozenset({0, 1}),) * 2 + (frozenset({2, 3}),) * 2
    # what domicile added is no wish of the administrator's
    assert read_guest(parse(WIDE + lines, "wide.cfg"), topology).vnodes == ()


def test_json(domicile: Commands) -> None:
    (placement,) = domicile.json("place", WIDE)["placements"]
    assert placement["vnuma"] == VNODES
    (answer,) = domicile.json("vnuma", WIDE)["guests"]
    assert answer["vnuma"] == VNODES
    assert [line.split(" = ")[0] for line in answer["lines"] if not line.startswith("#")] == ["vnuma", "cpus_soft"]
    assert domicile.json("place", WIDE, "--vnuma", "off")["placements"][0]["vnuma"] is None


@pytest.mark.parametrize(
    ("text", "options", "expect", "says"),
    [
        (WIDE.replace("4", "2", 1), (), 0, "no virtual nodes: it is no wider than a node"),
        (WIDE.replace("hvm", "pvh"), (), 1, 'cpus_soft = ["0-1", "0-1", "2-3", "2-3"]'),
        (WIDE.replace("hvm", "pv"), (), 1, "libxl refuses virtual nodes for PV guests"),
        (WIDE + "maxmem = 2048\n", (), 1, "populate on demand and virtual nodes exclude each other"),
        (WIDE + "maxmem = 2048\n", ("--vnuma", "2"), 1, "wide: cannot have 2 virtual nodes: maxmem= (2048 MiB)"),
        (WIDE, ("--vnuma", "3"), 0, "asked for: 3 virtual nodes"),
        (WIDE, ("--vnuma", "many"), 2, "'many' is none of auto, off and a number from 1 to 32"),
    ],
)
def test_who_gets_none(domicile: Commands, text: str, options: tuple[str, ...], expect: int, says: str) -> None:
    assert says in domicile.run("vnuma", text, *options, expect=expect)


def test_a_domain_that_is_started_again_keeps_its_virtual_nodes(domicile: Commands) -> None:
    """The first time its topology is asked for; the second time nobody says so, and node 0 has become too full."""
    (first,) = domicile.json("create", WIDE, "--vnuma", "3")["placements"]
    assert "all as intended" in domicile.run("verify")
    with open_host("sim:///4node") as host:
        host.perform(Destroy("wide"))
        full = 'name = "full"\nmemory = 1600\ncpus = "nodes:0"\ncpus_soft = "nodes:0"\nvcpus = 1\n'
        host.perform(CreatePaused("full", full))
        host.perform(Unpause("full"))
    (again,) = domicile.json("create", WIDE)["placements"]
    assert "keeps the virtual nodes that it had: 3 virtual nodes" in again["reasons"][-1]
    shapes = [[(v["size_mib"], v["vcpus"], v["vdistances"]) for v in one["vnuma"]] for one in (first, again)]
    assert shapes[0] == shapes[1]
    assert 0 not in {v["pnode"] for v in again["vnuma"]}
    assert "all as intended" in domicile.run("verify", "", "--forget", "wide")


def test_pnodes_that_the_configuration_leaves_open(domicile: Commands) -> None:
    loose = "vnuma = [['size=600', 'vcpus=0,3', 'vdistances=10,30'], ['size=424', 'vcpus=1-2', 'vdistances=30,10']]\n"
    text = WIDE.replace("memory = 1024\n", "") + loose
    (placement,) = domicile.json("create", text)["placements"]
    assert [(v["size_mib"], v["vcpus"], v["vdistances"]) for v in placement["vnuma"]] == [
        (600, [0, 3], [10, 30]),
        (424, [1, 2], [30, 10]),
    ]
    assert len({v["pnode"] for v in placement["vnuma"]}) == 2
    assert "all as intended" in domicile.run("verify")
    pinned = text.replace("'size=600'", "'size=1900', 'pnode=2'").replace("wide", "two")
    assert "without pnode= another could be used" in domicile.run("create", pinned, expect=1)


def test_domicile_toml_names_who_gets_how_many(domicile: Commands) -> None:
    file = domicile.folder / "domicile.toml"
    file.write_text('[vnuma]\ndefault = "off"\ndomains = { wide = 4 }\n')
    assert len(domicile.json("vnuma", WIDE, "--config", str(file))["guests"][0]["vnuma"]) == 4
    other = WIDE.replace("wide", "other")
    assert domicile.json("vnuma", other, "--config", str(file))["guests"][0]["vnuma"] is None
    file.write_text("[vnuma]\ndomains = { wide = 99 }\n")
    assert "vnuma.domains" in domicile.run("vnuma", WIDE, "--config", str(file), expect=2)
