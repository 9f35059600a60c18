"""Bars for who watches something that takes its time: a host's time that passes, a long piece of work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from domicile.hosts.protocol import Host

__all__ = ["patient_bar", "wait"]

PATIENCE_S = 2.0
"""How long nobody needs to be told that something is going on."""


def wait(host: Host, seconds: float) -> None:
    """Let so many seconds of the host's time pass; a bar on stderr, where that is a terminal, if it takes longer.

    Ctrl-C ends it; what passed on a simulated host is kept.
    """
    what = "simulated seconds" if host.capabilities().simulated_time else "seconds"
    with patient_bar(what, seconds) as tell:
        if tell is None:
            host.wait(seconds)
        else:
            host.wait(seconds, tell)


@contextmanager
def patient_bar(what: str, total: float) -> Iterator[Callable[[float], None] | None]:
    """A bar on stderr that shows itself after `PATIENCE_S`: gives what is to be told how much is done; None where
    stderr is no terminal."""
    # imported here: rich takes longer to import than `--help` may
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    bars = Progress(
        TextColumn(f"{{task.completed:,.0f}} of {{task.total:,.0f}} {what}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    task = bars.add_task("", total=total)
    # a compiler may be at work before anything is told for the first time
    later = threading.Timer(PATIENCE_S, bars.start)
    later.daemon = True
    later.start()
    try:
        yield lambda done: bars.update(task, completed=done)
    finally:
        later.cancel()
        later.join()
        if bars.live.is_started:
            bars.stop()
