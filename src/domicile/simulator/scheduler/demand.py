"""What vCPUs want: CPU time in each quantum, from a few kinds of demand over time.

Kinds: constant; on and off, with exponentially distributed times of both; diurnal, a sine over the time of day; a
trace, steps read from a recording. An *open* demand is work that arrives whether or not there is CPU for it: what is
not done waits, and memory that is further away makes it take longer. A *closed* one waits for its own results: it wants
its share of time and gets less done when slow (SPECjbb, STREAM, a compiler).

Who wants less than all of a pCPU wants a whole quantum now and then, at moments of its own. Wanted in parts, of every
quantum from its beginning on, all vCPUs would want to run at the same moments: they would wait for each other, and
share cores, on a host that has pCPUs to spare.
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
]

CONSTANT, ON_OFF, DIURNAL, TRACE = 0, 1, 2, 3

BACKLOG_NS = 1e9
"""The most work that an open demand lets wait: what comes beyond is lost, as requests time out."""

DAY_S = 86400.0
QUANTA_PER_S = 1_000_000_000 // QUANTUM_NS
LAST_QUANTUM = (1 << 32) - 1
"""The last that `until` can say."""

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


@part
def refresh(vcpus: Table, demands: Table, steps: Table, vcpu: int, now: int) -> None:
    """What a vCPU wants in each quantum from this one on, and `until` when: not after it has changed.

    A diurnal demand is taken anew every second. To do this too often changes nothing.
    """
    kind, level, until_s = demands[vcpu].kind, demands[vcpu].level, np.inf
    if kind == DIURNAL:
        second = now // QUANTA_PER_S
        wave = np.cos(2.0 * np.pi * (second / DAY_S - demands[vcpu].off_s / 24.0))
        level *= max(1.0 + demands[vcpu].on_s * wave, 0.0)
        until_s = second + 1.0
    elif kind == TRACE:
        level *= _step(demands, steps, vcpu, seconds(now))
        until_s = demands[vcpu].lap_s + steps[demands[vcpu].at].until_s
    elif kind == ON_OFF:
        if seconds(now) >= demands[vcpu].until_s:
            _switch(demands, vcpu, seconds(now))
        level = level if demands[vcpu].is_on else 0.0
        until_s = demands[vcpu].until_s
    ns = level * QUANTUM_NS
    if not (0.0 <= ns <= BACKLOG_NS):  # a workload may come to nonsense (nan, infinite); the clock goes on
        ns = BACKLOG_NS if ns > BACKLOG_NS else 0.0
    vcpus[vcpu].closed = demands[vcpu].closed
    vcpus[vcpu].want_ns = min(ns, float(QUANTUM_NS)) if demands[vcpu].closed else ns
    # a quantum early, so that it does not matter how a sum of times is rounded
    ahead = until_s * QUANTA_PER_S
    vcpus[vcpu].until = max(int(ahead) - 1, now + 1) if ahead < LAST_QUANTUM else LAST_QUANTUM


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
def arrive(vcpus: Table, demands: Table, steps: Table, vcpu: int, now: int) -> None:
    """Begin an active vCPU's quantum: add what it wants in it to what it has not got yet; it has not run."""
    if now >= vcpus[vcpu].until:
        refresh(vcpus, demands, steps, vcpu, now)
    vcpus[vcpu].slice_ns = 0.0
    closed = vcpus[vcpu].closed
    ns = vcpus[vcpu].want_ns * (1.0 if closed else vcpus[vcpu].stretch)
    if ns < QUANTUM_NS:
        ns = _in_turn(vcpus, demands, vcpu, ns)
    waiting = 0.0 if closed else vcpus[vcpu].pending_ns
    vcpus[vcpu].pending_ns = min(waiting + ns, BACKLOG_NS)
    vcpus[vcpu].wanted_ns += ns


@inlined
def _in_turn(vcpus: Table, demands: Table, vcpu: int, ns: float) -> float:
    """What is wanted in this quantum by who wants a part of each: all of it once so much has come together, else
    nothing. How much has to, half a quantum to one and a half, is drawn each time: or vCPUs of the same demand would
    meet for ever, or never. The more is wanted the nearer to one it is, since little time is left to choose from."""
    if ns <= 0.0:
        return 0.0
    owed = vcpus[vcpu].owed_ns + ns
    if owed < vcpus[vcpu].due_ns:
        vcpus[vcpu].owed_ns = owed
        return 0.0
    vcpus[vcpu].owed_ns = owed - QUANTUM_NS
    vcpus[vcpu].due_ns = QUANTUM_NS + (drawn(demands, vcpu) - 0.5) * (QUANTUM_NS - ns)
    return float(QUANTUM_NS)
