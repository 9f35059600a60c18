"""What all benchmarks share: the best of a few runs, and what a benchmark gives back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.table import Table

__all__ = ["Found", "best_s", "best_together_s"]


@dataclass(frozen=True)
class Found:
    """Rows of the summary (what, measured, wanted), and the tables behind them."""

    rows: list[tuple[str, str, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def best_s(call: Callable[[], object], runs: int, calls: int = 1) -> float:
    """CPU seconds of a call: the best of some runs of so many calls, after a call that warms up (and compiles)."""
    call()
    return min(_once_s(call, calls) for _ in range(runs))


def best_together_s(first: Callable[[], object], second: Callable[[], object], runs: int) -> tuple[float, float]:
    """The same of two that are compared: their runs alternate, so that whoever else runs is in the way of both."""
    first()
    second()
    pairs = [(_once_s(first, 1), _once_s(second, 1)) for _ in range(runs)]
    return min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)


def _once_s(call: Callable[[], object], calls: int) -> float:
    begin = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - begin) / calls
