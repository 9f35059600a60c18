"""What the compiled loops of `evaluate` pass around: named tuples of arrays, which Numba can take apart.

D domains, N nodes, Q cpupools, R resources (see `memory_system`), H steps of a way at most, F flows: a flow is a domain
on a node on which it runs. Letters in the loops: d, n (node of the CPUs), m (node of the memory), q, r, h, f.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from domicile.performance.curves import Floats

__all__ = [
    "BANDWIDTH", "CACHE", "CPU", "DEVICES", "DISTANCE", "FIGURES", "LATENCY_NS", "LOAD", "PEERS", "RATE", "SLOWDOWN",
    "SMT", "TERMS", "Domains", "Given", "Integers", "Outcome", "Outcomes", "Place", "System", "Work",
]  # fmt: skip

Integers = npt.NDArray[np.int64]

CPU, SMT, DISTANCE, CACHE, LOAD, DEVICES, PEERS = range(7)
TERMS = 7
"""What slowdown is made of: the first rows of `Outcome.figures`."""

SLOWDOWN, LATENCY_NS, BANDWIDTH, RATE = range(7, 11)
FIGURES = 11
"""The rest of its rows, and how many they are."""


class Given(NamedTuple):
    """The fields of `MachineLoad` that are the same for all candidates, as they come from Python: `figures` is 8 x D,
    the first fields of `Domains`. Taking arrays over from Python costs more than they weigh."""

    figures: Floats
    pool: Integers
    dma: Floats
    peers: Integers
    messages: Floats


class Domains(NamedTuple):
    """The fields of `MachineLoad` that are the same for all candidates."""

    demand: Floats
    traffic: Floats
    read: Floats
    bound: Floats
    cache: Floats
    weight: Floats
    device_bound: Floats
    cap: Floats
    pool: Integers
    dma: Floats
    peers: Integers
    messages: Floats


class Place(NamedTuple):
    """The fields of `MachineLoad` that differ between candidates: D x N each, with B in front of a batch."""

    want: Floats
    memory: Floats
    buffers: Floats


class System(NamedTuple):
    """The machine: `pcpus`, `cores`: Q x N; the rest as in `MemorySystem`, and the assumptions of the loops."""

    pcpus: Floats
    cores: Floats
    llc: Floats
    latency: Floats
    near: Floats
    best_ns: float
    reference: int
    peak: Floats
    added: Floats
    step: Integers
    read_use: Floats
    write_use: Floats
    smt_yield: float
    cache_power: float
    message_lines: float


class Outcomes(NamedTuple):
    """What Python gets of B candidates. `running`: B x D x N, `utilisation`: B x R, `figures`: FIGURES x B x D:
    the terms of the slowdown, then those of `SLOWDOWN` to `RATE`."""

    running: Floats
    figures: Floats
    utilisation: Floats


class Outcome(NamedTuple):
    """One candidate of them: `running`: D x N, `figures`: FIGURES x D, `utilisation`: R."""

    running: Floats
    figures: Floats
    utilisation: Floats


class Work(NamedTuple):
    """Room for one candidate's figures in between, used again for the next.

    `alone`: D, what a domain's work stretches by alone. `speed`, `misses`: D x N, of a vCPU by SMT, of traffic by
    caches. `devices`, `messages`: D, what work stretches by. `dma`: R, load by devices. `reads`, `writes`: N x N,
    traffic. `way`: N x N, latency under load; `busiest`: N x N, link on it or -1; `steep`: N, growth of a controller's
    latency with its utilisation. `gives`: N x N, and `give`: R, how much traffic gives way to more latency (to more
    utilisation). `load`, `u`, `gain`, `last`: R, traffic, utilisation, how boldly it moves, and how far off it was
    last. `flow`: F x 2, domain and node; `amount`, `mean_ns`, `stretch`: F, traffic if nothing slows it,
    mean latency, what work stretches by. `first`: D + 1, `at`: the nodes of d's memory are
    `at[first[d]:first[d + 1]]`. `waiting`: D, for lists of domains.
    """

    alone: Floats
    speed: Floats
    misses: Floats
    devices: Floats
    messages: Floats
    dma: Floats
    reads: Floats
    writes: Floats
    way: Floats
    busiest: Integers
    steep: Floats
    gives: Floats
    give: Floats
    load: Floats
    u: Floats
    gain: Floats
    last: Floats
    flow: Integers
    amount: Floats
    mean_ns: Floats
    stretch: Floats
    first: Integers
    at: Integers
    waiting: npt.NDArray[np.bool_]
