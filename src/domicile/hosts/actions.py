"""Everything that can be done to a host, as data: printed, journalled, carried out by `Host.perform`."""

from __future__ import annotations

from dataclasses import dataclass

from domicile.state.model import Reservation

__all__ = [
    "Action",
    "CreatePaused",
    "Destroy",
    "Hold",
    "Lease",
    "LetGo",
    "Manage",
    "Release",
    "Reserve",
    "SetAffinity",
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


Lease = Reserve | Release | Hold | LetGo | Manage
"""What belongs to the connection that asked for it, and ends with it."""

Action = Lease | CreatePaused | Unpause | Destroy | SetAffinity
