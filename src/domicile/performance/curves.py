"""The model's curves: how slow a vCPU gets when pCPUs are shared, and how much latency grows with memory traffic.

Both take arrays of any shape and give one of the broadcast shape.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from domicile.performance.assumptions import Assumptions

__all__ = ["BEND_POWER", "LEAST_BOUND", "QUEUE_POWER", "Floats", "crowding", "pressure", "sharing", "sharing_parts"]

Floats = npt.NDArray[np.float64]
"""An array of 64-bit floats."""

BEND_POWER = 6
QUEUE_POWER = 24
"""Powers of utilisation with which latency bends, and with which it ends at the peak: see `loaded`."""

LEAST_BOUND = 0.05
"""Where hardly anything waits for memory, what is missing at the peak still stretches time."""

NO_CPU = 1e-6
"""Cores of a node without any: a demand there gives a slowdown that nothing else reaches, and no demand gives 1."""


def sharing(demand: Floats, cores: Floats, pcpus: Floats, fullness: Floats | float, assumptions: Assumptions) -> Floats:
    """Slowdown of vCPUs from sharing the cores and pCPUs of a node: 1.0 while each has a core to itself.

    `demand` is how many vCPUs want to run at once. Up to `cores` each gets a core; from there up to `pcpus` a further
    one shares a core and adds `smt_yield` of a core's throughput. Beyond, some find no pCPU. On a host that is full
    (`fullness` 1: the pool's demand over its pCPUs, at most 1) all take turns; on one that is nearly empty (0) Xen runs
    those elsewhere, since soft affinity is a wish, and each loses `displaced` by that; in between, a mix of both.
    """
    paired, short = sharing_parts(demand, cores, pcpus, fullness, assumptions)
    return np.asarray(paired + short, dtype=np.float64)


def sharing_parts(
    demand: Floats, cores: Floats, pcpus: Floats, fullness: Floats | float, assumptions: Assumptions
) -> tuple[Floats, Floats]:
    """`sharing` in two: slowdown by sharing cores, which all feel alike, and what is lost beyond it because pCPUs are
    short, which goes by weight."""
    have = np.maximum(cores, NO_CPU)
    room = np.maximum(pcpus, NO_CPU)
    running = np.minimum(demand, room)
    threads = np.maximum(running - have, 0.0)
    paired = np.where(threads > 0, running / np.maximum(running - (1.0 - assumptions.smt_yield) * threads, NO_CPU), 1.0)
    turns = np.maximum(demand / room, 1.0)
    elsewhere = assumptions.displaced * (1.0 - 1.0 / turns)
    short = fullness * paired * (turns - 1.0) + (1.0 - fullness) * elsewhere
    return np.asarray(paired, dtype=np.float64), np.asarray(short, dtype=np.float64)


def pressure(utilisation: Floats, assumptions: Assumptions, saturated: float | None = None) -> Floats:
    """Growth of memory latency with the utilisation of a memory controller or link, as a share of idle latency.

    Above the peak requests queue for as long as the traffic is more than can be served: time grows in proportion.
    `saturated` is latency at the peak over idle latency, if it is known (see `loaded`).
    """
    linear, bend = assumptions.pressure_linear, assumptions.pressure_bend
    end = assumptions.saturated if saturated is None else saturated
    queue = max(end - 1.0 - linear - bend, 0.0)
    below = np.minimum(utilisation, 1.0)
    # powers by multiplying: NumPy's own takes the general way, ten times as long on small arrays
    square = below * below
    sixth = square * square * square
    twelfth = sixth * sixth
    loaded = linear * below + bend * sixth + queue * (twelfth * twelfth)
    return np.asarray((1.0 + loaded) * np.maximum(utilisation, 1.0) - 1.0, dtype=np.float64)


def crowding(wanted: Floats, assumptions: Assumptions) -> Floats:
    """Growth of memory latency, as a share of idle latency, where `wanted` times a controller's or link's peak would be
    asked for if nothing slowed anybody.

    Who waits asks for less: traffic w and time s settle where s = 1 + b * pressure(w / s), b being the share of time
    that is memory latency, and at the peak s = w. The longer of both times, 1 + b * linear * w and w, rounded off where
    they meet, is that within 4 % for the usual constants, rises and bends upwards all the way, and takes a few
    operations:

        s = ((1 + b * linear * w) ** 8 + w ** 8) ** (1/8)        crowding = (s - 1) / b

    """
    bound = max(assumptions.memory_bound, LEAST_BOUND)
    slowed = 1.0 + bound * assumptions.pressure_linear * wanted
    slowed *= slowed
    slowed *= slowed
    slowed *= slowed
    full = wanted * wanted
    full *= full
    full *= full
    full += slowed
    return np.asarray((np.sqrt(np.sqrt(np.sqrt(full))) - 1.0) / bound, dtype=np.float64)
