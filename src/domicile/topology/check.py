"""The gate that every reader's result passes: what contradicts itself is refused, what is bogus is dropped and noted.

A SLIT is taken when it is one by ACPI's rules as Linux (`slit_valid`, drivers/acpi/numa/srat.c) and Xen
(`acpi_numa_slit_init`, xen/arch/x86/srat.c) apply them: 10 on the diagonal, more than 10 elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from domicile.errors import BadInput
from domicile.topology.model import Cpu, Device, MeasuredMatrix, Node, Topology

__all__ = ["MAX_CPU_ID", "MAX_NODE_ID", "checked", "slit_problem"]

MAX_NODE_ID = 4095
MAX_CPU_ID = 65535
LOCAL_DISTANCE = 10
UNREACHABLE = 255


def slit_problem(matrix: Sequence[Sequence[int]], nodes: int) -> str | None:
    """What makes a matrix no SLIT for this many nodes, None if it is one."""
    if len(matrix) != nodes or any(len(row) != nodes for row in matrix):
        return f"not {nodes} x {nodes}"
    for i, row in enumerate(matrix):
        for j, distance in enumerate(row):
            if not 0 < distance <= UNREACHABLE:
                return f"{distance} is no distance"
            if i == j and distance != LOCAL_DISTANCE:
                return f"a node is {distance} from itself, not {LOCAL_DISTANCE}"
            if i != j and distance <= LOCAL_DISTANCE:
                return f"another node is {distance} away, as near as the node itself"
    return None


def checked(
    *,
    source: str,
    nodes: Iterable[Node],
    cpus: Iterable[Cpu],
    distances: Sequence[Sequence[int]] | None = None,
    devices: Iterable[Device] = (),
    latency_ns: MeasuredMatrix | None = None,
    bandwidth_gbs: MeasuredMatrix | None = None,
    offline_cpus: Iterable[int] = (),
    name: str = "",
    notes: Iterable[str] = (),
) -> Topology:
    """A `Topology` whose parts fit together. Rows of the matrices follow the nodes in ascending order of id.

    Raises `BadInput` (source as the user named it) where ids repeat, a CPU or device is on a node that is not there,
    there is no node or no CPU, or a figure is out of range. A bogus SLIT is dropped with a note.
    """
    node_list = sorted(nodes, key=lambda node: node.id)
    cpu_list = sorted(cpus, key=lambda cpu: cpu.id)
    device_list = sorted(devices, key=lambda device: device.address)
    offline = sorted(set(offline_cpus) - {cpu.id for cpu in cpu_list})
    all_notes = list(notes)

    if not node_list:
        raise BadInput(source, "no NUMA nodes in it")
    if not cpu_list:
        raise BadInput(source, "no CPUs in it")
    _require_unique(source, "node", [node.id for node in node_list], MAX_NODE_ID)
    _require_unique(source, "CPU", [cpu.id for cpu in cpu_list], MAX_CPU_ID)
    _require_consistent(source, node_list, cpu_list, device_list)
    for what, matrix in (("latency", latency_ns), ("bandwidth", bandwidth_gbs)):
        _require_measured(source, what, matrix, len(node_list))

    slit = None
    if distances is not None:
        problem = slit_problem(distances, len(node_list))
        if problem:
            all_notes.append(f"distances dropped: {problem}")
        else:
            slit = tuple(tuple(row) for row in distances)
    return Topology(
        nodes=tuple(node_list),
        cpus=tuple(cpu_list),
        distances=slit,
        devices=tuple(device_list),
        latency_ns=latency_ns,
        bandwidth_gbs=bandwidth_gbs,
        offline_cpus=tuple(offline),
        name=name,
        source=source,
        notes=tuple(all_notes),
    )


def _require_consistent(source: str, nodes: Sequence[Node], cpus: Sequence[Cpu], devices: Sequence[Device]) -> None:
    """CPUs and devices are on nodes that are there, and no memory is negative."""
    known = {node.id for node in nodes}
    for cpu in cpus:
        if cpu.node is not None and cpu.node not in known:
            raise BadInput(source, f"is on node {cpu.node}, which is not there", f"CPU {cpu.id}")
    for device in devices:
        if device.node is not None and device.node not in known:
            raise BadInput(source, f"is on node {device.node}, which is not there", f"device {device.address}")
    for node in nodes:
        if node.memory_mib < 0 or (node.free_mib is not None and node.free_mib < 0):
            raise BadInput(source, "has negative memory", f"node {node.id}")


def _require_unique(source: str, what: str, ids: Sequence[int], largest: int) -> None:
    """Ids in ascending order must differ and lie in 0..largest."""
    for earlier, later in pairwise(ids):
        if earlier == later:
            raise BadInput(source, "is there twice", f"{what} {later}")
    for outer in (ids[0], ids[-1]):
        if not 0 <= outer <= largest:
            raise BadInput(source, f"no such id can be (0 to {largest})", f"{what} {outer}")


def _require_measured(source: str, what: str, matrix: MeasuredMatrix | None, nodes: int) -> None:
    """A measured matrix is nodes x nodes of positive figures or None."""
    if matrix is None:
        return
    if len(matrix) != nodes or any(len(row) != nodes for row in matrix):
        raise BadInput(source, f"not {nodes} x {nodes}", f"{what} matrix")
    for row in matrix:
        for figure in row:
            if figure is not None and not 0 < figure < float("inf"):
                raise BadInput(source, f"{figure} cannot be", f"{what} matrix")
