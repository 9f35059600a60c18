"""A guest of several virtual nodes on a host: `domicile.policies.fit` beside OpenStack Nova.

Nova goes through the permutations of the host's cells until one fits (`nova.virt.hardware.numa_fit_instance_to_host`).
It runs in an interpreter of its own: `DOMICILE_NOVA_PYTHON` names one that has the package `nova`, else uv makes one
(some 400 MB). Where a limit of CPU time was not enough for Nova, its time and the ratio are lower bounds.

Nova 34 remembers which cell fits where by the number of the guest's cell, which it overwrites with the host cell's once
it fits. Where a guest's cells differ it can therefore say no where there is a way, and yes with a cell on a host cell
that cannot bear it; such cases are counted, and what Nova says of each pair by itself decides.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.nova_cases import all_fit, few_fit, fitting_last, one_is_particular, random_case
from benchmarks.nova_rules import requirements_of, rows_of
from benchmarks.timing import Found, best_s
from domicile.policies.fit import Fit, NoFit, assign

__all__ = ["TITLE", "compare", "measure"]

TITLE = "a guest of 8 virtual nodes on 16 host nodes, beside OpenStack Nova"

NOVA = "nova==34.0.0"
SIDE = Path(__file__).with_name("nova_side.py")
RANDOM_CASES = 2000
WANTED = 1000
LIMIT_S = 20.0
LONG = (
    ("all fit", all_fit, 8, 16),
    ("no: one node too few", few_fit, 6, 8),
    ("no: one node too few", few_fit, 6, 10),
    ("no: one node too few", few_fit, 8, 10),
    ("no: one node too few", few_fit, 8, 16),
    ("yes: on the last nodes", fitting_last, 8, 16),
    ("yes: one is particular", one_is_particular, 8, 16),
)
SLOW = (few_fit, fitting_last)
"""The cases of which the ratio is asked for: those that Nova answers rightly, and takes long to."""


def measure(limit_s: float = LIMIT_S, cases: int = RANDOM_CASES) -> Found:
    """Compare answers on random cases, and times on those that Nova needs long for."""
    argv = _nova_argv()
    try:
        rows, tables = compare(argv, limit_s, cases)
    except (OSError, subprocess.CalledProcessError) as error:
        return Found(rows=[(TITLE, f"not measured: {error}", f"{WANTED} times as fast")])
    return Found(rows=rows, tables=tables)


def compare(argv: Sequence[str], limit_s: float, cases: int) -> tuple[list[tuple[str, str, str]], list[Table]]:
    """Rows and tables, with Nova run by this command."""
    agreement, same = _answers(argv, cases)
    times, least = _times(argv, limit_s)
    rows = [
        (
            "guest nodes on host nodes, over Nova (the slow cases of 8 on 16)",
            f"{least:,.0f} times as fast",
            f"{WANTED:,}",
        ),
        ("  the same yes or no as Nova", same, "all"),
    ]
    return rows, [times, agreement]


def _nova_argv() -> list[str]:
    own = os.environ.get("DOMICILE_NOVA_PYTHON")
    if own:
        return [own, str(SIDE)]
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv") or "uv"
    return [uv, "run", "--quiet", "--isolated", "--no-project", "--with", NOVA, "python", str(SIDE)]


def _ask(argv: Sequence[str], cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    lines = "".join(json.dumps(case) + "\n" for case in cases)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(argv, input=lines, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return [json.loads(line) for line in done.stdout.splitlines()]


def _ours(case: Mapping[str, Any], *, best: bool = True) -> Fit | NoFit:
    requirements = requirements_of(case)
    if requirements is None or len(case["cells"]) > len(case["host"]):
        return NoFit((), ())
    return assign(rows_of(case), _distances(len(case["host"])), requirements, best=best)


def _distances(nodes: int) -> list[list[float]]:
    """Nodes in sockets of four."""
    return [[10.0 if a == b else 12.0 if a // 4 == b // 4 else 32.0 for b in range(nodes)] for a in range(nodes)]


def _answers(argv: Sequence[str], count: int) -> tuple[Table, str]:
    """Nova's answers and ours; where they differ, what Nova itself says of each pair of cells decides."""
    chance = random.Random(34)
    cases = [random_case(chance) for _ in range(count)]
    counted = dict.fromkeys(
        ("yes", "no", "pairs", "other pairs", "differ", "differ, cells alike", "unexplained", "unbearable"), 0
    )
    for case, nova in zip(cases, _ask(argv, cases), strict=True):
        ours = isinstance(_ours(case), Fit)
        counted["yes" if nova["answer"] else "no"] += 1
        rows = rows_of(case)
        theirs = [sum(1 << h for h, fits in enumerate(row) if fits) for row in nova["fits"]]
        counted["pairs"] += len(rows) * len(case["host"])
        counted["other pairs"] += sum((a ^ b).bit_count() for a, b in zip(rows, theirs, strict=True))
        counted["unbearable"] += _unbearable(case, nova)
        if ours != nova["answer"]:
            counted["differ"] += 1
            counted["differ, cells alike"] += case["alike"]
            # a choice of Nova's that its own rules forbid, or none where they allow one
            requirements = requirements_of(case)
            by_pairs = requirements is not None and isinstance(
                assign(theirs, _distances(len(case["host"])), requirements), Fit
            )
            counted["unexplained"] += by_pairs != ours
    table = Table("random cases", "number", title="the same answers as Nova")
    named = {
        "yes": "Nova says yes",
        "no": "Nova says no",
        "pairs": "pairs of a guest's and a host's cell compared",
        "other pairs": "  of which Nova says otherwise of",
        "differ": "whole answers that differ",
        "differ, cells alike": "  of which the guest's cells are alike in",
        "unexplained": "  of which Nova's own answers by pair do not bear out ours",
        "unbearable": "yes of Nova's with a cell where it does not fit",
    }
    for key, words in named.items():
        table.add_row(words, f"{counted[key]:,}")
    same = count - counted["differ"]
    text = f"{same:,} of {count:,}; by pair {counted['pairs'] - counted['other pairs']:,} of {counted['pairs']:,}"
    return table, text


def _unbearable(case: Mapping[str, Any], nova: Mapping[str, Any]) -> bool:
    """Whether Nova says yes, and has a cell on a host cell that cannot bear it."""
    return bool(nova["answer"]) and not all(
        row >> node & 1 for row, node in zip(rows_of(case), nova["cells"], strict=True)
    )


def _times(argv: Sequence[str], limit_s: float) -> tuple[Table, float]:
    table = Table("case", "nodes", "Nova, s", "ours, ms", "any, ms", "ratio", "answer", title=TITLE)
    cases = [make(cells, host, limit_s) for _, make, cells, host in LONG]
    least = float("inf")
    for (words, make, cells, host), case, nova in zip(LONG, cases, _ask(argv, cases), strict=True):
        ours_s, any_s = (best_s(partial(_ours, case, best=best), runs=7) for best in (True, False))
        ours = isinstance(_ours(case), Fit)
        over = nova["answer"] is None
        ratio = nova["cpu_s"] / ours_s
        if (cells, host) == (8, 16) and make in SLOW:
            least = min(least, ratio)
        answer = "yes" if ours else "no"
        if not over and ours != nova["answer"]:
            answer += ", Nova's differs"
        elif _unbearable(case, nova):
            answer += ", Nova's has a cell where it does not fit"
        more = "more than " if over else ""
        table.add_row(
            words,
            f"{cells} on {host}",
            f"{more}{nova['cpu_s']:.4f}",
            f"{1e3 * ours_s:.2f}",
            f"{1e3 * any_s:.2f}",
            f"{more}{ratio:,.1f}",
            answer + (" (Nova's not awaited)" if over else ""),
        )
    return table, least


if __name__ == "__main__":
    found = measure()
    shown = Console()
    for row in found.rows:
        shown.print(": ".join(row))
    for each in found.tables:
        shown.print(each)
