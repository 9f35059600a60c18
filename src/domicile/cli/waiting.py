"""Letting a host's time pass, with a bar for who watches."""

from __future__ import annotations

import threading

from domicile.hosts.protocol import Host

__all__ = ["wait"]

PATIENCE_S = 2.0
"""How long nobody needs to be told that something is going on."""


def wait(host: Host, seconds: float) -> None:
    """Let so many seconds of the host's time pass; a bar on stderr, where that is a terminal, if it takes longer.

    Ctrl-C ends it; what passed on a simulated host is kept.
    """
    # imported here: rich takes longer to import than `--help` may
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    console = Console(stderr=True)
    if not console.is_terminal:
        host.wait(seconds)
        return
    what = "simulated seconds" if host.capabilities().simulated_time else "seconds"
    bars = Progress(
        TextColumn(f"{{task.completed:,.0f}} of {{task.total:,.0f}} {what}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    task = bars.add_task("", total=seconds)
    # a compiler may be at work before the host tells anything for the first time
    later = threading.Timer(PATIENCE_S, bars.start)
    later.daemon = True
    later.start()
    try:
        host.wait(seconds, lambda passed_s: bars.update(task, completed=passed_s))
    finally:
        later.cancel()
        later.join()
        if bars.live.is_started:
            bars.stop()
