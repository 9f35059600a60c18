"""What all benchmarks share: the best of some runs, the peak of memory, and what a benchmark gives back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table

__all__ = ["Found", "best_each_s", "best_s", "peak_mib"]


@dataclass(frozen=True)
class Found:
    """Rows of the summary (what, measured, wanted), and the tables behind them."""

    rows: list[tuple[str, str, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def best_s(call: Callable[[], object], runs: int, calls: int = 1) -> float:
    """CPU seconds of a call: the best of some runs of so many calls, after a call that warms up (and compiles)."""
    call()
    return min(_once_s(call, calls) for _ in range(runs))


def best_each_s(calls: Sequence[Callable[[], object]], runs: int) -> list[float]:
    """The same of several that are compared: they run in turn, so that whoever else runs is in the way of all."""
    for call in calls:
        call()
    rounds = [[_once_s(call, 1) for call in calls] for _ in range(runs)]
    return [min(times) for times in zip(*rounds, strict=True)]


def _once_s(call: Callable[[], object], calls: int) -> float:
    begin = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - begin) / calls


def peak_mib() -> float:
    """Most memory that this process has had; what `getrusage` says can be what its parent had."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
