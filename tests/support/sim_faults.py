"""Hosts that fail, and processes that die, at a chosen point."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from domicile.errors import HostFailed
from domicile.hosts.actions import Action
from domicile.hosts.protocol import Capabilities, Host, no_progress
from domicile.state.model import MemoryMapAge, Snapshot

__all__ = ["Fault", "FaultyHost", "dead_after", "failing", "failing_at", "kill_me", "killed", "run_in_child"]

Fault = Callable[[str, bool], None]
"""Called with a call's name ("snapshot", or the action's) before (False) and after (True) it is passed on."""


class FaultyHost:
    """A host behind a line that can fail: `fault` may raise, kill, wait or change the host between two calls."""

    def __init__(self, host: Host, fault: Fault) -> None:
        self._host = host
        self.fault = fault
        self.performed: list[Action] = []

    @property
    def uri(self) -> str:
        return self._host.uri

    def capabilities(self) -> Capabilities:
        return self._host.capabilities()

    def snapshot(self, memory_map: MemoryMapAge = MemoryMapAge.NONE) -> Snapshot:
        self.fault("snapshot", False)
        snapshot = self._host.snapshot(memory_map)
        self.fault("snapshot", True)
        return snapshot

    def proximity_domains(self) -> Mapping[int, int]:
        return self._host.proximity_domains()

    def perform(self, action: Action) -> None:
        name = type(action).__name__
        self.fault(name, False)
        self._host.perform(action)
        self.performed.append(action)
        self.fault(name, True)

    def wait(self, seconds: float, progress: Callable[[float], None] = no_progress) -> None:
        self.fault("wait", False)
        self._host.wait(seconds, progress)
        self.fault("wait", True)

    def close(self) -> None:
        self._host.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def failing(
    points: Sequence[tuple[str, bool]], error: Callable[[], BaseException] = lambda: HostFailed("cut")
) -> Fault:
    """Fail once at each of these points, in this order."""
    left = list(points)

    def fault(name: str, after: bool) -> None:
        if left and left[0] == (name, after):
            left.pop(0)
            raise error()

    return fault


def dead_after(count: int) -> Fault:
    """The line works for so many calls, and is cut from then on."""
    calls = 0

    def fault(name: str, after: bool) -> None:
        nonlocal calls
        calls += not after
        if calls > count:
            raise HostFailed("connection lost")

    return fault


def failing_at(points: set[tuple[int, bool]]) -> Fault:
    """Fail at the calls with these numbers (from 0 on), not done (False) or done without an answer (True)."""
    calls = -1

    def fault(name: str, after: bool) -> None:
        nonlocal calls
        calls += not after
        if (calls, after) in points:
            raise HostFailed("connection lost")

    return fault


def run_in_child(act: Callable[[], None]) -> int:
    """Run it in a process of its own; its wait status."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            act()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitpid(child, 0)[1]


def killed(status: int) -> bool:
    """Whether the wait status is of a process that kill -9 ended."""
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def kill_me() -> None:
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)
