"""The memory of a NUMANode in hwloc's XML: how much, of what kind, behind what cache.

Sources: hwloc 1.11 (`local_memory`, in which huge pages are; info `Type`), 2.0 to 3.0 (subtypes:
`hwloc_memory_tier_kinds_snprintf`, hwloc/memattrs.c; infos `DAXType`, `DAXParent`, `CXLDevice`: doc/hwloc.doxy, "Object
attributes"; `MemCache` objects).
"""

from __future__ import annotations

from domicile.topology.hwloc_document import Document, Object
from domicile.topology.model import MemoryKind

__all__ = ["memory_kind", "memory_mib", "side_cache_mib"]

MAX_BYTES = 1 << 60
KINDS = {
    "DRAM": MemoryKind.DRAM,
    "HBM": MemoryKind.HBM,
    "MCDRAM": MemoryKind.HBM,
    "NVM": MemoryKind.PERSISTENT,
    "CXL-NVM": MemoryKind.PERSISTENT,
    "SPM": MemoryKind.OTHER,
    "GPUMemory": MemoryKind.OTHER,
}


def memory_mib(document: Document, one: Object) -> int:
    """An object's own memory; less than a MiB is not none."""
    size = document.number(one, "local_memory") or 0
    if not 0 <= size <= MAX_BYTES:
        raise document.bad(one, f"{size} bytes of memory cannot be")
    return max(size >> 20, 1) if size else 0


def memory_kind(node: Object) -> MemoryKind | None:
    """What the node's memory is, None where hwloc does not say."""
    name = node.attributes.get("subtype") or node.infos.get("Type", "")
    if name in KINDS:
        return KINDS[name]
    if name.startswith("CXL"):
        return MemoryKind.CXL
    if node.infos.get("DAXType") == "NVM" or "ndbus" in node.infos.get("DAXParent", ""):
        return MemoryKind.PERSISTENT
    if "CXLDevice" in node.infos:
        return MemoryKind.CXL
    return MemoryKind.OTHER if "DAXType" in node.infos else None


def side_cache_mib(document: Document, node: Object) -> int:
    """The largest memory-side cache before the node, 0 if there is none."""
    sizes = [0]
    for above in node.ancestors():
        if above.type != "MemCache":
            break
        sizes.append(document.number(above, "cache_size") or 0)
    if not 0 <= min(sizes) <= max(sizes) <= MAX_BYTES:
        raise document.bad(node, "a memory-side cache of that size cannot be")
    return max(sizes) >> 20
