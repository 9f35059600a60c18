"""The PCI devices of a Linux `/sys` and their nodes.

Source: Documentation/ABI/testing/sysfs-bus-pci (Linux 2.6 to 6.12): `bus/pci/devices/ADDRESS/{numa_node,local_cpus,
local_cpulist,vendor,device,class}`. A domain has more than four digits where software made it up (Intel VMD).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from domicile.topology.bitmaps import ids_of
from domicile.topology.ids import format_ids
from domicile.topology.model import Device
from domicile.topology.pci import device_name
from domicile.topology.sysfs_files import Attributes

__all__ = ["read_devices"]

DEVICES = "bus/pci/devices"
ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


def read_devices(sys: Attributes, nodes: Collection[int], owner: Mapping[int, int]) -> tuple[list[Device], list[str]]:
    """All PCI devices. A device whose node the platform does not say is on the node of its local CPUs, if that is one.

    `owner` gives each online CPU's node.
    """
    devices = []
    strange = set()
    for name in sys.tree.names(DEVICES):
        if not ADDRESS.fullmatch(name):
            continue
        folder = f"{DEVICES}/{name}"
        said = sys.integer(f"{folder}/numa_node")
        node = said if said in nodes else _local_node(sys, folder, owner)
        if said is not None and said >= 0 and said not in nodes:
            strange.add(said)
        devices.append(Device(name, node, _name(sys, folder)))
    notes = [f"devices are said to be on nodes {format_ids(strange)}, which are not online"] if strange else []
    return devices, notes


def _local_node(sys: Attributes, folder: str, owner: Mapping[int, int]) -> int | None:
    cpus = sys.cpu_mask(f"{folder}/local_cpus")
    if cpus is None:
        cpus = sys.cpu_list(f"{folder}/local_cpulist")
    if not cpus:
        return None
    local = {owner.get(cpu) for cpu in ids_of(cpus)} - {None}
    return local.pop() if len(local) == 1 else None


def _name(sys: Attributes, folder: str) -> str:
    return device_name(*(sys.text(f"{folder}/{field}") for field in ("class", "vendor", "device")))
