"""Where QEMU puts each node's memory (QEMU 7.2, `hw/i386/pc_q35.c`: how memory is split below and above 4 GiB)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["MIB", "MemoryRange", "memory_ranges"]

MIB = 1 << 20
FOUR_GIB = 1 << 32
SPLIT_FROM = 0xB0000000
"""From this much memory on, q35 keeps 2 GiB of it below 4 GiB; smaller machines have all of it there."""
LOW_MEMORY = 0x80000000


@dataclass(frozen=True, slots=True)
class MemoryRange:
    """A stretch of a node's memory: physical address and size in bytes.

    `backend_offset` is where in the node's own memory backend (RAM block `mem<node>`) it begins.
    """

    node: int
    start: int
    size: int
    backend_offset: int


def memory_ranges(memory_mib: Sequence[int]) -> tuple[MemoryRange, ...]:
    """The ranges for nodes with this much memory: one after another, what is past the split going on at 4 GiB."""
    total = sum(memory_mib) * MIB
    below = LOW_MEMORY if total >= SPLIT_FROM else total
    ranges = []
    offset = 0
    for node, mib in enumerate(memory_mib):
        end = offset + mib * MIB
        if offset < below:
            ranges.append(MemoryRange(node, offset, min(end, below) - offset, 0))
        if end > below:
            start = max(offset, below)
            ranges.append(MemoryRange(node, start - below + FOUR_GIB, end - start, start - offset))
        offset = end
    return tuple(ranges)
