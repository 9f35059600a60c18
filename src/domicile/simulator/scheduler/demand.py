"""What vCPUs want: CPU time in each quantum, from a few kinds of demand over time.

Kinds: constant; on and off, with exponentially distributed times of both; diurnal, a sine over the time of day; a
trace, steps read from a recording. An *open* demand is work that arrives whether or not there is CPU for it: what is
not done waits, and memory that is further away makes it take longer. A *closed* one waits for its own results: it wants
its share of time and gets less done when slow (SPECjbb, STREAM, a compiler).
"""

from __future__ import annotations

import numpy as np

from domicile.local.compiled import inlined, part
from domicile.simulator.scheduler.state import QUANTUM_NS, Table, empty_table

__all__ = [
    "BACKLOG_NS",
    "CONSTANT",
    "DEMAND",
    "DIURNAL",
    "ON_OFF",
    "STEP",
    "TRACE",
    "arrive",
    "new_demands",
    "seconds",
    "tide",
]

CONSTANT, ON_OFF, DIURNAL, TRACE = 0, 1, 2, 3

BACKLOG_NS = 1e9
"""The most work that an open demand lets wait: what comes beyond is lost, as requests time out."""

DAY_S = 86400.0

MOST_CHANGES = 1000
"""How often a demand can change within one quantum: nothing that a workload says makes the clock wait."""

DEMAND = np.dtype(
    [
        # a line of the cache
        ("kind", np.int8),
        ("closed", np.bool_),
        ("is_on", np.bool_),
        ("first", np.int32),
        ("end", np.int32),
        ("at", np.int32),
        ("level", np.float64),
        ("until_s", np.float64),
        ("on_s", np.float64),
        ("off_s", np.float64),
        ("lap_s", np.float64),
        ("seed", np.uint64),
    ],
    align=True,
)
"""The demand of a vCPU: `kind`, `closed`, `level` (share of a pCPU: while on, on average, or the factor to a trace),
`on_s` and `off_s` (mean lengths; diurnal: the amplitude as a share of `level`, and the hour of its peak), `is_on`,
`until_s`, `seed` (state of its random numbers). Its trace is `steps[first:end]`, `at` the current step, `lap_s` when
the trace began: behind its end it begins again."""

STEP = np.dtype([("until_s", np.float64), ("level", np.float64)])
"""A step of a trace: the level that it had until then, from its beginning on."""


def new_demands(vcpus: int, seed: np.random.Generator) -> Table:
    """All idle: constant demands of 0, each with random numbers of its own."""
    demands = empty_table(vcpus, DEMAND)
    demands["seed"] = seed.integers(1, 1 << 63, size=vcpus, dtype=np.uint64)
    return demands


@inlined
def drawn(demands: Table, vcpu: int) -> float:
    """The vCPU's next random number in (0, 1]: xorshift64* (Vigna, ACM TOMS 42(4), 2016)."""
    state = demands[vcpu].seed
    state ^= state >> np.uint64(12)
    state ^= state << np.uint64(25)
    state ^= state >> np.uint64(27)
    demands[vcpu].seed = state
    mixed = (state * np.uint64(2685821657736338717)) >> np.uint64(11)
    return (float(mixed) + 1.0) / 9007199254740992.0


@inlined
def seconds(quantum: int) -> float:
    """When a quantum begins."""
    return quantum * (QUANTUM_NS * 1e-9)


@inlined
def tide(demands: Table, vcpu: int, now_s: float, peak_h: float, wave: float) -> tuple[float, float]:
    """The hour of a diurnal demand's peak, and where its cosine is. Given are those of the demand before: most have
    the same."""
    if demands[vcpu].kind == DIURNAL and demands[vcpu].off_s != peak_h:
        peak_h = demands[vcpu].off_s
        wave = np.cos(2.0 * np.pi * (now_s / DAY_S - peak_h / 24.0))
    return peak_h, wave


@inlined
def wanted(demands: Table, steps: Table, vcpu: int, now_s: float, wave: float) -> float:
    """The share of a pCPU that a vCPU wants at this moment; `wave`: its `tide`."""
    kind = demands[vcpu].kind
    level = demands[vcpu].level
    if kind == CONSTANT:
        return float(level)
    if kind == DIURNAL:
        return float(level * max(1.0 + demands[vcpu].on_s * wave, 0.0))
    if kind == TRACE:
        return float(level * _step(demands, steps, vcpu, now_s))
    if now_s >= demands[vcpu].until_s:
        _switch(demands, vcpu, now_s)
    return float(level) if demands[vcpu].is_on else 0.0


@part
def _step(demands: Table, steps: Table, vcpu: int, now_s: float) -> float:
    """The level of a trace at this moment; the step that it has come to is kept."""
    at, end = demands[vcpu].at, demands[vcpu].end
    for _ in range(MOST_CHANGES):
        if now_s - demands[vcpu].lap_s < steps[at].until_s:
            break
        at += 1
        if at == end:
            demands[vcpu].lap_s += steps[end - 1].until_s
            at = demands[vcpu].first
    demands[vcpu].at = at
    return float(steps[at].level)


@part
def _switch(demands: Table, vcpu: int, now_s: float) -> None:
    """Turn a demand on and off as often as its times have passed by now."""
    for _ in range(MOST_CHANGES):
        if now_s < demands[vcpu].until_s:
            break
        demands[vcpu].is_on = not demands[vcpu].is_on
        mean_s = demands[vcpu].on_s if demands[vcpu].is_on else demands[vcpu].off_s
        demands[vcpu].until_s -= mean_s * np.log(drawn(demands, vcpu))


@inlined
def arrive(vcpus: Table, demands: Table, steps: Table, vcpu: int, now_s: float, wave: float) -> None:
    """Begin an active vCPU's quantum: add what it wants in it to what it has not got yet; it has not run. `wave`: its
    `tide`."""
    vcpus[vcpu].slice_ns = 0.0
    ns = wanted(demands, steps, vcpu, now_s, wave) * QUANTUM_NS
    if not (0.0 <= ns <= BACKLOG_NS):  # a workload may come to nonsense (nan, infinite); the clock goes on
        ns = BACKLOG_NS if ns > BACKLOG_NS else 0.0
    ns = min(ns, float(QUANTUM_NS)) if demands[vcpu].closed else ns * vcpus[vcpu].stretch
    waiting = 0.0 if demands[vcpu].closed else vcpus[vcpu].pending_ns
    vcpus[vcpu].pending_ns = min(waiting + ns, BACKLOG_NS)
    vcpus[vcpu].wanted_ns += ns
