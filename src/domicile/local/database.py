"""A small SQLite file that several processes use at once: WAL, one writer at a time, for this user's eyes only.

Its header says whose it is (`application_id`) and in which format (`user_version`), so that a file of another program
or of a later domicile is told apart from a damaged one (sqlite.org/pragma.html).
"""

from __future__ import annotations

import os
import shlex
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from domicile.errors import HostFailed
from domicile.local.paths import private_folder

__all__ = ["Database", "Format"]

BUSY_S = 60.0
_ATTEMPTS_TO_MAKE = 200


@dataclass(frozen=True, slots=True)
class Format:
    """What is in a file. `what` names it to a person, `tables` are its CREATE statements, one a string.

    `upgrades`: an older version to the statements that make the next one of it; a version that is not there is refused.
    `durable` waits for the disk at every commit: a record written before an act is there after a power cut.
    """

    application_id: int
    version: int
    what: str
    tables: tuple[str, ...]
    durable: bool = False
    upgrades: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


class Database:
    """An open file. Every error of SQLite becomes a `HostFailed` that names the file and what to do.

    One connection, for one process and one thread: open it again after a fork.
    """

    def __init__(self, path: Path, kind: Format) -> None:
        self.path = path
        self.kind = kind
        private_folder(path.parent)
        with self._explained():
            self._connection = self._connect()
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    @property
    def remedy(self) -> str:
        """What a person can do about a file that cannot be used."""
        files = [str(self.path), f"{self.path}-wal", f"{self.path}-shm"]
        return f"remove it with: {shlex.join(['rm', '-f', *files])}"

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is alone in writing from its start; leaving it with an error changes nothing."""
        with self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A transaction that sees one moment."""
        with self._explained():
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file; again is not an error."""
        self._connection.close()

    def corrupt(self, why: object) -> HostFailed:
        """The error for a file whose content makes no sense."""
        return HostFailed(f"{self.path}: is no usable {self.kind.what} ({why}); {self.remedy}")

    def _connect(self) -> sqlite3.Connection:
        # made here and not by SQLite, so that it is nobody else's from its first moment; -wal and -shm follow it
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None)
        connection.row_factory = sqlite3.Row
        return connection

    def _prepare(self) -> None:
        """Set the connection up and make the tables in a new file; several processes may be doing so at once."""
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._connection.execute(f"PRAGMA synchronous = {'FULL' if self.kind.durable else 'NORMAL'}")
        if self._header() == (self.kind.application_id, self.kind.version):
            return
        self._use_wal()
        with self.writing() as connection:
            if self._header() == (self.kind.application_id, self.kind.version):
                return
            for statement in self._upgrade() or self._new():
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {self.kind.application_id}")
            connection.execute(f"PRAGMA user_version = {self.kind.version}")

    def _use_wal(self) -> None:
        # the switch to WAL does not wait for a lock as other statements do (sqlite.org/wal.html), so ask again
        for attempt in range(_ATTEMPTS_TO_MAKE):
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or attempt == _ATTEMPTS_TO_MAKE - 1:
                    raise
                with suppress(sqlite3.OperationalError), self.writing():
                    pass
            else:
                return

    def _upgrade(self) -> list[str]:
        """The statements that make an older file one of this version; none where it is not ours or too old."""
        application, version = self._header()
        if application != self.kind.application_id or version >= self.kind.version:
            return []
        steps = range(version, self.kind.version)
        if any(step not in self.kind.upgrades for step in steps):
            raise HostFailed(f"{self.path}: was written by an older domicile (format {version}); {self.remedy}")
        return [statement for step in steps for statement in self.kind.upgrades[step]]

    def _new(self) -> tuple[str, ...]:
        """The statements that make an empty file ours; only such a one becomes so."""
        application, version = self._header()
        tables = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application == self.kind.application_id and version > self.kind.version:
            raise HostFailed(
                f"{self.path}: was written by a newer domicile (format {version}, this one knows "
                f"{self.kind.version}); update domicile, or {self.remedy}"
            )
        if (application, version, tables) != (0, 0, 0):
            raise self.corrupt("it belongs to another program or an unknown version")
        return self.kind.tables

    def _header(self) -> tuple[int, int]:
        application = self._connection.execute("PRAGMA application_id").fetchone()[0]
        return application, self._connection.execute("PRAGMA user_version").fetchone()[0]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                text = f"{self.path}: another process has held it for {BUSY_S:.0f} s; try again when it has ended"
                raise HostFailed(text) from error
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_ERROR:
                raise self.corrupt(error) from error
            raise HostFailed(f"{self.path}: {error}; see to the disk and the file's permissions") from error
        except sqlite3.DatabaseError as error:
            raise self.corrupt(error) from error
        except OSError as error:
            raise HostFailed(f"{self.path}: {error.strerror}; see to the disk and the file's permissions") from error
