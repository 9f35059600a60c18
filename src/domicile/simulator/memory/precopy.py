"""Copying memory that is written meanwhile: rounds, then a pause.

Source: Clark et al., "Live Migration of Virtual Machines" (NSDI 2005), and `send_memory_live` with its default policy
in tools/libs/guest/xg_sr_save.c, Xen 4.17: everything once, then what was written meanwhile, until fewer than 50 pages
are left or five rounds are over; then the domain is paused for the rest. That bound ends every migration, however fast
the domain writes. No rounds at all is save and restore.

Pages written: of W pages that are written evenly, `pages_per_s` times a second in all, W (1 - exp(-d t / W)) differ
after t seconds; with W infinite that is d t, and the rounds are a geometric row, which `forecast` is tested against.

In an engine: `step(now_s, dt_s, granted_gbs)` each epoch. What it wants is `rate_gbs`; the machine may grant less. A
round that ends within a step ends when it ends, so the result does not depend on the length of the steps. `dirtying`
may be changed between steps as the domain's load changes. `replace(precopy)` is a snapshot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from domicile.simulator.memory.flow import pages_per_s

__all__ = ["AS_LIBXC", "NO_WRITES", "CopyLimits", "CopyStep", "Dirtying", "Forecast", "Phase", "Precopy", "forecast"]


class Phase(StrEnum):
    """How far a copy is."""

    COPYING = "copying"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Dirtying:
    """How a domain writes: `pages_per_s` writes a second (each to a page) to `writable_pages` pages."""

    pages_per_s: float = 0.0
    writable_pages: float = math.inf

    def after(self, dirty: float, elapsed_s: float) -> float:
        """How many pages are dirty a while after `dirty` were."""
        if self.pages_per_s <= 0.0 or elapsed_s <= 0.0:
            return dirty
        if math.isinf(self.writable_pages):
            return dirty + self.pages_per_s * elapsed_s
        if dirty >= self.writable_pages:
            return dirty
        clean = self.writable_pages - dirty
        return dirty - clean * math.expm1(-self.pages_per_s * elapsed_s / self.writable_pages)


NO_WRITES = Dirtying()


@dataclass(frozen=True, slots=True)
class CopyLimits:
    """When to stop: after `rounds` rounds, or with fewer than `few_pages` left. `fixed_pause_s` comes on top."""

    rounds: int = 5
    few_pages: float = 50.0
    fixed_pause_s: float = 0.0


AS_LIBXC = CopyLimits()


@dataclass(frozen=True, slots=True)
class CopyStep:
    """What happened in a step: pages sent, how long the domain was paused, how long it took of the step."""

    sent_pages: float
    paused_s: float
    used_s: float
    phase: Phase


@dataclass(slots=True)
class Precopy:
    """A copy of `pages` pages. `round` counts from 1; `left` is what is left of it, in pages.

    ValueError without a rate.
    """

    pages: int
    rate_gbs: float
    dirtying: Dirtying = NO_WRITES
    limits: CopyLimits = AS_LIBXC
    phase: Phase = Phase.COPYING
    round: int = 1
    left: float = 0.0
    dirty: float = 0.0
    pause_left_s: float = 0.0
    sent_pages: float = 0.0
    paused_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.rate_gbs > 0.0:
            raise ValueError(f"a copy at {self.rate_gbs} GB/s never ends")
        if self.round == 1 and not self.sent_pages and not self.left and self.phase is Phase.COPYING:
            self.left = float(self.pages)
            if self.limits.rounds < 1:
                self._pause(self.left)

    def copy(self) -> Precopy:
        """An independent copy."""
        return replace(self)

    def cancel(self) -> None:
        """Stop, unless it is done; the domain runs on where it was."""
        if self.phase is not Phase.DONE:
            self.phase = Phase.CANCELLED

    def step(self, now_s: float, dt_s: float, granted_gbs: float | None = None) -> CopyStep:  # noqa: ARG002
        """Go on for `dt_s`. `now_s` is not needed, and taken as every step here takes it."""
        granted = self.rate_gbs if granted_gbs is None else min(granted_gbs, self.rate_gbs)
        rate = pages_per_s(max(granted, 0.0))
        left_s, sent, paused = dt_s, 0.0, 0.0
        while left_s > 0.0 and self.phase in {Phase.COPYING, Phase.PAUSED}:
            need_s = self.left / rate if rate else (math.inf if self.left else 0.0)
            used = min(need_s, left_s)
            done = need_s <= left_s
            part = self.left if done else rate * used
            self.left -= part
            sent += part
            left_s -= used
            if self.phase is Phase.COPYING:
                self.dirty = self.dirtying.after(self.dirty, used)
                if done:
                    self._end_round()
                continue
            rest = min(self.pause_left_s, left_s) if done else 0.0
            self.pause_left_s -= rest
            left_s -= rest
            paused += used + rest
            if done and self.pause_left_s <= 0.0:
                self.phase = Phase.DONE
        self.sent_pages += sent
        self.paused_s += paused
        return CopyStep(sent, paused, dt_s - left_s, self.phase)

    def _end_round(self) -> None:
        # nobody can have written more pages than there are
        dirty, self.dirty = min(self.dirty, float(self.pages)), 0.0
        if dirty < self.limits.few_pages or self.round >= self.limits.rounds:
            self._pause(dirty)
        else:
            self.left = dirty
            self.round += 1

    def _pause(self, pages: float) -> None:
        self.phase = Phase.PAUSED
        self.left = pages
        self.pause_left_s = self.limits.fixed_pause_s


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a copy comes to when nothing changes meanwhile."""

    rounds: int
    sent_pages: float
    total_s: float
    pause_s: float


def forecast(pages: int, rate_gbs: float, dirtying: Dirtying = NO_WRITES, limits: CopyLimits = AS_LIBXC) -> Forecast:
    """The copy worked out round by round, without stepping. ValueError without a rate."""
    if not rate_gbs > 0.0:
        raise ValueError(f"a copy at {rate_gbs} GB/s never ends")
    rate = pages_per_s(rate_gbs)
    left, sent, rounds = float(pages), 0.0, 0
    while rounds < limits.rounds and (rounds == 0 or left >= limits.few_pages):
        sent += left
        left = min(dirtying.after(0.0, left / rate), float(pages))
        rounds += 1
    pause_s = left / rate + limits.fixed_pause_s
    return Forecast(rounds, sent + left, sent / rate + pause_s, pause_s)
