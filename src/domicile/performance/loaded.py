"""Latency under load: one bandwidth-latency curve for every memory controller.

The idea is Mess's (Esmaili-Dokht et al., "A Mess of Memory System Benchmarking, Simulation and Application Profiling",
MICRO 2024): memory is described by what latency it had at what bandwidth, not by its inside. A machine that was
measured has its own curve; for any other the curve follows from idle latency and peak bandwidth alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from domicile.performance.assumptions import Assumptions
from domicile.performance.curves import Floats, pressure
from domicile.performance.machine import Machine

__all__ = ["CELLS", "added_latency", "controller_curves", "measured_curve"]

CELLS = 64
"""A curve is kept as its values at utilisations 0, 1/64 ... 1, linear in between."""


def added_latency(utilisation: Floats, assumptions: Assumptions) -> Floats:
    """Latency added by load, as a share of idle latency, at utilisations of the peak from 0 to 1, where nobody
    measured."""
    return pressure(np.clip(utilisation, 0.0, 1.0), assumptions)


def measured_curve(points: Sequence[tuple[float, float]]) -> Floats:
    """Latency added by load as a share of idle latency, CELLS + 1 values, from measured (GB/s, ns) in any order.

    Latency never falls along a curve: noise in what was measured is taken out by isotonic regression. The peak is the
    highest bandwidth of all points, idle the latency at the lowest.
    """
    bandwidth, latency = np.array(sorted(points), dtype=np.float64).T
    latency = _isotonic(latency)
    grid = np.linspace(0.0, 1.0, CELLS + 1) * bandwidth[-1]
    return np.asarray(np.interp(grid, bandwidth, latency) / latency[0] - 1.0, dtype=np.float64)


def controller_curves(machine: Machine, assumptions: Assumptions) -> Floats:
    """The curve of each node's memory, N x (CELLS + 1): measured where the machine's file has points."""
    usual = added_latency(np.linspace(0.0, 1.0, CELLS + 1), assumptions)
    points = machine.measured.loaded_latency if machine.measured else ()
    return np.tile(measured_curve(points) if len(points) > 1 else usual, (machine.nodes, 1))


def _isotonic(values: Floats) -> Floats:
    """The nearest sequence that never falls (pool adjacent violators)."""
    blocks: list[tuple[float, int]] = []
    for value in values.tolist():
        mean, size = value, 1
        while blocks and blocks[-1][0] > mean:
            before, count = blocks.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        blocks.append((mean, size))
    return np.concatenate([np.full(size, mean) for mean, size in blocks])
