"""What was changed on a host that runs: affinity, where memory is, how much of it; and the file that has it.

The journal proper (`journal`) is this with the intents of domains that were started.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from domicile.errors import HostFailed
from domicile.local.database import Database, Format
from domicile.local.paths import file_stem, state_file
from domicile.local.process import ProcessId, this_process
from domicile.manager.intents import (
    Act,
    ActStatus,
    DomainIntent,
    Event,
    MemoryAct,
    MoveIntent,
    MoveStatus,
    Plan,
)

__all__ = ["Changes", "as_text", "insert"]

T = TypeVar("T")

ACTS_TABLE = """CREATE TABLE acts (id INTEGER PRIMARY KEY AUTOINCREMENT, plan INTEGER NOT NULL REFERENCES plans (id),
               domain TEXT NOT NULL, uuid TEXT NOT NULL, vcpu INTEGER NOT NULL, before TEXT NOT NULL,
               wanted TEXT NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL, changed_at REAL NOT NULL)"""
"""Soft affinity that was changed, or was about to be."""

MOVES_TABLE = """CREATE TABLE moves (id INTEGER PRIMARY KEY AUTOINCREMENT, plan INTEGER NOT NULL REFERENCES plans (id),
               token TEXT NOT NULL UNIQUE, record TEXT NOT NULL, status TEXT NOT NULL, seen TEXT, why TEXT NOT NULL,
               changed_at REAL NOT NULL)"""
"""Memory that was moved, or was about to be."""

MEMORY_TABLE = """CREATE TABLE memory_acts (id INTEGER PRIMARY KEY AUTOINCREMENT, plan INTEGER NOT NULL
               REFERENCES plans (id), domain TEXT NOT NULL, uuid TEXT NOT NULL, before_mib INTEGER NOT NULL,
               wanted_mib INTEGER NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL, changed_at REAL NOT NULL)"""
"""What balloon drivers were told, or were about to be."""

FORMAT = Format(
    application_id=0x444F4D4A,  # "DOMJ"
    version=3,
    what="journal",
    durable=True,
    tables=(
        "CREATE TABLE host (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL)",
        """CREATE TABLE plans (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, policy TEXT NOT NULL,
               made_at REAL NOT NULL, owner TEXT NOT NULL)""",
        """CREATE TABLE intents (id INTEGER PRIMARY KEY AUTOINCREMENT, plan INTEGER NOT NULL REFERENCES plans (id),
               domain TEXT NOT NULL, uuid TEXT NOT NULL, status TEXT NOT NULL, wanted TEXT NOT NULL, seen TEXT,
               owner TEXT NOT NULL, made_at REAL NOT NULL, changed_at REAL NOT NULL, reason TEXT NOT NULL)""",
        "CREATE UNIQUE INDEX one_pending ON intents (domain) WHERE status IN ('planned', 'creating')",
        "CREATE UNIQUE INDEX one_active ON intents (domain) WHERE status = 'active'",
        """CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, plan INTEGER, intent INTEGER,
               kind TEXT NOT NULL, detail TEXT NOT NULL)""",
        """CREATE TRIGGER events_stay BEFORE UPDATE ON events
               BEGIN SELECT RAISE(ABORT, 'events are never changed'); END""",
        """CREATE TRIGGER events_remain BEFORE DELETE ON events
               BEGIN SELECT RAISE(ABORT, 'events are never removed'); END""",
        ACTS_TABLE,
        MOVES_TABLE,
        MEMORY_TABLE,
    ),
    upgrades={1: (ACTS_TABLE,), 2: (MOVES_TABLE, MEMORY_TABLE)},
)


class Changes:
    """An open file of changes, of one process and one thread. A change is written down before it is made, and again
    with what became of it."""

    def __init__(self, path: Path, host_id: str, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._database = Database(path, FORMAT)
        try:
            with self._database.writing() as connection:
                connection.execute("INSERT OR IGNORE INTO host (one, id) VALUES (1, ?)", (host_id,))
                self._require_host(connection, host_id)
        except BaseException:
            self._database.close()
            raise

    @classmethod
    def for_host(cls, host_id: str) -> Self:
        """The journal of the host with this id (`Snapshot.host_id`), made at its first use."""
        return cls(cls.path_of(host_id), host_id)

    @staticmethod
    def path_of(host_id: str) -> Path:
        """Where that host's journal is, or would be."""
        return state_file(f"hosts/{file_stem(host_id)}.sqlite")

    def now(self) -> float:
        """The clock that intents are dated by: ours, not the host's."""
        return self._now()

    @property
    def path(self) -> Path:
        """The file."""
        return self._database.path

    def note(self, kind: str, detail: Mapping[str, Any], intent: DomainIntent | None = None) -> None:
        """Write down something that happened and changes no intent."""
        with self._database.writing() as connection:
            self._tell(connection, kind, detail, intent.plan if intent else None, intent.id if intent else None)

    def events(self, after: int = 0) -> tuple[Event, ...]:
        """All events with a larger id, the first one first."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT * FROM events WHERE id > ? ORDER BY id", (after,)).fetchall()
        return tuple(self._event(row) for row in rows)

    def last(self, kind: str) -> Event | None:
        """The last event of a kind, None if there is none."""
        with self._database.reading() as connection:
            row = connection.execute("SELECT * FROM events WHERE kind = ? ORDER BY id DESC", (kind,)).fetchone()
        return None if row is None else self._event(row)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin_acts(self, kind: str, policy: str, wanted: Sequence[Act], plan: int = 0) -> tuple[Act, ...]:
        """Write down a plan of changes before the first of them is done, or changes that belong to an earlier plan."""
        now = self._now()
        with self._database.writing() as connection:
            plan = plan or self._insert_plan(connection, kind, policy, this_process(), now)
            return tuple(self._insert_act(connection, replace(each, plan=plan), now) for each in wanted)

    def end_act(self, act: Act, status: ActStatus) -> Act:
        """Write down what became of a change."""
        now = self._now()
        with self._database.writing() as connection:
            connection.execute("UPDATE acts SET status = ?, changed_at = ? WHERE id = ?", (status, now, act.id))
            detail = {"domain": act.domain, "vcpu": act.vcpu}
            self._tell(connection, f"soft-affinity-{status}", detail, act.plan)
        return replace(act, status=status, changed_at=now)

    def acts(self, plan: int | None = None) -> tuple[Act, ...]:
        """The changes of a plan, or of all, the first one first."""
        return tuple(
            Act(
                domain=row["domain"],
                uuid=row["uuid"],
                vcpu=row["vcpu"],
                before=frozenset(self._decode(row["before"], list[int])),
                wanted=frozenset(self._decode(row["wanted"], list[int])),
                reason=row["reason"],
                id=row["id"],
                plan=row["plan"],
                status=self._decode(f'"{row["status"]}"', ActStatus),
                changed_at=row["changed_at"],
            )
            for row in self._rows("acts", plan)
        )

    def begin_moves(self, kind: str, policy: str, wanted: Sequence[MoveIntent]) -> tuple[MoveIntent, ...]:
        """Write down a plan of moves before the first of them is begun."""
        now = self._now()
        with self._database.writing() as connection:
            plan = self._insert_plan(connection, kind, policy, this_process(), now)
            return tuple(self._insert_move(connection, replace(each, plan=plan), now) for each in wanted)

    def advance_move(
        self, move: MoveIntent, status: MoveStatus, why: str = "", seen: Mapping[int, int] | None = None
    ) -> MoveIntent:
        """Write down how far a move came, and where the domain's pages are. One that puts another back undoes that in
        the same moment."""
        now = self._now()
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE moves SET status = ?, why = ?, seen = coalesce(?, seen), changed_at = ? WHERE id = ?",
                (status, why, None if seen is None else as_text(seen), now, move.id),
            )
            detail = {"domain": move.order.domain, "way": move.order.way, "why": why}
            self._tell(connection, f"move-{status}".replace(" ", "-"), detail, move.plan)
            if move.undoes and status in {MoveStatus.MOVED, MoveStatus.PARTLY}:
                self._undo_move(connection, move, now)
        return replace(move, status=status, why=why, seen=move.seen if seen is None else seen, changed_at=now)

    def _undo_move(self, connection: sqlite3.Connection, by: MoveIntent, now: float) -> None:
        """The move that `by` puts back, and the changes of affinity that went with it, are undone."""
        connection.execute(
            "UPDATE moves SET status = ?, changed_at = ? WHERE id = ? AND status IN (?, ?)",
            (MoveStatus.UNDONE, now, by.undoes, MoveStatus.MOVED, MoveStatus.PARTLY),
        )
        [plan] = connection.execute("SELECT plan FROM moves WHERE id = ?", (by.undoes,)).fetchone()
        connection.execute(
            "UPDATE acts SET status = ?, changed_at = ? WHERE plan = ? AND uuid = ? AND status = ?",
            (ActStatus.UNDONE, now, plan, by.order.uuid, ActStatus.DONE),
        )
        self._tell(connection, "move-undone", {"domain": by.order.domain, "by": by.plan}, plan)

    def moves(self, plan: int | None = None) -> tuple[MoveIntent, ...]:
        """The moves of a plan, or of all, the first one first."""
        return tuple(
            replace(
                self._decode(row["record"], MoveIntent),
                id=row["id"],
                plan=row["plan"],
                status=self._decode(f'"{row["status"]}"', MoveStatus),
                seen=None if row["seen"] is None else self._decode(row["seen"], dict[int, int]),
                why=row["why"],
                changed_at=row["changed_at"],
            )
            for row in self._rows("moves", plan)
        )

    def begin_memory(self, kind: str, policy: str, wanted: Sequence[MemoryAct]) -> tuple[MemoryAct, ...]:
        """Write down a plan of changes of memory before the first of them is made."""
        now = self._now()
        with self._database.writing() as connection:
            plan = self._insert_plan(connection, kind, policy, this_process(), now)
            return tuple(self._insert_memory(connection, replace(each, plan=plan), now) for each in wanted)

    def end_memory(self, act: MemoryAct, status: ActStatus) -> MemoryAct:
        """Write down what became of a change of memory."""
        now = self._now()
        with self._database.writing() as connection:
            connection.execute("UPDATE memory_acts SET status = ?, changed_at = ? WHERE id = ?", (status, now, act.id))
            detail = {"domain": act.domain, "wanted_mib": act.wanted_mib}
            self._tell(connection, f"memory-{status}", detail, act.plan)
        return replace(act, status=status, changed_at=now)

    def memory_acts(self, plan: int | None = None) -> tuple[MemoryAct, ...]:
        """The changes of memory of a plan, or all, the first one first."""
        return tuple(
            MemoryAct(**{**dict(row), "status": self._decode(f'"{row["status"]}"', ActStatus)})
            for row in self._rows("memory_acts", plan)
        )

    def plans(self) -> tuple[Plan, ...]:
        """All plans, the first one first."""
        return tuple(
            Plan(row["id"], row["kind"], row["policy"], row["made_at"], self._decode(row["owner"], ProcessId))
            for row in self._rows("plans")
        )

    def _rows(self, table: str, plan: int | None = None) -> list[sqlite3.Row]:
        """A table's rows, or those of a plan, the first one first."""
        where, values = ("WHERE plan = ?", (plan,)) if plan is not None else ("", ())
        with self._database.reading() as connection:
            return connection.execute(f"SELECT * FROM {table} {where} ORDER BY id", values).fetchall()  # noqa: S608

    def _insert_plan(self, connection: sqlite3.Connection, kind: str, policy: str, owner: ProcessId, now: float) -> int:
        plan = insert(connection, "plans", kind=kind, policy=policy, made_at=now, owner=as_text(owner))
        self._tell(connection, f"plan-{kind}", {"policy": policy, "pid": owner.pid}, plan)
        return plan

    def _insert_act(self, connection: sqlite3.Connection, act: Act, now: float) -> Act:
        begun = replace(act, status=ActStatus.PLANNED, changed_at=now)
        number = insert(
            connection,
            "acts",
            plan=begun.plan,
            domain=begun.domain,
            uuid=begun.uuid,
            vcpu=begun.vcpu,
            before=as_text(sorted(begun.before)),
            wanted=as_text(sorted(begun.wanted)),
            status=begun.status,
            reason=begun.reason,
            changed_at=now,
        )
        return replace(begun, id=number)

    def _insert_move(self, connection: sqlite3.Connection, move: MoveIntent, now: float) -> MoveIntent:
        begun = replace(move, status=MoveStatus.PLANNED, changed_at=now)
        number = insert(
            connection,
            "moves",
            plan=begun.plan,
            token=begun.order.token,
            record=as_text(begun),
            status=begun.status,
            why="",
            changed_at=now,
        )
        return replace(begun, id=number)

    def _insert_memory(self, connection: sqlite3.Connection, act: MemoryAct, now: float) -> MemoryAct:
        begun = replace(act, status=ActStatus.PLANNED, changed_at=now)
        values = {each.name: getattr(begun, each.name) for each in fields(begun) if each.name != "id"}
        return replace(begun, id=insert(connection, "memory_acts", **values))

    def _require_host(self, connection: sqlite3.Connection, host_id: str) -> None:
        found = connection.execute("SELECT id FROM host").fetchone()[0]
        if found != host_id:
            raise HostFailed(f"{self.path}: is the journal of {found}, not of {host_id}")

    def _tell(
        self,
        connection: sqlite3.Connection,
        kind: str,
        detail: Mapping[str, Any],
        plan: int | None = None,
        intent: int | None = None,
    ) -> None:
        connection.execute(
            "INSERT INTO events (at, plan, intent, kind, detail) VALUES (?, ?, ?, ?, ?)",
            (self._now(), plan, intent, kind, as_text(detail)),
        )

    def _event(self, row: sqlite3.Row) -> Event:
        detail = self._decode(row["detail"], dict)
        return Event(row["id"], row["at"], row["plan"], row["intent"], row["kind"], detail)

    def _decode(self, text: str, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(text, type=kind)
        except (msgspec.MsgspecError, TypeError, UnicodeError) as error:
            raise self._database.corrupt(error) from error


def insert(connection: sqlite3.Connection, table: str, **values: object) -> int:
    """Add a row of these values by column; its id."""
    marks = ", ".join("?" * len(values))
    cursor = connection.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))  # noqa: S608
    if cursor.lastrowid is None:  # pragma: no cover - an INSERT always has one
        raise HostFailed("the journal did not number a new row")
    return cursor.lastrowid


def as_text(record: object) -> str:
    """A record as the file has it: JSON."""
    return msgspec.json.encode(record).decode()
