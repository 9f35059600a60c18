"""Devices, as sysfs shows them to Dom0: PCI devices, and which of them bridges and disks lead to."""

import os
import re
from contextlib import suppress
from typing import Dict, List

from domicile.hosts.xen.dom0.files import names_in, read_text

SYS_DIR = os.environ.get("DOMICILE_SYS_DIR", "/sys")
PCI_DIR = os.environ.get("DOMICILE_PCI_DIR", "/sys/bus/pci")


class Devices:
    """What is asked again and again, and read once: it does not change, or not while a connection lasts."""

    def __init__(self) -> None:
        self.classes: Dict[str, str] = {}
        self.backing = backing()

    def pci_classes(self) -> Dict[str, str]:
        """PCI address to class code, of the devices that tell it: read once, for a device does not change it."""
        for device in pci_devices():
            if device not in self.classes:
                self.classes[device] = read_text(PCI_DIR + "/devices/" + device + "/class")
        return {device: code for device, code in self.classes.items() if code}


def pci_devices() -> List[str]:
    """The addresses of the PCI devices that Dom0 sees: all that there are."""
    with suppress(OSError):
        return sorted(os.listdir(PCI_DIR + "/devices"))
    return []


def assignable_devices() -> List[str]:
    """The devices bound to pciback, and what else is in its folder: the client knows an address."""
    with suppress(OSError):
        return sorted(os.listdir(PCI_DIR + "/drivers/pciback"))
    return []


def pci_behind(folder: str) -> str:
    """The PCI device that a device's folder in sysfs belongs to: the last on the way to it; "" for none."""
    found = re.findall(r"/([0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])(?=/|\Z)", os.path.realpath(folder))
    return str(found[-1]) if found else ""


def backing() -> Dict[str, str]:
    """The first PCI device behind each of Dom0's bridges ("xenbr0") and disks ("/dev/sda", "/dev/mapper/vg-lv").

    A bridge has ports, a bond or a VLAN has cards below it, a volume has disks ("slaves").
    """
    known: Dict[str, str] = {}

    def device_of(folder: str) -> str:
        if folder not in known:
            known[folder] = ""  # should one be below itself
            known[folder] = pci_behind(folder)
            parts = [] if known[folder] else names_in(folder + "/slaves") + names_in(folder + "/brif")
            parts += [] if known[folder] else [name[6:] for name in names_in(folder) if name.startswith("lower_")]
            for part in parts:
                known[folder] = known[folder] or device_of(os.path.dirname(folder) + "/" + part)
        return known[folder]

    found = {}
    for name in names_in(SYS_DIR + "/class/net"):
        if os.path.isdir(SYS_DIR + "/class/net/" + name + "/bridge"):
            found[name] = device_of(SYS_DIR + "/class/net/" + name)
    for name in names_in(SYS_DIR + "/class/block"):
        mapped = read_text(SYS_DIR + "/class/block/" + name + "/dm/name")
        found["/dev/mapper/" + mapped if mapped else "/dev/" + name] = device_of(SYS_DIR + "/class/block/" + name)
    return {name: device for name, device in found.items() if device}
