"""The devices that Dom0's backends serve guests with: network and storage controllers that no guest has.

Functions of one card count as one device. Whether a controller is in use (a link, a disk) is not known: all count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from domicile.errors import BadInput
from domicile.state.model import Snapshot
from domicile.topology.model import Device

__all__ = ["Served", "ServedDevice", "served_devices"]

SERVING = re.compile(
    r"\b(?:network|ethernet|infiniband|storage|fibre channel|nvme|disk|scsi|sata|raid)\b", re.IGNORECASE
)
"""In a device's name: the base classes 01 and 02 (`topology.pci`), and what machine files call such devices."""


@dataclass(frozen=True, slots=True)
class ServedDevice:
    """A card: the address of its first such function, what it is, and its node."""

    address: str
    name: str
    node: int


@dataclass(frozen=True, slots=True)
class Served:
    """The cards whose node is known, the addresses of those whose node is not, and of those that are guests'.

    `asked`: somebody named the devices.
    """

    devices: tuple[ServedDevice, ...]
    nowhere: tuple[str, ...] = ()
    guests: tuple[str, ...] = ()
    kinds_known: bool = True
    asked: bool = False


def served_devices(snapshot: Snapshot, asked: Sequence[str] = ()) -> Served:
    """What Dom0 serves on this host; `asked` names the devices instead. Without any device's kind (`kinds_known`)
    nothing can be said to be served. Raises `BadInput` for an address that is not there."""
    devices = snapshot.topology.devices
    if asked:
        by_address = {device.address: device for device in devices}
        strange = next((address for address in asked if address not in by_address), None)
        if strange is not None:
            known = ", ".join(by_address) or "none"
            raise BadInput("--device", f"{strange} is not there; devices of this host: {known}")
        return _served([by_address[address] for address in asked], (), asked=True)
    owned = set(snapshot.assignable_devices) | _addresses(domain.devices for domain in snapshot.domains if domain.id)
    serving = [device for device in devices if SERVING.search(device.name)]
    found = _served(
        [device for device in serving if device.address not in owned],
        tuple(device.address for device in serving if device.address in owned),
    )
    return replace(found, kinds_known=not devices or any(device.name for device in devices))


def _served(devices: Iterable[Device], guests: tuple[str, ...], *, asked: bool = False) -> Served:
    """The devices by card."""
    cards: dict[tuple[str, int], ServedDevice] = {}
    nowhere: dict[str, str] = {}
    for device in devices:
        card = device.address.partition(".")[0]
        if device.node is None:
            nowhere.setdefault(card, device.address)
        else:
            cards.setdefault((card, device.node), ServedDevice(device.address, device.name, device.node))
    return Served(tuple(cards.values()), tuple(nowhere.values()), guests, asked=asked)


def _addresses(sets: Iterable[tuple[str, ...]]) -> set[str]:
    return {address for addresses in sets for address in addresses}
