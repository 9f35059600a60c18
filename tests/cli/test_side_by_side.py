"""`domicile simulate --compare` as a person meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from domicile.cli.main import main
from domicile.errors import BadInput

SHARING = """
machine = "4node"
scheduler = "credit"
warm_up_s = 5
duration_s = 10

[sharing]
scan_mib_s = 1000

[[domain]]
name = "shop"
count = 4
vcpus = 1
memory_mib = 1200
workload = "specjbb"
equal_pages = 0.5
"""


@pytest.fixture
def shop(tmp_path: Path) -> str:
    path = tmp_path / "shop.toml"
    path.write_text(SHARING)
    return str(path)


def test_predicted_beside_simulated(shop: str) -> None:
    done = CliRunner().invoke(main, ["simulate", shop, "--compare", "sharing.mode=any-node,same-node", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    anywhere, near = found["runs"]
    assert (found["compare"], anywhere["value"], near["value"]) == ("sharing.mode", "any-node", "same-node")
    # 3 copies of 600 MiB, of which each guest has written to 0.1 MiB/s
    assert anywhere["simulated"]["freed_mib"] == pytest.approx(1800, abs=15)
    assert anywhere["error"]["freed_mib"] == pytest.approx(0, abs=15)
    assert anywhere["error"]["remote_share"] == pytest.approx(0, abs=0.02)
    # two guests share a node's cache, of which the policy is not told: that is in both
    assert anywhere["error"]["mean_loss"] == pytest.approx(0, abs=0.05)
    assert anywhere["simulated"]["mean_loss"] > 0.1
    # what little two of them have on one node
    assert near["simulated"]["freed_mib"] < 300
    assert near["error"]["freed_mib"] == pytest.approx(0, abs=15)
    assert [each["mode"] for each in found["modes"]] == ["off", "same-node", "any-node"]
    assert found["best"]["mode"] in {"off", "any-node"}
    assert found["best"]["reason"]


def test_a_table_for_people(shop: str) -> None:
    done = CliRunner().invoke(main, ["simulate", shop, "--compare", "sharing.mode=off,any-node"], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    for word in ("predicted", "simulated", "error", "freed", "best for this host"):
        assert word in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_any_other_key(shop: str) -> None:
    done = CliRunner().invoke(main, ["simulate", shop, "--compare", "seed=1,2", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert "best" not in found
    assert ["predicted" in run for run in found["runs"]] == [False, False]
    assert all(run["simulated"]["mean_slowdown"] >= 1.0 for run in found["runs"])


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ("sharing.mode=off,near", "there is no 'near'"),
        ("sharing.mode=off,off", "each once"),
        ("tiering.mode=far-memory", "every node with memory has CPUs"),
        ("sharing.modes=off", "did you mean 'mode'?"),
    ],
)
def test_what_cannot_be(shop: str, asked: str, problem: str) -> None:
    done = CliRunner().invoke(main, ["simulate", shop, "--compare", asked])
    assert isinstance(done.exception, BadInput)
    assert problem in str(done.exception)


@pytest.mark.parametrize("arguments", [["--compare", "seed"], ["--compare", "seed=1", "--picture", "x.svg"]])
def test_wrong_usage(shop: str, arguments: list[str]) -> None:
    assert CliRunner().invoke(main, ["simulate", shop, *arguments]).exit_code == 2
