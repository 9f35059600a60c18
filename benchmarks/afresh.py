"""A whole host laid out again: 8 nodes and 64 domains, how good after how long, beside the best of a long search.

The first starts of a long search are those of a short one, so what a short one finds is compared with the best of all.
"""

from __future__ import annotations

import subprocess
import sys
import time

from rich.table import Table

from benchmarks.placement import host
from benchmarks.timing import Found
from domicile.policies.effort import Effort
from domicile.policies.placement.afresh.build import Built, build
from domicile.policies.placement.afresh.host import afresh_problem
from domicile.policies.placement.afresh.search import searched
from domicile.policies.placement.layout import Problem
from domicile.state.request import Intent

__all__ = ["TITLE", "measure"]

TITLE = "laying a whole host out again, 8 nodes and 64 domains"
NODES, DOMAINS = 8, 64
LONG = Effort(starts=8)
ROUNDS = (1, 20, 0)
"""Rounds of a start; 0: as many as it takes by default."""


def measure() -> Found:
    """Searches of several lengths, in turn."""
    snapshot = host(NODES, DOMAINS)
    problem, homes, _ = afresh_problem(snapshot, (), Intent())
    begin = time.process_time()
    built = build(problem, homes)
    build_ms = 1e3 * (time.process_time() - begin)
    load_s = _load_s()
    searched(problem, built, Effort(starts=1, rounds=1))  # compiles, or takes it from disk
    best, long_ms = _timed(problem, built, LONG)
    table = Table("starts", "rounds", "CPU, ms", "sum of slowdowns", "above the best", title=TITLE)
    found = Found(tables=[table])
    domains = len(problem.residents.names) + len(problem.subjects)
    for starts in (1, 3):
        for rounds in ROUNDS:
            objective, time_ms = _timed(problem, built, Effort(starts=starts, rounds=rounds))
            above = (objective - best) / (domains + best)
            figures = f"{domains + objective:.3f}", f"{above:.3%}"
            table.add_row(str(starts), str(rounds or "default"), f"{build_ms + time_ms:.0f}", *figures)
            if starts == 1 and rounds == 0:
                found.rows.append((TITLE, f"{build_ms + time_ms:.0f} ms, {above:.2%} above the best", "200 ms, 1 %"))
    table.add_row(str(LONG.starts), "default", f"{build_ms + long_ms:.0f}", f"{domains + best:.3f}", "-")
    table.caption = f"arrays {build_ms:.0f} ms (in all rows); loading Python, NumPy and compiled code {load_s:.2f} s"
    return found


def _timed(problem: Problem, built: Built, effort: Effort) -> tuple[float, float]:
    begin = time.process_time()
    objective = searched(problem, built, effort).objective
    return objective, 1e3 * (time.process_time() - begin)


def _load_s() -> float:
    """CPU seconds of a process that only loads the compiled search, once it is on disk."""
    text = "import time, domicile.policies.placement.afresh.search as s; print(time.process_time())"
    return float(subprocess.run([sys.executable, "-c", text], check=True, stdout=subprocess.PIPE, text=True).stdout)
