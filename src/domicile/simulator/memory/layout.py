"""Which machine addresses belong to which node, in pages.

A heap needs addresses for three reasons: buddies merge only within a node, Xen hands out high memory before low, and
devices with 32-bit DMA reach only what lies below 4 GiB. A topology does not tell addresses, so they are assumed as
firmware lays them out: node after node in ascending order, with a hole below 4 GiB for devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from domicile.state.model import PAGES_PER_MIB
from domicile.topology.model import Topology

__all__ = ["HOLE_END", "HOLE_START", "Range", "dma_bits", "lay_out", "ranges_of"]

HOLE_START = 2 * 1024 * PAGES_PER_MIB
HOLE_END = 4 * 1024 * PAGES_PER_MIB
"""Pages 2 GiB to 4 GiB are the devices': so does QEMU's q35 with more than 2 GiB, and most servers' firmware."""

PAGE_SHIFT = 12


@dataclass(frozen=True, slots=True)
class Range:
    """Consecutive pages of one node. `node` is an index, `start` a page number."""

    node: int
    start: int
    pages: int

    @property
    def end(self) -> int:
        """The first page behind it."""
        return self.start + self.pages


def ranges_of(topology: Topology, hole: tuple[int, int] = (HOLE_START, HOLE_END)) -> tuple[Range, ...]:
    """The ranges of a topology's nodes; nodes without memory have none."""
    return lay_out([node.memory_mib * PAGES_PER_MIB for node in topology.nodes], hole)


def lay_out(pages_by_node: Sequence[int], hole: tuple[int, int] = (HOLE_START, HOLE_END)) -> tuple[Range, ...]:
    """Node after node from page 0 on, around the hole; a node across the hole has two ranges."""
    ranges = []
    start = 0
    for node, pages in enumerate(pages_by_node):
        left = pages
        while left > 0:
            if hole[0] <= start < hole[1]:
                start = hole[1]
            room = hole[0] - start if start < hole[0] else left
            taken = min(left, room)
            ranges.append(Range(node, start, taken))
            start += taken
            left -= taken
    return tuple(ranges)


def dma_bits(ranges: Sequence[Range]) -> int:
    """Width of the addresses that Xen keeps for DMA, 0 for none.

    Source: xen/arch/x86/numa.c `arch_get_dma_bitsize` and `arch_want_default_dmazone`, Xen 4.17: only with more than
    one node; a quarter of the first node that starts below 4 GiB, rounded up to a power of two, 32 bits at most.
    """
    if len({each.node for each in ranges}) < 2:
        return 0
    low = [each for each in ranges if each.start < HOLE_END]
    if not low:
        return 0
    first = min(low, key=lambda each: each.node).node
    start = min(each.start for each in ranges if each.node == first)
    spanned = max(each.end for each in ranges if each.node == first) - start
    return min((start + spanned // 4 - 1).bit_length() + PAGE_SHIFT, 32)
