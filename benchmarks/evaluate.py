"""The performance model: one evaluation, and thousands as one array call, by what is on the machine.

Every domain on one node with its memory is what a host mostly looks like; every domain on all nodes, its memory too, is
the most work that there can be.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.placement import machine
from domicile.performance.curves import Floats
from domicile.performance.evaluate import evaluate
from domicile.performance.machine import Machine
from domicile.performance.machine_load import MachineLoad

__all__ = ["main"]

CASES = ((2, 16), (8, 64), (8, 256), (64, 256))
CANDIDATES = 1000
RUNS = 51


def main() -> None:
    """Print the table."""
    table = Table(
        "nodes",
        "domains",
        "each on",
        "one, us",
        "of many, us",
        "ratio",
        title=f"evaluations of the performance model, alone and {CANDIDATES} in one call",
    )
    for nodes, domains in CASES:
        host = Machine.of(machine(nodes))
        for where, shares in (("one node", on_one), ("all nodes", on_all)):
            cpu, memory = shares(np.random.default_rng(nodes), domains, nodes)
            one = MachineLoad.of(0.7 * cpu, memory)
            many = MachineLoad.of(np.repeat(0.7 * cpu[None], CANDIDATES, axis=0), memory)
            alone = median_us(lambda host=host, load=one: evaluate(host, load), RUNS)  # type: ignore[misc]
            together = median_us(lambda host=host, load=many: evaluate(host, load), 3) / CANDIDATES  # type: ignore[misc]
            row = (where, f"{alone:.0f}", f"{together:.0f}", f"{alone / together:.1f}")
            table.add_row(str(nodes), str(domains), *row)
    Console().print(table)


def on_one(random: np.random.Generator, domains: int, nodes: int) -> tuple[Floats, Floats]:
    """Every domain's vCPUs and memory on a node of its own choice."""
    shares = np.eye(nodes)[random.integers(nodes, size=domains)]
    return shares, shares


def on_all(random: np.random.Generator, domains: int, nodes: int) -> tuple[Floats, Floats]:
    """Every domain's vCPUs and memory on all nodes, unevenly."""
    return random.dirichlet(np.ones(nodes), domains), random.dirichlet(np.ones(nodes), domains)


def median_us(call: Callable[[], object], runs: int) -> float:
    """Median of some runs, after one that warms up (and compiles, the first time)."""
    call()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e6)
    return statistics.median(times)
