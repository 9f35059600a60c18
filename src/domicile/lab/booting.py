"""From a machine that was switched on, or reset, to a Dom0 that says it is up.

An emulated Dom0 hangs now and then while it boots, for a fault of QEMU's (`stale_code`). What hangs is healed; should
that not help, the machine is reset, as a person would do; one that hangs every time is reported.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from domicile.errors import HostFailed
from domicile.lab import console, folder, qmp
from domicile.lab.progress import Report
from domicile.lab.stale_code import heal

__all__ = ["ended_why", "require_alive", "wait_for_boot"]

BOOT_TIMEOUT_S = 900
"""A boot takes under a minute on two quiet cores; a busy computer or a plug-in takes a multiple."""

HANGS_S = 15
"""A boot that goes on says something at least every 10 s on two quiet cores. So long after its last word, and so long
again after each time, what looks stuck is healed."""

SILENT_S = 180
"""After this long it is reset."""

RESETS = 2
"""How often a machine that hangs is reset before it is given up."""

STUCK = re.compile(r"soft lockup - CPU#\d+ stuck|rcu: INFO: \w+ (self-)?detected stall|blocked for more than \d+ sec")
"""Dom0's kernel, when one of its CPUs does not get on. What it says from then on is no sign of life."""


class _Silent(HostFailed):
    """Nothing more was said."""


def wait_for_boot(place: Path, since: int, report: Report) -> None:
    """Wait until Dom0 says that it is up, in the console log from the offset `since` on; reset a machine that hangs.

    Raises `HostFailed` with the telling lines when it does not come up, when Xen or Dom0 panics and when QEMU ends.
    """
    for _ in range(RESETS):
        try:
            _wait_once(place, since, report)
        except _Silent:
            since = console.size(place / "console.log")
            qmp.execute(place / "qmp.sock", "system_reset")
        else:
            return
    _wait_once(place, since, report)


def _wait_once(place: Path, since: int, report: Report) -> None:
    started = heard = healed = time.monotonic()
    told = 0
    while True:
        require_alive(place)
        text = console.read_console(place / "console.log", since)
        if console.has_come_up(text):
            return
        lines = " | ".join(console.telling_lines(text)) or "nothing on the console"
        if console.trouble(text):
            raise HostFailed(f"the lab did not boot: {lines}")
        now = time.monotonic()
        stuck = STUCK.search(text)
        if len(text) > told and not stuck:
            told, heard = len(text), now
        if now - heard > SILENT_S:
            raise _Silent(f"the lab hung {RESETS + 1} times while it booted; last it said: {lines}")
        if now - max(heard, healed) > HANGS_S:
            heal(place)
            healed = time.monotonic()
        if now - started > BOOT_TIMEOUT_S:
            raise HostFailed(f"the lab did not boot within {BOOT_TIMEOUT_S} s; last it said: {lines}")
        report("booting Xen and Dom0", min((now - started) / 60, 0.99))
        time.sleep(0.1)


def ended_why(place: Path) -> str | None:
    """How QEMU ended, with what it said last; None if it runs."""
    how = folder.ended(place)
    if how is None:
        return None
    said = how.said.splitlines()[-1:] or console.telling_lines(console.read_console(place / "console.log"))
    return f"QEMU ended with status {how.status}: {' | '.join(said)}"


def require_alive(place: Path) -> None:
    """Raises `HostFailed` if QEMU has ended."""
    why = ended_why(place)
    if why is not None:
        raise HostFailed(why)
