"""How far a long step of the lab has come, for whoever shows it."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Report", "silent"]


class Report(Protocol):
    """Called with what is being done now and how much of the whole is done, 0.0 to 1.0."""

    def __call__(self, doing: str, done: float) -> None: ...


def silent(doing: str, done: float) -> None:
    """Shows nothing."""
    del doing, done
