"""A topology as JSON: what `domicile topology --json` prints, and back again.

The keys are the command-line contract's. `distances` is null where the machine has none, `latency_ns` and
`bandwidth_gbs` are there where figures are known, a figure that nobody measured being null.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec

from domicile.errors import BadInput
from domicile.topology.check import checked
from domicile.topology.model import Cpu, Device, MemoryKind, Node, Topology

__all__ = ["Mib", "one_line", "pci_device", "topology_from_json", "topology_json"]

Mib = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]
"""An amount of memory; no node has an exbibyte."""

PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")


class _Node(msgspec.Struct):
    id: int
    memory_mib: Mib
    cpus: list[int] = []
    free_mib: Mib | None = None
    kind: MemoryKind = MemoryKind.DRAM
    memory_side_cache_mib: Mib = 0


class _Cpu(msgspec.Struct):
    id: int
    core: int | None = None
    socket: int | None = None
    node: int | None = None


class _Device(msgspec.Struct):
    address: str
    node: int | None = None
    name: str = ""


class _Topology(msgspec.Struct):
    nodes: list[_Node]
    cpus: list[_Cpu]
    distances: list[list[int]] | None = None
    devices: list[_Device] = []
    latency_ns: list[list[float | None]] | None = None
    bandwidth_gbs: list[list[float | None]] | None = None
    offline_cpus: list[int] = []
    name: str = ""
    notes: list[str] = []


def topology_json(topology: Topology) -> dict[str, Any]:
    """The topology as plain values for JSON."""
    known: dict[str, Any] = {}
    if topology.latency_ns is not None:
        known["latency_ns"] = [list(row) for row in topology.latency_ns]
    if topology.bandwidth_gbs is not None:
        known["bandwidth_gbs"] = [list(row) for row in topology.bandwidth_gbs]
    return {
        "name": topology.name,
        "source": topology.source,
        "nodes": [
            {
                "id": node.id,
                "cpus": list(topology.cpus_by_node[node.id]),
                "memory_mib": node.memory_mib,
                "free_mib": node.free_mib,
                "kind": str(node.kind),
                "memory_side_cache_mib": node.memory_side_cache_mib,
            }
            for node in topology.nodes
        ],
        "distances": None if topology.distances is None else [list(row) for row in topology.distances],
        **known,
        "cpus": [{"id": cpu.id, "core": cpu.core, "socket": cpu.socket, "node": cpu.node} for cpu in topology.cpus],
        "offline_cpus": list(topology.offline_cpus),
        "devices": [
            {"address": device.address, "node": device.node, "name": device.name} for device in topology.devices
        ],
        "notes": list(topology.notes),
    }


def one_line(error: Exception) -> str:
    """A decoder's message, bounded; it may quote what is in the input."""
    return " ".join(str(error).split())[:200]


def pci_device(source: str, address: str, node: int | None, name: str) -> Device:
    """A device; `BadInput` if its address is not of the form `dddd:bb:dd.f`."""
    if not PCI_ADDRESS.fullmatch(address.lower()):
        raise BadInput(source, f"{address[:40]!r} is no PCI address (0000:41:00.0)", "devices")
    return Device(address.lower(), node, name)


def topology_from_json(values: object, source: str) -> Topology:
    """The topology that `topology_json` gave. Raises `BadInput` where keys are missing or contradict each other."""
    try:
        told = msgspec.convert(values, _Topology)
    except msgspec.ValidationError as error:
        raise BadInput(source, one_line(error)) from error
    node_of = {cpu.id: cpu.node for cpu in told.cpus}
    for node in told.nodes:
        astray = [cpu for cpu in node.cpus if cpu not in node_of or node_of[cpu] != node.id]
        if astray:
            raise BadInput(source, f"has CPU {astray[0]}, which `cpus` does not put there", f"node {node.id}")
    return checked(
        source=source,
        nodes=[
            Node(node.id, node.memory_mib, node.free_mib, node.kind, node.memory_side_cache_mib) for node in told.nodes
        ],
        cpus=[Cpu(cpu.id, cpu.core, cpu.socket, cpu.node) for cpu in told.cpus],
        distances=told.distances,
        devices=[pci_device(source, device.address, device.node, device.name) for device in told.devices],
        latency_ns=None if told.latency_ns is None else tuple(tuple(row) for row in told.latency_ns),
        bandwidth_gbs=None if told.bandwidth_gbs is None else tuple(tuple(row) for row in told.bandwidth_gbs),
        offline_cpus=told.offline_cpus,
        name=told.name,
        notes=told.notes,
    )
