"""`domicile show` on a simulated host: its time passes when asked, and in no time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from busy_guests import GUEST, create, domicile
from click.testing import CliRunner

from domicile.cli.main import main
from domicile.local.paths import STATE_VARIABLE


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    return tmp_path


def looked(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(domicile("show", "--json", *arguments))
    return found


def test_time_stands_still_but_for_a_window(state: Path) -> None:
    uri = "sim:///mine?machine=4node"
    create(state, uri, web1="busy=1")
    before = looked("-c", uri)
    assert before == looked("-c", uri)
    assert before["load_window_s"] is None
    after = looked("-c", uri, "--window", "20")
    assert after["taken_at"] - before["taken_at"] == pytest.approx(20)
    assert after["load_window_s"] == pytest.approx(20)
    web1 = after["domains"][1]
    assert web1["name"] == "web1"
    assert web1["load"] == pytest.approx(1.0, abs=0.05)
    assert web1["slowdown"] >= 0.95
    again = looked("-c", uri)
    assert again["taken_at"] == after["taken_at"]
    assert again["domains"][1]["vcpus"] == web1["vcpus"]
    assert [node["load"] for node in again["nodes"]] == [None] * 4


def test_people_see_where_busy_guests_end_up(state: Path) -> None:
    shown = {}
    for scheduler in ("credit", "credit2"):
        uri = f"sim:///{scheduler}?machine=4node&scheduler={scheduler}"
        create(state, uri, g1="", g2="", g3="")
        shown[scheduler] = domicile("show", "-c", f"sim:///{scheduler}", "--window", "60")
        assert f"Xen simulated · {scheduler} · 4 nodes" in shown[scheduler]
        assert "slowdown" in shown[scheduler]
        # "-" under "load" is for who does not tell
        assert "not known" not in shown[scheduler]
    stayed = [line for line in shown["credit"].splitlines() if line.startswith("g")]
    assert all("  0%  " in line for line in stayed)
    went = [line for line in shown["credit2"].splitlines() if line.startswith("g")]
    assert any("  50%  " in line or "  100%  " in line for line in went)


def test_placing_by_measured_load_lets_time_pass(state: Path) -> None:
    uri = "sim:///mine?machine=4node"
    create(state, uri, busy="", idle="busy=0")
    before = looked("-c", uri)["taken_at"]
    (state / "new.cfg").write_text(GUEST.format(name="new", does=""))
    placed = json.loads(domicile("place", "-c", uri, "--json", "--window", "10", str(state / "new.cfg")))
    assert looked("-c", uri)["taken_at"] - before == pytest.approx(10)
    # the node of the idle guest is as good as an empty one, that of the busy one is not
    homes = {domain["name"]: domain["home_nodes"] for domain in looked("-c", uri)["domains"]}
    assert placed["placements"][0]["nodes"] != homes["busy"]


def test_placing_knows_what_ran_without_waiting(state: Path) -> None:
    """Nobody looked while the guests ran: what they used since their start tells."""
    uri = "sim:///mine?machine=4node"
    create(state, uri, busy="busy=2", idle="busy=0")
    homes = {domain["name"]: domain["home_nodes"] for domain in looked("-c", uri, "--window", "20")["domains"]}
    both = ",".join(f"nodes:{node}" for node in homes["busy"] + homes["idle"])
    new = state / "new.cfg"
    new.write_text(GUEST.format(name="new", does="") + f'cpus = "{both}"\n')
    for _ in range(2):
        (placed,) = json.loads(domicile("place", "-c", uri, "--json", str(new)))["placements"]
        assert placed["nodes"] == homes["idle"]
    (kept,) = (state / "state" / "load").glob("*.sqlite")
    assert kept.stat().st_mode & 0o077 == 0


def test_placing_goes_on_without_the_record_of_load(state: Path) -> None:
    uri = "sim:///mine?machine=4node"
    create(state, uri, busy="busy=2")
    (kept,) = (state / "state" / "load").glob("*.sqlite")
    for each in kept.parent.iterdir():
        each.unlink()
    kept.write_bytes(b"something else" * 100)
    (state / "new.cfg").write_text(GUEST.format(name="new", does=""))
    result = CliRunner().invoke(main, ["place", "-c", uri, str(state / "new.cfg")], catch_exceptions=False)
    assert result.exit_code == 0
    assert "how busy domains were before is not known" in result.stderr


def test_an_interrupt_keeps_what_has_passed(state: Path) -> None:
    uri = "sim:///mine?machine=4node"
    create(state, uri, web1="busy=1")
    before = looked("-c", uri)["taken_at"]
    month = 31 * 86400
    argv = [sys.executable, "-m", "domicile", "show", "-c", uri, "--window", str(month)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as show:
        try:
            while looked("-c", uri)["taken_at"] == before:
                assert show.poll() is None
                time.sleep(0.05)
            show.send_signal(signal.SIGINT)
            _, said = show.communicate(timeout=120)
        finally:
            show.kill()
    assert (show.returncode, said.strip()) == (130, "domicile: interrupted")
    after = looked("-c", uri)
    assert 0 < after["taken_at"] - before < month
    assert sum(vcpu["time_ns"] for vcpu in after["domains"][1]["vcpus"]) > 0
    assert {vcpu["waiting"] for domain in after["domains"][1:] for vcpu in domain["vcpus"]} <= {True, False}


def test_a_workload_that_is_none(state: Path) -> None:
    (state / "new.cfg").write_text(GUEST.format(name="new", does="workload=nosuch"))
    result = CliRunner().invoke(main, ["create", "-c", "sim:///4node", str(state / "new.cfg")])
    assert result.exit_code != 0
    assert "workload=nosuch is none of busy, database" in result.output + str(result.exception)
