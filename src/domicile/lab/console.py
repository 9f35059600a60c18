"""What Xen and Dom0 say on the serial console, and which lines of it tell why something failed."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["UP", "has_come_up", "read_console", "size", "telling_lines", "trouble"]

UP = "domicile: up"
"""What Dom0 prints when `xl` works and sshd is about to listen."""

_TROUBLE = (
    re.compile(r"^\(XEN\) Panic on CPU"),
    re.compile(r"^\(XEN\) FATAL"),
    re.compile(r"Kernel panic - not syncing"),
    re.compile(r"^domicile: (?!up$|going down$)"),
    re.compile(r"^initramfs: "),
)
_FOLLOWING = 3


def read_console(path: Path, since: int = 0) -> str:
    """The console log from an offset in bytes on; empty if there is none yet."""
    try:
        with path.open("rb") as log:
            log.seek(since)
            return log.read().decode(errors="replace").replace("\r", "")
    except FileNotFoundError:
        return ""


def size(path: Path) -> int:
    """How long the console log is now, in bytes."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def has_come_up(text: str) -> bool:
    """Whether Dom0 said that it is up."""
    return any(line.strip() == UP for line in text.splitlines())


def trouble(text: str) -> bool:
    """Whether Xen or Dom0's kernel gave up."""
    return any(pattern.search(line) for line in text.splitlines() for pattern in _TROUBLE[:3])


def telling_lines(text: str) -> list[str]:
    """The lines that tell what went wrong: a panic with what follows it, else the last that were said."""
    lines = [line.strip() for line in text.splitlines() if line.strip().strip("*")]
    for pattern in _TROUBLE:
        for index, line in enumerate(lines):
            if pattern.search(line):
                return [found for found in lines[index : index + _FOLLOWING] if found != "(XEN)"]
    return lines[-_FOLLOWING:]
