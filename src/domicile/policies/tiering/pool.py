"""Where cold pages come to be, and what putting and touching them costs: the pool filled in steps of a second.

Each second every domain touches what it is to touch again (pages come home) and puts what it does not use, on the node
with most free memory of those that its mode allows, as long as more than the spare is free there. Pages that find no
room stay. Time is the domain's own: a page is a call into Xen and 64 cache lines, of which a core has `lines_per_core`
on the way, at the latency of the pool's node (`Assumptions`; `CALL_S` is assumed).

Left out: that ephemeral pages are dropped for others', the copying's traffic, which pages are oldest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from domicile.performance.curves import Floats
from domicile.policies.memory_load import MemoryLoad
from domicile.state.model import PAGES_PER_MIB
from domicile.state.page_use import PageUse
from domicile.state.request import TieringMode

__all__ = ["UNTIL_FULL", "Pool", "Pooled", "fill"]

CALL_S = 1e-6
LINES_PER_PAGE = 64
MOST_STEPS = 256
ONCE_FULL = 1.1
"""Time is counted for a tenth of the time that it took to fill."""


@dataclass(frozen=True, slots=True)
class Pool:
    """What is left free of every node, and from when to when the domains' time is counted, the pool being as it is at
    the end: from `since_s` to `after_s` after the start (None: once the slowest has put all that it can do without)."""

    spare_mib: int = 64
    since_s: float = 0.0
    after_s: float | None = None


UNTIL_FULL = Pool()


@dataclass(frozen=True, eq=False)
class Pooled:
    """`kept` (D x N): MiB of each domain in the pool; `freed` (N): MiB, negative where the pool is; `lost` (D): vCPUs'
    worth of time that copying takes of it; `homeless` (D): MiB that found no room, or no time."""

    kept: Floats
    freed: Floats
    lost: Floats
    homeless: Floats


def fill(
    load: MemoryLoad, uses: Sequence[PageUse], modes: Sequence[TieringMode], far: Sequence[bool], pool: Pool
) -> Pooled:
    """The pool after a time. `uses`, `modes`: of each domain (D); `far`: nodes that are far memory (N)."""
    state = _Filling(load, uses, modes, np.asarray(far, dtype=np.bool_), pool.spare_mib)
    since_s, after_s = pool.since_s, pool.after_s
    if after_s is None:
        since_s = state.until_full_s()
        after_s = since_s * ONCE_FULL + 1.0
    steps = min(max(math.ceil(after_s), 1), MOST_STEPS)
    dt_s = after_s / steps
    lost_s = np.zeros(len(uses))
    for step in range(steps):
        each_s = state.step(dt_s)
        if step * dt_s >= since_s - 1e-9:
            lost_s += each_s
    counted_s = sum(step * dt_s >= since_s - 1e-9 for step in range(steps)) * dt_s
    lost = lost_s / counted_s if counted_s > 0 else lost_s
    return Pooled(state.kept, state.free - load.free_mib, lost, state.homeless())


class _Filling:
    """The pool while it is filled."""

    def __init__(
        self,
        load: MemoryLoad,
        uses: Sequence[PageUse],
        modes: Sequence[TieringMode],
        far: np.ndarray[tuple[int], np.dtype[np.bool_]],
        spare_mib: int,
    ) -> None:
        self._load, self._uses, self._spare = load, uses, spare_mib
        self.free = load.free_mib.copy()
        self.kept = np.zeros_like(load.pages)
        shares = np.array([min(use.ephemeral + use.persistent, use.cold) for use in uses])
        on = np.array([mode is not TieringMode.OFF for mode in modes], dtype=np.bool_)
        self._goal = np.where(on & load.pages.any(axis=1), shares * load.memory_mib, 0.0)
        self._may = [far if mode is TieringMode.FAR_MEMORY else ~load.own[row] for row, mode in enumerate(modes)]
        self._users = np.flatnonzero(self._goal > 0).tolist()
        relative = load.machine.latency_ns
        home = load.pages.argmax(axis=1)
        self._page_s = CALL_S + LINES_PER_PAGE * relative[home] * 1e-9 / load.assumptions.lines_per_core

    def until_full_s(self) -> float:
        """How long the slowest takes to put what it can do without."""
        gains = {row: self._uses[row].put_mib_s - self._uses[row].get_mib_s for row in self._users}
        return max((float(self._goal[row]) / gain for row, gain in gains.items() if gain > 0), default=0.0)

    def homeless(self) -> Floats:
        """What each domain could still put, if there were room or time."""
        return np.asarray(np.maximum(self._goal - self.kept.sum(axis=1), 0.0), dtype=np.float64)

    def step(self, dt_s: float) -> Floats:
        """Gets and puts of all; vCPU seconds that each spends on them (D)."""
        lost_s = np.zeros(len(self._goal))
        for row in self._users:
            lost_s[row] = self._get(row, self._uses[row].get_mib_s * dt_s) + self._put(row, dt_s)
        return lost_s

    def _get(self, row: int, wanted_mib: float) -> float:
        whole = float(self.kept[row].sum())
        if whole <= 0:
            return 0.0
        got = self.kept[row] * min(wanted_mib / whole, 1.0)
        self.kept[row] -= got
        self.free += got - got.sum() * self._load.pages[row]
        return self._copy_s(row, got)

    def _put(self, row: int, dt_s: float) -> float:
        left = min(self._uses[row].put_mib_s * dt_s, float(self._goal[row] - self.kept[row].sum()))
        lost_s = 0.0
        for node in np.argsort(-np.where(self._may[row], self.free, -np.inf), kind="stable").tolist():
            part = min(left, float(self.free[node]) - self._spare)
            if part <= 0 or not self._may[row][node]:
                continue
            put = np.zeros_like(self.free)
            put[node] = part
            self.kept[row] += put
            self.free += part * self._load.pages[row] - put
            left -= part
            lost_s += self._copy_s(row, put)
        return lost_s

    def _copy_s(self, row: int, by_node: Floats) -> float:
        return float((by_node * self._page_s[row]).sum()) * PAGES_PER_MIB
