"""What the memories of a Linux `/sys` are, how fast, and what caches are before them.

Sources (Linux 5.1 to 6.12): Documentation/admin-guide/mm/numaperf.rst (`nodeN/accessM/initiators`,
`nodeN/memory_side_cache`), Documentation/ABI/testing/sysfs-bus-dax (`bus/dax`), sysfs-bus-cxl (`bus/cxl`) and
sysfs-kernel-mm-memory-tiers (`devices/virtual/memory_tiering`), the NVIDIA driver's `driver/nvidia/gpus/*/numa_status`.
Generic initiators may be the fastest of `access0`; `access1`, from 5.10, has CPUs alone, so it is asked first.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from domicile.topology.bitmaps import ids_of, parse_kernel_list
from domicile.topology.check import MAX_NODE_ID
from domicile.topology.measured import Figures, gbs_of_mib_per_s, mean_figure, much_faster
from domicile.topology.model import MemoryKind
from domicile.topology.sysfs_files import Attributes, MachineFiles, first_processor
from domicile.topology.sysfs_nodes import NODES

__all__ = ["Performance", "memory_kinds", "read_performance", "side_cache_mib"]

DAX = "bus/dax"
TIERS = "devices/virtual/memory_tiering"
GPUS = "driver/nvidia/gpus"
INITIATOR = re.compile(r"node(\d{1,5})", re.ASCII)
TIER = re.compile(r"memory_tier(\d{1,6})", re.ASCII)
CXL_MEMORY = re.compile(r"mem\d+", re.ASCII)
GPU_NODE = re.compile(r"Node:\s*(\d{1,5})", re.ASCII)
KNIGHTS_LANDING_MODELS = ("87", "133")


@dataclass(frozen=True, slots=True)
class Performance:
    """Figures from the firmware's HMAT."""

    latency_ns: Figures
    bandwidth_gbs: Figures


class _Evidence(Enum):
    """What speaks for a node's memory not being ordinary."""

    PERSISTENT = auto()
    CXL = auto()
    SPECIFIC_PURPOSE = auto()
    GPU = auto()


def read_performance(sys: Attributes, nodes: Sequence[int], with_cpus: Collection[int]) -> Performance:
    """Latency and bandwidth from the nodes whose CPUs are nearest to each node's memory, where the firmware told."""
    latency: dict[tuple[int, int], float] = {}
    bandwidth: dict[tuple[int, int], float] = {}
    for node in nodes:
        for access in ("access1", "access0"):
            folder = f"{NODES}/node{node}/{access}/initiators"
            initiators = _initiators(sys, folder, node, with_cpus)
            delay = _figure(sys, folder, "latency")
            rate = _figure(sys, folder, "bandwidth")
            if not initiators or (delay is None and rate is None):
                continue
            for initiator in initiators:
                if delay is not None:
                    latency[initiator, node] = delay
                if rate is not None:
                    bandwidth[initiator, node] = gbs_of_mib_per_s(rate)
            break
    return Performance(latency, bandwidth)


def side_cache_mib(sys: Attributes, node: int) -> int:
    """The largest memory-side cache before this node's memory, 0 if there is none."""
    folder = f"{NODES}/node{node}/memory_side_cache"
    sizes = [sys.integer(f"{folder}/{name}/size") for name in sys.tree.names(folder) if name.startswith("index")]
    return max([0, *((size or 0) >> 20 for size in sizes)])


def memory_kinds(
    files: MachineFiles, nodes: Sequence[int], with_cpus: Collection[int], bandwidth_gbs: Figures
) -> dict[int, MemoryKind]:
    """What each node's memory is: DRAM unless something speaks for another kind."""
    evidence = _dax_evidence(files.sys)
    if files.proc:
        evidence |= dict.fromkeys(_gpu_nodes(files.proc), _Evidence.GPU)
    unexplained = [node for node in nodes if node not in evidence]
    ordinary = [node for node in unexplained if node in with_cpus]
    apart = [node for node in unexplained if node not in with_cpus]
    special = [node for node in nodes if evidence.get(node) is _Evidence.SPECIFIC_PURPOSE]
    fast = much_faster(bandwidth_gbs, [*special, *apart], ordinary)
    if files.proc and _is_knights_landing(files.proc):
        # its CPUs have DRAM on their own nodes; the memory on the package is on nodes without CPUs
        fast |= set(apart)
    faster, slower = _tiers_beside(files.sys, ordinary)
    far = MemoryKind.CXL if _has_cxl_memory(files.sys) else MemoryKind.OTHER
    kinds = dict.fromkeys(nodes, MemoryKind.DRAM)
    for node in nodes:
        if node in fast or (node in apart and node in faster):
            kinds[node] = MemoryKind.HBM
        elif node in evidence:
            kinds[node] = _kind_of(evidence[node])
        elif node in apart and node in slower:
            kinds[node] = far
    return kinds


def _kind_of(evidence: _Evidence) -> MemoryKind:
    if evidence is _Evidence.PERSISTENT:
        return MemoryKind.PERSISTENT
    return MemoryKind.CXL if evidence is _Evidence.CXL else MemoryKind.OTHER


def _initiators(sys: Attributes, folder: str, node: int, with_cpus: Collection[int]) -> list[int]:
    """The nodes with CPUs that the figures in this folder are for."""
    named = [int(match[1]) for match in map(INITIATOR.fullmatch, sys.tree.names(folder)) if match]
    # some kernels and some saved trees have the figures without the links
    return [initiator for initiator in named or [node] if initiator in with_cpus]


def _figure(sys: Attributes, folder: str, what: str) -> float | None:
    return mean_figure(sys.integer(f"{folder}/read_{what}"), sys.integer(f"{folder}/write_{what}"))


def _dax_evidence(sys: Attributes) -> dict[int, _Evidence]:
    """Nodes whose memory came online through a DAX device, by where the device is among the machine's devices."""
    evidence: dict[int, _Evidence] = {}
    for device in sys.tree.names(f"{DAX}/devices"):
        if sys.tree.resolve(f"{DAX}/drivers/kmem/{device}") is None:
            continue
        node = sys.integer(f"{DAX}/devices/{device}/target_node")
        where = sys.tree.resolve(f"{DAX}/devices/{device}") or ""
        if node is None or node < 0:
            continue
        if "/ndbus" in where:
            evidence[node] = _Evidence.PERSISTENT
        elif "/ACPI0017:" in where or "/dax_region" in where:
            evidence[node] = _Evidence.CXL
        else:
            evidence[node] = _Evidence.SPECIFIC_PURPOSE
    return evidence


def _gpu_nodes(proc: Attributes) -> list[int]:
    """Nodes that are a GPU's memory."""
    found = []
    for gpu in proc.tree.names(GPUS):
        match = GPU_NODE.search(proc.text(f"{GPUS}/{gpu}/numa_status") or "")
        if match:
            found.append(int(match[1]))
    return found


def _is_knights_landing(proc: Attributes) -> bool:
    processor = first_processor(proc)
    return (
        processor.get("vendor_id") == "GenuineIntel"
        and processor.get("cpu family") == "6"
        and processor.get("model", "") in KNIGHTS_LANDING_MODELS
    )


def _tiers_beside(sys: Attributes, ordinary: Collection[int]) -> tuple[set[int], set[int]]:
    """Nodes in faster and in slower tiers than the ordinary ones; a tier's number grows with its distance."""
    tier_of: dict[int, int] = {}
    for name in sys.tree.names(TIERS):
        match = TIER.fullmatch(name)
        path = f"{TIERS}/{name}/nodelist"
        try:
            members = parse_kernel_list(sys.text(path) or "", MAX_NODE_ID) if match else 0
        except ValueError as error:
            raise sys.tree.bad(path, str(error)) from None
        if match:
            tier_of |= dict.fromkeys(ids_of(members), int(match[1]))
    known = [tier_of[node] for node in ordinary if node in tier_of]
    if not known:
        return set(), set()
    faster = {node for node, tier in tier_of.items() if tier < min(known)}
    return faster, {node for node, tier in tier_of.items() if tier > max(known)}


def _has_cxl_memory(sys: Attributes) -> bool:
    return any(CXL_MEMORY.fullmatch(name) for name in sys.tree.names("bus/cxl/devices"))
