"""Commands in a Dom0 that does not answer, with a client that is played."""

from __future__ import annotations

from pathlib import Path

import pytest

from domicile.errors import HostFailed
from domicile.lab import lab as running
from domicile.lab import load_machine
from domicile.lab.folder import Record
from domicile.lab.lab import Lab

HANGS = "Connection timed out during banner exchange"
BROKE = "Timeout, server 127.0.0.1 not responding."


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path, Record("played", "2node", load_machine("2node"), "image", 0.0, ssh_port=22))


@pytest.fixture
def healed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    places: list[Path] = []
    monkeypatch.setattr(running, "heal", places.append)
    return places


def play(folder: Path, monkeypatch: pytest.MonkeyPatch, said: str, times: int) -> Path:
    """An `ssh` that fails so often, saying this, and then prints what it was given; the file that counts its calls."""
    calls = folder / "calls"
    program = folder / "bin/ssh"
    program.parent.mkdir()
    program.write_text(
        f"#!/bin/sh\necho >>{calls}\n[ $(wc -l <{calls}) -gt {times} ] || {{ echo '{said}' >&2; exit 255; }}\ncat\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    return calls


def test_a_dom0_that_does_not_answer_is_healed_and_asked_again(
    lab: Lab, healed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    play(lab.folder, monkeypatch, HANGS, 1)
    assert lab.run(["cat"], input="given").stdout == "given"
    assert healed == [lab.folder]


def test_one_that_hangs_on_is_given_up(lab: Lab, healed: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = play(lab.folder, monkeypatch, HANGS, 9)
    with pytest.raises(HostFailed, match=f"Dom0 cannot be reached: {HANGS}"):
        lab.run(["cat"])
    assert len(calls.read_text()) == 2


def test_what_may_have_begun_is_not_begun_again(lab: Lab, healed: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = play(lab.folder, monkeypatch, BROKE, 9)
    with pytest.raises(HostFailed, match=f"Dom0 cannot be reached: {BROKE}"):
        lab.run(["cat"])
    assert (len(calls.read_text()), healed) == (1, [])
