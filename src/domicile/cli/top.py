"""`domicile top`: the host as `domicile show` shows it, again and again, the busiest domains first."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from domicile.cli.connect import connect_option, default_uri
from domicile.cli.output import console
from domicile.hosts.open import open_host
from domicile.hosts.protocol import Host
from domicile.state.load import Load, load_between
from domicile.state.model import Domain, MemoryMapAge, Snapshot

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["command"]

QUIT = "q"


@click.command()
@connect_option
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(min=0.2, max=3600),
    default=2.0,
    show_default=True,
    help="Seconds from one look to the next, over which load is measured.",
)
@click.option("--rounds", type=click.IntRange(min=1), help="End after so many looks.  [default: when told to]")
def command(connect: str | None, *, every_s: float, rounds: int | None) -> None:
    """Watch a host: nodes and the busiest domains, with load, home, who holds what, and what is remote.

    q or Ctrl-C ends it. Where the output is no terminal, one view follows the other. The time of a simulated host
    passes as fast as it is watched.
    """
    uri, out = default_uri(connect), console()
    with open_host(uri) as host, _screen(out) as draw, _keys() as pressed:
        try:
            _watch(uri, host, out, draw, pressed, every_s, rounds)
        except KeyboardInterrupt:
            return


def _watch(
    uri: str,
    host: Host,
    out: Console,
    draw: Callable[[RenderableType], None],
    pressed: Callable[[float], str],
    every_s: float,
    rounds: int | None,
) -> None:
    """Look and draw until told to stop: a first look at once, then one after each `every_s`."""
    simulated = host.capabilities().simulated_time
    before, load, seen = host.snapshot(MemoryMapAge.RECENT), None, 0
    draw(_view(uri, before, load, out))
    while rounds is None or seen < rounds:
        if pressed(every_s) == QUIT:
            return
        if simulated:
            host.wait(every_s)
        now = host.snapshot(MemoryMapAge.RECENT)
        if now.taken_at > before.taken_at:  # a clock that was set back tells no load
            load = load_between(before, now)
        before, seen = now, seen + 1
        draw(_view(uri, now, load, out))


def _view(uri: str, snapshot: Snapshot, load: Load | None, out: Console) -> RenderableType:
    """The host, the busiest domains first; on a terminal as many of them as there is room for."""
    from rich.console import Group  # noqa: PLC0415 - rich takes longer to import than `--help` may
    from rich.text import Text  # noqa: PLC0415

    from domicile.cli.host_view import host_view  # noqa: PLC0415

    used = load.domains if load else {}
    domains = sorted(snapshot.domains, key=lambda domain: (-used.get(domain.name, 0.0), domain.id))
    if not out.is_terminal:
        return host_view(uri, snapshot, load, domains)

    def drawn(count: int) -> RenderableType:
        left = len(domains) - count
        more = [Text(f"and {left} less busy ones", style="bright_black")] if left else []
        return Group(host_view(uri, snapshot, load, domains[:count]), *more, Text("q: quit", style="bright_black"))

    return drawn(_fitting(domains, drawn, out))


def _fitting(domains: list[Domain], drawn: Callable[[int], RenderableType], out: Console) -> int:
    """How many of these domains the screen has lines for."""
    low, high = 0, len(domains)
    while low < high:
        middle = (low + high + 1) // 2
        if len(out.render_lines(drawn(middle))) <= out.height:
            low = middle
        else:
            high = middle - 1
    return low


@contextmanager
def _screen(out: Console) -> Iterator[Callable[[RenderableType], None]]:
    """What draws a view: over the one before on a terminal, below it elsewhere."""
    from rich.live import Live  # noqa: PLC0415

    if not out.is_terminal:
        yield out.print
        return
    with Live(console=out, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        yield lambda view: live.update(view, refresh=True)


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """What waits for so many seconds, or until `QUIT` is pressed, and gives that, else "". Without a keyboard it only
    waits."""
    if not sys.stdin.isatty():
        yield _no_key
        return
    import termios  # noqa: PLC0415 - there is none where there is no terminal
    import tty  # noqa: PLC0415

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield _key
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _no_key(seconds: float) -> str:
    time.sleep(seconds)
    return ""


def _key(seconds: float) -> str:
    """`QUIT` if that was pressed within so many seconds; other keys do not end the wait."""
    until_s = time.monotonic() + seconds
    while (left_s := until_s - time.monotonic()) > 0:
        ready, _, _ = select.select([sys.stdin], [], [], left_s)
        if ready:
            typed = os.read(sys.stdin.fileno(), 64)
            if not typed or QUIT.encode() in typed:  # nothing: the terminal has gone
                return QUIT
    return ""
