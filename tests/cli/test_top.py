"""`domicile top` on a simulated host, without a terminal and on one."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from busy_guests import create, domicile

from domicile.local.paths import STATE_VARIABLE

HOST = "sim:///mine?machine=4node"


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with six guests, of which the fifth is busy."""
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    create(tmp_path, HOST, **{f"guest{number}": f"busy={int(number == 4)}" for number in range(6)})


def test_without_a_terminal_one_view_follows_the_other_the_busiest_first() -> None:
    views = domicile("top", "-c", HOST, "--every", "0.2", "--rounds", "2").split("sim:///mine")[1:]
    assert len(views) == 3
    for view in views[1:]:
        names = [line.split()[0] for line in view.splitlines() if line.startswith("guest")]
        assert names[0] == "guest4"
        assert len(names) == 6


@pytest.mark.parametrize("ending", ["q", "\x03"])
def test_on_a_terminal_it_fits_the_screen_and_ends_when_told_to(ending: str) -> None:
    terminal, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 14, 100, 0, 0))
    before = termios.tcgetattr(theirs)
    argv = [sys.executable, "-m", "domicile", "top", "-c", HOST, "--every", "0.2"]
    # a session of its own, whose terminal this is: so that Ctrl-C gets there
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *argv],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "", "LINES": ""},
    )
    try:
        assert b"guest5" not in read_until(terminal, b"less busy ones")
        read_until(terminal, b"guest4")
        os.write(terminal, b"x" + ending.encode())
        assert process.wait(30) == 0
        assert termios.tcgetattr(theirs) == before
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
        os.close(theirs)


def read_until(terminal: int, what: bytes, limit_s: float = 60.0) -> bytes:
    seen, until_s = b"", time.monotonic() + limit_s
    while what not in seen:
        assert time.monotonic() < until_s, seen
        if select.select([terminal], [], [], 1.0)[0]:
            seen += os.read(terminal, 65536)
    return seen
