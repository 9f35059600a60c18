"""`xl info -n`: Xen's own account of the machine, live or saved.

Source: tools/xl/xl_info.c (tools/libxl/xl_cmdimpl.c before 4.9) and tools/libs/light/libxl.c of Xen 4.2 to 4.22; what
the hypervisor puts into them is in xen/common/sysctl.c. What follows from there:

- The CPU table has the online CPUs alone (an offline one has no core id and is left out), so its rows are `nr_cpus`.
- The node table has the online nodes alone, so its rows are `nr_nodes`; but every row has a distance for each id up to
  the largest, absent nodes included. Before 4.6 an absent node has a row of its own: no memory and no distance at all.
- `memsize` spans holes, so it is an upper bound: the used memory is *not* size - free.
- A distance of 255 in the SLIT (unreachable) is printed as -1.
- Xen numbers no cores and sockets on Arm: all are 0 (xen/arch/arm/include/asm/processor.h).
- The device table came with 4.6, and lists only devices whose node the platform tells.
- `free_memory` has the outstanding claims taken off already. While a domain is built, its memory is taken from the free
  list before its claim is made smaller; xl subtracts without a sign, and then prints a number just under 2^56 MiB.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from domicile.errors import BadInput
from domicile.topology.check import LOCAL_DISTANCE, UNREACHABLE, checked
from domicile.topology.ids import format_ids
from domicile.topology.model import Cpu, Device, Node, Topology
from domicile.topology.xl_tables import DeviceRow, NodeRow, XlOutput, split_xl_info

__all__ = ["XlInfo", "looks_like_xl_info", "parse_xl_info", "read_xl_info"]

MOST_THREADS_PER_CORE = 8
"""No core has more hardware threads (POWER); a larger group shares one core id because nobody told the real ones."""

NO_NODE = 255
"""NUMA_NO_NODE: what Xen before 4.6 prints for a CPU or device on no node."""

WRAPPED = re.compile(r"720575940[0-9]{8}")
"""A difference of 64-bit page counts below zero, in MiB: 2^56 = 72057594037927936 less up to 36 TiB."""

MARKS = re.compile(r"^(nr_cpus|nr_nodes|cpu_topology|numa_info|xen_version|xen_major) *:", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class XlInfo:
    """All of an `xl info -n`: the machine, and what else it says of Xen.

    A figure is None (a word empty) where the line is missing. `free_memory_mib` has the claims taken off; it is 0 where
    more is claimed than free. `virt_caps` are words such as "hvm" and "hap"; `fields` has every `key : value` line as
    it stands.
    """

    topology: Topology
    fields: Mapping[str, str]
    nr_cpus: int
    nr_nodes: int
    host: str = ""
    machine: str = ""
    max_cpu_id: int | None = None
    cores_per_socket: int | None = None
    threads_per_core: int | None = None
    total_memory_mib: int | None = None
    free_memory_mib: int | None = None
    outstanding_claims_mib: int | None = None
    free_cpus: int | None = None
    virt_caps: tuple[str, ...] = ()
    xen_version: str = ""
    scheduler: str = ""
    commandline: str = ""


def looks_like_xl_info(text: str) -> bool:
    """Whether this could be meant as the output of `xl info` (with or without `-n`)."""
    return MARKS.search(text) is not None


def read_xl_info(text: str, source: str) -> Topology:
    """The machine in the output of `xl info -n`. Raises `BadInput` as `parse_xl_info` does."""
    return parse_xl_info(text, source).topology


def parse_xl_info(text: str, source: str) -> XlInfo:
    """Read the output of `xl info -n`.

    Raises `BadInput` with the line where it is cut, garbled, or not that output; a cut one is told by its counts
    (`nr_cpus`, `nr_nodes`), so that it is never taken for a smaller machine.
    """
    output = split_xl_info(text, source)
    nr_cpus = output.required_number("nr_cpus")
    nr_nodes = output.required_number("nr_nodes")
    host = output.value("host")
    name = "" if host in ("", "(none)") else host
    notes: list[str] = list(output.noise)
    rows = _present_nodes(output, nr_nodes, notes)
    nodes = [Node(row.id, row.size_mib, row.free_mib) for row in rows]
    cpus = _cpus(output, nr_cpus, {row.id for row in rows}, notes)
    offline = _offline(output, [cpu.id for cpu in cpus])
    if output.number("total_memory") is not None:
        _note_missing_memory(nodes, output.number("total_memory") or 0, notes)
    topology = checked(
        source=source,
        nodes=nodes,
        cpus=cpus,
        distances=_distances(output, rows, notes),
        devices=_devices(output.devices, {row.id for row in rows}, notes),
        offline_cpus=offline,
        name=name,
        notes=notes,
    )
    return XlInfo(
        topology=topology,
        fields=output.fields,
        nr_cpus=nr_cpus,
        nr_nodes=nr_nodes,
        host=host,
        machine=output.value("machine"),
        max_cpu_id=output.number("max_cpu_id"),
        cores_per_socket=output.number("cores_per_socket"),
        threads_per_core=output.number("threads_per_core"),
        total_memory_mib=output.number("total_memory"),
        free_memory_mib=_free_memory_mib(output),
        outstanding_claims_mib=output.number("outstanding_claims"),
        free_cpus=output.number("free_cpus"),
        virt_caps=tuple(output.value("virt_caps").split()),
        xen_version=output.value("xen_version"),
        scheduler=output.value("xen_scheduler"),
        commandline=output.value("xen_commandline"),
    )


def _free_memory_mib(output: XlOutput) -> int | None:
    """What is free and not claimed; 0 where the difference is below zero, which xl prints as a little under 2^56."""
    if WRAPPED.fullmatch(output.value("free_memory")):
        return 0
    return output.number("free_memory")


def _present_nodes(output: XlOutput, nr_nodes: int, notes: list[str]) -> Sequence[NodeRow]:
    """The rows of nodes that are online, as many as `nr_nodes` says."""
    # Xen before 4.6 gives an absent node a row without memory and without any distance, not even to itself
    absent = [row for row in output.nodes if row.size_mib == 0 and row.distances and not any(row.distances)]
    if absent and len(output.nodes) - len(absent) == nr_nodes:
        notes.append(f"nodes left out, absent: {format_ids(row.id for row in absent)}")
    else:
        absent = []
    present = [row for row in output.nodes if row not in absent]
    if len(present) != nr_nodes:
        raise BadInput(
            output.source,
            f"has {len(present)} nodes where nr_nodes says {nr_nodes}: cut or garbled; save `xl info -n` again",
            f"line {output.nodes_line}",
        )
    for row in present:
        if row.free_mib > row.size_mib:
            raise BadInput(output.source, f"node {row.id} has more memory free than it has at all", f"line {row.line}")
    return present


def _cpus(output: XlOutput, nr_cpus: int, nodes: set[int], notes: list[str]) -> list[Cpu]:
    """The online CPUs, as many as `nr_cpus` says."""
    if len(output.cpus) != nr_cpus:
        raise BadInput(
            output.source,
            f"has {len(output.cpus)} CPUs where nr_cpus says {nr_cpus}: cut or garbled; save `xl info -n` again",
            f"line {output.cpus_line}",
        )
    largest = output.number("max_cpu_id")
    told = _told_cores(output, notes)
    cpus = []
    for row in output.cpus:
        if largest is not None and row.id > largest:
            raise BadInput(output.source, f"CPU {row.id} is above max_cpu_id, {largest}", f"line {row.line}")
        node = None if row.node == NO_NODE and NO_NODE not in nodes else row.node
        if node is not None and node not in nodes:
            raise BadInput(
                output.source, f"CPU {row.id} is on node {node}, which the node table lacks", f"line {row.line}"
            )
        cpus.append(Cpu(row.id, row.core if told else None, row.socket if told else None, node))
    astray = [cpu.id for cpu in cpus if cpu.node is None]
    if astray:
        notes.append(f"Xen knows no node for CPUs {format_ids(astray)}")
    return cpus


def _told_cores(output: XlOutput, notes: list[str]) -> bool:
    """Whether the cores and sockets in the CPU table mean anything."""
    if output.value("machine").startswith(("arm", "aarch64")) and all(
        row.core == 0 and row.socket == 0 for row in output.cpus
    ):
        notes.append("cores and sockets not known: Xen on Arm does not number them")
        return False
    siblings = Counter((row.socket, row.node, row.core) for row in output.cpus if row.core is not None)
    if siblings and max(siblings.values()) > MOST_THREADS_PER_CORE:
        notes.append(f"cores and sockets dropped: {max(siblings.values())} CPUs cannot share one core")
        return False
    return True


def _offline(output: XlOutput, online: Sequence[int]) -> set[int]:
    """The ids that Xen has room for and no CPU online: switched off, or never there; `xl` does not tell which."""
    largest = output.number("max_cpu_id")
    if largest is None:
        largest = max(online, default=-1)
    return set(range(largest + 1)) - set(online)


def _distances(output: XlOutput, rows: Sequence[NodeRow], notes: list[str]) -> list[list[int]] | None:
    """The matrix of the online nodes. Columns are ids, so that absent nodes have columns too."""
    if not rows or not any(row.distances for row in rows):
        notes.append("the node table has no distances")
        return None
    ids = [row.id for row in output.nodes]
    columns = max(ids) + 1
    odd = [row for row in rows if len(row.distances) != columns]
    if odd:
        if output.nodes_end_the_text:
            raise BadInput(
                output.source, f"cut: {len(odd[0].distances)} distances where {columns} belong", f"line {odd[0].line}"
            )
        notes.append(f"distances dropped: node {odd[0].id} has {len(odd[0].distances)} where {columns} belong")
        return None
    matrix = [[row.distances[other.id] for other in rows] for row in rows]
    if output.cut_short and matrix[-1][-1] != LOCAL_DISTANCE:
        raise BadInput(output.source, "the last line is cut; save `xl info -n` again", f"line {rows[-1].line}")
    unreachable = sum(distance is None for line in matrix for distance in line)
    if unreachable:
        notes.append(f"Xen has no distance for {unreachable} pairs of nodes: taken as {UNREACHABLE}, unreachable")
    return [[UNREACHABLE if distance is None else distance for distance in line] for line in matrix]


def _devices(rows: Sequence[DeviceRow], nodes: set[int], notes: list[str]) -> list[Device]:
    """The devices; one on a node that is not there is kept, on no node."""
    astray = [row for row in rows if row.node not in nodes]
    if astray:
        which = f"{astray[0].address} on node {astray[0].node}"
        more = f" and {len(astray) - 1} more" if len(astray) > 1 else ""
        notes.append(f"devices on nodes that are not there, taken to be on none: {which}{more}")
    return [Device(row.address, row.node if row.node in nodes else None) for row in rows]


def _note_missing_memory(nodes: Sequence[Node], total_mib: int, notes: list[str]) -> None:
    """Node sizes span holes, so they add up to more than the machine has, never to much less."""
    on_nodes = sum(node.memory_mib for node in nodes)
    if on_nodes < total_mib * 15 // 16:
        notes.append(f"the nodes' memory adds up to {on_nodes} MiB, the machine has {total_mib} MiB")
