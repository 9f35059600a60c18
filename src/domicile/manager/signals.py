"""Being told to end, so that what was begun can be undone first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Interrupted", "Told", "ToldToEnd", "interruptible", "told"]


class Interrupted(KeyboardInterrupt):
    """SIGTERM or SIGHUP arrived: to be handled as Ctrl-C is."""


class ToldToEnd(Interrupted):
    """A service is to end, and nothing is half done."""


class Told:
    """What a service was told by signals: looked at where nothing is half done."""

    def __init__(self) -> None:
        self.to_end = False
        self.to_reload = False

    def end(self, number: int, frame: FrameType | None) -> None:
        """Note that it is to end; told again, it ends where it stands."""
        del frame
        if self.to_end:
            raise Interrupted(signal.Signals(number).name)
        self.to_end = True

    def end_if_told(self) -> None:
        """Raise `ToldToEnd` if it is: to be called where nothing is half done."""
        if self.to_end:
            raise ToldToEnd

    def reload(self, number: int, frame: FrameType | None) -> None:
        """Note that it is to read its configuration again."""
        del number, frame
        self.to_reload = True


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP raise `Interrupted` where they would have ended the process at once.

    Signals that somebody handles or ignores already are left alone, as are all of them outside the main thread.
    """
    taken = []
    if threading.current_thread() is threading.main_thread():
        taken = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_DFL]

    def interrupt(number: int, frame: FrameType | None) -> None:
        del frame
        raise Interrupted(signal.Signals(number).name)

    for each in taken:
        signal.signal(each, interrupt)
    try:
        yield
    finally:
        for each in taken:
            signal.signal(each, signal.SIG_DFL)


@contextmanager
def told() -> Iterator[Told]:
    """Within, Ctrl-C and SIGTERM, and SIGHUP, are noted. Ctrl-C stays ignored where it is; outside the main thread all
    are left alone.
    """
    found = Told()
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {signal.SIGTERM: found.end, signal.SIGINT: found.end, signal.SIGHUP: found.reload}
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            del handlers[signal.SIGINT]
        before = {each: signal.signal(each, handler) for each, handler in handlers.items()}
    try:
        yield found
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
