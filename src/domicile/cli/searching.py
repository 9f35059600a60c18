"""What a person meets of a search that takes its time: a budget, a bar, and Ctrl-C, which keeps the best so far."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

import click

from domicile.cli.waiting import patient_bar
from domicile.errors import BadInput
from domicile.policies.effort import SEARCH, Effort

__all__ = ["SEARCH_OPTIONS", "Interruption", "searching"]

MOST_S = 86400.0
UNITS_S = {"ms": 1e-3, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class _Seconds(click.ParamType):  # type: ignore[type-arg]
    """A length of time: seconds, or with a unit (500ms, 2s, 5m)."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        del ctx
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|min|h)?", str(value))
        if not found or not (seconds := float(found[1]) * UNITS_S[found[2] or ""]) <= MOST_S:
            name = param.opts[0] if param else "time"
            raise BadInput(name, f"{value!r} is no time of up to a day; write 2s, 500ms or 5m")
        return seconds


SEARCH_OPTIONS = (
    click.option(
        "--budget",
        "budget_s",
        type=_Seconds(),
        metavar="TIME",
        default=0.0,
        help="Search for so long (2s, 500ms, 5m), where several guests are placed at once. Ctrl-C ends it earlier, and "
        "the best so far counts.",
    ),
    click.option("--seed", type=click.IntRange(min=0), default=0, help="Another seed starts the search elsewhere."),
)
"""The options of commands that search."""


class Interruption:
    """Whether Ctrl-C was pressed. The first time ends the search; the second time, the command."""

    def __init__(self) -> None:
        self.came = False

    def __call__(self) -> bool:
        return self.came

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within, Ctrl-C is noted; outside the main thread, or where it is ignored, nothing changes."""
        usual = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(usual):
            yield
            return

        def note(number: int, frame: FrameType | None) -> None:
            del number, frame
            self.came = True
            click.echo("domicile: ending the search; the best so far is kept", err=True)
            signal.signal(signal.SIGINT, usual)

        signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, usual)


@contextmanager
def searching(budget_s: float, seed: int, interruption: Interruption) -> Iterator[Effort]:
    """The effort of one search, which begins now: until the budget is used up, if there is one. On a terminal bars show
    how far it and its proof are."""
    begin_s = time.monotonic()

    def more() -> bool:
        return time.monotonic() - begin_s < budget_s

    with ExitStack() as bars:
        shown: dict[str, Callable[[float], None] | None] = {}

        def tell(what: str, part: float) -> None:
            # a bar begins with the first word of a search: what was compiled before has a line of its own
            if what not in shown:
                bars.close()
                shown[what] = bars.enter_context(patient_bar(f"% of the {what}", 100.0))
            bar = shown[what]
            if bar is not None:
                passed = (time.monotonic() - begin_s) / budget_s if budget_s and what == SEARCH else part
                bar(100.0 * min(passed, 1.0))

        if budget_s:
            yield Effort(seed, more=more, proof_s=budget_s, strict=True, stop=interruption, tell=tell)
        else:
            yield Effort(seed, stop=interruption, tell=tell)
