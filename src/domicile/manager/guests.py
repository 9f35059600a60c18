"""The guests of one creation: read from their configurations, and checked for what no placement can make good."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from domicile.errors import BadInput, Refused
from domicile.policies.plan import Placement
from domicile.state.model import DomainType, Snapshot
from domicile.state.request import GuestRequest
from domicile.topology.model import Topology

__all__ = ["ConfigText", "Guest", "ReadConfig", "WriteConfig", "read_guests", "require_possible"]


@dataclass(frozen=True, slots=True)
class ConfigText:
    """An `xl.cfg` text and where it is from, as the user named it."""

    source: str
    text: str

    @property
    def digest(self) -> str:
        """SHA-256 of the text."""
        return sha256(self.text.encode("utf-8", "surrogateescape")).hexdigest()


ReadConfig = Callable[[ConfigText, Snapshot], GuestRequest]
"""From a configuration to what it asks for on this host. Raises `BadInput`."""

WriteConfig = Callable[[ConfigText, Placement, GuestRequest, Topology], str]
"""From a configuration and a placement to the text that puts the guest there."""


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest to be created. `request.uuid` is set: by its configuration, or now.

    With a UUID known before the start, whoever finds the domain afterwards can tell that it is this one.
    """

    config: ConfigText
    request: GuestRequest
    uuid_is_ours: bool

    @property
    def name(self) -> str:
        """The domain's name."""
        return self.request.name

    def text(self, write: WriteConfig, placement: Placement, topology: Topology) -> str:
        """The configuration to start it from."""
        text = write(self.config, placement, self.request, topology)
        if not self.uuid_is_ours:
            return text
        separator = "" if text.endswith("\n") else "\n"
        return f'{text}{separator}uuid = "{self.request.uuid}"  # domicile: knows this domain by it\n'


def read_guests(configs: Sequence[ConfigText], snapshot: Snapshot, read: ReadConfig) -> list[Guest]:
    """All guests. Raises `BadInput` for a configuration that cannot be read, and for two of one name or UUID."""
    guests: list[Guest] = []
    for config in configs:
        request = read(config, snapshot)
        known = replace(request, uuid=request.uuid.lower() or str(uuid.uuid4()))
        guests.append(Guest(config, known, uuid_is_ours=not request.uuid))
    for index, guest in enumerate(guests):
        for other in guests[:index]:
            if guest.name == other.name:
                raise BadInput(guest.config.source, f"{guest.name} is the name of the one in {other.config.source} too")
            if guest.request.uuid == other.request.uuid:
                raise BadInput(guest.config.source, f"{guest.name} has the UUID of {other.name} too")
    return guests


def require_possible(snapshot: Snapshot, guests: Iterable[Guest], ours: Iterable[str] = ()) -> None:
    """Refuse what cannot be on this host, whatever the placement. `ours` are the tokens of our own reservations.

    Raises `BadInput` for what is not there at all (a device, a cpupool), `Refused` for what is taken.
    """
    own = set(ours)
    users: dict[str, str] = {}
    for domain in snapshot.domains:
        users |= dict.fromkeys(domain.devices, domain.name)
    for guest in guests:
        _require_identity(snapshot, guest, own)
        _require_virtualisation(snapshot, guest)
        _require_pool(snapshot, guest)
        _require_devices(snapshot, guest, users)
        users |= dict.fromkeys(guest.request.devices, guest.name)


def _require_identity(snapshot: Snapshot, guest: Guest, ours: set[str]) -> None:
    for domain in snapshot.domains:
        if domain.name == guest.name:
            raise Refused(f"{guest.name}: a domain of this name is there already; destroy it or change name=")
        if domain.uuid.lower() == guest.request.uuid:
            raise Refused(f"{guest.name}: {domain.name} has its UUID already; destroy it or change uuid=")
    for reservation in snapshot.reservations:
        if reservation.domain == guest.name and reservation.token not in ours:
            raise Refused(f"{guest.name}: is being started already, by {reservation.owner}")


def _require_virtualisation(snapshot: Snapshot, guest: Guest) -> None:
    kind = guest.request.type
    if snapshot.virt_caps and kind is not DomainType.PV and "hvm" not in snapshot.virt_caps:
        problem = (
            f"this host's CPUs cannot run {kind} guests (virt_caps: {' '.join(snapshot.virt_caps)}); pv is possible"
        )
        raise BadInput(guest.config.source, problem, "type")


def _require_pool(snapshot: Snapshot, guest: Guest) -> None:
    names = [pool.name for pool in snapshot.cpupools]
    if names and guest.request.cpupool not in names:
        problem = f"there is no cpupool {guest.request.cpupool!r}; there are {', '.join(names)}"
        raise BadInput(guest.config.source, problem, "pool")


def _require_devices(snapshot: Snapshot, guest: Guest, users: dict[str, str]) -> None:
    known = {device.address for device in snapshot.topology.devices}
    for address in guest.request.devices:
        # a host without a device table cannot tell; then Xen itself refuses
        if known and address not in known:
            raise BadInput(guest.config.source, f"this host has no device {address}", "pci")
        if address in users:
            raise Refused(f"{guest.name}: device {address} is in use by {users[address]}")
