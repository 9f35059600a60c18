"""A machine file: the emulated NUMA machine that a lab boots, in TOML.

    description = "four nodes"
    distances = [[10, 16], [16, 10]]      # SLIT; left out: the firmware gives none

    [[node]]
    cpus = 2
    memory_mib = 2048
    proximity_domain = 1                  # its number in the firmware's tables; left out: its place here

    [[device]]                            # a PCI device on a node
    kind = "network"
    node = 1

    [xen]
    command_line = "sched=credit"         # added to the lab's own

    [dom0]
    memory_mib = 768
    vcpus = 4                             # left out: one for each CPU
    command_line = "quiet"

Limits: ACPI 6.5, 5.2.17 (SLIT: 10 is local, 255 unreachable); Xen 4.17 `CONFIG_NR_NUMA_NODES` 64.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

import msgspec

from domicile.errors import BadInput
from domicile.lab.layout import MemoryRange, memory_ranges
from domicile.toml_file import TomlKind, decode_toml
from domicile.topology.check import slit_problem

__all__ = [
    "DEFAULT_PRESET",
    "DeviceKind",
    "Dom0Settings",
    "Machine",
    "MachineDevice",
    "MachineNode",
    "XenSettings",
    "available_memory_mib",
    "load_machine",
    "preset_names",
    "read_machine",
]

DEFAULT_PRESET = "4node"
MAX_NODES = 64
MAX_CPUS = 128
MAX_DEVICES = 32
MAX_DEVICES_PER_NODE = 16
MAX_MEMORY_MIB = 1 << 20
KIND = TomlKind("machine", "domicile.lab", "presets")
MEMORY_STEP_MIB = 128
"""A Linux memory section: a node's memory starts and ends on one."""
MIN_NODE0_MIB = 512
"""Xen and Dom0's kernel are loaded there."""
MIN_DOM0_MIB = 384
XEN_OWN_MIB = 192
"""What Xen takes for itself (heap, frame table, console ring) beside Dom0, for up to 64 GiB."""


class DeviceKind(StrEnum):
    """What can be plugged in: devices that QEMU can save and load with the machine's state."""

    NETWORK = "network"
    """virtio-net, without a cable."""
    BLOCK = "block"
    """virtio-blk with an empty disk of 1 GiB that forgets."""
    RNG = "rng"
    """virtio-rng."""
    SERIAL = "serial"
    """virtio-serial."""
    SCSI = "scsi"
    """virtio-scsi without disks."""
    E1000E = "e1000e"
    """Intel 82574 network card, without a cable."""


class MachineNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A NUMA node. Its CPUs are numbered on from the node before, and so Xen numbers the nodes.

    Memory lies in the order of proximity domains.
    """

    cpus: int
    memory_mib: int
    proximity_domain: int | None = None


class MachineDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A PCI device on a node."""

    kind: DeviceKind
    node: int


class XenSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is added to Xen's command line."""

    command_line: str = ""


class Dom0Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Dom0: its memory, its vCPUs (None: one for each CPU), what is added to its kernel's command line."""

    memory_mib: int = 768
    vcpus: int | None = None
    command_line: str = ""


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"nodes": "node", "devices": "device"}):
    """An emulated NUMA machine and how Xen boots on it. `distances` is nodes x nodes, None for no SLIT."""

    nodes: tuple[MachineNode, ...]
    devices: tuple[MachineDevice, ...] = ()
    distances: tuple[tuple[int, ...], ...] | None = None
    xen: XenSettings = XenSettings()
    dom0: Dom0Settings = Dom0Settings()
    description: str = ""

    @property
    def cpus(self) -> int:
        """All CPUs."""
        return sum(node.cpus for node in self.nodes)

    @property
    def memory_mib(self) -> int:
        """All memory."""
        return sum(node.memory_mib for node in self.nodes)

    def cpus_of(self, node: int) -> range:
        """The ids of a node's CPUs."""
        first = sum(earlier.cpus for earlier in self.nodes[:node])
        return range(first, first + self.nodes[node].cpus)

    @property
    def proximity_domains(self) -> tuple[int, ...]:
        """Each node's."""
        return tuple(
            index if node.proximity_domain is None else node.proximity_domain for index, node in enumerate(self.nodes)
        )

    @property
    def by_proximity_domain(self) -> tuple[int, ...]:
        """The nodes in the order of their proximity domains."""
        return tuple(sorted(range(len(self.nodes)), key=self.proximity_domains.__getitem__))

    @property
    def memory_ranges(self) -> tuple[MemoryRange, ...]:
        """Where in the machine's physical memory each node is."""
        order = self.by_proximity_domain
        ranges = memory_ranges([self.nodes[node].memory_mib for node in order])
        return tuple(replace(part, node=order[part.node]) for part in ranges)

    @property
    def digest(self) -> str:
        """A hash of everything that the machine's state depends on."""
        bare = msgspec.structs.replace(self, description="")
        return hashlib.sha256(msgspec.json.encode(bare, order="deterministic")).hexdigest()[:16]


def preset_names() -> list[str]:
    """The machines that come with domicile."""
    return KIND.names()


def load_machine(named: str) -> Machine:
    """The machine of a preset's name or of a file. Raises `BadInput` if there is no such or it cannot be meant."""
    return read_machine(KIND.read(named), named)


def read_machine(text: bytes, source: str) -> Machine:
    """Read and check a machine file. `source` is its name for messages. Raises `BadInput` with the key at fault."""
    machine = decode_toml(text, source, Machine)
    _check_nodes(machine, source)
    _check_dom0(machine, source)
    _check_devices(machine, source)
    for place, line in (
        ("xen.command_line", machine.xen.command_line),
        ("dom0.command_line", machine.dom0.command_line),
    ):
        _check_command_line(line, place, source)
    return machine


def _check_nodes(machine: Machine, source: str) -> None:
    if not 1 <= len(machine.nodes) <= MAX_NODES:
        raise BadInput(source, f"{len(machine.nodes)} nodes; 1 to {MAX_NODES} can be", "node")
    if sorted(machine.proximity_domains) != list(range(len(machine.nodes))):
        given = ", ".join(map(str, machine.proximity_domains))
        problem = f"{given}; the nodes together have 0 to {len(machine.nodes) - 1}, each once (QEMU takes no others)"
        raise BadInput(source, problem, "node.proximity_domain")
    for index, node in enumerate(machine.nodes):
        place = f"node[{index}]"
        if not 1 <= node.cpus <= MAX_CPUS:
            raise BadInput(source, f"{node.cpus}; a node has 1 to {MAX_CPUS} CPUs", f"{place}.cpus")
        smallest = MIN_NODE0_MIB if index == machine.by_proximity_domain[0] else MEMORY_STEP_MIB
        if node.memory_mib < smallest or node.memory_mib % MEMORY_STEP_MIB:
            problem = f"{node.memory_mib}; at least {smallest}, in steps of {MEMORY_STEP_MIB}"
            raise BadInput(source, problem, f"{place}.memory_mib")
    if machine.cpus > MAX_CPUS:
        raise BadInput(source, f"{machine.cpus} CPUs in all; the emulated machine has up to {MAX_CPUS}", "node")
    if machine.memory_mib > MAX_MEMORY_MIB:
        raise BadInput(source, f"{machine.memory_mib} MiB in all; up to {MAX_MEMORY_MIB} can be", "node")
    if machine.distances is not None:
        bogus = slit_problem(machine.distances, len(machine.nodes))
        if bogus:
            raise BadInput(source, f"{bogus}; a row for each node, 10 for itself, 11 to 255 to others", "distances")


def _check_dom0(machine: Machine, source: str) -> None:
    dom0 = machine.dom0
    if dom0.memory_mib < MIN_DOM0_MIB:
        raise BadInput(source, f"{dom0.memory_mib}; Dom0 needs {MIN_DOM0_MIB} MiB", "dom0.memory_mib")
    if dom0.memory_mib + XEN_OWN_MIB > machine.memory_mib:
        problem = (
            f"{dom0.memory_mib}; with {XEN_OWN_MIB} for Xen that is more than the machine's {machine.memory_mib} MiB: "
            f"give the nodes more memory or Dom0 less"
        )
        raise BadInput(source, problem, "dom0.memory_mib")
    if dom0.vcpus is not None and not 1 <= dom0.vcpus <= machine.cpus:
        raise BadInput(source, f"{dom0.vcpus}; 1 to {machine.cpus} (the machine's CPUs)", "dom0.vcpus")


def _check_devices(machine: Machine, source: str) -> None:
    if len(machine.devices) > MAX_DEVICES:
        raise BadInput(source, f"{len(machine.devices)} devices; up to {MAX_DEVICES} can be", "device")
    on_node = [0] * len(machine.nodes)
    for index, device in enumerate(machine.devices):
        if not 0 <= device.node < len(machine.nodes):
            last = len(machine.nodes) - 1
            raise BadInput(source, f"{device.node}; the machine has nodes 0 to {last}", f"device[{index}].node")
        on_node[device.node] += 1
        if on_node[device.node] > MAX_DEVICES_PER_NODE:
            problem = f"more than {MAX_DEVICES_PER_NODE} devices on node {device.node}"
            raise BadInput(source, problem, f"device[{index}].node")


def _check_command_line(line: str, place: str, source: str) -> None:
    if not line.isprintable():
        raise BadInput(source, "has characters that no command line can have", place)
    if len(line) > 512:
        raise BadInput(source, f"{len(line)} characters; up to 512 can be", place)


def available_memory_mib() -> int | None:
    """What this computer could give to programs now, None where it does not tell (`/proc/meminfo`, MemAvailable)."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) >> 10 for line in lines if line.startswith("MemAvailable:")), None)
