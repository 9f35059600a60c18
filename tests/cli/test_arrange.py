"""`domicile arrange`, and how long and how well `place` searches, as a person meets it."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from domicile.cli import arrange
from domicile.cli.main import main
from domicile.cli.searching import Interruption, searching
from domicile.errors import BadInput, Refused

GUEST = 'name = "{}"\ntype = "pvh"\nvcpus = {}\nmemory = {}\n'


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command on a simulated host for guests: vCPUs and MiB of each."""
    monkeypatch.setenv("DOMICILE_STATE", str(tmp_path / "state"))

    def command(name: str, guests: list[tuple[int, int]], *options: str, host: str = "default") -> Result:
        paths = [tmp_path / f"g{number}.cfg" for number in range(len(guests))]
        for path, (vcpus, mib) in zip(paths, guests, strict=True):
            path.write_text(GUEST.format(path.stem, vcpus, mib))
        arguments = [name, *map(str, paths), *options, "-c", f"sim:///{host}"]
        return CliRunner().invoke(main, arguments, env={"COLUMNS": "120"})

    return command


def test_the_host_as_it_is_and_as_it_could_be(run: Any) -> None:
    assert run("create", [(2, 2048), (12, 20480)]).exit_code == 0
    done = run("arrange", [], "--json")
    assert done.exit_code == 0, done.output
    plan = json.loads(done.stdout)
    rows = {row["domain"]: row for row in plan["domains"]}
    assert list(rows) == ["Domain-0", "g0", "g1"]
    assert rows["Domain-0"]["stays"] == "Dom0"
    assert plan["mean_slowdown"]["after"] <= plan["mean_slowdown"]["before"]
    means = plan["mean_slowdown"]
    assert plan["predicted_gain"] == pytest.approx(1.0 - means["after"] / means["before"], abs=2e-4)
    assert plan["move_mib"] == sum(row["move_mib"] for row in rows.values())
    # 20 GiB and 12 busy vCPUs: three nodes, though they are not near each other, and never that of the other guest
    assert len(rows["g1"]["nodes_after"]) == 3
    assert not set(rows["g1"]["nodes_after"]) & set(rows["g0"]["nodes_after"])


def test_newcomers_are_planned_with_those_who_are_there(run: Any) -> None:
    done = run("arrange", [(2, 1000), (4, 2000)])
    assert done.exit_code == 0, done.output
    assert [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("g")] == ["new", "new"]
    assert "predicted slowdown then: mean" in done.stdout


def test_what_has_no_room_however_the_others_move_is_refused(run: Any) -> None:
    done = run("arrange", [(2, 70_000)])
    assert isinstance(done.exception, Refused)


def test_nothing_is_changed_by_it(run: Any) -> None:
    before = run("arrange", [(2, 500)], "--json", "--seed", "3").stdout
    assert before
    assert run("arrange", [(2, 500)], "--json", "--seed", "3").stdout == before


def test_a_budget_is_for_the_search_of_domicile(run: Any) -> None:
    done = run("place", [(2, 500), (2, 500), (4, 500)], "--json", "--budget", "0.1")
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)["placements"]) == 3
    for option in (["--budget", "1"], ["--seed", "1"]):
        refused = run("place", [(2, 500)], "--policy", "libxl", *option)
        assert isinstance(refused.exception, BadInput)
        assert "does not search" in str(refused.exception)


def test_few_guests_are_proven_by_trying_all(run: Any) -> None:
    done = run("place", [(2, 500), (2, 500)], "--json", "--exact")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["exact"] == {"proven": True, "gap": None, "deviation": None}


def test_more_guests_are_bounded_by_highs(run: Any) -> None:
    pytest.importorskip("highspy")
    done = run("place", [(2, 500)] * 6, "--json", "--exact", "--budget", "2")
    assert done.exit_code == 0, done.output
    exact = json.loads(done.stdout)["exact"]
    assert 0.0 <= exact["gap"] < 0.2
    assert exact["proven"] == (exact["gap"] <= 1e-4)


@pytest.mark.parametrize("text", ["-1", "nan", "2x", "1e9", "25h", ""])
def test_a_budget_that_is_no_time_is_one_line(run: Any, text: str) -> None:
    refused = run("place", [(2, 500)] * 2, "--budget", text)
    assert isinstance(refused.exception, BadInput)
    assert str(refused.exception).startswith("--budget: ")
    assert "\n" not in str(refused.exception)


@pytest.mark.parametrize(
    ("text", "seconds"), [("2s", 2.0), ("500ms", 0.5), ("1.5", 1.5), ("3m", 180.0), ("1h", 3600.0)]
)
def test_a_budget_has_a_unit(text: str, seconds: float) -> None:
    option = next(one for one in arrange.command.params if one.name == "budget_s")
    assert option.type.convert(text, option, None) == seconds


def test_ctrl_c_ends_the_search_and_then_the_command(capfd: pytest.CaptureFixture[str]) -> None:
    interruption = Interruption()
    with interruption.watched(), searching(60.0, 1, interruption) as effort:
        assert effort.going_on(0.0)
        os.kill(os.getpid(), signal.SIGINT)
        assert not effort.going_on(0.1)
        assert not effort.proving_on(0.1)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert "the best so far is kept" in capfd.readouterr().err


def test_the_best_so_far_is_what_ctrl_c_leaves(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it would be with a budget of a minute, and Ctrl-C at once."""
    monkeypatch.setattr(Interruption, "__call__", lambda _: True)
    done = run("place", [(2, 500)] * 9, "--json", "--budget", "60s")
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)["placements"]) == 9
    proof = run("place", [(2, 500)] * 2, "--json", "--exact")
    assert "exact" not in json.loads(proof.stdout)


def test_without_highs_a_line_says_how_to_get_it(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highspy", None)
    refused = run("place", [(2, 500)] * 6, "--exact", "--budget", "100ms")
    assert isinstance(refused.exception, Refused)
    assert "pip install" in str(refused.exception)
    assert "\n" not in str(refused.exception)
