"""Which process made something, and whether it still lives.

A pid alone is used again after a while, and after a reboot at once: so its start time and the boot go with it
(proc_pid_stat(5), field 22, clock ticks since boot; `/proc/sys/kernel/random/boot_id`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["NOBODY", "ProcessId", "is_alive", "this_process"]

_STATE_FIELD = 0
_START_FIELD = 19
"""Of what follows the command in `/proc/PID/stat`: field 3 is the first, so field 22 has index 19."""


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process of this machine, told apart from every other that had or will have its pid."""

    pid: int
    started_ticks: int
    boot: str

    def __str__(self) -> str:
        return f"pid {self.pid}"


NOBODY = ProcessId(0, 0, "")
"""An owner that is never alive: what belongs to it is anybody's to settle."""


def this_process() -> ProcessId:
    """The process that asks. Not cached: a fork is another process."""
    pid = os.getpid()
    fields = _stat(pid)
    return ProcessId(pid, int(fields[_START_FIELD]) if fields else 0, _boot())


def is_alive(process: ProcessId) -> bool:
    """Whether it runs still, on this boot. A zombie does not: it can do nothing any more."""
    if process.pid <= 0 or process.boot != _boot():
        return False
    fields = _stat(process.pid)
    if fields is None:
        return not Path("/proc/self/stat").exists() and _answers(process.pid)
    return fields[_STATE_FIELD] not in {"Z", "X"} and int(fields[_START_FIELD]) == process.started_ticks


def _stat(pid: int) -> list[str] | None:
    """The fields of `/proc/PID/stat` after the command (which may hold spaces and parentheses); None without them."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return None


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def _answers(pid: int) -> bool:
    """Whether a signal could reach it: all that a system without /proc tells."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
