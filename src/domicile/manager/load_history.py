"""What was seen of a host's load, kept from one command to the next: `place` and `create` need not wait to know it.

One small SQLite file a host beside its journal, for this user alone: what `state.demand` folds all earlier looks into.
It is a cache: without it, or with one that cannot be read, demand is what domains used since they were started.
"""

from __future__ import annotations

import msgspec

from domicile.local.database import Database, Format
from domicile.local.paths import file_stem, state_folder
from domicile.state.demand import Seen, Used, demand_of, seen_now
from domicile.state.model import Snapshot

__all__ = ["known_demand"]

FORMAT = Format(
    application_id=0x444F4D4C,  # "DOML"
    version=1,
    what="record of load",
    tables=("CREATE TABLE seen (one INTEGER PRIMARY KEY CHECK (one = 1), what BLOB NOT NULL)",),
)


class _Row(msgspec.Struct, frozen=True, array_like=True):
    """A domain in the file."""

    id: int
    uuid: str
    spent_ns: int
    weight: float
    mean: float


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """`Seen` in the file."""

    taken_at: float
    idle_ns: int
    domains: tuple[_Row, ...]


def known_demand(snapshot: Snapshot) -> dict[str, float]:
    """Demand by domain name, of all that was seen of this host up to this snapshot; the snapshot is kept as well.

    Raises `HostFailed` where the file cannot be used.
    """
    database = Database(state_folder() / "load" / f"{file_stem(snapshot.host_id)}.sqlite", FORMAT)
    try:
        with database.writing() as connection:
            row = connection.execute("SELECT what FROM seen").fetchone()
            seen = seen_now(snapshot, _read(database, row["what"]) if row else None)
            connection.execute("INSERT OR REPLACE INTO seen (one, what) VALUES (1, ?)", (_written(seen),))
    finally:
        database.close()
    return demand_of(snapshot, seen)


def _read(database: Database, what: bytes) -> Seen:
    try:
        kept = msgspec.msgpack.decode(what, type=_Kept)
    except msgspec.DecodeError as error:
        raise database.corrupt(error) from error
    used = {(row.id, row.uuid): _used(row) for row in kept.domains}
    return Seen(kept.taken_at, kept.idle_ns, used)


def _used(row: _Row) -> Used:
    return Used(row.spent_ns, row.weight, row.mean)


def _written(seen: Seen) -> bytes:
    rows = tuple(_Row(number, uuid, u.spent_ns, u.weight, u.mean) for (number, uuid), u in seen.domains.items())
    return msgspec.msgpack.encode(_Kept(seen.taken_at, seen.idle_ns, rows))
