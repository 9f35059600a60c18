"""The one small protocol that every host meets. Policies never see which host it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from domicile.hosts.actions import Action
from domicile.state.model import MemoryMapAge, Snapshot

__all__ = ["Capabilities", "Host", "no_progress"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a host can do, and how it was found out.

    `via` names the way the host is seen ("xl with libxenctrl", "xl alone", "simulated"). `simulated_time`: its time
    passes in `Host.wait` alone, and takes hardly any of ours.
    """

    via: str
    memory_map: bool
    node_affinity: bool
    pcpu_idle: bool
    simulated_time: bool = False


def no_progress(passed_s: float) -> None:
    """For who does not want to be told."""


@runtime_checkable
class Host(Protocol):
    """Anything with nodes and domains. Use it as a context manager: leaving it closes the connection.

    All methods raise `HostFailed` when the host or the way to it fails.
    """

    @property
    def uri(self) -> str:
        """The URI it was opened with."""
        ...

    def capabilities(self) -> Capabilities:
        """What this host can do."""
        ...

    def snapshot(self, memory_map: MemoryMapAge = MemoryMapAge.NONE) -> Snapshot:
        """The host now: one round trip."""
        ...

    def proximity_domains(self) -> Mapping[int, int]:
        """Node id to ACPI's proximity domain (PXM), of the nodes that the host tells it of: it does not change."""
        ...

    def perform(self, action: Action) -> None:
        """Carry out one action, or raise having changed nothing (`Refused`, `ReservationConflict`, `HostFailed`)."""
        ...

    def wait(self, seconds: float, progress: Callable[[float], None] = no_progress) -> None:
        """Let so many seconds of the host's time pass: a real host's is the clock on the wall.

        `progress` is called now and then with the seconds that have passed. Raises ValueError for less than none.
        """
        ...

    def close(self) -> None:
        """End the connection. Reservations and paused domains made through it end too."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
