"""The journal of a host: intents before acts, observations after, so that a crash at any point can be made good.

One SQLite file a host (write-ahead log, waits for the disk at every commit), for this user alone. `events` only ever
grows; `intents` holds what is current; every change of an intent is an event in the same transaction. `plans` groups
the intents that were decided together. What was changed on domains that run is in the same file (`changes`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

import msgspec

from domicile.errors import HostFailed, Refused
from domicile.local.process import NOBODY, ProcessId, is_alive, this_process
from domicile.manager.changes import Changes, as_text, insert
from domicile.manager.intents import DomainIntent, IntentStatus, Seen, Wanted

__all__ = ["Journal"]

NEXT = {
    IntentStatus.PLANNED: {IntentStatus.CREATING, IntentStatus.FAILED},
    IntentStatus.CREATING: {IntentStatus.ACTIVE, IntentStatus.FAILED},
    IntentStatus.ACTIVE: {IntentStatus.SUPERSEDED, IntentStatus.ACKNOWLEDGED},
}
"""What can become of an intent; the rest is final."""


class Journal(Changes):
    """An open journal, of one process and one thread."""

    def begin(self, kind: str, policy: str, wanted: Sequence[Wanted]) -> tuple[DomainIntent, ...]:
        """Write down a plan before anything of it is done. Its intents are planned, and this process's.

        Raises `Refused` where one of the domains is being started already.
        """
        owner, now = this_process(), self._now()
        with self._database.writing() as connection:
            for each in wanted:
                self._require_not_pending(connection, each.domain)
            plan = self._insert_plan(connection, kind, policy, owner, now)
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
                "UPDATE intents SET seen = ?, changed_at = ? WHERE id = ?", (as_text(seen), self._now(), intent)
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

    def pending(self) -> tuple[DomainIntent, ...]:
        """Intents of which it is not yet known what became of them."""
        return self._select([IntentStatus.PLANNED, IntentStatus.CREATING])

    def active(self) -> tuple[DomainIntent, ...]:
        """Intents that hold: these domains should be as they were wanted."""
        return self._select([IntentStatus.ACTIVE])

    def intents(self) -> tuple[DomainIntent, ...]:
        """All intents, the first one first."""
        return self._select(list(IntentStatus))

    def rewrite(self, intent: DomainIntent, wanted: Wanted, seen: Seen, why: str) -> DomainIntent:
        """Write down that a domain that runs is to be otherwise from now on, and how it was found."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE intents SET wanted = ?, seen = ?, changed_at = ? WHERE id = ? AND status = ?",
                (as_text(wanted), as_text(seen), self._now(), intent.id, IntentStatus.ACTIVE),
            )
            self._tell(connection, "rewritten", {"why": why}, intent.plan, intent.id)
            return self._get(connection, intent.id)

    def _require_not_pending(self, connection: sqlite3.Connection, domain: str) -> None:
        row = connection.execute(
            "SELECT id FROM intents WHERE domain = ? AND status IN ('planned', 'creating')", (domain,)
        ).fetchone()
        if row is not None:
            owner = self._get(connection, row["id"]).owner
            by = f"by {owner}" if is_alive(owner) else "and left undecided: look at the host and try again"
            raise Refused(f"{domain}: is being started already {by}")

    def _insert(self, connection: sqlite3.Connection, plan: int, wanted: Wanted, owner: ProcessId, now: float) -> int:
        intent = insert(
            connection,
            "intents",
            plan=plan,
            domain=wanted.domain,
            uuid=wanted.uuid,
            status=IntentStatus.PLANNED,
            wanted=as_text(wanted),
            owner=as_text(owner),
            made_at=now,
            changed_at=now,
            reason="",
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
            (status, reason, self._now(), as_text(seen) if seen else None, intent.id),
        )
        self._tell(connection, status, {"reason": reason} if reason else {}, intent.plan, intent.id)

    def _hand_over(self, intent: DomainIntent, owner: ProcessId) -> DomainIntent | None:
        with self._database.writing() as connection:
            found = self._get(connection, intent.id)
            if not found.pending or found.owner != intent.owner:
                return None
            connection.execute("UPDATE intents SET owner = ? WHERE id = ?", (as_text(owner), intent.id))
            kind = "abandoned" if owner == NOBODY else "claimed"
            self._tell(connection, kind, {"pid": owner.pid, "was": intent.owner.pid}, intent.plan, intent.id)
            return self._get(connection, intent.id)

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
