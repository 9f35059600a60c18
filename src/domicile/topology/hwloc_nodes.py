"""The NUMANodes of hwloc's tree, and which CPUs are on which."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from domicile.topology.bitmaps import ids_of
from domicile.topology.check import MAX_NODE_ID
from domicile.topology.hwloc_cpus import Cpus
from domicile.topology.hwloc_document import Document, Object
from domicile.topology.hwloc_memory import memory_kind, memory_mib, side_cache_mib
from domicile.topology.ids import format_ids
from domicile.topology.model import MemoryKind

__all__ = ["FoundNode", "assign_cpus", "read_nodes"]

NODE_TYPES = ("NUMANode", "Node")
MEMORY_TYPES = (*NODE_TYPES, "MemCache")
# of memories beside the same CPUs, which one Linux has the CPUs on
PREFERENCE = (None, MemoryKind.DRAM, MemoryKind.HBM, MemoryKind.OTHER, MemoryKind.CXL, MemoryKind.PERSISTENT)

NO_MEMORY = "no sizes of memory in it: taken as none"


@dataclass(frozen=True, slots=True)
class FoundNode:
    """A node: `beside` is the set of online CPUs that it is local to; `kind` is None where hwloc does not say."""

    id: int
    object: Object | None
    memory_mib: int
    kind: MemoryKind | None
    side_cache_mib: int
    beside: int


def read_nodes(document: Document, cpus: Cpus) -> tuple[list[FoundNode], list[str]]:
    """The nodes in the document's order. A machine without any is one node with all CPUs and memory."""
    objects = [one for one in document.root.walk() if one.type in NODE_TYPES]
    if not objects:
        total = sum(memory_mib(document, one) for one in document.root.walk())
        lone = FoundNode(0, None, total, None, 0, cpus.online)
        notes = ["no NUMA nodes in it: taken as one node with all CPUs and memory"]
        return [lone], notes if total else [*notes, NO_MEMORY]
    nodes = [_read_node(document, one, cpus) for one in objects]
    notes = [] if any(node.memory_mib for node in nodes) else [NO_MEMORY]
    complete = document.bitmap(document.root, "complete_nodeset")
    allowed = document.bitmap(document.root, "allowed_nodeset")
    known = {node.id for node in nodes}
    if complete is not None and complete > 0:
        missing = [node for node in ids_of(complete) if node not in known]
        if missing:
            notes.append(f"who recorded this was not allowed to use nodes {format_ids(missing)}: they are not in it")
    if allowed is not None:
        hidden = [node.id for node in nodes if not allowed >> node.id & 1 and not node.memory_mib]
        if hidden:
            notes.append(f"who recorded this was not allowed to see the memory of nodes {format_ids(hidden)}")
    return nodes, notes


def assign_cpus(nodes: Sequence[FoundNode], online: int) -> tuple[dict[int, int], list[str]]:
    """Which node each online CPU is on: of those that it is local to, the nearest, then DRAM, then the first."""
    owner: dict[int, int] = {}
    taken = 0
    rivals: defaultdict[int, list[int]] = defaultdict(list)
    for node in sorted(nodes, key=lambda node: (node.beside.bit_count(), PREFERENCE.index(node.kind), node.id)):
        if node.beside and node.memory_mib and node.kind in (None, MemoryKind.DRAM):
            rivals[node.beside].append(node.id)
        owner |= dict.fromkeys(ids_of(node.beside & ~taken), node.id)
        taken |= node.beside
    notes = [
        f"nodes {format_ids(ids)} are beside the same CPUs and of no different kind: the CPUs are taken as the first's"
        for ids in rivals.values()
        if len(ids) > 1
    ]
    if online & ~taken:
        notes.append(f"CPUs {format_ids(ids_of(online & ~taken))} are on no node")
    return owner, notes


def _read_node(document: Document, one: Object, cpus: Cpus) -> FoundNode:
    node = document.number(one, "os_index")
    if node is None or not 0 <= node <= MAX_NODE_ID:
        raise document.bad(one, f"needs an os_index from 0 to {MAX_NODE_ID}")
    nodeset = document.bitmap(one, "nodeset") if document.major > 1 else None
    if nodeset is not None and nodeset != 1 << node:
        raise document.bad(one, "its nodeset is not its own index")
    return FoundNode(
        node,
        one,
        memory_mib(document, one),
        memory_kind(one),
        side_cache_mib(document, one),
        _beside(document, one, cpus),
    )


def _beside(document: Document, node: Object, cpus: Cpus) -> int:
    """The CPUs that a node is local to: those below it in version 1, below what it hangs on since version 2."""
    place = node
    if document.major > 1:
        place = next((one for one in node.ancestors() if one.type not in MEMORY_TYPES), node)
    below = cpus.below(place)
    told = document.bitmap(node, "cpuset")
    if told is None:
        return below
    if told & cpus.online != below:
        raise document.bad(node, "its cpuset is not that of the CPUs which it is beside")
    return below
