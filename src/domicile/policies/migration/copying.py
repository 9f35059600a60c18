"""How long it takes to copy a domain's memory, in each of the ways, and how long the domain stands still for it.

Live: everything once, then what was written meanwhile, until fewer than 50 pages are left or five rounds are over; then
the domain is paused for the rest. Source: `send_memory_live` with its default policy in tools/libs/guest/xg_sr_save.c,
Xen 4.17; Clark et al., "Live Migration of Virtual Machines" (NSDI 2005), for the rounds. Of M MiB that are written
evenly at d MiB a second, M (1 - exp(-d t / M)) differ after t seconds.

Saved: tools/xl/xl_saverestore.c, 4.17: suspended, written to a file, destroyed, built anew and read back, one after the
other, so that the memory is copied twice and the domain stands still for all of it.

Ballooned: what the guest frees it gives to Xen, and gets the same amount again: nothing is copied, but each page is
given back by its driver, cleaned by Xen and handed out anew (Linux drivers/xen/balloon.c; page scrubbing in
xen/common/page_alloc.c). It goes down by all it can before it comes up: in a smaller step a guest would get and give
the same pages again, since what was freed last is allocated first.

Assumed, for want of a measurement: what is fixed for each move, and the balloon's rate (the simulator's too).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = [
    "BALLOON_MIB_S",
    "BUILD_S",
    "DIRTY_MIB_S",
    "FEW_MIB",
    "ROUNDS",
    "SWITCH_S",
    "Copying",
    "ballooned",
    "live",
    "saved",
]

ROUNDS = 5
FEW_MIB = 50 / 256

DIRTY_MIB_S = 60.0
"""MiB a second that a busy vCPU writes to, where nobody knows: the simulator's workloads have 1 to 2000, most of them
20 to 100."""

BUILD_S = 2.0
"""A domain is built and another destroyed, with the tools started for it. An assumption."""

SWITCH_S = 0.3
"""The domain is suspended here and resumed there, and its devices are connected anew. An assumption."""

BALLOON_MIB_S = 1024.0


@dataclass(frozen=True, slots=True)
class Copying:
    """`copied_mib` in all, of which `again_mib` were copied before; `rounds` while the domain ran."""

    copied_mib: float
    again_mib: float
    time_s: float
    pause_s: float
    rounds: int = 0


def live(memory_mib: float, rate_mib_s: float, dirty_mib_s: float) -> Copying:
    """A live migration of so much memory."""
    left, sent, rounds = float(memory_mib), 0.0, 0
    while rounds < ROUNDS and (rounds == 0 or left >= FEW_MIB):
        sent += left
        left = _written(memory_mib, dirty_mib_s, left / rate_mib_s)
        rounds += 1
    pause_s = left / rate_mib_s + SWITCH_S
    sent_all = sent + left
    return Copying(sent_all, sent_all - memory_mib, BUILD_S + sent / rate_mib_s + pause_s, pause_s, rounds)


def saved(memory_mib: float, rate_mib_s: float) -> Copying:
    """Saved to a file, and restored from it."""
    pause_s = 2.0 * memory_mib / rate_mib_s + BUILD_S + SWITCH_S
    return Copying(2.0 * memory_mib, 0.0, pause_s, pause_s)


def ballooned(freed_mib: float, rate_mib_s: float) -> Copying:
    """Ballooned down by so much, and up again."""
    return Copying(0.0, 0.0, 2.0 * freed_mib / min(rate_mib_s, BALLOON_MIB_S), 0.0)


def _written(memory_mib: float, dirty_mib_s: float, elapsed_s: float) -> float:
    """Memory that differs after a while."""
    return -memory_mib * math.expm1(-dirty_mib_s * elapsed_s / memory_mib) if memory_mib > 0 else 0.0
