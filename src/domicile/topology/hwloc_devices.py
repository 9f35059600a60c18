"""The PCI devices of hwloc's tree: PCIDev objects, below bridges, below the object whose CPUs are local to them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace

from domicile.topology.bitmaps import ids_of
from domicile.topology.hwloc_cpus import Cpus
from domicile.topology.hwloc_document import Document, Object
from domicile.topology.hwloc_nodes import NODE_TYPES
from domicile.topology.model import Device
from domicile.topology.pci import device_name

__all__ = ["read_devices"]

IO_TYPES = ("Bridge", "PCIDev", "OSDev", "Misc")
ADDRESS = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])")
PCI_TYPE = re.compile(r"([0-9a-f]{4}) \[([0-9a-f]{4}):([0-9a-f]{4})\]")
MAX_NAME = 120


def read_devices(
    document: Document, cpus: Cpus, nodes: Collection[int], owner: Mapping[int, int]
) -> tuple[list[Device], list[str]]:
    """All PCI devices; the node is None where the CPUs that are local to a device are on several.

    Of two devices with one address (hwloc's own collection has such a file) the first stays.
    """
    devices: dict[str, Device] = {}
    repeated: set[str] = set()
    places: dict[int, int | None] = {}
    for one in document.root.walk():
        if one.type != "PCIDev":
            continue
        address = one.attributes.get("pci_busid", "").lower()
        if not ADDRESS.fullmatch(address):
            raise document.bad(one, "no PCI address in pci_busid")
        place = next((above for above in one.ancestors() if above.type not in IO_TYPES), document.root)
        if id(place) not in places:
            places[id(place)] = _node_of(document, place, cpus, nodes, owner)
        device = Device(address, places[id(place)], _name(one))
        if address in devices:
            repeated.add(address)
            same = devices[address].node == device.node
            device = devices[address] if same else replace(devices[address], node=None)
        devices[address] = device
    shown = ", ".join(sorted(repeated)[:3])
    notes = [f"{len(repeated)} PCI addresses are there twice ({shown}): the first device is kept"] if repeated else []
    return list(devices.values()), notes


def _node_of(
    document: Document, place: Object, cpus: Cpus, nodes: Collection[int], owner: Mapping[int, int]
) -> int | None:
    """The one node that is local to an object, None if it is not one."""
    if document.major == 1:
        for one in (place, *place.ancestors()):
            if one.type in NODE_TYPES:
                return document.number(one, "os_index")
    local = {owner[cpu] for cpu in ids_of(cpus.below(place)) if cpu in owner}
    if not local:
        nodeset = document.bitmap(place, "nodeset") or 0
        local = {node for node in nodes if nodeset >> node & 1}
    return local.pop() if len(local) == 1 else None


def _name(one: Object) -> str:
    """What the device is called, as far as the recorder's list of PCI names went."""
    words = [one.infos.get("PCIVendor", ""), one.infos.get("PCIDevice", "")]
    name = " ".join(word for word in words if word) or one.attributes.get("name", "")
    if not name:
        numbers = PCI_TYPE.match(one.attributes.get("pci_type", ""))
        name = device_name(*numbers.groups()) if numbers else ""
    return "".join(letter for letter in name if letter.isprintable())[:MAX_NAME].strip()
