"""The PCI devices that an `xl.cfg` passes through: `pci = ["0000:41:00.0", "bdf=03:00.1,seize=1"]` to addresses.

Source: Xen 4.17 to 4.23, tools/libs/util/libxlu_pci.c (`xlu_pci_parse_spec_string`), docs/man/xl-pci-configuration.5.
An entry is an address, perhaps with "@" and the guest's slot, and then options, all separated by commas; or options
alone, the address being one of them. The address has 4, 2, 2 and 1 hexadecimal digits (domain, bus, device, function),
fewer where they are zeros, and the domain can be left out; "*" for the function passes all functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from domicile.errors import BadInput
from domicile.topology.model import Topology
from domicile.xlcfg.lexer import shown
from domicile.xlcfg.syntax import Config

__all__ = ["pci_devices"]

_ADDRESS = re.compile(
    r"(?:0*(?P<domain>[0-9a-f]{1,4}):)?0*(?P<bus>[0-9a-f]{1,2}):0*(?P<device>[01]?[0-9a-f])\.0*(?P<function>[0-7]|\*)",
    re.IGNORECASE,
)
_SLOT = re.compile(r"0*[01]?[0-9a-f]", re.IGNORECASE)
_OPTIONS = ("bdf", "vslot", "permissive", "msitranslate", "seize", "power_mgmt", "rdm_policy", "name")


def pci_devices(config: Config, topology: Topology) -> tuple[str, ...]:
    """The addresses (`dddd:bb:dd.f`) of the devices that a config passes through, in its order.

    Raises `BadInput` for what `xl` refuses, for a device given twice, for one that the machine does not have (where the
    topology knows of devices at all), and for one given by its assignable name, which only the host can resolve.
    """
    entries = config.items("pci")
    addresses: dict[str, None] = {}
    for entry in entries.texts(config.source, "pci") if entries else ():
        place = f"line {entry.line}"
        for address in _with_functions(_address_of(entry.text, config.source, place), topology, config.source, place):
            if address in addresses:
                raise BadInput(config.source, f"pci: {address} is there twice", place)
            addresses[address] = None
    return tuple(addresses)


def _address_of(text: str, source: str, place: str) -> str:
    """The address in one entry, normalised but for a "*"."""
    first, *options = text.split(",")
    address = None
    if "=" in first or not first:
        options = [first, *options] if first else options
    else:
        spec, at, slot = first.partition("@")
        address = _normal(spec)
        if address is None or (at and not _SLOT.fullmatch(slot)):
            problem = f"pci: {shown(first)} is no PCI address (give one like 0000:41:00.0, or 41:00.0@5 with a slot)"
            raise BadInput(source, problem, place)
    # xl reads an empty option at the very end as nothing
    if options and not options[-1]:
        options.pop()
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or name not in _OPTIONS:
            raise BadInput(source, f"pci: {shown(option)} is no option (they are {', '.join(_OPTIONS)})", place)
        if name == "name":
            problem = f"pci: {shown(option)}: give the device's address; domicile has to know which node it is on"
            raise BadInput(source, problem, place)
        if name == "bdf":
            address = _normal(value)
        if (name == "bdf" and address is None) or (name == "vslot" and not _SLOT.fullmatch(value)):
            raise BadInput(source, f"pci: {shown(option)}: no PCI {'address' if name == 'bdf' else 'slot'}", place)
    if address is None:
        raise BadInput(source, f"pci: no PCI address in {shown(text)}", place)
    return address


def _normal(address: str) -> str | None:
    """`dddd:bb:dd.f` in lower case, "*" for the function kept; None if it is no address."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        return None
    domain, bus, device = (int(found[name] or "0", 16) for name in ("domain", "bus", "device"))
    return f"{domain:04x}:{bus:02x}:{device:02x}.{found['function']}"


def _with_functions(address: str, topology: Topology, source: str, place: str) -> Iterable[str]:
    """The device, or with "*" all its functions that the machine has."""
    known = [device.address for device in topology.devices]
    slot, _, function = address.rpartition(".")
    if function == "*":
        found = [one for one in known if one.rpartition(".")[0] == slot]
        if not known:
            problem = f"pci: {address}: it is not known which functions the device has; give them one by one"
            raise BadInput(source, problem, place)
    else:
        found = [address] if not known or address in known else []
    if not found:
        raise BadInput(source, f"pci: the machine has no device {address}", place)
    return found
