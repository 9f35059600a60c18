"""The lines of a player to its host and to its journal, and what can happen on them at each single call."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from fault_stage import Player

from domicile.errors import DomicileError, HostFailed, Refused, ReservationConflict
from domicile.hosts.actions import Action
from domicile.hosts.protocol import Capabilities, no_progress
from domicile.hosts.simulated import SimulatedHost
from domicile.manager.journal import Journal
from domicile.state.model import MemoryMapAge, Snapshot

if TYPE_CHECKING:
    import sqlite3

__all__ = ["JOURNAL", "Fault", "Faults", "Line", "NoFaults", "OneFault", "RandomFaults", "StagedJournal"]

T = TypeVar("T")

JOURNAL = "journal"


class Fault(StrEnum):
    """What happens at a call."""

    NONE = "none"
    FAIL = "fails"
    LOST = "done, no answer"
    REFUSE = "refused"
    HANG = "hangs, not done"
    HANG_DONE = "hangs, done"
    HANG_LATE = "hangs, done later"
    CUT = "the line is cut"
    CUT_DONE = "done, the line is cut"
    KILL = "killed before"
    KILL_AFTER = "killed after"
    KILL_LATE = "killed, done later"


OFTEN = {
    Fault.FAIL: 4,
    Fault.LOST: 4,
    Fault.REFUSE: 3,
    Fault.HANG: 1,
    Fault.HANG_DONE: 1,
    Fault.HANG_LATE: 2,
    Fault.CUT: 1,
    Fault.CUT_DONE: 1,
    Fault.KILL: 3,
    Fault.KILL_AFTER: 3,
    Fault.KILL_LATE: 2,
}
OF_READING = (Fault.FAIL, Fault.HANG, Fault.CUT, Fault.KILL)
OF_WRITING = (Fault.FAIL, Fault.KILL, Fault.KILL_AFTER)
REFUSED = ("Reserve", "CreatePaused", "Unpause", "Destroy", "SetAffinity", "Hold", "StartMove")
"""What a host may say no to. The others it always can."""


class Faults(Protocol):
    """What is to happen at a call of this name ("snapshot", "wait", `JOURNAL`, or the action's)."""

    def at(self, name: str) -> Fault: ...


class NoFaults:
    """All goes well; the calls are kept."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def at(self, name: str) -> Fault:
        self.calls.append(name)
        return Fault.NONE


class OneFault:
    """One fault, at the call with this number, counted from 0."""

    def __init__(self, number: int, fault: Fault) -> None:
        self._left = number
        self._fault = fault
        self.happened = ""

    def at(self, name: str) -> Fault:
        self._left -= 1
        if self._left == -1:
            self.happened = name
            return self._fault
        return Fault.NONE


class RandomFaults:
    """Faults at this share of calls."""

    def __init__(self, chance: random.Random, share: float) -> None:
        self._chance = chance
        self._share = share

    def at(self, name: str) -> Fault:
        if self._chance.random() >= self._share:
            return Fault.NONE
        if name == JOURNAL:
            return self._chance.choice(OF_WRITING)
        if name in {"snapshot", "wait"}:
            return self._chance.choice(OF_READING)
        fault = self._chance.choices(list(OFTEN), list(OFTEN.values()))[0]
        return Fault.FAIL if fault is Fault.REFUSE and name not in REFUSED else fault


class Line:
    """A player's connection to the simulated host. `end` is called, once, with what has yet to be done, when the host's
    side is to see that the connection is gone; `pass_time` lets the host's time pass while a call hangs.
    """

    def __init__(
        self,
        host: SimulatedHost,
        player: Player,
        faults: Faults,
        end: Callable[[Line], None],
        pass_time: Callable[[], None],
    ) -> None:
        self._host = host
        self._player = player
        self._faults = faults
        self._end = end
        self._pass_time = pass_time
        self._late: Action | None = None
        self._is_cut = False
        self._has_ended = False

    @property
    def uri(self) -> str:
        return self._host.uri

    @property
    def is_broken(self) -> bool:
        """Whether it was cut, or its process killed: then the host's side has yet to notice."""
        return self._is_cut or self._player.dead

    @property
    def connection(self) -> str:
        """What the host knows it by."""
        return self._host._owner.connection

    def capabilities(self) -> Capabilities:
        return self._host.capabilities()

    def proximity_domains(self) -> Mapping[int, int]:
        return self._host.proximity_domains()

    def snapshot(self, memory_map: MemoryMapAge = MemoryMapAge.NONE) -> Snapshot:
        return self._call("snapshot", lambda: self._host.snapshot(memory_map))

    def wait(self, seconds: float, progress: Callable[[float], None] = no_progress) -> None:
        self._call("wait", lambda: self._host.wait(seconds, progress))

    def perform(self, action: Action) -> None:
        self._call(type(action).__name__, lambda: self._host.perform(action), action)

    def close(self) -> None:
        if not self._player.dead:
            self.over()

    def finish(self) -> None:
        """The host's side carries out what is left, and sees that the connection is gone."""
        self._do_late()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, name: str, act: Callable[[], T], action: Action | None = None) -> T:
        player = self._player
        player.pause()
        if self._is_cut:
            raise HostFailed("the line is cut")
        fault = self._faults.at(name)
        if action is not None or fault is not Fault.NONE:
            player.stage.tell(f"{player.name}: {_told(name, action)}{'' if fault is Fault.NONE else f' {fault}'}")
        self._do_late()
        self._before(fault, action)
        try:
            result = act()
        except DomicileError as error:
            player.stage.tell(f"  {error}")
            raise
        self._after(fault)
        return result

    def _before(self, fault: Fault, action: Action | None) -> None:
        """What happens in place of the call."""
        match fault:
            case Fault.FAIL:
                raise HostFailed("it failed")
            case Fault.REFUSE:
                if type(action).__name__ == "Reserve":
                    raise ReservationConflict("others were faster")
                raise Refused("the host will not")
            case Fault.HANG | Fault.HANG_LATE:
                self._late = action if fault is Fault.HANG_LATE else None
                self._pass_time()
                raise HostFailed("timed out")
            case Fault.CUT:
                self._cut()
            case Fault.KILL | Fault.KILL_LATE:
                self._late = action if fault is Fault.KILL_LATE else None
                self._player.die()

    def _after(self, fault: Fault) -> None:
        """What happens after it was done."""
        match fault:
            case Fault.LOST:
                raise HostFailed("no answer")
            case Fault.HANG_DONE:
                self._pass_time()
                raise HostFailed("timed out")
            case Fault.CUT_DONE:
                self._cut()
            case Fault.KILL_AFTER:
                self._player.die()

    def _cut(self) -> None:
        self._is_cut = True
        self.over()
        raise HostFailed("the line was cut")

    def over(self) -> None:
        """The connection is gone: closed, cut, or its process has died."""
        if not self._has_ended:
            self._has_ended = True
            self._end(self)

    def _do_late(self) -> None:
        """The host gets to what it was asked long ago; nobody hears how it went."""
        late, self._late = self._late, None
        if late is not None:
            self._player.stage.tell(f"{self._player.name}: {_told(type(late).__name__, late)}, late")
            with suppress(DomicileError):
                self._host.perform(late)


def _told(name: str, action: Action | None) -> str:
    """An action, short."""
    domain = getattr(action, "domain", "") or getattr(action, "name", "") or getattr(action, "who", "")
    order = getattr(action, "order", None)
    if order is not None:
        domain = f"{order.domain} {order.way} to {order.nodes}"
    reservation = getattr(action, "reservation", None)
    if reservation is not None:
        domain = f"{reservation.domain} {dict(reservation.memory_mib)}"
    return f"{name} {domain}".strip()


class StagedJournal(Journal):
    """A journal whose every write is a point where something can happen, and whose owner may be dead."""

    def __init__(self, path: Path, host_id: str, player: Player, faults: Faults) -> None:
        super().__init__(path, host_id)
        self._database = _Steps(self._database, player, faults)  # type: ignore[assignment]


class _Steps:
    def __init__(self, database: Any, player: Player, faults: Faults) -> None:
        self._database = database
        self._player = player
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        self._player.pause()
        with self._database.reading() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        player = self._player
        player.pause()
        fault = self._faults.at(JOURNAL)
        if fault is not Fault.NONE:
            player.stage.tell(f"{player.name}: journal {fault}")
        if fault is Fault.KILL:
            player.die()
        if fault is Fault.FAIL:
            raise HostFailed("the disk is full")
        with self._database.writing() as connection:
            yield connection
        if fault is Fault.KILL_AFTER:
            player.die()
