"""Build the counting plug-in, once, and say how QEMU is told to load it."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from importlib.resources import as_file, files
from pathlib import Path

from domicile.errors import HostFailed
from domicile.lab.guests.compiler import compile_c

__all__ = ["build_plugin", "plugin_option", "require_counting_qemu"]

SOURCES = ("access_counter.c", "qemu_plugin.h")
OPTIONS = ("-shared", "-fPIC", "-O2", "-std=gnu11", "-fvisibility=hidden")

TESTED_QEMU = ((7, 2), (8, 1))
"""QEMU versions in which the plug-in's addresses are what memory.py says. From 8.2 they are the physical ones."""


def build_plugin(cache: Path) -> Path:
    """The plug-in as a shared library in the folder `cache`, compiled if these sources have not been before.

    Raises `HostFailed` without a C compiler.
    """
    here = files("domicile.lab.measure")
    digest = hashlib.sha256(b"\0".join([(here / name).read_bytes() for name in SOURCES] + [" ".join(OPTIONS).encode()]))
    library = cache / f"access_counter-{digest.hexdigest()[:16]}.so"
    if not library.exists():
        with as_file(here) as folder:
            compile_c(folder / SOURCES[0], library, OPTIONS)
    return library


def plugin_option(library: Path, counters: Path) -> str:
    """The value of QEMU's `-plugin` for the plug-in and its file of counters; a comma in a path is doubled, as QEMU has
    it."""
    return ",counters=".join(os.fspath(path.absolute()).replace(",", ",,") for path in (library, counters))


def require_counting_qemu(program: str = "qemu-system-x86_64") -> None:
    """Raise `HostFailed` if this QEMU is not there, or one in which the plug-in would count wrongly."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise HostFailed(f"{program} does not run ({error}): apt-get install qemu-system-x86") from error
    found = re.search(r"version (\d+)\.(\d+)", said)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    low, high = TESTED_QEMU
    if not low <= version <= high:
        raise HostFailed(
            f"{program} is version {'.'.join(map(str, version))}; accesses can be counted with {low[0]}.{low[1]} "
            f"(Debian 12's) to {high[0]}.{high[1]}"
        )
