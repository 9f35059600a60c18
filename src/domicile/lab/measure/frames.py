"""Which machine frames a domain owns, read out of Xen's own frame table in the emulated machine's memory.

Xen 4.17 has no call any more that tells them (XEN_DOMCTL_getmemlist is gone), so they are looked up where Xen keeps
them. Sources, Xen 4.17: xen/arch/x86/include/asm/config.h (FRAMETABLE_VIRT_START), asm/mm.h (`struct page_info` of
32 bytes without CONFIG_BIGMEM: at 8 `count_info`, its highest bits PGC_allocated and PGC_xen_heap, at 24 the owner
as the page number of its `struct domain`), xen/include/xen/sched.h (`struct domain` begins with its id). Page numbers
are machine frames here: no machine of the lab has a hole in its memory that Xen would squeeze out of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from domicile.errors import HostFailed

__all__ = ["Frames", "MachineMemory", "owned_frames"]

Frames = NDArray[np.int64]

FRAME_TABLE = 0xFFFF_82E0_0000_0000
LARGE_PAGE = 1 << 21
PAGE_INFO = np.dtype({"names": ["count_info", "owner"], "formats": ["<u8", "<u4"], "offsets": [8, 24], "itemsize": 32})
ALLOCATED = np.uint64(1 << 63)
XEN_HEAP = np.uint64(1 << 62)
LOWEST_OWNER = 0x100
"""No `struct domain` is in the first MiB; small numbers there are the orders of free pages."""


class MachineMemory(Protocol):
    """The emulated machine's memory, as seen from outside."""

    def read_memory(self, address: int, size: int) -> bytes:
        """So many bytes from a physical address on."""
        ...

    def physical_address(self, cpu: int, virtual: int) -> int | None:
        """Where a virtual address of a CPU leads; None if nowhere."""
        ...


def owned_frames(machine: MachineMemory, domains: Sequence[int], *, cpus: int, end: int) -> dict[int, Frames]:
    """Domain id to the machine frames that it owns now, ascending; Xen's heap pages that it shares are not among them.

    `cpus` is how many the machine has, `end` the first physical address behind its memory. The answer is true when it
    is given: a domain that is started, ballooned or moved afterwards owns other frames. Raises `HostFailed` where
    Xen's frame table is not found, or has nothing of a domain.
    """
    table = _frame_table(machine, cpus, end >> 12)
    info = table["count_info"]
    owned = (info & ALLOCATED != 0) & (info & XEN_HEAP == 0) & (table["owner"] >= LOWEST_OWNER)
    frames, owners = np.flatnonzero(owned), table["owner"][owned]
    wanted = set(domains)
    found: dict[int, Frames] = {}
    for owner in np.unique(owners):
        domain = int.from_bytes(machine.read_memory(int(owner) << 12, 2), "little") if owner << 12 < end else -1
        mine = frames[owners == owner]
        # what is no domain may look like one; it has few pages
        if domain in wanted and len(mine) > len(found.get(domain, ())):
            found[domain] = mine.astype(np.int64)
    missing = sorted(wanted - set(found))
    if missing:
        raise HostFailed(
            f"Xen's frame table has no frame of domain {missing[0]}: it ended, or this Xen is laid out anew"
        )
    return found


def _frame_table(machine: MachineMemory, cpus: int, frames: int) -> NDArray[np.void]:
    """One entry for each frame; zeros where Xen has none."""
    size = frames * PAGE_INFO.itemsize
    chunks = []
    mapped = 0
    for offset in range(0, size, LARGE_PAGE):
        place = _resolved(machine, cpus, FRAME_TABLE + offset)
        length = min(LARGE_PAGE, size - offset)
        mapped += place is not None
        chunks.append(bytes(length) if place is None else machine.read_memory(place, length))
    if not mapped:
        raise HostFailed("Xen's frame table is not where Xen 4.17 has it")
    return np.frombuffer(b"".join(chunks), dtype=PAGE_INFO)


def _resolved(machine: MachineMemory, cpus: int, virtual: int) -> int | None:
    """By the page tables of the first CPU that has it: one that runs an HVM or PVH guest has that guest's."""
    places = (machine.physical_address(cpu, virtual) for cpu in range(cpus))
    return next((place for place in places if place is not None), None)
