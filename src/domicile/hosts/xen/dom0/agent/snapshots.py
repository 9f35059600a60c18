"""Snapshots: all that a client has to know of a host, of one moment."""

import os
import time
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Optional

from domicile.hosts.xen.dom0.agent.configurations import Configurations
from domicile.hosts.xen.dom0.agent.devices import Devices, assignable_devices, pci_devices
from domicile.hosts.xen.dom0.agent.direct import Direct
from domicile.hosts.xen.dom0.agent.holds import Holds
from domicile.hosts.xen.dom0.agent.memory_map import MemoryMap
from domicile.hosts.xen.dom0.agent.moves import Moves
from domicile.hosts.xen.dom0.agent.office import Office
from domicile.hosts.xen.dom0.agent.reservations import Reservations
from domicile.hosts.xen.dom0.agent.shelf import Shelf
from domicile.hosts.xen.dom0.agent.tables import Tables
from domicile.hosts.xen.dom0.agent.xen import Xen
from domicile.hosts.xen.dom0.agent.xl_list import LIST_ROW
from domicile.hosts.xen.dom0.files import read_text
from domicile.hosts.xen.dom0.order import saved_domains

if TYPE_CHECKING:
    from domicile.hosts.xen.dom0.agent.traffic import Traffic


class Snapshots:
    """Takes snapshots, of what all the others know."""

    def __init__(
        self,
        xen: Xen,
        shelf: Shelf,
        reservations: Reservations,
        office: Office,
        holds: Holds,
        moves: Moves,
        memory_map: MemoryMap,
    ) -> None:
        self.xen = xen
        self.shelf = shelf
        self.reservations = reservations
        self.office = office
        self.holds = holds
        self.moves = moves
        self.memory_map = memory_map
        self.tables = Tables(xen, shelf)
        self.configurations = Configurations(xen.xl)
        self.devices = Devices()
        self.traffic: Optional["Traffic"] = None

    def take(self, memory_map: str, begun: float, programs: int) -> Dict[str, Any]:
        """The host now.

        The order matters: reservations, then the domains' memory, then the nodes' free memory. Whatever happens in
        between, memory is at worst counted twice, never promised twice.
        """
        notes: List[str] = []
        with self.shelf.locked():
            reservations = self.reservations.live()
            generation = self.reservations.generation()
            holds = self.holds.lines()
            manager = self.office.manager()
            halted = self.office.halted()
        tables = self.tables.read(notes)
        matches = [match for match in map(LIST_ROW.match, tables["domains"].split("\n")) if match]
        ids = [(int(match.group("id")), match.group("uuid")) for match in matches]
        if self.xen.direct is not None:
            tables["measured"]["traffic_bytes"] = self.traffic_of(self.xen.direct, [domid for domid, _ in ids], notes)
        tables.update(
            {
                "host_id": read_text("/etc/machine-id")
                or read_text("/sys/class/dmi/id/product_uuid")
                or os.uname().nodename,
                "generation": generation,
                "reservations": reservations,
                "holds": holds,
                "moves": self.moves.moving(),
                "saved": saved_domains(),
                "manager": manager,
                "halted": halted,
                "pci_devices": pci_devices(),
                "backing": self.devices.backing,
                "pci_classes": self.devices.pci_classes(),
                "assignable_devices": assignable_devices(),
                "configs": self.configurations.of(ids, notes),
                "memory_map": self.memory_map.get(memory_map, notes),
                "notes": notes,
            }
        )
        tables.update(programs=self.xen.xl.programs_run - programs, seconds=time.monotonic() - begun)
        return tables

    def traffic_of(self, direct: Direct, domids: Iterable[int], notes: List[str]) -> Dict[int, int]:
        """Memory traffic by domain. As long as our client manages the host all are counted, as far as that can be."""
        try:
            if self.traffic is None:
                # dear to import, for ctypes, and not needed where xl does it all
                from domicile.hosts.xen.dom0.agent.traffic import Traffic, made_by  # noqa: PLC0415

                self.traffic = Traffic(direct, made_by())
            return self.traffic.read(domids, self.office.ours())
        except Exception as error:  # a snapshot without these figures is better than none
            notes.append("memory traffic is not told: %s" % error)
            return {}
