"""`domicile arrange`, and how long and how well `place` searches, as a person meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from domicile.cli.main import main
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
