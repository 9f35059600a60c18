"""Everything that can be done to a host, as data: printed, journalled, carried out by `Host.perform`."""

from __future__ import annotations

from dataclasses import dataclass

from domicile.state.model import Reservation
from domicile.state.moves import MoveOrder

__all__ = [
    "Action",
    "CreatePaused",
    "Destroy",
    "EndMove",
    "Halt",
    "Hold",
    "Lease",
    "LetGo",
    "Manage",
    "Release",
    "Reserve",
    "SetAffinity",
    "SetMemory",
    "StartMove",
    "Unpause",
]


@dataclass(frozen=True, slots=True)
class Reserve:
    """Promise memory to a domain, if nobody else has changed the reservations since `expected_generation`.

    Raises `ReservationConflict` otherwise. The host drops the reservation when the connection that made it is gone.
    """

    reservation: Reservation
    expected_generation: str


@dataclass(frozen=True, slots=True)
class Release:
    """End a reservation; a token that is not there (any more) is not an error."""

    token: str


@dataclass(frozen=True, slots=True)
class CreatePaused:
    """Start a domain from an `xl.cfg` text, and leave it paused.

    Until it is unpaused it belongs to the connection that created it: if that breaks, the host destroys it.
    """

    name: str
    config: str


@dataclass(frozen=True, slots=True)
class Unpause:
    """Let a domain run: from now on it lives on without us."""

    domain: str


@dataclass(frozen=True, slots=True)
class Destroy:
    """Destroy a domain; one that is not there (any more) is not an error.

    With `uuid` only the domain that has both is destroyed: a later one of the same name is left alone.
    """

    domain: str
    uuid: str = ""


@dataclass(frozen=True, slots=True)
class SetAffinity:
    """Set one vCPU's affinity; None leaves that kind as it is. Memory stays where it is."""

    domain: str
    vcpu: int
    hard: frozenset[int] | None = None
    soft: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Give one vCPU a hard affinity that ends with the connection, and gets it `before` back then, whatever ends it.

    Holding it again elsewhere keeps what it had before the first time. Raises `Refused` where another connection holds
    it or the domain is not the one of this UUID, `ReservationConflict` where its hard affinity is not `before` (or, the
    second time, not what it was given): somebody else has set it, and it is left to them.
    """

    domain: str
    uuid: str
    vcpu: int
    cpus: frozenset[int]
    before: frozenset[int]


@dataclass(frozen=True, slots=True)
class LetGo:
    """End a hold, unless somebody else has set that affinity since; one that is not there (any more) is no error."""

    uuid: str
    vcpu: int


@dataclass(frozen=True, slots=True)
class Manage:
    """Become the one that changes this host of its own accord, until the connection ends; `who` is for a person.

    "" lays it down. Raises `Refused`, naming them, while somebody else is.
    """

    who: str


@dataclass(frozen=True, slots=True)
class SetMemory:
    """Tell a domain's balloon driver to bring it to this much memory; it does so in its own time, if it can.

    Raises `Refused` where the domain is not the one of this UUID.
    """

    domain: str
    uuid: str
    target_mib: int


@dataclass(frozen=True, slots=True)
class StartMove:
    """Begin to move a domain's memory to other nodes: it goes on by itself, and snapshots tell how far it is.

    Raises `Refused` where the domain is not the one of this UUID, is being moved already, or this host cannot do it.
    """

    order: MoveOrder


@dataclass(frozen=True, slots=True)
class EndMove:
    """Take note of a move that ended; call one off that still goes on, which it then ends by itself, in its own time.

    One that is not there (any more) is no error.
    """

    token: str


@dataclass(frozen=True, slots=True)
class Halt:
    """Stop every manager of this host: all holds end now, whoever made them, and until `why` is None again `Manage` and
    `Hold` raise `Halted`, as does `SetAffinity` from the connection that manages the host. `why` is for a person.

    It belongs to the host, not to this connection, and lasts until it is lifted or the host boots.
    """

    why: str | None


Lease = Reserve | Release | Hold | LetGo | Manage
"""What belongs to the connection that asked for it, and ends with it."""

Action = Lease | CreatePaused | Unpause | Destroy | SetAffinity | SetMemory | StartMove | EndMove | Halt
