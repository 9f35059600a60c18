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


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nowhere"], "presets are "),
        (["one-busy", "--policy", "best"], "there is no 'best'; there are domicile, libxl, none"),
        (["one-busy", "--machine", "opteron"], "no such file or preset"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], problem: str) -> None:
    done = CliRunner().invoke(main, ["simulate", *arguments])
    assert isinstance(done.exception, BadInput)
    assert done.exception.exit_status == 2
    assert problem in str(done.exception)
