"""Latency under load: one bandwidth-latency curve for every memory controller.

The idea is Mess's (Esmaili-Dokht et al., "A Mess of Memory System Benchmarking, Simulation and Application Profiling",
MICRO 2024): memory is described by what latency it had at what bandwidth, not by its inside. A machine that was
measured has its own curve; for any other the curve follows from idle latency and peak bandwidth (`predicted_latency`):

    latency / idle = 1 + linear * u + bend * u**6 + queue * u**24        u = bandwidth / peak

Up to nine tenths of the peak machines hardly differ. At the peak they do, by a factor of three, for a reason that lies
outside the memory: the cores keep as many cache lines on the way as they can, and by Little's law these wait for
lines * 64 B / peak. Most machines had 13 to 20 lines a core there (`lines_per_core`), so that the height of the curve's
end is known once the number of cores is, as far as it is no higher than any that was measured
(`saturated_most`: some cores, Zen 2's among them, have fewer lines); `saturated` is the median for where it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from domicile.performance.assumptions import DEFAULT, Assumptions
from domicile.performance.curves import BEND_POWER, QUEUE_POWER, Floats, pressure
from domicile.performance.machine import Machine

__all__ = [
    "CELLS",
    "Constants",
    "controller_curves",
    "fitted",
    "measured_curve",
    "predicted_latency",
    "saturated_ratio",
]

CELLS = 64
"""A curve is kept as its values at utilisations 0, 1/64 ... 1, linear in between."""

LINE_BYTES = 64.0


class Constants(NamedTuple):
    """Constants of the curve: `linear`, `bend`, latency at the peak over idle latency, lines on the way per core."""

    linear: float
    bend: float
    saturated: float
    lines_per_core: float


def saturated_ratio(idle_ns: float, peak_gbs: float, cores: float | None, assumptions: Assumptions = DEFAULT) -> float:
    """Latency at the peak, over idle latency, when all of so many cores stream; the usual one if it is not known how
    many."""
    if not cores:
        return assumptions.saturated
    waiting = assumptions.lines_per_core * cores * LINE_BYTES / peak_gbs / idle_ns
    return min(max(waiting, 1.0), assumptions.saturated_most)


def predicted_latency(
    bandwidth_gbs: Floats,
    idle_ns: float,
    peak_gbs: float,
    cores: float | None = None,
    assumptions: Assumptions = DEFAULT,
) -> Floats:
    """Latency in ns at these bandwidths (GB/s, at most the peak), from idle latency and peak bandwidth.

    Bandwidth, peak and cores are of one memory controller or of several together, all three alike. Without `cores` the
    last tenth of the curve is a guess: see above.
    """
    ratio = saturated_ratio(idle_ns, peak_gbs, cores, assumptions)
    used = np.clip(np.asarray(bandwidth_gbs, dtype=np.float64) / peak_gbs, 0.0, 1.0)
    return np.asarray(idle_ns * (1.0 + pressure(used, assumptions, ratio)), dtype=np.float64)


def measured_curve(points: Sequence[tuple[float, float]]) -> Floats:
    """Latency added by load as a share of idle latency, CELLS + 1 values, from measured (GB/s, ns) in any order.

    Latency never falls along a curve: noise in what was measured is taken out by isotonic regression. The peak is the
    highest bandwidth of all points, idle the latency at the lowest.
    """
    bandwidth, latency = np.array(sorted(points), dtype=np.float64).T
    latency = _isotonic(latency)
    grid = np.linspace(0.0, 1.0, CELLS + 1) * bandwidth[-1]
    return np.asarray(np.interp(grid, bandwidth, latency) / latency[0] - 1.0, dtype=np.float64)


def controller_curves(machine: Machine, peak_gbs: Floats, near_ns: Floats, assumptions: Assumptions) -> Floats:
    """The curve of each node's memory as in `measured_curve`, N x (CELLS + 1): measured where the machine's file has
    points, else predicted from its peak, idle latency and cores (N each; those of all nodes for memory without)."""
    points = machine.measured.loaded_latency if machine.measured else ()
    if len(points) > 1:
        return np.tile(measured_curve(points), (machine.nodes, 1))
    cores = machine.cores.sum(axis=0)
    cores = np.where(cores > 0, cores, cores.sum())
    used = np.linspace(0.0, 1.0, CELLS + 1)
    return np.stack(
        [
            pressure(used, assumptions, saturated_ratio(idle, peak, count, assumptions))
            for idle, peak, count in zip(near_ns.tolist(), peak_gbs.tolist(), cores.tolist(), strict=True)
        ]
    )


def fitted(points: Sequence[tuple[float, float]], idle_ns: float, cores: float) -> Constants:
    """The constants that fit one machine's points (GB/s, ns) with the least squares of relative errors."""
    bandwidth, latency = np.array(points, dtype=np.float64).T
    peak = bandwidth.max()
    used, ratio = bandwidth / peak, latency / idle_ns
    terms = np.stack([used, used**BEND_POWER, used**QUEUE_POWER], axis=1) / ratio[:, None]
    wanted = (ratio - 1.0) / ratio
    kept = [0, 1, 2]
    found = np.zeros(3)
    while kept:
        least = np.linalg.lstsq(terms[:, kept], wanted, rcond=None)[0]
        if (least >= 0.0).all():
            found[kept] = least
            break
        kept.pop(int(np.argmin(least)))
    saturated = 1.0 + float(found.sum())
    lines = saturated * idle_ns * float(peak) / LINE_BYTES / cores
    return Constants(float(found[0]), float(found[1]), saturated, lines)


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
