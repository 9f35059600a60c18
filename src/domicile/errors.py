"""What can go wrong, in the field's words.

Errors are raised where they are found and become one line for people at the edge (`cli`): the message says what, where
and what to do. `exit_status` is the process's exit status for it, as the command-line contract has it.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = [
    "BadInput",
    "DomicileError",
    "Halted",
    "HostFailed",
    "NotEnoughMemory",
    "Refused",
    "ReservationConflict",
]


class DomicileError(Exception):
    """Base of every error that domicile raises on purpose. The message is one line, fit for a person."""

    exit_status = 3

    def __reduce__(self) -> tuple[Callable[..., DomicileError], tuple[object, ...]]:
        """As its parts: Python would make it anew from its message, which is not what most are made from, and a pool of
        processes that gets such an answer breaks."""
        return _put_together, (type(self), self.args, vars(self))


def _put_together(kind: type[DomicileError], args: tuple[object, ...], parts: dict[str, object]) -> DomicileError:
    error = kind.__new__(kind, *args)
    vars(error).update(parts)
    return error


class BadInput(DomicileError):
    """Something the user gave cannot be read or cannot be meant.

    `source` is the file (or URI, or option) as the user named it; `place` is where in it ("line 7", "node 3", an XML
    path), empty when it is the whole; `problem` says what is wrong and, where that is not plain, what would be right.
    """

    exit_status = 2

    def __init__(self, source: str, problem: str, place: str = "") -> None:
        self.source = source
        self.problem = problem
        self.place = place
        super().__init__(f"{source}: {place}: {problem}" if place else f"{source}: {problem}")


class Refused(DomicileError):
    """The answer is no: what was asked for is understood, and cannot be had on this host as it is."""

    exit_status = 1


class Halted(Refused):
    """`domicile stop` has stopped every manager of this host: nothing is to be changed of anybody's own accord."""


class NotEnoughMemory(Refused):
    """No set of nodes has the memory. `node` is None when it is not one node that is short: then it is the whole
    host, or what `where` says. `detail` gives the figures behind it ("node 0: 100 MiB, 300 MiB promised to others").
    """

    def __init__(
        self, domain: str, need_mib: int, free_mib: int, node: int | None = None, where: str = "", detail: str = ""
    ) -> None:
        self.domain = domain
        self.need_mib = need_mib
        self.free_mib = free_mib
        self.node = node
        place = where or ("the host" if node is None else f"node {node}")
        figures = f" ({detail})" if detail else ""
        super().__init__(
            f"{domain}: needs {need_mib} MiB, {place} has {free_mib} MiB free and not promised to others{figures}; "
            f"free some memory or ask for less"
        )


class HostFailed(DomicileError):
    """The host, or the way to it, failed: a command had an error, a connection broke, an answer made no sense."""

    exit_status = 3


class ReservationConflict(HostFailed):
    """Another creation changed the host's reservations since the snapshot was taken: look again and decide again."""
