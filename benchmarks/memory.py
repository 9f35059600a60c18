"""Memory of a long simulation: the peak of a process that simulates some hours, and of one that simulates a day.

Each length has a process of its own, whose time series goes to a file as it comes: what is kept must not grow.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.table import Table

from benchmarks.placement import machine
from benchmarks.simulator import guests
from benchmarks.timing import Found, peak_mib
from domicile.simulator.output import open_series
from domicile.simulator.run import simulate
from domicile.simulator.scenario import Scenario, ScenarioDomain

__all__ = ["TITLE", "measure"]

TITLE = "memory of a long simulation, 2 nodes and 8 domains, a point of the series a minute"
HOURS = (2, 24)


def measure() -> Found:
    """Simulate each length in a process of its own."""
    found = Found()
    table = Table("simulated hours", "peak, MiB", "series, MiB", "CPU, s", title=TITLE)
    peaks = []
    for hours in HOURS:
        made = subprocess.run(
            [sys.executable, "-m", "benchmarks.memory", str(hours)], stdout=subprocess.PIPE, check=True, text=True
        )
        peak_mib, series_mib, cpu_s = map(float, made.stdout.split())
        peaks.append(peak_mib)
        table.add_row(str(hours), f"{peak_mib:.1f}", f"{series_mib:.1f}", f"{cpu_s:.0f}")
    what = f"peak memory of {HOURS[1]} simulated hours, and of {HOURS[0]}"
    found.rows.append((what, f"{peaks[1]:.0f} MiB, {peaks[0]:.0f} MiB", "the same"))
    found.tables.append(table)
    return found


def pass_time(hours: int) -> tuple[float, float, float]:
    """Simulate so many hours here: MiB at this process' peak, MiB of the series, CPU seconds of it all."""
    scenario = Scenario(domains=(ScenarioDomain("guest"),), duration_s=hours * 3600.0, epoch_s=5.0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "series.jsonl")
        with open_series(path) as series:
            simulate(scenario, machine(2), guests(8), None, sinks=[series], every_s=60.0)
        size = path.stat().st_size
    return peak_mib(), size / 2**20, time.process_time()


if __name__ == "__main__":
    print(*pass_time(int(sys.argv[1])))
