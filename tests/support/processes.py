"""Looking at processes that may end while one looks."""

from __future__ import annotations

from pathlib import Path

__all__ = ["lives"]


def lives(pid: int | str) -> bool:
    """Whether there is such a process, and it has not ended, waited for or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
