"""`domicile lab` without a lab: what it says, and with which exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def domicile(tmp_path: Path) -> Run:
    """The command in a process of its own, with folders of its own."""

    def run(*words: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": path if path is not None else "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "DOMICILE_LAB_CACHE": str(tmp_path / "cache"),
            "DOMICILE_LAB_STATE": str(tmp_path / "state"),
        }
        code = "from domicile.cli.main import run; run()"
        return subprocess.run(
            [sys.executable, "-c", code, "lab", *words], capture_output=True, text=True, env=environment, check=False
        )

    return run


def one_line(done: subprocess.CompletedProcess[str], status: int) -> str:
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("domicile: ")
    return done.stderr


def test_status_of_nothing(domicile: Run, tmp_path: Path) -> None:
    assert domicile("status").stdout.startswith("no lab is running; `domicile lab up` starts one\n")
    shown = json.loads(domicile("status", "--json").stdout)
    assert shown["labs"] == []
    assert shown["cache"] == {"folder": str(tmp_path / "cache"), "size_mib": 0, "limit_mib": 2048}


def test_down_all_of_nothing_is_done(domicile: Run) -> None:
    done = domicile("down", "--all")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("words", [("ssh",), ("ssh", "default", "--", "true"), ("ssh", "--", "true"), ("down",)])
def test_no_such_lab(domicile: Run, words: tuple[str, ...]) -> None:
    assert "domicile lab up default" in one_line(domicile(*words), 2)


def test_bad_machine_file(domicile: Run, tmp_path: Path) -> None:
    machine = tmp_path / "m.toml"
    machine.write_text("[[node]]\ncpus = 2\nmemory_mib = 2048\nsize = 1\n")
    for words in (("up",), ("run", str(machine))):
        said = one_line(domicile(words[0], "--machine", str(machine), *words[1:]), 2)
        assert f"{machine}: node[0].size: no such key; there are cpus, memory_mib" in said
    assert "presets are" in one_line(domicile("up", "--machine", "no-such"), 2)


def test_bad_names(domicile: Run) -> None:
    assert "no lab can be called that" in one_line(domicile("up", "a/b"), 2)
    assert "not both" in one_line(domicile("down", "a", "--all"), 2)


def test_bad_script(domicile: Run, tmp_path: Path) -> None:
    assert "cannot be read: No such file" in one_line(domicile("run", str(tmp_path / "none")), 2)
    assert "cannot be read: Is a directory" in one_line(domicile("run", str(tmp_path)), 2)


def test_missing_programs_are_named_with_the_command_that_installs_them(domicile: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = one_line(domicile("up", path=str(tmp_path / "empty")), 3)
    assert "apt-get install --no-install-recommends" in said
    assert "qemu-system-x86" in said


def test_help_is_there_for_every_command(domicile: Run) -> None:
    for name in ("up", "down", "status", "ssh", "run"):
        assert domicile(name, "--help").returncode == 0
