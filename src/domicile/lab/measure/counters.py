"""The file that the plug-in (access_counter.c) and domicile share, and what its counters say.

The file: a page of header (12 little-endian 64-bit words: magic, layout, CPUs, slots, pages, offset of the map, offset
of the counters, bytes per CPU, first and last code address counted apart, how many accesses one that is looked at
stands for, the process that is attached), a map of one 16-bit slot number for each page that the plug-in can be told,
then for each CPU its counters.

A slot is a node and an owner of memory: `node index * owners + owner`. An access is counted by CPU, by code (Xen's own
or other), by slot, and as a load or a store; the three slots behind the map's hold what went to memory outside the map,
to devices, and to where QEMU could not tell.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from domicile.lab.measure.memory import MemoryLayout

__all__ = ["EVERY", "LOAD", "NOBODY", "OTHER_CODE", "STORE", "XEN_CODE", "XEN_TEXT", "CounterFile", "Counters"]

MAGIC = int.from_bytes(b"domicile", "little")
LAYOUT = 1
HEADER_WORDS = 12
ATTACHED = 11
PAGE = 4096
EXTRA_SLOTS = 3
ELSEWHERE, DEVICE, UNKNOWN = range(EXTRA_SLOTS)
OTHER_CODE, XEN_CODE = 0, 1
LOAD, STORE = 0, 1
NOBODY = 0
"""The owner of what belongs to no listed domain: Xen's own memory, free memory."""

XEN_TEXT = range(0xFFFF82D040000000, 0xFFFF82D080000000)
"""Virtual addresses of Xen's own code: the GiB at XEN_VIRT_START (xen/arch/x86/include/asm/config.h, 4.13 to 4.18).

No guest's code can be there: PV guests may not map it, and Linux leaves these addresses to a hypervisor in PVH and HVM
guests too (Documentation/x86/x86_64/mm.rst).
"""

EVERY = 16
"""Accesses for each that is looked at: a second of one busy CPU leaves some million, a share to 0.1 %."""

Counts = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class Counters:
    """Accesses counted, since the machine began or, as the difference of two, in a window.

    `memory` is [CPU, code, node index, owner, load or store]; `other` is [CPU, code, elsewhere or device or unknown,
    load or store].
    """

    memory: Counts
    other: Counts

    def __sub__(self, earlier: Counters) -> Counters:
        """What was counted since `earlier`."""
        return Counters(self.memory - earlier.memory, self.other - earlier.other)

    def __add__(self, window: Counters) -> Counters:
        """Two windows together."""
        return Counters(self.memory + window.memory, self.other + window.other)

    @property
    def total(self) -> int:
        """All accesses to memory."""
        return int(self.memory.sum())

    @property
    def unplaced(self) -> int:
        """Accesses to memory that no node was found for; a sign of a wrong map when they are many."""
        return int(self.other[:, :, (ELSEWHERE, UNKNOWN), :].sum())

    def by_node(self, code: int, owners: Sequence[int] | None = None) -> Counts:
        """Accesses by [CPU, node index] of code of this kind to memory of these owners (None: of anybody's)."""
        chosen = self.memory[:, code]
        if owners is not None:
            chosen = chosen[:, :, list(owners), :]
        by_node: Counts = chosen.sum(axis=(2, 3), dtype=np.uint64)
        return by_node

    def loads_and_stores(self, code: int) -> tuple[int, int]:
        """Loads and stores by code of this kind."""
        by_kind = self.memory[:, code].sum(axis=(0, 1, 2), dtype=np.uint64)
        return int(by_kind[LOAD]), int(by_kind[STORE])

    def remote_share(
        self, node_of_cpu: Sequence[int], code: int = OTHER_CODE, owners: Sequence[int] | None = None
    ) -> float | None:
        """The share (0 to 1) of these accesses that went to another node than their CPU's; None if there were none.

        `node_of_cpu[i]` is the index of CPU i's node.
        """
        accesses = self.by_node(code, owners)
        total = int(accesses.sum())
        if not total:
            return None
        local = sum(int(accesses[cpu, node]) for cpu, node in enumerate(node_of_cpu))
        return (total - local) / total


class CounterFile:
    """The shared file, made for a machine that is about to start. Use it as a context manager."""

    def __init__(
        self,
        path: Path,
        cpus: int,
        layout: MemoryLayout,
        owners: int = 1,
        *,
        code_apart: range = XEN_TEXT,
        every: int = EVERY,
    ) -> None:
        """Make the file: `cpus` CPUs, memory on the nodes of `layout`, `owners` owners (the first is nobody).

        Instructions at the virtual addresses `code_apart` are counted as Xen's. One access of `every` is looked at, at
        random, and stands for all of them; with 1 the counts are exact, and the machine some 6 times slower. Raises
        ValueError for more nodes and owners than the map can tell apart, OSError if the file cannot be made.
        """
        nodes = len(layout.node_mib)
        self.path = path
        self.layout = layout
        self.owners = owners
        self.every = every
        self._shape = (cpus, nodes)
        self._slots = nodes * owners
        if not 0 < self._slots + EXTRA_SLOTS <= np.iinfo(np.uint16).max:
            raise ValueError(f"{nodes} nodes of {owners} owners are more than the map can tell apart")
        map_bytes = layout.plugin_pages * 2
        counters_at = PAGE + _round_up(map_bytes)
        # whole pages for each CPU, so that no two share a cache line
        stride = _round_up(2 * (self._slots + EXTRA_SLOTS) * 2 * 8)
        size = counters_at + cpus * stride
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.truncate(descriptor, size)
            self._memory = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        self._header = np.frombuffer(self._memory, dtype="<u8", count=HEADER_WORDS)
        self._map = np.frombuffer(self._memory, dtype="<u2", count=layout.plugin_pages, offset=PAGE)
        self._counters = np.frombuffer(self._memory, dtype="<u8", offset=counters_at).reshape(cpus, stride // 8)
        self._header[:] = (
            *(MAGIC, LAYOUT, cpus, self._slots, layout.plugin_pages, PAGE, counters_at, stride),
            *(code_apart.start, code_apart.stop - 1 if code_apart else 0, every, 0),
        )
        self.set_owners({})

    @property
    def attached(self) -> bool:
        """Whether the plug-in has taken the file: it was loaded, and agrees about the layout."""
        return bool(self._header[ATTACHED])

    def set_owners(self, frames_of_owner: Mapping[int, NDArray[np.int64]]) -> None:
        """Say whose each page is, by machine frame number; what nobody has is nobody's.

        Can be called while the machine runs: from then on accesses are counted so. Raises ValueError for a frame
        that is no memory of the machine, or an owner out of range.
        """
        fresh = np.full(self.layout.plugin_pages, self._slots, dtype=np.uint16)
        for node in range(self._shape[1]):
            pages = self.layout.plugin_range(node)
            fresh[pages.start : pages.stop] = node * self.owners + NOBODY
        for owner, frames in frames_of_owner.items():
            if not 0 < owner < self.owners:
                raise ValueError(f"owner {owner} of {self.owners}")
            pages_of_owner = self.layout.plugin_page_of_frame(frames)
            fresh[pages_of_owner] += np.uint16(owner)
        self._map[:] = fresh

    def read(self) -> Counters:
        """All that has been counted so far."""
        cpus, nodes = self._shape
        counted = self._counters[:, : 2 * (self._slots + EXTRA_SLOTS) * 2].reshape(cpus, 2, -1, 2).copy()
        return Counters(
            memory=counted[:, :, : self._slots, :].reshape(cpus, 2, nodes, self.owners, 2),
            other=counted[:, :, self._slots :, :],
        )

    def close(self) -> None:
        """Let go of the file and remove it; the plug-in keeps its own view for as long as the machine runs."""
        # NumPy's views keep the mapping open until the last of them is gone
        del self._header, self._map, self._counters
        self._memory.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _round_up(size: int) -> int:
    return -(-size // PAGE) * PAGE
