"""A simulated host on disk: its state in one SQLite file, read and replaced as a whole within a transaction.

What belongs to a process that has ended is gone for everybody who looks: the first to notice removes it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import msgspec

from domicile.errors import BadInput
from domicile.hosts.simulated.state import Clock, Held, Machine, Office, Owner, Promise, Resident, SimulatedState
from domicile.local.database import Database, Format
from domicile.local.process import is_alive
from domicile.state.moves import MoveState
from domicile.topology.check import checked
from domicile.topology.model import Topology

__all__ = ["Store", "Transaction"]

T = TypeVar("T")

CLOCK_TABLE = """CREATE TABLE clock (one INTEGER PRIMARY KEY CHECK (one = 1), started_at REAL NOT NULL,
               up_ns INTEGER NOT NULL, seed INTEGER NOT NULL, idle_ns TEXT NOT NULL, record BLOB NOT NULL)"""

OWNED_TABLE = "CREATE TABLE owned (kind TEXT NOT NULL, record TEXT NOT NULL)"
"""What ends with a connection, other than reservations: holds on vCPUs, the manager's office. And what is nobody's:
moves, and why nobody may have the office."""

FORMAT = Format(
    application_id=0x444F4D53,  # "DOMS"
    version=3,
    what="simulated host",
    tables=(
        """CREATE TABLE machine (one INTEGER PRIMARY KEY CHECK (one = 1), record TEXT NOT NULL,
               generation INTEGER NOT NULL, next_id INTEGER NOT NULL)""",
        "CREATE TABLE residents (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, record TEXT NOT NULL)",
        "CREATE TABLE promises (token TEXT PRIMARY KEY, record TEXT NOT NULL)",
        CLOCK_TABLE,
        OWNED_TABLE,
    ),
    # no time had passed on hosts of format 1
    upgrades={
        1: (CLOCK_TABLE, "INSERT INTO clock SELECT 1, strftime('%s', 'now'), 0, 0, '{}', x'' FROM machine"),
        2: (OWNED_TABLE,),
    },
)


class Transaction:
    """The state under a writer's lock: assign `state` to change it."""

    def __init__(self, state: SimulatedState) -> None:
        self.state = state


class Store:
    """One open file. `first` gives the host's first state if the file is new."""

    def __init__(self, path: Path, first: Callable[[], SimulatedState]) -> None:
        self._database = Database(path, FORMAT)
        self._machine: tuple[str, Machine] | None = None
        try:
            with self._database.writing() as connection:
                if connection.execute("SELECT 1 FROM machine").fetchone() is None:
                    _save_new(connection, first())
            self.read()
        except BaseException:
            self._database.close()
            raise

    @property
    def remedy(self) -> str:
        """What a person can do about a file that makes no sense."""
        return self._database.remedy

    def read(self) -> SimulatedState:
        """The state now."""
        with self._database.reading() as connection:
            state = self._load(connection)
        if state.without(_is_gone) is state:
            return state
        with self.changing() as transaction:
            return transaction.state

    @contextmanager
    def changing(self) -> Iterator[Transaction]:
        """Alone with the state; what `transaction.state` is at the end is written, unless an error leaves."""
        with self._database.writing() as connection:
            before = self._load(connection)
            transaction = Transaction(before.without(_is_gone))
            yield transaction
            _save_changes(connection, before, transaction.state)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _load(self, connection: sqlite3.Connection) -> SimulatedState:
        try:
            row = connection.execute("SELECT record, generation, next_id FROM machine").fetchone()
            if row is None:
                raise self._database.corrupt("it has no machine")
            return SimulatedState(
                machine=self._machine_of(row["record"]),
                residents=tuple(
                    msgspec.json.decode(each["record"], type=Resident)
                    for each in connection.execute("SELECT record FROM residents ORDER BY id")
                ),
                promises=tuple(
                    msgspec.json.decode(each["record"], type=Promise)
                    for each in connection.execute("SELECT record FROM promises ORDER BY rowid")
                ),
                holds=tuple(_owned(connection, "hold", Held)),
                office=next(iter(_owned(connection, "office", Office)), None),
                moves=tuple(_owned(connection, "move", MoveState)),
                halted=next(iter(_owned(connection, "halted", str)), ""),
                clock=_clock(connection),
                generation=row["generation"],
                next_id=row["next_id"],
            )
        except (msgspec.MsgspecError, BadInput, TypeError, UnicodeError) as error:
            raise self._database.corrupt(error) from error

    def _machine_of(self, record: str) -> Machine:
        """The machine never changes, and is large: it is decoded and checked once."""
        if self._machine is None or self._machine[0] != record:
            machine = msgspec.json.decode(record, type=Machine)
            self._machine = (record, replace(machine, topology=_checked_again(machine.topology)))
        return self._machine[1]


def _checked_again(topology: Topology) -> Topology:
    return checked(
        source=topology.source,
        nodes=topology.nodes,
        cpus=topology.cpus,
        distances=topology.distances,
        devices=topology.devices,
        latency_ns=topology.latency_ns,
        bandwidth_gbs=topology.bandwidth_gbs,
        offline_cpus=topology.offline_cpus,
        name=topology.name,
        notes=topology.notes,
    )


def _is_gone(owner: Owner) -> bool:
    return not is_alive(owner.process)


def _save_new(connection: sqlite3.Connection, state: SimulatedState) -> None:
    connection.execute(
        "INSERT INTO machine (one, record, generation, next_id) VALUES (1, ?, ?, ?)",
        (_text(state.machine), state.generation, state.next_id),
    )
    _insert_clock(connection, state.clock)
    none = replace(state, residents=(), promises=(), holds=(), office=None, halted="", moves=())
    _save_changes(connection, none, state)


def _clock(connection: sqlite3.Connection) -> Clock:
    row = connection.execute("SELECT started_at, up_ns, seed, idle_ns, record FROM clock").fetchone()
    if row is None:
        raise TypeError("it has no clock")
    idle_ns = msgspec.json.decode(row["idle_ns"], type=dict[int, int])
    return Clock(row["started_at"], row["up_ns"], row["seed"], idle_ns, bytes(row["record"]))


def _owned(connection: sqlite3.Connection, kind: str, record: type[T]) -> list[T]:
    rows = connection.execute("SELECT record FROM owned WHERE kind = ? ORDER BY rowid", (kind,))
    return [msgspec.json.decode(row["record"], type=record) for row in rows]


def _insert_clock(connection: sqlite3.Connection, clock: Clock) -> None:
    connection.execute(
        "INSERT INTO clock (one, started_at, up_ns, seed, idle_ns, record) VALUES (1, ?, ?, ?, ?, ?)",
        (clock.started_at, clock.up_ns, clock.seed, _text(clock.idle_ns), clock.record),
    )


def _save_changes(connection: sqlite3.Connection, before: SimulatedState, after: SimulatedState) -> None:
    """Write what differs; what is gone goes first, so that its name is free."""
    old = {resident.domain.id: resident for resident in before.residents}
    new = {resident.domain.id: resident for resident in after.residents}
    changed = [each for each in new if old.get(each) != new[each]]
    connection.executemany(
        "DELETE FROM residents WHERE id = ?", [(each,) for each in old if each not in new or each in changed]
    )
    connection.executemany(
        "INSERT INTO residents (id, name, record) VALUES (?, ?, ?)",
        [(each, new[each].domain.name, _text(new[each])) for each in changed],
    )
    old_promises = {promise.reservation.token: promise for promise in before.promises}
    new_promises = {promise.reservation.token: promise for promise in after.promises}
    connection.executemany(
        "DELETE FROM promises WHERE token = ?", [(each,) for each in old_promises if each not in new_promises]
    )
    connection.executemany(
        "INSERT INTO promises (token, record) VALUES (?, ?)",
        [(each, _text(promise)) for each, promise in new_promises.items() if each not in old_promises],
    )
    if (before.generation, before.next_id) != (after.generation, after.next_id):
        connection.execute("UPDATE machine SET generation = ?, next_id = ?", (after.generation, after.next_id))
    if _others(before) != _others(after):
        connection.execute("DELETE FROM owned")
        owned = [(kind, _text(each)) for kind, each in _others(after)]
        connection.executemany("INSERT INTO owned (kind, record) VALUES (?, ?)", owned)
    if before.clock != after.clock:
        connection.execute("DELETE FROM clock")
        _insert_clock(connection, after.clock)


def _others(state: SimulatedState) -> list[tuple[str, object]]:
    """What is in the table `owned`: kind and record of each."""
    found: list[tuple[str, object]] = [("hold", each) for each in state.holds]
    found += [("office", state.office)] if state.office else []
    found += [("move", each) for each in state.moves]
    return found + ([("halted", state.halted)] if state.halted else [])


def _text(record: object) -> str:
    return msgspec.json.encode(record).decode()
