"""Real processes of domicile on a simulated host, ended by kill -9 at moments drawn by chance."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from domicile.hosts.actions import Destroy
from domicile.hosts.open import open_host
from domicile.hosts.protocol import Host
from domicile.local.paths import STATE_VARIABLE
from domicile.manager.balance import managing
from domicile.manager.intents import ActStatus
from domicile.manager.journal import Journal
from domicile.manager.recovery import settle
from domicile.manager.settling import settle_changes

URI = "sim:///killed?machine=4node"
GUEST = 'name = "{name}"\ntype = "pvh"\nkernel = "/boot/vmlinuz"\nmemory = {memory}\nvcpus = 2\n'

COMMANDS = {
    "create": ["create", "new1.cfg", "new2.cfg"],
    "migrate": ["migrate", "web", "--to", "2", "--way", "live", "--pause", "100", "--rate", "20"],
    "save": ["migrate", "web", "--to", "3", "--way", "save", "--pause", "100", "--rate", "50"],
    "balloon": ["migrate", "web", "--to", "1", "--way", "balloon", "--min", "64"],
    "run": ["run", "--interval", "1", "--rounds", "3"],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    for name in ("web", "new1", "new2"):
        (tmp_path / f"{name}.cfg").write_text(GUEST.format(name=name, memory=256))
    return tmp_path


def domicile(words: Sequence[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "domicile", words[0], "-c", URI, *words[1:]]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ))


def whole(words: Sequence[str]) -> float:
    """Let it come to its end; how long that takes."""
    begun = time.monotonic()
    process = domicile(words)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    return time.monotonic() - begun


def killed_within(words: Sequence[str], seconds: float) -> None:
    """End it after this time, unless it has ended before."""
    process = domicile(words)
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def look_after(host: Host, journal: Journal) -> None:
    """As the next manager does, until nothing is left."""
    settle(host, journal)
    with managing(host, "the next"):
        for _ in range(60):
            settle_changes(host.snapshot(), host, journal)
            if not host.snapshot().moves:
                break
            host.wait(5.0)


def assert_whole(host: Host, journal: Journal, sure: set[str]) -> None:
    """Nothing is left over, and who ran runs."""
    snapshot = host.snapshot()
    assert not snapshot.reservations
    assert not snapshot.holds
    assert not snapshot.moves
    assert snapshot.manager == ""
    guests = [domain for domain in snapshot.domains if domain.id]
    assert not [domain.name for domain in guests if domain.paused]
    assert all(domain.memory_mib == 256 for domain in guests)
    assert all(sum((domain.pages_by_node or {}).values()) == 256 * 256 for domain in guests)
    names = [domain.name for domain in guests]
    assert len(names) == len(set(names))
    assert {intent.wanted.domain for intent in journal.active()} == set(names) >= sure
    assert not journal.pending()
    assert not [move for move in journal.moves() if move.pending]
    assert not {act.status for act in journal.acts()} & {ActStatus.PLANNED, ActStatus.UNDOING}


def kill_often(command: str, times: int, seed: int) -> None:
    chance = random.Random(seed)
    whole(["create", "web.cfg"])
    # what it takes from its start to its end, most of which is Python's own start
    longest_s = whole(COMMANDS[command])
    for _ in range(times):
        with open_host(URI) as host, Journal.for_host(host.snapshot().host_id) as journal:
            for domain in host.snapshot().domains:
                if domain.id and domain.name != "web":
                    host.perform(Destroy(domain.name))
                    journal.forget(domain.name)
        killed_within(COMMANDS[command], chance.uniform(0.3, 1.0) * longest_s)
        with open_host(URI) as host, Journal.for_host(host.snapshot().host_id) as journal:
            look_after(host, journal)
            assert_whole(host, journal, {"web"})
        undone = domicile(["undo"])
        undone.communicate()
        assert undone.returncode in {0, 1}
        with open_host(URI) as host, Journal.for_host(host.snapshot().host_id) as journal:
            look_after(host, journal)
            assert_whole(host, journal, {"web"})


@pytest.mark.slow
@pytest.mark.parametrize("command", ["create", "migrate"])
def test_killed_now_and_then(folder: Path, command: str) -> None:
    kill_often(command, 2, 1)


@pytest.mark.soak
@pytest.mark.parametrize("command", COMMANDS)
def test_killed_often(folder: Path, command: str) -> None:
    kill_often(command, 12, 2)
