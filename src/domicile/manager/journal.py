"""The journal of a host: intents before acts, observations after, so that a crash at any point can be made good.

One SQLite file a host (write-ahead log, waits for the disk at every commit), for this user alone. `events` only ever
grows; `intents` holds what is current; every change of an intent is an event in the same transaction. `plans` groups
the intents that were decided together.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from domicile.errors import HostFailed, Refused
from domicile.local.database import Database, Format
from domicile.local.paths import file_stem, state_folder
from domicile.local.process import NOBODY, ProcessId, is_alive, this_process
from domicile.manager.intents import Act, ActStatus, DomainIntent, Event, IntentStatus, Plan, Seen, Wanted

__all__ = ["Journal"]

T = TypeVar("T")

ACTS_TABLE = """CREATE TABLE acts (id INTEGER PRIMARY KEY AUTOINCREMENT, plan INTEGER NOT NULL REFERENCES plans (id),
               domain TEXT NOT NULL, uuid TEXT NOT NULL, vcpu INTEGER NOT NULL, before TEXT NOT NULL,
               wanted TEXT NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL, changed_at REAL NOT NULL)"""
"""Soft affinity that was changed, or was about to be."""

FORMAT = Format(
    application_id=0x444F4D4A,  # "DOMJ"
    version=2,
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
    ),
    upgrades={1: (ACTS_TABLE,)},
)

NEXT = {
    IntentStatus.PLANNED: {IntentStatus.CREATING, IntentStatus.FAILED},
    IntentStatus.CREATING: {IntentStatus.ACTIVE, IntentStatus.FAILED},
    IntentStatus.ACTIVE: {IntentStatus.SUPERSEDED, IntentStatus.ACKNOWLEDGED},
}
"""What can become of an intent; the rest is final."""


class Journal:
    """An open journal, of one process and one thread."""

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
        return state_folder() / "hosts" / f"{file_stem(host_id)}.sqlite"

    def now(self) -> float:
        """The clock that intents are dated by: ours, not the host's."""
        return self._now()

    @property
    def path(self) -> Path:
        """The file."""
        return self._database.path

    def begin(self, kind: str, policy: str, wanted: Sequence[Wanted]) -> tuple[DomainIntent, ...]:
        """Write down a plan before anything of it is done. Its intents are planned, and this process's.

        Raises `Refused` where one of the domains is being started already.
        """
        owner, now = this_process(), self._now()
        with self._database.writing() as connection:
            for each in wanted:
                self._require_not_pending(connection, each.domain)
            plan = _id(
                connection.execute(
                    "INSERT INTO plans (kind, policy, made_at, owner) VALUES (?, ?, ?, ?)",
                    (kind, policy, now, _text(owner)),
                )
            )
            self._tell(connection, f"plan-{kind}", {"policy": policy, "pid": owner.pid}, plan)
            made = [self._insert(connection, plan, each, owner, now) for each in wanted]
            return tuple(self._get(connection, each) for each in made)

    def advance(self, intent: int, status: IntentStatus, reason: str = "", seen: Seen | None = None) -> DomainIntent:
        """Write down what became of an intent. Raises `HostFailed` for a step that cannot be (`NEXT`)."""
        with self._database.writing() as connection:
            before = self._get(connection, intent)
            if status not in NEXT.get(before.status, set()):
                raise HostFailed(f"{before.wanted.domain}: its intent is {before.status} and cannot become {status}")
            if status is IntentStatus.ACTIVE:
                self._supersede(connection, before)
            self._set(connection, before, status, reason, seen)
            return self._get(connection, intent)

    def observe(self, intent: int, seen: Seen) -> DomainIntent:
        """Write down how a domain was found."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE intents SET seen = ?, changed_at = ? WHERE id = ?", (_text(seen), self._now(), intent)
            )
            found = self._get(connection, intent)
            self._tell(connection, "observed", msgspec.to_builtins(seen, str_keys=True), found.plan, intent)
            return found

    def claim(self, intent: DomainIntent) -> DomainIntent | None:
        """Take over a pending intent from an owner that died; None if somebody else was faster."""
        return self._hand_over(intent, this_process())

    def abandon(self, intent: DomainIntent) -> DomainIntent | None:
        """Leave a pending intent to whoever looks next: this process could not bring it to an end.

        None if it is pending no more, or another's.
        """
        return self._hand_over(intent, NOBODY)

    def forget(self, domain: str) -> bool:
        """Stop looking after a domain; False if none of this name is looked after."""
        with self._database.writing() as connection:
            row = connection.execute(
                "SELECT id FROM intents WHERE domain = ? AND status = ?", (domain, IntentStatus.ACTIVE)
            ).fetchone()
            if row is None:
                return False
            found = self._get(connection, row["id"])
            self._set(connection, found, IntentStatus.ACKNOWLEDGED, "acknowledged by the administrator", None)
            return True

    def note(self, kind: str, detail: Mapping[str, Any], intent: DomainIntent | None = None) -> None:
        """Write down something that happened and changes no intent."""
        with self._database.writing() as connection:
            self._tell(connection, kind, detail, intent.plan if intent else None, intent.id if intent else None)

    def pending(self) -> tuple[DomainIntent, ...]:
        """Intents of which it is not yet known what became of them."""
        return self._select([IntentStatus.PLANNED, IntentStatus.CREATING])

    def active(self) -> tuple[DomainIntent, ...]:
        """Intents that hold: these domains should be as they were wanted."""
        return self._select([IntentStatus.ACTIVE])

    def intents(self) -> tuple[DomainIntent, ...]:
        """All intents, the first one first."""
        return self._select(list(IntentStatus))

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

    def begin_acts(self, kind: str, policy: str, wanted: Sequence[Act]) -> tuple[Act, ...]:
        """Write down a plan of changes before the first of them is done."""
        now, owner = self._now(), this_process()
        with self._database.writing() as connection:
            plan = _id(
                connection.execute(
                    "INSERT INTO plans (kind, policy, made_at, owner) VALUES (?, ?, ?, ?)",
                    (kind, policy, now, _text(owner)),
                )
            )
            self._tell(connection, f"plan-{kind}", {"policy": policy, "pid": owner.pid}, plan)
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
        where, values = ("WHERE plan = ?", (plan,)) if plan is not None else ("", ())
        with self._database.reading() as connection:
            rows = connection.execute(f"SELECT * FROM acts {where} ORDER BY id", values).fetchall()  # noqa: S608
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
            for row in rows
        )

    def plans(self) -> tuple[Plan, ...]:
        """All plans, the first one first."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT * FROM plans ORDER BY id").fetchall()
        return tuple(
            Plan(row["id"], row["kind"], row["policy"], row["made_at"], self._decode(row["owner"], ProcessId))
            for row in rows
        )

    def _insert_act(self, connection: sqlite3.Connection, act: Act, now: float) -> Act:
        values = (
            act.plan,
            act.domain,
            act.uuid,
            act.vcpu,
            _text(sorted(act.before)),
            _text(sorted(act.wanted)),
            ActStatus.PLANNED,
            act.reason,
            now,
        )
        columns = "plan, domain, uuid, vcpu, before, wanted, status, reason, changed_at"
        number = _id(connection.execute(f"INSERT INTO acts ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values))  # noqa: S608
        return replace(act, id=number, status=ActStatus.PLANNED, changed_at=now)

    def _require_host(self, connection: sqlite3.Connection, host_id: str) -> None:
        found = connection.execute("SELECT id FROM host").fetchone()[0]
        if found != host_id:
            raise HostFailed(f"{self.path}: is the journal of {found}, not of {host_id}")

    def _require_not_pending(self, connection: sqlite3.Connection, domain: str) -> None:
        row = connection.execute(
            "SELECT id FROM intents WHERE domain = ? AND status IN ('planned', 'creating')", (domain,)
        ).fetchone()
        if row is not None:
            owner = self._get(connection, row["id"]).owner
            by = f"by {owner}" if is_alive(owner) else "and left undecided: look at the host and try again"
            raise Refused(f"{domain}: is being started already {by}")

    def _insert(self, connection: sqlite3.Connection, plan: int, wanted: Wanted, owner: ProcessId, now: float) -> int:
        values = (plan, wanted.domain, wanted.uuid, IntentStatus.PLANNED, _text(wanted), _text(owner), now, now, "")
        columns = "plan, domain, uuid, status, wanted, owner, made_at, changed_at, reason"
        intent = _id(
            connection.execute(f"INSERT INTO intents ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)  # noqa: S608
        )
        self._tell(connection, IntentStatus.PLANNED, msgspec.to_builtins(wanted, str_keys=True), plan, intent)
        return intent

    def _supersede(self, connection: sqlite3.Connection, by: DomainIntent) -> None:
        rows = connection.execute(
            "SELECT id FROM intents WHERE status = ? AND (domain = ? OR uuid = ?)",
            (IntentStatus.ACTIVE, by.wanted.domain, by.wanted.uuid),
        ).fetchall()
        for row in rows:
            reason = f"started again by intent {by.id}"
            self._set(connection, self._get(connection, row["id"]), IntentStatus.SUPERSEDED, reason, None)

    def _set(
        self, connection: sqlite3.Connection, intent: DomainIntent, status: IntentStatus, reason: str, seen: Seen | None
    ) -> None:
        connection.execute(
            "UPDATE intents SET status = ?, reason = ?, changed_at = ?, seen = coalesce(?, seen) WHERE id = ?",
            (status, reason, self._now(), _text(seen) if seen else None, intent.id),
        )
        self._tell(connection, status, {"reason": reason} if reason else {}, intent.plan, intent.id)

    def _hand_over(self, intent: DomainIntent, owner: ProcessId) -> DomainIntent | None:
        with self._database.writing() as connection:
            found = self._get(connection, intent.id)
            if not found.pending or found.owner != intent.owner:
                return None
            connection.execute("UPDATE intents SET owner = ? WHERE id = ?", (_text(owner), intent.id))
            kind = "abandoned" if owner == NOBODY else "claimed"
            self._tell(connection, kind, {"pid": owner.pid, "was": intent.owner.pid}, intent.plan, intent.id)
            return self._get(connection, intent.id)

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
            (self._now(), plan, intent, kind, _text(detail)),
        )

    def _select(self, statuses: Iterable[IntentStatus]) -> tuple[DomainIntent, ...]:
        names = [str(status) for status in statuses]
        marks = ", ".join("?" * len(names))
        with self._database.reading() as connection:
            rows = connection.execute(f"SELECT * FROM intents WHERE status IN ({marks}) ORDER BY id", names)  # noqa: S608
            return tuple(self._intent(row) for row in rows)

    def _get(self, connection: sqlite3.Connection, intent: int) -> DomainIntent:
        row = connection.execute("SELECT * FROM intents WHERE id = ?", (intent,)).fetchone()
        if row is None:
            raise self._database.corrupt(f"it has no intent {intent}")
        return self._intent(row)

    def _intent(self, row: sqlite3.Row) -> DomainIntent:
        return DomainIntent(
            id=row["id"],
            plan=row["plan"],
            status=self._decode(f'"{row["status"]}"', IntentStatus),
            wanted=self._decode(row["wanted"], Wanted),
            seen=None if row["seen"] is None else self._decode(row["seen"], Seen),
            owner=self._decode(row["owner"], ProcessId),
            made_at=row["made_at"],
            changed_at=row["changed_at"],
            reason=row["reason"],
        )

    def _event(self, row: sqlite3.Row) -> Event:
        detail = self._decode(row["detail"], dict)
        return Event(row["id"], row["at"], row["plan"], row["intent"], row["kind"], detail)

    def _decode(self, text: str, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(text, type=kind)
        except (msgspec.MsgspecError, TypeError, UnicodeError) as error:
            raise self._database.corrupt(error) from error


def _id(cursor: sqlite3.Cursor) -> int:
    """The id of the row that was just inserted."""
    if cursor.lastrowid is None:  # pragma: no cover - an INSERT always has one
        raise HostFailed("the journal did not number a new row")
    return cursor.lastrowid


def _text(record: object) -> str:
    return msgspec.json.encode(record).decode()
