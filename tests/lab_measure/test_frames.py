"""Frames are found in a table laid out as Xen 4.17 does; tests/lab compares them with the real Xen's own count."""

from __future__ import annotations

import numpy as np
import pytest

from domicile.errors import HostFailed
from domicile.lab.measure.frames import ALLOCATED, FRAME_TABLE, LARGE_PAGE, PAGE_INFO, XEN_HEAP, owned_frames

END = 96 << 20
FRAMES = END >> 12
TABLE_AT = 32 << 20
"""Where the table is in memory, in one piece."""


class Memory:
    """A machine whose CPU 1 alone has Xen's page tables."""

    def __init__(self) -> None:
        self.bytes = bytearray(END)
        self.table = np.zeros(FRAMES, PAGE_INFO)

    def domain(self, owner: int, domid: int, frames: range, flags: np.uint64 = ALLOCATED) -> None:
        self.bytes[owner << 12 : (owner << 12) + 2] = domid.to_bytes(2, "little")
        self.table["owner"][frames] = owner
        self.table["count_info"][frames] = flags | np.uint64(1)

    def read_memory(self, address: int, size: int) -> bytes:
        table = self.table.tobytes()
        self.bytes[TABLE_AT : TABLE_AT + len(table)] = table
        return bytes(self.bytes[address : address + size])

    def physical_address(self, cpu: int, virtual: int) -> int | None:
        offset = virtual - FRAME_TABLE
        return TABLE_AT + offset if cpu == 1 and 0 <= offset < LARGE_PAGE else None


def test_each_domain_has_its_frames() -> None:
    memory = Memory()
    memory.domain(0x300, 0, range(0x1000, 0x1100))
    memory.domain(0x301, 7, range(0x2000, 0x2004))
    memory.domain(0x301, 7, range(0x2100, 0x2102))
    memory.domain(0x301, 7, range(0x2200, 0x2300), ALLOCATED | XEN_HEAP)
    memory.domain(0x302, 8, range(0x2400, 0x2500), np.uint64(0))
    # the order of a free page, and a page whose number happens to look like an owner
    memory.table["owner"][0x2600:0x2700] = 9
    memory.domain(0x303, 7, range(0x2800, 0x2801))
    found = owned_frames(memory, [0, 7], cpus=2, end=END)
    assert found[0].tolist() == list(range(0x1000, 0x1100))
    assert found[7].tolist() == [*range(0x2000, 0x2004), *range(0x2100, 0x2102)]


def test_a_domain_that_is_not_there_is_told() -> None:
    memory = Memory()
    memory.domain(0x300, 0, range(0x1000, 0x1100))
    with pytest.raises(HostFailed, match="no frame of domain 3"):
        owned_frames(memory, [0, 3], cpus=2, end=END)


def test_another_hypervisor_is_told() -> None:
    with pytest.raises(HostFailed, match=r"not where Xen 4\.17 has it"):
        owned_frames(Memory(), [0], cpus=1, end=END)
