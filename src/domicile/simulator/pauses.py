"""vCPUs that are paused while they want to run, as in the last part of a migration.

A paused vCPU is none to the scheduler. What it would have wanted meanwhile is taken to be what it wanted in the epoch
before: it counts as having waited, and work that arrives whether or not it runs (an open demand) is there afterwards.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from domicile.simulator.scheduler.demand import BACKLOG_NS
from domicile.simulator.scheduler.state import QUANTUM_NS
from domicile.simulator.scheduler.stepper import Scheduler

__all__ = ["Pauses"]

RUNS = -1


class Pauses:
    """Who is paused since which quantum, and what each of V vCPUs wants (share of a pCPU)."""

    def __init__(self, vcpus: int) -> None:
        self._since: npt.NDArray[np.int64] = np.full(vcpus, RUNS, dtype=np.int64)
        self._wants = np.zeros(vcpus)

    def note(self, wanted_ns: npt.NDArray[np.float64], seconds: float) -> None:
        """An epoch is over, in which vCPUs wanted this (V)."""
        np.divide(wanted_ns, seconds * 1e9, out=self._wants, where=self._since == RUNS)

    def has(self, vcpu: int) -> bool:
        """Whether a vCPU is paused."""
        return bool(self._since[vcpu] != RUNS)

    def stop(self, scheduler: Scheduler, vcpu: int) -> None:
        """Pause a vCPU, unless it is."""
        if self._since[vcpu] == RUNS:
            self._since[vcpu] = scheduler.quantum
            scheduler.stop(vcpu)

    def forget(self, vcpu: int) -> None:
        """The vCPU's domain has gone."""
        self._since[vcpu] = RUNS

    def resume(self, scheduler: Scheduler, vcpu: int) -> None:
        """Let a paused vCPU run again."""
        if self._since[vcpu] == RUNS:
            return
        paused_ns = float((scheduler.quantum - self._since[vcpu]) * QUANTUM_NS)
        self._since[vcpu] = RUNS
        wanted_ns = self._wants[vcpu] * paused_ns
        row = scheduler.vcpus[vcpu]
        row["wanted_ns"] += wanted_ns
        scheduler.start(vcpu)
        if scheduler.demands[vcpu]["closed"]:
            row["waited_ns"] += wanted_ns
        elif wanted_ns > 0.0:
            row["waited_ns"] += paused_ns
            row["pending_ns"] = min(wanted_ns, BACKLOG_NS)
