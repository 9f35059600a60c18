"""The cache: images and saved states, each made once, whole or not at all, and together under a limit.

A folder is made under a name of its own and renamed when it is whole: what has its right name is whole. A lock file
beside it keeps two makers apart.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from domicile.errors import HostFailed

__all__ = [
    "LIMIT_MIB",
    "cache_folder",
    "ensure_folder",
    "evict",
    "free_mib",
    "locked",
    "require_space",
    "size_mib",
    "touch",
]

LIMIT_MIB = 2048
"""What the cache may take on the disk in all."""

MIB = 1 << 20


def cache_folder() -> Path:
    """Where the lab's cache is: `DOMICILE_LAB_CACHE`, else `lab` in the user's cache folder."""
    named = os.environ.get("DOMICILE_LAB_CACHE")
    return Path(named).absolute() if named else Path(platformdirs.user_cache_dir("domicile")) / "lab"


def size_mib(folder: Path) -> float:
    """What a folder takes on the disk (holes do not count)."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_blocks * 512
        except FileNotFoundError:
            continue  # somebody else's build or eviction
    return total / MIB


def free_mib(folder: Path) -> int:
    """Free space for us where a folder is, or would be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free // MIB


def require_space(folder: Path, need_mib: int, *, what: str, instead: str) -> None:
    """Raises `HostFailed`, saying how much is short, if there is less than `need_mib` free."""
    free = free_mib(folder)
    if free < need_mib:
        raise HostFailed(
            f"{what} needs {need_mib} MiB free in {folder}, and {free} MiB are: {need_mib - free} MiB are short; "
            f"free some, or name another folder with {instead}"
        )


@contextmanager
def locked(path: Path, *, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock file at `path`; `waiting` is called once if another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is not None:
                waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def ensure_folder(folder: Path, make: Callable[[Path], None], *, waiting: Callable[[], None] | None = None) -> Path:
    """`folder`, made by `make(partial)` if it is not there. Concurrent makers wait for the one that came first."""
    if not folder.is_dir():
        with locked(folder.with_name(folder.name + ".lock"), waiting=waiting):
            if not folder.is_dir():
                _make(folder, make)
    touch(folder)
    return folder


def _make(folder: Path, make: Callable[[Path], None]) -> None:
    partial = folder.with_name(folder.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)  # a broken build's: we hold its lock, so nobody is at it
    partial.mkdir(parents=True)
    try:
        make(partial)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def touch(folder: Path) -> None:
    """Note that a folder was used now: eviction takes the one that was not used for longest."""
    os.utime(folder)


def evict(keep: set[Path], *, limit_mib: int = LIMIT_MIB) -> list[Path]:
    """Remove images and states, least recently used first, until the cache is under its limit.

    Never one of `keep`. A running lab loses nothing: QEMU holds what it uses open. Returns what was removed.
    """
    entries = [
        entry
        for kind in ("images", "states")
        for entry in (cache_folder() / kind).glob("*")
        if entry.is_dir() and entry.suffix != ".partial"
    ]
    sizes = {entry: size_mib(entry) for entry in entries}
    total = sum(sizes.values())
    removed = []
    for entry in sorted(entries, key=lambda path: path.stat().st_mtime):
        if total <= limit_mib:
            break
        if entry in keep:
            continue
        shutil.rmtree(entry, ignore_errors=True)
        total -= sizes[entry]
        removed.append(entry)
    return removed
