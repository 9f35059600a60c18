"""`domicile simulate` as a person meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from domicile.cli.main import main
from domicile.errors import BadInput


def test_a_scenario_that_comes_along(tmp_path: Path) -> None:
    series = tmp_path / "s.jsonl"
    done = CliRunner().invoke(main, ["simulate", "one-busy", "--duration", "5", "--series", str(series), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["scheduler"] == "credit2"
    assert [domain["name"] for domain in found["domains"]] == ["Domain-0", "busy"]
    assert found["seconds"] == pytest.approx(5.0)
    assert series.stat().st_size > 0


def test_a_table_for_people() -> None:
    done = CliRunner().invoke(main, ["simulate", "wrong-node", "--duration", "2", "--scheduler", "credit"])
    assert done.exit_code == 0, done.output
    assert "busy" in done.stdout
    assert "100.0%" in done.stdout
    assert "remote accesses" in done.stdout
    assert "time from left to right: 0 to 212 s, 210 s of it warm-up" in done.stdout


@pytest.mark.parametrize(
    ("scenario", "key", "shown"),
    [
        ("migrate-home", "migrations", "save-restore"),
        ("slow-balloon", "balloons", "asked MiB"),
        ("sharing-same-node", "sharing", "page sharing (same-node)"),
        ("cold-pool-far", "pool", "cold-page pool (far)"),
        ("dma-near-device", "domains", "device traffic of"),
        ("xen-boot-node", "xen", "Xen's own memory (boot-node)"),
    ],
)
def test_what_a_scenario_asks_for_is_shown(scenario: str, key: str, shown: str) -> None:
    done = CliRunner().invoke(main, ["simulate", scenario, "--duration", "21"], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    assert shown in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    found = json.loads(CliRunner().invoke(main, ["simulate", scenario, "--duration", "21", "--json"]).stdout)
    assert found[key]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nowhere"], "presets are "),
        (["one-busy", "--policy", "best"], "there is no 'best'; there are domicile, libxl, xenopsd,"),
        (["one-busy", "--machine", "opteron"], "one-busy: machine: opteron: no such file or preset"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], problem: str) -> None:
    done = CliRunner().invoke(main, ["simulate", *arguments])
    assert isinstance(done.exception, BadInput)
    assert done.exception.exit_status == 2
    assert problem in str(done.exception)
