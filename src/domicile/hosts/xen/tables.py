"""What all readers of `xl`'s tables share: a table has a heading, and a line that makes no sense is told as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator

from domicile.errors import HostFailed

__all__ = ["LONGEST", "is_plain", "lines", "matched", "matches", "nonsense"]

SHOWN = 120
LONGEST = 32768
"""No row is longer: two affinities of 4,096 CPUs, every second one set, take less."""


def nonsense(command: str, number: int, line: str) -> HostFailed:
    """The error for a line (counted from 1) that no version of this command prints."""
    shown = line if len(line) <= SHOWN else line[:SHOWN] + "…"
    return HostFailed(f"`{command}` printed what makes no sense in line {number}: {shown!r}")


def matches(text: str, row: re.Pattern[str], command: str) -> Iterator[tuple[int, re.Match[str]]]:
    """Number and match of each line after the heading, which begins with "Name". Empty lines are passed over.

    Raises `HostFailed` where the heading is missing or a line does not match whole.
    """
    for number, line in lines(text, command):
        yield number, matched(line, number, row, command)


def lines(text: str, command: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line after the heading. Raises `HostFailed` where that is missing."""
    found = text.split("\n")
    if not found[0].startswith("Name"):
        raise nonsense(command, 1, found[0])
    for number, line in enumerate(found[1:], start=2):
        if line and not line.isspace():
            yield number, line


def matched(line: str, number: int, row: re.Pattern[str], command: str) -> re.Match[str]:
    """A line that has to be such a row, whole. Raises `HostFailed`."""
    match = row.fullmatch(line) if len(line) <= LONGEST else None
    if match is None:
        raise nonsense(command, number, line)
    return match


def is_plain(line: str) -> bool:
    """Whether spaces are all that separates its words, so that splitting it finds what an expression would."""
    return line.isascii() and line.isprintable() and len(line) <= LONGEST
