"""The NUMA nodes of a Linux `/sys`: memory, CPUs and distances.

Source: drivers/base/node.c (Linux 2.6 to 6.12): `online`, `nodeN/{cpumap,cpulist,meminfo,distance}`, links
`nodeN/cpuM`. A line of `distance` has one figure for each online node, in ascending order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from domicile.topology.bitmaps import ids_of, mask_of, parse_kernel_list
from domicile.topology.check import MAX_NODE_ID
from domicile.topology.ids import format_ids
from domicile.topology.sysfs_files import Attributes, MachineFiles

__all__ = ["NODES", "FoundNode", "assign_cpus", "lone_node", "read_distances", "read_nodes"]

NODES = "devices/system/node"
NODE_FOLDER = re.compile(r"node(0|[1-9]\d{0,8})", re.ASCII)
CPU_LINK = re.compile(r"cpu(\d{1,5})", re.ASCII)
MAX_KIB = 1 << 50
MEMINFO_LINE = re.compile(r"(?:Node\s+\d+\s+)?(MemTotal|MemFree):\s*(\d{1,18})\s*kB", re.ASCII)


@dataclass(frozen=True, slots=True)
class FoundNode:
    """An online node. `cpus` is the set that its own files list, None where they list none."""

    id: int
    memory_mib: int | None
    free_mib: int | None
    cpus: int | None


def read_nodes(sys: Attributes) -> tuple[list[FoundNode], list[str]]:
    """The online nodes, ascending; none at all where the kernel has no NUMA. `BadInput` where a file is garbled."""
    # a node has its folder while it is online, so the folders tell, and the list only confirms
    present = _present(sys)
    notes = _compare_with_list(sys, mask_of(present))
    nodes = [_read_node(sys, node) for node in present]
    unknown = [node.id for node in nodes if node.memory_mib is None]
    if unknown:
        notes.append(f"memory of nodes {format_ids(unknown)} is not told: taken as none")
    return nodes, notes


def lone_node(files: MachineFiles, cpus: int) -> tuple[FoundNode, list[str]]:
    """The one node of a machine whose kernel knows no NUMA: all CPUs, all memory."""
    total, free = _meminfo(files.proc, "meminfo") if files.proc else (None, None)
    notes = ["the kernel shows no NUMA nodes: taken as one node with all CPUs and memory"]
    if total is None:
        notes.append("memory is not told (no proc/meminfo): taken as none")
    return FoundNode(0, total, free, cpus), notes


def assign_cpus(nodes: list[FoundNode], online: int, offline: int) -> tuple[dict[int, int], list[str]]:
    """Which node each online CPU is on: CPU id to node id.

    A CPU that several nodes list goes to the first of them, as hwloc does (look_sysfsnode, hwloc/topology-linux.c).
    """
    owner: dict[int, int] = {}
    repeated = taken = 0
    for node in nodes:
        listed = node.cpus or 0
        repeated |= listed & taken & online
        owner |= dict.fromkeys(ids_of(listed & online & ~taken), node.id)
        taken |= listed
    odd = (
        (repeated, "are listed by several nodes: each is taken as the first one's"),
        (online & ~taken, "are on no node that is online"),
        (taken & ~online & ~offline, "are listed by nodes but have no files: left out"),
    )
    return owner, [f"CPUs {format_ids(ids_of(cpus))} {what}" for cpus, what in odd if cpus]


def read_distances(sys: Attributes, nodes: list[FoundNode]) -> tuple[list[list[int]] | None, list[str]]:
    """The SLIT as the kernel shows it, None where it shows none or not all of it."""
    rows = []
    for node in nodes:
        path = f"{NODES}/node{node.id}/distance"
        text = sys.text(path)
        if text is None:
            continue
        words = text.split()
        if not all(word.isascii() and word.isdigit() and len(word) < 10 for word in words):
            raise sys.tree.bad(path, f"{text[:24]!r} is no line of distances")
        rows.append([int(word) for word in words])
    if not rows:
        return None, []
    if len(rows) != len(nodes):
        return None, [f"distances dropped: only {len(rows)} of {len(nodes)} nodes have them"]
    lengths = {len(row) for row in rows}
    if lengths != {len(nodes)}:
        return None, [f"distances dropped: {max(lengths)} in a line for {len(nodes)} nodes"]
    return rows, []


def _present(sys: Attributes) -> list[int]:
    ids = []
    for name in sys.tree.names(NODES):
        match = NODE_FOLDER.fullmatch(name)
        if match and sys.tree.is_folder(f"{NODES}/{name}"):
            if int(match[1]) > MAX_NODE_ID:
                raise sys.tree.bad(f"{NODES}/{name}", f"no such node can be (0 to {MAX_NODE_ID})")
            ids.append(int(match[1]))
    return sorted(set(ids))


def _compare_with_list(sys: Attributes, present: int) -> list[str]:
    path = f"{NODES}/online"
    text = sys.text(path)
    if text is None:
        return []
    try:
        listed = parse_kernel_list(text, MAX_NODE_ID)
    except ValueError as error:
        raise sys.tree.bad(path, str(error)) from None
    notes = []
    if listed & ~present:
        shown = format_ids(ids_of(listed & ~present))
        notes.append(f"nodes {shown} are said to be online but have no files: left out")
    if present & ~listed:
        shown = format_ids(ids_of(present & ~listed))
        notes.append(f"nodes {shown} have files but are not said to be online: kept")
    return notes


def _read_node(sys: Attributes, node: int) -> FoundNode:
    folder = f"{NODES}/node{node}"
    cpus = sys.cpu_mask(f"{folder}/cpumap")
    if cpus is None:
        cpus = sys.cpu_list(f"{folder}/cpulist")
    if cpus is None:
        links = [match for match in map(CPU_LINK.fullmatch, sys.tree.names(folder)) if match]
        cpus = mask_of(int(match[1]) for match in links) if links else None
    return FoundNode(node, *_meminfo(sys, f"{folder}/meminfo"), cpus)


def _meminfo(files: Attributes, path: str) -> tuple[int | None, int | None]:
    """Total and free memory in MiB; huge pages are in both. `BadInput` if there is a file and no total in it."""
    text = files.text(path)
    if text is None:
        return None, None
    found = {match[1]: int(match[2]) for match in map(MEMINFO_LINE.match, text.splitlines()) if match}
    if "MemTotal" not in found:
        raise files.tree.bad(path, "no MemTotal in it")
    if found["MemTotal"] > MAX_KIB:
        raise files.tree.bad(path, f"{found['MemTotal']} kB of memory cannot be")
    free = found.get("MemFree")
    return _mib(found["MemTotal"]), None if free is None else free // 1024


def _mib(kib: int) -> int:
    """Whole MiB, but a memory smaller than one is not none."""
    return max(kib // 1024, 1) if kib else 0
