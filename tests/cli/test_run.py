"""`domicile run` as systemd and a person at a terminal have it, `domicile stop`, and the unit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from needs import missing
from played_host import PlayedHost
from watched import NODES, busy

from domicile.cli.main import main
from domicile.cli.unit import exec_line, unit
from domicile.errors import BadInput, Halted
from domicile.hosts.actions import Hold, SetAffinity


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> PlayedHost:
    """What every URI leads to: two guests with their memory on another node than their vCPUs."""
    found = PlayedHost([busy("web", (2, 3), 2, soft=NODES[1]), busy("db", (4, 5), 3, soft=NODES[2])])
    monkeypatch.setenv("DOMICILE_STATE", str(tmp_path / "state"))
    for module in ("domicile.hosts.open", "domicile.cli.stop", "domicile.cli.balance"):
        monkeypatch.setattr(f"{module}.open_host", lambda uri: found)
    return found


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[socket.socket]:
    """systemd's end of the notification socket."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(address)
        heard.settimeout(0.5)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        monkeypatch.setenv("WATCHDOG_USEC", str(300_000_000))
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
        yield heard


def said(heard: socket.socket) -> list[str]:
    lines = []
    while True:
        try:
            lines.append(heard.recv(4096).decode())
        except TimeoutError:
            return lines


def test_a_service_from_start_to_end(host: PlayedHost, supervisor: socket.socket, tmp_path: Path) -> None:
    config = tmp_path / "domicile.toml"
    config.write_text("[manager]\ninterval_s = 2\ndeny = ['db']\n")
    signals = {5.0: signal.SIGHUP, 9.0: signal.SIGHUP, 13.0: signal.SIGTERM}
    texts = {5.0: "[manager]\ninterval_s = 2\n", 9.0: "[manager]\nintervals = 2\n"}

    def then(now_s: float) -> None:
        if now_s in texts:
            config.write_text(texts[now_s])
        if now_s in signals:
            os.kill(os.getpid(), signals[now_s])

    host.then = then
    result = CliRunner().invoke(main, ["run", "--config", str(config), "--notify", "--log-format", "json"])
    assert (result.exit_code, result.exception) == (0, None)
    events = [json.loads(line) for line in result.output.splitlines()]
    kinds = [event["event"] for event in events]
    assert (kinds[0], kinds[-1]) == ("started", "ended")
    assert all(set(event) == {"time", "level", "event", "domain", "what", "why", "fields"} for event in events)
    assert {event["domain"] for event in events[: kinds.index("reloaded")]} == {None, "web"}
    assert {event["domain"] for event in events[kinds.index("reloaded") :]} >= {"db"}
    [refused] = [event for event in events if event["event"] == "reload_refused"]
    assert refused["level"] == "error"
    assert "unknown key intervals; did you mean interval_s?" in refused["why"]
    assert host.now_s == pytest.approx(13.0)
    lines = [line.partition("\n")[0] for line in said(supervisor) if not line.startswith("STATUS=")]
    assert lines == ["READY=1", "WATCHDOG=1", *["RELOADING=1", "READY=1"] * 2, "STOPPING=1"]


def test_lines_for_a_person(host: PlayedHost) -> None:
    result = CliRunner().invoke(main, ["run", "--rounds", "3", "--interval", "2"])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    [soft] = [line for line in lines if " web " in line and "soft affinity" in line]
    assert "soft affinity to CPUs 4-5  " in soft
    assert "its memory is 100% on node 2" in soft
    # columns, whatever is in them
    assert len({line.index("  ", 21) for line in lines if " - " in line[:40]}) == 1


def test_the_configuration_is_read_before_the_host_is_touched(host: PlayedHost, tmp_path: Path) -> None:
    config = tmp_path / "domicile.toml"
    config.write_text("[manager]\ninterval = 2\n")
    for command in (["run"], ["balance"]):
        result = CliRunner().invoke(main, [*command, "--config", str(config)])
        assert isinstance(result.exception, BadInput)
        assert str(result.exception) == f"{config}: manager: unknown key interval; did you mean interval_s?"
        assert result.exception.exit_status == 2
    assert host.now_s == 0.0


def test_a_round_by_hand_honours_the_lists(host: PlayedHost, tmp_path: Path) -> None:
    config = tmp_path / "domicile.toml"
    config.write_text("[manager]\nallow = ['w*']\n")
    result = CliRunner().invoke(main, ["balance", "--dry-run", "--config", str(config)])
    assert result.exit_code == 0
    assert "db: left alone: domicile.toml says so" in result.output
    assert host.performed == []
    result = CliRunner().invoke(main, ["balance", "--json", "--config", str(config)])
    assert json.loads(result.output)["left_alone"] == [{"domain": "db", "reason": "domicile.toml says so"}]
    assert {each.domain for each in host.performed if isinstance(each, Hold | SetAffinity)} == {"web"}


def test_stopped_and_let_start_again(host: PlayedHost) -> None:
    result = CliRunner().invoke(main, ["stop", "--why", "it moves\tthe wrong ones"])
    assert result.exit_code == 0
    assert "no manager starts until `domicile stop --off`" in result.output
    assert host.halted.endswith(": it moves\tthe wrong ones")
    for command in (["run"], ["balance"]):
        refused = CliRunner().invoke(main, command)
        assert isinstance(refused.exception, Halted)
        assert "it moves" in str(refused.exception)
    assert CliRunner().invoke(main, ["stop", "--off"]).exit_code == 0
    assert host.halted == ""
    assert CliRunner().invoke(main, ["run", "--rounds", "1", "--interval", "1"]).exit_code == 0
    assert isinstance(CliRunner().invoke(main, ["stop", "--off", "--why", "x"]).exception, BadInput)


@pytest.mark.parametrize("uri", ["xen:///", "xen+ssh://root@host7:2222/"])
def test_systemd_takes_the_unit(uri: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        missing("no systemd-analyze: apt-get install systemd")
    path = tmp_path / "domicile-of-test.service"
    path.write_text(unit(uri, Path("/etc/domicile/100%.toml")))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=30", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout


def test_what_the_unit_says() -> None:
    local = unit("xen:///", None)
    assert f"ExecStart={sys.executable} -P -m domicile run --notify --connect xen:///\n" in local
    assert "@" not in local.replace("@system-service", "")
    assert "DeviceAllow=/dev/xen/privcmd rw" in local
    remote = unit("xen+ssh://root@host7/", Path("/etc/domicile.toml"), ["/usr/bin/domicile"])
    assert (
        "ExecStart=/usr/bin/domicile run --notify --connect xen+ssh://root@host7/ --config /etc/domicile.toml" in remote
    )
    assert "ProtectHome=read-only" in remote
    assert "privcmd" not in remote
    assert "ProtectHome=yes" in unit("xen:///", None, ["/usr/bin/domicile"])
    with pytest.raises(BadInput, match="has no use for one"):
        unit("sim:///default", None)


def test_words_of_a_command_line() -> None:
    assert exec_line(["/a b/x", "50%", "$HOME", 'say "hi"', "back\\slash", ""]) == (
        '"/a b/x" 50%% $$HOME "say \\"hi\\"" "back\\\\slash" ""'
    )
    with pytest.raises(BadInput):
        exec_line(["two\nlines"])
