"""A machine from hwloc's XML, versions 1 to 3 of the format (`lstopo machine.xml`).

Sources: hwloc 0.9 to 3.0, doc/hwloc.doxy ("Upgrading to the hwloc 2.0 API"), include/hwloc.h, hwloc/topology-xml.c.

In version 1 a node is a container: its CPUs are below it, and a machine without nodes has its memory itself. Since
version 2 a node is a memory beside CPUs, and several nodes (DRAM, HBM, CXL) may be beside the same ones; CPUs are then
on the nearest of them, as under Linux, and of equally near ones on DRAM, and of these on the first.

CPUs and nodes that the recorder's cgroup was not allowed to use are part of the machine where the document has them;
the notes name them.
"""

from __future__ import annotations

from collections.abc import Sequence

from domicile.errors import BadInput
from domicile.topology.check import checked
from domicile.topology.cores import Placed, number_cores
from domicile.topology.hwloc_cpus import read_cpus
from domicile.topology.hwloc_devices import read_devices
from domicile.topology.hwloc_distances import read_distances, read_measured
from domicile.topology.hwloc_document import Document, parse_document
from domicile.topology.hwloc_nodes import FoundNode, assign_cpus, read_nodes
from domicile.topology.measured import Figures, figures_matrix, much_faster
from domicile.topology.model import MemoryKind, Node, Topology

__all__ = ["read_hwloc_xml"]

MAX_NAME = 80


def read_hwloc_xml(data: bytes, source: str) -> Topology:
    """The machine in a hwloc XML document.

    `source` is what the user called it. Raises `BadInput` where it is no such document, is damaged, holds several
    machines or contradicts itself; what was dropped or mended is in the topology's notes.
    """
    document = parse_document(data, source)
    machines = sum(one.type == "Machine" for one in document.root.walk())
    if machines > 1:
        raise BadInput(source, f"{machines} machines in it, not one", "object Machine")
    cpus = read_cpus(document)
    nodes, node_notes = read_nodes(document, cpus)
    ids = sorted(node.id for node in nodes)
    owner, owner_notes = assign_cpus(nodes, cpus.online)
    latency, bandwidth = read_measured(document, _by_index(document, nodes), owner)
    distances, distance_notes = read_distances(document, [node.object for node in nodes if node.object], ids)
    placed, core_notes = number_cores(
        Placed(cpu.id, cpu.socket, owner.get(cpu.id), None if cpu.core is None else id(cpu.core), cpu.core_id)
        for cpu in cpus.found
    )
    devices, device_notes = read_devices(document, cpus, ids, owner)
    kinds = _kinds(nodes, set(owner.values()), bandwidth)
    return checked(
        source=source,
        nodes=[Node(node.id, node.memory_mib, None, kinds[node.id], node.side_cache_mib) for node in nodes],
        cpus=placed,
        distances=distances,
        devices=devices,
        latency_ns=figures_matrix(ids, latency),
        bandwidth_gbs=figures_matrix(ids, bandwidth),
        offline_cpus=cpus.offline,
        name=_machine_name(document),
        notes=[*cpus.notes, *node_notes, *owner_notes, *distance_notes, *device_notes, *core_notes],
    )


def _by_index(document: Document, nodes: Sequence[FoundNode]) -> dict[int, int]:
    """Node id by the number that hwloc gives the object in this document."""
    found = {}
    for node in nodes:
        index = document.number(node.object, "gp_index") if node.object else None
        if index is not None:
            found[index] = node.id
    return found


def _kinds(nodes: Sequence[FoundNode], with_cpus: set[int], bandwidth_gbs: Figures) -> dict[int, MemoryKind]:
    """Each node's kind; where hwloc says none, DRAM, but HBM for one apart from CPUs that is much faster."""
    unsaid = [node.id for node in nodes if node.kind is None]
    ordinary = [node for node in unsaid if node in with_cpus]
    fast = much_faster(bandwidth_gbs, [node for node in unsaid if node not in with_cpus], ordinary)
    return {node.id: node.kind or (MemoryKind.HBM if node.id in fast else MemoryKind.DRAM) for node in nodes}


def _machine_name(document: Document) -> str:
    """What the firmware calls the machine, else what its administrator does; empty where neither is recorded."""
    infos = document.root.infos | document.infos
    name = infos.get("DMIProductName") or infos.get("HostName") or ""
    return "".join(letter for letter in name if letter.isprintable())[:MAX_NAME].strip()
