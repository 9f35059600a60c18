"""Install the Debian packages that the tests need, where that may be done: as root, or with a sudo that asks nothing.

Elsewhere it says what is missing and leaves with status 0: the tests that need it then skip with that reason (in CI the
lab's fail).
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from domicile.lab.programs import BUILDING, RUNNING, find, missing_packages

TOOLS = {"gcc": "gcc", "/usr/include/stdio.h": "libc6-dev", "cpio": "cpio"}
"""For the lab's guests and its counting plug-in."""
SERVER = {"sshd": "openssh-server"}
"""Tests start an sshd of their own on loopback. Debian's package starts one for everybody, so only CI gets it."""
XL_LIBRARY = ("libxlutil.so.4.17", "libxenmisc4.17")
"""The parser of `xl` itself, which ours is compared with."""


def missing() -> list[str]:
    """The packages that are not installed."""
    packages = set(missing_packages([*RUNNING, *BUILDING, *(["newuidmap"] if os.geteuid() else [])]))
    for thing, package in (TOOLS | (SERVER if os.environ.get("CI") else {})).items():
        if not (Path(thing).exists() if thing.startswith("/") else find(thing)):
            packages.add(package)
    try:
        ctypes.CDLL(XL_LIBRARY[0])
    except OSError:
        packages.add(XL_LIBRARY[1])
    return sorted(packages)


def main() -> int:
    """Install what is missing, or say what to install."""
    packages = missing()
    if not packages:
        return 0
    if shutil.which("apt-get") is None:
        print(f"tests: this is no Debian; please install what these bring: {' '.join(packages)}")
        return 0
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    if as_root and subprocess.run([*as_root, "true"], capture_output=True, check=False).returncode:
        print(f"tests: some will be skipped; to run them all: sudo {shlex.join(install)}")
        return 0
    print(f"tests: installing {' '.join(packages)}", flush=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-qq"], install):
        done = subprocess.run([*as_root, *command], env=quiet, stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            print(f"tests: `{shlex.join(command)}` failed", file=sys.stderr)
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
