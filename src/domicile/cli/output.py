"""What commands print with: a console for people, JSON for machines, and text that cannot harm a terminal."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from domicile.local.compiled import when_compiling

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["SEARCH_COMPILING_S", "console", "plain", "print_json", "say_if_compiling", "show"]

COMPILING_S = 20
"""CPU time of compiling the simulator's loops and the performance model's, on a machine of 2021."""

SEARCH_COMPILING_S = 30
"""The same of the search for many guests."""


def plain(text: str) -> str:
    """The text with everything that is not printable written out, so that what a file says cannot steer a terminal."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def console() -> Console:
    """A console on standard output: colours where it is a terminal that has them, 80 columns where it is none.

    Nothing in the text is taken for markup.
    """
    from rich.console import Console  # noqa: PLC0415 - rich takes longer to import than `--help` may

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return Console(highlight=False, emoji=False, markup=False)


def show(view: RenderableType) -> None:
    """Print something drawn with rich on standard output."""
    console().print(view)


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output, in ASCII whatever the locale."""
    try:
        sys.stdout.write(json.dumps(value, indent=2) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # the reader has seen enough; keep Python from complaining again when it closes standard output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def say_if_compiling(what: str = "the simulator", seconds: int = COMPILING_S) -> AbstractContextManager[None]:
    """While it lasts, say so once on standard error when something has to be compiled: seconds without a word."""

    def say() -> None:
        sys.stderr.write(f"domicile: compiling {what} (once, about {seconds} s)\n")
        sys.stderr.flush()

    return when_compiling(say)
