"""The programs that the lab runs, found on this machine or named with the Debian package that brings them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from domicile.errors import HostFailed

__all__ = ["BUILDING", "RUNNING", "command_output", "find", "missing_packages", "require"]

RUNNING = ("qemu-system-x86_64", "qemu-img", "ssh", "cp")
"""What every start needs."""

BUILDING = ("mmdebstrap", "tar", "mke2fs", "ssh-keygen", "unshare", "gzip")
"""What building the image needs beside those."""

PACKAGES: Mapping[str, str] = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "cp": "coreutils",
    "mmdebstrap": "mmdebstrap",
    "newuidmap": "uidmap",
    "tar": "tar",
    "mke2fs": "e2fsprogs",
    "unshare": "util-linux",
    "gzip": "gzip",
}

SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Debian leaves these off an ordinary user's PATH, and mke2fs is there."""


def find(program: str) -> str | None:
    """The program's path, None if it is not installed."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *SBIN])
    return shutil.which(program, path=path)


def missing_packages(programs: Iterable[str]) -> list[str]:
    """The Debian packages of those programs that are not installed, sorted."""
    return sorted({PACKAGES.get(program, program) for program in programs if find(program) is None})


def require(programs: Iterable[str]) -> dict[str, str]:
    """Program to path for all of them. Raises `HostFailed` with the command that installs what is missing."""
    wanted = list(programs)
    missing = missing_packages(wanted)
    if missing:
        names = " ".join(program for program in wanted if find(program) is None)
        raise HostFailed(f"the lab needs {names}: sudo apt-get install --no-install-recommends {' '.join(missing)}")
    return {program: found for program in wanted if (found := find(program)) is not None}


def command_output(argv: list[str], *, what: str, cwd: Path | None = None, timeout_s: float = 600) -> str:
    """Run a program and give what it printed. Raises `HostFailed` naming `what` with its last line if it fails."""
    try:
        done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise HostFailed(f"{what}: {argv[0]} took more than {timeout_s:.0f} s") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise HostFailed(f"{what}: {Path(argv[0]).name} failed ({done.returncode}): {lines[-1]}")
    return done.stdout
